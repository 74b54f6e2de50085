//! Nodes of a payload, decoded but not yet resolved against each other.
//!
//! Decoding checks shapes, names and texts that mean the same everywhere; what depends on other nodes (upstreams, columns, types) is checked when the world
//! they live in is known. A decoded node writes itself out in canonical form: equal meaning gives equal JSON.

use super::chain::ChainOp;
use super::definition::KeyKind;
use super::history::HistoryFrom;
use super::payload::{Tree, join};
use super::problem::{Problem, Problems};
use crate::row::{Dedupe, Field, FieldIndex, FieldType, TimeSource, TimeUnit};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use streamgauge_api::{Code, did_you_mean};

/// A row may be this far ahead of its arrival unless the event says otherwise.
const MAX_FUTURE_US_DEFAULT: i64 = 3_600_000_000;

/// Longest name of anything declared.
const NAME_CHARS_MAX: usize = 128;

/// Fields of one event; rows count them in 16 bits, and a changed field leaves a retired slot behind.
const FIELDS_MAX: usize = 16_384;

/// Features of one table.
const FEATURES_MAX: usize = 65_536;

/// What an event has. The last one stands in what 0.0.6 tells of a registered node, and means nothing.
const EVENT: &[&str] = &[
    "kind",
    "name",
    "schema",
    "time",
    "max_future_ms",
    "dedupe_key",
    "dedupe_window_ms",
    "keep_events_for_ms",
    "cold_after_ms",
    "renamed_from",
    "registered_at_version",
];

/// What a derivation has. Its `schema` is a guess of the client's and may hold anything.
const DERIVATION: &[&str] = &[
    "kind",
    "name",
    "output_kind",
    "upstreams",
    "ops",
    "table_primary_key",
    "schema",
    "expire_after_ms",
    "backfill",
    "renamed_from",
    "registered_at_version",
];

/// What a feature has; `columns` stands in what the registry tells of it, and means nothing here.
const FEATURE: &[&str] = &["op", "params", "columns", "backfill"];

/// Where row time comes from, before the field is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeSpec {
    Arrival,
    Record,
    Field(String, Option<TimeUnit>),
}

impl TimeSpec {
    pub(super) fn canonical(&self) -> Json {
        match self {
            Self::Arrival => json!("arrival"),
            Self::Record => json!("record"),
            Self::Field(name, None) => json!({ "field": name }),
            Self::Field(name, Some(unit)) => json!({ "field": name, "unit": unit.as_str() }),
        }
    }

    /// Whether rows have the same time by both: milliseconds are what a number is without a word.
    pub(super) fn is_the_same_time(&self, other: &Self) -> bool {
        let plain = |unit: Option<TimeUnit>| unit.unwrap_or(TimeUnit::Millis);
        match (self, other) {
            (Self::Field(name, unit), Self::Field(others, other)) => name == others && plain(*unit) == plain(*other),
            _ => self == other,
        }
    }

    fn of_field(index: FieldIndex, unit: Option<TimeUnit>, fields: &[Field]) -> Self {
        match fields.get(usize::from(index.0)) {
            Some(field) => Self::Field(field.name.to_string(), unit),
            None => Self::Arrival,
        }
    }

    /// What an event of these fields has.
    pub(super) fn of(time: TimeSource, fields: &[Field]) -> Self {
        match time {
            TimeSource::Arrival => Self::Arrival,
            TimeSource::Record => Self::Record,
            TimeSource::Field(index) => Self::of_field(index, None, fields),
            TimeSource::FieldIn(index, unit) => Self::of_field(index, Some(unit), fields),
        }
    }
}

/// An event node. Options that the payload leaves out stay as registered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventSpec {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) time: Option<TimeSpec>,
    pub(super) max_future_us: Option<i64>,
    pub(super) cold_after_us: Life,
    pub(super) dedupe: DedupeSpec,
}

