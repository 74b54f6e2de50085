//! What waits for the seat: packets of Kafka rows, rounds of ports' requests, and news of other threads.

use super::codec::rows_bytes;
use super::snapshotter::Outcome;
use crate::state::RowsContent;
use crate::wal::WalError;
use std::collections::VecDeque;
use std::sync::Arc;
use streamgauge_api::port::{Read, Request, Wait};
use streamgauge_api::{Reply, Slot, Tag};

/// Number of an inlet: whose packets keep their order among themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InletId(pub(crate) usize);

/// Decoded rows of one ingest thread, with the positions they bring their partitions to.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) inlet: InletId,
    pub(crate) content: RowsContent,
    /// Records in it, rejects and ignored ones included, by slot.
    pub(crate) records: Vec<(u32, u64)>,
    pub(crate) again: Vec<ReadAgain>,
    /// Smallest Kafka timestamp of its rows, ms, for the latency histogram; -1 when none.
    pub(crate) oldest_ms: i64,
    /// Bytes that its frame takes.
    pub(crate) bytes: usize,
}

/// A part of a partition that was read again: what waited there does so no more, but for the rows of the packet that do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadAgain {
    pub(crate) slot: Slot,
    /// Offsets `from..to`.
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Records that waited there and are there still.
    pub(crate) found: u64,
}

impl Packet {
    /// Whether it moves this partition.
    pub(crate) fn names(&self, slot: Slot) -> bool {
        self.content.positions.iter().any(|(named, _)| *named == slot)
    }

    /// What it counts in the queue: rows and rejects, and an empty packet as one.
    pub(crate) fn weight(&self) -> usize {
        (self.content.rows() + self.content.rejects.len()).max(1)
    }
}

/// One push inside a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) tag: Tag,
    /// Index of its first row in the frame.
    pub(crate) first_row: u32,
    pub(crate) count: u32,
    pub(crate) wait: Wait,
}

/// A step of a port's work, in the order of its requests.
#[derive(Debug)]
pub(crate) enum Step {
    /// Rows of pushes that share a frame.
    Rows { content: RowsContent, acks: Vec<Ack> },
    /// Anything else, and what it counts.
    Call { tag: Tag, request: Request, weight: usize },
    /// A connection is closed: reads that go on for it end.
    Gone(u64),
}

impl Step {
    /// What it counts among the requests that wait; large rows count more, so that what waits is bounded in bytes too.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Rows { content, .. } => content.rows().max(rows_bytes(content) / BYTES_PER_REQUEST).max(1),
            Self::Call { weight, .. } => (*weight).max(1),
            Self::Gone(_) => 1,
        }
    }

    /// Whether it may keep its thread for longer than an I/O thread may leave its sockets.
    pub(crate) fn is_heavy(&self) -> bool {
        match self {
            Self::Rows { content, .. } => rows_bytes(content) > VISIT_BYTES_MAX,
            Self::Call { request, .. } => !request.is_read(),
            Self::Gone(_) => false,
        }
    }

    /// How much of a look at the clock it costs: after [`LOOK_COST`] the time is looked at. A step that may
    /// take a slice by itself costs a whole look; a look costs 25 ns, a read of one key from 500 ns to 80 us.
    pub(crate) fn look_cost(&self) -> usize {
        match self {
            Self::Rows { .. } => LOOK_COST,
            Self::Call { request: Request::Get(_) | Request::GetFeature { .. }, .. } => LOOK_COST / 4,
            Self::Call { request: Request::Ping, .. } | Self::Gone(_) => 1,
            Self::Call { .. } => LOOK_COST,
        }
    }

    /// The requests in it.
    pub(crate) fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        let (acks, call) = match self {
            Self::Rows { acks, .. } => (&acks[..], None),
            Self::Call { tag, .. } => (&[][..], Some(*tag)),
            Self::Gone(_) => (&[][..], None),
        };
        acks.iter().map(|ack| ack.tag).chain(call)
    }
}

