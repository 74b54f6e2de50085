//! `lag`: the value some rows before the latest.

use super::{Keep, compiled, n, signature};
use crate::operators::{Compiled, FeatureParams, FieldRule, Operator, Output, Reads, Signature};
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct Lag;

static SIGNATURE: Signature = Signature {
    params: &[n(None, Code::AggregationUnknownField, "how many rows back")],
    lifetime_bound: Some("n"),
    ..signature(
        "lag",
        "the value n rows back",
        "The field's value n rows before the latest, of the matching rows that have one: 1 is the one before the latest. By row time, then LSN, whatever the order in which rows come. A text, bytes or json beyond 1 MiB divided by n is passed over. Exact; 8 bytes, then 24 for each value and the bytes of texts. Null until there are n + 1.",
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
        compiled(feature, Keep::Latest, n + 1, move |mut values| if values.len() == n + 1 { values.swap_remove(0) } else { Value::Null })
    }
}
