//! Batch normalisation of pictures (Ioffe & Szegedy, 2015), channels last, with the relu that follows it: while training
//! by mean and variance of the batch, at scoring by the running ones, folded into the convolution in front.
//!
//! It is the one operator whose result depends on the other rows of a batch, and only while the tape records.

use super::activation::Activation;
use super::conv2d::{PARTS, Window, conv2d, for_each_stretch, stretch};
use super::parallel::{self, Shared};
use super::real::Real;
use super::storage::{dispatch, read, tensor, to_vec};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use crate::error::{Error, Result};

/// Added to the variance; PyTorch's default.
const EPSILON: f64 = 1e-5;

/// The weights of a normalisation, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct NormWeights<'a> {
    /// Scale.
    pub weight: &'a Var,
    /// Shift.
    pub bias: &'a Var,
    /// Running mean.
    pub mean: &'a Var,
    /// Running variance.
    pub variance: &'a Var,
}

/// What a batch says of its channels.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// Means.
    pub mean: Vec<f64>,
    /// Variances, unbiased.
    pub variance: Vec<f64>,
}

vectorise! {
    /// Sums of the channels, and of the squared distances from `center`.
    fn add_moments<T>(pixels: &[T], center: &[T], sums: &mut [T], squares: &mut [T]) {
        let channels = center.len();
        let (sums, squares) = (&mut sums[..channels], &mut squares[..channels]);
        for pixel in pixels.chunks_exact(channels) {
            for i in 0..channels {
                let distance = pixel[i] - center[i];
                sums[i] += distance;
                squares[i] += distance * distance;
            }
        }
    }
}

vectorise! {
    /// `to = max(scale · x + shift, 0) + residual`, which may be empty.
    fn normalise<T>(x: &[T], scale: &[T], shift: &[T], residual: &[T], to: &mut [T]) {
        let channels = scale.len();
        let shift = &shift[..channels];
        for (x, to) in x.chunks_exact(channels).zip(to.chunks_exact_mut(channels)) {
            for i in 0..channels {
                to[i] = (x[i] * scale[i] + shift[i]).larger(T::ZERO);
            }
        }
        for (to, more) in to.iter_mut().zip(residual) {
            *to += *more;
        }
    }
}

/// Pixels that are looked at together: what belongs to their channels is read once for all of them.
const PIXELS: usize = 4;

/// So many pixels, one by one.
#[inline(always)]
fn pixels<T>(values: &[T], channels: usize) -> [&[T]; PIXELS] {
    std::array::from_fn(|at| &values[at * channels..][..channels])
}

vectorise! {
    /// Sums of the gradients that pass the relu, alone and times the normalised value.
    fn add_gradients<T>(gradient: &[T], x: &[T], terms: &Terms<T>, sums: &mut [T], products: &mut [T]) {
        let channels = sums.len();
        let (scale, shift) = (&terms.scale[..channels], &terms.shift[..channels]);
        let (mean, inverse, products) = (&terms.mean[..channels], &terms.inverse[..channels], &mut products[..channels]);
        let blocks = gradient.chunks_exact(PIXELS * channels).zip(x.chunks_exact(PIXELS * channels));
        for (g, x) in blocks.clone() {
            let ([g0, g1, g2, g3], [x0, x1, x2, x3]) = (pixels(g, channels), pixels(x, channels));
            for i in 0..channels {
                let passed = |g: &[T], x: &[T]| {
                    let (g, y) = (g[i], x[i] * scale[i] + shift[i]);
                    if y > T::ZERO { g } else { T::ZERO }
                };
                let (p0, p1, p2, p3) = (passed(g0, x0), passed(g1, x1), passed(g2, x2), passed(g3, x3));
                sums[i] += (p0 + p1) + (p2 + p3);
                let (first, second) = (p0 * (x0[i] - mean[i]) + p1 * (x1[i] - mean[i]), p2 * (x2[i] - mean[i]) + p3 * (x3[i] - mean[i]));
                products[i] += (first + second) * inverse[i];
            }
        }
        let done = blocks.len() * PIXELS * channels;
        for (g, x) in gradient[done..].chunks_exact(channels).zip(x[done..].chunks_exact(channels)) {
            for i in 0..channels {
                let (g, y) = (g[i], x[i] * scale[i] + shift[i]);
                let g = if y > T::ZERO { g } else { T::ZERO };
                sums[i] += g;
                products[i] += g * ((x[i] - mean[i]) * inverse[i]);
            }
        }
    }
}

