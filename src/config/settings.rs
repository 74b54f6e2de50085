//! Scalar settings gathered from flags, environment, file and defaults, in this order, each with where its value came from.

use super::document::{Entry, Item, Section, Value};
use super::report::Problem;
use super::setting::{Kind, SETTINGS, Setting, SettingValue, find};
use super::{Flag, Surroundings};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use streamgauge_api::Code;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// The file, at this line.
    File {
        /// From 1.
        line: usize,
    },
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Provenance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => out.write_str(flag),
            Self::Variable(name) => out.write_str(name),
            Self::File { line } => write!(out, "file, line {line}"),
            Self::Default => out.write_str("default"),
        }
    }
}

/// Every setting's value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (SettingValue, Provenance)>,
}

impl Settings {
    /// Gathers all settings. `root` is the whole file; keys of other parts are left to their readers.
    pub(super) fn gather(
        root: &Section,
        text: &str,
        surroundings: &Surroundings<'_>,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<Problem>,
    ) -> Self {
        let mut settings = Self::default();
        for setting in SETTINGS {
            let value = if setting.default.is_empty() { Ok(SettingValue::Unset) } else { setting.kind.parse(setting.default) };
            // Defaults parse: a test of the list says so.
            settings.values.insert(setting.key, (value.unwrap_or(SettingValue::Unset), Provenance::Default));
        }
        for entry in &root.entries {
            if group_keys("").contains(&entry.key.as_str()) {
                settings.section(entry, "", text, problems);
            }
        }
        settings.beava(surroundings.environment, problems, warnings);
        settings.variables(surroundings.environment, problems, warnings);
        for Flag { key, value, flag } in surroundings.flags {
            settings.outside(key, value, Provenance::Flag(flag), problems);
        }
        settings
    }

    fn section(&mut self, entry: &Entry, prefix: &str, text: &str, problems: &mut Vec<Problem>) {
        let path = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        if let Some(setting) = find(&path) {
            self.from_file(setting, &entry.item, text, problems);
            return;
        }
        let known = group_keys(&path);
        if known.is_empty() {
            let place = if prefix.is_empty() { "the file".to_owned() } else { format!("[{prefix}]") };
            problems.push(Problem::unknown_key(&entry.key, entry.key_span.clone(), &place, &group_keys(prefix)));
            return;
        }
        match entry.item.as_section() {
            Some(section) => {
                for inner in &section.entries {
                    self.section(inner, &path, text, problems);
                }
            }
            None => {
                let message = format!("`{path}` is a table, found {}", entry.item.kind());
                problems.push(Problem::at(
                    Code::InvalidConfigValue,
                    entry.item.span.clone(),
                    message,
                    format!("keys: {}", known.join(", ")),
                ));
            }
        }
    }

    fn from_file(&mut self, setting: &'static Setting, item: &Item, text: &str, problems: &mut Vec<Problem>) {
        let value = match (setting.kind, &item.value) {
            (Kind::Flag, Value::Bool(truth)) => Ok(SettingValue::Flag(*truth)),
            (Kind::Count(..), Value::Int(number)) => setting.kind.parse(&number.to_string()),
            (Kind::Flag | Kind::Count(..), _) => Err(format!("{} is wanted, found {}", setting.kind.wanted(), item.kind())),
            (_, Value::Str(given)) => setting.kind.parse(given),
            _ => Err(format!("{} is wanted, found {}", setting.kind.wanted(), item.kind())),
        };
        match value {
            Ok(value) => {
                let before = text.get(..item.span.start).unwrap_or(text);
                let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
                self.values.insert(setting.key, (value, Provenance::File { line }));
            }
            Err(reason) => {
                let message = format!("`{}`: {reason}", setting.key);
                problems.push(Problem::at(Code::InvalidConfigValue, item.span.clone(), message, setting.kind.wanted()).help(setting.help));
            }
        }
    }

    /// A value from a flag or a variable.
    fn outside(&mut self, key: &str, value: &str, provenance: Provenance, problems: &mut Vec<Problem>) {
        let Some(setting) = find(key) else {
            problems.push(Problem::outside(Code::UnknownConfigKey, format!("{provenance} sets `{key}`, which does not exist")));
            return;
        };
        match setting.kind.parse(value) {
            Ok(value) => {
                self.values.insert(setting.key, (value, provenance));
            }
            Err(reason) => problems.push(Problem::outside(Code::InvalidConfigValue, format!("{provenance}: {reason}")).help(setting.help)),
        }
    }

