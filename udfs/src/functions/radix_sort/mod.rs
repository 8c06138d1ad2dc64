//! Sorts by a whole number and a time, such as user and event time, are done by digits, and rows are sent by ranges.
//!
//! The engine's sort orders each batch and merges thousands of them row by row. Here rows are laid into buckets by their key as
//! they come, a chunk at a time (`intake`, `buckets`, `scatter`); when all are there, one bucket after another is put in order by
//! `kernels::key_order`. Every row is in memory once, and what is gathered from fits into the processor's cache. Where the sort's
//! rows would be sent to streams by a hash of the same number first, buckets are handed to streams instead: they hold whole
//! groups, and rows are moved once less; an aggregate that wants no order reads them where they lie (`groups`). When the rows do
//! not fit into the statement's memory, or a key is NULL, those that came and those to come go to the engine's own nodes, which
//! spill (`replay`).

mod buckets;
mod groups;
mod intake;
mod replay;
mod scatter;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::TryStreamExt;

use buckets::{Chunk, Keys, Sorted};
use groups::by_buckets;
use intake::Intake;

use super::pairing::{downcast, replaced};
use super::shared_work::{SharedWork, Work, done, work};

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
        replaced(plan, &|node, paired| Ok(by_buckets(by_digits_if(node, !paired))))
    }
}

/// The sort by digits where a sort can be done so, else the sort itself.
pub(super) fn by_digits(sort: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    by_digits_if(sort, true)
}

/// [`by_digits`] for a sort whose n-th stream is taken together with the n-th of another.
pub(super) fn by_digits_of_pairs(sort: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    by_digits_if(sort, false)
}

fn by_digits_if(sort: Arc<dyn ExecutionPlan>, may_send: bool) -> Arc<dyn ExecutionPlan> {
    match RadixSortExec::in_place_of(&sort, may_send) {
        Some(own) => Arc::new(own),
        None => sort,
    }
}

fn keys_of(sort: &SortExec) -> Option<Keys> {
    let schema = sort.input().schema();
    let column =
        |expr: &Arc<dyn PhysicalExpr>, wanted: fn(&DataType) -> bool| column_of(expr).filter(|at| wanted(schema.field(*at).data_type()));
    let mut keys = sort.expr().iter().peekable();
    let first = keys.next().filter(|key| !key.options.descending)?;
    let first = column(&first.expr, |found| matches!(found, DataType::Int64 | DataType::Int32))?;
    let time = |found: &DataType| matches!(found, DataType::Int64 | DataType::Int32 | DataType::Timestamp(..));
    let second = keys.peek().filter(|key| !key.options.descending).and_then(|key| column(&key.expr, time));
    if second.is_some() {
        keys.next();
    }
    let rest = keys.map(|key| Some((column(&key.expr, |found| !found.is_nested())?, key.options))).collect::<Option<Vec<_>>>()?;
    Some(Keys { first, second, rest })
}

fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let any: &dyn std::any::Any = expr.as_ref();
    any.downcast_ref::<Column>().map(Column::index)
}

/// A sort by one or two columns of whole numbers or times, with the sending below it where that is by the first of them.
#[derive(Debug)]
struct RadixSortExec {
    /// The engine's sort.
    sort: Arc<dyn ExecutionPlan>,
    /// The engine's sending below the sort, in whose place buckets are handed out.
    sending: Option<Arc<dyn ExecutionPlan>>,
    keys: Keys,
    /// With sending, what the streams of one execution share.
    shared: SharedWork<Gathered>,
    metrics: ExecutionPlanMetricsSet,
}

impl RadixSortExec {
    fn in_place_of(node: &Arc<dyn ExecutionPlan>, may_send: bool) -> Option<Self> {
        let sort = downcast::<SortExec>(node).filter(|sort| sort.fetch().is_none())?;
        let keys = keys_of(sort)?;
        let by_key = |sending: &RepartitionExec| match sending.partitioning() {
            Partitioning::Hash(by, _) => !sending.preserve_order() && by.len() == 1 && column_of(&by[0]) == Some(keys.first),
            _ => false,
        };
        let sends = may_send && sort.preserve_partitioning() && downcast::<RepartitionExec>(sort.input()).is_some_and(by_key);
        let sending = sends.then(|| Arc::clone(sort.input()));
        Some(Self { sort: Arc::clone(node), sending, keys, shared: SharedWork::default(), metrics: ExecutionPlanMetricsSet::new() })
    }

