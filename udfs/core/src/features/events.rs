//! The canonical event schema, and histories user by user.
//!
//! Canonical columns, in this order, absent roles being absent columns: `user` (Int64 or Utf8), `time`
//! (Timestamp(µs, UTC)), `event` Utf8, `item` Utf8, `category` Utf8, `value` Float64, then `extra_<name>` (Utf8 or
//! Float64) per extra column. Rows are sorted by (user, time, event, item). `user` and `time` hold no NULL.
//!
//! Life of a batch: the SQL face casts and sorts → [`UserReader::push`] interns its strings, once per distinct
//! string and batch column → [`UserReader::next_user`] hands out whole users, also when one spans many batches.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit as ArrowTimeUnit, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};

use super::roles::EventColumns;
use super::table::to_micros;
use super::tabular::TabularPlan;
use crate::error::{Code, Error, Result};
use crate::kernels::intern::{Interner, NULL_CODE};

/// Strings beyond this many bytes are forgotten at the next user (see [`Strings::generation`]).
const STRINGS_BYTES_MAX: usize = 64 << 20;

/// The type of a model's user keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// Integers of any width.
    Int64,
    /// Everything else.
    Utf8,
}

impl KeyType {
    /// The Arrow type of a key column.
    #[must_use]
    pub const fn data_type(self) -> DataType {
        match self {
            Self::Int64 => DataType::Int64,
            Self::Utf8 => DataType::Utf8,
        }
    }

    /// Reads a key as a user typed it.
    ///
    /// # Errors
    /// `InvalidText` (22P02) when the text is not of the key's type.
    pub fn parse(self, text: &str) -> Result<UserKey> {
        match self {
            Self::Utf8 => Ok(UserKey::Utf8(Arc::from(text))),
            Self::Int64 => text
                .trim()
                .parse()
                .map(UserKey::Int64)
                .map_err(|_| Error::new(Code::InvalidText, format!("invalid input syntax for type bigint: \"{text}\""))),
        }
    }
}

/// One user's key. Integers sort before texts; texts by bytes, as the sorted source does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UserKey {
    /// An integer key.
    Int64(i64),
    /// A text key.
    Utf8(Arc<str>),
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int64(key) => write!(f, "{key}"),
            Self::Utf8(key) => f.write_str(key),
        }
    }
}

