//! The ids of events, kept so that a later statement finds its duplicates.
//!
//! An id is 128 bits of BLAKE3 of the event's id: equal ids are the same event, since nobody can make two that collide.
//! Each commit's ids lie in one file, ascending, in blocks of 64 KiB that carry their checksum; a trailer says how many.
//! Hashes are spread evenly, so the block that can hold an id is computed, not searched: a few new events read one or
//! two blocks of each file, many read the files once, from front to back.
//!
//! Incoming ids are sorted with the number of their row ([`IdSorter`], spilling), then compared in that order
//! ([`duplicates`]): of equal ones the first row is kept. Memory: one chunk of ids, one window of each file, and a bitmap
//! of the rows that are dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SpillFile;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use portrait_udfs::error::{Code, Error, Result};
use roaring::RoaringTreemap;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use crate::error::of_io;
use crate::storage::store_error;

/// The event that is meant.
pub(super) type EventId = u128;
/// An id and the number of the row that brought it.
type Entry = (EventId, u64);

const ID_BYTES: usize = 16;
const CHECK_BYTES: usize = 16;
/// A block: its checksum and its ids.
const BLOCK_IDS: usize = 4095;
const BLOCK_BYTES: usize = CHECK_BYTES + BLOCK_IDS * ID_BYTES;
/// Magic, version, ids, rows, checksum of these.
const TRAILER_BYTES: usize = 8 + 8 + 8 + 8 + CHECK_BYTES;
const MAGIC: &[u8; 8] = b"PORTRIDS";
const VERSION: u64 = 1;
/// Blocks that are read at once when the next one is wanted anyway.
const BLOCKS_AHEAD: u64 = 16;
/// Ids that are compared at once.
const CHUNK_IDS: usize = 64 * 1024;
/// An entry in a spilled run.
const ENTRY_BYTES: usize = ID_BYTES + 8;
/// A chunk's share of the memory pool, and its bounds in bytes.
const CHUNKS_IN_POOL: usize = 24;
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = (1 << 20)..=(64 << 20);

/// What tells events apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdSource {
    /// A column.
    Column(usize),
    /// These columns together, as text: for rows that may have no id.
    Row(Vec<usize>),
}

impl IdSource {
    /// The columns that it reads.
    pub(super) fn columns(&self) -> Vec<usize> {
        match self {
            Self::Column(index) => vec![*index],
            Self::Row(columns) => columns.clone(),
        }
    }

    /// The same source for rows that have one more column before all others.
    pub(super) fn behind_one(&self) -> Self {
        match self {
            Self::Column(index) => Self::Column(index + 1),
            Self::Row(columns) => Self::Row(columns.iter().map(|index| index + 1).collect()),
        }
    }

    /// The same source for rows that have [`columns`](Self::columns) alone.
    pub(super) fn projected(&self) -> Self {
        match self {
            Self::Column(_) => Self::Column(0),
            Self::Row(columns) => Self::Row((0..columns.len()).collect()),
        }
    }

    /// The ids of all rows. NULL is an id of its own: whoever asks leaves such rows out.
    pub(super) fn ids(&self, rows: &RecordBatch) -> Result<Vec<EventId>> {
        let failed = |error: datafusion::arrow::error::ArrowError| Error::internal(format!("event ids: {error}"));
        match self {
            Self::Column(index) => {
                let column = rows.column(*index);
                match column.data_type() {
                    found if found.is_signed_integer() => {
                        let numbers = cast(column, &DataType::Int64).map_err(failed)?;
                        Ok(numbers.as_primitive::<Int64Type>().values().iter().map(|id| hash(&id.to_le_bytes())).collect())
                    }
                    DataType::BinaryView => Ok(column.as_binary_view().iter().map(|id| hash(id.unwrap_or_default())).collect()),
                    _ => {
                        let texts = cast(column, &DataType::Utf8View).map_err(failed)?;
                        Ok(texts.as_string_view().iter().map(|id| hash(id.unwrap_or_default().as_bytes())).collect())
                    }
                }
            }
            Self::Row(columns) => {
                let options = FormatOptions::default();
                let formatters = columns.iter().map(|&index| ArrayFormatter::try_new(rows.column(index).as_ref(), &options));
                let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(failed)?;
                Ok((0..rows.num_rows()).map(|row| row_id(rows, columns, &formatters, row)).collect())
            }
        }
    }
}

