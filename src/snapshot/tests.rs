//! Tests of snapshots as a whole, on the simulated disk: round trip, every flipped bit and length, crashes, the choice table, golden bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;

use super::format::snapshot_path;
use super::*;
use crate::storage::{Disk, Faults, SimulatedDisk, Storage};
use crate::wal::LogIdentity;

const LOG: LogIdentity = LogIdentity { log_id: 0x5354_5245_414D_4741_5547_4500_0000_0001, hash_seed: 0xFEED };

fn folder() -> &'static Path {
    Path::new("data/snapshots")
}

fn facts(lsn: u64) -> SnapshotFacts {
    SnapshotFacts { log: LOG, lsn, wall_us: 1_795_146_062_000_000, without_wal: false }
}

fn write<S: Storage>(storage: &S, folder: &Path, lsn: u64) -> Result<SnapshotInfo, SnapshotError> {
    let mut writer = SnapshotWriter::begin(storage.clone(), folder, facts(lsn))?;
    writer.section(1, 0, &[lsn, 2, 3])?;
    writer.bytes(2, 0, b"definitions")?;
    writer.bytes(2, 1, b"")?;
    for index in 0..3 {
        writer.section(3, index, &vec![u64::from(index); 64])?;
    }
    writer.finish(17, 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10)
}

type Sections = Vec<(u32, u32, Vec<u8>, bool)>;

fn read<S: Storage>(storage: &S, path: &Path) -> Result<(Sections, SnapshotInfo), SnapshotError> {
    let mut reader = SnapshotReader::open(storage, path)?;
    let mut sections = Vec::new();
    while let Some(section) = reader.next()? {
        assert_eq!(section.words.len(), section.bytes.len().div_ceil(8));
        sections.push((section.id, section.index, section.bytes.to_vec(), section.is_words));
    }
    Ok((sections, reader.info().unwrap()))
}

#[test]
fn sections_are_read_back_in_order() {
    let disk = SimulatedDisk::new();
    let info = write(&disk, folder(), 41).unwrap();
    let path = snapshot_path(folder(), 41);
    let (sections, again) = read(&disk, &path).unwrap();
    assert_eq!(again, info);
    assert_eq!((info.sections, info.key_count, info.facts), (6, 17, facts(41)));
    assert_eq!(info.bytes, disk.bytes(&path).unwrap().len() as u64);
    assert_eq!(sections.iter().map(|section| (section.0, section.1)).collect::<Vec<_>>(), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]);
    assert_eq!(sections[1].2, b"definitions");
    assert_eq!(sections[2].2, b"");
    assert!(sections[0].3 && !sections[1].3);
    assert_eq!(disk.list(folder()).unwrap().len(), 1, "no leftovers");
}

#[test]
fn large_sections_pass_and_too_large_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SnapshotWriter::begin(Disk, folder.path(), facts(5)).unwrap();
    let large = vec![7_u64; 400_000];
    for index in 0..3 {
        writer.section(1, index, &large).unwrap();
        writer.bytes(2, index, &[index.to_le_bytes()[0]; 13]).unwrap();
    }
    let too_large = vec![0_u8; SECTION_BYTES_MAX + 1];
    assert!(matches!(writer.bytes(9, 9, &too_large), Err(SnapshotError::SectionTooLarge { .. })));
    writer.finish(0, 0).unwrap();
    let (sections, _) = read(&Disk, &snapshot_path(folder.path(), 5)).unwrap();
    assert_eq!(sections.len(), 6);
    assert!(sections[4].2 == bytemuck::cast_slice::<u64, u8>(&large));
}

#[test]
fn every_flipped_bit_and_every_length_of_a_snapshot_is_refused() {
    let disk = SimulatedDisk::new();
    write(&disk, folder(), 41).unwrap();
    let path = snapshot_path(folder(), 41);
    let bytes = disk.bytes(&path).unwrap();
    let altered = SimulatedDisk::new();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        altered.place(&path, flipped);
        assert!(read(&altered, &path).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        altered.place(&path, bytes[..len].to_vec());
        assert!(read(&altered, &path).is_err(), "length {len}");
    }
    altered.place(&path, [bytes.as_slice(), &[0]].concat());
    assert!(read(&altered, &path).is_err(), "a byte more");
}

