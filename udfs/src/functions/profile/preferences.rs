//! What `pref_vector` and `pref_top` share: a decaying weight per key, and vectors as JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, StringBuilder};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use datafusion::error::Result as DfResult;
use serde_json::{Map, Value};

use super::decayed::Clock;
use crate::error::{Code, Error, Result};
use crate::functions::aggregation::Aggregation;
use crate::functions::typed::Want;
use crate::kernels::profile::decay::{Decay, DecayedSum};
use crate::kernels::profile::preference::{Places, Preferences, Scratch, top};
use crate::kernels::stats::wire::{Reader, put_text, put_u64};

/// The arguments that both begin with.
pub(super) const KEY: (&str, Want) = ("key", Want::Key);
pub(super) const WEIGHT: (&str, Want) = ("weight", Want::Number);
pub(super) const TIME: (&str, Want) = ("event_time", Want::Time);
pub(super) const HALF_LIFE: (&str, Want) = ("half_life", Want::Duration);
pub(super) const AS_OF: (&str, Want) = ("as_of", Want::Time);

/// The preferences of many groups.
#[derive(Debug)]
pub(super) struct Prefer {
    preferences: Preferences,
    clocks: Vec<Clock>,
    /// Keys in the vector; `None` for the best key alone, as text.
    most: Option<usize>,
}

impl Prefer {
    pub(super) fn new(decay: Decay, most: Option<usize>) -> Self {
        Self { preferences: Preferences::new(decay), clocks: vec![], most }
    }

    fn clock(&mut self, group: usize) -> &mut Clock {
        if self.clocks.len() <= group {
            self.clocks.resize(group + 1, Clock::default());
        }
        &mut self.clocks[group]
    }

    /// The weights of a group as of a time.
    fn weights<'a>(&'a self, places: &Places, group: usize, now_us: i64, scratch: &mut Scratch) -> Vec<(&'a str, f64)> {
        let mut weights = vec![];
        let now = self.preferences.decay().now(now_us);
        self.preferences.weights(places, group, now, scratch, |key, weight| weights.push((self.preferences.name(key), weight)));
        weights
    }

    /// The heaviest key of a group as of a time, the first by its bytes among equals.
    fn best(&self, places: &Places, group: usize, now_us: i64, scratch: &mut Scratch) -> Option<&str> {
        let mut best = None::<(u32, f64)>;
        let now = self.preferences.decay().now(now_us);
        self.preferences.weights(places, group, now, scratch, |key, weight: f64| {
            let beats = best.is_none_or(|(other, most)| {
                let by_name = || self.preferences.name(other).cmp(self.preferences.name(key));
                weight.total_cmp(&most).then_with(by_name).is_gt()
            });
            if beats {
                best = Some((key, weight));
            }
        });
        best.map(|(key, _)| self.preferences.name(key))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the number of groups was checked")]
impl Aggregation for Prefer {
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        let wrong = || Error::internal("the arguments have the wrong types");
        let [keys, weights, times, _, rest @ ..] = values else { return Err(wrong().into()) };
        let (texts, views) = (keys.as_string_opt::<i32>(), keys.as_string_view_opt());
        let weights = weights.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let as_of = rest.first().map(|column| column.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)).transpose()?;
        let passes = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, group) in groups.iter().enumerate() {
            if !passes(row) || keys.is_null(row) || weights.is_null(row) || times.is_null(row) {
                continue;
            }
            let time_us = times.value(row);
            let as_of_us = as_of.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            if !self.clock(*group).note(time_us, as_of_us) {
                continue;
            }
            let (group, weight) = (*group as u32, weights.value(row));
            match views {
                Some(views) => self.preferences.add_viewed(group, (views.views()[row], || views.value(row)), weight, time_us),
                None => self.preferences.add(group, texts.ok_or_else(wrong)?.value(row), weight, time_us),
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        let broken = || Error::internal("a state cannot be read");
        let bytes = states.first().and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(broken)?;
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| bytes.is_valid(*row)) {
            let mut from = Reader::new(bytes.value(row));
            let other = Clock::decode(&mut from).ok_or_else(broken)?;
            self.clock(*group).merge(other);
            for _ in 0..from.count(8).ok_or_else(broken)? {
                let key = from.text().ok_or_else(broken)?;
                self.preferences.add_sum(*group as u32, key, DecayedSum::decode(&mut from).ok_or_else(broken)?);
            }
        }
        Ok(())
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        let places = self.preferences.arrange(count);
        let (mut out, mut scratch) = (StringBuilder::new(), Scratch::default());
        for group in 0..count {
            let clock = self.clocks.get(group).copied().unwrap_or_default();
            let Some(now_us) = clock.now_us() else {
                out.append_null();
                continue;
            };
            match self.most {
                Some(most) => out.append_value(json(top(self.weights(&places, group, now_us, &mut scratch), most))),
                // As of the newest event: far from it all weights would be zero, and nothing would be best.
                None => {
                    let best = self.best(&places, group, clock.newest_us().unwrap_or(now_us), &mut scratch);
                    out.append_option(best);
                }
            }
        }
        Ok(Arc::new(out.finish()))
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let places = self.preferences.arrange(count);
        let mut column = BinaryBuilder::with_capacity(count, count * 64);
        let (mut scratch, mut bytes, mut sums) = (Scratch::default(), vec![], vec![]);
        for group in 0..count {
            bytes.clear();
            sums.clear();
            self.clocks.get(group).copied().unwrap_or_default().encode(&mut bytes);
            let mut keys = 0;
            self.preferences.each(&places, group, &mut scratch, &mut |key, sum| {
                keys += 1;
                put_text(&mut sums, self.preferences.name(key));
                sum.encode(&mut sums);
            });
            put_u64(&mut bytes, keys);
            bytes.extend_from_slice(&sums);
            column.append_value(&bytes);
        }
        Ok(vec![Arc::new(column.finish())])
    }

    fn forget(&mut self, count: usize) {
        let places = self.preferences.arrange(count);
        self.preferences.forget(count, &places);
        self.clocks.drain(..count.min(self.clocks.len()));
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut own = Self::new(self.preferences.decay(), self.most);
        own.update(values, &(0..rows).collect::<Vec<_>>(), filter)?;
        own.states(rows)
    }

    fn heap_bytes(&self) -> usize {
        self.preferences.heap_bytes() + self.clocks.capacity() * size_of::<Clock>()
    }
}

/// A vector as a JSON object, in order; a weight that is not finite is null.
pub(super) fn json<'a>(weights: impl IntoIterator<Item = (&'a str, f64)>) -> String {
    let map: Map<String, Value> = weights.into_iter().map(|(key, weight)| (key.to_owned(), Value::from(weight))).collect();
    Value::Object(map).to_string()
}

/// Reads a vector.
///
/// # Errors
/// 22P02 when it is not a JSON object of numbers.
pub(super) fn vector(text: &str) -> Result<Map<String, Value>> {
    let wrong = || {
        Error::new(Code::InvalidText, format!("\"{text}\" is not a preference vector"))
            .hint("It is a JSON object of numbers, as pref_vector makes.")
    };
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    if map.values().all(Value::is_number) { Ok(map) } else { Err(wrong()) }
}
