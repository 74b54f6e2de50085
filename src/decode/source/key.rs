//! A record's key as where fields come from: text, an integer, or a value of its own format with paths into it.
//!
//! A key in Avro or JSON is decoded as a value is, by a projection of its own and with its own schema ids,
//! which are of the same registry. A key that a registry's serializer framed is never taken as text: its
//! schema id would become part of every key.

use super::{Body, Format, Framing, KeyFormat, Outside, Plans, mismatch, set_bytes, unframe};
use crate::decode::error::{BadRow, DecodeError};
use crate::decode::json::{JsonDecoder, JsonRules};
use crate::decode::projection::{Projection, Taking};
use crate::row::{CellError, FieldIndex, FieldType, RowsBuilder};
use std::sync::Arc;
use streamgauge_api::{ApiError, Code, RawRecord, SchemaId};

/// The header that names a key's schema.
const SCHEMA_HEADER: &str = "__key_schema_id";

/// Decodes keys that are values.
#[derive(Debug)]
pub(super) struct KeyDecoder {
    pub(super) projection: Arc<Projection>,
    pub(super) body: Body,
    fields: Vec<FieldIndex>,
    framing: Framing,
    /// Schema ids that a key asked for and that did not come yet.
    asked: Vec<SchemaId>,
}

impl KeyDecoder {
    /// A decoder of what these fields take; none when they take nothing of a key that is a value.
    ///
    /// # Errors
    /// A path does not parse.
    pub(super) fn new(
        takings: Vec<Taking<'_>>,
        readings: &[FieldIndex],
        format: KeyFormat,
        framing: Framing,
    ) -> Result<Option<Self>, ApiError> {
        if takings.is_empty() {
            return Ok(None);
        }
        let fields = takings.iter().map(|taking| taking.field).collect();
        let projection = Arc::new(Projection::of_paths(takings)?.with_readings(readings.to_vec()));
        let body = match format {
            KeyFormat::Json => Body::Json(Box::new(JsonDecoder::new(Arc::clone(&projection), JsonRules::RECORD))),
            KeyFormat::Avro => Body::BySchema(Box::new(Plans::new(Format::Avro, None))),
            KeyFormat::Raw | KeyFormat::Text | KeyFormat::Integer => unreachable!("only values have paths"),
        };
        let framing = if framing == Framing::Apicurio8 { framing } else { Framing::Confluent };
        Ok(Some(Self { projection, body, fields, framing, asked: Vec::new() }))
    }

    /// Where a field comes from, as a config writes it.
    pub(super) fn place(&self, field: FieldIndex) -> Option<String> {
        let (_, paths) = self.projection.takings.iter().find(|(taken, _)| *taken == field)?;
        let whole = paths.iter().any(|path| **path == *Projection::WHOLE);
        Some(if whole { "key".to_owned() } else { format!("key:{}", paths.join(" or key:")) })
    }

    /// Whether a schema that came was asked for by a key.
    pub(super) fn asked_for(&mut self, id: SchemaId) -> bool {
        let asked = self.asked.contains(&id);
        self.asked.retain(|known| *known != id);
        asked
    }

    /// Whether the schema of this id has come.
    pub(super) fn has(&mut self, id: SchemaId) -> bool {
        match &mut self.body {
            Body::BySchema(plans) => plans.has(id),
            Body::Json(_) | Body::Debezium(_) | Body::Msgpack(_) | Body::Csv(_) | Body::Raw(_) => false,
        }
    }

    /// Sets the fields that come from the key.
    pub(super) fn fields(&mut self, record: &RawRecord<'_>, into: &mut RowsBuilder) -> Result<(), DecodeError> {
        let Some(key) = record.key else {
            self.fields.iter().for_each(|&field| into.null(field));
            return Ok(());
        };
        let done = match &mut self.body {
            // No JSON begins with a zero byte, so a frame is told from a bare value.
            Body::Json(json) => {
                let body = if let [0, _, _, _, _, framed @ ..] = key { framed } else { key };
                json.any(body, into).map_err(DecodeError::from)
            }
            Body::BySchema(plans) => super::schema_id(record.headers, SCHEMA_HEADER)
                .and_then(|named| match named {
                    Some((id, behind)) => Ok((id, Some(behind), key)),
                    None => unframe(self.framing, key, "key").map(|(id, body)| (id, None, body)),
                })
                .map_err(DecodeError::from)
                .and_then(|(id, behind, body)| plans.decode(id, behind, body, &self.projection, into).map(|_row| ())),
            Body::Debezium(_) | Body::Msgpack(_) | Body::Csv(_) | Body::Raw(_) => unreachable!("keys are Avro or JSON"),
        };
        match done {
            Err(DecodeError::NeedSchema(id)) => {
                if !self.asked.contains(&id) {
                    self.asked.push(id);
                }
                Err(DecodeError::NeedSchema(id))
            }
            Err(DecodeError::Bad(bad)) if bad.path.is_empty() => {
                Err(BadRow::new(bad.code, "", format!("in the record's key: {}", bad.reason)).into())
            }
            other => other,
        }
    }
}

/// A whole key into a field, where it is text or a number.
pub(super) fn set_whole(outside: &Outside, key: &[u8], format: KeyFormat, into: &mut RowsBuilder) -> Result<(), CellError> {
    let field = outside.field;
    match format {
        KeyFormat::Integer => match (<[u8; 8]>::try_from(key), <[u8; 4]>::try_from(key)) {
            (Ok(eight), _) => into.int(field, i64::from_be_bytes(eight)),
            (_, Ok(four)) => into.int(field, i64::from(i32::from_be_bytes(four))),
            _ => Err(mismatch(field, format!("the key has {} bytes, an integer has 4 or 8", key.len()))),
        },
        KeyFormat::Raw if outside.kind == FieldType::Bytes => into.bytes(field, key),
        KeyFormat::Raw | KeyFormat::Text => {
            if let [0, a, b, c, d, ..] = key {
                let id = u32::from_be_bytes([*a, *b, *c, *d]);
                // Integers of 8 bytes begin with a zero too, and are seen more often than frames of that length.
                let reason = if key.len() == 8 {
                    format!(
                        "the key has 8 bytes: set key_format = \"integer\" if it is an integer, \"avro\" or \"json\" if a schema registry framed it (schema id {id})"
                    )
                } else {
                    format!("the key is framed by a schema registry (schema id {id}): set key_format = \"avro\" or \"json\"")
                };
                return Err(CellError { field, code: Code::DecodeFraming, reason });
            }
            if format == KeyFormat::Text && std::str::from_utf8(key).is_err() {
                return Err(mismatch(field, "the key is no UTF-8 text".to_owned()));
            }
            set_bytes(field, outside.kind, key, into)
        }
        KeyFormat::Avro | KeyFormat::Json => unreachable!("a key that is a value has a decoder of its own"),
    }
}
