//! The views of `information_schema` that have rows here.

use pgwire::api::Type;
use postgres_types::Kind;

use super::super::startup::DATABASE;
use super::cells::{Cell, Row, row};
use super::snapshot::{Attribute, Relation, Snapshot};
use super::types::format_type;

/// The rows of a view; none where nothing is known. Materialized views are in none, as in PostgreSQL: the standard has none.
pub(super) fn rows(name: &str, snapshot: &Snapshot) -> Vec<Row> {
    let relations = || snapshot.relations.iter().filter(|relation| relation.kind != "m");
    match name {
        "schemata" => snapshot
            .schemas
            .iter()
            .map(|(name, _)| row! { catalog_name: DATABASE, schema_name: name.clone(), schema_owner: snapshot.superuser.clone() })
            .collect(),
        "tables" => relations().map(table).collect(),
        "views" => relations().filter(|relation| relation.kind == "v").map(view).collect(),
        "columns" => relations()
            .flat_map(|relation| relation.attributes.iter().enumerate().map(move |(index, attribute)| column(relation, index, attribute)))
            .collect(),
        "information_schema_catalog_name" => vec![row! { catalog_name: DATABASE }],
        "enabled_roles" | "applicable_roles" => vec![row! { role_name: snapshot.superuser.clone() }],
        "character_sets" => vec![row! { character_set_name: "UTF8", character_repertoire: "UCS", form_of_use: "UTF8",
        default_collate_catalog: DATABASE, default_collate_schema: "pg_catalog", default_collate_name: "C" }],
        _ => Vec::new(),
    }
}

fn table(relation: &Relation) -> Row {
    let base = relation.kind == "r";
    row! {
        table_catalog: DATABASE, table_schema: relation.schema.clone(), table_name: relation.name.clone(),
        table_type: if relation.temporary { "LOCAL TEMPORARY" } else if base { "BASE TABLE" } else { "VIEW" },
        is_insertable_into: if base && (relation.temporary || relation.schema == "public") { "YES" } else { "NO" }, is_typed: "NO",
    }
}

fn view(relation: &Relation) -> Row {
    row! {
        table_catalog: DATABASE, table_schema: relation.schema.clone(), table_name: relation.name.clone(),
        view_definition: relation.definition.clone(), check_option: "NONE", is_updatable: "NO", is_insertable_into: "NO",
        is_trigger_updatable: "NO", is_trigger_deletable: "NO", is_trigger_insertable_into: "NO",
    }
}

fn column(relation: &Relation, index: usize, attribute: &Attribute) -> Row {
    let r#type = &attribute.r#type;
    let array = matches!(r#type.kind(), Kind::Array(_));
    let name = if array { Some("ARRAY".to_owned()) } else { format_type(r#type.oid().into(), None) };
    let (precision, radix, scale) = number(r#type, attribute.modifier);
    row! {
        table_catalog: DATABASE, table_schema: relation.schema.clone(), table_name: relation.name.clone(),
        column_name: attribute.name.clone(), ordinal_position: index as i64 + 1,
        is_nullable: if attribute.required { "NO" } else { "YES" }, data_type: name,
        character_octet_length: (*r#type == Type::TEXT).then_some(1_073_741_824_i64),
        numeric_precision: precision, numeric_precision_radix: radix, numeric_scale: scale,
        datetime_precision: match *r#type { Type::DATE => Cell::Int(0),
            Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => Cell::Int(6), _ => Cell::Null },
        udt_catalog: DATABASE, udt_schema: "pg_catalog", udt_name: r#type.name().to_owned(),
        dtd_identifier: (index + 1).to_string(), is_self_referencing: "NO", is_identity: "NO", is_generated: "NEVER",
        identity_cycle: "NO", is_updatable: if relation.kind == "r" && relation.schema == "public" { "YES" } else { "NO" },
    }
}

/// Precision, radix and scale of a number's type.
fn number(r#type: &Type, modifier: i32) -> (Option<i32>, Option<i32>, Option<i32>) {
    match *r#type {
        Type::INT2 => (Some(16), Some(2), Some(0)),
        Type::INT4 => (Some(32), Some(2), Some(0)),
        Type::INT8 => (Some(64), Some(2), Some(0)),
        Type::FLOAT4 => (Some(24), Some(2), None),
        Type::FLOAT8 => (Some(53), Some(2), None),
        Type::NUMERIC if modifier >= 4 => (Some((modifier - 4) >> 16), Some(10), Some((((modifier - 4) & 0x7ff) ^ 1024) - 1024)),
        Type::NUMERIC => (None, Some(10), None),
        _ => (None, None, None),
    }
}
