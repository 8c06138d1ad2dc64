//! Takes events into a table: each once, in order, in one commit.
//!
//! Life of a statement's rows: [`Intake::add`] checks and sifts each batch as it comes and spools it, sorted by (user,
//! time), with its id beside it; memory is bounded, the rest is in the spill folder. [`Intake::finish`] takes the
//! table's ingest lock, compares the ids with those of the latest version, merges what is new into files that are cut
//! between users, and commits. When a writer outside this process came first, comparison and files are made again
//! from the spool. Refused rows go the same way into the quarantine, before the events: what a committed statement
//! refused can always be read.
//!
//! Dropped before it is done (an error, a cancelled statement), nothing is left of it.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use portrait_udfs::error::{Error, Result};
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::columns::EventIndices;
use super::files::FileNames;
use super::ids::{IdSorter, IdSource, IdsWriter, SortedIds, duplicates};
use super::optimize::in_background;
use super::sift::{Sift, unspool};
use super::spans::boundaries;
use super::table::{ids_location, known_ids};
use crate::storage::delta::{Change, Committed, DeltaTable, TableSnapshot};
use crate::storage::erasure::Refusal;
use crate::storage::history::layout::Keys;
use crate::storage::sort::{Sorted, Sorter};
use crate::storage::types::conform;
use crate::storage::writer::{PendingFiles, TableWriter};

/// Ranges of users that a commit is cut into, at most.
pub(super) const RANGES_MAX: usize = 16;
/// Rows of a file: a commit is cut into [`RANGES_MAX`] files, unless they would be smaller or larger than this.
const FILE_ROWS: std::ops::RangeInclusive<u64> = 65_536..=4_194_304;
/// A commit of fewer rows is not cut at the table's ranges: many tiny files are worse than one that lies across.
const CUT_ROWS: u64 = 16_384;
/// How often a statement starts over because another writer came first.
const ATTEMPTS: usize = 16;

/// What a statement says of the events that it brings.
#[derive(Debug, Clone, Copy)]
pub struct IngestOptions {
    /// Now, in microseconds since 1970: the time of arrival.
    pub now_us: i64,
    /// Events later than now by more than this, in microseconds, are from the future.
    pub future_tolerance_us: i64,
    /// What the catalog's `erasures_begun` said before the statement was planned: what was read before an erasure is not
    /// written after it.
    pub erasures: u64,
}

/// What became of a statement's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Rows that came.
    pub read: u64,
    /// Rows that the table did not have.
    pub new: u64,
    /// Rows whose id the table, or an earlier row, had already.
    pub duplicate: u64,
    /// Rows that were refused.
    pub quarantined: u64,
    /// Rows of users who are suppressed: they were left out.
    pub suppressed: u64,
}

impl std::fmt::Display for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "read {}, new {}, duplicate {}, quarantined {}", self.read, self.new, self.duplicate, self.quarantined)?;
        if self.suppressed > 0 { write!(f, ", suppressed {}", self.suppressed) } else { Ok(()) }
    }
}

/// Rows on their way into an event table.
pub(crate) struct Intake {
    table: Arc<DeltaTable>,
    quarantine: Arc<DeltaTable>,
    env: Arc<RuntimeEnv>,
    indices: EventIndices,
    sift: Sift,
    events: Spool,
    refused: Spool,
    read: u64,
    suppressed: u64,
    refusal: Option<Arc<Refusal>>,
    begun: bool,
}

