//! Reads of many entries, served in slices so that other requests go on beside them.
//!
//! Clock, registry and freshness are fixed when a read begins, so that all entries answer as of one moment; rows
//! that are applied meanwhile show in the entries read after them, and the LSN in the reply is the lowest
//! that any entry saw. When the registry changes in between, the read begins again, [`RESTARTS_MAX`] times
//! at most. A read that is done within its first slice, as most are, never waits.
//!
//! Bounded in bytes: an answer is weighed entry by entry and refused when it is too large
//! ([`AnswerSize::check`]); all answers that are being read take [`LINE_BYTES_MAX`] and one answer
//! together: beyond that the oldest read goes on alone, and the others wait their turn with what they
//! have. What waits is bounded too ([`LINE_ENTRIES_MAX`]). A read ends with its connection.
//!
//! The port gives nothing further of the connection until the reply ([`Request::is_fence`]), so nothing
//! that was asked for behind such a read can show in it. Freeing many rows takes as long as making
//! them, so that is left to the port's thread ([`Outbox::discard`]).
//!
//! [`Request::is_fence`]: streamgauge_api::port::Request::is_fence

use super::answer_size::AnswerSize;
use super::engine::Engine;
use super::port::Outbox;
use super::requests::{Holders, Matrix, ReadClock};
use super::turn::Slice;
use super::work::Connection;
use crate::read::UnknownFeature;
use std::collections::{BTreeSet, VecDeque};
use std::mem::size_of;
use std::sync::Arc;
use std::time::Instant;
use streamgauge_api::port::{Freshness, KeyText, Read, Row, SLICED_ABOVE};
use streamgauge_api::{ApiError, Code, Reply, Tag};

/// How often a read begins again because the registry changed.
const RESTARTS_MAX: u32 = 8;
/// Entries of one slice.
const ENTRIES_PER_SLICE_MAX: usize = 1024;
/// Bytes of answers beyond which one read goes on alone.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;
/// Entries of all reads in the line; what comes beyond it is refused.
const LINE_ENTRIES_MAX: usize = 1 << 20;

/// A read that goes on.
struct LongRead {
    outbox: Arc<Outbox>,
    tag: Tag,
    wanted: Wanted,
    /// Registry that it reads with.
    version: u64,
    /// What all entries are read at, once it has begun.
    moment: Option<(ReadClock, Freshness)>,
    /// The next entry.
    next: usize,
    restarts: u32,
    /// What its answer takes so far.
    size: AnswerSize,
    /// Reads are numbered in the order in which they came.
    number: u64,
}

/// What is asked for, and what was found of it.
enum Wanted {
    Rows {
        reads: Vec<Read>,
        rows: Vec<Result<Row, ApiError>>,
    },
    /// An entry is one feature of one key, key by key.
    Matrix {
        features: Vec<String>,
        keys: Vec<KeyText>,
        holders: Holders,
        found: Matrix,
    },
}

impl Wanted {
    fn entries(&self) -> usize {
        match self {
            Self::Rows { reads, .. } => reads.len(),
            Self::Matrix { keys, holders, .. } => keys.len().saturating_mul(holders.len()),
        }
    }
}

/// The reads that go on, the one that waited longest for its slice first.
#[derive(Default)]
pub(super) struct LongReads {
    line: VecDeque<LongRead>,
    /// Bytes that their answers take so far.
    bytes: usize,
    entries: usize,
    next_number: u64,
}

impl LongReads {
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Bytes that answers take which are not finished.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    fn push(&mut self, read: LongRead) {
        self.bytes += read.size.held;
        self.entries += read.wanted.entries();
        self.line.push_back(read);
    }

    /// The read whose turn it is: while answers take too much, the oldest alone.
    fn pop(&mut self) -> Option<LongRead> {
        let alone = self.bytes >= LINE_BYTES_MAX;
        let oldest = || self.line.iter().enumerate().min_by_key(|(_, read)| read.number).map(|(at, _)| at);
        let at = if alone { oldest()? } else { 0 };
        let read = self.line.remove(at)?;
        self.left(&read);
        Some(read)
    }

