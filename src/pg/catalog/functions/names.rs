//! Names of types, relations, functions, roles and encodings; quoting.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::scalar::ScalarValue;

use super::super::definitions::{regproc_name, regproc_oid, tables};
use super::super::snapshot::{SUPERUSER_OID, is_attached, named_oid, owner, schema_oid};
use super::super::types;
use super::{Function, function, integer, text, utf8};
use crate::catalog::{Catalog, PUBLIC};
use crate::engine::Session;
use crate::error::{Code, Error, Result};

/// A function of a name that answers with an OID.
fn oid(name: &'static str, kernel: fn(&Session, &[ScalarValue]) -> Result<ScalarValue>) -> Function {
    Function { type_name: Some("oid"), ..function(name, 1..=1, DataType::Int32, kernel) }
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        function("format_type", 2..=2, DataType::Utf8, |_, row| {
            let shown = |oid| types::format_type(oid, integer(row, 1)).unwrap_or_else(|| "???".into());
            // A cast of a name to regtype shows it as it is spelled in SQL.
            let named = || text(row, 0).and_then(|name| types::type_by_name(&name)).map(i64::from);
            Ok(utf8(integer(row, 0).or_else(named).map(shown)))
        }),
        oid("to_regtype", |_, row| Ok(ScalarValue::Int32(text(row, 0).and_then(|name| types::type_by_name(&name))))),
        oid("pg_regtype_oid", |_, row| known(row, "type", Code::UndefinedObject, types::type_by_name)),
        oid("to_regclass", |session, row| Ok(ScalarValue::Int32(text(row, 0).and_then(|name| relation_by_name(session, &name))))),
        oid("pg_regclass_oid", |session, row| known(row, "relation", Code::UndefinedTable, |name| relation_by_name(session, name))),
        function("array_lower", 2..=2, DataType::Int32, |_, row| Ok(ScalarValue::Int32(length(row).map(|_| 1)))),
        function("array_upper", 2..=2, DataType::Int32, |_, row| Ok(ScalarValue::Int32(length(row)))),
        function("pg_regclass_name", 1..=1, DataType::Utf8, |session, row| {
            let name = |oid| relation_by_oid(session, oid).unwrap_or_else(|| if oid == 0 { "-".into() } else { oid.to_string() });
            Ok(utf8(integer(row, 0).map(name)))
        }),
        oid("pg_regproc_oid", |_, row| {
            known(row, "function", Code::UndefinedFunction, |name| regproc_oid(name.trim_start_matches("pg_catalog.")))
        }),
        function("pg_regproc_name", 1..=1, DataType::Utf8, |_, row| {
            Ok(utf8(integer(row, 0).map(|oid| regproc_name(oid as i32).into_owned())))
        }),
        oid("pg_regnamespace_oid", |session, row| {
            known(row, "schema", Code::UndefinedSchema, |name| {
                schema_names(session).iter().any(|found| found == name).then(|| schema_oid(name))
            })
        }),
        function("pg_regnamespace_name", 1..=1, DataType::Utf8, |session, row| {
            let names = schema_names(session);
            let name = |oid: i64| names.iter().find(|name| i64::from(schema_oid(name)) == oid).cloned().unwrap_or_else(|| oid.to_string());
            Ok(utf8(integer(row, 0).map(name)))
        }),
        function("getdatabaseencoding", 0..=0, DataType::Utf8, |_, _| Ok(utf8("UTF8".to_owned()))),
        name("pg_get_userbyid", |session, row| Ok(utf8(integer(row, 0).map(|oid| role_name(session.engine().catalog(), oid))))),
        function("pg_role_names", 1..=1, DataType::new_list(DataType::Utf8, true), |session, row| {
            let Some(ScalarValue::List(oids)) = row.first() else { return Ok(ScalarValue::Null) };
            let oids = oids.values().as_primitive_opt::<Int32Type>();
            let mut names: Vec<String> = oids
                .into_iter()
                .flat_map(|oids| oids.iter().flatten())
                .map(|oid| role_name(session.engine().catalog(), oid.into()))
                .collect();
            names.sort();
            let names: Vec<ScalarValue> = names.into_iter().map(ScalarValue::from).collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&names, &DataType::Utf8)))
        }),
        name("pg_encoding_to_char", |_, row| {
            Ok(utf8(integer(row, 0).map(|encoding| if encoding == 6 { "UTF8".to_owned() } else { String::new() })))
        }),
        function("pg_char_to_encoding", 1..=1, DataType::Int32, |_, row| {
            let number = |name: String| if matches!(name.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") { 6 } else { -1 };
            Ok(ScalarValue::Int32(text(row, 0).map(number)))
        }),
        function("parse_ident", 1..=2, DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), |_, row| {
            let Some(name) = text(row, 0) else { return Ok(ScalarValue::new_null_list(DataType::Utf8, true, 1)) };
            let parts: Vec<_> = split_name(&name).into_iter().map(utf8).collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&parts, &DataType::Utf8)))
        }),
        function("quote_ident", 1..=1, DataType::Utf8, |_, row| Ok(utf8(text(row, 0).map(|name| quote_identifier(&name))))),
        function("quote_literal", 1..=1, DataType::Utf8, |_, row| Ok(utf8(text(row, 0).map(|text| quote_literal(&text))))),
    ]
}

/// A function of one argument that gives a name.
fn name(name: &'static str, kernel: fn(&Session, &[ScalarValue]) -> Result<ScalarValue>) -> Function {
    Function { type_name: Some("name"), ..function(name, 1..=1, DataType::Utf8, kernel) }
}

