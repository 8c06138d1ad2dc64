//! What a model says about labelled rows, beside the truth: the base of every quality function.

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::features::Dataset;
use crate::features::inputs::Labels;
use crate::functions::ml::train::read::{Loaded, blocking};
use crate::registry::LoadedModel;
use crate::train::metrics::{MetricRow, evaluate_classes, evaluate_values, headline_classes, headline_values};
use crate::train::{Metric, Scores};

/// Test rows with their scores.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) dataset: Dataset,
    pub(crate) scores: Scores,
    pub(crate) classes: Vec<String>,
    prior: Vec<f64>,
}

/// The headline metric with its baseline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headline {
    pub(crate) metric: Metric,
    pub(crate) value: f64,
    pub(crate) baseline: f64,
    pub(crate) rows: u64,
}

impl Judged {
    /// Scores every row of a dataset that was encoded with the model's own encoder.
    pub(crate) async fn new(loaded: Loaded, model: &LoadedModel, cancel: &CancellationToken) -> Result<Self> {
        let scorer = model.scorer.clone();
        let cancel = cancel.clone();
        let Loaded { dataset, memory } = loaded;
        if dataset.split.is_empty() {
            return Err(Error::invalid("there is nothing to measure: no labelled row in the window")
                .hint("The window must reach a horizon before the last event; since and until move it."));
        }
        let (dataset, scores) = blocking(move || {
            let rows: Vec<u32> = (0..dataset.split.len() as u32).collect();
            let scores = scorer.score_rows(&dataset.inputs, &rows, Some(&cancel))?;
            Ok((dataset, scores))
        })
        .await?;
        drop(memory);
        let manifest = &model.manifest;
        Ok(Self { dataset, scores, classes: manifest.info.classes.clone(), prior: manifest.calibration.prior.clone() })
    }

    /// The class of each row; empty for numbers.
    pub(crate) fn labels(&self) -> &[u32] {
        match &self.dataset.labels {
            Labels::Class(labels) => labels,
            Labels::Value(_) => &[],
        }
    }

    /// The number of each row; empty for classes.
    pub(crate) fn truth(&self) -> Vec<f64> {
        match &self.dataset.labels {
            Labels::Value(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Labels::Class(_) => vec![],
        }
    }

    /// The metric that the training row shows.
    pub(crate) fn headline(&self) -> Headline {
        self.headline_of(&(0..self.dataset.split.len() as u32).collect::<Vec<_>>())
    }

    /// The metric of some rows: the same as if only they had been read, since a row is scored by itself.
    pub(crate) fn headline_of(&self, rows: &[u32]) -> Headline {
        let (metric, value, baseline) = match &self.dataset.labels {
            Labels::Value(values) => {
                let truth: Vec<f64> = rows.iter().map(|row| f64::from(values[*row as usize])).collect();
                let predicted: Vec<f64> = rows.iter().map(|row| self.scores.values[*row as usize]).collect();
                headline_values(&truth, &predicted, self.prior.first().copied().unwrap_or(0.0))
            }
            Labels::Class(labels) => {
                let classes = self.classes.len();
                let labels: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
                let probabilities = rows.iter().flat_map(|row| &self.scores.probabilities[*row as usize * classes..][..classes]);
                headline_classes(&labels, &probabilities.copied().collect::<Vec<_>>(), &self.prior)
            }
        };
        Headline { metric, value, baseline, rows: rows.len() as u64 }
    }

    /// Every metric with its baseline.
    pub(crate) fn metrics(&self) -> Vec<MetricRow> {
        if self.classes.is_empty() {
            let prior = [self.prior.first().copied().unwrap_or(0.0), self.prior.get(1).copied().unwrap_or(0.0)];
            evaluate_values(&self.truth(), &self.scores.values, prior)
        } else {
            evaluate_classes(self.labels(), &self.scores.probabilities, &self.prior)
        }
    }

    /// The calibrated probability of `class` in each row.
    pub(crate) fn probabilities_of(&self, class: usize) -> Vec<f64> {
        self.scores.probabilities.chunks_exact(self.classes.len().max(1)).map(|row| row[class]).collect()
    }

    /// Whether each row is of `class`.
    pub(crate) fn is_class(&self, class: usize) -> Vec<bool> {
        self.labels().iter().map(|label| *label as usize == class).collect()
    }
}
