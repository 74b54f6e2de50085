//! Features leave a slab: what stays of a row is brought from the layout of the larger plan into that of the smaller one,
//! the objects of the others go back to the arena.
//!
//! One row at a time, by a pure function of what the row holds and of the two plans. So it does not matter when a row is
//! brought over: before its next update or years later, its words and objects come out the same, size classes included.
//! What is read of a row that is not brought over yet is read through the larger plan, by [`Moves::feature`].
//! Who keeps rows of both layouts apart is [`Older`](super::older::Older).

use super::arena::{Arena, Handle};
use super::demand::Demand;
use super::expiry;
use super::form::Form;
use super::list;
use super::plan::{AccumulatorPlan, ENTRIES_MAX, SlabPlan, SlotRef, WindowPlan};
use super::ring;
use super::slab::Missed;
use std::sync::Arc;

/// Words of one row, on their way.
pub(super) type RowWords = smallvec::SmallVec<[u64; 32]>;

/// Where everything of a smaller plan stands in the larger one.
#[derive(Debug)]
pub(crate) struct Moves {
    from: Arc<SlabPlan>,
    to: Arc<SlabPlan>,
    features: Vec<usize>,
    lifetime: Vec<usize>,
    /// Window, and accumulators in it.
    windows: Vec<(usize, Vec<usize>)>,
    /// Cells of list entries.
    cells: Vec<usize>,
    filters: Vec<usize>,
    /// Lists have the same layout under both.
    lists_stay: bool,
    /// By window of the smaller plan: its rings have the same layout under both.
    rings_stay: Vec<bool>,
}

/// Whether these are the first so many numbers, in order.
fn is_all(numbers: &[usize], of: usize) -> bool {
    numbers.iter().copied().eq(0..of)
}

