//! What calls of this room have in common: times of several types, windows in several units, conditions, constants.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Code, Error, Result};
use crate::functions::relation::{duration_us, sql_type};

const DAY_NS: i128 = 86_400_000_000_000;

/// The type that a time column is read as: timestamps as they are, dates as days, whole numbers as 64 bits.
pub(super) fn time_type(given: &DataType) -> Option<DataType> {
    Some(match given {
        DataType::Timestamp(..) | DataType::Date32 => given.clone(),
        DataType::Date64 => DataType::Date32,
        DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
        integer if integer.is_integer() => DataType::Int64,
        _ => return None,
    })
}

/// Whether values of a type can be conditions: booleans, and whole numbers of which zero is false.
pub(super) fn is_condition(given: &DataType) -> bool {
    matches!(given, DataType::Boolean | DataType::Null) || given.is_integer()
}

/// How many units of a time type one second has; a day is the unit of dates, 1 that of numbers.
fn unit_ns(time: &DataType) -> Option<i128> {
    Some(match time {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        DataType::Date32 => DAY_NS,
        _ => return None,
    })
}

/// How many units of `time` a whole number without a unit counts: seconds of timestamps, days of dates, numbers as they are.
pub(super) fn number_unit(time: &DataType) -> u64 {
    match unit_ns(time) {
        Some(DAY_NS) | None => 1,
        Some(ns) => u64::try_from(1_000_000_000 / ns).unwrap_or(1),
    }
}

/// A length of time in units of `time`, rounded down (times are whole units, so nothing changes by it). `what` names
/// it in messages.
///
/// # Errors
/// 22023 for NULL, a negative length or a length that the times cannot have; 22P02 for text that is no interval.
pub(super) fn length(what: &str, value: &ScalarValue, time: &DataType) -> Result<u64> {
    let negative = || Error::invalid(format!("{what} cannot be negative")).detail(format!("It is {}.", shown(value)));
    if value.is_null() {
        return Err(Error::invalid(format!("{what} must not be null")));
    }
    let digits = value.try_as_str().flatten().is_some_and(|text| text.trim().parse::<i64>().is_ok());
    if value.data_type().is_integer() || digits {
        let number = value.cast_to(&DataType::Int64).map_err(|_| Error::invalid(format!("{what} cannot be {value}")))?;
        let ScalarValue::Int64(Some(number)) = number else { return Err(Error::internal("a number was expected")) };
        return u64::try_from(number).map(|number| number.saturating_mul(number_unit(time))).map_err(|_| negative());
    }
    let ns = nanoseconds(value).ok_or_else(|| match value.try_as_str().flatten() {
        Some(text) => Error::new(Code::InvalidText, format!("invalid input syntax for type interval: \"{text}\"")),
        None => Error::new(
            Code::DatatypeMismatch,
            format!("{what} must be an interval or a whole number, not {}", sql_type(&value.data_type())),
        ),
    })?;
    let unit = unit_ns(time)
        .ok_or_else(|| Error::new(Code::DatatypeMismatch, format!("{what} must be a whole number where times are numbers")))?;
    if ns < 0 {
        return Err(negative());
    }
    Ok(u64::try_from(ns / unit).unwrap_or(u64::MAX))
}

/// A value as a person would write it.
fn shown(value: &ScalarValue) -> String {
    let text = value.cast_to(&DataType::Utf8).ok().and_then(|text| text.try_as_str().flatten().map(str::to_owned));
    text.unwrap_or_else(|| value.to_string())
}

/// An interval in nanoseconds; a month counts 30 days.
fn nanoseconds(value: &ScalarValue) -> Option<i128> {
    if let Some(text) = value.try_as_str().flatten() {
        return duration_us(text).map(|us| i128::from(us) * 1000);
    }
    if let DataType::Duration(_) = value.data_type() {
        let ScalarValue::DurationNanosecond(Some(ns)) = value.cast_to(&DataType::Duration(TimeUnit::Nanosecond)).ok()? else {
            return None;
        };
        return Some(i128::from(ns));
    }
    match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) => {
            Some((i128::from(v.months) * 30 + i128::from(v.days)) * DAY_NS + i128::from(v.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(v)) => Some(i128::from(v.days) * DAY_NS + i128::from(v.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(months)) => Some(i128::from(*months) * 30 * DAY_NS),
        _ => None,
    }
}

/// The type that a length of time is read as; a parameter without a type is text, as in PostgreSQL.
pub(super) fn length_type(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Null => Some(DataType::Utf8),
        DataType::Interval(_) | DataType::Duration(_) => Some(given.clone()),
        other => (other.is_integer() || other.is_string()).then(|| other.clone()),
    }
}

