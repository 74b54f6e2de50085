//! Rows of a frame as a subscriber wants them: which, which fields of them, and as JSON.
//!
//! ```text
//! {"lsn":[first,last],"n":2,"rows":{"payments":{"schema":3,"rows":[{"lsn":7,"card":"4711","amount":3.5},..]}}}
//! ```
//! A field that a row did not name is left out, as in the push that brought it. An event with a field `lsn` of its own has
//! the row's LSN under `_lsn`; a row that deletes its key says `"_delete":true`. A frame whose rows take more than
//! [`PART_BYTES`] is told in parts (`"part":[1,3]`), of which only the last one ends the transaction.

use crate::operators::value_of;
use crate::pipeline::{Column, Derived, Expression, ExpressionError, Program, Registry, Resolved, RowEnv};
use crate::row::{Cell, EventId, EventSchema, FieldIndex, Rows};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use streamgauge_api::subscribe::SubscribeRequest;
use streamgauge_api::value::{write_json, write_str};
use streamgauge_api::{ApiError, Code, Value, did_you_mean, nearest};

/// About how many bytes of rows one message has.
const PART_BYTES: usize = 1 << 20;
/// A row as JSON takes about so many times the bytes of its words.
const JSON_TIMES: usize = 2;

/// An event as it is looked at.
struct View {
    schema: Arc<EventSchema>,
    filter: Option<Program>,
    /// Fields that are told, with their names as JSON.
    fields: Vec<(FieldIndex, Box<str>)>,
    /// Name of the row's LSN.
    lsn_name: String,
    /// Name under which a row says that it deletes its key.
    delete_name: String,
}

/// What a subscription looks at, as of a place in the log.
pub(super) struct Views {
    request: SubscribeRequest,
    views: Vec<View>,
    /// Events that have had a view: one that has none any more ends the subscription.
    seen: BTreeSet<String>,
    changed: bool,
}

