//! Equal input, equal state: whatever the batches, through frames, through a snapshot, and beside a frozen clone.

use super::pipeline::{payload, tables};
use super::rows::{Row, ends, rows};
use super::{Driven, HASH_SEED};
use crate::apply::codec;
use crate::snapshot::{Candidate, SnapshotFacts, SnapshotReader, SnapshotWriter};
use crate::state::{Content, ImageReader, State};
use crate::storage::SimulatedDisk;
use crate::wal::{Frame, LogIdentity};
use proptest::prelude::*;
use std::path::Path;

fn driven(rows: &[Row], ends: &[usize]) -> Driven {
    let mut driven = Driven::with(&payload(&tables()));
    driven.feed(rows, ends);
    driven
}

/// The content as it comes back from a frame.
fn through_a_frame(content: &Content, first_lsn: u64, now_us: i64) -> Content {
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

/// A state written as a snapshot and read back.
pub(super) fn through_a_snapshot(state: &State) -> State {
    let disk = SimulatedDisk::new();
    let folder = Path::new("data/snapshots");
    let log = LogIdentity { log_id: 1, hash_seed: HASH_SEED };
    let frozen = state.freeze();
    let facts = SnapshotFacts { log, lsn: frozen.lsn(), wall_us: 0, without_wal: false };
    let mut writer = SnapshotWriter::begin(disk.clone(), folder, facts).unwrap();
    frozen.write_image(&mut writer).unwrap();
    writer.finish(frozen.key_count(), frozen.fingerprint()).unwrap();
    let written = Candidate::list(&disk, folder).unwrap();
    let mut reader = SnapshotReader::open(&disk, &written[0].path).unwrap();
    let mut image = ImageReader::default();
    while let Some(section) = reader.next().unwrap() {
        image.take(&section).unwrap();
    }
    image.finish(HASH_SEED, frozen.lsn()).unwrap()
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
    fn replayed_frames_give_the_state_that_wrote_them(rows in rows(250), ends in ends()) {
        let live = driven(&rows, &ends);
        let mut replayed = State::new(HASH_SEED);
        for (content, first_lsn, now_us) in &live.log {
            replayed.apply(&through_a_frame(content, *first_lsn, *now_us), *first_lsn, *now_us);
        }
        prop_assert_eq!(replayed.freeze().fingerprint(), live.fingerprint());
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
        let (fingerprint, frozen) = (live.fingerprint(), live.state.freeze());
        live.feed(&after, &ends);
        prop_assert_eq!(frozen.fingerprint(), fingerprint);
        let mut unfrozen = driven(&before, &ends);
        unfrozen.feed(&after, &ends);
        prop_assert_eq!(live.fingerprint(), unfrozen.fingerprint());
    }
}
