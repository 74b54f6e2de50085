//! Reading a log from an LSN to its end, one frame at a time, and the verdict on where it ends.
//!
//! Segments are synced in their order, and the next one is prepared only when all but the current are on the disk. So of the files in the
//! folder the last two may hold bytes that were never synced, three when the last of them is headless (prepared, or its header torn). A
//! bad place before those is damage whatever it is. The decision table, in the order it is applied where a frame must begin:
//!
//! | found | verdict |
//! |---|---|
//! | sound frame, right LSN, right chain, known kind and format | the frame |
//! | sound frame with any of these wrong | refuse, one error each |
//! | footer that fits, then nothing | end of the segment |
//! | zeroes to the end of the last segment but one, and the last goes on exactly there | end of the segment; its footer was not synced |
//! | footer or zeroes to the end of the last segment, all durable LSNs reached | end of the log |
//! | anything else, before the last two | damage: refuse |
//! | anything else, at or below the highest durable LSN seen before or behind it, in every file | damage: refuse |
//! | anything else, above it | torn tail: end of the log, reported; later files go |
//!
//! Frames are read in place: a [`Frame`] borrows the read buffer until the next call. Memory is bounded by one read plus one frame. Called by the
//! start-up thread. What frames mean is not known here, and nothing is changed on disk: that is [`super::WalWriter::start`], with the [`WalTail`].

use super::behind::{Behind, Wanted};
use super::damage::{Damage, DamageKind};
use super::error::WalOpenError;
use super::frame::{FRAME_FORMAT, FRAME_HEADER_WORDS, FRAME_MAGIC, Fault, Frame, FrameKind, Header, halves};
use super::segment::{FOOTER_MAGIC, FOOTER_WORDS, Footer, LogIdentity, SEGMENT_HEADER_WORDS, parse_head};
use super::survey::{SegmentFacts, WalSurvey};
use crate::storage::{Storage, WordStream};
use std::path::PathBuf;

/// How the log's last segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailEnd {
    /// With a footer. `synced`: it was written after the sync of all frames had returned.
    Sealed {
        /// See above.
        synced: bool,
    },
    /// Zeroes behind the last frame. `closed`: that frame is a close frame.
    Clean {
        /// See above.
        closed: bool,
    },
    /// An unsynced tail was cut off behind the last good frame.
    Torn {
        /// Bytes from there to the last byte that is not zero.
        lost_bytes: u64,
    },
}

/// Where a log that has been read to its end stands; what a writer goes on from.
#[derive(Debug, Clone)]
pub struct WalTail {
    /// How it ends.
    pub end: TailEnd,
    /// Last good LSN; the LSN before the first one when the log is empty.
    pub last_lsn: u64,
    /// Highest LSN known to have been synced by the writer before.
    pub durable_lsn: u64,
    /// What the log is.
    pub log: LogIdentity,
    /// The last segment as far as it is good.
    pub(super) segment_end: SegmentEnd,
    /// The segment before it, when nothing proves that it was synced, or its footer was not.
    pub(super) unproven: Option<SegmentEnd>,
    /// Files behind the end: prepared, or torn away.
    pub(super) behind: Vec<PathBuf>,
    /// The segments up to the end.
    pub(super) survey: WalSurvey,
    /// What is declared there, for the head of the segment that goes on; nothing says "nothing".
    pub head: Vec<u8>,
}

impl WalTail {
    /// Offset behind the last good frame in the last segment, bytes.
    pub fn valid_bytes(&self) -> u64 {
        self.segment_end.valid_bytes
    }
}

/// A segment as far as its frames are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentEnd {
    pub(super) path: PathBuf,
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    /// What of it is known to have been synced, at most its last LSN.
    pub(super) durable_lsn: u64,
    /// Offset behind the last good frame.
    pub(super) valid_bytes: u64,
    pub(super) last_crc: u32,
    pub(super) frames: u32,
}

/// Frames of a log in LSN order.
#[derive(Debug)]
pub struct WalReader<S: Storage> {
    storage: S,
    survey: WalSurvey,
    /// Index of the segment being read.
    index: usize,
    stream: Option<WordStream<S::File>>,
    spare: Vec<u64>,
    /// Words of the frame given last; consumed when the next is asked for.
    given_words: usize,
    /// Words of the segment's head, until that is looked at.
    head_words: usize,
    salt: u32,
    from_lsn: u64,
    next_lsn: u64,
    durable_lsn: u64,
    prev_crc: u32,
    frames: u32,
    last_kind: Option<FrameKind>,
    last_now_us: Option<i64>,
    end: Option<TailEnd>,
    /// The end of the segment being read, once it is known.
    segment_end: Option<SegmentEnd>,
    /// That of the segment before, and whether it has its footer; none when it is on the disk for sure.
    before: Option<(SegmentEnd, bool)>,
    read_bytes: u64,
    total_bytes: u64,
}

