//! The extended protocol: Parse, Bind, Describe, Execute, Close; prepared statements and portals.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::EmptyQueryResponse;
use tokio_util::sync::CancellationToken;

use super::activity::Ended;
use super::catalog;
use super::connection::Connection;
use super::message::{Bind, Message};
use super::params;
use super::rows::{Failure, RowSource, Sent};
use super::sqlstate::{PgError, PgResult};
use super::types::{Formats, data_type, declared, row_description, text_type};
use crate::sql::{self, Outcome, Prepared, Statement};

/// Prepared statements per connection.
const STATEMENTS_MAX: usize = 1000;
/// Portals per connection: each may hold a running plan.
const PORTALS_MAX: usize = 64;

/// A statement that Parse named.
#[derive(Debug)]
pub(crate) struct PreparedStatement {
    /// `None` for an empty query string.
    prepared: Option<Prepared>,
    /// The types of the parameters as the client knows them.
    types: Vec<Type>,
}

/// A statement with its parameters, and how far it has come.
pub(crate) struct Portal {
    statement: Arc<PreparedStatement>,
    formats: Formats,
    cancel: CancellationToken,
    state: PortalState,
}

enum PortalState {
    Ready(Vec<ScalarValue>),
    Rows(Box<RowSource>),
    Done,
}

