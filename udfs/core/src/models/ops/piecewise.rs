//! Piecewise-linear embeddings of numbers (Gorishniy et al., "On embeddings for numerical features in tabular deep
//! learning", 2022), with a linear part beside them as in TabM (2024).
//!
//! A feature's range is cut into bins; a value fills the bins below its own completely and its own in part, and the
//! embedding is the weighted sum of the fillings: `w·x + b + Σ_t fill_t(x) · W_t`. The first bin is open to the left,
//! the last one to the right.

use super::parallel::{self, Shared};
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

const ROWS: usize = 64;

/// Where a value lies: its bin, and how far into it.
#[derive(Debug, Clone, Copy)]
struct Place<T> {
    bin: u32,
    fill: T,
    slope: T,
}

/// `edges`: strictly rising, then the last one repeated. Returns `None` for a feature without a bin.
fn place<T: Real>(edges: &[T], x: T) -> Option<Place<T>> {
    let bins = edges.windows(2).take_while(|pair| pair[0] < pair[1]).count();
    if bins == 0 {
        return None;
    }
    let bin = edges[1..bins].partition_point(|edge| *edge <= x);
    let slope = T::ONE / (edges[bin + 1] - edges[bin]);
    Some(Place { bin: bin as u32, fill: (x - edges[bin]) * slope, slope })
}

/// `x [rows, features]`, `edges [features, bins + 1]` (not learned), `weight [features, bins, width]`,
/// `linear [features, width]`, `bias [features, width]` → `[rows, features · width]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn piecewise_linear(tape: &Tape, x: &Var, edges: &Var, weight: &Var, linear: &Var, bias: &Var) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.piecewise_linear(x, edges, weight, linear, bias);
    }
    let (rows, features) = x.dims2()?;
    let (_, bins, width) = weight.value().dims3()?;
    if edges.dims() != [features, bins + 1]
        || weight.dims() != [features, bins, width]
        || linear.dims() != [features, width]
        || bias.dims() != [features, width]
    {
        return Err(Error::internal("piecewise_linear: the weights do not fit the input"));
    }
    dispatch!(x.value(), T => {
        let (value, places) = {
            let held: Vec<_> = [x, edges, weight, linear, bias].iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            forward(&slices, Shape { rows, features, bins, width })
        };
        let value = tensor::<T>(value, &[rows, features * width])?;
        let saved = (x.value().clone(), weight.value().clone(), linear.value().clone());
        Ok(tape.record(value, &[x, weight, linear, bias], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?;
            let (x, weight, linear) = (read(&saved.0)?, read(&saved.1)?, read(&saved.2)?);
            let (x, weight, linear) = (x.slice::<T>()?, weight.slice::<T>()?, linear.slice::<T>()?);
            let parts = parallel::map(features, |feature| {
                feature_gradients(gradient, x, &places, feature, Shape { rows, features, bins, width })
            });
            let (mut d_weight, mut d_linear, mut d_bias) = (Vec::new(), Vec::new(), Vec::new());
            for part in parts {
                d_weight.extend(part.0);
                d_linear.extend(part.1);
                d_bias.extend(part.2);
            }
            sink.add(1, tensor(d_weight, &[features, bins, width])?)?;
            sink.add(2, tensor(d_linear, &[features, width])?)?;
            sink.add(3, tensor(d_bias, &[features, width])?)?;
            if sink.wants(0) {
                let own = (0..rows * features).map(|at| {
                    let (gradient, feature) = (&gradient[at * width..(at + 1) * width], at % features);
                    let dot = |weight: &[T]| gradient.iter().zip(weight).map(|(g, w)| *g * *w).sum::<T>();
                    let in_bin = |place: Place<T>| dot(&weight[(feature * bins + place.bin as usize) * width..]) * place.slope;
                    dot(&linear[feature * width..]) + places[at].map_or(T::ZERO, in_bin)
                });
                sink.add(0, tensor(own.collect(), &[rows, features])?)?;
            }
            Ok(())
        }))
    })
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    features: usize,
    bins: usize,
    width: usize,
}

