//! `[events.X]` and `[tables.x]` as register nodes, with the place of every part, so that the register call's own checks speak about lines of the file.

use super::document::{Entry, Item, Section, Value};
use super::reader::Reader;
use super::report::{Label, Problem};
use super::source::unknown_event;
use super::{BadRecordPolicy, EventConfig};
use crate::decode::Tombstone;
use crate::pipeline::{Problem as NodeProblem, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use streamgauge_api::Code;

const EVENT_KEYS: &[&str] = &["time", "fields", "on_bad_record", "tombstone", "max_future"];
const EVENT_LATER: &[&str] = &["dedupe", "dlq_topic", "keep", "keep_for", "cold_after", "schema"];
const TABLE_KEYS: &[&str] = &["from", "key", "where", "ops", "features"];
const TABLE_LATER: &[&str] = &["expire_after", "backfill", "trace_last"];

/// Where a part of a node stands.
#[derive(Debug, Clone)]
struct Spot {
    key: Range<usize>,
    value: Range<usize>,
}

/// Types by field, and names of optional fields.
type Fields = (Vec<(String, Tree)>, Vec<Tree>);

/// Nodes of the file.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    trees: Vec<Tree>,
    spots: BTreeMap<String, Spot>,
    pub(super) events: BTreeMap<String, EventConfig>,
    /// Events that could not be read; their tables are not blamed for it.
    broken: BTreeSet<String>,
}

impl Nodes {
    /// The register payload.
    pub(super) fn payload(&self) -> Tree {
        Tree::Map(vec![("nodes".to_owned(), Tree::List(self.trees.clone()))])
    }

    fn spot(&mut self, path: impl Into<String>, key: &Range<usize>, value: &Range<usize>) {
        self.spots.insert(path.into(), Spot { key: key.clone(), value: value.clone() });
    }

    /// Reads all events. An event that a Kafka source feeds has the record's time by default, others the time of arrival.
    pub(super) fn events(&mut self, section: &Section, fed: &BTreeSet<String>, problems: &mut Vec<Problem>) {
        for entry in &section.entries {
            let Some(section) = table_of(entry, "events", problems) else { continue };
            let place = format!("[events.{}]", entry.key);
            let reader = Reader::new(place, entry.key_span.clone(), section, EVENT_KEYS, EVENT_LATER, problems);
            let node = format!("nodes[{}]", self.trees.len());
            self.spot(node.clone(), &entry.key_span, &entry.key_span);
            self.spot(format!("{node}.name"), &entry.key_span, &entry.key_span);
            let names = section
                .get("fields")
                .and_then(Item::as_section)
                .map(|fields| fields.entries.iter().map(|entry| entry.key.clone()).collect());
            let event = event_config(&entry.key, names.unwrap_or_default(), &reader, problems);
            self.events.insert(entry.key.clone(), event);
            let fields = self.fields(&reader, &node, problems);
            let time = self.time(&reader, &node, fed.contains(&entry.key), problems);
            let Some((fields, optional)) = fields else {
                self.broken.insert(entry.key.clone());
                continue;
            };
            let mut members = vec![
                ("kind".to_owned(), Tree::Str("event".to_owned())),
                ("name".to_owned(), Tree::Str(entry.key.clone())),
                (
                    "schema".to_owned(),
                    Tree::Map(vec![("fields".to_owned(), Tree::Map(fields)), ("optional_fields".to_owned(), Tree::List(optional))]),
                ),
                ("time".to_owned(), time),
            ];
            if let Some(us) = reader.duration_us("max_future", problems) {
                members.push(("max_future_ms".to_owned(), Tree::Int(us / 1_000)));
            }
            self.trees.push(Tree::Map(members));
        }
    }

