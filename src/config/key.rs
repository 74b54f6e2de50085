//! Every key of `streamgauge.toml`: what it has to be, its default, and when to change it.
//!
//! The one list behind the parser, the suggestions, the environment's names, the JSON Schema and docs/CONFIG.md. `*` stands for a name the user chooses. Keys of
//! parts that do not exist yet are listed too, so that they are refused as what they are.

use super::value::Form;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Dotted, `*` for a chosen name.
    pub(super) path: &'static str,
    pub(super) form: Form,
    /// As it would stand in the file, without quotes.
    pub(super) default: Option<&'static str>,
    /// What it means and when to change it.
    pub(super) help: &'static str,
}

const fn key(path: &'static str, form: Form, default: Option<&'static str>, help: &'static str) -> Key {
    Key { path, form, default, help }
}

const fn later(path: &'static str, help: &'static str) -> Key {
    Key { path, form: Form::NotAvailable, default: None, help }
}

/// All keys, in the order in which docs list them.
pub(super) const KEYS: &[Key] = &[
    key("config_version", Form::Count { min: 1, max: 1 }, Some("1"), "Version of this file's format."),
    key("test_mode", Form::Flag, Some("false"), "Allows `reset`. For tests of clients; never in production."),
    key("server.data_dir", Form::Path, Some("streamgauge-data"), "Folder of WAL and snapshots. One process at a time uses it."),
    key("server.http", Form::Address, Some("127.0.0.1:8080"), "Where the HTTP data plane listens; port 0 means any."),
    key("server.tcp", Form::AddressOrOff, Some("127.0.0.1:8081"), "Where the framed TCP data plane listens; \"off\" for not at all."),
    key("server.admin", Form::Address, Some("127.0.0.1:8090"), "Where health, metrics and the registry are served."),
    key(
        "server.io_threads",
        Form::Count { min: 1, max: 64 },
        Some("1"),
        "Data-plane I/O threads, beside the one that all requests of 16 KiB and more go to. More than one pays from about 100,000 requests/s.",
    ),
    key(
        "server.cors",
        Form::Origins,
        None,
        "Origins whose pages may read answers of both HTTP ports in a browser and act, such as `[\"https://app.example\"]`; `\"*\"` for all. Absent: none.",
    ),
    later("server.tls", "TLS on the data plane"),
    key(
        "limits.memory",
        Form::Size { min: 16 * MIB, max: 16 * TIB },
        Some("4GiB"),
        "Bytes that all tables together may hold, with the copies that a running snapshot makes necessary.",
    ),
    key(
        "limits.on_memory_limit",
        Form::Word(&["pause", "refuse_new"]),
        Some("pause"),
        "At the limit rows that need room wait in Kafka (nothing is lost), or those of new keys are left out and told while the others wait. Deletes and rows that need no room go on, also behind rows that wait, but for those of their keys.",
    ),
    key("limits.body", Form::Size { min: KIB, max: GIB }, Some("4MiB"), "Largest HTTP body."),
    key("limits.frame", Form::Size { min: KIB, max: GIB }, Some("4MiB"), "Largest payload of a TCP frame."),
    key(
        "limits.connections",
        Form::Count { min: 1, max: 1_000_000 },
        Some("10_000"),
        "Open connections of both data-plane ports together.",
    ),
    key(
        "limits.kafka_memory",
        Form::Size { min: 8 * MIB, max: TIB },
        Some("256MiB"),
        "What all Kafka clients of the process may use for queues and fetches.",
    ),
    key(
        "durability.push",
        Form::Word(&["written", "synced", "memory"]),
        Some("written"),
        "A push is acknowledged once it is written (survives kill -9), synced (survives power loss), or in memory (survives nothing).",
    ),
    key(
        "durability.group_commit",
        Form::Duration { min_us: 0, max_us: SECOND_US },
        Some("0s"),
        "How long a sync that somebody waits for is held back to take more writes with it. Raise it on slow disks.",
    ),
    key(
        "durability.sync.every",
        Form::Duration { min_us: 1_000, max_us: 60 * SECOND_US },
        Some("1s"),
        "Longest time a write stays unsynced when nobody waits for it.",
    ),
    key(
        "durability.sync.bytes",
        Form::Size { min: 4 * KIB, max: GIB },
        Some("16MiB"),
        "Bytes after which a sync is due when nobody waits for it.",
    ),
    key(
        "durability.snapshot.every",
        Form::Duration { min_us: 0, max_us: 30 * DAY_US },
        Some("5m"),
        "Time between snapshots; \"0s\" for none. Shorter means less WAL to replay after a restart.",
    ),
    key("durability.snapshot.keep", Form::Count { min: 1, max: 1_000 }, Some("2"), "How many snapshots are kept."),
    key("durability.wal.segment", Form::Size { min: 64 * KIB, max: 4 * GIB }, Some("64MiB"), "Size of a WAL segment, preallocated."),
    later("durability.wal.checksum", "another checksum of the WAL"),
    key(
        "push.control_characters",
        Form::Word(&["refuse", "allow"]),
        Some("refuse"),
        "Whether a pushed string may hold control characters. Kafka input always may.",
    ),
    key(
        "ready.max_staleness",
        Form::Duration { min_us: 1_000, max_us: DAY_US },
        None,
        "Not ready while a table is further behind than this, or nobody knows how far. The end of a quiet topic is heard of twice a second: below 2s this flutters. Absent: lag alone never makes the process unready.",
    ),
    key(
        "ready.wait_for_catch_up",
        Form::Flag,
        Some("false"),
        "Not ready until each source has reached the end that Kafka had at start. What an incident stops has not.",
    ),
    key(
        "compat.velocity_window",
        Form::Word(&["honour", "ignore"]),
        Some("honour"),
        "Whether decay and velocity operators honour their window; 0.0.6 of Beava ignored it.",
    ),
    key("compat.lifetime_bound", Form::Flag, Some("true"), "Refuse features over a lifetime whose state has no bound."),
    key("log.level", Form::LogFilter, Some("info"), "What is logged; also a list such as \"info,streamgauge=debug\"."),
    key("log.format", Form::Word(&["auto", "text", "json"]), Some("auto"), "auto is text on a terminal and json elsewhere."),
    key(
        "events.*.fields",
        Form::Fields,
        None,
        "Names and types: str, f64, i64, bool, bytes, datetime, json; `?` behind the type = may be missing. Only these are decoded.",
    ),
    key(
        "events.*.time",
        Form::Time,
        None,
        "Where row time comes from: \"arrival\", \"record\" (Kafka's timestamp; default for events with a Kafka source) or { field = \"..\", unit = \"s\" }: a datetime or i64 field whose numbers in records are s, ms, us, ns or d (days). Without a unit they are ms, and one that looks like another unit is a bad record.",
    ),
    key(
        "events.*.max_future",
        Form::Duration { min_us: 0, max_us: 3650 * DAY_US },
        Some("1h"),
        "A row further ahead of its arrival than this is a bad row, so that one wrong clock cannot empty all windows.",
    ),
    key(
        "events.*.cold_after",
        Form::Duration { min_us: 1_000, max_us: 3650 * DAY_US },
        None,
        "The same as `expire_after` for every table of the event; where a table has its own, the shorter one holds.",
    ),
    key(
        "events.*.on_bad_record",
        Form::Word(&["dlq", "skip", "stop"]),
        Some("dlq"),
        "A record that is no row goes to the local reject log, is only counted, or stops its partition.",
    ),
    key(
        "events.*.tombstone",
        Form::Word(&["ignore", "reject", "delete_key", "row"]),
        Some("reject"),
        "What a record without a value means: nothing, a bad record, forget the key (in each table whose whole key comes from \"key\", key:PATH or header:NAME; the others are left as they are, with a warning), or a row of nulls. A source may say otherwise.",
    ),
    key(
        "events.*.dedupe.field",
        Form::Text,
        None,
        "The field that holds a row's id: a str, i64, bool or datetime. A row whose id came within the window changes nothing, from Kafka and pushes alike; one without an id is taken. 16 bytes and the id for each.",
    ),
    key(
        "events.*.dedupe.window",
        Form::Duration { min_us: 1_000, max_us: 3650 * DAY_US },
        Some("24h"),
        "How long an id is remembered behind the first row with it, by row times.",
    ),
    later("events.*.keep_for", "retention of events"),
    later("events.*.dlq_topic", "a Kafka topic for rejected records"),
    key("sources.*.event", Form::Text, None, "The event that records become. Required."),
    key(
        "sources.*.format",
        Form::Word(&["json", "avro", "protobuf", "msgpack", "csv", "raw", "debezium", "debezium_avro"]),
        Some("json"),
        "Format of a record's value. raw has it whole, as `value`; debezium and debezium_avro are change events in JSON and Avro.",
    ),
    key(
        "sources.*.framing",
        Form::Word(&["none", "confluent", "apicurio8"]),
        None,
        "What stands before the body: confluent is 0x00 and a 4-byte schema id, apicurio8 has 8 bytes. Default: confluent for avro and debezium_avro, and for protobuf without a schema file; none for others.",
    ),
    key(
        "sources.*.schema",
        Form::Path,
        None,
        "Schema file for records without framing, relative to the config file: Avro, a .proto text, or a descriptor set of protoc with its imports.",
    ),
    key(
        "sources.*.message",
        Form::Text,
        None,
        "Full name of the message of Protobuf records without framing; not needed where the schema file has one only.",
    ),
    key(
        "sources.*.mode",
        Form::Word(&["changes", "latest"]),
        Some("changes"),
        "What a change event is: each change a row, a delete too; or the row's latest state, so that a delete forgets its key.",
    ),
    key("sources.*.csv.columns", Form::Texts, None, "Names of the columns of a CSV line, in their order. Required for csv."),
    key("sources.*.csv.delimiter", Form::Text, Some(","), "What stands between the values of a CSV line: one character."),
    key(
        "sources.*.fields",
        Form::FieldSources,
        None,
        "Event field <- record path, a list of paths (of each record the first, in list order, that has a value), header:NAME, key, key:PATH, topic, partition, offset, timestamp. Unnamed fields come from the member of their own name. { path = .., from = \"number|text|any|base64\", unit, zone, scale, on_bad_field = \"reject|null\" } says how values are written.",
    ),
    key(
        "sources.*.key_format",
        Form::Word(&["raw", "text", "integer", "avro", "json"]),
        Some("raw"),
        "What a record's key is, where fields come from it: raw is bytes for a bytes field and text for others, integer is big-endian, avro and json have paths (key:PATH).",
    ),
    key(
        "sources.*.tombstone",
        Form::Word(&["ignore", "reject", "delete_key", "row"]),
        None,
        "As the event's tombstone, for this source alone.",
    ),
    key("sources.*.kafka.brokers", Form::Places, None, "Bootstrap addresses, host:port. Required."),
    key("sources.*.kafka.topic", Form::Place, None, "The topic. One of topic, topics, topic_regex is required."),
    key("sources.*.kafka.topics", Form::Places, None, "Several topics."),
    key("sources.*.kafka.topic_regex", Form::Place, None, "All topics whose whole name matches, also those created later."),
    key(
        "sources.*.kafka.start",
        Form::Start,
        Some("earliest"),
        "Used once, when no position is stored: earliest, latest, or a time (records from then on).",
    ),
    key("sources.*.kafka.group_id", Form::Place, None, "Consumer group that positions are committed to for lag tools."),
    key(
        "sources.*.kafka.topic_ids",
        Form::Flag,
        Some("true"),
        "Whether the brokers give topics ids, as all do since Kafka 2.8. Without them a recreated topic cannot be told from the one before.",
    ),
    key(
        "sources.*.kafka.sasl.mechanism",
        Form::Word(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        None,
        "How to log in. Required in sasl.",
    ),
    key("sources.*.kafka.sasl.user", Form::Place, None, "User. Required in sasl."),
    key("sources.*.kafka.sasl.password", Form::Secret, None, "Password. Required in sasl."),
    key(
        "sources.*.kafka.tls.ca",
        Form::Path,
        None,
        "CA bundle (PEM); absent: the system's. A tls section, even an empty one, turns TLS on.",
    ),
    key("sources.*.kafka.tls.cert", Form::Path, None, "Client certificate chain (PEM) for mTLS."),
    key("sources.*.kafka.tls.key", Form::Secret, None, "Client key (PEM) for mTLS."),
    key(
        "sources.*.kafka.client",
        Form::Client,
        None,
        "Further client settings by librdkafka's names; those that keep positions honest are fixed and refused.",
    ),
    later("sources.*.kafka.mode", "consumer groups that share partitions"),
    later("sources.*.kafka.dlq_topic", "a Kafka topic for rejected records"),
    key("sources.*.registry.url", Form::Places, None, "Schema registry, tried in order. Required in registry."),
    key("sources.*.registry.auth.user", Form::Place, None, "User for HTTP basic authentication."),
    key("sources.*.registry.auth.password", Form::Secret, None, "Password for HTTP basic authentication."),
    key("sources.*.registry.auth.bearer", Form::Secret, None, "Bearer token, instead of user and password."),
    key("sources.*.registry.tls.ca", Form::Path, None, "CA bundle (PEM); absent: built-in roots."),
    key("sources.*.registry.tls.cert", Form::Path, None, "Client certificate chain (PEM) for mTLS."),
    key("sources.*.registry.tls.key", Form::Secret, None, "Client key (PEM) for mTLS."),
    key(
        "sources.*.registry.schema_missing_grace",
        Form::Duration { min_us: 0, max_us: DAY_US },
        Some("60s"),
        "How long an id that the registry does not have is asked for before its records are bad: registries replicate late. Ids that are missing together wait together.",
    ),
    later("sources.*.registry.subject", "a writer schema by subject"),
    later("sources.*.file", "file sources"),
    later("sources.*.generator", "generator sources"),
    later("sources.*.max_reject_rate", "a flood guard on rejected records"),
    key("tables.*.from", Form::Text, None, "The event that is aggregated. Required."),
    key("tables.*.key", Form::Texts, None, "Fields that make the key; [] for one row over everything. Required."),
    key("tables.*.where", Form::Expression, None, "Only rows for which this is true count. A comparison with a missing field is not true."),
    key(
        "tables.*.features",
        Form::Features,
        None,
        "Feature = { op, field, window, resolution, where, .. }; docs/OPERATORS.md lists operators and parameters. Required.",
    ),
    key(
        "tables.*.renamed_from",
        Form::Text,
        None,
        "The table's former name: its state goes on under this one. Means nothing once the table exists.",
    ),
    key(
        "tables.*.expire_after",
        Form::Duration { min_us: 1_000, max_us: 3650 * DAY_US },
        None,
        "What a key has is dropped when no row of it came for longer than this, by row times; a read then finds no such key. 24 bytes for each key. Without it keys stay.",
    ),
    key(
        "tables.*.backfill",
        Form::History,
        None,
        "Where the history of a new table begins: earliest, auto (as far as its windows reach), a duration, or a time. Read beside live rows; reads of the table answer table_filling until it is whole. Used once, when the table is created.",
    ),
    later("tables.*.trace_last", "explanations of single values"),
    key(
        "eventstore",
        Form::Eventstore,
        None,
        "The event store: { file = \"..\" } with a CREATE EVENTSTORE, or its keys, quoted, dotted or as tables; docs/EVENTSTORE.md has them. Absent: rows stand in the log alone.",
    ),
    key(
        "archive.memory",
        Form::Size { min: 8 * MIB, max: TIB },
        Some("256MiB"),
        "What the archiver of an event store holds of rows and of the file that it writes. A smaller one makes smaller files.",
    ),
    later("auth", "tokens and TLS"),
    later("kafka", "settings shared by sources; they stand in [sources.NAME.kafka]"),
    later("test", "tests inside the config"),
    later("derivations", "event derivations; register them with POST /register"),
    later("otlp", "OTLP export"),
];

/// What a path leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    Leaf(&'static Key),
    Section,
}

