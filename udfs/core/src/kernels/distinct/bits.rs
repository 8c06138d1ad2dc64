//! Whole numbers that lie close together, as a set of bits.

use super::list::List;
use super::{NUMBERS_MIN, WORD};

/// Words of a bit set per number that is kept, at most.
const WORDS_PER_NUMBER: usize = 4;

/// A bit for each number from `base` on.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    /// A multiple of the bits of a word.
    pub(super) base: i64,
    pub(super) words: Vec<u64>,
}

impl Bits {
    /// Adds another set's numbers, where the set stays small enough; whether it did.
    pub(super) fn unite(&mut self, other: &Self) -> bool {
        let Some(last) = other.last() else { return true };
        let fits = self.stretch(other.base) && self.stretch(last);
        if fits {
            let shift = (self.base.abs_diff(other.base) / WORD) as usize;
            self.words[shift..].iter_mut().zip(&other.words).for_each(|(own, other)| *own |= other);
        }
        fits
    }

    fn base_of(number: i64) -> i64 {
        number & !(WORD as i64 - 1)
    }

    /// Words that hold all numbers between two.
    pub(super) fn words_between(least: i64, most: i64) -> usize {
        usize::try_from(most.abs_diff(Self::base_of(least)) / WORD + 1).unwrap_or(usize::MAX)
    }

    /// The bits of numbers from `least` on that `count` words hold, in the memory of `words`.
    pub(super) fn of(numbers: &List, (least, count): (i64, usize), mut words: Vec<u64>) -> Self {
        words.clear();
        words.resize(count, 0);
        let mut bits = Self { base: Self::base_of(least), words };
        numbers.each(|number| _ = bits.set(number));
        bits
    }

    /// The last number that there is a bit for; `None` without bits.
    fn last(&self) -> Option<i64> {
        (!self.words.is_empty()).then(|| self.base.wrapping_add_unsigned(self.words.len() as u64 * WORD - 1))
    }

    /// Sets the bit of a number; whether there is one.
    #[inline]
    pub(super) fn set(&mut self, number: i64) -> bool {
        let bit = number.wrapping_sub(self.base).cast_unsigned();
        let word = usize::try_from(bit / WORD).ok().and_then(|at| self.words.get_mut(at)).filter(|_| number >= self.base);
        let there = word.is_some();
        if let Some(word) = word {
            *word |= 1 << (bit % WORD);
        }
        there
    }

    /// Makes room for a number, at least doubling; whether the set stays small enough.
    pub(super) fn stretch(&mut self, number: i64) -> bool {
        let Some(last) = self.last() else { return false };
        let (least, most) = (self.base.min(Self::base_of(number)), last.max(number));
        let needed = Self::words_between(least, most);
        if needed == self.words.len() {
            return true;
        }
        let most_words = WORDS_PER_NUMBER.saturating_mul(self.count().max(NUMBERS_MIN));
        if needed > most_words {
            return false;
        }
        let front = (self.base.abs_diff(least) / WORD) as usize;
        // A set that grows often is made larger than it must be, at its end.
        let words = needed.max((2 * self.words.len()).min(most_words));
        let words = words.min(usize::try_from(least.abs_diff(i64::MAX) / WORD + 1).unwrap_or(usize::MAX));
        let mut stretched = vec![0; words.max(needed)];
        stretched[front..front + self.words.len()].copy_from_slice(&self.words);
        *self = Self { base: least, words: stretched };
        true
    }

    pub(super) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn each(&self, mut show: impl FnMut(i64)) {
        for (word, found) in self.words.iter().enumerate() {
            let mut left = *found;
            while left != 0 {
                show(self.base.wrapping_add_unsigned(word as u64 * WORD + u64::from(left.trailing_zeros())));
                left &= left - 1;
            }
        }
    }

    pub(super) fn to_list(&self) -> List {
        let mut numbers = List::default();
        self.each(|number| numbers.push(number));
        numbers
    }
}
