//! The file as people write it and mistype it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::operators::OPERATORS;
use serde_json::Value as Json;

const SAMPLE: &str = include_str!("../../config/streamgauge.toml");
const DEMO: &str = include_str!("../../config/demo.toml");

fn check_client(client: &BTreeMap<String, String>) -> Vec<ClientProblem> {
    let refuse =
        |key: &str, unknown: bool| ClientProblem { key: key.to_owned(), reason: format!("`{key}` is refused"), nearest: None, unknown };
    client
        .keys()
        .filter(|key| !matches!(key.as_str(), "fetch.max.bytes" | "sasl.password"))
        .map(|key| refuse(key, key.as_str() != "auto.offset.reset"))
        .collect()
}

fn read_file(path: &Path) -> std::io::Result<String> {
    if path == Path::new("/missing") { Err(std::io::Error::other("no such file")) } else { Ok("from-file\n".to_owned()) }
}

fn load_with(text: &str, variables: &[(&str, &str)], flags: &[Flag], insecure_no_auth: bool) -> Result<Config, Refused> {
    let mut environment: BTreeMap<String, String> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    environment.insert("KAFKA_PASSWORD".into(), "hunter2".into());
    let surroundings = Surroundings {
        flags,
        environment: &environment,
        read_file: &read_file,
        check_client_settings: check_client,
        operators: OPERATORS,
        offline: false,
        insecure_no_auth,
    };
    Config::load(text, &surroundings)
}

fn load(text: &str) -> Result<Config, Refused> {
    load_with(text, &[], &[], false)
}

/// Codes of all problems with line, column and help.
fn problems(text: &str) -> Vec<(String, Option<(usize, usize)>, String)> {
    let refused = load(text).expect_err("the config is refused");
    let show = |problem: &Problem| (problem.code.to_string(), problem.line_column(text), problem.help.clone().unwrap_or_default());
    refused.problems.iter().map(show).collect()
}

/// One event and one table, with more.
fn with(more: &str) -> String {
    format!(
        "{more}\n[events.E]\nfields = {{ k = \"str\", n = \"i64\", f = \"f64\" }}\n[tables.t]\nfrom = \"E\"\nkey = \"k\"\nfeatures = {{ c = {{ op = \"count\" }} }}\n"
    )
}

#[test]
fn nothing_is_a_config() {
    let config = load("").unwrap();
    assert_eq!(config.server.http.unwrap().to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.wal_dir, Path::new("streamgauge-data/wal"));
    assert_eq!((config.limits.memory_bytes, config.durability.push), (4 << 30, PushLevel::Written));
    assert_eq!(config.durability.snapshot_every, Duration::from_secs(300));
    assert!(config.registry.tables.is_empty() && config.sources.is_empty() && config.ready.max_staleness.is_none());
}

#[test]
fn the_annotated_config_is_complete_and_names_the_defaults() {
    let config = load(SAMPLE).unwrap_or_else(|refused| panic!("{}", refused.render("streamgauge.toml", SAMPLE, Fancy::Picture)));
    assert_eq!(config.warnings, []);
    for (setting, value, provenance) in config.settings.effective() {
        let leaf = setting.key.rsplit('.').next().unwrap();
        assert!(SAMPLE.contains(&format!("{leaf} = ")), "{} is not in the annotated config", setting.key);
        if !setting.default.is_empty() {
            assert_ne!(*provenance, Provenance::Default, "{} is not set in the annotated config", setting.key);
            let default = setting.kind.parse(setting.default).unwrap().text();
            assert_eq!(value, default, "the annotated config shows the default of {}", setting.key);
        }
    }
    let table = config.registry.table("card_stats").unwrap();
    assert_eq!(table.features.len(), 4);
    let payment = config.registry.event("Payment").unwrap();
    assert_eq!(payment.node["time"], serde_json::json!({ "field": "ts" }));
    assert_eq!(config.registry.event("Click").unwrap().node["time"], "record");
    let payments = &config.sources[0];
    assert_eq!(payments.kafka.sasl.as_ref().unwrap().password.reveal(), "hunter2");
    assert!(!format!("{payments:?}").contains("hunter2"));
    let clicks = &config.sources[1];
    assert_eq!(clicks.kafka.client["fetch.max.bytes"], "8388608");
    let Some(RegistryAuthConfig::Basic { password, .. }) = &clicks.registry.as_ref().unwrap().auth else { panic!("no login") };
    assert_eq!(password.reveal(), "from-file");
    let schema = &config.registry.event("Click").unwrap().schema;
    assert_eq!(clicks.source_format(schema, &config.events["Click"]).fields.len(), 3);
}

