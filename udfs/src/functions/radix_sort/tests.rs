//! The order is the engine's, whatever the memory, the NULLs and the number of streams.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{JoinType, NullEquality};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::joins::SortMergeJoinExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{collect_partitioned, displayable};

use super::*;
use crate::kernels::splitmix;

type Row = (Option<i64>, i64, String);

fn source(rows: &[Row], streams: usize) -> Arc<dyn ExecutionPlan> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Int64, true),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("what", DataType::Utf8View, false),
    ]));
    let batch = |rows: &[Row]| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.1).map(Some).collect::<TimestampMicrosecondArray>()),
            Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| &row.2))),
        ];
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let mut parts = vec![vec![]; streams];
    rows.chunks(8192).map(batch).enumerate().for_each(|(at, batch)| parts[at % streams].push(batch));
    MemorySourceConfig::try_new_exec(&parts, schema, None).unwrap()
}

fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    let mut found = vec![];
    for batch in batches {
        let (user, what) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(2).as_string_view());
        let time = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let user = |row| user.is_valid(row).then(|| user.value(row));
        found.extend((0..batch.num_rows()).map(|row| (user(row), time.value(row), what.value(row).to_owned())));
    }
    found
}

fn order(a: &Row, b: &Row) -> Ordering {
    (a.0.is_none(), a.0, a.1, &a.2).cmp(&(b.0.is_none(), b.0, b.1, &b.2))
}

/// The rows by stream.
async fn sorted(rows: &[Row], memory: usize, streams: usize) -> Vec<Vec<Row>> {
    let mut input = source(rows, streams);
    let column = |name: &str| Arc::new(Column::new_with_schema(name, &input.schema()).unwrap()) as Arc<dyn PhysicalExpr>;
    let options = SortOptions { descending: false, nulls_first: false };
    let keys: Vec<_> = ["user", "time", "what"].map(|name| PhysicalSortExpr::new(column(name), options)).into();
    let user = column("user");
    if streams > 1 {
        input = Arc::new(RepartitionExec::try_new(input, Partitioning::Hash(vec![user], 2)).unwrap());
    }
    let sort = SortExec::new(LexOrdering::new(keys).unwrap(), input).with_preserve_partitioning(streams > 1);
    let plan = by_digits(Arc::new(sort));
    assert_eq!((plan.name(), plan.children()[0].name()), ("RadixSortExec", "DataSourceExec"));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory))).build_arc().unwrap();
    let task = Arc::new(TaskContext::default().with_runtime(Arc::clone(&runtime)));
    // Twice: nothing stays of the first time.
    collect_partitioned(Arc::clone(&plan), Arc::clone(&task)).await.unwrap();
    let parts = collect_partitioned(plan, task).await.unwrap();
    assert_eq!(runtime.memory_pool.reserved(), 0);
    parts.iter().map(|part| rows_of(part)).collect()
}

#[tokio::test]
async fn as_the_engine_sorts() {
    for (seed, count, nulls, memory, streams) in [
        (1, 0, false, 1 << 30, 1),
        (2, 5_000, false, 1 << 30, 1),
        (3, 600_000, false, 1 << 30, 1),
        (4, 600_000, false, 48 << 20, 1),
        (5, 300_000, true, 1 << 30, 1),
        (6, 0, false, 1 << 30, 3),
        (7, 20_000, false, 1 << 30, 3),
        (8, 900_000, false, 1 << 30, 3),
        (9, 900_000, false, 96 << 20, 3),
        (10, 900_000, true, 1 << 30, 3),
    ] {
        let at = |i: u64, salt: u64| splitmix::at(seed, 4 * i + salt);
        let row = |i: u64| {
            let user = (!nulls || at(i, 0) % 1000 != 0).then_some((at(i, 1) % 50_000).cast_signed() - 1000);
            (user, (at(i, 2) % 3_000).cast_signed(), format!("a text that is longer than a view {}", at(i, 3) % 10))
        };
        let rows: Vec<Row> = (0..count).map(row).collect();
        let mut expected = rows.clone();
        expected.sort_by(order);
        let parts = sorted(&rows, memory, streams).await;
        assert!(parts.iter().all(|part| part.is_sorted_by(|a, b| order(a, b).is_le())), "seed {seed}");
        let users: Vec<BTreeSet<_>> = parts.iter().map(|part| part.iter().map(|row| row.0).collect()).collect();
        assert!(users.iter().skip(1).all(|users_of| users_of.is_disjoint(&users[0])), "seed {seed}");
        let mut found = parts.concat();
        found.sort_by(order);
        assert!(found == expected, "seed {seed}");
    }
}

/// A join pairs streams by hash: nothing else may decide there who goes where.
#[tokio::test]
async fn streams_that_are_paired_keep_their_hash() {
    let keys = |plan: &Arc<dyn ExecutionPlan>| {
        let column = |name: &str| Arc::new(Column::new_with_schema(name, &plan.schema()).unwrap()) as Arc<dyn PhysicalExpr>;
        (column("user"), LexOrdering::new(vec![PhysicalSortExpr::new_default(column("user")).nulls_last()]).unwrap())
    };
    let side = || {
        let input = source(&[(Some(1), 1, String::new())], 2);
        let (user, order) = keys(&input);
        let sent = Arc::new(RepartitionExec::try_new(input, Partitioning::Hash(vec![user], 2)).unwrap());
        Arc::new(SortExec::new(order, sent).with_preserve_partitioning(true)) as Arc<dyn ExecutionPlan>
    };
    let rule = |plan| RadixSorts.optimize(plan, &ConfigOptions::default()).unwrap();
    let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
    let (left, right) = (side(), side());
    let (user, order) = keys(&left);
    let on = vec![(Arc::clone(&user), user)];
    let options = vec![SortOptions { descending: false, nulls_first: false }];
    let join = SortMergeJoinExec::try_new(left, right, on, None, JoinType::Inner, options, NullEquality::NullEqualsNothing).unwrap();
    let joined = shown(&rule(Arc::new(join)));
    assert_eq!((joined.matches("RadixSortExec").count(), joined.matches("RepartitionExec").count()), (2, 2), "{joined}");
    let merged = shown(&rule(Arc::new(SortPreservingMergeExec::new(order, side()))));
    assert_eq!((merged.matches("RadixSortExec").count(), merged.matches("RepartitionExec").count()), (1, 0), "{merged}");
}
