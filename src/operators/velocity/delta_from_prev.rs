//! `delta_from_prev`: the latest number less the one before it.

use super::{accuracy, finite, nearest, signature};
use crate::operators::buffer::{Keep, KeptRows, kept_numbers};
use crate::operators::{Accuracy, Compiled, FeatureParams, Operator, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct DeltaFromPrev;

static SIGNATURE: Signature = signature(
    "delta_from_prev",
    "the change from the row before",
    "The latest of the field's numbers less the one before it, by row time, then LSN. Exact in any order of rows, one rounding; 64 bytes. Null for \
     fewer than two numbers.",
    Reads::Numbers,
    FieldType::F64,
);

impl Operator for DeltaFromPrev {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| match nearest(slot).flat_map(kept_numbers).collect::<Vec<_>>()[..] {
            [.., (_, before), (_, latest)] => finite(latest - before),
            _ => Value::Null,
        };
        let accuracy = |slot: &Slot<'_>| match slot.after {
            // Both stand in whole buckets, and none is later.
            None if kept_numbers(slot.core).len() == 2 => Accuracy::Exact,
            _ => accuracy(slot),
        };
        Compiled::of_one(Arc::new(KeptRows::of(feature, Keep::LatestNumbers, 2)), value, accuracy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, reading};

    #[test]
    fn the_difference_is_that_of_the_two_latest_numbers() {
        let read = |data: &[(f64, i64)]| {
            let rows: Vec<Row> = data.iter().zip(1..).map(|(&(number, time_us), lsn)| Row::of(Datum::F64(number), time_us, lsn)).collect();
            reading(&DeltaFromPrev, FieldType::F64, &[], &rows).value
        };
        for (data, expected) in [
            (&[][..], Value::Null),
            (&[(1.0, 1)], Value::Null),
            (&[(1.0, 1), (4.0, 2)], Value::F64(3.0)),
            (&[(4.0, 2), (1.0, 1), (9.0, 0)], Value::F64(3.0)),
            (&[(4.0, 2), (7.0, 2)], Value::F64(3.0)),
            (&[(-1e308, 1), (1e308, 2)], Value::Null),
        ] {
            assert_eq!(read(data), expected, "{data:?}");
        }
    }
}
