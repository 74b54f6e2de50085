//! `std`: sample standard deviation of a field's numbers. Shares its accumulator with `var`.

use super::moments::Moments;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Std;

static SIGNATURE: Signature = Signature {
    name: "std",
    aliases: &[],
    family: Family::Core,
    asks: "how far numbers spread",
    help: "Sample standard deviation of the field's numbers: the square root of `var`, whose bytes it shares. Empty, or fewer than two numbers: \
           null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "The square root of `var`, and of both ends of its bound.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Std {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| Moments::variance(slot).map_or(Value::Null, |variance| Value::F64(variance.sqrt()));
        Compiled::of_one(Arc::new(Moments), value, |slot| Moments::open(slot, f64::sqrt))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{Datum, check_edges, rows};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(data in prop::collection::vec(-100.0f64..100.0, 0..40), offset in prop::sample::select(vec![0.0, 1e4]), cuts in (0usize..40, 0usize..40), share in 0.001f64..0.999) {
            let rows = rows(data.iter().map(|number| Datum::F64(number + offset)));
            check_edges(&Std, FieldType::F64, &[], &rows, cuts, share)?;
        }
    }
}
