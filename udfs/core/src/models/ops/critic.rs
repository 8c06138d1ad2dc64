//! What a Wasserstein critic of dense layers needs (Gulrajani et al., "Improved training of Wasserstein GANs", 2017): layers
//! whose slope is known, and a penalty on the gradient of its output with respect to its input.
//!
//! A critic of linear layers, leaky relus and dropout is linear between its kinks: with the factors `m` that each layer
//! multiplied its sums with, the gradient of `w₃·(m₂∘W₂(m₁∘W₁x))` is `W₁ᵀ(m₁∘W₂ᵀ(m₂∘w₃))`. Written as ordinary operators
//! ([`factor_rows`], [`linear_back`], [`times`]) this product is differentiated once to train the critic: no second-order
//! pass is needed, and the result is exact wherever the gradient exists.

use candle_core::Tensor;

use super::dropout::Mask;
use super::matmul::{affine, weight_gradient};
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// Keeps the root differentiable at zero.
const EPSILON: f64 = 1e-12;

/// Leaky relu and dropout: `x` times a factor for each number, which comes back beside the result. Nothing is dropped when
/// the tape does not record.
///
/// # Errors
/// `Internal` for an element type without kernels.
pub fn leaky_dropout(tape: &Tape, x: &Var, slope: f64, rate: f32) -> Result<(Var, Var)> {
    let factors = dispatch!(x.value(), T => {
        let slope = T::of(slope);
        let guard = read(x.value())?;
        let mut factors: Vec<T> = guard.slice::<T>()?.iter().map(|value| if *value > T::ZERO { T::ONE } else { slope }).collect();
        if let Some(mask) = Mask::new(tape, rate) {
            mask.apply(0, &mut factors);
        }
        tensor(factors, x.dims())
    })?;
    let factors = tape.constant(&factors)?;
    Ok((times(tape, x, &factors)?, factors))
}

/// `x ∘ factors` of one shape, where no gradient flows to the factors.
///
/// # Errors
/// `Internal` when shapes differ.
pub fn times(tape: &Tape, x: &Var, factors: &Var) -> Result<Var> {
    if x.dims() != factors.dims() {
        return Err(Error::internal("times: shapes differ"));
    }
    dispatch!(x.value(), T => {
        let held = factors.value().clone();
        let product = move |value: &Tensor| {
            let (value, factors) = (read(value)?, read(&held)?);
            let product = value.slice::<T>()?.iter().zip(factors.slice::<T>()?).map(|(value, factor)| *value * *factor);
            tensor::<T>(product.collect(), held.dims())
        };
        let value = product(x.value())?;
        Ok(tape.record(value, &[x], move |gradient, sink: &mut Sink<'_>| sink.add(0, product(&gradient)?)))
    })
}

/// Every row of `factors [rows, width]` times `row [1, width]`, where no gradient flows to the factors.
///
/// # Errors
/// `Internal` when widths differ.
pub fn factor_rows(tape: &Tape, row: &Var, factors: &Var) -> Result<Var> {
    let (rows, width) = factors.dims2()?;
    if row.dims() != [1, width] || width == 0 {
        return Err(Error::internal("factor_rows: widths differ"));
    }
    dispatch!(row.value(), T => {
        let value = {
            let (row, factors) = (read(row.value())?, read(factors.value())?);
            let row = row.slice::<T>()?;
            factors.slice::<T>()?.iter().enumerate().map(|(at, factor)| *factor * row[at % width]).collect()
        };
        let held = factors.value().clone();
        Ok(tape.record(tensor::<T>(value, &[rows, width])?, &[row], move |gradient, sink: &mut Sink<'_>| {
            let (gradient, factors) = (read(&gradient)?, read(&held)?);
            let mut own = vec![T::ZERO; width];
            for (g, factor) in gradient.slice::<T>()?.chunks_exact(width).zip(factors.slice::<T>()?.chunks_exact(width)) {
                own.iter_mut().zip(g).zip(factor).for_each(|((own, g), factor)| *own += *g * *factor);
            }
            sink.add(0, tensor(own, &[1, width])?)
        }))
    })
}

/// A linear layer from its outputs to its inputs: `y [rows, out] · weight [out, in]` → `[rows, in]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn linear_back(tape: &Tape, y: &Var, weight: &Var) -> Result<Var> {
    let ((rows, outputs), (weight_outputs, inputs)) = (y.dims2()?, weight.dims2()?);
    if outputs != weight_outputs {
        return Err(Error::internal(format!("linear_back: {:?} does not fit weight {:?}", y.dims(), weight.dims())));
    }
    dispatch!(y.value(), T => {
        let value = {
            let (packed, y, weight) = (weight, read(y.value())?, read(weight.value())?);
            let panels = packed.straight(weight.slice::<T>()?, outputs, inputs);
            affine(y.slice::<T>()?, rows, &panels, None, |_, _| {})
        };
        let (saved, packed) = (y.value().clone(), weight.clone());
        Ok(tape.record(tensor::<T>(value, &[rows, inputs])?, &[y, weight], move |gradient, sink: &mut Sink<'_>| {
            let (y, weight, gradient) = (read(&saved)?, read(packed.value())?, read(&gradient)?);
            let gradient = gradient.slice::<T>()?;
            if sink.wants(0) {
                let panels = packed.transposed(weight.slice::<T>()?, outputs, inputs);
                sink.add(0, tensor(affine(gradient, rows, &panels, None, |_, _| {}), &[rows, outputs])?)?;
            }
            if sink.wants(1) {
                sink.add(1, tensor(weight_gradient(y.slice::<T>()?, gradient, rows, outputs, inputs), &[outputs, inputs])?)?;
            }
            Ok(())
        }))
    })
}

