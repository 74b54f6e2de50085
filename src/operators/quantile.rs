//! `quantile`: the number below which a share `q` of a field's numbers lies. Features that differ in `q` only share one accumulator.

use super::quantiles::Quantiles;
use super::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(super) struct Quantile;

static SIGNATURE: Signature = Signature {
    name: "quantile",
    aliases: &[],
    family: Family::Sketch,
    asks: "the median, the 99th percentile",
    help: "The q-quantile of the field's numbers. Exact up to 512 numbers, interpolated linearly at q * (n - 1); beyond, UDDSketch (Epicoco et al. \
           2020) with 2,046 buckets: within 1 % of a number of that rank, more only when the numbers span so many magnitudes that buckets \
           collapse, and always within the exact smallest and largest number. Merge is exact: order does not matter. 16 bytes for one number, 8 for \
           each further one, at most 16 KiB. Empty: null.",
    field: FieldRule::Optional,
    reads: Reads::Numbers,
    window: WindowRule::Allowed,
    params: &[Param {
        name: "q",
        aliases: &[],
        kind: ParamKind::Float { above: 0.0, below: 1.0, default: Some(0.5) },
        code: Code::InvalidPercentileQ,
        help: "share of the numbers that lie below",
    }],
    lifetime_bound: None,
    grown: "The quantile of all numbers, those of a cut bucket weighted by its share; bound: the numbers of the ranks that it may have with any of the \
            cut bucket's inside, widened by the sketch's error where it is one.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Quantile {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let q = feature.params.float("q");
        let value = move |slot: &Slot<'_>| Quantiles::value(slot, q).map_or(Value::Null, Value::F64);
        Compiled::of_one(Arc::new(Quantiles), value, move |slot| Quantiles::accuracy(slot, q))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::ParamValue;
    use super::super::laws::{Datum, Stream, check_edges, exactly, reading, rows};
    use super::*;

    #[test]
    fn q_is_the_median_by_default_and_the_reading_says_whether_it_is_exact() {
        let numbers = |n: i64| rows((0..n).map(Datum::I64));
        assert_eq!(reading(&Quantile, FieldType::I64, &[], &numbers(5)), exactly(Value::F64(2.0)));
        assert_eq!(reading(&Quantile, FieldType::I64, &[("q", ParamValue::Float(0.75))], &numbers(5)), exactly(Value::F64(3.0)));
        let estimate = reading(&Quantile, FieldType::I64, &[], &numbers(1000));
        assert!(estimate.admits(&Value::F64(499.5), 0.0) && !estimate.admits(&Value::F64(520.0), 0.0));
        assert!(estimate.error().is_some_and(|error| error > 0.0 && error < 0.021));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(
            seed in proptest::prelude::any::<u64>(),
            length in proptest::sample::select(vec![0usize, 1, 2, 5, 40, 700, 3000]),
            cuts in (0.0f64..1.0, 0.0f64..1.0),
            share in 0.001f64..0.999,
            q in proptest::sample::select(vec![0.001, 0.1, 0.5, 0.9, 0.99]),
        ) {
            let mut stream = Stream(seed);
            let rows = rows((0..length).map(|_| Datum::F64((stream.normal() * 4.0).exp() - 1.0)));
            let cuts = ((cuts.0 * length as f64) as usize, (cuts.1 * length as f64) as usize);
            check_edges(&Quantile, FieldType::F64, &[("q", ParamValue::Float(q))], &rows, cuts, share)?;
        }
    }
}
