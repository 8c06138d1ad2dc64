//! Sums whose terms halve with age, exact whatever the order: forward decay (Cormode, Shkapenyuk, Srivastava & Xu, 2009).
//!
//! A term `value · 2^(t / h)` is kept relative to the epoch, not to now: `2^k` of it, k whole, shifts the bits of an exact sum,
//! and only `2^f`, 0 ≤ f < 1, is rounded. So states merge in any order to the same bits, a state never needs to be touched as time
//! passes, and the sum as of T is the state times `2^(−T / h)`.

use crate::kernels::exp2::exp2_of_bits;
use crate::kernels::stats::windowed::WindowSum;
use crate::kernels::stats::wire::{Reader, put_i64};

/// Half-lives of a span, as a power of two. A term of two spans before the newest counts as nothing beside it: doubles end before.
/// Spans begin at fixed times, so whether a term counts depends on the newest one alone, not on which came first.
const SPAN_BITS: u32 = 11;

/// A half-life, as what a microsecond is of it: `mantissa · 2^(−shift)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decay {
    mantissa: u64,
    shift: u32,
}

impl Decay {
    /// From a half-life in microseconds; `None` unless it is a millisecond or more, and finite.
    #[must_use]
    pub fn new(half_life_us: f64) -> Option<Self> {
        if !(1000.0..=1e18).contains(&half_life_us) {
            return None;
        }
        // 2^62 ≤ mantissa < 2^63, so that its product with any time fits 128 bits.
        let exponent = 62 + half_life_us.log2().floor() as i32 + 1;
        let mantissa = (libm::ldexp(1.0, exponent) / half_life_us) as u64;
        Some(Self { mantissa, shift: exponent as u32 })
    }

    /// A time for [`DecayedSum::as_of`].
    #[must_use]
    pub fn now(self, time_us: i64) -> Now {
        let (whole, fraction) = self.split(time_us);
        Now { whole, power: exp2_of_bits(fraction) }
    }

    /// What a value at a time adds to a [`DecayedSum`].
    #[inline]
    #[must_use]
    pub fn term(self, value: f64, time_us: i64) -> Term {
        let (whole, fraction) = self.split(time_us);
        Term { whole, value: value * exp2_of_bits(fraction) }
    }

    /// `time / half-life` as whole half-lives and a fraction in units of `2^-53`.
    #[inline]
    fn split(self, time_us: i64) -> (i64, u64) {
        const BITS: u32 = f64::MANTISSA_DIGITS;
        let product = i128::from(time_us) * i128::from(self.mantissa);
        // The shift is 72 or more: a half-life is a millisecond or more.
        let fine = product >> (self.shift - BITS);
        ((fine >> BITS) as i64, fine as u64 & ((1 << BITS) - 1))
    }
}

/// `value · 2^whole`, relative to the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    whole: i64,
    value: f64,
}

/// A time that sums are wanted as of, for one half-life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Half-lives since the epoch.
    whole: i64,
    /// `2^` the part of a half-life after those.
    power: f64,
}

/// A sum of decaying terms, relative to the epoch.
#[derive(Debug, Clone)]
pub struct DecayedSum {
    /// The terms of the newest span.
    sum: WindowSum,
    /// Those of the span before it, where there are any.
    before: Option<Box<WindowSum>>,
    /// The newest span.
    span: i64,
}

impl Default for DecayedSum {
    fn default() -> Self {
        Self { sum: WindowSum::default(), before: None, span: i64::MIN }
    }
}

impl DecayedSum {
    /// Adds `value` at a time.
    #[inline]
    pub fn add(&mut self, decay: Decay, value: f64, time_us: i64) {
        self.add_term(decay.term(value, time_us));
    }

    /// Adds a term.
    #[inline]
    pub fn add_term(&mut self, Term { whole, value }: Term) {
        let span = whole >> SPAN_BITS;
        if span > self.span {
            self.advance(span);
        }
        if span == self.span {
            self.sum.add_scaled(value, whole);
        } else if span + 1 == self.span {
            self.before.get_or_insert_default().add_scaled(value, whole);
        }
    }

    #[cold]
    fn advance(&mut self, span: i64) {
        let newest = std::mem::take(&mut self.sum);
        self.before = (self.span != i64::MIN && self.span + 1 == span).then(|| Box::new(newest));
        self.span = span;
    }

