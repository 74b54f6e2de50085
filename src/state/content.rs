//! What a WAL frame says, independent of its bytes: the one input of [`State::apply`](super::State::apply), live and at replay alike.

use super::fills::FillStep;
use super::sweep::Sweep;
use super::waiting::WaitingRun;
use crate::pipeline::{Registry, TableEffect};
use crate::row::Rows;
use std::sync::Arc;
use streamgauge_api::control::{Reject, RejectId};
use streamgauge_api::decision::Gap;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::source::Incident;
use streamgauge_api::{Position, Slot, StoredPosition};

/// A change to the state.
#[derive(Debug, Clone)]
pub enum Content {
    /// Rows with the positions that they bring a source to. Positions alone are a frame too.
    Rows(RowsContent),
    /// Another registry, and what it does to tables.
    Definition {
        /// The registry from this LSN on.
        registry: Arc<Registry>,
        /// What to do to tables, in order.
        effects: Vec<TableEffect>,
    },
    /// A partition that was not known; its slot is the number of partitions before it.
    Partition(StoredPosition),
    /// A writer schema, before the first row decoded with it.
    Schema(FetchedSchema),
    /// A source has had a usable writer schema: from here on one that is not usable makes bad records, it stops nothing.
    Readable {
        /// Its name.
        source: Box<str>,
    },
    /// A partition's incident opened, or closed.
    Incident {
        /// Which partition.
        slot: Slot,
        /// The incident; none closes it.
        incident: Option<Incident>,
    },
    /// A stopped partition goes on elsewhere, or is forgotten, by an operator's decision.
    Moved {
        /// Which partition.
        slot: Slot,
        /// What it is and where it stands from here on.
        stored: StoredPosition,
        /// How far it was read before, where records behind its position still wait; none where none do.
        reached: Option<Position>,
        /// What no table has from here on; none where nothing is lost.
        gap: Option<Box<Gap>>,
    },
    /// The time of frames from here on. The one content that may set it back, by an operator's decision.
    Clock {
        /// Microseconds since the Unix epoch.
        now_us: i64,
        /// Whether the wall clock is not believed.
        held: bool,
    },
    /// Rows that an operator left out (`wal skip`): positions pass them, tables never see them.
    Skipped {
        /// How far sources were read after the frame, by slot.
        positions: Vec<(Slot, Position)>,
        /// As in [`RowsContent`].
        waiting: Vec<WaitingRun>,
        /// Rows that were in it.
        rows: u32,
    },
    /// Keys that give back what has wholly expired by the frame's time.
    Sweep(Sweep),
    /// What becomes of tables that are being filled.
    Fill(FillStep),
    /// Everything is forgotten (test mode).
    Reset,
    /// Nothing: marks and closes.
    Nothing,
}

/// Rows of one frame.
#[derive(Debug, Clone, Default)]
pub struct RowsContent {
    /// How far sources were read after this frame, by slot.
    pub positions: Vec<(Slot, Position)>,
    /// Records that wait for room from this frame on, and those that wait no more, by position.
    pub waiting: Vec<WaitingRun>,
    /// Packed rows, in order.
    pub batches: Vec<Rows>,
    /// Records that could not become rows.
    pub rejects: Vec<Reject>,
    /// Rejects of earlier frames that are done: the rows of this one came of them.
    pub retried: Vec<RejectId>,
}

impl RowsContent {
    /// Rows in all batches.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(Rows::len).sum()
    }
}

impl Content {
    /// How many LSNs the frame takes.
    pub fn lsns(&self) -> u64 {
        match self {
            Self::Rows(content) => (content.rows() as u64).max(1),
            Self::Skipped { rows, .. } => u64::from(*rows).max(1),
            _ => 1,
        }
    }
}
