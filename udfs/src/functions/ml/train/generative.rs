//! The part of a run that is another for a gan: its rows are not features with a label but the source's own columns.

use arrow::array::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;

use super::progress::Reporter;
use super::read::{Collector, Reader, blocking};
use super::run::{Counts, Run};
use crate::error::{Error, Result};
use crate::features::inputs::{Inputs, Labels, Rows};
use crate::features::{Dataset, Encoder, Options, RowTable, RowTableBuilder, TableColumns};
use crate::functions::source::{plan_sql, table_stream};
use crate::registry::JobHandle;
use crate::train::Trained;
use crate::train::gan::{GanRequest, train};

impl Collector for RowTableBuilder {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        Self::push(self, batch)
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

impl Reader {
    /// Reads the rows of a source as a generator learns them.
    pub(crate) async fn rows(
        &self,
        sql: &str,
        columns: &TableColumns,
        label: Option<&str>,
        options: &Options,
    ) -> DfResult<(RowTable, MemoryReservation)> {
        let plan = plan_sql(&self.session, sql).await?;
        let physical = self.session.create_physical_plan(&plan).await?;
        let builder = RowTableBuilder::new(physical.schema(), columns, label, options)?;
        let (builder, memory) = self.feed(table_stream(physical, &self.session)?, builder).await?;
        Ok((blocking(move || builder.finish()).await?, memory))
    }
}

impl Run {
    /// Reads the rows, trains a generator and measures what it makes.
    pub(super) async fn learn_rows(&self, job: &JobHandle, reporter: Reporter) -> DfResult<(Trained, Dataset, Counts)> {
        let lesson = &self.spec.lesson;
        let (table, memory) = self.reader.rows(&self.sql, &lesson.table_columns, lesson.label(), &lesson.options).await?;
        let counts = Counts { train: table.train.encoded.rows as u64, valid: 0, test: table.test.encoded.rows as u64 };
        reporter.step("training");
        let (options, threads, cancel) = (lesson.options.clone(), self.context.training_threads, job.cancel.clone());
        let (trained, table) = blocking(move || {
            let request =
                GanRequest { table: &table, options: &options, threads, cancel: &cancel, progress: &|progress| reporter.report(progress) };
            train(&request).map(|trained| (trained, table))
        })
        .await?;
        drop(memory);
        if job.cancel.is_cancelled() && !lesson.options.keep_partial {
            return Err(Error::cancelled().into());
        }
        Ok((trained, dataset(table), counts))
    }
}

/// What a version's record says of the rows, without the rows.
fn dataset(table: RowTable) -> Dataset {
    let split = [(table.train.encoded.rows, Rows::Train), (table.test.encoded.rows, Rows::Test)];
    Dataset {
        inputs: Inputs::default(),
        labels: Labels::Value(Vec::new()),
        classes: Vec::new(),
        of_items: false,
        split: split.into_iter().flat_map(|(count, part)| std::iter::repeat_n(part, count)).collect(),
        users: Vec::new(),
        anchors_us: Vec::new(),
        users_total: table.seen,
        dropped_rows: table.dropped_rows,
        censored_rows: 0,
        sampled_out: table.sampled_out,
        encoder: Encoder::of_rows(table.plan),
        rfm: Vec::new(),
    }
}
