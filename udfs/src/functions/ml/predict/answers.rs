//! What forward passes leave behind: only the numbers that the statement asks for, row by row, in columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Builder, ListArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};

use super::call::Needs;
use crate::error::{Code, Error, Result};

/// Stands for "no answer" among row indices.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// Which numbers of a forward pass are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    intent: bool,
    /// Indices of the classes whose probabilities are kept, ascending.
    classes: Vec<u32>,
    value: bool,
    /// Zero when embeddings are not wanted.
    embedding_dim: usize,
}

impl Layout {
    /// What `needs` ask of a model with these classes.
    pub(crate) fn new(needs: &Needs, classes: &[String], embedding_dim: usize) -> Self {
        let kept = classes.iter().enumerate().filter(|(_, class)| needs.all_classes || needs.classes.contains(*class));
        Self {
            intent: needs.intent && !classes.is_empty(),
            classes: kept.map(|(index, _)| u32::try_from(index).unwrap_or(UNKNOWN)).collect(),
            value: needs.value && classes.is_empty(),
            embedding_dim: if needs.embedding { embedding_dim } else { 0 },
        }
    }

    /// Bytes of one answer.
    pub(crate) fn row_bytes(&self) -> usize {
        1 + usize::from(self.intent) * 4 + self.classes.len() * 8 + usize::from(self.value) * 8 + self.embedding_dim * 4
    }

    /// Where the probability of a class is kept.
    pub(crate) fn class_position(&self, class_index: usize) -> Option<usize> {
        self.classes.binary_search(&u32::try_from(class_index).ok()?).ok()
    }
}

/// One row of a forward pass, before the layout takes its part of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored<'a> {
    /// Calibrated, in the order of the model's classes; empty for regression.
    pub(crate) probabilities: &'a [f64],
    /// In the target's units; NaN for classification.
    pub(crate) value: f64,
    pub(crate) embedding: &'a [f32],
}

/// Rows of answers.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    layout: Arc<Layout>,
    known: Vec<bool>,
    intents: Vec<u32>,
    probabilities: Vec<f64>,
    values: Vec<f64>,
    embeddings: Vec<f32>,
}

