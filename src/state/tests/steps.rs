//! What is done in steps does no more at a time than it was told to, whatever stands in a key, and nothing twice.

use super::Driven;
use super::pipeline::{event, node};
use super::rows::{Datum, Row, START_US};
use crate::pipeline::FILTERS_TESTED;
use crate::state::frame::{GROUP_WORDS_MAX, HEAVY_WORDS_MAX};
use crate::state::table::GROUP;
use crate::state::{Content, Numbers, State};
use serde_json::{Value as Json, json};

/// A row of a user with a label and a number.
fn row(user: &str, number: usize, time_us: i64) -> Row {
    let mut data = vec![Datum::Null; 8];
    let n = i64::try_from(number).unwrap();
    (data[0], data[5], data[6]) = (Datum::Str(user.into()), Datum::I64(n), Datum::Str(format!("label {}", n % 50)));
    Row { time_us, ahead_us: 0, delete: false, data }
}

/// A table `T` by user with this chain and these features.
fn driven(chain: &[Json], agg: &Json) -> Driven {
    Driven::with(&json!({ "nodes": [event(), node("T", chain, &["user"], agg)] }))
}

/// Each row of a key with objects had its chain run once more for every slab.
#[test]
fn the_filters_of_a_table_are_tested_once_for_each_row_that_is_weighed() {
    let chain = [json!({"op": "filter", "expr": "(n > 2)"}), json!({"op": "with_columns", "exprs": {"more": "(n + 1)"}})];
    let agg = json!({
        "top": { "op": "top_k", "params": { "field": "label", "k": 3 } },
        "uniq_1h": { "op": "n_unique", "params": { "field": "more", "window": "1h" } },
    });
    let mut driven = driven(&chain, &agg);
    let rows: Vec<Row> = (0..600).map(|number| row(&format!("user {}", number % 3), number, START_US + number as i64)).collect();
    driven.feed(&rows, &[]);
    let Content::Rows(content) = driven.pack(&rows) else { unreachable!("packed rows are rows") };
    for exact in [false, true] {
        FILTERS_TESTED.set(0);
        let mut weighing = driven.state.weigh(&content.batches, exact);
        while !weighing.go_on(&driven.state, &content.batches, &[], &mut { 64 }) {}
        assert!(weighing.bytes() <= driven.state.growth_bytes(&Numbers::of(&content.batches)));
        assert_eq!(FILTERS_TESTED.get(), rows.len(), "exact: {exact}");
    }
}

/// Features over so many windows.
fn windows(count: usize) -> Json {
    let feature = |number: usize| {
        let window = format!("{}m", 10 + number);
        let params = json!({ "field": "label", "window": window });
        [
            (format!("cnt_{number}"), json!({ "op": "count", "params": { "window": window } })),
            (format!("uniq_{number}"), json!({ "op": "n_unique", "params": params })),
        ]
    };
    Json::Object((0..count).flat_map(feature).collect())
}

/// A state with the keys of `rows` and a frame of as many more rows, with how many of the table's keys have rings after
/// each step of the frame, and how many accumulators each of them has.
fn steps_of(agg: &Json, rows: &[Row], frame: &[Row], effort: usize) -> Vec<usize> {
    let mut driven = driven(&[], agg);
    driven.feed(rows, &[]);
    let content = driven.pack(frame);
    let Content::Rows(rows) = &content else { unreachable!("packed rows are rows") };
    let grown = |state: &State| {
        let table = state.table("T").unwrap();
        (0..table.keys.rows()).filter(|&number| table.slabs.iter().any(|slab| slab.is_grown(number))).count()
    };
    driven.state.begin(rows, driven.next_lsn, START_US);
    let (mut steps, mut before) = (Vec::new(), grown(&driven.state));
    loop {
        let is_over = driven.state.advance(rows, &mut { effort });
        let now = grown(&driven.state);
        steps.push(now.abs_diff(before));
        before = now;
        if is_over {
            return steps;
        }
    }
}