    fn variables(&mut self, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
        for (name, value) in environment.range("STREAMGAUGE_".to_owned()..).take_while(|(name, _)| name.starts_with("STREAMGAUGE_")) {
            match SETTINGS.iter().find(|setting| setting.variable() == *name) {
                Some(setting) => self.outside(setting.key, value, Provenance::Variable(name.clone()), problems),
                // The command line's own variables; and Kubernetes sets STREAMGAUGE_SERVICE_HOST and its like for a service of our name.
                None if CLIENT_VARIABLES.contains(&name.as_str()) => {}
                None => {
                    let warning = Problem::outside(Code::UnknownConfigKey, format!("the environment variable {name} sets nothing"));
                    let nearest = crate::pipeline::nearest(name, SETTINGS.iter().map(Setting::variable));
                    warnings.push(Problem { help: nearest.map(|name| format!("did you mean {name}?")), ..warning });
                }
            }
        }
    }

    /// Variables of 0.0.6, by their meaning there.
    fn beava(&mut self, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
        let get = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        for (name, key, form) in BEAVA_VARIABLES {
            if let Some(value) = get(name) {
                let value = match form {
                    Form::AsIs => value.to_owned(),
                    Form::Milliseconds => format!("{value}ms"),
                    Form::Bytes if value == "0" => continue,
                    Form::Bytes => format!("{value}B"),
                    Form::Zero => if value == "0" { "false" } else { "true" }.to_owned(),
                    Form::One => if value == "1" { "true" } else { "false" }.to_owned(),
                    Form::SyncMode => match value {
                        "per-event" | "per_event" => "synced".to_owned(),
                        "periodic" => "written".to_owned(),
                        other => other.to_owned(),
                    },
                };
                self.outside(key, &value, Provenance::Variable((*name).to_owned()), problems);
            }
        }
        self.beava_tcp(&get, problems);
        if let Some(tick) = get("BEAVA_WAL_TICK_MS").and_then(|ms| ms.parse::<u64>().ok()) {
            if self.duration("durability.sync_every") > Duration::from_millis(tick) {
                self.outside("durability.sync_every", &format!("{tick}ms"), Provenance::Variable("BEAVA_WAL_TICK_MS".to_owned()), problems);
            }
        }
        for name in BEAVA_WITHOUT_EFFECT {
            if get(name).is_some() {
                warnings.push(Problem::outside(Code::NotAvailable, format!("{name} has no effect here")));
            }
        }
    }

    /// Host, port and the switch together make one address.
    fn beava_tcp<'e>(&mut self, get: &dyn Fn(&str) -> Option<&'e str>, problems: &mut Vec<Problem>) {
        let (enabled, host, port) = (get("BEAVA_TCP_ENABLED"), get("BEAVA_TCP_HOST"), get("BEAVA_TCP_PORT"));
        if matches!(enabled, Some("false" | "0")) {
            self.outside("server.tcp", "off", Provenance::Variable("BEAVA_TCP_ENABLED".to_owned()), problems);
        } else if host.is_some() || port.is_some() {
            let name = if port.is_some() { "BEAVA_TCP_PORT" } else { "BEAVA_TCP_HOST" };
            let now = self.address("server.tcp");
            let host = host.map_or_else(|| now.map_or_else(|| "127.0.0.1".to_owned(), |now| now.ip().to_string()), str::to_owned);
            let port = port.map_or_else(|| now.map_or(8081, |now| now.port()).to_string(), str::to_owned);
            let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            self.outside("server.tcp", &address, Provenance::Variable(name.to_owned()), problems);
        }
    }

    fn value(&self, key: &str) -> &SettingValue {
        debug_assert!(find(key).is_some(), "{key} is in the list");
        self.values.get(key).map_or(&SettingValue::Unset, |(value, _)| value)
    }

    /// A text or word.
    pub(super) fn text(&self, key: &str) -> &str {
        if let SettingValue::Text(text) = self.value(key) { text } else { "" }
    }

    /// A path; none when not set.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        if let SettingValue::Path(path) = self.value(key) { Some(path.clone()) } else { None }
    }

    /// An address; none when off.
    pub(super) fn address(&self, key: &str) -> Option<SocketAddr> {
        if let SettingValue::Address(address) = self.value(key) { Some(*address) } else { None }
    }

    /// Bytes or a count.
    pub(super) fn number(&self, key: &str) -> u64 {
        if let SettingValue::Number(number) = self.value(key) { *number } else { 0 }
    }

    /// A count that indexes memory.
    pub(super) fn count(&self, key: &str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    /// A duration; zero when not set.
    pub(super) fn duration(&self, key: &str) -> Duration {
        if let SettingValue::Duration(duration) = self.value(key) { *duration } else { Duration::ZERO }
    }

    /// A flag.
    pub(super) fn flag(&self, key: &str) -> bool {
        *self.value(key) == SettingValue::Flag(true)
    }

    /// Whether somebody gave it.
    pub(super) fn given(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|(_, provenance)| *provenance != Provenance::Default)
    }

    /// Every setting with its value and where that came from, for `config show --origin` and the start line of the log.
    pub fn effective(&self) -> impl Iterator<Item = (&'static Setting, String, &Provenance)> {
        SETTINGS.iter().filter_map(|setting| {
            let (value, provenance) = self.values.get(setting.key)?;
            let text = if *value == SettingValue::Unset && setting.default.is_empty() { String::new() } else { value.text() };
            Some((setting, text, provenance))
        })
    }
}

