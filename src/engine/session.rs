//! One session: a user, settings that nobody else sees, prepared statements, the state of the transaction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arrow::datatypes::DataType;
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use portrait_udfs::context::{NoticeSink, PERSON_IDS};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::MlSettings;
use portrait_udfs::functions::behavior::BehaviorOptions;
use portrait_udfs::functions::identity::IdentityOptions;
use tokio_util::sync::CancellationToken;

use super::search_path::{self, OwnTables};
use super::settings::{Scope, Settings};
use super::{Cursor, Engine, Running};
use crate::catalog::{PREDEFINED, Temporary};
use crate::config::Config;

/// Prepared statements that one session may hold.
const PREPARED_MAX: usize = 1000;

/// Cursors that one session may hold: each is a query that runs.
const CURSORS_MAX: usize = 64;

/// Savepoints that one transaction may hold.
const SAVEPOINTS_MAX: usize = 1000;

/// Where a session stands between BEGIN and COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionStatus {
    /// No transaction block.
    #[default]
    Idle,
    /// In a transaction block.
    Active,
    /// In a transaction block that failed: only its end is accepted.
    Failed,
}

/// What a transaction block was.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How it stood.
    pub before: TransactionStatus,
    /// Statements of it were committed one by one.
    pub wrote: bool,
    /// What it did to temporary tables is undone, if it had to be.
    pub undone: bool,
}

/// A statement that `PREPARE` or a client named. It is planned again at each `EXECUTE`, so that it sees new model versions.
#[derive(Debug, Clone)]
pub struct PreparedText {
    /// The text behind `AS`, or the client's.
    pub text: String,
    /// The declared types of `$1 …`; `None` = inferred.
    pub types: Vec<Option<DataType>>,
    /// Named by `PREPARE`, not by the protocol.
    pub from_sql: bool,
    /// When it was named.
    pub at: SystemTime,
}

/// A connection's view of the engine. Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

/// A session that functions may keep without keeping it alive.
#[derive(Clone, Default)]
pub struct WeakSession(Weak<Inner>);

struct Inner {
    engine: Arc<Engine>,
    /// Who logged in.
    user: String,
    id: u32,
    /// The state that statements start from, without the settings.
    base: SessionState,
    shared: Mutex<Shared>,
    temporary: Arc<Temporary>,
    /// The changes of temporary tables that kept plans have followed.
    followed: AtomicU64,
}

#[derive(Default)]
struct Shared {
    settings: Settings,
    /// `base` with the settings applied; `None` after one has changed.
    state: Option<SessionState>,
    /// How often settings may have changed.
    changes: u64,
    prepared: HashMap<String, PreparedText>,
    transaction: TransactionStatus,
    /// Statements of this transaction block were committed one by one.
    wrote: bool,
    /// Names that SAVEPOINT gave, oldest first, and what had been done to temporary tables by then.
    savepoints: Vec<(String, usize)>,
    cursors: HashMap<String, OpenCursor>,
}

struct OpenCursor {
    cursor: Arc<Cursor>,
    /// Declared by the transaction block that is open: its ROLLBACK closes it.
    of_block: bool,
}

impl Shared {
    fn settings_changed(&mut self) {
        self.state = None;
        self.changes += 1;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whatever of the session is still running keeps the files that it reads, and nothing else.
        self.temporary.close();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.0.id).field("user", &self.0.user).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WeakSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakSession").finish_non_exhaustive()
    }
}

impl PartialEq for WeakSession {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for WeakSession {}

impl std::hash::Hash for WeakSession {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

impl WeakSession {
    /// The session, while it lives.
    pub fn upgrade(&self) -> Option<Session> {
        self.0.upgrade().map(Session)
    }
}

impl Session {
    pub(super) fn open(engine: Arc<Engine>, user: &str, id: u32) -> Result<Self> {
        let inner = Arc::new_cyclic(|weak| {
            let weak = WeakSession(Weak::clone(weak));
            let mut base = engine.session_state(&weak);
            super::functions::attach(&weak, base.config_mut());
            let mut shared = Shared::default();
            shared.settings.describe_session("session_authorization", user);
            tell_superuser(&mut shared, &engine);
            let temporary = engine.catalog().temporary(id);
            Inner { engine, user: user.to_owned(), id, base, shared: Mutex::new(shared), temporary, followed: AtomicU64::new(0) }
        });
        Ok(Self(inner))
    }

