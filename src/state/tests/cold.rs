//! Keys that go cold begin anew with their next row, and are not there for who reads before it: against a recount that forgets
//! what it has of such a key.

use super::pipeline::{Feature, Table, event, node, over, plain};
use super::recount::{Entity, expected};
use super::replay::{through_a_frame, through_a_snapshot};
use super::rows::{Datum, Row, START_US, ends, newest_us, rows};
use super::{Driven, HASH_SEED};
use crate::row::Key;
use crate::state::{Content, Found, Place, State};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use streamgauge_api::{Position, StoredPosition};

const COLD_US: i64 = 30_000_000;

fn features() -> Vec<Feature> {
    vec![
        plain("cnt", "count", None),
        over("sum_1m", "sum", ("amount", |row| row.get("amount").clone()), Some("1m")),
        over("uniq", "n_unique", ("label", |row| row.get("label").clone()), None),
        over("first_amount", "first", ("amount", |row| row.get("amount").clone()), None),
    ]
}

fn table() -> Table {
    Table {
        name: "T",
        chain: Vec::new,
        key_columns: &["user"],
        key: |row| if let Datum::Str(user) = row.get("user") { Some(Key::from_slice(user.as_bytes())) } else { None },
        passes: |_| true,
        features: features(),
    }
}

/// The table, with lives of keys said by the event and by the table.
fn payload(cold_after_ms: &Json, expire_after_ms: &Json) -> Json {
    let agg = json!({
        "cnt": { "op": "count", "params": {} },
        "sum_1m": { "op": "sum", "params": { "field": "amount", "window": "1m" } },
        "uniq": { "op": "n_unique", "params": { "field": "label" } },
        "first_amount": { "op": "first", "params": { "field": "amount" } },
    });
    let (mut event, mut table) = (event(), node("T", &[], &["user"], &agg));
    event["cold_after_ms"] = cold_after_ms.clone();
    table["expire_after_ms"] = expire_after_ms.clone();
    json!({ "nodes": [event, table] })
}

/// What a recount keeps of a key.
#[derive(Debug, Default)]
struct Kept {
    rows: Entity,
    last_us: Option<i64>,
}