fn row_id(rows: &RecordBatch, columns: &[usize], formatters: &[ArrayFormatter<'_>], row: usize) -> EventId {
    let mut hasher = blake3::Hasher::new();
    for (&index, formatter) in columns.iter().zip(formatters) {
        if rows.column(index).is_null(row) {
            hasher.update(&[0]);
            continue;
        }
        let text = formatter.value(row).to_string();
        hasher.update(&[1]).update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    first_bytes(&hasher.finalize())
}

fn hash(id: &[u8]) -> EventId {
    first_bytes(&blake3::hash(id))
}

fn first_bytes(hash: &blake3::Hash) -> EventId {
    let mut bytes = [0; ID_BYTES];
    bytes.copy_from_slice(&hash.as_bytes()[..ID_BYTES]);
    EventId::from_be_bytes(bytes)
}

/// Takes ids in any order, numbered as they come.
pub(super) struct IdSorter {
    env: Arc<RuntimeEnv>,
    memory: MemoryReservation,
    chunk: Vec<Entry>,
    chunk_entries: usize,
    sorting: Option<JoinHandle<Result<Arc<dyn SpillFile>>>>,
    runs: Vec<Arc<dyn SpillFile>>,
}

/// Ids in order, with the numbers of their rows; read any number of times.
pub(super) struct SortedIds {
    runs: Vec<Arc<dyn SpillFile>>,
    chunk: Arc<Vec<Entry>>,
    _memory: MemoryReservation,
}

impl IdSorter {
    pub(super) fn new(env: &Arc<RuntimeEnv>) -> Self {
        let share = match env.memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / CHUNKS_IN_POOL,
            _ => *CHUNK_BYTES.end(),
        };
        let bytes = share.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        Self {
            env: Arc::clone(env),
            memory: MemoryConsumer::new("event ids").register(&env.memory_pool),
            chunk: Vec::new(),
            chunk_entries: bytes / size_of::<Entry>(),
            sorting: None,
            runs: Vec::new(),
        }
    }

    /// Takes the ids of rows with these numbers.
    pub(super) async fn add(&mut self, ids: &[EventId], numbers: &[u64]) -> Result<()> {
        if self.chunk.len() + ids.len() > self.chunk_entries && !self.chunk.is_empty() {
            self.spill_chunk().await?;
        }
        self.memory.try_grow(std::mem::size_of_val(ids) * 2).map_err(Error::from_engine)?;
        self.chunk.extend(ids.iter().copied().zip(numbers.iter().copied()));
        Ok(())
    }

    async fn spill_chunk(&mut self) -> Result<()> {
        self.written().await?;
        let (mut chunk, memory, env) = (std::mem::take(&mut self.chunk), self.memory.take(), Arc::clone(&self.env));
        self.sorting = Some(tokio::task::spawn_blocking(move || {
            chunk.sort_unstable();
            let file = env.disk_manager.create_tmp_file("event ids").map_err(Error::from_engine)?;
            let mut writer = file.open_writer().map_err(Error::from_engine)?;
            let mut buffer = Vec::with_capacity(CHUNK_IDS * ENTRY_BYTES);
            for entries in chunk.chunks(CHUNK_IDS) {
                buffer.clear();
                entries.iter().for_each(|(id, row)| {
                    buffer.extend_from_slice(&id.to_be_bytes());
                    buffer.extend_from_slice(&row.to_be_bytes());
                });
                writer.write_all(&buffer).map_err(|error| of_io(&error))?;
            }
            writer.finish().map_err(Error::from_engine)?;
            drop(memory);
            Ok(file)
        }));
        Ok(())
    }

    async fn written(&mut self) -> Result<()> {
        if let Some(sorting) = self.sorting.take() {
            self.runs.push(sorting.await.map_err(|error| Error::internal(format!("sorting ids ended early: {error}")))??);
        }
        Ok(())
    }

    /// All ids, in order.
    pub(super) async fn finish(mut self) -> Result<SortedIds> {
        if self.runs.is_empty() && self.sorting.is_none() {
            self.chunk.sort_unstable();
        } else if !self.chunk.is_empty() {
            self.spill_chunk().await?;
        }
        self.written().await?;
        Ok(SortedIds { runs: self.runs, chunk: Arc::new(self.chunk), _memory: self.memory })
    }
}

impl SortedIds {
    fn merged(&self) -> Result<Merged> {
        let mut sources = Vec::new();
        if !self.chunk.is_empty() {
            sources.push(Source::Chunk(Arc::clone(&self.chunk), 0));
        }
        for run in &self.runs {
            let path = run.path().ok_or_else(|| Error::internal("spilled ids have no file"))?;
            sources.push(Source::Run(BufReader::with_capacity(BLOCK_BYTES, File::open(path)?)));
        }
        let mut merged = Merged { sources, heads: BinaryHeap::new() };
        for at in 0..merged.sources.len() {
            merged.advance(at)?;
        }
        Ok(merged)
    }
}

enum Source {
    Chunk(Arc<Vec<Entry>>, usize),
    Run(BufReader<File>),
}

impl Source {
    fn next(&mut self) -> Result<Option<Entry>> {
        match self {
            Self::Chunk(entries, at) => {
                *at += 1;
                Ok(entries.get(*at - 1).copied())
            }
            Self::Run(reader) => {
                let (mut id, mut row) = ([0; ID_BYTES], [0; 8]);
                match reader.read_exact(&mut id) {
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                    read => read?,
                }
                reader.read_exact(&mut row)?;
                Ok(Some((EventId::from_be_bytes(id), u64::from_be_bytes(row))))
            }
        }
    }
}

/// Several sorted sources as one.
struct Merged {
    sources: Vec<Source>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Merged {
    fn advance(&mut self, at: usize) -> Result<()> {
        if let Some(entry) = self.sources[at].next()? {
            self.heads.push(Reverse((entry, at)));
        }
        Ok(())
    }

    /// The next entries; empty at the end.
    fn take(&mut self, count: usize) -> Result<Vec<Entry>> {
        let mut taken = Vec::with_capacity(count.min(CHUNK_IDS));
        while taken.len() < count {
            let Some(Reverse((entry, at))) = self.heads.pop() else { break };
            taken.push(entry);
            self.advance(at)?;
        }
        Ok(taken)
    }
}

/// The rows of `incoming` whose id another row before them has, or one of `known`; what is new goes to `writer`.
///
/// # Errors
/// XX001 when a file of ids is damaged; it then says so itself ([`StoredIds::is_damaged`]).
pub(super) async fn duplicates(incoming: &SortedIds, known: &[Arc<StoredIds>], writer: &mut IdsWriter) -> Result<RoaringTreemap> {
    let mut dropped = RoaringTreemap::new();
    let mut merged = incoming.merged()?;
    let mut cursors: Vec<Cursor> = known.iter().map(|ids| Cursor::new(Arc::clone(ids))).collect();
    let mut last = None;
    loop {
        let taken = tokio::task::spawn_blocking(move || merged.take(CHUNK_IDS).map(|entries| (merged, entries))).await;
        let (rest, entries) = taken.map_err(|error| Error::internal(format!("comparing ids ended early: {error}")))??;
        merged = rest;
        if entries.is_empty() {
            return Ok(dropped);
        }
        let mut fresh: Vec<Entry> = Vec::with_capacity(entries.len());
        for (id, row) in entries {
            if last == Some(id) {
                dropped.insert(row);
            } else {
                fresh.push((id, row));
            }
            last = Some(id);
        }
        let mut found = vec![false; fresh.len()];
        for cursor in &mut cursors {
            cursor.find(&fresh, &mut found).await?;
        }
        for ((id, row), found) in fresh.into_iter().zip(found) {
            if found {
                dropped.insert(row);
            } else {
                writer.push(id).await?;
            }
        }
    }
}

/// A file of ids.
#[derive(Debug)]
pub(crate) struct StoredIds {
    store: Arc<dyn ObjectStore>,
    location: Path,
    count: u64,
    rows: u64,
    damaged: AtomicBool,
}

impl StoredIds {
    /// Opens the file at `location`; `None` when there is none, or none that can be used.
    pub(super) async fn open(store: &Arc<dyn ObjectStore>, location: &Path) -> Result<Option<Self>> {
        let size = match store.head(location).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store_error(error)),
        };
        let Some(start) = size.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let trailer = store.get_range(location, start..size).await.map_err(store_error)?;
        let found = read_trailer(&trailer).filter(|(count, _)| bytes_of(*count) == Some(start));
        let (store, location) = (Arc::clone(store), location.clone());
        Ok(found.map(|(count, rows)| Self { store, location, count, rows, damaged: AtomicBool::new(false) }))
    }

    /// How many rows of data files it speaks for.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Where it lies.
    pub(crate) fn location(&self) -> &Path {
        &self.location
    }

    /// Whether a block of it was found damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn blocks(&self) -> u64 {
        self.count.div_ceil(BLOCK_IDS as u64)
    }

    /// The ids of blocks `from..to`.
    async fn read(&self, from: u64, to: u64) -> Result<Vec<EventId>> {
        let end = bytes_of(self.count).unwrap_or_default().min(to * BLOCK_BYTES as u64);
        let bytes = self.store.get_range(&self.location, from * BLOCK_BYTES as u64..end).await.map_err(store_error)?;
        let mut ids = Vec::with_capacity(bytes.len() / ID_BYTES);
        for block in bytes.chunks(BLOCK_BYTES) {
            let (check, rest) = block.split_at_checked(CHECK_BYTES).unwrap_or((&[], block));
            if checksum(rest) != check {
                self.damaged.store(true, Ordering::Relaxed);
                return Err(Error::new(Code::DataCorrupted, format!("file \"{}\" is damaged: a checksum is wrong", self.location)));
            }
            ids.extend(rest.as_chunks::<ID_BYTES>().0.iter().map(|id| EventId::from_be_bytes(*id)));
        }
        Ok(ids)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    first_bytes(&blake3::hash(bytes)).to_be_bytes()
}

