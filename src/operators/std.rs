//! `std`: sample standard deviation of a field's numbers. Shares its accumulator with `var`.

use super::moments::Moments;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Std;

static SIGNATURE: Signature = Signature {
    name: "std",
    aliases: &[],
    help: "Sample standard deviation of the field's numbers: the square root of `var`, whose bytes it shares. Empty, or fewer than two numbers: \
           null.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::Is(FieldType::F64),
};

impl Operator for Std {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let deviation = |variance: f64| Value::F64(variance.sqrt());
        Compiled::of_one(Arc::new(Moments), move |slot| Moments::variance(slot).map_or(Value::Null, deviation).into())
    }
}
