//! `first_seen_in_window`: whether the latest matching row is within a span before the read. The name is that of the wire
//! contract.

use super::{Signature, compiled, signature};
use crate::operators::{Compiled, FeatureParams, Operator, WindowRule};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct FirstSeenInWindow;

static SIGNATURE: Signature = Signature {
    window: WindowRule::Span,
    ..signature(
        "first_seen_in_window",
        "whether it came lately",
        "Whether the latest matching row came less than `window` before the time of the read; while that row is ahead of the read: false. Despite its \
         name it says nothing of first rows. `forever`: always false, as clients know it. Exact in any order of rows; 24 bytes, shared by the \
         operators of this family. Empty: false.",
        FieldType::Bool,
    )
};

impl Operator for FirstSeenInWindow {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let span_us = feature.window_us.unwrap_or(0);
        compiled(move |seen, now_us| Value::Bool(seen.any() && (0..span_us).contains(&now_us.saturating_sub(seen.last_us))))
    }
}
