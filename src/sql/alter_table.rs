//! `ALTER TABLE [IF EXISTS] name …`: `SET (retention = '400 days')` and `RESET (retention)`, how long a table of events keeps them;
//! `{ENABLE | DISABLE | FORCE | NO FORCE} ROW LEVEL SECURITY`, whether its policies are asked; `OWNER TO role`.
//!
//! Events that are too old are in no answer as soon as the statement returns; `apply_retention` takes their bytes out of the
//! files. Other parameters of a table do not change.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::relation::duration_text;

use super::event_options::{RETENTION, is_known, retention, specified_twice, unrecognized};
use super::grant::Grantee;
use super::support::{end, if_exists, name, words};
use super::{Call, Outcome, parser};
use crate::catalog::ObjectKind;

/// A change of a table's parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AlterTable {
    table: ObjectName,
    if_exists: bool,
    change: Change,
}

#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// In microseconds; `None` = RESET.
    Retention(Option<i64>),
    /// (enabled, forced); `None` leaves a thing as it is.
    RowSecurity(Option<bool>, Option<bool>),
    Owner(Grantee),
}

impl AlterTable {
    /// Reads what follows `ALTER`; `None` when it changes something else.
    pub(super) fn parse(parser: &mut Parser<'_>, text: &str) -> Result<Option<Self>> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        if !words(parser, &["TABLE"]) {
            return Ok(None);
        }
        let if_exists = if_exists(parser);
        let Ok(table) = parser.parse_object_name(false) else { return Ok(None) };
        if let Some(change) = Change::of_access(parser).map_err(syntax)? {
            end(parser).map_err(syntax)?;
            return Ok(Some(Self { table, if_exists, change }));
        }
        let set = words(parser, &["SET"]);
        if !(set || words(parser, &["RESET"])) || !parser.consume_token(&Token::LParen) {
            return Ok(None);
        }
        let mut given: Option<Option<i64>> = None;
        loop {
            let parameter = name(parser).map_err(syntax)?;
            check(&parameter)?;
            let value = match set {
                true => {
                    parser.expect_token(&Token::Eq).map_err(syntax)?;
                    Some(retention(&parser.parse_expr().map_err(syntax)?)?)
                }
                false => None,
            };
            if given.replace(value).is_some() {
                return Err(specified_twice(&parameter));
            }
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        end(parser).map_err(syntax)?;
        Ok(Some(Self { table, if_exists, change: Change::Retention(given.flatten()) }))
    }

    pub(super) fn tag(&self) -> &'static str {
        "ALTER TABLE"
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let table = call.kept_name(&self.table)?;
        let (catalog, caller) = (Arc::clone(call.running.engine().catalog()), call.session.user());
        if self.if_exists && catalog.describe(&table).is_none() {
            call.running.notice(&format!("relation \"{table}\" does not exist, skipping"));
            return Ok(Outcome::done(self.tag()));
        }
        match &self.change {
            Change::Retention(retention_us) => retain(&call, table, *retention_us).await?,
            Change::RowSecurity(enabled, forced) => {
                if let Some(info) = catalog.describe(&table)
                    && info.kind == ObjectKind::View
                {
                    return Err(info.kind.wrong(&table, ObjectKind::Table));
                }
                catalog.set_row_security(&caller, &table, *enabled, *forced).await?;
            }
            Change::Owner(owner) => {
                let owner = owner.role(&call).ok_or_else(|| Error::new(Code::InvalidGrant, "PUBLIC cannot own a table"))?;
                catalog.change_owner(&caller, &table, &owner).await?;
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }
}

impl Change {
    /// Reads what is about access; `None` when it is about something else.
    fn of_access(parser: &mut Parser<'_>) -> Result<Option<Self>, ParserError> {
        let security = |parser: &mut Parser<'_>, first: &[&str]| {
            let all: Vec<&str> = first.iter().copied().chain(["ROW", "LEVEL", "SECURITY"]).collect();
            words(parser, &all)
        };
        Ok(Some(if security(parser, &["ENABLE"]) {
            Self::RowSecurity(Some(true), None)
        } else if security(parser, &["DISABLE"]) {
            Self::RowSecurity(Some(false), None)
        } else if security(parser, &["FORCE"]) {
            Self::RowSecurity(None, Some(true))
        } else if security(parser, &["NO", "FORCE"]) {
            Self::RowSecurity(None, Some(false))
        } else if words(parser, &["OWNER", "TO"]) {
            Self::Owner(Grantee::parse(parser)?)
        } else {
            return Ok(None);
        }))
    }
}

