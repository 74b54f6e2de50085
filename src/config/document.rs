//! A TOML file as a tree in which everything knows its place, so that every problem can point at it.
//!
//! The parser recovers from syntax errors; entries keep the order of the file.

use crate::pipeline::Tree;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands, in bytes of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What an item holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Str(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// A date or time, as written.
    Time(String),
    List(Vec<Item>),
    Table(Section),
}

/// A table: entries in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Section {
    pub(super) entries: Vec<Entry>,
}

/// A key, where it stands, and its item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) item: Item,
}

/// Something that is no TOML, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) span: Range<usize>,
}

impl Section {
    /// Parses a file; what could be read is returned beside the errors.
    pub(super) fn parse(text: &str) -> (Self, Vec<SyntaxError>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let errors = errors
            .into_iter()
            .map(|error| SyntaxError { message: error.message().to_owned(), span: error.span().unwrap_or(text.len()..text.len()) })
            .collect();
        (Self::of(table.get_ref()), errors)
    }

    fn of(table: &DeTable<'_>) -> Self {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| Entry { key: key.get_ref().to_string(), key_span: key.span(), item: Item::of(value) })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Self { entries }
    }

    /// The entry of this key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The item of this key.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.entry(key).map(|entry| &entry.item)
    }
}

impl Item {
    fn of(value: &Spanned<DeValue<'_>>) -> Self {
        let inner = match value.get_ref() {
            DeValue::String(text) => Value::Str(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Int(number),
                // Beyond 64 bits: no key takes that, and a double is refused by the same checks.
                Err(_) => Value::Float(f64::INFINITY),
            },
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(time) => Value::Time(time.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(Self::of).collect()),
            DeValue::Table(table) => Value::Table(Section::of(table)),
        };
        Self { span: value.span(), value: inner }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = &self.value { Some(text) } else { None }
    }

    pub(super) fn as_section(&self) -> Option<&Section> {
        if let Value::Table(section) = &self.value { Some(section) } else { None }
    }

    pub(super) fn as_list(&self) -> Option<&[Item]> {
        if let Value::List(items) = &self.value { Some(items) } else { None }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Str(_) => "a string",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Bool(_) => "a boolean",
            Value::Time(_) => "a date or time",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// As a member of a register payload.
    pub(super) fn to_tree(&self) -> Tree {
        match &self.value {
            Value::Str(text) | Value::Time(text) => Tree::Str(text.clone()),
            Value::Int(number) => Tree::Int(*number),
            Value::Float(number) => Tree::Float(*number),
            Value::Bool(truth) => Tree::Bool(*truth),
            Value::List(items) => Tree::List(items.iter().map(Self::to_tree).collect()),
            Value::Table(section) => Tree::Map(section.entries.iter().map(|entry| (entry.key.clone(), entry.item.to_tree())).collect()),
        }
    }
}
