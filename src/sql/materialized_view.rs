//! `CREATE MATERIALIZED VIEW [IF NOT EXISTS] name [(columns)] [WITH (refresh = …)] AS query [WITH [NO] DATA]`,
//! `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH [NO] DATA]`, `ALTER MATERIALIZED VIEW name {SET (refresh = …) | RESET
//! (refresh)}`, `DROP MATERIALIZED VIEW [IF EXISTS] name [, …]`.
//!
//! A view keeps its query's rows; readers see those of the newest refresh while the next one runs, so CONCURRENTLY is what a
//! refresh always is. `refresh` is `manual`, `after ingest`, or a time between two refreshes such as `15 minutes`.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{self, CreateTableOptions, Expr, ObjectName, SqlOption, Value};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::create_table::stored;
use super::create_view::aliased;
use super::support::{end, fold, relation_name, words};
use super::target::{kept, refuse_temporary};
use super::{Call, Outcome, guard, parser, plan};
use crate::catalog::{ObjectKind, RefreshPolicy};

/// The one option.
const REFRESH: &str = "refresh";
/// The longest and the shortest time between two refreshes, in seconds.
const EVERY: std::ops::RangeInclusive<u64> = 1..=366 * 86_400;

/// One of the statements but DROP, which is [`super::drop`]'s.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MaterializedView {
    Create(Box<Create>),
    Refresh { name: ObjectName, populate: bool },
    Alter { name: ObjectName, policy: RefreshPolicy },
}

/// A view to make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Create {
    view: ast::CreateView,
    populate: bool,
    policy: RefreshPolicy,
}

impl MaterializedView {
    /// Takes a CREATE MATERIALIZED VIEW that was read up to the end of its query.
    ///
    /// # Errors
    /// 22023 for an option that does not exist, 0A000 for what PostgreSQL has not either.
    pub(super) fn create(view: ast::CreateView, parser: &mut Parser<'_>) -> Result<Self> {
        if view.or_replace {
            return Err(
                Error::new(Code::Syntax, "CREATE OR REPLACE MATERIALIZED VIEW is not supported").hint("Use DROP MATERIALIZED VIEW first.")
            );
        }
        if view.temporary || view.to.is_some() {
            return Err(Error::new(Code::FeatureNotSupported, "this form of CREATE MATERIALIZED VIEW is not supported"));
        }
        let policy = match &view.options {
            CreateTableOptions::None => RefreshPolicy::Manual,
            CreateTableOptions::With(options) => options_of(options)?,
            _ => return Err(Error::new(Code::FeatureNotSupported, "these options are not supported").hint(valid())),
        };
        let populate = with_data(parser);
        Ok(Self::Create(Box::new(Create { view, populate, policy })))
    }

    /// Reads what follows `REFRESH` or `ALTER`; `None` when it is not about a materialized view.
    pub(super) fn parse(parser: &mut Parser<'_>, verb: &str, text: &str) -> Result<Option<Self>> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        if !matches!(verb, "REFRESH" | "ALTER") || !words(parser, &["MATERIALIZED", "VIEW"]) {
            return Ok(None);
        }
        if verb == "REFRESH" {
            let _ = words(parser, &["CONCURRENTLY"]);
            let name = parser.parse_object_name(false).map_err(syntax)?;
            let populate = with_data(parser);
            end(parser).map_err(syntax)?;
            return Ok(Some(Self::Refresh { name, populate }));
        }
        let name = parser.parse_object_name(false).map_err(syntax)?;
        let policy = if words(parser, &["SET"]) {
            parser.expect_token(&Token::LParen).map_err(syntax)?;
            let options = parser.parse_comma_separated(Parser::parse_sql_option).map_err(syntax)?;
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            options_of(&options)?
        } else if words(parser, &["RESET"]) {
            parser.expect_token(&Token::LParen).map_err(syntax)?;
            let option = parser.parse_identifier().map_err(syntax)?;
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            known(&fold(&option))?;
            RefreshPolicy::Manual
        } else {
            return Err(Error::new(Code::FeatureNotSupported, "ALTER MATERIALIZED VIEW changes the option \"refresh\" only")
                .hint("Write ALTER MATERIALIZED VIEW name SET (refresh = '15 minutes')."));
        };
        end(parser).map_err(syntax)?;
        Ok(Some(Self::Alter { name, policy }))
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Create(_) => "CREATE MATERIALIZED VIEW",
            Self::Refresh { .. } => "REFRESH MATERIALIZED VIEW",
            Self::Alter { .. } => "ALTER MATERIALIZED VIEW",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let tag = match self {
            Self::Create(create) => create.run(&call).await?,
            Self::Refresh { name, populate } => {
                let name = call.kept_name(name)?;
                call.must_own(&name)?;
                refresh(&call, &name, *populate).await?;
                self.tag().to_owned()
            }
            Self::Alter { name, policy } => {
                let (catalog, name, policy) = (Arc::clone(call.running.engine().catalog()), relation_name(name)?, *policy);
                call.must_own(&name)?;
                call.running.run(async move { catalog.set_refresh_policy(&name, policy).await }).await?;
                self.tag().to_owned()
            }
        };
        call.after_write();
        Ok(Outcome::done(tag))
    }
}

