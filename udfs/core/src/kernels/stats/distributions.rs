//! Tails and quantiles of the normal, Student, chi-squared and F distributions, to about 1e-13 relative.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use super::special::{beta_regularised, gamma_regularised, ln_beta};

/// P(Z ≤ z).
#[must_use]
pub fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// P(Z > z).
#[must_use]
pub fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// P(|Z| > |z|).
#[must_use]
pub fn normal_two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() * FRAC_1_SQRT_2)
}

/// The density of the standard normal distribution.
#[must_use]
pub fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / TAU.sqrt()
}

fn polynomial(coefficients: [f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The z with P(Z ≤ z) = p: Wichura's algorithm AS 241 (1988), then one Newton step. Infinite at 0 and 1, NaN outside.
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 || p == 1.0 {
        return if p == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let tail = p.min(1.0 - p);
    // z ≤ 0 with P(Z ≤ z) = tail.
    let z = -lower_quantile(tail);
    let z = z - (normal_cdf(z) - tail) / normal_density(z);
    if p < 0.5 { z } else { -z }
}

/// AS 241 for `0 < tail ≤ ½`; not negative.
fn lower_quantile(tail: f64) -> f64 {
    const A: [f64; 8] = [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ];
    const B: [f64; 8] = [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ];
    const C: [f64; 8] = [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ];
    const D: [f64; 8] = [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ];
    const E: [f64; 8] = [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ];
    const F: [f64; 8] = [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ];
    let center = 0.5 - tail;
    if center <= 0.425 {
        let r = 0.180_625 - center * center;
        return center * polynomial(A, r) / polynomial(B, r);
    }
    let r = (-tail.ln()).sqrt();
    if r <= 5.0 { polynomial(C, r - 1.6) / polynomial(D, r - 1.6) } else { polynomial(E, r - 5.0) / polynomial(F, r - 5.0) }
}

/// P(|T| > |t|) with `df` degrees of freedom; `df` need not be whole.
#[must_use]
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    if df.is_infinite() {
        return normal_two_sided(t);
    }
    let square = t * t;
    beta_regularised(0.5 * df, 0.5, df / (df + square), square / (df + square)).0
}

/// The t with P(|T| > t) = `alpha`, by Newton's method inside a bracket. NaN unless 0 < alpha < 1 and df > 0.
#[must_use]
pub fn student_two_sided_quantile(alpha: f64, df: f64) -> f64 {
    if !(alpha > 0.0 && alpha < 1.0 && df > 0.0) {
        return f64::NAN;
    }
    let z = -normal_quantile(0.5 * alpha);
    if df.is_infinite() {
        return z;
    }
    let (mut low, mut high) = (0.0, z.max(1.0));
    while student_two_sided(high, df) > alpha {
        low = high;
        high *= 2.0;
    }
    let log_norm = -(0.5 * df.ln() + ln_beta(0.5, 0.5 * df));
    let mut t = (z + (z.powi(3) + z) / (4.0 * df)).clamp(low, high);
    for _ in 0..200 {
        let off = student_two_sided(t, df) - alpha;
        if off > 0.0 {
            low = t;
        } else {
            high = t;
        }
        let slope = 2.0 * (log_norm - 0.5 * (df + 1.0) * (t * t / df).ln_1p()).exp();
        let next = t + off / slope;
        let next = if next > low && next < high { next } else { 0.5 * (low + high) };
        if (next - t).abs() <= 1e-15 * t.abs() {
            return next;
        }
        t = next;
    }
    t
}

/// P(X > x) of the chi-squared distribution with `df` degrees of freedom.
#[must_use]
pub fn chi_squared_tail(x: f64, df: f64) -> f64 {
    gamma_regularised(0.5 * df, 0.5 * x).1
}

/// P(X > x) of the F distribution with (`between`, `within`) degrees of freedom.
#[must_use]
pub fn f_tail(x: f64, between: f64, within: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    if x.is_infinite() {
        return 0.0;
    }
    let all = within + between * x;
    beta_regularised(0.5 * within, 0.5 * between, within / all, between * x / all).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 2e-12 * expected.abs().max(1e-300), "{value} is not {expected}");
    }

    #[test]
    fn tails_as_scipy() {
        // scipy.stats.chi2.sf and scipy.stats.f.sf
        close(chi_squared_tail(3.841_458_820_694_124, 1.0), 0.05);
        close(chi_squared_tail(10.0, 3.0), 0.018_566_135_463_043_25);
        close(chi_squared_tail(300.0, 10.0), 1.554_674_754_380_308_7e-58);
        close(chi_squared_tail(1.0, 30.0), 1.0);
        close(f_tail(4.0, 2.0, 27.0), 0.030_094_852_382_393_567);
        close(f_tail(119.264_502_184_500_66, 2.0, 147.0), 1.669_669_190_771_955_5e-31);
        close(f_tail(0.5, 5.0, 1000.0), 0.776_401_309_717_367_2);
        assert_eq!((chi_squared_tail(0.0, 2.0), f_tail(0.0, 1.0, 5.0), f_tail(f64::INFINITY, 1.0, 5.0)), (1.0, 1.0, 0.0));
    }
}
