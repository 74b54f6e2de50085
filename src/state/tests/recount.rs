//! Every feature against a recount of all rows from the documents: which rows a window holds, to
//! the microsecond, and what each operator makes of them. The recount keeps rows and nothing else.
//!
//! A list must read the recount's answer. A ring must say a bound that the answer and the value are
//! within, and `exact` only where they are equal; it must be exact where no bucket that an edge of
//! the window cuts has a row after that edge. Nothing may be said only of times that no read of the
//! past is answered for, and of rows too far ahead for a ring.

use super::Driven;
use super::fading;
use super::pipeline::{Feature, SIGMA, Table, payload, tables};
use super::rows::{Datum, Row, ends, newest_us, rows};
use crate::operators::Accuracy;
use crate::pipeline::duration::parse_duration;
use crate::row::Key;
use crate::state::hash_cell;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::Value;

/// Rows and LSNs of a key, in order of arrival.
pub(super) type Entity = Vec<(Row, u64)>;

fn window_us(feature: &Feature) -> Option<i64> {
    feature.window.map(|window| parse_duration(window).unwrap())
}

fn bucket_us(feature: &Feature, window_us: i64) -> i64 {
    let resolution = feature.resolution();
    ((window_us + resolution - 1) / resolution).max(1000)
}

/// Lets the lists of all tables grow into rings when they are full of this many rows.
fn grow_beyond(driven: &mut Driven, entries_max: usize) {
    for table in driven.state.tables.values_mut() {
        for slab in &mut table.slabs {
            Arc::get_mut(&mut slab.plan).unwrap().entries_max = entries_max;
        }
    }
}

/// Keeps what reached the table, key by key.
fn entities(table: &Table, rows: &[Row], first_lsn: u64) -> BTreeMap<Key, Entity> {
    let mut entities: BTreeMap<Key, Entity> = BTreeMap::new();
    for (row, lsn) in rows.iter().zip(first_lsn..) {
        if !row.delete && !(table.passes)(row) {
            continue;
        }
        let Some(key) = (table.key)(row) else { continue };
        if row.delete {
            entities.remove(&key);
        } else {
            entities.entry(key).or_default().push((row.clone(), lsn));
        }
    }
    entities
}

/// The rows that a feature sees at a time, in order of row time: its window is `(now - window,
/// now]`.
fn seen<'e>(entity: &'e Entity, feature: &Feature, now_us: i64) -> Vec<&'e (Row, u64)> {
    let inside = |row: &Row| window_us(feature).is_none_or(|window_us| (0..window_us).contains(&(now_us - row.time_us)));
    let mut seen: Vec<&(Row, u64)> = entity.iter().filter(|(row, _)| inside(row)).collect();
    seen.sort_by_key(|(row, lsn)| (row.time_us, *lsn));
    seen
}

/// Whether an edge of the window cuts a bucket that has rows after the edge.
fn cut(entity: &Entity, feature: &Feature, now_us: i64) -> bool {
    let Some(window_us) = window_us(feature) else { return false };
    let bucket = |time_us: i64| time_us.div_euclid(bucket_us(feature, window_us));
    let cuts = |edge_us: i64| entity.iter().any(|(row, _)| bucket(row.time_us) == bucket(edge_us) && row.time_us > edge_us);
    cuts(now_us - window_us) || cuts(now_us)
}

/// An answer, and the rounding that its doubles may have.
pub(super) type Expected = (Value, f64);

/// What means and distances may differ by, relative to their size.
const ROUNDING: f64 = 1e-9;

