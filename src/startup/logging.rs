//! The log: text with colour on a terminal, JSON otherwise, always on stderr, never on the per-row path.
//!
//! Names, keys and what brokers and registries say come from outside: in text nothing of them moves a cursor, colours a
//! terminal or begins a line of its own.

use crate::cli::plain;
use std::fmt;
use std::io::IsTerminal;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

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
    let _already = match text {
        true => log.with_ansi(colour).fmt_fields(text_fields()).try_init(),
        false => log.json().flatten_event(true).try_init(),
    };
}

/// Fields of a line of text, each without what a terminal would act on.
fn text_fields() -> impl for<'w> FormatFields<'w> + 'static {
    debug_fn(|into: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let shown = format!("{value:?}");
        match field.name() {
            "message" => write!(into, "{}", plain(&shown)),
            name => write!(into, "{name}={}", plain(&shown)),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Fields went out as they were.
    #[test]
    fn what_comes_from_outside_acts_on_no_terminal_and_begins_no_line() {
        let lines = Lines::default();
        let into = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || into.clone()).with_ansi(false).without_time().fmt_fields(text_fields());
        let evil = "\u{1b}[2Jgone\n  WARN forged\u{9b}1m\u{202e}";
        tracing::subscriber::with_default(log.finish(), || {
            tracing::warn!(kind = "source.waits", error = %evil, name = evil, ?evil, rows = 7, "client: {evil}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(plain(text.trim_end()), text.trim_end(), "{text:?}");
        assert!(
            text.contains("client: \\u{1b}[2Jgone\\n  WARN forged") && text.contains(r#"kind="source.waits" error=\u{1b}[2Jgone"#),
            "{text}"
        );
        assert!(text.contains("rows=7"), "{text}");
    }
}
