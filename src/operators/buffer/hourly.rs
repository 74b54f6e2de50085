//! Count, mean and centred second moment of numbers for each hour of the day. Behind `seasonal_deviation`.
//!
//! One slot word: the handle of 24 slots of [`Moments`]. Merge is associative and commutative within rounding.

use crate::operators::moments::Moments;
use crate::operators::reading::Part;
use crate::state::{Accumulator, Arena, Demand, Input, Need};
use std::ops::Range;

const HOURS: usize = 24;
/// Words of one hour.
const MOMENTS: usize = 3;
const WORDS: usize = HOURS * MOMENTS;

/// The hour of the day of a row time, UTC.
pub(super) fn hour_of(time_us: i64) -> usize {
    let Ok(hour) = usize::try_from(time_us.div_euclid(3_600_000_000).rem_euclid(HOURS as i64)) else { unreachable!("0 to 23") };
    hour
}

/// Words of an hour in the object.
fn words_of(hour: usize) -> Range<usize> {
    hour * MOMENTS..(hour + 1) * MOMENTS
}

/// Moments by hour.
#[derive(Debug, Clone, Copy)]
pub(super) struct HourlyMoments;

impl HourlyMoments {
    /// Mean and sample variance of an hour's numbers; none for fewer than two.
    pub(super) fn of(part: Part<'_>, hour: usize) -> Option<(f64, f64)> {
        let [handle] = part.words else { unreachable!("a slot of hours has one word") };
        let words = part.arena.get(*handle).get(words_of(hour))?;
        Moments::of_parts(std::iter::once(Part { words, arena: part.arena }))
    }

    /// Works on the words of one hour outside of the arena.
    fn change(slot: &mut u64, arena: &mut Arena, hour: usize, change: impl FnOnce(&mut [u64], &mut Arena)) {
        if *slot == 0 {
            *slot = arena.alloc(WORDS);
        }
        let mut words = [0; MOMENTS];
        words.copy_from_slice(&arena.get(*slot)[words_of(hour)]);
        change(&mut words, arena);
        arena.get_mut(*slot)[words_of(hour)].copy_from_slice(&words);
    }
}

impl Accumulator for HourlyMoments {
    fn identity(&self) -> String {
        "moments by hour".into()
    }

    fn words(&self) -> usize {
        1
    }

    fn handles(&self) -> &'static [usize] {
        &[0]
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        if input.cell.number().is_some() {
            Self::change(&mut slot[0], arena, hour_of(input.time_us), |words, arena| Moments.update(words, arena, input));
        }
    }

    fn demand_words_max(&self) -> usize {
        WORDS
    }

    fn demand(&self, slot: &[u64], _arena: &Arena, input: &Input<'_>, _before: usize, demand: &mut Demand) {
        if slot[0] == 0 && input.cell.number().is_some() {
            demand.object(WORDS);
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        if other[0] == 0 {
            return;
        }
        for hour in 0..HOURS {
            let there = &from.get(other[0])[words_of(hour)];
            Self::change(&mut slot[0], arena, hour, |words, arena| Moments.merge(words, arena, there, from));
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[0]);
        if slot[0] == 0 {
            return Ok(());
        }
        if object.len() < WORDS {
            return Err("it has no room for 24 hours");
        }
        (0..HOURS).try_for_each(|hour| Moments.verify(&object[words_of(hour)], arena))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Row, State, check_any_order, check_laws, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn each_hour_has_the_moments_of_its_numbers_in_any_order(
            data in prop::collection::vec((numbers().prop_filter("small", |datum| datum.cell().number().is_none_or(|number| number.abs() < 1e6)), 0i64..100), 0..40),
            cuts in (0usize..40, 0usize..40),
        ) {
            let rows: Vec<Row> = data.into_iter().zip(1..).map(|((datum, hour), lsn)| Row::of(datum, hour * 3_600_000_000, lsn)).collect();
            let of = |hour: usize| {
                let numbers: Vec<f64> = rows.iter().filter(|row| hour_of(row.time_us) == hour).filter_map(|row| row.datum.cell().number()).collect();
                let (count, mean) = (numbers.len() as f64, numbers.iter().sum::<f64>() / numbers.len() as f64);
                (numbers.len() >= 2).then(|| (mean, numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0)))
            };
            let near = |state: &State| (0..HOURS).all(|hour| match (HourlyMoments::of(state.slot().core, hour), of(hour)) {
                (Some((mean, variance)), Some((mean_too, variance_too))) => {
                    (mean - mean_too).abs() <= 1e-9 * (1.0 + mean_too.abs()) && (variance - variance_too).abs() <= 1e-6 * (1.0 + variance_too)
                }
                (left, right) => left == right,
            });
            check_laws(&HourlyMoments, &rows, cuts, &|left, right| near(left) && near(right))?;
            check_any_order(&HourlyMoments, &rows, &|left, right| near(left) && near(right))?;
            let state = State::fed(&HourlyMoments, &rows);
            prop_assert_eq!(HourlyMoments.verify(&state.words, &state.arena), Ok(()));
        }
    }
}