pub(super) fn expected(feature: &Feature, entity: &Entity, now_us: i64) -> Expected {
    let all = seen(entity, feature, now_us);
    let passing: Vec<&Row> =
        all.iter().map(|(row, _)| row).filter(|row| feature.filter.is_none_or(|filter| (filter.passes)(row))).collect();
    let data: Vec<Datum> = feature.field.map_or_else(Vec::new, |field| passing.iter().map(|row| field(row)).collect());
    let values = || data.iter().filter(|datum| datum.is_value());
    let numbers: Vec<f64> = data.iter().filter_map(Datum::number).collect();
    let count = numbers.len() as f64;
    let sum: f64 = numbers.iter().sum();
    let exactly = |value| (value, 0.0);
    let exact = |number: Option<f64>| exactly(number.map_or(Value::Null, Value::F64));
    let near = |number: Option<f64>| (number.map_or(Value::Null, Value::F64), ROUNDING);
    let best = |smaller: bool| {
        let best = values().cloned().reduce(|best, datum| {
            let less = match (&datum, &best) {
                (Datum::Str(left), Datum::Str(right)) => left < right,
                (Datum::Bool(left), Datum::Bool(right)) => left < right,
                (Datum::Datetime(left), Datum::Datetime(right)) => left < right,
                (left, right) => left.number() < right.number(),
            };
            if datum != best && less == smaller { datum } else { best }
        });
        exactly(best.map_or(Value::Null, |datum| value(&datum)))
    };
    let variance = (numbers.len() >= 2).then(|| {
        let mean = sum / count;
        numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0)
    });
    match feature.op {
        "count" => exactly(Value::I64(passing.len() as i64)),
        "ratio" => exact((!all.is_empty()).then(|| passing.len() as f64 / all.len() as f64)),
        "sum" => exact((!numbers.is_empty()).then_some(sum)),
        "mean" => near((!numbers.is_empty()).then(|| sum / count)),
        "min" => best(true),
        "max" => best(false),
        "var" => near(variance),
        "std" => near(variance.map(f64::sqrt)),
        "first" => exactly(values().next().map_or(Value::Null, value)),
        "last" => exactly(values().next_back().map_or(Value::Null, value)),
        "n_unique" => {
            let distinct: BTreeSet<u64> = values().map(|datum| hash_cell(datum.cell())).collect();
            exactly(Value::I64(distinct.len() as i64))
        }
        "top_k" => exactly(top(values())),
        "quantile" => median(numbers),
        "histogram" => exactly(histogram(&numbers, &[0.0, 10.5])),
        "first_n" => exactly(Value::List(values().take(3).map(value).collect())),
        "last_n" | "most_recent_n" => {
            let values: Vec<Value> = values().map(value).collect();
            let count = if feature.op == "last_n" { 3 } else { 10 };
            exactly(Value::List(values[values.len().saturating_sub(count)..].into()))
        }
        "lag" => exactly(values().rev().nth(2).map_or(Value::Null, value)),
        // All rows are in the sample, in no order.
        "reservoir_sample" => exactly(Value::List(values().map(value).collect())),
        "event_type_mix" => {
            let Value::List(counts) = top(values()) else { unreachable!("a list") };
            let shares: BTreeMap<String, f64> = counts.iter().map(|item| named_share(item, values().count())).collect();
            exactly(Value::Map(shares.into_iter().map(|(name, share)| (name.into(), Value::F64(share))).collect()))
        }
        "entropy" => {
            let Value::List(counts) = top(values()) else { unreachable!("a list") };
            let shares = counts.iter().map(|item| named_share(item, values().count()).1);
            (Value::F64(shares.map(|share| -share * share.log2()).sum::<f64>().max(0.0)), ROUNDING)
        }
        "value_change_count" => {
            let values: Vec<Value> = values().map(value).collect();
            exactly(Value::I64(values.windows(2).filter(|pair| pair[0] != pair[1]).count() as i64))
        }
        "bloom_member" => exactly(Value::Bool(values().next().is_some())),
        "outlier_count" => exactly(Value::I64(outliers(feature, entity, now_us))),
        "streak" | "max_streak" | "negative_streak" => {
            let matches = all.iter().map(|(row, _)| feature.filter.is_none_or(|filter| (filter.passes)(row)));
            exactly(Value::I64(streaks(matches)[feature.op]))
        }
        "rate_of_change" | "delta_from_prev" | "trend" | "trend_residual" | "z_score" | "seasonal_deviation" => {
            let points = passing.iter().zip(&data).filter_map(|(row, datum)| Some((row.time_us, datum.number()?))).collect::<Vec<_>>();
            (of_points(feature.op, &points).map_or(Value::Null, Value::F64), 1e-6)
        }
        "ewma" | "ewvar" | "ew_zscore" | "decayed_sum" | "decayed_count" | "twa" => {
            let number = |row: &Row| if feature.op == "decayed_count" { Some(1.0) } else { (feature.field?)(row).number() };
            let points = passing.iter().filter_map(|row| Some((row.time_us, number(row)?))).collect::<Vec<_>>();
            // What is left of a score beyond many half lives is a rounding of its numbers.
            let rounding = if feature.op == "ew_zscore" { 1e-3 } else { 1e-6 };
            (fading::of_points(feature.op, &points, now_us).map_or(Value::Null, Value::F64), rounding)
        }
        "geo_velocity" | "geo_distance" | "geo_spread" | "distance_from_home" => {
            let place = |row: &Row| {
                let (lat, lon) = (row.get("n").number()?, row.get("amount").number()?);
                (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some((row.time_us, (lat, lon)))
            };
            let places = passing.iter().filter_map(|row| place(row)).collect::<Vec<_>>();
            (fading::of_places(feature.op, &places).map_or(Value::Null, Value::F64), 1e-6)
        }
        op => exactly(of_times(op, &passing.iter().map(|row| row.time_us).collect::<Vec<_>>(), now_us)),
    }
}

