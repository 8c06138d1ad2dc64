//! What SQL files cannot show: cancelling, timing out, dropping a result, limits, the data directory's lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use portrait::config::{Config, Options};
use portrait::engine::{Engine, Session};
use portrait::error::{Code, Error, Result, classify};
use portrait::sql::{self, Outcome, RunOptions};
use tokio_util::sync::CancellationToken;

/// Rows without end for all that a test can wait.
const ENDLESS: &str =
    "SELECT count(*) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b WHERE a.value + b.value = -1";

struct Bench {
    engine: Arc<Engine>,
    session: Session,
    folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let engine = portrait::cli::open(&config(folder.path())).await.unwrap();
    let session = engine.session("portrait").unwrap();
    Bench { engine, session, folder }
}

fn config(folder: &std::path::Path) -> Config {
    Config::resolve(Options {
        data_dir: Some(folder.to_path_buf()),
        memory_limit: Some("256MiB".into()),
        query_threads: Some(2),
        training_threads: Some(1),
        ..Options::default()
    })
    .unwrap()
}

/// Runs every statement of `text`; how many rows came.
async fn rows(session: &Session, text: &str, cancel: &CancellationToken) -> Result<usize> {
    let mut count = 0;
    for statement in sql::parse(text)? {
        let options = RunOptions { cancel: cancel.clone(), ..RunOptions::default() };
        if let Outcome::Rows { mut stream, .. } = sql::run(session, &statement, options).await? {
            while let Some(batch) = stream.next().await {
                count += batch.map_err(classify)?.num_rows();
            }
        }
    }
    Ok(count)
}

impl Bench {
    async fn rows(&self, text: &str, cancel: &CancellationToken) -> Result<usize> {
        rows(&self.session, text, cancel).await
    }

    async fn fails(&self, text: &str) -> Error {
        self.rows(text, &CancellationToken::new()).await.unwrap_err()
    }

