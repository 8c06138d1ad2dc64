//! The events of many groups: which conditions held, and when.
//!
//! Columns of group, time and mask grow at the end, one entry for each row that matters. When the groups arrive one after
//! another nothing is ever moved; otherwise they are permuted in place. Within a group events are ordered
//! by time, then by mask: equal keys are equal events, so the order is total and no result can depend on arrival.

use std::fmt::Debug;

/// A row of a group: its time and the conditions that it satisfies, the first in bit 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// In the unit of the time column.
    pub time: i64,
    /// Bit `i` is set when condition `i` holds.
    pub mask: u64,
}

/// As few bytes as the number of conditions needs.
pub trait Mask: Copy + Debug + Default + Send + 'static {
    /// The low bits.
    fn narrow(mask: u64) -> Self;
    /// All bits.
    fn widen(self) -> u64;
}

macro_rules! mask {
    ($($width:ty),*) => {
        $(impl Mask for $width {
            #[allow(clippy::cast_possible_truncation, reason = "conditions above the width do not exist")]
            fn narrow(mask: u64) -> Self {
                mask as $width
            }

            #[allow(clippy::unnecessary_cast, reason = "one of the widths is 64")]
            fn widen(self) -> u64 {
                self as u64
            }
        })*
    };
}
mask!(u8, u16, u32, u64);

/// Events of which a copy is small beside everything else.
const EVENTS_COPIED: usize = 1 << 18;

/// Events of groups `0..n`. 8 bytes for a time, 4 for a group, 1 to 8 for a mask.
#[derive(Debug, Clone)]
pub struct EventLog<M> {
    groups: Vec<u32>,
    times: Vec<i64>,
    masks: Vec<M>,
    /// Whether the groups never step back.
    grouped: bool,
}

impl<M: Mask> Default for EventLog<M> {
    fn default() -> Self {
        Self { groups: Vec::new(), times: Vec::new(), masks: Vec::new(), grouped: true }
    }
}

impl<M: Mask> EventLog<M> {
    /// Adds an event. Amortised O(1).
    #[inline]
    pub fn push(&mut self, group: u32, time: i64, mask: M) {
        self.grouped &= self.groups.last().is_none_or(|last| *last <= group);
        self.groups.push(group);
        self.times.push(time);
        self.masks.push(mask);
    }

    /// Adds rows, each with its group, time and conditions; those that satisfy none only if `unmatched`. As many as the shortest has.
    pub fn extend_rows(&mut self, groups: &[usize], times: &[i64], masks: &[u64], unmatched: bool) {
        let from = self.groups.len();
        let count = groups.len().min(times.len()).min(masks.len());
        self.grow(from + count);
        let (own_groups, own_times, own_masks) = (&mut self.groups[from..], &mut self.times[from..], &mut self.masks[from..]);
        let mut at = 0;
        for ((group, time), mask) in groups.iter().zip(times).zip(masks) {
            #[allow(clippy::cast_possible_truncation, reason = "callers count groups with 32 bits")]
            let group = *group as u32;
            (own_groups[at], own_times[at], own_masks[at]) = (group, *time, M::narrow(*mask));
            // Written over by the next row if it does not count: what a row is cannot be foreseen.
            at += usize::from(unmatched | (*mask != 0));
        }
        self.grow(from + at);
        self.grouped &= self.groups[from.saturating_sub(1)..].is_sorted();
    }

    fn grow(&mut self, count: usize) {
        self.groups.resize(count, 0);
        self.times.resize(count, 0);
        self.masks.resize(count, M::default());
    }

    /// Adds the events of a group that another log held. `times` and `masks` are equally long.
    pub fn extend(&mut self, group: u32, times: &[i64], masks: &[M]) {
        let count = times.len().min(masks.len());
        if count == 0 {
            return;
        }
        self.grouped &= self.groups.last().is_none_or(|last| *last <= group);
        self.groups.resize(self.groups.len() + count, group);
        self.times.extend_from_slice(&times[..count]);
        self.masks.extend_from_slice(&masks[..count]);
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<u32>() + self.times.capacity() * size_of::<i64>() + self.masks.capacity() * size_of::<M>()
    }

