//! Special functions to about 1e-14: regularised incomplete beta and gamma, digamma, Gauss's hypergeometric series.
//!
//! Densities go through Loader's saddle-point form ("Fast and accurate computation of binomial probabilities", 2000), as in R,
//! because differences of log-gammas lose ten digits at a million degrees of freedom. The continued fractions are evaluated by
//! Lentz's method. `erfc` and the log-gamma come from `libm`.

use std::f64::consts::{LN_2, PI, TAU};

/// What takes the place of zero in Lentz's method.
const TINY: f64 = 1e-300;

/// ln Γ(x) for x > 0.
#[must_use]
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// The error of Stirling's formula for ln n!: `ln n! − ((n + ½) ln n − n + ½ ln 2π)`.
fn stirling_error(n: f64) -> f64 {
    if n <= 15.0 {
        return ln_gamma(n + 1.0) - (n + 0.5) * n.ln() + n - 0.5 * TAU.ln();
    }
    let n2 = n * n;
    let tail = 1.0 / 1188.0 - 691.0 / 360_360.0 / n2;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - tail / n2) / n2) / n2) / n2) / n
}

/// The deviance `x ln(x / m) + m − x`, without cancellation where x is near m; `off` is x − m.
fn deviance(x: f64, m: f64, off: f64) -> f64 {
    if off.abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() - off;
    }
    let ratio = off / (x + m);
    let mut sum = off * ratio;
    let mut term = 2.0 * x * ratio;
    for odd in 1..1000 {
        term *= ratio * ratio;
        let next = sum + term / f64::from(2 * odd + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// `x^a y^b / B(a, b)` for `x + y = 1`.
fn beta_front(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let n = a + b;
    // a − n x = n y − b: the smaller of x and y is the one without rounding.
    let off = if y < x { n * y - b } else { a - n * x };
    let log = stirling_error(n) - stirling_error(a) - stirling_error(b) - deviance(a, n * x, off) - deviance(b, n * y, -off);
    log.exp() * (a * b / n) * (n / (TAU * a * b)).sqrt()
}

/// The continued fraction of the incomplete beta function: the even part of DLMF 8.17.22, in which nothing cancels as long as
/// `a y − b x` does not, by Lentz's method (as Boost's `ibeta_fraction2`).
fn beta_fraction(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let lead = a * y - b * x + 1.0;
    let part = |m: f64| m + m * (b - m) * x / (a + 2.0 * m - 1.0) + (a + m) * (lead + m * (1.0 + y)) / (a + 2.0 * m + 1.0);
    let mut result = guard(a * lead / (a + 1.0));
    let (mut c, mut d) = (result, 0.0);
    for step in 1..100_000 {
        let m = f64::from(step);
        let below = a + 2.0 * m - 1.0;
        let term = (m * (a + m - 1.0) / below) * ((a + b + m - 1.0) / below) * (b - m) * x * x;
        let part = part(m);
        d = 1.0 / guard(part + term * d);
        c = guard(part + term / c);
        result *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    result
}

/// The regularised incomplete beta function `I_x(a, b)` and its complement, for `x + y = 1`; both to full relative precision.
#[must_use]
pub fn beta_regularised(a: f64, b: f64, x: f64, y: f64) -> (f64, f64) {
    if !(a > 0.0 && b > 0.0) || x.is_nan() || y.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    if x <= 0.0 {
        return (0.0, 1.0);
    }
    if y <= 0.0 {
        return (1.0, 0.0);
    }
    let front = beta_front(a, b, x, y);
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = front / beta_fraction(a, b, x, y);
        (lower, 1.0 - lower)
    } else {
        let upper = front / beta_fraction(b, a, y, x);
        (1.0 - upper, upper)
    }
}

/// The regularised incomplete gamma functions `P(a, x)` and `Q(a, x)`; both to full relative precision.
#[must_use]
pub fn gamma_regularised(a: f64, x: f64) -> (f64, f64) {
    if a <= 0.0 || a.is_nan() || x.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    if x <= 0.0 {
        return (0.0, 1.0);
    }
    if x.is_infinite() {
        return (1.0, 0.0);
    }
    // x^a e^-x / Γ(a + 1)
    let density = (-stirling_error(a) - deviance(a, x, a - x)).exp() / (TAU * a).sqrt();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0, 1.0, a);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        let lower = density * sum;
        (lower, 1.0 - lower)
    } else {
        let upper = density * a * gamma_fraction(a, x);
        (1.0 - upper, upper)
    }
}

/// The continued fraction of the upper incomplete gamma function (DLMF 8.9.2).
fn gamma_fraction(a: f64, x: f64) -> f64 {
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / guard(b);
    let mut result = d;
    for step in 1..100_000 {
        let i = f64::from(step);
        let term = -i * (i - a);
        b += 2.0;
        d = 1.0 / guard(term * d + b);
        c = guard(b + term / c);
        result *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    result
}

/// The digamma function ψ(x) for x > 0.
#[must_use]
pub fn digamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 12.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    let x2 = 1.0 / (x * x);
    let series = x2 * (1.0 / 12.0 - x2 * (1.0 / 120.0 - x2 * (1.0 / 252.0 - x2 * (1.0 / 240.0 - x2 * (1.0 / 132.0)))));
    shift + x.ln() - 0.5 / x - series
}

/// Gauss's hypergeometric function `₂F₁(a, b; c; z)` for `0 ≤ z < 1` by Euler's transformation where that shortens the series.
/// NaN when it does not converge in a million terms.
#[must_use]
pub fn hypergeometric(a: f64, b: f64, c: f64, z: f64) -> f64 {
    if !(0.0..1.0).contains(&z) {
        return f64::NAN;
    }
    let excess = c - a - b;
    if excess < 0.0 {
        return (excess * (-z).ln_1p()).exp() * series(c - a, c - b, c, z);
    }
    series(a, b, c, z)
}

fn series(a: f64, b: f64, c: f64, z: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0_f64);
    for n in 0..1_000_000 {
        let n = f64::from(n);
        term *= (a + n) * (b + n) / ((c + n) * (n + 1.0)) * z;
        sum += term;
        // The rest is below a geometric series.
        if term.abs() <= sum.abs() * 1e-17 * (1.0 - z) {
            return sum;
        }
    }
    f64::NAN
}

/// ln B(a, b).
#[must_use]
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let n = a + b;
    if a.min(b) < 15.0 {
        return ln_gamma(a) + ln_gamma(b) - ln_gamma(n);
    }
    let stirling = stirling_error(a) + stirling_error(b) - stirling_error(n);
    stirling + 0.5 * (LN_2 + PI.ln()) + (a - 0.5) * (a / n).ln() + (b - 0.5) * (b / n).ln() - 0.5 * n.ln()
}
