//! The simple protocol: a query string, its statements run and answered one after the other.

use std::sync::Arc;

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::EmptyQueryResponse;

use super::connection::Connection;
use super::rows::{Failure, RowSource, Sent};
use super::sqlstate::PgError;
use super::types::{Formats, row_description};
use crate::sql::{self, Outcome, Statement};

impl Connection {
    /// Runs every statement of `text` until one fails. Nothing runs when the text does not parse.
    pub(super) async fn simple_query(&mut self, text: &str) -> Result<(), Failure> {
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.parse_text(text).await?;
        if statements.is_empty() {
            self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?;
        }
        for statement in &statements {
            self.simple_statement(statement).await?;
        }
        Ok(())
    }

    /// The statements of a query string, read on the query threads: their stacks are made for deep nesting.
    pub(super) async fn parse_text(&mut self, text: &str) -> Result<Vec<Statement>, Failure> {
        let cancel = self.running.start();
        let (engine, text) = (Arc::clone(self.session.engine()), text.to_owned());
        let statements = self.around(&cancel).wait(Box::pin(engine.runtime().run(async move { sql::parse(&text) }))).await??;
        // Who cancelled meanwhile meant the statement, not its parsing.
        if cancel.is_cancelled() { Err(PgError::cancelled().into()) } else { Ok(statements) }
    }

    async fn simple_statement(&mut self, statement: &Statement) -> Result<(), Failure> {
        if let Some(tag) = self.own_statement(statement)? {
            return Ok(self.put_complete(tag)?);
        }
        self.begin(statement);
        let cancel = self.running.start();
        let options = self.run_options(&cancel);
        let session = self.session.clone();
        let outcome = self.around(&cancel).wait(Box::pin(sql::run(&session, statement, options))).await??;
        match outcome {
            Outcome::Rows { schema, stream, tag } => {
                let formats = Formats::default();
                self.wire.put(row_description(&schema, &formats))?;
                let mut rows = RowSource::new(schema, stream, tag, formats, self.style());
                if let Sent::Complete(count) = rows.send(&mut self.around(&cancel), 0).await? {
                    self.put_complete(tag.command(count))?;
                }
            }
            Outcome::Done { tag } => self.put_complete(tag)?,
            Outcome::CopyIn(copy) => {
                let tag = Box::pin(self.copy_in(copy, &cancel)).await?;
                self.put_complete(tag)?;
            }
            Outcome::CopyOut(copy) => {
                let tag = Box::pin(self.copy_out(copy, &cancel)).await?;
                self.put_complete(tag)?;
            }
            Outcome::Empty => self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?,
        }
        // A cancel that comes from now on belongs to no statement, or to the next one.
        self.running.finish();
        Ok(())
    }
}
