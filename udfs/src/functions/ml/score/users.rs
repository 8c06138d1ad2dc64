//! Histories in user order → scored users: what `score_users` and `embed_users` share.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{Count, MetricBuilder};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use crate::context::{EventSource, StatementContext, UserHistories};
use crate::error::{Code, Error, Result};
use crate::features::encoder::HistoryEncoder;
use crate::features::events::{Strings, UserKey};
use crate::features::inputs::Inputs;
use crate::features::{EventColumns, KeyType, UserHistory, UserReader};
use crate::functions::MlContext;
use crate::functions::ml::predict::loaded::{CHUNK_BYTES, chunk_rows, event_source, key_array};
use crate::functions::relation::{Arguments, Call};
use crate::registry::{LoadedModel, ModelAction};
use crate::train::Scores;

/// Users in one output batch.
const BATCH_USERS: usize = 2048;
/// Output batches that wait to be read, per partition.
const BATCHES_WAITING: usize = 2;

/// The key type of the model that `args` name, which decides the type of `user_id`.
///
/// # Errors
/// 42704 for an unknown model; [`Code::DatatypeMismatch`] for a model of labelled rows.
pub(super) fn key_type(args: &Arguments, context: &MlContext, function: &str) -> Result<KeyType> {
    // A model that is a parameter without a value yet: numbers are the common case, and the plan's schema stays.
    let Some(model) = args.resolve_model("model", context)? else { return Ok(KeyType::Int64) };
    let info = context.registry.info(&model)?;
    let columns = info.source.as_ref().and_then(|source| source.columns.as_ref());
    let columns = columns.ok_or_else(|| not_about_users(&model.name, function))?;
    Ok(columns.key_type)
}

fn not_about_users(model: &str, function: &str) -> Error {
    Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts from rows, not from users' events"))
        .hint(format!("Use score_rows('{model}', source) instead of {function}."))
}

/// Users of one output batch.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) users: Vec<UserKey>,
    pub(super) key_type: KeyType,
    /// Events up to `as_of_us`, per user.
    pub(super) events: Vec<i64>,
    /// The last of them.
    pub(super) last_us: Vec<Option<i64>>,
    /// The row of the user's scores; `None` when the history is too short.
    pub(super) rows: Vec<Option<usize>>,
    pub(super) scores: Scores,
    pub(super) as_of_us: i64,
    pub(super) model: Arc<LoadedModel>,
}

impl Scored {
    /// The users as a column of their type.
    pub(super) fn user_column(&self) -> ArrayRef {
        key_array(self.users.iter(), self.key_type)
    }

    /// The version, as SQL counts it.
    pub(super) fn version(&self) -> i32 {
        i32::try_from(self.model.reference.version).unwrap_or(i32::MAX)
    }
}

/// Makes the columns of an output batch.
pub(super) type Columns = fn(&Scored) -> Result<Vec<ArrayRef>>;

