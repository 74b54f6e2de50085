//! How many rows fell into each of a fixed number of cells. Behind the histograms.
//!
//! One slot word: the handle of as many counts as there are cells; none before the first row. Merge adds; exact,
//! associative and commutative.

use super::reading::{Part, count_value};
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Demand, Input, Need, SLOT_ROWS_MAX};
use std::sync::Arc;
use streamgauge_api::Value;

/// What decides the cell of a row.
#[derive(Debug, Clone)]
pub(super) enum Cells {
    /// A number, between these edges: a cell below the first, one from each on.
    Edges(Arc<[f64]>),
    /// A text, an integer or a boolean, by its text: one cell for each of these, ascending, and one for all others.
    Listed(Arc<[Box<str>]>),
    /// The hour of the row's time, UTC.
    HourOfDay,
    /// Day of the week and hour of the row's time, UTC; Monday is first.
    HourOfWeek,
}

const HOUR_US: i64 = 3_600_000_000;

impl Cells {
    /// How many cells there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Edges(edges) => edges.len() + 1,
            Self::Listed(texts) => texts.len() + 1,
            Self::HourOfDay => 24,
            Self::HourOfWeek => 7 * 24,
        }
    }

    fn of(&self, input: &Input<'_>) -> Option<usize> {
        let hours = input.time_us.div_euclid(HOUR_US);
        // 1970-01-01 was a Thursday.
        let hour = |of: i64, from: i64| usize::try_from((hours + from).rem_euclid(of)).ok();
        match self {
            Self::Edges(edges) => input.cell.number().map(|number| edges.partition_point(|&edge| edge <= number)),
            Self::Listed(texts) => {
                let at = |text: &[u8]| texts.binary_search_by(|listed| listed.as_bytes().cmp(text)).unwrap_or(texts.len());
                match input.cell {
                    Cell::Str(text) => Some(at(text)),
                    Cell::I64(number) => Some(at(number.to_string().as_bytes())),
                    Cell::Bool(truth) => Some(at(if truth { b"true" } else { b"false" })),
                    _ => None,
                }
            }
            Self::HourOfDay => hour(24, 0),
            Self::HourOfWeek => hour(7 * 24, 3 * 24),
        }
    }

    /// The rows of each cell of a slot.
    pub(super) fn rows<'a>(&self, part: Part<'a>) -> impl Iterator<Item = u64> + use<'a> {
        let [handle] = part.words else { unreachable!("a slot of cells has one word") };
        let object = part.arena.get(*handle);
        (0..self.count()).map(|cell| object.get(cell).copied().unwrap_or(0))
    }

    /// The same as readers see it.
    pub(super) fn counts(&self, part: Part<'_>) -> Vec<Value> {
        self.rows(part).map(count_value).collect()
    }
}

impl Accumulator for Cells {
    fn identity(&self) -> String {
        match self {
            Self::Edges(edges) => format!("cells/{edges:?}"),
            Self::Listed(texts) => format!("cells/{texts:?}"),
            Self::HourOfDay => "cells/hour of day".into(),
            Self::HourOfWeek => "cells/hour of week".into(),
        }
    }

    fn words(&self) -> usize {
        1
    }

    fn handles(&self) -> &'static [usize] {
        &[0]
    }

    fn need(&self) -> Need {
        if matches!(self, Self::Edges(_) | Self::Listed(_)) { Need::Value } else { Need::Nothing }
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        let Some(cell) = self.of(input) else { return };
        if slot[0] == 0 {
            slot[0] = arena.alloc(self.count());
        }
        arena.get_mut(slot[0])[cell] += 1;
    }

    fn demand_words_max(&self) -> usize {
        self.count()
    }

    fn demand(&self, slot: &[u64], _arena: &Arena, input: &Input<'_>, _before: usize, demand: &mut Demand) {
        if slot[0] == 0 && self.of(input).is_some() {
            demand.object(self.count());
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        if other[0] == 0 {
            return;
        }
        if slot[0] == 0 {
            slot[0] = arena.alloc(self.count());
        }
        let counts = arena.get_mut(slot[0]).iter_mut().zip(from.get(other[0])).take(self.count());
        counts.for_each(|(count, more)| *count += more);
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[0]);
        if slot[0] != 0 && object.len() < self.count() {
            return Err("it has no room for its cells");
        }
        let rows = object.iter().take(self.count()).try_fold(0u64, |sum, &count| sum.checked_add(count));
        if rows.is_some_and(|rows| rows <= SLOT_ROWS_MAX) { Ok(()) } else { Err("it counts more rows than there are") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{Datum, Row, State, check_any_order, check_exact_laws, numbers};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn cells_count_every_row_once_in_any_order(
            data in prop::collection::vec((numbers(), any::<i64>()), 0..40),
            cuts in (0usize..40, 0usize..40),
        ) {
            let rows: Vec<Row> = data.into_iter().zip(1..).map(|((datum, time_us), lsn)| Row::of(datum, time_us, lsn)).collect();
            for cells in [Cells::Edges([-10.0, 0.0, 10.5].into()), Cells::Listed(["-1".into(), "7".into()].into()), Cells::HourOfDay, Cells::HourOfWeek] {
                check_exact_laws(&cells, &rows, cuts)?;
                check_any_order(&cells, &rows, &|left, right| left.content(&cells) == right.content(&cells))?;
                let state = State::fed(&cells, &rows);
                prop_assert_eq!(cells.verify(&state.words, &state.arena), Ok(()));
                let counted: i64 = cells.counts(state.slot().core).iter().map(|count| if let Value::I64(count) = count { *count } else { 0 }).sum();
                let with_number = rows.iter().filter(|row| matches!(row.datum, Datum::I64(_) | Datum::F64(_))).count();
                let integers = rows.iter().filter(|row| matches!(row.datum, Datum::I64(_))).count();
                let expected = match cells {
                    Cells::Edges(_) => with_number,
                    Cells::Listed(_) => integers,
                    _ => rows.len(),
                };
                prop_assert_eq!(counted, expected as i64);
            }
        }
    }

    #[test]
    fn a_number_on_an_edge_belongs_to_the_cell_above_and_hours_are_utc() {
        let cell = |cells: &Cells, datum: Datum, time_us| {
            let state = State::fed(cells, &[Row::of(datum, time_us, 1)]);
            cells.counts(state.slot().core).iter().position(|count| *count == Value::I64(1))
        };
        let edges = Cells::Edges([10.0, 20.0].into());
        for (number, expected) in [(9.99, 0), (10.0, 1), (19.0, 1), (20.0, 2), (1e308, 2), (-1e308, 0)] {
            assert_eq!(cell(&edges, Datum::F64(number), 0), Some(expected), "{number}");
        }
        assert_eq!(cell(&edges, Datum::Str("10".into()), 0), None);
        // 1970-01-01 00:00 was a Thursday; one microsecond earlier it was Wednesday, 23 o'clock.
        for (time_us, day, week) in [(0, 0, 72), (-1, 23, 71), (4 * 24 * HOUR_US - 1, 23, 167), (4 * 24 * HOUR_US, 0, 0)] {
            assert_eq!(cell(&Cells::HourOfDay, Datum::Null, time_us), Some(day), "{time_us}");
            assert_eq!(cell(&Cells::HourOfWeek, Datum::Null, time_us), Some(week), "{time_us}");
        }
    }
}
