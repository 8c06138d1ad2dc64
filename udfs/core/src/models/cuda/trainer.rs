//! Training on a device: weights, gradients and moments live there side by side, one step is one stream of orders.
//!
//! Life of a step: the host gathers the shards as for itself → the network's own code records on a [`DeviceTape`] → the way
//! back leaves gradients in one array → norm, clipping and update are decided by kernels → loss and outcome come back while
//! the host gathers the next batch. A batch for which there is not enough memory is cut into pieces whose gradients are
//! added up, which changes nothing but the speed.
//!
//! The shards, random numbers and weights of rows are the host's, so a step is that of [`Step::run`] up to rounding; sums
//! have one order, so the same device gives the same bytes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::backend::Later;
use super::batch::join;
use super::device::{Array, Device};
use super::tape::{DeviceTape, Shards};
use crate::error::{Code, Error, Result};
use crate::models::architecture::{self, Weights};
use crate::models::ops::{Moments, OptimizerKind, OptimizerState, Rule, Tape, Var, parallel};
use crate::models::step::{Step, shards};
use crate::models::{Batch, Module, NetworkConfig, Outputs, ParameterSpec, Parameters};

/// Blocks whose sums of squares make the gradient's norm.
const NORM_BLOCKS: usize = 256;
/// Numbers of the optimizer's control; see `kernels/optimizer.cu`.
const CONTROL: usize = 6;

/// Where one parameter lies.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    shape: Vec<usize>,
    own: Own,
}

#[derive(Debug, Clone)]
enum Own {
    /// Its numbers in the common arrays.
    Learned(Range<usize>),
    /// An array of its own that nothing changes.
    Fixed(Array),
}

/// A network in training on a device.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Trainer {
    device: Arc<Device>,
    /// By name.
    places: Vec<Place>,
    /// Learned numbers that decay; they come first.
    decaying: usize,
    weights: Array,
    gradients: Array,
    moments: [Array; 2],
    steps: Array,
    loss: Array,
    control: Array,
    squares: Array,
    rule: Rule,
    /// Into how many pieces a batch is cut.
    pieces: usize,
    pending: VecDeque<(usize, Later)>,
}

impl Trainer {
    /// Puts parameters on `device`. `learned` says which gradients change; `state` is where an earlier optimizer stopped.
    ///
    /// # Errors
    /// `OutOfMemory`; `Internal` when a parameter is missing.
    pub fn new(
        device: &Arc<Device>,
        specs: &[ParameterSpec],
        parameters: &Parameters,
        learned: &dyn Fn(&ParameterSpec) -> bool,
        rule: Rule,
        state: &OptimizerState,
    ) -> Result<Self> {
        let mut order: Vec<&ParameterSpec> = specs.iter().filter(|spec| learned(spec)).collect();
        order.sort_by(|a, b| (!a.decays, &a.name).cmp(&(!b.decays, &b.name)));
        let mut places = Vec::with_capacity(specs.len());
        let (mut decaying, mut count) = (0, 0);
        for spec in order {
            let len = spec.shape.iter().product::<usize>();
            places.push(Place { name: spec.name.clone(), shape: spec.shape.clone(), own: Own::Learned(count..count + len) });
            count += len;
            decaying = if spec.decays { count } else { decaying };
        }
        for spec in specs.iter().filter(|spec| !learned(spec)) {
            let len = spec.shape.iter().product();
            places.push(Place { name: spec.name.clone(), shape: spec.shape.clone(), own: Own::Fixed(device.array(len)?) });
        }
        places.sort_by(|a, b| a.name.cmp(&b.name));
        let second = if rule.kind == OptimizerKind::Sgd { 0 } else { count };
        let mut own = Self {
            device: Arc::clone(device),
            places,
            decaying,
            weights: device.array(count)?,
            gradients: device.array(count)?,
            moments: [device.zeros(count)?, device.zeros(second)?],
            steps: device.keep(&[u32::try_from(state.steps).unwrap_or(0)])?,
            loss: device.zeros(1)?,
            control: device.zeros(CONTROL)?,
            squares: device.array(2 * NORM_BLOCKS)?,
            rule,
            pieces: 1,
            pending: VecDeque::new(),
        };
        own.put(parameters)?;
        own.put_moments(state)?;
        Ok(own)
    }