    /// Whose rights the session's statements have (`current_user`).
    pub fn user(&self) -> String {
        current_user(&self.0.shared.lock().settings)
    }

    /// Whom the session is for (`session_user`): who logged in, unless a superuser said otherwise.
    pub fn session_user(&self) -> String {
        session_user(&self.0.shared.lock().settings)
    }

    /// Who logged in.
    pub fn login(&self) -> &str {
        &self.0.user
    }

    /// `SET ROLE`; `None` = NONE.
    ///
    /// # Errors
    /// 42704 for a role that does not exist, 42501 for one that the session user is no member of.
    pub fn set_role(&self, role: Option<&str>, scope: Scope) -> Result<()> {
        if let Some(role) = role {
            let catalog = self.0.engine.catalog();
            if catalog.role(role).is_none() && !PREDEFINED.iter().any(|(name, _)| *name == role) {
                return Err(Error::new(Code::UndefinedObject, format!("role \"{role}\" does not exist")));
            }
            if !catalog.rights(&self.session_user()).may_become(role) {
                return Err(Error::new(Code::InsufficientPrivilege, format!("permission denied to set role \"{role}\"")));
            }
        }
        self.assume("role", role, scope);
        Ok(())
    }

    /// `SET SESSION AUTHORIZATION`; `None` = DEFAULT.
    ///
    /// # Errors
    /// 42704 for a role that does not exist, 42501 unless a superuser logged in.
    pub fn set_authorization(&self, user: Option<&str>, scope: Scope) -> Result<()> {
        if let Some(user) = user.filter(|user| *user != self.0.user) {
            let catalog = self.0.engine.catalog();
            if catalog.role(user).is_none() {
                return Err(Error::new(Code::UndefinedObject, format!("role \"{user}\" does not exist")));
            }
            if !catalog.rights(&self.0.user).superuser() {
                return Err(Error::new(Code::InsufficientPrivilege, "permission denied to set session authorization"));
            }
        }
        self.assume("role", None, scope);
        self.assume("session_authorization", user, scope);
        Ok(())
    }

    fn assume(&self, name: &'static str, value: Option<&str>, scope: Scope) {
        let mut shared = self.0.shared.lock();
        shared.settings_changed();
        shared.settings.assume(name, value, scope);
        tell_superuser(&mut shared, &self.0.engine);
    }

