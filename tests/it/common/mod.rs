//! What several tests need: the program as a child process, an engine in this process, random numbers that can be repeated.

pub(crate) mod disk;
pub(crate) mod server;
pub(crate) mod workload;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use portrait::config::{Config, Options};
use portrait::engine::{Engine, Session};
use portrait::error::{Result, classify};
use portrait::pg::TextRows;
use portrait::sql::{self, Outcome, RunOptions};

/// How often something is killed: `PORTRAIT_KILLS`, or a few times.
pub(crate) fn kills(few: u32) -> u32 {
    count("PORTRAIT_KILLS", few)
}

/// What a variable says, or a small number.
pub(crate) fn count(variable: &str, small: u32) -> u32 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(small)
}

/// Numbers that look random and are the same in each run.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// `portrait <command> --data-dir <data>`.
pub(crate) fn portrait(command: &str, data: &Path) -> Command {
    let mut process = Command::new(env!("CARGO_BIN_EXE_portrait"));
    process.args([command, "--data-dir"]).arg(data);
    process
}

/// `portrait sql` without statements: CSV, and nothing else.
pub(crate) fn portrait_sql(data: &Path) -> Command {
    let mut process = portrait("sql", data);
    process.args(["--format", "csv", "--quiet"]);
    process
}

/// Runs statements in a process of their own.
pub(crate) fn sql(data: &Path, text: &str) -> Output {
    portrait_sql(data).args(["-c", text]).output().unwrap()
}

/// What a process printed, which must have ended well.
#[track_caller]
pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// What statements print as CSV; they must succeed.
#[track_caller]
pub(crate) fn ok(data: &Path, statements: &str) -> String {
    let output = sql(data, statements);
    assert!(output.status.success(), "{statements}: {}", text(&output.stderr));
    printed(&output)
}

/// The last row that statements print; they must succeed.
#[track_caller]
pub(crate) fn sql_of(data: &Path, statements: &str) -> String {
    ok(data, statements).lines().last().unwrap_or_default().to_owned()
}

/// Starts a process and kills it after `delay`, whatever it does then.
pub(crate) fn kill_after(command: &mut Command, delay: Duration) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let _ = child.kill();
    child.wait().unwrap();
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What lies in a folder; nothing where there is none.
pub(crate) fn entries(under: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(under).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Every file below a folder, in order. One that goes meanwhile is left out.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// An engine over a folder, in this process.
pub(crate) async fn engine(folder: &Path) -> Arc<Engine> {
    try_engine(folder).await.unwrap()
}

/// An engine over a folder, unless it cannot start.
pub(crate) async fn try_engine(folder: &Path) -> Result<Arc<Engine>> {
    let config = Config::resolve(Options {
        data_dir: Some(folder.to_path_buf()),
        memory_limit: Some("128MiB".into()),
        query_threads: Some(2),
        training_threads: Some(1),
        ..Options::default()
    });
    portrait::cli::open(&config.unwrap()).await
}

/// The rows of the last statement, as text.
pub(crate) async fn rows(session: &Session, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for statement in sql::parse(text)? {
        found.clear();
        match sql::run(session, &statement, RunOptions::default()).await? {
            Outcome::Rows { schema, mut stream, .. } => {
                let renderer = TextRows::new(&schema, "UTC");
                while let Some(batch) = stream.next().await {
                    let cells = renderer.cells(&batch.map_err(classify)?)?;
                    found.extend(
                        cells.into_iter().map(|row| row.into_iter().map(|cell| cell.unwrap_or_default()).collect::<Vec<_>>().join("|")),
                    );
                }
            }
            Outcome::Done { tag } => found.push(tag),
            _ => {}
        }
    }
    Ok(found)
}
