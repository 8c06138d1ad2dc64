//! From a source to a dataset: the one way in, for training, for evaluating and for back-testing.
//!
//! Life of a reading: the source's stream is polled on the query runtime, the arithmetic runs on a blocking thread
//! fed by a short channel, the bytes are reserved in the session's memory pool, and the cancel token is looked at
//! for every batch on both sides. When the pool has no more, what was read goes to temporary files of the session and the
//! reading goes on.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::resources::SessionFiles;
use crate::context::{EventSource, HistoryProvider, NoticeSink, UserHistories};
use crate::error::{Code, Error, Result};
use crate::features::events::Extra;
use crate::features::{
    Dataset, Encoder, EventColumns, EventDatasetBuilder, Options, SpillSpace, TableColumns, TableDatasetBuilder, Target, UserHistory,
    UserReader, canonical_schema,
};
use crate::functions::source::{plan_sql, source_schema, table_stream};
use crate::train::memory::size;

/// Batches that may wait between reading and arithmetic.
const BATCHES_AHEAD: usize = 4;

/// A stored encoder to cut and encode with, instead of fitting a new one.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) encoder: Encoder,
    pub(crate) classes: Vec<String>,
}

/// How histories become rows.
#[derive(Debug, Clone)]
pub(crate) struct EventCut {
    pub(crate) columns: EventColumns,
    pub(crate) target: Target,
    pub(crate) horizon_us: i64,
    pub(crate) anchor_every_us: Option<i64>,
    pub(crate) options: Options,
    /// Events after it are not there.
    pub(crate) as_of_us: i64,
    /// Rows at these anchors only, all of them test.
    pub(crate) anchors_us: Option<Vec<i64>>,
    pub(crate) stored: Option<Stored>,
}

/// How a labelled table becomes rows.
#[derive(Debug, Clone)]
pub(crate) struct TableCut {
    /// `None` for networks that learn without.
    pub(crate) label: Option<String>,
    /// What is learned from; with a stored encoder, what that one reads.
    pub(crate) columns: TableColumns,
    pub(crate) options: Options,
    pub(crate) stored: Option<Stored>,
    /// With a stored encoder: every row is a test row, not only those of the split.
    pub(crate) all_rows: bool,
}

/// Where and with what means a dataset is read.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) session: SessionState,
    pub(crate) histories: Arc<dyn HistoryProvider>,
    pub(crate) cancel: CancellationToken,
    /// Whether rows may lie in temporary files: whoever works with them reads them batch by batch.
    pub(crate) may_spill: bool,
}

/// A dataset with its memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) dataset: Dataset,
    /// Freed when dropped.
    pub(crate) memory: MemoryReservation,
}

/// Says that rows did not fit in memory, if so.
pub(crate) fn report_spilled(dataset: &Dataset, notice: &NoticeSink) {
    let (bytes, rows) = (dataset.inputs.spilled_bytes(), dataset.inputs.rows);
    if bytes > 0 {
        notice(&format!("the training data does not fit in memory: {rows} rows were spilled to temporary files ({})", size(bytes)));
    }
}

