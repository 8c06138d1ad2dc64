//! Catalog queries over relations that never have rows: what they read is not planned, and their columns are NULLs of
//! the types that PostgreSQL gives them, so that the query around them plans as it does there.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, ExactNumberInfo, Expr, Ident, JoinOperator, ObjectNamePart, Query, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, TimezoneInfo, Value, VisitMut, VisitorMut,
};

use super::definitions::{ColumnKind, is_always_empty, tables};
use super::rewrite::{call, is_aggregate};

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
    if let TableFactor::Derived { lateral: false, subquery, .. } = factor {
        return is_empty_query(subquery);
    }
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
    let derived = derived(&select.from);
    select.from.clear();
    select.selection = Some(Expr::Value(Value::Boolean(false).into()));
    let mut taken = HashSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (kind, alias) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (type_of(expr, &derived), Some(alias.clone())),
            SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
                (type_of(expr, &derived), last(expr).cloned())
            }
            SelectItem::UnnamedExpr(expr) => (type_of(expr, &derived), None),
            _ => continue,
        };
        *item = match alias {
            // Two columns of one name came from two relations, which are gone.
            Some(alias) if !taken.insert(alias.value.clone()) => {
                SelectItem::ExprWithAlias { expr: kind.null(), alias: crate::sql::hidden_name(&alias.value, at + 1000) }
            }
            Some(alias) => SelectItem::ExprWithAlias { expr: kind.null(), alias },
            None => SelectItem::UnnamedExpr(kind.null()),
        };
    }
    select.distinct = None;
    select.having = None;
    select.group_by = ast::GroupByExpr::Expressions(Vec::new(), Vec::new());
}

/// What a subquery of aggregates over nothing gives: no rows are counted, and of none there is no maximum.
pub(super) fn aggregate_of_nothing(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice() else { return None };
    if grouped || select.having.is_some() || query.with.is_some() {
        return None;
    }
    // Without the aggregates it would have no rows.
    let mut bare = select.as_ref().clone();
    bare.projection = vec![SelectItem::UnnamedExpr(Expr::Value(Value::Null.into()))];
    let mut item = item.clone();
    let mut found = Aggregates { derived: derived(&select.from), count: 0, columns: 0 };
    let _ = item.visit(&mut found);
    (is_empty(&bare) && found.count > 0 && found.columns == 0).then(|| Expr::Nested(Box::new(item)))
}

/// Replaces aggregates by their values over nothing, and counts the columns outside of them.
struct Aggregates {
    derived: Derived,
    count: usize,
    columns: usize,
}

impl VisitorMut for Aggregates {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if function.over.is_none() && is_aggregate(bare_name(function)) => {
                self.count += 1;
                let counts = bare_name(function).eq_ignore_ascii_case("count");
                let zero = Expr::Value(Value::Number("0".into(), false).into());
                *expr = if counts { cast(zero, DataType::BigInt(None)) } else { type_of(expr, &self.derived).null() };
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.columns += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What a subquery of no rows is as a value.
pub(super) fn of(expr: &Expr) -> Expr {
    type_of(expr, &Derived::new()).null()
}

/// What `ARRAY(…)` makes of no rows.
pub(super) fn empty_array() -> Expr {
    cast(Expr::Array(ast::Array { elem: Vec::new(), named: true }), array_of(DataType::Text))
}

/// Whether `EXISTS` finds nothing, whatever is selected.
pub(super) fn is_without_rows(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let mut bare = select.as_ref().clone();
    bare.projection.retain(|item| !matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    is_empty(&bare)
}

/// A type of the planner, or one that only PostgreSQL has (`pg_as_…`).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Plain(DataType),
    Marked(&'static str),
    /// A bare NULL, which takes the type of what stands beside it.
    Unknown,
}

impl Kind {
    fn null(self) -> Expr {
        match self {
            Self::Plain(data_type) => null(data_type),
            Self::Marked(mark) => call(&format!("pg_as_{mark}"), Expr::Value(Value::Null.into())),
            Self::Unknown => Expr::Value(Value::Null.into()),
        }
    }

    fn text() -> Self {
        Self::Plain(DataType::Text)
    }

    fn array(self) -> Self {
        match self {
            Self::Plain(item) => Self::Plain(array_of(item)),
            Self::Marked("oid") => Self::Marked("oid_array"),
            Self::Marked("name") => Self::Marked("name_array"),
            Self::Marked(_) | Self::Unknown => Self::Plain(array_of(DataType::Text)),
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Plain(DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, _))) => Self::Plain(*item),
            Self::Marked("oid_array") => Self::Marked("oid"),
            Self::Marked("name_array") => Self::Marked("name"),
            // The other arrays of these relations are numbers of columns.
            _ => Self::Plain(DataType::Int(None)),
        }
    }
}

pub(super) fn null(data_type: DataType) -> Expr {
    cast(Expr::Value(Value::Null.into()), data_type)
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// Subqueries in `FROM`: their names, and those of their columns.
pub(super) type Derived = Vec<(String, Vec<(String, Kind)>)>;

fn derived(from: &[TableWithJoins]) -> Derived {
    let factors = from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let columns = |factor: &TableFactor| {
        // Those of series are numbers.
        if let TableFactor::Table { args: Some(_), alias: Some(alias), .. } = factor {
            let numbers = alias.columns.iter().map(|column| (column.name.value.clone(), Kind::Plain(DataType::Int(None))));
            return Some((alias.name.value.clone(), numbers.collect()));
        }
        if let TableFactor::Table { name, args: None, alias, .. } = factor {
            return system_columns(name, alias.as_ref());
        }
        let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor else { return None };
        let SetExpr::Select(select) = subquery.body.as_ref() else { return None };
        let inner = derived(&select.from);
        let columns = select.projection.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } => Some((alias.value.clone(), type_of(expr, &inner))),
            SelectItem::UnnamedExpr(expr) => last(expr).map(|name| (name.value.clone(), type_of(expr, &inner))),
            _ => None,
        });
        Some((alias.name.value.clone(), columns.collect()))
    };
    factors.filter_map(columns).collect()
}

