//! `count`: how many rows matched. Also the accumulator behind `ratio`.
//!
//! One word per slot. The cell is never looked at, so a small entity's list keeps nothing for it. Called by apply through the plan, row by row.

use super::reading::{Bound, count_value, with_shares};
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX};
use std::sync::Arc;

/// The operator.
pub(super) struct Count;

static SIGNATURE: Signature = Signature {
    name: "count",
    aliases: &[],
    family: Family::Core,
    asks: "how many rows came",
    help: "Number of matching rows, whatever their fields hold. Exact; 8 bytes. Empty: 0.",
    field: FieldRule::None,
    reads: Reads::Any,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "Rows of whole buckets plus the share of a cut one, rounded; bound: without and with its rows.",
    output: Output::Is(FieldType::I64),
};

impl Operator for Count {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| count_value(with_shares(Rows::inside(slot), Rows::cut(slot)));
        let accuracy = |slot: &Slot<'_>| {
            let inside = Rows::inside(slot);
            Bound::counts(inside, inside + Rows::cut(slot).map(|(rows, _)| rows).sum::<u64>()).into()
        };
        Compiled::of_one(Arc::new(Rows), value, accuracy)
    }
}

/// Counts rows. Slot: `[rows]`. Merge adds; exact, associative and commutative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows;

impl Rows {
    /// Rows that are surely inside.
    pub(super) fn inside(slot: &Slot<'_>) -> u64 {
        slot.core.words[0]
    }

    /// Rows of cut buckets, with the share of each.
    pub(super) fn cut<'a>(slot: &Slot<'a>) -> impl Iterator<Item = (u64, f64)> + use<'a> {
        slot.edges().map(|edge| (edge.part.words[0], edge.share))
    }
}

impl Accumulator for Rows {
    fn identity(&self) -> String {
        "rows".into()
    }

    fn words(&self) -> usize {
        1
    }

    fn need(&self) -> Need {
        Need::Nothing
    }

    #[inline]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, _input: &Input<'_>) {
        slot[0] += 1;
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        if slot[0] <= SLOT_ROWS_MAX { Ok(()) } else { Err("it counts more rows than there are") }
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        slot[0] += other[0];
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, check_edges, check_exact_laws, exactly, reading, rows};
    use super::*;
    use proptest::prelude::*;
    use streamgauge_api::Value;

    #[test]
    fn every_row_counts_whatever_its_cell() {
        let rows = rows([Datum::Null, Datum::Absent, Datum::I64(1), Datum::Str("a".into())]);
        assert_eq!(reading(&Count, FieldType::I64, &[], &rows), exactly(Value::I64(4)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn counts_obey_the_laws(length in 0usize..40, cuts in (0usize..40, 0usize..40)) {
            check_exact_laws(&Rows, &rows((0..length).map(|_| Datum::Null)), cuts)?;
        }

        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(length in 0usize..40, cuts in (0usize..40, 0usize..40), share in 0.001f64..0.999) {
            check_edges(&Count, FieldType::I64, &[], &rows((0..length).map(|_| Datum::Null)), cuts, share)?;
        }
    }
}
