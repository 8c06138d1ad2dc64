//! Builds sessions and runs plans: runtimes, memory, limits, settings, statement contexts.
//!
//! Two runtimes. The caller's (IO) accepts, authenticates, encodes and sends; the engine's own runs queries on threads
//! with big stacks, so that neither a busy query nor a deeply nested one disturbs a connection. Training runs on
//! threads of its own (`portrait_udfs::train`).
//!
//! Life of a statement: `sql` asks [`Session::statement`] for a [`Running`] statement (cancel token, timeout, state
//! with the session's settings), plans on the query runtime ([`Running::plan`]), and hands the physical plan to
//! [`Running::stream`], which drives it on the query runtime and passes batches through a bounded channel.
//!
//! Architecture invariant: the engine knows no SQL text and no protocol; nothing of one session's settings reaches
//! another; a result is never collected.

mod runtime;
mod search_path;
mod session;
pub mod settings;
mod statement;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::sql::sqlparser::ast::Statement;
use parking_lot::RwLock;
use portrait_udfs::error::Result;

use crate::config::Config;

pub use runtime::QueryRuntime;
pub use session::{Session, TransactionStatus, WeakSession};
pub use statement::Running;

/// Adds to every session what only a higher layer knows: the functions of `pg_catalog`, for example.
pub trait Extension: Send + Sync {
    /// Called once per session, while its state is built. `session` is not usable for statements yet; functions may
    /// keep it to read settings later (it holds only a weak reference to the session).
    fn extend(&self, builder: SessionStateBuilder, session: &session::WeakSession) -> SessionStateBuilder;

    /// Called for each query before it is planned: constructs that the planner cannot read may become ones that it can.
    fn rewrite(&self, statement: &mut Statement) {
        let _ = statement;
    }
}

/// One open data directory and everything that runs on it.
pub struct Engine {
    config: Config,
    runtime: QueryRuntime,
    extensions: RwLock<Vec<Arc<dyn Extension>>>,
    sessions: AtomicU32,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("data_dir", &self.config.data_dir).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the data directory of `config`, making it at the first start.
    ///
    /// # Errors
    /// When the directory cannot be made, locked or read, or holds something that is damaged.
    pub async fn open(config: &Config) -> Result<Arc<Self>> {
        std::fs::create_dir_all(&config.data_dir)?;
        let runtime = QueryRuntime::start(config)?;
        Ok(Arc::new(Self { config: config.clone(), runtime, extensions: RwLock::default(), sessions: AtomicU32::new(1) }))
    }

    /// Adds `extension` to every session that is opened from now on.
    pub fn extend(&self, extension: Arc<dyn Extension>) {
        self.extensions.write().push(extension);
    }

    /// Lets the extensions rewrite a query.
    pub fn rewrite(&self, statement: &mut Statement) {
        for extension in self.extensions.read().iter() {
            extension.rewrite(statement);
        }
    }

    /// A new session of `user`, with settings of its own.
    ///
    /// # Errors
    /// When the session's state cannot be built.
    pub fn session(self: &Arc<Self>, user: &str) -> Result<Session> {
        let id = self.sessions.fetch_add(1, Ordering::Relaxed);
        Session::open(Arc::clone(self), user, id)
    }

    /// What the process was told at its start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The runtime that queries run on.
    pub fn runtime(&self) -> &QueryRuntime {
        &self.runtime
    }

    /// Stops accepting work and waits for what must not be torn off.
    pub async fn shutdown(&self) {
        self.runtime.shutdown();
    }

    /// The state that a new session starts from.
    fn session_state(&self, session: &session::WeakSession) -> Result<SessionState> {
        let mut builder = SessionStateBuilder::new()
            .with_config(session::base_config(&self.config))
            .with_runtime_env(Arc::clone(self.runtime.env()))
            .with_default_features();
        for extension in self.extensions.read().iter() {
            builder = extension.extend(builder, session);
        }
        Ok(builder.build())
    }
}
