//! Pooling over pictures, channels last: the largest value under a window, and the mean of the whole picture.

use super::conv2d::{Window, for_each_stretch};
use super::parallel::Shared;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use crate::error::{Error, Result};

vectorise! {
    /// Keeps the larger values of a pixel in `best`, and under which tap they lay.
    fn keep_largest<T>(pixel: &[T], tap: u8, best: &mut [T], taps: &mut [u8]) {
        for ((value, best), at) in pixel.iter().zip(best).zip(taps) {
            let more = *value > *best;
            *best = if more { *value } else { *best };
            *at = if more { tap } else { *at };
        }
    }
}

vectorise! {
    /// Adds the gradients whose largest value lay under `tap`.
    fn add_where<T>(gradient: &[T], taps: &[u8], tap: u8, pixel: &mut [T]) {
        for ((sum, g), at) in pixel.iter_mut().zip(gradient).zip(taps) {
            *sum += if *at == tap { *g } else { T::ZERO };
        }
    }
}

vectorise! {
    /// `sums += values`.
    fn add_all<T>(values: &[T], sums: &mut [T]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += *value;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    height: usize,
    width: usize,
    channels: usize,
    out_height: usize,
    out_width: usize,
    window: Window,
}

impl Shape {
    fn picture(self) -> usize {
        self.height * self.width * self.channels
    }

    fn result(self) -> usize {
        self.out_height * self.out_width * self.channels
    }

    /// Runs `body(result, tap, pixel)` for the first number of every pixel under every place.
    fn for_each_pixel(self, mut body: impl FnMut(usize, usize, usize)) {
        let (size, stride) = (self.window.size, self.window.stride);
        for y in 0..self.out_height {
            for x in 0..self.out_width {
                for tap in 0..size * size {
                    let (from_y, from_x) = (y * stride + tap / size, x * stride + tap % size);
                    body((y * self.out_width + x) * self.channels, tap, (from_y * self.width + from_x) * self.channels);
                }
            }
        }
    }
}

/// `x [rows, height, width, channels]` → `[rows, height / size, width / size, channels]`, rounded down: the largest value
/// of each `size · size` pixels; of equal ones the first gets the gradient, as in `torch.nn.MaxPool2d`. Pixels that fill
/// no whole window are left out.
///
/// # Errors
/// `Internal` when `x` is no batch of pictures, or no window fits.
pub fn max_pool2d(tape: &Tape, x: &Var, size: usize) -> Result<Var> {
    let window = Window { size, stride: size, padding: 0 };
    let misfit = || Error::internal(format!("max_pool2d: input {:?} does not fit windows of {size}", x.dims()));
    let [rows, height, width, channels] = *x.dims() else { return Err(misfit()) };
    let (Some(out_height), Some(out_width)) = (window.places(height), window.places(width)) else { return Err(misfit()) };
    if size > 15 {
        return Err(misfit());
    }
    let shape = Shape { rows, height, width, channels, out_height, out_width, window };
    dispatch!(x.value(), T => {
        let (value, taps) = forward::<T>(shape, read(x.value())?.slice::<T>()?);
        let value = tensor::<T>(value, &[rows, out_height, out_width, channels])?;
        Ok(tape.record(value, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            sink.add(0, tensor(backward::<T>(shape, guard.slice::<T>()?, &taps), &[rows, height, width, channels])?)
        }))
    })
}

/// The largest values and the taps that they lay under.
fn forward<T: Real>(shape: Shape, x: &[T]) -> (Vec<T>, Vec<u8>) {
    let (mut value, mut taps) = (vec![T::ZERO; shape.rows * shape.result()], vec![0u8; shape.rows * shape.result()]);
    let (shared_value, shared_taps) = (Shared::new(&mut value), Shared::new(&mut taps));
    for_each_stretch(shape.rows, |pictures| {
        for at in pictures {
            let picture = &x[at * shape.picture()..(at + 1) * shape.picture()];
            let (start, len) = (at * shape.result(), shape.result());
            // SAFETY: each picture has one result.
            let (value, taps) = unsafe { (shared_value.slice(start, len), shared_taps.slice(start, len)) };
            shape.for_each_pixel(|result, tap, pixel| {
                let (own, pixel) = (result..result + shape.channels, &picture[pixel..pixel + shape.channels]);
                if tap == 0 {
                    value[own].copy_from_slice(pixel);
                } else {
                    keep_largest(pixel, tap as u8, &mut value[own.clone()], &mut taps[own]);
                }
            });
        }
    });
    (value, taps)
}

