//! Encoded rows in files: written once, in the order of rows, and read wherever a batch wants.
//!
//! A row's numbers, ids and picture lie side by side in one file, so that one read brings them all; a user's steps lie in
//! another, oldest first, shared by the user's rows. Spans stay in memory: which steps a row has decides what is
//! batched with what.

use super::inputs::{ImageShape, InputShape, Inputs, Sequences};
use super::spill::{Log, SpillSpace, get_into, put_all};
use crate::error::{Code, Error, Result};

/// Bytes of rows, and of steps, that are put together before they are written.
const WAITING_BYTES: usize = 1 << 20;

/// Rows that lie in files.
#[derive(Debug)]
pub struct Spilled {
    widths: Widths,
    rows: Log,
    steps: Log,
}

/// How wide rows and steps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Widths {
    numeric: usize,
    categorical: usize,
    image: usize,
    /// Token fields of a step.
    fields: usize,
    step_numeric: usize,
}

impl Widths {
    fn of(shape: &InputShape) -> Self {
        let sequence = shape.sequence.as_ref();
        Self {
            numeric: shape.numeric,
            categorical: shape.categorical.len(),
            image: shape.image.map_or(0, ImageShape::len),
            fields: sequence.map_or(0, |sequence| sequence.fields.len()),
            step_numeric: sequence.map_or(0, |sequence| sequence.numeric),
        }
    }

    const fn row_bytes(self) -> usize {
        (self.numeric + self.categorical) * 4 + self.image
    }

    const fn step_bytes(self) -> usize {
        (self.fields + self.step_numeric) * 4
    }
}

impl Spilled {
    /// Bytes in files.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.rows.len() + self.steps.len()
    }

    /// Reads what `shape` wants of `rows` into vectors of exactly that size, in the order of `rows`. A shape has all
    /// numbers (all ids, the picture) of a row or none.
    ///
    /// # Errors
    /// `Io`; `Internal` when the shape is of other rows.
    pub fn read_rows(
        &self,
        rows: &[u32],
        shape: &InputShape,
        numeric: &mut Vec<f32>,
        categorical: &mut Vec<u32>,
        images: &mut Vec<u8>,
    ) -> Result<()> {
        let (own, wanted) = (self.widths, Widths::of(shape));
        for (wanted, own) in [(wanted.numeric, own.numeric), (wanted.categorical, own.categorical), (wanted.image, own.image)] {
            if wanted != 0 && wanted != own {
                return Err(Error::internal("rows in files have another shape than the network reads"));
            }
        }
        numeric.resize(rows.len() * wanted.numeric, 0.0);
        categorical.resize(rows.len() * wanted.categorical, 0);
        images.resize(rows.len() * wanted.image, 0);
        // From the first part that is wanted to the last.
        let ids_at = own.numeric * 4;
        let image_at = ids_at + own.categorical * 4;
        let start = if wanted.numeric > 0 {
            0
        } else if wanted.categorical > 0 {
            ids_at
        } else {
            image_at
        };
        let end = if wanted.image > 0 {
            image_at + own.image
        } else if wanted.categorical > 0 {
            image_at
        } else {
            wanted.numeric * 4
        };
        let len = end.saturating_sub(start);
        let pieces: Vec<(u64, usize)> = rows.iter().map(|row| (u64::from(*row) * own.row_bytes() as u64 + start as u64, len)).collect();
        self.rows.read_pieces(&pieces, |at, bytes| {
            if wanted.numeric > 0 {
                get_into(&bytes[..ids_at], &mut numeric[at * wanted.numeric..][..wanted.numeric]);
            }
            if wanted.categorical > 0 {
                get_into(&bytes[ids_at - start..image_at - start], &mut categorical[at * wanted.categorical..][..wanted.categorical]);
            }
            if wanted.image > 0 {
                images[at * wanted.image..][..wanted.image].copy_from_slice(&bytes[image_at - start..][..own.image]);
            }
        })
    }

    /// Reads the steps of `spans`: those of the span at `at` go to the rows from `at · seq_len` on of `tokens`
    /// (`[spans · seq_len, fields]`) and `numeric` (`[spans · seq_len, numbers of a step]`).
    ///
    /// # Errors
    /// `Io`.
    pub fn read_steps(&self, spans: &[(u32, u32)], seq_len: usize, tokens: &mut [u32], numeric: &mut [f32]) -> Result<()> {
        let Widths { fields, step_numeric, .. } = self.widths;
        let step_bytes = self.widths.step_bytes();
        let piece = |(start, len): &(u32, u32)| (u64::from(*start) * step_bytes as u64, *len as usize * step_bytes);
        let pieces: Vec<(u64, usize)> = spans.iter().map(piece).collect();
        self.steps.read_pieces(&pieces, |at, bytes| {
            for (step, bytes) in bytes.chunks_exact(step_bytes).enumerate() {
                let to = at * seq_len + step;
                let (ids, numbers) = bytes.split_at(fields * 4);
                get_into(ids, &mut tokens[to * fields..][..fields]);
                get_into(numbers, &mut numeric[to * step_numeric..][..step_numeric]);
            }
        })
    }

    /// Token fields and numbers of a step.
    #[must_use]
    pub const fn step_widths(&self) -> (usize, usize) {
        (self.widths.fields, self.widths.step_numeric)
    }

    /// Number of steps.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        match self.widths.step_bytes() {
            0 => 0,
            bytes => self.steps.len() / bytes as u64,
        }
    }
}

