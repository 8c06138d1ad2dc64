//! The most frequent of any number of values in bounded memory, the same for every order of arrival.
//!
//! Candidates come from a Misra–Gries summary (merged as by Agarwal et al., 2012): whatever is more than 1/2048 of the
//! values is among them, however they arrive. Its counts do depend on the order, so they are not shown; the count that is
//! shown comes from a Count–Min sketch (Cormode & Muthukrishnan, 2005), a sum of integers, which never counts too few and
//! seldom more than 1/4000 of all values too many. Only values whose count is at least 1/400 of all are shown: those are
//! among the candidates in every order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Candidates that are kept.
const CANDIDATES: usize = 2048;
/// A value that is shown is at least one in so many.
const SHOWN_ONE_IN: u64 = 400;
const DEPTH: usize = 4;
const WIDTH_BITS: u32 = 13;
const WIDTH: usize = 1 << WIDTH_BITS;
/// Longer values are counted but never shown.
const VALUE_BYTES_MAX: usize = 1024;

/// The key is a hash already.
#[derive(Debug, Clone, Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A value and the least number of times it was seen, by hash.
type Candidates = HashMap<u64, (u64, Box<[u8]>), BuildHasherDefault<Identity>>;

/// The sketch: a quarter of a megabyte and the candidates' own bytes.
#[derive(Debug, Clone)]
pub struct Frequent {
    candidates: Candidates,
    counts: Vec<u64>,
    total: u64,
    held: usize,
}

impl Default for Frequent {
    fn default() -> Self {
        Self { candidates: Candidates::default(), counts: vec![0; DEPTH * WIDTH], total: 0, held: 0 }
    }
}

/// The cells of a hash, one a row: two halves, combined (Kirsch & Mitzenmacher, 2006).
fn cells(hash: u64) -> [usize; DEPTH] {
    let step = (hash >> 32) | 1;
    std::array::from_fn(|row| {
        let mixed = hash.wrapping_add(step.wrapping_mul(row as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        row * WIDTH + (mixed >> (64 - WIDTH_BITS)) as usize
    })
}

impl Frequent {
    /// Adds a value, with its 64-bit hash, `count` times.
    pub fn add(&mut self, value: &[u8], hash: u64, count: u64) {
        self.total += count;
        for cell in cells(hash) {
            if let Some(cell) = self.counts.get_mut(cell) {
                *cell += count;
            }
        }
        self.promote(value, hash, count);
    }

    fn promote(&mut self, value: &[u8], hash: u64, count: u64) {
        if let Some((seen, _)) = self.candidates.get_mut(&hash) {
            *seen += count;
        } else if value.len() <= VALUE_BYTES_MAX {
            self.candidates.insert(hash, (count, value.into()));
            self.held += value.len();
            if self.candidates.len() >= 2 * CANDIDATES {
                self.reduce();
            }
        }
    }

    /// Takes the count of the first that is too many from all, and lets go of those left with none.
    fn reduce(&mut self) {
        if self.candidates.len() <= CANDIDATES {
            return;
        }
        let mut counts: Vec<u64> = self.candidates.values().map(|(count, _)| *count).collect();
        let (_, taken, _) = counts.select_nth_unstable_by(CANDIDATES, |a, b| b.cmp(a));
        let taken = *taken;
        self.candidates.retain(|_, (count, _)| {
            *count = count.saturating_sub(taken);
            *count > 0
        });
        self.held = self.candidates.values().map(|(_, value)| value.len()).sum();
    }

    /// Takes in the values of another part.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        for (hash, (count, value)) in &other.candidates {
            match self.candidates.get_mut(hash) {
                Some((seen, _)) => *seen += count,
                None => {
                    self.held += value.len();
                    self.candidates.insert(*hash, (*count, value.clone()));
                }
            }
        }
        self.reduce();
    }

    fn estimate(&self, hash: u64) -> u64 {
        cells(hash).iter().filter_map(|cell| self.counts.get(*cell)).copied().min().unwrap_or(0)
    }

    /// The most frequent values with about how often they were seen, at most `limit`; ties by the values' bytes.
    #[must_use]
    pub fn top(&self, limit: usize) -> Vec<(Vec<u8>, u64)> {
        let least = self.total.div_ceil(SHOWN_ONE_IN).max(1);
        let counted = self.candidates.iter().map(|(hash, (_, value))| (value.to_vec(), self.estimate(*hash)));
        let mut found: Vec<(Vec<u8>, u64)> = counted.filter(|(_, count)| *count >= least).collect();
        found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found.truncate(limit);
        found
    }

    /// The bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.counts.capacity() * 8 + self.candidates.capacity() * 40 + self.held
    }
}

#[cfg(test)]
mod tests {
    use super::super::folds::hash;
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn finds_the_same_in_any_order() {
        // 300,000 values: seven heavy ones among two hundred thousand that come once.
        let mut values: Vec<u64> = (0..200_000).map(|i| i + 100).collect();
        (0..7_u64).for_each(|heavy| values.extend(std::iter::repeat_n(heavy, 20_000 - 1_500 * heavy as usize)));
        let mut answers = Vec::new();
        for seed in 0..4 {
            splitmix::shuffle(&mut values, seed);
            let mut parts = [Frequent::default(), Frequent::default(), Frequent::default()];
            for (i, value) in values.iter().enumerate() {
                let bytes = value.to_le_bytes();
                parts[(splitmix::at(seed, i as u64) % 3) as usize].add(&bytes, hash(&bytes, 0), 1);
            }
            let [mut a, b, c] = parts;
            a.merge(&c);
            a.merge(&b);
            answers.push(a.top(10));
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(answers[0].len(), 7);
        for (heavy, (value, count)) in answers[0].iter().enumerate() {
            assert_eq!(value.as_slice(), (heavy as u64).to_le_bytes());
            let real = 20_000 - 1_500 * heavy as u64;
            assert!((real..real + 300).contains(count), "{real}: {count}");
        }
    }

    #[test]
    fn long_values_are_not_shown() {
        let mut sketch = Frequent::default();
        let long = vec![b'x'; VALUE_BYTES_MAX + 1];
        sketch.add(&long, hash(&long, 0), 5);
        sketch.add(b"y", hash(b"y", 0), 1);
        assert_eq!(sketch.top(3), vec![(b"y".to_vec(), 1)]);
    }
}