/// The canonical schema of a source whose columns are `columns`.
#[must_use]
pub fn canonical_schema(columns: &EventColumns, source: &Schema) -> SchemaRef {
    let mut fields = vec![
        Field::new("user", columns.key_type.data_type(), false),
        Field::new("time", DataType::Timestamp(ArrowTimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    for (name, role) in [("event", &columns.event), ("item", &columns.item), ("category", &columns.category)] {
        if role.is_some() {
            fields.push(Field::new(name, DataType::Utf8, true));
        }
    }
    if columns.value.is_some() {
        fields.push(Field::new("value", DataType::Float64, true));
    }
    for extra in &columns.extra {
        let number = source.field_with_name(extra).is_ok_and(|field| field.data_type().is_numeric());
        let data_type = if number { DataType::Float64 } else { DataType::Utf8 };
        fields.push(Field::new(extra_name(extra), data_type, true));
    }
    fields.extend(columns.text.iter().map(|text| Field::new(format!("text_{text}"), DataType::Utf8, true)));
    fields.extend(columns.image.iter().map(|image| Field::new(format!("image_{image}"), DataType::Binary, true)));
    Arc::new(Schema::new(fields))
}

impl EventColumns {
    /// The columns that histories carry besides the roles: extras, texts, the picture. Canonical name and name in the source.
    pub fn carried(&self) -> impl Iterator<Item = (String, &str)> {
        let extras = self.extra.iter().map(|name| (extra_name(name), name.as_str()));
        let texts = self.text.iter().map(|name| (format!("text_{name}"), name.as_str()));
        extras.chain(texts).chain(self.image.iter().map(|name| (format!("image_{name}"), name.as_str())))
    }
}

/// The strings behind a history's codes, one table per column.
#[derive(Debug, Clone, Default)]
pub struct Strings {
    /// Event types.
    pub events: Interner,
    /// Items.
    pub items: Interner,
    /// Categories.
    pub categories: Interner,
    /// One per carried column (extras, texts, the picture's bytes); empty for numeric ones.
    pub extras: Vec<Interner>,
    generation: u64,
}

impl Strings {
    /// Empty tables for a source's columns.
    #[must_use]
    pub fn for_columns(columns: &EventColumns) -> Self {
        Self { extras: vec![Interner::default(); columns.carried().count()], ..Self::default() }
    }

    /// Changes when the codes start anew: whoever remembers codes must forget them then. It changes only inside
    /// [`UserReader::next_user`] and [`UserReader::finish`], so the codes of the last history are always good.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.bytes() + self.items.bytes() + self.categories.bytes() + self.extras.iter().map(Interner::bytes).sum::<usize>()
    }
}

/// One extra column of a history.
#[derive(Debug, Clone, PartialEq)]
pub enum Extra {
    /// Codes of [`Strings::extras`]; `u32::MAX` = NULL.
    Text(Vec<u32>),
    /// Numbers; NaN = NULL.
    Number(Vec<f64>),
}

/// All events of one user, oldest first. Every vector is as long as `times_us`, or empty when the source has no
/// such column. Codes index the reader's [`Strings`]; `u32::MAX` = NULL.
#[derive(Debug, Clone, PartialEq)]
pub struct UserHistory {
    /// Whose events.
    pub user: UserKey,
    /// Microseconds since 1970 UTC, ascending.
    pub times_us: Vec<i64>,
    /// Event types.
    pub events: Vec<u32>,
    /// Items.
    pub items: Vec<u32>,
    /// Categories.
    pub categories: Vec<u32>,
    /// Values; NaN = NULL.
    pub values: Vec<f64>,
    /// The extra columns, then the texts, then the picture.
    pub extras: Vec<Extra>,
}

impl UserHistory {
    /// Number of events.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.times_us.len()
    }

    /// Whether there are no events.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.times_us.is_empty()
    }

    /// Forgets the events, keeps the buffers.
    pub fn clear(&mut self) {
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
    }

    /// The bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let extras: usize = self
            .extras
            .iter()
            .map(|e| match e {
                Extra::Text(c) => c.len() * 4,
                Extra::Number(n) => n.len() * 8,
            })
            .sum();
        (self.times_us.len() + self.values.len()) * 8 + (self.events.len() + self.items.len() + self.categories.len()) * 4 + extras
    }
}

/// A borrowed history, wherever its columns lie. Slices are as long as `times_us`, or empty when the source has no
/// such column.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    /// Microseconds since 1970 UTC, ascending.
    pub times_us: &'a [i64],
    /// Event types.
    pub events: &'a [u32],
    /// Items.
    pub items: &'a [u32],
    /// Categories.
    pub categories: &'a [u32],
    /// Values; NaN = NULL.
    pub values: &'a [f64],
    /// Extra columns; the user's first entry is at `offset`.
    pub extras: &'a [Extra],
    /// Where the user begins in `extras`.
    pub offset: usize,
}

impl UserHistory {
    /// A view of it.
    #[must_use]
    pub fn view(&self) -> Events<'_> {
        Events {
            times_us: &self.times_us,
            events: &self.events,
            items: &self.items,
            categories: &self.categories,
            values: &self.values,
            extras: &self.extras,
            offset: 0,
        }
    }
}

/// A session as a caller writes it down: texts, not codes.
#[derive(Debug, Clone)]
pub(super) struct EventColumnsView<'a> {
    pub(super) events: &'a [&'a str],
    pub(super) items: Option<&'a [&'a str]>,
    pub(super) times_us: Vec<i64>,
}

impl EventColumnsView<'_> {
    /// The history that `plan` expects: columns that are not given are NULL throughout, and so are the `attachments` (texts
    /// and pictures).
    pub(super) fn history(self, user: UserKey, plan: &TabularPlan, attachments: usize, strings: &mut Strings) -> UserHistory {
        let len = self.events.len();
        let nulls = |present: bool| if present { vec![NULL_CODE; len] } else { Vec::new() };
        let events = if plan.event { self.events.iter().map(|text| strings.events.intern(text)).collect() } else { Vec::new() };
        let items = match self.items {
            Some(items) if plan.item => items.iter().map(|text| strings.items.intern(text)).collect(),
            _ => nulls(plan.item),
        };
        let values = if plan.value { vec![f64::NAN; len] } else { Vec::new() };
        let extra = |(_, number): &(String, bool)| if *number { Extra::Number(vec![f64::NAN; len]) } else { Extra::Text(nulls(true)) };
        let attached = std::iter::repeat_with(|| Extra::Text(nulls(true))).take(attachments);
        let extras = plan.extras.iter().map(extra).chain(attached).collect();
        UserHistory { user, times_us: self.times_us, events, items, categories: nulls(plan.category), values, extras }
    }
}

