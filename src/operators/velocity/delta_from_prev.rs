//! `delta_from_prev`: the latest number less the one before it.

use super::{accuracy, finite, signature};
use crate::operators::kept::{Keep, KeptRows, kept_cells};
use crate::operators::{Accuracy, Compiled, FeatureParams, Operator, Reads, Signature, Slot};
use crate::row::{Cell, FieldType};
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
        let value = |slot: &Slot<'_>| match slot.nearest().flat_map(kept_cells).collect::<Vec<_>>()[..] {
            [.., before, latest] => difference(latest, before).map_or(Value::Null, finite),
            _ => Value::Null,
        };
        let accuracy = |slot: &Slot<'_>| match slot.after {
            // Both stand in whole buckets, and none is later.
            None if kept_cells(slot.core).count() == 2 => Accuracy::Exact,
            _ => accuracy(slot),
        };
        Compiled::of_one(Arc::new(KeptRows::of(feature, Keep::LatestNumbers, 2)), value, accuracy)
    }
}

/// Of integers the exact difference, rounded once.
#[expect(clippy::cast_precision_loss, reason = "the one rounding")]
fn difference(latest: Cell<'_>, before: Cell<'_>) -> Option<f64> {
    match (latest, before) {
        (Cell::I64(latest), Cell::I64(before)) => Some((i128::from(latest) - i128::from(before)) as f64),
        (latest, before) => Some(latest.number()? - before.number()?),
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
        let large = crate::operators::laws::rows([Datum::I64(1 << 53), Datum::I64((1 << 53) + 1)]);
        assert_eq!(reading(&DeltaFromPrev, FieldType::I64, &[], &large).value, Value::F64(1.0));
    }
}
