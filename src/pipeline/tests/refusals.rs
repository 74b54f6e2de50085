//! Every code of the register call, with its path.

use super::*;

/// Registers a payload over `Tx` and gives the codes and paths of all errors.
fn errors(payload: &Json) -> Vec<(String, String)> {
    let mut server = Server::default();
    let error = server.try_register(payload).map(|outcome| outcome.reply).expect_err("the payload is refused");
    assert!(server.registry.events.is_empty(), "a refusal changes nothing");
    let reply = error.to_json();
    let list = reply["error"]["errors"].as_array().cloned().unwrap_or_default();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(list.first().map(|first| &first["code"]), Some(&reply["error"]["code"]), "{reply}");
    list.iter().map(|error| (text(&error["code"]), text(&error["path"]))).collect()
}

fn feature(body: Json) -> Json {
    nodes(&[tx(), by_user(json!({ "f": body }))])
}

fn chain(op: Json) -> Json {
    nodes(&[tx(), table("T", json!([op]), &["user_id"], json!({ "c": { "op": "count" } }))])
}

fn event(change: impl FnOnce(&mut Json)) -> Json {
    let mut event = tx();
    change(&mut event);
    nodes(&[event])
}

#[test]
fn every_refusal_has_its_code_and_path() {
    let group = "nodes[1].ops[0]";
    let params = "nodes[1].ops[0].agg.f.params";
    let count = || json!({ "c": { "op": "count" } });
    let cases: Vec<(Json, &str, String)> = vec![
        // Shapes.
        (json!({}), "invalid_registration", "<body>".into()),
        (json!([]), "invalid_registration", "<body>".into()),
        (json!({ "nodes": {} }), "invalid_registration", "<body>".into()),
        (json!({ "nodes": [1] }), "invalid_registration", "<body>".into()),
        (json!({ "nodes": [], "force": "yes" }), "invalid_registration", "<body>".into()),
        (json!({ "nodes": [], "remove": "T" }), "invalid_registration", "<body>".into()),
        (json!({ "nodes": [], "remove": ["T"] }), "invalid_registration", "remove[0]".into()),
        (event(|event| event["name"] = json!(1)), "invalid_registration", "<body>".into()),
        (event(|event| event["name"] = json!("1x")), "invalid_registration", "nodes[0].name".into()),
        (event(|event| event["name"] = json!("_beava_x")), "invalid_registration", "nodes[0].name".into()),
        (event(|event| event["name"] = json!("x".repeat(129))), "invalid_registration", "nodes[0].name".into()),
        (event(|event| event["schema"]["fields"] = json!({})), "invalid_registration", "nodes[0].schema.fields".into()),
        (event(|event| event["schema"]["fields"] = json!({ "a": "string" })), "invalid_registration", "<body>".into()),
        (
            event(|event| event["schema"]["optional_fields"] = json!(["nope"])),
            "invalid_registration",
            "nodes[0].schema.optional_fields".into(),
        ),
        (event(|event| event["dedupe_key"] = json!("nope")), "invalid_registration", "nodes[0].dedupe_key".into()),
        (event(|event| event["dedupe_window_ms"] = json!(0)), "invalid_registration", "nodes[0].dedupe_window_ms".into()),
        (event(|event| event["cold_after_ms"] = json!(-1)), "invalid_registration", "nodes[0].cold_after_ms".into()),
        (event(|event| event["time"] = json!({ "field": "user_id" })), "invalid_registration", "nodes[0].time".into()),
        (event(|event| event["dedupe_key"] = json!(7)), "invalid_registration", "<body>".into()),
        (event(|event| event["cold_after_ms"] = json!(3650i64 * 86_400_000 + 1)), "invalid_registration", "nodes[0].cold_after_ms".into()),
        (event(|event| event["keep_events_for_ms"] = json!(1000)), "not_available", "nodes[0].keep_events_for_ms".into()),
        (nodes(&[tx(), tx()]), "invalid_registration", "nodes[1].name".into()),
        // Raw checks.
        (event(|event| event["kind"] = json!("table")), "unsupported_node_kind", "nodes[0].kind".into()),
        (event(|event| event["event_time_field"] = json!("at")), "unknown_field_event_time_v0", "nodes[0].event_time_field".into()),
        (event(|event| event["tolerate_delay_ms"] = json!(5)), "unknown_field_tolerate_delay_v0", "nodes[0].tolerate_delay_ms".into()),
        (chain(json!({ "op": "join" })), "feature_removed_no_joins_v0", "nodes[1].ops[0]".into()),
        (chain(json!({ "op": "union" })), "feature_removed_no_unions_v0", "nodes[1].ops[0]".into()),
        (feature(json!({ "op": "first_n", "params": { "field": "n" } })), "unbounded_op_in_lifetime_mode", format!("{group}.agg.f")),
        (feature(json!({ "op": "histogram", "params": { "field": "n" } })), "unbounded_op_in_lifetime_mode", format!("{group}.agg.f")),
        (feature(json!({ "op": "avg", "params": { "field": "n" } })), "unbounded_op_in_lifetime_mode", format!("{group}.agg.f")),
        // Upstreams.
        (nodes(&[by_user(count())]), "invalid_registration", "nodes[0].upstreams[0]".into()),
        (nodes(&[by_user(count()), tx()]), "invalid_registration", "nodes[0].upstreams[0]".into()),
        (
            nodes(&[
                tx(),
                by_user(count()),
                json!({ "kind": "derivation", "name": "Two", "output_kind": "table", "upstreams": ["ByUser"],
                "ops": [{ "op": "group_by", "keys": ["user_id"], "agg": {} }], "table_primary_key": ["user_id"] }),
            ]),
            "aggregation_on_table_not_supported",
            "nodes[2].upstreams[0]".into(),
        ),
        (
            nodes(&[tx(), json!({ "kind": "derivation", "name": "E2", "output_kind": "event", "upstreams": ["Tx"] })]),
            "invalid_registration",
            "nodes[1].ops".into(),
        ),
        (
            nodes(&[
                tx(),
                json!({ "kind": "derivation", "name": "T", "output_kind": "table", "upstreams": ["Tx"], "ops": [
                { "op": "group_by", "keys": [], "agg": {} }] }),
            ]),
            "invalid_registration",
            "nodes[1].table_primary_key".into(),
        ),
        // Chains.
        (chain(json!({ "op": "filter", "expr": "(amount >" })), "invalid_expression", "nodes[1].ops[0].expr".into()),
        (chain(json!({ "op": "filter", "expr": "(amuont > 1)" })), "invalid_expression", "nodes[1].ops[0].expr".into()),
        (chain(json!({ "op": "filter", "expr": "(".repeat(600) })), "invalid_expression", "nodes[1].ops[0].expr".into()),
        (chain(json!({ "op": "fliter", "expr": "true" })), "invalid_expression", "nodes[1].ops[0].op".into()),
        (chain(json!({ "op": "select", "fields": ["user_id", "nope"] })), "invalid_expression", "nodes[1].ops[0].fields[1]".into()),
        (chain(json!({ "op": "drop", "fields": ["nope"] })), "invalid_expression", "nodes[1].ops[0].fields[0]".into()),
        (chain(json!({ "op": "rename", "mapping": { "n": "amount" } })), "invalid_expression", "nodes[1].ops[0].mapping.n".into()),
        (
            chain(json!({ "op": "rename", "mapping": { "n": "x", "amount": "x" } })),
            "invalid_expression",
            "nodes[1].ops[0].mapping.n".into(),
        ),
        (chain(json!({ "op": "with_columns", "exprs": { "x": "nope + 1" } })), "invalid_expression", "nodes[1].ops[0].exprs.x".into()),
        (chain(json!({ "op": "map", "exprs": { "x": "len(n)" } })), "invalid_expression", "nodes[1].ops[0].exprs.x".into()),
        (chain(json!({ "op": "cast", "type_map": { "n": "i64" } })), "invalid_expression", "nodes[1].ops[0].type_map.n".into()),
        (chain(json!({ "op": "cast", "type_map": { "raw": "str" } })), "invalid_expression", "nodes[1].ops[0].type_map.raw".into()),
        (chain(json!({ "op": "fillna", "defaults": { "nope": 1 } })), "invalid_expression", "nodes[1].ops[0].defaults.nope".into()),
        (chain(json!({ "op": "group_by", "keys": [], "agg": {} })), "invalid_expression", "nodes[1].ops[1]".into()),
        (chain(json!({ "op": "drop", "fields": ["user_id"] })), "aggregation_unknown_field", "nodes[1].ops[1].keys[0]".into()),
        // Keys and names.
        (nodes(&[tx(), table("T", json!([]), &["amount"], count())]), "invalid_registration", format!("{group}.keys[0]")),
        (nodes(&[tx(), table("T", json!([]), &["user_id", "user_id"], count())]), "invalid_registration", format!("{group}.keys[1]")),
        (
            nodes(&[tx(), by_user(json!({ "user_id": { "op": "count" } }))]),
            "aggregation_group_key_collides_with_feature",
            format!("{group}.agg.user_id"),
        ),
        // Features.
        (feature(json!({ "op": "cuont" })), "aggregation_unknown_op", format!("{group}.agg.f.op")),
        (feature(json!({ "op": "avg", "params": { "window": "1h" } })), "aggregation_unknown_op", format!("{group}.agg.f.op")),
        (feature(json!({ "op": "sum", "params": { "field": "amuont" } })), "aggregation_unknown_field", format!("{params}.field")),
        (feature(json!({ "op": "first" })), "aggregation_unknown_field", format!("{params}.field")),
        (feature(json!({ "op": "first_n", "params": { "field": "n", "n": 0 } })), "aggregation_unknown_field", format!("{params}.n")),
        (feature(json!({ "op": "count", "params": { "where": "(" } })), "aggregation_invalid_where", format!("{params}.where")),
        (feature(json!({ "op": "count", "params": { "where": "nope" } })), "aggregation_invalid_where", format!("{params}.where")),
        (feature(json!({ "op": "count", "params": { "where": "(".repeat(600) } })), "aggregation_invalid_where", format!("{params}.where")),
        (feature(json!({ "op": "count", "params": { "window": "0s" } })), "aggregation_invalid_window", format!("{params}.window")),
        (feature(json!({ "op": "count", "params": { "window": 5 } })), "aggregation_invalid_window", format!("{params}.window")),
        (
            feature(json!({ "op": "count", "params": { "window": "18446744073709551615ms" } })),
            "aggregation_invalid_window",
            format!("{params}.window"),
        ),
        (feature(json!({ "op": "first_seen_in_window" })), "aggregation_invalid_window", format!("{params}.window")),
        (
            feature(json!({ "op": "first", "params": { "field": "n", "window": "1h" } })),
            "aggregation_invalid_window",
            format!("{params}.window"),
        ),
        (feature(json!({ "op": "bloom_member", "params": { "window": "1h" } })), "window_not_supported", format!("{params}.window")),
        (feature(json!({ "op": "quantile", "params": { "field": "n", "q": 1 } })), "invalid_percentile_q", format!("{params}.q")),
        (feature(json!({ "op": "top_k", "params": { "field": "n", "k": 1025 } })), "invalid_top_k_k", format!("{params}.k")),
        (feature(json!({ "op": "bloom_member", "params": { "fpr": 0.9 } })), "invalid_bloom_fpr", format!("{params}.fpr")),
        (
            feature(json!({ "op": "bloom_member", "params": { "capacity": 1e11 } })),
            "aggregation_invalid_param",
            format!("{params}.capacity"),
        ),
        (
            feature(json!({ "op": "bloom_member", "params": { "capacity": 5, "expected_n": 5 } })),
            "aggregation_invalid_param",
            format!("{params}.capacity"),
        ),
        (feature(json!({ "op": "ewma", "params": { "field": "n" } })), "invalid_registration", format!("{params}.half_life")),
        (
            feature(json!({ "op": "ewma", "params": { "field": "n", "half_life": "forever" } })),
            "invalid_registration",
            format!("{params}.half_life"),
        ),
        (
            feature(json!({ "op": "burst_count", "params": { "window": "1s", "sub_window": "2s" } })),
            "aggregation_invalid_param",
            format!("{params}.sub_window"),
        ),
        (
            feature(json!({ "op": "histogram", "params": { "field": "n", "buckets": [2, 1] } })),
            "aggregation_invalid_param",
            format!("{params}.buckets"),
        ),
        (
            feature(json!({ "op": "histogram", "params": { "field": "n", "buckets": [] } })),
            "aggregation_invalid_param",
            format!("{params}.buckets"),
        ),
        (feature(json!({ "op": "sum", "params": { "expr": "(n" } })), "invalid_expression", format!("{params}.expr")),
        (feature(json!({ "op": "sum", "params": { "expr": "n", "field": "n" } })), "aggregation_invalid_param", format!("{params}.expr")),
    ];
    for (payload, code, path) in cases {
        let errors = errors(&payload);
        assert_eq!(errors, [(code.to_owned(), path)], "{payload}");
    }
}

