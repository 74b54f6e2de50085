//! What a payload changes, as clients see it: entries of one kind each, additive or destructive.

use super::definition::declared;
use crate::operators::{RESOLUTION, RESOLUTION_DEFAULT};
use serde_json::{Value as Json, json};

/// What a destructive entry destroys, which decides who may allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Event(String),
    /// A table or an event derivation.
    Node(String),
    Feature(String, String),
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Entries are sorted by kind, in the order of the wire contract, then by name.
    rank: u8,
    key: String,
    pub(super) json: Json,
    pub(super) subject: Subject,
}

impl Entry {
    pub(super) fn rename(from: &str, to: &str) -> Self {
        let json = json!({ "kind": "rename", "from": from, "to": to });
        Self { rank: 0, key: from.to_owned(), json, subject: Subject::Node(from.to_owned()) }
    }

    pub(super) fn type_change(event: &str, field: &str, from: &str, to: &str) -> Self {
        let field = format!("{event}.{field}");
        let json = json!({ "kind": "type_change", "field": field, "from": from, "to": to });
        Self { rank: 1, key: field, json, subject: Subject::Event(event.to_owned()) }
    }

    pub(super) fn op_removal(table: &str, op: &str) -> Self {
        let json = json!({ "kind": "op_removal", "table": table, "agg": op });
        Self { rank: 2, key: format!("{table}.{op}"), json, subject: Subject::Node(table.to_owned()) }
    }

    /// `feature` is empty when the whole descriptor goes.
    pub(super) fn agg_removal(table: &str, feature: &str) -> Self {
        let json = json!({ "kind": "agg_removal", "table": table, "agg": feature });
        let subject =
            if feature.is_empty() { Subject::Node(table.to_owned()) } else { Subject::Feature(table.to_owned(), feature.to_owned()) };
        Self { rank: 3, key: format!("{table}.{feature}"), json, subject }
    }

    pub(super) fn window_change(table: &str, feature: &str, from: &Json, to: &Json) -> Self {
        let agg = format!("{table}.{feature}");
        let json = json!({ "kind": "window_change", "agg": agg, "from": from, "to": to });
        Self { rank: 4, key: agg, json, subject: Subject::Feature(table.to_owned(), feature.to_owned()) }
    }

    pub(super) fn key_cols_change(table: &str, from: &[String], to: &[String]) -> Self {
        let json = json!({ "kind": "key_cols_change", "table": table, "from": from, "to": to });
        Self { rank: 5, key: table.to_owned(), json, subject: Subject::Node(table.to_owned()) }
    }

    pub(super) fn new_descriptor(kind: &str, name: &str) -> Self {
        let json = json!({ "kind": "new_descriptor", "descriptor_kind": kind, "name": name });
        Self { rank: 6, key: name.to_owned(), json, subject: Subject::Node(name.to_owned()) }
    }

    pub(super) fn new_agg(table: &str, feature: &str, source: &str) -> Self {
        let json = json!({ "kind": "new_agg", "table": table, "agg": feature, "source": source });
        Self { rank: 7, key: format!("{table}.{feature}"), json, subject: Subject::Feature(table.to_owned(), feature.to_owned()) }
    }

    pub(super) fn new_field(event: &str, field: &str, kind: &str) -> Self {
        let json = json!({ "kind": "new_field", "event": event, "field": field, "type": kind });
        Self { rank: 8, key: format!("{event}.{field}"), json, subject: Subject::Event(event.to_owned()) }
    }

    pub(super) fn param_change(table: &str, feature: &str, param: &str, from: &Json, to: &Json) -> Self {
        let agg = format!("{table}.{feature}");
        let json = json!({ "kind": "param_change", "agg": agg, "param": param, "from": from, "to": to });
        Self { rank: 9, key: format!("{agg}.{param}"), json, subject: Subject::Feature(table.to_owned(), feature.to_owned()) }
    }

    pub(super) fn chain_change(table: &str, op: &str, from: &Json, to: &Json) -> Self {
        let json = json!({ "kind": "chain_change", "table": table, "op": op, "from": from, "to": to });
        Self { rank: 10, key: format!("{table}.{op}"), json, subject: Subject::Node(table.to_owned()) }
    }

    pub(super) fn option_change(event: &str, option: &str, from: &Json, to: &Json) -> Self {
        let json = json!({ "kind": "option_change", "event": event, "option": option, "from": from, "to": to });
        Self { rank: 11, key: format!("{event}.{option}"), json, subject: Subject::Event(event.to_owned()) }
    }
}

/// All entries.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Diff {
    pub(super) additive: Vec<Entry>,
    pub(super) destructive: Vec<Entry>,
    pub(super) already_present: Vec<String>,
}

impl Diff {
    /// As it stands in replies.
    pub(super) fn to_json(&self) -> Json {
        let sorted = |entries: &[Entry]| {
            let mut entries: Vec<&Entry> = entries.iter().collect();
            entries.sort_by(|left, right| (left.rank, &left.key).cmp(&(right.rank, &right.key)));
            entries.into_iter().map(|entry| entry.json.clone()).collect::<Vec<Json>>()
        };
        let mut present = self.already_present.clone();
        present.sort_unstable();
        json!({ "additive": sorted(&self.additive), "already_present": present, "destructive": sorted(&self.destructive) })
    }
}

/// Compares the chain steps of one node, place by place.
pub(super) fn compare_ops(node: &str, old: &[Json], new: &[Json], diff: &mut Diff) {
    let label = |op: &Json, index: usize| format!("{}[{index}]", op.get("op").and_then(Json::as_str).unwrap_or("op"));
    for index in 0..old.len().max(new.len()) {
        match (old.get(index), new.get(index)) {
            (Some(from), Some(to)) if from == to => {}
            (Some(from), None) => diff.destructive.push(Entry::op_removal(node, &label(from, index))),
            (Some(from), Some(to)) => diff.destructive.push(Entry::chain_change(node, &label(from, index), from, to)),
            (None, Some(to)) => diff.destructive.push(Entry::chain_change(node, &label(to, index), &Json::Null, to)),
            (None, None) => {}
        }
    }
}

/// Compares two canonical features of one name; true when they differ.
pub(super) fn compare_features(table: &str, feature: &str, old: &Json, new: &Json, diff: &mut Diff) -> bool {
    if declared(old) == declared(new) {
        return false;
    }
    if old["op"] != new["op"] {
        diff.destructive.push(Entry::param_change(table, feature, "op", &old["op"], &new["op"]));
        return true;
    }
    let empty = serde_json::Map::new();
    let (from, to) = (old["params"].as_object().unwrap_or(&empty), new["params"].as_object().unwrap_or(&empty));
    let names: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for name in names {
        let default = if *name == RESOLUTION.name { json!(RESOLUTION_DEFAULT) } else { Json::Null };
        let (before, after) = (from.get(name).unwrap_or(&default), to.get(name).unwrap_or(&default));
        if before == after {
            continue;
        }
        diff.destructive.push(if name == "window" {
            let lifetime = |window: &Json| if window.is_null() { json!("forever") } else { window.clone() };
            Entry::window_change(table, feature, &lifetime(before), &lifetime(after))
        } else {
            Entry::param_change(table, feature, name, before, after)
        });
    }
    true
}
