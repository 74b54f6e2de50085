//! What happens on the apply seat, as its histograms tell it apart.
//!
//! Handles are fetched once and held by the seat: an event costs one look at the clock and two relaxed adds.

use super::durations::Durations;
use super::families::Families;
use std::sync::Arc;
use std::time::Duration;

/// An event on the apply seat: what one thread does there before anybody else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatEvent {
    /// Another thread had something to tell.
    News,
    /// Deadlines and housekeeping.
    Tick,
    /// Requests of a port.
    Requests,
    /// Rows of an ingest thread are weighed and written, and the first of them applied.
    Rows,
    /// Rows that are written are applied.
    Slice,
    /// Rows that wait for room are tried again.
    Waiting,
    /// Reads of many entries, and reads that waited.
    Reads,
    /// Sparse chunks are emptied.
    Evacuation,
    /// What left the definitions is given back.
    Shedding,
    /// What has expired is given back.
    Sweep,
    /// An I/O thread's stay.
    Visit,
    /// What an operator asked for, or a rare change.
    Operator,
}

impl SeatEvent {
    /// All of them, by number.
    pub const ALL: [Self; 12] = [
        Self::News,
        Self::Tick,
        Self::Requests,
        Self::Rows,
        Self::Slice,
        Self::Waiting,
        Self::Reads,
        Self::Evacuation,
        Self::Shedding,
        Self::Sweep,
        Self::Visit,
        Self::Operator,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::News => "news",
            Self::Tick => "tick",
            Self::Requests => "requests",
            Self::Rows => "rows",
            Self::Slice => "slice",
            Self::Waiting => "waiting",
            Self::Reads => "reads",
            Self::Evacuation => "evacuation",
            Self::Shedding => "shedding",
            Self::Sweep => "sweep",
            Self::Visit => "visit",
            Self::Operator => "operator",
        }
    }
}

/// `streamgauge_seat_event_seconds` and `streamgauge_seat_turn_seconds`.
#[derive(Debug, Clone)]
pub struct SeatSeries {
    events: [Arc<Durations>; SeatEvent::ALL.len()],
    /// From one housekeeping to the next, while there was work.
    pub tick_turn: Arc<Durations>,
    /// From asking for the seat to having it.
    pub operator_turn: Arc<Durations>,
}

impl SeatSeries {
    pub(super) fn new(families: &Families) -> Self {
        let turn = |kind| families.duration("streamgauge_seat_turn_seconds", &[kind]);
        let events = SeatEvent::ALL.map(|event| families.duration("streamgauge_seat_event_seconds", &[event.as_str()]));
        Self { events, tick_turn: turn("tick"), operator_turn: turn("operator") }
    }

    /// An event took this long.
    #[inline]
    pub fn event(&self, event: SeatEvent, took: Duration) {
        let Some(series) = self.events.get(event as usize) else { unreachable!("every event has its number") };
        series.record(took);
    }

    /// How many events of a kind there were.
    pub fn count(&self, event: SeatEvent) -> u64 {
        self.events.get(event as usize).map_or(0, |series| series.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_stands_at_its_number() {
        for (number, event) in SeatEvent::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, number, "{event:?}");
        }
    }
}
