//! Streams rows into the Parquet files of a managed table: statistics, bounded memory, nothing left behind.
//!
//! Files get names only when they are whole ([`super::durable`]), and count only once a Delta commit names them. A
//! writer that is dropped before [`PendingFiles::keep`] (an error, a cancelled statement) removes what it wrote.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::file::properties::WriterProperties;
use portrait_udfs::error::{Error, Result};

use super::delta::DeltaTable;
use super::events::FileNames;
use super::file_writer::FileWriter;
use super::types::{conform, file_schema, in_files};
use super::{encoding, statistics, store_error};

/// Bytes of a row group's rows at most, and its share of the pool: wide rows are cut earlier, so that a writer's memory stays bounded.
const ROW_GROUP_BYTES: usize = 64 << 20;
const ROW_GROUPS_IN_POOL: usize = 24;
/// A file is closed and the next one begun beyond this.
const FILE_BYTES: usize = 512 << 20;

/// Files that are being finished at once while rows for the next one come, at most.
const FINISHING_MAX: usize = 2;

/// Bytes that are written to the store at once: S3 takes no smaller part of an upload.
const PART_BYTES: usize = 5 << 20;

/// One whole data file that no commit names yet.
#[derive(Debug, Clone)]
pub(crate) struct WrittenFile {
    /// Name below the table's folder.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Delta's statistics, JSON.
    pub(crate) stats: String,
}

/// Names of files that somebody is writing: nobody must take them for leftovers.
#[derive(Debug, Clone, Default)]
pub(crate) struct InProgress(Arc<Mutex<HashSet<String>>>);

impl InProgress {
    /// The names of now.
    pub(crate) fn names(&self) -> HashSet<String> {
        self.0.lock().clone()
    }

    fn claim(&self) -> Claim {
        Claim { all: self.clone(), own: Vec::new() }
    }
}

/// The names of one writer, as long as it lives.
#[derive(Debug)]
struct Claim {
    all: InProgress,
    own: Vec<String>,
}

impl Claim {
    fn add(&mut self, name: &str) {
        self.all.0.lock().insert(name.to_owned());
        self.own.push(name.to_owned());
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        for name in &self.own {
            all.remove(name);
        }
    }
}

/// Whole data files that are removed again unless they are [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct PendingFiles {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    files: Vec<WrittenFile>,
    /// What lies beside them and goes with them.
    beside: Vec<Path>,
    claim: Claim,
    kept: bool,
    /// Rows in them.
    pub(crate) rows: u64,
}

impl PendingFiles {
    /// The files; from now on they stay.
    pub(crate) fn keep(&mut self) -> Vec<WrittenFile> {
        self.kept = true;
        std::mem::take(&mut self.files)
    }

    /// The files, still to be removed if nothing else happens.
    pub(crate) fn files(&self) -> &[WrittenFile] {
        &self.files
    }
}

impl Drop for PendingFiles {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut files = std::mem::take(&mut self.beside);
        // Those that were never finished are not there.
        files.extend(self.claim.own.iter().map(|name| self.folder.clone().join(name.as_str())));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if files.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        // Should the process end first, the next start sweeps them.
        runtime.spawn(async move {
            for file in files {
                if let Err(error) = store.delete(&file).await {
                    tracing::debug!(%error, %file, "unfinished data file not removed");
                }
            }
        });
    }
}

/// Writes every row of `stream` as data files of `table`.
///
/// # Errors
/// Those of the stream, and [`conform`]'s for rows that do not fit the table.
pub(crate) async fn write_stream(table: &DeltaTable, mut stream: SendableRecordBatchStream, env: &Arc<RuntimeEnv>) -> Result<PendingFiles> {
    let mut writer = TableWriter::new(table, FileNames::Unordered, env);
    while let Some(batch) = stream.next().await {
        writer.write(&batch.map_err(super::engine_error)?).await?;
    }
    writer.finish().await
}

/// A file that is being written, and its name.
type Current = (String, FileWriter);

/// Writes rows as data files of a table, one file after the other.
pub(crate) struct TableWriter {
    current: Option<Current>,
    /// Files that have all their rows, in the order of their names, and the bytes that each has in memory.
    finishing: VecDeque<(usize, SpawnedTask<Result<WrittenFile>>)>,
    /// Behind those that are being written, which end before it removes them.
    pending: PendingFiles,
    table_name: String,
    /// The rows as they come, and as the files hold them.
    table_schema: SchemaRef,
    schema: SchemaRef,
    names: FileNames,
    /// The columns that the rows are sorted by, and the one whose first and last value is told in full.
    order: Vec<usize>,
    span: Option<(ScalarValue, ScalarValue)>,
    properties: WriterProperties,
    group_bytes: usize,
    begun: usize,
    memory: MemoryReservation,
}

