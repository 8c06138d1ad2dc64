//! Funnels: how many steps of a chain a user takes within a window.
//!
//! [`Mode`] reads the words and bits by which ClickHouse, Doris, StarRocks and DuckDB choose a rule; [`Funnel`] applies it to
//! one sorted history. `levels` holds the rules that remember one chain per step (ClickHouse's family), `plain` the
//! fastest loops for the commonest of them, `rows` those that walk from row to row (Doris, StarRocks). `SEMANTICS.md` tells them apart by example.

mod levels;
mod mode;
mod once;
mod plain;
mod rows;
#[cfg(test)]
mod tests;

use super::event_log::Event;

use mode::LevelRule;
pub use mode::{Dialect, Mode, ModeError};
use plain::Plain;

/// Steps and exclusions together fit into a mask.
pub const CONDITIONS_MAX: usize = 64;

/// An event that breaks chains: those that have taken step `from` but not yet step `to` (counted from 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exclusion {
    /// The bit of the event in the mask.
    pub bit: u32,
    /// The step after which it matters.
    pub from: usize,
    /// The step that ends its reach.
    pub to: usize,
}

/// A funnel: bits `0..steps` of a mask are its steps.
#[derive(Debug, Clone)]
pub struct Funnel {
    steps: usize,
    window: u64,
    mode: Mode,
    exclusions: Vec<Exclusion>,
    tracks: bool,
    /// Times of the chain that a run found, when it tracks.
    path: Vec<i64>,
    state: levels::State,
}

impl Funnel {
    /// A funnel of `steps` steps (1 to 64), the last at most `window` after the first (in the unit of the times).
    #[must_use]
    pub fn new(steps: usize, window: u64, mode: Mode) -> Self {
        let steps = steps.clamp(1, CONDITIONS_MAX);
        Self { steps, window, mode, exclusions: vec![], tracks: false, path: vec![], state: levels::State::new() }
    }

    /// The same with events that break chains; they belong to ClickHouse's family of rules.
    #[must_use]
    pub fn with_exclusions(mut self, exclusions: Vec<Exclusion>) -> Self {
        self.exclusions = exclusions;
        self
    }

    /// The same, remembering when each step was taken.
    #[must_use]
    pub fn tracking(mut self) -> Self {
        self.tracks = true;
        self
    }

    /// Whether rows that satisfy no condition change the result, so that they must be kept.
    #[must_use]
    pub fn needs_unmatched(&self) -> bool {
        self.mode.needs_unmatched()
    }

    /// How many steps the deepest chain takes. `events` are sorted. O(events × steps) at worst, usually O(events).
    pub fn depth(&mut self, events: &[Event]) -> usize {
        self.path.clear();
        match self.mode {
            Mode::Levels(rule) => self.levels(events, rule),
            Mode::Deduplication => self.deduplication_depth(events),
            Mode::Fixed { unmatched_break } => self.fixed_depth(events, unmatched_break),
            Mode::Bits(bits) => self.bits_depth(events, bits),
        }
    }

    /// ClickHouse's family: in a loop of its own where the rule has one.
    fn levels(&mut self, events: &[Event], rule: LevelRule) -> usize {
        if self.tracks || !self.exclusions.is_empty() {
            return self.level_depth(events, rule);
        }
        match Plain::of(rule).and_then(|plain| plain::depth(self, events, plain)) {
            Some(depth) => depth,
            None if rule.is_plain() => self.plain_depth(events),
            None => self.level_depth(events, rule),
        }
    }

    /// When the deepest chain of the last [`depth`](Self::depth) took each of its steps, if the funnel tracks: the chain
    /// that reaches that depth first, and of those that reach it at the same moment the one that began last.
    #[must_use]
    pub fn path(&self) -> &[i64] {
        &self.path
    }

    /// Whether `time`, not before `start`, is inside the window; the end is inclusive.
    #[inline]
    const fn reaches(window: u64, start: i64, time: i64) -> bool {
        // Exact for all times: a difference of two i64 fits u64.
        time.wrapping_sub(start).cast_unsigned() <= window
    }

    /// The bits of all steps.
    const fn step_bits(&self) -> u64 {
        if self.steps >= 64 { u64::MAX } else { (1 << self.steps) - 1 }
    }
}
