//! Types of parameters that the place they stand in gives, as in PostgreSQL: `$1::text[]` is an array of texts, `LIMIT $1`
//! a number, `user_id = ANY($1)` an array of keys.
//!
//! The planner infers a parameter's type from what it is compared with, but takes a cast as one from any type; a client
//! would be told "text" and send a text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable, LogicalPlan};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{self, Expr, LimitClause, Query, Value, Visit, Visitor};
use datafusion::sql::sqlparser::parser::Parser;

use crate::storage::TextType;

/// What a client's `numeric` is planned as where nothing says more: 38 digits, of which 16 are decimals.
pub(crate) const NUMERIC: DataType = DataType::Decimal128(38, 16);

/// Fills the types in `types` that nobody declared and that `statement` casts.
pub(super) async fn infer(state: &SessionState, statement: &ast::Statement, types: &mut [Option<DataType>]) {
    let mut casts = Casts(Vec::new());
    let _ = statement.visit(&mut casts);
    for (number, cast) in casts.0 {
        let Some(known) = types.get(number - 1).cloned() else { continue };
        // A numeric without a precision is any numeric: the cast knows how many decimals matter.
        let any = known.as_ref() == Some(&NUMERIC);
        if (known.is_none() || any)
            && let Some(found) = arrow_type(state, &cast).await
            && (!any || matches!(found, DataType::Decimal128(..)))
        {
            types[number - 1] = Some(found);
        }
    }
}

/// The parameters in which `plan` looks for a value (`x = ANY($1)`): arrays of that value's type, and what its texts are.
pub(super) fn arrays(plan: &LogicalPlan) -> BTreeMap<String, (DataType, Option<TextType>)> {
    let mut found = BTreeMap::new();
    let _ = plan.apply_with_subqueries(|node| {
        let mut inputs = DFSchema::empty();
        node.inputs().into_iter().for_each(|input| inputs.merge(input.schema()));
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                if let PlanExpr::ScalarFunction(call) = inner
                    && call.func.name() == "array_has"
                    && let [PlanExpr::Placeholder(array), value] = call.args.as_slice()
                    && let Ok((_, element)) = value.to_field(&inputs)
                {
                    let list = DataType::new_list(element.data_type().clone(), true);
                    found.insert(array.id.clone(), (list, TextType::of(&element)));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    found
}

/// The planner's own reading of a type's name; `None` for one that it does not know: planning will say so.
async fn arrow_type(state: &SessionState, cast: &ast::DataType) -> Option<DataType> {
    let text = format!("SELECT CAST(NULL AS {cast})");
    let statement = Parser::parse_sql(&super::parser::DIALECT, &text).ok()?.pop()?;
    let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await.ok()?;
    Some(plan.schema().field(0).data_type().clone())
}

/// Parameters right under a cast, and what they are cast to; those that count rows are `bigint`.
struct Casts(Vec<(usize, ast::DataType)>);

impl Visitor for Casts {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let counts = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => [limit.as_ref(), offset.as_ref().map(|offset| &offset.value)],
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => [Some(limit), Some(offset)],
            None => [None, None],
        };
        self.0.extend(counts.into_iter().flatten().filter_map(parameter).map(|number| (number, ast::DataType::BigInt(None))));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr, data_type, .. } = expr
            && let Some(number) = parameter(expr)
        {
            self.0.push((number, data_type.clone()));
        }
        ControlFlow::Continue(())
    }
}

fn parameter(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) => parameter(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok().filter(|number| *number > 0),
            _ => None,
        },
        _ => None,
    }
}
