//! From a log that was read to one that is written: the old tail is settled, a segment of our own begins.
//!
//! After a clean stop the old segment is sealed and its footer says that all of its frames were synced. In every other case its bytes may stand in the
//! page cache and not on the disk, even if a sync "succeeds" now (the process before may have died of a failed one): the valid prefix is copied to a
//! file of ours, sealed, synced, and renamed over the old one. Called once by start-up, before any source or port is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{TailEnd, WalTail};
use super::segment::{Footer, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader, segment_number, segment_path};
use super::shared::{SealedSegment, Shared, SharedFiles, WalHandle, prepared_path};
use super::writer::WalWriter;
use crate::storage::{IoError, Storage, StorageFile};

const COPY_NAME: &str = "copy.tmp";
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
        /// [`super::FIRST_LSN`], or the LSN after a snapshot that was taken without a log.
        first_lsn: u64,
    },
    /// Where a reader found the end.
    After(WalTail),
}

/// What the old log leaves to the writer.
struct Settled {
    log: LogIdentity,
    writer_epoch: u64,
    number: u64,
    first_lsn: u64,
    prev_crc: u32,
    sealed: Vec<SealedSegment>,
}

impl<S: Storage> WalWriter<S> {
    /// Settles the old tail and begins a segment. Everything up to the first LSN of the writer is durable when this returns.
    ///
    /// # Errors
    /// What the file layer says; the log can be opened again as it was.
    pub fn start(storage: S, folder: &Path, start: Start, options: WalOptions, now_us: i64) -> Result<(Self, WalHandle<S>), IoError> {
        storage.create_folder(folder)?;
        for entry in storage.list(folder)? {
            if SharedFiles::<S>::is_leftover(&entry.name) {
                storage.remove(&folder.join(&entry.name))?;
            }
        }
        let settled = match start {
            Start::Fresh { log, first_lsn } => Settled { log, writer_epoch: 1, number: 1, first_lsn, prev_crc: 0, sealed: Vec::new() },
            Start::After(tail) => settle(&storage, folder, tail)?,
        };
        let options = WalOptions { segment_bytes: options.segment_bytes.max(SEGMENT_BYTES_MIN).next_multiple_of(8), ..options };
        let header = SegmentHeader {
            log: settled.log,
            writer_epoch: settled.writer_epoch,
            number: settled.number,
            first_lsn: settled.first_lsn,
            created_us: now_us,
            prev_crc: settled.prev_crc,
        };
        let file = storage.create(&prepared_path(folder, 0))?;
        file.preallocate(options.segment_bytes)?;
        file.write_all_at(&header.encode(), 0)?;
        let file = Arc::new(begin_segment(&storage, folder, file, header.number)?);
        let files = SharedFiles::new(storage, folder.to_owned(), options.segment_bytes, Arc::clone(&file), settled.sealed);
        let shared = Arc::new(Shared::new(settled.first_lsn - 1, options, Some(files)));
        Ok((Self::on_files(Arc::clone(&shared), file, header), WalHandle(shared)))
    }

    /// A log without files: the level `memory`. LSNs count, nothing is kept.
    pub fn memory(first_lsn: u64, options: WalOptions) -> (Self, WalHandle<S>) {
        let shared = Arc::new(Shared::new(first_lsn - 1, options, None));
        (Self::in_memory(Arc::clone(&shared), first_lsn), WalHandle(shared))
    }
}

/// Syncs a prepared file whose header is written and gives it its name: a segment under its name always has a whole header.
pub(super) fn begin_segment<S: Storage>(storage: &S, folder: &Path, file: S::File, number: u64) -> Result<S::File, IoError> {
    file.sync()?;
    storage.rename(file.path(), &segment_path(folder, number))?;
    Ok(file)
}

fn settle<S: Storage>(storage: &S, folder: &Path, tail: WalTail) -> Result<Settled, IoError> {
    let mut sealed = Vec::new();
    for pair in tail.survey.segments.windows(2) {
        if let [segment, next] = pair {
            sealed.push(SealedSegment {
                path: segment.path.clone(),
                bytes: segment.bytes,
                last_lsn: next.header.first_lsn.saturating_sub(1),
            });
        }
    }
    let Some(last) = tail.survey.segments.last() else {
        return Ok(Settled { log: tail.log, writer_epoch: 1, number: 1, first_lsn: tail.last_lsn + 1, prev_crc: tail.last_crc, sealed });
    };
    let mut number = last.header.number;
    // A segment without frames is replaced by ours, under its number.
    if tail.frames > 0 {
        let bytes = match tail.end {
            TailEnd::Sealed { synced: true } => {
                let file = storage.open(&last.path)?;
                file.sync()?;
                file.size_bytes()?
            }
            _ => copy_prefix(storage, folder, &tail, &last.path, last.header.first_lsn)?,
        };
        sealed.push(SealedSegment { path: last.path.clone(), bytes, last_lsn: tail.last_lsn });
        number += 1;
    }
    Ok(Settled {
        log: tail.log,
        writer_epoch: last.header.writer_epoch + 1,
        number,
        first_lsn: tail.last_lsn + 1,
        prev_crc: tail.last_crc,
        sealed,
    })
}

fn copy_prefix<S: Storage>(storage: &S, folder: &Path, tail: &WalTail, path: &Path, first_lsn: u64) -> Result<u64, IoError> {
    debug_assert!(tail.valid_bytes >= SEGMENT_HEADER_BYTES as u64);
    let copy_path = folder.join(COPY_NAME);
    let source = storage.open_read(path)?;
    let copy = storage.create(&copy_path)?;
    let mut buffer = vec![0_u8; COPY_BYTES];
    let mut at = 0_u64;
    while at < tail.valid_bytes {
        let wanted = usize::try_from(tail.valid_bytes - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        // A file that ends in the middle of its last padding reads as zeroes there, as it did for the reader.
        let got = source.read_at(part, at)?;
        part.get_mut(got..).unwrap_or_default().fill(0);
        copy.write_all_at(part, at)?;
        at += wanted as u64;
    }
    let footer = Footer {
        frames: tail.frames,
        first_lsn,
        last_lsn: tail.last_lsn,
        durable_lsn: tail.durable_lsn,
        offset: tail.valid_bytes,
        last_crc: tail.last_crc,
    };
    let end = footer.encode(tail.log.salt());
    copy.write_all_at(&end, at)?;
    copy.sync()?;
    storage.rename(&copy_path, path)?;
    Ok(at + end.len() as u64)
}

/// Removes every segment, oldest first. For a folder that was run without a log since: its segments say nothing about the snapshot's state.
///
/// # Errors
/// What the file layer says; segments removed until then are gone.
pub fn discard<S: Storage>(storage: &S, folder: &Path) -> Result<(), IoError> {
    for entry in storage.list(folder)? {
        if segment_number(&entry.name).is_some() || SharedFiles::<S>::is_leftover(&entry.name) {
            storage.remove(&folder.join(&entry.name))?;
        }
    }
    Ok(())
}
