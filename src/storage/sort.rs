//! Sorts rows by their leading columns (user, time, …), in bounded memory.
//!
//! Life of a row: it waits in a chunk → the chunk is sorted while the next ones fill, and is a run: kept in memory as long as most of
//! the pool is free, else written to the spill folder (Arrow IPC) → all runs are merged in one pass, as often as the result is read.
//! Besides the runs that are kept, at most [`SORTERS_MAX`] chunks, the one that fills and a few small batches of each run are in
//! memory, all of it accounted in the pool. The engine's own sort merges in memory what it may not spill, and fails on sources many
//! times larger than the pool.
//!
//! Rows with whole numbers as users and a time are sorted by digits and merged by numbers ([`super::run_merge`]); others, such as
//! those with texts as users, by comparing.
//!
//! Rows without user or time come out somewhere: whoever reads the result leaves them out.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use datafusion::arrow::compute::{SortOptions, cast, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SpillFile};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use portrait_udfs::error::{Error, Result};
use portrait_udfs::kernels::key_order::key_order;
use tokio::task::JoinHandle;

use super::run_merge::merge_runs;

/// Rows of a batch in a run: one of each run is in memory while they are merged.
const RUN_BATCH_ROWS: usize = 1024;
/// Batches of a run that are read before they are merged: a merge that waits for the disk each time takes twice as long.
pub(super) const BATCHES_READ_AHEAD: usize = 1;
/// A chunk's share of the pool, and its bounds in bytes.
const CHUNKS_IN_POOL: usize = 24;
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = (4 << 20)..=(64 << 20);
/// Chunks that are sorted at once, at most; fewer where there are fewer processors.
const SORTERS_MAX: usize = 3;
/// While a chunk is sorted it exists as it came, joined and in order.
const COPIES_WHILE_SORTED: usize = 3;
/// Runs are kept in memory while less than this share of the pool is taken, by whomever.
const KEPT_SHARE: usize = 3;
/// The same of a pool without end.
const KEPT_BYTES: usize = 1 << 30;
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// The rows of `input` in the order of all its columns. `seen` hears of rows as they are read.
pub(super) async fn in_order(
    env: &Arc<RuntimeEnv>,
    mut input: SendableRecordBatchStream,
    mut seen: impl FnMut(usize),
) -> Result<SendableRecordBatchStream> {
    let schema = input.schema();
    let mut sorter = Sorter::new(env, Arc::clone(&schema), schema.fields().len());
    while let Some(batch) = input.next().await {
        let batch = batch.map_err(Error::from_engine)?;
        seen(batch.num_rows());
        sorter.add(batch).await?;
    }
    drop(input);
    Arc::new(sorter.finish().await?).rows()
}

/// Takes rows in any order.
pub(super) struct Sorter {
    schema: SchemaRef,
    /// How many leading columns make the order.
    keys: usize,
    spill: SpillManager,
    memory: MemoryReservation,
    chunk_bytes: usize,
    chunk: Vec<RecordBatch>,
    bytes: usize,
    /// Chunks that are being sorted, in the order in which they came.
    sorting: VecDeque<JoinHandle<Result<(Run, Option<Plain>)>>>,
    sorters: usize,
    runs: Vec<Run>,
    room: Room,
    /// Whether all runs up to now are plainly ordered, and the number of the last row.
    plain: Option<Plain>,
}

/// A chunk whose order is that of a number and a time, and then of the rows as they came: the numbers of its first and last row,
/// where they have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plain {
    rows: Option<(u64, u64)>,
}

impl Plain {
    /// Both, this one first; `None` when rows of the other one may come before.
    fn then(self, next: Self) -> Option<Self> {
        match (self.rows, next.rows) {
            (None, None) => Some(self),
            (Some((first, last)), Some((next, end))) if last < next => Some(Self { rows: Some((first, end)) }),
            _ => None,
        }
    }
}

/// A sorted chunk.
enum Run {
    Kept(Arc<KeptRun>),
    Spilled(Arc<dyn SpillFile>),
}

/// Its rows, and what they take.
struct KeptRun {
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

/// Says whether a run may stay in memory.
#[derive(Clone)]
struct Room {
    pool: Arc<dyn MemoryPool>,
    bytes: usize,
}

impl Room {
    fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        let bytes = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / KEPT_SHARE,
            _ => KEPT_BYTES,
        };
        Self { pool: Arc::clone(pool), bytes }
    }

    fn is_left(&self) -> bool {
        self.pool.reserved() < self.bytes
    }
}

