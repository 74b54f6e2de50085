//! `twa`: the average of a field's numbers over time, each held until the next one comes.
//!
//! ```text
//! slot       [state] [mean] [time, us] [last us] [last number]
//! windowed   ... [first us]
//! ```
//! `state` is that of [`ends`]. `mean` is over the time between the rows, `time` how much that is: a row
//! that comes `dt` after the last one brings in the last number with the weight `dt`. A mean of numbers
//! never leaves the doubles, as their products with times would. Buckets merge by the time between
//! them, which belongs to the earlier one's last number; associative within rounding.
//! The time from the last row to the read is not part of it: nobody knows yet how long that number
//! holds. Until there is any time between rows the latest number is the average.
//!
//! A late row is the latest one for what follows, at its own time, and adds no time itself.

use super::half_life::Shares;
use crate::operators::ends::{self, EMPTY, ORDERED, state_after};
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct Twa;

static SIGNATURE: Signature = Signature {
    name: "twa",
    aliases: &[],
    family: Family::Decay,
    asks: "what is usual, each number as long as it held",
    help: "Time-weighted average of the field's numbers, in the field's unit: each number counts for the time until the \
           next one. The time from the latest row to the read does not count. Exact up to rounding while rows come in \
           order of time; a late one is taken as the latest and adds no time. 40 bytes, 48 in each bucket of a window. \
           One number, or all at one time: the latest. Empty: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: ends::GROWN,
    output: Output::Is(FieldType::F64),
};

impl Operator for Twa {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let mean = MeanOverTime { windowed: feature.window_us.is_some() };
        Compiled::of_one(Arc::new(mean), move |slot| mean.value(slot), ends::accuracy)
    }
}

const MEAN: usize = 1;
const TIME_US: usize = 2;
const LAST_US: usize = 3;
const LAST: usize = 4;
const FIRST_US: usize = 5;

/// The average.
#[derive(Debug, Clone, Copy)]
struct MeanOverTime {
    windowed: bool,
}

impl MeanOverTime {
    fn value(self, slot: &Slot<'_>) -> Value {
        let words = ends::nearest(&self, slot);
        match (words[0], words[TIME_US]) {
            (EMPTY, _) => Value::Null,
            (_, 0) => Value::F64(f64_of(words[LAST])),
            _ => Value::F64(f64_of(words[MEAN])),
        }
    }
}

/// Adds a mean over so much time to the slot's.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "a weight needs no last digit")]
fn add(slot: &mut [u64], mean: f64, time_us: u64) {
    if time_us == 0 {
        return;
    }
    let shares = Shares::of(slot[TIME_US] as f64, time_us as f64);
    slot[MEAN] = shares.mean(f64_of(slot[MEAN]), mean).to_bits();
    slot[TIME_US] = slot[TIME_US].saturating_add(time_us);
}

/// Time from one row to the next; none to one that comes late.
#[inline]
fn time_between(from_us: i64, to_us: i64) -> u64 {
    if to_us > from_us { to_us.abs_diff(from_us) } else { 0 }
}

impl Accumulator for MeanOverTime {
    fn identity(&self) -> String {
        format!("mean over time{}", if self.windowed { "/windowed" } else { "" })
    }

    fn words(&self) -> usize {
        if self.windowed { 6 } else { 5 }
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::Ends
    }

