//! Aggregates over rows that lie in the order of their groups find the groups by comparing neighbours.
//!
//! A table of events lies by user, and so does whatever was sorted before. The engine hashes every row of it all the same, to look up
//! the group that the row before had. Here a batch is cut where its keys change; the engine's own accumulators do the rest, and give
//! away groups as soon as a batch of them is complete. In memory are those, and what the group at hand keeps.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat, partition, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::InputOrderMode;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use super::arguments::{Feeder, Functions, States};
use super::pairing::{downcast, replaced};

/// The rule.
#[derive(Debug, Default)]
pub(super) struct RunGroups;

impl PhysicalOptimizerRule for RunGroups {
    fn name(&self) -> &'static str {
        "RunGroups"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        replaced(plan, &|node, _| Ok(by_runs(node)))
    }
}

/// The aggregate by runs where its rows lie in the order of its groups, else the node itself.
fn by_runs(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match RunGroupsExec::in_place_of(&node) {
        Some(own) => Arc::new(own),
        None => node,
    }
}

/// Whether values are one group when neighbours compare as equal: the engine makes one zero of two.
fn is_comparable(found: &DataType) -> bool {
    let plain = found.is_primitive() || found.is_string() || matches!(found, DataType::Boolean);
    plain && !found.is_floating()
}

/// An aggregate whose groups come one after the other.
#[derive(Debug)]
struct RunGroupsExec {
    /// The engine's aggregate.
    aggregate: Arc<dyn ExecutionPlan>,
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    functions: Functions,
    metrics: ExecutionPlanMetricsSet,
}

impl RunGroupsExec {
    fn in_place_of(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let aggregate = downcast::<AggregateExec>(node)?;
        let single = matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned);
        let in_order = *aggregate.input_order_mode() == InputOrderMode::Sorted;
        let keys = aggregate.group_expr().expr();
        let plain = |function: &Arc<AggregateFunctionExpr>| {
            function.order_bys().is_empty() && !function.is_distinct() && function.groups_accumulator_supported()
        };
        let schema = aggregate.input().schema();
        let comparable = |(key, _): &(Arc<dyn PhysicalExpr>, String)| key.data_type(&schema).is_ok_and(|found| is_comparable(&found));
        let fits = single
            && in_order
            && !keys.is_empty()
            && aggregate.group_expr().is_single()
            && aggregate.limit_options().is_none()
            && keys.iter().all(comparable)
            && aggregate.aggr_expr().iter().all(plain);
        fits.then(|| Self {
            aggregate: Arc::clone(node),
            input: Arc::clone(aggregate.input()),
            keys: keys.iter().map(|(key, _)| Arc::clone(key)).collect(),
            functions: Functions::of(aggregate),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for RunGroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "RunGroupsExec: gby=[{}], aggr=[{}], ordering_mode=Sorted", keys.join(", "), self.functions.names())
    }
}

