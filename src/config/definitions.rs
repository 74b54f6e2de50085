//! `[events.X]` and `[tables.T]` as nodes of register JSON, compiled; problems brought back to what the user wrote.
//!
//! The pipeline names places as paths of the payload (`nodes[1].ops[0].agg.n.params.window`). While nodes are made from the file, each path is written down
//! with its place in it; a problem without a place of its own gets that of the nearest path around it.

use super::check::Check;
use super::document::{Member, Node, Value};
use super::problem::ConfigProblem;
use super::value::Form;
use crate::pipeline::{Origin, Problem, RegisterOptions, Registry, Tree, unit_meant};
use crate::row::{FieldType, TimeUnit};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use streamgauge_api::{Code, did_you_mean};

/// Names of types, for suggestions.
const TYPES: &[&str] = &["str", "f64", "i64", "bool", "bytes", "datetime", "json"];

/// What happens to a record that is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRecord {
    /// Into the local reject log; the position moves on.
    #[default]
    Dlq,
    /// Counted; the position moves on.
    Skip,
    /// The partition stops.
    Stop,
}

/// What an event says beside its fields and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventOptions {
    /// What happens to a record that is no row.
    pub on_bad_record: OnBadRecord,
}

/// What the file defines.
pub(super) struct Definitions {
    pub(super) payload: Tree,
    pub(super) registry: Arc<Registry>,
}

/// Fields of an event: types in order, and the names of those that may be missing.
struct Fields {
    types: Vec<(String, Tree)>,
    optional: Vec<String>,
}

/// Where parts of the payload stand in the file.
#[derive(Debug, Default)]
struct Places {
    values: BTreeMap<String, Node>,
    keys: BTreeMap<String, Range<usize>>,
    /// What a node is, for messages.
    subjects: BTreeMap<String, String>,
}

impl Places {
    fn value(&mut self, path: String, node: &Node) {
        self.values.insert(path, node.clone());
    }

    fn member(&mut self, path: String, member: &Member) {
        self.keys.insert(path.clone(), member.key_span.clone());
        self.values.insert(path, member.node.clone());
    }

    /// The nearest place around a path, and whether it is the path itself.
    fn find(&self, path: &str) -> Option<(&Node, bool)> {
        let mut shorter = path;
        loop {
            if let Some(node) = self.values.get(shorter) {
                return Some((node, shorter == path));
            }
            shorter = shorter.get(..shorter.rfind(['.', '['])?)?;
        }
    }

    /// What a path belongs to.
    fn subject(&self, path: &str) -> Option<&str> {
        let mut shorter = path;
        loop {
            if let Some(subject) = self.subjects.get(shorter) {
                return Some(subject);
            }
            shorter = shorter.get(..shorter.rfind(['.', '['])?)?;
        }
    }
}

/// Makes the nodes and compiles them.
pub(super) fn compile(check: &mut Check<'_>, kafka_events: &BTreeSet<String>, options: &RegisterOptions<'_>) -> Definitions {
    let mut maker = Maker { check, nodes: Vec::new(), places: Places::default(), broken: BTreeSet::new(), doubtful: BTreeSet::new() };
    let events = maker.check.root.get("events").and_then(Node::members).unwrap_or_default();
    let tables = maker.check.root.get("tables").and_then(Node::members).unwrap_or_default();
    for event in events {
        if maker.event(event, kafka_events).is_none() {
            maker.broken.insert(event.key.clone());
        }
    }
    for table in tables {
        maker.table(table, events);
    }
    let Maker { check, nodes, places, doubtful, .. } = maker;
    let payload = Tree::Map(vec![("nodes".to_owned(), Tree::List(nodes))]);
    let (problems, warnings, next) = match Registry::default().apply_tree(&payload, &RegisterOptions { origin: Origin::Config, ..*options })
    {
        Ok(outcome) => (Vec::new(), outcome.warnings, outcome.next),
        Err(refused) => (refused.problems, refused.warnings, None),
    };
    let names_doubtful = |problem: &&Problem| {
        doubtful.iter().any(|name| [format!("`{name}`"), format!("{name:?}")].iter().any(|quoted| problem.reason.contains(quoted)))
    };
    for problem in problems.iter().filter(|problem| !names_doubtful(problem)) {
        let told = place(problem, &places, check.text);
        check.problems.push(told);
    }
    for problem in &warnings {
        let told = place(problem, &places, check.text);
        // A register call warns where a file is refused: nothing in a file is accepted and ignored.
        let window_ignored = options.ignore_velocity_windows && problem.path.ends_with(".window");
        if window_ignored { check.warnings.push(told) } else { check.problems.push(told) }
    }
    Definitions { payload, registry: next.unwrap_or_default() }
}

