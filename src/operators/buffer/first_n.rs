//! `first_n`: the values of a key's first rows.

use super::{LIST, compiled, n, signature};
use crate::operators::kept::Keep;
use crate::operators::{Compiled, FeatureParams, FieldRule, Operator, Reads, Signature};
use streamgauge_api::Code;

/// The operator.
pub(in crate::operators) struct FirstN;

static SIGNATURE: Signature = Signature {
    params: &[n(None, Code::AggregationUnknownField, "how many values")],
    lifetime_bound: Some("n"),
    ..signature(
        "first_n",
        "the first n values",
        "The field's values in the n earliest matching rows that have one, earliest first. By row time, then LSN, whatever the order in which rows come. A text, bytes or json beyond 1 MiB divided by n is passed over. Exact; 16 bytes, then 24 for each value and the bytes of texts. Empty: [].",
        FieldRule::Required,
        Reads::Any,
        LIST,
    )
};

impl Operator for FirstN {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        compiled(feature, Keep::Earliest, feature.params.count("n"))
    }
}
