//! One input of a sort, read to its end a chunk at a time, or until the rows must go to the engine's sort.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::buckets::{CHUNK_ROWS, Chunk, Keys, bytes_to_make, ranges_of};
use crate::kernels::key_ranges::KeyRanges;

/// What the inputs of one sort share.
#[derive(Debug)]
pub(super) struct Common {
    schema: SchemaRef,
    keys: Keys,
    memory: Arc<MemoryReservation>,
    /// The first chunk says what the ranges of the buckets are.
    ranges: OnceLock<KeyRanges>,
    /// Set when a key is NULL or memory runs out.
    stop: AtomicBool,
}

impl Common {
    pub(super) fn new(schema: SchemaRef, keys: Keys, memory: Arc<MemoryReservation>) -> Self {
        Self { schema, keys, memory, ranges: OnceLock::new(), stop: AtomicBool::new(false) }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How many buckets there are.
    pub(super) fn buckets(&self) -> usize {
        self.ranges.get().map_or(1, KeyRanges::count)
    }

    /// Lays the last rows of all inputs, too few for a chunk of their own, into buckets; false when memory does not suffice. Few
    /// rows in all are one bucket.
    pub(super) fn finish(&self, intakes: &mut [Intake]) -> Result<bool> {
        self.ranges.get_or_init(KeyRanges::whole);
        for intake in intakes {
            if !intake.waiting.is_empty() && !intake.lay(self)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What was read of an input.
pub(super) struct Intake {
    pub(super) chunks: Vec<Chunk>,
    /// Rows that are in no chunk yet.
    waiting: Vec<RecordBatch>,
    rest: SendableRecordBatchStream,
}

impl Intake {
    /// Reads until the end, or until everyone stops.
    pub(super) async fn of(common: Arc<Common>, input: SendableRecordBatchStream, metrics: BaselineMetrics) -> Result<Self> {
        let mut intake = Self { chunks: vec![], waiting: vec![], rest: input };
        let mut count = 0;
        while !common.stopped() {
            let Some(batch) = intake.rest.next().await.transpose()? else { break };
            count += batch.num_rows();
            let null = common.keys.any_null(&batch);
            intake.waiting.push(batch);
            let _timer = metrics.elapsed_compute().timer();
            if null || (count >= CHUNK_ROWS && !intake.lay(&common)?) {
                common.stop.store(true, Ordering::Relaxed);
            }
            if count >= CHUNK_ROWS {
                count = 0;
            }
        }
        Ok(intake)
    }

    /// Makes a chunk of what waits; false when there is no memory for it.
    fn lay(&mut self, common: &Common) -> Result<bool> {
        let bytes = bytes_to_make(&self.waiting);
        if common.memory.try_grow(bytes).is_err() {
            return Ok(false);
        }
        let ranges = match common.ranges.get() {
            Some(ranges) => ranges,
            None => {
                let ranges = ranges_of(&common.keys, &self.waiting)?;
                common.ranges.get_or_init(|| ranges)
            }
        };
        let chunk = Chunk::new(&common.schema, &common.keys, &std::mem::take(&mut self.waiting), ranges)?;
        common.memory.shrink(bytes.saturating_sub(chunk.bytes()));
        self.chunks.push(chunk);
        Ok(true)
    }

    /// All rows of the input: those that came, in batches of `size` rows, and those to come.
    pub(super) fn replayed(self, schema: &SchemaRef, size: usize) -> SendableRecordBatchStream {
        let chunks = self.chunks.into_iter().flat_map(move |chunk| {
            let count = chunk.rows.num_rows();
            (0..count).step_by(size).map(move |at| chunk.copied(at, size.min(count - at)))
        });
        let before = futures::stream::iter(chunks.chain(self.waiting.into_iter().map(Ok)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), before.chain(self.rest)))
    }
}