vectorise! {
    /// `to = scale · (gradient past the relu) + slope · x + offset`.
    fn spread<T>(gradient: &[T], x: &[T], terms: &Terms<T>, slope: &[T], offset: &[T], to: &mut [T]) {
        let channels = slope.len();
        let (scale, shift, offset) = (&terms.scale[..channels], &terms.shift[..channels], &offset[..channels]);
        for ((g, x), to) in gradient.chunks_exact(channels).zip(x.chunks_exact(channels)).zip(to.chunks_exact_mut(channels)) {
            let (g, x, to) = (&g[..channels], &x[..channels], &mut to[..channels]);
            for i in 0..channels {
                let (g, y) = (g[i], x[i] * scale[i] + shift[i]);
                let g = if y > T::ZERO { g } else { T::ZERO };
                to[i] = scale[i] * g + (slope[i] * x[i] + offset[i]);
            }
        }
    }
}

/// Per channel: `normalised = (x − mean) · inverse`, `result = scale · x + shift`.
struct Terms<T> {
    mean: Vec<T>,
    inverse: Vec<T>,
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Real> Terms<T> {
    fn new(mean: &[f64], variance: &[f64], weight: &[T], bias: &[T]) -> Self {
        let inverse: Vec<f64> = variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect();
        let scale: Vec<f64> = inverse.iter().zip(weight).map(|(inverse, weight)| inverse * weight.wide()).collect();
        let shift = scale.iter().zip(mean).zip(bias).map(|((scale, mean), bias)| T::of(bias.wide() - scale * mean)).collect();
        let of = |values: &[f64]| values.iter().map(|value| T::of(*value)).collect();
        Self { mean: of(mean), inverse: of(&inverse), scale: of(&scale), shift }
    }
}

/// `relu(norm(conv(x)))`, plus `residual` of its shape where there is one: `x [rows, height, width, in]`, `weight
/// [maps, in, size, size]` → `[rows, places, places, maps]`. While the tape records it normalises by the batch, and
/// says how; else by the running statistics.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn conv_norm_relu(
    tape: &Tape,
    x: &Var,
    weight: &Var,
    norm: NormWeights<'_>,
    window: Window,
    residual: Option<&Var>,
) -> Result<(Var, Option<BatchStatistics>)> {
    if tape.is_recording() {
        let convolved = conv2d(tape, x, weight, None, window, Activation::Identity)?;
        let (value, statistics) = batch_norm_relu(tape, &convolved, norm, residual)?;
        return Ok((value, Some(statistics)));
    }
    let folded = weight.folded(|| fold(tape, weight, norm))?;
    let [kernel, bias] = &*folded;
    let y = conv2d(tape, x, kernel, Some(bias), window, Activation::Relu)?;
    let y = match residual {
        Some(residual) => super::add(tape, &y, residual)?,
        None => y,
    };
    Ok((y, None))
}