    fn fields(&mut self, reader: &Reader<'_>, node: &str, problems: &mut Vec<Problem>) -> Option<Fields> {
        let (mut fields, mut optional) = (Vec::new(), Vec::new());
        let item = reader.required("fields", problems)?;
        let Some(section) = item.as_section() else {
            reader.wrong("fields", item, "a table of field = type", problems);
            return None;
        };
        self.spot(format!("{node}.schema.fields"), &item.span, &item.span);
        for entry in &section.entries {
            self.spot(format!("{node}.schema.fields.{}", entry.key), &entry.key_span, &entry.item.span);
            let text = entry.item.as_str().unwrap_or_default();
            let kind = text.strip_suffix('?').unwrap_or(text);
            if crate::row::FieldType::parse(kind).is_none() {
                let message = format!("field `{}` of {}: {text:?} is no type", entry.key, reader.place);
                let problem = Problem::at(Code::InvalidConfigValue, entry.item.span.clone(), message, "not a type");
                let known = ["str", "f64", "i64", "bool", "bytes", "datetime", "json"];
                let nearest = crate::pipeline::nearest(kind, known.iter());
                let help =
                    nearest.as_ref().map_or_else(|| format!("there are {}", known.join(", ")), |name| format!("did you mean `{name}`?"));
                problems.push(problem.help(help));
                // Checks go on with the type that was meant; without one the event's tables are not blamed for it.
                fields.push((entry.key.clone(), Tree::Str(nearest?)));
                continue;
            }
            fields.push((entry.key.clone(), Tree::Str(kind.to_owned())));
            if text.ends_with('?') {
                optional.push(Tree::Str(entry.key.clone()));
            }
        }
        Some((fields, optional))
    }

    fn time(&mut self, reader: &Reader<'_>, node: &str, fed: bool, problems: &mut Vec<Problem>) -> Tree {
        let default = Tree::Str(if fed { "record" } else { "arrival" }.to_owned());
        let Some(item) = reader.get("time") else { return default };
        self.spot(format!("{node}.time"), &item.span, &item.span);
        match &item.value {
            Value::Str(word) if matches!(word.as_str(), "arrival" | "record") => item.to_tree(),
            Value::Table(section) if section.entries.len() == 1 && section.get("field").and_then(Item::as_str).is_some() => item.to_tree(),
            _ => {
                reader.wrong("time", item, "\"arrival\", \"record\" or { field = \"name\" }", problems);
                default
            }
        }
    }

    /// Reads all tables.
    pub(super) fn tables(&mut self, section: &Section, problems: &mut Vec<Problem>) {
        for entry in &section.entries {
            let Some(section) = table_of(entry, "tables", problems) else { continue };
            let place = format!("[tables.{}]", entry.key);
            let reader = Reader::new(place, entry.key_span.clone(), section, TABLE_KEYS, TABLE_LATER, problems);
            let node = format!("nodes[{}]", self.trees.len());
            if let Some(tree) = self.table(&entry.key, &reader, &node, problems) {
                self.spot(node.clone(), &entry.key_span, &entry.key_span);
                self.spot(format!("{node}.name"), &entry.key_span, &entry.key_span);
                self.trees.push(tree);
            }
        }
    }

    fn table(&mut self, name: &str, reader: &Reader<'_>, node: &str, problems: &mut Vec<Problem>) -> Option<Tree> {
        let from = reader.required("from", problems).and_then(|_| reader.text("from", problems));
        let mut ops = self.ops(reader, node, problems);
        if let Some(text) = reader.text("where", problems) {
            if let Some(entry) = reader.section.entry("where") {
                self.spot(format!("{node}.ops[{}].expr", ops.len()), &entry.key_span, &entry.item.span);
            }
            ops.push(Tree::Map(vec![("op".to_owned(), Tree::Str("filter".to_owned())), ("expr".to_owned(), Tree::Str(text.to_owned()))]));
        }
        let group = format!("{node}.ops[{}]", ops.len());
        let keys = self.keys(reader, &group, problems);
        let agg = self.features(reader, &group, problems);
        let (from_item, from) = (reader.get("from")?, from?);
        self.spot(format!("{node}.upstreams[0]"), &from_item.span, &from_item.span);
        if self.broken.contains(from) {
            return None;
        }
        if !self.events.contains_key(from) {
            problems.push(unknown_event(from, from_item, &self.events));
            return None;
        }
        ops.push(Tree::Map(vec![
            ("op".to_owned(), Tree::Str("group_by".to_owned())),
            ("keys".to_owned(), Tree::List(keys.clone())),
            ("agg".to_owned(), Tree::Map(agg)),
        ]));
        Some(Tree::Map(vec![
            ("kind".to_owned(), Tree::Str("derivation".to_owned())),
            ("name".to_owned(), Tree::Str(name.to_owned())),
            ("output_kind".to_owned(), Tree::Str("table".to_owned())),
            ("upstreams".to_owned(), Tree::List(vec![Tree::Str(from.to_owned())])),
            ("ops".to_owned(), Tree::List(ops)),
            ("table_primary_key".to_owned(), Tree::List(keys)),
        ]))
    }

