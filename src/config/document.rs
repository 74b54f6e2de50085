//! TOML text as a tree of values that know where they stand.
//!
//! Members keep the order of the file, which is the order of an event's fields. Every value and every key has its span in bytes of the text, so that each
//! problem can point at what the user wrote. Nothing here knows a key by name.

use std::ops::Range;
use toml::de::{DeArray, DeTable, DeValue};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    /// An integer beyond i64, as written.
    Huge(String),
    Float(f64),
    Flag(bool),
    /// A date or time, as written.
    Time(String),
    List(Vec<Node>),
    Table(Vec<Member>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// Text that is no TOML, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) span: Range<usize>,
}

/// Parses a file; with errors, the tree holds what could be read all the same.
pub(super) fn parse(text: &str) -> (Node, Vec<SyntaxError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors
        .into_iter()
        .map(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            SyntaxError { message, span: error.span().unwrap_or(0..0) }
        })
        .collect();
    let span = table.span();
    (Node { span, value: Value::Table(members(table.get_ref())) }, errors)
}

fn members(table: &DeTable<'_>) -> Vec<Member> {
    let mut members: Vec<Member> = table
        .iter()
        .map(|(key, value)| Member {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: Node { span: value.span(), value: read(value.get_ref()) },
        })
        .collect();
    members.sort_by_key(|member| member.key_span.start);
    members
}

fn items(array: &DeArray<'_>) -> Vec<Node> {
    array.iter().map(|item| Node { span: item.span(), value: read(item.get_ref()) }).collect()
}

fn read(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Huge(number.to_string()),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(array) => Value::List(items(array)),
        DeValue::Table(table) => Value::Table(members(table)),
    }
}

impl Node {
    /// The member of this key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.member(key).map(|member| &member.node)
    }

    /// The member of this key with the key's own place.
    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        self.members()?.iter().find(|member| member.key == key)
    }

    /// The value at a dotted path.
    pub(super) fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// Members, when it is a table.
    pub(super) fn members(&self) -> Option<&[Member]> {
        if let Value::Table(members) = &self.value { Some(members) } else { None }
    }

    /// Items, when it is an array.
    pub(super) fn items(&self) -> Option<&[Node]> {
        if let Value::List(items) = &self.value { Some(items) } else { None }
    }

    /// Text, when it is text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) | Value::Huge(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Flag(_) => "a boolean",
            Value::Time(_) => "a date or time",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The bytes of the file that show a part of a string value; the whole value when escapes make that a guess.
    pub(super) fn part(&self, source: &str, part: &Range<usize>) -> Range<usize> {
        let (Some(text), Some(written)) = (self.text(), source.get(self.span.clone())) else { return self.span.clone() };
        for quote in ["\"\"\"\n", "'''\n", "\"\"\"", "'''", "\"", "'"] {
            let inner = written.strip_prefix(quote);
            if inner.is_some_and(|inner| inner.starts_with(text)) {
                let start = self.span.start + quote.len();
                return start + part.start.min(text.len())..start + part.end.min(text.len());
            }
        }
        self.span.clone()
    }
}

/// Line and column of a byte, both from 1; columns count characters.
pub(super) fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let mut end = byte.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}
