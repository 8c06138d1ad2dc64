//! Sums, differences and products of whole constants: one that leaves its range is an error before it is folded.

use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::error::{Code, Error};

/// # Errors
/// 22003.
pub(super) fn check(expr: &BinaryExpr) -> Result<()> {
    let (Expr::Literal(ScalarValue::Int64(Some(left)), _), Expr::Literal(ScalarValue::Int64(Some(right)), _)) =
        (expr.left.as_ref(), expr.right.as_ref())
    else {
        return Ok(());
    };
    let fits = match expr.op {
        Operator::Plus => left.checked_add(*right).is_some(),
        Operator::Minus => left.checked_sub(*right).is_some(),
        Operator::Multiply => left.checked_mul(*right).is_some(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Error::new(Code::NumericOutOfRange, "bigint out of range").into()) }
}
