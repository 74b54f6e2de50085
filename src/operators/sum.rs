//! `sum`: what the numbers of a field add up to, rounded once. Shares its accumulator with `mean`.

use super::total::Total;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Sum;

static SIGNATURE: Signature = Signature {
    name: "sum",
    aliases: &[],
    family: Family::Core,
    asks: "what numbers add up to",
    help: "Sum of the field's numbers, given as a double; what is no number is passed over. Integers are added exactly in 128 bits, doubles with \
           Neumaier's compensation (1974), with one rounding at the read; 24 to 40 bytes. Empty: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "The sum of whole buckets plus the share of a cut one's; bound: with all of its negative numbers, and with all of its positive ones.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Sum {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let total = Total::of(feature);
        let value = move |slot: &Slot<'_>| total.estimate(slot).map_or(Value::Null, |(_, sum)| Value::F64(sum));
        Compiled::of_one(Arc::new(total), value, move |slot| total.open(slot, |_, sums| sums))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{check_edges, numbers, rows};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(data in prop::collection::vec(numbers(), 0..40), cuts in (0usize..40, 0usize..40), share in 0.001f64..0.999) {
            let rows = rows(data);
            for kind in [FieldType::I64, FieldType::F64] {
                check_edges(&Sum, kind, &[], &rows, cuts, share)?;
            }
        }
    }
}
