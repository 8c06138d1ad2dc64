//! `pg_class`, `pg_attribute`, `pg_namespace` and the views over them.

use pgwire::api::Type;

use super::access;
use super::cells::{Row, row};
use super::snapshot::{SUPERUSER_OID, Snapshot, schema_oid};
use crate::catalog::Stored;

const HEAP: i32 = 2;
/// Tells a view's rule from the view.
const RULE: i32 = 0x2000_0000;

pub(super) fn classes(snapshot: &Snapshot) -> Vec<Row> {
    let class = |relation: &super::snapshot::Relation| {
        row! {
            oid: relation.oid,
            relname: relation.name.clone(),
            relnamespace: schema_oid(&relation.schema),
            relowner: relation.owner_oid,
            relam: if matches!(relation.kind, "r" | "m") { HEAP } else { 0 },
            reltuples: -1,
            relpersistence: if relation.temporary { "t" } else { "p" },
            relkind: relation.kind,
            relnatts: relation.attributes.len() as i64,
            relhasrules: matches!(relation.kind, "v" | "m"),
            relispopulated: relation.populated,
            relreplident: if relation.kind == "r" && (relation.temporary || relation.schema == "public") { "d" } else { "n" },
            reloptions: relation.options.clone(),
            relrowsecurity: relation.row_security.0,
            relforcerowsecurity: relation.row_security.1,
            relacl: relation.acl.clone(),
        }
    };
    snapshot.relations.iter().map(class).collect()
}

pub(super) fn attributes(snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    for relation in &snapshot.relations {
        for (index, attribute) in relation.attributes.iter().enumerate() {
            let array = matches!(attribute.r#type.kind(), postgres_types::Kind::Array(_));
            rows.push(row! {
                attrelid: relation.oid,
                attname: attribute.name.clone(),
                atttypid: attribute.r#type.oid() as i32,
                attstattarget: -1,
                attlen: i32::from(attribute.size),
                attnum: index as i64 + 1,
                attndims: i32::from(array),
                attcacheoff: -1,
                atttypmod: attribute.modifier,
                attbyval: matches!(attribute.size, 1 | 2 | 4 | 8),
                attalign: "i",
                attstorage: if attribute.r#type == Type::NUMERIC { "m" } else if attribute.size < 0 { "x" } else { "p" },
                attnotnull: attribute.required,
                attislocal: true,
                attcollation: super::types::collation(&attribute.r#type),
                attacl: attribute.acl.clone(),
            });
        }
    }
    rows
}

pub(super) fn namespaces(snapshot: &Snapshot) -> Vec<Row> {
    let acl = |name: &str| access::schema_acl(snapshot, name);
    snapshot
        .schemas
        .iter()
        .map(|(name, oid)| row! { oid: *oid, nspname: name.clone(), nspowner: SUPERUSER_OID, nspacl: acl(name) })
        .collect()
}

pub(super) fn tables(snapshot: &Snapshot) -> Vec<Row> {
    let table = |relation: &super::snapshot::Relation| {
        row! { schemaname: relation.schema.clone(), tablename: relation.name.clone(), tableowner: relation.owner.clone(),
        hasindexes: false, hasrules: false, hastriggers: false, rowsecurity: relation.row_security.0 }
    };
    snapshot.relations.iter().filter(|relation| relation.kind == "r").map(table).collect()
}

/// What tables hold, where their files say so; nothing else is counted.
pub(super) fn table_statistics(stored: &[Stored]) -> Vec<Row> {
    let table = |table: &Stored| {
        row! { relid: table.oid as i32, schemaname: "public", relname: table.name.clone(),
        n_live_tup: table.rows.map(|rows| rows as i64), n_dead_tup: 0 }
    };
    stored.iter().map(table).collect()
}

pub(super) fn views(snapshot: &Snapshot) -> Vec<Row> {
    let view = |relation: &super::snapshot::Relation| {
        row! { schemaname: relation.schema.clone(), viewname: relation.name.clone(), viewowner: relation.owner.clone(),
        definition: relation.definition.clone() }
    };
    snapshot.relations.iter().filter(|relation| relation.kind == "v").map(view).collect()
}

/// What is behind each view: the rule that makes it one.
pub(super) fn rules(snapshot: &Snapshot) -> Vec<Row> {
    let rule = |relation: &super::snapshot::Relation| {
        row! { oid: relation.oid ^ RULE, rulename: "_RETURN", ev_class: relation.oid, ev_type: "1", ev_enabled: "O", is_instead: true,
        ev_qual: "<>", ev_action: "<>" }
    };
    let own = |relation: &&super::snapshot::Relation| relation.schema == "public" && relation.kind != "r";
    snapshot.relations.iter().filter(own).map(rule).collect()
}

pub(super) fn materialized_views(snapshot: &Snapshot) -> Vec<Row> {
    let view = |relation: &super::snapshot::Relation| {
        row! { schemaname: relation.schema.clone(), matviewname: relation.name.clone(), matviewowner: relation.owner.clone(),
        hasindexes: false, ispopulated: relation.populated, definition: relation.definition.clone() }
    };
    snapshot.relations.iter().filter(|relation| relation.kind == "m").map(view).collect()
}