/// A problem of the pipeline where the user can see it.
fn place(problem: &Problem, places: &Places, text: &str) -> ConfigProblem {
    let (path, reason) = match (problem.path.as_str(), problem.reason.split_once(": ")) {
        ("<body>", Some((path, reason))) if path.starts_with("nodes[") => (path, reason),
        (path, _) => (path, problem.reason.as_str()),
    };
    if problem.code == Code::UnknownConfigKey {
        let name = path.rsplit('.').next().unwrap_or_default();
        let told = ConfigProblem::new(problem.code, format!("unknown key `{name}`")).maybe_help(problem.hint.clone());
        return match (places.keys.get(path), places.find(path)) {
            (Some(span), _) => told.at(span.clone(), reason),
            (None, Some((node, _))) => told.at(node.span.clone(), reason),
            (None, None) => told,
        };
    }
    let found = places.find(path);
    let exact = found.is_some_and(|(_, exact)| exact);
    let last = path.rsplit('.').next().unwrap_or_default();
    let last = if path.contains(".agg.") || last != "expr" { last } else { "where" };
    let code = match problem.code {
        Code::InvalidRegistration => Code::InvalidConfigValue,
        Code::AggregationUnknownField if exact => Code::UnknownReference,
        Code::AggregationUnknownField => Code::MissingConfigKey,
        Code::AggregationInvalidParam if last == "field" && !exact => Code::MissingConfigKey,
        code => code,
    };
    let subject = places.subject(path).map_or_else(String::new, |subject| match last {
        "where" | "expr" if exact && problem.code == Code::ExpressionTypeMismatch => format!("`{last}` of {subject} "),
        "where" | "expr" if exact => format!("`{last}` of {subject}: "),
        _ => format!("{subject}: "),
    });
    let mut told = ConfigProblem::new(code, format!("{subject}{reason}")).maybe_help(problem.hint.clone());
    if let Some((node, _)) = found {
        if problem.labels.is_empty() {
            told = told.at(node.span.clone(), "");
        }
        for (part, word) in &problem.labels {
            told = told.at(node.part(text, part), word.clone());
        }
    }
    told
}

struct Maker<'m, 'c> {
    check: &'m mut Check<'c>,
    nodes: Vec<Tree>,
    places: Places,
    /// Events that did not become a node; what hangs from them is not blamed.
    broken: BTreeSet<String>,
    /// Fields of unknown types, taken as json for now: what tables want of them is not blamed either.
    doubtful: BTreeSet<String>,
}

