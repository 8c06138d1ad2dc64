//! How many different whole numbers many groups have, exactly.
//!
//! Each group's numbers are appended to a list; when it has grown to twice what was left the last time they are made unique, so
//! memory grows with the different numbers. Numbers that lie close together are made unique by bits, others by sorting.

/// Numbers of a group that are kept as they come in any case.
const NUMBERS_MIN: usize = 1 << 12;
/// Words of a bit set per number, at most: beyond, sorting is less work.
const WORDS_PER_NUMBER: usize = 4;

/// The numbers of a group.
#[derive(Debug, Clone, Default)]
struct Numbers {
    numbers: Vec<i64>,
    /// How many of them were made unique the last time.
    unique: usize,
}

/// The numbers of groups `0..n`. 8 bytes each.
#[derive(Debug, Clone, Default)]
pub struct Distinct {
    groups: Vec<Numbers>,
    capacity: usize,
    bits: Vec<u64>,
}

impl Distinct {
    /// Adds a number. Amortised O(1).
    #[inline]
    pub fn add(&mut self, group: usize, number: i64) {
        if group >= self.groups.len() {
            self.groups.resize_with(group + 1, Numbers::default);
        }
        let Some(own) = self.groups.get_mut(group) else { return };
        if own.numbers.len() == own.numbers.capacity() {
            if own.numbers.len() >= NUMBERS_MIN.max(2 * own.unique) {
                own.fold(&mut self.bits);
            }
            let before = own.numbers.capacity();
            own.numbers.reserve(1);
            self.capacity += own.numbers.capacity() - before;
        }
        own.numbers.push(number);
    }

    /// The different numbers of a group, in order. O(numbers), O(n log n) where they lie far apart.
    pub fn of(&mut self, group: usize) -> &[i64] {
        match self.groups.get_mut(group) {
            Some(own) => {
                own.fold(&mut self.bits);
                &own.numbers
            }
            None => &[],
        }
    }

    /// Forgets the first `count` groups; group `count` becomes group 0.
    pub fn forget(&mut self, count: usize) {
        let gone = self.groups.drain(..count.min(self.groups.len()));
        self.capacity -= gone.map(|own| own.numbers.capacity()).sum::<usize>();
    }

    /// Bytes on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Numbers>() + (self.capacity + self.bits.capacity()) * size_of::<i64>()
    }
}

impl Numbers {
    fn fold(&mut self, bits: &mut Vec<u64>) {
        if self.unique < self.numbers.len() {
            self.unique = unique(&mut self.numbers, bits);
            self.numbers.truncate(self.unique);
        }
    }
}

/// Moves the different numbers to the front, in order; how many they are. `bits` is room that is used again.
fn unique(numbers: &mut [i64], bits: &mut Vec<u64>) -> usize {
    let (Some(least), Some(most)) = (numbers.iter().min().copied(), numbers.iter().max()) else { return 0 };
    let words = usize::try_from(most.abs_diff(least) / 64 + 1).unwrap_or(usize::MAX);
    if words > numbers.len().saturating_mul(WORDS_PER_NUMBER) {
        numbers.sort_unstable();
        let mut kept = 1;
        for at in 1..numbers.len() {
            if numbers[at] != numbers[kept - 1] {
                numbers[kept] = numbers[at];
                kept += 1;
            }
        }
        return kept;
    }
    bits.clear();
    bits.resize(words, 0);
    for number in &*numbers {
        let bit = number.abs_diff(least);
        bits[(bit / 64) as usize] |= 1 << (bit % 64);
    }
    let mut kept = 0;
    for (word, found) in bits.iter().enumerate() {
        let mut left = *found;
        while left != 0 {
            numbers[kept] = least.wrapping_add((word as u64 * 64 + u64::from(left.trailing_zeros())).cast_signed());
            kept += 1;
            left &= left - 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn as_a_set_has_them() {
        for seed in 0..10_000_u64 {
            let shift = [61, 56, 30, 0][seed as usize % 4];
            let (mut whole, mut expected) = (Distinct::default(), vec![BTreeSet::new(); 4]);
            for i in 0..splitmix::at(seed, 0) % 60 {
                let (group, number) = (splitmix::at(seed, 2 * i + 1) as usize % 4, (splitmix::at(seed, 2 * i + 2) >> shift).cast_signed());
                whole.add(group, number);
                expected[group].insert(number);
                if splitmix::at(seed, 900 + i).is_multiple_of(9) {
                    whole.of(group);
                }
            }
            for (group, expected) in expected.iter().enumerate() {
                assert!(whole.of(group).iter().eq(expected), "seed {seed}: {:?} is not {expected:?}", whole.of(group));
            }
            whole.forget(2);
            assert!(whole.of(0).iter().eq(&expected[2]) && whole.of(9).is_empty());
        }
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
