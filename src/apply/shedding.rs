//! What left the definitions gives its memory back between two turns, a slice at a time, and a registration that would have
//! to wait for it waits by itself.
//!
//! Invariants: no event of the seat handles more rows than a slice of a turn; nothing is moved while a turn is open, whose
//! rows were let in for the room as it was, nor while a snapshot shares chunks, of which moving would make copies. A
//! snapshot that is due waits in turn until no row stands in the layout of a larger plan (`state/shedding.rs`). Where a step
//! lacks room, sparse chunks are emptied first; where that gives none, tables stand at the limit with nothing else to give
//! back, and what frees memory goes on a row at a time.
//!
//! **A registration that takes features away of a slab that is not done with those before is parked**, with what other
//! connections register behind it. Its own connection is not read further until the reply, as behind each registration, so
//! nothing of it is overtaken; pushes and reads of others go on.

use super::engine::Engine;
use super::port::Outbox;
use super::turn::{ROWS_PER_SLICE_MAX, SLICE};
use super::work::{Round, Step};
use crate::pipeline::TableEffect;
use crate::state::Shed;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use streamgauge_api::Tag;
use streamgauge_api::control::Retirement;
use streamgauge_api::port::Request;

/// Rows between two looks at the clock.
const ROWS_PER_LOOK: u32 = 32;
/// Steps of one event.
const LOOKS_MAX: usize = ROWS_PER_SLICE_MAX / ROWS_PER_LOOK as usize;

/// What goes on.
#[derive(Default)]
pub(super) struct Shedding {
    /// Sparse chunks were emptied since a row lacked room.
    emptied: bool,
    /// What tables held when it began.
    begun_bytes: Option<usize>,
    /// Registrations that wait for its end, in order.
    parked: VecDeque<(Arc<Outbox>, Tag, String)>,
}

impl Engine {
    /// Whether there is a step to do now.
    pub(crate) fn sheds(&self) -> bool {
        (self.state.is_shedding() || !self.shedding.parked.is_empty())
            && !self.is_mid_turn()
            && !self.evacuating.goes_on()
            && !self.state.is_shared()
    }

    /// Goes on for the time of a slice.
    pub(crate) fn shed(&mut self) {
        assert!(!self.is_mid_turn(), "what a turn was promised is not moved");
        let begun = Instant::now();
        let bytes = self.state.live_bytes();
        self.shedding.begun_bytes.get_or_insert(bytes);
        for _ in 0..LOOKS_MAX {
            match self.state.shed(ROWS_PER_LOOK, false) {
                Shed::More => self.shedding.emptied = false,
                Shed::NoRoom if !self.shedding.emptied && self.begin_evacuation() => {
                    self.shedding.emptied = true;
                    return;
                }
                Shed::NoRoom => {
                    self.state.shed(1, true);
                    self.shedding.emptied = false;
                }
                Shed::Over => return self.shed_all(),
            }
            if begun.elapsed() >= SLICE {
                break;
            }
        }
    }

    fn shed_all(&mut self) {
        self.gave_back();
        if let Some(before) = self.shedding.begun_bytes.take() {
            let after = self.state.live_bytes();
            tracing::info!(kind = "memory.retired", before, after, "what left the definitions was given back");
        }
        // Rows that were brought over left sparse chunks behind them.
        self.begin_evacuation();
        for (outbox, tag, payload) in std::mem::take(&mut self.shedding.parked) {
            let step = Step::Call { tag, request: Request::Register(payload), weight: 1 };
            let round = Round::new(outbox, VecDeque::from([step]));
            self.backlogged += round.weight();
            self.backlog.push_back(round);
        }
    }

    /// Whether a registration has to wait with these effects.
    pub(super) fn waits_for_shedding(&self, effects: &[TableEffect]) -> bool {
        let waits = |effect: &TableEffect| match effect {
            TableEffect::Retire { table, .. } => self.state.sheds_rows_of(*table),
            TableEffect::Create { .. } | TableEffect::Fill { .. } | TableEffect::Drop { .. } | TableEffect::Extend { .. } => false,
        };
        !self.shedding.parked.is_empty() || effects.iter().any(waits)
    }

    /// Keeps a registration until it can be served.
    pub(super) fn park(&mut self, outbox: &Arc<Outbox>, tag: Tag, payload: String) {
        self.shedding.parked.push_back((Arc::clone(outbox), tag, payload));
    }

    /// What left the definitions and has memory still, for operators.
    pub(crate) fn retirement(&self) -> Retirement {
        let parts = self.state.retiring();
        assert!(parts.is_empty() || self.state.is_shedding(), "what has memory to give back is given back");
        let waits_for = match parts.is_empty() {
            false if self.state.is_shared() => Some("snapshot"),
            false if self.evacuating.goes_on() => Some("evacuation"),
            _ => None,
        };
        Retirement { parts, waits_for: waits_for.map(str::to_owned), registrations_waiting: self.parked() as u64 }
    }

    /// How many registrations are parked.
    pub(super) fn parked(&self) -> usize {
        self.shedding.parked.len()
    }
}
