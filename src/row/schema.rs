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
    /// A field of type `datetime` or `i64`. Its numbers are milliseconds; a record's that can hardly be are refused.
    Field(FieldIndex),
    /// The same, whose numbers in records are of this unit. Pushes stay in milliseconds.
    FieldIn(FieldIndex, TimeUnit),
}

impl TimeSource {
    /// The field that it is, when it is one.
    pub fn field(self) -> Option<FieldIndex> {
        match self {
            Self::Arrival | Self::Record => None,
            Self::Field(field) | Self::FieldIn(field, _) => Some(field),
        }
    }
}

/// What a number that is a time counts since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// Days.
    Days,
}

impl TimeUnit {
    /// Every unit as it is written.
    pub const NAMES: [&'static str; 5] = ["s", "ms", "us", "ns", "d"];

    const ALL: [Self; 5] = [Self::Seconds, Self::Millis, Self::Micros, Self::Nanos, Self::Days];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::Nanos => "ns",
            Self::Days => "d",
        }
    }

    /// The unit of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == text)
    }

    /// A time in milliseconds, cut towards the past; the ends of i64 where it does not fit.
    #[inline]
    pub fn to_millis(self, number: i64) -> i64 {
        match self {
            Self::Seconds => number.saturating_mul(1_000),
            Self::Millis => number,
            Self::Micros => number.div_euclid(1_000),
            Self::Nanos => number.div_euclid(1_000_000),
            Self::Days => number.saturating_mul(86_400_000),
        }
    }

    /// A time in microseconds, cut towards the past; the ends of i64 where it does not fit.
    #[inline]
    pub fn to_us(self, number: i64) -> i64 {
        match self {
            Self::Seconds => number.saturating_mul(1_000_000),
            Self::Millis => number.saturating_mul(1_000),
            Self::Micros => number,
            Self::Nanos => number.div_euclid(1_000),
            Self::Days => number.saturating_mul(86_400_000_000),
        }
    }

    /// The same of a number with a fraction.
    #[expect(clippy::cast_possible_truncation, reason = "a double beyond i64 is cut to its ends")]
    pub fn to_us_from(self, number: f64) -> i64 {
        let us = match self {
            Self::Seconds => number * 1e6,
            Self::Millis => number * 1e3,
            Self::Micros => number,
            Self::Nanos => number / 1e3,
            Self::Days => number * 86_400e6,
        };
        // Seconds with six places are not exact in binary: 1700000000.123457 is read as written.
        us.round() as i64
    }
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
    /// What a key has is dropped when no row of it came for longer than this, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_after_us: Option<i64>,
    /// Each id is taken once within a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Dedupe>,
}

/// What rows that came before are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedupe {
    /// The field that holds a row's id.
    pub field: FieldIndex,
    /// How long an id is remembered behind the first row with it, microseconds.
    pub window_us: i64,
}

impl EventSchema {
    /// Index of the field of this name.
    pub fn field(&self, name: &str) -> Option<FieldIndex> {
        let index = self.fields.iter().position(|field| &*field.name == name)?;
        u16::try_from(index).ok().map(FieldIndex)
    }
}
