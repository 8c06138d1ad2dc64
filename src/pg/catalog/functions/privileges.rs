//! `has_…_privilege`. Every role that can log in may read and write everything, until roles have privileges.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::{Function, function};

pub(super) fn functions() -> Vec<Function> {
    [
        "has_table_privilege",
        "has_any_column_privilege",
        "has_column_privilege",
        "has_schema_privilege",
        "has_database_privilege",
        "has_function_privilege",
        "has_type_privilege",
        "has_language_privilege",
        "has_tablespace_privilege",
        "has_sequence_privilege",
        "pg_has_role",
    ]
    .into_iter()
    .map(|name| {
        function(name, 2..=4, DataType::Boolean, |_, row| Ok(ScalarValue::Boolean((!row.iter().any(ScalarValue::is_null)).then_some(true))))
    })
    .collect()
}
