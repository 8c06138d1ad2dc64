//! Managed tables: Delta Lake tables in the data directory, written by us, read by a stock Parquet scan.
//!
//! Life of an INSERT: rows are streamed into whole, fsynced data files that nothing names → one commit, a file of
//! Delta's log created only if no other writer took its number, makes all of them visible → the next snapshot lists
//! them. A statement that fails before its commit leaves files that nothing names; its own clean-up, or the sweep when
//! the table is first used after a crash, removes them.
//!
//! The table's folder is called by a random id, so a table that is dropped and made again never meets its old files.
//! Only Delta's log layer comes from `deltalake-core`; planning and reading are DataFusion's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Statistics;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake_core::kernel::{Action, Add, StructType};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore};
use portrait_udfs::error::{Code, Error, Result};
use uuid::Uuid;

use super::events::{self, Role, StoredIds, UserSpan};
use super::intake::PlainIntake;
use super::objects::Store;
use super::types::{log_schema, schema_to_text};
use super::writer::{InProgress, PendingFiles, WrittenFile, delete_quietly, write_stream};
use super::{statistics, store_error};

/// Folder of all managed tables below the data directory.
const TABLES: &str = "tables";
/// How long a look at the log is good for a question about one user, where nobody else commits but another program by hand.
const RECENT: Duration = Duration::from_millis(10);
/// What to do after a commit that neither succeeded nor failed.
const UNKNOWN: &str = "Whether the statement took effect is not known: look before you run it again.";
/// Where the exact Arrow schema is kept in Delta's metadata.
const SCHEMA_KEY: &str = "portrait.arrowSchema";

/// One managed table.
#[derive(Debug)]
pub(crate) struct DeltaTable {
    /// The id its folder is called by.
    id: Uuid,
    /// Name, for messages only.
    name: String,
    schema: SchemaRef,
    role: Role,
    store: Arc<dyn ObjectStore>,
    log: LogStoreRef,
    /// The latest version that was seen.
    latest: parking_lot::Mutex<Option<Arc<TableSnapshot>>>,
    /// When `latest` was last compared with the log; `None` since a commit of our own.
    looked: parking_lot::Mutex<Option<Instant>>,
    /// Held while the log is read or written, so that our own writers do not race each other to a version.
    gate: tokio::sync::Mutex<Option<DeltaTableState>>,
    /// Held while a statement compares its events with the table's and commits them.
    ingest: tokio::sync::Mutex<()>,
    /// Files of ids that were opened.
    ids: parking_lot::Mutex<HashMap<Path, Arc<StoredIds>>>,
    /// How much older than the newest event one may be, in microseconds; 0 = all are kept.
    retention_us: AtomicI64,
    /// Files that are being written.
    in_progress: InProgress,
    /// Whether small files are being joined right now.
    pub(super) compacting: AtomicBool,
    /// Whether what a killed process left was removed. Only once: later there may be files that are about to be named.
    swept: AtomicBool,
    lease: Arc<TableLease>,
}

/// One version of a table: the files a scan reads.
#[derive(Debug)]
pub(crate) struct TableSnapshot {
    /// Delta's version.
    pub(crate) version: u64,
    /// Its files, with statistics; each holds the table's lease.
    pub(crate) files: Vec<PartitionedFile>,
    /// The users that each holds, in order; `None` for a file that is in no order.
    pub(crate) spans: Vec<Option<UserSpan>>,
    /// All of them together.
    pub(crate) statistics: Statistics,
}

impl TableSnapshot {
    /// The spans of all files that are in order.
    pub(crate) fn ordered(&self) -> Vec<UserSpan> {
        self.spans.iter().flatten().cloned().collect()
    }
}

/// How a commit gets along with those of other writers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Adds rows; with `only_at`, only if nobody has committed since that version.
    Append {
        /// The version.
        only_at: Option<u64>,
    },
    /// Puts the same rows into other files. Rows that others add meanwhile stay.
    Rewrite {
        /// The files that go.
        removed: Vec<String>,
    },
    /// Puts fewer rows into other files.
    Erase {
        /// The files that go.
        removed: Vec<String>,
    },
}

/// Whether a commit is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is, durably.
    Yes,
    /// Another writer came first; nothing was done.
    Conflict,
}

