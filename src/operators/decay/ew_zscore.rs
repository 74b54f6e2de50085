//! `ew_zscore`: how unusual the latest number is, in standard deviations of those before it and
//! itself, which fade. Shares its accumulator with `ewvar`.

use super::half_life::HALF_LIFE;
use super::smoothed_moments::{Moments, SmoothedMoments};
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule, ends};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct EwZscore;

static SIGNATURE: Signature = Signature {
    name: "ew_zscore",
    aliases: &[],
    family: Family::Decay,
    asks: "how unusual the latest number is, against those of late",
    help: "How far the field's latest number is from their exponentially weighted mean, in standard deviations: \
           `(latest - mean) / sqrt(ewvar)`, where mean and `ewvar` have taken in the latest number already. Its sign \
           says on which side it is; a number has no unit. Exact up to rounding while rows come in order of time; a late \
           one becomes the latest and weighs nothing. 40 bytes, 72 in each bucket of a window, shared with `ewvar`. \
           Empty, or without any variance: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[HALF_LIFE],
    lifetime_bound: None,
    grown: ends::GROWN,
    output: Output::Is(FieldType::F64),
};

impl Operator for EwZscore {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let moments = SmoothedMoments::of(feature);
        let value = move |slot: &Slot<'_>| moments.read(slot).and_then(score).map_or(Value::Null, Value::F64);
        Compiled::of_one(Arc::new(moments), value, move |slot| moments.accuracy(slot))
    }
}

/// Roundings of the mean, relative to its size.
const ROUNDING: f64 = 8.0 * f64::EPSILON;

fn score(Moments { mean, variance, last }: Moments) -> Option<f64> {
    let apart = last - mean;
    // When next to nothing is left of the other numbers, neither is of the deviation; a rounding must
    // not become a large part of it.
    let apart = if apart.abs() <= ROUNDING * last.abs() { 0.0 } else { apart };
    let score = apart / variance.sqrt();
    (variance > 0.0 && variance.is_finite() && score.is_finite()).then_some(score)
}

#[cfg(test)]
mod tests {
    use super::super::smoothed_moments::oracle::{GIVEN, moments};
    use super::*;
    use crate::operators::laws::{
        Datum, Row, amounts, check_answer, check_extremes, check_nearest, double, exactly, in_time, numbered, out_of_time, reading, rows,
    };
    use crate::operators::{Accuracy, ParamValue};
    use proptest::prelude::*;

    /// Whether the variance is more than what roundings leave of it.
    fn spread(rows: &[Row]) -> bool {
        moments(rows).is_none_or(|moments| moments.variance > 1e-3)
    }

    #[test]
    fn equal_numbers_have_no_score() {
        let same = rows((0..50).map(|_| Datum::F64(0.1)));
        assert_eq!(reading(&EwZscore, FieldType::F64, &GIVEN, &same), exactly(Value::Null));
    }

    #[test]
    fn one_number_has_no_score() {
        assert_eq!(reading(&EwZscore, FieldType::F64, &GIVEN, &rows([Datum::I64(3), Datum::Null])), exactly(Value::Null));
    }

    #[test]
    fn a_step_of_one_half_life_is_one_deviation() {
        let rows = [Row::of(Datum::F64(1.0), 0, 1), Row::of(Datum::F64(3.0), 2_000_000, 2)];
        assert_eq!(reading(&EwZscore, FieldType::F64, &GIVEN, &rows), exactly(Value::F64(1.0)));
    }

    #[test]
    fn what_is_next_to_forgotten_makes_no_outlier() {
        for half_lives in [20, 40, 50, 52, 60, 200, 2000] {
            let rows = [1.8e12, 1.8e12 + 1.0, 1.8e12 + 7.0, 1.8e12 + 7.0];
            let row = |(number, n): (f64, i64)| Row::of(Datum::F64(number), n * half_lives * 2_000_000, n.cast_unsigned());
            let rows: Vec<Row> = rows.into_iter().zip(1..).map(row).collect();
            let score = double(&reading(&EwZscore, FieldType::F64, &GIVEN, &rows).value);
            assert!(score.is_none_or(|score| score.abs() < 0.01), "{half_lives}: {score:?}");
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        for us in [1_000, 3650 * 86_400_000_000] {
            check_extremes(&EwZscore, &[("half_life", ParamValue::DurationUs(us))]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_recursion_over_all_rows(rows in in_time(amounts(), 40), cuts in (0usize..40, 0usize..40)) {
            prop_assume!(spread(&rows) && spread(&rows[cuts.0.min(cuts.1).min(rows.len())..cuts.0.max(cuts.1).min(rows.len())]));
            check_answer(&EwZscore, &GIVEN, &rows, 0, (moments(&rows).and_then(score), 1e-6), Accuracy::Exact)?;
            check_nearest(&EwZscore, &GIVEN, &rows, cuts, 1e-6)?;
        }

        #[test]
        fn late_rows_become_the_latest_and_leave_a_mark(rows in out_of_time(amounts(), 30)) {
            prop_assume!(spread(&rows));
            let in_order = numbered(&rows).is_sorted_by_key(|(_, time_us)| *time_us);
            let accuracy = if in_order { Accuracy::Exact } else { Accuracy::Unknown };
            check_answer(&EwZscore, &GIVEN, &rows, 0, (moments(&rows).and_then(score), 1e-6), accuracy)?;
        }
    }
}
