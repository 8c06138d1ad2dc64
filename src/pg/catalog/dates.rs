//! A date with an interval is a time stamp, as in PostgreSQL: `DATE '2024-02-29' + INTERVAL '1 hour'` is 01:00 of that
//! day. The engine would keep the date, and lose the hour.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Casts the date.
#[derive(Debug)]
pub(super) struct DatesWithIntervals;

impl ExprPlanner for DatesWithIntervals {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if !matches!(expr.op, BinaryOperator::Plus | BinaryOperator::Minus) {
            return Ok(PlannerResult::Original(expr));
        }
        let is_date = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Date32 | DataType::Date64));
        let is_interval = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Interval(_)));
        let timestamp = |expr| cast(expr, DataType::Timestamp(TimeUnit::Microsecond, None));
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = match (is_date(&left), is_date(&right)) {
            (true, false) if is_interval(&right) => (timestamp(left), right),
            (false, true) if is_interval(&left) && op == BinaryOperator::Plus => (left, timestamp(right)),
            _ => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}
