//! Tables of events in the catalog: a table and its quarantine are made together and dropped together; rows go in by
//! one door.
//!
//! Life of an INSERT, a COPY or an import: [`Catalog::insertion`] finds the table → [`Insertion::add`] takes batches as
//! they come → [`Insertion::finish`] commits them all at once and says what became of them. Dropped instead, nothing
//! was inserted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};

use super::erasure::user_columns;
use super::file::{Body, Relation};
use super::open::{Inner, Object, role_of};
use super::{Catalog, Created, ObjectKind};
use crate::storage::delta::DeltaTable;
use crate::storage::erasure::Refusal;
use crate::storage::events::ingest::Intake;
use crate::storage::events::optimize::{Rewritten, Scope, optimize};
use crate::storage::events::retain;
use crate::storage::types::{schema_to_text, table_schema};
use crate::storage::{Arrivals, EventColumns, EventOptions, IngestOptions, PlainIntake, Role};

impl Inner {
    /// Opens a table of rows of any kind; those of users who are suppressed will be left out.
    pub(super) fn plain_insertion(&self, table: &Arc<DeltaTable>, options: &IngestOptions) -> Insertion {
        let intake = PlainIntake::new(table, &self.env.read());
        let columns = user_columns(&self.state(), table);
        if columns.is_empty() {
            return Insertion(Kind::Plain(intake, None));
        }
        let refusal = Arc::new(Refusal::new(&self.forgotten, options.erasures));
        let suppression = Suppression { refusal: Arc::clone(&refusal), columns, rows: 0 };
        Insertion(Kind::Plain(intake.refusing(refusal), Some(suppression)))
    }
}

impl Catalog {
    /// `CREATE TABLE name (columns) WITH (user_column = …, …)`.
    ///
    /// # Errors
    /// As [`create_managed`](Self::create_managed); 42703 and 42804 for columns that do not exist or do not fit; 42P07
    /// when the quarantine's name is taken.
    pub async fn create_events(
        &self,
        name: &str,
        schema: SchemaRef,
        options: &EventOptions,
        if_not_exists: bool,
        owner: &str,
    ) -> Result<Created> {
        if self.existing(name, if_not_exists, false, ObjectKind::Table)? {
            return Ok(Created::Existed);
        }
        let made = self.make_events(name, &schema, options, true).await?;
        self.keep_events(name, made, if_not_exists, owner, None).await
    }

    /// `CREATE TABLE name WITH (user_column = …, …) AS query`: the table appears with all its events, or not at all.
    ///
    /// # Errors
    /// As [`create_events`](Self::create_events), and those of `stream`.
    pub async fn create_events_as(
        &self,
        name: &str,
        schema: SchemaRef,
        options: &EventOptions,
        ingest: IngestOptions,
        stream: SendableRecordBatchStream,
        owner: &str,
    ) -> Result<Arrivals> {
        self.existing(name, false, false, ObjectKind::Table)?;
        let (table, quarantine) = self.make_events(name, &schema, options, false).await?;
        let added = table.schema().fields().len() > schema.fields().len();
        let refusal = self.refusal(ingest.erasures);
        let mut intake = Intake::new(&table, &quarantine, &self.env(), ingest)?.refusing(Arc::clone(&refusal));
        intake.add_all(if added { with_arrival(stream, table.schema()) } else { stream }).await?;
        let arrivals = intake.finish().await?;
        self.keep_events(name, (table, quarantine), false, owner, Some(refusal)).await?;
        Ok(arrivals)
    }

    /// Counts erasures. A statement takes it before it is planned, and writes only if it is the same then.
    pub fn erasures_begun(&self) -> u64 {
        self.inner.forgotten.generation()
    }

    /// Whose rows a statement does not take that began at this count of [erasures](Self::erasures_begun).
    pub(super) fn refusal(&self, erasures: u64) -> Arc<Refusal> {
        Arc::new(Refusal::new(&self.inner.forgotten, erasures))
    }