/// What tells repetitions, as a node says it: a field and a window in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum DedupeSpec {
    /// Nothing is said: what was in force stays.
    #[default]
    Unsaid,
    /// Nothing tells them: null was written.
    None,
    /// This field, within this window.
    By(String, i64),
}

impl DedupeSpec {
    /// The window where none is given.
    const WINDOW_US: i64 = 86_400_000_000;

    /// What is in force, as a node would say it.
    pub(super) fn of(dedupe: Option<Dedupe>, fields: &[Field]) -> Option<(String, i64)> {
        let Dedupe { field, window_us } = dedupe?;
        fields.get(usize::from(field.0)).map(|field| (field.name.to_string(), window_us))
    }

    /// What is in force from now on.
    pub(super) fn over(&self, before: Option<(String, i64)>) -> Option<(String, i64)> {
        match self {
            Self::Unsaid => before,
            Self::None => None,
            Self::By(field, window_us) => Some((field.clone(), *window_us)),
        }
    }

    pub(super) fn canonical(said: Option<&(String, i64)>) -> Json {
        said.map_or(Json::Null, |(field, window_us)| json!({ "key": field, "window_ms": window_us / 1_000 }))
    }
}

/// How long keys live behind their last row, as a node says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Life {
    /// Nothing is said: what was in force stays.
    #[default]
    Unsaid,
    /// For ever: null was written.
    Endless,
    /// So many microseconds.
    Us(i64),
}

impl Life {
    /// Most of it: what a window may be.
    const US_MAX: i64 = 3_650 * 86_400_000_000;

    /// What is given; none for ever.
    pub(super) fn given(self) -> Option<i64> {
        if let Self::Us(us) = self { Some(us) } else { None }
    }

    /// What is in force from now on.
    pub(super) fn over(self, before: Option<i64>) -> Option<i64> {
        if self == Self::Unsaid { before } else { self.given() }
    }
}

/// The last step of a table's node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupSpec {
    pub(super) path: String,
    pub(super) keys: Vec<String>,
    pub(super) features: Vec<(String, Tree)>,
}

/// Chain steps with their paths, and the group_by behind them.
type Steps = (Vec<(String, ChainOp)>, Option<GroupSpec>);

/// A derivation node: a table, or an event derivation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DerivationSpec {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) table: bool,
    /// The table's former name. No part of the node: once the table exists it means nothing.
    pub(super) renamed_from: Option<String>,
    pub(super) upstream: String,
    /// How long keys of the table live behind their last row.
    pub(super) expire_after_us: Life,
    /// Where the table's history begins when it is created. No part of the node, like a source's `start`.
    pub(super) backfill: Option<HistoryFrom>,
    pub(super) ops: Vec<(String, ChainOp)>,
    pub(super) group: Option<GroupSpec>,
}

impl DerivationSpec {
    /// The chain steps in canonical form.
    pub(super) fn canonical_ops(&self) -> Vec<Json> {
        self.ops.iter().map(|(_, op)| op.canonical()).collect()
    }

    /// The node in canonical form; a table's features are given as they were compiled.
    pub(super) fn canonical(&self, features: &[(String, Json)]) -> Json {
        let mut ops = self.canonical_ops();
        if let Some(group) = &self.group {
            let agg: Map<String, Json> = features.iter().cloned().collect();
            ops.push(json!({ "op": "group_by", "keys": group.keys, "agg": agg }));
        }
        let output = if self.table { "table" } else { "event" };
        let keys = self.group.as_ref().map(|group| &group.keys);
        let mut node = json!({
            "kind": "derivation", "name": self.name, "output_kind": output, "upstreams": [self.upstream], "ops": ops, "table_primary_key": keys,
        });
        if let Some(us) = self.expire_after_us.given() {
            node["expire_after_ms"] = json!(us / 1_000);
        }
        node
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeSpec {
    Event(EventSpec),
    Derivation(DerivationSpec),
}

impl NodeSpec {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Event(event) => &event.name,
            Self::Derivation(derivation) => &derivation.name,
        }
    }

