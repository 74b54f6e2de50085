//! `mean`: the arithmetic mean of a field's numbers. Shares its accumulator with `sum`.

use super::total::Total;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Mean;

static SIGNATURE: Signature = Signature {
    name: "mean",
    aliases: &[],
    help: "Arithmetic mean of the field's numbers: the sum of `sum` divided by how many there were, so it drifts no more than that; shares its \
           bytes. Empty: null.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::Is(FieldType::F64),
};

impl Operator for Mean {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let total = Total::of(feature);
        let mean = move |(numbers, sum): (u64, f64)| Value::F64(sum / numbers as f64);
        Compiled::of_one(Arc::new(total), move |slot| total.read(slot).map_or(Value::Null, mean).into())
    }
}
