//! Aggregates of many groups get their rows sorted out by group first, and see each of them once.
//!
//! The engine aggregates in two stages: each stream by itself, then the partial states by group. Where a state is
//! the list of a user's events, or a map of what the user likes, that saves nothing: it is written down, sent, and read again.
//! With [`SingleStage`] narrow columns are sent instead, group, time and conditions already evaluated, and one stage does all.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::dense_groups::{DenseGroupsExec, key_range};
use super::pairing::{downcast, replaced};
use super::{behavior, profile};

/// Aggregates over the history of a user. None depends on the order of rows.
static OF_A_HISTORY: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let packages = [behavior::package(), profile::package()];
    packages.iter().flat_map(|package| &package.aggregates).map(|function| function.name().to_owned()).collect()
});

/// Rows and values of the group's column from which on sorting is quicker than a table.
const ROWS_MANY: usize = 1 << 20;
const GROUPS_MANY: u64 = 1 << 17;

/// The rule.
#[derive(Debug, Default)]
pub(crate) struct SingleStage;

impl PhysicalOptimizerRule for SingleStage {
    fn name(&self) -> &'static str {
        "SingleStage"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        replaced(plan, &|node, paired| {
            let Some(stages) = stages(&node) else { return Ok(node) };
            if !paired && let Some(dense) = DenseGroupsExec::in_place_of(&node, stages.first) {
                return Ok(Arc::new(dense));
            }
            Ok(stages.joined(&node)?.unwrap_or(node))
        })
    }
}

/// The first of the two stages, and where its states are sent.
struct Stages<'a> {
    first: &'a AggregateExec,
    partitions: usize,
}

/// The stages below a node that is the second one, when a function of them keeps rows.
fn stages(node: &Arc<dyn ExecutionPlan>) -> Option<Stages<'_>> {
    let second = downcast::<AggregateExec>(node).filter(|second| *second.mode() == AggregateMode::FinalPartitioned)?;
    let sent = downcast::<RepartitionExec>(second.input())?;
    let Partitioning::Hash(_, partitions) = sent.partitioning() else { return None };
    let first = downcast::<AggregateExec>(sent.input()).filter(|first| *first.mode() == AggregateMode::Partial)?;
    let plain = first.group_expr().is_single() && first.limit_options().is_none() && second.limit_options().is_none();
    let keeps = |first: &AggregateExec| first.aggr_expr().iter().any(|function| OF_A_HISTORY.contains(function.fun().name()));
    let ordered = first.aggr_expr().iter().any(|function| !function.order_bys().is_empty());
    let heavy = !ordered && (keeps(first) || has_many_groups(first));
    // Rows that come in the order of their groups are aggregated without a table; leave that as it is.
    let unordered = *first.input_order_mode() == datafusion::physical_plan::InputOrderMode::Linear;
    (plain && heavy && unordered).then_some(Stages { first, partitions: *partitions })
}

/// Whether a whole number tells the groups apart and has so many values that a table of them would not stay in the cache: sorted
/// rows need none.
fn has_many_groups(first: &AggregateExec) -> bool {
    key_range(first).is_some_and(|(rows, range)| rows >= ROWS_MANY && (GROUPS_MANY..=u64::from(u32::MAX)).contains(&range.count))
}

/// The columns that are sent.
#[derive(Default)]
struct Sent {
    columns: Vec<ProjectionExpr>,
}

impl Sent {
    /// The place of an expression among the columns; equal ones are sent once.
    fn column(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        let at = self.columns.iter().position(|column| column.expr.eq(expr)).unwrap_or_else(|| {
            let alias = format!("__sent_{}", self.columns.len());
            self.columns.push(ProjectionExpr { expr: Arc::clone(expr), alias });
            self.columns.len() - 1
        });
        Arc::new(Column::new(&self.columns[at].alias, at))
    }
}

impl Stages<'_> {
    fn joined(&self, second: &Arc<dyn ExecutionPlan>) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let mut sent = Sent::default();
        let groups: Vec<_> = self.first.group_expr().expr().iter().map(|(expr, name)| (sent.column(expr), name.clone())).collect();
        let mut functions = Vec::with_capacity(self.first.aggr_expr().len());
        for function in self.first.aggr_expr() {
            match with_columns(function, &mut sent) {
                Some(function) => functions.push(Arc::new(function)),
                None => return Ok(None),
            }
        }
        let filters = self.first.filter_expr().iter().map(|filter| filter.as_ref().map(|filter| sent.column(filter))).collect();
        let projected = Arc::new(ProjectionExec::try_new(sent.columns, Arc::clone(self.first.input()))?);
        let keys = groups.iter().map(|(column, _)| Arc::clone(column)).collect();
        let by_group = Arc::new(RepartitionExec::try_new(projected, Partitioning::Hash(keys, self.partitions))?);
        let by_group = in_order(by_group, &groups);
        let mode = if self.partitions == 1 { AggregateMode::Single } else { AggregateMode::SinglePartitioned };
        let schema = by_group.schema();
        let single = AggregateExec::try_new(mode, PhysicalGroupBy::new_single(groups), functions, filters, by_group, schema)?;
        // NULLs may be known to be absent in one place and not in the other: then the plan stays.
        Ok((single.schema() == second.schema()).then(|| Arc::new(single) as Arc<dyn ExecutionPlan>))
    }
}

/// Rows with a whole number as their group are put in order: the rows of a group meet their state while it is at hand, and it
/// goes as soon as the next group comes.
fn in_order(rows: Arc<dyn ExecutionPlan>, groups: &[(Arc<dyn PhysicalExpr>, String)]) -> Arc<dyn ExecutionPlan> {
    let [(group, _)] = groups else { return rows };
    let schema = rows.schema();
    if !matches!(group.data_type(&schema), Ok(DataType::Int64 | DataType::Int32)) {
        return rows;
    }
    let options = SortOptions { descending: false, nulls_first: false };
    match LexOrdering::new([PhysicalSortExpr::new(Arc::clone(group), options)]) {
        Some(order) => Arc::new(SortExec::new(order, rows).with_preserve_partitioning(true)),
        None => rows,
    }
}

/// The function over the columns that are sent; constants stay where they are.
fn with_columns(function: &AggregateFunctionExpr, sent: &mut Sent) -> Option<AggregateFunctionExpr> {
    let constant = |expr: &Arc<dyn PhysicalExpr>| (expr.as_ref() as &dyn std::any::Any).is::<Literal>();
    let mut place = |expr: &Arc<dyn PhysicalExpr>| if constant(expr) { Arc::clone(expr) } else { sent.column(expr) };
    let args = function.expressions().iter().map(&mut place).collect();
    let order = function.order_bys().iter().map(|order| place(&order.expr)).collect();
    function.with_new_expressions(args, order)
}
