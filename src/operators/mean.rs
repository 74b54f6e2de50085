//! `mean`: the arithmetic mean of a field's numbers. Shares its accumulator with `sum`.

use super::total::Total;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Mean;

static SIGNATURE: Signature = Signature {
    name: "mean",
    aliases: &[],
    family: Family::Core,
    asks: "what is usual",
    help: "Arithmetic mean of the field's numbers: the sum of `sum` divided by how many there were, so it drifts no more than that; shares its \
           bytes. Empty: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "The sum of `sum` divided by the numbers of whole buckets plus the share of a cut one's; bound: the least and the largest quotient of \
            what the sum and the numbers may be.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Mean {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let total = Total::of(feature);
        let mean = |(numbers, sum): (f64, f64)| Value::F64(sum / numbers);
        let value = move |slot: &Slot<'_>| total.estimate(slot).map_or(Value::Null, mean);
        Compiled::of_one(Arc::new(total), value, move |slot| total.open(slot, quotient))
    }
}

/// The least and the largest mean of that many numbers, of which there is at least one, with a sum
/// in between.
fn quotient(numbers: (f64, f64), sums: (f64, f64)) -> (f64, f64) {
    let (fewest, most) = (numbers.0.max(1.0), numbers.1.max(1.0));
    ((sums.0 / fewest).min(sums.0 / most), (sums.1 / fewest).max(sums.1 / most))
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
                check_edges(&Mean, kind, &[], &rows, cuts, share)?;
            }
        }
    }
}
