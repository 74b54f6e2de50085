//! Tests of snapshots as a whole, on the simulated disk: round trip, every flipped bit and length, crashes, the choice table, golden bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;

use super::format::snapshot_path;
use super::*;
use streamgauge_api::{ApiError, Code};

use crate::storage::{Disk, Faults, IoError, Operation, SimulatedDisk, Storage};
use crate::wal::LogIdentity;

const LOG: LogIdentity = LogIdentity { log_id: 0x5354_5245_414D_4741_5547_4500_0000_0001, hash_seed: 0xFEED };

fn folder() -> &'static Path {
    Path::new("data/snapshots")
}

fn facts(lsn: u64) -> SnapshotFacts {
    SnapshotFacts { log: LOG, lsn, wall_us: 1_795_146_062_000_000 }
}

fn write<S: Storage>(storage: &S, folder: &Path, lsn: u64) -> Result<SnapshotInfo, SnapshotError> {
    let mut writer = SnapshotWriter::begin(storage.clone(), folder, facts(lsn))?;
    writer.section(1, 0, &[lsn, 2, 3])?;
    writer.bytes(2, 0, b"definitions")?;
    writer.bytes(2, 1, b"")?;
    for index in 0..3 {
        writer.section(3, index, &vec![u64::from(index); 64])?;
    }
    writer.finish(17, 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10, lsn).map(|(info, _)| info)
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
    writer.finish(0, 0, 5).unwrap();
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
    header_altered(&disk, 41, |bytes| bytes[8] = 9);
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
        let found = Candidate::list(&disk, folder()).unwrap();
        prop_assert!(found.iter().all(|candidate| SnapshotReader::verify(&disk, &candidate.path).is_ok()));
        let lsns: Vec<u64> = found.iter().map(|candidate| candidate.lsn).collect();
        prop_assert!(lsns == [20, 10] || (lsns == [10] && !finished), "{:?}", lsns);
        write(&disk, folder(), 30).unwrap();
    }
}

/// What reading a snapshot gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Sound,
    Damaged,
    /// The disk did not answer.
    Silent,
    Newer,
}

fn candidate(lsn: u64, read: Read) -> Candidate {
    let file = || snapshot_path(folder(), lsn);
    let info = match read {
        Read::Sound => Ok(SnapshotInfo { facts: facts(lsn), sections: 0, key_count: 0, fingerprint: 0, bytes: 0 }),
        Read::Damaged => Err(SnapshotError::Damaged { file: file(), offset_bytes: 0, what: "section" }),
        Read::Silent => Err(SnapshotError::Io(IoError::new(Operation::Read, &file(), std::io::Error::from_raw_os_error(5)))),
        Read::Newer => Err(SnapshotError::FormatTooNew { file: file(), found: 9, known: SNAPSHOT_FORMAT }),
    };
    Candidate { path: file(), lsn, info }
}

