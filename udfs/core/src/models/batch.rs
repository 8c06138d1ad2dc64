//! Some encoded rows, gathered side by side for one pass through a network.

use std::ops::Range;

use super::ops::Philox;
use crate::error::{Code, Error, Result};
use crate::features::inputs::{ImageShape, InputShape, Inputs, NO_PICTURE, Texts};

/// Pixels that a picture is shifted by at most.
const SHIFT_MAX: u32 = 2;

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
    /// `[pictured.len(), height, width, channels]`, row-major; empty when the shape has no picture.
    pub images: Vec<u8>,
    /// The rows that have a picture, ascending; empty when the shape has none.
    pub pictured: Vec<u32>,
    /// The words of each text column.
    pub texts: Vec<Words>,
    /// Whether networks take all sequences as one chunk, as a device wants them.
    pub one_chunk: bool,
}

/// The words of the rows of a batch, row after row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Ids.
    pub ids: Vec<u32>,
    /// Where each row's words end.
    pub ends: Vec<u32>,
}

impl Words {
    fn gather(&mut self, texts: &Texts, rows: &[u32]) {
        self.ids.clear();
        self.ends.clear();
        for row in rows {
            self.ids.extend_from_slice(texts.row(*row as usize));
            self.ends.push(self.ids.len() as u32);
        }
    }

    fn part(&self, rows: Range<usize>) -> Self {
        let start = if rows.start == 0 { 0 } else { self.ends[rows.start - 1] };
        let end = if rows.is_empty() { start } else { self.ends[rows.end - 1] };
        Self { ids: self.ids[start as usize..end as usize].to_vec(), ends: self.ends[rows].iter().map(|end| end - start).collect() }
    }
}

impl Batch {
    /// Empties it for so many rows.
    fn begin(&mut self, rows: usize) {
        self.rows = rows;
        self.numeric.clear();
        self.categorical.clear();
        self.tokens.clear();
        self.step_numeric.clear();
        self.lengths.clear();
        self.images.clear();
        self.pictured.clear();
        self.seq_len = 0;
    }

    /// Gathers `rows` of `inputs`, which are in memory or in files, into `out`.
    ///
    /// # Errors
    /// `Io` of rows in files; `FeatureNotSupported` for texts, which are never there.
    pub fn read(inputs: &Inputs, shape: &InputShape, rows: &[u32], out: &mut Self) -> Result<()> {
        let Some(spilled) = &inputs.spilled else {
            Self::gather(inputs, shape, rows, out);
            return Ok(());
        };
        if !shape.texts.is_empty() {
            return Err(Error::new(Code::FeatureNotSupported, "texts are not read from temporary files"));
        }
        out.begin(rows.len());
        out.texts.clear();
        spilled.read_rows(rows, shape, &mut out.numeric, &mut out.categorical, &mut out.images)?;
        if shape.image.is_some() {
            out.pictured.extend(0..rows.len() as u32);
        }
        let (Some(sequence), Some(steps)) = (&shape.sequence, &inputs.sequence) else { return Ok(()) };
        let spans: Vec<(u32, u32)> = rows.iter().map(|row| steps.spans[*row as usize]).collect();
        out.lengths.extend(spans.iter().map(|span| span.1));
        out.seq_len = out.lengths.iter().max().map_or(0, |&longest| longest as usize);
        out.tokens.resize(rows.len() * out.seq_len * sequence.fields.len(), 0);
        out.step_numeric.resize(rows.len() * out.seq_len * sequence.numeric, 0.0);
        if spilled.step_widths() != (sequence.fields.len(), sequence.numeric) {
            return Err(Error::internal("steps in files have another shape than the network reads"));
        }
        spilled.read_steps(&spans, out.seq_len, &mut out.tokens, &mut out.step_numeric)
    }