/// The name that a system relation has in a query, and its columns.
fn system_columns(name: &ast::ObjectName, alias: Option<&ast::TableAlias>) -> Option<(String, Vec<(String, Kind)>)> {
    let mut parts = name.0.iter().rev().filter_map(ObjectNamePart::as_ident).map(|part| part.value.to_ascii_lowercase());
    let (table, schema) = (parts.next()?, parts.next().unwrap_or_else(|| "pg_catalog".into()));
    let found = super::definitions::find(&schema, &table)?;
    let columns = found.columns.iter().map(|column| (column.name.to_owned(), of_column(column.kind)));
    Some((alias.map_or(table, |alias| alias.name.value.clone()), columns.collect()))
}

fn last(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}

/// The type of an expression over system relations, as far as its form tells; else text.
pub(super) fn type_of(expr: &Expr, derived: &Derived) -> Kind {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => column(expr, derived),
        Expr::Cast { data_type: DataType::Custom(..) | DataType::Regclass, .. } => Kind::text(),
        Expr::Cast { data_type, .. } => Kind::Plain(data_type.clone()),
        Expr::Nested(inner) => type_of(inner, derived),
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::Exists { .. }
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Between { .. }
        | Expr::AnyOp { .. }
        | Expr::Like { .. } => Kind::Plain(DataType::Boolean),
        Expr::BinaryOp { op, left, .. } => match op {
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::Gt
            | BinaryOperator::LtEq
            | BinaryOperator::GtEq
            | BinaryOperator::And
            | BinaryOperator::Or => Kind::Plain(DataType::Boolean),
            BinaryOperator::Plus | BinaryOperator::Minus => type_of(left, derived),
            _ => Kind::text(),
        },
        Expr::Case { conditions, else_result, .. } => {
            let results = || conditions.iter().map(|when| &when.result).chain(else_result.as_deref());
            let telling = results().find(|result| !matches!(result, Expr::Value(_))).or_else(|| results().next());
            telling.map_or_else(Kind::text, |result| type_of(result, derived))
        }
        Expr::Value(value) => match &value.value {
            Value::Number(..) => Kind::Plain(DataType::Int(None)),
            Value::Boolean(_) => Kind::Plain(DataType::Boolean),
            Value::Null => Kind::Unknown,
            _ => Kind::text(),
        },
        Expr::UnaryOp { op: ast::UnaryOperator::Not, .. } => Kind::Plain(DataType::Boolean),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => type_of(expr, &self::derived(&select.from)),
                _ => Kind::text(),
            },
            _ => Kind::text(),
        },
        Expr::Function(function) => type_of_call(function, derived),
        _ => Kind::text(),
    }
}

