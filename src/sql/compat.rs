//! Statements that clients of PostgreSQL send when they tidy up, and that have nothing to do here: `LISTEN`, `UNLISTEN`. Everything else that PostgreSQL knows and this server does not is refused by name.

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error};

use super::support::{end, words};

/// Reads `LISTEN name`, to which nothing is ever said, or `UNLISTEN *`: the tag, when it is one of them.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Option<&'static str>, ParserError> {
    if words(parser, &["LISTEN"]) {
        parser.parse_identifier()?;
        end(parser)?;
        return Ok(Some("LISTEN"));
    }
    if words(parser, &["UNLISTEN"]) {
        if !parser.consume_token(&Token::Mul) {
            parser.parse_identifier()?;
        }
        end(parser)?;
        return Ok(Some("UNLISTEN"));
    }
    Ok(None)
}

/// The words that start statements of PostgreSQL's that this server does not have, each with what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "ALTER",
        "ALTER TABLE sets a retention, row level security and the owner, ALTER VIEW options and the owner; make a new table or view with CREATE … AS.",
    ),
    ("ANALYZE", "Statistics are kept by the files themselves."),
    ("CALL", "Functions are called in a SELECT."),
    ("CHECKPOINT", "Every statement that returned is durable."),
    ("CLUSTER", ""),
    ("COMMENT", ""),
    ("CREATE", "CREATE makes tables, external tables, views, materialized views, audiences, roles, policies, masks and locations."),
    ("DELETE", "Write the rows to keep with CREATE TABLE … AS SELECT."),
    ("DESCRIBE", "Use \\d in psql, or describe_events for an event log."),
    ("DO", ""),
    ("DROP", "DROP removes tables, views, materialized views, audiences, roles, policies, masks and locations."),
    ("IMPORT", ""),
    ("LOAD", ""),
    ("LOCK", ""),
    ("MERGE", "Write the merged rows with CREATE TABLE … AS SELECT."),
    ("NOTIFY", ""),
    ("REASSIGN", ""),
    ("REFRESH", "REFRESH MATERIALIZED VIEW and REFRESH AUDIENCE run their queries again."),
    ("REINDEX", ""),
    ("SECURITY", ""),
    ("TRUNCATE", "DROP the table and CREATE it again."),
    ("UPDATE", "Write the changed rows with CREATE TABLE … AS SELECT."),
];

/// The 0A000 error of a statement that PostgreSQL has and this server does not; `None` when nobody has it.
pub(super) fn unsupported(first: &str, second: &str) -> Option<Error> {
    let (word, hint) = UNSUPPORTED.iter().find(|(word, _)| first.eq_ignore_ascii_case(word))?;
    let shown = match *word {
        "CREATE" | "ALTER" | "DROP" if !second.is_empty() => format!("{word} {}", second.to_uppercase()),
        word => word.to_owned(),
    };
    let error = Error::new(Code::FeatureNotSupported, format!("{shown} is not supported")).at(1);
    Some(if hint.is_empty() { error } else { error.hint(*hint) })
}
