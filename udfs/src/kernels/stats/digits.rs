//! A short list of digits: four of them lie in place, so that most sums allocate nothing.

use std::ops::{Deref, DerefMut};

const FEW: usize = 4;

/// Digits, the least significant first.
#[derive(Debug, Clone)]
pub(super) enum Digits {
    /// The first so many of the array.
    Few([i64; FEW], u8),
    Many(Vec<i64>),
}

impl Default for Digits {
    fn default() -> Self {
        Self::Few([0; FEW], 0)
    }
}

impl Deref for Digits {
    type Target = [i64];

    #[inline]
    fn deref(&self) -> &[i64] {
        match self {
            Self::Few(digits, length) => &digits[..usize::from(*length).min(FEW)],
            Self::Many(digits) => digits,
        }
    }
}

impl DerefMut for Digits {
    #[inline]
    fn deref_mut(&mut self) -> &mut [i64] {
        match self {
            Self::Few(digits, length) => &mut digits[..usize::from(*length).min(FEW)],
            Self::Many(digits) => digits,
        }
    }
}

impl FromIterator<i64> for Digits {
    fn from_iter<I: IntoIterator<Item = i64>>(digits: I) -> Self {
        let mut all = Self::default();
        digits.into_iter().for_each(|digit| all.push(digit));
        all
    }
}

impl Digits {
    /// Adds zeros at both ends.
    pub(super) fn grow(&mut self, front: usize, back: usize) {
        let before = self.len();
        let length = before + front + back;
        match self {
            Self::Few(digits, few) if length <= FEW => {
                digits.copy_within(..before, front);
                digits[..front].fill(0);
                digits[front + before..length].fill(0);
                *few = length as u8;
            }
            _ => {
                let mut many = Vec::with_capacity(length);
                many.resize(front, 0);
                many.extend_from_slice(self);
                many.resize(length, 0);
                *self = Self::Many(many);
            }
        }
    }

    /// Adds the most significant digit.
    pub(super) fn push(&mut self, digit: i64) {
        self.grow(0, 1);
        if let Some(last) = self.last_mut() {
            *last = digit;
        }
    }

    /// Takes the most significant digit away.
    pub(super) fn pop(&mut self) {
        match self {
            Self::Few(_, few) => *few = few.saturating_sub(1),
            Self::Many(digits) => drop(digits.pop()),
        }
    }

    /// Takes the `count` least significant digits away.
    pub(super) fn drop_front(&mut self, count: usize) {
        match self {
            Self::Few(digits, few) => {
                let length = usize::from(*few);
                let count = count.min(length);
                digits.copy_within(count..length, 0);
                *few = (length - count) as u8;
            }
            Self::Many(digits) => drop(digits.drain(..count.min(digits.len()))),
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(..) => 0,
            Self::Many(digits) => digits.capacity() * size_of::<i64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_alike() {
        let mut digits: Digits = [1, 2, 3].into_iter().collect();
        digits.grow(1, 0);
        assert_eq!((&*digits, digits.heap_bytes()), (&[0, 1, 2, 3][..], 0));
        digits.pop();
        digits.drop_front(1);
        assert_eq!(*digits, [1, 2]);
        digits.grow(2, 3);
        assert_eq!(*digits, [0, 0, 1, 2, 0, 0, 0]);
        assert!(digits.heap_bytes() >= 56);
        digits.pop();
        digits.drop_front(2);
        assert_eq!(*digits, [1, 2, 0, 0]);
        digits.drop_front(9);
        assert!(digits.is_empty());
    }
}
