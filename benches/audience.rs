//! Two audiences of five million users each: their overlap, from memory and from bytes, and what making them costs; beside
//! CRoaring and ClickHouse (`peers/audience.py`) over the same ids. `benches/compare audience` runs all of them.
//!
//! `cargo bench --bench audience -- [--users N] [--repeat N]`: N users in all, half of them in each audience.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, unreachable_pub, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::time::Instant;

use portrait_udfs::kernels::bitmap::{Bitmap, Bsi, Collector};
use portrait_udfs::kernels::splitmix;
use serde_json::{Map, json};

/// Multipliers that deal users to the first and to the second audience, as in `peers/audience.py`.
const AUDIENCES: [u64; 2] = [2_654_435_761, 2_246_822_519];

/// Half of the users, by a bit of their product with a multiplier; every id times `spread`.
fn audience(users: u64, multiplier: u64, spread: u64) -> Vec<u64> {
    let chosen = |id: &u64| id.wrapping_mul(multiplier) & 0x8000_0000 == 0;
    (0..users).filter(chosen).map(|id| id * spread).collect()
}

/// The best of several runs, milliseconds.
fn best<T>(repeat: usize, mut work: impl FnMut() -> T) -> (f64, T) {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..repeat.max(1) {
        let began = Instant::now();
        last = Some(black_box(work()));
        best = best.min(began.elapsed().as_secs_f64() * 1e3);
    }
    (best, last.unwrap())
}

fn collect(ids: &[u64]) -> Bitmap {
    let mut collector = Collector::default();
    for id in ids {
        collector.insert(*id);
    }
    std::mem::take(collector.set())
}

fn main() {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: u64| {
        given.iter().position(|word| word == name).and_then(|at| given.get(at + 1)).map_or(default, |word| word.parse().unwrap())
    };
    let (users, repeat) = (value("--users", 10_000_000), value("--repeat", 7) as usize);
    let mut results = Map::new();
    // Dense ids are those of stored audiences; the others are as numbers of customers may be.
    for (name, spread) in [("dense", 1), ("spread", 397)] {
        let ids = AUDIENCES.map(|multiplier| audience(users, multiplier, spread));
        let mut note = |what: &str, value: f64| {
            eprintln!("{name} {what}: {value:.3}");
            results.insert(format!("{name} {what}"), json!(value));
        };
        let [a, b] = ids.each_ref().map(|ids| collect(ids));
        let [x, y] = [a.clone().to_bytes(), b.clone().to_bytes()];
        let (ms, both) = best(repeat, || a.and_len(&b));
        note("overlap", both as f64);
        note("and cardinality_ms", ms);
        note("and cardinality from bytes_ms", best(repeat, || Bitmap::read(&x).unwrap().and_len(&Bitmap::read(&y).unwrap())).0);
        note("and to bytes_ms", best(repeat, || Bitmap::read(&x).unwrap().and(&Bitmap::read(&y).unwrap()).to_bytes()).0);
        note("bytes", x.len() as f64);
        note("group_bitmap in order_ms", best(repeat, || collect(&ids[0])).0);
        let mut shuffled = ids[0].clone();
        splitmix::shuffle(&mut shuffled, 3);
        note("group_bitmap shuffled_ms", best(repeat, || collect(&shuffled)).0);
    }
    let pairs: Vec<(u64, i64)> = (0..users).map(|id| (id, (id.wrapping_mul(AUDIENCES[0]) % 100_000) as i64 - 1_000)).collect();
    let (ms, index) = best(repeat.min(3), || Bsi::from_ascending(&pairs));
    results.insert("bsi build_ms".into(), json!(ms));
    let crowd = collect(&audience(users, AUDIENCES[1], 1));
    results.insert("bsi sum of a crowd_ms".into(), json!(best(repeat, || index.sum(Some(&crowd))).0));
    results
        .insert("bsi between_ms".into(), json!(best(repeat, || index.compare(40_000).less.and_not(&index.compare(20_000).less).len()).0));
    results.insert("bsi top 1000 of a crowd_ms".into(), json!(best(repeat, || index.top(1_000, Some(&crowd)).len()).0));
    println!("{}", serde_json::Value::Object(results));
}