/// The length of an array that is not empty, in its first dimension.
fn length(row: &[ScalarValue]) -> Option<i32> {
    let (ScalarValue::List(list), Some(1)) = (row.first()?, super::integer(row, 1)) else { return None };
    let length = arrow::array::Array::is_valid(list.as_ref(), 0).then(|| list.value_length(0))?;
    (length > 0).then_some(length)
}

/// Looks a name up; digits are an OID already.
fn known(row: &[ScalarValue], kind: &str, code: Code, find: impl Fn(&str) -> Option<i32>) -> Result<ScalarValue> {
    let Some(name) = text(row, 0) else { return Ok(ScalarValue::Int32(None)) };
    match name.parse().ok().or_else(|| find(&name)) {
        Some(oid) => Ok(ScalarValue::Int32(Some(oid))),
        None => Err(Error::new(code, format!("{kind} \"{name}\" does not exist"))),
    }
}

/// `name` in double quotes unless it needs none.
pub(super) fn quote_identifier(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let simple = name.bytes().all(plain) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if simple && !is_reserved(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

pub(super) fn quote_literal(text: &str) -> String {
    let prefix = if text.contains('\\') { "E" } else { "" };
    format!("{prefix}'{}'", text.replace('\'', "''").replace('\\', "\\\\"))
}

/// Words that mean something else without quotes somewhere.
fn is_reserved(name: &str) -> bool {
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let words = include_str!("../data/pg_get_keywords.tsv").lines().filter_map(|line| line.split_once('\t'));
        words.filter(|(_, rest)| !rest.starts_with('U')).map(|(word, _)| word).collect()
    });
    WORDS.contains(name)
}

/// The parts of `schema."Name"`.
pub(super) fn split_name(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.trim().chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            other if quoted => part.push(other),
            // Around a dot blanks may stand.
            other if other.is_whitespace() => {}
            other => part.extend(other.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

/// The names of all schemas, also of the session's own if it has one.
pub(super) fn schema_names(session: &Session) -> Vec<String> {
    let own = Some(session.temporary()).filter(|temporary| temporary.is_used()).map(|temporary| temporary.schema().to_owned());
    session.engine().catalog().catalog_provider().schema_names().into_iter().chain(own).collect()
}

/// The OID of a relation by its name, with or without a schema.
pub(super) fn relation_by_name(session: &Session, text: &str) -> Option<i32> {
    let (catalog, temporary) = (session.engine().catalog(), session.temporary());
    let parts = split_name(text);
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name),
        [schema, name] | [_, schema, name] => (Some(schema.as_str()), name),
        _ => return None,
    };
    let own = || temporary.describe(name).map(|info| info.oid as i32);
    let system = |wanted: &str| tables().iter().find(|table| table.schema_name == wanted && table.name == name).map(|table| table.oid);
    match schema {
        None if session.finds_temporary(name) => own(),
        None => system("pg_catalog").or_else(|| catalog.oid(name).map(|oid| oid as i32)),
        Some(schema) if temporary.is_schema(schema) => own(),
        Some("public") => catalog.oid(name).map(|oid| oid as i32),
        Some(schema @ ("pg_catalog" | "information_schema")) => system(schema),
        Some(schema) => catalog.catalog_provider().schema(schema).filter(|found| found.table_exist(name)).map(|_| named_oid(schema, name)),
    }
}

/// The name of a relation by its OID, with its schema where the search path does not reach it.
pub(super) fn relation_by_oid(session: &Session, oid: i64) -> Option<String> {
    let (catalog, temporary) = (session.engine().catalog(), session.temporary());
    if let Some(info) = temporary.list().into_iter().find(|info| i64::from(info.oid) == oid) {
        let hidden = !session.finds_temporary(&info.name);
        let shown = quote_identifier(&info.name);
        return Some(if hidden { format!("{}.{shown}", temporary.schema()) } else { shown });
    }
    if let Some(table) = tables().iter().find(|table| i64::from(table.oid) == oid) {
        let visible = table.schema_name == "pg_catalog" && !session.finds_temporary(table.name);
        return Some(if visible { table.name.to_owned() } else { format!("{}.{}", table.schema_name, table.name) });
    }
    if let Some(info) = catalog.list().into_iter().find(|info| i64::from(info.oid) == oid) {
        let hidden = session.finds_temporary(&info.name);
        return Some(if hidden { format!("{PUBLIC}.{}", quote_identifier(&info.name)) } else { quote_identifier(&info.name) });
    }
    let database = catalog.catalog_provider();
    database.schema_names().into_iter().filter(|schema| is_attached(schema)).find_map(|schema| {
        let names = database.schema(&schema)?.table_names();
        let name = names.into_iter().find(|name| i64::from(named_oid(&schema, name)) == oid)?;
        Some(format!("{}.{}", quote_identifier(&schema), quote_identifier(&name)))
    })
}

fn role_name(catalog: &Catalog, oid: i64) -> String {
    if oid == i64::from(SUPERUSER_OID) {
        return owner(catalog);
    }
    let found = catalog.roles().into_iter().find(|role| i64::from(role.oid) == oid);
    found.map_or_else(|| format!("unknown (OID={oid})"), |role| role.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_when_they_must_be() {
        for (name, expected) in
            [("plain_1", "plain_1"), ("Upper", "\"Upper\""), ("1st", "\"1st\""), ("select", "\"select\""), ("a\"b", "\"a\"\"b\"")]
        {
            assert_eq!(quote_identifier(name), expected);
        }
        assert_eq!(split_name("Public.\"My.T\"\"x\""), ["public", "My.T\"x"]);
    }
}