/// Keys that are fed in turn become rings in turn: hundreds of lists in one step.
#[test]
fn a_step_turns_few_lists_into_rings_however_many_are_full() {
    const KEYS: usize = 100;
    for count in [1, 5, 40] {
        let agg = windows(count);
        let driven = driven(&[], &agg);
        let plan = &driven.state.table("T").unwrap().slabs[0].plan;
        let (entries, work) = (plan.entries_max, plan.grow_work(plan.entries_max));
        let at = |number: usize| row(&format!("user {}", number % KEYS), number, START_US + number as i64);
        let rows: Vec<Row> = (0..KEYS * entries).map(at).collect();
        let frame: Vec<Row> = (KEYS * entries..KEYS * (entries + 1)).map(at).collect();
        let steps = steps_of(&agg, &rows, &frame, 64);
        assert_eq!(steps.iter().sum::<usize>(), KEYS, "every list is full");
        // The first such step may be as long as one of rows that fit into a group; the others are a fraction of a slice.
        let most = (HEAVY_WORDS_MAX / work).max(1);
        let first = most.max(GROUP).min(GROUP_WORDS_MAX / work);
        assert!(steps[0] <= first && steps[1..].iter().all(|step| *step <= most), "{count} windows, {most}: {steps:?}");
    }
}

/// Everything that a push of many rows needs was reckoned row by row, but for what a busy key's rows have in common.
#[test]
fn rows_of_one_busy_key_are_weighed_a_few_at_a_time() {
    const ROWS: usize = 20_000;
    let agg = windows(3);
    let mut driven = driven(&[], &agg);
    let at = |number: usize| row("everybody", number, START_US + number as i64 * 1_000_000);
    for has_rings in [false, true] {
        let Content::Rows(content) = driven.pack(&(1_000..ROWS).map(at).collect::<Vec<_>>()) else { unreachable!("packed rows are rows") };
        for exact in [false, true] {
            let mut weighing = driven.state.weigh(&content.batches, exact);
            let mut steps = 1;
            while !weighing.go_on(&driven.state, &content.batches, &[], &mut { 64 }) {
                steps += 1;
            }
            // Keys, a sort, a look at edges and times, buckets of three windows, and, where nothing is assumed, a copy that is fed.
            let least = ROWS / 64 + ROWS / (64 * 16) + if has_rings && !exact { 3 * ROWS / (64 * 4) } else { 0 };
            assert!(steps >= least, "{steps} steps, rings: {has_rings}, exact: {exact}");
        }
        driven.feed(&(0..1_000).map(at).collect::<Vec<_>>(), &[]);
    }
}

/// Each step walked as many rows, though every one of them had hundreds of objects.
#[test]
fn emptying_sparse_chunks_walks_few_rows_at_a_time_where_they_have_much() {
    const KEYS: usize = 200;
    let (few, many) = (windows(1), windows(12));
    let mut walked = Vec::new();
    for agg in [&few, &many] {
        let mut driven = driven(&[], agg);
        let at = |number: usize| row(&format!("user {}", number % KEYS), number / KEYS * 7, START_US + (number / KEYS) as i64 * 9_000_000);
        driven.feed(&(0..KEYS * 70).map(at).collect::<Vec<_>>(), &[]);
        driven.grow("T", |_| true);
        driven.feed(&super::memory::deletes(&(0..KEYS).filter(|number| number % 3 != 0).map(at).collect::<Vec<_>>()), &[]);
        let mut most = 0;
        loop {
            let before = driven.state.evacuation_row();
            if !driven.state.evacuate(32, 1) {
                break;
            }
            if let (Some(before), Some(after)) = (before, driven.state.evacuation_row()) {
                most = most.max(after.saturating_sub(before));
            }
        }
        walked.push(most);
    }
    assert!(walked[0] <= 32 && (1..=3).contains(&walked[1]), "rows of one step: {walked:?}");
}
