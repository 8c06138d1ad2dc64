//! `OPTIMIZE`: puts the same rows into fewer, larger files.
//!
//! Of an event table, files whose users overlap and small files are rewritten, range of users by range of users, until
//! files follow one another: then a scan needs no merge. Files that stand alone and are large stay as they are. Of any
//! other table, small files are joined. One commit removes the old files and adds the new ones; readers of older
//! versions keep the old ones until `VACUUM`.
//!
//! Many small commits are joined in the background, among themselves ([`in_background`]): the large files stay, so that
//! a trickle of events costs what it brings, not what the table holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::common::Statistics;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};
use uuid::Uuid;

use super::columns::EventIndices;
use super::erase::Keep;
use super::files::{FileNames, run_of};
use super::ids::{IdSorter, IdsWriter, duplicates};
use super::ingest::{Cutter, ranges_beside};
use super::retain;
use super::scan::EventScan;
use super::spans::{SMALL_FILE_ROWS, UserSpan, overlapping};
use super::table::{ids_location, known_ids, read_files, rows_of};
use crate::storage::delta::{Change, Committed, DeltaTable, TableSnapshot};
use crate::storage::sort::Sorter;
use crate::storage::writer::{PendingFiles, TableWriter};

/// A file of a table without order is large enough to stay.
const LARGE_FILE_BYTES: u64 = 128 << 20;

/// So many small files of small commits are joined without being asked.
const SMALL_COMMITS_MAX: usize = 32;

/// What an OPTIMIZE did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Files that went.
    pub removed: u64,
    /// Files that came instead.
    pub added: u64,
    /// Rows in them.
    pub rows: u64,
}

/// Which files are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that do not follow one another, or are small.
    Whole,
    /// Those of small commits.
    SmallCommits,
}

/// Joins small commits, once there are many, and takes events out that are too old, once they are worth it: in the
/// background, and one table's once at a time.
pub(super) fn in_background(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>, snapshot: &TableSnapshot) {
    let (small, old) = (small_commits(snapshot).len() >= SMALL_COMMITS_MAX, retain::is_due(table, snapshot));
    if !(small || old) || table.compacting.swap(true, Ordering::AcqRel) {
        return;
    }
    let (table, env) = (Arc::clone(table), Arc::clone(env));
    tokio::spawn(async move {
        if old {
            match retain::apply(&table, &env, None, retain::Extent::Due).await {
                Ok((_, gone)) => tracing::info!(table = %table.name(), rows = gone.rows, files = gone.files, "old events removed"),
                Err(error) => tracing::warn!(table = %table.name(), %error, "old events not removed"),
            }
        }
        if !small {
            table.compacting.store(false, Ordering::Release);
            return;
        }
        match optimize(&table, &env, Scope::SmallCommits).await {
            Ok(done) => {
                tracing::info!(table = %table.name(), removed = done.removed, added = done.added, rows = done.rows, "small files joined")
            }
            Err(error) => tracing::warn!(table = %table.name(), %error, "small files not joined"),
        }
        table.compacting.store(false, Ordering::Release);
    });
}

/// Files of commits that have small files only.
fn small_commits(snapshot: &TableSnapshot) -> Vec<usize> {
    let run = |file: &usize| run_of(&file_name(snapshot, *file));
    let small = |file: &usize| snapshot.spans[*file].as_ref().is_some_and(|span| span.rows < SMALL_FILE_ROWS);
    let large: HashSet<Option<Uuid>> = (0..snapshot.files.len()).filter(|file| !small(file)).map(|file| run(&file)).collect();
    (0..snapshot.files.len()).filter(|file| small(file) && !large.contains(&run(file))).collect()
}

