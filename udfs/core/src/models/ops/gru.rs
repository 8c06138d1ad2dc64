//! A whole GRU layer as one operator (Cho et al., 2014; gates and names as in PyTorch and cuDNN: r, z, n, with the
//! reset gate applied after the recurrent product).
//!
//! Structure as in [`super::lstm`].

use std::sync::Arc;

use super::super::cuda::Cell;
use super::gates::{gru_backward, gru_forward};
use super::int8;
use super::lstm::{RecurrentWeights, STEP_BLOCK, WeightGradients, add_parts, blocks};
use super::matmul::{Panels, Start, multiply};
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
    input: &'a Panels<T>,
    recurrent: &'a Panels<T>,
}

impl<T> Layer<'_, T> {
    /// Gates, inputs, hidden.
    fn sizes(&self) -> (usize, usize, usize) {
        (3 * self.hidden, self.inputs, self.hidden)
    }
}

/// One chunk forward; `x` and `h` hold the chunk's own steps, the gates too when they are kept, else those of one block.
fn forward_chunk<T: Real>(
    chunk: &Chunk,
    layer: &Layer<'_, T>,
    x: &[T],
    biases: (&[T], &[T]),
    (gates, recurrent): (&mut [T], &mut [T]),
    h: &mut [T],
    keep: bool,
) {
    let (width, inputs, hidden) = layer.sizes();
    for block in blocks(chunk) {
        let (from, to) = (chunk.offsets[block.start], chunk.offsets[block.end]);
        let base = if keep { 0 } else { from };
        let own = &mut gates[(from - base) * width..(to - base) * width];
        multiply(&x[from * inputs..to * inputs], inputs, to - from, layer.input, own, width, Start::Bias(biases.0));
        for step in block {
            let (start, count) = (chunk.offsets[step], chunk.active(step));
            let own = (start - base) * width..(start - base + count) * width;
            let (gates, recurrent) = (&mut gates[own.clone()], &mut recurrent[own]);
            let (h_before, h) = h.split_at_mut(start * hidden);
            let h_before = if step == 0 {
                recurrent.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(biases.1));
                &[]
            } else {
                let h_before = &h_before[chunk.offsets[step - 1] * hidden..];
                multiply(h_before, hidden, count, layer.recurrent, recurrent, width, Start::Bias(biases.1));
                h_before
            };
            gru_forward(hidden, gates, recurrent, h_before, &mut h[..count * hidden]);
        }
    }
}

/// `x [steps, in]` packed as `packing` says → hidden states `[steps, hidden]`, packed alike.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn gru(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.recurrent(Cell::Gru, x, packing, weights);
    }
    let (inputs, hidden) = weights.check(x, packing, 3)?;
    if let Some(h) = int8::recurrent(tape, x, packing, weights, int8::Cell::Gru)? {
        return Ok(h);
    }
    let (steps, width) = (packing.steps(), 3 * hidden);
    let parents = weights.parents(x);
    dispatch!(x.value(), T => {
        let States { h, gates, recurrent } = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let input = weights.weight_ih.transposed(slices[1], width, inputs);
            let recurrent = weights.weight_hh.transposed(slices[2], width, hidden);
            let layer = Layer { inputs, hidden, input: &input, recurrent: &recurrent };
            forward(packing, &layer, slices[0], (slices[3], slices[4]), tape.tracks(&parents))
        };
        let value = tensor::<T>(h, &[steps, hidden])?;
        let saved = [x.clone(), weights.weight_ih.clone(), weights.weight_hh.clone()];
        let (packing, saved_h) = (Arc::clone(packing), value.clone());
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(Var::value).chain([&saved_h]).map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let input_panels = saved[1].straight(slices[1], width, inputs);
            let recurrent_panels = saved[2].straight(slices[2], width, hidden);
            let layer = Layer { inputs, hidden, input: &input_panels, recurrent: &recurrent_panels };
            let mut shares = (gates, recurrent);
            let (d_x, weights) =
                backward(&packing, &layer, (slices[0], slices[3]), &mut shares, guard.slice::<T>()?, sink.wants(0));
            pool::give(shares.0);
            pool::give(shares.1);
            if sink.wants(0) {
                sink.add(0, tensor(d_x, &[steps, inputs])?)?;
            }
            weights.give(layer.sizes(), sink)
        }))
    })
}

/// What the forward pass leaves; the last two are empty when nothing is recorded.
struct States<T> {
    h: Vec<T>,
    gates: Vec<T>,
    recurrent: Vec<T>,
}

