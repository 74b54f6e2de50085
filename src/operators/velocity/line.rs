//! A straight line through (row time, number), by least squares. Behind `trend` and `trend_residual`.
//!
//! Centred moments, updated and merged as those of `var` (Welford 1962; Chan, Golub and LeVeque 1979), with times relative
//! to the first one seen: at times of about 1.8e15 us plain sums of squares would cancel.

use crate::operators::reading::Part;
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX, f64_of};

/// What a slot says.
///
/// ```text
/// [numbers] [origin of times, us] [mean time - origin, us] [mean number] [sum of squared time distances] [of products]
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Line {
    numbers: u64,
    origin_us: i64,
    time: f64,
    number: f64,
    time_time: f64,
    time_number: f64,
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53, and a distance of times needs no last digit")]
impl Line {
    fn of(words: &[u64]) -> Self {
        let &[numbers, origin_us, time, number, time_time, time_number] = words else { unreachable!("a slot of a line has six words") };
        let [time, number, time_time, time_number] = [time, number, time_time, time_number].map(f64_of);
        Self { numbers, origin_us: origin_us.cast_signed(), time, number, time_time, time_number }
    }

    /// The line through the numbers of all parts.
    pub(super) fn of_parts<'a>(parts: impl Iterator<Item = Part<'a>>) -> Self {
        parts.fold(Self::default(), |all, part| all.with(Self::of(part.words)))
    }

    fn words(self) -> [u64; 6] {
        let [time, number, time_time, time_number] = [self.time, self.number, self.time_time, self.time_number].map(f64::to_bits);
        [self.numbers, self.origin_us.cast_unsigned(), time, number, time_time, time_number]
    }

    fn with(self, other: Self) -> Self {
        if self.numbers == 0 || other.numbers == 0 {
            return if self.numbers == 0 { other } else { self };
        }
        let (here, there) = (self.numbers as f64, other.numbers as f64);
        let both = here + there;
        let apart_us = other.origin_us.saturating_sub(self.origin_us) as f64 + (other.time - self.time);
        let apart = other.number - self.number;
        Self {
            numbers: self.numbers + other.numbers,
            origin_us: self.origin_us,
            time: self.time + apart_us * (there / both),
            number: self.number + apart * (there / both),
            time_time: self.time_time + other.time_time + apart_us * apart_us * (here * there / both),
            time_number: self.time_number + other.time_number + apart_us * apart * (here * there / both),
        }
    }

    /// How much the numbers rise in a microsecond; none for fewer than two, or where all have one time.
    pub(super) fn slope(self) -> Option<f64> {
        (self.numbers >= 2 && self.time_time > 0.0).then(|| self.time_number / self.time_time)
    }

    /// Where the line is at a time.
    pub(super) fn at(self, time_us: i64) -> Option<f64> {
        let since_us = time_us.saturating_sub(self.origin_us) as f64 - self.time;
        Some(self.number + self.slope()? * since_us)
    }
}

/// Fits a line. Merge is associative and commutative within rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeastSquares;

impl Accumulator for LeastSquares {
    fn identity(&self) -> String {
        "line".into()
    }

    fn words(&self) -> usize {
        6
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        if let Some(number) = input.cell.number() {
            let one = Line { numbers: 1, origin_us: input.time_us, number, ..Line::default() };
            slot.copy_from_slice(&Line::of(slot).with(one).words());
        }
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        slot.copy_from_slice(&Line::of(slot).with(Line::of(other)).words());
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        let line = Line::of(slot);
        if line.numbers > SLOT_ROWS_MAX || (line.numbers == 0 && slot.iter().any(|&word| word != 0)) {
            Err("its count of numbers is not theirs")
        } else if line.time_time < 0.0 {
            Err("squared distances add up to less than nothing")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, State, check_any_order, check_laws};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_line_is_that_of_the_two_pass_oracle_in_any_order(
            points in prop::collection::vec((-1000i64..1000, -50_000i64..50_000), 0..30),
            offset_us in prop::sample::select(vec![0i64, 1_800_000_000_000_000]),
            cuts in (0usize..30, 0usize..30),
        ) {
            let rows: Vec<Row> =
                points.iter().zip(1..).map(|(&(number, time_us), lsn)| Row::of(Datum::I64(number), offset_us + time_us, lsn)).collect();
            let count = points.len() as f64;
            let (mean_t, mean_x) =
                (points.iter().map(|point| point.1 as f64).sum::<f64>() / count, points.iter().map(|point| point.0 as f64).sum::<f64>() / count);
            let tt: f64 = points.iter().map(|point| (point.1 as f64 - mean_t).powi(2)).sum();
            let tx: f64 = points.iter().map(|point| (point.1 as f64 - mean_t) * (point.0 as f64 - mean_x)).sum();
            let near = |state: &State| {
                let line = Line::of(&state.words);
                match line.slope() {
                    None => points.len() < 2 || tt < 1e-6,
                    Some(slope) => tt > 0.0 && (slope - tx / tt).abs() <= 1e-6 * (1.0 + (tx / tt).abs()),
                }
            };
            check_laws(&LeastSquares, &rows, cuts, &|left, right| near(left) && near(right))?;
            check_any_order(&LeastSquares, &rows, &|left, right| near(left) && near(right))?;
            let state = State::fed(&LeastSquares, &rows);
            prop_assert_eq!(LeastSquares.verify(&state.words, &state.arena), Ok(()));
        }
    }
}
