//! `max`: the largest value of a field, as it came.

use super::extreme::Extreme;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Signature, WindowRule};
use std::sync::Arc;

/// The operator.
pub(super) struct Max;

static SIGNATURE: Signature = Signature {
    name: "max",
    aliases: &[],
    help: "Largest value of the field, as it came. Numbers compare numerically and exactly, text and bytes bytewise; among values of several \
           kinds the kind that came first stays; text beyond 1 MiB is passed over. Exact; 16 bytes plus text. Empty: null.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::OfField,
};

impl Operator for Max {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let extreme = Extreme::largest(feature);
        Compiled::of_one(Arc::new(extreme), move |slot| extreme.read(slot).into())
    }
}
