//! `x = ANY (…)` and `x <> ALL (…)` of what is no array to the planner: one that is written as a text, and a column of system
//! relations that lists numbers in a text.

use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Value};

use super::definitions::is_vector_column;
use super::rewrite::{call, call2, take};
use crate::pg::params;

/// Rewrites one expression, wherever it stands: `x = ANY ('{a,b}')` is `x IN ('a', 'b')`, whose texts take the type of `x`.
pub(super) fn rewrite(expr: &mut Expr) {
    let (left, op, right, any) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, true),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, false),
        _ => return,
    };
    let Expr::Value(value) = right.as_ref() else { return };
    let (Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text)) = &value.value else { return };
    let Some(words) = params::array_words(text) else {
        // It says what is wrong with the text.
        **right = as_array(call("array_in", take(right)), DataType::Text);
        return;
    };
    let item = |word: Option<String>| Expr::Value(word.map_or(Value::Null, Value::SingleQuotedString).into());
    let items: Vec<Expr> = words.into_iter().map(item).collect();
    *expr = match (&*op, any) {
        // Of nothing, whatever is compared.
        _ if items.is_empty() => Expr::Value(Value::Boolean(!any).into()),
        (BinaryOperator::Eq, true) => Expr::InList { expr: Box::new(take(left)), list: items, negated: false },
        (BinaryOperator::NotEq, false) => Expr::InList { expr: Box::new(take(left)), list: items, negated: true },
        _ => each(left, op, items, any),
    };
}

/// One comparison for each item.
fn each(left: &Expr, op: &BinaryOperator, items: Vec<Expr>, any: bool) -> Expr {
    let joined = if any { BinaryOperator::Or } else { BinaryOperator::And };
    let compared = |item: Expr| Expr::BinaryOp { left: Box::new(left.clone()), op: op.clone(), right: Box::new(item) };
    let both = |left: Expr, right: Expr| Expr::BinaryOp { left: Box::new(left), op: joined.clone(), right: Box::new(right) };
    let all = items.into_iter().map(compared).reduce(both);
    Expr::Nested(Box::new(all.unwrap_or_else(|| Expr::Value(Value::Boolean(!any).into()))))
}

/// Rewrites one expression of a statement that reads system relations alone: `indkey` and its like are texts here.
pub(super) fn rewrite_catalog(expr: &mut Expr) {
    let (Expr::AnyOp { right, .. } | Expr::AllOp { right, .. }) = expr else { return };
    let column = match right.as_ref() {
        Expr::Identifier(column) => Some(column),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    if column.is_some_and(|column| is_vector_column(&column.value)) {
        let text = |text: &str| Expr::Value(Value::SingleQuotedString(text.to_owned()).into());
        let numbers = call2("string_to_array", call2("nullif", take(right), text("")), text(" "));
        **right = as_array(numbers, DataType::Int(None));
    }
}

fn as_array(expr: Expr, item: DataType) -> Expr {
    let data_type = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None));
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use portrait_udfs::functions::dialect::Postgres;

    fn check(sql: &str, expected: &str) {
        let mut statement = Parser::parse_sql(&Postgres, sql).unwrap().remove(0);
        super::super::rewrite::rewrite(&mut statement);
        assert_eq!(statement.to_string(), expected);
    }

    #[test]
    fn arrays_that_are_written_as_texts() {
        check("SELECT a = ANY ('{x,\"y z\",NULL}')", "SELECT a IN ('x', 'y z', NULL)");
        check("SELECT a <> ALL ('{1,2}')", "SELECT a NOT IN ('1', '2')");
        check("SELECT a = ANY ('{}'), a > ALL ('{}')", "SELECT false, true");
        check("SELECT a < ANY ('{1,2}'), a <> ANY ('{1}')", "SELECT (a < '1' OR a < '2'), (a <> '1')");
        check("SELECT a >= ALL ('{1,2}')", "SELECT (a >= '1' AND a >= '2')");
        check("SELECT a = ANY ('x')", "SELECT a = ANY(CAST(array_in('x') AS TEXT[]))");
        for same in ["SELECT a = ANY($1)", "SELECT a = ANY(b)", "SELECT a = ANY(ARRAY['x'])"] {
            check(same, same);
        }
    }

    #[test]
    fn numbers_that_are_listed_in_a_text() {
        check(
            "SELECT 1 FROM pg_proc p WHERE 25 = ANY (p.proargtypes)",
            "SELECT 1 FROM pg_proc p WHERE 25 = ANY(CAST(string_to_array(nullif(p.proargtypes, ''), ' ') AS INT[]))",
        );
        check("SELECT 25 = ANY(proargtypes) FROM mine", "SELECT 25 = ANY(proargtypes) FROM mine");
    }
}
