//! The writing end: all frames of a turn in one buffer, one `pwrite`, then the written LSN.
//!
//! ```text
//! segment   | header | frames ... written | zeroes ... | room for close frame and footer |
//!                                         offset       capacity - TAIL_ROOM_BYTES      capacity
//! ```
//! Owned by the apply thread, and it never syncs there. Cost of a turn: one copy into the staging buffer, one checksum over it, one
//! `pwrite`; nothing is allocated once the buffer has grown to its usual size. A roll is two small writes more: the footer of the segment
//! that ends, and the header of the one that the syncer prepared. While the syncer has not come to that (a sync hangs), the segment is
//! made longer, up to [`GROWTH_MAX`] times its size; then the log takes nothing until the sync has returned.
//!
//! A disk without room: what was written of the turn is cut off, the caller gets [`WalError::StorageFull`] and may try again later. The
//! syncer makes the cut durable, so that no crash brings the turn back, and until then nothing is written behind it. Any other failed
//! write, and any failed sync, is final.
//!
//! While room of the disk is lent for freeing space ([`super::WalHandle::hold_room`]) the log takes none: what it has reserved it may fill, but
//! it grows by nothing, and what a cut gave back has to be found anew.

use std::sync::Arc;

use super::error::WalError;
use super::frame::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FrameKind, FrameParts, Link, encode};
use super::places::{Mark, SparseIndex};
use super::segment::{FOOTER_BYTES, Footer, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentHeader, encode_head, segment_path};
use super::shared::{Prepared, RoomGuard, SealedSegment, Shared, SharedFiles, no_room};
use crate::storage::{IoError, Storage, StorageFile};

/// Kept free at the end of a segment so that a close frame and the footer always fit, also on a full disk.
pub(super) const TAIL_ROOM_BYTES: u64 = 512;
/// A segment that cannot be ended is made longer up to this many times its size.
pub(super) const GROWTH_MAX: u64 = 4;
/// A staging buffer that grew beyond this for one large turn is given back.
const STAGING_KEPT_BYTES: usize = 8 << 20;

/// The segment being written.
#[derive(Debug)]
struct Open<S: Storage> {
    file: Arc<S::File>,
    header: SegmentHeader,
    offset: u64,
    capacity: u64,
    /// Up to here it has its room. What is behind a cut has to find some.
    reserved: u64,
    frames: u32,
    index: Arc<SparseIndex>,
}

/// Fits behind the room that is kept, and before it.
const _: () = assert!(TAIL_ROOM_BYTES >= (FRAME_HEADER_BYTES + FOOTER_BYTES) as u64);

/// The writing end of a log.
#[derive(Debug)]
pub struct WalWriter<S: Storage> {
    shared: Arc<Shared<S>>,
    /// The segment being written; none while the disk had no room for one since the start.
    open: Option<Open<S>>,
    /// What the first segment of this process says of the log.
    first: Option<SegmentHeader>,
    salt: u32,
    /// The head of the next segment, as it is written there.
    head: Vec<u8>,
    staging: Vec<u8>,
    staged_frames: u32,
    staged_lsn: u64,
    staged_crc: u32,
    staged_recorded: u64,
    staged_kind: Option<FrameKind>,
    staged_now_us: i64,
    next_lsn: u64,
    last_crc: u32,
    /// Highest durable LSN that a written frame carries.
    recorded_lsn: u64,
    /// Last LSN of a frame that is not a mark.
    last_data_lsn: u64,
}

impl<S: Storage> WalWriter<S> {
    /// A writer that goes on where `first` begins; it has no segment yet.
    pub(super) fn on_files(shared: Arc<Shared<S>>, first: SegmentHeader, head: Vec<u8>) -> Self {
        assert_eq!(first.first_lsn, shared.written_lsn() + 1, "the first segment goes on behind what is written");
        Self { head, ..Self::at(shared, Some(first), first.log.salt(), first.first_lsn, first.prev_crc) }
    }

    pub(super) fn in_memory(shared: Arc<Shared<S>>, first_lsn: u64) -> Self {
        Self::at(shared, None, 0, first_lsn, 0)
    }

    fn at(shared: Arc<Shared<S>>, first: Option<SegmentHeader>, salt: u32, next_lsn: u64, last_crc: u32) -> Self {
        let last_lsn = next_lsn - 1;
        Self {
            shared,
            open: None,
            first,
            salt,
            head: Vec::new(),
            staging: Vec::new(),
            staged_frames: 0,
            staged_lsn: next_lsn,
            staged_crc: last_crc,
            staged_recorded: last_lsn,
            staged_kind: None,
            staged_now_us: 0,
            next_lsn,
            last_crc,
            recorded_lsn: last_lsn,
            last_data_lsn: last_lsn,
        }
    }

