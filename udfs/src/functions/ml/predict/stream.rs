//! One partition of a `PredictExec` at work: read ahead, answer, hand on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, RecordOutput, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, UNKNOWN};
use super::execution::{Execution, Opened};
use super::physical::{PhysicalGroup, PhysicalOutput, PhysicalSubject};
use super::predictor::Tally;
use super::subject::{Sequences, Users, every_row, joined, moments, valid_rows};
use crate::error::Error;

/// Rows answered first: few, because a limit may want no more.
const ROWS_FIRST: usize = 64;
/// Rows answered at once at most. Many at once, because a look-up of many users reads their histories once.
const ROWS_MAX: usize = 1 << 18;
/// The same where nothing is looked up: rows and given sequences.
const ROWS_MAX_GIVEN: usize = 1 << 13;
/// Bytes of input, and of answers, that one read-ahead may hold.
const BYTES_MAX: usize = 32 << 20;

/// See the module's header.
pub(crate) struct Work {
    job: Job,
    input: SendableRecordBatchStream,
    /// The part of the last input batch that was too much.
    rest: Option<RecordBatch>,
    ready: VecDeque<RecordBatch>,
    rows_wanted: usize,
    finished: bool,
}

/// What answering takes, apart from the rows.
#[derive(Clone)]
struct Job {
    group: Arc<PhysicalGroup>,
    outputs: Arc<[PhysicalOutput]>,
    execution: Arc<Execution>,
    tally: Tally,
    cancel: CancellationToken,
    schema: SchemaRef,
}

impl Work {
    pub(crate) fn new(
        group: PhysicalGroup,
        outputs: Vec<PhysicalOutput>,
        execution: Arc<Execution>,
        tally: Tally,
        cancel: CancellationToken,
        schema: SchemaRef,
        input: SendableRecordBatchStream,
    ) -> Self {
        let job = Job { group: Arc::new(group), outputs: outputs.into(), execution, tally, cancel, schema };
        Self { job, input, rest: None, ready: VecDeque::new(), rows_wanted: ROWS_FIRST, finished: false }
    }

    pub(crate) fn into_stream(self, baseline: BaselineMetrics) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.job.schema);
        let elapsed = baseline.elapsed_compute().clone();
        let batches = futures::stream::try_unfold((self, elapsed), |(mut work, elapsed)| async move {
            Ok(work.next(&elapsed).await?.map(|batch| (batch, (work, elapsed))))
        });
        let counted = batches.map_ok(move |batch| batch.record_output(&baseline));
        Box::pin(RecordBatchStreamAdapter::new(schema, counted))
    }

    async fn next(&mut self, elapsed: &Time) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.finished {
                return Ok(None);
            }
            let batches = self.read_ahead().await?;
            if batches.is_empty() {
                continue;
            }
            let job = self.job.clone();
            let started = Instant::now();
            // A task of its own goes on when nobody polls this partition: others may wait for its users.
            let answered = SpawnedTask::spawn(async move { job.answer(batches).await }).join().await;
            let (batches, row_bytes) = answered.map_err(|error| Error::internal(format!("a prediction task failed: {error}")))??;
            elapsed.add_elapsed(started);
            self.ready = batches.into();
            let looked_up = matches!(self.job.group.subject, PhysicalSubject::User(_));
            let rows_max = if looked_up { ROWS_MAX } else { ROWS_MAX_GIVEN };
            let rows_max = (BYTES_MAX / row_bytes.max(1)).clamp(ROWS_FIRST, rows_max);
            self.rows_wanted = (self.rows_wanted * 2).min(rows_max);
        }
    }

    /// Reads until there are rows enough, or no more.
    async fn read_ahead(&mut self) -> Result<Vec<RecordBatch>> {
        let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while rows < self.rows_wanted && bytes < BYTES_MAX {
            let mut batch = match self.rest.take() {
                Some(rest) => rest,
                None => match self.input.next().await {
                    Some(batch) => batch?,
                    None => {
                        self.finished = true;
                        break;
                    }
                },
            };
            let wanted = self.rows_wanted - rows;
            if batch.num_rows() > wanted {
                self.rest = Some(batch.slice(wanted, batch.num_rows() - wanted));
                batch = batch.slice(0, wanted);
            }
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        Ok(batches)
    }
}

