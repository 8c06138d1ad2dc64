//! What the functions need of the program around them, as traits and handles.
//!
//! A server implements these its own way (a history index on disk, a role check); a plain DataFusion program
//! takes the defaults. Nothing here knows a protocol, a catalog or a path.

mod audiences;
mod erasure;
mod identity;
mod profiles;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio_util::sync::CancellationToken;

pub use audiences::{AudienceInfo, AudienceKey, AudienceProvider, AudienceRef, AudienceVersion, NoAudiences, UserNumbers};
pub use erasure::{ErasedFrom, ErasureInfo, ErasureProvider, NoErasure, Retained};
pub use identity::{IdentityProvider, LinkOf, LinkWriter, Linked, NoIdentities, PERSON_IDS};
pub use profiles::{NoProfiles, ProfileInfo, ProfileInput, ProfileProvider, ProfileRefresh};

use crate::error::{Code, Error, Result};
use crate::features::EventColumns;
use crate::kernels::identity::People;

/// Carries messages to whoever asked, while a statement runs (NOTICE on the wire, stderr in a script).
pub type NoticeSink = Arc<dyn Fn(&str) + Send + Sync>;

/// What belongs to one running statement. A program sets it with [`attach`](StatementContext::attach); one that sets
/// none gets the default.
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
    /// Who is who while the statement runs: what the first that asks is told.
    pub people: Arc<OnceLock<People>>,
}

impl Default for StatementContext {
    fn default() -> Self {
        Self {
            cancel: CancellationToken::new(),
            notice: Arc::new(|_| {}),
            user: "portrait".into(),
            statement: String::new(),
            people: Arc::default(),
        }
    }
}

impl fmt::Debug for StatementContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementContext").field("user", &self.user).finish_non_exhaustive()
    }
}

impl StatementContext {
    /// Puts the context where every function finds it: as an extension of the session's configuration (for nodes
    /// of a plan, [`of`](Self::of)) and of its options (for scalar functions, which see only those,
    /// [`of_options`](Self::of_options)).
    #[must_use]
    pub fn attach(self, config: SessionConfig) -> SessionConfig {
        let context = Arc::new(self);
        let mut config = config.with_extension(Arc::clone(&context));
        config.options_mut().extensions.insert(StatementOptions(context));
        config
    }

    /// Who is who, the same from the first question of the statement to its last.
    pub fn people(&self, identities: &dyn IdentityProvider) -> &People {
        self.people.get_or_init(|| identities.people())
    }

    /// The context of the statement that runs with `config`.
    pub fn of(config: &SessionConfig) -> Arc<Self> {
        config.get_extension::<Self>().unwrap_or_else(|| Self::of_options(config.options()))
    }

    /// The context of the statement that runs with `options`.
    pub fn of_options(options: &ConfigOptions) -> Arc<Self> {
        options.extensions.get::<StatementOptions>().map(|found| Arc::clone(&found.0)).unwrap_or_default()
    }
}

/// Carries the context through [`ConfigOptions`]; no SQL setting reads or writes it.
#[derive(Debug, Clone, Default)]
struct StatementOptions(Arc<StatementContext>);

impl ConfigExtension for StatementOptions {
    const PREFIX: &'static str = "portrait_statement";
}

impl ExtensionOptions for StatementOptions {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> DataFusionResult<()> {
        Err(DataFusionError::from(Error::new(Code::UndefinedObject, format!("unrecognized configuration parameter \"{key}\""))))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// The files that SQL may name (`export_model`, `import_model`): a server restricts them to its data roots.
pub trait FileAccess: Send + Sync + fmt::Debug {
    /// The store that holds the folder `path`, and the folder's place in it.
    ///
    /// # Errors
    /// [`Code::InsufficientPrivilege`] when `path` is outside what `caller` may read (or write, with `write`).
    fn folder(&self, path: &str, caller: &str, write: bool) -> Result<(Arc<dyn ObjectStore>, Path)>;
}

/// No file at all: the default of a program that names no data root.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl FileAccess for NoFiles {
    fn folder(&self, path: &str, _caller: &str, _write: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
        Err(Error::new(Code::InsufficientPrivilege, format!("path \"{path}\" is not under a data root"))
            .hint("Start the server with --data-root to name the folders whose files SQL may use."))
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
