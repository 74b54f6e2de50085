//! A disk that fills up and gets room again at any step, by seed: what was acknowledged is there after every kill, what was
//! refused is not, every start succeeds, and the log takes no byte of room that is lent.

use proptest::prelude::*;

use super::*;
use crate::storage::Faults;

#[derive(Debug, Clone)]
enum Step {
    Append {
        words: usize,
    },
    /// What the syncer does when it comes round.
    Attend,
    /// So many bytes are left.
    Fill {
        free_bytes: u64,
    },
    /// Not a byte may be written, also inside of files.
    Refuse,
    Room,
    Lend,
    TakeBack,
    Kill,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..130_usize).prop_map(|words| Step::Append { words }),
        1 => (600..900_usize).prop_map(|words| Step::Append { words }),
        4 => Just(Step::Attend),
        4 => prop_oneof![Just(0_u64), 1..400_u64, 400..9_000_u64].prop_map(|free_bytes| Step::Fill { free_bytes }),
        1 => Just(Step::Refuse),
        3 => Just(Step::Room),
        2 => Just(Step::Lend),
        2 => Just(Step::TakeBack),
        2 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

struct World {
    disk: SimulatedDisk,
    writer: WalWriter<SimulatedDisk>,
    handle: WalHandle<SimulatedDisk>,
    /// What the log may not go beyond while its room is lent.
    lent: Option<(crate::wal::RoomLent<SimulatedDisk>, u64)>,
    acknowledged: Vec<Owned>,
    /// A turn that was refused, and cut off without a sync yet: a power cut may bring it back.
    refused: Option<Owned>,
}

impl World {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let (writer, handle) = fresh(&disk);
        Self { disk, writer, handle, lent: None, acknowledged: Vec::new(), refused: None }
    }

    fn run(&mut self, step: &Step) {
        let unsettled = self.handle.0.files.as_ref().unwrap().unsettled();
        match step {
            Step::Append { words } => {
                let expected = expected(self.writer.next_lsn(), *words);
                match append_rows(&mut self.writer, 1, *words) {
                    Ok(frame) => {
                        assert_eq!(frame, expected);
                        assert!(!self.handle.0.files.as_ref().unwrap().cut_waits(), "written behind a cut");
                        self.acknowledged.push(frame);
                        self.refused = None;
                    }
                    Err(WalError::StorageFull { .. }) => self.refused = self.refused.take().or(Some(expected)),
                    Err(WalError::SyncBehind { .. }) => {}
                    Err(error) => panic!("a full disk is no failure: {error}"),
                }
            }
            Step::Attend => {
                self.handle.sync_now().unwrap();
                self.handle.prepare().unwrap();
                assert!(!self.handle.0.files.as_ref().unwrap().cut_waits());
                self.refused = None;
            }
            Step::Fill { free_bytes } => {
                let capacity_bytes = Some(self.disk.used_bytes() + free_bytes);
                self.disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
            }
            Step::Refuse => self.disk.set_faults(Faults { refuse_writes: true, ..Faults::default() }),
            Step::Room => self.disk.set_faults(Faults::default()),
            Step::Lend => {
                if self.lent.is_none() {
                    self.lent = Some((self.handle.hold_room(), self.disk.used_bytes()));
                }
            }
            Step::TakeBack => self.lent = None,
            Step::Kill => self.restart(None),
            Step::Crash(seed) => self.restart(Some(*seed)),
        }
        if let Some((_, used)) = &mut self.lent {
            // The end of the old log may be sealed on what is lent, since a snapshot waits for that. It holds no new frame.
            let footers = if unsettled { 2 * crate::wal::segment::FOOTER_BYTES as u64 } else { 0 };
            assert!(self.disk.used_bytes() <= *used + footers, "{} bytes of {used} and lent room", self.disk.used_bytes());
            *used = self.disk.used_bytes();
        }
    }

    /// The process dies and starts again on a disk as full as it was.
    fn restart(&mut self, crash: Option<u64>) {
        self.lent = None;
        let free = |disk: &SimulatedDisk| crate::storage::Storage::space(disk, folder()).unwrap().free_bytes;
        let free_bytes = free(&self.disk);
        match crash {
            Some(seed) => self.disk.crash(seed),
            None => self.disk.kill(),
        }
        let (frames, tail) = read_all(&self.disk).unwrap();
        let rows = rows_only(&frames);
        let durable = self.handle.durable_lsn();
        let sure = self.acknowledged.iter().filter(|frame| crash.is_none() || frame.last_lsn() <= durable).count();
        let mut most = self.acknowledged.clone();
        most.extend(self.refused.take().filter(|_| crash.is_some()));
        assert!(most.starts_with(&rows) && rows.len() >= sure, "{} of {} frames, at least {sure}", rows.len(), most.len());
        self.acknowledged = rows;
        let capacity_bytes = (free_bytes < 1 << 30).then(|| self.disk.used_bytes() + free_bytes);
        self.disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
        let start = Start::After(Box::new(tail));
        let (writer, handle) = WalWriter::start(self.disk.clone(), folder(), start, small(), 1).unwrap();
        (self.writer, self.handle) = (writer, handle);
        assert_eq!(rows_only(&read_all(&self.disk).unwrap().0), self.acknowledged, "a start changed what is there");
    }
}

