//! Totals that halve with every half life: what `decayed_sum` and `decayed_count` read.
//!
//! ```text
//! slot       [numbers] [total] [last us]
//! windowed   [numbers] [total of the positive ones] [last us] [total of the negative ones]
//! ```
//! A total is as of the latest row. A later row first fades it, a late one enters with what its age
//! has left of it, and a merge fades the earlier side: so rows and buckets may come in any order, up to
//! rounding. A read fades it to its own time, but never lets it grow: as of a time before the latest
//! row it is what it was at that row.
//!
//! Totals are kept in units of 2^66, so that [`SLOT_ROWS_MAX`] of the largest doubles are one too: a
//! total that has left the doubles comes back when it has faded.
//!
//! Where the edge of a window cuts a bucket, any of its numbers may be inside: the total lies between
//! what only the negative and what only the positive ones would make of it. Numbers of a bucket that
//! goes on after the time of the read have faded less by then than by its last row.

use super::half_life::HalfLife;
use crate::operators::FeatureParams;
use crate::operators::reading::{Accuracy, Bound, Part, Slot};
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX, f64_of};
use streamgauge_api::Value;

const NUMBERS: usize = 0;
const TOTAL: usize = 1;
const LAST_US: usize = 2;
const NEGATIVES: usize = 3;

/// 2^66, the unit of totals.
const UNIT: f64 = 73_786_976_294_838_206_464.0;

const _: () = assert!(f64::MAX / UNIT * (SLOT_ROWS_MAX as f64) < f64::MAX / 1024.0);

/// Of numbers that weigh less than this part of the latest one's weight something may have fallen below
/// the least double.
const LEFT_MAX: f64 = 1e270;

/// What is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addend {
    /// The field's number.
    Number,
    /// One for each row.
    One,
}

/// The accumulator. Merge is associative and commutative within rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecayedTotal {
    addend: Addend,
    half_life: HalfLife,
    windowed: bool,
}

impl DecayedTotal {
    pub(super) fn of(feature: &FeatureParams<'_>, addend: Addend) -> Self {
        Self { addend, half_life: HalfLife::of(feature.params), windowed: feature.window_us.is_some() }
    }

    /// The total at a time, cut buckets with their share; null without any number.
    pub(super) fn value(self, slot: &Slot<'_>, now_us: i64) -> Value {
        self.at(slot, now_us).map_or(Value::Null, Value::F64)
    }

    /// The total, where there is one and it is within the doubles.
    fn at(self, slot: &Slot<'_>, now_us: i64) -> Option<f64> {
        let numbers: u64 = slot.parts().map(|(part, _)| part.words[NUMBERS]).sum();
        let total: f64 = slot.parts().map(|(part, share)| share * self.total(part) * self.left(part, now_us).min(1.0)).sum();
        Some(total * UNIT).filter(|total| numbers > 0 && total.is_finite())
    }

    /// What cut buckets leave open of it.
    pub(super) fn accuracy(self, slot: &Slot<'_>, now_us: i64) -> Accuracy {
        if slot.parts().all(|(part, _)| part.words[NUMBERS] == 0) {
            return Accuracy::Exact;
        }
        if self.at(slot, now_us).is_none() {
            return Accuracy::Unknown;
        }
        if slot.edges().all(|edge| edge.part.words[NUMBERS] == 0) {
            return Accuracy::Exact;
        }
        let inside = self.total(slot.core) * self.left(slot.core, now_us).min(1.0);
        let (mut low, mut high) = (inside, inside);
        for edge in slot.edges().filter(|edge| edge.part.words[NUMBERS] > 0) {
            let left = self.left(edge.part, now_us);
            if self.addend == Addend::Number && left > LEFT_MAX {
                return Accuracy::Unknown;
            }
            // Nothing is nothing at any time, also where the rest has left the doubles.
            let then = |total: f64| if total == 0.0 { 0.0 } else { total * left };
            low += then(self.negatives(edge.part));
            high += then(self.positives(edge.part));
        }
        let end = |total: f64| if (total * UNIT).is_finite() { Value::F64(total * UNIT) } else { Value::Null };
        if end(low) == Value::Null && end(high) == Value::Null {
            return Accuracy::Unknown;
        }
        let nullable = slot.core.words[NUMBERS] == 0;
        Bound { low: end(low), high: end(high), nullable, confidence: None }.into()
    }

    /// What is left of the part's total at a time; more than all of it before its last row.
    fn left(self, part: Part<'_>, now_us: i64) -> f64 {
        self.half_life.left(now_us.saturating_sub(part.words[LAST_US].cast_signed()))
    }

    fn total(self, part: Part<'_>) -> f64 {
        self.positives(part) + if self.windowed { self.negatives(part) } else { 0.0 }
    }