async fn retain(call: &Call<'_>, table: String, retention_us: Option<i64>) -> Result<()> {
    let (catalog, caller, own) = (Arc::clone(call.running.engine().catalog()), call.session.user(), table.clone());
    let since = call.running.run(async move { catalog.set_retention(&own, retention_us, &caller).await }).await?;
    if let Some(cutoff_us) = since {
        call.running.notice(&format!(
            "events of table \"{table}\" before {} are in no answer any more; apply_retention('{table}') removes them",
            chrono::DateTime::from_timestamp_micros(cutoff_us)
                .map_or_else(|| "now".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
        ));
    }
    Ok(())
}

/// Only one parameter changes.
fn check(parameter: &str) -> Result<()> {
    if parameter == RETENTION {
        return Ok(());
    }
    if is_known(parameter) {
        return Err(Error::new(Code::FeatureNotSupported, format!("parameter \"{parameter}\" cannot be changed"))
            .detail("The table's files are laid out by it.")
            .hint("Make a new table with CREATE TABLE … WITH (…) AS SELECT."));
    }
    Err(unrecognized(parameter))
}

impl fmt::Display for AlterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALTER TABLE {}{} ", if self.if_exists { "IF EXISTS " } else { "" }, self.table)?;
        match &self.change {
            Change::Retention(Some(us)) => write!(f, "SET ({RETENTION} = '{}')", duration_text(*us)),
            Change::Retention(None) => write!(f, "RESET ({RETENTION})"),
            Change::RowSecurity(enabled, forced) => {
                let word = match (enabled, forced) {
                    (Some(true), _) => "ENABLE",
                    (Some(false), _) => "DISABLE",
                    (None, Some(true)) => "FORCE",
                    (None, _) => "NO FORCE",
                };
                write!(f, "{word} ROW LEVEL SECURITY")
            }
            Change::Owner(owner) => write!(f, "OWNER TO {owner}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Result<AlterTable> {
        match parse(text)?.remove(0).command.as_ref() {
            Command::AlterTable(alter) => Ok(alter.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_written_and_read_again() {
        for text in [
            "ALTER TABLE t SET (retention = '400 days')",
            "alter table if exists \"A b\" set (retention = interval '36 hours')",
            "ALTER TABLE public.t RESET (retention)",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE t no force row level security",
            "ALTER TABLE t OWNER TO \"Ann\"",
            "ALTER TABLE t OWNER TO CURRENT_USER",
        ] {
            let found = read(text).unwrap();
            assert_eq!(read(&found.to_string()).unwrap(), found, "{text}");
        }
        for (text, code) in [
            ("ALTER TABLE t SET (retention = '0 days')", Code::InvalidParameter),
            ("ALTER TABLE t SET (retention = '-3 days')", Code::InvalidParameter),
            ("ALTER TABLE t SET (retention = 'soon')", Code::InvalidDatetime),
            ("ALTER TABLE t SET (retention = 400)", Code::InvalidDatetime),
            ("ALTER TABLE t SET (retention = '1 day', retention = '2 days')", Code::Syntax),
            ("ALTER TABLE t SET (user_column = u)", Code::FeatureNotSupported),
            ("ALTER TABLE t SET (retentoin = '1 day')", Code::InvalidParameter),
            ("ALTER TABLE t SET (retention = '1 day'", Code::Syntax),
            ("ALTER TABLE t RENAME TO u", Code::FeatureNotSupported),
        ] {
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
    }
}
