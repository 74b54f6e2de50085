//! `inter_arrival_stats`: the mean time between rows.

use super::{accuracy, ms, signature};
use crate::operators::seen::{Seen, Times};
use crate::operators::{Compiled, FeatureParams, FieldRule, Operator, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct InterArrivalStats;

static SIGNATURE: Signature = Signature {
    field: FieldRule::None,
    ..signature(
        "inter_arrival_stats",
        "how far apart rows come",
        "Mean time between a matching row and the next, milliseconds: (latest - earliest) / (rows - 1). Exact in any order of rows; 24 bytes, over a \
         key's life shared with `first_seen` and its like. Null for fewer than two rows.",
        Reads::Any,
        FieldType::F64,
    )
};

impl Operator for InterArrivalStats {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| mean_gap(slot.nearest().fold(Seen::default(), |all, part| all.with(Seen::of(part))));
        Compiled::of_one(Arc::new(Times), value, accuracy)
    }
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn mean_gap(seen: Seen) -> Value {
    if seen.rows < 2 { Value::Null } else { Value::F64(ms(seen.first_us, seen.last_us) / (seen.rows - 1) as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, reading};

    #[test]
    fn the_mean_gap_is_that_of_all_rows_in_any_order() {
        let read = |times: &[i64]| {
            let rows: Vec<Row> = times.iter().zip(1..).map(|(&time_us, lsn)| Row::of(Datum::Null, time_us, lsn)).collect();
            reading(&InterArrivalStats, FieldType::I64, &[], &rows).value
        };
        for (times, expected) in [
            (&[][..], Value::Null),
            (&[5], Value::Null),
            (&[1000, 4000], Value::F64(3.0)),
            (&[4000, 1000, 2500], Value::F64(1.5)),
            (&[7, 7], Value::F64(0.0)),
        ] {
            assert_eq!(read(times), expected, "{times:?}");
        }
    }
}
