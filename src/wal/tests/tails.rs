//! Reading the log while it is written: from any LSN on exactly the frames that are there, under
//! appends, rolls, releases, full disks, crashes and restarts; and what cursors keep.

use super::*;
use crate::storage::{Disk, Faults, Storage};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a reader gives until nothing more is durable.
fn drain<S: Storage>(reader: &mut TailReader<S>) -> Result<Vec<Owned>, TailError> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        frames.push(Owned::of(&frame.frame()));
    }
    Ok(frames)
}

/// What it must give: from the frame that holds `from_lsn` on, up to what is durable.
fn expected(written: &[Owned], from_lsn: u64, durable_lsn: u64) -> Vec<Owned> {
    written.iter().filter(|frame| frame.last_lsn() >= from_lsn && frame.last_lsn() <= durable_lsn).cloned().collect()
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[test]
fn every_start_gives_exactly_the_frames_from_there_on() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut written = Vec::new();
    for round in 0..60_u32 {
        written.push(append_rows(&mut writer, round % 4, 10 + (round as usize * 37) % 90).unwrap());
        attend(&handle);
    }
    // What is not durable is not given.
    let hidden = append_rows(&mut writer, 3, 9).unwrap();
    let durable_lsn = handle.durable_lsn();
    assert!(handle.status().segments > 5);
    for from_lsn in 1..=durable_lsn + 1 {
        let mut reader = handle.tail("test", from_lsn).unwrap();
        assert_eq!(drain(&mut reader).unwrap(), expected(&written, from_lsn, durable_lsn), "from {from_lsn}");
        assert_eq!(reader.next_lsn(), durable_lsn + 1);
    }
    assert_eq!(handle.tail("test", durable_lsn + 2).unwrap_err(), TailError::Ahead { wanted_lsn: durable_lsn + 2, durable_lsn });
    // Once it is synced, a reader that was at the end goes on with it.
    let mut reader = handle.tail("test", durable_lsn + 1).unwrap();
    assert_eq!(reader.next().unwrap().map(|_| ()), None);
    handle.sync_now().unwrap();
    assert_eq!(drain(&mut reader).unwrap(), [hidden]);
}

#[test]
fn at_the_head_frames_come_from_memory_and_are_shared() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    append_rows(&mut writer, 1, 4).unwrap();
    attend(&handle);
    let mut readers: Vec<_> = (0..3).map(|_| handle.tail("test", handle.durable_lsn() + 1).unwrap()).collect();
    let written: Vec<Owned> = (0..4).map(|_| append_rows(&mut writer, 2, 30).unwrap()).collect();
    handle.sync_now().unwrap();
    // No read of the disk succeeds from here on.
    disk.set_faults(Faults { fail_read_at: Some(0), ..Faults::default() });
    for reader in &mut readers {
        assert_eq!(drain(reader).unwrap(), written);
    }
    assert!(handle.ring_bytes() > 0);
    drop(readers);
    assert_eq!(handle.ring_bytes(), 0, "nobody reads, and nothing is kept");
    let before = append_rows(&mut writer, 1, 4).unwrap().first_lsn;
    handle.sync_now().unwrap();
    // What came while nobody read stands on the disk.
    let mut reader = handle.tail("test", before).unwrap();
    assert!(matches!(reader.next(), Err(TailError::Io(_))));
    disk.set_faults(Faults::default());
    assert_eq!(drain(&mut handle.tail("test", before).unwrap()).unwrap().len(), 1);
}

/// A reader of the log, where it began, and what it got.
struct Reading {
    reader: TailReader<SimulatedDisk>,
    from_lsn: u64,
    got: Vec<Owned>,
    /// It had to give way.
    passed: bool,
}

