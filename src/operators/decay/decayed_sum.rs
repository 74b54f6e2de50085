//! `decayed_sum`: the sum of a field's numbers, each of which fades by half with every half life.

use super::decayed_total::{Addend, DecayedTotal};
use super::half_life::HALF_LIFE;
use crate::operators::{AccumulatorNeed, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule, only};
use crate::row::FieldType;

/// The operator.
pub(in crate::operators) struct DecayedSum;

static SIGNATURE: Signature = Signature {
    name: "decayed_sum",
    aliases: &[],
    family: Family::Decay,
    asks: "what numbers add up to, older ones less",
    help: "Sum of the field's numbers, each multiplied by `2^(-age / half_life)`, in the field's unit (forward decay by \
           row time; G. Cormode and others, 2009). It fades on at a read, to the read's time, but is never as of a time \
           before the latest row. Late rows enter with what is left of them, so the order of rows does not matter; \
           exact up to rounding. 24 bytes, 32 in each bucket of a window. Empty, or beyond the doubles: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[HALF_LIFE],
    lifetime_bound: None,
    grown: "The sum of whole buckets plus the share of a cut one's; bound: with all of its negative numbers, and with all \
            of its positive ones; none where the bucket goes on for hundreds of half lives after the time of the read.",
    output: Output::Is(FieldType::F64),
};

impl Operator for DecayedSum {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        compiled(DecayedTotal::of(feature, Addend::Number))
    }
}

/// A feature that reads one total.
pub(super) fn compiled(total: DecayedTotal) -> Compiled {
    let need = AccumulatorNeed::of(total);
    Compiled {
        needs: vec![need],
        value: Box::new(move |slots, now_us| total.value(only(slots), now_us)),
        accuracy: Box::new(move |slots, now_us| total.accuracy(only(slots), now_us)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::decayed_total::oracle::{GIVEN, HALF_LIFE_US, check_cuts, total};
    use super::*;
    use crate::operators::laws::{Datum, Row, amounts, check_answer, check_extremes, in_time, numbered, out_of_time};
    use crate::operators::{Accuracy, ParamValue};
    use proptest::prelude::*;

    #[test]
    fn a_read_fades_the_sum_and_never_lets_it_grow() {
        let rows = [Row::of(Datum::I64(8), 0, 1), Row::of(Datum::F64(2.5), HALF_LIFE_US, 2)];
        for (half_lives, expected) in [(-3, 6.5), (0, 6.5), (1, 6.5), (2, 3.25), (3, 1.625)] {
            check_answer(&DecayedSum, &GIVEN, &rows, half_lives * HALF_LIFE_US, (Some(expected), 0.0), Accuracy::Exact).unwrap();
        }
        check_answer(&DecayedSum, &GIVEN, &[], 7, (None, 0.0), Accuracy::Exact).unwrap();
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        for us in [1_000, 3650 * 86_400_000_000] {
            check_extremes(&DecayedSum, &[("half_life", ParamValue::DurationUs(us))]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_sum_of_what_is_left(rows in out_of_time(amounts(), 40), wait_us in -3_000_000i64..20_000_000) {
            let now_us = rows.last().map_or(0, |row| row.time_us) + wait_us;
            check_answer(&DecayedSum, &GIVEN, &rows, now_us, (total(&numbered(&rows), now_us), 1e-8), Accuracy::Exact)?;
        }

        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(rows in in_time(amounts(), 24), cuts in (0usize..24, 0usize..24), share in 0.001f64..0.999) {
            check_cuts(&DecayedSum, numbered, &rows, cuts, share)?;
        }
    }
}
