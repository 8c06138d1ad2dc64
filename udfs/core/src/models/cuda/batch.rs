//! Batches as a device wants them: the host's shards side by side, with the rows of a sequence in one chunk. Pictures and
//! texts are left out: no network on a device reads them.

use crate::models::Batch;

/// `parts` as one batch; sequences are padded to the longest row of all.
pub(super) fn join(parts: Vec<Batch>) -> Batch {
    let seq_len = parts.iter().map(|part| part.seq_len).max().unwrap_or(0);
    let mut all = Batch { seq_len, one_chunk: true, ..Batch::default() };
    for part in parts {
        all.rows += part.rows;
        all.numeric.extend(part.numeric);
        all.categorical.extend(part.categorical);
        let padded = |values: usize| values.checked_div(part.rows * part.seq_len).unwrap_or(0);
        let (fields, numeric) = (padded(part.tokens.len()), padded(part.step_numeric.len()));
        pad(&part.tokens, part.seq_len * fields, (seq_len - part.seq_len) * fields, &mut all.tokens);
        pad(&part.step_numeric, part.seq_len * numeric, (seq_len - part.seq_len) * numeric, &mut all.step_numeric);
        all.lengths.extend(part.lengths);
    }
    all
}

/// Appends rows of `width` values with `padding` defaults behind each.
fn pad<V: Copy + Default>(values: &[V], width: usize, padding: usize, to: &mut Vec<V>) {
    for row in values.chunks_exact(width.max(1)) {
        to.extend_from_slice(row);
        to.extend(std::iter::repeat_n(V::default(), padding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::inputs::{InputShape, Inputs, SequenceShape, Sequences};

    #[test]
    fn joined_shards_are_the_batch() {
        let sequence = SequenceShape { fields: vec![9, 9], numeric: 1, max_len: 4 };
        let shape = InputShape { numeric: 1, categorical: vec![5], sequence: Some(sequence), ..InputShape::default() };
        let inputs = Inputs {
            rows: 4,
            numeric: vec![0.1, 0.2, 0.3, 0.4],
            categorical: vec![1, 2, 3, 4],
            sequence: Some(Sequences {
                tokens: vec![1, 2, 3, 4, 5, 6],
                numeric: vec![0.5, 0.6, 0.7],
                spans: vec![(1, 2), (0, 0), (0, 3), (1, 1)],
            }),
            ..Inputs::default()
        };
        let gather = |rows: &[u32]| {
            let mut batch = Batch::default();
            Batch::gather(&inputs, &shape, rows, &mut batch);
            batch
        };
        for cut in 0..=4 {
            let (left, right) = ([0, 1, 2, 3]).split_at(cut);
            let mut whole = gather(&[0, 1, 2, 3]);
            whole.one_chunk = true;
            // A part whose rows are all empty has no steps to tell the width from, and needs none.
            let joined = join(vec![gather(left), gather(right)]);
            let steps = |batch: &Batch| batch.lengths.clone();
            assert_eq!((steps(&joined), &joined.numeric), (steps(&whole), &whole.numeric));
            assert_eq!(format!("{joined:?}"), format!("{whole:?}"), "cut at {cut}");
        }
    }
}
