//! Features leave a slab: the words of those that stay are written into the layout of the smaller plan, the objects of the others go back to the arena.
//!
//! One pass over the table, when a registration drops or restarts features; nothing of a dropped feature is left behind in words, plans or snapshots. What the
//! others count does not change. Called by apply through [`Table::retire`](super::table::Table::retire).

use super::account::Account;
use super::arena::{Arena, Handle};
use super::chunk::Chunk;
use super::expiry;
use super::form::Form;
use super::list;
use super::plan::{AccumulatorPlan, SlabPlan, SlotRef, WindowPlan};
use super::ring;
use super::slab::Slab;
use std::sync::Arc;

/// Moves the rows of a slab, with its arena, into a slab of the plan, whose features it all has.
pub(crate) fn shed(slab: Slab, plan: Arc<SlabPlan>, rows: u32, account: &Account) -> Slab {
    let moved = Moved::between(&slab.plan, &plan);
    let mut smaller = Slab { arena: slab.arena, unseen: slab.unseen, ..Slab::new(Arc::clone(&plan), account) };
    for row in 0..rows {
        if let Some(words) = slab.words.row(row).filter(|words| words.iter().any(|&word| word != 0)) {
            moved.row(words, smaller.words.row_mut(row), &mut smaller.arena);
        }
    }
    slab.words.chunks().iter().flatten().for_each(Chunk::leave);
    smaller
}

/// Where everything of the smaller plan stands in the larger one.
struct Moved<'p> {
    from: &'p SlabPlan,
    to: &'p SlabPlan,
    lifetime: Vec<usize>,
    /// Window, and accumulators in it.
    windows: Vec<(usize, Vec<usize>)>,
    /// Cells of list entries.
    cells: Vec<usize>,
    filters: Vec<usize>,
}

impl<'p> Moved<'p> {
    fn between(from: &'p SlabPlan, to: &'p SlabPlan) -> Self {
        let mut moved = Self {
            from,
            to,
            lifetime: vec![0; to.lifetime.len()],
            windows: to.windows.iter().map(|window| (0, vec![0; window.accumulators.len()])).collect(),
            cells: vec![0; to.listed.len()],
            filters: vec![0; to.filters.len()],
        };
        for feature in &to.features {
            let Some(before) = from.feature(&feature.def.name) else { unreachable!("a smaller plan has no feature of its own") };
            for (&after, &before) in feature.slots.iter().zip(&from.features[before].slots) {
                moved.slot(after, before);
            }
        }
        moved
    }

    fn slot(&mut self, after: SlotRef, before: SlotRef) {
        let (after, before) = match (after, before) {
            (SlotRef::Lifetime(after), SlotRef::Lifetime(before)) => {
                self.lifetime[after] = before;
                (&self.to.lifetime[after], &self.from.lifetime[before])
            }
            (SlotRef::Windowed { window, accumulator }, SlotRef::Windowed { window: window_before, accumulator: before }) => {
                self.windows[window].0 = window_before;
                self.windows[window].1[accumulator] = before;
                (&self.to.windows[window].accumulators[accumulator], &self.from.windows[window_before].accumulators[before])
            }
            _ => unreachable!("a feature compiles to the same slots in every plan"),
        };
        assert_eq!(after.words, before.words, "an accumulator has the same words in every plan");
        if let (Some(after), Some(before)) = (after.filter, before.filter) {
            self.filters[after] = before;
        }
        let cell = |plan: &SlabPlan, column: Option<usize>| plan.listed.iter().position(|&listed| Some(listed) == column);
        if let (Some(after), Some(before)) = (cell(self.to, after.column), cell(self.from, before.column)) {
            self.cells[after] = before;
        }
    }