    /// A number of this session's own, for as long as the process runs.
    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// A reference that does not keep the session alive.
    pub fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.0))
    }

    /// Reads settings.
    pub fn with_settings<T>(&self, read: impl FnOnce(&Settings) -> T) -> T {
        read(&self.0.shared.lock().settings)
    }

    /// The schemas that bare names are looked up in, as the setting names them; some may not exist.
    pub fn search_path(&self) -> Vec<String> {
        self.with_settings(|settings| search_path::schemas(settings, &current_user(settings)))
    }

    /// Changes settings; statements that start from now on see it.
    pub fn change_settings<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        let mut shared = self.0.shared.lock();
        shared.settings_changed();
        change(&mut shared.settings)
    }

    /// Grows whenever settings may have changed.
    pub(crate) fn setting_changes(&self) -> u64 {
        self.0.shared.lock().changes
    }

    /// Starts a statement: its context, its timeout and its state. `text` is kept with the models that it trains.
    ///
    /// # Errors
    /// When a setting cannot be applied.
    pub fn statement(&self, text: &str, cancel: &CancellationToken, notice: NoticeSink) -> Result<Running> {
        Running::start(self, text, cancel, notice)
    }

    /// The state that a statement starts from, with the settings applied.
    pub(super) fn state(&self) -> Result<SessionState> {
        let mut shared = self.0.shared.lock();
        if let Some(state) = &shared.state {
            return Ok(state.clone());
        }
        let mut state = self.0.base.clone();
        apply(&shared.settings, &self.0.engine, state.config_mut())?;
        search_path::apply(&shared.settings, &current_user(&shared.settings), self.0.engine.catalog(), &self.0.temporary, &mut state);
        shared.state = Some(state.clone());
        Ok(state)
    }

    /// The tables that this session alone sees.
    pub fn temporary(&self) -> &Arc<Temporary> {
        &self.0.temporary
    }

    /// Whether a bare name means one of these tables: they come first, unless `search_path` names their schema behind another one
    /// that has the name.
    pub fn finds_temporary(&self, name: &str) -> bool {
        self.own_tables().finds(name)
    }

    /// The temporary tables as bare names find them now.
    pub(crate) fn own_tables(&self) -> OwnTables {
        OwnTables::new(&self.0.temporary, self.0.engine.catalog(), &self.search_path())
    }

    /// Lets go of kept plans that were made before temporary tables came or went: they may hold one that is gone.
    pub(crate) fn follow_temporary(&self) {
        let now = self.0.temporary.changes();
        if self.0.followed.swap(now, Ordering::AcqRel) != now {
            self.0.engine.plans().forget(self.0.id);
        }
    }

    /// Where the session stands between BEGIN and COMMIT.
    pub fn transaction(&self) -> TransactionStatus {
        self.0.shared.lock().transaction
    }

    /// BEGIN. Returns false when a transaction block is open already.
    pub fn begin(&self) -> bool {
        let mut shared = self.0.shared.lock();
        if shared.transaction != TransactionStatus::Idle {
            return false;
        }
        shared.transaction = TransactionStatus::Active;
        shared.wrote = false;
        shared.settings.begin();
        self.0.temporary.begin();
        true
    }

    /// Ends the transaction block: what it was before, and whether statements of it were committed one by one.
    ///
    /// # Errors
    /// When temporary tables cannot be made what they were, or are to be: the block is at its end all the same.
    pub async fn end(&self, commit: bool) -> Result<Ended> {
        let (before, wrote) = self.end_block(commit);
        let kept = commit && before != TransactionStatus::Failed;
        let undone = self.0.temporary.end(kept).await?;
        Ok(Ended { before, wrote, undone })
    }

    fn end_block(&self, commit: bool) -> (TransactionStatus, bool) {
        let mut shared = self.0.shared.lock();
        let before = std::mem::take(&mut shared.transaction);
        shared.settings.end(commit && before != TransactionStatus::Failed);
        shared.settings_changed();
        tell_superuser(&mut shared, &self.0.engine);
        shared.savepoints.clear();
        let kept = commit && before != TransactionStatus::Failed;
        shared.cursors.retain(|_, open| open.cursor.hold && (kept || !open.of_block));
        shared.cursors.values_mut().for_each(|open| open.of_block = false);
        (before, std::mem::take(&mut shared.wrote))
    }

    /// `SAVEPOINT`.
    ///
    /// # Errors
    /// [`Code::NoTransaction`] outside a transaction block, [`Code::TooComplex`] when there are too many.
    pub fn savepoint(&self, name: &str) -> Result<()> {
        let mut shared = self.0.shared.lock();
        if shared.transaction == TransactionStatus::Idle {
            return Err(Error::new(Code::NoTransaction, "SAVEPOINT can only be used in transaction blocks"));
        }
        if shared.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(Error::new(Code::TooComplex, "too many savepoints"));
        }
        shared.savepoints.push((name.to_owned(), self.0.temporary.savepoint()));
        Ok(())
    }

    /// `RELEASE`: forgets a savepoint and those after it.
    ///
    /// # Errors
    /// [`Code::UndefinedObject`] when there is none of that name.
    pub fn release(&self, name: &str) -> Result<()> {
        let mut shared = self.0.shared.lock();
        let at = savepoint_at(&shared, name)?;
        shared.savepoints.truncate(at);
        Ok(())
    }

    /// `ROLLBACK TO`: a failed transaction block goes on, with the temporary tables of then. False where rows of them could not be
    /// taken back.
    ///
    /// # Errors
    /// [`Code::UndefinedObject`] when there is none of that name; failures of the store.
    pub async fn rollback_to(&self, name: &str) -> Result<bool> {
        let done = self.back_at(name)?;
        self.0.temporary.roll_back_to(done).await
    }

    fn back_at(&self, name: &str) -> Result<usize> {
        let mut shared = self.0.shared.lock();
        let at = savepoint_at(&shared, name)?;
        shared.savepoints.truncate(at + 1);
        shared.transaction = TransactionStatus::Active;
        Ok(shared.savepoints.last().map_or(0, |(_, done)| *done))
    }

    /// A statement failed: an open transaction block accepts nothing but its end from now on. `sql` calls it for
    /// statements that do not start; whoever reads the rows calls it for a stream that ends with an error.
    pub fn statement_failed(&self) {
        let mut shared = self.0.shared.lock();
        if shared.transaction == TransactionStatus::Active {
            shared.transaction = TransactionStatus::Failed;
        }
    }

    /// Notes that a statement inside a transaction block was committed at once; true for the first.
    pub fn wrote_in_transaction(&self) -> bool {
        let mut shared = self.0.shared.lock();
        shared.transaction == TransactionStatus::Active && !std::mem::replace(&mut shared.wrote, true)
    }

    /// Keeps a cursor under `name`.
    ///
    /// # Errors
    /// [`Code::DuplicateCursor`] when the name is taken, [`Code::TooComplex`] when there are too many.
    pub fn open_cursor(&self, name: &str, cursor: Cursor) -> Result<()> {
        let mut shared = self.0.shared.lock();
        if shared.cursors.contains_key(name) {
            return Err(Error::new(Code::DuplicateCursor, format!("cursor \"{name}\" already exists")));
        }
        if shared.cursors.len() >= CURSORS_MAX {
            return Err(Error::new(Code::TooComplex, "too many open cursors")
                .detail(format!("The session holds {CURSORS_MAX} cursors, and each is a query that runs."))
                .hint("CLOSE those that are not needed any more."));
        }
        let of_block = shared.transaction != TransactionStatus::Idle;
        shared.cursors.insert(name.to_owned(), OpenCursor { cursor: Arc::new(cursor), of_block });
        Ok(())
    }

    /// The cursor that `DECLARE` named.
    ///
    /// # Errors
    /// [`Code::UndefinedCursor`] when there is none.
    pub fn cursor(&self, name: &str) -> Result<Arc<Cursor>> {
        self.0.shared.lock().cursors.get(name).map(|open| Arc::clone(&open.cursor)).ok_or_else(|| missing_cursor(name))
    }

    /// Closes a cursor, or with `None` all of them.
    ///
    /// # Errors
    /// [`Code::UndefinedCursor`] when there is none of that name.
    pub fn close_cursor(&self, name: Option<&str>) -> Result<()> {
        let mut shared = self.0.shared.lock();
        match name {
            None => shared.cursors.clear(),
            Some(name) => {
                shared.cursors.remove(name).ok_or_else(|| missing_cursor(name))?;
            }
        }
        Ok(())
    }

    /// Keeps a statement under `name`.
    ///
    /// # Errors
    /// [`Code::DuplicatePrepared`] when the name is taken, [`Code::TooComplex`] when there are too many.
    pub fn keep_prepared(&self, name: &str, prepared: PreparedText) -> Result<()> {
        let mut shared = self.0.shared.lock();
        if shared.prepared.contains_key(name) {
            return Err(Error::new(Code::DuplicatePrepared, format!("prepared statement \"{name}\" already exists")));
        }
        if shared.prepared.len() >= PREPARED_MAX {
            return Err(Error::new(Code::TooComplex, "too many prepared statements")
                .detail(format!("The session holds {PREPARED_MAX} prepared statements."))
                .hint("Use DEALLOCATE for those that are not needed any more."));
        }
        shared.prepared.insert(name.to_owned(), prepared);
        Ok(())
    }

    /// The statement of that name.
    ///
    /// # Errors
    /// [`Code::UndefinedPrepared`] when there is none.
    pub fn prepared(&self, name: &str) -> Result<PreparedText> {
        self.0.shared.lock().prepared.get(name).cloned().ok_or_else(|| missing_prepared(name))
    }

    /// All prepared statements with their names.
    pub fn all_prepared(&self) -> Vec<(String, PreparedText)> {
        self.0.shared.lock().prepared.iter().map(|(name, prepared)| (name.clone(), prepared.clone())).collect()
    }

    /// Forgets a prepared statement, or with `None` all of them.
    ///
    /// # Errors
    /// [`Code::UndefinedPrepared`] when there is none of that name.
    pub fn forget_prepared(&self, name: Option<&str>) -> Result<()> {
        let mut shared = self.0.shared.lock();
        match name {
            None => shared.prepared.clear(),
            Some(name) => {
                shared.prepared.remove(name).ok_or_else(|| missing_prepared(name))?;
            }
        }
        Ok(())
    }
}

