//! From a trained network to lists of items: the best for a user, those like another, and why.
//!
//! Exact: every item is looked at, in products of blocks of users with the whole item table. Equal scores keep the order of
//! the classes (of equals the one more frequent in training comes first), so an answer is the same on every machine.

use std::sync::{Arc, OnceLock};

use super::calibration::{Calibration, Transform};
use super::catalogue::are_items;
use super::ranked::pass_rows;
use super::scorer::Scorer;
use crate::error::Result;
use crate::features::inputs::Inputs;
use crate::models::ops::{log_sum_exp, parallel};
use crate::models::{Batch, ItemTable};

/// No class: an event without an item, or about one outside the catalogue.
pub const NO_CLASS: u32 = u32::MAX;
/// Rows of one pass.
const PASS_ROWS: usize = 256;
/// The latest events that a reason is looked for among.
const REASON_EVENTS: usize = 256;

/// The `k` best of what was offered: higher scores first, of equals what is smaller by `T`.
#[derive(Debug, Clone)]
pub struct Top<T> {
    k: usize,
    held: Vec<(f64, T)>,
}

impl<T: Ord> Top<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new(k: usize) -> Self {
        Self { k, held: Vec::new() }
    }

    /// Whether something of this score and key would be kept.
    fn wants(&self, score: f64, key: &T) -> bool {
        let better = |(held, other): &(f64, T)| score > *held || (score == *held && key < other);
        !score.is_nan() && self.k > 0 && (self.held.len() < self.k || self.held.last().is_some_and(better))
    }

    /// Offers something; what is no number is never kept.
    pub fn offer(&mut self, score: f64, key: T) {
        if self.wants(score, &key) {
            let at = self.held.partition_point(|(held, other)| *held > score || (*held == score && *other < key));
            if self.held.len() == self.k {
                self.held.pop();
            }
            self.held.insert(at, (score, key));
        }
    }

    /// What was kept, best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<(f64, T)> {
        self.held
    }
}

/// What a user did, as far as it is about items.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The class of each event's item, oldest first; [`NO_CLASS`] where there is none.
    pub classes: Vec<u32>,
}

/// Why an item is recommended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// An item of the history adds most to the score: its class, and its share of all that speaks for the item.
    Adds(u32, f64),
    /// An item of the history is nearest to it: its class, and their cosine similarity.
    Like(u32, f64),
    /// The user has met it before.
    Seen,
    /// Nothing is known of the user's items.
    Popular,
    /// What the network makes of the whole history.
    Likely,
}

/// One recommended item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommended {
    /// Its class.
    pub class: u32,
    /// Calibrated probability that it is next; for `mf` and `two_tower` the inner product.
    pub score: f64,
    /// Why.
    pub reason: Reason,
}

/// Item vectors, scaled to unit length.
#[derive(Debug)]
struct Directions {
    vectors: Vec<f32>,
    dim: usize,
}

impl Directions {
    fn new(table: ItemTable) -> Self {
        let ItemTable { mut vectors, dim, .. } = table;
        for vector in vectors.chunks_exact_mut(dim.max(1)) {
            let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
            vector.iter_mut().for_each(|x| *x *= scale);
        }
        Self { vectors, dim }
    }

    fn of(&self, class: u32) -> &[f32] {
        &self.vectors[class as usize * self.dim..][..self.dim]
    }

    fn cosine(&self, a: u32, b: u32) -> f64 {
        self.of(a).iter().zip(self.of(b)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }
}

/// Ranks the items of one model. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Retriever {
    scorer: Scorer,
    is_item: Arc<[bool]>,
    directions: Arc<OnceLock<Option<Directions>>>,
}

impl Retriever {
    /// For a model of `next_item` with these classes.
    #[must_use]
    pub fn new(scorer: Scorer, classes: &[String]) -> Self {
        Self { scorer, is_item: are_items(classes).into(), directions: Arc::default() }
    }

    /// The scorer behind it.
    #[must_use]
    pub const fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// The vectors of the items; `None` for networks without.
    fn directions(&self) -> Result<Option<&Directions>> {
        if let Some(known) = self.directions.get() {
            return Ok(known.as_ref());
        }
        let made = self.scorer.network().items()?.map(Directions::new);
        Ok(self.directions.get_or_init(|| made).as_ref())
    }

