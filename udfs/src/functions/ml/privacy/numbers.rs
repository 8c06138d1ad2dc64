//! What the accountant's functions share: four numbers in, one out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, Signature, Volatility};

use crate::error::{Code, Error, Result};

/// Numbers bound by position or by `names`.
pub(super) fn signature(names: [&str; 4]) -> Signature {
    let mut signature = Signature::user_defined(Volatility::Immutable);
    signature.parameter_names = Some(names.map(str::to_owned).to_vec());
    signature
}

/// Numbers become doubles; anything else stays, and [`return_type`] refuses it: of an error here the engine would keep
/// the text alone.
pub(super) fn coerce(given: &[DataType]) -> Vec<DataType> {
    let double = |found: &DataType| if found.is_numeric() || found.is_null() { DataType::Float64 } else { found.clone() };
    given.iter().map(double).collect()
}

/// A number, for four numbers.
///
/// # Errors
/// 42883 for another number of arguments, 42804 for arguments of other types.
pub(super) fn return_type(name: &str, names: [&str; 4], given: &[DataType]) -> Result<DataType> {
    if given.len() != names.len() {
        return Err(Error::new(Code::UndefinedFunction, format!("function {name} takes {} arguments", names.len()))
            .detail(format!("{} arguments were given.", given.len()))
            .hint(format!("The arguments are {name}({}).", names.join(", "))));
    }
    match given.iter().zip(names).find(|(found, _)| !found.is_numeric() && !found.is_null()) {
        Some((found, argument)) => Err(Error::new(Code::DatatypeMismatch, format!("argument \"{argument}\" of {name} must be a number"))
            .detail(format!("Its type is {found}."))),
        None => Ok(DataType::Float64),
    }
}

/// Applies `kernel` row by row; NULL when an argument is NULL.
///
/// # Errors
/// Those of `kernel`.
pub(super) fn apply(args: &ScalarFunctionArgs, kernel: impl Fn([f64; 4]) -> Result<f64>) -> DataFusionResult<ColumnarValue> {
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<DataFusionResult<Vec<ArrayRef>>>()?;
    let columns: Vec<&Float64Array> = arrays.iter().filter_map(|array| array.as_primitive_opt::<Float64Type>()).collect();
    let [a, b, c, d] = columns[..] else { return Err(Error::internal("four numbers were expected").into()) };
    let row = |row: usize| match [a, b, c, d].iter().any(|column| column.is_null(row)) {
        true => Ok(None),
        false => kernel([a, b, c, d].map(|column| column.value(row))).map(Some),
    };
    let values = (0..rows).map(row).collect::<Result<Float64Array>>()?;
    if constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?));
    }
    Ok(ColumnarValue::Array(Arc::new(values)))
}

/// A sample rate: above 0, at most 1.
pub(super) fn sample_rate(value: f64) -> Result<f64> {
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(Error::invalid(format!("a sample rate cannot be {value}"))
        .hint("It is the batch size divided by the number of users, above 0 up to 1."))
}

/// A number of steps.
pub(super) fn steps(value: f64) -> Result<u64> {
    if value >= 0.0 && value.fract() == 0.0 && value <= 1e15 {
        return Ok(value as u64);
    }
    Err(Error::invalid(format!("a number of steps cannot be {value}")))
}

/// A δ: above 0, below 1.
pub(super) fn delta(value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(Error::invalid(format!("delta cannot be {value}")).hint("It is a probability far below one in the number of users, such as 1e-5."))
}
