//! A copy of one key's list that rows are applied to before they are applied: what they make of it is what they need.
//!
//! A list that may become rings takes anything from one entry to some hundred buckets with sketches for its next row, so
//! near the memory limit that is not estimated but done, on a copy in an arena of its own. Invariant: objects of the
//! copy are made and given back in the order in which those of the key will be, so the most that there were of a class
//! at one time is the most that the key will have. Called by [`growth`](super::growth) only, cold; a copy takes some
//! 100 kB while a frame is looked at.

use super::arena::{Arena, Handle};
use super::demand::Demand;
use super::list;
use super::plan::{GROWN, SlabPlan, SlabRow};
use super::slab::{self, Missed};

/// See the module's head.
pub(crate) struct Shadow {
    arena: Arena,
    words: Vec<u64>,
    missed: Vec<Missed>,
    /// The most objects of each class that were named as needed, or stood in the list.
    named: Vec<usize>,
}

impl Shadow {
    /// A copy of a list; handle 0 is the empty one.
    pub(crate) fn of(plan: &SlabPlan, arena: &Arena, handle: Handle) -> Self {
        assert!(plan.is_windowed() && handle != GROWN, "only a list is copied");
        let mut shadow = Self {
            arena: Arena::default(),
            words: vec![0; plan.stride],
            missed: vec![Missed::default(); plan.windows.len()],
            named: Vec::new(),
        };
        if handle != 0 {
            shadow.words[0] = list::lift(plan, arena, handle, &mut shadow.arena);
        }
        shadow.made(&mut Demand::default());
        shadow
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
