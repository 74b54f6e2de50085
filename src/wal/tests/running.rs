//! The writer and the syncer while they run: rolls, full disks, failed writes and syncs, marks, releases, levels.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::storage::{Disk, Faults};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_full_disk_refuses_keeps_what_was_acknowledged_and_goes_on_by_itself() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    // Room for the first segment and half of what a second needs.
    disk.set_faults(Faults { capacity_bytes: Some(4096 + 2048), ..Faults::default() });
    let mut written = Vec::new();
    let refused = loop {
        match append_rows(&mut writer, 1, 40) {
            Ok(frame) => written.push(frame),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WalError::StorageFull { .. }), "{refused}");
    assert!(handle.status().full);
    let next = writer.next_lsn();
    for _ in 0..3 {
        assert!(matches!(append_rows(&mut writer, 1, 40), Err(WalError::StorageFull { .. })));
        assert!(!handle.prepare().unwrap());
    }
    assert_eq!(writer.next_lsn(), next, "a refused turn takes no LSN");
    assert_eq!(read_all(&disk).unwrap().0, written);
    disk.set_faults(Faults::default());
    assert!(handle.prepare().unwrap());
    written.push(append_rows(&mut writer, 1, 40).unwrap());
    assert_eq!(read_all(&disk).unwrap().0, written);
    assert!(!handle.status().full);
}

#[test]
fn a_full_disk_still_takes_the_close_frame() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    disk.set_faults(Faults { capacity_bytes: Some(4096), ..Faults::default() });
    while append_rows(&mut writer, 1, 7).is_ok() {}
    writer.close(1).unwrap();
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(frames.last().unwrap().kind, FrameKind::CLOSE);
    assert_eq!(tail.end, TailEnd::Sealed { synced: true });
}

#[test]
fn a_short_write_is_cut_off_before_the_next_frame() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = vec![append_rows(&mut writer, 1, 10).unwrap()];
    // A file system that reserves nothing: the disk ends inside of the second of three frames.
    let path = segment_path(folder(), 1);
    let bytes = disk.bytes(&path).unwrap();
    disk.set_faults(Faults { capacity_bytes: Some(900), ..Faults::default() });
    crate::storage::StorageFile::set_len(&crate::storage::Storage::open(&disk, &path).unwrap(), 500).unwrap();
    drop(bytes);
    let body = [1_u64; 30];
    let body: [&[u64]; 1] = [&body];
    let parts = FrameParts { kind: FrameKind::ROWS, flags: 0, row_count: 1, now_us: 0, positions: &[], body: &body };
    assert!(matches!(writer.append([parts; 3]), Err(WalError::StorageFull { .. })));
    assert_eq!(read_all(&disk).unwrap().0, written);
    disk.set_faults(Faults::default());
    handle.sync_now().unwrap();
    written.push(append_rows(&mut writer, 1, 3).unwrap());
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(frames, written);
    assert_eq!(tail.end, TailEnd::Clean { closed: false }, "nothing of the refused turn is left");
}

#[test]
fn a_disk_that_reserves_nothing_may_fill_up_at_any_byte_and_the_log_goes_on() {
    for room in 0..1200 {
        let disk = SimulatedDisk::new();
        let (mut writer, handle) = fresh(&disk);
        let mut written: Vec<Owned> = (0..10).map(|_| append_rows(&mut writer, 1, 30).unwrap()).collect();
        handle.prepare().unwrap();
        // What was reserved and not written is taken away, in both files.
        let end = read_all(&disk).unwrap().1.valid_bytes();
        for (path, len) in [(segment_path(folder(), 1), end), (segment_path(folder(), 2), 0)] {
            let file = crate::storage::Storage::open(&disk, &path).unwrap();
            crate::storage::StorageFile::set_len(&file, len).unwrap();
            crate::storage::StorageFile::set_len(&file, 4096).unwrap();
        }
        disk.set_faults(Faults { capacity_bytes: Some(end + room), ..Faults::default() });
        for _ in 0..8 {
            match append_rows(&mut writer, 1, 30) {
                Ok(frame) => written.push(frame),
                Err(error) => assert!(matches!(error, WalError::StorageFull { .. }), "room {room}: {error}"),
            }
        }
        assert_eq!(read_all(&disk).unwrap().0, written, "room {room}");
        disk.set_faults(Faults::default());
        handle.prepare().unwrap();
        written.extend((0..8).map(|_| append_rows(&mut writer, 1, 30).unwrap()));
        assert_eq!(read_all(&disk).unwrap().0, written, "room {room}");
    }
}

