//! A one-dimensional convolution over packed sequences and its maximum over time, as one operator (the feature maps of
//! Kim, "Convolutional neural networks for sentence classification", 2014).
//!
//! The maps exist for one chunk at a time: only each row's largest values and their steps are kept. So the way back
//! touches one step per row and map instead of all.

use std::sync::Arc;

use super::activation::Activation;
use super::int8;
use super::matmul::{Panels, Start, multiply};
use super::packing::{Chunk, Packing};
use super::parallel::{self, Shared};
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use crate::error::{Error, Result};

/// Maps whose weight gradients are one unit of work.
const MAP_CHUNK: usize = 16;

vectorise! {
    /// Keeps the larger values of `maps [rows, width]` in `best`, and at which step they came.
    fn keep_largest<T>(maps: &[T], step: u32, best: &mut [T], steps: &mut [u32]) {
        for ((value, best), at) in maps.iter().zip(best).zip(steps) {
            let more = *value > *best;
            *best = if more { *value } else { *best };
            *at = if more { step } else { *at };
        }
    }
}

vectorise! {
    /// `sums += share · values`.
    fn add_scaled<T>(share: T, values: &[T], sums: &mut [T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += share * *value;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    inputs: usize,
    maps: usize,
    taps: usize,
    activation: Activation,
}

impl Shape {
    /// The step that tap `tap` reads for step `step` of a sequence of `len`; as PyTorch's padding "same".
    fn source(self, step: usize, tap: usize, len: usize) -> Option<usize> {
        (step + tap).checked_sub((self.taps - 1) / 2).filter(|at| *at < len)
    }
}

/// The maps of one chunk, whose own steps they hold. `product(tap, first, rows, out, start)` multiplies `rows` steps from
/// `first` on with a tap. The middle tap reads every step, so it comes first and sets what the others add to.
fn convolve<T: Real>(shape: Shape, chunk: &Chunk, maps: &mut [T], product: impl Fn(usize, usize, usize, &mut [T], Start<'_, T>)) {
    let width = shape.maps;
    let middle = (shape.taps - 1) / 2;
    product(middle, 0, chunk.len(), maps, Start::Zero);
    for tap in (0..shape.taps).filter(|tap| *tap != middle) {
        let mut step = 0;
        while step < chunk.steps() {
            let Some(source) = shape.source(step, tap, chunk.steps()) else {
                step += 1;
                continue;
            };
            // Steps of as many rows as their sources lie like them, one after the other: one product for all of them.
            let mut end = step + 1;
            let mut rows = chunk.active(step).min(chunk.active(source));
            if chunk.active(step) == chunk.active(source) {
                let alike = |at: usize| at < chunk.steps() && chunk.active(at) == rows;
                while alike(end) && alike(source + end - step) {
                    end += 1;
                }
                rows *= end - step;
            }
            product(tap, chunk.offsets[source], rows, &mut maps[chunk.offsets[step] * width..], Start::Held);
            step = end;
        }
    }
}

/// `x [steps, in]` packed as `packing` says, `weight [maps, in, taps]`, `bias [maps]` → `[rows, maps]`: the largest value
/// over time of the convolution with padding "same", after `activation`; zeros for rows without steps. A relu of the
/// maximum is the maximum of the relus, at a fraction of the work.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn conv_max(tape: &Tape, x: &Var, packing: &Arc<Packing>, weight: &Var, bias: &Var, activation: Activation) -> Result<Var> {
    let (steps, inputs) = x.dims2()?;
    let (maps, taps) = match *weight.dims() {
        [maps, weight_inputs, taps] if weight_inputs == inputs && taps > 0 => (maps, taps),
        _ => return Err(Error::internal(format!("conv_max: input {:?} does not fit weight {:?}", x.dims(), weight.dims()))),
    };
    if steps != packing.steps() || bias.dims() != [maps] {
        return Err(Error::internal("conv_max: bias or packing do not fit the input"));
    }
    let shape = Shape { inputs, maps, taps, activation };
    if let Some(taps) = weight.taps8() {
        return scored(tape, x, packing, taps, bias, shape);
    }
    let parents = [x, weight, bias];
    dispatch!(x.value(), T => {
        let (value, largest) = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let pack = |tap| Panels::pack(&slices[1][tap..], inputs, maps, taps, inputs * taps);
            let panels: Vec<Panels<T>> = (0..taps).map(pack).collect();
            forward(shape, packing, slices[2], |chunk, maps| {
                let x = &slices[0][chunk.start * inputs..(chunk.start + chunk.len()) * inputs];
                convolve(shape, chunk, maps, |tap, first, rows, out, start| {
                    multiply(&x[first * inputs..], inputs, rows, &panels[tap], out, shape.maps, start);
                });
            })
        };
        let value = tensor::<T>(value, &[packing.rows(), maps])?;
        let saved = [x.value(), weight.value(), &value].map(Clone::clone);
        let packing = Arc::clone(packing);
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?.iter().zip(slices[2]).map(|(g, y)| activation.backward(*g, *y)).collect();
            let back = Back { shape, packing: &packing, x: slices[0], largest: &largest, gradient };
            if sink.wants(0) {
                sink.add(0, tensor(back.inputs(slices[1]), &[steps, inputs])?)?;
            }
            sink.add(1, tensor(back.weights(), &[maps, inputs, taps])?)?;
            sink.add(2, tensor(back.bias(), &[maps])?)
        }))
    })
}

