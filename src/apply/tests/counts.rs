//! What the engine counts of itself.

use super::{House, tag, turn};
use crate::storage::{IoError, Operation};
use crate::wal::WalError;
use streamgauge_api::Port;
use streamgauge_api::port::{Encoding, PushRow, Wait};

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
