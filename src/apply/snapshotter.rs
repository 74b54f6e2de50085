//! The snapshot thread: takes frozen states, writes them, verifies them, keeps the newest ones and releases the WAL that they cover.

use super::facts::Facts;
use super::seat::Seat;
use super::work::News;
use crate::snapshot::{SnapshotError, SnapshotFacts, SnapshotInfo, SnapshotWriter, releasable_lsn, retain};
use crate::state::State;
use crate::storage::{Disk, Reserve};
use crate::wal::{LogIdentity, WalError, WalHandle};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::Clock;
use streamgauge_api::metrics::Metrics;

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
    /// The level is `memory`: there is no log between two snapshots.
    pub without_wal: bool,
}

/// Why a snapshot was not taken. The state and the WAL are as before.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFailed {
    /// The file could not be written or did not read back.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// The log could not be made durable up to it.
    #[error(transparent)]
    Log(#[from] WalError),
}

impl SnapshotFailed {
    /// Whether the disk had no room.
    fn full(&self) -> bool {
        matches!(self, Self::File(SnapshotError::Io(error)) if error.full())
    }
}

/// The running thread.
pub struct Snapshotter {
    sender: Option<crossbeam_channel::Sender<State>>,
    thread: Option<JoinHandle<()>>,
    worker: Arc<Worker>,
}

struct Worker {
    options: SnapshotOptions,
    handle: WalHandle<Disk>,
    clock: Arc<dyn Clock>,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
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
        let (sender, receiver) = crossbeam_channel::bounded::<State>(1);
        let worker = Arc::new(Worker { options, handle, clock, facts, metrics });
        let mine = Arc::clone(&worker);
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            mine.restore_reserve();
            for frozen in receiver {
                mine.take(frozen);
                if let Some(seat) = seat.get().and_then(Weak::upgrade) {
                    seat.post(News::SnapshotDone);
                }
            }
        })?;
        Ok(Self { sender: Some(sender), thread: Some(thread), worker })
    }

    /// Where frozen states go.
    pub fn sender(&self) -> Option<crossbeam_channel::Sender<State>> {
        self.sender.clone()
    }

    /// Ends the thread after the snapshot it is writing, then takes a last one on this thread.
    pub fn finish(mut self, last: Option<State>) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the snapshot thread panicked");
        }
        if let Some(last) = last {
            self.worker.take(last);
        }
    }
}

impl Worker {
    fn take(&self, frozen: State) {
        let begun = Instant::now();
        let lsn = frozen.lsn();
        let written = match self.write(&frozen) {
            Err(error) if error.full() && self.release_reserve() => self.write(&frozen),
            other => other,
        };
        match written {
            Ok(info) => {
                self.facts.snapshot_bytes.store(info.bytes, Ordering::Release);
                self.facts.snapshot_lsn.store(lsn, Ordering::Release);
                self.facts.snapshot_us.store(info.facts.wall_us, Ordering::Release);
                self.metrics.snapshots_written.inc();
                self.metrics.snapshot.record(begun.elapsed());
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(
                    kind = "snapshot.written",
                    lsn,
                    bytes = info.bytes,
                    keys = info.key_count,
                    seconds,
                    "snapshot written and verified"
                );
                self.release();
                self.restore_reserve();
            }
            Err(error) => {
                self.metrics.snapshots_failed.inc();
                tracing::error!(kind = "snapshot.failed", lsn, %error, "the snapshot was not taken; the WAL keeps everything");
                self.facts.snapshot_failed(match error {
                    SnapshotFailed::File(error) => error.into(),
                    SnapshotFailed::Log(error) => error.into(),
                });
            }
        }
    }

    fn write(&self, frozen: &State) -> Result<SnapshotInfo, SnapshotFailed> {
        let facts =
            SnapshotFacts { log: self.options.log, lsn: frozen.lsn(), wall_us: self.clock.now_us(), without_wal: self.options.without_wal };
        let mut writer = SnapshotWriter::begin(Disk, &self.options.folder, facts)?;
        frozen.write_image(&mut writer)?;
        let fingerprint = frozen.fingerprint();
        self.handle.wait_durable(frozen.lsn(), SYNC_WAIT)?;
        Ok(writer.finish(frozen.key_count(), fingerprint)?)
    }

    /// Gives the reserve to the disk; true when there was one.
    fn release_reserve(&self) -> bool {
        let released = self.options.reserve.release();
        if let Err(error) = &released {
            tracing::warn!(%error, "the emergency reserve could not be released");
        }
        released.unwrap_or(false)
    }

    fn restore_reserve(&self) {
        match self.options.reserve.restore() {
            Ok(true) => {}
            Ok(false) => tracing::warn!(kind = "disk.low", "the disk has no room for the emergency reserve"),
            Err(error) => tracing::warn!(%error, "the emergency reserve could not be taken"),
        }
    }

    fn release(&self) {
        let released =
            retain(&Disk, &self.options.folder, self.options.keep).and_then(|kept| self.handle.release(releasable_lsn(&kept, None)));
        match released {
            Ok(released) if released.segments > 0 => {
                tracing::info!(kind = "wal.released", segments = released.segments, bytes = released.bytes, "WAL segments released");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old snapshots or WAL segments could not be removed"),
        }
    }
}
