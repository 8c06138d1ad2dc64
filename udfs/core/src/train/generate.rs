//! Rows from a trained generator. Row `i` of a seed is always the same one, in whatever batches it is asked for.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::{Error, Result};
use crate::features::rows::RowPlan;
use crate::models::gan::{Draw, condition_width};
use crate::models::ops::Philox;
use crate::models::{Architecture, Network};

/// Rows of one pass through a generator.
const PASS_ROWS: usize = 500;

/// A generator with the plan that makes rows of what it makes. Cheap to clone; weights are shared.
#[derive(Debug, Clone)]
pub struct Generator {
    network: Arc<dyn Network>,
    plan: Arc<RowPlan>,
    seed: u64,
}

/// What a generator made, before it became columns.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) rows: usize,
    /// Vectors of rows, or pictures in ±1.
    pub(super) values: Vec<f32>,
    /// Classes of pictures.
    pub(super) classes: Vec<usize>,
}

impl Generator {
    /// The rows of `seed`.
    pub fn new(network: Arc<dyn Network>, plan: &RowPlan, seed: u64) -> Self {
        Self { network, plan: Arc::new(plan.clone()), seed }
    }

    /// How it makes rows of what its network makes.
    #[must_use]
    pub fn plan(&self) -> &RowPlan {
        &self.plan
    }

    /// Rows of a batch that keeps memory low.
    #[must_use]
    pub fn batch_rows(&self) -> usize {
        self.network.config().shape.pass_rows(PASS_ROWS)
    }

    /// Rows `first .. first + rows` in the columns of the training source.
    ///
    /// # Errors
    /// `Internal` when the network is no generator of such rows.
    pub fn rows(&self, first: u64, rows: usize) -> Result<RecordBatch> {
        let Made { rows, values, classes } = self.make(first, rows)?;
        match self.plan.image() {
            Some(_) => self.plan.decode_pictures(rows, &values, &classes),
            None => self.plan.decode(rows, &values),
        }
    }

    pub(super) fn make(&self, first: u64, rows: usize) -> Result<Made> {
        let config = self.network.config();
        if config.architecture != Architecture::Gan {
            return Err(Error::invalid(format!("a model of architecture \"{}\" generates no rows", config.architecture)));
        }
        let random = Philox::named(self.seed, "generated rows");
        let chance = random.fork(7);
        let conditioned = condition_width(config) > 0;
        let mut made = Made { rows, values: Vec::new(), classes: Vec::with_capacity(rows) };
        let mut at = 0;
        while at < rows {
            let count = self.batch_rows().min(rows - at);
            let from = first + at as u64;
            let condition = |row: usize| {
                let place = (from + row as u64) * 2;
                conditioned.then(|| self.plan.condition([chance.uniform(place), chance.uniform(place + 1)])).flatten()
            };
            let draw = Draw::new(config, random, from, count, condition);
            made.classes.extend((0..count).map(|row| condition(row).unwrap_or(0)));
            made.values.extend(self.network.generate(&draw)?);
            at += count;
        }
        Ok(made)
    }
}