impl Inputs {
    /// The rows of `shape` in files of `space`, wherever they were.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    pub fn to_files(&self, shape: &InputShape, space: &dyn SpillSpace) -> Result<Self> {
        if self.spilled.is_some() {
            return Ok(self.clone());
        }
        let mut sink = RowSink::new(Some(space), shape)?;
        for row in 0..self.rows {
            let part = |width: usize| row * width..(row + 1) * width;
            sink.inputs.numeric.extend_from_slice(&self.numeric[part(shape.numeric)]);
            sink.inputs.categorical.extend_from_slice(&self.categorical[part(shape.categorical.len())]);
            sink.inputs.images.extend_from_slice(&self.images[part(shape.image.map_or(0, ImageShape::len))]);
            sink.settle()?;
        }
        if let (Some(own), Some(sequence), Some(shape)) = (&self.sequence, &mut sink.inputs.sequence, &shape.sequence) {
            let steps = own.numeric.len().checked_div(shape.numeric).unwrap_or(0);
            for step in 0..steps {
                sequence.tokens.extend_from_slice(&own.tokens[step * shape.fields.len()..(step + 1) * shape.fields.len()]);
                sequence.numeric.extend_from_slice(&own.numeric[step * shape.numeric..(step + 1) * shape.numeric]);
            }
            sequence.spans.clone_from(&own.spans);
        }
        sink.finish(self.rows)
    }

    /// The rows of `shape` in memory, wherever they were: for whoever needs them all at once. [`bytes_in_memory`](
    /// Self::bytes_in_memory) says what they take.
    ///
    /// # Errors
    /// `Io`.
    pub fn to_memory(&self, shape: &InputShape) -> Result<Self> {
        let Some(spilled) = &self.spilled else { return Ok(self.clone()) };
        let mut inputs = Self { rows: self.rows, ..Self::default() };
        let all: Vec<u32> = (0..self.rows as u32).collect();
        spilled.read_rows(&all, shape, &mut inputs.numeric, &mut inputs.categorical, &mut inputs.images)?;
        if let Some(sequence) = &self.sequence {
            let (steps, (fields, numbers)) = (spilled.steps() as usize, spilled.step_widths());
            let (mut tokens, mut numeric) = (vec![0; steps * fields], vec![0.0; steps * numbers]);
            spilled.read_steps(&[(0, steps as u32)], steps, &mut tokens, &mut numeric)?;
            inputs.sequence = Some(Sequences { tokens, numeric, spans: sequence.spans.clone() });
        }
        Ok(inputs)
    }

    /// What [`to_memory`](Self::to_memory) takes.
    pub fn bytes_in_memory(&self) -> usize {
        self.bytes() + self.spilled_bytes() as usize
    }
}

/// Takes encoded rows one after another: in memory, or into files as soon as there are enough for a write.
#[derive(Debug)]
pub(super) struct RowSink {
    inputs: Inputs,
    files: Option<Spilled>,
}

