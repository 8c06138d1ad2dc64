//! Merges sorted runs whose order is a number and a time: what rows of most tables of events are sorted by.
//!
//! The engine's merge compares encoded rows. Here the heads of the runs lie in a heap of numbers, and rows are gathered batch by
//! batch. Rows whose keys are equal come in the order of the runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, interleave_record_batch};
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use portrait_udfs::error::Error;
use tokio::sync::mpsc::Sender;

use super::sort::BATCHES_READ_AHEAD;

/// Merged batches that wait for whoever writes them.
const BATCHES_AHEAD: usize = 4;

/// The rows of `runs`, each in the order of its first column, a whole number, and with `with_time` of its second, a time; neither
/// has NULLs. They are merged on another thread than the reader's. `rows` is the size of a batch.
pub(super) fn merge_runs(
    schema: &SchemaRef,
    runs: Vec<SendableRecordBatchStream>,
    with_time: bool,
    rows: usize,
    memory: MemoryReservation,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStream::builder(SchemaRef::clone(schema), BATCHES_AHEAD);
    let merge = Merge { runs: Vec::new(), batches: Vec::new(), picked: Vec::with_capacity(rows), rows, with_time, memory };
    let output = builder.tx();
    builder.spawn(async move { merge.run(runs, output).await });
    builder.build()
}

/// One run and the batch that its head is in.
struct Run {
    stream: SendableRecordBatchStream,
    /// The batch's place among those that rows are gathered from.
    batch: usize,
    users: Vec<i64>,
    times: Vec<i64>,
    next: usize,
}

struct Merge {
    runs: Vec<Run>,
    batches: Vec<RecordBatch>,
    /// (batch, row) of the rows that are gathered next.
    picked: Vec<(usize, usize)>,
    rows: usize,
    with_time: bool,
    memory: MemoryReservation,
}

type Head = Reverse<(i64, i64, usize)>;

impl Merge {
    async fn run(mut self, streams: Vec<SendableRecordBatchStream>, output: Sender<EngineResult<RecordBatch>>) -> EngineResult<()> {
        let mut heads = BinaryHeap::<Head>::with_capacity(streams.len());
        for stream in streams {
            self.runs.push(Run { stream, batch: usize::MAX, users: Vec::new(), times: Vec::new(), next: 0 });
            let run = self.runs.len() - 1;
            if let Some(head) = self.refill(run).await? {
                heads.push(head);
            }
        }
        loop {
            // The heap must not be held while the next batch is read.
            let ended = {
                let Some(mut head) = heads.peek_mut() else { break };
                let Reverse((.., number)) = *head;
                let run = &mut self.runs[number];
                self.picked.push((run.batch, run.next));
                run.next += 1;
                match run.head(number) {
                    Some(next) => {
                        *head = next;
                        None
                    }
                    None => {
                        PeekMut::pop(head);
                        Some(number)
                    }
                }
            };
            if let Some(number) = ended
                && let Some(next) = self.refill(number).await?
            {
                heads.push(next);
            }
            if self.picked.len() == self.rows && !self.send(&output).await? {
                return Ok(());
            }
        }
        self.send(&output).await?;
        Ok(())
    }

    /// Reads the next batch of a run; its head, unless the run is at its end.
    async fn refill(&mut self, number: usize) -> EngineResult<Option<Head>> {
        loop {
            let Some(batch) = self.runs[number].stream.next().await else {
                self.runs[number].batch = usize::MAX;
                return Ok(None);
            };
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let users = numbers(batch.column(0))?;
            let times = if self.with_time { times(batch.column(1))? } else { Vec::new() };
            self.batches.push(batch);
            let run = &mut self.runs[number];
            (run.batch, run.users, run.times, run.next) = (self.batches.len() - 1, users, times, 0);
            return Ok(run.head(number));
        }
    }

    /// Gathers the picked rows; false when nobody wants them any more. Batches that no run is in are let go of.
    async fn send(&mut self, output: &Sender<EngineResult<RecordBatch>>) -> EngineResult<bool> {
        if self.picked.is_empty() {
            return Ok(true);
        }
        let from: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows = interleave_record_batch(&from, &self.picked)?;
        self.picked.clear();
        let mut kept = Vec::with_capacity(self.runs.len());
        for run in self.runs.iter_mut().filter(|run| run.batch != usize::MAX) {
            kept.push(self.batches[run.batch].clone());
            run.batch = kept.len() - 1;
        }
        self.batches = kept;
        let held: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        // Of each run there are batches that wait, and one that is being read.
        self.memory.try_resize((2 + BATCHES_READ_AHEAD) * held + BATCHES_AHEAD * rows.get_array_memory_size())?;
        Ok(output.send(Ok(rows)).await.is_ok())
    }
}

impl Run {
    fn head(&self, number: usize) -> Option<Head> {
        let user = *self.users.get(self.next)?;
        Some(Reverse((user, self.times.get(self.next).copied().unwrap_or_default(), number)))
    }
}

fn numbers(column: &ArrayRef) -> EngineResult<Vec<i64>> {
    if column.null_count() > 0 {
        return Err(Error::internal("a run of rows without a key").into());
    }
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().to_vec())
}

fn times(column: &ArrayRef) -> EngineResult<Vec<i64>> {
    match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) if times.null_count() == 0 => Ok(times.values().to_vec()),
        _ => Err(Error::internal("a run of rows without a time").into()),
    }
}
