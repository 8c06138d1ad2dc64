//! Reads a user-ordered copy: all of it in ranges of users, or the blocks that hold some users.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use portrait_udfs::context::UserHistories;
use portrait_udfs::error::{Error, Result};

use super::layout::{BLOCK_ROWS, GROUP_ROWS, Keys, Meta, SharedFile, damaged, read_index};
use crate::storage::types::schema_from_text;

/// Rows of a batch of a scan.
const BATCH_ROWS: usize = 4 * BLOCK_ROWS;
/// Batches a reader may be ahead of who uses them.
const BATCHES_AHEAD: usize = 2;

/// An open copy. Its folder is removed when it was [retired](Self::retire) and nobody reads it any more.
#[derive(Debug)]
pub(super) struct HistoryCopy {
    folder: PathBuf,
    meta: Meta,
    schema: SchemaRef,
    files: Vec<CopyFile>,
    retired: AtomicBool,
    _memory: MemoryReservation,
}

#[derive(Debug)]
struct CopyFile {
    path: PathBuf,
    file: SharedFile,
    rows: usize,
    /// The user of the first row of each block.
    keys: Keys,
    footer: OnceLock<ArrowReaderMetadata>,
}

/// Blocks of one file that are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    file: usize,
    /// Rows, ascending, not touching.
    rows: Vec<Range<usize>>,
}

impl HistoryCopy {
    /// Opens the copy in `folder`.
    ///
    /// # Errors
    /// XX001 when it is damaged or of another format.
    pub(super) fn open(folder: &Path, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let meta = Meta::read(folder)?;
        let schema = Arc::new(schema_from_text(&meta.schema)?);
        let key_type = schema.fields().first().map(|field| field.data_type().clone());
        let key_type = key_type.ok_or_else(|| damaged(folder, "it has no columns"))?;
        let keys = read_index(folder, &meta, &key_type)?;
        let memory = MemoryConsumer::new("HistoryIndex").register(pool);
        let mut files = Vec::with_capacity(meta.files.len());
        for (known, keys) in meta.files.iter().zip(keys) {
            let path = folder.join(&known.name);
            let file = SharedFile::open(&path, known)?;
            memory.grow(keys.bytes());
            let rows = usize::try_from(known.rows).unwrap_or(usize::MAX);
            files.push(CopyFile { path, file, rows, keys, footer: OnceLock::new() });
        }
        Ok(Self { folder: folder.to_path_buf(), meta, schema, files, retired: AtomicBool::new(false), _memory: memory })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The source has changed: the folder goes away with the last reader.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// The blocks that can hold one of `users` (ascending, distinct).
    fn pieces_of(&self, users: &Keys) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut file = 0;
        for user in 0..users.len() {
            // The last file that does not begin after the user: files are cut between users.
            while file + 1 < self.files.len() && self.files[file + 1].keys.compare(0, users, user).is_le() {
                file += 1;
            }
            let Some(found) = self.files.get(file) else { break };
            let from = pieces.last().filter(|piece| piece.file == file).and_then(|piece| piece.rows.last());
            let from = from.map_or(0, |rows| rows.start / BLOCK_ROWS);
            let first = found.keys.first(from, users, user, false);
            let end = found.keys.first(first, users, user, true);
            // The user may begin inside the block before the first one that begins with him.
            let rows = first.saturating_sub(1) * BLOCK_ROWS..(end * BLOCK_ROWS).min(found.rows);
            push_rows(&mut pieces, file, rows);
        }
        pieces
    }

    /// The blocks that can hold users in `[lower, upper)`.
    fn pieces_between(&self, lower: Option<&Keys>, upper: Option<&Keys>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (i, file) in self.files.iter().enumerate() {
            let next_begins_lower = |lower: &Keys| self.files.get(i + 1).is_some_and(|next| next.keys.compare(0, lower, 0).is_le());
            if lower.is_some_and(next_begins_lower) {
                continue;
            }
            let start = lower.map_or(0, |lower| file.keys.first(0, lower, 0, false).saturating_sub(1));
            let end = upper.map_or(file.keys.len(), |upper| file.keys.first(0, upper, 0, false));
            push_rows(&mut pieces, i, start * BLOCK_ROWS..(end * BLOCK_ROWS).min(file.rows));
        }
        pieces
    }

    /// The users that cut the copy into `partitions` ranges of about as many rows.
    fn cuts(&self, partitions: usize) -> Vec<Keys> {
        let blocks: usize = self.files.iter().map(|file| file.keys.len()).sum();
        let cut = |p: usize| {
            let mut block = blocks * p / partitions;
            for file in &self.files {
                if block < file.keys.len() {
                    return Some(file.keys.slice(block, 1));
                }
                block -= file.keys.len();
            }
            None
        };
        (1..partitions).filter_map(cut).collect()
    }

