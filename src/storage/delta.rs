//! Managed tables: Delta Lake tables in the data directory, written by us, read by a stock Parquet scan.
//!
//! Life of an INSERT: rows are streamed into whole, fsynced data files that nothing names → one commit, a file of
//! Delta's log created only if no other writer took its number, makes all of them visible → the next snapshot lists
//! them. A statement that fails before its commit leaves files that nothing names; its own clean-up, or the sweep when
//! the table is first used after a crash, removes them.
//!
//! The table's folder is called by a random id, so a table that is dropped and made again never meets its old files.
//! Only Delta's log layer comes from `deltalake-core`; planning and reading are DataFusion's.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Statistics;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryPool;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake_core::kernel::{Action, Add, StructType};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore};
use portrait_udfs::error::{Code, Error, Result};
use uuid::Uuid;

use super::durable::DurableLocal;
use super::types::{log_schema, schema_to_text};
use super::writer::{PendingFiles, WrittenFile, delete_quietly, write_stream};
use super::{statistics, store_error};

/// Folder of all managed tables below the data directory.
const TABLES: &str = "tables";
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
    store: Arc<dyn ObjectStore>,
    log: LogStoreRef,
    /// The latest version that was seen.
    latest: parking_lot::Mutex<Option<Arc<TableSnapshot>>>,
    /// Held while the log is read or written, so that our own writers do not race each other to a version.
    gate: tokio::sync::Mutex<Option<DeltaTableState>>,
    lease: Arc<TableLease>,
}

/// One version of a table: the files a scan reads.
#[derive(Debug)]
pub(crate) struct TableSnapshot {
    /// Delta's version.
    pub(crate) version: u64,
    /// Its files, with statistics; each holds the table's lease.
    pub(crate) files: Vec<PartitionedFile>,
    /// All of them together.
    pub(crate) statistics: Statistics,
}

/// Keeps a table's folder on the disk while a plan reads it; the last one out removes the folder of a dropped table.
#[derive(Debug)]
pub(crate) struct TableLease {
    folder: std::path::PathBuf,
    dropped: AtomicBool,
}

impl Drop for TableLease {
    fn drop(&mut self) {
        if self.dropped.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // The catalog no longer names it: the next start sweeps it.
            tracing::warn!(%error, folder = %self.folder.display(), "folder of a dropped table not removed");
        }
    }
}

impl DeltaTable {
    /// Makes an empty table in a new folder. It is removed with this handle unless it is
    /// [kept](Self::mark_kept).
    pub(crate) async fn create(store: &DurableLocal, name: &str, schema: SchemaRef) -> Result<Self> {
        let table = Self::handle(store, Uuid::new_v4(), name, schema)?;
        table.mark_dropped();
        table.create_with(Vec::new()).await?;
        Ok(table)
    }

