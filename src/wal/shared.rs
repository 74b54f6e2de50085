//! What the writer, the syncer and everybody else share: the watermarks, the file to sync, the prepared segment, the sealed ones, and the poison.
//!
//! The order that makes the durable LSN true: the written LSN is read *before* the file to sync is picked, and a roll swaps that file only after the
//! one before it was synced, under the same lock. Syncs never overlap, because the kernel reports a failed write-back once per open file, and a sync
//! beside the failing one would hear "done".

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::WalError;
use super::segment::segment_number;
use super::start::WalOptions;
use crate::storage::{IoError, Storage, StorageFile};

/// A prepared file gets a name of its own: the writer renames the one before while the syncer creates the next.
pub(super) fn prepared_path(folder: &Path, serial: u64) -> PathBuf {
    folder.join(format!("next-{serial}.tmp"))
}

/// A sealed segment.
#[derive(Debug, Clone)]
pub(super) struct SealedSegment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) last_lsn: u64,
}

#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Somebody waits for this LSN.
    pub(super) wanted_lsn: u64,
    pub(super) stop: bool,
}

#[derive(Debug)]
pub(super) struct SharedFiles<S: Storage> {
    pub(super) storage: S,
    pub(super) folder: PathBuf,
    pub(super) segment_bytes: u64,
    current: Mutex<Arc<S::File>>,
    sync_lock: Mutex<()>,
    prepared: Mutex<Option<S::File>>,
    pub(super) sealed: Mutex<Vec<SealedSegment>>,
    prepare_wanted: AtomicBool,
    full: AtomicBool,
    prepared_serial: AtomicU64,
}

/// See the module's head. Without files it is the level `memory`.
#[derive(Debug)]
pub(super) struct Shared<S: Storage> {
    durable: Arc<AtomicU64>,
    written: AtomicU64,
    unsynced_bytes: AtomicU64,
    syncs: AtomicU64,
    poison: OnceLock<IoError>,
    pub(super) options: WalOptions,
    pub(super) files: Option<SharedFiles<S>>,
    pub(super) signals: Mutex<Signals>,
    pub(super) wake: Condvar,
    durable_changed: Condvar,
}

/// What [`WalHandle::release`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Released {
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The log as `/status` and metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalStatus {
    /// Last LSN written.
    pub written_lsn: u64,
    /// Last LSN synced.
    pub durable_lsn: u64,
    /// Bytes written since the last sync.
    pub unsynced_bytes: u64,
    /// Segments, the one being written included; 0 at level `memory`.
    pub segments: usize,
    /// Bytes of the sealed segments.
    pub sealed_bytes: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Whether the disk had no room for the next segment when it was last tried.
    pub full: bool,
    /// Whether a write or sync has failed for good.
    pub poisoned: bool,
}

impl<S: Storage> SharedFiles<S> {
    pub(super) fn new(storage: S, folder: PathBuf, segment_bytes: u64, current: Arc<S::File>, sealed: Vec<SealedSegment>) -> Self {
        Self {
            storage,
            folder,
            segment_bytes,
            current: Mutex::new(current),
            sync_lock: Mutex::new(()),
            prepared: Mutex::new(None),
            sealed: Mutex::new(sealed),
            prepare_wanted: AtomicBool::new(false),
            full: AtomicBool::new(false),
            prepared_serial: AtomicU64::new(1),
        }
    }

    /// Prepares the next segment's file if there is none: created, space reserved, zeroes. False when the disk has no room.
    pub(super) fn prepare(&self) -> Result<bool, IoError> {
        let mut prepared = self.prepared.lock();
        if prepared.is_none() {
            *prepared = self.create_prepared(self.segment_bytes)?;
        }
        self.prepare_wanted.store(false, Ordering::Release);
        Ok(prepared.is_some())
    }

    /// Takes a file of at least `bytes` for the next segment. While the disk is known to be full nothing is tried here: the syncer does that.
    pub(super) fn take_prepared(&self, bytes: u64) -> Result<Option<S::File>, IoError> {
        let mut prepared = self.prepared.lock();
        if prepared.is_none() && !self.full.load(Ordering::Acquire) {
            *prepared = self.create_prepared(bytes.max(self.segment_bytes))?;
        }
        let Some(file) = prepared.take() else { return Ok(None) };
        if bytes > self.segment_bytes
            && let Err(error) = file.preallocate(bytes)
        {
            *prepared = Some(file);
            return if error.full() { Ok(None) } else { Err(error) };
        }
        Ok(Some(file))
    }

