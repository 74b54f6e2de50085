//! The snapshot thread: takes frozen states, writes them, verifies them, keeps the newest ones and lets go of the WAL that they cover.

use super::facts::Facts;
use super::seat::Seat;
use super::snapshots::crowded;
use super::work::News;
use crate::snapshot::{SnapshotError, SnapshotFacts, SnapshotInfo, SnapshotWriter, releasable_lsn, retain};
use crate::state::{Frozen, NoRoom, Unwritten};
use crate::storage::{Disk, IoError, Reserve, Storage};
use crate::wal::{Cursor, Hold, LogIdentity, WalError, WalHandle};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::metrics::Metrics;
use streamgauge_api::{ApiError, Clock, Code};

/// The log is synced up to a snapshot within this time, or the snapshot waits for the next turn.
const SYNC_WAIT: Duration = Duration::from_secs(60);

/// Where snapshots go.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// Their folder.
    pub folder: PathBuf,
    /// How many are kept; at least two.
    pub keep: usize,
    /// The log whose states they are.
    pub log: LogIdentity,
    /// Space that a snapshot may use when the disk is full, since a finished one lets older files go.
    pub reserve: Reserve<Disk>,
}

/// Why a snapshot was not taken. The state and the WAL are as before.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFailed {
    /// The file could not be written or did not read back.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// Tables needed the memory that it took.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The log could not be made durable up to it.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The log was not durable up to it in time: a sync hangs, or waits for room.
    #[error("the WAL was not synced up to LSN {lsn} within {} s (durable: {durable_lsn})", .patience.as_secs())]
    NotDurable {
        /// LSN of the snapshot.
        lsn: u64,
        /// What was durable then.
        durable_lsn: u64,
        /// How long it waited.
        patience: Duration,
    },
}

impl SnapshotFailed {
    /// Whether the disk had no room.
    fn full(&self) -> bool {
        matches!(self, Self::File(SnapshotError::Io(error)) if error.full())
    }
}

impl From<Unwritten> for SnapshotFailed {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::File(error) => Self::File(error),
            Unwritten::NoRoom(no_room) => Self::NoRoom(no_room),
        }
    }
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Taken,
    /// It is not: tables needed the memory that it took.
    NoRoom(NoRoom),
    /// It is not, for another reason.
    Failed,
}

/// Counts, logs and remembers a snapshot that was not taken.
pub(super) fn tell_failed(facts: &Facts, metrics: &Metrics, lsn: u64, error: &ApiError) {
    metrics.snapshots_failed.inc();
    tracing::error!(kind = "snapshot.failed", lsn, %error, "the snapshot was not taken; the WAL keeps everything");
    facts.snapshot_failed(error.clone());
}

/// The running thread.
pub struct Snapshotter {
    sender: Option<crossbeam_channel::Sender<Arc<Frozen>>>,
    thread: Option<JoinHandle<()>>,
    worker: Arc<Worker>,
}

struct Worker {
    options: SnapshotOptions,
    handle: WalHandle<Disk>,
    clock: Arc<dyn Clock>,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
    /// The log from the oldest snapshot that is kept on.
    cursor: Mutex<Cursor<Disk>>,
}

impl Snapshotter {
    /// Starts the thread; `seat` hears when a snapshot is finished.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(
        options: SnapshotOptions,
        handle: WalHandle<Disk>,
        clock: Arc<dyn Clock>,
        facts: Arc<Facts>,
        metrics: Arc<Metrics>,
        seat: Arc<std::sync::OnceLock<Weak<Seat>>>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::bounded::<Arc<Frozen>>(1);
        let Ok(cursor) = handle.cursor("snapshot", handle.earliest_lsn(), Hold::Firm) else {
            unreachable!("nothing of the log goes before somebody has said what may")
        };
        let cursor = Mutex::new(cursor);
        let worker = Arc::new(Worker { options, handle, clock, facts, metrics, cursor });
        let mine = Arc::clone(&worker);
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            // What a process that died had no time to let go.
            mine.release();
            tell_reserve(mine.options.reserve.restore());
            for frozen in receiver {
                let outcome = mine.take(&frozen);
                drop(frozen);
                if let Some(seat) = seat.get().and_then(Weak::upgrade) {
                    seat.post(News::SnapshotDone(outcome));
                }
            }
        })?;
        Ok(Self { sender: Some(sender), thread: Some(thread), worker })
    }

    /// Where frozen states go.
    pub fn sender(&self) -> Option<crossbeam_channel::Sender<Arc<Frozen>>> {
        self.sender.clone()
    }

    /// Ends the thread after the snapshot it is writing, then takes a last one on this thread.
    pub fn finish(mut self, last: Option<&Frozen>) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the snapshot thread panicked");
        }
        if let Some(last) = last {
            let _told = self.worker.take(last);
        }
    }
}

