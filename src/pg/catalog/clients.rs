//! Constructs of catalog queries that single clients send, in words that the planner reads: functions in `FROM` (pgAdmin), fields
//! of composite values (pgAdmin, JDBC), system columns, names of types that are compared as OIDs, and lookups that nest too
//! deep for it: the schemas of `search_path` (Grafana), the roles that a role is a member of, and the tables that a table inherits from
//! (pgAdmin).

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor, TableFunctionArgs, TableWithJoins, Value, VisitMut, Visitor,
    VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use portrait_udfs::functions::dialect::Postgres;

use super::nothing::{Derived, Kind, aggregate_of_nothing, is_empty, is_without_rows, type_of};
use super::rewrite::{call, call2, function, take};

/// A function in `FROM` becomes what it gives.
pub(super) fn rewrite_factor(factor: &mut TableFactor) {
    let TableFactor::Table { name, args, alias, .. } = factor else { return };
    let Some(TableFunctionArgs { args: arguments, .. }) = args else { return };
    let parts: Vec<&str> = name.0.iter().filter_map(ObjectNamePart::as_ident).map(|ident| ident.value.as_str()).collect();
    let called = match parts.as_slice() {
        [name] => name.to_ascii_lowercase(),
        [schema, name] if schema.eq_ignore_ascii_case("pg_catalog") => name.to_ascii_lowercase(),
        _ => return,
    };
    let system = |relation: &str| {
        ObjectName(["pg_catalog", relation].into_iter().map(|part| ObjectNamePart::Identifier(Ident::new(part))).collect())
    };
    match called.as_str() {
        "pg_show_all_settings" if arguments.is_empty() => (*name, *args) = (system("pg_settings"), None),
        "pg_get_keywords" if arguments.is_empty() => (*name, *args) = (system("pg_get_keywords"), None),
        "unnest" => {
            let arrays = arguments.iter().filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            });
            *factor = TableFactor::UNNEST {
                array_exprs: arrays.collect(),
                alias: alias.take(),
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: false,
            };
        }
        _ => *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(called))]),
    }
}

/// Rewrites one expression whose parts are rewritten already, wherever it stands.
pub(super) fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { left, right, .. } => {
            compare_oids(left, right);
            compare_oids(right, left);
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            if let ([AccessExpr::Dot(Expr::Identifier(field))], Expr::Nested(inner)) = (access_chain.as_slice(), root.as_mut()) {
                let name = Expr::Value(Value::SingleQuotedString(field.value.clone()).into());
                *expr = call2("get_field", take(inner), name);
            }
        }
        _ => {}
    }
}

/// `x::regtype = 'int4'::regtype`: the one became a name to be shown, the other an OID.
fn compare_oids(shown: &mut Expr, oid: &Expr) {
    let name = |expr: &Expr| match expr {
        Expr::Function(function) => function.name.to_string(),
        _ => String::new(),
    };
    let pair = (name(shown), name(oid));
    let pairs = [("format_type", "pg_regtype_oid"), ("pg_regclass_name", "pg_regclass_oid"), ("pg_regproc_name", "pg_regproc_oid")];
    if pairs.iter().any(|(shows, looks_up)| pair.0 == *shows && pair.1 == *looks_up)
        && let Expr::Function(function) = shown
        && let Some(inner) = argument(function)
    {
        *shown = inner;
    }
}

fn argument(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.first()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

/// An expression of a statement that reads system relations alone, before its parts.
pub(super) fn rewrite_catalog(expr: &mut Expr) {
    match expr {
        Expr::InSubquery { expr: name, subquery, negated: false } if reads_search_path(subquery) => {
            let path = call("current_schemas", Expr::Value(Value::Boolean(false).into()));
            *expr = call2("array_has", path, take(name));
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
            if let Some(member) = member(right) {
                let kind = Expr::Value(Value::SingleQuotedString("MEMBER".into()).into());
                let arguments = [member, take(left), kind].map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
                *expr = function("pg_has_role", arguments.into());
            }
        }
        Expr::Exists { subquery, negated } if is_without_rows(subquery) => *expr = Expr::Value(Value::Boolean(*negated).into()),
        Expr::Subquery(query) => {
            if let Some(value) = aggregate_of_nothing(query).or_else(|| first_term(query)) {
                *expr = value;
            }
        }
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) if is_xmin(expr) => *expr = xmin(),
        _ => {}
    }
}

/// `SELECT … string_to_array(current_setting('search_path'), ',') …`
fn reads_search_path(query: &Query) -> bool {
    let text = query.to_string();
    text.contains("current_setting('search_path')") && text.contains("string_to_array")
}

