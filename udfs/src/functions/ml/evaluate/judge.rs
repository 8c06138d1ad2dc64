//! What a model says about labelled rows, beside the truth: the base of every quality function.

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::features::Dataset;
use crate::features::inputs::Labels;
use crate::functions::ml::train::read::{Loaded, blocking};
use crate::registry::LoadedModel;
use crate::train::catalogue::{are_items, other_class};
use crate::train::metrics::{
    MetricRow, NDCG_CUTOFF, evaluate_classes, evaluate_ranking, evaluate_values, headline_classes, headline_values,
};
use crate::train::ranked::{DENSE_CLASSES_MAX, Standings, is_ranked};
use crate::train::{Metric, Scores};

/// Test rows with their scores.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) dataset: Dataset,
    pub(crate) scores: Scores,
    pub(crate) classes: Vec<String>,
    prior: Vec<f64>,
    /// Where the true items stand, when the classes are items.
    standings: Option<Standings>,
    /// Whether the ranking of items is the headline.
    ranked: bool,
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
        let manifest = &model.manifest;
        let classes = manifest.info.classes.clone();
        let ranked = dataset.of_items && is_ranked(manifest.config.architecture, classes.len());
        let is_item = are_items(&classes);
        let (dataset, scores, standings) = blocking(move || {
            let rows: Vec<u32> = (0..dataset.split.len() as u32).collect();
            // Probabilities of all classes of all rows are held where there are few classes only.
            let held = !dataset.of_items || is_item.len() <= DENSE_CLASSES_MAX;
            let scores = if held { scorer.score_rows(&dataset.inputs, &rows, Some(&cancel))? } else { Scores::default() };
            let standings = match &dataset.labels {
                Labels::Class(labels) if dataset.of_items => {
                    Some(scorer.stand(&dataset.inputs, &rows, labels.clone(), &is_item, Some(&cancel))?)
                }
                _ => None,
            };
            Ok((dataset, scores, standings))
        })
        .await?;
        drop(memory);
        Ok(Self { dataset, scores, classes, prior: manifest.calibration.prior.clone(), standings, ranked })
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

    /// The headline of all rows in `metric`, where both kinds of headline are known.
    pub(crate) fn headline_in(&self, metric: Metric) -> Headline {
        let rows: Vec<u32> = (0..self.dataset.split.len() as u32).collect();
        match &self.standings {
            Some(standings) if metric == Metric::Ndcg => self.ranking_of(standings, &rows),
            _ => self.headline_of(&rows),
        }
    }

    fn ranking_of(&self, standings: &Standings, rows: &[u32]) -> Headline {
        let (own, other, is_item) = (standings.part(rows), other_class(&self.classes), are_items(&self.classes));
        let ndcg = |standings: &Standings| standings.ranking(other).ndcg_at(NDCG_CUTOFF);
        let baseline = ndcg(&own.popular(&self.prior, &is_item));
        Headline { metric: Metric::Ndcg, value: ndcg(&own), baseline, rows: rows.len() as u64 }
    }

    /// The metric of some rows: the same as if only they had been read, since a row is scored by itself.
    pub(crate) fn headline_of(&self, rows: &[u32]) -> Headline {
        if let Some(standings) = self.standings.as_ref().filter(|_| self.ranked) {
            return self.ranking_of(standings, rows);
        }
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
        if let Some(standings) = &self.standings {
            return self.item_metrics(standings);
        }
        if self.classes.is_empty() {
            let prior = [self.prior.first().copied().unwrap_or(0.0), self.prior.get(1).copied().unwrap_or(0.0)];
            evaluate_values(&self.truth(), &self.scores.values, prior)
        } else {
            evaluate_classes(self.labels(), &self.scores.probabilities, &self.prior)
        }
    }

    /// Of items, the ranking of the whole catalogue beside that of the most popular ones; what else there is of few classes.
    fn item_metrics(&self, standings: &Standings) -> Vec<MetricRow> {
        let popular = standings.popular(&self.prior, &are_items(&self.classes));
        let other = other_class(&self.classes);
        let ranking = evaluate_ranking(&standings.ranking(other), &popular.ranking(other));
        if self.scores.probabilities.is_empty() {
            let n = standings.labels.len() as u64;
            let (value, baseline) = (standings.log_loss(), popular.log_loss());
            let loss = MetricRow { metric: "log_loss".to_owned(), class: None, value, baseline, n };
            return std::iter::once(loss).chain(ranking).collect();
        }
        let all = evaluate_classes(self.labels(), &self.scores.probabilities, &self.prior);
        let (of_class, mut rows): (Vec<_>, Vec<_>) = all.into_iter().partition(|row| row.class.is_some());
        rows.retain(|row| !row.metric.contains('@'));
        rows.into_iter().chain(ranking).chain(of_class).collect()
    }

    /// Succeeds when the probabilities of all classes are known.
    ///
    /// # Errors
    /// 22023 for a model of many items.
    pub(crate) fn check_probabilities(&self) -> Result<()> {
        if self.standings.is_some() && self.scores.probabilities.is_empty() {
            return Err(Error::invalid(format!("the model has {} classes, too many for this", self.classes.len()))
                .hint("evaluate_model measures how it ranks them."));
        }
        Ok(())
    }

    /// The calibrated probability of `class` in each row.
    ///
    /// # Errors
    /// As [`check_probabilities`](Self::check_probabilities).
    pub(crate) fn probabilities_of(&self, class: usize) -> Result<Vec<f64>> {
        self.check_probabilities()?;
        Ok(self.scores.probabilities.chunks_exact(self.classes.len().max(1)).map(|row| row[class]).collect())
    }

    /// Whether each row is of `class`.
    pub(crate) fn is_class(&self, class: usize) -> Vec<bool> {
        self.labels().iter().map(|label| *label as usize == class).collect()
    }
}
