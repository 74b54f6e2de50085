//! The config as a user meets it: samples that load, problems with their places.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::pipeline::RegisterOutcome;
use crate::row::EventId;

mod advice;
mod records;

/// The example of the user guide without what is not available.
pub(super) const SAMPLE: &str = r#"#:schema ./streamgauge.schema.json
config_version = 1
[server]
data_dir = "/var/lib/streamgauge"
http  = "127.0.0.1:8080"
tcp   = "127.0.0.1:8081"
admin = "127.0.0.1:8090"
[limits]
memory = "4GiB"
on_memory_limit = "pause"
body = "4MiB"
connections = 10_000
[durability]
push = "written"
group_commit = "2ms"
snapshot = { every = "5m", keep = 2 }

[events.Payment]
time   = { field = "ts" }
on_bad_record = "dlq"
fields = { id = "str", card = "str", amount = "f64", ts = "datetime", country = "str?" }

[events.Click]
fields = { user = "str", region = "str?", at = "datetime?" }

[sources.payments]
event  = "Payment"
format = "json"
[sources.payments.kafka]
brokers = ["k1:9093"]
topic   = "payments"
start   = "earliest"
sasl    = { mechanism = "SCRAM-SHA-512", user = "streamgauge", password = { env = "KAFKA_PASSWORD" } }
tls     = { ca = "/etc/streamgauge/ca.pem" }

[sources.clicks]
event   = "Click"
format  = "avro"
framing = "confluent"
fields  = { user = "customer.id", region = "header:region", at = "timestamp" }
[sources.clicks.kafka]
brokers = ["k1:9093"]
topics  = ["clicks", "clicks-eu"]
start   = "latest"
client  = { "fetch.max.bytes" = 8388608 }
[sources.clicks.registry]
url  = ["http://registry:8081"]
auth = { user = "reader", password = { env = "REGISTRY_PASSWORD" } }

[tables.card_stats]
from  = "Payment"
key   = ["card"]
where = "amount > 0"
[tables.card_stats.features]
n_1h      = { op = "count", window = "1h" }
sum_24h   = { op = "sum", field = "amount", window = "24h" }
p95_1h    = { op = "quantile", field = "amount", q = 0.95, window = "1h" }
countries = { op = "n_unique", field = "country", window = "7d" }
"#;

/// An environment in which all secrets of the sample are set.
pub(super) fn env(name: &str) -> Option<String> {
    matches!(name, "KAFKA_PASSWORD" | "REGISTRY_PASSWORD").then(|| "hunter2".to_owned())
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigProblems> {
    let outside = Outside { env: &env, names: &Vec::new, client: ClientRules::NONE };
    Config::parse(text, Some(Path::new("streamgauge.toml")), &Flags::default(), &outside)
}

/// Quoted keys, dotted ones, tables and a statement in a file of its own are one declaration.
#[test]
fn an_event_store_is_the_same_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let statement = "CREATE EVENTSTORE pay WITH (durable.type = 'parquet', durable.path = '/x', durable.compression = 'zstd',
        durable.compression.level = 7, bloom.columns = ('event_id'), bloom.fpp = 0.5, partition.by = ('dt','stream_type'))";
    std::fs::write(folder.path().join("pay.eventstore"), statement).unwrap();
    let read = |text: &str| {
        let outside = Outside { env: &|_| None, names: &Vec::new, client: ClientRules::NONE };
        let config = Config::parse(text, Some(&folder.path().join("x.toml")), &Flags::default(), &outside).unwrap();
        config.eventstore.unwrap().store().map(|store| crate::eventstore::Store { statement: String::new(), ..store }).unwrap()
    };
    let quoted =
        "[eventstore]\nname = \"pay\"\n\"durable.type\" = \"parquet\"\n\"durable.path\" = \"/x\"\n\"durable.compression\" = \"zstd\"
\"durable.compression.level\" = 7\n\"bloom.columns\" = [\"event_id\"]\n\"bloom.fpp\" = 0.5\n";
    let tables = "[eventstore]\nname = \"pay\"\npartition.by = [\"dt\", \"stream_type\"]
[eventstore.durable]\ntype = \"parquet\"\npath = \"/x\"\ncompression = { codec = \"zstd\", level = 7 }
[eventstore.bloom]\ncolumns = \"event_id\"\nfpp = 0.5\n";
    let named = "[eventstore]\nfile = \"pay.eventstore\"\n";
    assert_eq!(read(quoted), read(named));
    assert_eq!(read(tables), read(named));
}

#[test]
fn the_sample_of_the_user_guide_loads() {
    let config = parse(SAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.limits.memory_bytes, 4 << 30);
    assert_eq!(config.sources.len(), 2);
    assert_eq!(config.kafka.len(), 2);
    let table = config.registry().table("card_stats").unwrap();
    assert_eq!(table.features.len(), 4);
    assert!(!format!("{config:?}").contains("hunter2"));
}

/// Codes with line and column, as they come out.
fn told(text: &str) -> Vec<(Code, usize, usize)> {
    let problems = parse(text).err().map(|problems| problems.problems).unwrap_or_default();
    problems.iter().map(|problem| (problem.code, problem.place.unwrap_or_default().0, problem.place.unwrap_or_default().1)).collect()
}

const EVENT: &str = "[events.E]\nfields = { a = \"str\", n = \"f64\", t = \"datetime\" }\n";

const SOURCE: &str = "[sources.s]\nevent = \"E\"\n[sources.s.kafka]\nbrokers = [\"b:1\"]\ntopic = \"t\"\n";

