//! `top_k`: the most frequent values of a field with their counts. Features that differ in `k` or `errors` only share one accumulator.

use super::counter_table::Hitter;
use super::heavy_hitters::HeavyHitters;
use super::{Compiled, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reading, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(super) struct TopK;

static SIGNATURE: Signature = Signature {
    name: "top_k",
    aliases: &[],
    help: "The k most frequent values of the field, as a list of {\"count\", \"value\"}, highest count first, equal counts by value (texts, integers, \
           doubles, booleans, datetimes). Exact up to 1,024 distinct values; beyond, space-saving with 1,024 counters (Metwally, Agrawal and El \
           Abbadi 2005): a count is never too low, and too high by at most its error, which is at most rows / 1,024 over a key's whole life and may \
           be somewhat more where buckets of a window were merged. Bytes, json and texts beyond 480 bytes are passed over. 32 bytes for one \
           number, at most 1 MiB. Empty: [].",
    field: FieldRule::Optional,
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
            help: "adds \"error\" to each value: by how much its count may be too high",
        },
    ],
    lifetime_bound: None,
    output: Output::Is(FieldType::Json),
};

impl Operator for TopK {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let k = usize::try_from(feature.params.int("k")).unwrap_or(0);
        let errors = feature.params.bool("errors");
        Compiled::of_one(Arc::new(HeavyHitters), move |slot| {
            let hitters = HeavyHitters::read(slot, k);
            let error = hitters.iter().map(relative_error).fold(0.0, f64::max);
            let items = hitters.iter().map(|hitter| item(hitter, errors)).collect();
            Reading { value: Value::List(items), error: (error > 0.0).then_some(error) }
        })
    }
}

fn item(hitter: &Hitter<'_>, errors: bool) -> Value {
    let count = |count: u64| Value::I64(i64::try_from(count).unwrap_or(i64::MAX));
    let mut entries: Vec<(Box<str>, Value)> = vec![("count".into(), count(hitter.count))];
    if errors {
        entries.push(("error".into(), count(hitter.error)));
    }
    entries.push(("value".into(), hitter.value()));
    Value::Map(entries)
}

#[expect(clippy::cast_precision_loss, reason = "a bound needs no last digit")]
fn relative_error(hitter: &Hitter<'_>) -> f64 {
    hitter.error as f64 / hitter.count.max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::ParamValue;
    use super::super::laws::{Datum, reading, rows};
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
            assert_eq!((String::from_utf8(text).unwrap().as_str(), got.error), (json, None));
        }
    }
}
