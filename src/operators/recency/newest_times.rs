//! The newest times of rows, as many as a feature asks for. Behind `time_since_last_n`.
//!
//! ```text
//! slot     [times] [handle -> times, us, ascending]
//! ```
//! Which times are kept hangs on the set of rows only, so merge is exact, associative and commutative.

use crate::operators::reading::Part;
use crate::state::{Accumulator, Arena, Demand, Input, Need};

/// The `keeps` newest times.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewestTimes {
    /// How many are kept, at least 1.
    pub(super) keeps: usize,
}

impl NewestTimes {
    /// The times that a slot holds, ascending.
    pub(super) fn held(part: Part<'_>) -> &[u64] {
        let &[count, handle] = part.words else { unreachable!("a slot of newest times has two words") };
        let object = part.arena.get(handle);
        debug_assert!(count <= object.len() as u64, "{count} times in an object of {} words", object.len());
        usize::try_from(count).ok().and_then(|count| object.get(..count)).unwrap_or_default()
    }

    fn take(self, slot: &mut [u64], arena: &mut Arena, time_us: i64) {
        let held = Self::held(Part { words: slot, arena });
        let count = held.len();
        let at = held.partition_point(|&held| held.cast_signed() <= time_us);
        if count == self.keeps {
            // The oldest goes; a row that is older still changes nothing.
            if at > 0 {
                let object = arena.get_mut(slot[1]);
                object.copy_within(1..at, 0);
                object[at - 1] = time_us.cast_unsigned();
            }
            return;
        }
        if count >= Arena::capacity(slot[1]) {
            slot[1] = arena.grow(slot[1], self.grown(count));
        }
        let object = arena.get_mut(slot[1]);
        object.copy_within(at..count, at + 1);
        object[at] = time_us.cast_unsigned();
        slot[0] += 1;
    }

    /// Words of the object that `count` times move into for one more.
    fn grown(self, count: usize) -> usize {
        (count + count / 2 + 1).min(self.keeps)
    }
}

impl Accumulator for NewestTimes {
    fn identity(&self) -> String {
        format!("newest times/{}", self.keeps)
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        &[1]
    }

    fn need(&self) -> Need {
        Need::Nothing
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        self.take(slot, arena, input.time_us);
    }

    fn demand_words_max(&self) -> usize {
        self.keeps
    }

    fn demand(&self, slot: &[u64], arena: &Arena, _input: &Input<'_>, before: usize, demand: &mut Demand) {
        let (count, room) = (Self::held(Part { words: slot, arena }).len(), Arena::capacity(slot[1]));
        // Of the rows before, any may have been left out: it grows at the latest with the last time that has room to come.
        let most = (count + before).min(self.keeps.saturating_sub(1));
        if count < self.keeps && most >= room {
            demand.object_within(self.grown(count.max(room)), self.grown(most));
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        for &time in Self::held(Part { words: other, arena: from }) {
            self.take(slot, arena, time.cast_signed());
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let (count, object) = (slot[0], arena.get(slot[1]));
        if count > self.keeps as u64 || count > object.len() as u64 {
            Err("it has no room for its times")
        } else if Self::held(Part { words: slot, arena }).is_sorted_by_key(|time| time.cast_signed()) {
            Ok(())
        } else {
            Err("its times do not ascend")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, State, check_any_order, check_exact_laws};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_newest_times_stay_in_any_order(
            times in prop::collection::vec(-9i64..9, 0..40),
            keeps in prop::sample::select(vec![1usize, 2, 5, 64]),
            cuts in (0usize..40, 0usize..40),
        ) {
            let newest = NewestTimes { keeps };
            let rows: Vec<Row> = times.iter().zip(1..).map(|(&time_us, lsn)| Row::of(Datum::Null, time_us, lsn)).collect();
            check_exact_laws(&newest, &rows, cuts)?;
            let state = State::fed(&newest, &rows);
            check_any_order(&newest, &rows, &|left, right| left.content(&newest) == right.content(&newest))?;
            let mut oracle = times;
            oracle.sort_unstable();
            let oracle: Vec<u64> = oracle[oracle.len().saturating_sub(keeps)..].iter().map(|time| time.cast_unsigned()).collect();
            prop_assert_eq!(NewestTimes::held(state.slot().core), &oracle[..]);
            prop_assert_eq!(newest.verify(&state.words, &state.arena), Ok(()));
        }
    }
}