/// What stands where a frame must begin.
enum Found {
    Frame(Header),
    Footer(Footer),
    Zeroes,
    Bad(DamageKind),
}

impl<S: Storage> WalReader<S> {
    /// Reads from `from_lsn` (the LSN after the snapshot's, or [`super::FIRST_LSN`]). `durable_lsn` is the highest LSN that anything outside of the log
    /// proves to have been synced: every snapshot's LSN, damaged ones by their name included, and the archive's.
    ///
    /// # Errors
    /// [`WalOpenError::SegmentMissing`] when the log does not reach back to `from_lsn`. That includes a log that is not there at all, unless it is to
    /// begin at the first LSN.
    pub fn open(storage: S, survey: WalSurvey, from_lsn: u64, durable_lsn: u64) -> Result<Self, WalOpenError> {
        let Some(log) = survey.log() else {
            return Err(WalOpenError::SegmentMissing { folder: survey.folder, wanted: from_lsn, found: None });
        };
        let last = survey.segments.len() - 1;
        let holding = survey.segments.iter().rposition(|segment| segment.header.first_lsn <= from_lsn);
        // Of the last two segments the older is read although nobody wants its frames: its footer may not be on the disk.
        let index = holding.map(|index| if index == last && survey.headless.is_none() { last.saturating_sub(1) } else { index });
        let Some((index, first)) = index.and_then(|index| Some((index, survey.segments.get(index)?.header))) else {
            let found = survey.first_lsn();
            return Err(WalOpenError::SegmentMissing { folder: survey.folder, wanted: from_lsn, found });
        };
        let total_bytes = survey.segments.iter().skip(index).map(|segment| segment.bytes).sum();
        Ok(Self {
            storage,
            index,
            stream: None,
            spare: Vec::new(),
            given_words: 0,
            head_words: 0,
            salt: log.salt(),
            from_lsn,
            next_lsn: first.first_lsn,
            durable_lsn,
            prev_crc: first.prev_crc,
            frames: 0,
            last_kind: None,
            last_now_us: None,
            end: None,
            segment_end: None,
            before: None,
            read_bytes: 0,
            total_bytes,
            survey,
        })
    }