/// The bytes of `count` ids in blocks.
fn bytes_of(count: u64) -> Option<u64> {
    count.checked_mul(ID_BYTES as u64)?.checked_add(count.div_ceil(BLOCK_IDS as u64) * CHECK_BYTES as u64)
}

/// How many ids and rows there are.
fn read_trailer(trailer: &[u8]) -> Option<(u64, u64)> {
    let (body, check) = trailer.split_at_checked(TRAILER_BYTES - CHECK_BYTES)?;
    let number = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let sound = check == checksum(body) && body.starts_with(MAGIC) && number(8)? == VERSION;
    sound.then(|| Some((number(16)?, number(24)?))).flatten()
}

/// Looks ids up in a file, ascending.
struct Cursor {
    ids: Arc<StoredIds>,
    window: Vec<EventId>,
    /// The blocks of the window.
    from: u64,
    to: u64,
}

impl Cursor {
    fn new(ids: Arc<StoredIds>) -> Self {
        Self { ids, window: Vec::new(), from: 0, to: 0 }
    }

    /// Marks those of `wanted` (ascending, and after those of the call before) that the file holds.
    async fn find(&mut self, wanted: &[Entry], found: &mut [bool]) -> Result<()> {
        for ((id, _), found) in wanted.iter().zip(found) {
            if !*found {
                *found = self.holds(*id).await?;
            }
        }
        Ok(())
    }