#[test]
fn depth_is_named_in_the_reason() {
    let mut server = Server::default();
    let error = server.try_register(&feature(json!({ "op": "count", "params": { "where": "(".repeat(600) } }))).unwrap_err();
    assert!(error.error.reason.contains("depth"), "{error}");
}

#[test]
fn members_that_stand_twice_are_refused() {
    let registry = Registry::default();
    for (payload, code) in [
        (r#"{"nodes":[],"nodes":[]}"#, "invalid_registration"),
        (r#"{"nodes":[{"kind":"event","name":"E","schema":{"fields":{"a":"str","a":"i64"}}}]}"#, "invalid_registration"),
        (
            r#"{"nodes":[{"kind":"event","name":"E","schema":{"fields":{"a":"str"}}},{"kind":"derivation","name":"T","output_kind":"table",
                "upstreams":["E"],"table_primary_key":["a"],"ops":[{"op":"group_by","keys":["a"],"agg":{"c":{"op":"count"},"c":{"op":"count"}}}]}]}"#,
            "aggregation_feature_name_collision_across_aggregations",
        ),
        ("nonsense", "invalid_registration"),
        (&"[".repeat(100_000), "invalid_registration"),
    ] {
        let error = registry.apply_register(payload, &options()).map(|outcome| outcome.reply).unwrap_err();
        assert_eq!(error.error.code.as_str(), code, "{error}");
    }
}