    /// Opens `name` for rows; their columns will be the table's, by position.
    ///
    /// # Errors
    /// 42P01; 42809 for a view or a quarantine; 0A000 for an external table.
    pub fn insertion(&self, name: &str, options: IngestOptions) -> Result<Insertion> {
        let state = self.inner.state();
        let entry = state.entries.get(name).ok_or_else(|| self.undefined_table(name))?;
        let table = match &entry.object {
            Object::Managed(table) => table,
            Object::External(_) => {
                return Err(Error::new(Code::FeatureNotSupported, format!("cannot insert into external table \"{name}\"")));
            }
            Object::View(_) => return Err(Error::new(Code::WrongObjectType, format!("cannot insert into view \"{name}\""))),
        };
        match table.role() {
            Role::Plain => Ok(self.inner.plain_insertion(table, &options)),
            Role::Derived { .. } => Err(Error::new(Code::WrongObjectType, format!("cannot change materialized view \"{name}\""))
                .hint("Its rows come from its query: REFRESH MATERIALIZED VIEW makes them anew.")),
            Role::Quarantine { of, .. } => Err(Error::new(Code::WrongObjectType, format!("cannot insert into \"{name}\""))
                .detail(format!("It holds what table \"{of}\" refused."))),
            Role::Events(columns) => {
                let quarantine = state.entries.get(&columns.quarantine).map(|entry| &entry.object);
                let Some(Object::Managed(quarantine)) = quarantine else {
                    return Err(Error::new(Code::DataCorrupted, format!("table \"{name}\" has lost its quarantine")));
                };
                let refusal = self.refusal(options.erasures);
                Ok(Insertion(Kind::Events(Box::new(Intake::new(table, quarantine, &self.env(), options)?.refusing(refusal)))))
            }
        }
    }

    /// `INSERT INTO name`: one commit. (DataFusion's own DML plan reaches the same code through
    /// `TableProvider::insert_into`, but for events.)
    ///
    /// # Errors
    /// As [`insertion`](Self::insertion); 23502, 22003 and the errors of `stream`. Then no row is kept.
    pub async fn insert(&self, name: &str, stream: SendableRecordBatchStream, options: IngestOptions) -> Result<Arrivals> {
        self.insertion(name, options)?.add_all(stream).await
    }

    /// `OPTIMIZE name`.
    ///
    /// # Errors
    /// 42P01, 42809; as [`optimize`]'s.
    pub async fn optimize(&self, name: &str) -> Result<Rewritten> {
        let (table, env) = (self.managed(name)?, self.env());
        retain::apply(&table, &env, None, retain::Extent::Due).await?;
        optimize(&table, &env, Scope::Whole).await
    }

    /// `VACUUM name`: removes files that only versions older than this name. Returns how many.
    ///
    /// # Errors
    /// 42P01, 42809; a log that cannot be read.
    pub async fn vacuum(&self, name: &str, retention_ms: i64) -> Result<u64> {
        self.managed(name)?.vacuum(retention_ms).await
    }

    /// A table that keeps versions.
    fn managed(&self, name: &str) -> Result<Arc<DeltaTable>> {
        let state = self.inner.state();
        match &state.entries.get(name).ok_or_else(|| self.undefined_table(name))?.object {
            Object::Managed(table) => Ok(Arc::clone(table)),
            _ => Err(Error::new(Code::WrongObjectType, format!("\"{name}\" is not a table that keeps its own files"))),
        }
    }

    /// Makes a table of events and its quarantine; both go away again unless they are kept.
    async fn make_events(
        &self,
        name: &str,
        schema: &SchemaRef,
        options: &EventOptions,
        keep_not_null: bool,
    ) -> Result<(Arc<DeltaTable>, Arc<DeltaTable>)> {
        let (columns, schema) = EventColumns::resolve(name, &table_schema(schema, keep_not_null)?, options)?;
        self.existing(&columns.quarantine, false, false, ObjectKind::Table)?;
        let role = Role::Quarantine { of: name.to_owned(), ingested_at: columns.ingested_at.clone() };
        let (store, refused) = (&self.inner.store, EventColumns::quarantine_schema(&schema));
        let quarantine = DeltaTable::create(store, &columns.quarantine, refused, role).await?;
        let table = DeltaTable::create(store, name, schema, Role::Events(columns)).await?;
        Ok((Arc::new(table), Arc::new(quarantine)))
    }

    async fn keep_events(
        &self,
        name: &str,
        made: (Arc<DeltaTable>, Arc<DeltaTable>),
        if_not_exists: bool,
        owner: &str,
        refusal: Option<Arc<Refusal>>,
    ) -> Result<Created> {
        let (table, quarantine) = made;
        let relation = |table: &DeltaTable| {
            let body = Body::Managed { folder: table.id(), role: table.role().clone() };
            (table.name().to_owned(), schema_to_text(table.schema()), body)
        };
        let (relations, name, owner) = ([relation(&table), relation(&quarantine)], name.to_owned(), owner.to_owned());
        self.inner
            .change_with(vec![table, quarantine], move |definitions| {
                if if_not_exists && definitions.relations.contains_key(&name) {
                    return Ok(Created::Existed);
                }
                // An erasure that begins after this change finds the table.
                refusal.map_or(Ok(()), |refusal| refusal.still_holds_for(&name))?;
                for (name, schema, body) in relations {
                    if definitions.relations.contains_key(&name) {
                        return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists")));
                    }
                    let oid = definitions.take_oid();
                    definitions.access.begin(&super::Object::table(name.as_str()), &owner);
                    definitions.relations.insert(name, Relation { oid, owner: owner.clone(), schema, body });
                }
                Ok(Created::New)
            })
            .await
    }
}

