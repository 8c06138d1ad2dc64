//! What a training takes of the program's memory besides its data: weights, the optimizer's state, gradients, what a batch
//! leaves on the way forward, and what is said of the rows that are measured.
//!
//! It is an estimate from shapes, made before the first step: fair for a network of the usual size, not a bound. A program
//! that limits its memory says no at once, with the figures, to a network whose weights and optimizer alone do not fit,
//! instead of being ended by its machine in the middle. Gradients and outputs are counted where there is room for them, and
//! refuse nothing. What batches leave on their way is only told: how much of it is there at once an estimate cannot know,
//! and other statements shall not wait for what may never be taken.

use std::fmt;
use std::sync::Arc;

use super::ahead;
use super::fit::Data;
use super::hyper::Hyper;
use super::transfer::is_table;
use crate::error::{Code, Error, Result};
use crate::features::inputs::ImageShape;
use crate::models::ops::OptimizerKind;
use crate::models::{Architecture, ParameterSpec, step};

/// The memory that a program lets a training have.
pub trait MemoryBudget: Send + Sync {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `OutOfMemory` when there are not as many; the DETAIL says what there is.
    fn take(&self, bytes: usize) -> Result<()>;

    /// Gives so many back.
    fn give(&self, bytes: usize);
}

/// Bytes taken of a budget until it is dropped.
pub(super) struct Held {
    budget: Arc<dyn MemoryBudget>,
    bytes: usize,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// Rows whose outputs are there at once where classes are items, whose ranking is measured pass by pass.
const RANKED_ROWS: usize = 512;

/// What a fit needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Weights, the best ones so far, and the optimizer's state.
    parameters: usize,
    /// Of every shard of a batch, and their sum.
    gradients: usize,
    /// What the shards that run at once keep for their way back, and the batches that are made.
    batch: usize,
    /// Orders of rows, and the outputs of those that are measured.
    rows: usize,
}

impl Need {
    /// Of a fit of `hyper` to `data`, by a network of these parameters that takes `shard_rows` rows at a time.
    pub(super) fn new(hyper: &Hyper, data: &Data<'_>, specs: &[ParameterSpec], shard_rows: usize) -> Self {
        let floats =
            |specs: &mut dyn Iterator<Item = &ParameterSpec>| specs.map(|spec| spec.shape.iter().product::<usize>()).sum::<usize>();
        let all = floats(&mut specs.iter());
        let learned = || specs.iter().filter(|spec| spec.trainable);
        let tables = floats(&mut learned().filter(|spec| is_table(&spec.name)));
        let dense = floats(&mut learned()) - tables;
        let moments = match hyper.optimizer {
            // Solved in closed form.
            _ if hyper.config.architecture == Architecture::Mf => 0,
            OptimizerKind::Sgd => 1,
            _ => 2,
        };
        let batch = hyper.batch_size.min(data.train.len()).max(1);
        let shards = step::shards(batch, shard_rows).len();
        let at_once = shards.min(rayon::current_num_threads()) * batch.div_ceil(shards);
        let measured = data.validation.len().max(data.test.len());
        let measured = if data.catalogue.is_some() { measured.min(RANKED_ROWS) } else { measured };
        let rows = data.train.len() + data.validation.len() + data.test.len();
        let batches = if data.inputs.spilled.is_some() || hyper.config.shape.image.is_some() { ahead::BATCHES } else { 1 };
        Self {
            // As learned, the best so far, and a copy while one becomes the other.
            parameters: 4 * (3 * all + moments * (dense + tables)),
            // Of a table a shard keeps the rows it saw only.
            gradients: 4 * ((shards + 1) * dense + tables),
            batch: 4 * at_once * activations(hyper, specs) + batches * batch * row_bytes(hyper),
            // The lists of the parts, a fit's own, and an epoch's order; logits, and probabilities in double precision.
            rows: rows * 4 * 4 + measured * hyper.config.outputs * (4 + 8),
        }
    }

    /// All of it.
    const fn bytes(&self) -> usize {
        self.counted() + self.batch
    }

    /// What is counted where there is room for it.
    const fn counted(&self) -> usize {
        self.parameters + self.gradients + self.rows
    }

    /// Takes what is counted of a budget, or the parameters alone where there is no more.
    ///
    /// # Errors
    /// `OutOfMemory`, with the figures, when not even the parameters fit.
    pub(super) fn hold(&self, budget: &Arc<dyn MemoryBudget>, hyper: &Hyper) -> Result<Held> {
        let held = |bytes| Held { budget: Arc::clone(budget), bytes };
        if budget.take(self.counted()).is_ok() {
            return Ok(held(self.counted()));
        }
        budget.take(self.parameters).map(|()| held(self.parameters)).map_err(|refused| {
            let left = refused.detail.map(|detail| format!(" {detail}")).unwrap_or_default();
            Error::new(Code::OutOfMemory, format!("not enough memory to train \"{}\"", hyper.config.architecture))
                .detail(format!(
                    "It needs about {}: {} for parameters and their optimizer, {} for gradients, {} for batches of {} rows, {} for the \
                     outputs of all rows.{left}",
                    size(self.bytes() as u64),
                    size(self.parameters as u64),
                    size(self.gradients as u64),
                    size(self.batch as u64),
                    hyper.batch_size,
                    size(self.rows as u64)
                ))
                .hint("Lower hidden_dim or layers, or raise memory_limit.")
        })
    }
}

