//! A changed file at restart: what it does to the definitions that the state was built with.
//!
//! Additions go through; what would lose state stops the start and shows the difference, unless it was allowed by name. What the file declared before and does
//! not declare any more counts as lost. Pure: startup writes the outcome into the WAL and lets the state carry it out.

use super::Config;
use super::definitions::OnBadRecord;
use super::setup::{SourceSetup, TopicsSetup};
use crate::decode::{DebeziumMode, FieldSource, Format, Framing, KeyFormat, Tombstone};
use crate::pipeline::{
    COLUMNS, Histories, Origin, Problem, Projection, Projections, RegisterError, RegisterOptions, RegisterOutcome, Registry, Tree,
};
use crate::row::{EventId, Field, Reading, TimeUnit, Written};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use streamgauge_api::{ApiError, Code, nearest};

/// Why a changed file is refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigChangeRefused {
    /// `config_change_destructive`: its reason tells the losses, its member `diff` is the difference. `invalid_config_value` when only an edit of the file helps.
    pub error: ApiError,
    /// What would be lost, one sentence each.
    pub losses: Vec<String>,
    /// The flags that would allow it.
    pub allow: Vec<String>,
}

impl fmt::Display for ConfigChangeRefused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error[{}]: {}", self.error.code, self.error.reason)?;
        let help = self.error.hint.as_deref().unwrap_or(self.error.code.advice());
        write!(out, "\n  help  {help}   (streamgauge errors {})", self.error.code)
    }
}

impl std::error::Error for ConfigChangeRefused {}

/// What the file changes in the stored definitions; none when they agree. `unfed` are the events of which no row was ever applied; `rebuild` names tables (`T`),
/// features (`T.f`), events (`E`) and fields (`E.f`) whose state may go.
///
/// # Errors
/// A loss that nobody allowed, or definitions that do not go together with those of clients.
pub fn config_change(
    stored: &Registry,
    unfed: &[EventId],
    config: &Config,
    rebuild: &[String],
) -> Result<Option<RegisterOutcome>, Box<ConfigChangeRefused>> {
    let known = (projections(config), config.histories());
    let options = options(config, &known, unfed, rebuild);
    let unknown = || unknown_rebuild(stored, config, rebuild);
    match stored.apply_tree(&config.payload, &options) {
        // A flag that did its work at an earlier start may stay where it stands: nothing changes any more.
        Ok(outcome) if outcome.next.is_none() => Ok(None),
        Ok(outcome) => match unknown() {
            Some(error) => Err(Box::new(ConfigChangeRefused { error, losses: Vec::new(), allow: Vec::new() })),
            None => Ok(Some(outcome)),
        },
        Err(refused) if refused.error.code == Code::ConfigChangeDestructive => {
            let losses = refused.losses.iter().map(|loss| loss.what.clone()).collect();
            Err(Box::new(match unknown() {
                Some(error) => ConfigChangeRefused { error, losses, allow: Vec::new() },
                None => refusal(refused, config, rebuild),
            }))
        }
        Err(refused) => Err(Box::new(refusal(refused, config, rebuild))),
    }
}

/// How the file registers what it declares.
fn options<'o>(
    config: &Config,
    (projections, histories): &'o (Projections, Histories),
    unfed: &'o [EventId],
    rebuild: &'o [String],
) -> RegisterOptions<'o> {
    RegisterOptions {
        origin: Origin::Config,
        lifetime_bound: config.compat.lifetime_bound,
        ignore_velocity_windows: config.compat.ignore_velocity_windows,
        rebuild,
        unfed,
        projections: Some(projections),
        histories,
        ..RegisterOptions::default()
    }
}

/// A name behind `--rebuild` that is neither in force nor declared nor what a refusal tells to type, if there is one.
pub fn unknown_rebuild(stored: &Registry, config: &Config, rebuild: &[String]) -> Option<ApiError> {
    let mut known = BTreeSet::new();
    for registry in [stored, config.registry()] {
        known.extend(registry.derivations.keys().map(ToString::to_string));
        for (name, event) in &registry.events {
            known.insert(name.to_string());
            known.extend(event.schema.fields.iter().map(|field| format!("{name}.{}", field.name)));
        }
        for (name, table) in &registry.tables {
            known.insert(name.to_string());
            known.extend(table.features.iter().map(|feature| format!("{name}.{}", feature.name)));
        }
    }
    if rebuild.iter().any(|name| !known.contains(name)) {
        // What goes is told under the names that the file has: a feature of a renamed table under its new one.
        let known_there = (projections(config), config.histories());
        let told = stored.apply_tree(&config.payload, &options(config, &known_there, &[], &[])).err();
        known.extend(told.into_iter().flat_map(|refused| refused.losses).map(|loss| loss.allowed_as));
    }
    let name = rebuild.iter().find(|name| !known.contains(*name))?;
    let error = ApiError::new(Code::UnknownReference, format!("--rebuild {name} names no table, feature, event or field"));
    Some(match nearest(name, known.iter()) {
        Some(near) => error.hint(format!("did you mean --rebuild {near}? Else leave it out: what it names is gone")),
        None => error.hint(
            "leave it out: what it names is gone; or name a table (T), a feature (T.f), an event (E) or a field (E.f) that is declared or stored",
        ),
    })
}

