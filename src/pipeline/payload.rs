//! A register payload as a tree that keeps the order of members and shows duplicates.
//!
//! Order matters for fields of events; duplicates are refused with their path rather than silently resolved one way or the other.

use super::problem::{Problem, Problems};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use std::fmt;
use streamgauge_api::unknown_member;

/// Members of older clients that are refused under their own codes.
pub(super) const EVENT_TIME_KEYS: [&str; 2] = ["event_time_field", "tolerate_delay_ms"];

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer within i64.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Str(String),
    /// An array.
    List(Vec<Tree>),
    /// An object, members in the order given.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// Parses JSON text, nested at most 128 deep.
    ///
    /// # Errors
    /// When the text is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The member of this name; null counts as missing.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        let Self::Map(members) = self else { return None };
        members.iter().find(|(member, _)| member == name).map(|(_, value)| value).filter(|value| **value != Self::Null)
    }

    /// Text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The members, when it is an object.
    pub fn members(&self) -> Option<&[(String, Tree)]> {
        if let Self::Map(members) = self { Some(members) } else { None }
    }

    /// The items, when it is an array.
    pub fn items(&self) -> Option<&[Tree]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// Every item as text, when it is an array of texts.
    pub fn texts(&self) -> Option<Vec<&str>> {
        self.items()?.iter().map(Self::as_str).collect()
    }

    /// Refuses members other than `known`, each with the nearest name; `path` is where the object stands.
    pub(super) fn only(&self, path: &str, known: &[&str], problems: &mut Problems) {
        for (name, _) in self.members().unwrap_or_default() {
            // These have codes of their own, and stand wherever they are known by them.
            if !known.contains(&name.as_str()) && !EVENT_TIME_KEYS.contains(&name.as_str()) {
                let place = if path.is_empty() { "the payload" } else { path };
                let error = unknown_member("member", name, place, known);
                problems.errors.push(Problem::new(error.code, join(path, &error.path), error.reason).hint(error.hint));
            }
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::List(_) => "an array",
            Self::Map(_) => "an object",
        }
    }

    /// As a `serde_json` value: members sorted, of duplicates the last.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(truth) => Json::Bool(*truth),
            Self::Int(number) => Json::from(*number),
            Self::Float(number) => Json::from(*number),
            Self::Str(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(members) => members.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
        }
    }

    /// Calls `found` with the path and name of every member that stands twice in its object. Depth is bounded by the parser.
    pub(super) fn duplicates(&self, path: &str, found: &mut dyn FnMut(&str, &str)) {
        match self {
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.duplicates(&format!("{path}[{index}]"), found);
                }
            }
            Self::Map(members) => {
                let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                names.sort_unstable();
                for pair in names.windows(2) {
                    if let [left, right] = pair
                        && left == right
                    {
                        found(path, left);
                    }
                }
                for (name, value) in members {
                    value.duplicates(&join(path, name), found);
                }
            }
            _ => {}
        }
    }
}

/// A path and one more member.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl From<&Json> for Tree {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Self::Int(number),
                (None, Some(number)) => Self::Float(number),
                (None, None) => Self::Null,
            },
            Json::String(text) => Self::Str(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Object(members) => Self::Map(members.iter().map(|(name, value)| (name.clone(), Self::from(value))).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "no bound of the language reaches 2^63, so the nearest double fails the same checks"
        )]
        Ok(i64::try_from(number).map_or(Tree::Float(number as f64), Tree::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Str(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Map(members))
    }
}
