//! Measures of predicted numbers.

/// Mean absolute error; NaN without rows.
pub fn mae(truth: &[f64], predictions: &[f64]) -> f64 {
    truth.iter().zip(predictions).map(|(y, p)| (y - p).abs()).sum::<f64>() / truth.len() as f64
}

/// Root of the mean squared error; NaN without rows.
pub fn rmse(truth: &[f64], predictions: &[f64]) -> f64 {
    (truth.iter().zip(predictions).map(|(y, p)| (y - p).powi(2)).sum::<f64>() / truth.len() as f64).sqrt()
}

/// Share of the variance explained; NaN without rows or variance.
pub fn r2(truth: &[f64], predictions: &[f64]) -> f64 {
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let total: f64 = truth.iter().map(|y| (y - mean).powi(2)).sum();
    let left: f64 = truth.iter().zip(predictions).map(|(y, p)| (y - p).powi(2)).sum();
    if total > 0.0 { 1.0 - left / total } else { f64::NAN }
}
