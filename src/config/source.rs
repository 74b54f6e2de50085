//! `[sources.x]` read: brokers, topics, logins, formats and where fields come from, checked against events and against each other.
//!
//! Last it makes a decoder of each source and throws it away, because only the decoder knows which types fit which columns.

use super::check::Check;
use super::definitions::OnBadRecord;
use super::document::{Member, Node, Value};
use super::problem::ConfigProblem;
use super::secret::Secret;
use super::setup::{KafkaSetup, RegistryLogin, RegistrySetup, SaslSetup, SourceSetup, StartSetup, TlsSetup, TopicsSetup};
use super::value::{Parsed, one_of};
use crate::decode::{CsvLines, DebeziumMode, Decoder, FieldSource, Format, Framing, KeyFormat, Tombstone};
use crate::pipeline::{KeyColumn, Registry, TableDef};
use crate::row::{FieldIndex, Reading, TimeUnit, Written};
use base64::Engine as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{Code, SchemaId, did_you_mean};

/// Words that stand for a column from outside of the body.
const OUTSIDE: &[&str] = &["key", "topic", "partition", "offset", "timestamp"];

/// Operators whose value is that of single rows, so that a row's next state may replace the one before it.
const REPLACEABLE: &[&str] =
    &["last", "first", "lag", "last_n", "first_n", "most_recent_n", "first_seen", "last_seen", "age", "has_seen", "time_since"];

/// What is said of fields, by their name.
type ByField<T> = Vec<(String, T)>;

/// 2011-01-01: no topic is older.
const KAFKA_BEGAN_MS: i64 = 1_293_840_000_000;

/// 2100-01-01: no start is later.
const FAR_FUTURE_MS: i64 = 4_102_444_800_000;

/// Reads every source. Those with problems are left out.
pub(super) fn read(check: &mut Check<'_>, registry: &Registry) -> (Vec<SourceSetup>, Vec<KafkaSetup>) {
    let sources = check.root.get("sources").and_then(Node::members).unwrap_or_default();
    let (mut engine, mut kafka): (Vec<SourceSetup>, Vec<KafkaSetup>) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| source.node.members().is_some()) {
        let (setup, connection) = Reader { check, source }.read(registry);
        if let Some(connection) = &connection {
            conflicts(check, source, connection, &kafka);
        }
        engine.extend(setup);
        kafka.extend(connection);
    }
    (engine, kafka)
}

/// Two sources that would bring the same records of one event.
fn conflicts(check: &mut Check<'_>, source: &Member, new: &KafkaSetup, others: &[KafkaSetup]) {
    for other in others.iter().filter(|other| other.event == new.event && other.brokers.iter().any(|broker| new.brokers.contains(broker))) {
        let shared = match (&new.topics, &other.topics) {
            (TopicsSetup::Named(names), TopicsSetup::Named(more)) => names.iter().find(|name| more.contains(name)).cloned(),
            (TopicsSetup::Named(names), TopicsSetup::Matching(pattern)) | (TopicsSetup::Matching(pattern), TopicsSetup::Named(names)) => {
                let whole = regex::Regex::new(&format!("^(?:{pattern})$")).ok();
                names.iter().find(|name| whole.as_ref().is_some_and(|whole| whole.is_match(name))).cloned()
            }
            (TopicsSetup::Matching(pattern), TopicsSetup::Matching(same)) => (pattern == same).then(|| pattern.clone()),
        };
        if let Some(topic) = shared {
            let message = format!("sources {} and {} both feed {} from topic {topic}", other.name, new.name, new.event);
            let problem = ConfigProblem::new(Code::SourceConflict, message).at(source.key_span.clone(), format!("{topic} is read twice"));
            check.problems.push(problem.help("remove one of them: its records would count twice"));
        }
    }
}

struct Reader<'r, 'c> {
    check: &'r mut Check<'c>,
    source: &'c Member,
}

