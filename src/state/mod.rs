//! State: tables of plain words. Pure: no file, no clock, no randomness; only the apply thread changes it. Its one lock is
//! that of frozen states, which other threads read and the apply thread may let go.

mod accepts;
mod account;
mod accumulator;
mod arena;
mod by_key;
mod chunk;
mod cold;
mod content;
mod dedupe;
mod demand;
mod evacuate;
mod expiry;
mod fills;
mod form;
mod frame;
mod frozen;
mod growth;
mod head;
mod image;
mod index;
mod keys;
mod layout;
mod list;
mod older;
mod places;
mod plan;
mod retire;
mod ring;
mod shadow;
mod shedding;
mod skip;
mod slab;
mod sorting;
#[expect(clippy::module_inception, reason = "the state is the noun of this folder")]
mod state;
mod sweep;
mod table;
mod touched;
mod unseen;
mod verify;
mod waiting;
mod walk;
mod words;

#[cfg(test)]
mod tests;

pub use accumulator::{
    Accumulator, Follows, Input, Need, Order, SLOT_ROWS_MAX, f64_of, hash_cell, holds_bytes, load_bytes, store_bytes, words_of_bytes,
};
pub use arena::{Arena, Handle};
pub use by_key::{Numbers, Weighing};
pub use content::{Content, RowsContent};
pub use demand::Demand;
pub(crate) use fills::same_declarations;
pub use fills::{FILLS_MAX, Fill, FillStep, Filled, Fills, Flip, Flipped, HistoryStart, Seal};
pub use frozen::{FROZEN_SHARE, Frozen, NoRoom};
pub use growth::{Lacking, Look};
pub use image::{ImageError, ImageReader, Unwritten};
pub use shedding::Shed;
pub use skip::Skip;
pub use slab::Missed;
pub use state::{ReadScratch, State};
pub use sweep::{Found, Place, Sweep};
pub use table::{Funnel, Table};
pub use touched::TouchedKeys;
pub use waiting::{WaitingOffsets, WaitingRun};

pub(crate) use unseen::Unseen;

pub(crate) use plan::{OversizedRing, oversized_ring};

/// Bytes of one key of a table: with one row, and with all rings full of scalar buckets. Sketches come on top of the second.
pub fn bytes_per_key(table: &crate::pipeline::TableDef) -> (usize, usize) {
    let (least, most) = plan::SlabPlan::compile(&table.features).bytes_per_key();
    (least + KEY_BYTES, most + KEY_BYTES)
}

/// Key words, index entry and its control byte at usual load.
const KEY_BYTES: usize = 16 + 13;