fn map(members: Vec<(&str, Tree)>) -> Tree {
    Tree::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(value: &str) -> Tree {
    Tree::Str(value.to_owned())
}

impl Maker<'_, '_> {
    fn event(&mut self, event: &Member, kafka_events: &BTreeSet<String>) -> Option<()> {
        event.node.members()?;
        let path = format!("nodes[{}]", self.nodes.len());
        let what = format!("event {}", event.key);
        let fields = self.check.required(event, "fields", &what)?;
        let declared = self.fields(fields, &path)?;
        let names: Vec<&str> = declared.types.iter().map(|(name, _)| name.as_str()).collect();
        let time = match event.node.get("time") {
            // A wrong one is told; tables are checked as if it were right.
            Some(node) => self.time(node, &names).unwrap_or_else(|| text("arrival")),
            None if kafka_events.contains(&event.key) => text("record"),
            None => text("arrival"),
        };
        let max_future_ms = event.node.get("max_future").and_then(|node| {
            let form = super::key::of("events.*.max_future")?.form;
            let value = self.check.setting_text(form, node).ok()?;
            millis(form, &value)
        });
        let dedupe = event.node.get("dedupe");
        let dedupe_field = dedupe.and_then(|dedupe| dedupe.get("field"));
        if let Some(dedupe) = dedupe {
            self.places.value(format!("{path}.dedupe_key"), dedupe_field.unwrap_or(dedupe));
            if dedupe_field.is_none() {
                self.check.error(Code::MissingConfigKey, "`dedupe` names no `field`", dedupe, "");
            }
        }
        let dedupe_window = self.life(dedupe.and_then(|dedupe| dedupe.get("window")), "events.*.dedupe.window");
        let cold_after = self.life(event.node.get("cold_after"), "events.*.cold_after");
        if let Some(node) = event.node.get("cold_after") {
            self.places.value(format!("{path}.cold_after_ms"), node);
        }
        self.places.keys.insert(path.clone(), event.key_span.clone());
        let key = Node { span: event.key_span.clone(), value: Value::Text(event.key.clone()) };
        self.places.value(path.clone(), &key);
        if let Some(time) = event.node.get("time") {
            self.places.value(format!("{path}.time"), time);
        }
        self.places.value(format!("{path}.schema.fields"), fields);
        self.places.subjects.insert(path, what);
        let optional = declared.optional.iter().map(|name| text(name)).collect();
        self.nodes.push(map(vec![
            ("kind", text("event")),
            ("name", text(&event.key)),
            ("schema", map(vec![("fields", Tree::Map(declared.types)), ("optional_fields", Tree::List(optional))])),
            ("time", time),
            ("max_future_ms", Tree::Int(max_future_ms.unwrap_or(3_600_000))),
            ("cold_after_ms", cold_after),
            ("dedupe_key", dedupe_field.and_then(Node::text).map_or(Tree::Null, text)),
            ("dedupe_window_ms", dedupe_window),
        ]));
        Some(())
    }

    /// How long keys live behind their last row: what the file does not say is for ever.
    fn life(&mut self, node: Option<&Node>, key: &str) -> Tree {
        let ms = node.and_then(|node| {
            let form = super::key::of(key)?.form;
            let value = self.check.setting_text(form, node).ok()?;
            millis(form, &value)
        });
        ms.map_or(Tree::Null, Tree::Int)
    }

    fn fields(&mut self, node: &Node, path: &str) -> Option<Fields> {
        let Some(members) = node.members() else {
            self.check.error(
                Code::InvalidConfigValue,
                format!("`fields`: a table of names and types is wanted, found {}", node.kind()),
                node,
                "",
            );
            return None;
        };
        let (mut types, mut optional) = (Vec::new(), Vec::new());
        for member in members {
            let Some(written) = member.node.text() else {
                let message = format!("field `{}`: the name of a type is wanted, found {}", member.key, member.node.kind());
                self.check.error(Code::InvalidConfigValue, message, &member.node, "");
                self.doubtful.insert(member.key.clone());
                types.push((member.key.clone(), text("json")));
                continue;
            };
            let name = written.strip_suffix('?').unwrap_or(written);
            if FieldType::parse(name).is_none() {
                let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("field `{}`: there is no type {name:?}", member.key));
                let help = did_you_mean(name, TYPES.iter()).unwrap_or_else(|| format!("types are {}", TYPES.join(", ")));
                self.check.problems.push(problem.at(member.node.span.clone(), "").help(help));
                self.doubtful.insert(member.key.clone());
                types.push((member.key.clone(), text("json")));
                continue;
            }
            if name.len() < written.len() {
                optional.push(member.key.clone());
            }
            let key = Node { span: member.key_span.clone(), value: Value::Text(member.key.clone()) };
            self.places.value(format!("{path}.schema.fields.{}", member.key), &key);
            types.push((member.key.clone(), text(name)));
        }
        Some(Fields { types, optional })
    }

    fn time(&mut self, node: &Node, fields: &[&str]) -> Option<Tree> {
        let wanted = "\"arrival\", \"record\" or { field = \"..\", unit = \"ms\" } is wanted";
        if let Some(word) = node.text() {
            if ["arrival", "record"].contains(&word) {
                return Some(text(word));
            }
            let problem = ConfigProblem::new(Code::InvalidConfigValue, format!("`time` is {word:?}; {wanted}")).at(node.span.clone(), "");
            let help = if fields.contains(&word) {
                Some(format!("write {{ field = {word:?} }}"))
            } else {
                did_you_mean(word, ["arrival", "record"].iter())
            };
            self.check.problems.push(problem.maybe_help(help));
            return None;
        }
        let Some(members) = node.members() else {
            self.check.error(Code::InvalidConfigValue, format!("`time`: {wanted}, found {}", node.kind()), node, "");
            return None;
        };
        let (mut field, mut unit) = (None, None);
        for member in members {
            match (member.key.as_str(), member.node.text()) {
                ("field", Some(name)) if fields.contains(&name) => field = Some(("field", text(name))),
                ("unit", Some(word)) if TimeUnit::parse(word).is_some() => unit = Some(("unit", text(word))),
                ("unit", word) => {
                    let message = format!("`unit`: {}", super::value::one_of(&TimeUnit::NAMES));
                    let help = word.and_then(unit_meant).map(|unit| format!("write {unit:?}"));
                    let problem = ConfigProblem::new(Code::InvalidConfigValue, message).at(member.node.span.clone(), "");
                    self.check.problems.push(problem.maybe_help(help));
                }
                ("field", Some(name)) => {
                    let problem = ConfigProblem::new(Code::UnknownReference, format!("`time`: the event has no field `{name}`"));
                    let help = did_you_mean(name, fields.iter());
                    self.check.problems.push(problem.at(member.node.span.clone(), "").maybe_help(help));
                }
                ("field", None) => self.check.error(Code::InvalidConfigValue, "`field`: the name of a field is wanted", &member.node, ""),
                (other, _) => {
                    let problem = ConfigProblem::new(Code::UnknownConfigKey, format!("unknown key `{other}`"));
                    let help = did_you_mean(other, ["field", "unit"].iter());
                    self.check.problems.push(problem.at(member.key_span.clone(), "not part of `time`").maybe_help(help));
                }
            }
        }
        if members.is_empty() {
            self.check.error(Code::InvalidConfigValue, format!("`time`: {wanted}"), node, "");
        } else if unit.is_some() && node.get("field").is_none() {
            self.check.error(Code::InvalidConfigValue, format!("`time`: a unit is of a field; {wanted}"), node, "");
        }
        field.map(|field| map(std::iter::once(field).chain(unit).collect()))
    }

    fn table(&mut self, table: &Member, events: &[Member]) -> Option<()> {
        table.node.members()?;
        let what = format!("table {}", table.key);
        if let Some(event) = events.iter().find(|event| event.key == table.key) {
            let message = format!("event and table are both named `{}`: names of events and tables are one space", table.key);
            let problem = ConfigProblem::new(Code::InvalidConfigValue, message).at(event.key_span.clone(), "the event");
            let help = format!("rename one of them, for example [tables.{}_stats]", table.key);
            self.check.problems.push(problem.at(table.key_span.clone(), "the table").help(help));
            return None;
        }
        let from = self.check.required(table, "from", &what);
        let keys = self.check.required(table, "key", &what);
        let features = self.check.required(table, "features", &what);
        let (from, keys, features) = (from?, keys?, features?);
        let event = from.text()?;
        if !events.iter().any(|known| known.key == event) {
            let problem = ConfigProblem::new(Code::UnknownReference, format!("{what} is from `{event}`, which is no event"));
            let help = did_you_mean(event, events.iter().map(|known| &known.key)).unwrap_or_else(|| format!("declare [events.{event}]"));
            self.check.problems.push(problem.at(from.span.clone(), "no such event").help(help));
            return None;
        }
        let path = format!("nodes[{}]", self.nodes.len());
        let condition = table.node.get("where").filter(|node| node.text().is_some_and(|text| !text.is_empty()));
        let group = format!("{path}.ops[{}]", usize::from(condition.is_some()));
        let agg = self.features(features, &table.key, &format!("{group}.agg"))?;
        let key_items = keys.items()?;
        if key_items.iter().any(|item| item.text().is_none_or(str::is_empty)) || self.broken.contains(event) {
            return None;
        }
        for (index, item) in key_items.iter().enumerate() {
            self.places.value(format!("{group}.keys[{index}]"), item);
        }
        let mut ops = Vec::with_capacity(2);
        if let Some(condition) = condition {
            self.places.value(format!("{path}.ops[0].expr"), condition);
            ops.push(map(vec![("op", text("filter")), ("expr", text(condition.text()?))]));
        }
        let names = Tree::List(key_items.iter().filter_map(|item| Some(text(item.text()?))).collect());
        ops.push(map(vec![("op", text("group_by")), ("keys", names.clone()), ("agg", agg)]));
        let key = Node { span: table.key_span.clone(), value: Value::Text(table.key.clone()) };
        self.places.value(path.clone(), &key);
        self.places.value(format!("{path}.upstreams[0]"), from);
        let renamed_from = table.node.get("renamed_from");
        if let Some(former) = renamed_from {
            self.places.value(format!("{path}.renamed_from"), former);
        }
        let expire_after = table.node.get("expire_after");
        if let Some(written) = expire_after {
            self.places.value(format!("{path}.expire_after_ms"), written);
        }
        let backfill = table.node.get("backfill");
        if let Some(written) = backfill {
            self.places.value(format!("{path}.backfill"), written);
        }
        self.places.subjects.insert(path, what);
        let mut node = vec![
            ("kind", text("derivation")),
            ("name", text(&table.key)),
            ("output_kind", text("table")),
            ("upstreams", Tree::List(vec![text(event)])),
            ("ops", Tree::List(ops)),
            ("table_primary_key", names),
        ];
        node.push(("expire_after_ms", self.life(expire_after, "tables.*.expire_after")));
        if let Some(written) = backfill {
            node.push(("backfill", tree(written)));
        }
        if let Some(former) = renamed_from {
            node.push(("renamed_from", text(former.text()?)));
        }
        self.nodes.push(map(node));
        Some(())
    }

    fn features(&mut self, node: &Node, table: &str, path: &str) -> Option<Tree> {
        let Some(members) = node.members() else {
            self.check.error(
                Code::InvalidConfigValue,
                format!("`features`: a table of features is wanted, found {}", node.kind()),
                node,
                "",
            );
            return None;
        };
        if members.is_empty() {
            self.check.error(Code::MissingConfigKey, "a table needs at least one feature", node, "");
            return None;
        }
        self.places.value(path.to_owned(), node);
        let mut features = Vec::with_capacity(members.len());
        for member in members {
            features.extend(self.feature(member, table, &format!("{path}.{}", member.key)).map(|feature| (member.key.clone(), feature)));
        }
        // With a broken feature the others are still worth compiling; the config is refused anyway.
        (!features.is_empty()).then_some(Tree::Map(features))
    }

    fn feature(&mut self, feature: &Member, table: &str, path: &str) -> Option<Tree> {
        let Some(members) = feature.node.members() else {
            let message =
                format!("feature `{}`: a table such as {{ op = \"count\" }} is wanted, found {}", feature.key, feature.node.kind());
            self.check.error(Code::InvalidConfigValue, message, &feature.node, "");
            return None;
        };
        self.places.member(path.to_owned(), feature);
        self.places.subjects.insert(path.to_owned(), format!("feature {} of table {table}", feature.key));
        let Some(op) = feature.node.get("op") else {
            let meant = members.iter().find(|member| member.key.len() <= 3 && did_you_mean(&member.key, ["op"].iter()).is_some());
            let problem = match meant {
                Some(member) => ConfigProblem::new(Code::UnknownConfigKey, format!("unknown key `{}`", member.key))
                    .at(member.key_span.clone(), "not part of a feature")
                    .help("did you mean `op`?"),
                None => ConfigProblem::new(Code::MissingConfigKey, format!("feature `{}` has no `op`", feature.key))
                    .at(feature.node.span.clone(), "`op` is missing")
                    .help("add op = \"count\", or another operator of docs/OPERATORS.md"),
            };
            self.check.problems.push(problem);
            return None;
        };
        let Some(name) = op.text() else {
            self.check.error(Code::InvalidConfigValue, format!("`op`: the name of an operator is wanted, found {}", op.kind()), op, "");
            return None;
        };
        self.places.value(format!("{path}.op"), op);
        let mut params = Vec::with_capacity(members.len());
        for member in members.iter().filter(|member| member.key != "op") {
            self.places.member(format!("{path}.params.{}", member.key), member);
            params.push((member.key.clone(), tree(&member.node)));
        }
        Some(map(vec![("op", text(name)), ("params", Tree::Map(params))]))
    }
}

fn millis(form: Form, value: &str) -> Option<i64> {
    match form.parse(value).ok()? {
        super::value::Parsed::Duration(duration) => i64::try_from(duration.as_millis()).ok(),
        _ => None,
    }
}

/// A value of a feature as register JSON has it.
fn tree(node: &Node) -> Tree {
    match &node.value {
        Value::Text(value) | Value::Time(value) | Value::Huge(value) => text(value),
        Value::Integer(number) => Tree::Int(*number),
        Value::Float(number) => Tree::Float(*number),
        Value::Flag(flag) => Tree::Bool(*flag),
        Value::List(items) => Tree::List(items.iter().map(tree).collect()),
        Value::Table(members) => Tree::Map(members.iter().map(|member| (member.key.clone(), tree(&member.node))).collect()),
    }
}
