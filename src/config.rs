//! What the process is told at its start: flags, then `PORTRAIT_*`, then `portrait.toml`, then defaults.
//!
//! The command line (with its environment variables) is read by `cli`; this file reads `portrait.toml`, fills in the
//! defaults and checks the whole. Absent on purpose: settings of one session (`engine/settings.rs`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portrait_udfs::error::{Code, Error, Result};
use serde::Deserialize;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// SCRAM-SHA-256 passwords.
    #[default]
    Scram,
    /// Nobody is asked; loopback only.
    Trust,
}

/// The shape of log lines on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Certificate and key of the listener, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What may be said, by flag, variable or file; `None` where nothing was said. The keys of `portrait.toml` are the
/// names of these fields.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder that holds everything.
    pub data_dir: Option<PathBuf>,
    /// Where tables, audiences, models and users lie instead: `s3://bucket/prefix`.
    pub store: Option<String>,
    /// Takes the store from the server that has it.
    pub take_over: Option<bool>,
    /// Folders (or object-store prefixes) whose files SQL may read, besides `<data_dir>/files`.
    pub data_roots: Option<Vec<String>>,
    /// Address of the Postgres listener.
    pub listen: Option<SocketAddr>,
    /// How clients prove who they are.
    pub auth: Option<AuthMode>,
    /// PEM certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// Memory for queries: `4GiB`, `512MB`, `50%` (of the machine's).
    pub memory_limit: Option<String>,
    /// Disk for spilling: like `memory_limit`, without percentages.
    pub spill_limit: Option<String>,
    /// Memory for loaded models.
    pub model_cache: Option<String>,
    /// Threads that run queries.
    pub query_threads: Option<usize>,
    /// Threads that one training may use.
    pub training_threads: Option<usize>,
    /// Connections at once.
    pub max_connections: Option<usize>,
    /// How long a shutdown waits for running statements: `30s`.
    pub drain_timeout: Option<String>,
    /// Address of metrics and health over HTTP.
    pub metrics_listen: Option<SocketAddr>,
    /// Statements that take at least so long are logged: `250ms`.
    pub log_min_duration: Option<String>,
    /// Logs every login and every statement.
    pub audit: Option<bool>,
    /// What is logged, as in `info,portrait=debug`.
    pub log: Option<String>,
    /// The shape of log lines.
    pub log_format: Option<LogFormat>,
}

impl Options {
    /// Reads `portrait.toml`.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or has a key that is not known: the message names the key.
    pub fn from_toml(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(Code::Io, format!("could not read configuration file \"{}\"", path.display())).detail(sentence(&error.to_string()))
        })?;
        toml::from_str(&text).map_err(|error| {
            Error::invalid(format!("configuration file \"{}\" is not valid", path.display())).detail(sentence(&error.to_string()))
        })
    }

    /// These, and `lower` where nothing was said here.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(lower.data_dir),
            store: self.store.or(lower.store),
            take_over: self.take_over.or(lower.take_over),
            data_roots: self.data_roots.or(lower.data_roots),
            listen: self.listen.or(lower.listen),
            auth: self.auth.or(lower.auth),
            tls_cert: self.tls_cert.or(lower.tls_cert),
            tls_key: self.tls_key.or(lower.tls_key),
            memory_limit: self.memory_limit.or(lower.memory_limit),
            spill_limit: self.spill_limit.or(lower.spill_limit),
            model_cache: self.model_cache.or(lower.model_cache),
            query_threads: self.query_threads.or(lower.query_threads),
            training_threads: self.training_threads.or(lower.training_threads),
            max_connections: self.max_connections.or(lower.max_connections),
            drain_timeout: self.drain_timeout.or(lower.drain_timeout),
            metrics_listen: self.metrics_listen.or(lower.metrics_listen),
            log_min_duration: self.log_min_duration.or(lower.log_min_duration),
            audit: self.audit.or(lower.audit),
            log: self.log.or(lower.log),
            log_format: self.log_format.or(lower.log_format),
        }
    }
}

