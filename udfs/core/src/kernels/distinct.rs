//! How many different whole numbers many groups have, exactly.
//!
//! Each group's numbers are appended to a list; when it has grown to twice what was left the last time they are made unique, so
//! memory grows with the different numbers. Numbers that lie so close together that a bit for each possible one takes no more than
//! the list become a set of bits then, and two such sets are united a word at a time. A set that is stretched too far becomes a
//! list again.

use super::stats::wire::{Reader, put_i64, put_u64};

/// Numbers of a group that are kept as they come in any case.
const NUMBERS_MIN: usize = 1 << 12;
/// Words of a bit set per number that is kept, at most.
const WORDS_PER_NUMBER: usize = 4;
/// The same of one that is only there to find the different numbers of a list: beyond, sorting is less work.
const WORDS_LOOKED_AT: usize = 16;
/// How a group's numbers are written.
const IN_ORDER: u8 = 0;
const IN_BITS: u8 = 1;
const AS_CAME: u8 = 2;
/// Bits of a word.
const WORD: u64 = u64::BITS as u64;

/// The numbers of a group.
#[derive(Debug, Clone)]
enum Numbers {
    List {
        numbers: Vec<i64>,
        /// How many of them are unique and in order, at the front.
        unique: usize,
        /// At how many they are made unique.
        fold_at: usize,
    },
    Bits(Bits),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::list(vec![])
    }
}

/// A bit for each number from `base` on.
#[derive(Debug, Clone)]
struct Bits {
    /// A multiple of the bits of a word.
    base: i64,
    words: Vec<u64>,
}

/// The numbers of groups `0..n`.
#[derive(Debug, Clone, Default)]
pub struct Distinct {
    groups: Vec<Numbers>,
    /// Bytes on the heap of all groups.
    bytes: usize,
    room: Vec<u64>,
}

impl Distinct {
    fn change<R>(&mut self, group: usize, change: impl FnOnce(&mut Numbers, &mut Vec<u64>) -> R) -> R {
        if group >= self.groups.len() {
            self.groups.resize_with(group + 1, Numbers::default);
        }
        let own = &mut self.groups[group];
        let before = own.heap_bytes();
        let result = change(own, &mut self.room);
        self.bytes = self.bytes + own.heap_bytes() - before;
        result
    }

    /// Adds a number. Amortised O(1).
    #[inline]
    pub fn add(&mut self, group: usize, number: i64) {
        let at_hand = self.groups.get_mut(group).is_some_and(|own| own.add_at_hand(number));
        if !at_hand {
            self.change(group, |own, room| own.add(number, room));
        }
    }

    /// How many different numbers a group has. O(numbers), O(n log n) where they lie far apart.
    pub fn count(&mut self, group: usize) -> usize {
        self.change(group, |own, room| {
            if let Some(bits) = own.in_bits(room) {
                let count = bits.count();
                *room = bits.words;
                return count;
            }
            own.fold(room);
            own.count()
        })
    }

    /// The different numbers of a group, in order.
    pub fn of(&mut self, group: usize) -> Vec<i64> {
        self.change(group, |own, room| {
            own.fold(room);
            own.to_list()
        })
    }

    /// Forgets the first `count` groups; group `count` becomes group 0.
    pub fn forget(&mut self, count: usize) {
        let gone = self.groups.drain(..count.min(self.groups.len()));
        self.bytes -= gone.map(|own| own.heap_bytes()).sum::<usize>();
    }

    /// Bytes on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Numbers>() + self.bytes + self.room.capacity() * size_of::<u64>()
    }

    /// Appends the bytes of a group's numbers. A list is written as it is: whoever merges it makes it unique anyway, and it is at
    /// most four times as long as it would be then.
    pub fn encode(&mut self, group: usize, out: &mut Vec<u8>) {
        self.change(group, |own, _| match own {
            Numbers::List { numbers, unique, .. } => {
                out.push(if *unique == numbers.len() { IN_ORDER } else { AS_CAME });
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Numbers::Bits(bits) => {
                out.push(IN_BITS);
                put_i64(out, bits.base);
                bits.words.iter().for_each(|word| put_u64(out, *word));
            }
        });
    }

    /// Adds the numbers behind bytes that [`encode`](Self::encode) wrote; `None` for others.
    pub fn merge(&mut self, group: usize, bytes: &[u8]) -> Option<()> {
        let mut from = Reader::new(bytes);
        let form = from.byte().filter(|form| *form <= AS_CAME)?;
        let base = if form == IN_BITS { from.i64().filter(|base| base.rem_euclid(WORD as i64) == 0)? } else { 0 };
        let (words, []) = from.rest().as_chunks::<8>() else { return None };
        let list = || words.iter().map(|word| i64::from_le_bytes(*word)).collect();
        let other = match form {
            IN_ORDER => Numbers::list(list()),
            AS_CAME => Numbers::List { numbers: list(), unique: 0, fold_at: NUMBERS_MIN.max(2 * words.len()) },
            _ => Numbers::Bits(Bits { base, words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() }),
        };
        self.change(group, |own, room| own.unite(other, room));
        Some(())
    }
}

