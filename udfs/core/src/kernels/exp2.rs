//! Powers of two of a fraction, by table and polynomial.

use std::sync::LazyLock;

/// Steps of the table.
const STEPS: usize = 256;

/// `2^(i / STEPS)`.
static TABLE: LazyLock<[f64; STEPS]> = LazyLock::new(|| std::array::from_fn(|step| libm::exp2(step as f64 / STEPS as f64)));

/// `2^fraction` for `0 ≤ fraction < 1`, to one unit in the last place; the same bits on every machine.
///
/// Method: the table's power times the Taylor series of the rest, which is at most 1/256 (Tang, "Table-driven implementation of
/// the exponential function in IEEE floating-point arithmetic", 1989).
#[inline]
#[must_use]
pub fn exp2_of_fraction(fraction: f64) -> f64 {
    let scaled = fraction * STEPS as f64;
    let step = (scaled as usize).min(STEPS - 1);
    let rest = (scaled - step as f64) * (std::f64::consts::LN_2 / STEPS as f64);
    let square = rest * rest;
    let tail = rest + square * (0.5 + rest * (1.0 / 6.0)) + square * square * (1.0 / 24.0 + rest * (1.0 / 120.0));
    let power = TABLE[step];
    power + power * tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn within_a_unit_in_the_last_place() {
        let fractions = (0..200_000_u64).map(|i| splitmix::fraction(1, i)).chain((0..512).map(|i| f64::from(i) / 512.0));
        for fraction in fractions.chain([f64::EPSILON, 1.0 - f64::EPSILON / 2.0]) {
            let (found, exact) = (exp2_of_fraction(fraction), libm::exp2(fraction));
            assert!(found.to_bits().abs_diff(exact.to_bits()) <= 1, "2^{fraction} is {exact}, not {found}");
        }
        assert_eq!(exp2_of_fraction(0.0), 1.0);
        assert_eq!(exp2_of_fraction(0.5), std::f64::consts::SQRT_2);
    }
}
