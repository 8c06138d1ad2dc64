//! Learning which of many items comes next: a loss over a sample of the catalogue, sweeps of matrix factorisation, and
//! validation by the ranking of all items.

use std::sync::Arc;
use std::time::Instant;

use super::{Data, EVALUATION_ROWS, End, Epoch, Fit, Targets, Watch};
use crate::error::{Error, Result};
use crate::models::architecture::{Weights, outputs};
use crate::models::ops::{self, Philox, Tape, Var, storage};
use crate::models::{Architecture, Batch, Module};
use crate::train::Progress;
use crate::train::als::Als;
use crate::train::hyper::Hyper;
use crate::train::metrics::NDCG_CUTOFF;
use crate::train::ranked::{DENSE_CLASSES_MAX, Standings, is_ranked};

/// Logits of the validation rows that an epoch's end computes at most.
const VALIDATION_LOGITS_MAX: usize = 1 << 29;

/// What a fit over items has beside an ordinary one.
#[derive(Debug)]
pub(super) struct Items {
    how: How,
    is_item: Vec<bool>,
    /// Rows whose ranking decides when to stop.
    validation: Vec<u32>,
}

#[derive(Debug)]
enum How {
    /// All logits, as with any other target.
    Dense,
    /// All items, block by block.
    Full,
    /// The batch's own items and some drawn evenly.
    Sampled(Sampling),
    /// Closed-form sweeps.
    Sweeps(Box<Als>),
}

/// How items are drawn.
#[derive(Debug)]
struct Sampling {
    /// Share of each class among the training rows.
    shares: Vec<f64>,
    /// Items drawn evenly at each step, beside the batch's own.
    negatives: usize,
}

/// The items that one step looks at.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Classes, ascending; `None` = all.
    ids: Option<Arc<[u32]>>,
    /// What is added to the logits of other rows' items.
    corrections: Option<Vec<f32>>,
    classes: usize,
}

impl Sampling {
    /// The items of a step whose rows have these labels. With `rows` rows a class of share p is another row's with the chance
    /// `1 − (1 − p)^(rows − 1)`, and drawn with `1 − (1 − 1/classes)^negatives`.
    fn choose(&self, labels: impl ExactSizeIterator<Item = u32>, random: Philox) -> Chosen {
        let (rows, classes) = (labels.len(), self.shares.len());
        let mut ids: Vec<u32> = labels.chain((0..self.negatives as u64).map(|at| random.below(at, classes as u32))).collect();
        ids.sort_unstable();
        ids.dedup();
        let missed = self.negatives as f64 * (-1.0 / classes as f64).ln_1p();
        let correction = |id: &u32| {
            let share = self.shares[*id as usize].min(1.0 - 1e-9);
            let missed = (rows.saturating_sub(1)) as f64 * (-share).ln_1p() + missed;
            -(-missed.exp_m1()).max(f64::MIN_POSITIVE).ln() as f32
        };
        let corrections = ids.iter().map(correction).collect();
        Chosen { ids: Some(ids.into()), corrections: Some(corrections), classes }
    }
}

impl Items {
    /// `None` when the classes are no items, or few and learned as with any other target.
    ///
    /// # Errors
    /// `InvalidParameter` when the architecture cannot learn from so many items, or nothing can be factorised.
    pub(super) fn new(data: &Data<'_>, hyper: &Hyper, module: &dyn Module) -> Result<Option<Self>> {
        let (architecture, classes) = (hyper.config.architecture, hyper.config.outputs);
        let Some(catalogue) = data.catalogue.filter(|_| is_ranked(architecture, classes)) else { return Ok(None) };
        let how = match (architecture, catalogue.shape) {
            (Architecture::Mf, Some(shape)) => How::Sweeps(Box::new(Als::new(data, hyper, shape)?)),
            _ if classes <= DENSE_CLASSES_MAX => How::Dense,
            _ if !module.has_items() => return Err(too_many(architecture, classes)),
            _ if hyper.negatives == 0 => How::Full,
            _ => How::Sampled(Sampling { shares: shares(data, classes), negatives: hyper.negatives.min(classes) }),
        };
        let most = (VALIDATION_LOGITS_MAX / classes.max(1)).max(1);
        let step = data.validation.len().div_ceil(most).max(1);
        let validation = data.validation.iter().copied().step_by(step).collect();
        Ok(Some(Self { how, is_item: catalogue.is_item.clone(), validation }))
    }

