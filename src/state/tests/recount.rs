//! Every feature equals a recount of all rows from the documents: which rows a window holds (exact lists; once a key has grown, whole buckets), what each operator
//! makes of them. The recount keeps rows and nothing else.

use super::Driven;
use super::pipeline::{Feature, Table, payload, tables};
use super::rows::{Datum, Row, ends, newest_us, rows};
use crate::pipeline::duration::parse_duration;
use crate::row::Key;
use crate::state::hash_cell;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::Value;

/// A key with all its rows.
#[derive(Clone)]
struct Entity {
    /// Row and LSN.
    rows: Vec<(Row, u64)>,
    /// By row: the edge by which a ring took it, or did not.
    judged: Vec<i64>,
    edge_us: i64,
    grown: bool,
}

impl Default for Entity {
    fn default() -> Self {
        Self { rows: Vec::new(), judged: Vec::new(), edge_us: i64::MIN, grown: false }
    }
}

/// Buckets beyond the edge that a ring has room for.
const AHEAD: i64 = 64;

/// Rows that a list of the table may hold, and for how long.
fn list_bounds(driven: &Driven, table: &Table) -> (usize, i64) {
    let plan = &driven.state.table(table.name).unwrap().slabs[0].plan;
    (plan.entries_max, plan.keep_us)
}

fn window_us(feature: &Feature) -> Option<i64> {
    feature.window.map(|window| parse_duration(window).unwrap())
}

fn bucket_us(window_us: i64, resolution: i64) -> i64 {
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

/// Keeps what reached the table, key by key, and notes which keys outgrow their list.
fn entities(driven: &Driven, table: &Table, rows: &[Row], first_lsn: u64) -> BTreeMap<Key, Entity> {
    let (entries_max, keep_us) = list_bounds(driven, table);
    let mut entities: BTreeMap<Key, Entity> = BTreeMap::new();
    for (row, lsn) in rows.iter().zip(first_lsn..) {
        if !row.delete && !(table.passes)(row) {
            continue;
        }
        let Some(key) = (table.key)(row) else { continue };
        if row.delete {
            entities.remove(&key);
            continue;
        }
        let entity = entities.entry(key).or_default();
        // Edges are kept in whole milliseconds.
        let edge_us = entity.edge_us.max((row.time_us - row.ahead_us).div_euclid(1000) * 1000);
        let live = entity.rows.iter().filter(|(row, _)| edge_us - row.time_us < keep_us).count();
        if !entity.grown && keep_us > 0 && edge_us - row.time_us < keep_us && live >= entries_max {
            entity.grown = true;
            entity.judged.fill(entity.edge_us);
        }
        entity.edge_us = edge_us;
        entity.rows.push((row.clone(), lsn));
        entity.judged.push(edge_us);
    }
    entities
}

/// The rows that a feature sees at a time, in order of row time.
fn seen<'e>(entity: &'e Entity, feature: &Feature, now_us: i64) -> Vec<&'e (Row, u64)> {
    let mut seen: Vec<&(Row, u64)> = entity
        .rows
        .iter()
        .zip(&entity.judged)
        .filter(|((row, _), edge_us)| match window_us(feature) {
            None => true,
            Some(window_us) if entity.grown => {
                let bucket_us = bucket_us(window_us, feature.resolution());
                let epoch = |time_us: i64| time_us.div_euclid(bucket_us) * bucket_us;
                let taken = epoch(row.time_us) - epoch(**edge_us) <= AHEAD * bucket_us;
                taken && (0..window_us).contains(&(now_us - epoch(row.time_us)))
            }
            Some(window_us) => (0..window_us).contains(&(now_us - row.time_us)),
        })
        .map(|(row, _)| row)
        .collect();
    seen.sort_by_key(|(row, lsn)| (row.time_us, *lsn));
    seen
}

enum Expected {
    Exactly(Value),
    Near(f64),
}