    /// Brings the events of each group together and says where each of the first `count` groups begins: `count + 1`
    /// places. O(events + groups), and no copy when the groups arrived in order.
    pub fn arrange(&mut self, count: usize) -> Vec<usize> {
        if self.grouped {
            return self.ends_of_runs(count);
        }
        let highest = self.groups.iter().copied().max().map_or(0, |group| group as usize + 1);
        let mut ends = vec![0_usize; count.max(highest) + 1];
        for group in &self.groups {
            ends[*group as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        self.permute(&ends);
        ends.truncate(count + 1);
        ends
    }

    /// Where the first `count` groups begin, which never step back.
    fn ends_of_runs(&self, count: usize) -> Vec<usize> {
        let mut ends = Vec::with_capacity(count + 1);
        let mut at = 0;
        for run in self.groups.chunk_by(|group, next| group == next) {
            // Those before it that have no event begin here too.
            ends.resize((run[0] as usize + 1).min(count + 1).max(ends.len()), at);
            at += run.len();
        }
        ends.resize(count + 1, at);
        ends
    }

    /// Few events are copied to where they belong; of many each swap puts one there. `begins` is where each group begins.
    fn permute(&mut self, begins: &[usize]) {
        let mut next = begins.to_vec();
        self.grouped = true;
        if let Some(mask) = self.masks.first().copied().filter(|_| self.len() <= EVENTS_COPIED) {
            let (mut groups, mut times, mut masks) = (vec![0; self.len()], vec![0; self.len()], vec![mask; self.len()]);
            for ((group, time), mask) in self.groups.iter().zip(&self.times).zip(&self.masks) {
                let at = &mut next[*group as usize];
                (groups[*at], times[*at], masks[*at]) = (*group, *time, *mask);
                *at += 1;
            }
            (self.groups, self.times, self.masks) = (groups, times, masks);
            return;
        }
        for (group, end) in begins.iter().skip(1).enumerate() {
            while next[group] < *end {
                let at = next[group];
                let owner = self.groups[at] as usize;
                let to = next[owner];
                if owner != group {
                    self.groups.swap(at, to);
                    self.times.swap(at, to);
                    self.masks.swap(at, to);
                }
                next[owner] += 1;
            }
        }
    }

    /// The times and masks between two places of [`arrange`](Self::arrange), in no order.
    #[must_use]
    pub fn slices(&self, from: usize, to: usize) -> (&[i64], &[M]) {
        (&self.times[from..to], &self.masks[from..to])
    }

    /// Fills `events` with the events between two places, in order. O(n) when they arrived in order, else O(n log n).
    pub fn sorted_into(&self, from: usize, to: usize, events: &mut Vec<Event>) {
        events.clear();
        let (times, masks) = self.slices(from, to);
        events.extend(times.iter().zip(masks).map(|(time, mask)| Event { time: *time, mask: mask.widen() }));
        let follows = |pair: &[Event]| (pair[0].time < pair[1].time) | ((pair[0].time == pair[1].time) & (pair[0].mask <= pair[1].mask));
        if !events.windows(2).fold(true, |sorted, pair| sorted & follows(pair)) {
            events.sort_unstable();
        }
    }

    /// Forgets the first `count` groups; group `count` becomes group 0. Call after [`arrange`](Self::arrange), whose last
    /// place is `end`. O(events that stay).
    pub fn forget(&mut self, count: usize, end: usize) {
        if end == self.len() {
            *self = Self::default();
            return;
        }
        self.groups.drain(..end);
        self.times.drain(..end);
        self.masks.drain(..end);
        let shift = u32::try_from(count).unwrap_or(u32::MAX);
        for group in &mut self.groups {
            *group = group.saturating_sub(shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(log: &EventLog<u8>, places: &[usize], group: usize) -> Vec<(i64, u64)> {
        let mut found = vec![];
        log.sorted_into(places[group], places[group + 1], &mut found);
        found.iter().map(|event| (event.time, event.mask)).collect()
    }

    #[test]
    fn groups_come_together_whatever_the_order() {
        let mut log = EventLog::<u8>::default();
        for (group, time, mask) in [(2, 5, 1), (0, 9, 2), (2, 5, 0), (0, 1, 4), (2, 3, 7)] {
            log.push(group, time, mask);
        }
        let places = log.arrange(4);
        assert_eq!(places, [0, 2, 2, 5, 5]);
        assert_eq!(events(&log, &places, 0), [(1, 4), (9, 2)]);
        assert_eq!(events(&log, &places, 1), []);
        assert_eq!(events(&log, &places, 2), [(3, 7), (5, 0), (5, 1)]);
        assert_eq!(log.arrange(4), places, "arranging again changes nothing");
    }

    /// As many as are copied, and more, which are swapped.
    #[test]
    fn many_events_come_together() {
        for count in [1000_u32, EVENTS_COPIED as u32 + 1] {
            let mut log = EventLog::<u16>::default();
            let group = |i: u32| i.wrapping_mul(2_654_435_761) % 777;
            (0..count).for_each(|i| log.push(group(i), i64::from(i), (i % 1000) as u16));
            let places = log.arrange(777);
            let mut expected = vec![vec![]; 777];
            (0..count).for_each(|i| expected[group(i) as usize].push((i64::from(i), (i % 1000) as u16)));
            for (group, expected) in expected.iter().enumerate() {
                let (times, masks) = log.slices(places[group], places[group + 1]);
                let mut found: Vec<(i64, u16)> = times.iter().copied().zip(masks.iter().copied()).collect();
                found.sort_unstable();
                assert_eq!(&found, expected, "group {group} of {count}");
            }
        }
    }

    #[test]
    fn rows_by_the_batch_are_rows_one_by_one() {
        for unmatched in [false, true] {
            let (mut many, mut single) = (EventLog::<u8>::default(), EventLog::<u8>::default());
            for batch in 0..40_usize {
                let rows = 0..(batch * 7) % 50;
                let groups: Vec<usize> = rows.clone().map(|row| batch + row / 9 - usize::from(batch == 30)).collect();
                let times: Vec<i64> = rows.clone().map(|row| (row * 31 % 17) as i64 - 5).collect();
                let masks: Vec<u64> = rows.map(|row| (row as u64 * 13 + batch as u64) % 4).collect();
                many.extend_rows(&groups, &times, &masks, unmatched);
                for ((group, time), mask) in groups.iter().zip(&times).zip(&masks).filter(|(_, mask)| unmatched || **mask != 0) {
                    single.push(*group as u32, *time, *mask as u8);
                }
                assert_eq!((many.len(), many.grouped), (single.len(), single.grouped), "batch {batch}");
                let (mut a, mut b) = (many.clone(), single.clone());
                for count in [batch / 2, batch + 3, batch + 20] {
                    assert_eq!(a.arrange(count), b.arrange(count));
                }
                assert_eq!(a.slices(0, a.len()), b.slices(0, b.len()));
            }
        }
    }

    #[test]
    fn groups_without_events_begin_where_the_next_does() {
        let mut log = EventLog::<u8>::default();
        for group in [1, 1, 4, 6] {
            log.push(group, 0, 1);
        }
        assert_eq!(log.arrange(9), [0, 0, 2, 2, 2, 3, 3, 4, 4, 4]);
        assert_eq!(log.arrange(5), [0, 0, 2, 2, 2, 3]);
        assert_eq!(log.arrange(3), [0, 0, 2, 2]);
        assert_eq!(log.arrange(0), [0]);
    }

    #[test]
    fn the_first_groups_can_be_forgotten() {
        let mut log = EventLog::<u8>::default();
        for group in [0, 0, 1, 3] {
            log.push(group, i64::from(group), 1);
        }
        let places = log.arrange(2);
        log.forget(2, places[2]);
        let places = log.arrange(2);
        assert_eq!(events(&log, &places, 1), [(3, 1)]);
        log.push(1, 7, 1);
        log.push(0, 8, 1);
        let places = log.arrange(2);
        assert_eq!(events(&log, &places, 0), [(8, 1)]);
        log.forget(2, places[2]);
        assert!(log.is_empty() && log.heap_bytes() == 0);
    }

    #[test]
    fn one_byte_for_eight_conditions() {
        let mut log = EventLog::<u8>::default();
        log.extend(0, &[1; 1000], &[1; 1000]);
        assert!(log.heap_bytes() <= 1024 * 13, "{}", log.heap_bytes());
    }
}