#[test]
fn the_demo_config_is_valid() {
    let config = load(DEMO).unwrap_or_else(|refused| panic!("{}", refused.render("demo.toml", DEMO, Fancy::Picture)));
    assert_eq!(config.registry.tables.len(), 2);
}

#[test]
fn every_problem_has_its_code_place_and_help() {
    for (text, code, place, help) in [
        ("[server\n", "config_syntax", (1, 8), ""),
        ("[sever]\nhttp = \"x\"\n", "unknown_config_key", (1, 2), "did you mean `server`?"),
        ("[server]\nhtpp = \"127.0.0.1:1\"\n", "unknown_config_key", (2, 1), "did you mean `http`?"),
        (
            "[server]\nhttp = 8080\n",
            "invalid_config_value",
            (2, 8),
            "Where the HTTP data plane listens; port 0 = any, \"off\" = not at all.",
        ),
        (
            "[limits]\nmemory = \"4GB\"\n",
            "invalid_config_value",
            (2, 10),
            "Most bytes of tables and frozen snapshots; counted before a row is applied.",
        ),
        ("[durability]\nsnapshot = { evry = \"5m\" }\n", "unknown_config_key", (2, 14), "did you mean `every`?"),
        ("[archive]\ndir = \"x\"\n", "not_available", (1, 2), "leave it out; docs/CONFIG.md lists what works"),
        ("[[test]]\nname = \"x\"\n", "not_available", (1, 3), "leave it out; docs/CONFIG.md lists what works"),
        ("config_version = 2\n", "invalid_config_value", (1, 18), ""),
        ("[events.E]\n", "missing_config_key", (1, 9), ""),
        ("[events.E]\nfields = { a = \"strr\" }\n", "invalid_config_value", (2, 16), "did you mean `str`?"),
        ("[events.E]\nfields = { a = \"str\" }\ntime = { field = \"b\" }\n", "invalid_registration", (3, 8), "did you mean `a`?"),
        (
            "[events.E]\nfields = { a = \"str\" }\ndedupe = { field = \"a\" }\n",
            "not_available",
            (3, 1),
            "leave it out; docs/CONFIG.md lists what works",
        ),
        ("[events.E]\nfields = { a = \"str\" }\ntombstone = \"drop\"\n", "invalid_config_value", (3, 13), "did you mean `row`?"),
        (
            "[events.E]\nfields = { a = \"str\" }\n[tables.t]\nfrom = \"F\"\nfeatures = {}\n",
            "unknown_reference",
            (4, 8),
            "did you mean `E`?",
        ),
    ] {
        let found = problems(text);
        let first = found.first().unwrap();
        assert_eq!((first.0.as_str(), first.1), (code, Some(place)), "{text}\n{found:?}");
        if !help.is_empty() {
            assert_eq!(first.2, help, "{text}");
        }
    }
}

