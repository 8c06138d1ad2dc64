//! What each network of a stack counts for: weights that are not negative, learned on predictions that no network made of
//! rows it had learned from (Wolpert, 1992; Breiman, 1996).
//!
//! Classes: the log loss of `softmax(Σ w · ln p)`; numbers: the squared error of `Σ w · value`. A penalty draws the weights
//! to the plain average, as strongly as [`PRIOR_ROWS`] rows speak: few rows change little. Both are convex, so Newton's
//! method with the bound `w ≥ 0` finds the one minimum.

/// How many rows the plain average is worth.
const PRIOR_ROWS: f64 = 100.0;
/// Steps of Newton's method, sweeps over the weights within one, halvings of a step.
const STEPS: usize = 50;
const SWEEPS: usize = 200;
const HALVINGS: usize = 30;
/// A step that gains less than this is the last.
const GAIN_MIN: f64 = 1e-12;

/// The truth of the rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Truth<'a> {
    Classes(&'a [u32]),
    Values(&'a [f32]),
}

/// A problem of weights: `signals[member]` is `[rows, outputs]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blend<'a> {
    pub(super) signals: &'a [Vec<f32>],
    pub(super) outputs: usize,
    pub(super) truth: Truth<'a>,
}

/// Loss, gradient, and the rows of the symmetric matrix of second derivatives.
struct Shape {
    loss: f64,
    gradient: Vec<f64>,
    curvature: Vec<Vec<f64>>,
}

impl Blend<'_> {
    fn rows(&self) -> usize {
        match self.truth {
            Truth::Classes(labels) => labels.len(),
            Truth::Values(values) => values.len(),
        }
    }

    /// The weights; without rows the plain average.
    pub(super) fn weights(&self) -> Vec<f64> {
        let members = self.signals.len();
        let average = 1.0 / members.max(1) as f64;
        let mut weights = vec![average; members];
        if self.rows() == 0 {
            return weights;
        }
        for _ in 0..STEPS {
            let here = self.shape(&weights, average);
            let step = bounded_step(&here, &weights);
            let mut share = 1.0;
            let mut gained = 0.0;
            for _ in 0..HALVINGS {
                let next: Vec<f64> = weights.iter().zip(&step).map(|(weight, step)| (weight + share * step).max(0.0)).collect();
                let loss = self.loss(&next, average);
                if loss < here.loss {
                    gained = here.loss - loss;
                    weights = next;
                    break;
                }
                share *= 0.5;
            }
            if gained <= GAIN_MIN {
                break;
            }
        }
        weights
    }

    /// What the pull to the average adds.
    fn penalty(&self, weights: &[f64], average: f64) -> f64 {
        0.5 * PRIOR_ROWS / self.rows() as f64 * weights.iter().map(|weight| (weight - average).powi(2)).sum::<f64>()
    }

    fn loss(&self, weights: &[f64], average: f64) -> f64 {
        let mut row = vec![0.0; self.outputs];
        let sum: f64 = (0..self.rows())
            .map(|at| {
                self.combined(at, weights, &mut row);
                match self.truth {
                    Truth::Values(values) => 0.5 * (row[0] - f64::from(values[at])).powi(2),
                    Truth::Classes(labels) => softmax(&mut row) - row_logit(self, at, labels[at] as usize, weights),
                }
            })
            .sum();
        sum / self.rows() as f64 + self.penalty(weights, average)
    }

    fn combined(&self, at: usize, weights: &[f64], row: &mut [f64]) {
        row.fill(0.0);
        for (signal, weight) in self.signals.iter().zip(weights) {
            let own = &signal[at * self.outputs..][..self.outputs];
            row.iter_mut().zip(own).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
    }

    fn shape(&self, weights: &[f64], average: f64) -> Shape {
        let (members, rows) = (self.signals.len(), self.rows() as f64);
        let (mut gradient, mut curvature) = (vec![0.0; members], vec![vec![0.0; members]; members]);
        let (mut row, mut means) = (vec![0.0; self.outputs], vec![0.0; members]);
        for at in 0..self.rows() {
            self.combined(at, weights, &mut row);
            let own = |member: usize, output: usize| f64::from(self.signals[member][at * self.outputs + output]);
            match self.truth {
                Truth::Values(values) => {
                    let error = row[0] - f64::from(values[at]);
                    for a in 0..members {
                        gradient[a] += error * own(a, 0);
                        (0..=a).for_each(|b| curvature[a][b] += own(a, 0) * own(b, 0));
                    }
                }
                Truth::Classes(labels) => {
                    softmax(&mut row);
                    for a in 0..members {
                        means[a] = (0..self.outputs).map(|output| row[output] * own(a, output)).sum();
                        gradient[a] += means[a] - own(a, labels[at] as usize);
                        for b in 0..=a {
                            let products: f64 = (0..self.outputs).map(|output| row[output] * own(a, output) * own(b, output)).sum();
                            curvature[a][b] += products - means[a] * means[b];
                        }
                    }
                }
            }
        }
        let pull = PRIOR_ROWS / rows;
        for a in 0..members {
            gradient[a] = gradient[a] / rows + pull * (weights[a] - average);
            for b in 0..=a {
                curvature[a][b] = curvature[a][b] / rows + if a == b { pull } else { 0.0 };
                curvature[b][a] = curvature[a][b];
            }
        }
        Shape { loss: self.loss(weights, average), gradient, curvature }
    }
}

