//! The tape: what was computed, in order, so that it can be differentiated in reverse.

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Tensor};

use super::super::cuda::{Array, DeviceTape};
use super::int8::Weight8;
use super::matmul::Panels;
use super::philox::Philox;
use super::real::Real;
use super::storage::{contiguous, dispatch, read, tensor};
use crate::error::{Error, Result};

/// A value in a computation: a tensor, and its place on the tape when a gradient can flow to it.
#[derive(Debug, Clone)]
pub struct Var {
    value: Tensor,
    node: Option<usize>,
    packed: Option<Arc<Packed>>,
    eight: Option<Arc<Weight8>>,
    /// On a device the numbers are here, and `value` tells the shape alone.
    array: Option<Array>,
}

/// A weight as operators want it, made when the first of them asks and shared by all that hold the weight.
#[derive(Debug, Default)]
struct Packed {
    transposed: Slot,
    straight: Slot,
    kernel: Slot,
    folded: Slot,
}

type Slot = OnceLock<Arc<dyn Any + Send + Sync>>;

/// What a slot holds, or `make`'s result where nothing can be held.
fn kept<R: Send + Sync + 'static>(slot: Option<&Slot>, make: impl Fn() -> R) -> Arc<R> {
    let Some(slot) = slot else { return Arc::new(make()) };
    let held: Arc<dyn Any + Send + Sync> = Arc::clone(slot.get_or_init(|| Arc::new(make())));
    held.downcast().unwrap_or_else(|_| Arc::new(make()))
}

impl Var {
    /// What an operator gives: numbers on the host that nothing is packed from.
    const fn plain(value: Tensor, node: Option<usize>) -> Self {
        Self { value, node, packed: None, eight: None, array: None }
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its weights of 8 bits, if it has those instead of floats.
    pub(in super::super) fn eight(&self) -> Option<&Weight8> {
        self.eight.as_deref()
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }

    /// This weight `[out, in]`, whose numbers are `weight`, packed for products `x · weightᵀ`.
    pub(super) fn transposed<T: Real>(&self, weight: &[T], outputs: usize, inputs: usize) -> Arc<Panels<T>> {
        kept(self.packed.as_deref().map(|packed| &packed.transposed), || Panels::transposed(weight, outputs, inputs))
    }

    /// The same for products `dy · weight`.
    pub(super) fn straight<T: Real>(&self, weight: &[T], outputs: usize, inputs: usize) -> Arc<Panels<T>> {
        kept(self.packed.as_deref().map(|packed| &packed.straight), || Panels::straight(weight, outputs, inputs))
    }

    /// This weight as the kernel of a convolution, the same one at every call.
    pub(super) fn kernel<R: Send + Sync + 'static>(&self, make: impl Fn() -> R) -> Arc<R> {
        kept(self.packed.as_deref().map(|packed| &packed.kernel), make)
    }

    /// This weight together with the constants that scoring multiplies it with, the same ones at every call.
    ///
    /// # Errors
    /// What `make` finds wrong.
    pub(super) fn folded<R: Send + Sync + 'static>(&self, make: impl Fn() -> Result<R>) -> Result<Arc<R>> {
        let slot = self.packed.as_deref().map(|packed| &packed.folded);
        if let Some(held) = slot.and_then(OnceLock::get).and_then(|held| Arc::clone(held).downcast().ok()) {
            return Ok(held);
        }
        let made = Arc::new(make()?);
        // Another thread may have been first with the same.
        slot.map(|slot| slot.set(Arc::<R>::clone(&made)));
        Ok(made)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// `[rows, columns]`.
    ///
    /// # Errors
    /// `Internal` when it has another number of dimensions.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(self.value.dims2()?)
    }

    /// A value on a device. Its tensor has the shape and a type that no operator of the host takes.
    ///
    /// # Errors
    /// `Internal` when shape and length disagree.
    pub(in super::super) fn on_device(dims: &[usize], array: Array, node: Option<usize>) -> Result<Self> {
        if dims.iter().product::<usize>() != array.len() {
            return Err(Error::internal(format!("an array of {} numbers has no shape {dims:?}", array.len())));
        }
        let value = Tensor::zeros((), DType::U8, &candle_core::Device::Cpu)?.broadcast_as(dims)?;
        Ok(Self { array: Some(array), ..Self::plain(value, node) })
    }

    /// Where its numbers lie on a device.
    ///
    /// # Errors
    /// `Internal` when they lie on the host.
    pub(in super::super) fn array(&self) -> Result<&Array> {
        self.array.as_ref().ok_or_else(|| Error::internal("a value of the host met one of a device"))
    }

    /// Its place on the tape.
    pub(in super::super) fn node(&self) -> Option<usize> {
        self.node
    }

    /// The only number of a one-element tensor.
    ///
    /// # Errors
    /// `Internal` when it has more than one.
    pub fn scalar(&self) -> Result<f64> {
        dispatch!(self.value, T => {
            let guard = read(&self.value)?;
            match guard.slice::<T>()? {
                [value] => Ok(super::real::Real::wide(*value)),
                _ => Err(Error::internal("not a scalar")),
            }
        })
    }
}

