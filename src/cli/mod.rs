//! The command line: one subcommand = one file. It reads flags, variables and `portrait.toml`, opens the engine, and
//! prints for people. Must never know: plans, models, the protocol's messages.

mod demo;
mod import;
mod output;
pub mod process;
mod serve;
mod sql;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use portrait_udfs::error::{Error, Result};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LogFormat, Options};
use crate::engine::Engine;
use crate::pg;

/// The role that the first start creates and that embedded statements run as.
const SUPERUSER: &str = "portrait";

/// Stack of a connection's thread; statements run elsewhere, on bigger ones.
const IO_STACK_BYTES: usize = 8 << 20;

const ABOUT: &str = "A SQL-queryable user-profile store with in-database deep learning";

const AFTER_HELP: &str = "\
Start here:
  portrait demo                                   the main job on a bundled event log: train, evaluate, score
  portrait serve --data-dir portrait-data --data-root ./logs
                                                  a server for psql and any Postgres driver; SQL may read ./logs
  portrait sql --data-dir portrait-data -c 'SELECT 1'
                                                  the same engine without a server
  portrait import --data-dir portrait-data --table events logs/
                                                  files into a table, each event once

Settings come from flags, then PORTRAIT_* variables (PORTRAIT_DATA_DIR …), then portrait.toml, then defaults.";

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(name = "portrait", version, about = ABOUT, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Sql(sql::Sql),
    Import(import::Import),
    Demo(demo::Demo),
}

/// What every subcommand that opens a data directory takes.
#[derive(Debug, Clone, Args)]
struct Common {
    /// The folder that holds tables, models and users; made at the first start [default: portrait-data]
    #[arg(long, value_name = "DIR", env = "PORTRAIT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Keep tables, models and users in object storage instead: s3://bucket/prefix, with credentials from AWS_* variables; the
    /// data directory then holds what belongs to this machine (lock, spill files, copies that can be made again)
    #[arg(long, value_name = "URL", env = "PORTRAIT_STORE")]
    store: Option<String>,
    /// Take the store from another server, which must be gone for good
    #[arg(long)]
    take_over: bool,
    /// A folder, or s3://bucket/prefix, whose files SQL may read (repeatable); <data-dir>/files always counts
    #[arg(long = "data-root", value_name = "DIR|URL", env = "PORTRAIT_DATA_ROOT", value_delimiter = ',')]
    data_roots: Vec<String>,
    /// Settings file [default: portrait.toml here or in the data directory, when there is one]
    #[arg(long, value_name = "FILE", env = "PORTRAIT_CONFIG")]
    config: Option<PathBuf>,
    /// Memory for queries before they spill to disk: 4GiB or 50% [default: 50%]
    #[arg(long, value_name = "SIZE", env = "PORTRAIT_MEMORY_LIMIT", help_heading = "Limits")]
    memory_limit: Option<String>,
    /// Disk for spilling [default: 100GiB]
    #[arg(long, value_name = "SIZE", env = "PORTRAIT_SPILL_LIMIT", help_heading = "Limits")]
    spill_limit: Option<String>,
    /// Memory for loaded models [default: an eighth of the machine's, at most 4GiB]
    #[arg(long, value_name = "SIZE", env = "PORTRAIT_MODEL_CACHE", help_heading = "Limits")]
    model_cache: Option<String>,
    /// Threads that run queries [default: one per core]
    #[arg(long, value_name = "N", env = "PORTRAIT_QUERY_THREADS", help_heading = "Limits")]
    query_threads: Option<usize>,
    /// Threads of one training [default: one per core]
    #[arg(long, value_name = "N", env = "PORTRAIT_TRAINING_THREADS", help_heading = "Limits")]
    training_threads: Option<usize>,
    /// What is logged on stderr: warn, info, debug, or a list such as info,portrait=debug
    #[arg(long, value_name = "FILTER", env = "PORTRAIT_LOG", help_heading = "Logs")]
    log: Option<String>,
    /// The shape of log lines
    #[arg(long, value_name = "FORMAT", env = "PORTRAIT_LOG_FORMAT", help_heading = "Logs")]
    log_format: Option<LogFormat>,
}

impl Common {
    /// The flags and variables as options.
    fn options(self) -> Options {
        Options {
            data_dir: self.data_dir,
            store: self.store,
            take_over: self.take_over.then_some(true),
            data_roots: (!self.data_roots.is_empty()).then_some(self.data_roots),
            memory_limit: self.memory_limit,
            spill_limit: self.spill_limit,
            model_cache: self.model_cache,
            query_threads: self.query_threads,
            training_threads: self.training_threads,
            log: self.log,
            log_format: self.log_format,
            ..Options::default()
        }
    }
}

/// Completes `flags` with the settings file and the defaults, and starts logging. `quiet` subcommands print for people,
/// so that only warnings are logged unless somebody asks.
fn configure(flags: Options, file: Option<PathBuf>, quiet: bool) -> Result<Config> {
    let found = file.or_else(|| {
        let here = Some(PathBuf::from("portrait.toml"));
        let there = flags.data_dir.as_ref().map(|dir| dir.join("portrait.toml"));
        [here, there].into_iter().flatten().find(|path| path.is_file())
    });
    let mut options = match &found {
        Some(path) => flags.or(Options::from_toml(path)?),
        None => flags,
    };
    if quiet && options.log.is_none() {
        options.log = Some("warn".into());
    }
    let config = Config::resolve(options)?;
    crate::telemetry::start(&config.log, config.log_format)?;
    if let Some(path) = found {
        tracing::info!(path = %path.display(), "settings read");
    }
    Ok(config)
}

/// Opens the engine with everything that a client may meet; the first time, with its superuser.
///
/// # Errors
/// As [`Engine::open`].
pub async fn open(config: &Config) -> Result<Arc<Engine>> {
    let engine = crate::sql::open(config).await?;
    pg::install(&engine);
    if let Some(passfile) = engine.catalog().ensure_superuser(SUPERUSER).await? {
        tracing::info!(user = SUPERUSER, passfile = %passfile.display(), "superuser created");
    }
    Ok(engine)
}

/// A token that Ctrl-C fires; a second Ctrl-C ends the program at once.
fn cancel_on_interrupt() -> CancellationToken {
    let cancel = CancellationToken::new();
    let fired = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            fired.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    cancel
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .thread_stack_size(IO_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(async {
                match arguments.command {
                    Command::Serve(serve) => serve.run().await,
                    Command::Sql(sql) => sql.run().await,
                    Command::Import(import) => import.run().await,
                    Command::Demo(demo) => demo.run().await,
                }
            });
            // A read of standard input that never ends must not keep the program alive.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(code) => code,
        Err(error) => {
            output::print_error(&error, None);
            ExitCode::FAILURE
        }
    }
}
