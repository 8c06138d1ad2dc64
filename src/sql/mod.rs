//! Text → statements → outcomes. The wire and the command line call only this.
//!
//! Life of a statement: [`parse`] cuts the text at its semicolons and reads each piece, our own statements before
//! DataFusion's (one statement = one file here: what it holds, how it is read, printed and run). [`prepare`] plans a
//! statement without running it, for its parameters and columns. [`execute`] plans it again, so that tables and models
//! are as they are now, and returns an [`Outcome`]: rows as a stream that stops when it is cancelled, timed out or
//! dropped, or a tag.
//!
//! Architecture invariants: statements with effects are run by their own file, never by DataFusion's eager `sql()`;
//! whatever is left must pass `guard`, a list of the plan nodes that only read; nothing here knows the protocol.

mod alter_table;
mod alter_view;
mod arrays;
mod as_of;
mod audience;
mod calls;
mod casts;
mod command;
mod compat;
mod copy;
mod create_external_table;
mod create_table;
mod create_view;
mod cursor;
mod default_privileges;
mod dependents;
mod drop;
mod event_options;
mod execute;
mod explain;
mod explain_costs;
#[cfg(test)]
mod faults;
mod grant;
mod guard;
mod import;
mod insert;
mod location;
mod lookup;
mod maintain;
mod materialized_view;
mod names;
mod nested_values;
mod origins;
mod parser;
mod plan;
mod policy;
mod prepare;
mod query;
mod reset;
mod role;
mod same_names;
mod series;
mod set;
mod show;
mod sources;
mod support;
mod target;
mod transaction;
mod view_options;
mod views;

use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use portrait_udfs::context::NoticeSink;
use portrait_udfs::error::{Code, Error, Result};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::{Engine, Parameters, PlanSlot, PlanStamp, PreparedText, Running, Session, TransactionStatus};
use crate::storage::TextType;
use command::Command;

pub use arrays::array_words;
pub(crate) use casts::NUMERIC;
pub use copy::{CopyFormat, CopyIn, CopyOut, RowText};
pub use import::{ImportProgress, import};
pub(crate) use names::{hidden as hidden_name, own as own_name};
pub use origins::origin;
pub use parser::parse;

/// Parameters that one statement may have, as in PostgreSQL's protocol.
pub const PARAMETERS_MAX: usize = 65_535;

/// One statement of a query string.
#[derive(Debug, Clone)]
pub struct Statement {
    command: Arc<Command>,
    text: Arc<str>,
    /// Characters before the statement in the query string, for error positions.
    start: usize,
}

impl Statement {
    /// Its own text, without the semicolon.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The kind of statement, as in a command tag: `SELECT`, `CREATE TABLE`.
    pub fn tag(&self) -> &'static str {
        self.command.tag()
    }

    /// Whether an open transaction that failed still accepts it (COMMIT, ROLLBACK).
    pub fn ends_transaction(&self) -> bool {
        self.command.ends_transaction()
    }

    /// Whether its text may hold a password: such a text is never logged.
    pub fn secret(&self) -> bool {
        self.command.secret()
    }

    /// Whether it is this very query.
    fn is_query(&self, query: &datafusion::sql::sqlparser::ast::Query) -> bool {
        match self.command.as_ref() {
            Command::Query(found) => {
                matches!(found.as_ref(), datafusion::sql::sqlparser::ast::Statement::Query(found) if found.as_ref() == query)
            }
            _ => false,
        }
    }

    /// Moves positions inside the statement's text to positions in the query string.
    fn place(&self, mut error: Error) -> Error {
        error.position = error.position.map(|position| position.saturating_add(u32::try_from(self.start).unwrap_or(u32::MAX)));
        error
    }
}

impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is known of a statement before it runs.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The types of `$1 …`: declared, or inferred, or text.
    pub parameter_types: Vec<DataType>,
    /// For parameters that are more than texts, or lists of texts, what they are: as far as the statement tells.
    pub parameter_texts: Vec<Option<TextType>>,
    /// The columns of its rows; `None` = it returns none.
    pub schema: Option<SchemaRef>,
    /// The kind of statement, as in a command tag.
    pub tag_hint: &'static str,
    statement: Statement,
    /// Whether the columns were promised to a client, so that they must not change any more.
    described: bool,
    /// Where its plan is kept, if it is of a kind that is.
    plan: Arc<PlanSlot>,
}

impl Prepared {
    /// The statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }
}

