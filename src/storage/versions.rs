//! Older versions of a managed table, and the end of them.
//!
//! Delta keeps a version for each commit; its files stay until `VACUUM` removes those that only versions older than the
//! retention name. A version is asked for by its number, or as the one of a moment: the latest that was committed by
//! then, as the log itself says.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake_core::table::state::DeltaTableState;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use portrait_udfs::error::{Code, Error, Result};

use super::delta::{Change, Committed, DeltaTable, TableSnapshot};
use super::events::optimize::file_name;
use super::events::{FileNames, IDS, ids_names};
use super::store_error;
use super::writer::{TableWriter, delete_quietly};

/// Which version of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// This one.
    Version(u64),
    /// The latest one of this moment, in microseconds since 1970.
    Time(i64),
}

impl std::fmt::Display for AsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version={version}"),
            Self::Time(time) => write!(f, "time={time}"),
        }
    }
}

impl AsOf {
    /// Reads what [`Display`](std::fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('=')? {
            ("version", version) => version.parse().ok().map(Self::Version),
            ("time", time) => time.parse().ok().map(Self::Time),
            _ => None,
        }
    }
}

impl DeltaTable {
    /// An older version.
    ///
    /// # Errors
    /// 22023 when there is none.
    pub(crate) async fn snapshot_as_of(&self, wanted: AsOf) -> Result<Arc<TableSnapshot>> {
        let latest = self.snapshot().await?;
        let version = match wanted {
            AsOf::Version(version) if version > latest.version => {
                return Err(Error::invalid(format!("version {version} of table \"{}\" does not exist", self.name()))
                    .detail(format!("The latest version is {}.", latest.version)));
            }
            AsOf::Version(version) => version,
            AsOf::Time(time) => self.version_at(time, latest.version).await?,
        };
        if version == latest.version {
            return Ok(latest);
        }
        let state = DeltaTableState::try_new(self.log(), Some(version)).await.map_err(|error| {
            tracing::debug!(%error, version, "an older version cannot be read");
            let damage = Error::find(&error).cloned().or_else(|| crate::error::damage_in(&error.to_string()));
            damage.unwrap_or_else(|| self.gone(version))
        })?;
        Ok(Arc::new(self.files_of(&state)?))
    }

    /// Takes the files out again that came since `version`, so that the rows are those of then. False, with nothing changed, where
    /// files of that version were written anew meanwhile.
    ///
    /// # Errors
    /// Failures of the store.
    pub(crate) async fn go_back_to(self: &Arc<Self>, version: u64, env: &Arc<RuntimeEnv>) -> Result<bool> {
        let _turn = self.ingest_turn().await;
        let now = self.snapshot().await?;
        if now.version == version {
            return Ok(true);
        }
        let Ok(then) = self.snapshot_as_of(AsOf::Version(version)).await else { return Ok(false) };
        let names = |snapshot: &TableSnapshot| -> HashSet<String> { (0..snapshot.files.len()).map(|at| file_name(snapshot, at)).collect() };
        let (now, then) = (names(&now), names(&then));
        if !then.is_subset(&now) {
            return Ok(false);
        }
        let removed: Vec<String> = now.difference(&then).cloned().collect();
        if removed.is_empty() {
            return Ok(true);
        }
        let nothing = TableWriter::new(self, FileNames::Unordered, env).finish().await?;
        match self.commit(nothing, Change::Erase { removed }).await? {
            Committed::Yes => Ok(true),
            Committed::Conflict => Err(self.overtaken()),
        }
    }

    fn gone(&self, version: u64) -> Error {
        Error::invalid(format!("version {version} of table \"{}\" is no longer kept", self.name()))
            .hint("Old entries of the log are removed after a while, files by VACUUM, and both when users are erased.")
    }

