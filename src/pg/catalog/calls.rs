//! Calls that PostgreSQL writes in words which the planner does not read: `AT TIME ZONE`, `localtimestamp`, `every`, names in
//! capitals, aggregates `WITHIN GROUP`, and ranks, which are whole numbers with a sign there.

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, TableAliasColumnDef, TableFactor, TimezoneInfo,
};

use super::rewrite::{call, call2, function, take};
use crate::pg::compat::{MODE, PERCENTILE};

/// Decimals that a division of literals keeps at least.
const DIVIDED_SCALE: i64 = 10;

/// Rewrites one expression whose parts are rewritten already.
pub(super) fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::AtTimeZone { timestamp, time_zone } => *expr = call2("timezone", take(time_zone), take(timestamp)),
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            if let Some(now) = clock(&ident.value) {
                *expr = now;
            }
        }
        Expr::Function(function) => {
            if let Some(replacement) = of_call(function) {
                *expr = replacement;
            }
        }
        Expr::Substring { .. } => rewrite_substring(expr),
        Expr::BinaryOp { op: BinaryOperator::Divide, left, right } => {
            widen(left);
            widen(right);
        }
        _ => {}
    }
}

/// What is selected under the name of a call that becomes something else.
pub(super) fn rewrite_selected(expr: &mut Expr) {
    rewrite_substring(expr);
    if let Expr::Function(function) = &*expr
        && function.name.to_string().eq_ignore_ascii_case("date")
        && let Some(Ok([time])) = arguments(function).map(<[Expr; 1]>::try_from)
    {
        *expr = cast(time, DataType::Date);
    }
}

/// `substring(text FROM 'pattern')`: what the pattern's first group matches, or all of it.
fn rewrite_substring(expr: &mut Expr) {
    if let Expr::Substring { expr: text, substring_from: Some(pattern), substring_for: None, .. } = expr
        && matches!(pattern.as_ref(), Expr::Value(value) if matches!(value.value, ast::Value::SingleQuotedString(_)))
    {
        let matched = call2("regexp_match", take(text), take(pattern));
        *expr = call2("array_element", matched, Expr::Value(ast::Value::Number("1".into(), false).into()));
    }
}

/// `FETCH FIRST 9 ROWS ONLY` is `LIMIT 9`.
pub(super) fn rewrite_query(query: &mut ast::Query) {
    let Some(ast::Fetch { with_ties: false, percent: false, quantity }) = &query.fetch else { return };
    let count = quantity.clone().unwrap_or_else(|| Expr::Value(ast::Value::Number("1".into(), false).into()));
    match &mut query.limit_clause {
        Some(ast::LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(count),
        clause @ None => *clause = Some(ast::LimitClause::LimitOffset { limit: Some(count), offset: None, limit_by: Vec::new() }),
        Some(_) => return,
    }
    query.fetch = None;
}

/// A table function's name in lower case, and the column of `unnest(…) AS n`.
pub(super) fn rewrite_factor(factor: &mut TableFactor) {
    match factor {
        TableFactor::Table { name, args: Some(arguments), .. } => {
            if let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut()
                && ident.quote_style.is_none()
            {
                ident.value = ident.value.to_lowercase();
                if ident.value == "generate_series" {
                    arguments.args.iter_mut().for_each(in_nanoseconds);
                }
            }
        }
        TableFactor::UNNEST { alias: Some(alias), array_exprs, with_offset: false, with_ordinality: false, .. }
            if alias.columns.is_empty() && array_exprs.len() == 1 =>
        {
            let mut column = TableAliasColumnDef::from_name(alias.name.value.clone());
            column.name = alias.name.clone();
            alias.columns.push(column);
        }
        _ => {}
    }
}

/// The planner makes series of times in nanoseconds alone.
fn in_nanoseconds(argument: &mut FunctionArg) {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return };
    let mut expr = expr;
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    let data_type = match expr {
        Expr::TypedString(typed) => &mut typed.data_type,
        Expr::Cast { data_type, .. } => data_type,
        _ => return,
    };
    if let DataType::Timestamp(precision @ None, _) = data_type {
        *precision = Some(9);
    }
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// `localtimestamp` and `localtime`.
fn clock(name: &str) -> Option<Expr> {
    let now = || cast(function("now", Vec::new()), DataType::Timestamp(Some(6), TimezoneInfo::None));
    match name {
        name if name.eq_ignore_ascii_case("localtimestamp") => Some(now()),
        name if name.eq_ignore_ascii_case("localtime") => Some(cast(now(), DataType::Time(None, TimezoneInfo::None))),
        _ => None,
    }
}

fn of_call(function: &mut Function) -> Option<Expr> {
    let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return None };
    if ident.quote_style.is_some() {
        return None;
    }
    let name = ident.value.to_ascii_lowercase();
    match name.as_str() {
        "localtimestamp" | "localtime" if matches!(function.args, FunctionArguments::None) => clock(&name),
        "every" => {
            function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("bool_and"))]);
            None
        }
        "row_number" | "rank" | "dense_rank" if function.over.is_some() => Some(whole(function, DataType::BigInt(None))),
        "ntile" if function.over.is_some() => Some(whole(function, DataType::Integer(None))),
        "date_trunc" => truncated(function),
        "age" => age(function),
        "date" => <[Expr; 1]>::try_from(arguments(function)?).ok().map(|[time]| cast(time, DataType::Date)),
        "percentile_disc" | "mode" if !function.within_group.is_empty() && function.over.is_none() => gathered(function, &name),
        _ => None,
    }
}

fn whole(function: &Function, data_type: DataType) -> Expr {
    cast(Expr::Function(function.clone()), data_type)
}

