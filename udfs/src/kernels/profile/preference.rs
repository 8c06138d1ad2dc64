//! Preferences: a decaying weight per key.

use std::collections::BTreeMap;

use super::decay::{Decay, DecayedSum};
use crate::kernels::stats::wire::{Reader, put_text, put_u64};

/// What one entry of the map costs beside its text and its digits.
const ENTRY_BYTES: usize = 96;

/// Weights per key, in the order of the keys' bytes.
#[derive(Debug, Clone, Default)]
pub struct Preferences {
    keys: BTreeMap<Box<str>, DecayedSum>,
    bytes: usize,
}

impl Preferences {
    /// Adds a weight to a key.
    pub fn add(&mut self, decay: Decay, key: &str, weight: f64, time_us: i64) {
        self.change(key, |sum| sum.add(decay, weight, time_us));
    }

    fn change(&mut self, key: &str, change: impl FnOnce(&mut DecayedSum)) {
        if let Some(sum) = self.keys.get_mut(key) {
            let before = sum.heap_bytes();
            change(sum);
            self.bytes = (self.bytes + sum.heap_bytes()).saturating_sub(before);
            return;
        }
        let mut sum = DecayedSum::default();
        change(&mut sum);
        self.bytes += key.len() + ENTRY_BYTES + sum.heap_bytes();
        self.keys.insert(key.into(), sum);
    }

    /// Adds what `other` saw.
    pub fn merge(&mut self, other: &Self) {
        for (key, sum) in &other.keys {
            self.change(key, |own| own.merge(sum));
        }
    }

    /// Keys with their weights as of a time, the heaviest first, ties by the keys' bytes; at most `most` of them.
    #[must_use]
    pub fn top(&self, decay: Decay, time_us: i64, most: usize) -> Vec<(&str, f64)> {
        let mut found: Vec<(&str, f64)> = self.keys.iter().map(|(key, sum)| (key.as_ref(), sum.at(decay, time_us))).collect();
        found.sort_by(|(a, a_weight), (b, b_weight)| b_weight.total_cmp(a_weight).then_with(|| a.cmp(b)));
        found.truncate(most);
        found
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes on the heap, roughly.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.keys.len() as u64);
        for (key, sum) in &self.keys {
            put_text(out, key);
            sum.encode(out);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let mut preferences = Self::default();
        for _ in 0..from.count(8)? {
            let (key, sum) = (from.text()?, DecayedSum::decode(from)?);
            preferences.change(key, |own| own.merge(&sum));
        }
        Some(preferences)
    }
}
