//! The door for history: what a source's topics still have, read a second time beside the ingest thread.
//!
//! A [`Past`] is asked by the engine for one event; it opens a reader with a client of its own, which exists for as
//! long as a run does. Records come partition by partition, in offset order, up to an offset that the caller names: so
//! the caller decides how partitions are merged, and a partition that is ahead is simply not asked. Aborted records
//! never come, and a partition without further records says how far its log goes, so that an end is an offset and not
//! a record. Called on the history thread alone; every call is bounded in time.

use crate::inlet::{FetchedSchema, RawRecord};
use crate::position::PartitionKey;
use crate::schema_id::SchemaId;
use std::time::Duration;

/// Where reading a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastFrom {
    /// At the log start.
    LogStart,
    /// At the first record at or after this time, ms.
    Time(i64),
}

/// What a partition's log has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRange {
    /// Log start.
    pub low: i64,
    /// Where reading begins.
    pub start: i64,
    /// The last stable offset.
    pub end: i64,
}

/// Why history cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PastTrouble {
    /// Brokers or a registry do not answer, or refuse: the same may work later.
    Away(String),
    /// The topic is another one than the positions are of, or is gone: everything read so far is of another log.
    Moved(String),
    /// Records that were to be read are no longer there.
    Gap(String),
}

/// What one call gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastRead {
    /// Everything below the asked offset was given.
    Complete,
    /// More may come; records were given, or time passed.
    More,
}

/// Reads one event's history from one source, on the thread that opened it.
pub trait PastReader {
    /// What the logs have, in the order of the partitions that the reader was opened with.
    ///
    /// # Errors
    /// [`PastTrouble`].
    fn ranges(&mut self, from: PastFrom) -> Result<Vec<PastRange>, PastTrouble>;

    /// Begins to read each partition at its offset.
    ///
    /// # Errors
    /// [`PastTrouble`].
    fn begin(&mut self, starts: &[i64]) -> Result<(), PastTrouble>;

    /// Gives the next records of one partition below `until`, waiting for the first at most `wait`. `take` says how many
    /// of them it took; the others come again.
    ///
    /// # Errors
    /// [`PastTrouble`].
    fn read(
        &mut self,
        partition: usize,
        until: i64,
        wait: Duration,
        take: &mut dyn FnMut(&[RawRecord<'_>]) -> usize,
    ) -> Result<PastRead, PastTrouble>;

    /// The writer schema that records name by this id; none when the registry says that there is none.
    ///
    /// # Errors
    /// [`PastTrouble::Away`].
    fn schema(&mut self, id: SchemaId) -> Result<Option<FetchedSchema>, PastTrouble>;
}

/// Sources that can be read a second time.
pub trait Past: Send + Sync {
    /// The sources that feed an event, by name.
    fn sources_of(&self, event: &str) -> Vec<String>;

    /// A reader of these partitions of a source.
    ///
    /// # Errors
    /// [`PastTrouble::Away`] when no client can be made.
    fn open(&self, source: &str, partitions: &[PartitionKey]) -> Result<Box<dyn PastReader>, PastTrouble>;

    /// Whether a source selects this topic.
    fn selects(&self, source: &str, topic: &str) -> bool;
}
