//! Input at its bounds is life, not a broken belief: very long texts, times at both ends of 64 bits, very many features.

use super::Driven;
use super::pipeline::{event, node};
use super::rows::{Datum, FIELDS, Row, START_US};
use crate::row::Key;
use serde_json::{Map, Value as Json, json};
use streamgauge_api::Value;

fn row(time_us: i64, label: Datum) -> Row {
    let data = FIELDS.iter().map(|(name, _)| match *name {
        "user" => Datum::Str("u".into()),
        "label" => label.clone(),
        "n" => Datum::I64(1),
        _ => Datum::Absent,
    });
    Row { time_us, ahead_us: 0, delete: false, data: data.collect() }
}

fn table(agg: Json) -> Driven {
    Driven::with(&json!({ "nodes": [event(), node("T", &[], &["user"], &agg)] }))
}

fn read(driven: &Driven, feature: &str, now_us: i64) -> Value {
    driven.read("T", &Key::from_slice(b"u"), feature, now_us).unwrap().value
}

/// A text longer than the largest object of an arena ended the apply thread when a list was to keep it.
#[test]
fn a_text_beyond_every_object_is_passed_over_by_those_who_keep_texts_and_counted_by_those_who_hash() {
    for count in [3usize, 100] {
        let mut driven = table(json!({
            "longest_1h": { "op": "max", "params": { "field": "label", "window": "1h" } },
            "uniq_1h": { "op": "n_unique", "params": { "field": "label", "window": "1h" } },
            "top_1h": { "op": "top_k", "params": { "field": "label", "window": "1h" } },
            "cnt_1h": { "op": "count", "params": { "window": "1h" } },
        }));
        let mut rows = vec![row(START_US, Datum::Str("x".repeat(3 << 20))), row(START_US, Datum::Str("y".repeat(1 << 20)))];
        rows.extend((2..count).map(|_| row(START_US, Datum::Str("a".into()))));
        driven.feed(&rows, &[]);
        assert_eq!(read(&driven, "longest_1h", START_US), Value::Str("a".into()));
        assert_eq!(read(&driven, "uniq_1h", START_US), Value::I64(3));
        assert_eq!(read(&driven, "cnt_1h", START_US), Value::I64(count as i64));
    }
}

#[test]
fn times_at_the_ends_of_their_range_are_kept_or_late_and_nothing_else() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, START_US, i64::MAX - 1, i64::MAX];
    for from in ends {
        let mut driven = table(json!({
            "cnt_1ms": { "op": "count", "params": { "window": "1ms" } },
            "cnt_1h": { "op": "count", "params": { "window": "1h" } },
            "cnt_3650d": { "op": "count", "params": { "window": "3650d" } },
        }));
        let times: Vec<i64> = (0..200).map(|index| from.saturating_add(index % 90 * 700)).chain(ends).collect();
        driven.feed(&times.iter().map(|&time_us| row(time_us, Datum::Null)).collect::<Vec<Row>>(), &[70]);
        driven.feed(&times.iter().rev().map(|&time_us| row(time_us, Datum::Null)).collect::<Vec<Row>>(), &[70]);
        for now_us in ends {
            let counts =
                ["cnt_1ms", "cnt_1h", "cnt_3650d"].map(|name| if let Value::I64(count) = read(&driven, name, now_us) { count } else { -1 });
            assert!(counts.iter().all(|count| (0..=416).contains(count)), "from {from} at {now_us}: {counts:?}");
            // At the newest row's time a longer window holds what a shorter one does.
            assert!(now_us < i64::MAX || counts.is_sorted(), "from {from}: {counts:?}");
        }
        assert_eq!(super::replay::through_a_snapshot(&driven.state).fingerprint(), driven.fingerprint());
    }
}

/// A window's ring is one object: features beyond its size made it larger than the largest object.
#[test]
fn a_window_may_have_more_features_than_one_ring_has_room_for() {
    let agg: Map<String, Json> = (0..1500)
        .map(|index| {
            (
                format!("sum_{index:04}"),
                json!({ "op": "sum", "params": { "field": "n", "window": "1h", "where": format!("(n >= {})", index % 2 * 1000 - index) } }),
            )
        })
        .collect();
    let mut driven = table(Json::Object(agg));
    let rows: Vec<Row> = (0..130i64).map(|index| row(START_US + index * 30_000_000, Datum::Null)).collect();
    driven.feed(&rows, &[]);
    let now_us = START_US + 129 * 30_000_000;
    let (first, last) = (read(&driven, "sum_0000", now_us), read(&driven, "sum_1498", now_us));
    assert_eq!(first, last);
    assert!(matches!(first, Value::F64(sum) if (118.0..=122.0).contains(&sum)), "{first:?}");
}
