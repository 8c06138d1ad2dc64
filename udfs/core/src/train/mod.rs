//! Fitting networks to datasets: the trainer, its loss history, metrics, calibration and the scorer.
//!
//! Life of a training: [`train`] starts a thread with a big stack and a rayon pool of its own → each candidate
//! architecture is fitted by [`trainer`] with early stopping on the validation rows → probabilities are
//! [calibrated](calibration) on the same rows → the best candidate is measured on the test rows beside its
//! [baselines](baseline) → one [`Trained`] comes back.
//!
//! Invariants: the same data, options and seed give the same bytes whatever the number of threads; the cancel
//! token is looked at once per batch; no file, no SQL and no clock decides what is learned (except `max_seconds`,
//! which only cuts epochs off).

mod ahead;
mod als;
pub mod baseline;
mod batches;
mod blend;
pub mod calibration;
pub mod candidates;
pub mod catalogue;
pub mod checkpoint;
mod compress;
mod crosses;
mod distil;
mod ensemble;
pub mod federated;
mod fit;
mod folds;
pub mod gan;
pub mod generate;
pub mod hyper;
pub mod memory;
pub mod metrics;
pub mod privacy;
pub mod ranked;
pub mod reality;
mod resample;
pub mod retrieve;
pub mod schedule;
pub mod scorer;
#[cfg(test)]
mod tests;
pub mod transfer;
mod tune;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use ahead::reads_files;
pub use calibration::Calibration;
pub use candidates::train;
pub use catalogue::Catalogue;
pub use checkpoint::CheckpointStore;
pub use compress::{Keep, Measured, Measures, Pruned, prune, rate, recalibrated};
pub use distil::distil;
pub use generate::Generator;
pub use memory::MemoryBudget;
pub use metrics::Metric;
pub use privacy::PrivacyReport;
pub use retrieve::Retriever;
pub use scorer::{Scorer, Scores};
pub use transfer::WarmStart;

use crate::error::Result;
use crate::features::dataset::Dataset;
use crate::features::options::Options;
use crate::models::ensemble::Combine;
use crate::models::{self, Architecture, EnsembleConfig, Network, NetworkConfig, Parameters, Task};

/// One training to run.
#[allow(missing_debug_implementations, reason = "holds a closure and a whole dataset")]
pub struct TrainRequest<'a> {
    /// Encoded rows, labels and their split.
    pub dataset: &'a Dataset,
    /// Which architecture; `None` = `auto`: the sensible candidates, the best on validation wins.
    pub architecture: Option<Architecture>,
    /// The user's options; what they leave open the architecture decides.
    pub options: &'a Options,
    /// What is predicted.
    pub task: Task,
    /// Threads of the training pool; results do not depend on it.
    pub threads: usize,
    /// Stops the training at the next batch.
    pub cancel: &'a CancellationToken,
    /// Called after every batch; throttling is the caller's.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// Weights to start from (`warm_from`): taken where name and shape agree.
    pub init: Option<WarmStart<'a>>,
    /// Where checkpoints of these very data and options are kept (`checkpoint_every`).
    pub checkpoints: Option<&'a dyn CheckpointStore>,
    /// Where the memory that it takes besides the dataset's comes from; `None` = nobody counts it.
    pub memory: Option<&'a Arc<dyn MemoryBudget>>,
}

/// Which part of a training a fit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// A candidate of its own.
    #[default]
    Whole,
    /// One setting of a search.
    Trial {
        /// From 1.
        at: usize,
        /// How many.
        of: usize,
    },
    /// One network of an ensemble.
    Member {
        /// From 1.
        at: usize,
        /// How many.
        of: usize,
    },
    /// One fold of a cross-validation.
    Fold {
        /// From 1.
        at: usize,
        /// How many.
        of: usize,
    },
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Which part of the training it is in.
    pub part: Part,
    /// The candidate in training.
    pub architecture: Architecture,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Most epochs that may run.
    pub epochs: usize,
    /// Batch within the epoch, from 1.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Running mean of the training loss in this epoch.
    pub loss: f64,
    /// Training rows per second since the epoch started.
    pub rows_per_s: f64,
    /// Seconds left if every epoch runs; early stopping usually ends sooner.
    pub eta_seconds: f64,
}

/// One epoch as `ml.training_info` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean training loss.
    pub train_loss: f64,
    /// Validation loss: log loss, or the mean squared error of the standardised target; of a gan the generator's own loss.
    pub valid_loss: f64,
    /// The headline metric on the validation rows.
    pub valid_metric: f64,
    /// Learning rate in use.
    pub learning_rate: f64,
    /// Wall time of the epoch.
    pub seconds: f64,
    /// Training rows per second.
    pub rows_per_s: f64,
}

