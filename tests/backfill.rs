//! A table that is declared late is the table that was there from the first record: key by key as the producer
//! counted, and as its twin that was declared from the start, whatever is killed on the way.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, Topics, config};
use streamgauge_testing::{Admin, Production, Setup, Sidecar, broker, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const LATE: &str = "late";
const PARTITIONS: u32 = 4;
const WITHIN: Duration = Duration::from_secs(120);

/// The features of `cards`, as a register payload has them.
fn features() -> Json {
    json!({
        "n": { "op": "count", "params": {} },
        "total": { "op": "sum", "params": { "field": "amount" } },
        "smallest": { "op": "min", "params": { "field": "amount" } },
        "largest": { "op": "max", "params": { "field": "amount" } },
        "items": { "op": "sum", "params": { "field": "items" } },
        "large": { "op": "count", "params": { "where": "amount > 500" } },
        "first_country": { "op": "first", "params": { "field": "country" } },
        "last_id": { "op": "last", "params": { "field": "id" } },
    })
}

fn node(name: &str, backfill: &str) -> Json {
    json!({
        "kind": "derivation", "name": name, "output_kind": "table", "upstreams": ["Payment"], "table_primary_key": ["card"],
        "ops": [{ "op": "group_by", "keys": ["card"], "agg": features() }], "backfill": backfill,
    })
}

fn declare(sidecar: &Sidecar, name: &str, backfill: &str) -> Json {
    let answer = sidecar.data_post("/register", &json!({ "nodes": [node(name, backfill)] })).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// Waits until reads of a table are answered. Until then each is refused, never answered with less.
fn wait_whole(sidecar: &Sidecar, table: &str) {
    wait_for(&format!("table {table} whole"), WITHIN, || {
        let answer = sidecar.data_post("/get", &json!({ "table": table, "key": "no such card" })).unwrap();
        match (answer.status, answer.code()) {
            (200, _) => Ok(()),
            (503, "table_filling") => Err(answer.text),
            other => panic!("{other:?}: {}", answer.text),
        }
    })
    .unwrap();
}

fn running(rate: u64) -> (Production, Setup) {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("backfill"));
    Admin::of(bootstrap).create(&topic, PARTITIONS).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let production = Production {
        topic,
        records: 50_000_000,
        partitions: PARTITIONS,
        keys: 2_000,
        rate: Some(rate),
        until_enough: true,
        ..Production::default()
    };
    (production, setup)
}

fn wait_consumed(sidecar: &Sidecar, topic: &str, records: i64) {
    wait_for(&format!("{records} records"), WITHIN, || {
        let consumed = sidecar.consumed(topic)?;
        if consumed >= records { Ok(()) } else { Err(format!("{consumed} consumed")) }
    })
    .unwrap();
}

#[test]
fn a_table_declared_late_equals_the_producer_and_its_twin_through_kills_and_restarts() {
    let (production, setup) = running(8_000);
    let mut producer = production.start(&broker().bootstrap).unwrap();
    let sidecar = setup.start().unwrap();
    wait_consumed(&sidecar, &production.topic, 60_000);
    let reply = declare(&sidecar, LATE, "earliest");
    assert_eq!(reply["filling"], json!({ LATE: "earliest" }), "{reply}");
    wait_whole(&sidecar, LATE);
    assert!(producer.running(), "records arrive while the table is filled");
    wait_consumed(&sidecar, &production.topic, sidecar.consumed(&production.topic).unwrap() + 5_000);
    producer.enough().unwrap();
    let delivered = producer.finish(WITHIN).unwrap();
    sidecar.wait_positions(&production.topic, &delivered.ends, WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    delivered.oracle.compare(&sidecar, LATE, FEATURES).unwrap();
    // From the sealed file and the log, or from a snapshot behind the flip: the same.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&production.topic, &delivered.ends, WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, LATE, FEATURES).unwrap();
    assert!(sidecar.terminate(WITHIN).unwrap().success());
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&production.topic, &delivered.ends, WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, LATE, FEATURES).unwrap();
}

/// Its row with the fill's progress, while it is open.
fn backfills(sidecar: &Sidecar) -> Vec<Json> {
    let answer = sidecar.admin_get("/backfills").unwrap();
    answer.body["backfills"].as_array().cloned().unwrap_or_default()
}

/// The history was read to an end that is a control record behind an aborted transaction, and no record follows it.
#[test]
fn aborted_records_and_an_aborted_tail_end_a_history_without_a_further_record() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("aborted"));
    Admin::of(bootstrap).create(&topic, PARTITIONS).unwrap();
    let production = Production {
        topic: topic.clone(),
        records: 60_000,
        keys: 500,
        partitions: PARTITIONS,
        transactions: true,
        ..Production::default()
    };
    let delivered = production.run(bootstrap, WITHIN).unwrap();
    assert!(delivered.oracle.records() < 60_000, "the mix holds aborted transactions");
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, WITHIN).unwrap();
    declare(&sidecar, LATE, "earliest");
    wait_whole(&sidecar, LATE);
    delivered.oracle.compare(&sidecar, LATE, FEATURES).unwrap();
    assert_eq!(backfills(&sidecar), Vec::<Json>::new(), "what is whole is not listed any more");
    sidecar.kill9();
    delivered.oracle.compare(&setup.start().unwrap(), LATE, FEATURES).unwrap();
}

