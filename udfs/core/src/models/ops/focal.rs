//! The focal loss (Lin et al., "Focal loss for dense object detection", 2017, eq. 4), with label smoothing (Szegedy et
//! al., 2016): the loss of a row counts less the better its class is known.
//!
//! With q the smoothed label, `ℓ = −Σ_c q_c · (1 − p_c)^γ · ln p_c`; γ = 0 without smoothing is cross-entropy, for which
//! [`softmax_cross_entropy`](super::softmax_cross_entropy) is faster.

use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// What the focal loss is told beside logits and labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Focal {
    /// How strongly rows that are known well are looked away from; 0 = not.
    pub gamma: f64,
    /// Share of the label that is spread over all classes.
    pub smoothing: f64,
}

impl Focal {
    /// The loss of one row of `logits [classes]`; adds `scale` times its gradient to `gradient`, when given.
    pub fn row<T: Real>(self, logits: &[T], target: usize, gradient: Option<(&mut [T], f64)>) -> f64 {
        let classes = logits.len();
        let largest = logits.iter().map(|x| x.wide()).fold(f64::NEG_INFINITY, f64::max);
        let norm = logits.iter().map(|x| (x.wide() - largest).exp()).sum::<f64>().ln() + largest;
        // Never above 0, whatever rounding says: 1 − p must not be negative.
        let log_p = |x: &T| (x.wide() - norm).min(0.0);
        let spread = self.smoothing / classes as f64;
        let label = |class: usize| if class == target { 1.0 - self.smoothing + spread } else { spread };
        let (mut loss, mut total) = (0.0, 0.0);
        // g_c = q_c · p_c · f'(p_c) with f(p) = −(1 − p)^γ ln p; the gradient of logit k is g_k − p_k Σ g_c.
        let slope = |log_p: f64| {
            let rest = -log_p.exp_m1();
            if self.gamma == 0.0 {
                return -1.0;
            }
            // (1 − p)^(γ − 1) · p ln p tends to −(1 − p)^γ as p tends to 1.
            let bend = if rest < 1e-12 { -rest.powf(self.gamma) } else { rest.powf(self.gamma - 1.0) * log_p.exp() * log_p };
            self.gamma * bend - rest.powf(self.gamma)
        };
        for (class, x) in logits.iter().enumerate().filter(|(class, _)| label(*class) > 0.0) {
            let log_p = log_p(x);
            loss -= label(class) * (-log_p.exp_m1()).powf(self.gamma) * log_p;
            total += label(class) * slope(log_p);
        }
        if let Some((gradient, scale)) = gradient {
            for (class, (x, out)) in logits.iter().zip(gradient).enumerate() {
                let log_p = log_p(x);
                let own = if label(class) > 0.0 { label(class) * slope(log_p) } else { 0.0 };
                *out += T::of(scale * (own - log_p.exp() * total));
            }
        }
        loss
    }
}

