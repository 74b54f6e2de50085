//! Changed definitions touch what they name and nothing else, live and after a snapshot.

use super::Driven;
use super::pipeline::{event, node};
use super::replay::through_a_snapshot;
use super::rows::{Row, START_US, newest_us, rows};
use crate::row::Key;
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
    let restored = through_a_snapshot(&driven.state);
    assert_eq!(restored.freeze().fingerprint(), driven.fingerprint());
    let restored = Driven { state: restored, log: Vec::new(), next_lsn: driven.next_lsn };
    assert_eq!(restored.read("T", &Key::from_slice(b"u"), "cnt", START_US).unwrap().value, Value::I64(2));
}