#[test]
fn the_writer_never_syncs_however_often_it_rolls() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    for _ in 0..60 {
        handle.prepare().unwrap();
        disk.set_faults(Faults { fail_sync_at: Some(0), ..Faults::default() });
        // Any sync on this thread would fail and poison the log.
        written.extend((0..3).map(|_| append_rows(&mut writer, 1, 40).unwrap()));
        disk.set_faults(Faults::default());
    }
    assert!(handle.status().segments > 10);
    assert_eq!(read_all(&disk).unwrap().0, written);
}

#[test]
fn a_sync_that_does_not_return_makes_the_segment_longer_and_then_refuses() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    let refused = loop {
        match append_rows(&mut writer, 1, 40) {
            Ok(frame) => written.push(frame),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WalError::SyncBehind { .. }), "{refused}");
    let bytes = disk.bytes(&segment_path(folder(), 1)).unwrap().len() as u64;
    assert!(bytes > 2 * 4096 && bytes <= crate::wal::writer::GROWTH_MAX * 4096, "{bytes}");
    assert!(!handle.status().full && handle.failure().is_none());
    assert_eq!(append_rows(&mut writer, 1, 40).unwrap_err(), refused, "nothing of it is in the log");
    attend(&handle);
    written.push(append_rows(&mut writer, 1, 40).unwrap());
    assert_eq!(read_all(&disk).unwrap().0, written);
}

#[test]
fn a_log_opens_on_a_disk_without_a_free_byte_and_takes_frames_when_there_is_room() {
    for power_cut in [None, Some(1), Some(2), Some(3)] {
        for rows in [0, 1, 7, 25] {
            let disk = SimulatedDisk::new();
            let (mut writer, handle) = fresh(&disk);
            for _ in 0..rows {
                append_rows(&mut writer, 1, 40).unwrap();
            }
            handle.sync_now().unwrap();
            drop(writer);
            power_cut.map_or_else(|| disk.kill(), |seed| disk.crash(seed));
            let (frames, tail) = read_all(&disk).unwrap();
            assert_eq!(frames.len(), rows);
            // Not one byte may be written that does not stand in a file already.
            let used = disk.used_bytes();
            disk.set_faults(Faults { capacity_bytes: Some(used), ..Faults::default() });
            let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
            assert_eq!(handle.durable_lsn(), rows as u64, "what is there is on the disk for sure, written over itself");
            assert!(handle.status().full);
            assert!(matches!(append_rows(&mut writer, 1, 40), Err(WalError::StorageFull { .. })));
            assert_eq!(read_all(&disk).unwrap().0.len(), rows);
            disk.set_faults(Faults::default());
            handle.prepare().unwrap();
            append_rows(&mut writer, 1, 40).unwrap();
            writer.close(1).unwrap();
            disk.crash(9);
            assert_eq!(rows_only(&read_all(&disk).unwrap().0).len(), rows + 1);
        }
    }
}

