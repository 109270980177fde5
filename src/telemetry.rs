//! Logs: one line for each event on the standard error stream, as text or as JSON.
//!
//! Standard output belongs to the one line that says the server is ready.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The default filter of the log. openraft logs much at `info`.
const DEFAULT_FILTER: &str = "info,openraft=warn";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log filter {filter:?}: {source}")]
    Filter { filter: String, source: ParseError },
    #[error("log format {0:?}: expected text or json")]
    Format(String),
}

/// Called once by the process. `filter` is as `tracing` writes it, `format` is `text` or `json`.
pub fn start(filter: Option<&str>, format: Option<&str>) -> Result<(), Error> {
    let filter = filter.unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::try_new(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        // It would be told on the stream that could not be written, by a panic: a full disk below
        // the log, or a closed pipe, must not end the store.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format.unwrap_or("text") {
        "text" => lines.init(),
        "json" => lines.json().init(),
        other => return Err(Error::Format(other.to_owned())),
    }
    Ok(())
}
