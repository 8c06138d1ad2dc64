//! Two-dimensional convolutions over pictures, channels last: `[rows, height, width, channels]`.
//!
//! With stride 1 and padding "same" nothing is unfolded. A picture is copied once into rows that are `padding` zeros
//! longer than its own: the zeros behind a row are those in front of the next. So the `size · channels` numbers under
//! one row of the kernel are contiguous for every position, positions are `channels` numbers apart, and the convolution
//! is one product for each kernel row, of overlapping rows with a packed matrix. The positions between the rows hold
//! nothing of use and are left behind when the result is copied out, biased and activated. The gradient of the input is
//! the same convolution with the kernel turned round; that of the kernel is one product for each of its rows.
//! Every other stride and padding takes the unfolded way (im2col), picture by picture. Kernels of 3 by 3 between many
//! channels take [`super::winograd`]'s way.
//!
//! Work is cut into [`PARTS`] stretches of pictures, whatever their number.

use std::sync::Arc;

use super::activation::Activation;
use super::matmul::{Panels, Start, Strided, multiply, product};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use super::winograd::{self, Winograd};
use crate::error::{Error, Result};

/// Stretches of pictures that are one unit of work each, and one partial sum of the kernel's gradient.
pub(super) const PARTS: usize = 16;

/// A square window that moves over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its height and width.
    pub size: usize,
    /// From one place to the next.
    pub stride: usize,
    /// Zeros around the picture.
    pub padding: usize,
}

impl Window {
    /// Stride 1 with as many zeros as keep the picture's size.
    #[must_use]
    pub fn same(size: usize) -> Self {
        Self { size, stride: 1, padding: size / 2 }
    }

    /// Places along `length`; `None` when it does not fit once.
    #[must_use]
    pub fn places(self, length: usize) -> Option<usize> {
        let room = (length + 2 * self.padding).checked_sub(self.size)?;
        (self.stride > 0 && self.size > 0).then(|| room / self.stride + 1)
    }
}

/// The pictures of stretch `part` of `rows`.
pub(super) fn stretch(rows: usize, part: usize) -> std::ops::Range<usize> {
    part * rows / PARTS..(part + 1) * rows / PARTS
}

/// Runs `body` for every stretch of `rows` pictures.
pub(super) fn for_each_stretch(rows: usize, body: impl Fn(std::ops::Range<usize>) + Sync + Send) {
    parallel::for_each(PARTS, |part| body(stretch(rows, part)));
}

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
        let misfit = || Error::internal(format!("conv2d: input {:?} does not fit weight {:?}", x.dims(), weight.dims()));
        let [rows, height, width, inputs] = *x.dims() else { return Err(misfit()) };
        let [maps, weight_inputs, size, size_too] = *weight.dims() else { return Err(misfit()) };
        let (Some(out_height), Some(out_width)) = (window.places(height), window.places(width)) else { return Err(misfit()) };
        if weight_inputs != inputs
            || size != window.size
            || size_too != window.size
            || bias.is_some_and(|bias| bias.dims() != [maps])
            || maps * inputs == 0
        {
            return Err(misfit());
        }
        Ok(Self { rows, height, width, inputs, out_height, out_width, maps, window, activation })
    }

    /// Numbers of a picture.
    fn picture(self) -> usize {
        self.height * self.width * self.inputs
    }

    /// Numbers of a picture's result.
    fn result(self) -> usize {
        self.out_height * self.out_width * self.maps
    }

    /// Numbers under the kernel.
    fn patch(self) -> usize {
        self.window.size * self.window.size * self.inputs
    }

    fn is_same(self) -> bool {
        self.window.stride == 1 && self.window.padding * 2 + 1 == self.window.size
    }

    /// The quicker way, where there is one.
    fn winograd(self) -> Option<Winograd> {
        let Self { rows, height, width, inputs, maps, window, .. } = self;
        let pays = self.is_same() && window.size == 3 && Winograd::pays(inputs, maps);
        pays.then_some(Winograd { rows, height, width, inputs, maps })
    }

    /// Whether anything is computed at all.
    fn is_empty(self) -> bool {
        self.rows == 0 || self.height == 0 || self.width == 0
    }
}