#[test]
fn tables_are_checked_by_the_register_compiler_and_point_into_the_file() {
    let table =
        |line: &str| format!("[events.E]\nfields = {{ k = \"str\", n = \"i64\", f = \"f64\" }}\n[tables.t]\nfrom = \"E\"\n{line}\n");
    for (line, code, place, help) in [
        ("key = \"kk\"\nfeatures = {}", "aggregation_unknown_field", (5, 7), "did you mean `k`?"),
        ("key = [\"k\", \"f\"]\nfeatures = {}", "invalid_registration", (5, 13), ""),
        ("where = \"f > '0'\"\nfeatures = {}", "expression_type_mismatch", (5, 10), "write 0 without quotes"),
        ("where = \"ff > 0\"\nfeatures = {}", "invalid_expression", (5, 10), "did you mean `f`?"),
        ("where = \"f >\"\nfeatures = {}", "invalid_expression", (5, 13), ""),
        ("ops = [{ op = \"select\", fields = [\"k\", \"x\"] }]\nfeatures = {}", "invalid_expression", (5, 40), ""),
        ("expire_after = \"90d\"\nfeatures = {}", "not_available", (5, 1), ""),
        ("features.s = { op = \"sum\", field = \"nn\" }", "aggregation_unknown_field", (5, 36), "did you mean `n`?"),
        ("features.s = { op = \"sun\", field = \"n\" }", "aggregation_unknown_op", (5, 21), "did you mean `sum`?"),
        ("features.s = { op = \"sum\", field = \"n\", widnow = \"1h\" }", "unknown_config_key", (5, 41), "did you mean `window`?"),
        ("features.s = { op = \"sum\", field = \"n\", window = \"1w\" }", "aggregation_invalid_window", (5, 50), ""),
        ("features.s = { op = \"quantile\", field = \"n\", q = 1 }", "invalid_percentile_q", (5, 50), ""),
        ("features.s = { op = \"count\", where = \"k > 1\" }", "expression_type_mismatch", (5, 39), ""),
        ("features.s = { fn = \"count\" }", "missing_config_key", (5, 14), ""),
        ("", "missing_config_key", (3, 9), ""),
    ] {
        let text = table(line);
        let found = problems(&text);
        let first = found.first().unwrap();
        assert_eq!((first.0.as_str(), first.1), (code, Some(place)), "{text}\n{found:?}");
        if !help.is_empty() {
            assert_eq!(first.2, help, "{text}");
        }
    }
}

