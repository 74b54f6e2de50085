//! `sum`: what the numbers of a field add up to, rounded once. Shares its accumulator with `mean`.

use super::total::Total;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Sum;

static SIGNATURE: Signature = Signature {
    name: "sum",
    aliases: &[],
    help: "Sum of the field's numbers, given as a double; what is no number is passed over. Integers are added exactly in 128 bits, doubles with \
           Neumaier's compensation (1974), with one rounding at the read; 24 to 32 bytes. Empty: null.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::Is(FieldType::F64),
};

impl Operator for Sum {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let total = Total::of(feature);
        Compiled::of_one(Arc::new(total), move |slot| total.read(slot).map_or(Value::Null, |(_, sum)| Value::F64(sum)).into())
    }
}
