//! Which columns of a source a function looks at, and columns of result rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;

use crate::error::{Code, Error, Result};
use crate::features::transform::InputKind;
use crate::kernels::nearest::nearest;

/// Names in a text: `a, "My Col"`; without quotes in lower case.
pub(super) fn names(text: &str) -> Vec<String> {
    let name = |word: &str| match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_lowercase(),
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(name).collect()
}

/// The place of a column.
///
/// # Errors
/// 42703 with the nearest name.
pub(super) fn index_of(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" does not exist"))
            .detail(format!("The source has the columns {}.", there.join(", ")));
        match nearest(name, there) {
            Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
            None => error,
        }
    })
}

/// The columns of numbers that `text` names, or all of them.
///
/// # Errors
/// 42703 for a missing column, 42804 for one that is no number, 22023 when there are none or more than `most`.
pub(super) fn numbers(schema: &Schema, text: Option<&str>, most: usize) -> Result<Vec<usize>> {
    let number = |index: &usize| InputKind::Number.reads(schema.field(*index).data_type());
    let found = match text {
        None => (0..schema.fields().len()).filter(number).collect(),
        Some(text) => {
            let mut found = Vec::new();
            for name in names(text) {
                let index = index_of(schema, &name)?;
                if !number(&index) {
                    return Err(Error::new(Code::DatatypeMismatch, format!("column \"{name}\" must be a number"))
                        .detail(format!("Its type is {}.", crate::functions::relation::sql_type(schema.field(index).data_type()))));
                }
                if !found.contains(&index) {
                    found.push(index);
                }
            }
            found
        }
    };
    if found.is_empty() {
        return Err(Error::invalid("the source has no column of numbers"));
    }
    if found.len() > most {
        return Err(Error::invalid(format!("at most {most} columns can be compared"))
            .detail(format!("The source has {} columns of numbers.", found.len()))
            .hint("Name some: columns => 'a, b, c'."));
    }
    Ok(found)
}

/// A schema of nullable columns.
pub(super) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}

pub(super) fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

pub(super) fn counts(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| i64::try_from(value).ok()).collect::<Int64Array>())
}

/// Numbers; NaN becomes NULL.
pub(super) fn doubles(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| value.filter(|value| !value.is_nan())).collect::<Float64Array>())
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> DfResult<RecordBatch> {
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