#[test]
fn sources_are_checked_completely() {
    let source = |body: &str| with(&format!("[sources.s]\n{body}"));
    let kafka = "kafka = { brokers = \"b:1\", topic = \"t\" }";
    for (body, code) in [
        ("event = \"E\"", "missing_config_key"),
        ("event = \"E\"\nkafka = { topic = \"t\" }", "missing_config_key"),
        ("event = \"E\"\nkafka = { brokers = \"b:1\" }", "missing_config_key"),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", topics = [\"u\"] }", "invalid_config_value"),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic_regex = \"(\" }", "invalid_config_value"),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", start = \"now\" }", "invalid_config_value"),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", client = { fetch.max.bytes = 1 } }", "invalid_config_value"),
        (
            "event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", client = { \"auto.offset.reset\" = \"latest\" } }",
            "fixed_client_setting",
        ),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", client = { \"fetch.mx\" = 1 } }", "unknown_config_key"),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", client = { \"sasl.password\" = \"x\" } }", "secret_in_config"),
        (
            "event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", sasl = { mechanism = \"PLAIN\", user = \"u\", password = \"p\" } }",
            "secret_in_config",
        ),
        (
            "event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", sasl = { mechanism = \"PLAIN\", user = \"u\", password = { env = \"NOPE\" } } }",
            "secret_unavailable",
        ),
        (
            "event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", sasl = { mechanism = \"PLAIN\", user = \"u\", password = { file = \"/missing\" } } }",
            "secret_unavailable",
        ),
        ("event = \"E\"\nkafka = { brokers = \"b:1\", topic = \"t\", tls = { cert = \"c\" } }", "missing_config_key"),
        (&format!("event = \"F\"\n{kafka}"), "unknown_reference"),
        (&format!("event = \"E\"\nfields = {{ kk = \"a\" }}\n{kafka}"), "unknown_reference"),
        (&format!("event = \"E\"\nfields = {{ k = \"header:\" }}\n{kafka}"), "invalid_config_value"),
        (&format!("event = \"E\"\nformat = \"avro\"\n{kafka}"), "missing_config_key"),
        (&format!("event = \"E\"\nformat = \"avro\"\nframing = \"none\"\n{kafka}"), "missing_config_key"),
        (&format!("event = \"E\"\nschema = \"x.avsc\"\n{kafka}"), "invalid_config_value"),
        (&format!("event = \"E\"\nformat = \"xml\"\n{kafka}"), "invalid_config_value"),
        (&format!("event = \"E\"\n{kafka}\nregistry = {{ url = \"registry:8081\" }}"), "invalid_config_value"),
        (&format!("event = \"E\"\n{kafka}\n[sources.u]\nevent = \"E\"\n{kafka}"), "source_conflict"),
    ] {
        let found = problems(&source(body));
        assert_eq!(found.iter().map(|problem| problem.0.as_str()).collect::<Vec<_>>(), [code], "{body}\n{found:?}");
    }
    let text = source(&format!("event = \"E\"\nfields = {{ k = \"key\", n = [\"a.b\", \"c\"], f = \"body:key\" }}\n{kafka}"));
    let config = load(&text).unwrap();
    use crate::decode::FieldSource;
    let fields: Vec<&FieldSource> = config.sources[0].fields.iter().map(|(_, from)| from).collect();
    let path = FieldSource::Path { path: "a.b".into(), aliases: vec!["c".into()] };
    assert_eq!(fields, [&FieldSource::Key, &path, &FieldSource::path("key")]);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "[server]\nhtpp = \"x\"\nadmin = 5\n[events.E]\nfields = { a = \"strr\" }\n[tables.t]\nfrom = \"E\"\nexpire_after = \"1d\"\nfeatures.x = { op = \"nope\" }\n";
    let lines: Vec<usize> = problems(text).iter().filter_map(|(_, place, _)| Some((*place)?.0)).collect();
    assert_eq!(lines, [2, 3, 5, 8, 9]);
}

#[test]
fn values_come_from_flag_then_variable_then_alias_then_file() {
    let text = "[server]\nhttp = \"127.0.0.1:1\"\n";
    let http = |variables: &[(&str, &str)], flags: &[Flag]| {
        let config = load_with(text, variables, flags, false).unwrap();
        let (_, value, provenance) = config.settings.effective().find(|(setting, ..)| setting.key == "server.http").unwrap();
        format!("{value} {provenance}")
    };
    let flag = [Flag { key: "server.http", value: "127.0.0.1:4".into(), flag: "--http-addr" }];
    let (own, alias) = (("STREAMGAUGE_SERVER_HTTP", "127.0.0.1:3"), ("BEAVA_LISTEN_ADDR", "127.0.0.1:2"));
    for (variables, flags, expected) in [
        (&[own, alias][..], &flag[..], "127.0.0.1:4 --http-addr"),
        (&[own, alias], &[], "127.0.0.1:3 STREAMGAUGE_SERVER_HTTP"),
        (&[alias], &[], "127.0.0.1:2 BEAVA_LISTEN_ADDR"),
        (&[], &[], "127.0.0.1:1 file, line 2"),
    ] {
        assert_eq!(http(variables, flags), expected);
    }
}

#[test]
fn an_unchanged_embedding_client_gets_what_it_asks_for() {
    let variables = [
        ("BEAVA_LISTEN_ADDR", "127.0.0.1:0"),
        ("BEAVA_TCP_PORT", "0"),
        ("BEAVA_ADMIN_ADDR", "127.0.0.1:0"),
        ("BEAVA_DEV_ENDPOINTS", "1"),
        ("BEAVA_WAL_DIR", "/tmp/x/wal"),
        ("BEAVA_SNAPSHOT_DIR", "/tmp/x/snap"),
        ("BEAVA_TEST_MODE", "1"),
        ("BEAVA_WAL_SYNC_MODE", "per-event"),
        ("BEAVA_WAL_TICK_MS", "20"),
        ("BEAVA_MEMORY_GOV_ENFORCE", "0"),
    ];
    let config = load_with("", &variables, &[], false).unwrap();
    assert_eq!(config.server.tcp.unwrap().to_string(), "127.0.0.1:0");
    assert_eq!(config.server.data_dir, Path::new("/tmp/x/wal"));
    assert_eq!(config.server.snapshot_dir, Path::new("/tmp/x/snap"));
    assert!(config.server.test_mode && !config.lifetime_bound);
    assert_eq!((config.durability.push, config.durability.sync_every), (PushLevel::Synced, Duration::from_millis(20)));
    assert_eq!(config.warnings, []);
    assert_eq!(load_with("", &[("BEAVA_TCP_ENABLED", "false")], &[], false).unwrap().server.tcp, None);
    let refused = load_with("", &[("BEAVA_TCP_PORT", "99999")], &[], false).unwrap_err();
    assert_eq!(refused.problems[0].code, Code::InvalidConfigValue);
    // Kubernetes sets variables of our prefix for a service of our name.
    let config = load_with("", &[("STREAMGAUGE_SERVICE_HOST", "10.0.0.1"), ("BEAVA_WAL_BUFFERS", "4")], &[], false).unwrap();
    assert_eq!(config.warnings.len(), 2);
}

#[test]
fn beyond_loopback_needs_to_be_said() {
    let text = "[server]\nhttp = \"0.0.0.0:8080\"\n";
    assert_eq!(problems(text)[0].0, "unsafe_listen_address");
    assert!(load_with(text, &[], &[], true).is_ok());
}

#[test]
fn a_changed_file_adds_by_itself_and_destroys_only_what_is_named() {
    let base = load(&with("")).unwrap();
    let stored = base.change(&Registry::default(), &[]).unwrap().next.unwrap();
    assert!(base.change(&stored, &[]).unwrap().next.is_none());
    let grown = load(&with("").replace("{ c = ", "{ d = { op = \"sum\", field = \"n\" }, c = ")).unwrap();
    assert_eq!(grown.change(&stored, &[]).unwrap().effects.len(), 1);
    let changed = load(&with("").replace("\"count\"", "\"count\", window = \"1h\"")).unwrap();
    assert_eq!(changed.change(&stored, &[]).unwrap_err().error.code, Code::ConfigChangeDestructive);
    assert_eq!(changed.change(&stored, &["t.c".into()]).unwrap().effects.len(), 2);
    assert_eq!(load("").unwrap().change(&stored, &["t".into()]).unwrap_err().error.code, Code::ConfigChangeDestructive);
    assert_eq!(load("").unwrap().change(&stored, &["t".into(), "E".into()]).unwrap().effects.len(), 1);
    assert_eq!(base.estimate(&|table| table.features.len() as u64 * 8), [("t".to_owned(), 8)]);
}

#[test]
fn pictures_show_the_line_and_what_to_try() {
    let text = "[events.Payment]\nfields = { card = \"str\", amount = \"f64\" }\n\n[tables.card_stats]\nfrom = \"Payment\"\nkey = \"card\"\nwhere = \"amount > '0'\"\n\
                features.sum_24h = { op = \"sum\", field = \"amount\", widnow = \"24h\" }\n";
    let refused = load(text).unwrap_err();
    let picture = refused.render("streamgauge.toml", text, Fancy::Picture);
    for part in [
        "error[expression_type_mismatch]: `where` of table card_stats compares f64 with str\n",
        "[streamgauge.toml:7:10]",
        "f64 (event Payment, line 2)",
        "write 0 without quotes   (streamgauge errors expression_type_mismatch)",
        "error[unknown_config_key]: unknown key `widnow`\n",
        "[streamgauge.toml:8:52]",
        "where = \"amount > '0'\"\n",
        "not a parameter of `sum`",
        "did you mean `window`?   (streamgauge errors unknown_config_key)",
    ] {
        assert!(picture.contains(part), "{part:?} is missing in\n{picture}");
    }
    let plain = refused.render("streamgauge.toml", text, Fancy::Plain);
    assert_eq!(plain.lines().count(), 2, "{plain}");
    assert!(plain.starts_with("streamgauge.toml:7:10: error[expression_type_mismatch]: "), "{plain}");
    assert!(!picture.contains('\u{1b}') && !plain.contains('\u{1b}'));
    assert!(refused.render("streamgauge.toml", text, Fancy::Colour).contains('\u{1b}'));
}

/// Bytes of every key of the language (not a name that the user chose) in the sample.
fn keys_of_the_sample() -> Vec<(std::ops::Range<usize>, String)> {
    let (root, _) = Section::parse(SAMPLE);
    let mut keys = Vec::new();
    let mut pending: Vec<(String, &Section)> = vec![(String::new(), &root)];
    while let Some((path, section)) = pending.pop() {
        // Names that the user chose: of events, sources, tables, features and fields, and of Kafka client settings.
        let depth = path.split('.').count();
        let chosen = (matches!(path.as_str(), "events" | "sources" | "tables"))
            || path.ends_with("fields")
            || path.ends_with("client")
            || path.ends_with("defaults")
            || (path.ends_with("features") && depth == 3);
        for entry in &section.entries {
            if !chosen && entry.key != "op" {
                keys.push((entry.key_span.clone(), entry.key.clone()));
            }
            let inner = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            match &entry.item.value {
                Value::Table(section) => pending.push((inner, section)),
                Value::List(items) => pending.extend(items.iter().filter_map(|item| Some((format!("{inner}.item"), item.as_section()?)))),
                _ => {}
            }
        }
    }
    keys.retain(|(span, key)| SAMPLE.get(span.clone()) == Some(key));
    keys.sort_by_key(|(span, _)| span.start);
    keys.dedup();
    keys
}

#[test]
fn a_mistyped_letter_is_answered_with_the_key_that_was_meant() {
    let keys = keys_of_the_sample();
    assert!(keys.len() > 50, "{}", keys.len());
    // A small generator: the same two hundred slips on every run.
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let (mut named, mut missed) = (0, Vec::new());
    while named + missed.len() < 200 {
        let (span, key) = &keys[random(keys.len())];
        let (at, letter) = (random(key.len()), char::from(b'a' + u8::try_from(random(26)).unwrap()));
        let mut slip: Vec<char> = key.chars().collect();
        match random(4) {
            0 => slip[at] = letter,
            1 => slip.insert(at, letter),
            2 if slip.len() > 2 => drop(slip.remove(at)),
            _ if at + 1 < slip.len() => slip.swap(at, at + 1),
            _ => continue,
        }
        let slip: String = slip.into_iter().collect();
        if slip == *key || keys.iter().any(|(_, known)| *known == slip) {
            continue;
        }
        let text = format!("{}{slip}{}", &SAMPLE[..span.start], &SAMPLE[span.end..]);
        let refused = load(&text).map(|_| ()).expect_err("a mistyped key is refused");
        let hints: Vec<&str> = refused.problems.iter().filter_map(|problem| problem.help.as_deref()).collect();
        if hints.contains(&format!("did you mean `{key}`?").as_str()) {
            named += 1
        } else {
            missed.push(format!("{slip} for {key}: {hints:?}"))
        }
    }
    assert!(named >= 190, "{named} of 200\n{}", missed.join("\n"));
}

#[test]
fn the_published_schema_is_the_one_of_the_list() {
    let published: Json = serde_json::from_str(include_str!("../../schemas/streamgauge.schema.json")).unwrap();
    assert_eq!(published, json_schema(), "write json_schema() to schemas/streamgauge.schema.json");
}
