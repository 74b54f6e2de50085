//! A copy of one key's list or rings that rows are applied to before they are applied: what they make of it is what they
//! need.
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
}

impl Shadow {
    /// A copy of what a key's windows hold.
    pub(crate) fn of(plan: &SlabPlan, arena: &Arena, words: &[u64]) -> Self {
        assert!(plan.is_windowed() && words.len() == plan.stride, "windows are copied, of a row of this slab");
        let mut shadow = Self {
            arena: Arena::default(),
            words: vec![0; plan.stride],
            missed: vec![Missed::default(); plan.windows.len()],
            named: Vec::new(),
        };
        let form = match Form::of(words[0]) {
            Form::List(0) => Form::List(0),
            Form::List(handle) => Form::List(list::lift(plan, arena, handle, &mut shadow.arena)),
            Form::Rings => {
                for window in &plan.windows {
                    shadow.words[window.at] = ring::lift(window, arena, words[window.at], &mut shadow.arena);
                }
                Form::Rings
            }
            Form::Expired(head) => Form::Expired(head),
        };
        shadow.words[0] = form.word();
        shadow.made(&mut Demand::default());
        shadow
    }

    /// Bytes that the copy takes.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.chunks().map(|chunk| chunk_bytes(chunk.words().len())).sum()
    }

    /// Applies a row.
    pub(crate) fn feed(&mut self, plan: &SlabPlan, row: SlabRow<'_, '_>) {
        slab::update_windows(plan, &mut self.arena, &mut self.words, row, &mut self.missed);
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