impl Numbers {
    fn heap_bytes(&self) -> usize {
        size_of::<u64>()
            * match self {
                Self::List { numbers, .. } => numbers.capacity(),
                Self::Bits(bits) => bits.words.capacity(),
            }
    }

    /// Adds a number where that needs no memory; whether it did.
    #[inline]
    fn add_at_hand(&mut self, number: i64) -> bool {
        match self {
            Self::List { numbers, .. } => {
                let room = numbers.len() < numbers.capacity();
                if room {
                    numbers.push(number);
                }
                room
            }
            Self::Bits(bits) => bits.set(number),
        }
    }

    #[cold]
    fn add(&mut self, number: i64, room: &mut Vec<u64>) {
        match self {
            Self::List { numbers, fold_at, .. } if numbers.len() >= *fold_at => self.shrink(room),
            Self::Bits(bits) => {
                if !bits.stretch(number) {
                    *self = Self::list(bits.to_list());
                }
            }
            Self::List { .. } => {}
        }
        match self {
            Self::List { numbers, .. } => numbers.push(number),
            Self::Bits(bits) => {
                if !bits.set(number) {
                    self.add(number, room);
                }
            }
        }
    }

    /// The numbers of a list that is not known to be unique as bits in `room`, where those are few.
    fn in_bits(&self, room: &mut Vec<u64>) -> Option<Bits> {
        let Self::List { numbers, unique, .. } = self else { return None };
        if *unique == numbers.len() {
            return None;
        }
        let (least, most) = (*numbers.iter().min()?, *numbers.iter().max()?);
        let words = Bits::words_between(least, most);
        (words <= numbers.len().saturating_mul(WORDS_LOOKED_AT)).then(|| Bits::of(numbers, (least, words), std::mem::take(room)))
    }

    /// Makes the numbers of a list that has grown unique, unless nearly all of them are.
    fn shrink(&mut self, room: &mut Vec<u64>) {
        if let Self::List { numbers, fold_at, .. } = self
            && let (Some(least), Some(most)) = (numbers.iter().min(), numbers.iter().max())
            && Bits::words_between(*least, *most) > numbers.len() / 2
            && few_would_go(numbers, room)
        {
            *fold_at = 4 * numbers.len();
            return;
        }
        self.fold(room);
    }

    /// Makes the numbers unique.
    fn fold(&mut self, room: &mut Vec<u64>) {
        let Self::List { numbers, unique, fold_at } = self else { return };
        let before = numbers.len();
        if *unique == before {
            return;
        }
        let (Some(least), Some(most)) = (numbers.iter().min().copied(), numbers.iter().max().copied()) else { return };
        match Bits::words_between(least, most) {
            words if words <= numbers.len() && numbers.len() >= NUMBERS_MIN => {
                *self = Self::Bits(Bits::of(numbers, (least, words), vec![]));
                return;
            }
            words if words <= numbers.len().saturating_mul(WORDS_LOOKED_AT) => {
                let bits = Bits::of(numbers, (least, words), std::mem::take(room));
                numbers.clear();
                bits.each(|number| numbers.push(number));
                *room = bits.words;
            }
            _ => {
                numbers.sort_unstable();
                numbers.dedup();
            }
        }
        *unique = numbers.len();
        // Where nearly all were different, looking again soon is wasted.
        let few_went = 4 * (before - *unique) < before;
        *fold_at = NUMBERS_MIN.max(if few_went { 4 } else { 2 } * *unique);
    }

