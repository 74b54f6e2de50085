//! The tail reader: frames from any LSN on, while the writer appends.
//!
//! ```text
//! where the next LSN stands                    how it is read
//! in the turn at hand                          in place, shared
//! in the ring (next >= first of the ring)      the turn is taken, one reference count
//! before it                                    from its segment: found by LSN, checked, copied once
//! above the durable LSN                        not yet
//! ```
//! One integer decides between file and ring, at each frame, so a slow reader falls back to the file
//! and comes back by itself. It gives exactly the frames from the one that holds the first wanted LSN
//! on, in order, each once; what is not durable is never given, since it may be gone after a crash.
//! A reader's memory is one turn, or one read of the file and one frame.
//!
//! The file is read while it is written. A frame at or below an LSN that was durable before the read
//! began is whole in what was read; anything behind that is read again when it is wanted. A segment
//! ends where no frame begins: the next LSN then stands in another one. Where it does not, bytes are
//! gone that were on the disk.
//!
//! Its cursor keeps what was not read yet ([`super::Cursor`]) and gives way; then the reader is told.
//! Called on threads of readers; it waits for nobody but in [`TailReader::wait`].

use super::cursor::{Cursor, Hold};
use super::error::WalError;
use super::frame::{FRAME_HEADER_WORDS, Header};
use super::frames::{SharedFrame, Turn};
use super::segment::{SEGMENT_HEADER_BYTES, SEGMENT_HEADER_WORDS, SegmentHeader, parse_head};
use super::shared::Shared;
use crate::storage::{IoError, Storage, WordStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::{ApiError, Code};

/// Why a reader cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// Segments that hold it are gone.
    #[error("the log begins at LSN {earliest_lsn}, and LSN {wanted_lsn} is gone")]
    Expired {
        /// The LSN that was to be read.
        wanted_lsn: u64,
        /// The first that is left.
        earliest_lsn: u64,
    },
    /// It was never written here.
    #[error("the log is durable up to LSN {durable_lsn}, and LSN {wanted_lsn} is not the next one")]
    Ahead {
        /// The LSN that was to be read.
        wanted_lsn: u64,
        /// The last that may be read.
        durable_lsn: u64,
    },
    /// The level is `memory`.
    #[error("the level is memory: no log is kept that could be read")]
    NoLog,
    /// Bytes that were on the disk are not as they were.
    #[error("{} is damaged at byte {offset_bytes}: the frame at LSN {lsn} is not there", .file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the frame should begin.
        offset_bytes: u64,
        /// The LSN that was to be read.
        lsn: u64,
    },
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl From<TailError> for ApiError {
    fn from(error: TailError) -> Self {
        let refused = |code| ApiError::new(code, error.to_string());
        match &error {
            TailError::Expired { earliest_lsn, .. } => refused(Code::PositionExpired).with("earliest_lsn", (*earliest_lsn).into()),
            TailError::Ahead { durable_lsn, .. } => refused(Code::PositionAhead).with("durable_lsn", (*durable_lsn).into()),
            TailError::NoLog => refused(Code::NotAvailable),
            TailError::Damaged { .. } => refused(Code::WalDamaged),
            TailError::Io(cause) => cause.into(),
        }
    }
}

/// A segment that is being read.
#[derive(Debug)]
struct Reading<F> {
    stream: WordStream<F>,
    path: PathBuf,
    /// LSN of the frame that begins at the stream's place.
    next_lsn: u64,
    prev_crc: u32,
    /// What the stream has read is whole up to here.
    whole_lsn: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct TailReader<S: Storage> {
    shared: Arc<Shared<S>>,
    cursor: Cursor<S>,
    /// The first LSN that was not given yet.
    next_lsn: u64,
    /// The turn at hand, and where in it the next frame begins.
    turn: Option<(Turn, usize)>,
    file: Option<Reading<S::File>>,
    /// Read buffer of the segment before.
    spare: Vec<u64>,
    /// Whether it counts as a reader for whom turns are kept in memory.
    offered: bool,
}

impl<S: Storage> TailReader<S> {
    /// `offered`: whether the writer is to offer its turns in memory, a copy of each.
    pub(super) fn open(shared: &Arc<Shared<S>>, name: &str, from_lsn: u64, offered: bool) -> Result<Self, TailError> {
        if shared.files.is_none() {
            return Err(TailError::NoLog);
        }
        let durable_lsn = shared.durable_lsn();
        if from_lsn > durable_lsn + 1 {
            return Err(TailError::Ahead { wanted_lsn: from_lsn, durable_lsn });
        }
        let cursor = Cursor::open(shared, name, from_lsn, Hold::GivesWay)
            .map_err(|earliest_lsn| TailError::Expired { wanted_lsn: from_lsn, earliest_lsn })?;
        if offered {
            shared.ring.enter();
        }
        Ok(Self { shared: Arc::clone(shared), cursor, next_lsn: from_lsn, turn: None, file: None, spare: Vec::new(), offered })
    }

