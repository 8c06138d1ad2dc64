//! How many different whole numbers many groups have, exactly.
//!
//! Each group's numbers are appended to a list; when it has grown to twice what was left the last time they are made unique, so
//! memory grows with the different numbers. Numbers that lie so close together that a bit for each possible one takes no more than
//! the list would grow to become a set of bits then, and two such sets are united a word at a time. A set that is stretched too far
//! becomes a list again.

mod bits;
mod list;

use super::stats::wire::{Reader, put_i64, put_u64};
use bits::Bits;
use list::{List, few_would_go};

/// Numbers of a group that are kept as they come in any case.
const NUMBERS_MIN: usize = 1 << 12;
/// Words per number of a set of bits that is only there to find the different numbers of a list: beyond, sorting is less work.
const WORDS_LOOKED_AT: usize = 16;
/// How a group's numbers are written.
const IN_ORDER: u8 = 0;
const IN_BITS: u8 = 1;
const AS_CAME: u8 = 2;
const NEAR_IN_ORDER: u8 = 3;
const NEAR_AS_CAME: u8 = 4;
/// What comes before the numbers: how they are written, and what they count from.
const HEAD_BYTES: usize = 1 + size_of::<i64>();
/// Bits of a word.
const WORD: u64 = u64::BITS as u64;

/// The numbers of a group.
#[derive(Debug, Clone)]
enum Numbers {
    List {
        numbers: List,
        /// How many of them are unique and in order, at the front.
        unique: usize,
        /// At how many they are made unique.
        fold_at: usize,
    },
    Bits(Bits),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::list(List::default())
    }
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
            own.to_vec()
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

    /// Appends the bytes of a group's numbers, which go: there is no need for both. A list is written as it is: whoever merges it
    /// makes it unique anyway, and it is at most four times as long as it would be then.
    pub fn encode(&mut self, group: usize, out: &mut Vec<u8>) {
        self.change(group, |own, _| std::mem::take(own).encode(out));
    }

    /// How many bytes [`encode`](Self::encode) makes of the first `count` groups.
    #[must_use]
    pub fn encoded_bytes(&self, count: usize) -> usize {
        let own = self.groups.iter().take(count).map(|own| HEAD_BYTES + own.bytes());
        own.sum::<usize>() + HEAD_BYTES * count.saturating_sub(self.groups.len())
    }

    /// Adds the numbers behind bytes that [`encode`](Self::encode) wrote; `None` for others.
    pub fn merge(&mut self, group: usize, bytes: &[u8]) -> Option<()> {
        let other = Numbers::decoded(&mut Reader::new(bytes))?;
        self.change(group, |own, room| own.unite(other, room));
        Some(())
    }
}

