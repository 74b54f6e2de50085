//! The decision table of an opening log, one test per line.

use super::*;
use crate::wal::damage::DamageKind;

fn flip(disk: &SimulatedDisk, number: u64, byte: usize) {
    let path = segment_path(folder(), number);
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[byte] ^= 0x10;
    disk.place(&path, bytes);
}

fn damage(result: Result<(Vec<Owned>, WalTail), WalOpenError>) -> Damage {
    match result {
        Err(WalOpenError::Damaged(damage)) => *damage,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn a_close_frame_or_zeroes_to_the_end_open_clean() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    let written = append_rows(&mut writer, 3, 10).unwrap();
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(frames, std::slice::from_ref(&written));
    assert_eq!(tail.end, TailEnd::Clean { closed: false });
    assert_eq!(tail.last_lsn, 3);

    writer.close(9).unwrap();
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(rows_only(&frames), [written]);
    assert_eq!(frames.last().unwrap().kind, FrameKind::CLOSE);
    assert_eq!(tail.end, TailEnd::Sealed { synced: true });

    // A file that ends with its close frame, as a copy tool leaves it.
    let raw = SimulatedDisk::new();
    Raw::new(1, 1, 0).frame(FrameKind::ROWS).frame(FrameKind::CLOSE).place(&raw, 1);
    assert_eq!(read_all(&raw).unwrap().1.end, TailEnd::Clean { closed: true });
}

#[test]
fn a_bad_frame_above_the_durable_lsn_is_a_torn_tail_even_if_later_frames_survived() {
    for (surviving, hole) in [(0, false), (2, false), (0, true), (2, true)] {
        let disk = SimulatedDisk::new();
        let mut raw = Raw::new(1, 1, 0).frame(FrameKind::ROWS).frame(FrameKind::ROWS);
        raw.durable_lsn = 2;
        let cut = raw.bytes.len();
        raw = raw.frame(FrameKind::ROWS);
        let end = raw.bytes.len();
        if hole {
            raw.bytes[cut..end].fill(0);
        } else {
            raw.bytes[end - 1] ^= 1;
        }
        for _ in 0..surviving {
            raw = raw.frame(FrameKind::ROWS);
        }
        let written = raw.bytes.len();
        raw.zeroes(1000).place(&disk, 1);
        let (frames, tail) = read_all(&disk).unwrap();
        assert_eq!(frames.len(), 2);
        if hole && surviving == 0 {
            assert_eq!(tail.end, TailEnd::Clean { closed: false }, "an erased last frame is a clean end");
        } else {
            assert_eq!(tail.end, TailEnd::Torn { lost_bytes: (written - cut) as u64 }, "{surviving} {hole}");
        }
        assert_eq!((tail.last_lsn, tail.valid_bytes), (2, cut as u64));
    }
}

#[test]
fn after_a_torn_tail_the_prefix_is_copied_and_the_log_goes_on() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let first = append_rows(&mut writer, 1, 10).unwrap();
    handle.sync_now().unwrap();
    append_rows(&mut writer, 1, 10).unwrap();
    drop(writer);
    flip(&disk, 1, 128 + 56 + 8 + 80 + 60);
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(frames, std::slice::from_ref(&first));
    assert!(matches!(tail.end, TailEnd::Torn { .. }));
    let before = disk.bytes(&segment_path(folder(), 1)).unwrap();

    let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(tail), small(), 2).unwrap();
    assert_eq!(handle.durable_lsn(), 1);
    let second = append_rows(&mut writer, 2, 5).unwrap();
    assert_eq!(second.first_lsn, 2);
    let (frames, _) = read_all(&disk).unwrap();
    assert_eq!(frames, [first, second]);
    let after = disk.bytes(&segment_path(folder(), 1)).unwrap();
    assert!(after.len() < before.len() && after.starts_with(&before[..128 + 56 + 8 + 80]));
}

