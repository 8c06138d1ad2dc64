//! pgvector's operators between arrays: `<->` Euclidean distance, `<=>` cosine distance, `<#>` negative inner product.
//!
//! They stand for the functions of this family. Between operands that are no arrays, `<=>` keeps the engine's meaning.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::{cosine_similarity, inner_product, l2_distance};

/// Plans the operators.
#[derive(Debug)]
pub(super) struct VectorOperators {
    cosine_similarity: Arc<ScalarUDF>,
    inner_product: Arc<ScalarUDF>,
    l2_distance: Arc<ScalarUDF>,
}

impl VectorOperators {
    pub(super) fn new() -> Self {
        Self {
            cosine_similarity: Arc::new(ScalarUDF::new_from_impl(cosine_similarity::CosineSimilarity::new())),
            inner_product: Arc::new(ScalarUDF::new_from_impl(inner_product::InnerProduct::new())),
            l2_distance: Arc::new(ScalarUDF::new_from_impl(l2_distance::L2Distance::new())),
        }
    }
}

/// The operators by the names that the parser gives them.
#[derive(Debug, Clone, Copy)]
enum Distance {
    Euclidean,
    Cosine,
    NegativeProduct,
}

impl Distance {
    fn of(operator: &BinaryOperator) -> Option<Self> {
        match operator {
            BinaryOperator::LtDashGt => Some(Self::Euclidean),
            BinaryOperator::Spaceship => Some(Self::Cosine),
            BinaryOperator::Custom(name) if name == "<#>" => Some(Self::NegativeProduct),
            _ => None,
        }
    }
}

impl ExprPlanner for VectorOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let Some(distance) = Distance::of(&expr.op) else { return Ok(PlannerResult::Original(expr)) };
        let list = |side: &Expr| {
            side.get_type(schema)
                .is_ok_and(|found| matches!(found, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)))
        };
        if !list(&expr.left) && !list(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let call =
            |function: &Arc<ScalarUDF>, left, right| Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![left, right]));
        let planned = match distance {
            Distance::Euclidean => call(&self.l2_distance, expr.left, expr.right),
            Distance::Cosine => lit(1.0) - call(&self.cosine_similarity, expr.left, expr.right),
            Distance::NegativeProduct => -call(&self.inner_product, expr.left, expr.right),
        };
        Ok(PlannerResult::Planned(planned))
    }
}
