//! A whole LSTM layer as one operator (Hochreiter & Schmidhuber, 1997; gates and names as in PyTorch: i, f, g, o).
//!
//! Per chunk of 16 rows and block of [`STEP_BLOCK`] steps: one product for the input projections of the block, then per
//! step one product with the packed recurrent weights and one fused gate kernel. The way back takes the same blocks in
//! reverse; what a block gives to the weights is added while it is in cache.

use std::ops::Range;
use std::sync::Arc;

use super::super::cuda::Cell;
use super::gates::{lstm_backward, lstm_forward};
use super::int8;
use super::matmul::{Panels, Start, add_columns, add_gradient, multiply};
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
    pub(in super::super) fn check(&self, x: &Var, packing: &Packing, gates: usize) -> Result<(usize, usize)> {
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

    pub(in super::super) fn parents(&self, x: &'a Var) -> [&'a Var; 5] {
        [x, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
    }
}

/// Time steps that run through the layer before the next are looked at: what they leave stays in the second-level cache.
pub(super) const STEP_BLOCK: usize = 8;
/// Gradients of the weights that exist at a time: chunks of one part add up in turn.
pub(super) const PARTS_MAX: usize = 16;

/// The steps of a chunk in blocks, as ranges of time steps.
pub(super) fn blocks(chunk: &Chunk) -> impl DoubleEndedIterator<Item = Range<usize>> + '_ {
    (0..chunk.steps().div_ceil(STEP_BLOCK)).map(|block| block * STEP_BLOCK..((block + 1) * STEP_BLOCK).min(chunk.steps()))
}

struct Layer<'a, T> {
    inputs: usize,
    hidden: usize,
    input: &'a Panels<T>,
    recurrent: &'a Panels<T>,
}

/// One chunk forward; slices hold the chunk's own steps, `gates` and `c` those of one block when nothing is `kept`.
fn forward_chunk<T: Real>(chunk: &Chunk, layer: &Layer<'_, T>, x: &[T], bias: &[T], gates: &mut [T], c: &mut [T], h: &mut [T], keep: bool) {
    let (hidden, width, inputs) = (layer.hidden, 4 * layer.hidden, layer.inputs);
    let mut last = vec![T::ZERO; if keep { 0 } else { chunk.rows.len() * hidden }];
    for block in blocks(chunk) {
        let (from, to) = (chunk.offsets[block.start], chunk.offsets[block.end]);
        let base = if keep { 0 } else { from };
        let own = &mut gates[(from - base) * width..(to - base) * width];
        multiply(&x[from * inputs..to * inputs], inputs, to - from, layer.input, own, width, Start::Bias(bias));
        for step in block {
            let (start, count) = (chunk.offsets[step], chunk.active(step));
            let gates = &mut gates[(start - base) * width..(start - base + count) * width];
            let (h_before, h) = h.split_at_mut(start * hidden);
            let (c_before, c) = c.split_at_mut((start - base) * hidden);
            let c_before = if step == 0 {
                &[]
            } else {
                let before = chunk.offsets[step - 1];
                multiply(&h_before[before * hidden..], hidden, count, layer.recurrent, gates, width, Start::Held);
                if before < base { &last[..] } else { &c_before[(before - base) * hidden..] }
            };
            lstm_forward(hidden, gates, c_before, &mut c[..count * hidden], &mut h[..count * hidden]);
            if !keep && to == start + count {
                last[..count * hidden].copy_from_slice(&c[..count * hidden]);
            }
        }
    }
}

