//! `pg_typeof(value)`: the name of its type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;
use pgwire::api::Type;

use super::kernel::{Kernel, Returns, refused, uncast};
use crate::error::Result;
use crate::pg::types::data_type;

const NAME: &str = "pg_typeof";

pub(super) fn function() -> Arc<ScalarUDF> {
    Kernel { name: NAME, coerce, returns: Returns::This(DataType::Utf8), type_name: None, run }.function()
}

fn coerce(given: &[DataType]) -> DfResult<Vec<DataType>> {
    if given.len() == 1 { Ok(given.to_vec()) } else { refused(NAME) }
}

/// The names that `format_type` gives.
fn sql_name(found: &Type) -> &str {
    match *found {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::TIME => "time without time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        _ => found.name(),
    }
}

fn run(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    let [values] = columns else { return Err(uncast(NAME)) };
    let name = match values.data_type() {
        DataType::Null => "unknown".to_owned(),
        DataType::List(item) => format!("{}[]", sql_name(&data_type(item.data_type()))),
        found => sql_name(&data_type(found)).to_owned(),
    };
    Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, values.len()))))
}