    /// Rows whose items are ranked at once without holding too much.
    #[must_use]
    pub fn rows_at_once(&self) -> usize {
        pass_rows(self.scorer.config(), PASS_ROWS)
    }

    /// The `k` best items of each row of `inputs`, in row order. `histories` are those of the rows; items in them are left
    /// out when `unseen` is set.
    ///
    /// # Errors
    /// `Internal` when `inputs` do not have the network's shape.
    pub fn recommend(&self, inputs: &Inputs, histories: &[History], k: usize, unseen: bool) -> Result<Vec<Vec<Recommended>>> {
        let rows: Vec<u32> = (0..inputs.rows as u32).collect();
        let mut found: Vec<Vec<(f64, u32)>> = vec![Vec::new(); inputs.rows];
        self.scorer.passes(inputs, &rows, None, |places, out| {
            let classes = self.is_item.len();
            let best = parallel::map(places.len(), |at| {
                let history = &histories[places[at] as usize];
                self.best(&out.logits[at * classes..(at + 1) * classes], history, k, unseen)
            });
            places.iter().zip(best).for_each(|(place, best)| found[*place as usize] = best);
        })?;
        let mut all = Vec::with_capacity(inputs.rows);
        for (row, best) in found.into_iter().enumerate() {
            let reasons = self.reasons(inputs, row as u32, &histories[row], &best)?;
            let item = |((score, class), reason)| Recommended { class, score, reason };
            all.push(best.into_iter().zip(reasons).map(item).collect());
        }
        Ok(all)
    }

    /// The best items of a row, scored.
    fn best(&self, logits: &[f32], history: &History, k: usize, unseen: bool) -> Vec<(f64, u32)> {
        let mut wanted: Vec<bool> = self.is_item.to_vec();
        if unseen {
            history.classes.iter().filter(|class| **class != NO_CLASS).for_each(|class| wanted[*class as usize] = false);
        }
        let mut top = Top::new(k);
        let calibration = self.scorer.calibration();
        if self.scorer.config().architecture.is_retrieval() {
            offer_all(&mut top, logits.iter().map(|logit| f64::from(*logit)), &wanted);
            return top.into_sorted();
        }
        match &calibration.transform {
            Transform::Temperature { temperature, offsets } if offsets.is_empty() => {
                offer_all(&mut top, logits.iter().map(|logit| f64::from(*logit)), &wanted);
                let norm = log_sum_exp(logits, 1.0 / temperature);
                top.into_sorted().into_iter().map(|(logit, class)| ((logit / temperature - norm).exp(), class)).collect()
            }
            _ => {
                offer_all(&mut top, probabilities(calibration, logits).into_iter(), &wanted);
                top.into_sorted()
            }
        }
    }

    /// Why each of the best is there.
    fn reasons(&self, inputs: &Inputs, row: u32, history: &History, best: &[(f64, u32)]) -> Result<Vec<Reason>> {
        let known = history.classes.iter().rev().take(REASON_EVENTS).copied().filter(|class| *class != NO_CLASS);
        let known: Vec<u32> = known.collect();
        if known.is_empty() {
            return Ok(vec![Reason::Popular; best.len()]);
        }
        let classes: Vec<u32> = best.iter().map(|(_, class)| *class).collect();
        let mut batch = Batch::default();
        Batch::read(inputs, &self.scorer.config().shape, &[row], &mut batch)?;
        if let Some(added) = self.scorer.network().contributions(&batch, &classes)? {
            let steps = batch.seq_len;
            let of = |at: usize, class: u32| why_sum(&added[at * steps..(at + 1) * steps], history, class);
            return Ok(classes.iter().enumerate().map(|(at, class)| of(at, *class)).collect());
        }
        let Some(directions) = self.directions()? else { return Ok(vec![Reason::Likely; best.len()]) };
        Ok(classes.iter().map(|class| why_near(directions, &known, *class)).collect())
    }

