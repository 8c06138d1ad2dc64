//! Constructs of catalog queries that the planner cannot read, rewritten into ones that it can.
//!
//! Two groups. Syntax that means nothing else anywhere (`pg_catalog.f(x)`, `OPERATOR(pg_catalog.~)`, `COLLATE` of the
//! default, casts to `regclass` and its kin, and what `values` lists) is rewritten wherever it stands. Correlated scalar
//! subqueries and `ARRAY(SELECT …)` are touched only in statements that read a system schema and nothing of the user's.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableWithJoins, Value, VisitMut, Visitor,
    VisitorMut,
};

use super::definitions::tables;
use super::nothing::{self, blank, is_empty, is_empty_query, null};
use super::{calls, clients, quantified, type_questions, values};

/// Rewrites a statement in place.
pub(super) fn rewrite(statement: &mut Statement) {
    if let Some(known) = type_questions::known(statement) {
        *statement = known;
    }
    if let Statement::CreateTable(table) = statement {
        table.columns.iter_mut().for_each(|column| values::as_in_postgresql(&mut column.data_type));
    }
    values::name_series(statement);
    let mut reads = Reads::default();
    let _ = ast::Visit::visit(statement, &mut reads);
    let _ = statement.visit(&mut Everywhere);
    if reads.system && !reads.user {
        let _ = statement.visit(&mut CatalogOnly);
    }
}

/// Which kinds of relations a statement reads.
#[derive(Default)]
struct Reads {
    system: bool,
    user: bool,
    /// Names of common table expressions are neither.
    own: Vec<String>,
}

impl Visitor for Reads {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.own.extend(with.cte_tables.iter().map(|table| table.alias.name.value.clone()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let parts: Vec<&str> = relation.0.iter().filter_map(ObjectNamePart::as_ident).map(|ident| ident.value.as_str()).collect();
        match parts.as_slice() {
            [.., schema, _] if ["pg_catalog", "information_schema"].iter().any(|system| schema.eq_ignore_ascii_case(system)) => {
                self.system = true;
            }
            [name] if tables().iter().any(|table| table.schema_name == "pg_catalog" && table.name == name.to_ascii_lowercase()) => {
                self.system = true;
            }
            [name] if self.own.iter().any(|own| own == name) || is_called(name) => {}
            _ => self.user = true,
        }
        ControlFlow::Continue(())
    }
}

/// Functions that clients call in `FROM`: they read nothing of the user's.
fn is_called(name: &str) -> bool {
    let functions = ["generate_series", "unnest", "string_to_array", "aclexplode", "pg_get_keywords", "pg_show_all_settings"];
    functions.iter().any(|known| name.eq_ignore_ascii_case(known))
}

struct Everywhere;

impl VisitorMut for Everywhere {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        calls::rewrite_query(query);
        ControlFlow::Continue(())
    }

    /// On the way up, so that casts are rewritten already.
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Values(rows) = query.body.as_mut() {
            values::type_columns(rows);
        }
        ControlFlow::Continue(())
    }

    /// `'x'::name AS n` is shown as a `name`, which the planner's texts are not.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            clients::keep_name(item, |expr| {
                mark_cast(expr);
                calls::rewrite_selected(expr);
            });
        }
        ControlFlow::Continue(())
    }

    /// `generate_series(1, array_upper(current_schemas(false), 1))`: the planner needs a number. What is looked up behind
    /// the end of the path is NULL, and no schema has that name.
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        clients::rewrite_factor(factor);
        calls::rewrite_factor(factor);
        if let TableFactor::Table { args: Some(arguments), .. } = factor {
            for argument in &mut arguments.args {
                if argument.to_string().starts_with("array_upper(current_schemas(") {
                    *argument = self::argument(Expr::Value(Value::Number("64".into(), false).into()));
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// On the way up, so that what is inside is rewritten already.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                unqualify(&mut function.name);
                if ["pg_cancel_backend", "pg_terminate_backend"].iter().any(|name| function.name.to_string().eq_ignore_ascii_case(name)) {
                    number_argument(function);
                }
            }
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(parts) = op
                    && let Some(known) = operator(parts)
                {
                    *op = known;
                }
            }
            Expr::Collate { expr: inner, .. } => {
                let inner = std::mem::replace(inner.as_mut(), Expr::Value(Value::Null.into()));
                *expr = inner;
            }
            Expr::Cast { expr: inner, data_type, .. } => {
                if let Some(replacement) = cast(inner, data_type) {
                    *expr = replacement;
                }
            }
            _ => {}
        }
        quantified::rewrite(expr);
        values::rewrite(expr);
        values::as_texts(expr);
        calls::rewrite(expr);
        clients::rewrite(expr);
        ControlFlow::Continue(())
    }
}

