//! Layer normalisation (Ba, Kiros & Hinton, 2016): every row to mean 0 and variance 1, then scaled and shifted.

use super::matmul::ROW_CHUNK;
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::{sum_lanes, vectorise};
use crate::error::{Error, Result};

/// Added to the variance; PyTorch's default.
const EPSILON: f64 = 1e-5;

vectorise! {
    /// Rows of `x` normalised into `y`; `scales` get 1/σ per row.
    fn normalise<T>(x: &[T], weight: &[T], bias: &[T], y: &mut [T], normal: &mut [T], scales: &mut [T]) {
        let width = weight.len();
        let share = T::of(1.0 / width as f64);
        for (row, scale) in scales.iter_mut().enumerate() {
            let own = row * width..(row + 1) * width;
            let (x, y, normal, bias) = (&x[own.clone()], &mut y[own.clone()], &mut normal[own], &bias[..width]);
            let mean = sum_lanes(width, |i| x[i]) * share;
            let variance = sum_lanes(width, |i| (x[i] - mean) * (x[i] - mean)) * share;
            *scale = T::ONE / T::sqrt(variance + T::of(EPSILON));
            for i in 0..width {
                normal[i] = (x[i] - mean) * *scale;
                y[i] = normal[i] * weight[i] + bias[i];
            }
        }
    }
}

vectorise! {
    /// The way back: sums for weight and bias, and `d_x` where it is not empty.
    fn normalise_backward<T>(
        gradient: &[T], normal: &[T], scales: &[T], weight: &[T], sums: (&mut [T], &mut [T]), d_x: &mut [T],
    ) {
        let width = weight.len();
        let share = T::of(1.0 / width as f64);
        let (d_weight, d_bias) = (&mut sums.0[..width], &mut sums.1[..width]);
        for (row, scale) in scales.iter().enumerate() {
            let own = row * width..(row + 1) * width;
            let (g, normal) = (&gradient[own.clone()], &normal[own.clone()]);
            for i in 0..width {
                d_weight[i] += g[i] * normal[i];
                d_bias[i] += g[i];
            }
            if !d_x.is_empty() {
                let mean = sum_lanes(width, |i| g[i] * weight[i]) * share;
                let slope = sum_lanes(width, |i| g[i] * weight[i] * normal[i]) * share;
                let d_x = &mut d_x[own];
                for i in 0..width {
                    d_x[i] = (g[i] * weight[i] - mean - normal[i] * slope) * *scale;
                }
            }
        }
    }
}

/// `x [rows, width]`, `weight [width]`, `bias [width]` → `[rows, width]`: `(x − mean) / √(variance + 1e-5) · weight + bias`
/// with mean and variance of each row.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn layer_norm(tape: &Tape, x: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.layer_norm(x, weight, bias);
    }
    let (rows, width) = x.dims2()?;
    if width == 0 || weight.dims() != [width] || bias.dims() != [width] {
        return Err(Error::internal(format!("layer_norm: input {:?} does not fit weight {:?}", x.dims(), weight.dims())));
    }
    let parents = [x, weight, bias];
    dispatch!(x.value(), T => {
        let (mut y, mut scales) = (vec![T::ZERO; rows * width], vec![T::ZERO; rows]);
        let keep = tape.tracks(&parents);
        let mut normal = pool::take(if keep { rows * width } else { 0 });
        {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let (shared_y, shared_scales, shared_normal) = (Shared::new(&mut y), Shared::new(&mut scales), Shared::new(&mut normal));
            parallel::for_each(rows.div_ceil(ROW_CHUNK), |chunk| {
                let first = chunk * ROW_CHUNK;
                let count = ROW_CHUNK.min(rows - first);
                let (start, len) = (first * width, count * width);
                let mut scratch = vec![T::ZERO; if keep { 0 } else { len }];
                // SAFETY: chunks are disjoint.
                let (y, scales) = unsafe { (shared_y.slice(start, len), shared_scales.slice(first, count)) };
                // SAFETY: as above.
                let normal = if keep { unsafe { shared_normal.slice(start, len) } } else { &mut scratch[..] };
                normalise(&slices[0][start..start + len], slices[1], slices[2], y, normal, scales);
            });
        }
        let saved_weight = weight.value().clone();
        Ok(tape.record(tensor::<T>(y, &[rows, width])?, &parents, move |gradient, sink: &mut Sink<'_>| {
            let (guard, weight) = (read(&gradient)?, read(&saved_weight)?);
            let own = backward(guard.slice::<T>()?, &normal, &scales, weight.slice::<T>()?, sink.wants(0));
            pool::give(normal);
            if sink.wants(0) {
                sink.add(0, tensor(own.x, &[rows, width])?)?;
            }
            sink.add(1, tensor(own.weight, &[width])?)?;
            sink.add(2, tensor(own.bias, &[width])?)
        }))
    })
}

struct Own<T> {
    x: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

fn backward<T: Real>(gradient: &[T], normal: &[T], scales: &[T], weight: &[T], wants_x: bool) -> Own<T> {
    let (rows, width) = (scales.len(), weight.len());
    let mut x = vec![T::ZERO; if wants_x { rows * width } else { 0 }];
    let shared_x = Shared::new(&mut x);
    let parts = parallel::map(rows.div_ceil(ROW_CHUNK), |chunk| {
        let first = chunk * ROW_CHUNK;
        let count = ROW_CHUNK.min(rows - first);
        let own = first * width..(first + count) * width;
        let mut sums = (vec![T::ZERO; width], vec![T::ZERO; width]);
        // SAFETY: chunks are disjoint.
        let d_x = unsafe { shared_x.slice(if wants_x { own.start } else { 0 }, if wants_x { own.len() } else { 0 }) };
        let (d_weight, d_bias) = (&mut sums.0[..], &mut sums.1[..]);
        normalise_backward(&gradient[own.clone()], &normal[own], &scales[first..first + count], weight, (d_weight, d_bias), d_x);
        sums
    });
    let mut total = Own { x, weight: vec![T::ZERO; width], bias: vec![T::ZERO; width] };
    for (d_weight, d_bias) in parts {
        total.weight.iter_mut().zip(d_weight).for_each(|(total, part)| *total += part);
        total.bias.iter_mut().zip(d_bias).for_each(|(total, part)| *total += part);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        for (rows, width) in [(1, 5), (3, 17), (100, 2)] {
            let inputs = [normal(&[rows, width], 1), normal(&[width], 2), normal(&[width], 3)];
            check(&inputs, |tape, vars| layer_norm(tape, &vars[0], &vars[1], &vars[2]));
        }
    }

    #[test]
    fn a_constant_row_becomes_the_bias() {
        let tape = Tape::silent();
        let constant = |values: Vec<f32>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let x = constant(vec![3.0; 4], &[2, 2]);
        let y = layer_norm(&tape, &x, &constant(vec![2.0, 2.0], &[2]), &constant(vec![0.5, -1.0], &[2])).unwrap();
        assert_eq!(to_vec::<f32>(y.value()).unwrap(), [0.5, -1.0, 0.5, -1.0]);
        assert!(layer_norm(&tape, &x, &constant(vec![2.0], &[1]), &constant(vec![0.5], &[1])).is_err());
    }
}
