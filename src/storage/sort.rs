//! Sorts rows by their leading columns (user, time, …), in bounded memory.
//!
//! Life of a row: it waits in a chunk → the chunk is sorted and, unless it is the only one, written as a run (Arrow IPC
//! in the spill folder) while the next chunk fills → all runs are merged in one pass, as often as the result is read. At
//! most two chunks and one small batch of each run are in memory, all of it accounted in the pool. The engine's own sort
//! merges in memory what it may not spill, and fails on sources many times larger than the pool.
//!
//! Rows without user or time come out somewhere: whoever reads the result leaves them out.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use datafusion::arrow::compute::{SortOptions, cast, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
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
use tokio::task::JoinHandle;

/// Rows of a batch in a run: one of each run is in memory while they are merged.
const RUN_BATCH_ROWS: usize = 1024;
/// A chunk's share of the pool, and its bounds in bytes.
const CHUNKS_IN_POOL: usize = 24;
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = (4 << 20)..=(64 << 20);
/// While a chunk is sorted it exists as it came, joined and in order.
const COPIES_WHILE_SORTED: usize = 3;
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
    sorting: Option<JoinHandle<Result<Arc<dyn SpillFile>>>>,
    runs: Vec<Arc<dyn SpillFile>>,
}

/// Rows in order, to be read any number of times. What it holds, in memory or on the disk, goes with it.
pub(super) struct Sorted {
    schema: SchemaRef,
    keys: usize,
    spill: SpillManager,
    runs: Vec<Arc<dyn SpillFile>>,
    /// The only chunk: few rows never see the disk.
    chunk: Vec<RecordBatch>,
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
            spill: SpillManager::new(Arc::clone(env), SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0), Arc::clone(&schema)),
            memory: MemoryConsumer::new("event sort").register(&env.memory_pool),
            chunk_bytes: share.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()),
            keys: keys.min(schema.fields().len()),
            schema,
            chunk: Vec::new(),
            bytes: 0,
            sorting: None,
            runs: Vec::new(),
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

    /// Starts sorting the chunk, once the one before is written.
    async fn spill_chunk(&mut self) -> Result<()> {
        self.written().await?;
        let (chunk, memory) = self.take_chunk()?;
        let (schema, spill, keys) = (Arc::clone(&self.schema), self.spill.clone(), self.keys);
        self.sorting = Some(tokio::task::spawn_blocking(move || {
            let batches = sorted(&schema, chunk, keys)?;
            let mut file = spill.create_in_progress_file("event run").map_err(Error::from_engine)?;
            for batch in batches {
                file.append_batch(&batch?).map_err(Error::from_engine)?;
            }
            drop(memory);
            file.finish().map_err(Error::from_engine)?.ok_or_else(|| Error::internal("a run of no rows"))
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

    async fn written(&mut self) -> Result<()> {
        if let Some(sorting) = self.sorting.take() {
            self.runs.push(sorting.await.map_err(|error| Error::internal(format!("sorting ended early: {error}")))??);
        }
        Ok(())
    }

    /// All rows, in order.
    pub(super) async fn finish(mut self) -> Result<Sorted> {
        let mut chunk = Vec::new();
        if self.runs.is_empty() && self.sorting.is_none() {
            let (rows, memory) = self.take_chunk()?;
            if !rows.is_empty() {
                let (schema, keys) = (Arc::clone(&self.schema), self.keys);
                let work = move || sorted(&schema, rows, keys)?.collect::<Result<Vec<_>>>();
                let done = tokio::task::spawn_blocking(work).await;
                chunk = done.map_err(|error| Error::internal(format!("sorting ended early: {error}")))??;
            }
            memory.resize(chunk.iter().map(RecordBatch::get_array_memory_size).sum());
            self.memory = memory;
        } else {
            if !self.chunk.is_empty() {
                self.spill_chunk().await?;
            }
            self.written().await?;
        }
        let Self { schema, keys, spill, runs, memory, .. } = self;
        Ok(Sorted { schema, keys, spill, runs, chunk, memory })
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
        let open = |run: &Arc<dyn SpillFile>| self.spill.read_spill_as_stream_unbuffered(Arc::clone(run), None);
        let streams = self.runs.iter().map(open).collect::<datafusion::error::Result<Vec<_>>>();
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

/// What a row is compared by first.
#[derive(Clone, Copy)]
struct Key {
    /// Keeps the order of users; equal for texts that begin alike.
    user: u64,
    time: i64,
    row: u32,
}

/// The rows of a chunk in order, in small batches.
fn sorted(schema: &SchemaRef, chunk: Vec<RecordBatch>, keys: usize) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
    let failed = |error: ArrowError| Error::internal(format!("event sort: {error}"));
    let rows = concat_batches(schema, &chunk).map_err(failed)?;
    drop(chunk);
    let order = order(&rows, keys).map_err(failed)?;
    let starts = (0..order.len()).step_by(RUN_BATCH_ROWS);
    Ok(starts.map(move |start| {
        let end = (start + RUN_BATCH_ROWS).min(order.len());
        let wanted: UInt32Array = order[start..end].iter().map(|key| key.row).collect();
        take_record_batch(&rows, &wanted).map(compact).map_err(failed)
    }))
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