/// Rewrites what is worth it.
///
/// # Errors
/// 40001 when another program removed files meanwhile; 55000 for rows that have no user or time.
pub(crate) async fn optimize(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>, scope: Scope) -> Result<Rewritten> {
    // What a statement compares its events with must not change while it does.
    let _turn = table.ingest_turn().await;
    let snapshot = table.snapshot().await?;
    let groups = match table.event_indices() {
        Some(_) if scope == Scope::SmallCommits => vec![small_commits(&snapshot)],
        Some(_) => match snapshot.spans.iter().cloned().collect::<Option<Vec<UserSpan>>>() {
            Some(spans) => overlapping(&spans),
            // Files of other programs have no order: everything is sorted.
            None => vec![(0..snapshot.files.len()).collect()],
        },
        None => small_files(&snapshot),
    };
    if groups.iter().all(Vec::is_empty) {
        return Ok(Rewritten::default());
    }
    let pending = match table.event_indices() {
        Some(_) => rewrite_events(table, env, &snapshot, &groups, scope, &mut Keep::all()).await?,
        None => rewrite_rows(table, env, &snapshot, &groups, &mut Keep::all()).await?,
    };
    let removed: Vec<String> = groups.iter().flatten().map(|&file| file_name(&snapshot, file)).collect();
    let done = Rewritten { removed: removed.len() as u64, added: pending.files().len() as u64, rows: pending.rows };
    if table.commit(pending, Change::Rewrite { removed }).await? == Committed::Conflict {
        return Err(table.overtaken());
    }
    if table.id_source().is_some() {
        // Of commits that were rewritten in part, the ids are made again now, not while somebody waits.
        known_ids(table, env, table.snapshot().await?.as_ref()).await?;
    }
    Ok(done)
}

pub(in crate::storage) fn file_name(snapshot: &TableSnapshot, file: usize) -> String {
    snapshot.files[file].object_meta.location.filename().unwrap_or_default().to_owned()
}

fn small_files(snapshot: &TableSnapshot) -> Vec<Vec<usize>> {
    let small = |file: &usize| snapshot.files[*file].object_meta.size < LARGE_FILE_BYTES;
    let files: Vec<usize> = (0..snapshot.files.len()).filter(small).collect();
    if files.len() > 1 { vec![files] } else { Vec::new() }
}

/// Rows in any order.
pub(super) async fn rewrite_rows(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    snapshot: &TableSnapshot,
    groups: &[Vec<usize>],
    keep: &mut Keep<'_>,
) -> Result<PendingFiles> {
    let run = Uuid::now_v7();
    let names = if table.id_source().is_none() { FileNames::Unordered } else { FileNames::Events(run) };
    let mut writer = TableWriter::new(table, names, env);
    let mut ids = Ids::new(table, env);
    let all: Vec<usize> = (0..table.schema().fields().len()).collect();
    for group in groups {
        let files = group.iter().map(|&file| snapshot.files[file].clone()).collect();
        let mut rows = read_files(table, env, files, &all).await?;
        while let Some(batch) = rows.next().await {
            let batch = keep.rows(batch.map_err(crate::storage::engine_error)?)?;
            ids.add(&batch).await?;
            writer.write(&batch).await?;
        }
    }
    ids.finish(table, run, &mut writer).await?;
    writer.finish().await
}

/// Events, in order.
pub(super) async fn rewrite_events(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    snapshot: &TableSnapshot,
    groups: &[Vec<usize>],
    scope: Scope,
    keep: &mut Keep<'_>,
) -> Result<PendingFiles> {
    let indices = &table.event_indices().ok_or_else(|| Error::internal("a table of events lost its columns"))?;
    let run = Uuid::now_v7();
    let mut writer = TableWriter::new(table, FileNames::Events(run), env);
    let mut ids = Ids::new(table, env);
    for group in groups {
        let part = part_of(table, snapshot, group)?;
        let rows: u64 = part.files.iter().map(|file| rows_of(file).unwrap_or_default()).sum();
        // Users of a group are in no other file, unless only small files are looked at.
        let ranges = if scope == Scope::SmallCommits { ranges_beside(snapshot, rows) } else { Vec::new() };
        let mut cutter = Cutter::new(table, indices, &ranges, rows)?;
        let mut stream = in_order(table, env, &part, indices).await?;
        while let Some(batch) = stream.next().await {
            let batch = keep.rows(batch.map_err(crate::storage::engine_error)?)?;
            if batch.column(indices.user).null_count() + batch.column(indices.time).null_count() > 0 {
                return Err(Error::new(Code::NotReady, format!("table \"{}\" holds events without user or time", table.name()))
                    .detail("Another program wrote them; they cannot be put in order.")
                    .hint("Remove them with that program, or copy the others with CREATE TABLE … WITH (…) AS SELECT."));
            }
            ids.add(&batch).await?;
            cutter.write(&mut writer, &batch).await?;
        }
        writer.close_file().await?;
    }
    ids.finish(table, run, &mut writer).await?;
    writer.finish().await
}

