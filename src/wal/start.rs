//! From a log that was read to one that is written: the old tail is settled, a segment of our own begins.
//!
//! After a clean stop the old segment is sealed and its footer says that all of its frames were synced. In every other case its bytes
//! may stand in the page cache and not on the disk, even if a sync "succeeds" now (the process before may have died of a failed one).
//! So they are written again: the valid prefix goes to a file of ours, which is sealed, synced and renamed over the old one. Without
//! room for a copy the same bytes are written over themselves, which makes the pages dirty again, and the file is cut and synced in
//! place: every byte is what it was before, so no crash on the way can harm it.
//!
//! A disk without any room prevents neither: reads are served, and what could not be done is tried again by the syncer
//! ([`super::shared`]); until then the log takes no frame. Called once by start-up, before any source or port is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::FIRST_LSN;
use super::reader::{SegmentEnd, TailEnd, WalTail};
use super::segment::{FOOTER_BYTES, Footer, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, encode_head, segment_path};
use super::shared::{PrepareError, SealedSegment, Shared, SharedFiles, WalHandle, is_leftover, no_room, remove_if_there};
use super::writer::WalWriter;
use crate::storage::{IoError, Operation, Storage, StorageFile};

/// The old tail is copied under this name.
pub(super) const COPY_NAME: &str = "copy.tmp";
const COPY_BYTES: usize = 1 << 20;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalOptions {
    /// Size of a segment, preallocated; one that holds a larger turn is larger.
    pub segment_bytes: u64,
    /// Longest time a written frame stays unsynced when nobody waits for it.
    pub sync_interval: Duration,
    /// Bytes after which a sync is due when nobody waits for it.
    pub sync_bytes: u64,
    /// How long a sync that somebody waits for is held back to take more frames with it.
    pub group_commit: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, sync_interval: Duration::from_secs(1), sync_bytes: 16 << 20, group_commit: Duration::ZERO }
    }
}

/// Smallest segment: below this headers and footers would be most of it.
pub(super) const SEGMENT_BYTES_MIN: u64 = 4096;

/// Where a writer begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// A log that did not exist.
    Fresh {
        /// What it will be; random.
        log: LogIdentity,
    },
    /// Where a reader found the end.
    After(Box<WalTail>),
}

impl<S: Storage> WalWriter<S> {
    /// Settles the old tail and begins a segment. On a disk without room for that the log is open all the same and takes nothing:
    /// [`super::WalHandle::status`] says `full` then.
    ///
    /// # Errors
    /// What the file layer says, other than a full disk; and a full disk too where there was no log. The log can be opened again as it was.
    pub fn start(storage: S, folder: &Path, start: Start, options: WalOptions, now_us: i64) -> Result<(Self, WalHandle<S>), IoError> {
        storage.create_folder(folder)?;
        for entry in storage.list(folder)? {
            if is_leftover(&entry.name) {
                storage.remove(&folder.join(&entry.name))?;
            }
        }
        let options = WalOptions { segment_bytes: options.segment_bytes.max(SEGMENT_BYTES_MIN).next_multiple_of(8), ..options };
        let (log, text) = match &start {
            Start::Fresh { log } => (*log, &[][..]),
            Start::After(tail) => (tail.log, &tail.head[..]),
        };
        let head = encode_head(log.salt(), text);
        let header = SegmentHeader { head_bytes: head.len() as u64, ..first_header(&start, now_us) };
        let written = header.first_lsn - 1;
        let (durable, tail) = match start {
            Start::Fresh { .. } => (written, None),
            Start::After(tail) => {
                assert!(tail.durable_lsn <= tail.last_lsn, "an end before what was synced is refused as damage");
                (tail.durable_lsn, Some(*tail))
            }
        };
        let fresh = tail.is_none();
        let begins = tail.as_ref().and_then(|tail| tail.survey.first_lsn()).unwrap_or(header.first_lsn);
        let files = SharedFiles::new(storage, folder.to_owned(), options.segment_bytes, tail, header, head.clone());
        let shared = Arc::new(Shared::new(begins, written, durable, options, Some(files)));
        let ready = shared.prepare().map_err(PrepareError::into_io)?;
        if fresh && !ready {
            return Err(no_room(folder));
        }
        let mut writer = Self::on_files(Arc::clone(&shared), header, head);
        if ready {
            writer.begin_first()?;
        }
        assert!(!ready || shared.durable_lsn() == written, "a log that takes frames is durable up to where it goes on");
        Ok((writer, WalHandle(shared)))
    }

    /// A log without files: the level `memory`. LSNs count, nothing is kept.
    pub fn memory(first_lsn: u64, options: WalOptions) -> (Self, WalHandle<S>) {
        let shared = Arc::new(Shared::new(first_lsn, first_lsn - 1, first_lsn - 1, options, None));
        (Self::in_memory(Arc::clone(&shared), first_lsn), WalHandle(shared))
    }
}

