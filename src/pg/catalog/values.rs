//! PostgreSQL's ways to write values that the planner does not read: bytea in hex, intervals with a clock or of ISO 8601,
//! uuid and json, time stamps beyond the reach of nanoseconds, `LIKE … ESCAPE`, and the column of a series that is named
//! by its alias.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, DataType, ExactNumberInfo, Expr, Ident, ObjectNamePart, Select, SelectItem, Statement, TableAlias,
    TableAliasColumnDef, TableFactor, Value, VisitMut, Visitor, VisitorMut,
};

use super::calls;
use super::rewrite::{call, call2, take};
use crate::pg::compat::timestamp_spelled_out;
use crate::pg::interval::spelled_out;
use crate::pg::params;

/// Rewrites one expression whose parts are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::Interval(interval) => spell_out(&mut interval.value),
        Expr::TypedString(typed) => {
            as_in_postgresql(&mut typed.data_type);
            if let (DataType::Timestamp(..), Value::SingleQuotedString(text)) = (&typed.data_type, &mut typed.value.value)
                && let Some(whole) = timestamp_spelled_out(text)
            {
                *text = whole;
            }
        }
        Expr::Cast { expr: inner, data_type, .. } => {
            as_in_postgresql(data_type);
            calls::numeric(inner, data_type);
            if let Some(replacement) = cast(inner, data_type) {
                *expr = replacement;
            }
        }
        Expr::Array(array) => type_nulls(array),
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => escape(pattern, escape_char),
        _ => {}
    }
}

fn cast(inner: &mut Expr, data_type: &DataType) -> Option<Expr> {
    match data_type {
        DataType::Interval { .. } => {
            spell_out(inner);
            None
        }
        DataType::Timestamp(..) => {
            if let Some(whole) = text_of(inner).and_then(timestamp_spelled_out) {
                *inner = Expr::Value(Value::SingleQuotedString(whole).into());
            }
            None
        }
        DataType::Bytea => {
            let Some(text) = text_of(inner) else {
                let known = matches!(inner, Expr::Value(_) | Expr::Array(_));
                return (!known).then(|| call("bytea", take(inner)));
            };
            Some(match params::bytea(text) {
                Some(bytes) => {
                    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    Expr::Value(Value::HexStringLiteral(hex).into())
                }
                // It says what is wrong with the text.
                None => call("byteain", take(inner)),
            })
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => {
            let Some(words) = params::array_words(text_of(inner)?) else {
                *inner = call("array_in", take(inner));
                return None;
            };
            let elem = words.into_iter().map(|word| element(word, item)).collect();
            *inner = Expr::Array(ast::Array { elem, named: true });
            None
        }
        DataType::Uuid => Some(call("uuid_in", take(inner))),
        DataType::JSON | DataType::JSONB => Some(call("json_in", take(inner))),
        _ => None,
    }
}

/// Arrays of uuid and json are planned as arrays of text; and the text of a uuid or of json is no longer one.
pub(super) fn as_texts(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) if matches!(**item, DataType::JSON | DataType::JSONB) => {
            **item = DataType::Text;
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) if **item == DataType::Uuid => {
            **item = DataType::Text;
            *expr = call("uuid_array", take(expr));
        }
        DataType::Text if matches!(inner.as_ref(), Expr::Function(made) if ["uuid_in", "json_in"].contains(&made.name.to_string().as_str())) =>
        {
            *expr = call("plain_text", take(inner));
        }
        _ => {}
    }
}

/// An element of an array that was written as a text.
fn element(word: Option<String>, item: &DataType) -> Expr {
    let Some(word) = word else { return Expr::Value(Value::Null.into()) };
    let text = Expr::Value(Value::SingleQuotedString(word).into());
    let data_type = item.clone();
    let mut cast = Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(text), data_type, array: false, format: None };
    rewrite(&mut cast);
    cast
}

/// A literal text.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            Value::DollarQuotedString(text) => Some(&text.value),
            _ => None,
        },
        _ => None,
    }
}

