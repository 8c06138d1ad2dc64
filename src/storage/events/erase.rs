//! Takes the rows of some users out of a table's files.
//!
//! Files that hold such rows are written anew without them, in one commit; the others stay. Then everything goes that only older
//! versions name: files, files of ids, and the log's entries, which tell each file's first and last user.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use portrait_udfs::error::{Error, Result};

use super::optimize::{Scope, file_name, rewrite_events, rewrite_rows};
use super::table::{known_ids, read_files};
use crate::storage::delta::{Change, Committed, DeltaTable, TableSnapshot};
use crate::storage::erasure::Users;

/// What an erasure did to a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Erased {
    /// Rows that are gone.
    pub(crate) rows: u64,
    /// Files that held them.
    pub(crate) files: u64,
}

/// Rows that are written again, and those that are not.
pub(super) struct Keep<'a> {
    users: Option<(&'a Users, &'a [usize])>,
    /// A column of times, and the first one that stays.
    since: Option<(usize, i64)>,
    gone: u64,
}

impl<'a> Keep<'a> {
    /// All of them.
    pub(super) fn all() -> Self {
        Self { users: None, since: None, gone: 0 }
    }

    /// Those of others than `users`, who are in these columns.
    fn others(users: &'a Users, columns: &'a [usize]) -> Self {
        Self { users: Some((users, columns)), since: None, gone: 0 }
    }

    /// Those that are not before a time by a column, or have none there.
    pub(super) fn since(column: usize, first_us: i64) -> Self {
        Self { users: None, since: Some((column, first_us)), gone: 0 }
    }

    /// How many were not written again.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    pub(super) fn rows(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let rows = match self.users {
            Some((users, columns)) => match users.others_in(columns.iter().map(|column| rows.column(*column)))? {
                Some(others) => self.filtered(&rows, &others)?,
                None => rows,
            },
            None => rows,
        };
        let Some((column, first_us)) = self.since else { return Ok(rows) };
        let times = rows.column(column).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| Error::internal("a column of times has another type"))?;
        let kept: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time >= first_us))).collect();
        self.filtered(&rows, &kept)
    }

    fn filtered(&mut self, rows: &RecordBatch, kept: &BooleanArray) -> Result<RecordBatch> {
        self.gone += (kept.len() - kept.true_count()) as u64;
        filter_record_batch(rows, kept).map_err(|error| Error::internal(error.to_string()))
    }
}

/// Takes the rows of `users` out of the latest version; `columns` say whose a row is. What will be gone is announced before
/// it is.
///
/// # Errors
/// 40001 when another program removed files meanwhile; failures of the store, and `announce`'s. Then nothing has changed.
pub(crate) async fn erase<F: Future<Output = Result<()>> + Send>(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    columns: &[usize],
    users: &Users,
    announce: impl FnOnce(Erased) -> F,
) -> Result<Erased> {
    let _turn = table.ingest_turn().await;
    let snapshot = table.snapshot().await?;
    let mut held = Vec::new();
    for file in 0..snapshot.files.len() {
        if holds(table, env, &snapshot, file, columns, users).await? {
            held.push(file);
        }
    }
    if held.is_empty() {
        return Ok(Erased::default());
    }
    let mut keep = Keep::others(users, columns);
    let groups: Vec<Vec<usize>> = held.iter().map(|file| vec![*file]).collect();
    let pending = match table.event_indices() {
        Some(_) => rewrite_events(table, env, &snapshot, &groups, Scope::Whole, &mut keep).await?,
        None => rewrite_rows(table, env, &snapshot, &groups, &mut keep).await?,
    };
    let removed: Vec<String> = held.iter().map(|&file| file_name(&snapshot, file)).collect();
    let done = Erased { rows: keep.gone(), files: removed.len() as u64 };
    announce(done).await?;
    if table.commit(pending, Change::Erase { removed }).await? == Committed::Conflict {
        return Err(table.overtaken());
    }
    Ok(done)
}

/// Removes whatever only older versions need.
///
/// # Errors
/// Failures of the store; then some of it may be left.
pub(crate) async fn forget_versions(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>) -> Result<()> {
    let _turn = table.ingest_turn().await;
    table.forget_versions().await?;
    if table.id_source().is_some() {
        known_ids(table, env, table.snapshot().await?.as_ref()).await?;
    }
    Ok(())
}

/// Whether a file holds rows of `users`.
async fn holds(
    table: &DeltaTable,
    env: &Arc<RuntimeEnv>,
    snapshot: &TableSnapshot,
    file: usize,
    columns: &[usize],
    users: &Users,
) -> Result<bool> {
    let mut rows = read_files(table, env, vec![snapshot.files[file].clone()], columns).await?;
    while let Some(batch) = rows.next().await {
        if users.others_in(batch.map_err(crate::storage::engine_error)?.columns().iter())?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
