//! `event_type_mix`: the share of each value of a field.

use super::valued::{Kinds, Valued};
use crate::operators::cells::Cells;
use crate::operators::heavy_hitters::HeavyHitters;
use crate::operators::{
    AccumulatorNeed, Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, ParamValue, Reads,
    Signature, Slot, WindowRule,
};
use crate::row::{Cell, FieldType};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct EventTypeMix;

static SIGNATURE: Signature = Signature {
    name: "event_type_mix",
    aliases: &[],
    family: Family::Buffer,
    asks: "what share each value has",
    help: "The share of each of the field's values, texts, integers and booleans, as a map from the value as text to count / all. With `categories` exactly \
           those are counted, and all others in the whole: exact, 8 bytes each. Without it the most frequent ones are listed: exact up to 1,024 distinct \
           values; beyond, space-saving counters: shares of rare values may be too high, and no bound is given; a text beyond 480 bytes counts in the \
           whole alone; the memory of `top_k`, which it shares, and 8 bytes. Empty: {}.",
    field: FieldRule::Required,
    reads: Reads::Names,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[
        Param {
            name: "categories",
            aliases: &[],
            kind: ParamKind::Texts { max: 1024 },
            code: Code::AggregationInvalidParam,
            help: "the values to list; without it the most frequent ones",
        },
        Param {
            name: "max_categories",
            aliases: &[],
            kind: ParamKind::Int { min: 1, max: 4096, default: Some(256) },
            code: Code::AggregationInvalidParam,
            help: "without `categories`: how many values are listed, the most frequent; at most 1,024 are",
        },
    ],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::Json),
};

impl Operator for EventTypeMix {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let most = feature.params.count("max_categories");
        match feature.params.0.get("categories") {
            Some(ParamValue::Texts(texts)) => listed(texts),
            _ => Compiled {
                needs: vec![AccumulatorNeed::of(HeavyHitters), AccumulatorNeed::of(Valued(Kinds::Named))],
                value: Box::new(move |slots, _now_us| most_frequent(slots, most)),
                accuracy: Box::new(|slots, _now_us| {
                    let [hitters, _] = slots else { unreachable!("two accumulators") };
                    if HeavyHitters::exact(hitters) { Accuracy::Exact } else { Accuracy::Unknown }
                }),
            },
        }
    }
}

/// A count for each text of a list, and one for all others.
fn listed(texts: &[String]) -> Compiled {
    let texts: std::collections::BTreeSet<Box<str>> = texts.iter().map(|text| text.as_str().into()).collect();
    let texts: Arc<[Box<str>]> = texts.into_iter().collect();
    let cells = Cells::Listed(Arc::clone(&texts));
    let value = {
        let cells = cells.clone();
        move |slot: &Slot<'_>| {
            let all: u64 = cells.rows(slot.core).sum();
            let seen = texts.iter().zip(cells.rows(slot.core)).filter(|(_, rows)| *rows > 0);
            Value::Map(seen.map(|(text, rows)| (text.clone(), Value::F64(share(rows, all)))).collect())
        }
    };
    Compiled::of_one(Arc::new(cells), value, |_| Accuracy::Exact)
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn share(rows: u64, all: u64) -> f64 {
    (rows as f64 / all.max(1) as f64).min(1.0)
}

/// The shares of the most frequent values.
fn most_frequent(slots: &[Slot<'_>], most: usize) -> Value {
    let [hitters, valued] = slots else { unreachable!("two accumulators") };
    let all = Valued::inside(valued);
    // The text "1" and the integer are one category.
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    for counted in HeavyHitters::top(hitters, usize::MAX) {
        let name = match counted.hitter.cell {
            Cell::Str(text) => String::from_utf8_lossy(text).into_owned(),
            Cell::I64(number) => number.to_string(),
            Cell::Bool(truth) => truth.to_string(),
            _ => continue,
        };
        *by_name.entry(name).or_default() += counted.hitter.count;
    }
    let mut named: Vec<(String, u64)> = by_name.into_iter().collect();
    if named.len() > most {
        named.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        named.truncate(most);
        named.sort_unstable();
    }
    Value::Map(named.into_iter().map(|(name, rows)| (name.into(), Value::F64(share(rows, all)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, exactly, reading, rows};

    #[test]
    fn shares_are_of_all_rows_with_a_category() {
        let data = rows(["a", "b", "a", "c"].map(|text| Datum::Str(text.into())).into_iter().chain([Datum::Null]));
        let check = |given: &[(&'static str, ParamValue)], expected: &[(&str, f64)]| {
            let map = Value::Map(expected.iter().map(|(name, share)| ((*name).into(), Value::F64(*share))).collect());
            assert_eq!(reading(&EventTypeMix, FieldType::Str, given, &data), exactly(map), "{given:?}");
        };
        check(&[], &[("a", 0.5), ("b", 0.25), ("c", 0.25)]);
        check(&[("max_categories", ParamValue::Int(1))], &[("a", 0.5)]);
        let listed = ("categories", ParamValue::Texts(vec!["z".into(), "c".into(), "b".into()]));
        check(&[listed.clone(), ("max_categories", ParamValue::Int(1))], &[("b", 0.25), ("c", 0.25)]);
        let mixed =
            ["a", "a", "a", "a", "1", "1", "1"].map(|text| Datum::Str(text.into())).into_iter().chain([Datum::I64(1), Datum::I64(1)]);
        let two = reading(&EventTypeMix, FieldType::Json, &[("max_categories", ParamValue::Int(2))], &rows(mixed));
        assert_eq!(two, exactly(Value::Map(vec![("1".into(), Value::F64(5.0 / 9.0)), ("a".into(), Value::F64(4.0 / 9.0))])));
        let flags = rows([Datum::Bool(true), Datum::I64(7), Datum::I64(7), Datum::Bool(false)]);
        let shares = [("7", 0.5), ("false", 0.25), ("true", 0.25)].map(|(name, share)| (name.into(), Value::F64(share)));
        assert_eq!(reading(&EventTypeMix, FieldType::Json, &[], &flags), exactly(Value::Map(shares.into())));
    }
}
