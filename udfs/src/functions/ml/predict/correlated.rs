//! Predictions inside a subquery that depend on the outer query only: `… WHERE EXISTS (SELECT 1 FROM offers o WHERE o.intent =
//! predict_intent('m', u.user_id))`. They are answered once per outer row, below the operator that holds the
//! subquery, and the subquery refers to the outer column.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use super::attach::{innermost_calls, passes_columns, provide};
use super::call::read;
use super::marker::Marker;
use super::models::Models;

/// A call in a subquery and the outer column that replaces it.
type Lifted = (Expr, Expr);

/// Moves such calls out of their subqueries, through the whole plan.
pub(super) fn lift(plan: LogicalPlan, models: &dyn Models) -> Result<LogicalPlan> {
    Ok(plan.transform_down_with_subqueries(|node| lift_one(node, models))?.data)
}

fn lift_one(node: LogicalPlan, models: &dyn Models) -> Result<Transformed<LogicalPlan>> {
    let holds = passes_columns(&node) || matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_));
    if !holds {
        return Ok(Transformed::no(node));
    }
    let mut input = node.inputs()[0].clone();
    let mut lifted: Vec<Lifted> = Vec::new();
    for call in outer_calls(&node, input.schema())? {
        let outer = to_outer(call.clone())?;
        let Expr::ScalarFunction(function) = &outer else { continue };
        let Some(marker) = Marker::of(function) else { continue };
        if let Some((group, question)) = read(marker, function, input.schema(), models)? {
            let (extended, name) = provide(input, &group, &question, &outer)?;
            input = extended;
            let field = Arc::new(Field::new(&name, marker.return_type(), true));
            lifted.push((call, Expr::OuterReferenceColumn(field, Column::new_unqualified(name))));
        }
    }
    if lifted.is_empty() {
        return Ok(Transformed::no(node));
    }
    let node = node.map_subqueries(|subquery| replace_in_subquery(subquery, &lifted))?.data;
    Ok(Transformed::yes(node.with_new_exprs(node.expressions(), vec![input])?))
}

/// The calls in the node's subqueries whose columns all come from `schema`, the node's input.
fn outer_calls(node: &LogicalPlan, schema: &DFSchema) -> Result<Vec<Expr>> {
    let mut calls = Vec::new();
    node.apply_subqueries(|subquery| {
        subquery.apply_with_subqueries(|inner| {
            for call in innermost_calls(&inner.expressions())? {
                if depends_on_outer_only(&call, schema)? && !calls.contains(&call) {
                    calls.push(call);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(calls)
}

fn depends_on_outer_only(call: &Expr, schema: &DFSchema) -> Result<bool> {
    let (mut outer, mut other) = (false, false);
    call.apply(|part| {
        match part {
            Expr::OuterReferenceColumn(_, column) if schema.has_column(column) => outer = true,
            Expr::OuterReferenceColumn(..) | Expr::Column(_) => other = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(outer && !other)
}

fn to_outer(call: Expr) -> Result<Expr> {
    let turned = call.transform_up(|part| {
        Ok(match part {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    })?;
    Ok(turned.data)
}

fn replace_in_subquery(plan: LogicalPlan, lifted: &[Lifted]) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Subquery(subquery) = plan else { return Ok(Transformed::no(plan)) };
    let inner = Arc::unwrap_or_clone(subquery.subquery).transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let replaced = node.map_expressions(|expression| {
            let name = names.save(&expression);
            let replaced = expression.transform_down(|part| {
                Ok(match lifted.iter().find(|(call, _)| *call == part) {
                    Some((_, column)) => Transformed::new(column.clone(), true, TreeNodeRecursion::Jump),
                    None => Transformed::no(part),
                })
            })?;
            Ok(replaced.update_data(|expression| name.restore(expression)))
        })?;
        replaced.map_data(LogicalPlan::recompute_schema)
    })?;
    let outer_ref_columns = inner.data.all_out_ref_exprs();
    Ok(Transformed::yes(LogicalPlan::Subquery(Subquery { subquery: Arc::new(inner.data), outer_ref_columns, spans: subquery.spans })))
}
