//! `has_seen`: whether a matching row ever came.

use super::{Signature, compiled, signature};
use crate::operators::{Compiled, FeatureParams, Operator};
use crate::row::FieldType;
use streamgauge_api::Value;

/// The operator.
pub(in crate::operators) struct HasSeen;

static SIGNATURE: Signature = signature(
    "has_seen",
    "whether it ever came",
    "Whether any row matched. Exact; 24 bytes, shared by the operators of this family. Empty: false.",
    FieldType::Bool,
);

impl Operator for HasSeen {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        compiled(|seen, _now_us| Value::Bool(seen.any()))
    }
}
