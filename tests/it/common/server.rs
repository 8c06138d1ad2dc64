//! `portrait serve` as a process of its own, which can be killed or stopped like any other.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::portrait;

/// A server that trusts everybody. It is killed when it is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    port: u16,
    begun: Instant,
}

impl ServerProcess {
    /// Starts one over a folder; it takes connections when this returns.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data, arguments).unwrap_or_else(|said| panic!("the server did not start: {said}"))
    }

    /// # Errors
    /// What the process said before it ended.
    pub(crate) fn try_start(data: &Path, arguments: &[&str]) -> Result<Self, String> {
        let begun = Instant::now();
        let log = tempfile::tempfile().unwrap();
        let mut child = portrait("serve", data)
            .args(["--auth", "trust", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| line.ok()?.split_once("port=")?.1.split(' ').next()?.parse().ok());
        // Nothing else is printed; the pipe stays open for what may come.
        std::thread::spawn(move || lines.for_each(drop));
        match port {
            Some(port) => Ok(Self { child, port, begun }),
            None => {
                let _ = child.wait();
                Err(read_whole(log))
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Since the process was started.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: a call without memory, to a child that was not waited for.
        unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), signal) };
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_whole(mut file: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// # Errors
/// When nobody answers there any more.
pub(crate) async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let text = format!("host=127.0.0.1 port={port} user=portrait dbname=portrait sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows of the last statement, their columns joined by `|`.
pub(crate) async fn query(client: &Client, text: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(text).await? {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|at| row.get(at).unwrap_or_default()).collect::<Vec<_>>().join("|"));
            }
            _ => {}
        }
    }
    Ok(rows)
}

/// Rows that must be there.
pub(crate) async fn seen(client: &Client, text: &str) -> Vec<String> {
    query(client, text).await.unwrap_or_else(|error| panic!("{text}: {}", told(&error)))
}

/// An error with its SQLSTATE, DETAIL and HINT.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        None => error.to_string(),
        Some(error) => {
            let of = |what: Option<&str>| what.unwrap_or_default().to_owned();
            format!("{} {} | {} | {}", error.code().code(), error.message(), of(error.detail()), of(error.hint()))
        }
    }
}
