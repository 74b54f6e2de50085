//! What the writer, the syncer and everybody else share: the watermarks, the segments that are not sealed on the disk yet, the
//! prepared one, the sealed ones, and the poison.
//!
//! ```text
//! sealed ... | ended, its sync pending | being written | prepared: zeroes under its name
//!            |<------ unsealed, oldest first ------>|
//! ```
//! The order that makes the durable LSN true: the written LSN is read *before* the unsealed segments are, the writer adds a segment
//! there before it writes a frame into it, and a sync takes them oldest first. So what a sync publishes is covered in every segment.
//! At most one ended segment waits for its sync, because the next one is prepared only when there is none: of all segments only the
//! last two that were begun can hold bytes that are not on the disk, and an opening log relies on that.
//!
//! Syncs never overlap, because the kernel reports a failed write-back once per open file, and a sync beside the failing one would hear
//! "done". The writer (the apply thread) never syncs: it adds to the unsealed segments, and the syncer does the rest.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::cursor::{Cursor, CursorStatus, Cursors, Hold};
use super::error::WalError;
use super::frames::FrameRing;
use super::places::{SegmentPlace, SparseIndex};
use super::reader::WalTail;
use super::segment::{SegmentHeader, segment_number, segment_path};
use super::start::{WalOptions, begin_segment, settle_tail};
use super::tail::{SegmentHead, TailError, TailReader};
use super::writer::TAIL_ROOM_BYTES;
use crate::storage::{IoError, Operation, Storage, StorageFile};

/// A sealed segment.
#[derive(Debug, Clone)]
pub(super) struct SealedSegment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    /// Places inside; empty when another process wrote it.
    pub(super) index: Arc<SparseIndex>,
}

#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Somebody waits for this LSN.
    pub(super) wanted_lsn: u64,
    pub(super) stop: bool,
}

/// A segment whose last bytes may not be on the disk.
#[derive(Debug)]
struct Unsealed<S: Storage> {
    file: Arc<S::File>,
    /// What a reader opens: the file may have been created under another name.
    path: PathBuf,
    first_lsn: u64,
    index: Arc<SparseIndex>,
    /// Its footer is written: what it is once it has been synced.
    ended: Option<SealedSegment>,
}

/// The file of the segment to come.
#[derive(Debug)]
pub(super) struct Prepared<S: Storage> {
    pub(super) file: S::File,
    pub(super) number: u64,
    /// So many bytes of the disk are its own.
    pub(super) reserved: u64,
    /// Present when it has its header already, synced: the first segment of a process.
    pub(super) header: Option<SegmentHeader>,
}

/// The right to take room of the disk: while it lives none is lent. See [`SharedFiles::may_take_room`].
pub(super) type RoomGuard<'a> = RwLockReadGuard<'a, bool>;

/// Where this process's own segments begin.
#[derive(Debug)]
enum Next {
    /// With this header and head, in place of whatever stands under its name.
    First(SegmentHeader, Vec<u8>),
    /// With a file of this number.
    Number(u64),
}

#[derive(Debug)]
pub(super) struct SharedFiles<S: Storage> {
    pub(super) storage: S,
    pub(super) folder: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) log_id: u128,
    /// Where the checksums of frames begin.
    pub(super) salt: u32,
    /// The end of the old log, until it is on the disk for sure.
    tail: Mutex<Option<WalTail>>,
    unsealed: Mutex<Vec<Unsealed<S>>>,
    sync_lock: Mutex<()>,
    prepared: Mutex<Option<Prepared<S>>>,
    next: Mutex<Next>,
    pub(super) sealed: Mutex<Vec<SealedSegment>>,
    releasing: Mutex<()>,
    prepare_wanted: AtomicBool,
    full: AtomicBool,
    /// A refused turn was cut off the segment being written, and that cut is not on the disk yet.
    cut: AtomicBool,
    /// Space is being freed on borrowed space: no room is taken for frames meanwhile. Whoever takes some
    /// reads this until it has it, so that what is lent afterwards is not taken.
    held: RwLock<bool>,
}