fn mark_cast(expr: &mut Expr) {
    if let Expr::Cast { data_type, .. } = &*expr
        && let Some((name, _)) = type_name(data_type)
        && matches!(name.as_str(), "oid" | "name" | "char")
    {
        *expr = call(&format!("pg_as_{name}"), take(expr));
    }
}

/// A parameter that nobody declared is a process's number.
fn number_argument(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] = list.args.as_mut_slice()
        && matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
    {
        let inner = Box::new(take(expr));
        *expr = Expr::Cast { kind: ast::CastKind::DoubleColon, expr: inner, data_type: DataType::Int(None), array: false, format: None };
    }
}

/// `pg_catalog.f` is `f`.
fn unqualify(name: &mut ObjectName) {
    let system = name.0.first().and_then(ObjectNamePart::as_ident).is_some_and(|first| first.value.eq_ignore_ascii_case("pg_catalog"));
    if system && name.0.len() == 2 {
        name.0.remove(0);
    }
}

fn operator(parts: &[String]) -> Option<BinaryOperator> {
    Some(match parts {
        [schema, operator] if schema == "pg_catalog" => match operator.as_str() {
            "~" => BinaryOperator::PGRegexMatch,
            "~*" => BinaryOperator::PGRegexIMatch,
            "!~" => BinaryOperator::PGRegexNotMatch,
            "!~*" => BinaryOperator::PGRegexNotIMatch,
            "~~" => BinaryOperator::PGLikeMatch,
            "!~~" => BinaryOperator::PGNotLikeMatch,
            "=" => BinaryOperator::Eq,
            "<>" => BinaryOperator::NotEq,
            "||" => BinaryOperator::StringConcat,
            "+" => BinaryOperator::Plus,
            "-" => BinaryOperator::Minus,
            "<" => BinaryOperator::Lt,
            ">" => BinaryOperator::Gt,
            "<=" => BinaryOperator::LtEq,
            ">=" => BinaryOperator::GtEq,
            _ => return None,
        },
        _ => return None,
    })
}

/// The name of a type that the planner does not know, without `pg_catalog`.
fn type_name(data_type: &DataType) -> Option<(String, bool)> {
    match data_type {
        DataType::Custom(name, _) => {
            let parts: Vec<&str> = name.0.iter().filter_map(ObjectNamePart::as_ident).map(|ident| ident.value.as_str()).collect();
            match parts.as_slice() {
                [name] => Some((name.to_ascii_lowercase(), false)),
                [schema, name] if schema.eq_ignore_ascii_case("pg_catalog") => Some((name.to_ascii_lowercase(), true)),
                _ => None,
            }
        }
        DataType::Regclass => Some(("regclass".into(), false)),
        _ => None,
    }
}

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Value(Value::Null.into()))
}

