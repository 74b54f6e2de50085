//! What a payload changes: differences of one kind each, additive or destructive, as replies show them
//! and as a person reads them.
//!
//! The kinds and their members are the wire contract's. What a difference destroys decides who may
//! allow it ([`Subject`]); its sentence and the name that allows it are made here as well, from the
//! same values, so that no message is put together from JSON.

use super::definition::declared;
use super::projection::Moved;
use crate::operators::{RESOLUTION, RESOLUTION_DEFAULT};
use crate::row::FieldIndex;
use serde_json::{Value as Json, json};

/// What a destructive difference destroys, which decides who may allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Event(String),
    /// A field of an event: what reads it is lost.
    Field(String, String, FieldIndex),
    /// A table or an event derivation.
    Node(String),
    Feature(String, String),
}

impl Subject {
    /// The descriptor that it belongs to.
    pub(super) fn descriptor(&self) -> &str {
        match self {
            Self::Event(name) | Self::Field(name, ..) | Self::Node(name) | Self::Feature(name, _) => name,
        }
    }

    /// The name under which `--rebuild` allows it.
    pub(super) fn allowed_as(&self) -> String {
        match self {
            Self::Event(name) | Self::Node(name) => name.clone(),
            // A name with a dot cannot be typed behind another one; the whole allows it as well.
            Self::Field(name, inner, _) | Self::Feature(name, inner) if inner.contains('.') => name.clone(),
            Self::Field(name, inner, _) | Self::Feature(name, inner) => format!("{name}.{inner}"),
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Difference {
    /// A table under another name. Destructive: one is gone, and another one is new and alike.
    Rename {
        from: String,
        to: String,
    },
    /// A field has another type, or is gone.
    TypeChange {
        event: String,
        field: String,
        slot: FieldIndex,
        from: &'static str,
        to: Option<&'static str>,
    },
    /// A step of a chain is gone.
    OpRemoval {
        table: String,
        op: String,
    },
    /// A descriptor is gone. `alike` is a new one that could be the same under another name.
    Removal {
        name: String,
        alike: Option<String>,
    },
    /// A feature is gone.
    AggRemoval {
        table: String,
        feature: String,
    },
    WindowChange {
        table: String,
        feature: String,
        from: Json,
        to: Json,
    },
    KeyColsChange {
        table: String,
        from: Vec<String>,
        to: Vec<String>,
    },
    NewDescriptor {
        kind: &'static str,
        name: String,
    },
    NewAgg {
        table: String,
        feature: String,
        source: String,
    },
    NewField {
        event: String,
        field: String,
        kind: &'static str,
    },
    /// Null stands for a parameter that is not given.
    ParamChange {
        table: String,
        feature: String,
        param: String,
        from: Json,
        to: Json,
    },
    /// Null stands for a step that is not there.
    ChainChange {
        table: String,
        op: String,
        from: Json,
        to: Json,
    },
    OptionChange {
        event: String,
        option: String,
        from: Json,
        to: Json,
    },
    /// Keys of a table live longer or shorter behind their last row; null stands for ever.
    LifeChange {
        table: String,
        from: Json,
        to: Json,
    },
    /// A source takes a field from another place of its records.
    PathChange {
        event: String,
        field: String,
        slot: FieldIndex,
        source: String,
        from: Vec<String>,
        to: Vec<String>,
    },
    /// The config declares a name as something else than it is.
    KindChange {
        name: String,
        from: &'static str,
        to: &'static str,
    },
    /// What a client registered, or one feature of it, cannot be computed any more: what it stands on is
    /// gone or is of another type.
    Stranded {
        kind: &'static str,
        name: String,
        feature: Option<String>,
        why: String,
    },
    /// What a client registered reads other rows now, though none of its fields changed.
    Reread {
        table: String,
        feature: Option<String>,
    },
}

impl Difference {
    /// Differences are sorted by kind, in the order of the wire contract, then by name.
    fn rank(&self) -> (u8, String) {
        match self {
            Self::Rename { from, .. } => (0, from.clone()),
            Self::TypeChange { event, field, .. } => (1, format!("{event}.{field}")),
            Self::OpRemoval { table, op } => (2, format!("{table}.{op}")),
            Self::Removal { name, .. } => (3, format!("{name}.")),
            Self::AggRemoval { table, feature } => (3, format!("{table}.{feature}")),
            Self::WindowChange { table, feature, .. } => (4, format!("{table}.{feature}")),
            Self::KeyColsChange { table, .. } => (5, table.clone()),
            Self::NewDescriptor { name, .. } => (6, name.clone()),
            Self::NewAgg { table, feature, .. } => (7, format!("{table}.{feature}")),
            Self::NewField { event, field, .. } => (8, format!("{event}.{field}")),
            Self::ParamChange { table, feature, param, .. } => (9, format!("{table}.{feature}.{param}")),
            Self::ChainChange { table, op, .. } => (10, format!("{table}.{op}")),
            Self::OptionChange { event, option, .. } => (11, format!("{event}.{option}")),
            Self::LifeChange { table, .. } => (11, format!("{table}.expire_after_ms")),
            Self::PathChange { event, field, source, .. } => (12, format!("{event}.{field} {source}")),
            Self::KindChange { name, .. } => (13, name.clone()),
            Self::Stranded { name, feature, .. } => (14, format!("{name}.{}", feature.as_deref().unwrap_or_default())),
            Self::Reread { table, feature } => (15, format!("{table}.{}", feature.as_deref().unwrap_or_default())),
        }
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Rename { from, to } => json!({ "kind": "rename", "from": from, "to": to }),
            Self::TypeChange { event, field, from, to, .. } => {
                let to = to.unwrap_or("<absent>");
                json!({ "kind": "type_change", "field": format!("{event}.{field}"), "from": from, "to": to })
            }
            Self::OpRemoval { table, op } => json!({ "kind": "op_removal", "table": table, "agg": op }),
            Self::Removal { name, .. } => json!({ "kind": "agg_removal", "table": name, "agg": "" }),
            Self::AggRemoval { table, feature } => json!({ "kind": "agg_removal", "table": table, "agg": feature }),
            Self::WindowChange { table, feature, from, to } => {
                json!({ "kind": "window_change", "agg": format!("{table}.{feature}"), "from": from, "to": to })
            }
            Self::KeyColsChange { table, from, to } => {
                json!({ "kind": "key_cols_change", "table": table, "from": from, "to": to })
            }
            Self::NewDescriptor { kind, name } => {
                json!({ "kind": "new_descriptor", "descriptor_kind": kind, "name": name })
            }
            Self::NewAgg { table, feature, source } => {
                json!({ "kind": "new_agg", "table": table, "agg": feature, "source": source })
            }
            Self::NewField { event, field, kind } => {
                json!({ "kind": "new_field", "event": event, "field": field, "type": kind })
            }
            Self::ParamChange { table, feature, param, from, to } => {
                let agg = format!("{table}.{feature}");
                json!({ "kind": "param_change", "agg": agg, "param": param, "from": from, "to": to })
            }
            Self::ChainChange { table, op, from, to } => {
                json!({ "kind": "chain_change", "table": table, "op": op, "from": from, "to": to })
            }
            Self::OptionChange { event, option, from, to } => {
                json!({ "kind": "option_change", "event": event, "option": option, "from": from, "to": to })
            }
            Self::LifeChange { table, from, to } => {
                json!({ "kind": "option_change", "table": table, "option": "expire_after_ms", "from": from, "to": to })
            }
            Self::PathChange { event, field, source, from, to, .. } => {
                let field = format!("{event}.{field}");
                let (from, to) = (Moved::text(from), Moved::text(to));
                json!({ "kind": "path_change", "field": field, "source": source, "from": from, "to": to })
            }
            Self::KindChange { name, from, to } => json!({ "kind": "kind_change", "name": name, "from": from, "to": to }),
            Self::Stranded { name, feature, why, .. } => {
                json!({ "kind": "stranded", "table": name, "agg": feature.as_deref().unwrap_or_default(), "reason": why })
            }
            Self::Reread { table, feature } => {
                json!({ "kind": "reread", "table": table, "agg": feature.as_deref().unwrap_or_default() })
            }
        }
    }

    pub(super) fn subject(&self) -> Subject {
        match self {
            Self::Rename { from: name, .. }
            | Self::Removal { name, .. }
            | Self::NewDescriptor { name, .. }
            | Self::OpRemoval { table: name, .. }
            | Self::KeyColsChange { table: name, .. }
            | Self::LifeChange { table: name, .. }
            | Self::ChainChange { table: name, .. }
            | Self::KindChange { name, .. }
            | Self::Stranded { name, feature: None, .. }
            | Self::Reread { table: name, feature: None } => Subject::Node(name.clone()),
            Self::TypeChange { event, field, slot, .. } | Self::PathChange { event, field, slot, .. } => {
                Subject::Field(event.clone(), field.clone(), *slot)
            }
            Self::NewField { event, .. } | Self::OptionChange { event, .. } => Subject::Event(event.clone()),
            Self::AggRemoval { table, feature }
            | Self::WindowChange { table, feature, .. }
            | Self::NewAgg { table, feature, .. }
            | Self::ParamChange { table, feature, .. }
            | Self::Stranded { name: table, feature: Some(feature), .. }
            | Self::Reread { table, feature: Some(feature) } => Subject::Feature(table.clone(), feature.clone()),
        }
    }

    /// What changes, in words: `feature card_stats.n_1h: its window changes from 1h to 2h`.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Rename { from, to } => format!("{from} is {to} now"),
            Self::TypeChange { event, field, from, to: Some(to), .. } => {
                format!("field {event}.{field} changes from {from} to {to}")
            }
            Self::TypeChange { event, field, from, to: None, .. } => format!("field {event}.{field} ({from}) is gone"),
            Self::OpRemoval { table, op } => format!("{table} loses its step {op}"),
            Self::Removal { name, .. } => format!("{name} is no longer declared"),
            Self::AggRemoval { table, feature } => format!("feature {table}.{feature} is no longer declared"),
            Self::WindowChange { table, feature, from, to } => {
                format!("feature {table}.{feature}: its window changes from {} to {}", text(from), text(to))
            }
            Self::KeyColsChange { table, from, to } => {
                format!("table {table}: its key changes from {} to {}", columns(from), columns(to))
            }
            Self::NewDescriptor { kind, name } => format!("{kind} {name} is new"),
            Self::NewAgg { table, feature, .. } => format!("feature {table}.{feature} is new"),
            Self::NewField { event, field, kind } => format!("field {event}.{field} ({kind}) is new"),
            Self::ParamChange { table, feature, param, from, to } => {
                format!("feature {table}.{feature}{}", changed(param, from, to))
            }
            Self::ChainChange { table, op, from, to } => format!("{table}{}", changed(op, from, to)),
            Self::OptionChange { event, option, from, to } => format!("event {event}{}", changed(option, from, to)),
            Self::LifeChange { table, from, to } => format!("table {table}{}", changed("expire_after_ms", from, to)),
            Self::PathChange { event, field, source, from, to, .. } => {
                let (from, to) = (Moved::text(from), Moved::text(to));
                format!("field {event}.{field}: source {source} takes it from {to}, and took it from {from} before")
            }
            Self::KindChange { name, from, to } => format!("{name} was {from} and is {to} now"),
            Self::Stranded { kind, name, feature: None, why } => {
                format!("{kind} {name}, which a client registered, cannot be computed any more ({why})")
            }
            Self::Stranded { name, feature: Some(feature), why, .. } => {
                format!("feature {name}.{feature}, which a client registered, cannot be computed any more ({why})")
            }
            Self::Reread { table, feature: None } => format!("table {table}, which a client registered, reads other rows now"),
            Self::Reread { table, feature: Some(feature) } => {
                format!("feature {table}.{feature}, which a client registered, reads other rows now")
            }
        }
    }
}