/// See the module's head. Without files it is the level `memory`.
#[derive(Debug)]
pub(super) struct Shared<S: Storage> {
    durable: Arc<AtomicU64>,
    written: AtomicU64,
    unsynced_bytes: AtomicU64,
    syncs: AtomicU64,
    written_bytes: AtomicU64,
    poison: OnceLock<IoError>,
    pub(super) options: WalOptions,
    pub(super) files: Option<SharedFiles<S>>,
    pub(super) signals: Mutex<Signals>,
    pub(super) wake: Condvar,
    pub(super) durable_changed: Condvar,
    pub(super) cursors: Cursors,
    pub(super) ring: FrameRing,
}

/// What [`WalHandle::release`] removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whose cursors had to give way.
    pub passed: Vec<String>,
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
    /// Segments that hold frames or may, the prepared one left out; 0 at level `memory`.
    pub segments: usize,
    /// Bytes of the sealed segments.
    pub sealed_bytes: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Bytes of frames written since the start.
    pub written_bytes: u64,
    /// Whether the disk had no room for the end of the old log or for the next segment when it was last tried.
    pub full: bool,
    /// Whether a write or sync has failed for good.
    pub poisoned: bool,
}

impl<S: Storage> SharedFiles<S> {
    /// The files of a log that goes on behind `tail`, or begins anew, with `first` as its first segment.
    pub(super) fn new(storage: S, folder: PathBuf, segment_bytes: u64, tail: Option<WalTail>, first: SegmentHeader, head: Vec<u8>) -> Self {
        assert_eq!(first.head_bytes, head.len() as u64, "a header counts the bytes of its head");
        Self {
            storage,
            folder,
            segment_bytes,
            log_id: first.log.log_id,
            salt: first.log.salt(),
            tail: Mutex::new(tail),
            unsealed: Mutex::new(Vec::new()),
            sync_lock: Mutex::new(()),
            prepared: Mutex::new(None),
            next: Mutex::new(Next::First(first, head)),
            sealed: Mutex::new(Vec::new()),
            releasing: Mutex::new(()),
            prepare_wanted: AtomicBool::new(false),
            full: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            held: RwLock::new(false),
        }
    }

