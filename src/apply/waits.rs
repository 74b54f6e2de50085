//! Reads that wait for an LSN, and what ends their wait: rows, their deadline, or their connection.
//!
//! Invariants: a read stands in every order or in none; a connection has one such read at most, since a
//! port gives nothing further of it until the reply ([`Port::is_fence`]); there are at most [`WAITS_MAX`],
//! and they count among the requests in work. Those whose LSN is applied come first, the lowest LSN and
//! among equals the oldest first. One event answers [`WAITS_PER_EVENT`] of them or a slice's time of them,
//! whichever is less; the rest have their turn among the reads that go on.
//!
//! Called on the seat. Finding what is due costs a look at the first entry of a tree, so it may be asked
//! after every slice.
//!
//! [`Port::is_fence`]: streamgauge_api::port::Port::is_fence

use super::engine::{Answer, Engine};
use super::port::Outbox;
use super::turn::Slice;
use super::work::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use streamgauge_api::port::{Read, Request};
use streamgauge_api::{ApiError, Code, Reply, Tag};

/// Reads that may wait for an LSN, of all connections.
const WAITS_MAX: usize = 65_536;
/// Longest wait, whatever a request says.
const WAIT_MS_MAX: u64 = 30_000;
/// Waiting reads that one event answers.
pub(super) const WAITS_PER_EVENT: usize = 64;

/// A read that waits for an LSN.
struct WaitingRead {
    outbox: Arc<Outbox>,
    tag: Tag,
    read: Read,
    lsn: u64,
    until_us: i64,
}

/// All reads that wait, by what may end their wait. They are numbered in the order in which they came.
#[derive(Default)]
pub(super) struct Waits {
    reads: BTreeMap<u64, WaitingRead>,
    by_lsn: BTreeSet<(u64, u64)>,
    by_deadline: BTreeSet<(i64, u64)>,
    by_connection: BTreeSet<(Connection, u64)>,
    next: u64,
    /// The time that the last look at deadlines was made at.
    looked_us: i64,
}

impl Waits {
    pub(super) fn len(&self) -> usize {
        self.reads.len()
    }

    /// When the first of them has waited long enough.
    pub(super) fn next_deadline_us(&self) -> Option<i64> {
        self.by_deadline.first().map(|(until_us, _)| *until_us)
    }

    /// What waits until now has waited long enough.
    pub(super) fn look(&mut self, passed_us: i64) {
        self.looked_us = self.looked_us.max(passed_us);
    }

    fn add(&mut self, read: WaitingRead) {
        let connection = Connection::of(&read.outbox, read.tag);
        debug_assert!(!self.knows(connection), "a port gives nothing behind a read that waits");
        let number = self.next;
        self.next += 1;
        self.by_lsn.insert((read.lsn, number));
        self.by_deadline.insert((read.until_us, number));
        self.by_connection.insert((connection, number));
        self.reads.insert(number, read);
        self.check();
    }

    fn knows(&self, connection: Connection) -> bool {
        self.by_connection.range((connection, 0)..=(connection, u64::MAX)).next().is_some()
    }

    fn remove(&mut self, number: u64) -> WaitingRead {
        let Some(read) = self.reads.remove(&number) else { unreachable!("a read stands in every order or in none") };
        let connection = Connection::of(&read.outbox, read.tag);
        let known = self.by_lsn.remove(&(read.lsn, number))
            && self.by_deadline.remove(&(read.until_us, number))
            && self.by_connection.remove(&(connection, number));
        assert!(known, "a read stands in every order or in none");
        self.check();
        read
    }

    fn check(&self) {
        let orders = [self.by_lsn.len(), self.by_deadline.len(), self.by_connection.len()];
        assert_eq!(orders, [self.reads.len(); 3], "a read stands in every order or in none");
    }

    /// The next one whose wait is over when this LSN is applied.
    fn due(&self, lsn: u64) -> Option<u64> {
        let reached = self.by_lsn.first().filter(|(wanted, _)| *wanted <= lsn).map(|(_, number)| *number);
        reached.or_else(|| self.by_deadline.first().filter(|(until_us, _)| *until_us <= self.looked_us).map(|(_, number)| *number))
    }

    /// Drops what waits of this connection.
    pub(super) fn drop_of(&mut self, connection: Connection) {
        let numbers: Vec<u64> = self.by_connection.range((connection, 0)..=(connection, u64::MAX)).map(|(_, number)| *number).collect();
        for number in numbers {
            self.remove(number);
        }
    }
}

impl Engine {
    /// Has a read wait for an LSN that is not applied, if it says so; gives it back when it does not wait.
    pub(super) fn wait(&mut self, outbox: &Arc<Outbox>, tag: Tag, read: Read) -> Option<Read> {
        let Some(lsn) = read.options.min_lsn.filter(|lsn| *lsn > self.state.lsn() && read.options.wait_ms > 0) else {
            return Some(read);
        };
        if self.waits.len() >= WAITS_MAX {
            let error = ApiError::new(Code::Overloaded, format!("{WAITS_MAX} reads wait for an LSN"));
            outbox.add(tag, Reply::Refused(Box::new(error), self.state.registry().version));
            return None;
        }
        let Ok(wait_us) = i64::try_from(read.options.wait_ms.min(WAIT_MS_MAX) * 1000) else {
            unreachable!("a wait is at most {WAIT_MS_MAX} ms")
        };
        let until_us = self.passed_us().saturating_add(wait_us);
        self.waits.add(WaitingRead { outbox: Arc::clone(outbox), tag, read, lsn, until_us });
        self.deadline_moved = true;
        None
    }

    /// Whether reads wait whose wait is over.
    pub(crate) fn has_due_waits(&self) -> bool {
        self.waits.due(self.state.lsn()).is_some()
    }

    /// Answers reads whose LSN is applied or whose wait is over, as far as the slice lasts that began then.
    pub(super) fn answer_waits(&mut self, begun: Instant) {
        let mut outbox: Option<Arc<Outbox>> = None;
        let mut slice = Slice::since(begun);
        for _ in 0..WAITS_PER_EVENT {
            if slice.is_over() {
                break;
            }
            let Some(number) = self.waits.due(self.state.lsn()) else { break };
            let waiting = self.waits.remove(number);
            let Answer::Now(reply) = self.answer(Request::Get(waiting.read)) else { unreachable!("a read waits for no sync") };
            waiting.outbox.add(waiting.tag, reply);
            if let Some(before) = outbox.filter(|before| !Arc::ptr_eq(before, &waiting.outbox)) {
                before.ready();
            }
            outbox = Some(waiting.outbox);
        }
        if let Some(outbox) = outbox {
            outbox.ready();
        }
    }
}
