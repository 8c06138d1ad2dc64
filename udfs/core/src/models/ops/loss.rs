//! Losses: scalars to differentiate. Each is stable for any finite logit.

use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

fn weights_for<T: Real>(weights: Option<&[f32]>, rows: usize) -> Result<(Vec<T>, T)> {
    let weights: Vec<T> = match weights {
        Some(weights) if weights.len() == rows => weights.iter().map(|weight| T::of(f64::from(*weight))).collect(),
        Some(_) => return Err(Error::internal("loss: one weight per row is needed")),
        None => vec![T::ONE; rows],
    };
    let total = weights.iter().map(|weight| weight.wide()).sum::<f64>();
    Ok((weights, T::of(if total > 0.0 { total } else { 1.0 })))
}

/// Turns the stored gradient of a scalar loss into that of its input.
fn scaled<T: Real>(gradient: &candle_core::Tensor, own: &[T], dims: &[usize]) -> Result<candle_core::Tensor> {
    let guard = read(gradient)?;
    let scale = guard.slice::<T>()?.first().copied().unwrap_or(T::ZERO);
    tensor(own.iter().map(|value| *value * scale).collect(), dims)
}

/// Mean of `-log softmax(logits)[target]` over the rows, weighted: `Σ wᵢ ℓᵢ / Σ wᵢ`.
///
/// `logits [rows · members, classes]`: member `m` of row `r` is at `r · members + m`; `targets [rows]`, `weights [rows]`.
///
/// # Errors
/// `Internal` when a target is not a class or shapes disagree.
pub fn softmax_cross_entropy(tape: &Tape, logits: &Var, targets: &Arc<[u32]>, weights: Option<&[f32]>) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.classes(logits, targets, weights, None);
    }
    let (all, classes) = logits.dims2()?;
    let rows = targets.len();
    if rows == 0 || all % rows != 0 || targets.iter().any(|target| *target as usize >= classes) {
        return Err(Error::internal("softmax_cross_entropy: targets do not fit the logits"));
    }
    let members = all / rows;
    dispatch!(logits.value(), T => {
        let (weights, total) = weights_for::<T>(weights, rows)?;
        let norm = total * T::of(members as f64);
        let mut loss = 0f64;
        let mut own = vec![T::ZERO; all * classes];
        {
            let guard = read(logits.value())?;
            for (at, (x, out)) in guard.slice::<T>()?.chunks_exact(classes).zip(own.chunks_exact_mut(classes)).enumerate() {
                let row = at / members;
                let (target, weight) = (targets[row] as usize, weights[row]);
                let largest = x.iter().copied().fold(x[0], Real::larger);
                let mut sum = T::ZERO;
                for (out, x) in out.iter_mut().zip(x) {
                    *out = Real::exp(*x - largest);
                    sum += *out;
                }
                loss += (weight * (Real::ln(sum) + largest - x[target])).wide();
                let scale = weight / norm;
                out.iter_mut().for_each(|out| *out = *out / sum * scale);
                out[target] -= scale;
            }
        }
        let value = tensor::<T>(vec![T::of(loss / norm.wide())], &[1])?;
        Ok(tape.record(value, &[logits], move |gradient, sink: &mut Sink<'_>| {
            sink.add(0, scaled::<T>(&gradient, &own, &[all, classes])?)
        }))
    })
}