/// Everything that the process was told, checked, with the defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The folder that holds everything; made at the first start.
    pub data_dir: PathBuf,
    /// Where tables, audiences, models and users lie, when not in `data_dir`: `s3://bucket/prefix`.
    pub store: Option<String>,
    /// Takes the store from the server that has it.
    pub take_over: bool,
    /// Folders (or object-store prefixes) whose files SQL may read, besides `<data_dir>/files`.
    pub data_roots: Vec<String>,
    /// Address of the Postgres listener.
    pub listen: SocketAddr,
    /// How clients prove who they are.
    pub auth: AuthMode,
    /// Certificate and key; `None` = no TLS.
    pub tls: Option<TlsFiles>,
    /// Bytes that queries may hold before they spill.
    pub memory_limit: usize,
    /// Bytes of disk that spilling may use.
    pub spill_limit: u64,
    /// Bytes of loaded models kept.
    pub model_cache: usize,
    /// Threads that run queries.
    pub query_threads: usize,
    /// Threads that one training may use.
    pub training_threads: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// How long a shutdown waits for running statements.
    pub drain_timeout: Duration,
    /// Address of metrics and health over HTTP; `None` = neither is served.
    pub metrics_listen: Option<SocketAddr>,
    /// Statements that take at least so long are logged; `None` = none are.
    pub log_min_duration: Option<Duration>,
    /// Whether every login and every statement is logged.
    pub audit: bool,
    /// What is logged, as in `info,portrait=debug`.
    pub log: String,
    /// The shape of log lines.
    pub log_format: LogFormat,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Config {
    /// The defaults on `data_dir`.
    ///
    /// # Errors
    /// None in practice; see [`resolve`](Self::resolve).
    pub fn for_dir(data_dir: impl Into<PathBuf>) -> Result<Self> {
        Self::resolve(Options { data_dir: Some(data_dir.into()), ..Options::default() })
    }

    /// Checks what was said and fills in the rest.
    ///
    /// # Errors
    /// [`Code::InvalidParameter`] naming the value that cannot be used.
    pub fn resolve(options: Options) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let memory_total = memory_total();
        let data_dir = options.data_dir.unwrap_or_else(|| PathBuf::from("portrait-data"));
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => {
                return Err(Error::invalid("TLS needs a certificate and its key").hint("Give both --tls-cert and --tls-key, as PEM files."));
            }
        };
        let memory_limit = match options.memory_limit {
            Some(text) => size("memory_limit", &text, Some(memory_total))?,
            None => memory_total / 2,
        };
        let config = Self {
            data_dir,
            store: options.store.filter(|location| !location.is_empty()),
            take_over: options.take_over.unwrap_or_default(),
            data_roots: options.data_roots.unwrap_or_default(),
            listen: options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5433))),
            auth: options.auth.unwrap_or_default(),
            tls,
            memory_limit: usize::try_from(memory_limit).unwrap_or(usize::MAX),
            spill_limit: options.spill_limit.map_or(Ok(100 * GIB), |text| size("spill_limit", &text, None))?,
            model_cache: options
                .model_cache
                .map_or(Ok((memory_total / 8).clamp(64 * MIB, 4 * GIB)), |text| size("model_cache", &text, Some(memory_total)))
                .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))?,
            query_threads: options.query_threads.unwrap_or(threads),
            training_threads: options.training_threads.unwrap_or(threads),
            max_connections: options.max_connections.unwrap_or(100),
            drain_timeout: options.drain_timeout.map_or(Ok(Duration::from_secs(30)), |text| duration("drain_timeout", &text))?,
            metrics_listen: options.metrics_listen,
            log_min_duration: options.log_min_duration.map(|text| duration("log_min_duration", &text)).transpose()?,
            audit: options.audit.unwrap_or_default(),
            log: options.log.unwrap_or_else(|| "info".into()),
            log_format: options.log_format.unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if (self.memory_limit as u64) < 64 * MIB {
            return Err(Error::invalid("\"memory_limit\" must be at least 64MiB"));
        }
        for (name, value) in
            [("query_threads", self.query_threads), ("training_threads", self.training_threads), ("max_connections", self.max_connections)]
        {
            if value == 0 || value > 65_536 {
                return Err(Error::invalid(format!("\"{name}\" must be between 1 and 65536")));
            }
        }
        Ok(())
    }

    /// Refuses a listener that strangers could reach without a password or in clear text.
    ///
    /// # Errors
    /// [`Code::InvalidParameter`] that says what is missing.
    pub fn check_listener(&self) -> Result<()> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        if self.auth == AuthMode::Trust {
            return Err(Error::invalid(format!("trust authentication is for loopback only, not for {}", self.listen))
                .hint("Use --auth scram, or --listen 127.0.0.1:5433."));
        }
        if self.tls.is_none() {
            return Err(Error::invalid(format!("a listener on {} needs TLS", self.listen))
                .hint("Give --tls-cert and --tls-key, or --listen 127.0.0.1:5433."));
        }
        Ok(())
    }
}

