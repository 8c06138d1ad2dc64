//! `portrait import`: files into a table, in one commit.
#![expect(clippy::print_stderr, reason = "messages for people go to stderr")]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use portrait_udfs::error::{Code, Error, Result};

use super::output::print_error;
use super::{Common, SUPERUSER, configure};
use crate::sql::{self, ImportProgress, RunOptions};

/// Import Parquet, CSV or JSON lines files into a table.
///
/// All files go in with one commit, or none does. A table of events takes each event once: importing a file again
/// changes nothing. Prints: read, new, duplicate, quarantined. The data directory must not be open in another process.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portrait import --data-dir portrait-data --table events logs/2024-05-01.parquet
  portrait import --data-dir portrait-data --table events logs/ 'more/*.csv.gz'
  portrait import --data-dir portrait-data --table events s3://bucket/logs/")]
pub(super) struct Import {
    #[command(flatten)]
    common: Common,
    /// The table, which must exist
    #[arg(short, long, value_name = "TABLE")]
    table: String,
    /// Files, folders or quoted globs, also s3://bucket/…; the kind is told by the names
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Import {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let mut options = self.common.clone().options();
        let mut locations = Vec::with_capacity(self.paths.len());
        let mut roots = options.data_roots.take().unwrap_or_default();
        for path in &self.paths {
            let (root, location) = locate(path)?;
            if !roots.contains(&root) {
                roots.push(root);
            }
            locations.push(location);
        }
        // Whoever runs the program may read these files: they are named by the person at the keyboard, not by SQL.
        options.data_roots = Some(roots);
        let config = configure(options, self.common.config.clone(), true)?;
        let engine = super::open(&config).await?;
        let session = engine.session(SUPERUSER)?;
        let cancel = super::cancel_on_interrupt();
        let bar = if self.quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { bar() };
        let (shown, spoken) = (bar.clone(), bar.clone());
        let notice = Arc::new(move |message: &str| spoken.suspend(|| eprintln!("NOTICE:  {message}")));
        let show = move |progress: ImportProgress| {
            shown.set_length(progress.bytes);
            shown.set_position(progress.bytes_done);
            shown.set_message(format!("{} rows", progress.rows));
        };
        let result = sql::import(&session, &self.table, &locations, RunOptions { cancel, notice }, show).await;
        bar.finish_and_clear();
        drop(session);
        engine.shutdown().await;
        match result {
            Ok(arrivals) => {
                writeln!(std::io::stdout(), "{arrivals}")?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                print_error(&error, None);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// The folder that a path lies in, and the path, both absolute.
fn locate(path: &str) -> Result<(String, String)> {
    if path.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3://")) {
        let fixed = path.find(['*', '?', '[']).and_then(|glob| path[..glob].rfind('/')).map_or(path, |slash| &path[..slash]);
        return Ok((fixed.to_owned(), path.to_owned()));
    }
    let absolute = std::path::absolute(path)?;
    let is_glob = |part: &Path| part.to_string_lossy().contains(['*', '?', '[']);
    let mut fixed: PathBuf = absolute.clone();
    while is_glob(&fixed) || !fixed.is_dir() {
        if !fixed.pop() {
            break;
        }
    }
    if !is_glob(&absolute) && !absolute.exists() {
        return Err(Error::new(Code::Io, format!("could not read \"{path}\"")).detail("No such file or folder."));
    }
    let root = std::fs::canonicalize(&fixed)?;
    let rest = absolute.strip_prefix(&fixed).unwrap_or(Path::new(""));
    let location = if rest.as_os_str().is_empty() { root.clone() } else { root.join(rest) };
    Ok((root.to_string_lossy().into_owned(), location.to_string_lossy().into_owned()))
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}  {elapsed}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