/// Rows inside whose number is far from the mean of those before it: of all, or of those since the beginning of the bucket that
/// lies one window before its own.
fn outliers(feature: &Feature, entity: &Entity, now_us: i64) -> i64 {
    let lifetime = Feature { window: None, ..*feature };
    let all: Vec<(i64, f64)> = seen(entity, &lifetime, now_us)
        .into_iter()
        .filter(|(row, _)| feature.filter.is_none_or(|filter| (filter.passes)(row)))
        .filter_map(|(row, _)| Some((row.time_us, (feature.field?)(row).number()?)))
        .collect();
    let measured_from_us = |time_us: i64| {
        let Some(window_us) = window_us(feature) else { return i64::MIN };
        let bucket_us = bucket_us(feature, window_us);
        let begins_us = time_us.div_euclid(bucket_us) * bucket_us - window_us;
        (begins_us + bucket_us - 1).div_euclid(bucket_us) * bucket_us
    };
    let is_outlier = |at: usize| {
        let (time_us, number) = all[at];
        let before: Vec<f64> = all[..at].iter().filter(|(us, _)| *us >= measured_from_us(time_us)).map(|(_, number)| *number).collect();
        let count = before.len() as f64;
        let mean = before.iter().sum::<f64>() / count;
        let variance = before.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0);
        before.len() >= 5 && before.iter().any(|number| *number != before[0]) && (number - mean).abs() > SIGMA * variance.sqrt()
    };
    let inside = |time_us: i64| window_us(feature).is_none_or(|window_us| (0..window_us).contains(&(now_us - time_us)));
    (0..all.len()).filter(|&at| inside(all[at].0) && is_outlier(at)).count() as i64
}

/// How far back the rows reach that decide what a feature answers.
fn reach_us(feature: &Feature) -> Option<i64> {
    let window_us = window_us(feature)?;
    let behind_us = if feature.op == "outlier_count" { window_us + bucket_us(feature, window_us) } else { 0 };
    Some(window_us + behind_us)
}

