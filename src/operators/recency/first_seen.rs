//! `first_seen`: when a key's earliest matching row came.

use super::{Signature, compiled, datetime, signature};
use crate::operators::{Compiled, FeatureParams, Operator};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct FirstSeen;

static SIGNATURE: Signature = signature(
    "first_seen",
    "when a key first came",
    "Row time of the earliest matching row, milliseconds. Exact in any order of rows; 24 bytes, shared by the operators of this family. Empty: null.",
    FieldType::Datetime,
);

impl Operator for FirstSeen {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(|seen, _now_us| if seen.any() { datetime(seen.first_us) } else { Value::Null })
    }
}
