//! Operators: what a user may write behind `op`. One file each, one line in [`OPERATORS`]; nothing else changes when one is added.
//!
//! An operator says what it accepts ([`Signature`]), which accumulators it needs, and how to read its value from them. It knows no windows, no tables and
//! no files: the plan feeds its accumulators per row and per bucket, and merges buckets before a read.

mod bloom;
mod bloom_member;
mod buffer;
mod category;
mod cells;
mod count;
mod counter_table;
mod decay;
mod distinct;
mod ends;
mod extreme;
mod first;
mod geo;
mod heavy_hitters;
mod kept;
mod last;
mod latest_number;
#[cfg(test)]
mod laws;
mod markdown;
mod max;
mod mean;
mod min;
mod moments;
mod n_unique;
mod quantile;
mod quantiles;
mod ranks;
mod ratio;
mod reading;
mod recency;
mod seen;
mod signature;
mod std;
mod streak;
mod sum;
mod top_k;
mod total;
mod value_slot;
mod var;
mod velocity;

use crate::row::FieldType;
use crate::state::Accumulator;
use ::std::sync::Arc;
use streamgauge_api::Value;

pub use reading::{Accuracy, Bound, Edge, Part, Reading, Slot};
pub use signature::{
    BUCKET_US_MIN, Family, FieldRule, Output, Param, ParamKind, ParamValue, ParamValues, RESOLUTION, RESOLUTION_DEFAULT, Reads, Signature,
    WindowRule,
};
pub(crate) use value_slot::value_of;

/// A named aggregate.
pub trait Operator: Sync {
    /// What it accepts.
    fn signature(&self) -> &'static Signature;

    /// Which accumulators a feature needs, and how its value is read from them.
    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled;

    /// How its features are asked whether a value came; none when they cannot be.
    fn membership(&self, params: &ParamValues) -> Option<Membership> {
        let _ = params;
        None
    }

    /// A parameter that its bounds allow and others forbid, and why.
    fn refuses(&self, params: &ParamValues) -> Option<(&'static str, String)> {
        let _ = params;
        None
    }

    /// Whether the slots of its accumulators, in the order of its needs, can be those of the same rows. Each is sound by
    /// itself; asked of words that a file brought.
    fn agree(&self, slots: &[&[u64]]) -> bool {
        let _ = slots;
        true
    }
}

/// What a feature's declaration says to its operator.
#[derive(Debug, Clone, Copy)]
pub struct FeatureParams<'a> {
    /// Declared type of the field, when one is given.
    pub field_kind: Option<FieldType>,
    /// Checked parameters.
    pub params: &'a ParamValues,
    /// Window, microseconds.
    pub window_us: Option<i64>,
}

/// One accumulator of a feature.
#[derive(Debug, Clone)]
pub struct AccumulatorNeed {
    /// The accumulator.
    pub accumulator: Arc<dyn Accumulator>,
    /// Which rows come to it.
    pub rows: RowsTaken,
    /// Which fields it reads, when it wants cells.
    pub fields: Fields,
}

impl AccumulatorNeed {
    /// An accumulator of the feature's field, fed with the rows that its `where` takes.
    fn of(accumulator: impl Accumulator + 'static) -> Self {
        Self { accumulator: Arc::new(accumulator), rows: RowsTaken::Matching, fields: Fields::Field }
    }
}

/// Which rows come to an accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsTaken {
    /// Those that the feature's `where` takes.
    Matching,
    /// Every row of the table.
    All,
    /// Every row of the table, with word of whether the feature's `where` takes it.
    AllMarked,
}

/// Which fields an accumulator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// The feature's field.
    Field,
    /// Those that these parameters name, each declared as [`ParamKind::FieldName`].
    Named(&'static [&'static str]),
}

