//! Makes a user-ordered copy: sorts the source once, within the memory pool, and writes it down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_empty_array};
use datafusion::arrow::compute::{and, concat, filter_record_batch, is_not_null, max};
use datafusion::arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use portrait_udfs::context::StatementContext;
use portrait_udfs::error::{Error, Result};

use super::layout::{BLOCK_ROWS, FILE_ROWS, FORMAT_VERSION, FileMeta, Keys, Meta, SummedFile, blocks_of, write_index, writer_properties};
use crate::storage::durable::{make_folder, sync_folder};
use crate::storage::sort::in_order;
use crate::storage::types::schema_to_text;
use crate::storage::writer::parquet_error;

/// A build that is done sooner is not worth a message.
const QUIET: Duration = Duration::from_secs(2);
/// Batches between the sort and the writer's thread.
const BATCHES_AHEAD: usize = 4;

/// Writes the canonical rows of `plan` (NULL users and times still in it) into `folder`, which gets its name when it is
/// whole. Cancelled or failed, nothing is left.
pub(super) async fn build(session: &SessionState, plan: &LogicalPlan, schema: SchemaRef, fingerprint: &str, folder: &Path) -> Result<()> {
    let context = StatementContext::of(session.config());
    let started = Instant::now();
    let physical = session.create_physical_plan(plan).await.map_err(Error::from_engine)?;
    let input = execute_stream(physical, session.task_ctx()).map_err(Error::from_engine)?;
    let mut progress = Progress { context: &context, started, told: started, rows: 0 };
    let mut rows = tokio::select! {
        () = context.cancel.cancelled() => return Err(Error::cancelled()),
        rows = in_order(session.runtime_env(), input, |rows| progress.tell("read", rows)) => rows?,
    };
    progress.rows = 0;
    let parent = folder.parent().map(Path::to_path_buf).unwrap_or_default();
    let temporary = Temporary::new(&parent)?;
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<RecordBatch>(BATCHES_AHEAD);
    // The thread owns the folder: when the statement is cancelled, it is removed after the last write into it.
    let writer = tokio::task::spawn_blocking(move || {
        let mut writer = CopyWriter::new(temporary.path.clone(), schema);
        while let Some(batch) = receiver.blocking_recv() {
            writer.write(&batch)?;
        }
        Ok::<_, Error>((writer, temporary))
    });
    loop {
        let batch = tokio::select! {
            () = context.cancel.cancelled() => return Err(Error::cancelled()),
            batch = rows.next() => batch,
        };
        let Some(batch) = batch else { break };
        let batch = batch.map_err(Error::from_engine)?;
        progress.tell("written", batch.num_rows());
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    drop(sender);
    let ended = |error| Error::internal(format!("history writer ended early: {error}"));
    let (writer, temporary) = writer.await.map_err(ended)??;
    let (folder, fingerprint) = (folder.to_path_buf(), fingerprint.to_owned());
    let meta = tokio::task::spawn_blocking(move || {
        let meta = writer.finish(fingerprint)?;
        temporary.publish(&folder)?;
        Ok::<_, Error>(meta)
    });
    let meta = meta.await.map_err(ended)??;
    progress.finish(&meta);
    Ok(())
}

/// A folder that disappears unless it is published.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("{}{}", super::TEMPORARY, uuid::Uuid::new_v4()));
        make_folder(&path)?;
        Ok(Self { path })
    }

    fn publish(self, folder: &Path) -> Result<()> {
        sync_folder(&self.path)?;
        // What is there under this name is damaged or of an older format: otherwise it would have been used.
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::rename(&self.path, folder)?,
        }
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After publishing the path no longer exists.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

struct Progress<'a> {
    context: &'a StatementContext,
    started: Instant,
    told: Instant,
    rows: u64,
}

impl Progress<'_> {
    fn tell(&mut self, what: &str, rows: usize) {
        self.rows += rows as u64;
        if self.told.elapsed() >= QUIET {
            self.told = Instant::now();
            (self.context.notice)(&format!("ordering events by user: {} rows {what}", self.rows));
        }
    }

    fn finish(&self, meta: &Meta) {
        let seconds = self.started.elapsed();
        let megabytes = meta.files.iter().map(|file| file.bytes).sum::<u64>() / 1_000_000;
        tracing::info!(rows = meta.rows, users = meta.users, megabytes, seconds = seconds.as_secs_f64(), "history copy made");
        if seconds >= QUIET {
            (self.context.notice)(&format!(
                "ordered {} events of {} users in {:.1} s ({megabytes} MB, kept until the source changes)",
                meta.rows,
                meta.users,
                seconds.as_secs_f64()
            ));
        }
    }
}

/// Writes sorted rows as files cut between users, and collects the index.
struct CopyWriter {
    folder: PathBuf,
    schema: SchemaRef,
    current: Option<(ArrowWriter<SummedFile>, u64)>,
    files: Vec<FileMeta>,
    index: Vec<ArrayRef>,
    /// How many of `index` are joined already.
    index_joined: usize,
    last_user: Option<Keys>,
    rows: u64,
    users: u64,
    dropped_rows: u64,
    watermark_us: Option<i64>,
}

