//! Handles that hot threads hold: fetched once, then one relaxed add per count.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec};

use super::OTHER;
use super::durations::Durations;
use super::families::sound;
use crate::error::Code;

/// Statuses that our listeners answer with; any other one is `other`.
const STATUSES: &[u16] = &[200, 400, 403, 404, 405, 408, 409, 413, 415, 431, 500, 501, 503, 507];

/// The funnel of one table, one handle per stage.
#[derive(Debug, Clone)]
pub struct TableSeries {
    /// Rows of the table's event that came in.
    pub received: IntCounter,
    /// Of those, rows that were decoded.
    pub decoded: IntCounter,
    /// Records that could not become a row.
    pub bad: IntCounter,
    /// Rows that `where` or the chain dropped.
    pub filtered: IntCounter,
    /// Rows with a null key column.
    pub null_key: IntCounter,
    /// Rows older than every bucket.
    pub late: IntCounter,
    /// Rows applied.
    pub applied: IntCounter,
    /// Keys that deletes forgot.
    pub deleted: IntCounter,
    /// Deletes that forgot none.
    pub undeleted: IntCounter,
    /// `streamgauge_memory_refused_rows_total`.
    pub memory_refused: IntCounter,
}

/// Counters of one event.
#[derive(Debug, Clone)]
pub struct EventSeries {
    /// Pushed rows that were acknowledged.
    pub push_accepted: IntCounter,
    /// Pushed rows that were refused.
    pub push_refused: IntCounter,
    /// Rows applied, from pushes and from sources.
    pub applied: IntCounter,
}

/// Series of one source.
#[derive(Clone)]
pub struct SourceSeries {
    label: String,
    bad: IntCounterVec,
    /// `streamgauge_event_to_visible_seconds`.
    pub visible: Arc<Durations>,
    /// `streamgauge_kafka_connects_total`.
    pub connects: IntCounter,
    /// `streamgauge_kafka_errors_total`.
    pub errors: IntCounter,
}

impl SourceSeries {
    pub(super) fn new(label: &str, bad: IntCounterVec, visible: Arc<Durations>, [connects, errors]: [IntCounter; 2]) -> Self {
        Self { label: label.to_owned(), bad, visible, connects, errors }
    }

    /// The counter of records refused with this code.
    pub fn bad(&self, code: Code) -> IntCounter {
        sound(self.bad.get_metric_with_label_values(&[self.label.as_str(), code.as_str()]))
    }
}

/// Requests of one route, by status.
#[derive(Debug, Clone)]
pub struct RouteSeries {
    by_status: Vec<IntCounter>,
    other: IntCounter,
}

impl RouteSeries {
    pub(super) fn new(status: impl Fn(&str) -> IntCounter) -> Self {
        Self { by_status: STATUSES.iter().map(|code| status(&code.to_string())).collect(), other: status(OTHER) }
    }

    /// The counter of answers with this status.
    pub fn status(&self, status: u16) -> &IntCounter {
        STATUSES.iter().position(|known| *known == status).and_then(|index| self.by_status.get(index)).unwrap_or(&self.other)
    }
}

/// Level of one table at a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLevel {
    /// Table.
    pub table: String,
    /// Keys.
    pub keys: u64,
    /// Bytes of index, rows and arena.
    pub bytes: u64,
}
