//! Takes rows of any kind into a managed table, batch by batch, in one commit.

use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::runtime_env::RuntimeEnv;
use portrait_udfs::error::Result;

use super::delta::{Change, Committed, DeltaTable};
use super::erasure::Refusal;
use super::events::FileNames;
use super::writer::TableWriter;

/// Rows on their way into a table. Dropped before [`finish`](Self::finish), nothing is left of them.
pub(crate) struct PlainIntake {
    table: Arc<DeltaTable>,
    writer: TableWriter,
    begun: bool,
    refusal: Option<Arc<Refusal>>,
}

impl PlainIntake {
    pub(crate) fn new(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>) -> Self {
        Self { table: Arc::clone(table), writer: TableWriter::new(table, FileNames::Unordered, env), begun: false, refusal: None }
    }

    /// Commits nothing when users are erased meanwhile.
    pub(crate) fn refusing(mut self, refusal: Arc<Refusal>) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// Takes rows; their columns are the table's, by position.
    pub(crate) async fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        if !self.begun {
            // The first use sweeps what no version names, so it must come before our own files.
            self.table.snapshot().await?;
            self.begun = true;
        }
        self.writer.write(rows).await
    }

    /// Commits all rows; all or none of them become visible. Returns how many.
    pub(crate) async fn finish(self) -> Result<u64> {
        let pending = self.writer.finish().await?;
        let rows = pending.rows;
        // An erasure that begins after the check waits for this turn, and finds the rows.
        let _turn = match &self.refusal {
            Some(refusal) if rows > 0 => {
                let turn = self.table.ingest_turn().await;
                refusal.still_holds_for(self.table.name())?;
                Some(turn)
            }
            _ => None,
        };
        if rows > 0 && self.table.commit(pending, Change::Append { only_at: None }).await? == Committed::Conflict {
            return Err(self.table.overtaken());
        }
        Ok(rows)
    }
}
