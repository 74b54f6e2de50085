//! Freed room is room: sparse chunks are emptied and dropped, so that their memory is every table's.
//!
//! ```text
//! pick a table -> move its last rows into free row numbers -> mark its sparsest chunks -> walk its rows, moving what
//! stands in marked chunks -> the next table, or done
//! ```
//! Deleted keys leave free row numbers, and free slots between the objects of others; both stay charged though nobody but
//! their table, slab and size class can use them. What is moved is found by walking rows: the plan knows where handles
//! are, so objects need no word for their owner (`docs/decisions/evacuation-by-walking.md`). Invariants: the content is the same
//! after every step; no step takes a chunk for objects, they move into slots that are free; frozen states are copies on
//! write like always; nothing of it is logged, and a replay never needs it.
//!
//! Called by apply between two turns, near the memory limit, a few rows at a time. Cost: each row of the table is read once
//! with its lists and rings, as for a fingerprint; what moves is written once.

use super::arena::{Arena, Handle};
use super::expiry;
use super::form::Form;
use super::frame::WORDS_PER_ROW;
use super::list;
use super::plan::{AccumulatorPlan, SlabPlan, WindowPlan};
use super::ring;
use super::slab::{Slab, standing};
use super::state::State;
use super::table::Table;

/// A table whose chunks are being emptied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evacuation {
    table: u32,
    /// The next row to walk; none while row numbers are given back.
    at: Option<u32>,
}

impl State {
    /// Bytes that emptying sparse chunks would give back, in all tables.
    #[cfg(test)]
    pub(crate) fn sparse_bytes(&self) -> usize {
        self.tables.values().map(Table::sparse_bytes).sum()
    }

    /// Whether there is something to do for [`State::evacuate`]: tables are emptied one by one, so one of them has to be worth it.
    pub fn is_sparse(&self, least_bytes: usize) -> bool {
        self.evacuation.is_some() || self.sparsest(least_bytes).is_some()
    }

    /// Goes on with emptying sparse chunks, about `rows` rows further, a row that has much counting as several; false when there are none of which emptying gives
    /// back at least `least_bytes` in one table.
    pub fn evacuate(&mut self, rows: u32, least_bytes: usize) -> bool {
        assert!(!self.is_mid_frame(), "room that was promised to an open frame stays as it is");
        let Some(Evacuation { table: id, at }) = self.evacuation.or_else(|| self.sparsest(least_bytes)) else { return false };
        let Some(table) = self.tables.get_mut(&id) else { unreachable!("an evacuation ends with its table") };
        let next = match at {
            None => {
                let (mut left, mut more) = (rows as usize, true);
                while left > 0 && more {
                    more = table.give_back_row();
                    left = left.saturating_sub(1 + table.take_work() / WORDS_PER_ROW);
                }
                if !more {
                    table.mark_sparse();
                }
                Some(if more { None } else { Some(0) })
            }
            Some(from) => {
                let (mut row, mut left) = (from, rows as usize);
                while left > 0 && row < table.keys.rows() {
                    left = left.saturating_sub(1 + table.move_out(row) / WORDS_PER_ROW);
                    row += 1;
                }
                (row < table.keys.rows()).then_some(Some(row))
            }
        };
        match next {
            Some(at) => self.evacuation = Some(Evacuation { table: id, at }),
            None => self.end_evacuation(),
        }
        true
    }

    /// What is half emptied may be filled again.
    pub(super) fn end_evacuation(&mut self) {
        if let Some(evacuation) = self.evacuation.take()
            && let Some(table) = self.tables.get_mut(&evacuation.table)
        {
            table.unmark();
        }
    }

    /// The next row that is walked, while one is.
    #[cfg(test)]
    pub(super) fn evacuation_row(&self) -> Option<u32> {
        self.evacuation.and_then(|evacuation| evacuation.at)
    }

    fn sparsest(&self, least_bytes: usize) -> Option<Evacuation> {
        let sparse = self.tables.iter().map(|(id, table)| (table.sparse_bytes(), *id));
        let (bytes, table) = sparse.max()?;
        (bytes >= least_bytes.max(1)).then_some(Evacuation { table, at: None })
    }
}

impl Table {
    /// Bytes of chunks that emptying would give back: of free row numbers, where there is room to give the next one back,
    /// and of objects' free slots.
    fn sparse_bytes(&self) -> usize {
        let free = if self.next_move().is_some() { self.keys.rows() as usize - self.keys.held() } else { 0 };
        let words = self.slabs.iter().map(|slab| &slab.words).chain([self.keys.words()]);
        let rows: usize = words.map(|words| words.bytes_of(free)).sum();
        let rows = rows + self.slabs.iter().filter_map(|slab| slab.older.as_ref()).map(|older| older.bytes_of(free)).sum::<usize>();
        rows + self.keys.long().sparse_bytes() + self.slabs.iter().map(|slab| slab.arena.sparse_bytes()).sum::<usize>()
    }