/// Rows in order, to be read any number of times. What it holds, in memory or on the disk, goes with it.
pub(super) struct Sorted {
    schema: SchemaRef,
    keys: usize,
    spill: SpillManager,
    runs: Vec<Run>,
    /// The only chunk: few rows never see the disk.
    chunk: Vec<RecordBatch>,
    /// Whether runs can be merged by numbers.
    plain: bool,
    memory: MemoryReservation,
}

impl Sorter {
    /// Sorts rows of `schema` by the first `keys` columns.
    pub(super) fn new(env: &Arc<RuntimeEnv>, schema: SchemaRef, keys: usize) -> Self {
        let share = match env.memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / CHUNKS_IN_POOL,
            _ => *CHUNK_BYTES.end(),
        };
        Self {
            spill: SpillManager::new(Arc::clone(env), SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0), Arc::clone(&schema))
                .with_batch_read_buffer_capacity(BATCHES_READ_AHEAD),
            memory: MemoryConsumer::new("event sort").register(&env.memory_pool),
            chunk_bytes: share.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()),
            keys: keys.min(schema.fields().len()),
            schema,
            chunk: Vec::new(),
            bytes: 0,
            sorting: VecDeque::new(),
            sorters: std::thread::available_parallelism().map_or(1, usize::from).min(SORTERS_MAX),
            runs: Vec::new(),
            room: Room::new(&env.memory_pool),
            plain: None,
        }
    }

    /// Takes rows.
    pub(super) async fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let bytes = batch.get_array_memory_size();
        if self.bytes + bytes > self.chunk_bytes && !self.chunk.is_empty() {
            self.spill_chunk().await?;
        }
        self.memory.try_grow(bytes).map_err(Error::from_engine)?;
        self.bytes += bytes;
        self.chunk.push(batch);
        Ok(())
    }

    /// Starts sorting the chunk, once fewer than may be are being sorted.
    async fn spill_chunk(&mut self) -> Result<()> {
        if self.sorting.len() >= self.sorters {
            self.written().await?;
        }
        let (chunk, memory) = self.take_chunk()?;
        let (schema, spill, keys, room) = (Arc::clone(&self.schema), self.spill.clone(), self.keys, self.room.clone());
        self.sorting.push_back(tokio::task::spawn_blocking(move || {
            let (batches, plain) = sorted(&schema, chunk, keys)?;
            let run = if room.is_left() { kept(batches, memory)? } else { spilled(&spill, batches)? };
            Ok((run, plain))
        }));
        Ok(())
    }

    /// The rows that wait, and the memory that sorting them takes.
    fn take_chunk(&mut self) -> Result<(Vec<RecordBatch>, MemoryReservation)> {
        let memory = self.memory.take();
        memory.try_grow(self.bytes * (COPIES_WHILE_SORTED - 1)).map_err(Error::from_engine)?;
        self.bytes = 0;
        Ok((std::mem::take(&mut self.chunk), memory))
    }

    /// Waits for the chunk that is being sorted for longest.
    async fn written(&mut self) -> Result<()> {
        if let Some(sorting) = self.sorting.pop_front() {
            let (run, plain) = sorting.await.map_err(|error| Error::internal(format!("sorting ended early: {error}")))??;
            self.plain = if self.runs.is_empty() { plain } else { self.plain.zip(plain).and_then(|(before, next)| before.then(next)) };
            self.runs.push(run);
        }
        Ok(())
    }

    /// All rows, in order.
    pub(super) async fn finish(mut self) -> Result<Sorted> {
        let mut chunk = Vec::new();
        if self.runs.is_empty() && self.sorting.is_empty() {
            let (rows, memory) = self.take_chunk()?;
            if !rows.is_empty() {
                let (schema, keys) = (Arc::clone(&self.schema), self.keys);
                let work = move || sorted(&schema, rows, keys)?.0.collect::<Result<Vec<_>>>();
                let done = tokio::task::spawn_blocking(work).await;
                chunk = done.map_err(|error| Error::internal(format!("sorting ended early: {error}")))??;
            }
            memory.resize(chunk.iter().map(RecordBatch::get_array_memory_size).sum());
            self.memory = memory;
        } else {
            if !self.chunk.is_empty() {
                self.spill_chunk().await?;
            }
            while !self.sorting.is_empty() {
                self.written().await?;
            }
        }
        let Self { schema, keys, spill, runs, memory, plain, .. } = self;
        Ok(Sorted { schema, keys, spill, runs, chunk, plain: plain.is_some(), memory })
    }
}