#[test]
fn a_disk_that_refuses_every_write_lets_the_log_open_and_nothing_is_claimed_durable() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    append_rows(&mut writer, 1, 40).unwrap();
    handle.sync_now().unwrap();
    let unsynced = append_rows(&mut writer, 1, 40).unwrap();
    drop(writer);
    disk.kill();
    let (_, tail) = read_all(&disk).unwrap();
    disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
    let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
    assert!(handle.status().full);
    for _ in 0..2 {
        assert!(handle.durable_lsn() < unsynced.last_lsn(), "the page cache is not the disk");
        assert_eq!(handle.sync_now().unwrap(), handle.durable_lsn());
        assert!(matches!(append_rows(&mut writer, 1, 4), Err(WalError::StorageFull { .. })));
        assert!(!handle.prepare().unwrap());
    }
    disk.set_faults(Faults::default());
    assert!(handle.prepare().unwrap());
    assert_eq!(handle.durable_lsn(), unsynced.last_lsn());
    assert_eq!(append_rows(&mut writer, 1, 4).unwrap().first_lsn, 3);
    disk.crash(1);
    assert_eq!(read_all(&disk).unwrap().0[1], unsynced);
}

#[test]
fn a_log_that_had_no_room_all_its_life_closes_and_opens_as_it_was() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    let written = append_rows(&mut writer, 1, 40).unwrap();
    drop(writer);
    for _ in 0..3 {
        let (frames, tail) = read_all(&disk).unwrap();
        assert_eq!(frames, std::slice::from_ref(&written));
        disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
        let (writer, _) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
        assert_eq!(writer.close(2).unwrap(), 1);
        disk.set_faults(Faults::default());
    }
}

#[test]
fn room_that_is_lent_for_freeing_space_is_not_taken_for_frames() {
    let disk = SimulatedDisk::new();
    let (_writer, handle) = fresh(&disk);
    let hold = handle.hold_room();
    assert!(!handle.prepare().unwrap());
    drop(hold);
    assert!(handle.prepare().unwrap());
}

#[test]
fn a_segment_grows_by_no_room_that_is_lent() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let hold = handle.hold_room();
    let used = disk.used_bytes();
    let refused = loop {
        if let Err(refused) = append_rows(&mut writer, 2, 30) {
            break refused;
        }
        assert_eq!(disk.used_bytes(), used, "frames were given room that was lent");
    };
    assert!(matches!(refused, WalError::StorageFull { .. }), "{refused}");
    drop(hold);
    // The syncer looks, and frames go on.
    assert!(handle.prepare().unwrap());
    append_rows(&mut writer, 2, 30).unwrap();
    assert!(disk.used_bytes() > used);
}

#[test]
fn writes_that_come_in_pieces_are_whole() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    disk.set_faults(Faults { write_bytes_max: Some(7), ..Faults::default() });
    let written: Vec<Owned> = (0..20).map(|_| append_rows(&mut writer, 2, 30).unwrap()).collect();
    assert_eq!(read_all(&disk).unwrap().0, written);
}

#[test]
fn failed_write_is_final() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let kept = append_rows(&mut writer, 1, 4).unwrap();
    disk.set_faults(Faults { fail_write_at: Some(0), ..Faults::default() });
    for _ in 0..3 {
        assert!(matches!(append_rows(&mut writer, 1, 4), Err(WalError::Poisoned { .. })));
    }
    assert!(handle.sync_now().is_err() && handle.failure().is_some());
    assert!(writer.close(1).is_err());
    assert_eq!(read_all(&disk).unwrap().0, [kept]);
}

#[test]
fn failed_sync_is_final() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    append_rows(&mut writer, 1, 4).unwrap();
    assert_eq!(handle.sync_now().unwrap(), 1);
    append_rows(&mut writer, 1, 4).unwrap();
    disk.set_faults(Faults { fail_sync_at: Some(0), ..Faults::default() });
    assert!(matches!(handle.sync_now(), Err(WalError::Poisoned { .. })));
    disk.set_faults(Faults::default());
    // The disk would answer again; the log does not ask it.
    assert!(matches!(handle.sync_now(), Err(WalError::Poisoned { .. })));
    assert!(matches!(append_rows(&mut writer, 1, 4), Err(WalError::Poisoned { .. })));
    assert_eq!(handle.durable_lsn(), 1);
    assert_eq!(handle.wait_durable(2, PATIENCE).unwrap_err().to_string(), writer.close(1).unwrap_err().to_string());
}

