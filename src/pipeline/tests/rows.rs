//! Chains over real rows: what filters keep and what keys and features read.

use super::*;
use crate::row::{Cell, Field, FieldType, Rows, RowsBuilder, Strictness};

/// `{"user_id":"a","amount":2.5,"n":3,"ok":true}`; country is null, lat and lon are absent.
fn row(server: &Server) -> Rows {
    let event = server.registry.event("Tx").unwrap();
    let schema = Arc::new(crate::row::EventSchema {
        fields: event.schema.fields.iter().map(|field| Field { optional: true, ..field.clone() }).collect(),
        ..(*event.schema).clone()
    });
    let field = |name: &str| schema.field(name).unwrap();
    let mut builder = RowsBuilder::new(schema.clone(), Strictness::Push);
    builder.begin();
    builder.str(field("user_id"), "a").unwrap();
    builder.float(field("amount"), 2.5).unwrap();
    builder.int(field("n"), 3).unwrap();
    builder.bool(field("ok"), true).unwrap();
    builder.null(field("country"));
    builder.commit(0, None, false).unwrap();
    builder.finish()
}

/// What `first(field)` of table `T` would read, or `dropped`.
fn read(ops: Json, field: &str) -> String {
    let server = Server::with(&[nodes(&[tx(), table("T", ops, &[], json!({ "f": { "op": "first", "params": { "field": field } } }))])]);
    let (table, rows) = (server.table("T"), row(&server));
    let schema = server.registry.event("Tx").unwrap().schema.clone();
    let mut derived = Derived::default();
    if !table.chain.run(&rows, 0, &schema, &mut derived) {
        return "dropped".into();
    }
    let env = RowEnv { rows: &rows, row: 0, schema: &schema, derived: &derived };
    match env.cell(table.features[0].field.unwrap()) {
        Cell::Str(bytes) => format!("'{}'", String::from_utf8_lossy(bytes)),
        Cell::I64(number) => number.to_string(),
        Cell::F64(number) => format!("{number:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn features_read_the_transformed_row() {
    for (ops, field, expected) in [
        (json!([]), "amount", "2.5"),
        (json!([{ "op": "filter", "expr": "(amount > 1)" }]), "amount", "2.5"),
        (json!([{ "op": "filter", "expr": "(amount > 5)" }]), "amount", "dropped"),
        (json!([{ "op": "filter", "expr": "(country == 'x')" }]), "amount", "dropped"),
        (json!([{ "op": "filter", "expr": "amount" }]), "amount", "dropped"),
        (json!([{ "op": "with_columns", "exprs": { "amount": "(amount * 10)" } }]), "amount", "25.0"),
        (json!([{ "op": "with_columns", "exprs": { "b": "a + 1", "a": "n" } }]), "b", "4"),
        (json!([{ "op": "rename", "mapping": { "n": "amount", "amount": "n" } }]), "n", "2.5"),
        (json!([{ "op": "rename", "mapping": { "n": "m" } }, { "op": "map", "exprs": { "n": "m + m" } }]), "n", "6"),
        (json!([{ "op": "cast", "type_map": { "n": "str" } }]), "n", "'3'"),
        (json!([{ "op": "cast", "type_map": { "lat": "str" } }]), "lat", "Absent"),
        (json!([{ "op": "fillna", "defaults": { "country": "xx" } }]), "country", "'xx'"),
        (json!([{ "op": "fillna", "defaults": { "lat": 1 } }]), "lat", "Absent"),
        (json!([{ "op": "with_columns", "exprs": { "lat": "lat" } }, { "op": "fillna", "defaults": { "lat": 1 } }]), "lat", "1.0"),
        (json!([{ "op": "fillna", "defaults": { "amount": 9 } }]), "amount", "2.5"),
        (json!([{ "op": "with_columns", "exprs": { "x": "(amount / 0)" } }]), "x", "Null"),
        (json!([{ "op": "with_columns", "exprs": { "x": "(amount / 0)" } }, { "op": "filter", "expr": "(x > 5)" }]), "amount", "2.5"),
        (json!([{ "op": "cast", "type_map": { "n": "str" } }, { "op": "map", "exprs": { "m": "n", "k": "user_id" } }]), "m", "'3'"),
    ] {
        assert_eq!(read(ops.clone(), field), expected, "{ops} {field}");
    }
}

#[test]
fn keys_are_read_after_the_chain() {
    let ops = json!([{ "op": "with_columns", "exprs": { "bucket": "(n / 2)" } }]);
    let server = Server::with(&[nodes(&[tx(), table("T", ops, &["bucket", "at", "ok"], json!({}))])]);
    let kinds: Vec<KeyKind> = server.table("T").keys.iter().map(|key| key.kind).collect();
    assert_eq!(kinds, [KeyKind::I64, KeyKind::Datetime, KeyKind::Bool]);
    assert_eq!(server.table("T").keys[0].column, Column::Derived(0));
}

#[test]
fn a_table_on_an_event_derivation_runs_both_chains() {
    let big = json!({ "kind": "derivation", "name": "Big", "output_kind": "event", "upstreams": ["Tx"],
        "ops": [{ "op": "filter", "expr": "(amount > 100)" }, { "op": "map", "exprs": { "half": "amount / 2" } }] });
    let mut node = table(
        "T",
        json!([{ "op": "filter", "expr": "half < 500" }]),
        &["user_id"],
        json!({ "s": { "op": "sum", "params": { "field": "half" } } }),
    );
    node["upstreams"] = json!(["Big"]);
    let server = Server::with(&[nodes(&[tx(), big, node])]);
    assert_eq!(server.table("T").chain.text(), "filter #0 > 100\nderive #0 / 2\nfilter $0 < 500\n");
    assert_eq!(&*server.table("T").event_name, "Tx");
}

#[test]
fn computed_fields_share_one_column_and_streak_fields_are_conditions() {
    let agg = json!({
        "cells": { "op": "n_unique", "params": { "expr": "quadkey(lat, lon, 7)", "window": "24h" } },
        "mean_cell": { "op": "mean", "params": { "expr": "(quadkey(lat,lon,7))" } },
        "run": { "op": "streak", "params": { "field": "ok" } },
        "ema": { "op": "ema", "params": { "field": "amount", "half_life": "60s" } },
        "base": { "op": "z_score", "params": { "field": "amount", "baseline_window": "24h" } },
        "geo": { "op": "geo_velocity", "params": { "lat": "lat", "lon": "lon" } },
    });
    let server = Server::with(&[nodes(&[tx(), by_user(agg)])]);
    let table = server.table("ByUser");
    assert_eq!(table.chain.derived_columns(), 1);
    let feature = |name: &str| table.feature(name).unwrap();
    assert_eq!(feature("cells").field, feature("mean_cell").field);
    assert_eq!(feature("cells").field_kind, Some(FieldType::I64));
    assert_eq!(feature("run").node["params"]["where"], "ok == true");
    assert_eq!(feature("ema").declared(), json!({ "op": "ewma", "params": { "field": "amount", "half_life": "1m" } }));
    assert_eq!(feature("base").window_us, Some(86_400_000_000));
    assert_eq!(feature("geo").more_fields.len(), 2);
}

#[test]
fn velocity_windows_are_ignored_on_request() {
    let agg = json!({ "b": { "op": "burst_count", "params": { "window": "5m", "sub_window": "10s" } }, "c": { "op": "count", "params": { "window": "5m" } },
        "z": { "op": "z_score", "params": { "field": "amount", "baseline_window": "1d" } } });
    let options = RegisterOptions { ignore_velocity_windows: true, ..options() };
    let outcome = Registry::default().apply_register(&nodes(&[tx(), by_user(agg)]).to_string(), &options).unwrap();
    let registry = outcome.next.unwrap();
    let windows: Vec<Option<i64>> = registry.table("ByUser").unwrap().features.iter().map(|feature| feature.window_us).collect();
    assert_eq!(windows, [None, Some(300_000_000), None]);
    assert_eq!(Registry::from_json(&registry.to_json(), super::operators::ALL).unwrap(), *registry);
}
