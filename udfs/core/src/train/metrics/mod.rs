//! Quality measures on slices, each with the baseline that a model without knowledge reaches.
//!
//! Pure functions; classes are indices, probabilities `[rows, classes]` row-major `f64`. Definitions follow
//! scikit-learn 1.x (average precision for `pr_auc`, ties handled as there); the tests hold its numbers.

pub mod classification;
pub mod curves;
pub mod ranking;
pub mod regression;
pub mod report;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use classification::{Confusion, accuracy, brier, confusion, ece, log_loss, most_likely};
pub use curves::{CalibrationBin, CurvePoint, LiftBucket, calibration_bins, lift_table, pr_auc, pr_curve, roc_auc, roc_curve};
pub use ranking::{Ranking, ndcg_at_k, recall_at_k};
pub use regression::{mae, r2, rmse};
pub use report::{MetricRow, evaluate_classes, evaluate_ranking, evaluate_values, headline_classes, headline_values};

/// The headline metric of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Area under the precision-recall curve (average precision) of the positive class; two classes.
    PrAuc,
    /// Mean negative log probability of the truth; more than two classes.
    LogLoss,
    /// Root of the mean squared error; numbers.
    Rmse,
    /// Discounted gain of the true item among the first ten of the whole catalogue; items.
    Ndcg,
    /// Mean squared error and cross-entropy per feature of rows that went through an autoencoder.
    ReconstructionError,
    /// Mean distance of the distributions of generated columns from real ones, from 0 to 1.
    ColumnDistance,
}

/// Where [`Metric::Ndcg`] cuts.
pub const NDCG_CUTOFF: usize = 10;

impl Metric {
    /// The name in result rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrAuc => "pr_auc",
            Self::LogLoss => "log_loss",
            Self::Rmse => "rmse",
            Self::Ndcg => "ndcg@10",
            Self::ReconstructionError => "reconstruction_error",
            Self::ColumnDistance => "column_distance",
        }
    }

    /// Whether a larger value is a better one.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Self::PrAuc | Self::Ndcg)
    }

    /// Whether `a` is strictly better than `b`; a number is better than NaN.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        if b.is_nan() {
            return !a.is_nan();
        }
        if self.higher_is_better() { a > b } else { a < b }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