    /// The next frame that holds `from_lsn` or a later LSN; none at the end of the log.
    ///
    /// # Errors
    /// [`WalOpenError`]: the log is refused, and what was read before must not be served. Nothing was changed on disk.
    #[expect(clippy::should_implement_trait, reason = "the frame borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, WalOpenError> {
        let header = loop {
            match self.step()? {
                None => return Ok(None),
                Some(header) if header.last_lsn() >= Some(self.from_lsn) => break header,
                Some(_) => {}
            }
        };
        let Some(stream) = &self.stream else { unreachable!("a frame stands in a stream") };
        Ok(Some(header.frame(stream.window())))
    }

    /// Bytes read and bytes to read in all, for progress.
    pub fn progress(&self) -> (u64, u64) {
        let here = self.stream.as_ref().map_or(0, WordStream::offset);
        (self.read_bytes + here, self.total_bytes)
    }

    /// Where the log ends; none before [`WalReader::next`] has said so.
    pub fn tail(self) -> Option<WalTail> {
        let (end, segment_end) = (self.end?, self.segment_end?);
        let mut survey = self.survey;
        let log = survey.log()?;
        let mut behind: Vec<PathBuf> = survey.segments.drain(self.index + 1..).map(|segment| segment.path).collect();
        behind.extend(survey.headless.take().map(|last| last.path));
        assert!(self.next_lsn > self.durable_lsn, "an end before what was synced is refused as damage");
        // A sync takes the older segment first, with its footer; that all frames of it are durable may be older than the footer.
        let unproven = self.before.filter(|(before, footer)| !footer || before.last_lsn >= self.durable_lsn).map(|(before, _)| before);
        let (last_lsn, durable_lsn) = (self.next_lsn - 1, self.durable_lsn);
        Some(WalTail { end, last_lsn, durable_lsn, log, segment_end, unproven, behind, survey, head: Vec::new() })
    }

    /// Goes to the next frame, over segment ends. None at the end of the log.
    fn step(&mut self) -> Result<Option<Header>, WalOpenError> {
        loop {
            if self.end.is_some() {
                return Ok(None);
            }
            self.enter_segment()?;
            let offset = self.offset();
            match self.look()? {
                Found::Frame(header) => {
                    self.accept(&header, offset)?;
                    return Ok(Some(header));
                }
                Found::Footer(footer) => self.leave_sealed(&footer, offset)?,
                Found::Zeroes if self.goes_on_exactly() => self.leave(offset, false),
                Found::Zeroes => self.zeroes(offset)?,
                Found::Bad(kind) => self.judge(kind, offset)?,
            }
        }
    }

    fn segment(&self) -> Option<&SegmentFacts> {
        self.survey.segments.get(self.index)
    }

    fn in_last_segment(&self) -> bool {
        self.index + 1 >= self.survey.segments.len()
    }

    /// Whether a bad place here can be a crash at all: only the last two segments may hold bytes that were never synced, and only the last
    /// one when a headless file follows that was prepared behind it.
    fn may_be_unsynced(&self) -> bool {
        let files_behind = self.survey.segments.len() - self.index - 1 + usize::from(self.survey.headless.is_some());
        files_behind <= 1
    }

    /// Whether the last segment goes on exactly where this one, the last but one, ends without a footer.
    fn goes_on_exactly(&self) -> bool {
        let next = self.survey.segments.get(self.index + 1).map(|segment| &segment.header);
        self.may_be_unsynced()
            && self.frames > 0
            && next.is_some_and(|next| (next.first_lsn, next.prev_crc) == (self.next_lsn, self.prev_crc))
    }

    fn offset(&self) -> u64 {
        self.stream.as_ref().map_or(0, WordStream::offset)
    }

    /// Opens the segment if that has not been done, and drops the frame given last.
    fn enter_segment(&mut self) -> Result<(), WalOpenError> {
        if let Some(stream) = &mut self.stream {
            stream.consume(std::mem::take(&mut self.given_words));
            return Ok(());
        }
        let Some(segment) = self.survey.segments.get(self.index) else { unreachable!("only a segment that is there is gone on to") };
        assert_eq!(self.given_words, 0, "the last frame of a segment is dropped when that is left");
        let header = segment.header;
        let file = self.storage.open_read(&segment.path)?;
        let mut stream = WordStream::new(file, std::mem::take(&mut self.spare))?;
        if stream.fill(SEGMENT_HEADER_WORDS)? {
            stream.consume(SEGMENT_HEADER_WORDS);
        }
        self.stream = Some(stream);
        self.frames = 0;
        let Ok(head_words) = usize::try_from(header.head_bytes / 8) else { unreachable!("a head is bounded far below 32 bits") };
        self.head_words = head_words;
        if header.first_lsn != self.next_lsn {
            let file = self.segment_path();
            return Err(WalOpenError::LsnGap { file, offset_bytes: 0, wanted: self.next_lsn, found: header.first_lsn });
        }
        if header.prev_crc != self.prev_crc {
            return Err(WalOpenError::ChainBroken { file: self.segment_path(), offset_bytes: 0, lsn: self.next_lsn });
        }
        Ok(())
    }

    fn segment_path(&self) -> std::path::PathBuf {
        let Some(segment) = self.segment() else { unreachable!("what is wrong is in a segment") };
        segment.path.clone()
    }

    /// Reads what stands at the window's head, as far as bytes alone tell.
    fn look(&mut self) -> Result<Found, WalOpenError> {
        let salt = self.salt;
        let Some(stream) = &mut self.stream else { unreachable!("a segment is entered before it is looked at") };
        // What it says is for others; that it is there as it was written is not.
        if self.head_words > 0 {
            if !stream.fill(self.head_words)? {
                return Ok(Found::Bad(DamageKind::Short));
            }
            if parse_head(salt, &stream.window()[..self.head_words]).is_none() {
                return Ok(Found::Bad(DamageKind::Checksum));
            }
            stream.consume(std::mem::take(&mut self.head_words));
        }
        if !stream.fill(FRAME_HEADER_WORDS)? {
            return Ok(if stream.only_zeroes_follow()? { Found::Zeroes } else { Found::Bad(DamageKind::Short) });
        }
        let magic = stream.window().first().map_or(0, |word| halves(*word).0);
        if magic == FRAME_MAGIC {
            let header = match Header::parse(stream.window()) {
                Ok(header) => header,
                Err(Fault::Short) => return Ok(Found::Bad(DamageKind::Short)),
                Err(_) => return Ok(Found::Bad(DamageKind::Checksum)),
            };
            if !stream.fill(header.words())? {
                return Ok(Found::Bad(DamageKind::Short));
            }
            let sound = stream.window().get(..header.words()).is_some_and(|words| header.sound(salt, words));
            return Ok(if sound { Found::Frame(header) } else { Found::Bad(DamageKind::Checksum) });
        }
        if magic == FOOTER_MAGIC {
            let Ok(footer) = Footer::parse(salt, stream.window()) else { return Ok(Found::Bad(DamageKind::Checksum)) };
            stream.consume(FOOTER_WORDS);
            return Ok(if stream.only_zeroes_follow()? { Found::Footer(footer) } else { Found::Bad(DamageKind::Checksum) });
        }
        let hole = stream.window().iter().take(FRAME_HEADER_WORDS).all(|word| *word == 0);
        if !hole {
            return Ok(Found::Bad(DamageKind::Checksum));
        }
        Ok(if stream.only_zeroes_follow()? { Found::Zeroes } else { Found::Bad(DamageKind::Hole) })
    }

    /// Takes a sound frame as the next one, or says why it cannot be.
    fn accept(&mut self, header: &Header, offset_bytes: u64) -> Result<(), WalOpenError> {
        if header.format != FRAME_FORMAT {
            let file = self.segment_path();
            return Err(WalOpenError::FormatTooNew { file, found: u32::from(header.format), known: u32::from(FRAME_FORMAT) });
        }
        if header.first_lsn != self.next_lsn {
            let file = self.segment_path();
            return Err(WalOpenError::LsnGap { file, offset_bytes, wanted: self.next_lsn, found: header.first_lsn });
        }
        if header.prev_crc != self.prev_crc {
            return Err(WalOpenError::ChainBroken { file: self.segment_path(), offset_bytes, lsn: header.first_lsn });
        }
        if !header.kind.known() {
            let file = self.segment_path();
            return Err(WalOpenError::UnknownKind { file, offset_bytes, lsn: header.first_lsn, kind: header.kind.0 });
        }
        assert!(header.durable_lsn < header.first_lsn, "a sound frame does not say of itself that it was synced");
        // A sound header's last LSN fits.
        self.next_lsn = header.last_lsn().map_or(u64::MAX, |last| last.saturating_add(1));
        self.prev_crc = header.crc;
        self.durable_lsn = self.durable_lsn.max(header.durable_lsn);
        self.frames = self.frames.saturating_add(1);
        self.last_kind = Some(header.kind);
        self.last_now_us = Some(header.now_us);
        self.given_words = header.words();
        Ok(())
    }

    /// A sound footer: it must close exactly what was read.
    fn leave_sealed(&mut self, footer: &Footer, offset: u64) -> Result<(), WalOpenError> {
        let fits = footer.last_crc == self.prev_crc
            && footer.last_lsn.checked_add(1) == Some(self.next_lsn)
            && footer.frames == self.frames
            // No segment ends before it has a frame.
            && footer.frames > 0
            && footer.offset == offset;
        if !fits {
            return Err(WalOpenError::ChainBroken { file: self.segment_path(), offset_bytes: offset, lsn: self.next_lsn });
        }
        self.durable_lsn = self.durable_lsn.max(footer.durable_lsn);
        if !self.in_last_segment() {
            self.leave(offset, true);
            return Ok(());
        }
        self.end_here(TailEnd::Sealed { synced: footer.proves_sync() }, offset, DamageKind::EndMissing)
    }

    /// On to the next segment.
    fn leave(&mut self, offset: u64, footer: bool) {
        if self.may_be_unsynced() {
            self.before = Some((self.segment_end(offset), footer));
        } else {
            // Its sync had returned before the file behind the next one was created.
            self.durable_lsn = self.durable_lsn.max(self.next_lsn - 1);
            self.before = None;
        }
        self.read_bytes += self.segment().map_or(0, |segment| segment.bytes);
        assert!(!self.in_last_segment(), "behind the last segment there is none");
        let Some(stream) = self.stream.take() else { unreachable!("a segment is left that was entered") };
        self.spare = stream.into_buffer();
        self.given_words = 0;
        self.index += 1;
    }

    /// Zeroes to the end of the segment, and no later one goes on behind them.
    fn zeroes(&mut self, offset: u64) -> Result<(), WalOpenError> {
        if self.in_last_segment() {
            let closed = self.last_kind == Some(FrameKind::CLOSE);
            return self.end_here(TailEnd::Clean { closed }, offset, DamageKind::EndMissing);
        }
        self.judge(DamageKind::EndMissing, offset)
    }

    /// The log ends here, if everything that was synced has been reached.
    fn end_here(&mut self, end: TailEnd, offset: u64, missing: DamageKind) -> Result<(), WalOpenError> {
        assert!(self.in_last_segment(), "a log ends well in its last segment only");
        let behind = self.scan_files_behind()?;
        self.durable_lsn = self.durable_lsn.max(behind.durable_lsn);
        if self.next_lsn <= self.durable_lsn {
            return Err(match self.survey.headless.as_ref().filter(|_| behind.durable_lsn >= self.next_lsn) {
                Some(last) => self.damage_at(DamageKind::Header, last.path.clone(), 0, behind.first),
                None => self.damage(missing, offset, behind.first),
            });
        }
        self.segment_end = Some(self.segment_end(offset));
        self.end = Some(if behind.last_byte > 0 { TailEnd::Torn { lost_bytes: behind.last_byte } } else { end });
        Ok(())
    }

    /// Torn tail or damage: what lies behind the bad place decides, in this file and in later ones.
    fn judge(&mut self, kind: DamageKind, offset: u64) -> Result<(), WalOpenError> {
        let here = self.scan_segment_behind(offset)?;
        if !self.may_be_unsynced() {
            return Err(self.damage(kind, offset, here.first));
        }
        self.durable_lsn = self.durable_lsn.max(here.durable_lsn);
        let later = self.scan_files_behind()?;
        let lost_bytes = here.last_byte.saturating_sub(offset) + later.last_byte;
        self.durable_lsn = self.durable_lsn.max(later.durable_lsn);
        if self.next_lsn <= self.durable_lsn {
            return Err(self.damage(kind, offset, here.first.or(later.first)));
        }
        self.segment_end = Some(self.segment_end(offset));
        self.end = Some(TailEnd::Torn { lost_bytes });
        Ok(())
    }

    /// The segment being read, good up to `offset`.
    fn segment_end(&self, offset: u64) -> SegmentEnd {
        let Some(facts) = self.segment() else { unreachable!("an offset is in a segment") };
        let last_lsn = self.next_lsn - 1;
        assert!(last_lsn + 1 >= facts.header.first_lsn, "a segment is read from its first LSN on");
        SegmentEnd {
            path: facts.path.clone(),
            first_lsn: facts.header.first_lsn,
            last_lsn,
            durable_lsn: self.durable_lsn.min(last_lsn),
            valid_bytes: offset,
            last_crc: self.prev_crc,
            frames: self.frames,
        }
    }

    fn damage(&self, kind: DamageKind, offset_bytes: u64, behind: Option<(u64, i64)>) -> WalOpenError {
        self.damage_at(kind, self.segment_path(), offset_bytes, behind)
    }

    fn damage_at(&self, kind: DamageKind, file: PathBuf, offset_bytes: u64, behind: Option<(u64, i64)>) -> WalOpenError {
        let later = self.survey.segments.get(self.index + 1).map(|segment| (segment.header.first_lsn, segment.header.created_us));
        let next_good = behind.or(later);
        WalOpenError::Damaged(Box::new(Damage {
            kind,
            file,
            offset_bytes,
            first_lsn: self.next_lsn,
            last_lsn: next_good.map(|(lsn, _)| lsn.saturating_sub(1).max(self.next_lsn)),
            after_us: self.last_now_us,
            before_us: next_good.map(|(_, now_us)| now_us),
            durable_lsn: self.durable_lsn,
        }))
    }

    /// What stands behind a bad place of the segment being read.
    fn scan_segment_behind(&self, offset: u64) -> Result<Behind, WalOpenError> {
        let Some(segment) = self.segment() else { unreachable!("a place is in a segment") };
        Ok(Behind::look(&self.storage, &segment.path, offset, self.wanted())?)
    }

    /// What stands in the files behind the segment being read. Their first bytes count as lost only if they are not zeroes.
    fn scan_files_behind(&self) -> Result<Behind, WalOpenError> {
        let mut all = Behind::default();
        let segments = self.survey.segments.iter().skip(self.index + 1).map(|segment| &segment.path);
        for path in segments.chain(self.survey.headless.as_ref().map(|last| &last.path)) {
            all.then(&Behind::look(&self.storage, path, 0, self.wanted())?);
        }
        Ok(all)
    }

    fn wanted(&self) -> Wanted {
        Wanted { salt: self.salt, next_lsn: self.next_lsn }
    }
}
