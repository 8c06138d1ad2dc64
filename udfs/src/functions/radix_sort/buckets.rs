//! Rows laid into buckets by their key as they come, and put in order bucket by bucket.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{SortOptions, cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::error::Result;

use super::scatter::Places;
use crate::kernels::key_order::key_order;
use crate::kernels::key_ranges::KeyRanges;

/// The places of the key columns.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) first: usize,
    pub(super) second: Option<usize>,
    /// What rows with equal keys are ordered by.
    pub(super) rest: Vec<(usize, SortOptions)>,
}

impl Keys {
    /// The columns that may have no NULL.
    pub(super) fn exact(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// Whether rows have keys that are NULL.
    pub(super) fn any_null(&self, rows: &RecordBatch) -> bool {
        self.exact().any(|at| rows.column(at).null_count() > 0)
    }
}

/// Rows of a chunk: enough for the sample, few enough to stay in the cache.
pub(super) const CHUNK_ROWS: usize = 1 << 18;
/// A chunk exists as it came, joined and in order.
const COPIES: usize = 3;

/// Bytes that it takes at most to make a chunk.
pub(super) fn bytes_to_make(batches: &[RecordBatch]) -> usize {
    COPIES * batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
}

/// Rows that came together, bucket after bucket.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) rows: RecordBatch,
    /// Where each bucket begins, and the end.
    begins: Vec<usize>,
}

impl Chunk {
    /// Lays rows into the buckets of `ranges`.
    pub(super) fn new(schema: &SchemaRef, keys: &Keys, batches: &[RecordBatch], ranges: &KeyRanges) -> Result<Self> {
        if ranges.count() == 1 {
            let rows = concat_batches(schema, batches)?;
            let begins = vec![0, rows.num_rows()];
            return Ok(Self { rows, begins });
        }
        let first = batches.iter().map(|batch| numbers(batch.column(keys.first))).collect::<Result<Vec<_>>>()?;
        let (places, begins) = ranges.places(&first.iter().map(|keys| keys.as_ref()).collect::<Vec<_>>());
        let mut places = Places::new(places);
        let column = |at: usize| places.lay(&batches.iter().map(|batch| batch.column(at)).collect::<Vec<_>>());
        let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
        Ok(Self { rows: compact(&RecordBatch::try_new(Arc::clone(schema), columns)?), begins })
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.get_array_memory_size()
    }

    /// Some of its rows, in memory of their own.
    pub(super) fn copied(&self, from: usize, count: usize) -> Result<RecordBatch> {
        let rows: UInt32Array = (from as u32..(from + count) as u32).collect();
        Ok(compact(&take_record_batch(&self.rows, &rows)?))
    }

    /// Its rows in a bucket.
    pub(super) fn bucket(&self, bucket: usize) -> RecordBatch {
        let (from, to) = (self.begins[bucket], self.begins[bucket + 1]);
        self.rows.slice(from, to - from)
    }
}

/// The ranges that buckets have, from a sample of the keys of `batches`.
pub(super) fn ranges_of(keys: &Keys, batches: &[RecordBatch]) -> Result<KeyRanges> {
    let columns = batches.iter().map(|batch| numbers(batch.column(keys.first))).collect::<Result<Vec<_>>>()?;
    Ok(KeyRanges::of_sample(columns.iter().flat_map(|column| column.iter().copied())))
}

/// Taken views point into all that came: their texts are copied.
fn compact(batch: &RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(views) => Arc::new(views.gc()) as ArrayRef,
        None => Arc::clone(column),
    });
    RecordBatch::try_new(batch.schema(), columns.collect()).unwrap_or_else(|_| batch.clone())
}

pub(super) fn numbers(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone())
}

/// The rows of one bucket and their order.
#[derive(Debug)]
pub(super) struct Sorted {
    rows: RecordBatch,
    order: UInt32Array,
}

impl Sorted {
    /// The rows that `chunks` have in a bucket.
    pub(super) fn new(schema: &SchemaRef, keys: &Keys, chunks: &[Chunk], bucket: usize) -> Result<Self> {
        let slices: Vec<RecordBatch> = chunks.iter().map(|chunk| chunk.bucket(bucket)).filter(|rows| rows.num_rows() > 0).collect();
        let rows = concat_batches(schema, &slices)?;
        let (first, second) = (numbers(rows.column(keys.first))?, keys.second.map(|at| numbers(rows.column(at))).transpose()?);
        let mut order = key_order(&first, second.as_deref());
        if !keys.rest.is_empty() {
            let compare = keys.rest.iter().map(|(at, options)| make_comparator(rows.column(*at), rows.column(*at), *options));
            let compare = compare.collect::<std::result::Result<Vec<DynComparator>, _>>()?;
            let key = |row: u32| (first[row as usize], second.as_ref().map(|second| second[row as usize]));
            for rows in order.chunk_by_mut(|a, b| key(*a) == key(*b)).filter(|rows| rows.len() > 1) {
                rows.sort_by(|a, b| {
                    let each = compare.iter().map(|compare| compare(*a as usize, *b as usize));
                    each.fold(Ordering::Equal, Ordering::then)
                });
            }
        }
        Ok(Self { rows, order: UInt32Array::from(order) })
    }

    /// The rows from `at`, `size` of them at most.
    pub(super) fn batch(&self, at: usize, size: usize) -> Option<Result<RecordBatch>> {
        let left = self.order.len().checked_sub(at).filter(|left| *left > 0)?;
        Some(take_record_batch(&self.rows, &self.order.slice(at, left.min(size))).map_err(Into::into))
    }
}
