//! Estimates of an experiment: ratios by the delta method, covariates (CUPED), intervals that hold at any time.

use super::moments::{PairMoments, PairSummary, Summary};

/// A ratio of sums Σx / Σy of units, with its squared standard error by the delta method (Deng, Knoblich & Lu, 2018).
#[must_use]
pub fn ratio(units: &PairSummary) -> (f64, f64) {
    let ratio = units.x.mean / units.y.mean;
    let variance = units.x.variance - 2.0 * ratio * units.covariance + ratio * ratio * units.y.variance;
    (ratio, variance / (units.x.count as f64 * units.y.mean * units.y.mean))
}

/// The relative difference a / b − 1 of two independent means, with its squared standard error by the delta method.
#[must_use]
pub fn relative((a, a_variance): (f64, f64), (b, b_variance): (f64, f64)) -> (f64, f64) {
    (a / b - 1.0, a_variance / (b * b) + a * a * b_variance / (b * b * b * b))
}

/// The slope θ and the mean of the covariate that CUPED takes out (Deng, Xu, Kohavi & Walker, 2013), from all units together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuped {
    theta: f64,
    covariate_mean: f64,
}

impl Cuped {
    /// From the moments (value, covariate) of all variants. Without variance in the covariate nothing is taken out.
    #[must_use]
    pub fn new(all: &PairMoments) -> Self {
        let all = all.summary();
        let theta = all.covariance / all.y.variance;
        Self { theta: if theta.is_finite() { theta } else { 0.0 }, covariate_mean: all.y.mean }
    }

    /// The variant's values with the covariate taken out.
    #[must_use]
    pub fn adjust(&self, variant: &PairSummary) -> Summary {
        let theta = self.theta;
        let variance = variant.x.variance - 2.0 * theta * variant.covariance + theta * theta * variant.y.variance;
        Summary {
            count: variant.x.count,
            mean: variant.x.mean - theta * (variant.y.mean - self.covariate_mean),
            variance: variance.max(0.0),
        }
    }
}

/// What may be said at any time, however often one looks: an asymptotic confidence sequence with a normal mixture (Robbins,
/// 1970; Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, 2021), whose p value is that of the mSPRT (Johari, Pekelis & Walsh).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlwaysValid {
    /// Half the width of the interval.
    pub margin: f64,
    /// The p value.
    pub p_value: f64,
}

/// For an estimate with its squared standard error from `units` units; narrowest when there are `tightest_at` of them.
#[must_use]
pub fn always_valid(estimate: f64, variance: f64, units: u64, confidence: f64, tightest_at: f64) -> AlwaysValid {
    let alpha = 1.0 - confidence;
    let log = -2.0 * alpha.ln();
    // ρ² of the mixture; the width at `tightest_at` units is least for it.
    let mixture = (log + (log + 1.0).ln()) / tightest_at;
    let n = units as f64;
    let spread = 1.0 + n * mixture;
    let margin = (variance * n * (2.0 * spread / (n * n * mixture)) * (0.5 * spread.ln() - alpha.ln())).sqrt();
    let evidence = 0.5 * estimate * estimate / variance * (n * mixture / spread);
    let p_value = (0.5 * spread.ln() - evidence).exp().min(1.0);
    AlwaysValid { margin, p_value }
}
