//! Smaller models from trained ones: what a compressed network is worth, its calibration, and vocabularies cut down to what
//! matters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::calibration::Transform;
use super::metrics::{headline_classes, headline_values};
use super::{Calibration, Metric, Scorer};
use crate::error::{Error, Result};
use crate::features::encoder::{FeatureKind, FeatureVocabulary};
use crate::features::inputs::{Inputs, Labels, Rows};
use crate::features::vocabulary::{NULL_ID, UNSEEN_ID};
use crate::features::{Dataset, Encoder};
use crate::models::{Architecture, Batch, Network, NetworkConfig, Parameters};

/// Rows of a pass whose time is taken: those of one pass of the [scorer](Scorer).
const TIMED_ROWS: usize = 256;
/// Passes at least, and the time that they take together at least, unless there are [`PASSES_MAX`].
const PASSES_MIN: usize = 3;
const PASSES_MAX: usize = 200;
const TIMED: Duration = Duration::from_millis(150);
/// Ids that stand for no string of their own: NULL and unseen.
const RESERVED: usize = 2;

/// The headline metric of a model on some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Which metric.
    pub metric: Metric,
    /// Its value; NaN without rows.
    pub value: f64,
}

/// A model's figures on validation and test rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// On the rows that calibration is fitted on.
    pub valid: Measured,
    /// On the rows that nothing was fitted on.
    pub test: Measured,
}

impl Measures {
    /// Scores the validation and test rows of a dataset that `scorer` can read.
    ///
    /// # Errors
    /// `Cancelled`; `Internal` when the rows do not have the network's shape.
    pub fn of(scorer: &Scorer, dataset: &Dataset, cancel: &CancellationToken) -> Result<Self> {
        let measure = |part| measured(scorer, dataset, part, cancel);
        Ok(Self { valid: measure(Rows::Validation)?, test: measure(Rows::Test)? })
    }
}

fn measured(scorer: &Scorer, dataset: &Dataset, part: Rows, cancel: &CancellationToken) -> Result<Measured> {
    let rows = dataset.rows_of(part);
    let scores = scorer.score_rows(&dataset.inputs, &rows, Some(cancel))?;
    let prior = &scorer.calibration().prior;
    let (metric, value) = match &dataset.labels {
        Labels::Class(labels) => {
            let labels: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
            let (metric, value, _) = headline_classes(&labels, &scores.probabilities, prior);
            (metric, value)
        }
        Labels::Value(values) => {
            let truth: Vec<f64> = rows.iter().map(|row| f64::from(values[*row as usize])).collect();
            let (metric, value, _) = headline_values(&truth, &scores.values, prior.first().copied().unwrap_or(0.0));
            (metric, value)
        }
    };
    Ok(Measured { metric, value: if rows.is_empty() { f64::NAN } else { value } })
}

/// Rows that a network scores in a second on the calling thread, the best of several passes; NaN without rows.
///
/// # Errors
/// `Cancelled`; `Internal` when the rows do not have the network's shape.
pub fn rate(network: &dyn Network, inputs: &Inputs, cancel: &CancellationToken) -> Result<f64> {
    let shape = &network.config().shape;
    let count = inputs.rows.min(shape.pass_rows(TIMED_ROWS));
    if count == 0 {
        return Ok(f64::NAN);
    }
    // Rows from everywhere: the first ones of a log are its shortest histories.
    let rows: Vec<u32> = (0..count).map(|at| (at * inputs.rows / count) as u32).collect();
    let mut batch = Batch::default();
    Batch::read(inputs, shape, &rows, &mut batch)?;
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    for pass in 0..PASSES_MAX {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if pass >= PASSES_MIN && began.elapsed() >= TIMED {
            break;
        }
        let own = Instant::now();
        network.forward(&batch)?;
        best = best.min(own.elapsed().as_secs_f64());
    }
    Ok(count as f64 / best.max(1e-9))
}

