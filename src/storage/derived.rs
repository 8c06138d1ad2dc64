//! Tables that keep the rows of a query: replaced as a whole, or user by user.
//!
//! Rows lie sorted by user, in files of moderate size, so that one user's row is found in one page of one file and a change to a
//! few users writes few files. Life of a change: the files that may hold rows of the users → their other rows, with the new
//! ones, sorted → new files → one commit that removes the old ones. Readers see the version before or the one after.
//!
//! Whoever changes such a table holds its turn ([`DeltaTable::ingest_turn`]) from before the rows are read, so that an erasure
//! comes wholly before or wholly after. Must never know: the query.

use std::sync::Arc;

use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use portrait_udfs::error::{Error, Result};

use super::delta::{Change, Committed, DeltaTable, TableSnapshot};
use super::events::{FileNames, file_name, read_files};
use super::sort::Sorter;
use super::store_error;
use super::types::conform;
use super::user_set::UserSet;
use super::writer::{PendingFiles, TableWriter};

/// Rows of a file at most.
const FILE_ROWS: usize = 128 * 1024;

/// What a change left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The version that it made.
    pub(crate) version: u64,
    /// Rows of the whole table.
    pub(crate) rows: u64,
}

/// Puts `rows`, which come by user, in the place of all rows.
///
/// # Errors
/// Those of the stream, 53100 and failures of the store: then nothing has changed.
pub(crate) async fn replace_all(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>, rows: SendableRecordBatchStream) -> Result<Replaced> {
    let snapshot = table.snapshot().await?;
    let pending = write(table, env, rows).await?;
    let all = (0..snapshot.files.len()).collect::<Vec<_>>();
    commit(table, &snapshot, &all, pending).await
}

/// Puts `rows` in the place of the rows of `users`, who are in the column `user`.
///
/// # Errors
/// As [`replace_all`].
pub(crate) async fn replace_users(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    (users, user): (&UserSet, usize),
    mut rows: SendableRecordBatchStream,
) -> Result<Replaced> {
    let snapshot = table.snapshot().await?;
    // First the column that is sorted by.
    let columns: Vec<usize> = std::iter::once(user).chain((0..table.schema().fields().len()).filter(|at| *at != user)).collect();
    let order = |rows: &RecordBatch| rows.project(&columns).map_err(|error| Error::internal(error.to_string()));
    let sorted_schema = Arc::new(table.schema().project(&columns).map_err(|error| Error::internal(error.to_string()))?);
    let mut sorter = Sorter::new(env, sorted_schema, 1);
    while let Some(batch) = rows.next().await {
        let batch = conform(&batch.map_err(super::engine_error)?, table.schema(), table.name())?;
        sorter.add(order(&batch)?).await?;
    }
    let mut touched = Vec::new();
    for file in 0..snapshot.files.len() {
        if keep_others(table, env, &snapshot.files[file], (users, user), &mut sorter, &order).await? {
            touched.push(file);
        }
    }
    let sorted = Arc::new(sorter.finish().await?).rows()?;
    let back: Vec<usize> = (0..columns.len()).map(|at| columns.iter().position(|from| *from == at).unwrap_or(at)).collect();
    let schema = Arc::clone(table.schema());
    let rows = sorted.map(move |batch| Ok(batch?.project(&back)?));
    let rows = Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, rows));
    let pending = write(table, env, rows).await?;
    commit(table, &snapshot, &touched, pending).await
}

/// Gives the sorter the rows of a file that are not those of `users`; false when it holds none of theirs, and stays.
async fn keep_others(
    table: &Arc<DeltaTable>,
    env: &Arc<RuntimeEnv>,
    file: &PartitionedFile,
    (users, user): (&UserSet, usize),
    sorter: &mut Sorter,
    order: &(impl Fn(&RecordBatch) -> Result<RecordBatch> + Sync),
) -> Result<bool> {
    let mut found = false;
    let mut keys = read_files(table, env, vec![file.clone()], &[user]).await?;
    while let Some(batch) = keys.next().await {
        if users.theirs(batch.map_err(super::engine_error)?.column(0))?.true_count() > 0 {
            found = true;
            break;
        }
    }
    if !found {
        return Ok(false);
    }
    let all: Vec<usize> = (0..table.schema().fields().len()).collect();
    let mut rows = read_files(table, env, vec![file.clone()], &all).await?;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(super::engine_error)?;
        let others = users.others(batch.column(user))?;
        let kept = filter_record_batch(&batch, &others).map_err(|error| Error::internal(error.to_string()))?;
        if kept.num_rows() > 0 {
            sorter.add(order(&conform(&kept, table.schema(), table.name())?)?).await?;
        }
    }
    Ok(true)
}

