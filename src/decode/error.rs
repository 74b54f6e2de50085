//! Why a record is no row, by what the caller does next.
//!
//! A [`BadRow`] is bad by itself, whatever the world does: it goes where `on_bad_record` says, or back to the client that pushed it. The other two variants of
//! [`DecodeError`] are not the record's fault: the source waits for a schema, or stops. Made on connector threads, boxed, so that the good way pays one word.

use super::projection::Misfit;
use crate::row::{CellError, EventSchema, FieldIndex, Strictness};
use streamgauge_api::{ApiError, Code, SchemaId};

/// A refused record or push.
#[derive(Debug, Clone, PartialEq)]
pub struct BadRow {
    /// Stable code.
    pub code: Code,
    /// The field or record path at fault; empty when it is the whole record.
    pub path: String,
    /// What is wrong, with names and numbers.
    pub reason: String,
}

impl BadRow {
    #[cold]
    pub(crate) fn new(code: Code, path: impl Into<String>, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, path: path.into(), reason: reason.into() })
    }

    /// A refused cell, named by its event field.
    #[cold]
    pub(crate) fn cell(error: CellError, schema: &EventSchema) -> Box<Self> {
        let path = schema.fields.get(usize::from(error.field.0)).map(|field| field.name.to_string()).unwrap_or_default();
        Box::new(Self { code: error.code, path, reason: error.reason })
    }

    /// A value that the field's path cannot pass through.
    #[cold]
    pub(crate) fn misfit(code: Code, field: FieldIndex, misfit: Misfit, schema: &EventSchema) -> Box<Self> {
        let Misfit { got, wanted } = misfit;
        let name = schema.fields.get(usize::from(field.0)).map(|field| &*field.name).unwrap_or_default();
        let reason = format!("field \"{name}\" of {}: the record has {got} where the path wants {wanted}", schema.name);
        Self::new(code, name, reason)
    }
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.code, self.reason)
    }
}

impl std::error::Error for BadRow {}

impl From<ApiError> for Box<BadRow> {
    #[cold]
    fn from(error: ApiError) -> Self {
        BadRow::new(error.code, error.path, error.reason)
    }
}

impl From<BadRow> for ApiError {
    fn from(bad: BadRow) -> Self {
        Self::new(bad.code, bad.reason).at(bad.path)
    }
}

impl From<Box<BadRow>> for ApiError {
    fn from(bad: Box<BadRow>) -> Self {
        Self::from(*bad)
    }
}

/// Why a record gave no row.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeError {
    /// The record is bad: reject it, skip it or stop, as `on_bad_record` says.
    Bad(Box<BadRow>),
    /// Its writer schema is not known yet: fetch this id, then offer the record again.
    NeedSchema(SchemaId),
    /// Its writer schema cannot serve the event. The source's first such schema stops the partition until event or schema changes; once another
    /// one was usable, the record is a bad one.
    SchemaUnusable(Box<ApiError>),
}

impl From<Box<BadRow>> for DecodeError {
    fn from(bad: Box<BadRow>) -> Self {
        Self::Bad(bad)
    }
}

/// The codes that a decoder of one strictness answers with: pushes and records name the same fault differently.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes {
    /// The bytes are not of the format.
    pub(crate) malformed: Code,
    /// Bytes are left behind the value.
    pub(crate) trailing: Code,
    /// A value has the wrong shape for its field.
    pub(crate) mismatch: Code,
    /// Nested too deep, or a member stands twice.
    pub(crate) shape: Code,
    /// A number that no double holds.
    pub(crate) range: Code,
}

impl Codes {
    pub(crate) fn of_json(strictness: Strictness) -> Self {
        match strictness {
            Strictness::Push => Self {
                malformed: Code::InvalidJsonBody,
                trailing: Code::InvalidJsonBody,
                mismatch: Code::InvalidEvent,
                shape: Code::InvalidEvent,
                range: Code::InvalidJsonBody,
            },
            Strictness::Record => Self {
                malformed: Code::DecodeMalformed,
                trailing: Code::DecodeTrailingBytes,
                mismatch: Code::DecodeTypeMismatch,
                shape: Code::DecodeMalformed,
                range: Code::DecodeOutOfRange,
            },
        }
    }

    pub(crate) fn of_msgpack(strictness: Strictness) -> Self {
        match strictness {
            Strictness::Push => {
                Self { malformed: Code::InvalidEvent, trailing: Code::InvalidEvent, range: Code::InvalidEvent, ..Self::of_json(strictness) }
            }
            Strictness::Record => Self::of_json(strictness),
        }
    }
}
