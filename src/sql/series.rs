//! Parameters of `generate_series`: the planner makes the series while it plans, so that it must know their values.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, ObjectNamePart, TableFactor, Value, VisitMut, VisitorMut};

use crate::engine::Parameters;

/// Puts the values of parameters where a series stands, as far as they are known; returns which they are. A statement
/// that is only described gets a series of one number: its columns are the same.
pub(super) fn fill(statement: &mut ast::Statement, parameters: &Parameters) -> BTreeSet<usize> {
    let mut filled = BTreeSet::new();
    let _ = statement.visit(&mut Series { parameters, filled: &mut filled });
    filled
}

struct Series<'a> {
    parameters: &'a Parameters,
    filled: &'a mut BTreeSet<usize>,
}

impl VisitorMut for Series<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(arguments), .. } = factor
            && name.0.last().and_then(ObjectNamePart::as_ident).is_some_and(|name| name.value.eq_ignore_ascii_case("generate_series"))
        {
            for argument in &mut arguments.args {
                if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                    let _ = expr.visit(&mut Argument { parameters: self.parameters, filled: self.filled });
                }
            }
        }
        ControlFlow::Continue(())
    }
}

struct Argument<'a> {
    parameters: &'a Parameters,
    filled: &'a mut BTreeSet<usize>,
}

impl VisitorMut for Argument<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let Some(number) = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()).filter(|number| *number > 0) else {
            return ControlFlow::Continue(());
        };
        let literal = match self.parameters {
            Parameters::Unknown => None,
            Parameters::Described => Some(Value::Number("1".into(), false)),
            Parameters::Known(values) => values.get(number - 1).and_then(literal),
        };
        if let Some(literal) = literal {
            value.value = literal;
            self.filled.insert(number);
        }
        ControlFlow::Continue(())
    }
}

/// A whole number, or NULL; of other values there is no series.
fn literal(value: &ScalarValue) -> Option<Value> {
    match value {
        value if value.is_null() => Some(Value::Null),
        value if value.data_type().is_integer() => Some(Value::Number(value.to_string(), false)),
        _ => None,
    }
}
