//! What `pref_vector` and `pref_top` share: a decaying weight per key, and vectors as JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use serde_json::{Map, Value};

use super::decayed::Clock;
use crate::error::{Code, Error, Result};
use crate::functions::grouped::{Kernel, Rows, State, States};
use crate::functions::typed::Want;
use crate::kernels::profile::decay::Decay;
use crate::kernels::profile::preference::Preferences;
use crate::kernels::stats::wire::Reader;

/// The arguments that both begin with.
pub(super) const KEY: (&str, Want) = ("key", Want::Name);
pub(super) const WEIGHT: (&str, Want) = ("weight", Want::Number);
pub(super) const TIME: (&str, Want) = ("event_time", Want::Time);
pub(super) const HALF_LIFE: (&str, Want) = ("half_life", Want::Duration);
pub(super) const AS_OF: (&str, Want) = ("as_of", Want::Time);

/// Preferences, constants bound.
#[derive(Debug, Clone)]
pub(super) struct Prefer {
    pub(super) decay: Decay,
    /// Keys in the vector; `None` for the best key alone, as text.
    pub(super) most: Option<usize>,
}

/// What a group has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    preferences: Preferences,
    clock: Clock,
}

impl State for Seen {
    fn heap_bytes(&self) -> usize {
        self.preferences.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.clock.encode(out);
        self.preferences.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { clock: Clock::decode(from)?, preferences: Preferences::decode(from)? })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.clock.merge(other.clock);
        self.preferences.merge(&other.preferences);
        Ok(())
    }
}

impl Kernel for Prefer {
    type State = Seen;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        let keys = rows.column(0)?.as_string_opt::<i32>().ok_or_else(|| Error::internal("keys are not texts"))?;
        let (weights, times) = (rows.numbers::<Float64Type>(1)?, rows.numbers::<TimestampMicrosecondType>(2)?);
        let as_of = if rows.columns.len() > 4 { Some(rows.numbers::<TimestampMicrosecondType>(4)?) } else { None };
        for (row, group) in rows.iter() {
            if keys.is_null(row) || weights.is_null(row) || times.is_null(row) {
                continue;
            }
            let time_us = times.value(row);
            let as_of_us = as_of.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            states.change(group, |seen| {
                if seen.clock.note(time_us, as_of_us) {
                    seen.preferences.add(self.decay, keys.value(row), weights.value(row), time_us);
                }
            })?;
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let mut out = StringBuilder::new();
        for seen in states {
            let Some(now_us) = seen.clock.now_us() else {
                out.append_null();
                continue;
            };
            match self.most {
                Some(most) => out.append_value(json(seen.preferences.top(self.decay, now_us, most))),
                // As of the newest event: far from it all weights would be zero, and nothing would be best.
                None => {
                    let newest_us = seen.clock.newest_us().unwrap_or(now_us);
                    out.append_option(seen.preferences.top(self.decay, newest_us, 1).first().map(|(key, _)| *key));
                }
            }
        }
        Ok(Arc::new(out.finish()))
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