impl Create {
    async fn run(&self, call: &Call<'_>) -> Result<String> {
        call.may_create()?;
        let name = kept(&call.running, &self.view.name)?;
        let engine = Arc::clone(call.running.engine());
        if let Some(found) = engine.catalog().describe(&name) {
            if !self.view.if_not_exists {
                return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists")));
            }
            if found.kind != ObjectKind::MaterializedView {
                call.running.notice(&format!("relation \"{name}\" already exists, and is a {}; skipping", found.kind.words()));
            } else {
                call.running.notice(&format!("relation \"{name}\" already exists, skipping"));
            }
            return Ok("CREATE MATERIALIZED VIEW".to_owned());
        }
        let query = self.query(call).await?;
        let (state, owner, policy, populate) =
            (Arc::clone(call.running.state()), call.session.user().to_owned(), self.policy, self.populate);
        let shown = name.clone();
        let (rows, reason) =
            call.running.run(async move { engine.create_materialized(&state, (&name, &owner), (&query, policy), populate).await }).await?;
        if let Some(reason) = reason {
            call.running.notice(&format!("each refresh of \"{shown}\" will run the whole query: {reason}"));
        }
        Ok(if populate { format!("SELECT {rows}") } else { "CREATE MATERIALIZED VIEW".to_owned() })
    }

    /// Checks the query where positions of errors are known; its text.
    async fn query(&self, call: &Call<'_>) -> Result<String> {
        let mut whole = ast::Statement::CreateView(self.view.clone());
        plan::prepare_statement(&mut whole)?;
        let ast::Statement::CreateView(ast::CreateView { query: prepared, .. }) = whole else {
            return Err(Error::internal("a CREATE MATERIALIZED VIEW lost its query"));
        };
        let query = aliased(&self.view, call.statement.text())?;
        let planned = plan::plan(&call.running, ast::Statement::Query(prepared), call.statement.text(), &[]).await?;
        if !planned.parameter_types.is_empty() {
            return Err(
                Error::new(Code::UndefinedParameter, "there is no parameter $1").detail("A materialized view cannot have parameters.")
            );
        }
        guard::check(&planned.plan)?;
        refuse_temporary(&planned.plan, "materialized views")?;
        let columns = planned.schema();
        if self.view.columns.len() > columns.fields().len() {
            return Err(Error::new(Code::Syntax, "CREATE MATERIALIZED VIEW specifies more column names than columns"));
        }
        if self.view.columns.is_empty() {
            stored(&columns)?;
        }
        Ok(query)
    }
}

async fn refresh(call: &Call<'_>, name: &str, populate: bool) -> Result<()> {
    let engine = Arc::clone(call.running.engine());
    if !populate {
        let name = name.to_owned();
        return call.running.run(async move { engine.catalog().unpopulate(&engine.catalog().materialized(&name)?).await }).await;
    }
    let (state, own) = (Arc::clone(call.running.state()), name.to_owned());
    let done = call.running.run(async move { engine.refresh_materialized(&state, &own).await }).await?;
    let rows = done.rows;
    call.running.notice(&match (done.changed, done.users, done.reason) {
        (false, ..) => format!("materialized view \"{name}\" is fresh: nothing that it reads has changed"),
        (true, Some(users), _) => {
            format!("materialized view \"{name}\": the rows of {users} users with new events are new; it has {rows} rows")
        }
        (true, None, Some(reason)) => format!("materialized view \"{name}\": the whole query ran, because {reason}; it has {rows} rows"),
        (true, None, None) => format!("materialized view \"{name}\" has {rows} rows"),
    });
    Ok(())
}