/// The header of the first segment that this process writes.
fn first_header(start: &Start, now_us: i64) -> SegmentHeader {
    match start {
        Start::Fresh { log } => {
            SegmentHeader { log: *log, writer_epoch: 1, number: 1, first_lsn: FIRST_LSN, created_us: now_us, prev_crc: 0, head_bytes: 0 }
        }
        Start::After(tail) => {
            let last = tail.survey.last();
            assert_eq!(last.path, tail.segment_end.path, "the log ends in its last segment");
            SegmentHeader {
                log: tail.log,
                writer_epoch: last.header.writer_epoch + 1,
                // A segment without frames is replaced by ours, under its number.
                number: last.header.number + u64::from(tail.segment_end.frames > 0),
                first_lsn: tail.last_lsn + 1,
                created_us: now_us,
                prev_crc: tail.segment_end.last_crc,
                head_bytes: 0,
            }
        }
    }
}

/// Brings everything up to the tail's last LSN onto the disk for sure and returns the segments that hold it. May be repeated: nothing
/// that it does changes where the log ends.
pub(super) fn settle_tail<S: Storage>(storage: &S, folder: &Path, tail: &WalTail) -> Result<Vec<SealedSegment>, IoError> {
    // What lies behind the end goes first: as long as it stands, a sealed end before it would pass for a gap.
    for path in &tail.behind {
        remove_if_there(storage, path)?;
    }
    let mut sealed = Vec::new();
    for pair in tail.survey.segments.windows(2) {
        let [segment, next] = pair else { unreachable!("windows of two") };
        let last_lsn = next.header.first_lsn - 1;
        let bytes = match &tail.unproven {
            Some(end) if end.path == segment.path => write_again(storage, folder, tail.log, end)?,
            _ => segment.bytes,
        };
        let (path, first_lsn) = (segment.path.clone(), segment.header.first_lsn);
        sealed.push(SealedSegment { path, bytes, first_lsn, last_lsn, index: Arc::default() });
    }
    if tail.segment_end.frames > 0 {
        let end = &tail.segment_end;
        let bytes = match tail.end {
            TailEnd::Sealed { synced: true } => {
                let file = storage.open(&end.path)?;
                file.sync()?;
                file.size_bytes()?
            }
            _ => write_again(storage, folder, tail.log, end)?,
        };
        let (path, first_lsn, last_lsn) = (end.path.clone(), end.first_lsn, tail.last_lsn);
        sealed.push(SealedSegment { path, bytes, first_lsn, last_lsn, index: Arc::default() });
    }
    assert!(sealed.is_sorted_by(|one, other| one.last_lsn < other.last_lsn), "segments follow each other");
    assert!(sealed.last().is_none_or(|last| last.last_lsn <= tail.last_lsn), "what is sealed ends where the log does");
    Ok(sealed)
}

/// Writes a segment's valid prefix again and seals it behind that; into a copy, or in place when there is no room for one.
fn write_again<S: Storage>(storage: &S, folder: &Path, log: LogIdentity, end: &SegmentEnd) -> Result<u64, IoError> {
    assert!(end.valid_bytes >= SEGMENT_HEADER_BYTES as u64 && end.frames > 0, "a segment is settled for the frames in it");
    assert!(end.durable_lsn <= end.last_lsn && end.first_lsn <= end.last_lsn, "{end:?}");
    let copy = folder.join(COPY_NAME);
    remove_if_there(storage, &copy)?;
    let source = storage.open(&end.path)?;
    match storage.create(&copy).and_then(|target| write_prefix(&source, &target, log, end)) {
        Ok(()) => storage.rename(&copy, &end.path)?,
        Err(error) if error.full() => {
            remove_if_there(storage, &copy)?;
            write_prefix(&source, &source, log, end)?;
        }
        Err(error) => return Err(error),
    }
    Ok(end.valid_bytes + FOOTER_BYTES as u64)
}

/// The prefix from `source` at the same place in `target`, which may be the same file, then the footer, the end, and a sync.
fn write_prefix<F: StorageFile>(source: &F, target: &F, log: LogIdentity, end: &SegmentEnd) -> Result<(), IoError> {
    let mut buffer = vec![0_u8; COPY_BYTES];
    let mut at = 0_u64;
    while at < end.valid_bytes {
        // What does not fit into a number is more than the buffer.
        let wanted = usize::try_from(end.valid_bytes - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = &mut buffer[..wanted];
        let got = source.read_at(part, at)?;
        // A file that ends in the middle of its last padding reads as zeroes there, as it did for the reader. One that
        // lacks more became shorter since: zeroes in the place of frames would be sealed as if they were these.
        if (at + got as u64).next_multiple_of(8) < at + wanted as u64 {
            return Err(IoError::new(Operation::Read, source.path(), std::io::ErrorKind::UnexpectedEof));
        }
        part[got..].fill(0);
        target.write_all_at(part, at)?;
        at += wanted as u64;
    }
    let footer = Footer {
        frames: end.frames,
        first_lsn: end.first_lsn,
        last_lsn: end.last_lsn,
        durable_lsn: end.durable_lsn,
        offset: end.valid_bytes,
        last_crc: end.last_crc,
    };
    target.write_all_at(&footer.encode(log.salt()), end.valid_bytes)?;
    target.set_len(end.valid_bytes + FOOTER_BYTES as u64)?;
    target.sync()
}

/// Syncs a file whose header is written and gives it its name: a segment that is named this way always has a whole header.
pub(super) fn begin_segment<S: Storage>(storage: &S, folder: &Path, file: S::File, number: u64) -> Result<S::File, IoError> {
    file.sync()?;
    storage.rename(file.path(), &segment_path(folder, number))?;
    Ok(file)
}
