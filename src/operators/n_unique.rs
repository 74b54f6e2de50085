//! `n_unique`: how many distinct values a field had.

use super::distinct::{Distinct, STANDARD_ERROR};
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Reading, Signature, Slot, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct NUnique;

static SIGNATURE: Signature = Signature {
    name: "n_unique",
    aliases: &[],
    help: "Number of distinct values of the field, of any type. Exact up to 1,024 of them, as a list of 64-bit hashes (XXH3); beyond, HyperLogLog \
           with 2^12 six-bit registers (Flajolet et al. 2007) and the estimator of Ertl (2017): standard error 1.6 %, 3 KiB. Merge is exact: order \
           does not matter. 16 bytes for one value, then 8 each. Empty: 0.",
    field: FieldRule::Optional,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::Is(FieldType::I64),
};

impl Operator for NUnique {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled::of_one(Arc::new(Distinct), read)
    }
}

fn read(slot: &Slot<'_>) -> Reading {
    let (distinct, estimated) = Distinct::read(slot);
    Reading { value: Value::I64(i64::try_from(distinct).unwrap_or(i64::MAX)), error: estimated.then_some(STANDARD_ERROR) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, reading, rows};
    use super::*;

    #[test]
    fn the_reading_says_whether_it_is_exact() {
        let read = |n| reading(&NUnique, FieldType::I64, &[], &rows((0..n).map(Datum::I64)));
        assert_eq!(read(1024), Value::I64(1024).into());
        assert_eq!(read(1025).error, Some(0.016));
    }
}
