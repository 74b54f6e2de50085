//! Recovery over a simulated disk: a frame that ends every start, and an operator who gets past it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::attempts::DEATHS_MAX;
use super::*;
use crate::apply::codec::{Encoded, encode, kind_of};
use crate::pipeline::{RegisterOptions, Registry};
use crate::row::{RowsBuilder, Strictness};
use crate::snapshot::SnapshotFacts;
use crate::state::RowsContent;
use crate::storage::{Reserve, SimulatedDisk};
use crate::wal::{FrameParts, WalError, WalOptions, WalWriter};
use serde_json::json;
use std::sync::Arc;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{PartitionKey, Position, Slot, StoredPosition, TopicId};

const LOG: LogIdentity = LogIdentity { log_id: 5, hash_seed: 9 };

fn small() -> WalOptions {
    WalOptions { segment_bytes: 4096, ..WalOptions::default() }
}

fn wal() -> &'static Path {
    Path::new("data/wal")
}

fn snapshots() -> &'static Path {
    Path::new("data/snapshots")
}

fn registry() -> (Arc<Registry>, Vec<crate::pipeline::TableEffect>) {
    let payload = json!({"nodes": [
        {"kind": "event", "name": "Step", "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "event_time_field": null},
        {"kind": "event", "name": "Once", "schema": {"fields": {"id": "str"}, "optional_fields": []}, "dedupe_key": "id", "cold_after_ms": 5},
        {"kind": "derivation", "name": "walkers", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": ["walker"], "agg": {"n": {"op": "count", "params": {}}}}],
         "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "table_primary_key": ["walker"]}
    ]});
    let outcome = Registry::default().apply_register(&payload.to_string(), &RegisterOptions::default());
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
    (outcome.next.unwrap(), outcome.effects)
}

fn rows(registry: &Registry, walkers: &[&str], offset: i64) -> Content {
    let event = registry.event("Step").unwrap();
    let mut builder = RowsBuilder::new(Arc::clone(&event.schema), Strictness::Push);
    for walker in walkers {
        builder.begin();
        builder.str(crate::row::FieldIndex(0), walker).unwrap();
        builder.commit(1_000_000, None, false).unwrap();
    }
    let position = Position { offset, after: offset, epoch: 1, record_time_ms: 5, clock_ms: 5 };
    Content::Rows(RowsContent { positions: vec![(Slot(0), position)], batches: vec![builder.finish()], ..RowsContent::default() })
}

/// A log of a definition, a partition and three frames of rows; returns the LSN of the second of these.
fn log(disk: &SimulatedDisk) -> u64 {
    let (registry, effects) = registry();
    let key = PartitionKey { event: "Step".into(), cluster: "c".into(), topic: "steps".into(), topic_id: TopicId::NONE, partition: 3 };
    let start = Position { offset: 0, after: -1, epoch: -1, record_time_ms: -1, clock_ms: -1 };
    let contents = [
        Content::Definition { registry: Arc::clone(&registry), effects },
        Content::Partition(StoredPosition { key, position: start }),
        rows(&registry, &["a", "b"], 2),
        rows(&registry, &["a", "c", "c"], 5),
        rows(&registry, &["a"], 6),
    ];
    write_log(disk, &contents)[3]
}

/// A log of these frames; their first LSNs.
fn write_log(disk: &SimulatedDisk, contents: &[Content]) -> Vec<u64> {
    let (mut writer, handle) = WalWriter::start(disk.clone(), wal(), Start::Fresh { log: LOG }, small(), 1).unwrap();
    let (mut encoded, mut firsts) = (Encoded::default(), Vec::new());
    for content in contents {
        encode(content, &mut encoded);
        let batches = match content {
            Content::Rows(rows) => rows.batches.iter().map(|batch| batch.words()).collect(),
            _ => Vec::new(),
        };
        let row_count = if let Content::Rows(rows) = content { u32::try_from(rows.rows()).unwrap() } else { 0 };
        let body: Vec<&[u64]> = [&encoded.head[..]].into_iter().chain(batches).chain([&encoded.tail[..]]).collect();
        let parts =
            FrameParts { kind: kind_of(content), flags: 0, row_count, now_us: 7_000_000, positions: &encoded.positions, body: &body };
        firsts.push(writer.stage(&parts).unwrap());
        writer.write().unwrap();
    }
    handle.sync_now().unwrap();
    writer.close(7_000_000).unwrap();
    firsts
}

fn start(disk: &SimulatedDisk, apply: Apply) -> Result<Recovered, RecoveryError> {
    let mut attempts = Attempts::open(disk, Path::new("data"), "1");
    let recovered = rebuilt(disk, wal(), snapshots(), &Facts::default(), &mut attempts, apply);
    match &recovered {
        Ok(_) => attempts.done(),
        Err(_) => attempts.refused(),
    }
    recovered
}

/// What the operator decides.
fn left_out(disk: &SimulatedDisk, lsn: u64) -> Result<LeftOut, SkipError> {
    skip(disk, wal(), snapshots(), &reserve(disk), lsn)
}

fn reserve(disk: &SimulatedDisk) -> Reserve<SimulatedDisk> {
    Reserve::new(disk.clone(), Path::new("data"), 1 << 16)
}

/// Applies, and dies in the frame of rows that brings the partition to offset 5.
fn deadly(state: &mut State, content: &Content, first_lsn: u64, now_us: i64) {
    if let Content::Rows(rows) = content {
        assert_ne!(rows.positions.first().map(|(_, position)| position.offset), Some(5), "the frame that cannot be applied");
    }
    state.apply(content, first_lsn, now_us);
}

fn dies(disk: &SimulatedDisk) {
    let disk = disk.clone();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| start(&disk, deadly).is_ok())).is_err());
}

