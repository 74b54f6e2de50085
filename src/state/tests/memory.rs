//! What is forgotten gives its memory back: deleted keys, expired rows, dropped features.

use super::pipeline::{payload, tables};
use super::rows::{Datum, Row, START_US, ends, newest_us, rows, split};
use super::{Driven, State};
use crate::row::{EventSchema, Rows};
use crate::state::{Content, FROZEN_SHARE, Frozen, Lacking, Numbers, RowsContent, Table};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// One delete row for every key of every table that `rows` made.
pub(super) fn deletes(rows: &[Row]) -> Vec<Row> {
    rows.iter().map(|row| Row { delete: true, ..row.clone() }).collect()
}

/// What every chunk that anybody holds takes, counted one by one, with the index and what frozen states hold besides.
pub(super) fn walked(state: &State, frozen: &[Arc<Frozen>]) -> usize {
    type Chunks = HashMap<usize, usize>;
    fn add<'t>(tables: impl Iterator<Item = &'t Table>, chunks: &mut Chunks) -> usize {
        let mut besides = 0;
        for table in tables {
            chunks.extend(table.chunks().map(|chunk| (chunk.identity(), chunk.bytes())));
            besides += table.bytes_besides_chunks();
        }
        besides
    }
    let mut chunks = Chunks::new();
    let mut besides = add(state.tables(), &mut chunks);
    for frozen in frozen {
        besides += frozen.look(|tables| add(tables.values(), &mut chunks)).unwrap() + frozen.copy_bytes();
    }
    chunks.values().sum::<usize>() + besides
}

/// What the tables of these tests hold before they have a row: their empty indexes.
const EMPTY_BYTES: usize = 60_000;

/// Bytes that copies of keys may take where nothing else is said.
pub(super) const COPIES: usize = 2 << 20;

fn batches(driven: &Driven, rows: &[Row]) -> Vec<Rows> {
    let Content::Rows(content) = driven.pack(rows) else { unreachable!("packed rows are rows") };
    content.batches
}

/// Whether a row is among those that lack room in some table.
fn lacks(lacking: &[Lacking], batch: usize, row: usize) -> bool {
    let of_batch = lacking.iter().filter(|lacking| lacking.batch == batch);
    of_batch.flat_map(|lacking| lacking.known.iter().chain(&lacking.new)).any(|lacks| *lacks as usize == row)
}

fn without(schema: &EventSchema, batches: &[Rows], lacking: &[Lacking]) -> Content {
    let kept = batches.iter().enumerate().map(|(number, batch)| batch.keep(schema, |row| !lacks(lacking, number, row)));
    Content::Rows(RowsContent { batches: kept.filter(|batch| !batch.is_empty()).collect(), ..RowsContent::default() })
}

/// Applies rows and checks what was said of their growth: by bytes, and object by object.
pub(super) fn check_growth(driven: &mut Driven, rows: &[Row], copies: usize) -> Result<(), TestCaseError> {
    let batches = batches(driven, rows);
    let (said, tallies) = driven.state.growth_of_rows(&batches, copies);
    let begun: Vec<Vec<usize>> =
        driven.state.tables.values_mut().flat_map(|table| &mut table.slabs).map(|slab| slab.arena.begin()).collect();
    let mut begun = begun.iter();
    let most = driven.state.growth_bytes(&Numbers::of(&batches));
    let [bound, exact] = [false, true].map(|exact| weigh(&driven.state, &batches, exact));
    let (before, _) = (driven.state.bytes(), driven.state.account.take_peak());
    driven.apply(Content::Rows(RowsContent { batches, ..RowsContent::default() }), START_US);
    let grown = driven.state.account.take_peak() - before;
    prop_assert!(grown <= most, "{} bytes, {} at most", grown, most);
    prop_assert!(grown <= bound, "{} bytes, key by key at most {}", grown, bound);
    prop_assert!(grown <= exact, "{} bytes, key by key {}", grown, exact);
    prop_assert!(grown <= said, "{} bytes, {} were said for {} rows", grown, said, rows.len());
    for (id, table) in &driven.state.tables {
        for (number, slab) in table.slabs.iter().enumerate() {
            let (more, name) = (slab.arena.exceeding(begun.next().unwrap()), &table.def.name);
            let tally = tallies.get(id).map(|tallies| tallies[number].clone()).unwrap_or_default();
            prop_assert!(tally.covers(&more), "{}: objects of classes {:?}, said were {:?}", name, more, tally);
        }
    }
    Ok(())
}

