//! What the engine counts of itself.

use super::inlets::{attach, offer_all};
use super::turns::record;
use super::{House, get, tag, turn};
use crate::storage::{IoError, Operation};
use crate::wal::WalError;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use streamgauge_api::metrics::SeatEvent;
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::{Port, RawRecord};

#[test]
fn a_log_that_failed_is_counted() {
    let house = House::build();
    let cause = IoError {
        operation: Operation::Sync,
        path: "wal".into(),
        kind: std::io::ErrorKind::Other,
        errno: Some(5),
        message: "input/output error".into(),
    };
    for _ in 0..3 {
        house.seat.with(|engine| engine.failed(WalError::Poisoned { cause: cause.clone() }));
    }
    assert_eq!(house.metrics.wal_fsync_errors.get(), 1, "the first one is final");
}

#[test]
fn a_turn_is_timed_once_and_its_rows_are_counted_as_applied() {
    let house = House::build();
    let mut port = house.port();
    let rows = vec![PushRow { event: "Step", body: br#"{"walker":"w"}"# }; 5_000];
    port.push_batch(tag(1, 1), Encoding::Json, &rows, Wait::Default);
    port.push(tag(1, 2), Encoding::Json, rows[0], Wait::Default);
    let mut replies = turn(&mut port);
    let mut held = house.seat.hold();
    while house.seat.step(&mut held) {
        replies.extend(turn(&mut port));
    }
    replies.extend(turn(&mut port));
    assert_eq!(replies.len(), 2);
    let series = house.metrics.event_series("Step");
    assert_eq!((series.applied.get(), series.push_accepted.get()), (5_001, 5_001));
    let turns = house.metrics.apply_batch.count();
    assert!((1..=2).contains(&turns), "{turns} turns of two frames");
}

/// Tombstones that reached no row were rows without a key, or nothing at all.
#[test]
fn a_tombstone_that_forgets_nothing_is_counted_by_table() {
    let house = House::build();
    let everybody = json!({"nodes": [
        {"kind": "derivation", "name": "everybody", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": [], "agg": {"n": {"op": "count", "params": {}}}}],
         "schema": {"fields": {}, "optional_fields": []}, "table_primary_key": []}
    ]});
    let mut port = house.port();
    port.call(tag(1, 0), Request::Register(everybody.to_string()));
    turn(&mut port);
    let mut inlet = house.keyed_inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let record = |offset: i64, key: &'static str, value| RawRecord { key: Some(key.as_bytes()), value, ..record(slot, offset, b"") };
    let records = [record(0, "ann", Some(&b"{}"[..])), record(1, "ann", None), record(2, "ann", None), record(3, "bob", None)];
    offer_all(&house, &mut inlet, records.into_iter());
    let funnel = |table: &str| house.seat.look(|engine| engine.state().table(table).unwrap().funnel);
    let (walkers, all) = (funnel("walkers"), funnel("everybody"));
    assert_eq!((walkers.applied, walkers.deleted, walkers.undeleted, walkers.null_key), (1, 1, 2, 0));
    assert_eq!((all.applied, all.deleted, all.undeleted, all.null_key), (1, 0, 3, 0));
}

#[test]
fn each_event_on_the_seat_is_timed_once_by_its_kind() {
    let house = House::build();
    let mut port = house.port();
    let rows = vec![PushRow { event: "Step", body: br#"{"walker":"w"}"# }; 20_000];
    let mut held = house.seat.hold();
    port.push_batch(tag(1, 1), Encoding::Json, &rows, Wait::Default);
    let mut replies = turn(&mut port);
    let seat = house.metrics.seat.clone();
    let counts = || SeatEvent::ALL.map(|event| seat.count(event));
    let mut steps = 0;
    while replies.is_empty() {
        let before = counts();
        assert!(house.seat.step(&mut held));
        let added: u64 = counts().iter().zip(before).map(|(now, before)| now - before).sum();
        assert_eq!(added, 1);
        steps += 1;
        replies.extend(turn(&mut port));
    }
    assert!(steps > 4 && seat.count(SeatEvent::Slice) >= 4, "{:?}", counts());
    // On a busy machine what was pushed is answered before the turn is over.
    while house.seat.step(&mut held) {}
    drop(held);
    let (visits, asked) = (seat.count(SeatEvent::Visit), seat.count(SeatEvent::Operator));
    port.call(tag(1, 2), Request::Get(get("w")));
    assert_eq!(turn(&mut port).len(), 1);
    house.seat.look(|_| ());
    assert_eq!((seat.count(SeatEvent::Visit), seat.count(SeatEvent::Operator)), (visits + 1, asked + 1));
    assert!(seat.operator_turn.count() > 0);
}

/// Each of the replies woke the I/O thread: a system call for each of a hundred thousand pushes, on the seat.
#[test]
fn replies_that_a_sync_releases_wake_their_port_once() {
    let house = House::build();
    let mut port = house.port();
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    port.on_ready(Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    for number in 0..1_000 {
        port.push(tag(number, 0), Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"w"}"# }, Wait::Synced);
    }
    assert!(turn(&mut port).is_empty());
    house.seat.with(|engine| {
        let lsn = engine.state().lsn();
        wakes.store(0, Ordering::Relaxed);
        engine.synced(lsn);
    });
    assert_eq!((wakes.load(Ordering::Relaxed), turn(&mut port).len()), (1, 1_000));
}
