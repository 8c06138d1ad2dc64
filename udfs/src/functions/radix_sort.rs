//! Sorts by a whole number and a time, such as user and event time, are done by digits.
//!
//! The engine's sort orders each batch and merges thousands of them row by row. Here rows are laid into buckets by their key as
//! they come, a chunk at a time; when all are there, one bucket after another is put in order by `kernels::key_order`. Every row
//! is in memory once, and what is gathered from fits into the processor's cache. When the rows do not fit into the statement's
//! memory, or a key is NULL, those that came and those to come go to the engine's sort, which spills.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::kernels::key_order::key_order;
use arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{SortOptions, cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;

/// The rule.
#[derive(Debug, Default)]
pub(super) struct RadixSorts;

impl PhysicalOptimizerRule for RadixSorts {
    fn name(&self) -> &'static str {
        "RadixSorts"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(match RadixSortExec::in_place_of(&node) {
                Some(sort) => Transformed::yes(Arc::new(sort) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })
        .data()
    }
}

/// A sort by one or two columns of whole numbers or times.
#[derive(Debug)]
struct RadixSortExec {
    /// The engine's sort.
    sort: Arc<dyn ExecutionPlan>,
    keys: Keys,
    metrics: ExecutionPlanMetricsSet,
}

/// The places of the key columns.
#[derive(Debug, Clone)]
struct Keys {
    first: usize,
    second: Option<usize>,
    /// What rows with equal keys are ordered by.
    rest: Vec<(usize, SortOptions)>,
}

impl Keys {
    fn of(sort: &SortExec) -> Option<Self> {
        let schema = sort.input().schema();
        let column = |expr: &Arc<dyn PhysicalExpr>, wanted: fn(&DataType) -> bool| {
            let any: &dyn std::any::Any = expr.as_ref();
            any.downcast_ref::<Column>().map(Column::index).filter(|at| wanted(schema.field(*at).data_type()))
        };
        let mut keys = sort.expr().iter().peekable();
        let first = keys.next().filter(|key| !key.options.descending)?;
        let first = column(&first.expr, |found| matches!(found, DataType::Int64 | DataType::Int32))?;
        let time = |found: &DataType| matches!(found, DataType::Int64 | DataType::Int32 | DataType::Timestamp(..));
        let second = keys.peek().filter(|key| !key.options.descending).and_then(|key| column(&key.expr, time));
        if second.is_some() {
            keys.next();
        }
        let rest = keys.map(|key| Some((column(&key.expr, |found| !found.is_nested())?, key.options))).collect::<Option<Vec<_>>>()?;
        Some(Self { first, second, rest })
    }

    /// The columns that may have no NULL.
    fn exact(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}

/// The sort by digits where a sort can be done so, else the sort itself.
pub(super) fn by_digits(sort: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match RadixSortExec::in_place_of(&sort) {
        Some(own) => Arc::new(own),
        None => sort,
    }
}

impl RadixSortExec {
    fn in_place_of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let any: &dyn std::any::Any = node.as_ref();
        let sort = any.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none())?;
        Some(Self { sort: Arc::clone(node), keys: Keys::of(sort)?, metrics: ExecutionPlanMetricsSet::new() })
    }
}

impl DisplayAs for RadixSortExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.sort.schema();
        let name = |at: usize| schema.field(at).name().as_str();
        let keys: Vec<&str> = self.keys.exact().chain(self.keys.rest.iter().map(|(at, _)| *at)).map(name).collect();
        write!(f, "RadixSortExec: keys=[{}]", keys.join(", "))
    }
}

impl ExecutionPlan for RadixSortExec {
    fn name(&self) -> &'static str {
        "RadixSortExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.sort.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.sort.children()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let sort = replace_children_if_necessary(Arc::clone(&self.sort), children)?;
        Ok(by_digits(sort))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let child = self.sort.children().first().map(|child| Arc::clone(child));
        let child = child.ok_or_else(|| DataFusionError::Internal("a sort has no input".into()))?;
        let run = Run {
            input: child.execute(partition, Arc::clone(&context))?,
            sort: Arc::clone(&self.sort),
            child,
            keys: self.keys.clone(),
            partition,
            memory: MemoryConsumer::new("RadixSort").register(context.memory_pool()),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            context,
        };
        let rows = futures::stream::once(run.rows()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.sort.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.sort.child_stats_requests(partition)
    }

