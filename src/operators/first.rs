//! `first`: the earliest value of a field. Also the accumulator behind `last`.
//!
//! Earliest and latest are by (row time, LSN), not by arrival: a late row may become the first, and replay gives what live gave.

use super::value_slot::{ValueSlot, value_of};
use super::{Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Part, Reads, Signature, Slot, WindowRule};
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Demand, Input, Need, Order};
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(super) struct First;

static SIGNATURE: Signature = Signature {
    name: "first",
    aliases: &[],
    family: Family::Point,
    asks: "the first value",
    help: "The field's value in the earliest matching row that has one, by row time, then LSN; text beyond 1 MiB is passed over. Exact; 24 bytes \
           plus text. Takes no window. Empty: null.",
    field: FieldRule::Required,
    reads: Reads::Any,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[],
    lifetime_bound: None,
    grown: "",
    output: Output::OfField,
};

impl Operator for First {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let earliest = EndOfTime::earliest(feature);
        Compiled::of_one(Arc::new(earliest), move |slot| earliest.value(slot), |_| Accuracy::Exact)
    }
}

/// The value at one end of time. Slot: `[payload] [time, us] [LSN << 3 | tag]`, see [`ValueSlot`]; tag 0 is empty.
/// Merge is exact, associative and commutative: no two rows share time and LSN.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndOfTime {
    layout: ValueSlot,
    latest: bool,
}

impl EndOfTime {
    /// The value of the earliest row.
    pub(super) fn earliest(feature: &FeatureParams<'_>) -> Self {
        Self { layout: ValueSlot::of(feature.field_kind), latest: false }
    }

    /// The value of the latest row.
    pub(super) fn latest(feature: &FeatureParams<'_>) -> Self {
        Self { layout: ValueSlot::of(feature.field_kind), latest: true }
    }

    /// The value; null before the first.
    pub(super) fn value(self, slot: &Slot<'_>) -> Value {
        debug_assert!(slot.edges().next().is_none(), "no window, so no edge");
        let Part { words, arena } = slot.core;
        value_of(self.layout.load(words[2] & 7, words[0], arena))
    }

    #[inline]
    fn replaces(self, slot: &[u64], time_us: i64, lsn: u64) -> bool {
        let (new, held) = ((time_us, lsn), (slot[1].cast_signed(), slot[2] >> 3));
        slot[2] == 0 || if self.latest { new >= held } else { new < held }
    }

    #[inline]
    fn take(self, slot: &mut [u64], arena: &mut Arena, cell: Cell<'_>, time_us: i64, lsn: u64) {
        if !self.layout.takes(cell) || !self.replaces(slot, time_us, lsn) {
            return;
        }
        let tag = self.layout.store(&mut slot[0], arena, cell);
        slot[1] = time_us.cast_unsigned();
        slot[2] = lsn << 3 | tag;
    }
}

impl Accumulator for EndOfTime {
    fn identity(&self) -> String {
        format!("{}/{}", if self.latest { "latest" } else { "earliest" }, self.layout.name())
    }

    fn words(&self) -> usize {
        3
    }

    fn handles(&self) -> &'static [usize] {
        if self.layout == ValueSlot::Object { &[0] } else { &[] }
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::TimeLsn
    }

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        self.take(slot, arena, input.cell, input.time_us, input.lsn);
    }

    fn demand_words_max(&self) -> usize {
        self.layout.demand_words_max()
    }

    fn demand(&self, slot: &[u64], _arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        // What does not replace the value does not replace a later one.
        if self.layout.takes(input.cell) && self.replaces(slot, input.time_us, input.lsn) {
            self.layout.demand(slot[0], before == 0, input.cell, demand);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let tag = slot[2] & 7;
        if self.layout.holds(tag, slot[0], arena) && (tag != 0 || slot.iter().all(|&word| word == 0)) {
            Ok(())
        } else {
            Err("it holds no value of its kind")
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        let cell = self.layout.load(other[2] & 7, other[0], from);
        self.take(slot, arena, cell, other[1].cast_signed(), other[2] >> 3);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, Row, State, check_exact_laws};
    use super::*;
    use proptest::prelude::*;

    fn ends(layout: ValueSlot) -> [EndOfTime; 2] {
        [EndOfTime { layout, latest: false }, EndOfTime { layout, latest: true }]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_ends_of_time_are_by_row_time_then_lsn(
            data in prop::collection::vec((prop_oneof![3 => "[a-z]{0,20}".prop_map(Datum::Str), 1 => Just(Datum::Null)], -4i64..4), 0..30),
            cuts in (0usize..30, 0usize..30),
        ) {
            let rows: Vec<Row> = data.into_iter().zip(7..).map(|((datum, time_us), lsn)| Row::of(datum, time_us, lsn)).collect();
            let scalars: Vec<Row> = rows.iter().map(|row| Row { datum: Datum::I64(row.lsn.cast_signed()), ..row.clone() }).collect();
            for (rows, layout) in [(&rows, ValueSlot::Object), (&scalars, ValueSlot::Inline)] {
                let valued = || rows.iter().filter(|row| row.datum != Datum::Null);
                let oracle = [valued().min_by_key(|row| (row.time_us, row.lsn)), valued().max_by_key(|row| (row.time_us, row.lsn))];
                for (end, oracle) in ends(layout).into_iter().zip(oracle) {
                    check_exact_laws(&end, rows, cuts)?;
                    let reversed = State::fed(&end, rows.iter().rev());
                    prop_assert_eq!(end.value(&reversed.slot()), oracle.map_or(Value::Null, |row| value_of(row.datum.cell())));
                }
            }
        }
    }
}
