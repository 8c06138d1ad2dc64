//! What connections do, for whoever watches: `pg_stat_activity`, the log of slow statements, the audit log.
//!
//! A connection begins a [`Watch`] when a statement starts and ends it with what came of it. Texts that may hold a password are
//! never kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::metrics::Metrics;
use crate::engine::{Session, TransactionStatus, WeakSession};
use crate::sql::Statement;

/// Bytes of a statement's text that are shown, as in PostgreSQL's `track_activity_query_size`.
const TEXT_BYTES: usize = 1024;
/// Instead of a text that may hold a password.
const SECRET: &str = "<statement about a role>";

/// One connection.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Its number.
    pub(crate) pid: i32,
    /// Who logged in.
    pub(crate) user: String,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: bool,
    /// Microseconds since 1970.
    pub(crate) started_us: i64,
    session: WeakSession,
    doing: Mutex<Doing>,
}

/// What a connection does now, or did last. Times are microseconds since 1970.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doing {
    /// Whether a statement runs.
    pub(crate) active: bool,
    /// The statement's text.
    pub(crate) text: Arc<str>,
    pub(crate) begun_us: Option<i64>,
    pub(crate) changed_us: Option<i64>,
    pub(crate) transaction_us: Option<i64>,
}

impl Backend {
    pub(crate) fn new(pid: i32, session: &Session, peer: SocketAddr, tls: bool) -> Self {
        let started_us = now_us();
        Self {
            pid,
            user: session.login().to_owned(),
            peer,
            tls,
            started_us,
            session: session.downgrade(),
            doing: Mutex::new(Doing { changed_us: Some(started_us), ..Doing::default() }),
        }
    }

    /// One without a session.
    #[cfg(test)]
    pub(crate) fn of_test(pid: i32, user: &str) -> Self {
        let (peer, session) = (SocketAddr::from(([127, 0, 0, 1], 1)), WeakSession::default());
        Self { pid, user: user.to_owned(), peer, tls: false, started_us: 0, session, doing: Mutex::default() }
    }

    /// What it does.
    pub(crate) fn doing(&self) -> Doing {
        self.doing.lock().clone()
    }

    /// Its session, while it lives.
    pub(crate) fn session(&self) -> Option<Session> {
        self.session.upgrade()
    }
}

/// A statement that runs.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: Instant,
    kind: &'static str,
    text: Arc<str>,
}

/// What came of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// It is done, with so many rows.
    Done(u64),
    /// It failed with this SQLSTATE.
    Failed(&'static str),
}

/// What is logged of statements.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Logging {
    /// Statements that take at least so long are logged.
    pub(crate) slow: Option<Duration>,
    /// Every statement and every login is logged.
    pub(crate) audit: bool,
}

impl Watch {
    /// A statement starts.
    pub(crate) fn begin(backend: &Backend, statement: &Statement) -> Self {
        let text: Arc<str> = if statement.secret() { SECRET.into() } else { shortened(statement.text()).into() };
        let now = now_us();
        let mut doing = backend.doing.lock();
        doing.active = true;
        doing.text = Arc::clone(&text);
        doing.begun_us = Some(now);
        doing.changed_us = Some(now);
        doing.transaction_us.get_or_insert(now);
        Self { begun: Instant::now(), kind: statement.tag(), text }
    }

    /// The statement ended.
    pub(crate) fn end(self, backend: &Backend, session: &Session, ended: Ended, logging: Logging, metrics: &Metrics) {
        let took = self.begun.elapsed();
        {
            let mut doing = backend.doing.lock();
            doing.active = false;
            doing.changed_us = Some(now_us());
            if session.transaction() == TransactionStatus::Idle {
                doing.transaction_us = None;
            }
        }
        metrics.statement(self.kind, ended, took);
        let ms = took.as_secs_f64() * 1e3;
        let (rows, sqlstate) = match ended {
            Ended::Done(rows) => (rows, "00000"),
            Ended::Failed(sqlstate) => (0, sqlstate),
        };
        if logging.slow.is_some_and(|least| took >= least) {
            tracing::info!(
                target: "portrait::slow", pid = backend.pid, user = %session.user(), duration_ms = ms, rows, sqlstate, statement = %self.text,
                "slow statement"
            );
        }
        if logging.audit {
            let digest = blake3::hash(self.text.as_bytes()).to_hex();
            tracing::info!(
                target: "portrait::audit", pid = backend.pid, login = %backend.user, user = %session.user(), peer = %backend.peer,
                tls = backend.tls, kind = self.kind, digest = &digest[..16], duration_ms = ms, rows, sqlstate, "statement"
            );
        }
    }
}

fn shortened(text: &str) -> &str {
    if text.len() <= TEXT_BYTES {
        return text;
    }
    let end = (0..=TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

pub(crate) fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("select 1"), "select 1");
        let long = format!("{}ä{}", "x".repeat(TEXT_BYTES - 1), "y".repeat(10));
        assert_eq!(shortened(&long).len(), TEXT_BYTES - 1);
    }
}
