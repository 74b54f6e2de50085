//! `ewvar`: the exponentially weighted variance of a field's numbers. Shares its accumulator with
//! `ew_zscore`.

use super::half_life::HALF_LIFE;
use super::smoothed_moments::SmoothedMoments;
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule, ends};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct Ewvar;

static SIGNATURE: Signature = Signature {
    name: "ewvar",
    aliases: &[],
    family: Family::Decay,
    asks: "how far numbers spread lately, squared",
    help: "Exponentially weighted variance of the field's numbers, in the field's unit squared: each number gets \
           `1 - 2^(-dt / half_life)` of the weight, with `dt` the time since the one before, and the variance is that of \
           all numbers with their weights (T. Finch, 2009, by the update of West, 1979). A number at the time of the one \
           before weighs nothing. It does not fade at a read. Exact up to rounding while rows come in order of time; a \
           late one weighs nothing. 40 bytes, 72 in each bucket of a window, shared with `ew_zscore`. One number: 0.0. \
           Empty, or beyond the doubles: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[HALF_LIFE],
    lifetime_bound: None,
    grown: ends::GROWN,
    output: Output::Is(FieldType::F64),
};

impl Operator for Ewvar {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let moments = SmoothedMoments::of(feature);
        let value = move |slot: &Slot<'_>| {
            let variance = moments.read(slot).map(|moments| moments.variance).filter(|variance| variance.is_finite());
            variance.map_or(Value::Null, Value::F64)
        };
        Compiled::of_one(Arc::new(moments), value, move |slot| moments.accuracy(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::smoothed_moments::oracle::{GIVEN, moments};
    use super::*;
    use crate::operators::laws::{
        Datum, amounts, check_answer, check_extremes, check_nearest, exactly, in_time, numbered, out_of_time, reading, rows,
    };
    use crate::operators::{Accuracy, ParamValue};
    use proptest::prelude::*;

    #[test]
    fn equal_numbers_have_no_variance() {
        for length in [1, 50] {
            let same = rows((0..length).map(|_| Datum::F64(0.1)));
            assert_eq!(reading(&Ewvar, FieldType::F64, &GIVEN, &same), exactly(Value::F64(0.0)));
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        for us in [1_000, 3650 * 86_400_000_000] {
            check_extremes(&Ewvar, &[("half_life", ParamValue::DurationUs(us))]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_recursion_over_all_rows(rows in in_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            let variance = moments(&rows).map(|moments| moments.variance);
            check_answer(&Ewvar, &GIVEN, &rows, 0, (variance, 1e-7), Accuracy::Exact)?;
            check_nearest(&Ewvar, &GIVEN, &rows, cuts, 1e-7)?;
        }

        #[test]
        fn late_rows_weigh_nothing_and_leave_a_mark(rows in out_of_time(amounts(), 30)) {
            let in_order = numbered(&rows).is_sorted_by_key(|(_, time_us)| *time_us);
            let accuracy = if in_order { Accuracy::Exact } else { Accuracy::Unknown };
            check_answer(&Ewvar, &GIVEN, &rows, 0, (moments(&rows).map(|moments| moments.variance), 1e-7), accuracy)?;
        }
    }
}
