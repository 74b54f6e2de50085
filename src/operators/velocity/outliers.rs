//! Which numbers were unusual when they came, in order of time. Behind `outlier_count`.
//!
//! A number is an outlier when it is more than so many standard deviations from the mean of those
//! before it, of which there must be five that are not all equal. Over a lifetime those are all
//! numbers before it. In a window they are the numbers of the window that ends with the bucket
//! before its own, and those of its own bucket before it: `Follows` in the state. Whether a number
//! was unusual is decided once, by rows before it only, so counts of buckets add up, and a cut
//! bucket leaves open only how many of its own are inside.
//!
//! Means and squared distances are Welford's and Chan's ([`Moments`]); equal numbers have a
//! variance of exactly nothing. 48 bytes; in a window 72 for each bucket, a third of which is there
//! because later buckets ask what this one held by itself.

use crate::operators::moments::Moments;
use crate::state::{Accumulator, Arena, Follows, Input, Need, Order, SLOT_ROWS_MAX, f64_of};
use std::ops::Range;

/// Numbers that must come first.
const NUMBERS_MIN: u64 = 5;

const DISORDERED: usize = 0;
const COUNT: usize = 1;
const LAST_US: usize = 2;
/// Moments of all numbers that the next one is measured by.
const BEFORE: Range<usize> = 3..6;
/// Of the bucket's own among them.
const OWN: Range<usize> = 6..9;

/// Counts outliers.
///
/// ```text
/// [1 = disordered] [outliers] [time of the last number, us] [numbers] [mean] [m2]
///                                        and in a window of the bucket's own [numbers] [mean] [m2]
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) struct Outliers {
    /// Standard deviations.
    pub(super) sigma: f64,
    pub(super) windowed: bool,
}

/// Outliers of a slot.
pub(super) fn count(slot: &[u64]) -> u64 {
    slot[COUNT]
}

/// Whether a number came after a later one that was measured without it.
pub(super) fn is_disordered(slot: &[u64]) -> bool {
    slot[DISORDERED] == 1
}

impl Outliers {
    /// Whether a number is unusual among those that these moments are of.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn is_outlier(&self, before: &[u64], number: f64) -> bool {
        let (numbers, mean, m2) = (before[0], f64_of(before[1]), f64_of(before[2]));
        if numbers < NUMBERS_MIN {
            return false;
        }
        let variance = m2 / (numbers - 1) as f64;
        variance > 0.0 && (number - mean).abs() > self.sigma * variance.sqrt()
    }

    /// Whether a slot, or its bucket, has numbers of its own.
    fn has_own(&self, slot: &[u64]) -> bool {
        slot[if self.windowed { OWN.start } else { BEFORE.start }] > 0
    }
}

impl Accumulator for Outliers {
    fn identity(&self) -> String {
        format!("outliers/{}{}", self.sigma, if self.windowed { "/window" } else { "" })
    }

    fn words(&self) -> usize {
        if self.windowed { OWN.end } else { BEFORE.end }
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::Ends
    }

    fn follows(&self) -> Option<&dyn Follows> {
        self.windowed.then_some(self as &dyn Follows)
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let Some(number) = input.cell.number() else { return };
        if self.has_own(slot) && input.time_us < slot[LAST_US].cast_signed() {
            slot[DISORDERED] = 1;
        }
        slot[LAST_US] = input.time_us.cast_unsigned();
        slot[COUNT] += u64::from(self.is_outlier(&slot[BEFORE], number));
        Moments::take(&mut slot[BEFORE], number);
        if self.windowed {
            Moments::take(&mut slot[OWN], number);
        }
    }

    /// Adds what was counted; what rows are measured by stays with their buckets.
    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        slot[DISORDERED] |= other[DISORDERED];
        slot[COUNT] += other[COUNT];
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        Moments::check(&slot[BEFORE])?;
        let own = if self.windowed { OWN } else { BEFORE };
        Moments::check(&slot[own.clone()])?;
        let (before, own) = (slot[BEFORE.start], slot[own.start]);
        if slot[DISORDERED] > 1 {
            Err("its rows are neither in order nor out of it")
        } else if before < own {
            Err("rows are measured by fewer than there are")
        } else if slot[COUNT] > own || before < slot[COUNT].saturating_add(NUMBERS_MIN) && slot[COUNT] > 0 {
            Err("it counts more outliers than there can be")
        } else if own == 0 && slot[LAST_US] != 0 {
            Err("it has a last number and no numbers")
        } else if slot[COUNT] > SLOT_ROWS_MAX {
            Err("it counts more rows than there are")
        } else {
            Ok(())
        }
    }
}

impl Follows for Outliers {
    fn follow(&self, slot: &mut [u64], earlier: &[u64]) {
        debug_assert!(!self.has_own(slot), "a bucket follows others before it has rows");
        Moments::join(&mut slot[BEFORE], &earlier[OWN]);
    }

    fn lacks(&self, slot: &mut [u64]) {
        slot[DISORDERED] = 1;
    }

