//! Sorting in steps: runs that are sorted at once, merged two by two.
//!
//! Near the memory limit the rows of a frame are sorted by key, and there may be 65,536 of them: some milliseconds, for
//! which nobody else would have the seat. Here no step sorts more than a run or merges more than it was told to. Invariants:
//! nothing is added once sorting has begun; between two steps every item is in `items` or, merged, in `merged`. Cost: as
//! much as sorting at once, and the items' room twice meanwhile. Called by [`by_key`](super::by_key), cold.

/// Items that are sorted at once: some fifty microseconds.
const RUN: usize = 2048;
/// Items that are sorted, and merged, for one effort.
const SORTED_PER_EFFORT: usize = 8;
const MERGED_PER_EFFORT: usize = 16;

/// Items that are sorted, or will be.
#[derive(Debug)]
pub(super) struct Sorting<T> {
    items: Vec<T>,
    /// Items in front are in sorted runs.
    in_runs: usize,
    /// Length of the runs that are merged two by two, where the first of the two begins, and the next items of both.
    width: usize,
    pair: usize,
    left: usize,
    right: usize,
    merged: Vec<T>,
}

impl<T> Default for Sorting<T> {
    fn default() -> Self {
        Self { items: Vec::new(), in_runs: 0, width: RUN, pair: 0, left: 0, right: RUN, merged: Vec::new() }
    }
}

impl<T: Copy + Ord> Sorting<T> {
    /// Adds an item.
    pub(super) fn push(&mut self, item: T) {
        debug_assert_eq!(self.in_runs, 0, "items are added before they are sorted");
        self.items.push(item);
    }

    /// Goes on for so much effort; true when all items are sorted.
    pub(super) fn go_on(&mut self, effort: &mut usize) -> bool {
        while self.in_runs < self.items.len() {
            if *effort == 0 {
                return false;
            }
            let end = (self.in_runs + RUN).min(self.items.len());
            self.items[self.in_runs..end].sort_unstable();
            *effort = effort.saturating_sub((end - self.in_runs).div_ceil(SORTED_PER_EFFORT));
            self.in_runs = end;
        }
        while self.width < self.items.len() {
            if *effort == 0 {
                return false;
            }
            let most = effort.saturating_mul(MERGED_PER_EFFORT);
            *effort = effort.saturating_sub(self.merge(most).div_ceil(MERGED_PER_EFFORT));
        }
        debug_assert!(self.items.is_sorted(), "merged runs are sorted");
        true
    }

    /// Merges the next items, at most so many; how many.
    fn merge(&mut self, most: usize) -> usize {
        let Self { items, width, pair, left, right, merged, .. } = self;
        let (len, begun) = (items.len(), merged.len());
        while merged.len() < len && merged.len() - begun < most {
            let (middle, end) = ((*pair + *width).min(len), (*pair + 2 * *width).min(len));
            if *left == middle && *right == end {
                (*pair, *left, *right) = (end, end, (end + *width).min(len));
                continue;
            }
            let takes_left = *left < middle && (*right == end || items[*left] <= items[*right]);
            let next = if takes_left { &mut *left } else { &mut *right };
            merged.push(items[*next]);
            *next += 1;
        }
        let moved = merged.len() - begun;
        if merged.len() == len {
            std::mem::swap(items, merged);
            merged.clear();
            *width *= 2;
            (*pair, *left, *right) = (0, 0, (*width).min(len));
        }
        moved
    }

    /// The items, once they are sorted.
    pub(super) fn sorted(&self) -> &[T] {
        debug_assert!(self.in_runs == self.items.len() && self.width >= self.items.len(), "items are sorted before they are read");
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rows of a push were sorted by key in one step.
    #[test]
    fn no_step_sorts_more_than_a_run_and_the_whole_is_sorted() {
        for len in [0, 1, 2, RUN - 1, RUN, RUN + 1, 3 * RUN, 5 * RUN + 7, 65_536] {
            for keys in [1, 3, 1 << 20] {
                let item = |at: usize| (at * 7919 % (len + 1) % keys, at);
                let mut sorting = Sorting::default();
                (0..len).for_each(|at| sorting.push(item(at)));
                let mut steps = 0;
                while !sorting.go_on(&mut { 64 }) {
                    steps += 1;
                }
                let mut expected: Vec<_> = (0..len).map(item).collect();
                expected.sort_unstable();
                assert_eq!(sorting.sorted(), expected, "{len} items of {keys} keys");
                // Each step sorts a run, or merges a thousand.
                let least = if len > RUN { len / RUN + len / (64 * MERGED_PER_EFFORT) } else { 0 };
                assert!(steps >= least, "{steps} steps for {len} items");
            }
        }
    }
}
