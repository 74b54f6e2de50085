//! A key's edge: one fast clock hides nobody, what is late or too far ahead is counted by window, and a read of the
//! past is true or refused.

use super::Driven;
use super::pipeline::{event, node};
use super::rows::{Datum, FIELDS, Row, START_US};
use crate::read::{Reader, UnknownFeature};
use crate::row::Key;
use crate::state::Missed;
use serde_json::json;
use streamgauge_api::port::{KeyText, ReadOptions};
use streamgauge_api::{ApiError, Code, Value};

pub(super) const SECOND_US: i64 = 1_000_000;
pub(super) const MINUTE_US: i64 = 60 * SECOND_US;

/// What a row of this user holds.
pub(super) fn data(user: &str) -> Vec<Datum> {
    let of = |name: &str| match name {
        "user" => Datum::Str(user.into()),
        "n" => Datum::I64(1),
        _ => Datum::Absent,
    };
    FIELDS.iter().map(|(name, _)| of(name)).collect()
}

pub(super) fn row(time_us: i64, ahead_us: i64) -> Row {
    Row { time_us, ahead_us, delete: false, data: data("u") }
}

pub(super) fn table() -> Driven {
    let agg = json!({
        "cnt": { "op": "count" },
        "cnt_1m": { "op": "count", "params": { "window": "1m" } },
        "cnt_1h": { "op": "count", "params": { "window": "1h" } },
        "cnt_1d": { "op": "count", "params": { "window": "24h" } },
    });
    Driven::with(&json!({ "nodes": [event(), node("T", &[], &["user"], &agg)] }))
}

pub(super) fn count(driven: &Driven, feature: &str, now_us: i64) -> i64 {
    match driven.read("T", &Key::from_slice(b"u"), feature, now_us).unwrap().value {
        Value::I64(count) => count,
        other => panic!("{feature} is {other:?}"),
    }
}

/// 500 rows, one of a clock that is fast, 500 rows: `count` over a minute read 0, and the later rows were dropped
/// without being counted.
#[test]
fn one_row_with_a_fast_clock_hides_nobody_in_a_list_or_a_ring() {
    for (before, after) in [(500, 500), (20, 20), (0, 30), (0, 2000), (70, 0)] {
        for ahead_us in [50 * MINUTE_US, 30 * SECOND_US, 1] {
            let mut driven = table();
            let step_us = 40 * SECOND_US / (before + after);
            let mut rows: Vec<Row> = (0..before).map(|index| row(START_US + index * step_us, 0)).collect();
            rows.push(row(START_US + before * step_us + ahead_us, ahead_us));
            rows.extend((before + 1..=before + after).map(|index| row(START_US + index * step_us, 0)));
            driven.feed(&rows, &[before as usize, before as usize + 1]);
            let now_us = START_US + 41 * SECOND_US;
            // Its own time has come by then, or it stands in a bucket of the ring whose time has begun.
            let own = i64::from(START_US + before * step_us + ahead_us <= now_us)..=1;
            let at = format!("{before} rows, one {ahead_us} us ahead, {after} rows");
            for feature in ["cnt_1m", "cnt_1h", "cnt_1d"] {
                assert!(own.contains(&(count(&driven, feature, now_us) - before - after)), "{feature}: {at}");
            }
            assert_eq!(count(&driven, "cnt", now_us), before + after + 1, "{at}");
            let late: u64 = driven.state.table("T").unwrap().missed().values().map(|missed| missed.late).sum();
            assert_eq!(late, 0, "{at}");
        }
    }
}

#[test]
fn a_row_ahead_is_counted_when_its_time_has_come() {
    let mut driven = table();
    driven.feed(&[row(START_US, 0), row(START_US + 50 * MINUTE_US, 50 * MINUTE_US)], &[]);
    for (minutes, minute, hour) in [(0, 1, 1), (1, 0, 1), (49, 0, 1), (50, 1, 2), (51, 0, 2), (60, 0, 1), (111, 0, 0)] {
        let now_us = START_US + minutes * MINUTE_US;
        assert_eq!((count(&driven, "cnt_1m", now_us), count(&driven, "cnt_1h", now_us)), (minute, hour), "{minutes} m");
    }
}

/// A list grew into rings under its old edge, which refused a row whose time had come.
#[test]
fn a_row_whose_time_has_come_is_kept_when_the_key_grows() {
    let mut driven = table();
    let entries_max = driven.state.table("T").unwrap().slabs[0].plan.entries_max as i64;
    let ahead_us = 50 * MINUTE_US;
    driven.feed(&(0..entries_max - 1).map(|index| row(START_US + index, 0)).collect::<Vec<_>>(), &[]);
    driven.feed(&[row(START_US + ahead_us, ahead_us), row(START_US + ahead_us + SECOND_US, 0)], &[]);
    assert_eq!(count(&driven, "cnt_1m", START_US + ahead_us + SECOND_US), 2);
    assert!(driven.state.table("T").unwrap().missed().values().all(|missed| missed.ahead == 0));
}

