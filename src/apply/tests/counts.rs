//! What the engine counts of itself.

use super::inlets::{attach, offer_all};
use super::turns::record;
use super::{House, tag, turn};
use crate::storage::{IoError, Operation};
use crate::wal::WalError;
use serde_json::json;
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
