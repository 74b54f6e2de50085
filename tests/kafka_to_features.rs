//! Kafka in, features out: what an independent producer wrote is what the tables say, key by key, against an oracle computed from the input.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, REGIONS, Topics, config};
use streamgauge_testing::{Admin, Production, Setup, broker, kafka, long, registry, unique};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");

#[test]
fn two_million_avro_records_of_two_writers_equal_the_oracle() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("payments"));
    Admin::of(bootstrap).create(&topic, 12).unwrap();
    let url = registry().url.as_str();
    let records = if long() { 10_000_000 } else { 2_000_000 };
    let production = Production { topic: topic.clone(), registry: Some(url.to_owned()), records, ..Production::default() };
    let mut producer = production.start(bootstrap).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), Some(url))).unwrap();
    let sidecar = setup.start().unwrap();
    let delivered = producer.finish(Duration::from_secs(if long() { 1800 } else { 400 })).unwrap();
    assert_eq!(delivered.oracle.records(), i64::try_from(records).unwrap());
    sidecar.wait_positions(&topic, &delivered.ends, Duration::from_secs(120)).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();

    // The same after a clean stop and a start: nothing is read twice, nothing is missing.
    assert!(sidecar.terminate(Duration::from_secs(30)).unwrap().success());
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, Duration::from_secs(60)).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn json_records_and_their_headers_equal_the_oracle() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("json"));
    Admin::of(bootstrap).create(&topic, 4).unwrap();
    let production = Production { topic: topic.clone(), records: 200_000, partitions: 4, headers: true, ..Production::default() };
    let delivered = production.run(bootstrap, Duration::from_secs(120)).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, Duration::from_secs(60)).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    for (region, count) in &delivered.oracle.regions {
        assert_eq!(sidecar.get(REGIONS, region).unwrap().unwrap()["n"], json!(count), "{region}");
    }
}

#[test]
fn lines_of_kafkas_own_console_producer_are_counted() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("console"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    let line =
        |id: u32, amount: f64| json!({ "id": id, "card": "c1", "amount": amount, "items": 1, "ts": 1_700_000_000_000_u64 + u64::from(id) });
    let lines = format!("{}\n{}\nnot json\n{}\n", line(1, 2.5), line(2, 600.0), line(3, 1.0));
    kafka::console_produce(bootstrap, &topic, &lines).unwrap();
    let ends = Admin::of(bootstrap).ends(&topic).unwrap();
    sidecar.wait_positions(&topic, &ends, Duration::from_secs(60)).unwrap();
    let row = sidecar.get(CARDS, "c1").unwrap().unwrap();
    assert_eq!((&row["n"], &row["total"], &row["large"], &row["last_id"]), (&json!(3), &json!(603.5), &json!(1), &json!(3)));
    assert_eq!(sidecar.get(CARDS, "c2").unwrap(), None);
}
