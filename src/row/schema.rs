//! What an event declares: names and types of its fields, and where its time comes from.

use serde::{Deserialize, Serialize};

/// Number of an event; never reused, not even after the event was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId(pub u32);

/// Index of a field in its event's declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FieldIndex(pub u16);

/// Declared types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// UTF-8 text.
    Str,
    /// Double.
    F64,
    /// 64-bit signed integer.
    I64,
    /// Boolean.
    Bool,
    /// Bytes.
    Bytes,
    /// Milliseconds since the Unix epoch.
    Datetime,
    /// Any JSON value.
    Json,
}

impl FieldType {
    /// The name in register JSON and TOML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Datetime => "datetime",
            Self::Json => "json",
        }
    }

    /// The type of this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Str, Self::F64, Self::I64, Self::Bool, Self::Bytes, Self::Datetime, Self::Json]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    /// Whether a value cell holds (offset, length) into the heap.
    pub(crate) fn in_heap(self) -> bool {
        matches!(self, Self::Str | Self::Bytes | Self::Json)
    }
}

/// One declared field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name in rows, expressions and tables.
    pub name: Box<str>,
    /// Declared type.
    pub kind: FieldType,
    /// Whether it may be null or absent.
    pub optional: bool,
}

/// Where a row's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeSource {
    /// The clock when the row arrived here.
    Arrival,
    /// The Kafka record's timestamp; arrival for rows without one.
    Record,
    /// A field of type `datetime` or `i64`, in milliseconds.
    Field(FieldIndex),
}

/// An event's declaration at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSchema {
    /// Number.
    pub id: EventId,
    /// Version of the declaration, from 1.
    pub version: u32,
    /// Name.
    pub name: Box<str>,
    /// Fields in declared order; a later version only appends.
    pub fields: Vec<Field>,
    /// Where row time comes from.
    pub time: TimeSource,
    /// A row further ahead of its arrival than this is a bad row, microseconds.
    pub max_future_us: i64,
}

impl EventSchema {
    /// Index of the field of this name.
    pub fn field(&self, name: &str) -> Option<FieldIndex> {
        let index = self.fields.iter().position(|field| &*field.name == name)?;
        u16::try_from(index).ok().map(FieldIndex)
    }
}