    /// The free number that the last row's key moves into; none when no number is free, or there is no room for the chunks
    /// that the row moves into.
    fn next_move(&self) -> Option<u32> {
        let to = self.keys.freed().next()?;
        let lacking = self.slabs.iter().map(|slab| slab.lacking_to_move(self.keys.rows() - 1, to)).sum::<usize>();
        (lacking == 0 || self.account.has_room(lacking)).then_some(to)
    }

    /// Gives the last row number back: its key, if it has one, moves into a free number. False when none is free, or there
    /// is no room for that.
    pub(super) fn give_back_row(&mut self) -> bool {
        if self.next_move().is_none() {
            return false;
        }
        let (from, to) = self.keys.give_back_last();
        for slab in &mut self.slabs {
            if let Some(to) = to {
                slab.move_row(from, to);
            }
            slab.truncate(from);
        }
        self.moves += u32::from(to.is_some());
        true
    }

    fn mark_sparse(&mut self) {
        self.keys.long_mut().mark_sparse();
        self.slabs.iter_mut().for_each(|slab| slab.arena.mark_sparse());
    }

    fn unmark(&mut self) {
        self.keys.long_mut().unmark();
        self.slabs.iter_mut().for_each(|slab| slab.arena.unmark());
    }

    /// Moves what belongs to a row out of marked chunks; how much that was to look at, in words.
    fn move_out(&mut self, row: u32) -> usize {
        self.keys.move_out(row);
        self.slabs.iter_mut().filter(|slab| slab.arena.is_marked()).map(|slab| slab.move_out(row)).sum()
    }
}

impl Slab {
    fn move_out(&mut self, row: u32) -> usize {
        let Self { plan, words, arena, older, .. } = self;
        let (plan, words) = standing(older, words, plan, row);
        let Some(before) = words.row(row).filter(|words| words.iter().any(|&word| word != 0)) else { return 0 };
        let work = if plan.is_windowed() { expiry::weight(plan, arena, before) } else { 0 };
        let mut after: smallvec::SmallVec<[u64; 32]> = smallvec::SmallVec::from_slice(before);
        if plan.is_windowed() {
            match Form::of(after[0]) {
                Form::List(handle) => after[0] = Form::List(move_list(plan, arena, handle)).word(),
                Form::Rings => {
                    for window in &plan.windows {
                        after[window.at] = move_ring(window, arena, after[window.at]);
                    }
                }
                Form::Expired(_) => {}
            }
        }
        for accumulator in &plan.lifetime {
            move_leaves(accumulator, arena, &mut after[accumulator.at..]);
        }
        if after[..] != *before {
            words.row_mut(row).copy_from_slice(&after);
        }
        work
    }
}

/// Moves a list's texts, and the list.
fn move_list(plan: &SlabPlan, arena: &mut Arena, handle: Handle) -> Handle {
    for index in 0..list::len(arena.get(handle)) {
        for cell in 0..plan.listed.len() {
            let object = arena.get(handle);
            let entry = list::entry(plan, object, index);
            if list::in_heap(list::tag_of(plan, &object[entry.clone()], cell)) {
                let at = entry.start + list::cell_at(plan, cell);
                let text = object[at];
                let moved = arena.move_out(text);
                if moved != text {
                    arena.get_mut(handle)[at] = moved;
                }
            }
        }
    }
    arena.move_out(handle)
}

/// Moves what a ring's buckets lead to, and the ring.
fn move_ring(plan: &WindowPlan, arena: &mut Arena, handle: Handle) -> Handle {
    let count = if plan.has_leaves { ring::len(arena.get(handle)) } else { 0 };
    for index in 0..count {
        for accumulator in plan.accumulators.iter().filter(|plan| !plan.accumulator.handles().is_empty()) {
            let before = ring::bucket_words(plan, index).start + accumulator.at;
            let mut slot: smallvec::SmallVec<[u64; 16]> =
                smallvec::SmallVec::from_slice(&arena.get(handle)[before..before + accumulator.words]);
            if move_leaves(accumulator, arena, &mut slot) {
                arena.get_mut(handle)[before..before + accumulator.words].copy_from_slice(&slot);
            }
        }
    }
    arena.move_out(handle)
}

/// Moves the objects of a slot; true when one was.
fn move_leaves(plan: &AccumulatorPlan, arena: &mut Arena, slot: &mut [u64]) -> bool {
    let mut any = false;
    for &word in plan.accumulator.handles() {
        let moved = arena.move_out(slot[word]);
        any |= moved != slot[word];
        slot[word] = moved;
    }
    any
}
