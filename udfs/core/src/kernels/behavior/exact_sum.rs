//! Sums of doubles without any rounding but the last, so that no order of adding changes a bit.
//!
//! Shewchuk's expansions (1997) as in Python's `fsum`: a sum is a list of doubles that do not overlap. A few of them
//! suffice unless magnitudes differ wildly.

use std::cmp::Ordering;

/// An exact sum. Its parts grow in magnitude.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExactSum {
    parts: Vec<f64>,
}

impl ExactSum {
    /// Adds a finite number.
    pub fn add(&mut self, mut value: f64) {
        let mut kept = 0;
        for at in 0..self.parts.len() {
            let mut part = self.parts[at];
            if value.abs() < part.abs() {
                std::mem::swap(&mut value, &mut part);
            }
            let high = value + part;
            let low = part - (high - value);
            if low != 0.0 {
                self.parts[kept] = low;
                kept += 1;
            }
            value = high;
        }
        self.parts.truncate(kept);
        if value != 0.0 {
            self.parts.push(value);
        }
    }

    /// The numbers that another sum can add to become this one.
    #[must_use]
    pub fn parts(&self) -> &[f64] {
        &self.parts
    }

    /// Which of two sums is greater, even where they round to one double.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        self.value().total_cmp(&other.value()).then_with(|| {
            let mut difference = self.clone();
            other.parts.iter().for_each(|part| difference.add(-part));
            difference.value().total_cmp(&0.0)
        })
    }

    /// The double nearest to the sum, ties to even.
    #[must_use]
    pub fn value(&self) -> f64 {
        let mut rest = self.parts.iter().rev().copied();
        let mut high = rest.next().unwrap_or(0.0);
        let mut low = 0.0;
        for part in rest.by_ref() {
            let before = high;
            high = before + part;
            low = part - (high - before);
            if low != 0.0 {
                break;
            }
        }
        // Half a unit in the last place: the next part says to which side.
        if let Some(next) = rest.next()
            && ((low < 0.0 && next < 0.0) || (low > 0.0 && next > 0.0))
        {
            let twice = low * 2.0;
            let rounded = high + twice;
            if twice == rounded - high {
                high = rounded;
            }
        }
        high
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.parts.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    #[test]
    fn as_in_python() {
        // math.fsum of the same lists.
        assert_eq!(sum(&[0.1; 10]).to_bits(), 1.0_f64.to_bits());
        assert_eq!(sum(&[1e100, 1.0, -1e100]).to_bits(), 1.0_f64.to_bits());
        assert_eq!(sum(&[1e-16, 1.0, 1e16]).to_bits(), 10_000_000_000_000_002.0_f64.to_bits());
        assert_eq!(sum(&[]).to_bits(), 0.0_f64.to_bits());
        let (mut more, mut less) = (ExactSum::default(), ExactSum::default());
        [1.0, 1e-30].iter().for_each(|value| more.add(*value));
        less.add(1.0);
        assert_eq!((more.compare(&less), less.compare(&less)), (Ordering::Greater, Ordering::Equal));
    }

    #[test]
    fn no_order_changes_a_bit() {
        for seed in 0..2_000 {
            let scale = |i: u64| 2.0_f64.powi((splitmix::at(seed, 2 * i) % 200) as i32 - 100);
            let mut values: Vec<f64> = (0..20).map(|i| (splitmix::fraction(seed, 2 * i + 1) - 0.5) * scale(i)).collect();
            let first = sum(&values);
            splitmix::shuffle(&mut values, seed);
            let (mut left, mut right) = (ExactSum::default(), ExactSum::default());
            values[..7].iter().for_each(|value| left.add(*value));
            values[7..].iter().for_each(|value| right.add(*value));
            right.parts().iter().for_each(|part| left.add(*part));
            assert_eq!(left.value().to_bits(), first.to_bits());
        }
    }
}
