//! `trend`: how fast the field's numbers rise.

use super::line::{LeastSquares, Line};
use super::{accuracy, finite, signature};
use crate::operators::{Compiled, FeatureParams, Operator, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct Trend;

static SIGNATURE: Signature = signature(
    "trend",
    "whether numbers rise or fall",
    "Slope of the least-squares line through (row time, the field's number), per millisecond. From centred moments, which do not cancel; in any order \
     of rows, exact up to rounding; 48 bytes. Null for fewer than two numbers, or where all have one time.",
    Reads::Numbers,
    FieldType::F64,
);

impl Operator for Trend {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| Line::of_parts(slot.nearest()).slope().map_or(Value::Null, |slope| finite(slope * 1000.0));
        Compiled::of_one(Arc::new(LeastSquares), value, accuracy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, reading};

    #[test]
    fn the_slope_is_per_millisecond_and_stable_at_times_of_today() {
        let start_us = 1_800_000_000_000_000;
        let row = |index: i64| Row::of(Datum::I64(3 * index), start_us + index * 1000, index.cast_unsigned());
        let rows: Vec<Row> = (1..=50).map(row).collect();
        let Value::F64(slope) = reading(&Trend, FieldType::I64, &[], &rows).value else { panic!("a slope") };
        assert!((slope - 3.0).abs() < 1e-9, "{slope}");
        assert_eq!(reading(&Trend, FieldType::I64, &[], &rows[..1]).value, Value::Null);
    }
}