    /// Adds what `other` summed.
    pub fn merge(&mut self, other: &Self) {
        if other.span == i64::MIN {
            return;
        }
        if other.span > self.span {
            self.advance(other.span);
        }
        if other.span == self.span {
            self.sum.merge(&other.sum);
            if let Some(before) = &other.before {
                self.before.get_or_insert_default().merge(before);
            }
        } else if other.span + 1 == self.span {
            self.before.get_or_insert_default().merge(&other.sum);
        }
    }

    /// The sum as of a time.
    #[must_use]
    pub fn at(&self, decay: Decay, time_us: i64) -> f64 {
        self.as_of(decay.now(time_us))
    }

    /// The sum as of a time.
    #[must_use]
    pub fn as_of(&self, now: Now) -> f64 {
        let sum = match &self.before {
            None => self.sum.scaled(-now.whole),
            Some(before) => {
                let mut both = self.sum.clone();
                both.merge(before);
                both.scaled(-now.whole)
            }
        };
        sum / now.power
    }

    /// What the sum of a single term is as of a time: the same bits, without the sum.
    #[inline]
    #[must_use]
    pub fn of_one(decay: Decay, value: f64, time_us: i64, now: Now) -> f64 {
        let Term { whole, value: term } = decay.term(value, time_us);
        let power = whole - now.whole;
        match u64::try_from(power + 1023) {
            // Within these powers the product is the term with another exponent.
            Ok(biased @ 600..1400) if (1e-100..1e100).contains(&term.abs()) => term * f64::from_bits(biased << 52) / now.power,
            _ => {
                let mut sum = Self::default();
                sum.add(decay, value, time_us);
                sum.as_of(now)
            }
        }
    }

