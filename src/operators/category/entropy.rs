//! `entropy`: how evenly the values of a field spread.
//!
//! Up to 1,024 distinct values have exact counts, and the value is Shannon's entropy of them. Beyond, the counters are
//! those of space-saving: what they surely hold is taken as it is, and the rest of the rows is spread evenly over the
//! distinct values without a counter, whose number a HyperLogLog says.
//!
//! The bound then follows from what is sure. Let a row's label be its value where the counters surely hold it, else
//! "rest"; `r` is the share of the rest. The entropy of values is at most that of labels and, within the rest, that of an
//! even spread: `H(labels) + r * log2(distinct)`. It is at least `H(labels) - h(r)`, since a value leaves at most the
//! entropy `h(r)` of a coin open of its label (Jensen, for `r <= 1/2`), and at least `-log2` of the largest share that any
//! value can have.

use super::valued::{Kinds, Valued};
use crate::operators::distinct::Distinct;
use crate::operators::heavy_hitters::HeavyHitters;
use crate::operators::reading::CONFIDENCE;
use crate::operators::{
    AccumulatorNeed, Accuracy, Bound, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reads, Signature,
    Slot, WindowRule,
};
use crate::row::FieldType;
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct Entropy;

static SIGNATURE: Signature = Signature {
    name: "entropy",
    aliases: &[],
    family: Family::Sketch,
    asks: "how evenly values spread",
    help: "Shannon entropy of the field's values in bits: -sum of p * log2(p) over their shares p. 0 when all are one value, log2(n) when n values are \
           equally frequent. Exact up to rounding while there are at most 1,024 distinct values; beyond, space-saving counters (Metwally, Agrawal and \
           El Abbadi 2005) with the rest spread over as many values as a HyperLogLog counts, and `explain` gives a bound. Bytes, json and texts beyond \
           480 bytes are passed over. The memory of `top_k` and `n_unique`, which it shares. Empty: 0.0.",
    field: FieldRule::Optional,
    reads: Reads::Scalars,
    window: WindowRule::Allowed,
    params: &[Param {
        name: "max_categories",
        aliases: &[],
        kind: ParamKind::Int { min: 1, max: 4096, default: Some(1024) },
        code: Code::AggregationInvalidParam,
        help: "where there are more than 1,024 distinct values: of how many the counts are used, at most 1,024; the others count as the rest",
    }],
    lifetime_bound: None,
    grown: "Counts with the share of a cut bucket's, rounded; no bound is known.",
    output: Output::Is(FieldType::F64),
};

impl Operator for Entropy {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let most = feature.params.count("max_categories");
        Compiled {
            needs: vec![AccumulatorNeed::of(HeavyHitters), AccumulatorNeed::of(Distinct), AccumulatorNeed::of(Valued(Kinds::Counted))],
            value: Box::new(move |slots, _now_us| Value::F64(Spread::of(slots, most).value())),
            accuracy: Box::new(move |slots, _now_us| {
                let [hitters, ..] = slots else { unreachable!("three accumulators") };
                if hitters.edges().next().is_some() { Accuracy::Unknown } else { Spread::of(slots, most).accuracy() }
            }),
        }
    }
}

