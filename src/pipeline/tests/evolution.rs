//! What a second payload does to the first one's state.

use super::*;
use crate::pipeline::TableEffect::{Create, Drop, Extend, Retire};

fn count(window: &str) -> Json {
    json!({ "op": "count", "params": { "window": window } })
}

fn sum(field: &str) -> Json {
    json!({ "op": "sum", "params": { "field": field } })
}

fn base() -> Server {
    Server::with(&[nodes(&[tx(), by_user(json!({ "c": count("1h"), "s": sum("amount") }))])])
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

/// Kinds of the destructive entries that a payload is refused for.
fn conflicts(server: &mut Server, payload: &Json) -> Vec<String> {
    let before = server.registry.clone();
    let error = server.try_register(payload).map(|outcome| outcome.reply).expect_err("the payload is refused");
    assert_eq!(error.error.code.as_str(), "force_required", "{error}");
    assert_eq!(*server.registry, *before);
    let diff = &error.to_json()["error"]["diff"];
    diff["destructive"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_first_registration_creates_and_a_repetition_changes_nothing() {
    let payload = nodes(&[tx(), by_user(json!({ "c": count("1h") }))]);
    let mut server = Server::default();
    let outcome = server.register(&payload);
    assert_eq!(outcome.effects, [Create { table: 0 }]);
    for (member, expected) in [
        ("status", json!("ok")),
        ("registry_version", json!(1)),
        ("registered_descriptors", json!(["Tx", "ByUser"])),
        ("added", json!(["ByUser", "Tx"])),
        ("already_present", json!([])),
        ("extended", json!([])),
        ("rebuilt", json!([])),
        ("removed", json!([])),
        ("warnings", json!([])),
    ] {
        assert_eq!(outcome.reply[member], expected, "{member}");
    }
    for again in [payload.clone(), forced(&[tx(), by_user(json!({ "c": { "op": "count", "params": { "window": "60m" } } }))])] {
        let outcome = server.register(&again);
        assert!(outcome.next.is_none() && outcome.effects.is_empty());
        assert_eq!(outcome.reply["already_present"], json!(["ByUser", "Tx"]));
        assert_eq!(outcome.reply["registry_version"], 1);
    }
    let outcome = server.register(&nodes(&[]));
    assert!(outcome.next.is_none());
}

#[test]
fn what_is_not_named_is_left_alone() {
    let mut server = base();
    let other = json!({ "kind": "event", "name": "Other", "schema": { "fields": { "k": "str" } } });
    let outcome = server.register(&nodes(&[other]));
    assert_eq!(outcome.reply["added"], json!(["Other"]));
    assert!(outcome.effects.is_empty());
    assert!(server.registry.table("ByUser").is_some());
}

#[test]
fn new_features_and_fields_grow_in_place() {
    let mut server = base();
    let outcome = server.register(&nodes(&[tx(), by_user(json!({ "c": count("1h"), "s": sum("amount"), "m": sum("n") }))]));
    assert_eq!(outcome.effects, [Extend { table: 0, features: names(&["m"]) }]);
    assert_eq!(outcome.reply["extended"], json!(["ByUser"]));
    assert_eq!(outcome.reply["already_present"], json!(["Tx"]));
    let mut wider = tx();
    wider["schema"]["fields"]["zip"] = json!("str");
    let before = server.table("ByUser");
    let outcome = server.register(&nodes(&[wider]));
    assert_eq!(outcome.reply["extended"], json!(["Tx"]));
    let schema = &server.registry.event("Tx").unwrap().schema;
    assert_eq!((schema.version, &*schema.fields.last().unwrap().name), (2, "zip"));
    assert!(Arc::ptr_eq(&before, &server.table("ByUser")), "an untouched table keeps its definition");
}

#[test]
fn conflicts_are_named_by_kind() {
    let features = |change: Json| {
        let mut agg = json!({ "c": count("1h"), "s": sum("amount") });
        for (name, body) in change.as_object().unwrap() {
            agg[name] = body.clone();
        }
        nodes(&[tx(), by_user(agg)])
    };
    let mut retyped = tx();
    retyped["schema"]["fields"]["amount"] = json!("i64");
    let mut narrower = tx();
    narrower["schema"]["fields"].as_object_mut().unwrap().remove("amount");
    let agg = || json!({ "c": count("1h"), "s": sum("amount") });
    for (payload, kinds) in [
        (features(json!({ "c": count("2h") })), &["window_change"][..]),
        (features(json!({ "c": { "op": "count" } })), &["window_change"]),
        (features(json!({ "s": sum("n") })), &["param_change"]),
        (features(json!({ "s": { "op": "mean", "params": { "field": "amount" } } })), &["param_change"]),
        (features(json!({ "s": { "op": "sum", "params": { "field": "amount", "where": "ok" } } })), &["param_change"]),
        (nodes(&[by_user(json!({ "c": count("1h") }))]), &["agg_removal"]),
        (nodes(&[table("ByUser", json!([]), &["country"], agg())]), &["key_cols_change"]),
        (nodes(&[table("ByUser", json!([{ "op": "filter", "expr": "ok" }]), &["user_id"], agg())]), &["chain_change"]),
        (nodes(&[retyped]), &["type_change"]),
        (nodes(&[narrower]), &["type_change"]),
    ] {
        assert_eq!(conflicts(&mut base(), &payload), kinds, "{payload}");
    }
    let mut filtered = Server::with(&[nodes(&[tx(), table("ByUser", json!([{ "op": "filter", "expr": "ok" }]), &["user_id"], agg())])]);
    assert_eq!(conflicts(&mut filtered, &nodes(&[by_user(agg())])), ["op_removal"]);
}

#[test]
fn force_rebuilds_the_least() {
    let mut server = base();
    let outcome = server.register(&forced(&[tx(), by_user(json!({ "c": count("2h"), "s": sum("amount") }))]));
    assert_eq!(outcome.effects, [Retire { table: 0, features: names(&["c"]) }, Extend { table: 0, features: names(&["c"]) }]);
    assert_eq!(outcome.reply["rebuilt"], json!(["ByUser.c"]));
    assert_eq!(outcome.reply["added"], json!(["ByUser"]));
    assert_eq!(outcome.reply["already_present"], json!(["Tx"]));
    let outcome = server.register(&forced(&[tx(), by_user(json!({ "s": sum("amount") }))]));
    assert_eq!(outcome.effects, [Retire { table: 0, features: names(&["c"]) }]);
    let outcome = server.register(&forced(&[tx(), table("ByUser", json!([]), &["country"], json!({ "s": sum("amount") }))]));
    assert_eq!(outcome.effects, [Drop { table: 0 }, Create { table: 1 }]);
    assert_eq!(outcome.reply["rebuilt"], json!(["ByUser.s"]));
}

#[test]
fn a_retyped_field_gets_another_slot_and_starts_its_features_again() {
    let by_n = table("ByN", json!([]), &["country"], json!({ "s": sum("n") }));
    let mut server = Server::with(&[nodes(&[tx(), by_user(json!({ "c": count("1h") })), by_n])]);
    let mut retyped = tx();
    retyped["schema"]["fields"]["n"] = json!("f64");
    let payload = json!({ "nodes": [retyped], "force": true, "prune": false });
    let outcome = server.register(&payload);
    assert_eq!(outcome.effects, [Retire { table: 1, features: names(&["s"]) }, Extend { table: 1, features: names(&["s"]) }]);
    assert_eq!(outcome.reply["rebuilt"], json!(["ByN.s"]));
    let schema = &server.registry.event("Tx").unwrap().schema;
    let slot = &schema.fields[usize::from(schema.field("n").unwrap().0)];
    assert_eq!((slot.kind, schema.fields.len(), schema.version), (crate::row::FieldType::F64, 11, 2));
    assert_eq!(schema.fields.iter().filter(|field| is_retired(&field.name)).count(), 1);
    assert_eq!(conflicts(&mut server, &nodes(&[tx()])), ["type_change"]);
}

#[test]
fn a_removed_field_that_an_unnamed_table_reads_is_refused_even_with_force() {
    let mut server = base();
    let mut narrower = tx();
    narrower["schema"]["fields"].as_object_mut().unwrap().remove("amount");
    let error =
        server.try_register(&json!({ "nodes": [narrower], "force": true, "prune": false })).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.error.code.as_str(), "force_required");
    assert!(error.error.reason.contains("ByUser") && error.error.reason.contains("amount"), "{error}");
}

#[test]
fn force_removes_omitted_tables_of_the_named_events_and_owner_only() {
    let second = || table("Second", json!([]), &["country"], json!({ "c": count("1h") }));
    let elsewhere = json!({ "kind": "event", "name": "Other", "schema": { "fields": { "user_id": "str" } } });
    let mut on_other = by_user(json!({ "c": count("1h") }));
    on_other["name"] = json!("OnOther");
    on_other["upstreams"] = json!(["Other"]);
    let foreign = table("Foreign", json!([]), &["country"], json!({ "c": count("1h") }));
    let mut server = base();
    server.register(&nodes(&[tx(), second(), elsewhere, on_other]));
    server.register(&json!({ "nodes": [tx(), foreign], "owner": "team-b" }));
    let pipeline = [tx(), by_user(json!({ "c": count("1h"), "s": sum("amount") }))];
    let kept = server.register(&json!({ "nodes": pipeline, "force": true, "prune": false }));
    assert!(kept.next.is_none());
    let outcome = server.register(&forced(&pipeline));
    assert_eq!(outcome.reply["removed"], json!(["Second"]));
    assert_eq!(outcome.effects, [Drop { table: 1 }]);
    assert!(server.registry.table("OnOther").is_some() && server.registry.table("Foreign").is_some());
}

#[test]
fn prune_declares_the_whole_registry_of_an_owner() {
    let mut server = base();
    assert_eq!(conflicts(&mut server, &json!({ "nodes": [tx()], "prune": true })), ["agg_removal"]);
    let mut renamed = by_user(json!({ "c": count("1h"), "s": sum("amount") }));
    renamed["name"] = json!("PerUser");
    assert_eq!(conflicts(&mut server, &json!({ "nodes": [tx(), renamed], "prune": true })), ["rename"]);
    let outcome = server.register(&json!({ "nodes": [tx()], "prune": true, "force": true }));
    assert_eq!(outcome.reply["removed"], json!(["ByUser"]));
    assert_eq!(server.registry.node_count(), 1);
}

#[test]
fn explicit_removal_needs_no_force_but_no_dependents() {
    let mut server = base();
    let error = server.try_register(&json!({ "nodes": [], "remove": ["Tx"] })).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.error.code.as_str(), "force_required");
    let outcome = server.register(&json!({ "nodes": [], "remove": ["ByUser", "Tx"] }));
    assert_eq!(outcome.effects, [Drop { table: 0 }]);
    assert_eq!(outcome.reply["removed"], json!(["ByUser", "Tx"]));
    assert_eq!(server.registry.node_count(), 0);
    let mut server = base();
    let outcome = server.registry.apply_unregister(r#"{"names":["ByUser"],"dry_run":true}"#, &options()).unwrap();
    assert!(outcome.next.is_none());
    let outcome = server.registry.apply_unregister(r#"{"names":["ByUser"]}"#, &options()).unwrap();
    assert_eq!(outcome.reply["removed"], json!(["ByUser"]));
    assert_eq!(server.registry.apply_unregister("{}", &options()).unwrap_err().error.code.as_str(), "invalid_request");
    // A number is not used twice.
    server.registry = outcome.next.unwrap();
    let outcome = server.register(&nodes(&[by_user(json!({ "c": count("1h") }))]));
    assert_eq!(outcome.effects, [Create { table: 1 }]);
}

#[test]
fn another_owner_may_repeat_and_extend_but_not_conflict() {
    let mut server = base();
    let owned = |agg: Json, force: bool| json!({ "nodes": [tx(), by_user(agg)], "owner": "team-b", "force": force });
    let outcome = server.register(&owned(json!({ "c": count("1h"), "s": sum("amount") }), false));
    assert!(outcome.next.is_none());
    for force in [false, true] {
        let error =
            server.try_register(&owned(json!({ "c": count("2h"), "s": sum("amount") }), force)).map(|outcome| outcome.reply).unwrap_err();
        assert_eq!(error.error.code.as_str(), "force_required");
    }
    let outcome = server.register(&owned(json!({ "c": count("1h"), "s": sum("amount"), "x": sum("n") }), false));
    assert_eq!(outcome.reply["extended"], json!(["ByUser"]));
    assert_eq!(&*server.table("ByUser").owner, "");
}

#[test]
fn dry_run_validates_and_applies_nothing() {
    let mut server = base();
    let payload = |agg: Json| json!({ "nodes": [tx(), by_user(agg)], "dry_run": true, "force": true });
    let outcome = server.register(&payload(json!({ "c": count("2h"), "n": count("1m") })));
    assert!(outcome.next.is_none() && outcome.effects.is_empty());
    assert_eq!(outcome.reply["would_apply"], false);
    let kinds = |list: &str| {
        let entries = outcome.reply["diff"][list].as_array().unwrap();
        entries.iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("additive"), ["new_agg"]);
    assert_eq!(kinds("destructive"), ["agg_removal", "window_change"]);
    assert_eq!(outcome.reply["diff"]["already_present"], json!(["Tx"]));
    let error = server.try_register(&payload(json!({ "c": { "op": "nope" } }))).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.error.code.as_str(), "aggregation_unknown_op");
}

#[test]
fn a_name_keeps_its_kind_unless_it_is_removed_first() {
    let mut server = base();
    let mut event = tx();
    event["name"] = json!("ByUser");
    let error = server.try_register(&nodes(&[event])).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!((error.error.code.as_str(), error.error.code.status()), ("kind_change", 409));
}

#[test]
fn names_of_the_config_file_belong_to_it() {
    let config = RegisterOptions { origin: Origin::Config, ..options() };
    let payload = nodes(&[tx(), by_user(json!({ "c": count("1h") }))]);
    let registry = Registry::default().apply_register(&payload.to_string(), &config).unwrap().next.unwrap();
    let mut server = Server { registry };
    assert!(server.register(&payload).next.is_none());
    let growth = nodes(&[tx(), by_user(json!({ "c": count("1h"), "d": count("2h") }))]);
    let error = server.try_register(&growth).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!((error.error.code.as_str(), error.error.code.status()), ("config_owned", 409));
    let error = server.try_register(&json!({ "nodes": [], "remove": ["ByUser"] })).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.error.code.as_str(), "config_owned");
    // Force of others does not reach it, and a table beside it is fine.
    let outcome = server.register(&forced(&[tx(), table("Mine", json!([]), &["country"], json!({ "c": count("1h") }))]));
    assert_eq!(outcome.reply["removed"], json!([]));
    // The changed file itself: additions pass, losses need to be named.
    let outcome = server.registry.apply_register(&growth.to_string(), &config).unwrap();
    assert_eq!(outcome.effects, [Extend { table: 0, features: names(&["d"]) }]);
    let changed = nodes(&[tx(), by_user(json!({ "c": count("3h") }))]).to_string();
    let error = server.registry.apply_register(&changed, &config).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.error.code.as_str(), "config_change_destructive");
    for rebuild in ["ByUser", "ByUser.c"] {
        let rebuild = [rebuild.to_owned()];
        let outcome = server.registry.apply_register(&changed, &RegisterOptions { rebuild: &rebuild, ..config }).unwrap();
        assert_eq!(outcome.effects, [Retire { table: 0, features: names(&["c"]) }, Extend { table: 0, features: names(&["c"]) }]);
    }
    let gone = nodes(&[tx()]).to_string();
    assert!(server.registry.apply_register(&gone, &config).is_err());
    let rebuild = ["ByUser".to_owned()];
    let outcome = server.registry.apply_register(&gone, &RegisterOptions { rebuild: &rebuild, ..config }).unwrap();
    assert_eq!(outcome.effects, [Drop { table: 0 }]);
}

