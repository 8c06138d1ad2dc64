//! Goal: no way of planning an aggregate of the behaviour room changes its answer. Method: the same rows as one partition, as many,
//! in small batches, with partial aggregation skipped, and in a declared order that emits groups as they end.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext, col};
use portrait_udfs::functions::aggregates;

const ROWS: u64 = 30_000;
const GROUPS: u64 = 900;

/// SplitMix64, written out: a test of its own has no kernels.
fn random(index: u64) -> u64 {
    let mut z = index.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Rows of groups: times with ties and NULLs, conditions that overlap, a text, a weight.
fn rows(order: &[u64]) -> Vec<ArrayRef> {
    let bit = |row: u64, bit: u64| Some((random(row) >> bit) & 3 == 0).filter(|_| !random(row + bit).is_multiple_of(20));
    let flag = |which: u64| Arc::new(order.iter().map(|row| bit(*row, 8 * which)).collect::<BooleanArray>()) as ArrayRef;
    let time = |row: &u64| Some((random(row * 7) % 90) as i64 * 1_000_000).filter(|_| !row.is_multiple_of(31));
    vec![
        Arc::new(order.iter().map(|row| Some(group(*row) as i64)).collect::<Int64Array>()),
        Arc::new(order.iter().map(time).collect::<TimestampMicrosecondArray>()),
        flag(1),
        flag(2),
        flag(3),
        Arc::new(
            order.iter().map(|row| Some(format!("v{}", random(row * 3) % 7)).filter(|_| !row.is_multiple_of(29))).collect::<StringArray>(),
        ),
        Arc::new(order.iter().map(|row| Some((random(row * 5) % 100) as i64)).collect::<Int64Array>()),
    ]
}

fn group(row: u64) -> u64 {
    random(row * 11) % GROUPS
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let flags = ["a", "b", "c"].map(|name| field(name, DataType::Boolean));
    let mut fields = vec![field("g", DataType::Int64), field("t", time)];
    fields.extend(flags);
    fields.extend([field("v", DataType::Utf8), field("w", DataType::Int64)]);
    Arc::new(Schema::new(fields))
}

/// Every aggregate, with the calls whose states differ most.
const CALLS: &str = "window_funnel(INTERVAL '20 seconds', t, a, b, c), window_funnel(20, 'once', t, a, b, c),
    window_funnel(20, 'strict_order', t, a, b, c), window_funnel(20, 'clickhouse, strict_increase', t, a, b, c),
    window_funnel(20, t, 3, ARRAY[a, b, c]), window_funnel_events(20, 'once', t, a, b, c),
    sequence_match('(?1).*(?2)(?t<=9)(?3)', t, a, b, c), sequence_count('(?1)(?2)', t, a, b, c) FILTER (WHERE w > 20),
    sequence_match_events('(?1)(?t>5)(?2)', t, a, b, c), sequence_next_node('forward', 'first_match', t, v, true, a, b),
    retention(a, a AND b, c AND NOT b), retention(ARRAY[a, b]), range_retention_count(a, b, t, ARRAY[0, 1]),
    top_k(v, 3), top_k(v, 2, w), top_k(v, 2, w / 3.0), top_k(v, 2, w::double precision / 3)";

async fn answer(partitions: usize, batch: usize, settings: &[(&str, &str)], sorted: bool, group_by: &str) -> String {
    let mut config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch);
    for (name, value) in settings {
        config.options_mut().set(name, value).expect("setting");
    }
    let context = SessionContext::new_with_config(config);
    aggregates().iter().for_each(|aggregate| context.register_udaf(aggregate.as_ref().clone()));
    let mut order: Vec<u64> = (0..ROWS).collect();
    if sorted {
        order.sort_by_key(|row| group(*row));
    }
    // Rows of one partition lie side by side, so groups are cut where partitions are.
    let share = order.len().div_ceil(partitions);
    let cut = |rows_of: &[u64]| rows_of.chunks(batch).map(|part| RecordBatch::try_new(schema(), rows(part)).expect("batch")).collect();
    let table = MemTable::try_new(schema(), order.chunks(share).map(cut).collect()).expect("table");
    let table = if sorted { table.with_sort_order(vec![vec![col("g").sort(true, false)]]) } else { table };
    context.register_table("events", Arc::new(table)).expect("table");
    let sql = format!("SELECT {group_by} {CALLS} FROM events {}", if group_by.is_empty() { "" } else { "GROUP BY g ORDER BY g" });
    let batches = context.sql(&sql).await.expect("plan").collect().await.expect("answer");
    pretty_format_batches(&batches).expect("text").to_string()
}

#[tokio::test]
async fn plans_do_not_change_answers() {
    let skip: &[(&str, &str)] = &[
        ("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", "1"),
        ("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", "0.0"),
    ];
    let one = answer(1, 8192, &[], false, "g,").await;
    assert!(one.lines().count() as u64 > GROUPS / 2, "{}", one.lines().count());
    assert!(one.matches('3').count() > 100, "funnels get somewhere");
    for (name, other) in [
        ("four partitions", answer(4, 512, &[], false, "g,").await),
        ("tiny batches", answer(3, 7, &[], false, "g,").await),
        ("partial aggregation skipped", answer(4, 512, skip, false, "g,").await),
        ("a declared order", answer(1, 300, &[], true, "g,").await),
        ("a declared order in partitions", answer(3, 300, &[], true, "g,").await),
    ] {
        assert!(other == one, "{name} changes the answer");
    }
}

#[tokio::test]
async fn nor_do_those_without_groups() {
    let one = answer(1, 8192, &[], false, "").await;
    assert_eq!(answer(4, 512, &[], false, "").await, one);
    assert_eq!(answer(3, 7, &[], true, "").await, one);
}
