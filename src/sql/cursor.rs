//! `DECLARE name CURSOR … FOR query`, `FETCH`, `MOVE` and `CLOSE`: the rows of a query, a few at a time.
//!
//! Drivers wrap their queries in cursors to read a large result in pieces, and `postgres_fdw` reads in no other way. A
//! cursor here is the running query itself (`engine::Cursor`): it goes forward, and ends with its transaction block
//! unless it was declared WITH HOLD.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::command::{self, Command, Description};
use super::support::{end, name, words};
use super::{Call, Outcome, RowTag, Statement};
use crate::engine::{Cursor, Running, Session, TransactionStatus};

/// Opens a cursor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declare {
    name: String,
    /// `BINARY` or `SCROLL`, which there is not.
    refused: Option<&'static str>,
    hold: bool,
    /// What stands behind `FOR`.
    body: String,
    /// Characters before it.
    body_start: usize,
}

impl Declare {
    /// Reads what follows `DECLARE`; `text` is the whole statement's.
    pub(super) fn parse(parser: &mut Parser<'_>, text: &str) -> Result<Self, ParserError> {
        let (name, mut refused) = (name(parser)?, None);
        loop {
            if words(parser, &["BINARY"]) {
                refused = Some("BINARY");
            } else if words(parser, &["SCROLL"]) {
                refused = Some("SCROLL");
            } else if !words(parser, &["INSENSITIVE"]) && !words(parser, &["ASENSITIVE"]) && !words(parser, &["NO", "SCROLL"]) {
                break;
            }
        }
        if !words(parser, &["CURSOR"]) {
            return parser.expected("CURSOR", parser.peek_token());
        }
        let hold = words(parser, &["WITH", "HOLD"]);
        let _ = !hold && words(parser, &["WITHOUT", "HOLD"]);
        if !words(parser, &["FOR"]) {
            return parser.expected("FOR", parser.peek_token());
        }
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return parser.expected("a query", first);
        }
        let body = super::parser::text_from(text, first.span.start).to_owned();
        let body_start = text.chars().count().saturating_sub(body.chars().count());
        Ok(Self { name, refused, hold, body, body_start })
    }

    /// The query's parameters; a declaration returns no rows.
    pub(super) async fn describe(&self, session: &Session, running: &Running, declared: &[Option<DataType>]) -> Result<Description> {
        let query = self.query()?;
        let described = Box::pin(command::describe(session, running, &query, declared)).await.map_err(|error| self.place(error))?;
        Ok(Description { schema: None, ..described })
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        if let Some(word) = self.refused {
            return Err(Error::new(Code::FeatureNotSupported, format!("{word} cursors are not supported"))
                .hint("Declare a plain cursor: it goes forward, and clients ask for binary rows by themselves."));
        }
        if !self.hold && call.session.transaction() == TransactionStatus::Idle {
            return Err(Error::new(Code::NoTransaction, "DECLARE CURSOR can only be used in transaction blocks")
                .hint("Send BEGIN first, or declare the cursor WITH HOLD."));
        }
        let query = self.query()?;
        // The clock of this statement is not that of the statements that fetch.
        let running = call.running.of_cursor(call.session)?.with_parameters(call.running.parameters().clone());
        let inner = Call { session: call.session, running, statement: &query, params: call.params, kept: None, erasures: call.erasures };
        match Box::pin(command::run(inner)).await.map_err(|error| self.place(error))? {
            Outcome::Rows { schema, stream, .. } => {
                call.session.open_cursor(&self.name, Cursor::new(schema, stream, self.hold))?;
                Ok(Outcome::done("DECLARE CURSOR"))
            }
            _ => Err(Error::internal("a query returned no rows")),
        }
    }

    fn query(&self) -> Result<Statement> {
        let mut statements = super::parse(&self.body).map_err(|error| self.place(error))?;
        match (statements.pop(), statements.is_empty()) {
            (Some(query), true) if matches!(query.command.as_ref(), Command::Query(_)) => Ok(query),
            _ => Err(Error::new(Code::Syntax, "DECLARE CURSOR takes one query")),
        }
    }

    fn place(&self, mut error: Error) -> Error {
        let before = u32::try_from(self.body_start).unwrap_or(u32::MAX);
        error.position = error.position.map(|position| position.saturating_add(before));
        error
    }
}

impl fmt::Display for Declare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (refused, blank) = self.refused.map_or(("", ""), |word| (word, " "));
        let hold = if self.hold { " WITH HOLD" } else { "" };
        write!(f, "DECLARE {} {refused}{blank}CURSOR{hold} FOR {}", quoted(&self.name), self.body)
    }
}

/// Takes rows of a cursor: returns them, or moves past them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fetch {
    name: String,
    /// How many; `None` = all that are left.
    count: Option<u64>,
    /// `MOVE`: the rows are only counted.
    only_count: bool,
}