    /// A file that was taken and not used.
    pub(super) fn put_back(&self, file: S::File) {
        let mut prepared = self.prepared.lock();
        if prepared.is_none() {
            *prepared = Some(file);
            return;
        }
        // The syncer prepared another one meanwhile; a file that cannot be removed now is removed at the next start.
        if let Err(error) = self.storage.remove(file.path()) {
            tracing::warn!(kind = "wal.leftover", %error, "a spare WAL segment could not be removed");
        }
    }

    fn create_prepared(&self, bytes: u64) -> Result<Option<S::File>, IoError> {
        let path = prepared_path(&self.folder, self.prepared_serial.fetch_add(1, Ordering::Relaxed));
        let created = self.storage.create(&path).and_then(|file| file.preallocate(bytes).map(|()| file));
        match created {
            Ok(file) => {
                self.full.store(false, Ordering::Release);
                Ok(Some(file))
            }
            Err(error) => {
                // What was created before the failure would hold a name and perhaps space.
                match self.storage.remove(&path) {
                    Err(other) if !other.missing() => return Err(other),
                    _ => {}
                }
                if error.full() {
                    self.full.store(true, Ordering::Release);
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// A prepared file goes on as the segment being written.
    pub(super) fn swap_current(&self, file: Arc<S::File>) {
        *self.current.lock() = file;
    }

    pub(super) fn full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn prepare_wanted(&self) -> bool {
        self.prepare_wanted.load(Ordering::Acquire) || self.full()
    }

    /// Unlinks the prepared file at a clean stop.
    pub(super) fn drop_prepared(&self) -> Result<(), IoError> {
        if let Some(file) = self.prepared.lock().take() {
            self.storage.remove(file.path())?;
        }
        Ok(())
    }

    /// Segment files left over in a name that only a crash leaves.
    pub(super) fn is_leftover(name: &str) -> bool {
        segment_number(name).is_none() && name.ends_with(".tmp")
    }
}

impl<S: Storage> Shared<S> {
    pub(super) fn new(last_lsn: u64, options: WalOptions, files: Option<SharedFiles<S>>) -> Self {
        Self {
            durable: Arc::new(AtomicU64::new(last_lsn)),
            written: AtomicU64::new(last_lsn),
            unsynced_bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            poison: OnceLock::new(),
            options,
            files,
            signals: Mutex::new(Signals::default()),
            wake: Condvar::new(),
            durable_changed: Condvar::new(),
        }
    }

    pub(super) fn durable_lsn(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn written_lsn(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes.load(Ordering::Acquire)
    }

    pub(super) fn poison(&self) -> Option<&IoError> {
        self.poison.get()
    }

    /// The first failure is kept; everybody who waits hears of it.
    pub(super) fn poisoned_by(&self, error: IoError) -> WalError {
        let cause = self.poison.get_or_init(|| error).clone();
        self.nudge();
        WalError::Poisoned { cause }
    }

    pub(super) fn check_poison(&self) -> Result<(), WalError> {
        match self.poison() {
            Some(cause) => Err(WalError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Wakes the syncer and all who wait.
    pub(super) fn nudge(&self) {
        let _signals = self.signals.lock();
        self.wake.notify_all();
        self.durable_changed.notify_all();
    }

    /// A turn's frames are written. Wakes the syncer when its timer has to start or its byte limit is reached, not otherwise.
    pub(super) fn written(&self, last_lsn: u64, bytes: u64) {
        self.written.store(last_lsn, Ordering::Release);
        let before = self.unsynced_bytes.fetch_add(bytes, Ordering::AcqRel);
        let limit = self.options.sync_bytes;
        if before == 0 || (before < limit && before + bytes >= limit) {
            self.nudge();
        }
    }

    /// The segment being written is half full.
    pub(super) fn want_prepared(&self) {
        if let Some(files) = &self.files
            && !files.prepare_wanted.swap(true, Ordering::AcqRel)
        {
            self.nudge();
        }
    }

    /// Syncs everything written so far and publishes the durable LSN.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], for ever after the first failure.
    pub(super) fn sync_now(&self) -> Result<u64, WalError> {
        let Some(files) = &self.files else {
            self.unsynced_bytes.store(0, Ordering::Release);
            return Ok(self.publish(self.written_lsn()));
        };
        let _one_at_a_time = files.sync_lock.lock();
        self.check_poison()?;
        // The bytes first: what is written from here on starts the timer again.
        self.unsynced_bytes.store(0, Ordering::Release);
        let lsn = self.written_lsn();
        if lsn <= self.durable_lsn() {
            return Ok(lsn);
        }
        let file = files.current.lock().clone();
        file.sync().map_err(|error| self.poisoned_by(error))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(self.publish(lsn))
    }

    /// Runs `change` (footer, cut) on the file being written and syncs it; publishes `lsn`. `then` runs before any other sync can begin.
    pub(super) fn sync_after<T>(&self, lsn: u64, file: &S::File, then: impl FnOnce() -> Result<T, IoError>) -> Result<T, WalError> {
        let lock = self.files.as_ref().map(|files| files.sync_lock.lock());
        self.check_poison()?;
        file.sync().map_err(|error| self.poisoned_by(error))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.publish(lsn);
        let done = then().map_err(|error| self.poisoned_by(error))?;
        drop(lock);
        Ok(done)
    }

    fn publish(&self, lsn: u64) -> u64 {
        let before = self.durable.fetch_max(lsn, Ordering::AcqRel);
        if before < lsn {
            self.nudge();
        }
        before.max(lsn)
    }
}

/// The log as any thread sees it. Cheap to clone.
#[derive(Debug)]
pub struct WalHandle<S: Storage>(pub(super) Arc<Shared<S>>);

impl<S: Storage> Clone for WalHandle<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> WalHandle<S> {
    /// Highest LSN known to be synced.
    pub fn durable_lsn(&self) -> u64 {
        self.0.durable_lsn()
    }

    /// The durable LSN as a shared number, for those who look often.
    pub fn durable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.durable)
    }

    /// Asks the syncer to sync up to `lsn` now; returns at once.
    pub fn request_sync(&self, lsn: u64) {
        let mut signals = self.0.signals.lock();
        if signals.wanted_lsn < lsn {
            signals.wanted_lsn = lsn;
            self.0.wake.notify_all();
        }
    }

    /// Asks for `lsn` and waits until it is synced; false when that took longer than `timeout`. Never call it on the syncer's callback.
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    pub fn wait_durable(&self, lsn: u64, timeout: Duration) -> Result<bool, WalError> {
        self.request_sync(lsn);
        let deadline = Instant::now() + timeout;
        let mut signals = self.0.signals.lock();
        loop {
            if self.0.durable_lsn() >= lsn {
                return Ok(true);
            }
            self.0.check_poison()?;
            if self.0.durable_changed.wait_until(&mut signals, deadline).timed_out() {
                return Ok(self.0.durable_lsn() >= lsn);
            }
        }
    }

    /// Syncs on the caller's thread. For start-up, tools and simulation, where no syncer runs.
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    pub fn sync_now(&self) -> Result<u64, WalError> {
        self.0.sync_now()
    }

    /// Prepares the next segment on the caller's thread; the syncer does this otherwise. False when the disk is full.
    ///
    /// # Errors
    /// What the file layer says; the log is not poisoned by it.
    pub fn prepare(&self) -> Result<bool, IoError> {
        self.0.files.as_ref().map_or(Ok(true), SharedFiles::prepare)
    }

    /// Removes sealed segments whose last LSN is at or below `up_to_lsn`, oldest first; the segment being written always stays.
    /// See [`crate::snapshot::releasable_lsn`] for which LSN that may be.
    ///
    /// # Errors
    /// What the file layer says; segments removed until then are gone.
    pub fn release(&self, up_to_lsn: u64) -> Result<Released, IoError> {
        let mut released = Released::default();
        let Some(files) = &self.0.files else { return Ok(released) };
        loop {
            let mut sealed = files.sealed.lock();
            let Some(oldest) = sealed.first().filter(|segment| segment.last_lsn <= up_to_lsn) else { break };
            match files.storage.remove(&oldest.path) {
                Err(error) if !error.missing() => return Err(error),
                _ => {}
            }
            released.segments += 1;
            released.bytes += oldest.bytes;
            sealed.remove(0);
        }
        if released.segments > 0 {
            self.0.nudge();
        }
        Ok(released)
    }

    /// Why the log takes nothing any more, if so.
    pub fn failure(&self) -> Option<IoError> {
        self.0.poison().cloned()
    }

    /// The log at a glance.
    pub fn status(&self) -> WalStatus {
        let shared = &self.0;
        let (segments, sealed_bytes) = shared.files.as_ref().map_or((0, 0), |files| {
            let sealed = files.sealed.lock();
            (sealed.len() + 1, sealed.iter().map(|segment| segment.bytes).sum())
        });
        WalStatus {
            written_lsn: shared.written_lsn(),
            durable_lsn: shared.durable_lsn(),
            unsynced_bytes: shared.unsynced_bytes(),
            segments,
            sealed_bytes,
            syncs: shared.syncs.load(Ordering::Relaxed),
            full: shared.files.as_ref().is_some_and(SharedFiles::full),
            poisoned: shared.poison().is_some(),
        }
    }
}