impl Sorted {
    /// The rows, from the first on.
    pub(super) fn rows(self: &Arc<Self>) -> Result<SendableRecordBatchStream> {
        if self.runs.is_empty() {
            let (held, schema) = (Arc::clone(self), Arc::clone(&self.schema));
            let rows = (0..self.chunk.len()).map(move |i| Ok(held.chunk[i].clone()));
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows))));
        }
        let streams = self.runs.iter().map(|run| self.open(run)).collect::<datafusion::error::Result<Vec<_>>>();
        if self.plain {
            let (streams, memory) = (streams.map_err(Error::from_engine)?, self.memory.new_empty());
            return Ok(merge_runs(&self.schema, streams, self.keys > 1, 8 * RUN_BATCH_ROWS, memory));
        }
        let keys = self.schema.fields().iter().enumerate().take(self.keys);
        let keys = keys.map(|(i, field)| PhysicalSortExpr::new(Arc::new(Column::new(field.name(), i)), ASCENDING));
        let order = LexOrdering::new(keys).ok_or_else(|| Error::internal("rows without columns cannot be sorted"))?;
        StreamingMergeBuilder::new()
            .with_streams(streams.map_err(Error::from_engine)?)
            .with_schema(Arc::clone(&self.schema))
            .with_expressions(&order)
            .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
            .with_batch_size(8 * RUN_BATCH_ROWS)
            .with_reservation(self.memory.new_empty())
            .build()
            .map_err(Error::from_engine)
    }
}

impl Sorted {
    fn open(&self, run: &Run) -> datafusion::error::Result<SendableRecordBatchStream> {
        match run {
            Run::Spilled(file) => self.spill.read_spill_as_stream(Arc::clone(file), None),
            Run::Kept(run) => {
                let run = Arc::clone(run);
                let rows = (0..run.batches.len()).map(move |i| Ok(run.batches[i].clone()));
                Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(rows))))
            }
        }
    }
}

/// A run that stays in memory, of what was taken to sort it.
fn kept(batches: Batches, memory: MemoryReservation) -> Result<Run> {
    let batches = batches.collect::<Result<Vec<_>>>()?;
    memory.resize(batches.iter().map(RecordBatch::get_array_memory_size).sum());
    Ok(Run::Kept(Arc::new(KeptRun { batches, _memory: memory })))
}

fn spilled(spill: &SpillManager, batches: Batches) -> Result<Run> {
    let mut file = spill.create_in_progress_file("event run").map_err(Error::from_engine)?;
    for batch in batches {
        file.append_batch(&batch?).map_err(Error::from_engine)?;
    }
    let file = file.finish().map_err(Error::from_engine)?.ok_or_else(|| Error::internal("a run of no rows"))?;
    Ok(Run::Spilled(file))
}

/// What a row is compared by first.
#[derive(Clone, Copy)]
struct Key {
    /// Keeps the order of users; equal for texts that begin alike.
    user: u64,
    time: i64,
    row: u32,
}

/// The rows of a chunk in order, in small batches.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

fn sorted(schema: &SchemaRef, chunk: Vec<RecordBatch>, keys: usize) -> Result<(Batches, Option<Plain>)> {
    let failed = |error: ArrowError| Error::internal(format!("event sort: {error}"));
    let rows = concat_batches(schema, &chunk).map_err(failed)?;
    drop(chunk);
    let (order, plain) = match plain_order(&rows, keys)? {
        Some((order, plain)) => (order, Some(plain)),
        None => (order(&rows, keys).map_err(failed)?.iter().map(|key| key.row).collect(), None),
    };
    let starts = (0..order.len()).step_by(RUN_BATCH_ROWS);
    let batches = starts.map(move |start| {
        let end = (start + RUN_BATCH_ROWS).min(order.len());
        let wanted: UInt32Array = order[start..end].iter().copied().collect();
        take_record_batch(&rows, &wanted).map(compact).map_err(failed)
    });
    Ok((Box::new(batches), plain))
}

