//! How much privacy a training spends: Rényi differential privacy of the sampled Gaussian mechanism.
//!
//! Mironov, Talwar & Zhang, "Rényi differential privacy of the sampled Gaussian mechanism" (2019), sections 3.2 (whole
//! orders) and 3.3 (fractional ones); steps compose by adding up; conversion to (ε, δ) by Balle et al., "Hypothesis
//! testing interpretations and Rényi differential privacy" (2020), theorem 21. The orders are those of Opacus.

use super::erfc::ln_erfc;

/// Bisections of a noise multiplier at most.
const BISECTIONS: usize = 60;
/// Noise beyond this is no training any more.
const NOISE_MAX: f64 = 1e6;
/// Terms of the series of a fractional order at most.
const TERMS_MAX: u32 = 100_000;

/// A mechanism used many times: what the accountant needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mechanism {
    /// Probability that an example takes part in a step, in `[0, 1]`.
    pub sample_rate: f64,
    /// Standard deviation of the noise, in units of the clipping norm.
    pub noise_multiplier: f64,
    /// Steps.
    pub steps: u64,
}

/// Orders that are tried: 1.1, 1.2 … 10.9, 12, 13 … 63.
fn orders() -> impl Iterator<Item = f64> {
    (1..100).map(|tenth| 1.0 + f64::from(tenth) / 10.0).chain((12..64).map(f64::from))
}

/// ln(eᵃ + eᵇ).
fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// ln(eᵃ − eᵇ); NaN when that is negative.
fn ln_subtract(a: f64, b: f64) -> f64 {
    if b == f64::NEG_INFINITY { a } else { a + (-(b - a).exp()).ln_1p() }
}

/// ln A_α for a whole α: `Σ C(α, k) (1 − q)^(α−k) q^k e^((k² − k) / 2σ²)`.
fn ln_moment_whole(q: f64, sigma: f64, alpha: u32) -> f64 {
    let (mut sum, mut ln_binomial) = (f64::NEG_INFINITY, 0.0);
    for k in 0..=alpha {
        if k > 0 {
            ln_binomial += f64::from(alpha - k + 1).ln() - f64::from(k).ln();
        }
        let k_wide = f64::from(k);
        let term = ln_binomial + k_wide * q.ln() + f64::from(alpha - k) * (-q).ln_1p();
        sum = ln_add(sum, term + (k_wide * k_wide - k_wide) / (2.0 * sigma * sigma));
    }
    sum
}

/// ln A_α for any α > 1: two series, split where the two densities cross.
fn ln_moment_fractional(q: f64, sigma: f64, alpha: f64) -> f64 {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let crossing = sigma * sigma * (1.0 / q - 1.0).ln() + 0.5;
    let (spread, half) = (std::f64::consts::SQRT_2 * sigma, 0.5f64.ln());
    // The generalised binomial coefficient C(α, i): its logarithm and its sign.
    let (mut ln_coefficient, mut positive) = (0.0, true);
    for i in 0..TERMS_MAX {
        let i = f64::from(i);
        let j = alpha - i;
        let part = |power: f64, other: f64, tail: f64| {
            let weights = ln_coefficient + power * q.ln() + other * (-q).ln_1p();
            weights + (power * power - power) / (2.0 * sigma * sigma) + half + ln_erfc(tail / spread)
        };
        let (first, second) = (part(i, j, i - crossing), part(j, i, crossing - j));
        if positive {
            (low, high) = (ln_add(low, first), ln_add(high, second));
        } else {
            (low, high) = (ln_subtract(low, first), ln_subtract(high, second));
        }
        if first.max(second) < -30.0 {
            break;
        }
        ln_coefficient += (j.abs()).ln() - (i + 1.0).ln();
        positive ^= j < 0.0;
    }
    ln_add(low, high)
}

/// Rényi divergence of order `alpha` of one step.
fn renyi(q: f64, sigma: f64, alpha: f64) -> f64 {
    if q == 0.0 {
        return 0.0;
    }
    if sigma == 0.0 {
        return f64::INFINITY;
    }
    if q == 1.0 {
        return alpha / (2.0 * sigma * sigma);
    }
    let moment = if alpha.fract() == 0.0 { ln_moment_whole(q, sigma, alpha as u32) } else { ln_moment_fractional(q, sigma, alpha) };
    moment / (alpha - 1.0)
}

/// The smallest ε for which the mechanism is (ε, δ)-differentially private by this accountant; infinite without noise.
pub fn epsilon(mechanism: Mechanism, delta: f64) -> f64 {
    let Mechanism { sample_rate, noise_multiplier, steps } = mechanism;
    if steps == 0 || sample_rate == 0.0 {
        return 0.0;
    }
    let of_order = |alpha: f64| {
        let spent = steps as f64 * renyi(sample_rate, noise_multiplier, alpha);
        spent - (delta.ln() + alpha.ln()) / (alpha - 1.0) + ((alpha - 1.0) / alpha).ln()
    };
    // An order whose series cancels badly says nothing; any other bound holds.
    orders().map(of_order).filter(|epsilon| !epsilon.is_nan()).fold(f64::INFINITY, f64::min).max(0.0)
}

