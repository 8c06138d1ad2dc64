//! Sums of doubles without rounding: the result is the real sum, rounded once, whatever the order and the grouping.
//!
//! A sum is a number in base 2^32 whose digits are kept in `i64`, so that 2^30 additions need no carry (the small
//! superaccumulator of Neal, "Fast exact summation using small and large superaccumulators", 2015); only the digits that the
//! values reach are stored: four for prices, seven for their squares. Products of two doubles are added exactly too, and sums
//! may be multiplied and subtracted, so a variance from sums of squares loses nothing to cancellation.

use smallvec::SmallVec;

use super::wire::{Reader, put_i64, put_u64};

/// Bits of a digit.
const DIGIT: i64 = 32;
/// Digits that lie in place, so that most sums allocate nothing.
const FEW: usize = 6;
/// Additions before carries must be passed on: 2^30 · 2^32 stays below 2^63.
const PENDING_MAX: u32 = 1 << 30;

/// A running sum; adding is a handful of integer operations, merging is linear in the digits.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    /// The power of 2^32 of the first digit.
    low: i64,
    /// The least significant first.
    digits: SmallVec<[i64; FEW]>,
    pending: u32,
    /// What NaN and the infinities add up to; 0 when there were none.
    special: f64,
}

impl ExactSum {
    /// Adds `value`.
    pub fn add(&mut self, value: f64) {
        self.add_scaled(value, 0);
    }

    /// Adds `value · 2^power`, exactly.
    #[inline]
    pub fn add_scaled(&mut self, value: f64, power: i64) {
        match parts(value) {
            Some((negative, mantissa, exponent)) => self.deposit(negative, mantissa, exponent + power),
            None => self.special += value,
        }
    }

    /// Adds `± magnitude · 2^exponent`.
    pub(super) fn add_bits(&mut self, negative: bool, magnitude: u64, exponent: i64) {
        self.deposit(negative, magnitude, exponent);
    }

    /// Adds `a · b`, exactly.
    pub fn add_product(&mut self, a: f64, b: f64) {
        match (parts(a), parts(b)) {
            (Some((a_negative, a, a_exponent)), Some((b_negative, b, b_exponent))) => {
                let product = u128::from(a) * u128::from(b);
                let (negative, exponent) = (a_negative != b_negative, a_exponent + b_exponent);
                self.deposit(negative, product as u64, exponent);
                self.deposit(negative, (product >> 64) as u64, exponent + 64);
            }
            _ => self.special += a * b,
        }
    }

    #[inline]
    fn deposit(&mut self, negative: bool, magnitude: u64, exponent: i64) {
        if magnitude == 0 {
            return;
        }
        // Whole numbers need no digits below the point.
        let zeros = magnitude.trailing_zeros();
        let (magnitude, exponent) = (magnitude >> zeros, exponent + i64::from(zeros));
        let (place, shift) = (exponent.div_euclid(DIGIT), exponent.rem_euclid(DIGIT) as u32);
        // magnitude << shift in three digits; their sign without a branch.
        let (wide, over) = (magnitude << shift, (magnitude >> 1) >> (63 - shift));
        let sign = -i64::from(negative);
        let (first, second, third) = (i64::from(wide as u32), (wide >> 32) as i64, over as i64);
        let at = usize::try_from(place - self.low).ok().filter(|at| at + 3 <= self.digits.len());
        let at = at.unwrap_or_else(|| self.make_room(place, 3));
        let digits = &mut self.digits[at..at + 3];
        digits[0] += (first ^ sign) - sign;
        digits[1] += (second ^ sign) - sign;
        digits[2] += (third ^ sign) - sign;
        self.pending += 1;
        if self.pending >= PENDING_MAX {
            self.carry();
        }
    }

    /// Makes the digits `place .. place + count` exist; where the first of them is.
    #[cold]
    fn make_room(&mut self, place: i64, count: usize) -> usize {
        if self.digits.is_empty() {
            // All digits that lie in place at once: the next value is likely to be near.
            self.low = place - 1;
            self.digits.resize(FEW, 0);
        }
        let front = usize::try_from(self.low - place).unwrap_or(0);
        self.low = self.low.min(place);
        let at = (place - self.low) as usize;
        let back = (at + count).saturating_sub(self.digits.len() + front);
        let before = self.digits.len();
        self.digits.resize(front + before + back, 0);
        self.digits.copy_within(..before, front);
        self.digits[..front].fill(0);
        at
    }

