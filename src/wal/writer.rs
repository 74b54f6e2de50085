//! The writing end: all frames of a turn in one buffer, one `pwrite`, then the written LSN.
//!
//! ```text
//! segment   | header | frames ... written | zeroes ... | room for close frame and footer |
//!                                         offset       capacity - TAIL_ROOM_BYTES      capacity
//! ```
//! Owned by the apply thread. Cost of a turn: one copy into the staging buffer, one checksum over it, one `pwrite`; nothing is allocated once the
//! buffer has grown to its usual size. Once per segment a roll blocks for the syncs that seal it.
//!
//! A disk without room: what was written of the turn is cut off (and the cut synced, so that no crash brings it back), the caller gets
//! [`WalError::StorageFull`] and may try again later. Any other failed write, and any failed sync, is final.

use std::sync::Arc;

use super::error::WalError;
use super::frame::{FRAME_BODY_BYTES_MAX, FrameKind, FrameParts, Link, encode};
use super::segment::{FOOTER_BYTES, Footer, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use super::shared::{SealedSegment, Shared, SharedFiles};
use super::start::begin_segment;
use crate::storage::{IoError, Storage, StorageFile};

/// Kept free at the end of a segment so that a close frame and the footer always fit, also on a full disk.
pub(super) const TAIL_ROOM_BYTES: u64 = 512;
/// A staging buffer that grew beyond this for one large turn is given back.
const STAGING_KEPT_BYTES: usize = 8 << 20;

/// The segment being written.
#[derive(Debug)]
struct Open<S: Storage> {
    file: Arc<S::File>,
    header: SegmentHeader,
    offset: u64,
    capacity: u64,
    frames: u32,
}

/// The writing end of a log.
#[derive(Debug)]
pub struct WalWriter<S: Storage> {
    shared: Arc<Shared<S>>,
    open: Option<Open<S>>,
    salt: u32,
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
    pub(super) fn on_files(shared: Arc<Shared<S>>, file: Arc<S::File>, header: SegmentHeader) -> Self {
        let open = Open { file, header, offset: SEGMENT_HEADER_BYTES as u64, capacity: shared.options.segment_bytes, frames: 0 };
        Self::at(shared, Some(open), header.log.salt(), header.first_lsn, header.prev_crc)
    }

    pub(super) fn in_memory(shared: Arc<Shared<S>>, first_lsn: u64) -> Self {
        Self::at(shared, None, 0, first_lsn, 0)
    }

    fn at(shared: Arc<Shared<S>>, open: Option<Open<S>>, salt: u32, next_lsn: u64, last_crc: u32) -> Self {
        let last_lsn = next_lsn - 1;
        Self {
            shared,
            open,
            salt,
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
        if self.open.is_some() {
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

    /// Writes what was staged; with nothing staged it does nothing. Gives the last LSN.
    ///
    /// # Errors
    /// As [`WalWriter::append`].
    pub fn write(&mut self) -> Result<u64, WalError> {
        let written = self.write_staged();
        match written {
            Ok(bytes) if self.staged_frames > 0 => {
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

    /// Clean stop: a close frame, a sync, and a footer that proves it. Gives the last LSN.
    ///
    /// # Errors
    /// As [`WalWriter::append`]. What was acknowledged before stays in the log.
    pub fn close(mut self, now_us: i64) -> Result<u64, WalError> {
        let last = self.append([FrameParts { kind: FrameKind::CLOSE, flags: 0, row_count: 0, now_us, positions: &[], body: &[] }])?;
        self.shared.sync_now()?;
        let shared = Arc::clone(&self.shared);
        if let (Some(files), Some(open)) = (&shared.files, &mut self.open) {
            match write_footer(&shared, open, last, self.last_crc, self.salt) {
                Ok(()) => seal(&shared, open, last, || Ok(()))?,
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
        if self.open.is_none() {
            // The level `memory`: frames count, so that the syncer announces them.
            return Ok(u64::from(self.staged_frames));
        }
        let bytes = self.staging.len() as u64;
        if bytes == 0 {
            return Ok(0);
        }
        // A close frame may use the room that is kept for it.
        let room = if self.staged_kind == Some(FrameKind::CLOSE) { FOOTER_BYTES as u64 } else { TAIL_ROOM_BYTES };
        let skip = self.staged_kind == Some(FrameKind::SKIP);
        if let Some(open) = &self.open
            && (open.offset + bytes + room > open.capacity || (skip && open.frames > 0))
        {
            self.make_room(bytes)?;
        }
        let Some(open) = &mut self.open else { return Ok(bytes) };
        if let Err(error) = open.file.write_all_at(&self.staging, open.offset) {
            return Err(if error.full() { cut_off(&self.shared, open, self.staging.len(), error) } else { self.shared.poisoned_by(error) });
        }
        let half = open.capacity / 2;
        if open.offset < half && open.offset + bytes >= half {
            self.shared.want_prepared();
        }
        open.offset += bytes;
        open.frames += self.staged_frames;
        Ok(bytes)
    }

    /// Goes to a next segment that holds `bytes`, or makes an empty one larger.
    fn make_room(&mut self, bytes: u64) -> Result<(), WalError> {
        let shared = Arc::clone(&self.shared);
        let (Some(files), Some(open)) = (&shared.files, &mut self.open) else { return Ok(()) };
        let wanted = SEGMENT_HEADER_BYTES as u64 + bytes + TAIL_ROOM_BYTES;
        if open.frames == 0 {
            return match open.file.preallocate(wanted) {
                Ok(()) => {
                    open.capacity = wanted;
                    Ok(())
                }
                Err(cause) if cause.full() => Err(WalError::StorageFull { bytes: self.staging.len(), cause }),
                Err(error) => Err(shared.poisoned_by(error)),
            };
        }
        let file = match files.take_prepared(wanted) {
            Ok(Some(file)) => file,
            Ok(None) => {
                shared.nudge();
                return Err(WalError::StorageFull { bytes: self.staging.len(), cause: no_segment(files) });
            }
            Err(error) => return Err(shared.poisoned_by(error)),
        };
        let header = SegmentHeader {
            number: open.header.number + 1,
            first_lsn: self.next_lsn,
            prev_crc: self.last_crc,
            created_us: self.staged_now_us,
            ..open.header
        };
        let (path, last_lsn) = (segment_path(&files.folder, open.header.number), self.next_lsn - 1);
        // Both writes can still meet a full disk, where the file system reserves nothing; the segment then stays the one being written.
        let placed = file.write_all_at(&header.encode(), 0).and_then(|()| write_footer(&shared, open, last_lsn, self.last_crc, self.salt));
        match placed {
            Ok(()) => {}
            Err(error) if error.full() => {
                files.put_back(file);
                return Err(cut_off(&shared, open, self.staging.len(), error));
            }
            Err(error) => return Err(shared.poisoned_by(error)),
        }
        let footer_end = open.offset + FOOTER_BYTES as u64;
        let file = seal(&shared, open, last_lsn, || {
            let file = Arc::new(begin_segment(&files.storage, &files.folder, file, header.number)?);
            files.swap_current(Arc::clone(&file));
            Ok(file)
        })?;
        files.sealed.lock().push(SealedSegment { path, bytes: footer_end, last_lsn });
        *open = Open { file, header, offset: SEGMENT_HEADER_BYTES as u64, capacity: wanted.max(files.segment_bytes), frames: 0 };
        Ok(())
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
    open.file.write_all_at(&footer.encode(salt), open.offset)
}

/// Ends a file behind its footer and syncs it; `then` runs before anything else can be synced.
fn seal<S: Storage, T>(
    shared: &Shared<S>,
    open: &Open<S>,
    last_lsn: u64,
    then: impl FnOnce() -> Result<T, IoError>,
) -> Result<T, WalError> {
    open.file.set_len(open.offset + FOOTER_BYTES as u64).map_err(|error| shared.poisoned_by(error))?;
    shared.sync_after(last_lsn, &open.file, then)
}

/// Cuts what was written of a turn off, so that the next one begins where this one did.
fn cut_off<S: Storage>(shared: &Shared<S>, open: &Open<S>, bytes: usize, cause: IoError) -> WalError {
    if let Err(error) = open.file.set_len(open.offset) {
        return shared.poisoned_by(error);
    }
    // Where even an empty tail is refused (a file size limit), the next write makes the file longer.
    if let Err(error) = open.file.set_len(open.capacity)
        && !error.full()
    {
        return shared.poisoned_by(error);
    }
    // Without this sync a crash could keep whole frames of the turn that was refused under frames of a later one.
    match shared.sync_after(shared.written_lsn(), &open.file, || Ok(())) {
        Ok(()) => WalError::StorageFull { bytes, cause },
        Err(error) => error,
    }
}

fn no_segment<S: Storage>(files: &SharedFiles<S>) -> IoError {
    IoError::new(crate::storage::Operation::Resize, &files.folder, std::io::Error::from(std::io::ErrorKind::StorageFull))
}
