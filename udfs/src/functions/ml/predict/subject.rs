//! Argument columns → keys, moments and sequences. Casts follow the model's key type; a text that cannot be read is an
//! error (22P02), a number outside the key's range is merely an unknown user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{CastOptions, cast, cast_with_options, concat};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use super::answers::UNKNOWN;
use super::predictor::{GivenSequence, Key, SequenceRow};
use crate::error::{Code, Error, Result};
use crate::features::KeyType;
use crate::features::events::UserKey;

/// User ids as the model's keys.
#[derive(Debug)]
pub(crate) enum Users {
    Int64(Int64Array),
    Utf8(StringArray),
}

impl Users {
    /// Casts a column of user ids.
    ///
    /// # Errors
    /// [`Code::InvalidText`] when a text is no number and the keys are numbers; [`Code::DatatypeMismatch`] for types that
    /// cannot name a user.
    pub(crate) fn new(column: &ArrayRef, key_type: KeyType) -> Result<Self> {
        let column = plain(column)?;
        let mismatch = || Error::new(Code::DatatypeMismatch, format!("a value of type {} cannot name a user", column.data_type()));
        match key_type {
            KeyType::Utf8 => {
                let text = cast(&column, &DataType::Utf8).map_err(|_| mismatch())?;
                Ok(Self::Utf8(text.as_string::<i32>().clone()))
            }
            KeyType::Int64 => match column.data_type() {
                DataType::Utf8 => parse_keys(column.as_string::<i32>()).map(Self::Int64),
                DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                    let numbers = cast(&column, &DataType::Float64).map_err(|_| mismatch())?;
                    let numbers = numbers.as_primitive::<arrow::datatypes::Float64Type>();
                    Ok(Self::Int64(numbers.iter().map(|number| number.and_then(whole)).collect()))
                }
                DataType::Boolean | DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Err(mismatch()),
                _ => {
                    let options = CastOptions { safe: true, ..CastOptions::default() };
                    let numbers = cast_with_options(&column, &DataType::Int64, &options).map_err(|_| mismatch())?;
                    Ok(Self::Int64(numbers.as_primitive::<arrow::datatypes::Int64Type>().clone()))
                }
            },
        }
    }

    /// The distinct keys at their moments, in order of appearance, and for each row the index of its key.
    /// A NULL user has none ([`UNKNOWN`]); a NULL moment means `default_us`.
    pub(crate) fn distinct(&self, moments: Option<&TimestampMicrosecondArray>, default_us: i64) -> (Vec<Key>, Vec<u32>) {
        let moment = |row: usize| match moments {
            Some(moments) if moments.is_valid(row) => moments.value(row),
            _ => default_us,
        };
        match self {
            Self::Int64(users) => number(users.iter().enumerate().map(|(row, user)| user.map(|user| (user, moment(row)))))
                .map_keys(|(user, at)| (UserKey::Int64(user), at)),
            Self::Utf8(users) => number(users.iter().enumerate().map(|(row, user)| user.map(|user| (user, moment(row)))))
                .map_keys(|(user, at)| (UserKey::Utf8(Arc::from(user)), at)),
        }
    }
}

/// Distinct values in order of appearance and each row's index among them.
struct Numbered<T> {
    distinct: Vec<T>,
    rows: Vec<u32>,
}

impl<T> Numbered<T> {
    fn map_keys(self, key: impl Fn(T) -> Key) -> (Vec<Key>, Vec<u32>) {
        (self.distinct.into_iter().map(key).collect(), self.rows)
    }
}

fn number<T: Hash + Eq + Copy>(values: impl Iterator<Item = Option<T>>) -> Numbered<T> {
    let mut seen: HashMap<T, u32> = HashMap::new();
    let mut numbered = Numbered { distinct: Vec::new(), rows: Vec::new() };
    for value in values {
        let row = value.map(|value| {
            *seen.entry(value).or_insert_with(|| {
                numbered.distinct.push(value);
                u32::try_from(numbered.distinct.len() - 1).unwrap_or(UNKNOWN)
            })
        });
        numbered.rows.push(row.unwrap_or(UNKNOWN));
    }
    numbered
}

fn parse_keys(texts: &StringArray) -> Result<Int64Array> {
    let mut keys = Int64Array::builder(texts.len());
    for text in texts {
        let key = match text {
            None => None,
            Some(text) => Some(text.trim().parse::<i64>().map_err(|_| {
                Error::new(Code::InvalidText, format!("invalid input syntax for type bigint: \"{text}\""))
                    .hint("The model's users are numbered; pass a whole number as the user id.")
            })?),
        };
        keys.append_option(key);
    }
    Ok(keys.finish())
}

