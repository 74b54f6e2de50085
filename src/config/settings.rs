//! Settings of the process, each with where it came from.
//!
//! Precedence: flag, `STREAMGAUGE_*`, `BEAVA_*`, file, default. Every value of every origin is checked, also one that another overrides in the end, so that a
//! file does not become invalid on the day a variable goes away.

use super::beava;
use super::check::Check;
use super::document::line_and_column;
use super::key::{self, Key};
use super::problem::ConfigProblem;
use super::value::{Form, Parsed};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use streamgauge_api::{Code, Cors};

/// What the command line decides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    /// `--http-addr`.
    pub http: Option<SocketAddr>,
    /// `--tcp-addr`.
    pub tcp: Option<SocketAddr>,
    /// `--admin-addr`.
    pub admin: Option<SocketAddr>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--memory-only`: durability level `memory`.
    pub memory_only: bool,
    /// `--test-mode`.
    pub test_mode: bool,
    /// `--insecure-no-auth`: listeners may leave loopback.
    pub insecure_no_auth: bool,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--eventstore`: the file that declares the event store.
    pub eventstore: Option<PathBuf>,
    /// `--offline`: secrets are not resolved and stay empty.
    pub offline: bool,
}

/// Addresses and the data folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Folder of WAL and snapshots.
    pub data_dir: PathBuf,
    /// HTTP data plane.
    pub http: SocketAddr,
    /// Framed TCP data plane; none when it is off.
    pub tcp: Option<SocketAddr>,
    /// Health, metrics, registry.
    pub admin: SocketAddr,
    /// Data-plane I/O threads.
    pub io_threads: usize,
    /// Pages that may read answers in a browser.
    pub cors: Cors,
}

/// What happens when tables reach the memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMemoryLimit {
    /// Kafka sources pause; nothing is lost.
    Pause,
    /// Rows of new keys are refused.
    RefuseNew,
}

/// Bounds that an operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of all tables together.
    pub memory_bytes: u64,
    /// What happens there.
    pub on_memory_limit: OnMemoryLimit,
    /// Largest HTTP body in bytes.
    pub body_bytes: usize,
    /// Largest TCP frame payload in bytes.
    pub frame_bytes: usize,
    /// Open connections of both data-plane ports.
    pub connections: usize,
    /// Bytes that all Kafka clients may use.
    pub kafka_memory_bytes: u64,
    /// Bytes that the archiver may hold.
    pub archive_memory_bytes: u64,
}

/// When a push is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushLevel {
    /// `write(2)` returned.
    Written,
    /// The covering fsync returned.
    Synced,
    /// Appended in memory; no data folder is used.
    Memory,
}

/// What survives what.
#[derive(Debug, Clone, PartialEq)]
pub struct Durability {
    /// Level of a push.
    pub push: PushLevel,
    /// How long a waited-for sync is held back.
    pub group_commit: Duration,
    /// Longest time a write stays unsynced.
    pub sync_every: Duration,
    /// Bytes after which a sync is due.
    pub sync_bytes: u64,
    /// Time between snapshots; zero for none.
    pub snapshot_every: Duration,
    /// Snapshots kept.
    pub snapshot_keep: usize,
    /// Size of a WAL segment.
    pub wal_segment_bytes: u64,
}

/// Rules of pushes.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// Whether strings may hold control characters.
    pub control_characters: bool,
}

/// What readiness asks for besides recovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// Most that a table may be behind.
    pub max_staleness: Option<Duration>,
    /// Whether sources must first have reached the end that Kafka had at start.
    pub wait_for_catch_up: bool,
}

/// Compatibility switches.
#[derive(Debug, Clone, PartialEq)]
pub struct Compat {
    /// Ignore the windows of decay and velocity operators.
    pub ignore_velocity_windows: bool,
    /// Refuse lifetime features without a bound.
    pub lifetime_bound: bool,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// The log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A filter as `RUST_LOG` has it.
    pub level: String,
    /// Format.
    pub format: LogFormat,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(String),
    /// This line of the config file.
    File {
        /// From 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Provenance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => out.write_str(name),
            Self::Variable(name) => out.write_str(name),
            Self::File { line } => write!(out, "line {line}"),
            Self::Default => out.write_str("default"),
        }
    }
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Dotted key.
    pub key: &'static str,
    /// Its value as text; empty when there is none.
    pub value: String,
    /// Where it came from.
    pub from: Provenance,
}

