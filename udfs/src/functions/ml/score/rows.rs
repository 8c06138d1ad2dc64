//! Rows of any source → the same rows with scores.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, StringBuilder};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{Count, MetricBuilder};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::score_rows::about_users;
use super::users::statement;
use crate::error::{Error, Result};
use crate::functions::ml::predict::answers::most_likely;
use crate::functions::ml::predict::loaded::{CHUNK_ROWS, event_source, scored};
use crate::functions::relation::Call;
use crate::registry::{LoadedModel, ModelAction};

/// Output batches that wait to be read, per partition.
const BATCHES_WAITING: usize = 2;

/// The rows of `score_rows`; nothing happens before the first poll.
pub(super) fn stream(call: Call) -> SendableRecordBatchStream {
    let schema = Arc::clone(&call.schema);
    let rows = futures::stream::once(async move { open(call).await }).try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

async fn open(call: Call) -> DataFusionResult<SendableRecordBatchStream> {
    let registry = &call.context.registry;
    let reference = call.args.model("model").ok_or_else(|| call.args.missing("model"))?;
    registry.authorize(&call.statement().user, &reference.name, ModelAction::Execute)?;
    let model = registry.load_to_answer(reference).await?;
    if event_source(&model).is_some() {
        return Err(about_users(&reference.name).into());
    }
    let plan = &call.source.as_ref().ok_or_else(|| call.args.missing("source"))?.plan;
    let worker = Worker {
        model,
        schema: Arc::clone(&call.schema),
        cancel: statement(&call.task).cancel.clone(),
        passes: MetricBuilder::new(&call.metrics).global_counter("forward_passes"),
    };
    worker.start(plan, &call.task)
}

#[derive(Debug, Clone)]
struct Worker {
    model: Arc<LoadedModel>,
    schema: SchemaRef,
    cancel: CancellationToken,
    passes: Count,
}

impl Worker {
    fn start(self, plan: &Arc<dyn ExecutionPlan>, task: &Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let partitions = plan.output_partitioning().partition_count();
        let mut merged = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), partitions.max(1) * BATCHES_WAITING);
        for partition in 0..partitions {
            let mut source = plan.execute(partition, Arc::clone(task))?;
            let (worker, sender) = (self.clone(), merged.tx());
            merged.spawn(async move {
                while let Some(batch) = source.next().await {
                    let batch = batch?;
                    let chunk = worker.model.manifest.preprocessor.shape().pass_rows(CHUNK_ROWS);
                    for start in (0..batch.num_rows()).step_by(chunk) {
                        if worker.cancel.is_cancelled() {
                            return Err(Error::cancelled().into());
                        }
                        let rows = batch.slice(start, chunk.min(batch.num_rows() - start));
                        if sender.send(Ok(worker.score(&rows)?)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                Ok(())
            });
        }
        Ok(merged.build())
    }

    fn score(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let (inputs, known) = self.model.manifest.preprocessor.encode_known_rows(rows)?;
        let scores = self.model.scorer.score(&inputs)?;
        self.passes.add(inputs.rows);
        let classes = &self.model.manifest.info.classes;
        let mut intent = StringBuilder::new();
        let mut probability = Float64Builder::with_capacity(rows.num_rows());
        let mut value = Float64Builder::with_capacity(rows.num_rows());
        let mut next = 0;
        for known in known {
            if !known {
                intent.append_null();
                probability.append_null();
                value.append_null();
                continue;
            }
            let one = scored(&scores, next);
            next += 1;
            let best = most_likely(one.probabilities) as usize;
            intent.append_option(classes.get(best));
            probability.append_option(one.probabilities.get(best).copied());
            value.append_option(if classes.is_empty() { Some(one.value) } else { None });
        }
        let mut columns = rows.columns().to_vec();
        let added: [ArrayRef; 3] = [Arc::new(intent.finish()), Arc::new(probability.finish()), Arc::new(value.finish())];
        columns.extend(added);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| Error::internal(format!("adding scores to rows failed: {error}")))
    }
}
