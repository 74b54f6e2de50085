//! What a refused start says to type, typed literally: it leads to a start, loses what was named, and the
//! start after that finds nothing to change. With tables of the file and of clients, on events of both, behind
//! chains of derivations, for every kind of change that a file can make.
//!
//! A file that dropped a field by which a client's table was keyed was once refused with `--rebuild P.n`, and
//! with that with `force_required` and a hint about a payload, so that no start was possible at all.

use super::{change_of, parse};
use crate::cli::Rebuild;
use crate::pipeline::{RegisterOptions, Registry, TableEffect};
use crate::row::EventId;
use crate::state::{Content, State};
use std::collections::BTreeSet;
use std::sync::Arc;
use streamgauge_api::Code;

const FILE: &str = r#"config_version = 1
[events.P]
fields = { card = "str", user = "str", n = "i64", x = "f64", note = "str?", unread = "str?" }
[events.Q]
fields = { k = "str" }
[sources.pay]
event = "P"
fields = { note = "text.note" }
[sources.pay.kafka]
brokers = ["127.0.0.1:1"]
topic = "pay"
[tables.own]
from = "P"
key = ["card"]
features = { c = { op = "count" }, total = { op = "sum", field = "x" }, last = { op = "last", field = "note" } }
[tables.own_q]
from = "Q"
key = ["k"]
features = { c = { op = "count" } }
"#;

/// What clients registered beside it. `team` has an owner.
const CLIENTS: [&str; 2] = [
    r#"{"nodes": [
    {"kind": "event", "name": "A", "schema": {"fields": {"k": "str"}}},
    {"kind": "derivation", "name": "D", "output_kind": "event", "upstreams": ["P"], "ops": [{"op": "filter", "expr": "n > 0"}]},
    {"kind": "derivation", "name": "D2", "output_kind": "event", "upstreams": ["D"],
     "ops": [{"op": "with_columns", "exprs": {"twice": "x * 2"}}]},
    {"kind": "derivation", "name": "by_n", "output_kind": "table", "upstreams": ["P"], "table_primary_key": ["n"],
     "ops": [{"op": "group_by", "keys": ["n"], "agg": {"c": {"op": "count"}}}]},
    {"kind": "derivation", "name": "by_card", "output_kind": "table", "upstreams": ["P"], "table_primary_key": ["card"],
     "ops": [{"op": "group_by", "keys": ["card"], "agg": {"c": {"op": "count"}, "s": {"op": "sum", "params": {"field": "n"}},
     "w": {"op": "count", "params": {"where": "n > 1"}}, "l": {"op": "last", "params": {"field": "note"}}}}]},
    {"kind": "derivation", "name": "filtered", "output_kind": "table", "upstreams": ["P"], "table_primary_key": ["user"],
     "ops": [{"op": "filter", "expr": "n > 1"}, {"op": "group_by", "keys": ["user"], "agg": {"c": {"op": "count"}}}]},
    {"kind": "derivation", "name": "on_d2", "output_kind": "table", "upstreams": ["D2"], "table_primary_key": ["card"],
     "ops": [{"op": "group_by", "keys": ["card"], "agg": {"c": {"op": "count"}, "s": {"op": "sum", "params": {"field": "twice"}}}}]},
    {"kind": "derivation", "name": "other_name", "output_kind": "table", "upstreams": ["P"], "table_primary_key": ["user"],
     "ops": [{"op": "rename", "mapping": {"x": "m"}},
     {"op": "group_by", "keys": ["user"], "agg": {"s": {"op": "sum", "params": {"field": "m"}}}}]},
    {"kind": "derivation", "name": "on_q", "output_kind": "table", "upstreams": ["Q"], "table_primary_key": ["k"],
     "ops": [{"op": "group_by", "keys": ["k"], "agg": {"c": {"op": "count"}}}]},
    {"kind": "derivation", "name": "on_a", "output_kind": "table", "upstreams": ["A"], "table_primary_key": ["k"],
     "ops": [{"op": "group_by", "keys": ["k"], "agg": {"c": {"op": "count"}}}]}]}"#,
    r#"{"owner": "team", "nodes": [
    {"kind": "derivation", "name": "of_team", "output_kind": "table", "upstreams": ["P"], "table_primary_key": ["user"],
     "ops": [{"op": "group_by", "keys": ["user"], "agg": {"s": {"op": "sum", "params": {"field": "n"}}}}]}]}"#,
];

