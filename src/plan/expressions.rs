//! Changes the expressions of plan nodes: lists of columns, conditions, and what aggregates are grouped by and read.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

type Expr = Arc<dyn PhysicalExpr>;
type Plan = Arc<dyn ExecutionPlan>;

/// The plan with each expression that `change` makes another one of; the schema is that of the expression's columns. Types must stay.
pub(super) fn with_each(plan: Plan, change: &dyn Fn(Expr, &Schema) -> Result<Transformed<Expr>>) -> Result<Plan> {
    with_each_of(plan, &|_| true, change)
}

/// As [`with_each`], in those nodes alone that `taken` is true of.
pub(super) fn with_each_of(
    plan: Plan,
    taken: &dyn Fn(&dyn ExecutionPlan) -> bool,
    change: &dyn Fn(Expr, &Schema) -> Result<Transformed<Expr>>,
) -> Result<Plan> {
    plan.transform_up(|node| {
        if !taken(node.as_ref()) {
            Ok(Transformed::no(node))
        } else if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            in_projection(projection, change).map(|changed| or_same(changed, node))
        } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
            in_filter(filter, change).map(|changed| or_same(changed, node))
        } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            in_aggregate(aggregate, change).map(|changed| or_same(changed, node))
        } else {
            Ok(Transformed::no(node))
        }
    })
    .data()
}

fn or_same(changed: Option<Plan>, node: Plan) -> Transformed<Plan> {
    changed.map_or_else(|| Transformed::no(node), Transformed::yes)
}

/// Changes expressions one after the other, and remembers whether any did.
struct Changes<'a> {
    change: &'a dyn Fn(Expr, &Schema) -> Result<Transformed<Expr>>,
    schema: &'a Schema,
    any: bool,
}

impl Changes<'_> {
    fn of(&mut self, expr: &Expr) -> Result<Expr> {
        let changed = Arc::clone(expr).transform_up(|expr| (self.change)(expr, self.schema))?;
        self.any |= changed.transformed;
        Ok(changed.data)
    }

    fn of_all(&mut self, exprs: &[(Expr, String)]) -> Result<Vec<(Expr, String)>> {
        exprs.iter().map(|(expr, name)| Ok((self.of(expr)?, name.clone()))).collect()
    }
}

fn in_projection(node: &ProjectionExec, change: &dyn Fn(Expr, &Schema) -> Result<Transformed<Expr>>) -> Result<Option<Plan>> {
    let schema = node.input().schema();
    let mut changes = Changes { change, schema: &schema, any: false };
    let column = |column: &ProjectionExpr| Ok(ProjectionExpr { expr: changes.of(&column.expr)?, alias: column.alias.clone() });
    let columns = node.expr().iter().map(column).collect::<Result<Vec<_>>>()?;
    if !changes.any {
        return Ok(None);
    }
    Ok(Some(Arc::new(ProjectionExec::try_new(columns, Arc::clone(node.input()))?)))
}

fn in_filter(node: &FilterExec, change: &dyn Fn(Expr, &Schema) -> Result<Transformed<Expr>>) -> Result<Option<Plan>> {
    let schema = node.input().schema();
    let mut changes = Changes { change, schema: &schema, any: false };
    let predicate = changes.of(node.predicate())?;
    if !changes.any {
        return Ok(None);
    }
    Ok(Some(Arc::new(FilterExecBuilder::from(node).with_predicate(predicate).build()?)))
}

/// What a last step reads are the states of the first one, but its functions are told of the same expressions.
fn in_aggregate(node: &AggregateExec, change: &dyn Fn(Expr, &Schema) -> Result<Transformed<Expr>>) -> Result<Option<Plan>> {
    let (schema, read) = (node.input_schema(), node.input().schema());
    let mut changes = Changes { change, schema: &schema, any: false };
    let functions = node.aggr_expr().iter().map(|function| in_function(function, &mut changes)).collect::<Result<Vec<_>>>()?;
    let filter = |filter: &Option<Expr>| filter.as_ref().map(|filter| changes.of(filter)).transpose();
    let filters = node.filter_expr().iter().map(filter).collect::<Result<Vec<_>>>()?;
    let mut grouped = Changes { change, schema: &read, any: changes.any };
    let groups = node.group_expr();
    let by = PhysicalGroupBy::new(
        grouped.of_all(groups.expr())?,
        grouped.of_all(groups.null_expr())?,
        groups.groups().to_vec(),
        groups.has_grouping_set(),
    );
    if !grouped.any {
        return Ok(None);
    }
    let changed = AggregateExec::try_new(*node.mode(), by, functions, filters, Arc::clone(node.input()), schema)?;
    Ok(Some(Arc::new(changed.with_limit_options(node.limit_options()))))
}

fn in_function(function: &Arc<AggregateFunctionExpr>, changes: &mut Changes<'_>) -> Result<Arc<AggregateFunctionExpr>> {
    let all = function.all_expressions();
    let args = all.args.iter().map(|expr| changes.of(expr)).collect::<Result<Vec<_>>>()?;
    Ok(function.with_new_expressions(args, all.order_by_exprs).map_or_else(|| Arc::clone(function), Arc::new))
}
