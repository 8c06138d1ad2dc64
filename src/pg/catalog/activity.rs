//! `pg_stat_activity` and `pg_stat_progress_train`: what runs now, and for whom.
//!
//! Everybody sees that others are there; what they run is shown to themselves, to superusers and to members of `pg_monitor`.

use std::sync::Arc;

use super::super::cancel::CancelRegistry;
use super::super::startup::DATABASE;
use super::cells::{Cell, Row, row};
use super::snapshot::role_oid;
use crate::catalog::Rights;
use crate::engine::{Engine, Session, TransactionStatus};

/// As high as no object counts, and not below 16384: clients take such databases for the server's own.
pub(super) const DATABASE_OID: i32 = 0x3fff_ffff;
/// Instead of what somebody else runs.
const HIDDEN: &str = "<insufficient privilege>";

pub(super) fn backends(engine: &Arc<Engine>, session: Option<&Session>, backends: &CancelRegistry) -> Vec<Row> {
    let catalog = engine.catalog();
    let rights = rights(engine, session);
    let row = |backend: Arc<super::super::activity::Backend>| {
        let shown = rights.as_ref().is_some_and(|rights| rights.owns_of(&backend.user) || rights.is_member("pg_monitor"));
        let (doing, own) = (backend.doing(), backend.session());
        let transaction = own.as_ref().map_or(TransactionStatus::Idle, Session::transaction);
        let state = match (doing.active, transaction) {
            (true, _) => "active",
            (false, TransactionStatus::Idle) => "idle",
            (false, TransactionStatus::Active) => "idle in transaction",
            (false, TransactionStatus::Failed) => "idle in transaction (aborted)",
        };
        let name = own.and_then(|own| own.with_settings(|settings| settings.raw("application_name")).ok()).unwrap_or_default();
        let always = row! {
            datid: DATABASE_OID, datname: DATABASE, pid: backend.pid, usesysid: role_oid(catalog, &backend.user),
            usename: backend.user.clone(), application_name: name, query: if shown { doing.text.to_string() } else { HIDDEN.to_owned() },
        };
        if !shown {
            return always;
        }
        let waits = !doing.active;
        always
            .into_iter()
            .chain(row! {
                client_addr: backend.peer.ip().to_string(), client_port: i32::from(backend.peer.port()), backend_start: backend.started_us,
                xact_start: doing.transaction_us, query_start: doing.begun_us, state_change: doing.changed_us,
                wait_event_type: waits.then_some("Client"), wait_event: waits.then_some("ClientRead"), state: state,
                backend_type: "client backend",
            })
            .collect()
    };
    backends.backends().into_iter().map(row).collect()
}

/// The one database's connections; its blocks and transactions are not counted.
pub(super) fn database(backends: &CancelRegistry) -> Vec<Row> {
    vec![row! { datid: DATABASE_OID, datname: DATABASE, numbackends: backends.backends().len() as i64, xact_commit: 0, xact_rollback: 0,
    blks_read: 0, blks_hit: 0, tup_returned: 0, tup_fetched: 0, tup_inserted: 0, tup_updated: 0, tup_deleted: 0, conflicts: 0,
    temp_files: 0, temp_bytes: 0, deadlocks: 0 }]
}

/// Nobody authenticates by GSSAPI.
pub(super) fn gssapi(backends: &CancelRegistry) -> Vec<Row> {
    let row = |backend: Arc<super::super::activity::Backend>| row! { pid: backend.pid, gss_authenticated: false, encrypted: false };
    backends.backends().into_iter().map(row).collect()
}

pub(super) fn trainings(engine: &Arc<Engine>, session: Option<&Session>) -> Vec<Row> {
    let Some(rights) = rights(engine, session) else { return Vec::new() };
    let jobs = engine.ml().jobs.list().into_iter().filter(|job| !job.state.ended());
    let seen = jobs.filter(|job| rights.owns_of(&job.owner) || rights.is_member("pg_monitor"));
    seen.map(|job| {
        row! {
            job_id: job.job_id, datid: DATABASE_OID, datname: DATABASE, usename: job.owner.clone(), model: job.model.clone(),
            version: job.version as i32, phase: job.state.as_str(), progress: real(Some(job.progress)), eta_seconds: real(job.eta_seconds),
            started_at: job.started_at_us, heartbeat: job.heartbeat_us,
            message: Some(job.message.to_string()).filter(|message| !message.is_empty()), query: job.statement.clone(),
        }
    })
    .collect()
}

fn rights(engine: &Arc<Engine>, session: Option<&Session>) -> Option<Rights> {
    session.map(|session| engine.catalog().rights(&session.user()))
}

fn real(value: Option<f64>) -> Cell {
    value.filter(|value| value.is_finite()).map_or(Cell::Null, Cell::Real)
}