/// Numbers that a row leaves on its way through a network: every weight matrix has inputs and outputs, at every step, member
/// or pixel. What is an output here is an input there, so that each value is counted twice: for itself and its gradient.
fn activations(hyper: &Hyper, specs: &[ParameterSpec]) -> usize {
    let config = &hyper.config;
    let places = |name: &str| match (config.shape.image, &config.shape.sequence) {
        // Each stage sees pictures of half the size of the one before.
        (Some(image), _) if config.architecture == Architecture::Cnn => {
            let stage = name.strip_prefix("stages.").and_then(|rest| rest.split('.').next()).and_then(|stage| stage.parse().ok());
            (image.height * image.width) >> stage.map_or(0, |stage: u32| 2 * (stage + 1).min(16))
        }
        (_, Some(sequence)) => sequence.max_len,
        _ => config.members,
    };
    let of = |spec: &ParameterSpec| match *spec.shape.as_slice() {
        [_, width] if is_table(&spec.name) => places(&spec.name) * width,
        [outputs, inputs] | [outputs, inputs, _, _] => places(&spec.name) * (outputs + inputs),
        // A small matrix for each feature.
        [features, _, width] => places(&spec.name) * features * width,
        _ => 0,
    };
    let attention = match (config.architecture, &config.shape.sequence) {
        (Architecture::Transformer, Some(sequence)) => 2 * config.layers * sequence.max_len * sequence.max_len,
        _ => 0,
    };
    specs.iter().map(of).sum::<usize>() + attention
}

/// Bytes of a row in a batch.
fn row_bytes(hyper: &Hyper) -> usize {
    let shape = &hyper.config.shape;
    let steps = shape.sequence.as_ref().map_or(0, |sequence| sequence.max_len * (sequence.fields.len() + sequence.numeric));
    (shape.numeric + shape.categorical.len() + steps) * 4 + shape.image.map_or(0, ImageShape::len)
}

/// Bytes as a person reads them.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::features::inputs::{InputShape, Inputs, SequenceShape};
    use crate::features::options::Options;
    use crate::models::{Task, module};
    use crate::train::ahead::reads_files;
    use crate::train::fit::Targets;
    use crate::train::hyper::resolve;

    #[derive(Default)]
    struct Limited {
        limit: usize,
        taken: AtomicUsize,
    }

    impl MemoryBudget for Limited {
        fn take(&self, bytes: usize) -> Result<()> {
            if self.taken.load(Ordering::SeqCst) + bytes > self.limit {
                return Err(Error::new(Code::OutOfMemory, "no").detail("1.0 MiB are left."));
            }
            self.taken.fetch_add(bytes, Ordering::SeqCst);
            Ok(())
        }

        fn give(&self, bytes: usize) {
            self.taken.fetch_sub(bytes, Ordering::SeqCst);
        }
    }

    fn need(architecture: Architecture, options: &Options) -> (Need, Hyper, usize) {
        let sequence = SequenceShape { fields: vec![50, 1000], numeric: 2, max_len: 32 };
        let shape = InputShape { numeric: 20, categorical: vec![10, 3000], sequence: Some(sequence), ..InputShape::default() };
        let hyper = resolve(architecture, &shape, 2, Task::Classification, options, 10_000);
        let data = Data {
            inputs: Cow::Owned(Inputs::default()),
            targets: Targets::Classes(Cow::Owned(Vec::new())),
            train: (0..10_000).collect(),
            validation: (0..1000).collect(),
            test: (0..1000).collect(),
            class_weights: None,
            resampled: None,
            users: &[],
            teacher: None,
            catalogue: None,
        };
        let module = module(&hyper.config).unwrap();
        let specs = module.specs();
        let count = specs.iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        (Need::new(&hyper, &data, &specs, module.shard_rows()), hyper, count)
    }

    #[test]
    fn what_is_larger_needs_more() {
        for architecture in Architecture::ALL.into_iter().filter(|architecture| reads_files(*architecture)) {
            let of = |options: Options| need(architecture, &options).0;
            let (usual, count) = (of(Options::default()), need(architecture, &Options::default()).2);
            // Weights, best weights and two moments of four bytes at least.
            assert!(usual.parameters >= 16 * count && usual.parameters <= 20 * count + 4096, "{architecture}");
            let long = of(Options { batch_size: Some(4096), ..Options::default() });
            assert!(long.batch > usual.batch && long.gradients >= usual.gradients, "{architecture}");
            assert_eq!((long.parameters, long.rows), (usual.parameters, usual.rows), "{architecture}");
            assert!(usual.bytes() > 0 && usual.bytes() < 1 << 30, "{architecture}: {usual:?}");
            if architecture != Architecture::Logreg {
                let wide = of(Options { hidden_dim: Some(1024), ..Options::default() });
                assert!(wide.bytes() > 2 * usual.bytes(), "{architecture}");
            }
        }
    }

    #[test]
    fn what_is_held_is_given_back_and_what_is_refused_says_why() {
        let (need, hyper, _) = need(Architecture::Gru, &Options::default());
        let budget = Arc::new(Limited { limit: need.counted() + need.parameters, ..Limited::default() });
        let shared = Arc::clone(&budget) as Arc<dyn MemoryBudget>;
        let held = need.hold(&shared, &hyper).unwrap();
        assert_eq!(budget.taken.load(Ordering::SeqCst), need.counted());
        // There is room for the parameters of another, but for no third.
        let second = need.hold(&shared, &hyper).unwrap();
        assert_eq!(budget.taken.load(Ordering::SeqCst), need.counted() + need.parameters);
        let error = need.hold(&shared, &hyper).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::OutOfMemory, "not enough memory to train \"gru\""));
        let detail = error.detail.unwrap();
        assert!(detail.contains(&size(need.bytes() as u64)) && detail.ends_with("1.0 MiB are left."), "{detail}");
        assert!(error.hint.unwrap().contains("memory_limit"));
        drop((held, second));
        assert_eq!(budget.taken.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(512), "0.5 KiB");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(size(5 << 40), "5.0 TiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