impl Views {
    /// Whether what is asked for can be answered by these declarations.
    ///
    /// # Errors
    /// What is not there, or not an expression.
    pub(super) fn compile(request: &SubscribeRequest, registry: &Registry) -> Result<(), ApiError> {
        if request.events.iter().any(|name| name == "*") {
            let reason = "a subscription names its events: there is none to all of them";
            return Err(ApiError::new(Code::SubscribeAllExcludesEvents, reason));
        }
        let mut unknown: Vec<&String> = request.fields.iter().flatten().collect();
        for name in &request.events {
            let event = registry.known_event(name)?;
            View::of(&event.schema, request)?;
            unknown.retain(|field| event.schema.field(field).is_none());
        }
        if let Some(field) = unknown.first() {
            let names = request.events.iter().filter_map(|name| registry.event(name)).flat_map(|event| &event.schema.fields);
            let error = ApiError::new(Code::InvalidRequest, format!("no event of the subscription has a field \"{field}\"")).at("fields");
            return Err(match nearest(field, names.map(|field| &field.name)) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            });
        }
        Ok(())
    }

    /// Those of the events that are declared there; others join when they are.
    pub(super) fn of(request: &SubscribeRequest, registry: &Registry) -> Self {
        let events = request.events.iter().filter_map(|name| registry.event(name));
        let views: Vec<View> = events.filter_map(|event| View::of(&event.schema, request).ok()).collect();
        let seen = views.iter().map(|view| view.schema.name.to_string()).collect();
        Self { request: request.clone(), views, seen, changed: false }
    }

    /// Takes other declarations over.
    ///
    /// # Errors
    /// `subscription_invalidated` when the filter means nothing any more.
    pub(super) fn follow(&mut self, registry: &Registry) -> Result<(), ApiError> {
        let (before, invalid) = (self.versions(), |reason| ApiError::new(Code::SubscriptionInvalidated, reason));
        self.views.clear();
        for name in &self.request.events {
            let was_seen = self.seen.contains(name);
            match registry.event(name).map(|event| View::of(&event.schema, &self.request)) {
                Some(Ok(view)) => {
                    self.seen.insert(name.clone());
                    self.views.push(view);
                }
                None if was_seen => return Err(invalid(format!("event {name} is declared no more"))),
                Some(Err(error)) if was_seen => {
                    let reason = &error.reason;
                    return Err(invalid(format!("the filter does not fit event {name} as it is declared from here on: {reason}")));
                }
                // Declared later, or in a way that the filter means nothing to, as where the subscription began.
                None | Some(Err(_)) => {}
            }
        }
        self.changed |= self.versions() != before;
        Ok(())
    }

    /// Versions by event.
    pub(super) fn versions(&self) -> Json {
        self.views
            .iter()
            .map(|view| (view.schema.name.to_string(), json!({"schema": view.schema.version})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Says once that versions have changed.
    pub(super) fn take_change(&mut self) -> Option<String> {
        std::mem::take(&mut self.changed).then(|| json!({"events": self.versions()}).to_string())
    }

    fn view(&self, event: EventId) -> Option<&View> {
        self.views.iter().find(|view| view.schema.id == event)
    }

    /// The rows of a frame that the subscriber sees; none when it sees none.
    pub(super) fn cut(&self, batches: Vec<Rows>, first_lsn: u64, from_lsn: u64) -> Option<Cut> {
        let (mut chosen, mut lsn, derived) = (Vec::new(), first_lsn, Derived::default());
        for (number, rows) in batches.iter().enumerate() {
            let view = self.view(rows.event());
            for row in 0..rows.len() {
                let sees = |view: &View| view.sees(rows, row, &derived);
                if lsn >= from_lsn && view.is_some_and(sees) {
                    chosen.push((number, row, lsn));
                }
                lsn += 1;
            }
        }
        // What a row takes is estimated by its batch, so that small rows beside large ones do not make large parts.
        let bytes_of = |rows: &Rows| rows.words().len() * 8 * JSON_TIMES / rows.len().max(1);
        let sizes: Vec<usize> = batches.iter().map(bytes_of).collect();
        let (mut ends, mut bytes) = (Vec::new(), 0);
        for (at, (batch, ..)) in chosen.iter().enumerate() {
            bytes += sizes[*batch];
            if bytes >= PART_BYTES || at + 1 == chosen.len() {
                ends.push(at + 1);
                bytes = 0;
            }
        }
        let lsns = (first_lsn, lsn - 1);
        (!chosen.is_empty()).then_some(Cut { batches, chosen, ends, part: 0, lsns })
    }
}

impl View {
    fn of(schema: &Arc<EventSchema>, request: &SubscribeRequest) -> Result<Self, ApiError> {
        let filter = request.filter.as_ref().map(|text| program(text, schema)).transpose()?;
        let wanted = |name: &str| request.fields.as_ref().is_none_or(|fields| fields.iter().any(|field| field == name));
        let named = (0u16..).zip(&schema.fields).filter(|(_, field)| wanted(&field.name));
        let fields = named.map(|(index, field)| {
            let mut name = Vec::new();
            write_str(&mut name, &field.name);
            (FieldIndex(index), String::from_utf8_lossy(&name).into())
        });
        let (lsn_name, delete_name) = (free_name(schema, "lsn"), free_name(schema, "_delete"));
        Ok(Self { schema: Arc::clone(schema), filter, fields: fields.collect(), lsn_name, delete_name })
    }

    fn sees(&self, rows: &Rows, row: usize, derived: &Derived) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.test(&RowEnv { rows, row, schema: &self.schema, derived }))
    }

    fn write(&self, out: &mut Vec<u8>, rows: &Rows, row: usize, lsn: u64) {
        out.extend_from_slice(format!("{{\"{}\":{lsn}", self.lsn_name).as_bytes());
        if rows.is_delete(row) {
            out.extend_from_slice(format!(",\"{}\":true", self.delete_name).as_bytes());
        }
        for (FieldIndex(index), name) in &self.fields {
            let Some(field) = self.schema.fields.get(usize::from(*index)) else { continue };
            let value = match rows.cell(usize::from(*index), field.kind, row) {
                Cell::Absent => continue,
                cell => told(cell),
            };
            out.push(b',');
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            write_json(out, &value);
        }
        out.push(b'}');
    }
}

