//! A row's time against the clock it was taken by.
//!
//! A row carries how far its time lies ahead of that clock. The clock of a push is the time of its frame; that of
//! a Kafka record is its partition's, which follows the records' own timestamps, so that a row of last week is
//! judged by last week. Apply needs no clock of its own: a key's *edge* is the largest `time - ahead` of its rows,
//! and lateness and eviction go by the edge alone. One fast clock therefore hides nobody else's rows.

/// What a row's time is measured against, microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowClock {
    /// When the row arrived.
    pub now_us: i64,
    /// What its time is judged by: `now_us` for a push, the partition's clock for a record.
    pub clock_us: i64,
    /// From where `max_future` counts: the clock, or the record's own timestamp when that is later.
    pub latest_us: i64,
}

impl RowClock {
    /// The clock of rows that are judged by their arrival.
    pub fn at(now_us: i64) -> Self {
        Self { now_us, clock_us: now_us, latest_us: now_us }
    }

    /// A row time as this clock sees it.
    #[inline]
    pub fn of(self, time_us: i64) -> RowTime {
        RowTime { time_us, ahead_us: time_us.saturating_sub(self.clock_us).max(0) }
    }
}

/// A row's time, and how far it is ahead of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTime {
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// Microseconds ahead of the clock; 0 when it is not.
    pub ahead_us: i64,
}

impl From<i64> for RowTime {
    /// A time that is not ahead of its clock.
    #[inline]
    fn from(time_us: i64) -> Self {
        Self { time_us, ahead_us: 0 }
    }
}