/// Keeps a table's folder on the disk while a plan reads it; the last one out removes the folder of a dropped table.
#[derive(Debug)]
pub(crate) struct TableLease {
    store: Store,
    folder: Path,
    dropped: AtomicBool,
}

impl Drop for TableLease {
    fn drop(&mut self) {
        if self.dropped.load(Ordering::Acquire) {
            self.store.remove_folder_later(&self.folder);
        }
    }
}

impl DeltaTable {
    /// Makes an empty table in a new folder. It is removed with this handle unless it is
    /// [kept](Self::mark_kept).
    pub(crate) async fn create(store: &Store, name: &str, schema: SchemaRef, role: Role) -> Result<Self> {
        let table = Self::handle(store, Uuid::new_v4(), name, schema, role)?;
        table.mark_dropped();
        table.create_with(Vec::new()).await?;
        Ok(table)
    }

    /// Makes a table whose first version holds every row of `stream`, in one commit. Returns the rows. It is
    /// removed with this handle unless it is [kept](Self::mark_kept).
    pub(crate) async fn create_as(
        store: &Store,
        name: &str,
        schema: SchemaRef,
        stream: SendableRecordBatchStream,
        env: &Arc<RuntimeEnv>,
    ) -> Result<(Self, u64)> {
        let table = Self::handle(store, Uuid::new_v4(), name, schema, Role::Plain)?;
        // Whatever interrupts this (an error, a cancelled statement), the folder goes away with the handle.
        table.mark_dropped();
        let mut pending = write_stream(&table, stream, env).await?;
        let rows = pending.rows;
        table.create_with(pending.keep()).await?;
        Ok((table, rows))
    }

    /// Opens the table whose folder is called `id`. Its log is read when it is first used.
    pub(crate) fn open(store: &Store, id: Uuid, name: &str, schema: SchemaRef, role: Role) -> Result<Self> {
        Self::handle(store, id, name, schema, role)
    }

    /// A table over a store of a test's.
    #[cfg(test)]
    pub(crate) fn over(store: &Arc<dyn ObjectStore>, id: Uuid, name: &str, schema: SchemaRef, role: Role) -> Result<Self> {
        Self::handle(&Store::over(store), id, name, schema, role)
    }

    /// Makes the table of this handle, without rows.
    #[cfg(test)]
    pub(crate) async fn create_empty(&self) -> Result<()> {
        self.create_with(Vec::new()).await
    }

