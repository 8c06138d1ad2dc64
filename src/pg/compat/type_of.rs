//! `pg_typeof(value)`: the name of its type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;

use crate::error::Error;
use crate::pg::types::{element_of, field_type};

const NAME: &str = "pg_typeof";

pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(TypeOf { signature: Signature::any(1, Volatility::Immutable) }))
}

/// The fields of arguments say more than their values: a text may be a uuid.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let field = args.arg_fields.first().ok_or_else(|| Error::internal("pg_typeof was given nothing"))?;
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name_of(field)))))
    }
}

fn name_of(field: &Field) -> String {
    if field.data_type().is_null() {
        return "unknown".to_owned();
    }
    let found = field_type(field);
    if matches!(found, Type::INT2_VECTOR | Type::OID_VECTOR) {
        return found.name().to_owned();
    }
    element_of(&found).map_or_else(|| sql_name(&found).to_owned(), |item| format!("{}[]", sql_name(&item)))
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
        Type::CHAR => "\"char\"",
        _ => found.name(),
    }
}