/// The plain arguments of a call.
fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// `date_trunc(unit, time, zone)`: by the clocks of that zone.
fn truncated(function: &Function) -> Option<Expr> {
    let [unit, time, zone] = <[Expr; 3]>::try_from(arguments(function)?).ok()?;
    let instant = cast(time, DataType::Timestamp(Some(6), TimezoneInfo::Tz));
    let shown = call2("timezone", zone.clone(), instant);
    Some(call2("timezone", zone, call2("date_trunc", unit, shown)))
}

/// `age(time)`: until the midnight that began today.
fn age(function: &Function) -> Option<Expr> {
    let [time] = <[Expr; 1]>::try_from(arguments(function)?).ok()?;
    let today = cast(self::function("current_date", Vec::new()), DataType::Timestamp(Some(6), TimezoneInfo::None));
    Some(call2("age", today, time))
}

/// `mode() WITHIN GROUP (ORDER BY x)` picks from the list of all values in that order.
fn gathered(function: &mut Function, name: &str) -> Option<Expr> {
    let fraction = arguments(function)?.pop();
    let [order] = function.within_group.as_slice() else { return None };
    let present = Expr::IsNotNull(Box::new(order.expr.clone()));
    let filter = match function.filter.take() {
        Some(filter) => Expr::BinaryOp { left: Box::new(Expr::Nested(filter)), op: BinaryOperator::And, right: Box::new(present) },
        None => present,
    };
    let mut list = call("array_agg", order.expr.clone());
    if let Expr::Function(gather) = &mut list {
        gather.filter = Some(Box::new(filter));
        if let FunctionArguments::List(list) = &mut gather.args {
            list.clauses.push(FunctionArgumentClause::OrderBy(vec![order.clone()]));
        }
    }
    match (name, fraction) {
        ("percentile_disc", Some(fraction)) => Some(call2(PERCENTILE, list, fraction)),
        ("mode", None) => Some(call(MODE, list)),
        _ => None,
    }
}

/// A quotient has few more decimals than what is divided: a literal gets as many as any number.
fn widen(operand: &mut Expr) {
    match operand {
        Expr::Nested(inner) => widen(inner),
        Expr::Cast { expr, data_type: DataType::Numeric(ExactNumberInfo::PrecisionAndScale(38, scale)), .. }
            if matches!(expr.as_ref(), Expr::Value(_)) =>
        {
            *scale = (*scale).max(DIVIDED_SCALE);
        }
        _ => {}
    }
}

/// A literal cast to `numeric` keeps each of its digits; one without a precision has as many decimals as are written.
pub(super) fn numeric(inner: &mut Expr, data_type: &mut DataType) {
    let (DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info)) = &*data_type else { return };
    let Some(text) = digits(inner) else { return };
    let scale = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let info = match info {
        ExactNumberInfo::None => ExactNumberInfo::PrecisionAndScale(38, scale as i64),
        info => *info,
    };
    *data_type = DataType::Numeric(info);
    *inner = Expr::Value(ast::Value::SingleQuotedString(text).into());
}

/// A number written in at most 38 digits, as a text.
fn digits(expr: &Expr) -> Option<String> {
    let text = match expr {
        Expr::Nested(inner) => return digits(inner),
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            return digits(expr).filter(|text| !text.starts_with('-')).map(|text| format!("-{text}"));
        }
        Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) | ast::Value::SingleQuotedString(text) => text.trim(),
            _ => return None,
        },
        _ => return None,
    };
    let bare = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = bare.split_once('.').unwrap_or((bare, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let count = whole.trim_start_matches('0').len() + decimals.len();
    (plain(whole) && plain(decimals) && !whole.is_empty() && count <= 38).then(|| text.to_owned())
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
    fn calls_are_put_in_other_words() {
        check("SELECT a AT TIME ZONE 'UTC'", "SELECT timezone('UTC', a)");
        check("SELECT rank() OVER (), rank(a)", "SELECT CAST(rank() OVER () AS BIGINT), rank(a)");
        check(
            "SELECT mode() WITHIN GROUP (ORDER BY a) FILTER (WHERE b)",
            "SELECT list_mode(array_agg(a ORDER BY a) FILTER (WHERE (b) AND a IS NOT NULL))",
        );
        check("SELECT EVERY(a), date_trunc('day', a)", "SELECT bool_and(a), date_trunc('day', a)");
    }

    #[test]
    fn fetch_is_limit() {
        check("SELECT a FROM b FETCH NEXT 5 ROWS ONLY", "SELECT a FROM b LIMIT 5");
        check("SELECT a FROM b OFFSET 2 ROWS FETCH FIRST ROW ONLY", "SELECT a FROM b LIMIT 1 OFFSET 2 ROWS");
    }

    #[test]
    fn factors() {
        check("SELECT n FROM GENERATE_SERIES(1, 3) AS n", "SELECT n FROM generate_series(1, 3) AS n (n)");
        check("SELECT n FROM UNNEST(ARRAY[1]) AS n", "SELECT n FROM UNNEST(ARRAY[1]) AS n (n)");
    }

    #[test]
    fn literals_keep_their_digits() {
        check(
            "SELECT 12345678901234567890.123::numeric(30,3), 1.5::numeric, '1.10'::numeric, -2::numeric",
            "SELECT '12345678901234567890.123'::NUMERIC(30,3), '1.5'::NUMERIC(38,1), '1.10'::NUMERIC(38,2), -'2'::NUMERIC(38,0)",
        );
        check("SELECT 1::numeric / 3, a::numeric", "SELECT '1'::NUMERIC(38,10) / 3, a::NUMERIC");
    }
}
