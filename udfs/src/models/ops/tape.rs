//! The tape: what was computed, in order, so that it can be differentiated in reverse.

use std::cell::RefCell;

use candle_core::{DType, Tensor};

use super::philox::Philox;
use super::storage::{contiguous, dispatch, read, tensor};
use crate::error::{Error, Result};

/// A value in a computation: a tensor, and its place on the tape when a gradient can flow to it.
#[derive(Debug, Clone)]
pub struct Var {
    value: Tensor,
    node: Option<usize>,
}

impl Var {
    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
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
    parents: Vec<Option<usize>>,
    backward: Option<Backward>,
}

/// Records operators while training; records nothing while scoring.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Tape {
    nodes: Option<RefCell<Vec<Node>>>,
    random: Philox,
}

/// Where an operator's backward pass leaves the gradients of its inputs.
#[allow(missing_debug_implementations, reason = "short-lived")]
pub struct Sink<'a> {
    parents: Vec<Option<usize>>,
    gradients: &'a mut Vec<Option<Tensor>>,
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
            Some(so_far) => sum(&so_far, &gradient)?,
        };
        *slot = Some(total);
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

impl Tape {
    /// A tape that records. `random` feeds dropout; give every step its own.
    pub fn recording(random: Philox) -> Self {
        Self { nodes: Some(RefCell::new(Vec::with_capacity(64))), random }
    }

    /// A tape that records nothing: for scoring.
    pub fn silent() -> Self {
        Self { nodes: None, random: Philox::new(0, 0) }
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
        Ok(Var { value: contiguous(value)?, node: None })
    }

    /// A value whose gradient is wanted.
    ///
    /// # Errors
    /// `Internal` for element types other than `f32` and `f64`.
    pub fn leaf(&self, value: &Tensor) -> Result<Var> {
        let value = contiguous(value)?;
        let node = self.nodes.as_ref().map(|nodes| {
            let mut nodes = nodes.borrow_mut();
            nodes.push(Node { parents: Vec::new(), backward: None });
            nodes.len() - 1
        });
        Ok(Var { value, node })
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
        let Some(nodes) = self.nodes.as_ref().filter(|_| self.tracks(inputs)) else { return Var { value, node: None } };
        let mut nodes = nodes.borrow_mut();
        nodes.push(Node { parents: inputs.iter().map(|input| input.node).collect(), backward: Some(Box::new(backward)) });
        Var { value, node: Some(nodes.len() - 1) }
    }

    /// The gradients of `scalar` with respect to every leaf it depends on. Iterative: depth costs no stack.
    ///
    /// # Errors
    /// `Internal` when `scalar` is not a scalar of this tape, or an operator fails.
    pub fn backward(self, scalar: &Var) -> Result<Gradients> {
        let (Some(nodes), Some(last)) = (self.nodes, scalar.node) else {
            return Err(Error::internal("nothing was recorded for this value"));
        };
        let mut nodes = nodes.into_inner();
        if last >= nodes.len() || scalar.value.elem_count() != 1 {
            return Err(Error::internal("gradients need a scalar of the same tape"));
        }
        let mut gradients: Vec<Option<Tensor>> = vec![None; nodes.len()];
        gradients[last] = Some(dispatch!(scalar.value, T => tensor::<T>(vec![super::real::Real::of(1.0)], scalar.value.dims()))?);
        for at in (0..=last).rev() {
            let node = &mut nodes[at];
            let Some(backward) = node.backward.take() else { continue };
            let Some(gradient) = gradients[at].take() else { continue };
            let parents = std::mem::take(&mut node.parents);
            backward(gradient, &mut Sink { parents, gradients: &mut gradients })?;
        }
        Ok(Gradients(gradients))
    }
}