fn session_user(settings: &Settings) -> String {
    settings.raw("session_authorization").unwrap_or_default()
}

fn current_user(settings: &Settings) -> String {
    settings.raw("role").ok().filter(|role| role != "none").unwrap_or_else(|| session_user(settings))
}

/// What clients are told of the current user.
fn tell_superuser(shared: &mut Shared, engine: &Engine) {
    let superuser = engine.catalog().rights(&current_user(&shared.settings)).superuser();
    shared.settings.describe_session("is_superuser", if superuser { "on" } else { "off" });
}

fn savepoint_at(shared: &Shared, name: &str) -> Result<usize> {
    if shared.transaction == TransactionStatus::Idle {
        return Err(Error::new(Code::NoTransaction, "savepoints can only be used in transaction blocks"));
    }
    shared
        .savepoints
        .iter()
        .rposition(|(kept, _)| kept == name)
        .ok_or_else(|| Error::new(Code::UndefinedObject, format!("savepoint \"{name}\" does not exist")))
}

fn missing_cursor(name: &str) -> Error {
    Error::new(Code::UndefinedCursor, format!("cursor \"{name}\" does not exist"))
}

fn missing_prepared(name: &str) -> Error {
    Error::new(Code::UndefinedPrepared, format!("prepared statement \"{name}\" does not exist"))
}