    pub(super) fn path(&self) -> &str {
        match self {
            Self::Event(event) => &event.path,
            Self::Derivation(derivation) => &derivation.path,
        }
    }
}

/// The canonical form of an event: every option named.
pub(super) fn canonical_event(name: &str, fields: &[Field], time: &TimeSpec, max_future_us: i64) -> Json {
    let live = || fields.iter().filter(|field| !is_retired(&field.name));
    let types: Map<String, Json> = live().map(|field| (field.name.to_string(), field.kind.as_str().into())).collect();
    let optional: BTreeSet<&str> = live().filter(|field| field.optional).map(|field| &*field.name).collect();
    json!({
        "kind": "event", "name": name, "schema": { "fields": types, "optional_fields": optional },
        "time": time.canonical(), "max_future_ms": max_future_us / 1_000,
    })
}

/// Prefix of the name of a slot whose field was removed or retyped. Slots are never reused, since rows of earlier versions still carry them.
const RETIRED: char = '\0';

/// Whether a field is only a slot that rows of earlier versions still carry. Decoders and readers leave it out.
pub fn is_retired(field_name: &str) -> bool {
    field_name.starts_with(RETIRED)
}

/// The name of a retired slot.
pub(super) fn retired_name(index: usize) -> Box<str> {
    format!("{RETIRED}{index}").into()
}

impl EventSpec {
    pub(super) fn time_or_default(&self) -> TimeSpec {
        self.time.clone().unwrap_or(TimeSpec::Arrival)
    }

    pub(super) fn max_future_us_or_default(&self) -> i64 {
        self.max_future_us.unwrap_or(MAX_FUTURE_US_DEFAULT)
    }
}

/// Decodes a node; what is wrong goes into `problems`.
pub(super) fn decode(tree: &Tree, path: String, problems: &mut Problems) -> Option<NodeSpec> {
    let before = problems.errors.len();
    let is_event = tree.get("kind").and_then(Tree::as_str) == Some("event");
    tree.only(&path, if is_event { EVENT } else { DERIVATION }, problems);
    let mut decoder = Decoder { path, problems };
    let node = match tree.get("kind").and_then(Tree::as_str) {
        Some("event") => decoder.event(tree).map(NodeSpec::Event),
        _ => decoder.derivation(tree).map(NodeSpec::Derivation),
    };
    node.filter(|_| problems.errors.len() == before)
}

struct Decoder<'p> {
    path: String,
    problems: &'p mut Problems,
}