/// `x [steps, in]` packed as `packing` says → hidden states `[steps, hidden]`, packed alike.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn lstm(tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &RecurrentWeights<'_>) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.recurrent(Cell::Lstm, x, packing, weights);
    }
    let (inputs, hidden) = weights.check(x, packing, 4)?;
    if let Some(h) = int8::recurrent(tape, x, packing, weights, int8::Cell::Lstm)? {
        return Ok(h);
    }
    let (steps, width) = (packing.steps(), 4 * hidden);
    let parents = weights.parents(x);
    dispatch!(x.value(), T => {
        let States { h, gates, c } = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let input = weights.weight_ih.transposed(slices[1], width, inputs);
            let recurrent = weights.weight_hh.transposed(slices[2], width, hidden);
            forward(packing, &Layer { inputs, hidden, input: &input, recurrent: &recurrent }, &slices, tape.tracks(&parents))
        };
        let value = tensor::<T>(h, &[steps, hidden])?;
        let saved = [x.clone(), weights.weight_ih.clone(), weights.weight_hh.clone()];
        let (packing, saved_h) = (Arc::clone(packing), value.clone());
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(Var::value).chain([&saved_h]).map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let input = saved[1].straight(slices[1], width, inputs);
            let recurrent = saved[2].straight(slices[2], width, hidden);
            let layer = Layer { inputs, hidden, input: &input, recurrent: &recurrent };
            let own = backward(&packing, &layer, (slices[0], slices[3]), gates, &c, guard.slice::<T>()?, sink.wants(0));
            pool::give(c);
            if sink.wants(0) {
                sink.add(0, tensor(own.x, &[steps, inputs])?)?;
            }
            own.weights.give((width, inputs, hidden), sink)
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
fn forward<T: Real>(packing: &Packing, layer: &Layer<'_, T>, slices: &[&[T]], keep: bool) -> States<T> {
    let (inputs, hidden) = (layer.inputs, layer.hidden);
    let (steps, width) = (packing.steps(), 4 * hidden);
    let kept = if keep { steps } else { 0 };
    let mut h = vec![T::ZERO; steps * hidden];
    let (mut gates, mut c) = (pool::take(kept * width), pool::take(kept * hidden));
    let bias: Vec<T> = slices[3].iter().zip(slices[4]).map(|(a, b)| *a + *b).collect();
    let (shared_h, shared_gates, shared_c) = (Shared::new(&mut h), Shared::new(&mut gates), Shared::new(&mut c));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        let (start, count) = (chunk.start, chunk.len());
        let x = &slices[0][start * inputs..(start + count) * inputs];
        // SAFETY: chunks are disjoint.
        let h = unsafe { shared_h.slice(start * hidden, count * hidden) };
        if keep {
            // SAFETY: chunks are disjoint.
            let (gates, c) = unsafe { (shared_gates.slice(start * width, count * width), shared_c.slice(start * hidden, count * hidden)) };
            forward_chunk(chunk, layer, x, &bias, gates, c, h, true);
        } else {
            let block = STEP_BLOCK * chunk.rows.len();
            let (mut gates, mut c) = (pool::take(block * width), pool::take(block * hidden));
            forward_chunk(chunk, layer, x, &bias, &mut gates, &mut c, h, false);
            pool::give(gates);
            pool::give(c);
        }
    });
    States { h, gates, c }
}

/// Gradients of a layer's weights.
pub(super) struct WeightGradients<T> {
    pub(super) input: Vec<T>,
    pub(super) recurrent: Vec<T>,
    pub(super) bias_ih: Vec<T>,
    pub(super) bias_hh: Vec<T>,
}

impl<T: Real> WeightGradients<T> {
    fn new((width, inputs, hidden): (usize, usize, usize)) -> Self {
        let [input, recurrent, bias_ih, bias_hh] = [width * inputs, width * hidden, width, width].map(|len| vec![T::ZERO; len]);
        Self { input, recurrent, bias_ih, bias_hh }
    }

    /// Takes in the gradients `d [rows, width]` of the input's share of one block of a chunk's steps; `x` holds the
    /// chunk's own steps.
    pub(super) fn add_input(&mut self, chunk: &Chunk, block: &Range<usize>, d: &[T], x: &[T]) {
        let (width, steps) = (self.bias_ih.len(), chunk.offsets[block.end] - chunk.offsets[block.start]);
        let inputs = self.input.len() / width;
        add_gradient(d, width, &x[chunk.offsets[block.start] * inputs..], inputs, steps, &mut self.input);
        add_columns(&d[..steps * width], &mut self.bias_ih);
    }

    /// The same for the state's share; `h` holds the chunk's own steps, `before` is a buffer.
    pub(super) fn add_recurrent(&mut self, chunk: &Chunk, block: &Range<usize>, d: &[T], h: &[T], before: &mut Vec<T>) {
        let (width, steps) = (self.bias_hh.len(), chunk.offsets[block.end] - chunk.offsets[block.start]);
        let hidden = self.recurrent.len() / width;
        // The states before each step; the first step of all has none.
        before.clear();
        let skip = if block.start == 0 { chunk.active(0) } else { 0 };
        for step in block.start.max(1)..block.end {
            let from = chunk.offsets[step - 1] * hidden;
            before.extend_from_slice(&h[from..from + chunk.active(step) * hidden]);
        }
        add_gradient(&d[skip * width..], width, before, hidden, steps - skip, &mut self.recurrent);
        add_columns(&d[..steps * width], &mut self.bias_hh);
    }

    /// Hands them over as the gradients of inputs 1 to 4 of a layer whose weights have the shape
    /// `(width, inputs, hidden)`.
    pub(super) fn give(self, (width, inputs, hidden): (usize, usize, usize), sink: &mut Sink<'_>) -> Result<()> {
        sink.add(1, tensor(self.input, &[width, inputs])?)?;
        sink.add(2, tensor(self.recurrent, &[width, hidden])?)?;
        sink.add(3, tensor(self.bias_ih, &[width])?)?;
        sink.add(4, tensor(self.bias_hh, &[width])?)
    }

