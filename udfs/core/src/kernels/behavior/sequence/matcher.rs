//! Finds a pattern in a history.

use super::pattern::{Comparison, Gap, Pattern, Token};
use crate::kernels::behavior::event_log::Event;

impl Comparison {
    /// Whether `to`, not before `from`, lies at such a distance.
    const fn holds(self, from: i64, to: i64, distance: u64) -> bool {
        let elapsed = to.wrapping_sub(from).cast_unsigned();
        match self {
            Self::Less => elapsed < distance,
            Self::AtMost => elapsed <= distance,
            Self::More => elapsed > distance,
            Self::AtLeast => elapsed >= distance,
            Self::Equal => elapsed == distance,
            Self::NotEqual => elapsed != distance,
        }
    }
}

/// Scratch of a search, kept between histories.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Per row: bit `i` when event `i` of the pattern can stand there and the rest can follow.
    can: Vec<u64>,
}

/// Where a match lies.
struct Match {
    /// The row from which the next search goes on.
    resume: usize,
}

/// What a gap needs to know of the rows behind the one at hand, for one event of the pattern.
#[derive(Clone, Copy)]
struct Ahead {
    /// Times of the nearest and the farthest row where the event can stand.
    near: i64,
    far: i64,
    any: bool,
}

impl Pattern {
    /// Whether the pattern occurs. `events` are sorted and satisfy some condition each.
    #[must_use]
    pub fn matches(&self, events: &[Event], search: &mut Search) -> bool {
        self.look(events, search);
        self.tokens.is_empty() || search.can.iter().any(|can| can & 1 != 0)
    }

    /// How often it occurs without overlap: the search goes on behind each match, and one row further behind an empty one.
    #[must_use]
    pub fn count(&self, events: &[Event], search: &mut Search) -> u64 {
        if self.tokens.is_empty() {
            return events.len() as u64;
        }
        self.look(events, search);
        let (mut from, mut found) = (0, 0);
        while let Some(place) = self.earliest(events, &search.can, from, &mut |_| {}) {
            found += 1;
            from = place.resume;
        }
        found
    }

    /// The times of the earliest match, one for each `(?N)`; `None` when there is none.
    #[must_use]
    pub fn first(&self, events: &[Event], search: &mut Search) -> Option<Vec<i64>> {
        self.look(events, search);
        let mut rows = vec![];
        let found = self.tokens.is_empty() || self.earliest(events, &search.can, 0, &mut |row| rows.push(row)).is_some();
        let named = rows.iter().zip(&self.tokens).filter(|(_, token)| token.bits != u64::MAX);
        found.then(|| named.map(|(row, _)| events[*row].time).collect())
    }

    /// Fills `search.can`, from the last row to the first.
    fn look(&self, events: &[Event], search: &mut Search) {
        search.can.clear();
        search.can.resize(events.len(), 0);
        let mut ahead = [Ahead { near: 0, far: 0, any: false }; super::pattern::EVENTS_MAX];
        // For `==`: the times of the rows where the next event can stand, the latest first.
        let mut stands: Vec<Vec<i64>> = vec![vec![]; self.tokens.len()];
        for row in (0..events.len()).rev() {
            let mut can = 0;
            for (index, token) in self.tokens.iter().enumerate() {
                if events[row].mask & token.bits == 0 {
                    continue;
                }
                let next = ahead.get(index + 1).filter(|_| index + 1 < self.tokens.len());
                let follows = match next {
                    Some(next) => token.gap.follows(events, &search.can, (row, index), (*next, &stands[index])),
                    None => token.gap.ends(events, row),
                };
                can |= u64::from(follows) << index;
            }
            search.can[row] = can;
            let time = events[row].time;
            while can != 0 {
                let index = can.trailing_zeros() as usize;
                can &= can - 1;
                if let Some(before) = index.checked_sub(1).filter(|before| self.tokens[*before].gap.is_equal()) {
                    stands[before].push(time);
                }
                let next = &mut ahead[index];
                *next = Ahead { near: time, far: if next.any { next.far } else { time }, any: true };
            }
        }
    }

