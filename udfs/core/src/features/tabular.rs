//! What is known of a user at an anchor, as numbers and categories: the automatic features.
//!
//! Life of a row: [`TabularState::begin`] → [`TabularState::advance`] over the events up to the anchor, each once →
//! [`TabularState::emit`]. Later anchors of the same user go on from there, so a user with many anchors costs one
//! pass. Only events before `end` are ever touched: that no later event can change a feature is a test.
//!
//! All calendar features are in UTC. Undefined numbers (days since a purchase that never was) are NaN.

use serde::{Deserialize, Serialize};

use super::events::{Events, Extra, Strings};
use super::vocabulary::CodeMap;
use crate::kernels::intern::NULL_CODE;
use crate::kernels::session::SessionCounter;

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;
const SESSION_GAP_US: i64 = 30 * 60_000_000;
/// The look-back windows in days.
const WINDOW_DAYS: [i64; 4] = [1, 7, 30, 90];
const WINDOWS: usize = WINDOW_DAYS.len();
/// Event types with counts of their own, at most.
pub(super) const EVENT_TYPES_MAX: usize = 12;
/// A day is cut in this many bins.
const HOUR_BINS: usize = 6;
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Which features a model's rows have; part of its encoder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TabularPlan {
    /// Event types with counts of their own, most frequent first.
    pub event_types: Vec<String>,
    /// Whether there is an event type.
    pub event: bool,
    /// Whether there are items.
    pub item: bool,
    /// Whether there are categories.
    pub category: bool,
    /// Whether there are values.
    pub value: bool,
    /// The extra columns, and whether they hold numbers.
    pub extras: Vec<(String, bool)>,
}

/// Where a categorical feature's codes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeTable {
    /// [`Strings::events`].
    Events,
    /// [`Strings::items`].
    Items,
    /// [`Strings::categories`].
    Categories,
    /// [`Strings::extras`] at this index.
    Extra(usize),
    /// 0 = Monday … 6 = Sunday.
    Weekday,
}

impl CodeTable {
    /// The string of a code.
    #[must_use]
    pub fn text(self, strings: &Strings, code: u32) -> &str {
        match self {
            Self::Events => strings.events.get(code),
            Self::Items => strings.items.get(code),
            Self::Categories => strings.categories.get(code),
            Self::Extra(index) => strings.extras.get(index).map_or("", |table| table.get(code)),
            Self::Weekday => WEEKDAYS.get(code as usize).copied().unwrap_or(""),
        }
    }

    /// Number of codes given out so far.
    #[must_use]
    pub fn len(self, strings: &Strings) -> usize {
        match self {
            Self::Events => strings.events.len(),
            Self::Items => strings.items.len(),
            Self::Categories => strings.categories.len(),
            Self::Extra(index) => strings.extras.get(index).map_or(0, crate::kernels::intern::Interner::len),
            Self::Weekday => WEEKDAYS.len(),
        }
    }
}

/// Letters, digits and underscores of a name, so that feature names stay readable; made unique by the caller.
pub(super) fn slug(name: &str) -> String {
    let slug: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    if slug.is_empty() { "_".into() } else { slug }
}