/// Two tables of one event, held by an operator, killed while they are held and while they are read.
#[test]
fn a_run_that_is_killed_begins_anew_and_ends_in_the_same_tables() {
    let (production, setup) = running(4_000);
    let mut producer = production.start(&broker().bootstrap).unwrap();
    let mut sidecar = setup.start().unwrap();
    wait_consumed(&sidecar, &production.topic, 40_000);
    declare(&sidecar, LATE, "earliest");
    declare(&sidecar, "later", "3650d");
    let ids: Vec<u64> = backfills(&sidecar).iter().filter_map(|fill| fill["id"].as_u64()).collect();
    for id in &ids {
        let _held_or_whole = sidecar.admin_post(&format!("/backfills/{id}/pause")).unwrap();
    }
    for kill in 0..6 {
        sidecar.kill9();
        sidecar = setup.start().unwrap();
        if kill == 1 {
            let open = backfills(&sidecar);
            assert!(open.iter().all(|fill| fill["state"] == "paused"), "what an operator holds is held over restarts: {open:?}");
            for id in open.iter().filter_map(|fill| fill["id"].as_u64()) {
                assert_eq!(sidecar.admin_post(&format!("/backfills/{id}/resume")).unwrap().status, 200);
            }
        }
        // The next kill comes at another stage: not begun, reading, and behind the flip.
        if kill >= 3 {
            let done = i64::from(kill - 2) * 20_000;
            let looked = wait_for("a later stage", Duration::from_secs(20), || {
                let open = backfills(&sidecar);
                let read: i64 = open.iter().filter_map(|fill| fill["records"].as_i64()).sum();
                if open.is_empty() || read >= done { Ok(()) } else { Err(format!("{open:?}")) }
            });
            looked.unwrap();
        }
    }
    wait_whole(&sidecar, LATE);
    wait_whole(&sidecar, "later");
    producer.enough().unwrap();
    let delivered = producer.finish(WITHIN).unwrap();
    sidecar.wait_positions(&production.topic, &delivered.ends, WITHIN).unwrap();
    for table in [CARDS, LATE, "later"] {
        delivered.oracle.compare(&sidecar, table, FEATURES).unwrap();
    }
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&production.topic, &delivered.ends, WITHIN).unwrap();
    for table in [CARDS, LATE, "later"] {
        delivered.oracle.compare(&sidecar, table, FEATURES).unwrap();
    }
}

/// What retention took cannot be read: the rest counts, and nothing exact is said of it.
#[test]
fn a_history_that_was_cut_counts_what_is_left_and_claims_nothing_more() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("cut"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let records = 20_000;
    let production = Production { topic: topic.clone(), records, keys: 1, partitions: 1, ..Production::default() };
    let delivered = production.run(bootstrap, WITHIN).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, WITHIN).unwrap();
    Admin::of(bootstrap).trim(&topic, 0, 15_000).unwrap();
    declare(&sidecar, LATE, "earliest");
    wait_whole(&sidecar, LATE);
    let key = delivered.oracle.table.keys().next().unwrap();
    let row = sidecar.data_get(&format!("/tables/{LATE}/{key}?explain=1")).unwrap();
    assert_eq!(row.body["n"]["value"], json!(5_000), "{}", row.text);
    assert_eq!(row.body["n"]["exact"], json!(false), "{}", row.text);
    let twin = sidecar.data_get(&format!("/tables/{CARDS}/{key}?explain=1")).unwrap();
    assert_eq!((&twin.body["n"]["value"], &twin.body["n"]["exact"]), (&json!(records), &json!(true)), "{}", twin.text);
}