impl Reader {
    /// Opens the histories of an event source.
    pub(crate) async fn open(&self, sql: &str, columns: &EventColumns) -> Result<Arc<dyn UserHistories>> {
        let source = EventSource { sql: sql.to_owned(), columns: columns.clone() };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            opened = self.histories.open(&self.session, &source) => opened,
        }
    }

    /// Reads an event source that is open already.
    pub(crate) async fn events(&self, sql: &str, histories: &dyn UserHistories, cut: EventCut) -> DfResult<Loaded> {
        self.event_parts(sql, histories, cut, false).await
    }

    /// The same, with the rows of every part although the encoder is a stored one.
    pub(crate) async fn all_events(&self, sql: &str, histories: &dyn UserHistories, cut: EventCut) -> DfResult<Loaded> {
        self.event_parts(sql, histories, cut, true).await
    }

    async fn event_parts(&self, sql: &str, histories: &dyn UserHistories, cut: EventCut, all_parts: bool) -> DfResult<Loaded> {
        let schema = canonical_schema(&cut.columns, &source_schema(&self.session, sql).await?);
        let mut streams = histories.scan(1).await?;
        let stream = streams.pop().ok_or_else(|| Error::internal("a source has no stream"))?;
        let mut builder = EventDatasetBuilder::new(
            &cut.columns,
            Arc::clone(&schema),
            &cut.target,
            cut.horizon_us,
            cut.anchor_every_us,
            &cut.options,
            cut.as_of_us,
        )?;
        let cancel = self.cancel.clone();
        builder = builder.interrupted_by(move || cancel.is_cancelled());
        if let Some(anchors) = cut.anchors_us.clone() {
            builder = builder.at_anchors(anchors);
        }
        let reader = UserReader::new(schema, &cut.columns)?;
        let collector = Events { reader, builder, as_of_us: cut.as_of_us, stored: cut.stored, all_parts, may_spill: self.may_spill };
        let mut loaded = self.collect(stream, collector).await?;
        loaded.dataset.dropped_rows += histories.dropped_rows();
        Ok(loaded)
    }

    /// Reads a labelled table.
    pub(crate) async fn table(&self, sql: &str, cut: TableCut) -> DfResult<Loaded> {
        self.table_parts(sql, cut, false).await
    }

    /// The same, with the rows of every part although the encoder is a stored one.
    pub(crate) async fn all_table(&self, sql: &str, cut: TableCut) -> DfResult<Loaded> {
        self.table_parts(sql, cut, true).await
    }

    async fn table_parts(&self, sql: &str, cut: TableCut, all_parts: bool) -> DfResult<Loaded> {
        let columns = match &cut.stored {
            Some(stored) => TableColumns {
                image: stored.encoder.image_column().map(str::to_owned),
                texts: stored.encoder.text_columns().into_iter().map(str::to_owned).collect(),
                features: None,
            },
            None => cut.columns,
        };
        let builder = self.table_rows(sql, cut.label.as_deref(), &columns, &cut.options).await?;
        let Self { may_spill, .. } = *self;
        self.collect(builder.0, Table { builder: builder.1, stored: cut.stored, all_rows: cut.all_rows, all_parts, may_spill }).await
    }

    /// Collects a labelled table without cutting it, for folds.
    pub(crate) async fn table_builder(
        &self,
        sql: &str,
        label: &str,
        columns: &TableColumns,
        options: &Options,
    ) -> DfResult<(TableDatasetBuilder, MemoryReservation)> {
        let (stream, builder) = self.table_rows(sql, Some(label), columns, options).await?;
        self.feed(stream, Table { builder, stored: None, all_rows: false, all_parts: false, may_spill: self.may_spill })
            .await
            .map(|(table, memory)| (table.builder, memory))
    }

    async fn table_rows(
        &self,
        sql: &str,
        label: Option<&str>,
        columns: &TableColumns,
        options: &Options,
    ) -> DfResult<(SendableRecordBatchStream, TableDatasetBuilder)> {
        let plan = plan_sql(&self.session, sql).await?;
        let physical = self.session.create_physical_plan(&plan).await?;
        let cancel = self.cancel.clone();
        let builder = match label {
            Some(label) => TableDatasetBuilder::with_columns(physical.schema(), label, columns, options, options.split_time.clone())?,
            None => TableDatasetBuilder::unlabelled(physical.schema(), columns, options)?,
        }
        .interrupted_by(move || cancel.is_cancelled());
        Ok((table_stream(physical, &self.session)?, builder))
    }

    async fn collect<C: DatasetCollector>(&self, stream: SendableRecordBatchStream, collector: C) -> DfResult<Loaded> {
        let (collector, memory) = self.feed(stream, collector).await?;
        let dataset = blocking(move || collector.finish()).await?;
        // What finishing took besides is free again.
        memory.resize(dataset.bytes().min(memory.size()));
        Ok(Loaded { dataset, memory })
    }

    pub(super) async fn feed<C: Collector>(&self, mut stream: SendableRecordBatchStream, collector: C) -> DfResult<(C, MemoryReservation)> {
        let env = self.session.runtime_env();
        let memory = MemoryConsumer::new("training data").register(&env.memory_pool);
        let space: Arc<dyn SpillSpace> = Arc::new(SessionFiles(Arc::clone(env)));
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let cancel = self.cancel.clone();
        let worker = tokio::task::spawn_blocking(move || take_all(receiver, collector, memory, space, &cancel));
        let mut failure = None;
        loop {
            let next = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Some(Err(Error::cancelled().into())),
                next = stream.next() => next,
            };
            match next {
                None => break,
                Some(Err(error)) => {
                    failure = Some(error);
                    break;
                }
                // The worker stops early when it fails: its error is the one to report.
                Some(Ok(batch)) => {
                    if sender.send(batch).await.is_err() {
                        break;
                    }
                }
            }
        }
        drop(sender);
        let fed = worker.await.map_err(|error| Error::internal(format!("reading training data failed: {error}")))?;
        match failure {
            Some(error) => Err(error),
            None => fed,
        }
    }
}

/// Runs arithmetic off the query runtime.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::internal(format!("a worker failed: {error}"))))
}

fn take_all<C: Collector>(
    mut batches: mpsc::Receiver<RecordBatch>,
    mut collector: C,
    memory: MemoryReservation,
    space: Arc<dyn SpillSpace>,
    cancel: &CancellationToken,
) -> DfResult<(C, MemoryReservation)> {
    while let Some(batch) = batches.blocking_recv() {
        if cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        collector.push(&batch)?;
        fit_in(&mut collector, &memory, &space)?;
    }
    collector.end()?;
    fit_in(&mut collector, &memory, &space)?;
    Ok((collector, memory))
}