/// A name that no field of the event has.
fn free_name(schema: &EventSchema, name: &str) -> String {
    let mut name = name.to_owned();
    while schema.field(&name).is_some() {
        name.insert(0, '_');
    }
    name
}

fn program(text: &str, schema: &EventSchema) -> Result<Program, ApiError> {
    let resolve = |name: &str| {
        let index = schema.field(name)?;
        let kind = schema.fields.get(usize::from(index.0)).map(|field| field.kind);
        Some(Resolved { column: Column::Field(index), kind })
    };
    let invalid = |error: ExpressionError| {
        let known = schema.fields.iter().map(|field| &field.name);
        let meant = error.unknown_name.as_deref().and_then(|name| did_you_mean(name, known));
        let hint = meant.or_else(|| error.hint.as_deref().map(str::to_owned));
        let error = ApiError::new(Code::InvalidExpression, error.to_string()).at("where");
        hint.into_iter().fold(error, ApiError::hint)
    };
    let expression = Expression::parse(text).map_err(invalid)?;
    let compiled = expression.compile(&resolve).map_err(invalid)?;
    // What can never be true would make a stream that is silent for ever.
    let unlike = compiled.mismatches.first().cloned().or_else(|| expression.wants_bool(&compiled));
    match unlike {
        None => Ok(compiled.program),
        Some(mismatch) => {
            let error = ApiError::new(Code::ExpressionTypeMismatch, mismatch.reason).at("where");
            Err(mismatch.hint.into_iter().fold(error, ApiError::hint))
        }
    }
}

fn told(cell: Cell<'_>) -> Value {
    match value_of(cell) {
        // As the producer wrote it, which may have been over several lines; within texts JSON escapes line ends.
        Value::Json(text) => Value::Json(text.replace(['\n', '\r'], " ").into()),
        value => value,
    }
}

/// Chosen rows of one frame on their way to the subscriber.
pub(super) struct Cut {
    batches: Vec<Rows>,
    /// Batch, row, LSN.
    chosen: Vec<(usize, usize, u64)>,
    /// Where parts end.
    ends: Vec<usize>,
    /// The next part.
    part: usize,
    lsns: (u64, u64),
}

impl Cut {
    /// The next part, and whether it is the last.
    pub(super) fn next_part(&mut self, views: &Views) -> (String, bool) {
        let parts = self.ends.len();
        let from = self.part.checked_sub(1).map_or(0, |before| self.ends[before]);
        let chosen = &self.chosen[from..self.ends[self.part]];
        assert!(!chosen.is_empty(), "a part has rows");
        let mut head = format!("{{\"lsn\":[{},{}],\"n\":{}", self.lsns.0, self.lsns.1, chosen.len());
        if parts > 1 {
            let _written = write!(head, ",\"part\":[{},{parts}]", self.part + 1);
        }
        let mut out = head.into_bytes();
        out.extend_from_slice(b",\"rows\":{");
        let mut events: Vec<EventId> = chosen.iter().filter_map(|(batch, ..)| Some(self.batches.get(*batch)?.event())).collect();
        events.sort_unstable();
        events.dedup();
        for (place, event) in events.into_iter().enumerate() {
            let Some(view) = views.view(event) else { continue };
            if place > 0 {
                out.push(b',');
            }
            write_str(&mut out, &view.schema.name);
            out.extend_from_slice(format!(":{{\"schema\":{},\"rows\":[", view.schema.version).as_bytes());
            let of_event = chosen.iter().filter(|(batch, ..)| self.batches.get(*batch).is_some_and(|rows| rows.event() == event));
            for (number, (batch, row, lsn)) in of_event.enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                view.write(&mut out, &self.batches[*batch], *row, *lsn);
            }
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"}}");
        self.part += 1;
        let Ok(text) = String::from_utf8(out) else { unreachable!("names and values are written as UTF-8") };
        (text, self.part == parts)
    }
}
