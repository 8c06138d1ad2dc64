//! The files of a user-ordered copy: Parquet in (user, time, …) order, and where each user begins.
//!
//! A copy is a folder: `part-00000.parquet` … hold the canonical rows, cut between users; `index.arrow` holds the user
//! of the first row of every block of [`BLOCK_ROWS`] rows; `meta.json` comes last, makes the folder a copy, and has the
//! checksums of the others and its own hash. The index is sparse: ten thousand keys for twenty million events, whatever the number of users, and a look-up reads the one or
//! two blocks that can hold its user.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::ipc::reader::FileReader;
use datafusion::arrow::ipc::writer::FileWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;
use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use crate::storage::checksums::{Summer, Sums, check_hash, with_hash};

/// Raised when the files change; older copies are then made anew.
pub(super) const FORMAT_VERSION: u32 = 2;
/// Rows between two keys of the index, and of a Parquet page.
pub(super) const BLOCK_ROWS: usize = 2048;
/// Rows of a row group: small, since a look-up decodes the dictionaries of the group it touches.
pub(super) const GROUP_ROWS: usize = 16 * BLOCK_ROWS;
/// A file is closed at the first user after this many rows.
pub(super) const FILE_ROWS: usize = 128 * GROUP_ROWS;
const META: &str = "meta.json";
const INDEX: &str = "index.arrow";

/// What is known of a copy without opening its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format_version: u32,
    /// Of the source; the copy is good exactly as long as the source still has it.
    pub(super) fingerprint: String,
    pub(super) rows: u64,
    pub(super) users: u64,
    pub(super) dropped_rows: u64,
    pub(super) watermark_us: Option<i64>,
    pub(super) files: Vec<FileMeta>,
    /// BLAKE3 of the index.
    pub(super) index: String,
    /// Canonical schema, as [`crate::storage::types::schema_to_text`] writes it.
    pub(super) schema: String,
}

/// One Parquet file of a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FileMeta {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Of its blocks.
    pub(super) sums: Vec<u32>,
}

impl Meta {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(META);
        let damaged = |error: String| damaged(&path, &error);
        let text = std::fs::read(&path).map_err(|error| damaged(error.to_string()))?;
        check_hash(&text).map_err(damaged)?;
        let meta: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if meta.format_version != FORMAT_VERSION {
            return Err(damaged(format!("format version {}", meta.format_version)));
        }
        Ok(meta)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut file = File::create(folder.join(META))?;
        let text = serde_json::to_vec(self).map_err(|error| Error::internal(error.to_string()))?;
        file.write_all(&with_hash(&text.into()))?;
        file.sync_all()?;
        Ok(())
    }
}

/// The keys of users, in the order of the copy: integers by value, texts by bytes.
#[derive(Debug, Clone)]
pub(in crate::storage) enum Keys {
    Int64(Int64Array),
    Utf8(StringArray),
}

impl Keys {
    /// Takes a column of keys, cast to the type of the copy's `user` column.
    pub(in crate::storage) fn new(column: &ArrayRef, key_type: &DataType) -> Result<Self> {
        let column = cast(column, key_type).map_err(|error| Error::internal(format!("user keys: {error}")))?;
        match key_type {
            DataType::Int64 => Ok(Self::Int64(column.as_primitive::<Int64Type>().clone())),
            DataType::Utf8 => Ok(Self::Utf8(column.as_string::<i32>().clone())),
            other => Err(Error::internal(format!("user keys of type {other}"))),
        }
    }

    pub(in crate::storage) fn len(&self) -> usize {
        match self {
            Self::Int64(keys) => keys.len(),
            Self::Utf8(keys) => keys.len(),
        }
    }

    /// Compares key `i` of this with key `j` of `other`. Keys of different types do not meet.
    pub(in crate::storage) fn compare(&self, i: usize, other: &Self, j: usize) -> Ordering {
        match (self, other) {
            (Self::Int64(a), Self::Int64(b)) => a.value(i).cmp(&b.value(j)),
            (Self::Utf8(a), Self::Utf8(b)) => a.value(i).cmp(b.value(j)),
            _ => Ordering::Equal,
        }
    }

    /// The first index at or after `from` whose key is not less than (`inclusive`: greater than) key `j` of `other`.
    pub(super) fn first(&self, from: usize, other: &Self, j: usize, beyond_equal: bool) -> usize {
        let (mut low, mut high) = (from, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let order = self.compare(middle, other, j);
            if order == Ordering::Less || (beyond_equal && order == Ordering::Equal) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(in crate::storage) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Int64(keys) => Self::Int64(keys.slice(offset, len)),
            Self::Utf8(keys) => Self::Utf8(keys.slice(offset, len)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Int64(keys) => keys.get_array_memory_size(),
            Self::Utf8(keys) => keys.get_array_memory_size(),
        }
    }

    fn column(&self) -> ArrayRef {
        match self {
            Self::Int64(keys) => Arc::new(keys.clone()),
            Self::Utf8(keys) => Arc::new(keys.clone()),
        }
    }
}

/// Writes the first keys of all blocks of all files, one after the other. Returns the file's hash.
pub(super) fn write_index(folder: &Path, keys: &Keys) -> Result<String> {
    let batch = RecordBatch::try_from_iter([("user", keys.column())]).map_err(|error| Error::internal(error.to_string()))?;
    let internal = |error: datafusion::arrow::error::ArrowError| match error {
        datafusion::arrow::error::ArrowError::IoError(_, error) => Error::from(error),
        other => Error::internal(other.to_string()),
    };
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).map_err(internal)?;
    writer.write(&batch).map_err(internal)?;
    writer.finish().map_err(internal)?;
    let text = writer.into_inner().map_err(internal)?;
    let mut file = File::create(folder.join(INDEX))?;
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(blake3::hash(&text).to_hex().to_string())
}