#[test]
fn a_newer_snapshot_format_is_named() {
    let disk = SimulatedDisk::new();
    write(&disk, folder(), 41).unwrap();
    let path = snapshot_path(folder(), 41);
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[8] = 9;
    let crc = crate::storage::Checksum::of(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    disk.place(&path, bytes);
    assert!(matches!(read(&disk, &path), Err(SnapshotError::FormatTooNew { found: 9, .. })));
}

#[test]
fn an_unfinished_or_failed_snapshot_leaves_nothing() {
    let disk = SimulatedDisk::new();
    drop(SnapshotWriter::begin(disk.clone(), folder(), facts(1)).unwrap());
    assert_eq!(disk.list(folder()).unwrap(), []);
    disk.set_faults(Faults { capacity_bytes: Some(1000), ..Faults::default() });
    assert!(matches!(write(&disk, folder(), 2), Err(SnapshotError::Io(error)) if error.full()));
    disk.set_faults(Faults { fail_sync_at: Some(1), ..Faults::default() });
    assert!(write(&disk, folder(), 2).is_err());
    disk.set_faults(Faults::default());
    write(&disk, folder(), 2).unwrap();
    assert_eq!(disk.list(folder()).unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_leaves_the_snapshot_whole_or_not_at_all(stop in 0..40_u64, seed in any::<u64>()) {
        let disk = SimulatedDisk::new();
        write(&disk, folder(), 10).unwrap();
        disk.set_faults(Faults { stop_at: Some(stop), ..Faults::default() });
        let finished = write(&disk, folder(), 20).is_ok();
        disk.crash(seed);
        let found = Candidate::newest_first(&disk, folder()).unwrap();
        prop_assert!(found.iter().all(|candidate| candidate.info.is_ok()));
        let lsns: Vec<u64> = found.iter().map(|candidate| candidate.lsn).collect();
        prop_assert!(lsns == [20, 10] || (lsns == [10] && !finished), "{:?}", lsns);
        write(&disk, folder(), 30).unwrap();
    }
}

fn candidate(lsn: u64, sound: bool, without_wal: bool) -> Candidate {
    let info = SnapshotInfo { facts: SnapshotFacts { without_wal, ..facts(lsn) }, sections: 0, key_count: 0, fingerprint: 0, bytes: 0 };
    let damaged = SnapshotError::Damaged { file: "x".into(), offset_bytes: 0, what: "section" };
    Candidate { path: "x".into(), lsn, info: if sound { Ok(info) } else { Err(damaged) } }
}

#[test]
fn damaged_snapshot_changes_no_answer() {
    const SOUND: bool = true;
    const DAMAGED: bool = false;
    // Candidates newest first, first LSN of the log -> index and first LSN to replay, or a refusal.
    type Line<'a> = (&'a [(u64, bool)], Option<u64>, Option<(Option<usize>, u64)>);
    let table: [Line<'_>; 13] = [
        (&[], None, Some((None, 1))),
        (&[], Some(1), Some((None, 1))),
        (&[], Some(2), None),
        (&[(40, SOUND), (20, SOUND)], Some(21), Some((Some(0), 41))),
        (&[(40, SOUND), (20, SOUND)], Some(41), Some((Some(0), 41))),
        (&[(40, SOUND), (20, SOUND)], Some(42), None),
        (&[(40, SOUND)], None, None),
        (&[(40, DAMAGED), (20, SOUND)], Some(21), Some((Some(1), 21))),
        (&[(40, DAMAGED), (20, SOUND)], Some(22), None),
        (&[(40, DAMAGED), (20, DAMAGED)], Some(1), Some((None, 1))),
        (&[(40, DAMAGED), (20, DAMAGED)], Some(21), None),
        (&[(40, DAMAGED)], None, None),
        (&[(60, DAMAGED), (40, DAMAGED), (20, SOUND)], Some(5), Some((Some(2), 21))),
    ];
    for (files, wal_first_lsn, expected) in table {
        let candidates: Vec<Candidate> = files.iter().map(|(lsn, sound)| candidate(*lsn, *sound, false)).collect();
        let choice = Choice::of(&candidates, wal_first_lsn);
        assert_eq!(choice.as_ref().ok().map(|choice| (choice.snapshot, choice.from_lsn)), expected, "{files:?} {wal_first_lsn:?}");
        if let Ok(choice) = choice {
            assert_eq!(choice.durable_lsn, files.first().map_or(0, |file| file.0), "a damaged snapshot still proves what was synced");
            assert_eq!(choice.damaged, choice.snapshot.unwrap_or(files.len()));
        }
    }
}

#[test]
fn a_snapshot_of_level_memory_needs_no_log_and_discards_what_is_there() {
    let choice = Choice::of(&[candidate(40, true, true), candidate(20, true, false)], Some(21)).unwrap();
    assert!(choice.discard_wal && choice.from_lsn == 41);
    assert!(Choice::of(&[candidate(40, true, true)], None).unwrap().discard_wal);
    // A later snapshot with a log makes the log count again.
    let choice = Choice::of(&[candidate(60, true, false), candidate(40, true, true)], Some(41)).unwrap();
    assert!(!choice.discard_wal && choice.from_lsn == 61);
}

#[test]
fn the_log_is_released_up_to_the_oldest_of_at_least_two() {
    for (kept, archived, expected) in
        [(vec![], None, 0), (vec![40], None, 0), (vec![40, 20], None, 20), (vec![60, 40, 20], Some(10), 10), (vec![40, 20], Some(90), 20)]
    {
        assert_eq!(releasable_lsn(&kept, archived), expected, "{kept:?} {archived:?}");
    }
}

#[test]
fn the_newest_are_retained_and_never_fewer_than_two() {
    let disk = SimulatedDisk::new();
    for lsn in [10, 20, 30, 40] {
        write(&disk, folder(), lsn).unwrap();
    }
    assert_eq!(retain(&disk, folder(), 3).unwrap(), [40, 30, 20]);
    assert_eq!(retain(&disk, folder(), 0).unwrap(), [40, 30]);
    quarantine(&disk, folder(), 40).unwrap();
    assert_eq!(retain(&disk, folder(), 2).unwrap(), [30]);
    assert_eq!(disk.list(folder()).unwrap().len(), 2);
}

#[test]
fn a_snapshot_written_by_the_first_build_opens() {
    // The helper half writes the fixture of this format if the repository does not hold it yet, and never changes one that is there.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/snapshot-{SNAPSHOT_FORMAT}"));
    let path = snapshot_path(&folder, 41);
    if !path.exists() {
        write(&Disk, &folder, 41).unwrap();
    }
    let (sections, info) = read(&Disk, &path).unwrap();
    assert_eq!((info.facts, info.sections, info.key_count), (facts(41), 6, 17));
    assert_eq!(info.fingerprint, 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10);
    assert_eq!(sections[1], (2, 0, b"definitions".to_vec(), false));
    assert_eq!(sections[0], (1, 0, bytemuck::cast_slice(&[41_u64, 2, 3]).to_vec(), true));
}
