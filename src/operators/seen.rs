//! When rows came: how many there were, and the earliest and latest time of them. Behind `first_seen`, `last_seen`, `age`,
//! `has_seen`, `time_since`, `first_seen_in_window` and `inter_arrival_stats`.

use super::reading::Part;
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX};

/// What the times of rows say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How many rows there were.
    pub(super) rows: u64,
    /// Time of the earliest, microseconds; 0 without rows.
    pub(super) first_us: i64,
    /// Time of the latest.
    pub(super) last_us: i64,
}

impl Seen {
    /// What a slot says.
    pub(super) fn of(part: Part<'_>) -> Self {
        let &[rows, first, last] = part.words else { unreachable!("a slot of times has three words") };
        Self { rows, first_us: first.cast_signed(), last_us: last.cast_signed() }
    }

    /// Whether there were any.
    pub(super) fn any(self) -> bool {
        self.rows > 0
    }

    /// Both together.
    pub(super) fn with(self, other: Self) -> Self {
        match (self.any(), other.any()) {
            (_, false) => self,
            (false, true) => other,
            (true, true) => {
                Self { rows: self.rows + other.rows, first_us: self.first_us.min(other.first_us), last_us: self.last_us.max(other.last_us) }
            }
        }
    }

    fn write(self, slot: &mut [u64]) {
        slot.copy_from_slice(&[self.rows, self.first_us.cast_unsigned(), self.last_us.cast_unsigned()]);
    }
}

/// Slot: `[rows] [earliest time, us] [latest time, us]`. Merge is exact, associative and commutative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times;

impl Accumulator for Times {
    fn identity(&self) -> String {
        "times".into()
    }

    fn words(&self) -> usize {
        3
    }

    fn need(&self) -> Need {
        Need::Nothing
    }

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        let row = Seen { rows: 1, first_us: input.time_us, last_us: input.time_us };
        Seen::of(Part { words: slot, arena }).with(row).write(slot);
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        let other = Seen::of(Part { words: other, arena: from });
        Seen::of(Part { words: slot, arena }).with(other).write(slot);
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let seen = Seen::of(Part { words: slot, arena });
        match seen.rows {
            0 if seen != Seen::default() => Err("it has times and no rows"),
            1 if seen.first_us != seen.last_us => Err("one row came at two times"),
            rows if rows > SLOT_ROWS_MAX => Err("it counts more rows than there are"),
            _ if seen.first_us > seen.last_us => Err("the latest row is before the earliest"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{Datum, Row, check_any_order, check_exact_laws};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn times_are_those_of_the_ends_in_any_order(
            times in prop::collection::vec(prop_oneof![-3i64..3, any::<i64>()], 0..20),
            cuts in (0usize..20, 0usize..20),
        ) {
            let rows: Vec<Row> = times.iter().zip(1..).map(|(&time_us, lsn)| Row::of(Datum::Null, time_us, lsn)).collect();
            check_exact_laws(&Times, &rows, cuts)?;
            check_any_order(&Times, &rows, &|left, right| left.words == right.words)?;
            let whole = super::super::laws::State::fed(&Times, &rows);
            let seen = Seen::of(whole.slot().core);
            prop_assert_eq!(seen.rows, times.len() as u64);
            prop_assert_eq!(seen.first_us, times.iter().copied().min().unwrap_or(0));
            prop_assert_eq!(seen.last_us, times.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(Times.verify(&whole.words, &whole.arena), Ok(()));
        }
    }
}