    /// Chain steps as register JSON has them; they run before `where`.
    fn ops(&mut self, reader: &Reader<'_>, node: &str, problems: &mut Vec<Problem>) -> Vec<Tree> {
        let Some(item) = reader.get("ops") else { return Vec::new() };
        let Some(items) = item.as_list() else {
            reader.wrong("ops", item, "a list of steps like { op = \"filter\", expr = \"amount > 0\" }", problems);
            return Vec::new();
        };
        for (index, step) in items.iter().enumerate() {
            self.spots_of(&format!("{node}.ops[{index}]"), &step.span, step);
        }
        items.iter().map(Item::to_tree).collect()
    }

    /// The places of a value and of everything in it.
    fn spots_of(&mut self, path: &str, key: &Range<usize>, item: &Item) {
        let mut pending = vec![(path.to_owned(), key.clone(), item)];
        while let Some((path, key, item)) = pending.pop() {
            self.spot(path.clone(), &key, &item.span);
            match &item.value {
                Value::Table(section) => {
                    pending
                        .extend(section.entries.iter().map(|entry| (format!("{path}.{}", entry.key), entry.key_span.clone(), &entry.item)));
                }
                Value::List(items) => {
                    pending.extend(items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item.span.clone(), item)));
                }
                _ => {}
            }
        }
    }

    fn keys(&mut self, reader: &Reader<'_>, group: &str, problems: &mut Vec<Problem>) -> Vec<Tree> {
        let Some(item) = reader.get("key") else { return Vec::new() };
        let keys = match &item.value {
            // An empty list is the key of a global table.
            Value::List(items) if items.is_empty() => Vec::new(),
            _ => reader.texts("key", problems).unwrap_or_default(),
        };
        for index in 0..keys.len() {
            let span = item.as_list().and_then(|items| items.get(index)).map_or(&item.span, |item| &item.span).clone();
            self.spot(format!("{group}.keys[{index}]"), &span, &span);
        }
        keys.into_iter().map(|key| Tree::Str(key.to_owned())).collect()
    }

    fn features(&mut self, reader: &Reader<'_>, group: &str, problems: &mut Vec<Problem>) -> Vec<(String, Tree)> {
        let mut features = Vec::new();
        let Some(item) = reader.required("features", problems) else { return features };
        let Some(section) = item.as_section() else {
            reader.wrong("features", item, "a table of name = { op = ... }", problems);
            return features;
        };
        for entry in &section.entries {
            let Some(body) = entry.item.as_section() else {
                reader.wrong(&entry.key, &entry.item, "a table like { op = \"count\", window = \"1h\" }", problems);
                continue;
            };
            let path = format!("{group}.agg.{}", entry.key);
            self.spot(path.clone(), &entry.key_span, &entry.item.span);
            let Some(op) = body.entry("op") else {
                let known: Vec<&str> = body.entries.iter().map(|entry| entry.key.as_str()).collect();
                let problem = Problem::at(
                    Code::MissingConfigKey,
                    entry.item.span.clone(),
                    format!("feature `{}` needs `op`", entry.key),
                    "`op` is missing",
                );
                let nearest = known.into_iter().find(|key| key.len() <= 3 && strsim::damerau_levenshtein(key, "op") == 1);
                problems.push(Problem { help: nearest.map(|key| format!("`{key}`: did you mean `op`?")), ..problem });
                continue;
            };
            self.spot(format!("{path}.op"), &op.key_span, &op.item.span);
            let mut params = Vec::new();
            for param in body.entries.iter().filter(|param| param.key != "op") {
                self.spots_of(&format!("{path}.params.{}", param.key), &param.key_span, &param.item);
                params.push((param.key.clone(), param.item.to_tree()));
            }
            features
                .push((entry.key.clone(), Tree::Map(vec![("op".to_owned(), op.item.to_tree()), ("params".to_owned(), Tree::Map(params))])));
        }
        features
    }

    /// A problem of the register call as one of the file.
    pub(super) fn translate(&self, problem: &NodeProblem, text: &str) -> Problem {
        let spot = self.nearest_spot(&problem.path);
        let mut translated = Problem::outside(problem.code, self.sentence(problem, spot.as_ref(), text));
        translated.help.clone_from(&problem.hint);
        let Some(spot) = spot else { return translated };
        if problem.code == Code::UnknownConfigKey {
            translated.message = match problem.path.rsplit_once('.') {
                Some((_, key)) => format!("unknown key `{key}`"),
                None => translated.message,
            };
            translated.labels = vec![Label { span: spot.key, text: problem.reason.clone() }];
            return translated;
        }
        let inside = string_start(text, &spot.value).filter(|_| problem.code == Code::ExpressionTypeMismatch || !problem.labels.is_empty());
        match inside {
            Some(start) => {
                let labels = problem.labels.iter().map(|(span, word)| {
                    let span = start + span.start..start + span.end;
                    let origin = text.get(span.clone()).and_then(|name| self.declared(&problem.path, name, text)).unwrap_or_default();
                    Label { span, text: format!("{word}{origin}") }
                });
                translated.labels = labels.collect();
            }
            None => translated.labels = vec![Label { span: spot.value, text: String::new() }],
        }
        translated
    }

    /// The reason with the table that it is about, for reasons that begin with a verb.
    fn sentence(&self, problem: &NodeProblem, spot: Option<&Spot>, text: &str) -> String {
        let Some(name) = self.node(&problem.path).and_then(|node| node.get("name")).and_then(Tree::as_str) else {
            return problem.reason.clone();
        };
        let part = match problem.path.split_once(".agg.").and_then(|(_, rest)| rest.split_once(".params.")) {
            Some((feature, param)) => format!("`{param}` of feature {name}.{feature}"),
            None => match spot.and_then(|spot| text.get(spot.key.clone())) {
                Some("where") => format!("`where` of table {name}"),
                _ => format!("a step of table {name}"),
            },
        };
        let verb = problem.reason.split(' ').next().unwrap_or_default();
        let separator = if matches!(verb, "compares" | "adds" | "subtracts" | "multiplies" | "divides") { " " } else { ": " };
        if problem.code == Code::ExpressionTypeMismatch { format!("{part}{separator}{}", problem.reason) } else { problem.reason.clone() }
    }

    fn node(&self, path: &str) -> Option<&Tree> {
        let index = path.strip_prefix("nodes[")?.split(']').next()?.parse::<usize>().ok()?;
        self.trees.get(index)
    }

    /// Where a field that an expression names is declared.
    fn declared(&self, path: &str, name: &str, text: &str) -> Option<String> {
        let from = self.node(path)?.get("upstreams")?.texts()?.first().copied()?;
        let event = self.trees.iter().position(|node| node.get("name").and_then(Tree::as_str) == Some(from))?;
        let spot = self.spots.get(&format!("nodes[{event}].schema.fields.{name}"))?;
        let line = text.get(..spot.key.start)?.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some(format!(" (event {from}, line {line})"))
    }

    /// The place of a path, or of what it is part of.
    fn nearest_spot(&self, path: &str) -> Option<Spot> {
        let mut path = path;
        loop {
            if let Some(spot) = self.spots.get(path) {
                return Some(spot.clone());
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

/// Where the text of a one-line string without escapes begins; then offsets into it are offsets into the file.
fn string_start(text: &str, span: &Range<usize>) -> Option<usize> {
    let raw = text.get(span.clone())?;
    let quote = raw.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let plain = !raw.starts_with("\"\"\"") && !raw.starts_with("'''") && (quote == '\'' || !raw.contains('\\'));
    plain.then_some(span.start + 1)
}

fn table_of<'d>(entry: &'d Entry, group: &str, problems: &mut Vec<Problem>) -> Option<&'d Section> {
    let section = entry.item.as_section();
    if section.is_none() {
        let message = format!("{group}.{} is a table, found {}", entry.key, entry.item.kind());
        problems.push(Problem::at(Code::InvalidConfigValue, entry.item.span.clone(), message, "a table is wanted"));
    }
    section
}

fn event_config(name: &str, fields: Vec<String>, reader: &Reader<'_>, problems: &mut Vec<Problem>) -> EventConfig {
    let policies = [("dlq", BadRecordPolicy::Dlq), ("skip", BadRecordPolicy::Skip), ("stop", BadRecordPolicy::Stop)];
    let tombstones =
        [("ignore", Tombstone::Ignore), ("reject", Tombstone::Reject), ("delete_key", Tombstone::DeleteKey), ("row", Tombstone::Row)];
    EventConfig {
        name: name.to_owned(),
        fields,
        on_bad_record: reader.choice("on_bad_record", &policies, BadRecordPolicy::Dlq, problems),
        tombstone: reader.choice("tombstone", &tombstones, Tombstone::Reject, problems),
    }
}