/// How a statement runs.
#[derive(Clone)]
pub struct RunOptions {
    /// Fired by the client's cancel or a closed connection.
    pub cancel: CancellationToken,
    /// Where messages go while the statement runs.
    pub notice: NoticeSink,
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").finish_non_exhaustive()
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { cancel: CancellationToken::new(), notice: Arc::new(|_| {}) }
    }
}

/// How the tag of a statement that returned rows is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowTag {
    /// `SELECT n`.
    Select,
    /// The bare word: `SHOW`, `EXPLAIN`.
    Word(&'static str),
    /// The word and `n`: `FETCH n`.
    Counted(&'static str),
}

impl RowTag {
    /// The tag after `rows` rows.
    pub fn command(self, rows: u64) -> String {
        match self {
            Self::Select => format!("SELECT {rows}"),
            Self::Word(word) => word.to_owned(),
            Self::Counted(word) => format!("{word} {rows}"),
        }
    }
}

/// What a statement gives.
pub enum Outcome {
    /// Rows. The stream honours cancel and timeout; its errors are classified by `error::classify`. Dropping it stops
    /// the statement.
    Rows {
        /// The columns.
        schema: SchemaRef,
        /// The rows, in batches.
        stream: SendableRecordBatchStream,
        /// How the tag is written.
        tag: RowTag,
    },
    /// Done; the tag, as in `CREATE TABLE` or `INSERT 0 5`.
    Done {
        /// The tag.
        tag: String,
    },
    /// A COPY that waits for its rows.
    CopyIn(Box<CopyIn>),
    /// A COPY whose rows are to be sent.
    CopyOut(Box<CopyOut>),
    /// There was no statement.
    Empty,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows { schema, tag, .. } => f.debug_struct("Rows").field("schema", schema).field("tag", tag).finish_non_exhaustive(),
            Self::Done { tag } => f.debug_struct("Done").field("tag", tag).finish(),
            Self::CopyIn(copy) => std::fmt::Debug::fmt(copy, f),
            Self::CopyOut(copy) => std::fmt::Debug::fmt(copy, f),
            Self::Empty => f.write_str("Empty"),
        }
    }
}

impl Outcome {
    fn done(tag: impl Into<String>) -> Self {
        Self::Done { tag: tag.into() }
    }
}

/// A statement on its way: what `run` of each statement gets.
struct Call<'a> {
    session: &'a Session,
    running: Running,
    statement: &'a Statement,
    params: Vec<ScalarValue>,
    /// Where the statement's plan may be kept, and what it is made with.
    kept: Option<(Arc<PlanSlot>, PlanStamp)>,
    /// The catalog's count of erasures, taken before anything was planned.
    erasures: u64,
}

/// Opens the data directory of `config` with everything that SQL needs.
///
/// # Errors
/// As [`Engine::open`].
pub async fn open(config: &Config) -> Result<Arc<Engine>> {
    let engine = Engine::open(config).await?;
    views::install(&engine);
    Ok(engine)
}

/// As [`open`], over a store of a test's.
#[cfg(test)]
async fn open_in(config: &Config, store: crate::storage::Store) -> Result<Arc<Engine>> {
    let engine = Engine::open_in(config, Some(store)).await?;
    views::install(&engine);
    Ok(engine)
}

/// Plans `statement` without running it. `declared` are the parameter types that the client declared.
///
/// # Errors
/// Whatever planning finds wrong, with positions in the query string.
pub async fn prepare(session: &Session, statement: &Statement, declared: &[Option<DataType>]) -> Result<Prepared> {
    prepare_with(session, statement, declared, &CancellationToken::new()).await
}

/// [`prepare`] that stops when `cancel` fires.
///
/// # Errors
/// As [`prepare`]; [`Code::Cancelled`] when it was stopped.
pub async fn prepare_with(
    session: &Session,
    statement: &Statement,
    declared: &[Option<DataType>],
    cancel: &CancellationToken,
) -> Result<Prepared> {
    let result = async {
        refuse_in_failed_transaction(session, statement)?;
        let running = session.statement(statement.text(), cancel, Arc::new(|_| {}))?.with_parameters(Parameters::Described);
        let (session, statement, declared, own) = (session.clone(), statement.clone(), declared.to_vec(), running.clone());
        running.run(async move { Box::pin(command::describe(&session, &own, &statement, &declared)).await }).await
    }
    .await;
    match result {
        Ok(described) => Ok(Prepared {
            parameter_types: described.parameter_types,
            parameter_texts: described.parameter_texts,
            schema: described.schema,
            tag_hint: statement.tag(),
            statement: statement.clone(),
            described: true,
            plan: Arc::new(session.engine().plans().slot()),
        }),
        Err(error) => {
            session.statement_failed();
            Err(statement.place(error))
        }
    }
}

