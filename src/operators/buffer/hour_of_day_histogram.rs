//! `hour_of_day_histogram`: how many rows came in each hour of the day.

use super::{LIST, signature};
use crate::operators::cells::Cells;
use crate::operators::{Accuracy, Compiled, FeatureParams, FieldRule, Operator, Reads, Signature};
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct HourOfDayHistogram;

static SIGNATURE: Signature = signature(
    "hour_of_day_histogram",
    "at which hours rows come",
    "How many matching rows came in each hour of the day, by row time, UTC: a list of 24 counts, midnight first. Exact; 200 bytes. Empty: 24 times 0.",
    FieldRule::None,
    Reads::Any,
    LIST,
);

impl Operator for HourOfDayHistogram {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled::of_one(Arc::new(Cells::HourOfDay), |slot| Value::List(Cells::HourOfDay.counts(slot.core)), |_| Accuracy::Exact)
    }
}
