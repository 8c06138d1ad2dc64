//! Records: results of several named numbers.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use crate::error::{Error, Result};

/// One field of a record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell {
    Number(f64),
    Count(u64),
}

/// The type of a record: numbers, then counts.
pub(super) fn record_type(numbers: &[&str], counts: &[&str]) -> DataType {
    DataType::Struct(fields(numbers, counts))
}

fn fields(numbers: &[&str], counts: &[&str]) -> Fields {
    let number = |name: &&str| Field::new(*name, DataType::Float64, true);
    let count = |name: &&str| Field::new(*name, DataType::Int64, true);
    numbers.iter().map(number).chain(counts.iter().map(count)).collect()
}

/// A column of records: `rows` hold the numbers, then the counts; NaN becomes NULL, `None` a NULL record.
///
/// # Errors
/// A bug of ours when a row has another length.
pub(super) fn records(numbers: &[&str], counts: &[&str], rows: &[Option<Vec<Cell>>]) -> Result<ArrayRef> {
    let number = |at: usize| {
        let cell = |row: &Option<Vec<Cell>>| match row.as_ref()?.get(at)? {
            Cell::Number(value) => Some(*value).filter(|value| !value.is_nan()),
            Cell::Count(count) => Some(*count as f64),
        };
        Arc::new(rows.iter().map(cell).collect::<Float64Array>()) as ArrayRef
    };
    let count = |at: usize| {
        let cell = |row: &Option<Vec<Cell>>| match row.as_ref()?.get(at)? {
            Cell::Count(count) => i64::try_from(*count).ok(),
            Cell::Number(_) => None,
        };
        Arc::new(rows.iter().map(cell).collect::<Int64Array>()) as ArrayRef
    };
    let columns = (0..numbers.len()).map(number).chain((numbers.len()..numbers.len() + counts.len()).map(count)).collect();
    let valid = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let made = StructArray::try_new(fields(numbers, counts), columns, Some(valid));
    Ok(Arc::new(made.map_err(|error| Error::internal(format!("a record cannot be made: {error}")))?))
}
