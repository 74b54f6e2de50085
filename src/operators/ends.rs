//! Accumulators of [`Order::Ends`](crate::state::Order::Ends): what they share.
//!
//! Such a slot knows of its rows only the first and the last one. Its first word says whether it has
//! any, and whether they came in order of time; equal times are in order, since LSNs grow with
//! arrival. While they did, every answer is that of all rows sorted by (time, LSN). A row that comes
//! after a later one is taken as the latest, the word remembers it for good, and nothing is said of
//! the answer any more.
//!
//! Where the edge of a window cuts a bucket the value is that of the nearest whole: with the bucket
//! where at least half of its time is inside, without it otherwise. What the answer is then nobody
//! knows, since any of the bucket's rows may be the first or the last one. Pure; called at reads.

use super::reading::{Accuracy, Slot};
use crate::state::{Accumulator, Arena};
use std::borrow::Cow;

/// First word of a slot without rows; all others are zeroes too.
pub(super) const EMPTY: u64 = 0;

/// First word of a slot whose rows came in order.
pub(super) const ORDERED: u64 = 1;

/// First word of a slot with a row that came after a later one.
pub(super) const DISORDERED: u64 = 2;

/// What is said of every cut bucket in the documents.
pub(super) const GROWN: &str = "The value with a cut bucket that is inside by half or more, without it otherwise. Which of \
    its rows are first and last inside is not known, so there is no bound.";

/// The core with every cut bucket of which at least half is inside, merged in order of time. For
/// accumulators without objects.
pub(super) fn nearest<'s>(accumulator: &dyn Accumulator, slot: &Slot<'s>) -> Cow<'s, [u64]> {
    debug_assert!(accumulator.handles().is_empty(), "{} keeps objects", accumulator.identity());
    debug_assert_eq!(accumulator.words(), slot.core.words.len(), "a slot of {}", accumulator.identity());
    if slot.edges().all(|edge| edge.share < 0.5) {
        return Cow::Borrowed(slot.core.words);
    }
    let (mut merged, mut arena) = (vec![0; accumulator.words()], Arena::default());
    for part in slot.nearest() {
        accumulator.merge(&mut merged, &mut arena, part.words, part.arena);
    }
    Cow::Owned(merged)
}

/// Exact while the rows came in order and no cut bucket has any.
pub(super) fn accuracy(slot: &Slot<'_>) -> Accuracy {
    let cut = slot.edges().any(|edge| edge.part.words[0] != EMPTY);
    if cut || slot.core.words[0] == DISORDERED { Accuracy::Unknown } else { Accuracy::Exact }
}

/// The first word of a slot after a row, or another slot, that begins at this distance from the last
/// one.
#[inline]
pub(super) fn state_after(state: u64, gap_us: i64) -> u64 {
    if gap_us < 0 { DISORDERED } else { state.max(ORDERED) }
}

/// Whether a first word is one that slots have, and an empty slot is all zeroes.
pub(super) fn verify(slot: &[u64]) -> Result<(), &'static str> {
    match slot[0] {
        EMPTY if slot.iter().any(|&word| word != 0) => Err("it has no rows and yet holds something"),
        EMPTY | ORDERED | DISORDERED => Ok(()),
        _ => Err("its rows are neither in order nor out of it"),
    }
}

/// Slots of lifetimes are never merged, so they keep nothing that only a merge asks for.
#[cold]
pub(super) fn never_merged() -> ! {
    unreachable!("only buckets of windows are merged")
}
