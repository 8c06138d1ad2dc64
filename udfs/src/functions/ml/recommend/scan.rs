//! All users of a source in bounded memory: histories come in user order, in as many streams as the session has partitions;
//! each is encoded a few users at a time and handed to a visitor.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::subject::{Items, Subject};
use crate::error::{Error, Result};
use crate::features::UserReader;
use crate::features::events::UserKey;
use crate::features::inputs::Inputs;
use crate::functions::ml::predict::loaded::CHUNK_BYTES;
use crate::train::retrieve::History;

/// Output batches that wait to be read, per partition.
const BATCHES_WAITING: usize = 2;

/// Users that wait to be looked at; those whose history is too short are not among them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) users: Vec<UserKey>,
    pub(super) inputs: Inputs,
    /// What they did, where the visitor wants to know.
    pub(super) histories: Vec<History>,
}

/// Looks at some users; called from several threads.
pub(super) trait Visitor: Send + Sync {
    /// Rows for these users, if there are any.
    fn visit(&self, waiting: &Waiting) -> Result<Option<RecordBatch>>;

    /// Users at once at most.
    fn users_at_once(&self) -> usize;

    /// The items, when histories are wanted.
    fn items(&self) -> Option<&Items> {
        None
    }
}

/// Everybody's rows, in no particular order.
pub(super) async fn scan(
    subject: Arc<Subject>,
    visitor: Arc<dyn Visitor>,
    task: &TaskContext,
    schema: SchemaRef,
    cancel: CancellationToken,
) -> DataFusionResult<SendableRecordBatchStream> {
    let partitions = task.session_config().target_partitions().max(1);
    let streams = subject.histories.scan(partitions).await?;
    let mut merged = RecordBatchReceiverStreamBuilder::new(schema, streams.len() * BATCHES_WAITING);
    for histories in streams {
        let (subject, visitor, cancel, sender) = (Arc::clone(&subject), Arc::clone(&visitor), cancel.clone(), merged.tx());
        merged.spawn(async move {
            run(&subject, &*visitor, histories, &cancel, |batch| {
                let sender = sender.clone();
                async move { sender.send(Ok(batch)).await.is_ok() }
            })
            .await
        });
    }
    Ok(merged.build())
}

/// One partition, until `send` says that nobody reads any more.
async fn run<F, S>(
    subject: &Subject,
    visitor: &dyn Visitor,
    mut histories: SendableRecordBatchStream,
    cancel: &CancellationToken,
    send: F,
) -> DataFusionResult<()>
where
    F: Fn(RecordBatch) -> S,
    S: Future<Output = bool>,
{
    let mut reader = UserReader::new(histories.schema(), &subject.source.columns)?;
    let mut encoder = subject.encoder()?;
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
            if encoder.push(&history, reader.strings(), subject.as_of_us, &mut waiting.inputs)? {
                waiting.users.push(history.user.clone());
                waiting.histories.extend(visitor.items().map(|items| items.history(&history, reader.strings(), subject.as_of_us)));
            }
            reader.recycle(history);
            if waiting.users.len() >= visitor.users_at_once() || waiting.inputs.bytes() >= CHUNK_BYTES {
                if cancel.is_cancelled() {
                    return Err(Error::cancelled().into());
                }
                if let Some(batch) = waiting.hand_over(visitor)?
                    && !send(batch).await
                {
                    return Ok(());
                }
                // Ranking is arithmetic: other statements get their turn between chunks.
                tokio::task::yield_now().await;
            }
        }
    }
    if let Some(batch) = waiting.hand_over(visitor)? {
        send(batch).await;
    }
    Ok(())
}

impl Waiting {
    fn hand_over(&mut self, visitor: &dyn Visitor) -> Result<Option<RecordBatch>> {
        let batch = if self.users.is_empty() { None } else { visitor.visit(self)? };
        self.users.clear();
        self.histories.clear();
        self.inputs.clear();
        Ok(batch)
    }
}
