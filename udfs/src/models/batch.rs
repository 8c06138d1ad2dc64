//! Some encoded rows, gathered side by side for one pass through a network.

use std::ops::Range;

use crate::features::inputs::{InputShape, Inputs};

/// The rows of one forward pass. Buffers keep their capacity when the batch is gathered anew.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// `[rows, shape.numeric]`, row-major.
    pub numeric: Vec<f32>,
    /// `[rows, shape.categorical.len()]`, row-major ids.
    pub categorical: Vec<u32>,
    /// Steps of the longest row.
    pub seq_len: usize,
    /// `[rows, seq_len, fields]`, row-major ids, right-padded with 0.
    pub tokens: Vec<u32>,
    /// `[rows, seq_len, sequence.numeric]`, row-major, right-padded with 0.
    pub step_numeric: Vec<f32>,
    /// Steps of each row; empty when the shape has no sequence.
    pub lengths: Vec<u32>,
}

impl Batch {
    /// Gathers `rows` of `inputs` into `out`; `seq_len` becomes the longest of these rows.
    pub fn gather(inputs: &Inputs, shape: &InputShape, rows: &[u32], out: &mut Self) {
        out.rows = rows.len();
        out.numeric.clear();
        out.categorical.clear();
        out.tokens.clear();
        out.step_numeric.clear();
        out.lengths.clear();
        out.seq_len = 0;
        let (numeric, categorical) = (shape.numeric, shape.categorical.len());
        for &row in rows {
            let row = row as usize;
            out.numeric.extend_from_slice(&inputs.numeric[row * numeric..(row + 1) * numeric]);
            out.categorical.extend_from_slice(&inputs.categorical[row * categorical..(row + 1) * categorical]);
        }
        let (Some(sequence), Some(steps)) = (&shape.sequence, &inputs.sequence) else { return };
        let (fields, step_numeric) = (sequence.fields.len(), sequence.numeric);
        out.lengths.extend(rows.iter().map(|&row| steps.spans[row as usize].1));
        out.seq_len = out.lengths.iter().max().map_or(0, |&longest| longest as usize);
        out.tokens.resize(rows.len() * out.seq_len * fields, 0);
        out.step_numeric.resize(rows.len() * out.seq_len * step_numeric, 0.0);
        for (at, &row) in rows.iter().enumerate() {
            let (start, len) = steps.spans[row as usize];
            let (start, len) = (start as usize, len as usize);
            let to = at * out.seq_len;
            out.tokens[to * fields..(to + len) * fields].copy_from_slice(&steps.tokens[start * fields..(start + len) * fields]);
            out.step_numeric[to * step_numeric..(to + len) * step_numeric]
                .copy_from_slice(&steps.numeric[start * step_numeric..(start + len) * step_numeric]);
        }
    }

    /// Rows `rows` of a batch of this shape; steps behind the longest of them are cut off.
    pub fn part(&self, shape: &InputShape, rows: Range<usize>) -> Self {
        let columns = |width: usize| rows.start * width..rows.end * width;
        let mut part = Self {
            rows: rows.len(),
            numeric: self.numeric[columns(shape.numeric)].to_vec(),
            categorical: self.categorical[columns(shape.categorical.len())].to_vec(),
            ..Self::default()
        };
        let Some(sequence) = &shape.sequence else { return part };
        part.lengths = self.lengths[rows.clone()].to_vec();
        part.seq_len = part.lengths.iter().max().map_or(0, |&longest| longest as usize);
        let (fields, numeric) = (sequence.fields.len(), sequence.numeric);
        for row in rows {
            let from = row * self.seq_len;
            part.tokens.extend_from_slice(&self.tokens[from * fields..(from + part.seq_len) * fields]);
            part.step_numeric.extend_from_slice(&self.step_numeric[from * numeric..(from + part.seq_len) * numeric]);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::inputs::{SequenceShape, Sequences};

    #[test]
    fn gather_pads_to_the_longest_row() {
        let shape =
            InputShape { numeric: 1, categorical: vec![5], sequence: Some(SequenceShape { fields: vec![9, 9], numeric: 1, max_len: 4 }) };
        let inputs = Inputs {
            rows: 3,
            numeric: vec![0.1, 0.2, 0.3],
            categorical: vec![1, 2, 3],
            sequence: Some(Sequences { tokens: vec![1, 2, 3, 4, 5, 6], numeric: vec![0.5, 0.6, 0.7], spans: vec![(0, 3), (1, 1), (0, 0)] }),
        };
        let mut batch = Batch::default();
        Batch::gather(&inputs, &shape, &[2, 1], &mut batch);
        assert_eq!((batch.rows, batch.seq_len), (2, 1));
        assert_eq!(batch.numeric, [0.3, 0.2]);
        assert_eq!(batch.categorical, [3, 2]);
        assert_eq!(batch.lengths, [0, 1]);
        assert_eq!(batch.tokens, [0, 0, 3, 4]);
        assert_eq!(batch.step_numeric, [0.0, 0.6]);
        Batch::gather(&inputs, &shape, &[0, 2, 1], &mut batch);
        let part = batch.part(&shape, 1..3);
        let mut expected = Batch::default();
        Batch::gather(&inputs, &shape, &[2, 1], &mut expected);
        assert_eq!(format!("{part:?}"), format!("{expected:?}"));
    }
}