    async fn holds(&mut self, id: EventId) -> Result<bool> {
        if !self.window.is_empty() && self.is_before(id) {
            return Ok(self.window.binary_search(&id).is_ok());
        }
        // Every block before `low` ends before the id.
        let (mut low, blocks) = (self.to, self.ids.blocks());
        while low < blocks {
            let guess = self.guess(id).clamp(low, blocks - 1);
            self.load(guess).await?;
            if !self.is_before(id) {
                low = self.to;
                continue;
            }
            while self.window.first().is_some_and(|first| id < *first) && self.from > low {
                self.load(self.from - 1).await?;
            }
            return Ok(self.window.binary_search(&id).is_ok());
        }
        Ok(false)
    }

    /// Whether the window reaches as far as `id`.
    fn is_before(&self, id: EventId) -> bool {
        self.window.last().is_some_and(|last| id <= *last)
    }

    /// The block where an evenly spread id lies.
    fn guess(&self, id: EventId) -> u64 {
        let place = ((id >> 64) * u128::from(self.ids.count)) >> 64;
        u64::try_from(place / BLOCK_IDS as u128).unwrap_or(u64::MAX)
    }

    async fn load(&mut self, block: u64) -> Result<()> {
        // What comes next is read ahead; a jump reads one block.
        let ahead = if block == self.to { BLOCKS_AHEAD } else { 1 };
        let to = (block + ahead).min(self.ids.blocks());
        self.window = self.ids.read(block, to).await?;
        (self.from, self.to) = (block, to);
        Ok(())
    }
}

