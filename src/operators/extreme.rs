//! The smallest or the largest value of a field, kept verbatim: what `min` and `max` read.
//!
//! Numbers compare numerically, an integer with a double exactly (no rounding); text, bytes and json compare bytewise, false before true. Values of different kinds do
//! not compare: the kind that came first stays, and the slot remembers that there were others. Of
//! equal values the first one stays.

use super::reading::{Accuracy, Bound, Part};
use super::value_slot::{ValueSlot, value_of};
use super::{FeatureParams, Slot};
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Demand, Input, Need};
use std::cmp::Ordering;
use streamgauge_api::Value;

/// Set beside the tag once values came that do not compare with the one that stayed.
const MIXED: u64 = 8;

/// Slot: `[MIXED | tag] [payload]`, see [`ValueSlot`]. Merge is exact and associative; commutative
/// too where all values are of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extreme {
    layout: ValueSlot,
    replace_on: Ordering,
}

impl Extreme {
    /// The smallest value.
    pub(super) fn smallest(feature: &FeatureParams<'_>) -> Self {
        Self { layout: ValueSlot::of(feature.field_kind), replace_on: Ordering::Less }
    }

    /// The largest value.
    pub(super) fn largest(feature: &FeatureParams<'_>) -> Self {
        Self { layout: ValueSlot::of(feature.field_kind), replace_on: Ordering::Greater }
    }

    /// The value, with those of cut buckets that are inside by at least half; null without any.
    pub(super) fn value(self, slot: &Slot<'_>) -> Value {
        value_of(self.best(slot.nearest()))
    }

    /// Without the cut buckets, and with them.
    pub(super) fn accuracy(self, slot: &Slot<'_>) -> Accuracy {
        // Rows of several kinds: which of them came first is not known of a bucket, nor of one that
        // is cut.
        let (with, without) = (self.best(slot.parts().map(|(part, _)| part)), self.load(slot.core));
        let mixed = |(part, _): (Part<'_>, f64)| {
            let cell = self.load(part);
            part.words[0] & MIXED != 0 || self.layout.takes(cell) && compare(cell, with).is_none()
        };
        if !slot.bucketed || slot.parts().all(|(part, _)| part.words[0] == 0) {
            Accuracy::Exact
        } else if slot.parts().any(mixed) {
            Accuracy::Unknown
        } else {
            let (with, without) = (value_of(with), value_of(without));
            let nullable = without == Value::Null;
            let (low, high) = if self.replace_on == Ordering::Less { (with, without) } else { (without, with) };
            Bound { low, high, nullable, confidence: None }.into()
        }
    }

    fn load(self, part: Part<'_>) -> Cell<'_> {
        self.layout.load(part.words[0] & !MIXED, part.words[1], part.arena)
    }

    /// The best of these, in order of time.
    fn best<'a>(self, parts: impl Iterator<Item = Part<'a>>) -> Cell<'a> {
        parts.map(|part| self.load(part)).fold(Cell::Absent, |best, cell| {
            let better = !self.layout.takes(best) || self.layout.takes(cell) && compare(cell, best) == Some(self.replace_on);
            if better { cell } else { best }
        })
    }

    /// How a cell compares with the value of a slot; as one that replaces it when there is none.
    #[inline]
    fn side(self, slot: &[u64], arena: &Arena, cell: Cell<'_>) -> Option<Ordering> {
        if slot[0] == 0 { Some(self.replace_on) } else { compare(cell, self.layout.load(slot[0] & !MIXED, slot[1], arena)) }
    }

    #[inline]
    fn take(self, slot: &mut [u64], arena: &mut Arena, cell: Cell<'_>) {
        if !self.layout.takes(cell) {
            return;
        }
        let order = self.side(slot, arena, cell);
        if order.is_none() {
            slot[0] |= MIXED;
        } else if order == Some(self.replace_on) {
            slot[0] = slot[0] & MIXED | self.layout.store(&mut slot[1], arena, cell);
        }
    }
}

impl Accumulator for Extreme {
    fn identity(&self) -> String {
        let end = if self.replace_on == Ordering::Less { "smallest" } else { "largest" };
        format!("{end}/{}", self.layout.name())
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        if self.layout == ValueSlot::Object { &[1] } else { &[] }
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        self.take(slot, arena, input.cell);
    }