/// What stands under `name` in the section at `section` (a pattern, empty for the top); the pattern of the place.
pub(super) fn find(section: &str, name: &str) -> Option<(String, Found)> {
    let join = |part: &str| if section.is_empty() { part.to_owned() } else { format!("{section}.{part}") };
    for pattern in [join(name), join("*")] {
        if let Some(key) = KEYS.iter().find(|key| key.path == pattern) {
            return Some((pattern, Found::Leaf(key)));
        }
        let prefix = format!("{pattern}.");
        if KEYS.iter().any(|key| key.path.starts_with(&prefix)) && !name.contains('.') {
            return Some((pattern, Found::Section));
        }
    }
    None
}

/// Names that may stand in a section, for suggestions.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = KEYS
        .iter()
        .filter_map(|key| {
            let rest = if section.is_empty() { key.path } else { key.path.strip_prefix(section)?.strip_prefix('.')? };
            rest.split('.').next()
        })
        .filter(|name| *name != "*")
        .collect();
    names.dedup();
    names
}

/// The key of this path.
pub(super) fn of(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Keys with one value for the whole process; these the environment may set.
pub(super) fn settings() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| !key.path.contains('*') && !matches!(key.form, Form::NotAvailable | Form::Eventstore))
}

/// The name of a setting in the environment: `STREAMGAUGE_LIMITS_MEMORY` for `limits.memory`.
pub(super) fn variable(path: &str) -> String {
    format!("STREAMGAUGE_{}", path.replace('.', "_").to_uppercase())
}
