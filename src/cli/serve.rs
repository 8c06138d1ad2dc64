//! `portrait serve`: the server for psql and every Postgres driver.
#![expect(clippy::print_stdout, reason = "the first lines a person sees are printed")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use portrait_udfs::error::{Code, Error, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Common, SUPERUSER, configure};
use crate::config::{AuthMode, Config, Options, TlsFiles};
use crate::pg::{self, TlsConfig};

/// Serve SQL to psql and any Postgres driver.
///
/// The first start creates the superuser `portrait` with a random password, keeps it in a passfile in the data
/// directory (mode 0600), and prints the psql line to paste. SIGTERM or Ctrl-C lets running statements finish and exits
/// with status 0; a second one ends the program at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portrait serve --data-dir portrait-data --data-root ./logs
  portrait serve --data-dir portrait-data --listen 0.0.0.0:5433 --tls-cert server.pem --tls-key server.key
  portrait serve --data-dir portrait-data --auth trust        (loopback only: nobody is asked for a password)
  portrait serve --data-dir portrait-data --store s3://bucket/portrait --data-root s3://bucket/logs

A listener beyond loopback needs TLS and passwords.")]
pub(super) struct Serve {
    #[command(flatten)]
    common: Common,
    /// Address of the Postgres listener [default: 127.0.0.1:5433]
    #[arg(long, value_name = "ADDR", env = "PORTRAIT_LISTEN", help_heading = "Listener")]
    listen: Option<SocketAddr>,
    /// How clients prove who they are [default: scram]
    #[arg(long, value_enum, env = "PORTRAIT_AUTH", help_heading = "Listener")]
    auth: Option<AuthMode>,
    /// PEM certificate chain
    #[arg(long, value_name = "FILE", env = "PORTRAIT_TLS_CERT", help_heading = "Listener")]
    tls_cert: Option<PathBuf>,
    /// PEM private key
    #[arg(long, value_name = "FILE", env = "PORTRAIT_TLS_KEY", help_heading = "Listener")]
    tls_key: Option<PathBuf>,
    /// Connections at once [default: 100]
    #[arg(long, value_name = "N", env = "PORTRAIT_MAX_CONNECTIONS", help_heading = "Listener")]
    max_connections: Option<usize>,
    /// How long a shutdown waits for running statements [default: 30s]
    #[arg(long, value_name = "TIME", env = "PORTRAIT_DRAIN_TIMEOUT", help_heading = "Listener")]
    drain_timeout: Option<String>,
    /// Address of metrics (/metrics) and health (/healthz, /readyz) over HTTP [default: not served]
    #[arg(long, value_name = "ADDR", env = "PORTRAIT_METRICS_LISTEN", help_heading = "Watching")]
    metrics_listen: Option<SocketAddr>,
    /// Log statements that take at least so long, such as 250ms [default: none]
    #[arg(long, value_name = "TIME", env = "PORTRAIT_LOG_MIN_DURATION", help_heading = "Watching")]
    log_min_duration: Option<String>,
    /// Log every login and every statement: who, from where, how long, what came of it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "PORTRAIT_AUDIT", help_heading = "Watching")]
    audit: Option<bool>,
}

impl Serve {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let file = self.common.config.clone();
        let flags = Options {
            listen: self.listen,
            auth: self.auth,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            max_connections: self.max_connections,
            drain_timeout: self.drain_timeout,
            metrics_listen: self.metrics_listen,
            log_min_duration: self.log_min_duration,
            audit: self.audit,
            ..self.common.options()
        };
        let config = configure(flags, file, false)?;
        config.check_listener()?;
        let tls = config.tls.as_ref().map(|files| TlsConfig::load(&files.certificate, &files.key)).transpose()?;
        let shutdown = shutdown_on_signal()?;
        let engine = super::open(&config).await?;
        engine.start_schedule();
        super::process::return_free_memory(engine.runtime().idleness())?;
        let listener = bind(config.listen, "--listen").await?;
        let http = match config.metrics_listen {
            Some(address) => Some(bind(address, "--metrics-listen").await?),
            None => None,
        };
        if let (Some(files), Some(tls)) = (&config.tls, &tls) {
            reload_on_hangup(tls.clone(), files.clone())?;
        }
        let address = listener.local_addr()?;
        print_welcome(&config, address);
        tracing::info!(%address, data_dir = %config.data_dir.display(), "ready");
        let served = pg::serve_watched(std::sync::Arc::clone(&engine), listener, http, config.auth, tls, shutdown).await;
        engine.shutdown().await;
        served?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(Code::Io, format!("could not listen on {address}"))
            .detail(format!("{error}."))
            .hint(format!("Another server may use the port; choose one with {flag} 127.0.0.1:PORT."))
    })
}

/// SIGHUP: a new certificate, for connections from then on. One that cannot be used changes nothing.
fn reload_on_hangup(tls: TlsConfig, files: TlsFiles) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.reload(&files.certificate, &files.key) {
                Ok(()) => tracing::info!(certificate = %files.certificate.display(), "certificate loaded"),
                Err(error) => tracing::error!(%error, detail = error.detail.as_deref(), "certificate not loaded; the old one stays"),
            }
        }
    });
    Ok(())
}

/// Fired by SIGTERM or Ctrl-C; a second one ends the program at once.
fn shutdown_on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let fired = shutdown.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !first {
                tracing::warn!("stopped by a second signal");
                std::process::exit(1);
            }
            tracing::info!("stopping: running statements may finish");
            fired.cancel();
        }
    });
    Ok(shutdown)
}

/// How to connect.
fn print_welcome(config: &Config, address: SocketAddr) {
    let passfile = config.data_dir.join("passfile");
    let password = if config.auth == AuthMode::Scram && passfile.exists() {
        format!("PGPASSFILE={} ", quoted(&std::fs::canonicalize(&passfile).unwrap_or(passfile)))
    } else {
        String::new()
    };
    let host = if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() };
    let tls = if config.tls.is_some() { " sslmode=require" } else { "" };
    let place = config.store.clone().unwrap_or_else(|| config.data_dir.display().to_string());
    println!("Portrait {} serves {place}", env!("CARGO_PKG_VERSION"));
    println!();
    println!("  {password}psql \"host={host} port={} user={SUPERUSER} dbname=portrait{tls}\"", address.port());
    println!();
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+:@%".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
