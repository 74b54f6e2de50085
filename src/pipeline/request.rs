//! A register payload, decoded: nodes and what is asked beside them.
//!
//! Raw checks come first, as clients know them (joins, unions, event-time keys, node kinds, lifetime bounds), then shapes. All problems are collected.

use super::feature::{Operators, check_lifetime};
use super::node::{NodeSpec, decode};
use super::payload::Tree;
use super::problem::{Problem, Problems};
use std::collections::{BTreeMap, BTreeSet};
use streamgauge_api::Code;

/// Nodes of one payload.
const NODES_MAX: usize = 65_536;

/// What a payload has.
const MEMBERS: &[&str] = &["nodes", "force", "dry_run", "prune", "remove", "owner"];

/// A decoded payload.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// Sound nodes in payload order, each with its place.
    pub(super) nodes: Vec<(usize, NodeSpec)>,
    /// Names of nodes that did not decode; what depends on them is not checked.
    pub(super) broken: BTreeSet<String>,
    /// Names in payload order, as the reply lists them.
    pub(super) names: Vec<String>,
    /// Place of each name.
    pub(super) places: BTreeMap<String, usize>,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) prune: Option<bool>,
    pub(super) remove: Vec<String>,
    pub(super) owner: String,
}

fn body(problems: &mut Problems, reason: impl Into<String>) {
    problems.error(Code::InvalidRegistration, "<body>", reason);
}

impl Request {
    /// Decodes payload text.
    pub(super) fn parse(text: &str, operators: Operators, lifetime_bound: bool, problems: &mut Problems) -> Self {
        match Tree::parse(text) {
            Ok(tree) => Self::decode(&tree, operators, lifetime_bound, problems),
            Err(error) => {
                body(problems, format!("the payload is not valid JSON: {error}"));
                Self::default()
            }
        }
    }

    /// Decodes a payload.
    pub(super) fn decode(tree: &Tree, operators: Operators, lifetime_bound: bool, problems: &mut Problems) -> Self {
        let mut request = Self::default();
        tree.duplicates("", &mut |path, name| {
            if path.ends_with(".agg") {
                let reason = format!("feature \"{name}\" stands twice");
                problems.error(Code::AggregationFeatureNameCollisionAcrossAggregations, format!("{path}.{name}"), reason);
            } else {
                let place = if path.is_empty() { "the payload" } else { path };
                body(problems, format!("member \"{name}\" stands twice in {place}"));
            }
        });
        event_time_keys(tree, "", problems);
        tree.only("", MEMBERS, problems);
        let Some(items) = tree.get("nodes").and_then(Tree::items) else {
            body(problems, "nodes: an array is wanted");
            return request;
        };
        if items.len() > NODES_MAX {
            body(problems, format!("nodes: {} are more than {NODES_MAX}", items.len()));
            return request;
        }
        request.flags(tree, problems);
        let raw: Vec<bool> =
            items.iter().enumerate().map(|(index, item)| raw_checks(item, index, operators, lifetime_bound, problems)).collect();
        for ((index, item), sound) in items.iter().enumerate().zip(raw) {
            request.node(index, item, sound, problems);
        }
        for (index, name) in request.remove.iter().enumerate() {
            if request.places.contains_key(name) {
                problems.error(Code::InvalidRegistration, format!("remove[{index}]"), format!("\"{name}\" is both declared and removed"));
            }
        }
        request
    }

    fn flags(&mut self, tree: &Tree, problems: &mut Problems) {
        let mut flag = |name: &str| match tree.get(name) {
            None => None,
            Some(Tree::Bool(truth)) => Some(*truth),
            Some(other) => {
                body(problems, format!("{name}: true or false is wanted, found {}", other.kind()));
                None
            }
        };
        self.force = flag("force").unwrap_or(false);
        self.dry_run = flag("dry_run").unwrap_or(false);
        self.prune = flag("prune");
        match tree.get("remove") {
            None => {}
            Some(list) => match list.texts() {
                Some(names) => self.remove = names.into_iter().map(str::to_owned).collect(),
                None => body(problems, format!("remove: an array of names is wanted, found {}", list.kind())),
            },
        }
        match tree.get("owner") {
            None => {}
            Some(Tree::Str(owner)) if owner.chars().count() <= 128 => self.owner = owner.clone(),
            Some(_) => body(problems, "owner: a string of at most 128 characters is wanted"),
        }
    }

    fn node(&mut self, index: usize, item: &Tree, sound: bool, problems: &mut Problems) {
        let name = item.get("name").and_then(Tree::as_str).unwrap_or_default().to_owned();
        let decoded = if sound { decode(item, format!("nodes[{index}]"), problems) } else { None };
        if let Some(first) = self.places.get(&name) {
            let reason = format!("\"{name}\" is declared by nodes[{first}] already");
            problems.error(Code::InvalidRegistration, format!("nodes[{index}].name"), reason);
            return;
        }
        self.places.insert(name.clone(), index);
        self.names.push(name.clone());
        match decoded {
            Some(node) => self.nodes.push((index, node)),
            None => {
                self.broken.insert(name);
            }
        }
    }
}

fn event_time_keys(tree: &Tree, path: &str, problems: &mut Problems) {
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if tree.get("event_time_field").is_some() {
        problems.error(
            Code::UnknownFieldEventTimeV0,
            at("event_time_field"),
            "event_time_field is not a member; name the field with time = {field}",
        );
    }
    if tree.get("tolerate_delay_ms").is_some() {
        problems.error(
            Code::UnknownFieldTolerateDelayV0,
            at("tolerate_delay_ms"),
            "tolerate_delay_ms is not a member; late rows repair their bucket",
        );
    }
}

/// Checks on the raw node; false when it is not worth decoding.
fn raw_checks(item: &Tree, index: usize, operators: Operators, lifetime_bound: bool, problems: &mut Problems) -> bool {
    let path = format!("nodes[{index}]");
    let before = problems.errors.len();
    if item.members().is_none() {
        body(problems, format!("{path}: an object is wanted, found {}", item.kind()));
        return false;
    }
    event_time_keys(item, &path, problems);
    if let Some(schema) = item.get("schema") {
        event_time_keys(schema, &format!("{path}.schema"), problems);
    }
    match item.get("kind") {
        Some(Tree::Str(kind)) if kind == "event" || kind == "derivation" => {}
        kind => {
            let kind = kind.map_or_else(|| "no kind".to_owned(), |kind| kind.to_json().to_string());
            let problem = Problem::new(
                Code::UnsupportedNodeKind,
                format!("{path}.kind"),
                format!("a node is an event or a derivation, found {kind}"),
            );
            problems.errors.push(problem);
        }
    }
    for (step, op) in item.get("ops").and_then(Tree::items).unwrap_or_default().iter().enumerate() {
        let path = format!("{path}.ops[{step}]");
        match op.get("op").and_then(Tree::as_str) {
            Some("join") => {
                problems.error(Code::FeatureRemovedNoJoinsV0, path, "there are no joins; enrich before Kafka, or key two tables alike")
            }
            Some("union") => {
                problems.error(Code::FeatureRemovedNoUnionsV0, path, "there are no unions; feed several sources into one event")
            }
            Some("group_by") if lifetime_bound => {
                for (feature, body) in op.get("agg").and_then(Tree::members).unwrap_or_default() {
                    check_lifetime(body, &format!("{path}.agg.{feature}"), operators, problems);
                }
            }
            _ => {}
        }
    }
    problems.errors.len() == before
}
