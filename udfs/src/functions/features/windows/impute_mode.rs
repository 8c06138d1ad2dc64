//! `impute_mode(x)`

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition};
use crate::error::{Error, Result};

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The value, or the partition's most frequent value where it is missing; of several the least. Of any type that can be ordered, and of the same type. NULL when the partition has no value.",
    syntax_example = "impute_mode(x) OVER (…)",
    sql_example = "```sql\nSELECT impute_mode(country) OVER () FROM (VALUES ('FR'), (NULL), ('FR'), ('DE')) AS t(country);\n-- FR, FR, FR, DE\n```",
    argument(name = "x", description = "A value. NULL and NaN are missing.")
)]
#[derive(Debug)]
pub(super) struct ImputeMode;

impl WholePartition for ImputeMode {
    fn name(&self) -> &'static str {
        "impute_mode"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Any)] }
    }

    fn output(&self, types: &[DataType]) -> DataType {
        types.first().cloned().unwrap_or(DataType::Null)
    }

    fn compute(&self, columns: &[ArrayRef], _constants: &Constants) -> Result<ArrayRef> {
        let array = columns.first().ok_or_else(|| Error::internal("an argument is missing"))?;
        let missing = missing(array);
        let failed = |error: arrow::error::ArrowError| Error::internal(error.to_string());
        let converter = RowConverter::new(vec![SortField::new(array.data_type().clone())]);
        let rows = converter.and_then(|converter| converter.convert_columns(&[Arc::clone(array)])).map_err(failed)?;
        let mut counts: HashMap<&[u8], (usize, u32)> = HashMap::new();
        for (row, value) in rows.iter().enumerate().filter(|(row, _)| !missing(*row)) {
            counts.entry(value.data()).or_insert((0, row as u32)).0 += 1;
        }
        let best = counts.iter().max_by(|a, b| a.1.0.cmp(&b.1.0).then_with(|| b.0.cmp(a.0))).map(|(_, (_, row))| *row);
        let filled: UInt32Array = (0..array.len() as u32).map(|row| if missing(row as usize) { best } else { Some(row) }).collect();
        take(array, &filled, None).map_err(failed)
    }
}

/// Whether the value of a row is missing.
pub(super) fn missing(array: &ArrayRef) -> Box<dyn Fn(usize) -> bool + '_> {
    let nulls = array.logical_nulls();
    let null = move |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Box::new(move |row| null(row) || values.value(row).is_nan())
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            Box::new(move |row| null(row) || values.value(row).is_nan())
        }
        _ => Box::new(null),
    }
}