#[test]
fn a_bad_frame_at_or_below_a_durable_lsn_seen_behind_it_is_damage() {
    let disk = SimulatedDisk::new();
    let mut raw = Raw::new(1, 1, 0).frame(FrameKind::ROWS);
    let bad = raw.bytes.len();
    raw = raw.frame(FrameKind::ROWS).frame(FrameKind::ROWS);
    raw.bytes[bad + 60] ^= 4;
    raw.durable_lsn = 2;
    raw.frame(FrameKind::MARK).zeroes(500).place(&disk, 1);
    let found = damage(read_all(&disk));
    assert_eq!((found.kind, found.offset_bytes, found.first_lsn, found.last_lsn), (DamageKind::Checksum, bad as u64, 2, Some(2)));
    assert_eq!(found.file, segment_path(folder(), 1));
    assert_eq!(found.durable_lsn, 2);
    let refusal = streamgauge_api::ApiError::from(WalOpenError::Damaged(Box::new(found)));
    assert_eq!(refusal.code, streamgauge_api::Code::WalDamaged);
    assert!(refusal.hint.unwrap().contains("sound copy of the data folder"));
}

#[test]
fn a_bad_or_missing_end_at_or_below_a_snapshots_lsn_is_damage() {
    for (kind, cut) in [(DamageKind::Checksum, None), (DamageKind::EndMissing, Some(0)), (DamageKind::Short, Some(30))] {
        let disk = SimulatedDisk::new();
        let mut raw = Raw::new(1, 1, 0).frame(FrameKind::ROWS).frame(FrameKind::ROWS);
        let end = raw.bytes.len();
        raw = raw.frame(FrameKind::ROWS);
        match cut {
            None => raw.bytes[end + 57] ^= 1,
            Some(bytes) => raw.bytes.truncate(end + bytes),
        }
        raw.place(&disk, 1);
        assert_eq!(damage(read_from(&disk, 1, 3)).kind, kind);
        assert_eq!(read_from(&disk, 1, 2).unwrap().1.last_lsn, 2, "above the snapshot it is a torn tail");
    }
}

#[test]
fn a_bad_frame_with_a_later_segment_is_damage() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    while disk.bytes(&segment_path(folder(), 2)).is_none() {
        append_rows(&mut writer, 1, 30).unwrap();
    }
    let sealed = disk.bytes(&segment_path(folder(), 1)).unwrap();
    // In the middle, the last frame, the footer.
    for byte in [600, sealed.len() - 56 - 5, sealed.len() - 20] {
        disk.place(&segment_path(folder(), 1), sealed.clone());
        flip(&disk, 1, byte);
        assert_eq!(damage(read_all(&disk)).kind, DamageKind::Checksum, "byte {byte}");
    }
    disk.place(&segment_path(folder(), 1), sealed[..sealed.len() - 56].to_vec());
    assert_eq!(damage(read_all(&disk)).kind, DamageKind::EndMissing);
    disk.place(&segment_path(folder(), 1), sealed[..sealed.len() - 100].to_vec());
    assert_eq!(damage(read_all(&disk)).kind, DamageKind::Short);
}

#[test]
fn a_damaged_segment_header_is_damage() {
    let disk = SimulatedDisk::new();
    Raw::new(1, 1, 0).frame(FrameKind::ROWS).place(&disk, 1);
    for byte in [0, 20, 45, 125] {
        flip(&disk, 1, byte);
        assert_eq!(damage(read_all(&disk)).kind, DamageKind::Header, "byte {byte}");
        flip(&disk, 1, byte);
    }
    // A segment under another segment's name.
    let bytes = disk.bytes(&segment_path(folder(), 1)).unwrap();
    let other = SimulatedDisk::new();
    other.place(&segment_path(folder(), 2), bytes);
    assert_eq!(damage(read_all(&other)).kind, DamageKind::Header);
}

#[test]
fn sound_frames_that_do_not_belong_there_are_refused_one_error_each() {
    let open = |raw: Raw| {
        let disk = SimulatedDisk::new();
        raw.zeroes(300).place(&disk, 1);
        read_all(&disk).unwrap_err()
    };
    let start = || Raw::new(1, 1, 0).frame(FrameKind::ROWS);

    let mut raw = start();
    raw.prev_crc ^= 1;
    assert!(matches!(open(raw.frame(FrameKind::ROWS)), WalOpenError::ChainBroken { lsn: 2, .. }));

    let mut raw = start();
    raw.next_lsn += 1;
    assert!(matches!(open(raw.frame(FrameKind::ROWS)), WalOpenError::LsnGap { wanted: 2, found: 3, .. }));

    assert!(matches!(open(start().frame(FrameKind(99))), WalOpenError::UnknownKind { kind: 99, lsn: 2, .. }));

    // A duplicated frame.
    let mut raw = start();
    let frame = raw.bytes[128..].to_vec();
    raw.bytes.extend_from_slice(&frame);
    assert!(matches!(open(raw), WalOpenError::LsnGap { wanted: 2, found: 1, .. }));
}