/// The state after the file and the clients.
fn stored() -> State {
    let mut state = State::new(7);
    let mut define = |registry: &Arc<Registry>, effects: Vec<TableEffect>| {
        let lsn = state.lsn() + 1;
        state.apply(&Content::Definition { registry: Arc::clone(registry), effects }, lsn, 1);
        Arc::clone(registry)
    };
    let first = change_of(&Registry::default(), &[], &parse(FILE).unwrap(), &[]).unwrap().unwrap();
    let mut registry = define(&first.next.unwrap(), first.effects);
    for payload in CLIENTS {
        let outcome = registry.apply_register(payload, &RegisterOptions::default()).unwrap_or_else(|refused| panic!("{refused}"));
        registry = define(&outcome.next.unwrap(), outcome.effects);
    }
    state
}

/// What a person types who does as the hint says, read as the command line reads it.
fn typed(hint: &str) -> Vec<String> {
    let (_, flags) = hint.split_once("allow it: ").unwrap_or_else(|| panic!("no way out in {hint:?}"));
    let mut words = flags.split(' ');
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        assert_eq!(word, "--rebuild", "{hint}");
        let rebuild: Rebuild = words.next().unwrap().parse().unwrap();
        names.push(match rebuild.feature {
            Some(feature) => format!("{}.{feature}", rebuild.table),
            None => rebuild.table,
        });
    }
    names
}

