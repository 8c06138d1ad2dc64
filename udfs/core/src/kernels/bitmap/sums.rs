//! Numbers of ids that arrive in any order: one exact sum per id, which becomes an index.

use super::bsi::Bsi;
use super::format::Malformed;

/// Sums by id. Pairs wait in a list that is sorted and joined when it is as long as what is joined already.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// Ascending, each id once.
    joined: Vec<(u64, i128)>,
    waiting: Vec<(u64, i128)>,
}

/// A sum that an index cannot hold: its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow(pub u64);

const FEW: usize = 64;
const PAIR: usize = size_of::<(u64, i128)>();

impl Sums {
    /// Adds a number to the sum of an id.
    pub fn add(&mut self, id: u64, value: i128) {
        match self.waiting.last_mut() {
            Some((last, sum)) if *last == id => *sum = sum.saturating_add(value),
            _ => {
                if self.waiting.len() >= self.joined.len().max(FEW) {
                    self.join();
                }
                self.waiting.push((id, value));
            }
        }
    }

    /// Adds the sums of another.
    pub fn merge(&mut self, other: Self) {
        for (id, value) in other.joined.into_iter().chain(other.waiting) {
            self.add(id, value);
        }
    }

    fn join(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut pairs = std::mem::take(&mut self.waiting);
        if !pairs.is_sorted_by_key(|(id, _)| *id) {
            pairs.sort_unstable_by_key(|(id, _)| *id);
        }
        let mut both = Vec::with_capacity(self.joined.len() + pairs.len());
        let (mut left, mut right) = (self.joined.iter().copied().peekable(), pairs.into_iter().peekable());
        while let Some((id, value)) = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) if a <= b => left.next(),
            (Some(_), None) => left.next(),
            _ => right.next(),
        } {
            match both.last_mut() {
                Some((last, sum)) if *last == id => *sum = i128::saturating_add(*sum, value),
                _ => both.push((id, value)),
            }
        }
        self.joined = both;
    }

    /// The index of the sums.
    ///
    /// # Errors
    /// A sum that does not fit 64 bits.
    pub fn index(&mut self) -> Result<Bsi, Overflow> {
        self.join();
        let narrow = |(id, sum): &(u64, i128)| i64::try_from(*sum).map(|sum| (*id, sum)).map_err(|_| Overflow(*id));
        Ok(Bsi::from_ascending(&self.joined.iter().map(narrow).collect::<Result<Vec<_>, _>>()?))
    }

    /// Bytes on the heap; O(1).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        (self.joined.capacity() + self.waiting.capacity()) * PAIR
    }

    /// Appends the state's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (id, sum) in self.joined.iter().chain(&self.waiting) {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&sum.to_le_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, all of `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (pairs, rest) = bytes.as_chunks::<24>();
        if !rest.is_empty() {
            return Err(Malformed::Short);
        }
        let mut sums = Self::default();
        for pair in pairs {
            let (Some((id, _)), Some((_, sum))) = (pair.split_first_chunk::<8>(), pair.split_last_chunk::<16>()) else { continue };
            sums.add(u64::from_le_bytes(*id), i128::from_le_bytes(*sum));
        }
        Ok(sums)
    }
}
