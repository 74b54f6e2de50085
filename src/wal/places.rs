//! Where an LSN stands: which segment, and about where in it.
//!
//! Segments are found by their first LSN. Inside of one that this process wrote, the writer notes a
//! place about every [`EVERY_BYTES`], so that a reader who starts in the middle reads no more than
//! that in vain; one that an earlier process wrote is read from its head. A place is where a turn
//! began, so a frame begins there.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes between two places that are noted.
const EVERY_BYTES: u64 = 1 << 20;

/// A place where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// LSN of its first row.
    pub(super) lsn: u64,
    /// Bytes from the segment's begin.
    pub(super) offset: u64,
    /// Checksum of the frame before.
    pub(super) prev_crc: u32,
}

/// Places in one segment, 24 bytes each, one for each megabyte of it.
#[derive(Debug, Default)]
pub(super) struct SparseIndex(Mutex<Vec<Mark>>);

impl SparseIndex {
    /// Notes where a turn begins, unless a place nearby is noted.
    pub(super) fn note(&self, mark: Mark) {
        let mut marks = self.0.lock();
        let last = marks.last().map_or(0, |last| last.offset);
        if mark.offset >= last + EVERY_BYTES {
            assert!(marks.last().is_none_or(|last| last.lsn < mark.lsn), "places ascend");
            marks.push(mark);
        }
    }

    /// The last place at or before an LSN; none to begin at the segment's head.
    pub(super) fn before(&self, lsn: u64) -> Option<Mark> {
        let marks = self.0.lock();
        marks[..marks.partition_point(|mark| mark.lsn <= lsn)].last().copied()
    }
}

/// A segment to read.
#[derive(Debug, Clone)]
pub(super) struct SegmentPlace {
    pub(super) path: PathBuf,
    pub(super) first_lsn: u64,
    pub(super) index: Arc<SparseIndex>,
}