impl TabularPlan {
    /// The names of the numeric features, in the order of [`TabularState::emit`].
    #[must_use]
    pub fn numeric_names(&self) -> Vec<String> {
        let mut names: Vec<String> = [
            "days_since_last_event",
            "tenure_days",
            "active_days",
            "active_days_gap_mean",
            "active_days_gap_std",
            "gap_days_mean",
            "gap_days_std",
            "recency_over_gap",
            "sessions",
            "session_minutes_mean",
            "events_per_session",
            "last_hour_sin",
            "last_hour_cos",
        ]
        .map(str::to_owned)
        .into();
        names.extend((0..HOUR_BINS).map(|bin| format!("hour_{:02}_{:02}_share", bin * 24 / HOUR_BINS, (bin + 1) * 24 / HOUR_BINS - 1)));
        names.extend(WEEKDAYS.iter().map(|day| format!("weekday_{day}_share")));
        names.extend(WINDOW_DAYS[1..].iter().map(|days| format!("active_days_{days}d")));
        let mut counted = |prefix: &str| {
            names.push(format!("{prefix}_count_total"));
            names.extend(WINDOW_DAYS.iter().map(|days| format!("{prefix}_count_{days}d")));
        };
        counted("event");
        let slugs = self.event_slugs();
        for slug in &slugs {
            counted(slug);
        }
        names.extend(slugs.iter().map(|slug| format!("days_since_last_{slug}")));
        if self.item {
            names.extend(["items_distinct", "top_item_share"].map(str::to_owned));
        }
        if self.category {
            names.extend(["categories_distinct", "top_category_share"].map(str::to_owned));
        }
        if self.value {
            names.extend(["sum", "mean", "std", "min", "max", "last"].map(|statistic| format!("value_{statistic}")));
            names.extend(WINDOW_DAYS.iter().map(|days| format!("value_sum_{days}d")));
        }
        names.extend(self.extras.iter().filter(|(_, number)| *number).map(|(name, _)| format!("last_{}", slug(name))));
        unique(names)
    }

    /// The names of the categorical features and where their codes come from, in the order of
    /// [`TabularState::emit`].
    #[must_use]
    pub fn categorical_names(&self) -> Vec<(String, CodeTable)> {
        let mut names = vec![("last_weekday".to_owned(), CodeTable::Weekday)];
        if self.event {
            names.push(("last_event".into(), CodeTable::Events));
        }
        if self.item {
            names.push(("last_item".into(), CodeTable::Items));
        }
        if self.category {
            names.push(("last_category".into(), CodeTable::Categories));
            names.push(("top_category".into(), CodeTable::Categories));
        }
        for (index, (name, number)) in self.extras.iter().enumerate() {
            if !number {
                names.push((format!("last_{}", slug(name)), CodeTable::Extra(index)));
            }
        }
        let unique_names = unique(names.iter().map(|(name, _)| name.clone()).collect());
        unique_names.into_iter().zip(names).map(|(name, (_, table))| (name, table)).collect()
    }

    fn event_slugs(&self) -> Vec<String> {
        unique(self.event_types.iter().map(|name| slug(name)).collect())
    }
}

/// Makes names unique by numbering repetitions.
fn unique(names: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut candidate = name.clone();
        let mut number = 2;
        while kept.contains(&candidate) {
            candidate = format!("{name}_{number}");
            number += 1;
        }
        kept.push(candidate);
    }
    kept
}

/// Mean and variance in one pass (Welford, 1962).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        let delta = x - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (x - self.mean);
    }

    fn mean(&self) -> f64 {
        if self.count > 0.0 { self.mean } else { f64::NAN }
    }

    fn std(&self) -> f64 {
        if self.count > 1.0 { (self.squares / self.count).max(0.0).sqrt() } else { f64::NAN }
    }
}

/// Counts codes of one user after another without clearing between users: an entry counts only when its stamp is
/// the current user's.
#[derive(Debug, Default)]
struct StampedCounts {
    entries: Vec<(u32, u32)>,
    stamp: u32,
    distinct: u32,
    total: u32,
    top: u32,
    top_count: u32,
}

impl StampedCounts {
    fn begin(&mut self) {
        if self.stamp == u32::MAX {
            self.entries.clear();
            self.stamp = 0;
        }
        self.stamp += 1;
        (self.distinct, self.total, self.top, self.top_count) = (0, 0, NULL_CODE, 0);
    }

    #[inline]
    fn add(&mut self, code: u32) {
        if code == NULL_CODE {
            return;
        }
        let index = code as usize;
        if index >= self.entries.len() {
            self.entries.resize((index + 1).next_power_of_two(), (0, 0));
        }
        let entry = &mut self.entries[index];
        if entry.0 != self.stamp {
            *entry = (self.stamp, 0);
            self.distinct += 1;
        }
        entry.1 += 1;
        self.total += 1;
        // The first code to reach the highest count stays on top: a tie has one answer.
        if entry.1 > self.top_count {
            (self.top, self.top_count) = (code, entry.1);
        }
    }

