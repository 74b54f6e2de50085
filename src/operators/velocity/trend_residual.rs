//! `trend_residual`: how far the latest number is from the trend.

use super::line::{LeastSquares, Line};
use super::{accuracy, finite, signature};
use crate::operators::latest_number::LatestNumber;
use crate::operators::{AccumulatorNeed, Compiled, FeatureParams, Operator, Reads, Signature};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct TrendResidual;

static SIGNATURE: Signature = signature(
    "trend_residual",
    "how far off the trend",
    "The latest of the field's numbers less what the least-squares line of `trend` is at its time. In any order of rows, exact up to rounding; 72 \
     bytes, of which `trend` shares 48. Null for fewer than two numbers, or where all have one time.",
    Reads::Numbers,
    FieldType::F64,
);

impl Operator for TrendResidual {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![AccumulatorNeed::of(LeastSquares), AccumulatorNeed::of(LatestNumber)],
            value: Box::new(|slots, _now_us| {
                let [line, latest] = slots else { unreachable!("two accumulators") };
                let Some((time_us, latest)) = LatestNumber::of(latest.nearest()) else { return Value::Null };
                Line::of_parts(line.nearest()).at(time_us).map_or(Value::Null, |line| finite(latest - line))
            }),
            accuracy: Box::new(|slots, _now_us| {
                let [line, _] = slots else { unreachable!("two accumulators") };
                accuracy(line)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, reading, rows};

    #[test]
    fn the_latest_number_is_measured_against_the_line() {
        let read = |numbers: &[i64]| reading(&TrendResidual, FieldType::I64, &[], &rows(numbers.iter().copied().map(Datum::I64))).value;
        assert_eq!(read(&[]), Value::Null);
        assert_eq!(read(&[1]), Value::Null);
        for (numbers, expected) in [(&[1i64, 2][..], 0.0), (&[0, 0, 3], 0.5)] {
            let Value::F64(residual) = read(numbers) else { panic!("a residual of {numbers:?}") };
            assert!((residual - expected).abs() < 1e-9, "{residual} of {numbers:?}");
        }
    }
}
