//! What becomes of a frame of rows that an operator left out with `wal skip`.
//!
//! Positions apply, so that sources go on behind it; rows and rejects do not. That tables lack them is said for as long as it is so: what
//! each partition that the frame moved lacks, beside whatever incident opens and closes there, and a list of the frames left out, both in every
//! snapshot. Replay alone brings such content; the engine never writes it.

use super::state::State;
use super::waiting::WaitingRun;
use serde::{Deserialize, Serialize};
use streamgauge_api::source::{Incident, IncidentKind};
use streamgauge_api::{Position, Slot};

/// Frames left out that are remembered; older ones are in the log of the processes that replayed them.
pub(super) const SKIPS_MAX: usize = 256;
/// Bytes of the words on what a partition lacks, about.
const LOST_BYTES: usize = 1 << 10;

/// A frame that was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// LSN of its first row.
    pub first_lsn: u64,
    /// Rows that were in it.
    pub rows: u32,
    /// When it was written, microseconds since the Unix epoch.
    pub at_us: i64,
}

impl Skip {
    /// LSN of its last row.
    pub fn last_lsn(&self) -> u64 {
        self.first_lsn + u64::from(self.rows).max(1) - 1
    }
}

impl State {
    pub(super) fn skip(&mut self, moved: (&[(Slot, Position)], &[WaitingRun]), rows: u32, first_lsn: u64, at_us: i64) {
        let skip = Skip { first_lsn, rows, at_us };
        let (positions, waiting) = moved;
        for (slot, position) in positions {
            let Some(from) = self.reached(*slot) else { unreachable!("slots were checked when the frame was read") };
            let more = incident(&skip, from.offset, position.offset);
            match self.skipped.get_mut(&slot.0) {
                None => drop(self.skipped.insert(slot.0, more)),
                Some(known) if known.lost.len() < LOST_BYTES => known.lost = format!("{}; {}", known.lost, more.lost),
                // The list of frames says the rest.
                Some(_) => {}
            }
        }
        self.move_partitions(positions, waiting);
        if self.skips.len() == SKIPS_MAX {
            self.skips.remove(0);
        }
        assert!(self.skips.last().is_none_or(|last| last.last_lsn() < first_lsn), "frames are left out in their order");
        self.skips.push(skip);
    }

    /// What a partition lacks because frames were left out. Nothing ends that: neither an incident that opens and closes, nor
    /// a decision.
    pub fn skipped(&self) -> impl Iterator<Item = (Slot, &Incident)> {
        self.skipped.iter().map(|(slot, incident)| (Slot(*slot), incident))
    }

    /// Frames that an operator left out, oldest first.
    pub fn skips(&self) -> &[Skip] {
        &self.skips
    }
}

fn incident(skip: &Skip, from: i64, to: i64) -> Incident {
    let (first, last) = (skip.first_lsn, skip.last_lsn());
    Incident {
        kind: IncidentKind::FrameSkipped,
        cause: String::new(),
        opened_us: skip.at_us,
        lost: match to > from {
            true => format!("records of offsets {from} to {} are in no table", to - 1),
            false => format!("{} records that had waited for room are in no table", skip.rows),
        },
        holds: "everything before and behind them; the partition goes on".into(),
        evidence: format!("an operator left LSN {first} to {last} out of the replay (`wal skip`)"),
        actions: vec!["nothing, or read the topic again into a table that is started anew (--rebuild)".into()],
        resume_offset: None,
    }
}
