//! Transactions: what was aborted is never counted, what is open is not counted yet, and a backfill ends although the log's last offset is a marker.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, Topics, config};
use streamgauge_testing::{Admin, Production, Setup, broker, registry, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const DELIVERED_WITHIN: Duration = Duration::from_secs(180);
const APPLIED_WITHIN: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 4;

fn mixed(records: u64) -> Production {
    let topic = unique("mixed");
    Admin::of(&broker().bootstrap).create(&topic, PARTITIONS).unwrap();
    let url = registry().url.clone();
    Production { topic, registry: Some(url), records, keys: 500, partitions: PARTITIONS, transactions: true, ..Production::default() }
}

fn setup(production: &Production) -> Setup {
    Setup::new(BINARY, &config(&broker().bootstrap, Topics::One(&production.topic), production.registry.as_deref())).unwrap()
}

#[test]
fn aborted_records_and_an_aborted_tail_are_never_counted() {
    let production = mixed(60_000);
    let delivered = production.run(&broker().bootstrap, DELIVERED_WITHIN).unwrap();
    assert!(delivered.oracle.records() < 60_000, "the mix holds aborted transactions");
    let setup = setup(&production);
    let sidecar = setup.start().unwrap();
    // The ends lie behind the last marker, where no record is: the position must get there all the same.
    sidecar.wait_positions(&production.topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();

    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&production.topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn an_open_transaction_is_counted_when_it_commits_and_not_before() {
    open_transaction_that(true);
}

#[test]
fn an_open_transaction_is_passed_when_it_aborts() {
    open_transaction_that(false);
}

fn open_transaction_that(commits: bool) {
    let production = Production { open: true, ..mixed(10_000) };
    let mut producer = production.start(&broker().bootstrap).unwrap();
    let before = producer.finish(DELIVERED_WITHIN).unwrap();
    let setup = setup(&production);
    let sidecar = setup.start().unwrap();
    wait_for("the committed records", APPLIED_WITHIN, || before.oracle.compare(&sidecar, CARDS, FEATURES)).unwrap();
    let positions = sidecar.positions(&production.topic).unwrap();
    assert!(before.ends.iter().any(|(partition, end)| positions[partition] < *end), "{positions:?} must stop before the open transaction");

    let after = producer.close(commits, DELIVERED_WITHIN).unwrap();
    assert_eq!(after.oracle == before.oracle, !commits);
    sidecar.wait_positions(&production.topic, &after.ends, APPLIED_WITHIN).unwrap();
    after.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}
