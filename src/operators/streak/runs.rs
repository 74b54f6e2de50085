//! Lengths of runs of matching and of other rows, in order of time.
//!
//! Rows that come in order of time are counted exactly. A row that comes after a later one is taken as the latest, since
//! where it stood cannot be known without keeping all rows; from then on the reading is not exact.

use crate::state::{Accumulator, Arena, Input, Need, Order, SLOT_ROWS_MAX};

/// What a slot says: runs of matching rows have positive lengths, runs of others negative ones.
///
/// ```text
/// [rows << 1 | disordered] [time of the first row, us] [of the last] [first run] [last run] [longest matching run]
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Runs {
    rows: u64,
    /// Whether a row came after a later one.
    pub(super) disordered: bool,
    first_us: i64,
    last_us: i64,
    first: i64,
    last: i64,
    longest: u64,
}

impl Runs {
    /// What the words of a slot say.
    pub(super) fn of(words: &[u64]) -> Self {
        let &[rows, first_us, last_us, first, last, longest] = words else { unreachable!("a slot of runs has six words") };
        Self {
            rows: rows >> 1,
            disordered: rows & 1 == 1,
            first_us: first_us.cast_signed(),
            last_us: last_us.cast_signed(),
            first: first.cast_signed(),
            last: last.cast_signed(),
            longest,
        }
    }

    fn words(self) -> [u64; 6] {
        let times = [self.first_us, self.last_us, self.first, self.last].map(i64::cast_unsigned);
        [self.rows << 1 | u64::from(self.disordered), times[0], times[1], times[2], times[3], self.longest]
    }

    /// One row.
    fn one(time_us: i64, matched: bool) -> Self {
        let run = if matched { 1 } else { -1 };
        Self { rows: 1, disordered: false, first_us: time_us, last_us: time_us, first: run, last: run, longest: u64::from(matched) }
    }

    /// Matching rows since the last one that did not match.
    pub(super) fn current(self) -> u64 {
        u64::try_from(self.last).unwrap_or(0)
    }

    /// Rows that did not match since the last one that did.
    pub(super) fn current_of_others(self) -> u64 {
        u64::try_from(self.last.saturating_neg()).unwrap_or(0)
    }

    /// The most matching rows without one between them that did not match.
    pub(super) fn longest(self) -> u64 {
        self.longest
    }

    /// These rows and then the others.
    fn then(self, later: Self) -> Self {
        if self.rows == 0 || later.rows == 0 {
            return if self.rows == 0 { later } else { self };
        }
        let joined = self.last.signum() == later.first.signum();
        let is_one = |runs: Self| runs.first.unsigned_abs() == runs.rows;
        let met = if joined { self.last + later.first } else { 0 };
        Self {
            rows: self.rows + later.rows,
            disordered: self.disordered || later.disordered || later.first_us < self.last_us,
            first_us: self.first_us.min(later.first_us),
            last_us: self.last_us.max(later.last_us),
            first: if joined && is_one(self) { met } else { self.first },
            last: if joined && is_one(later) { met } else { later.last },
            longest: self.longest.max(later.longest).max(u64::try_from(met).unwrap_or(0)),
        }
    }
}

/// Counts runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunLengths;

impl Accumulator for RunLengths {
    fn identity(&self) -> String {
        "runs".into()
    }

    fn words(&self) -> usize {
        6
    }

    fn need(&self) -> Need {
        Need::Nothing
    }

    fn order(&self) -> Order {
        Order::Ends
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let runs = Runs::of(slot).then(Runs::one(input.time_us, input.matched));
        slot.copy_from_slice(&runs.words());
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        let runs = Runs::of(slot).then(Runs::of(other));
        slot.copy_from_slice(&runs.words());
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        let runs = Runs::of(slot);
        if runs.rows == 0 {
            return if slot.iter().all(|&word| word == 0) { Ok(()) } else { Err("it has runs and no rows") };
        }
        let is_run = |run: i64| run != 0 && run.unsigned_abs() <= runs.rows;
        let longest = runs.first.max(runs.last).max(0).unsigned_abs();
        if runs.rows > SLOT_ROWS_MAX {
            Err("it counts more rows than there are")
        } else if !is_run(runs.first) || !is_run(runs.last) || !(longest..=runs.rows).contains(&runs.longest) {
            Err("its runs are not those of its rows")
        } else if runs.first_us > runs.last_us {
            Err("its last row is before its first")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, State, check_exact_laws};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn runs_are_those_of_a_walk_over_all_rows(
            matches in prop::collection::vec(any::<bool>(), 0..40),
            cuts in (0usize..40, 0usize..40),
        ) {
            let row = |(&matched, lsn): (&bool, u64)| Row { matched, ..Row::of(Datum::Null, lsn.cast_signed() / 2, lsn) };
            let rows: Vec<Row> = matches.iter().zip(1u64..).map(row).collect();
            check_exact_laws(&RunLengths, &rows, cuts)?;
            let state = State::fed(&RunLengths, &rows);
            prop_assert_eq!(RunLengths.verify(&state.words, &state.arena), Ok(()));
            let (mut current, mut others, mut longest) = (0u64, 0u64, 0u64);
            for &matched in &matches {
                (current, others) = if matched { (current + 1, 0) } else { (0, others + 1) };
                longest = longest.max(current);
            }
            let runs = Runs::of(&state.words);
            prop_assert_eq!((runs.current(), runs.current_of_others(), runs.longest(), runs.disordered), (current, others, longest, false));
        }
    }

    #[test]
    fn a_row_that_comes_after_a_later_one_is_taken_as_the_latest_and_told() {
        let row = |time_us, matched| Row { matched, ..Row::of(Datum::Null, time_us, 1) };
        let state = State::fed(&RunLengths, &[row(10, true), row(20, false), row(15, true)]);
        let runs = Runs::of(&state.words);
        assert_eq!((runs.current(), runs.longest(), runs.disordered), (1, 1, true));
    }
}
