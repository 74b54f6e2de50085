//! Values of settings: sizes, durations, addresses, words. One reading for file, environment and flags.
//!
//! A bad value is refused with what is wanted, never clamped. Pure.

use crate::pipeline::duration::{DurationError, format_duration, parse_duration};
use std::net::SocketAddr;
use std::time::Duration;
use streamgauge_api::cors::origin_problem;

/// Units of sizes; without `i` they are decimal.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// What a key's value has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// Any text with something in it.
    Text,
    /// A path; relative ones start at the working folder.
    Path,
    /// `IP:PORT`.
    Address,
    /// `IP:PORT`, or `off`.
    AddressOrOff,
    /// Bytes, as `"4MiB"` or a plain number.
    Size { min: u64, max: u64 },
    /// A duration such as `"5m"`, in microseconds.
    Duration { min_us: i64, max_us: i64 },
    /// A whole number.
    Count { min: u64, max: u64 },
    /// `true` or `false`.
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    /// A filter of log lines.
    LogFilter,
    /// Origins of pages: an array, or a text with commas between them.
    Origins,
    /// A text, or `{ env = "NAME" }`.
    Place,
    /// An array of these, or one `{ env = "NAME" }` with commas between them.
    Places,
    /// An array of texts.
    Texts,
    /// `{ env = "NAME" }` or `{ file = "/path" }`.
    Secret,
    /// Where row time comes from.
    Time,
    /// Names and types.
    Fields,
    /// Names and where they come from.
    FieldSources,
    /// Features.
    Features,
    /// librdkafka settings.
    Client,
    /// Where a partition begins.
    Start,
    /// Where the history of a table begins.
    History,
    /// The declaration of the event store.
    Eventstore,
    /// An expression.
    Expression,
    /// Known, and not there yet. What it is for.
    NotAvailable,
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parsed {
    Text(String),
    Address(Option<SocketAddr>),
    Number(u64),
    Duration(Duration),
    Flag(bool),
}

impl Form {
    /// Reads a setting's text, or says what is wanted instead.
    pub(super) fn parse(self, text: &str) -> Result<Parsed, String> {
        match self {
            Self::Size { min, max } => {
                let size = parse_size(text).ok_or_else(|| "a size such as \"64MiB\" is wanted".to_owned())?;
                within(size, min, max, format_size).map(Parsed::Number)
            }
            Self::Count { min, max } => {
                let count = text.replace('_', "").parse::<u64>().map_err(|_| format!("a whole number from {min} to {max} is wanted"))?;
                within(count, min, max, |number| number.to_string()).map(Parsed::Number)
            }
            Self::Duration { min_us, max_us } => {
                let us = match parse_duration(text) {
                    Ok(us) => us,
                    Err(DurationError::Zero) if min_us == 0 => 0,
                    Err(DurationError::Form) => return Err("a duration such as \"500ms\", \"10s\" or \"5m\" is wanted".to_owned()),
                    Err(error) => return Err(format!("it {error}")),
                };
                if us < min_us || us > max_us {
                    return Err(format!("{} to {} is wanted", duration_text(min_us), duration_text(max_us)));
                }
                Ok(Parsed::Duration(Duration::from_micros(us.unsigned_abs())))
            }
            Self::Flag => match text {
                "true" => Ok(Parsed::Flag(true)),
                "false" => Ok(Parsed::Flag(false)),
                _ => Err("true or false is wanted".to_owned()),
            },
            Self::AddressOrOff if text == "off" => Ok(Parsed::Address(None)),
            Self::Address | Self::AddressOrOff => {
                let address: SocketAddr = text.parse().map_err(|_| {
                    let off = if self == Self::AddressOrOff { ", or \"off\"," } else { "" };
                    format!("an IP address with a port{off} is wanted, such as \"127.0.0.1:8080\" or \"[::1]:0\"")
                })?;
                Ok(Parsed::Address(Some(address)))
            }
            Self::Word(words) if words.contains(&text) => Ok(Parsed::Text(text.to_owned())),
            Self::Word(words) => Err(one_of(words)),
            Self::LogFilter => {
                if text.split(',').all(log_directive) {
                    Ok(Parsed::Text(text.to_owned()))
                } else {
                    Err("off, error, warn, info, debug or trace is wanted, or a list such as \"info,streamgauge=debug\"".to_owned())
                }
            }
            Self::Origins => match text.split(',').map(str::trim).find_map(origin_problem) {
                Some(problem) => Err(problem),
                None => Ok(Parsed::Text(text.to_owned())),
            },
            _ if text.is_empty() => Err("it is empty".to_owned()),
            _ => Ok(Parsed::Text(text.to_owned())),
        }
    }

    /// Words that may stand here, for suggestions.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Word(words) => words,
            Self::Time => &["arrival", "record"],
            Self::Start => &["earliest", "latest"],
            Self::History => &["earliest", "auto"],
            Self::LogFilter => LOG_LEVELS,
            _ => &[],
        }
    }
}

const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

fn log_directive(directive: &str) -> bool {
    let level = |word: &str| LOG_LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    match directive.trim().rsplit_once('=') {
        None => level(directive.trim()),
        Some((target, word)) => !target.is_empty() && level(word),
    }
}

/// "`a`, `b` or `c` is wanted".
pub(super) fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("\"{}\" or \"{last}\" is wanted", rest.join("\", \"")),
        _ => format!("\"{}\" is wanted", words.first().copied().unwrap_or_default()),
    }
}

fn within(number: u64, min: u64, max: u64, show: impl Fn(u64) -> String) -> Result<u64, String> {
    if (min..=max).contains(&number) { Ok(number) } else { Err(format!("{} to {} is wanted", show(min), show(max))) }
}

fn duration_text(us: i64) -> String {
    if us == 0 { "0s".to_owned() } else { format_duration(us) }
}

/// Bytes of a size: digits and a unit, or digits alone.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '_').len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let unit = unit.trim_start();
    let scale = if unit.is_empty() { 1 } else { SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    number.checked_mul(scale)
}

/// The shortest exact text of a size.
pub(super) fn format_size(bytes: u64) -> String {
    let binary = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = binary.iter().find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    unit.map_or_else(|| format!("{bytes}B"), |(name, scale)| format!("{}{name}", bytes / scale))
}
