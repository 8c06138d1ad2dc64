//! `aclexplode`: the grants of an `aclitem[]`, one row each.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::scalar::ScalarValue;

use super::super::super::types::TYPE_KEY;
use super::super::snapshot::role_oid;
use super::{Function, function};
use crate::catalog::{Catalog, PREDEFINED};
use crate::engine::Session;
use crate::error::{Error, Result};

/// The letters of privileges, and their names.
const PRIVILEGES: [(char, &str); 12] = [
    ('a', "INSERT"),
    ('r', "SELECT"),
    ('w', "UPDATE"),
    ('d', "DELETE"),
    ('D', "TRUNCATE"),
    ('x', "REFERENCES"),
    ('t', "TRIGGER"),
    ('X', "EXECUTE"),
    ('U', "USAGE"),
    ('C', "CREATE"),
    ('T', "TEMPORARY"),
    ('c', "CONNECT"),
];

pub(super) fn functions() -> Vec<Function> {
    vec![function("aclexplode", 1..=1, DataType::List(item()), aclexplode)]
}

fn fields() -> Fields {
    let oid = |name| Field::new(name, DataType::Int32, true).with_metadata([(TYPE_KEY.to_owned(), "oid".to_owned())].into());
    vec![
        oid("grantor"),
        oid("grantee"),
        Field::new("privilege_type", DataType::Utf8, true),
        Field::new("is_grantable", DataType::Boolean, true),
    ]
    .into()
}

fn item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Struct(fields()), true))
}

struct Grant {
    grantor: i32,
    grantee: i32,
    privilege: &'static str,
    grantable: bool,
}

fn aclexplode(session: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let ScalarValue::List(list) = &row[0] else { return Ok(ScalarValue::new_null_list(DataType::Struct(fields()), true, 1)) };
    let items = list.values().as_any().downcast_ref::<StringArray>();
    let catalog = session.engine().catalog();
    let grants: Vec<Grant> = items.into_iter().flatten().flatten().flat_map(|text| read(catalog, text)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(grants.iter().map(|grant| grant.grantor))),
        Arc::new(Int32Array::from_iter_values(grants.iter().map(|grant| grant.grantee))),
        Arc::new(StringArray::from_iter_values(grants.iter().map(|grant| grant.privilege))),
        Arc::new(grants.iter().map(|grant| Some(grant.grantable)).collect::<BooleanArray>()),
    ];
    let length = grants.len();
    let list = StructArray::try_new_with_length(fields(), columns, None, length)
        .and_then(|rows| ListArray::try_new(item(), OffsetBuffer::from_lengths([length]), Arc::new(rows), None))
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(ScalarValue::List(Arc::new(list)))
}

/// `grantee=letters/grantor`, where a star behind a letter is the grant option; no grantee is everybody, whose OID is 0.
fn read(catalog: &Catalog, text: &str) -> Vec<Grant> {
    let Some((grantee, rest)) = text.rsplit_once('=') else { return Vec::new() };
    let Some((letters, grantor)) = rest.split_once('/') else { return Vec::new() };
    let oid = |name: &str| {
        let name = name.trim_matches('"').replace("\"\"", "\"");
        let predefined = PREDEFINED.iter().find(|(known, _)| *known == name).map(|(_, oid)| *oid as i32);
        if name.is_empty() { 0 } else { predefined.unwrap_or_else(|| role_oid(catalog, &name)) }
    };
    let (grantor, grantee) = (oid(grantor), oid(grantee));
    let grant = |(at, letter): (usize, char)| {
        let (_, privilege) = PRIVILEGES.into_iter().find(|(known, _)| *known == letter)?;
        Some(Grant { grantor, grantee, privilege, grantable: letters[at + letter.len_utf8()..].starts_with('*') })
    };
    letters.char_indices().filter_map(grant).collect()
}