    fn reader(&self, piece: &Piece) -> Result<ParquetRecordBatchReader> {
        let file = &self.files[piece.file];
        let broken = |error: parquet::errors::ParquetError| damaged(&file.path, &error.to_string());
        let footer = match file.footer.get() {
            Some(footer) => footer.clone(),
            None => {
                let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
                let footer = ArrowReaderMetadata::load(&file.file, options).map_err(broken)?;
                file.footer.get_or_init(|| footer).clone()
            }
        };
        // Only the row groups that are touched, and the wanted rows counted from the first of them.
        let mut groups: Vec<usize> = Vec::new();
        let mut wanted = Vec::with_capacity(piece.rows.len());
        for rows in &piece.rows {
            for group in rows.start / GROUP_ROWS..rows.end.div_ceil(GROUP_ROWS) {
                if groups.last() != Some(&group) {
                    groups.push(group);
                }
                let of_group = group * GROUP_ROWS..((group + 1) * GROUP_ROWS).min(file.rows);
                let shift = (groups.len() - 1) * GROUP_ROWS;
                let part = rows.start.max(of_group.start)..rows.end.min(of_group.end);
                wanted.push(part.start - of_group.start + shift..part.end - of_group.start + shift);
            }
        }
        let total = groups.iter().map(|group| GROUP_ROWS.min(file.rows - group * GROUP_ROWS)).sum();
        ParquetRecordBatchReaderBuilder::new_with_metadata(file.file.clone(), footer)
            .with_row_groups(groups)
            .with_row_selection(RowSelection::from_consecutive_ranges(wanted.into_iter(), total))
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(broken)
    }

    /// Reads pieces on a thread of its own; `keep` cuts each batch down.
    fn stream(
        self: &Arc<Self>,
        pieces: Vec<Piece>,
        mut keep: impl FnMut(RecordBatch) -> Result<RecordBatch> + Send + 'static,
    ) -> SendableRecordBatchStream {
        if pieces.is_empty() {
            return Box::pin(EmptyRecordBatchStream::new(Arc::clone(&self.schema)));
        }
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_AHEAD);
        let sender = builder.tx();
        let copy = Arc::clone(self);
        builder.spawn_blocking(move || {
            for piece in &pieces {
                for batch in copy.reader(piece)? {
                    let batch = batch.map_err(|error| damaged(&copy.files[piece.file].path, &error.to_string()))?;
                    let batch = keep(batch)?;
                    if batch.num_rows() > 0 && sender.blocking_send(EngineResult::Ok(batch)).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}

impl Drop for HistoryCopy {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::debug!(%error, folder = %self.folder.display(), "retired history copy not removed");
        }
    }
}

/// A copy, as the functions see it.
#[derive(Debug)]
pub(super) struct CopyHistories(pub(super) Arc<HistoryCopy>);

#[async_trait]
impl UserHistories for CopyHistories {
    fn watermark_us(&self) -> Option<i64> {
        self.0.meta.watermark_us
    }

    fn dropped_rows(&self) -> u64 {
        self.0.meta.dropped_rows
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.0.meta.fingerprint.clone())
    }

    async fn scan(&self, partitions: usize) -> Result<Vec<SendableRecordBatchStream>> {
        let cuts = self.0.cuts(partitions.max(1));
        let bound = |i: usize| cuts.get(i).cloned();
        let streams = (0..=cuts.len()).map(|i| {
            let (lower, upper) = (i.checked_sub(1).and_then(bound), bound(i));
            let pieces = self.0.pieces_between(lower.as_ref(), upper.as_ref());
            let key_type = self.0.schema.field(0).data_type().clone();
            self.0.stream(pieces, move |batch| {
                let keys = Keys::new(batch.column(0), &key_type)?;
                let start = lower.as_ref().map_or(0, |lower| keys.first(0, lower, 0, false));
                let end = upper.as_ref().map_or(batch.num_rows(), |upper| keys.first(start, upper, 0, false));
                Ok(batch.slice(start, end - start))
            })
        });
        Ok(streams.collect())
    }

    async fn lookup(&self, users: ArrayRef) -> Result<SendableRecordBatchStream> {
        let key_type = self.0.schema.field(0).data_type().clone();
        let users = Keys::new(&users, &key_type)?;
        let pieces = self.0.pieces_of(&users);
        let mut next = 0;
        Ok(self.0.stream(pieces, move |batch| {
            let keys = Keys::new(batch.column(0), &key_type)?;
            let wanted: BooleanArray = (0..keys.len())
                .map(|row| {
                    // Both ascend, so the position among the wanted users only moves on.
                    while next < users.len() && users.compare(next, &keys, row).is_lt() {
                        next += 1;
                    }
                    Some(next < users.len() && users.compare(next, &keys, row).is_eq())
                })
                .collect();
            filter_record_batch(&batch, &wanted).map_err(|error| Error::internal(error.to_string()))
        }))
    }
}

/// Adds rows of a file behind those that are wanted already; touching ones become one range.
fn push_rows(pieces: &mut Vec<Piece>, file: usize, rows: Range<usize>) {
    if rows.is_empty() {
        return;
    }
    match pieces.last_mut().filter(|piece| piece.file == file) {
        None => pieces.push(Piece { file, rows: vec![rows] }),
        Some(piece) => match piece.rows.last_mut().filter(|last| last.end >= rows.start) {
            Some(last) => last.end = last.end.max(rows.end),
            None => piece.rows.push(rows),
        },
    }
}