/// What a cast to one of PostgreSQL's own types becomes; `None` leaves it alone.
fn cast(inner: &mut Expr, data_type: &mut DataType) -> Option<Expr> {
    if let DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _)) = data_type {
        if let Some(plain) = type_name(item).and_then(|(name, qualified)| plain_type(&name, qualified)) {
            **item = plain;
        }
        return None;
    }
    let (name, qualified) = type_name(data_type)?;
    // A parameter is a name too: clients look their tables up with `$1::regclass`.
    let literal = matches!(inner, Expr::Value(value)
        if matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::Placeholder(_)));
    match (name.as_str(), literal) {
        ("regclass", true) => Some(call("pg_regclass_oid", take(inner))),
        ("regclass", false) => Some(call("pg_regclass_name", take(inner))),
        ("regtype", true) => Some(call("pg_regtype_oid", take(inner))),
        ("regtype", false) => Some(call2("format_type", take(inner), Expr::Value(Value::Null.into()))),
        ("regproc" | "regprocedure", true) => Some(call("pg_regproc_oid", take(inner))),
        ("regproc" | "regprocedure", false) => Some(call("pg_regproc_name", take(inner))),
        ("regnamespace", true) => Some(call("pg_regnamespace_oid", take(inner))),
        ("regnamespace", false) => Some(call("pg_regnamespace_name", take(inner))),
        ("regrole", _) => Some(call("pg_get_userbyid", take(inner))),
        ("oid", _) if is_oid_already(inner) => Some(take(inner)),
        ("oid", _) if matches!(inner, Expr::Function(name) if name.name.to_string() == "pg_regclass_name") => {
            // The OID of a relation of that name, which a cast to regclass would have shown.
            if let Expr::Function(shown) = inner {
                shown.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("pg_regclass_oid"))]);
            }
            Some(take(inner))
        }
        _ => {
            if let Some(plain) = plain_type(&name, qualified) {
                *data_type = plain;
            }
            None
        }
    }
}

/// `'name'::regclass` and its kin, as they are written here.
fn is_oid_already(expr: &Expr) -> bool {
    let known = |name: &str| name.starts_with("pg_reg") && name.ends_with("_oid");
    matches!(expr, Expr::Function(function) if known(&function.name.to_string()))
}

/// A type of the planner that stands for one of PostgreSQL's.
fn plain_type(name: &str, qualified: bool) -> Option<DataType> {
    Some(match name {
        "oid" | "xid" | "cid" => DataType::Int(None),
        "name" | "char" | "bpchar" | "cstring" | "pg_node_tree" | "aclitem" | "regtype" | "regclass" | "regproc" => DataType::Text,
        // `pg_catalog.int4` and the like are words of their own to the parser only without the schema.
        "text" | "varchar" if qualified => DataType::Text,
        "int2" if qualified => DataType::SmallInt(None),
        "int4" if qualified => DataType::Int(None),
        "int8" if qualified => DataType::BigInt(None),
        "bool" if qualified => DataType::Boolean,
        "float8" if qualified => DataType::Double(ast::ExactNumberInfo::None),
        "float4" if qualified => DataType::Real,
        _ => return None,
    })
}

fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

