//! A whole Elman layer as one operator (Elman, 1990; names as in PyTorch): `h = act(W_ih x + b_ih + W_hh h' + b_hh)`.
//!
//! Structure as in [`super::lstm`]. The states are all that the way back needs: both activations give their derivative
//! from their result.

use std::sync::Arc;

use super::activation::Activation;
use super::lstm::{RecurrentWeights, states_before};
use super::matmul::{Panels, column_sums, multiply, weight_gradient};
use super::packing::{Chunk, Packing};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use crate::error::Result;

vectorise! {
    fn activate<T>(activation: Activation, values: &mut [T]) {
        activation.apply(values);
    }
}

vectorise! {
    /// The gradient before the activation: `d_out` comes from above, `d_h` from the step after.
    fn step_back<T>(activation: Activation, h: &[T], d_out: &[T], d_h: &[T], d: &mut [T]) {
        let count = d.len();
        let (h, d_out, d_h) = (&h[..count], &d_out[..count], &d_h[..count]);
        for i in 0..count {
            d[i] = activation.backward(d_out[i] + d_h[i], h[i]);
        }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    inputs: usize,
    hidden: usize,
    activation: Activation,
}

/// `x [steps, in]` packed as `packing` says → hidden states `[steps, hidden]`, packed alike. One gate: `weight_ih` is
/// `[hidden, in]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn rnn(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>, activation: Activation) -> Result<Var> {
    let (inputs, hidden) = weights.check(x, packing, 1)?;
    let sizes = Sizes { inputs, hidden, activation };
    let steps = packing.steps();
    let parents = weights.parents(x);
    dispatch!(x.value(), T => {
        let h = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            forward(packing, sizes, &slices)
        };
        let value = tensor::<T>(h, &[steps, hidden])?;
        let saved = [x.value(), weights.weight_ih.value(), weights.weight_hh.value(), &value].map(Clone::clone);
        let packing = Arc::clone(packing);
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let (d, d_x) = backward(&packing, sizes, &slices, guard.slice::<T>()?, sink.wants(0));
            let before = states_before(slices[3], &packing, hidden);
            let bias = column_sums(&d, hidden);
            if sink.wants(0) {
                sink.add(0, tensor(d_x, &[steps, inputs])?)?;
            }
            sink.add(1, tensor(weight_gradient(&d, slices[0], steps, hidden, inputs), &[hidden, inputs])?)?;
            sink.add(2, tensor(weight_gradient(&d, &before, steps, hidden, hidden), &[hidden, hidden])?)?;
            pool::give(d);
            pool::give(before);
            sink.add(3, tensor(bias.clone(), &[hidden])?)?;
            sink.add(4, tensor(bias, &[hidden])?)
        }))
    })
}

/// `slices`: x and the weights, in the order of [`RecurrentWeights`].
fn forward<T: Real>(packing: &Packing, sizes: Sizes, slices: &[&[T]]) -> Vec<T> {
    let Sizes { inputs, hidden, activation } = sizes;
    let mut h = vec![T::ZERO; packing.steps() * hidden];
    let panels = (Panels::transposed(slices[1], hidden, inputs), Panels::transposed(slices[2], hidden, hidden));
    let bias: Vec<T> = slices[3].iter().zip(slices[4]).map(|(a, b)| *a + *b).collect();
    let shared = Shared::new(&mut h);
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        // SAFETY: chunks are disjoint.
        let h = unsafe { shared.slice(start * hidden, count * hidden) };
        h.chunks_exact_mut(hidden).for_each(|row| row.copy_from_slice(&bias));
        multiply(&slices[0][start * inputs..(start + count) * inputs], inputs, count, &panels.0, h, hidden, true);
        for step in 0..chunk.steps() {
            let (h_before, h) = h.split_at_mut(chunk.offsets[step] * hidden);
            let own = &mut h[..chunk.active(step) * hidden];
            if step > 0 {
                let before = &h_before[chunk.offsets[step - 1] * hidden..];
                multiply(before, hidden, chunk.active(step), &panels.1, own, hidden, true);
            }
            activate(activation, own);
        }
    });
    h
}

/// `slices`: x, weight_ih, weight_hh, h. Returns the gradients before the activation, `[steps, hidden]`, and of x.
fn backward<T: Real>(packing: &Packing, sizes: Sizes, slices: &[&[T]], gradient: &[T], wants_x: bool) -> (Vec<T>, Vec<T>) {
    let Sizes { inputs, hidden, activation } = sizes;
    let panels = (Panels::straight(slices[1], hidden, inputs), Panels::straight(slices[2], hidden, hidden));
    let mut d = pool::take::<T>(packing.steps() * hidden);
    let mut d_x = vec![T::ZERO; if wants_x { packing.steps() * inputs } else { 0 }];
    let (shared, shared_x) = (Shared::new(&mut d), Shared::new(&mut d_x));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        let own = start * hidden..(start + count) * hidden;
        // SAFETY: chunks are disjoint.
        let d = unsafe { shared.slice(start * hidden, count * hidden) };
        backward_chunk(chunk, hidden, activation, &slices[3][own.clone()], &gradient[own], &panels.1, d);
        if wants_x {
            // SAFETY: chunks are disjoint.
            multiply(d, hidden, count, &panels.0, unsafe { shared_x.slice(start * inputs, count * inputs) }, inputs, false);
        }
    });
    (d, d_x)
}

/// One chunk back; slices hold the chunk's own steps.
fn backward_chunk<T: Real>(
    chunk: &Chunk,
    hidden: usize,
    activation: Activation,
    h: &[T],
    gradient: &[T],
    recurrent: &Panels<T>,
    d: &mut [T],
) {
    let mut d_h = vec![T::ZERO; chunk.rows.len() * hidden];
    for step in (0..chunk.steps()).rev() {
        let (start, count) = (chunk.offsets[step], chunk.active(step));
        let own = start * hidden..(start + count) * hidden;
        step_back(activation, &h[own.clone()], &gradient[own.clone()], &d_h, &mut d[own.clone()]);
        if step > 0 {
            multiply(&d[own], hidden, count, recurrent, &mut d_h, hidden, false);
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
        for activation in [Activation::Tanh, Activation::Relu] {
            for lengths in [vec![1], vec![2, 1, 2], vec![7, 3, 0], (0..17).map(|i| i % 3).collect(), vec![7]] {
                let packing = Arc::new(Packing::new(&lengths));
                let tensors = [
                    normal(&[packing.steps(), inputs], 1),
                    normal(&[hidden, inputs], 2),
                    normal(&[hidden, hidden], 3),
                    normal(&[hidden], 4),
                    normal(&[hidden], 5),
                ];
                check(&tensors, |tape, v| {
                    let weights = RecurrentWeights { weight_ih: &v[1], weight_hh: &v[2], bias_ih: &v[3], bias_hh: &v[4] };
                    rnn(tape, &v[0], &packing, &weights, activation)
                });
            }
        }
    }
}
