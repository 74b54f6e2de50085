//! What waits for the seat: packets of Kafka rows, requests of ports, and news of other threads.

use crate::state::RowsContent;
use crate::wal::WalError;
use std::sync::Arc;
use streamgauge_api::port::{Request, Wait};
use streamgauge_api::{Reply, Tag};

/// Decoded rows of one ingest thread, with the positions they bring their partitions to.
pub(crate) struct Packet {
    pub(crate) content: RowsContent,
    /// Records in it, rejects and ignored ones included, by slot.
    pub(crate) records: Vec<(u32, u64)>,
    /// Smallest Kafka timestamp of its rows, ms, for the latency histogram; -1 when none.
    pub(crate) oldest_ms: i64,
    pub(crate) bytes: usize,
}

impl Packet {
    /// What it counts in the queue: an empty packet counts as one row.
    pub(crate) fn weight(&self) -> usize {
        self.content.rows().max(1)
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
pub(crate) enum Step {
    /// Rows of pushes that share a frame.
    Rows { content: RowsContent, acks: Vec<Ack> },
    /// Anything else.
    Call(Tag, Request),
}

/// What an I/O thread brings in one round.
pub(crate) struct PortWork {
    pub(crate) outbox: Arc<super::port::Outbox>,
    pub(crate) steps: Vec<Step>,
    pub(crate) requests: usize,
}

/// What another thread has to tell the holder of the seat, without waiting for it.
#[derive(Debug)]
pub enum News {
    /// Everything up to this LSN is durable.
    Durable(u64),
    /// A write or sync failed for good.
    LogFailed(WalError),
    /// The snapshot thread has finished with the state it was given, well or not.
    SnapshotDone,
}

/// A reply that waits for a sync.
pub(crate) struct Unsynced {
    pub(crate) lsn: u64,
    pub(crate) outbox: Arc<super::port::Outbox>,
    pub(crate) tag: Tag,
    pub(crate) reply: Reply,
}
