//! `rate_of_change`: how fast the field's number last changed.

use super::steps::{LatestStep, Steps};
use super::{accuracy, finite, signature};
use crate::operators::{Compiled, FeatureParams, Operator, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct RateOfChange;

static SIGNATURE: Signature = signature(
    "rate_of_change",
    "how fast a number moves now",
    "How much the field's number rose in a millisecond, from the last number before the latest row time to the first number of that time. By row time, \
     then LSN, so exact in any order of rows, up to rounding; 80 bytes. Null until numbers have come at two times.",
    Reads::Numbers,
    FieldType::F64,
);

impl Operator for RateOfChange {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| Steps::of_parts(slot.nearest()).rate().map_or(Value::Null, finite);
        Compiled::of_one(Arc::new(LatestStep), value, accuracy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, reading};

    #[test]
    fn numbers_of_one_time_leave_the_rate_as_it_is() {
        let read = |data: &[(f64, i64)]| {
            let rows: Vec<Row> = data.iter().zip(1..).map(|(&(number, ms), lsn)| Row::of(Datum::F64(number), ms * 1000, lsn)).collect();
            reading(&RateOfChange, FieldType::F64, &[], &rows).value
        };
        assert_eq!(read(&[(1.0, 0)]), Value::Null);
        assert_eq!(read(&[(1.0, 0), (5.0, 10)]), Value::F64(0.4));
        assert_eq!(read(&[(1.0, 0), (5.0, 10), (9.0, 10)]), Value::F64(0.4));
        assert_eq!(read(&[(9.0, 10), (1.0, 0), (5.0, 10)]), Value::F64(0.8));
        assert_eq!(read(&[(-1e308, 0), (1e308, 10)]), Value::Null);
    }
}