    /// The LSN that the next frame's first row gets.
    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// Writes the frames of a turn with one `pwrite`, whole or not at all, and gives the last LSN. When this returns they survive the process.
    ///
    /// # Errors
    /// [`WalError`]; nothing of the turn is in the log then, except after [`WalError::Poisoned`], where a part may be.
    pub fn append<'a>(&mut self, frames: impl IntoIterator<Item = FrameParts<'a>>) -> Result<u64, WalError> {
        for frame in frames {
            self.stage(&frame)?;
        }
        self.write()
    }

    /// Puts one frame of the turn into the buffer and gives its first LSN; [`WalWriter::write`] writes them.
    ///
    /// # Errors
    /// [`WalError::FrameTooLarge`]; the whole turn is dropped then.
    pub fn stage(&mut self, parts: &FrameParts<'_>) -> Result<u64, WalError> {
        let bytes = parts.body_bytes();
        if bytes > FRAME_BODY_BYTES_MAX {
            self.unstage();
            return Err(WalError::FrameTooLarge { bytes, limit: FRAME_BODY_BYTES_MAX });
        }
        let first_lsn = self.staged_lsn;
        let durable_lsn = self.shared.durable_lsn();
        assert!(durable_lsn < first_lsn, "durable {durable_lsn}, and {first_lsn} is not written yet");
        if self.shared.files.is_some() {
            let link = Link { first_lsn, durable_lsn, prev_crc: self.staged_crc, salt: self.salt };
            self.staged_crc = encode(&mut self.staging, parts, link);
        }
        self.staged_frames += 1;
        self.staged_lsn += parts.lsns();
        self.staged_recorded = durable_lsn;
        self.staged_kind = Some(parts.kind);
        self.staged_now_us = parts.now_us;
        if parts.kind != FrameKind::MARK {
            self.last_data_lsn = self.staged_lsn - 1;
        }
        Ok(first_lsn)
    }

    /// Says what is declared where the log stands: it stands at the head of each segment from here on. Whoever declares something says
    /// it before the next roll ([`WalWriter::will_roll`]).
    pub fn set_head(&mut self, text: &[u8]) {
        self.head = encode_head(self.salt, text);
    }

    /// Whether what is staged does not fit into the segment being written, so that the next write begins another one if it can.
    pub fn will_roll(&self) -> bool {
        self.shared.files.is_some() && !self.staging.is_empty() && !self.open.as_ref().is_some_and(|open| self.fits(open))
    }

    /// Whether what is staged fits into the segment being written.
    fn fits(&self, open: &Open<S>) -> bool {
        let skip = self.staged_kind == Some(FrameKind::SKIP);
        open.offset + self.staging.len() as u64 + self.tail_room() <= open.capacity && !(skip && open.frames > 0)
    }

    /// What has to stay free behind what is staged: a close frame may use the room that is kept for it.
    fn tail_room(&self) -> u64 {
        if self.staged_kind == Some(FrameKind::CLOSE) { FOOTER_BYTES as u64 } else { TAIL_ROOM_BYTES }
    }

    /// Writes what was staged; with nothing staged it does nothing. Gives the last LSN.
    ///
    /// # Errors
    /// As [`WalWriter::append`].
    pub fn write(&mut self) -> Result<u64, WalError> {
        let written = self.write_staged();
        match written {
            Ok(bytes) if self.staged_frames > 0 => {
                assert!(self.staged_lsn > self.next_lsn, "every frame takes an LSN");
                if self.shared.ring.is_read() {
                    self.shared.ring.push(self.next_lsn, self.staged_lsn - 1, &self.staging);
                }
                self.next_lsn = self.staged_lsn;
                self.last_crc = self.staged_crc;
                self.recorded_lsn = self.staged_recorded;
                self.shared.written(self.next_lsn - 1, bytes);
            }
            _ => {}
        }
        self.unstage();
        written.map(|_| self.next_lsn - 1)
    }

    fn unstage(&mut self) {
        self.staging.clear();
        self.staging.shrink_to(STAGING_KEPT_BYTES);
        self.staged_frames = 0;
        self.staged_lsn = self.next_lsn;
        self.staged_crc = self.last_crc;
        self.staged_kind = None;
        self.last_data_lsn = self.last_data_lsn.min(self.next_lsn - 1);
    }

    /// Whether the log is at rest and its last frames do not say yet that they are durable. The apply thread then appends a mark when it is idle.
    pub fn needs_mark(&self) -> bool {
        self.open.is_some() && self.recorded_lsn < self.last_data_lsn && self.shared.durable_lsn() >= self.last_data_lsn
    }

    /// Appends a mark frame.
    ///
    /// # Errors
    /// As [`WalWriter::append`].
    pub fn append_mark(&mut self, now_us: i64) -> Result<u64, WalError> {
        self.append([FrameParts { kind: FrameKind::MARK, flags: 0, row_count: 0, now_us, positions: &[], body: &[] }])
    }

    /// Clean stop: a close frame, a sync, and a footer that proves it. Gives the last LSN. A log that had no room for a segment since the
    /// start has nothing to close.
    ///
    /// # Errors
    /// As [`WalWriter::append`]. What was acknowledged before stays in the log.
    pub fn close(mut self, now_us: i64) -> Result<u64, WalError> {
        if self.shared.files.is_some() && self.open.is_none() {
            self.shared.check_poison()?;
            return Ok(self.next_lsn - 1);
        }
        if self.shared.files.as_ref().is_some_and(SharedFiles::cut_waits) {
            self.shared.sync_now()?;
        }
        let last = self.append([FrameParts { kind: FrameKind::CLOSE, flags: 0, row_count: 0, now_us, positions: &[], body: &[] }])?;
        let durable = self.shared.sync_now()?;
        assert_eq!(durable, last, "a close is the last thing that is written");
        let shared = Arc::clone(&self.shared);
        if let (Some(files), Some(open)) = (&shared.files, &self.open) {
            match write_footer(&shared, open, last, self.last_crc, self.salt) {
                Ok(()) => {
                    files.end(ended(files, open, last));
                    shared.sync_all()?;
                }
                // The close frame is synced; the next start copies the segment instead of trusting it.
                Err(error) if error.full() => {}
                Err(error) => return Err(shared.poisoned_by(error)),
            }
            files.drop_prepared().map_err(|error| shared.poisoned_by(error))?;
        }
        Ok(last)
    }

    /// Writes the staging buffer into the segment, or into the next one. Gives the bytes.
    fn write_staged(&mut self) -> Result<u64, WalError> {
        self.shared.check_poison()?;
        if self.shared.files.is_none() {
            // The level `memory`: frames count, so that the syncer announces them.
            return Ok(u64::from(self.staged_frames));
        }
        let bytes = self.staging.len() as u64;
        if bytes == 0 {
            return Ok(0);
        }
        if let Some(files) = self.shared.files.as_ref().filter(|files| files.cut_waits()) {
            return Err(WalError::StorageFull { bytes: self.staging.len(), cause: no_room(&files.folder) });
        }
        let room = self.tail_room();
        if self.will_roll() {
            self.make_room(bytes, self.staged_kind == Some(FrameKind::SKIP))?;
        }
        let Some(open) = &mut self.open else { unreachable!("room was made in a segment") };
        assert!(open.offset + bytes + room <= open.capacity, "{bytes} bytes at {} of {}", open.offset, open.capacity);
        let _room = open.room(&self.shared, bytes, self.staging.len())?;
        if let Err(error) = open.file.write_all_at(&self.staging, open.offset) {
            return Err(if error.full() { cut_off(&self.shared, open, self.staging.len(), error) } else { self.shared.poisoned_by(error) });
        }
        let half = open.capacity / 2;
        if open.offset < half && open.offset + bytes >= half {
            self.shared.want_prepared();
        }
        open.index.note(Mark { lsn: self.next_lsn, offset: open.offset, prev_crc: self.last_crc });
        open.offset += bytes;
        open.reserved = open.reserved.max(open.offset);
        open.frames += self.staged_frames;
        Ok(bytes)
    }

    /// Goes to the prepared segment, made to hold `bytes`; or makes the segment being written longer.
    fn make_room(&mut self, bytes: u64, only_next: bool) -> Result<(), WalError> {
        let shared = Arc::clone(&self.shared);
        let Some(files) = &shared.files else { return Ok(()) };
        // A segment without frames is not ended: there would be nothing in it.
        if let Some(open) = &mut self.open
            && open.frames == 0
        {
            let wanted = open.offset + bytes + TAIL_ROOM_BYTES;
            return grow(&shared, open, wanted, self.staging.len());
        }
        let head = self.head.clone();
        let wanted = (SEGMENT_HEADER_BYTES + head.len()) as u64 + bytes + TAIL_ROOM_BYTES;
        match files.take_prepared(wanted) {
            Ok(Some(prepared)) => return self.roll(&shared, files, prepared, wanted, &head),
            Ok(None) => {}
            Err(error) => return Err(shared.poisoned_by(error)),
        }
        shared.want_prepared();
        let refused = || WalError::StorageFull { bytes: self.staging.len(), cause: no_room(&files.folder) };
        if files.full() {
            shared.nudge();
            return Err(refused());
        }
        match &mut self.open {
            Some(open) if !only_next && open.offset + bytes + TAIL_ROOM_BYTES <= files.segment_bytes.saturating_mul(GROWTH_MAX) => {
                let longer = open.capacity.max(files.segment_bytes).saturating_add(files.segment_bytes);
                let capacity = longer.max(open.offset + bytes + TAIL_ROOM_BYTES);
                grow(&shared, open, capacity, self.staging.len())
            }
            Some(_) => Err(WalError::SyncBehind { unsynced_bytes: shared.unsynced_bytes() }),
            None => Err(refused()),
        }
    }

    /// Ends the segment being written, if there is one, and begins the prepared one. No sync: the syncer does that, and opening knows
    /// that the last two segments may not be on the disk.
    fn roll(
        &mut self,
        shared: &Shared<S>,
        files: &SharedFiles<S>,
        prepared: Prepared<S>,
        wanted: u64,
        head: &[u8],
    ) -> Result<(), WalError> {
        let last_lsn = self.next_lsn - 1;
        if let Some(open) = &mut self.open {
            assert_eq!(prepared.number, open.header.number + 1, "segments are numbered without gaps");
            let _room = match open.room(shared, FOOTER_BYTES as u64, self.staging.len()) {
                Ok(room) => room,
                Err(refused) => {
                    files.put_back(prepared);
                    return Err(refused);
                }
            };
            // Either write can still meet a full disk, where the file system reserves nothing; the segment then goes on.
            if let Err(error) = write_footer(shared, open, last_lsn, self.last_crc, self.salt) {
                files.put_back(prepared);
                let bytes = self.staging.len();
                return Err(if error.full() { cut_off(shared, open, bytes, error) } else { shared.poisoned_by(error) });
            }
        }
        let Some(first) = self.first else { unreachable!("a writer with files knows the log") };
        let header = match (prepared.header, &self.open) {
            (Some(header), None) => header,
            (None, open) => SegmentHeader {
                log: first.log,
                writer_epoch: first.writer_epoch,
                number: prepared.number,
                first_lsn: self.next_lsn,
                prev_crc: self.last_crc,
                head_bytes: head.len() as u64,
                created_us: if open.is_some() { self.staged_now_us } else { first.created_us },
            },
            (Some(_), Some(_)) => unreachable!("only the first segment of a process is prepared with its header"),
        };
        assert_eq!((header.first_lsn, header.prev_crc), (self.next_lsn, self.last_crc), "a segment goes on where the one before ended");
        if prepared.header.is_none() {
            let encoded = header.encode();
            let read = SegmentHeader::parse(&bytemuck::cast::<_, [u64; SEGMENT_HEADER_WORDS]>(encoded));
            assert_eq!(read, Ok(header), "a header reads back as it was written");
            if let Err(error) = prepared.file.write_all_at(&[&encoded, head].concat(), 0) {
                return Err(self.roll_undone(shared, files, prepared, error));
            }
        }
        if let Some(open) = &self.open {
            files.end(ended(files, open, last_lsn));
        }
        let file = Arc::new(prepared.file);
        let index = Arc::new(SparseIndex::default());
        files.begin(Arc::clone(&file), &header, Arc::clone(&index));
        let capacity = wanted.max(files.segment_bytes).max(header.frames_at() + TAIL_ROOM_BYTES);
        assert!(prepared.reserved >= capacity, "a segment begins with its room: {} of {capacity}", prepared.reserved);
        self.open = Some(Open { file, header, offset: header.frames_at(), capacity, reserved: capacity, frames: 0, index });
        Ok(())
    }

    /// The header did not fit: nothing of it may stay in the file, nor the footer in the segment that goes on.
    fn roll_undone(&mut self, shared: &Shared<S>, files: &SharedFiles<S>, mut prepared: Prepared<S>, error: IoError) -> WalError {
        if !error.full() {
            return shared.poisoned_by(error);
        }
        if let Err(other) = prepared.file.set_len(0) {
            return shared.poisoned_by(other);
        }
        // Whoever takes it next finds its space anew.
        prepared.reserved = 0;
        files.put_back(prepared);
        match &mut self.open {
            Some(open) => cut_off(shared, open, self.staging.len(), error),
            None => WalError::StorageFull { bytes: self.staging.len(), cause: error },
        }
    }

    /// Takes the segment that was prepared at the start, so that the first frame finds it.
    pub(super) fn begin_first(&mut self) -> Result<(), IoError> {
        let shared = Arc::clone(&self.shared);
        let Some(files) = &shared.files else { unreachable!("level memory has no segments") };
        let Some(prepared) = files.take_prepared(0)? else { unreachable!("it was prepared just now") };
        match self.roll(&shared, files, prepared, 0, &[]) {
            Ok(()) => Ok(()),
            Err(error) => unreachable!("a segment with its header begins without writing: {error}"),
        }
    }
}

