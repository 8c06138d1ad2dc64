//! `width_bucket(operand, low, high, count)` and `width_bucket(operand, thresholds)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::arguments::{list_of, over_rows, signature, wrong_type};
use crate::error::{Code, Error, Result};

const SYNTAX: &str = "width_bucket(operand, low, high, count) or width_bucket(operand, thresholds)";

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "PostgreSQL's width_bucket, which the engine lacks: the bucket, from 1, of count equally wide ones between low and high, 0 below and count + 1 above; low may be greater than high. Or, with an ascending array of thresholds, how many of them are not above the operand (BigQuery's ML.BUCKETIZE counts the same from 1). NULL when an argument is; NaN is above everything. Arithmetic is in double precision.",
    syntax_example = "width_bucket(operand, low, high, count)",
    sql_example = "```sql\nSELECT width_bucket(5.35, 0.024, 10.06, 5), width_bucket(35, ARRAY[18, 30, 50]);\n-- 3, 2\n```",
    argument(name = "operand", description = "A number."),
    argument(name = "low", description = "Where the first bucket begins; or the thresholds, an array of numbers."),
    argument(name = "high", description = "Where the last bucket ends."),
    argument(name = "count", description = "How many buckets.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WidthBucket {
    signature: Signature,
}

impl WidthBucket {
    pub(super) fn new() -> Self {
        Self { signature: signature(&[]) }
    }
}

fn invalid_width(message: &str) -> Error {
    // PostgreSQL has 2201G for these; its class is that of an argument out of range.
    Error::new(Code::InvalidParameter, message)
}

/// As PostgreSQL's `width_bucket_float8`.
fn equal_width(operand: f64, low: f64, high: f64, count: i64) -> Result<i32> {
    let count = i32::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| invalid_width("count must be greater than zero"))?;
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return Err(invalid_width("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(invalid_width("lower and upper bounds must be finite"));
    }
    if low == high {
        return Err(invalid_width("lower bound cannot equal upper bound"));
    }
    let above = || count.checked_add(1).ok_or_else(|| Error::new(Code::NumericOutOfRange, "integer out of range"));
    let (from, to, x) = if low < high { (low, high, operand) } else { (-low, -high, -operand) };
    if x < from {
        return Ok(0);
    }
    if x >= to {
        return above();
    }
    // Halved, so that a range wider than the largest double does not overflow.
    let share = if (to - from).is_finite() { (x - from) / (to - from) } else { (x / 2.0 - from / 2.0) / (to / 2.0 - from / 2.0) };
    Ok(((f64::from(count) * share) as i32).min(count - 1) + 1)
}

fn thresholds_below(operand: f64, thresholds: &ArrayRef) -> Result<i32> {
    let thresholds = thresholds.as_primitive::<Float64Type>();
    if thresholds.null_count() > 0 {
        return Err(Error::invalid("thresholds array must not contain NULLs"));
    }
    let below = |threshold: &f64| operand.is_nan() || *threshold <= operand;
    Ok(thresholds.values().partition_point(below) as i32)
}

impl ScalarUDFImpl for WidthBucket {
    fn name(&self) -> &str {
        "width_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let to = |(index, found): (usize, &DataType)| match found {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
                if item.data_type().is_numeric() || item.data_type().is_null() =>
            {
                list_of(DataType::Float64)
            }
            found if index == 3 && (found.is_integer() || found.is_null()) => DataType::Int64,
            found if index < 3 && (found.is_numeric() || found.is_null()) => DataType::Float64,
            found => found.clone(),
        };
        Ok(given.iter().enumerate().map(to).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        if given.len() != 2 && given.len() != 4 {
            return Err(Error::new(Code::UndefinedFunction, "function width_bucket takes 2 or 4 arguments")
                .hint(format!("It is written {SYNTAX}."))
                .into());
        }
        let names: &[(&str, &str)] = match given.len() {
            2 => &[("operand", "a number"), ("thresholds", "an array of numbers")],
            _ => &[("operand", "a number"), ("low", "a number"), ("high", "a number"), ("count", "a whole number")],
        };
        for (index, (found, (name, what))) in given.iter().zip(names).enumerate() {
            let wanted = match (given.len(), index) {
                (2, 1) => list_of(DataType::Float64),
                (_, 3) => DataType::Int64,
                _ => DataType::Float64,
            };
            if *found != wanted && !(given.len() == 2 && index == 1 && found.is_null()) {
                return Err(wrong_type(self.name(), name, what, found).into());
            }
        }
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, |arrays, rows| -> Result<ArrayRef> {
            let null = |row: usize| arrays.iter().any(|array| array.is_null(row));
            let bucket = |row: usize| -> Result<Option<i32>> {
                if null(row) {
                    return Ok(None);
                }
                match arrays {
                    [operand, thresholds] => {
                        let Some(lists) = thresholds.as_list_opt::<i32>() else { return Ok(None) };
                        thresholds_below(operand.as_primitive::<Float64Type>().value(row), &lists.value(row)).map(Some)
                    }
                    [operand, low, high, count] => {
                        let [operand, low, high] = [operand, low, high].map(|array| array.as_primitive::<Float64Type>().value(row));
                        equal_width(operand, low, high, count.as_primitive::<Int64Type>().value(row)).map(Some)
                    }
                    _ => Err(Error::internal("two or four arguments were expected")),
                }
            };
            Ok(Arc::new((0..rows).map(bucket).collect::<Result<Int32Array>>()?))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
