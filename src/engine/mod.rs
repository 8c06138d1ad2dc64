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

mod access;
mod cursor;
mod erasure;
mod functions;
mod plans;
mod refresh;
mod runtime;
mod search_path;
mod session;
pub mod settings;
mod statement;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::object_store::path::Path as StorePath;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::sql::sqlparser::ast::Statement;
use parking_lot::{Mutex, RwLock};
use portrait_udfs::context::{FileAccess, StatementContext};
use portrait_udfs::error::Result;
use portrait_udfs::functions::{MlContext, PersonHistories, ml_schema_provider, register_all};
use portrait_udfs::registry::{Jobs, Registry};

use access::{ModelRights, RoleFiles};

use crate::catalog::Catalog;
use crate::config::Config;
use crate::plan::{CheckedArithmetic, Choices, ShortTexts, SliceJoins, TextTypes};
use crate::storage::{DataRoots, HistoryIndex, Store};

pub use access::NewRows;
pub use cursor::Cursor;
pub use functions::session_of;
pub use plans::{Direct, PlanSlot, PlanStamp, Plans};
pub use refresh::Refreshed;
pub use runtime::{Idleness, QueryRuntime};
pub(crate) use search_path::OwnTables;
pub use session::{Ended, PreparedText, Session, TransactionStatus, WeakSession};
pub use statement::{Parameters, Running};

/// Where models lie in the data directory's store.
const MODELS_PREFIX: &str = "models";
/// Trainings at once; later ones are queued.
const TRAININGS_MAX: usize = 2;
/// Roles whose states are kept for planning their views.
const DETACHED_MAX: usize = 256;
/// How long a shutdown waits for trainings to stop.
const TRAINING_GRACE: Duration = Duration::from_secs(5);

/// Adds to every session what only a higher layer knows: the functions of `pg_catalog`, for example.
pub trait Extension: Send + Sync {
    /// A name of its own.
    fn name(&self) -> &'static str;

    /// Called once per session, while its state is built. `session` is not usable for statements yet; functions may
    /// keep it to read settings later (it holds only a weak reference to the session).
    fn extend(&self, builder: SessionStateBuilder, session: &WeakSession) -> SessionStateBuilder;

    /// Called for each query before it is planned: constructs that the planner cannot read may become ones that it can.
    fn rewrite(&self, statement: &mut Statement) {
        let _ = statement;
    }
}

/// One open data directory and everything that runs on it.
pub struct Engine {
    config: Config,
    catalog: Arc<Catalog>,
    ml: Arc<MlContext>,
    runtime: QueryRuntime,
    plans: Arc<Plans>,
    extensions: RwLock<Vec<Arc<dyn Extension>>>,
    /// States of roles that own views.
    detached: Mutex<HashMap<String, SessionState>>,
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
    /// When the directory cannot be made or read, another process has it open, or something in it is damaged.
    pub async fn open(config: &Config) -> Result<Arc<Self>> {
        let store = match &config.store {
            Some(location) => Some(Store::remote(location).await?),
            None => None,
        };
        Self::open_in(config, store).await
    }

    /// As [`open`](Self::open), with tables and models in `store`.
    pub(crate) async fn open_in(config: &Config, store: Option<Store>) -> Result<Arc<Self>> {
        std::fs::create_dir_all(&config.data_dir)?;
        let configured: Vec<std::path::PathBuf> = config.data_roots.iter().map(std::path::PathBuf::from).collect();
        let roots = Arc::new(DataRoots::new(&config.data_dir, &configured)?);
        // First, for its lock: nothing of the folder is touched while another process works in it.
        let catalog = match store {
            Some(store) => Catalog::open_in(store, &config.data_dir, Arc::clone(&roots), config.take_over).await?,
            None => Catalog::open(&config.data_dir, Arc::clone(&roots)).await?,
        };
        let runtime = QueryRuntime::start(config)?;
        catalog.set_runtime(runtime.env());
        let store = Arc::clone(catalog.objects());
        let registry = Registry::open(Arc::clone(&store), StorePath::from(MODELS_PREFIX), config.model_cache).await?;
        let registry = Arc::new(registry.with_permissions(Arc::new(ModelRights(Arc::downgrade(&catalog)))));
        let histories = HistoryIndex::open(catalog.folder())?;
        let erasures = erasure::Erasures::new(catalog.eraser(), Arc::clone(&histories), Arc::clone(&registry));
        erasures.resume();
        let jobs = Jobs::open(store, StorePath::from(MODELS_PREFIX), TRAININGS_MAX).await?;
        let (audiences, identities) = (catalog.audiences(), catalog.identities());
        let engine = Arc::new_cyclic(|engine| {
            let ml = Arc::new(MlContext {
                registry,
                jobs,
                // A user's events are those of all ids of the person.
                histories: Arc::new(PersonHistories::new(histories, Arc::clone(&identities))),
                training_threads: config.training_threads,
                files: Arc::new(RoleFiles(Arc::downgrade(&catalog))) as Arc<dyn FileAccess>,
                audiences,
                erasure: Arc::new(erasures),
                identities,
                profiles: Arc::new(refresh::Profiles(Weak::clone(engine))),
            });
            Self {
                config: config.clone(),
                catalog,
                ml,
                runtime,
                plans: Arc::default(),
                extensions: RwLock::default(),
                detached: Mutex::default(),
                sessions: AtomicU32::new(1),
            }
        });
        engine.catalog.attach_schema("ml", ml_schema_provider(Arc::clone(&engine.ml)));
        Ok(engine)
    }

