//! The names of a query's columns, as PostgreSQL gives them: `count`, `?column?`, and twice the same when asked twice.
//!
//! The planner calls an unnamed column by its expression (`count(Int64(1))`) and refuses two columns of one name. Both
//! are settled before planning: each unnamed expression gets an alias, one that is taken already gets a hidden mark
//! behind it; the mark is taken off the result's columns again. Source of the rules: `FigureColname` in PostgreSQL's
//! `parse_target.c`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, DataType, Expr, Ident, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TimezoneInfo, Value,
    VisitMut, VisitorMut,
};
use futures::StreamExt;

/// Before the number that tells equal names apart: INVISIBLE SEPARATOR, which nobody types.
const MARK: char = '\u{2063}';

/// Names every unnamed column of every query in `statement`.
pub(super) fn give(statement: &mut Statement) {
    struct Pass;
    impl VisitorMut for Pass {
        type Break = ();
        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            name_columns(select);
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            order_by_names(query);
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Pass);
}

fn name_columns(select: &mut Select) {
    let wildcard = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    // Names that the query itself gives come first: an unnamed column must not take one of them.
    let mut taken: HashSet<String> = HashSet::new();
    let mut number = 1_usize;
    for item in &mut select.projection {
        let SelectItem::ExprWithAlias { alias, .. } = item else { continue };
        if !taken.insert(super::support::fold(alias)) {
            number += 1;
            *alias = hidden(&super::support::fold(alias), number);
        }
    }
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let (name, qualified) = match &*expr {
            Expr::Identifier(ident) => (super::support::fold(ident), false),
            // Two columns of one name from two tables are told apart by their tables.
            Expr::CompoundIdentifier(_) => (expr.to_string(), true),
            other => (figure(other).unwrap_or_else(|| "?column?".into()), false),
        };
        let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let free = taken.insert(name.clone());
        let alias = match (plain, free) {
            (true, true) if !wildcard => continue,
            (false, true) => Ident::with_quote('"', &name),
            _ => {
                number += 1;
                let shown = name.rsplit('.').next().unwrap_or(&name).trim_matches('"');
                hidden(if qualified { shown } else { &name }, number)
            }
        };
        let expr = std::mem::replace(expr, Expr::Value(Value::Null.into()));
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}

/// With DISTINCT the planner orders by selected columns only, and knows them by their names.
fn order_by_names(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let (Some(_), Some(order)) = (&select.distinct, &mut query.order_by) else { return };
    let OrderByKind::Expressions(keys) = &mut order.kind else { return };
    for key in keys {
        let named = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if *expr == key.expr => Some(alias.clone()),
            _ => None,
        });
        if let Some(alias) = named {
            key.expr = Expr::Identifier(alias);
        }
    }
}

/// A name that is shown as `name` and is not equal to it: the column `number` of that name.
pub(crate) fn hidden(name: &str, number: usize) -> Ident {
    Ident::with_quote('"', format!("{name}{MARK}{number}"))
}

/// The alias that stands for the name which an unnamed expression has.
pub(crate) fn own(expr: &Expr) -> Ident {
    Ident::with_quote('"', figure(expr).unwrap_or_else(|| "?column?".into()))
}

/// PostgreSQL's name for an expression; `None` = it has none of its own.
fn figure(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => super::support::fold(ident),
        Expr::CompoundIdentifier(parts) => super::support::fold(parts.last()?),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(ident)) => Some(super::support::fold(ident)),
                _ => None,
            });
            return field.or_else(|| figure(root));
        }
        Expr::Function(call) => last_part(&call.name)?,
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return figure(inner),
        Expr::Cast { expr, data_type, .. } => return strong(expr).or_else(|| type_name(data_type)),
        Expr::TypedString(typed) => return type_name(&typed.data_type),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(strong).unwrap_or_else(|| "case".into()),
        Expr::Exists { .. } => "exists".into(),
        Expr::Subquery(query) => return subquery(query),
        Expr::Extract { .. } => "extract".into(),
        Expr::Substring { .. } => "substring".into(),
        Expr::Position { .. } => "position".into(),
        Expr::Overlay { .. } => "overlay".into(),
        Expr::Ceil { .. } => "ceil".into(),
        Expr::Floor { .. } => "floor".into(),
        Expr::Trim { trim_where, .. } => match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }
        .into(),
        Expr::AtTimeZone { .. } => "timezone".into(),
        Expr::Array(_) => "array".into(),
        Expr::Interval(_) => "interval".into(),
        Expr::Tuple(_) => "row".into(),
        _ => return None,
    })
}

