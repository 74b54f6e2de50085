//! Notices that windows refuse rows which are too far ahead of their key's edge, and says so as an incident.
//!
//! The state counts such rows by window; apply looks at the counts once a second. The incident stays open for ten
//! minutes after the last such row, so that one producer with a fast clock does not open and close it all day.

use super::incidents::{IncidentText, Incidents, Subject};
use crate::state::{State, Table};
use std::collections::BTreeMap;
use streamgauge_api::source::IncidentKind;

/// Counts are looked at this often.
const LOOK_EVERY_US: i64 = 1_000_000;
/// How long after the last refused row the incident closes.
const OPEN_FOR_US: i64 = 600_000_000;

/// Rows refused so far, by table id.
#[derive(Debug, Default)]
pub(super) struct RowsAhead {
    /// Boot time.
    looked_us: i64,
    refused: BTreeMap<u32, u64>,
}

impl RowsAhead {
    /// What was refused before this process counts: told when it happened, or replayed from the log.
    pub(super) fn of(state: &State) -> Self {
        Self { looked_us: 0, refused: state.tables().map(|table| (table.def().id, total(table))).collect() }
    }

    /// Opens and closes incidents by what was refused since the last look. `passed_us` is boot time, which says
    /// when to look; `now_us` is the time of incidents.
    pub(super) fn look(&mut self, state: &State, incidents: &Incidents, now_us: i64, passed_us: i64) {
        if passed_us.saturating_sub(self.looked_us) < LOOK_EVERY_US {
            return;
        }
        self.looked_us = passed_us;
        let mut refused = BTreeMap::new();
        for table in state.tables() {
            let total = total(table);
            let before = self.refused.get(&table.def().id).copied().unwrap_or(0);
            if total > before {
                let subject = Subject::table(&table.def().name);
                incidents.open(IncidentKind::RowsAhead, &subject, now_us, || text(table, total - before));
            }
            refused.insert(table.def().id, total);
        }
        self.refused = refused;
        incidents.close_unseen(IncidentKind::RowsAhead, now_us.saturating_sub(OPEN_FOR_US));
    }
}

/// Rows that the table's windows refused for being too far ahead.
fn total(table: &Table) -> u64 {
    table.missed().values().map(|missed| missed.ahead).sum()
}

fn text(table: &Table, lately: u64) -> IncidentText {
    let mut evidence = format!("{lately} in the last second; since the start");
    for ((window_us, resolution), missed) in table.missed().iter().filter(|(_, missed)| missed.ahead > 0) {
        evidence.push_str(&format!(" {} by the window of {} ms in {resolution} buckets", missed.ahead, window_us / 1000));
    }
    IncidentText {
        cause: "fast_clock".into(),
        lost: "rows further ahead of their key than a window has room for (64 of its buckets) are not in that window".into(),
        holds: "longer windows, lifetime features and all other rows count as they should".into(),
        evidence,
        actions: vec![
            "find the producer whose clock is ahead: its rows have times beyond those of their neighbours".into(),
            "lower max_future of the event, so that such rows are rejected and listed".into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn a_state_without_such_rows_opens_nothing() {
        let (incidents, mut ahead) = (Incidents::default(), RowsAhead::default());
        ahead.look(&State::new(1), &incidents, LOOK_EVERY_US, LOOK_EVERY_US);
        assert!(incidents.list().is_empty());
    }
}
