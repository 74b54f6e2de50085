//! Count, mean and centred second moment of numbers: what `var` and `std` read.
//!
//! Updated by Welford's rule (1962), merged by Chan, Golub and LeVeque's (1979). Nothing is squared before it is centred, so numbers around 1e12 keep the variance of
//! their last digits. m2 is a sum of products of like signs, so it is never negative; where it leaves the doubles the value reads null. Relative error of the variance about `n * 2^-53` times its condition number. What is no number is passed over.

use super::Slot;
use super::reading::{Accuracy, Bound, Part};
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX, f64_of};

/// Slot: `[numbers] [mean] [m2]`, m2 = sum of squared distances from the mean. Merge is associative within rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments;

impl Moments {
    /// Sample variance, m2 / (n - 1), with the numbers of cut buckets weighted by their share;
    /// `None` for fewer than two numbers.
    pub(super) fn variance(slot: &Slot<'_>) -> Option<f64> {
        let core = Spread::of(slot.core);
        let all = slot.edges().fold(core, |all, edge| all.with(Spread::of(edge.part), edge.share));
        if all.numbers.round() < 2.0 {
            return None;
        }
        let variance = all.m2 / (all.numbers - 1.0);
        if core.numbers >= 2.0 {
            return Some(variance);
        }
        // A weight below one number divides by next to nothing: no answer is that far out.
        Some(core.variance_with(Spread::cut(slot)).map_or(variance, |(low, high)| variance.max(low).min(high)))
    }

    /// Mean and sample variance of the numbers of all parts; `None` for fewer than two.
    pub(super) fn of_parts<'a>(parts: impl Iterator<Item = Part<'a>>) -> Option<(f64, f64)> {
        let all = parts.fold(Spread::default(), |all, part| all.with(Spread::of(part), 1.0));
        (all.numbers >= 2.0).then(|| (all.mean, all.m2 / (all.numbers - 1.0)))
    }

    /// Takes a number (Welford).
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    pub(super) fn take(slot: &mut [u64], number: f64) {
        debug_assert_eq!(slot.len(), 3, "moments have three words");
        let numbers = slot[0] + 1;
        let before = number - f64_of(slot[1]);
        let mean = f64_of(slot[1]) + before / numbers as f64;
        slot[2] = (f64_of(slot[2]) + before * (number - mean)).to_bits();
        slot[1] = mean.to_bits();
        slot[0] = numbers;
    }

    /// Adds the moments of further numbers (Chan).
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    pub(super) fn join(slot: &mut [u64], other: &[u64]) {
        debug_assert_eq!((slot.len(), other.len()), (3, 3), "moments have three words");
        if slot[0] == 0 || other[0] == 0 {
            if slot[0] == 0 {
                slot.copy_from_slice(other);
            }
            return;
        }
        let (here, there) = (slot[0] as f64, other[0] as f64);
        let both = here + there;
        let apart = f64_of(other[1]) - f64_of(slot[1]);
        slot[1] = (f64_of(slot[1]) + apart * (there / both)).to_bits();
        slot[2] = (f64_of(slot[2]) + f64_of(other[2]) + apart * apart * (here * there / both)).to_bits();
        slot[0] += other[0];
    }

    /// Whether words that a file brought are moments.
    pub(super) fn check(slot: &[u64]) -> Result<(), &'static str> {
        let &[numbers, mean, m2] = slot else { unreachable!("moments have three words") };
        if numbers > SLOT_ROWS_MAX || (numbers == 0 && (mean, m2) != (0, 0)) {
            Err("its count of numbers is not theirs")
        } else if f64_of(m2) < 0.0 {
            Err("squared distances add up to less than nothing")
        } else {
            Ok(())
        }
    }

    /// What cut buckets leave open of a figure that grows with the variance.
    pub(super) fn open(slot: &Slot<'_>, figure: impl Fn(f64) -> f64) -> Accuracy {
        let (core, cut) = (Spread::of(slot.core), Spread::cut(slot));
        if cut.numbers == 0.0 {
            return Accuracy::Exact;
        }
        match core.variance_with(cut) {
            None => Accuracy::Exact,
            Some((low, high)) if high.is_finite() => Bound::numbers(figure(low), figure(high)).or_null(core.numbers < 2.0).into(),
            Some(_) => Accuracy::Unknown,
        }
    }
}

