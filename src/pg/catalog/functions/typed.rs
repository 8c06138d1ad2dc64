//! `pg_as_…`: a value as one of PostgreSQL's own types; of the arrays there are NULLs alone. Made by `rewrite` and `nothing`, never by clients.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::scalar::ScalarValue;

use super::{Function, function, integer, text, utf8};
use crate::engine::Session;
use crate::error::Result;

pub(super) fn functions() -> Vec<Function> {
    let names = || DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let oids = || DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let marked =
        |name, type_name, returns: DataType, kernel| Function { type_name: Some(type_name), ..function(name, 1..=1, returns, kernel) };
    vec![
        marked("pg_as_oid", "oid", DataType::Int32, number),
        marked("pg_as_regproc", "regproc", DataType::Int32, number),
        marked("pg_as_xid", "xid", DataType::Int32, number),
        marked("pg_as_name", "name", DataType::Utf8, word),
        marked("pg_as_char", "char", DataType::Utf8, word),
        marked("pg_as_int2vector", "int2vector", DataType::Utf8, word),
        marked("pg_as_oidvector", "oidvector", DataType::Utf8, word),
        marked("pg_as_name_array", "name[]", names(), |_, _| Ok(ScalarValue::new_null_list(DataType::Utf8, true, 1))),
        marked("pg_as_oid_array", "oid[]", oids(), |_, _| Ok(ScalarValue::new_null_list(DataType::Int32, true, 1))),
    ]
}

fn number(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    Ok(ScalarValue::Int32(integer(row, 0).and_then(|number| i32::try_from(number).ok())))
}

fn word(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    Ok(utf8(text(row, 0)))
}
