//! What must happen to a statement's syntax tree before it is planned.
//!
//! DataFusion finds the tables of a statement in its syntax tree, before any planner runs, so a table that is
//! named only inside a string would never be found. Therefore: a named `source` becomes a subquery, a bare
//! `SELECT f(…)` of a table-like function becomes `SELECT f FROM f(…)` as JSON, and a call that trains or erases is marked
//! when it is the statement's own top level and refused everywhere else.
//!
//! This page knows syntax only: no tables, no models, no plans.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    self, Cte, Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem,
    SetExpr, Statement, TableFactor, TableFunctionArgs, TableWithJoins, UtilityOption, Value, Visit, VisitMut, Visitor, VisitorMut, With,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::dialect::Postgres;
use super::relation::Kind;
use crate::error::{Code, Error, Result};

/// Hidden argument: `'row'` or `'json'`; marks a call at the top level of its statement.
pub(super) const FORM_ARGUMENT: &str = "__form";
/// Hidden argument: the source as self-contained SQL, when it uses common table expressions of the statement.
pub(super) const SQL_ARGUMENT: &str = "__sql";

/// What the pre-pass knows of a function.
struct Known {
    /// Where the sources are: position, name, and the default as it would be written in SQL.
    sources: Vec<(usize, &'static str, &'static str)>,
    has_effects: bool,
}

static KNOWN: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let known = super::relations().into_iter().map(|relation| {
        let sources =
            relation.parameters().iter().enumerate().filter(|(_, p)| p.kind == Kind::Source).map(|(i, p)| (i, p.name, p.default)).collect();
        (relation.name(), Known { sources, has_effects: relation.has_effects() })
    });
    known.collect()
});

/// Rewrites `statement` so that it can be planned. Call it once, before `statement_to_plan`; a second time does
/// nothing.
///
/// # Errors
/// 0A000 for training anywhere but at the top level, 22023, 25006 and 42601 for a bad source.
pub fn prepare_statement(statement: &mut Statement) -> Result<()> {
    let allowed = usize::from(mark_top_level(statement, false)?);
    let mut pass = PrePass { allowed, ..PrePass::default() };
    match VisitMut::visit(statement, &mut pass) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// [`prepare_statement`] for a statement of DataFusion's own parser.
///
/// # Errors
/// As [`prepare_statement`].
pub fn prepare_df_statement(statement: &mut DfStatement) -> Result<()> {
    match statement {
        DfStatement::Statement(statement) => prepare_statement(statement),
        DfStatement::Explain(explain) => {
            if explain.options.analyze
                && let DfStatement::Statement(inner) = explain.statement.as_mut()
                && mark_top_level(inner, false)?
            {
                return Err(analyzed());
            }
            prepare_df_statement(&mut explain.statement)
        }
        DfStatement::CopyTo(copy) => match &mut copy.source {
            datafusion::sql::parser::CopyToSource::Query(query) => {
                let mut pass = PrePass::default();
                match VisitMut::visit(query, &mut pass) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(error) => Err(*error),
                }
            }
            datafusion::sql::parser::CopyToSource::Relation(_) => Ok(()),
        },
        DfStatement::CreateExternalTable(_) | DfStatement::Reset(_) => Ok(()),
    }
}

/// The error for training in the wrong place.
pub(super) fn misplaced(name: &str) -> Error {
    Error::new(Code::FeatureNotSupported, format!("{name} is allowed only at the top level of a statement"))
        .detail(
            "What trains or erases is never part of a view, a subquery, a join or another statement, where it might run twice or unseen.",
        )
        .hint(format!("Run SELECT * FROM {name}(…) as a statement of its own."))
}

/// The error for `LATERAL f(…)`.
fn not_lateral(name: &str) -> Error {
    Error::new(Code::FeatureNotSupported, format!("LATERAL before {name} is not supported"))
        .detail("The arguments of a table function are constants: it cannot run once for each row of another table.")
        .hint(format!("Leave out LATERAL: FROM {name}(…)."))
}

