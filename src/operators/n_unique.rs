//! `n_unique`: how many distinct values a field had.

use super::distinct::Distinct;
use super::reading::count_value;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;

/// The operator.
pub(super) struct NUnique;

static SIGNATURE: Signature = Signature {
    name: "n_unique",
    aliases: &[],
    family: Family::Sketch,
    asks: "how many different values",
    help: "Number of distinct values of the field, of any type. Exact up to 1,024 of them, as a list of 64-bit hashes (XXH3); beyond, HyperLogLog \
           with 2^12 six-bit registers (Flajolet et al. 2007) and the estimator of Ertl (2017): standard error 1.6 %, 3 KiB. Merge is exact: order \
           does not matter. 16 bytes for one value, then 8 each. Empty: 0.",
    field: FieldRule::Optional,
    reads: Reads::Any,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    grown: "Between the values without and with a cut bucket by its share, rounded; bound: without and with it, each widened by 1.96 standard errors \
            where it is an estimate (then with `confidence`).",
    output: Output::Is(FieldType::I64),
};

impl Operator for NUnique {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let value = |slot: &Slot<'_>| count_value(Distinct::value(slot));
        Compiled::of_one(Arc::new(Distinct), value, Distinct::accuracy)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Cut, Datum, Stream, check_edges, exactly, reading, rows};
    use super::super::{Accuracy, Bound};
    use super::*;
    use streamgauge_api::Value;

    #[test]
    fn the_reading_says_whether_it_is_exact() {
        let read = |n| reading(&NUnique, FieldType::I64, &[], &rows((0..n).map(Datum::I64)));
        assert_eq!(read(1024), exactly(Value::I64(1024)));
        let Accuracy::Within(Bound { low: Value::I64(low), high: Value::I64(high), nullable: false, confidence: Some(confidence) }) =
            read(1025).accuracy
        else {
            panic!("{:?}", read(1025))
        };
        assert!((900..1025).contains(&low) && (1025..1150).contains(&high) && confidence == 0.95, "{low} to {high}");
    }

    /// 1.96 standard errors to either side hold 19 of 20 answers.
    #[test]
    fn a_statistical_bound_holds_as_often_as_it_says() {
        let mut within = 0;
        for seed in 0..200u64 {
            let mut stream = Stream(seed << 32);
            let distinct = 1_025 + (stream.word() % 3_000).cast_signed();
            let data = rows((0..distinct).map(|_| Datum::I64(stream.word().cast_signed())));
            let reading = reading(&NUnique, FieldType::I64, &[], &data);
            within += u32::from(reading.admits(&Value::I64(distinct), 0.0));
        }
        assert!((180..=200).contains(&within), "{within} of 200");
    }

    #[test]
    fn a_cut_bucket_gives_what_it_alone_has_by_its_share() {
        let values = |range: std::ops::Range<i64>| rows(range.map(Datum::I64));
        let read = |before, core| Cut { before, core, after: Vec::new(), share: 0.5 }.read(&NUnique, FieldType::I64, &[]);
        assert_eq!(read(values(0..10), values(5..15)).value, Value::I64(13));
        assert_eq!(read(values(5..10), values(5..15)), exactly(Value::I64(10)));
        // Two lists that are more than one list holds together are still counted exactly.
        assert_eq!(read(values(0..1000), values(1000..2000)).accuracy, Bound::counts(1000, 2000).into());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(data in proptest::collection::vec(0i64..30, 0..40), cuts in (0usize..40, 0usize..40), share in 0.001f64..0.999) {
            check_edges(&NUnique, FieldType::I64, &[], &rows(data.into_iter().map(Datum::I64)), cuts, share)?;
        }
    }
}