impl Job {
    /// The batches with their answers, and the bytes of one answer.
    async fn answer(&self, batches: Vec<RecordBatch>) -> Result<(Vec<RecordBatch>, usize)> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        let opened = self.execution.opened().await?;
        let (answers, rows) = match &self.group.subject {
            PhysicalSubject::User(user) => self.users(user, &batches, opened).await?,
            PhysicalSubject::Row(row) => rows_of(row, &batches, opened, &self.tally)?,
            PhysicalSubject::Sequence { events, items, times } => {
                sequences(events, items.as_ref(), times.as_ref(), &batches, opened, &self.tally)?
            }
        };
        let mut first = 0;
        let mut answered = Vec::with_capacity(batches.len());
        for batch in batches {
            let rows = &rows[first..first + batch.num_rows()];
            first += batch.num_rows();
            answered.push(self.with_columns(&batch, rows, &answers, opened)?);
        }
        Ok((answered, opened.layout.row_bytes()))
    }

    async fn users(&self, user: &Arc<dyn PhysicalExpr>, batches: &[RecordBatch], opened: &Opened) -> Result<(Answers, Vec<u32>)> {
        let lost = || Error::internal("a model of labelled rows was asked about a user");
        let key_type = opened.predictor.key_type().ok_or_else(lost)?;
        let users = Users::new(&joined(&evaluate(user, batches)?)?, key_type)?;
        let moments = match &self.group.as_of {
            None => None,
            Some(as_of) => Some(moments(&joined(&evaluate(as_of, batches)?)?)?),
        };
        let by_default = moments.as_ref().is_none_or(|moments| moments.null_count() > 0);
        let default_us = if by_default { opened.predictor.watermark_us().await?.unwrap_or_default() } else { 0 };
        let (keys, rows) = users.distinct(moments.as_ref(), default_us);
        let answers = opened.memo.answer(&keys, &*opened.predictor, &self.tally).await?;
        Ok((answers, rows))
    }

    fn with_columns(&self, batch: &RecordBatch, rows: &[u32], answers: &Answers, opened: &Opened) -> Result<RecordBatch> {
        let classes = opened.predictor.classes();
        let mut columns = batch.columns().to_vec();
        for output in self.outputs.iter() {
            columns.push(output.column(batch, rows, answers, &opened.layout, classes)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn evaluate(expression: &Arc<dyn PhysicalExpr>, batches: &[RecordBatch]) -> Result<Vec<ArrayRef>> {
    batches.iter().map(|batch| expression.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

/// Labelled rows: each row is its own answer, a NULL row has none.
fn rows_of(row: &Arc<dyn PhysicalExpr>, batches: &[RecordBatch], opened: &Opened, tally: &Tally) -> Result<(Answers, Vec<u32>)> {
    let column = joined(&evaluate(row, batches)?)?;
    let lost = || Error::internal("a row of features is no struct");
    let structs = column.as_struct_opt().ok_or_else(lost)?;
    let features = RecordBatch::try_new_with_options(
        Arc::new(arrow::datatypes::Schema::new(structs.fields().clone())),
        structs.columns().to_vec(),
        &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(structs.len())),
    )?;
    let (features, rows) = if structs.null_count() == 0 {
        (features, every_row(structs.len()))
    } else {
        let valid = valid_rows(structs);
        let mut rows = vec![UNKNOWN; structs.len()];
        (0u32..).zip(valid.values()).for_each(|(answer, row)| rows[*row as usize] = answer);
        (take_record_batch(&features, &valid)?, rows)
    };
    if features.num_rows() == 0 {
        return Ok((Answers::new(&opened.layout), rows));
    }
    Ok((opened.predictor.rows(&features, &opened.layout, tally)?, rows))
}

fn sequences(
    events: &Arc<dyn PhysicalExpr>,
    items: Option<&Arc<dyn PhysicalExpr>>,
    times: Option<&Arc<dyn PhysicalExpr>>,
    batches: &[RecordBatch],
    opened: &Opened,
    tally: &Tally,
) -> Result<(Answers, Vec<u32>)> {
    let list = |expression: &Arc<dyn PhysicalExpr>| {
        let column = joined(&evaluate(expression, batches)?)?;
        let lost = || Error::internal("the argument of a sequence is no list");
        Ok::<_, datafusion::common::DataFusionError>(column.as_list_opt::<i32>().ok_or_else(lost)?.clone())
    };
    let given = Sequences { events: list(events)?, items: items.map(list).transpose()?, times: times.map(list).transpose()? };
    let answers = opened.predictor.sequences(&given.rows()?, &opened.layout, tally)?;
    let rows = every_row(answers.len());
    Ok((answers, rows))
}
