//! `lag`: the value some rows before the latest.

use super::{n, signature};
use crate::operators::kept::{Keep, KeptRows, kept_cells};
use crate::operators::value_slot::value_of;
use crate::operators::{Accuracy, Compiled, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot};
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct Lag;

static SIGNATURE: Signature = Signature {
    params: &[n(None, Code::AggregationUnknownField, "how many rows back")],
    lifetime_bound: Some("n"),
    ..signature(
        "lag",
        "the value n rows back",
        "The field's value n rows before the latest, of the matching rows that have one: 1 is the one before the latest. By row time, then LSN, whatever the order in which rows come. A text, bytes or json beyond 1 MiB divided by n + 1 is passed over. Exact; 16 bytes, then 24 for each value and the bytes of texts. Null until there are n + 1.",
        FieldRule::Required,
        Reads::Any,
        Output::OfField,
    )
};

impl Operator for Lag {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let n = feature.params.count("n");
        let value = move |slot: &Slot<'_>| {
            let mut cells = kept_cells(slot.core);
            let oldest = cells.next().map_or(Value::Null, value_of);
            if cells.count() == n { oldest } else { Value::Null }
        };
        Compiled::of_one(Arc::new(KeptRows::of(feature, Keep::Latest, n + 1)), value, |_| Accuracy::Exact)
    }
}