impl Intake {
    pub(crate) fn new(
        table: &Arc<DeltaTable>,
        quarantine: &Arc<DeltaTable>,
        env: &Arc<RuntimeEnv>,
        options: IngestOptions,
    ) -> Result<Self> {
        let columns = table.role().events().ok_or_else(|| Error::internal("events for a table that keeps none"))?;
        let latest_us = options.now_us.saturating_add(options.future_tolerance_us);
        let sift = Sift::new(columns, table.schema(), options.now_us, latest_us)?;
        let indices = columns.indices(table.schema())?;
        // In a spooled event the id has another place than in the table: it is taken before.
        let events = Spool::new(env, sift.spool_schema(), 3, indices.event_id.is_some());
        let refused = Spool::new(env, sift.refused_schema(), 1, true);
        Ok(Self {
            table: Arc::clone(table),
            quarantine: Arc::clone(quarantine),
            env: Arc::clone(env),
            indices,
            sift,
            events,
            refused,
            read: 0,
            suppressed: 0,
            refusal: None,
            begun: false,
        })
    }

    /// Leaves out events of users who are suppressed, and commits nothing when users are erased meanwhile.
    pub(crate) fn refusing(mut self, refusal: Arc<Refusal>) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// Takes rows; their columns are the table's, by position.
    ///
    /// # Errors
    /// As [`conform`]: then nothing of the statement may be kept.
    pub(crate) async fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.sift.refuse_before(self.table.cutoff().await?);
        }
        let mut rows = conform(rows, self.table.schema(), self.table.name())?;
        if let Some(refusal) = &self.refusal
            && let Some(others) = refusal.users().others(rows.column(self.indices.user))?
        {
            let kept = filter_record_batch(&rows, &others).map_err(|error| Error::internal(error.to_string()))?;
            self.suppressed += (rows.num_rows() - kept.num_rows()) as u64;
            rows = kept;
        }
        let (events, refusals) = self.sift.split(&rows, self.read)?;
        self.read += rows.num_rows() as u64;
        let id = self.spooled_id();
        self.events.add(events, id.as_ref(), 2).await?;
        self.refused.add(refusals, self.quarantine.id_source().map(|source| source.behind_one()).as_ref(), 0).await
    }

    /// Takes all rows of a stream.
    ///
    /// # Errors
    /// As [`add`](Self::add), and those of the stream.
    pub(crate) async fn add_all(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.next().await {
            self.add(&batch.map_err(crate::storage::engine_error)?).await?;
        }
        Ok(())
    }

    /// Commits what is new.
    ///
    /// # Errors
    /// 40001 when other writers came first again and again; 53100; failures of the store. Then no event is kept.
    pub(crate) async fn finish(self) -> Result<Arrivals> {
        let Self { table, quarantine, env, indices, events, refused, read, suppressed, refusal, .. } = self;
        let quarantined = refused.count;
        if quarantined > 0 {
            let source = Staged::new(quarantine, refused, Shape::Refused, refusal.clone()).await?;
            source.commit(&env).await?;
        }
        let accepted = events.count;
        let new = match accepted {
            0 => 0,
            _ => Staged::new(Arc::clone(&table), events, Shape::Events(indices), refusal).await?.commit(&env).await?,
        };
        if new > 0
            && let Ok(snapshot) = table.snapshot().await
        {
            in_background(&table, &env, &snapshot);
        }
        Ok(Arrivals { read: read + suppressed, new, duplicate: accepted - new, quarantined, suppressed })
    }

    /// Where a spooled event has its id.
    fn spooled_id(&self) -> Option<IdSource> {
        let index = self.indices.event_id?;
        let before = [self.indices.user, self.indices.time].into_iter().filter(|taken| *taken < index).count();
        Some(IdSource::Column(3 + index - before))
    }
}

/// Rows in the order of their keys, and their ids.
struct Spool {
    rows: Sorter,
    ids: Option<IdSorter>,
    count: u64,
}

impl Spool {
    fn new(env: &Arc<RuntimeEnv>, schema: &SchemaRef, keys: usize, with_ids: bool) -> Self {
        let ids = with_ids.then(|| IdSorter::new(env));
        Self { rows: Sorter::new(env, Arc::clone(schema), keys), ids, count: 0 }
    }

    async fn add(&mut self, rows: RecordBatch, source: Option<&IdSource>, number: usize) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.count += rows.num_rows() as u64;
        if let (Some(ids), Some(source)) = (&mut self.ids, source) {
            let numbers = rows.column(number).as_primitive::<UInt64Type>().values();
            ids.add(&source.ids(&rows)?, numbers).await?;
        }
        self.rows.add(rows).await
    }
}

