//! Rows of a slab that stand in the layout of a larger plan, while features leave it a few rows at a time.
//!
//! ```text
//! rows    0 .. start        start .. end                         end ..
//! words   of the slab       of the larger plan's stride          of the slab
//! layout  the slab's        the larger plan's, or, where a bit   the slab's
//!                           is set, the slab's in the first words
//! ```
//! A registration takes features away by giving the slab a smaller plan and putting the words as they are here; nothing is
//! moved then. From there on `start` goes up, row by row, and chunks go as soon as it has passed them. A row that changes
//! before its turn is brought over where it stands, so that an update takes no chunk of words of its own. Invariants:
//! what the slab answers, what its rows become and what their fingerprints are does not depend on how far this is; words
//! of features that are gone are nobody's: neither read nor part of a fingerprint; row numbers that were not handed out
//! when the features left are never here.
//!
//! Called by [`Slab`](super::slab::Slab). Cost: while nothing leaves a slab, one predictable branch for each row that is
//! updated; a row that is looked up here costs its bit and its words.

use super::account::Account;
use super::arena::Arena;
use super::chunk::Chunk;
use super::demand::{Demand, Tally};
use super::expiry;
use super::form::Form;
use super::plan::SlabPlan;
use super::retire::{Moves, RowWords};
use super::shedding::Gone;
use super::words::Words;
use std::ops::Range;
use std::sync::Arc;

/// Rows of one word of bits.
const BITS: u32 = u64::BITS;

/// See the module's head.
#[derive(Debug, Clone)]
pub(crate) struct Older {
    moves: Arc<Moves>,
    words: Words,
    /// A bit for each row that was brought over where it stands.
    touched: Words,
    rows: Range<u32>,
    gone: Gone,
}

/// What became of a row whose turn it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// It stands in the slab's words now; so much work, in words.
    Row(usize),
    /// There is no room for what it takes.
    NoRoom,
    /// There is none left.
    Over,
}

impl Older {
    /// The words of a slab's first `rows` rows, when they have another layout than its plan from here on.
    pub(super) fn of(moves: Moves, words: Words, rows: u32, gone: Gone, account: &Account) -> Self {
        Self { moves: Arc::new(moves), words, touched: Words::new(1, account), rows: 0..rows, gone }
    }

    /// The features that left.
    pub(super) fn gone(&self) -> &Gone {
        &self.gone
    }

    /// Whether a row's place is here.
    #[inline]
    pub(super) fn holds(&self, row: u32) -> bool {
        self.rows.contains(&row)
    }

    /// Rows that are left.
    pub(super) fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    fn is_touched(&self, row: u32) -> bool {
        self.touched.row(row / BITS).is_some_and(|bits| bits[0] >> (row % BITS) & 1 == 1)
    }

    /// The words of a row that has some and is not brought over.
    pub(super) fn untouched(&self, row: u32) -> Option<&[u64]> {
        let is_here = self.holds(row) && !self.is_touched(row);
        self.words.row(row).filter(|words| is_here && words.iter().any(|&word| word != 0))
    }

    /// The words of a row that is here and brought over, or has none.
    pub(super) fn settled(&self, row: u32, stride: usize) -> Option<&[u64]> {
        debug_assert!(self.holds(row), "row {row} of {:?}", self.rows);
        if self.untouched(row).is_some() { None } else { self.words.row(row).map(|words| &words[..stride]) }
    }