/// Mean of the focal loss over the rows, weighted: `Σ wᵢ ℓᵢ / Σ wᵢ`.
///
/// `logits [rows · members, classes]`: member `m` of row `r` is at `r · members + m`; `targets [rows]`, `weights [rows]`.
///
/// # Errors
/// `Internal` when a target is not a class or shapes disagree.
pub fn focal_loss(tape: &Tape, logits: &Var, targets: &Arc<[u32]>, weights: Option<&[f32]>, focal: Focal) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.classes(logits, targets, weights, Some(focal));
    }
    let (all, classes) = logits.dims2()?;
    let rows = targets.len();
    if rows == 0 || all % rows != 0 || targets.iter().any(|target| *target as usize >= classes) {
        return Err(Error::internal("focal_loss: targets do not fit the logits"));
    }
    if weights.is_some_and(|weights| weights.len() != rows) {
        return Err(Error::internal("focal_loss: one weight per row is needed"));
    }
    let members = all / rows;
    let weight = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
    let total = (0..rows).map(weight).sum::<f64>();
    let norm = if total > 0.0 { total } else { 1.0 } * members as f64;
    dispatch!(logits.value(), T => {
        let (mut loss, mut own) = (0f64, vec![T::ZERO; all * classes]);
        {
            let guard = read(logits.value())?;
            for (at, (x, out)) in guard.slice::<T>()?.chunks_exact(classes).zip(own.chunks_exact_mut(classes)).enumerate() {
                let row = at / members;
                loss += weight(row) * focal.row::<T>(x, targets[row] as usize, Some((out, weight(row) / norm)));
            }
        }
        let value = tensor::<T>(vec![T::of(loss / norm)], &[1])?;
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
    use super::*;

    const KINDS: [Focal; 5] = [
        Focal { gamma: 2.0, smoothing: 0.0 },
        Focal { gamma: 0.5, smoothing: 0.0 },
        Focal { gamma: 0.0, smoothing: 0.1 },
        Focal { gamma: 1.0, smoothing: 0.2 },
        Focal { gamma: 0.0, smoothing: 0.0 },
    ];

    #[test]
    fn gradients() {
        let targets: Arc<[u32]> = Arc::from([2u32, 0, 1]);
        let weights = [0.5f32, 2.0, 1.0];
        for focal in KINDS {
            for members in [1, 4] {
                for weights in [None, Some(&weights[..])] {
                    check(&[normal(&[3 * members, 3], 1)], |tape, vars| focal_loss(tape, &vars[0], &targets, weights, focal));
                }
            }
        }
    }

    fn value(logits: &[f64], classes: usize, targets: &[u32], weights: Option<&[f32]>, focal: Focal) -> (f64, Vec<f64>) {
        let tape = Tape::recording(super::super::Philox::new(1, 1));
        let leaf = tape.leaf(&tensor(logits.to_vec(), &[targets.len(), classes]).unwrap()).unwrap();
        let loss = focal_loss(&tape, &leaf, &Arc::from(targets), weights, focal).unwrap();
        let value = loss.scalar().unwrap();
        let gradients = tape.backward(&loss).unwrap();
        (value, super::super::storage::to_vec(gradients.get(&leaf).unwrap()).unwrap())
    }

    #[test]
    fn without_gamma_and_smoothing_it_is_cross_entropy() {
        let logits = super::super::storage::to_vec::<f64>(&normal(&[4, 3], 3)).unwrap();
        let targets: Arc<[u32]> = Arc::from([2u32, 0, 1, 1]);
        let tape = Tape::silent();
        let constant = tape.constant(&tensor(logits.clone(), &[4, 3]).unwrap()).unwrap();
        let expected = softmax_cross_entropy(&tape, &constant, &targets, None).unwrap().scalar().unwrap();
        assert!((value(&logits, 3, &targets, None, KINDS[4]).0 - expected).abs() < 1e-12);
    }

    #[test]
    fn it_is_finite_at_the_ends() {
        for focal in KINDS {
            for logits in [[1000.0, -1000.0], [-1000.0, 1000.0], [0.0, 0.0], [40.0, -40.0]] {
                let (loss, gradient) = value(&logits, 2, &[0], None, focal);
                assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{focal:?} {logits:?}: {loss} {gradient:?}");
            }
        }
    }

    /// Expected values: PyTorch 2, `udfs/core/tests/data/torch_focal.py`.
    #[test]
    fn it_is_that_of_pytorch() {
        for (focal, weights, loss, gradient) in FOCAL_VECTORS {
            let (got, slopes) = value(&LOGITS, 3, &[2, 0, 1], weights.as_ref().map(|w| &w[..]), *focal);
            assert!((got - loss).abs() < 1e-6, "{focal:?}: {got} instead of {loss}");
            for (got, expected) in slopes.iter().zip(gradient) {
                assert!((got - expected).abs() < 1e-6, "{focal:?}: {slopes:?} instead of {gradient:?}");
            }
        }
    }

    type Vector = (Focal, Option<[f32; 3]>, f64, [f64; 9]);
    const LOGITS: [f64; 9] = [0.5, -1.25, 2.0, 0.125, 0.75, -0.5, -3.0, 1.5, 0.25];
    const FOCAL_VECTORS: &[Vector] = &[
        (
            Focal { gamma: 2.0, smoothing: 0.0 },
            None,
            0.211_511_139,
            [
                0.007_048_934,
                0.001_224_921,
                -0.008_273_855,
                -0.237_033_995,
                0.184_246_492,
                0.052_787_504,
                0.000_412_932,
                -0.011_062_575,
                0.010_649_644,
            ],
        ),
        (
            Focal { gamma: 2.0, smoothing: 0.0 },
            Some([0.5, 2.0, 1.0]),
            0.354_380_469,
            [
                0.003_020_972,
                0.000_524_966,
                -0.003_545_938,
                -0.406_343_992,
                0.315_851_129,
                0.090_492_863,
                0.000_353_941,
                -0.009_482_207,
                0.009_128_266,
            ],
        ),
        (
            Focal { gamma: 0.5, smoothing: 0.0 },
            None,
            0.420_003_163,
            [
                0.038_776_191,
                0.006_738_292,
                -0.045_514_483,
                -0.248_216_071,
                0.192_938_318,
                0.055_277_754,
                0.001_964_844,
                -0.052_638_845,
                0.050_674_001,
            ],
        ),
        (
            Focal { gamma: 0.0, smoothing: 0.1 },
            None,
            0.689_318_500,
            [
                0.047_828_950,
                -0.000_868_864,
                -0.046_960_085,
                -0.213_172_927,
                0.171_861_506,
                0.041_311_421,
                -0.008_257_412,
                -0.054_229_337,
                0.062_486_749,
            ],
        ),
        (
            Focal { gamma: 1.0, smoothing: 0.2 },
            Some([0.5, 2.0, 1.0]),
            0.676_870_308,
            [
                0.001_536_309,
                -0.008_113_962,
                0.006_577_653,
                -0.351_407_110,
                0.300_097_453,
                0.051_309_657,
                -0.018_399_249,
                0.007_057_006,
                0.011_342_243,
            ],
        ),
    ];
}
