//! Window functions over sorted rows, a batch at a time.
//!
//! The engine's own operator makes an evaluator for each partition and asks it for each row; with a million users of
//! twenty events each that costs more than the sort below it. Where every function of a window looks at nothing but the
//! rows before, [`RunningWindows`] puts [`RunningWindowExec`] in its place: rows go through as they come, a new partition
//! begins where the keys change, and what is held is one state.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::partition;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::function::PartitionEvaluatorArgs;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::StandardWindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PlanProperties};
use futures::StreamExt;

use super::sessionize::{Numbers, Sessionize};
use crate::error::Error;

/// The rule.
#[derive(Debug, Default)]
pub(crate) struct RunningWindows;

impl PhysicalOptimizerRule for RunningWindows {
    fn name(&self) -> &'static str {
        "RunningWindows"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(match RunningWindowExec::in_place_of(&node)? {
                Some(running) => Transformed::yes(Arc::new(running) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })
        .data()
    }
}

/// A call: what numbers the rows, and from which columns.
#[derive(Debug, Clone)]
struct Running {
    args: Vec<Arc<dyn PhysicalExpr>>,
    numbers: Numbers,
}

/// Adds the columns of running window functions to rows sorted by the partition's keys.
#[derive(Debug)]
pub(super) struct RunningWindowExec {
    /// The engine's operator: its children, order and schema are ours.
    replaced: Arc<dyn ExecutionPlan>,
    partition_by: Vec<Arc<dyn PhysicalExpr>>,
    calls: Vec<Running>,
    metrics: ExecutionPlanMetricsSet,
}

impl RunningWindowExec {
    /// `None` where the node is another one, or has a function that needs more than the rows before.
    fn in_place_of(node: &Arc<dyn ExecutionPlan>) -> DfResult<Option<Self>> {
        let any: &dyn std::any::Any = node.as_ref();
        let Some(window) = any.downcast_ref::<BoundedWindowAggExec>() else { return Ok(None) };
        if window.input_order_mode != InputOrderMode::Sorted || window.state_observer().is_some() {
            return Ok(None);
        }
        let schema = window.input().schema();
        let mut calls = Vec::with_capacity(window.window_expr().len());
        for expr in window.window_expr() {
            let standard = expr.as_any().downcast_ref::<StandardWindowExpr>().map(StandardWindowExpr::get_standard_func_expr);
            let Some(call) = standard.and_then(|function| function.as_any().downcast_ref::<WindowUDFExpr>()) else { return Ok(None) };
            let function: &dyn std::any::Any = call.fun().inner().as_ref();
            if !function.is::<Sessionize>() {
                return Ok(None);
            }
            let fields = call.args().iter().map(|arg| arg.return_field(&schema)).collect::<DfResult<Vec<FieldRef>>>()?;
            let numbers = Numbers::of(&PartitionEvaluatorArgs::new(call.args(), &fields, false, false))?;
            calls.push(Running { args: call.args().to_vec(), numbers });
        }
        let partition_by = window.window_expr().first().map_or_else(Vec::new, |expr| expr.partition_by().to_vec());
        Ok(Some(Self { replaced: Arc::clone(node), partition_by, calls, metrics: ExecutionPlanMetricsSet::new() }))
    }

    fn input(&self) -> DfResult<&Arc<dyn ExecutionPlan>> {
        self.replaced.children().first().copied().ok_or_else(|| Error::internal("a window has no input").into())
    }
}

impl DisplayAs for RunningWindowExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.replaced.schema();
        let names = schema.fields().iter().rev().take(self.calls.len()).rev().map(|field| field.name().as_str());
        write!(f, "RunningWindowExec: {}", names.collect::<Vec<_>>().join(", "))
    }
}

impl ExecutionPlan for RunningWindowExec {
    fn name(&self) -> &'static str {
        "RunningWindowExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.replaced.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.replaced.children()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let replaced = replace_children_if_necessary(Arc::clone(&self.replaced), children)?;
        Ok(match Self::in_place_of(&replaced)? {
            Some(running) => Arc::new(running),
            None => replaced,
        })
    }

    fn execute(&self, at: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let mut input = self.input()?.execute(at, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, at);
        let mut rows = Rows {
            schema: self.replaced.schema(),
            partition_by: self.partition_by.clone(),
            first: self.calls.clone(),
            calls: self.calls.clone(),
            last: None,
        };
        let stream = futures::stream::poll_fn(move |cx| {
            input.poll_next_unpin(cx).map(|batch| {
                batch.map(|batch| {
                    let _timer = metrics.elapsed_compute().timer();
                    rows.with_windows(&batch?).record_output(&metrics)
                })
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.replaced.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.replaced.child_stats_requests(partition)
    }

    fn statistics_from_inputs(&self, stats: &[Arc<Statistics>], args: &StatisticsArgs) -> DfResult<Arc<Statistics>> {
        self.replaced.statistics_from_inputs(stats, args)
    }
}

/// The rows of one stream.
struct Rows {
    schema: SchemaRef,
    partition_by: Vec<Arc<dyn PhysicalExpr>>,
    /// The states that a partition begins with.
    first: Vec<Running>,
    calls: Vec<Running>,
    /// The keys of the last row.
    last: Option<Vec<ScalarValue>>,
}

impl Rows {
    fn with_windows(&mut self, batch: &RecordBatch) -> DfResult<RecordBatch> {
        let rows = batch.num_rows();
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let keys = self.partition_by.iter().map(evaluate).collect::<DfResult<Vec<ArrayRef>>>()?;
        let begins = self.begins(&keys, rows)?;
        let mut columns = batch.columns().to_vec();
        for (call, first) in self.calls.iter_mut().zip(&self.first) {
            let args = call.args.iter().map(evaluate).collect::<DfResult<Vec<ArrayRef>>>()?;
            columns.push(call.numbers.over(&first.numbers, &args, &begins, rows)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// The rows at which a partition begins.
    fn begins(&mut self, keys: &[ArrayRef], rows: usize) -> DfResult<Vec<usize>> {
        if rows == 0 || keys.is_empty() {
            return Ok(vec![]);
        }
        let row = |row: usize| keys.iter().map(|key| ScalarValue::try_from_array(key, row)).collect::<DfResult<Vec<_>>>();
        let continues = self.last.as_ref() == Some(&row(0)?);
        self.last = Some(row(rows - 1)?);
        let ranges = partition(keys)?.ranges();
        Ok(ranges.iter().map(|range| range.start).skip(usize::from(continues)).collect())
    }
}
