//! `dow_hour_histogram`: how many rows came in each hour of the week.

use super::signature;
use crate::operators::cells::Cells;
use crate::operators::{Accuracy, Compiled, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct DowHourHistogram;

static SIGNATURE: Signature = signature(
    "dow_hour_histogram",
    "at which hours of the week rows come",
    "How many matching rows came in each hour of the week, by row time, UTC: a map from `Mon-00` to `Sun-23`. Exact; 1,352 bytes. Empty: every \
     hour 0.",
    FieldRule::None,
    Reads::Any,
    Output::Is(FieldType::Json),
);

/// By number, as the cells are.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Operator for DowHourHistogram {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| {
            let labels = DAYS.iter().flat_map(|day| (0..24).map(move |hour| format!("{day}-{hour:02}").into()));
            let mut entries: Vec<(Box<str>, Value)> = labels.zip(Cells::HourOfWeek.counts(slot.core)).collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Map(entries)
        };
        Compiled::of_one(Arc::new(Cells::HourOfWeek), value, |_| Accuracy::Exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, reading, rows};

    #[test]
    fn every_hour_of_the_week_has_a_name() {
        // The rows of the tests begin in the first second of 1970, a Thursday.
        let Value::Map(entries) = reading(&DowHourHistogram, FieldType::I64, &[], &rows([Datum::Null])).value else { panic!("a map") };
        assert_eq!(entries.len(), 168);
        assert!(entries.is_sorted_by(|left, right| left.0 < right.0), "in order of their names");
        let counted: Vec<&str> = entries.iter().filter(|(_, count)| *count == Value::I64(1)).map(|(name, _)| &**name).collect();
        assert_eq!(counted, ["Thu-00"]);
    }
}
