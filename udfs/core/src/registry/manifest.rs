//! What a version is: the manifest beside its weights, and the reference that a plan carries.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::features::encoder::Encoder;
use crate::features::{EventColumns, RowField};
use crate::models::{EnsembleConfig, NetworkConfig, Scheme};
use crate::train::{Calibration, CandidateReport, EpochRecord, FoldReport, MemberReport, PrivacyReport, TrialReport};

/// The manifest format this build writes. Older ones are read, newer ones refused.
pub const FORMAT_VERSION: u32 = 1;

/// One version of one model, as a statement pinned it. Holds its meaning when the model is renamed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelRef {
    /// The name at the time of resolution, for messages and results.
    pub name: Arc<str>,
    /// The version number, from 1.
    pub version: u32,
    /// The model's id in the registry; never changes, never reused.
    pub id: Arc<str>,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Where the training rows came from; scoring without a source reads the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredSource {
    /// A single read-only query, for example `SELECT * FROM events`.
    pub sql: String,
    /// The roles of its columns; `None` for a table with one labelled row per entity.
    pub columns: Option<EventColumns>,
}

/// How a version was made smaller than another, and what that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// `int8`, `int4`, `pruned` or `distilled`.
    pub scheme: String,
    /// How the weights are stored.
    pub weights: Scheme,
    /// The version it was made from, as `name@version` at that time.
    pub from: String,
    /// The number of that version, when it is one of the same model.
    pub from_version: Option<u32>,
    /// Bytes of the weights file before.
    pub bytes_before: u64,
    /// Rows scored in a second, one thread, before and after; NaN when no row could be read.
    pub rows_per_s_before: f64,
    /// See [`rows_per_s_before`](Self::rows_per_s_before).
    pub rows_per_s_after: f64,
    /// The headline metric on the stored test rows before; NaN when the source could not be read.
    pub before: f64,
    /// The same after.
    pub after: f64,
}

/// Everything of a version that lists, views and planning need; small enough to stay in memory for each version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionInfo {
    /// The model's name when the version was written; renames do not touch files.
    pub model: String,
    /// From 1; never reused.
    pub version: u32,
    /// Architecture name (`gru`, `dnn`, …).
    pub arch: String,
    /// The target in SQL's small language (`purchase`, `ladder(view<cart)`, `column(Revenue)`).
    pub target: String,
    /// Class names in the order of the network's outputs; empty for regression.
    pub classes: Vec<String>,
    /// How far the target looks ahead, microseconds; zero for labelled tables.
    pub horizon_us: i64,
    /// Distance of anchors, microseconds.
    pub anchor_every_us: Option<i64>,
    /// Where the training rows came from.
    pub source: Option<StoredSource>,
    /// Changes when the source's contents change, if that can be known (`if_stale`).
    pub source_fingerprint: Option<String>,
    /// The data watermark it was trained at, microseconds since 1970 UTC.
    pub as_of_us: Option<i64>,
    /// The options it was trained with, as JSON.
    pub options: serde_json::Value,
    /// Distinct users (or rows of a labelled table).
    pub users: u64,
    /// Rows learned from.
    pub train_rows: u64,
    /// Rows for early stopping and calibration.
    pub valid_rows: u64,
    /// Rows of the reported test.
    pub test_rows: u64,
    /// Source rows left out because user, time or label was NULL.
    pub dropped_rows: u64,
    /// Anchors left out because their horizon reaches past the data.
    pub censored_rows: u64,
    /// Whether `sample` left rows out.
    pub sampled: bool,
    /// Name of the headline metric (`pr_auc`, `log_loss`, `rmse`).
    pub metric: String,
    /// The headline metric on the test rows.
    pub test: f64,
    /// What knowing nothing reaches on the test rows.
    pub baseline: f64,
    /// What a recency/frequency logistic regression reaches, for a target that is one event.
    pub simple_baseline: Option<f64>,
    /// The headline metric on the validation rows.
    pub valid: f64,
    /// Epochs run.
    pub epochs: u32,
    /// The epoch whose weights were kept.
    pub best_epoch: u32,
    /// Trainable numbers.
    pub parameters: u64,
    /// `cpu` or `cuda:n`.
    pub device: String,
    /// Training seconds.
    pub seconds: f64,
    /// Per epoch.
    pub history: Vec<EpochRecord>,
    /// What `auto` tried.
    pub candidates: Vec<CandidateReport>,
    /// What a hyper-parameter search tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<TrialReport>,
    /// The networks of an ensemble.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberReport>,
    /// What cross-validation found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<FoldReport>,
    /// What to tell the user beside the numbers.
    pub message: String,
    /// The role that trained it.
    pub owner: String,
    /// Microseconds since 1970 UTC.
    pub created_at_us: i64,
    /// The statement that trained it.
    pub statement: String,
    /// What a private training spent; `None` for an ordinary one.
    #[serde(default)]
    pub privacy: Option<PrivacyReport>,
    /// How the weights were made smaller; `None` for weights as training left them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// The columns of generated rows; empty for what is no generator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_columns: Vec<RowField>,
    /// blake3 of the weights file, hex; set by [`publish`](crate::registry::Registry::publish).
    #[serde(default)]
    pub weights_hash: String,
    /// Size of the weights file; set by [`publish`](crate::registry::Registry::publish).
    #[serde(default)]
    pub weights_bytes: u64,
}

/// The whole manifest of a version: enough, with the weights, to score without the training data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What lists and views show.
    pub info: VersionInfo,
    /// Raw rows → network inputs, fitted on the training rows.
    pub preprocessor: Encoder,
    /// The network; of an ensemble, what must be gathered for all members.
    pub config: NetworkConfig,
    /// The members, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<EnsembleConfig>,
    /// Logits → probabilities or values.
    pub calibration: Calibration,
}
