//! `streamgauge.toml`: read once, checked together, passed on as plain data.
//!
//! Pure: the text, the flags, the environment and a way to read small files come in as arguments. Every problem is found in one pass and points at its place;
//! events and tables go through the register call's own compiler, so the file, the wire and the SDK mean the same. A value is refused, never clamped; a key
//! of a part that does not exist is refused as `not_available`. Called by startup and by `streamgauge check`.

mod document;
mod nodes;
mod reader;
mod report;
mod schema;
mod secret;
pub mod setting;
mod settings;
mod source;

use crate::decode::Tombstone;
use crate::pipeline::{Operators, Origin, RegisterError, RegisterOptions, RegisterOutcome, Registry, TableDef, Tree};
use document::{Section, Value};
use nodes::Nodes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::Code;

pub use report::{Fancy, Label, Problem, Severity};
pub use schema::json_schema;
pub use secret::Secret;
pub use settings::{Provenance, Settings};
pub use source::{KafkaConfig, RegistryAuthConfig, RegistryConfig, SaslConfig, SourceConfig, StartConfig, TlsConfig, TopicsConfig};

/// A setting given by a flag of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The setting's key, e.g. `server.http`.
    pub key: &'static str,
    /// Its value as text.
    pub value: String,
    /// The flag, e.g. `--http-addr`.
    pub flag: &'static str,
}

/// A Kafka client setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientProblem {
    /// The setting.
    pub key: String,
    /// Why.
    pub reason: String,
    /// The nearest setting, when the name is unknown and one is near.
    pub nearest: Option<String>,
    /// Whether no such setting exists, as opposed to one that is fixed.
    pub unknown: bool,
}

/// All that a config depends on besides the file.
pub struct Surroundings<'s> {
    /// Settings given by flags.
    pub flags: &'s [Flag],
    /// The environment.
    pub environment: &'s BTreeMap<String, String>,
    /// Reads a small file: a secret, a schema.
    pub read_file: &'s dyn Fn(&Path) -> std::io::Result<String>,
    /// Refuses Kafka client settings; values of secret ones are empty.
    pub check_client_settings: fn(&BTreeMap<String, String>) -> Vec<ClientProblem>,
    /// The operators there are.
    pub operators: Operators,
    /// Look at the file alone: secrets and schemas are not read.
    pub offline: bool,
    /// Listen beyond loopback without authentication.
    pub insecure_no_auth: bool,
}

/// Addresses and folders.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Lock, reserve, and by default WAL and snapshots.
    pub data_dir: PathBuf,
    /// WAL.
    pub wal_dir: PathBuf,
    /// Snapshots.
    pub snapshot_dir: PathBuf,
    /// HTTP data plane.
    pub http: Option<SocketAddr>,
    /// Framed data plane.
    pub tcp: Option<SocketAddr>,
    /// Admin port.
    pub admin: Option<SocketAddr>,
    /// Name in client and group ids.
    pub instance: String,
    /// I/O threads of the data plane.
    pub io_threads: usize,
    /// Whether reset is allowed.
    pub test_mode: bool,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of tables.
    pub memory_bytes: u64,
    /// At the limit sources wait; else rows of new keys are refused.
    pub pause_on_memory: bool,
    /// Largest HTTP body.
    pub body_bytes: usize,
    /// Largest frame payload.
    pub frame_bytes: usize,
    /// Open connections.
    pub connections: usize,
    /// Open connections of one peer.
    pub connections_per_peer: usize,
    /// Bytes that Kafka clients queue.
    pub kafka_memory_bytes: u64,
}

/// When a push is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushLevel {
    /// Its frame is written.
    Written,
    /// Its frame is synced.
    Synced,
    /// It is in memory; there is no WAL.
    Memory,
}

