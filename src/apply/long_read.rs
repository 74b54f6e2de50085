//! Reads of many entries, served in slices so that other requests go on beside them.
//!
//! Clock, registry and freshness are fixed when a read begins, so that all entries answer as of one moment; rows
//! that are applied meanwhile show in the entries read after them, and the LSN in the reply is the lowest
//! that any entry saw. When the registry changes in between, the read begins again, [`RESTARTS_MAX`] times
//! at most. A read that is done within its first slice, as most are, never waits.
//!
//! The port gives nothing further of the connection until the reply ([`Request::is_fence`]), so nothing
//! that was asked for behind such a read can show in it.
//!
//! [`Request::is_fence`]: streamgauge_api::port::Request::is_fence

use super::engine::Engine;
use super::port::Outbox;
use super::requests::{Holders, Matrix, ReadClock};
use super::turn::SLICE;
use crate::read::UnknownFeature;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use streamgauge_api::port::{Freshness, KeyText, Read, Row, SLICED_ABOVE};
use streamgauge_api::{ApiError, Code, Reply, Tag};

/// How often a read begins again because the registry changed.
const RESTARTS_MAX: u32 = 8;
/// Entries of one slice,
const ENTRIES_PER_SLICE_MAX: usize = 1024;
/// and between two looks at the clock.
const ENTRIES_PER_LOOK: usize = 8;

/// A read that goes on.
pub(super) struct LongRead {
    outbox: Arc<Outbox>,
    tag: Tag,
    wanted: Wanted,
    /// Registry that it reads with.
    version: u64,
    clock: ReadClock,
    freshness: Freshness,
    /// The next entry.
    next: usize,
    restarts: u32,
}

enum Wanted {
    Rows { reads: Vec<Read>, rows: Vec<Result<Row, ApiError>> },
    Matrix { features: Vec<String>, keys: Vec<KeyText>, holders: Holders, found: Matrix },
}

impl Wanted {
    fn entries(&self) -> usize {
        match self {
            Self::Rows { reads, .. } => reads.len(),
            Self::Matrix { keys, .. } => keys.len(),
        }
    }
}

impl Engine {
    /// `batch_get`: many rows, answered in order.
    pub(super) fn begin_rows(&mut self, outbox: &Arc<Outbox>, tag: Tag, reads: Vec<Read>) {
        let rows = Vec::with_capacity(reads.len());
        self.begin_read(outbox, tag, Wanted::Rows { reads, rows });
    }

    /// `mget` and `get_multi`: some features of many keys.
    pub(super) fn begin_matrix(&mut self, outbox: &Arc<Outbox>, tag: Tag, features: Vec<String>, keys: Vec<KeyText>) {
        match self.holders(&features, keys.len()) {
            Ok(holders) => self.begin_read(outbox, tag, Wanted::Matrix { features, keys, holders, found: Matrix::new() }),
            Err(error) => outbox.add(tag, Reply::Refused(Box::new(error), self.state.registry().version)),
        }
    }

    fn begin_read(&mut self, outbox: &Arc<Outbox>, tag: Tag, wanted: Wanted) {
        let (clock, freshness) = self.fix(&wanted);
        let version = self.state.registry().version;
        let read = LongRead { outbox: Arc::clone(outbox), tag, wanted, version, clock, freshness, next: 0, restarts: 0 };
        let goes_on = self.read_on(read);
        self.long_reads.extend(goes_on);
    }

    /// Reads the next entries of the read that waited longest.
    pub(crate) fn read_slice(&mut self) {
        let Some(read) = self.long_reads.pop_front() else { return };
        let outbox = Arc::clone(&read.outbox);
        match self.read_on(read) {
            Some(read) => self.long_reads.push_back(read),
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
        if read.version != self.state.registry().version && !self.restart(&mut read) {
            return None;
        }
        let begun = Instant::now();
        let end = read.wanted.entries();
        assert!(read.next <= end, "a read goes on at entry {} of {end}", read.next);
        let last = read.next.saturating_add(ENTRIES_PER_SLICE_MAX).min(end);
        while read.next < last {
            if let Err(error) = self.read_entry(&mut read) {
                read.outbox.add(read.tag, Reply::Refused(Box::new(error), read.version));
                return None;
            }
            read.next += 1;
            let looks = read.next.is_multiple_of(ENTRIES_PER_LOOK) && end > SLICED_ABOVE;
            if looks && begun.elapsed() >= SLICE {
                break;
            }
        }
        if read.next < end {
            return Some(read);
        }
        assert!(read.freshness.lsn <= self.state.lsn(), "a read is as old as its first entry");
        let LongRead { outbox, tag, wanted, freshness, .. } = read;
        let reply = match wanted {
            Wanted::Rows { reads, rows } => {
                assert_eq!(rows.len(), reads.len(), "every entry is answered");
                Reply::Rows(rows, freshness)
            }
            Wanted::Matrix { found, .. } => Reply::Many(found),
        };
        outbox.add(tag, reply);
        None
    }

    fn read_entry(&mut self, read: &mut LongRead) -> Result<(), ApiError> {
        match &mut read.wanted {
            Wanted::Rows { reads, rows } => {
                let row = self.get_at(&reads[read.next], UnknownFeature::AsNotFound, &read.clock);
                rows.push(row.map(|(row, _)| row));
            }
            Wanted::Matrix { keys, holders, found, .. } => {
                found.extend(self.get_cells(holders, &keys[read.next], &read.clock)?);
            }
        }
        Ok(())
    }

    /// The registry is another one than this read began with: it begins again. False when it was answered instead.
    fn restart(&mut self, read: &mut LongRead) -> bool {
        assert!(read.restarts <= RESTARTS_MAX, "a read that was refused does not begin again");
        read.restarts += 1;
        let refused = match &mut read.wanted {
            _ if read.restarts > RESTARTS_MAX => {
                Err(ApiError::new(Code::Overloaded, format!("the registry changed {RESTARTS_MAX} times during this read")))
            }
            Wanted::Rows { rows, .. } => {
                rows.clear();
                Ok(())
            }
            Wanted::Matrix { features, keys, holders, found } => {
                found.clear();
                self.holders(features, keys.len()).map(|anew| *holders = anew)
            }
        };
        read.version = self.state.registry().version;
        if let Err(error) = refused {
            read.outbox.add(read.tag, Reply::Refused(Box::new(error), read.version));
            return false;
        }
        assert_eq!(read.version, self.state.registry().version, "it goes on with the registry in force");
        read.next = 0;
        (read.clock, read.freshness) = self.fix(&read.wanted);
        true
    }
}