impl CopyWriter {
    fn new(folder: PathBuf, schema: SchemaRef) -> Self {
        Self {
            folder,
            schema,
            current: None,
            files: Vec::new(),
            index: Vec::new(),
            index_joined: 0,
            last_user: None,
            rows: 0,
            users: 0,
            dropped_rows: 0,
            watermark_us: None,
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.complete_rows(batch)?;
        // The plan says less about NULLs than the canonical schema does; the columns are the same.
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())
            .map_err(|error| Error::internal(format!("canonical rows: {error}")))?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        self.watermark_us = self.watermark_us.max(max(times));
        let keys = Keys::new(batch.column(0), self.schema.field(0).data_type())?;
        let first_new = self.count_users(&keys);
        let full = self.current.as_ref().is_some_and(|(_, rows)| *rows >= FILE_ROWS as u64);
        match first_new {
            Some(cut) if full => {
                self.write_rows(&batch.slice(0, cut))?;
                self.close_file()?;
                self.write_rows(&batch.slice(cut, batch.num_rows() - cut))
            }
            _ => self.write_rows(&batch),
        }
    }

    /// Leaves out rows without user or time, and counts them.
    fn complete_rows(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (user, time) = (batch.column(0), batch.column(1));
        if user.null_count() == 0 && time.null_count() == 0 {
            return Ok(batch.clone());
        }
        let complete = (|| {
            let complete: BooleanArray = and(&is_not_null(user)?, &is_not_null(time)?)?;
            filter_record_batch(batch, &complete)
        })();
        let complete = complete.map_err(|error| Error::internal(error.to_string()))?;
        self.dropped_rows += (batch.num_rows() - complete.num_rows()) as u64;
        Ok(complete)
    }

    /// Counts the users that begin in a batch. Returns the first row of the first of them.
    fn count_users(&mut self, keys: &Keys) -> Option<usize> {
        let continues = self.last_user.as_ref().is_some_and(|last| last.compare(0, keys, 0).is_eq());
        let mut begins = (0..keys.len()).filter(|&i| if i == 0 { !continues } else { keys.compare(i, keys, i - 1).is_ne() });
        let first = begins.next();
        self.users += first.map_or(0, |_| 1 + begins.count() as u64);
        self.last_user = Some(keys.slice(keys.len() - 1, 1));
        first
    }

    fn write_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (writer, rows) = match &mut self.current {
            Some(current) => current,
            None => {
                let file = SummedFile::create(&self.folder.join(file_name(self.files.len())))?;
                let writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(writer_properties())).map_err(parquet_error)?;
                self.current.insert((writer, 0))
            }
        };
        // The rows of this batch that begin a block of the file.
        let into_block = usize::try_from(*rows).unwrap_or(usize::MAX) % BLOCK_ROWS;
        let first = (BLOCK_ROWS - into_block) % BLOCK_ROWS;
        let users = batch.column(0);
        self.index.extend((first..batch.num_rows()).step_by(BLOCK_ROWS).map(|row| users.slice(row, 1)));
        writer.write(batch).map_err(parquet_error)?;
        *rows += batch.num_rows() as u64;
        self.rows += batch.num_rows() as u64;
        self.compact_index()
    }

    /// A slice keeps its whole batch alive: the keys are copied out now and then.
    fn compact_index(&mut self) -> Result<()> {
        if self.index.len() - self.index_joined >= 64 {
            let parts = self.index.split_off(self.index_joined);
            self.index.push(join(&parts)?);
            self.index_joined += 1;
        }
        Ok(())
    }

    fn close_file(&mut self) -> Result<()> {
        let Some((mut writer, rows)) = self.current.take() else { return Ok(()) };
        writer.finish().map_err(parquet_error)?;
        let bytes = writer.bytes_written() as u64;
        let sums = writer.inner().sync()?.sums;
        self.files.push(FileMeta { name: file_name(self.files.len()), rows, bytes, sums });
        Ok(())
    }

    fn finish(mut self, fingerprint: String) -> Result<Meta> {
        self.close_file()?;
        let key_type = self.schema.field(0).data_type().clone();
        let keys = if self.index.is_empty() { new_empty_array(&key_type) } else { join(&self.index)? };
        assert_eq!(keys.len(), self.files.iter().map(|file| blocks_of(file.rows)).sum::<usize>());
        let index = write_index(&self.folder, &Keys::new(&keys, &key_type)?)?;
        let meta = Meta {
            format_version: FORMAT_VERSION,
            fingerprint,
            rows: self.rows,
            users: self.users,
            dropped_rows: self.dropped_rows,
            watermark_us: self.watermark_us,
            files: self.files,
            index,
            schema: schema_to_text(&self.schema),
        };
        meta.write(&self.folder)?;
        Ok(meta)
    }
}

fn join(parts: &[ArrayRef]) -> Result<ArrayRef> {
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(|error| Error::internal(error.to_string()))
}

fn file_name(number: usize) -> String {
    format!("part-{number:05}.parquet")
}