/// WAL and snapshots.
#[derive(Debug, Clone, PartialEq)]
pub struct Durability {
    /// Level of pushes.
    pub push: PushLevel,
    /// Batching delay of syncs that somebody waits for.
    pub group_commit: Duration,
    /// Longest unsynced time otherwise.
    pub sync_every: Duration,
    /// Most unsynced bytes otherwise.
    pub sync_bytes: u64,
    /// Bytes of a WAL file.
    pub wal_segment_bytes: u64,
    /// Time between snapshots; zero = only at the end.
    pub snapshot_every: Duration,
    /// Snapshots kept.
    pub snapshot_keep: usize,
    /// New rows that a snapshot waits for.
    pub snapshot_min_rows: u64,
}

/// What /ready means.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// A table further behind than this makes unready; none = never.
    pub max_staleness: Option<Duration>,
    /// Unready until every source has reached the end it saw at the start.
    pub wait_for_catch_up: bool,
}

/// What a source does with a record that cannot become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRecordPolicy {
    /// Into the local reject log.
    Dlq,
    /// Counted and forgotten.
    Skip,
    /// The partition stops.
    Stop,
}

/// What an event asks of its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventConfig {
    /// Name.
    pub name: String,
    /// Names of its fields.
    pub fields: Vec<String>,
    /// Bad records.
    pub on_bad_record: BadRecordPolicy,
    /// Records without a value.
    pub tombstone: Tombstone,
}

/// A checked config.
#[derive(Clone)]
pub struct Config {
    /// Addresses and folders.
    pub server: Server,
    /// Bounds.
    pub limits: Limits,
    /// WAL and snapshots.
    pub durability: Durability,
    /// Whether pushed strings may hold control characters.
    pub allow_control_characters: bool,
    /// Windows of decay and velocity operators are dropped.
    pub ignore_velocity_windows: bool,
    /// Lifetime features without a bound are refused.
    pub lifetime_bound: bool,
    /// What /ready means.
    pub ready: Ready,
    /// `error warn info debug trace`.
    pub log_level: String,
    /// `auto text json`.
    pub log_format: String,
    /// What events ask of their sources, by name.
    pub events: BTreeMap<String, EventConfig>,
    /// Inputs.
    pub sources: Vec<SourceConfig>,
    /// Every scalar setting with where its value came from.
    pub settings: Settings,
    /// Tables of the file, compiled.
    pub registry: Arc<Registry>,
    /// What is accepted but probably not meant.
    pub warnings: Vec<Problem>,
    payload: Tree,
    operators: Operators,
}

/// A config that is not used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// In order of their places.
    pub problems: Vec<Problem>,
    /// What would be warned of besides.
    pub warnings: Vec<Problem>,
}

const LATER: &[&str] = &["archive", "auth", "test", "alerts", "backfill", "shards"];
const PARTS: &[&str] = &["config_version", "events", "sources", "tables"];