impl Fetch {
    /// Reads what follows `FETCH` or `MOVE`.
    pub(super) fn parse(parser: &mut Parser<'_>, only_count: bool) -> Result<Self> {
        let count = Self::direction(parser)?;
        let syntax = |error| crate::error::classify(DataFusionError::SQL(Box::new(error), None));
        let _ = words(parser, &["FROM"]) || words(parser, &["IN"]);
        let name = name(parser).map_err(syntax)?;
        end(parser).map_err(syntax)?;
        Ok(Self { name, count, only_count })
    }

    /// A word of the direction is one only when a name follows: a cursor may be called `next`.
    fn direction(parser: &mut Parser<'_>) -> Result<Option<u64>> {
        let named = parser.peek_nth_token(1).token == Token::EOF;
        if named {
            return Ok(Some(1));
        }
        if ["PRIOR", "FIRST", "LAST", "ABSOLUTE", "BACKWARD"].iter().any(|word| words(parser, &[word])) {
            return Err(only_forward());
        }
        if words(parser, &["NEXT"]) {
            return Ok(Some(1));
        }
        let stated = words(parser, &["FORWARD"]) || words(parser, &["RELATIVE"]);
        if words(parser, &["ALL"]) {
            return Ok(None);
        }
        let negative = parser.consume_token(&Token::Minus);
        match parser.peek_token().token {
            Token::Number(digits, _) => {
                parser.next_token();
                match digits.parse() {
                    Ok(count @ 1_u64..) if !negative => Ok(Some(count)),
                    Ok(_) => Err(only_forward()),
                    Err(_) => Err(Error::new(Code::Syntax, format!("\"{digits}\" is not a number of rows"))),
                }
            }
            _ if negative => Err(Error::new(Code::Syntax, "a number must follow the minus sign")),
            _ if stated => Ok(Some(1)),
            _ => Ok(Some(1)),
        }
    }

    pub(super) fn tag(&self) -> &'static str {
        if self.only_count { "MOVE" } else { "FETCH" }
    }

    /// The columns of the cursor as it is now.
    pub(super) fn describe(&self, session: &Session) -> Result<Description> {
        let cursor = session.cursor(&self.name)?;
        Ok(Description { schema: (!self.only_count).then(|| Arc::clone(cursor.schema())), ..Description::nothing() })
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        let cursor = call.session.cursor(&self.name)?;
        let left = self.count.unwrap_or(u64::MAX);
        if self.only_count {
            let moved = call.running.run(pass(cursor, left)).await?;
            return Ok(Outcome::done(format!("MOVE {moved}")));
        }
        let schema = Arc::clone(cursor.schema());
        let rows = futures::stream::unfold((cursor, call.running, left), |(cursor, running, left)| async move {
            if left == 0 {
                return None;
            }
            let stopped = running.cancel().clone();
            let batch = tokio::select! {
                biased;
                () = stopped.cancelled() => Some(Err(running.stopped().into())),
                batch = cursor.next(usize::try_from(left).unwrap_or(usize::MAX)) => batch,
            }?;
            let left = batch.as_ref().map_or(0, |batch| left.saturating_sub(batch.num_rows() as u64));
            Some((batch, (cursor, running, left)))
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
        Ok(Outcome::Rows { schema, stream, tag: RowTag::Counted(self.tag()) })
    }
}

/// Moves past `left` rows: how many there were.
async fn pass(cursor: Arc<Cursor>, mut left: u64) -> Result<u64> {
    let mut moved = 0;
    while left > 0 {
        let Some(batch) = cursor.next(usize::try_from(left).unwrap_or(usize::MAX)).await else { break };
        let rows = batch.map_err(crate::error::classify)?.num_rows() as u64;
        moved += rows;
        left = left.saturating_sub(rows);
    }
    Ok(moved)
}

fn only_forward() -> Error {
    Error::new(Code::NotReady, "cursor can only scan forward").hint("Declare a cursor again to read from its start.")
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count.map_or_else(|| "ALL".to_owned(), |count| count.to_string());
        write!(f, "{} FORWARD {count} FROM {}", self.tag(), quoted(&self.name))
    }
}

/// Closes a cursor; `None` = all.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Close(Option<String>);

impl Close {
    /// Reads what follows `CLOSE`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let name = if words(parser, &["ALL"]) { None } else { Some(name(parser)?) };
        end(parser)?;
        Ok(Self(name))
    }

    pub(super) fn tag(&self) -> &'static str {
        if self.0.is_none() { "CLOSE CURSOR ALL" } else { "CLOSE CURSOR" }
    }

    pub(super) fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        call.session.close_cursor(self.0.as_deref())?;
        Ok(Outcome::done(self.tag()))
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("CLOSE ALL"),
            Some(name) => write!(f, "CLOSE {}", quoted(name)),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
