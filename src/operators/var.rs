//! `var`: sample variance of a field's numbers. Shares its accumulator with `std`.

use super::moments::Moments;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Var;

static SIGNATURE: Signature = Signature {
    name: "var",
    aliases: &[],
    family: Family::Core,
    asks: "how far numbers spread, squared",
    help: "Sample variance (divided by n - 1) of the field's numbers, by Welford's update (1962) and the merge of Chan, Golub and LeVeque (1979), \
           which do not cancel; exact up to rounding; 24 bytes. Empty, or fewer than two numbers: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "The variance with a cut bucket's numbers weighted by its share; bound: the spread of the whole buckets alone over all numbers that may be \
            inside, and the spread of all over the numbers of the whole buckets.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Var {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| Moments::variance(slot).map_or(Value::Null, Value::F64);
        Compiled::of_one(Arc::new(Moments), value, |slot| Moments::open(slot, |variance| variance))
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
            check_edges(&Var, FieldType::F64, &[], &rows, cuts, share)?;
        }
    }
}
