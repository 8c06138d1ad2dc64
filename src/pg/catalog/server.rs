//! The server itself: its database, roles and settings.

use std::time::SystemTime;

use arrow::datatypes::DataType;

use super::super::types::data_type;
use super::activity::DATABASE_OID;
use super::cells::{Cell, Row, row};
use super::snapshot::SUPERUSER_OID;
use super::types::format_type;
use crate::catalog::{Catalog, PREDEFINED};
use crate::engine::settings::{Change, Kind, Unit};
use crate::engine::{PreparedText, Session};

const DEFAULT_TABLESPACE: i32 = 1663;
/// UTF8, as `pg_encoding_to_char` numbers it.
const UTF8: i32 = 6;

pub(super) fn databases() -> Vec<Row> {
    vec![row! {
        oid: DATABASE_OID, datname: super::super::startup::DATABASE, datdba: SUPERUSER_OID, encoding: UTF8, datlocprovider: "c",
        datallowconn: true, datconnlimit: -1, dattablespace: DEFAULT_TABLESPACE, datcollate: "C", datctype: "C",
    }]
}

pub(super) fn tablespaces() -> Vec<Row> {
    vec![row! { oid: DEFAULT_TABLESPACE, spcname: "pg_default", spcowner: SUPERUSER_OID }]
}

/// `pg_roles`, `pg_authid` and `pg_user`: their columns have the same names. No password is ever shown.
pub(super) fn roles(catalog: &Catalog) -> Vec<Row> {
    let role = |role: crate::catalog::Role| {
        row! {
            oid: role.oid as i32, rolname: role.name.clone(), rolsuper: role.superuser, rolinherit: true,
            rolcreaterole: role.superuser, rolcreatedb: role.superuser, rolcanlogin: role.login, rolreplication: false,
            rolconnlimit: role.connection_limit.map_or(-1, |limit| limit as i32), rolpassword: "********", rolbypassrls: role.superuser,
            usename: role.name, usesysid: role.oid as i32, usecreatedb: role.superuser, usesuper: role.superuser,
            userepl: false, usebypassrls: role.superuser, passwd: "********",
        }
    };
    let predefined = |(name, oid): (&str, u32)| crate::catalog::Role {
        name: name.to_owned(),
        oid,
        superuser: false,
        login: false,
        verifier: None,
        connection_limit: None,
    };
    catalog.roles().into_iter().chain(PREDEFINED.into_iter().map(predefined)).map(role).collect()
}

pub(super) fn settings(session: &Session) -> Vec<Row> {
    let all = session.with_settings(|settings| settings.all());
    let row = |setting: crate::engine::settings::Setting| {
        let definition = setting.definition;
        let (kind, unit, least, most) = definition.map_or(("string", None, None, None), |definition| described(definition.kind));
        let choices = match definition.map(|definition| definition.kind) {
            Some(Kind::Enum(words)) => Cell::Texts(words.iter().map(|word| (*word).to_owned()).collect()),
            _ => Cell::Null,
        };
        let context = match definition.map(|definition| definition.change) {
            Some(Change::Never) => "internal",
            Some(Change::Start) => "postmaster",
            _ => "user",
        };
        row! {
            name: setting.name, setting: setting.value, unit: unit, category: "Portrait", short_desc: setting.doc,
            context: context, vartype: kind, source: "default", min_val: least, max_val: most, enumvals: choices,
            boot_val: definition.map(|definition| definition.default), reset_val: setting.reset_value, pending_restart: false,
        }
    };
    all.into_iter().map(row).collect()
}

/// What PREPARE or the client named, by name. Statements of the protocol that PREPARE would not take are left out.
pub(super) fn prepared_statements(session: &Session) -> Vec<Row> {
    let mut all = session.all_prepared();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let row = |(name, prepared): (String, PreparedText)| {
        let shown = |arrow: &Option<DataType>| format_type(data_type(arrow.as_ref()?).oid().into(), None);
        let types: Vec<String> = prepared.types.iter().map(|arrow| shown(arrow).unwrap_or_else(|| "unknown".to_owned())).collect();
        let since = prepared.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        row! {
            name: name, statement: prepared.text, prepare_time: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            parameter_types: types, from_sql: prepared.from_sql, generic_plans: 0, custom_plans: 0,
        }
    };
    all.into_iter().map(row).collect()
}

/// The type of a setting as `pg_settings` names it, its unit and its range.
fn described(kind: Kind) -> (&'static str, Option<&'static str>, Option<String>, Option<String>) {
    match kind {
        Kind::Bool => ("bool", None, None, None),
        Kind::Integer { min, max, unit } => {
            let unit = match unit {
                Unit::None => None,
                Unit::Milliseconds => Some("ms"),
                Unit::Kilobytes => Some("kB"),
            };
            ("integer", unit, Some(min.to_string()), Some(max.to_string()))
        }
        Kind::Real { min, max } => ("real", None, Some(min.to_string()), Some(max.to_string())),
        Kind::Enum(_) => ("enum", None, None, None),
        Kind::Text | Kind::TimeZone | Kind::DateStyle => ("string", None, None, None),
    }
}
