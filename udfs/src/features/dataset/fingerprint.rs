//! What a dataset holds as one short text, to tell whether a source changed.

use super::Dataset;
use crate::features::inputs::{Labels, Rows};

/// Bytes that are hashed at once.
const CHUNK: usize = 1 << 14;

fn add(hasher: &mut blake3::Hasher, count: usize, bits: impl Iterator<Item = u32>) {
    hasher.update(&(count as u64).to_le_bytes());
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

impl Dataset {
    /// A hash of everything that is learned from: encoded rows, labels, classes and which part a row belongs to.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let inputs = &self.inputs;
        add(&mut hasher, inputs.numeric.len(), inputs.numeric.iter().map(|value| value.to_bits()));
        add(&mut hasher, inputs.categorical.len(), inputs.categorical.iter().copied());
        if let Some(sequence) = &inputs.sequence {
            add(&mut hasher, sequence.tokens.len(), sequence.tokens.iter().copied());
            add(&mut hasher, sequence.numeric.len(), sequence.numeric.iter().map(|value| value.to_bits()));
            add(&mut hasher, sequence.spans.len(), sequence.spans.iter().flat_map(|(start, len)| [*start, *len]));
        }
        for texts in &inputs.texts {
            add(&mut hasher, texts.tokens.len(), texts.tokens.iter().copied());
            add(&mut hasher, texts.spans.len(), texts.spans.iter().flat_map(|(start, len)| [*start, *len]));
        }
        if !inputs.images.is_empty() {
            hasher.update(&(inputs.images.len() as u64).to_le_bytes());
            hasher.update(&inputs.images);
            add(&mut hasher, inputs.pictured.len(), inputs.pictured.iter().copied());
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
        hasher.finalize().to_hex().to_string()
    }
}