impl Reading {
    fn read(&mut self, most: u64) {
        for _ in 0..most {
            match self.reader.next() {
                Ok(frame) => self.got.extend(frame.map(|frame| Owned::of(&frame.frame()))),
                Err(TailError::Expired { .. }) => self.passed = true,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What it got is what there was from its begin on: all of it, unless it had to give way.
    fn check(&mut self, written: &[Owned], durable_lsn: u64, seed: u64) {
        self.read(1000);
        let mut expected = expected(written, self.from_lsn, durable_lsn);
        if self.passed {
            expected.truncate(self.got.len());
        }
        assert_eq!(self.got, expected, "seed {seed}, from {}", self.from_lsn);
    }
}

/// Any history of appends, syncs, rolls, releases, full disks, crashes and restarts, with readers that stop
/// in between, fall behind and come back.
#[test]
fn readers_of_any_speed_see_one_log_whatever_happens_to_it() {
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let fills = seed.is_multiple_of(2);
        let disk = SimulatedDisk::new();
        let (mut writer, mut handle) = fresh(&disk);
        let mut snapshot = handle.cursor("snapshot", 1, Hold::Firm).unwrap();
        let mut written: Vec<Owned> = Vec::new();
        let mut readings: Vec<Reading> = Vec::new();
        for _ in 0..120 {
            match dice.roll(20) {
                0..=7 => {
                    let (rows, words) = (dice.roll(4) as u32, dice.roll(120) as usize);
                    match append_rows(&mut writer, rows, words) {
                        Ok(frame) => written.push(frame),
                        Err(WalError::StorageFull { .. } | WalError::SyncBehind { .. }) => {}
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
                8..=10 => {
                    handle.sync_now().unwrap();
                }
                11..=12 => {
                    handle.prepare().unwrap();
                }
                13 => {
                    snapshot.advance(handle.durable_lsn().saturating_sub(dice.roll(60)) + 1);
                    handle.release().unwrap();
                }
                14 if readings.len() < 4 => {
                    let earliest = handle.earliest_lsn();
                    let from_lsn = earliest + dice.roll(handle.durable_lsn() + 2 - earliest);
                    let reader = handle.tail("reader", from_lsn).unwrap();
                    readings.push(Reading { reader, from_lsn, got: Vec::new(), passed: false });
                }
                15..=17 if !readings.is_empty() => {
                    let which = dice.roll(readings.len() as u64) as usize;
                    readings[which].read(dice.roll(12));
                }
                18 if fills => {
                    let capacity_bytes = (dice.roll(3) == 0).then(|| disk.used_bytes() + dice.roll(3000));
                    disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
                }
                19 if dice.roll(3) == 0 => {
                    disk.set_faults(Faults::default());
                    let durable_lsn = handle.durable_lsn();
                    for mut reading in readings.drain(..) {
                        assert!(fills || !reading.passed, "seed {seed}: there was room for it");
                        reading.check(&written, durable_lsn, seed);
                    }
                    drop((writer, handle));
                    disk.crash(seed);
                    let first = WalSurvey::look(&disk, folder(), None).unwrap().first_lsn().unwrap();
                    let (_, tail) = read_from(&disk, first, durable_lsn).unwrap();
                    written.retain(|frame| frame.last_lsn() <= tail.last_lsn);
                    (writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
                    snapshot = handle.cursor("snapshot", handle.earliest_lsn(), Hold::Firm).unwrap();
                }
                _ => {}
            }
        }
        disk.set_faults(Faults::default());
        handle.sync_now().unwrap();
        for reading in &mut readings {
            reading.check(&written, handle.durable_lsn(), seed);
            assert!(fills || !reading.passed, "seed {seed}: there was room for it");
        }
        let from_lsn = handle.earliest_lsn();
        let reader = handle.tail("last", from_lsn).unwrap();
        Reading { reader, from_lsn, got: Vec::new(), passed: false }.check(&written, handle.durable_lsn(), seed);
    }
}

/// Real files, a real syncer and four readers beside the writer: segments are read while they grow,
/// are ended, cut and released.
#[test]
fn readers_keep_up_with_a_writer_on_real_files() {
    const LAST: u64 = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes: 1 << 16, sync_interval: Duration::from_millis(2), ..WalOptions::default() };
    let (mut writer, handle) = WalWriter::start(Disk, folder.path(), Start::Fresh { log: LOG }, options, 1).unwrap();
    let syncer = WalSyncer::spawn(&handle, |_| {}).unwrap();
    let mut snapshot = handle.cursor("snapshot", 1, Hold::Firm).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for pause in [0_u64, 1, 7, 50] {
            let (handle, done) = (handle.clone(), &done);
            scope.spawn(move || {
                let mut reader = handle.tail("reader", 1).unwrap();
                let (mut next, mut given) = (1, 0_u64);
                while next <= LAST {
                    match reader.next().unwrap() {
                        Some(frame) => {
                            assert_eq!(frame.first_lsn(), next, "no gap, and nothing twice");
                            assert!(frame.frame().body.iter().all(|word| *word == next));
                            next = frame.last_lsn() + 1;
                            given += 1;
                            // A slow one lets many turns pass, so that it has to fall back to the files.
                            if pause > 0 && given.is_multiple_of(pause) {
                                std::thread::yield_now();
                            }
                        }
                        None => assert!(reader.wait(PATIENCE).unwrap() || done.load(Ordering::Acquire), "the log stands still"),
                    }
                }
            });
        }
        while writer.next_lsn() <= LAST {
            let lsn = writer.next_lsn();
            let body = vec![lsn; 20 + (lsn as usize * 31) % 200];
            let parts = FrameParts { kind: FrameKind::ROWS, flags: 0, row_count: 1, now_us: 0, positions: &[], body: &[&body] };
            match writer.append([parts]) {
                Ok(_) => {}
                Err(WalError::SyncBehind { .. }) => assert!(handle.wait_durable(lsn - 1, PATIENCE).unwrap()),
                Err(error) => panic!("{error}"),
            }
            if lsn.is_multiple_of(500) {
                assert!(handle.wait_durable(lsn, PATIENCE).unwrap());
                snapshot.advance(handle.durable_lsn() + 1);
                handle.release().unwrap();
            }
        }
        assert!(handle.wait_durable(LAST, PATIENCE).unwrap());
        done.store(true, Ordering::Release);
    });
    writer.close(2).unwrap();
    syncer.stop();
}

#[test]
fn the_least_cursor_holds_the_log_and_is_named() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    for _ in 0..100 {
        append_rows(&mut writer, 1, 40).unwrap();
        attend(&handle);
    }
    let mut snapshot = handle.cursor("snapshot", 1, Hold::Firm).unwrap();
    let mut reader = handle.tail("tail", 30).unwrap();
    snapshot.advance(91);
    handle.release().unwrap();
    assert!((2..=30).contains(&handle.earliest_lsn()), "{}", handle.earliest_lsn());
    let cursors = handle.cursors();
    let names: Vec<(&str, u64)> = cursors.iter().map(|cursor| (cursor.name.as_str(), cursor.needs_lsn)).collect();
    assert_eq!(names, [("tail", 30), ("snapshot", 91)]);
    assert!(cursors[0].bytes > cursors[1].bytes);
    assert_eq!(handle.tail("late", 1).unwrap_err(), TailError::Expired { wanted_lsn: 1, earliest_lsn: handle.earliest_lsn() });
    // What it has read it holds no more.
    assert_eq!(drain(&mut reader).unwrap().len(), 71);
    handle.release().unwrap();
    assert!(handle.earliest_lsn() > 80);
    drop(reader);
    assert_eq!(handle.cursors().len(), 1);
}

#[test]
fn a_reader_fills_no_disk() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    for _ in 0..100 {
        append_rows(&mut writer, 1, 40).unwrap();
        attend(&handle);
    }
    let mut snapshot = handle.cursor("snapshot", 1, Hold::Firm).unwrap();
    let mut slow = handle.tail("slow", 1).unwrap();
    let mut quick = handle.tail("quick", 95).unwrap();
    snapshot.advance(91);
    assert_eq!(handle.release().unwrap(), Released::default(), "there is room, and the reader may have it");
    // While room is short nobody but who must holds any.
    let lent = handle.hold_room();
    let released = handle.release().unwrap();
    drop(lent);
    assert!(released.segments > 5);
    assert_eq!(released.passed, ["slow"]);
    let earliest_lsn = handle.earliest_lsn();
    assert_eq!(slow.next().unwrap_err(), TailError::Expired { wanted_lsn: 1, earliest_lsn });
    assert_eq!(drain(&mut quick).unwrap().len(), 6, "who is not behind what snapshots need loses nothing");
}