    /// Brings the end of the old log onto the disk for sure, if that has not been done.
    fn settle(&self) -> Result<Settling, IoError> {
        let mut slot = self.tail.lock();
        let Some(tail) = slot.as_ref() else { return Ok(Settling::Settled) };
        match settle_tail(&self.storage, &self.folder, tail) {
            Ok(sealed) => {
                let last_lsn = tail.last_lsn;
                *self.sealed.lock() = sealed;
                *slot = None;
                Ok(Settling::Now { last_lsn })
            }
            Err(error) if error.full() => {
                self.full.store(true, Ordering::Release);
                Ok(Settling::NoRoom)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the end of the old log still waits for room.
    pub(super) fn unsettled(&self) -> bool {
        self.tail.lock().is_some()
    }

    /// Prepares the next segment's file if there is none: under its name, space reserved, zeroes. False when the disk has no room.
    fn prepare(&self) -> Result<bool, IoError> {
        // One at a time; the writer, which takes what is prepared, never waits for this lock.
        let mut next = self.next.lock();
        let there = self.prepared.lock().is_some();
        if !there {
            let Some(_room) = self.may_take_room() else { return Ok(false) };
            assert!(!self.ended_one_waits(), "a segment is prepared only when the one before the current is on the disk");
            match self.create_next(&mut next) {
                Ok(file) => *self.prepared.lock() = Some(file),
                Err(error) if error.full() => {
                    self.full.store(true, Ordering::Release);
                    self.prepare_wanted.store(false, Ordering::Release);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.full.store(false, Ordering::Release);
        self.prepare_wanted.store(false, Ordering::Release);
        Ok(true)
    }

    fn create_next(&self, next: &mut Next) -> Result<Prepared<S>, IoError> {
        let made = match next {
            Next::First(header, head) => {
                // Whole before it has its name: the file that may stand under it goes in the same moment.
                let path = self.folder.join(FIRST_NAME);
                let reserved = self.segment_bytes.max(header.frames_at() + TAIL_ROOM_BYTES);
                let begin = [&header.encode()[..], head].concat();
                self.create_reserved(&path, reserved, |file| file.write_all_at(&begin, 0))
                    .and_then(|file| begin_segment(&self.storage, &self.folder, file, header.number))
                    .map(|file| Prepared { file, number: header.number, reserved, header: Some(*header) })?
            }
            Next::Number(number) => {
                let file = self.create_reserved(&segment_path(&self.folder, *number), self.segment_bytes, |_| Ok(()))?;
                Prepared { file, number: *number, reserved: self.segment_bytes, header: None }
            }
        };
        *next = Next::Number(made.number + 1);
        Ok(made)
    }

    /// A file with its space, or none at all: what was created before a failure would hold a name and perhaps space.
    fn create_reserved(&self, path: &Path, bytes: u64, then: impl FnOnce(&S::File) -> Result<(), IoError>) -> Result<S::File, IoError> {
        remove_if_there(&self.storage, path)?;
        let file = self.storage.create(path)?;
        match file.preallocate(bytes).and_then(|()| then(&file)) {
            Ok(()) => Ok(file),
            Err(error) => {
                drop(file);
                remove_if_there(&self.storage, path)?;
                Err(error)
            }
        }
    }

    /// Takes the prepared file, made to hold at least `bytes`; none when there is none, or no room for that.
    pub(super) fn take_prepared(&self, bytes: u64) -> Result<Option<Prepared<S>>, IoError> {
        let mut prepared = self.prepared.lock();
        let Some(taken) = prepared.take() else { return Ok(None) };
        let bytes = bytes.max(self.segment_bytes);
        if bytes <= taken.reserved {
            return Ok(Some(taken));
        }
        let longer = match self.may_take_room() {
            Some(_room) => taken.file.preallocate(bytes),
            None => Err(no_room(taken.file.path())),
        };
        match longer {
            Ok(()) => Ok(Some(Prepared { reserved: bytes, ..taken })),
            Err(error) => {
                *prepared = Some(taken);
                if !error.full() {
                    return Err(error);
                }
                self.full.store(true, Ordering::Release);
                Ok(None)
            }
        }
    }

    /// A file that was taken and not used. Nothing of ours stands in it.
    pub(super) fn put_back(&self, file: Prepared<S>) {
        let mut prepared = self.prepared.lock();
        assert!(prepared.is_none(), "only the writer takes, and the next is not prepared before it is used");
        *prepared = Some(file);
    }

    /// The segment that holds `lsn`, which is written; none when it is gone.
    pub(super) fn segment_of(&self, lsn: u64) -> Option<SegmentPlace> {
        let slot = self.tail.lock();
        if let Some(tail) = slot.as_ref() {
            let holding = tail.survey.segments.iter().rev().find(|segment| segment.header.first_lsn <= lsn)?;
            let (path, first_lsn) = (holding.path.clone(), holding.header.first_lsn);
            return Some(SegmentPlace { path, first_lsn, index: Arc::default() });
        }
        drop(slot);
        // One that leaves the unsealed is among the sealed by then.
        let place = |segment: &Unsealed<S>| SegmentPlace {
            path: segment.path.clone(),
            first_lsn: segment.first_lsn,
            index: Arc::clone(&segment.index),
        };
        let unsealed = self.unsealed.lock().iter().rev().find(|segment| segment.first_lsn <= lsn).map(place);
        unsealed.or_else(|| {
            let sealed = self.sealed.lock();
            let holding = sealed.iter().find(|segment| lsn <= segment.last_lsn).filter(|segment| segment.first_lsn <= lsn)?;
            let (path, first_lsn) = (holding.path.clone(), holding.first_lsn);
            Some(SegmentPlace { path, first_lsn, index: Arc::clone(&holding.index) })
        })
    }

    /// Bytes of the sealed segments that hold `from_lsn` or later ones.
    fn sealed_bytes_from(&self, from_lsn: u64) -> u64 {
        self.sealed.lock().iter().filter(|segment| segment.last_lsn >= from_lsn).map(|segment| segment.bytes).sum()
    }

    /// Bytes of the sealed segments before the one that holds `lsn`.
    fn sealed_bytes_before(&self, lsn: u64) -> u64 {
        self.sealed.lock().iter().take_while(|segment| segment.last_lsn < lsn).map(|segment| segment.bytes).sum()
    }

    fn ended_one_waits(&self) -> bool {
        self.unsealed.lock().iter().any(|segment| segment.ended.is_some())
    }

    /// A segment begins: frames are written into it from here on.
    pub(super) fn begin(&self, file: Arc<S::File>, header: &SegmentHeader, index: Arc<SparseIndex>) {
        let (path, first_lsn) = (segment_path(&self.folder, header.number), header.first_lsn);
        let mut unsealed = self.unsealed.lock();
        assert!(unsealed.iter().all(|segment| segment.ended.is_some()), "the segment before has ended");
        assert!(unsealed.len() <= 1, "at most one segment waits for its sync");
        unsealed.push(Unsealed { file, path, first_lsn, index, ended: None });
    }

    /// The segment being written has its footer: nothing is written into it from here on.
    pub(super) fn end(&self, sealed: SealedSegment) {
        let mut unsealed = self.unsealed.lock();
        let Some(current) = unsealed.last_mut() else { unreachable!("only a segment that was begun ends") };
        assert!(current.ended.is_none(), "a segment ends once");
        current.ended = Some(sealed);
    }

    pub(super) fn full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// The disk refused room to the writer.
    pub(super) fn note_full(&self) {
        self.full.store(true, Ordering::Release);
    }

    /// While this lives, room of the disk may be taken for frames; none while some is lent for freeing
    /// space. Never waits.
    pub(super) fn may_take_room(&self) -> Option<RoomGuard<'_>> {
        self.held.try_read().filter(|lent| !**lent)
    }

    pub(super) fn prepare_wanted(&self) -> bool {
        (self.prepare_wanted.load(Ordering::Acquire) || self.full()) && self.may_take_room().is_some()
    }

    /// A turn was cut off: nothing is written behind the cut before a sync has made it durable.
    pub(super) fn note_cut(&self) {
        let before = self.cut.swap(true, Ordering::AcqRel);
        assert!(!before, "nothing is written behind a cut that is not on the disk, so nothing is cut off there");
    }

    /// Whether a cut waits for its sync.
    pub(super) fn cut_waits(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Unlinks the prepared file at a clean stop.
    pub(super) fn drop_prepared(&self) -> Result<(), IoError> {
        if let Some(prepared) = self.prepared.lock().take() {
            self.storage.remove(prepared.file.path())?;
        }
        Ok(())
    }
}

/// The disk has no room, or none that frames may have.
pub(super) fn no_room(path: &Path) -> IoError {
    IoError::new(Operation::Resize, path, std::io::ErrorKind::StorageFull)
}

/// The first segment of a process is made under this name.
pub(super) const FIRST_NAME: &str = "first.tmp";

/// Whether the old log's end is on the disk for sure.
enum Settling {
    Settled,
    /// Since this call: its frames up to here are durable.
    Now {
        last_lsn: u64,
    },
    NoRoom,
}

/// Unlinks a file that may not be there.
pub(super) fn remove_if_there<S: Storage>(storage: &S, path: &Path) -> Result<(), IoError> {
    match storage.remove(path) {
        Err(error) if !error.missing() => Err(error),
        _ => Ok(()),
    }
}

/// Files in a name that only a crash leaves: ours to remove.
pub(super) fn is_leftover(name: &str) -> bool {
    segment_number(name).is_none() && (name == FIRST_NAME || name == super::start::COPY_NAME)
}

impl<S: Storage> Shared<S> {
    /// Watermarks of a log whose frames up to `written` are there and up to `durable` on the disk for sure.
    /// The first LSN that is there is `first_lsn`.
    pub(super) fn new(first_lsn: u64, written: u64, durable: u64, options: WalOptions, files: Option<SharedFiles<S>>) -> Self {
        assert!(durable <= written, "durable {durable} and written {written}");
        assert!(first_lsn <= written + 1, "a log begins before its end: {first_lsn} and {written}");
        Self {
            durable: Arc::new(AtomicU64::new(durable)),
            written: AtomicU64::new(written),
            unsynced_bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            poison: OnceLock::new(),
            options,
            files,
            signals: Mutex::new(Signals::default()),
            wake: Condvar::new(),
            durable_changed: Condvar::new(),
            cursors: Cursors::new(first_lsn),
            ring: FrameRing::default(),
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
        let before = self.written.swap(last_lsn, Ordering::AcqRel);
        assert!(before < last_lsn, "a turn has frames, and each takes LSNs: {before} to {last_lsn}");
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
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

    /// Syncs everything written so far and publishes the durable LSN. While the end of the old log waits for room nothing is synced, and
    /// the durable LSN stays where it is.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], for ever after the first failure.
    pub(super) fn sync_now(&self) -> Result<u64, WalError> {
        let Some(files) = &self.files else {
            self.unsynced_bytes.store(0, Ordering::Release);
            return Ok(self.publish(self.written_lsn()));
        };
        let one_at_a_time = files.sync_lock.lock();
        self.check_poison()?;
        if !self.settle_locked(files, &one_at_a_time)? {
            return Ok(self.durable_lsn());
        }
        // The bytes first: what is written from here on starts the timer again.
        self.unsynced_bytes.store(0, Ordering::Release);
        let lsn = self.written_lsn();
        // A cut is no frame, so that all may be durable and this is not.
        let cut = files.cut_waits();
        if lsn <= self.durable_lsn() && !files.ended_one_waits() && !cut {
            return Ok(lsn);
        }
        let durable = self.sync_unsealed(files, lsn, &one_at_a_time)?;
        if cut {
            // It came before the sync, and there is no second one before this.
            files.cut.store(false, Ordering::Release);
        }
        Ok(durable)
    }

    /// Syncs the segment being written although all of its frames may be durable: a footer that was written just now.
    pub(super) fn sync_all(&self) -> Result<u64, WalError> {
        let Some(files) = &self.files else { return self.sync_now() };
        let one_at_a_time = files.sync_lock.lock();
        self.check_poison()?;
        assert!(!files.cut_waits(), "a segment does not end behind a cut that is not on the disk");
        self.sync_unsealed(files, self.written_lsn(), &one_at_a_time)
    }

    /// Syncs the unsealed segments, oldest first, up to `lsn`, which was read as written before. One that has ended is cut to its footer
    /// and sealed.
    fn sync_unsealed(&self, files: &SharedFiles<S>, lsn: u64, _one_at_a_time: &MutexGuard<'_, ()>) -> Result<u64, WalError> {
        let poisoned = |error| self.poisoned_by(error);
        loop {
            let (file, ended) = {
                let unsealed = files.unsealed.lock();
                assert!(unsealed.len() <= 2, "one that has ended and one being written");
                let Some(oldest) = unsealed.first() else { break };
                (Arc::clone(&oldest.file), oldest.ended.clone())
            };
            let Some(sealed) = ended else {
                file.sync().map_err(poisoned)?;
                self.syncs.fetch_add(1, Ordering::Relaxed);
                break;
            };
            file.set_len(sealed.bytes).map_err(poisoned)?;
            file.sync().map_err(poisoned)?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.publish(sealed.last_lsn);
            let mut all = files.sealed.lock();
            assert!(all.last().is_none_or(|before| before.last_lsn < sealed.last_lsn), "segments are sealed in their order");
            all.push(sealed);
            drop(all);
            files.unsealed.lock().remove(0);
        }
        Ok(self.publish(lsn))
    }

    /// Settles the end of the old log. False while the disk has no room for that.
    pub(super) fn settle(&self) -> Result<bool, WalError> {
        let Some(files) = &self.files else { return Ok(true) };
        let one_at_a_time = files.sync_lock.lock();
        self.check_poison()?;
        self.settle_locked(files, &one_at_a_time)
    }

    fn settle_locked(&self, files: &SharedFiles<S>, _one_at_a_time: &MutexGuard<'_, ()>) -> Result<bool, WalError> {
        match files.settle().map_err(|error| self.poisoned_by(error))? {
            Settling::Settled => Ok(true),
            Settling::NoRoom => Ok(false),
            Settling::Now { last_lsn } => {
                self.publish(last_lsn);
                Ok(true)
            }
        }
    }

    /// Prepares the next segment, after what must be on the disk before that. False when the disk has no room.
    ///
    /// # Errors
    /// [`WalError::Poisoned`] when a sync on the way failed; [`PrepareError::Io`] otherwise, which the log lives with.
    pub(super) fn prepare(&self) -> Result<bool, PrepareError> {
        let Some(files) = &self.files else { return Ok(true) };
        if !self.settle().map_err(PrepareError::Log)? {
            return Ok(false);
        }
        if files.ended_one_waits() || files.cut_waits() {
            self.sync_now().map_err(PrepareError::Log)?;
        }
        files.prepare().map_err(PrepareError::Io)
    }

    fn publish(&self, lsn: u64) -> u64 {
        assert!(lsn <= self.written_lsn(), "durable {lsn} and written {}", self.written_lsn());
        let before = self.durable.fetch_max(lsn, Ordering::AcqRel);
        if before < lsn {
            self.nudge();
        }
        before.max(lsn)
    }
}

/// Why no segment was prepared, other than a full disk.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The log is closed for good.
    #[error(transparent)]
    Log(WalError),
    /// The file could not be made; tried again later.
    #[error(transparent)]
    Io(IoError),
}

impl PrepareError {
    /// What the file layer said.
    pub(super) fn into_io(self) -> IoError {
        match self {
            Self::Io(cause) | Self::Log(WalError::Poisoned { cause } | WalError::StorageFull { cause, .. }) => cause,
            Self::Log(error) => unreachable!("a sync says nothing else: {error}"),
        }
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
    /// [`PrepareError`].
    pub fn prepare(&self) -> Result<bool, PrepareError> {
        self.0.prepare()
    }

    /// Brings the end of the old log onto the disk for sure, on the caller's thread. False while the disk has no room for that.
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    pub fn settle(&self) -> Result<bool, WalError> {
        self.0.settle()
    }

    /// While the guard lives the log takes no room of the disk, for a new segment, for a longer one, or behind a cut:
    /// what is lent for freeing space is not for frames. Waits for whoever takes some just now.
    pub fn hold_room(&self) -> RoomLent<S> {
        if let Some(files) = &self.0.files {
            let before = std::mem::replace(&mut *files.held.write(), true);
            assert!(!before, "room is lent by one at a time");
        }
        RoomLent(Arc::clone(&self.0))
    }

    /// Removes the sealed segments that no cursor needs, oldest first; the segment being written always stays. Without a firm cursor
    /// nothing goes. On a disk without room cursors that give way hold nothing.
    ///
    /// # Errors
    /// What the file layer says; segments removed until then are gone.
    pub fn release(&self) -> Result<Released, IoError> {
        let mut released = Released::default();
        let Some(files) = &self.0.files else { return Ok(released) };
        // One at a time, and without the lock while the disk is asked: the syncer adds to the same list.
        let _one_at_a_time = files.releasing.lock();
        let short = files.full() || files.may_take_room().is_none();
        loop {
            let Some(oldest) = files.sealed.lock().first().cloned() else { break };
            let (goes, passed) = self.0.cursors.let_go(oldest.last_lsn, short, |firm| files.sealed_bytes_before(firm));
            released.passed.extend(passed);
            if !goes {
                break;
            }
            assert!(oldest.last_lsn <= self.durable_lsn(), "what goes is in a snapshot, and that is durable");
            remove_if_there(&files.storage, &oldest.path)?;
            let gone = files.sealed.lock().remove(0);
            assert_eq!(gone.path, oldest.path, "only releasing takes from the front");
            released.segments += 1;
            released.bytes += gone.bytes;
        }
        if released.segments > 0 {
            self.0.nudge();
        }
        Ok(released)
    }

    /// Keeps the log from `lsn` on until the cursor is moved or dropped.
    ///
    /// # Errors
    /// The first LSN that is left, when `lsn` is gone already.
    pub fn cursor(&self, name: &str, lsn: u64, hold: Hold) -> Result<Cursor<S>, u64> {
        Cursor::open(&self.0, name, lsn, hold)
    }

    /// All cursors, and what each keeps; the one that holds the log back most comes first.
    pub fn cursors(&self) -> Vec<CursorStatus> {
        let bytes_from = |lsn| self.0.files.as_ref().map_or(0, |files| files.sealed_bytes_from(lsn));
        self.0.cursors.status(bytes_from)
    }

    /// What was declared where the segment begins that holds `lsn`: with the frames from there on, a reader knows what was declared at
    /// any later one.
    ///
    /// # Errors
    /// [`TailError`].
    pub fn head_before(&self, lsn: u64) -> Result<SegmentHead, TailError> {
        SegmentHead::before(&self.0, lsn)
    }

    /// Which log it is; none at level `memory`.
    pub fn log_id(&self) -> Option<u128> {
        self.0.files.as_ref().map(|files| files.log_id)
    }

    /// The first LSN that can be read.
    pub fn earliest_lsn(&self) -> u64 {
        self.0.cursors.earliest()
    }

    /// Bytes of frames that readers share in memory.
    pub fn ring_bytes(&self) -> usize {
        self.0.ring.bytes()
    }

    /// Reads from `from_lsn` on, as far as the log is durable, and keeps what was not read yet. `name` is shown in `/status`.
    ///
    /// # Errors
    /// [`TailError`]: that LSN is gone, or not written yet; or nothing is kept at all.
    pub fn tail(&self, name: &str, from_lsn: u64) -> Result<TailReader<S>, TailError> {
        TailReader::open(&self.0, name, from_lsn, true)
    }

    /// The same for a reader who stays behind: the writer keeps nothing in memory for it, so that it costs the writer nothing.
    ///
    /// # Errors
    /// [`TailError`].
    pub fn tail_behind(&self, name: &str, from_lsn: u64) -> Result<TailReader<S>, TailError> {
        TailReader::open(&self.0, name, from_lsn, false)
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
            (sealed.len() + files.unsealed.lock().len(), sealed.iter().map(|segment| segment.bytes).sum())
        });
        WalStatus {
            written_lsn: shared.written_lsn(),
            durable_lsn: shared.durable_lsn(),
            unsynced_bytes: shared.unsynced_bytes(),
            segments,
            sealed_bytes,
            syncs: shared.syncs.load(Ordering::Relaxed),
            written_bytes: shared.written_bytes.load(Ordering::Relaxed),
            full: shared.files.as_ref().is_some_and(SharedFiles::full),
            poisoned: shared.poison().is_some(),
        }
    }
}

/// See [`WalHandle::hold_room`].
#[derive(Debug)]
pub struct RoomLent<S: Storage>(Arc<Shared<S>>);

impl<S: Storage> Drop for RoomLent<S> {
    fn drop(&mut self) {
        if let Some(files) = &self.0.files {
            *files.held.write() = false;
        }
        self.0.nudge();
    }
}