/// Rows on their way into a table, in one commit.
pub struct Insertion(Kind);

enum Kind {
    Plain(PlainIntake, Option<Suppression>),
    Events(Box<Intake>),
}

/// Users whose rows are left out, and the columns that they are in.
pub(super) struct Suppression {
    pub(super) refusal: Arc<Refusal>,
    pub(super) columns: Vec<usize>,
    /// Rows that were left out.
    pub(super) rows: u64,
}

impl Suppression {
    pub(super) fn others(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| rows.column(*column));
        let Some(others) = self.refusal.users().others_in(columns)? else { return Ok(rows.clone()) };
        self.rows += (others.len() - others.true_count()) as u64;
        filter_record_batch(rows, &others).map_err(|error| Error::internal(error.to_string()))
    }
}

impl std::fmt::Debug for Insertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Insertion").finish_non_exhaustive()
    }
}

impl Insertion {
    /// Takes rows.
    ///
    /// # Errors
    /// 23502, 22003, 42804 for rows that do not fit; then nothing may be kept.
    pub async fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        match &mut self.0 {
            Kind::Plain(intake, None) => intake.add(rows).await,
            Kind::Plain(intake, Some(suppression)) => {
                let others = suppression.others(rows)?;
                intake.add(&others).await
            }
            Kind::Events(intake) => intake.add(rows).await,
        }
    }

    /// Takes all rows of a stream, and commits them.
    ///
    /// # Errors
    /// As [`add`](Self::add) and [`finish`](Self::finish), and those of the stream.
    pub async fn add_all(mut self, mut stream: SendableRecordBatchStream) -> Result<Arrivals> {
        while let Some(batch) = stream.next().await {
            self.add(&batch.map_err(crate::error::classify)?).await?;
        }
        self.finish().await
    }

    /// Commits all rows. A commit that has begun is carried through.
    ///
    /// # Errors
    /// 40001, 53100 and failures of the store; then no row is kept.
    pub async fn finish(self) -> Result<Arrivals> {
        match self.0 {
            Kind::Plain(intake, suppression) => {
                let (rows, suppressed) = (intake.finish().await?, suppression.map_or(0, |suppression| suppression.rows));
                Ok(Arrivals { read: rows + suppressed, new: rows, suppressed, ..Arrivals::default() })
            }
            Kind::Events(intake) => intake.finish().await,
        }
    }
}

/// The quarantine of a table of events.
pub(super) fn quarantine_of(body: &Body) -> Option<&String> {
    role_of(body)?.events().map(|columns| &columns.quarantine)
}

/// A quarantine goes with its table, never alone.
pub(super) fn may_drop(name: &str, body: &Body) -> Result<()> {
    match role_of(body) {
        Some(Role::Quarantine { of, .. }) => {
            Err(Error::new(Code::DependentObjects, format!("cannot drop table \"{name}\" because table \"{of}\" requires it"))
                .hint(format!("Drop table \"{of}\" instead.")))
        }
        _ => Ok(()),
    }
}

/// The rows of `stream` without those of users who are suppressed; how many are left out is added up.
pub(super) fn without_suppressed(
    stream: SendableRecordBatchStream,
    refusal: &Arc<Refusal>,
    columns: Vec<usize>,
    left_out: Arc<AtomicU64>,
) -> SendableRecordBatchStream {
    let (schema, mut suppression) = (stream.schema(), Suppression { refusal: Arc::clone(refusal), columns, rows: 0 });
    let rows = stream.map(move |batch| {
        let others = suppression.others(&batch?)?;
        left_out.store(suppression.rows, Ordering::Relaxed);
        Ok(others)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The rows with a last column of NULL: the time of arrival, which the table fills in.
fn with_arrival(stream: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    use datafusion::arrow::array::new_null_array;
    use datafusion::arrow::datatypes::{Field, Schema};

    let arrival = schema.fields().last().map(|field| field.data_type().clone()).unwrap_or(datafusion::arrow::datatypes::DataType::Null);
    let given = stream.schema();
    let fields = given.fields().iter().cloned().chain([Arc::new(Field::new("ingested_at", arrival.clone(), true))]);
    let wider = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let to = Arc::clone(&wider);
    let rows = stream.map(move |batch| {
        let batch = batch?;
        let mut columns = batch.columns().to_vec();
        columns.push(new_null_array(&arrival, batch.num_rows()));
        Ok(RecordBatch::try_new(Arc::clone(&to), columns)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(wider, rows))
}