#[test]
fn all_errors_are_told_at_once_and_dependents_are_not_blamed() {
    let broken = json!({ "kind": "event", "name": "Broken", "schema": { "fields": { "a": "strr" } } });
    let mut on_broken = by_user(json!({ "c": { "op": "count" } }));
    on_broken["name"] = json!("OnBroken");
    on_broken["upstreams"] = json!(["Broken"]);
    let bad = by_user(json!({ "a": { "op": "sum", "params": { "field": "x" } }, "b": { "op": "nope" }, "c": { "op": "count" } }));
    let found: Vec<String> = errors(&nodes(&[tx(), broken, on_broken, bad])).into_iter().map(|(code, _)| code).collect();
    assert_eq!(found, ["invalid_registration", "aggregation_unknown_field", "aggregation_unknown_op"]);
}

/// What is ignored is a bound, a condition or a window that is not there; so nothing is.
#[test]
fn members_that_a_payload_does_not_know_are_refused_with_the_nearest_name() {
    let event = |change: fn(&mut Json)| {
        let mut event = tx();
        change(&mut event);
        nodes(&[event])
    };
    let group = "nodes[1].ops[0].agg.f";
    for (payload, path, hint) in [
        (json!({ "nodes": [], "dryrun": true }), "dryrun".to_owned(), "did you mean `dry_run`?"),
        (json!({ "nodes": [], "Force": true }), "Force".into(), "did you mean `force`?"),
        (json!({ "nodes": [], "x": null }), "x".into(), "known here: nodes, force, dry_run, prune, remove, owner"),
        (event(|event| event["max_future"] = json!(1)), "nodes[0].max_future".into(), "did you mean `max_future_ms`?"),
        (
            event(|event| event["schema"]["optional_field"] = json!(["n"])),
            "nodes[0].schema.optional_field".into(),
            "did you mean `optional_fields`?",
        ),
        (event(|event| event["time"] = json!({ "field": "at", "feild": 1 })), "nodes[0].time.feild".into(), "did you mean `field`?"),
        (chain(json!({ "op": "filter", "expr": "ok", "exprs": 1 })), "nodes[1].ops[0].exprs".into(), "did you mean `expr`?"),
        (feature(json!({ "op": "count", "window": "1h" })), format!("{group}.window"), "parameters of an operator stand in `params`"),
        (feature(json!({ "op": "count", "parms": {} })), format!("{group}.parms"), "did you mean `params`?"),
    ] {
        let refused = Server::default().try_register(&payload).map(|outcome| outcome.reply).unwrap_err();
        let error = *refused.error;
        assert_eq!((error.code.as_str(), error.path, error.hint.as_deref()), ("unknown_member", path, Some(hint)), "{payload}");
    }
}

