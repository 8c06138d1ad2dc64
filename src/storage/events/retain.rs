//! Retention: events that are older than a table keeps them.
//!
//! `WITH (retention = '400 days')` keeps the events of that length before the newest one of the table: age is counted from
//! the data's own watermark, not from the clock, so that what a table answers depends on its rows alone, a copy of it
//! answers the same a year later, and a log that has stopped growing does not vanish. Whoever must forget by the clock says
//! so: `apply_retention('events', as_of => now())`.
//!
//! Older events are in no answer from the moment they are too old ([`young`]): files without younger ones are not read, and
//! a filter stands above the others. Their bytes go with [`apply`], which writes files anew in one commit; older versions
//! keep theirs until `VACUUM`. What comes too late is quarantined ([`super::sift`]). In the background, and at OPTIMIZE, files
//! are written anew once enough of them is too old.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::{Result as EngineResult, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, is_null, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use portrait_udfs::error::{Error, Result};
use uuid::Uuid;

use super::erase::{Erased, Keep};
use super::files::FileNames;
use super::optimize::{Scope, file_name, part_of, rewrite_events, rewrite_rows};
use super::table::{known_ids, rows_of};
use crate::storage::delta::{Change, Committed, DeltaTable, TableSnapshot};
use crate::storage::writer::TableWriter;

/// A file is written anew without being asked once this share of its time is too old: then what is written over the years
/// is a small multiple of what goes.
const SHARE_DUE: f64 = 0.25;
/// Files are left alone in the background until about so many rows are too old.
const ROWS_DUE: f64 = 65_536.0;

/// How old a file's events are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Age {
    /// None is too old.
    Young,
    /// Some are; the share of the file's time that is, `None` when it does not tell its times.
    Mixed(Option<f64>),
    /// All are.
    Old,
}

/// Which files are written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every one that holds an event that is too old.
    All,
    /// Those of which it is worth it.
    Due,
}

fn microseconds(bound: &Precision<ScalarValue>) -> Option<i64> {
    match bound {
        Precision::Exact(ScalarValue::TimestampMicrosecond(Some(time), _)) => Some(*time),
        _ => None,
    }
}

/// The least and the greatest time of a file; rows without a time are not among them.
fn bounds(file: &PartitionedFile, time: usize) -> Option<(i64, i64)> {
    let column = file.statistics.as_ref()?.column_statistics.get(time)?;
    Some((microseconds(&column.min_value)?, microseconds(&column.max_value)?))
}

fn age(file: &PartitionedFile, time: usize, cutoff_us: i64) -> Age {
    let Some((least, greatest)) = bounds(file, time) else { return Age::Mixed(None) };
    let whole = || {
        let column = file.statistics.as_ref().and_then(|statistics| statistics.column_statistics.get(time));
        column.is_some_and(|column| column.null_count == Precision::Exact(0))
    };
    if least >= cutoff_us {
        Age::Young
    } else if greatest < cutoff_us && whole() {
        Age::Old
    } else {
        let (length, gone) = (greatest.saturating_sub(least) as f64, cutoff_us.saturating_sub(least) as f64);
        Age::Mixed(Some(if length > 0.0 { (gone / length).min(1.0) } else { 1.0 }))
    }
}

/// The latest time that files tell; `None` when none does.
fn watermark(snapshot: &TableSnapshot, time: usize) -> Option<i64> {
    snapshot.files.iter().filter_map(|file| bounds(file, time)).map(|(_, greatest)| greatest).max()
}

impl DeltaTable {
    /// Events before this time are not shown; `None` when all are. Also of an older version: what is too old now is too old
    /// there.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub(crate) async fn cutoff(&self) -> Result<Option<i64>> {
        let (Some(retention_us), Some(indices)) = (self.retention_us(), self.event_indices()) else { return Ok(None) };
        let snapshot = self.snapshot().await?;
        Ok(watermark(&snapshot, indices.time).map(|latest| latest.saturating_sub(retention_us)))
    }
}

/// A version without files that are too old as a whole, and whether others hold events that are.
///
/// # Errors
/// Statistics that do not fit the table.
pub(in crate::storage) fn young(
    table: &DeltaTable,
    snapshot: Arc<TableSnapshot>,
    time: usize,
    cutoff_us: i64,
) -> Result<(Arc<TableSnapshot>, bool)> {
    let ages: Vec<Age> = snapshot.files.iter().map(|file| age(file, time, cutoff_us)).collect();
    let mixed = ages.iter().any(|age| matches!(age, Age::Mixed(_)));
    if !ages.contains(&Age::Old) {
        return Ok((snapshot, mixed));
    }
    let kept: Vec<usize> = (0..ages.len()).filter(|file| ages[*file] != Age::Old).collect();
    if kept.is_empty() {
        let statistics = Statistics::new_unknown(table.schema());
        return Ok((Arc::new(TableSnapshot { version: snapshot.version, files: Vec::new(), spans: Vec::new(), statistics }), false));
    }
    Ok((Arc::new(part_of(table, &snapshot, &kept)?), mixed))
}

