//! Changed definitions touch what they name and nothing else, live and after a snapshot.

use super::pipeline::{event, node};
use super::replay::{through_a_frame, through_a_snapshot};
use super::rows::{Row, START_US, newest_us, rows};
use super::{Driven, HASH_SEED, settle};
use crate::row::Key;
use crate::state::State;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use streamgauge_api::Value;

/// Features by name; those over expressions make the chain compute a column each, numbered in the order of names.
const FEATURES: [(&str, &str); 9] = [
    ("a_double_1m", r#"{"op":"sum","params":{"expr":"(n + n)","window":"1m"}}"#),
    ("b_cnt_1h", r#"{"op":"count","params":{"window":"1h","where":"(n > 2)"}}"#),
    ("c_cnt", r#"{"op":"count","params":{}}"#),
    ("d_triple", r#"{"op":"sum","params":{"expr":"(n * 3)"}}"#),
    ("e_label_1m", r#"{"op":"max","params":{"field":"label","window":"1m"}}"#),
    ("f_uniq_1h", r#"{"op":"n_unique","params":{"field":"label","window":"1h"}}"#),
    ("g_last", r#"{"op":"last","params":{"field":"label","where":"(n > 2)"}}"#),
    ("h_sum_1h", r#"{"op":"sum","params":{"expr":"(amount + 1)","window":"1h","where":"(n > 2)"}}"#),
    ("i_ratio_1m", r#"{"op":"ratio","params":{"window":"1m","where":"(label == 'b')"}}"#),
];

fn registration(chosen: &[bool], force: bool) -> Json {
    let chosen = FEATURES.iter().zip(chosen).filter(|(_, chosen)| **chosen);
    let mut agg: Map<String, Json> = chosen.map(|((name, text), _)| ((*name).to_owned(), serde_json::from_str(text).unwrap())).collect();
    agg.insert("z_cnt_2s".into(), json!({ "op": "count", "params": { "window": "2s" } }));
    json!({ "nodes": [event(), node("T", &[], &["user"], &Json::Object(agg))], "force": force })
}

fn users() -> [Key; 3] {
    ["hot", "b", "a key that is longer than fifteen bytes"].map(|user| Key::from_slice(user.as_bytes()))
}

fn values(driven: &Driven, names: &[&str], now_us: i64) -> Vec<Option<Value>> {
    let users = users();
    let read = |key, name: &&str| driven.read("T", key, name, now_us).map(|reading| reading.value);
    users.iter().flat_map(|key| names.iter().map(move |name| read(key, name))).collect()
}

/// Names that both registrations have.
fn kept(before: &[bool], after: &[bool]) -> Vec<&'static str> {
    let pairs = FEATURES.iter().zip(before.iter().zip(after));
    pairs.filter(|(_, (before, after))| **before && **after).map(|((name, _), _)| *name).chain(["z_cnt_2s"]).collect()
}

fn choice() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), FEATURES.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn features_that_stay_keep_counting_while_others_come_and_go(first in choice(), second in choice(), third in choice(), rows in rows(240)) {
        let third_of = rows.len() / 3;
        let mut changed = Driven::with(&registration(&first, false));
        changed.feed(&rows[..third_of], &[]);
        changed.register(&registration(&second, true));
        changed.feed(&rows[third_of..2 * third_of], &[]);
        changed.register(&registration(&third, true));
        changed.settle();
        let mut restored = Driven { state: through_a_snapshot(&changed.state), log: Vec::new(), next_lsn: changed.next_lsn };
        prop_assert_eq!(restored.fingerprint(), changed.fingerprint());
        changed.feed(&rows[2 * third_of..], &[]);
        restored.feed(&rows[2 * third_of..], &[]);
        prop_assert_eq!(restored.fingerprint(), changed.fingerprint());

        let stayed: Vec<bool> = first.iter().zip(&second).map(|(first, second)| *first && *second).collect();
        let names = kept(&stayed, &third);
        let mut always = Driven::with(&registration(&third, false));
        always.feed(&rows, &[]);
        // Every window holds whole buckets of grown keys or rows of lists; a wait beyond all of them shows lifetimes only.
        for now_us in [newest_us(&rows), newest_us(&rows) + 7_200_000_000] {
            let lifetime: Vec<&str> = names.iter().copied().filter(|name| !name.contains("_1") && !name.contains("_2")).collect();
            prop_assert_eq!(values(&changed, &lifetime, now_us), values(&always, &lifetime, now_us));
            prop_assert_eq!(values(&restored, &names, now_us), values(&changed, &names, now_us));
        }
    }

    #[test]
    fn an_extension_changes_no_value_and_begins_with_the_next_row(first in choice(), second in choice(), rows in rows(200)) {
        let both: Vec<bool> = first.iter().zip(&second).map(|(first, second)| *first || *second).collect();
        let half = rows.len() / 2;
        let mut extended = Driven::with(&registration(&first, false));
        let mut untouched = Driven::with(&registration(&first, false));
        extended.feed(&rows[..half], &[]);
        untouched.feed(&rows[..half], &[]);
        extended.register(&registration(&both, false));
        let names = kept(&first, &both);
        let now_us = newest_us(&rows);
        prop_assert_eq!(values(&extended, &names, now_us), values(&untouched, &names, now_us));
        extended.feed(&rows[half..], &[]);
        untouched.feed(&rows[half..], &[]);
        prop_assert_eq!(values(&extended, &names, now_us), values(&untouched, &names, now_us));
    }
}

/// A feature over a field that the event has given up went away with it, but its table stayed: such a snapshot could not be read.
#[test]
fn a_snapshot_is_readable_after_a_feature_and_its_field_are_gone() {
    let row = |n: i64| Row {
        time_us: START_US + n,
        ahead_us: 0,
        delete: false,
        data: super::rows::FIELDS
            .iter()
            .map(|(name, _)| match *name {
                "user" => super::rows::Datum::Str("u".into()),
                "n" => super::rows::Datum::I64(n),
                _ => super::rows::Datum::Absent,
            })
            .collect(),
    };
    let agg = |more: bool| {
        let mut agg = json!({ "cnt": { "op": "count", "params": {} } });
        if more {
            agg["gone"] = json!({ "op": "last", "params": { "field": "label" } });
        }
        agg
    };
    let mut driven = Driven::with(&json!({ "nodes": [event(), node("T", &[], &["user"], &agg(true))] }));
    driven.feed(&[row(1), row(2)], &[]);
    let mut smaller = event();
    smaller["schema"]["fields"].as_object_mut().unwrap().remove("label");
    smaller["schema"]["optional_fields"].as_array_mut().unwrap().retain(|name| name != "label");
    driven.register(&json!({ "nodes": [smaller, node("T", &[], &["user"], &agg(false))], "force": true }));
    driven.settle();
    let restored = through_a_snapshot(&driven.state);
    assert_eq!(restored.fingerprint(), driven.fingerprint());
    let restored = Driven { state: restored, log: Vec::new(), next_lsn: driven.next_lsn };
    assert_eq!(restored.read("T", &Key::from_slice(b"u"), "cnt", START_US).unwrap().value, Value::I64(2));
}

/// Tables of the log that is changed: one by user, one by region.
fn tables(more: impl FnOnce(&mut Vec<Json>)) -> Json {
    let agg = json!({
        "cnt": { "op": "count", "params": {} },
        "cnt_1h": { "op": "count", "params": { "window": "1h" } },
        "sum_n": { "op": "sum", "params": { "field": "n", "window": "1h" } },
        "large": { "op": "count", "params": { "where": "(n > 2)" } },
        "label": { "op": "last", "params": { "field": "label" } },
    });
    let by_region =
        json!({ "cnt": { "op": "count", "params": {} }, "max": { "op": "max", "params": { "field": "amount", "window": "1m" } } });
    let mut nodes = vec![event(), node("T", &[], &["user"], &agg), node("R", &[], &["region"], &by_region)];
    more(&mut nodes);
    json!({ "nodes": nodes, "force": true, "prune": false })
}

fn agg(nodes: &mut [Json]) -> &mut Json {
    &mut nodes[1]["ops"][0]["agg"]
}

/// What may happen to definitions, by name, and the features of `T` that go on as if nothing had.
fn changes() -> Vec<(&'static str, Json, &'static [&'static str])> {
    const ALL: &[&str] = &["cnt", "cnt_1h", "sum_n", "large", "label"];
    let rename = |nodes: &mut Vec<Json>| {
        nodes[1]["name"] = json!("U");
        nodes[1]["renamed_from"] = json!("T");
    };
    vec![
        ("rename", tables(rename), ALL),
        (
            "rename a chain, with a feature more",
            tables(|nodes| {
                rename(nodes);
                agg(nodes)["more"] = json!({ "op": "sum", "params": { "field": "amount" } });
                nodes[2]["name"] = json!("T");
                nodes[2]["renamed_from"] = json!("R");
            }),
            ALL,
        ),
        ("retype", tables(|nodes| nodes[0]["schema"]["fields"]["n"] = json!("f64")), &["cnt", "cnt_1h", "label"]),
        ("retype a key", tables(|nodes| nodes[0]["schema"]["fields"]["region"] = json!("datetime")), ALL),
        (
            "another resolution",
            tables(|nodes| agg(nodes)["cnt_1h"]["params"]["resolution"] = json!(16)),
            &["cnt", "sum_n", "large", "label"],
        ),
        ("a feature less", tables(|nodes| drop(agg(nodes).as_object_mut().unwrap().remove("sum_n"))), &["cnt", "cnt_1h", "large", "label"]),
        ("another filter", tables(|nodes| agg(nodes)["large"]["params"]["where"] = json!("(n > 3)")), &["cnt", "cnt_1h", "sum_n", "label"]),
        (
            "another key",
            tables(|nodes| {
                nodes[1]["ops"][0]["keys"] = json!(["region"]);
                nodes[1]["table_primary_key"] = json!(["region"]);
            }),
            &[],
        ),
    ]
}

/// The state after some frames, as recovery comes to it.
fn replayed(driven: &Driven, frames: std::ops::Range<usize>, from: State) -> State {
    driven.log[frames].iter().fold(from, |mut state, (content, first_lsn, now_us)| {
        state.apply(&through_a_frame(content, *first_lsn, *now_us), *first_lsn, *now_us);
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn a_change_at_every_position_of_a_log_replays_to_the_same_state(rows in rows(9)) {
        let keep = |names: &[&str], driven: &Driven, table: &str| {
            let read = |key: &Key, name: &&str| driven.read(table, key, name, newest_us(&rows)).map(|reading| reading.value);
            users().iter().flat_map(|key| names.iter().map(|name| read(key, name)).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let each: Vec<usize> = (1..rows.len()).collect();
        let mut unchanged = Driven::with(&tables(|_| {}));
        unchanged.feed(&rows, &each);
        for (name, change, kept) in changes() {
            for at in 0..=rows.len() {
                let mut driven = Driven::with(&tables(|_| {}));
                driven.feed(&rows[..at], &each);
                driven.register(&change);
                driven.feed(&rows[at..], &each);
                let table = if name.starts_with("rename") { "U" } else { "T" };
                prop_assert_eq!(keep(kept, &driven, table), keep(kept, &unchanged, "T"), "{} at {}", name, at);
                let event = driven.state.registry().event("Tx").unwrap().schema.id;
                prop_assert_eq!(driven.state.applied_rows(event), Some(rows.len() as u64));
                let frames = driven.log.len();
                let mut before = State::new(HASH_SEED);
                for cut in 0..=frames {
                    before = replayed(&driven, cut.saturating_sub(1)..cut, before);
                    // A snapshot is dear: each is taken with every other place of the change, and always right before and after it.
                    if cut % 3 != at % 3 && !(at + 1..=at + 2).contains(&cut) && cut < frames {
                        continue;
                    }
                    settle(&mut before);
                    let after = replayed(&driven, cut..frames, through_a_snapshot(&before));
                    prop_assert_eq!(after.fingerprint(), driven.fingerprint(), "{} at {}, a snapshot at {}", name, at, cut);
                }
            }
        }
    }
}

#[test]
fn rows_are_counted_for_events_in_force_and_begin_anew_with_the_event() {
    let row = |n: i64| Row {
        time_us: START_US + n,
        ahead_us: 0,
        delete: false,
        data: super::rows::FIELDS.map(|_| super::rows::Datum::Absent).to_vec(),
    };
    let mut driven = Driven::with(&json!({ "nodes": [event()] }));
    let applied = |driven: &Driven| {
        let id = driven.state.registry().event("Tx").map(|event| event.schema.id)?;
        driven.state.applied_rows(id)
    };
    assert_eq!((applied(&driven), driven.state.unfed().len()), (Some(0), 1));
    // Whether a table takes them or not.
    driven.feed(&[row(1), row(2)], &[1]);
    assert_eq!((applied(&driven), driven.state.unfed().len()), (Some(2), 0));
    let late = driven.pack(&[row(3)]);
    driven.register(&json!({ "nodes": [], "remove": ["Tx"] }));
    driven.apply(late, START_US);
    assert_eq!((applied(&driven), driven.state.unfed().len()), (None, 0));
    driven.register(&json!({ "nodes": [event()] }));
    assert_eq!(applied(&driven), Some(0));
    driven.feed(&[row(4)], &[]);
    assert_eq!(through_a_snapshot(&driven.state).unfed(), []);
    driven.apply(crate::state::Content::Reset, START_US);
    assert_eq!((applied(&driven), driven.state.unfed().len()), (None, 0));
    let restored = replayed(&driven, 0..driven.log.len(), State::new(HASH_SEED));
    assert_eq!(restored.fingerprint(), driven.fingerprint());
}

#[test]
fn a_feature_that_begins_later_answers_of_no_time_before_it() {
    let row = |seconds: i64, ahead_us: i64| Row {
        time_us: START_US + seconds * 1_000_000 + ahead_us,
        ahead_us,
        delete: false,
        data: super::rows::FIELDS
            .iter()
            .map(|(name, _)| if *name == "user" { super::rows::Datum::Str("u".into()) } else { super::rows::Datum::Absent })
            .collect(),
    };
    let agg = |more: bool| {
        let mut agg = json!({ "before_1m": { "op": "count", "params": { "window": "1m" } } });
        if more {
            agg["cnt"] = json!({ "op": "count", "params": {} });
            agg["cnt_1m"] = json!({ "op": "count", "params": { "window": "1m" } });
        }
        json!({ "nodes": [event(), node("T", &[], &["user"], &agg)] })
    };
    let mut driven = Driven::with(&agg(false));
    // The second row is of a fast clock: a window is open for as long as it may be inside, but no read waits for its time.
    driven.feed(&[row(0, 0), row(50, 30_000_000)], &[]);
    driven.register(&agg(true));
    driven.feed(&[row(55, 0)], &[]);
    let restored = Driven { state: through_a_snapshot(&driven.state), log: Vec::new(), next_lsn: driven.next_lsn };
    let key = Key::from_slice(b"u");
    for driven in [&driven, &restored] {
        let exact = |feature: &str, seconds: i64| {
            let reading = driven.read("T", &key, feature, START_US + seconds * 1_000_000).unwrap();
            reading.accuracy == crate::operators::Accuracy::Exact
        };
        assert_eq!(driven.earliest_us("T", &key, "cnt_1m"), Some(START_US + 50_000_000));
        assert_eq!(driven.earliest_us("T", &key, "cnt"), Some(START_US + 50_000_000));
        assert_eq!(driven.earliest_us("T", &key, "before_1m"), None);
        assert!(exact("before_1m", 55) && exact("before_1m", 200));
        assert!(!exact("cnt_1m", 55) && !exact("cnt_1m", 139) && exact("cnt_1m", 140));
        assert!(!exact("cnt", 55) && !exact("cnt", 100_000), "a lifetime reaches back for ever");
    }
}