    /// The next statement works, whatever timeout the one before had.
    async fn works(&self) {
        let none = CancellationToken::new();
        let next = if self.session.with_settings(|settings| settings.show("statement_timeout")).unwrap() == "0" {
            self.rows("SELECT 1", &none).await
        } else {
            rows(&self.engine.session("portrait").unwrap(), "SELECT 1", &none).await
        };
        assert_eq!(next.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_a_running_query() {
    let bench = bench().await;
    let cancel = CancellationToken::new();
    let fired = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fired.cancel();
    });
    let started = Instant::now();
    let error = bench.rows(ENDLESS, &cancel).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::Cancelled, "canceling statement due to user request"));
    assert!(started.elapsed() < Duration::from_secs(60), "the query ran to its end");
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_statement_does_not_start() {
    let bench = bench().await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(bench.rows("CREATE TABLE never (a INT)", &cancel).await.unwrap_err().code, Code::Cancelled);
    assert!(bench.engine.catalog().describe("never").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_cover_running() {
    let bench = bench().await;
    let error = bench.fails(&format!("SET statement_timeout = 200; {ENDLESS}")).await;
    assert_eq!((error.code, error.message.as_str()), (Code::Cancelled, "canceling statement due to statement timeout"));
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_cover_sending() {
    let bench = bench().await;
    bench.rows("SET statement_timeout = 300", &CancellationToken::new()).await.unwrap();
    let statement = sql::parse("SELECT value FROM generate_series(1, 100000000) AS g(value)").unwrap().remove(0);
    let Outcome::Rows { mut stream, .. } = sql::run(&bench.session, &statement, RunOptions::default()).await.unwrap() else {
        panic!("no rows")
    };
    // A client that reads slowly holds the statement open, but not beyond its time.
    let error = loop {
        match stream.next().await {
            Some(Ok(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Some(Err(error)) => break classify(error),
            None => panic!("the rows ended before the timeout"),
        }
    };
    assert_eq!(error.message, "canceling statement due to statement timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_result_frees_its_memory() {
    let bench = bench().await;
    let statement = sql::parse("SELECT value FROM generate_series(1, 2000000) AS g(value) ORDER BY value % 1000, value").unwrap().remove(0);
    let Outcome::Rows { mut stream, .. } = sql::run(&bench.session, &statement, RunOptions::default()).await.unwrap() else {
        panic!("no rows")
    };
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let pool = Arc::clone(&bench.engine.runtime().env().memory_pool);
    for _ in 0..600 {
        if pool.reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} bytes are still reserved", pool.reserved());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_deep_statements_do_not_end_the_process() {
    let bench = bench().await;
    let cases = [
        format!("SELECT 1 WHERE {}true", "true AND ".repeat(1_000)),
        format!("SELECT {}1", "1 + ".repeat(400)),
        format!("SELECT {}1{}", "(".repeat(60), ")".repeat(60)),
        format!("SELECT {}1{}", "abs(".repeat(60), ")".repeat(60)),
        format!("SELECT 1 WHERE {}true", "true AND ".repeat(1_000_000)),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(300)),
        format!("SELECT 1 WHERE 1 IN ({})", (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")),
    ];
    for text in cases {
        let result = bench.rows(&text, &CancellationToken::new()).await;
        assert!(
            result.as_ref().map_or_else(|error| error.code == Code::TooComplex, |_| true),
            "{}…: {result:?}",
            &text[..40.min(text.len())]
        );
    }
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_is_an_error_of_the_statement() {
    let bench = bench().await;
    // An aggregate over distinct wide keys that cannot spill below its own floor.
    let error = bench.fails("SELECT array_agg(repeat('x', 1000) || value) FROM generate_series(1, 2000000) AS g(value)").await;
    assert_eq!(error.code, Code::OutOfMemory, "{error:?}");
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_do_not_leak_between_sessions() {
    let bench = bench().await;
    bench.rows("SET application_name = 'one'; SET datafusion.execution.batch_size = 100", &CancellationToken::new()).await.unwrap();
    let other = bench.engine.session("portrait").unwrap();
    assert_eq!(other.with_settings(|settings| settings.show("application_name")).unwrap(), "");
    assert_eq!(other.with_settings(|settings| settings.show("datafusion.execution.batch_size")).unwrap(), "8192");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time() {
    let bench = bench().await;
    let second = Engine::open(&config(bench.folder.path())).await;
    assert_eq!(second.unwrap_err().code, Code::NotReady);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_types() {
    let bench = bench().await;
    let describe = async |text: &str| {
        let statement = sql::parse(text).unwrap().remove(0);
        sql::prepare(&bench.session, &statement, &[]).await.map(|prepared| prepared.parameter_types)
    };
    use arrow::datatypes::DataType;
    bench.rows("CREATE TABLE typed (a BIGINT, b TEXT, c DOUBLE PRECISION)", &CancellationToken::new()).await.unwrap();
    assert_eq!(describe("SELECT $1").await.unwrap(), [DataType::Utf8]);
    assert_eq!(describe("SELECT a FROM typed WHERE a = $1 AND b = $2").await.unwrap(), [DataType::Int64, DataType::Utf8]);
    assert_eq!(describe("SELECT a FROM typed LIMIT $1").await.unwrap(), [DataType::Int64]);
    assert_eq!(describe("INSERT INTO typed VALUES ($1, $2, $3)").await.unwrap(), [DataType::Int64, DataType::Utf8, DataType::Float64]);
    assert_eq!(describe("SELECT $0").await.unwrap_err().code, Code::UndefinedParameter);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_table_fails_the_prepared_statement() {
    let bench = bench().await;
    let none = CancellationToken::new();
    bench.rows("CREATE TABLE changing AS SELECT 1 AS a", &none).await.unwrap();
    let statement = sql::parse("SELECT * FROM changing").unwrap().remove(0);
    let prepared = sql::prepare(&bench.session, &statement, &[]).await.unwrap();
    bench.rows("DROP TABLE changing; CREATE TABLE changing AS SELECT 'x' AS a", &none).await.unwrap();
    let error = sql::execute(&bench.session, &prepared, Vec::new(), RunOptions::default()).await.unwrap_err();
    assert_eq!(error.message, "cached plan must not change result type");
}
