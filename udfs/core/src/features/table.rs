//! Rows of a labelled table as raw features: numbers, booleans, texts and times, bound by name.
//!
//! Numbers stay numbers, also integers with few values (cast them to text to make categories of them); booleans are
//! 0 and 1; a time becomes days since 1970, hour, weekday and month; a text is a category. Lists and structs are not
//! used, and bytes only as the picture that the user names.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Float64Type, Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use serde::{Deserialize, Serialize};

use super::images::{ImagePlan, bytes_of};
use super::roles::{is_number, is_text, sql_type, undefined_column};
use super::tabular::DAY_US;
use super::text::TextPlan;
use crate::error::{Code, Error, Result};

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ColumnKind {
    Number,
    Text,
    Time,
}

/// One column of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
    /// Whether a kept feature needs it; others need not be there when scoring.
    pub(super) used: bool,
}

/// The columns of a labelled table, in the order of the training source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TablePlan {
    pub(super) columns: Vec<TableColumn>,
    /// The picture, if the rows have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<ImagePlan>,
    /// The texts of a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) texts: Vec<TextPlan>,
}

/// Raw numbers that one time column becomes.
const TIME_PARTS: [&str; 4] = ["days", "hour", "weekday", "month"];

/// A batch as raw features; columns that are not used are empty.
#[derive(Debug)]
pub(super) struct TableRows {
    numbers: Vec<Vec<f32>>,
    texts: Vec<Option<StringArray>>,
}

impl TableRows {
    /// A number; NaN = NULL.
    #[inline]
    pub(super) fn number(&self, row: usize, column: usize) -> f32 {
        self.numbers[column].get(row).copied().unwrap_or(f32::NAN)
    }

    /// A text; `None` = NULL.
    #[inline]
    pub(super) fn text(&self, row: usize, column: usize) -> Option<&str> {
        self.texts[column].as_ref().filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row))
    }
}

impl TablePlan {
    /// The columns of `schema` that can be features, without those in `leave_out`; and the names of those that
    /// cannot.
    pub(super) fn new(schema: &Schema, leave_out: &[&str]) -> (Self, Vec<String>) {
        let mut columns = Vec::new();
        let mut unusable = Vec::new();
        for field in schema.fields() {
            if leave_out.contains(&field.name().as_str()) {
                continue;
            }
            let kind = match field.data_type() {
                DataType::Boolean => ColumnKind::Number,
                DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => ColumnKind::Time,
                data_type if is_number(data_type) => ColumnKind::Number,
                data_type if is_text(data_type) => ColumnKind::Text,
                _ => {
                    unusable.push(field.name().clone());
                    continue;
                }
            };
            columns.push(TableColumn { name: field.name().clone(), kind, used: true });
        }
        (Self { columns, ..Self::default() }, unusable)
    }

    /// The columns that rows must have.
    pub(super) fn columns(&self) -> Vec<&str> {
        let image = self.image.iter().map(|image| image.column.as_str());
        let image = image.chain(self.texts.iter().map(|text| text.column.as_str()));
        self.columns.iter().filter(|column| column.used).map(|column| column.name.as_str()).chain(image).collect()
    }

    /// Appends the pictures of a batch that can be read; which rows they are, or `None` when rows have no picture.
    ///
    /// # Errors
    /// `UndefinedColumn`, `DatatypeMismatch`.
    pub(super) fn read_images(&self, batch: &RecordBatch, to: &mut Vec<u8>) -> Result<Option<Vec<bool>>> {
        let Some(image) = &self.image else { return Ok(None) };
        let array = column_of(batch, &image.column)?;
        let pictures = bytes_of(array, &image.column)?;
        Ok(Some(pictures.into_iter().map(|bytes| image.encode(bytes, to)).collect()))
    }

    /// The text columns of a batch, in the plan's order.
    ///
    /// # Errors
    /// `UndefinedColumn`, `DatatypeMismatch`.
    pub(super) fn read_texts(&self, batch: &RecordBatch) -> Result<Vec<StringArray>> {
        self.texts.iter().map(|text| text_of(batch, &text.column)).collect()
    }

    /// The names of the raw numbers.
    pub(super) fn numeric_names(&self) -> Vec<String> {
        self.numeric_sources().into_iter().map(|(name, _)| name).collect()
    }

