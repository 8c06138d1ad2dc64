//! Rows that come in the order of their first keys, put into the order of all of them: only ties change places.
//!
//! A table of events lies by user and time. Whoever wants the rows of one user and time in an order too would sort what is in order
//! already; here a batch without ties passes as it is, and a tie is sorted by itself. In memory is the batch before, and the tie at
//! hand, which is counted.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat_batches, partition, take_record_batch};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr, RangePartitioning};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;

/// The ranges of the first key that the streams of `plan` have, when each has its rows in the order of the first `ordered` keys.
///
/// # Errors
/// Whatever the engine says of the plan's order.
pub(super) fn ranges_in_order<'a>(
    plan: &'a Arc<dyn ExecutionPlan>,
    order: &LexOrdering,
    ordered: usize,
) -> Result<Option<&'a RangePartitioning>> {
    let Partitioning::Range(ranges) = plan.output_partitioning() else { return Ok(None) };
    let by_key = ranges.ordering().len() == 1 && ranges.ordering().first().expr.eq(&order.first().expr);
    let in_order = by_key && plan.equivalence_properties().ordering_satisfy(order.iter().take(ordered).cloned())?;
    Ok(in_order.then_some(ranges))
}

/// See the module.
#[derive(Debug)]
pub(super) struct SortTiesExec {
    input: Arc<dyn ExecutionPlan>,
    /// The keys that the input is ordered by, and those that order its ties.
    order: LexOrdering,
    ordered: usize,
}

impl SortTiesExec {
    /// `input` with the rows in `order`, whose first `ordered` keys it is in order of.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, order: LexOrdering, ordered: usize) -> Self {
        Self { input, order, ordered }
    }
}

impl DisplayAs for SortTiesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SortTiesExec: order=[{}], ordered={}", self.order, self.ordered)
    }
}