    /// The first LSN that was not given yet.
    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// The next frame; none while nothing more is durable. What was given before is kept no longer.
    ///
    /// # Errors
    /// [`TailError`]; the reader is at its end then.
    #[expect(clippy::should_implement_trait, reason = "none is not the end")]
    pub fn next(&mut self) -> Result<Option<SharedFrame>, TailError> {
        let durable_lsn = self.shared.durable_lsn();
        self.cursor.advance(self.next_lsn.min(durable_lsn + 1));
        if self.next_lsn > durable_lsn {
            return Ok(None);
        }
        let frame = match self.take_shared() {
            Some(frame) => frame,
            None => self.read_on()?,
        };
        assert!(frame.first_lsn() <= self.next_lsn && self.next_lsn <= frame.last_lsn(), "the frame that holds {}", self.next_lsn);
        assert!(frame.last_lsn() <= durable_lsn, "frames are durable as a whole: {} and {durable_lsn}", frame.last_lsn());
        self.next_lsn = frame.last_lsn() + 1;
        Ok(Some(frame))
    }

    /// The next frame, whether it is durable or not: for a reader that dies with the log's process and whose findings
    /// count for nothing before something behind them is durable. None at the log's end.
    ///
    /// # Errors
    /// As [`TailReader::next`].
    pub fn next_written(&mut self) -> Result<Option<SharedFrame>, TailError> {
        let durable_lsn = self.shared.durable_lsn();
        if self.next_lsn <= durable_lsn {
            return self.next();
        }
        let frame = self.take_shared();
        if let Some(frame) = &frame {
            assert!(frame.first_lsn() <= self.next_lsn && self.next_lsn <= frame.last_lsn(), "the frame that holds {}", self.next_lsn);
            self.next_lsn = frame.last_lsn() + 1;
        }
        Ok(frame)
    }

    /// Waits until there is a next frame, at most for `timeout`; false when there is none then. It
    /// asks for no sync.
    ///
    /// # Errors
    /// [`WalError::Poisoned`] when nothing more will ever be durable.
    pub fn wait(&self, timeout: Duration) -> Result<bool, WalError> {
        let deadline = Instant::now() + timeout;
        let mut signals = self.shared.signals.lock();
        loop {
            if self.next_lsn <= self.shared.durable_lsn() {
                return Ok(true);
            }
            self.shared.check_poison()?;
            if self.shared.durable_changed.wait_until(&mut signals, deadline).timed_out() {
                return Ok(self.next_lsn <= self.shared.durable_lsn());
            }
        }
    }

    fn take_shared(&mut self) -> Option<SharedFrame> {
        if self.turn.as_ref().is_none_or(|(turn, _)| turn.last_lsn < self.next_lsn) {
            self.turn = self.shared.ring.turn_of(self.next_lsn).map(|turn| (turn, 0));
            if let Some(file) = self.file.take_if(|_| self.turn.is_some()) {
                self.spare = file.stream.into_buffer();
            }
        }
        let (turn, at) = self.turn.as_mut()?;
        loop {
            let Ok(frame) = SharedFrame::at(&turn.words, *at) else {
                unreachable!("a turn is whole frames, and holds LSN {}", self.next_lsn)
            };
            *at = frame.end();
            if frame.last_lsn() >= self.next_lsn {
                return Some(frame);
            }
        }
    }

    fn read_on(&mut self) -> Result<SharedFrame, TailError> {
        // Where the segment before ended, so that the same end is not looked for for ever.
        let mut ended: Option<(PathBuf, u64)> = None;
        loop {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => self.enter(ended.as_ref())?,
            };
            let header = match self.look(&mut file)? {
                Some(header) => header,
                None => {
                    ended = Some((file.path, file.stream.offset()));
                    self.spare = file.stream.into_buffer();
                    continue;
                }
            };
            let Some(last_lsn) = header.last_lsn() else { unreachable!("a sound header's last LSN fits") };
            let wanted = last_lsn >= self.next_lsn;
            let words = wanted.then(|| file.stream.window()[..header.words()].to_vec());
            file.stream.consume(header.words());
            (file.next_lsn, file.prev_crc) = (last_lsn + 1, header.crc);
            self.file = Some(file);
            if let Some(words) = words {
                let Ok(frame) = SharedFrame::at(&Arc::new(words), 0) else { unreachable!("a sound frame reads as one") };
                return Ok(frame);
            }
        }
    }

