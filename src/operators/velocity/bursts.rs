//! How many rows came in each short span of time, and the most in any. Behind `burst_count`.
//!
//! Spans are aligned to the Unix epoch. The first span and the 63 latest are counted one by one; of those between only the
//! largest count is kept, since rows in order of time do not come back to them. The first stays because a bucket of a window
//! may begin in the middle of a span that the bucket before it shares. A row that comes back to a span between is not
//! counted with the others of it, and the slot remembers that.

use crate::operators::reading::Part;
use crate::state::{Accumulator, Arena, Demand, Input, Need, Order, SLOT_ROWS_MAX};
use std::collections::BTreeMap;

/// Spans that are counted one by one.
const SPANS_MAX: usize = 64;

/// Words in front of them.
const HEAD_WORDS: usize = 2;

/// Words of one.
const SPAN_WORDS: usize = 2;

/// Counts rows by span. One slot word, the handle of
///
/// ```text
/// [spans << 1 | disordered] [largest count of a span between, 0 = none]    then [span number] [rows], ascending
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) struct Bursts {
    /// Length of a span, microseconds, at least 1.
    pub(super) span_us: i64,
}

/// What slots say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Burst {
    /// The most rows in one span.
    pub(super) rows: u64,
    /// Whether rows came back to a span that was no longer counted.
    pub(super) disordered: bool,
}

#[derive(Clone, Copy)]
struct Spans<'a> {
    object: &'a [u64],
    count: usize,
}

impl<'a> Spans<'a> {
    fn of(object: &'a [u64]) -> Self {
        let count = object.first().map_or(0, |head| usize::try_from(head >> 1).unwrap_or(usize::MAX));
        debug_assert!(count == 0 || HEAD_WORDS + count * SPAN_WORDS <= object.len(), "{count} spans in {} words", object.len());
        Self { object, count }
    }

    fn disordered(self) -> bool {
        self.object.first().is_some_and(|head| head & 1 == 1)
    }

    fn between(self) -> u64 {
        self.object.get(1).copied().unwrap_or(0)
    }

    fn iter(self) -> impl Iterator<Item = (i64, u64)> + use<'a> {
        let words = self.object.get(HEAD_WORDS..).unwrap_or_default();
        words.chunks_exact(SPAN_WORDS).take(self.count).map(|span| (span[0].cast_signed(), span[1]))
    }

    /// Where a span is, or where it belongs.
    fn find(self, number: i64) -> Result<usize, usize> {
        let at = |index: usize| self.object[HEAD_WORDS + index * SPAN_WORDS].cast_signed();
        // Most rows are of the latest span.
        let mut index = self.count;
        while index > 0 && at(index - 1) > number {
            index -= 1;
        }
        if index > 0 && at(index - 1) == number { Ok(index - 1) } else { Err(index) }
    }
}

impl Bursts {
    /// The most rows in a span of all these parts together.
    pub(super) fn most<'a>(parts: impl Iterator<Item = Part<'a>>) -> Burst {
        let (mut by_span, mut burst) = (BTreeMap::<i64, u64>::new(), Burst { rows: 0, disordered: false });
        for part in parts {
            let spans = Spans::of(part.arena.get(part.words[0]));
            spans.iter().for_each(|(number, rows)| *by_span.entry(number).or_default() += rows);
            burst = Burst { rows: burst.rows.max(spans.between()), disordered: burst.disordered || spans.disordered() };
        }
        Burst { rows: by_span.into_values().fold(burst.rows, u64::max), ..burst }
    }

    fn take(slot: &mut u64, arena: &mut Arena, number: i64, rows: u64) {
        let spans = Spans::of(arena.get(*slot));
        let (count, between) = (spans.count, spans.between());
        let at = match spans.find(number) {
            Ok(known) => {
                arena.get_mut(*slot)[HEAD_WORDS + known * SPAN_WORDS + 1] += rows;
                return;
            }
            Err(at) => at,
        };
        // In front of all or between: what is no longer counted one by one lies there.
        let late = at < 2 && between > 0 || at == 0 && count == SPANS_MAX;
        if at == 1 && (between > 0 || count == SPANS_MAX) {
            // It lies before the latest spans, where single ones are not kept.
            let object = arena.get_mut(*slot);
            object[0] |= u64::from(late);
            object[1] = between.max(rows);
            return;
        }
        let mut left = count;
        if count == SPANS_MAX {
            // The second one goes; the row's own span is behind it, or in front of all.
            let object = arena.get_mut(*slot);
            let gone = HEAD_WORDS + SPAN_WORDS;
            object[1] = between.max(object[gone + 1]);
            object.copy_within(gone + SPAN_WORDS..HEAD_WORDS + count * SPAN_WORDS, gone);
            left -= 1;
        } else if HEAD_WORDS + (count + 1) * SPAN_WORDS > Arena::capacity(*slot) {
            *slot = arena.grow(*slot, grown_words(count));
        }
        let at = if left < count && at > 1 { at - 1 } else { at };
        let object = arena.get_mut(*slot);
        let (start, end) = (HEAD_WORDS + at * SPAN_WORDS, HEAD_WORDS + left * SPAN_WORDS);
        object.copy_within(start..end, start + SPAN_WORDS);
        object[start] = number.cast_unsigned();
        object[start + 1] = rows;
        object[0] = (left as u64 + 1) << 1 | object[0] & 1 | u64::from(late);
    }
}

