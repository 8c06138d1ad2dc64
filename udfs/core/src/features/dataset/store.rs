//! Every history of a training, in columns: 8 bytes for the time, 4 per code, 8 per number and event.
//!
//! Histories that do not fit in memory go to a file, a user's columns one after another. Whoever goes through them does so
//! user by user with a [`Cursor`], which knows both kinds; keys, ends and strings stay in memory.

use std::mem::size_of_val;

use crate::error::Result;
use crate::features::events::{Events, Extra, Strings, UserHistory, UserKey};
use crate::features::spill::{Log, Number, SpillSpace, Window, get_all, put_all};
use crate::features::vocabulary::CodeMap;
use crate::kernels::intern::{Interner, NULL_CODE};

/// Events in memory before they go to the file.
const EVENTS_WAITING: usize = if cfg!(test) { 200 } else { 1 << 15 };

/// Histories with codes of its own string tables. The columns hold the events of the users from `first_user` on.
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
    file: Option<HistoryFile>,
}

/// Histories in a file.
#[derive(Debug, Clone)]
struct HistoryFile {
    log: Log,
    columns: Columns,
    users: usize,
    events: usize,
}

/// Which columns histories have.
#[derive(Debug, Clone, Default)]
struct Columns {
    events: bool,
    items: bool,
    categories: bool,
    values: bool,
    /// Whether an extra column is a number.
    extras: Vec<bool>,
}

impl Columns {
    /// Bytes of an event.
    fn width(&self) -> usize {
        let codes = [self.events, self.items, self.categories].into_iter().filter(|present| *present).count();
        let extras: usize = self.extras.iter().map(|number| if *number { 8 } else { 4 }).sum();
        8 + codes * 4 + usize::from(self.values) * 8 + extras
    }
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
        self.ends.push(self.event_count());
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
    pub(super) fn event_count(&self) -> usize {
        self.first_event() + self.times_us.len()
    }

    fn first_event(&self) -> usize {
        self.file.as_ref().map_or(0, |file| file.events)
    }

    /// A user's events, among all.
    fn range(&self, user: usize) -> std::ops::Range<usize> {
        let start = if user == 0 { 0 } else { self.ends[user - 1] };
        start..self.ends[user]
    }

    /// The events of a user in memory: any, or of those that go to a file the one pushed last.
    pub(super) fn view(&self, user: usize) -> Events<'_> {
        let (range, before) = (self.range(user), self.first_event());
        let (start, end) = (range.start - before, range.end - before);
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

    /// Goes through all users.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { store: self, window: Window::default(), user: None, own: Self::default() }
    }

    /// Moves the histories to a file, and those that are still to come.
    pub(super) fn spill(&mut self, space: &dyn SpillSpace) -> Result<()> {
        if self.file.is_none() {
            let log = Log::create(space, "histories")?;
            self.file = Some(HistoryFile { log, columns: Columns::default(), users: 0, events: 0 });
            self.write()?;
            // Gives back the memory of all that was collected so far.
            (self.times_us, self.values, self.extras) = (Vec::new(), Vec::new(), Vec::new());
            (self.events, self.items, self.categories) = (Vec::new(), Vec::new(), Vec::new());
        }
        Ok(())
    }

    /// Writes the users in memory if there are enough of them and they go to a file.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.times_us.len() >= EVENTS_WAITING { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        if !self.times_us.is_empty() {
            file.columns = Columns {
                events: !self.events.is_empty(),
                items: !self.items.is_empty(),
                categories: !self.categories.is_empty(),
                values: !self.values.is_empty(),
                extras: self.extras.iter().map(|extra| matches!(extra, Extra::Number(_))).collect(),
            };
        }
        for user in file.users..self.len() {
            let range = self.range(user);
            let own = range.start - file.events..range.end - file.events;
            let bytes = file.log.end();
            put_all(&self.times_us[own.clone()], bytes);
            for codes in [&self.events, &self.items, &self.categories] {
                put_all(codes.get(own.clone()).unwrap_or_default(), bytes);
            }
            put_all(self.values.get(own.clone()).unwrap_or_default(), bytes);
            for extra in &self.extras {
                match extra {
                    Extra::Text(codes) => put_all(&codes[own.clone()], bytes),
                    Extra::Number(values) => put_all(&values[own.clone()], bytes),
                }
            }
            file.log.settle()?;
        }
        (file.users, file.events) = (self.len(), file.events + self.times_us.len());
        self.file = Some(file);
        self.times_us.clear();
        for codes in [&mut self.events, &mut self.items, &mut self.categories] {
            codes.clear();
        }
        self.values.clear();
        for extra in &mut self.extras {
            match extra {
                Extra::Text(codes) => codes.clear(),
                Extra::Number(values) => values.clear(),
            }
        }
        Ok(())
    }

    /// The bytes it holds in memory.
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

/// Reads users one after another, wherever they are.
pub(super) struct Cursor<'a> {
    store: &'a HistoryStore,
    window: Window,
    /// The user of the file whose events `own` holds.
    user: Option<usize>,
    own: HistoryStore,
}

impl Cursor<'_> {
    /// A user's events.
    pub(super) fn view(&mut self, user: usize) -> Result<Events<'_>> {
        let Some(file) = self.store.file.as_ref().filter(|file| user < file.users) else { return Ok(self.store.view(user)) };
        if self.user != Some(user) {
            self.user = None;
            let range = self.store.range(user);
            let (width, count) = (file.columns.width(), range.len());
            let bytes = self.window.get(&file.log, (range.start * width) as u64, count * width)?;
            self.own.read(bytes, count, &file.columns);
            self.user = Some(user);
        }
        Ok(self.own.view(0))
    }
}

impl HistoryStore {
    /// Becomes the one history of `count` events that `bytes` hold.
    fn read(&mut self, bytes: &[u8], count: usize, columns: &Columns) {
        let mut rest = bytes;
        self.ends = vec![count];
        take(true, &mut rest, count, &mut self.times_us);
        take(columns.events, &mut rest, count, &mut self.events);
        take(columns.items, &mut rest, count, &mut self.items);
        take(columns.categories, &mut rest, count, &mut self.categories);
        take(columns.values, &mut rest, count, &mut self.values);
        let empty = |number: &bool| if *number { Extra::Number(Vec::new()) } else { Extra::Text(Vec::new()) };
        if self.extras.is_empty() {
            self.extras = columns.extras.iter().map(empty).collect();
        }
        for extra in &mut self.extras {
            match extra {
                Extra::Text(codes) => take(true, &mut rest, count, codes),
                Extra::Number(values) => take(true, &mut rest, count, values),
            }
        }
    }
}

/// Takes a column of `count` numbers from the front of `bytes`, if it is there, in place of what `to` held.
fn take<T: Number>(present: bool, bytes: &mut &[u8], count: usize, to: &mut Vec<T>) {
    to.clear();
    if present {
        let (own, rest) = bytes.split_at(count * T::BYTES);
        get_all(own, to);
        *bytes = rest;
    }
}

fn recode(codes: &[u32], from: &Interner, to: &mut Interner, known: &mut CodeMap, out: &mut Vec<u32>) {
    out.extend(codes.iter().map(|code| known.get(*code, NULL_CODE, || to.intern_bytes(from.bytes_of(*code)))));
}
