//! Sets that become one in any order, as sums do in a binary counter.
//!
//! Adding a small set to a great one costs the great one, so a million small sets would cost a million great ones. Here every part is
//! at least twice as great as the next one: a set takes part in as many additions as the whole has doublings.

use super::{Bitmap, Bsi};
use crate::kernels::stats::wire::{Reader, put_bytes};

/// What parts are.
pub trait Part: Clone {
    /// The memory that it holds.
    fn heap_bytes(&self) -> usize;
    /// Its bytes.
    fn to_bytes(self) -> Vec<u8>;
    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Part for Bitmap {
    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }

    fn to_bytes(self) -> Vec<u8> {
        Self::to_bytes(self)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).ok()
    }
}

impl Part for Bsi {
    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }

    fn to_bytes(self) -> Vec<u8> {
        Self::to_bytes(self)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).ok()
    }
}

/// Parts of a whole, the greatest first.
#[derive(Debug, Clone)]
pub struct Parts<T> {
    parts: Vec<(T, usize)>,
    /// What all parts hold.
    bytes: usize,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), bytes: 0 }
    }
}

impl<T: Part> Parts<T> {
    /// Takes one more part in.
    ///
    /// # Errors
    /// Those of `combine`.
    pub fn push<E>(&mut self, part: T, combine: impl Fn(T, T) -> Result<T, E>) -> Result<(), E> {
        self.add(part);
        while let [.., (_, greater), (_, less)] = self.parts[..]
            && greater < 2 * less
        {
            self.combine_last(&combine)?;
        }
        Ok(())
    }

    /// Takes in the parts of another whole.
    ///
    /// # Errors
    /// Those of `combine`.
    pub fn merge<E>(&mut self, other: Self, combine: impl Fn(T, T) -> Result<T, E>) -> Result<(), E> {
        other.parts.into_iter().rev().try_for_each(|(part, _)| self.push(part, &combine))
    }

    /// The whole; `None` when there was no part.
    ///
    /// # Errors
    /// Those of `combine`.
    pub fn whole<E>(&mut self, combine: impl Fn(T, T) -> Result<T, E>) -> Result<Option<&T>, E> {
        while self.parts.len() > 1 {
            self.combine_last(&combine)?;
        }
        Ok(self.parts.first().map(|(whole, _)| whole))
    }

    /// The memory that they hold.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes + self.parts.capacity() * size_of::<(T, usize)>()
    }

    /// Appends the parts' bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.parts.iter().for_each(|(part, _)| put_bytes(out, &part.clone().to_bytes()));
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let mut found = Self::default();
        while !from.is_empty() {
            found.add(T::from_bytes(from.bytes()?)?);
        }
        Some(found)
    }

    fn add(&mut self, part: T) {
        let bytes = part.heap_bytes();
        self.bytes += bytes;
        self.parts.push((part, bytes));
    }

    fn combine_last<E>(&mut self, combine: impl Fn(T, T) -> Result<T, E>) -> Result<(), E> {
        if let (Some((less, few)), Some((greater, many))) = (self.parts.pop(), self.parts.pop()) {
            self.bytes -= few + many;
            self.add(combine(greater, less)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn or(mut left: Bitmap, right: Bitmap) -> Result<Bitmap, ()> {
        left.add(right);
        Ok(left)
    }

    #[test]
    fn many_small_sets_are_few_parts() {
        let mut parts = Parts::default();
        for id in 0..3000_u64 {
            parts.push(Bitmap::from_ascending(&[id * 70_001]), or).unwrap();
            assert!(parts.parts.len() < 20 && parts.parts.is_sorted_by(|(_, greater), (_, less)| *greater >= 2 * less));
            assert_eq!(parts.bytes, parts.parts.iter().map(|(part, _)| part.heap_bytes()).sum::<usize>());
        }
        let whole = Bitmap::from_ids((0..3000).map(|id| id * 70_001).collect());
        assert_eq!(parts.whole(or).unwrap(), Some(&whole));
        assert_eq!(parts.parts.len(), 1);
        assert_eq!(Parts::<Bitmap>::default().whole(or).unwrap(), None);
    }

    #[test]
    fn equal_sets_are_one_part() {
        let set = Bitmap::from_ids((0..1000).map(|id| id * 977).collect());
        let (mut parts, mut other) = (Parts::default(), Parts::default());
        for _ in 0..10 {
            parts.push(set.clone(), or).unwrap();
            other.push(set.clone(), or).unwrap();
        }
        parts.merge(other, or).unwrap();
        assert_eq!(parts.parts.len(), 1);
        assert_eq!(parts.whole(or).unwrap(), Some(&set));
    }
}