fn backward<T: Real>(shape: Shape, gradient: &[T], taps: &[u8]) -> Vec<T> {
    let mut d_x = vec![T::ZERO; shape.rows * shape.picture()];
    let shared = Shared::new(&mut d_x);
    for_each_stretch(shape.rows, |pictures| {
        for at in pictures {
            let own = at * shape.result()..(at + 1) * shape.result();
            let (gradient, taps) = (&gradient[own.clone()], &taps[own]);
            // SAFETY: each picture has one gradient.
            let picture = unsafe { shared.slice(at * shape.picture(), shape.picture()) };
            shape.for_each_pixel(|result, tap, pixel| {
                let own = result..result + shape.channels;
                add_where(&gradient[own.clone()], &taps[own], tap as u8, &mut picture[pixel..pixel + shape.channels]);
            });
        }
    });
    d_x
}

/// `x [rows, height, width, channels]` → `[rows, channels]`: the mean over the picture.
///
/// # Errors
/// `Internal` when `x` is no batch of pictures.
pub fn global_avg_pool(tape: &Tape, x: &Var) -> Result<Var> {
    let [rows, height, width, channels] = *x.dims() else {
        return Err(Error::internal(format!("global_avg_pool: {:?} are no pictures", x.dims())));
    };
    let pixels = height * width;
    if pixels * channels == 0 {
        return Err(Error::internal("global_avg_pool: pictures without pixels"));
    }
    dispatch!(x.value(), T => {
        let share = T::of(1.0 / pixels as f64);
        let mut value = vec![T::ZERO; rows * channels];
        let guard = read(x.value())?;
        for (picture, mean) in guard.slice::<T>()?.chunks_exact(pixels * channels).zip(value.chunks_exact_mut(channels)) {
            picture.chunks_exact(channels).for_each(|pixel| add_all(pixel, mean));
            mean.iter_mut().for_each(|mean| *mean *= share);
        }
        Ok(tape.record(tensor::<T>(value, &[rows, channels])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?;
            let mut d_x = Vec::with_capacity(rows * pixels * channels);
            for row in gradient.chunks_exact(channels) {
                let first = d_x.len();
                d_x.extend(row.iter().map(|g| *g * share));
                (1..pixels).for_each(|_| d_x.extend_from_within(first..first + channels));
            }
            sink.add(0, tensor(d_x, &[rows, height, width, channels])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        for shape in [[1, 2, 2, 1], [3, 5, 4, 2], [17, 3, 7, 3]] {
            check(&[normal(&shape, 1)], |tape, v| max_pool2d(tape, &v[0], 2));
            check(&[normal(&shape, 1)], |tape, v| global_avg_pool(tape, &v[0]));
        }
        check(&[normal(&[2, 7, 6, 2], 1)], |tape, v| max_pool2d(tape, &v[0], 3));
    }

    #[test]
    fn the_largest_and_where_its_gradient_goes() {
        let tape = Tape::recording(super::super::Philox::new(0, 0));
        let x = tape.leaf(&tensor(vec![1f32, 5.0, 9.0, 5.0, 2.0, 9.0, 8.0, 8.0, 8.0], &[1, 3, 3, 1]).unwrap()).unwrap();
        let y = max_pool2d(&tape, &x, 2).unwrap();
        assert_eq!((to_vec::<f32>(y.value()).unwrap(), y.dims()), (vec![5.0], &[1, 1, 1, 1][..]));
        let gradients = tape.backward(&y).unwrap();
        // The first of equal ones; nothing for the row and column that fill no window.
        assert_eq!(to_vec::<f32>(gradients.get(&x).unwrap()).unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let tape = Tape::silent();
        assert!(max_pool2d(&tape, &tape.constant(&normal(&[1, 1, 1, 1], 1)).unwrap(), 2).is_err());
        assert!(global_avg_pool(&tape, &tape.constant(&normal(&[1, 4], 1)).unwrap()).is_err());
    }
}