#[test]
fn a_log_that_died_of_a_failed_sync_is_copied_before_it_is_trusted() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let written = [append_rows(&mut writer, 1, 4).unwrap(), append_rows(&mut writer, 1, 4).unwrap()];
    disk.set_faults(Faults { fail_sync_at: Some(0), ..Faults::default() });
    handle.sync_now().unwrap_err();
    drop(writer);
    disk.kill();
    // The page cache still shows both frames; on the disk there is neither.
    let (frames, tail) = read_all(&disk).unwrap();
    assert_eq!(frames, written);
    drop(WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap());
    disk.crash(7);
    assert_eq!(read_all(&disk).unwrap().0, written);
}

#[test]
fn an_idle_log_wants_one_mark_and_then_none() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    assert!(!writer.needs_mark());
    append_rows(&mut writer, 1, 4).unwrap();
    assert!(!writer.needs_mark(), "not synced yet");
    handle.sync_now().unwrap();
    assert!(writer.needs_mark());
    writer.append_mark(3).unwrap();
    assert!(!writer.needs_mark());
    handle.sync_now().unwrap();
    assert!(!writer.needs_mark());
    assert_eq!(read_all(&disk).unwrap().1.durable_lsn, 1);
}

#[test]
fn a_turn_larger_than_a_segment_gets_a_segment_of_its_size() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    for words in [2000, 10, 3000, 10] {
        written.push(append_rows(&mut writer, 1, words).unwrap());
        handle.prepare().unwrap();
    }
    assert_eq!(read_all(&disk).unwrap().0, written);
}

#[test]
fn only_whole_sealed_segments_are_released_and_the_rest_can_be_read() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    for _ in 0..100 {
        written.push(append_rows(&mut writer, 2, 40).unwrap());
        attend(&handle);
    }
    let segments = handle.status().segments;
    assert!(segments > 5);
    assert_eq!(handle.release().unwrap().segments, 0, "nobody has said what may go");
    let mut snapshot = handle.cursor("snapshot", 1, Hold::Firm).unwrap();
    assert_eq!(handle.release().unwrap().segments, 0);
    snapshot.advance(101);
    let released = handle.release().unwrap();
    assert!(released.segments > 1 && released.bytes > 4096);
    assert_eq!(handle.status().segments, segments - released.segments);
    let first = WalSurvey::look(&disk, folder(), None).unwrap().first_lsn().unwrap();
    assert!(first > 1 && first <= 101);
    let (frames, tail) = read_from(&disk, 101, 100).unwrap();
    assert_eq!(frames, written[50..]);
    // After a restart the older segments are still known as sealed.
    drop(writer);
    let (_writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
    assert_eq!(handle.status().segments, segments - released.segments + 1);
    let mut snapshot = handle.cursor("snapshot", first, Hold::Firm).unwrap();
    snapshot.advance(201);
    handle.release().unwrap();
    assert_eq!(handle.status().segments, 1);
    assert_eq!(read_from(&disk, 201, 200).unwrap().0, []);
}

#[test]
fn many_restarts_without_a_row_leave_one_segment() {
    let disk = SimulatedDisk::new();
    drop(fresh(&disk));
    for _ in 0..5 {
        let (frames, tail) = read_all(&disk).unwrap();
        assert_eq!(frames, []);
        drop(WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap());
    }
    assert_eq!(crate::storage::Storage::list(&disk, folder()).unwrap().len(), 1);
}