    /// What a person should know.
    pub(super) fn note(&self, data: &Data<'_>) -> Option<String> {
        let (used, all) = (self.validation.len(), data.validation.len());
        (used < all).then(|| format!("{used} of {all} validation rows, evenly spaced, decided when to stop"))
    }

    /// The items of a step; `None` when it looks at all logits as any other fit does.
    pub(super) fn choose(&self, data: &Data<'_>, rows: &[u32], random: Philox) -> Option<Chosen> {
        match (&self.how, &data.targets) {
            (How::Sampled(sampling), Targets::Classes(labels)) => {
                Some(sampling.choose(rows.iter().map(|row| labels[*row as usize]), random))
            }
            (How::Full, _) => Some(Chosen { ids: None, corrections: None, classes: self.is_item.len() }),
            _ => None,
        }
    }

    /// Whether sweeps take the place of steps.
    pub(super) fn sweeps(&self) -> bool {
        matches!(self.how, How::Sweeps(_))
    }
}

impl Chosen {
    /// The mean loss of a shard's rows, whose labels are `targets`.
    pub(super) fn loss(&self, module: &dyn Module, tape: &Tape, weights: &Weights, batch: &Batch, targets: &[u32]) -> Result<Var> {
        let states = module.states(tape, weights, batch)?.ok_or_else(|| Error::internal("a network without items was given many"))?;
        let ids: Arc<[u32]> = self.ids.clone().unwrap_or_else(|| (0..self.classes as u32).collect());
        let (items, biases) = match &self.ids {
            None if weights.get("output.bias").is_ok() => {
                (weights.get("output.weight")?.clone(), Some(weights.get("output.bias")?.clone()))
            }
            _ => module.items(tape, weights, &ids)?,
        };
        let place = |target: &u32| ids.binary_search(target).map(|at| at as u32);
        let places = targets.iter().map(place).collect::<std::result::Result<_, _>>();
        let places: Arc<[u32]> = places.map_err(|_| Error::internal("a row's own item was not chosen"))?;
        ops::linear_cross_entropy(tape, &states, &items, biases.as_ref(), &places, self.corrections.as_deref())
    }
}

fn too_many(architecture: Architecture, classes: usize) -> Error {
    Error::invalid(format!("architecture \"{architecture}\" cannot learn from so many items"))
        .detail(format!("There are {classes} classes; it takes at most {DENSE_CLASSES_MAX}."))
        .hint("Use arch => 'gru', 'transformer', 'two_tower' or 'mf', or fewer items: max_items => 2000.")
}

fn shares(data: &Data<'_>, classes: usize) -> Vec<f64> {
    let mut counts = vec![0f64; classes];
    if let Targets::Classes(labels) = &data.targets {
        data.train.iter().for_each(|row| counts[labels[*row as usize] as usize] += 1.0);
    }
    let total = data.train.len().max(1) as f64;
    counts.into_iter().map(|count| count / total).collect()
}