/// All effective settings, for the line at the start of the log and for `config show`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origins(pub Vec<Origin>);

impl Origins {
    /// The setting of this key.
    pub fn get(&self, key: &str) -> Option<&Origin> {
        self.0.iter().find(|origin| origin.key == key)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, origin) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(out, "{gap}{}={} ({})", origin.key, origin.value, origin.from)?;
        }
        Ok(())
    }
}

/// All settings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) server: Server,
    pub(super) limits: Limits,
    pub(super) durability: Durability,
    pub(super) push: Push,
    pub(super) ready: Ready,
    pub(super) compat: Compat,
    pub(super) log: Log,
    pub(super) test_mode: bool,
    pub(super) origins: Origins,
}

/// Settings being decided.
struct Decided {
    values: BTreeMap<&'static str, Parsed>,
    origins: Vec<Origin>,
}

/// Decides every setting.
pub(super) fn decide(check: &mut Check<'_>, flags: &Flags) -> Settings {
    let given = flag_values(flags);
    let aliases = beava::values(check);
    let mut decided = Decided { values: BTreeMap::new(), origins: Vec::new() };
    for key in key::settings() {
        decided.one(key, check, &given, &aliases);
    }
    let settings = decided.settings();
    refuse_open_listeners(check, flags, &settings);
    settings
}

/// Flags as texts of settings.
fn flag_values(flags: &Flags) -> BTreeMap<&'static str, (&'static str, String)> {
    let mut given = BTreeMap::new();
    for (path, flag, address) in
        [("server.http", "--http-addr", flags.http), ("server.tcp", "--tcp-addr", flags.tcp), ("server.admin", "--admin-addr", flags.admin)]
    {
        given.extend(address.map(|address| (path, (flag, address.to_string()))));
    }
    given.extend(flags.data_dir.as_ref().map(|path| ("server.data_dir", ("--data-dir", path.display().to_string()))));
    given.extend(flags.memory_only.then(|| ("durability.push", ("--memory-only", "memory".to_owned()))));
    given.extend(flags.test_mode.then(|| ("test_mode", ("--test-mode", "true".to_owned()))));
    let word = |format| match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    given.extend(flags.log_format.map(|format| ("log.format", ("--log-format", word(format).to_owned()))));
    given
}