/// The name that an expression keeps inside a cast or a CASE: none that is only its type's.
fn strong(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Cast { expr: inner, .. } | Expr::Nested(inner) => strong(inner),
        Expr::Case { else_result, .. } => else_result.as_deref().and_then(strong),
        Expr::TypedString(_) | Expr::Interval(_) => None,
        other => figure(other),
    }
}

fn last_part(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(super::support::fold)
}

fn subquery(query: &Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.first()? {
        SelectItem::ExprWithAlias { alias, .. } => Some(super::support::fold(alias)),
        SelectItem::UnnamedExpr(expr) => figure(expr),
        _ => None,
    }
}

/// What PostgreSQL calls a type inside: `int8` for `bigint`.
fn type_name(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean | DataType::Bool => "bool".into(),
        DataType::SmallInt(_) | DataType::Int2(_) => "int2".into(),
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => "int4".into(),
        DataType::BigInt(_) | DataType::Int8(_) => "int8".into(),
        DataType::Real | DataType::Float4 => "float4".into(),
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float8 | DataType::Float(_) => "float8".into(),
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) => "numeric".into(),
        DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::CharVarying(_) => "varchar".into(),
        DataType::Char(_) | DataType::Character(_) => "bpchar".into(),
        DataType::Text => "text".into(),
        DataType::Bytea => "bytea".into(),
        DataType::Date => "date".into(),
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => "timestamptz".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Time(..) => "time".into(),
        DataType::Interval { .. } => "interval".into(),
        DataType::Uuid => "uuid".into(),
        DataType::JSON => "json".into(),
        DataType::JSONB => "jsonb".into(),
        DataType::Custom(name, _) => last_part(name)?,
        _ => return None,
    })
}

/// The columns as the client sees them.
pub(super) fn shown(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_name(plain(field.name()))).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The rows under the names that the client sees.
pub(super) fn show(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = rows.schema();
    if !schema.fields().iter().any(|field| field.name().contains(MARK)) {
        return rows;
    }
    let shown = shown(&schema);
    let renamed = Arc::clone(&shown);
    let rows = rows.map(move |batch| rename(&batch?, &renamed));
    Box::pin(RecordBatchStreamAdapter::new(shown, rows))
}

fn rename(batch: &RecordBatch, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options).map_err(DataFusionError::from)
}

fn plain(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn names(sql: &str) -> Vec<String> {
        let mut statement = Parser::parse_sql(&super::super::parser::DIALECT, sql).unwrap().remove(0);
        give(&mut statement);
        let Statement::Query(query) = statement else { panic!("no query") };
        let SetExpr::Select(select) = *query.body else { panic!("no select") };
        let item = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            other => other.to_string(),
        };
        select.projection.iter().map(item).collect()
    }

    #[test]
    fn as_in_postgresql() {
        let cases = [
            ("SELECT count(*), 1, 'x'::text, a", vec!["count", "?column?", "text", "a"]),
            ("SELECT 1::bigint, TRUE, CASE WHEN a THEN b ELSE c END, CASE WHEN a THEN 1 END", vec!["int8", "?column?", "c", "case"]),
            ("SELECT (SELECT max(x) FROM t), EXISTS (SELECT 1), -a, upper(a)::varchar", vec!["max", "exists", "?column?", "upper"]),
            (
                "SELECT '7'::text::int, DATE '2024-01-01'::text, CASE WHEN a THEN b END::varchar, a::int::text",
                vec!["int4", "text", "varchar", "a"],
            ),
            ("SELECT TIMESTAMPTZ '2024-01-01', INTERVAL '1 day', EXTRACT(year FROM a)", vec!["timestamptz", "interval", "extract"]),
            ("SELECT '…'::uuid, '{}'::json, '[]'::jsonb", vec!["uuid", "json", "jsonb"]),
        ];
        for (sql, expected) in cases {
            assert_eq!(names(sql), expected, "{sql}");
        }
    }

    #[test]
    fn equal_names_are_told_apart_and_shown_equal() {
        let given = names("SELECT 1, 2, a, a, max(b) AS a, t.c, u.c, t.c");
        let shown: Vec<&str> = given.iter().map(|name| plain(name)).collect();
        assert_eq!(shown, ["?column?", "?column?", "a", "a", "a", "t.c", "u.c", "c"]);
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), given.len());
        assert_eq!(given[4], "a");
    }
}