#[test]
fn a_changed_event_derivation_rebuilds_the_tables_on_it() {
    let big = |limit: i64| json!({ "kind": "derivation", "name": "Big", "output_kind": "event", "upstreams": ["Tx"], "ops": [{ "op": "filter", "expr": format!("amount > {limit}") }] });
    let mut node = by_user(json!({ "c": count("1h") }));
    node["upstreams"] = json!(["Big"]);
    let mut server = Server::with(&[nodes(&[tx(), big(1), node])]);
    assert_eq!(conflicts(&mut server, &nodes(&[big(2)])), ["chain_change"]);
    let outcome = server.register(&forced(&[big(2)]));
    assert_eq!(outcome.effects, [Drop { table: 0 }, Create { table: 1 }]);
}

/// Features over computed fields, by the real operators, since stored features are compiled by them.
fn computed(features: &[(&str, &str)]) -> Json {
    let agg: serde_json::Map<String, Json> = features
        .iter()
        .map(|(name, expr)| ((*name).to_owned(), json!({ "op": "sum", "params": { "expr": expr, "where": "half > 1" } })))
        .collect();
    let chain = json!([{ "op": "with_columns", "exprs": { "half": "amount / 2" } }]);
    forced(&[tx(), table("ByUser", chain, &["user_id"], Json::Object(agg))])
}

