//! Debezium's change events: which image of a row a record has, and what became of the row.
//!
//! ```text
//! { "before": {..} | null, "after": {..} | null, "op": "c" | "r" | "u" | "d" | "t" | "m", "source": {..}, "ts_ms": .. }
//! ```
//!
//! Alone, or as `payload` beside a `schema`, or flattened to the row itself (with `__deleted` where deletes are rewritten).
//! A path is one of the row: of `after`, and of `before` where the row was deleted. `op`, `ts_ms`, and what begins with
//! `before.`, `after.`, `source.` or `transaction.` are the envelope's. Heartbeats and a transaction's begin and end, which
//! have no row, are nothing. A body is read twice: for `op` alone, which costs little, and for the row.

use crate::decode::avro::{AvroPlan, AvroScratch};
use crate::decode::error::BadRow;
use crate::decode::json::{JsonDecoder, JsonRules};
use crate::decode::projection::{Projection, Taking};
use crate::row::{EventId, EventSchema, Field, FieldIndex, FieldType, RowsBuilder, Strictness, TimeSource};
use std::sync::Arc;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code};

/// What a row of a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DebeziumMode {
    /// Each change is a row of its own, a delete too.
    #[default]
    Changes,
    /// The newest state of a row: a delete forgets its key.
    Latest,
}

/// What a body became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    Row,
    Delete,
    Nothing,
}

/// Where in a record the row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Image {
    After,
    Before,
    /// The record is the row.
    Flat,
}

/// What the envelope's own paths begin with.
const ENVELOPE: [&str; 4] = ["before.", "after.", "source.", "transaction."];

/// A path of the row, or of the envelope, as one of the record.
fn path_of(path: &str, wrap: &str, image: Image) -> String {
    let is_envelope = matches!(path, "op" | "ts_ms" | "ts_us" | "ts_ns") || ENVELOPE.iter().any(|start| path.starts_with(start));
    match image {
        // Flattened, the envelope's members stand beside the row's under names of their own, if at all.
        Image::Flat if is_envelope => format!("{wrap}__{}", path.replace('.', "_")),
        Image::Flat => format!("{wrap}{path}"),
        _ if is_envelope => format!("{wrap}{path}"),
        Image::After => format!("{wrap}after.{path}"),
        Image::Before => format!("{wrap}before.{path}"),
    }
}

/// The projection of an image: where each field stands in it.
fn project(declared: &Projection, wrap: &str, image: Image) -> Result<Projection, ApiError> {
    let moved: Vec<(FieldIndex, Vec<Box<str>>)> = declared
        .takings
        .iter()
        .map(|(field, paths)| (*field, paths.iter().map(|path| path_of(path, wrap, image).into()).collect()))
        .collect();
    let takings = moved.iter().filter_map(|(field, paths)| {
        let (path, aliases) = paths.split_first()?;
        Some(Taking { field: *field, path, aliases })
    });
    Ok(Projection::of_paths(takings)?.with_readings(declared.readings.clone()))
}

/// What says which image a record has.
const OP: FieldIndex = FieldIndex(0);
const WRAPPED_OP: FieldIndex = FieldIndex(1);
const DELETED: FieldIndex = FieldIndex(2);
const WRAPPED_DELETED: FieldIndex = FieldIndex(3);

fn hidden_event() -> Arc<EventSchema> {
    let names = ["op", "payload.op", "__deleted", "payload.__deleted"];
    let fields = names.iter().map(|name| Field { name: (*name).into(), kind: FieldType::Json, optional: true }).collect();
    Arc::new(EventSchema {
        id: EventId(0),
        version: 1,
        name: "change".into(),
        fields,
        time: TimeSource::Arrival,
        max_future_us: 0,
        cold_after_us: None,
        dedupe: None,
    })
}

fn hidden_projection() -> Result<Projection, ApiError> {
    let paths = [(OP, "op"), (WRAPPED_OP, "payload.op"), (DELETED, "__deleted"), (WRAPPED_DELETED, "payload.__deleted")];
    Projection::of_paths(paths.map(|(field, path)| Taking { field, path, aliases: &[] }))
}

