//! Whether the sources have caught up since the start, and what stands against it.
//!
//! A partition has caught up when everything up to an end that a broker told since the start is
//! applied ([`PartitionGauge::caught_up`]); a source only counts once it knows its topics. What an
//! incident stops does not catch up by itself, so it is told apart from what is on its way: `/ready`
//! names the incident then, and no wait that would not end.
//!
//! Pure looks at the board; asked by the thread that waits at the start and by the probes.

use super::incidents::{Incidents, Subject};
use streamgauge_api::source::{IncidentKind, SourceBoard};

/// Partitions, and sources that do not know their partitions yet, that have not caught up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CatchUp {
    /// On their way.
    pub going: usize,
    /// Stopped by an incident.
    pub stopped: usize,
}

impl CatchUp {
    /// How it stands now.
    pub fn of(board: &SourceBoard, incidents: &Incidents) -> Self {
        let mut all = Self::default();
        let mut count = |stopped: bool| if stopped { all.stopped += 1 } else { all.going += 1 };
        for gauge in board.partitions().iter().filter(|gauge| !gauge.caught_up()) {
            count(gauge.incident().is_some_and(|open| open.kind.stops()));
        }
        for source in board.awaited() {
            count(incidents.is_open(IncidentKind::Stalled, &Subject::source(&source)));
        }
        all
    }

    /// Whether everything has caught up.
    pub fn is_done(self) -> bool {
        self == Self::default()
    }

    /// The reasons in `/ready` while it is waited for.
    pub fn reasons(self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.going > 0 || self.stopped == 0 {
            reasons.push("catching_up".to_owned());
        }
        if self.stopped > 0 {
            reasons.push("source_stopped".to_owned());
        }
        assert!(!reasons.is_empty(), "who waits has a reason");
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::super::incidents::IncidentText;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use streamgauge_api::source::{Incident, PartitionGauge};
    use streamgauge_api::{PartitionKey, TopicId};

    fn partition(board: &SourceBoard, slot: u32, end: i64, applied: i64, stopped: bool) {
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
        let gauge = PartitionGauge::new("s", key, 0);
        gauge.reading.store(!stopped, Ordering::Relaxed);
        gauge.begins_before(end);
        // As young as can be.
        gauge.applied_to(applied, i64::MAX / 2000);
        if let Ok(mut open) = gauge.incident.write() {
            let words = String::new;
            let kind = IncidentKind::Stalled;
            *open = stopped.then(|| Incident {
                kind,
                cause: words(),
                opened_us: 0,
                lost: words(),
                holds: words(),
                evidence: words(),
                actions: vec![],
                resume_offset: None,
            });
        }
        board.put(slot, Arc::new(gauge));
    }

    fn reasons(partitions: &[(i64, i64, bool)], unknown: Option<bool>) -> Vec<String> {
        let (board, incidents) = (SourceBoard::default(), Incidents::default());
        for (slot, (end, applied, stopped)) in (0u32..).zip(partitions) {
            partition(&board, slot, *end, *applied, *stopped);
        }
        board.awaits("s", "E");
        board.knows("s", unknown.is_none());
        if unknown == Some(true) {
            incidents.open(IncidentKind::Stalled, &Subject::source("s"), 1, IncidentText::default);
        }
        let all = CatchUp::of(&board, &incidents);
        if all.is_done() { Vec::new() } else { all.reasons() }
    }

    /// Before, a partition with a young last record had caught up, also one that a bad record stopped.
    #[test]
    fn what_has_not_reached_its_end_is_on_its_way_or_stopped() {
        for (partitions, unknown, expected) in [
            (&[(21, 21, false)][..], None, &[][..]),
            (&[(21, 21, false), (21, 20, false)], None, &["catching_up"]),
            (&[(21, 21, false), (21, 10, true)], None, &["source_stopped"]),
            (&[(21, 21, true)], None, &["source_stopped"]),
            (&[(21, 3, false), (21, 10, true)], None, &["catching_up", "source_stopped"]),
            (&[(21, 21, false)], Some(false), &["catching_up"]),
            (&[], Some(true), &["source_stopped"]),
        ] {
            assert_eq!(reasons(partitions, unknown), expected, "{partitions:?} {unknown:?}");
        }
    }
}
