//! The analyzer rule: prediction calls become columns of `Predict` nodes.
//!
//! Each operator that names predictions gets a node below it, one per distinct (version, subject, `as_of`), and reads
//! columns instead. The columns travel up through operators that pass their input on, so that a projection over a
//! filter uses the filter's node, and are projected away wherever they would change a schema. Every call is
//! therefore evaluated once per row, wherever it is named, and the version is fixed in the plan. Calls inside a `CASE`
//! branch are evaluated for all rows that reach the operator: a prediction has no side effects and no errors that
//! depend on the row.
//!
//! The rule accepts plans that it has seen before and resolves their models again, so a program that keeps analyzed plans
//! runs it again to see a newly active version.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Distinct, EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Values};
use datafusion::optimizer::AnalyzerRule;

use super::attach::{first_call, has_added_columns, innermost_calls, passes_columns, provide, rebuild, without_added_columns};
use super::call::{Needs, read};
use super::correlated;
use super::marker::Marker;
use super::models::Models;
use super::node::Predict;
use crate::error::Error;
use crate::registry::ModelRef;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct HoistPredictions {
    pub(crate) models: Arc<dyn Models>,
}

impl AnalyzerRule for HoistPredictions {
    fn name(&self) -> &'static str {
        "hoist_predictions"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        if !mentions_predictions(&plan)? {
            return Ok(plan);
        }
        let plan = correlated::lift(plan, &*self.models)?;
        let plan = plan.transform_up_with_subqueries(|node| self.visit(node))?.data;
        share_needs(without_added_columns(plan)?)
    }
}

impl HoistPredictions {
    fn visit(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if let Some(predict) = Predict::of(&node) {
            return self.resolve_again(predict).map(Transformed::yes);
        }
        match &node {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(Distinct::On(_)) => self.absorb(node),
            LogicalPlan::Join(_) => self.absorb_join(node),
            LogicalPlan::Values(values) if node.expressions().iter().any(|value| first_call(value).is_some()) => {
                self.absorb_values(values).map(Transformed::yes)
            }
            _ if passes_columns(&node) => self.absorb(node),
            _ => keep_schema(node),
        }
    }

    /// An operator with one input: answers its calls below it.
    fn absorb(&self, mut node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let mut changed = false;
        loop {
            let mut input = node.inputs()[0].clone();
            let mut answered = Vec::new();
            for call in innermost_calls(&node.expressions())? {
                let Expr::ScalarFunction(function) = &call else { continue };
                let Some(marker) = Marker::of(function) else { continue };
                if let Some((group, question)) = read(marker, function, input.schema(), &*self.models)? {
                    let (extended, column) = provide(input, &group, &question, &call)?;
                    input = extended;
                    answered.push((call, Column::new_unqualified(column)));
                }
            }
            if answered.is_empty() {
                break;
            }
            node = rebuild(&node, vec![input], &answered)?;
            changed = true;
        }
        // Columns from below change the schema of an operator that passes its input on.
        if !changed && passes_columns(&node) && has_added_columns(node.inputs()[0].schema()) {
            let inputs = node.inputs().into_iter().cloned().collect();
            return Ok(Transformed::yes(node.with_new_exprs(node.expressions(), inputs)?));
        }
        Ok(Transformed::new_transformed(node, changed))
    }

    /// A join condition's calls are answered on the side that has their columns.
    fn absorb_join(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let mut node = keep_schema(node)?;
        loop {
            let mut sides: Vec<LogicalPlan> = node.data.inputs().into_iter().cloned().collect();
            let mut answered = Vec::new();
            for call in innermost_calls(&node.data.expressions())? {
                let Expr::ScalarFunction(function) = &call else { continue };
                let Some(marker) = Marker::of(function) else { continue };
                let columns = call.column_refs();
                let owner = sides.iter().position(|side| columns.iter().all(|column| side.schema().has_column(column)));
                let Some(owner) = owner else {
                    return Err(marker.misplaced("with arguments from both sides of a join condition").into());
                };
                if let Some((group, question)) = read(marker, function, sides[owner].schema(), &*self.models)? {
                    let (extended, column) = provide(sides[owner].clone(), &group, &question, &call)?;
                    sides[owner] = extended;
                    answered.push((call, Column::new_unqualified(column)));
                }
            }
            if answered.is_empty() {
                break;
            }
            node = Transformed::yes(rebuild(&node.data, sides, &answered)?);
        }
        if node.transformed && has_added_columns(node.data.schema()) {
            node.data = without_added_columns(node.data)?;
        }
        Ok(node)
    }

    /// `VALUES (predict_intent(…), …)`: each row becomes a projection of its own.
    fn absorb_values(&self, values: &Values) -> Result<LogicalPlan> {
        let mut rows = None;
        for row in &values.values {
            let one = LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: true,
                schema: Arc::new(datafusion::common::DFSchema::empty()),
            });
            let columns = row.iter().zip(values.schema.fields()).map(|(value, field)| value.clone().alias(field.name())).collect();
            let projection = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(one))?);
            let projection = LogicalPlanBuilder::from(self.absorb(projection)?.data);
            rows = Some(match rows {
                None => projection,
                Some(rows) => LogicalPlanBuilder::union(rows, projection.build()?)?,
            });
        }
        rows.ok_or_else(|| Error::internal("VALUES without rows"))?.build()
    }

    /// A node of an earlier analysis: the model's name is resolved anew.
    fn resolve_again(&self, predict: &Predict) -> Result<LogicalPlan> {
        let mut group = predict.group.clone();
        group.model = self.models.pin(&group.requested)?.0;
        let node = Predict::try_new(group, predict.outputs.clone(), predict.needs.clone(), predict.input.clone())?;
        Ok(node.into_plan())
    }
}

/// Any other operator sees the schema it was planned with. Calls cannot stand in it.
fn keep_schema(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !matches!(node, LogicalPlan::Join(_)) {
        for expression in node.expressions() {
            if let Some(marker) = first_call(&expression) {
                return Err(marker.misplaced("here").into());
            }
        }
    }
    if !node.inputs().iter().any(|input| has_added_columns(input.schema())) {
        return Ok(Transformed::no(node));
    }
    let inputs = node.inputs().into_iter().map(|input| without_added_columns(input.clone())).collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(node.with_new_exprs(node.expressions(), inputs)?))
}

/// Whether a plan has anything for the rule to do.
fn mentions_predictions(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found = Predict::of(node).is_some();
        if !found {
            node.apply_expressions(|expression| {
                found |= first_call(expression).is_some();
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Lets all nodes of a statement that use one version ask for the same things, so that one forward pass per user
/// serves all of them.
fn share_needs(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut needs: HashMap<ModelRef, Needs> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        if let Some(predict) = Predict::of(node) {
            needs.entry(predict.group.model.clone()).or_default().merge(&predict.needs);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let shared = plan.transform_up_with_subqueries(|node| {
        let Some(predict) = Predict::of(&node) else { return Ok(Transformed::no(node)) };
        let Some(needs) = needs.get(&predict.group.model).filter(|needs| **needs != predict.needs) else {
            return Ok(Transformed::no(node));
        };
        let node = Predict::try_new(predict.group.clone(), predict.outputs.clone(), needs.clone(), predict.input.clone())?;
        Ok(Transformed::yes(node.into_plan()))
    })?;
    Ok(shared.data)
}
