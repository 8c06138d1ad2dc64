//! Profiles: what making one row per user costs, what it costs to follow new events, and how soon one user's row is there.
//!
//! `cargo bench --bench profiles -- [--users N] [--events N] [--folder DIR] [--lookups N]`
//!
//! `whole` is a refresh that runs the whole query, `follow` one after a hundred events of as many users.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, unreachable_pub, reason = "a bench prints its figures")]

mod common;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio_postgres::{Client, NoTls};

type Failure = Box<dyn std::error::Error>;

const PORT: u16 = 5496;
const BATCHES: u64 = 5;
const VIEW: &str = "CREATE MATERIALIZED VIEW profiles AS SELECT user_id, count(*) AS events, max(event_time) AS last_seen, \
    sum(price) FILTER (WHERE event_type = 'purchase') AS spent, count(DISTINCT item_id) AS items FROM events GROUP BY user_id";

async fn seconds(client: &Client, sql: &str) -> Result<f64, Failure> {
    let began = Instant::now();
    client.batch_execute(sql).await.map_err(|error| format!("{sql}: {error:?}"))?;
    Ok(began.elapsed().as_secs_f64())
}

/// A hundred events of as many users.
fn arrivals(users: u64, batch: u64) -> String {
    let rows: Vec<String> = (0..100_u64)
        .map(|n| {
            format!("({}, TIMESTAMP '2024-06-01' + INTERVAL '{batch} days', 'purchase', 1, 2.5)", (n * 7919 + batch * 104_729) % users)
        })
        .collect();
    format!("INSERT INTO events (user_id, event_time, event_type, item_id, price) VALUES {}", rows.join(", "))
}

async fn measure(client: &Client, server: &common::Server, users: u64, lookups: usize) -> Result<Value, Failure> {
    let mut results = Map::new();
    let mut note = |name: &str, value: f64| {
        eprintln!("{name}: {value:.4}");
        results.insert(name.to_owned(), json!(value));
    };
    client.batch_execute("CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '.'").await?;
    server.forget_peak();
    note(
        "load seconds",
        seconds(client, "CREATE TABLE events WITH (user_column = user_id, time_column = event_time) AS SELECT * FROM files").await?,
    );
    note("load mib", server.peak_mib());
    server.forget_peak();
    note("create seconds", seconds(client, VIEW).await?);
    note("create mib", server.peak_mib());
    let mut follow = f64::INFINITY;
    for batch in 0..BATCHES {
        client.batch_execute(&arrivals(users, batch)).await?;
        follow = follow.min(seconds(client, "REFRESH MATERIALIZED VIEW profiles").await?);
    }
    let said = client.query_one("SELECT last_refresh, users_refreshed FROM ml.profile_freshness", &[]).await?;
    assert_eq!((said.get::<_, &str>(0), said.get::<_, i64>(1)), ("users with new events", 100));
    note("follow seconds", follow);
    client.batch_execute("REFRESH MATERIALIZED VIEW profiles WITH NO DATA").await?;
    note("whole seconds", seconds(client, "REFRESH MATERIALIZED VIEW profiles").await?);

    let statement = client.prepare("SELECT * FROM profiles WHERE user_id = $1").await?;
    let mut times = Vec::with_capacity(lookups);
    for n in 0..lookups as u64 {
        let user = i64::try_from((n * 48_271) % users)?;
        let began = Instant::now();
        let found = client.query(&statement, &[&user]).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(found.len() <= 1);
    }
    times.sort_by(f64::total_cmp);
    note("lookup p50_ms", times[times.len() / 2]);
    note("lookup p99_ms", times[times.len() * 99 / 100]);
    Ok(Value::Object(results))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: &str| {
        given.iter().position(|word| word == name).and_then(|at| given.get(at + 1)).cloned().unwrap_or_else(|| default.to_owned())
    };
    let (users, events) = (value("--users", "500000").parse()?, value("--events", "10000000").parse()?);
    let folder = PathBuf::from(value("--folder", &format!("{}/bench-data/log-{users}-{events}", std::env::temp_dir().display())));
    let folder = common::synthetic::write_log(&folder, users, events)?;
    let server = common::Server::start(&folder, PORT, &value("--memory-limit", "4GiB"))?;
    let (client, connection) = tokio_postgres::connect(&format!("host=127.0.0.1 port={PORT} user=portrait dbname=portrait"), NoTls).await?;
    tokio::spawn(connection);
    println!("{}", measure(&client, &server, users, value("--lookups", "5000").parse()?).await?);
    Ok(())
}
