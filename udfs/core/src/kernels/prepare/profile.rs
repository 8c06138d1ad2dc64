//! What one pass over a column tells: missing and distinct values, range, moments, quantiles, the most frequent values.
//!
//! A column's values are counted exactly while there are at most [`DISTINCT_MAX`] different ones with [`BYTES_MAX`] bytes
//! together; whether that holds depends on the set of values alone. Beyond it they go into sketches, what was counted so
//! far included, and the answers are approximate: distinct values to about 3 %, quantiles to 0.1 % of themselves (times to an
//! hour), top values as [`super::frequent`] says. Range and moments stay exact.

use super::folds::hash;
use super::frequent::Frequent;
use super::histogram::{Histogram, Scale};
use super::hyperloglog::HyperLogLog;
use super::moments::Moments;
use super::order::between;
use crate::kernels::intern::Interner;

/// Different values that are counted exactly.
pub const DISTINCT_MAX: usize = 16_384;
/// Their bytes together.
pub const BYTES_MAX: usize = 4 << 20;

/// Every value with its count.
#[derive(Debug, Clone, Default)]
struct Exact {
    values: Interner,
    counts: Vec<u64>,
    /// The value as a number; NaN when it is none.
    numbers: Vec<f64>,
    bytes: usize,
}

/// Bounded summaries.
#[derive(Debug, Clone)]
struct Sketches {
    distinct: HyperLogLog,
    quantiles: Histogram,
    frequent: Frequent,
}

#[derive(Debug, Clone)]
enum Values {
    Exact(Exact),
    Sketches(Box<Sketches>),
}

/// One column as far as it was read.
#[derive(Debug, Clone)]
pub struct ColumnProfile {
    /// Rows.
    pub rows: u64,
    /// Rows where the value is NULL or NaN.
    pub missing: u64,
    /// Moments of the numbers.
    pub moments: Moments,
    /// The least and the greatest value, by bytes.
    pub range: Option<(Box<[u8]>, Box<[u8]>)>,
    scale: Scale,
    values: Values,
}

impl ColumnProfile {
    /// Nothing read yet.
    #[must_use]
    pub fn new(scale: Scale) -> Self {
        Self { rows: 0, missing: 0, moments: Moments::default(), range: None, scale, values: Values::Exact(Exact::default()) }
    }

    /// A row without a value.
    pub fn add_missing(&mut self, rows: u64) {
        self.rows += rows;
        self.missing += rows;
    }

    /// A value by its bytes, which are equal when values are and ordered like them; as a number too, or NaN when it is none.
    pub fn add(&mut self, key: &[u8], number: f64) {
        self.rows += 1;
        self.moments.add(number);
        self.widen(key, key);
        self.count(key, number, 1);
    }

    fn widen(&mut self, low: &[u8], high: &[u8]) {
        match &mut self.range {
            None => self.range = Some((low.into(), high.into())),
            Some((least, greatest)) => {
                if low < &**least {
                    *least = low.into();
                }
                if high > &**greatest {
                    *greatest = high.into();
                }
            }
        }
    }

    fn count(&mut self, key: &[u8], number: f64, count: u64) {
        match &mut self.values {
            Values::Sketches(sketches) => sketches.add(key, number, count),
            Values::Exact(exact) => {
                exact.add(key, number, count);
                if exact.counts.len() > DISTINCT_MAX || exact.bytes > BYTES_MAX {
                    self.sketch();
                }
            }
        }
    }

    /// From exact counts to sketches.
    fn sketch(&mut self) {
        if let Values::Exact(exact) = &self.values {
            let mut sketches = Box::new(Sketches::new(self.scale));
            exact.each(|key, number, count| sketches.add(key, number, count));
            self.values = Values::Sketches(sketches);
        }
    }

    /// Takes in another part of the column.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.missing += other.missing;
        self.moments.merge(&other.moments);
        if let Some((low, high)) = &other.range {
            self.widen(low, high);
        }
        match &other.values {
            Values::Exact(exact) => exact.each(|key, number, count| self.count(key, number, count)),
            Values::Sketches(theirs) => {
                self.sketch();
                if let Values::Sketches(mine) = &mut self.values {
                    mine.merge(theirs);
                }
            }
        }
    }

    /// Whether counts are exact.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        matches!(self.values, Values::Exact(_))
    }

    /// How many different values.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        match &self.values {
            Values::Exact(exact) => exact.counts.len() as u64,
            Values::Sketches(sketches) => sketches.distinct.count().min(self.rows - self.missing),
        }
    }

    /// Quantiles of the numbers or times, by linear interpolation between order statistics; ascending `qs`.
    #[must_use]
    pub fn quantiles(&self, qs: &[f64]) -> Vec<Option<f64>> {
        match &self.values {
            Values::Exact(exact) => exact.quantiles(qs),
            Values::Sketches(sketches) => qs.iter().map(|q| sketches.quantiles.quantile(*q, self.moments.min, self.moments.max)).collect(),
        }
    }

    /// The most frequent values with their counts, ties by bytes.
    #[must_use]
    pub fn top(&self, limit: usize) -> Vec<(Vec<u8>, u64)> {
        match &self.values {
            Values::Exact(exact) => exact.top(limit),
            Values::Sketches(sketches) => sketches.frequent.top(limit),
        }
    }

    /// The bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let range = self.range.as_ref().map_or(0, |(low, high)| low.len() + high.len());
        range
            + size_of::<Self>()
            + match &self.values {
                Values::Exact(exact) => exact.values.bytes() + (exact.counts.capacity() + exact.numbers.capacity()) * 8,
                Values::Sketches(sketches) => {
                    sketches.distinct.bytes() + sketches.quantiles.bytes() + sketches.frequent.bytes() + size_of::<Sketches>()
                }
            }
    }
}