fn column(server: &Server, feature: &str) -> Column {
    server.table("ByUser").feature(feature).unwrap().field.unwrap()
}

#[test]
fn columns_of_computed_fields_stay_when_features_come_and_go() {
    let mut server = Server::with(&[computed(&[("m", "n * 2")])]);
    assert_eq!(column(&server, "m"), Column::Derived(1));
    let before = server.table("ByUser").feature("m").unwrap().clone();
    let outcome = server.register(&computed(&[("a", "n * 3"), ("m", "n * 2")]));
    assert_eq!(outcome.effects, [Extend { table: 0, features: names(&["a"]) }]);
    assert_eq!((column(&server, "a"), column(&server, "m")), (Column::Derived(2), Column::Derived(1)));
    assert_eq!(*server.table("ByUser").feature("m").unwrap(), before);
    let outcome = server.register(&computed(&[("a", "n * 3")]));
    assert_eq!(outcome.effects, [Retire { table: 0, features: names(&["m"]) }]);
    server.register(&computed(&[("a", "n * 3"), ("z", "n * 2"), ("b", "n * 4")]));
    assert_eq!(
        (column(&server, "a"), column(&server, "z"), column(&server, "b")),
        (Column::Derived(2), Column::Derived(1), Column::Derived(3))
    );
}