    /// Passes carries on: every digit but the last is in `0 .. 2^32` then, and the last one carries the sign.
    fn carry(&mut self) {
        self.pending = 0;
        let Some((last, digits)) = self.digits.split_last_mut() else { return };
        let mut over = 0_i64;
        for digit in digits {
            let sum = *digit + over;
            over = sum >> DIGIT;
            *digit = sum & 0xFFFF_FFFF;
        }
        *last += over;
        let mut top = *last;
        while i32::try_from(top).is_err() {
            if let Some(last) = self.digits.last_mut() {
                *last = top & 0xFFFF_FFFF;
            }
            top >>= DIGIT;
            self.digits.push(top);
        }
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
    }

    /// Adds what `other` summed.
    pub fn merge(&mut self, other: &Self) {
        self.special += other.special;
        if other.digits.is_empty() {
            return;
        }
        let mut other = other.clone();
        other.carry();
        self.carry();
        let at = self.make_room(other.low, other.digits.len());
        for (digit, more) in self.digits[at..].iter_mut().zip(other.digits.iter()) {
            *digit += more;
        }
        self.pending = 2;
    }

    /// Minus the sum.
    #[must_use]
    pub fn negated(mut self) -> Self {
        self.digits.iter_mut().for_each(|digit| *digit = -*digit);
        self.special = -self.special;
        self
    }

    /// The sum minus `other`, exactly.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut difference = other.clone().negated();
        difference.merge(self);
        difference
    }

    /// The product of two sums, exactly.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        let (a_negative, a_low, a) = self.magnitude();
        let (b_negative, b_low, b) = other.magnitude();
        let mut product = Self { special: self.special_product(other), ..Self::default() };
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                let place = a_low + b_low + i as i64 + j as i64;
                product.deposit(a_negative != b_negative, u64::from(*a) * u64::from(*b), place * DIGIT);
            }
        }
        product
    }

    fn special_product(&self, other: &Self) -> f64 {
        if self.special == 0.0 && other.special == 0.0 { 0.0 } else { f64::NAN }
    }

    /// The sum times a count, exactly.
    #[must_use]
    pub fn times_count(&self, count: u64) -> Self {
        let mut factor = Self::default();
        factor.deposit(false, count, 0);
        self.times(&factor)
    }

    /// Sign, place of the first digit, and digits of the absolute value, the last one not zero.
    fn magnitude(&self) -> (bool, i64, SmallVec<[u32; 2 * FEW]>) {
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.digits.last().is_some_and(|digit| *digit < 0);
        if negative {
            sum = sum.negated();
            sum.carry();
        }
        let digits = sum.digits.iter().map(|digit| *digit as u32).collect();
        (negative, sum.low, digits)
    }

    /// The sum, rounded to the nearest double, ties to even.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.scaled(0)
    }

    /// The sum times `2^power`, rounded once.
    #[must_use]
    pub fn scaled(&self, power: i64) -> f64 {
        if self.special != 0.0 || self.special.is_nan() {
            return self.special;
        }
        let (negative, low, digits) = self.magnitude();
        let Some(last) = digits.last() else { return 0.0 };
        let top = digits.len() - 1;
        let digit = |back: usize| top.checked_sub(back).map_or(0, |at| u128::from(digits[at]));
        let window = digit(0) << 96 | digit(1) << 64 | digit(2) << 32 | digit(3);
        let zeros = last.leading_zeros();
        let below = top.checked_sub(4).is_some_and(|at| digits[..=at].iter().any(|digit| *digit != 0));
        let window = window << zeros | u128::from(below);
        // The sum is window · 2^exponent, its first bit set; the last bit says whether anything lies below.
        let exponent = (low + top as i64 - 3) * DIGIT - i64::from(zeros) + power;
        let value = round(window, exponent);
        if negative { -value } else { value }
    }

    /// Whether the sum is exactly zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.special == 0.0 && self.magnitude().2.is_empty()
    }

    /// Bytes on the heap.
    #[inline]
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.digits.spilled() { self.digits.capacity() * size_of::<i64>() } else { 0 }
    }

    /// Appends the sum's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut sum = self.clone();
        sum.carry();
        put_u64(out, sum.special.to_bits());
        put_i64(out, sum.low);
        put_u64(out, sum.digits.len() as u64);
        sum.digits.iter().for_each(|digit| put_i64(out, *digit));
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let special = from.f64()?;
        let low = from.i64()?;
        let count = from.count(8)?;
        let digits = (0..count).map(|_| from.i64()).collect::<Option<SmallVec<_>>>()?;
        Some(Self { low, digits, pending: 1, special })
    }
}

