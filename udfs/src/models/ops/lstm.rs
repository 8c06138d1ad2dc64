//! A whole LSTM layer as one operator (Hochreiter & Schmidhuber, 1997; gates and names as in PyTorch: i, f, g, o).
//!
//! Per chunk of 16 rows: one product for the input projections of all steps, then per step one product with the packed
//! recurrent weights and one fused gate kernel. The weight gradients of all steps are one product each.

use std::sync::Arc;

use super::gates::{lstm_backward, lstm_forward};
use super::matmul::{Panels, column_sums, multiply, weight_gradient};
use super::packing::{Chunk, Packing};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// The learned parts of a recurrent layer; `G` = 4 gates for lstm, 3 for gru.
#[derive(Debug)]
pub struct RecurrentWeights<'a> {
    /// `[G · hidden, in]`.
    pub weight_ih: &'a Var,
    /// `[G · hidden, hidden]`.
    pub weight_hh: &'a Var,
    /// `[G · hidden]`.
    pub bias_ih: &'a Var,
    /// `[G · hidden]`.
    pub bias_hh: &'a Var,
}

impl<'a> RecurrentWeights<'a> {
    /// Checks shapes against a packed input; returns (inputs, hidden).
    pub(super) fn check(&self, x: &Var, packing: &Packing, gates: usize) -> Result<(usize, usize)> {
        let (steps, inputs) = x.dims2()?;
        let (rows, hidden) = self.weight_hh.dims2()?;
        if rows != gates * hidden
            || self.weight_ih.dims() != [rows, inputs]
            || self.bias_ih.dims() != [rows]
            || self.bias_hh.dims() != [rows]
            || steps != packing.steps()
        {
            return Err(Error::internal("recurrent layer: the weights do not fit the input"));
        }
        Ok((inputs, hidden))
    }

    pub(super) fn parents(&self, x: &'a Var) -> [&'a Var; 5] {
        [x, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
    }
}

/// `hidden` states of the step before, for every packed step; zeros at first steps: `[steps, hidden]`.
pub(super) fn states_before<T: Real>(h: &[T], packing: &Packing, hidden: usize) -> Vec<T> {
    let mut before = pool::take::<T>(h.len());
    for chunk in packing.chunks() {
        before[chunk.start * hidden..][..chunk.offsets.get(1).map_or(0, |first| first * hidden)].fill(T::ZERO);
        for step in 1..chunk.steps() {
            let (from, to, count) = (chunk.start + chunk.offsets[step - 1], chunk.start + chunk.offsets[step], chunk.active(step));
            before[to * hidden..(to + count) * hidden].copy_from_slice(&h[from * hidden..(from + count) * hidden]);
        }
    }
    before
}

struct Sizes {
    inputs: usize,
    hidden: usize,
}

/// One chunk forward; slices hold the chunk's own steps.
fn forward_chunk<T: Real>(
    chunk: &Chunk,
    sizes: &Sizes,
    x: &[T],
    panels: (&Panels<T>, &Panels<T>),
    bias: &[T],
    gates: &mut [T],
    c: &mut [T],
    h: &mut [T],
) {
    let (hidden, width) = (sizes.hidden, 4 * sizes.hidden);
    gates.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(bias));
    multiply(x, sizes.inputs, chunk.len(), panels.0, gates, width, true);
    for step in 0..chunk.steps() {
        let (start, count) = (chunk.offsets[step], chunk.active(step));
        let gates = &mut gates[start * width..(start + count) * width];
        let (h_before, h) = h.split_at_mut(start * hidden);
        let (c_before, c) = c.split_at_mut(start * hidden);
        let before = if step == 0 { start } else { chunk.offsets[step - 1] };
        let (h_before, c_before) = (&h_before[before * hidden..], &c_before[before * hidden..]);
        if step > 0 {
            multiply(h_before, hidden, count, panels.1, gates, width, true);
        }
        lstm_forward(hidden, gates, c_before, &mut c[..count * hidden], &mut h[..count * hidden]);
    }
}

/// `x [steps, in]` packed as `packing` says → hidden states `[steps, hidden]`, packed alike.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn lstm(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>) -> Result<Var> {
    let (inputs, hidden) = weights.check(x, packing, 4)?;
    let sizes = Sizes { inputs, hidden };
    let (steps, width) = (packing.steps(), 4 * hidden);
    let parents = weights.parents(x);
    dispatch!(x.value(), T => {
        let States { h, gates, c } = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            forward(packing, &sizes, &slices, tape.tracks(&parents))
        };
        let value = tensor::<T>(h, &[steps, hidden])?;
        let saved = [x.value(), weights.weight_ih.value(), weights.weight_hh.value(), &value].map(Clone::clone);
        let packing = Arc::clone(packing);
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let (gates, d_x) = backward(&packing, &sizes, &slices, gates, &c, guard.slice::<T>()?, sink.wants(0));
            pool::give(c);
            let before = states_before(slices[3], &packing, hidden);
            let bias = column_sums(&gates, width);
            if sink.wants(0) {
                sink.add(0, tensor(d_x, &[steps, inputs])?)?;
            }
            sink.add(1, tensor(weight_gradient(&gates, slices[0], steps, width, inputs), &[width, inputs])?)?;
            sink.add(2, tensor(weight_gradient(&gates, &before, steps, width, hidden), &[width, hidden])?)?;
            pool::give(gates);
            pool::give(before);
            sink.add(3, tensor(bias.clone(), &[width])?)?;
            sink.add(4, tensor(bias, &[width])?)
        }))
    })
}