fn analyzed() -> Error {
    Error::new(Code::FeatureNotSupported, "EXPLAIN ANALYZE cannot run what trains or erases")
        .hint("Use EXPLAIN without ANALYZE, or run the statement itself.")
}

/// Marks the one call that may have effects, turns a bare `SELECT f(…)` into its JSON form; true when it has.
fn mark_top_level(statement: &mut Statement, analyze: bool) -> Result<bool> {
    let query = match statement {
        Statement::Query(query) => query,
        Statement::Prepare { statement, .. } => return mark_top_level(statement, analyze),
        Statement::Explain { statement, analyze: run, options, .. } => {
            let run = *run || options.iter().flatten().any(is_analyze);
            return mark_top_level(statement, analyze || run);
        }
        _ => return Ok(false),
    };
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Ok(false);
    };
    bare_call_to_json(select);
    let [TableWithJoins { relation: TableFactor::Table { name, args: Some(args), .. }, joins }] = select.from.as_mut_slice() else {
        return Ok(false);
    };
    let has_effects =
        joins.is_empty() && function_name(name).and_then(|name| KNOWN.get(name.as_str())).is_some_and(|known| known.has_effects);
    if has_effects && analyze {
        return Err(analyzed());
    }
    if has_effects && hidden(&args.args, FORM_ARGUMENT).is_none() {
        args.args.push(hidden_argument(FORM_ARGUMENT, "row"));
    }
    Ok(has_effects)
}

fn is_analyze(option: &UtilityOption) -> bool {
    let off = option.arg.as_ref().is_some_and(|arg| matches!(arg.to_string().to_lowercase().as_str(), "false" | "off" | "0"));
    option.name.value.eq_ignore_ascii_case("analyze") && !off
}

/// `SELECT f(…)` → `SELECT f FROM f(…, __form => 'json')`.
fn bare_call_to_json(select: &mut Select) {
    if !select.from.is_empty() || select.selection.is_some() || select.having.is_some() || select.distinct.is_some() {
        return;
    }
    let (expr, alias) = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr)] => (expr, None),
        [SelectItem::ExprWithAlias { expr, alias }] => (expr, Some(alias.clone())),
        _ => return,
    };
    let Expr::Function(call) = expr else { return };
    let Some(name) = function_name(&call.name).filter(|name| KNOWN.contains_key(name.as_str())) else { return };
    let FunctionArguments::List(list) = &call.args else { return };
    if call.over.is_some() || call.filter.is_some() || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return;
    }
    let mut args = list.args.clone();
    args.push(hidden_argument(FORM_ARGUMENT, "json"));
    let relation = TableFactor::Table {
        name: call.name.clone(),
        alias: None,
        args: Some(TableFunctionArgs { args, settings: None }),
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    let column = Expr::Identifier(Ident::with_quote('"', name));
    select.projection = vec![match alias {
        Some(alias) => SelectItem::ExprWithAlias { expr: column, alias },
        None => SelectItem::UnnamedExpr(column),
    }];
    select.from = vec![TableWithJoins { relation, joins: vec![] }];
}

fn hidden_argument(name: &str, value: &str) -> FunctionArg {
    FunctionArg::ExprNamed {
        name: Expr::Identifier(Ident::new(name)),
        arg: FunctionArgExpr::Expr(Expr::Value(Value::SingleQuotedString(value.to_owned()).into())),
        operator: FunctionArgOperator::RightArrow,
    }
}

fn hidden(args: &[FunctionArg], name: &str) -> Option<usize> {
    args.iter().position(|arg| argument_name(arg).is_some_and(|n| n == name))
}

fn argument_name(arg: &FunctionArg) -> Option<String> {
    match arg {
        FunctionArg::Named { name, .. } | FunctionArg::ExprNamed { name: Expr::Identifier(name), .. } => Some(normal(name)),
        _ => None,
    }
}

fn argument_value(arg: &mut FunctionArg) -> Option<&mut Expr> {
    match arg {
        FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(e), .. }
        | FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    }
}

/// The name of a function, normalised; `None` for an odd one. A schema before the name is ignored.
pub(super) fn function_name(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(normal)
}

fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

