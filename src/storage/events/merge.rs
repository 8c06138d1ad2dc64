//! Merges runs of an event table, range of users by range of users.
//!
//! Each child has the same ranges as partitions and the same order in each; partition `i` of the result is the merge of
//! the children's partitions `i`. A child whose files lie across ranges has its rows cut to the range first. Filters go
//! on to the children, so that files and pages that cannot match are left out.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::spans::first_row;

/// The merge.
#[derive(Debug)]
pub(crate) struct UserMergeExec {
    children: Vec<Arc<dyn ExecutionPlan>>,
    /// Which children have to be cut.
    across: Vec<bool>,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
    rows: Precision<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl UserMergeExec {
    /// Merges `children` (at least one) of `rows` rows together.
    pub(super) fn new(
        children: Vec<Arc<dyn ExecutionPlan>>,
        across: Vec<bool>,
        order: LexOrdering,
        partitioning: Partitioning,
        rows: Precision<usize>,
    ) -> Self {
        let equivalence = EquivalenceProperties::new_with_orderings(children[0].schema(), [order.clone()]);
        let properties = PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        Self { children, across, order, properties: Arc::new(properties), rows, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The first user of a partition, and of the next one.
    fn bounds(&self, partition: usize) -> (Option<ScalarValue>, Option<ScalarValue>) {
        let Partitioning::Range(ranges) = self.properties.output_partitioning() else { return (None, None) };
        let split = |at: usize| ranges.split_points().get(at).and_then(|split| split.values().first().cloned());
        (partition.checked_sub(1).and_then(split), split(partition))
    }

    /// The rows of a child, only those in the partition's range.
    fn cut(&self, rows: SendableRecordBatchStream, partition: usize) -> Result<SendableRecordBatchStream> {
        let (from, to) = self.bounds(partition);
        let Some(column) = self.order[0].expr.downcast_ref::<datafusion::physical_expr::expressions::Column>() else {
            return datafusion::common::internal_err!("users are not a column");
        };
        let user = column.index();
        let schema = rows.schema();
        let cut = rows.map(move |batch| slice(&batch?, user, from.as_ref(), to.as_ref()));
        let some = cut.try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, some)))
    }
}

/// The rows of users from `from` on and before `to`.
fn slice(rows: &RecordBatch, user: usize, from: Option<&ScalarValue>, to: Option<&ScalarValue>) -> Result<RecordBatch> {
    let users = rows.column(user);
    let start = from.map_or(Ok(0), |from| first_row(users, from))?;
    let end = to.map_or(Ok(rows.num_rows()), |to| first_row(users, to))?;
    Ok(rows.slice(start, end.saturating_sub(start)))
}

impl DisplayAs for UserMergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserMergeExec: runs={}, order=[{}]", self.children.len(), self.order)
    }
}

impl ExecutionPlan for UserMergeExec {
    fn name(&self) -> &'static str {
        "UserMergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.children.iter().collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false; self.children.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children.len()]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let partitioning = self.properties.output_partitioning().clone();
        Ok(Arc::new(Self::new(children, self.across.clone(), self.order.clone(), partitioning, self.rows)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let streams = self.children.iter().zip(&self.across).map(|(child, across)| {
            let rows = child.execute(partition, Arc::clone(&context))?;
            if *across { self.cut(rows, partition) } else { Ok(rows) }
        });
        StreamingMergeBuilder::new()
            .with_streams(streams.collect::<Result<_>>()?)
            .with_schema(self.schema())
            .with_expressions(&self.order)
            .with_batch_size(context.session_config().batch_size())
            .with_metrics(BaselineMetrics::new(&self.metrics, partition))
            .with_reservation(MemoryConsumer::new("UserMerge").register(context.memory_pool()))
            .build()
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::Skip; self.children.len()]
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = self.rows.to_inexact();
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }
}