#[test]
fn what_cannot_be_filled_is_refused_with_its_code_and_changes_nothing() {
    let (_, setup) = running(1);
    let sidecar = setup.start().unwrap();
    let pushed = json!({ "kind": "event", "name": "Pushed", "schema": { "fields": { "card": "str" } } });
    assert_eq!(sidecar.data_post("/register", &json!({ "nodes": [pushed] })).unwrap().status, 200);
    let mut of_pushed = node("p", "earliest");
    of_pushed["upstreams"] = json!(["Pushed"]);
    of_pushed["ops"][0]["agg"] = json!({ "n": { "op": "count", "params": {} } });
    let mut single = node("s", "earliest");
    single.as_object_mut().unwrap().remove("backfill");
    single["ops"][0]["agg"]["n"]["backfill"] = json!("auto");
    for (node, code) in [
        (of_pushed, "backfill_no_history"),
        (single, "not_available"),
        (node("w", "erliest"), "invalid_registration"),
        (node("z", "0s"), "invalid_registration"),
        (node("f", "3651d"), "invalid_registration"),
    ] {
        let answer = sidecar.data_post("/register", &json!({ "nodes": [node] })).unwrap();
        assert_eq!((answer.status, answer.code()), (400, code), "{node}: {}", answer.text);
    }
    for action in ["pause", "resume", "cancel"] {
        assert_eq!(sidecar.admin_post(&format!("/backfills/9/{action}")).unwrap().code(), "backfill_not_found");
    }
}

/// Nobody waits for a history that is given up.
#[test]
fn a_history_that_is_given_up_leaves_a_table_that_begins_empty() {
    let (production, setup) = running(2_000);
    let mut producer = production.start(&broker().bootstrap).unwrap();
    let sidecar = setup.start().unwrap();
    wait_consumed(&sidecar, &production.topic, 10_000);
    declare(&sidecar, LATE, "earliest");
    if let Some(id) = backfills(&sidecar).first().and_then(|fill| fill["id"].as_u64()) {
        let answer = sidecar.admin_post(&format!("/backfills/{id}/cancel")).unwrap();
        assert!(answer.status == 200 || answer.code() == "backfill_not_found", "{}", answer.text);
    }
    wait_whole(&sidecar, LATE);
    producer.enough().unwrap();
    producer.finish(WITHIN).unwrap();
}

/// Nobody takes a cold feature for a warm one: a table that begins empty on a running topic says since when it counts.
#[test]
fn a_table_says_since_when_it_has_all_rows_and_refuses_where_that_is_asked_for() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("cold"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let production = Production { topic: topic.clone(), records: 2_000, keys: 1, partitions: 1, ..Production::default() };
    let delivered = production.run(bootstrap, WITHIN).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, WITHIN).unwrap();
    let mut cold = node("cold", "");
    cold.as_object_mut().unwrap().remove("backfill");
    assert_eq!(sidecar.data_post("/register", &json!({ "nodes": [cold] })).unwrap().status, 200);
    declare(&sidecar, LATE, "earliest");
    wait_whole(&sidecar, LATE);
    let key = delivered.oracle.table.keys().next().unwrap();
    let header = "x-streamgauge-complete-since";
    let status = sidecar.status().unwrap();
    let told =
        |name: &str| status["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap()["complete_since_ms"].clone();
    for table in [CARDS, LATE] {
        let read = sidecar.data_get(&format!("/tables/{table}/{key}?complete=1&explain=1")).unwrap();
        assert_eq!((read.status, &read.body["n"]["value"], read.headers.get(header)), (200, &json!(2_000), None), "{table}: {}", read.text);
        assert_eq!(told(table), Json::Null, "{table}");
    }
    let read = sidecar.data_get(&format!("/tables/cold/{key}?complete=1")).unwrap();
    assert_eq!((read.status, read.code()), (503, "incomplete"), "{}", read.text);
    assert_eq!(read.body["error"]["complete_since_ms"], told("cold"), "{}", read.text);
    let row = json!({ "id": 1, "card": key, "amount": 1.0, "items": 1, "ts": 1_700_000_000_000_i64 });
    assert_eq!(sidecar.data_post("/push/Payment", &row).unwrap().status, 200);
    let read = sidecar.data_get(&format!("/tables/cold/{key}")).unwrap();
    assert_eq!(read.status, 200, "{}", read.text);
    assert!(told("cold").as_i64().unwrap() > 0 && read.headers.contains_key(header), "{:?}", read.headers);
    // The same after a restart from a snapshot and from the log.
    assert!(sidecar.terminate(WITHIN).unwrap().success());
    let sidecar = setup.start().unwrap();
    let read = sidecar.data_get(&format!("/tables/cold/{key}?complete=1")).unwrap();
    assert_eq!((read.code(), &read.body["error"]["complete_since_ms"]), ("incomplete", &told("cold")), "{}", read.text);
}