/// The order of rows by a whole number, a time and their own number, as far as they are sorted by these; `None` when the keys are
/// others.
fn plain_order(rows: &RecordBatch, keys: usize) -> Result<Option<(Vec<u32>, Plain)>> {
    let whole = |column: &ArrayRef| column.data_type().is_signed_integer() && column.null_count() == 0;
    if keys > 3 || !whole(rows.column(0)) {
        return Ok(None);
    }
    let times = match rows.columns().get(1).filter(|_| keys > 1).map(|time| time.as_primitive_opt::<TimestampMicrosecondType>()) {
        None => None,
        Some(Some(times)) if times.null_count() == 0 => Some(times.values()),
        Some(_) => return Ok(None),
    };
    let numbers = match rows.columns().get(2).filter(|_| keys > 2).map(|number| number.as_primitive_opt::<UInt64Type>()) {
        None => None,
        Some(Some(numbers)) if numbers.null_count() == 0 && numbers.values().is_sorted() => {
            numbers.values().first().zip(numbers.values().last())
        }
        Some(_) => return Ok(None),
    };
    let users = cast(rows.column(0), &DataType::Int64).map_err(|error| Error::internal(format!("event sort: {error}")))?;
    let order = key_order(users.as_primitive::<Int64Type>().values(), times.map(|times| &times[..]));
    Ok(Some((order, Plain { rows: numbers.map(|(first, last)| (*first, *last)) })))
}

fn order(rows: &RecordBatch, keys: usize) -> std::result::Result<Vec<Key>, ArrowError> {
    let compare = rows.columns().iter().take(keys).map(|column| make_comparator(column, column, ASCENDING));
    let compare: Vec<DynComparator> = compare.collect::<std::result::Result<_, _>>()?;
    let (user, time) = (rows.column(0), rows.columns().get(1).filter(|_| keys > 1));
    let users = prefixes(user)?;
    let times = time.and_then(|time| time.as_primitive_opt::<TimestampMicrosecondType>());
    let mut order: Vec<Key> = (0..rows.num_rows())
        .map(|row| Key {
            user: if user.is_null(row) { u64::MAX } else { users[row] },
            time: times.filter(|times| times.is_valid(row)).map_or(i64::MAX, |times| times.value(row)),
            row: row as u32,
        })
        .collect();
    let whole = user.data_type().is_signed_integer() && user.null_count() == 0;
    let exact = whole && times.is_some_and(|times| times.null_count() == 0);
    let rest = |columns: &[DynComparator], a: &Key, b: &Key| {
        let mut each = columns.iter().map(|compare| compare(a.row as usize, b.row as usize));
        each.find(|found| found.is_ne()).unwrap_or(Ordering::Equal)
    };
    if exact {
        order.sort_unstable_by(|a, b| (a.user, a.time).cmp(&(b.user, b.time)).then_with(|| rest(&compare[2..], a, b)));
    } else {
        order.sort_unstable_by(|a, b| a.user.cmp(&b.user).then_with(|| rest(&compare, a, b)));
    }
    Ok(order)
}

/// Of each user a number that keeps the order: the key itself, or the first bytes of a text; else always the same.
fn prefixes(user: &ArrayRef) -> std::result::Result<Vec<u64>, ArrowError> {
    let first_bytes = |text: Option<&str>| {
        let mut first = [0; 8];
        let text = text.unwrap_or_default().as_bytes();
        let length = text.len().min(8);
        first[..length].copy_from_slice(&text[..length]);
        u64::from_be_bytes(first)
    };
    if user.data_type().is_signed_integer() && user.data_type() != &DataType::Int64 {
        return prefixes(&cast(user, &DataType::Int64)?);
    }
    Ok(match user.data_type() {
        DataType::Int64 => user.as_primitive::<Int64Type>().values().iter().map(|key| (*key as u64) ^ (1 << 63)).collect(),
        DataType::Utf8 => user.as_string::<i32>().iter().map(first_bytes).collect(),
        DataType::LargeUtf8 => user.as_string::<i64>().iter().map(first_bytes).collect(),
        DataType::Utf8View => user.as_string_view().iter().map(first_bytes).collect(),
        _ => vec![0; user.len()],
    })
}