/// The value of an argument that must be the same for all rows.
///
/// # Errors
/// 22023 when it depends on a column.
pub(super) fn constant(name: &str, argument: &str, expr: &Arc<dyn PhysicalExpr>) -> DfResult<ScalarValue> {
    let not_constant = || Error::invalid(format!("argument \"{argument}\" of {name} must be a constant"));
    if !datafusion::physical_expr::utils::collect_columns(expr).is_empty() {
        return Err(not_constant().into());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
    Ok(match expr.evaluate(&row)? {
        ColumnarValue::Scalar(value) => value,
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0)?,
    })
}

/// A constant text.
///
/// # Errors
/// 22023 for NULL or a column.
pub(super) fn constant_text(name: &str, argument: &str, expr: &Arc<dyn PhysicalExpr>) -> DfResult<String> {
    match constant(name, argument, expr)?.try_as_str().flatten() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::invalid(format!("argument \"{argument}\" of {name} must be a text")).into()),
    }
}

/// Times as whole numbers of their unit.
pub(super) fn times(array: &ArrayRef) -> DfResult<Int64Array> {
    let whole = match array.data_type() {
        // Days first: their 32 bits do not become 64 in one step everywhere.
        DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(array, &DataType::Int64)?,
    };
    whole.as_primitive_opt::<Int64Type>().cloned().ok_or_else(|| Error::internal("times are no numbers").into())
}

/// Whole numbers as times of a type again.
pub(super) fn as_times(numbers: Int64Array, time: &DataType) -> DfResult<ArrayRef> {
    let numbers: ArrayRef = Arc::new(numbers);
    Ok(match time {
        DataType::Date32 => cast(&cast(&numbers, &DataType::Int32)?, time)?,
        _ => cast(&numbers, time)?,
    })
}

/// The rows for which a boolean is true.
pub(super) fn truths(array: &BooleanArray) -> BooleanBuffer {
    match array.nulls() {
        Some(nulls) if nulls.null_count() > 0 => array.values() & nulls.inner(),
        _ => array.values().clone(),
    }
}

/// A list whose items may be NULL by type.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// The error for a number of arguments, or types, that no spelling of a function has.
pub(super) fn no_such_call(name: &str, given: &[DataType], signatures: &[&str]) -> Error {
    let types: Vec<String> = given.iter().map(sql_type).collect();
    Error::new(Code::UndefinedFunction, format!("function {name}({}) does not exist", types.join(", ")))
        .hint(format!("It is called as {}.", signatures.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_the_unit_of_the_times() {
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let at = |value: ScalarValue, time: &DataType| length("the window", &value, time);
        assert_eq!(at(ScalarValue::Int64(Some(90)), &micros).unwrap(), 90_000_000);
        assert_eq!(at("90 seconds".into(), &seconds).unwrap(), 90);
        assert_eq!(at("90".into(), &seconds).unwrap(), 90);
        assert_eq!(at(ScalarValue::new_interval_mdn(0, 0, 1_500_000_000), &seconds).unwrap(), 1);
        assert_eq!(at(ScalarValue::new_interval_mdn(1, 1, 0), &DataType::Date32).unwrap(), 31);
        assert_eq!(at(ScalarValue::Int32(Some(7)), &DataType::Date32).unwrap(), 7);
        assert_eq!(at(ScalarValue::UInt8(Some(7)), &DataType::Int64).unwrap(), 7);
        assert_eq!(
            at(ScalarValue::new_interval_mdn(i32::MAX, i32::MAX, i64::MAX), &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap(),
            u64::MAX
        );
        let code = |value: ScalarValue, time: &DataType| at(value, time).unwrap_err().code;
        assert_eq!(code(ScalarValue::Int64(Some(-1)), &micros), Code::InvalidParameter);
        assert_eq!(code(ScalarValue::new_interval_mdn(0, -1, 0), &micros), Code::InvalidParameter);
        assert_eq!(code(ScalarValue::Int64(None), &micros), Code::InvalidParameter);
        assert_eq!(code("soon".into(), &micros), Code::InvalidText);
        assert_eq!(code(true.into(), &micros), Code::DatatypeMismatch);
        assert_eq!(code("1 day".into(), &DataType::Int64), Code::DatatypeMismatch);
        assert_eq!(code(ScalarValue::UInt64(Some(u64::MAX)), &micros), Code::InvalidParameter);
    }
}