/// What every session starts from.
pub(super) fn base_config(config: &Config) -> SessionConfig {
    let mut session = SessionConfig::new()
        .with_default_catalog_and_schema("portrait", "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(config.query_threads);
    let options: &mut ConfigOptions = session.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.support_varchar_with_length = true;
    options.sql_parser.collect_spans = true;
    options.execution.time_zone = Some("UTC".into());
    // Clients and our own tables speak plain text columns; views would have to be copied at the door.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.default_null_ordering = "nulls_max".into();
    session
}

/// Applies the settings of a session to a statement's configuration.
fn apply(settings: &Settings, engine: &Engine, config: &mut SessionConfig) -> Result<()> {
    let options = config.options_mut();
    options.execution.time_zone = Some(settings.raw("TimeZone")?);
    for (name, value) in settings.with_prefix("datafusion.") {
        let value = match value.as_str() {
            "on" => "true".to_owned(),
            "off" => "false".to_owned(),
            "0" if name.ends_with("target_partitions") => engine.config().query_threads.to_string(),
            _ => value,
        };
        options.set(&name, &value).map_err(crate::error::classify)?;
    }
    options.extensions.insert(BehaviorOptions::new(settings.raw("funnel_compat")?));
    options.extensions.insert(IdentityOptions::new(usize::try_from(settings.integer("identity_ids_max")).unwrap_or(PERSON_IDS)));
    let ml = settings.with_prefix("ml.").into_iter();
    config.set_extension(Arc::new(MlSettings(ml.map(|(name, value)| (name["ml.".len()..].to_owned(), value)).collect())));
    Ok(())
}