    fn top_share(&self) -> f64 {
        if self.total == 0 { f64::NAN } else { f64::from(self.top_count) / f64::from(self.total) }
    }
}

/// Counts over one look-back window; its bounds move forward with the anchors.
#[derive(Debug, Clone)]
struct Window {
    low: usize,
    high: usize,
    counts: Vec<u32>,
}

/// The running features of one user; reused for the next. Allocates only while it grows.
#[derive(Debug)]
pub struct TabularState {
    types: usize,
    slots: Vec<u32>,
    slot_of: CodeMap,
    end: usize,
    /// Days with events among the events up to and with each one.
    active_days: Vec<u32>,
    last_day: i64,
    day_gaps: Moments,
    gaps: Moments,
    sessions: SessionCounter,
    hours: [u32; HOUR_BINS],
    weekdays: [u32; 7],
    counts: Vec<u32>,
    last_us: Vec<i64>,
    items: StampedCounts,
    categories: StampedCounts,
    values: Moments,
    /// Sums of the values before each event: a window's sum is a difference, whatever anchors came before.
    value_before: Vec<f64>,
    value_min: f64,
    value_max: f64,
    value_last: f64,
    windows: [Window; WINDOWS],
    last_item: u32,
    last_category: u32,
    last_text: Vec<u32>,
    last_number: Vec<f64>,
}

const NO_SLOT: u32 = u32::MAX;

impl TabularState {
    /// A state for rows of `plan`.
    #[must_use]
    pub fn new(plan: &TabularPlan) -> Self {
        let types = plan.event_types.len();
        Self {
            types,
            slots: Vec::new(),
            slot_of: CodeMap::default(),
            end: 0,
            active_days: Vec::new(),
            last_day: i64::MIN,
            day_gaps: Moments::default(),
            gaps: Moments::default(),
            sessions: SessionCounter::new(SESSION_GAP_US),
            hours: [0; HOUR_BINS],
            weekdays: [0; 7],
            counts: vec![0; types],
            last_us: vec![i64::MIN; types],
            items: StampedCounts::default(),
            categories: StampedCounts::default(),
            values: Moments::default(),
            value_before: vec![0.0],
            value_min: f64::NAN,
            value_max: f64::NAN,
            value_last: f64::NAN,
            windows: std::array::from_fn(|_| Window { low: 0, high: 0, counts: vec![0; types] }),
            last_item: NULL_CODE,
            last_category: NULL_CODE,
            last_text: vec![NULL_CODE; plan.extras.len()],
            last_number: vec![f64::NAN; plan.extras.len()],
        }
    }

    /// Forgets what the codes meant; needed when the string tables start anew.
    pub fn forget_codes(&mut self) {
        self.slot_of.clear();
        self.items = StampedCounts::default();
        self.categories = StampedCounts::default();
    }

    /// Starts a user.
    pub fn begin(&mut self) {
        self.slots.clear();
        self.end = 0;
        self.active_days.clear();
        self.last_day = i64::MIN;
        self.day_gaps = Moments::default();
        self.gaps = Moments::default();
        self.sessions = SessionCounter::new(SESSION_GAP_US);
        self.hours = [0; HOUR_BINS];
        self.weekdays = [0; 7];
        self.counts.fill(0);
        self.last_us.fill(i64::MIN);
        self.items.begin();
        self.categories.begin();
        self.values = Moments::default();
        self.value_before.truncate(1);
        (self.value_min, self.value_max, self.value_last) = (f64::NAN, f64::NAN, f64::NAN);
        for window in &mut self.windows {
            (window.low, window.high) = (0, 0);
            window.counts.fill(0);
        }
        (self.last_item, self.last_category) = (NULL_CODE, NULL_CODE);
        self.last_text.fill(NULL_CODE);
        self.last_number.fill(f64::NAN);
    }

