//! How much the tables that keep their own files hold.

use std::sync::Arc;

use datafusion::common::stats::Precision;

use super::Catalog;
use super::open::Object;
use crate::error::Result;
use crate::storage::delta::{DeltaTable, TableSnapshot};

/// What one table holds.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) oid: u32,
    /// Where its files say so.
    pub(crate) rows: Option<u64>,
}

impl Catalog {
    fn managed_tables(&self) -> Vec<(String, u32, Arc<DeltaTable>)> {
        let state = self.inner.state();
        let managed = state.entries.values().filter_map(|entry| match &entry.object {
            Object::Managed(table) => Some((entry.info.name.clone(), entry.info.oid, Arc::clone(table))),
            _ => None,
        });
        managed.collect()
    }

    /// What every such table holds now.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub(crate) async fn stored(&self) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        for (name, oid, table) in self.managed_tables() {
            let rows = match table.snapshot().await?.statistics.num_rows {
                Precision::Exact(rows) | Precision::Inexact(rows) => Some(rows as u64),
                Precision::Absent => None,
            };
            all.push(Stored { name, oid, rows });
        }
        Ok(all)
    }

    /// The bytes of a table's files, in the latest version that was read; `None` when none was, or it has no files of its own.
    pub(crate) fn seen_bytes(&self, oid: i64) -> Option<u64> {
        let (.., table) = self.managed_tables().into_iter().find(|(_, found, _)| i64::from(*found) == oid)?;
        let bytes = |seen: Arc<TableSnapshot>| seen.files.iter().map(|file| file.object_meta.size).sum();
        table.seen().map(bytes)
    }
}