/// What the registry tells of its nodes may be registered again, and so may what 0.0.6 tells of its own.
#[test]
fn nodes_as_the_registry_tells_them_are_known() {
    let mut server = Server::default();
    server.register(&feature(json!({ "op": "sum", "params": { "field": "amount", "window": "1h" } })));
    let mut event = server.registry.events.values().next().unwrap().node.clone();
    event["registered_at_version"] = json!(1);
    let table = server.registry.tables.values().next().unwrap().node.clone();
    server.register(&nodes(&[event, table]));
}

#[test]
fn hints_name_the_nearest_name() {
    for (payload, hint) in [
        (feature(json!({ "op": "cuont" })), "did you mean `count`?"),
        (feature(json!({ "op": "avg", "params": { "window": "1h" } })), "use `mean`"),
        (feature(json!({ "op": "sum", "params": { "field": "amuont" } })), "did you mean `amount`?"),
        (chain(json!({ "op": "fliter", "expr": "true" })), "did you mean `filter`?"),
        (chain(json!({ "op": "filter", "expr": "amuont > 1" })), "did you mean `amount`?"),
    ] {
        let error = Server::default().try_register(&payload).map(|outcome| outcome.reply).unwrap_err();
        assert_eq!(error.error.hint.as_deref(), Some(hint), "{payload}");
    }
}