    /// Takes the user's events up to, without, `end`.
    pub fn advance(&mut self, plan: &TabularPlan, events: &Events<'_>, strings: &Strings, end: usize) {
        for index in self.end..end {
            let time = events.times_us[index];
            if index > 0 {
                self.gaps.add(days(time - events.times_us[index - 1]));
            }
            let day = time.div_euclid(DAY_US);
            let before = self.active_days.last().copied().unwrap_or(0);
            if day != self.last_day && before > 0 {
                self.day_gaps.add((day - self.last_day) as f64);
            }
            self.active_days.push(before + u32::from(day != self.last_day || before == 0));
            self.last_day = day;
            self.hours[time.rem_euclid(DAY_US) as usize * HOUR_BINS / DAY_US as usize] += 1;
            self.weekdays[weekday(day)] += 1;
            self.sessions.update(time);
            if let Some(&code) = events.events.get(index) {
                let slot = self.slot_of.get(code, NO_SLOT, || {
                    let name = strings.events.get(code);
                    plan.event_types.iter().position(|known| known == name).map_or(NO_SLOT, |slot| slot as u32)
                });
                self.slots.push(slot);
                if slot != NO_SLOT {
                    self.counts[slot as usize] += 1;
                    self.last_us[slot as usize] = time;
                }
            }
            if let Some(&code) = events.items.get(index) {
                self.items.add(code);
                self.last_item = code;
            }
            if let Some(&code) = events.categories.get(index) {
                self.categories.add(code);
                self.last_category = code;
            }
            if let Some(&value) = events.values.get(index) {
                self.add_value(value);
            }
            self.add_extras(events, index);
        }
        self.end = self.end.max(end);
    }

    fn add_value(&mut self, value: f64) {
        let before = self.value_before[self.value_before.len() - 1];
        if value.is_nan() {
            self.value_before.push(before);
            return;
        }
        self.values.add(value);
        self.value_before.push(before + value);
        self.value_min = self.value_min.min(value);
        self.value_max = self.value_max.max(value);
        self.value_last = value;
    }

    fn add_extras(&mut self, events: &Events<'_>, index: usize) {
        // Texts and pictures stand behind the columns that are features.
        for (column, extra) in events.extras.iter().enumerate().take(self.last_text.len()) {
            match extra {
                Extra::Text(codes) if codes[events.offset + index] != NULL_CODE => self.last_text[column] = codes[events.offset + index],
                Extra::Number(values) if !values[events.offset + index].is_nan() => {
                    self.last_number[column] = values[events.offset + index]
                }
                _ => {}
            }
        }
    }

    /// Moves a window so that it covers the events of (anchor − days, anchor].
    fn slide(&mut self, window: usize, events: &Events<'_>, anchor_us: i64) {
        let start_us = anchor_us.saturating_sub(WINDOW_DAYS[window] * DAY_US);
        let end = self.end;
        let window = &mut self.windows[window];
        let low = window.low + events.times_us[window.low..end].partition_point(|time| *time <= start_us);
        if low >= window.high {
            (window.low, window.high) = (low, low);
            window.counts.fill(0);
        }
        for slot in self.slots.get(window.low..low).unwrap_or_default() {
            if *slot != NO_SLOT {
                window.counts[*slot as usize] -= 1;
            }
        }
        for slot in self.slots.get(window.high..end).unwrap_or_default() {
            if *slot != NO_SLOT {
                window.counts[*slot as usize] += 1;
            }
        }
        (window.low, window.high) = (low, end);
    }

    /// Days with events in a window; the first may have begun before it.
    fn active_days_in(&self, window: &Window) -> u32 {
        match (self.active_days.get(window.low), self.active_days.last()) {
            (Some(first), Some(last)) => last - first + 1,
            _ => 0,
        }
    }

