//! A whole GRU layer as one operator (Cho et al., 2014; gates and names as in PyTorch and cuDNN: r, z, n, with the
//! reset gate applied after the recurrent product).
//!
//! Structure as in [`super::lstm`].

use std::sync::Arc;

use super::gates::{gru_backward, gru_forward};
use super::lstm::{RecurrentWeights, states_before};
use super::matmul::{Panels, column_sums, multiply, weight_gradient};
use super::packing::{Chunk, Packing};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::Result;

struct Layer<'a, T> {
    inputs: usize,
    hidden: usize,
    input_panels: Panels<T>,
    recurrent_panels: Panels<T>,
    bias_ih: &'a [T],
    bias_hh: &'a [T],
}

/// One chunk forward; slices hold the chunk's own steps.
fn forward_chunk<T: Real>(chunk: &Chunk, layer: &Layer<'_, T>, x: &[T], gates: &mut [T], recurrent: &mut [T], h: &mut [T]) {
    let (hidden, width) = (layer.hidden, 3 * layer.hidden);
    gates.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(layer.bias_ih));
    recurrent.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(layer.bias_hh));
    multiply(x, layer.inputs, chunk.len(), &layer.input_panels, gates, width, true);
    for step in 0..chunk.steps() {
        let (start, count) = (chunk.offsets[step], chunk.active(step));
        let own = start * width..(start + count) * width;
        let (h_before, h) = h.split_at_mut(start * hidden);
        let before = if step == 0 { start } else { chunk.offsets[step - 1] };
        let h_before = &h_before[before * hidden..];
        if step > 0 {
            multiply(h_before, hidden, count, &layer.recurrent_panels, &mut recurrent[own.clone()], width, true);
        }
        gru_forward(hidden, &mut gates[own.clone()], &recurrent[own], h_before, &mut h[..count * hidden]);
    }
}

/// `x [steps, in]` packed as `packing` says → hidden states `[steps, hidden]`, packed alike.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn gru(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>) -> Result<Var> {
    let (inputs, hidden) = weights.check(x, packing, 3)?;
    let (steps, width) = (packing.steps(), 3 * hidden);
    let parents = weights.parents(x);
    dispatch!(x.value(), T => {
        let States { h, gates, recurrent } = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let layer = Layer {
                inputs,
                hidden,
                input_panels: Panels::transposed(slices[1], width, inputs),
                recurrent_panels: Panels::transposed(slices[2], width, hidden),
                bias_ih: slices[3],
                bias_hh: slices[4],
            };
            forward(packing, &layer, slices[0], tape.tracks(&parents))
        };
        let value = tensor::<T>(h, &[steps, hidden])?;
        let saved = [x.value(), weights.weight_ih.value(), weights.weight_hh.value(), &value].map(Clone::clone);
        let packing = Arc::clone(packing);
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let (mut gates, mut recurrent) = (gates, recurrent);
            let d_x = backward(&packing, (inputs, hidden), &slices, &mut gates, &mut recurrent, guard.slice::<T>()?, sink.wants(0));
            let before = states_before(slices[3], &packing, hidden);
            if sink.wants(0) {
                sink.add(0, tensor(d_x, &[steps, inputs])?)?;
            }
            sink.add(1, tensor(weight_gradient(&gates, slices[0], steps, width, inputs), &[width, inputs])?)?;
            sink.add(2, tensor(weight_gradient(&recurrent, &before, steps, width, hidden), &[width, hidden])?)?;
            sink.add(3, tensor(column_sums(&gates, width), &[width])?)?;
            sink.add(4, tensor(column_sums(&recurrent, width), &[width])?)?;
            pool::give(gates);
            pool::give(recurrent);
            pool::give(before);
            Ok(())
        }))
    })
}

/// What the forward pass leaves; the last two are empty when nothing is recorded.
struct States<T> {
    h: Vec<T>,
    gates: Vec<T>,
    recurrent: Vec<T>,
}

