//! Aggregates straight from buckets: a bucket holds all rows of its groups, so its rows need no order.
//!
//! A table with a place for each key between the least and the greatest of a bucket tells a row's group; where those lie too far
//! apart they are looked up among the bucket's keys. Rows are aggregated where they lie, chunk by chunk, and the groups of a bucket
//! go before the next is begun. When the rows went to the engine's nodes, so does the aggregate.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::cast;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;

use super::super::arguments::{Feeder, Functions};
use super::super::pairing::downcast;
use super::super::shared_work::done;
use super::{Gathered, RadixSortExec, Rows, buckets::numbers, by_digits_if, column_of};

/// Keys between the least and the greatest of a bucket, per row: beyond, a table of them is larger than the rows.
const PLACES_PER_ROW: u64 = 4;
/// A table of so many places is made in any case.
const PLACES_MIN: u64 = 1 << 16;

/// The aggregate over buckets where its rows are sorted by nothing but the group and handed out in buckets, else the node itself.
pub(super) fn by_buckets(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match BucketGroupsExec::in_place_of(&node) {
        Some(own) => Arc::new(own),
        None => node,
    }
}

/// An aggregate whose groups each lie in one bucket.
#[derive(Debug)]
struct BucketGroupsExec {
    /// The engine's aggregate.
    aggregate: Arc<dyn ExecutionPlan>,
    /// What it reads.
    sort: Arc<dyn ExecutionPlan>,
    functions: Functions,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl BucketGroupsExec {
    fn in_place_of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let aggregate = downcast::<AggregateExec>(node)?;
        let sort = downcast::<RadixSortExec>(aggregate.input()).filter(|sort| sort.sending.is_some())?;
        let single = matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned);
        let by_group = sort.keys.second.is_none() && sort.keys.rest.is_empty();
        let [(group, _)] = aggregate.group_expr().expr() else { return None };
        let plain = |function: &Arc<AggregateFunctionExpr>| function.order_bys().is_empty() && function.groups_accumulator_supported();
        let fits = single
            && by_group
            && aggregate.group_expr().is_single()
            && aggregate.limit_options().is_none()
            && column_of(group) == Some(sort.keys.first)
            && aggregate.aggr_expr().iter().all(plain);
        let of_aggregate = node.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(node.schema()),
            of_aggregate.output_partitioning().clone(),
            of_aggregate.emission_type,
            of_aggregate.boundedness,
        );
        fits.then(|| Self {
            aggregate: Arc::clone(node),
            sort: Arc::clone(aggregate.input()),
            functions: Functions::of(aggregate),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for BucketGroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.schema().field(0).name().clone();
        let streams = self.properties.output_partitioning().partition_count();
        write!(f, "BucketGroupsExec: gby=[{group}], aggr=[{}], ranges of {group} to {streams} streams", self.functions.names())
    }
}

