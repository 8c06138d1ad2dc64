//! A whole Elman layer as one operator (Elman, 1990; names as in PyTorch): `h = act(W_ih x + b_ih + W_hh h' + b_hh)`.
//!
//! Structure as in [`super::lstm`]. The states are all that the way back needs: both activations give their derivative
//! from their result.

use std::sync::Arc;

use super::super::cuda::Cell;
use super::activation::Activation;
use super::int8;
use super::lstm::{RecurrentWeights, STEP_BLOCK, WeightGradients, add_parts, blocks};
use super::matmul::{Panels, Start, multiply};
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

struct Layer<'a, T> {
    inputs: usize,
    hidden: usize,
    activation: Activation,
    input: &'a Panels<T>,
    recurrent: &'a Panels<T>,
}

/// `x [steps, in]` packed as `packing` says → hidden states `[steps, hidden]`, packed alike. One gate: `weight_ih` is
/// `[hidden, in]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn rnn(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>, activation: Activation) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.recurrent(Cell::of(activation)?, x, packing, weights);
    }
    let (inputs, hidden) = weights.check(x, packing, 1)?;
    if let Some(h) = int8::recurrent(tape, x, packing, weights, int8::Cell::Rnn(activation))? {
        return Ok(h);
    }
    let steps = packing.steps();
    let parents = weights.parents(x);
    dispatch!(x.value(), T => {
        let h = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let input = weights.weight_ih.transposed(slices[1], hidden, inputs);
            let recurrent = weights.weight_hh.transposed(slices[2], hidden, hidden);
            forward(packing, &Layer { inputs, hidden, activation, input: &input, recurrent: &recurrent }, &slices)
        };
        let value = tensor::<T>(h, &[steps, hidden])?;
        let saved = [x.clone(), weights.weight_ih.clone(), weights.weight_hh.clone()];
        let (packing, saved_h) = (Arc::clone(packing), value.clone());
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(Var::value).chain([&saved_h]).map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let input = saved[1].straight(slices[1], hidden, inputs);
            let recurrent = saved[2].straight(slices[2], hidden, hidden);
            let layer = Layer { inputs, hidden, activation, input: &input, recurrent: &recurrent };
            let (d_x, weights) = backward(&packing, &layer, (slices[0], slices[3]), guard.slice::<T>()?, sink.wants(0));
            if sink.wants(0) {
                sink.add(0, tensor(d_x, &[steps, inputs])?)?;
            }
            weights.give((hidden, inputs, hidden), sink)
        }))
    })
}

/// `slices`: x and the weights, in the order of [`RecurrentWeights`].
fn forward<T: Real>(packing: &Packing, layer: &Layer<'_, T>, slices: &[&[T]]) -> Vec<T> {
    let (inputs, hidden) = (layer.inputs, layer.hidden);
    let mut h = vec![T::ZERO; packing.steps() * hidden];
    let bias: Vec<T> = slices[3].iter().zip(slices[4]).map(|(a, b)| *a + *b).collect();
    let shared = Shared::new(&mut h);
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        let x = &slices[0][start * inputs..(start + count) * inputs];
        // SAFETY: chunks are disjoint.
        let h = unsafe { shared.slice(start * hidden, count * hidden) };
        for block in blocks(chunk) {
            let (from, to) = (chunk.offsets[block.start], chunk.offsets[block.end]);
            let own = &mut h[from * hidden..to * hidden];
            multiply(&x[from * inputs..to * inputs], inputs, to - from, layer.input, own, hidden, Start::Bias(&bias));
            for step in block {
                let (h_before, h) = h.split_at_mut(chunk.offsets[step] * hidden);
                let own = &mut h[..chunk.active(step) * hidden];
                if step > 0 {
                    let before = &h_before[chunk.offsets[step - 1] * hidden..];
                    multiply(before, hidden, chunk.active(step), layer.recurrent, own, hidden, Start::Held);
                }
                activate(layer.activation, own);
            }
        }
    });
    h
}

/// `given`: x and the hidden states. Returns the gradients of x and of the weights.
fn backward<T: Real>(
    packing: &Packing,
    layer: &Layer<'_, T>,
    (x, h): (&[T], &[T]),
    gradient: &[T],
    wants_x: bool,
) -> (Vec<T>, WeightGradients<T>) {
    let (inputs, hidden) = (layer.inputs, layer.hidden);
    let mut d_x = vec![T::ZERO; if wants_x { packing.steps() * inputs } else { 0 }];
    let shared_x = Shared::new(&mut d_x);
    let weights = add_parts(packing, (hidden, inputs, hidden), |chunk, sums| {
        let (start, count) = (chunk.start, chunk.len());
        let own = start * hidden..(start + count) * hidden;
        // SAFETY: chunks are disjoint.
        let d_x = if wants_x { unsafe { shared_x.slice(start * inputs, count * inputs) } } else { &mut [] };
        backward_chunk(chunk, layer, (&x[start * inputs..(start + count) * inputs], &h[own.clone()]), &gradient[own], d_x, sums);
    });
    (d_x, weights)
}

/// One chunk back; slices hold the chunk's own steps.
fn backward_chunk<T: Real>(
    chunk: &Chunk,
    layer: &Layer<'_, T>,
    (x, h): (&[T], &[T]),
    gradient: &[T],
    d_x: &mut [T],
    sums: &mut WeightGradients<T>,
) {
    let (inputs, hidden, rows) = (layer.inputs, layer.hidden, chunk.rows.len());
    let (mut d_h, mut states) = (vec![T::ZERO; rows * hidden], Vec::new());
    let mut d = pool::take::<T>(STEP_BLOCK * rows * hidden);
    for block in blocks(chunk).rev() {
        let (from, to) = (chunk.offsets[block.start], chunk.offsets[block.end]);
        for step in block.clone().rev() {
            let (start, count) = (chunk.offsets[step], chunk.active(step));
            let own = start * hidden..(start + count) * hidden;
            let d = &mut d[(start - from) * hidden..(start - from + count) * hidden];
            step_back(layer.activation, &h[own.clone()], &gradient[own], &d_h, d);
            if step > 0 {
                multiply(d, hidden, count, layer.recurrent, &mut d_h, hidden, Start::Zero);
            }
        }
        let d = &d[..(to - from) * hidden];
        if !d_x.is_empty() {
            multiply(d, hidden, to - from, layer.input, &mut d_x[from * inputs..to * inputs], inputs, Start::Zero);
        }
        sums.add_input(chunk, &block, d, x);
        sums.add_recurrent(chunk, &block, d, h, &mut states);
    }
    pool::give(d);
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