fn expected(first_lsn: u64, words: usize) -> Owned {
    Owned {
        kind: FrameKind::ROWS,
        first_lsn,
        row_count: 1,
        now_us: 1_000_000 * first_lsn.cast_signed(),
        positions: first_lsn.to_le_bytes()[..(first_lsn % 8) as usize].to_vec(),
        body: (0..words as u64).map(|word| first_lsn.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_full_disk_at_any_step_loses_nothing_and_prevents_no_start(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.run(&Step::Kill);
        world.run(&Step::Room);
        world.run(&Step::Attend);
        world.run(&Step::Append { words: 9 });
        prop_assert_eq!(world.acknowledged.last().map(|frame| frame.body.len()), Some(9), "it goes on when there is room");
    }
}

#[test]
fn a_refused_turn_is_cut_off_without_a_sync_and_nothing_is_written_behind_the_cut_before_one() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let kept = append_rows(&mut writer, 2, 30).unwrap();
    disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
    assert!(matches!(append_rows(&mut writer, 2, 30), Err(WalError::StorageFull { .. })));
    assert_eq!(disk.syncs(), 0, "whoever holds the seat syncs nothing");
    disk.set_faults(Faults::default());
    assert!(matches!(append_rows(&mut writer, 2, 30), Err(WalError::StorageFull { .. })));
    handle.sync_now().unwrap();
    assert_eq!(disk.syncs(), 1);
    let written = append_rows(&mut writer, 2, 30).unwrap();
    assert_eq!(read_all(&disk).unwrap().0, [kept, written]);
}

#[test]
fn the_syncer_makes_a_cut_durable_though_nobody_waits_for_it() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    let _syncer = WalSyncer::spawn(&handle, |_| {}).unwrap();
    disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
    assert!(matches!(append_rows(&mut writer, 2, 30), Err(WalError::StorageFull { .. })));
    disk.set_faults(Faults::default());
    let files = handle.0.files.as_ref().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while files.cut_waits() {
        assert!(std::time::Instant::now() < until, "nobody synced the cut");
        std::thread::yield_now();
    }
    append_rows(&mut writer, 2, 30).unwrap();
}

#[test]
fn a_log_closes_behind_a_turn_that_was_refused() {
    let disk = SimulatedDisk::new();
    let (mut writer, _) = fresh(&disk);
    let written = append_rows(&mut writer, 2, 30).unwrap();
    disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
    assert!(matches!(append_rows(&mut writer, 2, 30), Err(WalError::StorageFull { .. })));
    disk.set_faults(Faults::default());
    writer.close(7).unwrap();
    disk.crash(3);
    assert_eq!(rows_only(&read_all(&disk).unwrap().0), [written]);
}

#[test]
fn what_was_cut_off_finds_its_room_again_when_none_is_lent() {
    let disk = SimulatedDisk::new();
    let (mut writer, handle) = fresh(&disk);
    disk.set_faults(Faults { refuse_writes: true, ..Faults::default() });
    assert!(matches!(append_rows(&mut writer, 2, 30), Err(WalError::StorageFull { .. })));
    disk.set_faults(Faults::default());
    handle.sync_now().unwrap();
    let hold = handle.hold_room();
    assert!(matches!(append_rows(&mut writer, 2, 30), Err(WalError::StorageFull { .. })));
    drop(hold);
    let written = append_rows(&mut writer, 2, 30).unwrap();
    assert_eq!(read_all(&disk).unwrap().0, [written]);
}