/// What an operator makes of the times of rows, in order.
fn of_times(op: &str, times: &[i64], now_us: i64) -> Value {
    let ms = |time_us: i64| time_us.div_euclid(1000);
    let ago = |time_us: Option<i64>| time_us.map_or(Value::Null, |time_us| Value::I64((ms(now_us) - ms(time_us)).max(0)));
    let (first, last) = (times.first().copied(), times.last().copied());
    let at = |time_us: Option<i64>| time_us.map_or(Value::Null, |time_us| Value::Datetime(ms(time_us)));
    let hours = |of: i64, from: i64| {
        let mut counts = vec![0i64; of as usize];
        times.iter().for_each(|time_us| counts[((time_us.div_euclid(3_600_000_000) + from) % of) as usize] += 1);
        counts
    };
    match op {
        "first_seen" => at(first),
        "last_seen" => at(last),
        "age" => ago(first),
        "has_seen" => Value::Bool(last.is_some()),
        "time_since" => ago(last),
        "first_seen_in_window" => Value::Bool(last.is_some_and(|last| (0..60_000_000).contains(&(now_us - last)))),
        "time_since_last_n" => ago(times.iter().rev().nth(2).copied()),
        "burst_count" => {
            let mut by_span: BTreeMap<i64, i64> = BTreeMap::new();
            times.iter().for_each(|time_us| *by_span.entry(time_us.div_euclid(2_000_000)).or_default() += 1);
            Value::I64(by_span.into_values().max().unwrap_or(0))
        }
        "inter_arrival_stats" => match (first, last) {
            (Some(first), Some(last)) if times.len() > 1 => Value::F64((last - first) as f64 / 1000.0 / (times.len() - 1) as f64),
            _ => Value::Null,
        },
        "hour_of_day_histogram" => Value::List(hours(24, 0).into_iter().map(Value::I64).collect()),
        "dow_hour_histogram" => {
            // Hour 0 of 1970 was Thursday's first.
            let counts = hours(168, 72);
            let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let named = counts.into_iter().enumerate().map(|(at, count)| (format!("{}-{:02}", days[at / 24], at % 24), count));
            let sorted: BTreeMap<String, i64> = named.collect();
            Value::Map(sorted.into_iter().map(|(name, count)| (name.into(), Value::I64(count))).collect())
        }
        other => panic!("the recount does not know {other}"),
    }
}

fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Absent | Datum::Null => Value::Null,
        Datum::Bool(truth) => Value::Bool(*truth),
        Datum::I64(number) => Value::I64(*number),
        Datum::F64(number) => Value::F64(*number),
        Datum::Str(text) => Value::Str(text.as_str().into()),
        Datum::Datetime(ms) => Value::Datetime(*ms),
    }
}

/// The name of an item of [`top`] and its share of all rows.
fn named_share(item: &Value, rows: usize) -> (String, f64) {
    let Value::Map(entries) = item else { unreachable!("a map") };
    let (Value::I64(count), Value::Str(name)) = (&entries[0].1, &entries[1].1) else { unreachable!("a count and a text") };
    (name.to_string(), *count as f64 / rows as f64)
}

/// Cells between edges, by their labels.
fn histogram(numbers: &[f64], edges: &[f64; 2]) -> Value {
    let count = |from: f64, to: f64| Value::I64(numbers.iter().filter(|number| (from..to).contains(number)).count() as i64);
    let [low, high] = *edges;
    let cells = [("0-10.5", count(low, high)), ("<0", count(f64::NEG_INFINITY, low)), (">=10.5", count(high, f64::INFINITY))];
    Value::Map(cells.map(|(label, count)| (label.into(), count)).into())
}

/// Lengths of runs at the end of a walk over all rows.
fn streaks(matches: impl Iterator<Item = bool>) -> BTreeMap<&'static str, i64> {
    let mut streaks = BTreeMap::from([("streak", 0), ("max_streak", 0), ("negative_streak", 0)]);
    for matched in matches {
        let [streak, others] = if matched { [streaks["streak"] + 1, 0] } else { [0, streaks["negative_streak"] + 1] };
        streaks.insert("streak", streak);
        streaks.insert("negative_streak", others);
        streaks.insert("max_streak", streaks["max_streak"].max(streak));
    }
    streaks
}