    fn row(&self, words: &[u64], smaller: &mut [u64], arena: &mut Arena) {
        for (after, &before) in self.to.lifetime.iter().zip(&self.lifetime) {
            let before = &self.from.lifetime[before];
            smaller[after.at..after.at + after.words].copy_from_slice(&words[before.at..before.at + before.words]);
        }
        for (_, accumulator) in self.from.lifetime.iter().enumerate().filter(|(number, _)| !self.lifetime.contains(number)) {
            release(accumulator, &words[accumulator.at..], arena);
        }
        if !self.from.is_windowed() {
            return;
        }
        if !self.to.is_windowed() {
            expiry::release(self.from, arena, &mut words.to_vec());
            return;
        }
        let form = match Form::of(words[0]) {
            Form::List(handle) => Form::List(self.list(handle, arena)),
            Form::Rings => {
                for (number, window) in self.from.windows.iter().enumerate() {
                    match self.windows.iter().position(|(before, _)| *before == number) {
                        Some(after) => smaller[self.to.windows[after].at] = self.ring(after, window, words[window.at], arena),
                        None => ring::release(window, arena, words[window.at]),
                    }
                }
                Form::Rings
            }
            Form::Expired(head) => Form::Expired(head),
        };
        smaller[0] = form.word();
    }

    /// Rewrites a list's entries.
    fn list(&self, handle: Handle, arena: &mut Arena) -> Handle {
        if handle == 0 {
            return 0;
        }
        let before = arena.get(handle).to_vec();
        let count = list::len(&before);
        let mut words = vec![0u64; 1 + count * self.to.entry_words];
        words[0] = before[0];
        for index in 0..count {
            let entry = &before[list::entry(self.from, &before, index)];
            let smaller = &mut words[1 + index * self.to.entry_words..][..self.to.entry_words];
            smaller[0] = entry[0];
            for (after, &cell) in self.cells.iter().enumerate() {
                list::set_bits(smaller, after * 4, list::tag_of(self.from, entry, cell));
                smaller[1 + self.to.tag_words + after] = entry[1 + self.from.tag_words + cell];
            }
            for (after, &filter) in self.filters.iter().enumerate() {
                list::set_bits(smaller, self.to.listed.len() * 4 + after, u64::from(list::matched(self.from, entry, filter)));
            }
            for cell in (0..self.from.listed.len()).filter(|cell| !self.cells.contains(cell)) {
                if list::in_heap(list::tag_of(self.from, entry, cell)) {
                    arena.free(entry[1 + self.from.tag_words + cell]);
                }
            }
        }
        arena.free(handle);
        let moved = arena.alloc(words.len());
        arena.get_mut(moved)[..words.len()].copy_from_slice(&words);
        moved
    }

    /// Rewrites a ring's buckets.
    fn ring(&self, after: usize, before: &WindowPlan, handle: Handle, arena: &mut Arena) -> Handle {
        if handle == 0 {
            return 0;
        }
        let (plan, kept) = (&self.to.windows[after], &self.windows[after].1);
        let buckets = arena.get(handle).to_vec();
        let count = ring::len(&buckets);
        let mut words = vec![0u64; ring::HEAD_WORDS + count * plan.stride];
        words[..ring::HEAD_WORDS].copy_from_slice(&buckets[..ring::HEAD_WORDS]);
        for index in 0..count {
            let bucket = &buckets[ring::bucket_words(before, index)];
            let smaller = &mut words[ring::bucket_words(plan, index)];
            smaller[0] = bucket[0];
            for (after, &number) in plan.accumulators.iter().zip(kept) {
                let before = &before.accumulators[number];
                smaller[after.at..after.at + after.words].copy_from_slice(&bucket[before.at..before.at + before.words]);
            }
            for (_, accumulator) in before.accumulators.iter().enumerate().filter(|(number, _)| !kept.contains(number)) {
                release(accumulator, &bucket[accumulator.at..], arena);
            }
        }
        arena.free(handle);
        let moved = arena.alloc(words.len());
        arena.get_mut(moved)[..words.len()].copy_from_slice(&words);
        moved
    }
}

/// Gives back the objects of a slot that nobody reads any longer.
fn release(accumulator: &AccumulatorPlan, slot: &[u64], arena: &mut Arena) {
    for &word in accumulator.accumulator.handles() {
        arena.free(slot[word]);
    }
}