/// Words of the object that so many spans move into for one more.
fn grown_words(count: usize) -> usize {
    HEAD_WORDS + SPAN_WORDS * (count + count / 2 + 1).min(SPANS_MAX)
}

impl Accumulator for Bursts {
    fn identity(&self) -> String {
        format!("bursts/{}", self.span_us)
    }

    fn words(&self) -> usize {
        1
    }

    fn handles(&self) -> &'static [usize] {
        &[0]
    }

    fn need(&self) -> Need {
        Need::Nothing
    }

    fn order(&self) -> Order {
        Order::Ends
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        Self::take(&mut slot[0], arena, input.time_us.div_euclid(self.span_us), 1);
    }

    fn demand_words_max(&self) -> usize {
        HEAD_WORDS + SPANS_MAX * SPAN_WORDS
    }

    fn lifted_words_max(&self) -> usize {
        // A first span, and less than three words for each further one.
        2 * (HEAD_WORDS + SPAN_WORDS)
    }

    fn demand(&self, slot: &[u64], arena: &Arena, _input: &Input<'_>, before: usize, demand: &mut Demand) {
        let count = Spans::of(arena.get(slot[0])).count;
        let room = Arena::capacity(slot[0]).saturating_sub(HEAD_WORDS) / SPAN_WORDS;
        // Of the rows before, any may be of a span that is there: it grows at the latest with the last span that has room to come.
        let most = (count + before).min(SPANS_MAX - 1);
        if count < SPANS_MAX && most >= room {
            demand.object_within(grown_words(count.max(room)), grown_words(most));
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        let spans = Spans::of(from.get(other[0]));
        spans.iter().for_each(|(number, rows)| Self::take(&mut slot[0], arena, number, rows));
        if spans.count > 0 {
            let object = arena.get_mut(slot[0]);
            object[0] |= u64::from(spans.disordered());
            object[1] = object[1].max(spans.between());
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[0]);
        let Some(head) = object.first() else { return Ok(()) };
        let count = head >> 1;
        if count == 0 || count > SPANS_MAX as u64 || HEAD_WORDS as u64 + count * SPAN_WORDS as u64 > object.len() as u64 {
            return Err("it has no room for its spans");
        }
        let spans = Spans::of(object);
        let is_sound = |rows: u64| rows <= SLOT_ROWS_MAX;
        if !is_sound(spans.between()) || spans.iter().any(|(_, rows)| rows == 0 || !is_sound(rows)) {
            return Err("it counts more rows than there are");
        }
        let numbers: Vec<i64> = spans.iter().map(|(number, _)| number).collect();
        if numbers.is_sorted_by(|left, right| left < right) { Ok(()) } else { Err("its spans are not in order of time") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, State, check_demand, check_laws};
    use proptest::prelude::*;

    #[test]
    fn a_row_from_before_all_spans_takes_no_count_away_in_silence() {
        let seconds = [1, 2, 2, 2, 2, 2].into_iter().chain(3..=64).chain([0, 2]);
        let rows: Vec<Row> = seconds.zip(1..).map(|(second, lsn)| Row::of(Datum::Null, second, lsn)).collect();
        assert!(most(&State::fed(&Bursts { span_us: 1 }, &rows)).disordered);
    }

    fn most(state: &State) -> Burst {
        Bursts::most(std::iter::once(state.slot().core))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_largest_burst_is_that_of_a_count_by_span(
            gaps in prop::collection::vec(prop_oneof![3 => 0i64..3, 1 => 0i64..40], 0..300),
            cuts in (0usize..300, 0usize..300),
        ) {
            let bursts = Bursts { span_us: 10 };
            let mut time_us = -500;
            let rows: Vec<Row> = gaps.iter().zip(1..).map(|(gap, lsn)| { time_us += gap; Row::of(Datum::Null, time_us, lsn) }).collect();
            let mut by_span: BTreeMap<i64, u64> = BTreeMap::new();
            rows.iter().for_each(|row| *by_span.entry(row.time_us.div_euclid(10)).or_default() += 1);
            let oracle = Burst { rows: by_span.into_values().max().unwrap_or(0), disordered: false };
            let right = |state: &State| most(state) == oracle && bursts.verify(&state.words, &state.arena) == Ok(());
            check_laws(&bursts, &rows, cuts, &|left, other| right(left) && right(other))?;
        }

        #[test]
        fn rows_in_any_order_never_count_too_high_and_say_when_too_low(times in prop::collection::vec(0i64..2000, 0..300)) {
            let bursts = Bursts { span_us: 10 };
            let rows: Vec<Row> = times.iter().zip(1..).map(|(&time_us, lsn)| Row::of(Datum::Null, time_us, lsn)).collect();
            check_demand(&bursts, &rows)?;
            let mut by_span: BTreeMap<i64, u64> = BTreeMap::new();
            times.iter().for_each(|time_us| *by_span.entry(time_us.div_euclid(10)).or_default() += 1);
            let oracle = by_span.into_values().max().unwrap_or(0);
            let burst = most(&State::fed(&bursts, &rows));
            prop_assert!(burst.rows == oracle || (burst.disordered && burst.rows < oracle), "{burst:?}, {oracle} expected");
        }
    }
}
