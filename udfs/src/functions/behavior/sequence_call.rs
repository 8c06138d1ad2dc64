//! What the calls with a pattern share: `(pattern, ts, condition, …)`.

use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::arguments::{constant_text, is_condition, no_such_call, number_unit, time_type};
use super::events::{Conditions, Shape};
use crate::error::{Error, Result};
use crate::kernels::behavior::sequence::Pattern;

/// Tells the arguments apart.
///
/// # Errors
/// 42883 when they do not fit, 22023 for more than 64 conditions.
pub(super) fn shape(name: &str, given: &[DataType]) -> Result<Shape> {
    let unknown = || no_such_call(name, given, &[&format!("{name}(pattern, ts, condition, …)")]);
    let [pattern, time, conditions @ ..] = given else { return Err(unknown()) };
    let time = time_type(time).filter(|_| pattern.is_string() || pattern.is_null()).ok_or_else(unknown)?;
    if conditions.is_empty() || !conditions.iter().all(is_condition) {
        return Err(unknown());
    }
    if conditions.len() > 64 {
        return Err(Error::invalid(format!("{name} takes at most 64 conditions")).detail(format!("{} were given.", conditions.len())));
    }
    let mut types = given.to_vec();
    // A parameter without a type is text, as in PostgreSQL.
    types[0] = if pattern.is_null() { DataType::Utf8 } else { pattern.clone() };
    types[1] = time;
    types[2..].fill(DataType::Boolean);
    Ok(Shape { time: 1, conditions: Conditions::Columns(2..given.len()), types })
}

const HINT: &str = "Events are (?1) to (?64), by the place of their condition; between them .* is anything, . is one row, (?t<=600) the \
                    time that may pass.";

/// Reads the pattern.
///
/// # Errors
/// 22023 for a text that is none.
pub(super) fn pattern(name: &str, shape: &Shape, args: &AccumulatorArgs) -> DfResult<Pattern> {
    let text = constant_text(name, "pattern", &args.exprs[0])?;
    let parsed = Pattern::parse(&text, shape.condition_count(), number_unit(shape.time_type()));
    Ok(parsed.map_err(|error| Error::invalid(error.to_string()).detail(format!("The pattern is {text}.")).hint(HINT))?)
}