    /// The frame at the stream's place, in its window; none where no frame begins.
    fn look(&self, file: &mut Reading<S::File>) -> Result<Option<Header>, TailError> {
        if file.next_lsn > file.whole_lsn {
            file.whole_lsn = self.shared.durable_lsn();
            file.stream.restart_at(file.stream.offset())?;
        }
        assert!(file.next_lsn <= file.whole_lsn, "nothing is read that is not durable: {}", file.next_lsn);
        if !file.stream.fill(FRAME_HEADER_WORDS)? {
            return Ok(None);
        }
        let Ok(header) = Header::parse(file.stream.window()) else { return Ok(None) };
        let follows = (header.first_lsn, header.prev_crc) == (file.next_lsn, file.prev_crc);
        let whole = follows && file.stream.fill(header.words())?;
        let salt = self.shared.files.as_ref().map_or(0, |files| files.salt);
        let sound = whole && header.sound(salt, &file.stream.window()[..header.words()]);
        Ok(sound.then_some(header))
    }

    /// Opens the segment that holds the next LSN, at the last noted place before it.
    fn enter(&mut self, ended: Option<&(PathBuf, u64)>) -> Result<Reading<S::File>, TailError> {
        let Some(files) = &self.shared.files else { unreachable!("a reader has files") };
        let expired = |reader: &Self| TailError::Expired { wanted_lsn: reader.next_lsn, earliest_lsn: reader.shared.cursors.earliest() };
        // What is read from here on is whole up to this LSN.
        let whole_lsn = self.shared.durable_lsn();
        let Some(place) = files.segment_of(self.next_lsn) else { return Err(expired(self)) };
        let stream = match files.storage.open_read(&place.path) {
            Ok(opened) => WordStream::new(opened, std::mem::take(&mut self.spare)),
            Err(error) if error.missing() && self.cursor.is_passed() => return Err(expired(self)),
            Err(error) => Err(error),
        };
        let mut stream = stream?;
        let damaged = |offset_bytes| Err(TailError::Damaged { file: place.path.clone(), offset_bytes, lsn: self.next_lsn });
        if let Some((_, offset_bytes)) = ended.filter(|(path, _)| *path == place.path) {
            return damaged(*offset_bytes);
        }
        if let Some(mark) = place.index.before(self.next_lsn) {
            stream.restart_at(mark.offset)?;
            return Ok(Reading { stream, path: place.path, next_lsn: mark.lsn, prev_crc: mark.prev_crc, whole_lsn });
        }
        if !stream.fill(SEGMENT_HEADER_WORDS)? {
            return damaged(0);
        }
        let header = match SegmentHeader::parse(stream.window()) {
            Ok(header) if header.first_lsn == place.first_lsn => header,
            _ => return damaged(0),
        };
        stream.restart_at(header.frames_at())?;
        Ok(Reading { stream, path: place.path, next_lsn: header.first_lsn, prev_crc: header.prev_crc, whole_lsn })
    }
}

/// What was declared where a segment begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHead {
    /// LSN of the segment's first frame: from there on frames say what changed.
    pub first_lsn: u64,
    /// The text that the writer was given ([`super::WalWriter::set_head`]); nothing says "nothing".
    pub text: Vec<u8>,
}

impl SegmentHead {
    /// That of the segment which holds `lsn`, or will.
    pub(super) fn before<S: Storage>(shared: &Shared<S>, lsn: u64) -> Result<Self, TailError> {
        let Some(files) = &shared.files else { return Err(TailError::NoLog) };
        let expired = || TailError::Expired { wanted_lsn: lsn, earliest_lsn: shared.cursors.earliest() };
        // On a disk without room the next LSN has no segment yet.
        let place = files.segment_of(lsn).or_else(|| files.segment_of(lsn.saturating_sub(1))).ok_or_else(expired)?;
        let damaged = |offset_bytes| TailError::Damaged { file: place.path.clone(), offset_bytes, lsn: place.first_lsn };
        let mut stream = WordStream::new(files.storage.open_read(&place.path)?, Vec::new())?;
        let header = match stream.fill(SEGMENT_HEADER_WORDS)?.then(|| SegmentHeader::parse(stream.window())) {
            Some(Ok(header)) if header.first_lsn == place.first_lsn => header,
            _ => return Err(damaged(0)),
        };
        stream.consume(SEGMENT_HEADER_WORDS);
        let Ok(words) = usize::try_from(header.head_bytes / 8) else { unreachable!("a head is bounded far below 32 bits") };
        let whole = words > 0 && stream.fill(words)?;
        let text = match whole.then(|| parse_head(files.salt, &stream.window()[..words])) {
            Some(Some(text)) => text.to_vec(),
            None if words == 0 => Vec::new(),
            _ => return Err(damaged(SEGMENT_HEADER_BYTES as u64)),
        };
        Ok(Self { first_lsn: place.first_lsn, text })
    }
}

impl<S: Storage> Drop for TailReader<S> {
    fn drop(&mut self) {
        if self.offered {
            self.shared.ring.leave();
        }
    }
}
