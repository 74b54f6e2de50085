//! `top_k`: the most frequent values of a field with their counts. Features that differ in `k` or `errors` only share one accumulator.

use super::counter_table::Hitter;
use super::heavy_hitters::HeavyHitters;
use super::reading::count_value;
use super::{
    Accuracy, Bound, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reads, Signature, Slot, WindowRule,
};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(super) struct TopK;

static SIGNATURE: Signature = Signature {
    name: "top_k",
    aliases: &[],
    family: Family::Sketch,
    asks: "the most frequent values",
    help: "The k most frequent values of the field, as a list of {\"count\", \"value\"}, highest count first, equal counts by value (texts, integers, \
           doubles, booleans, datetimes). Exact up to 1,024 distinct values; beyond, space-saving with 1,024 counters (Metwally, Agrawal and El \
           Abbadi 2005): a count is never too low, and too high by at most its error, which is at most rows / 1,024 over a key's whole life and may \
           be somewhat more where buckets of a window were merged. Bytes, json and texts beyond 480 bytes are passed over. 32 bytes for one \
           number, at most 1 MiB. Empty: [].",
    field: FieldRule::Optional,
    reads: Reads::Scalars,
    window: WindowRule::Allowed,
    params: &[
        Param {
            name: "k",
            aliases: &[],
            kind: ParamKind::Int { min: 1, max: 1024, default: Some(10) },
            code: Code::InvalidTopKK,
            help: "how many values",
        },
        Param {
            name: "errors",
            aliases: &[],
            kind: ParamKind::Bool { default: false },
            code: Code::AggregationInvalidParam,
            help: "adds \"error\" to each value: by how much its count may be too high (of a grown key, or too low)",
        },
    ],
    lifetime_bound: None,
    grown: "Counts of whole buckets plus the share of a cut one's, rounded; bound: two lists, the least and the largest count of each value listed. \
            A value that is not listed may belong there.",
    output: Output::Is(FieldType::Json),
};

impl Operator for TopK {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let k = usize::try_from(feature.params.int("k")).unwrap_or(0);
        let errors = feature.params.bool("errors");
        let value =
            move |slot: &Slot<'_>| Value::List(HeavyHitters::top(slot, k).iter().map(|counted| item(&counted.hitter, errors)).collect());
        Compiled::of_one(Arc::new(HeavyHitters), value, move |slot| accuracy(slot, k))
    }
}

/// The least and the largest count of each value that is listed.
fn accuracy(slot: &Slot<'_>, k: usize) -> Accuracy {
    if HeavyHitters::exact(slot) {
        return Accuracy::Exact;
    }
    let (low, high) = HeavyHitters::top(slot, k).iter().map(|counted| (count_value(counted.low), count_value(counted.high))).unzip();
    // Equal ends would not make it exact: another value may belong into the list.
    Accuracy::Within(Bound { low: Value::List(low), high: Value::List(high), nullable: false, confidence: None })
}

fn item(hitter: &Hitter<'_>, errors: bool) -> Value {
    let mut entries: Vec<(Box<str>, Value)> = vec![("count".into(), count_value(hitter.count))];
    if errors {
        entries.push(("error".into(), count_value(hitter.error)));
    }
    entries.push(("value".into(), hitter.value()));
    Value::Map(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::ParamValue;
    use super::super::laws::{Datum, Stream, check_edges, reading, rows};
    use super::*;

    #[test]
    fn items_are_maps_of_count_and_value_and_of_error_when_asked() {
        let rows = rows(["b", "a", "b"].map(|text| Datum::Str(text.into())));
        for (given, json) in [
            (vec![], r#"[{"count":2,"value":"b"},{"count":1,"value":"a"}]"#),
            (vec![("k", ParamValue::Int(1)), ("errors", ParamValue::Bool(true))], r#"[{"count":2,"error":0,"value":"b"}]"#),
        ] {
            let got = reading(&TopK, FieldType::Str, &given, &rows);
            let mut text = Vec::new();
            streamgauge_api::value::write_json(&mut text, &got.value);
            assert_eq!((String::from_utf8(text).unwrap().as_str(), got.accuracy), (json, Accuracy::Exact));
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(
            seed in proptest::prelude::any::<u64>(),
            (length, values) in proptest::sample::select(vec![(0usize, 1u64), (3, 2), (40, 6), (400, 50), (900, 700)]),
            cuts in (0.0f64..1.0, 0.0f64..1.0),
            share in 0.001f64..0.999,
        ) {
            let mut stream = Stream(seed);
            let rows = rows((0..length).map(|_| Datum::Str(format!("m{}", stream.zipf(values)))));
            let cuts = ((cuts.0 * length as f64) as usize, (cuts.1 * length as f64) as usize);
            check_edges(&TopK, FieldType::Str, &[("k", ParamValue::Int(5))], &rows, cuts, share)?;
        }
    }
}