    /// Adds `extension` to every session that is opened from now on; one of the same name takes its place.
    pub fn extend(&self, extension: Arc<dyn Extension>) {
        let mut extensions = self.extensions.write();
        match extensions.iter_mut().find(|present| present.name() == extension.name()) {
            Some(present) => *present = extension,
            None => extensions.push(extension),
        }
    }

    /// A state that belongs to no client, with the default settings and what `role` may read: its views are planned with it.
    ///
    /// # Errors
    /// When the session's state cannot be built.
    pub fn detached_state(self: &Arc<Self>, role: &str) -> Result<SessionState> {
        if let Some(state) = self.detached.lock().get(role) {
            return Ok(state.clone());
        }
        // Made at the first use, when every extension is there.
        let state = Session::open(Arc::clone(self), role, 0)?.state()?;
        let mut kept = self.detached.lock();
        if kept.len() >= DETACHED_MAX {
            kept.clear();
        }
        kept.insert(role.to_owned(), state.clone());
        Ok(state)
    }

    /// The same statement with the rights of `role`, and with its default settings.
    ///
    /// # Errors
    /// When the session's state cannot be built.
    pub fn acting_as(self: &Arc<Self>, state: &Arc<SessionState>, role: &str) -> Result<Arc<SessionState>> {
        let context = StatementContext::of(state.config());
        if context.user == role {
            return Ok(Arc::clone(state));
        }
        let mut own = self.session(role)?.state()?;
        let context = StatementContext { user: role.to_owned(), ..context.as_ref().clone() };
        *own.config_mut() = context.attach(own.config().clone());
        Ok(Arc::new(own))
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

    /// Tables, views and roles.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Models and trainings.
    pub fn ml(&self) -> &Arc<MlContext> {
        &self.ml
    }

    /// Plans of prepared statements.
    pub fn plans(&self) -> &Arc<Plans> {
        &self.plans
    }

    /// The runtime that queries run on.
    pub fn runtime(&self) -> &QueryRuntime {
        &self.runtime
    }

    /// Ends what still runs: trainings stop at their next batch and are recorded as cancelled. Everything that was
    /// acknowledged is durable already.
    pub async fn shutdown(&self) {
        self.ml.jobs.shutdown(TRAINING_GRACE).await;
        self.runtime.shutdown();
        if let Err(error) = self.catalog.release().await {
            tracing::warn!(%error, "the store is still in this server's name: another one must be told to take over");
        }
    }

    /// The state that a new session starts from.
    fn session_state(&self, session: &WeakSession) -> SessionState {
        let databases = MemoryCatalogProviderList::new();
        databases.register_catalog(search_path::DATABASE.to_owned(), self.catalog.catalog_provider());
        let mut rules = PhysicalOptimizer::new().rules;
        rules.insert(0, Arc::new(CheckedArithmetic));
        rules.insert(1, Arc::new(Choices));
        rules.insert(2, Arc::new(ShortTexts::Values));
        rules.push(Arc::new(ShortTexts::Conditions));
        let builder = SessionStateBuilder::new()
            .with_config(session::base_config(&self.config))
            .with_runtime_env(Arc::clone(self.runtime.env()))
            .with_catalog_list(Arc::new(databases))
            .with_default_features()
            .with_analyzer_rule(Arc::new(TextTypes))
            .with_physical_optimizer_rules(rules);
        let mut builder = register_all(builder, Arc::clone(&self.ml)).with_physical_optimizer_rule(Arc::new(SliceJoins));
        builder.scalar_functions().get_or_insert_default().extend(functions::scalars());
        for extension in self.extensions.read().iter() {
            builder = extension.extend(builder, session);
        }
        builder.build()
    }
}
