//! What a subscriber sees of a frame: its rows, its fields, whole, in order, in parts that are bounded.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::rows::{Projection, parts};
use super::selection::Selection;
use crate::pipeline::{RegisterOptions, Registry};
use crate::row::{Rows, RowsBuilder, Strictness};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use streamgauge_api::Code;
use streamgauge_api::port::Encoding;
use streamgauge_api::subscribe::{From, OnSlow, SubscribeRequest};

fn registry(fields: &Json) -> Arc<Registry> {
    let event = json!({"kind": "event", "name": "Tx", "schema": {"fields": fields, "optional_fields": []}});
    let outcome = Registry::default().apply_register(&json!({"nodes": [event]}).to_string(), &RegisterOptions::default());
    outcome.unwrap_or_else(|error| panic!("{}", error.to_json())).next.unwrap()
}

fn request(filter: Option<&str>, fields: Option<&[&str]>) -> SubscribeRequest {
    let fields = fields.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
    let (filter, events) = (filter.map(str::to_owned), vec!["Tx".into()]);
    SubscribeRequest { events, from: From::Live, log_id: None, filter, fields, on_slow: OnSlow::Close, encoding: Encoding::Json }
}

fn rows(registry: &Registry, bodies: &[Json]) -> Rows {
    let schema = Arc::clone(&registry.event("Tx").unwrap().schema);
    let mut decoder = crate::decode::PushDecoder::new(&schema, true);
    let mut builder = RowsBuilder::new(schema, Strictness::Push);
    for body in bodies {
        decoder.push_json(body.to_string().as_bytes(), &mut builder, 1_700_000_000_000_000).unwrap();
    }
    builder.finish()
}

/// All parts of what is seen of one batch.
fn told(request: &SubscribeRequest, registry: &Registry, batch: Rows, from_lsn: u64) -> Vec<Json> {
    let selection = Selection::of(request, registry);
    let projection = Projection::of(request.fields.as_ref(), Encoding::Json, &selection);
    let (lsns, batches) = ((100, 99 + batch.len() as u64), [batch]);
    let chosen = selection.choose(&batches, 100, from_lsn);
    let (ends, mut from) = (parts(&batches, &chosen), 0);
    let write = |(part, end): (usize, &usize)| {
        let text = projection.write(&batches, &chosen[from..*end], lsns, (part, ends.len()));
        from = *end;
        serde_json::from_slice(&text).unwrap()
    };
    ends.iter().enumerate().map(write).collect()
}

#[test]
fn values_are_those_of_reads_and_names_are_escaped() {
    let registry = registry(&json!({"a \"b\"": "str", "n": "i64", "x": "f64", "b": "bytes", "j": "json", "t": "datetime", "f": "bool"}));
    let body = json!({"a \"b\"": "say \"\u{e4}\"", "n": i64::MAX, "x": 3.0, "b": "AAE=", "j": {"k": [1, null]}, "t": 1_700_000_000_123i64, "f": true});
    let told = told(&request(None, None), &registry, rows(&registry, std::slice::from_ref(&body)), 0);
    let mut row = body;
    row["lsn"] = 100.into();
    assert_eq!(told, [json!({"lsn": [100, 100], "n": 1, "rows": {"Tx": {"schema": 1, "rows": [row]}}})]);
}

#[test]
fn a_large_frame_comes_in_parts_that_together_are_all_of_it() {
    let registry = registry(&json!({"n": "i64", "text": "str"}));
    let bodies: Vec<Json> = (0..3_000).map(|n| json!({"n": n, "text": "x".repeat(1_000)})).collect();
    let parts = told(&request(Some("n != 7"), Some(&["n"])), &registry, rows(&registry, &bodies), 103);
    assert!(parts.len() > 2, "{} parts", parts.len());
    let numbers = |part: &Json| -> Vec<(u64, i64)> {
        let rows = part["rows"]["Tx"]["rows"].as_array().unwrap();
        rows.iter().map(|row| (row["lsn"].as_u64().unwrap(), row["n"].as_i64().unwrap())).collect()
    };
    for (number, part) in parts.iter().enumerate() {
        assert_eq!((&part["part"], &part["lsn"]), (&json!([number + 1, parts.len()]), &json!([100, 3_099])));
        assert_eq!(part["n"].as_u64(), Some(numbers(part).len() as u64));
    }
    let all: Vec<(u64, i64)> = parts.iter().flat_map(numbers).collect();
    // From the fourth row on, without the one that the filter leaves out.
    assert_eq!(all, (3..3_000).filter(|n| *n != 7).map(|n| (100 + n as u64, n)).collect::<Vec<_>>());
    assert!(told(&request(Some("n < 0"), None), &registry, rows(&registry, &bodies[..10]), 0).is_empty());
}

#[test]
fn a_filter_that_means_nothing_any_more_ends_the_subscription() {
    let (wide, narrow) = (registry(&json!({"n": "i64", "text": "str"})), registry(&json!({"text": "str"})));
    let mut selection = Selection::of(&request(Some("n > 1"), None), &wide);
    assert_eq!(selection.follow(&narrow).unwrap_err().code, Code::SubscriptionInvalidated);
    // It began before the field was there, and joins when it is.
    let mut selection = Selection::of(&request(Some("n > 1"), None), &narrow);
    assert_eq!(selection.versions(), json!({}));
    assert!(!selection.follow(&narrow).unwrap());
    assert!(selection.follow(&wide).unwrap());
    assert_eq!(selection.versions(), json!({"Tx": {"schema": 1}}));
    assert!(!selection.follow(&wide).unwrap(), "a change is told once");
    // Dropped, and declared again in a way that the filter does not fit: it is told, not mute.
    assert_eq!(selection.follow(&Registry::default()).unwrap_err().code, Code::SubscriptionInvalidated);
}
