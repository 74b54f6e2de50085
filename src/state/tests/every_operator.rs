//! One key with every operator there is, each in a window where it takes one, over very many rows that come out of order.
//!
//! Every reading must allow the recount's answer; nothing may be said only of operators that take a late row as the latest, and
//! of those that know no bound where a bucket is cut. Half of the way the state goes through a snapshot.

use super::Driven;
use super::pipeline::{Feature, SIGMA, Table, fading, over, payload, placed, plain};
use super::recount::{IN_ORDER, UNBOUND, expected};
use super::rows::{Datum, Row, START_US};
use crate::operators::{Accuracy, OPERATORS, WindowRule};
use crate::row::Key;
use serde_json::json;
use std::collections::BTreeSet;
use streamgauge_api::Value;

/// How many rows, and the time from one to the next: a window holds a tenth of them. In a debug build the recount takes its time.
const ROWS: i64 = if cfg!(debug_assertions) { 4_000 } else { 100_000 };
const STEP_US: i64 = 36_000_000_000 / ROWS;
/// Every second row is late by up to so much.
const LATE_US: u64 = 600_000_000;

/// The next word of a fixed stream (splitmix64).
fn next(stream: &mut u64) -> u64 {
    *stream = stream.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*stream ^ *stream >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

fn rows() -> Vec<Row> {
    let mut stream = 7;
    let mut pick = |most: u64| next(&mut stream) % most;
    let labels = ["a", "b", "c", "", "a label that is longer than a word or two"];
    (0..ROWS)
        .map(|at| {
            let late_us = if pick(2) == 0 { pick(LATE_US).cast_signed() } else { 0 };
            let mut number = |least: i64, most: u64| least + pick(most).cast_signed();
            let data = vec![
                Datum::Str("hot".into()),
                Datum::I64(number(0, 3)),
                Datum::Bool(number(0, 2) == 0),
                Datum::Datetime(number(0, 4) * 86_400_000),
                if number(0, 9) == 0 { Datum::Null } else { Datum::F64(number(-4000, 8000) as f64 / 4.0) },
                if number(0, 9) == 0 { Datum::Absent } else { Datum::I64(number(-20, 40)) },
                Datum::Str(labels[number(0, 5) as usize].into()),
                Datum::Null,
            ];
            Row { time_us: START_US + at * STEP_US - late_us, ahead_us: 0, delete: false, data }
        })
        .collect()
}

/// A feature of each operator, under its name.
fn feature(op: &'static str, rule: WindowRule) -> Feature {
    let window = (rule == WindowRule::Allowed).then_some("1h");
    let amount = || over(op, op, ("amount", |row| row.get("amount").clone()), window);
    let label = || over(op, op, ("label", |row| row.get("label").clone()), window);
    match op {
        "count" | "first_seen" | "last_seen" | "age" | "has_seen" | "time_since" | "inter_arrival_stats" => plain(op, op, window),
        "hour_of_day_histogram" | "dow_hour_histogram" => plain(op, op, window),
        "ratio" | "streak" | "max_streak" | "negative_streak" => plain(op, op, window).large(),
        "n_unique" | "entropy" | "event_type_mix" | "bloom_member" | "value_change_count" | "first" | "min" | "max" => label(),
        "top_k" => label().with(|| json!({ "k": 3 })),
        "quantile" => amount().with(|| json!({ "q": 0.5 })),
        "time_since_last_n" => plain(op, op, window).with(|| json!({ "n": 3 })),
        "first_n" | "last_n" => label().with(|| json!({ "n": 3 })),
        "lag" => amount().with(|| json!({ "n": 2 })),
        "most_recent_n" => amount().with(|| json!({ "n": 10 })),
        "reservoir_sample" => amount().with(|| json!({ "samples": 100 })),
        "histogram" => amount().with(|| json!({ "buckets": [0, 10.5] })),
        "first_seen_in_window" => plain(op, op, window).with(|| json!({ "window": "1m" })),
        "ewma" | "ewvar" | "ew_zscore" | "decayed_sum" => fading(amount()),
        "decayed_count" => fading(plain(op, op, window)),
        "burst_count" => plain(op, op, window).with(|| json!({ "sub_window": "2s" })),
        "outlier_count" => amount().with(|| json!({ "sigma": SIGMA })),
        "geo_velocity" | "geo_distance" | "geo_spread" | "distance_from_home" => placed(op, op),
        _ => amount(),
    }
}

#[test]
fn a_key_with_every_operator_answers_truly_behind_very_many_rows_out_of_order() {
    let features = OPERATORS.iter().map(|op| feature(op.signature().name, op.signature().window)).collect();
    let table =
        Table { name: "All", chain: Vec::new, key_columns: &["user"], key: |_| Some(Key::from_slice(b"hot")), passes: |_| true, features };
    assert_eq!(table.features.len(), 54, "every operator that clients of 0.0.6 know");
    let (rows, key) = (rows(), Key::from_slice(b"hot"));
    let tables = [table];
    let mut driven = Driven::with(&payload(&tables));
    let [table] = &tables;
    let first_lsn = driven.next_lsn;
    let half = rows.len() / 2;
    driven.feed(&rows[..half], &[100, 1_700]);
    driven.state = super::replay::through_a_snapshot(&driven.state);
    driven.feed(&rows[half..], &[1, 1_500]);
    assert!(driven.is_grown(table.name, &key), "no list is that long");
    let entity: Vec<(Row, u64)> = rows.into_iter().zip(first_lsn..).collect();
    let edge_us = entity.iter().map(|(row, _)| row.time_us).max().unwrap();
    let mut said = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for now_us in [edge_us, edge_us + 1_234_567, edge_us + 1_300_000_000, edge_us + 7_200_000_000] {
        for feature in &table.features {
            let reading = driven.read(table.name, &key, feature.name, now_us).unwrap();
            let (answer, rounding) = expected(feature, &entity, now_us);
            let at = format!("{} {} us behind the edge: {answer:?} expected, {reading:?}", feature.op, now_us - edge_us);
            if feature.op == "reservoir_sample" {
                let (Value::List(sample), Value::List(all)) = (&reading.value, &answer) else { panic!("{at}") };
                assert!(sample.len() == 100 && sample.iter().all(|value| all.contains(value)), "{at}");
                continue;
            }
            assert!(reading.admits(&answer, rounding), "{at}");
            let kind = match reading.accuracy {
                Accuracy::Exact => 0,
                Accuracy::Within(_) => 1,
                Accuracy::Unknown => 2,
            };
            let may_not_know = IN_ORDER.contains(&feature.op) || UNBOUND.contains(&feature.op);
            assert!(kind < 2 || may_not_know, "{at}");
            said[kind].insert(feature.op);
        }
    }
    assert!(said[0].len() >= 40 && said[1].len() >= 10, "most say something: {said:?}");
}

/// Rows of history have one stamp, and many of these one time: all operators answer as if they had come through the log, from
/// the state that was folded and followed, from its file, and once its table came in.
#[test]
fn a_history_that_is_folded_and_followed_answers_as_the_log_does_with_every_operator() {
    use crate::pipeline::{Histories, RegisterOptions, Registry, TableEffect};
    use crate::state::{Content, FillStep, Filled, Flip, Seal};
    let features = OPERATORS.iter().map(|op| feature(op.signature().name, op.signature().window)).collect();
    let table =
        Table { name: "All", chain: Vec::new, key_columns: &["user"], key: |_| Some(Key::from_slice(b"hot")), passes: |_| true, features };
    let tables = [table];
    let mut rows = rows();
    rows.truncate(1_500);
    rows.iter_mut().for_each(|row| row.time_us -= row.time_us.rem_euclid(60_000_000));
    let half = rows.len() / 2;
    let mut twin = Driven::with(&payload(&tables));
    twin.feed(&rows, &[100, 700]);
    // The serving state had the event and its rows before the table was declared.
    let mut declared = payload(&tables);
    declared["nodes"][1]["backfill"] = json!("earliest");
    let mut event = declared.clone();
    event["nodes"].as_array_mut().unwrap().truncate(1);
    let mut serving = Driven::with(&event);
    serving.feed(&rows[..half], &[10]);
    let histories: Histories = [("Tx".into(), true)].into();
    let registry = Registry::clone(serving.state.registry());
    let options = RegisterOptions { histories: &histories, ..RegisterOptions::default() };
    let outcome = registry.apply_register(&declared.to_string(), &options).unwrap();
    let effects = outcome.effects;
    let [TableEffect::Fill { table: id, .. }] = effects[..] else { panic!("{effects:?}") };
    serving.apply(Content::Definition { registry: outcome.next.unwrap(), effects }, START_US);
    assert!(serving.state.table("All").is_none(), "a table that is being filled is not there");
    serving.state = super::replay::through_a_snapshot(&serving.state);
    let mut shadow = serving.state.shadow(&[id]).unwrap();
    let Content::Rows(history) = serving.pack(&rows[..half]) else { unreachable!("rows are packed") };
    for (from, to) in [(0, 1), (1, 300), (300, half)] {
        shadow.fold(&history.batches[0], from..to);
    }
    shadow.fence(serving.state.lsn(), START_US);
    let follow = |serving: &mut Driven, shadow: &mut crate::state::State, part: &[Row]| {
        let content = serving.pack(part);
        let (first, lsns) = (serving.next_lsn, content.lsns());
        shadow.follow_log(Some(&content), (first, first + lsns - 1), START_US);
        serving.apply(content, START_US);
    };
    follow(&mut serving, &mut shadow, &rows[half..half + 200]);
    shadow = super::replay::through_a_snapshot(&shadow);
    follow(&mut serving, &mut shadow, &rows[half + 200..]);
    let seal = Seal { folder: 1, through_lsn: serving.state.lsn() - 1, bytes: 1, fingerprint: String::new() };
    let filled = vec![Filled { fill: 1, table: id, unseen: None, starts: Vec::new() }];
    let flip = FillStep::Flip(Flip { seal, fence_lsn: 1, rows: half as u64, filled });
    let refused = serving.state.accepts(&Content::Fill(flip.clone()), serving.next_lsn, START_US);
    assert!(refused.unwrap_err().contains("not in its file"), "a flip without its table");
    serving.state.hand_in(shadow.take_tables());
    serving.state.accepts(&Content::Fill(flip.clone()), serving.next_lsn, START_US).unwrap();
    serving.apply(Content::Fill(flip), START_US);
    serving.state = super::replay::through_a_snapshot(&serving.state);
    let key = Key::from_slice(b"hot");
    let edge_us = rows.iter().map(|row| row.time_us).max().unwrap();
    for now_us in [edge_us, edge_us + 1_300_000_000, edge_us + 7_200_000_000] {
        for feature in &tables[0].features {
            // What is drawn hangs on the stamps.
            if feature.op != "reservoir_sample" {
                let answers = [&twin, &serving].map(|driven| driven.read("All", &key, feature.name, now_us).unwrap());
                assert_eq!(answers[0], answers[1], "{} {} us behind the edge", feature.op, now_us - edge_us);
            }
        }
    }
}
