//! Time alone makes room at the memory limit: what no window needs is given back while rows wait, so that a wait at
//! the limit has an end.

use super::inlets::{apply_all, attach, offer_all};
use super::turns::record;
use super::{House, NOW_US, get, options, tag, turn, walkers};
use crate::apply::incidents::Subject;
use crate::apply::snapshotter::Outcome;
use crate::apply::{EngineOptions, News, codec};
use crate::read::UnknownFeature;
use crate::row::Key;
use crate::state::{Content, Sweep};
use crate::wal::{Frame, FrameKind};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use streamgauge_api::port::{Read, ReadOptions, Request};
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Code, Port};

const SECOND_US: i64 = 1_000_000;

/// A table whose keys count over a minute, full of rows of now: its bytes are all that there may be.
fn full() -> (House, crate::apply::EngineInlet, streamgauge_api::Slot) {
    let house = House::build();
    let mut port = house.port();
    let features = json!({"m": {"op": "count", "params": {"window": "1m"}}});
    port.call(tag(1, 0), Request::Register(walkers(&features).to_string()));
    turn(&mut port);
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let bodies: Vec<String> = (0..400).map(|walker| format!(r#"{{"walker":"walker-{walker}"}}"#)).collect();
    let rows = (0..60).flat_map(|_| &bodies).zip(0..).map(|(body, offset)| record(slot, offset, body.as_bytes()));
    offer_all(&house, &mut inlet, rows);
    // Lists that have moved leave sparse chunks, which is another room.
    house.seat.with(|engine| while engine.state.evacuate(64, 1) {});
    let bytes = bytes(&house);
    assert!(bytes > 300_000, "{bytes} bytes of lists");
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: bytes, ..options() });
    (house, inlet, slot)
}

