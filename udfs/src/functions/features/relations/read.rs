//! Reading a source: every partition in a task of its own, what they hold answering to the memory pool.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::features::transform::{InputKind, Values};
use crate::functions::relation::Call;

/// What is gathered from a partition.
pub(super) trait Gather: Send + Sized + 'static {
    /// Takes in rows.
    fn push(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Takes in what another partition gave.
    fn merge(&mut self, other: Self);

    /// The bytes it holds.
    fn bytes(&self) -> usize;
}

/// The plan of the source.
fn plan(call: &Call) -> Result<&Arc<dyn ExecutionPlan>> {
    call.source.as_ref().map(|source| &source.plan).ok_or_else(|| call.args.missing("source"))
}

/// The plan in at least `wanted` partitions: batches are dealt in turn, since what is gathered does not depend on it.
fn spread(plan: &Arc<dyn ExecutionPlan>, wanted: usize) -> DfResult<Arc<dyn ExecutionPlan>> {
    if plan.output_partitioning().partition_count() >= wanted {
        return Ok(Arc::clone(plan));
    }
    Ok(Arc::new(RepartitionExec::try_new(Arc::clone(plan), Partitioning::RoundRobinBatch(wanted))?))
}

/// Room in the memory pool under the function's name.
pub(super) fn reservation(call: &Call, name: &str) -> MemoryReservation {
    MemoryConsumer::new(name).register(&call.task.runtime_env().memory_pool)
}

/// Gathers from all partitions at once, merged in their order.
///
/// # Errors
/// Whatever reading says; 53200 when there is no room.
pub(super) async fn gather<G: Gather>(call: &Call, name: &'static str, new: impl Fn() -> G) -> DfResult<(G, MemoryReservation)> {
    let plan = spread(plan(call)?, call.task.session_config().target_partitions())?;
    let mut tasks: JoinSet<DfResult<(usize, G, MemoryReservation)>> = JoinSet::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let mut rows = plan.execute(partition, Arc::clone(&call.task))?;
        let (mut gathered, room) = (new(), reservation(call, name));
        tasks.spawn(async move {
            while let Some(batch) = rows.next().await {
                gathered.push(&batch?)?;
                room.try_resize(gathered.bytes())?;
            }
            Ok((partition, gathered, room))
        });
    }
    let mut parts = Vec::new();
    while let Some(done) = tasks.join_next().await {
        parts.push(done.map_err(|error| DataFusionError::from(Error::internal(format!("reading a source stopped: {error}"))))??);
    }
    parts.sort_by_key(|(partition, ..)| *partition);
    let (mut all, room) = (new(), reservation(call, name));
    for (_, part, held) in parts {
        all.merge(part);
        held.free();
        room.try_resize(all.bytes())?;
    }
    Ok((all, room))
}

/// The rows of all partitions, several partitions at work at once; their order means nothing.
///
/// # Errors
/// Whatever the plan says.
pub(super) fn rows(call: &Call) -> DfResult<SendableRecordBatchStream> {
    let plan = plan(call)?;
    let streams = (0..plan.output_partitioning().partition_count())
        .map(|partition| plan.execute(partition, Arc::clone(&call.task)))
        .collect::<DfResult<Vec<_>>>()?;
    let merged = stream::select_all(streams);
    Ok(Box::pin(RecordBatchStreamAdapter::new(plan.schema(), merged.into_stream())))
}

/// Some columns as numbers, NaN where missing.
///
/// # Errors
/// 42804 when one is no number.
pub(super) fn numbers(batch: &RecordBatch, columns: &[usize]) -> Result<Vec<Vec<f64>>> {
    let read = |index: &usize| {
        let array: &ArrayRef = batch.columns().get(*index).ok_or_else(|| Error::internal("a source lost a column"))?;
        let mut values = Values::empty(InputKind::Number);
        values.append(batch.schema_ref().field(*index).name(), array)?;
        match values {
            Values::Numbers(values) => Ok(values),
            _ => Err(Error::internal("a number was not read as one")),
        }
    };
    columns.iter().map(read).collect()
}
