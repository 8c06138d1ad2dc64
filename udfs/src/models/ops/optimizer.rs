//! Fused optimizer steps over named parameters, with the gradient's global norm clipped.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::parallel;
use super::storage::{modify, read};
use super::vectorise::vectorise;
use crate::error::Result;

/// Which update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Momentum 0.9 (Nesterov off); weight decay joins the gradient.
    Sgd,
    /// Kingma & Ba, 2015; weight decay joins the gradient.
    Adam,
    /// Loshchilov & Hutter, 2019; weight decay apart from the gradient.
    Adamw,
}

const MOMENTUM: f64 = 0.9;
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f32 = 1e-8;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepOutcome {
    /// Weights moved; the gradient's norm before clipping.
    Done(f64),
    /// The gradient was not finite: nothing was changed.
    NotFinite,
}

/// One parameter's gradient and treatment.
#[derive(Debug)]
pub struct Update<'a> {
    /// Its name: the key of its moments.
    pub name: &'a str,
    /// The weights, changed in place.
    pub weights: &'a Tensor,
    /// Their gradient.
    pub gradient: &'a Tensor,
    /// Whether weight decay applies.
    pub decays: bool,
}

#[derive(Debug, Default)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// Keeps the moments of every parameter between steps.
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    weight_decay: f64,
    clip_norm: Option<f64>,
    steps: i32,
    moments: BTreeMap<String, Moments>,
}

vectorise! {
    /// Adam and AdamW; `T` is always `f32`. `c`: clip, decay into the gradient, decay of the weights, step size,
    /// 1/√(1 − β₂ᵗ).
    fn adam<T>(w: &mut [T], g: &[T], m: &mut [T], v: &mut [T], c: [T; 5]) {
        let count = w.len();
        let (g, m, v) = (&g[..count], &mut m[..count], &mut v[..count]);
        let [clip, l2, shrink, step, root] = c;
        let (b1, b2, epsilon) = (T::of(BETA_1), T::of(BETA_2), T::of(f64::from(EPSILON)));
        let (a1, a2) = (T::of(1.0 - BETA_1), T::of(1.0 - BETA_2));
        for i in 0..count {
            let gradient = g[i] * clip + w[i] * l2;
            m[i] = m[i] * b1 + gradient * a1;
            v[i] = v[i] * b2 + gradient * gradient * a2;
            w[i] = w[i] * shrink - m[i] * step / (T::sqrt(v[i]) * root + epsilon);
        }
    }
}

vectorise! {
    /// Momentum; `c`: clip, decay into the gradient, learning rate.
    fn sgd<T>(w: &mut [T], g: &[T], m: &mut [T], c: [T; 3]) {
        let count = w.len();
        let (g, m) = (&g[..count], &mut m[..count]);
        let momentum = T::of(MOMENTUM);
        for i in 0..count {
            m[i] = m[i] * momentum + g[i] * c[0] + w[i] * c[1];
            w[i] -= m[i] * c[2];
        }
    }
}

impl Optimizer {
    /// `weight_decay` per step is `learning_rate · weight_decay` (AdamW) or joins the gradient (the others).
    pub fn new(kind: OptimizerKind, weight_decay: f64, clip_norm: Option<f64>) -> Self {
        Self { kind, weight_decay, clip_norm, steps: 0, moments: BTreeMap::new() }
    }