/// The rows of `plan` that are not before `cutoff_us` by the column `time`, or have no time; the first `columns` columns stay.
///
/// # Errors
/// A plan without that column.
pub(in crate::storage) fn newer(
    plan: Arc<dyn ExecutionPlan>,
    time: &str,
    cutoff_us: i64,
    columns: usize,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new_with_schema(time, &schema)?);
    let cutoff = ScalarValue::TimestampMicrosecond(Some(cutoff_us), None).cast_to(&column.data_type(&schema)?)?;
    let late = binary(Arc::clone(&column), Operator::GtEq, lit(cutoff), &schema)?;
    let predicate = binary(late, Operator::Or, is_null(column)?, &schema)?;
    let kept = (columns < schema.fields().len()).then(|| (0..columns).collect::<Vec<_>>());
    Ok(Arc::new(FilterExecBuilder::new(predicate, plan).apply_projection(kept)?.build()?))
}

/// Whether files should be written anew without being asked: enough rows go with those that are due.
pub(super) fn is_due(table: &DeltaTable, snapshot: &TableSnapshot) -> bool {
    let (Some(retention_us), Some(indices)) = (table.retention_us(), table.event_indices()) else { return false };
    let Some(latest) = watermark(snapshot, indices.time) else { return false };
    let cutoff_us = latest.saturating_sub(retention_us);
    let old = |file: &PartitionedFile| {
        let rows = rows_of(file).unwrap_or_default() as f64;
        match age(file, indices.time, cutoff_us) {
            age if !due(age) => 0.0,
            Age::Mixed(Some(share)) => rows * share,
            _ => rows,
        }
    };
    snapshot.files.iter().map(old).sum::<f64>() >= ROWS_DUE
}

fn due(age: Age) -> bool {
    match age {
        Age::Young => false,
        Age::Mixed(share) => share.is_some_and(|share| share >= SHARE_DUE),
        Age::Old => true,
    }
}

/// Takes events that are too old out of the files of a table of events: as of its newest event, or as of another time.
/// Returns since when events are kept (`None` = there are none, or all are kept), and what went.
///
/// # Errors
/// 40001 when another program removed files meanwhile; failures of the store. Then nothing has changed.
pub(crate) async fn apply(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    as_of_us: Option<i64>,
    extent: Extent,
) -> Result<(Option<i64>, Erased)> {
    let (Some(retention_us), Some(indices)) = (table.retention_us(), table.event_indices()) else { return Ok((None, Erased::default())) };
    let _turn = table.ingest_turn().await;
    let snapshot = table.snapshot().await?;
    let Some(latest) = as_of_us.or_else(|| watermark(&snapshot, indices.time)) else { return Ok((None, Erased::default())) };
    let cutoff_us = latest.saturating_sub(retention_us);
    let gone = remove_before(table, env, &snapshot, (indices.time, cutoff_us), extent).await?;
    Ok((Some(cutoff_us), gone))
}

/// Takes refusals that came before `cutoff_us` out of a quarantine.
///
/// # Errors
/// As [`apply`].
pub(crate) async fn apply_to_quarantine(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>, cutoff_us: i64) -> Result<Erased> {
    let crate::storage::Role::Quarantine { ingested_at, .. } = table.role() else { return Ok(Erased::default()) };
    let arrival = table.schema().index_of(ingested_at).map_err(|error| Error::internal(error.to_string()))?;
    let _turn = table.ingest_turn().await;
    let snapshot = table.snapshot().await?;
    remove_before(table, env, &snapshot, (arrival, cutoff_us), Extent::All).await
}

/// Takes rows before a time out of the files of a version, in one commit. The caller has the table's turn.
async fn remove_before(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    snapshot: &TableSnapshot,
    (time, cutoff_us): (usize, i64),
    extent: Extent,
) -> Result<Erased> {
    let ages: Vec<Age> = snapshot.files.iter().map(|file| age(file, time, cutoff_us)).collect();
    let wanted = |file: &usize| match extent {
        Extent::All => ages[*file] != Age::Young,
        Extent::Due => due(ages[*file]),
    };
    let touched: Vec<usize> = (0..ages.len()).filter(wanted).collect();
    if touched.is_empty() {
        return Ok(Erased::default());
    }
    let (old, mixed): (Vec<usize>, Vec<usize>) = touched.iter().copied().partition(|file| ages[*file] == Age::Old);
    let mut keep = Keep::since(time, cutoff_us);
    let groups: Vec<Vec<usize>> = mixed.iter().map(|file| vec![*file]).collect();
    let pending = match table.event_indices() {
        _ if groups.is_empty() => TableWriter::new(table, FileNames::Events(Uuid::now_v7()), env).finish().await?,
        Some(_) => rewrite_events(table, env, snapshot, &groups, Scope::Whole, &mut keep).await?,
        None => rewrite_rows(table, env, snapshot, &groups, &mut keep).await?,
    };
    let rows = keep.gone() + old.iter().filter_map(|file| rows_of(&snapshot.files[*file])).sum::<u64>();
    if rows == 0 {
        // Files that do not tell their times, and hold nothing that is too old.
        return Ok(Erased::default());
    }
    let removed: Vec<String> = touched.iter().map(|&file| file_name(snapshot, file)).collect();
    let gone = Erased { rows, files: removed.len() as u64 };
    if table.commit(pending, Change::Erase { removed }).await? == Committed::Conflict {
        return Err(table.overtaken());
    }
    if table.id_source().is_some() {
        // Of commits that lost some of their events, the ids are made again now, not while somebody waits.
        known_ids(table, env, table.snapshot().await?.as_ref()).await?;
    }
    Ok(gone)
}