/// Sign, mantissa and exponent of a finite double: `± mantissa · 2^exponent`.
#[inline]
pub(super) fn parts(value: f64) -> Option<(bool, u64, i64)> {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52) & 0x7FF, bits & ((1 << 52) - 1));
    match exponent {
        0x7FF => None,
        0 => Some((value.is_sign_negative(), fraction, -1074)),
        _ => Some((value.is_sign_negative(), fraction | 1 << 52, exponent as i64 - 1075)),
    }
}

/// `window · 2^exponent` with the first bit of `window` set, to the nearest double, ties to even.
pub(super) fn round(window: u128, exponent: i64) -> f64 {
    // 53 bits stay, fewer below 2^-1022.
    let drop = (-1074 - exponent).max(75);
    if drop > 128 {
        return 0.0;
    }
    let (kept, rest, half) = match drop {
        128 => (0, window, 1_u128 << 127),
        _ => ((window >> drop) as u64, window & ((1 << drop) - 1), 1 << (drop - 1)),
    };
    let up = rest > half || (rest == half && kept & 1 == 1);
    let (kept, power) = ((kept + u64::from(up)) as f64, (exponent + drop).clamp(-10_000, 10_000) as i32);
    match u64::try_from(power + 1023) {
        // A power of two is a double: no bit of `kept` is lost, since those that do not fit are gone.
        Ok(biased @ 1..2047) => kept * f64::from_bits(biased << 52),
        _ => libm::ldexp(kept, power),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum
    }

    #[test]
    fn rounds_once() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[0.1; 10], 1.0),
            (&[1e308, 1e308, -1e308], 1e308),
            (&[1e308, 1e308], f64::INFINITY),
            (&[1.0, 1e100, 1.0, -1e100], 2.0),
            (&[5e-324, 5e-324], 1e-323),
            (&[1.0, f64::EPSILON / 2.0], 1.0),
            (&[1.0, f64::EPSILON / 2.0, 5e-324], 1.0 + f64::EPSILON),
            (&[1.0 + f64::EPSILON, f64::EPSILON / 2.0], 1.0 + 2.0 * f64::EPSILON),
            (&[-3.5, 1.25], -2.25),
            (&[f64::INFINITY, 1.0], f64::INFINITY),
            (&[2.2250738585072014e-308, -5e-324], 2.225073858507201e-308),
        ] {
            assert_eq!(sum(values).value(), expected, "{values:?}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert!(sum(&[f64::NAN]).value().is_nan());
    }

    #[test]
    fn products_and_differences_lose_nothing() {
        let (mut squares, mut total) = (ExactSum::default(), ExactSum::default());
        let values = [1e8 + 0.25, 1e8 + 0.5, 1e8 + 0.75];
        for value in values {
            squares.add_product(value, value);
            total.add(value);
        }
        // n Σx² − (Σx)² = n² σ² = 9 · (0.25² · 2 / 3)
        let numerator = squares.times_count(3).minus(&total.times(&total));
        assert_eq!(numerator.value(), 0.375);
        assert_eq!(sum(&[3.0]).times(&sum(&[-2.5])).value(), -7.5);
        assert!(sum(&[0.1, -0.1]).is_zero());
        assert_eq!(sum(&[3.0]).scaled(-1), 1.5);
        assert_eq!(sum(&[3.0]).scaled(-5000), 0.0);
        let mut far = ExactSum::default();
        far.add_scaled(1.5, 3000);
        far.add_scaled(1.0, -3000);
        assert_eq!(far.scaled(-3000), 1.5);
    }

    #[test]
    fn order_and_splits_do_not_matter() {
        for case in 0..500 {
            let at = |i: u64| {
                let exponent = splitmix::at(case, i * 2) % 80;
                (splitmix::fraction(case, i * 2 + 1) - 0.5) * 2_f64.powi(exponent as i32 - 40)
            };
            let mut values: Vec<f64> = (0..200).map(at).collect();
            let whole = sum(&values);
            splitmix::shuffle(&mut values, case);
            let mut merged = ExactSum::default();
            for part in values.chunks(1 + (case as usize % 50)) {
                let mut bytes = Vec::new();
                sum(part).encode(&mut bytes);
                merged.merge(&ExactSum::decode(&mut Reader::new(&bytes)).unwrap());
            }
            assert_eq!(whole.value().to_bits(), merged.value().to_bits());
            let naive: f64 = values.iter().sum();
            assert!((whole.value() - naive).abs() <= 1e-6 * naive.abs().max(1.0));
        }
        assert!(ExactSum::decode(&mut Reader::new(&[1, 2, 3])).is_none());
    }
}