impl Moves {
    /// From a plan to one that has some of its features and no other.
    pub(super) fn between(from: &Arc<SlabPlan>, to: &Arc<SlabPlan>) -> Self {
        let mut moves = Self {
            from: Arc::clone(from),
            to: Arc::clone(to),
            features: Vec::with_capacity(to.features.len()),
            lifetime: vec![0; to.lifetime.len()],
            windows: to.windows.iter().map(|window| (0, vec![0; window.accumulators.len()])).collect(),
            cells: vec![0; to.listed.len()],
            filters: vec![0; to.filters.len()],
            lists_stay: false,
            rings_stay: Vec::new(),
        };
        for feature in &to.features {
            let Some(before) = from.feature(&feature.def.name) else { unreachable!("a smaller plan has no feature of its own") };
            moves.features.push(before);
            for (&after, &before) in feature.slots.iter().zip(&from.features[before].slots) {
                moves.slot(after, before);
            }
        }
        moves.lists_stay =
            is_all(&moves.cells, from.listed.len()) && is_all(&moves.filters, from.filters.len()) && from.keeps_lsn == to.keeps_lsn;
        let stays = |(before, kept): &(usize, Vec<usize>)| is_all(kept, from.windows[*before].accumulators.len());
        moves.rings_stay = moves.windows.iter().map(stays).collect();
        assert!(to.stride <= from.stride && to.entry_words <= from.entry_words, "a smaller plan takes no more words");
        moves
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
                let (after, of) = (&self.to.windows[window], &self.from.windows[window_before]);
                (&after.accumulators[accumulator], &of.accumulators[before])
            }
            _ => unreachable!("a feature compiles to the same slots in every plan"),
        };
        assert_eq!(after.words, before.words, "an accumulator has the same words in every plan");
        if let (Some(after), Some(before)) = (after.filter, before.filter) {
            self.filters[after] = before;
        }
        let cell = |plan: &SlabPlan, column: usize| plan.listed.iter().position(|&listed| listed == column);
        for (after, before) in after.columns().zip(before.columns()) {
            if let (Some(after), Some(before)) = (cell(&self.to, after), cell(&self.from, before)) {
                self.cells[after] = before;
            }
        }
    }

    /// The larger plan.
    pub(super) fn from(&self) -> &SlabPlan {
        &self.from
    }

    /// Index in the larger plan of a feature of the smaller one.
    pub(super) fn feature(&self, feature: usize) -> usize {
        self.features[feature]
    }

    /// What each window of the smaller plan did not take, of what those of the larger one did not.
    pub(super) fn missed(&self, before: &[Missed]) -> Vec<Missed> {
        self.windows.iter().map(|window| before[window.0]).collect()
    }

    /// Whether words mean the same under both plans: what left shared all it had with what stays.
    pub(super) fn are_none(&self) -> bool {
        let windows: Vec<usize> = self.windows.iter().map(|window| window.0).collect();
        self.lists_stay
            && self.rings_stay.iter().all(|stays| *stays)
            && is_all(&self.lifetime, self.from.lifetime.len())
            && is_all(&windows, self.from.windows.len())
    }

    /// Brings a row over: its words are the first ones then, the others are zeroes.
    pub(super) fn bring_over(&self, words: &mut [u64], arena: &mut Arena) {
        assert_eq!(words.len(), self.from.stride, "a row of the larger plan");
        let mut before = RowWords::from_slice(words);
        words.fill(0);
        for (after, &number) in self.to.lifetime.iter().zip(&self.lifetime) {
            let from = &self.from.lifetime[number];
            words[after.at..after.at + after.words].copy_from_slice(&before[from.at..from.at + from.words]);
        }
        for (_, gone) in self.from.lifetime.iter().enumerate().filter(|(number, _)| !self.lifetime.contains(number)) {
            release(gone, &before[gone.at..], arena);
        }
        if !self.from.is_windowed() {
            return;
        }
        if !self.to.is_windowed() {
            expiry::release(&self.from, arena, &mut before);
            return;
        }
        let form = match Form::of(before[0]) {
            Form::List(handle) => Form::List(self.list(handle, arena)),
            Form::Rings => {
                let kept = |number| self.windows.iter().any(|window| window.0 == number);
                for (_, gone) in self.from.windows.iter().enumerate().filter(|(number, _)| !kept(*number)) {
                    ring::release(gone, arena, before[gone.at]);
                }
                for (after, (number, _)) in self.windows.iter().enumerate() {
                    let window = &self.from.windows[*number];
                    words[self.to.windows[after].at] = self.ring(after, window, before[window.at], arena);
                }
                Form::Rings
            }
            Form::Expired(head) => Form::Expired(head),
        };
        words[0] = form.word();
    }

    /// The objects that bringing a row over makes, before what it gives back.
    pub(super) fn demand(&self, words: &[u64], arena: &Arena, demand: &mut Demand) {
        if !self.from.is_windowed() || !self.to.is_windowed() {
            return;
        }
        match Form::of(words[0]) {
            Form::List(handle) if handle != 0 && !self.lists_stay => {
                demand.object(self.list_words(list::len(arena.get(handle))));
            }
            Form::Rings => {
                for (after, (before, _)) in self.windows.iter().enumerate().filter(|(after, _)| !self.rings_stay[*after]) {
                    let object = arena.get(words[self.from.windows[*before].at]);
                    if !object.is_empty() {
                        demand.object(ring::HEAD_WORDS + ring::len(object) * self.to.windows[after].stride);
                    }
                }
            }
            Form::List(_) | Form::Expired(_) => {}
        }
    }

    /// About how much work it is to bring a row over, in words.
    pub(super) fn weight(&self, words: &[u64], arena: &Arena) -> usize {
        if self.from.is_windowed() { expiry::weight(&self.from, arena, words) } else { 0 }
    }

    /// At least as many words of objects as bringing one row over makes.
    pub(super) fn demand_words_max(&self) -> usize {
        let rings = self.to.windows.iter().map(|window| ring::HEAD_WORDS + window.buckets * window.stride);
        self.list_words(ENTRIES_MAX).max(rings.sum())
    }

    /// A copy of a row that is not brought over, in another arena, and brought over there.
    pub(super) fn copy(&self, words: &[u64], arena: &Arena) -> (RowWords, Arena) {
        let mut into = Arena::default();
        let mut copy = lift(&self.from, words, arena, &mut into);
        self.bring_over(&mut copy, &mut into);
        copy.truncate(self.to.stride);
        (copy, into)
    }

    fn list_words(&self, entries: usize) -> usize {
        1 + entries * self.to.entry_words
    }

    /// Rewrites a list's entries.
    fn list(&self, handle: Handle, arena: &mut Arena) -> Handle {
        if handle == 0 || self.lists_stay {
            return handle;
        }
        let before = arena.get(handle).to_vec();
        let count = list::len(&before);
        let mut words = vec![0u64; self.list_words(count)];
        words[0] = before[0];
        for index in 0..count {
            let entry = &before[list::entry(&self.from, &before, index)];
            let smaller = &mut words[1 + index * self.to.entry_words..][..self.to.entry_words];
            smaller[0] = entry[0];
            list::set_lsn(&self.to, smaller, list::lsn_of(&self.from, entry));
            for (after, &cell) in self.cells.iter().enumerate() {
                list::set_bits(&self.to, smaller, after * 4, list::tag_of(&self.from, entry, cell));
                smaller[list::cell_at(&self.to, after)] = entry[list::cell_at(&self.from, cell)];
            }
            for (after, &filter) in self.filters.iter().enumerate() {
                let matched = u64::from(list::matched(&self.from, entry, filter));
                list::set_bits(&self.to, smaller, self.to.listed.len() * 4 + after, matched);
            }
            for cell in (0..self.from.listed.len()).filter(|cell| !self.cells.contains(cell)) {
                if list::in_heap(list::tag_of(&self.from, entry, cell)) {
                    arena.free(entry[list::cell_at(&self.from, cell)]);
                }
            }
        }
        replaced(arena, handle, &words)
    }

    /// Rewrites a ring's buckets.
    fn ring(&self, after: usize, before: &WindowPlan, handle: Handle, arena: &mut Arena) -> Handle {
        if handle == 0 || self.rings_stay[after] {
            return handle;
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
            for (_, gone) in before.accumulators.iter().enumerate().filter(|(number, _)| !kept.contains(number)) {
                release(gone, &bucket[gone.at..], arena);
            }
        }
        replaced(arena, handle, &words)
    }
}