    fn handle(own: &Store, id: Uuid, name: &str, schema: SchemaRef, role: Role) -> Result<Self> {
        let folder = Path::from_iter([TABLES, &id.to_string()]);
        let location = url::Url::parse(&format!("portrait:///{folder}/")).map_err(|error| Error::internal(error.to_string()))?;
        let lease = Arc::new(TableLease { store: own.clone(), folder: folder.clone(), dropped: AtomicBool::new(false) });
        let store = Arc::clone(own.objects());
        let inside: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&store), folder));
        let role_retention_us = role.events().and_then(|columns| columns.retention_us);
        let log = default_logstore(inside, Arc::clone(&store), &location, &StorageConfig::default());
        Ok(Self {
            id,
            name: name.to_owned(),
            schema,
            role,
            store,
            log,
            latest: parking_lot::Mutex::new(None),
            looked: parking_lot::Mutex::new(None),
            gate: tokio::sync::Mutex::new(None),
            ingest: tokio::sync::Mutex::new(()),
            ids: parking_lot::Mutex::default(),
            in_progress: InProgress::default(),
            retention_us: AtomicI64::new(role_retention_us.unwrap_or(0)),
            compacting: AtomicBool::new(false),
            swept: AtomicBool::new(!own.sweeps()),
            lease,
        })
    }

    /// The id of the table's folder.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its columns as a scan gives them.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What it is for.
    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// Where an event table has its user, time and id.
    pub(crate) fn event_indices(&self) -> Option<events::EventIndices> {
        self.role.events()?.indices(&self.schema).ok()
    }

    /// What tells its rows apart.
    pub(crate) fn id_source(&self) -> Option<events::IdSource> {
        self.role.id_source(&self.schema)
    }

    /// How much older than the newest event one may be, in microseconds; `None` = all are kept.
    pub(crate) fn retention_us(&self) -> Option<i64> {
        Some(self.retention_us.load(Ordering::Acquire)).filter(|retention| *retention > 0)
    }

    /// The catalog says so from now on.
    pub(crate) fn set_retention_us(&self, retention_us: Option<i64>) {
        self.retention_us.store(retention_us.unwrap_or(0), Ordering::Release);
    }

    /// The names of files that are being written.
    pub(super) fn in_progress(&self) -> &InProgress {
        &self.in_progress
    }

    /// Its log.
    pub(super) fn log(&self) -> &LogStoreRef {
        &self.log
    }

    /// The store that its folder lies in.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The name under which a runtime knows that store.
    pub(crate) fn url(&self) -> Result<ObjectStoreUrl> {
        self.lease.store.url().map_err(super::engine_error)
    }

    /// Whether it ends with the session that made it.
    pub(crate) fn is_temporary(&self) -> bool {
        self.lease.store.is_temporary()
    }

    /// Waits for this statement's turn to compare events and commit them.
    pub(crate) async fn ingest_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.ingest.lock().await
    }

    /// An open file of ids.
    pub(crate) fn remembered_ids(&self, location: &Path) -> Option<Arc<StoredIds>> {
        self.ids.lock().get(location).cloned()
    }

    /// Keeps these files of ids open, and no others.
    pub(crate) fn remember_ids(&self, known: &[Arc<StoredIds>]) {
        *self.ids.lock() = known.iter().map(|ids| (ids.location().clone(), Arc::clone(ids))).collect();
    }

    /// Removes files of ids that are damaged: they are made again when they are needed.
    pub(crate) async fn forget_ids(&self, damaged: impl Iterator<Item = &Arc<StoredIds>>) -> Result<()> {
        for ids in damaged {
            self.ids.lock().remove(ids.location());
            object_store::ObjectStoreExt::delete(self.store.as_ref(), ids.location()).await.map_err(store_error)?;
        }
        Ok(())
    }

    /// From now on the folder is removed as soon as nobody reads it.
    pub(crate) fn mark_dropped(&self) {
        self.lease.dropped.store(true, Ordering::Release);
    }

    /// The folder stays after all: the catalog names the table.
    pub(crate) fn mark_kept(&self) {
        self.lease.dropped.store(false, Ordering::Release);
    }

    /// The latest version that was read; nothing is looked at.
    pub(crate) fn seen(&self) -> Option<Arc<TableSnapshot>> {
        self.latest.lock().clone()
    }

    /// The latest version, if the log was looked at a moment ago and nothing was committed here since.
    pub(crate) fn recent(&self) -> Option<Arc<TableSnapshot>> {
        let looked = (*self.looked.lock())?;
        if looked.elapsed() < RECENT { self.seen() } else { None }
    }

    /// Its folder in the store.
    pub(crate) fn folder(&self) -> Path {
        Path::from_iter([TABLES, &self.id.to_string()])
    }

    /// The latest committed version, also of other writers.
    pub(crate) async fn snapshot(&self) -> Result<Arc<TableSnapshot>> {
        let mut gate = self.gate.lock().await;
        let state = match gate.take() {
            Some(mut state) => {
                let next = deltalake_core::logstore::commit_uri_from_version(Some(state.version() + 1));
                // One look at the disk instead of a listing, as long as nobody else commits.
                match object_store::ObjectStoreExt::head(&self.log.object_store(None), &next).await {
                    Ok(_) => state.update(&self.log, None).await.map_err(|error| self.delta_error(error))?,
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(store_error(error)),
                }
                state
            }
            None => {
                let state = DeltaTableState::try_new(&self.log, None).await.map_err(|error| self.delta_error(error))?;
                if !self.swept.swap(true, Ordering::AcqRel) {
                    self.sweep(&state).await?;
                }
                state
            }
        };
        let snapshot = self.digest(&state)?;
        *gate = Some(state);
        // While the gate is held, so that no commit of our own comes between.
        *self.looked.lock() = Some(Instant::now());
        Ok(snapshot)
    }

    /// Appends every row of `stream` in one commit; all or none of them become visible. Returns the rows.
    pub(crate) async fn append(self: &Arc<Self>, mut stream: SendableRecordBatchStream, env: &Arc<RuntimeEnv>) -> Result<u64> {
        let mut intake = PlainIntake::new(self, env);
        while let Some(batch) = stream.next().await {
            intake.add(&batch.map_err(super::engine_error)?).await?;
        }
        intake.finish().await
    }

    /// Commits whole files. A commit that has begun is carried through, even when nobody waits for it any more.
    ///
    /// # Errors
    /// 40001 when another writer's commit excludes this one; failures of the store. Then no file is kept.
    pub(crate) async fn commit(self: &Arc<Self>, pending: PendingFiles, change: Change) -> Result<Committed> {
        let table = Arc::clone(self);
        tokio::spawn(async move { table.commit_now(pending, change).await })
            .await
            .map_err(|error| Error::internal(format!("commit ended early: {error}")))?
    }

    async fn commit_now(&self, mut pending: PendingFiles, change: Change) -> Result<Committed> {
        let (only_at, removed, data_change) = match change {
            Change::Append { only_at } => (only_at, Vec::new(), true),
            Change::Rewrite { removed } => (None, removed, false),
            Change::Erase { removed } => (None, removed, true),
        };
        let mut gate = self.gate.lock().await;
        self.looked.lock().take();
        let state = match gate.take() {
            Some(state) => state,
            None => DeltaTableState::try_new(&self.log, None).await.map_err(|error| self.delta_error(error))?,
        };
        if only_at.is_some_and(|version| version != state.version()) {
            *gate = Some(state);
            return Ok(Committed::Conflict);
        }
        let operation = match (removed.is_empty(), data_change) {
            (true, _) => DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None },
            (false, false) => DeltaOperation::Optimize { predicate: None, target_size: 0 },
            (false, true) => DeltaOperation::Delete { predicate: None },
        };
        let mut properties = CommitProperties::default();
        if only_at.is_some() {
            properties = properties.with_max_retries(0);
        }
        let prepared = CommitBuilder::from(properties)
            .with_actions(self.actions(&state, pending.files(), &removed, data_change)?)
            .build(Some(&state as &dyn TableReference), Arc::clone(&self.log), operation)
            .into_prepared_commit_future()
            .await
            .map_err(|error| self.delta_error(error))?;
        let committed = match prepared.await {
            Ok(committed) => committed,
            Err(error) => return self.after_failure(pending, error).await,
        };
        pending.keep();
        // The rows are durable: a failing checkpoint is worth a log line, not an error.
        match committed.await {
            Ok(finished) => *gate = Some(finished.snapshot()),
            Err(error) => tracing::warn!(%error, table = %self.name, "checkpoint after a commit failed"),
        }
        Ok(Committed::Yes)
    }

    /// What a commit of these files says.
    fn actions(&self, state: &DeltaTableState, files: &[WrittenFile], removed: &[String], data_change: bool) -> Result<Vec<Action>> {
        let mut actions = Vec::with_capacity(files.len() + removed.len());
        let gone: HashSet<&str> = removed.iter().map(String::as_str).collect();
        if !gone.is_empty() {
            let live = state.log_data();
            actions.extend(
                live.iter().filter(|file| gone.contains(&*file.path())).map(|file| Action::Remove(file.remove_action(data_change))),
            );
            if actions.len() != gone.len() {
                return Err(self.overtaken());
            }
        }
        actions.extend(files.iter().map(|file| add_action(file, data_change)));
        Ok(actions)
    }

    /// A commit failed, or so it seems: a write that reports an error may have had its effect. The log tells.
    async fn after_failure(&self, mut pending: PendingFiles, error: DeltaTableError) -> Result<Committed> {
        let landed = async {
            let state = DeltaTableState::try_new(&self.log, None).await?;
            let names: HashSet<String> = state.log_data().iter().map(|file| file.path().into_owned()).collect();
            // A commit without files took some away: then it cannot be told, and is made again.
            Ok::<_, DeltaTableError>(pending.files().iter().any(|file| names.contains(&file.name)))
        };
        match landed.await {
            Ok(true) => {
                pending.keep();
                tracing::warn!(%error, table = %self.name, "a commit reported an error, and is in the log");
                Ok(Committed::Yes)
            }
            Ok(false) if is_race(&error) => Ok(Committed::Conflict),
            Ok(false) => {
                let error = self.delta_error(error);
                let refused = matches!(error.code, Code::ReadOnly | Code::NotReady | Code::InsufficientPrivilege | Code::Serialization);
                if self.lease.store.shared_name().is_none() || refused {
                    return Err(error);
                }
                // A request that is still on its way may land yet: its files must be there then.
                pending.keep();
                Err(error.hint(UNKNOWN))
            }
            Err(unknown) => {
                // Files that the log may name must stay; the next start sweeps them when it does not.
                pending.keep();
                tracing::warn!(error = %unknown, table = %self.name, "the log cannot be read after a failed commit");
                Err(self.delta_error(error).hint(UNKNOWN))
            }
        }
    }

    async fn create_with(&self, files: Vec<WrittenFile>) -> Result<()> {
        let columns: StructType =
            (&log_schema(&self.schema)).try_into_kernel().map_err(|error: datafusion::arrow::error::ArrowError| {
                Error::new(Code::FeatureNotSupported, format!("table \"{}\" cannot be made: {error}", self.name))
            })?;
        CreateBuilder::new()
            .with_log_store(Arc::clone(&self.log))
            .with_table_name(&self.name)
            .with_columns(columns.fields().cloned())
            .with_raise_if_key_not_exists(false)
            .with_configuration(std::iter::once((SCHEMA_KEY.to_owned(), Some(schema_to_text(&self.schema)))).chain(self.role.properties()))
            .with_actions(files.iter().map(|file| add_action(file, true)))
            .await
            .map_err(|error| self.delta_error(error))?;
        Ok(())
    }

    /// Removes data files that no version names: what a killed process left.
    async fn sweep(&self, state: &DeltaTableState) -> Result<()> {
        let mut named: HashSet<String> = state.log_data().iter().map(|file| file.path().into_owned()).collect();
        let mut removed = state.all_tombstones(&self.log);
        while let Some(tombstone) = removed.try_next().await.map_err(|error| self.delta_error(error))? {
            named.insert(tombstone.path().into_owned());
        }
        named.extend(self.in_progress.names());
        let folder = self.folder();
        let listed = self.store.list_with_delimiter(Some(&folder)).await.map_err(store_error)?;
        let orphans = listed
            .objects
            .into_iter()
            .map(|object| object.location)
            .filter(|location| location.filename().is_some_and(|name| name.starts_with("part-") && !named.contains(name)));
        delete_quietly(&self.store, orphans).await;
        if !self.role.is_plain() {
            let needed = events::ids_names(self.digest(state)?.as_ref());
            let listed = self.store.list_with_delimiter(Some(&folder.join(events::IDS))).await.map_err(store_error)?;
            let locations = listed.objects.into_iter().map(|object| object.location);
            let unused = locations.filter(|location| location.filename().is_some_and(|name| !needed.contains(name)));
            delete_quietly(&self.store, unused).await;
        }
        Ok(())
    }

    fn digest(&self, state: &DeltaTableState) -> Result<Arc<TableSnapshot>> {
        let mut latest = self.latest.lock();
        if let Some(snapshot) = latest.as_ref().filter(|snapshot| snapshot.version == state.version()) {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(self.files_of(state)?);
        *latest = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// The files of one version.
    pub(super) fn files_of(&self, state: &DeltaTableState) -> Result<TableSnapshot> {
        let (mut files, mut spans) = (Vec::new(), Vec::new());
        for file in state.log_data().iter() {
            if file.deletion_vector_descriptor().is_some() {
                return Err(Error::new(Code::FeatureNotSupported, format!("table \"{}\" has deletion vectors", self.name))
                    .hint("Another program deleted rows from it; rewrite its files there."));
            }
            let meta = ObjectMeta {
                location: self.folder().join_all(&file.object_store_path()),
                last_modified: chrono::DateTime::from_timestamp_millis(file.modification_time()).unwrap_or_default(),
                size: u64::try_from(file.size()).unwrap_or_default(),
                e_tag: None,
                version: None,
            };
            let stats = file.stats();
            let mut known = statistics::from_log(stats.as_deref(), meta.size, &self.schema);
            spans.push(self.span_of(&file.path(), stats.as_deref(), &mut known));
            let file = PartitionedFile::new_from_meta(meta).with_extension(Arc::clone(&self.lease));
            files.push(file.with_statistics(Arc::new(known)));
        }
        let each = files.iter().filter_map(|file| file.statistics.as_deref());
        let statistics = if files.is_empty() {
            empty_statistics(&self.schema)
        } else {
            Statistics::try_merge_iter(each, &self.schema).map_err(super::engine_error)?
        };
        Ok(TableSnapshot { version: state.version(), files, spans, statistics })
    }

    /// The error of a statement that other writers overtook again and again.
    pub(crate) fn overtaken(&self) -> Error {
        Error::new(Code::Serialization, format!("table \"{}\" was changed by other writers again and again", self.name))
            .hint("Run the statement again.")
    }

    /// The users of a file that we wrote, in order.
    fn span_of(&self, name: &str, stats: Option<&str>, known: &mut Statistics) -> Option<UserSpan> {
        let user = self.event_indices()?.user;
        events::run_of(name)?;
        let field = self.schema.field(user);
        events::span_of(stats, (user, field.name(), field.data_type()), known)
    }

    pub(super) fn delta_error(&self, error: DeltaTableError) -> Error {
        let text = error.to_string();
        let found = Error::find(&error).cloned().or_else(|| crate::error::damage_in(&text));
        if let Some(found) = found.or_else(|| self.lease.store.failure_in(&text)) {
            return found;
        }
        let io = super::io_cause(&error).map(|cause| Error::from(std::io::Error::from(cause.kind())).code);
        match (&error, io) {
            (_, Some(Code::DiskFull)) => crate::error::disk_full(),
            (_, Some(code)) => Error::new(code, format!("table \"{}\": {error}", self.name)),
            (DeltaTableError::Transaction { .. } | DeltaTableError::VersionAlreadyExists(_), _) => {
                Error::new(Code::Serialization, format!("table \"{}\" was changed by another writer: {error}", self.name))
                    .hint("Run the statement again.")
            }
            _ if self.lease.store.shared_name().is_some() && error.to_string().contains("object store") => {
                Error::new(Code::Io, format!("the log of table \"{}\" cannot be read", self.name))
            }
            _ => {
                // The kernel appends a backtrace where the environment asks for one.
                let what = text.split("\n   0: ").next().unwrap_or(&text);
                Error::new(Code::DataCorrupted, format!("the log of table \"{}\" cannot be used: {what}", self.name))
            }
        }
    }
}

/// Removes folders of tables that `named` does not name: half-made or dropped when the process was killed.
pub(crate) async fn sweep_tables(store: &Store, named: &HashSet<Uuid>) -> Result<usize> {
    let listed = store.objects().list_with_delimiter(Some(&Path::from(TABLES))).await.map_err(store_error)?;
    let mut removed = 0;
    for folder in listed.common_prefixes {
        let id = folder.filename().and_then(|name| Uuid::parse_str(name).ok());
        if id.is_some_and(|id| !named.contains(&id)) {
            store.remove_folder(&folder).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a commit failed only because another one took its version.
fn is_race(error: &DeltaTableError) -> bool {
    let lost =
        |source: &TransactionError| matches!(source, TransactionError::MaxCommitAttempts(_) | TransactionError::VersionAlreadyExists(_));
    matches!(error, DeltaTableError::VersionAlreadyExists(_)) || matches!(error, DeltaTableError::Transaction { source } if lost(source))
}

fn add_action(file: &WrittenFile, data_change: bool) -> Action {
    Action::Add(Add {
        path: file.name.clone(),
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change,
        stats: Some(file.stats.clone()),
        ..Default::default()
    })
}

fn empty_statistics(schema: &Schema) -> Statistics {
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = datafusion::common::stats::Precision::Exact(0);
    statistics.total_byte_size = datafusion::common::stats::Precision::Exact(0);
    statistics
}

trait JoinAll {
    fn join_all(self, relative: &Path) -> Path;
}

impl JoinAll for Path {
    fn join_all(self, relative: &Path) -> Path {
        relative.parts().fold(self, |path, part| path.join(part))
    }
}