    /// The latest version that was committed by `time`.
    async fn version_at(&self, time: i64, latest: u64) -> Result<u64> {
        let too_early = || {
            Error::invalid(format!("table \"{}\" has no version that old", self.name()))
                .hint("Older versions are not kept, or the table was made later.")
        };
        // The first version that is not in time lies between the two; versions that are no longer kept count as in time.
        let (mut low, mut high) = (0, latest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.committed_at(middle).await?.is_none_or(|committed| committed <= time) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = low.checked_sub(1).ok_or_else(too_early)?;
        match self.committed_at(found).await? {
            Some(_) => Ok(found),
            None => Err(too_early()),
        }
    }

    /// When a version was committed, in microseconds since 1970; `None` when the log no longer says.
    async fn committed_at(&self, version: u64) -> Result<Option<i64>> {
        let entry = self.log().read_commit_entry(version).await.map_err(|error| self.delta_error(error))?;
        let Some(entry) = entry else { return Ok(None) };
        let said = std::str::from_utf8(&entry).unwrap_or_default().lines().find_map(|line| {
            let action: serde_json::Value = serde_json::from_str(line).ok()?;
            let info = action.get("commitInfo")?;
            info.get("inCommitTimestamp").or_else(|| info.get("timestamp"))?.as_i64()
        });
        Ok(Some(said.unwrap_or_default().saturating_mul(1000)))
    }

    /// Removes files that only versions older than `retention_ms` name, and those that old which no version names. Returns how
    /// many.
    pub(crate) async fn vacuum(&self, retention_ms: i64) -> Result<u64> {
        let present = {
            // An erasure takes entries of the log away that are read here.
            let _turn = self.ingest_turn().await;
            let mut present = self.unneeded(retention_ms).await?;
            present.extend(self.leftovers(retention_ms).await?);
            present
        };
        let count = present.len() as u64;
        delete_quietly(self.store(), present).await;
        Ok(count)
    }

    /// Removes all that only older versions need, in a turn of the table's: their files and the log's entries, in the place of which stands a checkpoint.
    ///
    /// # Errors
    /// What cannot be removed: then some of it is left, and another call goes on.
    pub(crate) async fn forget_versions(&self) -> Result<()> {
        for file in self.unneeded(0).await? {
            delete(self.store(), &file).await?;
        }
        for file in self.leftovers(0).await? {
            delete(self.store(), &file).await?;
        }
        let needed = ids_names(self.snapshot().await?.as_ref());
        let listed = self.store().list_with_delimiter(Some(&self.folder().join(IDS))).await.map_err(store_error)?;
        for ids in listed.objects.into_iter().map(|object| object.location) {
            if ids.filename().is_some_and(|name| !needed.contains(name)) {
                delete(self.store(), &ids).await?;
            }
        }
        let mut table = deltalake_core::DeltaTable::new(Arc::clone(self.log()));
        table.load().await.map_err(|error| self.delta_error(error))?;
        let version = table.version().unwrap_or_default();
        deltalake_core::checkpoints::create_checkpoint(&table, None).await.map_err(|error| self.delta_error(error))?;
        let log = self.folder().join("_delta_log");
        let listed = self.store().list_with_delimiter(Some(&log)).await.map_err(store_error)?;
        for entry in listed.objects.into_iter().map(|object| object.location) {
            let of = entry.filename().and_then(|name| name.split('.').next()?.parse::<u64>().ok());
            if of.is_some_and(|of| of < version) {
                delete(self.store(), &entry).await?;
            }
        }
        Ok(())
    }

    /// Data files that are there, older than `retention_ms`, which no version names and nobody is writing: what statements left
    /// that were killed, or could not clean up.
    async fn leftovers(&self, retention_ms: i64) -> Result<Vec<Path>> {
        // In this order: a file that is listed is being written, or in the log by the time that it is read, or left over.
        let listed = self.store().list_with_delimiter(Some(&self.folder())).await.map_err(store_error)?;
        let writing = self.in_progress().names();
        let state = DeltaTableState::try_new(self.log(), None).await.map_err(|error| self.delta_error(error))?;
        let mut named: HashSet<String> = state.log_data().iter().map(|file| file.path().into_owned()).collect();
        let mut removed = state.all_tombstones(self.log());
        while let Some(tombstone) = removed.try_next().await.map_err(|error| self.delta_error(error))? {
            named.insert(tombstone.path().into_owned());
        }
        let until = chrono::Utc::now().timestamp_millis().saturating_sub(retention_ms);
        let left = |object: &object_store::ObjectMeta| {
            let name = object.location.filename().filter(|name| name.starts_with("part-"));
            name.is_some_and(|name| !named.contains(name) && !writing.contains(name)) && object.last_modified.timestamp_millis() <= until
        };
        Ok(listed.objects.into_iter().filter(left).map(|object| object.location).collect())
    }

    /// Files that are there, and that only versions older than `retention_ms` name.
    async fn unneeded(&self, retention_ms: i64) -> Result<Vec<Path>> {
        // What a killed process left goes at the first use.
        self.snapshot().await?;
        let state = DeltaTableState::try_new(self.log(), None).await.map_err(|error| self.delta_error(error))?;
        let live: HashSet<String> = state.log_data().iter().map(|file| file.path().into_owned()).collect();
        let until = chrono::Utc::now().timestamp_millis().saturating_sub(retention_ms);
        let mut removed = state.all_tombstones(self.log());
        let mut old = Vec::new();
        while let Some(tombstone) = removed.try_next().await.map_err(|error| self.delta_error(error))? {
            let path = tombstone.path();
            // A file of ours lies in the table's folder, whatever a log may say.
            let ours = !path.contains('/') && path.starts_with("part-");
            if ours && tombstone.deletion_timestamp().is_some_and(|deleted| deleted <= until) && !live.contains(&*path) {
                old.push(self.folder().join(&*path));
            }
        }
        let mut present = Vec::new();
        for file in old {
            if object_store::ObjectStoreExt::head(self.store().as_ref(), &file).await.is_ok() {
                present.push(file);
            }
        }
        Ok(present)
    }
}

async fn delete(store: &Arc<dyn ObjectStore>, file: &Path) -> Result<()> {
    match object_store::ObjectStoreExt::delete(store.as_ref(), file).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(store_error(error)),
    }
}

/// The mark between a table's name and the version of it that a query asks for: INVISIBLE PLUS, which nobody types.
pub(crate) const AS_OF_MARK: char = '\u{2064}';

/// The name of a relation, and the version that is meant.
///
/// # Errors
/// [`Code::Internal`] for a mark with nothing sensible behind it.
pub(crate) fn split_name(name: &str) -> Result<(&str, Option<AsOf>)> {
    match name.split_once(AS_OF_MARK) {
        None => Ok((name, None)),
        Some((name, wanted)) => match AsOf::parse(wanted) {
            Some(wanted) => Ok((name, Some(wanted))),
            None => Err(Error::new(Code::Internal, format!("\"{wanted}\" is no version"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for wanted in [AsOf::Version(7), AsOf::Time(-5)] {
            let name = format!("t{AS_OF_MARK}{wanted}");
            assert_eq!(split_name(&name).unwrap(), ("t", Some(wanted)));
        }
        assert_eq!(split_name("t").unwrap(), ("t", None));
        assert_eq!(split_name(&format!("t{AS_OF_MARK}x")).unwrap_err().code, Code::Internal);
    }
}
