//! A full disk behind the engine, or one that does not answer: what it held goes on as soon as that is over.

use super::inlets::{apply_all, attach};
use super::turns::record;
use super::{House, NOW_US, declare, options};
use crate::state::State;
use crate::storage::Disk;
use crate::wal::{LogIdentity, Start, WalHandle, WalOptions, WalWriter};
use serde_json::json;
use std::sync::atomic::Ordering;
use streamgauge_api::{Clock, Inlet};

/// Over a log of small segments that nobody syncs or prepares but the test.
fn on_disk() -> (tempfile::TempDir, House, WalHandle<Disk>) {
    let folder = tempfile::tempdir().unwrap();
    let (start, options_of_log) =
        (Start::Fresh { log: LogIdentity { log_id: 1, hash_seed: 1 } }, WalOptions { segment_bytes: 4096, ..WalOptions::default() });
    let (writer, handle) = WalWriter::start(Disk, folder.path(), start, options_of_log, NOW_US).unwrap();
    let house = House::over_log(NOW_US, State::new(1), options(), None, (writer, handle.clone()));
    house.seat.with(declare);
    (folder, house, handle)
}

#[test]
fn a_packet_that_a_full_disk_held_is_tried_as_soon_as_anything_is_written() {
    let (_folder, house, handle) = on_disk();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let lent = handle.hold_room();
    let walker = "w".repeat(3_900);
    let body = json!({ "walker": walker }).to_string();
    // The first may find room that the segment has.
    for offset in 0..3 {
        assert_eq!(inlet.offer(&[record(slot, offset, body.as_bytes())]).taken, 1);
        assert!(inlet.flush());
        apply_all(&house);
    }
    let mut held = house.seat.hold();
    assert!(house.facts.disk_full.load(Ordering::Relaxed) && !held.has_waiting_due());
    drop(lent);
    assert!(handle.prepare().unwrap());
    // The clock stands still: it is not for the time that passed.
    held.tick();
    assert!(!house.facts.disk_full.load(Ordering::Relaxed) && held.has_waiting_due());
    drop(held);
    for _ in 0..3 {
        apply_all(&house);
        handle.prepare().unwrap();
        house.clock.set(house.clock.now_us() + 1_000_000);
        house.seat.hold().tick();
    }
    apply_all(&house);
    assert_eq!(house.steps_of(&walker).map(|(n, _)| n), Some(3));
}

#[test]
fn a_packet_that_a_hung_sync_held_is_tried_as_soon_as_the_sync_ends() {
    let (_folder, house, handle) = on_disk();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let walker = "w".repeat(3_000);
    let body = json!({ "walker": walker }).to_string();
    // Nobody syncs and nobody prepares a segment: the one that is written grows until it may not.
    let mut offset = 0;
    while house.seat.look(|engine| engine.stalls.is_empty()) {
        assert!(offset < 100, "the log grows without an end");
        assert_eq!(inlet.offer(&[record(slot, offset, body.as_bytes())]).taken, 1);
        assert!(inlet.flush());
        apply_all(&house);
        offset += 1;
    }
    let mut held = house.seat.hold();
    assert!(!held.has_waiting_due() && !house.facts.disk_full.load(Ordering::Relaxed));
    assert!(handle.prepare().unwrap());
    // The clock stands still here too.
    held.synced(handle.durable_lsn());
    assert!(held.has_waiting_due());
    drop(held);
    apply_all(&house);
    assert_eq!(house.steps_of(&walker).map(|(n, _)| n), Some(offset));
}