/// Where sources take the fields of their events from, as the definitions keep it.
fn projections(config: &Config) -> Projections {
    let mut projections = Projections::new();
    for (source, kafka) in config.sources.iter().zip(&config.kafka) {
        debug_assert_eq!(source.name, kafka.name, "the halves of a source stand at the same place");
        let Some(event) = config.registry().event(&source.event) else { continue };
        let topics = match &kafka.topics {
            TopicsSetup::Named(names) => names.clone(),
            TopicsSetup::Matching(pattern) => vec![format!("/{pattern}/")],
        };
        let places = |field: &Field| {
            let from = source.fields.iter().find(|(name, _)| **name == *field.name).map(|(_, from)| from);
            let places = from.map_or_else(|| vec![field.name.to_string()], places_of);
            let reading = source.readings.iter().find(|(name, _)| **name == *field.name).map(|(_, reading)| reading);
            let of_key = from.filter(|from| **from == FieldSource::Key).and_then(|_| meaning_of_key(source.key_format));
            let of_raw = (source.format == Format::Raw && places == ["value"]).then_some("the whole");
            let meaning = [reading.and_then(meaning_of), of_key.or(of_raw).map(str::to_owned)];
            let meaning: Vec<String> = meaning.into_iter().flatten().collect();
            let place = |place: &String| if meaning.is_empty() { place.clone() } else { format!("{place} ({})", meaning.join(", ")) };
            (field.name.clone(), places.iter().map(place).collect())
        };
        let fields = event.schema.fields.iter().map(places).collect();
        let of_event = projections.entry(source.event.as_str().into()).or_default();
        of_event.insert(source.name.as_str().into(), Projection { topics, said: said(source), fields });
    }
    projections
}

/// How records are read beside their fields' places, by keys of the file.
fn said(source: &SourceSetup) -> BTreeMap<Box<str>, String> {
    let mut said = BTreeMap::new();
    let mut say = |key: &str, value: Json| said.insert(key.into(), value.to_string());
    let unframed = source.schema.as_ref();
    say("format", format_word(source.format).into());
    say("tombstone", tombstone_word(source.tombstone).into());
    say("on_bad_record", on_bad_record_word(source.on_bad_record).into());
    if !matches!(source.format, Format::Csv | Format::Raw) {
        say("framing", framing_word(source.framing).into());
    }
    if source.format.is_debezium() {
        say("mode", if source.mode == DebeziumMode::Latest { "latest" } else { "changes" }.into());
    }
    if source.format == Format::Csv {
        let columns: Vec<&str> = source.csv.columns.iter().map(|column| &**column).collect();
        say(COLUMNS, columns.into());
        say("csv.delimiter", char::from(source.csv.delimiter).to_string().into());
    }
    if source.fields.iter().any(|(_, from)| matches!(from, FieldSource::Key | FieldSource::KeyPath(_))) {
        say("key_format", key_format_word(source.key_format).into());
    }
    if let Some(schema) = unframed {
        // The text itself may be long; a person sees that it is another one.
        say("schema", format!("a file of {} bytes, digest {:016x}", schema.text.len(), digest(&schema.text)).into());
    }
    if let Some(message) = &source.message {
        say("message", message.as_str().into());
    }
    for (field, reading) in &source.readings {
        if let Some(written) = reading.written.word() {
            say(&format!("fields.{field}.from"), written.into());
        }
        if reading.null_if_bad {
            say(&format!("fields.{field}.on_bad_field"), "null".into());
        }
    }
    said
}

/// FNV-1a: tells one schema from another where nobody means to be told wrong.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What makes the same bytes of a whole key another value.
fn meaning_of_key(format: KeyFormat) -> Option<&'static str> {
    match format {
        KeyFormat::Raw | KeyFormat::Text => None,
        KeyFormat::Integer => Some("an integer"),
        KeyFormat::Avro | KeyFormat::Json => Some("a value of its own"),
    }
}

/// What makes the same bytes another value; what else a reading says only decides which records are bad.
fn meaning_of(reading: &Reading) -> Option<String> {
    let unit = reading.unit.filter(|unit| *unit != TimeUnit::Millis).map(|unit| format!("unit {}", unit.as_str()));
    let zone = reading.zone.as_ref().map(|zone| match (zone.iana_name(), zone.to_fixed_offset()) {
        (Some(name), _) => format!("zone {name}"),
        (None, Ok(offset)) => format!("zone {offset}"),
        (None, Err(_)) => unreachable!("a zone of a config has a name or an offset"),
    });
    let scale = reading.scale.map(|scale| format!("scale {scale}"));
    let base64 = (reading.written == Written::Base64).then(|| "base64".to_owned());
    let said: Vec<String> = [unit, zone, base64, scale].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}