/// A picture's rows with zeros between them; the module says how.
#[derive(Debug, Clone, Copy)]
struct Band {
    height: usize,
    width: usize,
    channels: usize,
    padding: usize,
}

impl Band {
    /// Cells from one row to the next.
    fn pitch(self) -> usize {
        self.width + self.padding
    }

    /// Cells in all.
    fn cells(self) -> usize {
        self.padding + (self.height + 2 * self.padding) * self.pitch()
    }

    /// Positions of the kernel, those between the rows included.
    fn positions(self) -> usize {
        (self.height - 1) * self.pitch() + self.width
    }

    /// Where the first pixel lies.
    fn first(self) -> usize {
        (self.padding + self.padding * self.pitch()) * self.channels
    }

    /// A band of zeros.
    fn buffer<T: Real>(self) -> Vec<T> {
        let mut buffer = pool::take(self.cells() * self.channels);
        buffer.fill(T::ZERO);
        buffer
    }

    /// The rows of `picture` into a band, whose zeros stay.
    fn fill<T: Real>(self, picture: &[T], band: &mut [T]) {
        let (row, pitch) = (self.width * self.channels, self.pitch() * self.channels);
        for (from, to) in picture.chunks_exact(row).zip(band[self.first()..].chunks_mut(pitch)) {
            to[..row].copy_from_slice(from);
        }
    }
}

/// Panels for each row of a kernel `[maps, size, size, channels]`.
fn kernel_rows<T: Real>(kernel: &[T], maps: usize, size: usize, channels: usize) -> Vec<Panels<T>> {
    let row = size * channels;
    (0..size).map(|at| Panels::pack(&kernel[at * row..], row, maps, 1, size * row)).collect()
}

/// `result [positions, maps]` of a band.
fn convolve<T: Real>(band: Band, values: &[T], kernel: &[Panels<T>], maps: usize, result: &mut [T]) {
    for (at, panels) in kernel.iter().enumerate() {
        let from = at * band.pitch() * band.channels;
        multiply(&values[from..], band.channels, band.positions(), panels, result, maps, if at > 0 { Start::Held } else { Start::Zero });
    }
}

vectorise! {
    /// `to = max(from + bias, floor)`, pixel by pixel.
    fn finish<T>(from: &[T], bias: &[T], floor: T, to: &mut [T]) {
        let maps = bias.len();
        for (from, to) in from.chunks_exact(maps).zip(to.chunks_exact_mut(maps)) {
            for i in 0..maps {
                to[i] = (from[i] + bias[i]).larger(floor);
            }
        }
    }
}

vectorise! {
    /// The gradient before a relu, and its sums.
    fn before_relu<T>(gradient: &[T], result: &[T], sums: &mut [T], to: &mut [T]) {
        let maps = sums.len();
        for ((g, y), to) in gradient.chunks_exact(maps).zip(result.chunks_exact(maps)).zip(to.chunks_exact_mut(maps)) {
            let (g, y, to) = (&g[..maps], &y[..maps], &mut to[..maps]);
            for i in 0..maps {
                let (g, y) = (g[i], y[i]);
                to[i] = if y > T::ZERO { g } else { T::ZERO };
                sums[i] += to[i];
            }
        }
    }
}

vectorise! {
    /// Adds every pixel of `values` to `sums`.
    fn add_pixels<T>(values: &[T], sums: &mut [T]) {
        let maps = sums.len();
        for values in values.chunks_exact(maps) {
            for i in 0..maps {
                sums[i] += values[i];
            }
        }
    }
}

/// Biases and activates a row of pixels.
fn finish_row<T: Real>(from: &[T], bias: Option<&[T]>, activation: Activation, to: &mut [T]) {
    match (bias, activation) {
        (Some(bias), Activation::Relu) => finish(from, bias, T::ZERO, to),
        (bias, other) => {
            match bias {
                Some(bias) => finish(from, bias, T::of(f64::NEG_INFINITY), to),
                None => to.copy_from_slice(from),
            }
            other.apply(to);
        }
    }
}