    /// Makes a table whose first version holds every row of `stream`, in one commit. Returns the rows. It is
    /// removed with this handle unless it is [kept](Self::mark_kept).
    pub(crate) async fn create_as(
        store: &DurableLocal,
        name: &str,
        schema: SchemaRef,
        stream: SendableRecordBatchStream,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<(Self, u64)> {
        let table = Self::handle(store, Uuid::new_v4(), name, schema)?;
        // Whatever interrupts this (an error, a cancelled statement), the folder goes away with the handle.
        table.mark_dropped();
        let mut pending = write_stream(&table.store, &table.folder(), name, &table.schema, stream, pool).await?;
        let rows = pending.rows;
        table.create_with(pending.keep()).await?;
        Ok((table, rows))
    }

    /// Opens the table whose folder is called `id`. Its log is read when it is first used.
    pub(crate) fn open(store: &DurableLocal, id: Uuid, name: &str, schema: SchemaRef) -> Result<Self> {
        Self::handle(store, id, name, schema)
    }

    fn handle(store: &DurableLocal, id: Uuid, name: &str, schema: SchemaRef) -> Result<Self> {
        let folder = Path::from_iter([TABLES, &id.to_string()]);
        let location = url::Url::parse(&format!("portrait:///{folder}/")).map_err(|error| Error::internal(error.to_string()))?;
        let path = store.root().join(TABLES).join(id.to_string());
        let lease = Arc::new(TableLease { folder: path, dropped: AtomicBool::new(false) });
        let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let inside: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&store), folder));
        let log = default_logstore(inside, Arc::clone(&store), &location, &StorageConfig::default());
        Ok(Self {
            id,
            name: name.to_owned(),
            schema,
            store,
            log,
            latest: parking_lot::Mutex::new(None),
            gate: tokio::sync::Mutex::new(None),
            lease,
        })
    }

    /// The id of the table's folder.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Its columns as a scan gives them.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// From now on the folder is removed as soon as nobody reads it.
    pub(crate) fn mark_dropped(&self) {
        self.lease.dropped.store(true, Ordering::Release);
    }

    /// The folder stays after all: the catalog names the table.
    pub(crate) fn mark_kept(&self) {
        self.lease.dropped.store(false, Ordering::Release);
    }

    fn folder(&self) -> Path {
        Path::from_iter([TABLES, &self.id.to_string()])
    }

    /// The latest committed version, also of other writers.
    pub(crate) async fn snapshot(&self) -> Result<Arc<TableSnapshot>> {
        let mut gate = self.gate.lock().await;
        let state = match gate.take() {
            Some(mut state) => {
                let next = deltalake_core::logstore::commit_uri_from_version(Some(state.version() + 1));
                // One look at the disk instead of a listing, as long as nobody else commits.
                if object_store::ObjectStoreExt::head(&self.log.object_store(None), &next).await.is_ok() {
                    state.update(&self.log, None).await.map_err(|error| self.delta_error(error))?;
                }
                state
            }
            None => {
                let state = DeltaTableState::try_new(&self.log, None).await.map_err(|error| self.delta_error(error))?;
                self.sweep(&state).await?;
                state
            }
        };
        let snapshot = self.digest(&state)?;
        *gate = Some(state);
        Ok(snapshot)
    }

    /// Appends every row of `stream` in one commit; all or none of them become visible. Returns the rows.
    pub(crate) async fn append(self: &Arc<Self>, stream: SendableRecordBatchStream, pool: &Arc<dyn MemoryPool>) -> Result<u64> {
        // The first use sweeps what no version names, so it must come before our own files.
        self.snapshot().await?;
        let pending = write_stream(&self.store, &self.folder(), &self.name, &self.schema, stream, pool).await?;
        let rows = pending.rows;
        if rows == 0 {
            return Ok(0);
        }
        // A commit that has begun is carried through, even when nobody waits for it any more.
        let table = Arc::clone(self);
        tokio::spawn(async move { table.commit_append(pending).await })
            .await
            .map_err(|error| Error::internal(format!("commit ended early: {error}")))??;
        Ok(rows)
    }

    async fn commit_append(&self, mut pending: PendingFiles) -> Result<()> {
        let mut gate = self.gate.lock().await;
        let state = match gate.take() {
            Some(state) => state,
            None => DeltaTableState::try_new(&self.log, None).await.map_err(|error| self.delta_error(error))?,
        };
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let committed = async {
            CommitBuilder::from(CommitProperties::default())
                .with_actions(pending.files().iter().map(add_action).collect())
                .build(Some(&state as &dyn TableReference), Arc::clone(&self.log), operation)
                .into_prepared_commit_future()
                .await?
                .await
        }
        .await
        .map_err(|error| self.delta_error(error))?;
        pending.keep();
        // The rows are durable: a failing checkpoint is worth a log line, not an error.
        match committed.await {
            Ok(finished) => *gate = Some(finished.snapshot()),
            Err(error) => tracing::warn!(%error, table = %self.name, "checkpoint after a commit failed"),
        }
        Ok(())
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
            .with_configuration([(SCHEMA_KEY, Some(schema_to_text(&self.schema)))])
            .with_actions(files.iter().map(add_action))
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
        let folder = self.folder();
        let listed = self.store.list_with_delimiter(Some(&folder)).await.map_err(store_error)?;
        let orphans = listed
            .objects
            .into_iter()
            .map(|object| object.location)
            .filter(|location| location.filename().is_some_and(|name| name.starts_with("part-") && !named.contains(name)));
        delete_quietly(&self.store, orphans).await;
        Ok(())
    }

    fn digest(&self, state: &DeltaTableState) -> Result<Arc<TableSnapshot>> {
        let version = state.version();
        let mut latest = self.latest.lock();
        if let Some(snapshot) = latest.as_ref().filter(|snapshot| snapshot.version == version) {
            return Ok(Arc::clone(snapshot));
        }
        let mut files = Vec::new();
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
            let known = statistics::from_log(file.stats().as_deref(), meta.size, &self.schema);
            let file = PartitionedFile::new_from_meta(meta).with_extension(Arc::clone(&self.lease));
            files.push(file.with_statistics(Arc::new(known)));
        }
        let each = files.iter().filter_map(|file| file.statistics.as_deref());
        let statistics = if files.is_empty() {
            empty_statistics(&self.schema)
        } else {
            Statistics::try_merge_iter(each, &self.schema).map_err(super::engine_error)?
        };
        let snapshot = Arc::new(TableSnapshot { version, files, statistics });
        *latest = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    fn delta_error(&self, error: DeltaTableError) -> Error {
        let io = super::io_cause(&error).map(|cause| Error::from(std::io::Error::from(cause.kind())).code);
        match (&error, io) {
            (_, Some(code)) => Error::new(code, format!("table \"{}\": {error}", self.name)),
            (DeltaTableError::Transaction { .. } | DeltaTableError::VersionAlreadyExists(_), _) => {
                Error::new(Code::Serialization, format!("table \"{}\" was changed by another writer: {error}", self.name))
                    .hint("Run the statement again.")
            }
            _ => Error::new(Code::DataCorrupted, format!("the log of table \"{}\" cannot be used: {error}", self.name)),
        }
    }
}

/// Removes folders of tables that `named` does not name: half-made or dropped when the process was killed.
pub(crate) fn sweep_tables(store: &DurableLocal, named: &HashSet<Uuid>) -> Result<usize> {
    let folder = store.root().join(TABLES);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
        if id.is_some_and(|id| !named.contains(&id)) {
            std::fs::remove_dir_all(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn add_action(file: &WrittenFile) -> Action {
    Action::Add(Add {
        path: file.name.clone(),
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
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