    fn input(&self) -> Result<&Arc<dyn ExecutionPlan>> {
        let above = self.sending.as_ref().unwrap_or(&self.sort);
        above.children().into_iter().next().ok_or_else(|| DataFusionError::Internal("a sort has no input".into()))
    }

    /// The rows that the stream of a partition is made of.
    fn gathering(&self, partition: usize, context: &Arc<TaskContext>) -> Result<Work<Gathered>> {
        if self.sending.is_none() {
            return self.gather(std::iter::once(partition), context);
        }
        let inputs = self.input()?.output_partitioning().partition_count();
        self.shared.of(self.sort.output_partitioning().partition_count(), || self.gather(0..inputs, context))
    }

    /// Begins to read partitions of the input.
    fn gather(&self, partitions: impl Iterator<Item = usize>, context: &Arc<TaskContext>) -> Result<Work<Gathered>> {
        let input = self.input()?;
        let inputs = partitions.map(|at| Ok((at, input.execute(at, Arc::clone(context))?))).collect::<Result<Vec<_>>>()?;
        let gather = Gather {
            schema: input.schema(),
            sort: Arc::clone(&self.sort),
            sending: self.sending.clone(),
            input: Arc::clone(input),
            keys: self.keys.clone(),
            memory: Arc::new(MemoryConsumer::new("RadixSort").register(context.memory_pool())),
            metrics: self.metrics.clone(),
            batch_size: context.session_config().batch_size(),
        };
        Ok(work(gather.run(inputs)))
    }
}

impl DisplayAs for RadixSortExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.sort.schema();
        let name = |at: usize| schema.field(at).name().as_str();
        let keys: Vec<&str> = self.keys.exact().chain(self.keys.rest.iter().map(|(at, _)| *at)).map(name).collect();
        write!(f, "RadixSortExec: keys=[{}]", keys.join(", "))?;
        match &self.sending {
            Some(_) => write!(f, ", ranges of {} to {} streams", name(self.keys.first), self.sort.output_partitioning().partition_count()),
            None => Ok(()),
        }
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
        self.sending.as_ref().unwrap_or(&self.sort).children()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let below = match &self.sending {
            Some(sending) => vec![replace_children_if_necessary(Arc::clone(sending), children)?],
            None => children,
        };
        let sort = replace_children_if_necessary(Arc::clone(&self.sort), below)?;
        Ok(by_digits_if(sort, self.sending.is_some()))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let gathering = self.gathering(partition, &context)?;
        let (size, metrics) = (context.session_config().batch_size(), BaselineMetrics::new(&self.metrics, partition));
        let rows = async move { Gathered::stream(done(gathering).await?, partition, size, metrics, context) };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.sort.schema(), futures::stream::once(rows).try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.sending.as_ref().unwrap_or(&self.sort).child_stats_requests(partition)
    }

    fn statistics_from_inputs(&self, stats: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match &self.sending {
            Some(sending) => self.sort.statistics_from_inputs(&[sending.statistics_from_inputs(stats, args)?], args),
            None => self.sort.statistics_from_inputs(stats, args),
        }
    }
}

/// Reads the inputs to their ends.
struct Gather {
    schema: SchemaRef,
    sort: Arc<dyn ExecutionPlan>,
    sending: Option<Arc<dyn ExecutionPlan>>,
    input: Arc<dyn ExecutionPlan>,
    keys: Keys,
    memory: Arc<MemoryReservation>,
    metrics: ExecutionPlanMetricsSet,
    batch_size: usize,
}