/// A float that is a whole number within the key's range.
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked by the comparison")]
    let key = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "a loss means that the number is no key")]
    let same = key as f64 == number;
    same.then_some(key)
}

/// The column without dictionary or view encoding.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    let target = match column.data_type() {
        DataType::Dictionary(_, values) => (**values).clone(),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        _ => return Ok(Arc::clone(column)),
    };
    let column = cast(column, &target).map_err(|error| Error::internal(format!("reading user ids failed: {error}")))?;
    if matches!(column.data_type(), DataType::Utf8View | DataType::LargeUtf8) { plain(&column) } else { Ok(column) }
}

/// Casts a column of moments to microseconds since 1970 UTC.
///
/// # Errors
/// [`Code::InvalidDatetime`] for a text that is no time.
pub(crate) fn moments(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let target = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(column, &target, &options).map_err(|error| {
        let text = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let code = if text { Code::InvalidDatetime } else { Code::DatatypeMismatch };
        Error::new(code, "as_of cannot be read as a time").detail(format!("{error}."))
    })?;
    Ok(cast.as_primitive::<TimestampMicrosecondType>().clone())
}

/// The argument columns of a `_seq` call, as lists of text and of microseconds.
#[derive(Debug)]
pub(crate) struct Sequences {
    pub(crate) events: ListArray,
    pub(crate) items: Option<ListArray>,
    pub(crate) times: Option<ListArray>,
}

impl Sequences {
    /// The sequences row by row.
    ///
    /// # Errors
    /// A NULL among the events or times, or items or times that are not one for each event.
    pub(crate) fn rows(&self) -> Result<Vec<GivenSequence<'_>>> {
        (0..self.events.len()).map(|row| self.row(row)).collect()
    }

    fn row(&self, row: usize) -> Result<GivenSequence<'_>> {
        if self.events.is_null(row) {
            return Ok(None);
        }
        let events = texts(&self.events, row)?
            .into_iter()
            .map(|event| event.ok_or_else(|| Error::invalid("events of a sequence must not be NULL")))
            .collect::<Result<Vec<_>>>()?;
        let items = match &self.items {
            Some(items) if items.is_valid(row) => {
                let items: Vec<&str> = texts(items, row)?.into_iter().map(Option::unwrap_or_default).collect();
                same_length("items", items.len(), events.len())?;
                Some(items)
            }
            _ => None,
        };
        let times_us = match &self.times {
            Some(times) if times.is_valid(row) => {
                let range = times.value_offsets()[row] as usize..times.value_offsets()[row + 1] as usize;
                let values = times.values().as_primitive_opt::<TimestampMicrosecondType>();
                let values = values.ok_or_else(|| Error::internal("times of a sequence were not cast"))?;
                same_length("times", range.len(), events.len())?;
                if range.clone().any(|index| values.is_null(index)) {
                    return Err(Error::invalid("times of a sequence must not be NULL"));
                }
                Some(values.values()[range].to_vec())
            }
            _ => None,
        };
        Ok(Some(SequenceRow { events, items, times_us }))
    }
}

fn same_length(what: &str, given: usize, events: usize) -> Result<()> {
    if given == events {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} of a sequence must be one for each event"))
        .detail(format!("There are {events} events and {given} {what}.")))
}

fn texts(list: &ListArray, row: usize) -> Result<Vec<Option<&str>>> {
    let range = list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
    let values = list.values().as_string_opt::<i32>();
    let values = values.ok_or_else(|| Error::internal("events of a sequence were not cast"))?;
    Ok(range.map(|index| values.is_valid(index).then(|| values.value(index))).collect())
}

/// Several columns as one; of one, itself.
pub(crate) fn joined(columns: &[ArrayRef]) -> Result<ArrayRef> {
    match columns {
        [one] => Ok(Arc::clone(one)),
        many => {
            let parts: Vec<&dyn Array> = many.iter().map(AsRef::as_ref).collect();
            concat(&parts).map_err(|error| Error::internal(format!("joining argument columns failed: {error}")))
        }
    }
}

/// Row indices `0..rows`, for answers that stand row by row.
pub(crate) fn every_row(rows: usize) -> Vec<u32> {
    (0..u32::try_from(rows).unwrap_or(UNKNOWN)).collect()
}

/// Positions of the valid rows of a column.
pub(crate) fn valid_rows(column: &dyn Array) -> UInt32Array {
    let rows = (0u32..).take(column.len()).filter(|row| column.is_valid(*row as usize));
    rows.collect::<Vec<_>>().into()
}