    fn statistics_from_inputs(&self, stats: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        self.sort.statistics_from_inputs(stats, args)
    }
}

/// The sort of one stream.
struct Run {
    input: SendableRecordBatchStream,
    sort: Arc<dyn ExecutionPlan>,
    child: Arc<dyn ExecutionPlan>,
    keys: Keys,
    partition: usize,
    memory: MemoryReservation,
    metrics: BaselineMetrics,
    context: Arc<TaskContext>,
}

impl Run {
    async fn rows(mut self) -> Result<SendableRecordBatchStream> {
        let schema = self.input.schema();
        let mut rows = Buckets { schema: Arc::clone(&schema), keys: self.keys.clone(), splits: None, chunks: vec![] };
        let (mut waiting, mut count) = (vec![], 0_usize);
        loop {
            let batch = self.input.next().await.transpose()?;
            let ended = batch.is_none();
            if let Some(batch) = batch {
                let null = self.keys.exact().any(|at| batch.column(at).null_count() > 0);
                count += batch.num_rows();
                waiting.push(batch);
                if null {
                    return self.by_the_engine(rows, waiting);
                }
            }
            if (ended && count > 0) || count >= CHUNK_ROWS {
                let _timer = self.metrics.elapsed_compute().timer();
                // A chunk as it came, joined and in order.
                let bytes = COPIES * waiting.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
                if self.memory.try_grow(bytes).is_err() {
                    drop(_timer);
                    return self.by_the_engine(rows, waiting);
                }
                let held = rows.add(&waiting, ended)?;
                self.memory.shrink(bytes.saturating_sub(held));
                (waiting, count) = (vec![], 0);
            }
            if ended {
                break;
            }
        }
        let (size, memory, metrics) = (self.context.session_config().batch_size(), self.memory, self.metrics);
        let (mut bucket, mut sorted, mut at) = (0, None::<Sorted>, 0);
        let batches = std::iter::from_fn(move || {
            let _held = &memory;
            let _timer = metrics.elapsed_compute().timer();
            loop {
                if let Some(batch) = sorted.as_ref().and_then(|sorted| sorted.batch(at, size)) {
                    at += size;
                    return Some(batch.inspect(|batch| metrics.record_output(batch.num_rows())));
                }
                (sorted, at) = (None, 0);
                match rows.sorted(bucket)? {
                    Ok(next) => sorted = Some(next),
                    Err(error) => return Some(Err(error)),
                }
                bucket += 1;
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))))
    }

    /// Gives everything to the engine's sort.
    fn by_the_engine(self, rows: Buckets, waiting: Vec<RecordBatch>) -> Result<SendableRecordBatchStream> {
        drop(self.memory);
        let schema = self.input.schema();
        let before = rows.chunks.into_iter().map(|chunk| chunk.rows).chain(waiting);
        let all = futures::stream::iter(before.map(Ok)).chain(self.input);
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, all)) as SendableRecordBatchStream;
        let replay = Arc::new(Replay { child: self.child, rows: Mutex::new(Some(rows)) });
        replace_children_if_necessary(self.sort, vec![replay])?.execute(self.partition, self.context)
    }
}

/// Rows in buckets by their first key; the buckets are in order.
struct Buckets {
    schema: SchemaRef,
    keys: Keys,
    /// The first keys of all buckets but the first, from a sample of the first chunk.
    splits: Option<Vec<i64>>,
    chunks: Vec<Chunk>,
}

/// Rows that came together.
struct Chunk {
    /// Bucket after bucket.
    rows: RecordBatch,
    /// Where each bucket begins, and the end.
    begins: Vec<usize>,
}

