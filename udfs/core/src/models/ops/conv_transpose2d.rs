//! Transposed convolutions over pictures, channels last: what makes a picture larger, and the way back of a convolution
//! with a stride.
//!
//! Every pixel becomes a patch, one product for a picture, and patches are added where they overlap. The way back takes the
//! patches of the gradient apart again.

use super::activation::Activation;
use super::conv2d::{PARTS, Window, for_each_stretch, stretch};
use super::matmul::{Panels, Start, Strided, multiply, product};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    height: usize,
    width: usize,
    inputs: usize,
    out_height: usize,
    out_width: usize,
    maps: usize,
    window: Window,
    activation: Activation,
}

impl Shape {
    fn new(x: &Var, weight: &Var, bias: Option<&Var>, window: Window, activation: Activation) -> Result<Self> {
        let misfit = || Error::internal(format!("conv_transpose2d: input {:?} does not fit weight {:?}", x.dims(), weight.dims()));
        let [rows, height, width, inputs] = *x.dims() else { return Err(misfit()) };
        let [weight_inputs, maps, size, size_too] = *weight.dims() else { return Err(misfit()) };
        let length = |places: usize| {
            (places.checked_sub(1)? * window.stride + window.size).checked_sub(2 * window.padding).filter(|length| *length > 0)
        };
        let (Some(out_height), Some(out_width)) = (length(height), length(width)) else { return Err(misfit()) };
        if [weight_inputs, size, size_too] != [inputs, window.size, window.size]
            || bias.is_some_and(|bias| bias.dims() != [maps])
            || maps * inputs * window.stride * window.size == 0
        {
            return Err(misfit());
        }
        Ok(Self { rows, height, width, inputs, out_height, out_width, maps, window, activation })
    }

    fn places(self) -> usize {
        self.height * self.width
    }

    /// Numbers of a picture.
    fn picture(self) -> usize {
        self.places() * self.inputs
    }

    /// Numbers of a picture's result.
    fn result(self) -> usize {
        self.out_height * self.out_width * self.maps
    }

    /// Numbers that a pixel becomes.
    fn patch(self) -> usize {
        self.window.size * self.window.size * self.maps
    }

    /// Runs `body(patch, pixel)` for every tap of every place that falls on a pixel of the result.
    fn for_each_pixel(self, mut body: impl FnMut(usize, usize)) {
        let Window { size, stride, padding } = self.window;
        let mut at = 0;
        for (y, x) in (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x))) {
            for (tap_y, tap_x) in (0..size).flat_map(|tap_y| (0..size).map(move |tap_x| (tap_y, tap_x))) {
                let y = (y * stride + tap_y).checked_sub(padding).filter(|y| *y < self.out_height);
                let x = (x * stride + tap_x).checked_sub(padding).filter(|x| *x < self.out_width);
                if let (Some(y), Some(x)) = (y, x) {
                    body(at, (y * self.out_width + x) * self.maps);
                }
                at += self.maps;
            }
        }
    }
}

/// `[in, maps, size, size]` as `[in, size · size, maps]`, or back.
fn swapped<T: Real>(weight: &[T], inputs: usize, first: usize, second: usize) -> Vec<T> {
    let block = first * second;
    (0..inputs * block).map(|i| weight[i / block * block + i % first * second + i % block / first]).collect()
}

/// `x [rows, height, width, in]`, `weight [in, maps, size, size]`, `bias [maps]` → `[rows, (height − 1) · stride − 2 · padding +
/// size, …, maps]`, as `torch.nn.ConvTranspose2d` but channels last, then `activation`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn conv_transpose2d(tape: &Tape, x: &Var, weight: &Var, bias: Option<&Var>, window: Window, activation: Activation) -> Result<Var> {
    let shape = Shape::new(x, weight, bias, window, activation)?;
    let parents: Vec<&Var> = [Some(x), Some(weight), bias].into_iter().flatten().collect();
    dispatch!(x.value(), T => {
        let value = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            forward(shape, &slices)
        };
        let value = tensor::<T>(value, &[shape.rows, shape.out_height, shape.out_width, shape.maps])?;
        let saved = [x.value(), weight.value(), &value].map(Clone::clone);
        let (x_dims, weight_dims) = (x.dims().to_vec(), weight.dims().to_vec());
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let own = backward(shape, &slices, guard.slice::<T>()?, sink.wants(0));
            if sink.wants(0) {
                sink.add(0, tensor(own.x, &x_dims)?)?;
            }
            sink.add(1, tensor(own.weight, &weight_dims)?)?;
            if sink.wants(2) {
                sink.add(2, tensor(own.bias, &[shape.maps])?)?;
            }
            Ok(())
        }))
    })
}

/// `slices`: x, weight, and the bias if there is one.
fn forward<T: Real>(shape: Shape, slices: &[&[T]]) -> Vec<T> {
    let (patch, maps) = (shape.patch(), shape.maps);
    let mut value = vec![T::ZERO; shape.rows * shape.result()];
    let shared = Shared::new(&mut value);
    let kernel = swapped(slices[1], shape.inputs, maps, shape.window.size * shape.window.size);
    let panels = Panels::straight(&kernel, shape.inputs, patch);
    for_each_stretch(shape.rows, |pictures| {
        let mut patches = pool::take(shape.places() * patch);
        for at in pictures {
            let picture = &slices[0][at * shape.picture()..(at + 1) * shape.picture()];
            // SAFETY: each picture has one result.
            let to = unsafe { shared.slice(at * shape.result(), shape.result()) };
            if let Some(bias) = slices.get(2) {
                to.chunks_exact_mut(maps).for_each(|pixel| pixel.copy_from_slice(bias));
            }
            multiply(picture, shape.inputs, shape.places(), &panels, &mut patches, patch, Start::Zero);
            shape.for_each_pixel(|from, pixel| {
                to[pixel..pixel + maps].iter_mut().zip(&patches[from..from + maps]).for_each(|(sum, value)| *sum += *value);
            });
            shape.activation.apply(to);
        }
        pool::give(patches);
    });
    value
}

