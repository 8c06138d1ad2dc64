//! What an object is defined as, commented with, sized, and whether a bare name reaches it.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::super::definitions::tables;
use super::super::procedures::{self, Procedure};
use super::{Function, function, integer, text, utf8};
use crate::engine::Session;

pub(super) fn functions() -> Vec<Function> {
    let mut functions = vec![
        function("pg_get_expr", 2..=3, DataType::Utf8, |_, row| Ok(utf8(text(row, 0)))),
        function("pg_get_viewdef", 1..=2, DataType::Utf8, |session, row| Ok(utf8(view(session, row)))),
        function("pg_table_is_visible", 1..=1, DataType::Boolean, |session, row| {
            Ok(ScalarValue::Boolean(integer(row, 0).map(|oid| is_visible(session, oid))))
        }),
        function("obj_description", 1..=2, DataType::Utf8, |session, row| {
            let of_function = text(row, 1).is_none_or(|catalog| catalog == "pg_proc");
            Ok(utf8(procedure(session, row).filter(|_| of_function).and_then(|found| found.description.clone())))
        }),
        function("pg_get_function_result", 1..=1, DataType::Utf8, |session, row| Ok(utf8(procedure(session, row).map(Procedure::result)))),
        function("pg_get_function_arguments", 1..=1, DataType::Utf8, |session, row| Ok(utf8(arguments(session, row)))),
        function("pg_get_function_identity_arguments", 1..=1, DataType::Utf8, |session, row| Ok(utf8(arguments(session, row)))),
        function("pg_column_is_updatable", 3..=3, DataType::Boolean, |session, row| {
            Ok(ScalarValue::Boolean(integer(row, 0).map(|oid| is_own_table(session, oid))))
        }),
        function("pg_size_pretty", 1..=1, DataType::Utf8, |_, row| Ok(utf8(integer(row, 0).map(pretty)))),
    ];
    // There are no other comments, no constraints, indexes, rules, triggers, statistics or sequences yet.
    for (name, arguments) in [
        ("col_description", 2..=2),
        ("shobj_description", 2..=2),
        ("pg_get_constraintdef", 1..=2),
        ("pg_get_indexdef", 1..=3),
        ("pg_get_ruledef", 1..=2),
        ("pg_get_triggerdef", 1..=2),
        ("pg_get_statisticsobjdef_columns", 1..=1),
        ("pg_get_partkeydef", 1..=1),
        ("pg_get_partition_constraintdef", 1..=1),
        ("pg_get_serial_sequence", 2..=2),
        ("pg_get_functiondef", 1..=1),
        ("pg_get_function_sqlbody", 1..=1),
        ("pg_tablespace_location", 1..=1),
        ("pg_describe_object", 3..=3),
    ] {
        functions.push(function(name, arguments, DataType::Utf8, |_, _| Ok(utf8(None))));
    }
    for name in ["pg_table_size", "pg_relation_size", "pg_total_relation_size"] {
        functions.push(function(name, 1..=2, DataType::Int64, |session, row| Ok(ScalarValue::Int64(size(session, row)))));
    }
    for name in ["pg_stat_get_numscans", "pg_stat_get_tuples_returned", "pg_stat_get_tuples_fetched"] {
        functions.push(function(name, 1..=1, DataType::Int64, |_, _| Ok(ScalarValue::Int64(Some(0)))));
    }
    // Not accounted for: unknown, not zero.
    for name in ["pg_indexes_size", "pg_database_size"] {
        functions.push(function(name, 1..=2, DataType::Int64, |_, _| Ok(ScalarValue::Int64(None))));
    }
    for name in [
        "pg_type_is_visible",
        "pg_function_is_visible",
        "pg_operator_is_visible",
        "pg_collation_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_conversion_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
        "pg_relation_is_publishable",
    ] {
        functions.push(function(name, 1..=1, DataType::Boolean, |_, row| Ok(ScalarValue::Boolean(integer(row, 0).map(|_| true)))));
    }
    functions
}

fn procedure(session: &Session, row: &[ScalarValue]) -> Option<&'static Procedure> {
    procedures::find(session.engine(), integer(row, 0)?)
}

fn arguments(session: &Session, row: &[ScalarValue]) -> Option<String> {
    procedure(session, row).map(|found| found.arguments.clone())
}

/// A table of ours: views cannot be written to.
fn is_own_table(session: &Session, oid: i64) -> bool {
    let is_table = |info: &crate::catalog::TableInfo| i64::from(info.oid) == oid && matches!(info.kind, crate::catalog::ObjectKind::Table);
    session.engine().catalog().list().iter().chain(&session.temporary().list()).any(is_table)
}

/// Whether `search_path` reaches a relation without its schema: ours and those of `pg_catalog`, unless a temporary table has the name.
fn is_visible(session: &Session, oid: i64) -> bool {
    if let Some(table) = tables().iter().find(|table| i64::from(table.oid) == oid) {
        return table.schema_name == "pg_catalog" && !session.finds_temporary(table.name);
    }
    let own = session.temporary().list();
    if let Some(info) = own.iter().find(|info| i64::from(info.oid) == oid) {
        return session.finds_temporary(&info.name);
    }
    let hidden = |name: &str| own.iter().any(|info| info.name == name) && session.finds_temporary(name);
    let hidden = || session.engine().catalog().list().iter().any(|info| i64::from(info.oid) == oid && hidden(&info.name));
    // OIDs made from names belong to schemas that others attached.
    oid < 0x4000_0000 && (own.is_empty() || !hidden())
}

/// The bytes of a table's own files, as of when it was last read.
fn size(session: &Session, row: &[ScalarValue]) -> Option<i64> {
    let oid = integer(row, 0).or_else(|| super::names::relation_by_name(session, &text(row, 0)?).map(i64::from))?;
    session.engine().catalog().seen_bytes(oid).or_else(|| session.temporary().seen_bytes(oid)).and_then(|bytes| i64::try_from(bytes).ok())
}

fn view(session: &Session, row: &[ScalarValue]) -> Option<String> {
    let catalog = session.engine().catalog();
    let oid = integer(row, 0).or_else(|| super::names::relation_by_name(session, &text(row, 0)?).map(i64::from))?;
    let info = catalog.list().into_iter().find(|info| i64::from(info.oid) == oid)?;
    use crate::catalog::ObjectKind::{MaterializedView, View};
    info.definition.filter(|_| matches!(info.kind, View | MaterializedView))
}

/// As PostgreSQL rounds: two digits at least in each unit.
fn pretty(bytes: i64) -> String {
    let (mut value, mut units) = (bytes, ["bytes", "kB", "MB", "GB", "TB", "PB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value.abs() < 10 * 1024 {
            break;
        }
        value = (value + value.signum() * 512) / 1024;
        unit = next;
    }
    format!("{value} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    #[test]
    fn sizes_are_rounded() -> Result<()> {
        for (bytes, expected) in [(0, "0 bytes"), (10_239, "10239 bytes"), (10_240, "10 kB"), (123_456_789, "118 MB"), (-20_480, "-20 kB")]
        {
            assert_eq!(pretty(bytes), expected);
        }
        Ok(())
    }
}