    fn positives(self, part: Part<'_>) -> f64 {
        f64_of(part.words[TOTAL])
    }

    fn negatives(self, part: Part<'_>) -> f64 {
        debug_assert!(self.windowed, "a lifetime is never cut");
        f64_of(part.words[NEGATIVES])
    }

    /// The words that hold totals.
    #[inline]
    fn totals(self) -> &'static [usize] {
        if self.windowed { &[TOTAL, NEGATIVES] } else { &[TOTAL] }
    }

    /// Fades a slot to a later time; gives what is left of what is added as of this time.
    #[inline]
    fn fade(self, slot: &mut [u64], time_us: i64) -> f64 {
        let after_us = time_us.saturating_sub(slot[LAST_US].cast_signed());
        if slot[NUMBERS] == 0 || after_us > 0 {
            let left = self.half_life.left(after_us.max(0));
            for &at in self.totals() {
                slot[at] = (f64_of(slot[at]) * left).to_bits();
            }
            slot[LAST_US] = time_us.cast_unsigned();
            return 1.0;
        }
        self.half_life.left(after_us.saturating_neg())
    }
}

impl Accumulator for DecayedTotal {
    fn identity(&self) -> String {
        let addend = if self.addend == Addend::One { "rows" } else { "numbers" };
        format!("decayed {addend}/{}{}", self.half_life.us(), if self.windowed { "/windowed" } else { "" })
    }

    fn words(&self) -> usize {
        if self.windowed { 4 } else { 3 }
    }

    fn need(&self) -> Need {
        if self.addend == Addend::One { Need::Nothing } else { Need::Value }
    }

    #[inline]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let number = if self.addend == Addend::One { Some(1.0) } else { input.cell.number() };
        let Some(number) = number else { return };
        debug_assert!(number.is_finite(), "cells hold finite numbers");
        let left = self.fade(slot, input.time_us);
        let at = if self.windowed && number < 0.0 { NEGATIVES } else { TOTAL };
        slot[at] = (f64_of(slot[at]) + number / UNIT * left).to_bits();
        slot[NUMBERS] += 1;
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        if slot[NUMBERS] > SLOT_ROWS_MAX || (slot[NUMBERS] == 0 && slot.iter().any(|&word| word != 0)) {
            return Err("its count of numbers is not theirs");
        }
        let sound = |&at: &usize| match f64_of(slot[at]) {
            total if self.windowed && at == NEGATIVES => total <= 0.0,
            total if self.windowed || self.addend == Addend::One => total >= 0.0,
            _ => true,
        };
        if self.totals().iter().all(|at| f64_of(slot[*at]).is_finite() && sound(at)) {
            Ok(())
        } else {
            Err("its total is no number, or of the wrong sign")
        }
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        if other[NUMBERS] == 0 {
            return;
        }
        let left = self.fade(slot, other[LAST_US].cast_signed());
        for &at in self.totals() {
            slot[at] = (f64_of(slot[at]) + f64_of(other[at]) * left).to_bits();
        }
        slot[NUMBERS] += other[NUMBERS];
    }
}

/// What the tests of its readers share.
#[cfg(test)]
pub(super) mod oracle {
    use super::*;
    use crate::operators::laws::{Cut, Row};
    use crate::operators::{Operator, ParamValue};
    use crate::row::FieldType;
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

    pub(in crate::operators::decay) const HALF_LIFE_US: i64 = 2_000_000;
    pub(in crate::operators::decay) const GIVEN: [(&str, ParamValue); 1] = [("half_life", ParamValue::DurationUs(HALF_LIFE_US))];

    /// What each addend has left at a time, added up: at the latest row's, when that is later.
    pub(in crate::operators::decay) fn total(addends: &[(f64, i64)], now_us: i64) -> Option<f64> {
        let last_us = addends.iter().map(|(_, time_us)| *time_us).max()?;
        let left = |time_us: i64| (-(now_us.max(last_us) - time_us) as f64 * 2f64.ln() / HALF_LIFE_US as f64).exp();
        Some(addends.iter().map(|(number, time_us)| number * left(*time_us)).sum())
    }

