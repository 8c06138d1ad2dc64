//! Logical node → physical node.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::call::{Question, Subject};
use super::exec::{PredictExec, Services};
use super::execution::Executions;
use super::models::Models;
use super::node::Predict;
use super::physical::{PhysicalGroup, PhysicalOutput, PhysicalQuestion, PhysicalSubject};
use crate::error::Error;

/// Plans `Predict` nodes.
#[derive(Debug)]
pub(crate) struct PredictPlanner {
    pub(crate) models: Arc<dyn Models>,
    pub(crate) executions: Arc<Executions>,
}

#[async_trait]
impl ExtensionPlanner for PredictPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(predict) = node.as_any().downcast_ref::<Predict>() else { return Ok(None) };
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
            return Err(Error::internal("predictions need DataFusion's own session state").into());
        };
        let schema = predict.input.schema();
        let physical = |expr: &Expr| planner.create_physical_expr(expr, schema, session, context);
        let optional = |expr: &Option<Expr>| expr.as_ref().map(physical).transpose();
        let subject = match &predict.group.subject {
            Subject::User(user) => PhysicalSubject::User(physical(user)?),
            Subject::Row(row) => PhysicalSubject::Row(physical(row)?),
            Subject::Sequence { events, items, times } => {
                PhysicalSubject::Sequence { events: physical(events)?, items: optional(items)?, times: optional(times)? }
            }
        };
        let as_of: Option<Arc<dyn PhysicalExpr>> = optional(&predict.group.as_of)?;
        let outputs = predict
            .outputs
            .iter()
            .map(|output| {
                let question = match &output.question {
                    Question::Intent => PhysicalQuestion::Intent,
                    Question::Probability(class) => PhysicalQuestion::Probability(physical(class)?),
                    Question::Value => PhysicalQuestion::Value,
                    Question::Embedding { normalize } => PhysicalQuestion::Embedding { normalize: *normalize },
                };
                Ok(PhysicalOutput { column: output.column.clone(), question })
            })
            .collect::<Result<Vec<_>>>()?;
        let group = PhysicalGroup { model: predict.group.model.clone(), subject, as_of };
        let services =
            Services { models: Arc::clone(&self.models), executions: Arc::clone(&self.executions), session: Arc::new(state.clone()) };
        let input = Arc::clone(&inputs[0]);
        Ok(Some(Arc::new(PredictExec::try_new(group, outputs, predict.needs.clone(), services, input)?)))
    }
}