#[derive(Default)]
struct PrePass {
    /// Calls that may have effects.
    allowed: usize,
    effects: usize,
    /// Common table expressions in sight, already rewritten.
    scope: Vec<(String, bool, Cte)>,
    /// Of the queries that are being visited: their WITH, and how much of the scope was there before it.
    queries: Vec<(Option<With>, usize)>,
}

impl PrePass {
    fn call(&mut self, name: &str, args: &mut Vec<FunctionArg>) -> Result<()> {
        let Some(known) = KNOWN.get(name) else { return Ok(()) };
        if known.has_effects {
            self.effects += 1;
            if self.effects > self.allowed {
                return Err(misplaced(name));
            }
        }
        if let Some(at) = hidden(args, SQL_ARGUMENT) {
            args.remove(at);
        }
        for (nth, source) in known.sources.iter().enumerate() {
            self.source(name, args, *source, nth == 0)?;
        }
        Ok(())
    }

    /// Turns the source at `position`, or of the name `parameter`, into a subquery; the first one also as self-contained SQL.
    fn source(
        &self,
        name: &str,
        args: &mut Vec<FunctionArg>,
        (position, parameter, default): (usize, &str, &str),
        first: bool,
    ) -> Result<()> {
        let place = args.iter().enumerate().find(|(i, arg)| match argument_name(arg) {
            Some(written) => written == parameter,
            None => *i == position,
        });
        let at = match (place.map(|(i, _)| i), default.strip_prefix('\'').and_then(|table| table.strip_suffix('\''))) {
            (Some(at), _) => at,
            (None, Some(table)) => {
                args.push(hidden_argument(parameter, table));
                args.len() - 1
            }
            (None, None) => return Ok(()),
        };
        let Some(value) = argument_value(&mut args[at]) else { return Ok(()) };
        if is_null(value) {
            return Ok(());
        }
        let query = source_query(name, value)?;
        if first && let Some(sql) = self.self_contained(&query) {
            args.push(hidden_argument(SQL_ARGUMENT, &sql));
        }
        if let Some(value) = argument_value(&mut args[at]) {
            *value = Expr::Subquery(query);
        }
        Ok(())
    }

    /// `query` with the common table expressions that it uses; `None` when it uses none.
    fn self_contained(&self, query: &Query) -> Option<String> {
        let mut wanted = tables_of(query);
        let mut used: Vec<&(String, bool, Cte)> = vec![];
        for entry in self.scope.iter().rev() {
            if wanted.remove(&entry.0) {
                wanted.extend(tables_of(&entry.2.query));
                used.push(entry);
            }
        }
        if used.is_empty() {
            return None;
        }
        used.reverse();
        let mut ctes: Vec<String> = used.iter().map(|(_, _, cte)| cte.to_string()).collect();
        let mut body = query.clone();
        let own = body.with.take();
        let recursive = used.iter().any(|(_, recursive, _)| *recursive) || own.as_ref().is_some_and(|with| with.recursive);
        ctes.extend(own.iter().flat_map(|with| &with.cte_tables).map(ToString::to_string));
        Some(format!("WITH {}{} {body}", if recursive { "RECURSIVE " } else { "" }, ctes.join(", ")))
    }
}

fn flow(result: Result<()>) -> ControlFlow<Box<Error>> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl VisitorMut for PrePass {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let before = self.scope.len();
        let mut with = query.with.take();
        let recursive = with.as_ref().is_some_and(|with| with.recursive);
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            VisitMut::visit(&mut cte.query, self)?;
            self.scope.push((normal(&cte.alias.name), recursive, cte.clone()));
        }
        self.queries.push((with, before));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let Some((with, before)) = self.queries.pop() {
            query.with = with;
            self.scope.truncate(before);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, args: Some(args), .. } = factor
            && let Some(name) = function_name(name)
        {
            return flow(self.call(&name, &mut args.args));
        }
        if let TableFactor::Function { name, .. } = factor
            && let Some(name) = function_name(name)
            && let Some(known) = KNOWN.get(name.as_str())
        {
            return flow(Err(if known.has_effects { misplaced(&name) } else { not_lateral(&name) }));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        if let Err(error) = super::ml::predict::complete_arguments(call) {
            return flow(Err(error));
        }
        if let Some(name) = function_name(&call.name)
            && let Some(known) = KNOWN.get(name.as_str())
        {
            if known.has_effects {
                return flow(Err(misplaced(&name)));
            }
            let error = Error::new(Code::FeatureNotSupported, format!("{name} returns rows and cannot be used in an expression"))
                .hint(format!("Use it in FROM: SELECT * FROM {name}(…)."));
            return flow(Err(error));
        }
        ControlFlow::Continue(())
    }
}

