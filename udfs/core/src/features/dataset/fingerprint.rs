//! What a dataset holds as one short text, to tell whether a source changed.

use super::Dataset;
use crate::error::Result;
use crate::features::inputs::{InputShape, Inputs, Labels, Rows, Sequences};
use crate::features::spilled::Spilled;

/// Bytes that are hashed at once.
const CHUNK: usize = 1 << 14;
/// Rows, or steps, that are read from a file at once.
const ROWS: u32 = 4096;

fn add(hasher: &mut blake3::Hasher, count: usize, bits: impl Iterator<Item = u32>) {
    hasher.update(&(count as u64).to_le_bytes());
    add_bits(hasher, bits);
}

fn add_bits(hasher: &mut blake3::Hasher, bits: impl Iterator<Item = u32>) {
    let mut buffer = Vec::with_capacity(CHUNK);
    for value in bits {
        buffer.extend(value.to_le_bytes());
        if buffer.len() >= CHUNK {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    hasher.update(&buffer);
}

fn count(hasher: &mut blake3::Hasher, count: u64) {
    hasher.update(&count.to_le_bytes());
}

impl Dataset {
    /// A hash of everything that is learned from: encoded rows, labels, classes and which part a row belongs to. It does
    /// not depend on whether rows are in memory or in files.
    ///
    /// # Errors
    /// `Io` of rows in files.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        match &self.inputs.spilled {
            Some(spilled) => add_spilled(&mut hasher, spilled, &self.inputs, self.encoder.shape())?,
            None => add_rows(&mut hasher, &self.inputs),
        }
        match &self.labels {
            Labels::Class(classes) => add(&mut hasher, classes.len(), classes.iter().copied()),
            Labels::Value(values) => add(&mut hasher, values.len(), values.iter().map(|value| value.to_bits())),
        }
        for class in &self.classes {
            hasher.update(&(class.len() as u64).to_le_bytes());
            hasher.update(class.as_bytes());
        }
        let part = |rows: &Rows| match rows {
            Rows::Train => 0,
            Rows::Validation => 1,
            Rows::Test => 2,
        };
        add(&mut hasher, self.split.len(), self.split.iter().map(part));
        Ok(hasher.finalize().to_hex().to_string())
    }
}

fn add_rows(hasher: &mut blake3::Hasher, inputs: &Inputs) {
    add(hasher, inputs.numeric.len(), inputs.numeric.iter().map(|value| value.to_bits()));
    add(hasher, inputs.categorical.len(), inputs.categorical.iter().copied());
    if let Some(sequence) = &inputs.sequence {
        add(hasher, sequence.tokens.len(), sequence.tokens.iter().copied());
        add(hasher, sequence.numeric.len(), sequence.numeric.iter().map(|value| value.to_bits()));
        add(hasher, sequence.spans.len(), sequence.spans.iter().flat_map(|(start, len)| [*start, *len]));
    }
    for texts in &inputs.texts {
        add(hasher, texts.tokens.len(), texts.tokens.iter().copied());
        add(hasher, texts.spans.len(), texts.spans.iter().flat_map(|(start, len)| [*start, *len]));
    }
    if !inputs.images.is_empty() {
        count(hasher, inputs.images.len() as u64);
        hasher.update(&inputs.images);
        add(hasher, inputs.pictured.len(), inputs.pictured.iter().copied());
    }
}

/// The same bytes, read from files part by part.
fn add_spilled(hasher: &mut blake3::Hasher, spilled: &Spilled, inputs: &Inputs, shape: &InputShape) -> Result<()> {
    let rows = inputs.rows as u32;
    let (mut numeric, mut categorical, mut images) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = |part: &InputShape, add: &mut dyn FnMut(&[f32], &[u32], &[u8])| -> Result<()> {
        for chunk in chunks(rows) {
            spilled.read_rows(&chunk.collect::<Vec<_>>(), part, &mut numeric, &mut categorical, &mut images)?;
            add(&numeric, &categorical, &images);
        }
        Ok(())
    };
    count(hasher, u64::from(rows) * shape.numeric as u64);
    let part = InputShape { numeric: shape.numeric, ..InputShape::default() };
    read(&part, &mut |numeric, _, _| add_bits(hasher, numeric.iter().map(|value| value.to_bits())))?;
    count(hasher, u64::from(rows) * shape.categorical.len() as u64);
    let part = InputShape { categorical: shape.categorical.clone(), ..InputShape::default() };
    read(&part, &mut |_, categorical, _| add_bits(hasher, categorical.iter().copied()))?;
    if let Some(sequence) = &inputs.sequence {
        add_steps(hasher, spilled, sequence)?;
    }
    if let Some(image) = shape.image.filter(|_| rows > 0) {
        count(hasher, u64::from(rows) * image.len() as u64);
        let part = InputShape { image: shape.image, ..InputShape::default() };
        read(&part, &mut |_, _, images| {
            hasher.update(images);
        })?;
        // Each row has a picture of its own.
        add(hasher, 0, std::iter::empty());
    }
    Ok(())
}

fn chunks(len: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    (0..len).step_by(ROWS as usize).map(move |start| start..len.min(start.saturating_add(ROWS)))
}

fn add_steps(hasher: &mut blake3::Hasher, spilled: &Spilled, sequence: &Sequences) -> Result<()> {
    let (fields, numbers) = spilled.step_widths();
    for tokens_now in [true, false] {
        count(hasher, spilled.steps() * if tokens_now { fields } else { numbers } as u64);
        for chunk in chunks(spilled.steps() as u32) {
            let len = chunk.len();
            let (mut tokens, mut numeric) = (vec![0; len * fields], vec![0.0; len * numbers]);
            spilled.read_steps(&[(chunk.start, len as u32)], len, &mut tokens, &mut numeric)?;
            if tokens_now {
                add_bits(hasher, tokens.into_iter());
            } else {
                add_bits(hasher, numeric.into_iter().map(f32::to_bits));
            }
        }
    }
    add(hasher, sequence.spans.len(), sequence.spans.iter().flat_map(|(start, len)| [*start, *len]));
    Ok(())
}
