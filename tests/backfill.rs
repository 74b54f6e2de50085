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