/// The only file below a folder whose name ends so.
fn file_in(folder: &std::path::Path, suffix: &str) -> std::path::PathBuf {
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let found: Vec<_> = names.iter().filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    assert_eq!(found.len(), 1, "{names:?}");
    found[0].clone()
}

/// Without a snapshot the flip is replayed: from its file and the log, without Kafka. A damaged file is refused, not guessed at.
#[test]
fn a_replay_needs_the_sealed_file_and_nothing_of_kafka_and_refuses_a_damaged_one() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("sealed"));
    Admin::of(bootstrap).create(&topic, PARTITIONS).unwrap();
    let production = Production { topic: topic.clone(), records: 20_000, keys: 300, partitions: PARTITIONS, ..Production::default() };
    let delivered = production.run(bootstrap, WITHIN).unwrap();
    let text = config(bootstrap, Topics::One(&topic), None);
    let setup = Setup::new(BINARY, &text).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, WITHIN).unwrap();
    declare(&sidecar, LATE, "auto");
    wait_whole(&sidecar, LATE);
    // A push behind the flip is in the log alone.
    let card = delivered.oracle.table.keys().next().unwrap();
    let row = json!({ "id": 1, "card": "pushed", "amount": 2.5, "items": 1, "ts": 1_700_000_000_000_i64 });
    assert_eq!(sidecar.data_post("/push-sync/Payment", &row).unwrap().status, 200, "{card}");
    sidecar.kill9();
    let snapshots = setup.data().join("snapshots");
    std::fs::read_dir(&snapshots).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    // Nobody answers at this address.
    setup.write_config(&text.replace(bootstrap, "127.0.0.1:1")).unwrap();
    let sidecar = setup.start().unwrap();
    delivered.oracle.compare(&sidecar, LATE, FEATURES).unwrap();
    assert_eq!(sidecar.get(LATE, "pushed").unwrap().unwrap()["n"], json!(1));
    sidecar.kill9();
    let seal = file_in(&setup.data().join("history/1"), ".snap");
    let mut bytes = std::fs::read(&seal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&seal, &bytes).unwrap();
    std::fs::read_dir(&snapshots).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    let refused = setup.start_bound().unwrap_err();
    assert!(refused.contains("error[seal_damaged]"), "{refused}");
    bytes[middle] ^= 1;
    std::fs::write(&seal, &bytes).unwrap();
    delivered.oracle.compare(&setup.start().unwrap(), LATE, FEATURES).unwrap();
}

/// Before, a run that began before its sources did found no partitions, and brought an empty table in. The file declares it,
/// and its source begins at the end: what came before is history, what comes is live.
#[test]
fn a_table_of_the_file_has_a_history_that_its_source_never_read() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("latest"));
    Admin::of(bootstrap).create(&topic, PARTITIONS).unwrap();
    let production = Production { topic: topic.clone(), records: 20_000, keys: 300, partitions: PARTITIONS, ..Production::default() };
    let delivered = production.run(bootstrap, WITHIN).unwrap();
    let text = config(bootstrap, Topics::One(&topic), None).replace("start = \"earliest\"", "start = \"latest\"");
    let text = text.replace(&format!("[tables.{CARDS}]\n"), &format!("[tables.{CARDS}]\nbackfill = \"earliest\"\n"));
    let setup = Setup::new(BINARY, &text).unwrap();
    let sidecar = setup.start().unwrap();
    wait_whole(&sidecar, CARDS);
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    // A new partition and its records are live, behind the flip.
    Admin::of(bootstrap).grow(&topic, PARTITIONS + 1).unwrap();
    assert!(sidecar.terminate(WITHIN).unwrap().success());
    // The word means nothing any more: the table is there.
    let sidecar = setup.start().unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    assert_eq!(backfills(&sidecar), Vec::<Json>::new());
}