#[test]
fn push_sync_waits_for_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes: 1 << 16, sync_interval: Duration::from_secs(3600), ..WalOptions::default() };
    let start = Start::Fresh { log: LOG };
    let (mut writer, handle) = WalWriter::start(Disk, folder.path(), start, options, 1).unwrap();
    let (tell, news) = mpsc::channel();
    let syncer = WalSyncer::spawn(&handle, move |event| tell_on(&tell, event)).unwrap();
    let body = [7_u64; 100];
    for lsn in 1..=500 {
        let parts = FrameParts { kind: FrameKind::ROWS, flags: 0, row_count: 1, now_us: 0, positions: b"abc", body: &[&body] };
        assert_eq!(writer.append([parts]).unwrap(), lsn);
        if lsn % 100 == 0 {
            assert!(handle.wait_durable(lsn, PATIENCE).unwrap());
            assert!(handle.durable_lsn() >= lsn);
        }
    }
    let mut heard = 0;
    while heard < 500 {
        match news.recv_timeout(PATIENCE).unwrap() {
            SyncEvent::Durable(lsn) => {
                assert!(lsn > heard);
                heard = lsn;
            }
            SyncEvent::Synced(_) => unreachable!("not told on"),
            SyncEvent::Failed(error) => panic!("{error}"),
        }
    }
    writer.close(2).unwrap();
    syncer.stop();
    let survey = WalSurvey::look(&Disk, folder.path(), Some(LOG.log_id)).unwrap();
    let mut reader = WalReader::open(Disk, survey, FIRST_LSN, 500).unwrap();
    let mut frames = 0;
    while let Some(frame) = reader.next().unwrap() {
        frames += 1;
        if frame.kind == FrameKind::ROWS {
            assert_eq!((frame.positions, frame.body), (b"abc".as_slice(), body.as_slice()));
        }
    }
    assert_eq!(frames, 501);
    let (read, total) = reader.progress();
    assert!(read == total, "{read} of {total}");
    let names = crate::storage::Storage::list(&Disk, folder.path()).unwrap();
    assert!(names.iter().all(|entry| entry.name.ends_with(".seg")), "a clean stop leaves nothing but segments: {names:?}");
}

/// What the tests listen to: watermarks and failures.
fn tell_on(tell: &mpsc::Sender<SyncEvent>, event: SyncEvent) {
    if !matches!(event, SyncEvent::Synced(_)) {
        drop(tell.send(event));
    }
}

#[test]
fn unwaited_frames_are_synced_after_the_interval() {
    let disk = SimulatedDisk::new();
    let options = WalOptions { sync_interval: Duration::from_millis(5), ..small() };
    let start = Start::Fresh { log: LOG };
    let (mut writer, handle) = WalWriter::start(disk, folder(), start, options, 1).unwrap();
    let (tell, news) = mpsc::channel();
    let _syncer = WalSyncer::spawn(&handle, move |event| tell_on(&tell, event)).unwrap();
    append_rows(&mut writer, 4, 4).unwrap();
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), SyncEvent::Durable(4));
}

#[test]
fn a_failed_sync_is_told_once_to_everybody() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let (tell, news) = mpsc::channel();
    let syncer = WalSyncer::spawn(&handle, move |event| tell_on(&tell, event)).unwrap();
    disk.set_faults(Faults { fail_sync_at: Some(0), ..Faults::default() });
    append_rows(&mut writer, 1, 4).unwrap();
    assert!(handle.wait_durable(1, PATIENCE).is_err());
    assert!(matches!(news.recv_timeout(PATIENCE).unwrap(), SyncEvent::Failed(WalError::Poisoned { .. })));
    syncer.stop();
    assert!(news.try_recv().is_err());
}

#[test]
fn level_memory_counts_lsns_announces_them_and_touches_nothing() {
    let (mut writer, handle) = WalWriter::<SimulatedDisk>::memory(10, small());
    let (tell, news) = mpsc::channel();
    let _syncer = WalSyncer::spawn(&handle, move |event| tell_on(&tell, event)).unwrap();
    assert_eq!(append_rows(&mut writer, 3, 4).unwrap().first_lsn, 10);
    assert!(handle.wait_durable(12, PATIENCE).unwrap());
    assert_eq!(news.recv_timeout(PATIENCE).unwrap(), SyncEvent::Durable(12));
    assert!(!writer.needs_mark());
    assert_eq!(handle.status().segments, 0);
    assert_eq!(writer.close(1).unwrap(), 13);
}
