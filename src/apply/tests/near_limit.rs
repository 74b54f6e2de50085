//! How near the memory limit rows may come until each of them is looked at: tables with many windows stay on the quick
//! way as long as there is room for what their keys can really become, and pushes as well as Kafka rows do.

use super::inlets::{attach, offer_all};
use super::turns::record;
use super::{House, NOW_US, declare_with, options, tag, turn};
use crate::apply::{EngineInlet, EngineOptions};
use serde_json::{Value as Json, json};
use streamgauge_api::port::{Encoding, PushRow, Wait};
use streamgauge_api::{Port, RawRecord, Reply};

/// Keys that have half of all rows, so that their lists become rings,
const BUSY: usize = 150;
/// and keys that have the others.
const OTHERS: usize = 15_000;
/// Rows that are offered at once.
const ROWS: i64 = 1_024;

/// Six windows, with a count and a sketch or a text in each.
fn many_windows() -> Json {
    let windows = ["1m", "10m", "1h", "6h", "1d", "7d"];
    let feature = |op: &str, window: &str| json!({"op": op, "params": {"window": window, "field": "walker"}});
    let mut features = json!({});
    for (number, window) in windows.iter().enumerate() {
        features[format!("n_{window}")] = json!({"op": "count", "params": {"window": window}});
        features[format!("x_{window}")] = feature(if number % 2 == 0 { "n_unique" } else { "max" }, window);
    }
    features
}

fn house() -> House {
    let house = House::build();
    house.seat.with(|engine| declare_with(engine, &many_windows()));
    house
}

/// Share of the limit that is taken, in hundredths.
fn share(house: &House) -> u64 {
    house.seat.look(|engine| engine.state().live_bytes() as u64 * 100 / engine.options.memory_max_bytes)
}

fn looked_rows(house: &House) -> usize {
    house.seat.look(|engine| engine.looked_rows)
}

#[test]
fn rows_of_many_windows_are_not_looked_at_one_by_one_until_nine_tenths_of_the_limit_are_taken() {
    let house = house();
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: 20 << 20, ..options() });
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let bodies: Vec<String> = (0..BUSY + OTHERS).map(|walker| format!(r#"{{"walker":"walker-{walker:05}"}}"#)).collect();
    let (mut offset, mut stream) = (0, 7u64);
    let mut next = |below: usize| {
        stream = stream.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (stream >> 33) as usize % below
    };
    let mut packet = |inlet: &mut EngineInlet| {
        let walkers: Vec<usize> = (0..ROWS).map(|_| if next(2) == 0 { next(BUSY) } else { BUSY + next(OTHERS) }).collect();
        let row = |(at, walker): (i64, &usize)| RawRecord {
            timestamp_ms: NOW_US / 1000 - 3_600_000 + (offset + at) * 10,
            ..record(slot, offset + at, bodies[*walker].as_bytes())
        };
        offer_all(&house, inlet, (0..).zip(&walkers).map(row));
        offset += ROWS;
    };
    while share(&house) < 90 {
        packet(&mut inlet);
        assert_eq!(looked_rows(&house), 0, "at {} % of the limit", share(&house));
    }
    let weighed = house.seat.look(|engine| engine.weighed_rows);
    assert!(weighed > 100_000, "by their numbers {weighed} rows would have been looked at");
    // At the limit itself they are.
    while looked_rows(&house) == 0 {
        packet(&mut inlet);
    }
    assert!((90..=98).contains(&share(&house)), "{} %", share(&house));
}

#[test]
fn a_push_is_not_looked_at_row_by_row_while_there_is_room_for_it() {
    // Since rows behind a row that waits go on, every frame of pushes was.
    let house = house();
    let mut port = house.port();
    for number in 0..50 {
        port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"w"}"# }, Wait::Default);
        assert!(matches!(&turn(&mut port)[..], [(_, Reply::Pushed { .. })]));
    }
    assert_eq!(looked_rows(&house), 0);
    let bytes = house.seat.look(|engine| engine.state().bytes() as u64);
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: bytes, ..options() });
    port.push(tag(1, 60), Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"stranger"}"# }, Wait::Default);
    assert!(matches!(&turn(&mut port)[..], [(_, Reply::Refused(..))]));
    assert_eq!(looked_rows(&house), 1);
}
