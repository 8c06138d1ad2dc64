//! The heaviest values of many groups, exactly: by total weight, then by value.
//!
//! Values are byte strings whose order is the values' order. Whole weights add up as 128-bit integers, doubles as
//! [`ExactSum`]s, so the totals depend on no order. Memory grows with the distinct pairs of group and value.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;

use super::exact_sum::ExactSum;
use crate::kernels::intern::Interner;
use crate::kernels::number_hash::NumberMap;

/// What a row adds. One call has weights of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// Counts, integers and decimals of one scale.
    Whole(i128),
    /// Finite doubles.
    Double(f64),
}

/// A total of weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Total {
    /// Of whole weights.
    Whole(i128),
    /// Of doubles.
    Double(ExactSum),
}

impl Total {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.compare(b),
            (Self::Whole(_), Self::Double(_)) => Ordering::Less,
            (Self::Double(_), Self::Whole(_)) => Ordering::Greater,
        }
    }

    fn add(&mut self, more: Weight) {
        match (&mut *self, more) {
            (Self::Whole(total), Weight::Whole(more)) => *total = total.saturating_add(more),
            (Self::Double(total), Weight::Double(more)) => total.add(more),
            (_, more) => *self = Self::from(more),
        }
    }
}

impl From<Weight> for Total {
    fn from(weight: Weight) -> Self {
        match weight {
            Weight::Whole(whole) => Self::Whole(whole),
            Weight::Double(double) => {
                let mut sum = ExactSum::default();
                sum.add(double);
                Self::Double(sum)
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    group: u32,
    value: u32,
    total: Total,
}

/// Totals by group and value.
#[derive(Debug, Clone, Default)]
pub struct TopK {
    values: Interner,
    places: NumberMap<(u32, u32), u32>,
    slots: Vec<Slot>,
    /// What the sums of doubles hold.
    parts: usize,
}

impl TopK {
    /// Adds a weight. Amortised O(bytes of the value).
    pub fn add(&mut self, group: u32, value: &[u8], weight: Weight) {
        let value = self.values.intern_bytes(value);
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        match self.places.entry((group, value)) {
            Entry::Occupied(found) => {
                if let Some(slot) = self.slots.get_mut(*found.get() as usize) {
                    slot.total.add(weight);
                }
            }
            Entry::Vacant(place) => {
                place.insert(next);
                self.parts += if let Weight::Double(_) = weight { 4 * size_of::<f64>() } else { 0 };
                self.slots.push(Slot { group, value, total: Total::from(weight) });
            }
        }
    }

    /// Shows the totals of the groups below `count`: group by group, the heaviest first, ties by value. O(n log n).
    pub fn each(&self, count: usize, show: &mut dyn FnMut(usize, &[u8], &Total)) {
        let values = &self.values;
        let mut order: Vec<&Slot> = self.slots.iter().filter(|slot| (slot.group as usize) < count).collect();
        order.sort_unstable_by(|a, b| {
            let by_weight = a.group.cmp(&b.group).then_with(|| b.total.compare(&a.total));
            by_weight.then_with(|| values.bytes_of(a.value).cmp(values.bytes_of(b.value)))
        });
        for slot in order {
            show(slot.group as usize, values.bytes_of(slot.value), &slot.total);
        }
    }

    /// Forgets the groups below `count`; group `count` becomes group 0. O(n) when some stay.
    pub fn forget(&mut self, count: usize) {
        let mut old = std::mem::take(self);
        old.slots.retain(|slot| slot.group as usize >= count);
        if old.slots.is_empty() {
            return;
        }
        let shift = u32::try_from(count).unwrap_or(u32::MAX);
        self.parts = old.parts;
        for mut slot in old.slots {
            slot.group = slot.group.saturating_sub(shift);
            slot.value = self.values.intern_bytes(old.values.bytes_of(slot.value));
            self.places.insert((slot.group, slot.value), u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
            self.slots.push(slot);
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let place = size_of::<((u32, u32), u32)>() + 1;
        self.values.bytes() + self.places.capacity() * place + self.slots.capacity() * size_of::<Slot>() + self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn top(counts: &TopK, group: usize) -> Vec<(String, i128)> {
        let mut found = vec![];
        counts.each(usize::MAX, &mut |of, value, weight| {
            if let (true, Total::Whole(weight)) = (of == group, weight) {
                found.push((String::from_utf8_lossy(value).into_owned(), *weight));
            }
        });
        found
    }

    #[test]
    fn ties_are_broken_by_value() {
        let mut counts = TopK::default();
        for (group, value) in [(0, "b"), (0, "a"), (1, "z"), (0, "c"), (0, "c")] {
            counts.add(group, value.as_bytes(), Weight::Whole(1));
        }
        let pairs = |list: &[(&str, i128)]| list.iter().map(|(value, weight)| ((*value).to_owned(), *weight)).collect::<Vec<_>>();
        assert_eq!(top(&counts, 0), pairs(&[("c", 2), ("a", 1), ("b", 1)]));
        counts.forget(1);
        assert_eq!(top(&counts, 0), pairs(&[("z", 1)]));
        counts.forget(1);
        assert_eq!(counts.slots.len(), 0);
    }

    #[test]
    fn splits_do_not_matter() {
        for seed in 0..10_000 {
            let rows: Vec<(u8, i128)> =
                (0..12).map(|i| ((splitmix::at(seed, i) % 5) as u8, (splitmix::at(seed, 50 + i) % 4) as i128 - 1)).collect();
            let (mut whole, mut parts) = (TopK::default(), [TopK::default(), TopK::default()]);
            for (row, (value, weight)) in rows.iter().enumerate() {
                whole.add(0, &[*value], Weight::Whole(*weight));
                parts[(splitmix::at(seed, 99 + row as u64) % 2) as usize].add(0, &[*value], Weight::Whole(*weight));
            }
            let mut merged = TopK::default();
            for part in parts.iter().rev() {
                part.each(1, &mut |_, value, total| {
                    if let Total::Whole(total) = total {
                        merged.add(0, value, Weight::Whole(*total));
                    }
                });
            }
            assert_eq!(top(&merged, 0), top(&whole, 0));
        }
    }
}