/// Time 0 looked like "no rows yet", so that all rows of such a key were refused when it grew.
#[test]
fn rows_of_the_first_millisecond_of_the_epoch_are_rows() {
    let mut driven = table();
    driven.feed(&(0..2000).map(|index| row(index % 2, 0)).collect::<Vec<_>>(), &[]);
    assert_eq!(["cnt", "cnt_1m", "cnt_1d"].map(|feature| count(&driven, feature, 1)), [2000; 3]);
    assert!(driven.state.table("T").unwrap().missed().values().all(|missed| *missed == Missed::default()));
}

#[test]
fn rows_beyond_a_rings_room_ahead_are_refused_by_that_window_and_counted() {
    let mut driven = table();
    driven.feed(&(0..2000).map(|index| row(START_US + index * 1000, 0)).collect::<Vec<_>>(), &[]);
    let missed = |driven: &Driven| driven.state.table("T").unwrap().missed();
    assert!(missed(&driven).values().all(|missed| *missed == Missed::default()));
    let ahead_us = 50 * MINUTE_US;
    driven.feed(&[row(START_US + 2 * SECOND_US + ahead_us, ahead_us)], &[]);
    // A bucket of the minute is 0.94 s, of the hour 56 s: only the minute has no room for 50 minutes ahead.
    let ahead: Vec<u64> = missed(&driven).values().map(|missed| missed.ahead).collect();
    assert_eq!(ahead, [1, 0, 0]);
    assert_eq!(count(&driven, "cnt_1h", START_US + 3 * SECOND_US + ahead_us), 2001);
}

#[test]
fn late_rows_are_counted_by_the_windows_that_they_are_too_old_for() {
    for grown in [false, true] {
        let mut driven = table();
        let rows = if grown { 2000 } else { 3 };
        driven.feed(&(0..rows).map(|index| row(START_US + index, 0)).collect::<Vec<_>>(), &[]);
        for minutes in [0, 1, 59, 60, 61, 1439, 1440, 100_000] {
            driven.feed(&[row(START_US - minutes * MINUTE_US, 0)], &[]);
        }
        let late: Vec<u64> = driven.state.table("T").unwrap().missed().values().map(|missed| missed.late).collect();
        assert_eq!(late, [7, 5, 2], "grown: {grown}");
        assert_eq!(driven.state.table("T").unwrap().funnel.late, 7);
    }
}

#[test]
fn a_window_is_its_length_and_its_resolution_and_counts_a_row_once() {
    let window = |resolution: u32| json!({ "op": "count", "params": { "window": "1h", "resolution": resolution } });
    let sum = json!({ "op": "sum", "params": { "field": "n", "window": "1h", "resolution": 64 } });
    let table = |agg: &serde_json::Value| json!({ "nodes": [event(), node("T", &[], &["user"], agg)] });
    let mut driven = Driven::with(&table(&json!({ "coarse": window(16), "usual": window(64), "fine": window(1024) })));
    driven.feed(&[row(START_US, 0)], &[]);
    // One that came later has a slab of its own, with the same window.
    driven.register(&table(&json!({ "coarse": window(16), "usual": window(64), "fine": window(1024), "later": sum })));
    driven.feed(&(0..2000).map(|index| row(START_US + index, 0)).collect::<Vec<_>>(), &[]);
    driven.feed(&[row(START_US - 100 * MINUTE_US, 0)], &[]);
    // A bucket of the finest is 3.5 s: 64 of them are less than four minutes, of the usual ones an hour, of the coarse ones four.
    let ahead_us = 5 * MINUTE_US;
    driven.feed(&[row(START_US + ahead_us, ahead_us), row(START_US + 30 * ahead_us, 30 * ahead_us)], &[]);
    let missed = driven.state.table("T").unwrap().missed();
    let told: Vec<_> = missed.iter().map(|((_, resolution), missed)| (*resolution, missed.late, missed.ahead)).collect();
    assert_eq!(told, [(16, 1, 0), (64, 1, 1), (1024, 1, 2)]);
}

pub(super) fn get(driven: &Driven, features: &[&str], as_of_us: i64, approximate: bool) -> Result<Vec<Value>, ApiError> {
    let options = ReadOptions {
        features: Some(features.iter().map(|name| (*name).to_owned()).collect()),
        as_of_ms: Some(as_of_us.div_euclid(1000)),
        approximate,
        ..ReadOptions::default()
    };
    let key = KeyText::Text("u".into());
    let unknown = UnknownFeature::AsNotFound;
    Reader::default().row(&driven.state, "T", &key, &options, as_of_us, unknown).map(|row| row.values)
}