impl std::fmt::Debug for Config {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values: Vec<String> =
            self.settings.effective().map(|(setting, value, from)| format!("{} = {value} ({from})", setting.key)).collect();
        out.debug_struct("Config").field("settings", &values).field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a config. `text` is the file's; empty text is a valid config.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load(text: &str, surroundings: &Surroundings<'_>) -> Result<Self, Refused> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let (root, syntax) = Section::parse(text);
        for error in syntax {
            problems.push(Problem::at(Code::ConfigSyntax, error.span, format!("the file is not valid TOML: {}", error.message), "here"));
        }
        parts(&root, &mut problems);
        let settings = Settings::gather(&root, text, surroundings, &mut problems, &mut warnings);
        let empty = Section::default();
        let part = |key: &str| root.get(key).and_then(document::Item::as_section).unwrap_or(&empty);
        let mut nodes = Nodes::default();
        nodes.events(part("events"), &fed_by_kafka(part("sources")), &mut problems);
        let sources = source::read_all(part("sources"), &nodes.events, surroundings, &mut problems);
        nodes.tables(part("tables"), &mut problems);
        let payload = nodes.payload();
        let options = RegisterOptions {
            origin: Origin::Config,
            operators: surroundings.operators,
            lifetime_bound: settings.flag("compat.lifetime_bound"),
            ignore_velocity_windows: settings.text("compat.velocity_window") == "ignore",
            rebuild: &[],
        };
        let (registry, found) = match Registry::default().apply_tree(&payload, &options) {
            Ok(outcome) => (outcome.next.unwrap_or_default(), outcome.warnings),
            Err(error) => {
                problems.extend(error.problems.iter().map(|problem| nodes.translate(problem, text)));
                (Arc::default(), error.warnings)
            }
        };
        for warning in found {
            // On the wire these are warnings, since clients know them so; in a file they are slips.
            let strict = matches!(warning.code, Code::ExpressionTypeMismatch | Code::UnknownConfigKey);
            let translated = nodes.translate(&warning, text);
            if strict { &mut problems } else { &mut warnings }.push(translated);
        }
        listeners(&settings, surroundings, &mut problems);
        if problems.is_empty() {
            return Ok(Self::of(settings, nodes.events, sources, registry, warnings, payload, surroundings.operators));
        }
        problems.sort_by_key(|problem| problem.labels.first().map_or(usize::MAX, |label| label.span.start));
        problems.dedup();
        Err(Refused { problems, warnings })
    }

    fn of(
        settings: Settings,
        events: BTreeMap<String, EventConfig>,
        sources: Vec<SourceConfig>,
        registry: Arc<Registry>,
        warnings: Vec<Problem>,
        payload: Tree,
        operators: Operators,
    ) -> Self {
        let push = match settings.text("durability.push") {
            "synced" => PushLevel::Synced,
            "memory" => PushLevel::Memory,
            _ => PushLevel::Written,
        };
        Self {
            server: server(&settings),
            limits: Limits {
                memory_bytes: settings.number("limits.memory"),
                pause_on_memory: settings.text("limits.on_memory_limit") == "pause",
                body_bytes: settings.count("limits.body"),
                frame_bytes: settings.count("limits.frame"),
                connections: settings.count("limits.connections"),
                connections_per_peer: settings.count("limits.connections_per_peer"),
                kafka_memory_bytes: settings.number("limits.kafka_memory"),
            },
            durability: Durability {
                push,
                group_commit: settings.duration("durability.group_commit"),
                sync_every: settings.duration("durability.sync_every"),
                sync_bytes: settings.number("durability.sync_bytes"),
                wal_segment_bytes: settings.number("durability.wal_segment"),
                snapshot_every: settings.duration("durability.snapshot.every"),
                snapshot_keep: settings.count("durability.snapshot.keep"),
                snapshot_min_rows: settings.number("durability.snapshot.min_rows"),
            },
            allow_control_characters: settings.text("push.control_characters") == "allow",
            ignore_velocity_windows: settings.text("compat.velocity_window") == "ignore",
            lifetime_bound: settings.flag("compat.lifetime_bound"),
            ready: Ready {
                max_staleness: settings.given("ready.max_staleness").then(|| settings.duration("ready.max_staleness")),
                wait_for_catch_up: settings.flag("ready.wait_for_catch_up"),
            },
            log_level: settings.text("log.level").to_owned(),
            log_format: settings.text("log.format").to_owned(),
            events,
            sources,
            settings,
            registry,
            warnings,
            payload,
            operators,
        }
    }

    /// What the file's events and tables change in the registry of the last run. Additions pass; what would lose state has to be named in `rebuild` as
    /// `TABLE` or `TABLE.FEATURE`.
    ///
    /// # Errors
    /// `config_change_destructive` with the diff, or what else the register call refuses.
    pub fn change(&self, stored: &Registry, rebuild: &[String]) -> Result<RegisterOutcome, RegisterError> {
        let options = RegisterOptions {
            origin: Origin::Config,
            operators: self.operators,
            lifetime_bound: self.lifetime_bound,
            ignore_velocity_windows: self.ignore_velocity_windows,
            rebuild,
        };
        stored.apply_tree(&self.payload, &options)
    }

    /// Bytes that a key of each table takes, by the caller's knowledge of state.
    pub fn estimate(&self, bytes_per_key: &dyn Fn(&TableDef) -> u64) -> Vec<(String, u64)> {
        self.registry.tables.values().map(|table| (table.name.to_string(), bytes_per_key(table))).collect()
    }
}

