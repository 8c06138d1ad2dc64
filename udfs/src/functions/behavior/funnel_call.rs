//! The spellings of a funnel call, told apart by the types of their arguments.
//!
//! | engine | call |
//! |---|---|
//! | ClickHouse, DuckDB | `(window, ts, c1, …, cn)` or with modes `(window, mode, …, ts, c1, …, cn)` |
//! | Doris, Hologres, DWS | `(window, mode, ts, c1, …, cn)` |
//! | StarRocks | `(window, ts, mode, ARRAY[c1, …, cn])`, the mode a whole number |

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Expr, lit};

use super::arguments::{constant, constant_text, is_condition, length, length_type, list_of, no_such_call, time_type};
use super::events::{Conditions, Keep, Shape};
use super::settings::funnel_compat;
use crate::error::{Error, Result};
use crate::kernels::behavior::funnel::{CONDITIONS_MAX, Dialect, Funnel, Mode, ModeError};

/// How the calls are written.
const SIGNATURES: [&str; 3] = ["(window, ts, condition, …)", "(window, mode, ts, condition, …)", "(window, ts, mode, array of conditions)"];

/// Tells the arguments of a funnel apart.
///
/// # Errors
/// 42883 when no spelling fits, 22023 for more than 64 conditions.
pub(super) fn shape(name: &str, given: &[DataType]) -> Result<Shape> {
    let unknown = || no_such_call(name, given, &SIGNATURES.map(|call| format!("{name}{call}")).each_ref().map(String::as_str));
    let (window, rest) = given.split_first().ok_or_else(unknown)?;
    let window = length_type(window).ok_or_else(unknown)?;
    if let [time, mode, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)] = rest
        && let Some(time) = time_type(time).filter(|_| mode.is_integer() && is_condition(item.data_type()))
    {
        let types = vec![window, time, DataType::Int64, list_of(DataType::Boolean)];
        return Ok(Shape { time: 1, conditions: Conditions::List(3), types });
    }
    let modes = rest.iter().take_while(|given| given.is_string()).count();
    let time = rest.get(modes).and_then(time_type).ok_or_else(unknown)?;
    let conditions = &rest[modes + 1..];
    if conditions.is_empty() || !conditions.iter().all(is_condition) {
        return Err(unknown());
    }
    if conditions.len() > CONDITIONS_MAX {
        return Err(
            Error::invalid(format!("{name} takes at most {CONDITIONS_MAX} conditions")).detail(format!("{} were given.", conditions.len()))
        );
    }
    let mut types = given.to_vec();
    types[0] = window;
    types[modes + 1] = time;
    types[modes + 2..].fill(DataType::Boolean);
    Ok(Shape { time: modes + 1, conditions: Conditions::Columns(modes + 2..given.len()), types })
}

/// Reads window and mode.
///
/// # Errors
/// 22023 for values that are no window or mode.
pub(super) fn funnel(name: &str, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Funnel, Keep)> {
    let window = length(&format!("the window of {name}"), &constant(name, "window", &args.exprs[0])?, shape.time_type())?;
    let dialect = Dialect::default();
    let refuse = |error: ModeError| Error::invalid(error.to_string()).hint(error.hint());
    let (mode, dialect) = match &shape.conditions {
        Conditions::List(_) => match constant(name, "mode", &args.exprs[2])?.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(bits)) => (Mode::bits(bits).map_err(refuse)?, dialect),
            _ => return Err(Error::invalid(format!("the mode of {name} must not be null")).into()),
        },
        Conditions::Columns(_) => {
            let words = (1..shape.time).map(|at| constant_text(name, "mode", &args.exprs[at])).collect::<DfResult<Vec<_>>>()?.join(",");
            (Mode::words(&words, dialect).map_err(refuse)?, Mode::dialect(&words, dialect))
        }
    };
    let funnel = Funnel::new(shape.condition_count(), window, mode);
    let keep = Keep { unmatched: funnel.needs_unmatched(), complete_only: dialect == Dialect::Clickhouse };
    Ok((funnel, keep))
}

/// The arguments of a call with the dialect of the session as its first mode, unless it is the default or there already. A
/// call that names a dialect itself names it later, and the last one counts.
pub(super) fn settled(name: &str, mut args: Vec<Expr>, types: &[DataType], options: &ConfigOptions) -> Vec<Expr> {
    let dialect = funnel_compat(options);
    let is_there = matches!(args.get(1), Some(Expr::Literal(first, _)) if first.try_as_str().flatten() == Some(dialect));
    let by_words = shape(name, types).is_ok_and(|shape| matches!(shape.conditions, Conditions::Columns(_)));
    if by_words && !is_there && Dialect::named(dialect).is_some_and(|dialect| dialect != Dialect::default()) {
        args.insert(1, lit(dialect));
    }
    args
}
