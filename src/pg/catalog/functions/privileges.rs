//! `has_…_privilege` and `pg_has_role`: what roles may do, as the statements themselves will find it.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::super::definitions::regproc_name;
use super::super::procedures;
use super::super::snapshot::{SUPERUSER_OID, schema_oid};
use super::names::{relation_by_name, split_name};
use super::{Function, function, integer, text};
use crate::catalog::{Catalog, Columns, DATABASE, Object, ObjectClass, PREDEFINED, Privilege, Rights};
use crate::engine::Session;
use crate::error::{Code, Error, Result};

pub(super) fn functions() -> Vec<Function> {
    let boolean = |name, arguments, kernel| function(name, arguments, DataType::Boolean, kernel);
    let mut functions = vec![
        boolean("has_table_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| table(&asked))),
        boolean("has_any_column_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| any_column(&asked))),
        boolean("has_column_privilege", 3..=4, |session, row| answer(session, row, 2, |asked| column(&asked))),
        boolean("has_schema_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| schema(&asked))),
        boolean("has_database_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| database(&asked))),
        boolean("has_function_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| routine(&asked))),
        boolean("has_model_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| model(&asked))),
        boolean("has_audience_privilege", 2..=3, |session, row| answer(session, row, 1, |asked| audience(&asked))),
        boolean("pg_has_role", 2..=3, |session, row| answer(session, row, 1, |asked| role(&asked))),
    ];
    // Of what everybody may use, and of what there is none.
    for name in ["has_type_privilege", "has_language_privilege", "has_tablespace_privilege", "has_sequence_privilege"] {
        functions.push(boolean(name, 2..=3, |_, row| Ok(ScalarValue::Boolean((!row.iter().any(ScalarValue::is_null)).then_some(true)))));
    }
    functions
}

/// One call: whose rights, on what (its arguments), which privileges.
struct Asked<'a> {
    catalog: &'a Catalog,
    session: &'a Session,
    rights: Rights,
    object: &'a [ScalarValue],
    privileges: String,
}

/// Reads `([role,] object…, privileges)` and asks; NULL for an argument that is NULL or an object that is gone.
fn answer(session: &Session, row: &[ScalarValue], objects: usize, ask: impl Fn(Asked<'_>) -> Result<Option<bool>>) -> Result<ScalarValue> {
    if row.iter().any(ScalarValue::is_null) {
        return Ok(ScalarValue::Boolean(None));
    }
    let catalog = session.engine().catalog();
    let (role, rest) = if row.len() > objects + 1 { (named_role(catalog, &row[..1])?, &row[1..]) } else { (session.user(), row) };
    let privileges = text(rest, objects).unwrap_or_default();
    let asked = Asked { catalog, session, rights: catalog.rights(&role), object: &rest[..objects], privileges };
    ask(asked).map(ScalarValue::Boolean)
}

/// A role by name or OID.
fn named_role(catalog: &Catalog, argument: &[ScalarValue]) -> Result<String> {
    if argument.first().is_some_and(|value| value.data_type().is_integer()) {
        let oid = integer(argument, 0).unwrap_or_default();
        if oid == i64::from(SUPERUSER_OID) {
            return Ok(catalog.first_superuser());
        }
        let found = catalog.roles().into_iter().find(|role| i64::from(role.oid) == oid).map(|role| role.name);
        let predefined = || PREDEFINED.iter().find(|(_, known)| i64::from(*known) == oid).map(|(name, _)| (*name).to_owned());
        return Ok(found.or_else(predefined).unwrap_or_default());
    }
    let name = text(argument, 0).unwrap_or_default();
    if name == "public" || catalog.role(&name).is_some() || PREDEFINED.iter().any(|(known, _)| *known == name) {
        return Ok(name);
    }
    Err(Error::new(Code::UndefinedObject, format!("role \"{name}\" does not exist")))
}

/// Whether any of the privileges of a list is held, each maybe `WITH GRANT OPTION`: that only owners are sure to have.
fn any(list: &str, owner: bool, held: impl Fn(Privilege) -> bool) -> Result<bool> {
    let mut found = false;
    for word in list.split(',') {
        let word = word.trim();
        let bare = word.to_ascii_uppercase();
        let (bare, option) = bare.strip_suffix(" WITH GRANT OPTION").map_or((bare.as_str(), false), |bare| (bare.trim(), true));
        let Some(privilege) = Privilege::parse(bare) else {
            // RULE was one until PostgreSQL 8.
            if bare == "RULE" {
                continue;
            }
            return Err(Error::new(Code::InvalidParameter, format!("unrecognized privilege type: \"{word}\"")));
        };
        found |= if option { owner } else { held(privilege) };
    }
    Ok(found)
}

/// A relation: its OID, and its name if it is the users' own.
fn relation(asked: &Asked<'_>) -> Result<Option<(i64, Option<String>)>> {
    let oid = if asked.object[0].data_type().is_integer() {
        integer(asked.object, 0).unwrap_or_default()
    } else {
        let name = text(asked.object, 0).unwrap_or_default();
        let missing = || Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist"));
        i64::from(relation_by_name(asked.session, &name).ok_or_else(missing)?)
    };
    let own = asked.catalog.list().into_iter().find(|info| i64::from(info.oid) == oid).map(|info| info.name);
    if own.is_none() && super::names::relation_by_oid(asked.session, oid).is_none() {
        return Ok(None);
    }
    Ok(Some((oid, own)))
}

fn table(asked: &Asked<'_>) -> Result<Option<bool>> {
    let Some((oid, own)) = relation(asked)? else { return Ok(None) };
    let Some(name) = own else {
        if let Some(info) = asked.session.temporary().list().into_iter().find(|info| i64::from(info.oid) == oid) {
            // Its owner's alone.
            let owns = asked.rights.owns_of(&info.owner);
            return any(&asked.privileges, owns, |_| owns).map(Some);
        }
        // What describes the server is there to be read.
        return any(&asked.privileges, asked.rights.superuser(), |privilege| privilege == Privilege::Select).map(Some);
    };
    let object = Object::table(name);
    any(&asked.privileges, asked.rights.owns(&object), |privilege| asked.rights.may(privilege, &object)).map(Some)
}

fn any_column(asked: &Asked<'_>) -> Result<Option<bool>> {
    let Some((_, Some(name))) = relation(asked)? else { return table(asked) };
    let object = Object::table(name.as_str());
    let held = |privilege| match asked.rights.columns(privilege, &name) {
        Columns::All => true,
        Columns::Some(columns) => !columns.is_empty(),
    };
    any(&asked.privileges, asked.rights.owns(&object), held).map(Some)
}

fn column(asked: &Asked<'_>) -> Result<Option<bool>> {
    let Some((_, Some(name))) = relation(asked)? else { return table(asked) };
    let info = asked.catalog.describe(&name);
    let column = if asked.object[1].data_type().is_integer() {
        let number = integer(asked.object, 1).unwrap_or_default();
        let at = usize::try_from(number - 1).ok();
        let Some(found) = at.and_then(|at| info?.schema.fields().get(at).map(|field| field.name().clone())) else { return Ok(None) };
        found
    } else {
        let column = text(asked.object, 1).unwrap_or_default();
        if info.is_none_or(|info| info.schema.field_with_name(&column).is_err()) {
            return Err(Error::new(Code::UndefinedColumn, format!("column \"{column}\" of relation \"{name}\" does not exist")));
        }
        column
    };
    let object = Object::table(name.as_str());
    let held = |privilege| match asked.rights.columns(privilege, &name) {
        Columns::All => true,
        Columns::Some(columns) => columns.contains(&column),
    };
    any(&asked.privileges, asked.rights.owns(&object), held).map(Some)
}

fn schema(asked: &Asked<'_>) -> Result<Option<bool>> {
    let names = super::names::schema_names(asked.session);
    let name = if asked.object[0].data_type().is_integer() {
        let oid = integer(asked.object, 0).unwrap_or_default();
        let Some(found) = names.into_iter().find(|name| i64::from(schema_oid(name)) == oid) else { return Ok(None) };
        found
    } else {
        let name = text(asked.object, 0).unwrap_or_default();
        if !names.contains(&name) {
            return Err(Error::new(Code::UndefinedSchema, format!("schema \"{name}\" does not exist")));
        }
        name
    };
    if name == asked.session.temporary().schema() {
        return any(&asked.privileges, true, |_| true).map(Some);
    }
    let system = matches!(name.as_str(), "pg_catalog" | "information_schema");
    let object = Object::new(ObjectClass::Schema, name);
    let held = |privilege| (system && privilege == Privilege::Usage) || asked.rights.may(privilege, &object);
    any(&asked.privileges, asked.rights.superuser(), held).map(Some)
}

fn database(asked: &Asked<'_>) -> Result<Option<bool>> {
    if let Some(name) = text(asked.object, 0).filter(|_| !asked.object[0].data_type().is_integer())
        && name != DATABASE
    {
        return Err(Error::new(Code::UndefinedDatabase, format!("database \"{name}\" does not exist")));
    }
    let object = Object::new(ObjectClass::Database, DATABASE);
    any(&asked.privileges, asked.rights.superuser(), |privilege| asked.rights.may(privilege, &object)).map(Some)
}

fn routine(asked: &Asked<'_>) -> Result<Option<bool>> {
    let name = if asked.object[0].data_type().is_integer() {
        let oid = integer(asked.object, 0).unwrap_or_default();
        let own = procedures::find(asked.session.engine(), oid).map(|found| found.name.clone());
        own.unwrap_or_else(|| regproc_name(i32::try_from(oid).unwrap_or_default()).into_owned())
    } else {
        let text = text(asked.object, 0).unwrap_or_default();
        let bare = text.split('(').next().unwrap_or_default();
        split_name(bare).pop().unwrap_or_default()
    };
    let object = Object::new(ObjectClass::Function, name);
    any(&asked.privileges, asked.rights.superuser(), |privilege| asked.rights.may(privilege, &object)).map(Some)
}

fn model(asked: &Asked<'_>) -> Result<Option<bool>> {
    let name = text(asked.object, 0).unwrap_or_default();
    let models = asked.session.engine().ml().registry.list_models();
    let Some(found) = models.into_iter().find(|info| info.name == name) else {
        return Err(Error::new(Code::UndefinedObject, format!("model \"{name}\" does not exist")));
    };
    any(&asked.privileges, asked.rights.owns_of(&found.owner), |_| asked.rights.may_execute_model(&name, &found.owner)).map(Some)
}

fn audience(asked: &Asked<'_>) -> Result<Option<bool>> {
    let name = text(asked.object, 0).unwrap_or_default();
    if asked.session.engine().ml().audiences.get(&name).is_none() {
        return Err(Error::new(Code::UndefinedObject, format!("audience \"{name}\" does not exist")));
    }
    let object = Object::new(ObjectClass::Audience, name);
    any(&asked.privileges, asked.rights.owns(&object), |privilege| asked.rights.may(privilege, &object)).map(Some)
}

/// `MEMBER`, `USAGE` and `SET`: all the same here.
fn role(asked: &Asked<'_>) -> Result<Option<bool>> {
    let group = named_role(asked.catalog, asked.object)?;
    Ok(Some(asked.rights.is_member(&group)))
}