/// The role whose memberships `ARRAY(WITH RECURSIVE … pg_auth_members …)` gathers: it begins with that of an outer OID.
fn member(expr: &Expr) -> Option<Expr> {
    let Expr::Function(array) = expr else { return None };
    let FunctionArguments::Subquery(query) = &array.args else { return None };
    let with = query.with.as_ref().filter(|with| with.recursive)?;
    let [table] = with.cte_tables.as_slice() else { return None };
    let SetExpr::SetOperation { left, right, .. } = table.query.body.as_ref() else { return None };
    let SetExpr::Select(first) = left.as_ref() else { return None };
    match &first.selection {
        Some(Expr::BinaryOp { op: BinaryOperator::Eq, right: outer, .. }) if right.to_string().contains("pg_auth_members") => {
            Some(outer.as_ref().clone())
        }
        _ => None,
    }
}

/// `(WITH RECURSIVE path AS (SELECT c.relname AS name UNION SELECT … JOIN pg_inherits …) SELECT name FROM path ORDER BY … LIMIT 1)`: nothing
/// inherits from anything here, so that there is only the row that it begins with, which is made of the query around.
fn first_term(query: &Query) -> Option<Expr> {
    let [table] = query.with.as_ref().filter(|with| with.recursive)?.cte_tables.as_slice() else { return None };
    let SetExpr::SetOperation { left, right, .. } = table.query.body.as_ref() else { return None };
    let (SetExpr::Select(first), SetExpr::Select(next), SetExpr::Select(select)) = (left.as_ref(), right.as_ref(), query.body.as_ref())
    else {
        return None;
    };
    let [TableWithJoins { relation: TableFactor::Table { name, alias: None, .. }, joins }] = select.from.as_slice() else { return None };
    let plain = first.from.is_empty() && first.selection.is_none() && select.selection.is_none() && joins.is_empty();
    if !plain || !is_empty(next) || name.to_string() != table.alias.name.value {
        return None;
    }
    let ([SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }], mut value_of) =
        (select.projection.as_slice(), Columns(HashMap::new()))
    else {
        return None;
    };
    for item in &first.projection {
        let (name, expr) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (alias.value.clone(), expr),
            SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(parts)) => (parts.last()?.value.clone(), expr),
            _ => return None,
        };
        value_of.0.insert(name, expr.clone());
    }
    let mut value = value.clone();
    let _ = VisitMut::visit(&mut value, &mut value_of);
    Some(Expr::Nested(Box::new(value)))
}

/// Columns by what they are.
struct Columns(HashMap<String, Expr>);

impl VisitorMut for Columns {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some(known) = self.0.get(&name.value)
        {
            *expr = Expr::Nested(Box::new(known.clone()));
        }
        ControlFlow::Continue(())
    }
}

fn is_xmin(expr: &Expr) -> bool {
    let last = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    last.is_some_and(|name| name.quote_style.is_none() && name.value.eq_ignore_ascii_case("xmin"))
}

/// What was there from the start was made by the first transaction.
fn xmin() -> Expr {
    call("pg_as_xid", Expr::Value(Value::Number("1".into(), false).into()))
}

/// A SELECT of a statement that reads system relations alone, before its parts.
pub(super) fn rewrite_select(select: &mut Select) {
    unnest_factor(select);
    let row = row_of(&select.from);
    for item in &mut select.projection {
        keep_name(item, |expr| {
            if is_xmin(expr) {
                *expr = xmin();
            }
            mark_case(expr);
            as_object(expr, row.as_ref());
            unnest_grants(expr);
        });
    }
    // It stands there against the rows that joins with relations without rows would repeat; the planner takes no subqueries with it.
    if matches!(select.distinct, Some(ast::Distinct::On(_))) && select.projection.iter().any(has_subquery) {
        select.distinct = None;
    }
}

/// Changes what is selected, and not the name that it is selected under.
pub(super) fn keep_name(item: &mut SelectItem, change: impl FnOnce(&mut Expr)) {
    match item {
        SelectItem::ExprWithAlias { expr, .. } => change(expr),
        SelectItem::UnnamedExpr(expr) => {
            let mut changed = expr.clone();
            change(&mut changed);
            if changed != *expr {
                *item = SelectItem::ExprWithAlias { alias: crate::sql::own_name(expr), expr: changed };
            }
        }
        _ => {}
    }
}

fn has_subquery(item: &SelectItem) -> bool {
    struct Subqueries(bool);
    impl Visitor for Subqueries {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 = true;
            ControlFlow::Break(())
        }
    }
    let mut found = Subqueries(false);
    let _ = ast::Visit::visit(item, &mut found);
    found.0
}