impl Refused {
    /// All problems, then all warnings, as they are shown.
    pub fn render(&self, file: &str, text: &str, fancy: Fancy) -> String {
        render(&self.problems, &self.warnings, file, text, fancy)
    }
}

/// Problems and warnings as they are shown.
pub fn render(problems: &[Problem], warnings: &[Problem], file: &str, text: &str, fancy: Fancy) -> String {
    let errors = problems.iter().map(|problem| problem.render(file, text, Severity::Error, fancy));
    errors.chain(warnings.iter().map(|warning| warning.render(file, text, Severity::Warning, fancy))).collect()
}

/// Checks the names of the file's parts, and its version.
fn parts(root: &Section, problems: &mut Vec<Problem>) {
    let groups = settings::group_keys("");
    for entry in &root.entries {
        let key = entry.key.as_str();
        match (key, &entry.item.value) {
            ("config_version", Value::Int(1)) => {}
            ("config_version", _) => {
                let message = "`config_version` must be 1";
                problems.push(Problem::at(Code::InvalidConfigValue, entry.item.span.clone(), message, "1 is wanted"));
            }
            (_, Value::Table(_)) if PARTS.contains(&key) => {}
            _ if groups.contains(&key) => {}
            _ if LATER.contains(&key) => problems.push(Problem::not_available(key, entry.key_span.clone())),
            _ if PARTS.contains(&key) => {
                let message = format!("`{key}` is a table, found {}", entry.item.kind());
                problems.push(Problem::at(Code::InvalidConfigValue, entry.item.span.clone(), message, format!("write [{key}.NAME]")));
            }
            _ => {
                let known: Vec<&str> = groups.iter().copied().chain(PARTS.iter().copied()).chain(LATER.iter().copied()).collect();
                problems.push(Problem::unknown_key(key, entry.key_span.clone(), "the file", &known));
            }
        }
    }
}

/// Names of events that a Kafka source feeds.
fn fed_by_kafka(sources: &Section) -> BTreeSet<String> {
    let sections = sources.entries.iter().filter_map(|entry| entry.item.as_section());
    sections.filter(|source| source.get("kafka").is_some()).filter_map(|source| source.get("event")?.as_str().map(str::to_owned)).collect()
}

fn server(settings: &Settings) -> Server {
    let wal_dir = settings.path("server.wal_dir");
    let named = settings.path("server.data_dir").unwrap_or_default();
    // Whoever names a folder for the WAL and none for data wants nothing anywhere else: the lock goes beside the WAL.
    let data_dir = wal_dir.clone().filter(|_| !settings.given("server.data_dir")).unwrap_or(named);
    Server {
        wal_dir: wal_dir.unwrap_or_else(|| data_dir.join("wal")),
        snapshot_dir: settings.path("server.snapshot_dir").unwrap_or_else(|| data_dir.join("snapshots")),
        data_dir,
        http: settings.address("server.http"),
        tcp: settings.address("server.tcp"),
        admin: settings.address("server.admin"),
        instance: settings.text("server.instance").to_owned(),
        io_threads: settings.count("server.io_threads"),
        test_mode: settings.flag("server.test_mode"),
    }
}

/// Without authentication nobody but this machine may connect, unless that is said in so many words.
fn listeners(settings: &Settings, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) {
    for key in ["server.http", "server.tcp", "server.admin"] {
        if let Some(address) = settings.address(key).filter(|address| !address.ip().is_loopback())
            && !surroundings.insecure_no_auth
        {
            let message = format!("`{key}` = {address} is not on loopback and there is no authentication");
            problems.push(Problem::outside(Code::UnsafeListenAddress, message).help("listen on 127.0.0.1, or pass --insecure-no-auth"));
        }
    }
}

#[cfg(test)]
mod tests;
