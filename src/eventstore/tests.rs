//! The seed's examples are valid in every build, what is no declaration is refused where it stands, and no key is taken in vain.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use streamgauge_api::Code;

fn fixtures(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/eventstore").join(folder);
    let files = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// All problems of a statement.
fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Ok(declaration) => declaration.check().err().unwrap_or_default(),
        Err(problem) => vec![problem],
    }
}

fn with(pairs: &str) -> String {
    format!("CREATE EVENTSTORE x WITH (durable.type = 'parquet', durable.path = '/tmp/x', {pairs})")
}

#[test]
fn the_seeds_examples_are_valid_and_say_the_same_when_they_are_written_again() {
    let found = fixtures("");
    assert_eq!(found.len(), 3);
    for (path, text) in found {
        assert_eq!(problems(&text), [], "{}", path.display());
        let declaration = parse(&text).unwrap();
        let again = parse(&declaration.statement()).unwrap();
        let values = |declaration: &Declaration| declaration.keys_json(&|_| String::new());
        assert_eq!((values(&again), &again.name), (values(&declaration), &declaration.name), "{}", path.display());
    }
}

#[test]
fn the_telecom_example_names_every_key() {
    let text = fixtures("").into_iter().find(|(path, _)| path.ends_with("telecom.eventstore")).unwrap().1;
    let declaration = parse(&text).unwrap();
    assert_eq!(declaration.name.as_deref(), Some("telecom_default"));
    let mut named: Vec<&str> = declaration.pairs.iter().map(|pair| pair.key.as_str()).collect();
    let mut known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!((known.len(), named), (84, known));
}

#[test]
fn each_wrong_declaration_has_its_code_where_it_stands() {
    let expected = [
        ("unknown_key", Code::EventstoreUnknownKey, 2),
        ("bad_number", Code::EventstoreSyntax, 2),
        ("type", Code::EventstoreType, 2),
        ("alias_conflict", Code::EventstoreAliasConflict, 3),
        ("range", Code::EventstoreRange, 2),
        ("empty_list", Code::EventstoreSyntax, 2),
        ("multiple", Code::EventstoreMultiple, 2),
        ("unterminated", Code::EventstoreSyntax, 2),
        ("missing_with", Code::EventstoreSyntax, 2),
        ("duplicate_key", Code::EventstoreDuplicateKey, 2),
        ("remote_wal", Code::EventstoreRange, 2),
        ("durable_required", Code::EventstoreDurableRequired, 1),
    ];
    let found = fixtures("refused");
    assert_eq!(found.len(), expected.len());
    for (name, code, line) in expected {
        let text = &found.iter().find(|(path, _)| path.file_stem().unwrap() == name).unwrap().1;
        let problem = problems(text).into_iter().next().unwrap_or_else(|| panic!("{name} is taken"));
        let told = problem.told("x", text);
        assert_eq!((problem.code, told.more["line"].as_u64()), (code, Some(line)), "{name}: {problem:?}");
    }
    assert_eq!(problems(&with("wal.fsnyc = true"))[0].help.as_deref(), Some("did you mean `wal.fsync`?"));
}