fn expected(feature: &Feature, entity: &Entity, now_us: i64) -> Expected {
    let all = seen(entity, feature, now_us);
    let passing: Vec<&Row> =
        all.iter().map(|(row, _)| row).filter(|row| feature.filter.is_none_or(|filter| (filter.passes)(row))).collect();
    let data: Vec<Datum> = feature.field.map_or_else(Vec::new, |field| passing.iter().map(|row| field(row)).collect());
    let values = || data.iter().filter(|datum| datum.is_value());
    let numbers: Vec<f64> = data.iter().filter_map(Datum::number).collect();
    let count = numbers.len() as f64;
    let sum: f64 = numbers.iter().sum();
    let exact = |number: Option<f64>| Expected::Exactly(number.map_or(Value::Null, Value::F64));
    let near = |number: Option<f64>| number.map_or(Expected::Exactly(Value::Null), Expected::Near);
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
        Expected::Exactly(best.map_or(Value::Null, |datum| value(&datum)))
    };
    let variance = (numbers.len() >= 2).then(|| {
        let mean = sum / count;
        numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0)
    });
    match feature.op {
        "count" => Expected::Exactly(Value::I64(passing.len() as i64)),
        "ratio" => exact((!all.is_empty()).then(|| passing.len() as f64 / all.len() as f64)),
        "sum" => exact((!numbers.is_empty()).then_some(sum)),
        "mean" => near((!numbers.is_empty()).then(|| sum / count)),
        "min" => best(true),
        "max" => best(false),
        "var" => near(variance),
        "std" => near(variance.map(f64::sqrt)),
        "first" => Expected::Exactly(values().next().map_or(Value::Null, value)),
        "last" => Expected::Exactly(values().next_back().map_or(Value::Null, value)),
        "n_unique" => {
            let distinct: BTreeSet<u64> = values().map(|datum| hash_cell(datum.cell())).collect();
            Expected::Exactly(Value::I64(distinct.len() as i64))
        }
        "top_k" => Expected::Exactly(top(values(), 3)),
        "quantile" => median(numbers),
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

fn top<'d>(values: impl Iterator<Item = &'d Datum>, k: usize) -> Value {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for datum in values {
        if let Datum::Str(text) = datum {
            *counts.entry(text).or_default() += 1;
        }
    }
    let mut counts: Vec<(&str, i64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| -count);
    counts.truncate(k);
    let item =
        |(text, count): (&str, i64)| Value::Map(vec![("count".into(), Value::I64(count)), ("value".into(), Value::Str(text.into()))]);
    Value::List(counts.into_iter().map(item).collect())
}

/// Linear interpolation between the two numbers in the middle.
fn median(mut numbers: Vec<f64>) -> Expected {
    if numbers.is_empty() {
        return Expected::Exactly(Value::Null);
    }
    numbers.sort_by(f64::total_cmp);
    let (low, high) = ((numbers.len() - 1) / 2, numbers.len() / 2);
    Expected::Near((numbers[low] + numbers[high]) / 2.0)
}

fn check(driven: &Driven, table: &Table, key: &Key, entity: &Entity, now_us: i64) -> Result<(), TestCaseError> {
    for feature in &table.features {
        let reading = driven.read(table.name, key, feature.name, now_us);
        prop_assert!(reading.is_some(), "{} has no key {key:?}", table.name);
        let got = reading.unwrap().value;
        let at = format!(
            "{}.{} of {key:?}, grown: {}, {} us after the start",
            table.name,
            feature.name,
            entity.grown,
            now_us - super::rows::START_US
        );
        match expected(feature, entity, now_us) {
            Expected::Exactly(value) => prop_assert_eq!(got, value, "{}", at),
            Expected::Near(number) => {
                let Value::F64(got) = got else { return Err(TestCaseError::fail(format!("{at}: {got:?} is no double"))) };
                prop_assert!((got - number).abs() <= 1e-9 * number.abs().max(1.0), "{}: {} is not {}", at, got, number);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_feature_equals_a_recount_of_all_rows(rows in rows(320), ends in ends(), wait_us in prop::sample::select(vec![0i64, 1, 900_000, 50_000_000, 3_000_000_000]), entries_max in 1usize..100) {
        let tables = tables();
        let mut driven = Driven::with(&payload(&tables));
        grow_beyond(&mut driven, entries_max);
        let first_lsn = driven.next_lsn;
        driven.feed(&rows, &ends);
        for table in &tables {
            let entities = entities(&driven, table, &rows, first_lsn);
            prop_assert_eq!(driven.state.table(table.name).unwrap().len(), entities.len());
            for (key, entity) in &entities {
                // Reads at the newest row's time and later: rows that no such read can see may have left.
                check(&driven, table, key, entity, newest_us(&rows))?;
                check(&driven, table, key, entity, newest_us(&rows) + wait_us)?;
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
    let entries_max = list_bounds(&Driven::with(&payload(&tables)), &tables[0]).0;
    for (count, step_us, grown) in [
        (entries_max, 1_000_000i64, false),
        (entries_max + 1, 1_000_000, true),
        (5 * entries_max, 7_200_000_000 / entries_max as i64, false),
        (5 * entries_max, 3_000_000_000 / entries_max as i64, true),
    ] {
        let rows: Vec<Row> = (0..count as i64).map(|index| row(super::rows::START_US + index * step_us)).collect();
        let mut driven = Driven::with(&payload(&tables));
        driven.feed(&rows, &[100]);
        let entities = entities(&driven, &tables[0], &rows, 1);
        let entity = entities.values().next().unwrap();
        assert_eq!(entity.grown, grown, "{count} rows every {step_us} us");
        // A bucket leaves the window early as a whole, a list to the microsecond: a row that is almost a window old tells them apart.
        for (key, entity) in &entities {
            check(&driven, &tables[0], key, entity, newest_us(&rows) + 3_599_000_000).unwrap();
        }
    }
}
