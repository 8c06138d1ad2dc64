//! `PREPARE name [(types)] AS statement`: keeps a statement's text, checked by planning it once.

use std::fmt;
use std::time::SystemTime;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::command::{self, Command};
use super::plan::plan_query;
use super::support::{name, words};
use super::{Call, Outcome};
use crate::engine::{Parameters, PreparedText, Running};

/// A statement to keep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prepare {
    name: String,
    types: Vec<ast::DataType>,
    /// What stands behind `AS`.
    body: String,
}

impl Prepare {
    /// Reads what follows `PREPARE`; `text` is the whole statement's.
    pub(super) fn parse(parser: &mut Parser<'_>, text: &str) -> Result<Self, ParserError> {
        let name = name(parser)?;
        let mut types = Vec::new();
        if parser.consume_token(&Token::LParen) {
            types = parser.parse_comma_separated(Parser::parse_data_type)?;
            parser.expect_token(&Token::RParen)?;
        }
        if !words(parser, &["AS"]) {
            return parser.expected("AS", parser.peek_token());
        }
        let first = parser.peek_token();
        if first.token == Token::EOF {
            return parser.expected("a statement", first);
        }
        Ok(Self { name, types, body: super::parser::text_from(text, first.span.start).to_owned() })
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        let statement = self.statement()?;
        let types = self.declared(&call.running).await?;
        let described = call.running.with_parameters(Parameters::Described);
        let described = Box::pin(command::describe(call.session, &described, &statement, &types)).await?;
        let types = described.parameter_types.into_iter().map(Some).collect();
        let prepared = PreparedText { text: self.body.clone(), types, from_sql: true, at: SystemTime::now() };
        call.session.keep_prepared(&self.name, prepared)?;
        Ok(Outcome::done("PREPARE"))
    }

    fn statement(&self) -> Result<super::Statement> {
        let mut statements = super::parse(&self.body)?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) if matches!(statement.command.as_ref(), Command::Query(_) | Command::Insert(_)) => Ok(statement),
            (Some(statement), true) => Err(Error::new(Code::FeatureNotSupported, format!("{} cannot be prepared", statement.tag()))
                .hint("PREPARE takes a query or an INSERT.")),
            _ => Err(Error::new(Code::Syntax, "PREPARE takes one statement")),
        }
    }

    /// The Arrow types of the declared SQL types: the planner's own reading of `NULL::type`.
    async fn declared(&self, running: &Running) -> Result<Vec<Option<DataType>>> {
        if self.types.is_empty() {
            return Ok(Vec::new());
        }
        let casts: Vec<String> = self.types.iter().enumerate().map(|(at, kind)| format!("CAST(NULL AS {kind}) AS p{at}")).collect();
        let text = format!("SELECT {}", casts.join(", "));
        let statement = super::parse(&text)?.pop().ok_or_else(|| Error::internal("a query vanished"))?;
        let Command::Query(query) = statement.command.as_ref() else { return Err(Error::internal("a query became something else")) };
        let planned = plan_query(running, query.as_ref().clone(), &text, &[]).await?;
        Ok(planned.schema().fields().iter().map(|field| Some(field.data_type().clone())).collect())
    }
}

impl fmt::Display for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PREPARE \"{}\"", self.name.replace('"', "\"\""))?;
        if !self.types.is_empty() {
            let types: Vec<String> = self.types.iter().map(ToString::to_string).collect();
            write!(f, " ({})", types.join(", "))?;
        }
        write!(f, " AS {}", self.body)
    }
}
