//! Where the truth stands when a network over items ranks the whole catalogue: never a sample of it, and never all
//! rows' scores in memory at once.

use super::metrics::ranking::{self, Ranking};
use crate::models::ops::{log_sum_exp, parallel};
use crate::models::{Architecture, NetworkConfig};

/// Classes up to which a network over items learns from and is measured by all of its probabilities at once, as it is with
/// any other target. With more of them it learns from a sample of them at each step, and is measured by its ranking.
pub const DENSE_CLASSES_MAX: usize = 2002;
/// Logits held at once.
const LOGITS_MAX: usize = 1 << 24;

/// Whether a model of `next_item` is measured by its ranking of the items instead of its probabilities.
#[must_use]
pub const fn is_ranked(architecture: Architecture, classes: usize) -> bool {
    architecture.is_retrieval() || classes > DENSE_CLASSES_MAX
}

/// Rows of a pass whose logits are held: `most`, or fewer where outputs are many.
#[must_use]
pub fn pass_rows(config: &NetworkConfig, most: usize) -> usize {
    config.shape.pass_rows(most).min((LOGITS_MAX / config.outputs.max(1)).max(1))
}

/// Some rows of a source, ranked. Vectors have one entry per row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standings {
    /// The truth.
    pub labels: Vec<u32>,
    /// How many other items score as high as the true one or higher; `None` when the truth is no item.
    pub ranks: Vec<Option<u32>>,
    /// −ln of the probability of the truth, over all classes.
    pub losses: Vec<f64>,
}

impl Standings {
    /// Of `rows` rows, to be filled in.
    #[must_use]
    pub fn of(labels: Vec<u32>) -> Self {
        let rows = labels.len();
        Self { labels, ranks: vec![None; rows], losses: vec![f64::NAN; rows] }
    }

    /// Fills in the rows `places` from their logits, `[places.len(), classes]`. Probabilities are those of `logits / temperature`.
    pub fn fill(&mut self, places: &[u32], logits: &[f32], is_item: &[bool], temperature: f64) {
        let classes = is_item.len();
        let labels = &self.labels;
        let found = parallel::map(places.len(), |at| {
            let (row, label) = (&logits[at * classes..(at + 1) * classes], labels[places[at] as usize] as usize);
            let loss = log_sum_exp(row, 1.0 / temperature) - f64::from(row[label]) / temperature;
            (is_item[label].then(|| ranking::rank_among(row, label, is_item)), loss)
        });
        for (place, (rank, loss)) in places.iter().zip(found) {
            self.ranks[*place as usize] = rank;
            self.losses[*place as usize] = loss;
        }
    }

    /// The same rows as a model ranks them that always names the items most frequent in training.
    #[must_use]
    pub fn popular(&self, prior: &[f64], is_item: &[bool]) -> Self {
        let by_class = ranking::constant_ranks(prior, is_item);
        let of = |label: &u32| is_item[*label as usize].then(|| by_class[*label as usize]);
        let loss = |label: &u32| -prior[*label as usize].max(f64::MIN_POSITIVE).ln();
        Self { labels: self.labels.clone(), ranks: self.labels.iter().map(of).collect(), losses: self.labels.iter().map(loss).collect() }
    }

    /// Mean loss; NaN without rows.
    #[must_use]
    pub fn log_loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// The ranks to measure. `classes` are the class names: where the truth is an item outside the catalogue
    /// (`other`) no ranking can find it; where it is `none` there was no item to find and the row does not count.
    #[must_use]
    pub fn ranking(&self, other: Option<u32>) -> Ranking {
        let rank = |(label, rank): (&u32, &Option<u32>)| match rank {
            Some(rank) => Some(Some(*rank)),
            None if Some(*label) == other => Some(None),
            None => None,
        };
        Ranking(self.labels.iter().zip(&self.ranks).filter_map(rank).collect())
    }

    /// The rows `rows` of these.
    #[must_use]
    pub fn part(&self, rows: &[u32]) -> Self {
        let at = |row: &u32| *row as usize;
        Self {
            labels: rows.iter().map(|row| self.labels[at(row)]).collect(),
            ranks: rows.iter().map(|row| self.ranks[at(row)]).collect(),
            losses: rows.iter().map(|row| self.losses[at(row)]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_where_they_belong() {
        let is_item = [true, true, true, false];
        let mut standings = Standings::of(vec![1, 3, 0]);
        // Row 2: the truth (class 0) ties with class 2; class 3 is no item and stands above nobody.
        standings.fill(&[2, 0], &[1.0, 0.0, 1.0, 9.0, 0.0, 2.0, 1.0, 9.0], &is_item, 1.0);
        standings.fill(&[1], &[0.0, 0.0, 0.0, 0.0], &is_item, 1.0);
        assert_eq!(standings.ranks, [Some(0), None, Some(1)]);
        assert!((standings.losses[1] - 4f64.ln()).abs() < 1e-6);
        assert_eq!(standings.ranking(None).0, [Some(0), Some(1)]);
        assert_eq!(standings.ranking(Some(3)).0, [Some(0), None, Some(1)]);
        let popular = standings.popular(&[0.2, 0.5, 0.2, 0.1], &is_item);
        assert_eq!(popular.ranks, [Some(0), None, Some(2)]);
        assert_eq!(standings.part(&[2]).ranks, [Some(1)]);
    }
}