/// The least noise multiplier with which `steps` steps stay within (ε, δ); `None` when no noise can.
pub fn noise_multiplier(sample_rate: f64, epsilon_max: f64, steps: u64, delta: f64) -> Option<f64> {
    let spends = |noise_multiplier: f64| epsilon(Mechanism { sample_rate, noise_multiplier, steps }, delta);
    if spends(0.0) <= epsilon_max {
        return Some(0.0);
    }
    let (mut low, mut high) = (0.0, 1.0);
    while spends(high) > epsilon_max {
        (low, high) = (high, high * 2.0);
        if high > NOISE_MAX {
            return None;
        }
    }
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if spends(middle) > epsilon_max {
            low = middle;
        } else {
            high = middle;
        }
        if high - low < 1e-6 * high {
            break;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sample rate, noise multiplier, steps, δ, and ε by Opacus 1.6.0 (`compute_rdp`, `get_privacy_spent`) with its own
    /// orders; whole and fractional orders are the best ones in turn.
    const OPACUS: [(f64, f64, u64, f64, f64); 36] = [
        (0.01, 1.0, 1000, 1e-5, 2.101_365_272),
        (0.01, 1.1, 10_000, 1e-5, 5.631_992_369),
        (0.004, 1.3, 15_000, 1e-5, 1.918_231_862),
        (0.0001, 0.6, 100_000, 1e-6, 2.267_439_853),
        (0.02, 0.8, 500, 1e-5, 5.370_137_866),
        (0.05, 2.0, 400, 1e-5, 2.460_996_504),
        (0.06, 1.3, 510, 1e-5, 6.422_914_109),
        (0.1, 1.5, 100, 0.0001, 3.375_396_654),
        (0.1, 4.0, 1000, 1e-6, 4.148_711_396),
        (0.2, 3.0, 50, 1e-5, 2.267_149_434),
        (0.5, 5.0, 100, 1e-5, 4.862_240_845),
        (1.0, 4.0, 1, 1e-5, 1.012_550_628),
        (1.0, 10.0, 30, 1e-5, 2.396_428_469),
        (1.0, 0.5, 1, 0.001, 8.416_496_187),
        (0.001, 0.5, 1000, 1e-5, 4.382_023_033),
        (0.001, 0.4, 200, 0.0001, 5.579_887_090),
        (0.03, 0.7, 30, 1e-5, 4.597_348_405),
        (0.03, 1.0, 3000, 1e-7, 14.565_686_652),
        (0.0156, 1.0, 640, 1e-5, 2.715_272_054),
        (0.0156, 0.9, 64, 0.001, 1.029_621_909),
        (0.25, 1.0, 4, 0.01, 2.189_306_157),
        (0.25, 8.0, 40, 1e-8, 1.118_387_408),
        (0.005, 2.5, 20_000, 1e-6, 1.373_476_153),
        (0.005, 6.0, 20_000, 1e-6, 0.517_258_203),
        (0.3, 20.0, 10, 1e-5, 0.176_188_609),
        (0.7, 2.0, 10, 1e-5, 5.918_507_249),
        (0.9, 1.2, 3, 0.0001, 6.102_269_329),
        (0.0005, 0.8, 50_000, 1e-9, 2.452_516_263),
        (0.012, 1.7, 8000, 1e-5, 3.154_817_720),
        (0.012, 0.65, 800, 1e-5, 7.281_388_040),
        (0.04, 3.3, 2500, 1e-5, 2.788_063_093),
        (0.15, 2.2, 600, 1e-5, 9.427_765_095),
        (0.08, 1.05, 75, 1e-6, 5.834_166_531),
        (0.002, 1.0, 1, 1e-5, 0.670_837_254),
        (0.02, 50.0, 100, 1e-5, 0.103_371_593),
        (0.99, 1.0, 2, 1e-5, 7.052_091_266),
    ];

    #[test]
    fn epsilons_are_those_of_opacus() {
        for (sample_rate, noise_multiplier, steps, delta, expected) in OPACUS {
            let got = epsilon(Mechanism { sample_rate, noise_multiplier, steps }, delta);
            assert!((got - expected).abs() < 1e-6 * expected.max(1.0), "{got} instead of {expected} at {sample_rate}, {noise_multiplier}");
        }
    }

    #[test]
    fn the_calibrated_noise_is_the_least_one() {
        for (sample_rate, _, steps, delta, target) in OPACUS.into_iter().step_by(13) {
            let sigma = noise_multiplier(sample_rate, target, steps, delta).unwrap();
            let spends = |noise_multiplier| epsilon(Mechanism { sample_rate, noise_multiplier, steps }, delta);
            assert!(spends(sigma) <= target && spends(sigma * 0.999) > target, "{sigma} at {sample_rate}, {target}");
        }
    }

    #[test]
    fn whole_orders_agree_with_the_series_of_fractional_ones() {
        for (q, sigma) in [(0.01, 1.0), (0.1, 2.0), (0.5, 1.5)] {
            for alpha in [2, 3, 5, 8] {
                let (whole, series) = (ln_moment_whole(q, sigma, alpha), ln_moment_fractional(q, sigma, f64::from(alpha) + 1e-9));
                assert!((whole - series).abs() < 1e-6, "{whole} and {series} at {q}, {sigma}, {alpha}");
            }
        }
    }

    #[test]
    fn more_noise_fewer_steps_and_smaller_samples_spend_less() {
        let base = Mechanism { sample_rate: 0.02, noise_multiplier: 1.0, steps: 500 };
        let spent = epsilon(base, 1e-5);
        assert!(epsilon(Mechanism { noise_multiplier: 1.1, ..base }, 1e-5) < spent);
        assert!(epsilon(Mechanism { steps: 400, ..base }, 1e-5) < spent);
        assert!(epsilon(Mechanism { sample_rate: 0.01, ..base }, 1e-5) < spent);
        assert!(epsilon(base, 1e-4) < spent);
        assert_eq!(epsilon(Mechanism { steps: 0, ..base }, 1e-5), 0.0);
        assert_eq!(epsilon(Mechanism { noise_multiplier: 0.0, ..base }, 1e-5), f64::INFINITY);
    }
}