/// What rows take in all, key by key; looked at in steps of whatever size.
fn weigh(state: &State, batches: &[Rows], exact: bool) -> usize {
    let mut weighing = state.weigh(batches, exact);
    let mut step = 1;
    while !weighing.go_on(state, batches, &[], &mut { step }) {
        step = step * 3 % 101;
    }
    weighing.bytes()
}

/// A row of a user with a label.
pub(super) fn labelled(user: &str, label: &str, time_us: i64) -> Row {
    let mut data = vec![Datum::Null; 8];
    (data[0], data[6]) = (Datum::Str(user.into()), Datum::Str(label.into()));
    Row { time_us, ahead_us: 0, delete: false, data }
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
                frozen.push(driven.state.freeze().unwrap());
            }
            if step % 3 == 2 {
                driven.feed(&deletes(batch), &[]);
                frozen.remove(0);
            }
            prop_assert_eq!(driven.state.bytes(), walked(&driven.state, &frozen));
            prop_assert_eq!(driven.state.live_bytes(), walked(&driven.state, &[]));
            let by_table: usize = driven.state.tables().map(Table::bytes).sum();
            let copies: usize = frozen.iter().map(|frozen| frozen.copy_bytes()).sum();
            prop_assert_eq!(driven.state.bytes(), by_table + copies);
        }
        // Dropped elsewhere, as by the snapshot thread.
        std::thread::spawn(move || drop(frozen)).join().unwrap();
        prop_assert_eq!(driven.state.bytes(), walked(&driven.state, &[]));
        prop_assert_eq!(driven.state.live_bytes(), driven.state.bytes());
        if forget {
            let account = driven.state.account.clone();
            drop(driven);
            prop_assert_eq!(account.bytes(), 0);
        }
    }

    #[test]
    fn rows_take_no_more_than_was_said_before_they_were_applied(rows in rows(400), ends in ends()) {
        let mut driven = Driven::with(&payload(&tables()));
        for batch in split(&rows, &ends) {
            check_growth(&mut driven, batch, COPIES)?;
        }
    }

    #[test]
    fn keys_that_become_rings_take_no_more_than_was_said(
        seed in any::<u64>(), batch in prop_oneof![1usize..7, Just(100), Just(1200)], copies in prop_oneof![Just(0), Just(COPIES)],
    ) {
        let agg = json!({
            "cnt_1m": { "op": "count", "params": { "window": "1m" } },
            "label_1m": { "op": "max", "params": { "field": "label", "window": "1m" } },
            "last_label": { "op": "last", "params": { "field": "label" } },
            "uniq_1h": { "op": "n_unique", "params": { "field": "label", "window": "1h" } },
            "top_1h": { "op": "top_k", "params": { "field": "label", "window": "1h", "k": 3 } },
            "median_1h": { "op": "quantile", "params": { "field": "n", "window": "1h", "q": 0.5 } },
        });
        let nodes = [super::pipeline::event(), super::pipeline::node("T", &[], &["user"], &agg)];
        let mut driven = Driven::with(&json!({ "nodes": nodes }));
        let (mut stream, mut time_us) = (seed, START_US);
        let mut next = |below: u64| {
            stream = stream.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (stream >> 33) % below
        };
        let rows: Vec<Row> = (0..1200)
            .map(|number| {
                time_us += next(3_000_000).cast_signed();
                // Each key finds everything expired once, and begins a list anew.
                time_us += if number == 700 { 8_000_000_000 } else { 0 };
                let label = format!("{:0>1$}", next(200), next(30) as usize);
                let mut row = labelled(&format!("u{}", next(3)), &label, time_us - next(20_000_000).cast_signed());
                row.data[5] = Datum::I64(next(1000).cast_signed());
                row
            })
            .collect();
        let mut grown = false;
        for (number, rows) in rows.chunks(batch).enumerate() {
            if number * batch % 350 + batch >= 350 {
                driven.sweep(0, 2, newest_us(rows) + next(9_000_000_000).cast_signed());
            }
            check_growth(&mut driven, rows, copies)?;
            let slab = &driven.state.table("T").unwrap().slabs[0];
            grown |= (0..3).any(|row| slab.is_grown(row));
        }
        prop_assert!(grown, "no key became rings");
    }

    #[test]
    fn no_packet_leads_beyond_the_limit_and_deletes_go_on(rows in rows(400), ends in ends(), limit in 600_000usize..4_000_000) {
        let mut driven = Driven::with(&payload(&tables()));
        for batch in split(&rows, &ends) {
            let batches = batches(&driven, batch);
            let schema = Arc::clone(&driven.state.registry().event("Tx").unwrap().schema);
            let lacking = driven.state.lacking(&batches, &[], limit.saturating_sub(driven.state.bytes()), limit / 32);
            for lacking in &lacking {
                let mut rows = lacking.known.iter().chain(&lacking.new);
                prop_assert!(!rows.any(|row| batches[lacking.batch].is_delete(*row as usize)), "a delete waits");
            }
            driven.state.account.take_peak();
            driven.apply(without(&schema, &batches, &lacking), START_US);
            let peak = driven.state.account.take_peak();
            prop_assert!(peak <= limit.max(EMPTY_BYTES), "{peak} bytes of {limit}");
        }
    }

    #[test]
    fn a_frozen_state_gives_way_before_copies_pass_the_limit(rows in rows(400), ends in ends(), room in 0usize..600_000) {
        let mut driven = Driven::with(&payload(&tables()));
        let parts = split(&rows, &ends);
        let (before, after) = parts.split_at(parts.len() / 2);
        before.iter().for_each(|batch| driven.feed(batch, &[]));
        let fingerprint = driven.fingerprint();
        let mut free = Driven { state: super::replay::through_a_snapshot(&driven.state), log: Vec::new(), next_lsn: driven.next_lsn };
        let limit = driven.state.bytes() + room;
        driven.state.set_memory_limit(limit);
        let Ok(mut frozen) = driven.state.freeze() else {
            prop_assert!(room < 200_000, "there was room for a frozen state");
            return Ok(());
        };
        prop_assert!(driven.state.is_shared());
        driven.state.account.take_peak();
        for batch in after {
            // Rows are let in as if there were no frozen state; those that need room wait for ever.
            let batches = batches(&driven, batch);
            let most = limit - limit / FROZEN_SHARE;
            let lacking = driven.state.lacking(&batches, &[], most.saturating_sub(driven.state.live_bytes()), 0);
            let schema = Arc::clone(&driven.state.registry().event("Tx").unwrap().schema);
            let content = without(&schema, &batches, &lacking);
            free.apply(content.clone(), START_US);
            driven.apply(content, START_US);
            let peak = driven.state.account.take_peak();
            prop_assert!(peak <= limit, "{} bytes of {}", peak, limit);
            match frozen.fingerprint() {
                Ok(known) => prop_assert_eq!(known, fingerprint, "a frozen state stays as it was"),
                Err(told) => {
                    let held = driven.state.bytes() - driven.state.live_bytes();
                    prop_assert!(held <= frozen.copy_bytes(), "{} bytes are held still", held);
                    prop_assert!(told.tables_bytes <= limit && told.lacking_bytes > 0, "{}", told);
                    let Ok(next) = driven.state.freeze() else { break };
                    frozen = next;
                    prop_assert_eq!(frozen.fingerprint(), Ok(driven.fingerprint()));
                    break;
                }
            }
        }
        drop(frozen);
        prop_assert!(!driven.state.is_shared() && driven.state.bytes() == driven.state.live_bytes());
        prop_assert_eq!(driven.fingerprint(), free.fingerprint(), "rows do not notice");
    }

    #[test]
    fn emptying_sparse_chunks_changes_no_content(
        rows in rows(400), ends in ends(), gone in proptest::collection::vec(any::<bool>(), 400), steps in proptest::collection::vec(0u32..40, 12),
    ) {
        let mut moved = Driven::with(&payload(&tables()));
        let mut still = Driven::with(&payload(&tables()));
        let mut steps = steps.into_iter().cycle();
        let mut frozen: Option<(Arc<Frozen>, u128)> = None;
        for (number, batch) in split(&rows, &ends).into_iter().enumerate() {
            let deleted: Vec<Row> = batch.iter().zip(&gone).filter(|(_, gone)| **gone).map(|(row, _)| row.clone()).collect();
            for driven in [&mut moved, &mut still] {
                driven.feed(batch, &[]);
                driven.feed(&deletes(&deleted), &[]);
            }
            let fingerprint = still.fingerprint();
            for rows in steps.by_ref().take(3) {
                moved.state.evacuate(rows + 1, 1);
                prop_assert_eq!(moved.fingerprint(), fingerprint);
            }
            if let Some((frozen, before)) = frozen.take() {
                prop_assert_eq!(frozen.fingerprint(), Ok(before));
            }
            if number % 2 == 0 {
                frozen = Some((moved.state.freeze().unwrap(), fingerprint));
            } else {
                moved.state = super::replay::through_a_snapshot(&moved.state);
                prop_assert_eq!(moved.fingerprint(), fingerprint);
            }
        }
        drop(frozen);
        let peak = moved.state.bytes();
        moved.state.account.take_peak();
        while moved.state.evacuate(64, 1) {}
        prop_assert_eq!(moved.state.account.take_peak(), peak, "moving takes no chunk");
        prop_assert_eq!(moved.fingerprint(), still.fingerprint());
        prop_assert_eq!(moved.state.sparse_bytes(), 0);
        prop_assert_eq!(moved.state.bytes(), walked(&moved.state, &[]));
        // Fewer free row numbers than fill a chunk are not worth a walk of their own.
        for table in moved.state.tables.values_mut() {
            while table.give_back_row() {}
            prop_assert_eq!(table.keys.rows() as usize, table.len(), "no row number is free");
        }
        prop_assert_eq!(moved.fingerprint(), still.fingerprint());
        // It goes on like one that never moved anything.
        moved.feed(&rows, &ends);
        still.feed(&rows, &ends);
        prop_assert_eq!(moved.fingerprint(), still.fingerprint());
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
        driven.settle();
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

#[test]
fn a_frame_in_which_a_busy_key_becomes_rings_needs_what_the_rings_take_and_no_more() {
    let agg = json!({
        "cnt_1m": { "op": "count", "params": { "window": "1m" } },
        "top_1h": { "op": "top_k", "params": { "field": "label", "window": "1h", "k": 3 } },
        "label_1d": { "op": "max", "params": { "field": "label", "window": "1d" } },
    });
    let nodes = [super::pipeline::event(), super::pipeline::node("T", &[], &["user"], &agg)];
    let mut driven = Driven::with(&json!({ "nodes": nodes }));
    let row = |index: i64| labelled("everybody", &format!("label {}", index % 50), START_US + index * 10_000_000);
    let batches_of = batches;
    let batches = batches_of(&driven, &(0..2000).map(row).collect::<Vec<_>>());
    let before = driven.state.bytes();
    assert!(driven.state.lacking(&batches, &[], 4 << 20, 1 << 17).is_empty());
    assert_eq!(driven.state.lacking(&batches, &[], 1 << 17, 0).len(), 1, "and with less room some wait");
    driven.apply(Content::Rows(RowsContent { batches, ..RowsContent::default() }), START_US);
    let took = driven.state.account.take_peak() - before;
    assert!((1 << 17..4 << 20).contains(&took), "{took} bytes");
    // The next frame finds rings: each of its rows may move them, but not all of them do.
    let later = batches_of(&driven, &(2000..4000).map(row).collect::<Vec<_>>());
    assert!(driven.state.lacking(&later, &[], 1 << 20, 1 << 19).is_empty());
}

#[test]
fn long_texts_of_a_list_are_counted_for_every_accumulator_that_keeps_them() {
    let keeps = |op: &str| json!({ "op": op, "params": { "field": "label", "window": "1h" } });
    let kept = |place: &str| json!({ "op": "max", "params": { "field": "label", "window": "1h", "where": format!("n > {place}") } });
    let mut agg = json!({ "low": keeps("min"), "high": keeps("max"), "cnt": { "op": "count", "params": { "window": "1h" } } });
    for place in ["1", "2", "3", "4"] {
        agg[format!("above_{place}")] = kept(place);
    }
    let nodes = [super::pipeline::event(), super::pipeline::node("T", &[], &["user"], &agg)];
    let mut driven = Driven::with(&json!({ "nodes": nodes }));
    // One long text in each of many buckets, then rows without one until the list is full, and one more.
    let long = |index: i64| {
        let mut row = labelled("u", &"x".repeat(30_000), START_US + index * 70_000_000);
        row.data[5] = Datum::I64(9);
        row
    };
    let bare = |index: i64| {
        let mut row = labelled("u", "", START_US + 3_400_000_000 + index);
        row.data[6] = Datum::Null;
        row
    };
    let rows: Vec<Row> = (0..50).map(long).chain((0..600).map(bare)).collect();
    for row in rows.chunks(1) {
        check_growth(&mut driven, row, COPIES).unwrap();
    }
    assert!(driven.state.table("T").unwrap().slabs[0].is_grown(0));
}

/// Keys of one shape fill memory; eleven of twelve are deleted, wherever they stand.
#[test]
fn room_that_keys_leave_behind_is_room_for_another_table() {
    let agg = |window: &str| {
        json!({
            "cnt": { "op": "count", "params": { "window": window } },
            "last": { "op": "last", "params": { "field": "label" } },
        })
    };
    let nodes = [
        super::pipeline::event(),
        super::pipeline::node("T", &[], &["user"], &agg("1h")),
        super::pipeline::node("U", &[], &["label"], &agg("1m")),
    ];
    let mut driven = Driven::with(&json!({ "nodes": nodes }));
    let user = |number: usize| format!("user number {number}");
    // All have one label, so that the other table has one key.
    let rows: Vec<Row> = (0..24_000).map(|number| labelled(&user(number), "a label of some length", START_US)).collect();
    driven.feed(&rows, &[]);
    let full = driven.state.bytes();
    driven.state.set_memory_limit(full);
    let mut stream = 7u64;
    let mut next = || {
        stream = stream.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (stream >> 33) % 12
    };
    let (kept, gone): (Vec<Row>, Vec<Row>) = rows.iter().cloned().partition(|_| next() == 0);
    // A delete names the key of every table; that of the other one comes again.
    driven.feed(&deletes(&gone), &[]);
    let (sparse, fingerprint) = (driven.state.bytes(), driven.fingerprint());
    let newcomers: Vec<Row> = (0..12_000).map(|number| labelled("user number 0", &format!("another label {number}"), START_US)).collect();
    let lacking = |driven: &Driven| {
        let lacking = driven.state.lacking(&batches(driven, &newcomers), &[], full.saturating_sub(driven.state.live_bytes()), 0);
        lacking.iter().map(|lacking| lacking.known.len() + lacking.new.len()).sum::<usize>()
    };
    assert!(sparse > full / 2 && lacking(&driven) > 1_000, "{sparse} bytes of {full} are held, {} lack room", lacking(&driven));

    let mut steps = 0;
    while driven.state.evacuate(64, 1) {
        steps += 1;
    }
    let dense = driven.state.bytes();
    assert!(dense < full / 4 && steps > 100, "{dense} bytes of {full}, {sparse} before {steps} steps");
    assert_eq!((driven.fingerprint(), lacking(&driven)), (fingerprint, 0));
    driven.feed(&newcomers, &[]);
    assert!(driven.state.bytes() <= full);
    let count = |user: &str| driven.read("T", &crate::row::Key::from_slice(user.as_bytes()), "cnt", START_US).map(|reading| reading.value);
    assert_eq!(kept.iter().filter(|row| matches!(&row.data[0], Datum::Str(user) if count(user).is_some())).count(), kept.len());
}

/// Rings stayed for ever, also of keys that got no rows any more.
#[test]
fn one_sweep_gives_back_what_a_hundred_expired_keys_hold() {
    let mut driven = Driven::with(&payload(&tables()));
    let rows: Vec<Row> = (0..100 * 200i64)
        .map(|index| {
            let label = format!("label number {}", index % 37);
            let mut row = labelled(&format!("user-{}", index % 100), &label, START_US + index * 1000);
            row.data[4] = Datum::F64(index as f64 / 4.0);
            row
        })
        .collect();
    driven.feed(&rows, &[5000, 10_000]);
    driven.grow("ByUser", |_| true);
    let table = |driven: &Driven| {
        let table = driven.state.table("ByUser").unwrap();
        (table.len(), table.slabs[0].arena.used_bytes(), table.bytes())
    };
    let (keys, used, bytes) = table(&driven);
    assert!(keys == 100 && used > 100 * 10_000, "{used} bytes of {keys} keys");
    // Two hours later nothing of a window is left; what has no window stays.
    driven.sweep(0, u32::MAX, newest_us(&rows) + 2 * 3_600_000_000);
    let (keys, left, bytes_left) = table(&driven);
    assert!(keys == 100 && left < used / 4 && bytes_left < bytes / 2, "{left} of {used}, {bytes_left} of {bytes} bytes");
    assert_eq!(driven.state.bytes(), walked(&driven.state, &[]));
    let read = |feature: &str| {
        let key = crate::row::Key::from_slice(b"user-7");
        driven.read("ByUser", &key, feature, newest_us(&rows) + 2 * 3_600_000_000).unwrap().value
    };
    use streamgauge_api::Value;
    assert_eq!((read("cnt"), read("cnt_large_1m"), read("sum_n_1h")), (Value::I64(200), Value::I64(0), Value::Null));
}
