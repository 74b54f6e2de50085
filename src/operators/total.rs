//! The exact total behind `sum` and `mean`: how many numbers came, and what they add up to.
//!
//! Over fields that can hold integers the integers are added in 128 bits, so no order and no size of the numbers loses anything; fractions that escaped into such a
//! field are rare and go into a small object. Over `f64` fields the sum carries Neumaier's compensation (A. Neumaier, 1974): its error is about one rounding of the
//! result plus `n * 2^-106` of the sum of magnitudes. The value is rounded once, when it is read; a sum beyond the doubles reads null. What is no number is passed over.
//!
//! A window keeps apart what the negative numbers add up to, one word more: where its edge cuts a
//! bucket, any of the bucket's numbers may be inside, so the sum lies between what only the
//! negative ones and what only the positive ones would make of it. That word is never nearer to
//! zero than the truth.

use super::reading::{Accuracy, Bound, Edge, Part};
use super::{FeatureParams, Slot};
use crate::row::{Cell, FieldType};
use crate::state::{Accumulator, Arena, Demand, Input, Need, SLOT_ROWS_MAX, f64_of};

/// Count and sum of numbers. Merge is exact for integers; for doubles associative within the bound above.
///
/// ```text
/// exact     [numbers] [sum, low 64 bits] [sum, high 64 bits] [handle -> [sum of fractions] [compensation] [negative ones]]
/// doubles   [numbers] [sum] [compensation]
/// windowed  ... [minus the negative integers, saturating | sum of the negative doubles]
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    exact: bool,
    windowed: bool,
}

/// The word of an exact slot that holds the handle.
const FRACTIONS: usize = 3;

/// Words of the object with fractions.
const FRACTION_WORDS: usize = 3;

impl Total {
    /// The total of this feature's field.
    pub(super) fn of(feature: &FeatureParams<'_>) -> Self {
        Self { exact: feature.field_kind != Some(FieldType::F64), windowed: feature.window_us.is_some() }
    }

    /// How many numbers there are and their sum, both with the shares of cut buckets; `None`
    /// without any.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    pub(super) fn estimate(self, slot: &Slot<'_>) -> Option<(f64, f64)> {
        let with_share = |(numbers, sum): (f64, f64), edge: Edge<'_>| {
            (numbers + edge.share * self.numbers(edge.part) as f64, sum + edge.share * self.sum(edge.part))
        };
        let (numbers, sum) = slot.edges().fold((self.numbers(slot.core) as f64, self.sum(slot.core)), with_share);
        (numbers > 0.0).then_some((numbers, sum))
    }

    /// What the cut buckets leave open of a figure that is computed from the least and the most of
    /// numbers and sum.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    pub(super) fn open(self, slot: &Slot<'_>, figure: impl Fn((f64, f64), (f64, f64)) -> (f64, f64)) -> Accuracy {
        let inside = self.numbers(slot.core);
        let cut: u64 = slot.edges().map(|edge| self.numbers(edge.part)).sum();
        if cut == 0 {
            return Accuracy::Exact;
        }
        let (mut least, mut most) = (Compensated::default(), Compensated::default());
        self.terms(slot.core).into_iter().for_each(|term| {
            least.add(term);
            most.add(term);
        });
        for edge in slot.edges() {
            let Some(negatives) = self.negatives(edge.part) else { return Accuracy::Unknown };
            self.terms(edge.part).into_iter().for_each(|term| most.add(term));
            negatives.into_iter().for_each(|term| {
                least.add(term);
                most.add(-term);
            });
        }
        let (low, high) = figure((inside as f64, (inside + cut) as f64), (least.rounded_down(), most.rounded_up()));
        // Numbers beyond the doubles leave nothing to say.
        if low.is_finite() && high.is_finite() { Bound::numbers(low, high).or_null(inside == 0).into() } else { Accuracy::Unknown }
    }

    fn numbers(self, part: Part<'_>) -> u64 {
        part.words[0]
    }

    /// The sum, rounded once.
    #[expect(clippy::cast_precision_loss, reason = "the one rounding")]
    fn sum(self, part: Part<'_>) -> f64 {
        if self.exact && part.words[FRACTIONS] == 0 {
            return wide(part.words) as f64;
        }
        let mut sum = Compensated::default();
        self.terms(part).into_iter().for_each(|term| sum.add(term));
        sum.rounded()
    }

    /// Doubles that together are the sum.
    fn terms(self, part: Part<'_>) -> [f64; 4] {
        let words = part.words;
        if !self.exact {
            return [f64_of(words[1]), f64_of(words[2]), 0.0, 0.0];
        }
        let (high, low) = halves(wide(words));
        match part.arena.get(words[FRACTIONS]) {
            [fraction, compensation, ..] => [high, f64_of(*fraction), low, f64_of(*compensation)],
            _ => [high, low, 0.0, 0.0],
        }
    }

    /// Doubles that together are what the negative numbers add up to; `None` beyond the word's
    /// range.
    fn negatives(self, part: Part<'_>) -> Option<[f64; 3]> {
        let word = part.words[self.signs()?];
        if !self.exact {
            return Some([f64_of(word), 0.0, 0.0]);
        }
        if word == u64::MAX {
            return None;
        }
        let (high, low) = halves(-i128::from(word));
        let fractions = part.arena.get(part.words[FRACTIONS]).get(2).map_or(0.0, |&word| f64_of(word));
        Some([high, low, fractions])
    }

    /// The word that keeps the negative numbers apart.
    #[inline]
    fn signs(self) -> Option<usize> {
        self.windowed.then_some(if self.exact { 4 } else { 3 })
    }
}