impl Gather {
    async fn run(self, inputs: Vec<(usize, SendableRecordBatchStream)>) -> Result<Gathered> {
        let common = Arc::new(intake::Common::new(Arc::clone(&self.schema), self.keys.clone(), Arc::clone(&self.memory)));
        let places: Vec<usize> = inputs.iter().map(|(at, _)| *at).collect();
        let intakes = inputs.into_iter().map(|(at, input)| {
            let metrics = BaselineMetrics::new(&self.metrics, at);
            Intake::of(Arc::clone(&common), input, metrics)
        });
        let mut done = vec![];
        if let [_] = places[..] {
            for intake in intakes {
                done.push(intake.await?);
            }
        } else {
            let tasks: Vec<_> = intakes.map(SpawnedTask::spawn).collect();
            for task in tasks {
                done.push(task.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??);
            }
        }
        if common.stopped() || !common.finish(&mut done)? {
            return self.by_the_engine(places, done);
        }
        let (chunks, buckets) = (done.into_iter().flat_map(|intake| intake.chunks).collect(), common.buckets());
        Ok(Gathered::Rows(Box::new(Rows {
            schema: self.schema,
            keys: self.keys,
            chunks,
            buckets,
            next: AtomicUsize::new(0),
            _memory: self.memory,
        })))
    }

    /// Gives everything to the engine's nodes.
    fn by_the_engine(self, places: Vec<usize>, done: Vec<Intake>) -> Result<Gathered> {
        self.memory.free();
        let streams = places.into_iter().zip(done.into_iter().map(|intake| intake.replayed(&self.schema, self.batch_size)));
        let below = Arc::new(replay::Replay::new(self.input, streams)) as Arc<dyn ExecutionPlan>;
        let below = match self.sending {
            Some(sending) => replace_children_if_necessary(sending, vec![below])?,
            None => below,
        };
        Ok(Gathered::ByEngine(replace_children_if_necessary(self.sort, vec![below])?))
    }
}

/// What became of the rows.
enum Gathered {
    /// They are here.
    Rows(Box<Rows>),
    /// The engine sorts them.
    ByEngine(Arc<dyn ExecutionPlan>),
}

/// All rows, in buckets that wait for a stream.
struct Rows {
    schema: SchemaRef,
    keys: Keys,
    chunks: Vec<Chunk>,
    buckets: usize,
    /// The first bucket that no stream has.
    next: AtomicUsize,
    _memory: Arc<MemoryReservation>,
}

impl Rows {
    fn next_bucket(&self) -> Option<usize> {
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|bucket| *bucket < self.buckets)
    }

    fn next_sorted(&self) -> Option<Result<Sorted>> {
        self.next_bucket().map(|bucket| Sorted::new(&self.schema, &self.keys, &self.chunks, bucket))
    }
}

impl Gathered {
    /// One stream's rows: buckets in ascending order, each in order.
    fn stream(
        this: Arc<Self>,
        partition: usize,
        size: usize,
        metrics: BaselineMetrics,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = match this.as_ref() {
            Self::ByEngine(plan) => return plan.execute(partition, context),
            Self::Rows(rows) => Arc::clone(&rows.schema),
        };
        let handed = Handed { gathered: this, sorted: None, at: 0, size, metrics };
        let batches =
            futures::stream::try_unfold(handed, |mut handed| async move { Ok(handed.next().await?.map(|batch| (batch, handed))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// The buckets that one stream takes.
struct Handed {
    gathered: Arc<Gathered>,
    sorted: Option<Sorted>,
    at: usize,
    size: usize,
    metrics: BaselineMetrics,
}

impl Handed {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.batch() {
                return batch.map(Some);
            }
            // A bucket is worth a turn.
            tokio::task::yield_now().await;
            let _timer = self.metrics.elapsed_compute().timer();
            let Gathered::Rows(rows) = self.gathered.as_ref() else { return Ok(None) };
            (self.sorted, self.at) = (rows.next_sorted().transpose()?, 0);
            if self.sorted.is_none() {
                return Ok(None);
            }
        }
    }

    fn batch(&mut self) -> Option<Result<RecordBatch>> {
        let _timer = self.metrics.elapsed_compute().timer();
        let batch = self.sorted.as_ref()?.batch(self.at, self.size)?;
        self.at += self.size;
        Some(batch.inspect(|batch| self.metrics.record_output(batch.num_rows())))
    }
}