type Backward = Box<dyn FnOnce(Tensor, &mut Sink<'_>) -> Result<()>>;

struct Node {
    dims: Vec<usize>,
    parents: Vec<Option<usize>>,
    backward: Option<Backward>,
}

/// Records operators while training; records nothing while scoring.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Tape {
    nodes: Option<RefCell<Vec<Node>>>,
    random: Philox,
    /// Operators run there instead.
    device: Option<Box<DeviceTape>>,
}

/// Where an operator's backward pass leaves the gradients of its inputs.
#[allow(missing_debug_implementations, reason = "short-lived")]
pub struct Sink<'a> {
    parents: Vec<Option<usize>>,
    gradients: &'a mut Vec<Option<Gradient>>,
}

/// The gradient of a value.
#[derive(Debug, Clone)]
pub(crate) enum Gradient {
    /// A number for each of the value's.
    Dense(Tensor),
    /// Of a table of which some rows were read.
    Rows(Vec<RowGradients>),
}

/// Gradients of rows of a table, as they were read: the same row may occur several times.
#[derive(Debug, Clone)]
pub(crate) struct RowGradients {
    /// Row of the table for each row of `gradient`: `ids[i · fields + field]`.
    pub(super) ids: Arc<[u32]>,
    pub(super) fields: usize,
    pub(super) field: usize,
    /// `[ids.len() / fields, any width]`, of which `width` columns from `offset` on belong to the table.
    pub(super) gradient: Tensor,
    pub(super) offset: usize,
    pub(super) width: usize,
}

impl RowGradients {
    /// Adds them to the table's gradient, in the order in which the rows were read.
    pub(crate) fn add_to<T: Real>(&self, table: &mut [T]) -> Result<()> {
        let guard = read(&self.gradient)?;
        let total = self.gradient.dims2()?.1;
        let ids = self.ids.iter().skip(self.field).step_by(self.fields);
        for (id, from) in ids.zip(guard.slice::<T>()?.chunks_exact(total.max(1))) {
            let to = &mut table[*id as usize * self.width..][..self.width];
            to.iter_mut().zip(&from[self.offset..]).for_each(|(sum, value)| *sum += *value);
        }
        Ok(())
    }
}

/// The gradient of those rows of a table that a step read, each once.
#[derive(Debug, Clone, PartialEq)]
pub struct RowSums {
    /// The rows, ascending.
    pub ids: Vec<u32>,
    /// Numbers of a row.
    pub width: usize,
    /// `[ids.len(), width]`.
    pub values: Vec<f32>,
}

impl RowSums {
    /// Adds `parts` up in their order, whatever the size of the table: O(rows read · width).
    pub(crate) fn of<'a>(parts: impl Iterator<Item = &'a RowGradients> + Clone) -> Result<Self> {
        let width = parts.clone().next().map_or(0, |part| part.width);
        let ids_of = |part: &'a RowGradients| part.ids.iter().skip(part.field).step_by(part.fields).copied();
        let mut ids: Vec<u32> = parts.clone().flat_map(ids_of).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut values = vec![0f32; ids.len() * width];
        for part in parts {
            let guard = read(&part.gradient)?;
            let total = part.gradient.dims2()?.1;
            for (id, from) in ids_of(part).zip(guard.slice::<f32>()?.chunks_exact(total.max(1))) {
                let at = ids.binary_search(&id).map_err(|_| Error::internal("a row has no place"))?;
                let to = &mut values[at * width..][..width];
                to.iter_mut().zip(&from[part.offset..]).for_each(|(sum, value)| *sum += *value);
            }
        }
        Ok(Self { ids, width, values })
    }
}

impl Gradient {
    /// As one tensor of the shape `dims`.
    fn dense(self, dims: &[usize]) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => Ok(tensor),
            Self::Rows(parts) => {
                let Some(first) = parts.first() else { return Err(Error::internal("a gradient of no rows")) };
                dispatch!(first.gradient, T => {
                    let mut sums = vec![<T as Real>::ZERO; dims.iter().product()];
                    parts.iter().try_for_each(|part| part.add_to::<T>(&mut sums))?;
                    tensor::<T>(sums, dims)
                })
            }
        }
    }
}