/// Keeps a client's statement where EXECUTE and EXPLAIN EXECUTE find those of PREPARE, if it is of a kind that PREPARE takes.
///
/// # Errors
/// As [`Session::keep_prepared`].
pub fn keep(session: &Session, name: &str, prepared: &Prepared) -> Result<()> {
    if !matches!(prepared.statement.command.as_ref(), Command::Query(_) | Command::Insert(_)) {
        return Ok(());
    }
    let types = prepared.parameter_types.iter().cloned().map(Some).collect();
    let text = prepared.statement.text().to_owned();
    session.keep_prepared(name, PreparedText { text, types, from_sql: false, at: SystemTime::now() })
}

/// Runs a prepared statement with `params`, one value per parameter and of its type.
///
/// # Errors
/// Whatever planning or starting it finds wrong; errors of running queries come through the stream.
pub async fn execute(session: &Session, prepared: &Prepared, params: Vec<ScalarValue>, run: RunOptions) -> Result<Outcome> {
    if params.len() != prepared.parameter_types.len() {
        return Err(Error::new(
            Code::Protocol,
            format!("bind message supplies {} parameters, but the statement requires {}", params.len(), prepared.parameter_types.len()),
        ));
    }
    if let Some(outcome) = lookup::at_once(session, prepared, &params).await? {
        return Ok(outcome);
    }
    let outcome = start(session, &prepared.statement, params, Some(Arc::clone(&prepared.plan)), run).await?;
    if prepared.described
        && let (Some(promised), Outcome::Rows { schema, .. }) = (&prepared.schema, &outcome)
        && !same_columns(promised, schema)
    {
        session.statement_failed();
        return Err(Error::new(Code::FeatureNotSupported, "cached plan must not change result type")
            .hint("Prepare the statement again: a table or view that it names has changed."));
    }
    Ok(outcome)
}

/// Plans and runs a statement without parameters, at once.
///
/// # Errors
/// As [`execute`].
pub async fn run(session: &Session, statement: &Statement, run: RunOptions) -> Result<Outcome> {
    start(session, statement, Vec::new(), None, run).await
}

async fn start(
    session: &Session,
    statement: &Statement,
    params: Vec<ScalarValue>,
    plan: Option<Arc<PlanSlot>>,
    run: RunOptions,
) -> Result<Outcome> {
    let result = async {
        refuse_in_failed_transaction(session, statement)?;
        let running = session.statement(statement.text(), &run.cancel, run.notice)?;
        let running = running.with_parameters(Parameters::Known(params.clone().into()));
        let (session, statement, own) = (session.clone(), statement.clone(), running.clone());
        let erasures = session.engine().catalog().erasures_begun();
        let kept = plan.map(|plan| (plan, PlanStamp::of(&session)));
        // On the query threads, where stacks are big: the caller's thread only waits.
        let call = async move {
            Box::pin(command::run(Call { session: &session, running: own, statement: &statement, params, kept, erasures })).await
        };
        running.run(call).await
    }
    .await;
    // Plans must not hold what this statement, or another one, has dropped.
    session.engine().plans().follow(session.engine().catalog().changes());
    session.follow_temporary();
    result.map_err(|error| {
        session.statement_failed();
        statement.place(error)
    })
}

/// The one query of a text.
fn parse_query(text: &str) -> Result<datafusion::sql::sqlparser::ast::Statement> {
    let mut statements = parse(text)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => match statement.command.as_ref() {
            Command::Query(query) => Ok(query.as_ref().clone()),
            _ => Err(Error::internal(format!("{} stands where a query should", statement.tag()))),
        },
        _ => Err(Error::internal("a text should be one query")),
    }
}

fn refuse_in_failed_transaction(session: &Session, statement: &Statement) -> Result<()> {
    if session.transaction() == TransactionStatus::Failed && !statement.ends_transaction() {
        return Err(Error::new(Code::FailedTransaction, "current transaction is aborted, commands ignored until end of transaction block"));
    }
    Ok(())
}

fn same_columns(a: &SchemaRef, b: &SchemaRef) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields().iter().zip(b.fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
}
