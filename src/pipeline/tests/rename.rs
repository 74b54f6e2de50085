//! `renamed_from`: a table's state goes on under another name, once, in every order, or it is refused by name.

use super::*;
use crate::pipeline::TableEffect::{Create, Drop, Extend, Retire};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn count(window: &str) -> Json {
    json!({ "op": "count", "params": { "window": window } })
}

/// A table of one count, so that any two are alike, with its former name.
fn named(name: &str, former: Option<&str>) -> Json {
    let mut node = table(name, json!([]), &["user_id"], json!({ "c": count("1h") }));
    if let Some(former) = former {
        node["renamed_from"] = json!(former);
    }
    node
}

/// A name, and the former one.
type Named = (&'static str, Option<&'static str>);

/// Tables before, tables that are declared, and numbers afterwards.
type Case = (&'static [&'static str], &'static [Named], &'static [(&'static str, u32)]);

fn payload(tables: &[(&str, Option<&str>)]) -> Json {
    let tables = tables.iter().map(|(name, former)| named(name, *former));
    nodes(&std::iter::once(tx()).chain(tables).collect::<Vec<_>>())
}

/// Numbers of tables by name.
fn ids(server: &Server) -> Vec<(String, u32)> {
    server.registry.tables.values().map(|table| (table.name.to_string(), table.id)).collect()
}

#[test]
fn a_table_keeps_its_number_under_another_name_at_this_start_and_at_every_later_one() {
    let cases: &[Case] = &[
        (&["a"], &[("b", Some("a"))], &[("b", 0)]),
        // Nothing to rename: it begins anew.
        (&[], &[("b", Some("a"))], &[("b", 0)]),
        (&["z"], &[("b", Some("a"))], &[("b", 1), ("z", 0)]),
        // It is there already.
        (&["b"], &[("b", Some("a"))], &[("b", 0)]),
        (&["a", "b"], &[("b", Some("a"))], &[("a", 0), ("b", 1)]),
        (&["a", "b"], &[("a", None), ("b", Some("a"))], &[("a", 0), ("b", 1)]),
        // A chain moves up by one, whichever node comes first.
        (&["a", "b"], &[("b", Some("a")), ("c", Some("b"))], &[("b", 0), ("c", 1)]),
        (&["a", "b"], &[("c", Some("b")), ("b", Some("a"))], &[("b", 0), ("c", 1)]),
        (&["a", "b", "c"], &[("d", Some("c")), ("b", Some("a")), ("c", Some("b"))], &[("b", 0), ("c", 1), ("d", 2)]),
        // The lower end of a chain has no former state.
        (&["b"], &[("b", Some("a")), ("c", Some("b"))], &[("b", 1), ("c", 0)]),
        // Its upper end is there already, so nothing moves.
        (&["b", "c"], &[("b", Some("a")), ("c", Some("b"))], &[("b", 0), ("c", 1)]),
        (&["a", "c"], &[("b", Some("a")), ("c", Some("b"))], &[("b", 0), ("c", 1)]),
        // Its middle is new: it begins anew, and its heir is there.
        (&["c"], &[("b", Some("a")), ("c", Some("b"))], &[("b", 1), ("c", 0)]),
    ];
    for (before, after, expected) in cases {
        let before: Vec<(&str, Option<&str>)> = before.iter().map(|name| (*name, None)).collect();
        let mut server = Server::with(&[payload(&before)]);
        server.register(&payload(after));
        let expected: Vec<(String, u32)> = expected.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        assert_eq!(ids(&server), expected, "{before:?} to {after:?}");
        for _ in 0..2 {
            let again = server.register(&payload(after));
            assert!(again.next.is_none(), "{after:?} changes nothing once it is in force");
        }
    }
}

#[test]
fn a_rename_touches_no_state_and_says_what_it_did() {
    let mut server = Server::with(&[payload(&[("a", None)])]);
    let dry = server.register(&json!({ "nodes": [tx(), named("b", Some("a"))], "dry_run": true }));
    assert_eq!(dry.reply["diff"]["additive"], json!([{ "kind": "rename", "from": "a", "to": "b" }]));
    assert_eq!(dry.reply["diff"]["destructive"], json!([]));
    let outcome = server.register(&payload(&[("b", Some("a"))]));
    assert!(outcome.effects.is_empty(), "{:?}", outcome.effects);
    assert_eq!(outcome.told, ["a is b now"]);
    for (member, expected) in [
        ("renamed", json!([{ "from": "a", "to": "b" }])),
        ("added", json!([])),
        ("removed", json!([])),
        ("rebuilt", json!([])),
        ("extended", json!([])),
    ] {
        assert_eq!(outcome.reply[member], expected, "{member}");
    }
    // With a feature more, and with one changed.
    let mut node = named("c", Some("b"));
    node["ops"][0]["agg"]["more"] = count("2h");
    let outcome = server.register(&nodes(&[tx(), node.clone()]));
    assert_eq!(outcome.effects, [Extend { table: 0, features: vec!["more".to_owned()] }]);
    node["name"] = json!("d");
    node["renamed_from"] = json!("c");
    node["ops"][0]["agg"]["more"] = count("3h");
    let error = server.try_register(&nodes(&[tx(), node.clone()])).map(|outcome| outcome.reply).unwrap_err();
    let change = json!([{ "kind": "window_change", "agg": "d.more", "from": "2h", "to": "3h" }]);
    assert_eq!(error.to_json()["error"]["diff"]["destructive"], change);
    let more = vec!["more".to_owned()];
    let outcome = server.register(&forced(&[tx(), node]));
    assert_eq!(outcome.effects, [Retire { table: 0, features: more.clone() }, Extend { table: 0, features: more }]);
    assert_eq!(outcome.reply["rebuilt"], json!(["d.more"]));
    // Under another key its state means nothing.
    let node = {
        let mut node = table("e", json!([]), &["country"], json!({ "c": count("1h") }));
        node["renamed_from"] = json!("d");
        node
    };
    let outcome = server.register(&forced(&[tx(), node]));
    assert_eq!(outcome.effects, [Drop { table: 0 }, Create { table: 1 }]);
    assert_eq!(outcome.reply["rebuilt"], json!(["e.c"]));
}

/// The tables that vanish and those that they could be, as a refused file is told. `same` ones are alike in all but
/// their name.
#[test]
fn a_guess_names_the_table_that_a_vanishing_one_could_be() {
    let config = RegisterOptions { origin: Origin::Config, ..options() };
    let of = |name: &str, key: &str, features: &[&str]| {
        let agg: serde_json::Map<String, Json> = features.iter().map(|feature| ((*feature).to_owned(), count(feature))).collect();
        table(name, json!([]), &[key], Json::Object(agg))
    };
    let user = |name: &str, features: &[&str]| of(name, "user_id", features);
    // What is gone, how it is like another one, and which.
    type Guesses = &'static [(&'static str, &'static str, &'static str)];
    type Case = (&'static str, Vec<Json>, Vec<Json>, Guesses);
    let cases: Vec<Case> = vec![
        ("the same", vec![user("a", &["1h"])], vec![user("b", &["1h"])], &[("a", "declared alike", "b")]),
        ("half of it", vec![user("a", &["1h", "2h"])], vec![user("b", &["1h", "3h"])], &[("a", "much like it", "b")]),
        ("less than half", vec![user("a", &["1h", "2h", "3h"])], vec![user("b", &["1h", "5h"])], &[("a", "", "")]),
        ("another key", vec![user("a", &["1h"])], vec![of("b", "country", &["1h"])], &[("a", "", "")]),
        (
            "the nearest of several",
            vec![user("a", &["1h", "2h", "3h"])],
            vec![user("b", &["1h", "2h"]), user("c", &["1h", "2h", "3h", "4h"])],
            &[("a", "much like it", "c")],
        ),
        (
            "of two that are as near the first",
            vec![user("a", &["1h"])],
            vec![user("c", &["1h", "2h"]), user("b", &["1h", "2h"])],
            &[("a", "much like it", "b")],
        ),
        (
            "one that is the same goes before one that is like it",
            vec![user("a", &["1h", "2h"]), user("z", &["1h"])],
            vec![user("b", &["1h"])],
            &[("a", "", ""), ("z", "declared alike", "b")],
        ),
        (
            "one takes over one state only",
            vec![user("a", &["1h"]), user("b", &["1h"])],
            vec![user("c", &["1h"]), user("d", &["1h", "7h"])],
            &[("a", "declared alike", "c"), ("b", "much like it", "d")],
        ),
        (
            "more vanish than come",
            vec![user("a", &["1h"]), user("b", &["1h"])],
            vec![user("c", &["1h"])],
            &[("a", "declared alike", "c"), ("b", "", "")],
        ),
    ];
    for (what, before, after, expected) in cases {
        let with_event = |tables: &[Json]| nodes(&std::iter::once(tx()).chain(tables.iter().cloned()).collect::<Vec<_>>()).to_string();
        let stored = Registry::default().apply_register(&with_event(&before), &config).unwrap().next.unwrap();
        let refused = stored.apply_register(&with_event(&after), &config).map(|outcome| outcome.told).unwrap_err();
        let mut losses = refused.losses.clone();
        losses.sort_by(|one, other| one.allowed_as.cmp(&other.allowed_as));
        assert_eq!(losses.len(), expected.len(), "{what}: {losses:?}");
        for (loss, (gone, how, to)) in losses.iter().zip(expected) {
            assert_eq!(loss.allowed_as, *gone, "{what}");
            let guess = match *how {
                "" => String::new(),
                "declared alike" => format!(", and {to} is declared alike"),
                how => format!(", and {to} is {how}"),
            };
            assert_eq!(loss.what, format!("{gone} is no longer declared{guess}: all its keys go"), "{what}");
            let kept_by = (!how.is_empty()).then(|| format!("renamed_from = \"{gone}\" in [tables.{to}] keeps its state"));
            assert_eq!(loss.kept_by, kept_by, "{what}");
        }
        // Doing all that is said keeps all that it says.
        let obeyed = after.iter().cloned().map(|mut node| {
            if let Some((gone, ..)) = expected.iter().find(|(_, _, to)| node["name"] == *to) {
                node["renamed_from"] = json!(gone);
            }
            node
        });
        let everything: Vec<String> = stored
            .tables
            .values()
            .flat_map(|table| {
                let features = table.features.iter().map(|feature| format!("{}.{}", table.name, feature.name));
                features.chain([table.name.to_string()]).collect::<Vec<_>>()
            })
            .chain(after.iter().map(|node| node["name"].as_str().unwrap().to_owned()))
            .collect();
        let allowed = RegisterOptions { rebuild: &everything, ..config };
        let next = stored.apply_register(&with_event(&obeyed.collect::<Vec<_>>()), &allowed).unwrap().next.unwrap();
        for (gone, how, to) in expected.iter().filter(|(_, how, _)| !how.is_empty()) {
            assert_eq!(next.table(to).unwrap().id, stored.table(gone).unwrap().id, "{what}: {how}");
        }
    }
}

#[test]
fn what_could_mean_two_things_is_refused_by_name() {
    let swap = "tables a, b take over each other's names";
    let cases: Vec<(&[&str], Vec<Json>, &str)> = vec![
        (&["a", "b"], vec![named("a", Some("b")), named("b", Some("a"))], swap),
        // Whatever is there: at the next start it would be a swap.
        (&[], vec![named("a", Some("b")), named("b", Some("a"))], swap),
        (&["b"], vec![named("a", Some("b")), named("b", Some("a"))], swap),
        (
            &["a"],
            vec![named("a", Some("c")), named("b", Some("a")), named("c", Some("b")), named("x", Some("a2"))],
            "tables a, c, b take over each other's names",
        ),
        (&["a"], vec![named("a", Some("a"))], "table \"a\" is renamed from itself"),
        (&["a"], vec![named("b", Some("a")), named("c", Some("a"))], "tables \"b\" and \"c\" are both renamed from \"a\""),
        (&["a"], vec![named("b", Some("a")), named("a", None)], "\"b\" is renamed from \"a\", which is declared as well"),
        (&["a"], vec![named("b", Some("Tx"))], "\"Tx\" is no table"),
        (&["a"], vec![named("b", Some("9"))], "\"9\" is no name"),
        (
            &["a"],
            vec![json!({ "renamed_from": "a", "kind": "derivation", "name": "D", "output_kind": "event",
            "upstreams": ["Tx"], "ops": [{ "op": "filter", "expr": "ok" }] })],
            "renamed_from is for tables",
        ),
        (
            &["a"],
            vec![json!({ "renamed_from": "a", "kind": "event", "name": "D", "schema": { "fields": { "a": "str" } } })],
            "renamed_from is for tables",
        ),
    ];
    for (before, after, reason) in cases {
        let before: Vec<(&str, Option<&str>)> = before.iter().map(|name| (*name, None)).collect();
        let mut server = Server::with(&[payload(&before)]);
        let known = server.registry.clone();
        let after: Vec<Json> = std::iter::once(tx()).chain(after).collect();
        for payload in [nodes(&after), forced(&after)] {
            let error = server.try_register(&payload).map(|outcome| outcome.reply).unwrap_err();
            assert_eq!(error.problems.len(), 1, "{error:?}");
            assert!(error.problems[0].reason.contains(reason), "{reason:?} is wanted: {}", error.problems[0].reason);
            assert!(error.problems[0].path.ends_with(".renamed_from"), "{}", error.problems[0].path);
            assert_eq!(*server.registry, *known);
        }
    }
    let mut server = Server::with(&[payload(&[("a", None)])]);
    let both = json!({ "nodes": [tx(), named("b", Some("a"))], "remove": ["a"] });
    let error = server.try_register(&both).map(|outcome| outcome.reply).unwrap_err();
    assert!(error.error.reason.contains("\"a\" is removed"), "{error}");
}

#[test]
fn a_table_is_renamed_by_its_owner_and_by_the_file_that_declares_it() {
    let mut server = Server::with(&[payload(&[("a", None)])]);
    let foreign = json!({ "nodes": [tx(), named("b", Some("a"))], "owner": "team-b", "force": true });
    let error = server.try_register(&foreign).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!((error.error.code.as_str(), &*error.error.path), ("force_required", "nodes[1].renamed_from"));
    let config = RegisterOptions { origin: Origin::Config, ..options() };
    let file = |tables: &[(&str, Option<&str>)]| payload(tables).to_string();
    let registry = Registry::default().apply_register(&file(&[("a", None)]), &config).unwrap().next.unwrap();
    let mut server = Server { registry };
    let error = server.try_register(&forced(&[tx(), named("b", Some("a"))])).map(|outcome| outcome.reply).unwrap_err();
    assert_eq!(error.error.code.as_str(), "config_owned");
    let outcome = server.registry.apply_register(&file(&[("b", Some("a"))]), &config).unwrap();
    assert!(outcome.effects.is_empty());
    let after = outcome.next.unwrap();
    assert_eq!(after.tables.keys().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
    // The same file again, and the file without the word.
    for again in [file(&[("b", Some("a"))]), file(&[("b", None)])] {
        assert!(after.apply_register(&again, &config).unwrap().next.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    /// Whatever is there and whatever is asked for: it is refused where it says why, or every state is somewhere once, and the same file means nothing from then on.
    #[test]
    fn any_file_is_refused_by_name_or_means_the_same_at_every_later_start(
        before in prop::collection::btree_set(0usize..6, 0..6),
        after in prop::collection::btree_map(0usize..6, prop::option::of(0usize..6), 0..6),
    ) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let tables: Vec<(&str, Option<&str>)> = before.iter().map(|&name| (NAMES[name], None)).collect();
        let mut server = Server::with(&[payload(&tables)]);
        let ids_before: BTreeMap<String, u32> = ids(&server).into_iter().collect();
        let asked: Vec<(&str, Option<&str>)> = after.iter().map(|(&name, former)| (NAMES[name], former.map(|former| NAMES[former]))).collect();
        match server.try_register(&payload(&asked)) {
            Err(refused) => {
                prop_assert!(!refused.problems.is_empty(), "{refused:?}");
                prop_assert!(refused.problems.iter().all(|problem| problem.path.ends_with(".renamed_from")), "{refused:?}");
            }
            Ok(outcome) => {
                prop_assert!(outcome.effects.iter().all(|effect| matches!(effect, Create { .. })), "{:?}", outcome.effects);
                let ids_after: BTreeMap<String, u32> = ids(&server).into_iter().collect();
                let numbers: BTreeSet<u32> = ids_after.values().copied().collect();
                prop_assert_eq!(numbers.len(), ids_after.len());
                prop_assert!(ids_before.values().all(|id| numbers.contains(id)), "a state is lost: {:?} to {:?}", ids_before, ids_after);
                for (name, id) in &ids_after {
                    let former = asked.iter().find(|(asked, _)| asked == name).and_then(|(_, former)| *former);
                    let moved = ids_before.iter().find(|(_, before)| *before == id).filter(|(before, _)| *before != name);
                    prop_assert!(moved.is_none_or(|(before, _)| Some(before.as_str()) == former), "{name} took a state that it did not ask for");
                }
                prop_assert!(server.register(&payload(&asked)).next.is_none());
            }
        }
    }
}