impl TableWriter {
    /// A writer of files that are called by `names`. Ordered files must be given their rows in the table's order.
    pub(crate) fn new(table: &DeltaTable, names: FileNames, env: &Arc<RuntimeEnv>) -> Self {
        let order = match names {
            FileNames::Events(_) => table.event_indices().map(|indices| vec![indices.user, indices.time]),
            FileNames::Unordered => None,
        };
        let order = order.unwrap_or_default();
        let (store, schema) = (Arc::clone(table.store()), file_schema(table.schema()));
        Self {
            properties: encoding::properties(table, &schema, &order),
            pending: PendingFiles {
                store,
                folder: table.folder(),
                files: Vec::new(),
                beside: Vec::new(),
                claim: table.in_progress().claim(),
                kept: false,
                rows: 0,
            },
            table_name: table.name().to_owned(),
            table_schema: Arc::clone(table.schema()),
            schema,
            names,
            order,
            span: None,
            group_bytes: match env.memory_pool.memory_limit() {
                MemoryLimit::Finite(bytes) => (bytes / ROW_GROUPS_IN_POOL).min(ROW_GROUP_BYTES),
                _ => ROW_GROUP_BYTES,
            },
            current: None,
            finishing: VecDeque::new(),
            begun: 0,
            memory: MemoryConsumer::new("TableWriter").register(&env.memory_pool),
        }
    }

    /// A whole file that stays or goes with what is written.
    pub(crate) fn keep_beside(&mut self, file: Path) {
        self.pending.beside.push(file);
    }

    /// Writes rows.
    ///
    /// # Errors
    /// [`conform`]'s for rows that do not fit the table; failures of the store.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        // Twice: the first checks what the table promises, the second turns it into what the files hold.
        let batch = in_files(&conform(batch, &self.table_schema, &self.table_name)?, &self.schema, &self.table_name)?;
        if let Some(&key) = self.order.first() {
            let value = |row| ScalarValue::try_from_array(batch.column(key), row).map_err(super::engine_error);
            let first = match self.span.take() {
                Some((first, _)) => first,
                None => value(0)?,
            };
            self.span = Some((first, value(batch.num_rows() - 1)?));
        }
        if self.current.is_none() {
            self.current = Some(self.open_file()?);
        }
        let Some((_, writer)) = &mut self.current else { return Ok(()) };
        writer.write(&batch).await.map_err(parquet_error)?;
        let finishing: usize = self.finishing.iter().map(|(bytes, _)| bytes).sum();
        self.memory.try_resize(writer.memory_size() + finishing).map_err(super::engine_error)?;
        self.pending.rows += batch.num_rows() as u64;
        if self.order.is_empty() && self.is_full() {
            self.close_file().await?;
        }
        Ok(())
    }

    /// Whether the current file should end. Ordered files end between users: whoever writes them says where.
    pub(crate) fn is_full(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, writer)| writer.bytes_written() > FILE_BYTES)
    }

    /// Ends the current file: rows that come later begin another one, while this one is finished.
    pub(crate) async fn close_file(&mut self) -> Result<()> {
        let Some((name, writer)) = self.current.take() else { return Ok(()) };
        if self.finishing.len() >= FINISHING_MAX {
            self.finished().await?;
        }
        let bounds = self.order.first().copied().zip(self.span.take());
        let (bytes, schema) = (writer.memory_size(), Arc::clone(&self.schema));
        let finish = SpawnedTask::spawn(async move {
            let written = writer.written();
            let footer = writer.finish().await.map_err(parquet_error)?;
            let mut stats = statistics::from_footer(&footer, &schema);
            if let Some((key, (first, last))) = bounds {
                stats = statistics::with_bounds(&stats, schema.field(key).name(), &first, &last);
            }
            Ok(WrittenFile { name, size: written.load(Ordering::Relaxed), stats })
        });
        self.finishing.push_back((bytes, finish));
        Ok(())
    }

    /// Waits for the file that is being finished for longest.
    async fn finished(&mut self) -> Result<()> {
        if let Some((_, file)) = self.finishing.pop_front() {
            let file = file.join_unwind().await.map_err(|error| Error::internal(format!("a file was not finished: {error}")))??;
            self.pending.files.push(file);
        }
        Ok(())
    }

    fn open_file(&mut self) -> Result<Current> {
        let name = self.names.name(self.begun);
        self.begun += 1;
        self.pending.claim.add(&name);
        let location = self.pending.folder.clone().join(name.as_str());
        let output = BufWriter::with_capacity(Arc::clone(&self.pending.store), location, PART_BYTES);
        let writer = FileWriter::new(output, &self.schema, &self.properties, self.group_bytes).map_err(parquet_error)?;
        Ok((name, writer))
    }

    /// All files, whole.
    pub(crate) async fn finish(mut self) -> Result<PendingFiles> {
        self.close_file().await?;
        while !self.finishing.is_empty() {
            self.finished().await?;
        }
        Ok(self.pending)
    }
}

/// A failure while Parquet is written or read: disk full keeps its meaning.
pub(crate) fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    if let Some(found) = Error::find(&error) {
        return found.clone();
    }
    let code = super::io_cause(&error).map_or(portrait_udfs::Code::Io, |cause| Error::from(std::io::Error::from(cause.kind())).code);
    if code == portrait_udfs::Code::DiskFull {
        return crate::error::disk_full();
    }
    if let parquet::errors::ParquetError::External(inner) = &error
        && let Some(store) = inner.downcast_ref::<object_store::Error>()
        && super::io_cause(store).is_none()
    {
        return Error::new(portrait_udfs::Code::Io, store.to_string());
    }
    Error::new(code, error.to_string())
}

/// Deletes files that no table names, whatever happens.
pub(crate) async fn delete_quietly(store: &Arc<dyn ObjectStore>, files: impl IntoIterator<Item = Path>) {
    for file in files {
        if let Err(error) = store.delete(&file).await {
            tracing::warn!(error = %store_error(error), file = %file, "orphaned file not removed");
        }
    }
}