/// Reads the index back, cut by file.
pub(super) fn read_index(folder: &Path, meta: &Meta, key_type: &DataType) -> Result<Vec<Keys>> {
    let path = folder.join(INDEX);
    let unreadable = |error: datafusion::arrow::error::ArrowError| damaged(&path, &error.to_string());
    let text = std::fs::read(&path).map_err(|error| damaged(&path, &error.to_string()))?;
    if blake3::hash(&text).to_hex().as_str() != meta.index {
        return Err(damaged(&path, "its hash is wrong"));
    }
    let reader = FileReader::try_new(std::io::Cursor::new(text), None).map_err(unreadable)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let all = datafusion::arrow::compute::concat_batches(&schema, &batches).map_err(unreadable)?;
    let keys = Keys::new(all.column(0), key_type)?;
    let mut offset = 0;
    let mut cut = Vec::with_capacity(meta.files.len());
    for file in &meta.files {
        let blocks = blocks_of(file.rows);
        if offset + blocks > keys.len() {
            return Err(damaged(&path, "it is too short"));
        }
        cut.push(keys.slice(offset, blocks));
        offset += blocks;
    }
    Ok(cut)
}

/// Blocks of a file of `rows` rows.
pub(super) fn blocks_of(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX).div_ceil(BLOCK_ROWS)
}

/// How the files are written: quick to decode in small pieces.
pub(super) fn writer_properties() -> WriterProperties {
    let delta = |builder: parquet::file::properties::WriterPropertiesBuilder, column: &str| {
        let path = ColumnPath::from(column);
        builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
    };
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(BLOCK_ROWS)
        .set_write_batch_size(BLOCK_ROWS)
        // A column with many distinct texts gives up its dictionary early: every look-up would have to decode it.
        .set_dictionary_page_size_limit(16 << 10)
        .set_created_by("portrait".into());
    delta(builder, "time").build()
}

/// A file that many threads read at once: positions are arguments, never state.
#[derive(Debug, Clone)]
pub(super) struct SharedFile {
    file: Arc<File>,
    sums: Arc<Sums>,
}

impl SharedFile {
    /// Opens a file, whose blocks are checked as they are read.
    pub(super) fn open(path: &Path, known: &FileMeta) -> Result<Self> {
        let file = File::open(path).map_err(|error| damaged(path, &error.to_string()))?;
        if file.metadata()?.len() != known.bytes {
            return Err(damaged(path, "it has another size than when it was written"));
        }
        Ok(Self { file: Arc::new(file), sums: Arc::new(Sums { covered: known.bytes, sums: known.sums.clone() }) })
    }

    /// Bytes from `start` on.
    fn read(&self, start: u64, length: u64) -> std::io::Result<Bytes> {
        let wide = self.sums.widen(&(start..start.saturating_add(length)));
        let size = |bytes: u64| usize::try_from(bytes).map_err(std::io::Error::other);
        let mut buffer = vec![0; size(wide.end.saturating_sub(wide.start))?];
        self.file.read_exact_at(&mut buffer, wide.start)?;
        self.sums
            .check(wide.start, &buffer)
            .map_err(|wrong| std::io::Error::other(format!("the checksum of bytes {} to {} is wrong", wrong.start, wrong.end)))?;
        let from = size(start - wide.start)?.min(buffer.len());
        let to = from.saturating_add(size(length)?).min(buffer.len());
        Ok(Bytes::from(buffer).slice(from..to))
    }
}

/// A file whose checksums are taken while it is written.
#[derive(Debug)]
pub(super) struct SummedFile {
    file: File,
    summer: Summer,
}

impl SummedFile {
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::create(path)?, summer: Summer::default() })
    }

    /// Makes it durable. Returns its checksums.
    pub(super) fn sync(&self) -> std::io::Result<Sums> {
        self.file.sync_all()?;
        Ok(self.summer.clone().finish())
    }
}

impl Write for SummedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.summer.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Length for SharedFile {
    fn len(&self) -> u64 {
        self.sums.covered
    }
}

impl ChunkReader for SharedFile {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(Cursor { file: self.clone(), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.read(start, length as u64)?;
        if bytes.len() < length {
            return Err(parquet::errors::ParquetError::EOF(format!("{} bytes of {length} at {start}", bytes.len())));
        }
        Ok(bytes)
    }
}

/// Reads on from a position of its own.
#[derive(Debug)]
pub(super) struct Cursor {
    file: SharedFile,
    position: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.file.read(self.position, buffer.len() as u64)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }
}

/// The error for a file of a copy that cannot be used.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::new(Code::DataCorrupted, format!("history file \"{}\" cannot be read: {what}", path.display()))
        .hint("It is a derived copy: remove its folder, and it is made again.")
}
