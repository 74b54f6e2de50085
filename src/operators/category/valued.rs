//! How many rows had a value that a category is made of: the whole that shares are of.

use crate::operators::Slot;
use crate::operators::counter_table::Item;
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX};

/// Which values there are categories of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    /// All that have a counter.
    Counted,
    /// Texts, integers and booleans, texts of any length.
    Named,
}

/// Slot: `[rows]`. Merge adds; exact, associative and commutative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Valued(pub(super) Kinds);

impl Valued {
    /// The rows that are surely inside.
    pub(super) fn inside(slot: &Slot<'_>) -> u64 {
        slot.core.words[0]
    }
}

impl Accumulator for Valued {
    fn identity(&self) -> String {
        format!("valued/{:?}", self.0)
    }

    fn words(&self) -> usize {
        1
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let takes = match self.0 {
            Kinds::Counted => Item::of(input.cell, 1).is_some(),
            Kinds::Named => matches!(input.cell, Cell::Str(_) | Cell::I64(_) | Cell::Bool(_)),
        };
        slot[0] += u64::from(takes);
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        slot[0] += other[0];
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        if slot[0] <= SLOT_ROWS_MAX { Ok(()) } else { Err("it counts more rows than there are") }
    }
}
