//! What the functions of the room share: counting arguments, broadcasting constants, lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, Signature, Volatility};

use crate::error::{Code, Error, Result};
use crate::functions::relation::sql_type;

/// Any arguments, checked by the function itself; bound by position or by `names`.
pub(super) fn signature(names: &[&str]) -> Signature {
    let mut signature = Signature::user_defined(Volatility::Immutable);
    if !names.is_empty() {
        signature.parameter_names = Some(names.iter().map(|name| (*name).to_owned()).collect());
    }
    signature
}

/// A list of this type, as SQL arrays are.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

pub(super) fn is_text(found: &DataType) -> bool {
    match found {
        DataType::Dictionary(_, value) => is_text(value),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null),
    }
}

/// 42883 for another number of arguments.
pub(super) fn count(name: &str, given: usize, range: std::ops::RangeInclusive<usize>, syntax: &str) -> Result<()> {
    if range.contains(&given) {
        return Ok(());
    }
    let counts = if range.start() == range.end() { range.start().to_string() } else { format!("{} to {}", range.start(), range.end()) };
    Err(Error::new(Code::UndefinedFunction, format!("function {name} takes {counts} arguments"))
        .detail(format!("{given} arguments were given."))
        .hint(format!("It is written {syntax}.")))
}

/// 42804 for an argument of another type.
pub(super) fn wrong_type(name: &str, argument: &str, what: &str, found: &DataType) -> Error {
    Error::new(Code::DatatypeMismatch, format!("argument \"{argument}\" of {name} must be {what}"))
        .detail(format!("Its type is {}.", sql_type(found)))
}

/// Runs `rows` over the arguments as arrays: once for constants, whose result is a constant.
pub(super) fn over_rows(args: &ScalarFunctionArgs, rows: impl FnOnce(&[ArrayRef], usize) -> Result<ArrayRef>) -> DfResult<ColumnarValue> {
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let count = if constant { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|value| value.to_array(count)).collect::<DfResult<Vec<_>>>()?;
    let made = rows(&arrays, count)?;
    if made.len() != count {
        return Err(Error::internal("a function gave another number of rows").into());
    }
    if constant { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)) } else { Ok(ColumnarValue::Array(made)) }
}