/// `CASE … THEN 'a' ELSE typtype END` is a `"char"` as its column is: literals take the type of what stands beside them.
fn mark_case(expr: &mut Expr) {
    let Expr::Case { conditions, else_result, .. } = expr else { return };
    let results = conditions.iter().map(|CaseWhen { result, .. }| result).chain(else_result.as_deref());
    let mut mark = None;
    for result in results.filter(|result| !matches!(result, Expr::Value(_))) {
        match (type_of(result, &Derived::new()), mark) {
            (Kind::Marked(found), None) if !found.ends_with("_array") => mark = Some(found),
            (Kind::Marked(found), Some(known)) if found == known => {}
            _ => return,
        }
    }
    if let Some(mark) = mark {
        *expr = call(&format!("pg_as_{mark}"), take(expr));
    }
}

/// The name and columns of the only subquery in `FROM`.
fn row_of(from: &[TableWithJoins]) -> Option<(String, Vec<Ident>)> {
    let [TableWithJoins { relation: TableFactor::Derived { subquery, alias: Some(alias), .. }, joins }] = from else { return None };
    let SetExpr::Select(select) = subquery.body.as_ref() else { return None };
    let columns = select.projection.iter().map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        _ => None,
    });
    Some((alias.name.value.clone(), columns.collect::<Option<_>>()?)).filter(|_| joins.is_empty())
}

/// `row_to_json(t)` names the columns of `t`.
fn as_object(expr: &mut Expr, row: Option<&(String, Vec<Ident>)>) {
    let (Expr::Function(called), Some((relation, columns))) = (&*expr, row) else { return };
    let bare = called.name.0.last().and_then(ObjectNamePart::as_ident).is_some_and(|name| name.value.eq_ignore_ascii_case("row_to_json"));
    if bare && matches!(argument(called), Some(Expr::Identifier(name)) if name.value == *relation) {
        let pair = |column: &Ident| {
            let name = Expr::Value(Value::SingleQuotedString(column.value.clone()).into());
            [name, Expr::CompoundIdentifier(vec![Ident::new(relation.clone()), column.clone()])]
        };
        let arguments = columns.iter().flat_map(pair).map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
        *expr = function("row_to_json", arguments.collect());
    }
}

/// `aclexplode(acl)` gives rows.
fn unnest_grants(expr: &mut Expr) {
    let Expr::Function(called) = &*expr else { return };
    let name = called.name.0.last().and_then(ObjectNamePart::as_ident).map(|name| name.value.as_str());
    if name.is_some_and(|name| name.eq_ignore_ascii_case("aclexplode")) {
        *expr = call("unnest", take(expr));
    }
}

/// `d.grantee` where `d` is a column with fields, no relation.
struct Fields(Ident);

impl VisitorMut for Fields {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = &*expr
            && let [relation, field] = parts.as_slice()
            && *relation == self.0
        {
            let name = Expr::Value(Value::SingleQuotedString(field.value.clone()).into());
            *expr = call2("get_field", Expr::Identifier(relation.clone()), name);
        }
        ControlFlow::Continue(())
    }
}

/// `ORDER BY a.x` beside `… AS x` and a GROUP BY: the planner does not tell the two apart, which order alike.
pub(super) fn order_by_alias(query: &mut Query) {
    let (SetExpr::Select(select), Some(order)) = (query.body.as_ref(), &mut query.order_by) else { return };
    let ast::OrderByKind::Expressions(keys) = &mut order.kind else { return };
    if matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty()) {
        return;
    }
    for key in keys {
        let Expr::CompoundIdentifier(parts) = &key.expr else { continue };
        let named = |item: &SelectItem| matches!(item, SelectItem::ExprWithAlias { alias, .. } if parts.last() == Some(alias));
        if let Some(name) = parts.last().filter(|_| select.projection.iter().any(named)) {
            key.expr = Expr::Identifier(name.clone());
        }
    }
}

