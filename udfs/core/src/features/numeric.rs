//! One number column: how it is filled, held in, and scaled. Learned on the train rows.
//!
//! A value goes: missing → filled; else logarithm where the tail is heavy → held between the outlier limits; then
//! centred, scaled and kept within ±10, so that a network never sees more than it was trained for. A constant column
//! is left out rather than divided by zero.

use serde::{Deserialize, Serialize};

use super::options::{Missing, Options, Outliers, Scale};
use super::sequence::signed_log;
use crate::kernels::quantile::quantile;

/// Scaled values are kept within this.
const LIMIT: f32 = 10.0;

/// What part of a column a feature shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The value.
    Value,
    /// 1 where it is missing, else 0.
    Missing,
}

/// One numeric feature, fitted. Numbers are `f32` because those survive JSON bit for bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumericFeature {
    /// Its name.
    pub name: String,
    /// The raw column.
    pub source: usize,
    /// Value or missing flag.
    pub part: Part,
    /// Whether the signed logarithm comes first.
    pub log: bool,
    /// The outlier limits, after the logarithm.
    pub limits: Option<(f32, f32)>,
    /// Stands in for a missing value, after the logarithm.
    pub fill: f32,
    /// Subtracted.
    pub center: f32,
    /// Divided by; positive.
    pub scale: f32,
    /// Train rows in which it was missing.
    pub nulls: u64,
}

impl NumericFeature {
    /// Encodes a raw value; NaN = missing. Finite for every input.
    #[inline]
    #[must_use]
    pub fn encode(&self, raw: f32) -> f32 {
        match self.part {
            Part::Missing => f32::from(u8::from(!raw.is_finite())),
            Part::Value => {
                let mut x = if !raw.is_finite() {
                    self.fill
                } else if self.log {
                    log(raw)
                } else {
                    raw
                };
                if let Some((low, high)) = self.limits {
                    x = x.max(low).min(high);
                }
                ((x - self.center) / self.scale).clamp(-LIMIT, LIMIT)
            }
        }
    }
}

fn log(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { signed_log(f64::from(x)) as f32 }
}

/// Fits the features of one raw column to its train values (NaN = missing): none when it is constant.
pub(super) fn fit(name: &str, source: usize, train: &[f32], options: &Options) -> Vec<NumericFeature> {
    let mut values: Vec<f32> = train.iter().copied().filter(|value| value.is_finite()).collect();
    let nulls = (train.len() - values.len()) as u64;
    let mut features = Vec::new();
    let log_first = is_heavy_tailed(&values);
    if log_first {
        values.iter_mut().for_each(|value| *value = log(*value));
    }
    if let Some(value) = fit_value(name, source, values, log_first, nulls, options) {
        features.push(value);
    }
    if options.missing == Missing::Indicator && nulls > 0 && nulls < train.len() as u64 {
        features.push(NumericFeature {
            name: format!("{name}_missing"),
            source,
            part: Part::Missing,
            log: false,
            limits: None,
            fill: 0.0,
            center: 0.0,
            scale: 1.0,
            nulls,
        });
    }
    features
}

fn fit_value(name: &str, source: usize, mut values: Vec<f32>, log: bool, nulls: u64, options: &Options) -> Option<NumericFeature> {
    let limits = outlier_limits(&mut values, options.outliers);
    if let Some((low, high)) = limits {
        values.iter_mut().for_each(|value| *value = value.max(low).min(high));
    }
    let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    if values.is_empty() || low >= high {
        return None;
    }
    let (mean, std) = moments(&values);
    let median = quantile(&mut values, 0.5)?;
    let (center, scale) = match options.scale {
        Scale::Standard => (mean, std),
        Scale::Minmax => (low, high - low),
        Scale::Robust => {
            let range = quantile(&mut values, 0.75)? - quantile(&mut values, 0.25)?;
            // More than half of the rows may be alike although the column is not constant.
            (median, if range > 0.0 { range } else { std })
        }
        Scale::None => (0.0, 1.0),
    };
    let scale = if scale.is_finite() && scale > f32::MIN_POSITIVE { scale } else { high - low };
    if !scale.is_finite() {
        return None;
    }
    let fill = match options.missing {
        Missing::Mean => mean,
        Missing::Median | Missing::Indicator => median,
        Missing::Zero => 0.0,
    };
    Some(NumericFeature { name: name.to_owned(), source, part: Part::Value, log, limits, fill, center, scale, nulls })
}

fn moments(values: &[f32]) -> (f32, f32) {
    let count = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, variance.sqrt() as f32)
}