/// Keys directly below a group of settings; none when the path is no group.
pub(super) fn group_keys(path: &str) -> Vec<&'static str> {
    let mut keys: Vec<&'static str> = Vec::new();
    for setting in SETTINGS {
        let rest = if path.is_empty() { Some(setting.key) } else { setting.key.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')) };
        if let Some(key) = rest.map(|rest| rest.split_once('.').map_or(rest, |(key, _)| key))
            && !keys.contains(&key)
        {
            keys.push(key);
        }
    }
    keys
}

/// Variables that verbs other than `run` read.
const CLIENT_VARIABLES: &[&str] = &["STREAMGAUGE_HTTP", "STREAMGAUGE_ADMIN"];

/// How a 0.0.6 variable's value is to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    AsIs,
    Milliseconds,
    Bytes,
    /// `0` is off.
    Zero,
    /// Exactly `1` is on.
    One,
    SyncMode,
}

const BEAVA_VARIABLES: &[(&str, &str, Form)] = &[
    ("BEAVA_LISTEN_ADDR", "server.http", Form::AsIs),
    ("BEAVA_ADMIN_ADDR", "server.admin", Form::AsIs),
    ("BEAVA_LOG_LEVEL", "log.level", Form::AsIs),
    ("BEAVA_TCP_MAX_FRAME_BYTES", "limits.frame", Form::Bytes),
    ("BEAVA_WAL_DIR", "server.wal_dir", Form::AsIs),
    ("BEAVA_SNAPSHOT_DIR", "server.snapshot_dir", Form::AsIs),
    ("BEAVA_TEST_MODE", "server.test_mode", Form::One),
    ("BEAVA_MEMORY_GOV_ENFORCE", "compat.lifetime_bound", Form::Zero),
    ("BEAVA_SNAPSHOT_INTERVAL_MS", "durability.snapshot.every", Form::Milliseconds),
    ("BEAVA_SNAPSHOT_RETAIN_COUNT", "durability.snapshot.keep", Form::AsIs),
    ("BEAVA_SNAPSHOT_MIN_EVENTS", "durability.snapshot.min_rows", Form::AsIs),
    ("BEAVA_WAL_SYNC_MODE", "durability.push", Form::SyncMode),
    ("BEAVA_WAL_FSYNC_INTERVAL_MS", "durability.sync_every", Form::Milliseconds),
    ("BEAVA_WAL_FSYNC_BYTES", "durability.sync_bytes", Form::Bytes),
    ("BEAVA_WAL_SEGMENT_BYTES", "durability.wal_segment", Form::Bytes),
    ("BEAVA_IO_THREADS", "server.io_threads", Form::AsIs),
];

const BEAVA_WITHOUT_EFFECT: &[&str] = &[
    "BEAVA_DEDUPE_SWEEP_SECS",
    "BEAVA_WAL_BUFFERS",
    "BEAVA_WAL_BUFFER_SIZE_MB",
    "BEAVA_SNAPSHOT_FORK",
    "BEAVA_SNAPSHOT_FORK_WAIT_TIMEOUT_SECS",
];