/// Reads `4GiB`, `512MB`, `1024`, or a percentage of `total` where one is allowed.
fn size(name: &str, text: &str, total: Option<u64>) -> Result<u64> {
    let bad = || {
        Error::invalid(format!("invalid value for \"{name}\": \"{text}\"")).hint(if total.is_some() {
            "Write a size such as 4GiB, 512MB or 50%."
        } else {
            "Write a size such as 100GiB or 512MB."
        })
    };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => MIB as f64,
        "g" | "gb" | "gib" => GIB as f64,
        "t" | "tb" | "tib" => 1024.0 * GIB as f64,
        "%" => match total {
            Some(total) if number <= 100.0 => total as f64 / 100.0,
            _ => return Err(bad()),
        },
        _ => return Err(bad()),
    };
    Ok((number * factor) as u64)
}

/// Reads `30s`, `500ms`, `2min`, or seconds without a unit.
fn duration(name: &str, text: &str) -> Result<Duration> {
    let bad = || Error::invalid(format!("invalid value for \"{name}\": \"{text}\"")).hint("Write a duration such as 30s or 2min.");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    match unit.trim() {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "min" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(bad()),
    }
}

/// The machine's memory in bytes, or the container's when that is less; 4 GiB when neither can be read.
fn memory_total() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    machine.into_iter().chain(container).min().unwrap_or(4 * GIB)
}

/// A message of somebody else's, as a DETAIL: first letter upper case, one line, a full stop.
fn sentence(text: &str) -> String {
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut letters = line.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("portrait.toml");
        std::fs::write(&path, "data_dir = \"x\"\nlisten_adress = \"127.0.0.1:1\"\n").unwrap();
        let error = Options::from_toml(&path).unwrap_err();
        assert!(error.detail.unwrap().contains("listen_adress"));
    }

    #[test]
    fn higher_layers_win() {
        let flags = Options { query_threads: Some(3), ..Options::default() };
        let file = Options { query_threads: Some(9), max_connections: Some(7), ..Options::default() };
        let config = Config::resolve(flags.or(file)).unwrap();
        assert_eq!((config.query_threads, config.max_connections), (3, 7));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("x", "4GiB", None).unwrap(), 4 * GIB);
        assert_eq!(size("x", "1.5 MB", None).unwrap(), 3 * MIB / 2);
        assert_eq!(size("x", "25%", Some(400)).unwrap(), 100);
        for bad in ["", "x", "12 parsecs", "101%"] {
            assert!(size("x", bad, Some(400)).is_err(), "{bad}");
        }
        assert!(size("x", "50%", None).is_err());
    }

    #[test]
    fn strangers_need_tls_and_a_password() {
        let open = |auth, tls| {
            let config = Config { listen: "0.0.0.0:5433".parse().unwrap(), auth, tls, ..Config::for_dir("x").unwrap() };
            config.check_listener()
        };
        let files = Some(TlsFiles { certificate: "c".into(), key: "k".into() });
        assert!(open(AuthMode::Trust, files.clone()).is_err());
        assert!(open(AuthMode::Scram, None).is_err());
        assert!(open(AuthMode::Scram, files).is_ok());
    }
}
