//! One topic with records of many writer schemas, some of which no reader can use: the policy decides of each record, and the good ones are counted.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use streamgauge_testing::{Admin, Setup, Sidecar, broker, registry, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

fn config(topic: &str, on_bad_record: &str, grace: &str) -> String {
    let (brokers, url) = (&broker().bootstrap, &registry().url);
    format!(
        r#"config_version = 1
[events.Order]
fields = {{ id = "str", n = "i64" }}
on_bad_record = "{on_bad_record}"
[sources.orders]
event = "Order"
format = "avro"
[sources.orders.kafka]
brokers = ["{brokers}"]
topic = "{topic}"
[sources.orders.registry]
url = ["{url}"]
schema_missing_grace = "{grace}"
[tables.orders]
from = "Order"
key = ["id"]
[tables.orders.features]
rows = {{ op = "count" }}
total = {{ op = "sum", field = "n" }}
"#
    )
}

const GOOD: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"string"},{"name":"n","type":"long"}]}"#;

/// A value framed by schema id, as the raw producer wants it.
fn value(id: u32, body: &[u8]) -> Json {
    let hex: String = [&[0][..], &id.to_be_bytes(), body].concat().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "value": hex })
}

/// An order of `a` for this many.
fn order(id: u32, n: u8) -> Json {
    value(id, &[0x02, b'a', n * 2])
}

