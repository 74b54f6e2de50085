//! `ratio`: the share of the rows reaching the table that matched the feature's `where`.
//!
//! Two row counts, one fed with the matching rows and one with every row; the second is shared with any unfiltered `count` of the same window.

use super::count::Rows;
use super::reading::{Accuracy, Bound};
use super::{
    AccumulatorNeed, Compiled, Family, FeatureParams, FieldRule, Fields, Operator, Output, Reads, RowsTaken, Signature, Slot, WindowRule,
};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Ratio;

static SIGNATURE: Signature = Signature {
    name: "ratio",
    aliases: &[],
    family: Family::Core,
    asks: "what share of rows match",
    help: "Matching rows divided by all rows that reached the table; 1.0 without `where`. Exact counts, one rounding; 16 bytes. Empty: null.",
    field: FieldRule::None,
    reads: Reads::Any,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "Both counts with the share of a cut bucket's; bound: with the matching rows of it outside and the others inside, and the other way round.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Ratio {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let need = |rows| AccumulatorNeed { accumulator: Arc::new(Rows), rows, fields: Fields::Field };
        Compiled {
            needs: vec![need(RowsTaken::Matching), need(RowsTaken::All)],
            value: Box::new(|slots, _now_us| {
                let (matching, all) = both(slots);
                quotient(estimate(matching), estimate(all)).map_or(Value::Null, Value::F64)
            }),
            accuracy: Box::new(|slots, _now_us| open(both(slots))),
        }
    }

    fn agree(&self, slots: &[&[u64]]) -> bool {
        let [matching, all] = slots else { unreachable!("a ratio is read from two slots") };
        matching[0] <= all[0]
    }
}

fn both<'s, 'a>(slots: &'s [Slot<'a>]) -> (&'s Slot<'a>, &'s Slot<'a>) {
    let [matching, all] = slots else { unreachable!("a ratio is read from two slots") };
    (matching, all)
}

/// Rows with the shares of cut buckets, not rounded.
#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn estimate(slot: &Slot<'_>) -> f64 {
    Rows::cut(slot).fold(Rows::inside(slot) as f64, |rows, (cut, share)| rows + cut as f64 * share)
}

/// Any of the cut rows may be inside: those that match raise the ratio, the others lower it.
#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn open((matching, all): (&Slot<'_>, &Slot<'_>)) -> Accuracy {
    let cut = |slot: &Slot<'_>| Rows::cut(slot).map(|(rows, _)| rows).sum::<u64>();
    let (inside, cut_matching) = (Rows::inside(matching), cut(matching));
    let (all_inside, cut_all) = (Rows::inside(all), cut(all));
    debug_assert!(inside <= all_inside && cut_matching <= cut_all, "rows that match are rows");
    let (most_others, most_matching) = (all_inside + cut_all - cut_matching, all_inside + cut_matching);
    let low = quotient(inside as f64, most_others as f64);
    let high = quotient((inside + cut_matching) as f64, most_matching as f64);
    match (low, high) {
        (None, None) => Accuracy::Exact,
        // Where no other row can be inside all that are match, where no matching one can none does.
        (low, high) => Bound::numbers(low.unwrap_or(1.0), high.unwrap_or(0.0)).or_null(all_inside == 0).into(),
    }
}

fn quotient(matching: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| matching / all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::compiled;
    use super::super::reading::{Edge, Part};
    use super::*;
    use crate::state::Arena;

    #[test]
    fn the_second_count_takes_every_row() {
        let ratio = compiled(&Ratio, FieldType::I64, &[]);
        assert_eq!(ratio.needs.iter().map(|need| need.rows).collect::<Vec<_>>(), [RowsTaken::Matching, RowsTaken::All]);
        let arena = Arena::default();
        for (matching, all, expected) in [(0, 0, Value::Null), (0, 4, Value::F64(0.0)), (1, 4, Value::F64(0.25)), (4, 4, Value::F64(1.0))] {
            let words = [[matching], [all]];
            let slots = words.each_ref().map(|words| Slot::whole(words, &arena));
            assert_eq!(((ratio.value)(&slots, 0), (ratio.accuracy)(&slots, 0)), (expected, Accuracy::Exact));
        }
    }

    #[test]
    fn a_cut_bucket_may_hold_rows_that_match_or_not() {
        let ratio = compiled(&Ratio, FieldType::I64, &[]);
        let arena = Arena::default();
        let nullable = |low, high| Bound::numbers(low, high).or_null(true).into();
        for (inside, cut, value, accuracy) in [
            ([[2u64], [8]], [[0u64], [0]], 0.25, Accuracy::Exact),
            ([[2], [8]], [[2], [4]], 0.3, Bound::numbers(0.2, 0.4).into()),
            ([[2], [8]], [[0], [4]], 0.2, Bound::numbers(2.0 / 12.0, 0.25).into()),
            ([[0], [8]], [[0], [4]], 0.0, Accuracy::Exact),
            ([[8], [8]], [[4], [4]], 1.0, Accuracy::Exact),
            ([[0], [0]], [[1], [4]], 0.25, nullable(0.0, 1.0)),
            ([[0], [0]], [[4], [4]], 1.0, nullable(1.0, 1.0)),
            ([[0], [0]], [[0], [4]], 0.0, nullable(0.0, 0.0)),
        ] {
            let slots = [0, 1].map(|need| {
                let part = Part { words: &cut[need], arena: &arena };
                Slot { before: Some(Edge { part, share: 0.5 }), ..Slot::whole(&inside[need], &arena) }
            });
            assert_eq!(((ratio.value)(&slots, 0), (ratio.accuracy)(&slots, 0)), (Value::F64(value), accuracy), "{inside:?} {cut:?}");
        }
    }
}
