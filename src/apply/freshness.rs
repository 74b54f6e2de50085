//! How fresh a table is: the worst lag of the partitions that feed it, computed at most every few milliseconds per event.

use super::incidents::Incidents;
use crate::row::EventId;
use crate::state::{RowsContent, State};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::metrics::{Metrics, SourceSeries};
use streamgauge_api::port::Freshness;
use streamgauge_api::source::{PartitionGauge, SourceBoard};

/// A lag is computed again after this long.
const KEEP_US: i64 = 5_000;

/// What is known of an event for a few milliseconds.
#[derive(Clone)]
struct Known {
    /// When it was computed.
    at_us: i64,
    lag_ms: Option<i64>,
    /// Whether a source feeds it of which nobody can say how far behind it is.
    lag_unknown: bool,
    /// Kind of the first open incident of a partition.
    incident: Option<Arc<str>>,
    /// Sources that feed it.
    sources: Arc<[String]>,
}

/// Gauges by slot, and lags by event.
#[derive(Default)]
pub(crate) struct Freshnesses {
    gauges: Vec<Option<Arc<PartitionGauge>>>,
    lags: HashMap<EventId, Known>,
    sources: HashMap<String, SourceSeries>,
}

impl Freshnesses {
    /// The gauge of a slot.
    pub(crate) fn gauge(&mut self, board: &SourceBoard, slot: u32) -> Option<&Arc<PartitionGauge>> {
        let index = slot as usize;
        if self.gauges.len() <= index {
            self.gauges.resize_with(index + 1, || None);
        }
        let known = self.gauges.get_mut(index)?;
        if known.is_none() {
            *known = board.get(slot);
        }
        known.as_ref()
    }

    /// The partition at this slot is shown anew.
    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(known) = self.gauges.get_mut(slot as usize) {
            *known = None;
        }
        self.lags.clear();
    }

    /// Freshness of a read over these tables at `as_of_us`: the worst lag, and the first open incident of a partition that feeds one, else of a
    /// source, a table or the server.
    pub(crate) fn of(
        &mut self,
        state: &State,
        board: &SourceBoard,
        incidents: &Incidents,
        tables: &[&str],
        now_us: i64,
        as_of_us: i64,
    ) -> Freshness {
        let mut worst = None;
        let mut lag_unknown = false;
        let mut incident = None;
        let mut gap_us: Option<i64> = None;
        for name in tables {
            let Some(table) = state.table(name) else { continue };
            let known = self.event(&table.def().event_name, table.def().event, board, now_us);
            worst = worst.max(known.lag_ms);
            lag_unknown |= known.lag_unknown;
            let since_us = state.gap_since_us(table);
            gap_us = gap_us.into_iter().chain(since_us).min();
            incident = incident.or_else(|| known.incident.clone());
            incident = incident.or_else(|| incidents.of_table(name, &known.sources).map(|kind| Arc::from(kind.as_str())));
        }
        Freshness {
            as_of_ms: as_of_us.div_euclid(1000),
            lag_ms: worst,
            lag_unknown,
            lsn: state.lsn(),
            incident,
            complete_since_ms: None,
            gap_since_ms: gap_us.map(|us| us / 1000),
        }
    }

    fn event(&mut self, name: &str, id: EventId, board: &SourceBoard, now_us: i64) -> Known {
        if let Some(known) = self.lags.get(&id)
            && (now_us - known.at_us).abs() < KEEP_US
        {
            return known.clone();
        }
        let partitions = board.partitions();
        let mine = partitions.iter().filter(|gauge| gauge.key.event == name);
        let mut worst = None;
        let mut incident = None;
        let sources = board.sources_of(name);
        let mut lag_unknown = board.is_awaited(name);
        for gauge in mine {
            let lag_ms = gauge.lag_ms(now_us);
            worst = worst.max(lag_ms);
            lag_unknown |= lag_ms.is_none();
            if incident.is_none() {
                incident = gauge.incident().map(|open| Arc::from(open.kind.as_str()));
            }
        }
        let known = Known { at_us: now_us, lag_ms: worst, lag_unknown, incident, sources: sources.into() };
        self.lags.insert(id, known.clone());
        known
    }

    /// Records how long after its Kafka timestamp the oldest record of a packet became visible.
    pub(crate) fn visible(&mut self, metrics: &Metrics, board: &SourceBoard, content: &RowsContent, now_us: i64, oldest_ms: i64) {
        let Some((slot, _)) = content.positions.first() else { return };
        let Some(source) = self.gauge(board, slot.0).map(|gauge| gauge.source.clone()) else { return };
        let series = self.sources.entry(source).or_insert_with_key(|source| metrics.source_series(source));
        let age_us = (now_us - oldest_ms.saturating_mul(1000)).max(0);
        series.visible.record(Duration::from_micros(age_us.unsigned_abs()));
    }
}
