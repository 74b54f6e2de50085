//! `[sources.x]`: one running input that feeds an event. Plain data, secrets resolved; startup makes connectors and decoders of it.

use super::document::{Entry, Item, Section, Value};
use super::reader::Reader;
use super::report::Problem;
use super::secret::{self, Secret};
use super::{EventConfig, Surroundings};
use crate::decode::{FieldSource, Format, Framing, KeyFormat, SourceFormat};
use crate::row::EventSchema;
use regex::Regex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamgauge_api::Code;
use streamgauge_api::inlet::FetchedSchema;

/// One source.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Name of the section.
    pub name: String,
    /// Event that it feeds.
    pub event: String,
    /// Format of record bodies.
    pub format: Format,
    /// What stands in front of bodies.
    pub framing: Framing,
    /// Format of record keys.
    pub key_format: KeyFormat,
    /// Where fields come from that do not come from the body's member of their own name.
    pub fields: Vec<(String, FieldSource)>,
    /// Text of the writer schema of Avro bodies without framing.
    pub schema: Option<String>,
    /// Brokers and topics.
    pub kafka: KafkaConfig,
    /// Schema registry.
    pub registry: Option<RegistryConfig>,
}

impl SourceConfig {
    /// How the source's records become rows of this declaration of its event.
    pub fn source_format(&self, schema: &EventSchema, event: &EventConfig) -> SourceFormat {
        SourceFormat {
            format: self.format,
            framing: self.framing,
            fields: self.fields.iter().filter_map(|(name, from)| Some((schema.field(name)?, from.clone()))).collect(),
            tombstone: event.tombstone,
            key_format: self.key_format,
            schema: self.schema.as_ref().map(|text| FetchedSchema {
                registry: String::new(),
                id: 0,
                kind: "AVRO".to_owned(),
                text: text.clone(),
                references: Vec::new(),
            }),
        }
    }
}

/// Which topics are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicsConfig {
    /// These.
    Named(Vec<String>),
    /// All whose whole name matches this regular expression, also later ones.
    Matching(String),
}

/// Where a partition begins that has no stored position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartConfig {
    /// At the log's start.
    Earliest,
    /// Behind what is there.
    Latest,
    /// At the first record at or after this time, milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// TLS; present means on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// CA bundle; none = the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain.
    pub cert: Option<PathBuf>,
    /// Client key, PEM text.
    pub key: Option<Secret>,
}

/// SASL login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslConfig {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// `[sources.x.kafka]`.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Bootstrap addresses.
    pub brokers: Vec<String>,
    /// Topics.
    pub topics: TopicsConfig,
    /// Start policy.
    pub start: StartConfig,
    /// Login.
    pub sasl: Option<SaslConfig>,
    /// Encryption.
    pub tls: Option<TlsConfig>,
    /// Further client settings by librdkafka's names.
    pub client: BTreeMap<String, String>,
    /// Those whose values are secrets; they are in `client` as well only after startup reveals them.
    pub client_secrets: BTreeMap<String, Secret>,
    /// Consumer group for lag tools; none = `streamgauge-<instance>`.
    pub group_id: Option<String>,
    /// Whether brokers give topics ids; real ones do since Kafka 2.8.
    pub topic_ids: bool,
}

/// Credentials of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryAuthConfig {
    /// HTTP basic.
    Basic {
        /// User.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

/// `[sources.x.registry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Base URLs, tried in order.
    pub urls: Vec<String>,
    /// Credentials.
    pub auth: Option<RegistryAuthConfig>,
    /// TLS.
    pub tls: TlsConfig,
    /// How long an id that the registry does not know is asked for again.
    pub schema_missing_grace: Duration,
}