    /// Checks that a window's reading at a time admits the total of every window that cuts its two
    /// buckets elsewhere, of which the second one holds that time.
    pub(in crate::operators::decay) fn check_cuts(
        operator: &dyn Operator,
        addends: impl Fn(&[Row]) -> Vec<(f64, i64)>,
        rows: &[Row],
        cuts: (usize, usize),
        share: f64,
    ) -> Result<(), TestCaseError> {
        let (first, second) = (cuts.0.min(cuts.1).min(rows.len()), cuts.0.max(cuts.1).min(rows.len()));
        let cut = Cut { before: rows[..first].to_vec(), core: rows[first..second].to_vec(), after: rows[second..].to_vec(), share };
        for to in second.max(1)..=rows.len() {
            let now_us = rows[to - 1].time_us;
            let to = rows.partition_point(|row| row.time_us <= now_us);
            let reading = cut.read_at(operator, FieldType::F64, &GIVEN, now_us);
            for from in 0..=first {
                let answer = total(&addends(&rows[from..to]), now_us).map_or(Value::Null, Value::F64);
                prop_assert!(reading.admits(&answer, 1e-9), "{:?} of rows {} to {}: {:?}", answer, from, to, reading);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::oracle::HALF_LIFE_US;
    use super::*;
    use crate::operators::Edge;
    use crate::operators::laws::{Datum, Row, State, amounts, check_any_order, check_laws, check_lifetime_laws, near_words, out_of_time};
    use proptest::prelude::*;

    const SUM: DecayedTotal = DecayedTotal { addend: Addend::Number, half_life: HalfLife::from_us(HALF_LIFE_US), windowed: true };
    const COUNT: DecayedTotal = DecayedTotal { addend: Addend::One, ..SUM };

    #[test]
    fn a_total_beyond_the_doubles_comes_back_when_it_has_faded() {
        let rows: Vec<Row> = (1..=4).map(|lsn| Row::of(Datum::F64(f64::MAX), 0, lsn)).collect();
        let state = State::fed(&SUM, &rows);
        for (now_us, expected) in [
            (0, (Value::Null, Accuracy::Unknown)),
            (HALF_LIFE_US, (Value::Null, Accuracy::Unknown)),
            (2 * HALF_LIFE_US, (Value::F64(f64::MAX), Accuracy::Exact)),
            (3 * HALF_LIFE_US, (Value::F64(f64::MAX / 2.0), Accuracy::Exact)),
        ] {
            assert_eq!((SUM.value(&state.slot(), now_us), SUM.accuracy(&state.slot(), now_us)), expected, "at {now_us}");
        }
    }

    #[test]
    fn a_bucket_that_goes_on_for_long_after_the_read_leaves_nothing_to_compute_a_bound_from() {
        let row = |number: f64, half_lives: i64, lsn| Row::of(Datum::F64(number), half_lives * HALF_LIFE_US, lsn);
        let check = |total: DecayedTotal, half_lives, expected: Accuracy| {
            let (core, after) = (State::empty(&total), State::fed(&total, &[row(1.0, 0, 1), row(-0.5, half_lives, 2)]));
            let slot = Slot { after: Some(Edge { part: after.slot().core, share: 0.5 }), ..core.slot() };
            assert_eq!(total.accuracy(&slot, 0), expected, "{half_lives} half lives");
        };
        let open = Bound { low: Value::F64(0.0), high: Value::Null, nullable: true, confidence: None };
        check(SUM, 2, Bound::numbers(-2.0, 1.0).or_null(true).into());
        check(SUM, 1_000, Accuracy::Unknown);
        check(SUM, 5_000, Accuracy::Unknown);
        check(COUNT, 2, Bound::numbers(0.0, 5.0).or_null(true).into());
        check(COUNT, 5_000, open.into());
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let (one, arena) = (1f64.to_bits(), Arena::default());
        let minus = (-1f64).to_bits();
        assert_eq!(SUM.verify(&[2, one, 7, minus], &arena), Ok(()));
        assert_eq!(DecayedTotal { windowed: false, ..SUM }.verify(&[2, minus, 7], &arena), Ok(()));
        for (total, words) in [
            (SUM, vec![0, 0, 7, 0]),
            (SUM, vec![SLOT_ROWS_MAX + 1, one, 7, 0]),
            (SUM, vec![2, f64::NAN.to_bits(), 7, 0]),
            (SUM, vec![2, one, 7, f64::NEG_INFINITY.to_bits()]),
            (SUM, vec![2, minus, 7, 0]),
            (SUM, vec![2, one, 7, one]),
            (DecayedTotal { windowed: false, ..COUNT }, vec![2, minus, 7]),
        ] {
            assert!(total.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn totals_merge_like_rows_in_any_order(rows in out_of_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            for total in [SUM, COUNT] {
                // In units of 2^66.
                check_laws(&total, &rows, cuts, &near_words(&[TOTAL, NEGATIVES], 1e-27))?;
                check_any_order(&total, &rows, &near_words(&[TOTAL, NEGATIVES], 1e-27))?;
                let lifetime = DecayedTotal { windowed: false, ..total };
                check_lifetime_laws(&lifetime, &rows, cuts.0)?;
                check_laws(&lifetime, &rows, cuts, &near_words(&[TOTAL], 1e-27))?;
            }
        }
    }
}
