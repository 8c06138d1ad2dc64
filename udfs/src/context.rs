//! What the functions need of the program around them, as traits and handles.
//!
//! A server implements these its own way (a history index on disk, a role check); a plain DataFusion program
//! takes the defaults. Nothing here knows a protocol, a catalog or a path.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::features::EventColumns;

/// Carries messages to whoever asked, while a statement runs (NOTICE on the wire, stderr in a script).
pub type NoticeSink = Arc<dyn Fn(&str) + Send + Sync>;

/// What belongs to one running statement. Set as an extension of the session's `SessionConfig`
/// (`config.set_extension(Arc::new(StatementContext { .. }))`); a program that sets none gets the default.
#[derive(Clone)]
pub struct StatementContext {
    /// Fired by the driver's cancel, the statement timeout or a closed connection.
    pub cancel: CancellationToken,
    /// Where progress goes.
    pub notice: NoticeSink,
    /// Who runs the statement; becomes the owner of the models it trains.
    pub user: String,
    /// The statement's text, kept with the models it trains. Empty when not known.
    pub statement: String,
}

impl Default for StatementContext {
    fn default() -> Self {
        Self { cancel: CancellationToken::new(), notice: Arc::new(|_| {}), user: "portrait".into(), statement: String::new() }
    }
}

impl fmt::Debug for StatementContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementContext").field("user", &self.user).finish_non_exhaustive()
    }
}

/// One source of events: the query that yields them and which of its columns plays which role.
#[derive(Debug, Clone)]
pub struct EventSource {
    /// A single read-only query, for example `SELECT * FROM events`. It runs with the caller's rights.
    pub sql: String,
    /// The roles of its columns.
    pub columns: EventColumns,
}

/// Users' histories in the canonical schema (see [`crate::features::events`]), in user order.
#[async_trait]
pub trait UserHistories: Send + Sync + fmt::Debug {
    /// The largest event time of the source, microseconds since 1970 UTC; `None` when it has no events.
    fn watermark_us(&self) -> Option<i64>;

    /// Rows left out because user or time was NULL.
    fn dropped_rows(&self) -> u64;

    /// Changes whenever the source's contents change; `None` when that cannot be known.
    fn fingerprint(&self) -> Option<String>;

    /// Every event, ordered by (user, time, event, item), in `partitions` streams that never split a user.
    /// Streams are lazy and hold a bounded number of rows.
    async fn scan(&self, partitions: usize) -> Result<Vec<SendableRecordBatchStream>>;

    /// The events of `users` (an Int64 or Utf8 array of the key's type: sorted ascending, distinct, no NULL),
    /// ordered like [`scan`](Self::scan).
    async fn lookup(&self, users: arrow::array::ArrayRef) -> Result<SendableRecordBatchStream>;
}

/// Opens the histories of a source. The default sorts the source at each use; a server keeps an index.
#[async_trait]
pub trait HistoryProvider: Send + Sync + fmt::Debug {
    /// Opens `source` as `session` sees it now.
    async fn open(&self, session: &SessionState, source: &EventSource) -> Result<Arc<dyn UserHistories>>;
}
