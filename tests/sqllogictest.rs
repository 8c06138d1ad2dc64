//! Runs every file of `tests/slt`, in process and over the wire: the same statements, the same answers.
//!
//! `cargo nextest run -p portrait --test sqllogictest [name]`, for example `in_process::sql/settings`. How to write a
//! file: `tests/slt/README.md`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, unreachable_pub, reason = "a test fails loudly")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use portrait::config::{AuthMode, Config, Options};
use portrait::engine::{Engine, Session};
use portrait::error::Error;
use portrait::pg::{self, TextRows};
use portrait::sql::{self, Outcome, RunOptions};
use sqllogictest::harness::{Arguments, Failed, Trial, run};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio::net::TcpListener;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files = Vec::new();
    find(&root, &mut files);
    files.sort();
    let mut trials = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).with_extension("").to_string_lossy().replace('\\', "/");
        for wire in [false, true] {
            let file = file.clone();
            let mode = if wire { "wire" } else { "in_process" };
            trials.push(Trial::test(format!("{mode}::{name}"), move || test(&file, wire)));
        }
    }
    assert!(!trials.is_empty(), "no .slt file below {}", root.display());
    run(&Arguments::from_args(), trials).exit();
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            files.push(path);
        }
    }
}

/// One file against one fresh data directory.
fn test(file: &Path, wire: bool) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let config = config(folder.path())?;
        let engine = portrait::cli::open(&config).await?;
        let result = if wire { over_the_wire(&engine, file).await } else { in_process(&engine, file).await };
        engine.shutdown().await;
        result
    });
    runtime.shutdown_background();
    result
}

fn config(folder: &Path) -> Result<Config, Error> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    Config::resolve(Options {
        data_dir: Some(folder.to_path_buf()),
        data_roots: Some(vec![bundled.display().to_string()]),
        auth: Some(AuthMode::Trust),
        memory_limit: Some("1GiB".into()),
        query_threads: Some(2),
        training_threads: Some(2),
        ..Options::default()
    })
}

async fn in_process(engine: &Arc<Engine>, file: &Path) -> Result<(), Failed> {
    let mut runner = Runner::new(|| async { Ok(Embedded { session: engine.session("portrait").map_err(Fault::from)? }) });
    runner.with_validator(same);
    runner.add_label("in_process");
    Ok(runner.run_file_async(file).await?)
}

async fn over_the_wire(engine: &Arc<Engine>, file: &Path) -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(pg::serve(Arc::clone(engine), listener, AuthMode::Trust, None, shutdown.clone()));
    let result = {
        let mut runner = Runner::new(|| async move {
            let text = format!("host={} port={} user=portrait dbname=portrait", address.ip(), address.port());
            let (client, connection) = tokio_postgres::connect(&text, NoTls).await.map_err(Fault::from)?;
            tokio::spawn(connection);
            Ok(Wire { client })
        });
        runner.with_validator(same);
        runner.add_label("wire");
        let result = runner.run_file_async(file).await;
        runner.shutdown_async().await;
        result
    };
    shutdown.cancel();
    server.await??;
    Ok(result?)
}

/// Rows are compared cell by cell; `true` and `false` may be written for PostgreSQL's `t` and `f`.
fn same(normalizer: fn(&String) -> String, actual: &[Vec<String>], expected: &[String]) -> bool {
    let plain = |line: &str| {
        let words = line.split_whitespace().map(|word| match word {
            "t" => "true",
            "f" => "false",
            word => word,
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let actual: Vec<String> = actual.iter().map(|row| plain(&row.iter().map(&normalizer).collect::<Vec<_>>().join(" "))).collect();
    let expected: Vec<String> = expected.iter().map(|line| plain(&normalizer(line))).collect();
    actual == expected
}

/// An error as a file sees it: message, DETAIL and HINT in lines, and its SQLSTATE.
#[derive(Debug)]
struct Fault {
    text: String,
    sqlstate: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    fn new(message: &str, detail: Option<&str>, hint: Option<&str>, sqlstate: &str) -> Self {
        let mut text = message.to_owned();
        for (word, line) in [("DETAIL", detail), ("HINT", hint)] {
            if let Some(line) = line {
                text.push_str(&format!("\n{word}: {line}"));
            }
        }
        Self { text, sqlstate: Some(sqlstate.to_owned()) }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(&error.message, error.detail.as_deref(), error.hint.as_deref(), pg::sqlstate(error.code))
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(found) => Self::new(found.message(), found.detail(), found.hint(), found.code().code()),
            None => Self { text: format!("the connection failed: {error}"), sqlstate: None },
        }
    }
}

/// A cell as files write it.
fn cell(text: Option<&str>) -> String {
    match text {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

fn output(columns: Option<usize>, rows: Vec<Vec<String>>, count: u64) -> DBOutput<DefaultColumnType> {
    match columns {
        Some(columns) => DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows },
        None => DBOutput::StatementComplete(count),
    }
}

/// A session without a connection.
struct Embedded {
    session: Session,
}

impl Embedded {
    async fn statements(&self, text: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let mut last = output(None, Vec::new(), 0);
        for statement in sql::parse(text)? {
            last = match sql::run(&self.session, &statement, RunOptions::default()).await? {
                Outcome::Rows { schema, mut stream, .. } => {
                    let zone = self.session.with_settings(|settings| settings.raw("TimeZone"))?;
                    let renderer = TextRows::new(&schema, &zone);
                    let mut rows = Vec::new();
                    while let Some(batch) = stream.next().await {
                        let batch = batch.map_err(|error| {
                            self.session.statement_failed();
                            portrait::error::classify(error)
                        })?;
                        rows.extend(renderer.cells(&batch)?.into_iter().map(|row| row.iter().map(|text| cell(text.as_deref())).collect()));
                    }
                    output(Some(schema.fields().len()), rows, 0)
                }
                Outcome::Done { tag } => output(None, Vec::new(), tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                // There is nothing behind the statement that rows could come from.
                Outcome::CopyIn(copy) => output(None, Vec::new(), u64::from(copy.finish().await?.ends_with(" 1"))),
                // Nobody takes the rows: they are counted.
                Outcome::CopyOut(mut copy) => {
                    let mut count = 0;
                    while let Some(batch) = copy.stream.next().await {
                        count += batch.map_err(portrait::error::classify)?.num_rows() as u64;
                    }
                    output(None, Vec::new(), count)
                }
                Outcome::Empty => output(None, Vec::new(), 0),
            };
        }
        Ok(last)
    }
}

#[async_trait]
impl AsyncDB for Embedded {
    type Error = Fault;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Fault> {
        self.statements(sql).await.map_err(Fault::from)
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "portrait"
    }

    fn error_sql_state(error: &Fault) -> Option<String> {
        error.sqlstate.clone()
    }
}

/// A connection through the server.
struct Wire {
    client: Client,
}

#[async_trait]
impl AsyncDB for Wire {
    type Error = Fault;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Fault> {
        let messages = self.client.simple_query(sql).await?;
        let (mut columns, mut rows, mut count) = (None, Vec::new(), 0);
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(description) => {
                    (columns, rows) = (Some(description.len()), Vec::new());
                }
                SimpleQueryMessage::Row(row) => rows.push((0..row.len()).map(|at| cell(row.get(at))).collect()),
                SimpleQueryMessage::CommandComplete(affected) => count = affected,
                _ => {}
            }
        }
        Ok(output(columns, rows, count))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "portrait"
    }

    fn error_sql_state(error: &Fault) -> Option<String> {
        error.sqlstate.clone()
    }
}
