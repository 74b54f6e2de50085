//! `quantile`: the number below which a share `q` of a field's numbers lies. Features that differ in `q` only share one accumulator.

use super::quantiles::Quantiles;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reading, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(super) struct Quantile;

static SIGNATURE: Signature = Signature {
    name: "quantile",
    aliases: &[],
    help: "The q-quantile of the field's numbers. Exact up to 256 numbers, interpolated linearly at q * (n - 1); beyond, UDDSketch (Epicoco et al. \
           2020) with 2,046 buckets: within 1 % of a number of that rank, more only when the numbers span so many magnitudes that buckets \
           collapse, and always within the exact smallest and largest number. Merge is exact: order does not matter. 16 bytes for one number, 8 for \
           each further one, at most 16 KiB. Empty: null.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[Param {
        name: "q",
        aliases: &[],
        kind: ParamKind::Float { above: 0.0, below: 1.0, default: Some(0.5) },
        code: Code::InvalidPercentileQ,
        help: "share of the numbers that lie below",
    }],
    lifetime_bound: None,
    output: Output::Is(FieldType::F64),
};

impl Operator for Quantile {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let q = feature.params.float("q");
        Compiled::of_one(Arc::new(Quantiles), move |slot| match Quantiles::read(slot, q) {
            Some((number, error)) => Reading { value: Value::F64(number), error },
            None => Value::Null.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::ParamValue;
    use super::super::laws::{Datum, reading, rows};
    use super::*;

    #[test]
    fn q_is_the_median_by_default_and_the_reading_says_whether_it_is_exact() {
        let numbers = |n: i64| rows((0..n).map(Datum::I64));
        assert_eq!(reading(&Quantile, FieldType::I64, &[], &numbers(5)), Value::F64(2.0).into());
        assert_eq!(reading(&Quantile, FieldType::I64, &[("q", ParamValue::Float(0.75))], &numbers(5)), Value::F64(3.0).into());
        let estimate = reading(&Quantile, FieldType::I64, &[], &numbers(1000));
        assert!(estimate.error.is_some_and(|error| (error - 0.01).abs() < 1e-12));
    }
}
