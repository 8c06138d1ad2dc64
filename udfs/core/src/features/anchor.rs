//! Anchors: where a history is cut into what is known and what is to be predicted.
//!
//! With watermark W (the largest event time) and horizon H, features come from events ≤ anchor and the label from
//! (anchor, anchor + H]. Windows of different parts never overlap the anchors after them:
//!
//! ```text
//! train anchors … W−3H−2A, W−3H−A, W−3H │ validation W−2H │ test W−H │ watermark W
//!                      (labels end ≤ W−2H)   (≤ W−H)         (≤ W)
//! ```
//!
//! `next_event` and `next_item` have an anchor at every distinct event time instead; their parts are cut at the 80 %
//! and 90 % quantiles of the anchors, and rows whose label lies beyond the cut are purged and counted.

use super::events::Events;
use super::inputs::Rows;
use crate::kernels::intern::NULL_CODE;
use crate::kernels::quantile::quantile_us;

/// Training anchors on the grid at most; the latest ones.
pub const TRAIN_ANCHORS_MAX: usize = 1000;

/// The anchors of targets with a horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The largest event time.
    pub watermark_us: i64,
    /// The length of label windows.
    pub horizon_us: i64,
    /// The step between training anchors.
    pub every_us: i64,
}

impl Grid {
    /// The anchors with their parts, latest first.
    pub fn anchors(self) -> impl Iterator<Item = (i64, Rows)> {
        let back = move |horizons: i64| self.watermark_us.saturating_sub(self.horizon_us.saturating_mul(horizons));
        let train =
            (0..TRAIN_ANCHORS_MAX as i64).map(move |step| (back(3).saturating_sub(self.every_us.saturating_mul(step)), Rows::Train));
        [(back(1), Rows::Test), (back(2), Rows::Validation)].into_iter().chain(train)
    }
}

/// One labelled row before encoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// Index of the user.
    pub(super) user: u32,
    /// Events of the user at or before the anchor.
    pub(super) end: u32,
    /// The anchor.
    pub(super) anchor_us: i64,
    /// When the label is settled.
    pub(super) settled_us: i64,
    /// A class code (exact in a double) or a number.
    pub(super) label: f64,
    /// Its part.
    pub(super) part: Rows,
}

/// The label code of [`super::target::NONE_CLASS`] for `next_event` and `next_item`.
pub(super) const NONE_CODE: f64 = NULL_CODE as f64;

/// Which numbers a sum adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summand {
    Value,
    Extra(usize),
}

/// A target whose names are codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    NextEvent,
    NextItem,
    /// `None` matches every event: a source without an event column holds one type.
    Event(Option<u32>),
    Ladder(Vec<u32>),
    Count(Option<u32>),
    Sum(Summand, Option<u32>),
    Nothing,
}

/// Cuts histories into rows.
#[derive(Debug, Clone)]
pub(super) struct Cutter {
    pub(super) question: Question,
    pub(super) grid: Grid,
    pub(super) min_history: usize,
    /// Rows at these anchors only (ascending), all of them test rows; at event times: within their range.
    pub(super) only: Option<Vec<i64>>,
}

/// The first index whose time is after `time_us`, searching from `from` on.
fn after(times_us: &[i64], from: usize, time_us: i64) -> usize {
    from + times_us[from..].partition_point(|time| *time <= time_us)
}

impl Cutter {
    /// Appends the rows of a user, anchors ascending; returns how many were censored.
    pub(super) fn cut(&self, user: u32, events: &Events<'_>, rows: &mut Vec<Row>) -> u64 {
        if events.times_us.len() < self.min_history {
            return 0;
        }
        match self.question {
            Question::NextEvent | Question::NextItem => self.cut_at_events(user, events, rows),
            Question::Nothing => {
                let (end, anchor_us) = (events.times_us.len() as u32, self.grid.watermark_us);
                rows.push(Row { user, end, anchor_us, settled_us: anchor_us, label: 0.0, part: Rows::Train });
                0
            }
            _ => self.cut_on_grid(user, events, rows),
        }
    }

