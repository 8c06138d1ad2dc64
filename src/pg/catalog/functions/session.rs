//! Who, where, since when. (`current_setting` and `set_config` belong to the engine.)

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::scalar::ScalarValue;

use super::super::super::startup::DATABASE;
use super::super::snapshot::schema_oid;
use super::{Function, boolean, function, utf8};
use crate::engine::Session;
use crate::error::Result;

/// Microseconds since 1970 when the process first looked.
static STARTED_US: LazyLock<i64> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64));

pub(super) fn functions() -> Vec<Function> {
    LazyLock::force(&STARTED_US);
    let names = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let timestamptz = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut functions = vec![
        function("version", 0..=0, DataType::Utf8, |_, _| Ok(utf8(version()))),
        named("current_database", |_, _| Ok(utf8(DATABASE.to_owned()))),
        named("current_catalog", |_, _| Ok(utf8(DATABASE.to_owned()))),
        named("current_schema", |session, _| Ok(utf8(schemas(session, false).into_iter().next()))),
        function("current_schemas", 1..=1, names, |session, row| {
            let names: Vec<_> = schemas(session, boolean(row, 0).unwrap_or_default()).into_iter().map(utf8).collect();
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&names, &DataType::Utf8)))
        }),
        function("pg_backend_pid", 0..=0, DataType::Int32, |session, _| Ok(ScalarValue::Int32(Some(session.id() as i32)))),
        function("pg_is_in_recovery", 0..=0, DataType::Boolean, |_, _| Ok(ScalarValue::Boolean(Some(false)))),
        function("pg_is_wal_replay_paused", 0..=0, DataType::Boolean, |_, _| Ok(ScalarValue::Boolean(Some(false)))),
        // Nobody waits for another's lock.
        function("pg_blocking_pids", 1..=1, DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))), |_, _| {
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&[], &DataType::Int32)))
        }),
        function("pg_postmaster_start_time", 0..=0, timestamptz.clone(), started),
        function("pg_conf_load_time", 0..=0, timestamptz, started),
        function("pg_my_temp_schema", 0..=0, DataType::Int32, |session, _| {
            let temporary = session.temporary();
            Ok(ScalarValue::Int32(Some(if temporary.is_used() { schema_oid(temporary.schema()) } else { 0 })))
        }),
        // Those of other sessions are in no list.
        function("pg_is_other_temp_schema", 1..=1, DataType::Boolean, |_, row| {
            Ok(ScalarValue::Boolean(row.first().filter(|oid| !oid.is_null()).map(|_| false)))
        }),
        function("inet_client_addr", 0..=0, DataType::Utf8, |_, _| Ok(utf8(None))),
        function("inet_server_addr", 0..=0, DataType::Utf8, |_, _| Ok(utf8(None))),
        function("inet_server_port", 0..=0, DataType::Int32, |_, _| Ok(ScalarValue::Int32(None))),
        // There are no advisory locks, so none is held: what connection pools send when a connection comes back.
        Function { volatile: true, ..function("pg_advisory_unlock_all", 0..=0, DataType::Utf8, |_, _| Ok(utf8(String::new()))) },
    ];
    for name in ["current_user", "user", "current_role"] {
        functions.push(named(name, |session, _| Ok(utf8(session.user()))));
    }
    functions.push(named("session_user", |session, _| Ok(utf8(session.session_user()))));
    functions
}

/// A function that returns the name of something.
fn named(name: &'static str, kernel: fn(&Session, &[ScalarValue]) -> Result<ScalarValue>) -> Function {
    Function { type_name: Some("name"), ..function(name, 0..=0, DataType::Utf8, kernel) }
}

fn version() -> String {
    let (version, system) = (env!("CARGO_PKG_VERSION"), (std::env::consts::ARCH, std::env::consts::OS));
    format!("PostgreSQL 15.0 (Portrait {version}) on {}-{}", system.0, system.1)
}

fn started(_: &Session, _: &[ScalarValue]) -> Result<ScalarValue> {
    Ok(ScalarValue::TimestampMicrosecond(Some(*STARTED_US), Some("UTC".into())))
}

/// The schemas of `search_path` that exist.
fn schemas(session: &Session, implicit: bool) -> Vec<String> {
    let path = session.search_path();
    let (database, temporary) = (session.engine().catalog().catalog_provider(), session.temporary());
    let own = Some(temporary.schema().to_owned()).filter(|_| implicit && temporary.is_used());
    let explicit = path.into_iter().filter(|name| database.schema(name).is_some());
    own.into_iter().chain(implicit.then(|| "pg_catalog".to_owned())).chain(explicit).collect()
}