/// The calibration of a compressed network, fitted as that of the network it comes from: on the validation rows of a dataset
/// that it can read. Without such rows it is the one before.
///
/// # Errors
/// `Cancelled`; `Internal` when the rows do not have the network's shape.
pub fn recalibrated(
    network: &Arc<dyn Network>,
    before: &Calibration,
    dataset: &Dataset,
    cancel: &CancellationToken,
) -> Result<Calibration> {
    let rows = dataset.rows_of(Rows::Validation);
    if rows.is_empty() {
        return Ok(before.clone());
    }
    let logits = Scorer::new(Arc::clone(network), before.clone()).logits(&dataset.inputs, &rows, Some(cancel))?;
    let classes = network.config().outputs;
    Ok(match (&dataset.labels, &before.transform) {
        (Labels::Class(labels), transform) => {
            let labels: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
            match transform {
                Transform::Temperature { offsets, .. } if !offsets.is_empty() => {
                    Calibration::fit_shifted_classes(&logits, &labels, classes, before.prior.clone())
                }
                _ => Calibration::fit_classes(&logits, &labels, classes, before.prior.clone()),
            }
        }
        (Labels::Value(values), _) => {
            let truth = rows.iter().map(|row| f64::from(values[*row as usize])).sum::<f64>();
            rescaled(before, &logits, truth)
        }
    })
}

/// A calibration of numbers whose predictions sum up to `truth`, where the one before was fitted so.
fn rescaled(before: &Calibration, logits: &[f32], truth: f64) -> Calibration {
    let mut calibration = before.clone();
    if let Transform::Value { log1p: true, scale, .. } = &mut calibration.transform {
        *scale = 1.0;
        let promised: f64 = calibration.values(logits).iter().sum();
        if let (true, Transform::Value { scale, .. }) = (promised > 0.0 && truth > 0.0, &mut calibration.transform) {
            *scale = (truth / promised).clamp(0.2, 5.0);
        }
    }
    calibration
}

/// Which strings a vocabulary keeps.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// So many, the most frequent ones.
    Most(usize),
    /// Those seen so often in the training rows of a dataset.
    Seen(u64, &'a Dataset),
}

/// A model with smaller vocabularies.
#[derive(Debug, Clone)]
pub struct Pruned {
    /// Knows fewer strings.
    pub encoder: Encoder,
    /// Reads fewer ids.
    pub config: NetworkConfig,
    /// Has shorter tables.
    pub parameters: Parameters,
    /// Strings that are now unseen.
    pub dropped: usize,
    /// What the ids of each vocabulary became.
    changes: Vec<Change>,
}

/// The ids of one vocabulary, before and after.
#[derive(Debug, Clone)]
struct Change {
    token: bool,
    index: usize,
    /// By id before.
    after: Vec<u32>,
}

impl Pruned {
    /// Rows that were encoded before, as the smaller encoder would encode them.
    #[must_use]
    pub fn encoded(&self, dataset: &Dataset) -> Dataset {
        let mut own = Dataset { encoder: self.encoder.clone(), ..dataset.clone() };
        let width = dataset.encoder.shape().categorical.len();
        let fields = dataset.encoder.shape().sequence.as_ref().map_or(0, |sequence| sequence.fields.len());
        for change in &self.changes {
            let (ids, stride) = match (change.token, &mut own.inputs.sequence) {
                (true, Some(sequence)) => (&mut sequence.tokens, fields),
                (true, None) => continue,
                (false, _) => (&mut own.inputs.categorical, width),
            };
            ids.iter_mut().skip(change.index).step_by(stride.max(1)).for_each(|id| *id = change.after[*id as usize]);
        }
        own
    }
}

