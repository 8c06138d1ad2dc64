//! One training step's loss and gradients: a batch is cut into shards of a few rows, and each shard goes forward and
//! back on one thread with a tape of its own.
//!
//! Threads meet once a step instead of once an operator, and what a shard computes stays in its core's cache. Packed
//! weights are shared by all shards. The cut depends on the architecture and the batch only, and gradients are added in
//! the order of the shards, so the result has the same bytes for any number of threads.
//!
//! Where a table is large and a step reads few of its rows, [`Step::run_by`] leaves its gradient as those rows.
//!
//! Absent on purpose: what the loss is, where rows come from, and what is done with the gradients.

use std::ops::Range;

use super::architecture::{Forward, Module, Weights};
use super::ops::tape::Gradient;
use super::ops::{BatchStatistics, Philox, RowSums, Tape, Var, parallel, storage, vectorise};
use super::{Batch, Tensor};
use crate::error::{Error, Result};

/// Numbers that are added up before the next: they stay in the first-level cache.
const SUM_BLOCK: usize = 4096;
/// Sets the shards' random streams apart from those of operators.
pub(super) const SHARD_STREAM: u32 = 1 << 16;

/// What one step asks of each shard.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Step<'a> {
    /// The network.
    pub module: &'a dyn Module,
    /// Its parameters, whose packed forms all shards share.
    pub weights: &'a Weights,
    /// Whether the parameter of this name gets a gradient.
    pub trainable: &'a (dyn Fn(&str) -> bool + Sync),
    /// Random numbers of this step.
    pub random: Philox,
    /// Fills the batch with some of the step's rows.
    pub gather: &'a (dyn Fn(Range<usize>, &mut Batch) + Sync),
    /// The loss of some of the step's rows: the mean under their weights.
    pub loss: &'a (dyn Fn(&Tape, &Forward, Range<usize>) -> Result<Var> + Sync),
    /// The weight of some of the step's rows: their number where all weigh alike.
    pub weight: &'a (dyn Fn(Range<usize>) -> f64 + Sync),
}

/// Rows of a table up to which its gradient is always whole: a step over so many costs less than it is worth to avoid.
pub const DENSE_ROWS_MAX: usize = 20_002;

/// The loss of one shard: the mean under its rows' weights, and what batch normalisations saw.
pub type ShardLoss<'a> = dyn Fn(&Tape, &Weights, &Batch, Range<usize>) -> Result<(Var, Vec<(String, BatchStatistics)>)> + Sync + 'a;

/// What a step finds.
#[derive(Debug)]
pub struct Found {
    /// The loss of all rows.
    pub loss: f64,
    /// The gradient of each trainable parameter that the loss depends on, by name.
    pub gradients: Vec<(String, Tensor)>,
    /// The gradients of large tables in the rows that were read; only from [`Step::run_by`].
    pub rows: Vec<(String, RowSums)>,
    /// What the batch said of the channels of each batch normalisation, by its name; such networks keep batches whole.
    pub statistics: Vec<(String, BatchStatistics)>,
}

/// What one shard finds.
struct Part {
    loss: f64,
    /// In the order of the trainable parameters; empty when the loss is not finite.
    gradients: Vec<Option<Gradient>>,
    statistics: Vec<(String, BatchStatistics)>,
}

/// The cut of `rows` rows: shards of nearly the same size, of at most as many rows as the network wants.
pub fn shards(rows: usize, rows_max: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = rows.div_ceil(rows_max.max(1)).max(1);
    (0..count).map(move |shard| shard * rows / count..(shard + 1) * rows / count)
}

