//! `EXECUTE name [(values)]` and `DEALLOCATE {name | ALL}`.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};

use super::command::{self, Command, Description};
use super::plan::{physical, plan_query};
use super::support::{end, name, words};
use super::{Call, Outcome, Statement};
use crate::engine::{Parameters, PreparedText, Running, Session};

/// Runs a kept statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Execute {
    name: String,
    values: Vec<ast::Expr>,
}

impl Execute {
    /// Reads what follows `EXECUTE`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let name = name(parser)?;
        let mut values = Vec::new();
        if parser.consume_token(&Token::LParen) {
            values = parser.parse_comma_separated(Parser::parse_expr)?;
            parser.expect_token(&Token::RParen)?;
        }
        end(parser)?;
        Ok(Self { name, values })
    }

    /// The kept statement, planned as it is now.
    pub(super) async fn describe(&self, session: &Session, running: &Running) -> Result<Description> {
        let (kept, statement) = self.kept(session)?;
        let running = running.with_parameters(Parameters::Described);
        let described = Box::pin(command::describe(session, &running, &statement, &kept.types)).await?;
        Ok(Description { schema: described.schema, ..Description::nothing() })
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        let (running, statement, params) = self.bound(&call).await?;
        let inner = Call { session: call.session, running, statement: &statement, params, kept: None, erasures: call.erasures };
        Box::pin(command::run(inner)).await
    }

    /// The kept statement and the values of its parameters, and where it runs.
    pub(super) async fn bound(&self, call: &Call<'_>) -> Result<(Running, Statement, Vec<ScalarValue>)> {
        let (kept, statement) = self.kept(call.session)?;
        if self.values.len() != kept.types.len() {
            return Err(Error::new(Code::Syntax, format!("wrong number of parameters for prepared statement \"{}\"", self.name))
                .detail(format!("Expected {} parameters but got {}.", kept.types.len(), self.values.len())));
        }
        let params = self.params(&call.running, &kept.types).await?;
        let running = call.running.with_parameters(Parameters::Known(params.clone().into()));
        Ok((running, statement, params))
    }

    fn kept(&self, session: &Session) -> Result<(PreparedText, Statement)> {
        let kept = session.prepared(&self.name)?;
        let statement = super::parse(&kept.text)?.pop().ok_or_else(|| Error::internal("a prepared statement is empty"))?;
        Ok((kept, statement))
    }

    /// Computes the values: one row of a query without a table.
    async fn params(&self, running: &Running, types: &[Option<DataType>]) -> Result<Vec<ScalarValue>> {
        if self.values.is_empty() {
            return Ok(Vec::new());
        }
        let columns: Vec<String> = self.values.iter().enumerate().map(|(at, value)| format!("{value} AS p{at}")).collect();
        let text = format!("SELECT {}", columns.join(", "));
        let statement = super::parse(&text)?.pop().ok_or_else(|| Error::internal("a query vanished"))?;
        let Command::Query(query) = statement.command.as_ref() else {
            return Err(Error::new(Code::Syntax, "a parameter of EXECUTE must be a value"));
        };
        let planned = plan_query(running, query.as_ref().clone(), &text, &[]).await?;
        let plan = physical(running, planned.plan).await?;
        let batch = running.stream(plan).next().await.transpose().map_err(crate::error::classify)?;
        let batch = batch.filter(|batch| batch.num_rows() == 1).ok_or_else(|| Error::internal("a row of values vanished"))?;
        let columns = batch.columns().iter().zip(types);
        columns
            .map(|(column, wanted)| {
                let value = ScalarValue::try_from_array(column, 0)?;
                match wanted {
                    Some(wanted) => value.cast_to(wanted),
                    None => Ok(value),
                }
            })
            .collect::<datafusion::error::Result<_>>()
            .map_err(crate::error::classify)
    }
}

impl fmt::Display for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EXECUTE \"{}\"", self.name.replace('"', "\"\""))?;
        if !self.values.is_empty() {
            let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
            write!(f, " ({})", values.join(", "))?;
        }
        Ok(())
    }
}

/// Forgets a kept statement; `None` = all.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deallocate(Option<String>);

impl Deallocate {
    /// Reads what follows `DEALLOCATE`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        words(parser, &["PREPARE"]);
        let name = if words(parser, &["ALL"]) { None } else { Some(name(parser)?) };
        end(parser)?;
        Ok(Self(name))
    }

    pub(super) fn tag(&self) -> &'static str {
        if self.0.is_none() { "DEALLOCATE ALL" } else { "DEALLOCATE" }
    }

    pub(super) fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        call.session.forget_prepared(self.0.as_deref())?;
        Ok(Outcome::done(self.tag()))
    }
}

impl fmt::Display for Deallocate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("DEALLOCATE ALL"),
            Some(name) => write!(f, "DEALLOCATE \"{}\"", name.replace('"', "\"\"")),
        }
    }
}