/// The same with weights of 8 bits: a chunk's steps are quantised once for all taps.
fn scored(tape: &Tape, x: &Var, packing: &Packing, taps: &[int8::Panels8], bias: &Var, shape: Shape) -> Result<Var> {
    let (value, _) = {
        let (x, bias) = (read(x.value())?, read(bias.value())?);
        let (x, bias) = (x.slice::<f32>()?, bias.slice::<f32>()?);
        forward(shape, packing, bias, |chunk, maps| {
            let own = &x[chunk.start * shape.inputs..(chunk.start + chunk.len()) * shape.inputs];
            let own = int8::Quantised::of(own, chunk.len(), shape.inputs);
            convolve(shape, chunk, maps, |tap, first, rows, out, start| own.times(first, rows, &taps[tap], out, start));
        })
    };
    let value = tensor::<f32>(value, &[packing.rows(), shape.maps])?;
    Ok(tape.record(value, &[x], |_, _| Err(Error::internal("weights of 8 bits are not trained"))))
}

/// `convolve(chunk, maps)` fills a chunk's maps. Returns the result and for each of its values the step it came from.
fn forward<T: Real>(shape: Shape, packing: &Packing, bias: &[T], convolve: impl Fn(&Chunk, &mut [T]) + Sync + Send) -> (Vec<T>, Vec<u32>) {
    let Shape { maps: width, activation, .. } = shape;
    let (mut value, mut largest) = (vec![T::ZERO; packing.rows() * width], vec![0u32; packing.rows() * width]);
    let (shared_value, shared_largest) = (Shared::new(&mut value), Shared::new(&mut largest));
    parallel::for_each(packing.chunks().len(), |at| {
        let chunk = &packing.chunks()[at];
        if chunk.is_empty() {
            return;
        }
        let mut maps = vec![T::ZERO; chunk.len() * width];
        convolve(chunk, &mut maps);
        let running = chunk.active(0);
        let (mut best, mut steps) = (maps[..running * width].to_vec(), vec![0u32; running * width]);
        for step in 1..chunk.steps() {
            let own = chunk.offsets[step] * width..chunk.offsets[step + 1] * width;
            let count = own.len();
            keep_largest(&maps[own], step as u32, &mut best[..count], &mut steps[..count]);
        }
        for (at, (best, steps)) in best.chunks_exact(width).zip(steps.chunks_exact(width)).enumerate() {
            let to = chunk.rows[at] as usize * width;
            // SAFETY: each row belongs to one chunk.
            let (value, largest) = unsafe { (shared_value.slice(to, width), shared_largest.slice(to, width)) };
            value.iter_mut().zip(best).zip(bias).for_each(|((value, best), bias)| *value = *best + *bias);
            activation.apply(value);
            largest.copy_from_slice(steps);
        }
    });
    (value, largest)
}

/// The way back.
struct Back<'a, T> {
    shape: Shape,
    packing: &'a Packing,
    x: &'a [T],
    largest: &'a [u32],
    /// Before the activation.
    gradient: Vec<T>,
}