/// `slices`: x, edges, weight, linear, bias. Returns the embeddings and where each number lies.
fn forward<T: Real>(slices: &[&[T]], shape: Shape) -> (Vec<T>, Vec<Option<Place<T>>>) {
    let Shape { rows, features, bins, width } = shape;
    let [x, edges, weight, linear, bias] = [slices[0], slices[1], slices[2], slices[3], slices[4]];
    // Sums of the weights of all bins below: a value costs two look-ups, however many bins it fills.
    let below = sums_below(weight, features, bins, width);
    let mut value = vec![T::ZERO; rows * features * width];
    let mut places: Vec<Option<Place<T>>> = vec![None; rows * features];
    let (shared, shared_places) = (Shared::new(&mut value), Shared::new(&mut places));
    parallel::for_each(rows.div_ceil(ROWS), |chunk| {
        for row in chunk * ROWS..((chunk + 1) * ROWS).min(rows) {
            // SAFETY: rows are disjoint.
            let (out, places) =
                unsafe { (shared.slice(row * features * width, features * width), shared_places.slice(row * features, features)) };
            for (feature, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
                let number = x[row * features + feature];
                let own = feature * width..(feature + 1) * width;
                for ((out, slope), constant) in out.iter_mut().zip(&linear[own.clone()]).zip(&bias[own]) {
                    *out = number * *slope + *constant;
                }
                let place = place(&edges[feature * (bins + 1)..(feature + 1) * (bins + 1)], number);
                places[feature] = place;
                if let Some(Place { bin, fill, .. }) = place {
                    let at = (feature * bins + bin as usize) * width;
                    for ((out, below), weight) in out.iter_mut().zip(&below[at..at + width]).zip(&weight[at..at + width]) {
                        *out += *below + fill * *weight;
                    }
                }
            }
        }
    });
    (value, places)
}

/// For each bin the sum of the weights of the bins below it.
fn sums_below<T: Real>(weight: &[T], features: usize, bins: usize, width: usize) -> Vec<T> {
    let mut below = vec![T::ZERO; features * bins * width];
    for feature in 0..features {
        for bin in 1..bins {
            let at = (feature * bins + bin) * width;
            for i in 0..width {
                below[at + i] = below[at - width + i] + weight[at - width + i];
            }
        }
    }
    below
}

/// Gradients of one feature's weights: `[bins, width]`, `[width]`, `[width]`, in row order.
fn feature_gradients<T: Real>(
    gradient: &[T],
    x: &[T],
    places: &[Option<Place<T>>],
    feature: usize,
    shape: Shape,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let Shape { rows, features, bins, width } = shape;
    let (mut d_weight, mut d_linear, mut d_bias) = (vec![T::ZERO; bins * width], vec![T::ZERO; width], vec![T::ZERO; width]);
    let mut full = vec![T::ZERO; bins * width];
    for row in 0..rows {
        let at = row * features + feature;
        let gradient = &gradient[at * width..(at + 1) * width];
        for (i, g) in gradient.iter().enumerate() {
            d_linear[i] += *g * x[at];
            d_bias[i] += *g;
        }
        if let Some(Place { bin, fill, .. }) = places[at] {
            let at = bin as usize * width;
            for (i, g) in gradient.iter().enumerate() {
                d_weight[at + i] += *g * fill;
                full[at + i] += *g;
            }
        }
    }
    // A value in bin j fills every bin below j: bin t collects what came in above it.
    let mut above = vec![T::ZERO; width];
    for bin in (0..bins).rev() {
        for i in 0..width {
            d_weight[bin * width + i] += above[i];
            above[i] += full[bin * width + i];
        }
    }
    (d_weight, d_linear, d_bias)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    /// Three features: four bins, two bins, no bin.
    fn edges() -> candle_core::Tensor {
        tensor(vec![-1.5, -0.5, 0.1, 0.7, 1.5, -0.3, 0.2, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0], &[3, 5]).unwrap()
    }

    #[test]
    fn gradients() {
        for rows in [1, 3, 17, 70] {
            let inputs = [normal(&[rows, 3], 1), normal(&[3, 4, 2], 2), normal(&[3, 2], 3), normal(&[3, 2], 4)];
            check(&inputs, |tape, vars| {
                let edges = tape.constant(&edges())?;
                piecewise_linear(tape, &vars[0], &edges, &vars[1], &vars[2], &vars[3])
            });
        }
    }

    #[test]
    fn fillings_are_as_published() {
        let tape = Tape::silent();
        let var = |values: Vec<f64>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let x = var(vec![-3.0, 0.0, 0.5, 2.5, 4.0], &[5, 1]);
        let edges = var(vec![0.0, 1.0, 3.0], &[1, 3]);
        let (weight, zero) = (var(vec![1.0, 10.0], &[1, 2, 1]), var(vec![0.0], &[1, 1]));
        let y = piecewise_linear(&tape, &x, &edges, &weight, &zero, &zero).unwrap();
        assert_eq!(to_vec::<f64>(y.value()).unwrap(), [-3.0, 0.0, 0.5, 8.5, 16.0]);
    }
}
