//! Columns between steps, and how Arrow becomes one.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::kernels::intern::{Interner, NULL_CODE};

/// How a step reads a column of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// As a double; true is 1.
    Number,
    /// As text.
    Category,
    /// As a point in time.
    Time,
}

impl InputKind {
    /// What messages call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Category => "a text or a number",
            Self::Time => "a date or a time",
        }
    }

    /// Whether a column of this type can be read so.
    pub fn reads(self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (_, DataType::Null) => true,
            (kind, DataType::Dictionary(_, value)) => kind.reads(value),
            (Self::Number, found) => found.is_numeric() || *found == DataType::Boolean,
            (Self::Time, found) => matches!(found, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64),
            (Self::Category, found) => found.is_string() || found.is_numeric() || found.is_temporal() || matches!(found, DataType::Boolean),
        }
    }
}

/// Texts by code.
#[derive(Debug, Clone, Default)]
pub struct Coded {
    /// Every text once.
    pub(super) values: Interner,
    /// One per row; [`NULL_CODE`] where it is missing.
    pub(super) codes: Vec<u32>,
}

/// The values of a column.
#[derive(Debug, Clone)]
pub enum Values {
    /// NaN where missing.
    Numbers(Vec<f64>),
    /// Texts.
    Categories(Coded),
    /// Microseconds since 1970 UTC.
    Times(Vec<Option<i64>>),
}

/// A named column.
#[derive(Debug, Clone)]
pub struct Column {
    /// The feature's name so far.
    pub name: String,
    /// Its values.
    pub values: Values,
    /// Whether it is a feature already, which later steps leave alone: an indicator.
    pub(super) finished: bool,
}

impl Column {
    /// A column for steps to work on.
    pub fn new(name: impl Into<String>, values: Values) -> Self {
        Self { name: name.into(), values, finished: false }
    }

    /// The same column without rows.
    pub(super) fn emptied(&self) -> Self {
        let values = match self.values {
            Values::Numbers(_) => Values::empty(InputKind::Number),
            Values::Categories(_) => Values::empty(InputKind::Category),
            Values::Times(_) => Values::empty(InputKind::Time),
        };
        Self { name: self.name.clone(), values, finished: self.finished }
    }

    /// A column that is a feature already.
    pub(super) fn finished(name: String, values: Values) -> Self {
        Self { name, values, finished: true }
    }
}

impl Coded {
    pub(super) fn push(&mut self, value: Option<&str>) {
        let code = value.map_or(NULL_CODE, |value| self.values.intern(value));
        self.codes.push(code);
    }

    /// The text of a row.
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        self.codes.get(row).filter(|code| **code != NULL_CODE).map(|code| self.values.get(*code))
    }

    /// The code of every row, numbered in the order of the texts, and how many there are.
    pub fn classes(&self) -> (Vec<Option<u32>>, usize) {
        let mut order: Vec<u32> = (0..self.values.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.values.get(*a).cmp(self.values.get(*b)));
        let mut places = vec![0; order.len()];
        for (place, code) in order.iter().enumerate() {
            if let Some(slot) = places.get_mut(*code as usize) {
                *slot = place as u32;
            }
        }
        (self.codes.iter().map(|code| places.get(*code as usize).copied()).collect(), order.len())
    }

    /// Adds the rows of another column.
    fn extend(&mut self, other: &Self) {
        let codes: Vec<u32> = other.values.iter().map(|text| self.values.intern(text)).collect();
        self.codes.extend(other.codes.iter().map(|code| codes.get(*code as usize).copied().unwrap_or(NULL_CODE)));
    }

    /// Numbers by row from a number per code and one for a missing value.
    pub(super) fn map(&self, by_code: &[f64], missing: f64) -> Vec<f64> {
        self.codes.iter().map(|code| by_code.get(*code as usize).copied().unwrap_or(missing)).collect()
    }
}

impl Values {
    /// An empty column.
    pub fn empty(kind: InputKind) -> Self {
        match kind {
            InputKind::Number => Self::Numbers(Vec::new()),
            InputKind::Category => Self::Categories(Coded::default()),
            InputKind::Time => Self::Times(Vec::new()),
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Categories(coded) => coded.codes.len(),
            Self::Times(values) => values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Numbers(values) => values.capacity() * 8,
            Self::Categories(coded) => coded.values.bytes() + coded.codes.capacity() * 4,
            Self::Times(values) => values.capacity() * 16,
        }
    }

    /// Adds the rows of another column of the same kind.
    pub fn extend(&mut self, other: Self) {
        match (self, other) {
            (Self::Numbers(mine), Self::Numbers(theirs)) => mine.extend(theirs),
            (Self::Categories(mine), Self::Categories(theirs)) => mine.extend(&theirs),
            (Self::Times(mine), Self::Times(theirs)) => mine.extend(theirs),
            _ => debug_assert!(false, "columns of one kind"),
        }
    }

    /// Adds the rows of an array of the column `name`.
    ///
    /// # Errors
    /// 42804 when its type cannot be read so.
    pub fn append(&mut self, name: &str, array: &ArrayRef) -> Result<()> {
        let kind = match self {
            Self::Numbers(_) => InputKind::Number,
            Self::Categories(_) => InputKind::Category,
            Self::Times(_) => InputKind::Time,
        };
        if !kind.reads(array.data_type()) {
            return Err(mismatch(name, kind, array.data_type()));
        }
        let to = |data_type: &DataType| cast(array, data_type).map_err(|_| mismatch(name, kind, array.data_type()));
        match self {
            Self::Numbers(values) => {
                let array = to(&DataType::Float64)?;
                let array = array.as_primitive::<Float64Type>();
                match array.null_count() {
                    0 => values.extend_from_slice(array.values()),
                    _ => values.extend(array.iter().map(|value| value.unwrap_or(f64::NAN))),
                }
            }
            Self::Categories(coded) => {
                let missing = array.data_type().is_floating();
                let array = to(&DataType::Utf8)?;
                coded.codes.reserve(array.len());
                for value in array.as_string::<i32>() {
                    coded.push(value.filter(|value| !(missing && *value == "NaN")));
                }
            }
            Self::Times(values) => {
                let array = to(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
                values.extend(array.as_primitive::<TimestampMicrosecondType>().iter());
            }
        }
        Ok(())
    }
}

fn mismatch(name: &str, kind: InputKind, found: &DataType) -> Error {
    Error::new(Code::DatatypeMismatch, format!("column \"{name}\" must be {}", kind.word()))
        .detail(format!("Its type is {found}."))
        .hint("Cast it in the source, or take another step.")
}