impl Fit<'_> {
    /// One sweep of matrix factorisation in place of an epoch of steps.
    pub(super) fn sweep(&mut self, epoch: usize, watch: &Watch<'_>, started: Instant) -> Result<Epoch> {
        let Some(Items { how: How::Sweeps(als), .. }) = &self.items else { return Err(Error::internal("there is nothing to sweep")) };
        let rows = self.data.train.len();
        let ended = |loss: f64, end: End| Epoch { loss, seconds: started.elapsed().as_secs_f64(), rows, end };
        if watch.deadline.is_some_and(|deadline| Instant::now() >= deadline) && epoch > 1 {
            return Ok(ended(f64::NAN, End::OutOfTime));
        }
        let before = storage::to_vec::<f32>(&self.learned_tensor("history.weight")?)?;
        let Some(swept) = als.sweep(&before, watch.cancel) else { return Ok(ended(f64::NAN, End::Cancelled)) };
        let dim = self.hyper.config.embedding_dim;
        let tokens = self.data.catalogue.map(|catalogue| catalogue.tokens.as_slice()).unwrap_or_default();
        // Token 0 is no item, and its vector is zero.
        let output: Vec<f32> = tokens.iter().flat_map(|token| swept.items[*token as usize * dim..][..dim].iter().copied()).collect();
        for (name, values) in
            [("history.weight", &swept.items), ("history.gram", &swept.gram), ("history.rule", &als.rule()), ("output.weight", &output)]
        {
            storage::modify::<f32>(&self.learned_tensor(name)?, |held| held.copy_from_slice(values))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        (watch.progress)(Progress {
            part: watch.part,
            architecture: self.hyper.config.architecture,
            epoch,
            epochs: self.hyper.epochs,
            batch: 1,
            batches: 1,
            loss: swept.loss,
            rows_per_s: rows as f64 / seconds.max(1e-9),
            eta_seconds: seconds * (self.hyper.epochs - epoch) as f64,
        });
        Ok(ended(swept.loss, End::Complete))
    }

    /// Validation loss and headline metric by the ranking of all items. A factorisation's scores are no probabilities: what
    /// its ranking misses takes the loss's place.
    pub(super) fn evaluate_ranking(&self, items: &Items, weights: &Weights, watch: &Watch<'_>) -> Result<(f64, f64)> {
        let Targets::Classes(labels) = &self.data.targets else { return Err(Error::internal("items are classes")) };
        let rows = &items.validation;
        let mut standings = Standings::of(rows.iter().map(|row| labels[*row as usize]).collect());
        let config = &self.hyper.config;
        let pass = |batch: &Batch| outputs(config, &*self.module, weights, batch, false);
        super::passes(&self.data.inputs, config, rows, EVALUATION_ROWS, &pass, watch.cancel, |places, logits| {
            standings.fill(places, logits, &items.is_item, 1.0);
        })?;
        let ndcg = standings.ranking(self.data.catalogue.and_then(|catalogue| catalogue.other)).ndcg_at(NDCG_CUTOFF);
        Ok((if items.sweeps() { 1.0 - ndcg } else { standings.log_loss() }, ndcg))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every item's chance to be among the chosen, counted.
    #[test]
    fn corrections_are_the_chances_of_being_chosen() {
        let (classes, rows, draws) = (50usize, 20usize, 16_000u32);
        let shares: Vec<f64> = (0..classes).map(|class| (class + 1) as f64 / 1275.0).collect();
        let sampling = Sampling { shares: shares.clone(), negatives: 15 };
        let mut seen = vec![0f64; classes];
        let mut said = vec![f64::NAN; classes];
        for draw in 0..draws {
            let random = Philox::new(9, 9).at_step(draw);
            let label = |at: u64| {
                let mut left = random.fork(1).uniform(at);
                shares
                    .iter()
                    .position(|share| {
                        left -= share;
                        left < 0.0
                    })
                    .unwrap_or(classes - 1) as u32
            };
            // One row fewer than the formula's: what the other rows bring.
            let labels: Vec<u32> = (0..rows as u64 - 1).map(label).collect();
            let mut with_own = labels.clone();
            with_own.push(labels[0]);
            let chosen = sampling.choose(with_own.into_iter(), random);
            for (id, correction) in chosen.ids.unwrap().iter().zip(chosen.corrections.unwrap()) {
                seen[*id as usize] += 1.0 / f64::from(draws);
                said[*id as usize] = (-f64::from(correction)).exp();
            }
        }
        for (seen, said) in seen.iter().zip(&said) {
            assert!((seen - said).abs() < 0.02, "{seen} instead of {said}");
        }
    }
}
