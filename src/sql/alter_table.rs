//! `ALTER TABLE [IF EXISTS] name SET (retention = '400 days')` and `ALTER TABLE name RESET (retention)`: how long a table of events
//! keeps them.
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
use super::support::{end, if_exists, name, relation_name, words};
use super::{Call, Outcome, parser};

/// A change of a table's parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AlterTable {
    table: ObjectName,
    if_exists: bool,
    /// In microseconds; `None` = RESET.
    retention_us: Option<i64>,
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
        Ok(Some(Self { table, if_exists, retention_us: given.flatten() }))
    }

    pub(super) fn tag(&self) -> &'static str {
        "ALTER TABLE"
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let table = relation_name(&self.table)?;
        let (catalog, caller) = (Arc::clone(call.running.engine().catalog()), call.session.user().to_owned());
        let (own, retention_us) = (table.clone(), self.retention_us);
        match call.running.run(async move { catalog.set_retention(&own, retention_us, &caller).await }).await {
            Err(error) if error.code == Code::UndefinedTable && self.if_exists => {
                call.running.notice(&format!("relation \"{table}\" does not exist, skipping"));
            }
            Ok(Some(cutoff_us)) => call.running.notice(&format!(
                "events of table \"{table}\" before {} are in no answer any more; apply_retention('{table}') removes them",
                chrono::DateTime::from_timestamp_micros(cutoff_us)
                    .map_or_else(|| "now".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
            )),
            done => drop(done?),
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }
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
        match self.retention_us {
            Some(us) => write!(f, "SET ({RETENTION} = '{}')", duration_text(us)),
            None => write!(f, "RESET ({RETENTION})"),
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
