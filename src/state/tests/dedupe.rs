//! Rows that came before reach no table: against a recount that remembers every id.

use super::Driven;
use super::pipeline::{Feature, event, node, over, plain};
use super::recount::{Entity, expected};
use super::replay::{through_a_frame, through_a_snapshot};
use super::rows::{Datum, Row, ends, newest_us, rows};
use crate::row::Key;
use crate::state::State;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

const WINDOW_US: i64 = 60_000_000;

fn features() -> Vec<Feature> {
    vec![plain("cnt", "count", None), over("sum_1m", "sum", ("amount", |row| row.get("amount").clone()), Some("1m"))]
}

/// The id is the integer `n`, which some rows have as a fraction, or not at all.
fn payload(dedupe_key: &Json, window_us: i64) -> Json {
    let agg = json!({
        "cnt": { "op": "count", "params": {} },
        "sum_1m": { "op": "sum", "params": { "field": "amount", "window": "1m" } },
    });
    let (mut event, table) = (event(), node("T", &[], &["user"], &agg));
    event["dedupe_key"] = dedupe_key.clone();
    event["dedupe_window_ms"] = json!(window_us / 1000);
    json!({ "nodes": [event, table] })
}

fn id(row: &Row) -> Option<i64> {
    if let Datum::I64(id) = row.get("n") { Some(*id) } else { None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn an_id_is_taken_once_within_its_window(
        rows in prop_oneof![rows(240).boxed(), rows(240).prop_shuffle().boxed()],
        ends in ends(),
        swept in prop::collection::vec((0usize..260, -10_000_000i64..100_000_000), 0..4),
        restarts in any::<bool>(),
    ) {
        let mut driven = Driven::with(&payload(&json!("n"), WINDOW_US));
        let (mut first, mut kept, mut repeated) = (BTreeMap::<i64, (i64, u64)>::new(), BTreeMap::<Key, Entity>::new(), 0);
        let mut swept = swept;
        swept.sort_unstable();
        let (mut from, mut lsn) = (0, driven.next_lsn);
        for (to, wait_us) in swept.into_iter().map(|(to, wait_us)| (to.min(rows.len()), Some(wait_us))).chain([(rows.len(), None)]) {
            driven.feed(&rows[from..to], &ends);
            for row in &rows[from..to] {
                let (edge_us, at) = (row.time_us - row.ahead_us, lsn);
                lsn += 1;
                if let Some(id) = id(row).filter(|_| !row.delete) {
                    if first.get(&id).is_some_and(|(first_us, _)| edge_us - first_us < WINDOW_US) {
                        repeated += 1;
                        continue;
                    }
                    first.insert(id, (edge_us, at));
                }
                let Datum::Str(user) = row.get("user") else { continue };
                let key = Key::from_slice(user.as_bytes());
                if row.delete {
                    kept.remove(&key);
                } else {
                    kept.entry(key).or_default().push((row.clone(), at));
                }
            }
            if let Some(wait_us) = wait_us {
                let now_us = newest_us(&rows[..to]) + wait_us;
                // Of every table one frame: that of features, and that of ids.
                driven.sweep(0, u32::MAX, now_us);
                first.retain(|_, (first_us, _)| now_us - *first_us < WINDOW_US);
                lsn += 2;
            }
            if restarts {
                driven.state = through_a_snapshot(&driven.state);
                driven.state.tables.values_mut().for_each(|table| table.funnel = Default::default());
                repeated = 0;
            }
            from = to;
        }
        let counted: u64 = driven.state.tables().map(|table| table.funnel.repeated).sum();
        prop_assert_eq!(counted, repeated);
        prop_assert_eq!(driven.state.table("T").unwrap().len(), kept.len());
        for (key, entity) in &kept {
            let edge_us = entity.iter().map(|(row, _)| row.time_us - row.ahead_us).max().unwrap();
            for feature in &features() {
                let reading = driven.read("T", key, feature.name, edge_us).unwrap();
                let (answer, rounding) = expected(feature, entity, edge_us);
                prop_assert!(reading.admits(&answer, rounding), "{} of {:?}: {:?} expected, {:?}", feature.name, key, answer, reading);
            }
        }
        let mut again = State::new(super::HASH_SEED);
        driven.log.iter().for_each(|(content, lsn, now_us)| again.apply(&through_a_frame(content, *lsn, *now_us), *lsn, *now_us));
        prop_assert_eq!(again.fingerprint(), driven.fingerprint());
    }
}

#[test]
fn who_sends_again_is_told_where_it_was_and_the_option_comes_and_goes() {
    let row = |id: i64, time_us: i64| {
        let mut data = vec![Datum::Absent; 8];
        (data[0], data[5]) = (Datum::Str("u".into()), Datum::I64(id));
        Row { time_us: super::rows::START_US + time_us, ahead_us: 0, delete: false, data }
    };
    let mut driven = Driven::with(&payload(&Json::Null, WINDOW_US));
    let count = |driven: &Driven| driven.read("T", &Key::from_slice(b"u"), "cnt", super::rows::START_US).unwrap().value;
    driven.feed(&[row(1, 0), row(1, 0)], &[]);
    assert_eq!(count(&driven), streamgauge_api::Value::I64(2));
    driven.register(&payload(&json!("n"), WINDOW_US));
    let first = driven.next_lsn;
    driven.feed(&[row(1, 0), row(2, 0), row(1, 1), row(2, WINDOW_US - 1), row(1, WINDOW_US)], &[]);
    let repeated: Vec<(u64, u64)> = driven.state.repeated(first..=first + 4).collect();
    assert_eq!(repeated, [(first + 2, first), (first + 3, first + 1)]);
    assert_eq!(driven.state.repeated(first + 3..=first + 3).count(), 1);
    assert_eq!(count(&driven), streamgauge_api::Value::I64(5));
    driven.state = through_a_snapshot(&driven.state);
    driven.feed(&[row(1, WINDOW_US), row(3, WINDOW_US)], &[]);
    assert_eq!(count(&driven), streamgauge_api::Value::I64(6));
    // Another key begins anew; a longer window remembers what is there.
    driven.register(&payload(&json!("n"), 10 * WINDOW_US));
    driven.feed(&[row(2, 2 * WINDOW_US)], &[]);
    assert_eq!(count(&driven), streamgauge_api::Value::I64(6));
    driven.register(&payload(&Json::Null, WINDOW_US));
    driven.feed(&[row(2, 2 * WINDOW_US)], &[]);
    assert_eq!(count(&driven), streamgauge_api::Value::I64(7));
    assert_eq!(driven.state.tables().count(), 1, "nobody wants ids");
}