/// Some files of a version, as if they were all.
pub(super) fn part_of(table: &DeltaTable, snapshot: &TableSnapshot, files: &[usize]) -> Result<TableSnapshot> {
    let spans = files.iter().map(|&file| snapshot.spans[file].clone()).collect();
    let files: Vec<_> = files.iter().map(|&file| snapshot.files[file].clone()).collect();
    let each = files.iter().filter_map(|file| file.statistics.as_deref());
    let statistics = Statistics::try_merge_iter(each, table.schema()).map_err(crate::storage::engine_error)?;
    Ok(TableSnapshot { version: snapshot.version, files, spans, statistics })
}

/// The rows of files by (user, time): merged where each file is in order, sorted otherwise.
async fn in_order(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    part: &TableSnapshot,
    indices: &EventIndices,
) -> Result<SendableRecordBatchStream> {
    let engine = crate::storage::engine_error;
    let context = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), Arc::clone(env));
    let state = context.state();
    let url = crate::storage::managed::store_url().map_err(engine)?;
    env.register_object_store(url.as_ref(), Arc::clone(table.store()));
    let nullable = table.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema: SchemaRef = Arc::new(Schema::new(nullable.collect::<Fields>()));
    let scan =
        EventScan { state: &state, schema: &schema, indices: *indices, snapshot: part, projection: None, limit: None, pruning: None };
    if let Some(plan) = scan.plan().await.map_err(engine)? {
        return execute_stream(plan, context.task_ctx()).map_err(engine);
    }
    // First what they are sorted by, then the others.
    let others = (0..schema.fields().len()).filter(|index| *index != indices.user && *index != indices.time);
    let sorted_by: Vec<usize> = [indices.user, indices.time].into_iter().chain(others).collect();
    let mut rows = read_files(table, env, part.files.clone(), &sorted_by).await?;
    let mut sorter = Sorter::new(env, rows.schema(), 2);
    while let Some(batch) = rows.next().await {
        sorter.add(batch.map_err(engine)?).await?;
    }
    let sorted = Arc::new(sorter.finish().await?).rows()?;
    let back: Vec<usize> = (0..sorted_by.len()).map(|index| sorted_by.iter().position(|at| *at == index).unwrap_or(index)).collect();
    let to = Arc::new(sorted.schema().project(&back).map_err(|error| Error::internal(error.to_string()))?);
    let rows = sorted.map(move |batch| Ok(batch?.project(&back)?));
    Ok(Box::pin(RecordBatchStreamAdapter::new(to, rows)))
}

/// The ids of the rows that are rewritten.
struct Ids {
    source: Option<super::ids::IdSource>,
    sorter: IdSorter,
    rows: u64,
}

impl Ids {
    fn new(table: &DeltaTable, env: &Arc<RuntimeEnv>) -> Self {
        Self { source: table.id_source(), sorter: IdSorter::new(env), rows: 0 }
    }

    async fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let numbers: Vec<u64> = (self.rows..).take(rows.num_rows()).collect();
        self.rows += rows.num_rows() as u64;
        self.sorter.add(&source.ids(rows)?, &numbers).await
    }

    async fn finish(self, table: &DeltaTable, run: Uuid, writer: &mut TableWriter) -> Result<()> {
        if self.source.is_none() {
            return Ok(());
        }
        let location = ids_location(table, &format!("{run}.ids"));
        let mut output = IdsWriter::new(table.store(), location.clone());
        duplicates(&self.sorter.finish().await?, &[], &mut output).await?;
        output.finish(self.rows).await?;
        writer.keep_beside(location);
        Ok(())
    }
}