#[test]
fn what_was_on_the_disk_and_is_not_there_is_damage() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    for _ in 0..5 {
        append_rows(&mut writer, 1, 40).unwrap();
    }
    attend(&handle);
    let path = segment_path(folder(), 1);
    let file = disk.open(&path).unwrap();
    use crate::storage::StorageFile as _;
    file.write_all_at(&[0xFF], 128 + 3 * (56 + 8 + 320) + 90).unwrap();
    let mut reader = handle.tail("test", 1).unwrap();
    for _ in 0..3 {
        reader.next().unwrap().unwrap();
    }
    let error = reader.next().unwrap_err();
    assert!(matches!(&error, TailError::Damaged { lsn: 4, file, .. } if *file == path), "{error}");
}

#[test]
fn each_segment_says_what_was_declared_where_it_begins() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let mut declared = vec![(1, Vec::new())];
    for round in 0..40_u64 {
        // One that is longer than a segment as well.
        let head = vec![b'a' + (round % 26) as u8; if round == 20 { 9000 } else { round as usize * 7 }];
        let segments = handle.status().segments;
        writer.set_head(&head);
        let first_lsn = append_rows(&mut writer, 2, 60).unwrap().first_lsn;
        if handle.status().segments > segments {
            declared.push((first_lsn, head));
        }
        attend(&handle);
    }
    assert!(declared.len() > 5);
    let check = |handle: &WalHandle<SimulatedDisk>, declared: &[(u64, Vec<u8>)], last_lsn| {
        for lsn in 1..=last_lsn {
            let (first_lsn, text) = declared.iter().rev().find(|(first_lsn, _)| *first_lsn <= lsn).unwrap().clone();
            assert_eq!(handle.head_before(lsn).unwrap(), SegmentHead { first_lsn, text }, "{lsn}");
        }
    };
    check(&handle, &declared, handle.durable_lsn() + 1);
    // A start says it anew.
    let (_, mut tail) = read_all(&disk).unwrap();
    tail.head = b"after the start".to_vec();
    declared.push((tail.last_lsn + 1, tail.head.clone()));
    let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
    let last_lsn = append_rows(&mut writer, 1, 4).unwrap().last_lsn();
    handle.sync_now().unwrap();
    check(&handle, &declared, last_lsn);
    assert_eq!(drain(&mut handle.tail("test", 1).unwrap()).unwrap().len(), 41);
}