/// What an `op` says of the row.
fn told(op: &str, mode: DebeziumMode) -> Result<Option<(Image, Became)>, Box<BadRow>> {
    Ok(Some(match (op, mode) {
        ("c" | "r" | "u", _) => (Image::After, Became::Row),
        ("d", DebeziumMode::Changes) => (Image::Before, Became::Row),
        ("d", DebeziumMode::Latest) => (Image::Before, Became::Delete),
        // A message of the log, and with changes a truncate, have no row.
        ("m", _) | ("t", DebeziumMode::Changes) => return Ok(None),
        ("t", DebeziumMode::Latest) => {
            let reason = "a truncate empties the table, of which the newest rows are kept here by key".to_owned();
            return Err(BadRow::new(Code::TombstoneUnexpected, "", reason));
        }
        _ => return Err(BadRow::new(Code::DecodeMalformed, "", format!("op {op:?} is none of c, r, u, d, t, m"))),
    }))
}

/// A row that was flattened: deleted where it says so.
fn flattened(deleted: bool, mode: DebeziumMode) -> Became {
    if deleted && mode == DebeziumMode::Latest { Became::Delete } else { Became::Row }
}

/// Reads change events in JSON.
#[derive(Debug)]
pub(super) struct DebeziumJson {
    mode: DebeziumMode,
    hidden: RowsBuilder,
    op: JsonDecoder,
    /// Of a bare and of a wrapped record, each after, before, flat.
    images: [[JsonDecoder; 3]; 2],
}

impl DebeziumJson {
    /// # Errors
    /// A path does not parse.
    pub(super) fn new(mode: DebeziumMode, declared: &Projection) -> Result<Self, ApiError> {
        let of = |wrap: &str, image| -> Result<JsonDecoder, ApiError> {
            Ok(JsonDecoder::new(Arc::new(project(declared, wrap, image)?), JsonRules::RECORD))
        };
        let all = |wrap: &str| -> Result<[JsonDecoder; 3], ApiError> {
            Ok([of(wrap, Image::After)?, of(wrap, Image::Before)?, of(wrap, Image::Flat)?])
        };
        Ok(Self {
            mode,
            hidden: RowsBuilder::new(hidden_event(), Strictness::Record),
            op: JsonDecoder::new(Arc::new(hidden_projection()?), JsonRules::RECORD),
            images: [all("")?, all("payload.")?],
        })
    }

    /// Sets the fields of the row that was begun in `into`. On an error the caller rolls the row back.
    pub(super) fn fields(&mut self, body: &[u8], into: &mut RowsBuilder) -> Result<Became, Box<BadRow>> {
        self.hidden.begin();
        let read = self.op.fields(body, &mut self.hidden);
        let word = |field| self.hidden.text_of(field).map(str::to_owned);
        let (op, wrapped_op) = (word(OP), word(WRAPPED_OP));
        let (deleted, wrapped_deleted) = (word(DELETED), word(WRAPPED_DELETED));
        self.hidden.rollback();
        // What is wrong with the text is told by who reads the row, unless it has a `payload` that is no object: that is a column.
        let wrapped = read.is_ok() && (wrapped_op.is_some() || wrapped_deleted.is_some() || op.is_none() && has_payload(body));
        let (image, became) = match (if wrapped { wrapped_op } else { op }, read) {
            (Some(op), Ok(())) => match told(&op, self.mode)? {
                Some(told) => told,
                None => return Ok(Became::Nothing),
            },
            _ if has_no_row(body) => return Ok(Became::Nothing),
            _ => {
                let deleted = if wrapped { wrapped_deleted } else { deleted };
                (Image::Flat, flattened(deleted.as_deref() == Some("true"), self.mode))
            }
        };
        self.images[usize::from(wrapped)][image as usize].fields(body, into)?;
        Ok(became)
    }
}

/// Whether a record without an `op` is a `schema` with its `payload`.
fn has_payload(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        schema: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        payload: Option<&'a serde_json::value::RawValue>,
    }
    let read = serde_json::from_slice::<Wrapped<'_>>(body);
    read.is_ok_and(|read| read.schema.is_some() && read.payload.is_some_and(|payload| payload.get().starts_with('{')))
}

/// Longest record that is looked at for whether it is a heartbeat or a transaction's begin or end.
const NO_ROW_BYTES_MAX: usize = 16 << 10;

/// Heartbeats have `ts_ms` alone; a transaction's begin and end have `status` and `id`.
fn has_no_row(body: &[u8]) -> bool {
    if body.len() > NO_ROW_BYTES_MAX {
        return false;
    }
    let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    if record.get("schema").is_some()
        && let Some(payload) = record.get_mut("payload")
    {
        record = payload.take();
    }
    let Some(members) = record.as_object() else { return false };
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    names == ["ts_ms"] || is_boundary(&names) && matches!(members["status"].as_str(), Some("BEGIN" | "END"))
}

