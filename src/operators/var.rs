//! `var`: sample variance of a field's numbers. Shares its accumulator with `std`.

use super::moments::Moments;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Var;

static SIGNATURE: Signature = Signature {
    name: "var",
    aliases: &[],
    help: "Sample variance (divided by n - 1) of the field's numbers, by Welford's update (1962) and the merge of Chan, Golub and LeVeque (1979), \
           which do not cancel; exact up to rounding; 24 bytes. Empty, or fewer than two numbers: null.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::Is(FieldType::F64),
};

impl Operator for Var {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled::of_one(Arc::new(Moments), |slot| Moments::variance(slot).map_or(Value::Null, Value::F64).into())
    }
}
