//! `ewma`, also written `ema`: the exponentially weighted moving average of a field's numbers, by row
//! time.
//!
//! ```text
//! slot       [state] [mean] [last us]
//! windowed   ... [first us] [first number] [what is left of it]
//! ```
//! `state` is that of [`ends`]. A further number `x` that comes `dt` after the last one makes the mean
//! `(1 - a) * mean + a * x`, with `a = 1 - 2^(-dt / half_life)`, and one half where `dt` is not above 0.
//! A bucket is the affine step from the mean before it to the mean after it: with `p` the product of
//! its `1 - a` but for its first number's, the mean before it enters with `p * (1 - a)` in that
//! number's place. So a merge of means m and M, M's first number being f, is
//! `M + p * (1 - a) * (m - f)`; it is associative up to roundings of the largest number.

use super::half_life::{HALF_LIFE, HalfLife, Shares};
use crate::operators::ends::{self, EMPTY, ORDERED, state_after};
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct Ewma;

static SIGNATURE: Signature = Signature {
    name: "ewma",
    aliases: &["ema"],
    family: Family::Decay,
    asks: "what is usual lately",
    help: "Exponentially weighted moving average of the field's numbers, in the field's unit: each number pulls the \
           average towards itself, the more the longer the time since the one before (`1 - 2^(-dt / half_life)` of the \
           way, half of it at equal times; S. W. Roberts, 1959, with irregular steps). It does not fade at a read. \
           Exact up to rounding while rows come in order of time; a late one is taken as the latest at an equal time. \
           24 bytes, 48 in each bucket of a window. Empty: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[HALF_LIFE],
    lifetime_bound: None,
    grown: ends::GROWN,
    output: Output::Is(FieldType::F64),
};

impl Operator for Ewma {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let mean = SmoothedMean::of(feature);
        Compiled::of_one(Arc::new(mean), move |slot| mean.value(slot), ends::accuracy)
    }
}

const MEAN: usize = 1;
const LAST_US: usize = 2;
const FIRST_US: usize = 3;
const FIRST: usize = 4;
const LEFT: usize = 5;

/// The average.
#[derive(Debug, Clone, Copy)]
struct SmoothedMean {
    half_life: HalfLife,
    windowed: bool,
}

impl SmoothedMean {
    fn of(feature: &FeatureParams<'_>) -> Self {
        Self { half_life: HalfLife::of(feature.params), windowed: feature.window_us.is_some() }
    }

    fn value(self, slot: &Slot<'_>) -> Value {
        let words = ends::nearest(&self, slot);
        if words[0] == EMPTY { Value::Null } else { Value::F64(f64_of(words[MEAN])) }
    }

    #[inline]
    fn step(self, gap_us: i64) -> Shares {
        if gap_us > 0 { self.half_life.step(gap_us) } else { Shares::EVEN }
    }
}

impl Accumulator for SmoothedMean {
    fn identity(&self) -> String {
        format!("smoothed mean/{}{}", self.half_life.us(), if self.windowed { "/windowed" } else { "" })
    }