    /// The sum of `parts`, in their order.
    pub(super) fn sum(parts: Vec<Self>) -> Option<Self> {
        parts.into_iter().reduce(|mut total, part| {
            let totals = [&mut total.input, &mut total.recurrent, &mut total.bias_ih, &mut total.bias_hh];
            for (total, part) in totals.into_iter().zip([part.input, part.recurrent, part.bias_ih, part.bias_hh]) {
                total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
            }
            total
        })
    }
}

/// Gradients of the input and the weights.
struct Own<T> {
    x: Vec<T>,
    weights: WeightGradients<T>,
}

/// Runs over the chunks, some parts side by side, each adding up the gradients of its own chunks in order.
pub(super) fn add_parts<T: Real>(
    packing: &Packing,
    sizes: (usize, usize, usize),
    body: impl Fn(&Chunk, &mut WeightGradients<T>) + Sync + Send,
) -> WeightGradients<T> {
    let chunks = packing.chunks();
    let each = chunks.len().div_ceil(PARTS_MAX).max(1);
    let parts = parallel::map(chunks.len().div_ceil(each), |part| {
        let mut sums = WeightGradients::new(sizes);
        chunks[part * each..((part + 1) * each).min(chunks.len())].iter().for_each(|chunk| body(chunk, &mut sums));
        sums
    });
    WeightGradients::sum(parts).unwrap_or_else(|| WeightGradients::new(sizes))
}

/// `given`: x and the hidden states. The activated gates are used up.
fn backward<T: Real>(
    packing: &Packing,
    layer: &Layer<'_, T>,
    (x, h): (&[T], &[T]),
    mut gates: Vec<T>,
    c: &[T],
    gradient: &[T],
    wants_x: bool,
) -> Own<T> {
    let (inputs, hidden) = (layer.inputs, layer.hidden);
    let width = 4 * hidden;
    let mut d_x = vec![T::ZERO; if wants_x { packing.steps() * inputs } else { 0 }];
    let (shared_x, shared_gates) = (Shared::new(&mut d_x), Shared::new(&mut gates));
    let weights = add_parts(packing, (width, inputs, hidden), |chunk, sums| {
        let (start, count) = (chunk.start, chunk.len());
        // SAFETY: chunks are disjoint.
        let (gates, d_x) = unsafe {
            let d_x = if wants_x { shared_x.slice(start * inputs, count * inputs) } else { &mut [] };
            (shared_gates.slice(start * width, count * width), d_x)
        };
        let own = start * hidden..(start + count) * hidden;
        let saved = (&x[start * inputs..(start + count) * inputs], &h[own.clone()], &c[own.clone()]);
        backward_chunk(chunk, layer, gates, saved, &gradient[own], d_x, sums);
    });
    pool::give(gates);
    Own { x: d_x, weights }
}

/// One chunk back: activated gates become gradients, block by block, and go on to the weights while they are in cache.
fn backward_chunk<T: Real>(
    chunk: &Chunk,
    layer: &Layer<'_, T>,
    gates: &mut [T],
    (x, h, c): (&[T], &[T], &[T]),
    gradient: &[T],
    d_x: &mut [T],
    sums: &mut WeightGradients<T>,
) {
    let (inputs, hidden, width) = (layer.inputs, layer.hidden, 4 * layer.hidden);
    let rows = chunk.rows.len();
    let (mut d_h, mut d_c, mut before) = (vec![T::ZERO; rows * hidden], vec![T::ZERO; rows * hidden], Vec::new());
    for block in blocks(chunk).rev() {
        for step in block.clone().rev() {
            let (start, count) = (chunk.offsets[step], chunk.active(step));
            let gates = &mut gates[start * width..(start + count) * width];
            let c_before = if step == 0 { c } else { &c[chunk.offsets[step - 1] * hidden..] };
            lstm_backward(hidden, gates, &c[start * hidden..], c_before, &d_h, &gradient[start * hidden..], &mut d_c, step == 0);
            if step > 0 {
                multiply(gates, width, count, layer.recurrent, &mut d_h, hidden, Start::Zero);
            }
        }
        let (from, to) = (chunk.offsets[block.start], chunk.offsets[block.end]);
        let d = &gates[from * width..to * width];
        if !d_x.is_empty() {
            multiply(d, width, to - from, layer.input, &mut d_x[from * inputs..to * inputs], inputs, Start::Zero);
        }
        sums.add_input(chunk, &block, d, x);
        sums.add_recurrent(chunk, &block, d, h, &mut before);
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