/// Cuts user-ordered canonical batches into histories.
///
/// ```text
/// while let Some(batch) = stream.next() { reader.push(&batch)?; while let Some(user) = reader.next_user() { … } }
/// if let Some(user) = reader.finish() { … }
/// ```
#[derive(Debug)]
pub struct UserReader {
    schema: SchemaRef,
    layout: Layout,
    strings: Strings,
    batches: VecDeque<Batch>,
    row: usize,
    /// The user whose events are being collected, when `begun`; else buffers, and what was there last.
    open: Option<UserHistory>,
    begun: bool,
    spare: Option<UserHistory>,
    dropped_rows: u64,
    strings_bytes_max: usize,
}

/// Where the roles are in the canonical schema.
#[derive(Debug, Clone)]
struct Layout {
    event: Option<usize>,
    item: Option<usize>,
    category: Option<usize>,
    value: Option<usize>,
    /// Column and whether it holds numbers.
    extras: Vec<(usize, bool)>,
}

/// A batch whose columns have the canonical types.
#[derive(Debug)]
struct Batch {
    users: Users,
    times: TimestampMicrosecondArray,
    columns: Vec<ArrayRef>,
}

#[derive(Debug)]
enum Users {
    Int64(Int64Array),
    Utf8(StringArray),
}

impl Users {
    fn key(&self, row: usize) -> UserKey {
        match self {
            Self::Int64(keys) => UserKey::Int64(keys.value(row)),
            Self::Utf8(keys) => UserKey::Utf8(Arc::from(keys.value(row))),
        }
    }

    /// The first row from `start` on that is not `key`'s.
    fn end_of(&self, key: &UserKey, start: usize) -> usize {
        match (self, key) {
            (Self::Int64(keys), UserKey::Int64(key)) => start + keys.values()[start..].iter().take_while(|k| *k == key).count(),
            (Self::Utf8(keys), UserKey::Utf8(key)) => {
                let mut row = start;
                while row < keys.len() && keys.value(row) == &**key {
                    row += 1;
                }
                row
            }
            _ => start,
        }
    }
}

impl UserReader {
    /// A reader of batches in `schema`, which [`canonical_schema`] made of `columns`.
    ///
    /// # Errors
    /// `Internal` when `schema` is not canonical.
    pub fn new(schema: SchemaRef, columns: &EventColumns) -> Result<Self> {
        let at = |name: &str| schema.index_of(name).map_err(|_| Error::internal(format!("canonical events have no column \"{name}\"")));
        let role = |name: &str, present: bool| if present { at(name).map(Some) } else { Ok(None) };
        at("user")?;
        at("time")?;
        let mut extras = Vec::with_capacity(columns.extra.len());
        for (name, _) in columns.carried() {
            let index = at(&name)?;
            extras.push((index, schema.field(index).data_type().is_numeric()));
        }
        let layout = Layout {
            event: role("event", columns.event.is_some())?,
            item: role("item", columns.item.is_some())?,
            category: role("category", columns.category.is_some())?,
            value: role("value", columns.value.is_some())?,
            extras,
        };
        let strings = Strings { extras: vec![Interner::default(); layout.extras.len()], ..Strings::default() };
        Ok(Self {
            schema,
            layout,
            strings,
            batches: VecDeque::new(),
            row: 0,
            open: None,
            begun: false,
            spare: None,
            dropped_rows: 0,
            strings_bytes_max: STRINGS_BYTES_MAX,
        })
    }