    /// Numbers that are unique and in order.
    fn list(numbers: Vec<i64>) -> Self {
        Self::List { unique: numbers.len(), fold_at: NUMBERS_MIN.max(2 * numbers.len()), numbers }
    }

    fn unite(&mut self, other: Self, room: &mut Vec<u64>) {
        match (&mut *self, other) {
            (Self::List { numbers, .. }, other) if numbers.is_empty() => *self = other,
            // Made unique later, many lists at a time.
            (Self::List { numbers, unique, fold_at }, Self::List { numbers: others, unique: others_unique, .. }) => {
                let both = *unique == numbers.len() && others_unique == others.len();
                let in_order = both && numbers.last() < others.first();
                numbers.extend_from_slice(&others);
                if in_order {
                    *unique = numbers.len();
                } else if numbers.len() >= *fold_at {
                    self.shrink(room);
                }
            }
            (Self::Bits(bits), other) => {
                if !matches!(&other, Self::Bits(other) if bits.unite(other)) {
                    self.add_all(other.to_list(), room);
                }
            }
            (Self::List { numbers, .. }, other) => {
                let own = std::mem::take(numbers);
                *self = other;
                self.add_all(own, room);
            }
        }
    }

    fn add_all(&mut self, numbers: Vec<i64>, room: &mut Vec<u64>) {
        for number in numbers {
            if !self.add_at_hand(number) {
                self.add(number, room);
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::List { numbers, .. } => numbers.len(),
            Self::Bits(bits) => bits.count(),
        }
    }

    fn to_list(&self) -> Vec<i64> {
        match self {
            Self::List { numbers, .. } => numbers.clone(),
            Self::Bits(bits) => bits.to_list(),
        }
    }
}

/// Whether less than a quarter of the numbers are there more than once, as counting the bits that they hit tells (Whang, Vander-Zanden
/// & Taylor, "A linear-time probabilistic counting algorithm", 1990). O(numbers), in a few kilobytes.
fn few_would_go(numbers: &[i64], room: &mut Vec<u64>) -> bool {
    let words = (numbers.len() * 4 / WORD as usize).next_power_of_two();
    room.clear();
    room.resize(words, 0);
    let shift = WORD as u32 - (words as u64 * WORD).trailing_zeros();
    for number in numbers {
        let bit = number.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift;
        room[(bit / WORD) as usize] |= 1 << (bit % WORD);
    }
    let bits = (words as u64 * WORD) as f64;
    let hit = room.iter().map(|word| f64::from(word.count_ones())).sum::<f64>();
    -bits * (1.0 - hit / bits).ln() > 0.75 * numbers.len() as f64
}

impl Bits {
    /// Adds another set's numbers, where the set stays small enough; whether it did.
    fn unite(&mut self, other: &Self) -> bool {
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
    fn words_between(least: i64, most: i64) -> usize {
        usize::try_from(most.abs_diff(Self::base_of(least)) / WORD + 1).unwrap_or(usize::MAX)
    }

    /// The bits of numbers from `least` on that `count` words hold, in the memory of `words`.
    fn of(numbers: &[i64], (least, count): (i64, usize), mut words: Vec<u64>) -> Self {
        words.clear();
        words.resize(count, 0);
        let mut bits = Self { base: Self::base_of(least), words };
        numbers.iter().for_each(|number| _ = bits.set(*number));
        bits
    }

    /// The last number that there is a bit for; `None` without bits.
    fn last(&self) -> Option<i64> {
        (!self.words.is_empty()).then(|| self.base.wrapping_add_unsigned(self.words.len() as u64 * WORD - 1))
    }

    /// Sets the bit of a number; whether there is one.
    #[inline]
    fn set(&mut self, number: i64) -> bool {
        let bit = number.wrapping_sub(self.base).cast_unsigned();
        let word = usize::try_from(bit / WORD).ok().and_then(|at| self.words.get_mut(at)).filter(|_| number >= self.base);
        let there = word.is_some();
        if let Some(word) = word {
            *word |= 1 << (bit % WORD);
        }
        there
    }

    /// Makes room for a number, at least doubling; whether the set stays small enough.
    fn stretch(&mut self, number: i64) -> bool {
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

    fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn each(&self, mut show: impl FnMut(i64)) {
        for (word, found) in self.words.iter().enumerate() {
            let mut left = *found;
            while left != 0 {
                show(self.base.wrapping_add_unsigned(word as u64 * WORD + u64::from(left.trailing_zeros())));
                left &= left - 1;
            }
        }
    }

    fn to_list(&self) -> Vec<i64> {
        let mut numbers = Vec::with_capacity(self.count());
        self.each(|number| numbers.push(number));
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kernels::splitmix;

    /// The same numbers after a journey.
    fn sent(mut sets: Distinct) -> Distinct {
        let mut other = Distinct::default();
        for group in 0..4 {
            let mut bytes = vec![];
            sets.encode(group, &mut bytes);
            other.merge(group, &bytes).unwrap();
        }
        other
    }

    #[test]
    fn as_a_set_has_them() {
        for seed in 0..10_000_u64 {
            let shift = [61, 56, 30, 0][seed as usize % 4];
            let (mut whole, mut expected) = (Distinct::default(), vec![BTreeSet::new(); 4]);
            for i in 0..splitmix::at(seed, 0) % 60 {
                let (group, number) = (splitmix::at(seed, 2 * i + 1) as usize % 4, (splitmix::at(seed, 2 * i + 2) >> shift).cast_signed());
                whole.add(group, number);
                expected[group].insert(number);
                match splitmix::at(seed, 900 + i) % 20 {
                    0 | 1 => assert_eq!(whole.count(group), expected[group].len()),
                    2 => whole = sent(whole),
                    _ => {}
                }
            }
            for (group, expected) in expected.iter().enumerate() {
                assert!(whole.of(group).iter().eq(expected), "seed {seed}: {:?} is not {expected:?}", whole.of(group));
            }
            whole.forget(2);
            assert!(whole.of(0).iter().eq(&expected[2]) && whole.of(9).is_empty());
        }
    }

    /// Many numbers, close together, far apart, or first the one and then the other; parts united in any order.
    #[test]
    fn large_sets_are_united() {
        for seed in 0..60_u64 {
            let number = |i: u64| match (splitmix::at(seed, i), seed % 4) {
                (random, 0) => (random % 30_000).cast_signed() - 15_000,
                (random, 1) => random.cast_signed(),
                (random, 2) if i > 9_000 => (random % 4_000_000).cast_signed(),
                (random, 3) if i > 9_000 => i64::MIN + (random % 50_000).cast_signed(),
                (random, 3) => i64::MAX - (random % 50_000).cast_signed(),
                (random, _) => (random % 10_000).cast_signed() + 500_000,
            };
            let count = 20_000;
            let expected: BTreeSet<i64> = (0..count).map(number).collect();
            let (mut whole, mut united) = (Distinct::default(), Distinct::default());
            (0..count).for_each(|i| whole.add(0, number(i)));
            for part in [1_u64, 0, 2] {
                let (mut own, mut bytes) = (Distinct::default(), vec![]);
                (0..count).filter(|i| i % 3 == part).for_each(|i| own.add(0, number(i)));
                own.encode(0, &mut bytes);
                united.merge(0, &bytes).unwrap();
            }
            assert_eq!((whole.count(0), united.count(0)), (expected.len(), expected.len()), "seed {seed}");
            assert!(whole.of(0).iter().eq(&expected) && united.of(0).iter().eq(&expected), "seed {seed}");
            let bytes: usize = whole.groups.iter().map(Numbers::heap_bytes).sum();
            assert_eq!(bytes, whole.bytes);
        }
        assert!(Distinct::default().merge(0, &[1, 0, 0, 0]).is_none() && Distinct::default().merge(0, &[]).is_none());
    }

    #[test]
    fn memory_grows_with_the_different_numbers() {
        let mut many = Distinct::default();
        for i in 0..5_000_000 {
            many.add(0, i % 1000);
        }
        assert!(many.heap_bytes() < 3 * 8 * NUMBERS_MIN, "{}", many.heap_bytes());
        assert_eq!(many.of(0).len(), 1000);
        many.forget(1);
        assert!(many.heap_bytes() < 2000, "{}", many.heap_bytes());
        let mut ends = Distinct::default();
        for number in [i64::MAX, i64::MIN, i64::MAX, 0] {
            ends.add(0, number);
        }
        assert_eq!(ends.of(0), [i64::MIN, 0, i64::MAX]);
    }
}