/// Kernel and bias of a convolution that normalises with the running statistics.
fn fold(tape: &Tape, weight: &Var, norm: NormWeights<'_>) -> Result<[Var; 2]> {
    dispatch!(weight.value(), T => {
        let [scale, shift, mean, variance] =
            [norm.weight, norm.bias, norm.mean, norm.variance].map(|var| to_vec::<T>(var.value()));
        let wide = |values: Vec<T>| values.into_iter().map(Real::wide).collect::<Vec<f64>>();
        let terms = Terms::new(&wide(mean?), &wide(variance?), &scale?, &shift?);
        let mut kernel = to_vec::<T>(weight.value())?;
        let taps = kernel.len() / terms.scale.len().max(1);
        kernel.chunks_mut(taps.max(1)).zip(&terms.scale).for_each(|(taps, scale)| taps.iter_mut().for_each(|tap| *tap *= *scale));
        let (kernel, bias) = (tensor::<T>(kernel, weight.dims())?, tensor::<T>(terms.shift, norm.bias.dims())?);
        Ok([tape.constant(&kernel)?, tape.constant(&bias)?])
    })
}

/// `x [rows, height, width, channels]` → `relu((x − mean) / √(variance + 1e-5) · weight + bias)`, plus `residual`, with mean
/// and variance of the batch.
///
/// # Errors
/// `Internal` when shapes disagree or the batch is empty.
pub fn batch_norm_relu(tape: &Tape, x: &Var, norm: NormWeights<'_>, residual: Option<&Var>) -> Result<(Var, BatchStatistics)> {
    let misfit = || Error::internal(format!("batch_norm_relu: input {:?} does not fit weight {:?}", x.dims(), norm.weight.dims()));
    let [rows, height, width, channels] = *x.dims() else { return Err(misfit()) };
    let count = rows * height * width;
    let fit = norm.weight.dims() == [channels] && norm.bias.dims() == [channels];
    if !fit || count * channels == 0 || residual.is_some_and(|residual| residual.dims() != x.dims()) {
        return Err(misfit());
    }
    let parents: Vec<&Var> = [Some(x), Some(norm.weight), Some(norm.bias), residual].into_iter().flatten().collect();
    let picture = height * width * channels;
    dispatch!(x.value(), T => {
        let (value, terms, statistics) = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let (mean, squares) = moments(slices[0], rows, picture, channels);
            let variance: Vec<f64> = squares.iter().map(|squares| squares / count as f64).collect();
            let terms = Terms::new(&mean, &variance, slices[1], slices[2]);
            let unbiased = squares.iter().map(|squares| squares / (count - 1).max(1) as f64).collect();
            let value = apply(slices[0], rows, picture, &terms, slices.get(3).copied().unwrap_or_default());
            (value, terms, BatchStatistics { mean, variance: unbiased })
        };
        let saved = x.value().clone();
        let var = tape.record(tensor::<T>(value, x.dims())?, &parents, move |gradient, sink: &mut Sink<'_>| {
            let own = backward(read(&gradient)?.slice::<T>()?, read(&saved)?.slice::<T>()?, rows, picture, &terms);
            sink.add(0, tensor(own.x, saved.dims())?)?;
            sink.add(1, tensor(own.weight, &[channels])?)?;
            sink.add(2, tensor(own.bias, &[channels])?)?;
            sink.add(3, gradient)
        });
        Ok((var, statistics))
    })
}

/// The same by the running statistics: a row's result does not depend on the others.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn running_norm_relu(tape: &Tape, x: &Var, norm: NormWeights<'_>) -> Result<Var> {
    let misfit = || Error::internal(format!("running_norm_relu: input {:?} does not fit weight {:?}", x.dims(), norm.weight.dims()));
    let [rows, height, width, channels] = *x.dims() else { return Err(misfit()) };
    if [norm.weight, norm.bias, norm.mean, norm.variance].iter().any(|var| var.dims() != [channels]) || channels == 0 {
        return Err(misfit());
    }
    if tape.tracks(&[x, norm.weight, norm.bias]) {
        return Err(Error::internal("running_norm_relu: for scoring only"));
    }
    dispatch!(x.value(), T => {
        let [scale, shift, mean, variance] =
            [norm.weight, norm.bias, norm.mean, norm.variance].map(|var| to_vec::<T>(var.value()));
        let wide = |values: Vec<T>| values.into_iter().map(Real::wide).collect::<Vec<f64>>();
        let terms = Terms::new(&wide(mean?), &wide(variance?), &scale?, &shift?);
        let guard = read(x.value())?;
        let value = apply(guard.slice::<T>()?, rows, height * width * channels, &terms, &[]);
        tape.constant(&tensor::<T>(value, x.dims())?)
    })
}

