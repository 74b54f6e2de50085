//! Crashes by seed on the simulated disk: what was synced survives a power cut, what was written survives a kill, the rest is an exact prefix.

use proptest::prelude::*;

use super::*;
use crate::storage::Faults;

#[derive(Debug, Clone)]
enum Step {
    Append {
        rows: u32,
        words: usize,
    },
    Sync,
    Prepare,
    Mark,
    Close,
    Kill,
    Crash(u64),
    /// The process stops before this many more file operations are done; then power goes (some seed) or stays.
    StopWithin {
        operations: u64,
        crash: Option<u64>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..5_u32, 0..120_usize).prop_map(|(rows, words)| Step::Append { rows, words }),
        1 => (1..3_u32, 600..900_usize).prop_map(|(rows, words)| Step::Append { rows, words }),
        4 => Just(Step::Sync),
        2 => Just(Step::Prepare),
        2 => Just(Step::Mark),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::Crash),
        3 => (0..40_u64, proptest::option::of(any::<u64>())).prop_map(|(operations, crash)| Step::StopWithin { operations, crash }),
    ]
}

/// The naive model: what must be there, and what may be.
#[derive(Default)]
struct Model {
    /// Rows frames in order; the first `sure` of them must be read back, the rest may be cut from the end.
    frames: Vec<Owned>,
    written: usize,
    durable: usize,
}

struct World {
    disk: SimulatedDisk,
    writer: Option<WalWriter<SimulatedDisk>>,
    handle: Option<WalHandle<SimulatedDisk>>,
    model: Model,
    stop: Option<Option<u64>>,
}

impl World {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let (writer, handle) = fresh(&disk);
        Self { disk, writer: Some(writer), handle: Some(handle), model: Model::default(), stop: None }
    }

    fn note_durable(&mut self) {
        if let Some(handle) = &self.handle {
            let durable = handle.durable_lsn();
            self.model.durable = self.model.frames.iter().take_while(|frame| frame.last_lsn() <= durable).count();
        }
    }

    /// Restarts after the process died; `crash` also cuts the power.
    fn restart(&mut self, crash: Option<u64>) {
        self.note_durable();
        (self.writer, self.handle) = (None, None);
        let sure = match crash {
            Some(seed) => {
                self.disk.crash(seed);
                self.model.durable
            }
            None => {
                self.disk.kill();
                self.model.written
            }
        };
        let (frames, tail) = read_all(&self.disk).unwrap();
        let rows = rows_only(&frames);
        assert!(self.model.frames.starts_with(&rows), "read back what was not written");
        assert!(rows.len() >= sure, "{} frames of at least {sure}", rows.len());
        self.model = Model { written: rows.len(), durable: rows.len(), frames: rows };
        let (writer, handle) = WalWriter::start(self.disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
        (self.writer, self.handle) = (Some(writer), Some(handle));
    }

    /// A step that met the stop leaves the writer dead.
    fn died<T>(&mut self, result: Result<T, WalError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let stopped = self.stop.take();
                assert!(stopped.is_some(), "failed without a fault: {error}");
                self.restart(stopped.flatten());
                None
            }
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append { rows, words } => {
                let writer = self.writer.as_mut().unwrap();
                let lsn = writer.next_lsn();
                let result = append_rows(writer, *rows, *words);
                if matches!(result, Err(WalError::SyncBehind { .. })) {
                    // Nobody has synced for long: the writer waits for that, and nothing of the turn is there.
                    return;
                }
                if result.is_err() {
                    // Written in part or whole, not acknowledged: it may be there.
                    self.model.frames.push(expected(lsn, *rows, *words));
                }
                if let Some(frame) = self.died(result) {
                    self.model.frames.push(frame);
                    self.model.written = self.model.frames.len();
                }
            }
            Step::Sync => {
                let result = self.handle.as_ref().unwrap().sync_now();
                self.died(result);
            }
            Step::Prepare => {
                let result = self.handle.as_ref().unwrap().prepare().map_err(|error| WalError::Poisoned { cause: error.into_io() });
                self.died(result);
            }
            Step::Mark => {
                let writer = self.writer.as_mut().unwrap();
                if writer.needs_mark() {
                    let result = writer.append_mark(1);
                    // As with rows: nobody has prepared a segment for long.
                    if !matches!(result, Err(WalError::SyncBehind { .. })) {
                        self.died(result);
                    }
                }
            }
            Step::Close => {
                let result = self.writer.take().unwrap().close(1);
                if self.died(result).is_some() {
                    self.stop = None;
                    self.restart(Some(1));
                }
            }
            Step::Kill => {
                self.stop = None;
                self.restart(None);
            }
            Step::Crash(seed) => {
                self.stop = None;
                self.restart(Some(*seed));
            }
            Step::StopWithin { operations, crash } => {
                self.disk.set_faults(Faults { stop_at: Some(*operations), ..Faults::default() });
                self.stop = Some(*crash);
            }
        }
        self.note_durable();
    }
}

