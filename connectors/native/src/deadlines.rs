//! Which connection has to be looked at when: a heap of (instant, connection), corrected lazily.
//!
//! A deadline that moves later leaves its early entry in the heap; the entry is looked at when due and entered again. One that moves
//! earlier adds an entry. So a busy connection costs nothing here, and a quiet process wakes only when something is really due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Names a connection of one I/O thread: its place, and which tenant of that place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId {
    /// Place in the thread's list.
    pub(crate) place: u16,
    /// How many connections had the place before.
    pub(crate) tenant: u32,
}

/// The heap.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(Instant, ConnectionId)>>);

impl Deadlines {
    /// Enters a deadline.
    pub(crate) fn enter(&mut self, at: Instant, id: ConnectionId) {
        self.0.push(Reverse((at, id)));
    }

    /// The earliest entry's instant.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one entry that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<ConnectionId> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, id))| id)
    }
}