/// `FROM acl, aclexplode(relacl) d`: the grants are unnested in a subquery, whose column `d` the query around reads.
fn unnest_factor(select: &mut Select) {
    let found = select.from.iter().enumerate().find_map(|(at, from)| match &from.relation {
        TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), alias: Some(alias), .. }
            if from.joins.is_empty() && at > 0 && name.to_string() == "aclexplode" =>
        {
            Some((at, alias.name.clone(), format!("SELECT unnest(aclexplode({})) AS {}", args.first()?, alias.name)))
        }
        _ => None,
    });
    let Some((at, alias, unnested)) = found else { return };
    select.from.remove(at);
    let others: Vec<String> = select.from.iter().map(ToString::to_string).collect();
    let text = format!("SELECT 1 FROM ({unnested} FROM {}) AS grants", others.join(", "));
    let statement = Parser::parse_sql(&Postgres, &text).ok().and_then(|mut statements| statements.pop());
    if let Some(ast::Statement::Query(query)) = statement
        && let SetExpr::Select(wrapped) = *query.body
    {
        select.from = wrapped.from;
    }
    let mut fields = Fields(alias);
    for item in &mut select.projection {
        keep_name(item, |expr| {
            let _ = expr.visit(&mut fields);
        });
    }
    let _ = select.selection.visit(&mut fields);
    let _ = select.group_by.visit(&mut fields);
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
    fn functions_in_from() {
        check("SELECT name FROM pg_catalog.pg_show_all_settings() s", "SELECT name FROM pg_catalog.pg_settings s");
        check("SELECT word FROM pg_get_keywords()", "SELECT word FROM pg_catalog.pg_get_keywords");
        check("SELECT s FROM pg_catalog.unnest(a) AS s", "SELECT s FROM UNNEST(a) AS s (s)");
    }

    #[test]
    fn types_are_compared_by_number() {
        check(
            "SELECT 1 FROM pg_proc p WHERE p.prorettype::regtype <> 'x'::regtype",
            "SELECT 1 FROM pg_proc p WHERE p.prorettype <> pg_regtype_oid('x')",
        );
    }

    #[test]
    fn lookups_that_nest_too_deep() {
        check(
            "SELECT a IN (SELECT s[i] FROM generate_series(1, 2) AS i, string_to_array(current_setting('search_path'), ',') s) FROM pg_class",
            "SELECT array_has(current_schemas(false), a) FROM pg_class",
        );
        check(
            "SELECT 'b' = ANY(ARRAY(WITH RECURSIVE c AS (SELECT p.rolname FROM pg_roles p WHERE p.oid = r.oid UNION ALL SELECT p.rolname \
             FROM c JOIN pg_auth_members m ON true) SELECT rolname FROM c)) FROM pg_roles r",
            "SELECT pg_has_role(r.oid, 'b', 'MEMBER') FROM pg_roles r",
        );
    }

    #[test]
    fn aggregates_of_nothing() {
        check(
            "SELECT (SELECT count(1) > 0 FROM pg_trigger t WHERE t.a = c.b LIMIT 1) FROM pg_class c",
            "SELECT (CAST(0 AS BIGINT) > 0) FROM pg_class c",
        );
        check("SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.a = c.b) FROM pg_class c", "SELECT false FROM pg_class c");
    }

    #[test]
    fn paths_along_which_nothing_inherits() {
        check(
            "SELECT (WITH RECURSIVE path AS (SELECT c.oid AS oid, c.relkind, 0 AS height UNION SELECT r.oid, r.relkind, p.height + 1 FROM \
             pg_class r JOIN pg_inherits i ON i.inhparent = r.oid JOIN path p ON i.inhrelid = p.oid) \
             SELECT CASE WHEN relkind = 'p' THEN height ELSE oid END FROM path ORDER BY height DESC LIMIT 1) FROM pg_class c",
            "SELECT (CASE WHEN (c.relkind) = 'p' THEN (0) ELSE (c.oid) END) FROM pg_class c",
        );
    }

    #[test]
    fn grants_beside_what_they_are_of() {
        check(
            "SELECT d.grantee FROM (SELECT relacl FROM pg_class) acl, pg_catalog.aclexplode(relacl) d",
            "SELECT get_field(d, 'grantee') AS \"grantee\" FROM (SELECT unnest(aclexplode(relacl)) AS d FROM (SELECT relacl FROM pg_class) acl) \
             AS grants",
        );
    }

    #[test]
    fn fields_rows_and_system_columns() {
        check(
            "SELECT (d).a FROM (SELECT aclexplode(relacl) AS d FROM pg_class) a",
            "SELECT get_field(d, 'a') FROM (SELECT unnest(aclexplode(relacl)) AS d FROM pg_class) a",
        );
        check(
            "SELECT row_to_json(t) FROM (SELECT oid AS \"A\" FROM pg_class) t",
            "SELECT row_to_json('A', t.\"A\") AS \"row_to_json\" FROM (SELECT oid AS \"A\" FROM pg_class) t",
        );
        check("SELECT c.xmin FROM pg_class c", "SELECT pg_as_xid(1) AS \"xmin\" FROM pg_class c");
        check(
            "SELECT CASE WHEN x THEN 'a' ELSE typtype END FROM pg_type",
            "SELECT pg_as_char(CASE WHEN x THEN 'a' ELSE typtype END) AS \"typtype\" FROM pg_type",
        );
    }
}