/// Says whether the value with this hash is in the set that a slot holds.
pub type Holds = Box<dyn Fn(&Slot<'_>, u64) -> bool + Send + Sync>;

/// How a feature is asked whether a value came.
pub struct Membership {
    /// How often a value is found that never came, at most, while no more came than were expected.
    pub false_positives: f64,
    /// Whether the value with this hash came.
    pub holds: Holds,
}

/// Reads a value from the slots of a feature's accumulators, in the order of its needs, at a time in microseconds.
pub type ReadValue = Box<dyn Fn(&[Slot<'_>], i64) -> Value + Send + Sync>;

/// Says what is known of the value that the same slots give.
pub type ReadAccuracy = Box<dyn Fn(&[Slot<'_>], i64) -> Accuracy + Send + Sync>;

/// A feature, compiled.
pub struct Compiled {
    /// Accumulators.
    pub needs: Vec<AccumulatorNeed>,
    /// Reads the value: the answer, or the best guess at it.
    pub value: ReadValue,
    /// Where the answer is. Only `explain` asks.
    pub accuracy: ReadAccuracy,
}

impl Compiled {
    /// A feature that reads one accumulator, fed with the rows that its `where` takes.
    fn of_one(
        accumulator: Arc<dyn Accumulator>,
        value: impl Fn(&Slot<'_>) -> Value + Send + Sync + 'static,
        accuracy: impl Fn(&Slot<'_>) -> Accuracy + Send + Sync + 'static,
    ) -> Self {
        Self {
            needs: vec![AccumulatorNeed { accumulator, rows: RowsTaken::Matching, fields: Fields::Field }],
            value: Box::new(move |slots, _now_us| value(only(slots))),
            accuracy: Box::new(move |slots, _now_us| accuracy(only(slots))),
        }
    }
}

/// The slot of a feature that needs one accumulator.
fn only<'s, 'a>(slots: &'s [Slot<'a>]) -> &'s Slot<'a> {
    let [slot] = slots else { unreachable!("a feature is read from as many slots as it has needs") };
    slot
}

/// All operators, in the order of the documentation.
#[rustfmt::skip]
pub static OPERATORS: &[&dyn Operator] = &[
    &count::Count,
    &sum::Sum,
    &mean::Mean,
    &min::Min,
    &max::Max,
    &var::Var,
    &std::Std,
    &ratio::Ratio,
    &first::First,
    &last::Last,
    &n_unique::NUnique,
    &quantile::Quantile,
    &top_k::TopK,
    &bloom_member::BloomMember,
    &category::Entropy,
    &recency::FirstSeen,
    &recency::LastSeen,
    &recency::Age,
    &recency::HasSeen,
    &recency::TimeSince,
    &recency::TimeSinceLastN,
    &streak::Streak,
    &streak::MaxStreak,
    &streak::NegativeStreak,
    &recency::FirstSeenInWindow,
    &decay::Ewma,
    &decay::Ewvar,
    &decay::EwZscore,
    &decay::DecayedSum,
    &decay::DecayedCount,
    &decay::Twa,
    &velocity::RateOfChange,
    &velocity::InterArrivalStats,
    &velocity::BurstCount,
    &velocity::DeltaFromPrev,
    &velocity::Trend,
    &velocity::TrendResidual,
    &velocity::OutlierCount,
    &velocity::ValueChangeCount,
    &velocity::ZScore,
    &buffer::FirstN,
    &buffer::LastN,
    &buffer::Lag,
    &buffer::Histogram,
    &buffer::HourOfDayHistogram,
    &buffer::DowHourHistogram,
    &buffer::SeasonalDeviation,
    &category::EventTypeMix,
    &buffer::MostRecentN,
    &buffer::ReservoirSample,
    &geo::GeoVelocity,
    &geo::GeoDistance,
    &geo::GeoSpread,
    &geo::DistanceFromHome,
];

/// The operator of this wire name.
pub fn find(name: &str) -> Option<&'static dyn Operator> {
    OPERATORS.iter().copied().find(|operator| {
        let signature = operator.signature();
        signature.name == name || signature.aliases.contains(&name)
    })
}

/// The reference of all operators, generated from their signatures: the content of `docs/OPERATORS.md`.
pub fn markdown() -> String {
    markdown::document(OPERATORS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::laws::{Datum, Row, State, compiled, exactly, reading, rows};
    use super::*;
    use ::std::collections::BTreeSet;

    #[test]
    fn every_name_is_found_and_belongs_to_one_operator() {
        let mut names = BTreeSet::new();
        for operator in OPERATORS {
            let signature = operator.signature();
            for name in [signature.name].iter().chain(signature.aliases) {
                assert!(names.insert(*name), "{name} twice");
                assert_eq!(find(name).unwrap().signature(), signature);
            }
        }
        assert!(find("avg").is_none());
    }

    #[test]
    fn operators_that_say_they_share_state_do() {
        for (left, right) in [("sum", "mean"), ("var", "std"), ("count", "ratio"), ("ewvar", "ew_zscore")] {
            let identity = |name: &str| compiled(find(name).unwrap(), FieldType::F64, &[]).needs[0].accumulator.identity();
            assert_eq!(identity(left), identity(right));
        }
        for (left, right) in [("min", "max"), ("first", "last"), ("sum", "var"), ("ewma", "ewvar"), ("decayed_sum", "decayed_count")] {
            let identity = |name: &str| compiled(find(name).unwrap(), FieldType::F64, &[]).needs[0].accumulator.identity();
            assert_ne!(identity(left), identity(right));
        }
    }

    #[test]
    fn the_empty_state_reads_as_documented() {
        for operator in OPERATORS {
            let zeroes = |count| Value::List(vec![Value::I64(0); count]);
            let value = match operator.signature().name {
                "count" | "n_unique" | "streak" | "max_streak" | "negative_streak" | "value_change_count" | "burst_count"
                | "outlier_count" => Value::I64(0),
                "has_seen" | "first_seen_in_window" | "bloom_member" => Value::Bool(false),
                "top_k" | "first_n" | "last_n" | "most_recent_n" | "reservoir_sample" => Value::List(vec![]),
                "entropy" | "geo_distance" => Value::F64(0.0),
                "event_type_mix" => Value::Map(vec![]),
                "histogram" => Value::Map(vec![("all".into(), Value::I64(0))]),
                "hour_of_day_histogram" => zeroes(24),
                "dow_hour_histogram" => continue,
                _ => Value::Null,
            };
            for kind in [FieldType::I64, FieldType::F64, FieldType::Str, FieldType::Json] {
                assert_eq!(reading(*operator, kind, &[], &[]), exactly(value.clone()), "{}", operator.signature().name);
            }
        }
    }

    /// Snapshots hold these words: who changes one of them changes the state format.
    #[test]
    fn a_fixed_history_leaves_the_bytes_that_snapshots_hold() {
        let history = |length: i64| rows((0..length).map(|n| if n % 5 == 4 { Datum::Null } else { Datum::I64(n * n % 7001 - 900) }));
        let place =
            |n: i64, lsn| Row { more: vec![Datum::I64(n * 13 % 360 - 180)], ..Row::of(Datum::I64(n * 7 % 180 - 90), n * 1000, lsn) };
        let places = |length: i64| (0..length).zip(1u64..).map(|(n, lsn)| place(n, lsn)).collect::<Vec<_>>();
        for (name, few, many) in [
            ("count", 0x4FB1_A68A, 0x3927_480C),
            ("sum", 0x23E4_01FC, 0x5ECC_64E9),
            ("var", 0x0A09_552D, 0x7BBC_D473),
            ("min", 0xC321_F6E7, 0xC321_F6E7),
            ("max", 0x05F2_1D49, 0x4B35_B490),
            ("first", 0xFA85_777F, 0xFA85_777F),
            ("last", 0x7CDD_57EA, 0xE516_BAC7),
            ("n_unique", 0x79A6_CA81, 0x66F0_EB62),
            ("quantile", 0x072F_F9A6, 0x868D_1D0F),
            ("top_k", 0x2897_ED99, 0x7B9A_C1FB),
            ("ewma", 0x9074_7D10, 0x9713_6DAE),
            ("ewvar", 0x260C_2E1E, 0x6D9D_0623),
            ("decayed_sum", 0xC794_2941, 0x82A0_9E27),
            ("decayed_count", 0xA2CC_201E, 0xBE5A_2057),
            ("twa", 0xE71C_33CB, 0xDE02_4892),
            ("geo_velocity", 0xBCA8_3866, 0x6C88_493F),
            ("geo_distance", 0x2A69_CF08, 0x34FB_2F06),
            ("geo_spread", 0x9E96_2F10, 0x7AEA_45A3),
            ("distance_from_home", 0xB13D_77BD, 0xBF65_5D8F),
        ] {
            let need = compiled(find(name).unwrap(), FieldType::I64, &[]).needs.remove(0);
            let accumulator = need.accumulator;
            let digest = |length| {
                let history = if need.fields == Fields::Field { history(length) } else { places(length) };
                let content = State::fed(&*accumulator, &history).content(&*accumulator);
                crc32fast::hash(bytemuck::cast_slice(&content))
            };
            assert_eq!((digest(40), digest(4000)), (few, many), "{name}");
        }
    }

    #[test]
    fn the_operators_page_is_what_the_signatures_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATORS.md");
        if ::std::env::var_os("STREAMGAUGE_WRITE_DOCS").is_some() {
            ::std::fs::write(path, markdown()).unwrap();
        }
        let page = ::std::fs::read_to_string(path).unwrap();
        assert!(page == markdown(), "docs/OPERATORS.md is not current: run this test once with STREAMGAUGE_WRITE_DOCS=1");
    }
}