    /// Takes the next batch of the stream. Rows without user or time are left out and counted.
    ///
    /// # Errors
    /// `Internal` when a column is missing or cannot be cast to its canonical type.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (index, field) in self.schema.fields().iter().enumerate() {
            let same_place = batch.schema_ref().fields().get(index).is_some_and(|f| f.name() == field.name());
            let column = if same_place { Some(batch.column(index)) } else { batch.column_by_name(field.name()) };
            let column = column.ok_or_else(|| Error::internal(format!("an event batch has no column \"{}\"", field.name())))?;
            columns.push(to_type(column, field.data_type())?);
        }
        let (user, time) = (self.position("user")?, self.position("time")?);
        if columns[user].null_count() + columns[time].null_count() > 0 {
            let keep = BooleanBuffer::collect_bool(batch.num_rows(), |row| columns[user].is_valid(row) && columns[time].is_valid(row));
            let keep = BooleanArray::new(keep, None);
            for column in &mut columns {
                *column = filter(column, &keep).map_err(arrow_error)?;
            }
            self.dropped_rows += (batch.num_rows() - columns[user].len()) as u64;
        }
        if columns[user].is_empty() {
            return Ok(());
        }
        let users = match columns[user].data_type() {
            DataType::Int64 => Users::Int64(columns[user].as_primitive::<Int64Type>().clone()),
            _ => Users::Utf8(columns[user].as_string::<i32>().clone()),
        };
        let times = columns[time].as_primitive::<TimestampMicrosecondType>().clone();
        self.batches.push_back(Batch { users, times, columns });
        Ok(())
    }

    /// The next user all of whose events have been pushed; `None` until more batches come.
    pub fn next_user(&mut self) -> Option<UserHistory> {
        if !self.advance() {
            return None;
        }
        self.begun = false;
        self.open.take().map(sorted)
    }

    /// Shows `each` of the users that [`next_user`](Self::next_user) would give: many of few events are not moved about.
    ///
    /// # Errors
    /// What `each` says.
    pub fn each_user<E>(&mut self, mut each: impl FnMut(&UserHistory) -> std::result::Result<(), E>) -> std::result::Result<(), E> {
        while self.advance() {
            self.begun = false;
            match &self.open {
                Some(history) if history.times_us.is_sorted() => each(history)?,
                Some(history) => each(&sorted(history.clone()))?,
                None => {}
            }
        }
        Ok(())
    }

    /// Reads on until all events of the open user are there; false when they may not be yet.
    fn advance(&mut self) -> bool {
        if !self.begun && self.strings.bytes() > self.strings_bytes_max {
            self.forget_strings();
        }
        let Self { batches, row, open, begun, spare, layout, strings, .. } = self;
        while let Some(batch) = batches.front() {
            let rows = batch.times.len();
            while *row < rows {
                let history = open.get_or_insert_with(|| spare.take().unwrap_or_else(|| layout.nobody()));
                if !*begun {
                    history.clear();
                    history.user = batch.users.key(*row);
                    *begun = true;
                }
                let end = batch.users.end_of(&history.user, *row);
                if end == *row {
                    return true;
                }
                layout.append(strings, history, batch, *row, end);
                *row = end;
            }
            *row = 0;
            batches.pop_front();
        }
        false
    }

    /// The last user, after the last batch. Call it once [`next_user`](Self::next_user) returns `None`.
    pub fn finish(&mut self) -> Option<UserHistory> {
        if let Some(user) = self.next_user() {
            return Some(user);
        }
        let last = self.open.take().filter(|_| self.begun);
        self.begun = false;
        last.map(sorted)
    }

    /// The strings behind the codes of the last history.
    #[must_use]
    pub const fn strings(&self) -> &Strings {
        &self.strings
    }

    /// Rows left out because user or time was NULL.
    #[must_use]
    pub const fn dropped_rows(&self) -> u64 {
        self.dropped_rows
    }

    /// Gives a history's buffers back for the next user. Optional.
    pub fn recycle(&mut self, history: UserHistory) {
        self.spare = Some(history);
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.schema.index_of(name).map_err(|_| Error::internal(format!("canonical events have no column \"{name}\"")))
    }

    fn forget_strings(&mut self) {
        let generation = self.strings.generation + 1;
        self.strings = Strings { extras: vec![Interner::default(); self.layout.extras.len()], generation, ..Strings::default() };
    }
}

