//! One partition as the ingest loop follows it.
//!
//! Invariant: `position` is computed from records taken and ends of partition seen, never read back from the client; `position.after` and
//! `position.epoch` always come from one record. Owned by the ingest thread; knows no client and no channel.

use crate::ext::ClientError;
use crate::incidents::Cause;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::source::{IncidentKind, PartitionGauge};
use streamgauge_api::{PartitionKey, Position, SchemaId, Slot, TopicId};

/// Waits between two tries of a partition that cannot go on.
const RETRIES: [Duration; 5] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(30)];

/// What a partition is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Known from the state; the cluster has not been asked about it.
    Unseen,
    /// The questions before an assign are under way.
    Asking {
        /// Number of the job; an answer to another one is out of date.
        round: u64,
    },
    /// Assigned.
    Reading,
    /// Assigned at the last pair that was read, which lies behind the log's end, so that the client asks where its leader
    /// epoch ends; no record counts meanwhile.
    Probing {
        /// Offset of the pair.
        after: i64,
        /// The log's start, where it is fetched meanwhile.
        low: i64,
    },
    /// Unassigned until the inlet has room.
    Held,
    /// Unassigned until the registry has given a schema.
    AwaitingSchema {
        /// What its record names it by.
        id: SchemaId,
    },
    /// Cannot go on now; asked again at this time.
    Waiting {
        /// When.
        until: Instant,
    },
    /// The log moved: only an operator can decide.
    Stopped,
    /// An operator gave it up.
    Forgotten,
}

/// What the client said that only the questions can confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    /// "truncation detected" at exactly our pair: the log was cut to `to` and refilled.
    Cut {
        /// End of what is common to both logs.
        to: i64,
        /// The client's text.
        text: String,
    },
    /// What was asked while the log ended in front of what was read of it: the end of what both logs have in common.
    Common {
        /// Behind the last record of both.
        to: i64,
    },
    /// The same was refused where the log began: brokers that know nothing of epochs, or a log that begins elsewhere by now.
    Unprobed {
        /// Where it began.
        low: i64,
    },
    /// "No epoch found": this log never had our epoch.
    ForeignEpoch {
        /// The client's text.
        text: String,
    },
    /// The client follows another topic id.
    Fenced {
        /// Its id.
        to: TopicId,
    },
}

/// One partition.
#[derive(Debug)]
pub struct Track {
    /// Which partition.
    pub key: PartitionKey,
    /// Its number in the engine.
    pub slot: Slot,
    /// Where everybody else sees it.
    pub gauge: Option<Arc<PartitionGauge>>,
    /// Where it stands: everything before is the inlet's.
    pub position: Position,
    /// Lowest offset that is not yet on its way to the inlet; equals `position.offset` between batches.
    pub next: i64,
    /// What it is doing.
    pub phase: Phase,
    /// Whether the client holds it.
    pub assigned: bool,
    /// Number of the first drain whose records count: records drained before belong to an earlier assignment.
    pub valid_from: u64,
    /// The open incident.
    pub incident: Option<(IncidentKind, Cause)>,
    /// Whether the open incident is of an earlier process.
    pub inherited: bool,
    /// The log's end as it was last learnt while the partition was read.
    pub read_end: Option<i64>,
    /// Looks in a row that heard nothing of the partition.
    pub deaf: u32,
    /// Readers that were made for it since it moved, in vain so far.
    pub renewals: u32,
    /// What the next verdict has to confirm.
    pub suspicion: Option<Suspicion>,
    /// The id that the client follows, once it said so.
    pub client_id: Option<TopicId>,
    /// Position at the last check that found the topic's id unchanged.
    pub proved: Option<i64>,
    /// Position when the id check that is under way was sent.
    pub proving: i64,
    /// An end in front of what was read before, which was asked about.
    pub doubted: Option<i64>,
    /// False alarms since the position moved.
    pub strikes: u32,
    /// Tries since the position moved.
    pub tries: usize,
    /// When the position moved, or reading began.
    pub moved: Instant,
    /// Position at the last look of the liveness check.
    pub seen: i64,
    /// Since when the last stable offset stands before the log end, and where.
    pub lso_since: Option<(Instant, i64)>,
    /// Whether this assignment has brought a record or an end: before that, what the client says about the log is of an earlier one.
    pub heard: bool,
    /// When the questions before the assign were sent, microseconds since the Unix epoch.
    pub asked_us: i64,
    /// When the log's end was last learnt, or a fetch was last answered.
    pub end_known: Option<Instant>,
    /// The next offset that the client fetches, since it was assigned.
    pub fetching: Option<i64>,
    /// The client's last word about it.
    pub last_error: Option<ClientError>,
    /// Records taken, not yet added to the gauge.
    pub read: u64,
}