const SOURCE_KEYS: &[&str] = &["event", "format", "framing", "schema", "fields", "key_format", "kafka", "registry"];
const SOURCE_LATER: &[&str] = &["generator", "file", "http", "rate", "sample", "enabled"];
const KAFKA_KEYS: &[&str] = &["brokers", "topic", "topics", "topic_regex", "start", "sasl", "tls", "client", "group_id", "topic_ids"];
const TLS_KEYS: &[&str] = &["ca", "cert", "key"];
const REGISTRY_KEYS: &[&str] = &["url", "auth", "ca", "cert", "key", "schema_missing_grace"];
const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Client settings whose values are secrets.
const SECRET_SETTINGS: &[&str] = &[
    "sasl.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

/// How long a registry is asked for an id that it does not know, unless the file says otherwise: registries replicate late.
const SCHEMA_MISSING_GRACE: Duration = Duration::from_secs(60);

/// Reads all sources.
pub(super) fn read_all(
    section: &Section,
    events: &BTreeMap<String, EventConfig>,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<SourceConfig> {
    let mut sources: Vec<SourceConfig> = Vec::new();
    for entry in &section.entries {
        let Some(source) = read(entry, events, surroundings, problems) else { continue };
        if let Some(other) = sources.iter().find(|other| conflicts(other, &source)) {
            let message = format!("sources {} and {} feed event {} from one topic", other.name, source.name, source.event);
            problems.push(Problem::at(Code::SourceConflict, entry.key_span.clone(), message, "would count each record twice"));
        }
        sources.push(source);
    }
    sources
}

/// Whether two sources surely feed one event from one topic of one cluster.
fn conflicts(one: &SourceConfig, other: &SourceConfig) -> bool {
    let common = |left: &[String], right: &[String]| left.iter().any(|name| right.contains(name));
    one.event == other.event
        && common(&one.kafka.brokers, &other.kafka.brokers)
        && match (&one.kafka.topics, &other.kafka.topics) {
            (TopicsConfig::Named(left), TopicsConfig::Named(right)) => common(left, right),
            (TopicsConfig::Matching(pattern), TopicsConfig::Named(names))
            | (TopicsConfig::Named(names), TopicsConfig::Matching(pattern)) => {
                Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|pattern| names.iter().any(|name| pattern.is_match(name)))
            }
            (TopicsConfig::Matching(left), TopicsConfig::Matching(right)) => left == right,
        }
}

fn read(
    entry: &Entry,
    events: &BTreeMap<String, EventConfig>,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<SourceConfig> {
    let Some(section) = entry.item.as_section() else {
        let message = format!("sources.{} is a table, found {}", entry.key, entry.item.kind());
        problems.push(Problem::at(Code::InvalidConfigValue, entry.item.span.clone(), message, "a table is wanted"));
        return None;
    };
    let place = format!("[sources.{}]", entry.key);
    let reader = Reader::new(place, entry.key_span.clone(), section, SOURCE_KEYS, SOURCE_LATER, problems);
    let event = reader.required("event", problems).and_then(|_| reader.text("event", problems));
    if let (Some(event), Some(item)) = (event, reader.get("event"))
        && !events.contains_key(event)
    {
        problems.push(unknown_event(event, item, events));
    }
    let format = reader.choice("format", &[("json", Format::Json), ("avro", Format::Avro)], Format::Json, problems);
    let default = if format == Format::Avro { Framing::Confluent } else { Framing::None };
    let framings = [("none", Framing::None), ("confluent", Framing::Confluent), ("apicurio8", Framing::Apicurio8)];
    let framing = reader.choice("framing", &framings, default, problems);
    let key_format = reader.choice("key_format", &[("raw", KeyFormat::Raw), ("integer", KeyFormat::Integer)], KeyFormat::Raw, problems);
    let fields = fields(&reader, event.and_then(|event| events.get(event)), problems);
    let schema = schema_file(&reader, format, framing, surroundings, problems);
    let registry = match reader.section("registry", REGISTRY_KEYS, &[], problems) {
        Some(section) => registry(&section, surroundings, problems),
        None => {
            if format == Format::Avro && framing != Framing::None && reader.get("registry").is_none() {
                let message = format!("{} reads Avro with schema ids, so it needs a registry", reader.place);
                let help = format!("add [sources.{}.registry] with url, or framing = \"none\" and schema = \"file.avsc\"", entry.key);
                problems.push(Problem::at(Code::MissingConfigKey, reader.span.clone(), message, "`registry` is missing").help(help));
            }
            None
        }
    };
    reader.required("kafka", problems);
    let kafka = reader.section("kafka", KAFKA_KEYS, &[], problems).and_then(|section| kafka(&section, surroundings, problems));
    Some(SourceConfig {
        name: entry.key.clone(),
        event: event?.to_owned(),
        format,
        framing,
        key_format,
        fields,
        schema,
        kafka: kafka?,
        registry,
    })
}

/// An event that nobody declares.
pub(super) fn unknown_event(event: &str, item: &Item, events: &BTreeMap<String, EventConfig>) -> Problem {
    let problem = Problem::at(Code::UnknownReference, item.span.clone(), format!("there is no event `{event}`"), "not declared");
    match crate::pipeline::nearest(event, events.keys()) {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None => problem.help(format!("declare it as [events.{event}]")),
    }
}

fn fields(reader: &Reader<'_>, event: Option<&EventConfig>, problems: &mut Vec<Problem>) -> Vec<(String, FieldSource)> {
    let Some(item) = reader.get("fields") else { return Vec::new() };
    let Some(section) = item.as_section() else {
        reader.wrong("fields", item, "a table of event field = place in the record", problems);
        return Vec::new();
    };
    let mut fields = Vec::new();
    for entry in &section.entries {
        if let Some(event) = event
            && !event.fields.contains(&entry.key)
        {
            let message = format!("event {} has no field `{}`", event.name, entry.key);
            let problem = Problem::at(Code::UnknownReference, entry.key_span.clone(), message, "not a field of the event");
            let nearest = crate::pipeline::nearest(&entry.key, event.fields.iter());
            problems.push(Problem { help: nearest.map(|name| format!("did you mean `{name}`?")), ..problem });
        }
        match field_source(&entry.item) {
            Some(from) => fields.push((entry.key.clone(), from)),
            None => reader.wrong(&entry.key, &entry.item, "a path, header:NAME, key, topic, partition, offset or timestamp", problems),
        }
    }
    fields
}

/// `body:` in front names a member of the record that is called like one of the words.
fn field_source(item: &Item) -> Option<FieldSource> {
    let path = |text: &str| text.strip_prefix("body:").unwrap_or(text).to_owned();
    if let Value::List(items) = &item.value {
        let mut paths = items.iter().map(|item| item.as_str().map(path)).collect::<Option<Vec<String>>>()?.into_iter();
        let first = paths.next().filter(|path| !path.is_empty())?;
        return Some(FieldSource::Path { path: first.into(), aliases: paths.map(Into::into).collect() });
    }
    let text = item.as_str()?;
    Some(match text {
        "key" => FieldSource::Key,
        "topic" => FieldSource::Topic,
        "partition" => FieldSource::Partition,
        "offset" => FieldSource::Offset,
        "timestamp" => FieldSource::Timestamp,
        _ => match text.strip_prefix("header:") {
            Some("") => return None,
            Some(name) => FieldSource::Header(name.into()),
            None => FieldSource::path(Some(path(text)).filter(|path| !path.is_empty())?.as_str()),
        },
    })
}

fn schema_file(
    reader: &Reader<'_>,
    format: Format,
    framing: Framing,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let wanted = format == Format::Avro && framing == Framing::None;
    let Some(item) = reader.get("schema") else {
        if wanted {
            let message = format!("{} reads Avro without framing, so it needs `schema`", reader.place);
            problems.push(
                Problem::at(Code::MissingConfigKey, reader.span.clone(), message, "`schema` is missing").help("schema = \"file.avsc\""),
            );
        }
        return None;
    };
    let path = reader.text("schema", problems)?;
    if !wanted {
        let message = format!("`schema` of {} has no effect", reader.place);
        problems.push(Problem::at(
            Code::InvalidConfigValue,
            item.span.clone(),
            message,
            "only for format = \"avro\" with framing = \"none\"",
        ));
        return None;
    }
    if surroundings.offline {
        return None;
    }
    match (surroundings.read_file)(Path::new(path)) {
        Ok(text) => Some(text),
        Err(error) => {
            problems.push(Problem::at(
                Code::InvalidConfigValue,
                item.span.clone(),
                format!("{path} cannot be read: {error}"),
                "not readable",
            ));
            None
        }
    }
}

fn kafka(reader: &Reader<'_>, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Option<KafkaConfig> {
    let brokers = reader.required("brokers", problems).and_then(|_| reader.texts("brokers", problems));
    let topics = topics(reader, problems);
    let start = start(reader, problems);
    let sasl =
        reader.section("sasl", &["mechanism", "user", "password"], &[], problems).and_then(|sasl| login(&sasl, surroundings, problems));
    let tls = reader.section("tls", TLS_KEYS, &[], problems).map(|section| tls(&section, surroundings, problems));
    let (client, client_secrets) = client(reader, surroundings, problems);
    Some(KafkaConfig {
        brokers: brokers?.into_iter().map(str::to_owned).collect(),
        topics: topics?,
        start,
        sasl,
        tls,
        client,
        client_secrets,
        group_id: reader.text("group_id", problems).map(str::to_owned),
        topic_ids: reader.flag("topic_ids", true, problems),
    })
}

fn topics(reader: &Reader<'_>, problems: &mut Vec<Problem>) -> Option<TopicsConfig> {
    let given: Vec<&str> = ["topic", "topics", "topic_regex"].into_iter().filter(|key| reader.get(key).is_some()).collect();
    match given.as_slice() {
        [] => {
            let message = format!("{} needs one of `topic`, `topics` and `topic_regex`", reader.place);
            problems.push(Problem::at(Code::MissingConfigKey, reader.span.clone(), message, "`topic` is missing"));
            None
        }
        ["topic_regex"] => {
            let pattern = reader.text("topic_regex", problems)?;
            match Regex::new(pattern) {
                Ok(_) => Some(TopicsConfig::Matching(pattern.to_owned())),
                Err(_) => {
                    reader.wrong("topic_regex", reader.get("topic_regex")?, "a regular expression", problems);
                    None
                }
            }
        }
        ["topic"] => Some(TopicsConfig::Named(vec![reader.text("topic", problems)?.to_owned()])),
        [_] => Some(TopicsConfig::Named(reader.texts("topics", problems)?.into_iter().map(str::to_owned).collect())),
        [_, second, ..] => {
            let span = reader.section.entry(second).map_or(reader.span.clone(), |entry| entry.key_span.clone());
            let message = format!("{} has {}", reader.place, given.join(" and "));
            problems.push(Problem::at(Code::InvalidConfigValue, span, message, "only one of topic, topics and topic_regex"));
            None
        }
    }
}

fn start(reader: &Reader<'_>, problems: &mut Vec<Problem>) -> StartConfig {
    let Some(item) = reader.get("start") else { return StartConfig::Earliest };
    let text = match &item.value {
        Value::Str(text) | Value::Time(text) => text.as_str(),
        _ => "",
    };
    match text {
        "earliest" => StartConfig::Earliest,
        "latest" => StartConfig::Latest,
        _ => match text.parse::<jiff::Timestamp>() {
            Ok(time) => StartConfig::Timestamp(time.as_millisecond()),
            Err(_) => {
                reader.wrong("start", item, "\"earliest\", \"latest\" or a time like \"2026-01-31T12:00:00Z\"", problems);
                StartConfig::Earliest
            }
        },
    }
}

fn login(reader: &Reader<'_>, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Option<SaslConfig> {
    let words: Vec<(&str, &str)> = MECHANISMS.iter().map(|word| (*word, *word)).collect();
    reader.required("mechanism", problems)?;
    let mechanism = reader.choice("mechanism", &words, "PLAIN", problems);
    let user = reader.required("user", problems).and_then(|_| reader.text("user", problems));
    let password = reader.required("password", problems).and_then(|item| secret::read(item, "password", surroundings, problems));
    Some(SaslConfig { mechanism: mechanism.to_owned(), user: user?.to_owned(), password: password? })
}

fn tls(reader: &Reader<'_>, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) -> TlsConfig {
    let tls = TlsConfig {
        ca: reader.text("ca", problems).map(PathBuf::from),
        cert: reader.text("cert", problems).map(PathBuf::from),
        key: reader.get("key").and_then(|item| secret::read(item, "key", surroundings, problems)),
    };
    if reader.get("cert").is_some() != reader.get("key").is_some() {
        let message = format!("{} has only one of `cert` and `key`", reader.place);
        problems.push(Problem::at(Code::MissingConfigKey, reader.span.clone(), message, "a client certificate needs both"));
    }
    tls
}

type ClientSettings = (BTreeMap<String, String>, BTreeMap<String, Secret>);

fn client(reader: &Reader<'_>, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) -> ClientSettings {
    let (mut plain, mut secrets) = ClientSettings::default();
    let Some(item) = reader.get("client") else { return (plain, secrets) };
    let Some(section) = item.as_section() else {
        reader.wrong("client", item, "a table of client settings", problems);
        return (plain, secrets);
    };
    for entry in &section.entries {
        match &entry.item.value {
            // An unquoted dotted key is a tree of tables in TOML.
            Value::Table(inner) if inner.entries.iter().all(|inner| !matches!(inner.key.as_str(), "env" | "file")) => {
                let message = format!("`{}` is a table here", entry.key);
                let help = "put dotted names into quotes: \"fetch.max.bytes\" = 8388608";
                problems
                    .push(Problem::at(Code::InvalidConfigValue, entry.key_span.clone(), message, "a client setting is wanted").help(help));
                continue;
            }
            Value::Table(_) => {
                if let Some(secret) = secret::read(&entry.item, &entry.key, surroundings, problems) {
                    secrets.insert(entry.key.clone(), secret);
                }
            }
            _ if SECRET_SETTINGS.contains(&entry.key.as_str()) => {
                secret::read(&entry.item, &entry.key, surroundings, problems);
            }
            Value::Str(text) => drop(plain.insert(entry.key.clone(), text.clone())),
            Value::Int(number) => drop(plain.insert(entry.key.clone(), number.to_string())),
            Value::Float(number) => drop(plain.insert(entry.key.clone(), number.to_string())),
            Value::Bool(truth) => drop(plain.insert(entry.key.clone(), truth.to_string())),
            Value::Time(_) | Value::List(_) => reader.wrong(&entry.key, &entry.item, "a string, a number or a boolean", problems),
        }
    }
    let named: BTreeMap<String, String> = plain
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .chain(secrets.keys().map(|key| (key.clone(), String::new())))
        .collect();
    for refused in (surroundings.check_client_settings)(&named) {
        let span = section.entry(&refused.key).map_or(item.span.clone(), |entry| entry.key_span.clone());
        let code = if refused.unknown { Code::UnknownConfigKey } else { Code::FixedClientSetting };
        let problem = Problem::at(code, span, refused.reason, "not to be set here");
        problems.push(Problem { help: refused.nearest.map(|name| format!("did you mean `{name}`?")), ..problem });
    }
    (plain, secrets)
}

fn registry(reader: &Reader<'_>, surroundings: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Option<RegistryConfig> {
    let urls = reader.required("url", problems).and_then(|_| reader.texts("url", problems));
    if let (Some(urls), Some(item)) = (&urls, reader.get("url"))
        && urls.iter().any(|url| !url.starts_with("http://") && !url.starts_with("https://"))
    {
        reader.wrong("url", item, "a URL like \"http://registry:8081\"", problems);
    }
    let auth = reader.section("auth", &["user", "password", "bearer"], &[], problems).and_then(|auth| {
        if let Some(item) = auth.get("bearer") {
            return secret::read(item, "bearer", surroundings, problems).map(RegistryAuthConfig::Bearer);
        }
        let user = auth.required("user", problems).and_then(|_| auth.text("user", problems));
        let password = auth.required("password", problems).and_then(|item| secret::read(item, "password", surroundings, problems));
        Some(RegistryAuthConfig::Basic { user: user?.to_owned(), password: password? })
    });
    let tls = tls(reader, surroundings, problems);
    let grace = reader.duration_us("schema_missing_grace", problems).and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros);
    let urls = urls?.into_iter().map(str::to_owned).collect();
    Some(RegistryConfig { urls, auth, tls, schema_missing_grace: grace.unwrap_or(SCHEMA_MISSING_GRACE) })
}
