//! `kill -9` at random places of a stream that is still being written: each restart goes on alone, and the tables end as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, Topics, config};
use streamgauge_testing::{Admin, Dice, Production, Setup, Sidecar, broker, long, registry, unique, wait_for};

const PARTITIONS: u32 = 12;

/// Records applied so far.
fn consumed(sidecar: &Sidecar, topic: &str) -> u64 {
    u64::try_from(sidecar.consumed(topic).unwrap()).unwrap()
}

#[test]
fn twenty_kills_in_mid_stream_lose_nothing_and_double_nothing() {
    let (kills, rate) = if long() { (200, 20_000) } else { (20, 16_000) };
    let records = kills * 2 * rate;
    let (bootstrap, topic, url) = (broker().bootstrap.as_str(), unique("killed"), registry().url.as_str());
    Admin::of(bootstrap).create(&topic, PARTITIONS).unwrap();
    let production =
        Production { topic: topic.clone(), registry: Some(url.to_owned()), records, rate: Some(rate), ..Production::default() };
    let mut producer = production.start(bootstrap).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, Topics::One(&topic), Some(url))).unwrap();
    let mut dice = Dice::thrown();
    let mut sidecar = setup.start().unwrap();
    let mut stood = 0;
    for kill in 1..=kills {
        // A place in the stream, not a moment: a slow machine must not move the kills past its end.
        let target = stood + dice.between(rate / 10, rate * 3 / 2);
        wait_for(&format!("record {target} before kill {kill}"), Duration::from_secs(60), || {
            stood = consumed(&sidecar, &topic);
            if stood >= target { Ok(()) } else { Err(format!("{stood} consumed")) }
        })
        .unwrap();
        sidecar.kill9();
        assert!(producer.running(), "kill {kill} at record {stood}: the producer had ended");
        assert!(stood < records, "kill {kill} landed behind the stream, at {stood} of {records}");
        sidecar = setup.start().unwrap();
        let resumed = consumed(&sidecar, &topic);
        assert!(resumed <= records, "position {resumed} after kill {kill}");
    }
    let delivered = producer.finish(Duration::from_secs(300)).unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, Duration::from_secs(60)).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}
