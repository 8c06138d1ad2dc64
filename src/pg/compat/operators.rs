//! Operators and forms that are functions here: an interval times a number, a member of a JSON text, `EXTRACT`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::{date_part, intervals, json};

/// Plans them.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let (function, swapped) = match op {
            BinaryOperator::Arrow => (Some(json::get()), false),
            BinaryOperator::LongArrow => (Some(json::get_text()), false),
            BinaryOperator::HashArrow => (Some(json::path()), false),
            BinaryOperator::HashLongArrow => (Some(json::path_text()), false),
            BinaryOperator::Multiply | BinaryOperator::Divide => scaled(&op, &left, &right, schema),
            _ => (None, false),
        };
        Ok(match function {
            Some(function) => PlannerResult::Planned(function.call(if swapped { vec![right, left] } else { vec![left, right] })),
            None => PlannerResult::Original(RawBinaryExpr { op, left, right }),
        })
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(date_part::function().call(args)))
    }
}

/// The function of an interval and a number, and whether the number comes first.
fn scaled(op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> (Option<Arc<ScalarUDF>>, bool) {
    let is_interval = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Interval(_)));
    let is_number = |expr: &Expr| expr.get_type(schema).is_ok_and(|found| found.is_numeric() || found.is_null());
    let divides = *op == BinaryOperator::Divide;
    match (is_interval(left), is_interval(right)) {
        (true, false) if is_number(right) => (Some(if divides { intervals::divided() } else { intervals::multiplied() }), false),
        (false, true) if is_number(left) && !divides => (Some(intervals::multiplied()), true),
        _ => (None, false),
    }
}
