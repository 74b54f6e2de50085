//! Mean and variance of numbers whose weights fade: what `ewvar` and `ew_zscore` read.
//!
//! ```text
//! slot       [state] [mean] [variance] [last us] [last number]
//! windowed   ... [first us] [first number] [its weight] [the others' weight]
//! ```
//! `state` is that of [`ends`]. The numbers are a mixture whose weights add up to 1: a further number
//! that comes `dt` after the last one gets `a = 1 - 2^(-dt / half_life)` of it, the others keep `1 - a`
//! of theirs; where `dt` is not above 0 it is the latest number and weighs nothing. Mixtures are joined
//! by their weights and the distance of their means (West 1979; Chan, Golub and LeVeque 1979): sums of
//! positive terms, which do not cancel.
//!
//! In a window mean and variance are those of all numbers but the first one, which stands apart with
//! its weight. Another bucket that goes before takes over the weight that the first number gives up
//! to what came before it. So buckets merge without a subtraction, associatively up to rounding.
//! A variance beyond the doubles is infinite and reads null until its numbers weigh nothing.

use super::half_life::{HalfLife, Shares};
use crate::operators::FeatureParams;
use crate::operators::ends::{self, EMPTY, ORDERED, state_after};
use crate::operators::reading::{Accuracy, Slot};
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};

const MEAN: usize = 1;
const VARIANCE: usize = 2;
const LAST_US: usize = 3;
const LAST: usize = 4;
const FIRST_US: usize = 5;
const FIRST: usize = 6;
const FIRST_WEIGHT: usize = 7;
const WEIGHT: usize = 8;

/// Numbers with weights: their sum, mean and variance.
#[derive(Debug, Clone, Copy, Default)]
struct Mixture {
    weight: f64,
    mean: f64,
    variance: f64,
}

impl Mixture {
    fn of_one(number: f64, weight: f64) -> Self {
        Self { weight, mean: number, variance: 0.0 }
    }

    /// The same numbers with so much of their weight.
    #[inline]
    fn faded(self, left: f64) -> Self {
        let weight = self.weight * left;
        if weight > 0.0 { Self { weight, ..self } } else { Self::default() }
    }

    /// Both together. What weighs nothing adds nothing.
    #[inline]
    fn with(self, other: Self) -> Self {
        if other.weight == 0.0 {
            return self;
        }
        if self.weight == 0.0 {
            return other;
        }
        let shares = Shares::of(self.weight, other.weight);
        let apart = other.mean - self.mean;
        let within = shares.old * self.variance + shares.new * other.variance;
        let variance = within + (shares.old * apart) * (shares.new * apart);
        Self {
            weight: self.weight + other.weight,
            mean: shares.mean(self.mean, other.mean),
            // A share that is next to nothing of a distance beyond the doubles is no number.
            variance: if variance.is_nan() { f64::INFINITY } else { variance },
        }
    }
}

/// The accumulator. Merge is associative within rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct SmoothedMoments {
    half_life: HalfLife,
    windowed: bool,
}

/// What is read of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
    /// The latest number.
    pub(super) last: f64,
}

impl SmoothedMoments {
    pub(super) fn of(feature: &FeatureParams<'_>) -> Self {
        Self { half_life: HalfLife::of(feature.params), windowed: feature.window_us.is_some() }
    }

    /// The moments; none before the first number.
    pub(super) fn read(self, slot: &Slot<'_>) -> Option<Moments> {
        let words = ends::nearest(&self, slot);
        let Mixture { mean, variance, .. } = self.mixture(&words);
        (words[0] != EMPTY).then(|| Moments { mean, variance, last: f64_of(words[LAST]) })
    }

    /// Nothing is known of what rests on a variance beyond the doubles either.
    pub(super) fn accuracy(self, slot: &Slot<'_>) -> Accuracy {
        let finite = self.read(slot).is_none_or(|moments| moments.variance.is_finite());
        if finite { ends::accuracy(slot) } else { Accuracy::Unknown }
    }

    /// All numbers.
    fn mixture(self, slot: &[u64]) -> Mixture {
        if self.windowed { self.first(slot).with(self.rest(slot)) } else { self.rest(slot) }
    }

    fn first(self, slot: &[u64]) -> Mixture {
        debug_assert!(self.windowed, "a lifetime keeps no first number");
        Mixture::of_one(f64_of(slot[FIRST]), f64_of(slot[FIRST_WEIGHT]))
    }

