//! The buckets that a list's rows would be in, for accumulators whose bucket hangs on the window
//! before it.
//!
//! A list has the rows themselves, and yet such an accumulator measures them by whole buckets: a
//! key that becomes rings must not answer otherwise. A walk makes the buckets that a ring would
//! have, in the same order and by the same calls, so that also doubles are the same to the last
//! bit; only that it counts from the window's old edge on, where a ring has a cut bucket. One per
//! such accumulator of a read; rows come in order of time.

use super::arena::Arena;
use super::plan::{AccumulatorPlan, SlabRow, WindowPlan};
use super::ring;

/// See the module's head.
pub(super) struct Walk<'p> {
    plan: &'p WindowPlan,
    accumulator: &'p AccumulatorPlan,
    now_us: i64,
    /// Epochs of buckets with their slots, ascending.
    buckets: Vec<(i64, Vec<u64>)>,
    /// Whether the rows of the window have begun.
    counts: bool,
}

impl<'p> Walk<'p> {
    /// A walk up to this time.
    pub(super) fn new(plan: &'p WindowPlan, accumulator: usize, now_us: i64) -> Self {
        let accumulator = &plan.accumulators[accumulator];
        assert!(accumulator.accumulator.handles().is_empty(), "what follows keeps no objects");
        Self { plan, accumulator, now_us, buckets: Vec::new(), counts: false }
    }

    /// Takes the next row of the list.
    pub(super) fn update(&mut self, row: SlabRow<'_, '_>) {
        let (plan, time_us) = (self.plan, row.bare.time_us);
        let age_us = self.now_us.saturating_sub(time_us);
        if age_us < 0 || age_us >= plan.window_us.saturating_add(plan.behind_us()) {
            return;
        }
        let Some(follows) = self.accumulator.accumulator.follows() else { unreachable!("only what follows walks") };
        if age_us < plan.window_us && !self.counts {
            self.counts = true;
            self.buckets.iter_mut().for_each(|(_, slot)| follows.count_anew(slot));
        }
        let epoch = ring::epoch_of(plan, time_us);
        debug_assert!(self.buckets.last().is_none_or(|(last, _)| *last <= epoch), "rows of a list are in order of time");
        if self.buckets.last().is_none_or(|(last, _)| *last != epoch) {
            let mut slot = vec![0; self.accumulator.words];
            let from = epoch.saturating_sub(plan.window_us);
            for (_, earlier) in self.buckets.iter().filter(|(epoch, _)| *epoch >= from) {
                follows.follow(&mut slot, earlier);
            }
            self.buckets.push((epoch, slot));
        }
        let Some((_, slot)) = self.buckets.last_mut() else { unreachable!("the row has a bucket") };
        self.accumulator.update(slot, &mut Arena::default(), row);
    }

    /// Merges what the rows of the window came to.
    pub(super) fn counted(&self, slot: &mut [u64]) {
        let mut nowhere = Arena::default();
        for (_, bucket) in self.buckets.iter().filter(|_| self.counts) {
            self.accumulator.accumulator.merge(slot, &mut nowhere, bucket, &Arena::default());
        }
    }
}