/// One architecture that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateReport {
    /// Which one.
    pub architecture: Architecture,
    /// Headline metric on the validation rows.
    pub valid: f64,
    /// Headline metric on the test rows.
    pub test: f64,
    /// Epochs run.
    pub epochs_run: usize,
    /// Numbers learned.
    pub parameters: usize,
    /// Wall time.
    pub seconds: f64,
    /// Whether it won.
    pub chosen: bool,
}

/// One setting of a hyper-parameter search in one round, as `ml.trials` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// From 1; the first of each architecture has the architecture's own settings.
    pub trial: usize,
    /// Round of a halving, from 0.
    pub rung: usize,
    /// The options it set, `arch` among them.
    pub params: serde_json::Value,
    /// Epochs run so far.
    pub epochs: usize,
    /// Headline metric on the validation rows; NaN when it failed.
    pub value: f64,
    /// Wall time so far.
    pub seconds: f64,
    /// What became of it.
    pub state: TrialState,
}

/// What became of a trial in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    /// Went on to the next round.
    Promoted,
    /// Was not among the better ones of its round.
    Dropped,
    /// Ran to its end.
    Done,
    /// The budget ran out before its end.
    Cut,
    /// Its loss did not stay finite.
    Failed,
    /// Ran to its end and is the model.
    Chosen,
}

impl TrialState {
    /// The word that `ml.trials` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Dropped => "dropped",
            Self::Done => "done",
            Self::Cut => "cut",
            Self::Failed => "failed",
            Self::Chosen => "chosen",
        }
    }
}

/// One fold of a cross-validation, as `ml.folds` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldReport {
    /// From 1.
    pub fold: usize,
    /// Rows learned from.
    pub train_rows: usize,
    /// Rows that decided when to stop and calibrated.
    pub valid_rows: usize,
    /// Rows measured, which the fold had not seen.
    pub test_rows: usize,
    /// Headline metric on them; NaN where they have one class only.
    pub value: f64,
    /// What knowing nothing reaches on them.
    pub baseline: f64,
    /// Epochs run.
    pub epochs_run: usize,
    /// Wall time.
    pub seconds: f64,
}

/// One network of an ensemble, as `ml.members` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberReport {
    /// From 1.
    pub member: usize,
    /// Which architecture.
    pub architecture: Architecture,
    /// What it counts for.
    pub weight: f64,
    /// Headline metric of the member alone on the validation rows.
    pub valid: f64,
    /// Epochs run.
    pub epochs_run: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Numbers learned.
    pub parameters: usize,
    /// Wall time.
    pub seconds: f64,
}

/// A finished training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network's shape; of an ensemble, what must be gathered for all members.
    pub config: NetworkConfig,
    /// Its members, when there are several.
    pub ensemble: Option<EnsembleConfig>,
    /// Its weights.
    pub parameters: Parameters,
    /// From logits to probabilities or values; holds the training prior too.
    pub calibration: Calibration,
    /// Epochs run.
    pub epochs_run: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// The headline metric.
    pub metric: Metric,
    /// Its value on the validation rows.
    pub valid: f64,
    /// Its value on the test rows; NaN when there are none.
    pub test: f64,
    /// What a model that knows only the training prior reaches on the test rows.
    pub baseline: f64,
    /// What a logistic regression on recency and frequency reaches on the test rows; binary event targets only.
    pub simple_baseline: Option<f64>,
    /// Every architecture tried, the chosen one included.
    pub candidates: Vec<CandidateReport>,
    /// Every setting that a search tried, round by round.
    pub trials: Vec<TrialReport>,
    /// The networks of an ensemble.
    pub members: Vec<MemberReport>,
    /// What cross-validation found.
    pub folds: Vec<FoldReport>,
    /// The options it was trained with: the request's, and what a search chose.
    pub options: Options,
    /// What a private training spent.
    pub privacy: Option<PrivacyReport>,
    /// Where it was trained: `cpu`, `cuda:0`.
    pub device: String,
    /// What a person should know: a budget that ran out, a target taken in logarithms, batches left out.
    pub notes: Vec<String>,
    /// Wall time of everything.
    pub seconds: f64,
}

impl Trained {
    /// The architecture in words: `gru`, `bagging(dnn)`, `stacking(logreg, gru)`.
    #[must_use]
    pub fn arch(&self) -> String {
        match &self.ensemble {
            None => self.config.architecture.name().to_owned(),
            Some(EnsembleConfig { combine: Combine::Mean, .. }) => format!("bagging({})", self.config.architecture),
            Some(EnsembleConfig { members, .. }) => {
                let names: Vec<&str> = members.iter().map(|member| member.architecture.name()).collect();
                format!("stacking({})", names.join(", "))
            }
        }
    }

    /// The network or networks, ready to answer.
    ///
    /// # Errors
    /// `Internal` or `DataCorrupted` when weights and shape disagree.
    pub fn network(&self) -> Result<Arc<dyn Network>> {
        Ok(Arc::from(models::load_any(&self.config, self.ensemble.as_ref(), &self.parameters)?))
    }
}