/// Mean binary cross entropy: `max(x, 0) - x·y + log(1 + e^-|x|)`, finite for any logit.
///
/// `logits [n, 1]`, `targets [n]` in `[0, 1]`, `weights [n]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn bce_with_logits(tape: &Tape, logits: &Var, targets: &[f32], weights: Option<&[f32]>) -> Result<Var> {
    let rows = targets.len();
    if logits.dims() != [rows, 1] {
        return Err(Error::internal("bce_with_logits: targets do not fit the logits"));
    }
    dispatch!(logits.value(), T => {
        let (weights, total) = weights_for::<T>(weights, rows)?;
        let mut loss = 0f64;
        let mut own = Vec::with_capacity(rows);
        {
            let guard = read(logits.value())?;
            for ((x, target), weight) in guard.slice::<T>()?.iter().zip(targets).zip(weights) {
                let y = T::of(f64::from(*target));
                let tail = Real::exp(-Real::abs(*x));
                loss += (weight * (x.larger(T::ZERO) - *x * y + Real::ln_1p(tail))).wide();
                let probability = if *x >= T::ZERO { T::ONE / (T::ONE + tail) } else { tail / (T::ONE + tail) };
                own.push((probability - y) * weight / total);
            }
        }
        let value = tensor::<T>(vec![T::of(loss / total.wide())], &[1])?;
        Ok(tape.record(value, &[logits], move |gradient, sink: &mut Sink<'_>| sink.add(0, scaled::<T>(&gradient, &own, &[rows, 1])?)))
    })
}

/// Mean of squared differences, weighted. `predictions [rows · members, 1]`, `targets [rows]`, `weights [rows]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn mean_squared_error(tape: &Tape, predictions: &Var, targets: &[f32], weights: Option<&[f32]>) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.squared_error(predictions, targets, weights);
    }
    let (all, width) = predictions.dims2()?;
    let rows = targets.len();
    if rows == 0 || width != 1 || all % rows != 0 {
        return Err(Error::internal("mean_squared_error: targets do not fit the predictions"));
    }
    let members = all / rows;
    dispatch!(predictions.value(), T => {
        let (weights, total) = weights_for::<T>(weights, rows)?;
        let norm = total * T::of(members as f64);
        let mut loss = 0f64;
        let mut own = Vec::with_capacity(all);
        {
            let guard = read(predictions.value())?;
            for (at, x) in guard.slice::<T>()?.iter().enumerate() {
                let difference = *x - T::of(f64::from(targets[at / members]));
                let weight = weights[at / members];
                loss += (weight * difference * difference).wide();
                own.push((difference + difference) * weight / norm);
            }
        }
        let value = tensor::<T>(vec![T::of(loss / norm.wide())], &[1])?;
        Ok(tape.record(value, &[predictions], move |gradient, sink: &mut Sink<'_>| sink.add(0, scaled::<T>(&gradient, &own, &[all, 1])?)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients() {
        let targets: Arc<[u32]> = Arc::from([2u32, 0, 1]);
        let weights = [0.5f32, 2.0, 1.0];
        for members in [1, 4] {
            check(&[normal(&[3 * members, 3], 1)], |tape, vars| softmax_cross_entropy(tape, &vars[0], &targets, None));
            check(&[normal(&[3 * members, 3], 1)], |tape, vars| softmax_cross_entropy(tape, &vars[0], &targets, Some(&weights)));
            check(&[normal(&[3 * members, 1], 1)], |tape, vars| mean_squared_error(tape, &vars[0], &[0.3, -1.0, 2.0], Some(&weights)));
        }
        check(&[normal(&[3, 1], 1)], |tape, vars| bce_with_logits(tape, &vars[0], &[1.0, 0.0, 0.25], Some(&weights)));
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let tape = Tape::silent();
        let logits = tape.constant(&tensor(vec![100f32, -110.0], &[2, 1]).unwrap()).unwrap();
        let loss = bce_with_logits(&tape, &logits, &[1.0, 1.0], None).unwrap().scalar().unwrap();
        assert!((loss - 55.0).abs() < 1e-4, "{loss}");
        let logits = tape.constant(&tensor(vec![1000f32, -1000.0], &[1, 2]).unwrap()).unwrap();
        let loss = softmax_cross_entropy(&tape, &logits, &Arc::from([1u32]), None).unwrap().scalar().unwrap();
        assert!((loss - 2000.0).abs() < 1e-2, "{loss}");
    }
}