fn forward<T: Real>(packing: &Packing, layer: &Layer<'_, T>, x: &[T], keep: bool) -> States<T> {
    let (inputs, hidden) = (layer.inputs, layer.hidden);
    let (steps, width) = (packing.steps(), 3 * hidden);
    let kept = if keep { steps * width } else { 0 };
    let mut h = vec![T::ZERO; steps * hidden];
    let (mut gates, mut recurrent) = (pool::take(kept), pool::take(kept));
    let (shared_h, shared_gates, shared_recurrent) = (Shared::new(&mut h), Shared::new(&mut gates), Shared::new(&mut recurrent));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        let x = &x[start * inputs..(start + count) * inputs];
        let scratch = || vec![T::ZERO; if keep { 0 } else { count * width }];
        let mut own = (scratch(), scratch());
        // SAFETY: chunks are disjoint.
        let h = unsafe { shared_h.slice(start * hidden, count * hidden) };
        let (gates, recurrent) = if keep {
            // SAFETY: chunks are disjoint.
            unsafe { (shared_gates.slice(start * width, count * width), shared_recurrent.slice(start * width, count * width)) }
        } else {
            (&mut own.0[..], &mut own.1[..])
        };
        forward_chunk(chunk, layer, x, gates, recurrent, h);
    });
    States { h, gates, recurrent }
}

/// `slices`: x, weight_ih, weight_hh, h. Gates and recurrent shares become their gradients; returns that of x.
fn backward<T: Real>(
    packing: &Packing,
    (inputs, hidden): (usize, usize),
    slices: &[&[T]],
    gates: &mut [T],
    recurrent: &mut [T],
    gradient: &[T],
    wants_x: bool,
) -> Vec<T> {
    let width = 3 * hidden;
    let panels = (Panels::straight(slices[1], width, inputs), Panels::straight(slices[2], width, hidden));
    let mut d_x = vec![T::ZERO; if wants_x { packing.steps() * inputs } else { 0 }];
    let (shared_x, shared_gates, shared_recurrent) = (Shared::new(&mut d_x), Shared::new(gates), Shared::new(recurrent));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        // SAFETY: chunks are disjoint.
        let (gates, recurrent) =
            unsafe { (shared_gates.slice(start * width, count * width), shared_recurrent.slice(start * width, count * width)) };
        let own = start * hidden..(start + count) * hidden;
        backward_chunk(chunk, hidden, gates, recurrent, &slices[3][own.clone()], &gradient[own], &panels.1);
        if wants_x {
            // SAFETY: chunks are disjoint.
            multiply(gates, width, count, &panels.0, unsafe { shared_x.slice(start * inputs, count * inputs) }, inputs, false);
        }
    });
    d_x
}

/// One chunk back: activated gates and the state's shares become gradients.
fn backward_chunk<T: Real>(
    chunk: &Chunk,
    hidden: usize,
    gates: &mut [T],
    recurrent: &mut [T],
    h: &[T],
    gradient: &[T],
    panels: &Panels<T>,
) {
    let width = 3 * hidden;
    let mut d_h = vec![T::ZERO; chunk.rows.len() * hidden];
    for step in (0..chunk.steps()).rev() {
        let (start, count) = (chunk.offsets[step], chunk.active(step));
        let own = start * width..(start + count) * width;
        let before = if step == 0 { 0 } else { chunk.offsets[step - 1] };
        let recurrent = &mut recurrent[own.clone()];
        gru_backward(hidden, &mut gates[own], recurrent, &h[before * hidden..], &gradient[start * hidden..], &mut d_h, step == 0);
        if step > 0 {
            multiply(recurrent, width, count, panels, &mut d_h, hidden, true);
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
                normal(&[3 * hidden, inputs], 2),
                normal(&[3 * hidden, hidden], 3),
                normal(&[3 * hidden], 4),
                normal(&[3 * hidden], 5),
            ];
            check(&tensors, |tape, v| {
                gru(tape, &v[0], &packing, &RecurrentWeights { weight_ih: &v[1], weight_hh: &v[2], bias_ih: &v[3], bias_hh: &v[4] })
            });
        }
    }
}