/// Mean of `(‖row‖ − 1)²` over the rows of `gradients [rows, width]`.
///
/// # Errors
/// `Internal` when there is no row.
pub fn norm_penalty(tape: &Tape, gradients: &Var) -> Result<Var> {
    let (rows, width) = gradients.dims2()?;
    if rows * width == 0 {
        return Err(Error::internal("norm_penalty: no rows"));
    }
    dispatch!(gradients.value(), T => {
        let (mut loss, mut own) = (0.0, Vec::with_capacity(rows * width));
        for row in read(gradients.value())?.slice::<T>()?.chunks_exact(width) {
            let norm = (row.iter().map(|value| value.wide() * value.wide()).sum::<f64>() + EPSILON).sqrt();
            loss += (norm - 1.0) * (norm - 1.0) / rows as f64;
            let slope = T::of(2.0 * (norm - 1.0) / norm / rows as f64);
            own.extend(row.iter().map(|value| *value * slope));
        }
        Ok(tape.record(tensor(vec![T::of(loss)], &[1])?, &[gradients], move |gradient, sink: &mut Sink<'_>| {
            let scale = read(&gradient)?.slice::<T>()?.first().copied().unwrap_or(T::ZERO);
            sink.add(0, tensor(own.iter().map(|value| *value * scale).collect(), &[rows, width])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::super::{Activation, Philox, linear};
    use super::*;

    #[test]
    fn gradients() {
        check(&[normal(&[5, 3], 1)], |tape, v| leaky_dropout(tape, &v[0], 0.2, 0.5).map(|(y, _)| y));
        check(&[normal(&[1, 3], 1)], |tape, v| factor_rows(tape, &v[0], &tape.constant(&normal(&[5, 3], 2))?));
        check(&[normal(&[5, 3], 1)], |tape, v| times(tape, &v[0], &tape.constant(&normal(&[5, 3], 2))?));
        check(&[normal(&[5, 3], 1), normal(&[3, 4], 2)], |tape, v| linear_back(tape, &v[0], &v[1]));
        check(&[normal(&[5, 3], 1)], |tape, v| norm_penalty(tape, &v[0]));
    }

    /// The product of the module's header is the gradient of a critic with respect to its input.
    #[test]
    fn the_product_is_the_gradient_of_the_critic() {
        let weights = [normal(&[6, 4], 1), normal(&[5, 6], 2), normal(&[1, 5], 3)];
        let tape = Tape::recording(Philox::new(1, 1));
        let x = tape.leaf(&normal(&[3, 4], 4)).unwrap();
        let [first, second, last] = weights.each_ref().map(|weight| tape.constant(weight).unwrap());
        let layer = |x: &Var, weight: &Var| {
            let sums = linear(&tape, x, weight, None, Activation::Identity).unwrap();
            leaky_dropout(&tape, &sums, 0.2, 0.5).unwrap()
        };
        let (hidden, factors_1) = layer(&x, &first);
        let (hidden, factors_2) = layer(&hidden, &second);
        let out = super::super::mean(&tape, &linear(&tape, &hidden, &last, None, Activation::Identity).unwrap()).unwrap();
        let back = factor_rows(&tape, &last, &factors_2).unwrap();
        let back = times(&tape, &linear_back(&tape, &back, &second).unwrap(), &factors_1).unwrap();
        let back = to_vec::<f64>(linear_back(&tape, &back, &first).unwrap().value()).unwrap();
        let gradient = to_vec::<f64>(tape.backward(&out).unwrap().get(&x).unwrap()).unwrap();
        assert!(gradient.iter().any(|value| value.abs() > 1e-3));
        // The mean of three rows' outputs has a third of each row's gradient.
        assert!(gradient.iter().zip(&back).all(|(gradient, back)| (gradient * 3.0 - back).abs() < 1e-12));
    }
}
