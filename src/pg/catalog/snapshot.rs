//! Our own catalog at one moment, in PostgreSQL's terms.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::Result;
use pgwire::api::Type;

use super::super::types::{field_type, type_modifier, type_size};
use super::access;
use super::definitions::tables;
use crate::catalog::{Acl, Catalog, Object, ObjectClass, ObjectKind, TableInfo};
use crate::engine::{Engine, Session};

/// The owner of everything that was there from the start.
pub(super) const SUPERUSER_OID: i32 = 10;
/// The OIDs that PostgreSQL's own schemas have.
const PG_CATALOG_OID: i32 = 11;
const PUBLIC_OID: i32 = 2200;
const INFORMATION_SCHEMA_OID: i32 = 13_000;

/// One column of a relation.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) r#type: Type,
    pub(super) modifier: i32,
    pub(super) size: i16,
    pub(super) required: bool,
    /// The grants on the column alone.
    pub(super) acl: Option<Vec<String>>,
}

/// One table or view.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `r` table, `v` view, `m` materialized view.
    pub(super) kind: &'static str,
    /// Whether it ends with the session.
    pub(super) temporary: bool,
    /// Whether it can be read: a materialized view may have no rows yet.
    pub(super) populated: bool,
    pub(super) owner: String,
    pub(super) owner_oid: i32,
    pub(super) attributes: Vec<Attribute>,
    /// A view's or materialized view's query.
    pub(super) definition: Option<String>,
    /// Storage parameters, each as `name=value`.
    pub(super) options: Option<Vec<String>>,
    /// The grants, where there are any.
    pub(super) acl: Option<Vec<String>>,
    /// Whether row level security is enabled, and forced.
    pub(super) row_security: (bool, bool),
}

/// Schemas and relations.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Names and OIDs.
    pub(super) schemas: Vec<(String, i32)>,
    pub(super) relations: Vec<Relation>,
    /// The name of the role that owns the system.
    pub(super) superuser: String,
    /// The grants on schemas that have any.
    pub(super) schema_acls: BTreeMap<String, Acl>,
}

impl Snapshot {
    /// Reads the catalog, and the columns of the views that others attached to it.
    /// The temporary tables are those of `session`: nobody else sees them.
    pub(super) async fn take(engine: &Arc<Engine>, session: Option<&Session>) -> Result<Self> {
        let catalog = engine.catalog();
        let database = catalog.catalog_provider();
        let superuser = owner(catalog);
        let mut relations = system_relations(&superuser);
        relations.extend(catalog.list().into_iter().map(|info| (info.name.clone(), info)).map(|(name, info)| {
            Relation {
                oid: info.oid as i32,
                schema: info.schema_name,
                name: info.name,
                kind: match info.kind {
                    ObjectKind::View => "v",
                    ObjectKind::MaterializedView => "m",
                    ObjectKind::Table | ObjectKind::ExternalTable => "r",
                },
                temporary: false,
                populated: info.populated,
                owner_oid: role_oid(catalog, &info.owner),
                owner: info.owner,
                attributes: attributes(&info.schema),
                definition: info.definition.filter(|_| matches!(info.kind, ObjectKind::View | ObjectKind::MaterializedView)),
                acl: None,
                row_security: {
                    let security = catalog.row_security(&name);
                    (security.enabled, security.forced)
                },
                options: info
                    .events
                    .map(|events| events.storage_parameters().into_iter().map(|(name, column)| format!("{name}={column}")).collect())
                    .or_else(|| Some(catalog.view_options(&name).texts()).filter(|options| !options.is_empty())),
            }
        }));
        for (object, acl) in catalog.acls().into_iter().filter(|(object, _)| object.class == ObjectClass::Table) {
            let found = relations.iter_mut().find(|relation| relation.schema == "public" && relation.name == object.name);
            if let Some(relation) = found {
                relation.acl = Some(access::items(&acl, ObjectClass::Table, &relation.owner));
                for attribute in &mut relation.attributes {
                    attribute.acl = access::column_acl(&acl, &attribute.name, &relation.owner);
                }
            }
        }
        let mut schemas = Vec::new();
        if let Some(temporary) = session.map(Session::temporary).filter(|temporary| temporary.is_used()) {
            schemas.push((temporary.schema().to_owned(), schema_oid(temporary.schema())));
            relations.extend(temporary.list().into_iter().map(|info| temporary_table(catalog, info)));
        }
        for schema in database.schema_names() {
            schemas.push((schema.clone(), schema_oid(&schema)));
            let Some(provider) = database.schema(&schema).filter(|_| is_attached(&schema)) else { continue };
            for name in provider.table_names() {
                let Some(table) = provider.table(&name).await? else { continue };
                relations.push(Relation {
                    oid: named_oid(&schema, &name),
                    schema: schema.clone(),
                    kind: "v",
                    temporary: false,
                    populated: true,
                    owner: superuser.clone(),
                    owner_oid: SUPERUSER_OID,
                    attributes: attributes(&table.schema()),
                    definition: None,
                    options: None,
                    acl: None,
                    row_security: (false, false),
                    name,
                });
            }
        }
        schemas.sort();
        schemas.dedup();
        let rights = catalog.rights(&superuser);
        let grants = |name: &str| rights.acl(&Object::new(ObjectClass::Schema, name));
        let schema_acls = ["public", "ml"].into_iter().map(|name| (name.to_owned(), grants(name))).collect();
        Ok(Self { schemas, relations, superuser, schema_acls })
    }
}

