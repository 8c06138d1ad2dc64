//! Ids as arguments, and what a change of one link answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;

use super::IdentityOptions;
use crate::context::PERSON_IDS;
use crate::error::{Code, Error, Result};
use crate::functions::relation::{Argument, Arguments, Call, sql_type};

/// Whether a column of this type can hold ids.
pub(super) fn fits(kind: &DataType) -> bool {
    let kind = match kind {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

/// The error for what is no id.
pub(super) fn unfit(function: &str, kind: &DataType) -> Error {
    Error::new(Code::DatatypeMismatch, format!("ids of {function} must be bigint or text, not {}", sql_type(kind)))
}

/// The id of an argument as text; `None` for NULL.
///
/// # Errors
/// 42804.
pub(super) fn id_or_null(function: &str, args: &Arguments, name: &str) -> Result<Option<String>> {
    let Some(Argument::Any(value)) = args.get(name) else { return Ok(None) };
    if !fits(&value.data_type()) {
        return Err(unfit(function, &value.data_type()));
    }
    match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(id)) => Ok(id),
        _ => Err(unfit(function, &value.data_type())),
    }
}

/// The id of an argument that must be one.
///
/// # Errors
/// 42804, 22023 for NULL.
pub(super) fn id(function: &str, args: &Arguments, name: &str) -> Result<String> {
    id_or_null(function, args, name)?.ok_or_else(|| Error::invalid(format!("argument \"{name}\" of {function} must not be NULL")))
}

/// How many ids a person may have in this session.
pub(super) fn ids_max(call: &Call) -> usize {
    call.session.config_options().extensions.get::<IdentityOptions>().map_or(PERSON_IDS, |options| options.ids_max)
}

/// Microseconds since 1970 UTC.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The columns of the answer to a change of one link.
pub(super) fn link_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Utf8, false),
        Field::new("ids", DataType::Int64, false),
        Field::new("changed", DataType::Boolean, false),
        Field::new("message", DataType::Utf8, false),
    ]))
}

/// The person of an id after a change.
pub(super) fn link_row(call: &Call, id: &str, changed: bool, message: &str) -> Result<RecordBatch> {
    let people = call.context.identities.people();
    let reader = people.read();
    let ids = reader.ids(id).map_or(1, |ids| ids.len() as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values([reader.canonical(id)])),
        Arc::new(Int64Array::from_value(ids, 1)),
        Arc::new(BooleanArray::from(vec![changed])),
        Arc::new(StringArray::from_iter_values([message])),
    ];
    RecordBatch::try_new(Arc::clone(&call.schema), columns).map_err(|error| Error::internal(error.to_string()))
}
