//! Putting `Predict` nodes into a plan: find the calls, provide their answers as columns, take the columns away again.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan, Projection, SortExpr};
use std::sync::Arc;

use super::call::{Group, Needs, Question};
use super::marker::Marker;
use super::node::{Output, PREFIX, Predict};
use crate::error::Error;

/// A call and the column that answers it.
pub(super) type Answered = (Expr, Column);

/// The innermost prediction calls of some expressions, each once, in order.
pub(super) fn innermost_calls<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> Result<Vec<Expr>> {
    let mut calls = Vec::new();
    for expression in expressions {
        expression.apply(|part| {
            let Expr::ScalarFunction(call) = part else { return Ok(TreeNodeRecursion::Continue) };
            let nested = call.args.iter().any(mentions_call);
            if Marker::of(call).is_some() && !nested && !calls.contains(part) {
                calls.push(part.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(calls)
}

/// Whether an expression holds a prediction call.
pub(super) fn mentions_call(expression: &Expr) -> bool {
    first_call(expression).is_some()
}

/// The first prediction call in an expression.
pub(super) fn first_call(expression: &Expr) -> Option<Marker> {
    let mut found = None;
    let _ = expression.apply(|part| {
        if let Expr::ScalarFunction(call) = part {
            found = Marker::of(call);
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// Makes `input` answer `question`: by a node that is there already, by one more answer of such a node, or by a node on
/// top. Returns the new input and the column's name.
pub(super) fn provide(input: LogicalPlan, group: &Group, question: &Question, call: &Expr) -> Result<(LogicalPlan, String)> {
    let mut name = format!("{PREFIX}{}", call.schema_name());
    // Expressions that print alike need not be alike: two scalar subqueries, for example.
    while input.schema().has_column_with_unqualified_name(&name) {
        if let Some(found) = existing(&input, group, question) {
            return Ok((input, found));
        }
        name.push('\'');
    }
    let output = Output { column: name, question: question.clone() };
    if let Some(extended) = extend(&input, group, &output)? {
        return Ok(extended);
    }
    let name = output.column.clone();
    Ok((Predict::try_new(group.clone(), vec![output], Needs::default(), input)?.into_plan(), name))
}

/// The column of `plan` that answers the question already.
fn existing(plan: &LogicalPlan, group: &Group, question: &Question) -> Option<String> {
    if let Some(predict) = Predict::of(plan)
        && predict.group == *group
        && let Some(output) = predict.outputs.iter().find(|output| output.question == *question)
    {
        return Some(output.column.clone());
    }
    if Predict::of(plan).is_some() || passes_columns(plan) { existing(plan.inputs()[0], group, question) } else { None }
}

/// Adds an answer to a node of the same group below, if there is one whose columns reach the top of `plan`.
fn extend(plan: &LogicalPlan, group: &Group, output: &Output) -> Result<Option<(LogicalPlan, String)>> {
    if let Some(predict) = Predict::of(plan) {
        if predict.group == *group {
            let mut outputs = predict.outputs.clone();
            if let Some(same) = outputs.iter().find(|other| other.question == output.question) {
                return Ok(Some((plan.clone(), same.column.clone())));
            }
            if !answerable(&output.question, predict.input.schema()) {
                return Ok(None);
            }
            outputs.push(output.clone());
            let node = Predict::try_new(group.clone(), outputs, predict.needs.clone(), predict.input.clone())?;
            return Ok(Some((node.into_plan(), output.column.clone())));
        }
    } else if !passes_columns(plan) {
        return Ok(None);
    }
    let Some((input, name)) = extend(plan.inputs()[0], group, output)? else { return Ok(None) };
    Ok(Some((plan.with_new_exprs(plan.expressions(), vec![input])?, name)))
}

fn answerable(question: &Question, schema: &DFSchema) -> bool {
    match question {
        Question::Probability(class) => class.column_refs().iter().all(|column| schema.has_column(column)),
        _ => true,
    }
}

/// Whether every column of the only input is a column of the node too, under the same name.
pub(super) fn passes_columns(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_))
}

/// Whether a schema has columns that the rule added.
pub(super) fn has_added_columns(schema: &DFSchema) -> bool {
    schema.iter().any(|(qualifier, field)| qualifier.is_none() && field.name().starts_with(PREFIX))
}

/// The plan without the columns that the rule added.
pub(super) fn without_added_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_added_columns(plan.schema()) {
        return Ok(plan);
    }
    let kept = plan
        .schema()
        .iter()
        .filter(|(qualifier, field)| qualifier.is_some() || !field.name().starts_with(PREFIX))
        .map(|(qualifier, field)| Expr::Column(Column::new(qualifier.cloned(), field.name())))
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(kept, Arc::new(plan))?))
}

/// `expression` with the answered calls replaced by their columns.
pub(super) fn replace_calls(expression: Expr, answered: &[Answered]) -> Result<Expr> {
    let replaced = expression.transform_down(|part| {
        Ok(match answered.iter().find(|(call, _)| *call == part) {
            Some((_, column)) => Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump),
            None => Transformed::no(part),
        })
    })?;
    Ok(replaced.data)
}

/// The node over `inputs`, its calls replaced, its output columns named as before.
pub(super) fn rebuild(node: &LogicalPlan, inputs: Vec<LogicalPlan>, answered: &[Answered]) -> Result<LogicalPlan> {
    if let LogicalPlan::Distinct(Distinct::On(distinct)) = node {
        return rebuild_distinct_on(distinct, inputs, answered);
    }
    // A filter, a join and a sort order give no columns of their own.
    let named = !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Join(_));
    let expressions = node
        .expressions()
        .into_iter()
        .map(|expression| if named { replace_named(expression, answered) } else { replace_calls(expression, answered) })
        .collect::<Result<Vec<_>>>()?;
    node.with_new_exprs(expressions, inputs)
}

fn replace_named(expression: Expr, answered: &[Answered]) -> Result<Expr> {
    let name = NamePreserver::new_for_projection().save(&expression);
    Ok(name.restore(replace_calls(expression, answered)?))
}

fn rebuild_distinct_on(distinct: &DistinctOn, inputs: Vec<LogicalPlan>, answered: &[Answered]) -> Result<LogicalPlan> {
    let lost = || Error::internal("DISTINCT ON lost its input while planning");
    let input = inputs.into_iter().next().ok_or_else(lost)?;
    let on = distinct.on_expr.iter().map(|on| replace_calls(on.clone(), answered)).collect::<Result<Vec<_>>>()?;
    let select = distinct.select_expr.iter().map(|column| replace_named(column.clone(), answered)).collect::<Result<Vec<_>>>()?;
    let sort = match &distinct.sort_expr {
        None => None,
        Some(sort) => Some(
            sort.iter()
                .map(|key| {
                    let expr = replace_calls(key.expr.clone(), answered)?;
                    Ok(SortExpr { expr, asc: key.asc, nulls_first: key.nulls_first })
                })
                .collect::<Result<Vec<_>>>()?,
        ),
    };
    Ok(LogicalPlan::Distinct(Distinct::On(DistinctOn::try_new(on, select, sort, Arc::new(input))?)))
}
