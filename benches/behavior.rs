//! Funnels, retention, paths, preferences, experiments: the questions of `behavior.sql` through the server, beside DuckDB
//! and ClickHouse (`peers/behavior.py`) on the same Parquet files; `benches/compare behavior` runs all three.
//!
//! `cargo bench --bench behavior -- [--users N] [--events N] [--folder DIR] [--memory-limit 4GiB] [--repeat N] [--only QUERY] [--kept]`
//!
//! With `--kept` the events are first taken into a table of events, as peers take them into tables in the same order; "load" is
//! the time for that, acknowledged when it is durable.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench prints its figures"
)]

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

type Failure = Box<dyn std::error::Error>;

const PORT: u16 = 5498;
const QUESTIONS: &str = include_str!("behavior.sql");

/// Names and our spelling of every question.
fn questions() -> impl Iterator<Item = (&'static str, &'static str)> {
    QUESTIONS.split("-- query: ").skip(1).filter_map(|part| {
        let (name, rest) = part.split_once('\n')?;
        let own = rest.split_once("-- portrait\n")?.1;
        Some((name.trim(), own.split("\n-- ").next()?.trim()))
    })
}

/// The rows as text; NULL as None has it in Python.
async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).unwrap_or("None").to_owned()).collect());
        }
    }
    Ok(rows)
}

/// Makes the table `events`: the files as they are, or kept by user and time.
async fn load(client: &Client, server: &common::Server, kept: bool, results: &mut Map<String, Value>) -> Result<(), Failure> {
    if !kept {
        client.batch_execute("CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION '.'").await?;
        return Ok(());
    }
    client.batch_execute("CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '.'").await?;
    server.forget_peak();
    let began = Instant::now();
    client.batch_execute("CREATE TABLE events WITH (user_column = user_id, time_column = event_time) AS SELECT * FROM files").await?;
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("load: {seconds:.3} s, {:.0} MiB", server.peak_mib());
    results.insert("load".to_owned(), json!({"seconds": seconds, "mib": server.peak_mib(), "rows": []}));
    Ok(())
}

/// How long the engines rest before a question; `peers/behavior.py` has the same.
const SETTLE: Duration = Duration::from_secs(4);

async fn measure(client: &Client, server: &common::Server, repeat: usize, only: &str, kept: bool) -> Result<Value, Failure> {
    let mut results = Map::new();
    load(client, server, kept, &mut results).await?;
    for (name, sql) in questions().filter(|(name, _)| name.starts_with(only)) {
        let (mut best, mut answer) = (f64::INFINITY, Vec::new());
        // What the question before took is given back: the peak is that of this one.
        tokio::time::sleep(SETTLE).await;
        server.forget_peak();
        for _ in 0..repeat {
            let began = Instant::now();
            answer = rows(client, sql).await.map_err(|error| format!("{name}: {error:?}"))?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        eprintln!("{name}: {best:.3} s, {:.0} MiB", server.peak_mib());
        results.insert(name.to_owned(), json!({"seconds": best, "mib": server.peak_mib(), "rows": answer}));
    }
    Ok(Value::Object(results))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: &str| {
        given.iter().position(|word| word == name).and_then(|at| given.get(at + 1)).cloned().unwrap_or_else(|| default.to_owned())
    };
    let kept = given.iter().any(|word| word == "--kept");
    let (users, events) = (value("--users", "100000").parse()?, value("--events", "2000000").parse()?);
    let folder = PathBuf::from(value("--folder", &format!("{}/bench-data/log-{users}-{events}", std::env::temp_dir().display())));
    let folder = common::synthetic::write_log(&folder, users, events)?;
    let server = common::Server::start(&folder, PORT, &value("--memory-limit", "4GiB"))?;
    let (client, connection) = tokio_postgres::connect(&format!("host=127.0.0.1 port={PORT} user=portrait dbname=portrait"), NoTls).await?;
    tokio::spawn(connection);
    println!("{}", measure(&client, &server, value("--repeat", "3").parse()?, &value("--only", ""), kept).await?);
    Ok(())
}