/// The names that a transaction's begin and end have.
fn is_boundary(names: &[&str]) -> bool {
    ["status", "id", "event_count"].iter().all(|wanted| names.contains(wanted))
}

/// The plans of one writer schema of change events.
#[derive(Debug)]
pub(super) struct ChangePlans {
    /// None where the record is the row, or has none.
    op: Option<AvroPlan>,
    images: Option<[AvroPlan; 2]>,
    flat: Option<(AvroPlan, Option<AvroPlan>)>,
}

/// What Avro change events are read by, beside their plans.
#[derive(Debug)]
pub(super) struct DebeziumAvro {
    mode: DebeziumMode,
    hidden: RowsBuilder,
    after: Projection,
    before: Projection,
    flat: Projection,
}

impl DebeziumAvro {
    /// # Errors
    /// A path does not parse.
    pub(super) fn new(mode: DebeziumMode, declared: &Projection) -> Result<Self, ApiError> {
        Ok(Self {
            mode,
            hidden: RowsBuilder::new(hidden_event(), Strictness::Record),
            after: project(declared, "", Image::After)?,
            before: project(declared, "", Image::Before)?,
            flat: project(declared, "", Image::Flat)?,
        })
    }

    /// Compiles the plans of a schema.
    ///
    /// # Errors
    /// `schema_unusable`, naming the field.
    pub(super) fn compile(&self, schema: &FetchedSchema, event: &EventSchema) -> Result<ChangePlans, ApiError> {
        let names = names_of(schema);
        let has = |name: &str| names.iter().any(|known| known == name);
        let hidden = self.hidden.schema();
        let of_hidden = |field, path| AvroPlan::compile(schema, hidden, &Projection::of_paths([Taking { field, path, aliases: &[] }])?);
        if has("op") && (has("after") || has("before")) {
            let images = [AvroPlan::compile(schema, event, &self.after)?, AvroPlan::compile(schema, event, &self.before)?];
            return Ok(ChangePlans { op: Some(of_hidden(OP, "op")?), images: Some(images), flat: None });
        }
        if names == ["ts_ms"] || is_boundary(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
            return Ok(ChangePlans { op: None, images: None, flat: None });
        }
        let deleted = has("__deleted").then(|| of_hidden(DELETED, "__deleted")).transpose()?;
        Ok(ChangePlans { op: None, images: None, flat: Some((AvroPlan::compile(schema, event, &self.flat)?, deleted)) })
    }

    /// Sets the fields of the row that was begun in `into`. On an error the caller rolls the row back.
    pub(super) fn fields(
        &mut self,
        plans: &ChangePlans,
        body: &[u8],
        scratch: &mut AvroScratch,
        into: &mut RowsBuilder,
    ) -> Result<Became, Box<BadRow>> {
        let mut word = |plan: &AvroPlan, field| -> Result<Option<String>, Box<BadRow>> {
            self.hidden.begin();
            let read = plan.fields(body, scratch, &mut self.hidden);
            let word = self.hidden.text_of(field).map(str::to_owned);
            self.hidden.rollback();
            read.map(|()| word)
        };
        if let (Some(op), Some(images)) = (&plans.op, &plans.images) {
            let Some(op) = word(op, OP)? else {
                return Err(BadRow::new(Code::DecodeMalformed, "", "the change has no op".to_owned()));
            };
            let Some((image, became)) = told(&op, self.mode)? else { return Ok(Became::Nothing) };
            images[usize::from(image == Image::Before)].fields(body, scratch, into)?;
            return Ok(became);
        }
        let Some((flat, deleted)) = &plans.flat else { return Ok(Became::Nothing) };
        let deleted = match deleted {
            Some(plan) => word(plan, DELETED)?.as_deref() == Some("true"),
            None => false,
        };
        flat.fields(body, scratch, into)?;
        Ok(flattened(deleted, self.mode))
    }
}

/// The names of a record schema's fields.
fn names_of(schema: &FetchedSchema) -> Vec<String> {
    let Ok(schema) = serde_json::from_str::<serde_json::Value>(&schema.text) else { return Vec::new() };
    let fields = schema.get("fields").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    fields.iter().filter_map(|field| field.get("name")?.as_str().map(str::to_owned)).collect()
}