    /// Bytes on the heap.
    #[inline]
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.sum.heap_bytes() + self.before.as_ref().map_or(0, |before| size_of::<WindowSum>() + before.heap_bytes())
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.span);
        self.sum.encode(out);
        out.push(u8::from(self.before.is_some()));
        if let Some(before) = &self.before {
            before.encode(out);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (span, sum) = (from.i64()?, WindowSum::decode(from)?);
        let before = if from.byte()? == 0 { None } else { Some(Box::new(WindowSum::decode(from)?)) };
        Some(Self { sum, before, span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    const DAY: f64 = 86_400e6;
    const NOW: i64 = 1_700_000_000_000_000;

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-13 * expected.abs(), "{got} is not {expected}");
    }

    #[test]
    fn terms_halve() {
        let week = Decay::new(7.0 * DAY).unwrap();
        let mut sum = DecayedSum::default();
        sum.add(week, 8.0, NOW - 14 * 86_400_000_000);
        sum.add(week, 3.0, NOW);
        close(sum.at(week, NOW), 5.0);
        close(sum.at(week, NOW + 7 * 86_400_000_000), 2.5);
        // Before the epoch, and a half-life that is no whole number.
        let odd = Decay::new(DAY / std::f64::consts::LN_2.recip()).unwrap();
        let mut sum = DecayedSum::default();
        sum.add(odd, 2.0, -NOW);
        close(sum.at(odd, -NOW + 86_400_000_000), 2.0 * (-1.0_f64).exp());
        assert!(Decay::new(999.0).is_none() && Decay::new(f64::NAN).is_none());
    }

    #[test]
    fn one_term_is_its_sum() {
        let week = Decay::new(7.0 * DAY).unwrap();
        for i in 0..20_000_u64 {
            let value = (splitmix::fraction(i, 0) - 0.5) * 10_f64.powi((splitmix::at(i, 1) % 320) as i32 - 160);
            let age = |salt| (splitmix::fraction(i, salt) * 1000.0 * 7.0 * DAY) as i64;
            let (time, now) = (NOW - age(2), week.now(NOW - age(3)));
            let mut sum = DecayedSum::default();
            sum.add(week, value, time);
            assert_eq!(DecayedSum::of_one(week, value, time, now).to_bits(), sum.as_of(now).to_bits(), "{value} at {time}");
        }
    }

    #[test]
    fn old_terms_take_no_memory() {
        let second = Decay::new(1e6).unwrap();
        let mut sum = DecayedSum::default();
        for day in 0..1000 {
            sum.add(second, 1.0, NOW + day * 86_400_000_000);
        }
        close(sum.at(second, NOW + 999 * 86_400_000_000), 1.0);
        assert!(sum.heap_bytes() < 2000, "{}", sum.heap_bytes());
        sum.add(second, 1.0, NOW);
        assert!(sum.heap_bytes() < 2000, "{}", sum.heap_bytes());
    }

    /// Two terms whose sum ends in half a unit, and one so old that it may only break the tie, or not: whichever came first.
    #[test]
    fn an_old_term_counts_whatever_comes_first() {
        let hour = Decay::new(3600e6).unwrap();
        for age in [1000, 1099, 1200, 2000, 2500, 3000, 5000_i64] {
            for i in 0..500_u64 {
                let old = (3.0, NOW - age * 3_600_000_000);
                let mut terms = vec![(1.0 + splitmix::fraction(i, 0), NOW), (1.0 + splitmix::fraction(i, 1), NOW - 5_000_000_000), old];
                let mut seen = std::collections::BTreeSet::new();
                for order in 0..6 {
                    let (mut whole, mut parts) = (DecayedSum::default(), DecayedSum::default());
                    terms.swap(order % 3, (order + 1) % 3);
                    for (value, time) in &terms {
                        whole.add(hour, *value, *time);
                        let mut part = DecayedSum::default();
                        part.add(hour, *value, *time);
                        parts.merge(&part);
                    }
                    seen.extend([whole.at(hour, NOW).to_bits(), parts.at(hour, NOW).to_bits()]);
                }
                assert_eq!(seen.len(), 1, "age {age}, case {i}");
            }
        }
    }

    /// Half-lives far shorter than the histories, so that most terms are of the span before the newest, or older.
    #[test]
    fn averages_of_long_histories_do_not_depend_on_order() {
        let hour = Decay::new(3600e6).unwrap();
        for group in 0..20_000_u64 {
            let mut terms: Vec<(f64, i64)> = (0..splitmix::at(group, 0) % 16)
                .map(|row| {
                    let scale = 10_f64.powi((splitmix::at(group, 1) % 9) as i32 - 2);
                    let at_us = NOW + (splitmix::at(group, row * 8 + 7) % 10_000_000_000_000) as i64;
                    (scale + splitmix::fraction(group, row * 8 + 5), at_us)
                })
                .collect();
            let newest = terms.iter().map(|(_, time)| *time).max().unwrap_or(NOW);
            let average = |terms: &[(f64, i64)]| {
                let (mut sum, mut weights) = (DecayedSum::default(), DecayedSum::default());
                for (value, time) in terms {
                    sum.add(hour, *value, *time);
                    weights.add(hour, 1.0, *time);
                }
                (sum.at(hour, newest) / weights.at(hour, newest)).to_bits()
            };
            let first = average(&terms);
            for seed in 0..6 {
                splitmix::shuffle(&mut terms, seed);
                assert_eq!(average(&terms), first, "group {group}: {terms:?}");
            }
        }
    }

    #[test]
    fn ten_thousand_groups_in_random_parts_are_equal_bit_for_bit() {
        for group in 0..10_000_u64 {
            let decay = Decay::new(1e6 * 10_f64.powf(splitmix::fraction(group, 0) * 7.0)).unwrap();
            let term = |i: u64| {
                let age = (splitmix::fraction(group, 2 * i) * 400.0 * DAY) as i64;
                (splitmix::fraction(group, 2 * i + 1) * 100.0, NOW - age)
            };
            let mut terms: Vec<(f64, i64)> = (1..1 + splitmix::at(group, 1) % 30).map(term).collect();
            let sum = |terms: &[(f64, i64)]| {
                let mut sum = DecayedSum::default();
                terms.iter().for_each(|(value, time)| sum.add(decay, *value, *time));
                sum
            };
            let newest = terms.iter().map(|(_, time)| *time).max().unwrap_or(NOW);
            let whole = sum(&terms).at(decay, newest);
            splitmix::shuffle(&mut terms, group);
            let mut parts: Vec<DecayedSum> = terms.chunks(1 + (group % 5) as usize).map(sum).collect();
            splitmix::shuffle(&mut parts, group);
            let mut merged = DecayedSum::default();
            for part in &parts {
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                merged.merge(&DecayedSum::decode(&mut Reader::new(&bytes)).unwrap());
            }
            assert_eq!(merged.at(decay, newest).to_bits(), whole.to_bits(), "group {group}");
        }
    }
}
