//! Grants, policies and memberships as PostgreSQL's catalog shows them.

use super::super::startup::DATABASE;
use super::cells::{Cell, Row, row};
use super::snapshot::{Relation, Snapshot, role_oid, schema_oid};
use crate::catalog::{Acl, AclItem, Catalog, Held, Object, ObjectClass, PREDEFINED, PolicyCommand, Privileges};

/// The grants on a schema as an `aclitem[]`, also those that everybody has from the start.
pub(super) fn schema_acl(snapshot: &Snapshot, name: &str) -> Option<Vec<String>> {
    let acl = snapshot.schema_acls.get(name)?;
    Some(items(acl, ObjectClass::Schema, &snapshot.superuser))
}

/// The items of grants, the owner's first.
pub(super) fn items(acl: &Acl, class: ObjectClass, owner: &str) -> Vec<String> {
    items_beside(acl, class.privileges(), owner)
}

/// As [`items`], where the owner holds `all` unless the grants say otherwise.
fn items_beside(acl: &Acl, all: Privileges, owner: &str) -> Vec<String> {
    let item = |grantee: &str, held: Held, grantor: &str| {
        let grantor = if grantor.is_empty() { owner } else { grantor };
        format!("{}={}/{}", quoted(grantee), held.privileges.letters(held.grantable), quoted(grantor))
    };
    let own = owner_held(acl, all);
    let others = acl.0.iter().filter(|found| !found.owner && !found.held.privileges.is_empty());
    let granted = others.map(|found| item(found.grantee.as_deref().unwrap_or_default(), found.held, &found.grantor));
    (!own.privileges.is_empty()).then(|| item(owner, own, owner)).into_iter().chain(granted).collect()
}

/// What the owner holds on the whole object.
fn owner_held(acl: &Acl, all: Privileges) -> Held {
    acl.of_owner().map_or(Held { privileges: all, ..Held::default() }, |item| item.held)
}

/// `pg_default_acl`.
pub(super) fn defaults(catalog: &Catalog) -> Vec<Row> {
    let default = |found: crate::catalog::StoredDefault| {
        // What a schema adds says nothing of what the owner has anyway.
        let all = if found.schema.is_some() { Privileges::NONE } else { found.class.privileges() };
        row! {
            oid: found.oid as i32, defaclrole: role_oid(catalog, &found.role),
            defaclnamespace: found.schema.as_deref().map_or(0, schema_oid), defaclobjtype: found.class.letter(),
            defaclacl: items_beside(&found.acl, all, &found.role),
        }
    };
    catalog.defaults().into_iter().map(default).collect()
}

/// The grants on one column.
pub(super) fn column_acl(acl: &Acl, column: &str, owner: &str) -> Option<Vec<String>> {
    let items: Vec<String> = acl
        .0
        .iter()
        .filter_map(|item| {
            let held = item.columns.get(column)?;
            let grantor = if item.grantor.is_empty() { owner } else { &item.grantor };
            let grantee = item.grantee.as_deref().unwrap_or_default();
            Some(format!("{}={}/{}", quoted(grantee), held.privileges.letters(held.grantable), quoted(grantor)))
        })
        .collect();
    (!items.is_empty()).then_some(items)
}

fn quoted(role: &str) -> String {
    let plain = role.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { role.to_owned() } else { format!("\"{}\"", role.replace('"', "\"\"")) }
}

/// `pg_policies`.
pub(super) fn policies(catalog: &Catalog) -> Vec<Row> {
    let policy = |info: crate::catalog::PolicyInfo| {
        let policy = info.policy;
        let roles: Vec<String> = if policy.roles.is_empty() { vec!["public".to_owned()] } else { policy.roles.into_iter().collect() };
        row! {
            schemaname: "public", tablename: info.table, policyname: info.name,
            permissive: if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" }, roles: roles, cmd: policy.command.word(),
            qual: policy.using, with_check: policy.check,
        }
    };
    catalog.policies().into_iter().map(policy).collect()
}

/// `pg_policy`.
pub(super) fn policy_objects(catalog: &Catalog, snapshot: &Snapshot) -> Vec<Row> {
    let policy = |info: crate::catalog::PolicyInfo| {
        let table = own(snapshot).find(|relation| relation.name == info.table)?;
        let policy = info.policy;
        let command = match policy.command {
            PolicyCommand::All => "*",
            PolicyCommand::Select => "r",
            PolicyCommand::Insert => "a",
        };
        // Everybody is the role 0.
        let roles: Vec<i32> =
            if policy.roles.is_empty() { vec![0] } else { policy.roles.iter().map(|role| role_oid(catalog, role)).collect() };
        Some(row! {
            oid: policy.oid as i32, polname: info.name, polrelid: table.oid, polcmd: command, polpermissive: policy.permissive,
            polroles: roles, polqual: policy.using, polwithcheck: policy.check,
        })
    };
    catalog.policies().into_iter().filter_map(policy).collect()
}