/// What the counters and the sketch say of a slot's rows.
#[derive(Debug, Clone, PartialEq)]
struct Spread {
    /// Rows that each listed value surely has.
    sure: Vec<f64>,
    /// The most rows that any value can have.
    largest: f64,
    /// All rows.
    rows: f64,
    /// Distinct values, when they are more than the counters hold: about so many, and at most.
    distinct: Option<(f64, f64)>,
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
impl Spread {
    fn of(slots: &[Slot<'_>], most: usize) -> Self {
        let [hitters, distinct, valued] = slots else { unreachable!("three accumulators") };
        let exact = HeavyHitters::exact(hitters);
        if exact || hitters.edges().next().is_some() {
            let counts: Vec<f64> = HeavyHitters::top(hitters, usize::MAX).iter().map(|counted| counted.hitter.count as f64).collect();
            let largest = counts.first().copied().unwrap_or(0.0);
            return Self { rows: counts.iter().sum(), sure: counts, largest, distinct: None };
        }
        let top = HeavyHitters::top(hitters, most);
        let largest = top.first().map_or(0, |counted| counted.high) as f64;
        let sure: Vec<f64> = top.iter().map(|counted| counted.low as f64).filter(|rows| *rows > 0.0).collect();
        let about = Distinct::value(distinct).max(sure.len() as u64 + 1);
        let at_most = match Distinct::accuracy(distinct) {
            Accuracy::Within(Bound { high: Value::I64(high), .. }) => high as f64,
            _ => about as f64,
        };
        // Merged counters may promise more rows than came.
        let rows = (Valued::inside(valued) as f64).max(sure.iter().sum());
        Self { sure, largest, rows, distinct: Some((about as f64, at_most.max(about as f64))) }
    }

    /// Rows that no listed value surely has.
    fn rest(&self) -> f64 {
        (self.rows - self.sure.iter().sum::<f64>()).max(0.0)
    }

    fn of_shares(&self, rows: impl Iterator<Item = f64>) -> f64 {
        // -0.0 is no entropy.
        rows.filter(|rows| *rows > 0.0).map(|rows| rows / self.rows).map(|share| -share * share.log2()).sum::<f64>().max(0.0)
    }

    fn value(&self) -> f64 {
        if self.rows == 0.0 {
            return 0.0;
        }
        let sure = self.of_shares(self.sure.iter().copied());
        let Some((about, _)) = self.distinct else { return sure };
        let (rest, others) = (self.rest() / self.rows, about - self.sure.len() as f64);
        let value = if rest > 0.0 { sure - rest * (rest / others).log2() } else { sure };
        let (low, high) = self.bound();
        value.clamp(low, high)
    }

    /// The least and the largest entropy.
    fn bound(&self) -> (f64, f64) {
        let rest = self.rest();
        let labels = self.of_shares(self.sure.iter().copied().chain([rest]));
        let share = if self.rows > 0.0 { rest / self.rows } else { 0.0 };
        let coin = if share >= 0.5 { 1.0 } else { self.of_shares([rest, self.rows - rest].into_iter()) };
        let distinct = self.distinct.map_or(0.0, |(_, at_most)| at_most.max(1.0).log2());
        let flattest = if self.largest > 0.0 { (self.rows / self.largest).log2().max(0.0) } else { 0.0 };
        let low = (labels - coin).max(flattest).max(0.0);
        (low, (labels + share * distinct).min(distinct).max(low))
    }

    fn accuracy(&self) -> Accuracy {
        if self.distinct.is_none() {
            return Accuracy::Exact;
        }
        let (low, high) = self.bound();
        Accuracy::Within(Bound { confidence: Some(CONFIDENCE), ..Bound::numbers(low, high) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::operators::laws::{Datum, Stream, reading, rows};
    use std::collections::BTreeMap;

    fn truth(values: &[u64]) -> f64 {
        let mut counts: BTreeMap<u64, f64> = BTreeMap::new();
        values.iter().for_each(|value| *counts.entry(*value).or_default() += 1.0);
        counts.values().map(|count| count / values.len() as f64).map(|share| -share * share.log2()).sum()
    }

    fn read(values: &[u64], kind: FieldType) -> crate::operators::Reading {
        let datum = |value: &u64| if kind == FieldType::Str { Datum::Str(format!("c{value}")) } else { Datum::I64(value.cast_signed()) };
        reading(&Entropy, kind, &[], &rows(values.iter().map(datum)))
    }

    #[test]
    fn few_categories_are_exact() {
        for values in [&[][..], &[1], &[1, 1, 1], &[1, 2], &[1, 2, 3, 4], &[1, 1, 1, 2]] {
            let reading = read(values, FieldType::Str);
            let Value::F64(value) = reading.value else { panic!("a number") };
            assert!((value - truth(values)).abs() < 1e-12 && reading.accuracy == Accuracy::Exact, "{values:?}: {reading:?}");
        }
        let all: Vec<u64> = (0..1024).collect();
        assert_eq!(read(&all, FieldType::I64).value, Value::F64(10.0));
    }

    #[test]
    fn the_bound_holds_for_many_categories_however_they_spread() {
        let mut stream = Stream(7);
        for (name, distinct, values) in [
            ("even", 100_000u64, (0..200_000u64).map(|n| n % 100_000).collect::<Vec<_>>()),
            ("zipf", 100_000, (0..200_000).map(|_| stream.zipf(100_000)).collect()),
            ("one heavy", 3_000, (0..60_000u64).map(|n| if n % 10 < 9 { 0 } else { 1 + n / 10 % 3_000 }).collect()),
            ("a few too many", 1_100, (0..50_000u64).map(|n| n % 1_100 * (n % 7) % 1_100).chain(0..1_100).collect()),
        ] {
            let (reading, truth) = (read(&values, FieldType::I64), truth(&values));
            let Value::F64(value) = reading.value else { panic!("a number") };
            let Accuracy::Within(Bound { low: Value::F64(low), high: Value::F64(high), .. }) = reading.accuracy else {
                panic!("{name}: {:?} of {distinct}", reading.accuracy)
            };
            assert!(low <= truth && truth <= high && low <= value && value <= high, "{name}: {truth} and {value} in {low} to {high}");
            assert!((value - truth).abs() < 1.5, "{name}: {value}, {truth} expected");
        }
    }
}
