//! The users that a call names, as texts.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::error::{Code, Error, Result};
use crate::functions::relation::{Argument, Arguments, Call, sql_type};

/// Users of one call, at most: they are held in memory.
const USERS_MAX: usize = 1 << 20;

fn fits(kind: &DataType) -> bool {
    let kind = match kind {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

fn unfit(function: &str, kind: &DataType) -> Error {
    Error::new(Code::DatatypeMismatch, format!("users of {function} must be bigint or text, not {}", sql_type(kind)))
}

/// Refuses a source whose first column cannot be users.
pub(super) fn check_source(function: &str, kind: &DataType) -> Result<()> {
    if fits(kind) { Ok(()) } else { Err(unfit(function, kind)) }
}

/// The user of `user => …`.
pub(super) fn one(function: &'static str, args: &Arguments) -> Result<Vec<String>> {
    let value = match args.get("user") {
        Some(Argument::Any(value)) => value.clone(),
        _ => return Err(args.missing("user")),
    };
    if !fits(&value.data_type()) {
        return Err(unfit(function, &value.data_type()));
    }
    match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(Some(user))) => Ok(vec![user]),
        _ => Err(args.missing("user")),
    }
}

/// The users of the source's first column, each once; a NULL is nobody.
pub(super) async fn all(function: &'static str, call: Call) -> Result<Vec<String>> {
    let source = call.source.as_ref().ok_or_else(|| Error::internal("a source is missing"))?;
    let mut rows = execute_stream(Arc::clone(&source.plan), Arc::clone(&call.task)).map_err(Error::from_engine)?;
    let mut users = BTreeSet::new();
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(Error::from_engine)?;
        let column = cast(batch.column(0), &DataType::Utf8).map_err(|error| Error::internal(error.to_string()))?;
        users.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
        if users.len() > USERS_MAX {
            return Err(Error::new(Code::TooComplex, format!("{function} takes at most {USERS_MAX} users at once"))
                .hint("Give it a part of them at a time."));
        }
    }
    Ok(users.into_iter().collect())
}
