//! Whole numbers that leave their range are an error, as in PostgreSQL; the engine's own arithmetic begins again at the other end.
//!
//! The rule runs before all others: some of them move expressions to where nobody finds them.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::expressions::with_each;

/// Checks sums, differences and products in lists of columns, in conditions, and in what aggregates are grouped by and read.
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
        with_each(plan, &|expr, schema| {
            let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
            let grows = matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply);
            if !grows || !binary.left().data_type(schema)?.is_integer() || !binary.right().data_type(schema)?.is_integer() {
                return Ok(Transformed::no(expr));
            }
            Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true))))
        })
    }
}
