//! A snapshot gives way to tables that need its memory, is told, and is taken once there is room.

use super::{House, NOW_US, get, options, tag, turn_to_end};
use crate::apply::snapshotter::Outcome;
use crate::apply::{EngineOptions, News, Subject};
use crate::state::{FROZEN_SHARE, Frozen, NoRoom};
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use streamgauge_api::port::{Encoding, PushRow, Wait};
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Clock, Port, Reply};

const LIMIT: usize = 1 << 20;
const SECOND_US: i64 = 1_000_000;

fn limited() -> (House, Receiver<Arc<Frozen>>) {
    let options = EngineOptions { memory_max_bytes: LIMIT as u64, snapshot_every: Duration::from_secs(1), ..options() };
    House::with_snapshots(options)
}

/// Pushes one row each; how many were taken.
fn push_all(house: &House, walkers: impl Iterator<Item = usize>) -> usize {
    let mut port = house.port();
    let mut taken = 0;
    for walker in walkers {
        let body = format!(r#"{{"walker":"walker-{walker}"}}"#);
        port.push(tag(1, 0), Encoding::Json, PushRow { event: "Step", body: body.as_bytes() }, Wait::Default);
        let replies = turn_to_end(house, &mut port);
        let [(_, reply)] = &replies[..] else { panic!("{replies:?}") };
        taken += usize::from(matches!(reply, Reply::Pushed { .. }));
        let bytes = house.seat.look(|engine| engine.state().bytes());
        assert!(bytes <= LIMIT, "{bytes} bytes of {LIMIT}");
    }
    taken
}

fn fill(house: &House) -> usize {
    let walkers = push_all(house, 0..200_000);
    assert!(walkers > 2_000 && walkers < 200_000, "{walkers} walkers");
    walkers
}

fn abandoned(house: &House) -> bool {
    house.facts.incidents.is_open(IncidentKind::SnapshotAbandoned, &Subject::Server)
}

/// A tick after so many seconds.
fn tick(house: &House, seconds: i64) {
    house.clock.set(house.clock.now_us() + seconds * SECOND_US);
    house.seat.with(|engine| engine.tick());
}

fn done(house: &House, outcome: Outcome) {
    house.seat.with(|engine| engine.hear(News::SnapshotDone(outcome)));
}

fn no_room(frozen: &Frozen) -> NoRoom {
    frozen.fingerprint().unwrap_err()
}

#[test]
fn a_snapshot_gives_way_to_keys_that_are_written_and_is_tried_again_less_often() {
    let (house, frozen) = limited();
    let walkers = fill(&house);
    tick(&house, 1);
    let first = frozen.try_recv().unwrap();
    let fingerprint = first.fingerprint().unwrap();
    assert_eq!(first.fingerprint(), Ok(fingerprint));
    // Known keys need no room of their own, and are not kept out for the sake of a snapshot.
    assert_eq!(push_all(&house, 0..walkers), walkers);
    let told = no_room(&first);
    assert!(told.copied_bytes > 0 && told.lacking_bytes > LIMIT / 2 && told.limit_bytes == LIMIT, "{told}");
    drop(first);
    done(&house, Outcome::NoRoom(told));
    assert!(abandoned(&house));

    // After one second no other is begun, after two there is.
    tick(&house, 1);
    assert!(frozen.try_recv().is_err());
    tick(&house, 1);
    let second = frozen.try_recv().unwrap();
    assert_eq!(push_all(&house, 0..walkers), walkers);
    done(&house, Outcome::NoRoom(no_room(&second)));
    drop(second);
    tick(&house, 3);
    assert!(frozen.try_recv().is_err() && abandoned(&house));

    // Nothing is written: it fits, and is whole.
    tick(&house, 1);
    let third = frozen.try_recv().unwrap();
    assert_eq!(third.fingerprint(), house.seat.look(|engine| Ok(engine.state().fingerprint())));
    drop(third);
    done(&house, Outcome::Taken);
    assert!(!abandoned(&house));
}

#[test]
fn a_state_without_room_for_its_lists_is_not_frozen_and_that_is_told() {
    let (house, frozen) = limited();
    fill(&house);
    // A lower limit than the tables of the process before it held.
    house.seat.with(|engine| engine.state().set_memory_limit(LIMIT - LIMIT / 8));
    tick(&house, 1);
    assert!(frozen.try_recv().is_err() && abandoned(&house));
    assert_eq!(house.facts.snapshots_failed.load(Ordering::Relaxed), 1);
    assert_eq!(house.facts.snapshot_failure().unwrap().code, streamgauge_api::Code::TableMemoryExceeded);
    let refused = house.seat.with(|engine| engine.snapshot()).unwrap_err();
    assert!(refused.reason.contains("no room beside the tables"), "{refused}");
    // More room than it lacked: it is begun at the next turn, though it was given up twice in a row.
    house.seat.with(|engine| engine.state().set_memory_limit(LIMIT));
    tick(&house, 4);
    assert!(frozen.try_recv().is_ok());
    assert!(house.steps_of("walker-7").is_some() && get("walker-7").table == "walkers");
}

#[test]
fn tables_leave_room_for_a_frozen_state() {
    let (house, _frozen) = limited();
    fill(&house);
    let bytes = house.seat.look(|engine| engine.state().bytes());
    assert!(bytes <= LIMIT - LIMIT / FROZEN_SHARE && bytes > LIMIT / 2, "{bytes} bytes");
    assert!(NOW_US > 0 && house.seat.look(|engine| engine.state().freeze()).is_ok());
}