impl Buckets {
    /// Adds a chunk; the bytes that it holds. A chunk that is the only one is one bucket.
    fn add(&mut self, batches: &[RecordBatch], only: bool) -> Result<usize> {
        let rows = concat_batches(&self.schema, batches)?;
        let first = numbers(rows.column(self.keys.first))?;
        if self.splits.is_none() {
            self.splits = Some(if only { vec![] } else { splits(&first) });
        }
        let splits = self.splits.as_deref().unwrap_or_default();
        let mut begins = vec![0_usize; splits.len() + 2];
        let buckets: Vec<u8> = first.iter().map(|key| splits.partition_point(|split| split <= key) as u8).collect();
        buckets.iter().for_each(|bucket| begins[usize::from(*bucket) + 1] += 1);
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        let rows = if splits.is_empty() { rows } else { compact(&take_record_batch(&rows, &by_bucket(&buckets, &begins))?) };
        let bytes = rows.get_array_memory_size();
        self.chunks.push(Chunk { rows, begins });
        Ok(bytes)
    }

    /// The rows of a bucket in order; `None` behind the last.
    fn sorted(&self, bucket: usize) -> Option<Result<Sorted>> {
        let slice =
            |chunk: &Chunk| Some(chunk.rows.slice(*chunk.begins.get(bucket)?, chunk.begins.get(bucket + 1)? - chunk.begins[bucket]));
        let slices = self.chunks.iter().map(slice).collect::<Option<Vec<_>>>().filter(|slices| !slices.is_empty())?;
        Some(concat_batches(&self.schema, &slices).map_err(Into::into).and_then(|rows| Sorted::new(&self.keys, rows)))
    }
}

/// Rows of a chunk: enough for the sample, few enough to stay in the cache.
const CHUNK_ROWS: usize = 1 << 18;
/// A chunk exists as it came, joined and in order.
const COPIES: usize = 3;
/// Buckets at most: a bucket is told by a byte.
const BUCKETS: usize = 256;
/// One key in so many is looked at to find out where buckets end.
const SAMPLE: usize = 32;

/// Where buckets of about as many rows begin.
fn splits(keys: &[i64]) -> Vec<i64> {
    let mut sample: Vec<i64> = keys.iter().copied().step_by(SAMPLE).collect();
    sample.sort_unstable();
    let mut splits: Vec<i64> = (1..BUCKETS).filter_map(|bucket| sample.get(bucket * sample.len() / BUCKETS).copied()).collect();
    splits.dedup();
    splits
}

/// The rows, bucket after bucket.
fn by_bucket(buckets: &[u8], begins: &[usize]) -> UInt32Array {
    let mut next = begins.to_vec();
    let mut order = vec![0_u32; buckets.len()];
    for (row, bucket) in buckets.iter().enumerate() {
        let at = &mut next[usize::from(*bucket)];
        order[*at] = row as u32;
        *at += 1;
    }
    UInt32Array::from(order)
}

/// Taken views point into all that came: their texts are copied.
fn compact(batch: &RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(views) => Arc::new(views.gc()) as ArrayRef,
        None => Arc::clone(column),
    });
    RecordBatch::try_new(batch.schema(), columns.collect()).unwrap_or_else(|_| batch.clone())
}

fn numbers(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone())
}

/// Rows and their order.
struct Sorted {
    rows: RecordBatch,
    order: UInt32Array,
}

impl Sorted {
    fn new(keys: &Keys, rows: RecordBatch) -> Result<Self> {
        let (first, second) = (numbers(rows.column(keys.first))?, keys.second.map(|at| numbers(rows.column(at))).transpose()?);
        let mut order = key_order(&first, second.as_deref());
        if !keys.rest.is_empty() {
            let compare = keys.rest.iter().map(|(at, options)| make_comparator(rows.column(*at), rows.column(*at), *options));
            let compare = compare.collect::<std::result::Result<Vec<DynComparator>, _>>()?;
            let key = |row: u32| (first[row as usize], second.as_ref().map(|second| second[row as usize]));
            for rows in order.chunk_by_mut(|a, b| key(*a) == key(*b)).filter(|rows| rows.len() > 1) {
                rows.sort_by(|a, b| {
                    let each = compare.iter().map(|compare| compare(*a as usize, *b as usize));
                    each.fold(Ordering::Equal, Ordering::then)
                });
            }
        }
        Ok(Self { rows, order: UInt32Array::from(order) })
    }