impl Worker {
    fn take(&self, frozen: &Frozen) -> Outcome {
        let begun = Instant::now();
        let lsn = frozen.lsn();
        let written = with_reserve(&self.handle, &self.options.reserve, || self.write(frozen), || self.release());
        match written {
            Ok((info, sync_took)) => {
                assert_eq!(info.facts.lsn, lsn, "the snapshot is of the state that was frozen for it");
                let before = self.facts.snapshot_lsn.load(Ordering::Acquire);
                assert!(before <= lsn, "a snapshot at {lsn} comes after one at {before}");
                self.facts.snapshot_bytes.store(info.bytes, Ordering::Release);
                self.facts.snapshot_lsn.store(lsn, Ordering::Release);
                self.facts.snapshot_us.store(info.facts.wall_us, Ordering::Release);
                self.metrics.snapshots_written.inc();
                self.metrics.snapshot.record(begun.elapsed());
                self.metrics.snapshot_last_seconds.set(begun.elapsed().as_secs_f64());
                self.metrics.snapshot_last_fsync_seconds.set(sync_took.as_secs_f64());
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(
                    kind = "snapshot.written",
                    lsn,
                    bytes = info.bytes,
                    keys = info.key_count,
                    seconds,
                    "snapshot written and verified"
                );
                Outcome::Taken
            }
            Err(error) => {
                let outcome = if let SnapshotFailed::NoRoom(no_room) = &error { Outcome::NoRoom(*no_room) } else { Outcome::Failed };
                let error = match error {
                    SnapshotFailed::File(error) => error.into(),
                    SnapshotFailed::NoRoom(no_room) => crowded(&no_room),
                    SnapshotFailed::Log(error) => error.into(),
                    SnapshotFailed::NotDurable { .. } => ApiError::new(Code::WalUnavailable, error.to_string()),
                };
                tell_failed(&self.facts, &self.metrics, lsn, &error);
                outcome
            }
        }
    }

    fn write(&self, frozen: &Frozen) -> Result<(SnapshotInfo, Duration), SnapshotFailed> {
        let facts = SnapshotFacts { log: self.options.log, lsn: frozen.lsn(), wall_us: self.clock.now_us() };
        let writer = SnapshotWriter::begin(Disk, &self.options.folder, facts)?;
        write(writer, frozen, &self.handle, SYNC_WAIT)
    }

    fn release(&self) {
        let released = retain(&Disk, &self.options.folder, self.options.keep, &self.options.log).and_then(|kept| {
            self.facts.snapshot_oldest_lsn.store(releasable_lsn(&kept, None), Ordering::Release);
            self.cursor.lock().advance(releasable_lsn(&kept, None) + 1);
            self.handle.release()
        });
        match released {
            Ok(released) => {
                if released.segments > 0 {
                    tracing::info!(kind = "wal.released", segments = released.segments, bytes = released.bytes, "WAL segments released");
                }
                for reader in released.passed {
                    tracing::warn!(kind = "wal.reader_passed", reader, "a reader of the log was too slow: what it had not read is gone");
                }
            }
            Err(error) => tracing::warn!(%error, "old snapshots or WAL segments could not be removed"),
        }
    }
}

/// Writes a snapshot, on the space of the emergency reserve when the disk has no other, and releases what a finished one
/// covers. The log takes no room for frames while the reserve is lent, and the reserve is taken back before it may,
/// whatever became of the snapshot.
fn with_reserve<S: Storage, T>(
    handle: &WalHandle<S>,
    reserve: &Reserve<S>,
    mut write: impl FnMut() -> Result<T, SnapshotFailed>,
    release: impl FnOnce(),
) -> Result<T, SnapshotFailed> {
    let first = write();
    if !first.as_ref().is_err_and(SnapshotFailed::full) {
        if first.is_ok() {
            release();
        }
        // It may have been lent once and not been taken back, for want of room.
        tell_reserve(reserve.restore());
        return first;
    }
    let _held = handle.hold_room();
    let lent = reserve.release();
    if let Err(error) = &lent {
        tracing::warn!(%error, "the emergency reserve could not be released");
    }
    let written = if lent.is_ok_and(|lent| lent) { write() } else { first };
    if written.is_ok() {
        release();
    }
    tell_reserve(reserve.take_back());
    written
}