impl Connection {
    /// Answers a message of the extended protocol other than Sync.
    pub(super) async fn extended_message(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Parse { name, query, types } => self.parse(name, &query, &types).await,
            Message::Bind(bind) => Ok(self.bind(bind)?),
            Message::DescribeStatement(name) => Ok(self.describe_statement(&name)?),
            Message::DescribePortal(name) => Ok(self.describe_portal(&name)?),
            Message::Execute { portal, max_rows } => self.execute(portal, max_rows).await,
            Message::CloseStatement(name) => {
                self.statements.remove(&name);
                let _ = self.session.forget_prepared(Some(&name));
                Ok(self.wire.put(PgWireBackendMessage::CloseComplete(CloseComplete::new()))?)
            }
            Message::ClosePortal(name) => {
                if self.portals.remove(&name).is_none() {
                    // A cursor of SQL is a portal too; closing what is not there is no error.
                    let _ = self.session.close_cursor(Some(&name));
                }
                Ok(self.wire.put(PgWireBackendMessage::CloseComplete(CloseComplete::new()))?)
            }
            Message::Flush => self.wire.flush().await.map_err(Failure::Lost),
            other => Err(PgError::internal(&format!("{other:?} is not of the extended protocol")).into()),
        }
    }

    async fn parse(&mut self, name: String, query: &str, oids: &[u32]) -> Result<(), Failure> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) {
            return Err(PgError::new("42P05", format!("prepared statement \"{name}\" already exists")).into());
        } else if self.statements.len() >= STATEMENTS_MAX {
            return Err(PgError::new("54000", "too many prepared statements")
                .detail(format!("A connection holds at most {STATEMENTS_MAX}."))
                .hint("Close those that are no longer needed, or use DEALLOCATE.")
                .into());
        }
        let oids = &with_casts(query, oids);
        let mut types = oids.iter().map(|oid| declared(*oid)).collect::<PgResult<Vec<_>>>()?;
        let statements = self.parse_text(query).await?;
        let statement = match statements.as_slice() {
            [] => {
                self.statements.insert(name, Arc::new(PreparedStatement { prepared: None, types: Vec::new() }));
                return Ok(self.wire.put(PgWireBackendMessage::ParseComplete(ParseComplete::new()))?);
            }
            [statement] => statement,
            _ => return Err(PgError::new("42601", "cannot insert multiple commands into a prepared statement").into()),
        };
        // Declared as `unknown` and never used is not worth an error: trailing ones are left to the planner.
        while types.last() == Some(&None) {
            types.pop();
        }
        let cancel = self.running.start();
        let session = self.session.clone();
        let prepared = self.around(&cancel).wait(Box::pin(sql::prepare_with(&session, statement, &types, &cancel))).await??;
        let types = wire_types(oids, &prepared);
        if !name.is_empty() {
            sql::keep(&self.session, &name, &prepared)?;
        }
        self.statements.insert(name, Arc::new(PreparedStatement { prepared: Some(prepared), types }));
        Ok(self.wire.put(PgWireBackendMessage::ParseComplete(ParseComplete::new()))?)
    }

    fn bind(&mut self, bind: Bind) -> PgResult<()> {
        let statement = Arc::clone(self.statement(&bind.statement)?);
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(PgError::new("42P03", format!("cursor \"{}\" already exists", bind.portal)));
        }
        if self.portals.len() >= PORTALS_MAX && !self.portals.contains_key(&bind.portal) {
            return Err(PgError::new("54000", "too many open cursors")
                .detail(format!("A connection holds at most {PORTALS_MAX} portals."))
                .hint("Read a result to its end, close its portal, or send Sync."));
        }
        let columns = statement.prepared.as_ref().and_then(|prepared| prepared.schema.as_ref()).map_or(0, |schema| schema.fields().len());
        // A statement without rows ignores the formats of rows.
        let formats = if columns == 0 { Formats::default() } else { Formats::new(bind.result_formats.clone(), columns)? };
        let values = self.values(&statement, &bind)?;
        let state = PortalState::Ready(values);
        self.portals.insert(bind.portal, Portal { statement, formats, cancel: CancellationToken::new(), state });
        self.wire.put(PgWireBackendMessage::BindComplete(BindComplete::new()))
    }

    fn values(&mut self, statement: &PreparedStatement, bind: &Bind) -> PgResult<Vec<ScalarValue>> {
        let planned: &[DataType] = statement.prepared.as_ref().map_or(&[], |prepared| &prepared.parameter_types);
        if bind.parameters.len() != planned.len() {
            return Err(PgError::new(
                "08P01",
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                    bind.parameters.len(),
                    bind.statement,
                    planned.len()
                ),
            ));
        }
        let formats = &bind.parameter_formats;
        if formats.len() > 1 && formats.len() != planned.len() {
            let (formats, parameters) = (formats.len(), planned.len());
            return Err(PgError::new("08P01", format!("bind message has {formats} parameter formats but {parameters} parameters")));
        }
        let zone = Arc::clone(&self.known().zone);
        let value = |(index, value): (usize, &Option<bytes::Bytes>)| {
            let binary = formats.get(index.min(formats.len().saturating_sub(1))) == Some(&1);
            let declared = statement.types.get(index).unwrap_or(&Type::TEXT);
            params::decode(value.as_ref(), binary, declared, &planned[index], &zone)
        };
        bind.parameters.iter().enumerate().map(value).collect()
    }

    fn statement(&self, name: &str) -> PgResult<&Arc<PreparedStatement>> {
        self.statements.get(name).ok_or_else(|| match name {
            "" => PgError::new("26000", "unnamed prepared statement does not exist"),
            name => PgError::new("26000", format!("prepared statement \"{name}\" does not exist")),
        })
    }

    fn describe_statement(&mut self, name: &str) -> PgResult<()> {
        let statement = Arc::clone(self.statement(name)?);
        let types = statement.types.iter().map(Type::oid).collect();
        self.wire.put(PgWireBackendMessage::ParameterDescription(ParameterDescription::new(types)))?;
        self.put_description(&statement, &Formats::default())
    }

    fn describe_portal(&mut self, name: &str) -> PgResult<()> {
        let Some(portal) = self.portals.get(name) else {
            // A cursor of SQL is a portal too: libpq asks for its columns.
            let cursor = self.session.cursor(name).map_err(|_| missing_portal(name))?;
            return self.wire.put(row_description(cursor.schema(), &Formats::default()));
        };
        let (statement, formats) = (Arc::clone(&portal.statement), portal.formats.clone());
        self.put_description(&statement, &formats)
    }

    fn put_description(&mut self, statement: &PreparedStatement, formats: &Formats) -> PgResult<()> {
        match statement.prepared.as_ref().and_then(|prepared| prepared.schema.as_ref()) {
            Some(schema) => self.wire.put(row_description(schema, formats)),
            None => self.wire.put(PgWireBackendMessage::NoData(NoData::new())),
        }
    }

    /// Runs a portal, or goes on with one that was suspended. No limit when `max_rows` is not positive.
    async fn execute(&mut self, name: String, max_rows: i32) -> Result<(), Failure> {
        // Taken out while it runs: an error destroys it.
        let mut portal = self.portals.remove(&name).ok_or_else(|| missing_portal(&name))?;
        self.running.resume(&portal.cancel);
        let limit = u64::try_from(max_rows).unwrap_or_default();
        let cancel = portal.cancel.clone();
        match std::mem::replace(&mut portal.state, PortalState::Done) {
            PortalState::Done => {
                return Err(PgError::new("55000", format!("portal \"{name}\" cannot be run")).into());
            }
            PortalState::Ready(values) => self.start(&mut portal, values, &cancel).await?,
            rows @ PortalState::Rows(_) => portal.state = rows,
        }
        if let PortalState::Rows(rows) = &mut portal.state {
            match rows.send(&mut self.around(&cancel), limit).await? {
                Sent::Complete(count) => {
                    let tag = rows.tag.command(count);
                    self.put_complete(tag)?;
                }
                Sent::Suspended => {
                    self.ended(Ended::Done(limit));
                    self.wire.put(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()))?;
                }
            }
        }
        self.running.finish();
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Starts a portal's statement: what it returns is its rows, or its tag is sent.
    async fn start(&mut self, portal: &mut Portal, values: Vec<ScalarValue>, cancel: &CancellationToken) -> Result<(), Failure> {
        let Some(prepared) = &portal.statement.prepared else {
            self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?;
            return Ok(());
        };
        if let Some(tag) = self.own_statement(prepared.statement())? {
            return Ok(self.put_complete(tag)?);
        }
        self.begin(prepared.statement());
        let options = self.run_options(cancel);
        let session = self.session.clone();
        match self.around(cancel).wait(Box::pin(sql::execute(&session, prepared, values, options))).await?? {
            Outcome::Rows { schema, stream, tag } => {
                let formats = portal.formats.clone();
                portal.state = PortalState::Rows(Box::new(RowSource::new(schema, stream, tag, formats, self.style())));
            }
            Outcome::Done { tag } => self.put_complete(tag)?,
            Outcome::CopyIn(copy) => {
                let tag = Box::pin(self.copy_in(copy, cancel)).await?;
                self.put_complete(tag)?;
            }
            Outcome::CopyOut(copy) => {
                let tag = Box::pin(self.copy_out(copy, cancel)).await?;
                self.put_complete(tag)?;
            }
            Outcome::Empty => self.wire.put(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new()))?,
        }
        Ok(())
    }

    /// Statements about this connection's own prepared statements and portals. `None` leaves the statement to `sql`.
    pub(super) fn own_statement(&mut self, statement: &Statement) -> PgResult<Option<String>> {
        match statement.tag() {
            "DEALLOCATE" => {
                let name = deallocated(statement.text()).filter(|name| self.statements.remove(name).is_some());
                Ok(name.map(|name| {
                    let _ = self.session.forget_prepared(Some(&name));
                    "DEALLOCATE".to_owned()
                }))
            }
            "DEALLOCATE ALL" => {
                self.statements.clear();
                Ok(None)
            }
            "DISCARD ALL" => {
                self.statements.clear();
                self.portals.clear();
                Ok(None)
            }
            "CLOSE CURSOR ALL" => {
                self.portals.clear();
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

/// The name in `DEALLOCATE [PREPARE] name`.
fn deallocated(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some((_, quoted)) = text.split_once('"') {
        return Some(quoted.strip_suffix('"')?.replace("\"\"", "\""));
    }
    text.rsplit(char::is_whitespace).next().map(str::to_ascii_lowercase)
}

/// What the client is told of its parameters: its own declarations, and for the rest what was planned.
fn wire_types(oids: &[u32], prepared: &Prepared) -> Vec<Type> {
    let declared =
        |index: usize| oids.get(index).filter(|oid| **oid != 0 && **oid != Type::UNKNOWN.oid()).and_then(|oid| Type::from_oid(*oid));
    let planned = |index: usize, found: &DataType| match prepared.parameter_texts.get(index).copied().flatten() {
        Some(text) => text_type(text, found),
        None => data_type(found),
    };
    let types = prepared.parameter_types.iter().enumerate();
    types.map(|(index, found)| declared(index).unwrap_or_else(|| planned(index, found))).collect()
}

/// The declared types, and for parameters without one the type that the query casts them to when only PostgreSQL has it:
/// a driver that compares OIDs must be told that `$1::oid[]` is an array of OIDs, `t.oid = $1` asks for one, and `$1::uuid` is no text.
fn with_casts(query: &str, oids: &[u32]) -> Vec<u32> {
    let mut oids = oids.to_vec();
    let catalog = query.contains("pg_");
    for (at, _) in query.match_indices('$') {
        let rest = &query[at + 1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Ok(number @ 1..=65_535) = rest[..digits].parse::<usize>() else { continue };
        let known = match rest[digits..].strip_prefix("::") {
            Some(cast) => cast_type(cast, catalog),
            None => (catalog && is_compared_with_oid(&query[..at])).then_some(Type::OID),
        };
        let Some(oid) = known.map(|known| known.oid()) else { continue };
        if oids.len() < number {
            oids.resize(number, 0);
        }
        if oids[number - 1] == 0 {
            oids[number - 1] = oid;
        }
    }
    oids
}

/// The type that stands behind `::`, when only PostgreSQL has it.
fn cast_type(cast: &str, catalog: bool) -> Option<Type> {
    let cast = cast.strip_prefix("pg_catalog.").unwrap_or(cast);
    let word = cast.find(|character: char| !(character.is_alphanumeric() || "_[]".contains(character))).map_or(cast, |end| &cast[..end]);
    Some(match word {
        "oid" if catalog => Type::OID,
        "oid[]" if catalog => Type::OID_ARRAY,
        "name" if catalog => Type::NAME,
        "name[]" if catalog => Type::NAME_ARRAY,
        "uuid" => Type::UUID,
        "uuid[]" => Type::UUID_ARRAY,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        _ => return None,
    })
}

/// Whether the text ends with a column of OIDs and `=`.
fn is_compared_with_oid(before: &str) -> bool {
    let Some(column) = before.trim_end().strip_suffix('=').map(str::trim_end) else { return false };
    let begin = column.rfind(|character: char| !(character.is_alphanumeric() || character == '_')).map_or(0, |at| at + 1);
    catalog::is_oid_column(&column[begin..])
}

fn missing_portal(name: &str) -> PgError {
    PgError::new("34000", format!("portal \"{name}\" does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_to_types_of_the_catalog_declare_parameters() {
        assert_eq!(with_casts("SELECT any($1::oid[]), $3::pg_catalog.oid, $2::int, $x, $ FROM pg_type", &[]), [1028, 0, 26]);
        assert_eq!(with_casts("SELECT $1::oid FROM pg_type", &[23]), [23]);
        assert_eq!(with_casts("SELECT * FROM pg_type t WHERE t.oid = $1 AND typname = $2 AND typrelid=$3", &[]), [26, 0, 26]);
        assert_eq!(with_casts("SELECT * FROM pg_type WHERE oid <= $1 OR xoid = $2", &[]), [0; 0]);
        assert_eq!(with_casts("SELECT * FROM t WHERE oid = $1", &[]), [0; 0]);
    }

    #[test]
    fn deallocated_names_are_folded() {
        assert_eq!(deallocated("DEALLOCATE PREPARE Plan_1").unwrap(), "plan_1");
        assert_eq!(deallocated("deallocate \"Plan 1\"").unwrap(), "Plan 1");
    }
}