impl Sink<'_> {
    /// Whether anybody asks for the gradient of input `input`.
    pub fn wants(&self, input: usize) -> bool {
        self.parents.get(input).is_some_and(Option::is_some)
    }

    /// Adds `gradient` to that of input `input`; ignored when nobody asks for it.
    ///
    /// # Errors
    /// `Internal` when shapes disagree.
    pub fn add(&mut self, input: usize, gradient: Tensor) -> Result<()> {
        let Some(Some(node)) = self.parents.get(input).copied() else { return Ok(()) };
        let slot = &mut self.gradients[node];
        let total = match slot.take() {
            None => gradient,
            Some(so_far) => sum(&so_far.dense(gradient.dims())?, &gradient)?,
        };
        *slot = Some(Gradient::Dense(total));
        Ok(())
    }

    /// Adds gradients of some rows of input `input`, a table of shape `dims`.
    pub(super) fn add_rows(&mut self, input: usize, rows: RowGradients, dims: &[usize]) -> Result<()> {
        let Some(Some(node)) = self.parents.get(input).copied() else { return Ok(()) };
        let slot = &mut self.gradients[node];
        *slot = Some(match slot.take() {
            None => Gradient::Rows(vec![rows]),
            Some(Gradient::Rows(mut so_far)) => {
                so_far.push(rows);
                Gradient::Rows(so_far)
            }
            Some(Gradient::Dense(so_far)) => Gradient::Dense(sum(&so_far, &Gradient::Rows(vec![rows]).dense(dims)?)?),
        });
        Ok(())
    }
}

fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(Error::internal(format!("gradients of shapes {:?} and {:?} meet", a.dims(), b.dims())));
    }
    dispatch!(a, T => {
        let (left, right) = (read(a)?, read(b)?);
        let total = left.slice::<T>()?.iter().zip(right.slice::<T>()?).map(|(x, y)| *x + *y).collect();
        tensor::<T>(total, a.dims())
    })
}

/// The gradients of a scalar.
#[derive(Debug)]
pub struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    /// The gradient of `var`, which must come from [`Tape::leaf`]; `None` when the scalar does not depend on it.
    pub fn get(&self, var: &Var) -> Option<&Tensor> {
        self.0.get(var.node?)?.as_ref()
    }
}

/// The same as they were found: tables of which few rows were read are not filled up.
#[derive(Debug)]
pub(crate) struct RawGradients(Vec<Option<Gradient>>);

impl RawGradients {
    /// As [`Gradients::get`]; the second call for a variable finds nothing.
    pub(crate) fn take(&mut self, var: &Var) -> Option<Gradient> {
        self.0.get_mut(var.node?)?.take()
    }
}

impl Tape {
    /// A tape that records. `random` feeds dropout; give every step its own.
    pub fn recording(random: Philox) -> Self {
        Self { nodes: Some(RefCell::new(Vec::with_capacity(64))), random, device: None }
    }

    /// A tape that records nothing: for scoring.
    pub fn silent() -> Self {
        Self { nodes: None, random: Philox::new(0, 0), device: None }
    }

    /// A tape whose operators run on a device.
    pub fn on(device: DeviceTape) -> Self {
        Self { device: Some(Box::new(device)), ..Self::silent() }
    }

    /// The device's tape, where there is one: operators hand their work to it.
    pub(super) fn device(&self) -> Option<&DeviceTape> {
        self.device.as_deref()
    }

    /// The same, to go back on.
    pub(in super::super) fn into_device(self) -> Option<DeviceTape> {
        self.device.map(|device| *device)
    }

    /// The numbers of a value, on the host.
    ///
    /// # Errors
    /// `Internal` for other types than f32, or when the device fails.
    pub(in super::super) fn read(&self, var: &Var) -> Result<Vec<f32>> {
        match self.device() {
            Some(device) => device.read(var),
            None => super::storage::to_vec::<f32>(var.value()),
        }
    }

    /// Whether its operators run here and leave nothing for a way back.
    pub fn is_passing(&self) -> bool {
        self.nodes.is_none() && self.device.is_none()
    }

    /// Whether it records.
    pub fn is_recording(&self) -> bool {
        self.nodes.is_some()
    }

    /// A stream of random numbers that no other operator of this step uses.
    pub(super) fn random(&self) -> Philox {
        let position = self.nodes.as_ref().map_or(0, |nodes| nodes.borrow().len());
        self.random.fork(position as u32)
    }