/// A packet of new keys, for which there is no room.
fn offer_strangers(house: &House, inlet: &mut crate::apply::EngineInlet, slot: streamgauge_api::Slot) {
    let strangers: Vec<String> = (0..1000).map(|walker| format!(r#"{{"walker":"stranger-{walker}"}}"#)).collect();
    let rows = strangers.iter().zip(24_000..).map(|(body, offset)| record(slot, offset, body.as_bytes()));
    offer_all(house, inlet, rows);
    assert!(house.facts.memory_full.load(Ordering::Relaxed), "there was room");
}

fn bytes(house: &House) -> u64 {
    house.seat.look(|engine| engine.state().bytes() as u64)
}

fn lsn(house: &House) -> u64 {
    house.facts.applied_lsn.load(Ordering::Relaxed)
}

/// What the apply thread does when nobody has anything for it.
fn pass(house: &House, us: i64) {
    house.clock.set(NOW_US + us);
    house.seat.with(|engine| engine.tick());
    apply_all(house);
}

/// The tables' content was kept for ever, and the packet waited as long.
#[test]
fn a_packet_that_waits_for_memory_goes_in_when_windows_have_passed_over_what_is_there() {
    let (house, mut inlet, slot) = full();
    let limit = bytes(&house);
    offer_strangers(&house, &mut inlet, slot);
    let source = Subject::source("steps");
    let waits = || house.facts.incidents.is_open(IncidentKind::WriteStall, &source);
    assert!(waits() && house.steps_of("stranger-0").is_none());

    // Nothing has expired: nothing is written, however often it is looked at.
    let before = lsn(&house);
    for seconds in 1..=60 {
        pass(&house, seconds * SECOND_US);
    }
    assert!(waits(), "{} of {limit} bytes", bytes(&house));
    assert_eq!(lsn(&house), before);

    // A minute and a bucket are over.
    pass(&house, 62 * SECOND_US);
    assert!(bytes(&house) < limit / 2, "{} of {limit} bytes", bytes(&house));
    // The thousand rows went in behind the sweep's frames.
    let frames = lsn(&house) - before - 1000;
    assert!((1..=400).contains(&frames), "{frames} frames for 400 keys");
    pass(&house, 63 * SECOND_US);
    assert!(!waits() && house.steps_of("stranger-999").is_some_and(|(n, _)| n == 1));
    assert_eq!(house.steps_of("walker-7").map(|(n, _)| n), Some(60), "what has no window stays");
    assert!(bytes(&house) <= limit);
    let position = house.seat.look(|engine| engine.state().partitions()[slot.0 as usize].position.offset);
    assert_eq!(position, 25_000);
}

#[test]
fn nothing_is_swept_while_nobody_waits_for_room() {
    let (house, _inlet, _slot) = full();
    let (before, held) = (lsn(&house), bytes(&house));
    for minutes in 1..=5 {
        pass(&house, minutes * 60 * SECOND_US + SECOND_US);
    }
    assert_eq!((lsn(&house), bytes(&house)), (before, held));
}

/// What is given back while a state is being written would be copied, and be held by the frozen state all the same.
#[test]
fn a_sweep_waits_while_a_state_is_frozen_and_goes_on_behind_it() {
    let (house, mut inlet, slot) = full();
    offer_strangers(&house, &mut inlet, slot);
    let live = || house.seat.look(|engine| engine.state().live_bytes());
    let before = live();
    let frozen = house.seat.with(|engine| engine.state().freeze()).unwrap();
    pass(&house, 62 * SECOND_US);
    assert_eq!(live(), before);
    drop(frozen);
    apply_all(&house);
    assert!(live() < before / 2);
}

/// The newest row of a topic that rests is long ago: a read at it found nothing, and no word of what was gone.
#[test]
fn a_read_at_the_newest_row_is_refused_where_a_sweep_has_passed_it() {
    let (house, mut inlet, slot) = full();
    let read = |feature: &str, approximate| {
        let features = Some(vec![feature.to_owned()]);
        let options = ReadOptions { as_of_latest: true, approximate, features, ..ReadOptions::default() };
        let read = Read { options, ..get("walker-7") };
        let read = house.seat.look(|engine| engine.get(&read, UnknownFeature::AsNotFound));
        read.map(|(row, _)| row.values[0].to_json().as_i64().unwrap()).map_err(|error| error.code)
    };
    assert_eq!((read("m", false), read("n", false)), (Ok(60), Ok(60)));
    offer_strangers(&house, &mut inlet, slot);
    pass(&house, 62 * SECOND_US);
    assert_eq!((read("m", false), read("m", true)), (Err(Code::AsOfOutOfReach), Ok(0)));
    assert_eq!(read("n", false), Ok(60), "what has no window answers for now");
}

/// Each tick began another round before it looked whether a snapshot was due, and a snapshot waits for a round's end.
#[test]
fn a_snapshot_comes_between_two_rounds_though_a_round_takes_longer_than_the_time_between_them() {
    let (house, frozen) = House::with_snapshots(EngineOptions { snapshot_every: Duration::from_secs(1), ..options() });
    let mut port = house.port();
    let features = json!({"m": {"op": "count", "params": {"window": "1m"}}});
    port.call(tag(1, 0), Request::Register(walkers(&features).to_string()));
    turn(&mut port);
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let bodies: Vec<String> = (0..100).map(|walker| format!(r#"{{"walker":"walker-{walker}"}}"#)).collect();
    offer_all(&house, &mut inlet, bodies.iter().zip(0..).map(|(body, offset)| record(slot, offset, body.as_bytes())));
    let (mut rounds, mut snapshots) = (0, 0);
    for seconds in 1..=20 {
        let mut held = house.seat.hold();
        // Rows are kept out all the time.
        held.keeps_out(&[], true);
        held.tick();
        rounds += usize::from(held.can_sweep());
        house.clock.set(NOW_US + 2 * seconds * SECOND_US);
        drop(held);
        apply_all(&house);
        if frozen.try_recv().is_ok() {
            snapshots += 1;
            house.seat.with(|engine| engine.hear(News::SnapshotDone(Outcome::Taken)));
        }
    }
    assert!(rounds >= 9 && snapshots >= 9, "{rounds} rounds and {snapshots} snapshots in 20 turns: both have theirs");
}

#[test]
fn reads_have_their_turn_between_the_slices_of_a_sweep() {
    let (house, mut inlet, slot) = full();
    offer_strangers(&house, &mut inlet, slot);
    house.clock.set(NOW_US + 62 * SECOND_US);
    let mut reader = house.port();
    let mut held = house.seat.hold();
    held.tick();
    let mut sweeps = 0;
    while held.can_sweep() {
        reader.call(tag(1, sweeps), Request::Get(get("walker-7")));
        turn(&mut reader);
        // One event each, at most one of them the sweep's.
        for _ in 0..4 {
            house.seat.step(&mut held);
        }
        sweeps += 1;
        assert_eq!(turn(&mut reader).len(), 1, "a read is answered beside every slice");
        assert!(sweeps < 1000, "a sweep has no end");
    }
    assert!(sweeps > 0);
}

#[test]
fn a_sweep_is_read_back_as_it_was_written_and_a_crafted_one_is_refused() {
    let decoded = |body: &[u64]| {
        let kind = FrameKind::SWEEP;
        codec::decode(&Frame { kind, flags: 0, first_lsn: 1, row_count: 0, now_us: 9, durable_lsn: 0, positions: &[], body })
    };
    let keys = [&b""[..], b"u", &[0; 4096], b"four"].map(Key::from_slice);
    for (table, keys) in [(0, Vec::new()), (1, keys[..2].to_vec()), (u32::MAX, keys.to_vec())] {
        let sweep = Sweep { table, keys };
        let mut encoded = codec::Encoded::default();
        codec::encode(&Content::Sweep(sweep.clone()), &mut encoded);
        assert_eq!(codec::kind_of(&Content::Sweep(sweep.clone())), FrameKind::SWEEP);
        let body = encoded.tail;
        assert!(matches!(decoded(&body), Ok(Content::Sweep(read)) if read == sweep));
        // Anything else is refused, or is another sweep; nothing panics.
        for (word, bit) in (0..body.len().min(8)).flat_map(|word| (0..64).map(move |bit| (word, bit))) {
            let mut crafted = body.clone();
            crafted[word] ^= 1 << bit;
            let _any = decoded(&crafted);
        }
        for words in 0..body.len().min(3) {
            assert!(decoded(&body[..words]).is_err() || sweep.keys.is_empty());
        }
    }
}
