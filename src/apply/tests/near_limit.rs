//! How near the memory limit rows may come until each of them is looked at: tables with many windows stay on the quick
//! way as long as there is room for what their keys can really become, and pushes as well as Kafka rows do.

use super::inlets::{attach, offer_all};
use super::turns::record;
use super::{House, NOW_US, count, declare_with, get, options, tag, turn, turn_to_end};
use crate::apply::incidents::Subject;
use crate::apply::{EngineInlet, EngineOptions};
use serde_json::{Value as Json, json};
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Port, RawRecord, Reply, Tag};

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

/// Walkers with full lists of three windows, and what is left of the limit for the rings that these become.
fn house_of_lists(walkers: usize, rows: usize) -> (House, Vec<String>) {
    let house = House::build();
    let count = |window: &str| json!({"op": "count", "params": {"window": window}});
    house.seat.with(|engine| declare_with(engine, &json!({"m": count("1m"), "h": count("1h"), "d": count("1d")})));
    let bodies: Vec<String> = (0..walkers).map(|walker| format!(r#"{{"walker":"walker-{walker}"}}"#)).collect();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let each = (0..rows).flat_map(|_| &bodies).zip(0..);
    offer_all(&house, &mut inlet, each.map(|(body, offset)| record(slot, offset, body.as_bytes())));
    (house, bodies)
}

/// Copies of so many keys could not be kept: the worst was assumed of each, and the push was refused with half of the
/// limit free. The look took seconds, and everybody waited for it.
#[test]
fn a_large_push_that_fits_is_taken_and_others_read_while_it_is_looked_at() {
    let (house, bodies) = house_of_lists(300, 320);
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: 24 << 20, ..options() });
    let (mut pusher, mut reader) = (house.port(), house.port());
    let mut held = house.seat.hold();
    let lsn = held.state().lsn();
    let rows: Vec<PushRow<'_>> = (0..65_536).map(|row| PushRow { event: "Step", body: bodies[row % bodies.len()].as_bytes() }).collect();
    pusher.push_batch(tag(1, 0), Encoding::Json, &rows, Wait::Default);
    pusher.call(tag(1, 1), Request::Get(get("walker-0")));
    turn(&mut pusher);
    let (mut slices, mut reads) = (0, 0u16);
    while held.state().lsn() == lsn {
        reader.call(tag(2, reads), Request::Get(get("walker-0")));
        turn(&mut reader);
        let mut replies = Vec::new();
        for _ in 0..6 {
            assert!(house.seat.step(&mut held), "a look that is begun goes on");
            replies.extend(turn(&mut reader));
            if !replies.is_empty() {
                break;
            }
        }
        assert!(matches!(&replies[..], [(_, Reply::Row(..))]), "who reads has a turn between slices: {replies:?}");
        (slices, reads) = (slices + 1, reads + 1);
    }
    assert!(slices > 8, "65,536 rows were looked at in {slices} slices");
    while house.seat.step(&mut held) {}
    let replies = turn(&mut pusher);
    let [(first, Reply::Pushed { count: 65_536, .. }), (second, Reply::Row(row, _))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((*first, *second, count(row)), (tag(1, 0), tag(1, 1), 320 + 219), "what came behind the push reads it");
    assert!(held.state().live_bytes() < 16 << 20, "{} bytes", held.state().live_bytes());
    assert_eq!(held.looked_rows, 0, "what fits in all is not looked at row by row");
}

#[test]
fn of_pushes_that_share_a_frame_those_are_refused_that_lack_room_and_each_is_answered_once() {
    let house = House::build();
    let mut port = house.port();
    for number in 0..200 {
        port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"known"}"# }, Wait::Default);
    }
    assert_eq!(turn(&mut port).len(), 200);
    let bytes = house.seat.look(|engine| engine.state().bytes() as u64);
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: bytes, ..options() });
    let bodies: Vec<String> = (0..200)
        .map(|number| if number % 3 == 0 { r#"{"walker":"known"}"#.into() } else { format!(r#"{{"walker":"stranger-{number}"}}"#) })
        .collect();
    for (number, body) in (0..).zip(&bodies) {
        port.push(tag(2, number), Encoding::Json, PushRow { event: "Step", body: body.as_bytes() }, Wait::Default);
    }
    let replies = turn_to_end(&house, &mut port);
    let mut answered: Vec<(Tag, bool)> =
        replies.iter().map(|(tag, reply)| (*tag, matches!(reply, Reply::Pushed { count: 1, .. }))).collect();
    answered.sort_unstable_by_key(|(tag, _)| tag.0);
    assert_eq!(answered, (0..200).map(|number| (tag(2, number), number % 3 == 0)).collect::<Vec<_>>());
    assert_eq!(house.steps_of("known").map(|(n, _)| n), Some(200 + 67));
    assert!(house.facts.incidents.is_open(IncidentKind::MemoryLimit, &Subject::table("walkers")), "the incident names the table");
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
    assert!(matches!(&turn_to_end(&house, &mut port)[..], [(_, Reply::Refused(..))]));
    assert_eq!(looked_rows(&house), 1);
}

/// Lifetime sketches of few keys, and a table of one key over the same rows: behind its first row that waits, all would.
fn house_of_sketches(memory_max_bytes: u64, pause_on_memory: bool) -> House {
    let house = House::with(EngineOptions { memory_max_bytes, pause_on_memory, ..options() });
    let feature = |op: &str| json!({"op": op, "params": {"field": "walker", "k": 5}});
    let features: serde_json::Map<String, Json> =
        (0..8).map(|number| (format!("t{number}"), feature("top_k"))).chain([("u".to_owned(), feature("n_unique"))]).collect();
    house.seat.with(|engine| declare_with(engine, &Json::Object(features)));
    let all = json!({"nodes": [
        {"kind": "derivation", "name": "all", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": [], "agg": {"n": {"op": "count", "params": {}}}}],
         "schema": {"fields": {}, "optional_fields": []}, "table_primary_key": []}
    ]});
    house.seat.with(|engine| {
        let registry = crate::pipeline::Registry::clone(engine.state().registry());
        let outcome = registry.apply_register(&all.to_string(), &crate::pipeline::RegisterOptions::default());
        let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
        engine.define(outcome.next.unwrap(), outcome.effects).unwrap();
    });
    house
}

/// Of many rows of one key the worst was assumed of each: an empty server refused them all, or left them out for good.
#[test]
fn many_rows_of_few_keys_with_sketches_are_taken_while_nearly_all_of_the_limit_is_free() {
    for pause in [true, false] {
        let house = house_of_sketches(32 << 20, pause);
        let mut inlet = house.inlet("steps");
        let slot = attach(&mut inlet, "steps", 0);
        let bodies: Vec<String> = (0..5_000).map(|row| format!(r#"{{"walker":"walker-{}"}}"#, row % 3)).collect();
        offer_all(&house, &mut inlet, (0..).zip(&bodies).map(|(offset, body)| record(slot, offset, body.as_bytes())));
        assert_eq!(house.steps_of("walker-0").map(|(n, _)| n), Some(1_667), "pause {pause}");
        assert!(!house.facts.incidents.is_open(IncidentKind::MemoryLimit, &Subject::table("walkers")), "pause {pause}");

        let mut port = house.port();
        let rows: Vec<PushRow<'_>> = bodies.iter().map(|body| PushRow { event: "Step", body: body.as_bytes() }).collect();
        port.push_batch(tag(1, 0), Encoding::Json, &rows, Wait::Default);
        let replies = turn_to_end(&house, &mut port);
        assert!(matches!(&replies[..], [(_, Reply::Pushed { count: 5_000, .. })]), "{replies:?}");
        assert!(house.seat.look(|engine| engine.state().live_bytes()) < 1 << 20);
    }
}
