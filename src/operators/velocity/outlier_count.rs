//! `outlier_count`: how many numbers were far from the mean of those before them.

use super::outliers::{Outliers, count, is_disordered};
use super::signature;
use crate::operators::reading::{count_value, with_shares};
use crate::operators::{Accuracy, Bound, Compiled, FeatureParams, Operator, Param, ParamKind, Reads, Signature, Slot};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Code;

/// The operator.
pub(in crate::operators) struct OutlierCount;

static SIGNATURE: Signature = Signature {
    params: &[Param {
        name: "sigma",
        aliases: &[],
        kind: ParamKind::Float { above: 0.0, below: f64::INFINITY, default: Some(3.0) },
        code: Code::AggregationInvalidParam,
        help: "standard deviations from the mean beyond which a number counts",
    }],
    grown: "Counts with the share of a cut bucket's, rounded; without and with it as bounds.",
    ..signature(
        "outlier_count",
        "how many values were unusual when they came",
        "How many of the field's numbers were more than `sigma` sample standard deviations from the mean of the numbers before them, of which there must \
         be five that are not all equal (Welford's update, 1962). Over a lifetime all before count. With a window, those of its own bucket (window / \
         resolution, aligned to the Unix epoch) before it and of the window that ends with the bucket before: what was unusual stays so while it is in \
         the window. Exact where a key's rows come in order of time; where a row of a grown key comes after a later one the later one was measured \
         without it, and `explain` says so. 48 bytes; 72 for each bucket. Empty: 0.",
        Reads::Numbers,
        FieldType::I64,
    )
};

impl Operator for OutlierCount {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let accumulator = Outliers { sigma: feature.params.float("sigma"), windowed: feature.window_us.is_some() };
        Compiled::of_one(Arc::new(accumulator), |slot| count_value(value(slot)), accuracy)
    }
}

fn value(slot: &Slot<'_>) -> u64 {
    with_shares(count(slot.core.words), slot.edges().map(|edge| (count(edge.part.words), edge.share)))
}

fn accuracy(slot: &Slot<'_>) -> Accuracy {
    if slot.parts().any(|(part, _)| is_disordered(part.words)) {
        return Accuracy::Unknown;
    }
    let surely = count(slot.core.words);
    Bound::counts(surely, surely + slot.edges().map(|edge| count(edge.part.words)).sum::<u64>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Cut, Datum, exactly, reading, rows};
    use streamgauge_api::Value;

    #[test]
    fn a_cut_bucket_leaves_open_how_many_of_its_own_are_inside() {
        let usual = || rows([1.0, 2.0, 1.0, 2.0, 1.0].map(Datum::F64));
        assert_eq!(reading(&OutlierCount, FieldType::F64, &[], &usual()), exactly(Value::I64(0)));
        let with = |numbers: &[f64]| rows([1.0, 2.0, 1.0, 2.0, 1.0].iter().chain(numbers).copied().map(Datum::F64));
        let cut = Cut { before: with(&[90.0]), core: with(&[90.0, 1.0]), after: Vec::new(), share: 0.75 };
        let found = cut.read(&OutlierCount, FieldType::F64, &[]);
        assert_eq!((&found.value, &found.accuracy), (&Value::I64(2), &Bound::counts(1, 2).into()));
    }
}
