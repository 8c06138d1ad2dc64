//! Catalog queries over relations that never have rows: what they read is not planned, and their columns are NULLs of
//! the types that PostgreSQL gives them, so that the query around them plans as it does there.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, ExactNumberInfo, Expr, Ident, JoinOperator, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, TimezoneInfo, Value,
};

use super::definitions::{ColumnKind, is_always_empty, tables};
use super::rewrite::is_aggregate;

/// Whether a query gives no rows because a relation of it has none.
pub(super) fn is_empty_query(query: &Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(select) if is_empty(select))
}

/// Whether the rows of a SELECT need a row of a system relation that has none. Aggregates without groups give a row of nothing.
pub(super) fn is_empty(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let aggregated = select.projection.iter().any(|item| {
        matches!(item, SelectItem::UnnamedExpr(Expr::Function(function)) | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }
            if is_aggregate(&function.name.to_string()))
    });
    let wildcard = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let needed = |from: &TableWithJoins| {
        let joined = from.joins.iter().filter(|join| matches!(join.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_)));
        // Behind a RIGHT or FULL JOIN nothing is needed on the left.
        let optional = from.joins.iter().any(|join| {
            !matches!(
                join.join_operator,
                JoinOperator::Join(_)
                    | JoinOperator::Inner(_)
                    | JoinOperator::Left(_)
                    | JoinOperator::LeftOuter(_)
                    | JoinOperator::CrossJoin(_)
            )
        });
        !optional && std::iter::once(&from.relation).chain(joined.map(|join| &join.relation)).any(has_no_rows)
    };
    (grouped || !aggregated) && !wildcard && select.from.iter().any(needed)
}

fn has_no_rows(factor: &TableFactor) -> bool {
    let TableFactor::Table { name, args: None, .. } = factor else { return false };
    let parts: Vec<String> = name.0.iter().filter_map(ObjectNamePart::as_ident).map(|ident| ident.value.to_ascii_lowercase()).collect();
    match parts.as_slice() {
        [table] => is_always_empty("pg_catalog", table),
        [.., schema, table] => is_always_empty(schema, table),
        [] => false,
    }
}

/// Makes a SELECT one of no rows without its relations.
pub(super) fn blank(select: &mut Select) {
    select.from.clear();
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
    let mut taken = HashSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (kind, alias) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (type_of(expr), Some(alias.clone())),
            SelectItem::UnnamedExpr(expr @ Expr::Identifier(_)) => (type_of(expr), last(expr).cloned()),
            SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(_)) => (type_of(expr), last(expr).cloned()),
            SelectItem::UnnamedExpr(expr) => (type_of(expr), None),
            _ => continue,
        };
        *item = match alias {
            // Two columns of one name came from two relations, which are gone.
            Some(alias) if !taken.insert(alias.value.clone()) => {
                SelectItem::ExprWithAlias { expr: null(kind), alias: crate::sql::hidden_name(&alias.value, at + 1000) }
            }
            Some(alias) => SelectItem::ExprWithAlias { expr: null(kind), alias },
            None => SelectItem::UnnamedExpr(null(kind)),
        };
    }
    select.group_by = ast::GroupByExpr::Expressions(Vec::new(), Vec::new());
}

pub(super) fn null(data_type: DataType) -> Expr {
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(Expr::Value(Value::Null.into())), data_type, array: false, format: None }
}

fn last(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}

/// The type of an expression over system relations, as far as its form tells; else text.
fn type_of(expr: &Expr) -> DataType {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => last(expr).map_or(DataType::Text, column_type),
        Expr::Cast { data_type: DataType::Custom(..) | DataType::Regclass, .. } => DataType::Text,
        Expr::Cast { data_type, .. } => data_type.clone(),
        Expr::Nested(inner) => type_of(inner),
        Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::Exists { .. } | Expr::InList { .. } | Expr::Like { .. } => DataType::Boolean,
        Expr::BinaryOp { op, left, .. } => match op {
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::Gt
            | BinaryOperator::LtEq
            | BinaryOperator::GtEq
            | BinaryOperator::And
            | BinaryOperator::Or => DataType::Boolean,
            BinaryOperator::Plus | BinaryOperator::Minus => type_of(left),
            _ => DataType::Text,
        },
        Expr::Case { conditions, .. } => conditions.first().map_or(DataType::Text, |when| type_of(&when.result)),
        Expr::Value(value) => match &value.value {
            Value::Number(..) => DataType::Int(None),
            Value::Boolean(_) => DataType::Boolean,
            _ => DataType::Text,
        },
        Expr::Function(function) => match function.name.0.last().and_then(ObjectNamePart::as_ident) {
            Some(name) => match name.value.to_ascii_lowercase().as_str() {
                "generate_subscripts" | "generate_series" | "array_upper" | "array_lower" | "array_length" => DataType::Int(None),
                // The arrays of these relations are numbers of columns and OIDs.
                "unnest" => DataType::Int(None),
                "array_agg" => array_of(argument(function).map_or(DataType::Text, type_of)),
                _ => DataType::Text,
            },
            None => DataType::Text,
        },
        _ => DataType::Text,
    }
}

fn argument(function: &ast::Function) -> Option<&Expr> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    match list.args.first()? {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn array_of(item: DataType) -> DataType {
    DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(item), None))
}

/// The type of a system relation's column. One name has one type in all of them but for a few, which no client reads.
fn column_type(name: &Ident) -> DataType {
    let catalog = || tables().iter().filter(|table| table.schema_name == "pg_catalog");
    let kind = catalog().flat_map(|table| &table.columns).find(|column| column.name == name.value).map(|column| column.kind);
    match kind {
        Some(ColumnKind::Bool) => DataType::Boolean,
        Some(ColumnKind::Int2) => DataType::SmallInt(None),
        Some(ColumnKind::Int4 | ColumnKind::Oid | ColumnKind::Regproc) => DataType::Int(None),
        Some(ColumnKind::Int8) => DataType::BigInt(None),
        Some(ColumnKind::Float4) => DataType::Real,
        Some(ColumnKind::Float8) => DataType::Double(ExactNumberInfo::None),
        Some(ColumnKind::Timestamptz) => DataType::Timestamp(Some(6), TimezoneInfo::WithTimeZone),
        Some(ColumnKind::Texts | ColumnKind::Names) => array_of(DataType::Text),
        Some(ColumnKind::Ints | ColumnKind::Oids) => array_of(DataType::Int(None)),
        Some(ColumnKind::Text | ColumnKind::Name | ColumnKind::Char | ColumnKind::Int2Vector | ColumnKind::OidVector) | None => {
            DataType::Text
        }
    }
}