#[test]
fn no_row_is_a_crash_loop() {
    let disk = SimulatedDisk::new();
    let lsn = log(&disk);
    for _ in 0..DEATHS_MAX {
        dies(&disk);
    }
    for _ in 0..2 {
        let error = start(&disk, deadly).unwrap_err();
        let RecoveryError::CrashLoop(frame) = &error else { panic!("{error}") };
        assert_eq!((frame.lsns, frame.kind, frame.at_us), ((lsn, lsn + 2), "frame of rows", 7_000_000));
        assert_eq!(
            (frame.events.as_slice(), frame.partitions.as_slice()),
            (["Step".to_owned()].as_slice(), ["steps/3 offsets 2 to 4".to_owned()].as_slice())
        );
        let refusal = ApiError::from(error);
        assert_eq!(refusal.code, Code::CrashLoop);
        assert!(refusal.reason.contains(&format!("streamgauge wal skip {lsn}")), "{}", refusal.reason);
    }
    // Any LSN of the frame names it, and asking changes nothing.
    let before = files(&disk);
    let asked = would_skip(&disk, wal(), snapshots(), lsn + 2).unwrap();
    assert_eq!(files(&disk), before);
    assert_eq!(asked.events, [EventRows { event: "Step".to_owned(), rows: Some(3), tables: vec!["walkers".to_owned()] }]);
    let done = left_out(&disk, lsn + 1).unwrap();
    assert_eq!((done.lsns, done.rows), ((lsn, lsn + 2), 3));
    assert_eq!((done.positions[0].from, done.positions[0].to), (2, 5));
    assert_eq!(asked, LeftOut { decided_lsn: None, ..done.clone() }, "what was said is what is done");
    for again in [left_out(&disk, lsn), would_skip(&disk, wal(), snapshots(), lsn)] {
        assert!(matches!(again, Err(SkipError::Already { .. })));
    }

    let recovered = start(&disk, deadly).unwrap();
    let state = &recovered.state;
    assert_eq!(state.partitions()[0].position.offset, 6, "positions pass it");
    assert_eq!((recovered.report.rows, recovered.report.skipped_rows), (3, 3));
    let (_, incident) = state.skipped().next().unwrap();
    assert_eq!(incident.kind, IncidentKind::FrameSkipped);
    assert_eq!(incident.lost, "records of offsets 2 to 4 are in no table");
    assert_eq!(state.skips().iter().map(|skip| (skip.first_lsn, skip.rows)).collect::<Vec<_>>(), [(lsn, 3)]);
    assert_eq!(state.table("walkers").unwrap().len(), 2, "a and b; c was in the frame alone");
    // And so does every later start, to the same state.
    let again = start(&disk, State::apply).unwrap();
    assert_eq!(again.state.fingerprint(), recovered.state.fingerprint());
    assert_eq!(definitions(&disk, wal(), snapshots()).unwrap().unwrap().registry.version, state.registry().version);
}