    fn left(&mut self, read: &LongRead) {
        let (bytes, entries) = (read.size.held, read.wanted.entries());
        assert!(bytes <= self.bytes && entries <= self.entries, "a read that leaves was counted when it came");
        self.bytes -= bytes;
        self.entries -= entries;
        assert!(!self.line.is_empty() || (self.bytes, self.entries) == (0, 0), "nobody is left, and nothing");
    }

    /// Ends what goes on of this connection.
    pub(super) fn drop_of(&mut self, connection: Connection) {
        while let Some(at) = self.line.iter().position(|read| Connection::of(&read.outbox, read.tag) == connection) {
            let Some(read) = self.line.remove(at) else { unreachable!("a read that was seen is there") };
            self.left(&read);
            let outbox = Arc::clone(&read.outbox);
            outbox.discard(Box::new(read.wanted));
            outbox.ready();
        }
    }
}

impl Engine {
    /// `batch_get`: many rows, answered in order.
    pub(super) fn begin_rows(&mut self, outbox: &Arc<Outbox>, tag: Tag, reads: Vec<Read>) {
        self.begin_read(outbox, tag, Wanted::Rows { reads, rows: Vec::new() });
    }

    /// `mget` and `get_multi`: some features of many keys.
    pub(super) fn begin_matrix(&mut self, outbox: &Arc<Outbox>, tag: Tag, features: Vec<String>, keys: Vec<KeyText>) {
        match self.holders(&features, keys.len()) {
            Ok(holders) => self.begin_read(outbox, tag, Wanted::Matrix { features, keys, holders, found: Matrix::default() }),
            Err(error) => outbox.add(tag, Reply::Refused(Box::new(error), self.state.registry().version)),
        }
    }

    fn begin_read(&mut self, outbox: &Arc<Outbox>, tag: Tag, wanted: Wanted) {
        let (version, entries) = (self.state.registry().version, wanted.entries());
        if self.long_reads.entries.saturating_add(entries) > LINE_ENTRIES_MAX {
            let waiting = self.long_reads.entries;
            let reason = format!("{waiting} entries of reads are waited for, {entries} more would be above {LINE_ENTRIES_MAX}");
            outbox.add(tag, Reply::Refused(Box::new(ApiError::new(Code::Overloaded, reason)), version));
            outbox.discard(Box::new(wanted));
            return;
        }
        let number = self.long_reads.next_number;
        self.long_reads.next_number += 1;
        let size = AnswerSize::default();
        let outbox = Arc::clone(outbox);
        let read = LongRead { outbox, tag, wanted, version, moment: None, next: 0, restarts: 0, size, number };
        let waits = self.long_reads.bytes >= LINE_BYTES_MAX && entries > SLICED_ABOVE;
        let goes_on = if waits { Some(read) } else { self.read_on(read) };
        if let Some(read) = goes_on {
            self.long_reads.push(read);
        }
    }

    /// Reads the next entries of the read whose turn it is.
    pub(crate) fn read_slice(&mut self) {
        let Some(read) = self.long_reads.pop() else { return };
        let outbox = Arc::clone(&read.outbox);
        match self.read_on(read) {
            Some(read) => self.long_reads.push(read),
            None => outbox.ready(),
        }
    }

    /// The moment that all entries are read at.
    fn fix(&mut self, wanted: &Wanted) -> (ReadClock, Freshness) {
        let tables: BTreeSet<&str> = match wanted {
            // Neighbours mostly name the same table.
            Wanted::Rows { reads, .. } => reads.chunk_by(|one, other| one.table == other.table).map(|run| run[0].table.as_str()).collect(),
            Wanted::Matrix { holders, .. } => holders.iter().map(|holder| holder.table.as_str()).collect(),
        };
        let clock = ReadClock::fixed(self.read_clock_us(), tables.iter().filter_map(|name| self.state.table(name)));
        let tables: Vec<&str> = tables.into_iter().collect();
        (clock, self.freshness_of(&tables))
    }

