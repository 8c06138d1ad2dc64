//! From Parquet events to scored users, through the server as a client sees it: seconds, examples/s, users/s, the
//! latency of one user's prediction, and the server's peak memory. The twin in DuckDB and PyTorch is
//! `peers/pipeline.py`; `benches/compare` runs both.
//!
//! `cargo bench --bench pipeline -- [--users N] [--events N] [--folder DIR] [--memory-limit 1GiB] [--lookups N]`

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench prints its figures"
)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use tokio_postgres::{Client, NoTls};

type Failure = Box<dyn std::error::Error>;

const PORT: u16 = 5499;
const OPTIONS: &str = r#"{"epochs": 2, "batch_size": 256, "hidden_dim": 64, "embedding_dim": 32, "layers": 1, "max_seq_len": 50,
    "learning_rate": 0.001, "sample": 0.1, "patience": 10, "seed": 42}"#;

struct Arguments {
    users: u64,
    events: u64,
    folder: PathBuf,
    memory_limit: String,
    lookups: usize,
}

fn arguments() -> Result<Arguments, Failure> {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: &str| {
        given.iter().position(|word| word == name).and_then(|at| given.get(at + 1)).cloned().unwrap_or_else(|| default.to_owned())
    };
    let (users, events) = (value("--users", "100000").parse()?, value("--events", "2000000").parse()?);
    let folder = PathBuf::from(value("--folder", &format!("{}/bench-data/log-{users}-{events}", std::env::temp_dir().display())));
    Ok(Arguments { users, events, folder, memory_limit: value("--memory-limit", "1GiB"), lookups: value("--lookups", "500").parse()? })
}

async fn measure(client: &Client, server: &common::Server, lookups: usize) -> Result<BTreeMap<&'static str, f64>, Failure> {
    let mut result = BTreeMap::new();
    client.batch_execute("CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION '.'").await?;
    let began = Instant::now();
    let train = format!(
        "SELECT train_rows, epochs, seconds, test, baseline, message FROM train_profile_model('bench', 'events', target => 'purchase', \
         horizon => '14 days', arch => 'gru', options => '{OPTIONS}', activate => 'always')"
    );
    let row = client.query_one(train.as_str(), &[]).await?;
    let trained = began.elapsed().as_secs_f64();
    let (rows, epochs, seconds): (i64, i32, f64) = (row.get(0), row.get(1), row.get(2));
    eprintln!(
        "trained in {trained:.1} s: test {:?}, baseline {:?}; {}",
        row.get::<_, f64>(3),
        row.get::<_, f64>(4),
        row.get::<_, String>(5)
    );
    result.insert("train_statement_seconds", trained);
    result.insert("train_examples_per_second", rows as f64 * f64::from(epochs) / seconds);
    result.insert("train_peak_memory_mib", server.peak_mib());

    let scoring = Instant::now();
    client.batch_execute("CREATE TABLE scored AS SELECT * FROM score_users('bench')").await?;
    let scored = scoring.elapsed().as_secs_f64();
    let users: i64 = client.query_one("SELECT count(*) FROM scored", &[]).await?.get(0);
    result.insert("parquet_to_scored_seconds", began.elapsed().as_secs_f64());
    result.insert("score_users_per_second", users as f64 / scored);
    result.insert("users", users as f64);
    result.insert("peak_memory_mib", server.peak_mib());

    let ids = client.query("SELECT user_id FROM scored ORDER BY probability DESC NULLS LAST, user_id LIMIT 1000", &[]).await?;
    let predict = client.prepare("SELECT predict_intent('bench', $1)").await?;
    let mut latencies = Vec::with_capacity(lookups);
    for n in 0..lookups + 50 {
        let id: i64 = ids[n * 7919 % ids.len()].get(0);
        let asked = Instant::now();
        client.query_one(&predict, &[&id.to_string()]).await?;
        if n >= 50 {
            latencies.push(asked.elapsed().as_secs_f64() * 1e3);
        }
    }
    latencies.sort_by(f64::total_cmp);
    result.insert("lookup_p50_ms", latencies[latencies.len() / 2]);
    result.insert("lookup_p99_ms", latencies[latencies.len() * 99 / 100]);
    Ok(result)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let folder = common::synthetic::write_log(&arguments.folder, arguments.users, arguments.events)?;
    let server = common::Server::start(&folder, PORT, &arguments.memory_limit)?;
    let (client, connection) = tokio_postgres::connect(&format!("host=127.0.0.1 port={PORT} user=portrait dbname=portrait"), NoTls).await?;
    tokio::spawn(connection);
    let result = measure(&client, &server, arguments.lookups).await?;
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}
