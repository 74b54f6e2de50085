//! `z_score`: how many standard deviations the latest number is from the mean.

use super::{accuracy, finite, signature};
use crate::operators::latest_number::LatestNumber;
use crate::operators::moments::Moments;
use crate::operators::{AccumulatorNeed, Compiled, FeatureParams, Operator, Param, ParamKind, Reads, Signature};
use crate::row::FieldType;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct ZScore;

static SIGNATURE: Signature = Signature {
    params: &[Param {
        name: "baseline_window",
        aliases: &[],
        kind: ParamKind::Window,
        code: Code::AggregationInvalidWindow,
        help: "another name of `window`",
    }],
    ..signature(
        "z_score",
        "how unusual the latest number is",
        "How many sample standard deviations the latest of the field's numbers is from the mean of all, itself included: (latest - mean) / std. By \
         Welford's update (1962), which does not cancel; in any order of rows, exact up to rounding; 48 bytes. Null for fewer than two numbers, or \
         where all are equal.",
        Reads::Numbers,
        FieldType::F64,
    )
};

impl Operator for ZScore {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![AccumulatorNeed::of(Moments), AccumulatorNeed::of(LatestNumber)],
            value: Box::new(|slots, _now_us| {
                let [moments, latest] = slots else { unreachable!("two accumulators") };
                let (Some((_, latest)), Some((mean, variance))) =
                    (LatestNumber::of(latest.nearest()), Moments::of_parts(moments.nearest()))
                else {
                    return Value::Null;
                };
                if variance > 0.0 { finite((latest - mean) / variance.sqrt()) } else { Value::Null }
            }),
            accuracy: Box::new(|slots, _now_us| {
                let [moments, _] = slots else { unreachable!("two accumulators") };
                accuracy(moments)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, numbers, reading, rows};
    use proptest::prelude::*;

    #[test]
    fn the_latest_number_is_measured_against_all() {
        let read = |numbers: &[f64]| reading(&ZScore, FieldType::F64, &[], &rows(numbers.iter().copied().map(Datum::F64))).value;
        assert_eq!(read(&[]), Value::Null);
        assert_eq!(read(&[5.0]), Value::Null);
        assert_eq!(read(&[5.0, 5.0]), Value::Null);
        assert_eq!(read(&[1.0, 3.0]), Value::F64(1.0 / 2f64.sqrt()));
        assert_eq!(read(&[1e308, -1e308]), Value::Null, "beyond the doubles");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_z_score_is_that_of_the_two_pass_oracle(data in prop::collection::vec(numbers().prop_filter("small", |datum| !matches!(datum, Datum::I64(n) if n.unsigned_abs() > 1000)), 0..30)) {
            let numbers: Vec<f64> = data.iter().filter_map(|datum| datum.cell().number()).collect();
            let count = numbers.len() as f64;
            let mean = numbers.iter().sum::<f64>() / count;
            let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let got = reading(&ZScore, FieldType::F64, &[], &rows(data)).value;
            match got {
                Value::F64(z) => prop_assert!((z - (numbers[numbers.len() - 1] - mean) / variance.sqrt()).abs() < 1e-6, "{z}"),
                _ => prop_assert!(numbers.len() < 2 || variance < 1e-18, "{got:?} of {numbers:?}"),
            }
        }
    }
}