/// The names of the relations that a query reads, normalised.
fn tables_of(query: &Query) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            if let [part] = relation.0.as_slice()
                && let Some(ident) = part.as_ident()
            {
                self.0.insert(normal(ident));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(BTreeSet::new());
    let _ = Visit::visit(query, &mut names);
    names.0
}

/// Whether the argument is the keyword NULL.
pub(super) fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(v.value, Value::Null))
}

/// The text of a string literal, and whether it was dollar-quoted.
pub(super) fn string_literal(expr: &Expr) -> Option<(String, bool)> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) => Some((s.clone(), false)),
            Value::DollarQuotedString(s) => Some((s.value.clone(), true)),
            _ => None,
        },
        _ => None,
    }
}

/// The query behind a `source` argument of `function`.
///
/// # Errors
/// 22023 when it is not a source at all, 25006 when it is not read-only, 42601 when it cannot be parsed.
pub(super) fn source_query(function: &str, value: &Expr) -> Result<Box<Query>> {
    let not_a_source = |what: &str| {
        Error::invalid(format!("the source of {function} must be {what}"))
            .hint("Give a table or view name, $$SELECT …$$, or a subquery in parentheses.")
    };
    match value {
        Expr::Subquery(query) => {
            read_only(query)?;
            Ok(query.clone())
        }
        Expr::Nested(inner) => source_query(function, inner),
        Expr::Identifier(name) => Ok(select_all(&name.to_string())?),
        Expr::CompoundIdentifier(names) => {
            let name: Vec<String> = names.iter().map(ToString::to_string).collect();
            Ok(select_all(&name.join("."))?)
        }
        Expr::Value(v) if matches!(v.value, Value::Placeholder(_)) => Err(not_a_source("written in the statement, not a parameter")),
        other => match string_literal(other) {
            Some((text, _)) => source_text(function, text.trim()),
            None => Err(not_a_source("one read-only query")),
        },
    }
}

/// A source that was written as text inside an option, as SQL.
///
/// # Errors
/// As for the argument of a function: 22023, 25006.
pub(crate) fn source_sql(function: &str, text: &str) -> Result<String> {
    Ok(source_text(function, text.trim())?.to_string())
}

/// A query, a path or a name, as text.
fn source_text(function: &str, text: &str) -> Result<Box<Query>> {
    let first = text.trim_start_matches('(').split_whitespace().next().unwrap_or("").to_lowercase();
    let is_statement = text.contains(char::is_whitespace) && first.chars().all(|c| c.is_ascii_alphabetic()) && !text.starts_with('"');
    if is_statement || text.starts_with('(') || text.contains(';') {
        return parse_source(function, text);
    }
    if text.is_empty() {
        return Err(Error::invalid(format!("the source of {function} is empty")));
    }
    if looks_like_path(text) {
        return select_all(&Ident::with_quote('"', text).to_string());
    }
    select_all(text).map_err(|_| {
        Error::invalid(format!("\"{text}\" is not the name of a table"))
            .detail(format!("It is the source of {function}."))
            .hint("Write \"schema\".\"table\" with double quotes where a name has other characters than letters, digits and underscores.")
    })
}

/// Whether a source names files rather than a table.
fn looks_like_path(text: &str) -> bool {
    const EXTENSIONS: [&str; 6] = [".parquet", ".csv", ".json", ".ndjson", ".jsonl", ".csv.gz"];
    let lower = text.to_lowercase();
    !text.starts_with('"') && (text.contains(['/', '*', '\\']) || EXTENSIONS.iter().any(|e| lower.ends_with(e)))
}