impl<S: Storage> Open<S> {
    /// The right to write so many bytes more: none is needed for room that the segment has.
    ///
    /// # Errors
    /// [`WalError::StorageFull`] while what the disk has is lent.
    fn room<'a>(&self, shared: &'a Shared<S>, bytes: u64, turn_bytes: usize) -> Result<Option<RoomGuard<'a>>, WalError> {
        let Some(files) = &shared.files else { unreachable!("level memory has no segments") };
        assert!(self.offset <= self.reserved && self.reserved <= self.capacity, "what is written has its room");
        if self.offset + bytes <= self.reserved {
            return Ok(None);
        }
        let refused = || WalError::StorageFull { bytes: turn_bytes, cause: no_room(self.file.path()) };
        files.may_take_room().map(Some).ok_or_else(refused)
    }
}

/// What a segment is once its footer is written and synced.
fn ended<S: Storage>(files: &SharedFiles<S>, open: &Open<S>, last_lsn: u64) -> SealedSegment {
    assert!(open.frames > 0 && last_lsn >= open.header.first_lsn, "a segment ends with frames in it");
    SealedSegment {
        path: segment_path(&files.folder, open.header.number),
        bytes: open.offset + FOOTER_BYTES as u64,
        first_lsn: open.header.first_lsn,
        last_lsn,
        index: Arc::clone(&open.index),
    }
}