/// Another object in place of one: that is given back before room is taken.
fn replaced(arena: &mut Arena, handle: Handle, words: &[u64]) -> Handle {
    arena.free(handle);
    let moved = arena.alloc(words.len());
    arena.get_mut(moved)[..words.len()].copy_from_slice(words);
    moved
}

/// Gives back the objects of a slot that nobody reads any longer.
fn release(accumulator: &AccumulatorPlan, slot: &[u64], arena: &mut Arena) {
    for &word in accumulator.accumulator.handles() {
        arena.free(slot[word]);
    }
}

/// Copies a row with all its objects into another arena.
fn lift(plan: &SlabPlan, words: &[u64], arena: &Arena, into: &mut Arena) -> RowWords {
    let mut copy = RowWords::from_slice(words);
    if plan.is_windowed() {
        match Form::of(words[0]) {
            Form::List(0) | Form::Expired(_) => {}
            Form::List(handle) => copy[0] = Form::List(list::lift(plan, arena, handle, into)).word(),
            Form::Rings => {
                for window in &plan.windows {
                    copy[window.at] = ring::lift(window, arena, words[window.at], into);
                }
            }
        }
    }
    for accumulator in &plan.lifetime {
        for &word in accumulator.accumulator.handles() {
            let object = arena.get(words[accumulator.at + word]);
            if !object.is_empty() {
                let moved = into.alloc(object.len());
                into.get_mut(moved).copy_from_slice(object);
                copy[accumulator.at + word] = moved;
            }
        }
    }
    copy
}
