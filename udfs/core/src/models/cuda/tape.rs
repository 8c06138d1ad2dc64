//! What was computed on a device, in order, so that it can be differentiated in reverse: the device's half of
//! [`ops::Tape`](crate::models::ops::Tape).
//!
//! Operators record one node where those of the host do, so that what depends on the place on the tape, the random numbers
//! of dropout, is the same on both. Gradients of leaves go straight into the memory that the optimizer reads, which is
//! cleared before; all others live until they are used up.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use super::device::{Array, Device};
use crate::error::{Error, Result};
use crate::models::ops::{Philox, Var, storage};
use crate::models::{Batch, Tensor, ops::Packing};

/// Turns the gradient of a result into those of the inputs.
type Backward = Box<dyn FnOnce(&Array, &mut Sink<'_>) -> Result<()>>;

struct Node {
    parents: Vec<Option<usize>>,
    backward: Option<Backward>,
    gradient: Gradient,
}

/// A gradient while it is added up.
#[derive(Debug)]
enum Gradient {
    Nothing,
    /// Perhaps seen by others: never written then.
    Own(Array),
    /// Memory of the optimizer's: always added to.
    Leaf(Array),
}

/// Which shard of the host's each row and each packed step of a batch is in, and where there: dropout of a device gives
/// every element the number that it has on the host.
#[derive(Debug, Default)]
pub struct Shards {
    rows: [Vec<u32>; 2],
    steps: [Vec<u32>; 2],
}

impl Shards {
    /// Of a batch that consists of the host's shards `first …` with so many rows each.
    #[must_use]
    pub fn new(batch: &Batch, sizes: &[usize], first: usize) -> Self {
        let mut own = Self::default();
        let mut starts = Vec::with_capacity(batch.lengths.len());
        let mut before = 0u32;
        for len in &batch.lengths {
            starts.push(before);
            before += len;
        }
        // Where the host has each step: by row, then by time.
        let mut places = vec![(0u32, 0u32); before as usize];
        let mut from = 0;
        for (at, size) in sizes.iter().enumerate() {
            let shard = (first + at) as u32;
            own.rows[0].extend(std::iter::repeat_n(shard, *size));
            own.rows[1].extend(0..*size as u32);
            if let Some(lengths) = batch.lengths.get(from..from + size) {
                each_step(&Packing::new(lengths), |place, row, step| {
                    places[(starts[from + row as usize] + step) as usize] = (shard, place);
                });
            }
            from += size;
        }
        if !batch.lengths.is_empty() {
            own.steps = [vec![0; before as usize], vec![0; before as usize]];
            each_step(&Packing::whole(&batch.lengths), |place, row, step| {
                let (shard, host) = places[(starts[row as usize] + step) as usize];
                own.steps[0][place as usize] = shard;
                own.steps[1][place as usize] = host;
            });
        }
        own
    }
}

/// Calls `see(packed place, row, time step)` for every step.
fn each_step(packing: &Packing, mut see: impl FnMut(u32, u32, u32)) {
    for chunk in packing.chunks() {
        for step in 0..chunk.steps() {
            for (at, row) in chunk.rows[..chunk.active(step)].iter().enumerate() {
                see((chunk.start + chunk.offsets[step] + at) as u32, *row, step as u32);
            }
        }
    }
}

/// Records operators on a device while training; records nothing while scoring.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct DeviceTape {
    pub(super) device: Arc<Device>,
    recording: bool,
    pub(super) random: Philox,
    shards: Shards,
    on_device: OnceCell<[[Array; 2]; 2]>,
    nodes: RefCell<Vec<Node>>,
}

/// Where an operator leaves the gradients of its inputs.
pub(super) struct Sink<'a> {
    device: &'a Arc<Device>,
    parents: Vec<Option<usize>>,
    nodes: &'a mut [Node],
}