struct Own<T> {
    x: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

/// `slices`: x, weight and the result; the weight's gradient is summed stretch by stretch, in order.
fn backward<T: Real>(shape: Shape, slices: &[&[T]], gradient: &[T], wants_x: bool) -> Own<T> {
    let Shape { inputs, maps, window, .. } = shape;
    let (patch, taps) = (shape.patch(), window.size * window.size);
    let mut x = vec![T::ZERO; if wants_x { shape.rows * shape.picture() } else { 0 }];
    let shared = Shared::new(&mut x);
    let kernel = swapped(slices[1], inputs, maps, taps);
    let panels = Panels::transposed(&kernel, inputs, patch);
    let parts = parallel::map(PARTS, |part| {
        let mut sums = (vec![T::ZERO; kernel.len()], vec![T::ZERO; maps]);
        let (mut patches, mut dy) = (pool::take(shape.places() * patch), pool::take(shape.result()));
        for at in stretch(shape.rows, part) {
            let own = at * shape.result()..(at + 1) * shape.result();
            for ((to, g), y) in dy.iter_mut().zip(&gradient[own.clone()]).zip(&slices[2][own]) {
                *to = shape.activation.backward(*g, *y);
            }
            for pixel in dy.chunks_exact(maps) {
                sums.1.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += *value);
            }
            patches.fill(T::ZERO);
            shape.for_each_pixel(|to, pixel| patches[to..to + maps].copy_from_slice(&dy[pixel..pixel + maps]));
            let picture = &slices[0][at * shape.picture()..(at + 1) * shape.picture()];
            let a = Strided { values: picture, row: 1, column: inputs };
            product([inputs, shape.places(), patch], a, &patches, patch, &mut sums.0, patch, true);
            if wants_x {
                // SAFETY: each picture has one gradient.
                let to = unsafe { shared.slice(at * shape.picture(), shape.picture()) };
                multiply(&patches, patch, shape.places(), &panels, to, inputs, Start::Zero);
            }
        }
        [patches, dy].into_iter().for_each(pool::give);
        sums
    });
    let mut total = (vec![T::ZERO; kernel.len()], vec![T::ZERO; maps]);
    for (weight, bias) in parts {
        total.0.iter_mut().zip(weight).for_each(|(total, part)| *total += part);
        total.1.iter_mut().zip(bias).for_each(|(total, part)| *total += part);
    }
    Own { x, weight: swapped(&total.0, inputs, taps, maps), bias: total.1 }
}

#[cfg(test)]
mod tests {
    use super::super::conv2d;
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    const DOUBLE: Window = Window { size: 4, stride: 2, padding: 1 };

    #[test]
    fn gradients() {
        for window in [DOUBLE, Window { size: 3, stride: 1, padding: 1 }, Window { size: 2, stride: 3, padding: 0 }] {
            for [rows, height, width] in [[1, 3, 2], [17, 1, 2]] {
                let tensors = [normal(&[rows, height, width, 2], 1), normal(&[2, 3, window.size, window.size], 2), normal(&[3], 3)];
                for activation in [Activation::Identity, Activation::Tanh] {
                    check(&tensors, |tape, v| conv_transpose2d(tape, &v[0], &v[1], Some(&v[2]), window, activation));
                    check(&tensors[..2], |tape, v| conv_transpose2d(tape, &v[0], &v[1], None, window, activation));
                }
            }
        }
    }

    /// `⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩` with the same weight: one is the transpose of the other.
    #[test]
    fn it_is_the_transpose_of_a_convolution() {
        let tape = Tape::silent();
        let constant = |shape: &[usize], stream| tape.constant(&normal(shape, stream)).unwrap();
        let (x, y, weight) = (constant(&[2, 6, 8, 3], 1), constant(&[2, 3, 4, 5], 2), constant(&[5, 3, 4, 4], 3));
        let forth = conv2d(&tape, &x, &weight, None, DOUBLE, Activation::Identity).unwrap();
        let back = conv_transpose2d(&tape, &y, &weight, None, DOUBLE, Activation::Identity).unwrap();
        assert_eq!((forth.dims(), back.dims()), (y.dims(), x.dims()));
        let inner = |a: &Var, b: &Var| {
            let (a, b) = (to_vec::<f64>(a.value()).unwrap(), to_vec::<f64>(b.value()).unwrap());
            a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>()
        };
        let (one, other) = (inner(&forth, &y), inner(&x, &back));
        assert!((one - other).abs() < 1e-9 && one.abs() > 0.1, "{one} {other}");
    }

    #[test]
    fn shapes_are_checked() {
        let tape = Tape::silent();
        let run = |x: &[usize], weight: &[usize]| {
            let constant = |shape: &[usize]| tape.constant(&normal(shape, 1)).unwrap();
            conv_transpose2d(&tape, &constant(x), &constant(weight), None, DOUBLE, Activation::Identity).map(|y| y.dims().to_vec())
        };
        assert_eq!(run(&[1, 7, 7, 2], &[2, 3, 4, 4]).unwrap(), [1, 14, 14, 3]);
        assert!(run(&[1, 7, 7, 2], &[3, 3, 4, 4]).is_err() && run(&[1, 7, 7, 2], &[2, 3, 3, 3]).is_err());
        assert!(run(&[1, 0, 7, 2], &[2, 3, 4, 4]).is_err());
    }
}