/// The path of a source that [`source_query`] made from one.
pub(super) fn path_of(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [TableWithJoins { relation: TableFactor::Table { name, args: None, .. }, joins }] = select.from.as_slice() else { return None };
    let [part] = name.0.as_slice() else { return None };
    let ident = part.as_ident().filter(|ident| joins.is_empty() && ident.quote_style.is_some())?;
    looks_like_path(&ident.value).then(|| ident.value.clone())
}

fn select_all(name: &str) -> Result<Box<Query>> {
    let syntax = |e: datafusion::sql::sqlparser::parser::ParserError| Error::new(Code::Syntax, e.to_string());
    let mut parser = Parser::new(&Postgres).try_with_sql(name).map_err(syntax)?;
    let parsed = parser.parse_object_name(false).map_err(syntax)?;
    if parser.peek_token().token != Token::EOF || parsed.0.len() > 3 {
        return Err(Error::new(Code::Syntax, format!("\"{name}\" is not a name")));
    }
    let mut parser = Parser::new(&Postgres).try_with_sql(&format!("SELECT * FROM {parsed}")).map_err(syntax)?;
    parser.parse_query().map_err(syntax)
}

fn parse_source(function: &str, text: &str) -> Result<Box<Query>> {
    let mut statements = Parser::parse_sql(&Postgres, text)
        .map_err(|e| Error::new(Code::Syntax, format!("syntax error in the source of {function}")).detail(format!("{e}.")))?;
    if statements.len() != 1 {
        let message = format!("the source of {function} must be one query");
        return Err(Error::invalid(message).detail(format!("It has {} statements.", statements.len())));
    }
    match statements.remove(0) {
        Statement::Query(query) => {
            read_only(&query)?;
            Ok(query)
        }
        _ => Err(not_read_only()),
    }
}

fn not_read_only() -> Error {
    Error::new(Code::ReadOnly, "a source must be a read-only query").hint("Only SELECT, WITH … SELECT and VALUES are allowed.")
}

fn read_only(query: &Query) -> Result<()> {
    struct Writes;
    impl Visitor for Writes {
        type Break = ();
        fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            if select.into.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    match Visit::visit(query, &mut Writes) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(not_read_only()),
    }
}