impl Exact {
    fn add(&mut self, key: &[u8], number: f64, count: u64) {
        let code = self.values.intern_bytes(key) as usize;
        if code == self.counts.len() {
            self.counts.push(0);
            self.numbers.push(number);
            self.bytes += key.len();
        }
        if let Some(seen) = self.counts.get_mut(code) {
            *seen += count;
        }
    }

    fn each(&self, mut found: impl FnMut(&[u8], f64, u64)) {
        for (code, (count, number)) in self.counts.iter().zip(&self.numbers).enumerate() {
            found(self.values.bytes_of(code as u32), *number, *count);
        }
    }

    fn quantiles(&self, qs: &[f64]) -> Vec<Option<f64>> {
        let numbers = self.numbers.iter().copied().zip(self.counts.iter().copied());
        let mut sorted: Vec<(f64, u64)> = numbers.filter(|(number, _)| !number.is_nan()).collect();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut total = 0;
        for (_, count) in &mut sorted {
            total += *count;
            *count = total;
        }
        let at = |rank: u64| sorted.get(sorted.partition_point(|(_, seen)| *seen <= rank)).map(|(number, _)| *number);
        let quantile = |q: &f64| {
            let last = total.checked_sub(1)?;
            let position = q * last as f64;
            let low = position.floor();
            Some(between(at(low as u64)?, at((low as u64 + 1).min(last))?, position - low))
        };
        qs.iter().map(quantile).collect()
    }

    fn top(&self, limit: usize) -> Vec<(Vec<u8>, u64)> {
        let mut order: Vec<(u64, &[u8])> =
            self.counts.iter().enumerate().map(|(code, count)| (*count, self.values.bytes_of(code as u32))).collect();
        order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        order.into_iter().take(limit).map(|(count, value)| (value.to_vec(), count)).collect()
    }
}

impl Sketches {
    fn new(scale: Scale) -> Self {
        Self { distinct: HyperLogLog::default(), quantiles: Histogram::new(scale), frequent: Frequent::default() }
    }

    fn add(&mut self, key: &[u8], number: f64, count: u64) {
        let hash = hash(key, 0);
        self.distinct.add(hash);
        self.quantiles.add(number, count);
        self.frequent.add(key, hash, count);
    }

    fn merge(&mut self, other: &Self) {
        self.distinct.merge(&other.distinct);
        self.quantiles.merge(&other.quantiles);
        self.frequent.merge(&other.frequent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn answers(profile: &ColumnProfile) -> (bool, u64, u64, Vec<Option<f64>>, Vec<(Vec<u8>, u64)>, Option<f64>) {
        let quantiles = profile.quantiles(&[0.0, 0.25, 0.5, 0.95, 1.0]);
        (profile.is_exact(), profile.distinct(), profile.missing, quantiles, profile.top(5), profile.moments.deviation(1))
    }

    fn part(values: &[f64]) -> ColumnProfile {
        let mut profile = ColumnProfile::new(Scale::Numbers);
        values.iter().for_each(|v| if v.is_nan() { profile.add_missing(1) } else { profile.add(&v.to_bits().to_le_bytes(), *v) });
        profile
    }

    #[test]
    fn order_and_splits_do_not_matter() {
        // Below, just below, just above and far above the bound.
        for (seed, distinct) in [(1, 50), (2, DISTINCT_MAX as u64), (3, DISTINCT_MAX as u64 + 1), (4, 60_000)] {
            let value = |i: u64| {
                let heavy = splitmix::at(seed, i).is_multiple_of(4) && i >= distinct;
                let pick = if i < distinct {
                    i
                } else if heavy {
                    7
                } else {
                    splitmix::at(seed + 9, i) % distinct
                };
                if i >= distinct && i.is_multiple_of(11) { f64::NAN } else { pick as f64 * 1.5 + 1.0 }
            };
            let mut values: Vec<f64> = (0..distinct + 20_000).map(value).collect();
            let whole = answers(&part(&values));
            assert_eq!(whole.0, distinct <= DISTINCT_MAX as u64);
            for shuffled in 0..3 {
                splitmix::shuffle(&mut values, seed * 10 + shuffled);
                let cut = splitmix::at(shuffled, seed) as usize % values.len();
                let (mut left, right) = (part(&values[..cut]), part(&values[cut..]));
                left.merge(&right);
                assert_eq!(answers(&left), whole, "{distinct} {shuffled}");
            }
        }
    }

    #[test]
    fn exact_answers() {
        let profile = part(&[3.0, 1.0, f64::NAN, 2.0, 10.0, 2.0]);
        assert_eq!((profile.rows, profile.missing, profile.distinct()), (6, 1, 4));
        assert_eq!(profile.quantiles(&[0.0, 0.5, 1.0]), [Some(1.0), Some(2.0), Some(10.0)]);
        assert_eq!(profile.top(1), vec![(2.0_f64.to_bits().to_le_bytes().to_vec(), 2)]);
        assert_eq!(part(&[f64::NAN]).quantiles(&[0.5]), [None]);
        let mut texts = ColumnProfile::new(Scale::Numbers);
        ["b", "a", "c", "a"].iter().for_each(|text| texts.add(text.as_bytes(), f64::NAN));
        let (low, high) = texts.range.clone().unwrap();
        assert_eq!((&*low, &*high, texts.quantiles(&[0.5])), (b"a".as_slice(), b"c".as_slice(), vec![None]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut profile = ColumnProfile::new(Scale::Numbers);
        (0..200_000_u64).for_each(|i| profile.add(format!("{i:>300}").as_bytes(), f64::NAN));
        assert!(profile.bytes() < 8 << 20, "{}", profile.bytes());
    }
}
