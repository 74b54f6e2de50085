//! `last_n`: the values of a key's last rows.

use super::{LIST, compiled, n, signature};
use crate::operators::kept::Keep;
use crate::operators::{Compiled, FeatureParams, FieldRule, Operator, Reads, Signature};
use streamgauge_api::Code;

/// The operator.
pub(in crate::operators) struct LastN;

static SIGNATURE: Signature = Signature {
    params: &[n(None, Code::AggregationUnknownField, "how many values")],
    lifetime_bound: Some("n"),
    ..signature(
        "last_n",
        "the latest n values",
        "The field's values in the n latest matching rows that have one, latest last. By row time, then LSN, whatever the order in which rows come. A text, bytes or json beyond 1 MiB divided by n is passed over. Exact; 16 bytes, then 24 for each value and the bytes of texts. Empty: [].",
        FieldRule::Required,
        Reads::Any,
        LIST,
    )
};

impl Operator for LastN {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        compiled(feature, Keep::Latest, feature.params.count("n"))
    }
}
