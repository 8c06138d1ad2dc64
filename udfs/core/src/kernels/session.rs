//! Sessions: stretches of events whose neighbours are at most a gap apart.

/// Counts sessions in time order. O(1) state and O(1) per event. A gap of exactly `gap_us` stays in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCounter {
    gap_us: i64,
    last_us: Option<i64>,
    start_us: i64,
    sessions: u64,
    closed_length_us: i64,
}

impl SessionCounter {
    /// A counter whose sessions end after `gap_us` without an event.
    #[must_use]
    pub const fn new(gap_us: i64) -> Self {
        Self { gap_us, last_us: None, start_us: 0, sessions: 0, closed_length_us: 0 }
    }

    /// Adds an event that is not earlier than the last one.
    pub const fn update(&mut self, time_us: i64) {
        match self.last_us {
            Some(last) if time_us.saturating_sub(last) <= self.gap_us => {}
            Some(last) => {
                self.closed_length_us = self.closed_length_us.saturating_add(last.saturating_sub(self.start_us));
                self.start_us = time_us;
                self.sessions += 1;
            }
            None => {
                self.start_us = time_us;
                self.sessions = 1;
            }
        }
        self.last_us = Some(time_us);
    }

    /// Sessions so far, the current one included.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Mean length in microseconds from a session's first to its last event; zero without events.
    #[must_use]
    pub fn mean_length_us(&self) -> f64 {
        match self.last_us {
            Some(last) => self.closed_length_us.saturating_add(last.saturating_sub(self.start_us)) as f64 / self.sessions as f64,
            None => 0.0,
        }
    }
}

/// Numbers sessions from 1 along a user's events, in either direction of time. O(1) state and O(1) per event.
///
/// A session ends when the next event is more than the gap away, when it would be longer than allowed (both limits are
/// inclusive), or where an event splits it.
#[derive(Debug, Clone, Copy)]
pub struct SessionNumbers {
    gap: u64,
    longest: Option<u64>,
    number: i64,
    start: i64,
    last: i64,
}

impl SessionNumbers {
    /// Sessions with at most `gap` between neighbours and at most `longest` from the first to the last event.
    #[must_use]
    pub const fn new(gap: u64, longest: Option<u64>) -> Self {
        Self { gap, longest, number: 0, start: 0, last: 0 }
    }

    /// The session of the next event; `split` begins one in any case.
    pub const fn next(&mut self, time: i64, split: bool) -> i64 {
        let over = match self.longest {
            Some(longest) => time.abs_diff(self.start) > longest,
            None => false,
        };
        if self.number == 0 || split || over || time.abs_diff(self.last) > self.gap {
            self.number += 1;
            self.start = time;
        }
        self.last = time;
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_numbered_from_one() {
        let numbers = |gap, longest, times: &[i64]| {
            let mut sessions = SessionNumbers::new(gap, longest);
            times.iter().map(|time| sessions.next(*time, *time == 99)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(30, None, &[0, 30, 60, 91, 91, 200]), [1, 1, 1, 2, 2, 3]);
        assert_eq!(numbers(30, Some(50), &[0, 30, 50, 60, 80]), [1, 1, 1, 2, 2]);
        assert_eq!(numbers(30, None, &[80, 99, 100]), [1, 2, 2]);
        assert_eq!(numbers(30, Some(50), &[80, 60, 50, 30, 0]), [1, 1, 1, 1, 2], "time may run backwards");
        assert_eq!(numbers(u64::MAX, Some(u64::MAX), &[i64::MIN, i64::MAX]), [1, 1]);
        assert_eq!(numbers(0, None, &[5, 5, 6]), [1, 1, 2]);
    }

    #[test]
    fn a_gap_of_exactly_the_limit_stays() {
        let mut counter = SessionCounter::new(30);
        assert_eq!((counter.sessions(), counter.mean_length_us()), (0, 0.0));
        for time in [0, 30, 60, 91, 91, 200] {
            counter.update(time);
        }
        assert_eq!(counter.sessions(), 3); // 0..60, 91..91, 200
        assert!((counter.mean_length_us() - 20.0).abs() < 1e-9);
    }
}
