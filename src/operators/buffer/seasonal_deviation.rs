//! `seasonal_deviation`: how unusual the latest number is for its hour of the day.

use super::hourly::{HourlyMoments, hour_of};
use super::signature;
use crate::operators::latest_number::LatestNumber;
use crate::operators::{AccumulatorNeed, Accuracy, Compiled, FeatureParams, FieldRule, Operator, Output, Reads, Signature};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct SeasonalDeviation;

static SIGNATURE: Signature = signature(
    "seasonal_deviation",
    "how unusual for the hour",
    "How many sample standard deviations the latest of the field's numbers is from the mean of all that came in the same hour of the day (row time, \
     UTC), itself included. By Welford's update (1962) for each hour; in any order of rows, exact up to rounding; 624 bytes. Null while that hour has \
     fewer than two numbers, or where they are all equal.",
    FieldRule::Required,
    Reads::Numbers,
    Output::Is(FieldType::F64),
);

impl Operator for SeasonalDeviation {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![AccumulatorNeed::of(HourlyMoments), AccumulatorNeed::of(LatestNumber)],
            value: Box::new(|slots, _now_us| {
                let [hours, latest] = slots else { unreachable!("two accumulators") };
                let Some((time_us, latest)) = LatestNumber::of(std::iter::once(latest.core)) else { return Value::Null };
                let deviation = HourlyMoments::of(hours.core, hour_of(time_us))
                    .filter(|(_, variance)| *variance > 0.0)
                    .map(|(mean, variance)| (latest - mean) / variance.sqrt());
                deviation.filter(|deviation| deviation.is_finite()).map_or(Value::Null, Value::F64)
            }),
            accuracy: Box::new(|_slots, _now_us| Accuracy::Exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, reading};

    #[test]
    fn a_number_is_measured_against_its_own_hour() {
        let hour_us = 3_600_000_000;
        let read = |data: &[(f64, i64)]| {
            let row = |(&(number, hour), lsn): (&(f64, i64), u64)| Row::of(Datum::F64(number), hour * hour_us, lsn);
            let rows: Vec<Row> = data.iter().zip(1..).map(row).collect();
            reading(&SeasonalDeviation, FieldType::F64, &[], &rows).value
        };
        assert_eq!(read(&[]), Value::Null);
        assert_eq!(read(&[(1.0, 3), (100.0, 4), (3.0, 27)]), Value::F64(1.0 / 2f64.sqrt()));
        // The latest by time decides, whatever came last.
        assert_eq!(read(&[(3.0, 27), (1.0, 3), (100.0, 4)]), Value::F64(1.0 / 2f64.sqrt()));
        assert_eq!(read(&[(1.0, 3), (1.0, 27)]), Value::Null);
        assert_eq!(read(&[(1.0, 3), (9.0, 4)]), Value::Null, "one number in its hour");
    }
}
