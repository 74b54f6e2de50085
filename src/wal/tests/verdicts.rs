//! The decision table of an opening log, one test per line.

use super::*;
use crate::storage::{Storage as _, StorageFile as _};
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
        assert_eq!((tail.last_lsn, tail.valid_bytes()), (2, cut as u64));
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

    let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 2).unwrap();
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
    let (disk, _writer, _) = two_segments();
    let sealed = disk.bytes(&segment_path(folder(), 1)).unwrap();
    // In the middle, the last frame, the footer.
    for byte in [600, sealed.len() - 56 - 5, sealed.len() - 20] {
        disk.place(&segment_path(folder(), 1), sealed.clone());
        flip(&disk, 1, byte);
        assert_eq!(damage(read_all(&disk)).kind, DamageKind::Checksum, "byte {byte}");
    }
    disk.place(&segment_path(folder(), 1), sealed[..sealed.len() - 100].to_vec());
    assert_eq!(damage(read_all(&disk)).kind, DamageKind::Short);
    // Without its footer nothing of it is missing: the last segment goes on exactly there.
    disk.place(&segment_path(folder(), 1), sealed[..sealed.len() - 56].to_vec());
    assert!(read_all(&disk).is_ok());
}

/// A segment that was sealed, synced and followed by frames that say so, and the one behind it.
fn two_segments() -> (SimulatedDisk, WalWriter<SimulatedDisk>, WalHandle<SimulatedDisk>) {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    handle.prepare().unwrap();
    while handle.status().segments < 2 {
        append_rows(&mut writer, 1, 30).unwrap();
    }
    handle.sync_now().unwrap();
    append_rows(&mut writer, 1, 30).unwrap();
    (disk, writer, handle)
}

#[test]
fn a_roll_that_was_not_synced_may_be_torn_in_either_segment() {
    // Frames of segment 1, a roll, frames of segment 2; nothing was synced, so nothing says that anything was.
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    handle.prepare().unwrap();
    let mut written = Vec::new();
    while handle.status().segments < 2 {
        written.push(append_rows(&mut writer, 1, 30).unwrap());
    }
    written.push(append_rows(&mut writer, 1, 30).unwrap());
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(frames, written);
    assert!(tail.unproven.is_some(), "nothing proves that the first segment is on the disk");
    let files = [1, 2].map(|number| disk.bytes(&segment_path(folder(), number)).unwrap());
    let ended = usize::try_from(tail.unproven.unwrap().valid_bytes).unwrap();
    type Tear<'a> = (&'a str, u64, std::ops::Range<usize>, bool);
    let tears: [Tear<'_>; 6] = [
        ("a frame of the first", 1, 600..700, false),
        ("the last frame of the first", 1, ended - 20..ended, false),
        ("the first's footer", 1, ended..ended + 56, true),
        ("the second's header", 2, 0..128, false),
        ("the second's first frame", 2, 128..200, false),
        ("the second's last frame", 2, 128 + 320..128 + 400, false),
    ];
    for (what, number, range, whole) in tears {
        let torn = SimulatedDisk::new();
        for (number, bytes) in (1..).zip(&files) {
            torn.place(&segment_path(folder(), number), bytes.clone());
        }
        let mut bytes = files[usize::try_from(number).unwrap() - 1].clone();
        bytes[range].fill(0);
        torn.place(&segment_path(folder(), number), bytes);
        let (frames, tail) = read_all(&torn).unwrap();
        assert!(written.starts_with(&frames) && (frames.len() == written.len()) == whole, "{what}: {} frames", frames.len());
        // Settled, the log ends there and goes on there, in a file whose number is free.
        let (mut writer, handle) = WalWriter::start(torn.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
        assert_eq!(handle.durable_lsn(), frames.last().unwrap().last_lsn(), "{what}");
        let more = append_rows(&mut writer, 1, 4).unwrap();
        handle.sync_now().unwrap();
        torn.crash(3);
        assert_eq!(read_all(&torn).unwrap().0, [frames, vec![more]].concat(), "{what}");
    }
}