/// The rows of `score_users` or `embed_users`; nothing happens before the first poll.
pub(super) fn stream(call: Call, function: &'static str, columns: Columns) -> SendableRecordBatchStream {
    let schema = Arc::clone(&call.schema);
    let rows = futures::stream::once(async move { open(call, function, columns).await }).try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

async fn open(call: Call, function: &'static str, columns: Columns) -> DataFusionResult<SendableRecordBatchStream> {
    let statement = call.statement();
    let registry = &call.context.registry;
    let reference = call.args.model("model").ok_or_else(|| call.args.missing("model"))?;
    registry.authorize(&statement.user, &reference.name, ModelAction::Execute)?;
    let model = registry.load_to_answer(reference).await?;
    let mut source = event_source(&model).ok_or_else(|| not_about_users(&reference.name, function))?;
    if let Some(given) = &call.source {
        source.sql.clone_from(&given.sql);
    }
    let histories = call.context.histories.open(&call.session, &source).await?;
    let as_of_us = call.args.micros("as_of").or(histories.watermark_us()).unwrap_or_default();
    let worker = Worker {
        model,
        source: Arc::new(source),
        as_of_us,
        since_us: call.args.micros("since"),
        schema: Arc::clone(&call.schema),
        columns,
        cancel: statement.cancel.clone(),
        passes: MetricBuilder::new(&call.metrics).global_counter("forward_passes"),
    };
    worker.start(&*histories, &call.task).await
}

/// What every partition needs.
#[derive(Debug, Clone)]
struct Worker {
    model: Arc<LoadedModel>,
    source: Arc<EventSource>,
    as_of_us: i64,
    since_us: Option<i64>,
    schema: SchemaRef,
    columns: Columns,
    cancel: CancellationToken,
    passes: Count,
}

/// Users that wait to be scored.
#[derive(Debug, Default)]
struct Waiting {
    users: Vec<UserKey>,
    events: Vec<i64>,
    last_us: Vec<Option<i64>>,
    rows: Vec<Option<usize>>,
    inputs: Inputs,
}

impl Worker {
    async fn start(self, histories: &dyn UserHistories, task: &Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let partitions = task.session_config().target_partitions().max(1);
        let streams = histories.scan(partitions).await?;
        let mut merged = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), streams.len() * BATCHES_WAITING);
        for histories in streams {
            let (worker, sender) = (self.clone(), merged.tx());
            merged.spawn(async move {
                worker
                    .run(histories, |batch| {
                        let sender = sender.clone();
                        async move { sender.send(Ok(batch)).await.is_ok() }
                    })
                    .await
            });
        }
        Ok(merged.build())
    }

    /// Scores one partition, batch by batch, until `send` says that nobody reads any more.
    async fn run<F, S>(self, mut histories: SendableRecordBatchStream, send: F) -> DataFusionResult<()>
    where
        F: Fn(RecordBatch) -> S,
        S: Future<Output = bool>,
    {
        let columns: &EventColumns = &self.source.columns;
        let mut reader = UserReader::new(histories.schema(), columns)?;
        let mut encoder = self.model.manifest.preprocessor.history_encoder()?;
        let mut waiting = Waiting::default();
        let mut more = true;
        while more {
            match histories.next().await {
                Some(batch) => reader.push(&batch?)?,
                None => more = false,
            }
            loop {
                let mut history = reader.next_user();
                if history.is_none() && !more {
                    history = reader.finish();
                }
                let Some(history) = history else { break };
                self.take(&history, reader.strings(), &mut encoder, &mut waiting)?;
                reader.recycle(history);
                if waiting.is_full(chunk_rows(&self.model)) {
                    if self.cancel.is_cancelled() {
                        return Err(Error::cancelled().into());
                    }
                    if !send(self.score(&mut waiting)?).await {
                        return Ok(());
                    }
                    // Scoring is arithmetic: other statements get their turn between chunks.
                    tokio::task::yield_now().await;
                }
            }
        }
        if !waiting.users.is_empty() {
            send(self.score(&mut waiting)?).await;
        }
        Ok(())
    }

    fn take(&self, history: &UserHistory, strings: &Strings, encoder: &mut HistoryEncoder<'_>, waiting: &mut Waiting) -> Result<()> {
        let events = history.times_us.partition_point(|at_us| *at_us <= self.as_of_us);
        let last_us = events.checked_sub(1).map(|last| history.times_us[last]);
        if self.since_us.is_some_and(|since_us| last_us.is_none_or(|last_us| last_us <= since_us)) {
            return Ok(());
        }
        let row = waiting.inputs.rows;
        let long_enough = encoder.push(history, strings, self.as_of_us, &mut waiting.inputs)?;
        waiting.users.push(history.user.clone());
        waiting.events.push(i64::try_from(events).unwrap_or(i64::MAX));
        waiting.last_us.push(last_us);
        waiting.rows.push(long_enough.then_some(row));
        Ok(())
    }

    fn score(&self, waiting: &mut Waiting) -> Result<RecordBatch> {
        let scores = self.model.scorer.score(&waiting.inputs)?;
        self.passes.add(waiting.inputs.rows);
        waiting.inputs.clear();
        let scored = Scored {
            users: std::mem::take(&mut waiting.users),
            key_type: self.source.columns.key_type,
            events: std::mem::take(&mut waiting.events),
            last_us: std::mem::take(&mut waiting.last_us),
            rows: std::mem::take(&mut waiting.rows),
            scores,
            as_of_us: self.as_of_us,
            model: Arc::clone(&self.model),
        };
        RecordBatch::try_new(Arc::clone(&self.schema), (self.columns)(&scored)?).map_err(|error| {
            // The type of user_id was decided while planning; a version that became active since may differ.
            Error::new(Code::NotReady, format!("model \"{}\" changed while the statement ran", self.model.reference.name))
                .detail(format!("{error}."))
                .hint("Prepare the statement again.")
        })
    }
}

impl Waiting {
    fn is_full(&self, rows: usize) -> bool {
        self.users.len() >= BATCH_USERS || self.inputs.rows >= rows || self.inputs.bytes() >= CHUNK_BYTES
    }
}

/// The statement that a task runs for.
pub(super) fn statement(task: &TaskContext) -> Arc<StatementContext> {
    StatementContext::of(task.session_config())
}