fn temporary_table(catalog: &Catalog, info: TableInfo) -> Relation {
    Relation {
        oid: info.oid as i32,
        schema: info.schema_name,
        name: info.name,
        kind: "r",
        temporary: true,
        populated: true,
        owner_oid: role_oid(catalog, &info.owner),
        owner: info.owner,
        attributes: attributes(&info.schema),
        definition: None,
        options: None,
        acl: None,
        row_security: (false, false),
    }
}

fn system_relations(superuser: &str) -> Vec<Relation> {
    let relation = |table: &Arc<super::definitions::Table>| Relation {
        oid: table.oid,
        schema: table.schema_name.to_owned(),
        name: table.name.to_owned(),
        kind: table.kind,
        temporary: false,
        populated: true,
        owner: superuser.to_owned(),
        owner_oid: SUPERUSER_OID,
        attributes: attributes(&table.schema)
            .into_iter()
            .zip(&table.columns)
            .map(|(attribute, column)| Attribute { required: column.required, ..attribute })
            .collect(),
        definition: None,
        options: None,
        acl: None,
        row_security: (false, false),
    };
    tables().iter().map(relation).collect()
}

fn attributes(schema: &Schema) -> Vec<Attribute> {
    let attribute = |field: &Arc<arrow::datatypes::Field>| {
        let r#type = field_type(field);
        Attribute {
            name: field.name().clone(),
            modifier: type_modifier(field.data_type()),
            size: type_size(&r#type),
            required: !field.is_nullable(),
            acl: None,
            r#type,
        }
    };
    schema.fields().iter().map(attribute).collect()
}

/// Whether a schema's relations are made by others, not by the catalog or by us.
pub(super) fn is_attached(schema: &str) -> bool {
    !matches!(schema, "public" | "pg_catalog" | "information_schema")
}

/// The OID of a schema.
pub(super) fn schema_oid(name: &str) -> i32 {
    match name {
        "pg_catalog" => PG_CATALOG_OID,
        "public" => PUBLIC_OID,
        "information_schema" => INFORMATION_SCHEMA_OID,
        other => named_oid(other, ""),
    }
}

/// An OID made from a name: above those that are given out one by one, below the sign bit.
pub(super) fn named_oid(schema: &str, name: &str) -> i32 {
    let hash = blake3::hash(format!("{schema}.{name}").as_bytes());
    let bytes = hash.as_bytes();
    (i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & 0x3fff_ffff) | 0x4000_0000
}

/// The OID of a role; names that are not a role belong to the superuser.
pub(super) fn role_oid(catalog: &Catalog, name: &str) -> i32 {
    catalog.role(name).map_or(SUPERUSER_OID, |role| role.oid as i32)
}

/// The name of the first superuser.
pub(super) fn owner(catalog: &Catalog) -> String {
    catalog.first_superuser()
}