    /// Appends the row at `anchor_us`, which is not before any event taken so far: numbers in the order of
    /// [`TabularPlan::numeric_names`], codes in the order of [`TabularPlan::categorical_names`].
    pub fn emit(&mut self, plan: &TabularPlan, events: &Events<'_>, anchor_us: i64, numbers: &mut Vec<f32>, codes: &mut Vec<u32>) {
        for window in 0..WINDOWS {
            self.slide(window, events, anchor_us);
        }
        let count = self.end as f64;
        let first = events.times_us.first().copied().filter(|_| self.end > 0);
        let last = self.end.checked_sub(1).map(|index| events.times_us[index]);
        let recency = last.map_or(f64::NAN, |last| days(anchor_us - last));
        let sessions = self.sessions.sessions() as f64;
        let angle = last.map_or(f64::NAN, |last| last.rem_euclid(DAY_US) as f64 / DAY_US as f64 * std::f64::consts::TAU);
        let mut push = |value: f64| numbers.push(value as f32);
        push(recency);
        push(first.map_or(f64::NAN, |first| days(anchor_us - first)));
        push(f64::from(self.active_days.last().copied().unwrap_or(0)));
        push(self.day_gaps.mean());
        push(self.day_gaps.std());
        push(self.gaps.mean());
        push(self.gaps.std());
        push(recency / (self.day_gaps.mean() + 1.0));
        push(sessions);
        push(self.sessions.mean_length_us() / 60e6);
        push(if sessions > 0.0 { count / sessions } else { f64::NAN });
        push(angle.sin());
        push(angle.cos());
        for bin in self.hours.iter().chain(&self.weekdays) {
            push(if count > 0.0 { f64::from(*bin) / count } else { f64::NAN });
        }
        for window in &self.windows[1..] {
            push(f64::from(self.active_days_in(window)));
        }
        push(count);
        for window in &self.windows {
            push((window.high - window.low) as f64);
        }
        for slot in 0..self.types {
            push(f64::from(self.counts[slot]));
            for window in &self.windows {
                push(f64::from(window.counts[slot]));
            }
        }
        for last in &self.last_us {
            push(if *last == i64::MIN { f64::NAN } else { days(anchor_us - last) });
        }
        self.emit_columns(plan, numbers);
        self.emit_codes(plan, events, last, codes);
    }

    fn emit_columns(&self, plan: &TabularPlan, numbers: &mut Vec<f32>) {
        let mut push = |value: f64| numbers.push(value as f32);
        for (present, counts) in [(plan.item, &self.items), (plan.category, &self.categories)] {
            if present {
                push(f64::from(counts.distinct));
                push(counts.top_share());
            }
        }
        if plan.value {
            let values = &self.values;
            let total = self.value_before[self.value_before.len() - 1];
            for value in [total, values.mean(), values.std(), self.value_min, self.value_max, self.value_last] {
                push(value);
            }
            for window in &self.windows {
                push(total - self.value_before.get(window.low).copied().unwrap_or(total));
            }
        }
        for (column, (_, number)) in plan.extras.iter().enumerate() {
            if *number {
                push(self.last_number[column]);
            }
        }
    }

    fn emit_codes(&self, plan: &TabularPlan, events: &Events<'_>, last: Option<i64>, codes: &mut Vec<u32>) {
        codes.push(last.map_or(NULL_CODE, |last| weekday(last.div_euclid(DAY_US)) as u32));
        if plan.event {
            codes.push(self.end.checked_sub(1).and_then(|index| events.events.get(index).copied()).unwrap_or(NULL_CODE));
        }
        if plan.item {
            codes.push(self.last_item);
        }
        if plan.category {
            codes.push(self.last_category);
            codes.push(self.categories.top);
        }
        for (column, (_, number)) in plan.extras.iter().enumerate() {
            if !number {
                codes.push(self.last_text[column]);
            }
        }
    }
}

/// 0 = Monday. 1970-01-01 was a Thursday.
fn weekday(day: i64) -> usize {
    (day + 3).rem_euclid(7) as usize
}

fn days(us: i64) -> f64 {
    us as f64 / DAY_US as f64
}

#[cfg(test)]
mod tests;
