//! The columns that a stored transform reads, found by name.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;

use crate::error::Result;
use crate::features::transform::{Column, FittedTransform, InputKind, Values};

fn read(name: &str, kind: InputKind, array: &ArrayRef) -> Result<Column> {
    let mut values = Values::empty(kind);
    values.append(name, array)?;
    Ok(Column::new(name, values))
}

/// The columns that the steps read, in the order of the transform's inputs.
///
/// # Errors
/// What `column` says; 42804 when a column has another type.
pub(super) fn columns(fitted: &FittedTransform, column: &impl Fn(&str) -> Result<ArrayRef>) -> Result<Vec<Column>> {
    fitted.inputs.iter().map(|input| read(&input.name, input.kind, &column(&input.name)?)).collect()
}

/// The columns that say which fold a row is in.
///
/// # Errors
/// As [`columns`].
pub(super) fn keys(fitted: &FittedTransform, column: &impl Fn(&str) -> Result<ArrayRef>) -> Result<BTreeMap<String, Column>> {
    fitted.keys().into_iter().map(|name| Ok((name.to_owned(), read(name, InputKind::Category, &column(name)?)?))).collect()
}