#[test]
fn a_newer_format_is_named_and_refused() {
    let disk = SimulatedDisk::new();
    let mut raw = Raw::new(1, 1, 0).frame(FrameKind::ROWS);
    raw.bytes[8] = 2;
    let crc = crate::storage::Checksum::of(&raw.bytes[..124]);
    raw.bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    raw.place(&disk, 1);
    let error = read_all(&disk).unwrap_err();
    assert!(matches!(error, WalOpenError::FormatTooNew { found: 2, known: 1, .. }), "{error}");
    assert_eq!(streamgauge_api::ApiError::from(error).code, streamgauge_api::Code::FormatTooNew);
}

#[test]
fn missing_segments_and_other_logs_are_refused() {
    let two = |log: LogIdentity, number: u64| {
        let disk = SimulatedDisk::new();
        let first = Raw::new(1, 1, 0).frame(FrameKind::ROWS);
        let second = Raw::of(log, number, first.next_lsn, first.prev_crc).frame(FrameKind::ROWS);
        first.place(&disk, 1);
        second.place(&disk, number);
        read_all(&disk).unwrap_err()
    };
    assert!(matches!(two(LOG, 3), WalOpenError::SegmentMissing { found: Some(2), .. }));
    let other = LogIdentity { log_id: 9, ..LOG };
    assert!(matches!(two(other, 2), WalOpenError::OtherLog { found: 9, .. }));

    // Other than the log that the snapshot names.
    let disk = SimulatedDisk::new();
    Raw::new(1, 1, 0).place(&disk, 1);
    assert!(matches!(WalSurvey::look(&disk, folder(), Some(9)), Err(WalOpenError::OtherLog { wanted: 9, .. })));
}

#[test]
fn a_log_that_does_not_reach_back_is_refused() {
    let disk = SimulatedDisk::new();
    Raw::new(7, 100, 0).frame(FrameKind::ROWS).place(&disk, 7);
    assert!(matches!(read_from(&disk, 1, 0), Err(WalOpenError::SegmentMissing { wanted: 1, found: Some(100), .. })));
    assert!(read_from(&disk, 100, 99).is_ok());
    assert!(matches!(read_from(&SimulatedDisk::new(), 100, 99), Err(WalOpenError::SegmentMissing { wanted: 100, found: None, .. })));
}

#[test]
fn reading_begins_at_the_frame_that_holds_the_lsn() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    let written: Vec<Owned> = (0..60).map(|_| append_rows(&mut writer, 3, 30).unwrap()).collect();
    for from in [1, 2, 50, 100, 178, 180] {
        let (frames, tail) = read_from(&disk, from, 0).unwrap();
        let expected: Vec<Owned> = written.iter().filter(|frame| frame.last_lsn() >= from).cloned().collect();
        assert_eq!(frames, expected, "from {from}");
        assert_eq!(tail.last_lsn, 180);
    }
    assert_eq!(read_from(&disk, 181, 180).unwrap().0, []);
}

#[test]
fn skip_frames_are_collected_before_anything_is_replayed() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    append_rows(&mut writer, 3, 30).unwrap();
    let skip = FrameParts { kind: FrameKind::SKIP, flags: 0, row_count: 0, now_us: 0, positions: &[], body: &[&[2, 3]] };
    writer.append([skip]).unwrap();
    append_rows(&mut writer, 1, 30).unwrap();
    let survey = WalSurvey::look(&disk, folder(), Some(LOG.log_id)).unwrap();
    assert_eq!(survey.skipped(), [2, 3]);
    assert_eq!(survey.size().0, 2, "a skip frame begins a segment of its own");
    assert_eq!(read_all(&disk).unwrap().1.last_lsn, 5);
}