/// A value as a person reads it: text without quotes.
fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn columns(names: &[String]) -> String {
    if names.is_empty() { "no column".to_owned() } else { names.join(", ") }
}

fn changed(what: &str, from: &Json, to: &Json) -> String {
    match (from.is_null(), to.is_null()) {
        (true, _) => format!(" gets {what} = {}", text(to)),
        (_, true) => format!(" loses its {what}, which was {}", text(from)),
        _ => format!(": its {what} changes from {} to {}", text(from), text(to)),
    }
}

/// All differences.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Diff {
    pub(super) additive: Vec<Difference>,
    pub(super) destructive: Vec<Difference>,
    pub(super) already_present: Vec<String>,
}

impl Diff {
    /// As it stands in replies.
    pub(super) fn to_json(&self) -> Json {
        let list = |differences: &[Difference]| {
            let differences = sorted(differences);
            differences.into_iter().map(Difference::to_json).collect::<Vec<Json>>()
        };
        let mut present = self.already_present.clone();
        present.sort_unstable();
        json!({ "additive": list(&self.additive), "already_present": present, "destructive": list(&self.destructive) })
    }
}

/// In the order of replies.
pub(super) fn sorted(differences: &[Difference]) -> Vec<&Difference> {
    let mut differences: Vec<&Difference> = differences.iter().collect();
    differences.sort_by_cached_key(|difference| difference.rank());
    differences
}

