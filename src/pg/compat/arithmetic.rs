//! Sums, differences and products of whole constants: one that leaves its range is an error before it is folded.

use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::error::{Code, Error};

/// Operators within operators that are looked at: each is checked on its own too.
const DEPTH_MAX: usize = 8;

/// # Errors
/// 22003.
pub(super) fn check(expr: &BinaryExpr) -> Result<()> {
    of_operator(expr, 0).map(|_| ())
}

/// A whole constant, and the bits of its type.
type Constant = (i128, u32);

fn of_operator(expr: &BinaryExpr, depth: usize) -> Result<Option<Constant>> {
    if !matches!(expr.op, Operator::Plus | Operator::Minus | Operator::Multiply) {
        return Ok(None);
    }
    let (Some((left, left_bits)), Some((right, right_bits))) = (constant(&expr.left, depth + 1)?, constant(&expr.right, depth + 1)?) else {
        return Ok(None);
    };
    // No operator leaves 128 bits: its arguments have 64.
    let result = match expr.op {
        Operator::Plus => left + right,
        Operator::Minus => left - right,
        _ => left * right,
    };
    let bits = left_bits.max(right_bits);
    if fits(result, bits) { Ok(Some((result, bits))) } else { Err(out_of_range(bits).into()) }
}

fn constant(expr: &Expr, depth: usize) -> Result<Option<Constant>> {
    if depth > DEPTH_MAX {
        return Ok(None);
    }
    Ok(match expr {
        Expr::Literal(ScalarValue::Int16(Some(value)), _) => Some(((*value).into(), 16)),
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some(((*value).into(), 32)),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(((*value).into(), 64)),
        Expr::Negative(inner) => {
            constant(inner, depth + 1)?.map(|(value, bits)| (-value, bits)).filter(|(value, bits)| fits(*value, *bits))
        }
        Expr::Cast(cast) => {
            let bits = match cast.field.data_type() {
                DataType::Int16 => 16,
                DataType::Int32 => 32,
                DataType::Int64 => 64,
                _ => return Ok(None),
            };
            // One that does not fit is an error of the cast.
            constant(&cast.expr, depth + 1)?.map(|(value, _)| (value, bits)).filter(|(value, bits)| fits(*value, *bits))
        }
        Expr::BinaryExpr(inner) => of_operator(inner, depth)?,
        _ => None,
    })
}

fn fits(value: i128, bits: u32) -> bool {
    let end = 1_i128 << (bits - 1);
    (-end..end).contains(&value)
}

fn out_of_range(bits: u32) -> Error {
    let name = match bits {
        16 => "smallint",
        32 => "integer",
        _ => "bigint",
    };
    Error::new(Code::NumericOutOfRange, format!("{name} out of range"))
}