/// Refreshes the views that follow `table` at each ingest. One that cannot be refreshed is a message: the rows are kept already.
pub(super) async fn follow_ingest(running: &crate::engine::Running, table: &str) -> Result<()> {
    let (engine, state, own, table) = (Arc::clone(running.engine()), Arc::clone(running.state()), running.clone(), table.to_owned());
    running
        .run(async move {
            let tell = |view: &str, error: &Error| {
                own.notice(&format!("the rows are kept, but materialized view \"{view}\" could not be refreshed: {}", error.message));
            };
            engine.refresh_followers(&state, &table, &tell).await;
            Ok(())
        })
        .await
}

/// `WITH DATA`, `WITH NO DATA` or nothing: whether there are to be rows.
fn with_data(parser: &mut Parser<'_>) -> bool {
    let none = words(parser, &["WITH", "NO", "DATA"]);
    let _ = words(parser, &["WITH", "DATA"]);
    !none
}

fn valid() -> String {
    "Valid parameters are: refresh ('manual', 'after ingest', or a time such as '15 minutes').".to_owned()
}

fn known(name: &str) -> Result<()> {
    if name == REFRESH { Ok(()) } else { Err(Error::invalid(format!("unrecognized parameter \"{name}\"")).hint(valid())) }
}

fn options_of(options: &[SqlOption]) -> Result<RefreshPolicy> {
    let mut found = None;
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::invalid(format!("unrecognized parameter \"{option}\"")).hint(valid()));
        };
        known(&fold(key))?;
        let text = match value {
            Expr::Identifier(word) => fold(word),
            Expr::Value(found) => match &found.value {
                Value::SingleQuotedString(text) => text.clone(),
                other => other.to_string(),
            },
            other => other.to_string(),
        };
        if found.replace(policy(&text)?).is_some() {
            return Err(Error::new(Code::Syntax, format!("parameter \"{REFRESH}\" specified more than once")));
        }
    }
    Ok(found.unwrap_or_default())
}

fn policy(text: &str) -> Result<RefreshPolicy> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["manual"] => return Ok(RefreshPolicy::Manual),
        ["after", "ingest"] => return Ok(RefreshPolicy::AfterIngest),
        _ => {}
    }
    let wrong = || Error::invalid(format!("invalid value for parameter \"{REFRESH}\": \"{text}\"")).hint(valid());
    let (number, unit) = match words.as_slice() {
        [number, unit] => (number.clone(), unit.clone()),
        [both] => {
            let (number, unit) = both.split_at(both.find(|c: char| !c.is_ascii_digit()).unwrap_or(both.len()));
            (number.to_owned(), unit.to_owned())
        }
        _ => return Err(wrong()),
    };
    let unit = match unit.as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|seconds| EVERY.contains(seconds));
    seconds.map(RefreshPolicy::Every).ok_or_else(|| wrong().detail("A time between two refreshes is from one second to 366 days."))
}

impl fmt::Display for MaterializedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(create) => {
                let no_data = if create.populate { "" } else { " WITH NO DATA" };
                write!(f, "{}{no_data}", create.view)
            }
            Self::Refresh { name, populate } => {
                write!(f, "REFRESH MATERIALIZED VIEW {name}{}", if *populate { "" } else { " WITH NO DATA" })
            }
            Self::Alter { name, policy } => write!(f, "ALTER MATERIALIZED VIEW {name} SET (refresh = '{policy}')"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_refreshes() {
        for (text, shown) in [
            ("manual", "manual"),
            ("After  Ingest", "after ingest"),
            ("15 minutes", "15 minutes"),
            ("90s", "90 seconds"),
            ("3600 seconds", "1 hour"),
            ("1 day", "1 day"),
        ] {
            assert_eq!(policy(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "sometimes", "0 seconds", "-5 minutes", "5 fortnights", "99999999999999999999 days", "400 days", "5", "1 2 3"] {
            assert_eq!(policy(text).unwrap_err().code, Code::InvalidParameter, "{text}");
        }
    }
}