    /// The rows from `at`, `size` of them at most.
    fn batch(&self, at: usize, size: usize) -> Option<Result<RecordBatch>> {
        let left = self.order.len().checked_sub(at).filter(|left| *left > 0)?;
        Some(take_record_batch(&self.rows, &self.order.slice(at, left.min(size))).map_err(Into::into))
    }
}

/// Rows that were read already, in place of who read them.
struct Replay {
    child: Arc<dyn ExecutionPlan>,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

impl DisplayAs for Replay {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replay")
    }
}

impl ExecutionPlan for Replay {
    fn name(&self) -> &'static str {
        "Replay"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.child.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.rows.lock().take().ok_or_else(|| DataFusionError::Internal("rows are read once".into()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
    use datafusion::physical_plan::collect;

    use super::*;
    use crate::kernels::splitmix;

    type Row = (Option<i64>, i64, String);

    fn source(rows: &[Row]) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("user", DataType::Int64, true),
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Field::new("what", DataType::Utf8View, false),
        ]));
        let batch = |rows: &[Row]| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| row.1).map(Some).collect::<TimestampMicrosecondArray>()),
                Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| &row.2))),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let batches = rows.chunks(8192).map(batch).collect();
        MemorySourceConfig::try_new_exec(&[batches], schema, None).unwrap()
    }

    async fn sorted(rows: &[Row], keys: &[&str], memory: usize) -> Vec<Row> {
        let input = source(rows);
        let options = SortOptions { descending: false, nulls_first: false };
        let keys =
            keys.iter().map(|name| PhysicalSortExpr::new(Arc::new(Column::new_with_schema(name, &input.schema()).unwrap()), options));
        let plan = by_digits(Arc::new(SortExec::new(LexOrdering::new(keys).unwrap(), Arc::clone(&input))));
        assert_eq!(plan.name(), "RadixSortExec");
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(memory))).build_arc().unwrap();
        let batches = collect(plan, Arc::new(TaskContext::default().with_runtime(runtime))).await.unwrap();
        let mut found = vec![];
        for batch in &batches {
            let (user, what) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(2).as_string_view());
            let time = numbers(batch.column(1)).unwrap();
            found.extend((0..batch.num_rows()).map(|row| (user.iter().nth(row).unwrap(), time[row], what.value(row).to_owned())));
        }
        found
    }

    #[tokio::test]
    async fn as_the_engine_sorts() {
        for (seed, count, nulls, memory) in [
            (1, 0, false, 1 << 30),
            (2, 5_000, false, 1 << 30),
            (3, 600_000, false, 1 << 30),
            (4, 600_000, false, 48 << 20),
            (5, 300_000, true, 1 << 30),
        ] {
            let at = |i: u64, salt: u64| splitmix::at(seed, 4 * i + salt);
            let row = |i: u64| {
                let user = (!nulls || at(i, 0) % 1000 != 0).then_some((at(i, 1) % 50_000).cast_signed() - 1000);
                (user, (at(i, 2) % 3_000).cast_signed(), format!("a text that is longer than a view {}", at(i, 3) % 10))
            };
            let rows: Vec<Row> = (0..count).map(row).collect();
            let mut expected = rows.clone();
            expected.sort_by(|a, b| (a.0.is_none(), a.0, a.1, &a.2).cmp(&(b.0.is_none(), b.0, b.1, &b.2)));
            let found = sorted(&rows, &["user", "time", "what"], memory).await;
            assert!(found == expected, "seed {seed}");
        }
    }
}
