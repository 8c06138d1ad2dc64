//! `VALUES` inside the query of an INSERT. The planner takes every one of them for rows of the table, also those that a query
//! around them changes first; as `SELECT … UNION ALL SELECT …` they are what they are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Values, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::parser::Parser;

use super::parser::DIALECT;

/// Rewrites the VALUES below the top of `source`.
pub(super) fn rewrite(source: &mut Query) {
    let _ = source.visit(&mut Nested { depth: 0 });
}

struct Nested {
    depth: usize,
}

impl VisitorMut for Nested {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if self.depth > 0
            && let SetExpr::Values(values) = query.body.as_mut()
            && let Some(rows) = selects(values)
        {
            *query.body = rows;
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

fn selects(values: &mut Values) -> Option<SetExpr> {
    let mut rows = Vec::with_capacity(values.rows.len());
    for row in &values.rows {
        rows.push(select(&row.content)?);
    }
    union(rows)
}

/// `SELECT 1 AS column1, …`.
fn select(row: &[Expr]) -> Option<SetExpr> {
    let mut empty = Parser::new(&DIALECT).try_with_sql("SELECT 1").ok()?.parse_query().ok()?;
    let SetExpr::Select(select) = empty.body.as_mut() else { return None };
    let column =
        |(at, expr): (usize, &Expr)| SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new(format!("column{}", at + 1)) };
    select.projection = row.iter().enumerate().map(column).collect();
    Some(*empty.body)
}

/// A tree that is as flat as it can be: it is walked by recursion.
fn union(mut rows: Vec<SetExpr>) -> Option<SetExpr> {
    if rows.len() < 2 {
        return rows.pop();
    }
    let behind = rows.split_off(rows.len() / 2);
    Some(SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(union(rows)?),
        right: Box::new(union(behind)?),
    })
}