impl Answers {
    pub(crate) fn new(layout: &Arc<Layout>) -> Self {
        Self {
            layout: Arc::clone(layout),
            known: Vec::new(),
            intents: Vec::new(),
            probabilities: Vec::new(),
            values: Vec::new(),
            embeddings: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Adds a row without an answer: unknown, NULL, or too short a history.
    pub(crate) fn push_null(&mut self) {
        self.known.push(false);
        if self.layout.intent {
            self.intents.push(UNKNOWN);
        }
        if self.layout.value {
            self.values.push(f64::NAN);
        }
        self.probabilities.resize(self.known.len() * self.layout.classes.len(), f64::NAN);
        self.embeddings.resize(self.known.len() * self.layout.embedding_dim, f32::NAN);
    }

    /// Adds what the layout wants of a forward pass.
    pub(crate) fn push(&mut self, scored: Scored<'_>) {
        self.known.push(true);
        if self.layout.intent {
            self.intents.push(most_likely(scored.probabilities));
        }
        if self.layout.value {
            self.values.push(scored.value);
        }
        self.probabilities.extend(self.layout.classes.iter().map(|class| scored.probabilities[*class as usize]));
        self.embeddings.extend_from_slice(&scored.embedding[..self.layout.embedding_dim]);
    }

    /// Adds a row of `other`, which has the same layout.
    pub(crate) fn push_from(&mut self, other: &Self, row: usize) {
        debug_assert_eq!(self.layout, other.layout);
        self.known.push(other.known[row]);
        let slice = |width: usize| row * width..(row + 1) * width;
        self.intents.extend_from_slice(&other.intents[slice(usize::from(self.layout.intent))]);
        self.values.extend_from_slice(&other.values[slice(usize::from(self.layout.value))]);
        self.probabilities.extend_from_slice(&other.probabilities[slice(self.layout.classes.len())]);
        self.embeddings.extend_from_slice(&other.embeddings[slice(self.layout.embedding_dim)]);
    }

    fn knows(&self, row: u32) -> Option<usize> {
        let row = row as usize;
        (row < self.known.len() && self.known[row]).then_some(row)
    }

    /// The most likely class of each of `rows`; [`UNKNOWN`] gives NULL.
    pub(crate) fn intent_column(&self, rows: &[u32], classes: &[String]) -> ArrayRef {
        let mut column = StringBuilder::with_capacity(rows.len(), rows.len() * 8);
        for row in rows {
            let class = self.knows(*row).and_then(|row| classes.get(self.intents[row] as usize));
            column.append_option(class);
        }
        Arc::new(column.finish())
    }

    /// The probability of a class for each of `rows`; `position(i)` says where the class of the i-th row is kept.
    pub(crate) fn probability_column(&self, rows: &[u32], position: impl Fn(usize) -> Option<usize>) -> ArrayRef {
        let mut column = Float64Builder::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let answer = self.knows(*row).zip(position(index));
            column.append_option(answer.map(|(row, position)| self.probabilities[row * self.layout.classes.len() + position]));
        }
        Arc::new(column.finish())
    }

    /// The predicted number for each of `rows`.
    pub(crate) fn value_column(&self, rows: &[u32]) -> ArrayRef {
        let mut column = Float64Builder::with_capacity(rows.len());
        for row in rows {
            column.append_option(self.knows(*row).map(|row| self.values[row]));
        }
        Arc::new(column.finish())
    }

    /// The embedding for each of `rows`, scaled to unit length with `normalize`.
    pub(crate) fn embedding_column(&self, rows: &[u32], normalize: bool) -> Result<ArrayRef> {
        let dim = self.layout.embedding_dim;
        let mut numbers: Vec<f32> = Vec::with_capacity(rows.len() * dim);
        let mut lengths = Vec::with_capacity(rows.len());
        let mut valid = Vec::with_capacity(rows.len());
        for row in rows {
            let known = self.knows(*row);
            if let Some(row) = known {
                let vector = &self.embeddings[row * dim..(row + 1) * dim];
                let scale = if normalize { unit_scale(vector) } else { 1.0 };
                numbers.extend(vector.iter().map(|number| number * scale));
            }
            valid.push(known.is_some());
            lengths.push(if known.is_some() { dim } else { 0 });
        }
        if i32::try_from(numbers.len()).is_err() {
            return Err(Error::new(Code::OutOfMemory, "embeddings of one batch exceed the array's limit")
                .hint("Lower datafusion.execution.batch_size."));
        }
        Ok(Arc::new(embedding_list(numbers, lengths, valid)?))
    }
}

/// Vectors as a list column.
pub(crate) fn embedding_list(numbers: Vec<f32>, lengths: Vec<usize>, valid: Vec<bool>) -> Result<ListArray> {
    let field = Arc::new(Field::new_list_field(DataType::Float32, true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let numbers: ArrayRef = Arc::new(Float32Array::from(numbers));
    ListArray::try_new(field, offsets, numbers, Some(NullBuffer::from(valid)))
        .map_err(|error| Error::internal(format!("building an array of embeddings failed: {error}")))
}

/// The factor that makes a vector one unit long; a zero vector stays zero.
pub(crate) fn unit_scale(vector: &[f32]) -> f32 {
    let square: f64 = vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum();
    // Computed in double precision; the narrowing keeps what a float4 can hold.
    #[expect(clippy::cast_possible_truncation, reason = "a float4 is what the vector is made of")]
    let scale = (1.0 / square.sqrt()) as f32;
    if scale.is_finite() { scale } else { 1.0 }
}

/// The index of the largest probability, the first of equals.
pub(crate) fn most_likely(probabilities: &[f64]) -> u32 {
    let mut best = (UNKNOWN, f64::NEG_INFINITY);
    for (index, probability) in (0u32..).zip(probabilities) {
        if *probability > best.1 {
            best = (index, *probability);
        }
    }
    best.0
}