fn expected(first_lsn: u64, rows: u32, words: usize) -> Owned {
    Owned {
        kind: FrameKind::ROWS,
        first_lsn,
        row_count: rows,
        now_us: 1_000_000 * first_lsn.cast_signed(),
        positions: first_lsn.to_le_bytes()[..(first_lsn % 8) as usize].to_vec(),
        body: (0..words as u64).map(|word| first_lsn.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn kill_keeps_every_acknowledged_row(steps in proptest::collection::vec(step(), 1..60), last in any::<u64>()) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.stop = None;
        world.restart(Some(last));
    }

    #[test]
    fn a_start_that_dies_anywhere_can_be_repeated(seed in any::<u64>(), stop in 0..60_u64, frames in 1..40_usize, power in any::<bool>()) {
        let disk = SimulatedDisk::new();
        let (mut writer, handle) = fresh(&disk);
        let mut written = Vec::new();
        for index in 0..frames {
            written.push(append_rows(&mut writer, 1, 40).unwrap());
            if index == frames / 2 {
                handle.sync_now().unwrap();
            }
        }
        drop(writer);
        disk.crash(seed);
        let (first, tail) = read_all(&disk).unwrap();
        prop_assert!(written.starts_with(&first) && first.len() > frames / 2);
        disk.set_faults(Faults { stop_at: Some(stop), ..Faults::default() });
        drop(WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1));
        if power { disk.crash(seed ^ 1) } else { disk.kill() }
        let (second, tail) = read_all(&disk).unwrap();
        prop_assert_eq!(&first, &second);
        let (mut writer, _) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
        let more = append_rows(&mut writer, 1, 4).unwrap();
        prop_assert_eq!(read_all(&disk).unwrap().0, [first, vec![more]].concat());
    }

    #[test]
    fn a_lying_disk_gives_damage_or_a_prefix(seed in any::<u64>(), frames in 1..60_usize) {
        let disk = SimulatedDisk::new();
        let (mut writer, handle) = fresh(&disk);
        disk.set_faults(Faults { lying_sync: true, ..Faults::default() });
        let mut written = Vec::new();
        for _ in 0..frames {
            written.push(append_rows(&mut writer, 1, 40).unwrap());
            attend(&handle);
        }
        disk.crash(seed);
        if let Ok((read, _)) = read_all(&disk) {
            prop_assert!(written.starts_with(&read));
        }
    }
}

/// What one run of the script acknowledged: how many frames were written, and how many were durable.
struct Script {
    frames: Vec<Owned>,
    durable: usize,
}

/// Frames over two rolls; the syncer comes round in the middle of the second segment. Stops at the first error.
fn script(disk: &SimulatedDisk, faults: Faults) -> Script {
    let (mut writer, handle) = fresh(disk);
    handle.prepare().unwrap();
    disk.set_faults(faults);
    let mut done = Script { frames: Vec::new(), durable: 0 };
    for step in 0..26 {
        match append_rows(&mut writer, 1, 40) {
            Ok(frame) => done.frames.push(frame),
            Err(_) => return done,
        }
        let attended = step % 13 != 12 || (handle.sync_now().is_ok() && handle.prepare().is_ok());
        done.durable = done.frames.iter().take_while(|frame| frame.last_lsn() <= handle.durable_lsn()).count();
        if !attended {
            return done;
        }
    }
    assert!(handle.status().segments >= 3, "the script rolls twice");
    done
}

#[test]
fn a_crash_at_any_step_of_a_roll_keeps_what_was_acknowledged() {
    let disk = SimulatedDisk::new();
    script(&disk, Faults::default());
    let operations = disk.operations();
    assert!(operations > 30, "{operations}");
    for stop in 0..=operations {
        for seed in 0..24 {
            let disk = SimulatedDisk::new();
            let done = script(&disk, Faults { stop_at: Some(stop), ..Faults::default() });
            let sure = if seed == 0 { done.frames.len() } else { done.durable };
            if seed == 0 {
                disk.kill()
            } else {
                disk.crash(seed)
            }
            let (frames, tail) = read_all(&disk).unwrap();
            let whole = frames.len().min(done.frames.len());
            assert_eq!(frames[..whole], done.frames[..whole], "stop {stop} seed {seed}");
            assert!(frames.len() >= sure && frames.len() <= done.frames.len() + 1, "stop {stop} seed {seed}: {} of {sure}", frames.len());
            // A second death, while the start settles what is left.
            disk.set_faults(Faults { stop_at: Some(seed), ..Faults::default() });
            drop(WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1));
            if seed % 2 == 0 {
                disk.kill()
            } else {
                disk.crash(seed)
            }
            let (again, tail) = read_all(&disk).unwrap();
            assert_eq!(again, frames, "stop {stop} seed {seed}: the end moved while it was settled");
            let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
            let more = append_rows(&mut writer, 1, 4).unwrap();
            handle.sync_now().unwrap();
            disk.crash(seed);
            assert_eq!(read_all(&disk).unwrap().0, [frames, vec![more]].concat(), "stop {stop} seed {seed}");
        }
    }
}

#[test]
fn a_footer_that_a_kill_left_in_the_page_cache_survives_the_power_cut_after_the_next_start() {
    // Frames of segment 1 synced, a roll that is not, a kill, a start, and then the power goes. Read from the start, and from a snapshot that
    // covers segment 1 whole.
    for snapshot_lsn in [0, 1] {
        for seed in 0..40 {
            let disk = SimulatedDisk::new();
            let (mut writer, handle) = fresh(&disk);
            append_rows(&mut writer, 1, 610).unwrap();
            attend(&handle);
            append_rows(&mut writer, 1, 4).unwrap();
            assert_eq!(handle.status().segments, 2);
            drop(writer);
            disk.kill();
            let (_, tail) = read_from(&disk, snapshot_lsn + 1, snapshot_lsn).unwrap();
            let (mut writer, handle) = WalWriter::start(disk.clone(), folder(), Start::After(Box::new(tail)), small(), 1).unwrap();
            append_rows(&mut writer, 1, 4).unwrap();
            attend(&handle);
            disk.crash(seed);
            assert_eq!(read_all(&disk).unwrap().0.len(), 3, "snapshot {snapshot_lsn} seed {seed}");
        }
    }
}
