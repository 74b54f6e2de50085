//! Housekeeping comes between two turns, however long they are and whatever waits.

use super::inlets::attach;
use super::turns::record;
use super::{House, NOW_US, get, options, tag, turn};
use crate::apply::seat::TURNS_PER_TICK;
use crate::apply::{EngineOptions, EnginePort, News};
use crate::state::State;
use std::time::Duration;
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::{Inlet, Port};

const BODY: &[u8] = br#"{"walker":"w"}"#;

/// A house that freezes its state whenever house is kept, and what it froze.
fn house() -> (House, crossbeam_channel::Receiver<State>) {
    let (sender, frozen) = crossbeam_channel::bounded(1);
    let house = House::with(EngineOptions { snapshot_every: Duration::from_micros(1), ..options() });
    house.seat.with(|engine| engine.snapshots = Some(sender));
    (house, frozen)
}

/// Two frames of many rows, written as one turn.
fn push_turn(port: &mut EnginePort, number: u16) {
    let rows = vec![PushRow { event: "Step", body: BODY }; 65_536];
    port.push_batch(tag(1, number), Encoding::Json, &rows, Wait::Default);
    port.push_batch(tag(1, number + 1), Encoding::Json, &rows, Wait::Default);
    turn(port);
}

#[test]
fn house_is_kept_at_the_end_of_each_turn_in_which_it_was_due() {
    let (house, frozen) = house();
    let (mut pusher, mut reader) = (house.port(), house.port());
    let mut held = house.seat.hold();
    for number in 0..4 {
        push_turn(&mut pusher, number * 2);
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
            held.hear(News::SnapshotDone);
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
        held.hear(News::SnapshotDone);
    }
    house.clock.set(NOW_US + 500_000);
    held.tick();
    let lsn = frozen.try_recv().unwrap_or_else(|_| panic!("house was not kept")).lsn();
    while house.seat.step(&mut held) {}
    assert!(held.state().lsn() >= lsn + 1_000, "the packet that waited is applied behind the state that was frozen");
}