impl Decoder<'_> {
    /// A member of the wrong shape. The path is the whole body, as clients know it; the reason says where.
    fn shape(&mut self, place: &str, wanted: &str, found: Option<&Tree>) {
        let found = found.map_or("missing", Tree::kind);
        let at = join(&self.path, place);
        self.problems.error(Code::InvalidRegistration, "<body>", format!("{at}: {wanted} is wanted, found {found}"));
    }

    fn invalid(&mut self, place: &str, reason: impl Into<String>) {
        self.problems.error(Code::InvalidRegistration, join(&self.path, place), reason);
    }

    fn name(&mut self, tree: &Tree) -> Option<String> {
        let Some(name) = tree.get("name").and_then(Tree::as_str) else {
            self.shape("name", "a string", tree.get("name"));
            return None;
        };
        if let Some(reason) = bad_descriptor_name(name) {
            self.invalid("name", reason);
            return None;
        }
        Some(name.to_owned())
    }

    fn texts(&mut self, tree: &Tree, member: &str) -> Option<Vec<String>> {
        match tree.get(member) {
            None => Some(Vec::new()),
            Some(list) => match list.texts() {
                Some(texts) => Some(texts.into_iter().map(str::to_owned).collect()),
                None => {
                    self.shape(member, "an array of strings", Some(list));
                    None
                }
            },
        }
    }

    fn event(&mut self, tree: &Tree) -> Option<EventSpec> {
        let name = self.name(tree);
        self.renamed_from(tree, false)?;
        let fields = self.fields(tree);
        let dedupe = self.options(tree, fields.as_deref().unwrap_or_default());
        let time = self.time(tree, fields.as_deref().unwrap_or_default());
        let max_future_us = match tree.get("max_future_ms") {
            None => None,
            Some(Tree::Int(ms @ 0..)) => ms.checked_mul(1_000),
            other => {
                self.shape("max_future_ms", "a number of milliseconds", other);
                None
            }
        };
        let cold_after_us = self.life(tree, "cold_after_ms");
        Some(EventSpec { path: self.path.clone(), name: name?, fields: fields?, time, max_future_us, cold_after_us, dedupe })
    }

    fn fields(&mut self, tree: &Tree) -> Option<Vec<Field>> {
        let Some(schema) = tree.get("schema") else {
            self.shape("schema", "an object", None);
            return None;
        };
        schema.only(&join(&self.path, "schema"), &["fields", "optional_fields"], self.problems);
        let Some(members) = schema.get("fields").and_then(Tree::members) else {
            self.shape("schema.fields", "an object", schema.get("fields"));
            return None;
        };
        let optional = {
            let at = self.path.clone();
            self.path = join(&at, "schema");
            let optional = self.texts(schema, "optional_fields");
            self.path = at;
            optional?
        };
        if members.is_empty() || members.len() > FIELDS_MAX {
            self.invalid("schema.fields", format!("an event has 1 to {FIELDS_MAX} fields, this one has {}", members.len()));
            return None;
        }
        let mut fields = Vec::with_capacity(members.len());
        for (name, kind) in members {
            let place = join("schema.fields", name);
            if let Some(reason) = bad_inner_name(name) {
                self.invalid(&place, format!("field {name:?} {reason}"));
                continue;
            }
            let Some(kind_name) = kind.as_str() else {
                self.shape(&place, "a type name", Some(kind));
                continue;
            };
            let Some(kind) = FieldType::parse(kind_name) else {
                let at = join(&self.path, &place);
                let hint = did_you_mean(kind_name, FIELD_TYPES.iter());
                let reason = format!("{at}: {kind_name:?} is no type; there are {}", FIELD_TYPES.join(", "));
                self.problems.errors.push(Problem::new(Code::InvalidRegistration, "<body>", reason).hint(hint));
                continue;
            };
            fields.push(Field { name: name.as_str().into(), kind, optional: optional.contains(name) });
        }
        for name in &optional {
            if !members.iter().any(|(field, _)| field == name) {
                self.invalid("schema.optional_fields", format!("optional field \"{name}\" is no field of the event"));
            }
        }
        Some(fields)
    }

    /// What tells repetitions, and what stands for retention, which is not there.
    fn options(&mut self, tree: &Tree, fields: &[Field]) -> DedupeSpec {
        match tree.get("keep_events_for_ms") {
            None => {}
            Some(Tree::Int(1..)) => self.not_available("keep_events_for_ms"),
            Some(Tree::Int(number)) => {
                self.invalid("keep_events_for_ms", format!("keep_events_for_ms is {number}; it must be greater than 0"));
            }
            other => self.shape("keep_events_for_ms", "a number of milliseconds", other),
        }
        let window_us = match self.life(tree, "dedupe_window_ms") {
            Life::Us(us) => us,
            Life::Unsaid | Life::Endless => DedupeSpec::WINDOW_US,
        };
        let is_said = tree.members().is_some_and(|members| members.iter().any(|(name, _)| name == "dedupe_key"));
        let Some(key) = tree.get("dedupe_key") else {
            if tree.get("dedupe_window_ms").is_some() {
                let at = join(&self.path, "dedupe_window_ms");
                self.problems.warning(Code::InvalidRegistration, at, "dedupe_window_ms has no effect without dedupe_key");
            }
            return if is_said { DedupeSpec::None } else { DedupeSpec::Unsaid };
        };
        let Some(name) = key.as_str() else {
            self.shape("dedupe_key", "a string", Some(key));
            return DedupeSpec::Unsaid;
        };
        match fields.iter().find(|field| &*field.name == name) {
            None => self.invalid("dedupe_key", format!("dedupe_key \"{name}\" is no field of the event")),
            Some(field) if KeyKind::of(field.kind).is_none() => {
                let kind = field.kind.as_str();
                self.invalid("dedupe_key", format!("dedupe_key \"{name}\" is of type {kind}; an id is a str, i64, bool or datetime"));
            }
            Some(_) => return DedupeSpec::By(name.to_owned(), window_us),
        }
        DedupeSpec::Unsaid
    }

    /// How long keys live behind their last row.
    fn life(&mut self, tree: &Tree, member: &str) -> Life {
        let written = tree.members().and_then(|members| members.iter().find(|(name, _)| name == member)).map(|(_, value)| value);
        let us = |ms: i64| ms.checked_mul(1_000).filter(|us| *us <= Life::US_MAX);
        match written {
            None => Life::Unsaid,
            Some(Tree::Null) => Life::Endless,
            Some(Tree::Int(ms @ 1..)) if us(*ms).is_some() => us(*ms).map_or(Life::Unsaid, Life::Us),
            Some(Tree::Int(number)) => {
                let most = Life::US_MAX / 1_000;
                self.invalid(member, format!("{member} is {number}; it must be greater than 0 and at most {most}, 3650 days"));
                Life::Unsaid
            }
            other => {
                self.shape(member, "a number of milliseconds", other);
                Life::Unsaid
            }
        }
    }

    fn not_available(&mut self, member: &str) {
        let reason = format!("{member} is known but not available in this build");
        self.problems.error(Code::NotAvailable, join(&self.path, member), reason);
    }

    fn time(&mut self, tree: &Tree, fields: &[Field]) -> Option<TimeSpec> {
        let time = tree.get("time")?;
        time.only(&join(&self.path, "time"), &["field", "unit"], self.problems);
        let unit = match time.get("unit").map(|unit| (unit.as_str(), unit.as_str().and_then(TimeUnit::parse))) {
            None => None,
            Some((_, Some(unit))) => Some(unit),
            Some((text, None)) => {
                let hint = text.and_then(unit_meant).map(|unit| format!("write \"{unit}\""));
                let reason = format!("the unit of a time is one of {}", TimeUnit::NAMES.join(", "));
                self.problems.errors.push(Problem::new(Code::InvalidRegistration, join(&self.path, "time.unit"), reason).hint(hint));
                None
            }
        };
        match (time.as_str(), time.get("field").and_then(Tree::as_str)) {
            (Some("arrival"), _) => Some(TimeSpec::Arrival),
            (Some("record"), _) => Some(TimeSpec::Record),
            (_, Some(name)) => {
                match fields.iter().find(|field| &*field.name == name) {
                    Some(field) if matches!(field.kind, FieldType::Datetime | FieldType::I64) => {}
                    Some(field) => {
                        self.invalid("time", format!("time field \"{name}\" is {}; datetime or i64 is wanted", field.kind.as_str()));
                    }
                    None => {
                        let hint = did_you_mean(name, fields.iter().map(|field| &field.name));
                        let at = join(&self.path, "time");
                        let reason = format!("time field \"{name}\" is no field of the event");
                        self.problems.errors.push(Problem::new(Code::InvalidRegistration, at, reason).hint(hint));
                    }
                }
                Some(TimeSpec::Field(name.to_owned(), unit))
            }
            _ => {
                self.shape("time", "\"arrival\", \"record\" or {\"field\": name}", Some(time));
                None
            }
        }
    }

    fn derivation(&mut self, tree: &Tree) -> Option<DerivationSpec> {
        let name = self.name(tree);
        let table = match tree.get("output_kind").and_then(Tree::as_str) {
            Some("table") => true,
            Some("event") => false,
            _ => {
                self.shape("output_kind", "\"table\" or \"event\"", tree.get("output_kind"));
                return None;
            }
        };
        let upstreams = self.texts(tree, "upstreams")?;
        let Some((upstream, more)) = upstreams.split_first() else {
            self.invalid("upstreams", "a derivation names the event it is fed by");
            return None;
        };
        if !more.is_empty() {
            let reason = format!("only the first upstream, \"{upstream}\", feeds the node");
            self.problems.warning(Code::InvalidRegistration, join(&self.path, "upstreams"), reason);
        }
        let (ops, group) = self.ops(tree, table)?;
        self.primary_key(tree, table, group.as_ref());
        let has_schema =
            tree.get("schema").and_then(|schema| schema.get("fields")).and_then(Tree::members).is_some_and(|fields| !fields.is_empty());
        // An event derivation without steps is its upstream under another name; one without even a schema was probably cut short.
        if ops.is_empty() && group.is_none() && !has_schema {
            self.invalid("ops", "a derivation has steps or a schema, this one has neither");
        }
        let renamed_from = self.renamed_from(tree, table)?;
        let expire_after_us = self.life(tree, "expire_after_ms");
        if expire_after_us.given().is_some() && !table {
            self.invalid("expire_after_ms", "expire_after_ms is for tables: nothing else has keys");
        }
        let backfill = self.backfill(tree, table);
        let path = self.path.clone();
        let upstream = upstream.clone();
        Some(DerivationSpec { path, name: name?, table, renamed_from, upstream, expire_after_us, backfill, ops, group })
    }

    /// Where the table's history begins.
    fn backfill(&mut self, tree: &Tree, table: bool) -> Option<HistoryFrom> {
        let read = match tree.get("backfill")? {
            Tree::Str(text) => HistoryFrom::parse(text),
            Tree::Int(ms) => HistoryFrom::at(*ms),
            other => {
                self.shape("backfill", "a text or a number of milliseconds", Some(other));
                return None;
            }
        };
        match read {
            Ok(_) if !table => self.invalid("backfill", "backfill is for tables: nothing else has a history to read"),
            Ok(from) => return Some(from),
            Err(reason) => self.invalid("backfill", reason),
        }
        None
    }

    /// The former name, when there is one; none when it is wrong.
    fn renamed_from(&mut self, tree: &Tree, table: bool) -> Option<Option<String>> {
        let Some(given) = tree.get("renamed_from") else { return Some(None) };
        let Some(name) = given.as_str() else {
            self.shape("renamed_from", "a string", Some(given));
            return None;
        };
        if let Some(reason) = bad_descriptor_name(name) {
            self.invalid("renamed_from", reason);
            return None;
        }
        if !table {
            self.invalid("renamed_from", "renamed_from is for tables: nothing else has a state that another name can keep");
            return None;
        }
        Some(Some(name.to_owned()))
    }

    fn ops(&mut self, tree: &Tree, table: bool) -> Option<Steps> {
        let empty = Tree::List(Vec::new());
        let list = tree.get("ops").unwrap_or(&empty);
        let Some(items) = list.items() else {
            self.shape("ops", "an array", Some(list));
            return None;
        };
        let mut ops = Vec::new();
        let mut group = None;
        for (index, item) in items.iter().enumerate() {
            let place = format!("ops[{index}]");
            let path = join(&self.path, &place);
            if group.is_some() {
                self.problems.error(Code::InvalidExpression, path, "group_by must be the last step");
                return None;
            }
            match item.get("op").and_then(Tree::as_str) {
                None => self.shape(&format!("{place}.op"), "a string", item.get("op")),
                Some("group_by") if !table => {
                    self.problems.error(Code::InvalidExpression, path, "an event derivation has no group_by; use output_kind \"table\"");
                }
                Some("group_by") => group = self.group(item, path),
                Some(_) => {
                    if let Some(op) = ChainOp::decode(item, &path, self.problems) {
                        ops.push((path, op));
                    }
                }
            }
        }
        if table && group.is_none() {
            self.invalid("ops", "a table needs group_by as its last step");
            return None;
        }
        Some((ops, group))
    }

    fn group(&mut self, item: &Tree, path: String) -> Option<GroupSpec> {
        let at = std::mem::replace(&mut self.path, path.clone());
        let keys = self.texts(item, "keys");
        let features = match item.get("agg").and_then(Tree::members) {
            Some(features) => Some(features.to_vec()),
            None => {
                self.shape("agg", "an object", item.get("agg"));
                None
            }
        };
        item.only(&path, &["op", "keys", "agg"], self.problems);
        for (name, feature) in features.iter().flatten() {
            self.feature_members(feature, &join(&path, &join("agg", name)));
            if feature.get("backfill").is_some() {
                let at = join(&path, &join("agg", &join(name, "backfill")));
                let reason = "a feature alone cannot be filled from history in this build; backfill of a new table can";
                self.problems.error(Code::NotAvailable, at, reason);
            }
            if let Some(reason) = bad_inner_name(name) {
                self.invalid(&join("agg", name), format!("feature {name:?} {reason}"));
            }
        }
        if features.as_ref().is_some_and(|features| features.len() > FEATURES_MAX) {
            self.invalid("agg", format!("a table has at most {FEATURES_MAX} features"));
        }
        self.path = at;
        Some(GroupSpec { path, keys: keys?, features: features? })
    }

    /// A parameter beside `params` would be a window, or a condition, that is not there.
    fn feature_members(&mut self, feature: &Tree, path: &str) {
        let before = self.problems.errors.len();
        feature.only(path, FEATURE, self.problems);
        for problem in self.problems.errors.iter_mut().skip(before) {
            let meant = problem.hint.take().filter(|hint| hint.starts_with("did you mean"));
            problem.hint = Some(meant.unwrap_or_else(|| "parameters of an operator stand in `params`".to_owned()));
        }
    }

    fn primary_key(&mut self, tree: &Tree, table: bool, group: Option<&GroupSpec>) {
        match tree.get("table_primary_key") {
            None if table => self.invalid("table_primary_key", "output_kind \"table\" needs table_primary_key"),
            None => {}
            Some(key) => match (key.texts(), group) {
                (None, _) => self.shape("table_primary_key", "an array of strings", Some(key)),
                (Some(key), Some(group)) if key != group.keys => {
                    let reason = format!("table_primary_key is {key:?}, group_by.keys is {:?}, and the latter counts", group.keys);
                    self.problems.warning(Code::InvalidRegistration, join(&self.path, "table_primary_key"), reason);
                }
                _ => {}
            },
        }
    }
}