impl Sink<'_> {
    /// Memory that the gradient of input `input`, `len` numbers, is written to, and whether it is added to what is there;
    /// `None` when nobody asks for it.
    ///
    /// # Errors
    /// `OutOfMemory`; `Internal` when shapes disagree.
    pub(super) fn target(&mut self, input: usize, len: usize) -> Result<Option<(u64, bool)>> {
        let Some(Some(node)) = self.parents.get(input).copied() else { return Ok(None) };
        let slot = &mut self.nodes[node].gradient;
        let (array, held) = match std::mem::replace(slot, Gradient::Nothing) {
            Gradient::Nothing => (Gradient::Own(self.device.array(len)?), false),
            Gradient::Own(array) if array.is_sole() => (Gradient::Own(array), true),
            Gradient::Own(array) => (Gradient::Own(self.device.copy(&array)?), true),
            leaf @ Gradient::Leaf(_) => (leaf, true),
        };
        let address = match &array {
            Gradient::Own(own) | Gradient::Leaf(own) if own.len() == len => own.at(),
            _ => return Err(Error::internal("gradients of different shapes meet on the device")),
        };
        *slot = array;
        Ok(Some((address, held)))
    }

    /// The gradient of input `input` is `gradient` itself.
    ///
    /// # Errors
    /// As [`Sink::target`].
    pub(super) fn pass(&mut self, input: usize, gradient: &Array) -> Result<()> {
        let Some(Some(node)) = self.parents.get(input).copied() else { return Ok(()) };
        if matches!(self.nodes[node].gradient, Gradient::Nothing) {
            self.nodes[node].gradient = Gradient::Own(gradient.clone());
            return Ok(());
        }
        match self.target(input, gradient.len())? {
            Some((to, _)) => self.device.each("add_scaled", gradient.len(), &[gradient.at(), to], &[gradient.len()], &[1.0]),
            None => Ok(()),
        }
    }
}

impl DeviceTape {
    /// A tape that records. `random` feeds dropout; give every step its own.
    #[must_use]
    pub fn recording(device: &Arc<Device>, random: Philox, shards: Shards) -> Self {
        Self { recording: true, random, shards, ..Self::silent(device) }
    }

    /// A tape that records nothing.
    #[must_use]
    pub fn silent(device: &Arc<Device>) -> Self {
        Self {
            device: Arc::clone(device),
            recording: false,
            random: Philox::new(0, 0),
            shards: Shards::default(),
            on_device: OnceCell::new(),
            nodes: RefCell::default(),
        }
    }

    /// Whether it records.
    #[must_use]
    pub const fn is_recording(&self) -> bool {
        self.recording
    }

    /// How many nodes were recorded: what makes the random numbers of an operator its own.
    pub(super) fn position(&self) -> usize {
        self.nodes.borrow().len()
    }

    /// Shards and places of `rows` rows: of the batch's rows, or else of its steps.
    pub(super) fn shards(&self, rows: usize) -> Result<[u64; 2]> {
        if self.on_device.get().is_none() {
            let upload =
                |values: &[Vec<u32>; 2]| -> Result<[Array; 2]> { Ok([self.device.upload(&values[0])?, self.device.upload(&values[1])?]) };
            // Nobody else sets it: a tape belongs to one thread.
            let _ = self.on_device.set([upload(&self.shards.rows)?, upload(&self.shards.steps)?]);
        }
        self.on_device
            .get()
            .and_then(|both| both.iter().find(|[shards, _]| shards.len() == rows))
            .map(|[shards, places]| [shards.at(), places.at()])
            .ok_or_else(|| Error::internal("dropout of rows that are neither the batch's nor its steps"))
    }

    /// A value that no gradient flows to, copied to the device.
    ///
    /// # Errors
    /// `OutOfMemory`; `Internal` for anything but f32.
    pub fn constant(&self, value: &Tensor) -> Result<Var> {
        let array = self.device.upload(storage::read(value)?.slice::<f32>()?)?;
        Var::on_device(value.dims(), array, None)
    }

