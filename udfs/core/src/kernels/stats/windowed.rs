//! An [`ExactSum`] whose values mostly have about the same size: they are added to one whole number of 128 bits.
//!
//! The first value says where that window lies: powers of two of 36 below it and 37 above it fit in, and the few that do not go to an
//! [`ExactSum`] beside it. Both together are the real sum, whatever came first.

use super::exact::{ExactSum, parts, round};
use super::wire::Reader;

/// Powers of two below the first value that fit into the window.
const BELOW: i64 = 36;
/// A mantissa of 53 bits that is shifted so far stays within 126 bits, so that one of either sign never overflows an empty window.
const SHIFT_MAX: i64 = 126 - f64::MANTISSA_DIGITS as i64;
/// The place of a window without values.
const NOWHERE: i64 = i64::MIN;

/// A running sum without rounding; adding is a shift and an addition.
#[derive(Debug, Clone)]
pub struct WindowSum {
    /// In units of `2^base`.
    window: i128,
    base: i64,
    /// What lies outside of the window, and what is not finite.
    rest: Option<Box<ExactSum>>,
}

impl Default for WindowSum {
    fn default() -> Self {
        Self { window: 0, base: NOWHERE, rest: None }
    }
}

impl WindowSum {
    /// Adds `value`.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.add_scaled(value, 0);
    }

    /// Adds `value · 2^power`, exactly.
    #[inline]
    pub fn add_scaled(&mut self, value: f64, power: i64) {
        let Some((negative, mantissa, exponent)) = parts(value) else { return self.add_outside(value, power) };
        if mantissa == 0 {
            return;
        }
        let exponent = exponent + power;
        if self.base == NOWHERE {
            self.base = exponent - BELOW;
        }
        let shift = exponent.wrapping_sub(self.base);
        if (0..=SHIFT_MAX).contains(&shift) {
            let term = i128::from(mantissa) << shift;
            if let Some(sum) = self.window.checked_add(if negative { -term } else { term }) {
                self.window = sum;
                return;
            }
        }
        self.add_outside(value, power);
    }

    #[cold]
    fn add_outside(&mut self, value: f64, power: i64) {
        self.rest.get_or_insert_default().add_scaled(value, power);
    }

    /// Adds what `other` summed.
    pub fn merge(&mut self, other: &Self) {
        if self.base == NOWHERE && self.rest.is_none() {
            *self = other.clone();
            return;
        }
        if let Some(rest) = &other.rest {
            self.rest.get_or_insert_default().merge(rest);
        }
        if other.base == self.base
            && let Some(sum) = self.window.checked_add(other.window)
        {
            self.window = sum;
        } else if other.window != 0 {
            other.deposit_window(self.rest.get_or_insert_default());
        }
    }

    fn deposit_window(&self, sum: &mut ExactSum) {
        let (negative, bits) = (self.window < 0, self.window.unsigned_abs());
        sum.add_bits(negative, bits as u64, self.base);
        sum.add_bits(negative, (bits >> u64::BITS) as u64, self.base.saturating_add(i64::from(u64::BITS)));
    }

    /// The same sum.
    #[must_use]
    pub fn exact(&self) -> ExactSum {
        let mut sum = self.rest.as_deref().cloned().unwrap_or_default();
        self.deposit_window(&mut sum);
        sum
    }

    /// The sum, rounded to the nearest double, ties to even.
    #[inline]
    #[must_use]
    pub fn value(&self) -> f64 {
        self.scaled(0)
    }

    /// The sum times `2^power`, rounded once.
    #[must_use]
    pub fn scaled(&self, power: i64) -> f64 {
        if self.rest.is_some() {
            return self.exact().scaled(power);
        }
        if self.window == 0 {
            return 0.0;
        }
        let bits = self.window.unsigned_abs();
        let zeros = bits.leading_zeros();
        let value = round(bits << zeros, self.base - i64::from(zeros) + power);
        if self.window < 0 { -value } else { value }
    }

    /// Bytes on the heap.
    #[inline]
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| size_of::<ExactSum>() + rest.heap_bytes())
    }

    /// Appends the sum's bytes, those of an [`ExactSum`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.exact().encode(out);
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let sum = ExactSum::decode(from)?;
        Some(Self { rest: (!sum.is_zero()).then(|| Box::new(sum)), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    /// Values as large as `spread` powers of two make them, some of them not finite or zero.
    fn value(case: u64, i: u64, spread: u64) -> (f64, i64) {
        let exponent = (splitmix::at(case, 4 * i) % spread) as i32 - (spread / 2) as i32;
        let value = (splitmix::fraction(case, 4 * i + 1) - 0.5) * 2_f64.powi(exponent);
        let power = (splitmix::at(case, 4 * i + 2) % 50) as i64 - 25;
        match splitmix::at(case, 4 * i + 3) % 400 {
            0 => (0.0, power),
            1 => (f64::INFINITY, power),
            2 => (-value.round(), power),
            3 => (5e-324 * (1 + splitmix::at(case, i) % 9) as f64, power),
            _ => (value, power),
        }
    }

    #[test]
    fn it_is_the_exact_sum_in_any_order_and_parts() {
        for case in 0..4000_u64 {
            let spread = [2, 20, 60, 200, 1400][case as usize % 5];
            let mut values: Vec<_> = (0..1 + splitmix::at(case, 9) % 60).map(|i| value(case, i, spread)).collect();
            let mut exact = ExactSum::default();
            values.iter().for_each(|(value, power)| exact.add_scaled(*value, *power));
            let mut whole = WindowSum::default();
            values.iter().for_each(|(value, power)| whole.add_scaled(*value, *power));
            splitmix::shuffle(&mut values, case);
            let mut merged = WindowSum::default();
            for (at, part) in values.chunks(1 + case as usize % 7).enumerate() {
                let mut sum = WindowSum::default();
                part.iter().for_each(|(value, power)| sum.add_scaled(*value, *power));
                let mut bytes = Vec::new();
                sum.encode(&mut bytes);
                merged.merge(&if at % 2 == 0 { sum } else { WindowSum::decode(&mut Reader::new(&bytes)).unwrap() });
            }
            for power in [0, 13, -900, -1070] {
                let expected = exact.scaled(power).to_bits();
                assert_eq!((whole.scaled(power).to_bits(), merged.scaled(power).to_bits()), (expected, expected), "case {case}");
            }
        }
    }

    #[test]
    fn a_full_window_overflows_into_the_rest() {
        let (mut sum, mut exact) = (WindowSum::default(), ExactSum::default());
        for value in std::iter::once(1.0).chain(std::iter::repeat_n(1.9 * 2_f64.powi(37), 20)) {
            sum.add(value);
            exact.add(value);
        }
        assert!(sum.heap_bytes() > 0);
        assert_eq!(sum.value().to_bits(), exact.value().to_bits());
        sum.add(f64::NAN);
        assert!(sum.value().is_nan());
    }
}