    fn demand_words_max(&self) -> usize {
        self.layout.demand_words_max()
    }

    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        // What does not replace the value does not replace a later one.
        if self.layout.takes(input.cell) && self.side(slot, arena, input.cell) == Some(self.replace_on) {
            self.layout.demand(slot[1], before == 0, input.cell, demand);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let tag = slot[0] & !MIXED;
        if self.layout.holds(tag, slot[1], arena) && (slot[0] == 0 || (1..=7).contains(&tag)) {
            Ok(())
        } else {
            Err("it holds no value of its kind")
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        self.take(slot, arena, self.layout.load(other[0] & !MIXED, other[1], from));
        slot[0] |= other[0] & MIXED;
    }
}

/// Order of two values of one kind; `None` for different kinds.
#[inline]
fn compare(left: Cell<'_>, right: Cell<'_>) -> Option<Ordering> {
    match (left, right) {
        (Cell::I64(left), Cell::I64(right)) | (Cell::Datetime(left), Cell::Datetime(right)) => Some(left.cmp(&right)),
        (Cell::F64(left), Cell::F64(right)) => left.partial_cmp(&right),
        (Cell::I64(left), Cell::F64(right)) => compare_mixed(left, right),
        (Cell::F64(left), Cell::I64(right)) => compare_mixed(right, left).map(Ordering::reverse),
        (Cell::Bool(left), Cell::Bool(right)) => Some(left.cmp(&right)),
        (Cell::Str(left), Cell::Str(right)) | (Cell::Bytes(left), Cell::Bytes(right)) | (Cell::Json(left), Cell::Json(right)) => {
            Some(left.cmp(right))
        }
        _ => None,
    }
}

/// An integer against a double, without rounding either.
#[expect(clippy::cast_possible_truncation, reason = "the double is whole and within i64 there")]
fn compare_mixed(left: i64, right: f64) -> Option<Ordering> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if right.is_nan() {
        None
    } else if right >= TWO_TO_63 {
        Some(Ordering::Less)
    } else if right < -TWO_TO_63 {
        Some(Ordering::Greater)
    } else {
        let floor = right.floor();
        Some(left.cmp(&(floor as i64)).then(if right > floor { Ordering::Less } else { Ordering::Equal }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, State, check_exact_laws, rows};
    use super::*;
    use proptest::prelude::*;

    fn ends(layout: ValueSlot) -> [Extreme; 2] {
        [Extreme { layout, replace_on: Ordering::Less }, Extreme { layout, replace_on: Ordering::Greater }]
    }

    fn check(layout: ValueSlot, data: Vec<Datum>, smallest: Datum, largest: Datum) {
        let rows = rows(data);
        for (extreme, expected) in ends(layout).into_iter().zip([smallest, largest]) {
            assert_eq!(extreme.value(&State::fed(&extreme, &rows).slot()), value_of(expected.cell()), "{extreme:?} {rows:?}");
        }
    }

    #[test]
    fn numbers_compare_across_types_and_other_kinds_keep_the_first() {
        use Datum::{Bool, Datetime, F64, I64, Json, Null, Str};
        let (inline, object) = (ValueSlot::Inline, ValueSlot::Object);
        check(inline, vec![], Null, Null);
        check(inline, vec![F64(5.0), I64(3), F64(10.5)], I64(3), F64(10.5));
        check(
            inline,
            vec![I64(9_007_199_254_740_993), F64(9_007_199_254_740_992.0)],
            F64(9_007_199_254_740_992.0),
            I64(9_007_199_254_740_993),
        );
        check(inline, vec![I64(i64::MAX), F64(9.3e18), F64(-9.3e18), I64(i64::MIN)], F64(-9.3e18), F64(9.3e18));
        check(inline, vec![I64(-3), F64(-3.5), F64(-2.5)], F64(-3.5), F64(-2.5));
        check(inline, vec![Bool(true), I64(1), Bool(false)], Bool(false), Bool(true));
        check(inline, vec![Datetime(5), I64(1), I64(9), Datetime(4)], Datetime(4), Datetime(5));
        check(object, vec![Null, Str("b".into()), Str("a".into()), Str("aa".into())], Str("a".into()), Str("b".into()));
        check(object, vec![F64(1.5), Str("b".into()), I64(1)], I64(1), F64(1.5));
        check(object, vec![Json("{}".into()), Str("b".into())], Json("{}".into()), Json("{}".into()));
    }

    #[test]
    fn an_integer_against_a_double_never_rounds() {
        for (left, right, expected) in [
            (0, -0.0, Ordering::Equal),
            (1, 1.5, Ordering::Less),
            (-1, -1.5, Ordering::Greater),
            (i64::MAX, 9_223_372_036_854_775_808.0, Ordering::Less),
            (i64::MIN, -9_223_372_036_854_775_808.0, Ordering::Equal),
            (i64::MIN, -9.3e18, Ordering::Greater),
            (9_007_199_254_740_993, 9_007_199_254_740_992.0, Ordering::Greater),
        ] {
            assert_eq!(compare_mixed(left, right), Some(expected), "{left} {right}");
        }
    }

    fn numbers() -> impl Strategy<Value = Datum> {
        prop_oneof![
            (-5i64..5).prop_map(Datum::I64),
            any::<i64>().prop_map(Datum::I64),
            (-9.5e18f64..9.5e18).prop_map(Datum::F64),
            Just(Datum::Null)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn extremes_obey_the_laws(data in prop::collection::vec(numbers(), 0..30), texts in prop::collection::vec("[a-c]{0,12}", 0..30), cuts in (0usize..30, 0usize..30)) {
            for extreme in ends(ValueSlot::Inline) {
                check_exact_laws(&extreme, &rows(data.clone()), cuts)?;
            }
            for extreme in ends(ValueSlot::Object) {
                check_exact_laws(&extreme, &rows(texts.iter().cloned().map(Datum::Str)), cuts)?;
            }
            let [smallest, largest] = ends(ValueSlot::Object);
            let rows = rows(texts.iter().cloned().map(Datum::Str));
            let text = |extreme: Extreme| extreme.value(&State::fed(&extreme, &rows).slot());
            let oracle = |text: Option<&String>| text.map_or(Value::Null, |text| Value::Str(text.as_str().into()));
            prop_assert_eq!((text(smallest), text(largest)), (oracle(texts.iter().min()), oracle(texts.iter().max())));
        }
    }
}
