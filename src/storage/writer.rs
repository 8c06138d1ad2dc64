//! Streams rows into the Parquet files of a managed table: zstd, statistics, bounded memory, nothing left behind.
//!
//! Files get names only when they are whole ([`super::durable`]), and count only once a Delta commit names them. A
//! writer that is dropped before [`PendingFiles::keep`] (an error, a cancelled statement) removes what it wrote.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::StreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use portrait_udfs::error::{Error, Result};

use super::types::{conform, file_schema};
use super::{statistics, store_error};

/// Rows of a row group at most.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Encoded bytes of a row group at most: wide rows are cut earlier, so that a writer's memory stays bounded.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// A file is closed and the next one begun beyond this.
const FILE_BYTES: usize = 512 << 20;

/// Bytes that are written to the disk at once.
const PART_BYTES: usize = 4 << 20;

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

/// Whole data files that are removed again unless they are [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct PendingFiles {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    files: Vec<WrittenFile>,
    /// Rows in them.
    pub(crate) rows: u64,
}

impl PendingFiles {
    /// The files; from now on they stay.
    pub(crate) fn keep(&mut self) -> Vec<WrittenFile> {
        std::mem::take(&mut self.files)
    }

    /// The files, still to be removed if nothing else happens.
    pub(crate) fn files(&self) -> &[WrittenFile] {
        &self.files
    }
}

impl Drop for PendingFiles {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if files.is_empty() {
            return;
        }
        let (store, folder) = (Arc::clone(&self.store), self.folder.clone());
        // Should the process end first, the next start sweeps them.
        runtime.spawn(async move {
            for file in files {
                if let Err(error) = store.delete(&folder.clone().join(file.name.as_str())).await {
                    tracing::debug!(%error, file = %file.name, "unfinished data file not removed");
                }
            }
        });
    }
}

/// Writes every row of `stream` as data files of the table in `folder` whose rows look like `table_schema`.
///
/// # Errors
/// Those of the stream, and [`conform`]'s for rows that do not fit `table_name`.
pub(crate) async fn write_stream(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    table_name: &str,
    table_schema: &SchemaRef,
    mut stream: SendableRecordBatchStream,
    pool: &Arc<dyn MemoryPool>,
) -> Result<PendingFiles> {
    let mut writer = TableWriter {
        pending: PendingFiles { store: Arc::clone(store), folder: folder.clone(), files: Vec::new(), rows: 0 },
        schema: file_schema(table_schema),
        current: None,
        memory: MemoryConsumer::new("TableWriter").register(pool),
    };
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(super::engine_error)?;
        // Twice: the first checks what the table promises, the second turns it into what the files hold.
        let batch = conform(&conform(&batch, table_schema, table_name)?, &writer.schema, table_name)?;
        writer.write(&batch).await?;
    }
    writer.close_file().await?;
    Ok(writer.pending)
}

struct TableWriter {
    pending: PendingFiles,
    schema: SchemaRef,
    current: Option<(String, AsyncArrowWriter<BufWriter>)>,
    memory: MemoryReservation,
}

impl TableWriter {
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (_, writer) = match &mut self.current {
            Some(current) => current,
            None => self.current.insert(open_file(&self.pending, &self.schema)?),
        };
        writer.write(batch).await.map_err(parquet_error)?;
        if writer.in_progress_size() > ROW_GROUP_BYTES {
            writer.flush().await.map_err(parquet_error)?;
        }
        self.memory.try_resize(writer.memory_size()).map_err(super::engine_error)?;
        self.pending.rows += batch.num_rows() as u64;
        if writer.bytes_written() > FILE_BYTES {
            self.close_file().await?;
        }
        Ok(())
    }

    async fn close_file(&mut self) -> Result<()> {
        let Some((name, mut writer)) = self.current.take() else { return Ok(()) };
        let footer = writer.finish().await.map_err(parquet_error)?;
        let size = writer.bytes_written() as u64;
        self.memory.free();
        let stats = statistics::from_footer(&footer, &self.schema);
        self.pending.files.push(WrittenFile { name, size, stats });
        Ok(())
    }
}

fn open_file(pending: &PendingFiles, schema: &SchemaRef) -> Result<(String, AsyncArrowWriter<BufWriter>)> {
    let name = format!("part-{:05}-{}.zstd.parquet", pending.files.len(), uuid::Uuid::now_v7());
    let output = BufWriter::with_capacity(Arc::clone(&pending.store), pending.folder.clone().join(name.as_str()), PART_BYTES);
    // Without Arrow's own schema in the file: Delta's log is what says the types.
    let options = ArrowWriterOptions::new().with_properties(properties()).with_skip_arrow_metadata(true);
    let writer = AsyncArrowWriter::try_new_with_options(output, Arc::clone(schema), options).map_err(parquet_error)?;
    Ok((name, writer))
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(20_000)
        .set_created_by("portrait".into())
        .build()
}

/// A failure while Parquet is written or read: disk full keeps its meaning.
pub(crate) fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    let code = super::io_cause(&error).map_or(portrait_udfs::Code::Io, |cause| Error::from(std::io::Error::from(cause.kind())).code);
    if code == portrait_udfs::Code::DiskFull {
        return Error::new(code, "could not write file: no space left on device")
            .hint("Nothing of the statement is kept. Free some space and run it again.");
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
