//! `time_since`: how long ago the latest matching row was.

use super::{Signature, compiled, ms_between, signature};
use crate::operators::{Compiled, FeatureParams, Operator};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct TimeSince;

static SIGNATURE: Signature = signature(
    "time_since",
    "how long since the last row",
    "Milliseconds from the latest matching row to the time of the read, at least 0. Exact in any order of rows; 24 bytes, shared by the operators of this family. Empty: null.",
    FieldType::I64,
);

impl Operator for TimeSince {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(|seen, now_us| if seen.any() { ms_between(seen.last_us, now_us) } else { Value::Null })
    }
}
