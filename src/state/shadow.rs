//! A copy of one key's list or rings, and of its lifetime objects where asked for, that rows are applied to before they
//! are applied: what they make of it is what they need.
//!
//! The next row of a list that may become rings takes anything from one entry to some hundred buckets with sketches, and
//! of a frame's many rows of one key any may be the one for which a ring moves. Near the memory limit that is not
//! estimated but done, on a copy in an arena of its own. Invariant: objects of the
//! copy are made and given back in the order in which those of the key will be, so the most that there were of a class
//! at one time is the most that the key will have. Called by [`growth`](super::growth) and [`by_key`](super::by_key), cold.

use super::arena::Arena;
use super::chunk::chunk_bytes;
use super::demand::Demand;
use super::form::Form;
use super::list;
use super::plan::{SlabPlan, SlabRow};
use super::ring;
use super::slab::{self, Missed};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Shadow {
    arena: Arena,
    words: Vec<u64>,
    missed: Vec<Missed>,
    /// The most objects of each class that were named as needed, or stood in the list.
    named: Vec<usize>,
    /// Lifetime accumulators are in the copy too.
    is_whole: bool,
    /// Work of rows that hung on what the copy held, in words, since somebody asked.
    worked: usize,
}

impl Shadow {
    /// A copy of what a key's windows hold.
    pub(crate) fn of(plan: &SlabPlan, arena: &Arena, words: &[u64]) -> Self {
        assert!(plan.is_windowed(), "windows are copied");
        let mut shadow = Self::empty(plan, words);
        shadow.copy_windows(plan, arena, words);
        shadow.made(&mut Demand::default());
        shadow
    }

    /// A copy of all that a key holds in a slab.
    pub(crate) fn whole(plan: &SlabPlan, arena: &Arena, words: &[u64]) -> Self {
        let mut shadow = Self { is_whole: true, ..Self::empty(plan, words) };
        for accumulator in &plan.lifetime {
            let slot = accumulator.at..accumulator.at + accumulator.words;
            shadow.words[slot.clone()].copy_from_slice(&words[slot]);
            for &word in accumulator.accumulator.handles() {
                let object = arena.get(words[accumulator.at + word]);
                if !object.is_empty() {
                    let copy = shadow.arena.alloc(object.len());
                    shadow.arena.get_mut(copy)[..object.len()].copy_from_slice(object);
                    shadow.words[accumulator.at + word] = copy;
                }
            }
        }
        if plan.is_windowed() {
            shadow.copy_windows(plan, arena, words);
        }
        shadow.made(&mut Demand::default());
        shadow
    }

    fn empty(plan: &SlabPlan, words: &[u64]) -> Self {
        assert_eq!(words.len(), plan.stride, "a row of this slab is copied");
        Self {
            arena: Arena::default(),
            words: vec![0; plan.stride],
            missed: vec![Missed::default(); plan.windows.len()],
            named: Vec::new(),
            is_whole: false,
            worked: 0,
        }
    }

    fn copy_windows(&mut self, plan: &SlabPlan, arena: &Arena, words: &[u64]) {
        let form = match Form::of(words[0]) {
            Form::List(0) => Form::List(0),
            Form::List(handle) => Form::List(list::lift(plan, arena, handle, &mut self.arena)),
            Form::Rings => {
                for window in &plan.windows {
                    self.words[window.at] = ring::lift(window, arena, words[window.at], &mut self.arena);
                }
                Form::Rings
            }
            Form::Expired(head) => Form::Expired(head),
        };
        self.words[0] = form.word();
    }

    /// Whether lifetime accumulators are in the copy too.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Bytes that the copy takes.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.chunks().map(|chunk| chunk_bytes(chunk.words().len())).sum()
    }

    /// Applies a row.
    pub(crate) fn feed(&mut self, plan: &SlabPlan, row: SlabRow<'_, '_>) {
        if self.is_whole {
            for accumulator in &plan.lifetime {
                accumulator.update(&mut self.words[accumulator.at..accumulator.at + accumulator.words], &mut self.arena, row);
            }
        }
        if plan.is_windowed() {
            slab::update_windows(plan, &mut self.arena, &mut self.words, row, (&mut self.missed, &mut self.worked));
        }
    }

    /// Work of rows that hung on what the copy held, in words, since this was asked.
    pub(crate) fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.worked)
    }

    /// Names the objects that there were at one time beyond those that were named before.
    pub(crate) fn made(&mut self, demand: &mut Demand) {
        for (class, most) in self.arena.most_objects() {
            if self.named.len() <= class {
                self.named.resize(class + 1, 0);
            }
            assert!(self.named[class] <= most, "the most that there were never becomes less");
            demand.of_class(class, most - self.named[class]);
            self.named[class] = most;
        }
    }
}
