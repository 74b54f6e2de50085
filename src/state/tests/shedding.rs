//! What left the definitions is given back in steps, and how far that is shows in memory alone.

use super::memory::{COPIES, check_growth, deletes, labelled, walked};
use super::pipeline::{event, node};
use super::replay::{through_a_frame, through_a_snapshot};
use super::rows::{Row, START_US, newest_us, rows};
use super::{Driven, HASH_SEED};
use crate::row::Key;
use crate::state::{Arena, Content, FROZEN_SHARE, Shed, State, Sweep, Table};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

const FEATURES: [(&str, &str); 10] = [
    ("a_cnt", r#"{"op":"count","params":{}}"#),
    ("b_cnt_1h", r#"{"op":"count","params":{"window":"1h","where":"(n > 2)"}}"#),
    ("c_label_1m", r#"{"op":"max","params":{"field":"label","window":"1m"}}"#),
    ("d_sum", r#"{"op":"sum","params":{"expr":"(n * 3)"}}"#),
    ("e_uniq_1h", r#"{"op":"n_unique","params":{"field":"label","window":"1h"}}"#),
    ("f_last", r#"{"op":"last","params":{"field":"label","where":"(n > 2)"}}"#),
    ("g_mean_1h", r#"{"op":"mean","params":{"field":"amount","window":"1h"}}"#),
    ("h_sum_1h", r#"{"op":"sum","params":{"field":"amount","window":"1h"}}"#),
    ("i_top", r#"{"op":"top_k","params":{"field":"label","k":2}}"#),
    ("j_cnt_2s", r#"{"op":"count","params":{"window":"2s","resolution":16}}"#),
];

/// Two tables with these features: one of few keys with many rows, one of many keys.
fn registration(chosen: &[bool]) -> Json {
    let chosen: Vec<_> = FEATURES.iter().zip(chosen).filter(|(_, chosen)| **chosen).collect();
    let agg: Map<String, Json> = chosen.iter().map(|((name, text), _)| ((*name).to_owned(), serde_json::from_str(text).unwrap())).collect();
    let agg = if agg.is_empty() { json!({ "z": { "op": "count", "params": {} } }) } else { Json::Object(agg) };
    json!({ "nodes": [event(), node("T", &[], &["user"], &agg), node("U", &[], &["user", "n"], &agg)], "force": true })
}

/// What happens to a state.
#[derive(Debug, Clone)]
enum Action {
    Feed(usize),
    Delete(usize),
    Sweep(i64),
    Register(Vec<bool>),
    /// Steps of so many rows: they and what follows are of one of the two states alone.
    Shed(u32),
    Evacuate(u32),
    Freeze,
    Snapshot,
    Replay,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let choice = || prop::collection::vec(any::<bool>(), FEATURES.len());
    let action = prop_oneof![
        4 => (1usize..60).prop_map(Action::Feed),
        1 => (1usize..30).prop_map(Action::Delete),
        1 => (0i64..8_000).prop_map(Action::Sweep),
        2 => choice().prop_map(Action::Register),
        5 => (1u32..40).prop_map(Action::Shed),
        1 => (1u32..60).prop_map(Action::Evacuate),
        1 => Just(Action::Freeze),
        1 => Just(Action::Snapshot),
        1 => Just(Action::Replay),
    ];
    prop::collection::vec(action, 1..24)
}

/// Everything that readers are told of every key, at several times.
fn answers(state: &State, now_us: i64) -> Vec<(Key, String)> {
    let of = |table: &Table| {
        let (places, (numbers, _)) = (table.feature_places(), table.keys_from(0, usize::MAX));
        let row = |number: &u32| {
            let told = [now_us, now_us - 1_500_000, now_us - 3_000_000_000].map(|at_us| {
                let readings = table.readings(*number, &places, at_us, true, &mut Arena::default());
                readings.iter().map(|reading| format!("{reading:?}")).collect::<Vec<_>>()
            });
            let earliest: Vec<_> = places.iter().map(|place| table.earliest_us(*number, &[*place])).collect();
            (table.key_bytes(*number).unwrap(), format!("{told:?} {earliest:?}"))
        };
        let mut rows: Vec<_> = numbers.iter().map(row).collect();
        rows.sort();
        rows
    };
    state.tables().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn steps_do_not_show(first in prop::collection::vec(any::<bool>(), FEATURES.len()), rows in rows(500), actions in actions()) {
        let mut stepped = Driven::with(&registration(&first));
        let mut at_once = Driven::with(&registration(&first));
        let third = rows.len() / 3;
        for driven in [&mut stepped, &mut at_once] {
            driven.feed(&rows[..third], &[]);
        }
        let mut ahead = third;
        for action in actions {
            match action.clone() {
                Action::Feed(count) => {
                    let batch = &rows[ahead..(ahead + count).min(rows.len())];
                    ahead += batch.len();
                    check_growth(&mut stepped, batch, COPIES)?;
                    at_once.feed(batch, &[]);
                }
                Action::Delete(count) => {
                    let gone = deletes(&rows[ahead.saturating_sub(count)..ahead]);
                    stepped.feed(&gone, &[]);
                    at_once.feed(&gone, &[]);
                }
                Action::Sweep(seconds) => {
                    let sweeps: Vec<Sweep> = at_once.state.tables().map(|table| {
                        let keys = (0..table.keys.rows()).filter_map(|row| table.key_bytes(row)).collect();
                        Sweep { table: table.def().id, keys }
                    }).collect();
                    let bytes = stepped.state.bytes();
                    stepped.state.account.take_peak();
                    for sweep in sweeps {
                        for driven in [&mut stepped, &mut at_once] {
                            driven.apply(Content::Sweep(sweep.clone()), newest_us(&rows[..ahead]) + seconds * 1_000_000);
                        }
                    }
                    prop_assert!(stepped.state.account.take_peak() <= bytes, "a sweep took memory");
                }
                Action::Register(chosen) => {
                    stepped.register(&registration(&chosen));
                    at_once.register(&registration(&chosen));
                    at_once.settle();
                }
                Action::Shed(rows) => drop(stepped.state.shed(rows, true)),
                Action::Evacuate(rows) => drop(stepped.state.evacuate(rows, 1)),
                Action::Freeze => {
                    let frozen = stepped.state.freeze().unwrap();
                    stepped.state.shed(9, true);
                    prop_assert_eq!(frozen.fingerprint(), Ok(at_once.fingerprint()));
                }
                Action::Snapshot => {
                    stepped.settle();
                    stepped.state = through_a_snapshot(&stepped.state);
                }
                Action::Replay => {
                    stepped.state = stepped.log.iter().fold(State::new(HASH_SEED), |mut state, (content, first_lsn, now_us)| {
                        assert_eq!(state.accepts(content, *first_lsn, *now_us), Ok(()));
                        state.apply(&through_a_frame(content, *first_lsn, *now_us), *first_lsn, *now_us);
                        state
                    });
                }
            }
            prop_assert_eq!(stepped.fingerprint(), at_once.fingerprint(), "after {:?}", action);
            let now_us = newest_us(&rows[..ahead.max(1).min(rows.len())]);
            let (told, expected) = (answers(&stepped.state, now_us), answers(&at_once.state, now_us));
            prop_assert_eq!(told.len(), expected.len());
            for (told, expected) in told.iter().zip(&expected) {
                prop_assert_eq!(told, expected, "after {:?}", action);
            }
            prop_assert_eq!(stepped.state.live_bytes(), walked(&stepped.state, &[]) + stepped.state.leaving_bytes());
        }
        stepped.settle();
        prop_assert!(!stepped.state.is_shedding());
        prop_assert_eq!(stepped.fingerprint(), at_once.fingerprint());
        let used = |driven: &Driven| driven.state.tables().map(Table::used_bytes).collect::<Vec<_>>();
        prop_assert_eq!(used(&stepped), used(&at_once), "the same objects");
        let restored = through_a_snapshot(&stepped.state);
        prop_assert_eq!(restored.fingerprint(), at_once.fingerprint());
    }
}

/// Counts, texts and sketches of many keys, and what stays of them.
fn many(keys: usize, chosen: &[&str]) -> (Driven, Json) {
    let chosen: Vec<bool> = FEATURES.iter().map(|(name, _)| chosen.contains(name)).collect();
    let mut driven = Driven::with(&registration(&FEATURES.map(|_| true)));
    let user = |number: usize| format!("user number {}", number * 7919 % keys);
    let row = |number: usize| labelled(&user(number), &format!("label {}", number % 91), START_US + number as i64 * 1000);
    let rows: Vec<Row> = (0..keys * 3).map(row).collect();
    driven.feed(&rows, &[]);
    (driven, registration(&chosen))
}

/// Every row was rewritten by the registration itself.
#[test]
fn a_registration_touches_no_row_and_a_step_no_more_than_it_is_told() {
    const KEYS: usize = 5_000;
    let (mut driven, fewer) = many(KEYS, &["a_cnt", "c_label_1m", "f_last"]);
    driven.register(&fewer);
    assert_eq!(driven.state.shedding_rows(), KEYS);
    let (mut steps, mut before) = (0, KEYS);
    loop {
        let shed = driven.state.shed(32, false);
        assert!(before - driven.state.shedding_rows() <= 32);
        (steps, before) = (steps + 1, driven.state.shedding_rows());
        if shed == Shed::Over {
            break;
        }
        assert_eq!(shed, Shed::More);
    }
    assert!(steps > KEYS / 32, "{steps} steps");
}

#[test]
fn what_features_leave_behind_comes_back_within_the_limit_of_memory() {
    let kept = ["a_cnt", "c_label_1m"];
    let (mut driven, fewer) = many(6_000, &kept);
    let full = driven.state.bytes();
    // As full as rows may make it.
    let limit = full * FROZEN_SHARE / (FROZEN_SHARE - 1);
    driven.state.set_memory_limit(limit);
    driven.register(&fewer);
    driven.state.account.take_peak();
    let mut emptied = 0;
    loop {
        match driven.state.shed(32, false) {
            Shed::More => {}
            Shed::NoRoom => {
                assert!(driven.state.sparse_bytes() > limit / 256, "there is no room, and nothing is sparse");
                while driven.state.evacuate(64, 1) {}
                emptied += 1;
            }
            Shed::Over => break,
        }
    }
    while driven.state.evacuate(64, 1) {}
    assert!(driven.state.account.take_peak() <= limit, "a step led beyond the limit");
    assert!(emptied < 60, "sparse chunks were emptied {emptied} times");
    let mut plain = Driven::with(&registration(&FEATURES.map(|(name, _)| kept.contains(&name))));
    plain.feed(
        &(0..6_000 * 3)
            .map(|number| {
                let user = format!("user number {}", number * 7919 % 6_000);
                labelled(&user, &format!("label {}", number % 91), START_US + number as i64 * 1000)
            })
            .collect::<Vec<_>>(),
        &[],
    );
    // A chunk of each size class may be half full.
    let (now, most) = (driven.state.live_bytes(), plain.state.live_bytes() + 40 * (17 << 10));
    assert!(now <= most && now < full * 2 / 3, "{now} bytes of {full}, {most} at most");
}

#[test]
fn slabs_and_tables_that_go_whole_are_given_back_chunk_by_chunk() {
    let (mut driven, _) = many(3_000, &[]);
    let everything = driven.state.bytes();
    driven.register(&json!({ "nodes": [], "remove": ["T", "U"] }));
    assert!(driven.state.is_shedding() && driven.state.is_writable());
    let (mut steps, mut before) = (0, driven.state.bytes());
    assert!(before > everything / 2, "{before} bytes of {everything}");
    while driven.state.shed(4, false) == Shed::More {
        let now = driven.state.bytes();
        // Chunks, or parts of the index, the list of which goes with the last one.
        assert!(now <= before && before - now <= 4 * (17 << 10) + (9 << 10), "{} bytes in one step", before - now);
        (steps, before) = (steps + 1, now);
    }
    assert!(steps > 10 && driven.state.bytes() == 0, "{steps} steps, {} bytes", driven.state.bytes());
    // A feature of a slab of its own.
    let (mut driven, _) = many(3_000, &[]);
    let more = |name: &str| {
        json!({ "nodes": [event(), node("T", &[], &["user"], &json!({
        "a_cnt": { "op": "count", "params": {} }, name: { "op": "count", "params": { "where": "(n > 7)" } },
    }))], "force": true })
    };
    driven.register(&more("more"));
    driven.settle();
    driven.feed(&[labelled("user number 7", "", START_US)], &[]);
    driven.register(&more("others"));
    assert!(driven.state.is_shedding());
    driven.settle();
}

/// Nothing moves into row numbers whose chunks there is no room for: the walk over the table began anew for ever.
#[test]
fn emptying_sparse_chunks_ends_though_memory_is_above_its_limit() {
    const KEYS: usize = 9_000;
    let (mut driven, _) = many(KEYS, &[]);
    // A slab that the first keys have no row in.
    let mut agg: Map<String, Json> =
        FEATURES.iter().map(|(name, text)| ((*name).to_owned(), serde_json::from_str(text).unwrap())).collect();
    agg.insert("later".to_owned(), json!({"op": "count", "params": {"where": "(n > 7)", "window": "1h"}}));
    driven.register(&json!({ "nodes": [event(), node("T", &[], &["user"], &Json::Object(agg))] }));
    let row = |number: usize, at: i64| labelled(&format!("user number {}", number * 7919 % KEYS), "", START_US + at);
    driven.feed(&(KEYS / 2..KEYS).map(|number| row(number, 1 << 40)).collect::<Vec<_>>(), &[]);
    driven.feed(&deletes(&(0..KEYS / 2).map(|number| row(number, 0)).collect::<Vec<_>>()), &[]);
    let before = driven.state.bytes();
    driven.state.set_memory_limit(before / 2);
    let (worth, mut steps) = (before / 256, 0);
    while driven.state.evacuate(64, worth) {
        steps += 1;
        assert!(steps < 20 * KEYS / 64, "{steps} steps, {} bytes are sparse", driven.state.sparse_bytes());
    }
    assert!(driven.state.bytes() < before, "{} bytes after {before}", driven.state.bytes());
}
