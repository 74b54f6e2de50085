//! `burst_count`: the most rows that came within a short span.

use super::bursts::Bursts;
use super::signature;
use crate::operators::reading::count_value;
use crate::operators::{Accuracy, Bound, Compiled, FeatureParams, FieldRule, Operator, Param, ParamKind, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Code;

/// The operator.
pub(in crate::operators) struct BurstCount;

static SIGNATURE: Signature = Signature {
    field: FieldRule::None,
    params: &[Param {
        name: "sub_window",
        aliases: &[],
        kind: ParamKind::Duration { required: true },
        code: Code::AggregationInvalidParam,
        help: "length of the short spans; they are aligned to the Unix epoch",
    }],
    grown: "A cut bucket counts as a whole when half of it or more is inside; bound: without and with its rows.",
    ..signature(
        "burst_count",
        "the busiest short span",
        "The most matching rows in any span of `sub_window`. Exact where rows come back at most 63 spans that had rows; where one comes back further, \
         `explain` says so. 16 bytes and 16 for each of the latest 64 spans that had rows. Empty: 0.",
        Reads::Any,
        FieldType::I64,
    )
};

impl Operator for BurstCount {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let span_us = feature.params.duration_us("sub_window").max(1);
        let accuracy = |slot: &Slot<'_>| {
            let all = Bursts::most(slot.parts().map(|(part, _)| part));
            let inside = Bursts::most(std::iter::once(slot.core));
            if all.disordered { Accuracy::Unknown } else { Bound::counts(inside.rows, all.rows).into() }
        };
        Compiled::of_one(Arc::new(Bursts { span_us }), |slot| count_value(Bursts::most(slot.nearest()).rows), accuracy)
    }
}