pub(super) fn function(name: &str, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

pub(super) fn call(name: &str, expr: Expr) -> Expr {
    function(name, vec![argument(expr)])
}

pub(super) fn call2(name: &str, first: Expr, second: Expr) -> Expr {
    function(name, vec![argument(first), argument(second)])
}

struct CatalogOnly;

impl VisitorMut for CatalogOnly {
    type Break = ();

    /// No rows need no order.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if is_empty_query(query) {
            query.order_by = None;
        }
        clients::order_by_alias(query);
        ControlFlow::Continue(())
    }

    /// A SELECT from a relation that never has rows: nothing in it needs to be planned.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if is_empty(select) {
            blank(select);
        } else {
            clients::rewrite_select(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        clients::rewrite_catalog(expr);
        quantified::rewrite_catalog(expr);
        if let Expr::Subquery(query) = expr
            && let Some(value) = joined_texts(query)
        {
            *expr = value;
        }
        match expr {
            Expr::Subquery(query) if is_empty_query(query) => *expr = nothing::of(expr),
            Expr::Function(array) if is_array(array) => {
                if let FunctionArguments::Subquery(query) = &array.args
                    && (is_empty_query(query) || unnests(query))
                {
                    *expr = nothing::empty_array();
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // `polroles = '{0}'`: the planner does not take a text for an array.
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } if names_roles(left) => {
                if let Some(numbers) = array_of_numbers(right) {
                    **right = numbers;
                }
            }
            // A subquery used as a value: the planner wants an aggregate where it depends on the query around it. All
            // catalog queries of this form look up one row by its key, so the aggregate changes nothing.
            Expr::Subquery(query) => {
                aggregate(query, "max");
                if let Some(condition) = lift_outer_conditions(query) {
                    let inner = std::mem::replace(expr, null(DataType::Text));
                    *expr = case(condition, inner);
                }
            }
            Expr::Function(array) if is_array(array) => {
                if let FunctionArguments::Subquery(query) = &mut array.args {
                    if let Some(oids) = named_roles(query) {
                        *expr = oids;
                        return ControlFlow::Continue(());
                    }
                    aggregate(query, "array_agg");
                    query.order_by = None;
                    let query = query.clone();
                    *expr = Expr::Subquery(query);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The value of `(SELECT array_to_string(ARRAY(…), ', '))`, as pgAdmin asks for default privileges: the planner does not see past two
/// subqueries what the inner one depends on.
fn joined_texts(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = select.projection.as_slice() else {
        return None;
    };
    let Expr::Function(function) = value else { return None };
    let bare = query.with.is_none() && select.from.is_empty() && select.selection.is_none() && select.having.is_none();
    let joins = function.name.to_string().trim_start_matches("pg_catalog.").eq_ignore_ascii_case("array_to_string");
    // An array of no rows is empty, which the planner's aggregate makes NULL.
    (bare && joins).then(|| call2("coalesce", value.clone(), Expr::Value(Value::SingleQuotedString(String::new()).into())))
}

fn names_roles(expr: &Expr) -> bool {
    let column = match expr {
        Expr::Identifier(column) => Some(column),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    column.is_some_and(|column| column.value == "polroles")
}

/// `'{1,2}'` as an array of integers.
fn array_of_numbers(expr: &Expr) -> Option<Expr> {
    let Expr::Value(value) = expr else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    let numbers: Vec<i32> = text.strip_prefix('{')?.strip_suffix('}')?.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let elem = numbers.into_iter().map(|number| Expr::Value(Value::Number(number.to_string(), false).into())).collect();
    let data_type = DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(DataType::Int(None)), None));
    let expr = Box::new(Expr::Array(ast::Array { elem, named: true }));
    Some(Expr::Cast { kind: ast::CastKind::Cast, expr, data_type, array: false, format: None })
}

/// `SELECT rolname FROM pg_roles WHERE oid = ANY (x)`, as psql asks for the roles of a policy, as a call: the planner cannot take the
/// subquery out of the query around it.
fn named_roles(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [TableWithJoins { relation: TableFactor::Table { name, .. }, joins }] = select.from.as_slice() else { return None };
    let [SelectItem::UnnamedExpr(Expr::Identifier(column))] = select.projection.as_slice() else { return None };
    let Some(Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. }) = &select.selection else { return None };
    let of_roles = name.to_string().trim_start_matches("pg_catalog.") == "pg_roles" && joins.is_empty() && column.value == "rolname";
    (of_roles && left.to_string() == "oid").then(|| call("pg_role_names", right.as_ref().clone()))
}

fn is_array(function: &Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("array")
}

/// `SELECT … FROM unnest(x)`: the arrays of system relations that clients unnest are all NULL here.
fn unnests(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    matches!(select.from.as_slice(), [TableWithJoins { relation: TableFactor::Table { name, args: Some(_), .. }, .. }]
        if name.to_string().trim_start_matches("pg_catalog.").eq_ignore_ascii_case("unnest"))
        || matches!(select.from.as_slice(), [TableWithJoins { relation: TableFactor::UNNEST { .. }, .. }])
}

fn case(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition, result }],
        else_result: None,
    }
}

/// Wraps the only column of a plain SELECT into an aggregate.
fn aggregate(query: &mut Query, with: &str) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    if grouped || select.having.is_some() || select.distinct.is_some() || query.limit_clause.is_some() {
        return;
    }
    if let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_mut_slice() {
        let aggregated = has_aggregate(item);
        if !aggregated {
            let inner = std::mem::replace(item, Expr::Value(Value::Null.into()));
            *item = call(with, inner);
        }
    }
}

/// Whether an expression is of aggregates, leaving its subqueries aside.
fn has_aggregate(expr: &Expr) -> bool {
    struct Found {
        depth: usize,
        aggregate: bool,
    }
    impl Visitor for Found {
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
            let called = matches!(expr, Expr::Function(function) if function.over.is_none() && is_aggregate(&function.name.to_string()));
            self.aggregate |= called && self.depth == 0;
            ControlFlow::Continue(())
        }
    }
    let mut found = Found { depth: 0, aggregate: false };
    let _ = ast::Visit::visit(expr, &mut found);
    found.aggregate
}