    /// The numbers that mean and variance are of.
    #[inline]
    fn rest(self, slot: &[u64]) -> Mixture {
        let weight = if self.windowed { f64_of(slot[WEIGHT]) } else { 1.0 };
        Mixture { weight, mean: f64_of(slot[MEAN]), variance: f64_of(slot[VARIANCE]) }
    }

    #[inline]
    fn set_rest(self, slot: &mut [u64], rest: Mixture) {
        (slot[MEAN], slot[VARIANCE]) = (rest.mean.to_bits(), rest.variance.to_bits());
        if self.windowed {
            slot[WEIGHT] = rest.weight.to_bits();
        }
    }
}

impl Accumulator for SmoothedMoments {
    fn identity(&self) -> String {
        format!("smoothed moments/{}{}", self.half_life.us(), if self.windowed { "/windowed" } else { "" })
    }

    fn words(&self) -> usize {
        if self.windowed { 9 } else { 5 }
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
            (slot[0], slot[LAST_US], slot[LAST]) = (ORDERED, time, number.to_bits());
            if self.windowed {
                (slot[FIRST_US], slot[FIRST], slot[FIRST_WEIGHT]) = (time, number.to_bits(), 1f64.to_bits());
            } else {
                slot[MEAN] = number.to_bits();
            }
            return;
        }
        let gap_us = input.time_us.saturating_sub(slot[LAST_US].cast_signed());
        slot[0] = state_after(slot[0], gap_us);
        slot[LAST] = number.to_bits();
        if gap_us <= 0 {
            return;
        }
        let shares = self.half_life.step(gap_us);
        self.set_rest(slot, self.rest(slot).faded(shares.old).with(Mixture::of_one(number, shares.new)));
        slot[LAST_US] = time;
        if self.windowed {
            slot[FIRST_WEIGHT] = (f64_of(slot[FIRST_WEIGHT]) * shares.old).to_bits();
        }
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        ends::verify(slot)?;
        let rest = self.rest(slot);
        if !rest.mean.is_finite() || !f64_of(slot[LAST]).is_finite() {
            return Err("its mean or its latest number is none");
        }
        if rest.variance.is_nan() || rest.variance < 0.0 {
            return Err("its variance is none");
        }
        if self.windowed && slot[0] != EMPTY {
            // The weights add up to 1, give or take the roundings of all steps.
            if !(0.0..=1.0).contains(&f64_of(slot[FIRST_WEIGHT])) || !(0.0..2.0).contains(&rest.weight) {
                return Err("its numbers have no weight");
            }
            if rest.weight == 0.0 && (slot[MEAN], slot[VARIANCE]) != (0, 0) {
                return Err("numbers without weight have a mean");
            }
            if !f64_of(slot[FIRST]).is_finite() || slot[FIRST_US].cast_signed() > slot[LAST_US].cast_signed() {
                return Err("its first number is none, or later than its last");
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
        let shares = if gap_us > 0 { self.half_life.step(gap_us) } else { Shares::OLD };
        let first = self.first(other);
        // The first number gives up what was before it; its own weight stays.
        let left = first.weight * shares.old;
        let rest = self.rest(slot).faded(left).with(first.faded(shares.new)).with(self.rest(other));
        slot[0] = state_after(slot[0].max(other[0]), gap_us);
        self.set_rest(slot, rest);
        slot[LAST_US] = slot[LAST_US].cast_signed().max(other[LAST_US].cast_signed()).cast_unsigned();
        slot[LAST] = other[LAST];
        slot[FIRST_WEIGHT] = (f64_of(slot[FIRST_WEIGHT]) * left).to_bits();
    }
}

/// What the tests of its readers share.
#[cfg(test)]
pub(super) mod oracle {
    use super::*;
    use crate::operators::ParamValue;
    use crate::operators::laws::{Row, numbered};

    pub(in crate::operators::decay) const HALF_LIFE_US: i64 = 2_000_000;
    pub(in crate::operators::decay) const GIVEN: [(&str, ParamValue); 1] = [("half_life", ParamValue::DurationUs(HALF_LIFE_US))];

