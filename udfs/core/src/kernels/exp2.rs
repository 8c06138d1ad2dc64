//! Powers of two of a fraction, by table and polynomial.

use std::sync::LazyLock;

/// Steps of the table.
const STEPS: usize = 256;

/// `2^(i / STEPS)`.
static TABLE: LazyLock<[f64; STEPS]> = LazyLock::new(|| std::array::from_fn(|step| libm::exp2(step as f64 / STEPS as f64)));

/// Bits of a fraction below the step of the table.
const REST_BITS: u32 = f64::MANTISSA_DIGITS - STEPS.trailing_zeros();

/// `2^(fraction / 2^53)` for `fraction < 2^53`, to one unit in the last place; the same bits on every machine.
///
/// Method: the table's power times the Taylor series of the rest, which is at most 1/256 (Tang, "Table-driven implementation of
/// the exponential function in IEEE floating-point arithmetic", 1989).
#[inline]
#[must_use]
pub fn exp2_of_bits(fraction: u64) -> f64 {
    let step = (fraction >> REST_BITS) as usize % STEPS;
    let rest = (fraction & ((1 << REST_BITS) - 1)).cast_signed() as f64 * (1.0 / (1_u64 << REST_BITS) as f64);
    let rest = rest * (std::f64::consts::LN_2 / STEPS as f64);
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
        const ONE: u64 = 1 << f64::MANTISSA_DIGITS;
        let fractions = (0..200_000_u64).map(|i| splitmix::at(1, i) % ONE).chain((0..512).map(|i| i * (ONE / 512)));
        for bits in fractions.chain([1, ONE - 1]) {
            let fraction = bits as f64 * (1.0 / ONE as f64);
            let (found, exact) = (exp2_of_bits(bits), libm::exp2(fraction));
            assert!(found.to_bits().abs_diff(exact.to_bits()) <= 1, "2^{fraction} is {exact}, not {found}");
        }
        assert_eq!(exp2_of_bits(0), 1.0);
        assert_eq!(exp2_of_bits(ONE / 2), std::f64::consts::SQRT_2);
    }
}