pub(super) fn is_aggregate(name: &str) -> bool {
    ["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// The planner can look a row up by equalities with columns of the query around (`c.oid = a.x`), and by nothing else of
/// it. Other conditions use those equalities (`a.x <> t.y` is `c.oid <> t.y`), or, when they are about the outer query
/// alone, are returned to stand around the subquery.
fn lift_outer_conditions(query: &mut Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let own: Vec<String> = select.from.iter().flat_map(factors).filter_map(alias).collect();
    let mut conditions = Vec::new();
    conjuncts(select.selection.take()?, &mut conditions);
    let is_own = |expr: &Expr| qualifier(expr).is_some_and(|name| own.iter().any(|own| own == name));
    let equalities: Vec<(String, Expr)> = conditions
        .iter()
        .filter_map(|condition| match condition {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_own(left) && qualifier(right).is_some() && !is_own(right) => {
                Some((right.to_string(), left.as_ref().clone()))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_own(right) && qualifier(left).is_some() && !is_own(left) => {
                Some((left.to_string(), right.as_ref().clone()))
            }
            _ => None,
        })
        .collect();
    let (mut kept, mut lifted): (Option<Expr>, Option<Expr>) = (None, None);
    for mut condition in conditions {
        let is_key = matches!(&condition, Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if qualifier(left).is_some() && qualifier(right).is_some());
        if !is_key {
            let _ = condition.visit(&mut Substitute(&equalities));
        }
        let mut used = Qualifiers::default();
        let _ = ast::Visit::visit(&condition, &mut used);
        let outer_only = !used.0.is_empty() && !used.0.iter().any(|name| name.is_empty() || own.contains(name));
        let slot = if outer_only { &mut lifted } else { &mut kept };
        *slot = Some(match slot.take() {
            Some(before) => Expr::BinaryOp { left: Box::new(before), op: BinaryOperator::And, right: Box::new(condition) },
            None => condition,
        });
    }
    select.selection = kept;
    lifted
}

fn factors(from: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
}

/// What a relation is called inside its query.
fn alias(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => Some(alias.name.value.clone()),
        TableFactor::Table { name, .. } => name.0.last().and_then(ObjectNamePart::as_ident).map(|ident| ident.value.clone()),
        _ => None,
    }
}

/// `a` of `a.b` and of `schema.a.b`.
fn qualifier(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., qualifier, _] => Some(&qualifier.value),
            _ => None,
        },
        _ => None,
    }
}

fn conjuncts(expr: Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(*left, out);
            conjuncts(*right, out);
        }
        Expr::Nested(inner) if matches!(*inner, Expr::BinaryOp { op: BinaryOperator::And, .. }) => conjuncts(*inner, out),
        other => out.push(other),
    }
}

/// Columns of the outer query become the inner columns that equal them.
struct Substitute<'a>(&'a [(String, Expr)]);

impl VisitorMut for Substitute<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if qualifier(expr).is_some() {
            let text = expr.to_string();
            if let Some((_, own)) = self.0.iter().find(|(outer, _)| *outer == text) {
                *expr = own.clone();
            }
        }
        ControlFlow::Continue(())
    }
}

/// The relations whose columns an expression names.
#[derive(Default)]
struct Qualifiers(Vec<String>);