/// See [`Step::look_cost`].
pub(crate) const LOOK_COST: usize = 16;
/// Cells of a read of many entries that count as one request.
const CELLS_PER_REQUEST: usize = 16;

/// What a request counts among those that wait, when each entry of a `batch_get` reads `features` of its table: the
/// time that it takes goes by its cells.
pub(crate) fn weight_of(request: &Request, features: impl Fn(&str) -> usize) -> usize {
    match request {
        Request::BatchGet(reads) => {
            let runs = reads.chunk_by(|one, other| one.table == other.table);
            runs.map(|run| {
                let whole = features(&run[0].table);
                let cells = |read: &Read| read.options.features.as_ref().map_or(whole, Vec::len);
                run.iter().map(|read| 1 + cells(read) / CELLS_PER_REQUEST).sum::<usize>()
            })
            .sum()
        }
        Request::GetMany { features, keys } => keys.len() + keys.len().saturating_mul(features.len()) / CELLS_PER_REQUEST,
        _ => 1,
    }
}

/// Bytes of a frame that an I/O thread still writes itself.
const VISIT_BYTES_MAX: usize = 1 << 20;
/// Pushed bytes that count as one request.
const BYTES_PER_REQUEST: usize = 512;

/// What an I/O thread brings in one round.
pub(crate) struct Round {
    pub(crate) outbox: Arc<super::port::Outbox>,
    steps: VecDeque<Step>,
    weight: usize,
}

impl Round {
    /// These steps of one port, in their order.
    pub(crate) fn new(outbox: Arc<super::port::Outbox>, steps: VecDeque<Step>) -> Self {
        let weight = steps.iter().map(Step::weight).sum();
        Self { outbox, steps, weight }
    }

    /// What it counts among the requests that wait.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Steps that are left.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The next step, which is not served yet.
    pub(crate) fn peek(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// Takes the next step.
    pub(crate) fn next(&mut self) -> Option<Step> {
        let step = self.steps.pop_front()?;
        assert!(step.weight() <= self.weight, "a step that leaves was counted when it came");
        self.weight -= step.weight();
        Some(step)
    }

    /// Puts steps in front that come before all that is left.
    pub(crate) fn put_first(&mut self, first: Self) {
        assert!(Arc::ptr_eq(&self.outbox, &first.outbox), "a round is of one port");
        self.weight += first.weight;
        first.steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
    }

    /// What is left of it, if anything is.
    pub(crate) fn rest(self) -> Option<Self> {
        (!self.steps.is_empty()).then_some(self)
    }

    /// The connections that wait for its steps.
    pub(crate) fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        let port = Arc::as_ptr(&self.outbox).addr();
        self.steps.iter().flat_map(Step::tags).map(move |tag| Connection { port, number: tag.connection() })
    }
}

/// A connection of a port: its requests take effect in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Connection {
    port: usize,
    number: u64,
}

impl Connection {
    /// The connection that this request of a port came over.
    pub(crate) fn of(outbox: &Arc<super::port::Outbox>, tag: Tag) -> Self {
        Self::numbered(outbox, tag.connection())
    }

    /// The connection of this number of a port.
    pub(crate) fn numbered(outbox: &Arc<super::port::Outbox>, number: u64) -> Self {
        Self { port: Arc::as_ptr(outbox).addr(), number }
    }
}

/// What another thread has to tell the holder of the seat, without waiting for it.
#[derive(Debug)]
pub enum News {
    /// Everything up to this LSN is durable.
    Durable(u64),
    /// A write or sync failed for good.
    LogFailed(WalError),
    /// The snapshot thread has finished with the state it was given.
    SnapshotDone(Outcome),
}

/// A reply that waits for a sync.
pub(crate) struct Unsynced {
    pub(crate) lsn: u64,
    pub(crate) outbox: Arc<super::port::Outbox>,
    pub(crate) tag: Tag,
    pub(crate) reply: Reply,
}