impl Decided {
    /// Tries the origins from the weakest to the strongest; the last good one stays.
    fn one(
        &mut self,
        key: &'static Key,
        check: &mut Check<'_>,
        flags: &BTreeMap<&'static str, (&'static str, String)>,
        aliases: &BTreeMap<&'static str, (String, String)>,
    ) {
        if let Some(default) = key.default {
            self.set(key, default, Provenance::Default);
        }
        // The walk over the file has told what is wrong there.
        if let Some(node) = check.root.at(key.path)
            && let Ok(text) = check.setting_text(key.form, node)
        {
            let (line, _) = line_and_column(check.text, node.span.start);
            self.set(key, &text, Provenance::File { line });
        }
        let variable = key::variable(key.path);
        let own = check.variable(&variable).map(|value| (value, variable));
        for (value, name) in aliases.get(key.path).cloned().into_iter().chain(own) {
            match key.form.parse(&value) {
                Ok(_) => self.set(key, &value, Provenance::Variable(name)),
                Err(wanted) => check.problems.push(
                    ConfigProblem::new(Code::InvalidConfigValue, format!("{name} is {value:?}: {wanted}"))
                        .from(format!("environment variable {name}"))
                        .help(wanted),
                ),
            }
        }
        if let Some((flag, value)) = flags.get(key.path) {
            self.set(key, value, Provenance::Flag(flag));
        }
        if !self.origins.iter().any(|origin| origin.key == key.path) {
            self.origins.push(Origin { key: key.path, value: String::new(), from: Provenance::Default });
        }
    }

    fn set(&mut self, key: &'static Key, text: &str, from: Provenance) {
        // A data folder given by flag may be any text, everything else has been checked.
        let parsed = match key.form {
            Form::Path => Parsed::Text(text.to_owned()),
            form => match form.parse(text) {
                Ok(parsed) => parsed,
                Err(_) => return,
            },
        };
        self.values.insert(key.path, parsed);
        self.origins.retain(|origin| origin.key != key.path);
        self.origins.push(Origin { key: key.path, value: text.to_owned(), from });
    }

    fn number(&self, path: &str) -> u64 {
        if let Some(Parsed::Number(number)) = self.values.get(path) { *number } else { 0 }
    }

    fn count(&self, path: &str) -> usize {
        usize::try_from(self.number(path)).unwrap_or(usize::MAX)
    }

    fn duration(&self, path: &str) -> Option<Duration> {
        if let Some(Parsed::Duration(duration)) = self.values.get(path) { Some(*duration) } else { None }
    }

    fn flag(&self, path: &str) -> bool {
        matches!(self.values.get(path), Some(Parsed::Flag(true)))
    }

    fn text(&self, path: &str) -> &str {
        if let Some(Parsed::Text(text)) = self.values.get(path) { text } else { "" }
    }

    /// The items of a text with commas between them.
    fn texts(&self, path: &str) -> Vec<String> {
        self.text(path).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn address(&self, path: &str) -> Option<SocketAddr> {
        if let Some(Parsed::Address(address)) = self.values.get(path) { *address } else { None }
    }

    fn settings(self) -> Settings {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Settings {
            server: Server {
                data_dir: PathBuf::from(self.text("server.data_dir")),
                http: self.address("server.http").unwrap_or(any),
                tcp: self.address("server.tcp"),
                admin: self.address("server.admin").unwrap_or(any),
                io_threads: self.count("server.io_threads"),
                cors: Cors::new(self.texts("server.cors")),
            },
            limits: Limits {
                memory_bytes: self.number("limits.memory"),
                on_memory_limit: match self.text("limits.on_memory_limit") {
                    "refuse_new" => OnMemoryLimit::RefuseNew,
                    _ => OnMemoryLimit::Pause,
                },
                body_bytes: self.count("limits.body"),
                frame_bytes: self.count("limits.frame"),
                connections: self.count("limits.connections"),
                kafka_memory_bytes: self.number("limits.kafka_memory"),
                archive_memory_bytes: self.number("archive.memory"),
            },
            durability: Durability {
                push: match self.text("durability.push") {
                    "synced" => PushLevel::Synced,
                    "memory" => PushLevel::Memory,
                    _ => PushLevel::Written,
                },
                group_commit: self.duration("durability.group_commit").unwrap_or_default(),
                sync_every: self.duration("durability.sync.every").unwrap_or_default(),
                sync_bytes: self.number("durability.sync.bytes"),
                snapshot_every: self.duration("durability.snapshot.every").unwrap_or_default(),
                snapshot_keep: self.count("durability.snapshot.keep"),
                wal_segment_bytes: self.number("durability.wal.segment"),
            },
            push: Push { control_characters: self.text("push.control_characters") == "allow" },
            ready: Ready { max_staleness: self.duration("ready.max_staleness"), wait_for_catch_up: self.flag("ready.wait_for_catch_up") },
            compat: Compat {
                ignore_velocity_windows: self.text("compat.velocity_window") == "ignore",
                lifetime_bound: self.flag("compat.lifetime_bound"),
            },
            log: Log {
                level: self.text("log.level").to_owned(),
                format: match self.text("log.format") {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
            },
            test_mode: self.flag("test_mode"),
            origins: Origins(self.origins),
        }
    }
}

/// Without authentication, a listener beyond loopback is an open door.
fn refuse_open_listeners(check: &mut Check<'_>, flags: &Flags, settings: &Settings) {
    let server = &settings.server;
    for (path, address) in [("server.http", Some(server.http)), ("server.tcp", server.tcp), ("server.admin", Some(server.admin))] {
        let Some(address) = address.filter(|address| !address.ip().is_loopback() && !flags.insecure_no_auth) else { continue };
        let message = format!("{path} listens on {address}, which is not loopback, and there is no authentication");
        let problem = ConfigProblem::new(Code::UnsafeListenAddress, message);
        let problem = match (settings.origins.get(path).map(|origin| &origin.from), check.root.at(path)) {
            (Some(Provenance::File { .. }), Some(node)) => problem.at(node.span.clone(), "not loopback"),
            (Some(from), _) => problem.from(from.to_string()),
            (None, _) => problem,
        };
        check.problems.push(problem);
    }
}