#[test]
fn only_rows_that_a_start_replays_can_be_left_out() {
    let disk = SimulatedDisk::new();
    let lsn = log(&disk);
    let before: Vec<Vec<u8>> = files(&disk);
    for (asked, expected) in [(1, "definition"), (2, "partition"), (lsn + 4, "close")] {
        match left_out(&disk, asked) {
            Err(SkipError::NotRows { kind, .. }) => assert_eq!(kind, expected, "LSN {asked}"),
            other => panic!("LSN {asked}: {other:?}"),
        }
    }
    assert!(matches!(left_out(&disk, 900), Err(SkipError::NotThere { from_lsn: 1, .. })));
    assert_eq!(files(&disk), before, "a refusal changes nothing");
}

fn files(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
    disk.list(wal()).unwrap().iter().map(|entry| disk.bytes(&wal().join(&entry.name)).unwrap()).collect()
}

#[test]
fn a_skip_that_dies_anywhere_is_decided_or_not_and_the_log_is_whole() {
    for stop in 0..120 {
        for seed in 0..4 {
            let disk = SimulatedDisk::new();
            let lsn = log(&disk);
            disk.set_faults(crate::storage::Faults { stop_at: Some(stop), ..Default::default() });
            let told = left_out(&disk, lsn).is_ok();
            if seed == 0 {
                disk.kill()
            } else {
                disk.crash(seed)
            }
            let recovered = start(&disk, State::apply).unwrap();
            let skipped = recovered.report.skipped_rows == 3;
            assert!(skipped || !told, "stop {stop} seed {seed}: what was told is decided");
            assert_eq!(recovered.report.rows, if skipped { 3 } else { 6 }, "stop {stop} seed {seed}");
        }
    }
}

/// Appends a frame with this body to the log, as a program of another mind would.
fn append(disk: &SimulatedDisk, kind: FrameKind, json: &serde_json::Value) -> u64 {
    let survey = WalSurvey::look(disk, wal(), None).unwrap();
    let mut reader = WalReader::open(disk.clone(), survey, 1, 0).unwrap();
    while reader.next().unwrap().is_some() {}
    let tail = reader.tail().unwrap();
    let (mut writer, handle) = WalWriter::start(disk.clone(), wal(), Start::After(Box::new(tail)), small(), 7_000_000).unwrap();
    let mut text = json.to_string().into_bytes();
    let mut body = vec![text.len() as u64];
    text.resize(text.len().next_multiple_of(8), 0);
    body.extend(text.chunks(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())));
    let parts = FrameParts { kind, flags: 0, row_count: 0, now_us: 7_000_000, positions: &[], body: &[&body] };
    let lsn = writer.append([parts]).unwrap();
    handle.sync_now().unwrap();
    writer.close(7_000_000).unwrap();
    lsn
}

#[test]
fn a_frame_that_contradicts_the_state_is_refused_by_its_lsn() {
    let registry = registry().0.to_json();
    let effects = [
        json!([{"effect": "create", "table": 0}]),
        json!([{"effect": "create", "table": 77}]),
        json!([{"effect": "drop", "table": 77}]),
        json!([{"effect": "extend", "table": 77, "features": ["n"]}]),
        json!([{"effect": "extend", "table": 0, "features": ["n"]}]),
        json!([{"effect": "retire", "table": 0, "features": ["n"]}]),
        json!([{"effect": "retire", "table": 0, "features": ["nobody"]}]),
    ];
    for effects in effects {
        let disk = SimulatedDisk::new();
        log(&disk);
        let lsn = append(&disk, FrameKind::DEFINITION, &json!({"registry": registry, "effects": effects}));
        let before = files(&disk);
        let error = start(&disk, State::apply).unwrap_err();
        assert!(matches!(&error, RecoveryError::Content(cause) if cause.lsn == lsn), "{effects}: {error}");
        assert_eq!(ApiError::from(error).code, Code::WalDamaged);
        assert_eq!(files(&disk), before, "a refusal changes nothing");
    }
    let frames = [
        (FrameKind::CLOCK, json!({"now_us": i64::MAX, "held": true})),
        (FrameKind::CLOCK, json!({"now_us": -1, "held": false})),
        (FrameKind::INCIDENT, json!({"slot": 9, "incident": null})),
    ];
    for (kind, text) in frames {
        let disk = SimulatedDisk::new();
        log(&disk);
        let lsn = append(&disk, kind, &text);
        let error = start(&disk, State::apply).unwrap_err();
        assert!(matches!(&error, RecoveryError::Content(cause) if cause.lsn == lsn), "{text}: {error}");
    }
}

/// A sound file with this description in place of a state's.
fn describe(disk: &SimulatedDisk, lsn: u64, description: &[u8]) {
    let facts = SnapshotFacts { log: LOG, lsn, wall_us: 1 };
    let mut writer = crate::snapshot::SnapshotWriter::begin(disk.clone(), snapshots(), facts).unwrap();
    writer.bytes(1, 0, description).unwrap();
    writer.finish(0, 0, lsn).unwrap();
}

