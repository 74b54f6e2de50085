//! `resolution` of a window: what is accepted, what is refused by name, and that it is part of what a feature is.

use super::*;
use crate::pipeline::TableEffect::{Extend, Retire};
use crate::state::{Content, State};

fn count(params: Json) -> Json {
    nodes(&[tx(), by_user(json!({ "c": { "op": "count", "params": params } }))])
}

#[test]
fn it_is_16_to_1024_and_stands_beside_a_window_only() {
    let path = "nodes[1].ops[0].agg.c.params.resolution";
    for (params, reason) in [
        (json!({ "window": "1h", "resolution": 15 }), "an integer from 16 to 1024 is wanted"),
        (json!({ "window": "1h", "resolution": 1025 }), "an integer from 16 to 1024 is wanted"),
        (json!({ "window": "1h", "resolution": -64 }), "an integer from 16 to 1024 is wanted"),
        (json!({ "window": "1h", "resolution": 64.5 }), "an integer from 16 to 1024 is wanted"),
        (json!({ "window": "1h", "resolution": "64" }), "an integer from 16 to 1024 is wanted"),
        (json!({ "resolution": 64 }), "cuts a window into buckets, and \"c\" has none"),
        (json!({ "window": "forever", "resolution": 128 }), "cuts a window into buckets, and \"c\" has none"),
        (json!({ "window": "63ms", "resolution": 64 }), "a bucket is at least 1 ms, so 63 fit"),
    ] {
        let error = Server::default().try_register(&count(params.clone())).map(|outcome| outcome.reply).unwrap_err();
        assert_eq!((error.problems.len(), error.problems[0].code.as_str()), (1, "aggregation_invalid_param"), "{params}");
        assert_eq!(error.problems[0].path, path, "{params}");
        assert!(error.problems[0].reason.contains(reason), "{params}: {error}");
    }
    for (params, resolution) in [
        (json!({ "window": "1h", "resolution": 16 }), 16),
        (json!({ "window": "1h", "resolution": 1024 }), 1024),
        (json!({ "window": "64ms", "resolution": 64 }), 64),
        (json!({ "window": "10ms" }), 64),
        (json!({ "window": "1h" }), 64),
        (json!({ "window": "1h", "resolution": null }), 64),
        (json!({}), 64),
    ] {
        let server = Server::with(&[count(params.clone())]);
        assert_eq!(server.table("ByUser").feature("c").unwrap().resolution, resolution, "{params}");
    }
}

#[test]
fn an_operator_without_windows_does_not_know_it_and_an_ignored_window_has_none() {
    let outcome = Server::default()
        .register(&nodes(&[tx(), by_user(json!({ "f": { "op": "first", "params": { "field": "n", "resolution": 128 } } }))]));
    assert_eq!(outcome.reply["warnings"][0]["code"], "unknown_config_key");
    let agg = json!({ "b": { "op": "burst_count", "params": { "window": "5m", "sub_window": "10s", "resolution": 128 } } });
    let options = RegisterOptions { ignore_velocity_windows: true, ..options() };
    let outcome = Registry::default().apply_register(&nodes(&[tx(), by_user(agg)]).to_string(), &options).unwrap();
    assert_eq!(outcome.warnings.len(), 2, "{:?}", outcome.warnings);
    assert_eq!(outcome.next.unwrap().table("ByUser").unwrap().feature("b").unwrap().resolution, 64);
}

#[test]
fn changing_it_starts_the_feature_again_and_naming_the_default_changes_nothing() {
    let with = |resolution: Option<u32>| {
        let mut params = json!({ "window": "1h" });
        if let Some(resolution) = resolution {
            params["resolution"] = json!(resolution);
        }
        by_user(json!({ "c": { "op": "count", "params": params }, "d": { "op": "count", "params": { "window": "1h" } } }))
    };
    for (before, after, change) in [
        (None, Some(64), None),
        (Some(64), None, None),
        (Some(128), Some(128), None),
        (None, Some(128), Some((64, 128))),
        (Some(128), None, Some((128, 64))),
        (Some(16), Some(1024), Some((16, 1024))),
    ] {
        let mut server = Server::with(&[nodes(&[tx(), with(before)])]);
        let Some((from, to)) = change else {
            assert!(server.register(&nodes(&[tx(), with(after)])).next.is_none(), "{before:?} to {after:?}");
            continue;
        };
        let refused = server.try_register(&nodes(&[tx(), with(after)])).map(|outcome| outcome.reply).unwrap_err();
        let entry = json!({ "kind": "param_change", "agg": "ByUser.c", "param": "resolution", "from": from, "to": to });
        assert_eq!(refused.to_json()["error"]["diff"]["destructive"], json!([entry]));
        let outcome = server.register(&forced(&[tx(), with(after)]));
        let features = vec!["c".to_owned()];
        assert_eq!(outcome.effects, [Retire { table: 0, features: features.clone() }, Extend { table: 0, features }]);
    }
}

/// As many sums that share nothing: each reads a computed field of its own.
fn sums(range: std::ops::Range<usize>, resolution: u32) -> Json {
    let sum = |index: usize| {
        let params = json!({ "expr": format!("(n + {index})"), "window": "1h", "resolution": resolution });
        (format!("s{index:05}"), json!({ "op": "sum", "params": params }))
    };
    nodes(&[tx(), by_user(Json::Object(range.map(sum).collect()))])
}

/// A ring was once cut into fewer buckets without a word when its features were many.
#[test]
fn a_ring_beyond_the_largest_object_is_refused_with_the_number_that_fits() {
    const COUNT: usize = 3_000;
    let options = RegisterOptions::default();
    let register = |registry: &Registry, payload: &Json| registry.apply_register(&payload.to_string(), &options);
    let registry = Registry::default();
    let error = register(&registry, &sums(0..COUNT, 1024)).map(|outcome| outcome.reply).unwrap_err().problems.remove(0);
    assert_eq!((error.code.as_str(), &*error.path), ("aggregation_invalid_param", "nodes[1].ops[0].agg.s00000.params.resolution"));
    let fits: u32 = error.reason.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((16..1024).contains(&fits), "{error:?}");
    assert!(error.reason.starts_with("table ByUser: window 1h at resolution 1024"), "{error:?}");
    assert_eq!(
        error.hint.as_deref(),
        Some(&*format!("set resolution = {fits} or less on every feature of this window, or split the table"))
    );
    assert!(register(&registry, &sums(0..COUNT, fits + 1)).is_err());
    let outcome = register(&registry, &sums(0..COUNT, fits)).unwrap();
    let registry = outcome.next.unwrap();
    // The state takes what registration accepts.
    let mut state = State::new(1);
    state.apply(&Content::Definition { registry: Arc::clone(&registry), effects: outcome.effects }, 1, 0);
    // What was added one by one could be rebuilt as one.
    let error = register(&registry, &sums(0..COUNT + 1_000, fits)).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.problems[0].code.as_str(), "aggregation_invalid_param");
}
