//! `last`: the latest value of a field, by row time, then LSN. The accumulator lives with `first`.

use super::first::EndOfTime;
use super::{Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule};
use std::sync::Arc;
use streamgauge_api::Code;

/// The operator.
pub(super) struct Last;

static SIGNATURE: Signature = Signature {
    name: "last",
    aliases: &[],
    family: Family::Point,
    asks: "the latest value",
    help: "The field's value in the latest matching row that has one, by row time, then LSN; text beyond 1 MiB is passed over. Exact; 24 bytes \
           plus text. Takes no window. Empty: null.",
    field: FieldRule::Required,
    reads: Reads::Any,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[],
    lifetime_bound: None,
    grown: "",
    output: Output::OfField,
};

impl Operator for Last {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let latest = EndOfTime::latest(feature);
        Compiled::of_one(Arc::new(latest), move |slot| latest.value(slot), |_| Accuracy::Exact)
    }
}