async fn write(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>, mut rows: SendableRecordBatchStream) -> Result<PendingFiles> {
    let mut writer = TableWriter::new(table, FileNames::Unordered, env);
    let mut in_file = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(super::engine_error)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let length = (FILE_ROWS - in_file).min(batch.num_rows() - at);
            writer.write(&batch.slice(at, length)).await?;
            (at, in_file) = (at + length, in_file + length);
            if in_file == FILE_ROWS {
                writer.close_file().await?;
                in_file = 0;
            }
        }
    }
    writer.finish().await
}

async fn commit(table: &Arc<DeltaTable>, snapshot: &TableSnapshot, touched: &[usize], pending: PendingFiles) -> Result<Replaced> {
    let removed: Vec<String> = touched.iter().map(|&file| file_name(snapshot, file)).collect();
    if (!removed.is_empty() || !pending.files().is_empty())
        && table.commit(pending, Change::Erase { removed }).await? == Committed::Conflict
    {
        return Err(table.overtaken());
    }
    let now = table.snapshot().await?;
    let rows = match now.statistics.num_rows {
        Precision::Exact(rows) | Precision::Inexact(rows) => rows as u64,
        Precision::Absent => 0,
    };
    Ok(Replaced { version: now.version, rows })
}

impl DeltaTable {
    /// The data files that came with rows since version `since`. `None` when the log no longer tells, or when rows went: then
    /// more than what came has changed.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub(crate) async fn added_since(&self, since: u64, now: u64) -> Result<Option<Vec<PartitionedFile>>> {
        let mut files = Vec::new();
        for version in since + 1..=now {
            let entry = self.log().read_commit_entry(version).await.map_err(|error| self.delta_error(error))?;
            let Some(entry) = entry else { return Ok(None) };
            let Some(added) = added(&entry) else { return Ok(None) };
            for (name, size) in added {
                let location = self.folder().join(name.as_str());
                match self.store().head(&location).await {
                    Ok(_) => files.push(PartitionedFile::new(location.to_string(), size)),
                    // It was joined with others, and vacuumed.
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(store_error(error)),
                }
            }
        }
        Ok(Some(files))
    }
}

/// The names and sizes of the files whose rows a commit added; `None` when it took rows away.
fn added(entry: &[u8]) -> Option<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for line in std::str::from_utf8(entry).ok()?.lines().filter(|line| !line.trim().is_empty()) {
        let action: serde_json::Value = serde_json::from_str(line).ok()?;
        let changes = |action: &serde_json::Value| action["dataChange"].as_bool().unwrap_or(true);
        if action.get("remove").is_some_and(changes) {
            return None;
        }
        if let Some(add) = action.get("add").filter(|add| changes(add)) {
            let name = add["path"].as_str().filter(|name| !name.contains(['/', '%']))?;
            files.push((name.to_owned(), add["size"].as_u64()?));
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_tell_what_came() {
        let appended = br#"{"commitInfo":{"timestamp":1}}
{"add":{"path":"part-1.parquet","size":10,"dataChange":true}}
{"add":{"path":"part-2.parquet","size":20}}"#;
        assert_eq!(added(appended).unwrap(), [("part-1.parquet".to_owned(), 10), ("part-2.parquet".to_owned(), 20)]);
        let joined = br#"{"remove":{"path":"a","dataChange":false}}
{"add":{"path":"b","size":1,"dataChange":false}}"#;
        assert_eq!(added(joined).unwrap(), []);
        assert_eq!(added(br#"{"remove":{"path":"a","dataChange":true}}"#), None);
        assert_eq!(added(b"not JSON"), None);
    }
}