    fn overtaken(&self, slot: &mut [u64], late: &Input<'_>) {
        // A bucket without numbers of its own has measured none, but will, by what it was told.
        if late.cell.number().is_some() {
            self.lacks(slot);
        }
    }

    fn count_anew(&self, slot: &mut [u64]) {
        slot[COUNT] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, State, amounts, in_time, numbered, out_of_time, rows};
    use proptest::prelude::*;

    const SIGMA: f64 = 1.234_567_8;
    const LIFETIME: Outliers = Outliers { sigma: SIGMA, windowed: false };
    const WINDOWED: Outliers = Outliers { sigma: SIGMA, windowed: true };

    /// Outliers among the numbers from one on, each measured by all before it in two passes.
    fn oracle(numbers: &[f64], from: usize, sigma: f64) -> u64 {
        let is_outlier = |at: usize| {
            let before = &numbers[..at];
            let mean = before.iter().sum::<f64>() / at as f64;
            let variance = before.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (at as f64 - 1.0);
            at >= 5 && before.iter().any(|number| *number != before[0]) && (numbers[at] - mean).abs() > sigma * variance.sqrt()
        };
        (from..numbers.len()).filter(|at| is_outlier(*at)).count() as u64
    }

    #[test]
    fn five_numbers_come_first_and_the_unusual_one_is_not_measured_by_itself() {
        let counted = |numbers: &[f64], sigma| {
            let accumulator = Outliers { sigma, windowed: false };
            count(&State::fed(&accumulator, &rows(numbers.iter().copied().map(Datum::F64))).words)
        };
        for (numbers, expected) in [
            (&[][..], 0),
            (&[1.0, 2.0, 1.0, 2.0, 1000.0], 0),
            (&[1.0, 2.0, 1.0, 2.0, 1.0, 1000.0], 1),
            (&[1.0, 2.0, 1.0, 2.0, 1.0, 1000.0, 1000.0], 1),
            (&[1.0, 2.0, 1.0, 2.0, 1.0, -1000.0, 2.0], 1),
            // All equal: nothing is unusual by a deviation of nothing.
            (&[7.0, 7.0, 7.0, 7.0, 7.0, 7.1], 0),
        ] {
            assert_eq!(counted(numbers, 3.0), expected, "{numbers:?}");
        }
    }

    #[test]
    fn a_number_that_comes_late_is_told_and_what_is_none_is_not() {
        let late = |datum| [Row::of(Datum::I64(1), 5, 1), Row::of(datum, 4, 2), Row::of(Datum::I64(2), 6, 3)];
        for accumulator in [LIFETIME, WINDOWED] {
            assert!(is_disordered(&State::fed(&accumulator, &late(Datum::I64(3))).words));
            assert!(!is_disordered(&State::fed(&accumulator, &late(Datum::Null)).words));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn outliers_are_those_of_the_two_pass_oracle(rows in in_time(amounts(), 40)) {
            let state = State::fed(&LIFETIME, &rows);
            let numbers: Vec<f64> = numbered(&rows).into_iter().map(|(number, _)| number).collect();
            prop_assert_eq!(count(&state.words), oracle(&numbers, 0, SIGMA));
            prop_assert!(!is_disordered(&state.words));
            prop_assert_eq!(LIFETIME.verify(&state.words, &state.arena), Ok(()));
        }

        #[test]
        fn a_bucket_that_follows_others_counts_as_if_their_rows_were_its_own(rows in in_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            let (first, second) = (cuts.0.min(cuts.1).min(rows.len()), cuts.0.max(cuts.1).min(rows.len()));
            let mut parts: Vec<State> = Vec::new();
            for part in [&rows[..first], &rows[first..second], &rows[second..]] {
                let mut slot = State::fed(&WINDOWED, &[]);
                parts.iter().for_each(|earlier| WINDOWED.follow(&mut slot.words, &earlier.words));
                let own = State::resumed(&WINDOWED, slot, part);
                prop_assert_eq!(WINDOWED.verify(&own.words, &own.arena), Ok(()));
                parts.push(own);
            }
            let merged = parts[0].clone().merged(&WINDOWED, &parts[1]).merged(&WINDOWED, &parts[2]);
            let numbers: Vec<f64> = numbered(&rows).into_iter().map(|(number, _)| number).collect();
            prop_assert_eq!(count(&merged.words), oracle(&numbers, 0, SIGMA));
            // What was counted before is forgotten, what is measured by is not.
            let mut anew = parts[1].clone();
            WINDOWED.count_anew(&mut anew.words);
            prop_assert_eq!(count(&anew.words), 0);
            prop_assert_eq!(&anew.words[BEFORE], &parts[1].words[BEFORE]);
        }

        #[test]
        fn whatever_came_is_a_state_that_a_file_may_bring(rows in out_of_time(amounts(), 40)) {
            for accumulator in [LIFETIME, WINDOWED] {
                let state = State::fed(&accumulator, &rows);
                prop_assert_eq!(accumulator.verify(&state.words, &state.arena), Ok(()));
            }
        }
    }
}
