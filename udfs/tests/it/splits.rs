//! Aggregates do not depend on the order of rows, on partitions, or on how partial states merge: 10,000 groups, dealt anew each
//! time, give equal columns bit for bit.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::datasource::MemTable;
use portrait_udfs::kernels::splitmix;

use crate::program::Program;

const GROUPS: u64 = 10_000;
const START_US: i64 = 1_700_000_000_000_000;

/// Rows of groups of 0 to 15 rows, NULLs among them.
fn rows() -> RecordBatch {
    let (mut group, mut sample, mut value, mut key, mut time) = (vec![], vec![], vec![], vec![], vec![]);
    for id in 0..GROUPS {
        let at = |i: u64| splitmix::at(id, i);
        for row in 0..at(0) % 16 {
            let scale = 10_f64.powi((at(1) % 9) as i32 - 2);
            group.push(Some(id as i64));
            sample.push((at(row * 8 + 2) % 20 != 0).then_some((at(row * 8 + 3) % 2) as i64));
            value.push((at(row * 8 + 4) % 20 != 0).then_some(scale + splitmix::fraction(id, row * 8 + 5)));
            key.push(["shoes", "bags", "hats"][(at(row * 8 + 6) % 3) as usize]);
            time.push(START_US + (at(row * 8 + 7) % 10_000_000_000_000) as i64);
        }
    }
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("g", Arc::new(Int64Array::from(group)), true),
        ("s", Arc::new(Int64Array::from(sample)), true),
        ("x", Arc::new(Float64Array::from(value)), true),
        ("k", Arc::new(StringArray::from(key)), true),
        ("t", Arc::new(TimestampMicrosecondArray::from(time)), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// The rows in another order, in `partitions` parts of batches of `batch` rows.
fn dealt(rows: &RecordBatch, seed: u64, partitions: usize, batch: usize) -> Arc<MemTable> {
    let mut order: Vec<i64> = (0..rows.num_rows() as i64).collect();
    splitmix::shuffle(&mut order, seed);
    let shuffled = take_record_batch(rows, &Int64Array::from(order)).unwrap();
    let mut parts = vec![Vec::new(); partitions];
    for (at, start) in (0..shuffled.num_rows()).step_by(batch).enumerate() {
        parts[at % partitions].push(shuffled.slice(start, batch.min(shuffled.num_rows() - start)));
    }
    Arc::new(MemTable::try_new(rows.schema(), parts).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_do_not_depend_on_order_or_partitions() {
    let rows = rows();
    let calls = [
        "welch_t_test(x, s)",
        "student_t_test(x, s, 0.9)",
        "mann_whitney_u_test(x, s)",
        "proportions_z_test(x > 1, s)",
        "chi2_test(k, s)",
        "time_decayed_sum(x, t, '3 days')",
        "time_decayed_avg(x, t, '1 hour')",
        "time_decayed_count(t, '7 days', TIMESTAMP '2024-01-01')",
        "exponential_time_decayed_sum(INTERVAL '2 days', x, t)",
        "pref_vector(k, x, t, '14 days')",
        "pref_top(k, x, t, '14 days', TIMESTAMP '2023-12-15')",
        "active_hours(t, '+05:30')",
        "peak_hour(t)",
        "lifecycle_stage(t, TIMESTAMP '2024-01-15', '20 days')",
        "group_bitmap(s * 7 + g % 100)",
        "group_bitmap_state(s * 7 + g)",
        "group_bitmap_or_state(bitmap_build(ARRAY[s, g, g * 100000]))",
        "group_bitmap_xor_state(bitmap_build(ARRAY[s, g, g * 100000]))",
        "group_bitmap_and(bitmap_build(ARRAY[s, g, 7]))",
        "bsi_build(s + g % 50, CAST(x * 100 AS BIGINT) - 500)",
    ];
    let columns: Vec<String> = calls.iter().enumerate().map(|(at, call)| format!("{call} AS c{at}")).collect();
    let columns = columns.join(", ");
    let mut first: Option<(RecordBatch, RecordBatch)> = None;
    for (seed, partitions, batch) in [(1, 1, 8192), (2, 3, 100), (3, 7, 37), (4, 16, 1000)] {
        let program = Program::with(2, 4, 1 << 30).await;
        program.session.register_table("r", dealt(&rows, seed, partitions, batch)).unwrap();
        let grouped = program.rows(&format!("SELECT g, count(*) AS n, {columns} FROM r GROUP BY g ORDER BY g")).await;
        let whole = program.rows(&format!("SELECT {columns} FROM r")).await;
        let answer = (concat_batches(&grouped[0].schema(), &grouped).unwrap(), concat_batches(&whole[0].schema(), &whole).unwrap());
        assert!(answer.0.num_rows() > 9000 && answer.1.num_rows() == 1);
        for (grouped, whole) in [(&answer.0, &first.as_ref().map(|first| &first.0)), (&answer.1, &first.as_ref().map(|first| &first.1))]
            .map(|(answer, first)| (answer, *first))
        {
            let Some(first) = whole else { continue };
            for (at, column) in grouped.columns().iter().enumerate() {
                assert_eq!(column, first.column(at), "{} with seed {seed}", grouped.schema().field(at).name());
            }
        }
        first.get_or_insert(answer);
    }
}
