//! Quantiles of any number of values in bounded memory: counts by bucket.
//!
//! Of a number, the leading bits name the bucket: a double's bits, read as an integer, are ordered like the numbers, and
//! the first 21 of them (sign, exponent, nine bits of the significand) leave a bucket at most 1/512 of its values wide, so a
//! quantile is off by at most 0.1 % of itself. Of a time, its hour does. Counts add up: the sketch is the same however the
//! values were ordered, split and merged, unlike a t-digest.

use super::order::between;

/// Bits of a double below the bucket's.
const SHIFT: u32 = 64 - 21;
/// Buckets of a page: those of one sign and exponent, or three weeks.
const PAGE: usize = 512;
/// Microseconds of an hour.
const HOUR_US: f64 = 3.6e9;
/// The hour that bucket 0 holds, with everything before it: in the year 1850. The last one is in 2328.
const FIRST_HOUR: f64 = -1_051_200.0;

/// What the buckets divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Numbers, by their leading bits.
    Numbers,
    /// Microseconds since 1970, by hours.
    Times,
}

/// Counts by bucket, in pages that exist where values are: at most 16 MiB for numbers and 32 MiB for times, commonly
/// a hundredth of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    scale: Scale,
    pages: Vec<Option<Box<[u64]>>>,
    total: u64,
}

/// An integer ordered like the doubles.
const fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | (1 << 63) } else { !bits }
}

const fn value_of(ordered: u64) -> f64 {
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

impl Scale {
    const fn pages(self) -> usize {
        match self {
            Self::Numbers => (1 << 21) / PAGE,
            Self::Times => (1 << 22) / PAGE,
        }
    }

    fn bucket(self, value: f64) -> usize {
        match self {
            // Minus zero is zero.
            Self::Numbers => (ordered(value + 0.0) >> SHIFT) as usize,
            Self::Times => ((value / HOUR_US).floor() - FIRST_HOUR).clamp(0.0, ((1 << 22) - 1) as f64) as usize,
        }
    }

    /// The middle of a bucket.
    fn middle(self, bucket: usize) -> f64 {
        match self {
            Self::Numbers => {
                let start = (bucket as u64) << SHIFT;
                let (low, high) = (value_of(start), value_of(start | ((1 << SHIFT) - 1)));
                // The buckets around zero also hold the denormals, the outermost ones infinity.
                let middle = low / 2.0 + high / 2.0;
                if low == 0.0 || high == 0.0 || !middle.is_finite() { if low == 0.0 { low } else { high } } else { middle }
            }
            Self::Times => (bucket as f64 + FIRST_HOUR + 0.5) * HOUR_US,
        }
    }
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(scale: Scale) -> Self {
        Self { scale, pages: vec![None; scale.pages()], total: 0 }
    }

    /// Adds a value several times; NaN is none.
    #[inline]
    pub fn add(&mut self, value: f64, count: u64) {
        if value.is_nan() {
            return;
        }
        let bucket = self.scale.bucket(value);
        if let Some(page) = self.pages.get_mut(bucket / PAGE) {
            page.get_or_insert_with(|| vec![0; PAGE].into())[bucket % PAGE] += count;
            self.total += count;
        }
    }

    /// Takes in the values of another part.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            if let Some(theirs) = theirs {
                let mine = mine.get_or_insert_with(|| vec![0; PAGE].into());
                mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
            }
        }
        self.total += other.total;
    }

    /// The `q` quantile: from the middles of the buckets around `q * (n - 1)`, within `[min, max]`.
    #[must_use]
    pub fn quantile(&self, q: f64, min: f64, max: f64) -> Option<f64> {
        let last = self.total.checked_sub(1)?;
        let position = q.clamp(0.0, 1.0) * last as f64;
        if position <= 0.0 || position >= last as f64 {
            return Some(if position <= 0.0 { min } else { max });
        }
        let low = position.floor();
        let (below, above) = (self.at(low as u64)?, self.at((low as u64 + 1).min(last))?);
        Some(between(below, above, position - low).max(min).min(max))
    }

    /// The middle of the bucket that holds the value of this rank.
    fn at(&self, rank: u64) -> Option<f64> {
        let mut seen = 0;
        for (number, page) in self.pages.iter().enumerate() {
            for (offset, count) in page.iter().flatten().enumerate() {
                seen += count;
                if rank < seen {
                    return Some(self.scale.middle(number * PAGE + offset));
                }
            }
        }
        None
    }

    /// The bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Option<Box<[u64]>>>() + self.pages.iter().flatten().count() * PAGE * 8
    }
}

#[cfg(test)]
mod tests {
    use super::super::order;
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let value = |i| (splitmix::fraction(1, i) * 20.0 - 8.0).exp() * if i % 5 == 0 { -1.0 } else { 1.0 };
        let mut values: Vec<f64> = (0..20_000).map(value).collect();
        let mut whole = Histogram::new(Scale::Numbers);
        values.iter().for_each(|value| whole.add(*value, 1));
        let sorted = order::sorted(&values);
        for q in [0.0, 0.01, 0.25, 0.5, 0.77, 0.999, 1.0] {
            let (exact, found) = (order::quantile(&sorted, q).unwrap(), whole.quantile(q, sorted[0], sorted[19_999]).unwrap());
            assert!((exact - found).abs() <= 0.001 * exact.abs(), "{q}: {found} is not {exact}");
        }
        splitmix::shuffle(&mut values, 3);
        let (mut a, mut b) = (Histogram::new(Scale::Numbers), Histogram::new(Scale::Numbers));
        values.iter().enumerate().for_each(|(i, value)| if i % 7 == 0 { a.add(*value, 1) } else { b.add(*value, 1) });
        a.merge(&b);
        assert_eq!(a, whole);
    }

    #[test]
    fn zeros_and_ends() {
        let mut histogram = Histogram::new(Scale::Numbers);
        assert_eq!(histogram.quantile(0.5, 0.0, 0.0), None);
        [0.0, -0.0, f64::NAN, 0.0].iter().for_each(|value| histogram.add(*value, 1));
        assert_eq!(histogram.quantile(0.5, -9.0, 9.0), Some(0.0));
        histogram.add(f64::MAX, 10);
        histogram.add(f64::NEG_INFINITY, 1);
        assert_eq!(histogram.quantile(1.0, f64::NEG_INFINITY, f64::MAX), Some(f64::MAX));
        assert_eq!(histogram.quantile(0.0, f64::NEG_INFINITY, f64::MAX), Some(f64::NEG_INFINITY));
    }

    #[test]
    fn times_are_within_an_hour() {
        let mut histogram = Histogram::new(Scale::Times);
        let time = |i: u64| 1_700_000_000_000_000.0 + i as f64 * 97_000_000.0;
        (0..10_000).for_each(|i| histogram.add(time(i), 1));
        let found = histogram.quantile(0.5, time(0), time(9_999)).unwrap();
        assert!((found - time(5_000)).abs() <= HOUR_US, "{found}");
        histogram.add(-1e18, 1);
        histogram.add(1e18, 1);
        assert_eq!(histogram.quantile(1.0, -1e18, 1e18).map(f64::is_finite), Some(true));
    }
}