    /// One step. Parameters are independent of each other except for the common clipping.
    ///
    /// # Errors
    /// `Internal` when a gradient does not have its parameter's shape.
    pub fn step(&mut self, updates: &[Update<'_>], learning_rate: f64) -> Result<StepOutcome> {
        let mut squares = 0f64;
        for update in updates {
            let guard = read(update.gradient)?;
            let values = guard.slice::<f32>()?;
            // Sixteen chains in f64: quick, and the same order every time.
            let mut sums = [0f64; 16];
            for chunk in values.chunks(16) {
                for (sum, value) in sums.iter_mut().zip(chunk) {
                    *sum += f64::from(*value) * f64::from(*value);
                }
            }
            squares += sums.iter().sum::<f64>();
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Ok(StepOutcome::NotFinite);
        }
        self.steps += 1;
        let clip = self.clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        let mut taken: Vec<Moments> = updates.iter().map(|update| self.moments.remove(update.name).unwrap_or_default()).collect();
        let slots: Vec<std::sync::Mutex<&mut Moments>> = taken.iter_mut().map(std::sync::Mutex::new).collect();
        let results = parallel::map(updates.len(), |at| {
            let mut moments = slots[at].lock().map_err(|_| crate::error::Error::internal("an optimizer step panicked"))?;
            self.update_one(&updates[at], &mut moments, clip, learning_rate)
        });
        drop(slots);
        for (update, moments) in updates.iter().zip(taken) {
            self.moments.insert(update.name.to_owned(), moments);
        }
        results.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(StepOutcome::Done(norm))
    }

    fn update_one(&self, update: &Update<'_>, moments: &mut Moments, clip: f64, learning_rate: f64) -> Result<()> {
        let guard = read(update.gradient)?;
        let gradient = guard.slice::<f32>()?;
        let decay = if update.decays { self.weight_decay } else { 0.0 };
        moments.first.resize(gradient.len(), 0.0);
        if gradient.len() != update.weights.elem_count() {
            return Err(crate::error::Error::internal(format!("gradient of \"{}\" has another shape", update.name)));
        }
        if self.kind == OptimizerKind::Sgd {
            let constants = [clip, decay, learning_rate].map(|value| value as f32);
            return modify::<f32>(update.weights, |weights| sgd(weights, gradient, &mut moments.first, constants));
        }
        moments.second.resize(gradient.len(), 0.0);
        let (l2, shrink) = if self.kind == OptimizerKind::Adamw { (0.0, 1.0 - learning_rate * decay) } else { (decay, 1.0) };
        let step = learning_rate / (1.0 - BETA_1.powi(self.steps));
        let root = 1.0 / (1.0 - BETA_2.powi(self.steps)).sqrt();
        let constants = [clip, l2, shrink, step, root].map(|value| value as f32);
        modify::<f32>(update.weights, |weights| adam(weights, gradient, &mut moments.first, &mut moments.second, constants))
    }
}

#[cfg(test)]
mod tests {
    use super::super::storage::{tensor, to_vec};
    use super::*;

    fn run(kind: OptimizerKind, steps: usize) -> Vec<f32> {
        let weights = tensor(vec![1f32, -2.0, 3.0], &[3]).unwrap();
        let mut optimizer = Optimizer::new(kind, 0.1, Some(1.0));
        for step in 0..steps {
            let gradient = tensor(vec![0.5f32, -0.25 * (step as f32 + 1.0), 2.0], &[3]).unwrap();
            let update = Update { name: "w", weights: &weights, gradient: &gradient, decays: true };
            assert!(matches!(optimizer.step(&[update], 0.01).unwrap(), StepOutcome::Done(_)));
        }
        to_vec(&weights).unwrap()
    }

    fn close(got: &[f32], expected: [f32; 3]) {
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 2e-6, "{got} instead of {expected}");
        }
    }

    /// Expected values: `torch.optim` 2.x with `clip_grad_norm_(…, 1.0)`, three steps.
    #[test]
    fn steps_are_those_of_pytorch() {
        close(&run(OptimizerKind::Adamw, 3), ADAMW);
        close(&run(OptimizerKind::Adam, 3), ADAM);
        close(&run(OptimizerKind::Sgd, 3), SGD);
    }

    const ADAMW: [f32; 3] = [0.967_060_74, -1.964_732_8, 2.961_067];
    const ADAM: [f32; 3] = [0.970_022_26, -1.970_070_7, 2.970_021_5];
    const SGD: [f32; 3] = [0.981_123_86, -1.977_636_9, 2.930_100_4];

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let weights = tensor(vec![1f32], &[1]).unwrap();
        let gradient = tensor(vec![f32::NAN], &[1]).unwrap();
        let mut optimizer = Optimizer::new(OptimizerKind::Adamw, 0.1, None);
        let update = Update { name: "w", weights: &weights, gradient: &gradient, decays: true };
        assert_eq!(optimizer.step(&[update], 0.1).unwrap(), StepOutcome::NotFinite);
        assert_eq!(to_vec::<f32>(&weights).unwrap(), [1.0]);
    }
}
