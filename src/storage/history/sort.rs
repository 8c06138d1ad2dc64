//! Sorts rows by user, time and then all other columns, in bounded memory.
//!
//! Life of a row: it waits in a chunk → the chunk is sorted and, unless it is the only one, written as a run (Arrow IPC
//! in the spill folder) while the next chunk fills → all runs are merged in one pass. At most two chunks and one small
//! batch of each run are in memory, all of it accounted in the pool. The engine's own sort merges in memory what it may
//! not spill, and fails on sources many times larger than the pool.
//!
//! Rows without user or time come out somewhere: whoever reads the result leaves them out.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use datafusion::arrow::compute::{SortOptions, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SpillFile};
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

/// The rows of `input` in order. `seen` hears of rows as they are read.
pub(super) async fn in_user_order(
    session: &SessionState,
    mut input: SendableRecordBatchStream,
    mut seen: impl FnMut(usize),
) -> Result<SendableRecordBatchStream> {
    let mut sorter = Sorter::new(session, input.schema());
    while let Some(batch) = input.next().await {
        let batch = batch.map_err(Error::from_engine)?;
        seen(batch.num_rows());
        sorter.add(batch).await?;
    }
    drop(input);
    sorter.finish().await
}

struct Sorter {
    schema: SchemaRef,
    spill: SpillManager,
    memory: MemoryReservation,
    chunk_bytes: usize,
    chunk: Vec<RecordBatch>,
    bytes: usize,
    sorting: Option<JoinHandle<Result<Arc<dyn SpillFile>>>>,
    runs: Vec<Arc<dyn SpillFile>>,
}

impl Sorter {
    fn new(session: &SessionState, schema: SchemaRef) -> Self {
        let env = session.runtime_env();
        let share = match env.memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / CHUNKS_IN_POOL,
            _ => *CHUNK_BYTES.end(),
        };
        Self {
            spill: SpillManager::new(Arc::clone(env), SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0), Arc::clone(&schema)),
            memory: MemoryConsumer::new("history sort").register(&env.memory_pool),
            chunk_bytes: share.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()),
            schema,
            chunk: Vec::new(),
            bytes: 0,
            sorting: None,
            runs: Vec::new(),
        }
    }

    async fn add(&mut self, batch: RecordBatch) -> Result<()> {
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
        let (schema, spill) = (Arc::clone(&self.schema), self.spill.clone());
        self.sorting = Some(tokio::task::spawn_blocking(move || {
            let batches = sorted(&schema, chunk)?;
            let mut file = spill.create_in_progress_file("history run").map_err(Error::from_engine)?;
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

    async fn finish(mut self) -> Result<SendableRecordBatchStream> {
        if self.runs.is_empty() && self.sorting.is_none() {
            return self.only_chunk();
        }
        if !self.chunk.is_empty() {
            self.spill_chunk().await?;
        }
        self.written().await?;
        let open = |run| self.spill.read_spill_as_stream_unbuffered(run, None);
        let streams = std::mem::take(&mut self.runs).into_iter().map(open).collect::<datafusion::error::Result<Vec<_>>>();
        let keys = self.schema.fields().iter().enumerate();
        let keys = keys.map(|(i, field)| PhysicalSortExpr::new(Arc::new(Column::new(field.name(), i)), ASCENDING));
        let order = LexOrdering::new(keys).ok_or_else(|| Error::internal("a canonical source has no column"))?;
        StreamingMergeBuilder::new()
            .with_streams(streams.map_err(Error::from_engine)?)
            .with_schema(Arc::clone(&self.schema))
            .with_expressions(&order)
            .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
            .with_batch_size(8 * RUN_BATCH_ROWS)
            .with_reservation(self.memory.take())
            .build()
            .map_err(Error::from_engine)
    }

    /// Few rows never see the disk.
    fn only_chunk(mut self) -> Result<SendableRecordBatchStream> {
        let (chunk, memory) = self.take_chunk()?;
        let batches = if chunk.is_empty() { None } else { Some(sorted(&self.schema, chunk)?) };
        let rows = batches.into_iter().flatten().map(move |batch| {
            let _held = &memory;
            batch.map_err(|error| Error::internal(error.message).into())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema, futures::stream::iter(rows))))
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
fn sorted(schema: &SchemaRef, chunk: Vec<RecordBatch>) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
    let failed = |error: ArrowError| Error::internal(format!("history sort: {error}"));
    let rows = concat_batches(schema, &chunk).map_err(failed)?;
    drop(chunk);
    let order = order(&rows).map_err(failed)?;
    let starts = (0..order.len()).step_by(RUN_BATCH_ROWS);
    Ok(starts.map(move |start| {
        let end = (start + RUN_BATCH_ROWS).min(order.len());
        let wanted: UInt32Array = order[start..end].iter().map(|key| key.row).collect();
        take_record_batch(&rows, &wanted).map(compact).map_err(failed)
    }))
}

fn order(rows: &RecordBatch) -> std::result::Result<Vec<Key>, ArrowError> {
    let compare = rows.columns().iter().map(|column| make_comparator(column, column, ASCENDING));
    let compare: Vec<DynComparator> = compare.collect::<std::result::Result<_, _>>()?;
    let (user, time) = (rows.column(0), rows.column(1));
    let users = prefixes(user);
    let times = time.as_primitive_opt::<TimestampMicrosecondType>();
    let mut keys: Vec<Key> = (0..rows.num_rows())
        .map(|row| Key {
            user: if user.is_null(row) { u64::MAX } else { users[row] },
            time: times.filter(|times| times.is_valid(row)).map_or(i64::MAX, |times| times.value(row)),
            row: row as u32,
        })
        .collect();
    let exact = user.data_type() == &DataType::Int64 && user.null_count() == 0 && time.null_count() == 0 && times.is_some();
    let rest = |columns: &[DynComparator], a: &Key, b: &Key| {
        let each = columns.iter().map(|compare| compare(a.row as usize, b.row as usize));
        each.fold(Ordering::Equal, Ordering::then)
    };
    if exact {
        keys.sort_unstable_by(|a, b| (a.user, a.time).cmp(&(b.user, b.time)).then_with(|| rest(&compare[2..], a, b)));
    } else {
        keys.sort_unstable_by(|a, b| a.user.cmp(&b.user).then_with(|| rest(&compare, a, b)));
    }
    Ok(keys)
}

/// Of each user a number that keeps the order: the key itself, or the first bytes of a text; else always the same.
fn prefixes(user: &ArrayRef) -> Vec<u64> {
    let first_bytes = |text: Option<&str>| {
        let mut first = [0; 8];
        let text = text.unwrap_or_default().as_bytes();
        let length = text.len().min(8);
        first[..length].copy_from_slice(&text[..length]);
        u64::from_be_bytes(first)
    };
    match user.data_type() {
        DataType::Int64 => user.as_primitive::<Int64Type>().values().iter().map(|key| (*key as u64) ^ (1 << 63)).collect(),
        DataType::Utf8 => user.as_string::<i32>().iter().map(first_bytes).collect(),
        DataType::LargeUtf8 => user.as_string::<i64>().iter().map(first_bytes).collect(),
        DataType::Utf8View => user.as_string_view().iter().map(first_bytes).collect(),
        _ => vec![0; user.len()],
    }
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
