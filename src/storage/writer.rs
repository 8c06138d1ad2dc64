//! Streams rows into the Parquet files of a managed table: zstd, statistics, bounded memory, nothing left behind.
//!
//! Files get names only when they are whole ([`super::durable`]), and count only once a Delta commit names them. A
//! writer that is dropped before [`PendingFiles::keep`] (an error, a cancelled statement) removes what it wrote.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use portrait_udfs::error::{Error, Result};

use super::checksums::Summed;
use super::delta::DeltaTable;
use super::events::FileNames;
use super::types::{conform, file_schema};
use super::{encoding, statistics, store_error};

/// Encoded bytes of a row group at most: wide rows are cut earlier, so that a writer's memory stays bounded.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// A file is closed and the next one begun beyond this.
const FILE_BYTES: usize = 512 << 20;

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
    /// Rows in them.
    pub(crate) rows: u64,
}

impl PendingFiles {
    /// The files; from now on they stay.
    pub(crate) fn keep(&mut self) -> Vec<WrittenFile> {
        self.beside.clear();
        std::mem::take(&mut self.files)
    }

    /// The files, still to be removed if nothing else happens.
    pub(crate) fn files(&self) -> &[WrittenFile] {
        &self.files
    }
}

impl Drop for PendingFiles {
    fn drop(&mut self) {
        let mut files = std::mem::take(&mut self.beside);
        files.extend(std::mem::take(&mut self.files).into_iter().map(|file| self.folder.clone().join(file.name.as_str())));
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

/// A file that is being written: its name, and how many of its bytes are.
type Current = (String, Arc<AtomicU64>, AsyncArrowWriter<Summed<BufWriter>>);

/// Writes rows as data files of a table, one file after the other.
pub(crate) struct TableWriter {
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
    current: Option<Current>,
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
                rows: 0,
            },
            table_name: table.name().to_owned(),
            table_schema: Arc::clone(table.schema()),
            schema,
            names,
            order,
            span: None,
            current: None,
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
        let batch = conform(&conform(batch, &self.table_schema, &self.table_name)?, &self.schema, &self.table_name)?;
        if let Some(&key) = self.order.first() {
            let value = |row| ScalarValue::try_from_array(batch.column(key), row).map_err(super::engine_error);
            let first = match self.span.take() {
                Some((first, _)) => first,
                None => value(0)?,
            };
            self.span = Some((first, value(batch.num_rows() - 1)?));
        }
        let (_, _, writer) = match &mut self.current {
            Some(current) => current,
            None => self.current.insert(open_file(&mut self.pending, self.names, &self.schema, &self.properties)?),
        };
        writer.write(&batch).await.map_err(parquet_error)?;
        if writer.in_progress_size() > ROW_GROUP_BYTES {
            writer.flush().await.map_err(parquet_error)?;
        }
        self.memory.try_resize(writer.memory_size()).map_err(super::engine_error)?;
        self.pending.rows += batch.num_rows() as u64;
        if self.order.is_empty() && self.is_full() {
            self.close_file().await?;
        }
        Ok(())
    }

    /// Whether the current file should end. Ordered files end between users: whoever writes them says where.
    pub(crate) fn is_full(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, _, writer)| writer.bytes_written() > FILE_BYTES)
    }

    /// Ends the current file: rows that come later begin another one.
    pub(crate) async fn close_file(&mut self) -> Result<()> {
        let Some((name, written, mut writer)) = self.current.take() else { return Ok(()) };
        let footer = writer.finish().await.map_err(parquet_error)?;
        let size = written.load(Ordering::Relaxed);
        self.memory.free();
        let mut stats = statistics::from_footer(&footer, &self.schema);
        if let (Some(&key), Some((first, last))) = (self.order.first(), self.span.take()) {
            stats = statistics::with_bounds(&stats, self.schema.field(key).name(), &first, &last);
        }
        self.pending.files.push(WrittenFile { name, size, stats });
        Ok(())
    }

    /// All files, whole.
    pub(crate) async fn finish(mut self) -> Result<PendingFiles> {
        self.close_file().await?;
        Ok(self.pending)
    }
}

fn open_file(pending: &mut PendingFiles, names: FileNames, schema: &SchemaRef, properties: &WriterProperties) -> Result<Current> {
    let name = names.name(pending.files.len());
    pending.claim.add(&name);
    let output = BufWriter::with_capacity(Arc::clone(&pending.store), pending.folder.clone().join(name.as_str()), PART_BYTES);
    // Without Arrow's own schema in the file: Delta's log is what says the types.
    let options = ArrowWriterOptions::new().with_properties(properties.clone()).with_skip_arrow_metadata(true);
    let output = Summed::new(output);
    let written = output.written();
    let writer = AsyncArrowWriter::try_new_with_options(output, Arc::clone(schema), options).map_err(parquet_error)?;
    Ok((name, written, writer))
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