impl ExecutionPlan for SortTiesExec {
    fn name(&self) -> &'static str {
        "SortTiesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        for key in self.order.iter() {
            if visit(&key.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(input, self.order.clone(), self.ordered)))
    }

    fn execute(&self, stream: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let memory = MemoryConsumer::new("SortTies").register(context.memory_pool());
        let keys: Vec<PhysicalSortExpr> = self.order.iter().cloned().collect();
        let (ordered, rest) = keys.split_at(self.ordered.min(keys.len()));
        let ties = Ties {
            input: self.input.execute(stream, context)?,
            ordered: ordered.to_vec(),
            rest: rest.to_vec(),
            held: Vec::new(),
            ended: false,
            memory,
        };
        let rows = futures::stream::try_unfold(ties, |mut ties| async move { Ok(ties.next().await?.map(|batch| (batch, ties))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// A batch, and its columns that the input is ordered by.
struct Held {
    batch: RecordBatch,
    keys: Vec<ArrayRef>,
}

impl Held {
    /// Whether the last row of this and the first of the next are a tie.
    fn reaches(&self, next: &Self) -> Result<bool> {
        for (a, b) in self.keys.iter().zip(&next.keys) {
            if !not_distinct(&a.slice(a.len() - 1, 1), &b.slice(0, 1))?.value(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

struct Ties {
    input: SendableRecordBatchStream,
    ordered: Vec<PhysicalSortExpr>,
    rest: Vec<PhysicalSortExpr>,
    /// What came last: each batch but the last ends within a tie.
    held: Vec<Held>,
    ended: bool,
    memory: MemoryReservation,
}

fn values(keys: &[PhysicalSortExpr], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    keys.iter().map(|key| key.expr.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

impl Ties {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.ended {
            let Some(batch) = self.input.next().await.transpose()? else {
                self.ended = true;
                break;
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let next = Held { keys: values(&self.ordered, &batch)?, batch };
            let goes_on = match self.held.last() {
                Some(last) => last.reaches(&next)?,
                None => true,
            };
            let before = if goes_on { None } else { self.whole()? };
            self.memory.try_grow(next.batch.get_array_memory_size())?;
            self.held.push(next);
            if before.is_some() {
                return Ok(before);
            }
        }
        self.whole()
    }

    /// What is held, in order.
    fn whole(&mut self) -> Result<Option<RecordBatch>> {
        let mut held = std::mem::take(&mut self.held);
        let last = match (held.pop(), held.is_empty()) {
            (None, _) => return Ok(None),
            (Some(only), true) => only,
            (Some(last), false) => {
                let batches: Vec<RecordBatch> = held.into_iter().chain([last]).map(|part| part.batch).collect();
                let batch = concat_batches(&self.input.schema(), &batches)?;
                Held { keys: values(&self.ordered, &batch)?, batch }
            }
        };
        self.memory.free();
        tied(last.batch, &last.keys, &self.rest).map(Some)
    }
}

/// A batch in the order of all keys, that is in the order of the first `ordered` of them: whoever has whole ties needs no stream.
///
/// # Errors
/// Keys that have no order.
pub(super) fn in_whole_order(batch: RecordBatch, order: &LexOrdering, ordered: usize) -> Result<RecordBatch> {
    let keys: Vec<PhysicalSortExpr> = order.iter().cloned().collect();
    let (first, rest) = keys.split_at(ordered.min(keys.len()));
    let columns = values(first, &batch)?;
    tied(batch, &columns, rest)
}

/// A batch in order of the columns `keys`, whose ties go by `rest`.
fn tied(batch: RecordBatch, keys: &[ArrayRef], rest: &[PhysicalSortExpr]) -> Result<RecordBatch> {
    if batch.num_rows() == 0 || rest.is_empty() {
        return Ok(batch);
    }
    let ties = partition(keys)?;
    if ties.len() == batch.num_rows() {
        return Ok(batch);
    }
    sorted(&batch, rest, ties.ranges())
}

/// A batch with each of `runs` in the order of `keys`.
fn sorted(batch: &RecordBatch, keys: &[PhysicalSortExpr], runs: Vec<Range<usize>>) -> Result<RecordBatch> {
    let columns = values(keys, batch)?;
    let compare = columns.iter().zip(keys).map(|(column, by)| make_comparator(column, column, by.options));
    let compare: Vec<DynComparator> = compare.collect::<std::result::Result<_, _>>()?;
    let compare = |a: usize, b: usize| compare.iter().map(|by| by(a, b)).find(|found| found.is_ne()).unwrap_or(Ordering::Equal);
    let in_order = |run: &Range<usize>| (run.start + 1..run.end).all(|row| compare(row - 1, row).is_le());
    if runs.iter().all(in_order) {
        return Ok(batch.clone());
    }
    let mut places: Vec<u32> = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
    for run in runs.into_iter().filter(|run| run.len() > 1) {
        places[run].sort_by(|a, b| compare(*a as usize, *b as usize));
    }
    Ok(take_record_batch(batch, &UInt32Array::from(places))?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::compute::SortOptions;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_plan::collect;

    use super::*;
    use crate::kernels::splitmix;

    fn rows(batches: &[RecordBatch]) -> Vec<[Option<i64>; 3]> {
        let cell = |batch: &RecordBatch, row: usize, at: usize| batch.column(at).as_primitive::<Int64Type>().iter().nth(row).flatten();
        let of_batch = |batch: &RecordBatch| (0..batch.num_rows()).map(|row| [0, 1, 2].map(|at| cell(batch, row, at))).collect::<Vec<_>>();
        batches.iter().flat_map(of_batch).collect()
    }

    #[tokio::test]
    async fn rows_are_in_the_order_of_all_keys_however_they_are_cut() {
        let schema = Arc::new(Schema::new(["user", "time", "value"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()));
        for case in 0..500_u64 {
            let number = |i: u64, most: u64| (splitmix::at(case, i) % most) as i64;
            let value = |i: u64| (number(3 * i + 2, 6) > 0).then(|| number(3 * i + 3, 9));
            let mut all: Vec<[Option<i64>; 3]> =
                (1..1 + case % 60).map(|i| [Some(number(3 * i, 1 + case % 4)), Some(number(3 * i + 1, 1 + case % 7)), value(i)]).collect();
            all.sort_by_key(|row| (row[0], row[1]));
            let (mut batches, mut start) = (vec![], 0);
            while start < all.len() {
                let end = all.len().min(start + 1 + number(1000 + start as u64, 5) as usize);
                let column = |at: usize| Arc::new(all[start..end].iter().map(|row| row[at]).collect::<Int64Array>()) as ArrayRef;
                batches.push(RecordBatch::try_new(Arc::clone(&schema), vec![column(0), column(1), column(2)]).unwrap());
                start = end;
            }
            let input = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(&schema), None).unwrap();
            let options = SortOptions { descending: false, nulls_first: true };
            let key = |at: usize| PhysicalSortExpr::new(Arc::new(Column::new(schema.field(at).name(), at)), options);
            let order = LexOrdering::new((0..3).map(key)).unwrap();
            let found = collect(Arc::new(SortTiesExec::new(input, order, 2)), Arc::new(TaskContext::default())).await.unwrap();
            all.sort();
            assert_eq!(rows(&found), all, "case {case}");
        }
    }
}
