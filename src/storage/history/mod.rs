//! The history index: for each source of events a derived copy in user order, so that one user's history is one small
//! read and everybody's is a stream without a sort.
//!
//! Life of a source: its plan is fingerprinted (query, columns, the tables' contents) → an existing copy with that
//! fingerprint is used → otherwise the first caller makes it while others wait, and copies of the same query over older
//! contents go away once nobody reads them. Sources whose contents cannot be known are sorted at each use.
//!
//! Copies lie in `<data-dir>/histories/<source>-<contents>/`. They are a cache: removing the folder loses nothing.

mod build;
mod fingerprint;
pub(super) mod layout;
mod read;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use parking_lot::Mutex;
use portrait_udfs::context::{EventSource, HistoryProvider, StatementContext, UserHistories};
use portrait_udfs::error::{Error, Result};
use portrait_udfs::functions::source::{SortedHistories, canonical_plan, plan_sql};

use super::durable::make_folder;
use fingerprint::{Fingerprint, fingerprint};
use read::{CopyHistories, HistoryCopy};

const FOLDER: &str = "histories";
/// Folders of copies that are being made.
const TEMPORARY: &str = ".making-";
/// Copies kept at most; beyond, the one that was not used for the longest time goes.
const COPIES_MAX: usize = 32;
/// How often a copy is begun anew because its source changed meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// Keeps user-ordered copies of event sources.
#[derive(Debug)]
pub struct HistoryIndex {
    folder: PathBuf,
    /// Open copies, by folder name.
    open: Mutex<HashMap<String, Arc<HistoryCopy>>>,
    /// Who makes which copy: one at a time each.
    making: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl HistoryIndex {
    /// Opens the copies of a data directory; what a killed process was making is removed.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(data_dir: &Path) -> Result<Arc<Self>> {
        let folder = data_dir.join(FOLDER);
        make_folder(&folder)?;
        for name in folder_names(&folder)? {
            if name.starts_with(TEMPORARY) {
                std::fs::remove_dir_all(folder.join(name))?;
            }
        }
        Ok(Arc::new(Self { folder, open: Mutex::default(), making: Mutex::default() }))
    }

    /// The copy of `source` as it is now; `None` when its contents cannot be known.
    async fn copy(&self, session: &SessionState, source: &EventSource) -> Result<Option<Arc<HistoryCopy>>> {
        let context = StatementContext::of(session.config());
        for _ in 0..ATTEMPTS_MAX {
            let plan = plan_sql(session, &source.sql).await.map_err(Error::from_engine)?;
            let Some(before) = fingerprint(session, source, &plan).await? else { return Ok(None) };
            let name = format!("{}-{}", before.source, before.contents);
            if let Some(copy) = self.open.lock().get(&name) {
                return Ok(Some(Arc::clone(copy)));
            }
            let gate = Arc::clone(self.making.lock().entry(name.clone()).or_default());
            let _one_at_a_time = tokio::select! {
                () = context.cancel.cancelled() => return Err(Error::cancelled()),
                guard = gate.lock() => guard,
            };
            if let Some(copy) = self.existing(session, &name)? {
                self.making.lock().remove(&name);
                return Ok(Some(copy));
            }
            let made = self.make(session, source, plan, &before, &name).await;
            self.making.lock().remove(&name);
            if let Some(copy) = made? {
                return Ok(Some(copy));
            }
        }
        Ok(None)
    }

    /// A copy that is open, or whole on the disk.
    fn existing(&self, session: &SessionState, name: &str) -> Result<Option<Arc<HistoryCopy>>> {
        let mut open = self.open.lock();
        if let Some(copy) = open.get(name) {
            return Ok(Some(Arc::clone(copy)));
        }
        let folder = self.folder.join(name);
        if !folder.is_dir() {
            return Ok(None);
        }
        match HistoryCopy::open(&folder, &session.runtime_env().memory_pool) {
            Ok(copy) => {
                let copy = Arc::new(copy);
                open.insert(name.to_owned(), Arc::clone(&copy));
                Ok(Some(copy))
            }
            Err(error) => {
                tracing::warn!(%error, "history copy is made anew");
                Ok(None)
            }
        }
    }

    /// Makes a copy; `None` when the source changed meanwhile.
    async fn make(
        &self,
        session: &SessionState,
        source: &EventSource,
        plan: LogicalPlan,
        before: &Fingerprint,
        name: &str,
    ) -> Result<Option<Arc<HistoryCopy>>> {
        let folder = self.folder.join(name);
        let (canonical, schema) = canonical_plan(plan.clone(), &source.columns).map_err(Error::from_engine)?;
        build::build(session, &canonical, schema, &before.contents, &folder).await?;
        let after = fingerprint(session, source, &plan).await?;
        if after.as_ref() != Some(before) {
            std::fs::remove_dir_all(&folder)?;
            return Ok(None);
        }
        self.retire_others(&before.source, name)?;
        let copy = self.existing(session, name)?;
        copy.map_or_else(|| Err(Error::internal("a history copy that was just made cannot be opened")), |copy| Ok(Some(copy)))
    }

    /// Retires copies of the same query over older contents, and the longest unused ones beyond the limit.
    fn retire_others(&self, source: &str, keep: &str) -> Result<()> {
        let prefix = format!("{source}-");
        let mut rest = Vec::new();
        for name in folder_names(&self.folder)? {
            if name == keep || name.starts_with(TEMPORARY) {
                continue;
            }
            if name.starts_with(&prefix) {
                self.retire(&name);
            } else {
                let used =
                    std::fs::metadata(self.folder.join(&name).join("meta.json")).and_then(|meta| meta.accessed().or(meta.modified()));
                rest.push((used.unwrap_or(SystemTime::UNIX_EPOCH), name));
            }
        }
        rest.sort();
        let surplus = (rest.len() + 1).saturating_sub(COPIES_MAX);
        for (_, name) in rest.into_iter().take(surplus) {
            self.retire(&name);
        }
        Ok(())
    }

    /// Removes every copy; those that are being read go with their last reader. Returns how many.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn remove_all(&self) -> Result<u64> {
        let mut removed = 0;
        for name in folder_names(&self.folder)?.iter().filter(|name| !name.starts_with(TEMPORARY)) {
            match self.open.lock().remove(name) {
                Some(copy) => copy.retire(),
                // Its maker sees that the source has changed, and removes it.
                None if self.making.lock().contains_key(name) => continue,
                None => std::fs::remove_dir_all(self.folder.join(name))?,
            }
            removed += 1;
        }
        Ok(removed)
    }

    fn retire(&self, name: &str) {
        match self.open.lock().remove(name) {
            Some(copy) => copy.retire(),
            // Somebody may be making it right now; then it is not whole, and stays.
            None if self.making.lock().contains_key(name) => {}
            None => {
                if let Err(error) = std::fs::remove_dir_all(self.folder.join(name)) {
                    tracing::debug!(%error, name, "old history copy not removed");
                }
            }
        }
    }
}

#[async_trait]
impl HistoryProvider for HistoryIndex {
    async fn open(&self, session: &SessionState, source: &EventSource) -> Result<Arc<dyn UserHistories>> {
        match self.copy(session, source).await? {
            Some(copy) => {
                tracing::debug!(folder = %copy.folder().display(), "history copy used");
                Ok(Arc::new(CopyHistories(copy)))
            }
            None => SortedHistories.open(session, source).await,
        }
    }
}

fn folder_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