    /// A value that no gradient flows to.
    ///
    /// # Errors
    /// `Internal` for element types other than `f32` and `f64`.
    pub fn constant(&self, value: &Tensor) -> Result<Var> {
        if let Some(device) = &self.device {
            return device.constant(value);
        }
        Ok(Var { packed: Some(Arc::default()), ..Var::plain(contiguous(value)?, None) })
    }

    /// Weights of 8 bits of a matrix or table of shape `shape`, for operators that know them; others refuse them, because
    /// there are no floats to read.
    ///
    /// # Errors
    /// `Internal` for a shape that no tensor has.
    pub(in crate::models) fn eight_bits(&self, weight: Weight8, shape: &[usize]) -> Result<Var> {
        let value = Tensor::zeros((), DType::F32, &candle_core::Device::Cpu)?.broadcast_as(shape)?;
        Ok(Var { eight: Some(Arc::new(weight)), ..Var::plain(value, None) })
    }

    /// A value whose gradient is wanted.
    ///
    /// # Errors
    /// `Internal` for element types other than `f32` and `f64`.
    pub fn leaf(&self, value: &Tensor) -> Result<Var> {
        Ok(self.leaf_of(&Var { packed: Some(Arc::default()), ..Var::plain(contiguous(value)?, None) }))
    }

    /// A leaf with the value of `var`, of any tape; both use the same packed matrices.
    pub fn leaf_of(&self, var: &Var) -> Var {
        let node = self.nodes.as_ref().map(|nodes| {
            let mut nodes = nodes.borrow_mut();
            nodes.push(Node { dims: var.dims().to_vec(), parents: Vec::new(), backward: None });
            nodes.len() - 1
        });
        Var { node, ..var.clone() }
    }

    /// Whether an operator on `inputs` has to keep what its backward pass needs.
    pub(super) fn tracks(&self, inputs: &[&Var]) -> bool {
        self.is_recording() && inputs.iter().any(|input| input.node.is_some())
    }

    /// The result of an operator on `inputs`. `backward` gets the gradient of the result.
    pub(super) fn record(
        &self,
        value: Tensor,
        inputs: &[&Var],
        backward: impl FnOnce(Tensor, &mut Sink<'_>) -> Result<()> + 'static,
    ) -> Var {
        let Some(nodes) = self.nodes.as_ref().filter(|_| self.tracks(inputs)) else {
            return Var::plain(value, None);
        };
        let mut nodes = nodes.borrow_mut();
        nodes.push(Node {
            dims: value.dims().to_vec(),
            parents: inputs.iter().map(|input| input.node).collect(),
            backward: Some(Box::new(backward)),
        });
        Var::plain(value, Some(nodes.len() - 1))
    }

    /// The gradients of `scalar` with respect to every leaf it depends on. Iterative: depth costs no stack.
    ///
    /// # Errors
    /// `Internal` when `scalar` is not a scalar of this tape, or an operator fails.
    pub fn backward(self, scalar: &Var) -> Result<Gradients> {
        let (gradients, nodes) = self.run(scalar, 1.0)?;
        let dense =
            gradients.into_iter().zip(nodes).map(|(gradient, node)| gradient.map(|gradient| gradient.dense(&node.dims)).transpose());
        Ok(Gradients(dense.collect::<Result<_>>()?))
    }

    /// [`Tape::backward`] of `share · scalar` that leaves gradients of look-ups as they are.
    pub(crate) fn backward_raw(self, scalar: &Var, share: f64) -> Result<RawGradients> {
        Ok(RawGradients(self.run(scalar, share)?.0))
    }

    fn run(self, scalar: &Var, share: f64) -> Result<(Vec<Option<Gradient>>, Vec<Node>)> {
        let (Some(nodes), Some(last)) = (self.nodes, scalar.node) else {
            return Err(Error::internal("nothing was recorded for this value"));
        };
        let mut nodes = nodes.into_inner();
        if last >= nodes.len() || scalar.value.elem_count() != 1 {
            return Err(Error::internal("gradients need a scalar of the same tape"));
        }
        let mut gradients: Vec<Option<Gradient>> = vec![None; nodes.len()];
        let one = dispatch!(scalar.value, T => tensor::<T>(vec![super::real::Real::of(share)], scalar.value.dims()))?;
        gradients[last] = Some(Gradient::Dense(one));
        for at in (0..=last).rev() {
            let node = &mut nodes[at];
            let Some(backward) = node.backward.take() else { continue };
            let Some(gradient) = gradients[at].take() else { continue };
            let gradient = gradient.dense(&node.dims)?;
            let parents = std::mem::take(&mut node.parents);
            backward(gradient, &mut Sink { parents, gradients: &mut gradients })?;
        }
        Ok((gradients, nodes))
    }
}
