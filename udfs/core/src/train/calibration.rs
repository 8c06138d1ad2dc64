//! From a network's outputs to numbers that mean what they say: probabilities and values in the target's own units.

use serde::{Deserialize, Serialize};

/// Sharper than this and a fit on few rows has run away.
const SCALE_RANGE: (f64, f64) = (0.05, 20.0);
/// Turns of temperature and offsets, and steps of the offsets in each.
const SHIFT_ROUNDS: usize = 3;
const OFFSET_STEPS: usize = 20;

/// How outputs are transformed; fitted on the validation rows. Monotone, so that rankings stay as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The transformation.
    pub transform: Transform,
    /// What is known without looking at a row: class shares of the training rows, or `[mean, median]` of their values.
    pub prior: Vec<f64>,
}

/// The kinds of transformation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Transform {
    /// Two classes: `σ(scale · (logit₁ − logit₀) + offset)` (Platt, 1999), `scale > 0`.
    Platt {
        /// Slope.
        scale: f64,
        /// Intercept.
        offset: f64,
    },
    /// Several classes: `softmax(logits / temperature + offsets)` (Guo et al., 2017; with offsets Alexandari et al., 2020).
    Temperature {
        /// Larger is less sure.
        temperature: f64,
        /// One per class where training showed the classes in other shares than nature; empty = none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        offsets: Vec<f64>,
    },
    /// Numbers: `scale · g(output · std + mean)` held within the training range, g = exp(x) − 1 for logarithmic targets.
    Value {
        /// Mean of the training target (of its logarithm).
        mean: f64,
        /// Standard deviation of the training target (of its logarithm).
        std: f64,
        /// Whether the target was taken as ln(1 + y).
        log1p: bool,
        /// Brings the mean of predictions to the mean of the truth (smearing); 1 for targets taken as they are.
        scale: f64,
        /// Smallest training value.
        min: f64,
        /// Largest training value.
        max: f64,
    },
}

/// `ln Σ exp`.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + values.map(|value| (value - largest).exp()).sum::<f64>().ln()
}

pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

impl Calibration {
    /// Fits two or more classes on `logits [rows, classes]` and their truth. Without rows, outputs stay as they are.
    pub fn fit_classes(logits: &[f32], labels: &[u32], classes: usize, prior: Vec<f64>) -> Self {
        let transform = if classes == 2 {
            fit_platt(logits, labels)
        } else {
            Transform::Temperature { temperature: fit_temperature(logits, labels, classes, &[]), offsets: Vec::new() }
        };
        Self { transform, prior }
    }

    /// The same for a network that learned from classes in other shares than nature's: weighted, or shown more often.
    pub fn fit_shifted_classes(logits: &[f32], labels: &[u32], classes: usize, prior: Vec<f64>) -> Self {
        if classes == 2 || labels.is_empty() {
            return Self::fit_classes(logits, labels, classes, prior);
        }
        let mut offsets = vec![0.0; classes];
        let mut temperature = 1.0;
        for _ in 0..SHIFT_ROUNDS {
            temperature = fit_temperature(logits, labels, classes, &offsets);
            fit_offsets(logits, labels, classes, temperature, &mut offsets);
        }
        Self { transform: Transform::Temperature { temperature, offsets }, prior }
    }

    /// What logits are divided by before their softmax; 1 where they are transformed otherwise.
    pub fn temperature(&self) -> f64 {
        match &self.transform {
            Transform::Temperature { temperature, .. } => *temperature,
            _ => 1.0,
        }
    }

    /// Calibrated probabilities `[rows, classes]` from `logits [rows, classes]`; rows sum to 1.
    pub fn probabilities(&self, logits: &[f32], classes: usize) -> Vec<f64> {
        let mut out = Vec::with_capacity(logits.len());
        let (temperature, offsets): (f64, &[f64]) = match &self.transform {
            Transform::Temperature { temperature, offsets } => (*temperature, offsets),
            _ => (1.0, &[]),
        };
        for row in logits.chunks_exact(classes.max(1)) {
            match self.transform {
                Transform::Platt { scale, offset } if classes == 2 => {
                    let positive = sigmoid(scale * (f64::from(row[1]) - f64::from(row[0])) + offset);
                    out.extend([1.0 - positive, positive]);
                }
                _ => {
                    let scaled = scaled(row, 1.0 / temperature, offsets);
                    let norm = log_sum_exp(scaled.clone());
                    out.extend(scaled.map(|value| (value - norm).exp()));
                }
            }
        }
        out
    }

    /// Values in the target's own units.
    pub fn values(&self, outputs: &[f32]) -> Vec<f64> {
        let Transform::Value { mean, std, log1p, scale, min, max } = self.transform else {
            return outputs.iter().map(|value| f64::from(*value)).collect();
        };
        let back = |value: &f32| {
            let inner = f64::from(*value) * std + mean;
            // The largest training value bounds the exponent too: nothing overflows.
            let value = if log1p { inner.min(max.max(0.0).ln_1p() + 1.0).exp_m1() } else { inner };
            (value * scale).clamp(min, max)
        };
        outputs.iter().map(back).collect()
    }
}

