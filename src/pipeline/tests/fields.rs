//! A field that changes its type, or the place that it comes from, and what that costs: only what reads it.

use super::*;
use crate::pipeline::TableEffect::{Create, Drop, Extend, Retire};
use crate::row::EventId;
use std::collections::BTreeMap;

fn retyped(field: &str, kind: &str) -> Json {
    let mut event = tx();
    event["schema"]["fields"][field] = json!(kind);
    event
}

fn features(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_retyped_field_starts_again_what_reads_it_and_nothing_else() {
    let count = || json!({ "op": "count", "params": { "window": "1h" } });
    let sum = |params: Json| json!({ "op": "sum", "params": params });
    let all = || json!({ "c": count(), "s": sum(json!({ "field": "n" })), "other": sum(json!({ "field": "amount" })) });
    let again = |names: &[&str]| vec![Retire { table: 0, features: features(names) }, Extend { table: 0, features: features(names) }];
    let whole = || vec![Drop { table: 0 }, Create { table: 1 }];
    let doubled = json!([{ "op": "with_columns", "exprs": { "d": "(n + n)", "e": "(d * 2)", "f": "(amount * 2)" } }]);
    for (node, effects) in [
        (by_user(json!({ "c": count(), "other": sum(json!({ "field": "amount" })) })), vec![]),
        (by_user(all()), again(&["s"])),
        (by_user(json!({ "c": count(), "s": sum(json!({ "expr": "(n + 1)" })) })), again(&["s"])),
        (by_user(json!({ "c": count(), "s": sum(json!({ "field": "amount", "where": "n > 1" })) })), again(&["s"])),
        (by_user(json!({ "s": sum(json!({ "field": "n" })) })), again(&["s"])),
        // Through the chain, also over several steps, and not when nobody reads what is computed from it.
        (table("T", doubled.clone(), &["user_id"], json!({ "c": count(), "s": sum(json!({ "field": "e" })) })), again(&["s"])),
        (table("T", doubled.clone(), &["user_id"], json!({ "c": count(), "s": sum(json!({ "field": "f" })) })), vec![]),
        (table("T", doubled, &["user_id"], json!({ "c": count() })), vec![]),
        (
            table(
                "T",
                json!([{ "op": "rename", "mapping": { "n": "m" } }]),
                &["user_id"],
                json!({ "c": count(), "s": sum(json!({ "field": "m" })) }),
            ),
            again(&["s"]),
        ),
        (
            table(
                "T",
                json!([{ "op": "fillna", "defaults": { "n": 1 } }]),
                &["user_id"],
                json!({ "c": count(), "s": sum(json!({ "field": "n" })) }),
            ),
            again(&["s"]),
        ),
        // Its key or its filter reads it.
        (table("T", json!([{ "op": "cast", "type_map": { "n": "str" } }]), &["n"], json!({ "c": count() })), whole()),
        (table("T", json!([{ "op": "filter", "expr": "n > 1" }]), &["user_id"], all()), whole()),
        (
            table(
                "T",
                json!([{ "op": "with_columns", "exprs": { "d": "(n + n)" } }, { "op": "filter", "expr": "d > 1" }]),
                &["user_id"],
                json!({ "c": count() }),
            ),
            whole(),
        ),
        (by_user(json!({ "g": { "op": "geo_velocity", "params": { "lat": "n", "lon": "lon" } }, "c": count() })), again(&["g"])),
    ] {
        // Named in the payload, and left to itself.
        for payload in [nodes(&[retyped("n", "f64"), node.clone()]), nodes(&[retyped("n", "f64")])] {
            let mut server = Server::with(&[nodes(&[tx(), node.clone()])]);
            if effects.is_empty() {
                // What nobody reads is lost to nobody, as in the config file.
                assert_eq!(server.try_register(&payload).map(|outcome| outcome.effects).ok(), Some(Vec::new()), "{node}");
                continue;
            }
            let error = server.try_register(&payload).map(|outcome| outcome.reply).unwrap_err();
            assert_eq!(error.to_json()["error"]["diff"]["destructive"][0]["kind"], "type_change", "{node}");
            let mut forced = payload;
            forced["force"] = json!(true);
            forced["prune"] = json!(false);
            let outcome = server.register(&forced);
            assert_eq!(outcome.effects, effects, "{node}");
            // What was retired is gone: going back starts the same again.
            let outcome = server.register(&json!({ "nodes": [tx()], "force": true, "prune": false }));
            assert_eq!(outcome.effects.len(), effects.len(), "{node}");
        }
    }
}

#[test]
fn a_change_of_an_event_without_rows_loses_nothing() {
    let count = |window: &str| json!({ "op": "count", "params": { "window": window } });
    let agg = || json!({ "c": count("1h"), "s": { "op": "sum", "params": { "field": "n" } } });
    let other = || json!({ "kind": "event", "name": "Other", "schema": { "fields": { "user_id": "str", "n": "i64" } } });
    let on_other = |keys: &[&str]| {
        let mut node = table("OnOther", json!([]), keys, json!({ "c": count("1h") }));
        node["upstreams"] = json!(["Other"]);
        node
    };
    let server = Server::with(&[nodes(&[tx(), by_user(agg()), other(), on_other(&["user_id"])])]);
    let unfed = [EventId(0)];
    let options = RegisterOptions { unfed: &unfed, ..options() };
    let register = |payload: &Json, options: &RegisterOptions<'_>| server.registry.apply_register(&payload.to_string(), options);
    for (payload, effects) in [
        (nodes(&[retyped("n", "str"), by_user(json!({ "c": count("1h") }))]), vec![Retire { table: 0, features: features(&["s"]) }]),
        (nodes(&[retyped("user_id", "i64"), by_user(agg())]), vec![Drop { table: 0 }, Create { table: 2 }]),
        (nodes(&[table("ByUser", json!([]), &["country"], agg())]), vec![Drop { table: 0 }, Create { table: 2 }]),
        (
            nodes(&[by_user(json!({ "c": count("2h"), "s": { "op": "sum", "params": { "field": "n" } } }))]),
            vec![Retire { table: 0, features: features(&["c"]) }, Extend { table: 0, features: features(&["c"]) }],
        ),
        (json!({ "nodes": [other(), on_other(&["user_id"])], "prune": true }), vec![Drop { table: 0 }]),
    ] {
        let refused = register(&payload, &super::options()).map(|outcome| outcome.reply).unwrap_err();
        assert_eq!(refused.error.code.as_str(), "force_required", "with rows: {payload}");
        let mut dry = payload.clone();
        dry["dry_run"] = json!(true);
        let diff = register(&dry, &options).unwrap().reply["diff"].clone();
        assert_eq!(diff["destructive"], json!([]), "{payload}");
        assert_ne!(diff["additive"], json!([]), "{payload}");
        assert_eq!(register(&payload, &options).unwrap().effects, effects, "{payload}");
        // It still is its owner's.
        let mut foreign = payload;
        foreign["owner"] = json!("team-b");
        if foreign["prune"].is_null() {
            assert_eq!(register(&foreign, &options).unwrap_err().error.code.as_str(), "force_required");
        }
    }
    // Its neighbour has rows.
    let mixed = nodes(&[retyped("n", "str"), by_user(json!({ "c": count("1h") })), other(), on_other(&["n"])]);
    let refused = register(&mixed, &options).map(|outcome| outcome.reply).unwrap_err();
    let kinds = |list: &Json| list.as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&refused.to_json()["error"]["diff"]["destructive"]), ["key_cols_change"]);
}

