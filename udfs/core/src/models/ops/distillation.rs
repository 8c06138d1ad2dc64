//! The loss of a student that learns from a teacher (Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network",
//! 2015): `share · CE(y, z) + (1 − share) · T² · CE(p, z / T)` with the true class y and the teacher's probabilities p at
//! temperature T. T² keeps the size of the second part's gradient whatever the temperature.

use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// How a student learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distillation {
    /// Larger shows more of what the teacher says about unlikely classes.
    pub temperature: f64,
    /// The true label's share of the loss.
    pub share: f64,
}

/// `weight · CE(truth, softmax(logits / temperature))`; adds `scale` times its gradient to `gradient`.
fn cross_entropy<T: Real>(
    logits: &[T],
    temperature: f64,
    truth: impl Fn(usize) -> f64,
    weight: f64,
    (gradient, scale): (&mut [T], f64),
) -> f64 {
    let scaled = |x: &T| x.wide() / temperature;
    let largest = logits.iter().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let norm = logits.iter().map(|x| (scaled(x) - largest).exp()).sum::<f64>().ln() + largest;
    let mut loss = 0.0;
    for (class, (x, gradient)) in logits.iter().zip(gradient).enumerate() {
        let log_probability = scaled(x) - norm;
        loss -= truth(class) * log_probability;
        *gradient += T::of(scale * weight / temperature * (log_probability.exp() - truth(class)));
    }
    weight * loss
}

/// Mean of the loss over the rows, weighted: `Σ wᵢ ℓᵢ / Σ wᵢ`.
///
/// `logits [rows · members, classes]`: member `m` of row `r` is at `r · members + m`; `teacher [rows, classes]` sums to 1 in
/// each row; `targets [rows]`, `weights [rows]`.
///
/// # Errors
/// `Internal` when a target is not a class or shapes disagree.
pub fn distillation_loss(
    tape: &Tape,
    logits: &Var,
    teacher: &[f32],
    targets: &Arc<[u32]>,
    weights: Option<&[f32]>,
    how: Distillation,
) -> Result<Var> {
    let (all, classes) = logits.dims2()?;
    let rows = targets.len();
    if rows == 0
        || all % rows != 0
        || teacher.len() != rows * classes
        || targets.iter().any(|target| *target as usize >= classes)
        || weights.is_some_and(|weights| weights.len() != rows)
    {
        return Err(Error::internal("distillation_loss: targets do not fit the logits"));
    }
    let members = all / rows;
    let weight = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
    let total = (0..rows).map(weight).sum::<f64>();
    let norm = if total > 0.0 { total } else { 1.0 } * members as f64;
    let Distillation { temperature, share } = how;
    dispatch!(logits.value(), T => {
        let (mut loss, mut own) = (0f64, vec![T::ZERO; all * classes]);
        {
            let guard = read(logits.value())?;
            for (at, (x, out)) in guard.slice::<T>()?.chunks_exact(classes).zip(own.chunks_exact_mut(classes)).enumerate() {
                let row = at / members;
                let (target, teacher) = (targets[row] as usize, &teacher[row * classes..(row + 1) * classes]);
                let scale = weight(row) / norm;
                let hard = |class: usize| f64::from(u8::from(class == target));
                let soft = |class: usize| f64::from(teacher[class]);
                loss += scale * cross_entropy(x, 1.0, hard, share, (&mut *out, scale));
                let weight = (1.0 - share) * temperature * temperature;
                loss += scale * cross_entropy(x, temperature, soft, weight, (out, scale));
            }
        }
        let value = tensor::<T>(vec![T::of(loss)], &[1])?;
        Ok(tape.record(value, &[logits], move |gradient, sink: &mut Sink<'_>| {
            let scale = {
                let guard = read(&gradient)?;
                guard.slice::<T>()?.first().copied().unwrap_or(T::ZERO)
            };
            sink.add(0, tensor::<T>(own.iter().map(|value| *value * scale).collect(), &[all, classes])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::softmax_cross_entropy;
    use super::super::storage::tensor;
    use super::*;

    const TEACHER: [f32; 9] = [0.2, 0.3, 0.5, 0.9, 0.05, 0.05, 0.0, 1.0, 0.0];

    #[test]
    fn gradients() {
        let targets: Arc<[u32]> = Arc::from([2u32, 0, 1]);
        for (members, share) in [(1, 0.0), (1, 0.3), (4, 1.0), (4, 0.5)] {
            for temperature in [1.0, 3.0] {
                let how = Distillation { temperature, share };
                for weights in [None, Some(&[0.5f32, 2.0, 1.0][..])] {
                    check(&[normal(&[3 * members, 3], 1)], |tape, vars| {
                        distillation_loss(tape, &vars[0], &TEACHER, &targets, weights, how)
                    });
                }
            }
        }
    }

    #[test]
    fn without_a_teacher_it_is_cross_entropy() {
        let (tape, targets): (_, Arc<[u32]>) = (Tape::silent(), Arc::from([2u32, 0, 1]));
        let logits = tape.constant(&normal(&[3, 3], 1)).unwrap();
        let how = Distillation { temperature: 4.0, share: 1.0 };
        let own = distillation_loss(&tape, &logits, &TEACHER, &targets, None, how).unwrap().scalar().unwrap();
        let plain = softmax_cross_entropy(&tape, &logits, &targets, None).unwrap().scalar().unwrap();
        assert!((own - plain).abs() < 1e-12);
    }

    #[test]
    fn the_best_student_says_what_the_teacher_says() {
        // Worked out by hand: z / T = (0, ln 3), p = (1/4, 3/4): CE = −¼ ln ¼ − ¾ ln ¾, times T² = 4.
        let tape = Tape::silent();
        let logits = tape.constant(&tensor(vec![0f64, 2.0 * 3f64.ln()], &[1, 2]).unwrap()).unwrap();
        let how = Distillation { temperature: 2.0, share: 0.0 };
        let loss = distillation_loss(&tape, &logits, &[0.25, 0.75], &Arc::from([0u32]), None, how).unwrap().scalar().unwrap();
        assert!((loss - 4.0 * (0.25 * 4f64.ln() - 0.75 * 0.75f64.ln())).abs() < 1e-12, "{loss}");
    }
}