#[test]
fn every_problem_has_its_code_and_its_place() {
    use Code::*;
    let table = |rest: &str| format!("{EVENT}[tables.T]\nfrom = \"E\"\nkey = [\"a\"]\n{rest}");
    let source = |rest: &str| format!("{EVENT}{SOURCE}{rest}");
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("[server\n".to_owned(), vec![(ConfigSyntax, 1, 8)]),
        ("a = 1\na = 2\n".to_owned(), vec![(ConfigSyntax, 2, 1)]),
        ("[limts]\nmemory = \"1GiB\"\n".to_owned(), vec![(UnknownConfigKey, 1, 2)]),
        ("limits = 3\n".to_owned(), vec![(InvalidConfigValue, 1, 10)]),
        (
            "[limits]\nmemory = \"lots\"\nbody = \"1B\"\nconnections = 0\n".to_owned(),
            vec![(InvalidConfigValue, 2, 10), (InvalidConfigValue, 3, 8), (InvalidConfigValue, 4, 15)],
        ),
        (
            "[durability]\npush = \"wirtten\"\ngroup_commit = 2\nsnapshot = { every = \"5 minutes\" }\n".to_owned(),
            vec![(InvalidConfigValue, 2, 8), (InvalidConfigValue, 3, 16), (InvalidConfigValue, 4, 22)],
        ),
        ("test_mode = \"yes\"\nconfig_version = 2\n".to_owned(), vec![(InvalidConfigValue, 1, 13), (InvalidConfigValue, 2, 18)]),
        (
            "[server]\nhttp = \"0.0.0.0:80\"\nadmin = \"localhost\"\n".to_owned(),
            vec![(UnsafeListenAddress, 2, 8), (InvalidConfigValue, 3, 9)],
        ),
        ("[log]\nlevel = \"loud\"\n".to_owned(), vec![(InvalidConfigValue, 2, 9)]),
        (
            "[archive]\nmemory = \"x\"\n[auth]\ntokens = []\n[[test]]\nname = \"x\"\n".to_owned(),
            vec![(InvalidConfigValue, 2, 10), (NotAvailable, 3, 2), (NotAvailable, 5, 3)],
        ),
        ("[eventstore]\n".to_owned(), vec![(EventstoreDurableRequired, 1, 2), (EventstoreDurableRequired, 1, 2)]),
        ("eventstore = 3\n".to_owned(), vec![(EventstoreType, 1, 14)]),
        (
            "[eventstore]\ndurable = { type = \"parquet\", path = \"/x\" }\nbloom.fpp = 2\nbloom.fp = 0.1\nstats.columns = []\n".to_owned(),
            vec![(EventstoreRange, 3, 13), (EventstoreUnknownKey, 4, 7), (EventstoreType, 5, 17)],
        ),
        (
            "[eventstore]\ndurable = { type = \"parquet\", path = \"/x\" }\nbloom.fpp = 2\nbloom.fp = 0.1\n".to_owned(),
            vec![(EventstoreRange, 3, 13), (EventstoreUnknownKey, 4, 7)],
        ),
        ("[eventstore]\nfile = \"nowhere\"\n".to_owned(), vec![(InvalidConfigValue, 2, 8)]),
        ("[events.E]\n".to_owned(), vec![(MissingConfigKey, 1, 9)]),
        (
            "[events.E]\nfields = { a = \"string\", b = 3 }\nkeep_for = \"1d\"\n".to_owned(),
            vec![(InvalidConfigValue, 2, 16), (InvalidConfigValue, 2, 30), (NotAvailable, 3, 1)],
        ),
        ("[events.\"9\"]\nfields = { a = \"str\" }\n".to_owned(), vec![(InvalidConfigValue, 1, 9)]),
        (format!("{EVENT}time = {{ field = \"tt\" }}\n"), vec![(UnknownReference, 3, 18)]),
        (format!("{EVENT}time = {{ field = \"a\" }}\n"), vec![(InvalidConfigValue, 3, 8)]),
        (
            format!("{EVENT}time = \"recrod\"\ntombstone = \"drop\"\nmax_future = \"x\"\n"),
            vec![(InvalidConfigValue, 3, 8), (InvalidConfigValue, 4, 13), (InvalidConfigValue, 5, 14)],
        ),
        (table(""), vec![(MissingConfigKey, 3, 9)]),
        (table("features = {}\n"), vec![(MissingConfigKey, 6, 12)]),
        (table("features = { n = { op = \"cuont\" } }\n"), vec![(AggregationUnknownOp, 6, 25)]),
        (table("features = { n = { window = \"1h\" } }\n"), vec![(MissingConfigKey, 6, 18)]),
        (table("features = { n = { op = \"count\", widnow = \"1h\" } }\n"), vec![(UnknownConfigKey, 6, 34)]),
        (table("features = { n = { op = \"count\", window = \"1y\" } }\n"), vec![(AggregationInvalidWindow, 6, 43)]),
        (table("features = { n = { op = \"count\", resolution = 128 } }\n"), vec![(AggregationInvalidParam, 6, 47)]),
        (table("features = { n = { op = \"count\", window = \"1h\", resolution = 8 } }\n"), vec![(AggregationInvalidParam, 6, 62)]),
        (table("features = { n = { op = \"count\", field = \"n\" } }\n"), vec![(AggregationInvalidParam, 6, 42)]),
        (table("features = { n = { op = \"sum\" } }\n"), vec![(MissingConfigKey, 6, 18)]),
        (table("features = { n = { op = \"sum\", field = \"m\" } }\n"), vec![(UnknownReference, 6, 40)]),
        (table("features = { n = { op = \"quantile\", field = \"n\", q = 2, window = \"1h\" } }\n"), vec![(InvalidPercentileQ, 6, 54)]),
        (table("features = { a = { op = \"count\" } }\n"), vec![(AggregationGroupKeyCollidesWithFeature, 6, 18)]),
        (table("features = { n = { op = \"count\", where = \"n >\" } }\n"), vec![(AggregationInvalidWhere, 6, 46)]),
        (table("where = \"n > '0'\"\nfeatures = { n = { op = \"count\" } }\n"), vec![(ExpressionTypeMismatch, 6, 10)]),
        (table("where = \"m > 0\"\nfeatures = { n = { op = \"count\" } }\n"), vec![(InvalidExpression, 6, 10)]),
        (table("trace_last = 3\nfeatures = { n = { op = \"count\" } }\n"), vec![(NotAvailable, 6, 1)]),
        (table("backfill = \"1d\"\nfeatures = { n = { op = \"count\" } }\n"), vec![(BackfillNoHistory, 6, 12)]),
        (table("backfill = \"erliest\"\nfeatures = { n = { op = \"count\" } }\n"), vec![(InvalidConfigValue, 6, 12)]),
        (
            format!("{EVENT}[tables.T]\nfrom = \"F\"\nkey = [\"a\"]\nfeatures = {{ n = {{ op = \"count\" }} }}\n"),
            vec![(UnknownReference, 4, 8)],
        ),
        (
            format!("{EVENT}[tables.T]\nfrom = \"E\"\nkey = [\"b\"]\nfeatures = {{ n = {{ op = \"count\" }} }}\n"),
            vec![(UnknownReference, 5, 8)],
        ),
        (format!("{EVENT}[sources.s]\nevent = \"E\"\n"), vec![(MissingConfigKey, 3, 10)]),
        (SOURCE.to_owned(), vec![(UnknownReference, 2, 9)]),
        (source("topics = [\"u\"]\n"), vec![(InvalidConfigValue, 8, 1)]),
        (source("start = \"yesterday\"\n"), vec![(InvalidConfigValue, 8, 9)]),
        (source("start = 2026-01-01T00:00:00\n"), vec![(InvalidConfigValue, 8, 9)]),
        (source("mode = \"subscribe\"\n"), vec![(NotAvailable, 8, 1)]),
        (source("sasl = { mechanism = \"PLAIN\", user = \"u\", password = \"p\" }\n"), vec![(SecretInConfig, 8, 54)]),
        (source("sasl = { mechanism = \"PLAIN\", user = \"u\", password = { env = \"NOWHERE\" } }\n"), vec![(SecretUnavailable, 8, 62)]),
        (source("sasl = { mechanism = \"PLAIN\", user = \"u\", password = { file = \"/nowhere\" } }\n"), vec![(SecretUnavailable, 8, 63)]),
        (source("sasl = { mechanism = \"PLAIN\", user = \"u\" }\n"), vec![(MissingConfigKey, 8, 1)]),
        (source("tls = { cert = \"c\" }\n"), vec![(MissingConfigKey, 8, 1)]),
        (
            source("client = { \"auto.offset.reset\" = \"latest\", \"ftech\" = 1, \"sasl.password\" = \"p\" }\n"),
            vec![(FixedClientSetting, 8, 12), (UnknownConfigKey, 8, 44), (SecretInConfig, 8, 75)],
        ),
        (source("[sources.s.registry]\nurl = [\"http://u:p@r\"]\n"), vec![(InvalidConfigValue, 8, 12), (SecretInConfig, 9, 8)]),
        (format!("{EVENT}{}", SOURCE.replace("event", "format = \"avro\"\nevent")), vec![(MissingConfigKey, 3, 10)]),
        (
            format!("{EVENT}{}", SOURCE.replace("event", "format = \"avro\"\nframing = \"none\"\nschema = \"/nowhere\"\nevent")),
            vec![(InvalidConfigValue, 6, 10)],
        ),
        (
            format!("{EVENT}{}", SOURCE.replace("event", "fields = { z = \"x\", a = \"offset\", n = 3 }\nevent")),
            vec![(UnknownReference, 4, 12), (InvalidConfigValue, 4, 25), (InvalidConfigValue, 4, 39)],
        ),
        (source(&SOURCE.replace("sources.s", "sources.u")), vec![(SourceConflict, 8, 10)]),
    ] {
        let outside = Outside { env: &env, names: &Vec::new, client: CLIENT };
        let problems = Config::parse(&text, None, &Flags::default(), &outside).err().map(|problems| problems.problems).unwrap_or_default();
        let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.place.unwrap().0, problem.place.unwrap().1)).collect();
        if found != expected {
            wrong.push(format!("{text}\nwanted {expected:?}\nfound  {found:?}\n{problems:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A connector that knows three settings.
const CLIENT: ClientRules = ClientRules {
    check: |client| {
        let problem = |key: &String| match key.as_str() {
            "auto.offset.reset" => Some(ClientProblem { key: key.clone(), reason: "fixed".into(), nearest: None, known: true }),
            "sasl.password" | "fetch.max.bytes" => None,
            _ => Some(ClientProblem { key: key.clone(), reason: "no such setting".into(), nearest: None, known: false }),
        };
        client.keys().filter_map(problem).collect()
    },
    is_secret: |key| key == "sasl.password",
};

#[test]
fn where_a_field_comes_from_is_checked() {
    use Code::*;
    let registry = "[sources.s.registry]\nurl = [\"http://r\"]\n";
    for (keys, more, expected) in [
        ("fields = { a = 'attrs.\"user.id\"', n = '\"key\"' }", "", vec![]),
        ("fields = { a = ['x', '\"a.b\"[].c'] }", "", vec![]),
        ("fields = { a = 'x..y' }", "", vec![InvalidConfigValue]),
        ("fields = { a = 'x.\"y' }", "", vec![InvalidConfigValue]),
        ("fields = { a = 'body:' }", "", vec![InvalidConfigValue]),
        ("fields = { a = [''] }", "", vec![InvalidConfigValue, InvalidConfigValue]),
        ("key_format = 'json'\nfields = { a = 'key:id', n = 'key' }", "", vec![]),
        ("key_format = 'avro'\nfields = { a = 'key:id' }", registry, vec![]),
        ("key_format = 'avro'\nfields = { a = 'key:id' }", "", vec![MissingConfigKey]),
        ("key_format = 'json'\nfields = { a = 'key:' }", "", vec![InvalidConfigValue]),
        ("key_format = 'json'\nfields = { a = 'key:x..y' }", "", vec![InvalidConfigValue]),
        // A path into a key that is no value, and one beside paths of the value.
        ("fields = { a = 'key:id' }", "", vec![InvalidConfigValue]),
        ("key_format = 'json'\nfields = { a = ['id', 'key:id'] }", "", vec![InvalidConfigValue]),
        ("key_format = 'protobuf'", "", vec![InvalidConfigValue]),
    ] {
        let text = format!("{EVENT}{}{more}", SOURCE.replace("event", &format!("{keys}\nevent")));
        let codes: Vec<Code> = told(&text).into_iter().map(|(code, ..)| code).collect();
        assert_eq!(codes, expected, "{text}");
    }
}

#[test]
fn an_empty_config_is_valid_and_has_defaults() {
    for text in ["", "# nothing\n"] {
        let config = parse(text).unwrap();
        assert_eq!(config.server.http.to_string(), "127.0.0.1:8080");
        assert_eq!(config.durability.push, PushLevel::Written);
        assert!(config.origins.0.iter().all(|origin| origin.from == Provenance::Default), "{}", config.origins);
        assert_eq!(config.register_payload(), r#"{"nodes":[]}"#);
    }
    let outside = Outside { env: &|_| None, names: &Vec::new, client: ClientRules::NONE };
    assert!(Config::load(Some(Path::new("/dev/null")), &Flags::default(), &outside).is_ok());
    assert_eq!(Config::load(Some(Path::new("/nowhere.toml")), &Flags::default(), &outside).unwrap_err().problems.len(), 1);
}

#[test]
fn flags_win_over_own_variables_over_those_of_beava_over_the_file() {
    let file = "[server]\nhttp = \"127.0.0.1:1\"\n[limits]\nmemory = \"1GiB\"\n";
    let beava = ("BEAVA_LISTEN_ADDR", "127.0.0.1:2");
    let own = ("STREAMGAUGE_SERVER_HTTP", "127.0.0.1:3");
    let flags = Flags { http: Some("127.0.0.1:4".parse().unwrap()), ..Flags::default() };
    for (variables, flags, port, from) in [
        (vec![], Flags::default(), 1, "line 2"),
        (vec![beava], Flags::default(), 2, "BEAVA_LISTEN_ADDR"),
        (vec![beava, own], Flags::default(), 3, "STREAMGAUGE_SERVER_HTTP"),
        (vec![beava, own], flags, 4, "--http-addr"),
    ] {
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = Config::parse(file, None, &flags, &Outside { env: &env, names: &Vec::new, client: ClientRules::NONE }).unwrap();
        assert_eq!(config.server.http.port(), port);
        assert_eq!(config.origins.get("server.http").unwrap().from.to_string(), from);
        assert_eq!(config.origins.get("limits.memory").unwrap().from.to_string(), "line 4");
    }
}

fn with_variables(variables: &[(&str, &str)]) -> Result<Config, ConfigProblems> {
    let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::parse("", None, &Flags::default(), &Outside { env: &env, names: &Vec::new, client: ClientRules::NONE })
}

#[test]
fn variables_of_beava_mean_what_they_say() {
    let config = with_variables(&[
        ("BEAVA_LISTEN_ADDR", "127.0.0.1:0"),
        ("BEAVA_ADMIN_ADDR", "127.0.0.1:0"),
        ("BEAVA_TCP_PORT", "0"),
        ("BEAVA_TEST_MODE", "1"),
        ("BEAVA_MEMORY_GOV_ENFORCE", "0"),
        ("BEAVA_WAL_SYNC_MODE", "per_event"),
        ("BEAVA_SNAPSHOT_INTERVAL_MS", "60000"),
        ("BEAVA_SNAPSHOT_RETAIN_COUNT", "3"),
        ("BEAVA_WAL_FSYNC_BYTES", "0"),
        ("BEAVA_WAL_TICK_MS", "20"),
        ("BEAVA_TCP_MAX_FRAME_BYTES", "1048576"),
        ("BEAVA_IO_THREADS", "2"),
        ("BEAVA_DEV_ENDPOINTS", "1"),
        ("RUST_LOG", "debug"),
    ])
    .unwrap();
    assert_eq!((config.server.http.port(), config.server.tcp.unwrap().port(), config.server.admin.port()), (0, 0, 0));
    assert!(config.test_mode && !config.compat.lifetime_bound);
    assert_eq!(config.durability.push, PushLevel::Synced);
    assert_eq!(config.durability.snapshot_every.as_secs(), 60);
    assert_eq!(config.durability.snapshot_keep, 3);
    assert_eq!(config.durability.sync_every.as_millis(), 20);
    assert_eq!(config.limits.frame_bytes, 1 << 20);
    assert_eq!(config.server.io_threads, 2);
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.warnings.warnings, []);
    assert_eq!(with_variables(&[("BEAVA_TCP_ENABLED", "false")]).unwrap().server.tcp, None);
    assert!(!with_variables(&[("BEAVA_TEST_MODE", "true")]).unwrap().test_mode);
    assert_eq!(with_variables(&[("BEAVA_WAL_BUFFERS", "4")]).unwrap().warnings.warnings.len(), 1);
    let problems = with_variables(&[("BEAVA_TCP_PORT", "99999"), ("STREAMGAUGE_LIMITS_MEMORY", "1")]).unwrap_err();
    assert_eq!(problems.problems.len(), 2, "{problems}");
}

#[test]
fn two_folders_of_beava_become_one_data_folder() {
    for (wal, snapshots, folder, warnings) in [
        ("/x/wal", "/x/snapshots", "/x", 0),
        ("/x/wal", "/x/snap", "/x", 0),
        ("/tmp/wal-a", "/tmp/snap-b", "/tmp/wal-a", 1),
        ("/x/wal", "/y/snapshots", "/x/wal", 1),
        ("/x/wal", "", "/x/wal", 0),
        ("", "/x/snapshots", "/x/snapshots", 0),
    ] {
        let config = with_variables(&[("BEAVA_WAL_DIR", wal), ("BEAVA_SNAPSHOT_DIR", snapshots)]).unwrap();
        assert_eq!((config.server.data_dir.to_str().unwrap(), config.warnings.warnings.len()), (folder, warnings));
    }
}

#[test]
fn offline_no_secret_is_asked_for() {
    let outside = Outside { env: &|_| None, names: &Vec::new, client: ClientRules::NONE };
    assert!(Config::parse(SAMPLE, None, &Flags::default(), &outside).is_err());
    let config = Config::parse(SAMPLE, None, &Flags { offline: true, ..Flags::default() }, &outside).unwrap();
    assert_eq!(config.kafka[0].sasl.as_ref().unwrap().password.reveal(), "");
}

#[test]
fn listeners_leave_loopback_only_when_told_to() {
    let text = "[server]\nhttp = \"0.0.0.0:8080\"\n";
    assert_eq!(told(text), [(Code::UnsafeListenAddress, 2, 8)]);
    let outside = Outside { env: &|_| None, names: &Vec::new, client: ClientRules::NONE };
    assert!(Config::parse(text, None, &Flags { insecure_no_auth: true, ..Flags::default() }, &outside).is_ok());
}

#[test]
fn time_of_events_with_a_kafka_source_is_the_records() {
    use crate::row::TimeSource;
    let config = parse(SAMPLE).unwrap();
    let time = |event: &str| config.registry().event(event).unwrap().schema.time;
    assert_eq!(time("Click"), TimeSource::Record);
    assert!(matches!(time("Payment"), TimeSource::Field(_)));
    assert_eq!(parse(EVENT).unwrap().registry().event("E").unwrap().schema.time, TimeSource::Arrival);
}

#[test]
fn the_payload_registers_what_the_file_declares() {
    let config = parse(SAMPLE).unwrap();
    let options = RegisterOptions { origin: crate::pipeline::Origin::Config, ..RegisterOptions::default() };
    let registered = Registry::default().apply_register(&config.register_payload(), &options).unwrap().next.unwrap();
    assert_eq!(*registered, **config.registry());
}

#[test]
fn additions_go_through_and_losses_need_to_be_allowed() {
    let stored = config_change(&Registry::default(), &[], &parse(SAMPLE).unwrap(), &[]).unwrap().unwrap().next.unwrap();
    let without_clicks = {
        let (head, rest) = SAMPLE.split_once("[events.Click]").unwrap();
        let head = head.to_owned();
        let payments = rest.split_once("[sources.payments]").unwrap().1.split_once("[sources.clicks]").unwrap().0;
        let tables = rest.split_once("[tables.card_stats]").unwrap().1;
        format!("{head}[sources.payments]{payments}[tables.card_stats]{tables}")
    };
    let changed = |from: &str, to: &str| SAMPLE.replace(from, to);
    for (text, rebuild, changes, losses) in [
        (SAMPLE.to_owned(), vec![], Some(false), vec![]),
        (format!("{SAMPLE}more = {{ op = \"count\", window = \"7d\" }}\n"), vec![], Some(true), vec![]),
        (changed("op = \"count\", window = \"1h\"", "op = \"count\", window = \"2h\""), vec![], None, vec!["--rebuild card_stats.n_1h"]),
        (changed("op = \"count\", window = \"1h\"", "op = \"count\", window = \"2h\""), vec!["card_stats.n_1h"], Some(true), vec![]),
        (changed("op = \"count\", window = \"1h\"", "op = \"count\", window = \"1h\", resolution = 64"), vec![], Some(false), vec![]),
        (
            changed("op = \"count\", window = \"1h\"", "op = \"count\", window = \"1h\", resolution = 128"),
            vec![],
            None,
            vec!["--rebuild card_stats.n_1h"],
        ),
        (
            changed("key   = [\"card\"]", "key   = [\"id\"]"),
            vec!["card_stats.n_1h"],
            None,
            vec!["--rebuild card_stats.n_1h", "--rebuild card_stats"],
        ),
        (changed("key   = [\"card\"]", "key   = [\"id\"]"), vec!["card_stats"], Some(true), vec![]),
        (without_clicks.clone(), vec![], None, vec!["--rebuild Click"]),
        (without_clicks, vec!["Click"], Some(true), vec![]),
    ] {
        let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let rebuild: Vec<String> = rebuild.into_iter().map(str::to_owned).collect();
        match (config_change(&stored, &[], &config, &rebuild), changes) {
            (Ok(outcome), Some(changes)) => assert_eq!(outcome.is_some(), changes, "{text}"),
            (Err(refused), None) => {
                assert_eq!(refused.error.code, Code::ConfigChangeDestructive);
                assert_eq!(refused.allow, losses, "{refused}");
            }
            (found, _) => panic!("{found:?}\n{text}"),
        }
    }
}

#[test]
fn a_rebuild_of_something_that_is_not_there_is_refused_with_the_nearest_name() {
    let more = format!("{SAMPLE}more = {{ op = \"count\", window = \"7d\" }}\n");
    let narrower = SAMPLE.replace("op = \"count\", window = \"1h\"", "op = \"count\", window = \"2h\"");
    for (after, name, hint) in [
        (&more, "card_stat", "did you mean --rebuild card_stats?"),
        (&narrower, "card_stats.n_1", "did you mean --rebuild card_stats.n_1h?"),
        (&more, "Clck", "did you mean --rebuild Click?"),
        (&more, "nosuch", "leave it out: what it names is gone; or name a table (T)"),
    ] {
        let (reason, said) = change_told(SAMPLE, after, false, &[name]).unwrap_err();
        assert_eq!(reason, format!("--rebuild {name} names no table, feature, event or field"));
        assert!(said.starts_with(hint), "{said}");
    }
    assert_eq!(change_told(SAMPLE, &more, false, &["card_stats", "Click", "Payment.amount"]).map(|told| told.len()), Ok(1));
    // It did its work at an earlier start.
    assert_eq!(change_told(SAMPLE, SAMPLE, false, &["nosuch"]), Ok(Vec::new()));
}

/// Of a renamed table `--rebuild cards.n_1h` was told, which then named nothing.
#[test]
fn what_a_refused_file_says_to_type_is_taken_also_where_a_table_is_renamed() {
    let stored = config_change(&Registry::default(), &[], &parse(SAMPLE).unwrap(), &[]).unwrap().unwrap().next.unwrap();
    let renamed = SAMPLE
        .replace("[tables.card_stats]", "[tables.cards]\nrenamed_from = \"card_stats\"")
        .replace("[tables.card_stats.", "[tables.cards.");
    let feature = |text: &str, with: &str| {
        let lines = text.lines().map(|line| if line.starts_with("n_1h") { with } else { line });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    for text in [
        feature(&renamed, ""),
        feature(&renamed, "m_1h = { op = \"count\", window = \"1h\" }"),
        feature(&renamed, "n_1h = { op = \"count\", window = \"2h\" }"),
        renamed.replace("key   = [\"card\"]", "key   = [\"id\"]"),
        feature(SAMPLE, ""),
    ] {
        let config = parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let refused = config_change(&stored, &[], &config, &[]).unwrap_err();
        let typed: Vec<String> = refused.allow.iter().map(|flag| flag.trim_start_matches("--rebuild ").to_owned()).collect();
        assert!(!typed.is_empty(), "{refused}");
        let outcome = config_change(&stored, &[], &config, &typed).unwrap_or_else(|again| panic!("{typed:?}: {again}"));
        assert!(outcome.is_some(), "{text}");
    }
}

#[test]
fn other_topics_of_a_source_and_another_tombstone_are_told() {
    let told = |from: &str, to: &str| {
        assert!(SAMPLE.contains(from), "{from}");
        change_told(SAMPLE, &SAMPLE.replace(from, to), false, &[]).unwrap()
    };
    let topic = told("topic   = \"payments\"", "topic = \"payments-2\"");
    assert!(topic.len() == 1 && topic[0].starts_with("source payments of Payment reads payments-2 instead of payments: "), "{topic:?}");
    let tombstone = told("[sources.payments]\n", "[sources.payments]\ntombstone = \"ignore\"\n");
    assert!(
        tombstone.len() == 1 && tombstone[0].ends_with("a record without a value means nothing; those before keep what they did"),
        "{tombstone:?}"
    );
}

#[test]
fn a_unit_of_the_source_that_contradicts_the_events_is_found() {
    for (time, unit, found) in [("s", "ms", true), ("ms", "us", true), ("s", "s", false), ("us", "us", false)] {
        let text = SAMPLE
            .replace("time   = { field = \"ts\" }", &format!("time = {{ field = \"ts\", unit = {time:?} }}"))
            .replace("[sources.payments.kafka]", &format!("fields = {{ ts = {{ unit = {unit:?} }} }}\n[sources.payments.kafka]"));
        match parse(&text) {
            Ok(_) => assert!(!found, "{time} {unit}"),
            Err(problems) => {
                let told = problems.to_string();
                assert!(
                    found && told.contains("events.Payment.time says") && told.contains(unit) && told.contains(time),
                    "{time} {unit}: {told}"
                );
            }
        }
    }
}

/// Another mode, delimiter or `from` passed in silence, and swapped columns as if nothing had moved.
#[test]
fn whatever_a_source_reads_its_records_by_is_told_when_it_changes_and_refused_where_values_would_mix() {
    let config = |source: &str, fields: &str| {
        format!(
            "config_version = 1\n[events.E]\nfields = {{ k = \"str\", v = \"f64?\", at = \"datetime?\" }}\n\
             [sources.s]\nevent = \"E\"\n{source}\nfields = {{ {fields} }}\nkafka = {{ brokers = [\"b:9092\"], topic = \"t\" }}\n\
             [tables.T]\nfrom = \"E\"\nkey = [\"k\"]\n[tables.T.features]\nv = {{ op = \"last\", field = \"v\" }}\nat = {{ op = \"last\", field = \"at\" }}\n"
        )
    };
    let csv = "format = \"csv\"\ncsv = { columns = [\"k\", \"v\", \"at\"] }";
    let told = |before: (&str, &str), after: (&str, &str)| {
        let told = change_told(&config(before.0, before.1), &config(after.0, after.1), false, &[]);
        assert!(change_told(&config(after.0, after.1), &config(after.0, after.1), false, &[]).unwrap().is_empty());
        told
    };
    for (before, after, line) in [
        (
            ("format = \"debezium\"", ""),
            ("format = \"debezium\"\nmode = \"latest\"", ""),
            r#"mode = "latest" instead of "changes": from now on a delete forgets its key"#,
        ),
        (("", ""), ("format = \"msgpack\"", ""), r#"format = "msgpack" instead of "json""#),
        (("", ""), ("framing = \"confluent\"", ""), r#"framing = "confluent" instead of "none""#),
        (("", ""), ("", r#"v = { from = "text" }"#), r#"fields.v.from = "text", which it had not before"#),
        (("", r#"v = { from = "any" }"#), ("", r#"v = { from = "text" }"#), r#"fields.v.from = "text" instead of "any""#),
        (("", r#"v = { on_bad_field = "null" }"#), ("", ""), r#"has no fields.v.on_bad_field any more, which was "null""#),
        (
            (csv, ""),
            ("format = \"csv\"\ncsv = { columns = [\"k\", \"v\", \"at\"], delimiter = \";\" }", ""),
            r#"csv.delimiter = ";" instead of ",""#,
        ),
        (
            (csv, ""),
            ("format = \"csv\"\ncsv = { columns = [\"n\", \"k\", \"v\", \"at\"] }", ""),
            r#"csv.columns = ["n","k","v","at"] instead of ["k","v","at"]"#,
        ),
        (
            ("key_format = \"avro\"\nregistry = { url = [\"http://r\"] }", r#"k = "key:a""#),
            ("key_format = \"json\"", r#"k = "key:a""#),
            r#"key_format = "json" instead of "avro""#,
        ),
    ] {
        let lines = told(before, after).unwrap_or_else(|refused| panic!("{line}: {refused:?}"));
        assert!(lines.iter().any(|told| told.contains(line)), "{line}: {lines:?}");
    }
    for (before, after, line) in [
        (
            (csv, ""),
            ("format = \"csv\"\ncsv = { columns = [\"k\", \"at\", \"v\"] }", ""),
            "source s takes it from column 3 of 3, and took it from column 2 of 3 before",
        ),
        (("", ""), ("", r#"at = { unit = "s" }"#), "takes it from at (unit s)"),
        (
            ("", r#"at = { zone = "+01:00" }"#),
            ("", r#"at = { zone = "+02:00" }"#),
            "takes it from at (zone +02), and took it from at (zone +01) before",
        ),
        (
            ("", r#"k = "key""#),
            ("key_format = \"integer\"", r#"k = { path = "key", from = "any" }"#),
            "takes it from key (an integer), and took it from key before",
        ),
    ] {
        let (reason, hint) = told(before, after).unwrap_err();
        assert!(reason.contains(line) && hint.contains("--rebuild"), "{line}: {reason} {hint}");
    }
}

/// What a changed file comes to, or the reason and the hint of its refusal.
fn change_of(
    stored: &Registry,
    unfed: &[EventId],
    config: &Config,
    rebuild: &[String],
) -> Result<Option<RegisterOutcome>, (String, String)> {
    config_change(stored, unfed, config, rebuild).map_err(|refused| (refused.error.reason, refused.error.hint.unwrap_or_default()))
}

/// What a changed file says: the reason and the hint of a refusal, or all that it changes.
fn change_told(before: &str, after: &str, unfed: bool, rebuild: &[&str]) -> Result<Vec<String>, (String, String)> {
    let (before, after) = (parse(before).unwrap(), parse(after).unwrap());
    let stored = config_change(&Registry::default(), &[], &before, &[]).unwrap().unwrap().next.unwrap();
    let unfed: Vec<_> = stored.events.values().filter(|_| unfed).map(|event| event.schema.id).collect();
    let rebuild: Vec<String> = rebuild.iter().map(|&name| name.to_owned()).collect();
    match config_change(&stored, &unfed, &after, &rebuild) {
        Ok(outcome) => Ok(outcome.map(|outcome| outcome.all_told()).unwrap_or_default()),
        Err(refused) => Err((refused.error.reason, refused.error.hint.unwrap())),
    }
}

/// `table null: null changes from card_stats to cards`, it once said, and to type `--rebuild null`.
#[test]
fn a_changed_file_is_told_in_names_with_what_is_lost_and_what_to_type() {
    let changed = |from: &str, to: &str| {
        assert!(SAMPLE.contains(from), "{from}");
        SAMPLE.replace(from, to)
    };
    let renamed = |more: &str| {
        let text = changed("[tables.card_stats]\n", &format!("[tables.cards]\n{more}"));
        text.replace("[tables.card_stats.features]", "[tables.cards.features]")
    };
    let count = "n_1h      = { op = \"count\", window = \"1h\" }";
    let one = "1 change of the config file would lose state: ";
    for (after, reason, hint) in [
        (
            renamed(""),
            format!("{one}card_stats is no longer declared, and cards is declared alike: all its keys go"),
            "undo the change; renamed_from = \"card_stats\" in [tables.cards] keeps its state; or allow it: --rebuild card_stats",
        ),
        (
            renamed("").replace("window = \"24h\"", "window = \"2h\""),
            format!("{one}card_stats is no longer declared, and cards is much like it: all its keys go"),
            "undo the change; renamed_from = \"card_stats\" in [tables.cards] keeps its state; or allow it: --rebuild card_stats",
        ),
        (
            renamed("").replace("key   = [\"card\"]", "key   = [\"id\"]"),
            format!("{one}card_stats is no longer declared: all its keys go"),
            "undo the change; or allow it: --rebuild card_stats",
        ),
        (
            changed("where = \"amount > 0\"\n", ""),
            format!("{one}card_stats loses its step filter[0]: all its keys start again"),
            "undo the change; or allow it: --rebuild card_stats",
        ),
        (
            changed("amount > 0", "amount > 1"),
            format!(
                "{one}card_stats: its filter[0] changes from {{\"expr\":\"amount > 0\",\"op\":\"filter\"}} to \
                 {{\"expr\":\"amount > 1\",\"op\":\"filter\"}}: all its keys start again"
            ),
            "undo the change; or allow it: --rebuild card_stats",
        ),
        (
            changed("key   = [\"card\"]", "key   = [\"card\", \"id\"]"),
            format!("{one}table card_stats: its key changes from card to card, id: all its keys start again"),
            "undo the change; or allow it: --rebuild card_stats",
        ),
        (
            changed(count, ""),
            format!("{one}feature card_stats.n_1h is no longer declared"),
            "undo the change; or allow it: --rebuild card_stats.n_1h",
        ),
        (
            changed(count, "n_1h = { op = \"count\", window = \"1h\", where = \"amount > 9\" }"),
            format!("{one}feature card_stats.n_1h gets where = amount > 9; it starts again"),
            "undo the change; or allow it: --rebuild card_stats.n_1h",
        ),
        (
            changed(count, "n_1h = { op = \"count\" }"),
            format!("{one}feature card_stats.n_1h: its window changes from 1h to forever; it starts again"),
            "undo the change; or allow it: --rebuild card_stats.n_1h",
        ),
        (
            changed(count, "n_1h = { op = \"count\", window = \"1h\", resolution = 128 }"),
            format!("{one}feature card_stats.n_1h: its resolution changes from 64 to 128; it starts again"),
            "undo the change; or allow it: --rebuild card_stats.n_1h",
        ),
        (
            changed("country = \"str?\"", "country = \"i64?\""),
            format!("{one}field Payment.country changes from str to i64: feature card_stats.countries starts again"),
            "undo the change; or allow it: --rebuild Payment.country",
        ),
        (
            changed("amount = \"f64\"", "amount = \"i64\""),
            format!("{one}field Payment.amount changes from f64 to i64: table card_stats starts again"),
            "undo the change; or allow it: --rebuild Payment.amount",
        ),
        (
            changed("[sources.payments.kafka]", "fields = { country = \"header:country\" }\n[sources.payments.kafka]"),
            format!(
                "{one}field Payment.country: source payments takes it from header:country, and took it from country before: \
                 feature card_stats.countries starts again"
            ),
            "undo the change; or allow it: --rebuild Payment.country",
        ),
        (
            changed("[sources.payments.kafka]", "fields = { country = \"geo.country\" }\n[sources.payments.kafka]"),
            format!(
                "{one}field Payment.country: source payments takes it from geo.country, and took it from country before: \
                 feature card_stats.countries starts again"
            ),
            "undo the change; fields.country = [\"geo.country\", \"country\"] in [sources.payments] says that both hold the same value; \
             or allow it: --rebuild Payment.country",
        ),
        (
            changed("time   = { field = \"ts\" }", "time   = { field = \"ts\", unit = \"s\" }"),
            format!(
                "{one}event Payment: its time changes from {{\"field\":\"ts\"}} to {{\"field\":\"ts\",\"unit\":\"s\"}}: \
                 table card_stats starts again"
            ),
            "undo the change; or allow it: --rebuild Payment",
        ),
        (
            changed("[sources.payments.kafka]", "fields = { country = { from = \"base64\" } }\n[sources.payments.kafka]"),
            format!(
                "{one}field Payment.country: source payments takes it from country (base64), and took it from country before: \
                 feature card_stats.countries starts again"
            ),
            "undo the change; or allow it: --rebuild Payment.country",
        ),
    ] {
        let found = change_told(SAMPLE, &after, false, &[]);
        assert_eq!(found, Err((reason, hint.to_owned())), "{after}");
        // What it says to type is what lets it through, and nothing else is lost then.
        let (_, allowed) = hint.rsplit_once("--rebuild ").unwrap();
        assert!(change_told(SAMPLE, &after, false, &[allowed]).is_ok(), "{hint}");
        assert!(change_told(SAMPLE, &after, true, &[]).is_ok(), "an event without rows loses nothing: {after}");
    }
    for (after, told) in [
        (renamed("renamed_from = \"card_stats\"\n"), vec!["card_stats is cards now"]),
        (changed("id = \"str\"", "id = \"i64\""), vec!["field Payment.id changes from str to i64"]),
        (
            changed("[sources.payments.kafka]", "fields = { country = [\"geo.country\", \"country\"] }\n[sources.payments.kafka]"),
            vec!["field Payment.country: source payments takes it from geo.country or country, and took it from country before"],
        ),
        (
            changed("user = \"customer.id\"", "user = \"client.id\""),
            vec!["field Click.user: source clicks takes it from client.id, and took it from customer.id before"],
        ),
        (
            changed("time   = { field = \"ts\" }", "time   = { field = \"ts\", unit = \"ms\" }"),
            vec!["event Payment: its time changes from {\"field\":\"ts\"} to {\"field\":\"ts\",\"unit\":\"ms\"}"],
        ),
        // What is taken besides changes nothing that was taken.
        (
            changed("[sources.payments.kafka]", "fields = { amount = { from = \"any\" } }\n[sources.payments.kafka]"),
            vec![
                "source payments of Payment has fields.amount.from = \"any\", which it had not before: records are read so from now on; \
                 those before keep what they did",
            ],
        ),
        (changed("[sources.clicks", "[sources.website"), vec![]),
    ] {
        assert_eq!(change_told(SAMPLE, &after, false, &[]), Ok(told.into_iter().map(str::to_owned).collect()), "{after}");
    }
}

#[test]
fn how_a_field_is_written_is_checked_where_it_stands() {
    use Code::{InvalidConfigValue, UnknownConfigKey};
    let source = |said: &str| {
        format!(
            "config_version = 1\n[events.E]\nfields = {{ a = \"f64?\", t = \"datetime\" }}\n[sources.s]\nevent = \"E\"\nfields = {{\n{said}\n}}\n\
             [sources.s.kafka]\nbrokers = [\"h:1\"]\ntopic = \"t\"\n"
        )
    };
    for (said, expected) in [
        ("a = { path = \"x.y\", from = \"any\", on_bad_field = \"null\" }, t = { unit = \"s\", zone = \"Europe/Berlin\" }", vec![]),
        ("a = { path = [\"x\", \"y\"], from = \"base64\", scale = 2 }, t = { path = \"header:t\", zone = \"+05:30\" }", vec![]),
        ("a = { from = \"words\" }", vec![(InvalidConfigValue, 7, 14)]),
        ("a = { form = \"any\" }", vec![(UnknownConfigKey, 7, 7)]),
        ("a = { unit = \"s\" }", vec![(InvalidConfigValue, 7, 5)]),
        ("a = { path = \"\" }", vec![(InvalidConfigValue, 7, 14)]),
        ("t = { unit = \"seconds\" }", vec![(InvalidConfigValue, 7, 14)]),
        ("t = { zone = \"Europe/Berlni\" }", vec![(InvalidConfigValue, 7, 14)]),
        ("t = { on_bad_field = \"null\" }", vec![(InvalidConfigValue, 7, 5)]),
        ("a = { from = \"base64\", scale = -1001 }", vec![(InvalidConfigValue, 7, 32)]),
    ] {
        assert_eq!(told(&source(said)), expected, "{said}");
    }
}

/// Additive operators over rows that are replaced would count each state of a row.
#[test]
fn the_latest_state_of_a_row_is_not_added_up() {
    let file = |mode: &str, op: &str| {
        format!(
            "config_version = 1\n[events.E]\nfields = {{ id = \"str\", n = \"i64?\" }}\n[sources.s]\nevent = \"E\"\nformat = \"debezium\"\nmode = \"{mode}\"\n\
             fields = {{ id = \"key\" }}\n[sources.s.kafka]\nbrokers = [\"h:1\"]\ntopic = \"t\"\n\
             [tables.T]\nfrom = \"E\"\nkey = [\"id\"]\nfeatures = {{ f = {{ op = \"{op}\", field = \"n\" }} }}\n"
        )
    };
    assert_eq!(told(&file("latest", "last")), vec![]);
    assert_eq!(told(&file("changes", "sum")), vec![]);
    assert_eq!(told(&file("latest", "sum")), vec![(Code::InvalidConfigValue, 7, 8)]);
    assert_eq!(told(&file("newest", "last")), vec![(Code::InvalidConfigValue, 7, 8)]);
}

#[test]
fn a_former_name_is_checked_where_it_stands() {
    let table = |name: &str, former: &str| {
        format!("[tables.{name}]\nfrom = \"E\"\nkey = [\"a\"]\nrenamed_from = {former}\nfeatures = {{ n = {{ op = \"count\" }} }}\n")
    };
    use Code::{InvalidConfigValue, UnknownConfigKey};
    for (text, expected) in [
        (table("T", "\"S\""), vec![]),
        (table("T", "\"T\""), vec![(InvalidConfigValue, 6, 16)]),
        (table("T", "\"no name\""), vec![(InvalidConfigValue, 6, 16)]),
        (table("T", "3"), vec![(InvalidConfigValue, 6, 16)]),
        (format!("{}{}", table("S", "\"T\""), table("T", "\"S\"")), vec![(InvalidConfigValue, 6, 16)]),
        (table("T", "\"S\"").replace("renamed_from", "rename_from"), vec![(UnknownConfigKey, 6, 1)]),
    ] {
        assert_eq!(told(&format!("{EVENT}{text}")), expected, "{text}");
    }
}

#[test]
fn tables_have_a_price() {
    let prices = parse(SAMPLE).unwrap().prices(|_| (64, 4096));
    assert_eq!(prices.iter().map(|price| (&*price.table, price.small_keys_max)).collect::<Vec<_>>(), [("card_stats", 1 << 26)]);
}

/// The key tables of a sample: names that the user does not choose.
fn keys_of(text: &str) -> Vec<(std::ops::Range<usize>, String)> {
    fn collect(node: &document::Node, pattern: &str, keys: &mut Vec<(std::ops::Range<usize>, String)>) {
        for member in node.members().unwrap_or_default() {
            let (inner, found) = key::find(pattern, &member.key).unwrap();
            let chosen = inner.ends_with('*');
            if !chosen && !keys.iter().any(|(span, _)| *span == member.key_span) {
                keys.push((member.key_span.clone(), member.key.clone()));
            }
            match found {
                key::Found::Section => collect(&member.node, &inner, keys),
                key::Found::Leaf(key) => match key.form {
                    value::Form::Features => {
                        for feature in member.node.members().unwrap() {
                            keys.extend(feature.node.members().unwrap().iter().map(|param| (param.key_span.clone(), param.key.clone())));
                        }
                    }
                    value::Form::Secret | value::Form::Time => {
                        keys.extend(member.node.members().into_iter().flatten().map(|part| (part.key_span.clone(), part.key.clone())));
                    }
                    _ => {}
                },
            }
        }
    }
    let mut keys = Vec::new();
    collect(&document::parse(text).0, "", &mut keys);
    keys
}

#[test]
fn typos_of_one_letter_are_told_the_right_key() {
    let keys = keys_of(SAMPLE);
    let mut random: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).unwrap()
    };
    let (mut tried, mut right, mut missed) = (0, 0, Vec::new());
    while tried < 200 {
        let (span, name) = keys[next(keys.len())].clone();
        let at = next(name.len());
        let letter = char::from(b'a' + u8::try_from(next(26)).unwrap());
        let mut typo = name.clone();
        match next(4) {
            0 if name.len() > 2 => drop(typo.remove(at)),
            1 if name.len() > 2 && at + 1 < name.len() => {
                let taken = typo.remove(at);
                typo.insert(at + 1, taken);
            }
            2 => typo.insert(at, letter),
            _ => typo.replace_range(at..=at, &letter.to_string()),
        }
        if typo == name || keys.iter().any(|(_, known)| *known == typo) {
            continue;
        }
        let mut text = SAMPLE.to_owned();
        text.replace_range(span, &typo);
        let Err(problems) = parse(&text) else { continue };
        tried += 1;
        let named = problems.problems.iter().any(|problem| problem.help.as_deref().is_some_and(|help| help.contains(&format!("`{name}`"))));
        if named {
            right += 1;
        } else {
            missed.push(format!("{name} -> {typo}: {problems}"));
        }
    }
    assert!(right * 100 >= tried * 95, "{right} of {tried}\n{}", missed.join("\n"));
}

#[test]
fn problems_look_as_documented() {
    let text = SAMPLE.replace("window = \"24h\"", "widnow = \"24h\"").replace("amount > 0", "amount > '0'");
    let problems = parse(&text).unwrap_err();
    let drawn = "\
error[expression_type_mismatch]: `where` of table card_stats compares f64 with str
    ╭─[streamgauge.toml:53:10]
 53 │ where = \"amount > '0'\"
    ·          ───┬──   ─┬─
    ·             │      ╰── str
    ·             ╰── f64
    ╰─ help: write 0 without quotes   (streamgauge errors expression_type_mismatch)

error[unknown_config_key]: unknown key `widnow`
    ╭─[streamgauge.toml:56:45]
 56 │ sum_24h   = { op = \"sum\", field = \"amount\", widnow = \"24h\" }
    ·                                             ───┬──
    ·                                                ╰── not a parameter of `sum`
    ╰─ help: did you mean `window`?   (streamgauge errors unknown_config_key)
";
    assert_eq!(problems.render_graphical(), drawn);
    let plain = "\
error[expression_type_mismatch]: `where` of table card_stats compares f64 with str
  at    streamgauge.toml:53:10
  help  write 0 without quotes   (streamgauge errors expression_type_mismatch)
error[unknown_config_key]: unknown key `widnow`
  at    streamgauge.toml:56:45
  help  did you mean `window`?   (streamgauge errors unknown_config_key)
";
    assert_eq!(problems.render(false), plain);
    let colored = problems.render(true);
    assert!(colored.contains('\u{1b}'));
    assert_eq!(without_escapes(&colored), drawn);
    let json = problems.to_json();
    assert_eq!(json["problems"][1]["code"], "unknown_config_key");
    assert_eq!((json["problems"][1]["line"].as_u64(), json["problems"][1]["column"].as_u64()), (Some(56), Some(45)));
    assert_eq!(problems.to_error().path, "streamgauge.toml:53:10");
}

fn without_escapes(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |shown, part| shown + part.split_once('m').unwrap().1)
}

#[test]
fn problems_over_several_lines_point_at_the_first_and_control_bytes_are_not_shown() {
    let text =
        format!("{EVENT}[tables.T]\nfrom = \"E\"\nkey = [\"a\"]\nfeatures = {{\n  n = {{ window = \"1h\",\n  }},\n}}\n[\"x\\u001b\"]\n");
    let problems = parse(&text).unwrap_err();
    let drawn = problems.render_graphical();
    assert!(!drawn.contains('\u{1b}') && !problems.render(false).contains('\u{1b}'), "{drawn:?}");
    assert!(drawn.contains("  7 │   n = { window") || drawn.contains(" 7 │   n = { window"), "{drawn}");
    assert!(!drawn.contains("8 │"), "{drawn}");
}

#[test]
fn shipped_configs_load_offline() {
    let outside = Outside { env: &|_| None, names: &Vec::new, client: ClientRules::NONE };
    for name in ["streamgauge.toml", "demo.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let config = Config::load(Some(&path), &Flags { offline: true, ..Flags::default() }, &outside);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.warnings.is_empty());
        assert!(!config.registry().tables.is_empty());
    }
}

fn shipped(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::fs::read_to_string(&file).unwrap_or_default() != expected {
        let copy = std::env::temp_dir().join(file.file_name().unwrap());
        std::fs::write(&copy, expected).unwrap();
        panic!("{path} is not what the code says; compare it with {}", copy.display());
    }
}

#[test]
fn the_schema_is_what_the_code_reads() {
    shipped("schemas/streamgauge.schema.json", &format!("{:#}\n", json_schema()));
}

#[test]
fn docs_list_every_key() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md")).unwrap_or_default();
    let head = docs.split("| key | value |").next().unwrap_or_default();
    shipped("docs/CONFIG.md", &format!("{head}{}", reference_table()));
}

#[test]
fn the_shipped_sample_shows_every_key_that_works() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/streamgauge.toml")).unwrap();
    for key in key::KEYS.iter().filter(|key| key.form != value::Form::NotAvailable) {
        let name = key.path.rsplit('.').next().unwrap();
        assert!(text.contains(name), "{} is not shown", key.path);
    }
}

#[test]
fn a_wrong_event_does_not_hide_what_is_wrong_with_its_tables() {
    let text = r#"config_version = 1
[events.Txn]
time = "recorded"
fields = { user = "str", amount = "flaot", n = 5 }
[tables.users]
from = "Txn"
key = ["user"]
[tables.users.features]
total = { op = "sum", field = "amount" }
sum_n = { op = "sum", field = "n" }
wrong = { op = "cuont" }
lost  = { op = "sum", field = "amuont" }
"#;
    let wrong = |needle: &str| text.lines().position(|line| line.contains(needle)).map(|line| line + 1).unwrap();
    let mut lines: Vec<usize> = told(text).into_iter().map(|(_, line, _)| line).collect();
    lines.sort_unstable();
    // The line of the fields has two faults; what follows from them in the tables is not told.
    assert_eq!(lines, [wrong("recorded"), wrong("flaot"), wrong("flaot"), wrong("cuont"), wrong("amuont")]);
}

/// The first problem's message with its help; none when the text is accepted.
fn refused(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let outside = Outside { env, names: &Vec::new, client: ClientRules::NONE };
    let problems = Config::parse(text, None, &Flags::default(), &outside).err()?;
    let problem = &problems.problems[0];
    Some(format!("{}; {}", problem.message, problem.help.as_deref().unwrap_or_default()))
}

#[test]
fn what_can_never_be_meant_is_found_before_it_runs() {
    let source = |rest: &str| format!("{EVENT}{SOURCE}{rest}");
    let table = |feature: &str| format!("{EVENT}[tables.T]\nfrom = \"E\"\nkey = [\"a\"]\nfeatures = {{ f = {feature} }}\n");
    let delete = |fields: &str| {
        let source = SOURCE.replace("event", &format!("tombstone = \"delete_key\"\n{fields}event"));
        format!("{}{source}", table("{ op = \"count\" }"))
    };
    for (text, parts) in [
        (table("{ op = \"sum\", field = \"a\" }"), vec!["takes numbers, and field \"a\" is str", "i64 or f64"]),
        (table("{ op = \"std\", field = \"a\", window = \"1h\" }"), vec!["takes numbers"]),
        (table("{ op = \"quantile\", field = \"t\", window = \"1h\" }"), vec!["field \"t\" is datetime", "as i64"]),
        (table("{ op = \"var\", expr = \"a\" }"), vec!["its expression is str"]),
        (table("{ op = \"mean\", expr = \"n > 1\" }"), vec!["is bool", "count rows"]),
        (delete(""), vec!["deletes nothing", "no field comes from the record's key", "add fields = { a = \"key\" }"]),
        (delete("fields = { n = \"offset\" }\n"), vec!["no field comes from the record's key"]),
        (delete("fields = { n = \"key\" }\n"), vec!["every table of E (T)", "comes from the body"]),
        (delete("fields = { a = \"key\" }\n").replace("key = [\"a\"]", "key = []"), vec!["every table of E (T)", "or no key"]),
        (
            EVENT.replace("fields", "on_bad_record = \"drop\"\nfields"),
            vec!["`on_bad_record`", "\"dlq\", \"skip\" or \"stop\" is wanted", "did you mean `skip`? A record", "is only counted"],
        ),
        (EVENT.replace("fields", "on_bad_record = \"sikp\"\nfields"), vec!["\"skip\" or \"stop\" is wanted", "did you mean `skip`?"]),
        (EVENT.replace("fields", "on_bad_record = \"other\"\nfields"), vec!["is wanted", "the local reject log"]),
        (source("start = 1700000000\n"), vec!["looks like seconds", "\"2023-11-14T22:13:20Z\" or 1700000000000"]),
        (source("start = 1700000000000000\n"), vec!["looks like microseconds", "1700000000000"]),
        (source("start = 1700000000000000000\n"), vec!["looks like nanoseconds", "1700000000000"]),
        (source("start = 7\n"), vec!["1970-01-01T00:00:00.007Z", "write a time"]),
        (source("start = -1\n"), vec!["is wanted"]),
        (source("start = \"1700000000\"\n"), vec!["is wanted"]),
        (source("group_id = \"${GROUP}\"\n"), vec!["`${GROUP}` is taken as it stands", "{ env = \"GROUP\" }"]),
        (format!("[server]\ndata_dir = \"${{HOME:-/tmp}}/x\"\n{EVENT}"), vec!["`${HOME}`"]),
        (
            format!("{EVENT}[tables.E]\nfrom = \"E\"\nkey = []\nfeatures = {{ n = {{ op = \"count\" }} }}\n"),
            vec!["event and table are both named `E`", "rename one"],
        ),
        (format!("[server]\ncors = [\"app.example\"]\n{EVENT}"), vec!["no origin", ""]),
        (format!("[server]\ncors = [\"https://app.example/x\"]\n{EVENT}"), vec!["more than an origin"]),
    ] {
        let told = refused(&text, &|_| None).unwrap_or_else(|| panic!("accepted:\n{text}"));
        for part in parts {
            assert!(told.contains(part), "{part:?} is not in {told:?}\n{text}");
        }
    }
    for text in [
        table("{ op = \"n_unique\", field = \"a\" }"),
        delete("fields = { a = \"key\" }\n"),
        source("start = 1700000000000\n"),
        source("start = 0\n"),
        table("{ op = \"count\", where = \"a == '${x}'\" }"),
        format!("[server]\ncors = \"https://a.example, http://localhost:3000\"\n{EVENT}"),
    ] {
        assert_eq!(refused(&text, &|_| None), None, "{text}");
    }
}

#[test]
fn places_may_stand_in_the_environment() {
    let env = |name: &str| {
        let value = match name {
            "BROKERS" => "b1:9092, b2:9092",
            "TOPIC" => "payments",
            "TOPICS" => "a,b",
            "REGISTRY" => "http://r:8081",
            "WRONG" => "r:8081",
            "USER" => "reader",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let kafka = |text: &str| format!("{EVENT}[sources.s]\nevent = \"E\"\n[sources.s.kafka]\n{text}");
    let read = |text: &str, offline: bool| {
        let flags = Flags { offline, ..Flags::default() };
        let outside = Outside { env: &env, names: &Vec::new, client: ClientRules::NONE };
        Config::parse(text, None, &flags, &outside).map(|config| config.kafka[0].clone())
    };
    let named = |names: &[&str]| TopicsSetup::Named(names.iter().map(|name| (*name).to_owned()).collect());
    for (text, brokers, topics) in [
        ("brokers = { env = \"BROKERS\" }\ntopic = { env = \"TOPIC\" }\n", vec!["b1:9092", "b2:9092"], named(&["payments"])),
        (
            "brokers = [\"b0:1\", { env = \"BROKERS\" }]\ntopics = { env = \"TOPICS\" }\n",
            vec!["b0:1", "b1:9092", "b2:9092"],
            named(&["a", "b"]),
        ),
        ("brokers = [\"b\"]\ntopic_regex = { env = \"TOPIC\" }\n", vec!["b"], TopicsSetup::Matching("payments".into())),
    ] {
        let found = read(&kafka(text), false).unwrap_or_else(|problems| panic!("{text}: {}", problems.render(false)));
        assert_eq!((found.brokers, found.topics), (brokers.into_iter().map(str::to_owned).collect(), topics), "{text}");
        assert!(read(&kafka(text), true).is_ok(), "offline: {text}");
    }
    let avro = |url: &str| {
        let text = kafka("brokers = [\"b\"]\ntopic = \"t\"\n").replace("event = ", "format = \"avro\"\nevent = ");
        format!("{text}[sources.s.registry]\nurl = {url}\nauth = {{ user = {{ env = \"USER\" }}, password = {{ env = \"USER\" }} }}\n")
    };
    let registry = read(&avro("{ env = \"REGISTRY\" }"), false).unwrap().registry.unwrap();
    assert_eq!(registry.urls, ["http://r:8081"]);
    assert!(matches!(registry.auth, Some(RegistryLogin::Basic { user, .. }) if user == "reader"));
    for (text, part) in [
        (avro("{ env = \"WRONG\" }"), "is no http:// or https://"),
        (kafka("brokers = { env = \"NOWHERE\" }\ntopic = \"t\"\n"), "environment variable NOWHERE is not set"),
        (kafka("brokers = { file = \"/x\" }\ntopic = \"t\"\n"), "{ env = \"NAME\" }"),
        (kafka("brokers = { env = 3 }\ntopic = \"t\"\n"), "the name of a variable"),
        (kafka("brokers = \"b:1\"\ntopic = \"t\"\n"), "an array of strings, or { env"),
        (kafka("brokers = [\"b:1\"]\ntopic = { evn = \"TOPIC\" }\n"), "{ env = \"NAME\" }"),
    ] {
        let told = refused(&text, &env).unwrap_or_else(|| panic!("accepted:\n{text}"));
        assert!(told.contains(part), "{told}\n{text}");
    }
}

/// A tombstone that reaches some tables was silent about the others.
#[test]
fn tables_that_a_tombstone_cannot_reach_are_told_one_by_one() {
    let table =
        |name: &str, key: &str| format!("[tables.{name}]\nfrom = \"E\"\nkey = [{key}]\nfeatures = {{ f = {{ op = \"count\" }} }}\n");
    let source = SOURCE.replace("event", "tombstone = \"delete_key\"\nfields = { a = \"key\" }\nevent");
    let tables = [table("Whole", "\"a\""), table("Half", "\"a\", \"t\""), table("Other", "\"t\""), table("All", "")].concat();
    let outside = Outside { env: &|_| None, names: &Vec::new, client: ClientRules::NONE };
    let config = Config::parse(&format!("{EVENT}{tables}{source}"), None, &Flags::default(), &outside).unwrap();
    let told: Vec<&str> = config.warnings.warnings.iter().map(|warning| warning.message.as_str()).collect();
    let parts = [("table All", "it has no key"), ("table Half", "its key column t comes from the body"), ("table Other", "key column t")];
    assert_eq!(told.len(), parts.len(), "{told:?}");
    for (table, why) in parts {
        assert!(told.iter().any(|told| told.contains(table) && told.contains(why)), "{table}: {why} in {told:?}");
    }
    assert!(config.warnings.warnings.iter().all(|warning| warning.place.is_some()), "{told:?}");
}

#[test]
fn variables_that_are_no_settings_are_told_with_the_nearest() {
    let names = || {
        let own = ["STREAMGAUGE_LIMITS_MEMROY", "STREAMGAUGE_SERVER_HTTP", "STREAMGAUGE_PASSWORD", "STREAMGAUGE_SERVICE_HOST", "HOME"];
        own.map(str::to_owned).to_vec()
    };
    let env = |_: &str| Some("127.0.0.1:0".to_owned());
    let outside = Outside { env: &env, names: &names, client: ClientRules::NONE };
    let sasl = "sasl = { mechanism = \"PLAIN\", user = \"u\", password = { env = \"STREAMGAUGE_PASSWORD\" } }\n";
    let only_http = |name: &str| (name == "STREAMGAUGE_SERVER_HTTP" || name == "STREAMGAUGE_PASSWORD").then(|| env(name)).flatten();
    let outside = Outside { env: &only_http, ..outside };
    let config = Config::parse(&format!("{EVENT}{SOURCE}{sasl}"), None, &Flags::default(), &outside).unwrap();
    let told: Vec<_> = config.warnings.warnings.iter().map(|warning| (warning.message.as_str(), warning.help.as_deref())).collect();
    assert_eq!(
        told,
        [("the environment has STREAMGAUGE_LIMITS_MEMROY, which is no setting", Some("did you mean `STREAMGAUGE_LIMITS_MEMORY`?"))]
    );
}
