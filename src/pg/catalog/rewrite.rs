//! Constructs of catalog queries that the planner cannot read, rewritten into ones that it can.
//!
//! Two groups. Syntax that means nothing else anywhere (`pg_catalog.f(x)`, `OPERATOR(pg_catalog.~)`, `COLLATE` of the
//! default, casts to `regclass` and its kin) is rewritten wherever it stands. Correlated scalar subqueries and
//! `ARRAY(SELECT …)` are touched only in statements that read a system schema and nothing of the user's.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, Value, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;

use portrait_udfs::functions::dialect::Postgres;

use super::definitions::tables;

/// What asyncpg asks of types that it does not know, without the recursion: an array comes with its element. (Domains
/// and composite types, which are why it recurses, are not types of ours.)
const TYPES_AND_THEIR_ELEMENTS: &str = "\
    SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, CAST(NULL AS INT) AS basetype, t.typelem AS elemtype, \
      elem_t.typdelim AS elemdelim, range_t.rngsubtype AS range_subtype, CAST(NULL AS INT[]) AS attrtypoids, \
      CAST(NULL AS TEXT[]) AS attrnames, CASE WHEN t.oid = ANY($1) THEN 0 ELSE 1 END AS depth, \
      CAST(NULL AS TEXT) AS basetype_name, format_type(t.typelem, NULL) AS elemtype_name, \
      format_type(range_t.rngsubtype, NULL) AS range_subtype_name \
    FROM pg_catalog.pg_type t \
      JOIN pg_catalog.pg_namespace ns ON ns.oid = t.typnamespace \
      LEFT JOIN pg_catalog.pg_type elem_t ON t.typelem <> 0 AND t.typelem = elem_t.oid \
      LEFT JOIN pg_catalog.pg_range range_t ON t.oid = range_t.rngtypid \
    WHERE t.oid = ANY($1) OR t.oid IN (SELECT e.typelem FROM pg_catalog.pg_type e WHERE e.oid = ANY($1)) \
    ORDER BY depth DESC";

/// Rewrites a statement in place.
pub(super) fn rewrite(statement: &mut Statement) {
    if is_type_introspection(statement)
        && let Ok(mut known) = Parser::parse_sql(&Postgres, TYPES_AND_THEIR_ELEMENTS)
        && let Some(known) = known.pop()
    {
        *statement = known;
        return;
    }
    let mut reads = Reads::default();
    let _ = ast::Visit::visit(statement, &mut reads);
    let _ = statement.visit(&mut Everywhere);
    if reads.system && !reads.user {
        let _ = statement.visit(&mut CatalogOnly);
    }
}

fn is_type_introspection(statement: &Statement) -> bool {
    let Statement::Query(query) = statement else { return false };
    let with = query.with.as_ref().filter(|with| with.recursive);
    with.and_then(|with| with.cte_tables.first()).is_some_and(|table| {
        let columns = table.alias.columns.iter().map(|column| column.name.value.as_str());
        table.alias.name.value == "typeinfo_tree"
            && columns.eq([
                "oid",
                "ns",
                "name",
                "kind",
                "basetype",
                "elemtype",
                "elemdelim",
                "range_subtype",
                "attrtypoids",
                "attrnames",
                "depth",
            ])
    })
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
            [name] if self.own.iter().any(|own| own == name) => {}
            _ => self.user = true,
        }
        ControlFlow::Continue(())
    }
}

struct Everywhere;

impl VisitorMut for Everywhere {
    type Break = ();