impl Layout {
    /// A history without events, to be somebody's.
    fn nobody(&self) -> UserHistory {
        let extras = self.extras.iter().map(|(_, number)| if *number { Extra::Number(Vec::new()) } else { Extra::Text(Vec::new()) });
        UserHistory {
            user: UserKey::Int64(0),
            times_us: Vec::new(),
            events: Vec::new(),
            items: Vec::new(),
            categories: Vec::new(),
            values: Vec::new(),
            extras: extras.collect(),
        }
    }

    fn append(&self, strings: &mut Strings, history: &mut UserHistory, batch: &Batch, start: usize, end: usize) {
        history.times_us.extend_from_slice(&batch.times.values()[start..end]);
        for (column, codes, table) in [
            (self.event, &mut history.events, &mut strings.events),
            (self.item, &mut history.items, &mut strings.items),
            (self.category, &mut history.categories, &mut strings.categories),
        ] {
            if let Some(column) = column {
                intern(batch.columns[column].as_string::<i32>(), start, end, table, codes);
            }
        }
        if let Some(column) = self.value {
            numbers(batch.columns[column].as_primitive::<Float64Type>(), start, end, &mut history.values);
        }
        for ((extra, (column, _)), table) in history.extras.iter_mut().zip(&self.extras).zip(&mut strings.extras) {
            match extra {
                Extra::Text(codes) => match batch.columns[*column].as_binary_opt::<i32>() {
                    Some(pictures) => intern_bytes(pictures, start, end, table, codes),
                    None => intern(batch.columns[*column].as_string::<i32>(), start, end, table, codes),
                },
                Extra::Number(values) => numbers(batch.columns[*column].as_primitive::<Float64Type>(), start, end, values),
            }
        }
    }
}

/// The canonical name of an extra column.
#[must_use]
pub fn extra_name(column: &str) -> String {
    format!("extra_{column}")
}

fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("events cannot be read: {error}"))
}

fn to_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    match data_type {
        _ if column.data_type() == data_type => Ok(Arc::clone(column)),
        DataType::Timestamp(..) => Ok(Arc::new(to_micros(column, "time")?.with_timezone("UTC"))),
        _ => cast(column, data_type).map_err(arrow_error),
    }
}

/// Appends the codes of `strings[start..end]`. Neighbours are often equal, so the last string is remembered.
fn intern(strings: &StringArray, start: usize, end: usize, table: &mut Interner, codes: &mut Vec<u32>) {
    let mut last: Option<(&str, u32)> = None;
    for row in start..end {
        if strings.is_null(row) {
            codes.push(NULL_CODE);
            continue;
        }
        let text = strings.value(row);
        let code = match last {
            Some((known, code)) if known == text => code,
            _ => table.intern(text),
        };
        last = Some((text, code));
        codes.push(code);
    }
}

/// The same for bytes that are no text.
fn intern_bytes(array: &BinaryArray, start: usize, end: usize, table: &mut Interner, codes: &mut Vec<u32>) {
    codes.extend((start..end).map(|row| if array.is_null(row) { NULL_CODE } else { table.intern_bytes(array.value(row)) }));
}

fn numbers(array: &Float64Array, start: usize, end: usize, values: &mut Vec<f64>) {
    // Infinities are as useless to a mean as NULL is.
    values.extend((start..end).map(|row| if array.is_valid(row) && array.value(row).is_finite() { array.value(row) } else { f64::NAN }));
}

/// Puts events in time order should the source not have been; ties keep their order.
fn sorted(history: UserHistory) -> UserHistory {
    if history.times_us.is_sorted() {
        return history;
    }
    let mut order: Vec<usize> = (0..history.len()).collect();
    order.sort_by_key(|&i| history.times_us[i]);
    let codes = |from: &[u32]| if from.is_empty() { Vec::new() } else { order.iter().map(|&i| from[i]).collect() };
    let values = |from: &[f64]| if from.is_empty() { Vec::new() } else { order.iter().map(|&i| from[i]).collect() };
    let extra = |from: &Extra| match from {
        Extra::Text(from) => Extra::Text(codes(from)),
        Extra::Number(from) => Extra::Number(values(from)),
    };
    UserHistory {
        times_us: order.iter().map(|&i| history.times_us[i]).collect(),
        events: codes(&history.events),
        items: codes(&history.items),
        categories: codes(&history.categories),
        values: values(&history.values),
        extras: history.extras.iter().map(extra).collect(),
        user: history.user,
    }
}

#[cfg(test)]
mod tests;
