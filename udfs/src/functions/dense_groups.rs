//! Plain aggregates by a whole number whose values lie close together, such as user ids, find their groups in a table.
//!
//! The engine hashes every row and compares keys, then sends partial states by hash and does it again. Where the files'
//! statistics say that all keys lie in a range that is no larger than there are rows, a table with a place for each possible key
//! tells its group. Life of a query: each input stream fills the engine's own accumulators → when all are there, each output
//! stream unites what they have for its part of the range. Functions whose states grow with the rows stay with
//! [`super::single_stage`], which sorts.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::arguments::{Feeder, Functions, States};
use super::shared_work::{SharedWork, done, work};
use crate::error::{Code, Error};

/// Functions whose states have one size.
const FUNCTIONS: &[&str] = &["sum", "count", "min", "max", "avg"];
/// Rows and keys from which on a table of all keys beats the engine's hash table.
const ROWS_MIN: usize = 1 << 20;
const KEYS_MIN: u64 = 1 << 17;
/// Keys at most: a table of four bytes for each stays in the cache; in a larger one every row waits for memory, and sorting is
/// quicker.
const KEYS_MAX: u64 = 1 << 21;

/// The range of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyRange {
    least: i64,
    /// How many values it may have.
    pub(super) count: u64,
}

/// What the statistics say about the group of an aggregate: its rows and the range of its key.
pub(super) fn key_range(first: &AggregateExec) -> Option<(usize, KeyRange)> {
    let [(group, _)] = first.group_expr().expr() else { return None };
    let any: &dyn std::any::Any = group.as_ref();
    let column = any.downcast_ref::<Column>()?;
    let statistics = StatisticsContext::new().compute(first.input().as_ref(), &StatisticsArgs::new()).ok()?;
    let of_column = statistics.column_statistics.get(column.index())?;
    let number = |value: Option<&ScalarValue>| match value {
        Some(ScalarValue::Int64(number)) => *number,
        Some(ScalarValue::Int32(number)) => number.map(i64::from),
        _ => None,
    };
    let (least, most) = number(of_column.min_value.get_value()).zip(number(of_column.max_value.get_value()))?;
    let rows = statistics.num_rows.get_value().copied()?;
    Some((rows, KeyRange { least, count: most.abs_diff(least).checked_add(1)? }))
}

/// Plain aggregates in place of the engine's two stages.
#[derive(Debug)]
pub(super) struct DenseGroupsExec {
    /// The engine's second stage.
    second: Arc<dyn ExecutionPlan>,
    input: Arc<dyn ExecutionPlan>,
    group: Arc<dyn PhysicalExpr>,
    functions: Functions,
    range: KeyRange,
    shared: SharedWork<Parts>,
    metrics: ExecutionPlanMetricsSet,
}