impl ExecutionPlan for RunGroupsExec {
    fn name(&self) -> &'static str {
        "RunGroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.aggregate.properties()
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

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(by_runs(replace_children_if_necessary(Arc::clone(&self.aggregate), children)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runs = Runs {
            rows: Some(self.input.execute(partition, Arc::clone(&context))?),
            schema: self.schema(),
            keys: self.keys.clone(),
            feeder: Feeder::new(&self.functions),
            states: self.functions.states()?,
            first_rows: vec![],
            count: 0,
            groups: vec![],
            size: context.session_config().batch_size(),
            memory: MemoryConsumer::new("RunGroups").register(context.memory_pool()),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = futures::stream::try_unfold(runs, |mut runs| async move { Ok(runs.next().await?.map(|batch| (batch, runs))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.aggregate.child_stats_requests(partition)
    }

    fn statistics_from_inputs(&self, stats: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        self.aggregate.statistics_from_inputs(stats, args)
    }
}

/// One stream's groups.
struct Runs {
    /// `None` at their end.
    rows: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    feeder: Feeder,
    states: States,
    /// The keys of the groups that were not given away, in pieces: the columns of each.
    first_rows: Vec<Vec<ArrayRef>>,
    /// How many groups those are; the last one may go on.
    count: usize,
    /// The group of each row of a batch.
    groups: Vec<usize>,
    size: usize,
    memory: MemoryReservation,
    metrics: BaselineMetrics,
}

impl Runs {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(rows) = &mut self.rows {
            let Some(batch) = rows.next().await.transpose()? else {
                self.rows = None;
                let _timer = self.metrics.elapsed_compute().clone();
                return if self.count == 0 { Ok(None) } else { self.give(self.count).map(Some) };
            };
            let compute = self.metrics.elapsed_compute().clone();
            let _timer = compute.timer();
            self.add(&batch)?;
            // The last group may go on in the next batch.
            if self.count > self.size {
                return self.give(self.count - 1).map(Some);
            }
        }
        Ok(None)
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let evaluated = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let keys = self.keys.iter().map(evaluated).collect::<Result<Vec<_>>>()?;
        self.find_groups(&keys)?;
        self.feeder.feed(&mut self.states, batch, &self.groups, self.count)?;
        self.account()
    }

    /// The groups of a batch's rows; new ones are appended.
    fn find_groups(&mut self, keys: &[ArrayRef]) -> Result<()> {
        let runs = partition(keys)?.ranges();
        let goes_on = match self.first_rows.last() {
            Some(last) => is_same(last, keys)?,
            None => false,
        };
        let begins: UInt32Array = runs.iter().skip(usize::from(goes_on)).map(|run| u32::try_from(run.start).ok()).collect();
        let mut group = if goes_on { self.count - 1 } else { self.count };
        self.groups.clear();
        for run in &runs {
            self.groups.resize(run.end, group);
            group += 1;
        }
        self.count = group;
        if !begins.is_empty() {
            self.first_rows.push(keys.iter().map(|key| take(key, &begins, None)).collect::<std::result::Result<_, _>>()?);
        }
        Ok(())
    }

    fn account(&self) -> Result<()> {
        let keys: usize = self.first_rows.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        self.memory.try_resize(self.states.bytes() + keys)
    }

    /// Gives the first `count` groups away.
    fn give(&mut self, count: usize) -> Result<RecordBatch> {
        let pieces = std::mem::take(&mut self.first_rows);
        let column = |at: usize| concat(&pieces.iter().map(|piece| piece[at].as_ref()).collect::<Vec<_>>());
        let keys = (0..self.keys.len()).map(column).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut columns: Vec<ArrayRef> = keys.iter().map(|key| key.slice(0, count)).collect();
        if count < self.count {
            // In memory of its own, or all would stay for it.
            let last = UInt32Array::from_iter_values((count..self.count).filter_map(|at| u32::try_from(at).ok()));
            self.first_rows.push(keys.iter().map(|key| take(key, &last, None)).collect::<std::result::Result<_, _>>()?);
        }
        let emit = if count == self.count { EmitTo::All } else { EmitTo::First(count) };
        columns.extend(self.states.evaluate(emit)?);
        self.count -= count;
        self.account()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.metrics.record_output(batch.num_rows());
        Ok(batch)
    }
}

/// Whether the last row of `before` and the first of `keys` are equal, NULLs included.
pub(super) fn is_same(before: &[ArrayRef], keys: &[ArrayRef]) -> Result<bool> {
    for (before, key) in before.iter().zip(keys) {
        let last = before.len().checked_sub(1).ok_or_else(|| DataFusionError::Internal("a piece of keys is empty".into()))?;
        if !not_distinct(&before.slice(last, 1), &key.slice(0, 1))?.value(0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext, col};

    use super::*;
    use crate::kernels::splitmix;

    /// Rows in the order of two keys, NULLs among them, cut into batches anywhere.
    fn batches(seed: u64) -> (SchemaRef, Vec<RecordBatch>) {
        let at = |i: u64| splitmix::at(seed, i);
        let count = at(0) % 400;
        let mut rows: Vec<(Option<i64>, Option<String>, i64)> = (1..=count)
            .map(|i| {
                let key = Some((at(3 * i) % 30) as i64).filter(|key| *key != 7);
                (key, Some(format!("k{}", at(3 * i + 1) % 3)).filter(|text| text != "k1"), (at(3 * i + 2) % 100) as i64)
            })
            .collect();
        rows.sort();
        let fields =
            vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true), Field::new("v", DataType::Int64, false)];
        let schema = Arc::new(Schema::new(fields));
        let (mut found, mut from) = (vec![], 0);
        while from < rows.len() {
            let part = &rows[from..rows.len().min(from + 1 + (at(9000 + from as u64) % 40) as usize)];
            from += part.len();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(part.iter().map(|row| row.0).collect::<Int64Array>()),
                Arc::new(part.iter().map(|row| row.1.clone()).collect::<StringArray>()),
                Arc::new(part.iter().map(|row| row.2).collect::<Int64Array>()),
            ];
            found.push(RecordBatch::try_new(Arc::clone(&schema), columns).unwrap());
        }
        (schema, found)
    }

    async fn answer(table: MemTable, question: &str, rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>]) -> (String, String) {
        let config = SessionConfig::new().with_target_partitions(1).with_batch_size(16);
        let builder = SessionStateBuilder::new().with_config(config).with_default_features();
        let builder = rules.iter().fold(builder, |builder, rule| builder.with_physical_optimizer_rule(Arc::clone(rule)));
        let session = SessionContext::new_with_state(builder.build());
        session.register_table("t", Arc::new(table)).unwrap();
        let rows = session.sql(question).await.unwrap().collect().await.unwrap();
        let plan = session.sql(&format!("EXPLAIN {question}")).await.unwrap().collect().await.unwrap();
        (pretty_format_batches(&rows).unwrap().to_string(), pretty_format_batches(&plan).unwrap().to_string())
    }

    #[tokio::test]
    async fn neighbours_make_the_groups_that_hashing_makes() {
        for seed in 0..60 {
            let (schema, rows) = batches(seed);
            for question in [
                "SELECT a, count(*), sum(v), min(v) FILTER (WHERE v > 50), avg(v) FROM t GROUP BY a ORDER BY a NULLS FIRST",
                "SELECT a, b, count(*), max(v) FROM t GROUP BY a, b ORDER BY a NULLS FIRST, b NULLS FIRST",
            ] {
                let hashed = MemTable::try_new(Arc::clone(&schema), vec![rows.clone()]).unwrap();
                let order = vec![vec![col("a").sort(true, true), col("b").sort(true, true)]];
                let ordered = MemTable::try_new(Arc::clone(&schema), vec![rows.clone()]).unwrap().with_sort_order(order);
                let (found, plan) = answer(ordered, question, &[Arc::new(RunGroups)]).await;
                assert!(plan.contains("RunGroupsExec"), "{plan}");
                assert_eq!(found, answer(hashed, question, &[]).await.0, "seed {seed}: {question}");
            }
        }
    }
}