    /// One slice of a read; gives it back while it goes on, and answers it when it is done.
    fn read_on(&mut self, mut read: LongRead) -> Option<LongRead> {
        if read.version != self.state.registry().version
            && let Err(error) = self.restart(&mut read)
        {
            read.refuse(error);
            return None;
        }
        let (clock, freshness) = match read.moment.take() {
            Some(moment) => moment,
            None => self.fix(&read.wanted),
        };
        let mut slice = Slice::since(Instant::now());
        let end = read.wanted.entries();
        assert!(read.next <= end, "a read goes on at entry {} of {end}", read.next);
        let last = if end > SLICED_ABOVE { read.next.saturating_add(ENTRIES_PER_SLICE_MAX).min(end) } else { end };
        while read.next < last {
            if let Err(error) = self.read_entry(&mut read, &clock) {
                read.refuse(error);
                return None;
            }
            read.next += 1;
            if end > SLICED_ABOVE && slice.is_over() {
                break;
            }
        }
        if read.next < end {
            read.moment = Some((clock, freshness));
            return Some(read);
        }
        assert!(freshness.lsn <= self.state.lsn(), "a read is as old as its first entry");
        let LongRead { outbox, tag, wanted, .. } = read;
        match wanted {
            Wanted::Rows { reads, rows } => {
                assert_eq!(rows.len(), reads.len(), "every entry is answered");
                outbox.add(tag, Reply::Rows(rows, freshness));
                outbox.discard(Box::new(reads));
            }
            Wanted::Matrix { features, keys, holders, found } => {
                outbox.add(tag, Reply::Many(found.into_rows()));
                outbox.discard(Box::new((features, keys, holders)));
            }
        }
        None
    }

    fn read_entry(&mut self, read: &mut LongRead, clock: &ReadClock) -> Result<(), ApiError> {
        match &mut read.wanted {
            Wanted::Rows { reads, rows } => {
                if read.next == 0 {
                    rows.reserve_exact(reads.len());
                    read.size.held += reads.len() * size_of::<Result<Row, ApiError>>();
                }
                let row = self.get_at(&reads[read.next], UnknownFeature::AsNotFound, clock).map(|(row, _)| row);
                read.size.add(AnswerSize::of_entry(&row));
                rows.push(row);
            }
            Wanted::Matrix { keys, holders, found, .. } => {
                let (key, holder) = (read.next / holders.len(), read.next % holders.len());
                if let Some(value) = self.get_cell(&holders[holder], &keys[key], clock)? {
                    read.size.add(AnswerSize::of_cell(&holders[holder].asked, &value));
                    found.add(key, &keys[key], &holders[holder].asked, value);
                }
            }
        }
        read.size.check()
    }

    /// The registry is another one than this read began with: it begins again.
    fn restart(&mut self, read: &mut LongRead) -> Result<(), ApiError> {
        assert!(read.restarts <= RESTARTS_MAX, "a read that was refused does not begin again");
        read.version = self.state.registry().version;
        read.restarts += 1;
        if read.restarts > RESTARTS_MAX {
            let reason = format!("the registry changed {RESTARTS_MAX} times during this read");
            return Err(ApiError::new(Code::Overloaded, reason));
        }
        match &mut read.wanted {
            Wanted::Rows { rows, .. } => read.outbox.discard(Box::new(std::mem::take(rows))),
            Wanted::Matrix { features, keys, holders, found } => {
                *found = Matrix::default();
                *holders = self.holders(features, keys.len())?;
            }
        }
        (read.next, read.moment, read.size) = (0, None, AnswerSize::default());
        Ok(())
    }
}

impl LongRead {
    fn refuse(self, error: ApiError) {
        self.outbox.add(self.tag, Reply::Refused(Box::new(error), self.version));
        self.outbox.discard(Box::new(self.wanted));
    }
}
