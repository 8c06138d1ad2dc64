//! Spectral normalisation (Miyato et al., 2018): a weight divided by its largest singular value, which bounds how fast a
//! critic's answer may change.
//!
//! The singular vectors are found by one step of power iteration at each use, from where the last one ended; no gradient
//! flows through them, as in `torch.nn.utils.spectral_norm`.

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// Keeps a norm from being zero; PyTorch's default.
const EPSILON: f64 = 1e-12;

/// The singular vectors of a weight as far as they are known: `left [out]`, `right [in]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Singular {
    left: Vec<f64>,
    right: Vec<f64>,
}

fn unit(values: &mut [f64]) {
    let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt().max(EPSILON);
    values.iter_mut().for_each(|value| *value /= norm);
}

impl Singular {
    /// A start that depends on the shape `[out, in]` only.
    pub fn new(outputs: usize, inputs: usize) -> Self {
        let random = super::Philox::new(0x5EED, outputs as u32).fork(inputs as u32);
        let mut left: Vec<f64> = (0..outputs).map(|i| random.normal(i as u64)).collect();
        unit(&mut left);
        Self { left, right: vec![0.0; inputs] }
    }

    /// One step of power iteration on `weight [out, …]`, taken as a matrix of `out` rows.
    ///
    /// # Errors
    /// `Internal` when the shape is another.
    pub fn step(&mut self, weight: &candle_core::Tensor) -> Result<()> {
        let (outputs, inputs) = (self.left.len(), self.right.len());
        if weight.elem_count() != outputs * inputs {
            return Err(Error::internal("spectral_norm: the weight has another shape"));
        }
        dispatch!(weight, T => {
            let guard = read(weight)?;
            let rows = guard.slice::<T>()?.chunks_exact(inputs.max(1));
            self.right.fill(0.0);
            for (row, left) in rows.clone().zip(&self.left) {
                self.right.iter_mut().zip(row).for_each(|(sum, value)| *sum += left * value.wide());
            }
            unit(&mut self.right);
            for (row, left) in rows.zip(&mut self.left) {
                *left = row.iter().zip(&self.right).map(|(value, right)| value.wide() * right).sum();
            }
            unit(&mut self.left);
            Ok(())
        })
    }
}

/// `weight / (leftᵀ · weight · right)`, of the weight's shape.
///
/// # Errors
/// `Internal` when the singular vectors are of another shape.
pub fn spectral_norm(tape: &Tape, weight: &Var, singular: &Singular) -> Result<Var> {
    let (outputs, inputs) = (singular.left.len(), singular.right.len());
    if weight.value().elem_count() != outputs * inputs || weight.dims().first() != Some(&outputs) {
        return Err(Error::internal("spectral_norm: the weight has another shape"));
    }
    let (dims, Singular { left, right }) = (weight.dims().to_vec(), singular.clone());
    dispatch!(weight.value(), T => {
        let guard = read(weight.value())?;
        let values = guard.slice::<T>()?;
        let row = |(row, left): (&[T], &f64)| left * row.iter().zip(&right).map(|(value, right)| value.wide() * right).sum::<f64>();
        let sigma = values.chunks_exact(inputs.max(1)).zip(&left).map(row).sum::<f64>();
        let sigma = if sigma.abs() > EPSILON { sigma } else { 1.0 };
        let value = tensor::<T>(values.iter().map(|value| *value / T::of(sigma)).collect(), &dims)?;
        let saved = value.clone();
        Ok(tape.record(value, &[weight], move |gradient, sink: &mut Sink<'_>| {
            let (gradient, y) = (read(&gradient)?, read(&saved)?);
            let gradient = gradient.slice::<T>()?;
            let along = gradient.iter().zip(y.slice::<T>()?).map(|(g, y)| g.wide() * y.wide()).sum::<f64>();
            let own = gradient.iter().enumerate().map(|(at, g)| T::of((g.wide() - along * left[at / inputs] * right[at % inputs]) / sigma));
            sink.add(0, tensor::<T>(own.collect(), &dims)?)
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
        let weight = normal(&[3, 2, 2], 1);
        let mut singular = Singular::new(3, 4);
        singular.step(&weight).unwrap();
        check(&[weight], |tape, v| spectral_norm(tape, &v[0], &singular));
    }

    /// A diagonal matrix shows its singular values.
    #[test]
    fn the_largest_singular_value_becomes_one() {
        let weight = tensor(vec![0.5f32, 0.0, 0.0, 0.0, -4.0, 0.0], &[2, 3]).unwrap();
        let mut singular = Singular::new(2, 3);
        for _ in 0..30 {
            singular.step(&weight).unwrap();
        }
        let tape = Tape::silent();
        let y = spectral_norm(&tape, &tape.constant(&weight).unwrap(), &singular).unwrap();
        let y = to_vec::<f32>(y.value()).unwrap();
        assert!((y[0] - 0.125).abs() < 1e-6 && (y[4] + 1.0).abs() < 1e-6, "{y:?}");
        assert!(singular.step(&normal(&[2, 2], 1)).is_err());
    }
}