impl<T: Real> Back<'_, T> {
    /// Runs `body(map, tap, packed step, gradient)` for every input that a result of these maps comes from.
    fn sources(&self, chunk: &Chunk, maps: std::ops::Range<usize>, mut body: impl FnMut(usize, usize, usize, T)) {
        for (at, len) in chunk.lengths() {
            let row = chunk.rows[at] as usize;
            for map in maps.clone() {
                let gradient = self.gradient[row * self.shape.maps + map];
                // Behind a relu most gradients are zero.
                if gradient == T::ZERO {
                    continue;
                }
                let step = self.largest[row * self.shape.maps + map] as usize;
                for tap in 0..self.shape.taps {
                    if let Some(source) = self.shape.source(step, tap, len) {
                        body(map, tap, chunk.start + chunk.offsets[source] + at, gradient);
                    }
                }
            }
        }
    }

    fn inputs(&self, weight: &[T]) -> Vec<T> {
        let Shape { inputs, maps, taps, .. } = self.shape;
        // Per map and tap one contiguous row.
        let rows: Vec<T> =
            (0..maps * taps * inputs).map(|i| weight[(i / (taps * inputs) * inputs + i % inputs) * taps + i / inputs % taps]).collect();
        let mut d_x = vec![T::ZERO; self.packing.steps() * inputs];
        let shared = Shared::new(&mut d_x);
        parallel::for_each(self.packing.chunks().len(), |at| {
            let chunk = &self.packing.chunks()[at];
            self.sources(chunk, 0..maps, |map, tap, step, gradient| {
                // SAFETY: the steps of a chunk are its own.
                add_scaled(gradient, &rows[(map * taps + tap) * inputs..][..inputs], unsafe { shared.slice(step * inputs, inputs) });
            });
        });
        d_x
    }

    fn weights(&self) -> Vec<T> {
        let Shape { inputs, maps, taps, .. } = self.shape;
        let mut d_weight = vec![T::ZERO; maps * inputs * taps];
        let shared = Shared::new(&mut d_weight);
        parallel::for_each(maps.div_ceil(MAP_CHUNK), |part| {
            let own = part * MAP_CHUNK..maps.min((part + 1) * MAP_CHUNK);
            let mut rows = vec![T::ZERO; own.len() * taps * inputs];
            for chunk in self.packing.chunks() {
                self.sources(chunk, own.clone(), |map, tap, step, gradient| {
                    let to = ((map - own.start) * taps + tap) * inputs;
                    add_scaled(gradient, &self.x[step * inputs..][..inputs], &mut rows[to..to + inputs]);
                });
            }
            // SAFETY: parts are disjoint.
            let out = unsafe { shared.slice(own.start * inputs * taps, own.len() * inputs * taps) };
            for (i, out) in out.iter_mut().enumerate() {
                let (map, input, tap) = (i / (inputs * taps), i / taps % inputs, i % taps);
                *out = rows[(map * taps + tap) * inputs + input];
            }
        });
        d_weight
    }

    fn bias(&self) -> Vec<T> {
        let mut sums = vec![T::ZERO; self.shape.maps];
        for chunk in self.packing.chunks() {
            for (at, _) in chunk.lengths() {
                let from = chunk.rows[at] as usize * self.shape.maps;
                add_scaled(T::ONE, &self.gradient[from..from + self.shape.maps], &mut sums);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        for lengths in [vec![1], vec![2, 1, 2], vec![7, 3, 0], (0..17).map(|i| i % 5).collect(), vec![9]] {
            let packing = Arc::new(Packing::new(&lengths));
            for taps in [1, 2, 3, 5] {
                let tensors = [normal(&[packing.steps(), 2], 1), normal(&[3, 2, taps], 2), normal(&[3], 3)];
                for activation in [Activation::Identity, Activation::Relu] {
                    check(&tensors, |tape, v| conv_max(tape, &v[0], &packing, &v[1], &v[2], activation));
                }
            }
        }
    }

    #[test]
    fn the_largest_of_each_map_and_its_border() {
        let packing = Arc::new(Packing::new(&[3, 0]));
        let tape = Tape::silent();
        let constant = |values: Vec<f32>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let x = constant(vec![1.0, -2.0, 4.0], &[3, 1]);
        // x[t-1] + 10 x[t] + 100 x[t+1], and the same backwards, with nothing beyond the ends.
        let weight = constant(vec![1.0, 10.0, 100.0, 100.0, 10.0, 1.0], &[2, 1, 3]);
        let y = conv_max(&tape, &x, &packing, &weight, &constant(vec![0.5, 0.25], &[2]), Activation::Relu).unwrap();
        assert_eq!(to_vec::<f32>(y.value()).unwrap(), [381.5, 84.25, 0.0, 0.0]);
        assert!(conv_max(&tape, &x, &packing, &weight, &constant(vec![0.5], &[1]), Activation::Relu).is_err());
    }
}