/// The gradient of a row of pixels before bias and activation, and its sums over the pixels.
fn before_row<T: Real>(gradient: &[T], result: &[T], activation: Activation, sums: &mut [T], to: &mut [T]) {
    match activation {
        Activation::Relu => return before_relu(gradient, result, sums, to),
        Activation::Identity => to.copy_from_slice(gradient),
        other => to.iter_mut().zip(gradient.iter().zip(result)).for_each(|(to, (g, y))| *to = other.backward(*g, *y)),
    }
    add_pixels(to, sums);
}

/// `[maps, channels, size, size]` as `[maps, size, size, channels]`.
fn channels_last<T: Real>(weight: &[T], maps: usize, channels: usize, taps: usize) -> Vec<T> {
    let at = |i: usize| (i / (taps * channels) * channels + i % channels) * taps + i / channels % taps;
    (0..maps * channels * taps).map(|i| weight[at(i)]).collect()
}

/// The way back.
fn channels_first<T: Real>(weight: &[T], maps: usize, channels: usize, taps: usize) -> Vec<T> {
    let at = |i: usize| (i / (channels * taps) * taps + i % taps) * channels + i / taps % channels;
    (0..maps * channels * taps).map(|i| weight[at(i)]).collect()
}

/// `x [rows, height, width, in]`, `weight [maps, in, size, size]`, `bias [maps]` →
/// `[rows, places, places, maps]`, as `torch.nn.Conv2d` but channels last, then `activation`.
///
/// # Errors
/// `Internal` when shapes disagree or the window does not fit the picture.
pub fn conv2d(tape: &Tape, x: &Var, weight: &Var, bias: Option<&Var>, window: Window, activation: Activation) -> Result<Var> {
    let shape = Shape::new(x, weight, bias, window, activation)?;
    let parents: Vec<&Var> = [Some(x), Some(weight), bias].into_iter().flatten().collect();
    dispatch!(x.value(), T => {
        let value = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            forward(shape, &slices, &Kernel::of(weight, slices[1], shape))
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

/// A kernel as the way forward wants it.
enum Kernel<T> {
    /// See [`Winograd`].
    Planes(winograd::Kernel<T>),
    /// See [`kernel_rows`].
    Rows(Vec<Panels<T>>),
    /// `[maps, size · size · inputs]`.
    Patches(Panels<T>),
}

impl<T: Real> Kernel<T> {
    /// The weight's, made at its first convolution.
    fn of(weight: &Var, values: &[T], shape: Shape) -> Arc<Self> {
        let kept = weight.kernel(|| Self::new(shape, values));
        // A weight may move over pictures in other ways too.
        let fits = match *kept {
            Self::Planes(_) => shape.winograd().is_some(),
            Self::Rows(_) => shape.winograd().is_none() && shape.is_same(),
            Self::Patches(_) => !shape.is_same(),
        };
        if fits { kept } else { Arc::new(Self::new(shape, values)) }
    }

    fn new(shape: Shape, weight: &[T]) -> Self {
        let Shape { inputs, maps, window, .. } = shape;
        if let Some(winograd) = shape.winograd() {
            return Self::Planes(winograd.kernel(weight));
        }
        let kernel = channels_last(weight, maps, inputs, window.size * window.size);
        if shape.is_same() {
            Self::Rows(kernel_rows(&kernel, maps, window.size, inputs))
        } else {
            Self::Patches(Panels::transposed(&kernel, maps, shape.patch()))
        }
    }
}

/// `slices`: x, weight, and the bias if there is one.
fn forward<T: Real>(shape: Shape, slices: &[&[T]], kernel: &Kernel<T>) -> Vec<T> {
    let Shape { inputs, maps, window, .. } = shape;
    let mut value = vec![T::ZERO; shape.rows * shape.result()];
    if shape.is_empty() {
        return value;
    }
    let bias = slices.get(2).copied();
    let shared = Shared::new(&mut value);
    // SAFETY: each picture has one result.
    let result = |picture: usize| unsafe { shared.slice(picture * shape.result(), shape.result()) };
    let picture = |at: usize| &slices[0][at * shape.picture()..(at + 1) * shape.picture()];
    match kernel {
        Kernel::Planes(kernel) => {
            let winograd = Winograd { rows: shape.rows, height: shape.height, width: shape.width, inputs, maps };
            winograd.forward(slices[0], kernel, &mut value, |from, to| finish_row(from, bias, shape.activation, to));
        }
        Kernel::Rows(kernel) => {
            let band = Band { height: shape.height, width: shape.width, channels: inputs, padding: window.padding };
            for_each_stretch(shape.rows, |pictures| {
                let (mut values, mut raw) = (band.buffer(), pool::take(band.pitch() * shape.height * maps));
                for at in pictures {
                    band.fill(picture(at), &mut values);
                    convolve(band, &values, kernel, maps, &mut raw);
                    let row = shape.width * maps;
                    for (from, to) in raw.chunks(band.pitch() * maps).zip(result(at).chunks_exact_mut(row)) {
                        finish_row(&from[..row], bias, shape.activation, to);
                    }
                }
                pool::give(values);
                pool::give(raw);
            });
        }
        Kernel::Patches(panels) => for_each_stretch(shape.rows, |pictures| {
            let places = shape.out_height * shape.out_width;
            let (mut patches, mut raw) = (pool::take(places * shape.patch()), pool::take(shape.result()));
            for at in pictures {
                unfold(shape, picture(at), &mut patches);
                multiply(&patches, shape.patch(), places, panels, &mut raw, maps, Start::Zero);
                finish_row(&raw, bias, shape.activation, result(at));
            }
            pool::give(patches);
            pool::give(raw);
        }),
    }
    value
}

struct Own<T> {
    x: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

/// `slices`: x, weight and the result; the kernel's gradient is summed stretch by stretch, in order.
fn backward<T: Real>(shape: Shape, slices: &[&[T]], gradient: &[T], wants_x: bool) -> Own<T> {
    let Shape { inputs, maps, window, .. } = shape;
    let mut x = vec![T::ZERO; if wants_x { shape.rows * shape.picture() } else { 0 }];
    let taps = window.size * window.size;
    let mut total = (vec![T::ZERO; maps * shape.patch()], vec![T::ZERO; maps]);
    if let Some(winograd) = shape.winograd().filter(|_| !shape.is_empty()) {
        let turned = wants_x.then(|| winograd.turned(slices[1]));
        let row = shape.width * maps;
        let own = winograd.backward(slices[0], turned.as_deref().map(|turned| (turned, &mut x[..])), |picture, y, to, sums| {
            let at = picture * shape.result() + y * row;
            before_row(&gradient[at..at + row], &slices[2][at..at + row], shape.activation, sums, to);
        });
        return Own { x, weight: own.weight, bias: own.bias };
    }
    if !shape.is_empty() {
        let shared = Shared::new(&mut x);
        let kernel = channels_last(slices[1], maps, inputs, taps);
        let back = Back { shape, slices, gradient, shared: wants_x.then_some(shared) };
        let parts = if shape.is_same() { back.same(&kernel) } else { back.unfolded(&kernel) };
        for (weight, bias) in parts {
            total.0.iter_mut().zip(weight).for_each(|(total, part)| *total += part);
            total.1.iter_mut().zip(bias).for_each(|(total, part)| *total += part);
        }
    }
    Own { x, weight: channels_first(&total.0, maps, inputs, taps), bias: total.1 }
}

/// The way back. `shared` is where the gradient of the input goes, when anybody wants it.
struct Back<'a, T> {
    shape: Shape,
    slices: &'a [&'a [T]],
    gradient: &'a [T],
    shared: Option<Shared<T>>,
}

impl<'a, T: Real> Back<'a, T> {
    fn picture(&self, at: usize) -> &'a [T] {
        &self.slices[0][at * self.shape.picture()..(at + 1) * self.shape.picture()]
    }

    /// Gradient and value of a picture's result.
    fn result(&self, at: usize) -> (&'a [T], &'a [T]) {
        let own = at * self.shape.result()..(at + 1) * self.shape.result();
        (&self.gradient[own.clone()], &self.slices[2][own])
    }

    /// Where the gradient of a picture goes.
    #[expect(clippy::mut_from_ref, reason = "each picture is asked for by one thread")]
    fn target(&self, at: usize) -> Option<&mut [T]> {
        // SAFETY: each picture has one gradient.
        self.shared.as_ref().map(|shared| unsafe { shared.slice(at * self.shape.picture(), self.shape.picture()) })
    }

    /// Gradients of the kernel `[maps, size, size, channels]` and of the bias, for each stretch.
    fn same(&self, kernel: &[T]) -> Vec<(Vec<T>, Vec<T>)> {
        let Shape { height, width, inputs, maps, window: Window { size, padding, .. }, .. } = self.shape;
        let own = Band { height, width, channels: inputs, padding };
        let out = Band { channels: maps, ..own };
        // The kernel turned round, `[channels, size, size, maps]`.
        let turned: Vec<T> = (0..kernel.len())
            .map(|i| kernel[(i % maps * size * size + (size * size - 1 - i / maps % (size * size))) * inputs + i / (maps * size * size)])
            .collect();
        let turned = kernel_rows(&turned, inputs, size, maps);
        parallel::map(PARTS, |part| {
            let mut sums = (vec![T::ZERO; kernel.len()], vec![T::ZERO; maps]);
            let (mut x, mut dy) = (own.buffer(), out.buffer());
            let mut raw = pool::take(own.pitch() * height * inputs);
            for at in stretch(self.shape.rows, part) {
                own.fill(self.picture(at), &mut x);
                let (gradient, value) = self.result(at);
                let row = width * maps;
                let to = dy[out.first()..].chunks_mut(out.pitch() * maps);
                for ((g, y), to) in gradient.chunks_exact(row).zip(value.chunks_exact(row)).zip(to) {
                    before_row(g, y, self.shape.activation, &mut sums.1, &mut to[..row]);
                }
                for tap in 0..size {
                    let (b, c) = (&x[tap * own.pitch() * inputs..], &mut sums.0[tap * size * inputs..]);
                    let a = Strided { values: &dy[out.first()..], row: 1, column: maps };
                    product([maps, own.positions(), size * inputs], a, b, inputs, c, size * size * inputs, true);
                }
                let Some(target) = self.target(at) else { continue };
                convolve(out, &dy, &turned, inputs, &mut raw);
                let row = width * inputs;
                for (from, to) in raw.chunks(own.pitch() * inputs).zip(target.chunks_exact_mut(row)) {
                    to.copy_from_slice(&from[..row]);
                }
            }
            [x, dy, raw].into_iter().for_each(pool::give);
            sums
        })
    }

    /// As [`same`](Self::same), for every window.
    fn unfolded(&self, kernel: &[T]) -> Vec<(Vec<T>, Vec<T>)> {
        let (shape, maps, patch) = (self.shape, self.shape.maps, self.shape.patch());
        let places = shape.out_height * shape.out_width;
        let straight = Panels::straight(kernel, maps, patch);
        parallel::map(PARTS, |part| {
            let mut sums = (vec![T::ZERO; kernel.len()], vec![T::ZERO; maps]);
            let (mut patches, mut dy) = (pool::take(places * patch), pool::take(shape.result()));
            for at in stretch(shape.rows, part) {
                let (gradient, value) = self.result(at);
                before_row(gradient, value, shape.activation, &mut sums.1, &mut dy);
                unfold(shape, self.picture(at), &mut patches);
                let a = Strided { values: &dy, row: 1, column: maps };
                product([maps, places, patch], a, &patches, patch, &mut sums.0, patch, true);
                if let Some(target) = self.target(at) {
                    multiply(&dy, maps, places, &straight, &mut patches, patch, Start::Zero);
                    fold(shape, &patches, target);
                }
            }
            [patches, dy].into_iter().for_each(pool::give);
            sums
        })
    }
}

/// Runs `body(patch, pixel)` for the first number of every pixel under every place: `pixel` is `None` in the padding.
fn for_each_pixel(shape: Shape, mut body: impl FnMut(usize, Option<usize>)) {
    let Shape { height, width, inputs, window: Window { size, stride, padding }, .. } = shape;
    let mut at = 0;
    for (y, x) in (0..shape.out_height).flat_map(|y| (0..shape.out_width).map(move |x| (y, x))) {
        for (tap_y, tap_x) in (0..size).flat_map(|tap_y| (0..size).map(move |tap_x| (tap_y, tap_x))) {
            let y = (y * stride + tap_y).checked_sub(padding).filter(|y| *y < height);
            let x = (x * stride + tap_x).checked_sub(padding).filter(|x| *x < width);
            body(at, y.zip(x).map(|(y, x)| (y * width + x) * inputs));
            at += inputs;
        }
    }
}

/// A picture as `[places, size · size · channels]`.
fn unfold<T: Real>(shape: Shape, picture: &[T], patches: &mut [T]) {
    for_each_pixel(shape, |at, pixel| match pixel {
        Some(pixel) => patches[at..at + shape.inputs].copy_from_slice(&picture[pixel..pixel + shape.inputs]),
        None => patches[at..at + shape.inputs].fill(T::ZERO),
    });
}

/// Adds what lies on every pixel to `picture`.
fn fold<T: Real>(shape: Shape, patches: &[T], picture: &mut [T]) {
    for_each_pixel(shape, |at, pixel| {
        if let Some(pixel) = pixel {
            picture[pixel..pixel + shape.inputs].iter_mut().zip(&patches[at..]).for_each(|(sum, value)| *sum += *value);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    /// Rows around the number of stretches, odd sizes, every kind of window.
    #[test]
    fn gradients() {
        let windows =
            [Window::same(3), Window::same(1), Window { size: 3, stride: 2, padding: 1 }, Window { size: 2, stride: 2, padding: 0 }];
        for window in windows {
            for [rows, height, width] in [[1, 3, 4], [3, 5, 2], [17, 2, 3]] {
                let tensors = [normal(&[rows, height, width, 2], 1), normal(&[3, 2, window.size, window.size], 2), normal(&[3], 3)];
                for activation in [Activation::Identity, Activation::Relu, Activation::Tanh] {
                    check(&tensors, |tape, v| conv2d(tape, &v[0], &v[1], Some(&v[2]), window, activation));
                    check(&tensors[..2], |tape, v| conv2d(tape, &v[0], &v[1], None, window, activation));
                }
            }
        }
    }

    /// The way with fewer products gives what the other gives, forward and back, at every edge.
    #[test]
    fn fewer_products_give_the_same() {
        let random = |shape: &[usize], stream: u32| to_vec::<f64>(&normal(shape, stream)).unwrap();
        for [rows, height, width, inputs, maps] in [[1, 1, 1, 3, 2], [3, 5, 4, 9, 11], [17, 2, 3, 8, 8], [40, 7, 7, 2, 17]] {
            let (window, activation) = (Window::same(3), Activation::Relu);
            let shape = Shape { rows, height, width, inputs, out_height: height, out_width: width, maps, window, activation };
            let (x, weight, bias) = (random(&[rows, height, width, inputs], 1), random(&[maps, inputs, 3, 3], 2), random(&[maps], 3));
            let y = forward(shape, &[&x, &weight, &bias], &Kernel::new(shape, &weight));
            let gradient = random(&[y.len()], 4);
            let expected = backward(shape, &[&x, &weight, &y], &gradient, true);
            let own = Winograd { rows, height, width, inputs, maps };
            let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
            let mut quick = vec![0.0; y.len()];
            own.forward(&x, &own.kernel(&weight), &mut quick, |from, to| finish_row(from, Some(&bias), activation, to));
            assert!(close(&quick, &y), "{rows} {height} {width} {inputs} {maps}");
            let (mut d_x, row) = (vec![0.0; x.len()], width * maps);
            let found = own.backward(&x, Some((&own.turned(&weight), &mut d_x[..])), |picture, line, to, sums| {
                let at = picture * shape.result() + line * row;
                before_row(&gradient[at..at + row], &y[at..at + row], activation, sums, to);
            });
            assert!(close(&d_x, &expected.x) && close(&found.weight, &expected.weight) && close(&found.bias, &expected.bias));
        }
    }

    /// Without unfolding and with it: the same numbers, but for rounding.
    #[test]
    fn both_ways_agree() {
        let random = |shape: &[usize], stream: u32| normal(shape, stream).to_dtype(candle_core::DType::F32).unwrap();
        let tape = Tape::silent();
        let [x, weight, bias] =
            [random(&[5, 9, 7, 20], 1), random(&[33, 20, 3, 3], 2), random(&[33], 3)].map(|tensor| tape.constant(&tensor).unwrap());
        let same = to_vec::<f32>(conv2d(&tape, &x, &weight, Some(&bias), Window::same(3), Activation::Relu).unwrap().value()).unwrap();
        let shape = Shape::new(&x, &weight, Some(&bias), Window::same(3), Activation::Relu).unwrap();
        let (pictures, weight, bias) =
            (to_vec::<f32>(x.value()).unwrap(), to_vec::<f32>(weight.value()).unwrap(), to_vec::<f32>(bias.value()).unwrap());
        let panels = Panels::transposed(&channels_last(&weight, 33, 20, 9), 33, shape.patch());
        for (picture, same) in pictures.chunks_exact(shape.picture()).zip(same.chunks_exact(shape.result())) {
            let (mut patches, mut raw, mut y) = (vec![0.0; 63 * shape.patch()], vec![0.0; 63 * 33], vec![0.0; 63 * 33]);
            unfold(shape, picture, &mut patches);
            multiply(&patches, shape.patch(), 63, &panels, &mut raw, 33, Start::Zero);
            finish_row(&raw, Some(&bias), Activation::Relu, &mut y);
            assert!(y.iter().zip(same).all(|(y, same)| (y - same).abs() < 1e-4));
            assert!(y.iter().any(|y| *y > 0.0));
        }
    }

    #[test]
    fn shapes_are_checked() {
        let tape = Tape::silent();
        let constant = |shape: &[usize]| tape.constant(&normal(shape, 1)).unwrap();
        let conv = |x: &[usize], weight: &[usize], bias: &[usize], window: Window| {
            conv2d(&tape, &constant(x), &constant(weight), Some(&constant(bias)), window, Activation::Identity).map(|y| y.dims().to_vec())
        };
        assert_eq!(conv(&[2, 5, 4, 3], &[6, 3, 3, 3], &[6], Window { size: 3, stride: 2, padding: 1 }).unwrap(), [2, 3, 2, 6]);
        assert_eq!(conv(&[0, 5, 4, 3], &[6, 3, 3, 3], &[6], Window::same(3)).unwrap(), [0, 5, 4, 6]);
        assert!(conv(&[2, 5, 4, 3], &[6, 2, 3, 3], &[6], Window::same(3)).is_err());
        assert!(conv(&[2, 5, 4, 3], &[6, 3, 3, 3], &[5], Window::same(3)).is_err());
        assert!(conv(&[2, 5, 4, 3], &[6, 3, 3, 3], &[6], Window::same(5)).is_err());
        assert!(conv(&[2, 2, 2, 3], &[6, 3, 3, 3], &[6], Window { size: 3, stride: 1, padding: 0 }).is_err());
    }
}
