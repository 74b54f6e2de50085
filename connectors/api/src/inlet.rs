//! The door for records with a position: Kafka sources.
//!
//! An [`Inlet`] belongs to one ingest thread. Decoding happens inside [`Inlet::offer`], on that thread; decoded rows go through a bounded queue to the
//! apply thread. Taking a record and remembering its position are one act: both stand in the same WAL frame.

use crate::decision::GoOn;
use crate::error::ApiError;
use crate::position::{PartitionKey, Position, Slot};
use crate::schema_id::SchemaId;
use crate::source::Incident;
use std::time::Duration;

/// Looks a record's header up; implemented by the connector over its own message type.
pub trait Headers {
    /// The value of the last header of this name. `None`: no such header; `Some(None)`: a header with a null value.
    fn last(&self, name: &str) -> Option<Option<&[u8]>>;
    /// Visits all headers in order.
    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>));
}

/// A record as the connector holds it; borrowed for one [`Inlet::offer`] call.
#[derive(Clone, Copy)]
pub struct RawRecord<'a> {
    /// The attached partition that it came from.
    pub slot: Slot,
    /// Its offset.
    pub offset: i64,
    /// Leader epoch of its batch, -1 when unknown.
    pub epoch: i32,
    /// Kafka timestamp in ms, -1 when none.
    pub timestamp_ms: i64,
    /// Key bytes.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers; `None` says for sure that the record has none.
    pub headers: Option<&'a dyn Headers>,
}

/// How far [`Inlet::offer`] came.
#[derive(Debug)]
pub struct Offered {
    /// The first `taken` records of the slice are the engine's now (as rows, rejects or filtered); their positions have moved.
    pub taken: usize,
    /// Why it stopped before the end of the slice; `None` when all were taken.
    pub stop: Option<Stop>,
}

/// Why a record at index `taken` was not taken.
#[derive(Debug)]
pub enum Stop {
    /// The queue towards the apply thread is full. Offer the rest again after [`Inlet::wait_room`]. Concerns all slots.
    Full,
    /// The record's writer schema is not known yet: fetch it from that slot's registry and call [`Inlet::schema`]. Concerns this slot only.
    NeedSchema {
        /// Slot of the record.
        slot: Slot,
        /// What the record names the schema by.
        id: SchemaId,
    },
    /// The slot cannot go on: the writer schema cannot serve the event, or `on_bad_record = "stop"` met a bad record. Concerns this slot only.
    Stalled {
        /// Slot of the record.
        slot: Slot,
        /// `schema` or `bad_record`, as in an incident's cause.
        cause: &'static str,
        /// What is wrong with it.
        error: ApiError,
    },
    /// Records that were applied are no longer in the slot's log: it was cut and written anew. Stops this slot until an operator decides.
    Truncated {
        /// Slot of the record.
        slot: Slot,
        /// How far the log was read before.
        from: i64,
        /// The first record that is another one now.
        to: i64,
        /// What says so.
        evidence: String,
    },
}

/// A schema as a registry holds it, references resolved.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FetchedSchema {
    /// The registry it came from, without credentials (`http://host:port/base`).
    pub registry: String,
    /// What records name it by.
    pub id: SchemaId,
    /// `AVRO`, `JSON` or `PROTOBUF`.
    pub kind: String,
    /// The schema text.
    pub text: String,
    /// Referenced schemas, dependencies first.
    pub references: Vec<SchemaReference>,
}

impl std::fmt::Display for FetchedSchema {
    /// How messages name it; one without a registry is the config's file.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.registry.as_str() {
            "" => write!(out, "the schema file"),
            registry => write!(out, "schema {} of {registry}", self.id),
        }
    }
}

/// A schema that another one refers to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SchemaReference {
    /// What it is imported as.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What was read of a partition beyond its position: all of it is in the tables, but for the records that wait for room.
/// After a restart these are read again, so the log has to have them still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBefore {
    /// How far the log was read.
    pub reached: Position,
    /// Offsets that wait, `from..to`, ascending.
    pub waits: Vec<(i64, i64)>,
}

impl ReadBefore {
    /// The first record at or behind this offset that waits.
    pub fn first_from(&self, offset: i64) -> Option<i64> {
        let (from, _) = self.waits.get(self.waits.partition_point(|(_, to)| *to <= offset))?;
        Some(offset.max(*from))
    }

