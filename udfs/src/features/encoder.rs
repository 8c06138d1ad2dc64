//! The fitted encoder: what training learned about turning histories and rows into arrays.

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::events::{Strings, UserHistory};
use super::inputs::{InputShape, Inputs};
use crate::error::{Error, Result};

/// Kind of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// A number of [`Inputs::numeric`].
    Numeric,
    /// An id of [`Inputs::categorical`].
    Categorical,
    /// A token field of a step.
    Token,
    /// A number of a step.
    Step,
}

/// One feature as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// Stable and readable: `purchase_count_30d`.
    pub name: String,
    /// Which array, in the array's order.
    pub kind: FeatureKind,
}

/// The fitted encoder; the manifest's `preprocessor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    /// The version of this structure.
    pub schema_version: u32,
    shape: InputShape,
}

impl Encoder {
    /// The shape of what it makes.
    #[must_use]
    pub const fn shape(&self) -> &InputShape {
        &self.shape
    }

    /// Every feature, numeric first, then categorical, token and step features, each in its array's order.
    #[must_use]
    pub fn feature_names(&self) -> Vec<FeatureInfo> {
        Vec::new()
    }

    /// Appends the row of a user as of a time; `false` = shorter than `min_history`, nothing appended.
    ///
    /// # Errors
    /// `InvalidParameter` when this is a model of labelled rows.
    pub fn encode_history(&self, _history: &UserHistory, _strings: &Strings, _as_of_us: i64, _out: &mut Inputs) -> Result<bool> {
        Err(Error::internal("not wired yet"))
    }

    /// Encodes labelled-table rows; binds by name, extra columns are ignored.
    ///
    /// # Errors
    /// `UndefinedColumn` for a missing column.
    pub fn encode_rows(&self, _batch: &RecordBatch) -> Result<Inputs> {
        Err(Error::internal("not wired yet"))
    }

    /// Encodes a stateless sequence, oldest first.
    ///
    /// # Errors
    /// `InvalidParameter` when lengths differ.
    pub fn encode_sequence(&self, _events: &[&str], _items: Option<&[&str]>, _times_us: Option<&[i64]>) -> Result<Inputs> {
        Err(Error::internal("not wired yet"))
    }

    /// A stateful face of [`encode_history`](Self::encode_history) for scoring many users of one reader: it
    /// remembers what the reader's codes mean. One per stream.
    #[must_use]
    pub fn history_encoder(&self) -> HistoryEncoder<'_> {
        HistoryEncoder { encoder: self }
    }
}

/// See [`Encoder::history_encoder`].
#[derive(Debug)]
pub struct HistoryEncoder<'a> {
    encoder: &'a Encoder,
}

impl HistoryEncoder<'_> {
    /// As [`Encoder::encode_history`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, history: &UserHistory, strings: &Strings, as_of_us: i64, out: &mut Inputs) -> Result<bool> {
        self.encoder.encode_history(history, strings, as_of_us, out)
    }
}