/// What an operator makes of numbers and their times, in order.
fn of_points(op: &str, points: &[(i64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let ms = |time_us: i64| time_us as f64 / 1000.0;
    let &(last_us, last) = points.last()?;
    let since = |time_us: i64| ms(time_us - points[0].0);
    let (mean_t, mean) =
        (points.iter().map(|point| since(point.0)).sum::<f64>() / count, points.iter().map(|point| point.1).sum::<f64>() / count);
    match op {
        "delta_from_prev" => Some(last - points.iter().rev().nth(1)?.1),
        "rate_of_change" => {
            let first = points.iter().find(|point| point.0 == last_us)?;
            let before = points.iter().rev().find(|point| point.0 < last_us)?;
            Some((first.1 - before.1) / ms(first.0 - before.0))
        }
        "seasonal_deviation" => {
            let hour = |time_us: i64| time_us.div_euclid(3_600_000_000).rem_euclid(24);
            let of_hour: Vec<(i64, f64)> = points.iter().filter(|point| hour(point.0) == hour(last_us)).copied().collect();
            of_points("z_score", &of_hour)
        }
        "z_score" => {
            let variance = points.iter().map(|point| (point.1 - mean).powi(2)).sum::<f64>() / (count - 1.0);
            (points.iter().any(|point| point.1 != last)).then(|| (last - mean) / variance.sqrt())
        }
        _ => {
            let (times, products) = points.iter().fold((0.0, 0.0), |(times, products), &(time_us, number)| {
                let apart = since(time_us) - mean_t;
                (times + apart * apart, products + apart * (number - mean))
            });
            let slope = points.iter().any(|point| point.0 != last_us).then(|| products / times)?;
            Some(if op == "trend" { slope } else { last - (mean + slope * (since(last_us) - mean_t)) })
        }
    }
}

/// Operators that say nothing of the value where a bucket is cut.
pub(super) const UNBOUND: [&str; 12] = [
    "entropy",
    "ewma",
    "ewvar",
    "ew_zscore",
    "twa",
    "rate_of_change",
    "delta_from_prev",
    "inter_arrival_stats",
    "trend",
    "trend_residual",
    "value_change_count",
    "z_score",
];

/// Operators that take a row which comes after a later one as the latest, and say so.
pub(super) const IN_ORDER: [&str; 12] = [
    "outlier_count",
    "burst_count",
    "streak",
    "max_streak",
    "negative_streak",
    "value_change_count",
    "ewma",
    "ewvar",
    "ew_zscore",
    "twa",
    "geo_velocity",
    "geo_distance",
];

/// Whether two lists hold the same, in whatever order.
fn is_same_bag(left: &Value, right: &Value) -> bool {
    let sorted = |value: &Value| {
        let Value::List(items) = value else { unreachable!("a list") };
        let mut items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
        items.sort_unstable();
        items
    };
    sorted(left) == sorted(right)
}

/// Whether a feature saw rows in another order than that of their times: a list sorts them.
fn is_disordered(entity: &Entity, feature: &Feature, grown: bool) -> bool {
    let sorts = feature.window.is_some() && !grown;
    IN_ORDER.contains(&feature.op) && !sorts && !entity.is_sorted_by_key(|(row, _)| row.time_us)
}

/// All values with their counts.
fn top<'d>(values: impl Iterator<Item = &'d Datum>) -> Value {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for datum in values {
        if let Datum::Str(text) = datum {
            *counts.entry(text).or_default() += 1;
        }
    }
    let mut counts: Vec<(&str, i64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| -count);
    let item =
        |(text, count): (&str, i64)| Value::Map(vec![("count".into(), Value::I64(count)), ("value".into(), Value::Str(text.into()))]);
    Value::List(counts.into_iter().map(item).collect())
}

/// Linear interpolation between the two numbers in the middle.
fn median(mut numbers: Vec<f64>) -> Expected {
    if numbers.is_empty() {
        return (Value::Null, 0.0);
    }
    numbers.sort_by(f64::total_cmp);
    let (low, high) = ((numbers.len() - 1) / 2, numbers.len() / 2);
    (Value::F64((numbers[low] + numbers[high]) / 2.0), ROUNDING)
}

/// A read from `told_from_us` on may not be refused.
fn check(driven: &Driven, table: &Table, key: &Key, entity: &Entity, now_us: i64, told_from_us: i64) -> Result<(), TestCaseError> {
    let grown = driven.is_grown(table.name, key);
    for feature in &table.features {
        let reading = driven.read(table.name, key, feature.name, now_us);
        prop_assert!(reading.is_some(), "{} has no key {key:?}", table.name);
        let (reading, (answer, rounding)) = (reading.unwrap(), expected(feature, entity, now_us));
        let at = format!(
            "{}.{} of {key:?}, grown: {grown}, {} us after the start: {answer:?} expected, {reading:?}",
            table.name,
            feature.name,
            now_us - super::rows::START_US
        );
        if feature.op == "reservoir_sample" {
            prop_assert!(is_same_bag(&reading.value, &answer), "{}", at);
            continue;
        }
        prop_assert!(reading.admits(&answer, rounding), "{}", at);
        let told = driven.earliest_us(table.name, key, feature.name).is_none_or(|earliest_us| earliest_us <= now_us);
        let lacks_rows = grown && may_lack_rows(entity, feature, now_us);
        let disordered = is_disordered(entity, feature, grown);
        let unbound = grown && UNBOUND.contains(&feature.op) && cut(entity, feature, now_us);
        prop_assert!(reading.accuracy != Accuracy::Unknown || !told || lacks_rows || disordered || unbound, "{}", at);
        prop_assert!(reading.accuracy == Accuracy::Unknown || told, "{}", at);
        prop_assert!(told || now_us < told_from_us, "{}", at);
        if told && !lacks_rows && !disordered && (!grown || !cut(entity, feature, now_us)) {
            prop_assert!(reading.accuracy == Accuracy::Exact, "{}", at);
        }
    }
    Ok(())
}

/// Whether a ring may have refused rows of this window for being too far ahead: it has room for 64
/// buckets of them.
fn may_lack_rows(entity: &Entity, feature: &Feature, now_us: i64) -> bool {
    let Some(window_us) = window_us(feature) else { return false };
    let far_us = 62 * bucket_us(feature, window_us);
    let times = || entity.iter().map(|(row, _)| row).filter(|row| row.ahead_us > far_us).map(|row| row.time_us);
    times().min().is_some_and(|earliest_us| earliest_us <= now_us) && times().max() > reach_us(feature).map(|reach_us| now_us - reach_us)
}

/// Rows, as they come or in any order.
fn histories(most: usize) -> impl Strategy<Value = Vec<Row>> {
    prop_oneof![rows(most).boxed(), rows(most).prop_shuffle().boxed()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_feature_equals_a_recount_of_all_rows(
        rows in histories(320),
        ends in ends(),
        entries_max in prop::sample::select(vec![3usize, 40, 100, 500]),
        grow in prop::collection::vec((0usize..400, 0u32..4), 0..3),
        waits_us in prop::collection::vec(prop_oneof![0i64..2_000_000, 0i64..60_000_000, 0i64..4_000_000_000], 3),
        backs_us in prop::collection::vec(prop_oneof![0i64..2_000_000, 0i64..60_000_000, 0i64..4_000_000_000], 3),
    ) {
        let tables = tables();
        let mut driven = Driven::with(&payload(&tables));
        grow_beyond(&mut driven, entries_max);
        let first_lsn = driven.next_lsn;
        // Some keys grow after a random row.
        let (mut from, mut grow) = (0, grow);
        grow.sort_unstable();
        for (to, part) in grow.into_iter().map(|(to, part)| (to.min(rows.len()), part)) {
            driven.feed(&rows[from..to], &ends);
            tables.iter().for_each(|table| driven.grow(table.name, |number| number % 4 == part));
            from = to;
        }
        driven.feed(&rows[from..], &ends);
        for table in &tables {
            let entities = entities(table, &rows, first_lsn);
            prop_assert_eq!(driven.state.table(table.name).unwrap().len(), entities.len());
            for (key, entity) in &entities {
                let edge_us = entity.iter().map(|(row, _)| row.time_us - row.ahead_us).max().unwrap();
                let waits = waits_us.iter().map(|wait_us| edge_us + wait_us);
                let backs = backs_us.iter().map(|back_us| edge_us - back_us);
                for now_us in waits.chain(backs).chain([edge_us, edge_us + 1, edge_us - 1, edge_us - 1_000]) {
                    check(&driven, table, key, entity, now_us, edge_us)?;
                }
            }
        }
    }
}

/// What happens between two rows.
#[derive(Debug, Clone)]
enum Meanwhile {
    /// Time passes: all further rows come so much later.
    Gap { us: i64 },
    /// Some keys' lists become rings.
    Grow { part: u32 },
    /// Rows of all tables from this number on are swept, by a clock that is so far behind or ahead of the newest row.
    Sweep { from: u32, wait_us: i64 },
    /// The state goes through a snapshot.
    Restart,
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        3 => (0i64..12_000_000_000).prop_map(|us| Meanwhile::Gap { us }),
        1 => (0u32..4).prop_map(|part| Meanwhile::Grow { part }),
        3 => (0u32..3, -10_000_000i64..10_000_000_000).prop_map(|(from, wait_us)| Meanwhile::Sweep { from, wait_us }),
        1 => Just(Meanwhile::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_feature_equals_a_recount_though_keys_expire_and_are_swept(
        rows in histories(240),
        ends in ends(),
        entries_max in prop::sample::select(vec![3usize, 40, 500]),
        meanwhile in prop::collection::vec((0usize..260, meanwhile()), 0..9),
        waits_us in prop::collection::vec(prop_oneof![0i64..2_000_000, 0i64..60_000_000, 0i64..4_000_000_000], 3),
        backs_us in prop::collection::vec(prop_oneof![0i64..2_000_000, 0i64..60_000_000, 0i64..4_000_000_000], 3),
    ) {
        let (tables, mut rows, mut meanwhile, count) = (tables(), rows.clone(), meanwhile, rows.len());
        let mut driven = Driven::with(&payload(&tables));
        grow_beyond(&mut driven, entries_max);
        meanwhile.sort_by_key(|(at, _)| *at);
        let first_lsn = driven.next_lsn;
        let (mut from, mut swept_us, mut sweeps) = (0, i64::MIN, Vec::new());
        for (to, what) in meanwhile.into_iter().map(|(to, what)| (to.min(count), what)) {
            driven.feed(&rows[from..to], &ends);
            match what {
                Meanwhile::Gap { us } => rows[to..].iter_mut().for_each(|row| row.time_us += us),
                Meanwhile::Grow { part } => tables.iter().for_each(|table| driven.grow(table.name, |number| number % 4 == part)),
                Meanwhile::Sweep { from, wait_us } => {
                    let now_us = newest_us(&rows[..to]) + wait_us;
                    driven.sweep(from, u32::MAX, now_us);
                    (swept_us, sweeps) = (swept_us.max(now_us), [&sweeps[..], &[now_us, now_us - 1000]].concat());
                }
                Meanwhile::Restart => {
                    driven.state = super::replay::through_a_snapshot(&driven.state);
                    grow_beyond(&mut driven, entries_max);
                }
            }
            from = to;
        }
        driven.feed(&rows[from..], &ends);
        for table in &tables {
            for (key, entity) in &entities(table, &rows, first_lsn) {
                let edge_us = entity.iter().map(|(row, _)| row.time_us - row.ahead_us).max().unwrap();
                let waits = waits_us.iter().map(|wait_us| edge_us + wait_us);
                let backs = backs_us.iter().map(|back_us| edge_us - back_us);
                let told_from_us = edge_us.max(swept_us);
                for now_us in waits.chain(backs).chain([edge_us, edge_us - 1, told_from_us]).chain(sweeps.iter().copied()) {
                    check(&driven, table, key, entity, now_us, told_from_us)?;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]
    /// The recount is over all rows of the event, those from before a feature or its table began too.
    #[test]
    fn a_feature_that_begins_later_is_exact_only_where_a_recount_of_all_rows_agrees(
        rows in histories(200),
        at in 0usize..200,
        odd in any::<bool>(),
        left_out in 0usize..4,
        through in any::<bool>(),
        waits_us in prop::collection::vec(prop_oneof![0i64..2_000_000, 0i64..60_000_000, 0i64..8_000_000_000], 4),
    ) {
        let (all, at) = (tables(), at.min(rows.len()));
        let mut first = tables();
        first.iter_mut().for_each(|table| {
            let mut number = 0;
            table.features.retain(|_| { number += 1; (number % 2 == 1) == odd || number < 3 });
        });
        first.remove(left_out.min(first.len() - 1));
        let mut driven = Driven::with(&payload(&first));
        let first_lsn = driven.next_lsn;
        driven.feed(&rows[..at], &[]);
        driven.register(&payload(&all));
        if through {
            driven.state = super::replay::through_a_snapshot(&driven.state);
        }
        driven.feed(&rows[at..], &[]);
        let unseen_us = rows[..at].iter().map(|row| row.time_us).max();
        for table in &all {
            // A definition takes an LSN; no feature of one time shows it.
            for (key, entity) in &entities(table, &rows, first_lsn) {
                let edge_us = entity.iter().map(|(row, _)| row.time_us - row.ahead_us).max().unwrap();
                for now_us in waits_us.iter().map(|wait_us| edge_us + wait_us).chain([edge_us, edge_us - 1_000]) {
                    for feature in &table.features {
                        let Some(reading) = driven.read(table.name, key, feature.name, now_us) else { continue };
                        let begins_us = reach_us(feature).map(|reach_us| now_us - reach_us);
                        let at = format!("{}.{} of {key:?} at {now_us}: {reading:?}", table.name, feature.name);
                        if feature.op == "reservoir_sample" {
                            continue;
                        }
                        if reading.accuracy == Accuracy::Exact {
                            let (answer, rounding) = expected(feature, entity, now_us);
                            prop_assert!(reading.admits(&answer, rounding), "{}, {:?} expected", at, answer);
                        } else if unseen_us.is_none_or(|unseen_us| begins_us.is_some_and(|begins_us| begins_us >= unseen_us)) {
                            let told = driven.earliest_us(table.name, key, feature.name).is_none_or(|earliest_us| earliest_us <= now_us);
                            let grown = driven.is_grown(table.name, key);
                            let disordered = is_disordered(entity, feature, driven.is_grown(table.name, key));
                            let open = !told || disordered || grown && (may_lack_rows(entity, feature, now_us) || cut(entity, feature, now_us));
                            prop_assert!(open, "{}: nothing is missing", at);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_key_grows_when_its_list_is_full_of_live_rows_and_not_before() {
    let tables = tables();
    let row = |time_us| Row {
        time_us,
        ahead_us: 0,
        delete: false,
        data: vec![Datum::Str("k".into()), Datum::Null, Datum::Null, Datum::Null, Datum::Null, Datum::I64(1), Datum::Null, Datum::Null],
    };
    let driven = Driven::with(&payload(&tables));
    let entries_max = driven.state.table(tables[0].name).unwrap().slabs[0].plan.entries_max;
    for (count, step_us, grown) in [
        (entries_max, 1_000_000i64, false),
        (entries_max + 1, 1_000_000, true),
        (5 * entries_max, 7_200_000_000 / entries_max as i64, false),
        (5 * entries_max, 3_000_000_000 / entries_max as i64, true),
    ] {
        let rows: Vec<Row> = (0..count as i64).map(|index| row(super::rows::START_US + index * step_us)).collect();
        let mut driven = Driven::with(&payload(&tables));
        driven.feed(&rows, &[100]);
        let entities = entities(&tables[0], &rows, 1);
        let (key, entity) = entities.first_key_value().unwrap();
        assert_eq!(driven.is_grown(tables[0].name, key), grown, "{count} rows every {step_us} us");
        // A row that is almost a window old stands in a bucket that the window's edge cuts.
        check(&driven, &tables[0], key, entity, newest_us(&rows) + 3_599_000_000, newest_us(&rows)).unwrap();
    }
}