    /// The numbers of a value, on the host; waits for the device.
    ///
    /// # Errors
    /// `Internal` when it is not on the device, or that fails.
    pub fn read(&self, var: &Var) -> Result<Vec<f32>> {
        self.device.read(var.array()?)
    }

    /// A value whose gradient is added to `gradient`.
    ///
    /// # Errors
    /// `Internal` when the shape has no tensor.
    pub fn leaf(&self, dims: &[usize], value: Array, gradient: Array) -> Result<Var> {
        let node = self.push(Node { parents: Vec::new(), backward: None, gradient: Gradient::Leaf(gradient) });
        Var::on_device(dims, value, Some(node))
    }

    fn push(&self, node: Node) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(node);
        nodes.len() - 1
    }

    /// Whether an operator on `inputs` has to keep what its backward pass needs.
    pub(super) fn tracks(&self, inputs: &[&Var]) -> bool {
        self.recording && inputs.iter().any(|input| input.node().is_some())
    }

    /// The result of an operator on `inputs`.
    pub(super) fn record(
        &self,
        dims: &[usize],
        value: Array,
        inputs: &[&Var],
        backward: impl FnOnce(&Array, &mut Sink<'_>) -> Result<()> + 'static,
    ) -> Result<Var> {
        if !self.tracks(inputs) {
            return Var::on_device(dims, value, None);
        }
        let parents = inputs.iter().map(|input| input.node()).collect();
        let node = self.push(Node { parents, backward: Some(Box::new(backward)), gradient: Gradient::Nothing });
        Var::on_device(dims, value, Some(node))
    }

    /// The gradients of `share · scalar`, left in the memory of the leaves.
    ///
    /// # Errors
    /// `OutOfMemory`; `Internal` when `scalar` is none of this tape, or an operator fails.
    pub fn backward(self, scalar: &Var, share: f32) -> Result<()> {
        let mut nodes = self.nodes.into_inner();
        let last = scalar.node().filter(|last| *last < nodes.len() && scalar.array().is_ok_and(|array| array.len() == 1));
        let last = last.ok_or_else(|| Error::internal("gradients need a scalar of the same tape"))?;
        let one = self.device.array(1)?;
        self.device.each("fill", 1, &[one.at()], &[1], &[share])?;
        nodes[last].gradient = Gradient::Own(one);
        for at in (0..=last).rev() {
            let (before, rest) = nodes.split_at_mut(at);
            let node = &mut rest[0];
            let Some(backward) = node.backward.take() else { continue };
            let Gradient::Own(gradient) = std::mem::replace(&mut node.gradient, Gradient::Nothing) else { continue };
            let parents = std::mem::take(&mut node.parents);
            backward(&gradient, &mut Sink { device: &self.device, parents, nodes: before })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shards' packings, one behind the other, and the whole batch's are two orders of the same steps.
    #[test]
    fn every_step_has_its_place_on_the_host() {
        let lengths = vec![2, 0, 3, 1, 1, 4, 0];
        let batch = Batch { rows: 7, lengths: lengths.clone(), ..Batch::default() };
        let shards = Shards::new(&batch, &[3, 4], 0);
        assert_eq!(shards.rows, [vec![0, 0, 0, 1, 1, 1, 1], vec![0, 1, 2, 0, 1, 2, 3]]);
        let mut seen: Vec<(u32, u32)> = shards.steps[0].iter().copied().zip(shards.steps[1].iter().copied()).collect();
        // The longest row comes first in both; it is row 2 of the second shard.
        assert_eq!(seen[0], (1, 0));
        seen.sort_unstable();
        let expected: Vec<(u32, u32)> = (0..5).map(|at| (0, at)).chain((0..6).map(|at| (1, at))).collect();
        assert_eq!(seen, expected);
    }
}
