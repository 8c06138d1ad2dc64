//! How many users an experiment needs in each of two equal groups.

use super::distributions::normal_quantile;

/// Users per group for a change of a proportion from `baseline` to `baseline + effect`: the formula of Fleiss, as ClickHouse's
/// `minSampleSizeConversion`. Not rounded.
#[must_use]
pub fn for_proportion(baseline: f64, effect: f64, power: f64, alpha: f64) -> f64 {
    let other = baseline + effect;
    let mean = 0.5 * (baseline + other);
    let none = (2.0 * mean * (1.0 - mean)).sqrt();
    let some = (baseline * (1.0 - baseline) + other * (1.0 - other)).sqrt();
    let root = normal_quantile(1.0 - 0.5 * alpha) * none + normal_quantile(power) * some;
    root * root / (effect * effect)
}

/// Users per group for a change of a mean by `effect`, where values have the standard deviation `deviation`. Not rounded.
#[must_use]
pub fn for_mean(deviation: f64, effect: f64, power: f64, alpha: f64) -> f64 {
    let z = normal_quantile(1.0 - 0.5 * alpha) + normal_quantile(power);
    2.0 * (deviation * z / effect) * (deviation * z / effect)
}
