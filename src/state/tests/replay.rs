//! Equal input, equal state: whatever the batches, through frames, through a snapshot, and beside a frozen clone.

use super::pipeline::{payload, tables};
use super::rows::{Row, START_US, ends, rows};
use super::{Driven, HASH_SEED};
use crate::apply::codec;
use crate::row::Key;
use crate::snapshot::{Candidate, SnapshotFacts, SnapshotReader, SnapshotWriter};
use crate::state::{Arena, Content, ImageReader, RowsContent, State, Table};
use crate::storage::SimulatedDisk;
use crate::wal::{Frame, LogIdentity};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streamgauge_api::decision::Gap;
use streamgauge_api::position::{PartitionKey, Position, Slot, StoredPosition, TopicId};
use streamgauge_api::source::{Incident, IncidentKind};

fn driven(rows: &[Row], ends: &[usize]) -> Driven {
    let mut driven = Driven::with(&payload(&tables()));
    driven.feed(rows, ends);
    driven
}

/// The content as it comes back from a frame.
pub(super) fn through_a_frame(content: &Content, first_lsn: u64, now_us: i64) -> Content {
    let mut encoded = codec::Encoded::default();
    codec::encode(content, &mut encoded);
    let mut body = encoded.head.clone();
    let mut row_count = 0;
    if let Content::Rows(rows) = content {
        rows.batches.iter().for_each(|batch| body.extend_from_slice(batch.words()));
        row_count = rows.rows() as u32;
    }
    body.extend_from_slice(&encoded.tail);
    let frame = Frame {
        kind: codec::kind_of(content),
        flags: 0,
        first_lsn,
        row_count,
        now_us,
        durable_lsn: 0,
        positions: &encoded.positions,
        body: &body,
    };
    codec::decode(&frame).unwrap()
}

/// Where the states of these tests write their one snapshot.
const FOLDER: &str = "data/snapshots";

fn snapshot(state: &State) -> (SimulatedDisk, PathBuf) {
    let (disk, folder) = (SimulatedDisk::new(), Path::new(FOLDER));
    let log = LogIdentity { log_id: 1, hash_seed: HASH_SEED };
    let frozen = state.freeze().unwrap();
    let facts = SnapshotFacts { log, lsn: frozen.lsn(), wall_us: 0 };
    let mut writer = SnapshotWriter::begin(disk.clone(), folder, facts).unwrap();
    frozen.write_image(&mut writer).unwrap();
    writer.finish(frozen.key_count(), frozen.fingerprint().unwrap(), frozen.lsn()).unwrap();
    let written = Candidate::list(&disk, folder).unwrap();
    (disk, written[0].path.clone())
}

/// A state written as a snapshot and read back.
pub(super) fn through_a_snapshot(state: &State) -> State {
    let (disk, path) = snapshot(state);
    let mut reader = SnapshotReader::open(&disk, &path).unwrap();
    let mut image = ImageReader::default();
    while let Some(section) = reader.next().unwrap() {
        image.take(&section).unwrap();
    }
    image.finish(HASH_SEED, state.lsn()).unwrap()
}

/// The sections of a state's snapshot: id, index, bytes.
pub(super) fn sections(state: &State) -> Vec<(u32, u32, Vec<u8>)> {
    let (disk, path) = snapshot(state);
    let mut reader = SnapshotReader::open(&disk, &path).unwrap();
    let mut sections = Vec::new();
    while let Some(section) = reader.next().unwrap() {
        sections.push((section.id, section.index, section.bytes.to_vec()));
    }
    sections
}

/// Every byte of a state's snapshot.
fn image(state: &State) -> Vec<u8> {
    let (disk, path) = snapshot(state);
    disk.bytes(&path).unwrap()
}

/// Every feature of every key, as readers get them.
fn answers(state: &State) -> Vec<(Key, String)> {
    let of = |table: &Table| {
        let (places, (numbers, _)) = (table.feature_places(), table.keys_from(0, usize::MAX));
        let row = |number: &u32| {
            (table.key_bytes(*number).unwrap(), format!("{:?}", table.values(*number, &places, START_US, &mut Arena::default())))
        };
        numbers.iter().map(row).collect::<Vec<_>>()
    };
    state.tables().flat_map(of).collect()
}