/// The unit that other words for it mean.
pub(crate) fn unit_meant(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => "ms",
        "us" | "\u{b5}s" | "\u{3bc}s" | "micro" | "micros" | "microsecond" | "microseconds" => "us",
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => "ns",
        "d" | "day" | "days" => "d",
        _ => return None,
    })
}

/// Type names, for messages.
const FIELD_TYPES: &[&str] = &["str", "f64", "i64", "bool", "bytes", "datetime", "json"];

/// Why this cannot name an event, a derivation or a table.
pub(crate) fn bad_descriptor_name(name: &str) -> Option<String> {
    let mut letters = name.chars();
    let starts = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !starts || !letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Some(format!("{name:?} is no name: a letter or _ first, then letters, digits and _"));
    }
    if name.len() > NAME_CHARS_MAX {
        return Some(format!("a name of {} characters is longer than {NAME_CHARS_MAX}", name.len()));
    }
    name.starts_with("_beava_").then(|| "names that start with _beava_ are reserved".to_owned())
}

/// Why this cannot name a field or a feature.
pub(crate) fn bad_inner_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("has an empty name".to_owned());
    }
    if name.chars().any(char::is_control) {
        return Some("has a control character in its name".to_owned());
    }
    let count = name.chars().count();
    (count > NAME_CHARS_MAX).then(|| format!("has a name of {count} characters; {NAME_CHARS_MAX} are the most"))
}