#[test]
fn a_state_of_a_newer_format_stops_the_start_and_stays_as_it_is() {
    let disk = SimulatedDisk::new();
    let lsn = log(&disk) - 1;
    describe(&disk, lsn, br#"{"format": 4000000, "what": "nobody knows yet"}"#);
    let before = disk.list(snapshots()).unwrap();
    let error = start(&disk, State::apply).unwrap_err();
    assert!(error.to_string().contains("format 4000000"), "{error}");
    assert_eq!(ApiError::from(error).code, Code::FormatTooNew);
    let error = definitions(&disk, wal(), snapshots()).unwrap_err();
    assert_eq!(ApiError::from(error).code, Code::FormatTooNew);
    assert_eq!(disk.list(snapshots()).unwrap(), before);
}

#[test]
fn a_snapshot_that_is_no_state_is_passed_over_while_the_log_reaches_back() {
    let disk = SimulatedDisk::new();
    let lsn = log(&disk) - 1;
    let whole = start(&disk, State::apply).unwrap().state.fingerprint();
    describe(&disk, lsn, br#"{"format": "of a text"}"#);
    let recovered = start(&disk, State::apply).unwrap();
    assert_eq!(recovered.state.fingerprint(), whole);
    assert_eq!(recovered.damaged_snapshots, [lsn]);
    assert_eq!(definitions(&disk, wal(), snapshots()).unwrap().unwrap().unfed, recovered.state.unfed());
}

/// A snapshot with sound bytes that is no state: a start passes it over and dies in a frame before it, which
/// `wal skip` once took for applied, so that nothing got past it.
#[test]
fn a_frame_behind_a_snapshot_that_was_passed_over_can_be_left_out() {
    let damage = |disk: &SimulatedDisk, lsn: u64| {
        let path = snapshots().join(format!("{lsn:020}.snap"));
        let mut bytes = disk.bytes(&path).unwrap();
        bytes[200] ^= 1;
        disk.place(&path, bytes);
    };
    for (what, is_state) in [("no state", false), ("damaged", true)] {
        let disk = SimulatedDisk::new();
        let lsn = log(&disk);
        // A sound one before the frame, and one behind all.
        let state = start(&disk, State::apply).unwrap().state;
        let last = state.lsn();
        let mut before = State::new(LOG.hash_seed);
        replay_until(&disk, &mut before, lsn);
        image(&disk, &before);
        if is_state {
            image(&disk, &state);
            damage(&disk, last);
        } else {
            describe(&disk, last, br#"{"format": "of a text"}"#);
        }
        for _ in 0..DEATHS_MAX {
            dies(&disk);
        }
        assert!(matches!(start(&disk, deadly), Err(RecoveryError::CrashLoop(_))), "{what}");
        let asked = would_skip(&disk, wal(), snapshots(), lsn).unwrap();
        assert_eq!((asked.rows, &*asked.events[0].tables), (3, &["walkers".to_owned()][..]), "{what}: named by the older snapshot");
        assert_eq!((asked.positions[0].from, asked.positions[0].to), (2, 5), "{what}");
        left_out(&disk, lsn).unwrap();
        let recovered = start(&disk, deadly).unwrap();
        assert_eq!((recovered.report.snapshot_lsn, recovered.report.skipped_rows), (lsn - 1, 3), "{what}");
        assert_eq!(recovered.damaged_snapshots, [last], "{what}");
    }
}

/// Applies the frames of the log before this LSN.
fn replay_until(disk: &SimulatedDisk, state: &mut State, lsn: u64) {
    let survey = WalSurvey::look(disk, wal(), None).unwrap();
    let mut reader = WalReader::open(disk.clone(), survey, 1, 0).unwrap();
    while let Some(frame) = reader.next().unwrap() {
        if frame.first_lsn < lsn {
            state.apply(&content_of(&frame, &[]).unwrap(), frame.first_lsn, frame.now_us);
        }
    }
}

/// A snapshot of a state.
fn image(disk: &SimulatedDisk, state: &State) {
    let facts = SnapshotFacts { log: LOG, lsn: state.lsn(), wall_us: 1 };
    let mut writer = crate::snapshot::SnapshotWriter::begin(disk.clone(), snapshots(), facts).unwrap();
    state.freeze().unwrap().write_image(&mut writer).unwrap();
    writer.finish(state.key_count(), state.fingerprint(), facts.lsn).unwrap();
}

/// A full disk and a frame that ends every start: neither the start, which would make room, nor the decision had any.
#[test]
fn a_decision_on_a_full_disk_takes_the_reserve() {
    for held in [true, false] {
        let disk = SimulatedDisk::new();
        let lsn = log(&disk);
        if held {
            assert!(reserve(&disk).restore().unwrap());
        }
        let before = files(&disk);
        disk.set_faults(crate::storage::Faults { capacity_bytes: Some(disk.used_bytes()), ..Default::default() });
        let told = left_out(&disk, lsn);
        assert_eq!(told.is_ok(), held, "{told:?}");
        assert!(!reserve(&disk).held().unwrap());
        if !held {
            assert!(matches!(told, Err(SkipError::Log(WalError::StorageFull { .. }))));
            assert_eq!(files(&disk), before, "the log is as it was");
            disk.set_faults(crate::storage::Faults::default());
            left_out(&disk, lsn).unwrap();
        }
        assert_eq!(start(&disk, deadly).unwrap().report.skipped_rows, 3);
    }
}

#[test]
fn check_follows_what_an_operator_left_out() {
    let disk = SimulatedDisk::new();
    log(&disk);
    // A frame of rows that no start can read.
    let lsn = append(&disk, FrameKind::ROWS, &json!("no rows"));
    assert_eq!(ApiError::from(start(&disk, State::apply).unwrap_err()).code, Code::WalDamaged);
    assert_eq!(ApiError::from(definitions(&disk, wal(), snapshots()).unwrap_err()).code, Code::WalDamaged);
    left_out(&disk, lsn).unwrap();
    let recovered = start(&disk, State::apply).unwrap();
    let found = definitions(&disk, wal(), snapshots()).unwrap().unwrap();
    assert_eq!((found.registry.version, found.unfed), (recovered.state.registry().version, recovered.state.unfed()));
}

/// The registry with this one feature of its table more, or without it again.
fn with_feature(registry: &Registry, more: bool) -> (Arc<Registry>, Vec<crate::pipeline::TableEffect>) {
    let mut agg = json!({"n": {"op": "count", "params": {}}, "hour": {"op": "count", "params": {"window": "1h"}}});
    if more {
        agg["last"] = json!({"op": "last", "params": {"field": "walker"}});
        agg["unique"] = json!({"op": "n_unique", "params": {"field": "walker", "window": "1m"}});
    }
    let payload = json!({"force": true, "nodes": [
        {"kind": "event", "name": "Step", "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "event_time_field": null},
        {"kind": "derivation", "name": "walkers", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": ["walker"], "agg": agg}],
         "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "table_primary_key": ["walker"]}
    ]});
    let outcome = registry.apply_register(&payload.to_string(), &RegisterOptions::default());
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
    (outcome.next.unwrap(), outcome.effects)
}

#[test]
fn a_process_that_is_killed_while_features_leave_a_table_begins_that_anew() {
    let disk = SimulatedDisk::new();
    let (before, created) = with_feature(&Registry::default(), true);
    let (after, retired) = with_feature(&before, false);
    let key = PartitionKey { event: "Step".into(), cluster: "c".into(), topic: "steps".into(), topic_id: TopicId::NONE, partition: 3 };
    let start_of = Position { offset: 0, after: -1, epoch: -1, record_time_ms: -1, clock_ms: -1 };
    let names: Vec<String> = (0..300).map(|walker| format!("walker number {walker}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    write_log(
        &disk,
        &[
            Content::Definition { registry: Arc::clone(&before), effects: created },
            Content::Partition(StoredPosition { key, position: start_of }),
            rows(&before, &many, 300),
            Content::Definition { registry: Arc::clone(&after), effects: retired },
            rows(&after, &many[100..200], 400),
        ],
    );
    let mut live = start(&disk, State::apply).unwrap().state;
    assert!(live.is_shedding() && !live.is_writable());
    let fingerprint = live.fingerprint();
    // Killed after any number of steps, from none to all.
    for steps in [0, 1, 40, 10_000] {
        let mut again = start(&disk, State::apply).unwrap().state;
        assert_eq!(again.fingerprint(), fingerprint);
        for _ in 0..steps {
            again.shed(7, false);
        }
        assert_eq!((again.fingerprint(), again.is_shedding()), (fingerprint, steps < 10_000));
    }
    while live.shed(64, false) != crate::state::Shed::Over {}
    assert_eq!(live.fingerprint(), fingerprint);
}