    /// How many records of these offsets wait.
    pub fn waiting(&self, offsets: std::ops::Range<i64>) -> i64 {
        let within = |(from, to): &(i64, i64)| (*to.min(&offsets.end) - *from.max(&offsets.start)).max(0);
        self.waits.iter().map(within).sum()
    }
}

/// The engine's side of a Kafka ingest thread.
pub trait Inlet: Send {
    /// Makes a partition known. `start` is written to the WAL before its first record when the state has no position for it yet; otherwise the stored
    /// position wins and is returned. `source` is the name of the `[sources.x]` section that reads it.
    ///
    /// # Errors
    /// `source_conflict` when another running source already feeds this event from this partition.
    fn attach(&mut self, source: &str, key: &PartitionKey, start: Position) -> Result<(Slot, Position), ApiError>;

    /// Takes records in order, decoding them on this thread. Never blocks on the apply thread.
    fn offer(&mut self, records: &[RawRecord<'_>]) -> Offered;

    /// The partition's end without records: the position moves past markers and aborted tails. False where the log was
    /// read further than that before: then it moves nothing, and what the log has is to be asked.
    #[must_use]
    fn end_of_partition(&mut self, slot: Slot, offset: i64) -> bool;

    /// What was read of a partition before and waits for room, while it is read again: behind the position that `offer` has
    /// come to it is so still. None where nothing waits but in memory.
    fn read_before(&self, slot: Slot) -> Option<ReadBefore>;

    /// Hands over what `offer` collected so far, so that a quiet stream is visible at once. Returns false when the queue is full.
    fn flush(&mut self) -> bool;

    /// Waits until the queue has room again, at most `limit`. True when it has.
    fn wait_room(&mut self, limit: Duration) -> bool;

    /// Gives the schema that [`Stop::NeedSchema`] asked for.
    ///
    /// # Errors
    /// `schema_unusable` when it does not parse or cannot serve the slot's event.
    fn schema(&mut self, slot: Slot, schema: &FetchedSchema) -> Result<(), ApiError>;

    /// The registry says for good that this id does not exist: records with it are bad records from now on.
    fn schema_missing(&mut self, slot: Slot, id: SchemaId, detail: &str);

    /// Records an incident on a slot (a WAL frame), or one of another cause in its place; one that is recorded already changes nothing. The source shows it.
    fn incident_opened(&mut self, slot: Slot, incident: &Incident);

    /// Records that the slot's incident is closed, if one is recorded.
    fn incident_closed(&mut self, slot: Slot);

    /// Whether [`Inlet::go_on`] would carry this out now; nothing is changed. What was offered of the partition before is
    /// applied first.
    ///
    /// # Errors
    /// As `go_on`.
    fn may_go_on(&mut self, slot: Slot, decided: &GoOn) -> Result<(), ApiError>;

    /// Carries out an operator's decision about a partition that an incident stops: a WAL frame that
    /// moves it, or forgets it, closes its incident and remembers what is lost. What was offered of
    /// it before is applied first.
    ///
    /// # Errors
    /// `overloaded` while rows of it wait for room in memory, and what the log refuses with; nothing
    /// has changed then.
    fn go_on(&mut self, slot: Slot, decided: &GoOn) -> Result<(), ApiError>;

    /// The whole source cannot go on, for this reason, or it can again. Said as often as it is seen;
    /// it is an observation of this process, so nothing is written.
    fn source_incident(&mut self, source: &str, incident: Option<Incident>);

    /// Positions covered by a completed fsync, for group commits.
    fn durable_positions(&self) -> Vec<(Slot, Position)>;

    /// The engine is stopping: no further offers are taken.
    fn stopping(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_found_and_counted_by_offset() {
        let before = ReadBefore { reached: Position::start(40), waits: vec![(10, 13), (20, 21), (30, 35)] };
        for (offset, first) in [(0, Some(10)), (11, Some(11)), (13, Some(20)), (21, Some(30)), (34, Some(34)), (35, None)] {
            assert_eq!(before.first_from(offset), first, "from {offset}");
        }
        for (offsets, waiting) in [(0..40, 9), (12..31, 3), (13..20, 0), (33..33, 0), (20..21, 1)] {
            assert_eq!(before.waiting(offsets.clone()), waiting, "{offsets:?}");
        }
    }
}