/// Tables whose state the effects touch, by their names before.
fn touched(before: &Registry, effects: &[TableEffect]) -> BTreeSet<String> {
    let table = |effect: &TableEffect| match effect {
        TableEffect::Create { .. } | TableEffect::Fill { .. } => None,
        TableEffect::Drop { table } | TableEffect::Extend { table, .. } | TableEffect::Retire { table, .. } => Some(*table),
    };
    effects.iter().filter_map(table).filter_map(|id| Some(before.table_by_id(id)?.name.to_string())).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Starts with the changed file, does what it says, and starts again. `flags` are what it must say, `lost` the tables whose state is touched.
fn check(file: &str, unfed: bool, flags: &str, lost: &str) {
    let config = parse(file).unwrap_or_else(|problems| panic!("{problems}\n{file}"));
    let mut state = stored();
    let before = Arc::clone(state.registry());
    let unfed: Vec<EventId> = before.events.values().filter(|_| unfed).map(|event| event.schema.id).collect();
    let said = match change_of(&before, &unfed, &config, &[]) {
        Ok(_) => Vec::new(),
        Err((reason, hint)) => {
            assert!(!reason.contains("null") && !hint.contains("payload"), "{reason}: {hint}");
            typed(&hint)
        }
    };
    assert_eq!(said, words(flags), "{file}");
    let outcome = change_of(&before, &unfed, &config, &said).unwrap_or_else(|refused| panic!("{refused:?} after {said:?}\n{file}"));
    let Some(outcome) = outcome else { panic!("nothing changes\n{file}") };
    let Some(next) = outcome.next else { panic!("nothing changes\n{file}") };
    assert_eq!(touched(&before, &outcome.effects), words(lost).into_iter().collect(), "{:?}\n{file}", outcome.effects);
    // What is stored then can be read again, and the state has the tables that it says.
    let read = Registry::from_json(&next.to_json(), crate::operators::OPERATORS).unwrap();
    assert_eq!(read, *next);
    let lsn = state.lsn() + 1;
    state.apply(&Content::Definition { registry: Arc::clone(&next), effects: outcome.effects }, lsn, 1);
    assert_eq!(state.tables().count(), next.tables.len(), "every table that is declared has a state");
    // The flags may go, or stay.
    for flags in [&[][..], &said] {
        assert!(change_of(&next, &unfed, &config, flags).is_ok_and(|outcome| outcome.is_none_or(|outcome| outcome.next.is_none())));
    }
}

fn changed(pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(FILE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

const OWN: &str = "[tables.own]\nfrom = \"P\"\nkey = [\"card\"]\nfeatures = { c = { op = \"count\" }, \
                   total = { op = \"sum\", field = \"x\" }, last = { op = \"last\", field = \"note\" } }\n";
const OWN_Q: &str = "[tables.own_q]\nfrom = \"Q\"\nkey = [\"k\"]\nfeatures = { c = { op = \"count\" } }\n";
const SOURCE: &str = "[sources.pay]\nevent = \"P\"\nfields = { note = \"text.note\" }\n[sources.pay.kafka]\nbrokers = [\"127.0.0.1:1\"]\n\
                      topic = \"pay\"\n";
const P: &str = "[events.P]\nfields = { card = \"str\", user = \"str\", n = \"i64\", x = \"f64\", note = \"str?\", unread = \"str?\" }\n";
const Q: &str = "[events.Q]\nfields = { k = \"str\" }\n";

#[test]
fn what_a_refused_start_says_to_type_leads_to_a_start() {
    let more = |text: &str| format!("{FILE}{text}");
    let table = |name: &str| format!("[tables.{name}]\nfrom = \"Q\"\nkey = [\"k\"]\nfeatures = {{ c = {{ op = \"count\" }} }}\n");
    let reads_n = "D D2 by_card.s by_card.w by_n filtered of_team on_d2";
    let lost_n = "by_card by_n filtered of_team on_d2";
    for (file, flags, lost) in [
        // A field is gone, has another name, or another type: nothing of the file reads it.
        (changed(&[(" n = \"i64\",", "")]), reads_n, lost_n),
        (changed(&[(" n = \"i64\"", " n_new = \"i64\"")]), reads_n, lost_n),
        (changed(&[(" n = \"i64\"", " n = \"bytes\"")]), "P.n by_n", lost_n),
        // A key may not be f64; what else reads it goes on with the other type.
        (changed(&[(" n = \"i64\"", " n = \"f64\"")]), "P.n by_n", lost_n),
        (changed(&[(" n = \"i64\"", " n = \"str\"")]), "P.n", lost_n),
        // What the file and clients read alike.
        (changed(&[(" card = \"str\"", " card = \"i64\"")]), "P.card", "own by_card on_d2"),
        (
            changed(&[
                (", note = \"str?\"", ""),
                (", last = { op = \"last\", field = \"note\" }", ""),
                ("fields = { note = \"text.note\" }\n", ""),
            ]),
            "P.note own.last by_card.l",
            "own by_card",
        ),
        (
            changed(&[(" x = \"f64\",", ""), (" total = { op = \"sum\", field = \"x\" },", "")]),
            "P.x own.total D2 on_d2 other_name",
            "own on_d2 other_name",
        ),
        // Nobody reads it.
        (changed(&[(", unread = \"str?\"", "")]), "", ""),
        // From elsewhere.
        (changed(&[("text.note", "text.remark")]), "P.note", "own by_card"),
        // Rows get their time elsewhere: windows of all tables would hold both.
        (
            changed(&[("[events.P]\n", "[events.P]\ntime = \"arrival\"\n")]),
            "P by_card by_n filtered of_team on_d2 other_name",
            "own by_card by_n filtered of_team on_d2 other_name",
        ),
        // Events that go, with what the file has on them.
        (changed(&[(Q, ""), (OWN_Q, "")]), "Q own_q on_q", "own_q on_q"),
        (
            changed(&[(P, ""), (OWN, ""), (SOURCE, "")]),
            "P own D D2 by_card by_n filtered of_team on_d2 other_name",
            "own by_card by_n filtered of_team on_d2 other_name",
        ),
        (changed(&[("[events.Q]", "[events.Q2]"), ("from = \"Q\"", "from = \"Q2\"")]), "Q own_q on_q", "own_q on_q"),
        // An addition that a client's chain has no room for, and one that it covers.
        (changed(&[(" x = \"f64\"", " x = \"f64\", m = \"f64?\"")]), "other_name", "other_name"),
        (changed(&[(" x = \"f64\"", " x = \"f64\", twice = \"f64?\"")]), "", ""),
        // Names that are something else.
        (more(&table("A")), "A on_a", "on_a"),
        (more(&table("D")), "D D2 on_d2", "on_d2"),
        (more("[events.by_n]\nfields = { k = \"str\" }\n"), "by_n", "by_n"),
        (more("[events.D]\nfields = { card = \"str\", x = \"f64\" }\n"), "D on_d2", "on_d2"),
        (changed(&[(OWN_Q, "[events.own_q]\nfields = { k = \"str\" }\n")]), "own_q", "own_q"),
        (
            changed(&[(Q, &table("Q").replace("from = \"Q\"", "from = \"P\"").replace("\"k\"", "\"card\"")), (OWN_Q, "")]),
            "own_q Q on_q",
            "own_q on_q",
        ),
        // The file takes over what clients registered: as it is, and otherwise.
        (more(&table("on_q")), "", ""),
        (more(&table("of_team")), "of_team.s of_team", "of_team"),
        (more("[events.A]\nfields = { k = \"i64\" }\n"), "A.k", "on_a"),
        (more(&table("by_n").replace("[\"k\"]\n", "[\"k\"]\nrenamed_from = \"on_q\"\n")), "by_n", "by_n"),
        (more(&table("taken").replace("[\"k\"]\n", "[\"k\"]\nrenamed_from = \"on_q\"\n")), "", ""),
        (more(&table("D").replace("[\"k\"]\n", "[\"k\"]\nrenamed_from = \"on_q\"\n")), "D D2 on_d2", "on_d2"),
        // Tables of the file.
        (changed(&[(OWN, "")]), "own", "own"),
        (changed(&[("[tables.own]", "[tables.mine]")]), "own", "own"),
        (changed(&[("key = [\"card\"]", "key = [\"user\"]")]), "own", "own"),
        (changed(&[("last = { op = \"last\"", "last = { op = \"first\"")]), "own.last", "own"),
        // Rules for what is new do not reach what was registered before.
        (format!("{}\n[compat]\nlifetime_bound = true\nvelocity_window = \"ignore\"\n", changed(&[(OWN, "")])), "own", "own"),
    ] {
        check(&file, false, flags, lost);
    }
}

#[test]
fn an_event_without_rows_changes_freely_but_what_clients_declared_is_asked_for() {
    for (file, flags, lost) in [
        (changed(&[(" card = \"str\"", " card = \"i64\"")]), "", "own by_card on_d2"),
        (changed(&[(" n = \"i64\",", "")]), "D D2 by_card.s by_card.w by_n filtered of_team on_d2", "by_card by_n filtered of_team on_d2"),
        (changed(&[(" n = \"i64\"", " n = \"f64\"")]), "by_n", "by_card by_n filtered of_team on_d2"),
        (changed(&[(OWN, "")]), "", "own"),
    ] {
        check(&file, true, flags, lost);
    }
}

/// What a client with an owner had registered, and the file had taken over, was nobody's to remove.
#[test]
fn what_the_file_takes_over_is_its_own_to_drop() {
    let before = Arc::clone(stored().registry());
    let team = "[tables.of_team]\nfrom = \"P\"\nkey = [\"user\"]\nfeatures = { s = { op = \"sum\", field = \"n\" } }\n";
    let taken = change_of(&before, &[], &parse(&format!("{FILE}{team}")).unwrap(), &[]).unwrap().unwrap();
    assert!(taken.effects.is_empty(), "it keeps its state: {:?}", taken.effects);
    let taken = taken.next.unwrap();
    let file = parse(FILE).unwrap();
    let (reason, hint) = change_of(&taken, &[], &file, &[]).unwrap_err();
    assert!(reason.ends_with("of_team is no longer declared: all its keys go"), "{reason}");
    let gone = change_of(&taken, &[], &file, &typed(&hint)).unwrap().unwrap();
    assert_eq!(touched(&taken, &gone.effects), BTreeSet::from(["of_team".to_owned()]));
}

#[test]
fn what_only_an_edit_can_mend_is_told_at_its_place_in_the_file() {
    let before = Arc::clone(stored().registry());
    let table = |former: &str| {
        format!("[tables.taken]\nfrom = \"Q\"\nkey = [\"k\"]\nrenamed_from = \"{former}\"\nfeatures = {{ c = {{ op = \"count\" }} }}\n")
    };
    for (former, reason) in [
        ("D", "\"D\" is no table, and only a table has a state that another name can keep"),
        ("own", "table \"taken\" is renamed from \"own\", which is declared as well: leave one of the two out"),
    ] {
        let config = parse(&format!("{FILE}{}", table(former))).unwrap();
        let refused = crate::config::config_change(&before, &[], &config, &[]).unwrap_err();
        let error = &refused.error;
        assert_eq!((error.code, &*error.path, &*error.reason), (Code::InvalidConfigValue, "tables.taken.renamed_from", reason));
        assert_eq!(crate::cli::Exit::of(error.code), crate::cli::Exit::Config);
    }
}