impl Step<'_> {
    /// Loss and gradients of `rows` rows. Gradients are empty when the loss is not finite.
    ///
    /// # Errors
    /// `Internal` when network, weights and rows disagree.
    pub fn run(&self, rows: usize) -> Result<Found> {
        self.run_with(rows, &|tape, weights, batch, own| self.usual(tape, weights, batch, own), usize::MAX)
    }

    /// The same with the gradients of tables of more than [`DENSE_ROWS_MAX`] rows left as rows where only rows were read.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_lazily(&self, rows: usize) -> Result<Found> {
        self.run_with(rows, &|tape, weights, batch, own| self.usual(tape, weights, batch, own), DENSE_ROWS_MAX)
    }

    fn usual(&self, tape: &Tape, weights: &Weights, batch: &Batch, own: Range<usize>) -> Result<(Var, Vec<(String, BatchStatistics)>)> {
        let forward = self.module.forward(tape, weights, batch, false)?;
        Ok(((self.loss)(tape, &forward, own)?, forward.statistics))
    }

    /// [`run_lazily`](Self::run_lazily) with a loss that goes its own way through the network.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_by(&self, rows: usize, loss: &ShardLoss<'_>) -> Result<Found> {
        self.run_with(rows, loss, DENSE_ROWS_MAX)
    }

    fn run_with(&self, rows: usize, loss: &ShardLoss<'_>, dense_max: usize) -> Result<Found> {
        let shards: Vec<Range<usize>> = shards(rows, self.module.shard_rows()).collect();
        let total = (self.weight)(0..rows);
        let mut parts = parallel::map(shards.len(), |at| {
            let own = &shards[at];
            let share = if shards.len() == 1 || total <= 0.0 { 1.0 / shards.len() as f64 } else { (self.weight)(own.clone()) / total };
            self.shard(at, own.clone(), share, loss)
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
        let loss = parts.iter().map(|part| part.loss).sum::<f64>();
        if !loss.is_finite() {
            return Ok(Found { loss, gradients: Vec::new(), rows: Vec::new(), statistics: Vec::new() });
        }
        let names: Vec<(&str, &Var)> = self.weights.iter().filter(|(name, _)| (self.trainable)(name)).collect();
        let gathered: Vec<std::sync::Mutex<Vec<Gradient>>> = (0..names.len())
            .map(|at| std::sync::Mutex::new(parts.iter_mut().filter_map(|part| part.gradients[at].take()).collect()))
            .collect();
        let sums = parallel::map(names.len(), |at| {
            let parts = gathered[at].lock().map(|mut parts| std::mem::take(&mut *parts)).unwrap_or_default();
            sum(parts, names[at].1, dense_max)
        });
        let (mut gradients, mut row_sums) = (Vec::with_capacity(names.len()), Vec::new());
        for ((name, _), sum) in names.into_iter().zip(sums) {
            match sum? {
                Sum::None => {}
                Sum::Dense(sum) => gradients.push((name.to_owned(), sum)),
                Sum::Rows(sum) => row_sums.push((name.to_owned(), sum)),
            }
        }
        let statistics = parts.into_iter().flat_map(|part| part.statistics).collect();
        Ok(Found { loss, gradients, rows: row_sums, statistics })
    }

    /// The share of one shard.
    fn shard(&self, at: usize, rows: Range<usize>, share: f64, loss: &ShardLoss<'_>) -> Result<Part> {
        let mut batch = Batch::default();
        (self.gather)(rows.clone(), &mut batch);
        let tape = Tape::recording(self.random.fork(SHARD_STREAM | at as u32));
        let mut weights = Weights::default();
        for (name, var) in self.weights.iter() {
            weights.insert(name.to_owned(), if (self.trainable)(name) { tape.leaf_of(var) } else { var.clone() });
        }
        let (loss, statistics) = loss(&tape, &weights, &batch, rows)?;
        let value = loss.scalar()? * share;
        if !value.is_finite() {
            return Ok(Part { loss: value, gradients: Vec::new(), statistics });
        }
        let mut raw = tape.backward_raw(&loss, share)?;
        let gradients = weights.iter().filter(|(name, _)| (self.trainable)(name)).map(|(_, var)| raw.take(var)).collect();
        Ok(Part { loss: value, gradients, statistics })
    }
}

/// The gradient of one parameter.
enum Sum {
    None,
    Dense(Tensor),
    Rows(RowSums),
}

/// The sum of the shards' gradients of one parameter, in their order; rows of a table of more than `dense_max` rows stay
/// rows.
fn sum(parts: Vec<Gradient>, of: &Var, dense_max: usize) -> Result<Sum> {
    let rows_of = |part: &Gradient| matches!(part, Gradient::Rows(_));
    if of.dims().first().is_some_and(|rows| *rows > dense_max) && !parts.is_empty() && parts.iter().all(rows_of) {
        let rows = parts.iter().flat_map(|part| if let Gradient::Rows(rows) = part { &rows[..] } else { &[] });
        return RowSums::of(rows).map(Sum::Rows);
    }
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Ok(Sum::None) };
    let rest: Vec<Gradient> = parts.collect();
    let (Gradient::Dense(tensor), true) = (&first, rest.is_empty()) else {
        let mut total = vec![0f32; of.dims().iter().product()];
        add(&mut total, [first].into_iter().chain(rest))?;
        return storage::tensor(total, of.dims()).map(Sum::Dense);
    };
    Ok(Sum::Dense(tensor.clone()))
}

/// Adds `parts` to `total`, block by block where they are dense.
fn add(total: &mut [f32], parts: impl Iterator<Item = Gradient>) -> Result<()> {
    let mut dense = Vec::new();
    for part in parts {
        match part {
            Gradient::Dense(tensor) => dense.push(tensor),
            Gradient::Rows(rows) => rows.iter().try_for_each(|rows| rows.add_to::<f32>(total))?,
        }
    }
    let held = dense.iter().map(storage::read).collect::<Result<Vec<_>>>()?;
    let slices = held.iter().map(|guard| guard.slice::<f32>()).collect::<Result<Vec<_>>>()?;
    if slices.iter().any(|part| part.len() != total.len()) {
        return Err(Error::internal("gradients of one parameter differ in shape"));
    }
    for (block, total) in total.chunks_mut(SUM_BLOCK).enumerate() {
        for part in &slices {
            vectorise::add_to(&part[block * SUM_BLOCK..][..total.len()], total);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_all_rows_in_order() {
        for (rows, most) in [(0, 16), (1, 16), (16, 16), (17, 16), (33, 16), (256, 16), (7, usize::MAX)] {
            let cut: Vec<_> = shards(rows, most).collect();
            assert_eq!((cut[0].start, cut[cut.len() - 1].end), (0, rows));
            assert!(cut.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(cut.iter().all(|shard| shard.len() <= most && shard.len() + 1 >= rows / cut.len()));
        }
    }
}
