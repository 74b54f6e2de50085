//! What is forgotten gives its memory back: deleted keys, expired rows, dropped features.

use super::pipeline::{payload, tables};
use super::rows::{Datum, Row, START_US, newest_us, rows, split};
use super::{Driven, State};
use crate::state::Table;
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashMap;

/// One delete row for every key of every table that `rows` made.
fn deletes(rows: &[Row]) -> Vec<Row> {
    rows.iter().map(|row| Row { delete: true, ..row.clone() }).collect()
}

/// What every chunk that anybody holds takes, counted one by one, with the index and the lists of frozen copies.
fn walked(states: &[&State]) -> usize {
    let tables = || states.iter().flat_map(|state| state.tables());
    let chunks: HashMap<usize, usize> = tables().flat_map(Table::chunks).map(|chunk| (chunk.identity(), chunk.bytes())).collect();
    chunks.values().sum::<usize>() + tables().map(Table::bytes_besides_chunks).sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn deleting_every_key_gives_every_object_back(rows in rows(300)) {
        let mut driven = Driven::with(&payload(&tables()));
        driven.feed(&rows, &[]);
        driven.feed(&deletes(&rows), &[100]);
        for name in ["ByUser", "ByPlace", "ByDouble"] {
            let table = driven.state.table(name).unwrap();
            prop_assert_eq!((table.len(), table.used_bytes()), (0, 0), "{}", name);
        }
        // Keys that come back begin anew, in the row numbers of those that left.
        let numbers: Vec<u32> = driven.state.tables().map(|table| table.keys.rows()).collect();
        let kept: Vec<Row> = rows.iter().filter(|row| !row.delete).cloned().collect();
        driven.feed(&kept, &[]);
        let mut fresh = Driven::with(&payload(&tables()));
        fresh.feed(&kept, &[]);
        for ((table, fresh), before) in driven.state.tables().zip(fresh.state.tables()).zip(numbers) {
            prop_assert!(table.keys.rows() <= before.max(fresh.keys.rows()), "{} hands out row numbers while it has free ones", table.def().name);
        }
    }

    #[test]
    fn accounted_bytes_are_those_of_every_chunk_that_somebody_holds(
        rows in rows(300), ends in proptest::collection::vec(0usize..300, 0..8), forget in any::<bool>(),
    ) {
        let mut driven = Driven::with(&payload(&tables()));
        let mut frozen = Vec::new();
        for (step, batch) in split(&rows, &ends).into_iter().enumerate() {
            driven.feed(batch, &[]);
            if step % 2 == 0 {
                frozen.push(driven.state.freeze());
            }
            if step % 3 == 2 {
                driven.feed(&deletes(batch), &[]);
                frozen.remove(0);
            }
            let states: Vec<&State> = frozen.iter().chain([&driven.state]).collect();
            prop_assert_eq!(driven.state.bytes(), walked(&states));
            let by_table: usize = driven.state.tables().map(Table::bytes).sum();
            prop_assert_eq!(driven.state.bytes(), by_table);
        }
        // Dropped elsewhere, as by the snapshot thread.
        std::thread::spawn(move || drop(frozen)).join().unwrap();
        prop_assert_eq!(driven.state.bytes(), walked(&[&driven.state]));
        if forget {
            let account = driven.state.account.clone();
            drop(driven);
            prop_assert_eq!(account.bytes(), 0);
        }
    }

    #[test]
    fn a_ring_holds_at_most_its_buckets_however_long_it_is_fed(rows in rows(300)) {
        let mut driven = Driven::with(&payload(&tables()));
        let mut sizes = Vec::new();
        for round in 0..6i64 {
            let shift = round * (newest_us(&rows) - START_US + 7_200_000_000);
            let later: Vec<Row> = rows.iter().filter(|row| !row.delete).map(|row| Row { time_us: row.time_us + shift, ..row.clone() }).collect();
            driven.feed(&later, &[]);
            sizes.push(driven.state.table("ByUser").unwrap().used_bytes());
        }
        // Rings of the later rounds hold what one round needs; the first round may still be lists.
        prop_assert!(sizes[5] <= sizes[2] + sizes[2] / 2 + 4096, "{:?}", sizes);
    }
}

#[test]
fn a_delete_forgets_its_key_wherever_the_key_is_read_from() {
    let mut driven = Driven::with(&payload(&tables()));
    let row = |n: i64, delete: bool| Row {
        time_us: START_US,
        ahead_us: 0,
        delete,
        data: vec![
            Datum::Str("u".into()),
            Datum::Null,
            Datum::Null,
            Datum::Null,
            if delete { Datum::Absent } else { Datum::F64(50.0) },
            Datum::I64(n),
            Datum::Null,
            Datum::Null,
        ],
    };
    driven.feed(&[row(1, false), row(2, false), row(1, true)], &[]);
    // The key of ByDouble is computed by the chain, and its filter wants an amount that a delete does not have.
    let table = driven.state.table("ByDouble").unwrap();
    assert!(table.find(b"1").is_none() && table.find(b"2").is_some());
    // A table without key columns has nothing that a key could name.
    assert_eq!(driven.state.table("Everything").unwrap().len(), 1);
}

#[test]
fn dropped_features_give_their_objects_back_and_leave_the_others_alone() {
    let agg = |names: &[&str]| {
        let all = json!({
            "cnt_1m": { "op": "count", "params": { "window": "1m" } },
            "label_1m": { "op": "max", "params": { "field": "label", "window": "1m" } },
            "last_label": { "op": "last", "params": { "field": "label" } },
            "uniq_1h": { "op": "n_unique", "params": { "field": "label", "window": "1h" } },
        });
        let kept = all.as_object().unwrap().iter().filter(|(name, _)| names.contains(&name.as_str()));
        json!({ "nodes": [super::pipeline::event(), super::pipeline::node("T", &[], &["user"], &kept.map(|(name, node)| (name.clone(), node.clone())).collect())], "force": true })
    };
    for count in [40i64, 200] {
        let rows: Vec<Row> = (0..count)
            .map(|index| Row {
                time_us: START_US + index * 100_000,
                ahead_us: 0,
                delete: false,
                data: vec![
                    Datum::Str("u".into()),
                    Datum::Null,
                    Datum::Null,
                    Datum::Null,
                    Datum::Null,
                    Datum::Null,
                    Datum::Str(format!("label number {index}")),
                    Datum::Null,
                ],
            })
            .collect();
        let mut driven = Driven::with(&agg(&["cnt_1m", "label_1m", "last_label", "uniq_1h"]));
        driven.feed(&rows, &[]);
        driven.register(&agg(&["cnt_1m"]));
        let mut plain = Driven::with(&agg(&["cnt_1m"]));
        plain.feed(&rows, &[]);
        let used = |driven: &Driven| driven.state.table("T").unwrap().used_bytes();
        // A list keeps the rows of the longer window until it needs room.
        assert!(used(&driven) <= used(&plain) + 1600, "{count} rows: {} for {}", used(&driven), used(&plain));
        driven.feed(&rows, &[]);
        plain.feed(&rows, &[]);
        let read = |driven: &Driven| driven.read("T", &crate::row::Key::from_slice(b"u"), "cnt_1m", newest_us(&rows)).unwrap().value;
        assert_eq!(read(&driven), read(&plain));
    }
}