/// What a state is worth beside its content: memory in use, keys.
fn measures(state: &State) -> Vec<(usize, usize)> {
    state.tables().map(|table| (table.len(), table.used_bytes())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn batches_do_not_show(rows in rows(250), one in ends(), other in ends()) {
        let (one, other) = (driven(&rows, &one), driven(&rows, &other));
        prop_assert_eq!(one.fingerprint(), other.fingerprint());
        prop_assert_eq!(measures(&one.state), measures(&other.state));
    }

    #[test]
    fn slices_do_not_show(rows in rows(250), ends in ends(), sizes in prop::collection::vec(1usize..100, 1..6)) {
        let whole = driven(&rows, &ends);
        let mut sliced = State::new(HASH_SEED);
        let mut sizes = sizes.iter().cycle();
        for (content, first_lsn, now_us) in &whole.log {
            let Content::Rows(rows) = content else {
                sliced.apply(content, *first_lsn, *now_us);
                continue;
            };
            let before = through_a_snapshot(&sliced);
            let schema = Arc::clone(&sliced.registry.event("Tx").unwrap().schema);
            sliced.begin(rows, *first_lsn, *now_us);
            loop {
                // Rows that are heavy are applied in smaller groups.
                let size = *sizes.next().unwrap();
                sliced.heavy_rows = size % 2 * size;
                if sliced.advance(rows, &mut { size }) {
                    break;
                }
                let prefix = (sliced.lsn() + 1 - first_lsn) as usize;
                prop_assert!(prefix > 0 && prefix < rows.rows() && sliced.is_mid_frame());
                let batches = rows.batches.iter().map(|batch| batch.keep(&schema, |row| row < prefix)).collect();
                let mut short = through_a_snapshot(&before);
                short.apply(&Content::Rows(RowsContent { batches, ..rows.clone() }), *first_lsn, *now_us);
                prop_assert_eq!(answers(&sliced), answers(&short));
            }
        }
        prop_assert_eq!(image(&sliced), image(&whole.state));
        prop_assert_eq!(sliced.fingerprint(), whole.fingerprint());
        prop_assert_eq!((sliced.lsn(), sliced.is_mid_frame()), (whole.state.lsn(), false));
    }

    #[test]
    fn replayed_frames_give_the_state_that_wrote_them(rows in rows(250), ends in ends()) {
        let live = driven(&rows, &ends);
        let mut replayed = State::new(HASH_SEED);
        for (content, first_lsn, now_us) in &live.log {
            replayed.apply(&through_a_frame(content, *first_lsn, *now_us), *first_lsn, *now_us);
        }
        prop_assert_eq!(replayed.fingerprint(), live.fingerprint());
        prop_assert_eq!(replayed.lsn(), live.state.lsn());
    }

    #[test]
    fn a_snapshot_goes_on_like_the_state_it_was_taken_of(before in rows(200), after in rows(120), ends in ends()) {
        let mut live = driven(&before, &ends);
        let mut restored = Driven { state: through_a_snapshot(&live.state), log: Vec::new(), next_lsn: live.next_lsn };
        prop_assert_eq!(restored.fingerprint(), live.fingerprint());
        prop_assert_eq!(measures(&restored.state), measures(&live.state));
        live.feed(&after, &ends);
        restored.feed(&after, &[7]);
        prop_assert_eq!(restored.fingerprint(), live.fingerprint());
        prop_assert_eq!(measures(&restored.state), measures(&live.state));
    }

    #[test]
    fn a_frozen_state_stays_as_it_was(before in rows(150), after in rows(150), ends in ends()) {
        let mut live = driven(&before, &ends);
        let (fingerprint, frozen) = (live.fingerprint(), live.state.freeze().unwrap());
        live.feed(&after, &ends);
        prop_assert_eq!(frozen.fingerprint(), Ok(fingerprint));
        let mut unfrozen = driven(&before, &ends);
        unfrozen.feed(&after, &ends);
        prop_assert_eq!(live.fingerprint(), unfrozen.fingerprint());
    }
}

#[test]
fn frames_of_partitions_that_nobody_attached_are_told_apart_before_they_are_applied() {
    let key = PartitionKey { event: "Tx".into(), cluster: String::new(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
    let mut state = State::new(HASH_SEED);
    state.apply(&Content::Partition(StoredPosition { key, position: Position::default() }), 1, START_US);
    let moves = |slot| Content::Rows(RowsContent { positions: vec![(Slot(slot), Position::default())], ..RowsContent::default() });
    let closes = |slot| Content::Incident { slot: Slot(slot), incident: None };
    for (slot, known) in [(0, true), (1, false), (u32::MAX, false)] {
        assert_eq!(state.accepts(&moves(slot), state.lsn() + 1, 1).is_ok(), known, "{slot}");
        assert_eq!(state.accepts(&closes(slot), state.lsn() + 1, 1).is_ok(), known, "{slot}");
    }
    assert!(state.accepts(&Content::Nothing, state.lsn() + 1, 1).is_ok());
}

/// A frame that gave two slots one partition was written, and every later start refused to read past it.
#[test]
fn no_slot_gets_the_partition_of_another_but_that_of_a_forgotten_one() {
    let key =
        |partition| PartitionKey { event: "Tx".into(), cluster: String::new(), topic: "t".into(), topic_id: TopicId::NONE, partition };
    let mut state = State::new(HASH_SEED);
    for partition in 0..3 {
        let stored = StoredPosition { key: key(partition), position: Position::start(5) };
        state.apply(&Content::Partition(stored), state.lsn() + 1, START_US);
    }
    let moves = |slot: u32, partition, position| {
        let stored = StoredPosition { key: key(partition), position };
        Content::Moved { slot: Slot(slot), stored, reached: None, gap: None }
    };
    let accepts = |state: &State, content: &Content| state.accepts(content, state.lsn() + 1, START_US);
    assert!(accepts(&state, &moves(1, 0, Position::start(0))).unwrap_err().contains("the partition of slot 0"));
    let forgets = moves(0, 0, Position::FORGOTTEN);
    assert_eq!(accepts(&state, &forgets), Ok(()));
    state.apply(&forgets, state.lsn() + 1, START_US);
    let takes = moves(1, 0, Position::start(7));
    assert_eq!(accepts(&state, &takes), Ok(()));
    state.apply(&takes, state.lsn() + 1, START_US);
    // Now it is somebody's again, and the forgotten slot cannot come back to it.
    assert!(accepts(&state, &moves(0, 0, Position::start(0))).unwrap_err().contains("the partition of slot 1"));
    let again = Content::Partition(StoredPosition { key: key(0), position: Position::start(0) });
    assert!(accepts(&state, &again).unwrap_err().contains("as slot 1"));
    assert_eq!(through_a_snapshot(&state).fingerprint(), state.fingerprint());
}

/// One decision about a source of many partitions pushed out what other events' tables had to say.
#[test]
fn gaps_of_one_event_leave_those_of_others_and_its_own_oldest() {
    let mut state = State::new(HASH_SEED);
    let key = |event: &str, partition| PartitionKey {
        event: event.into(),
        cluster: String::new(),
        topic: "t".into(),
        topic_id: TopicId::NONE,
        partition,
    };
    let parts: Vec<(&str, i32)> = std::iter::once(("A", 0)).chain((0..300).map(|partition| ("B", partition))).collect();
    let decide = |state: &mut State, slot: u32, (event, partition): (&str, i32)| {
        let stored = StoredPosition { key: key(event, partition), position: Position::start(9) };
        let lsn = state.lsn() + 1;
        let gap = Gap {
            source: "s".into(),
            event: event.into(),
            topic: "t".into(),
            partition,
            incident: IncidentKind::SourceGap,
            lost: "offsets 0 to 8 (9 offsets)".into(),
            lsn,
            since_us: START_US,
        };
        let moved = Content::Moved { slot: Slot(slot), stored, reached: None, gap: Some(Box::new(gap)) };
        state.accepts(&moved, lsn, 1).unwrap();
        state.apply(&moved, lsn, START_US);
    };
    for (event, partition) in &parts {
        let stored = StoredPosition { key: key(event, *partition), position: Position::start(0) };
        state.apply(&Content::Partition(stored), state.lsn() + 1, START_US);
    }
    for (slot, part) in (0..).zip(&parts) {
        decide(&mut state, slot, *part);
    }
    let of = |event: &str| state.gaps().iter().filter(|gap| gap.event == event).map(|gap| gap.partition).collect::<Vec<_>>();
    assert_eq!(of("A"), [0]);
    assert_eq!(of("B").len(), 256);
    assert_eq!((of("B")[0], of("B")[1], of("B")[255]), (0, 45, 299), "the oldest says since when, the newest what");
}

/// An incident that passed, or a decision, took with it what nothing ends.
#[test]
fn what_a_skipped_frame_had_is_told_whatever_opens_and_closes_at_its_partition() {
    let key = PartitionKey { event: "Tx".into(), cluster: String::new(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
    let mut state = State::new(HASH_SEED);
    let next = |state: &mut State, content: &Content| {
        let lsn = state.lsn() + 1;
        state.apply(content, lsn, START_US);
    };
    let slot = Slot(0);
    next(&mut state, &Content::Partition(StoredPosition { key: key.clone(), position: Position::start(2) }));
    for to in [5, 7] {
        next(&mut state, &Content::Skipped { positions: vec![(slot, Position::start(to))], waiting: vec![], rows: 3 });
    }
    let stalled = Incident {
        kind: IncidentKind::Stalled,
        cause: "no_leader".into(),
        opened_us: START_US,
        lost: "nothing".into(),
        holds: String::new(),
        evidence: String::new(),
        actions: vec![],
        resume_offset: None,
    };
    next(&mut state, &Content::Incident { slot, incident: Some(stalled) });
    assert_eq!(state.incidents().map(|(_, open)| open.kind).collect::<Vec<_>>(), [IncidentKind::Stalled]);
    next(&mut state, &Content::Incident { slot, incident: None });
    next(&mut state, &Content::Moved { slot, stored: StoredPosition { key, position: Position::start(9) }, reached: None, gap: None });
    assert_eq!(state.incidents().count(), 0);
    let told: Vec<&str> = state.skipped().map(|(_, lacks)| lacks.lost.as_str()).collect();
    assert_eq!(told, ["records of offsets 2 to 4 are in no table; records of offsets 5 to 6 are in no table"]);
}