    #[inline]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let Some(number) = input.cell.number() else { return };
        debug_assert!(number.is_finite(), "cells hold finite numbers");
        let time = input.time_us.cast_unsigned();
        if slot[0] == EMPTY {
            slot[0] = ORDERED;
            if self.windowed {
                slot[FIRST_US] = time;
            }
        } else {
            let last_us = slot[LAST_US].cast_signed();
            slot[0] = state_after(slot[0], input.time_us.saturating_sub(last_us));
            add(slot, f64_of(slot[LAST]), time_between(last_us, input.time_us));
        }
        (slot[LAST_US], slot[LAST]) = (time, number.to_bits());
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        ends::verify(slot)?;
        if !f64_of(slot[MEAN]).is_finite() || !f64_of(slot[LAST]).is_finite() {
            return Err("its mean or its last number is none");
        }
        if slot[TIME_US] == 0 && slot[MEAN] != 0 {
            return Err("a mean over no time");
        }
        if self.windowed && slot[0] == ORDERED {
            let (first_us, last_us) = (slot[FIRST_US].cast_signed(), slot[LAST_US].cast_signed());
            if first_us > last_us || time_between(first_us, last_us) != slot[TIME_US] {
                return Err("its time is not that between its first and its last row");
            }
        }
        Ok(())
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        if !self.windowed {
            ends::never_merged();
        }
        if slot[0] == EMPTY || other[0] == EMPTY {
            if slot[0] == EMPTY {
                slot.copy_from_slice(other);
            }
            return;
        }
        let (last_us, first_us) = (slot[LAST_US].cast_signed(), other[FIRST_US].cast_signed());
        slot[0] = state_after(slot[0].max(other[0]), first_us.saturating_sub(last_us));
        add(slot, f64_of(slot[LAST]), time_between(last_us, first_us));
        add(slot, f64_of(other[MEAN]), other[TIME_US]);
        (slot[LAST_US], slot[LAST]) = (other[LAST_US], other[LAST]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::Accuracy;
    use crate::operators::laws::{
        Datum, Row, amounts, check_answer, check_extremes, check_laws, check_lifetime_laws, check_nearest, exactly, in_time, near_words,
        numbered, out_of_time, reading,
    };
    use proptest::prelude::*;

    /// The rule as the reference writes it, in order of arrival.
    fn oracle(rows: &[Row]) -> Option<f64> {
        let numbers = numbered(rows);
        let segments = numbers.windows(2).map(|pair| (pair[0].0, (pair[1].1 - pair[0].1).max(0) as f64));
        let (area, time) = segments.fold((0.0, 0.0), |(area, time), (number, us)| (area + number * us, time + us));
        if time > 0.0 { Some(area / time) } else { numbers.last().map(|(number, _)| *number) }
    }

    #[test]
    fn each_number_counts_until_the_next_one() {
        let row = |number: i64, seconds: i64| Row::of(Datum::I64(number), seconds * 1_000_000, seconds.cast_unsigned());
        for (rows, expected) in [
            (vec![row(7, 5)], 7.0),
            (vec![row(7, 5), row(9, 5)], 9.0),
            (vec![row(1, 0), row(4, 3), row(100, 4)], 1.75),
            (vec![row(1, 0), row(50, 0), row(100, 4)], 50.0),
        ] {
            assert_eq!(reading(&Twa, FieldType::F64, &[], &rows), exactly(Value::F64(expected)), "{rows:?}");
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        check_extremes(&Twa, &[]);
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let (mean, one, arena) = (MeanOverTime { windowed: true }, 1f64.to_bits(), Arena::default());
        assert_eq!(mean.verify(&[ORDERED, one, 2, 7, one, 5], &arena), Ok(()));
        for words in [
            [0, 0, 0, 7, 0, 0],
            [3, one, 2, 7, one, 5],
            [1, f64::NAN.to_bits(), 2, 7, one, 5],
            [1, one, 2, 7, f64::INFINITY.to_bits(), 5],
            [1, one, 0, 5, one, 5],
            [1, one, 3, 7, one, 5],
            [1, 0, 0, 4, one, 5],
        ] {
            assert!(mean.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_area_over_the_time(rows in in_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            check_answer(&Twa, &[], &rows, 0, (oracle(&rows), 1e-8), Accuracy::Exact)?;
            check_lifetime_laws(&MeanOverTime { windowed: false }, &rows, cuts.0)?;
            check_laws(&MeanOverTime { windowed: true }, &rows, cuts, &near_words(&[MEAN], 1e-8))?;
            check_nearest(&Twa, &[], &rows, cuts, 1e-8)?;
        }

        #[test]
        fn late_rows_add_no_time_and_leave_a_mark(rows in out_of_time(amounts(), 30)) {
            let in_order = numbered(&rows).is_sorted_by_key(|(_, time_us)| *time_us);
            let accuracy = if in_order { Accuracy::Exact } else { Accuracy::Unknown };
            check_answer(&Twa, &[], &rows, 0, (oracle(&rows), 1e-8), accuracy)?;
        }
    }
}