#[test]
fn a_segment_before_the_last_two_is_on_the_disk_whatever_frames_say() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    handle.prepare().unwrap();
    while handle.status().segments < 2 {
        append_rows(&mut writer, 1, 30).unwrap();
    }
    // That the third file exists is the proof: no frame says that anything was synced.
    handle.prepare().unwrap();
    flip(&disk, 1, 600);
    let found = damage(read_all(&disk));
    assert_eq!((found.kind, found.durable_lsn), (DamageKind::Checksum, 0));
}

#[test]
fn a_lost_header_in_front_of_frames_that_were_synced_is_damage() {
    let (disk, mut writer, handle) = two_segments();
    handle.sync_now().unwrap();
    writer.append_mark(5).unwrap();
    let path = segment_path(folder(), 2);
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[..128].fill(0);
    disk.place(&path, bytes);
    let found = damage(read_all(&disk));
    assert_eq!((found.kind, found.file, found.offset_bytes), (DamageKind::Header, path, 0));
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
    raw.bytes[8] = 3;
    let crc = crate::storage::Checksum::of(&raw.bytes[..124]);
    raw.bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    raw.place(&disk, 1);
    let error = read_all(&disk).unwrap_err();
    assert!(matches!(error, WalOpenError::FormatTooNew { found: 3, known: 2, .. }), "{error}");
    assert_eq!(streamgauge_api::ApiError::from(error).code, streamgauge_api::Code::FormatTooNew);
}

/// What a head says is for readers of the log; that it is there as it was written is a start's to see.
#[test]
fn a_head_is_torn_or_damaged_like_a_frame() {
    let written = |synced: bool| {
        let disk = SimulatedDisk::new();
        let (mut writer, handle) = fresh(&disk);
        while handle.status().segments < 2 {
            append_rows(&mut writer, 1, 60).unwrap();
            if handle.status().segments < 2 {
                attend(&handle);
            }
        }
        if synced {
            // The frame behind it says so.
            handle.sync_now().unwrap();
            append_rows(&mut writer, 1, 4).unwrap();
        }
        let file = disk.open(&segment_path(folder(), 2)).unwrap();
        file.write_all_at(&[0; 100], 300).unwrap();
        (disk, handle.durable_lsn())
    };
    let (disk, _) = written(true);
    let error = read_all(&disk).unwrap_err();
    assert!(matches!(&error, WalOpenError::Damaged(damage) if damage.offset_bytes == 128), "{error}");
    let (disk, durable_lsn) = written(false);
    let (frames, tail) = read_all(&disk).unwrap();
    assert!(matches!(tail.end, TailEnd::Torn { .. }), "{:?}", tail.end);
    assert_eq!((tail.last_lsn, frames.len() as u64), (durable_lsn, durable_lsn));
    // The log goes on in its place.
    let (mut writer, _) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
    append_rows(&mut writer, 1, 4).unwrap();
    assert_eq!(read_all(&disk).unwrap().0.len(), frames.len() + 1);
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
    assert!(matches!(two(LOG, 3), WalOpenError::SegmentMissing { wanted: 2, found: None, .. }));
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
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    for _ in 0..60 {
        written.push(append_rows(&mut writer, 3, 30).unwrap());
        handle.prepare().unwrap();
    }
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
    let (mut writer, handle) = fresh(&disk);
    append_rows(&mut writer, 3, 30).unwrap();
    handle.prepare().unwrap();
    let skip = FrameParts { kind: FrameKind::SKIP, flags: 0, row_count: 0, now_us: 0, positions: &[], body: &[&[2, 3]] };
    writer.append([skip]).unwrap();
    append_rows(&mut writer, 1, 30).unwrap();
    let survey = WalSurvey::look(&disk, folder(), Some(LOG.log_id)).unwrap();
    assert_eq!(survey.skipped(), [2, 3]);
    assert_eq!(survey.size().0, 2, "a skip frame begins a segment of its own");
    assert_eq!(read_all(&disk).unwrap().1.last_lsn, 5);
}