impl Accumulator for Total {
    fn identity(&self) -> String {
        format!("total/{}{}", if self.exact { "exact" } else { "f64" }, if self.windowed { "/signs" } else { "" })
    }

    fn words(&self) -> usize {
        3 + usize::from(self.exact) + usize::from(self.windowed)
    }

    fn handles(&self) -> &'static [usize] {
        if self.exact { &[FRACTIONS] } else { &[] }
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        match input.cell {
            Cell::I64(number) if self.exact => {
                set_wide(slot, wide(slot).wrapping_add(i128::from(number)));
                if number < 0
                    && let Some(signs) = self.signs()
                {
                    slot[signs] = slot[signs].saturating_add(number.unsigned_abs());
                }
            }
            Cell::F64(number) if self.exact => add_fraction(slot, arena, [number, 0.0, number.min(0.0)]),
            Cell::F64(number) => self.add(slot, number),
            Cell::I64(number) => {
                let (high, low) = halves(i128::from(number));
                self.add(slot, high);
                self.add(slot, low);
            }
            _ => return,
        }
        slot[0] += 1;
    }

    fn demand_words_max(&self) -> usize {
        if self.exact { FRACTION_WORDS } else { 0 }
    }

    fn demand(&self, slot: &[u64], _arena: &Arena, input: &Input<'_>, _before: usize, demand: &mut Demand) {
        if self.exact && slot[FRACTIONS] == 0 && matches!(input.cell, Cell::F64(_)) {
            demand.object(FRACTION_WORDS);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        if slot[0] > SLOT_ROWS_MAX || (slot[0] == 0 && slot.iter().any(|&word| word != 0)) {
            return Err("its count of numbers is not theirs");
        }
        if self.exact && !matches!(arena.get(slot[FRACTIONS]), [] | [_, _, _]) {
            return Err("its fractions are in an object of another size");
        }
        let part = Part { words: slot, arena };
        let Some(negatives) = self.negatives(part).filter(|_| self.windowed) else { return Ok(()) };
        let (mut below, mut beyond) = (Compensated::default(), Compensated::default());
        negatives.into_iter().for_each(|term| below.add(term));
        self.terms(part).into_iter().for_each(|term| beyond.add(term));
        negatives.into_iter().for_each(|term| beyond.add(-2.0 * term));
        // What is no number compares with nothing.
        if below.rounded() > 0.0 || beyond.rounded_up() < 0.0 {
            return Err("its negative numbers do not fit its sum");
        }
        Ok(())
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        if other[0] == 0 {
            return;
        }
        slot[0] += other[0];
        if !self.exact {
            add_double(&mut slot[1..3], f64_of(other[1]));
            add_compensation(&mut slot[1..3], f64_of(other[2]));
            if let Some(signs) = self.signs() {
                add_down(&mut slot[signs], f64_of(other[signs]));
            }
            return;
        }
        set_wide(slot, wide(slot).wrapping_add(wide(other)));
        if let Some(signs) = self.signs() {
            slot[signs] = slot[signs].saturating_add(other[signs]);
        }
        if let [fraction, compensation, negatives] = from.get(other[FRACTIONS]) {
            add_fraction(slot, arena, [fraction, compensation, negatives].map(|&word| f64_of(word)));
        }
    }
}