#[test]
fn only_a_damaged_snapshot_is_passed_over_and_only_if_the_answer_stays_the_same() {
    use Read::{Damaged, Newer, Silent, Sound};
    // Candidates newest first, first LSN of the log -> index and first LSN to replay, or the code of a refusal.
    type Line<'a> = (&'a [(u64, Read)], Option<u64>, Result<(Option<usize>, u64), Code>);
    let table: [Line<'_>; 22] = [
        (&[], None, Ok((None, 1))),
        (&[], Some(1), Ok((None, 1))),
        (&[], Some(2), Err(Code::SnapshotDamaged)),
        (&[(40, Sound), (20, Sound)], Some(21), Ok((Some(0), 41))),
        (&[(40, Sound), (20, Sound)], Some(41), Ok((Some(0), 41))),
        (&[(40, Sound), (20, Sound)], Some(42), Err(Code::WalDamaged)),
        // Snapshots without their log: what was pushed since is in the log alone.
        (&[(40, Sound)], None, Err(Code::WalDamaged)),
        (&[(40, Damaged), (20, Sound)], Some(21), Ok((Some(1), 21))),
        (&[(40, Damaged), (20, Sound)], Some(22), Err(Code::SnapshotDamaged)),
        (&[(40, Damaged), (20, Sound)], None, Err(Code::SnapshotDamaged)),
        (&[(40, Damaged), (20, Damaged)], Some(1), Ok((None, 1))),
        (&[(40, Damaged), (20, Damaged)], Some(21), Err(Code::SnapshotDamaged)),
        (&[(40, Damaged)], None, Err(Code::SnapshotDamaged)),
        (&[(60, Damaged), (40, Damaged), (20, Sound)], Some(5), Ok((Some(2), 21))),
        // Not damaged, only not read: nothing older is started from, however far the log reaches back.
        (&[(40, Silent), (20, Sound)], Some(1), Err(Code::IoFailed)),
        (&[(40, Newer), (20, Sound)], Some(1), Err(Code::FormatTooNew)),
        (&[(40, Silent)], Some(1), Err(Code::IoFailed)),
        (&[(40, Newer)], Some(1), Err(Code::FormatTooNew)),
        (&[(60, Damaged), (40, Silent), (20, Sound)], Some(1), Err(Code::IoFailed)),
        (&[(60, Damaged), (40, Newer)], Some(1), Err(Code::FormatTooNew)),
        // An older one is not asked for anything.
        (&[(40, Sound), (20, Silent)], Some(21), Ok((Some(0), 41))),
        (&[(40, Sound), (20, Newer)], Some(21), Ok((Some(0), 41))),
    ];
    for (files, wal_first_lsn, expected) in table {
        let candidates: Vec<Candidate> = files.iter().map(|(lsn, read)| candidate(*lsn, *read)).collect();
        let choice = Choice::of(&candidates, wal_first_lsn);
        let told = choice.clone().map(|choice| (choice.snapshot, choice.from_lsn)).map_err(|error| ApiError::from(error).code);
        assert_eq!(told, expected, "{files:?} {wal_first_lsn:?}");
        if let Ok(choice) = choice {
            assert_eq!(choice.durable_lsn, files.first().map_or(0, |file| file.0), "a damaged snapshot still proves what was synced");
            assert_eq!(choice.damaged, choice.snapshot.unwrap_or(files.len()));
        }
    }
}

#[test]
fn a_file_that_the_disk_does_not_give_is_no_damaged_one() {
    let disk = SimulatedDisk::new();
    write(&disk, folder(), 40).unwrap();
    disk.set_faults(Faults { fail_read_at: Some(0), ..Faults::default() });
    let found = Candidate::list(&disk, folder()).unwrap();
    assert!(matches!(&found[0].info, Err(SnapshotError::Io(_))), "{found:?}");
    assert_eq!(disk.list(folder()).unwrap().len(), 1, "it stands as it was");
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
    assert_eq!(retain(&disk, folder(), 3, &LOG).unwrap(), [40, 30, 20]);
    assert_eq!(retain(&disk, folder(), 0, &LOG).unwrap(), [40, 30]);
    quarantine(&disk, folder(), 40).unwrap();
    assert_eq!(retain(&disk, folder(), 2, &LOG).unwrap(), [30]);
    assert_eq!(disk.list(folder()).unwrap().len(), 2);
}

#[test]
fn files_that_are_not_known_to_be_ours_are_neither_counted_nor_removed() {
    let disk = SimulatedDisk::new();
    for lsn in [10, 20, 30, 40] {
        write(&disk, folder(), lsn).unwrap();
    }
    let newer = header_altered(&disk, 20, |bytes| bytes[8] = 9);
    let other_log = header_altered(&disk, 10, |bytes| bytes[16] ^= 1);
    write(&disk, folder(), 50).unwrap();
    disk.place(&folder().join("notes.tmp"), b"not ours".to_vec());
    assert_eq!(retain(&disk, folder(), 2, &LOG).unwrap(), [50, 40]);
    write(&disk, folder(), 60).unwrap();
    assert_eq!(disk.bytes(&snapshot_path(folder(), 20)).unwrap(), newer);
    assert_eq!(disk.bytes(&snapshot_path(folder(), 10)).unwrap(), other_log);
    assert!(disk.bytes(&snapshot_path(folder(), 30)).is_none());
    assert!(disk.bytes(&folder().join("notes.tmp")).is_some());
}

/// Changes the header of a snapshot and puts its checksum right, as another program would have written it.
fn header_altered(disk: &SimulatedDisk, lsn: u64, alter: impl Fn(&mut [u8])) -> Vec<u8> {
    let path = snapshot_path(folder(), lsn);
    let mut bytes = disk.bytes(&path).unwrap();
    alter(&mut bytes);
    let crc = crate::storage::Checksum::of(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    disk.place(&path, bytes.clone());
    bytes
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