fn format_word(format: Format) -> &'static str {
    match format {
        Format::Json => "json",
        Format::Avro => "avro",
        Format::Protobuf => "protobuf",
        Format::Msgpack => "msgpack",
        Format::Csv => "csv",
        Format::Raw => "raw",
        Format::Debezium => "debezium",
        Format::DebeziumAvro => "debezium_avro",
    }
}

fn framing_word(framing: Framing) -> &'static str {
    match framing {
        Framing::None => "none",
        Framing::Confluent => "confluent",
        Framing::Apicurio8 => "apicurio8",
    }
}

fn key_format_word(format: KeyFormat) -> &'static str {
    match format {
        KeyFormat::Raw => "raw",
        KeyFormat::Text => "text",
        KeyFormat::Integer => "integer",
        KeyFormat::Avro => "avro",
        KeyFormat::Json => "json",
    }
}

fn on_bad_record_word(on_bad_record: OnBadRecord) -> &'static str {
    match on_bad_record {
        OnBadRecord::Dlq => "dlq",
        OnBadRecord::Skip => "skip",
        OnBadRecord::Stop => "stop",
    }
}

/// What a record without a value means, as the file writes it.
fn tombstone_word(tombstone: Tombstone) -> &'static str {
    match tombstone {
        Tombstone::Ignore => "ignore",
        Tombstone::Reject => "reject",
        Tombstone::DeleteKey => "delete_key",
        Tombstone::Row => "row",
    }
}

/// A field's places as the file writes them.
fn places_of(from: &FieldSource) -> Vec<String> {
    match from {
        FieldSource::Path { path, aliases } => std::iter::once(path).chain(aliases).map(ToString::to_string).collect(),
        outside => vec![outside.to_string()],
    }
}

fn refusal(refused: RegisterError, config: &Config, rebuild: &[String]) -> ConfigChangeRefused {
    let RegisterError { mut error, losses, problems, .. } = refused;
    let mut allow: Vec<String> = rebuild.iter().map(|name| format!("--rebuild {name}")).collect();
    for loss in &losses {
        let flag = format!("--rebuild {}", loss.allowed_as);
        if !allow.contains(&flag) {
            allow.push(flag);
        }
    }
    if error.code == Code::ConfigChangeDestructive {
        let what: Vec<&str> = losses.iter().map(|loss| loss.what.as_str()).collect();
        let kept_by = losses.iter().filter_map(|loss| loss.kept_by.as_ref()).map(|way| format!("{way}; "));
        error.reason = format!("{}: {}", error.reason, what.join("; "));
        error.hint = Some(format!("undo the change; {}or allow it: {}", kept_by.collect::<String>(), allow.join(" ")));
    } else {
        allow.clear();
        told_as_config(&mut error, &problems, config);
    }
    ConfigChangeRefused { error: *error, losses: losses.into_iter().map(|loss| loss.what).collect(), allow }
}

/// What is wrong between the file and what is stored, in words of the file: all of it, at the keys that it is about. Only an edit helps there.
fn told_as_config(error: &mut ApiError, problems: &[Problem], config: &Config) {
    let names: Vec<String> = config.payload.get("nodes").and_then(Tree::items).unwrap_or_default().iter().map(key_of_node).collect();
    let at = |problem: &Problem| {
        let (index, rest) = problem.path.strip_prefix("nodes[")?.split_once(']')?;
        Some(format!("{}{rest}", names.get(index.parse::<usize>().ok()?)?))
    };
    let told = |problem: &Problem| match at(problem) {
        Some(place) => format!("{place}: {}", problem.reason),
        None => problem.reason.clone(),
    };
    error.code = Code::InvalidConfigValue;
    error.path = problems.first().and_then(at).unwrap_or_default();
    error.reason = match problems {
        [one] => one.reason.clone(),
        several => several.iter().map(told).collect::<Vec<_>>().join("; "),
    };
    error.hint = Some("the file does not go together with what is stored: change it at the place that is named".to_owned());
}

/// `tables.T` or `events.E`.
fn key_of_node(node: &Tree) -> String {
    let word = |name: &str| node.get(name).and_then(Tree::as_str).unwrap_or_default();
    format!("{}.{}", if word("kind") == "event" { "events" } else { "tables" }, word("name"))
}

/// A payload as JSON text, members in their order.
pub(super) fn payload_text(tree: &Tree) -> String {
    let list = |parts: Vec<String>, open: char, close: char| format!("{open}{}{close}", parts.join(","));
    match tree {
        Tree::List(items) => list(items.iter().map(payload_text).collect(), '[', ']'),
        Tree::Map(members) => {
            let member = |(name, value): &(String, Tree)| format!("{}:{}", Json::from(name.as_str()), payload_text(value));
            list(members.iter().map(member).collect(), '{', '}')
        }
        scalar => scalar.to_json().to_string(),
    }
}
