//! `event_type_mix`: the share of each value of a field.

use super::need;
use super::valued::{Kinds, Valued};
use crate::operators::heavy_hitters::HeavyHitters;
use crate::operators::{
    Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, ParamValue, Reads, Signature, Slot,
    WindowRule,
};
use crate::row::{Cell, FieldType};
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct EventTypeMix;

static SIGNATURE: Signature = Signature {
    name: "event_type_mix",
    aliases: &[],
    family: Family::Buffer,
    asks: "what share each value has",
    help: "The share of each of the field's values, texts, integers and booleans, as a map from the value as text to count / all. With `categories` only \
           those are listed, and the others count in the whole. Exact up to 1,024 distinct values; beyond, space-saving counters: shares of rare \
           values may be too high, and no bound is given. A text beyond 480 bytes counts in the whole alone. The memory of `top_k`, which it shares, \
           and 8 bytes. Empty: {}.",
    field: FieldRule::Required,
    reads: Reads::Scalars,
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
            help: "how many values are listed at most, the most frequent first; of more than 1,024 at most 1,024",
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
        let listed: Option<Vec<String>> = match feature.params.0.get("categories") {
            Some(ParamValue::Texts(texts)) => Some(texts.clone()),
            _ => None,
        };
        Compiled {
            needs: vec![need(Arc::new(HeavyHitters)), need(Arc::new(Valued(Kinds::Named)))],
            value: Box::new(move |slots, _now_us| mix(slots, listed.as_deref(), most)),
            accuracy: Box::new(|slots, _now_us| {
                let [hitters, _] = slots else { unreachable!("two accumulators") };
                if HeavyHitters::exact(hitters) { Accuracy::Exact } else { Accuracy::Unknown }
            }),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn mix(slots: &[Slot<'_>], listed: Option<&[String]>, most: usize) -> Value {
    let [hitters, valued] = slots else { unreachable!("two accumulators") };
    let rows = Valued::inside(valued);
    let named = |cell: Cell<'_>| match cell {
        Cell::Str(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Cell::I64(number) => Some(number.to_string()),
        Cell::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    let counted = HeavyHitters::top(hitters, usize::MAX).into_iter();
    let counted = counted.filter_map(|counted| Some((named(counted.hitter.cell)?, counted.hitter.count)));
    let is_listed = |name: &String| listed.is_none_or(|listed| listed.contains(name));
    let share = |count: u64| (count as f64 / rows.max(1) as f64).min(1.0);
    let mut entries: Vec<(Box<str>, Value)> = Vec::new();
    for (name, count) in counted.filter(|(name, _)| is_listed(name)).take(most) {
        // The text "1" and the integer are one category.
        match entries.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, Value::F64(known))) => *known = (*known + share(count)).min(1.0),
            _ => entries.push((name.into(), Value::F64(share(count)))),
        }
    }
    entries.sort_by(|left, right| left.0.cmp(&right.0));
    Value::Map(entries)
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
        check(&[("categories", ParamValue::Texts(vec!["c".into(), "z".into()]))], &[("c", 0.25)]);
        let flags = rows([Datum::Bool(true), Datum::I64(7), Datum::I64(7), Datum::Bool(false)]);
        let shares = [("7", 0.5), ("false", 0.25), ("true", 0.25)].map(|(name, share)| (name.into(), Value::F64(share)));
        assert_eq!(reading(&EventTypeMix, FieldType::Json, &[], &flags), exactly(Value::Map(shares.into())));
    }
}
