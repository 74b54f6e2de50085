//! Where a source stands: which partition of which topic of which cluster, and the next offset wanted there.
//!
//! A position belongs to (event, cluster id, topic id, partition), never to the name of a source, so renaming a source in the
//! config counts nothing twice.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A Kafka topic id (16 bytes); all zero when the broker is too old to have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id of brokers that have none.
    pub const NONE: TopicId = TopicId([0; 16]);

    /// Whether the broker gave an id at all.
    pub fn is_known(&self) -> bool {
        *self != Self::NONE
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One partition as the state knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionKey {
    /// Name of the event that the partition's records become.
    pub event: String,
    /// Cluster id as the brokers report it; empty when they report none.
    pub cluster: String,
    /// Topic name, for people and for old brokers.
    pub topic: String,
    /// Topic id; [`TopicId::NONE`] on brokers without ids.
    pub topic_id: TopicId,
    /// Partition number.
    pub partition: i32,
}

/// The place in one partition. `after` and `epoch` are one pair from the same record: that pair is what a consumer is assigned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The next offset to read. Past transaction markers when an end-of-partition said so.
    pub offset: i64,
    /// Offset of the last applied record + 1; -1 when no record was applied yet.
    pub after: i64,
    /// Leader epoch of the record at `after - 1`; -1 when unknown.
    pub epoch: i32,
    /// Kafka timestamp (ms) of the last applied record; -1 when none.
    pub record_time_ms: i64,
    /// The partition's clock (ms): how far its records have come in time, never beyond the time they were
    /// read at; -1 while unknown. Row times are judged by it, so it stands with the position.
    pub clock_ms: i64,
}

impl Position {
    /// The start of a partition of which no record was applied yet.
    pub fn start(offset: i64) -> Self {
        Self { offset, after: -1, epoch: -1, record_time_ms: -1, clock_ms: -1 }
    }

    /// Of a partition that an operator gave up.
    pub const FORGOTTEN: Self = Self { offset: -1, after: -1, epoch: -1, record_time_ms: -1, clock_ms: -1 };

    /// How far the partition has come in time (ms), -1 when unknown: its clock, so that neither a late record nor
    /// one with a fast clock at the end of a packet says otherwise; without one, the last record's timestamp.
    pub fn reached_ms(&self) -> i64 {
        if self.clock_ms >= 0 { self.clock_ms } else { self.record_time_ms }
    }
}

/// A position with its partition, as recovery hands it to a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPosition {
    /// Which partition.
    pub key: PartitionKey,
    /// Where it stands.
    pub position: Position,
}

impl StoredPosition {
    /// Whether an operator gave the position up: the partition is as unknown as one never seen, but
    /// for its slot.
    pub fn is_forgotten(&self) -> bool {
        self.position.offset < 0
    }
}

/// Number of a known partition: its place in the state's list of positions. The engine gives it out at [`crate::Inlet::attach`], in a WAL frame of its own, and never
/// gives it to another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);
