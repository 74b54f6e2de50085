//! Faults outside of us: a broker that dies, a registry that is silent, a topic that grows, appears, or is replaced by another of its name. The first four go on
//! alone and lose nothing; the fifth stops, typed, with the tables still readable.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, SUMS, Topics, config};
use streamgauge_testing::{Admin, LocalKafka, LocalRegistry, Production, Setup, Sidecar, broker, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const DELIVERED_WITHIN: Duration = Duration::from_secs(240);
const APPLIED_WITHIN: Duration = Duration::from_secs(90);

fn start(bootstrap: &str, topics: Topics<'_>, registry: Option<&str>) -> (Setup, Sidecar) {
    let setup = Setup::new(BINARY, &config(bootstrap, topics, registry)).unwrap();
    let sidecar = setup.start().unwrap();
    (setup, sidecar)
}

fn json_records(topic: &str, records: u64, partitions: u32) -> Production {
    Production { topic: topic.to_owned(), records, partitions, keys: 300, ..Production::default() }
}

#[test]
fn a_broker_killed_and_a_broker_stopped_lose_nothing() {
    let mut kafka = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (kafka.bootstrap().to_owned(), unique("bounced"));
    Admin::of(&bootstrap).create(&topic, 6).unwrap();
    let production = Production { rate: Some(3_000), ..json_records(&topic, 60_000, 6) };
    let mut producer = production.start(&bootstrap).unwrap();
    let (_setup, sidecar) = start(&bootstrap, Topics::One(&topic), None);
    let consumed = |target: i64| {
        wait_for(&format!("record {target}"), APPLIED_WITHIN, || {
            let at = sidecar.consumed(&topic)?;
            if at >= target { Ok(()) } else { Err(format!("{at} consumed")) }
        })
        .unwrap();
    };
    consumed(6_000);
    kafka.kill9();
    kafka.go().unwrap();
    consumed(20_000);
    kafka.stop().unwrap();
    kafka.go().unwrap();
    let delivered = producer.finish(DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn a_silent_registry_stops_the_partition_and_nothing_is_rejected() {
    let registry = LocalRegistry::start().unwrap();
    let (bootstrap, topic, url) = (broker().bootstrap.as_str(), unique("unschooled"), registry.url());
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let production = Production { registry: Some(url.clone()), ..json_records(&topic, 5_000, 2) };
    let delivered = production.run(bootstrap, DELIVERED_WITHIN).unwrap();
    registry.freeze().unwrap();
    let (_setup, sidecar) = start(bootstrap, Topics::One(&topic), Some(&url));
    let stalled = sidecar.wait_incident(&topic, "Stalled", APPLIED_WITHIN).unwrap();
    assert_eq!(stalled.cause, "registry");
    registry.thaw().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    wait_for("the incident to close", APPLIED_WITHIN, || match sidecar.partitions()?.iter().find(|p| p.incident.is_some()) {
        None => Ok(()),
        Some(open) => Err(format!("{open:?}")),
    })
    .unwrap();
}

#[test]
fn a_partition_added_while_running_is_read_from_its_first_record() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("growing"));
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let earlier = json_records(&topic, 20_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (_setup, sidecar) = start(bootstrap, Topics::One(&topic), None);
    sidecar.wait_positions(&topic, &earlier.ends, APPLIED_WITHIN).unwrap();
    Admin::of(bootstrap).grow(&topic, 5).unwrap();
    let later = Production { first: 20_000, ..json_records(&topic, 20_000, 5) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&topic, &later.ends, APPLIED_WITHIN).unwrap();
    let mut oracle = earlier.oracle;
    oracle.add_counts(&later.oracle, SUMS);
    oracle.compare(&sidecar, CARDS, SUMS).unwrap();
}

#[test]
fn a_topic_created_later_that_the_regex_matches_is_read_from_its_first_record() {
    let (bootstrap, prefix) = (broker().bootstrap.as_str(), unique("family"));
    let (elder, younger, stranger) = (format!("{prefix}-elder"), format!("{prefix}-younger"), format!("{prefix}-other"));
    Admin::of(bootstrap).create(&elder, 2).unwrap();
    Admin::of(bootstrap).create(&stranger, 1).unwrap();
    let first = json_records(&elder, 5_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    json_records(&stranger, 100, 1).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (_setup, sidecar) = start(bootstrap, Topics::Regex(&format!("^{prefix}-(elder|younger)$")), None);
    sidecar.wait_positions(&elder, &first.ends, APPLIED_WITHIN).unwrap();
    Admin::of(bootstrap).create(&younger, 3).unwrap();
    let second = Production { first: 5_000, ..json_records(&younger, 5_000, 3) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&younger, &second.ends, APPLIED_WITHIN).unwrap();
    let mut oracle = first.oracle;
    oracle.add_counts(&second.oracle, SUMS);
    oracle.compare(&sidecar, CARDS, SUMS).unwrap();
    assert!(sidecar.positions(&stranger).unwrap().is_empty());
}

#[test]
fn a_topic_recreated_while_running_stops_typed_and_the_table_stays_readable() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("replaced"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let original = json_records(&topic, 1_000, 1).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (setup, sidecar) = start(bootstrap, Topics::One(&topic), None);
    sidecar.wait_positions(&topic, &original.ends, APPLIED_WITHIN).unwrap();
    Admin::of(bootstrap).delete(&topic).unwrap();
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    // More records than before: our position lies inside the new log, where nothing but the topic's id tells.
    let impostor = Production { first: 1_000, ..json_records(&topic, 3_000, 1) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_incident(&topic, "Recreated", APPLIED_WITHIN).unwrap();
    original.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    let key = original.oracle.table.keys().next().unwrap();
    let answer = sidecar.data_get(&format!("/tables/{CARDS}/{key}")).unwrap();
    assert_eq!(answer.headers.get("x-streamgauge-incident").map(String::as_str), Some("Recreated"));

    let metrics = sidecar.admin_get("/metrics").unwrap().text;
    assert!(metrics.contains("streamgauge_incidents_total{kind=\"Recreated\"} 1\n"), "{metrics}");

    // The incident is in the log: a restart knows it with no broker to ask.
    sidecar.kill9();
    let nobody = "127.0.0.1:1";
    setup.write_config(&config(nobody, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "Recreated", APPLIED_WITHIN).unwrap();

    // A restart that can ask says the same.
    sidecar.kill9();
    setup.write_config(&config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "Recreated", APPLIED_WITHIN).unwrap();
    assert!(sidecar.consumed(&topic).unwrap() < impostor.ends[&0]);
    original.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}