    /// The match whose rows come earliest, the first event before the second and so on, at `from` or later.
    fn earliest(&self, events: &[Event], can: &[u64], from: usize, seen: &mut dyn FnMut(usize)) -> Option<Match> {
        let mut row = (from..events.len()).find(|row| can[*row] & 1 != 0)?;
        seen(row);
        for (index, Token { gap, .. }) in self.tokens.iter().enumerate() {
            let last = index + 1 == self.tokens.len();
            let time = events[row].time;
            let begin = match gap {
                Gap::None | Gap::Any => row + 1,
                // The row at which the distance holds; for `<` it is the next one.
                Gap::Time { comparison, distance, .. } => {
                    (row + 1..events.len()).find(|at| comparison.holds(time, events[*at].time, *distance)).unwrap_or(events.len())
                }
            };
            if last {
                return Some(Match { resume: begin.max(row + 1) });
            }
            row = (begin..events.len()).find(|at| {
                let holds = match gap {
                    Gap::Time { comparison, distance, then_any: false } => comparison.holds(time, events[*at].time, *distance),
                    _ => true,
                };
                holds && can[*at] & (1 << (index + 1)) != 0
            })?;
            seen(row);
        }
        Some(Match { resume: row + 1 })
    }
}

impl Gap {
    const fn is_equal(self) -> bool {
        matches!(self, Self::Time { comparison: Comparison::Equal, then_any: false, .. })
    }

    /// Whether the next event can follow the one at `row`.
    fn follows(self, events: &[Event], can: &[u64], (row, index): (usize, usize), (next, stands): (Ahead, &[i64])) -> bool {
        let time = events[row].time;
        let bit = 1 << (index + 1);
        match self {
            Self::None => can.get(row + 1).is_some_and(|can| can & bit != 0),
            Self::Any => next.any,
            Self::Time { .. } if !next.any => false,
            Self::Time { comparison: Comparison::Equal, distance, then_any } => {
                // With `.*` some row lies at the distance and the event stands there or later.
                time_at(events, row, distance).is_some_and(|target| match then_any {
                    true => next.far >= target,
                    false => stands.binary_search_by(|time| target.cmp(time)).is_ok(),
                })
            }
            Self::Time { comparison: comparison @ (Comparison::Less | Comparison::AtMost), distance, then_any } => {
                let nearest = if then_any { events.get(row + 1).map_or(next.near, |event| event.time) } else { next.near };
                comparison.holds(time, nearest, distance)
            }
            Self::Time { comparison, distance, then_any } => {
                let nearest = if then_any { events.get(row + 1).map_or(next.near, |event| event.time) } else { next.near };
                comparison.holds(time, next.far, distance)
                    || (comparison == Comparison::NotEqual && comparison.holds(time, nearest, distance))
            }
        }
    }

    /// Whether the pattern may end with this gap after the event at `row`. A time at the end asks for a row at that
    /// distance, which it does not take; a history that ends satisfies `<` and `<=`, and `>=` of nothing.
    fn ends(self, events: &[Event], row: usize) -> bool {
        let Self::Time { comparison, distance, .. } = self else { return true };
        let time = events[row].time;
        let last = events.last().map_or(time, |event| event.time);
        match (comparison, events.get(row + 1)) {
            (Comparison::Less | Comparison::AtMost, None) => true,
            (Comparison::AtLeast, None) => distance == 0,
            (_, None) => false,
            (Comparison::Less | Comparison::AtMost, Some(next)) => comparison.holds(time, next.time, distance),
            (Comparison::More | Comparison::AtLeast, Some(_)) => comparison.holds(time, last, distance),
            (Comparison::NotEqual, Some(next)) => comparison.holds(time, next.time, distance) || comparison.holds(time, last, distance),
            (Comparison::Equal, Some(_)) => time_at(events, row, distance).is_some(),
        }
    }
}

/// The time at `distance` behind `row` if some row behind it has that time. O(log rows).
fn time_at(events: &[Event], row: usize, distance: u64) -> Option<i64> {
    let target = events[row].time.checked_add_unsigned(distance)?;
    let behind = &events[row + 1..];
    let at = behind.partition_point(|event| event.time < target);
    behind.get(at).filter(|event| event.time == target).map(|_| target)
}
