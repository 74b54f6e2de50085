//! Before anything runs: `sample` shows the newest records of a topic beside what becomes of each, and `check --sample`
//! says how many of each source would be bad, by reason.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use streamgauge_testing::{Admin, Setup, broker, registry, unique};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn config(bootstrap: &str, topic: &str, format: &str) -> String {
    format!(
        "config_version = 1\n[events.E]\nfields = {{ id = \"str\", n = \"i64?\" }}\n\
         [sources.s]\nevent = \"E\"\n{format}\nkafka = {{ brokers = [{bootstrap:?}], topic = {topic:?} }}\n\
         [tables.T]\nfrom = \"E\"\nkey = [\"id\"]\n[tables.T.features]\nn = {{ op = \"count\" }}\n"
    )
}

/// Exit code, data and talk of a verb.
fn run(setup: &Setup, verb: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = setup.command(verb).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_newest_records_of_a_topic_are_shown_beside_what_becomes_of_them() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("sample"));
    let admin = Admin::of(bootstrap);
    admin.create(&topic, 1).unwrap();
    let mut records: Vec<Json> =
        (0..30).map(|n| json!({ "key": hex(b"k"), "value": hex(format!("{{\"id\":\"a{n}\",\"n\":{n}}}").as_bytes()) })).collect();
    records.push(json!({ "value": hex(br#"{"id":7}"#) }));
    records.push(json!({ "value": hex(b"nonsense") }));
    records.push(json!({ "key": hex(b"gone"), "value": null }));
    admin.raw(&topic, &json!(records)).unwrap();

    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, &topic, "tombstone = \"ignore\"")).unwrap();
    let file = setup.config();
    let file = file.to_str().unwrap();
    let (code, out, err) = run(&setup, "sample", &[&topic, "-c", file, "-n", "5", "--json"]);
    let lines: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let became: Vec<(&Json, &Json)> = lines.iter().map(|line| (&line["offset"], &line["became"])).collect();
    assert_eq!(
        became,
        [(28, "row"), (29, "row"), (30, "bad"), (31, "bad"), (32, "nothing")]
            .each_ref()
            .map(|(at, word)| (json!(at), json!(word)))
            .each_ref()
            .map(|(at, word)| (at, word)),
        "{out} {err}"
    );
    assert_eq!((code, &lines[1]["row"]), (1, &json!({ "id": "a29", "n": 29 })));
    assert_eq!((&lines[1]["key"], &lines[1]["value"]), (&json!("k"), &json!("{\"id\":\"a29\",\"n\":29}")));
    assert!(lines[2]["bad"]["reason"].as_str().unwrap().contains("\"id\""), "{}", lines[2]);
    assert!(err.contains("of 5 records 2 rows, 1 nothing, 2 bad; decode_malformed 1, first"), "{err}");
    let (_, out, _) = run(&setup, "sample", &["s", "-c", file, "-n", "3"]);
    assert!(out.contains(&format!("{topic}/0 offset 30")) && out.contains("  bad      decode_type_mismatch: "), "{out}");

    // Few bad ones are told, many are a finding; nothing was read by anybody.
    let (code, out, err) = run(&setup, "check", &["-c", file, "--sample", "33"]);
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("sample of source s: of 33 records 30 rows, 1 nothing, 2 bad; decode_malformed 1, first "), "{out}");
    let (code, out, err) = run(&setup, "check", &["-c", file, "--sample", "5"]);
    assert!(code == 1 && err.contains("sample of source s: of 5 records 2 rows") && !out.contains("ok\n"), "{code}: {out} {err}");

    // Without a config they are shown as what they look like.
    let (code, out, err) = run(&setup, "sample", &[&topic, "--brokers", bootstrap, "-n", "3", "--json"]);
    assert_eq!(code, 0, "{err}");
    let looks: Vec<Json> = out.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["looks"].clone()).collect();
    assert_eq!(looks, [json!({ "id": 7 }), Json::Null, Json::Null]);
    let (code, _, err) = run(&setup, "sample", &[&unique("nowhere"), "--brokers", bootstrap]);
    assert!(code != 0 && err.contains("topic_not_found"), "{code}: {err}");
}

#[test]
fn seconds_and_a_schema_that_lacks_a_field_are_found_before_the_start() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("sample-avro"));
    let admin = Admin::of(bootstrap);
    admin.create(&topic, 2).unwrap();
    let url = registry().url.as_str();
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"string"},{"name":"n","type":"long"}]}"#;
    let id = registry().register(&format!("{topic}-value"), "AVRO", schema).unwrap();
    let framed = |body: &[u8]| hex(&[&[0][..], &id.to_be_bytes(), body].concat());
    admin.raw(&topic, &json!([{ "value": framed(b"\x04ab\x0e") }, { "value": framed(b"\x04ab\x10\x00") }])).unwrap();
    let format = format!("format = \"avro\"\nregistry = {{ url = [{url:?}] }}");
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, &topic, &format)).unwrap();
    let file = setup.config();
    let (code, out, _) = run(&setup, "sample", &["s", "-c", file.to_str().unwrap(), "--json"]);
    let lines: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, &lines[0]["row"], &lines[1]["bad"]["code"]), (1, &json!({ "id": "ab", "n": 7 }), &json!("decode_trailing_bytes")));
    let (_, out, _) = run(&setup, "sample", &[&topic, "--brokers", bootstrap, "--registry", url, "--json"]);
    let first: Json = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(first["looks"], json!({ "id": "ab", "n": 7 }));

    let seconds = unique("seconds");
    admin.create(&seconds, 1).unwrap();
    let lines: Vec<Json> =
        (0..20).map(|n| json!({ "value": hex(format!("{{\"id\":\"a\",\"at\":{}}}", 1_700_000_000 + n).as_bytes()) })).collect();
    admin.raw(&seconds, &json!(lines)).unwrap();
    let text = config(bootstrap, &seconds, "").replace("n = \"i64?\" }", "n = \"i64?\", at = \"datetime\" }\ntime = { field = \"at\" }");
    setup.write_config(&text).unwrap();
    let (code, out, err) = run(&setup, "check", &["-c", file.to_str().unwrap(), "--sample", "20"]);
    assert!(code == 1 && err.contains("time_unit 20") && err.contains("looks like seconds"), "{code}: {out} {err}");
}
