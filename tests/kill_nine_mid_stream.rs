//! `kill -9` at random places of a stream that is still being written: each restart goes on alone, and the tables end as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, Topics, config};
use streamgauge_testing::{Admin, Dice, Production, Setup, Sidecar, broker, long, registry, unique, wait_for};

const PARTITIONS: u32 = 12;

/// Records per second that the producer writes until it is told to stop.
const RATE: u64 = 10_000;

/// More than any run gets to.
const RECORDS_MAX: u64 = 20_000_000;

/// Records applied so far.
fn consumed(sidecar: &Sidecar, topic: &str) -> u64 {
    u64::try_from(sidecar.consumed(topic).unwrap()).unwrap()
}

#[test]
fn twenty_kills_in_mid_stream_lose_nothing_and_double_nothing() {
    let kills = if long() { 200 } else { 20 };
    let (bootstrap, topic, url) = (broker().bootstrap.as_str(), unique("killed"), registry().url.as_str());
    Admin::of(bootstrap).create(&topic, PARTITIONS).unwrap();
    let (rate, registry) = (Some(RATE), Some(url.to_owned()));
    let production = Production { topic: topic.clone(), registry, records: RECORDS_MAX, rate, until_enough: true, ..Production::default() };
    let mut producer = production.start(bootstrap).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, Topics::One(&topic), Some(url))).unwrap();
    let mut dice = Dice::thrown();
    let mut sidecar = setup.start().unwrap();
    let mut stood = 0;
    for kill in 1..=kills {
        // A place in the stream, not a moment, so that the kills land among records whatever the machine's speed.
        let target = stood + dice.between(RATE / 10, RATE * 3 / 2);
        wait_for(&format!("record {target} before kill {kill}"), Duration::from_secs(60), || {
            stood = consumed(&sidecar, &topic);
            if stood >= target { Ok(()) } else { Err(format!("{stood} consumed")) }
        })
        .unwrap();
        sidecar.kill9();
        assert!(producer.running(), "kill {kill} at record {stood}: the producer had ended");
        sidecar = setup.start().unwrap();
    }
    producer.enough().unwrap();
    let delivered = producer.finish(Duration::from_secs(120)).unwrap();
    assert!(i64::try_from(stood).unwrap() < delivered.oracle.records(), "the last kill landed at {stood}, behind the stream");
    sidecar.wait_positions(&topic, &delivered.ends, Duration::from_secs(60)).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}