impl<'c> Reader<'_, 'c> {
    fn read(&mut self, registry: &Registry) -> (Option<SourceSetup>, Option<KafkaSetup>) {
        let event = self.event();
        let what = format!("source {}", self.source.key);
        let kafka = self.check.required(self.source, "kafka", &what).and_then(|_| self.source.node.member("kafka"));
        let registry_setup = self.source.node.member("registry").and_then(|member| self.registry(member));
        let setup = event.as_ref().and_then(|event| self.setup(event, registry_setup.as_ref()));
        if let (Some(setup), Some(event)) = (&setup, event.as_ref()) {
            self.decodes(setup, event, registry);
            self.deletes(setup, event, registry);
            self.replaces(setup, event, registry);
        }
        let connection = kafka.and_then(|kafka| self.kafka(kafka, event.clone().unwrap_or_default(), registry_setup));
        (setup, connection.filter(|connection| !connection.event.is_empty()))
    }

    fn word(&self, key: &str) -> Option<&'c str> {
        self.source.node.get(key).and_then(Node::text)
    }

    fn wrong(&mut self, message: impl Into<String>, node: &Node, help: Option<String>) {
        self.check.problems.push(ConfigProblem::new(Code::InvalidConfigValue, message).at(node.span.clone(), "").maybe_help(help));
    }

    fn event(&mut self) -> Option<String> {
        let what = format!("source {}", self.source.key);
        let node = self.check.required(self.source, "event", &what)?;
        let name = node.text().filter(|name| !name.is_empty())?;
        let events = self.check.root.get("events").and_then(Node::members).unwrap_or_default();
        if events.iter().any(|event| event.key == name) {
            return Some(name.to_owned());
        }
        let problem = ConfigProblem::new(Code::UnknownReference, format!("{what} feeds `{name}`, which is no event"));
        let help = did_you_mean(name, events.iter().map(|event| &event.key)).unwrap_or_else(|| format!("declare [events.{name}]"));
        self.check.problems.push(problem.at(node.span.clone(), "no such event").help(help));
        None
    }

    fn setup(&mut self, event: &str, registry: Option<&RegistrySetup>) -> Option<SourceSetup> {
        let declared = self.check.root.at(&format!("events.{event}"));
        let format = match self.word("format") {
            Some("avro") => Format::Avro,
            Some("protobuf") => Format::Protobuf,
            Some("msgpack") => Format::Msgpack,
            Some("csv") => Format::Csv,
            Some("raw") => Format::Raw,
            Some("debezium") => Format::Debezium,
            Some("debezium_avro") => Format::DebeziumAvro,
            _ => Format::Json,
        };
        let framing = match (self.word("framing"), format) {
            (Some("confluent"), _) | (None, Format::Avro | Format::DebeziumAvro) => Framing::Confluent,
            (None, Format::Protobuf) if self.source.node.get("schema").is_none() => Framing::Confluent,
            (Some("apicurio8"), _) => Framing::Apicurio8,
            _ => Framing::None,
        };
        let schema = self.schema(format, framing);
        self.framing_fits(format, framing);
        let message =
            self.only_for("message", format == Format::Protobuf && framing == Framing::None, "format = \"protobuf\" with a schema file");
        let csv = self.csv(format);
        let mode = self.only_for("mode", format.is_debezium(), "format = \"debezium\" and \"debezium_avro\"");
        let mode = if mode.and_then(Node::text) == Some("latest") { DebeziumMode::Latest } else { DebeziumMode::Changes };
        self.registry_is_used(format, framing);
        let tombstone = self.word("tombstone").or_else(|| declared?.get("tombstone")?.text());
        let on_bad_record = declared.and_then(|event| event.get("on_bad_record")).and_then(Node::text);
        let (fields, readings) = self.fields(event);
        Some(SourceSetup {
            name: self.source.key.clone(),
            event: event.to_owned(),
            format,
            framing,
            fields,
            readings,
            tombstone: match tombstone {
                Some("ignore") => Tombstone::Ignore,
                Some("delete_key") => Tombstone::DeleteKey,
                Some("row") => Tombstone::Row,
                // The delete before it has told all.
                None if format.is_debezium() => Tombstone::Ignore,
                _ => Tombstone::Reject,
            },
            key_format: match self.word("key_format") {
                Some("text") => KeyFormat::Text,
                Some("integer") => KeyFormat::Integer,
                Some("avro") => KeyFormat::Avro,
                Some("json") => KeyFormat::Json,
                _ => KeyFormat::Raw,
            },
            schema,
            message: message.and_then(Node::text).map(str::to_owned),
            csv,
            mode,
            on_bad_record: match on_bad_record {
                Some("skip") => OnBadRecord::Skip,
                Some("stop") => OnBadRecord::Stop,
                _ => OnBadRecord::Dlq,
            },
            registry_urls: registry.map(|registry| registry.urls.clone()).unwrap_or_default(),
        })
    }

    fn schema(&mut self, format: Format, framing: Framing) -> Option<FetchedSchema> {
        let needed = format.has_schema() && framing == Framing::None;
        let node = self.source.node.get("schema");
        match (node, needed) {
            (None, false) => None,
            (None, true) => {
                let what = format!("source {} reads {} without framing and", self.source.key, noun(format));
                self.check.required(self.source, "schema", &what);
                None
            }
            (Some(node), false) => {
                self.wrong(
                    "`schema` has no effect here",
                    node,
                    Some("it is for format = \"avro\" and \"protobuf\" with framing = \"none\"".to_owned()),
                );
                None
            }
            (Some(node), true) => {
                let name = node.text().filter(|name| !name.is_empty())?;
                let file = self.check.folder.join(name);
                // A descriptor set is bytes, which stand in base64 as a registry has them.
                let is_set = format == Format::Protobuf && file.extension().is_none_or(|extension| extension != "proto");
                let read = match is_set {
                    true => super::check::read_bytes(&file).map(|set| base64::engine::general_purpose::STANDARD.encode(set)),
                    false => super::check::read_file(&file),
                };
                let references = match &read {
                    Ok(text) if format == Format::Protobuf && !is_set => super::imports::read(text, &file, self.check.folder),
                    _ => Ok(Vec::new()),
                };
                let read = read.map_err(|error| error.to_string());
                match read.and_then(|text| Ok((text, references?))) {
                    Ok((text, references)) => Some(FetchedSchema {
                        registry: String::new(),
                        id: SchemaId::Number(0),
                        kind: if format == Format::Protobuf { "PROTOBUF" } else { "AVRO" }.to_owned(),
                        text,
                        references,
                    }),
                    Err(error) => {
                        self.wrong(format!("the schema {name} cannot be read: {error}"), node, None);
                        None
                    }
                }
            }
        }
    }

    /// CSV and raw bytes have no frame that could be told from them.
    fn framing_fits(&mut self, format: Format, framing: Framing) {
        if matches!(format, Format::Csv | Format::Raw)
            && framing != Framing::None
            && let Some(node) = self.source.node.get("framing")
        {
            self.wrong(format!("format = {:?} has no framing", self.word("format").unwrap_or_default()), node, None);
        }
    }

    /// A key that means something beside some formats only.
    fn only_for(&mut self, key: &str, fits: bool, what: &str) -> Option<&'c Node> {
        let node = self.source.node.get(key)?;
        if !fits {
            self.wrong(format!("`{key}` has no effect here"), node, Some(format!("it is for {what}")));
        }
        fits.then_some(node)
    }

    fn csv(&mut self, format: Format) -> CsvLines {
        let mut lines = CsvLines::default();
        let Some(csv) = self.only_for("csv", format == Format::Csv, "format = \"csv\"") else { return lines };
        if let Some(node) = csv.get("columns") {
            let mut columns = self.check.texts("columns", node).unwrap_or_default();
            // A head line that was copied out of a file may begin with a byte order mark.
            columns.iter_mut().for_each(|column| *column = column.trim_start_matches('\u{FEFF}').to_owned());
            if let Some(twice) = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name)) {
                self.wrong(format!("`columns`: {} stands twice", twice.1), node, None);
            }
            lines.columns = columns.into_iter().map(Into::into).collect();
        }
        if let Some(node) = csv.get("delimiter") {
            match node.text().map(str::as_bytes) {
                Some([one]) if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => lines.delimiter = *one,
                _ => self.wrong("`delimiter`: one ASCII character that is no quote is wanted", node, None),
            }
        }
        lines
    }

    fn registry_is_used(&mut self, format: Format, framing: Framing) {
        let of_keys = self.word("key_format") == Some("avro");
        let needed = format.has_schema() && framing != Framing::None || of_keys;
        match self.source.node.member("registry") {
            None if needed => {
                let read = if format.has_schema() { noun(format) } else { "Avro keys" };
                let what = format!("source {} reads {read} by schema id and", self.source.key);
                self.check.required(self.source, "registry", &what);
            }
            Some(member) if !needed => {
                let problem = ConfigProblem::new(Code::InvalidConfigValue, "`registry` has no effect here");
                let problem = problem
                    .at(member.key_span.clone(), "")
                    .help("it is for format = \"avro\" and \"protobuf\" with a framing that has schema ids, and for key_format = \"avro\"");
                self.check.problems.push(problem);
            }
            _ => {}
        }
    }

    /// Where fields come from, and how they are read where more is said.
    fn fields(&mut self, event: &str) -> (ByField<FieldSource>, ByField<Reading>) {
        let (mut fields, mut readings) = (Vec::new(), Vec::new());
        let Some(node) = self.source.node.get("fields") else { return (fields, readings) };
        let Some(members) = node.members() else {
            self.wrong(format!("`fields`: a table is wanted, found {}", node.kind()), node, None);
            return (fields, readings);
        };
        let declared = self.check.root.at(&format!("events.{event}.fields")).and_then(Node::members).unwrap_or_default();
        for member in members {
            if !declared.iter().any(|field| field.key == member.key) {
                let problem = ConfigProblem::new(Code::UnknownReference, format!("event {event} has no field `{}`", member.key));
                let help = did_you_mean(&member.key, declared.iter().map(|field| &field.key));
                self.check.problems.push(problem.at(member.key_span.clone(), "no such field").maybe_help(help));
            }
            let place = match member.node.members() {
                None => Some(&member.node),
                Some(said) => {
                    let reading = self.reading(said);
                    self.one_unit(event, &member.key, reading.as_ref(), &member.node);
                    readings.extend(reading.map(|reading| (member.key.clone(), reading)));
                    member.node.get("path")
                }
            };
            // Without a path it is the member of the field's own name.
            let Some(place) = place else { continue };
            fields.extend(self.place(&member.key, place).map(|from| (member.key.clone(), from)));
        }
        (fields, readings)
    }

    /// The event may say the unit of its time field too; two units of one number cannot both be meant.
    fn one_unit(&mut self, event: &str, field: &str, reading: Option<&Reading>, node: &Node) {
        let Some(here) = reading.and_then(|reading| reading.unit) else { return };
        let time = self.check.root.at(&format!("events.{event}.time"));
        let Some(time) = time.filter(|time| time.get("field").and_then(Node::text) == Some(field)) else { return };
        let Some(there) = time.get("unit").and_then(Node::text).and_then(TimeUnit::parse).filter(|there| *there != here) else { return };
        let message = format!("`{field}`: unit = {:?} here, and events.{event}.time says {:?}", here.as_str(), there.as_str());
        let help = "leave one of them out: the event's unit holds for all its sources, a source's for its own records";
        self.wrong(message, node.get("unit").unwrap_or(node), Some(help.to_owned()));
    }

    fn place(&mut self, field: &str, node: &Node) -> Option<FieldSource> {
        let outside = |text: &str| text.starts_with("key:") || text.starts_with("header:");
        let from = match &node.value {
            Value::List(items) if items.iter().filter_map(Node::text).any(outside) => {
                let message = format!("`{field}`: a list holds paths of the record's value only");
                self.wrong(message, node, Some("key:PATH and header:NAME stand alone".to_owned()));
                return None;
            }
            Value::Text(text) => field_source(text),
            Value::List(_) => self.check.texts(field, node).and_then(paths),
            _ => None,
        };
        if from.is_none() {
            let message = format!(
                "`{field}`: a record path, a list of paths, header:NAME, key:PATH, {} or {{ path = .. }} is wanted",
                OUTSIDE.join(", ")
            );
            self.wrong(message, node, None);
        }
        from
    }

    /// What is said of a field's values beside their place.
    fn reading(&mut self, said: &[Member]) -> Option<Reading> {
        let mut reading = Reading::default();
        let mut any = false;
        for Member { key, key_span, node } in said {
            let word = node.text();
            any |= key != "path";
            match (key.as_str(), &node.value) {
                ("path", _) => {}
                ("from", _) if word.and_then(Written::parse).is_some() => {
                    reading.written = word.and_then(Written::parse).unwrap_or_default()
                }
                ("from", _) => self.wrong(format!("`from`: {}", one_of(&Written::NAMES)), node, None),
                ("unit", _) if word.and_then(TimeUnit::parse).is_some() => reading.unit = word.and_then(TimeUnit::parse),
                ("unit", _) => {
                    let help = word.and_then(crate::pipeline::unit_meant).map(|unit| format!("write {unit:?}"));
                    self.wrong(format!("`unit`: {}", one_of(&TimeUnit::NAMES)), node, help);
                }
                ("zone", _) => match word.and_then(zone) {
                    Some(zone) => reading.zone = Some(zone),
                    None => self.wrong("`zone`: a name such as \"Europe/Berlin\" or an offset such as \"+01:00\" is wanted", node, None),
                },
                ("scale", Value::Integer(scale @ -1_000..=1_000)) => reading.scale = i32::try_from(*scale).ok(),
                ("scale", _) => self.wrong("`scale`: the number of digits behind the point, -1000 to 1000, is wanted", node, None),
                ("on_bad_field" | "on_bad", _) if matches!(word, Some("null" | "reject")) => reading.null_if_bad = word == Some("null"),
                ("on_bad_field" | "on_bad", _) => self.wrong(format!("`{key}`: reject or null is wanted"), node, None),
                (other, _) => {
                    let problem = ConfigProblem::new(Code::UnknownConfigKey, format!("unknown key `{other}`"));
                    let help = did_you_mean(other, ["path", "from", "unit", "zone", "scale", "on_bad_field"].iter());
                    self.check.problems.push(problem.at(key_span.clone(), "not part of a field's source").maybe_help(help));
                }
            }
        }
        any.then_some(reading)
    }

    /// Whether a decoder can be made; it knows which types fit which columns.
    fn decodes(&mut self, setup: &SourceSetup, event: &str, registry: &Registry) {
        let Some(event) = registry.event(event) else { return };
        if setup.format.has_schema() && setup.framing == Framing::None && setup.schema.is_none() {
            return;
        }
        let fields = self.source.node.get("fields");
        let error = match Decoder::new(event.schema.clone(), &setup.format()) {
            Ok(decoder) => return self.leads_nowhere(setup, &decoder),
            Err(error) => error,
        };
        let node = fields.and_then(|fields| fields.get(&error.path)).or_else(|| fields.filter(|_| error.code == Code::InvalidConfigValue));
        let problem = ConfigProblem::new(error.code, format!("source {}: {}", setup.name, error.reason)).maybe_help(error.hint);
        self.check.problems.push(match (node, self.source.node.get("schema")) {
            (Some(node), _) | (None, Some(node)) => problem.at(node.span.clone(), ""),
            (None, None) => problem.at(self.source.key_span.clone(), ""),
        });
    }

    /// Paths that the one schema of a source does not have: no record ever gives them a value.
    fn leads_nowhere(&mut self, setup: &SourceSetup, decoder: &Decoder) {
        let fields = self.source.node.get("fields");
        for (field, paths) in decoder.led_nowhere() {
            // A field that is taken by its own name may be of another writer; a path was written for this one.
            let Some(node) = fields.and_then(|fields| fields.get(&field)) else { continue };
            let message = format!("source {}: the schema has no {paths}, so that {field} is null in every record", setup.name);
            self.wrong(message, node, Some("name a field of the schema, or take the field out".to_owned()));
        }
    }

    /// Whether a tombstone can delete anything: it has a key, a topic and headers, and no body.
    fn deletes(&mut self, setup: &SourceSetup, event: &str, registry: &Registry) {
        if setup.tombstone != Tombstone::DeleteKey {
            return;
        }
        let Some(declared) = registry.event(event) else { return };
        let from_outside = |field: &str| setup.fields.iter().any(|(name, from)| name == field && !matches!(from, FieldSource::Path { .. }));
        let from_key = setup.fields.iter().any(|(_, from)| matches!(from, FieldSource::Key | FieldSource::KeyPath(_)));
        let tables: Vec<_> = registry.tables.values().filter(|table| *table.event_name == *event).collect();
        // A column that the chain computes is there when all that it reads is.
        let field = |index: FieldIndex| declared.schema.fields.get(usize::from(index.0)).map_or("", |field| &*field.name);
        let is_outside = |table: &TableDef, key: &KeyColumn| table.chain.fields_of(key.column).into_iter().map(field).all(from_outside);
        let of_body = |table: &TableDef| -> Vec<String> {
            table.keys.iter().filter(|key| !is_outside(table, key)).map(|key| key.name.to_string()).collect()
        };
        let deletable = tables.iter().any(|table| !table.keys.is_empty() && of_body(table).is_empty());
        let (what, help) = if !from_key {
            let field = tables.iter().flat_map(|table| &table.keys).next().map_or("FIELD", |key| &*key.name);
            ("no field comes from the record's key".to_owned(), format!("add fields = {{ {field} = \"key\" }} to the source"))
        } else if !tables.is_empty() && !deletable {
            let names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
            let what = format!("every table of {event} ({}) has a key column that comes from the body, or no key", names.join(", "));
            (what, "take the key's columns from \"key\" or header:NAME".to_owned())
        } else {
            for table in tables {
                let what = match &of_body(table)[..] {
                    [] if table.keys.is_empty() => "it has no key, so its one row stays".to_owned(),
                    [] => continue,
                    columns => format!("its key column {} comes from the body, which a record without a value has not", columns.join(", ")),
                };
                let message = format!("source {}: tombstone = \"delete_key\" forgets nothing in table {}: {what}", setup.name, table.name);
                let help =
                    "take the key's columns from \"key\" or header:NAME; the funnel's `undeleted` counts tombstones that forgot nothing";
                self.check.warnings.push(self.tombstone_problem(event, message).help(help));
            }
            return;
        };
        let message =
            format!("source {}: tombstone = \"delete_key\" deletes nothing: a record without a value has no body, and {what}", setup.name);
        let problem = self.tombstone_problem(event, message).help(help);
        self.check.problems.push(problem);
    }

    /// The latest state of a row replaces the one before it, which what adds up cannot take back.
    fn replaces(&mut self, setup: &SourceSetup, event: &str, registry: &Registry) {
        if !setup.format.is_debezium() || setup.mode != DebeziumMode::Latest {
            return;
        }
        let node = self.source.node.get("mode").map_or_else(|| self.source.key_span.clone(), |node| node.span.clone());
        for table in registry.tables.values().filter(|table| *table.event_name == *event) {
            let op = |feature: &crate::pipeline::FeatureDef| feature.node["op"].as_str().unwrap_or_default().to_owned();
            let Some(feature) = table.features.iter().find(|feature| !REPLACEABLE.contains(&op(feature).as_str())) else { continue };
            let message = format!(
                "source {}: mode = \"latest\" replaces a row by its next state, which {} of feature {}.{} cannot take back",
                setup.name,
                op(feature),
                table.name,
                feature.name
            );
            let help = format!("mode = \"changes\" counts each change; of the latest state there are {}", REPLACEABLE.join(", "));
            self.check.problems.push(ConfigProblem::new(Code::InvalidConfigValue, message).at(node.clone(), "").help(help));
        }
    }

    /// About the `tombstone` of the source, or of its event.
    fn tombstone_problem(&self, event: &str, message: String) -> ConfigProblem {
        let node = self.source.node.get("tombstone").or_else(|| self.check.root.at(&format!("events.{event}.tombstone")));
        let span = node.map_or_else(|| self.source.key_span.clone(), |node| node.span.clone());
        ConfigProblem::new(Code::InvalidConfigValue, message).at(span, "")
    }

    fn kafka(&mut self, kafka: &'c Member, event: String, registry: Option<RegistrySetup>) -> Option<KafkaSetup> {
        kafka.node.members()?;
        let what = format!("source {}", self.source.key);
        let brokers = self.check.required(kafka, "brokers", &what).and_then(|node| self.list("brokers", node));
        let topics = self.topics(kafka);
        let start = kafka.node.get("start").map_or(Some(StartSetup::Earliest), |node| self.start(node));
        let tls = kafka.node.member("tls").map(|tls| self.tls(tls));
        let sasl = kafka.node.member("sasl").map(|sasl| self.sasl(sasl));
        let client = self.client(kafka);
        let group_id = kafka.node.get("group_id").and_then(|node| self.check.place("group_id", node));
        Some(KafkaSetup {
            name: self.source.key.clone(),
            event,
            brokers: brokers?,
            topics: topics?,
            start: start?,
            tls,
            sasl: match sasl {
                Some(None) => return None,
                Some(sasl) => sasl,
                None => None,
            },
            client,
            group_id,
            topic_ids: !matches!(kafka.node.get("topic_ids").map(|node| &node.value), Some(Value::Flag(false))),
            registry,
        })
    }

    /// A list with at least one entry; the walk has looked at the entries.
    fn list(&mut self, key: &str, node: &Node) -> Option<Vec<String>> {
        let places = self.check.places(key, node)?;
        if places.is_empty() {
            self.wrong(format!("`{key}` is empty"), node, None);
        }
        (!places.is_empty()).then_some(places)
    }

    fn topics(&mut self, kafka: &'c Member) -> Option<TopicsSetup> {
        let given: Vec<&Member> = ["topic", "topics", "topic_regex"].iter().filter_map(|key| kafka.node.member(key)).collect();
        let [one] = given.as_slice() else {
            match given.get(1) {
                None => {
                    let what = format!("source {}", self.source.key);
                    self.check.required(kafka, "topic", &what);
                }
                Some(second) => {
                    let problem =
                        ConfigProblem::new(Code::InvalidConfigValue, format!("`{}` stands beside `{}`", second.key, given[0].key));
                    self.check.problems.push(problem.at(second.key_span.clone(), "").help("give one of topic, topics, topic_regex"));
                }
            }
            return None;
        };
        match one.key.as_str() {
            "topics" => self.list("topics", &one.node).map(TopicsSetup::Named),
            "topic" => Some(TopicsSetup::Named(vec![self.check.place("topic", &one.node)?])),
            _ => {
                let pattern = self.check.place("topic_regex", &one.node)?;
                if let Err(error) = regex::Regex::new(&pattern) {
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                    self.wrong(format!("`topic_regex` is no regular expression: {why}"), &one.node, None);
                    return None;
                }
                Some(TopicsSetup::Matching(pattern))
            }
        }
    }

    fn start(&mut self, node: &Node) -> Option<StartSetup> {
        let wanted = "earliest, latest, or a time with an offset such as 2026-01-31T00:00:00Z";
        let (text, ms) = match &node.value {
            Value::Text(text) if text == "earliest" => return Some(StartSetup::Earliest),
            Value::Text(text) if text == "latest" => return Some(StartSetup::Latest),
            Value::Text(text) | Value::Time(text) => {
                (text.as_str(), text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond))
            }
            Value::Integer(ms @ 0..) => return self.start_ms(*ms, node),
            _ => ("", None),
        };
        if ms.is_none() {
            let help = did_you_mean(text, ["earliest", "latest"].iter()).unwrap_or_else(|| format!("write {wanted}"));
            self.wrong(format!("`start`: {wanted} is wanted"), node, Some(help));
        }
        ms.map(|ms| StartSetup::Timestamp { ms })
    }

    /// Milliseconds since 1970, when they can be meant so: a topic's first record is hardly of a time before Kafka.
    fn start_ms(&mut self, ms: i64, node: &Node) -> Option<StartSetup> {
        let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string());
        let meant = match ms {
            // 0 is a way to say "from the first record".
            0 | KAFKA_BEGAN_MS..=FAR_FUTURE_MS => return Some(StartSetup::Timestamp { ms }),
            ..KAFKA_BEGAN_MS => ms.checked_mul(1_000).map(|ms| ("seconds", ms)),
            _ if ms / 1_000 <= FAR_FUTURE_MS => Some(("microseconds", ms / 1_000)),
            _ => Some(("nanoseconds", ms / 1_000_000)),
        };
        let meant = meant.filter(|(_, ms)| (KAFKA_BEGAN_MS..=FAR_FUTURE_MS).contains(ms));
        let looks = meant.map_or_else(String::new, |(unit, _)| format!("; it looks like {unit}"));
        let help = match meant {
            Some((_, ms)) => format!("write {:?} or {ms}", time(ms)),
            None => "write a time such as 2026-01-31T00:00:00Z".to_owned(),
        };
        self.wrong(format!("`start`: {ms} milliseconds is {}{looks}", time(ms)), node, Some(help));
        None
    }

    fn tls(&mut self, tls: &'c Member) -> TlsSetup {
        let path = |key: &str| tls.node.get(key).and_then(Node::text).map(PathBuf::from);
        let setup =
            TlsSetup { ca: path("ca"), cert: path("cert"), key: tls.node.get("key").and_then(|node| self.check.secret("key", node)) };
        let (cert, key) = (tls.node.get("cert").is_some(), tls.node.get("key").is_some());
        if cert != key && tls.node.members().is_some() {
            let (has, lacks) = if cert { ("cert", "key") } else { ("key", "cert") };
            let what = format!("tls has a `{has}` and");
            self.check.required(tls, lacks, &what);
        }
        setup
    }

    fn sasl(&mut self, sasl: &'c Member) -> Option<SaslSetup> {
        sasl.node.members()?;
        let mechanism = self.check.required(sasl, "mechanism", "sasl");
        let user = self.check.required(sasl, "user", "sasl");
        let password = self.check.required(sasl, "password", "sasl").and_then(|node| self.check.secret("password", node));
        let user = user.and_then(|node| self.check.place("user", node));
        Some(SaslSetup { mechanism: mechanism?.text()?.to_owned(), user: user?, password: password? })
    }

    fn client(&mut self, kafka: &'c Member) -> BTreeMap<String, Secret> {
        let mut settings = BTreeMap::new();
        let Some(client) = kafka.node.get("client") else { return settings };
        let Some(members) = client.members() else {
            self.wrong(format!("`client`: a table of librdkafka settings is wanted, found {}", client.kind()), client, None);
            return settings;
        };
        let rules = self.check.outside.client;
        let mut keys = BTreeMap::new();
        for member in members {
            keys.insert(member.key.clone(), String::new());
            let secret = (rules.is_secret)(&member.key);
            let value = match &member.node.value {
                Value::Table(_) if !secret && !member.key.contains('.') => {
                    self.wrong(format!("`{}` is a table; dotted names stand in quotes", member.key), &member.node, None);
                    continue;
                }
                _ if secret => {
                    self.check.secret_form(&member.key, &member.node);
                    self.check.secret(&member.key, &member.node)
                }
                Value::Text(text) => Some(Secret::new(text.as_str())),
                Value::Integer(number) => Some(Secret::new(number.to_string())),
                Value::Float(number) => Some(Secret::new(number.to_string())),
                Value::Flag(flag) => Some(Secret::new(flag.to_string())),
                _ => {
                    let found = member.node.kind();
                    self.wrong(format!("`{}`: a string, a number, true or false is wanted, found {found}", member.key), &member.node, None);
                    None
                }
            };
            settings.extend(value.map(|value| (member.key.clone(), value)));
        }
        for problem in (rules.check)(&keys) {
            let code = if problem.known { Code::FixedClientSetting } else { Code::UnknownConfigKey };
            let span = client.member(&problem.key).map_or_else(|| client.span.clone(), |member| member.key_span.clone());
            let help = problem.nearest.map(|name| format!("did you mean `{name}`?"));
            self.check.problems.push(ConfigProblem::new(code, problem.reason).at(span, "").maybe_help(help));
        }
        settings
    }

    fn registry(&mut self, registry: &'c Member) -> Option<RegistrySetup> {
        registry.node.members()?;
        let what = format!("registry of source {}", self.source.key);
        let urls = self.check.required(registry, "url", &what).and_then(|node| self.list("url", node));
        if let Some(node) = registry.node.get("url") {
            let items = node.items().unwrap_or(std::slice::from_ref(node));
            let written: Vec<(&Node, &str)> = items.iter().filter_map(|item| Some((item, item.text()?))).collect();
            // What stands in the environment is judged like what stands here, unless it is not asked for.
            let all = urls.iter().flatten().filter(|_| !self.check.offline).map(String::as_str);
            let elsewhere = all.filter(|url| !written.iter().any(|(_, here)| here == url)).map(|url| (node, url));
            for (item, url) in written.iter().copied().chain(elsewhere.collect::<Vec<_>>()) {
                let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
                match host {
                    Some(host) if host.split('/').next().is_some_and(|host| host.contains('@')) => {
                        let problem = ConfigProblem::new(Code::SecretInConfig, "a registry's address holds credentials");
                        self.check
                            .problems
                            .push(problem.at(item.span.clone(), "").help("write auth = { user = \"..\", password = { env = \"..\" } }"));
                    }
                    Some(host) if !host.is_empty() => {}
                    _ if url.is_empty() => {}
                    _ => self.wrong(format!("`url`: {url:?} is no http:// or https:// address"), item, None),
                }
            }
        }
        let auth = registry.node.member("auth").map(|auth| self.login(auth));
        let tls = registry.node.member("tls").map(|tls| self.tls(tls)).unwrap_or_default();
        let key = super::key::of("sources.*.registry.schema_missing_grace");
        let grace = registry.node.get("schema_missing_grace").and_then(Node::text).or_else(|| key?.default);
        let grace = grace.and_then(|text| match key?.form.parse(text) {
            Ok(Parsed::Duration(grace)) => Some(grace),
            _ => None,
        });
        Some(RegistrySetup {
            urls: urls?,
            auth: match auth {
                Some(None) => return None,
                Some(auth) => auth,
                None => None,
            },
            tls,
            schema_missing_grace: grace?,
        })
    }

    fn login(&mut self, auth: &'c Member) -> Option<RegistryLogin> {
        auth.node.members()?;
        let (user, password, bearer) = (auth.node.get("user"), auth.node.get("password"), auth.node.get("bearer"));
        match (user, password, bearer) {
            (None, None, Some(bearer)) => self.check.secret("bearer", bearer).map(RegistryLogin::Bearer),
            (_, _, Some(bearer)) => {
                self.wrong("`bearer` stands beside user and password", bearer, Some(one_of(&["bearer", "user and password"])));
                None
            }
            _ => {
                let user = self.check.required(auth, "user", "auth");
                let password = self.check.required(auth, "password", "auth").and_then(|node| self.check.secret("password", node));
                let user = user.and_then(|node| self.check.place("user", node));
                Some(RegistryLogin::Basic { user: user?, password: password? })
            }
        }
    }
}