/// Taken views point into the whole chunk: their texts are copied.
fn compact(batch: RecordBatch) -> RecordBatch {
    if !batch.columns().iter().any(|column| column.data_type() == &DataType::Utf8View) {
        return batch;
    }
    let columns = batch.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(views) => Arc::new(views.gc()) as ArrayRef,
        None => Arc::clone(column),
    });
    RecordBatch::try_new(batch.schema(), columns.collect()).unwrap_or(batch)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use datafusion::arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array};
    use datafusion::arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    const ROWS: u64 = 400_000;
    const POOL_BYTES: usize = 60 << 20;

    /// A number that looks like chance.
    fn chance(row: u64, below: u64) -> u64 {
        portrait_udfs::kernels::splitmix::at(9, row) % below
    }

    /// Sorts rows of chance in chunks, the first of which stay in memory; the (user, time, number) of each, in order.
    async fn run(users: impl Fn(Range<u64>) -> ArrayRef, numbers: impl Fn(u64) -> u64) -> (bool, Vec<(String, i64, u64)>) {
        let env = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(POOL_BYTES))).build_arc().unwrap();
        let kind = users(0..1).data_type().clone();
        let schema = Arc::new(Schema::new(vec![
            Field::new("user", kind, true),
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("number", DataType::UInt64, false),
            Field::new("text", DataType::Utf8, false),
        ]));
        let mut sorter = Sorter::new(&env, Arc::clone(&schema), 3);
        for first in (0..ROWS).step_by(5_000) {
            let rows = first..first + 5_000;
            let users = users(rows.clone());
            let times = TimestampMicrosecondArray::from_iter_values(rows.clone().map(|row| chance(row + 7, 50) as i64));
            let number = UInt64Array::from_iter_values(rows.clone().map(&numbers));
            let texts = StringArray::from_iter_values(rows.map(|row| format!("the text of row {row}")));
            let columns = vec![users, Arc::new(times) as ArrayRef, Arc::new(number), Arc::new(texts)];
            sorter.add(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).await.unwrap();
        }
        let sorted = Arc::new(sorter.finish().await.unwrap());
        let kept = sorted.runs.iter().filter(|run| matches!(run, Run::Kept(_))).count();
        assert!(kept > 0 && sorted.runs.len() > kept + 1, "{kept} of {} runs are kept", sorted.runs.len());
        let (mut rows, mut found) = (sorted.rows().unwrap(), Vec::new());
        while let Some(batch) = rows.next().await {
            let batch = batch.unwrap();
            let users = cast(batch.column(0), &DataType::Utf8).unwrap();
            let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
            let numbers = batch.column(2).as_primitive::<UInt64Type>();
            for row in 0..batch.num_rows() {
                found.push((users.as_string::<i32>().value(row).to_owned(), times.value(row), numbers.value(row)));
            }
        }
        (sorted.plain, found)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn runs_are_merged_in_order_whatever_the_keys() {
        let whole = |rows: Range<u64>| Arc::new(Int64Array::from_iter_values(rows.map(|row| chance(row, 1000) as i64 - 500))) as ArrayRef;
        let name = |row: u64| format!("user-{:04}", chance(row, 1000));
        let text = |rows: Range<u64>| Arc::new(StringArray::from_iter_values(rows.map(name))) as ArrayRef;
        // Numbers as they are in a spool; and such as another writer may give.
        for numbers in [|row: u64| row, |row: u64| ROWS - row] {
            let mut expected: Vec<(i64, i64, u64)> =
                (0..ROWS).map(|row| (chance(row, 1000) as i64 - 500, chance(row + 7, 50) as i64, numbers(row))).collect();
            expected.sort_unstable();
            let (plain, found) = run(whole, numbers).await;
            assert_eq!(plain, numbers(0) == 0);
            assert!(
                found.len() == expected.len() && found.iter().zip(&expected).all(|(f, e)| (f.0.parse::<i64>().unwrap(), f.1, f.2) == *e)
            );
            let mut expected: Vec<(String, i64, u64)> =
                (0..ROWS).map(|row| (name(row), chance(row + 7, 50) as i64, numbers(row))).collect();
            expected.sort_unstable();
            let (plain, found) = run(text, numbers).await;
            assert!(!plain && found == expected);
        }
    }
}