/// How spooled rows become rows of the table.
#[derive(Clone, Copy)]
enum Shape {
    Events(EventIndices),
    Refused,
}

impl Shape {
    /// The column with the number of a spooled row.
    fn number(self) -> usize {
        match self {
            Self::Events(_) => 2,
            Self::Refused => 0,
        }
    }

    fn rows(self, spooled: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        match self {
            Self::Events(indices) => unspool(spooled, schema, &indices),
            Self::Refused => {
                let columns = spooled.columns().iter().skip(1).cloned().collect();
                RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| Error::internal(format!("refused events: {error}")))
            }
        }
    }
}

/// All rows of a statement for one table.
struct Staged {
    table: Arc<DeltaTable>,
    rows: Arc<Sorted>,
    ids: Option<SortedIds>,
    count: u64,
    shape: Shape,
    refusal: Option<Arc<Refusal>>,
}

impl Staged {
    async fn new(table: Arc<DeltaTable>, spool: Spool, shape: Shape, refusal: Option<Arc<Refusal>>) -> Result<Self> {
        let ids = match spool.ids {
            Some(ids) => Some(ids.finish().await?),
            None => None,
        };
        Ok(Self { table, rows: Arc::new(spool.rows.finish().await?), ids, count: spool.count, shape, refusal })
    }

    /// Commits the rows that the table does not have. Returns how many.
    async fn commit(self, env: &Arc<RuntimeEnv>) -> Result<u64> {
        let table = Arc::clone(&self.table);
        // Comparing and committing is one statement's at a time: what one commits, the next one compares with.
        let _turn = table.ingest_turn().await;
        if let Some(refusal) = &self.refusal {
            refusal.still_holds_for(table.name())?;
        }
        for _ in 0..ATTEMPTS {
            let snapshot = table.snapshot().await?;
            let Some((pending, new)) = self.write(env, &snapshot).await? else { continue };
            if new == 0 {
                return Ok(0);
            }
            match table.commit(pending, Change::Append { only_at: Some(snapshot.version) }).await? {
                Committed::Yes => return Ok(new),
                Committed::Conflict => tracing::debug!(table = %table.name(), "another writer came first: comparing anew"),
            }
        }
        Err(table.overtaken())
    }

