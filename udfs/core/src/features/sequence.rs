//! A history as tokens: what a sequence network reads, step by step.
//!
//! Per event: ids of its type, item and category (as far as the source has them), of the time since the event
//! before (a power of two of seconds) and of its hour; and as numbers the logarithms of that gap and of the value.
//! A step depends on its own and earlier events only, so the anchors of a user share one stretch of steps.

use serde::{Deserialize, Serialize};

use super::events::{Events, Strings};
use super::inputs::{SequenceShape, Sequences};
use super::tabular::DAY_US;
use super::vocabulary::{CodeMap, FIRST_ID, NULL_ID, Vocabulary};

/// Gaps beyond 2²⁶ seconds (two years) share the last bucket.
const GAP_BUCKETS: usize = 27;

/// How steps are made; part of a model's encoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SequencePlan {
    /// Steps a network sees at most.
    pub max_len: usize,
    /// Event types.
    pub events: Option<Vocabulary>,
    /// Items.
    pub items: Option<Vocabulary>,
    /// Categories.
    pub categories: Option<Vocabulary>,
    /// The bucket of the gap since the event before.
    pub gap: bool,
    /// The hour of the day.
    pub hour: bool,
    /// Center and scale of the logarithm of the gap in hours.
    pub gap_scale: (f32, f32),
    /// Center and scale of the logarithm of the value; `None` without values.
    pub value_scale: Option<(f32, f32)>,
}

/// The logarithm that keeps the sign: `sign(x)·ln(1 + |x|)`.
pub(super) fn signed_log(x: f64) -> f64 {
    x.abs().ln_1p().copysign(x)
}

fn gap_hours(times_us: &[i64], index: usize) -> f64 {
    if index == 0 { 0.0 } else { (times_us[index] - times_us[index - 1]).max(0) as f64 / 3.6e9 }
}

/// The logarithms that a step's numbers are made of, before scaling: gap, value (NaN = NULL).
pub(super) fn step_logs(events: &Events<'_>, index: usize) -> (f64, f64) {
    let value = events.values.get(index).copied().unwrap_or(f64::NAN);
    (gap_hours(events.times_us, index).ln_1p(), signed_log(value))
}

impl SequencePlan {
    /// The shape of its steps.
    #[must_use]
    pub fn shape(&self) -> SequenceShape {
        let mut fields: Vec<usize> = [&self.events, &self.items, &self.categories].into_iter().flatten().map(Vocabulary::size).collect();
        if self.gap {
            fields.push(GAP_BUCKETS + FIRST_ID as usize);
        }
        if self.hour {
            fields.push(24 + FIRST_ID as usize);
        }
        SequenceShape { fields, numeric: 1 + usize::from(self.value_scale.is_some()), max_len: self.max_len }
    }

    /// The names of the token fields, then of the step numbers.
    #[must_use]
    pub fn names(&self) -> (Vec<String>, Vec<String>) {
        let present = [
            ("seq_event", self.events.is_some()),
            ("seq_item", self.items.is_some()),
            ("seq_category", self.categories.is_some()),
            ("seq_gap", self.gap),
            ("seq_hour", self.hour),
        ];
        let fields = present.iter().filter(|(_, present)| *present).map(|(name, _)| (*name).to_owned()).collect();
        let mut numbers = vec!["seq_gap_hours".to_owned()];
        if self.value_scale.is_some() {
            numbers.push("seq_value".to_owned());
        }
        (fields, numbers)
    }
}

/// Remembers the ids of one reader's codes.
#[derive(Debug, Default)]
pub struct SequenceState {
    events: CodeMap,
    items: CodeMap,
    categories: CodeMap,
}

impl SequenceState {
    /// Forgets what the codes meant; needed when the string tables start anew.
    pub fn forget_codes(&mut self) {
        self.events.clear();
        self.items.clear();
        self.categories.clear();
    }

    /// Appends the steps of the events `start..end` of a user.
    pub fn push(&mut self, plan: &SequencePlan, events: &Events<'_>, strings: &Strings, start: usize, end: usize, out: &mut Sequences) {
        for index in start..end {
            if let Some(vocabulary) = &plan.events {
                let code = events.events[index];
                out.tokens.push(self.events.get(code, NULL_ID, || vocabulary.id(strings.events.get(code))));
            }
            if let Some(vocabulary) = &plan.items {
                let code = events.items[index];
                out.tokens.push(self.items.get(code, NULL_ID, || vocabulary.id(strings.items.get(code))));
            }
            if let Some(vocabulary) = &plan.categories {
                let code = events.categories[index];
                out.tokens.push(self.categories.get(code, NULL_ID, || vocabulary.id(strings.categories.get(code))));
            }
            let time = events.times_us[index];
            if plan.gap {
                // A first event has no gap: NULL.
                let bucket = |seconds: u64| FIRST_ID + (u64::BITS - 1 - (seconds + 1).leading_zeros()).min(GAP_BUCKETS as u32 - 1);
                out.tokens.push(if index == 0 { NULL_ID } else { bucket((time - events.times_us[index - 1]).max(0) as u64 / 1_000_000) });
            }
            if plan.hour {
                out.tokens.push(FIRST_ID + (time.rem_euclid(DAY_US) / (DAY_US / 24)) as u32);
            }
            let (gap, value) = step_logs(events, index);
            let scaled = |log: f64, (center, scale): (f32, f32)| ((log as f32 - center) / scale).clamp(-10.0, 10.0);
            out.numeric.push(scaled(gap, plan.gap_scale));
            if let Some(scale) = plan.value_scale {
                out.numeric.push(if value.is_nan() { 0.0 } else { scaled(value, scale) });
            }
        }
    }
}