/// What the forward pass leaves; gates and cells are empty when nothing is recorded.
struct States<T> {
    h: Vec<T>,
    gates: Vec<T>,
    c: Vec<T>,
}

/// `slices`: x and the weights, in the order of [`RecurrentWeights`].
fn forward<T: Real>(packing: &Packing, sizes: &Sizes, slices: &[&[T]], keep: bool) -> States<T> {
    let &Sizes { inputs, hidden } = sizes;
    let (steps, width) = (packing.steps(), 4 * hidden);
    let kept = if keep { steps } else { 0 };
    let mut h = vec![T::ZERO; steps * hidden];
    let (mut gates, mut c) = (pool::take(kept * width), pool::take(kept * hidden));
    let panels = (Panels::transposed(slices[1], width, inputs), Panels::transposed(slices[2], width, hidden));
    let bias: Vec<T> = slices[3].iter().zip(slices[4]).map(|(a, b)| *a + *b).collect();
    let (shared_h, shared_gates, shared_c) = (Shared::new(&mut h), Shared::new(&mut gates), Shared::new(&mut c));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        let x = &slices[0][start * inputs..(start + count) * inputs];
        let mut own = if keep { (Vec::new(), Vec::new()) } else { (vec![T::ZERO; count * width], vec![T::ZERO; count * hidden]) };
        // SAFETY: chunks are disjoint.
        let h = unsafe { shared_h.slice(start * hidden, count * hidden) };
        let (gates, c) = if keep {
            // SAFETY: chunks are disjoint.
            unsafe { (shared_gates.slice(start * width, count * width), shared_c.slice(start * hidden, count * hidden)) }
        } else {
            (&mut own.0[..], &mut own.1[..])
        };
        forward_chunk(chunk, sizes, x, (&panels.0, &panels.1), &bias, gates, c, h);
    });
    States { h, gates, c }
}

/// `slices`: x, weight_ih, weight_hh, h. Returns the gradients of the gates, in the place of the gates, and of x.
fn backward<T: Real>(
    packing: &Packing,
    sizes: &Sizes,
    slices: &[&[T]],
    mut gates: Vec<T>,
    c: &[T],
    gradient: &[T],
    wants_x: bool,
) -> (Vec<T>, Vec<T>) {
    let &Sizes { inputs, hidden } = sizes;
    let width = 4 * hidden;
    let panels = (Panels::straight(slices[1], width, inputs), Panels::straight(slices[2], width, hidden));
    let mut d_x = vec![T::ZERO; if wants_x { packing.steps() * inputs } else { 0 }];
    let (shared_x, shared_gates) = (Shared::new(&mut d_x), Shared::new(&mut gates));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        // SAFETY: chunks are disjoint.
        let gates = unsafe { shared_gates.slice(start * width, count * width) };
        backward_chunk(chunk, hidden, gates, &c[start * hidden..], &gradient[start * hidden..], &panels.1);
        if wants_x {
            // SAFETY: chunks are disjoint.
            multiply(gates, width, count, &panels.0, unsafe { shared_x.slice(start * inputs, count * inputs) }, inputs, false);
        }
    });
    (gates, d_x)
}

/// One chunk back: activated gates become gradients. `c` and `gradient` start at the chunk.
fn backward_chunk<T: Real>(chunk: &Chunk, hidden: usize, gates: &mut [T], c: &[T], gradient: &[T], recurrent: &Panels<T>) {
    let width = 4 * hidden;
    let rows = chunk.rows.len();
    let (mut d_h, mut d_c) = (vec![T::ZERO; rows * hidden], vec![T::ZERO; rows * hidden]);
    for step in (0..chunk.steps()).rev() {
        let (start, count) = (chunk.offsets[step], chunk.active(step));
        let gates = &mut gates[start * width..(start + count) * width];
        let before = if step == 0 { 0 } else { chunk.offsets[step - 1] };
        lstm_backward(hidden, gates, &c[start * hidden..], &c[before * hidden..], &d_h, &gradient[start * hidden..], &mut d_c, step == 0);
        if step > 0 {
            multiply(gates, width, count, recurrent, &mut d_h, hidden, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients() {
        let (inputs, hidden) = (2, 3);
        for lengths in [vec![1], vec![2, 1, 2], vec![7, 3, 0], (0..17).map(|i| i % 3).collect(), vec![7]] {
            let packing = Arc::new(Packing::new(&lengths));
            let tensors = [
                normal(&[packing.steps(), inputs], 1),
                normal(&[4 * hidden, inputs], 2),
                normal(&[4 * hidden, hidden], 3),
                normal(&[4 * hidden], 4),
                normal(&[4 * hidden], 5),
            ];
            check(&tensors, |tape, v| {
                lstm(tape, &v[0], &packing, &RecurrentWeights { weight_ih: &v[1], weight_hh: &v[2], bias_ih: &v[3], bias_hh: &v[4] })
            });
        }
    }
}