    /// Overwrites the weights; those that `parameters` does not hold stay.
    ///
    /// # Errors
    /// `Internal` when a shape differs or the device fails.
    pub fn put(&mut self, parameters: &Parameters) -> Result<()> {
        for place in &self.places {
            let Some((_, values)) = parameters.0.get(&place.name) else { continue };
            match &place.own {
                Own::Learned(range) => self.device.write(&self.weights.part(range.start, range.len()), values)?,
                Own::Fixed(array) => self.device.write(array, values)?,
            }
        }
        Ok(())
    }

    fn put_moments(&mut self, state: &OptimizerState) -> Result<()> {
        for place in &self.places {
            let (Some(moments), Own::Learned(range)) = (state.moments.get(&place.name), &place.own) else { continue };
            for (array, values) in self.moments.iter().zip([&moments.first, &moments.second]) {
                if !array.is_empty() && !values.is_empty() {
                    self.device.write(&array.part(range.start, range.len()), values)?;
                }
            }
        }
        Ok(())
    }

    /// Forgets the moments and the steps taken.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn forget(&mut self) -> Result<()> {
        self.moments.iter().try_for_each(|moments| self.device.clear(moments))?;
        self.device.clear(&self.steps)
    }

    /// The weights, copied to the host.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn parameters(&self) -> Result<Parameters> {
        let weights = self.device.read(&self.weights)?;
        let mut parameters = BTreeMap::new();
        for place in &self.places {
            let values = match &place.own {
                Own::Learned(range) => weights[range.clone()].to_vec(),
                Own::Fixed(array) => self.device.read(array)?,
            };
            parameters.insert(place.name.clone(), (place.shape.clone(), values));
        }
        Ok(Parameters(parameters))
    }

    /// What the optimizer needs to go on, on any device.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn state(&self) -> Result<OptimizerState> {
        let steps = self.device.read(&self.steps)?.first().map_or(0, |bits| bits.to_bits());
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        if steps == 0 {
            return Ok(OptimizerState::default());
        }
        let [first, second] = [self.device.read(&self.moments[0])?, self.device.read(&self.moments[1])?];
        let mut moments = BTreeMap::new();
        for place in &self.places {
            let Own::Learned(range) = &place.own else { continue };
            let part = |values: &[f32]| values.get(range.clone()).unwrap_or_default().to_vec();
            moments.insert(place.name.clone(), Moments { first: part(&first), second: part(&second), taken: Vec::new() });
        }
        Ok(OptimizerState { steps, moments })
    }

    /// One step of the optimizer on `rows` rows, with the learning rate `rate`. Returns before it is done.
    ///
    /// # Errors
    /// `OutOfMemory` when not even a shard finds memory, nothing having been changed; `Internal` when network, weights and rows
    /// disagree or the device fails.
    pub fn step(&mut self, step: &Step<'_>, rows: usize, rate: f64) -> Result<()> {
        self.device.backend().begin()?;
        let shards: Vec<Range<usize>> = shards(rows, step.module.shard_rows()).collect();
        loop {
            let pieces = self.pieces.min(shards.len());
            match self.gradients(step, &shards, pieces) {
                Err(error) if error.code == Code::OutOfMemory && pieces < shards.len() => {
                    self.pieces = 2 * pieces;
                    self.device.release();
                    tracing::info!("a batch did not fit the device: it is cut into {} pieces", self.pieces);
                }
                other => break other?,
            }
        }
        self.update(rate)?;
        self.pending.push_back((rows, self.device.read_later(&self.control)?));
        Ok(())
    }

    /// Rows and losses of the steps that are done: all but the last given, or `all`. `None` where loss or gradient were not
    /// finite and nothing was changed.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn finished(&mut self, all: bool) -> Result<Vec<(usize, Option<f64>)>> {
        let mut done = Vec::new();
        while self.pending.len() > usize::from(!all) {
            let Some((rows, later)) = self.pending.pop_front() else { break };
            let control = later()?;
            let &[.., finite, _, loss] = &control[..] else { return Err(Error::internal("the device answers no outcome")) };
            done.push((rows, (finite != 0.0).then_some(f64::from(loss))));
        }
        Ok(done)
    }

    /// Sums of gradients and loss over the pieces of a batch.
    fn gradients(&self, step: &Step<'_>, shards: &[Range<usize>], pieces: usize) -> Result<()> {
        self.device.clear(&self.gradients)?;
        self.device.clear(&self.loss)?;
        let rows = shards.last().map_or(0, |last| last.end);
        let total = (step.weight)(0..rows);
        for piece in 0..pieces {
            let first = piece * shards.len() / pieces;
            let own = &shards[first..(piece + 1) * shards.len() / pieces];
            let range = shards[first].start..own.last().map_or(0, |last| last.end);
            let share = match pieces {
                1 => 1.0,
                _ if total > 0.0 => (step.weight)(range.clone()) / total,
                _ => range.len() as f64 / rows.max(1) as f64,
            };
            self.piece(step, own, first, share as f32)?;
        }
        Ok(())
    }

    /// Adds loss and gradients of the shards `own`, the first of which is number `first` of the batch.
    fn piece(&self, step: &Step<'_>, own: &[Range<usize>], first: usize, share: f32) -> Result<()> {
        let range = own.first().map_or(0, |shard| shard.start)..own.last().map_or(0, |shard| shard.end);
        let batch = join(parallel::map(own.len(), |at| {
            let mut batch = Batch::default();
            (step.gather)(own[at].clone(), &mut batch);
            batch
        }));
        let sizes: Vec<usize> = own.iter().map(ExactSizeIterator::len).collect();
        let recording = DeviceTape::recording(&self.device, step.random, Shards::new(&batch, &sizes, first));
        let mut weights = Weights::default();
        for place in &self.places {
            let var = match &place.own {
                Own::Learned(range) => {
                    let [value, gradient] = [&self.weights, &self.gradients].map(|all| all.part(range.start, range.len()));
                    recording.leaf(&place.shape, value, gradient)?
                }
                Own::Fixed(array) => Var::on_device(&place.shape, array.clone(), None)?,
            };
            weights.insert(place.name.clone(), var);
        }
        let tape = Tape::on(recording);
        let loss = {
            let forward = step.module.forward(&tape, &weights, &batch, false)?;
            (step.loss)(&tape, &forward, range)?
        };
        self.device.add_scaled(loss.array()?, share, &self.loss)?;
        match tape.into_device() {
            Some(tape) => tape.backward(&loss, share),
            None => Err(Error::internal("a tape has lost its device")),
        }
    }

    /// Norm, clipping and update, all decided on the device.
    fn update(&self, rate: f64) -> Result<()> {
        let (device, rule, count) = (&self.device, &self.rule, self.weights.len());
        device.launch("sum_squares", [NORM_BLOCKS as u32, 256, 8 * 256], &[self.gradients.at(), self.squares.at()], &[count], &[])?;
        let addresses = [self.squares.at(), self.loss.at(), self.control.at(), self.steps.at()];
        let limit = rule.clip_norm.map_or(-1.0, |limit| limit as f32);
        device.launch("begin_step", [1, 256, 8 * 256], &addresses, &[NORM_BLOCKS], &[limit, rate as f32])?;
        for (from, len, decay) in [(0, self.decaying, rule.weight_decay), (self.decaying, count - self.decaying, 0.0)] {
            let [w, g, m] = [&self.weights, &self.gradients, &self.moments[0]].map(|array| array.from(from));
            if rule.kind == OptimizerKind::Sgd {
                let numbers = [decay, rate, rule.momentum].map(|value| value as f32);
                device.each("sgd", len, &[w, g, m, self.control.at()], &[len, usize::from(rule.nesterov)], &numbers)?;
                continue;
            }
            let (l2, shrink) = if rule.kind == OptimizerKind::Adamw { (0.0, 1.0 - rate * decay) } else { (decay, 1.0) };
            let addresses = [w, g, m, self.moments[1].from(from), self.control.at()];
            device.each("adam", len, &addresses, &[len], &[l2 as f32, shrink as f32])?;
        }
        Ok(())
    }

    /// What the network answers as it is now.
    ///
    /// # Errors
    /// `OutOfMemory`; `Internal` when batch and weights disagree or the device fails.
    pub fn outputs(&self, config: &NetworkConfig, module: &dyn Module, batch: &Batch) -> Result<Outputs> {
        let mut weights = Weights::default();
        for place in &self.places {
            let array = match &place.own {
                Own::Learned(range) => self.weights.part(range.start, range.len()),
                Own::Fixed(array) => array.clone(),
            };
            weights.insert(place.name.clone(), Var::on_device(&place.shape, array, None)?);
        }
        outputs(&self.device, config, module, &weights, batch, false)
    }
}

/// A pass that records nothing.
pub(super) fn outputs(
    device: &Arc<Device>,
    config: &NetworkConfig,
    module: &dyn Module,
    weights: &Weights,
    batch: &Batch,
    want_embedding: bool,
) -> Result<Outputs> {
    device.backend().begin()?;
    let batch = Batch { one_chunk: true, ..batch.clone() };
    architecture::tape_outputs(&Tape::on(DeviceTape::silent(device)), config, module, weights, &batch, want_embedding)
}