    /// The raw numbers with the column each comes from.
    fn numeric_sources(&self) -> Vec<(String, usize)> {
        let mut names = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            match column.kind {
                ColumnKind::Number => names.push((column.name.clone(), index)),
                ColumnKind::Time => names.extend(TIME_PARTS.iter().map(|part| (format!("{}_{part}", column.name), index))),
                ColumnKind::Text => {}
            }
        }
        names
    }

    /// The names of the raw texts.
    pub(super) fn categorical_names(&self) -> Vec<String> {
        self.texts().map(|column| column.name.clone()).collect()
    }

    fn texts(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| column.kind == ColumnKind::Text)
    }

    /// Marks the columns that features with these raw sources need.
    pub(super) fn keep_used(&mut self, numeric: &[usize], categorical: &[usize]) {
        let numbers = self.numeric_sources();
        let used_numbers: Vec<usize> = numeric.iter().map(|source| numbers[*source].1).collect();
        let mut text = 0;
        for (index, column) in self.columns.iter_mut().enumerate() {
            if column.kind == ColumnKind::Text {
                column.used = categorical.contains(&text);
                text += 1;
            } else {
                column.used = used_numbers.contains(&index);
            }
        }
    }

    /// Reads a batch, binding columns by name.
    ///
    /// # Errors
    /// `UndefinedColumn`, `DatatypeMismatch`.
    pub(super) fn read(&self, batch: &RecordBatch) -> Result<TableRows> {
        let mut rows = TableRows { numbers: Vec::new(), texts: Vec::new() };
        for column in &self.columns {
            match column.kind {
                ColumnKind::Number if column.used => {
                    let array = to_type(column_of(batch, &column.name)?, &DataType::Float64, &column.name)?;
                    rows.numbers.push(floats(array.as_primitive::<Float64Type>()));
                }
                ColumnKind::Time if column.used => {
                    let times = to_micros(column_of(batch, &column.name)?, &column.name)?;
                    let part = |part: fn(i64) -> f32| times.iter().map(|time| time.map_or(f32::NAN, part)).collect::<Vec<f32>>();
                    rows.numbers.push(part(|us| (us as f64 / DAY_US as f64) as f32));
                    rows.numbers.push(part(|us| (us.rem_euclid(DAY_US) / (DAY_US / 24)) as f32));
                    rows.numbers.push(part(|us| (us.div_euclid(DAY_US) + 3).rem_euclid(7) as f32));
                    rows.numbers.push(part(|us| month(us.div_euclid(DAY_US)) as f32));
                }
                ColumnKind::Text if column.used => {
                    let array = to_type(column_of(batch, &column.name)?, &DataType::Utf8, &column.name)?;
                    rows.texts.push(Some(array.as_string::<i32>().clone()));
                }
                ColumnKind::Number => rows.numbers.push(Vec::new()),
                ColumnKind::Time => rows.numbers.resize(rows.numbers.len() + TIME_PARTS.len(), Vec::new()),
                ColumnKind::Text => rows.texts.push(None),
            }
        }
        Ok(rows)
    }
}

/// A column as texts.
///
/// # Errors
/// `UndefinedColumn`, `DatatypeMismatch`.
pub(super) fn text_of(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    Ok(to_type(column_of(batch, name)?, &DataType::Utf8, name)?.as_string::<i32>().clone())
}

fn floats(array: &Float64Array) -> Vec<f32> {
    array.iter().map(|value| value.filter(|value| value.is_finite()).map_or(f32::NAN, |value| value as f32)).collect()
}

/// The month (1…12) of a day since 1970 (Hinnant, "days to civil").
fn month(day: i64) -> i64 {
    let shifted = day + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 }
}

/// A column by its exact name, else the only one that differs in case alone.
pub(super) fn column_of<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    if let Some(column) = batch.column_by_name(name) {
        return Ok(column);
    }
    let schema = batch.schema_ref();
    let mut alike = schema.fields().iter().enumerate().filter(|(_, field)| field.name().eq_ignore_ascii_case(name));
    match (alike.next(), alike.next()) {
        (Some((index, _)), None) => Ok(batch.column(index)),
        _ => Err(undefined_column(name, schema.fields().iter().map(|field| field.name().as_str()))
            .detail("The model was trained with this column and needs it to score.")),
    }
}

/// Times as microseconds since 1970 UTC. A zone says how a timestamp is shown, not when it is, so it is left aside;
/// text is read as a timestamp, without zone as UTC.
pub(super) fn to_micros(array: &ArrayRef, name: &str) -> Result<TimestampMicrosecondArray> {
    let plain: ArrayRef = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            Arc::new(array.as_primitive::<TimestampSecondType>().clone().with_timezone_opt(None::<&str>))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Arc::new(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(None::<&str>))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<&str>))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Arc::new(array.as_primitive::<TimestampNanosecondType>().clone().with_timezone_opt(None::<&str>))
        }
        _ => Arc::clone(array),
    };
    let micros = to_type(&plain, &DataType::Timestamp(TimeUnit::Microsecond, None), name)?;
    Ok(micros.as_primitive::<TimestampMicrosecondType>().clone())
}

/// Casts a column; a text that is not of the type becomes NULL.
pub(super) fn to_type(array: &ArrayRef, to: &DataType, name: &str) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let plain = match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values),
        _ => Ok(Arc::clone(array)),
    };
    plain.and_then(|array| cast_with_options(&array, to, &options)).map_err(|_| {
        let (from, to) = (sql_type(array.data_type()), sql_type(to));
        Error::new(Code::DatatypeMismatch, format!("column \"{name}\" is of type {from} but must be {to}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months() {
        // 1970-01-01, 1970-12-31, 2000-02-29, 2000-03-01, 1969-12-31
        for (day, expected) in [(0, 1), (364, 12), (11_016, 2), (11_017, 3), (-1, 12)] {
            assert_eq!(month(day), expected, "{day}");
        }
    }
}
