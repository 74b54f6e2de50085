//! Sparse chunks are emptied while the memory limit keeps rows out, between two turns, a slice at a time.
//!
//! Invariants: nothing is moved while a turn is open, whose rows were let in for the room as it was, nor while a snapshot
//! shares chunks, of which moving would make copies. What it does shows in memory alone (`state/evacuate.rs`). It is begun at
//! most once a second, and only for what is worth a walk over a table.

use super::engine::Engine;
use super::turn::SLICE;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Rows between two looks at the clock.
const ROWS_PER_LOOK: u32 = 32;
/// A table is walked when that gives back this part of the limit: one in so many bytes.
const WORTH: u64 = 256;
/// How often it is begun.
const EVERY_US: i64 = 1_000_000;

/// What goes on.
#[derive(Debug, Default)]
pub(super) struct Evacuating {
    goes_on: bool,
    begun_us: i64,
    /// What tables held then.
    bytes: usize,
}

impl Evacuating {
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }
}

impl Engine {
    /// Begins to empty sparse chunks when rows are kept out and that would give room.
    pub(super) fn evacuate_when_full(&mut self, passed_us: i64) {
        let known = &self.evacuating;
        if known.goes_on || !self.facts.memory_full.load(Ordering::Relaxed) || passed_us.saturating_sub(known.begun_us) < EVERY_US {
            return;
        }
        self.begin_evacuation();
    }

    /// Begins to empty sparse chunks if that is worth a walk over a table; whether it goes on.
    pub(super) fn begin_evacuation(&mut self) -> bool {
        if !self.evacuating.goes_on {
            let (bytes, begun_us) = (self.state.live_bytes(), self.passed_us());
            self.evacuating = Evacuating { goes_on: self.state.is_sparse(self.worth()), begun_us, bytes };
        }
        self.evacuating.goes_on
    }

    /// Whether there is a step of it to do now.
    pub(crate) fn evacuates(&self) -> bool {
        self.evacuating.goes_on && !self.is_mid_turn() && !self.state.is_shared()
    }

    /// Goes on with it for the time of a slice.
    pub(crate) fn evacuate(&mut self) {
        assert!(!self.is_mid_turn(), "what a turn was promised is not moved");
        let (begun, worth) = (Instant::now(), self.worth());
        while begun.elapsed() < SLICE {
            if !self.state.evacuate(ROWS_PER_LOOK, worth) {
                self.evacuating.goes_on = false;
                self.gave_back();
                let (before, after) = (self.evacuating.bytes, self.state.live_bytes());
                tracing::info!(kind = "memory.evacuated", before, after, "sparse chunks were emptied and given back");
                break;
            }
        }
    }

    fn worth(&self) -> usize {
        usize::try_from(self.options.memory_max_bytes / WORTH).unwrap_or(usize::MAX)
    }
}