/// What sources say about the event: names, topics, and where two fields come from.
fn projections(sources: &[(&str, &str, &[&str], &[&str])]) -> Projections {
    let places = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect::<Vec<_>>();
    let of = |(name, topic, n, country): &(&str, &str, &[&str], &[&str])| {
        let fields = [("n".into(), places(n)), ("country".into(), places(country))];
        ((*name).into(), Projection { topics: vec![(*topic).to_owned()], said: BTreeMap::new(), fields: fields.into() })
    };
    [("Tx".into(), sources.iter().map(of).collect())].into()
}

#[test]
fn a_field_from_another_place_is_told_and_needs_leave_where_features_would_mix() {
    let agg = json!({ "c": { "op": "count", "params": { "window": "1h" } }, "s": { "op": "sum", "params": { "field": "n" } } });
    let payload = nodes(&[tx(), by_user(agg)]).to_string();
    let before = projections(&[("s", "t", &["n"], &["country"])]);
    let config = RegisterOptions { origin: Origin::Config, ..options() };
    let registry =
        Registry::default().apply_register(&payload, &RegisterOptions { projections: Some(&before), ..config }).unwrap().next.unwrap();
    assert_eq!(registry.projections, before);
    assert_eq!(Registry::from_json(&registry.to_json(), super::operators::ALL).unwrap(), *registry);
    let again = |features: &[&str]| {
        let features: Vec<String> = features.iter().map(|&name| name.to_owned()).collect();
        vec![Retire { table: 0, features: features.clone() }, Extend { table: 0, features }]
    };
    let told = |from: &str, to: &str| vec![format!("field Tx.n: source s takes it from {to}, and took it from {from} before")];
    for (after, allowed, effects, sentences) in [
        (projections(&[("s", "t", &["n"], &["country"])]), &[][..], Some(vec![]), vec![]),
        (projections(&[("s", "t", &["x.n"], &["country"])]), &[], None, vec![]),
        (projections(&[("s", "t", &["header:n"], &["country"])]), &[], None, vec![]),
        // Both places hold the same value, it says.
        (projections(&[("s", "t", &["x.n", "n"], &["country"])]), &[], Some(vec![]), told("n", "x.n or n")),
        // Nothing reads it.
        (
            projections(&[("s", "t", &["n"], &["x.country"])]),
            &[],
            Some(vec![]),
            vec!["field Tx.country: source s takes it from x.country, and took it from country before".to_owned()],
        ),
        (projections(&[("s", "t", &["x.n"], &["country"])]), &["Tx.n"], Some(again(&["s"])), vec![]),
        (projections(&[("s", "t", &["x.n"], &["country"])]), &["Tx"], Some(again(&["s"])), vec![]),
        (projections(&[("s", "t", &["x.n"], &["country"])]), &["ByUser"], Some(again(&["s"])), vec![]),
        (projections(&[("s", "t", &["x.n"], &["country"])]), &["ByUser.s"], Some(again(&["s"])), vec![]),
        (projections(&[("s", "t", &["x.n"], &["country"])]), &["ByUser.c"], None, vec![]),
        // Another name for the same source, and another source beside it.
        (projections(&[("r", "t", &["x.n"], &["country"])]), &[], None, vec![]),
        (projections(&[("r", "t", &["n"], &["country"])]), &[], Some(vec![]), vec![]),
        (projections(&[("s", "t", &["n"], &["country"]), ("r", "u", &["x.n"], &["country"])]), &[], Some(vec![]), vec![]),
    ] {
        let allowed: Vec<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let options = RegisterOptions { projections: Some(&after), rebuild: &allowed, ..config };
        match (registry.apply_register(&payload, &options), effects) {
            (Ok(outcome), Some(effects)) => {
                assert_eq!(outcome.effects, effects, "{after:?}");
                if !sentences.is_empty() {
                    assert_eq!(outcome.all_told(), sentences);
                }
                let Some(next) = outcome.next else {
                    assert_eq!(after, before);
                    continue;
                };
                assert_eq!(next.projections, after);
                let quiet = RegisterOptions { projections: Some(&after), ..config };
                assert!(next.apply_register(&payload, &quiet).unwrap().next.is_none(), "{after:?} is told once");
                // A register call says nothing about sources, and takes nothing away.
                let (_, slot) = (next.clone(), next.event("Tx").unwrap().schema.field("n"));
                assert_eq!(slot == registry.event("Tx").unwrap().schema.field("n"), effects.is_empty(), "{after:?}");
            }
            (Err(refused), None) => {
                assert_eq!(refused.error.code.as_str(), "config_change_destructive");
                let [loss] = &refused.losses[..] else { panic!("{:?}", refused.losses) };
                assert_eq!(loss.allowed_as, "Tx.n");
                assert!(loss.what.ends_with(": feature ByUser.s starts again"), "{}", loss.what);
                let path = !loss.what.contains("header:");
                assert_eq!(loss.kept_by.is_some(), path, "{loss:?}");
            }
            (found, expected) => panic!("{found:?} where {expected:?} is expected: {after:?}"),
        }
    }
    // Without rows there is nothing to mix.
    let (after, unfed) = (projections(&[("s", "t", &["x.n"], &["country"])]), [EventId(0)]);
    let options = RegisterOptions { projections: Some(&after), unfed: &unfed, ..config };
    assert!(registry.apply_register(&payload, &options).unwrap().effects.is_empty());
}