fn type_of_call(function: &ast::Function, derived: &Derived) -> Kind {
    let name = bare_name(function).to_ascii_lowercase();
    let first = || argument(function).map_or_else(Kind::text, |expr| type_of(expr, derived));
    if let Some(mark) = name.strip_prefix("pg_as_") {
        return mark_of(mark).map_or_else(Kind::text, Kind::Marked);
    }
    match name.as_str() {
        "get_field" => field(function),
        "generate_subscripts" | "generate_series" | "array_upper" | "array_lower" | "array_length" => Kind::Plain(DataType::Int(None)),
        "count" | "row_number" => Kind::Plain(DataType::BigInt(None)),
        "unnest" => first().item(),
        "array_agg" => first().array(),
        "coalesce" | "nullif" | "min" | "max" => first(),
        "pg_get_userbyid" | "current_database" | "pg_encoding_to_char" => Kind::Marked("name"),
        name if name.starts_with("pg_") && name.ends_with("_size") => Kind::Plain(DataType::BigInt(None)),
        name if name.starts_with("has_") || name.ends_with("_is_visible") => Kind::Plain(DataType::Boolean),
        _ => Kind::text(),
    }
}

/// A field of a composite value: of `_pg_expandarray` and `aclexplode`.
fn field(function: &ast::Function) -> Kind {
    match function.args.to_string().trim_end_matches("')").rsplit('\'').next() {
        Some("n" | "x") => Kind::Plain(DataType::Int(None)),
        Some("grantor" | "grantee") => Kind::Marked("oid"),
        Some("is_grantable") => Kind::Plain(DataType::Boolean),
        _ => Kind::text(),
    }
}

/// A function's name without its schema.
fn bare_name(function: &ast::Function) -> &str {
    function.name.0.last().and_then(ObjectNamePart::as_ident).map_or("", |name| name.value.as_str())
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

fn mark_of(text: &str) -> Option<&'static str> {
    ["oid", "regproc", "xid", "name", "char", "int2vector", "oidvector", "name_array", "oid_array"].into_iter().find(|mark| *mark == text)
}

fn column(expr: &Expr, derived: &Derived) -> Kind {
    let Some(name) = last(expr) else { return Kind::text() };
    let qualifier = match expr {
        Expr::CompoundIdentifier(parts) if parts.len() == 2 => Some(parts[0].value.as_str()),
        _ => None,
    };
    let relations = derived.iter().filter(|(alias, _)| qualifier.is_none_or(|qualifier| alias.eq_ignore_ascii_case(qualifier)));
    let found = relations.flat_map(|(_, columns)| columns).find(|(column, _)| column.eq_ignore_ascii_case(&name.value));
    found.map_or_else(|| column_type(name), |(_, kind)| kind.clone())
}

/// The type of a column by its name alone: one name has one type in all system relations but for a few.
fn column_type(name: &Ident) -> Kind {
    let of = |schema: &'static str| tables().iter().filter(move |table| table.schema_name == schema);
    let mut columns = of("pg_catalog").chain(of("information_schema")).flat_map(|table| &table.columns);
    columns.find(|column| column.name == name.value.to_ascii_lowercase()).map_or_else(Kind::text, |column| of_column(column.kind))
}

fn of_column(kind: ColumnKind) -> Kind {
    Kind::Plain(match kind {
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Int2 => DataType::SmallInt(None),
        ColumnKind::Int4 => DataType::Int(None),
        ColumnKind::Int8 => DataType::BigInt(None),
        ColumnKind::Float4 => DataType::Real,
        ColumnKind::Float8 => DataType::Double(ExactNumberInfo::None),
        ColumnKind::Timestamptz => DataType::Timestamp(Some(6), TimezoneInfo::WithTimeZone),
        ColumnKind::Texts => array_of(DataType::Text),
        ColumnKind::SmallInts => array_of(DataType::SmallInt(None)),
        ColumnKind::Ints => array_of(DataType::Int(None)),
        ColumnKind::Text => DataType::Text,
        ColumnKind::Oid => return Kind::Marked("oid"),
        ColumnKind::Regproc => return Kind::Marked("regproc"),
        ColumnKind::Name => return Kind::Marked("name"),
        ColumnKind::Char => return Kind::Marked("char"),
        ColumnKind::Int2Vector => return Kind::Marked("int2vector"),
        ColumnKind::OidVector => return Kind::Marked("oidvector"),
        ColumnKind::Names => return Kind::Marked("name_array"),
        ColumnKind::Oids => return Kind::Marked("oid_array"),
    })
}