fn tell_reserve(taken: Result<bool, IoError>) {
    match taken {
        Ok(true) => {}
        Ok(false) => tracing::warn!(kind = "disk.low", "the disk has no room for the emergency reserve"),
        Err(error) => tracing::warn!(%error, "the emergency reserve could not be taken"),
    }
}

/// Writes a frozen state and names it once the log is durable up to it; a log that is not within `patience` leaves no file behind.
fn write<S: Storage>(
    mut writer: SnapshotWriter<S>,
    frozen: &Frozen,
    handle: &WalHandle<S>,
    patience: Duration,
) -> Result<(SnapshotInfo, Duration), SnapshotFailed> {
    let lsn = frozen.lsn();
    frozen.write_image(&mut writer)?;
    let fingerprint = frozen.fingerprint()?;
    let durable = handle.wait_durable(lsn, patience)?;
    let durable_lsn = handle.durable_lsn();
    if !durable {
        return Err(SnapshotFailed::NotDurable { lsn, durable_lsn, patience });
    }
    assert!(lsn <= durable_lsn, "a log that is durable up to {lsn} says {durable_lsn}");
    Ok(writer.finish(frozen.key_count(), fingerprint, durable_lsn)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::state::{Content, State};
    use crate::storage::{Faults, Operation, SimulatedDisk};
    use crate::wal::{Start, WalOptions, WalWriter};
    use std::path::Path;

    fn no_room() -> SnapshotFailed {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        SnapshotFailed::File(SnapshotError::Io(IoError::new(Operation::Write, Path::new("snapshot"), full)))
    }

    #[test]
    fn the_reserve_is_back_before_the_log_may_take_its_room_whatever_became_of_the_snapshot() {
        const RESERVE: u64 = 1 << 20;
        for fails in [true, false] {
            let disk = SimulatedDisk::new();
            let options = WalOptions { segment_bytes: RESERVE, ..WalOptions::default() };
            let start = Start::Fresh { log: LogIdentity { log_id: 7, hash_seed: 9 } };
            let (_wal, handle) = WalWriter::start(disk.clone(), Path::new("data/wal"), start, options, 1).unwrap();
            let reserve = Reserve::new(disk.clone(), Path::new("data"), RESERVE);
            assert!(reserve.restore().unwrap());
            // Not a byte is free.
            disk.set_faults(Faults { capacity_bytes: Some(disk.used_bytes()), ..Faults::default() });
            let (mut tries, mut released) = (0, false);
            let write = || {
                tries += 1;
                assert_eq!(reserve.held().unwrap(), tries == 1, "it is lent for the second try");
                // The syncer looks meanwhile.
                assert!(tries == 1 || !handle.prepare().unwrap(), "frames were given the room that was lent");
                if tries == 1 || fails { Err(no_room()) } else { Ok(()) }
            };
            let written = with_reserve(&handle, &reserve, write, || released = true);
            assert_eq!((written.is_err(), tries, released), (fails, 2, !fails));
            assert!(reserve.held().unwrap(), "the reserve is lost");
            assert!(!handle.prepare().unwrap(), "frames live on the reserve");
        }
    }

    #[test]
    fn a_sync_that_hangs_leaves_no_snapshot_behind() {
        let (disk, folder) = (SimulatedDisk::new(), Path::new("data/snapshots"));
        let log = LogIdentity { log_id: 7, hash_seed: 9 };
        let start = Start::Fresh { log };
        // No syncer runs: what is written stays unsynced for as long as anybody waits.
        let (mut wal, handle) = WalWriter::start(disk.clone(), Path::new("data/wal"), start, WalOptions::default(), 1).unwrap();
        let lsn = wal.append_mark(1).unwrap();
        let mut state = State::new(log.hash_seed);
        state.apply(&Content::Nothing, lsn, 1);
        let take = || {
            let writer = SnapshotWriter::begin(disk.clone(), folder, SnapshotFacts { log, lsn, wall_us: 1 }).unwrap();
            write(writer, &state.freeze().unwrap(), &handle, Duration::from_millis(1))
        };
        let refused = take().unwrap_err();
        assert!(matches!(refused, SnapshotFailed::NotDurable { lsn: 1, durable_lsn: 0, .. }), "{refused}");
        assert_eq!(disk.list(folder).unwrap(), [], "neither a name nor a leftover");
        handle.sync_now().unwrap();
        assert_eq!(take().unwrap().0.facts.lsn, lsn);
        assert_eq!(disk.list(folder).unwrap().len(), 1);
    }
}
