//! The one list of statements: how a piece of text is recognised, and which file runs it.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use portrait_udfs::error::{Code, Error, Result};

use super::{Call, Outcome, Statement, parser, plan, query};
use crate::engine::{Running, Session};

/// A statement, read.
#[derive(Debug)]
pub(super) enum Command {
    Query(Box<ast::Statement>),
}

/// What is known of a statement before it runs.
pub(super) struct Description {
    pub(super) parameter_types: Vec<DataType>,
    pub(super) schema: Option<SchemaRef>,
}

impl Command {
    /// Reads one statement.
    pub(super) fn parse(text: &str, tokens: Vec<TokenWithSpan>) -> Result<Self> {
        let mut parser = parser::parser(tokens)?;
        let statement = parser.parser.parse_statement().map_err(|error| parser::syntax_error(error, text))?;
        let next = parser.parser.peek_token();
        if next.token != Token::EOF {
            let error = parser.parser.expected::<()>("end of statement", next);
            return Err(error.map_or_else(|error| parser::syntax_error(error, text), |()| Error::internal("the parser expected nothing")));
        }
        match statement {
            ast::Statement::Query(_) => Ok(Self::Query(Box::new(statement))),
            _ => Err(Error::new(Code::FeatureNotSupported, "this statement is not supported")),
        }
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Query(_) => "SELECT",
        }
    }

    pub(super) fn ends_transaction(&self) -> bool {
        false
    }

    pub(super) fn secret(&self) -> bool {
        false
    }
}

/// Plans a statement without running it.
pub(super) async fn describe(
    _session: &Session,
    running: &Running,
    statement: &Statement,
    declared: &[Option<DataType>],
) -> Result<Description> {
    match statement.command.as_ref() {
        Command::Query(query) => {
            let planned = plan::plan_query(running, query.as_ref().clone(), statement.text(), declared).await?;
            Ok(Description { schema: Some(planned.schema()), parameter_types: planned.parameter_types })
        }
    }
}

/// Runs a statement.
pub(super) async fn run(call: Call<'_>) -> Result<Outcome> {
    match call.statement.command.as_ref() {
        Command::Query(query) => query::run(call, query).await,
    }
}
