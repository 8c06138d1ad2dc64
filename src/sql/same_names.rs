//! Expressions that differ in casts alone have one name for the planner, which refuses two columns of one name: `sum(x::int)` beside
//! `sum(x::bigint)`, `GROUP BY ts, ts::date`.
//!
//! Where a SELECT has such expressions among its groups or its calls, its casts are told apart before planning by a function around
//! them that returns its argument and is gone after planning. Everywhere alike, or a column would no longer be what it is grouped by.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName,
    OrderByKind, Query, Select, SelectItem, SetExpr, Statement, Value, Visit, VisitMut, Visitor, VisitorMut,
};

/// Returns its only argument.
const SAME: &str = "coalesce";

/// Tells casts apart in every query of `statement`.
pub(super) fn tell_apart(statement: &mut Statement) {
    struct Pass;
    impl VisitorMut for Pass {
        type Break = ();
        fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
            if meet(select) {
                let order = query.order_by.as_ref().map(|order| &order.kind);
                let levels = levels(select, order);
                in_named(query, &levels);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Pass);
}

/// Whether two groups or calls of a SELECT differ in casts alone.
fn meet(select: &Select) -> bool {
    let found = Parts::of(select, None);
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return false };
    if found.casts.is_empty() {
        return false;
    }
    let mut named: Vec<Expr> = found.calls;
    if !groups.is_empty() {
        let outputs = select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        named.extend(groups.iter().chain(outputs).cloned());
    }
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    named.iter().any(|expr| {
        let whole = written(expr);
        seen.insert(without_casts(expr), whole.clone()).is_some_and(|before| before != whole)
    })
}

/// Casts and calls of one SELECT, not those of queries inside.
#[derive(Default)]
struct Parts {
    depth: usize,
    casts: Vec<Expr>,
    calls: Vec<Expr>,
}

impl Parts {
    fn of(select: &Select, order: Option<&OrderByKind>) -> Self {
        let mut found = Self::default();
        let _ = select.projection.visit(&mut found);
        let _ = select.group_by.visit(&mut found);
        let _ = select.having.visit(&mut found);
        if let Some(order) = order {
            let _ = order.visit(&mut found);
        }
        found
    }
}

impl Visitor for Parts {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { .. } if self.depth == 0 => self.casts.push(expr.clone()),
            Expr::Function(_) if self.depth == 0 => self.calls.push(expr.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// How many functions each cast gets around it: none where no other differs from it in casts alone.
fn levels(select: &Select, order: Option<&OrderByKind>) -> BTreeMap<String, usize> {
    let mut alike: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for cast in &Parts::of(select, order).casts {
        alike.entry(without_casts(cast)).or_default().insert(written(cast));
    }
    alike.into_values().flat_map(|casts| casts.into_iter().zip(1..)).collect()
}

/// Puts functions around casts wherever the planner makes names of them.
fn in_named(query: &mut Query, levels: &BTreeMap<String, usize>) {
    let mut around = Around { depth: 0, levels, open: vec![] };
    if let SetExpr::Select(select) = query.body.as_mut() {
        let _ = VisitMut::visit(&mut select.projection, &mut around);
        let _ = VisitMut::visit(&mut select.group_by, &mut around);
        let _ = VisitMut::visit(&mut select.having, &mut around);
    }
    if let Some(order) = &mut query.order_by {
        let _ = VisitMut::visit(&mut order.kind, &mut around);
    }
}

struct Around<'a> {
    depth: usize,
    levels: &'a BTreeMap<String, usize>,
    /// The levels of the casts that the visit is in.
    open: Vec<usize>,
}

impl VisitorMut for Around<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0 && matches!(expr, Expr::Cast { .. }) {
            self.open.push(self.levels.get(&written(expr)).copied().unwrap_or(0));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0 && matches!(expr, Expr::Cast { .. }) {
            for _ in 0..self.open.pop().unwrap_or(0) {
                let inner = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *expr = same(inner);
            }
        }
        ControlFlow::Continue(())
    }
}

fn same(expr: Expr) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(SAME)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// An expression in one spelling of casts.
fn written(expr: &Expr) -> String {
    struct OneSpelling;
    impl VisitorMut for OneSpelling {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Cast { kind, .. } = expr {
                *kind = CastKind::Cast;
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    let _ = VisitMut::visit(&mut expr, &mut OneSpelling);
    expr.to_string().to_lowercase()
}

/// An expression as the planner names it.
fn without_casts(expr: &Expr) -> String {
    struct Stripped;
    impl VisitorMut for Stripped {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
                let inner = std::mem::replace(inner.as_mut(), Expr::Value(Value::Null.into()));
                *expr = inner;
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    let _ = VisitMut::visit(&mut expr, &mut Stripped);
    expr.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn casts_are_told_apart_where_names_meet_and_nowhere_else() {
        let told = |sql: &str| {
            let mut statement = Parser::parse_sql(&super::super::parser::DIALECT, sql).unwrap().remove(0);
            tell_apart(&mut statement);
            statement.to_string()
        };
        let cases = [
            (
                "SELECT sum(a::INT), sum(a::SMALLINT), sum(a) FROM t",
                "SELECT sum(coalesce(a::INT)), sum(coalesce(coalesce(a::SMALLINT))), sum(a) FROM t",
            ),
            (
                "SELECT a::DATE AS d, a, count(*) FROM t WHERE a::DATE > b GROUP BY a::DATE, a ORDER BY CAST(a AS DATE)",
                "SELECT coalesce(a::DATE) AS d, a, count(*) FROM t WHERE a::DATE > b GROUP BY coalesce(a::DATE), a \
                 ORDER BY coalesce(CAST(a AS DATE))",
            ),
            ("SELECT max((a::INT)::TEXT), max(a) FROM t", "SELECT max(coalesce((coalesce(coalesce(a::INT)))::TEXT)), max(a) FROM t"),
        ];
        for (sql, expected) in cases {
            assert_eq!(told(sql), expected);
        }
        for sql in [
            "SELECT sum(a::INT), sum(a::INT), sum(b::TEXT) FROM t",
            "SELECT a::DATE, count(*) FROM t GROUP BY a::DATE",
            "SELECT a::TEXT, a FROM t ORDER BY a::TEXT",
            "SELECT max(a), (SELECT max(a::INT) FROM u) FROM t",
        ] {
            assert_eq!(told(sql), sql);
        }
    }
}