/// `pg_auth_members`.
pub(super) fn members(catalog: &Catalog) -> Vec<Row> {
    let oid =
        |name: &str| PREDEFINED.iter().find(|(known, _)| *known == name).map_or_else(|| role_oid(catalog, name), |(_, oid)| *oid as i32);
    let member = |(group, member, how): (String, String, crate::catalog::Membership)| {
        row! { roleid: oid(&group), member: oid(&member), grantor: role_oid(catalog, &how.grantor), admin_option: how.admin }
    };
    catalog.memberships().into_iter().map(member).collect()
}

/// `information_schema.table_privileges` and `role_table_grants`: also what owners have.
pub(super) fn table_privileges(catalog: &Catalog, snapshot: &Snapshot) -> Vec<Row> {
    let acls = catalog.acls();
    let mut rows = Vec::new();
    for relation in own(snapshot) {
        let mut add = |grantor: &str, grantee: &str, privileges: Privileges, grantable: Privileges| {
            rows.extend(privileges.iter().map(|privilege| {
                row! {
                    grantor: grantor.to_owned(), grantee: grantee.to_owned(), table_catalog: DATABASE, table_schema: relation.schema.clone(),
                    table_name: relation.name.clone(), privilege_type: privilege.word(),
                    is_grantable: yes(grantable.has(privilege)), with_hierarchy: yes(privilege.word() == "SELECT"),
                }
            }));
        };
        let acl = of(&acls, relation);
        let all = ObjectClass::Table.privileges();
        // Owners may pass on what they hold.
        let own = acl.map_or(all, |acl| owner_held(acl, all).privileges);
        add(&relation.owner, &relation.owner, own, own);
        for item in acl.into_iter().flat_map(|acl| &acl.0).filter(|item| !item.owner) {
            add(&item.grantor, item.grantee.as_deref().unwrap_or("PUBLIC"), item.held.privileges, item.held.grantable);
        }
    }
    rows
}

/// `information_schema.column_privileges` and `role_column_grants`: what is granted on tables holds for their columns.
pub(super) fn column_privileges(catalog: &Catalog, snapshot: &Snapshot) -> Vec<Row> {
    let acls = catalog.acls();
    let mut rows = Vec::new();
    for relation in own(snapshot) {
        for attribute in &relation.attributes {
            let mut add = |grantor: &str, grantee: &str, privileges: Privileges, grantable: Privileges| {
                rows.extend(privileges.common(ObjectClass::column_privileges()).iter().map(|privilege| {
                    row! {
                        grantor: grantor.to_owned(), grantee: grantee.to_owned(), table_catalog: DATABASE,
                        table_schema: relation.schema.clone(), table_name: relation.name.clone(), column_name: attribute.name.clone(),
                        privilege_type: privilege.word(), is_grantable: yes(grantable.has(privilege)),
                    }
                }));
            };
            let acl = of(&acls, relation);
            let of_column = |item: &AclItem| item.columns.get(&attribute.name).copied().unwrap_or_default();
            let own = acl.and_then(Acl::of_owner).map(|item| item.held.privileges.and(of_column(item).privileges));
            let own = own.unwrap_or_else(ObjectClass::column_privileges);
            add(&relation.owner, &relation.owner, own, own);
            for item in acl.into_iter().flat_map(|acl| &acl.0).filter(|item| !item.owner) {
                let held = of_column(item);
                let grantee = item.grantee.as_deref().unwrap_or("PUBLIC");
                add(&item.grantor, grantee, item.held.privileges.and(held.privileges), item.held.grantable.and(held.grantable));
            }
        }
    }
    rows
}

fn own(snapshot: &Snapshot) -> impl Iterator<Item = &Relation> {
    snapshot.relations.iter().filter(|relation| relation.schema == "public")
}

fn of<'a>(acls: &'a [(Object, Acl)], relation: &Relation) -> Option<&'a Acl> {
    let object = Object::table(relation.name.as_str());
    acls.iter().find(|(found, _)| *found == object).map(|(_, acl)| acl)
}

fn yes(so: bool) -> Cell {
    Cell::from(if so { "YES" } else { "NO" })
}