impl Track {
    /// A partition that nothing has been asked about yet.
    pub fn new(key: PartitionKey, slot: Slot, gauge: Option<Arc<PartitionGauge>>, position: Position, now: Instant) -> Self {
        Self {
            key,
            slot,
            gauge,
            position,
            next: position.offset,
            phase: Phase::Unseen,
            assigned: false,
            valid_from: 0,
            incident: None,
            inherited: false,
            read_end: None,
            deaf: 0,
            renewals: 0,
            suspicion: None,
            client_id: None,
            proved: None,
            proving: position.offset,
            doubted: None,
            strikes: 0,
            tries: 0,
            moved: now,
            seen: position.offset,
            lso_since: None,
            heard: false,
            asked_us: 0,
            end_known: None,
            fetching: None,
            last_error: None,
            read: 0,
        }
    }

    /// A record was taken.
    pub fn took(&mut self, offset: i64, epoch: i32, timestamp_ms: i64) {
        self.position = Position { offset: offset + 1, after: offset + 1, epoch, record_time_ms: timestamp_ms, ..self.position };
        self.read += 1;
        self.heard = true;
    }

    /// The end of the partition was seen here. True when the position moved past markers; it never moves back.
    pub fn reached(&mut self, offset: i64) -> bool {
        self.heard = true;
        let moved = offset > self.position.offset;
        if moved {
            self.position.offset = offset;
            self.next = self.next.max(offset);
        }
        moved
    }

    /// Whether a record of this drain at this offset is to be offered. Counts it as on its way when it is.
    pub fn wants(&mut self, drain: u64, offset: i64) -> Wanted {
        if self.phase != Phase::Reading || drain < self.valid_from {
            return Wanted::Stale;
        }
        if offset < self.next {
            return Wanted::Duplicate;
        }
        let jump = offset > self.next;
        self.next = offset + 1;
        Wanted::Yes { jump }
    }

    /// The position has moved, or its end was reached: it is alive.
    pub fn alive(&mut self, now: Instant) {
        self.moved = now;
        self.seen = self.position.offset;
        self.strikes = 0;
        self.tries = 0;
        self.deaf = 0;
        self.renewals = 0;
    }

    /// The client fetches on from here: while that moves the partition is read, though all of it be aborted records, which
    /// are never delivered and move no position.
    pub fn fetches(&mut self, next: i64, now: Instant) {
        if next >= 0 && self.fetching.replace(next).is_some_and(|before| before != next) {
            (self.moved, self.end_known) = (now, Some(now));
        }
    }

    /// When to try again, later each time.
    pub fn retry_at(&mut self, now: Instant) -> Instant {
        let wait = RETRIES[self.tries.min(RETRIES.len() - 1)];
        self.tries += 1;
        now + wait
    }

    /// Why it stands still for now, when it does; an open transaction holds back what is behind it only.
    pub fn stalled(&self) -> Option<Cause> {
        self.incident.filter(|&(kind, cause)| kind == IncidentKind::Stalled && cause != Cause::Lso).map(|(_, cause)| cause)
    }

    /// Where the open incident says that reading can go on.
    pub fn resumes_at(&self) -> Option<i64> {
        self.gauge.as_ref().and_then(|gauge| gauge.incident()).and_then(|open| open.resume_offset)
    }

    /// Whether only an operator can make it go on.
    pub fn stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Forgotten)
    }
}

/// Answer of [`Track::wants`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Offer it; `jump`: offsets before it were delivered to nobody (markers, compaction).
    Yes {
        /// Whether offsets were left out.
        jump: bool,
    },
    /// It was offered before.
    Duplicate,
    /// It belongs to an assignment that has ended.
    Stale,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(offset: i64) -> Track {
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
        let position = Position { after: offset, epoch: 3, ..Position::start(offset) };
        let mut track = Track::new(key, Slot(0), None, position, Instant::now());
        track.phase = Phase::Reading;
        track
    }

    #[test]
    fn an_end_moves_the_offset_but_never_the_pair() {
        let mut track = track(5);
        assert!(track.reached(11));
        assert_eq!((track.position.offset, track.position.after, track.position.epoch), (11, 5, 3));
        assert!(!track.reached(9), "an end never moves a position back");
        assert_eq!(track.wants(0, 10), Wanted::Duplicate);
        assert_eq!(track.wants(0, 11), Wanted::Yes { jump: false });
    }

    #[test]
    fn records_of_an_ended_assignment_and_duplicates_are_told_apart() {
        let mut track = track(100);
        track.valid_from = 7;
        for (drain, offset, expected) in [
            (6, 100, Wanted::Stale),
            (7, 99, Wanted::Duplicate),
            (7, 100, Wanted::Yes { jump: false }),
            (7, 103, Wanted::Yes { jump: true }),
            (7, 103, Wanted::Duplicate),
        ] {
            assert_eq!(track.wants(drain, offset), expected, "offset {offset} of drain {drain}");
        }
        track.phase = Phase::Held;
        assert_eq!(track.wants(8, 104), Wanted::Stale);
    }
}