impl Visitor for Qualifiers {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(_) => self.0.extend(qualifier(expr).map(str::to_owned)),
            // Whose it is only the planner knows: it stays where it is.
            Expr::Identifier(_) => self.0.push(String::new()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use portrait_udfs::functions::dialect::Postgres;

    use super::*;

    fn check(sql: &str, expected: &str) {
        let mut statement = Parser::parse_sql(&Postgres, sql).unwrap().remove(0);
        rewrite(&mut statement);
        assert_eq!(statement.to_string(), expected);
    }

    #[test]
    fn psql_constructs() {
        check("SELECT pg_catalog.version()", "SELECT version()");
        check(
            "SELECT oid FROM pg_catalog.pg_class WHERE relname OPERATOR(pg_catalog.~) '^(a)$' COLLATE pg_catalog.default",
            "SELECT oid FROM pg_catalog.pg_class WHERE relname ~ '^(a)$'",
        );
        check(
            "SELECT 'a'::regclass::oid, 'int8'::regtype::oid",
            "SELECT pg_as_oid(pg_regclass_oid('a')) AS \"oid\", pg_as_oid(pg_regtype_oid('int8')) AS \"oid\"",
        );
        check("SELECT 'a.b'::pg_catalog.regclass, x::regclass", "SELECT pg_regclass_oid('a.b'), pg_regclass_name(x)");
        check("SELECT polcmd::pg_catalog.text, a::oid", "SELECT polcmd::TEXT, pg_as_oid(a::INT) AS \"a\"");
        check("SELECT INTERVAL '1 day 02:00:00'", "SELECT INTERVAL '1 day 02 hours 00 minutes 00 seconds'");
        check(
            "SELECT a FROM pg_type WHERE oid = ANY('{1}'::oid[])",
            "SELECT a FROM pg_type WHERE oid = ANY(ARRAY[CAST('1' AS INT)]::INT[])",
        );
    }

    #[test]
    fn subqueries_of_catalog_statements_are_aggregated() {
        check(
            "SELECT (SELECT d.x FROM pg_type d WHERE d.y = a.z AND a.z <> d.w AND a.v) FROM pg_attribute a",
            "SELECT CASE WHEN a.v THEN (SELECT max(d.x) FROM pg_type d WHERE d.y = a.z AND d.y <> d.w) END FROM pg_attribute a",
        );
        check(
            "SELECT ARRAY(SELECT b.rolname FROM pg_roles b WHERE b.oid = r.oid) FROM pg_roles r",
            "SELECT (SELECT array_agg(b.rolname) FROM pg_roles b WHERE b.oid = r.oid) FROM pg_roles r",
        );
    }

    #[test]
    fn relations_without_rows_are_not_planned() {
        check("SELECT (SELECT d.x FROM pg_attrdef d WHERE nonsense) FROM pg_class a", "SELECT CAST(NULL AS TEXT) FROM pg_class a");
        check("SELECT a.b AS c FROM pg_trigger a JOIN pg_class d ON nonsense WHERE e", "SELECT CAST(NULL AS TEXT) AS c WHERE false");
        check(
            "SELECT a.b, c, 1 AS d FROM pg_trigger a GROUP BY a.b, c ORDER BY a.b",
            "SELECT CAST(NULL AS TEXT) AS b, CAST(NULL AS TEXT) AS c, CAST(NULL AS INT) AS d WHERE false",
        );
        check("SELECT count(a.b) FROM pg_trigger a", "SELECT count(a.b) FROM pg_trigger a");
        check(
            "SELECT c, array_agg(a.b) AS d FROM pg_trigger a CROSS JOIN unnest(a.e) AS f GROUP BY c",
            "SELECT CAST(NULL AS TEXT) AS c, CAST(NULL AS TEXT[]) AS d WHERE false",
        );
        check(
            "SELECT c.oid FROM pg_class c LEFT JOIN pg_index i ON i.a = c.b",
            "SELECT c.oid FROM pg_class c LEFT JOIN pg_index i ON i.a = c.b",
        );
    }

    #[test]
    fn asyncpg_asks_for_types() {
        let mut statement = Parser::parse_sql(
            &Postgres,
            "WITH RECURSIVE typeinfo_tree(oid, ns, name, kind, basetype, elemtype, elemdelim, range_subtype, attrtypoids, attrnames, \
             depth) AS (SELECT 1) SELECT DISTINCT * FROM typeinfo_tree",
        )
        .unwrap()
        .remove(0);
        rewrite(&mut statement);
        assert!(statement.to_string().starts_with("SELECT t.oid AS oid, ns.nspname AS ns"));
    }

    #[test]
    fn other_statements_keep_their_subqueries() {
        for sql in [
            "SELECT (SELECT d.x FROM d WHERE d.y = a.z) FROM a",
            "SELECT (SELECT d.x FROM pg_attrdef d WHERE d.y = a.z) FROM users a",
            "SELECT a.max FROM a WHERE b ~ 'x'",
        ] {
            check(sql, sql);
        }
    }
}
