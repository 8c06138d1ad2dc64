//! `COPY table [(columns)] FROM STDIN [WITH (options)]`: rows that a client sends, in one durable commit; and `COPY … TO STDOUT`,
//! a query whose rows are written as the same formats ([`to`]).
//!
//! Life of a COPY FROM: the statement says how the rows are written ([`options`]) → [`CopyIn`] takes their bytes as they
//! come → [`records`] finds records and fields across the pieces → [`values`] turns columns of text into the table's
//! types, as PostgreSQL reads them → the catalog's insertion takes the batches; a table of events drops duplicates and
//! quarantines. Only [`CopyIn::finish`] commits: an error, a cancel or a lost client leaves nothing.
//!
//! Memory: one batch of text, and what the insertion holds. Must never know: the protocol's messages.

mod options;
mod records;
mod to;
mod values;

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use parking_lot::Mutex;
use portrait_udfs::error::{Code, Error, Result};
use tokio_util::sync::CancellationToken;

pub(super) use options::Copy;
pub use to::{CopyOut, RowText};

use options::{CopyFrom, Header, Options};
use records::{Fields, Records};

use super::target::Target;
use super::{Call, Outcome};
use crate::catalog::Insertion;
use crate::engine::{NewRows, Running, Session};
use crate::error::classify;
use crate::storage::Arrivals;

/// Bytes that are decoded at once.
const PIECE_BYTES: usize = 256 << 10;

/// How a client writes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// PostgreSQL's text format.
    Text,
    /// Comma separated values.
    Csv,
    /// PostgreSQL's binary format: whoever speaks the protocol decodes it, and gives [`CopyIn::rows`] batches.
    Binary,
}

/// A COPY that waits for its rows.
pub struct CopyIn {
    session: Session,
    running: Running,
    format: CopyFormat,
    /// The columns that rows have, and where they stand in the table.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// Behind a lock only so that a reference to this may be held while a client is waited for.
    state: Mutex<Option<Box<State>>>,
    pending: BytesMut,
}

/// What decodes and inserts; it moves to the query threads and back.
struct State {
    table: Target,
    table_schema: SchemaRef,
    /// Where the columns of the rows stand in the table.
    columns: Vec<usize>,
    /// The column that rows without a list of columns may leave out.
    optional: Option<usize>,
    records: Records,
    header: Header,
    insertion: Insertion,
    /// What the rows must fulfil.
    new_rows: NewRows,
    zone: String,
    fields: Fields,
    begun: bool,
}

impl std::fmt::Debug for CopyIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyIn").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Copy {
    /// Starts the COPY.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        match self {
            Self::From(copy) => copy.run(&call).await,
            Self::To(copy) => copy.run(call).await,
        }
    }
}

impl CopyFrom {
    async fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        let target = Target::of(&call.running, &self.table)?;
        call.before_rows(&target)?;
        let info = target.info()?;
        let columns = self.columns(&info.name, &info.schema)?;
        let arrival = info.events.as_ref().and_then(|events| info.schema.index_of(&events.ingested_at).ok());
        let new_rows = call.new_rows(&target, self.names.clone()).await?;
        let options = self.options.clone();
        let zone = call.session.with_settings(|settings| settings.raw("TimeZone"))?;
        let insertion = target.insertion(call.ingest_options()).await?;
        let rows = (info.schema, columns, arrival.filter(|_| self.names.is_none()));
        let copy = CopyIn::new(call.session, &call.running, target, rows, &options, zone, (insertion, new_rows))?;
        Ok(Outcome::CopyIn(Box::new(copy)))
    }

    /// Where the columns of the list stand in the table.
    fn columns(&self, table: &str, schema: &SchemaRef) -> Result<Vec<usize>> {
        let Some(names) = &self.names else { return Ok((0..schema.fields().len()).collect()) };
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let at = schema
                .index_of(name)
                .map_err(|_| Error::new(Code::UndefinedColumn, format!("column \"{name}\" of relation \"{table}\" does not exist")))?;
            if found.contains(&at) {
                return Err(Error::new(Code::DuplicateColumn, format!("column \"{name}\" specified more than once")));
            }
            found.push(at);
        }
        Ok(found)
    }
}

impl CopyIn {
    fn new(
        session: &Session,
        running: &Running,
        table: Target,
        (table_schema, columns, optional): (SchemaRef, Vec<usize>, Option<usize>),
        options: &Options,
        zone: String,
        (insertion, new_rows): (Insertion, NewRows),
    ) -> Result<Self> {
        let schema = Arc::new(table_schema.project(&columns).map_err(|error| Error::internal(error.to_string()))?);
        if options.format != CopyFormat::Binary {
            values::check(&schema)?;
        }
        let state = State {
            table,
            columns: columns.clone(),
            optional,
            records: Records::new(options),
            header: options.header,
            insertion,
            new_rows,
            zone,
            fields: Fields::new(columns.len()),
            begun: false,
            table_schema,
        };
        Ok(Self {
            session: session.clone(),
            running: running.clone(),
            format: options.format,
            columns,
            schema,
            state: Mutex::new(Some(Box::new(state))),
            pending: BytesMut::new(),
        })
    }

    /// How the rows are written.
    pub fn format(&self) -> CopyFormat {
        self.format
    }