    /// The `k` items most like item `class` by the cosine of their vectors, itself not among them; `None` for a network whose
    /// items have no vectors.
    ///
    /// # Errors
    /// `Internal` for a bug of ours.
    pub fn similar_items(&self, class: u32, k: usize) -> Result<Option<Vec<(f64, u32)>>> {
        let Some(directions) = self.directions()? else { return Ok(None) };
        let mut top = Top::new(k);
        for other in (0..self.is_item.len() as u32).filter(|other| *other != class && self.is_item[*other as usize]) {
            top.offer(directions.cosine(class, other), other);
        }
        Ok(Some(top.into_sorted()))
    }
}

fn offer_all(top: &mut Top<u32>, scores: impl Iterator<Item = f64>, wanted: &[bool]) {
    for (class, score) in scores.enumerate() {
        if wanted[class] {
            top.offer(score, class as u32);
        }
    }
}

fn probabilities(calibration: &Calibration, logits: &[f32]) -> Vec<f64> {
    calibration.probabilities(logits, logits.len())
}

/// Of a score that is a sum over steps, the largest part; of equals the latest. `added` is of the latest events.
fn why_sum(added: &[f32], history: &History, class: u32) -> Reason {
    let latest = &history.classes[history.classes.len().saturating_sub(added.len())..];
    let mut largest: Option<(f64, u32)> = None;
    for (part, of) in added.iter().zip(latest).filter(|(part, of)| **part > 0.0 && **of != NO_CLASS) {
        if largest.is_none_or(|largest| f64::from(*part) >= largest.0) {
            largest = Some((f64::from(*part), *of));
        }
    }
    let total: f64 = added.iter().filter(|part| **part > 0.0).map(|part| f64::from(*part)).sum();
    match largest {
        Some((_, of)) if of == class => Reason::Seen,
        Some((part, of)) => Reason::Adds(of, part / total),
        None => Reason::Popular,
    }
}

/// The item of the history nearest to `class`; `known` are its items, latest first.
fn why_near(directions: &Directions, known: &[u32], class: u32) -> Reason {
    if known.contains(&class) {
        return Reason::Seen;
    }
    let mut top = Top::new(1);
    known.iter().enumerate().for_each(|(back, of)| top.offer(directions.cosine(class, *of), back));
    match top.into_sorted().first() {
        Some((cosine, back)) if *cosine > 0.0 => Reason::Like(known[*back], *cosine),
        _ => Reason::Likely,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_in_order_whatever_the_order_of_offers() {
        let offers = [(1.0, 5), (2.0, 9), (2.0, 3), (0.5, 1), (2.0, 7), (f64::NAN, 0), (1.0, 4)];
        for turn in 0..offers.len() {
            let mut top = Top::new(4);
            offers.iter().cycle().skip(turn).take(offers.len()).for_each(|(score, key)| top.offer(*score, *key));
            assert_eq!(top.into_sorted(), [(2.0, 3), (2.0, 7), (2.0, 9), (1.0, 4)]);
        }
        let mut none = Top::new(0);
        none.offer(1.0, 1);
        assert!(none.into_sorted().is_empty());
    }

    #[test]
    fn reasons_name_the_item_that_counts_most() {
        let history = History { classes: vec![8, 4, NO_CLASS, 6] };
        assert_eq!(why_sum(&[0.25, 1.0, 0.5], &history, 2), Reason::Adds(6, 0.5 / 1.75));
        assert_eq!(why_sum(&[0.5, 0.0, -0.3], &history, 4), Reason::Seen);
        assert_eq!(why_sum(&[-0.5, 0.0, -0.3], &history, 4), Reason::Popular);
        let table = ItemTable { vectors: vec![2.0, 0.0, 0.0, 3.0, 1.0, 1.0, -1.0, 0.0], biases: Vec::new(), dim: 2 };
        let directions = Directions::new(table);
        assert!(matches!(why_near(&directions, &[1, 2], 0), Reason::Like(2, cosine) if (cosine - 0.5f64.sqrt()).abs() < 1e-6));
        assert_eq!(why_near(&directions, &[1, 0], 0), Reason::Seen);
        assert_eq!(why_near(&directions, &[3, 1], 0), Reason::Likely);
    }
}