/// Writes a file of ids, ascending.
pub(super) struct IdsWriter {
    output: BufWriter,
    block: Vec<u8>,
    count: u64,
}

impl IdsWriter {
    pub(super) fn new(store: &Arc<dyn ObjectStore>, location: Path) -> Self {
        Self { output: BufWriter::new(Arc::clone(store), location), block: Vec::with_capacity(BLOCK_BYTES), count: 0 }
    }

    /// Takes the next id.
    pub(super) async fn push(&mut self, id: EventId) -> Result<()> {
        self.block.extend_from_slice(&id.to_be_bytes());
        self.count += 1;
        if self.block.len() == BLOCK_IDS * ID_BYTES { self.write_block().await } else { Ok(()) }
    }

    async fn write_block(&mut self) -> Result<()> {
        self.output.write_all(&checksum(&self.block)).await.map_err(|error| of_io(&error))?;
        self.output.write_all(&self.block).await.map_err(|error| of_io(&error))?;
        self.block.clear();
        Ok(())
    }

    /// Completes the file, durably. It speaks for so many rows: as many as there are ids, unless ids are doubled in data
    /// that another program wrote.
    pub(super) async fn finish(mut self, rows: u64) -> Result<()> {
        if !self.block.is_empty() {
            self.write_block().await?;
        }
        let mut trailer = MAGIC.to_vec();
        trailer.extend_from_slice(&VERSION.to_be_bytes());
        trailer.extend_from_slice(&self.count.to_be_bytes());
        trailer.extend_from_slice(&rows.to_be_bytes());
        let check = checksum(&trailer);
        trailer.extend_from_slice(&check);
        self.output.write_all(&trailer).await.map_err(|error| of_io(&error))?;
        self.output.shutdown().await.map_err(|error| of_io(&error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn entries(ids: impl IntoIterator<Item = u64>) -> Vec<EventId> {
        ids.into_iter().map(|id| hash(&id.to_le_bytes())).collect()
    }

    async fn sorted(env: &Arc<RuntimeEnv>, batches: &[Vec<EventId>]) -> SortedIds {
        let (mut sorter, mut row) = (IdSorter::new(env), 0);
        sorter.chunk_entries = 5_000;
        for batch in batches {
            let numbers: Vec<u64> = (row..).take(batch.len()).collect();
            sorter.add(batch, &numbers).await.unwrap();
            row += batch.len() as u64;
        }
        sorter.finish().await.unwrap()
    }

    async fn store(store: &Arc<dyn ObjectStore>, name: &str, incoming: &SortedIds, known: &[Arc<StoredIds>]) -> RoaringTreemap {
        let mut writer = IdsWriter::new(store, Path::from(name));
        let dropped = duplicates(incoming, known, &mut writer).await.unwrap();
        writer.finish(7).await.unwrap();
        dropped
    }

    #[tokio::test]
    async fn each_id_is_kept_once() {
        let (env, memory) = (Arc::new(RuntimeEnv::default()), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
        let mut known = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut state = 1_u64;
        for commit in 0..6 {
            let many = if commit % 2 == 0 { 20_000 } else { 7 };
            let ids = (0..many).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % 40_000
            });
            let ids: Vec<u64> = ids.collect();
            let expected: RoaringTreemap = (0_u64..).zip(&ids).filter(|(_, id)| !seen.insert(**id)).map(|(row, _)| row).collect();
            let batches: Vec<_> = entries(ids).chunks(1_000).map(<[EventId]>::to_vec).collect();
            let name = format!("{commit}.ids");
            let dropped = store(&memory, &name, &sorted(&env, &batches).await, &known).await;
            assert_eq!(dropped, expected);
            let opened = StoredIds::open(&memory, &Path::from(name)).await.unwrap().unwrap();
            assert_eq!((opened.count, opened.rows()), (many - expected.len(), 7));
            known.push(Arc::new(opened));
        }
        assert_eq!(known.iter().map(|ids| ids.count).sum::<u64>(), seen.len() as u64);
        assert_eq!(env.memory_pool.reserved(), 0);
    }

    #[tokio::test]
    async fn a_damaged_file_is_noticed() {
        let (env, memory) = (Arc::new(RuntimeEnv::default()), Arc::new(InMemory::new()) as Arc<dyn ObjectStore>);
        let incoming = sorted(&env, &[entries(0..5_000)]).await;
        let path = Path::from("a.ids");
        store(&memory, "a.ids", &incoming, &[]).await;
        let whole = memory.get(&path).await.unwrap().bytes().await.unwrap();
        for place in (0..whole.len()).step_by(997).chain(whole.len() - TRAILER_BYTES..whole.len()) {
            let mut flipped = whole.to_vec();
            flipped[place] ^= 4;
            memory.put(&path, flipped.into()).await.unwrap();
            let Some(opened) = StoredIds::open(&memory, &path).await.unwrap() else { continue };
            let opened = Arc::new(opened);
            let mut writer = IdsWriter::new(&memory, Path::from("b.ids"));
            assert!(duplicates(&incoming, &[Arc::clone(&opened)], &mut writer).await.is_err(), "byte {place}");
            assert!(opened.is_damaged());
        }
        memory.put(&path, whole.slice(..whole.len() - 1).into()).await.unwrap();
        assert!(StoredIds::open(&memory, &path).await.unwrap().is_none());
    }

    #[test]
    fn rows_without_ids_have_one_of_their_values() {
        use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("a", Arc::new(Int64Array::from(vec![Some(1), Some(1), None, None])) as ArrayRef, true),
            ("b", Arc::new(StringArray::from(vec![Some("x"), Some("x"), Some("x"), None])) as ArrayRef, true),
        ])
        .unwrap();
        let ids = IdSource::Row(vec![0, 1]).ids(&rows).unwrap();
        assert_eq!(ids[0], ids[1]);
        assert!(ids[0] != ids[2] && ids[2] != ids[3]);
    }
}