impl RowSink {
    /// A sink of rows of `shape`; without a space they stay in memory.
    pub(super) fn new(space: Option<&dyn SpillSpace>, shape: &InputShape) -> Result<Self> {
        let files = match space {
            Some(_) if !shape.texts.is_empty() || shape.image_optional => {
                return Err(Error::new(Code::FeatureNotSupported, "texts and pictures of events are learned from memory only"));
            }
            Some(space) => Some(Spilled {
                widths: Widths::of(shape),
                rows: Log::create(space, "encoded rows")?,
                steps: Log::create(space, "encoded steps")?,
            }),
            None => None,
        };
        let sequence = shape.sequence.as_ref().map(|_| Sequences::default());
        Ok(Self { inputs: Inputs { sequence, ..Inputs::default() }, files })
    }

    /// Makes room for `rows` rows of `shape` where they stay in memory.
    pub(super) fn reserve(&mut self, rows: usize, shape: &InputShape) {
        if self.files.is_none() {
            self.inputs.numeric.reserve_exact(rows * shape.numeric);
            self.inputs.categorical.reserve_exact(rows * shape.categorical.len());
            self.inputs.images.reserve_exact(rows * shape.image.map_or(0, ImageShape::len));
        }
    }

    /// Where the next row's parts, steps and spans are put; [`settle`](Self::settle) comes after each row.
    pub(super) const fn inputs(&mut self) -> &mut Inputs {
        &mut self.inputs
    }

    /// Steps that are in files already: places of steps in [`inputs`](Self::inputs) are counted from there.
    pub(super) fn steps_before(&self) -> usize {
        self.files.as_ref().map_or(0, |files| files.steps() as usize)
    }

    /// Writes whole rows and steps if there are enough of them.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let inputs = &mut self.inputs;
        if (inputs.numeric.len() + inputs.categorical.len()) * 4 + inputs.images.len() >= WAITING_BYTES {
            files.take_rows(inputs)?;
        }
        match &mut inputs.sequence {
            Some(sequence) if (sequence.tokens.len() + sequence.numeric.len()) * 4 >= WAITING_BYTES => files.take_steps(sequence),
            _ => Ok(()),
        }
    }

    /// The rows.
    pub(super) fn finish(mut self, rows: usize) -> Result<Inputs> {
        self.inputs.rows = rows;
        if let Some(mut files) = self.files {
            files.take_rows(&mut self.inputs)?;
            if let Some(sequence) = &mut self.inputs.sequence {
                files.take_steps(sequence)?;
            }
            files.rows.flush()?;
            files.steps.flush()?;
            self.inputs.spilled = Some(std::sync::Arc::new(files));
        }
        Ok(self.inputs)
    }
}

impl Spilled {
    /// Moves whole rows to their file.
    fn take_rows(&mut self, inputs: &mut Inputs) -> Result<()> {
        let Widths { numeric, categorical, image, .. } = self.widths;
        let rows = [(inputs.numeric.len(), numeric), (inputs.categorical.len(), categorical), (inputs.images.len(), image)]
            .into_iter()
            .filter_map(|(len, width)| len.checked_div(width))
            .min()
            .unwrap_or(0);
        for row in 0..rows {
            let bytes = self.rows.end();
            put_all(&inputs.numeric[row * numeric..(row + 1) * numeric], bytes);
            put_all(&inputs.categorical[row * categorical..(row + 1) * categorical], bytes);
            bytes.extend_from_slice(&inputs.images[row * image..(row + 1) * image]);
            self.rows.settle()?;
        }
        inputs.numeric.drain(..rows * numeric);
        inputs.categorical.drain(..rows * categorical);
        inputs.images.drain(..rows * image);
        Ok(())
    }

    /// Moves all steps to their file.
    fn take_steps(&mut self, sequence: &mut Sequences) -> Result<()> {
        let Widths { fields, step_numeric, .. } = self.widths;
        for step in 0..sequence.numeric.len().checked_div(step_numeric).unwrap_or(0) {
            let bytes = self.steps.end();
            put_all(&sequence.tokens[step * fields..(step + 1) * fields], bytes);
            put_all(&sequence.numeric[step * step_numeric..(step + 1) * step_numeric], bytes);
            self.steps.settle()?;
        }
        sequence.tokens.clear();
        sequence.numeric.clear();
        Ok(())
    }
}
