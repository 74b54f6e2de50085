//! Reading a log from an LSN to its end, one frame at a time, and the verdict on where it ends.
//!
//! The decision table, in the order it is applied at each place where a frame must begin:
//!
//! | found | verdict |
//! |---|---|
//! | sound frame, right LSN, right chain, known kind and format | the frame |
//! | sound frame with any of these wrong | refuse, one error each |
//! | footer that fits, then nothing | end of the segment |
//! | zeroes to the end of the last segment, all durable LSNs reached | end of the log |
//! | anything else, with a later segment behind | damage: refuse |
//! | anything else, at or below the highest durable LSN seen before or behind it | damage: refuse |
//! | anything else, above it | torn tail: end of the log, reported |
//!
//! Frames are read in place: a [`Frame`] borrows the read buffer until the next call. Memory is bounded by one read plus one frame. Called by the
//! start-up thread. What frames mean is not known here, and nothing is changed on disk: that is [`super::WalWriter::start`], with the [`WalTail`].

use super::damage::{Damage, DamageKind};
use super::error::WalOpenError;
use super::frame::{FRAME_FORMAT, FRAME_HEADER_WORDS, FRAME_MAGIC, Fault, Frame, FrameKind, Header, halves};
use super::segment::{FOOTER_MAGIC, FOOTER_WORDS, FORMAT, Footer, LogIdentity, SEGMENT_HEADER_WORDS};
use super::survey::{SegmentFacts, WalSurvey};
use crate::storage::{Storage, WordStream};

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
    /// Offset behind the last good frame in the last segment, bytes.
    pub valid_bytes: u64,
    /// What the log is.
    pub log: LogIdentity,
    pub(super) last_crc: u32,
    pub(super) frames: u32,
    pub(super) survey: WalSurvey,
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
    salt: u32,
    from_lsn: u64,
    next_lsn: u64,
    durable_lsn: u64,
    prev_crc: u32,
    frames: u32,
    last_kind: Option<FrameKind>,
    last_now_us: Option<i64>,
    end: Option<(TailEnd, u64)>,
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
        let index = survey.segments.iter().rposition(|segment| segment.header.first_lsn <= from_lsn);
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
            salt: log.salt(),
            from_lsn,
            next_lsn: first.first_lsn,
            durable_lsn,
            prev_crc: first.prev_crc,
            frames: 0,
            last_kind: None,
            last_now_us: None,
            end: None,
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
        let window = self.stream.as_ref().map(WordStream::window).unwrap_or_default();
        Ok(Some(header.frame(window)))
    }

    /// Bytes read and bytes to read in all, for progress.
    pub fn progress(&self) -> (u64, u64) {
        let here = self.stream.as_ref().map_or(0, WordStream::offset);
        (self.read_bytes + here, self.total_bytes)
    }

    /// Where the log ends; none before [`WalReader::next`] has said so.
    pub fn tail(self) -> Option<WalTail> {
        let (end, valid_bytes) = self.end?;
        let log = self.survey.log()?;
        Some(WalTail {
            end,
            last_lsn: self.next_lsn - 1,
            durable_lsn: self.durable_lsn,
            valid_bytes,
            log,
            last_crc: self.prev_crc,
            frames: self.frames,
            survey: self.survey,
        })
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
                Found::Zeroes if self.in_last_segment() && self.next_lsn > self.durable_lsn => {
                    self.end = Some((TailEnd::Clean { closed: self.last_kind == Some(FrameKind::CLOSE) }, offset));
                }
                Found::Zeroes => return Err(self.damage(DamageKind::EndMissing, offset, None)),
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

    fn offset(&self) -> u64 {
        self.stream.as_ref().map_or(0, WordStream::offset)
    }

    /// Opens the segment if that has not been done, and drops the frame given last.
    fn enter_segment(&mut self) -> Result<(), WalOpenError> {
        if let Some(stream) = &mut self.stream {
            stream.consume(std::mem::take(&mut self.given_words));
            return Ok(());
        }
        let Some(segment) = self.survey.segments.get(self.index) else { return Ok(()) };
        let header = segment.header;
        let file = self.storage.open_read(&segment.path)?;
        let mut stream = WordStream::new(file, std::mem::take(&mut self.spare))?;
        if stream.fill(SEGMENT_HEADER_WORDS)? {
            stream.consume(SEGMENT_HEADER_WORDS);
        }
        self.stream = Some(stream);
        self.frames = 0;
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
        self.segment().map(|segment| segment.path.clone()).unwrap_or_default()
    }

    /// Reads what stands at the window's head, as far as bytes alone tell.
    fn look(&mut self) -> Result<Found, WalOpenError> {
        let salt = self.salt;
        let Some(stream) = &mut self.stream else { return Ok(Found::Bad(DamageKind::Header)) };
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
            return Err(WalOpenError::FormatTooNew { file, found: u32::from(header.format), known: FORMAT });
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
            && footer.offset == offset;
        if !fits {
            return Err(WalOpenError::ChainBroken { file: self.segment_path(), offset_bytes: offset, lsn: self.next_lsn });
        }
        self.durable_lsn = self.durable_lsn.max(footer.durable_lsn);
        if !self.in_last_segment() {
            // A segment is synced before the next one is created.
            self.durable_lsn = self.durable_lsn.max(footer.last_lsn);
            self.read_bytes += self.segment().map_or(0, |segment| segment.bytes);
            self.spare = self.stream.take().map(WordStream::into_buffer).unwrap_or_default();
            self.given_words = 0;
            self.index += 1;
            return Ok(());
        }
        if self.next_lsn <= self.durable_lsn {
            return Err(self.damage(DamageKind::EndMissing, offset, None));
        }
        self.end = Some((TailEnd::Sealed { synced: footer.proves_sync() }, offset));
        Ok(())
    }

    /// Torn tail or damage: what lies behind the bad place decides.
    fn judge(&mut self, kind: DamageKind, offset: u64) -> Result<(), WalOpenError> {
        let behind = self.scan_behind(offset)?;
        self.durable_lsn = self.durable_lsn.max(behind.durable_lsn);
        if !self.in_last_segment() || self.next_lsn <= self.durable_lsn {
            return Err(self.damage(kind, offset, behind.first));
        }
        self.end = Some((TailEnd::Torn { lost_bytes: behind.last_byte.saturating_sub(offset) }, offset));
        Ok(())
    }

    fn damage(&self, kind: DamageKind, offset_bytes: u64, behind: Option<(u64, i64)>) -> WalOpenError {
        let later = self.survey.segments.get(self.index + 1).map(|segment| (segment.header.first_lsn, segment.header.created_us));
        let next_good = behind.or(later);
        WalOpenError::Damaged(Box::new(Damage {
            kind,
            file: self.segment_path(),
            offset_bytes,
            first_lsn: self.next_lsn,
            last_lsn: next_good.map(|(lsn, _)| lsn.saturating_sub(1).max(self.next_lsn)),
            after_us: self.last_now_us,
            before_us: next_good.map(|(_, now_us)| now_us),
            durable_lsn: self.durable_lsn,
        }))
    }

    /// Looks for sound frames behind a bad place, at every word. Only a refused or torn log pays for this.
    fn scan_behind(&mut self, offset: u64) -> Result<Behind, WalOpenError> {
        let mut behind = Behind { first: None, durable_lsn: 0, last_byte: offset };
        let Some(segment) = self.survey.segments.get(self.index) else { return Ok(behind) };
        let file = self.storage.open_read(&segment.path)?;
        let mut stream = WordStream::new(file, Vec::new())?;
        let mut skip = usize::try_from(offset / 8 + 1).unwrap_or(usize::MAX);
        loop {
            if !stream.fill(1)? {
                return Ok(behind);
            }
            let at = stream.offset();
            if skip > 0 {
                let words = stream.window().len().min(skip);
                if at + (words as u64) * 8 > offset {
                    note_last_byte(&mut behind, stream.window().get(..words).unwrap_or_default(), at);
                }
                skip -= words;
                stream.consume(words);
                continue;
            }
            // Zeroes, most of a preallocated file, are left behind at once.
            let zeroes = stream.window().iter().take_while(|word| **word == 0).count();
            if zeroes > 0 {
                stream.consume(zeroes);
                continue;
            }
            note_last_byte(&mut behind, stream.window().get(..1).unwrap_or_default(), at);
            let magic = stream.window().first().map_or(0, |word| halves(*word).0);
            let words = match magic {
                FRAME_MAGIC => self.sound_frame_words(&mut stream, &mut behind)?,
                FOOTER_MAGIC => self.sound_footer_words(&mut stream, &mut behind)?,
                _ => None,
            };
            let words = words.unwrap_or(1);
            note_last_byte(&mut behind, stream.window().get(..words).unwrap_or_default(), at);
            stream.consume(words);
        }
    }

    fn sound_frame_words(&self, stream: &mut WordStream<S::File>, behind: &mut Behind) -> Result<Option<usize>, WalOpenError> {
        if !stream.fill(FRAME_HEADER_WORDS)? {
            return Ok(None);
        }
        let Ok(header) = Header::parse(stream.window()) else { return Ok(None) };
        if header.first_lsn < self.next_lsn || !stream.fill(header.words())? {
            return Ok(None);
        }
        if !stream.window().get(..header.words()).is_some_and(|words| header.sound(self.salt, words)) {
            return Ok(None);
        }
        behind.first.get_or_insert((header.first_lsn, header.now_us));
        behind.durable_lsn = behind.durable_lsn.max(header.durable_lsn);
        Ok(Some(header.words()))
    }

    fn sound_footer_words(&self, stream: &mut WordStream<S::File>, behind: &mut Behind) -> Result<Option<usize>, WalOpenError> {
        if !stream.fill(FOOTER_WORDS)? {
            return Ok(None);
        }
        let Ok(footer) = Footer::parse(self.salt, stream.window()) else { return Ok(None) };
        behind.durable_lsn = behind.durable_lsn.max(footer.durable_lsn);
        Ok(Some(FOOTER_WORDS))
    }
}

/// What lies behind a bad place.
struct Behind {
    /// LSN and time of the first sound frame.
    first: Option<(u64, i64)>,
    durable_lsn: u64,
    /// Behind the last word that is not zero.
    last_byte: u64,
}

fn note_last_byte(behind: &mut Behind, words: &[u64], at: u64) {
    if let Some(last) = words.iter().rposition(|word| *word != 0) {
        behind.last_byte = behind.last_byte.max(at + (last as u64 + 1) * 8);
    }
}
