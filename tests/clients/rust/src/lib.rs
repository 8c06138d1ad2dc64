//! What the checks of both drivers share: where the server is, checks that say what they saw, and the line at the end.

use std::env;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::panic::Location;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;

/// How a part of a check ends.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// What libpq's variables say of a server that takes a password, over TLS too.
#[derive(Debug, Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub root_certificate: PathBuf,
}

impl Server {
    /// # Errors
    /// When a variable is missing.
    pub fn from_env() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
        Ok(Self {
            host: variable("PGHOST")?,
            port: variable("PGPORT")?.parse()?,
            user: variable("PGUSER")?,
            password: variable("PGPASSWORD")?,
            database: variable("PGDATABASE")?,
            root_certificate: variable("PGSSLROOTCERT")?.into(),
        })
    }
}

static CHECK_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Fails, saying where and what, unless both are equal.
///
/// # Errors
/// When they differ.
#[track_caller]
pub fn check<Seen: Debug + PartialEq<Expected>, Expected: Debug>(label: impl Display, seen: Seen, expected: Expected) -> Outcome {
    CHECK_COUNT.fetch_add(1, Ordering::Relaxed);
    if seen == expected {
        return Ok(());
    }
    Err(format!("{}: {label}: {seen:?} instead of {expected:?}", Location::caller()).into())
}

/// What failed of a check that runs every part, whatever failed before.
#[derive(Debug)]
pub struct Report {
    driver: &'static str,
    server: String,
    part_count: usize,
    failed: Vec<&'static str>,
}

impl Report {
    /// The first argument of the program names the server.
    #[must_use]
    pub fn new(driver: &'static str) -> Self {
        let server = env::args().nth(1).unwrap_or_else(|| "the server".to_owned());
        Self { driver, server, part_count: 0, failed: Vec::new() }
    }

    pub async fn part(&mut self, name: &'static str, part: impl Future<Output = Outcome>) {
        self.part_count += 1;
        let outcome = timeout(Duration::from_secs(60), part).await.unwrap_or_else(|_| Err("nothing for a minute".into()));
        if let Err(error) = outcome {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text += &format!(": {error}");
                cause = error.source();
            }
            eprintln!("  {}: {name}: {text}", self.server);
            self.failed.push(name);
        }
    }

    #[must_use]
    pub fn finish(self) -> ExitCode {
        let held = format!("{} checks in {} parts", CHECK_COUNT.load(Ordering::Relaxed), self.part_count);
        if self.failed.is_empty() {
            println!("  {} with {}: {held}", self.driver, self.server);
            return ExitCode::SUCCESS;
        }
        println!("  {} with {}: {held}, failed: {}", self.driver, self.server, self.failed.join(", "));
        ExitCode::FAILURE
    }
}