    /// The plan by which a row that is here stands, and the words of all of them.
    pub(super) fn standing<'s>(&'s mut self, row: u32, newer: &'s SlabPlan) -> (&'s SlabPlan, &'s mut Words) {
        let is_newer = self.is_touched(row);
        (if is_newer { newer } else { self.moves.from() }, &mut self.words)
    }

    /// The larger plan.
    pub(super) fn plan(&self) -> &SlabPlan {
        self.moves.from()
    }

    /// Index in the larger plan of a feature of the slab's.
    pub(super) fn feature(&self, feature: usize) -> usize {
        self.moves.feature(feature)
    }

    /// The words of a row that is here, for writing: brought over first.
    #[cold]
    pub(super) fn place_mut(&mut self, row: u32, stride: usize, arena: &mut Arena, worked: &mut usize) -> &mut [u64] {
        debug_assert!(self.holds(row), "row {row} of {:?}", self.rows);
        if !self.is_touched(row) {
            if let Some(words) = self.untouched(row) {
                *worked += self.moves.weight(words, arena);
                self.moves.bring_over(self.words.row_mut(row), arena);
            }
            self.touched.row_mut(row / BITS)[0] |= 1 << (row % BITS);
        }
        &mut self.words.row_mut(row)[..stride]
    }

    /// A row that is not brought over as it will be, with copies of its objects.
    pub(super) fn copy(&self, row: u32, arena: &Arena) -> Option<(RowWords, Arena)> {
        self.untouched(row).map(|words| self.moves.copy(words, arena))
    }

    /// Gives back what a row has in windows that is not brought over; `left` is what stays of it. Takes no memory.
    pub(super) fn expire(&mut self, row: u32, arena: &mut Arena, left: Form) {
        assert!(self.untouched(row).is_some() && !matches!(left, Form::Rings), "what is left of row {row} is an edge");
        let words = self.words.row_mut(row);
        expiry::release(self.moves.from(), arena, words);
        words[0] = left.word();
    }

    /// The objects that bringing a row over makes.
    pub(super) fn demand(&self, row: u32, arena: &Arena, demand: &mut Demand) {
        if let Some(words) = self.untouched(row) {
            self.moves.demand(words, arena, demand);
        }
    }

    /// The chunks that changing a row makes, and their bytes; numbers of chunks are those of this slab alone.
    pub(super) fn lacking(&self, row: u32) -> impl Iterator<Item = (usize, usize)> {
        let of = |words: &Words, row, kind: usize| words.lacking(row).map(|(chunk, bytes)| (kind << 48 | chunk, bytes));
        [of(&self.words, row, 1), of(&self.touched, row / BITS, 2)].into_iter().flatten()
    }

    /// At least as many bytes of chunks as changing so many rows here makes.
    pub(super) fn lacking_most(&self, rows: usize) -> usize {
        let bits = self.rows.start / BITS..self.rows.end.div_ceil(BITS);
        self.words.lacking_within(self.rows.clone(), rows) + self.touched.lacking_within(bits, rows)
    }

    /// At least as many words of objects as bringing so many rows over makes.
    pub(super) fn demand_words_most(&self, rows: usize) -> usize {
        rows.min(self.rows.len()).saturating_mul(self.moves.demand_words_max())
    }

    /// Row numbers from here on are given back.
    pub(super) fn truncate(&mut self, rows: u32) {
        if rows < self.rows.end {
            self.rows = self.rows.start.min(rows)..rows;
            self.words.truncate(rows);
        }
    }

    /// Brings the next row over into the slab's words, which have a chunk for it; nothing has changed where there is no
    /// room. `within` is none for who may lead beyond the limit.
    pub(super) fn pass(&mut self, newer: &SlabPlan, words: &mut Words, arena: &mut Arena, within: Option<&Account>) -> Passed {
        let row = self.rows.start;
        if self.rows.is_empty() {
            return Passed::Over;
        }
        let mut work = 1;
        if let Some(before) = self.words.row(row).filter(|words| words.iter().any(|&word| word != 0)) {
            let is_untouched = !self.is_touched(row);
            let mut demand = Demand::default();
            if is_untouched {
                self.moves.demand(before, arena, &mut demand);
            }
            let lacking = words.lacking(row).map_or(0, |(_, bytes)| bytes) + Tally::default().cost(arena, &demand);
            if lacking > 0 && within.is_some_and(|account| !account.has_room(lacking)) {
                return Passed::NoRoom;
            }
            let mut moved = RowWords::from_slice(before);
            work += moved.len();
            if is_untouched {
                work += self.moves.weight(before, arena);
                self.moves.bring_over(&mut moved, arena);
            }
            debug_assert!(moved[newer.stride..].iter().all(|&word| word == 0), "row {row} takes the first words alone");
            if moved[..newer.stride].iter().any(|&word| word != 0) {
                words.row_mut(row).copy_from_slice(&moved[..newer.stride]);
            }
        }
        self.rows.start = row + 1;
        self.words.drop_before(row + 1);
        Passed::Row(work)
    }

    /// Every chunk here.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.words.chunks().iter().chain(self.touched.chunks()).flatten()
    }

    /// Bytes of the chunks that so many rows fill.
    pub(super) fn bytes_of(&self, rows: usize) -> usize {
        self.words.bytes_of(rows)
    }

    /// What it consists of, for who drops it.
    pub(super) fn into_chunks(self) -> [Vec<Option<Chunk>>; 2] {
        [self.words.into_chunks(), self.touched.into_chunks()]
    }
}