impl DenseGroupsExec {
    /// The node for a second stage and its first, where a table pays.
    pub(super) fn in_place_of(second: &Arc<dyn ExecutionPlan>, first: &AggregateExec) -> Option<Self> {
        let plain = |function: &Arc<AggregateFunctionExpr>| {
            let fixed = function.expressions().iter().all(|argument| {
                let found = argument.data_type(&first.input().schema());
                found.is_ok_and(|found| found.is_primitive() || found == DataType::Boolean || found.is_null())
            });
            FUNCTIONS.contains(&function.fun().name())
                && fixed
                && !function.is_distinct()
                && function.order_bys().is_empty()
                && function.groups_accumulator_supported()
        };
        let (rows, range) = key_range(first)?;
        let pays = rows >= ROWS_MIN && (KEYS_MIN..=KEYS_MAX).contains(&range.count) && range.count <= rows as u64;
        (pays && first.aggr_expr().iter().all(plain)).then(|| Self {
            second: Arc::clone(second),
            input: Arc::clone(first.input()),
            group: Arc::clone(&first.group_expr().expr()[0].0),
            functions: Functions::of(first),
            range,
            shared: SharedWork::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn fill(&self, partition: usize, context: &Arc<TaskContext>, memory: MemoryReservation) -> Result<Fill> {
        Ok(Fill {
            rows: self.input.execute(partition, Arc::clone(context))?,
            group: Arc::clone(&self.group),
            feeder: Feeder::new(&self.functions),
            memory,
            metrics: BaselineMetrics::new(&self.metrics, partition),
            groups: Groups::new(self.range),
            states: self.functions.states()?,
        })
    }
}

impl DisplayAs for DenseGroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DenseGroupsExec: gby=[{}], aggr=[{}], keys={}", self.group, self.functions.names(), self.range.count)
    }
}

impl ExecutionPlan for DenseGroupsExec {
    fn name(&self) -> &'static str {
        "DenseGroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.second.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("an aggregate has no input".into()))?;
        Ok(Arc::new(Self {
            second: Arc::clone(&self.second),
            input,
            group: Arc::clone(&self.group),
            functions: self.functions.clone(),
            range: self.range,
            shared: SharedWork::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let streams = self.second.output_partitioning().partition_count();
        let parts = self.shared.of(streams, || {
            let memory = MemoryConsumer::new("DenseGroups").register(context.memory_pool());
            let inputs = 0..self.input.output_partitioning().partition_count();
            let fills = inputs.map(|at| self.fill(at, &context, memory.new_empty())).collect::<Result<Vec<_>>>()?;
            Ok(work(Parts::of(fills)))
        })?;
        let output = Output {
            schema: self.second.schema(),
            functions: self.functions.clone(),
            range: self.range.part(partition, streams),
            least: self.range.least,
            size: context.session_config().batch_size(),
            memory: MemoryConsumer::new("DenseGroups").register(context.memory_pool()),
        };
        let rows = async move { output.rows(&*done(parts).await?) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.second.schema(), futures::stream::once(rows).try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl KeyRange {
    /// The places in the table that one of `parts` parts has; the last one has the place of NULL too.
    fn part(self, part: usize, parts: usize) -> std::ops::Range<usize> {
        let places = self.count as usize + 1;
        part * places / parts..(part + 1) * places / parts
    }
}

/// No group yet.
const NONE: u32 = u32::MAX;

/// The groups in order of first sight.
#[derive(Debug)]
struct Groups {
    range: KeyRange,
    /// The group of each key, and behind them that of NULL.
    table: Vec<u32>,
    count: u32,
}

impl Groups {
    fn new(range: KeyRange) -> Self {
        Self { range, table: vec![], count: 0 }
    }

    /// Appends the groups of keys.
    fn find(&mut self, keys: &Int64Array, out: &mut Vec<usize>) -> Result<()> {
        if self.table.is_empty() {
            self.table.resize(self.range.count as usize + 1, NONE);
        }
        for row in 0..keys.len() {
            let place = match keys.is_null(row) {
                true => self.range.count,
                false => keys.value(row).wrapping_sub(self.range.least).cast_unsigned(),
            };
            let beyond = place >= self.range.count && keys.is_valid(row);
            let group = usize::try_from(place).ok().filter(|_| !beyond).and_then(|place| self.table.get_mut(place));
            let Some(group) = group else {
                return Err(Error::new(Code::Io, "the statistics of a file are wrong")
                    .detail(format!(
                        "They say that the key lies in {} .. {}, but there is {}.",
                        self.range.least,
                        self.range.count,
                        keys.value(row)
                    ))
                    .into());
            };
            if *group == NONE {
                *group = self.count;
                self.count += 1;
            }
            out.push(*group as usize);
        }
        Ok(())
    }
}

/// One input stream on its way into accumulators.
struct Fill {
    rows: SendableRecordBatchStream,
    group: Arc<dyn PhysicalExpr>,
    feeder: Feeder,
    memory: MemoryReservation,
    metrics: BaselineMetrics,
    groups: Groups,
    states: States,
}

impl Fill {
    async fn run(mut self) -> Result<Part> {
        let mut groups = vec![];
        while let Some(batch) = self.rows.next().await.transpose()? {
            let _timer = self.metrics.elapsed_compute().timer();
            let keys = cast(&self.group.evaluate(&batch)?.into_array(batch.num_rows())?, &DataType::Int64)?;
            groups.clear();
            self.groups.find(keys.as_primitive::<Int64Type>(), &mut groups)?;
            self.feeder.feed(&mut self.states, &batch, &groups, self.groups.count as usize)?;
            let bytes = self.states.bytes();
            self.memory.try_resize(bytes + self.groups.table.capacity() * size_of::<u32>())?;
        }
        let states = self.states.partial()?;
        Ok(Part { table: self.groups.table, states, _memory: self.memory })
    }
}

/// What one input stream had.
struct Part {
    table: Vec<u32>,
    /// The columns of the states of each function.
    states: Vec<Vec<ArrayRef>>,
    _memory: MemoryReservation,
}

/// What all input streams had.
struct Parts(Vec<Part>);

impl Parts {
    async fn of(fills: Vec<Fill>) -> Result<Self> {
        let mut parts = vec![];
        for task in fills.into_iter().map(|fill| SpawnedTask::spawn(fill.run())).collect::<Vec<_>>() {
            parts.push(task.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??);
        }
        Ok(Self(parts))
    }
}

/// One output stream.
struct Output {
    schema: SchemaRef,
    functions: Functions,
    /// Its places in the table.
    range: std::ops::Range<usize>,
    least: i64,
    size: usize,
    memory: MemoryReservation,
}

impl Output {
    fn rows(self, parts: &Parts) -> Result<SendableRecordBatchStream> {
        let (mut table, mut places, mut states) = (vec![NONE; self.range.len()], vec![], self.functions.states()?);
        for part in parts.0.iter().filter(|part| !part.table.is_empty()) {
            let (mut rows, mut groups) = (vec![], vec![]);
            for (place, row) in part.table[self.range.clone()].iter().enumerate().filter(|(_, row)| **row != NONE) {
                if table[place] == NONE {
                    table[place] = u32::try_from(places.len()).map_err(|_| DataFusionError::Internal("too many groups".into()))?;
                    places.push(place);
                }
                rows.push(*row);
                groups.push(table[place] as usize);
            }
            let rows = UInt32Array::from(rows);
            let of_rows = |columns: &Vec<ArrayRef>| columns.iter().map(|column| take(column, &rows, None)).collect();
            let partial = part.states.iter().map(of_rows).collect::<std::result::Result<Vec<Vec<ArrayRef>>, _>>()?;
            states.merge(&partial, &groups, places.len())?;
            self.memory.try_resize(states.bytes() + table.len() * size_of::<u32>())?;
        }
        let whole = self.batch(&places, states, parts)?;
        let (size, memory) = (self.size, self.memory);
        let batches = (0..whole.num_rows()).step_by(size).map(move |at| {
            let _held = &memory;
            Ok(whole.slice(at, size.min(whole.num_rows() - at)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema, futures::stream::iter(batches))))
    }

    fn batch(&self, places: &[usize], mut states: States, parts: &Parts) -> Result<RecordBatch> {
        let null = parts.0.iter().map(|part| part.table.len()).max().unwrap_or(0).wrapping_sub(1);
        let key = |place: &usize| Some(self.range.start + place).filter(|place| *place != null).map(|place| self.least + place as i64);
        let keys: Int64Array = places.iter().map(key).collect();
        let mut columns = vec![cast(&keys, self.schema.field(0).data_type())?];
        columns.extend(states.evaluate(EmitTo::All)?);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