impl Total {
    /// Adds a double to a slot of doubles.
    #[inline]
    fn add(self, slot: &mut [u64], number: f64) {
        add_double(&mut slot[1..3], number);
        if number < 0.0
            && let Some(signs) = self.signs()
        {
            add_down(&mut slot[signs], number);
        }
    }
}

#[expect(clippy::cast_possible_wrap, reason = "two's complement in two words")]
fn wide(slot: &[u64]) -> i128 {
    (u128::from(slot[2]) << 64 | u128::from(slot[1])) as i128
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "two's complement in two words")]
fn set_wide(slot: &mut [u64], sum: i128) {
    slot[1] = sum as u64;
    slot[2] = (sum >> 64) as u64;
}

/// An integer as a double and what that double leaves over: exact up to 106 bits.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the second half holds what the first one loses")]
fn halves(whole: i128) -> (f64, f64) {
    let high = whole as f64;
    (high, whole.wrapping_sub(high as i128) as f64)
}

/// Adds a sum of fractions, its compensation, and what of it is negative.
#[cold]
fn add_fraction(slot: &mut [u64], arena: &mut Arena, [number, compensation, negatives]: [f64; FRACTION_WORDS]) {
    if slot[FRACTIONS] == 0 {
        slot[FRACTIONS] = arena.alloc(FRACTION_WORDS);
    }
    let object = arena.get_mut(slot[FRACTIONS]);
    add_double(object, number);
    add_compensation(object, compensation);
    add_down(&mut object[2], negatives);
}

/// Adds to the `[sum] [compensation]` at the head of `words`.
#[inline]
fn add_double(words: &mut [u64], number: f64) {
    let mut total = Compensated { sum: f64_of(words[0]), compensation: f64_of(words[1]) };
    total.add(number);
    words[0] = total.sum.to_bits();
    words[1] = total.compensation.to_bits();
}

#[inline]
fn add_compensation(words: &mut [u64], compensation: f64) {
    words[1] = (f64_of(words[1]) + compensation).to_bits();
}

/// Adds to a plain double, rounded down where the sum is none: what it holds is never above the
/// truth.
#[inline]
fn add_down(word: &mut u64, number: f64) {
    let mut total = Compensated { sum: f64_of(*word), compensation: 0.0 };
    total.add(number);
    *word = total.rounded_down().to_bits();
}

/// Neumaier's sum.
#[derive(Debug, Clone, Copy, Default)]
struct Compensated {
    sum: f64,
    compensation: f64,
}

impl Compensated {
    #[inline]
    fn add(&mut self, number: f64) {
        let sum = self.sum + number;
        self.compensation += if self.sum.abs() >= number.abs() { (self.sum - sum) + number } else { (number - sum) + self.sum };
        self.sum = sum;
    }

    fn rounded(self) -> f64 {
        self.sum + self.compensation
    }

    /// What the rounding leaves over.
    #[inline]
    fn rest(self) -> f64 {
        self.compensation - (self.rounded() - self.sum)
    }

    #[inline]
    fn rounded_down(self) -> f64 {
        if self.rest() < 0.0 { self.rounded().next_down() } else { self.rounded() }
    }

