//! `streamgauge.toml`: read once, checked together, passed on.
//!
//! [`Config::load`] takes the file, the flags and the environment and gives plain values, each with where it came from, or every problem at once with its place
//! in the file. Nothing is clamped, guessed or ignored: a key of a part that does not exist yet is refused as such. Called by startup and by `check`, once, before
//! anything else runs. Reads the file, secrets and schemas it names, and nothing else; never names a connector.

mod beava;
mod change;
mod check;
mod definitions;
mod document;
mod eventstore;
mod imports;
mod key;
mod price;
mod problem;
mod schema;
mod secret;
mod settings;
mod setup;
mod source;
mod value;
mod variables;

use crate::pipeline::{Histories, RegisterOptions, Registry, Tree};
use check::Check;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streamgauge_api::Code;

pub use change::{ConfigChangeRefused, config_change, unknown_rebuild};
pub use definitions::{EventOptions, OnBadRecord};
pub use eventstore::Eventstore;
pub use price::TablePrice;
pub use problem::{ConfigProblem, ConfigProblems, Label};
pub use schema::{json_schema, reference_table};
pub use secret::Secret;
pub use settings::{
    Compat, Durability, Flags, Limits, Log, LogFormat, OnMemoryLimit, Origin, Origins, Provenance, Push, PushLevel, Ready, Server,
};
pub use setup::{
    ClientProblem, ClientRules, KafkaSetup, RegistryLogin, RegistrySetup, SaslSetup, SourceSetup, StartSetup, TlsSetup, TopicsSetup,
};

/// The file that is read when none is named and there is one.
pub const FILE_NAME: &str = "streamgauge.toml";

/// What the config is judged by besides the file.
pub struct Outside<'o> {
    /// The environment.
    pub env: &'o dyn Fn(&str) -> Option<String>,
    /// Names of all variables of the environment.
    pub names: &'o dyn Fn() -> Vec<String>,
    /// The connector's word on client settings.
    pub client: ClientRules,
}

/// Everything a process is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file; none when there is none.
    pub file: Option<PathBuf>,
    /// Addresses and data folder.
    pub server: Server,
    /// Bounds.
    pub limits: Limits,
    /// What survives what.
    pub durability: Durability,
    /// Rules of pushes.
    pub push: Push,
    /// Readiness.
    pub ready: Ready,
    /// Compatibility switches.
    pub compat: Compat,
    /// The log.
    pub log: Log,
    /// Whether reset is allowed.
    pub test_mode: bool,
    /// The event store, when there is one.
    pub eventstore: Option<Eventstore>,
    /// Options of events that the registry does not know, by event.
    pub events: BTreeMap<String, EventOptions>,
    /// The engine's halves of the sources.
    pub sources: Vec<SourceSetup>,
    /// The connector's halves of the sources, in the same order.
    pub kafka: Vec<KafkaSetup>,
    /// Every effective setting and where it came from.
    pub origins: Origins,
    /// What is accepted but probably not meant; its `problems` are empty.
    pub warnings: ConfigProblems,
    payload: Tree,
    registry: Arc<Registry>,
}

impl Config {
    /// Reads and checks. Without a path, `streamgauge.toml` of the working folder when there is one.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(path: Option<&Path>, flags: &Flags, outside: &Outside<'_>) -> Result<Self, ConfigProblems> {
        let default = Path::new(FILE_NAME);
        let path = path.or_else(|| default.exists().then_some(default));
        let Some(path) = path else { return Self::parse("", None, flags, outside) };
        match check::read_file(path) {
            Ok(text) => Self::parse(&text, Some(path), flags, outside),
            Err(error) => {
                let name = path.display().to_string();
                let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("the config {name} cannot be read: {error}"));
                let problem = problem.from(name.clone()).help("check the path and its permissions");
                Err(ConfigProblems::new(name, "".into(), vec![problem], Vec::new()))
            }
        }
    }

    /// Checks a config's text; `path` is for messages and for files that are named relative to it.
    ///
    /// # Errors
    /// All problems at once.
    pub fn parse(text: &str, path: Option<&Path>, flags: &Flags, outside: &Outside<'_>) -> Result<Self, ConfigProblems> {
        let name = path.map(|path| path.display().to_string()).unwrap_or_default();
        let told = |problems, warnings| ConfigProblems::new(name.clone(), text.into(), problems, warnings);
        let (root, errors) = document::parse(text);
        if !errors.is_empty() {
            let problems = errors.into_iter().map(|error| ConfigProblem::new(Code::ConfigSyntax, error.message).at(error.span, ""));
            return Err(told(problems.collect(), Vec::new()));
        }
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let mut check = Check { text, root: &root, folder, outside, offline: flags.offline, problems: Vec::new(), warnings: Vec::new() };
        check.walk();
        let settings = settings::decide(&mut check, flags);
        variables::unknown(&mut check);
        let kafka_events = kafka_events(&root);
        let histories: Histories = kafka_events.iter().map(|event| (event.as_str().into(), true)).collect();
        let options = RegisterOptions {
            lifetime_bound: settings.compat.lifetime_bound,
            ignore_velocity_windows: settings.compat.ignore_velocity_windows,
            histories: &histories,
            ..RegisterOptions::default()
        };
        let definitions = definitions::compile(&mut check, &kafka_events, &options);
        let eventstore = eventstore::read(&mut check, flags.eventstore.as_ref(), &name);
        let (sources, kafka) = source::read(&mut check, &definitions.registry);
        let Check { problems, warnings, .. } = check;
        if !problems.is_empty() {
            return Err(told(problems, warnings));
        }
        let events = definitions.registry.events.keys().map(|name| (name.to_string(), event_options(&root, name))).collect();
        Ok(Self {
            file: path.map(Path::to_path_buf),
            server: settings.server,
            limits: settings.limits,
            durability: settings.durability,
            push: settings.push,
            ready: settings.ready,
            compat: settings.compat,
            log: settings.log,
            test_mode: settings.test_mode,
            eventstore,
            events,
            sources,
            kafka,
            origins: settings.origins,
            warnings: told(Vec::new(), warnings),
            payload: definitions.payload,
            registry: definitions.registry,
        })
    }

    /// Events that a source feeds, and whether all its sources read their topics from the log start.
    pub fn histories(&self) -> Histories {
        let mut histories = Histories::new();
        for source in &self.kafka {
            let is_whole = histories.entry(source.event.as_str().into()).or_insert(true);
            *is_whole &= source.start == StartSetup::Earliest;
        }
        histories
    }

    /// The file's events and tables as a register payload.
    pub fn payload(&self) -> &Tree {
        &self.payload
    }

    /// The registry that the file alone makes, compiled.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The definitions as a register payload.
    pub fn register_payload(&self) -> String {
        change::payload_text(&self.payload)
    }
}

/// Events that a Kafka source feeds: their rows' time is the record's unless they say otherwise.
fn kafka_events(root: &document::Node) -> BTreeSet<String> {
    let sources = root.get("sources").and_then(document::Node::members).unwrap_or_default();
    let fed = sources.iter().filter(|source| source.node.get("kafka").is_some());
    fed.filter_map(|source| Some(source.node.get("event")?.text()?.to_owned())).collect()
}

fn event_options(root: &document::Node, event: &str) -> EventOptions {
    let word = root.at(&format!("events.{event}.on_bad_record")).and_then(document::Node::text);
    let on_bad_record = match word {
        Some("skip") => OnBadRecord::Skip,
        Some("stop") => OnBadRecord::Stop,
        _ => OnBadRecord::Dlq,
    };
    EventOptions { on_bad_record }
}

#[cfg(test)]
mod tests;