    /// Gathers `rows` of `inputs`, which are in memory, into `out`; `seq_len` becomes the longest of these rows.
    pub fn gather(inputs: &Inputs, shape: &InputShape, rows: &[u32], out: &mut Self) {
        out.begin(rows.len());
        let (numeric, categorical) = (shape.numeric, shape.categorical.len());
        for &row in rows {
            let row = row as usize;
            out.numeric.extend_from_slice(&inputs.numeric[row * numeric..(row + 1) * numeric]);
            out.categorical.extend_from_slice(&inputs.categorical[row * categorical..(row + 1) * categorical]);
        }
        if let Some(image) = shape.image {
            let len = image.len();
            for (at, &row) in rows.iter().enumerate() {
                let picture = inputs.pictured.get(row as usize).copied().unwrap_or(row);
                if picture != NO_PICTURE {
                    out.images.extend_from_slice(&inputs.images[picture as usize * len..(picture as usize + 1) * len]);
                    out.pictured.push(at as u32);
                }
            }
        }
        out.texts.resize_with(shape.texts.len(), Words::default);
        out.texts.iter_mut().zip(&inputs.texts).for_each(|(words, texts)| words.gather(texts, rows));
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
        let pictures = self.pictured.partition_point(|row| (*row as usize) < rows.start)
            ..self.pictured.partition_point(|row| (*row as usize) < rows.end);
        let pixels = shape.image.map_or(0, ImageShape::len);
        let mut part = Self {
            rows: rows.len(),
            numeric: self.numeric[columns(shape.numeric)].to_vec(),
            categorical: self.categorical[columns(shape.categorical.len())].to_vec(),
            images: self.images[pictures.start * pixels..pictures.end * pixels].to_vec(),
            pictured: self.pictured[pictures].iter().map(|row| row - rows.start as u32).collect(),
            texts: self.texts.iter().map(|words| words.part(rows.clone())).collect(),
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

    /// Shifts pictures by up to two pixels and mirrors every other one, if asked to, each by chance of its own. What comes in
    /// at an edge repeats it.
    pub fn augment(&mut self, shape: &InputShape, shifts: bool, flips: bool, random: Philox) {
        let Some(image) = shape.image.filter(|_| shifts || flips) else { return };
        let mut before = Vec::with_capacity(image.len());
        for (at, picture) in self.images.chunks_exact_mut(image.len().max(1)).enumerate() {
            let [down, right, mirrored, _] = random.block(at as u64);
            // A shift is `-SHIFT_MAX ..= SHIFT_MAX`, by multiplication instead of division.
            let by_chance = |bits: u32| ((u64::from(bits) * u64::from(2 * SHIFT_MAX + 1)) >> 32) as usize;
            let shift = |bits: u32| if shifts { by_chance(bits) } else { SHIFT_MAX as usize };
            let flip = flips && mirrored & 1 == 1;
            before.clear();
            before.extend_from_slice(picture);
            move_picture(image, &before, [shift(down), shift(right)], flip, picture);
        }
    }
}

/// `to` becomes `from`, moved by `shift − SHIFT_MAX` pixels down and to the right, then mirrored.
fn move_picture(image: ImageShape, from: &[u8], shift: [usize; 2], flip: bool, to: &mut [u8]) {
    let ImageShape { height, width, channels } = image;
    let source = |at: usize, shift: usize, length: usize| (at + SHIFT_MAX as usize).saturating_sub(shift).min(length - 1);
    for (y, row) in to.chunks_exact_mut(width * channels).enumerate() {
        let from = &from[source(y, shift[0], height) * width * channels..][..width * channels];
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let x = source(if flip { width - 1 - x } else { x }, shift[1], width);
            pixel.copy_from_slice(&from[x * channels..(x + 1) * channels]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::inputs::{SequenceShape, Sequences, TextShape};

    fn pictures(count: usize) -> (InputShape, Batch) {
        let image = ImageShape { height: 3, width: 4, channels: 1 };
        let images = (0..count).flat_map(|_| (0..12).map(|i| i as u8 * 10)).collect();
        let pictured = (0..count as u32).collect();
        (InputShape { image: Some(image), ..InputShape::default() }, Batch { rows: count, images, pictured, ..Batch::default() })
    }

    #[test]
    fn pictures_are_moved_and_edges_repeated() {
        let (shape, batch) = pictures(1);
        let moved = |shift, flip| {
            let mut to = vec![0; 12];
            move_picture(shape.image.unwrap(), &batch.images, shift, flip, &mut to);
            to
        };
        assert_eq!(moved([2, 2], false), batch.images);
        assert_eq!(moved([2, 2], true), [30, 20, 10, 0, 70, 60, 50, 40, 110, 100, 90, 80]);
        assert_eq!(moved([3, 4], false), [0, 0, 0, 10, 0, 0, 0, 10, 40, 40, 40, 50]);
        assert_eq!(moved([0, 2], false)[..4], [80, 90, 100, 110]);
    }

    #[test]
    fn every_picture_has_a_chance_of_its_own() {
        let changed = |shifts, flips| {
            let (shape, mut batch) = pictures(400);
            let before = batch.clone();
            batch.augment(&shape, shifts, flips, Philox::new(1, 1));
            let mut again = before.clone();
            again.augment(&shape, shifts, flips, Philox::new(1, 1));
            assert_eq!(batch.images, again.images);
            batch.images.chunks(12).zip(before.images.chunks(12)).filter(|(after, before)| after != before).count()
        };
        assert_eq!(changed(false, false), 0);
        assert!((150..250).contains(&changed(false, true)));
        // 24 of 25 shifts move something.
        assert!((360..400).contains(&changed(true, false)));
        assert!(changed(true, true) > 360);
    }

    #[test]
    fn gather_pads_to_the_longest_row() {
        let shape = InputShape {
            numeric: 1,
            categorical: vec![5],
            sequence: Some(SequenceShape { fields: vec![9, 9], numeric: 1, max_len: 4 }),
            image: Some(ImageShape { height: 1, width: 2, channels: 1 }),
            image_optional: true,
            texts: vec![TextShape { vocabulary: 9, buckets: 1, max_len: 4 }],
        };
        let inputs = Inputs {
            rows: 3,
            numeric: vec![0.1, 0.2, 0.3],
            categorical: vec![1, 2, 3],
            sequence: Some(Sequences { tokens: vec![1, 2, 3, 4, 5, 6], numeric: vec![0.5, 0.6, 0.7], spans: vec![(0, 3), (1, 1), (0, 0)] }),
            images: vec![10, 11, 20, 21],
            pictured: vec![1, NO_PICTURE, 1],
            texts: vec![Texts { tokens: vec![5, 6, 7, 8], spans: vec![(0, 3), (1, 2), (3, 1)] }],
            spilled: None,
        };
        let mut batch = Batch::default();
        Batch::gather(&inputs, &shape, &[2, 1], &mut batch);
        assert_eq!((&batch.images[..], &batch.pictured[..]), (&[20, 21][..], &[0][..]));
        assert_eq!(batch.texts, [Words { ids: vec![8, 6, 7], ends: vec![1, 3] }]);
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
