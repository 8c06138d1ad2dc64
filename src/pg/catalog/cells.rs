//! Rows of catalog tables as loose cells, and the batches that they become.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::error::ArrowError;

use super::definitions::{ColumnKind, Table};

/// One value of a row.
#[derive(Debug, Clone, Default)]
pub(super) enum Cell {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(Cow<'static, str>),
    Texts(Vec<String>),
    Ints(Vec<i32>),
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<&'static str> for Cell {
    fn from(value: &'static str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl From<Vec<String>> for Cell {
    fn from(value: Vec<String>) -> Self {
        Self::Texts(value)
    }
}

impl From<Vec<i32>> for Cell {
    fn from(value: Vec<i32>) -> Self {
        Self::Ints(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row: the columns it says something of; the others are NULL, or zero or empty where NULL is not allowed.
pub(super) type Row = Vec<(&'static str, Cell)>;

/// Makes a [`Row`]: `row! { oid: 1, relname: name }`.
macro_rules! row {
    ($($column:ident : $value:expr),* $(,)?) => {
        vec![$((stringify!($column), $crate::pg::catalog::cells::Cell::from($value))),*]
    };
}
pub(super) use row;

/// The rows as a batch of `table`'s columns.
pub(super) fn batch(table: &Table, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let mut arrays = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        let cells = rows.iter().map(|row| {
            let cell = row.iter().find(|(name, _)| *name == column.name).map_or(&Cell::Null, |(_, cell)| cell);
            if matches!(cell, Cell::Null) && column.required { column.kind.zero() } else { cell.clone() }
        });
        arrays.push(array(column.kind, cells));
    }
    RecordBatch::try_new_with_options(
        Arc::clone(&table.schema),
        arrays,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len())),
    )
}

fn array(kind: ColumnKind, cells: impl Iterator<Item = Cell>) -> ArrayRef {
    macro_rules! build {
        ($builder:expr, $pattern:pat => $value:expr) => {{
            let mut builder = $builder;
            for cell in cells {
                match cell {
                    $pattern => builder.append_value($value),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    match kind {
        ColumnKind::Bool => build!(BooleanBuilder::new(), Cell::Bool(value) => value),
        ColumnKind::Int2 => build!(Int16Builder::new(), Cell::Int(value) => value as i16),
        ColumnKind::Int4 | ColumnKind::Oid | ColumnKind::Regproc => build!(Int32Builder::new(), Cell::Int(value) => value as i32),
        ColumnKind::Int8 => build!(Int64Builder::new(), Cell::Int(value) => value),
        ColumnKind::Float4 => build!(Float32Builder::new(), Cell::Int(value) => value as f32),
        ColumnKind::Float8 => {
            let mut builder = Float64Builder::new();
            for cell in cells {
                builder.append_option(match cell {
                    Cell::Real(value) => Some(value),
                    Cell::Int(value) => Some(value as f64),
                    _ => None,
                });
            }
            Arc::new(builder.finish())
        }
        ColumnKind::Timestamptz => {
            build!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), Cell::Int(value) => value)
        }
        ColumnKind::Text | ColumnKind::Name | ColumnKind::Char | ColumnKind::Int2Vector | ColumnKind::OidVector => {
            build!(StringBuilder::new(), Cell::Text(value) => value)
        }
        ColumnKind::Texts | ColumnKind::Names => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for cell in cells {
                match cell {
                    Cell::Texts(values) => builder.append_value(values.into_iter().map(Some)),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        // No row has these.
        ColumnKind::SmallInts => {
            let mut builder = ListBuilder::new(Int16Builder::new());
            cells.for_each(|_| builder.append_null());
            Arc::new(builder.finish())
        }
        ColumnKind::Ints | ColumnKind::Oids => {
            let mut builder = ListBuilder::new(Int32Builder::new());
            for cell in cells {
                match cell {
                    Cell::Ints(values) => builder.append_value(values.into_iter().map(Some)),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
    }
}