/// The number that a read of the past gives is the number of rows that were in the window then, or it is refused
/// with the earliest time that can be told.
#[test]
fn a_read_of_the_past_is_true_or_refused_with_the_range_that_can_be_told() {
    for (rows, step_us) in [(30, SECOND_US), (300, SECOND_US), (900, 10 * MINUTE_US), (3000, SECOND_US)] {
        let mut driven = table();
        driven.feed(&(0..rows).map(|index| row(START_US + index * step_us, 0)).collect::<Vec<_>>(), &[]);
        let newest_us = START_US + (rows - 1) * step_us;
        let mut refused = 0;
        for (feature, window_us) in [("cnt_1m", MINUTE_US), ("cnt_1h", 60 * MINUTE_US), ("cnt_1d", 1440 * MINUTE_US)] {
            for back in 0..60 {
                let as_of_us = newest_us - back * step_us / 3 - back * back * SECOND_US;
                let first = (as_of_us - window_us - START_US).div_euclid(step_us) + 1;
                let last = (as_of_us - START_US).div_euclid(step_us);
                let truth = (last - first.max(0) + 1).max(0);
                match get(&driven, &[feature], as_of_us, false) {
                    Ok(values) => {
                        let Value::I64(got) = values[0] else { panic!("{values:?}") };
                        // A ring counts by buckets: within the rows of the two at its edges.
                        let slack = if rows >= 900 { 2 * (window_us / 64 / step_us + 1) } else { 0 };
                        assert!((got - truth).abs() <= slack, "{feature} {back} back of {rows}: {got} is not {truth}");
                    }
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.code, Code::AsOfOutOfReach);
                        let earliest_ms = error.more.get("earliest_ms").unwrap().as_i64().unwrap();
                        assert!(earliest_ms * 1000 > as_of_us, "{feature}: {earliest_ms} is no way out of {as_of_us}");
                        assert!(get(&driven, &[feature], earliest_ms * 1000, false).is_ok(), "{feature}: {earliest_ms} is in reach");
                        assert!(get(&driven, &[feature], as_of_us, true).is_ok(), "approximate=1 takes it anyway");
                    }
                }
            }
        }
        // Nothing has left a short list, so that it answers for any time.
        assert_eq!(refused > 0, rows >= 900, "{rows} rows");
    }
}

#[test]
fn a_lifetime_feature_has_no_past_and_one_refused_feature_refuses_the_entry() {
    let mut driven = table();
    driven.feed(&(0..30).map(|index| row(START_US + index * SECOND_US, 0)).collect::<Vec<_>>(), &[]);
    let newest_us = START_US + 29 * SECOND_US;
    assert_eq!(get(&driven, &["cnt"], newest_us, false).unwrap(), [Value::I64(30)]);
    assert_eq!(get(&driven, &["cnt", "cnt_1h"], newest_us - 1, false).unwrap_err().code, Code::AsOfOutOfReach);
    assert_eq!(get(&driven, &["cnt_1h"], newest_us - 10 * SECOND_US, false).unwrap(), [Value::I64(20)]);
    let both = get(&driven, &["cnt", "cnt_1h"], newest_us - 10 * SECOND_US, true).unwrap();
    assert_eq!(both, [Value::I64(30), Value::I64(20)]);
}

/// What a feature says of itself as of a time.
fn explained(driven: &Driven, feature: &str, as_of_us: i64) -> String {
    let options = ReadOptions {
        features: Some(vec![feature.to_owned()]),
        as_of_ms: Some(as_of_us.div_euclid(1000)),
        approximate: true,
        explain: true,
        ..ReadOptions::default()
    };
    let key = KeyText::Text("u".into());
    let row = Reader::default().row(&driven.state, "T", &key, &options, as_of_us, UnknownFeature::AsNotFound).unwrap();
    let mut json = Vec::new();
    streamgauge_api::value::write_json(&mut json, &row.values[0]);
    String::from_utf8(json).unwrap()
}

#[test]
fn a_value_whose_rows_are_gone_is_not_said_to_be_exact() {
    let mut driven = table();
    driven.feed(&(0..2000).map(|index| row(START_US + index * SECOND_US, 0)).collect::<Vec<_>>(), &[]);
    let newest_us = START_US + 1999 * SECOND_US;
    let unknown = |told: String| told.starts_with(r#"{"bound":null,"error":null,"exact":false,"#);
    // `approximate=1` takes what is left of the past: of a lifetime everything, of a window what the ring still has.
    assert!(unknown(explained(&driven, "cnt", newest_us - 1)));
    assert!(unknown(explained(&driven, "cnt_1m", newest_us - MINUTE_US)));
    assert_eq!(explained(&driven, "cnt", newest_us), r#"{"exact":true,"value":2000}"#);
    assert_eq!(explained(&driven, "cnt_1d", newest_us), r#"{"exact":true,"value":2000}"#);
    // A minute has no room for a row 50 minutes ahead: nothing is known while it would be in the window, and only then.
    let ahead_us = 50 * MINUTE_US;
    driven.feed(&[row(newest_us + ahead_us, ahead_us)], &[]);
    assert!(!unknown(explained(&driven, "cnt_1m", newest_us)));
    for (minutes, lacks) in [(1, false), (49, false), (50, true), (51, false)] {
        let now_us = newest_us + minutes * MINUTE_US + 1;
        assert_eq!(unknown(explained(&driven, "cnt_1m", now_us)), lacks, "{minutes} minutes on");
        assert!(!unknown(explained(&driven, "cnt_1d", now_us)), "a day has room");
    }
}