/// Makes the segment being written longer.
fn grow<S: Storage>(shared: &Shared<S>, open: &mut Open<S>, capacity: u64, turn_bytes: usize) -> Result<(), WalError> {
    assert!(capacity >= open.capacity, "{capacity} after {}", open.capacity);
    let Some(files) = &shared.files else { unreachable!("level memory has no segments") };
    let longer = match files.may_take_room() {
        Some(_room) => open.file.preallocate(capacity),
        None => Err(no_room(open.file.path())),
    };
    match longer {
        Ok(()) => {
            (open.capacity, open.reserved) = (capacity, capacity);
            Ok(())
        }
        Err(cause) if cause.full() => {
            files.note_full();
            Err(WalError::StorageFull { bytes: turn_bytes, cause })
        }
        Err(error) => Err(shared.poisoned_by(error)),
    }
}

fn write_footer<S: Storage>(shared: &Shared<S>, open: &Open<S>, last_lsn: u64, last_crc: u32, salt: u32) -> Result<(), IoError> {
    let footer = Footer {
        frames: open.frames,
        first_lsn: open.header.first_lsn,
        last_lsn,
        durable_lsn: shared.durable_lsn().min(last_lsn),
        offset: open.offset,
        last_crc,
    };
    assert!(footer.frames > 0 && footer.first_lsn <= footer.last_lsn, "a segment ends with frames in it: {footer:?}");
    open.file.write_all_at(&footer.encode(salt), open.offset)
}

/// Cuts what was written of a turn off, so that the next one begins where this one did. Without the sync that follows elsewhere a
/// crash could keep whole frames of the turn that was refused under frames of a later one.
fn cut_off<S: Storage>(shared: &Shared<S>, open: &mut Open<S>, bytes: usize, cause: IoError) -> WalError {
    let Some(files) = &shared.files else { unreachable!("level memory has no segments") };
    open.reserved = open.offset;
    if let Err(error) = open.file.set_len(open.offset) {
        return shared.poisoned_by(error);
    }
    // Where even an empty tail is refused (a file size limit), the next write makes the file longer.
    if let Err(error) = open.file.set_len(open.capacity)
        && !error.full()
    {
        return shared.poisoned_by(error);
    }
    files.note_cut();
    shared.nudge();
    WalError::StorageFull { bytes, cause }
}
