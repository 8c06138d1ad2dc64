//! `percentile_disc` and `mode`, of the values in their order: a rewrite gathers them into a list, and these pick one of it.

use std::sync::Arc;

use arrow::array::types::Float64Type;
use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{Kernel, Returns, refused, uncast};
use crate::error::{Error, Result, classify};

pub(crate) const PERCENTILE: &str = "list_percentile_disc";
pub(crate) const MODE: &str = "list_mode";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let percentile =
        Kernel { name: PERCENTILE, coerce: list_and_fraction, returns: Returns::Of(element), type_name: None, run: percentile };
    let mode = Kernel { name: MODE, coerce: list, returns: Returns::Of(element), type_name: None, run: mode };
    vec![percentile.function(), mode.function()]
}

fn list(given: &[DataType]) -> DfResult<Vec<DataType>> {
    match given {
        [list @ DataType::List(_)] => Ok(vec![list.clone()]),
        _ => refused(MODE),
    }
}

fn list_and_fraction(given: &[DataType]) -> DfResult<Vec<DataType>> {
    match given {
        [list @ DataType::List(_), fraction] if fraction.is_numeric() || fraction.is_null() => Ok(vec![list.clone(), DataType::Float64]),
        _ => refused(PERCENTILE),
    }
}

fn element(given: &[DataType]) -> DfResult<DataType> {
    match given {
        [DataType::List(item), ..] => Ok(item.data_type().clone()),
        _ => refused(MODE),
    }
}

/// The first value that at least that fraction of them is not behind.
fn percentile(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    let fractions = columns.get(1).and_then(|column| column.as_primitive_opt::<Float64Type>()).ok_or_else(|| uncast(PERCENTILE))?;
    picked(columns, |row, _, length| {
        if fractions.is_null(row) {
            return Ok(None);
        }
        let fraction = fractions.value(row);
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::new(crate::error::Code::NumericOutOfRange, format!("percentile value {fraction} is not between 0 and 1")));
        }
        Ok(Some(((fraction * length as f64).ceil() as usize).saturating_sub(1)))
    })
}

/// The value that is there most often; of several the first.
fn mode(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    picked(columns, |_, values, _| {
        let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())]).map_err(|error| classify(error.into()))?;
        let rows = converter.convert_columns(&[Arc::clone(values)]).map_err(|error| classify(error.into()))?;
        let (mut best, mut best_count, mut start) = (0, 0, 0);
        for row in 0..rows.num_rows() {
            if rows.row(row) != rows.row(start) {
                start = row;
            }
            if row - start + 1 > best_count {
                (best, best_count) = (start, row - start + 1);
            }
        }
        Ok(Some(best))
    })
}

/// One value of each list that has any.
fn picked(columns: &[ArrayRef], pick: impl Fn(usize, &ArrayRef, usize) -> Result<Option<usize>>) -> Result<ArrayRef> {
    let lists = columns.first().and_then(|column| column.as_list_opt::<i32>()).ok_or_else(|| uncast(MODE))?;
    let mut indices: Vec<Option<u64>> = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let length = lists.value_length(row) as usize;
        let place = if lists.is_null(row) || length == 0 { None } else { pick(row, &lists.value(row), length)? };
        indices.push(place.map(|place| u64::from(lists.value_offsets()[row].unsigned_abs()) + place as u64));
    }
    take(lists.values(), &UInt64Array::from(indices), None).map_err(|error| classify(error.into()))
}