impl Numbers {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::List { numbers, .. } => numbers.heap_bytes(),
            Self::Bits(bits) => bits.words.capacity() * size_of::<u64>(),
        }
    }

    /// Bytes of the numbers alone.
    fn bytes(&self) -> usize {
        match self {
            Self::List { numbers, .. } => numbers.bytes(),
            Self::Bits(bits) => bits.words.len() * size_of::<u64>(),
        }
    }

    /// Appends its bytes: how they are written, what they count from, the numbers or words.
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::List { numbers: List::Near { upper, lower }, unique, .. } => {
                out.push(if unique == lower.len() { NEAR_IN_ORDER } else { NEAR_AS_CAME });
                put_i64(out, upper);
                out.extend(lower.iter().flat_map(|lower| lower.to_le_bytes()));
            }
            Self::List { numbers: List::Far(numbers), unique, .. } => {
                out.push(if unique == numbers.len() { IN_ORDER } else { AS_CAME });
                put_i64(out, 0);
                out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Self::Bits(bits) => {
                out.push(IN_BITS);
                put_i64(out, bits.base);
                bits.words.iter().for_each(|word| put_u64(out, *word));
            }
        }
    }

    fn decoded(from: &mut Reader<'_>) -> Option<Self> {
        let (form, base) = (from.byte()?, from.i64()?);
        let list = match form {
            IN_BITS => {
                let words = items(from.rest(), u64::from_le_bytes)?;
                return (base.rem_euclid(WORD as i64) == 0).then_some(Self::Bits(Bits { base, words }));
            }
            IN_ORDER | AS_CAME => List::Far(items(from.rest(), i64::from_le_bytes)?),
            NEAR_IN_ORDER | NEAR_AS_CAME => List::near(base, items(from.rest(), u32::from_le_bytes)?)?,
            _ => return None,
        };
        Some(match form {
            IN_ORDER | NEAR_IN_ORDER => Self::list(list),
            _ => Self::List { unique: 0, fold_at: NUMBERS_MIN.max(2 * list.len()), numbers: list },
        })
    }

    /// Adds a number where that needs no memory; whether it did.
    #[inline]
    fn add_at_hand(&mut self, number: i64) -> bool {
        match self {
            Self::List { numbers, .. } => numbers.push_at_hand(number),
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
        let (least, most) = numbers.range()?;
        let words = Bits::words_between(least, most);
        (words <= numbers.len().saturating_mul(WORDS_LOOKED_AT)).then(|| Bits::of(numbers, (least, words), std::mem::take(room)))
    }

    /// Makes the numbers of a list that has grown unique, unless nearly all of them are.
    fn shrink(&mut self, room: &mut Vec<u64>) {
        if let Self::List { numbers, fold_at, .. } = self
            && let Some((least, most)) = numbers.range()
            && Bits::words_between(least, most) > numbers.len() / 2
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
        let Some((least, most)) = numbers.range() else { return };
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
            _ => numbers.make_unique(),
        }
        *unique = numbers.len();
        // Where nearly all were different, looking again soon is wasted.
        let few_went = 4 * (before - *unique) < before;
        *fold_at = NUMBERS_MIN.max(if few_went { 4 } else { 2 } * *unique);
    }

    /// Numbers that are unique and in order.
    fn list(numbers: List) -> Self {
        Self::List { unique: numbers.len(), fold_at: NUMBERS_MIN.max(2 * numbers.len()), numbers }
    }

    fn unite(&mut self, other: Self, room: &mut Vec<u64>) {
        match (&mut *self, other) {
            (Self::List { numbers, .. }, other) if numbers.len() == 0 => *self = other,
            // Made unique later, many lists at a time.
            (Self::List { numbers, unique, fold_at }, Self::List { numbers: others, unique: others_unique, .. }) => {
                let both = *unique == numbers.len() && others_unique == others.len();
                let in_order = both && numbers.last() < others.first();
                numbers.append(&others);
                if in_order {
                    *unique = numbers.len();
                } else if numbers.len() >= *fold_at {
                    self.shrink(room);
                }
            }
            (Self::Bits(bits), other) => {
                if !matches!(&other, Self::Bits(other) if bits.unite(other)) {
                    self.add_all(&other.into_list(), room);
                }
            }
            (Self::List { numbers, .. }, other) => {
                let own = std::mem::take(numbers);
                *self = other;
                self.add_all(&own, room);
            }
        }
    }

    fn add_all(&mut self, numbers: &List, room: &mut Vec<u64>) {
        numbers.each(|number| {
            if !self.add_at_hand(number) {
                self.add(number, room);
            }
        });
    }

    fn count(&self) -> usize {
        match self {
            Self::List { numbers, .. } => numbers.len(),
            Self::Bits(bits) => bits.count(),
        }
    }

    fn to_vec(&self) -> Vec<i64> {
        match self {
            Self::List { numbers, .. } => numbers.to_vec(),
            Self::Bits(bits) => bits.to_list().to_vec(),
        }
    }

    fn into_list(self) -> List {
        match self {
            Self::List { numbers, .. } => numbers,
            Self::Bits(bits) => bits.to_list(),
        }
    }
}

/// Numbers of `N` bytes each.
fn items<const N: usize, T>(bytes: &[u8], of: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (items, []) = bytes.as_chunks::<N>() else { return None };
    Some(items.iter().map(|item| of(*item)).collect())
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