fn codes(rejects: &Json) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for reject in rejects["rejects"].as_array().unwrap() {
        *codes.entry(reject["code"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    codes
}

#[test]
fn records_of_schemas_that_nobody_can_use_are_rejected_and_the_others_counted() {
    let (topic, admin) = (unique("mixed"), Admin::of(&broker().bootstrap));
    admin.create(&topic, 1).unwrap();
    let schema = |name: &str, kind: &str, text: &str| registry().register(&format!("{topic}-{name}"), kind, text).unwrap();
    let good = schema("good", "AVRO", GOOD);
    let more = schema(
        "more",
        "AVRO",
        &GOOD.replace(r#""type":"long"}"#, r#""type":"int"},{"name":"extra","type":["null","string"],"default":null}"#),
    );
    let unusable = [
        schema("protobuf", "PROTOBUF", "syntax = \"proto3\";\nmessage Order { string id = 1; }\n"),
        schema("json", "JSON", r#"{"type":"object","properties":{"id":{"type":"string"}}}"#),
        schema("string", "AVRO", r#""string""#),
        schema("other", "AVRO", r#"{"type":"record","name":"Shipment","fields":[{"name":"id","type":"string"}]}"#),
        schema("retyped", "AVRO", &GOOD.replace("long", "string")),
    ];
    let mut records = vec![order(good, 1)];
    for id in unusable {
        records.extend([value(id, &[0x02, b'a', 0x02, b'1']), order(good, 1), value(more, &[0x02, b'a', 2, 0])]);
    }
    // A flood of ids that the registry does not have: one grace for all of them, not one behind the other.
    records.extend((0..40).map(|id| order(900_000_000 + id, 1)));
    records.push(order(good, 1));
    admin.raw(&topic, &json!(records)).unwrap();

    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(&topic, "dlq", "3s")).unwrap();
    let sidecar = setup.start().unwrap();
    let begun = Instant::now();
    sidecar.wait_positions(&topic, &admin.ends(&topic).unwrap(), WITHIN).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(40), "40 graces of 3 s would take two minutes, this took {:?}", begun.elapsed());
    let row = sidecar.get("orders", "a").unwrap().unwrap();
    assert_eq!((&row["rows"], &row["total"]), (&json!(12), &json!(12.0)), "{row}");
    let rejects = sidecar.admin_get("/rejects?limit=200").unwrap();
    let expected = [("schema_missing".to_owned(), 40), ("schema_unusable".to_owned(), 5)];
    assert_eq!(codes(&rejects.body), BTreeMap::from(expected), "{}", rejects.text);
    // Movement closes what the grace had opened.
    let open = || sidecar.partitions().unwrap().into_iter().find_map(|partition| partition.incident);
    wait_for("the end of the incident", WITHIN, || open().map_or(Ok(()), Err)).unwrap();

    // What is decided of records holds after a restart, also for those of other unusable schemas.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    admin.raw(&topic, &json!([value(unusable[0], b"x"), order(good, 1), value(unusable[3], b"\x02a"), order(good, 1)])).unwrap();
    sidecar.wait_positions(&topic, &admin.ends(&topic).unwrap(), WITHIN).unwrap();
    assert_eq!(sidecar.get("orders", "a").unwrap().unwrap()["rows"], json!(14));
    sidecar.terminate(WITHIN).unwrap();
}

#[test]
fn a_source_whose_first_schema_no_reader_can_use_stops_and_says_so() {
    let (topic, admin) = (unique("unusable"), Admin::of(&broker().bootstrap));
    admin.create(&topic, 1).unwrap();
    let schema = |name: &str, kind: &str, text: &str| registry().register(&format!("{topic}-{name}"), kind, text).unwrap();
    let other = schema("other", "AVRO", r#"{"type":"record","name":"Shipment","fields":[{"name":"id","type":"string"}]}"#);
    let good = schema("good", "AVRO", GOOD);
    admin.raw(&topic, &json!([value(other, b"\x02a"), order(good, 1)])).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(&topic, "dlq", "3s")).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "Stalled", WITHIN).unwrap();
    assert_eq!(sidecar.get("orders", "a").unwrap(), None);
    sidecar.terminate(WITHIN).unwrap();
}

/// A key in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn keys_in_avro_and_schema_ids_in_headers_are_read_and_tombstones_delete_by_them() {
    let (topic, admin) = (unique("keys"), Admin::of(&broker().bootstrap));
    admin.create(&topic, 1).unwrap();
    let schema = |name: &str, text: &str| registry().register(&format!("{topic}-{name}"), "AVRO", text).unwrap();
    let key_schema = schema("key", r#"{"type":"record","name":"OrderKey","fields":[{"name":"id","type":"string"}]}"#);
    let value_schema = schema("value", r#"{"type":"record","name":"OrderValue","fields":[{"name":"n","type":["null","long"]}]}"#);
    let framed = |id: u32, body: &[u8]| hex(&[&[0][..], &id.to_be_bytes(), body].concat());
    let named = |id: u32| hex(&[&[0][..], &id.to_be_bytes()].concat());
    let records = json!([
        { "key": framed(key_schema, b"\x02a"), "value": framed(value_schema, &[2, 6]) },
        { "key": framed(key_schema, b"\x02b"), "value": framed(value_schema, &[2, 8]) },
        // The same schemas named in headers: value and key are bare.
        { "key": hex(b"\x02a"), "value": hex(&[2, 10]), "headers": [["__key_schema_id", named(key_schema)], ["__value_schema_id", named(value_schema)]] },
        { "key": hex(b"plain"), "value": framed(value_schema, &[2, 6]) },
        { "key": framed(key_schema, b"\x02b"), "value": null },
    ]);
    admin.raw(&topic, &records).unwrap();
    let (brokers, url) = (&broker().bootstrap, &registry().url);
    let config = format!(
        r#"config_version = 1
[events.Order]
fields = {{ id = "str", n = "i64" }}
tombstone = "delete_key"
[sources.orders]
event = "Order"
format = "avro"
key_format = "avro"
fields = {{ id = "key:id" }}
[sources.orders.kafka]
brokers = ["{brokers}"]
topic = "{topic}"
[sources.orders.registry]
url = ["{url}"]
[tables.orders]
from = "Order"
key = ["id"]
[tables.orders.features]
rows = {{ op = "count" }}
total = {{ op = "sum", field = "n" }}
"#
    );
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &admin.ends(&topic).unwrap(), WITHIN).unwrap();
    assert_eq!(sidecar.get("orders", "a").unwrap(), Some(json!({ "rows": 2, "total": 8.0 })));
    assert_eq!(sidecar.get("orders", "b").unwrap(), None);
    let rejects = sidecar.admin_get("/rejects?limit=200").unwrap();
    assert_eq!(codes(&rejects.body), BTreeMap::from([("decode_framing".to_owned(), 1)]), "{}", rejects.text);
    sidecar.terminate(WITHIN).unwrap();
}

/// Protobuf by id and message, MessagePack, CSV and raw values, each with values written otherwise than declared.
#[test]
fn every_format_becomes_rows_and_what_is_none_a_coded_reject() {
    let admin = Admin::of(&broker().bootstrap);
    let proto = "syntax = \"proto3\";\npackage shop;\nmessage Other { string x = 1; }\nmessage Order { string id = 1; int64 n = 2; }\n";
    let topics: Vec<String> = ["protobuf", "msgpack", "csv", "raw"].iter().map(|name| unique(name)).collect();
    topics.iter().for_each(|topic| admin.create(topic, 1).unwrap());
    let id = registry().register(&format!("{}-value", topics[0]), "PROTOBUF", proto).unwrap();
    let framed = |indexes: &[u8], body: &[u8]| json!({ "value": hex(&[&[0][..], &id.to_be_bytes(), indexes, body].concat()) });
    let bare = |value: &[u8]| json!({ "key": hex(b"a"), "value": hex(value) });
    admin
        .raw(
            &topics[0],
            &json!([
                framed(&[2, 2], b"\x0a\x01a\x10\x03"),
                // No message at that index, a body that ends early, and the message that has no `n`.
                framed(&[2, 8], b"\x0a\x01a\x10\x03"),
                framed(&[2, 2], b"\x0a\x09a"),
                framed(&[0], b"\x0a\x01a"),
                framed(&[2, 2], b"\x10\x04\x0a\x01a"),
            ]),
        )
        .unwrap();
    admin.raw(&topics[1], &json!([bare(b"\x82\xa2id\xa1a\xa1n\x03"), bare(b"\x82\xa2id\xa1a\xa1n\xa14"), bare(b"\xc1")])).unwrap();
    admin.raw(&topics[2], &json!([bare(b"a;\"3\""), bare(b"a;4\n"), bare(b"a;x"), bare(b"a")])).unwrap();
    admin.raw(&topics[3], &json!([bare(b"3"), bare(b"4"), bare(b"x")])).unwrap();
    let (brokers, url) = (&broker().bootstrap, &registry().url);
    let mut config = "config_version = 1\n".to_owned();
    for ((name, topic), more) in ["protobuf", "msgpack", "csv", "raw"].iter().zip(&topics).zip([
        format!("[sources.protobuf.registry]\nurl = [\"{url}\"]\n"),
        "[sources.msgpack.fields]\nn = { from = \"any\" }\n".to_owned(),
        "[sources.csv.csv]\ncolumns = [\"id\", \"n\"]\ndelimiter = \";\"\n".to_owned(),
        "[sources.raw.fields]\nid = \"key\"\nn = \"value\"\n".to_owned(),
    ]) {
        config.push_str(&format!(
            "[events.E{name}]\nfields = {{ id = \"str\", n = \"i64\" }}\n[sources.{name}]\nevent = \"E{name}\"\nformat = \"{name}\"\n\
             [sources.{name}.kafka]\nbrokers = [\"{brokers}\"]\ntopic = \"{topic}\"\n{more}\
             [tables.{name}]\nfrom = \"E{name}\"\nkey = [\"id\"]\n[tables.{name}.features]\nrows = {{ op = \"count\" }}\n\
             total = {{ op = \"sum\", field = \"n\" }}\n"
        ));
    }
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config).unwrap();
    let sidecar = setup.start().unwrap();
    let told = |sidecar: &Sidecar| {
        for (name, topic) in ["protobuf", "msgpack", "csv", "raw"].iter().zip(&topics) {
            sidecar.wait_positions(topic, &admin.ends(topic).unwrap(), WITHIN).unwrap();
            assert_eq!(sidecar.get(name, "a").unwrap(), Some(json!({ "rows": 2, "total": 7.0 })), "{name}");
        }
        codes(&sidecar.admin_get("/rejects?limit=200").unwrap().body)
    };
    let expected = [("decode_framing", 1), ("decode_malformed", 3), ("decode_type_mismatch", 2), ("schema_unusable", 1)];
    let expected: BTreeMap<String, usize> = expected.into_iter().map(|(code, count)| (code.to_owned(), count)).collect();
    assert_eq!(told(&sidecar), expected);
    // The schema is in the log: a restart needs no registry for it.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    assert_eq!(told(&sidecar), expected);
    sidecar.terminate(WITHIN).unwrap();
}

/// A row of a database as its newest state, and as all its changes, from one topic of change events.
#[test]
fn change_events_are_rows_or_the_newest_state_of_one() {
    let (topic, admin) = (unique("changes"), Admin::of(&broker().bootstrap));
    admin.create(&topic, 1).unwrap();
    let record = |key: &str, value: Json| {
        let value = if value.is_null() { Json::Null } else { json!(hex(value.to_string().as_bytes())) };
        json!({ "key": hex(key.as_bytes()), "value": value })
    };
    let change = |op: &str, before: Json, after: Json| json!({ "op": op, "before": before, "after": after, "source": { "ts_ms": 1 } });
    let row = |id: &str, n: i64| json!({ "id": id, "n": n });
    let wrapped = json!({ "schema": { "type": "struct" }, "payload": change("u", row("a", 1), row("a", 5)) });
    admin
        .raw(
            &topic,
            &json!([
                record("a", change("r", Json::Null, row("a", 1))),
                record("b", change("c", Json::Null, row("b", 2))),
                record("a", wrapped),
                record("b", change("d", row("b", 2), Json::Null)),
                record("b", Json::Null),
                record("h", json!({ "ts_ms": 5 })),
                record("a", change("z", Json::Null, row("a", 1))),
            ]),
        )
        .unwrap();
    let mut config = "config_version = 1\n".to_owned();
    for (mode, feature) in [("latest", "last"), ("changes", "sum")] {
        config.push_str(&format!(
            "[events.E{mode}]\nfields = {{ id = \"str\", n = \"i64\", op = \"str\" }}\n[sources.{mode}]\nevent = \"E{mode}\"\nformat = \"debezium\"\n\
             mode = \"{mode}\"\n[sources.{mode}.kafka]\nbrokers = [\"{}\"]\ntopic = \"{topic}\"\n\
             [tables.{mode}]\nfrom = \"E{mode}\"\nkey = [\"id\"]\n[tables.{mode}.features]\nn = {{ op = \"{feature}\", field = \"n\" }}\n\
             op = {{ op = \"last\", field = \"op\" }}\n",
            broker().bootstrap
        ));
    }
    let sidecar = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config).unwrap().start().unwrap();
    let settled = |table: &str, key: &str, expected: Option<Json>| {
        wait_for(&format!("{key} of {table}"), WITHIN, || match sidecar.get(table, key)? {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}, not {expected:?}")),
        })
        .unwrap();
    };
    sidecar.wait_positions(&topic, &admin.ends(&topic).unwrap(), WITHIN).unwrap();
    settled("latest", "a", Some(json!({ "n": 5, "op": "u" })));
    settled("latest", "b", None);
    settled("changes", "a", Some(json!({ "n": 6.0, "op": "u" })));
    settled("changes", "b", Some(json!({ "n": 4.0, "op": "d" })));
    let rejects = sidecar.admin_get("/rejects?limit=200").unwrap();
    assert_eq!(codes(&rejects.body), BTreeMap::from([("decode_malformed".to_owned(), 2)]), "{}", rejects.text);
    sidecar.terminate(WITHIN).unwrap();
}