/// Takes the memory that the rows need; where there is not as much, they go to temporary files.
fn fit_in<C: Collector>(collector: &mut C, memory: &MemoryReservation, space: &Arc<dyn SpillSpace>) -> Result<()> {
    let Err(refused) = memory.try_resize(collector.bytes()) else { return Ok(()) };
    let spilled = collector.spill(space)?;
    let refused = if spilled { memory.try_resize(collector.bytes()).err() } else { Some(refused) };
    refused.map_or(Ok(()), |error| {
        let pool = Error::from_engine(error).detail.unwrap_or_default();
        let although = if spilled { " although its rows are in temporary files" } else { "" };
        Err(Error::new(Code::OutOfMemory, "the training data does not fit in memory")
            .detail(format!("It needs {}{although}. {pool}", size(collector.bytes() as u64)))
            .hint("Train on a sample (option sample), run fewer statements at once, or raise memory_limit."))
    })
}

/// What batches go into.
pub(super) trait Collector: Send + 'static {
    fn push(&mut self, batch: &RecordBatch) -> Result<()>;
    fn end(&mut self) -> Result<()>;
    fn bytes(&self) -> usize;

    /// Moves what it holds to temporary files, if it has not yet; `false` = it does not know how to.
    fn spill(&mut self, _space: &Arc<dyn SpillSpace>) -> Result<bool> {
        Ok(false)
    }
}

/// And becomes a dataset.
trait DatasetCollector: Collector {
    fn finish(self) -> Result<Dataset>;
}

struct Events {
    reader: UserReader,
    builder: EventDatasetBuilder,
    as_of_us: i64,
    stored: Option<Stored>,
    all_parts: bool,
    may_spill: bool,
}

impl Events {
    fn take(&mut self, mut history: UserHistory) -> Result<()> {
        truncate(&mut history, self.as_of_us);
        if !history.is_empty() {
            self.builder.push(&history, self.reader.strings())?;
        }
        self.reader.recycle(history);
        Ok(())
    }
}

impl Collector for Events {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.reader.push(batch)?;
        while let Some(history) = self.reader.next_user() {
            self.take(history)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.reader.finish() {
            Some(history) => self.take(history),
            None => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    fn spill(&mut self, space: &Arc<dyn SpillSpace>) -> Result<bool> {
        let can = self.may_spill && self.builder.can_spill();
        if can && !self.builder.is_spilled() {
            self.builder.spill(Arc::clone(space))?;
        }
        Ok(can)
    }
}

impl DatasetCollector for Events {
    fn finish(self) -> Result<Dataset> {
        match self.stored {
            Some(stored) if self.all_parts => self.builder.finish_all_with(&stored.encoder, &stored.classes),
            Some(stored) => self.builder.finish_with(&stored.encoder, &stored.classes),
            None => self.builder.finish(),
        }
    }
}

struct Table {
    builder: TableDatasetBuilder,
    stored: Option<Stored>,
    all_rows: bool,
    all_parts: bool,
    may_spill: bool,
}

impl Collector for Table {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.builder.push(batch)
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    fn spill(&mut self, space: &Arc<dyn SpillSpace>) -> Result<bool> {
        let can = self.may_spill && self.builder.can_spill();
        if can && !self.builder.is_spilled() {
            self.builder.spill(Arc::clone(space))?;
        }
        Ok(can)
    }
}

impl DatasetCollector for Table {
    fn finish(self) -> Result<Dataset> {
        match self.stored {
            Some(stored) if self.all_parts => self.builder.finish_all_with(&stored.encoder, &stored.classes),
            Some(stored) => self.builder.finish_with(&stored.encoder, &stored.classes, self.all_rows),
            None => self.builder.finish(),
        }
    }
}

/// Forgets the events after `until_us`.
fn truncate(history: &mut UserHistory, until_us: i64) {
    let keep = history.times_us.partition_point(|time| *time <= until_us);
    history.times_us.truncate(keep);
    for codes in [&mut history.events, &mut history.items, &mut history.categories] {
        codes.truncate(keep);
    }
    history.values.truncate(keep);
    for extra in &mut history.extras {
        match extra {
            Extra::Text(codes) => codes.truncate(keep),
            Extra::Number(values) => values.truncate(keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::UserKey;

    #[test]
    fn events_after_the_watermark_are_not_there() {
        let mut history = UserHistory {
            user: UserKey::Int64(1),
            times_us: vec![1, 5, 5, 9],
            events: vec![0, 1, 2, 3],
            items: vec![],
            categories: vec![],
            values: vec![1.0, 2.0, 3.0, 4.0],
            extras: vec![Extra::Number(vec![0.0; 4])],
        };
        truncate(&mut history, 5);
        assert_eq!((history.times_us, history.events, history.values), (vec![1, 5, 5], vec![0, 1, 2], vec![1.0, 2.0, 3.0]));
        assert_eq!(history.extras, vec![Extra::Number(vec![0.0; 3])]);
    }
}
