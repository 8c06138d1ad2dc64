//! Logs: `tracing` events as text or JSON lines on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use portrait_udfs::error::{Error, Result};

/// Starts logging for the process. A level alone is that of our own events; libraries then only warn.
///
/// # Errors
/// When `filter` is not a list such as `info,portrait=debug`, or logging was started before.
pub fn start(filter: &str, format: LogFormat) -> Result<()> {
    let own = if filter.contains(['=', ',']) {
        filter.to_owned()
    } else {
        format!("warn,portrait={filter},portrait_core={filter},portrait_udfs={filter}")
    };
    let filter = EnvFilter::try_new(&own).map_err(|error| {
        Error::invalid(format!("invalid value for \"log\": \"{filter}\""))
            .detail(error.to_string())
            .hint("Write info, debug or info,portrait=debug.")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().with_target(true).try_init(),
    }
    .map_err(|error| Error::internal(format!("logging could not be started: {error}")))
}
