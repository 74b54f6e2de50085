//! Every scalar setting: name, type, default, range and one sentence. The only list; file, environment, flags, docs and the JSON Schema follow from it.

use crate::pipeline::duration::{format_duration, parse_duration};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path.
    Path,
    /// `HOST:PORT`, port 0 = any, or `off`.
    Address,
    /// Bytes, written with `B KiB MiB GiB TiB`, within these bounds.
    Size(u64, u64),
    /// A duration in milliseconds, written with `ms s m h d`, within these bounds; `0` when the lower bound is 0.
    Duration(u64, u64),
    /// An integer within these bounds.
    Count(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// True or false.
    Flag,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Its path in the file.
    pub key: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Used when nobody gives it; empty = not set.
    pub default: &'static str,
    /// What it does and when to change it.
    pub help: &'static str,
}

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub enum SettingValue {
    /// Not set.
    Unset,
    /// Text or a word.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// An address.
    Address(SocketAddr),
    /// Bytes or a count.
    Number(u64),
    /// A duration.
    Duration(Duration),
    /// A flag.
    Flag(bool),
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 86_400_000;

const fn setting(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind, default, help }
}

/// All of them, in the order of the file.
pub static SETTINGS: &[Setting] = &[
    setting("server.data_dir", Kind::Path, "streamgauge-data", "Folder of WAL and snapshots. One process at a time."),
    setting("server.wal_dir", Kind::Path, "", "Folder of the WAL, when it is to be on another disk than data_dir/wal."),
    setting("server.snapshot_dir", Kind::Path, "", "Folder of snapshots, when it is to be on another disk than data_dir/snapshots."),
    setting("server.http", Kind::Address, "127.0.0.1:8080", "Where the HTTP data plane listens; port 0 = any, \"off\" = not at all."),
    setting("server.tcp", Kind::Address, "127.0.0.1:8081", "Where the framed data plane listens; port 0 = any, \"off\" = not at all."),
    setting("server.admin", Kind::Address, "127.0.0.1:8090", "Where health, metrics, registry and control listen; port 0 = any."),
    setting(
        "server.instance",
        Kind::Text,
        "default",
        "Name of this instance in Kafka client and group ids. Two instances of one cluster need two names.",
    ),
    setting(
        "server.io_threads",
        Kind::Count(1, 64),
        "1",
        "I/O threads of the data plane. Raise it when they, not the apply thread, are the busiest.",
    ),
    setting("server.test_mode", Kind::Flag, "false", "Whether reset is allowed. Never in production."),
    setting(
        "limits.memory",
        Kind::Size(64 * MIB, 64 * 1024 * GIB),
        "4GiB",
        "Most bytes of tables and frozen snapshots; counted before a row is applied.",
    ),
    setting(
        "limits.on_memory_limit",
        Kind::Choice(&["pause", "refuse_new"]),
        "pause",
        "At the limit: pause = sources wait, nothing is lost; refuse_new = rows of new keys are refused into the reject log.",
    ),
    setting("limits.body", Kind::Size(KIB, 256 * MIB), "4MiB", "Largest HTTP body."),
    setting(
        "limits.frame",
        Kind::Size(KIB, 256 * MIB),
        "4MiB",
        "Largest payload of a TCP frame. 0.0.6 clients refuse replies beyond 4 MiB.",
    ),
    setting("limits.connections", Kind::Count(1, 1_000_000), "10_000", "Open connections of both data planes together."),
    setting("limits.connections_per_peer", Kind::Count(1, 1_000_000), "4_096", "Open connections of one peer address."),
    setting("limits.kafka_memory", Kind::Size(16 * MIB, 1024 * GIB), "256MiB", "Most bytes that Kafka clients of this process queue."),
    setting(
        "durability.push",
        Kind::Choice(&["written", "synced", "memory"]),
        "written",
        "When a push is acknowledged: written = survives a crash of the process; synced = also of the machine; memory = nothing survives.",
    ),
    setting(
        "durability.group_commit",
        Kind::Duration(0, 1_000),
        "2ms",
        "How long a sync that somebody waits for is held back to cover more pushes.",
    ),
    setting(
        "durability.sync_every",
        Kind::Duration(1, 60_000),
        "1s",
        "Longest time a written frame stays unsynced when nobody waits for it.",
    ),
    setting("durability.sync_bytes", Kind::Size(4 * KIB, 16 * GIB), "16MiB", "Bytes after which a sync is due when nobody waits for it."),
    setting("durability.wal_segment", Kind::Size(MIB, 4 * GIB), "64MiB", "Size of a WAL file, preallocated."),
    setting(
        "durability.snapshot.every",
        Kind::Duration(0, 30 * DAY_MS),
        "5m",
        "Time between snapshots; \"0\" = only at the end. Shorter means a faster restart.",
    ),
    setting("durability.snapshot.keep", Kind::Count(2, 1_000), "2", "How many snapshots are kept; the WAL is kept back to the oldest."),
    setting("durability.snapshot.min_rows", Kind::Count(0, u64::MAX), "0", "A snapshot that is due waits until this many rows are new."),
    setting(
        "push.control_characters",
        Kind::Choice(&["refuse", "allow"]),
        "refuse",
        "Whether pushed strings may hold control characters; refuse is what 0.0.6 does. Kafka input always may.",
    ),
    setting(
        "compat.velocity_window",
        Kind::Choice(&["honour", "ignore"]),
        "honour",
        "Whether windows of decay and velocity operators count; ignore is what 0.0.6 does.",
    ),
    setting("compat.lifetime_bound", Kind::Flag, "true", "Refuse lifetime features whose state has no bound."),
    setting(
        "ready.max_staleness",
        Kind::Duration(1, 30 * DAY_MS),
        "",
        "/ready answers 503 when a table is further behind than this; not set = lag alone never makes unready.",
    ),
    setting(
        "ready.wait_for_catch_up",
        Kind::Flag,
        "false",
        "/ready stays 503 after a start until every source has once reached the end it saw at the start.",
    ),
    setting("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "info", "Least level of log lines; RUST_LOG wins."),
    setting(
        "log.format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto",
        "Form of log lines on stderr; auto = text on a terminal, else json.",
    ),
];

/// The setting of this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// The name of its environment variable.
    pub fn variable(&self) -> String {
        format!("STREAMGAUGE_{}", self.key.replace('.', "_").to_uppercase())
    }
}