    fn words(&self) -> usize {
        if self.windowed { 6 } else { 3 }
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
            (slot[0], slot[MEAN], slot[LAST_US]) = (ORDERED, number.to_bits(), time);
            if self.windowed {
                (slot[FIRST_US], slot[FIRST], slot[LEFT]) = (time, number.to_bits(), 1f64.to_bits());
            }
            return;
        }
        let gap_us = input.time_us.saturating_sub(slot[LAST_US].cast_signed());
        let shares = self.step(gap_us);
        slot[0] = state_after(slot[0], gap_us);
        slot[MEAN] = shares.mean(f64_of(slot[MEAN]), number).to_bits();
        if gap_us > 0 {
            slot[LAST_US] = time;
        }
        if self.windowed {
            slot[LEFT] = (f64_of(slot[LEFT]) * shares.old).to_bits();
        }
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        ends::verify(slot)?;
        if !f64_of(slot[MEAN]).is_finite() {
            return Err("its mean is no number");
        }
        if self.windowed && slot[0] != EMPTY {
            if !f64_of(slot[FIRST]).is_finite() || !(0.0..=1.0).contains(&f64_of(slot[LEFT])) {
                return Err("its first number has no weight");
            }
            if slot[FIRST_US].cast_signed() > slot[LAST_US].cast_signed() {
                return Err("its last number is earlier than its first");
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
        let gap_us = other[FIRST_US].cast_signed().saturating_sub(slot[LAST_US].cast_signed());
        let shares = self.step(gap_us);
        slot[0] = state_after(slot[0].max(other[0]), gap_us);
        let weight = f64_of(other[LEFT]) * shares.old;
        let mean = spliced(f64_of(other[MEAN]), weight, f64_of(slot[MEAN]), f64_of(other[FIRST]));
        slot[MEAN] = mean.to_bits();
        slot[LAST_US] = slot[LAST_US].cast_signed().max(other[LAST_US].cast_signed()).cast_unsigned();
        slot[LEFT] = (f64_of(slot[LEFT]) * weight).to_bits();
    }
}

/// A mean with another number in the place of one that has this weight in it.
fn spliced(mean: f64, weight: f64, number: f64, instead_of: f64) -> f64 {
    let apart = number - instead_of;
    let spliced = if apart.is_finite() { mean + weight * apart } else { (mean - weight * instead_of) + weight * number };
    // A mean of doubles is one; what goes beyond them is a rounding.
    spliced.clamp(f64::MIN, f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{
        Datum, Row, amounts, check_answer, check_extremes, check_laws, check_lifetime_laws, check_nearest, exactly, in_time, near_words,
        numbered, out_of_time, reading, rows,
    };
    use crate::operators::{Accuracy, ParamValue};
    use proptest::prelude::*;

    const HALF_LIFE_US: i64 = 2_000_000;
    const GIVEN: [(&str, ParamValue); 1] = [("half_life", ParamValue::DurationUs(HALF_LIFE_US))];

    /// The rule as the reference writes it, in order of arrival.
    fn oracle(rows: &[Row]) -> Option<f64> {
        let mut held: Option<(f64, i64)> = None;
        for (number, time_us) in numbered(rows) {
            held = Some(match held {
                None => (number, time_us),
                Some((mean, last_us)) if time_us > last_us => {
                    let alpha = 1.0 - (-(time_us - last_us) as f64 * 2f64.ln() / HALF_LIFE_US as f64).exp();
                    (alpha * number + (1.0 - alpha) * mean, time_us)
                }
                Some((mean, last_us)) => (0.5 * number + 0.5 * mean, last_us),
            });
        }
        held.map(|(mean, _)| mean)
    }

    #[test]
    fn a_number_is_its_own_average() {
        let same = rows((0..50).map(|_| Datum::F64(0.1)));
        assert_eq!(reading(&Ewma, FieldType::F64, &GIVEN, &same), exactly(Value::F64(0.1)));
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        for us in [1_000, 3650 * 86_400_000_000] {
            check_extremes(&Ewma, &[("half_life", ParamValue::DurationUs(us))]);
        }
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let mean = SmoothedMean { half_life: HalfLife::from_us(HALF_LIFE_US), windowed: true };
        let (one, arena) = (1f64.to_bits(), Arena::default());
        assert_eq!(mean.verify(&[ORDERED, one, 7, 5, one, one], &arena), Ok(()));
        for words in [
            [0, one, 0, 0, 0, 0],
            [3, one, 7, 5, one, one],
            [1, f64::NAN.to_bits(), 7, 5, one, one],
            [1, one, 7, 5, f64::INFINITY.to_bits(), one],
            [1, one, 7, 5, one, 1.5f64.to_bits()],
            [1, one, 4, 5, one, one],
        ] {
            assert!(mean.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_recursion_over_all_rows(rows in in_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            check_answer(&Ewma, &GIVEN, &rows, 0, (oracle(&rows), 1e-9), Accuracy::Exact)?;
            let mean = |windowed| SmoothedMean { half_life: HalfLife::from_us(HALF_LIFE_US), windowed };
            check_lifetime_laws(&mean(false), &rows, cuts.0)?;
            check_laws(&mean(true), &rows, cuts, &near_words(&[MEAN, LEFT], 1e-9))?;
            check_nearest(&Ewma, &GIVEN, &rows, cuts, 1e-9)?;
        }

        #[test]
        fn late_rows_are_taken_as_the_latest_and_leave_a_mark(rows in out_of_time(amounts(), 30)) {
            let in_order = numbered(&rows).is_sorted_by_key(|(_, time_us)| *time_us);
            let accuracy = if in_order { Accuracy::Exact } else { Accuracy::Unknown };
            check_answer(&Ewma, &GIVEN, &rows, 0, (oracle(&rows), 1e-9), accuracy)?;
        }
    }
}