fn spell_out(expr: &mut Expr) {
    if let Some(text) = text_of(expr).and_then(spelled_out) {
        *expr = Expr::Value(Value::SingleQuotedString(text).into());
    }
}

/// The planner finds no common type of bytes and a bare NULL.
fn type_nulls(array: &mut ast::Array) {
    let is_bytea = |expr: &Expr| match expr {
        Expr::Value(value) => matches!(value.value, Value::HexStringLiteral(_)),
        Expr::Cast { data_type, .. } => *data_type == DataType::Bytea,
        Expr::Function(function) => function.name.to_string() == "byteain",
        _ => false,
    };
    if array.elem.iter().any(is_bytea) {
        for elem in &mut array.elem {
            if matches!(elem, Expr::Value(value) if matches!(value.value, Value::Null)) {
                *elem = super::nothing::null(DataType::Bytea);
            }
        }
    }
}

/// `VALUES ('…'::uuid), (NULL)`: the planner wants one type of the values of a column, and a constant has that of the others.
pub(super) fn type_columns(values: &mut ast::Values) {
    for column in 0..values.rows.first().map_or(0, |row| row.content.len()) {
        let read = |expr: &Expr| match expr {
            Expr::Function(made) => ["uuid_in", "json_in"].into_iter().find(|name| made.name.to_string() == *name),
            _ => None,
        };
        let Some(name) = values.rows.iter().find_map(|row| row.content.get(column).and_then(read)) else { continue };
        for expr in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
            if matches!(expr, Expr::Value(value) if !matches!(value.value, Value::Placeholder(_))) {
                *expr = call(name, take(expr));
            }
        }
    }
}

/// PostgreSQL counts microseconds, from 4713 BC to the year 294276; nanoseconds end in 2262. Its `float` is double precision,
/// unless 24 bits are enough.
pub(super) fn as_in_postgresql(data_type: &mut DataType) {
    match data_type {
        DataType::Timestamp(precision @ None, _) => *precision = Some(6),
        DataType::Float(ExactNumberInfo::Precision(..=24)) => *data_type = DataType::Real,
        DataType::Float(_) => *data_type = DataType::DoublePrecision,
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => as_in_postgresql(item),
        _ => {}
    }
}

/// The planner knows the backslash alone: PostgreSQL too makes other escapes into it.
fn escape(pattern: &mut Expr, escape_char: &mut Option<ast::ValueWithSpan>) {
    let Some(Value::SingleQuotedString(text)) = escape_char.as_ref().map(|value| &value.value) else { return };
    if text == "\\" {
        return;
    }
    let text = Expr::Value(Value::SingleQuotedString(text.clone()).into());
    *pattern = call2("like_escape", take(pattern), text);
    *escape_char = None;
}

/// `generate_series(1, 9) AS n` has one column, `n`. The planner calls it `value`, and goes on to find it by that name.
pub(super) fn name_series(statement: &mut Statement) {
    let mut relations = Relations::default();
    let _ = ast::Visit::visit(statement, &mut relations);
    let count = relations.aliases.values().sum::<usize>() + relations.without;
    let mut series = relations.series;
    series.retain(|name| relations.aliases.get(name) == Some(&1));
    if !series.is_empty() {
        let _ = statement.visit(&mut Rename { alone: count == 1, series });
    }
}

/// The relations of a statement by their aliases.
#[derive(Default)]
struct Relations {
    aliases: HashMap<String, usize>,
    without: usize,
    series: Vec<String>,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let Some(alias) = series(factor) {
            self.series.push(alias.name.value.clone());
        }
        let alias = match factor {
            TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } | TableFactor::UNNEST { alias, .. } => alias.as_ref(),
            _ => None,
        };
        match alias {
            Some(alias) => *self.aliases.entry(alias.name.value.clone()).or_default() += 1,
            None => self.without += 1,
        }
        ControlFlow::Continue(())
    }
}