fn outlier_limits(values: &mut [f32], outliers: Outliers) -> Option<(f32, f32)> {
    match outliers {
        Outliers::None => None,
        Outliers::Zscore => {
            let (mean, std) = moments(values);
            (std > 0.0).then_some((mean - 3.0 * std, mean + 3.0 * std))
        }
        Outliers::Iqr => {
            let (low, high) = (quantile(values, 0.25)?, quantile(values, 0.75)?);
            // A range of zero would make a constant of a column that is not one.
            (high > low).then_some((low - 1.5 * (high - low), high + 1.5 * (high - low)))
        }
        Outliers::Winsorize => {
            let (low, high) = (quantile(values, 0.01)?, quantile(values, 0.99)?);
            (high > low).then_some((low, high))
        }
    }
}

/// Whether the signed logarithm makes a skewed column clearly less skewed.
fn is_heavy_tailed(values: &[f32]) -> bool {
    let skew = skewness(values.iter().map(|v| f64::from(*v)));
    skew.abs() > 1.5 && skewness(values.iter().map(|v| signed_log(f64::from(*v)))).abs() < 0.75 * skew.abs()
}

fn skewness(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    if count < 8.0 {
        return 0.0;
    }
    let mean = values.clone().sum::<f64>() / count;
    let (second, third) = values.fold((0.0, 0.0), |(second, third), v| (second + (v - mean).powi(2), third + (v - mean).powi(3)));
    let std = (second / count).sqrt();
    if std > 0.0 { third / count / std.powi(3) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(missing: Missing, outliers: Outliers, scale: Scale) -> Options {
        Options { missing, outliers, scale, ..Options::default() }
    }

    #[test]
    fn every_combination_is_finite_for_every_input() {
        let columns: [&[f32]; 6] = [
            &[1.0, 2.0, 3.0, f32::NAN, 1000.0, 0.0, 0.0, 0.0, 5.0],
            &[5.0; 9],
            &[f32::NAN; 4],
            &[],
            &[f32::MAX, f32::MIN, 0.0],
            &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1e-30],
        ];
        for missing in [Missing::Mean, Missing::Median, Missing::Zero, Missing::Indicator] {
            for outliers in [Outliers::None, Outliers::Zscore, Outliers::Iqr, Outliers::Winsorize] {
                for scale in [Scale::Standard, Scale::Minmax, Scale::Robust, Scale::None] {
                    for column in columns {
                        for feature in fit("x", 0, column, &options(missing, outliers, scale)) {
                            for raw in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-38] {
                                let x = feature.encode(raw);
                                assert!(x.is_finite() && x.abs() <= 10.0, "{feature:?} {raw}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn constant_columns_are_left_out() {
        assert!(fit("x", 0, &[3.0; 20], &Options::default()).is_empty());
        let half = fit("x", 0, &[3.0, f32::NAN, 3.0], &Options::default());
        assert_eq!(half.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["x_missing"]);
        assert_eq!((half[0].encode(f32::NAN), half[0].encode(3.0)), (1.0, 0.0));
    }

    #[test]
    fn scales_and_fills() {
        let train = [0.0, 1.0, 2.0, 3.0, 4.0, f32::NAN];
        let one = |missing, scale| fit("x", 0, &train, &options(missing, Outliers::None, scale))[0].clone();
        let standard = one(Missing::Mean, Scale::Standard);
        assert!((standard.encode(4.0) - 2.0_f32.sqrt()).abs() < 1e-6);
        assert_eq!(standard.encode(f32::NAN), 0.0);
        assert_eq!(one(Missing::Zero, Scale::Minmax).encode(f32::NAN), 0.0);
        assert_eq!(one(Missing::Zero, Scale::Minmax).encode(3.0), 0.75);
        assert_eq!(one(Missing::Median, Scale::Robust).encode(4.0), 1.0);
        assert_eq!(one(Missing::Median, Scale::None).encode(4.0), 4.0);
        assert_eq!(standard.nulls, 1);
    }

    #[test]
    fn heavy_tails_get_a_logarithm_and_outliers_a_limit() {
        let tail: Vec<f32> = (0..200).map(|i| (f64::from(i) / 20.0).exp() as f32).collect();
        assert!(fit("x", 0, &tail, &Options::default())[0].log);
        let flat: Vec<f32> = (0..200).map(|i| i as f32).collect();
        assert!(!fit("x", 0, &flat, &Options::default())[0].log);
        let wild = fit("x", 0, &flat, &options(Missing::Mean, Outliers::Winsorize, Scale::Standard));
        assert_eq!(wild[0].encode(1e9), wild[0].encode(199.0));
    }
}