/// What a text of `fields` stands for. `body:NAME` is a member of the body whose name is one of the words.
fn field_source(text: &str) -> Option<FieldSource> {
    if text.is_empty() {
        return None;
    }
    Some(match text {
        "key" => FieldSource::Key,
        "topic" => FieldSource::Topic,
        "partition" => FieldSource::Partition,
        "offset" => FieldSource::Offset,
        "timestamp" => FieldSource::Timestamp,
        _ if text.starts_with("key:") => FieldSource::KeyPath(text.strip_prefix("key:").filter(|path| !path.is_empty())?.into()),
        _ => match (text.strip_prefix("header:"), text.strip_prefix("body:")) {
            (Some(""), _) | (_, Some("")) => return None,
            (Some(name), _) => FieldSource::Header(name.into()),
            (None, Some(path)) => FieldSource::path(path),
            (None, None) => FieldSource::path(text),
        },
    })
}

/// What a format with schemas is called.
fn noun(format: Format) -> &'static str {
    if format == Format::Protobuf { "Protobuf" } else { "Avro" }
}

/// A time zone by its name, or an offset.
fn zone(text: &str) -> Option<jiff::tz::TimeZone> {
    if text.starts_with(['+', '-']) {
        let pieces = format!("2000-01-01T00:00:00{text}");
        let offset = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(&pieces).ok()?.to_numeric_offset()?;
        return Some(jiff::tz::TimeZone::fixed(offset));
    }
    jiff::tz::TimeZone::get(text).ok()
}

fn paths(texts: Vec<String>) -> Option<FieldSource> {
    let (path, aliases) = texts.split_first()?;
    Some(FieldSource::Path { path: path.as_str().into(), aliases: aliases.iter().map(|alias| alias.as_str().into()).collect() })
}
