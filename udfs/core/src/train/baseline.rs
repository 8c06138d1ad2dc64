//! The simple baseline: a logistic regression on recency and frequency, which any model worth its name must beat.

use super::calibration::sigmoid;

/// Weights of `1, ln(1 + recency days), ln(1 + events)`, the two features standardised on the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RecencyFrequency {
    mean: [f64; 2],
    std: [f64; 2],
    weights: [f64; 3],
}

/// Keeps Newton's steps defined when the classes are separable.
const RIDGE: f64 = 1e-3;
const ITERATIONS: usize = 25;

fn features(row: &[f32; 2]) -> [f64; 2] {
    row.map(|value| f64::from(value.max(0.0)).ln_1p())
}

impl RecencyFrequency {
    /// Fits by Newton's method on `rows` of `rfm` (`[recency in days, events]`); deterministic, no randomness.
    /// `None` without rows of both classes.
    pub fn fit(rfm: &[[f32; 2]], labels: &[u32], rows: &[u32]) -> Option<Self> {
        let positives = rows.iter().filter(|row| labels[**row as usize] == 1).count();
        if positives == 0 || positives == rows.len() {
            return None;
        }
        let count = rows.len() as f64;
        let x: Vec<[f64; 2]> = rows.iter().map(|row| features(&rfm[*row as usize])).collect();
        let mean = [0, 1].map(|i| x.iter().map(|row| row[i]).sum::<f64>() / count);
        let std = [0, 1].map(|i| (x.iter().map(|row| (row[i] - mean[i]).powi(2)).sum::<f64>() / count).sqrt().max(1e-9));
        let mut model = Self { mean, std, weights: [0.0; 3] };
        for _ in 0..ITERATIONS {
            let mut gradient = model.weights.map(|weight| RIDGE * weight);
            let mut hessian = [[0.0; 3]; 3];
            for i in 0..3 {
                hessian[i][i] = RIDGE;
            }
            for (row, x) in rows.iter().zip(&x) {
                let z = model.standardise(x);
                let p = sigmoid(model.logit(&z));
                let error = p - f64::from(labels[*row as usize].min(1));
                for i in 0..3 {
                    gradient[i] += error * z[i];
                    for j in 0..3 {
                        hessian[i][j] += p * (1.0 - p) * z[i] * z[j];
                    }
                }
            }
            let step = solve(hessian, gradient)?;
            for (weight, step) in model.weights.iter_mut().zip(step) {
                *weight -= step;
            }
            if step.iter().all(|step| step.abs() < 1e-10) {
                break;
            }
        }
        model.weights.iter().all(|weight| weight.is_finite()).then_some(model)
    }

    fn standardise(&self, x: &[f64; 2]) -> [f64; 3] {
        [1.0, (x[0] - self.mean[0]) / self.std[0], (x[1] - self.mean[1]) / self.std[1]]
    }

    fn logit(&self, z: &[f64; 3]) -> f64 {
        z.iter().zip(&self.weights).map(|(z, weight)| z * weight).sum()
    }

    /// The probability of the positive class.
    pub fn probability(&self, rfm: &[f32; 2]) -> f64 {
        sigmoid(self.logit(&self.standardise(&features(rfm))))
    }
}

/// Gaussian elimination with pivots; `None` for a singular matrix.
fn solve(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs()))?;
        if a[pivot][column].abs() < 1e-12 {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in column + 1..3 {
            let factor = a[row][column] / a[column][column];
            for i in column..3 {
                a[row][i] -= factor * a[column][i];
            }
            b[row] -= factor * b[column];
        }
    }
    let mut x = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|i| a[row][i] * x[i]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ops::Philox;

    #[test]
    fn finds_the_weights_that_made_the_labels() {
        let random = Philox::new(4, 4);
        let rfm: Vec<[f32; 2]> =
            (0..5000u64).map(|i| [random.uniform(i) as f32 * 300.0, (random.fork(1).uniform(i) * 50.0) as f32]).collect();
        let truth = |row: &[f32; 2]| sigmoid(1.0 - 0.8 * features(row)[0] + 1.2 * features(row)[1]);
        let labels: Vec<u32> = rfm.iter().enumerate().map(|(i, row)| u32::from(random.fork(2).uniform(i as u64) < truth(row))).collect();
        let rows: Vec<u32> = (0..5000).collect();
        let model = RecencyFrequency::fit(&rfm, &labels, &rows).unwrap();
        let error = rfm.iter().map(|row| (model.probability(row) - truth(row)).abs()).sum::<f64>() / 5000.0;
        assert!(error < 0.02, "{error}");
    }

    #[test]
    fn one_class_has_no_baseline_and_separable_classes_do() {
        let rfm = [[1.0, 1.0], [2.0, 2.0], [300.0, 1.0], [400.0, 2.0]];
        assert_eq!(RecencyFrequency::fit(&rfm, &[1; 4], &[0, 1, 2, 3]), None);
        let model = RecencyFrequency::fit(&rfm, &[1, 1, 0, 0], &[0, 1, 2, 3]).unwrap();
        assert!(model.probability(&rfm[0]) > 0.9 && model.probability(&rfm[3]) < 0.1);
    }
}
