//! Joins that compare every row with every row give way: a statement can be cancelled, and others get their turn.
//!
//! `NestedLoopJoinExec` and `CrossJoinExec` put one batch of the probe side beside the whole build side before they look
//! up: with a million rows on the build side that is eight billion pairs, many seconds in which nothing on that thread
//! can be cancelled. Here the rows of the build side are counted as they come, and the probe side is handed over in
//! slices of so many rows that a slice stays below [`PAIRS`], with a yield to the scheduler after each.
//!
//! Joins by keys make a batch at a time, but never wait once both sides are there: whoever counts a million times as many rows
//! as went in would not either. Theirs are handed over by the engine's own node that yields now and then.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, replace_children_if_necessary};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

/// Pairs of rows between two yields: some ten milliseconds.
const PAIRS: usize = 1 << 20;

/// The rule; the last one, so that no other sees what it adds.
#[derive(Debug, Default)]
pub struct SliceJoins;

impl PhysicalOptimizerRule for SliceJoins {
    fn name(&self) -> &'static str {
        "SliceJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let any: &dyn std::any::Any = node.as_ref();
            if any.is::<HashJoinExec>() || any.is::<SortMergeJoinExec>() {
                return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node))));
            }
            if !any.is::<NestedLoopJoinExec>() && !any.is::<CrossJoinExec>() {
                return Ok(Transformed::no(node));
            }
            let build_rows = Arc::new(AtomicUsize::new(0));
            let sides = node.children().into_iter().zip([Side::Build, Side::Probe]);
            let children = sides
                .map(|(input, side)| Arc::new(JoinInputExec { input: Arc::clone(input), side, build_rows: Arc::clone(&build_rows) }) as _);
            let children = children.collect();
            Ok(Transformed::yes(replace_children_if_necessary(node, children)?))
        })
        .data()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Collected as a whole; its rows are counted.
    Build,
    /// Handed over in slices.
    Probe,
}

/// One input of such a join.
#[derive(Debug)]
struct JoinInputExec {
    input: Arc<dyn ExecutionPlan>,
    side: Side,
    build_rows: Arc<AtomicUsize>,
}

impl DisplayAs for JoinInputExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinInputExec: side={:?}", self.side)
    }
}

impl ExecutionPlan for JoinInputExec {
    fn name(&self) -> &'static str {
        "JoinInputExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0), side: self.side, build_rows: Arc::clone(&self.build_rows) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let build_rows = Arc::clone(&self.build_rows);
        Ok(match self.side {
            Side::Build => Box::pin(Counted { input, build_rows }),
            Side::Probe => Box::pin(Sliced { input, build_rows, rest: None, yielded: true }),
        })
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&inputs[0]))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

/// Counts what passes.
struct Counted {
    input: SendableRecordBatchStream,
    build_rows: Arc<AtomicUsize>,
}

impl Stream for Counted {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.input.poll_next_unpin(cx));
        if let Some(Ok(batch)) = &next {
            self.build_rows.fetch_add(batch.num_rows(), Ordering::Relaxed);
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Counted {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

/// Cuts what passes, and yields between the pieces.
struct Sliced {
    input: SendableRecordBatchStream,
    build_rows: Arc<AtomicUsize>,
    rest: Option<RecordBatch>,
    yielded: bool,
}

impl Stream for Sliced {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let most = (PAIRS / self.build_rows.load(Ordering::Relaxed).max(1)).max(1);
        if !self.yielded && most < 8 * 1024 {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match ready!(self.input.poll_next_unpin(cx)) {
                Some(Ok(batch)) => batch,
                ended => return Poll::Ready(ended),
            },
        };
        self.yielded = false;
        if batch.num_rows() <= most {
            return Poll::Ready(Some(Ok(batch)));
        }
        self.rest = Some(batch.slice(most, batch.num_rows() - most));
        Poll::Ready(Some(Ok(batch.slice(0, most))))
    }
}

impl RecordBatchStream for Sliced {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
