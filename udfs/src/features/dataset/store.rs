//! Every history of a training, in columns: 8 bytes for the time, 4 per code, 8 per number and event.

use std::mem::size_of_val;

use crate::features::events::{Events, Extra, Strings, UserHistory, UserKey};
use crate::features::vocabulary::CodeMap;
use crate::kernels::intern::{Interner, NULL_CODE};

/// Histories with codes of its own string tables.
#[derive(Debug, Clone, Default)]
pub(super) struct HistoryStore {
    pub(super) users: Vec<UserKey>,
    ends: Vec<usize>,
    times_us: Vec<i64>,
    events: Vec<u32>,
    items: Vec<u32>,
    categories: Vec<u32>,
    values: Vec<f64>,
    extras: Vec<Extra>,
    pub(super) strings: Strings,
    generation: u64,
    event_codes: CodeMap,
    item_codes: CodeMap,
    category_codes: CodeMap,
    extra_codes: Vec<CodeMap>,
}

impl HistoryStore {
    /// A store that knows `strings` already, so that their codes are settled.
    pub(super) fn new(strings: Strings) -> Self {
        let extra_codes = vec![CodeMap::default(); strings.extras.len()];
        Self { strings, extra_codes, ..Self::default() }
    }

    /// Copies a history.
    pub(super) fn push(&mut self, history: &UserHistory, strings: &Strings) {
        if strings.generation() != self.generation {
            self.generation = strings.generation();
            for codes in [&mut self.event_codes, &mut self.item_codes, &mut self.category_codes].into_iter().chain(&mut self.extra_codes) {
                codes.clear();
            }
        }
        self.users.push(history.user.clone());
        self.times_us.extend_from_slice(&history.times_us);
        self.ends.push(self.times_us.len());
        recode(&history.events, &strings.events, &mut self.strings.events, &mut self.event_codes, &mut self.events);
        recode(&history.items, &strings.items, &mut self.strings.items, &mut self.item_codes, &mut self.items);
        recode(&history.categories, &strings.categories, &mut self.strings.categories, &mut self.category_codes, &mut self.categories);
        self.values.extend_from_slice(&history.values);
        if self.extras.is_empty() {
            let empty = |extra: &Extra| match extra {
                Extra::Text(_) => Extra::Text(Vec::new()),
                Extra::Number(_) => Extra::Number(Vec::new()),
            };
            self.extras = history.extras.iter().map(empty).collect();
        }
        for (column, (to, from)) in self.extras.iter_mut().zip(&history.extras).enumerate() {
            match (to, from) {
                (Extra::Text(to), Extra::Text(from)) => {
                    recode(from, &strings.extras[column], &mut self.strings.extras[column], &mut self.extra_codes[column], to);
                }
                (Extra::Number(to), Extra::Number(from)) => to.extend_from_slice(from),
                _ => {}
            }
        }
    }

    /// Number of users.
    pub(super) const fn len(&self) -> usize {
        self.users.len()
    }

    /// Number of events.
    pub(super) const fn event_count(&self) -> usize {
        self.times_us.len()
    }

    /// A user's events.
    pub(super) fn view(&self, user: usize) -> Events<'_> {
        let start = if user == 0 { 0 } else { self.ends[user - 1] };
        let end = self.ends[user];
        Events {
            times_us: &self.times_us[start..end],
            events: self.events.get(start..end).unwrap_or_default(),
            items: self.items.get(start..end).unwrap_or_default(),
            categories: self.categories.get(start..end).unwrap_or_default(),
            values: self.values.get(start..end).unwrap_or_default(),
            extras: &self.extras,
            offset: start,
        }
    }

    /// The bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        let extras: usize = self
            .extras
            .iter()
            .map(|extra| match extra {
                Extra::Text(codes) => size_of_val(codes.as_slice()),
                Extra::Number(values) => size_of_val(values.as_slice()),
            })
            .sum();
        size_of_val(self.users.as_slice())
            + self.ends.len() * 8
            + (self.times_us.len() + self.values.len()) * 8
            + (self.events.len() + self.items.len() + self.categories.len()) * 4
            + extras
            + self.strings.bytes()
    }
}

fn recode(codes: &[u32], from: &Interner, to: &mut Interner, known: &mut CodeMap, out: &mut Vec<u32>) {
    out.extend(codes.iter().map(|code| known.get(*code, NULL_CODE, || to.intern_bytes(from.bytes_of(*code)))));
}