/// Means of the channels and sums of the squared distances from them: picture by picture around the mean of the one
/// before, joined in order (Chan, Golub & LeVeque, 1979).
fn moments<T: Real>(x: &[T], rows: usize, picture: usize, channels: usize) -> (Vec<f64>, Vec<f64>) {
    let pixels = (picture / channels) as f64;
    let parts = parallel::map(PARTS, |part| {
        let mut all = Joined::new(channels);
        let (mut center, mut sums, mut squares) = (vec![T::ZERO; channels], vec![T::ZERO; channels], vec![T::ZERO; channels]);
        for at in stretch(rows, part) {
            sums.fill(T::ZERO);
            squares.fill(T::ZERO);
            add_moments(&x[at * picture..(at + 1) * picture], &center, &mut sums, &mut squares);
            let mut one = Joined { count: pixels, mean: Vec::with_capacity(channels), squares: Vec::with_capacity(channels) };
            for i in 0..channels {
                let share = sums[i].wide() / pixels;
                one.mean.push(center[i].wide() + share);
                one.squares.push((squares[i].wide() - share * sums[i].wide()).max(0.0));
            }
            all.join(&one);
            center.iter_mut().zip(&all.mean).for_each(|(center, mean)| *center = T::of(*mean));
        }
        all
    });
    let mut all = Joined::new(channels);
    parts.iter().for_each(|part| all.join(part));
    (all.mean, all.squares)
}

/// Count, means and summed squared distances of some pixels.
struct Joined {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Joined {
    fn new(channels: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; channels], squares: vec![0.0; channels] }
    }

    fn join(&mut self, more: &Self) {
        let count = self.count + more.count;
        if more.count == 0.0 {
            return;
        }
        for i in 0..self.mean.len() {
            let distance = more.mean[i] - self.mean[i];
            self.mean[i] += distance * more.count / count;
            self.squares[i] += more.squares[i] + distance * distance * self.count * more.count / count;
        }
        self.count = count;
    }
}

fn apply<T: Real>(x: &[T], rows: usize, picture: usize, terms: &Terms<T>, residual: &[T]) -> Vec<T> {
    let mut value = vec![T::ZERO; x.len()];
    let shared = Shared::new(&mut value);
    for_each_stretch(rows, |pictures| {
        for at in pictures {
            let own = at * picture..(at + 1) * picture;
            // SAFETY: each picture has one result.
            let to = unsafe { shared.slice(own.start, picture) };
            let residual = if residual.is_empty() { residual } else { &residual[own.clone()] };
            normalise(&x[own], &terms.scale, &terms.shift, residual, to);
        }
    });
    value
}