#[test]
fn values_are_read_as_they_are_written() {
    let read = |value: &str| parse(&format!("create eventstore x with (a.b2 = {value},);")).unwrap().pairs[0].value.clone();
    for (text, value) in [
        ("1_000_000", Literal::Int(1_000_000)),
        ("-7", Literal::Int(-7)),
        ("9223372036854775807", Literal::Int(i64::MAX)),
        ("0.5", Literal::Float(0.5)),
        ("-1.25e-3", Literal::Float(-0.00125)),
        ("TRUE", Literal::Flag(true)),
        ("'it''s -- text'", Literal::Text("it's -- text".into())),
        ("''", Literal::Text(String::new())),
        ("(1)", Literal::List(vec![Literal::Int(1)])),
        ("( 'a' , 'b' , )", Literal::List(vec![Literal::Text("a".into()), Literal::Text("b".into())])),
        ("1 -- a comment\n", Literal::Int(1)),
    ] {
        assert_eq!(read(text), value, "{text}");
    }
    for text in [
        "_1",
        "1_",
        "1__0",
        "0x1",
        "1.",
        ".5",
        "1e5",
        "99999999999999999999",
        "1.0e999",
        "'a",
        "()",
        "(1",
        "((1))",
        "yes",
        "",
        "a",
        "--1",
        "1,,2",
        "(,)",
    ] {
        let statement = format!("CREATE EVENTSTORE x WITH (a = {text})");
        assert_eq!(parse(&statement).err().map(|problem| problem.code), Some(Code::EventstoreSyntax), "{text}");
    }
    for text in ["", "CREATE", "CREATE EVENTSTORE", "CREATE OR REPLACE EVENTSTORE x WITH (a = 1)", "CREATE EVENTSTORE 1x WITH (a = 1)"] {
        assert!(parse(text).is_err(), "{text}");
    }
    for text in ["CREATE EVENTSTORE x WITH ()", "CREATE EVENTSTORE x WITH (A. = 1)", "CREATE EVENTSTORE x WITH (a = 1) x"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn ranges_and_rules_over_several_keys_hold() {
    for (pairs, code) in [
        ("bloom.fpp = 0", Code::EventstoreRange),
        ("bloom.fpp = 1.0", Code::EventstoreRange),
        ("row_group.max_rows = 999", Code::EventstoreRange),
        ("durable.compression = 'gzip'", Code::EventstoreRange),
        ("durable.compression = 'snappy', durable.compression.level = 3", Code::EventstoreRange),
        ("durable.compression.level = 23", Code::EventstoreRange),
        ("durable.file_pattern = 'x.parquet'", Code::EventstoreRange),
        ("durable.file_pattern = '../{dt}{stream_type}{file_seq}.parquet'", Code::EventstoreRange),
        ("durable.file_pattern = '/{dt}{stream_type}{file_seq}.parquet'", Code::EventstoreRange),
        ("durable.file_pattern = '{dt}/{file_seq}.parquet'", Code::EventstoreRange),
        ("durable.file_pattern = '{dt}/{stream_type}/{file_seq}{x}.parquet'", Code::EventstoreRange),
        ("partition.by = ('dt','card')", Code::EventstoreRange),
        ("partition.by = ('stream_type','dt')", Code::EventstoreRange),
        ("partition.dt.expr = 'DATE(x)'", Code::EventstoreRange),
        ("stats.columns = 'amount'", Code::EventstoreRange),
        ("envelope.seq_key = 'stream_id'", Code::EventstoreRange),
        ("envelope.seq_key = 'lsn'", Code::EventstoreRange),
        ("envelope.seq_key = 'a b'", Code::EventstoreRange),
        ("compaction.schedule = '* * *'", Code::EventstoreRange),
        ("compaction.trigger = ('size_mb','never')", Code::EventstoreRange),
        ("security.encrypt.at_rest = true", Code::EventstoreRange),
        ("bloom.enabled = 1", Code::EventstoreType),
        ("row_group.max_rows = 1000.0", Code::EventstoreType),
        ("stats.columns = (1)", Code::EventstoreType),
    ] {
        assert_eq!(problems(&with(pairs)).first().map(|problem| problem.code), Some(code), "{pairs}");
    }
    assert_eq!(
        problems(&with("bloom.fpp = 0.5, stats.columns = 'seq', partition.by = 'dt', durable.file_pattern = 'a-{dt}/{file_seq}.parquet'")),
        []
    );
}

/// No value is taken in vain: what is served changes what the store is, and what is not served is refused by name.
#[test]
fn every_key_does_something_or_is_refused_by_name() {
    let plain = Store { name: "x".into(), ..parse(&with("bloom.fpp = 0.01")).unwrap().store().unwrap() };
    let others: &[(&str, &str)] = &[
        ("durable.type", ""),
        ("durable.path", ""),
        ("durable.file_pattern", "'x/{dt}/{stream_type}/{file_seq}.parquet'"),
        ("durable.commit.manifest_path", "'/tmp/m'"),
        ("durable.compression", "'snappy'"),
        ("durable.compression.level", "9"),
        ("durable.dictionary.enabled", "false"),
        ("partition.by", "('dt'), durable.file_pattern = 'dt={dt}/part-{writer}-{file_seq}.parquet'"),
        ("partition.dt.expr", "'DATE(ingested_at)'"),
        ("partition.dt.granularity", "'hour'"),
        // Its one value says what is done.
        ("partition.stream_type.expr", ""),
        ("row_group.target_mb", "1"),
        ("row_group.max_rows", "1_000"),
        ("row_group.sort_by", "('occurred_at')"),
        ("row_group.sort_order", "'desc'"),
        ("stats.enabled", "false"),
        ("stats.columns", "('seq')"),
        ("bloom.enabled", "false"),
        ("bloom.columns", "('event_id')"),
        ("bloom.fpp", "0.5"),
        ("wal.rollover_mb", "128"),
        ("compaction.enabled", "false"),
        ("compaction.trigger", "('time')"),
        ("compaction.min_segment_mb", "7"),
        ("compaction.schedule", "'0 0 * * *'"),
    ];
    let mut seen = 0;
    for key in KEYS {
        let other = match key.name.strip_prefix("envelope.") {
            Some(_) => Some("'mine'"),
            None => others.iter().find(|(name, _)| *name == key.name).map(|(_, other)| *other),
        };
        match (key.served, other) {
            (super::keys::Served::All | super::keys::Served::Local | super::keys::Served::Without(_), Some("")) => seen += 1,
            (super::keys::Served::All | super::keys::Served::Local | super::keys::Served::Without(_), Some(other)) => {
                let store = parse(&with(&format!("{} = {other}", key.name))).unwrap().store().unwrap_or_else(|error| panic!("{error:?}"));
                assert_ne!(Store { name: "x".into(), ..store }, plain, "{} = {other} changes nothing", key.name);
                seen += 1;
            }
            (super::keys::Served::All | super::keys::Served::Local | super::keys::Served::Without(_), None) => {
                panic!("{}: what changes it?", key.name)
            }
            (super::keys::Served::Only(_) | super::keys::Served::None, _) => {
                let default = if key.default.is_empty() { "'x'" } else { key.default };
                let other = other_value(key).unwrap_or_else(|| default.to_owned());
                let declaration = parse(&with(&format!("{} = {other}", key.name))).unwrap();
                if declaration.check().is_err() {
                    // It cannot be declared alone; the code of what it needs is another test's.
                    seen += 1;
                    continue;
                }
                let refused = declaration.store().err().unwrap_or_else(|| panic!("{} = {other} is taken", key.name));
                assert_eq!((refused[0].code, refused[0].key.as_str()), (Code::EventstoreFeatureMissing, key.name));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 84);
}

/// A valid value that is not served.
fn other_value(key: &Key) -> Option<String> {
    let served: &[&str] = match key.served {
        super::keys::Served::Only(served) => served,
        _ => &[],
    };
    let words: Vec<String> = match (key.kind, key.allowed) {
        (super::keys::Type::Flag, _) => vec!["true".into(), "false".into()],
        (super::keys::Type::Int, super::keys::Allowed::Range { max, .. }) => vec![max.to_string()],
        (super::keys::Type::Text, super::keys::Allowed::Words(words)) => words.iter().map(|word| format!("'{word}'")).collect(),
        (super::keys::Type::List, super::keys::Allowed::Columns) => vec!["('ingested_at','event_id')".into()],
        _ => Vec::new(),
    };
    words.into_iter().find(|word| !served.contains(&word.as_str()))
}

#[test]
fn what_a_build_lacks_is_told_key_by_key() {
    let text = fixtures("").into_iter().find(|(path, _)| path.ends_with("telecom.eventstore")).unwrap().1;
    let missing = parse(&text).unwrap().store().unwrap_err();
    let keys: Vec<&str> = missing.iter().map(|problem| problem.key.as_str()).collect();
    assert!(keys.contains(&"durable.path") && keys.contains(&"inmemory.max_mb") && !keys.contains(&"bloom.fpp"), "{keys:?}");
    for name in ["minimal.eventstore", "local.eventstore"] {
        let text = fixtures("").into_iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
        parse(&text).unwrap().store().unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}

#[test]
fn what_is_fixed_is_told_by_name() {
    let declare = |pairs: &str| parse(&with(pairs)).unwrap();
    let before = declare("bloom.fpp = 0.01");
    assert_eq!(declare("bloom.fpp = 0.5, durable.compression = 'snappy'").fixed_since(&before), Ok(()));
    let refused = declare("envelope.seq_key = 'number', partition.dt.granularity = 'hour'").fixed_since(&before).unwrap_err();
    let keys: Vec<&str> = refused.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!((keys, refused[0].code), (vec!["envelope.seq_key", "partition.dt.granularity"], Code::EventstoreKeyFixed));
}

#[test]
fn the_page_of_keys_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EVENTSTORE.md");
    if std::env::var_os("STREAMGAUGE_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == page(), "run this test once with STREAMGAUGE_WRITE_DOCS=1");
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "(CREATE EVENTSTORE x WITH \\()?[-a-z0-9_.,='() ;\n]{0,60}|\\PC{0,40}") {
        let problems = problems(&text);
        for problem in problems {
            prop_assert!(problem.span.start <= problem.span.end && problem.span.end <= text.len(), "{problem:?}");
            let _told = problem.told("x", &text);
        }
    }
}