/// The placeholders (`$1`) of a query, each once.
pub(super) fn placeholders(query: &Query) -> BTreeSet<String> {
    struct Found(BTreeSet<String>);
    impl Visitor for Found {
        type Break = ();
        fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<()> {
            if let Value::Placeholder(id) = &value.value {
                self.0.insert(id.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut found = Found(BTreeSet::new());
    let _ = Visit::visit(query, &mut found);
    found.0
}

/// `sql` with the placeholders replaced by literals.
///
/// # Errors
/// When a value has no literal form.
pub(super) fn substitute(sql: &str, values: &HashMap<String, ScalarValue>) -> Result<String> {
    struct Replace<'a>(&'a HashMap<String, ScalarValue>);
    impl VisitorMut for Replace<'_> {
        type Break = Box<Error>;
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(id) = &value.value
                && let Some(scalar) = self.0.get(id)
            {
                match literal(scalar) {
                    Ok(literal) => *expr = literal,
                    Err(error) => return ControlFlow::Break(Box::new(error)),
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut query = parse_source("a function", sql)?;
    match VisitMut::visit(&mut query, &mut Replace(values)) {
        ControlFlow::Continue(()) => Ok(query.to_string()),
        ControlFlow::Break(error) => Err(*error),
    }
}

fn literal(value: &ScalarValue) -> Result<Expr> {
    use arrow::datatypes::DataType;
    let unsupported = |_| Error::invalid("a parameter inside a source must be a number, a text, a boolean or a time");
    let data_type = value.data_type();
    let text = match value.cast_to(&DataType::Utf8).map_err(unsupported)? {
        ScalarValue::Utf8(Some(text)) => text,
        _ => return Ok(Expr::Value(Value::Null.into())),
    };
    let quoted = text.replace('\'', "''");
    let sql = match data_type {
        DataType::Boolean => text,
        t if t.is_integer() => format!("({text})"),
        t if t.is_floating() => format!("CAST('{quoted}' AS DOUBLE PRECISION)"),
        DataType::Decimal128(p, s) => format!("CAST('{quoted}' AS DECIMAL({p}, {s}))"),
        DataType::Timestamp(_, Some(_)) => format!("CAST('{quoted}' AS TIMESTAMP WITH TIME ZONE)"),
        DataType::Timestamp(_, None) => format!("CAST('{quoted}' AS TIMESTAMP)"),
        DataType::Date32 | DataType::Date64 => format!("CAST('{quoted}' AS DATE)"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => format!("'{quoted}'"),
        other => {
            return Err(Error::invalid(format!("a parameter inside a source cannot be of type {}", super::relation::sql_type(&other))));
        }
    };
    let syntax = |e: datafusion::sql::sqlparser::parser::ParserError| Error::internal(e.to_string());
    Parser::new(&Postgres).try_with_sql(&sql).map_err(syntax)?.parse_expr().map_err(syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(sql: &str) -> Result<String> {
        let mut statement = Parser::parse_sql(&Postgres, sql).unwrap().remove(0);
        prepare_statement(&mut statement)?;
        let once = statement.to_string();
        prepare_statement(&mut statement)?;
        assert_eq!(statement.to_string(), once, "a second pass changes nothing");
        Ok(once)
    }

    #[track_caller]
    fn check(sql: &str, expected: &str) {
        assert_eq!(prepared(sql).unwrap(), expected);
    }

    #[track_caller]
    fn refuse(sql: &str, code: Code, message: &str) {
        let error = prepared(sql).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (code, message), "{sql}");
    }

    #[test]
    fn named_sources_become_subqueries() {
        check("SELECT * FROM describe_events('events')", "SELECT * FROM describe_events((SELECT * FROM events))");
        check("SELECT * FROM describe_events(events)", "SELECT * FROM describe_events((SELECT * FROM events))");
        check("SELECT * FROM describe_events('\"My S\".t')", "SELECT * FROM describe_events((SELECT * FROM \"My S\".t))");
        check("SELECT * FROM describe_events(source => $$SELECT 1 AS a$$)", "SELECT * FROM describe_events(source => (SELECT 1 AS a))");
        check("SELECT * FROM describe_events('logs/*.parquet')", "SELECT * FROM describe_events((SELECT * FROM \"logs/*.parquet\"))");
        check("EXPLAIN SELECT * FROM describe_events('e')", "EXPLAIN SELECT * FROM describe_events((SELECT * FROM e))");
    }

    #[test]
    fn sources_keep_the_common_table_expressions_they_use() {
        check(
            "WITH a AS (SELECT 1 AS x), b AS (SELECT * FROM a), c AS (SELECT 2) SELECT * FROM describe_events('b')",
            "WITH a AS (SELECT 1 AS x), b AS (SELECT * FROM a), c AS (SELECT 2) SELECT * FROM describe_events((SELECT * FROM b), \
             __sql => 'WITH a AS (SELECT 1 AS x), b AS (SELECT * FROM a) SELECT * FROM b')",
        );
    }

    #[test]
    fn training_is_marked_at_the_top_level_and_refused_elsewhere() {
        let t = "train_profile_model('m', (SELECT * FROM e)";
        let form = "__form => 'row')";
        let train = "train_profile_model('m', 'e')";
        check(&format!("SELECT * FROM {train}"), &format!("SELECT * FROM {t}, {form}"));
        check(&format!("SELECT model FROM {train} AS t LIMIT 0"), &format!("SELECT model FROM {t}, {form} AS t LIMIT 0"));
        check(&format!("EXPLAIN SELECT * FROM {train}"), &format!("EXPLAIN SELECT * FROM {t}, {form}"));
        check(&format!("SELECT {train}"), &format!("SELECT \"train_profile_model\" FROM {t}, __form => 'json')"));
        check(&format!("SELECT {train} AS r"), &format!("SELECT \"train_profile_model\" AS r FROM {t}, __form => 'json')"));
        let message = "train_profile_model is allowed only at the top level of a statement";
        for sql in [
            format!("CREATE TABLE x AS SELECT * FROM {train}"),
            format!("CREATE VIEW x AS SELECT * FROM {train}"),
            format!("INSERT INTO x SELECT * FROM {train}"),
            format!("SELECT * FROM (SELECT * FROM {train}) t"),
            format!("WITH t AS (SELECT * FROM {train}) SELECT * FROM t"),
            format!("SELECT * FROM {train} a JOIN {train} b ON true"),
            format!("SELECT * FROM {train} a, {train} b"),
            format!("SELECT * FROM {train} UNION ALL SELECT * FROM {train}"),
            format!("SELECT 1 WHERE EXISTS (SELECT * FROM {train})"),
            format!("SELECT {train}, 1"),
            format!("SELECT upper({train})"),
            format!("SELECT * FROM train_profile_model('m', (SELECT * FROM {train}))"),
            format!("SELECT a FROM e WHERE {train} IS NULL"),
            format!("SELECT * FROM LATERAL {train}"),
            format!("SELECT * FROM e, LATERAL {train} AS t"),
            format!("SELECT * FROM TABLE({train})"),
            "SELECT * FROM (SELECT * FROM train_profile_model('m', 'e', __form => 'row')) t".to_owned(),
        ] {
            refuse(&sql, Code::FeatureNotSupported, message);
        }
        refuse(
            &format!("EXPLAIN ANALYZE SELECT * FROM {train}"),
            Code::FeatureNotSupported,
            "EXPLAIN ANALYZE cannot run what trains or erases",
        );
        refuse(&format!("EXPLAIN (ANALYZE) SELECT {train}"), Code::FeatureNotSupported, "EXPLAIN ANALYZE cannot run what trains or erases");
    }

    #[test]
    fn a_source_is_one_read_only_query() {
        let f = "the source of describe_events must be";
        refuse("SELECT * FROM describe_events($$SELECT 1; SELECT 2$$)", Code::InvalidParameter, &format!("{f} one query"));
        refuse("SELECT * FROM describe_events($$DELETE FROM e$$)", Code::ReadOnly, "a source must be a read-only query");
        refuse("SELECT * FROM describe_events($$SELECT 1 INTO x$$)", Code::ReadOnly, "a source must be a read-only query");
        refuse(
            "SELECT * FROM describe_events($$WITH d AS (DELETE FROM e RETURNING *) SELECT * FROM d$$)",
            Code::ReadOnly,
            "a source must be a read-only query",
        );
        refuse("SELECT * FROM describe_events($$SELEC 1$$)", Code::Syntax, "syntax error in the source of describe_events");
        refuse("SELECT * FROM describe_events(5)", Code::InvalidParameter, &format!("{f} one read-only query"));
        refuse("SELECT * FROM describe_events($1)", Code::InvalidParameter, &format!("{f} written in the statement, not a parameter"));
        refuse("SELECT * FROM describe_events('')", Code::InvalidParameter, "the source of describe_events is empty");
        refuse("SELECT * FROM describe_events('a-b')", Code::InvalidParameter, "\"a-b\" is not the name of a table");
        refuse(
            "SELECT * FROM e, LATERAL describe_events('e')",
            Code::FeatureNotSupported,
            "LATERAL before describe_events is not supported",
        );
        refuse(
            "SELECT describe_events('e'), 1",
            Code::FeatureNotSupported,
            "describe_events returns rows and cannot be used in an expression",
        );
    }

    #[test]
    fn placeholders_inside_a_source_become_literals() {
        let values = HashMap::from([("$1".to_owned(), ScalarValue::from("o'clock")), ("$2".to_owned(), ScalarValue::from(-5i64))]);
        assert_eq!(
            substitute("SELECT * FROM e WHERE a = $1 AND b > $2", &values).unwrap(),
            "SELECT * FROM e WHERE a = 'o''clock' AND b > (-5)"
        );
    }
}
