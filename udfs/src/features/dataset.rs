//! Builders of training data.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::encoder::Encoder;
use super::events::{Strings, UserHistory, UserKey};
use super::inputs::{Inputs, Labels, Rows};
use super::options::Options;
use super::roles::EventColumns;
use super::target::Target;
use crate::error::{Error, Result};

/// Everything a training reads. Vectors have one entry per row unless said otherwise.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Encoded rows.
    pub inputs: Inputs,
    /// The truth.
    pub labels: Labels,
    /// Class names by index; binary targets: `classes[1]` is the positive one. Empty for numbers.
    pub classes: Vec<String>,
    /// Which part a row belongs to.
    pub split: Vec<Rows>,
    /// Whose row; empty for labelled tables.
    pub users: Vec<UserKey>,
    /// At which anchor; empty for labelled tables.
    pub anchors_us: Vec<i64>,
    /// Fitted on the train rows.
    pub encoder: Encoder,
    /// Distinct users seen, with or without a row; rows for labelled tables.
    pub users_total: u64,
    /// Rows of the source that could not be used.
    pub dropped_rows: u64,
    /// Anchors whose label window is not fully observed, or crosses a split's cut.
    pub censored_rows: u64,
    /// `[recency in days, number of events]` at the anchor: the simple baseline; empty for labelled tables.
    pub rfm: Vec<[f32; 2]>,
}

/// Collects histories, then cuts them into rows.
#[derive(Debug)]
pub struct EventDatasetBuilder {}

impl EventDatasetBuilder {
    /// A builder for histories of `schema` (canonical), the watermark being the source's largest event time.
    ///
    /// # Errors
    /// `InvalidParameter`, `UndefinedColumn` for a target that the columns cannot give.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        _columns: &EventColumns, _schema: SchemaRef, _target: &Target, _horizon_us: i64, _anchor_every_us: Option<i64>, _options: &Options,
        _watermark_us: i64,
    ) -> Result<Self> {
        Err(Error::internal("not wired yet"))
    }

    /// Takes one user's history.
    ///
    /// # Errors
    /// `OutOfMemory` when the steps no longer fit their index.
    pub fn push(&mut self, _history: &UserHistory, _strings: &Strings) -> Result<()> {
        Err(Error::internal("not wired yet"))
    }

    /// The bytes it holds and will hold when finished; for the memory pool.
    #[must_use]
    pub fn bytes(&self) -> usize {
        0
    }

    /// Fits the encoder on the train rows and encodes all rows.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) with counts when there is too little to learn from.
    pub fn finish(self) -> Result<Dataset> {
        Err(Error::internal("not wired yet"))
    }
}

/// Collects the rows of a labelled table (`column(label)`).
#[derive(Debug)]
pub struct TableDatasetBuilder {}

impl TableDatasetBuilder {
    /// A builder for rows of `schema` with the label in `label_column`; split by time when `split_time` names a column.
    ///
    /// # Errors
    /// `UndefinedColumn`, `InvalidParameter`.
    pub fn new(_schema: SchemaRef, _label_column: &str, _options: &Options, _split_time: Option<String>) -> Result<Self> {
        Err(Error::internal("not wired yet"))
    }

    /// Takes a batch of rows.
    ///
    /// # Errors
    /// `DatatypeMismatch`.
    pub fn push(&mut self, _batch: &RecordBatch) -> Result<()> {
        Err(Error::internal("not wired yet"))
    }

    /// The bytes it holds and will hold when finished; for the memory pool.
    #[must_use]
    pub fn bytes(&self) -> usize {
        0
    }

    /// Fits the encoder on the train rows and encodes all rows.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) with counts when there is too little to learn from.
    pub fn finish(self) -> Result<Dataset> {
        Err(Error::internal("not wired yet"))
    }
}