fn forward<T: Real>(packing: &Packing, layer: &Layer<'_, T>, x: &[T], biases: (&[T], &[T]), keep: bool) -> States<T> {
    let (width, inputs, hidden) = layer.sizes();
    let steps = packing.steps();
    let kept = if keep { steps * width } else { 0 };
    let mut h = vec![T::ZERO; steps * hidden];
    let (mut gates, mut recurrent) = (pool::take(kept), pool::take(kept));
    let (shared_h, shared_gates, shared_recurrent) = (Shared::new(&mut h), Shared::new(&mut gates), Shared::new(&mut recurrent));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        let x = &x[start * inputs..(start + count) * inputs];
        // SAFETY: chunks are disjoint.
        let h = unsafe { shared_h.slice(start * hidden, count * hidden) };
        if keep {
            // SAFETY: chunks are disjoint.
            let shares =
                unsafe { (shared_gates.slice(start * width, count * width), shared_recurrent.slice(start * width, count * width)) };
            forward_chunk(chunk, layer, x, biases, shares, h, true);
        } else {
            let block = STEP_BLOCK * chunk.rows.len() * width;
            let (mut gates, mut recurrent) = (pool::take(block), pool::take(block));
            forward_chunk(chunk, layer, x, biases, (&mut gates, &mut recurrent), h, false);
            pool::give(gates);
            pool::give(recurrent);
        }
    });
    States { h, gates, recurrent }
}

/// `given`: x and the hidden states. Gates and recurrent shares become their gradients; returns those of x and the weights.
fn backward<T: Real>(
    packing: &Packing,
    layer: &Layer<'_, T>,
    (x, h): (&[T], &[T]),
    shares: &mut (Vec<T>, Vec<T>),
    gradient: &[T],
    wants_x: bool,
) -> (Vec<T>, WeightGradients<T>) {
    let (width, inputs, hidden) = layer.sizes();
    let mut d_x = vec![T::ZERO; if wants_x { packing.steps() * inputs } else { 0 }];
    let (shared_x, shared_gates, shared_recurrent) = (Shared::new(&mut d_x), Shared::new(&mut shares.0), Shared::new(&mut shares.1));
    let weights = add_parts(packing, layer.sizes(), |chunk, sums| {
        let (start, count) = (chunk.start, chunk.len());
        // SAFETY: chunks are disjoint.
        let (gates, recurrent, d_x) = unsafe {
            let d_x = if wants_x { shared_x.slice(start * inputs, count * inputs) } else { &mut [] };
            (shared_gates.slice(start * width, count * width), shared_recurrent.slice(start * width, count * width), d_x)
        };
        let own = start * hidden..(start + count) * hidden;
        let saved = (&x[start * inputs..(start + count) * inputs], &h[own.clone()]);
        backward_chunk(chunk, layer, (gates, recurrent), saved, &gradient[own], d_x, sums);
    });
    (d_x, weights)
}

/// One chunk back: activated gates and the state's shares become gradients.
fn backward_chunk<T: Real>(
    chunk: &Chunk,
    layer: &Layer<'_, T>,
    (gates, recurrent): (&mut [T], &mut [T]),
    (x, h): (&[T], &[T]),
    gradient: &[T],
    d_x: &mut [T],
    sums: &mut WeightGradients<T>,
) {
    let (width, inputs, hidden) = layer.sizes();
    let (mut d_h, mut states) = (vec![T::ZERO; chunk.rows.len() * hidden], Vec::new());
    for block in blocks(chunk).rev() {
        for step in block.clone().rev() {
            let (start, count) = (chunk.offsets[step], chunk.active(step));
            let own = start * width..(start + count) * width;
            let before = if step == 0 { 0 } else { chunk.offsets[step - 1] };
            let recurrent = &mut recurrent[own.clone()];
            gru_backward(hidden, &mut gates[own], recurrent, &h[before * hidden..], &gradient[start * hidden..], &mut d_h, step == 0);
            if step > 0 {
                multiply(recurrent, width, count, layer.recurrent, &mut d_h, hidden, Start::Held);
            }
        }
        let (from, to) = (chunk.offsets[block.start], chunk.offsets[block.end]);
        let (gates, recurrent) = (&gates[from * width..to * width], &recurrent[from * width..to * width]);
        if !d_x.is_empty() {
            multiply(gates, width, to - from, layer.input, &mut d_x[from * inputs..to * inputs], inputs, Start::Zero);
        }
        sums.add_input(chunk, &block, gates, x);
        sums.add_recurrent(chunk, &block, recurrent, h, &mut states);
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
