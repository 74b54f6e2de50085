//! `time_since_last_n`: how long ago the n-th latest matching row was.

use super::newest_times::NewestTimes;
use super::{Signature, ms_between, signature};
use crate::operators::{Accuracy, Compiled, FeatureParams, Operator, Param, ParamKind};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct TimeSinceLastN;

static SIGNATURE: Signature = Signature {
    params: &[Param {
        name: "n",
        aliases: &[],
        kind: ParamKind::Int { min: 1, max: 1024, default: None },
        code: Code::AggregationUnknownField,
        help: "which row, counted from the latest: 1 is the latest",
    }],
    lifetime_bound: Some("n"),
    ..signature(
        "time_since_last_n",
        "how long since the n-th last row",
        "Milliseconds from the n-th latest matching row to the time of the read, at least 0. Exact in any order of rows; 16 bytes and up to 8 for \
         each of n rows. Null until there are n.",
        FieldType::I64,
    )
};

impl Operator for TimeSinceLastN {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let keeps = feature.params.count("n");
        let mut compiled = Compiled::of_one(Arc::new(NewestTimes { keeps }), |_| Value::Null, |_| Accuracy::Exact);
        compiled.value = Box::new(move |slots, now_us| match NewestTimes::held(crate::operators::only(slots).core) {
            held @ [oldest, ..] if held.len() == keeps => ms_between(oldest.cast_signed(), now_us),
            _ => Value::Null,
        });
        compiled
    }
}