/// The alias of a series without names for its columns.
fn series(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { name, args: Some(_), alias: Some(alias), .. }
            if alias.columns.is_empty()
                && name
                    .0
                    .last()
                    .and_then(ObjectNamePart::as_ident)
                    .is_some_and(|name| name.value.eq_ignore_ascii_case("generate_series")) =>
        {
            Some(alias)
        }
        _ => None,
    }
}

struct Rename {
    series: Vec<String>,
    /// Whether the statement reads nothing else, so that a bare `value` can only be the series.
    alone: bool,
}

impl Rename {
    /// The planner's name of a series's column, as PostgreSQL names it.
    fn column(&self, expr: &Expr) -> Option<Expr> {
        let is_value = |ident: &Ident| ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("value");
        match expr {
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [relation, column] if is_value(column) && self.series.contains(&relation.value) => {
                    Some(Expr::CompoundIdentifier(vec![relation.clone(), relation.clone()]))
                }
                _ => None,
            },
            Expr::Identifier(column) if self.alone && is_value(column) => {
                self.series.first().map(|name| Expr::Identifier(Ident::with_quote('"', name.clone())))
            }
            _ => None,
        }
    }
}

impl VisitorMut for Rename {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let named = series(factor).is_some_and(|alias| self.series.contains(&alias.name.value));
        if let TableFactor::Table { alias: Some(alias), .. } = factor
            && named
        {
            alias.columns.push(TableAliasColumnDef::from_name(alias.name.value.clone()));
            if let Some(column) = alias.columns.last_mut() {
                column.name = alias.name.clone();
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Some(expr) = self.column(expr)
            {
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::new("value") };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(column) = self.column(expr) {
            *expr = column;
        }
        ControlFlow::Continue(())
    }
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
    fn values_are_read_as_postgres_reads_them() {
        check(r"SELECT '\x00FF'::bytea, b::bytea, $1::bytea", "SELECT X'00ff', bytea(b), $1::BYTEA");
        check("SELECT '1 day 02:00:00'::interval", "SELECT '1 day 02 hours 00 minutes 00 seconds'::INTERVAL");
        check("SELECT '{1,NULL}'::int[]", "SELECT ARRAY[CAST('1' AS INT), NULL]::INT[]");
        check(r"SELECT ARRAY['\x00'::bytea, NULL]", "SELECT ARRAY[X'00', CAST(NULL AS BYTEA)]");
        check("SELECT 'x'::uuid, $1::jsonb", "SELECT uuid_in('x'), json_in($1)");
        check("SELECT $1::uuid[]", "SELECT uuid_array($1::TEXT[])");
        check("VALUES (1, 'x'::uuid), (2, NULL), (3, $1)", "VALUES (1, uuid_in('x')), (2, uuid_in(NULL)), (3, $1)");
        check("SELECT a::timestamp, TIMESTAMP '9999-12-31'", "SELECT a::TIMESTAMP(6), TIMESTAMP(6) '9999-12-31'");
    }

    #[test]
    fn escapes_become_backslashes() {
        check("SELECT a NOT LIKE 'pg/_' || '%' ESCAPE '/'", "SELECT a NOT LIKE like_escape('pg/_' || '%', '/')");
        check(r"SELECT a LIKE 'x' ESCAPE '\'", r"SELECT a LIKE 'x' ESCAPE '\'");
    }

    #[test]
    fn the_column_of_a_series_has_its_alias() {
        check("SELECT n FROM generate_series(1, 9) AS n", "SELECT n FROM generate_series(1, 9) AS n (n)");
        check("SELECT n.value, n.value + 1 FROM generate_series(1, 9) n", "SELECT n.n AS value, n.n + 1 FROM generate_series(1, 9) n (n)");
        check("SELECT value FROM generate_series(1, 9) AS n", "SELECT \"n\" AS value FROM generate_series(1, 9) AS n (n)");
        for same in [
            "SELECT x FROM generate_series(1, 9) AS n (x)",
            "SELECT value FROM generate_series(1, 9)",
            "SELECT n.value FROM (SELECT 1 FROM generate_series(1, 9) AS n) AS n",
        ] {
            check(same, same);
        }
    }
}
