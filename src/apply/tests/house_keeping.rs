//! Housekeeping comes between two turns, however long they are and whatever waits.

use super::inlets::attach;
use super::turns::record;
use super::{House, NOW_US, get, options, tag, turn, walkers};
use crate::apply::seat::TURNS_PER_TICK;
use crate::apply::snapshotter::Outcome;
use crate::apply::{EngineOptions, EnginePort, News};
use crate::state::Frozen;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::{Inlet, Port};

const BODY: &[u8] = br#"{"walker":"w"}"#;

/// A house that freezes its state whenever house is kept, and what it froze.
fn house() -> (House, crossbeam_channel::Receiver<Arc<Frozen>>) {
    House::with_snapshots(EngineOptions { snapshot_every: Duration::from_micros(1), ..options() })
}

/// Two frames of many rows, written as one turn.
fn push_turn(port: &mut EnginePort, number: u16) {
    let rows = vec![PushRow { event: "Step", body: BODY }; 65_536];
    for frame in 0..2 {
        port.push_batch(tag(1, number * 2 + frame), Encoding::Json, &rows, Wait::Default);
    }
    turn(port);
}

#[test]
fn house_is_kept_at_the_end_of_each_turn_in_which_it_was_due() {
    let (house, frozen) = house();
    let (mut pusher, mut reader) = (house.port(), house.port());
    // Rows that take long enough: a turn has more slices than there are events between two looks at the house.
    let windows = (1..=12).map(|minutes| (format!("n_{minutes}m"), json!({"op": "count", "params": {"window": format!("{minutes}m")}})));
    let features = json!(windows.collect::<std::collections::BTreeMap<_, _>>());
    reader.call(tag(2, 1), Request::Register(walkers(&features).to_string()));
    turn(&mut reader);
    let mut held = house.seat.hold();
    while frozen.try_recv().is_ok() {
        held.hear(News::SnapshotDone(Outcome::Taken));
    }
    for number in 0..4 {
        push_turn(&mut pusher, number);
    }
    let (mut kept, mut turns, mut events, mut now_us) = (0, 0, 0, NOW_US);
    loop {
        // There is always work, also beside the turn.
        reader.call(tag(2, 0), Request::Get(get("w")));
        turn(&mut reader);
        now_us += 10;
        house.clock.set(now_us);
        let was = held.is_mid_turn();
        house.seat.step(&mut held);
        if frozen.try_recv().is_ok() {
            kept += 1;
            held.hear(News::SnapshotDone(Outcome::Taken));
        }
        turn(&mut pusher);
        match (was, held.is_mid_turn()) {
            (false, true) => {
                assert_eq!(kept, turns, "turn {turns} was over and the next began before house was kept");
                events = 0;
            }
            (true, true) => events += 1,
            (true, false) => {
                assert!(events >= TURNS_PER_TICK, "a turn of {events} events says nothing");
                turns += 1;
            }
            (false, false) if turns == 4 && kept == 4 => break,
            (false, false) => {}
        }
        assert!(turns < 4 || events < 10_000, "{kept} times in {turns} turns");
        events += u32::from(turns == 4);
    }
}

#[test]
fn a_packet_that_waited_and_opens_a_turn_does_not_come_before_housekeeping() {
    let (house, frozen) = house();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let all = EngineOptions { snapshot_every: Duration::from_micros(1), ..options() };
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: 1, ..all.clone() });
    let rows: Vec<String> = (0..1_000).map(|number| format!(r#"{{"walker":"new{number}"}}"#)).collect();
    for (offset, row) in (0..).zip(&rows) {
        inlet.offer(&[record(slot, offset, row.as_bytes())]);
    }
    assert!(inlet.flush());
    let mut held = house.seat.hold();
    while house.seat.step(&mut held) {}
    held.options = all;
    while frozen.try_recv().is_ok() {
        held.hear(News::SnapshotDone(Outcome::Taken));
    }
    house.clock.set(NOW_US + 500_000);
    held.tick();
    let lsn = frozen.try_recv().unwrap_or_else(|_| panic!("house was not kept")).lsn();
    while house.seat.step(&mut held) {}
    assert!(held.state().lsn() >= lsn + 1_000, "the packet that waited is applied behind the state that was frozen");
}

#[test]
fn memory_that_was_full_is_told_for_as_long_as_time_passes_also_when_the_clock_is_set_back() {
    let house = House::build();
    house.seat.with(|engine| engine.options.memory_max_bytes = 1);
    let mut port = house.port();
    port.push(tag(1, 0), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
    assert_eq!(turn(&mut port).len(), 1);
    let full = || house.facts.memory_full.load(std::sync::atomic::Ordering::Relaxed);
    assert!(full());
    house.clock.jump(-365 * 86_400 * 1_000_000);
    house.seat.with(|engine| engine.accept_clock()).unwrap();
    let now_us = house.given.now_us();
    for (passed_us, told) in [(1_000_000, true), (3_000_000, false)] {
        house.clock.set(now_us + passed_us);
        house.seat.with(|engine| engine.tick());
        assert_eq!(full(), told, "after {passed_us} us");
    }
}

/// All tables together were held against what one has to be worth: each second a walk that walked nothing was begun, told
/// as done, and had everything that waits tried again.
#[test]
fn tables_that_are_worth_no_walk_each_are_not_walked_for_what_they_are_together() {
    let house = House::build();
    let mut port = house.port();
    let mut payload = walkers(&json!({"m": {"op": "count", "params": {"window": "1m"}}}));
    let mut other = payload["nodes"][1].clone();
    other["name"] = json!("runners");
    if let Some(nodes) = payload["nodes"].as_array_mut() {
        nodes.push(other);
    }
    port.call(tag(1, 0), Request::Register(payload.to_string()));
    turn(&mut port);
    // Lists that have moved leave sparse chunks, in both tables the same.
    for round in 0..40 {
        let bodies: Vec<String> = (0..400).map(|walker| format!(r#"{{"walker":"walker-{walker}"}}"#)).collect();
        let rows: Vec<PushRow<'_>> = bodies.iter().map(|body| PushRow { event: "Step", body: body.as_bytes() }).collect();
        port.push_batch(tag(1, 1 + round), Encoding::Json, &rows, Wait::Default);
        turn(&mut port);
        super::inlets::apply_all(&house);
    }
    let sparse = house.seat.look(|engine| engine.state.sparse_bytes() as u64);
    for (seconds, worth, begins) in [(2, sparse * 3 / 4, false), (4, sparse / 4, true)] {
        house.clock.set(NOW_US + seconds * 1_000_000);
        let mut held = house.seat.hold();
        held.options.memory_max_bytes = worth * 256;
        held.keeps_out(&[], true);
        let freed = held.freed;
        held.tick();
        assert_eq!(held.evacuates(), begins, "{sparse} bytes in two tables where one of them has to be worth {worth}");
        while held.evacuates() {
            held.evacuate();
        }
        assert_eq!(held.freed > freed, begins, "nothing was given back");
    }
}
