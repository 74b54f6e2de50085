//! The first look at a log: which segments there are, in order, of one log, with sound headers and no number missing; and what is to be
//! skipped.
//!
//! The last file may lack a sound header: it is prepared before its header is known, and a crash may tear a header that was not synced.
//! Whether that is so or the disk lost something is for the reader to say, with what stands behind it. Reads the header and the
//! first frame of every segment and nothing else. Start-up calls it before a snapshot is chosen, since the choice depends on how far the log reaches back.

use std::path::{Path, PathBuf};

use super::damage::{Damage, DamageKind};
use super::error::WalOpenError;
use super::frame::FRAME_HEADER_WORDS;
use super::frame::{FrameKind, Header};
use super::segment::{FORMAT, HeaderFault, LogIdentity, SEGMENT_HEADER_WORDS, SegmentHeader, segment_number, segment_path};
use crate::storage::{IoError, Storage, StorageFile, read_head};

/// One segment, as its header and length tell.
#[derive(Debug, Clone)]
pub(super) struct SegmentFacts {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) header: SegmentHeader,
}

/// A last file without a sound header.
#[derive(Debug, Clone)]
pub(super) struct Headless {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// The segments of a log.
#[derive(Debug, Clone)]
pub struct WalSurvey {
    pub(super) folder: PathBuf,
    pub(super) segments: Vec<SegmentFacts>,
    /// Behind the last segment.
    pub(super) headless: Option<Headless>,
    pub(super) skipped: Vec<u64>,
}

impl WalSurvey {
    /// Looks at the segments in `folder`. `log_id` is the one a snapshot names, when there is a snapshot.
    ///
    /// # Errors
    /// [`WalOpenError`]: a damaged header, a missing number, another log, a newer format. A folder without segments is no error here.
    pub fn look<S: Storage>(storage: &S, folder: &Path, log_id: Option<u128>) -> Result<Self, WalOpenError> {
        let mut survey = Self { folder: folder.to_owned(), segments: Vec::new(), headless: None, skipped: Vec::new() };
        let mut wanted_log = log_id;
        let mut files: Vec<(u64, u64)> = Vec::new();
        for entry in storage.list(folder)? {
            files.extend(segment_number(&entry.name).map(|number| (number, entry.len)));
        }
        files.sort_unstable();
        for (index, (number, bytes)) in files.iter().copied().enumerate() {
            let path = segment_path(folder, number);
            if let Some(last) = survey.segments.last()
                && last.header.number.checked_add(1) != Some(number)
            {
                let wanted = last.header.first_lsn.saturating_add(1);
                return Err(WalOpenError::SegmentMissing { folder: folder.to_owned(), wanted, found: None });
            }
            let head = read_head(storage, &path, SEGMENT_HEADER_WORDS)?;
            let header = match SegmentHeader::parse(&head) {
                Err(HeaderFault::Damaged) if index + 1 == files.len() && index > 0 => {
                    survey.headless = Some(Headless { path, bytes });
                    break;
                }
                parsed => survey.header(&path, number, parsed)?,
            };
            let wanted = *wanted_log.get_or_insert(header.log.log_id);
            if header.log.log_id != wanted {
                return Err(WalOpenError::OtherLog { file: path, wanted, found: header.log.log_id });
            }
            // Checksums do not vouch for what was crafted: nothing may be looked for in numbers that go back.
            if let Some(last) = survey.segments.last().filter(|last| last.header.first_lsn > header.first_lsn) {
                let wanted = last.header.first_lsn;
                return Err(WalOpenError::LsnGap { file: path, offset_bytes: 0, wanted, found: header.first_lsn });
            }
            survey.collect_skips(storage, (&path, bytes), &header)?;
            let next = survey.segments.last().map_or(header.number, |last| last.header.number + 1);
            assert_eq!(header.number, next, "a missing number was refused");
            survey.segments.push(SegmentFacts { path, bytes, header });
        }
        Ok(survey)
    }

    fn header(&self, path: &Path, number: u64, parsed: Result<SegmentHeader, HeaderFault>) -> Result<SegmentHeader, WalOpenError> {
        let file = path.to_owned();
        match parsed {
            Ok(header) if header.number == number => Ok(header),
            Ok(_) | Err(HeaderFault::Damaged) => {
                let before = self.segments.last().map_or(0, |segment| segment.header.first_lsn);
                Err(WalOpenError::Damaged(Box::new(Damage {
                    kind: DamageKind::Header,
                    file,
                    offset_bytes: 0,
                    first_lsn: before.saturating_add(1),
                    last_lsn: None,
                    after_us: None,
                    before_us: None,
                    durable_lsn: before,
                })))
            }
            Err(HeaderFault::Format(found)) => Err(WalOpenError::FormatTooNew { file, found, known: FORMAT }),
            Err(HeaderFault::Checksum(number)) => Err(WalOpenError::UnknownCoding { file, what: "checksum kind", number }),
            Err(HeaderFault::Key(number)) => Err(WalOpenError::UnknownCoding { file, what: "key id", number }),
        }
    }

    /// A skip frame is the first of its segment; one that is not sound is left to the reader's verdict.
    fn collect_skips<S: Storage>(&mut self, storage: &S, (path, bytes): (&Path, u64), header: &SegmentHeader) -> Result<(), IoError> {
        let file = storage.open_read(path)?;
        let at = header.frames_at();
        let mut words = vec![0_u64; FRAME_HEADER_WORDS];
        file.read_at(bytemuck::cast_slice_mut(&mut words), at)?;
        let Ok(first) = Header::parse(&words) else { return Ok(()) };
        // No more is reserved than the file has.
        if first.kind != FrameKind::SKIP || at + first.words() as u64 * 8 > bytes {
            return Ok(());
        }
        let mut words = vec![0_u64; first.words()];
        file.read_at(bytemuck::cast_slice_mut(&mut words), at)?;
        if first.sound(header.log.salt(), &words) {
            self.skipped.extend_from_slice(first.frame(&words).body);
        }
        Ok(())
    }

    /// The last segment. A log that is read has one.
    pub(super) fn last(&self) -> &SegmentFacts {
        let Some(last) = self.segments.last() else { unreachable!("a reader and its tail begin with a segment") };
        last
    }

    /// What the log is, when there is one.
    pub fn log(&self) -> Option<LogIdentity> {
        self.segments.first().map(|segment| segment.header.log)
    }

    /// First LSN that the log can give; none when there are no segments.
    pub fn first_lsn(&self) -> Option<u64> {
        self.segments.first().map(|segment| segment.header.first_lsn)
    }

    /// LSNs that an operator took out; replay leaves the rows with these LSNs out.
    pub fn skipped(&self) -> &[u64] {
        &self.skipped
    }

    /// Number of files and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let bytes = self.segments.iter().map(|segment| segment.bytes).sum::<u64>();
        (self.segments.len() + usize::from(self.headless.is_some()), bytes + self.headless.as_ref().map_or(0, |last| last.bytes))
    }
}
