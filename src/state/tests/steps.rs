//! What is done in steps does no more at a time than it was told to, whatever stands in a key, and nothing twice.

use super::Driven;
use super::pipeline::{event, node};
use super::rows::{Datum, Row, START_US};
use crate::pipeline::FILTERS_TESTED;
use crate::state::{Content, Numbers};
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