impl Kept {
    fn is_cold(&self, now_us: i64) -> bool {
        self.last_us.is_some_and(|last_us| now_us - last_us > COLD_US)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_cold_key_begins_anew_and_is_not_there_until_then(
        rows in rows(240),
        ends in ends(),
        swept in prop::collection::vec((0usize..260, -10_000_000i64..100_000_000), 0..4),
        restarts in any::<bool>(),
        by_event in any::<bool>(),
        waits_us in prop::collection::vec(0i64..90_000_000, 4),
    ) {
        let (short, long) = (json!(COLD_US / 1000), json!(COLD_US));
        let mut driven = Driven::with(&if by_event { payload(&short, &long) } else { payload(&Json::Null, &short) });
        let (table, mut kept) = (table(), BTreeMap::<Key, Kept>::new());
        let mut swept = swept;
        swept.sort_unstable();
        let (mut from, mut lsn) = (0, driven.next_lsn);
        for (to, wait_us) in swept.into_iter().map(|(to, wait_us)| (to.min(rows.len()), Some(wait_us))).chain([(rows.len(), None)]) {
            driven.feed(&rows[from..to], &ends);
            for row in &rows[from..to] {
                lsn += 1;
                let Some(key) = (table.key)(row) else { continue };
                if row.delete {
                    kept.remove(&key);
                    continue;
                }
                let entity = kept.entry(key).or_default();
                if entity.is_cold(row.time_us - row.ahead_us) {
                    *entity = Kept::default();
                }
                entity.rows.push((row.clone(), lsn - 1));
                entity.last_us = entity.last_us.max(Some(row.time_us));
            }
            if let Some(wait_us) = wait_us {
                let now_us = newest_us(&rows[..to]) + wait_us;
                driven.sweep(0, u32::MAX, now_us);
                kept.retain(|_, entity| !entity.is_cold(now_us));
                lsn += 1;
            }
            if restarts {
                driven.state = through_a_snapshot(&driven.state);
            }
            from = to;
        }
        prop_assert_eq!(driven.state.table("T").unwrap().len(), kept.len());
        for (key, entity) in &kept {
            let edge_us = entity.rows.iter().map(|(row, _)| row.time_us - row.ahead_us).max().unwrap();
            for now_us in waits_us.iter().map(|wait_us| edge_us + wait_us).chain([edge_us]) {
                let found = driven.state.table("T").unwrap();
                let is_there = found.find(key).is_some_and(|number| !found.is_cold(number, now_us));
                prop_assert_eq!(is_there, !entity.is_cold(now_us), "{:?} at {}", key, now_us);
                for feature in &table.features {
                    let reading = driven.read("T", key, feature.name, now_us).unwrap();
                    let (answer, rounding) = expected(feature, &entity.rows, now_us);
                    prop_assert!(reading.admits(&answer, rounding), "{} of {:?}: {:?} expected, {:?}", feature.name, key, answer, reading);
                }
            }
        }
    }
}

fn row(user: &str, time_us: i64) -> Row {
    let mut data = vec![Datum::Absent; 8];
    data[0] = Datum::Str(user.into());
    Row { time_us, ahead_us: 0, delete: false, data }
}

/// A partition that is being caught up may bring the rows in between.
#[test]
fn a_sweep_takes_no_key_that_a_partition_behind_may_still_feed() {
    let mut driven = Driven::with(&payload(&json!(COLD_US / 1000), &Json::Null));
    let key = r#"{"event":"Tx","cluster":"c","topic":"t","topic_id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"partition":0}"#;
    let position = Position { clock_ms: START_US / 1000, ..Position::start(0) };
    let stored = StoredPosition { key: serde_json::from_str(key).unwrap(), position };
    driven.apply(Content::Partition(stored), START_US);
    driven.feed(&[row("a", START_US), row("b", START_US + 2 * COLD_US)], &[]);
    let keys_behind_a_sweep = |driven: &mut Driven| {
        driven.sweep(0, 10, START_US + 4 * COLD_US);
        driven.state.table("T").unwrap().len()
    };
    assert_eq!(keys_behind_a_sweep(&mut driven), 2);
    driven.state.partitions[0].position.clock_ms = (START_US + 2 * COLD_US) / 1000;
    let mut found = Found::default();
    driven.state.look_for_expired(Place::default(), 1, START_US + 4 * COLD_US, &mut found);
    assert_eq!(found.sweep.keys, [Key::from_slice(b"a")]);
    assert_eq!(keys_behind_a_sweep(&mut driven), 1);
}

#[test]
fn lives_of_keys_are_said_changed_and_taken_back_without_loss() {
    let mut driven = Driven::with(&payload(&Json::Null, &Json::Null));
    let at = |seconds: i64| START_US + seconds * 1_000_000;
    let there = |driven: &Driven, seconds: i64| {
        let table = driven.state.table("T").unwrap();
        table.find(&Key::from_slice(b"a")).is_some_and(|number| !table.is_cold(number, at(seconds)))
    };
    driven.feed(&[row("a", at(0))], &[]);
    // A row from before the option says nothing of when it came.
    driven.register(&payload(&json!(1000), &Json::Null));
    assert!(there(&driven, 900));
    driven.feed(&[row("a", at(1))], &[]);
    assert!(there(&driven, 2) && !there(&driven, 3));
    driven.register(&payload(&json!(1000), &json!(500)));
    assert!(!there(&driven, 2));
    driven.register(&payload(&json!(10_000), &Json::Null));
    assert!(there(&driven, 11) && !there(&driven, 12));
    driven.state = through_a_snapshot(&driven.state);
    assert!(there(&driven, 11) && !there(&driven, 12));
    driven.register(&payload(&Json::Null, &Json::Null));
    assert!(there(&driven, 10_000));
    let mut again = State::new(HASH_SEED);
    driven.log.iter().for_each(|(content, lsn, now_us)| again.apply(&through_a_frame(content, *lsn, *now_us), *lsn, *now_us));
    assert_eq!(again.fingerprint(), driven.fingerprint());
}
