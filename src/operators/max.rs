//! `max`: the largest value of a field, as it came.

use super::extreme::Extreme;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule};
use std::sync::Arc;

/// The operator.
pub(super) struct Max;

static SIGNATURE: Signature = Signature {
    name: "max",
    aliases: &[],
    family: Family::Core,
    asks: "the largest value",
    help: "Largest value of the field, as it came. Numbers compare numerically and exactly, text and bytes bytewise; among values of several \
           kinds the kind that came first stays; text beyond 1 MiB is passed over. Exact; 16 bytes plus text. Empty: null.",
    field: FieldRule::Optional,
    reads: Reads::Any,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "The value with a cut bucket that is inside by half or more, without it otherwise; bound: without and with it, open and nullable where \
            nothing else is inside; none among values of several kinds.",
    output: Output::OfField,
};

impl Operator for Max {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let extreme = Extreme::largest(feature);
        Compiled::of_one(Arc::new(extreme), move |slot| extreme.value(slot), move |slot| extreme.accuracy(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{Datum, check_edges, rows};
    use super::*;
    use crate::row::FieldType;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(numbers in prop::collection::vec(-20i64..20, 0..40), texts in prop::collection::vec("[a-c]{0,3}", 0..40), kinds in prop::collection::vec(0u8..30, 0..40), cuts in (0usize..40, 0usize..40), share in 0.001f64..0.999) {
            let number = |number: i64| if number % 3 == 0 { Datum::Null } else { Datum::I64(number) };
            check_edges(&Max, FieldType::I64, &[], &rows(numbers.iter().copied().map(number)), cuts, share)?;
            check_edges(&Max, FieldType::Str, &[], &rows(texts.iter().cloned().map(Datum::Str)), cuts, share)?;
            // Rarely another kind of value.
            let mixed = |(number, kind): (&i64, &u8)| if *kind == 0 { Datum::Bool(true) } else { Datum::I64(*number) };
            check_edges(&Max, FieldType::Json, &[], &rows(numbers.iter().zip(&kinds).map(mixed)), cuts, share)?;
        }
    }
}