struct Own<T> {
    x: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

fn backward<T: Real>(gradient: &[T], x: &[T], rows: usize, picture: usize, terms: &Terms<T>) -> Own<T> {
    let channels = terms.scale.len();
    let parts = parallel::map(PARTS, |part| {
        let (mut sums, mut products) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
        let own = stretch(rows, part);
        let own = own.start * picture..own.end * picture;
        add_gradients(&gradient[own.clone()], &x[own], terms, &mut sums, &mut products);
        (sums, products)
    });
    let (mut bias, mut weight) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
    for (sums, products) in parts {
        bias.iter_mut().zip(sums).for_each(|(total, part)| *total += part);
        weight.iter_mut().zip(products).for_each(|(total, part)| *total += part);
    }
    let share = T::of(1.0 / (rows * picture / channels) as f64);
    let slope: Vec<T> = (0..channels).map(|i| -(terms.scale[i] * terms.inverse[i] * weight[i] * share)).collect();
    let offset: Vec<T> = (0..channels).map(|i| -(terms.scale[i] * bias[i] * share) - slope[i] * terms.mean[i]).collect();
    let mut d_x = vec![T::ZERO; x.len()];
    let shared = Shared::new(&mut d_x);
    for_each_stretch(rows, |pictures| {
        let own = pictures.start * picture..pictures.end * picture;
        // SAFETY: stretches are disjoint.
        spread(&gradient[own.clone()], &x[own.clone()], terms, &slope, &offset, unsafe { shared.slice(own.start, own.len()) });
    });
    Own { x: d_x, weight, bias }
}

#[cfg(test)]
mod tests {
    use super::super::Philox;
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients() {
        for shape in [[1, 2, 3, 2], [3, 2, 2, 5], [18, 1, 2, 3]] {
            let channels = [shape[3]];
            let tensors = [normal(&shape, 1), normal(&channels, 2), normal(&channels, 3), normal(&shape, 4)];
            let norm = |tape: &Tape, v: &[Var], residual: bool| {
                let running = tape.constant(&normal(&channels, 5))?;
                let norm = NormWeights { weight: &v[1], bias: &v[2], mean: &running, variance: &running };
                batch_norm_relu(tape, &v[0], norm, residual.then(|| &v[3])).map(|(value, _)| value)
            };
            check(&tensors[..3], |tape, v| norm(tape, v, false));
            check(&tensors, |tape, v| norm(tape, v, true));
        }
    }

    /// Statistics are those of the batch, also far from zero; scoring with them gives what training gave.
    #[test]
    fn scoring_folds_the_statistics_into_the_kernel() {
        let shape = [20, 3, 4, 2];
        let far: Vec<f64> = to_vec::<f64>(&normal(&shape, 1)).unwrap().iter().map(|x| 1000.0 + x).collect();
        let (x, kernel) = (tensor(far.clone(), &shape).unwrap(), tensor(vec![1.0f64, 0.0, 0.0, 1.0], &[2, 2, 1, 1]).unwrap());
        let given = [normal(&[2], 2), normal(&[2], 3)];
        let run = |tape: &Tape, mean: Vec<f64>, variance: Vec<f64>| {
            let var = |values: Vec<f64>| tape.constant(&tensor(values, &[2]).unwrap()).unwrap();
            let [weight, bias] = given.clone().map(|tensor| tape.leaf(&tensor).unwrap());
            let (mean, variance) = (var(mean), var(variance));
            let norm = NormWeights { weight: &weight, bias: &bias, mean: &mean, variance: &variance };
            let [x, kernel] = [&x, &kernel].map(|tensor| tape.constant(tensor).unwrap());
            let (y, statistics) = conv_norm_relu(tape, &x, &kernel, norm, Window::same(1), Some(&x)).unwrap();
            (to_vec::<f64>(y.value()).unwrap(), statistics)
        };
        let (trained, statistics) = run(&Tape::recording(Philox::new(0, 0)), vec![0.0; 2], vec![1.0; 2]);
        let statistics = statistics.unwrap();
        let first: Vec<f64> = far.iter().step_by(2).copied().collect();
        let mean = first.iter().sum::<f64>() / 240.0;
        let variance = first.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 239.0;
        assert!((statistics.mean[0] - mean).abs() < 1e-9 && (statistics.variance[0] - variance).abs() < 1e-9);
        let biased = statistics.variance.iter().map(|variance| variance * 239.0 / 240.0).collect();
        let (scored, none) = run(&Tape::silent(), statistics.mean, biased);
        assert!(none.is_none());
        assert!(trained.iter().zip(&scored).all(|(trained, scored)| (trained - scored).abs() < 1e-7));
    }
}