/// Newton's method on the two parameters of Platt scaling, with Platt's smoothed targets.
fn fit_platt(logits: &[f32], labels: &[u32]) -> Transform {
    let positives = labels.iter().filter(|label| **label == 1).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let (mut scale, mut offset) = (1.0, 0.0);
    if positives < 1.0 || negatives < 1.0 {
        return Transform::Platt { scale, offset };
    }
    let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    let points: Vec<(f64, f64)> = logits
        .chunks_exact(2)
        .zip(labels)
        .map(|(row, label)| (f64::from(row[1]) - f64::from(row[0]), if *label == 1 { high } else { low }))
        .collect();
    let loss = |scale: f64, offset: f64| -> f64 {
        points
            .iter()
            .map(|(x, y)| {
                let z = scale * x + offset;
                z.max(0.0) - z * y + (-z.abs()).exp().ln_1p()
            })
            .sum()
    };
    let mut best = loss(scale, offset);
    for _ in 0..50 {
        let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
        for (x, y) in &points {
            let p = sigmoid(scale * x + offset);
            let (error, curve) = (p - y, p * (1.0 - p));
            g = [g[0] + error * x, g[1] + error];
            h = [h[0] + curve * x * x, h[1] + curve * x, h[2] + curve];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        if determinant.abs() < 1e-12 {
            break;
        }
        let step = [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
        let mut share = 1.0;
        let mut moved = false;
        while share > 1e-6 {
            let (new_scale, new_offset) = ((scale - share * step[0]).clamp(SCALE_RANGE.0, SCALE_RANGE.1), offset - share * step[1]);
            let new = loss(new_scale, new_offset);
            if new < best - 1e-10 {
                (scale, offset, best, moved) = (new_scale, new_offset, new, true);
                break;
            }
            share *= 0.5;
        }
        if !moved {
            break;
        }
    }
    Transform::Platt { scale, offset }
}

/// `row · inverse + offsets`; no offsets = zero.
fn scaled<'a>(row: &'a [f32], inverse: f64, offsets: &'a [f64]) -> impl Iterator<Item = f64> + Clone + 'a {
    row.iter().enumerate().map(move |(class, value)| f64::from(*value) * inverse + offsets.get(class).copied().unwrap_or(0.0))
}

/// Moves each class's offset until the mean probability of the class is its share (smoothed by one row): the fixed point
/// is where the likelihood of the offsets is largest.
fn fit_offsets(logits: &[f32], labels: &[u32], classes: usize, temperature: f64, offsets: &mut [f64]) {
    let mut seen = vec![1.0 / classes as f64; classes];
    labels.iter().for_each(|label| seen[*label as usize] += 1.0);
    let mut probabilities = vec![0.0; classes];
    for _ in 0..OFFSET_STEPS {
        let mut promised = vec![1.0 / classes as f64; classes];
        for row in logits.chunks_exact(classes) {
            let values = scaled(row, 1.0 / temperature, offsets);
            let norm = log_sum_exp(values.clone());
            probabilities.iter_mut().zip(values).for_each(|(out, value)| *out = (value - norm).exp());
            promised.iter_mut().zip(&probabilities).for_each(|(sum, value)| *sum += value);
        }
        let mut largest = 0f64;
        for ((offset, seen), promised) in offsets.iter_mut().zip(&seen).zip(&promised) {
            let step = (seen / promised).ln();
            largest = largest.max(step.abs());
            *offset += step;
        }
        if largest < 1e-6 {
            break;
        }
    }
}

/// Golden-section search on the logarithm of the temperature: the loss is convex in its inverse.
fn fit_temperature(logits: &[f32], labels: &[u32], classes: usize, offsets: &[f64]) -> f64 {
    if labels.is_empty() || classes == 0 {
        return 1.0;
    }
    let loss = |log_temperature: f64| -> f64 {
        let inverse = (-log_temperature).exp();
        let one = |row: &[f32], label: u32| {
            let own = offsets.get(label as usize).copied().unwrap_or(0.0);
            log_sum_exp(scaled(row, inverse, offsets)) - f64::from(row[label as usize]) * inverse - own
        };
        logits.chunks_exact(classes).zip(labels).map(|(row, label)| one(row, *label)).sum()
    };
    let (mut low, mut high) = (SCALE_RANGE.0.ln(), SCALE_RANGE.1.ln());
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut loss_a, mut loss_b) = (loss(a), loss(b));
    for _ in 0..40 {
        if loss_a < loss_b {
            (high, b, loss_b) = (b, a, loss_a);
            a = high - ratio * (high - low);
            loss_a = loss(a);
        } else {
            (low, a, loss_a) = (a, b, loss_b);
            b = low + ratio * (high - low);
            loss_b = loss(b);
        }
    }
    f64::midpoint(low, high).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ops::Philox;

    /// Logits that are `factor` times too sure.
    fn overconfident(factor: f32) -> (Vec<f32>, Vec<u32>) {
        let random = Philox::new(1, 1);
        let mut logits = Vec::new();
        let mut labels = Vec::new();
        for i in 0..4000u64 {
            let x = random.normal(i);
            labels.push(u32::from(random.fork(1).uniform(i) < sigmoid(x - 1.0)));
            logits.extend([0.0, x as f32 * factor]);
        }
        (logits, labels)
    }

    #[test]
    fn platt_undoes_a_scale_and_a_shift() {
        let (logits, labels) = overconfident(3.0);
        let calibration = Calibration::fit_classes(&logits, &labels, 2, vec![]);
        let Transform::Platt { scale, offset } = calibration.transform else { panic!("two classes") };
        assert!((scale - 1.0 / 3.0).abs() < 0.03 && (offset + 1.0).abs() < 0.1, "{scale} {offset}");
        let probabilities = calibration.probabilities(&logits, 2);
        let mean = probabilities.iter().skip(1).step_by(2).sum::<f64>() / labels.len() as f64;
        let share = labels.iter().sum::<u32>() as f64 / labels.len() as f64;
        assert!((mean - share).abs() < 0.005, "{mean} {share}");
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|a, b| logits[a * 2 + 1].total_cmp(&logits[b * 2 + 1]));
        assert!(order.windows(2).all(|pair| probabilities[pair[0] * 2 + 1] <= probabilities[pair[1] * 2 + 1]));
    }

    #[test]
    fn temperature_undoes_a_scale() {
        let random = Philox::new(2, 2);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for i in 0..4000u64 {
            let row: Vec<f64> = (0..3).map(|c| random.normal(i * 3 + c)).collect();
            let norm = log_sum_exp(row.iter().copied());
            let mut draw = random.fork(1).uniform(i);
            let label = row
                .iter()
                .position(|x| {
                    draw -= (x - norm).exp();
                    draw < 0.0
                })
                .unwrap_or(2);
            labels.push(label as u32);
            logits.extend(row.iter().map(|x| *x as f32 * 4.0));
        }
        let calibration = Calibration::fit_classes(&logits, &labels, 3, vec![]);
        let Transform::Temperature { temperature, .. } = calibration.transform else { panic!("three classes") };
        assert!((temperature - 4.0).abs() < 0.3, "{temperature}");
        for row in calibration.probabilities(&logits, 3).chunks(3) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn offsets_take_back_shares_that_are_not_natures() {
        let (random, shares) = (Philox::new(3, 3), [0.9, 0.07, 0.03]);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for i in 0..6000u64 {
            let label = if random.uniform(i) < shares[0] { 0 } else { 1 + u32::from(random.fork(1).uniform(i) < 0.3) };
            labels.push(label);
            // What a network that saw all classes equally often would say.
            logits.extend((0..3u32).map(|c| (2.0 * f64::from(c == label) + random.fork(2).normal(i * 3 + u64::from(c))) as f32));
        }
        let plain = Calibration::fit_classes(&logits, &labels, 3, vec![]);
        let shifted = Calibration::fit_shifted_classes(&logits, &labels, 3, vec![]);
        let mean = |calibration: &Calibration, class: usize| {
            calibration.probabilities(&logits, 3).chunks(3).map(|row| row[class]).sum::<f64>() / labels.len() as f64
        };
        for class in 0..3 {
            let share = labels.iter().filter(|label| **label as usize == class).count() as f64 / labels.len() as f64;
            assert!((mean(&shifted, class) - share).abs() < 2e-3, "{class}: {} instead of {share}", mean(&shifted, class));
        }
        assert!(mean(&plain, 2) > 0.06);
        let stored = serde_json::to_string(&shifted).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&stored).unwrap(), shifted);
        let old = r#"{"transform": {"kind": "temperature", "temperature": 2.0}, "prior": []}"#;
        assert_eq!(
            serde_json::from_str::<Calibration>(old).unwrap().transform,
            Transform::Temperature { temperature: 2.0, offsets: vec![] }
        );
    }

    #[test]
    fn one_class_or_no_rows_change_nothing() {
        for labels in [vec![], vec![0u32, 0]] {
            let logits = vec![0.5f32; labels.len() * 2];
            let calibration = Calibration::fit_classes(&logits, &labels, 2, vec![]);
            assert_eq!(calibration.transform, Transform::Platt { scale: 1.0, offset: 0.0 });
        }
    }

    #[test]
    fn values_return_to_their_units() {
        let transform = Transform::Value { mean: 2.0, std: 0.5, log1p: true, scale: 1.0, min: 0.0, max: 50.0 };
        let calibration = Calibration { transform, prior: vec![] };
        let values = calibration.values(&[0.0, 1e9, -1e9]);
        assert!((values[0] - (2f64.exp() - 1.0)).abs() < 1e-9);
        assert_eq!(&values[1..], [50.0, 0.0]);
    }
}