#[test]
fn what_is_inert_or_unlike_is_a_warning() {
    for (body, code, part) in [
        (json!({ "op": "count", "params": { "widnow": "1h" } }), "unknown_config_key", "not a parameter of `count`"),
        (json!({ "op": "count", "params": { "field": "n" } }), "aggregation_invalid_param", "reads no field"),
        (json!({ "op": "sum" }), "aggregation_invalid_param", "never has a value"),
        (json!({ "op": "count", "params": { "where": "(amount == 'x')" } }), "expression_type_mismatch", "compares f64 with str"),
        (json!({ "op": "count", "params": { "where": "amount" } }), "expression_type_mismatch", "true or false"),
        (json!({ "op": "geo_velocity", "params": { "lat": "latitude" } }), "aggregation_unknown_field", "\"latitude\""),
        (json!({ "op": "streak", "params": { "field": "country" } }), "aggregation_invalid_param", "no effect"),
    ] {
        let outcome = Server::default().register(&feature(body.clone()));
        let warnings = outcome.reply["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{body}: {warnings:?}");
        assert_eq!(warnings[0]["code"], code, "{body}");
        assert!(warnings[0]["reason"].as_str().unwrap().contains(part), "{body}: {}", warnings[0]);
    }
    let mut node = by_user(json!({}));
    node["table_primary_key"] = json!(["country"]);
    let outcome = Server::default().register(&nodes(&[tx(), node]));
    assert_eq!(outcome.reply["warnings"][0]["path"], "nodes[1].table_primary_key");
}

#[test]
fn a_thousand_features_register() {
    let agg: serde_json::Map<String, Json> = (0..1000)
        .map(|index| (format!("f{index}"), json!({ "op": "sum", "params": { "field": "amount", "window": format!("{}s", index + 1) } })))
        .collect();
    let mut server = Server::default();
    server.register(&feature(json!({ "op": "count" })));
    server.register(&nodes(&[tx(), table("Wide", json!([]), &["user_id"], Json::Object(agg))]));
    assert_eq!(server.table("Wide").features.len(), 1000);
}