/// Count, mean and m2 of numbers that have weights.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    numbers: f64,
    mean: f64,
    m2: f64,
}

impl Spread {
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn of(part: Part<'_>) -> Self {
        let [numbers, mean, m2] = part.words else { unreachable!("moments have three words") };
        Self { numbers: *numbers as f64, mean: f64_of(*mean), m2: f64_of(*m2) }
    }

    /// All numbers of cut buckets.
    fn cut(slot: &Slot<'_>) -> Self {
        slot.edges().fold(Self::default(), |cut, edge| cut.with(Self::of(edge.part), 1.0))
    }

    /// Chan's merge, the other side weighted.
    fn with(self, other: Self, weight: f64) -> Self {
        let more = other.numbers * weight;
        if more == 0.0 {
            return self;
        }
        let (numbers, apart) = (self.numbers + more, other.mean - self.mean);
        Self {
            numbers,
            mean: self.mean + apart * (more / numbers),
            m2: self.m2 + other.m2 * weight + apart * apart * (self.numbers * more / numbers),
        }
    }

    /// The least and the largest variance of these numbers with any of the others; `None` when
    /// there are not two in all.
    ///
    /// Further numbers never take from the sum of squared distances, and add to it at most their
    /// own around the mean of these.
    fn variance_with(self, others: Self) -> Option<(f64, f64)> {
        let all = self.numbers + others.numbers;
        if all < 2.0 {
            return None;
        }
        let apart = if self.numbers > 0.0 { others.mean - self.mean } else { 0.0 };
        let most = self.m2 + others.m2 + others.numbers * apart * apart;
        Some((self.m2 / (all - 1.0), most / (self.numbers - 1.0).max(1.0)))
    }
}

impl Accumulator for Moments {
    fn identity(&self) -> String {
        "moments".into()
    }

    fn words(&self) -> usize {
        3
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        if let Some(number) = input.cell.number() {
            Self::take(slot, number);
        }
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        Self::check(slot)
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        Self::join(slot, other);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, State, check_laws, rows};
    use super::*;
    use proptest::prelude::*;

    fn variance(numbers: &[f64]) -> Option<f64> {
        Moments::variance(&State::fed(&Moments, &rows(numbers.iter().copied().map(Datum::F64))).slot())
    }

    #[test]
    fn two_numbers_make_a_variance_and_large_ones_do_not_cancel() {
        for (numbers, expected) in [
            (&[][..], None),
            (&[5.0], None),
            (&[5.0, 5.0], Some(0.0)),
            (&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], Some(32.0 / 7.0)),
            (&[1.8e12, 1.8e12 + 1.0, 1.8e12 + 2.0], Some(1.0)),
        ] {
            let got = variance(numbers);
            assert_eq!(got.is_some(), expected.is_some());
            let (got, expected) = (got.unwrap_or(0.0), expected.unwrap_or(0.0));
            assert!((got - expected).abs() <= expected * 1e-9, "{numbers:?}: {got}");
        }
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        let state = State::fed(&Moments, &rows([Datum::Bool(true), Datum::Str("1".into()), Datum::Null, Datum::I64(3)]));
        assert_eq!(state.words[0], 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn moments_equal_the_two_pass_oracle(
            numbers in prop::collection::vec(-1000.0f64..1000.0, 0..60),
            offset in prop::sample::select(vec![0.0, 1e6, -1e9]),
            cuts in (0usize..60, 0usize..60),
        ) {
            let numbers: Vec<f64> = numbers.iter().map(|number| number + offset).collect();
            let count = numbers.len() as f64;
            let mean = numbers.iter().map(|number| number - offset).sum::<f64>() / count + offset;
            let m2: f64 = numbers.iter().map(|number| (number - mean) * (number - mean)).sum();
            // The condition number of the variance is about offset / deviation.
            let bound = m2 * 1e-9 + 1e-9 + offset.abs() * f64::EPSILON * 64.0 * m2.sqrt() + count * (offset * f64::EPSILON).powi(2) * 64.0;
            check_laws(&Moments, &rows(numbers.iter().copied().map(Datum::F64)), cuts, &|left, right| {
                let near = |state: &State| state.words[0] == numbers.len() as u64 && (numbers.is_empty() || (f64_of(state.words[2]) - m2).abs() <= bound);
                near(left) && near(right)
            })?;
        }
    }
}
