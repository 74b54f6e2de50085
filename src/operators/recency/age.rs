//! `age`: how long a key is known.

use super::{Signature, compiled, ms_between, signature};
use crate::operators::{Compiled, FeatureParams, Operator};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct Age;

static SIGNATURE: Signature = signature(
    "age",
    "how long a key is known",
    "Milliseconds from the earliest row to the time of the read, at least 0. Exact in any order of rows; 24 bytes, shared by the operators of this family. Empty: null.",
    FieldType::I64,
);

impl Operator for Age {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(|seen, now_us| if seen.any() { ms_between(seen.first_us, now_us) } else { Value::Null })
    }
}