    /// On the way up, so that what is inside is rewritten already.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => unqualify(&mut function.name),
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
        ControlFlow::Continue(())
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

/// What a cast to one of PostgreSQL's own types becomes; `None` leaves it alone.
fn cast(inner: &mut Expr, data_type: &mut DataType) -> Option<Expr> {
    if let DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _)) = data_type {
        if let Some(plain) = type_name(item).and_then(|(name, qualified)| plain_type(&name, qualified)) {
            **item = plain;
        }
        return None;
    }
    let (name, qualified) = type_name(data_type)?;
    let literal =
        matches!(inner, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_)));
    let mut take = || std::mem::replace(inner, Expr::Value(Value::Null.into()));
    match (name.as_str(), literal) {
        ("regclass", true) => Some(call("pg_regclass_oid", take())),
        ("regclass", false) => Some(call("pg_regclass_name", take())),
        ("regtype", true) => Some(call("pg_regtype_oid", take())),
        ("regtype", false) => Some(call2("format_type", take(), Expr::Value(Value::Null.into()))),
        ("regproc" | "regprocedure", true) => Some(call("pg_regproc_oid", take())),
        ("regproc" | "regprocedure", false) => Some(call("pg_regproc_name", take())),
        ("regnamespace", true) => Some(call("pg_regnamespace_oid", take())),
        _ => {
            if let Some(plain) = plain_type(&name, qualified) {
                *data_type = plain;
            }
            None
        }
    }
}

/// A type of the planner that stands for one of PostgreSQL's.
fn plain_type(name: &str, qualified: bool) -> Option<DataType> {
    Some(match name {
        "oid" | "xid" | "cid" => DataType::Int(None),
        "name" | "char" | "cstring" | "pg_node_tree" | "aclitem" | "regtype" | "regclass" | "regproc" => DataType::Text,
        // `pg_catalog.int4` and the like are words of their own to the parser only without the schema.
        "text" | "varchar" | "bpchar" if qualified => DataType::Text,
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

fn function(name: &str, args: Vec<FunctionArg>) -> Expr {
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

fn call(name: &str, expr: Expr) -> Expr {
    function(name, vec![argument(expr)])
}

fn call2(name: &str, first: Expr, second: Expr) -> Expr {
    function(name, vec![argument(first), argument(second)])
}

struct CatalogOnly;

impl VisitorMut for CatalogOnly {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // A subquery used as a value: the planner wants an aggregate where it depends on the query around it. All
            // catalog queries of this form look up one row by its key, so the aggregate changes nothing.
            Expr::Subquery(query) => aggregate(query, "max"),
            Expr::Function(array) if array.name.to_string().eq_ignore_ascii_case("array") => {
                if let FunctionArguments::Subquery(query) = &mut array.args {
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

/// Wraps the only column of a plain SELECT into an aggregate.
fn aggregate(query: &mut Query, with: &str) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty());
    if grouped || select.having.is_some() || select.distinct.is_some() || query.limit_clause.is_some() {
        return;
    }
    if let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_mut_slice() {
        let aggregated = matches!(item, Expr::Function(function) if is_aggregate(&function.name.to_string()));
        if !aggregated {
            let inner = std::mem::replace(item, Expr::Value(Value::Null.into()));
            *item = call(with, inner);
        }
    }
}

fn is_aggregate(name: &str) -> bool {
    ["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
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
        check("SELECT 'a.b'::pg_catalog.regclass, x::regclass", "SELECT pg_regclass_oid('a.b'), pg_regclass_name(x)");
        check("SELECT polcmd::pg_catalog.text, a::oid", "SELECT polcmd::TEXT, a::INT");
        check("SELECT a FROM pg_type WHERE oid = ANY('{1}'::oid[])", "SELECT a FROM pg_type WHERE oid = ANY('{1}'::INT[])");
    }

    #[test]
    fn subqueries_of_catalog_statements_are_aggregated() {
        check(
            "SELECT (SELECT d.x FROM pg_attrdef d WHERE d.y = a.z) FROM pg_attribute a",
            "SELECT (SELECT max(d.x) FROM pg_attrdef d WHERE d.y = a.z) FROM pg_attribute a",
        );
        check(
            "SELECT ARRAY(SELECT b.rolname FROM pg_roles b WHERE b.oid = r.oid) FROM pg_roles r",
            "SELECT (SELECT array_agg(b.rolname) FROM pg_roles b WHERE b.oid = r.oid) FROM pg_roles r",
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