#[test]
fn a_log_that_has_no_room_for_a_segment_is_read_all_the_same() {
    for settles in [true, false] {
        let disk = SimulatedDisk::new();
        let (mut writer, handle) = fresh(&disk);
        let mut written = Vec::new();
        for _ in 0..30 {
            written.push(append_rows(&mut writer, 2, 40).unwrap());
            attend(&handle);
        }
        drop((writer, handle));
        disk.kill();
        let (_, tail) = read_all(&disk).unwrap();
        let durable_lsn = if settles { 60 } else { tail.durable_lsn };
        // The old end can be written over itself, or not even that; and there is no room for the next segment.
        disk.set_faults(Faults { capacity_bytes: Some(1), refuse_writes: !settles, ..Faults::default() });
        let (_writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
        assert!(handle.status().full);
        assert_eq!(handle.durable_lsn(), durable_lsn, "{settles}");
        for from_lsn in [1, 2, durable_lsn - 3, durable_lsn, durable_lsn + 1] {
            let mut reader = handle.tail("test", from_lsn).unwrap();
            assert_eq!(drain(&mut reader).unwrap(), expected(&written, from_lsn, durable_lsn), "from {from_lsn}");
            assert!(handle.head_before(from_lsn).unwrap().first_lsn <= from_lsn);
        }
    }
}

#[test]
fn a_log_of_level_memory_cannot_be_read() {
    let (_writer, handle) = WalWriter::<SimulatedDisk>::memory(10, small());
    assert_eq!(handle.tail("test", 10).unwrap_err(), TailError::NoLog);
}