impl ExecutionPlan for BucketGroupsExec {
    fn name(&self) -> &'static str {
        "BucketGroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.sort.children()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let sort = by_digits_if(replace_children_if_necessary(Arc::clone(&self.sort), children)?, true);
        Ok(by_buckets(replace_children_if_necessary(Arc::clone(&self.aggregate), vec![sort])?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let sort = downcast::<RadixSortExec>(&self.sort).ok_or_else(|| DataFusionError::Internal("a sort is missing".into()))?;
        let gathering = sort.gathering(partition, &context)?;
        let aggregate = Arc::clone(&self.aggregate);
        let mut taken = Taken {
            schema: self.schema(),
            feeder: Feeder::new(&self.functions),
            whole: None,
            at: 0,
            size: context.session_config().batch_size(),
            memory: MemoryConsumer::new("BucketGroups").register(context.memory_pool()),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let rows = async move {
            let gathered = done(gathering).await?;
            if let Gathered::ByEngine(sorted) = gathered.as_ref() {
                return replace_children_if_necessary(aggregate, vec![Arc::clone(sorted)])?.execute(partition, context);
            }
            let schema = Arc::clone(&taken.schema);
            let batches = futures::stream::try_unfold((), move |()| {
                // Buckets are whole turns: there is nothing to wait for between them.
                let next = taken.next(&gathered);
                async move {
                    tokio::task::yield_now().await;
                    Ok(next?.map(|batch| (batch, ())))
                }
            });
            Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)) as SendableRecordBatchStream)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(rows).try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The buckets that one stream takes.
struct Taken {
    schema: arrow::datatypes::SchemaRef,
    feeder: Feeder,
    /// The groups of the bucket at hand, from `at` on still to be given.
    whole: Option<RecordBatch>,
    at: usize,
    size: usize,
    memory: MemoryReservation,
    metrics: BaselineMetrics,
}

impl Taken {
    fn next(&mut self, gathered: &Gathered) -> Result<Option<RecordBatch>> {
        let Gathered::Rows(rows) = gathered else { return Ok(None) };
        let compute = self.metrics.elapsed_compute().clone();
        let _timer = compute.timer();
        loop {
            if let Some(whole) = self.whole.as_ref().filter(|whole| self.at < whole.num_rows()) {
                let batch = whole.slice(self.at, self.size.min(whole.num_rows() - self.at));
                self.at += batch.num_rows();
                self.metrics.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some(bucket) = rows.next_bucket() else { return Ok(None) };
            (self.whole, self.at) = (Some(self.groups(rows, bucket)?), 0);
        }
    }

    /// The groups of a bucket.
    fn groups(&mut self, rows: &Rows, bucket: usize) -> Result<RecordBatch> {
        let slices: Vec<RecordBatch> = rows.chunks.iter().map(|chunk| chunk.bucket(bucket)).filter(|rows| rows.num_rows() > 0).collect();
        let keys = slices.iter().map(|rows_of| numbers(rows_of.column(rows.keys.first))).collect::<Result<Vec<_>>>()?;
        let mut found = Groups::of(&keys);
        let mut states = self.feeder.states()?;
        let mut groups = vec![];
        for (slice, keys) in slices.iter().zip(&keys) {
            groups.clear();
            groups.extend(keys.iter().map(|key| found.group(*key)));
            self.feeder.feed(&mut states, slice, &groups, found.keys.len())?;
            self.memory.try_resize(states.bytes())?;
        }
        let mut columns = vec![cast(&Int64Array::from(found.keys), self.schema.field(0).data_type())?];
        columns.extend(states.evaluate(EmitTo::All)?);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// The groups of a bucket, in order of first sight.
struct Groups {
    /// The key of each group.
    keys: Vec<i64>,
    /// The group of each place; `NONE` where there is none yet.
    table: Vec<u32>,
    least: i64,
    /// All keys in order, where there is a place for each of them alone.
    places: Vec<i64>,
}

/// No group yet.
const NONE: u32 = u32::MAX;

impl Groups {
    fn of(columns: &[arrow::buffer::ScalarBuffer<i64>]) -> Self {
        let all = || columns.iter().flat_map(|keys| keys.iter().copied());
        let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
        let rows = columns.iter().map(|keys| keys.len() as u64).sum::<u64>();
        if most.abs_diff(least) < PLACES_MIN.max(PLACES_PER_ROW * rows) {
            return Self { keys: vec![], table: vec![NONE; most.abs_diff(least) as usize + 1], least, places: vec![] };
        }
        let mut places: Vec<i64> = all().collect();
        places.sort_unstable();
        places.dedup();
        Self { keys: vec![], table: vec![NONE; places.len()], least, places }
    }

    #[inline]
    fn group(&mut self, key: i64) -> usize {
        let place = match self.places.is_empty() {
            true => key.abs_diff(self.least) as usize,
            false => self.places.partition_point(|place| *place < key),
        };
        if self.table[place] == NONE {
            self.table[place] = self.keys.len() as u32;
            self.keys.push(key);
        }
        self.table[place] as usize
    }
}
