//! The heaviest values of many groups, exactly: by total weight, then by value.
//!
//! Values are byte strings whose order is the values' order. Whole weights add up as 128-bit integers, doubles as
//! [`ExactSum`]s, so the totals depend on no order. Memory grows with the distinct pairs of group and value.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::exact_sum::ExactSum;

/// A weight, or a total of weights. One call has weights of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Weight {
    /// Counts, integers and decimals of one scale.
    Whole(i128),
    /// Finite doubles.
    Double(ExactSum),
}

impl Weight {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.compare(b),
            (Self::Whole(_), Self::Double(_)) => Ordering::Less,
            (Self::Double(_), Self::Whole(_)) => Ordering::Greater,
        }
    }

    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::Whole(total), Self::Whole(more)) => *total = total.saturating_add(more),
            (Self::Double(total), Self::Double(more)) => more.parts().iter().for_each(|part| total.add(*part)),
            (_, more) => *self = more,
        }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    group: u32,
    value: u32,
    weight: Weight,
}

/// Totals by group and value.
#[derive(Debug, Clone, Default)]
pub struct TopK {
    ids: HashMap<Box<[u8]>, u32>,
    values: Vec<Box<[u8]>>,
    places: HashMap<(u32, u32), u32>,
    slots: Vec<Slot>,
    bytes: usize,
}

/// What a value costs beside its bytes: two fat pointers and an id.
const VALUE_BYTES: usize = 2 * size_of::<Box<[u8]>>() + size_of::<u32>() + 8;
/// What a pair of group and value costs.
const SLOT_BYTES: usize = size_of::<Slot>() + size_of::<((u32, u32), u32)>() + 8;

impl TopK {
    /// Adds a weight. Amortised O(bytes of the value).
    pub fn add(&mut self, group: u32, value: &[u8], weight: Weight) {
        let id = match self.ids.get(value) {
            Some(id) => *id,
            None => {
                let id = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
                self.ids.insert(value.into(), id);
                self.values.push(value.into());
                self.bytes += 2 * value.len() + VALUE_BYTES;
                id
            }
        };
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        match self.places.entry((group, id)) {
            std::collections::hash_map::Entry::Occupied(found) => {
                if let Some(slot) = self.slots.get_mut(*found.get() as usize) {
                    slot.weight.add(weight);
                }
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(next);
                self.bytes += SLOT_BYTES + if let Weight::Double(sum) = &weight { sum.heap_bytes().max(16) } else { 0 };
                self.slots.push(Slot { group, value: id, weight });
            }
        }
    }

    /// Shows the totals of the groups below `count`: group by group, the heaviest first, ties by value. O(n log n).
    pub fn each(&mut self, count: usize, show: &mut dyn FnMut(usize, &[u8], &Weight)) {
        let values = &self.values;
        let mut order: Vec<&Slot> = self.slots.iter().filter(|slot| (slot.group as usize) < count).collect();
        order.sort_unstable_by(|a, b| {
            let (left, right) = (&values[a.value as usize], &values[b.value as usize]);
            a.group.cmp(&b.group).then_with(|| b.weight.compare(&a.weight)).then_with(|| left.cmp(right))
        });
        for slot in order {
            show(slot.group as usize, &values[slot.value as usize], &slot.weight);
        }
    }

    /// Forgets the groups below `count`; group `count` becomes group 0. O(n) when some stay.
    pub fn forget(&mut self, count: usize) {
        let old = std::mem::take(self);
        for slot in old.slots.into_iter().filter(|slot| slot.group as usize >= count) {
            let group = u32::try_from(slot.group as usize - count).unwrap_or(0);
            self.add(group, &old.values[slot.value as usize], slot.weight);
        }
    }

    /// Bytes on the heap, estimated from below by less than the tables' spare room.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn top(counts: &mut TopK, group: usize) -> Vec<(String, i128)> {
        let mut found = vec![];
        counts.each(usize::MAX, &mut |of, value, weight| {
            if let (true, Weight::Whole(weight)) = (of == group, weight) {
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
        assert_eq!(top(&mut counts, 0), pairs(&[("c", 2), ("a", 1), ("b", 1)]));
        counts.forget(1);
        assert_eq!(top(&mut counts, 0), pairs(&[("z", 1)]));
        counts.forget(1);
        assert_eq!(counts.heap_bytes(), 0);
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
            for part in parts.iter_mut().rev() {
                part.each(1, &mut |_, value, weight| merged.add(0, value, weight.clone()));
            }
            assert_eq!(top(&mut merged, 0), top(&mut whole, 0));
        }
    }
}