    fn cut_on_grid(&self, user: u32, events: &Events<'_>, rows: &mut Vec<Row>) -> u64 {
        let first = rows.len();
        let known_from_us = events.times_us[self.min_history - 1];
        let anchors: Box<dyn Iterator<Item = (i64, Rows)>> = match &self.only {
            Some(only) => Box::new(only.iter().rev().map(|anchor_us| (*anchor_us, Rows::Test))),
            None => Box::new(self.grid.anchors()),
        };
        let mut censored = 0;
        for (anchor_us, part) in anchors.take_while(|(anchor_us, _)| *anchor_us >= known_from_us) {
            let end = after(events.times_us, 0, anchor_us);
            let settled_us = anchor_us.saturating_add(self.grid.horizon_us);
            if settled_us > self.grid.watermark_us {
                censored += 1;
                continue;
            }
            let label = self.label(events, end, after(events.times_us, end, settled_us));
            rows.push(Row { user, end: end as u32, anchor_us, settled_us, label, part });
        }
        rows[first..].reverse();
        // A user who appeared after the last anchor has one state, and its window is not over.
        if self.only.is_none() { u64::from(rows.len() == first) } else { censored }
    }

    fn cut_at_events(&self, user: u32, events: &Events<'_>, rows: &mut Vec<Row>) -> u64 {
        let codes = if self.question == Question::NextItem { events.items } else { events.events };
        let (from_us, to_us) = match self.only.as_deref() {
            Some([]) => return 0,
            Some(only) => (only[0], only[only.len() - 1]),
            None => (i64::MIN, i64::MAX),
        };
        let part = if self.only.is_some() { Rows::Test } else { Rows::Train };
        let mut censored = 0;
        let mut end = 0;
        let mut next = 0;
        while end < events.times_us.len() {
            let anchor_us = events.times_us[end];
            end = after(events.times_us, end, anchor_us);
            if end < self.min_history || anchor_us < from_us || anchor_us > to_us {
                continue;
            }
            next = next.max(end);
            while next < codes.len() && codes[next] == NULL_CODE {
                next += 1;
            }
            let until_us = anchor_us.saturating_add(self.grid.horizon_us);
            let found = (next < codes.len() && events.times_us[next] <= until_us).then(|| (f64::from(codes[next]), events.times_us[next]));
            let observed = (until_us <= self.grid.watermark_us).then_some((NONE_CODE, until_us));
            match found.or(observed) {
                Some((label, settled_us)) => rows.push(Row { user, end: end as u32, anchor_us, settled_us, label, part }),
                None => censored += 1,
            }
        }
        censored
    }

    /// The label from the events `start..end`, which are those of the window.
    fn label(&self, events: &Events<'_>, start: usize, end: usize) -> f64 {
        let is = |index: usize, event: Option<u32>| event.is_none_or(|event| events.events.get(index) == Some(&event));
        match &self.question {
            Question::Event(event) => f64::from(u8::from((start..end).any(|index| is(index, *event)))),
            Question::Count(event) => (start..end).filter(|index| is(*index, *event)).count() as f64,
            Question::Ladder(stages) => {
                let depth =
                    |index: usize| stages.iter().rposition(|stage| events.events.get(index) == Some(stage)).map_or(0, |depth| depth + 1);
                (start..end).map(depth).max().unwrap_or(0) as f64
            }
            Question::Sum(summand, event) => {
                let number = |index: usize| match summand {
                    Summand::Value => events.values.get(index).copied(),
                    Summand::Extra(column) => match events.extras.get(*column) {
                        Some(super::events::Extra::Number(values)) => values.get(events.offset + index).copied(),
                        _ => None,
                    },
                };
                (start..end).filter(|index| is(*index, *event)).filter_map(number).filter(|number| !number.is_nan()).sum()
            }
            Question::NextEvent | Question::NextItem | Question::Nothing => 0.0,
        }
    }
}

/// Cuts rows at event times into parts by the quantiles of their anchors, and purges the rows whose label is settled
/// after their part's end. Returns how many were purged.
pub(super) fn split_by_time(rows: &mut Vec<Row>) -> u64 {
    let mut anchors: Vec<i64> = rows.iter().map(|row| row.anchor_us).collect();
    let (Some(first), Some(second)) = (quantile_us(&mut anchors, 0.8), quantile_us(&mut anchors, 0.9)) else { return 0 };
    let before = rows.len();
    rows.retain_mut(|row| {
        let (part, until_us) = match row.anchor_us {
            anchor if anchor <= first => (Rows::Train, first),
            anchor if anchor <= second => (Rows::Validation, second),
            _ => (Rows::Test, i64::MAX),
        };
        row.part = part;
        row.settled_us <= until_us
    });
    (before - rows.len()) as u64
}

#[cfg(test)]
mod tests;