/// Compares the chain steps of one node, place by place.
pub(super) fn compare_ops(node: &str, old: &[Json], new: &[Json], diff: &mut Diff) {
    let label = |op: &Json, index: usize| format!("{}[{index}]", op.get("op").and_then(Json::as_str).unwrap_or("op"));
    for index in 0..old.len().max(new.len()) {
        let (from, to) = (old.get(index), new.get(index));
        diff.destructive.push(match (from, to) {
            (from, to) if from == to => continue,
            (Some(from), None) => Difference::OpRemoval { table: node.to_owned(), op: label(from, index) },
            (from, to) => {
                let op = label(from.or(to).unwrap_or(&Json::Null), index);
                let value = |step: Option<&Json>| step.cloned().unwrap_or(Json::Null);
                Difference::ChainChange { table: node.to_owned(), op, from: value(from), to: value(to) }
            }
        });
    }
}

/// Compares two canonical features of one name; true when they differ.
pub(super) fn compare_features(table: &str, feature: &str, old: &Json, new: &Json, diff: &mut Diff) -> bool {
    if declared(old) == declared(new) {
        return false;
    }
    let (table, feature) = (table.to_owned(), feature.to_owned());
    if old["op"] != new["op"] {
        let (from, to) = (old["op"].clone(), new["op"].clone());
        diff.destructive.push(Difference::ParamChange { table, feature, param: "op".to_owned(), from, to });
        return true;
    }
    let empty = serde_json::Map::new();
    let (from, to) = (old["params"].as_object().unwrap_or(&empty), new["params"].as_object().unwrap_or(&empty));
    let names: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for param in names {
        // What stands for a parameter that is not given.
        let default = match param.as_str() {
            "window" => json!("forever"),
            name if name == RESOLUTION.name => json!(RESOLUTION_DEFAULT),
            _ => Json::Null,
        };
        let (from, to) = (from.get(param).unwrap_or(&default).clone(), to.get(param).unwrap_or(&default).clone());
        let (table, feature, param) = (table.clone(), feature.clone(), param.clone());
        if from == to {
            continue;
        }
        diff.destructive.push(if param == "window" {
            Difference::WindowChange { table, feature, from, to }
        } else {
            Difference::ParamChange { table, feature, param, from, to }
        });
    }
    true
}