    /// Writes the rows that `snapshot` does not have; `None` when its ids were damaged and have to be made anew.
    async fn write(&self, env: &Arc<RuntimeEnv>, snapshot: &TableSnapshot) -> Result<Option<(PendingFiles, u64)>> {
        let run = Uuid::now_v7();
        let mut writer = TableWriter::new(&self.table, FileNames::Events(run), env);
        let mut dropped = RoaringTreemap::new();
        if let Some(ids) = &self.ids {
            let known = known_ids(&self.table, env, snapshot).await?;
            let location = ids_location(&self.table, &format!("{run}.ids"));
            let mut output = IdsWriter::new(self.table.store(), location.clone());
            dropped = match duplicates(ids, &known, &mut output).await {
                Ok(dropped) => dropped,
                Err(error) if known.iter().any(|ids| ids.is_damaged()) => {
                    tracing::warn!(%error, "ids of events are made again from the data");
                    self.table.forget_ids(known.iter().filter(|ids| ids.is_damaged())).await?;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if dropped.len() == self.count {
                return Ok(Some((writer.finish().await?, 0)));
            }
            output.finish(self.count - dropped.len()).await?;
            writer.keep_beside(location);
        }
        let new = self.count - dropped.len();
        let mut cutter = match self.shape {
            Shape::Events(indices) => Some(Cutter::new(&self.table, &indices, &ranges_beside(snapshot, new), new)?),
            Shape::Refused => None,
        };
        let mut rows = self.rows.rows()?;
        while let Some(batch) = rows.next().await {
            let batch = without(&batch.map_err(crate::storage::engine_error)?, self.shape.number(), &dropped)?;
            let batch = self.shape.rows(&batch, self.table.schema())?;
            match &mut cutter {
                Some(cutter) => cutter.write(&mut writer, &batch).await?,
                None => writer.write(&batch).await?,
            }
        }
        Ok(Some((writer.finish().await?, new)))
    }
}

/// The users at which `rows` new rows are cut, so that they fit the files of `snapshot`.
pub(super) fn ranges_beside(snapshot: &TableSnapshot, rows: u64) -> Vec<ScalarValue> {
    if rows < CUT_ROWS { Vec::new() } else { boundaries(&snapshot.ordered(), RANGES_MAX) }
}

/// The rows whose number is not in `dropped`.
fn without(rows: &RecordBatch, number: usize, dropped: &RoaringTreemap) -> Result<RecordBatch> {
    if dropped.is_empty() {
        return Ok(rows.clone());
    }
    let numbers = rows.column(number).as_primitive::<UInt64Type>().values();
    let kept: BooleanArray = numbers.iter().map(|number| Some(!dropped.contains(*number))).collect();
    filter_record_batch(rows, &kept).map_err(|error| Error::internal(error.to_string()))
}

/// Cuts rows that come in order of users into files, always between two users.
pub(super) struct Cutter {
    user: usize,
    key_type: DataType,
    /// Users at which a file ends, ascending.
    boundaries: Vec<Keys>,
    file_rows: u64,
    rows: u64,
    last: Option<Keys>,
}

impl Cutter {
    /// Cuts `rows` rows at these users, and where files grow large.
    pub(super) fn new(table: &DeltaTable, indices: &EventIndices, ranges: &[ScalarValue], rows: u64) -> Result<Self> {
        let whole = table.schema().field(indices.user).data_type().is_signed_integer();
        let key_type = if whole { DataType::Int64 } else { DataType::Utf8 };
        let keys = ranges.iter().map(|user| Keys::new(&user.to_array().map_err(crate::storage::engine_error)?, &key_type));
        let boundaries = keys.collect::<Result<Vec<_>>>()?;
        let file_rows = (rows / RANGES_MAX as u64 + 1).clamp(*FILE_ROWS.start(), *FILE_ROWS.end());
        Ok(Self { user: indices.user, key_type, boundaries, file_rows, rows: 0, last: None })
    }

    /// Writes rows, in files of their own where they are cut.
    pub(super) async fn write(&mut self, writer: &mut TableWriter, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keys = Keys::new(rows.column(self.user), &self.key_type)?;
        let mut start = 0;
        for cut in self.cuts(&keys, writer.is_full()) {
            writer.write(&rows.slice(start, cut - start)).await?;
            writer.close_file().await?;
            start = cut;
        }
        writer.write(&rows.slice(start, rows.num_rows() - start)).await?;
        self.last = Some(keys.slice(keys.len() - 1, 1));
        Ok(())
    }

    /// The rows that begin a file.
    fn cuts(&mut self, keys: &Keys, mut full: bool) -> Vec<usize> {
        let mut cuts = Vec::new();
        for row in 0..keys.len() {
            let begins = match row {
                0 => self.last.as_ref().is_some_and(|last| last.compare(0, keys, 0).is_ne()),
                row => keys.compare(row, keys, row - 1).is_ne(),
            };
            if row == 0 || begins {
                // Boundaries that are reached: of those before the very first row nothing is cut.
                let reached = self.boundaries.iter().take_while(|boundary| boundary.compare(0, keys, row).is_le()).count();
                self.boundaries.drain(..reached);
                if begins && (reached > 0 || full || self.rows >= self.file_rows) {
                    cuts.push(row);
                    (self.rows, full) = (0, false);
                }
            }
            self.rows += 1;
        }
        cuts
    }
}

#[cfg(test)]
#[path = "faults.rs"]
mod faults;
