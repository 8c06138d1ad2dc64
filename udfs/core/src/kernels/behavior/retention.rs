//! Retention: who came back, by condition or by calendar distance.

use super::event_log::Event;

/// Bit of a row that begins a user's stay.
pub const FIRST: u64 = 1;
/// Bit of a row that counts as coming back.
pub const ACTIVE: u64 = 2;

/// Condition `i` holds when the first one does too; `seen` are the conditions that some row of the user satisfied, and
/// their order in time does not matter.
#[must_use]
pub const fn retained(seen: u64, condition: usize) -> bool {
    seen & 1 != 0 && seen & (1 << condition) != 0
}

/// For every period in which the user began: the period and whether the user was active exactly `intervals[i]` periods
/// later. `events` hold periods as times, with [`FIRST`] and [`ACTIVE`], sorted. O(rows × intervals × log rows).
pub fn by_distance(events: &[Event], intervals: &[i64], found: &mut dyn FnMut(i64, &mut dyn Iterator<Item = bool>)) {
    let mut last = None;
    for event in events.iter().filter(|event| event.mask & FIRST != 0) {
        if last == Some(event.time) {
            continue;
        }
        last = Some(event.time);
        let mut active = intervals.iter().map(|interval| {
            let Some(period) = event.time.checked_add(*interval) else { return false };
            let at = events.partition_point(|other| other.time < period);
            events[at..].iter().take_while(|other| other.time == period).any(|other| other.mask & ACTIVE != 0)
        });
        found(event.time, &mut active);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_condition_is_needed() {
        assert!(retained(0b101, 0) && retained(0b101, 2) && !retained(0b101, 1) && !retained(0b110, 1));
    }

    #[test]
    fn distances_are_exact() {
        let events: Vec<Event> =
            [(10, FIRST), (10, FIRST | ACTIVE), (11, ACTIVE), (13, FIRST), (17, ACTIVE)].map(|(time, mask)| Event { time, mask }).to_vec();
        let mut rows = vec![];
        by_distance(&events, &[0, 1, 3, 7, i64::MAX], &mut |period, active| rows.push((period, active.collect::<Vec<_>>())));
        assert_eq!(rows, [(10, vec![true, true, false, true, false]), (13, vec![false, false, false, false, false])]);
    }
}
