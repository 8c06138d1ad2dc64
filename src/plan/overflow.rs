//! Whole numbers that leave their range are an error, as in PostgreSQL; the engine's own arithmetic begins again at the other end.
//!
//! The rule runs before all others: some of them move expressions to where nobody finds them.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// Checks sums, differences and products in lists of columns and in conditions.
#[derive(Debug, Default)]
pub(crate) struct CheckedArithmetic;

impl PhysicalOptimizerRule for CheckedArithmetic {
    fn name(&self) -> &'static str {
        "CheckedArithmetic"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(in_node).data()
    }
}

fn in_node(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let any: &dyn Any = node.as_ref();
    if let Some(projection) = any.downcast_ref::<ProjectionExec>() {
        let schema = projection.input().schema();
        let mut changed = false;
        let mut exprs = Vec::with_capacity(projection.expr().len());
        for column in projection.expr() {
            let checked = checked(&column.expr, &schema)?;
            changed |= checked.transformed;
            exprs.push(ProjectionExpr { expr: checked.data, alias: column.alias.clone() });
        }
        if changed {
            return Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(exprs, Arc::clone(projection.input()))?)));
        }
    } else if let Some(filter) = any.downcast_ref::<FilterExec>() {
        let checked = checked(filter.predicate(), &filter.input().schema())?;
        if checked.transformed {
            return Ok(Transformed::yes(Arc::new(FilterExecBuilder::from(filter).with_predicate(checked.data).build()?)));
        }
    }
    Ok(Transformed::no(node))
}

fn checked(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Arc::clone(expr).transform_up(|expr| {
        let any: &dyn Any = expr.as_ref();
        let Some(binary) = any.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let grows = matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply);
        if !grows || !binary.left().data_type(schema)?.is_integer() || !binary.right().data_type(schema)?.is_integer() {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true))))
    })
}