    fn rounded_up(self) -> f64 {
        if self.rest() > 0.0 { self.rounded().next_up() } else { self.rounded() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, State, check_exact_laws, check_laws, rows};
    use super::*;
    use proptest::prelude::*;

    const EXACT: Total = Total { exact: true, windowed: true };
    const DOUBLES: Total = Total { exact: false, windowed: true };

    fn total(total: Total, data: impl IntoIterator<Item = Datum>) -> Option<(f64, f64)> {
        total.estimate(&State::fed(&total, &rows(data)).slot())
    }

    #[test]
    fn what_plain_doubles_lose_is_kept() {
        let ints = |numbers: &[i64]| numbers.iter().copied().map(Datum::I64).collect::<Vec<_>>();
        let doubles = |numbers: &[f64]| numbers.iter().copied().map(Datum::F64).collect::<Vec<_>>();
        for (kind, data, expected) in [
            (EXACT, ints(&[]), None),
            (EXACT, vec![Datum::Null, Datum::Absent, Datum::Bool(true), Datum::Str("7".into()), Datum::Datetime(7)], None),
            (EXACT, ints(&[9_007_199_254_740_993, -9_007_199_254_740_992]), Some((2.0, 1.0))),
            (EXACT, ints(&[i64::MAX, i64::MAX, i64::MIN, i64::MIN, 5]), Some((5.0, 3.0))),
            (EXACT, vec![Datum::I64(i64::MAX), Datum::F64(0.5), Datum::I64(-i64::MAX)], Some((3.0, 0.5))),
            (DOUBLES, doubles(&[1e16, 1.0, -1e16]), Some((3.0, 1.0))),
            (DOUBLES, doubles(&[1e100, 1.0, -1e100]), Some((3.0, 1.0))),
            (DOUBLES, vec![0.1; 10].into_iter().map(Datum::F64).collect(), Some((10.0, 1.0))),
            (DOUBLES, vec![Datum::I64(i64::MAX), Datum::I64(-i64::MAX), Datum::I64(3)], Some((3.0, 3.0))),
        ] {
            assert_eq!(total(kind, data.clone()), expected, "{data:?}");
        }
    }

    #[test]
    fn a_cut_bucket_leaves_open_what_its_signs_add_up_to() {
        let fed = |total: Total, data: &[Datum]| State::fed(&total, &rows(data.iter().cloned()));
        let check = |total: Total, core: &[Datum], cut: &[Datum], expected: Accuracy| {
            let (core, cut) = (fed(total, core), fed(total, cut));
            let slot = Slot { before: Some(Edge { part: cut.slot().core, share: 0.5 }), ..core.slot() };
            assert_eq!(total.open(&slot, |_, sums| sums), expected, "{core:?} {cut:?}");
        };
        let (int, double) = (Datum::I64, Datum::F64);
        for total in [EXACT, DOUBLES] {
            check(total, &[int(10)], &[], Accuracy::Exact);
            check(total, &[int(10)], &[Datum::Null], Accuracy::Exact);
            check(total, &[int(10)], &[int(0), double(-0.0)], Accuracy::Exact);
            check(total, &[int(10)], &[int(-3), int(5), double(-0.5)], Bound::numbers(6.5, 15.0).into());
            check(total, &[], &[int(-3), int(5)], Bound::numbers(-3.0, 5.0).or_null(true).into());
            check(total, &[int(1)], &[double(f64::INFINITY)], Accuracy::Unknown);
            // A tenth is no double: what does not fit is rounded outwards.
            let tenths = [double(-0.1), double(-0.2), double(0.3)];
            check(
                total,
                &[int(1 << 60)],
                &tenths,
                Bound::numbers(((1u64 << 60) as f64).next_down(), ((1u64 << 60) as f64).next_up()).into(),
            );
        }
        check(EXACT, &[int(1)], &[int(i64::MIN), int(i64::MIN), int(3)], Accuracy::Unknown);
    }

    /// Doubles that are whole multiples of 2^-20, so that an i128 holds their exact sum.
    fn grid() -> impl Strategy<Value = i64> {
        prop_oneof![-1000i64..1000, -(1i64 << 50)..(1 << 50), any::<i32>().prop_map(i64::from)]
    }

    const GRID: f64 = 1_048_576.0;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn integers_add_exactly(numbers in prop::collection::vec(any::<i64>(), 0..60), cuts in (0usize..60, 0usize..60)) {
            let rows = rows(numbers.iter().copied().map(Datum::I64));
            check_exact_laws(&EXACT, &rows, cuts)?;
            let oracle: i128 = numbers.iter().copied().map(i128::from).sum();
            let expected = (!numbers.is_empty()).then_some((numbers.len() as f64, oracle as f64));
            prop_assert_eq!(EXACT.estimate(&State::fed(&EXACT, &rows).slot()), expected);
        }

        #[test]
        fn doubles_are_within_a_rounding_of_the_exact_sum(
            numbers in prop::collection::vec(grid(), 1..60),
            cuts in (0usize..60, 0usize..60),
            kind in prop::sample::select(vec![EXACT, DOUBLES]),
        ) {
            let rows = rows(numbers.iter().map(|&number| Datum::F64(number as f64 / GRID)));
            let oracle = numbers.iter().copied().map(i128::from).sum::<i128>() as f64 / GRID;
            let magnitude: f64 = numbers.iter().map(|&number| (number as f64 / GRID).abs()).sum();
            let bound = oracle.abs() * f64::EPSILON + numbers.len() as f64 * magnitude * f64::EPSILON * f64::EPSILON;
            check_laws(&kind, &rows, cuts, &|left, right| {
                let near = |state: &State| kind.estimate(&state.slot()).is_some_and(|(_, sum)| (sum - oracle).abs() <= bound);
                near(left) && near(right)
            })?;
        }
    }
}
