//! `last_seen`: when a key's latest matching row came.

use super::{Signature, compiled, datetime, signature};
use crate::operators::{Compiled, FeatureParams, Operator};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct LastSeen;

static SIGNATURE: Signature = signature(
    "last_seen",
    "when a key last came",
    "Row time of the latest matching row, milliseconds. Exact in any order of rows; 24 bytes, shared by the operators of this family. Empty: null.",
    FieldType::Datetime,
);

impl Operator for LastSeen {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(|seen, _now_us| if seen.any() { datetime(seen.last_us) } else { Value::Null })
    }
}