impl Kind {
    /// Reads a value from text, as environment, flags and defaults give it.
    ///
    /// # Errors
    /// Says what is wanted.
    pub fn parse(self, text: &str) -> Result<SettingValue, String> {
        let wanted = || format!("{} is wanted, found {text:?}", self.wanted());
        match self {
            Self::Text if text.is_empty() => Err(wanted()),
            Self::Text => Ok(SettingValue::Text(text.to_owned())),
            Self::Path if text.is_empty() => Err(wanted()),
            Self::Path => Ok(SettingValue::Path(text.into())),
            Self::Address if text == "off" => Ok(SettingValue::Unset),
            Self::Address => address(text).map(SettingValue::Address).ok_or_else(wanted),
            Self::Size(min, max) => parse_size(text).filter(|size| (min..=max).contains(size)).map(SettingValue::Number).ok_or_else(wanted),
            Self::Duration(min, max) => {
                let ms = if text == "0" { Some(0) } else { parse_duration(text).ok().and_then(|us| u64::try_from(us / 1_000).ok()) };
                ms.filter(|ms| (min..=max).contains(ms)).map(|ms| SettingValue::Duration(Duration::from_millis(ms))).ok_or_else(wanted)
            }
            Self::Count(min, max) => {
                let number = text.replace('_', "").parse::<u64>().ok().filter(|number| (min..=max).contains(number));
                number.map(SettingValue::Number).ok_or_else(wanted)
            }
            Self::Choice(words) if words.contains(&text) => Ok(SettingValue::Text(text.to_owned())),
            Self::Flag if matches!(text, "true" | "1") => Ok(SettingValue::Flag(true)),
            Self::Flag if matches!(text, "false" | "0") => Ok(SettingValue::Flag(false)),
            Self::Choice(_) | Self::Flag => Err(wanted()),
        }
    }

