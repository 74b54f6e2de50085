//! The log: text with colour on a terminal, JSON otherwise, always on stderr, never on the per-row path.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Starts logging for the process. `RUST_LOG` wins over `level`. A second call changes nothing.
pub fn start(level: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let text = match format {
        Format::Auto => terminal,
        Format::Text => true,
        Format::Json => false,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    // A line that cannot be written (stderr may be a file on a full disk) is lost; telling that on stderr would end the thread.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // A logger that is already there (a test's) stays.
    let _already = if text { log.with_ansi(colour).try_init() } else { log.json().flatten_event(true).try_init() };
}