    /// The rule as the reference writes it, in order of arrival.
    pub(in crate::operators::decay) fn moments(rows: &[Row]) -> Option<Moments> {
        let mut held: Option<(Moments, i64)> = None;
        for (number, time_us) in numbered(rows) {
            let Some((moments, last_us)) = &mut held else {
                held = Some((Moments { mean: number, variance: 0.0, last: number }, time_us));
                continue;
            };
            moments.last = number;
            if time_us > *last_us {
                let alpha = 1.0 - (-(time_us - *last_us) as f64 * 2f64.ln() / HALF_LIFE_US as f64).exp();
                let apart = number - moments.mean;
                moments.mean += alpha * apart;
                moments.variance = (1.0 - alpha) * moments.variance + alpha * apart * (number - moments.mean);
                *last_us = time_us;
            }
        }
        held.map(|(moments, _)| Moments { variance: moments.variance.max(0.0), ..moments })
    }
}

#[cfg(test)]
mod tests {
    use super::oracle::HALF_LIFE_US;
    use super::*;
    use crate::operators::laws::{Datum, Row, State, amounts, check_laws, check_lifetime_laws, in_time, near_words};
    use proptest::prelude::*;

    const WINDOWED: SmoothedMoments = SmoothedMoments { half_life: HalfLife::from_us(HALF_LIFE_US), windowed: true };

    #[test]
    fn a_first_number_that_soon_weighs_nothing_leaves_nothing_in_the_variance() {
        // One outlier right after the edge of a bucket: a microsecond later it has lost its place.
        let row = |number: f64, time_us, lsn| Row::of(Datum::F64(number), time_us, lsn);
        let before: Vec<Row> = (1..100).map(|n| row(5.0, n * 1_000_000, n.cast_unsigned())).collect();
        let after = [row(1e9, 99_000_001, 100), row(5.0, 100_000_000, 101)];
        let whole = State::fed(&WINDOWED, before.iter().chain(&after));
        let merged = State::fed(&WINDOWED, &before).merged(&WINDOWED, &State::fed(&WINDOWED, &after));
        let [whole, merged] = [whole, merged].map(|state| WINDOWED.mixture(&state.words).variance);
        assert!(whole > 1e10 && (merged / whole - 1.0).abs() < 1e-9, "{whole} {merged}");
    }

    #[test]
    fn a_variance_beyond_the_doubles_goes_with_its_numbers() {
        let row = |number: f64, time_us, lsn| Row::of(Datum::F64(number), time_us, lsn);
        let mut rows = vec![row(1e308, 0, 1), row(-1e308, HALF_LIFE_US, 2)];
        let variance = |rows: &[Row]| WINDOWED.mixture(&State::fed(&WINDOWED, rows).words).variance;
        assert_eq!(variance(&rows), f64::INFINITY);
        rows.extend([row(1.0, 4000 * HALF_LIFE_US, 3), row(3.0, 4001 * HALF_LIFE_US, 4)]);
        assert_eq!(variance(&rows), 1.0);
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let (one, arena) = (1f64.to_bits(), Arena::default());
        assert_eq!(WINDOWED.verify(&[ORDERED, one, 0, 7, one, 5, one, one, one], &arena), Ok(()));
        for words in [
            [0, one, 0, 0, 0, 0, 0, 0, 0],
            [3, one, 0, 7, one, 5, one, one, one],
            [1, f64::NAN.to_bits(), 0, 7, one, 5, one, one, one],
            [1, one, (-1f64).to_bits(), 7, one, 5, one, one, one],
            [1, one, f64::NAN.to_bits(), 7, one, 5, one, one, one],
            [1, one, 0, 7, f64::INFINITY.to_bits(), 5, one, one, one],
            [1, one, 0, 4, one, 5, one, one, one],
            [1, one, 0, 7, one, 5, f64::NAN.to_bits(), one, one],
            [1, one, 0, 7, one, 5, one, 2f64.to_bits(), one],
            [1, one, 0, 7, one, 5, one, one, 0],
        ] {
            assert!(WINDOWED.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn moments_merge_like_rows(rows in in_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            check_lifetime_laws(&SmoothedMoments { windowed: false, ..WINDOWED }, &rows, cuts.0)?;
            check_laws(&WINDOWED, &rows, cuts, &near_words(&[MEAN, VARIANCE, FIRST_WEIGHT, WEIGHT], 1e-7))?;
        }
    }
}
