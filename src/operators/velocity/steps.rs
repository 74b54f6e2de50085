//! The latest step from one time to the next. Behind `rate_of_change`.
//!
//! Of the latest time its first number and its last one, and the last number before that time: with these the state hangs
//! on the set of rows only, so merge is exact, associative and commutative.

use crate::operators::reading::Part;
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};

/// A number of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Number {
    time_us: i64,
    lsn: u64,
    number: f64,
}

impl Number {
    fn order(&self) -> (i64, u64) {
        (self.time_us, self.lsn)
    }
}

/// What a slot says.
///
/// ```text
/// [how many of the three there are] then three times [time, us] [LSN] [number]:
/// first number of the latest time, last number of it, last number before it
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Steps {
    /// Of the latest time: its first number and its last.
    latest: Option<(Number, Number)>,
    before: Option<Number>,
}

impl Steps {
    fn of(words: &[u64]) -> Self {
        let number = |at: usize| Number { time_us: words[at].cast_signed(), lsn: words[at + 1], number: f64_of(words[at + 2]) };
        Self { latest: (words[0] > 0).then(|| (number(1), number(4))), before: (words[0] > 2).then(|| number(7)) }
    }

    /// The steps of all parts.
    pub(super) fn of_parts<'a>(parts: impl Iterator<Item = Part<'a>>) -> Self {
        parts.fold(Self::default(), |all, part| all.with(Self::of(part.words)))
    }

    fn words(self) -> [u64; 10] {
        let of =
            |number: Option<Number>| number.map_or([0; 3], |number| [number.time_us.cast_unsigned(), number.lsn, number.number.to_bits()]);
        let [first, last, before] = [of(self.latest.map(|latest| latest.0)), of(self.latest.map(|latest| latest.1)), of(self.before)];
        let count = if self.before.is_some() { 3 } else { 2 * u64::from(self.latest.is_some()) };
        let mut words = [0; 10];
        words[0] = count;
        words[1..4].copy_from_slice(&first);
        words[4..7].copy_from_slice(&last);
        words[7..].copy_from_slice(&before);
        words
    }

    fn with(self, other: Self) -> Self {
        let (Some((first, last)), Some((others_first, others_last))) = (self.latest, other.latest) else {
            return if self.latest.is_none() { other } else { self };
        };
        let later = |left: Option<Number>, right: Option<Number>| [left, right].into_iter().flatten().max_by_key(Number::order);
        if first.time_us != others_first.time_us {
            let (earlier, later_one) = if first.time_us < others_first.time_us { (self, other) } else { (other, self) };
            return Self { latest: later_one.latest, before: later(later_one.before, earlier.latest.map(|latest| latest.1)) };
        }
        let first = if first.lsn <= others_first.lsn { first } else { others_first };
        let last = if last.lsn > others_last.lsn { last } else { others_last };
        Self { latest: Some((first, last)), before: later(self.before, other.before) }
    }

    /// How much the number rose in a millisecond from the last number before the latest time to the first of it.
    pub(super) fn rate(self) -> Option<f64> {
        let (before, (first, _)) = (self.before?, self.latest?);
        Some((first.number - before.number) / super::ms(before.time_us, first.time_us))
    }
}

/// Keeps the latest step.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatestStep;

impl Accumulator for LatestStep {
    fn identity(&self) -> String {
        "latest step".into()
    }

    fn words(&self) -> usize {
        10
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::TimeLsn
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        if let Some(number) = input.cell.number() {
            let one = Number { time_us: input.time_us, lsn: input.lsn, number };
            let one = Steps { latest: Some((one, one)), before: None };
            slot.copy_from_slice(&Steps::of(slot).with(one).words());
        }
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        slot.copy_from_slice(&Steps::of(slot).with(Steps::of(other)).words());
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        let steps = Steps::of(slot);
        let in_order = steps.latest.is_none_or(|(first, last)| {
            first.time_us == last.time_us && first.lsn <= last.lsn && steps.before.is_none_or(|before| before.time_us < first.time_us)
        });
        if slot[0] != 1 && slot[0] <= 3 && in_order && steps.words() == *slot {
            Ok(())
        } else {
            Err("its numbers are not in order of time")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Row, State, check_any_order, check_exact_laws, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_rate_is_that_of_a_walk_in_order_of_time(data in prop::collection::vec((numbers(), -4000i64..4000), 0..12), cuts in (0usize..12, 0usize..12)) {
            let rows: Vec<Row> = data.into_iter().zip(1..).map(|((datum, time_us), lsn)| Row::of(datum, time_us / 1000 * 1000, lsn)).collect();
            check_exact_laws(&LatestStep, &rows, cuts)?;
            check_any_order(&LatestStep, &rows, &|left, right| left.words == right.words)?;
            let state = State::fed(&LatestStep, &rows);
            prop_assert_eq!(LatestStep.verify(&state.words, &state.arena), Ok(()));
            let mut sorted: Vec<(i64, f64)> = Vec::new();
            let mut walk: Vec<&Row> = rows.iter().collect();
            walk.sort_by_key(|row| (row.time_us, row.lsn));
            sorted.extend(walk.iter().filter_map(|row| Some((row.time_us, row.datum.cell().number()?))));
            let (mut before, mut rate) = (None::<(i64, f64)>, None);
            for (time_us, number) in sorted {
                if let Some((before_us, before)) = before && time_us > before_us {
                    rate = Some((number - before) / ((time_us - before_us) as f64 / 1000.0));
                }
                before = Some((time_us, number));
            }
            prop_assert_eq!(Steps::of(&state.words).rate(), rate);
        }
    }
}