    /// What may be written, for messages.
    pub fn wanted(self) -> String {
        match self {
            Self::Text => "some text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Address => "an address like \"127.0.0.1:8080\" or \"off\"".to_owned(),
            Self::Size(min, max) => {
                format!("a size like \"{}\" from {} to {}", format_size(min.max(MIB)), format_size(min), format_size(max))
            }
            Self::Duration(min, max) => format!("a duration like \"5s\" from {} to {}", format_ms(min), format_ms(max)),
            Self::Count(min, max) => format!("an integer from {min} to {max}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Flag => "true or false".to_owned(),
        }
    }
}

fn format_ms(ms: u64) -> String {
    i64::try_from(ms).ok().filter(|ms| *ms > 0).map_or_else(|| "0".to_owned(), |ms| format_duration(ms.saturating_mul(1_000)))
}

impl SettingValue {
    /// As it stands in the file.
    pub fn text(&self) -> String {
        match self {
            Self::Unset => "off".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Path(path) => path.display().to_string(),
            Self::Address(address) => address.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Duration(duration) => format_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            Self::Flag(truth) => truth.to_string(),
        }
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    // A name may be written where an address is meant; only `localhost` resolves without asking anybody.
    text.parse().ok().or_else(|| text.starts_with("localhost:").then(|| text.to_socket_addrs().ok()?.find(SocketAddr::is_ipv4))?)
}

/// Bytes of text like `64MiB`; binary units only, since memory and files are measured so.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '_').len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim_start() {
        "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        "TiB" => 1024 * GIB,
        _ => return None,
    };
    number.replace('_', "").parse::<u64>().ok()?.checked_mul(scale)
}

/// Text of a number of bytes in the largest unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let units = [("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];
    match units.iter().find(|(_, scale)| bytes >= *scale && bytes % scale == 0) {
        Some((unit, scale)) => format!("{}{unit}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_own_bounds_and_every_key_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        for setting in SETTINGS {
            assert!(seen.insert(setting.key), "{} stands twice", setting.key);
            assert!(setting.help.ends_with('.'), "{}", setting.key);
            if !setting.default.is_empty() {
                assert!(setting.kind.parse(setting.default).is_ok(), "{}", setting.key);
            }
        }
    }

    #[test]
    fn sizes_and_durations_need_their_unit_and_stay_in_range() {
        let size = Kind::Size(KIB, MIB);
        for (text, expected) in [
            ("1KiB", Some(1024)),
            ("1_024B", Some(1024)),
            ("1 MiB", Some(MIB)),
            ("2MiB", None),
            ("1MB", None),
            ("1024", None),
            ("-1KiB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(size.parse(text).ok(), expected.map(SettingValue::Number), "{text}");
        }
        let duration = Kind::Duration(0, 60_000);
        for (text, expected) in [("0", Some(0)), ("2ms", Some(2)), ("1m", Some(60_000)), ("2m", None), ("5", None), ("forever", None)] {
            assert_eq!(duration.parse(text).ok(), expected.map(|ms| SettingValue::Duration(Duration::from_millis(ms))), "{text}");
        }
        for (bytes, text) in [(1024, "1KiB"), (64 * MIB, "64MiB"), (1500, "1500B"), (4 * GIB, "4GiB")] {
            assert_eq!(format_size(bytes), text);
            assert_eq!(parse_size(text), Some(bytes));
        }
    }
}