    /// The columns that rows have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many columns rows have.
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Takes the next bytes of rows in text or CSV; true when it is time to [`decode`](Self::decode) them.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        self.pending.len() >= PIECE_BYTES
    }

    /// Reads the bytes that were taken.
    ///
    /// # Errors
    /// 22P04 for records with too few or too many fields, 22P02 and others for values; 57014.
    pub async fn decode(&mut self) -> Result<()> {
        let piece = self.pending.split().freeze();
        self.step(move |mut state| async move {
            state.decode(&piece).await?;
            Ok(state)
        })
        .await
    }

    /// Fired when the statement must stop.
    pub fn cancel(&self) -> &CancellationToken {
        self.running.cancel()
    }

    /// The error of a statement that was stopped.
    pub fn stopped(&self) -> Error {
        self.running.stopped()
    }

    /// Takes whole rows, with the columns of [`schema`](Self::schema).
    ///
    /// # Errors
    /// As the insertion's.
    pub async fn rows(&mut self, rows: RecordBatch) -> Result<()> {
        self.step(move |mut state| async move {
            state.insert(&rows).await?;
            Ok(state)
        })
        .await
    }

    /// All rows have come: commits them. Returns the command tag.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and those of the commit.
    pub async fn finish(mut self) -> Result<String> {
        let (piece, binary) = (self.pending.split().freeze(), self.format == CopyFormat::Binary);
        let state = self.state.get_mut().take().ok_or_else(|| Error::internal("a COPY went on after an error"))?;
        let work = async move {
            let mut state = state;
            if !binary {
                state.decode(&piece).await?;
                state.last().await?;
            }
            let arrivals = state.insertion.finish().await?;
            Ok((arrivals, state.table))
        };
        let (arrivals, table): (Arrivals, Target) = self.running.run(work).await?;
        if arrivals.new != arrivals.read {
            self.running.notice(&arrivals.to_string());
        }
        table.written(&self.running, &self.session, true).await?;
        Ok(format!("COPY {}", arrivals.new))
    }

    /// Decodes on the query threads.
    async fn step<F>(&mut self, work: impl FnOnce(Box<State>) -> F) -> Result<()>
    where
        F: Future<Output = Result<Box<State>>> + Send + 'static,
    {
        let state = self.state.get_mut().take().ok_or_else(|| Error::internal("a COPY went on after an error"))?;
        let state = self.running.run(work(state)).await?;
        *self.state.get_mut() = Some(state);
        Ok(())
    }
}

impl State {
    async fn decode(&mut self, piece: &[u8]) -> Result<()> {
        self.records.push(piece);
        self.drain(false).await
    }

    /// The last record may lack its end of line.
    async fn last(&mut self) -> Result<()> {
        self.drain(true).await?;
        self.flush().await
    }

    async fn drain(&mut self, at_end: bool) -> Result<()> {
        while self.records.next(at_end, &mut self.fields)? {
            if !self.begun {
                self.begun = true;
                if self.first()? {
                    continue;
                }
            }
            if self.fields.last_len() != self.columns.len() {
                return Err(self.wrong_count());
            }
            if self.fields.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Looks at the first record: it may be a header (then true), and shows whether the optional column is there.
    fn first(&mut self) -> Result<bool> {
        if let Some(optional) = self.optional.filter(|_| self.fields.last_len() + 1 == self.columns.len()) {
            self.columns.retain(|column| *column != optional);
        }
        if self.header == Header::None {
            return Ok(false);
        }
        let names = self.fields.take_last();
        if self.header == Header::Match {
            let expected: Vec<&str> = self.columns.iter().map(|&column| self.table_schema.field(column).name().as_str()).collect();
            let given: Vec<&str> = names.iter().map(|name| name.as_deref().unwrap_or_default()).collect();
            if given != expected {
                return Err(Error::new(Code::BadCopyFormat, "column names in the header do not match those of the table").detail(format!(
                    "Expected: {}. Got: {}.",
                    expected.join(", "),
                    given.join(", ")
                )));
            }
        }
        Ok(true)
    }

    fn wrong_count(&self) -> Error {
        let given = self.fields.last_len();
        let error = match self.columns.get(given) {
            Some(&missing) => {
                let name = self.table_schema.field(missing).name();
                Error::new(Code::BadCopyFormat, format!("missing data for column \"{name}\""))
            }
            None => Error::new(Code::BadCopyFormat, "extra data after last expected column"),
        };
        error.detail(format!("COPY {}, line {}.", self.table.name, self.records.line()))
    }

    async fn flush(&mut self) -> Result<()> {
        if self.fields.is_empty() {
            return Ok(());
        }
        let (texts, lines) = self.fields.take(self.columns.len());
        let mut columns = Vec::with_capacity(texts.len());
        for (text, &at) in texts.iter().zip(&self.columns) {
            let field = self.table_schema.field(at);
            columns.push(values::read(text, field, &self.zone).map_err(|(row, error)| match error.detail {
                Some(_) => error,
                None => {
                    let line = lines.get(row).copied().unwrap_or_default();
                    error.detail(format!("COPY {}, line {line}, column {}.", self.table.name, field.name()))
                }
            })?);
        }
        let schema = self.table_schema.project(&self.columns).map_err(|error| Error::internal(error.to_string()))?;
        let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(nullable));
        let rows = RecordBatch::try_new(schema, columns).map_err(|error| Error::internal(format!("COPY: {error}")))?;
        self.insert(&rows).await
    }

    /// Fills in the columns that rows do not have.
    async fn insert(&mut self, rows: &RecordBatch) -> Result<()> {
        let fields = self.table_schema.fields().iter();
        let columns = fields.clone().enumerate().map(|(at, field)| match self.columns.iter().position(|column| *column == at) {
            Some(given) => Arc::clone(rows.column(given)),
            None => new_null_array(field.data_type(), rows.num_rows()),
        });
        let nullable: Vec<_> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let whole = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), columns.collect());
        let whole = whole.map_err(|error| Error::internal(format!("COPY: {error}")))?;
        self.new_rows.verify(&whole).map_err(classify)?;
        self.insertion.add(&whole).await
    }
}
