//! The exact total behind `sum` and `mean`: how many numbers came, and what they add up to.
//!
//! Over fields that can hold integers the integers are added in 128 bits, so no order and no size of the numbers loses anything; fractions that escaped into such a
//! field are rare and go into a small object. Over `f64` fields the sum carries Neumaier's compensation (A. Neumaier, 1974): its error is about one rounding of the
//! result plus `n * 2^-106` of the sum of magnitudes. The value is rounded once, when it is read; a sum beyond the doubles reads null. What is no number is passed over.

use super::{FeatureParams, Slot};
use crate::row::{Cell, FieldType};
use crate::state::{Accumulator, Arena, Input, Need, f64_of};

/// Count and sum of numbers. Merge is exact for integers; for doubles associative within the bound above.
///
/// ```text
/// exact     [numbers] [sum, low 64 bits] [sum, high 64 bits] [handle -> [sum of fractions] [compensation]]
/// doubles   [numbers] [sum] [compensation]
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    exact: bool,
}

impl Total {
    /// The total of this feature's field.
    pub(super) fn of(feature: &FeatureParams<'_>) -> Self {
        Self { exact: feature.field_kind != Some(FieldType::F64) }
    }

    /// How many numbers came and their sum, rounded once; `None` before the first.
    #[expect(clippy::cast_precision_loss, reason = "the one rounding")]
    pub(super) fn read(self, slot: &Slot<'_>) -> Option<(u64, f64)> {
        let words = slot.words;
        if words[0] == 0 {
            return None;
        }
        if !self.exact {
            return Some((words[0], f64_of(words[1]) + f64_of(words[2])));
        }
        let whole = wide(words);
        let sum = match slot.arena.get(words[FRACTIONS]) {
            [fraction, compensation, ..] => {
                let (high, low) = halves(whole);
                let mut sum = Compensated { sum: high, compensation: f64_of(*compensation) };
                sum.add(f64_of(*fraction));
                sum.add(low);
                sum.sum + sum.compensation
            }
            _ => whole as f64,
        };
        Some((words[0], sum))
    }
}

/// The word of an exact slot that holds the handle.
const FRACTIONS: usize = 3;

impl Accumulator for Total {
    fn identity(&self) -> String {
        if self.exact { "total/exact".into() } else { "total/f64".into() }
    }

    fn words(&self) -> usize {
        if self.exact { 4 } else { 3 }
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
            Cell::I64(number) if self.exact => set_wide(slot, wide(slot).wrapping_add(i128::from(number))),
            Cell::F64(number) if self.exact => add_fraction(slot, arena, number, 0.0),
            Cell::F64(number) => add_double(&mut slot[1..3], number),
            Cell::I64(number) => {
                let (high, low) = halves(i128::from(number));
                add_double(&mut slot[1..3], high);
                add_double(&mut slot[1..3], low);
            }
            _ => return,
        }
        slot[0] += 1;
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        if other[0] == 0 {
            return;
        }
        slot[0] += other[0];
        if !self.exact {
            add_double(&mut slot[1..3], f64_of(other[1]));
            add_compensation(&mut slot[1..3], f64_of(other[2]));
            return;
        }
        set_wide(slot, wide(slot).wrapping_add(wide(other)));
        if let [fraction, compensation, ..] = from.get(other[FRACTIONS]) {
            add_fraction(slot, arena, f64_of(*fraction), f64_of(*compensation));
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

#[cold]
fn add_fraction(slot: &mut [u64], arena: &mut Arena, number: f64, compensation: f64) {
    if slot[FRACTIONS] == 0 {
        slot[FRACTIONS] = arena.alloc(2);
    }
    let object = arena.get_mut(slot[FRACTIONS]);
    add_double(object, number);
    add_compensation(object, compensation);
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

/// Neumaier's sum.
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, State, check_exact_laws, check_laws, rows};
    use super::*;
    use proptest::prelude::*;

    const EXACT: Total = Total { exact: true };
    const DOUBLES: Total = Total { exact: false };

    fn total(total: Total, data: impl IntoIterator<Item = Datum>) -> Option<(u64, f64)> {
        total.read(&State::fed(&total, &rows(data)).slot())
    }

    #[test]
    fn what_plain_doubles_lose_is_kept() {
        let ints = |numbers: &[i64]| numbers.iter().copied().map(Datum::I64).collect::<Vec<_>>();
        let doubles = |numbers: &[f64]| numbers.iter().copied().map(Datum::F64).collect::<Vec<_>>();
        for (kind, data, expected) in [
            (EXACT, ints(&[]), None),
            (EXACT, vec![Datum::Null, Datum::Absent, Datum::Bool(true), Datum::Str("7".into()), Datum::Datetime(7)], None),
            (EXACT, ints(&[9_007_199_254_740_993, -9_007_199_254_740_992]), Some((2, 1.0))),
            (EXACT, ints(&[i64::MAX, i64::MAX, i64::MIN, i64::MIN, 5]), Some((5, 3.0))),
            (EXACT, vec![Datum::I64(i64::MAX), Datum::F64(0.5), Datum::I64(-i64::MAX)], Some((3, 0.5))),
            (DOUBLES, doubles(&[1e16, 1.0, -1e16]), Some((3, 1.0))),
            (DOUBLES, doubles(&[1e100, 1.0, -1e100]), Some((3, 1.0))),
            (DOUBLES, vec![0.1; 10].into_iter().map(Datum::F64).collect(), Some((10, 1.0))),
            (DOUBLES, vec![Datum::I64(i64::MAX), Datum::I64(-i64::MAX), Datum::I64(3)], Some((3, 3.0))),
        ] {
            assert_eq!(total(kind, data.clone()), expected, "{data:?}");
        }
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
            let expected = (!numbers.is_empty()).then_some((numbers.len() as u64, oracle as f64));
            prop_assert_eq!(EXACT.read(&State::fed(&EXACT, &rows).slot()), expected);
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
                let near = |state: &State| kind.read(&state.slot()).is_some_and(|(_, sum)| (sum - oracle).abs() <= bound);
                near(left) && near(right)
            })?;
        }
    }
}