/// `Σ w · signal` of one output.
fn row_logit(blend: &Blend<'_>, at: usize, output: usize, weights: &[f64]) -> f64 {
    blend.signals.iter().zip(weights).map(|(signal, weight)| weight * f64::from(signal[at * blend.outputs + output])).sum()
}

/// Makes probabilities of logits, and gives `ln Σ exp`.
fn softmax(row: &mut [f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    largest + sum.ln()
}

/// The step to the minimum of the quadratic model that leaves no weight negative: one weight after the other, again and again.
fn bounded_step(shape: &Shape, weights: &[f64]) -> Vec<f64> {
    let mut step = vec![0.0; weights.len()];
    for _ in 0..SWEEPS {
        let mut moved: f64 = 0.0;
        for a in 0..weights.len() {
            let slope = shape.gradient[a] + shape.curvature[a].iter().zip(&step).map(|(c, s)| c * s).sum::<f64>();
            let next = (step[a] - slope / shape.curvature[a][a].max(1e-12)).max(-weights[a]);
            moved = moved.max((next - step[a]).abs());
            step[a] = next;
        }
        if moved < 1e-12 {
            break;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ops::Philox;

    fn noise(stream: u32, rows: usize) -> Vec<f32> {
        (0..rows as u64).map(|at| Philox::new(5, stream).normal(at) as f32).collect()
    }

    #[test]
    fn numbers_have_the_weights_of_bounded_least_squares() {
        let rows = 4000;
        let (a, b, c) = (noise(1, rows), noise(2, rows), noise(3, rows));
        let truth: Vec<f32> = (0..rows).map(|at| 0.7 * a[at] + 0.4 * b[at] - 0.3 * c[at]).collect();
        let signals = [a, b, c];
        let weights = Blend { signals: &signals, outputs: 1, truth: Truth::Values(&truth) }.weights();
        // The third one's best weight is below 0: it gets none, and the others are as without it, but for the pull.
        assert!((weights[0] - 0.7).abs() < 0.03 && (weights[1] - 0.4).abs() < 0.03, "{weights:?}");
        assert_eq!(weights[2], 0.0);
    }

    #[test]
    fn classes_trust_the_network_that_knows() {
        let rows = 6000;
        let (random, mut labels) = (Philox::new(9, 9), Vec::new());
        let mut signals = [Vec::new(), Vec::new(), Vec::new()];
        for at in 0..rows as u64 {
            let x = random.normal(at);
            labels.push(u32::from(random.fork(1).uniform(at) < 1.0 / (1.0 + (-2.0 * x).exp())));
            let logit = |signals: &mut Vec<f32>, z: f64| {
                let one = 1.0 / (1.0 + (-z).exp());
                signals.extend([(1.0 - one).ln() as f32, one.ln() as f32]);
            };
            logit(&mut signals[0], 2.0 * x);
            logit(&mut signals[1], random.fork(2).normal(at));
            logit(&mut signals[2], -2.0 * x);
        }
        let blend = Blend { signals: &signals, outputs: 2, truth: Truth::Classes(&labels) };
        let weights = blend.weights();
        assert!((weights[0] - 1.0).abs() < 0.15 && weights[1] < 0.12 && weights[2] == 0.0, "{weights:?}");
        // No weights nearby are better.
        let best = blend.loss(&weights, 1.0 / 3.0);
        for member in 0..3 {
            for shift in [-1e-3, 1e-3] {
                let mut other = weights.clone();
                other[member] = (other[member] + shift).max(0.0);
                assert!(blend.loss(&other, 1.0 / 3.0) >= best, "{member} {shift}");
            }
        }
    }

    #[test]
    fn few_rows_say_little_and_no_rows_nothing() {
        let signals = [vec![-9.0f32, -1e-4, -1e-4, -9.0], vec![-0.7, -0.7, -0.7, -0.7]];
        let few = Blend { signals: &signals, outputs: 2, truth: Truth::Classes(&[1, 0]) }.weights();
        assert!(few.iter().all(|weight| (weight - 0.5).abs() < 0.1), "{few:?}");
        let none = Blend { signals: &[vec![], vec![]], outputs: 2, truth: Truth::Classes(&[]) }.weights();
        assert_eq!(none, [0.5, 0.5]);
    }
}