/// Forgets the strings that `keep` does not name: they become unseen, and their vectors go. No vocabulary becomes so small
/// that vectors of its width would be too wide for it.
///
/// # Errors
/// `Internal` when encoder, network and weights disagree.
pub fn prune(encoder: &Encoder, config: &NetworkConfig, parameters: &Parameters, keep: Keep<'_>) -> Result<Pruned> {
    let (mut config, mut parameters) = (config.clone(), parameters.clone());
    let (mut kept, mut changes, mut dropped) = (Vec::new(), Vec::new(), 0);
    for vocabulary in encoder.vocabularies() {
        let strings: Vec<u32> = vocabulary.strings().map(|(id, _)| id as u32).collect();
        let Some((shape, values)) = parameters.0.get_mut(&vocabulary.table()).filter(|_| !strings.is_empty()) else {
            kept.push(strings);
            continue;
        };
        if shape.len() != 2 || shape[0] != vocabulary.size {
            return Err(Error::internal(format!("table \"{}\" does not fit its vocabulary", vocabulary.table())));
        }
        let width = shape[1];
        // A table of width w belongs to at least 2w − 1 ids.
        let least = if config.architecture == Architecture::Logreg { 0 } else { (2 * width - 1).saturating_sub(RESERVED) };
        let own = ids(&strings, &vocabulary, keep, least);
        dropped += strings.len() - own.len();
        let rows: Vec<f32> =
            (0..RESERVED as u32).chain(own.iter().copied()).flat_map(|id| &values[id as usize * width..][..width]).copied().collect();
        shape[0] = RESERVED + own.len();
        *values = rows;
        let size = shape[0];
        let token = vocabulary.kind == FeatureKind::Token;
        match (token, &mut config.shape.sequence) {
            (true, Some(sequence)) => sequence.fields[vocabulary.index] = size,
            _ => config.shape.categorical[vocabulary.index] = size,
        }
        let mut after = vec![UNSEEN_ID; vocabulary.size];
        after[NULL_ID as usize] = NULL_ID;
        own.iter().enumerate().for_each(|(at, id)| after[*id as usize] = (RESERVED + at) as u32);
        changes.push(Change { token, index: vocabulary.index, after });
        kept.push(own);
    }
    Ok(Pruned { encoder: encoder.knowing_only(&kept), config, parameters, dropped, changes })
}

/// The ids that stay, ascending: at least `least` of them, the most frequent ones first.
fn ids(strings: &[u32], vocabulary: &FeatureVocabulary<'_>, keep: Keep<'_>, least: usize) -> Vec<u32> {
    match keep {
        Keep::Most(count) => strings.iter().copied().take(count.max(least)).collect(),
        Keep::Seen(count_min, dataset) => {
            let counts = counts(dataset, vocabulary);
            let seen = |id: &u32| counts.get(*id as usize).copied().unwrap_or(0) >= count_min;
            let often = strings.iter().filter(|id| seen(id)).count();
            let mut more = least.saturating_sub(often);
            let mut stays = |id: &u32| {
                let extra = !seen(id) && more > 0;
                more -= usize::from(extra);
                seen(id) || extra
            };
            strings.iter().copied().filter(|id| stays(id)).collect()
        }
    }
}

/// How often each id of a vocabulary occurs in the training rows; a step that several rows read counts once.
fn counts(dataset: &Dataset, vocabulary: &FeatureVocabulary<'_>) -> Vec<u64> {
    let mut counts = vec![0u64; vocabulary.size];
    let mut count = |id: u32| {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    };
    let rows = dataset.rows_of(Rows::Train);
    let shape = dataset.encoder.shape();
    if vocabulary.kind != FeatureKind::Token {
        let width = shape.categorical.len();
        rows.iter().for_each(|row| count(dataset.inputs.categorical[*row as usize * width + vocabulary.index]));
        return counts;
    }
    let (Some(shape), Some(steps)) = (&shape.sequence, &dataset.inputs.sequence) else { return counts };
    let fields = shape.fields.len();
    let mut seen = vec![false; steps.tokens.len() / fields.max(1)];
    for row in rows {
        let (start, len) = steps.spans[row as usize];
        for step in start as usize..(start + len) as usize {
            if !std::mem::replace(&mut seen[step], true) {
                count(steps.tokens[step * fields + vocabulary.index]);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests;
