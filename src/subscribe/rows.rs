//! Rows of a frame as a subscriber wants them: which, which fields of them, and as JSON.
//!
//! ```text
//! {"lsn":[first,last],"n":2,"rows":{"payments":{"schema":3,"rows":[{"lsn":7,"card":"4711","amount":3.5},..]}}}
//! ```
//! A field that a row did not name is left out, as in the push that brought it. An event with a field `lsn` of its own has
//! the row's LSN under `_lsn`; a row that deletes its key says `"_delete":true`. A frame whose rows take more than
//! [`PART_BYTES`] is told in parts (`"part":[1,3]`), of which only the last one ends the transaction.

use crate::pipeline::{Column, Derived, Expression, Program, Registry, Resolved, RowEnv};
use crate::row::{Cell, EventId, EventSchema, FieldIndex, Rows};
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::sync::Arc;
use streamgauge_api::subscribe::SubscribeRequest;
use streamgauge_api::value::{write_json, write_str};
use streamgauge_api::{ApiError, Code, Value, nearest};

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
    lsn_name: &'static str,
}

/// What a subscription looks at, as of a place in the log.
pub(super) struct Views {
    request: SubscribeRequest,
    views: Vec<View>,
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
            let Some(event) = registry.event(name) else {
                let error = ApiError::new(Code::EventNotFound, format!("no event \"{name}\" is registered"));
                return Err(match nearest(name, registry.events.keys()) {
                    Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                    None => error,
                });
            };
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
        let views = events.filter_map(|event| View::of(&event.schema, request).ok()).collect();
        Self { request: request.clone(), views, changed: false }
    }

    /// Takes other declarations over.
    ///
    /// # Errors
    /// `subscription_invalidated` when the filter means nothing any more.
    pub(super) fn follow(&mut self, registry: &Registry) -> Result<(), ApiError> {
        let (before, seen) = (self.versions(), std::mem::take(&mut self.views));
        for event in self.request.events.iter().filter_map(|name| registry.event(name)) {
            match View::of(&event.schema, &self.request) {
                Ok(view) => self.views.push(view),
                Err(error) if seen.iter().any(|view| view.schema.id == event.schema.id) => {
                    let reason =
                        format!("the filter does not fit event {} as it is declared from here on: {}", event.schema.name, error.reason);
                    return Err(ApiError::new(Code::SubscriptionInvalidated, reason));
                }
                // A declaration of before that the filter means nothing to, as where the subscription began.
                Err(_) => {}
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
        let bytes: usize = batches.iter().map(|rows| rows.words().len() * 8 * JSON_TIMES).sum();
        let count: usize = batches.iter().map(Rows::len).sum();
        let of_part = (PART_BYTES * count.max(1) / bytes.max(1)).max(1);
        let lsns = (first_lsn, lsn - 1);
        (!chosen.is_empty()).then_some(Cut { batches, chosen, of_part, told: 0, lsns })
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
        let lsn_name = if schema.field("lsn").is_some() { "_lsn" } else { "lsn" };
        Ok(Self { schema: Arc::clone(schema), filter, fields: fields.collect(), lsn_name })
    }

    fn sees(&self, rows: &Rows, row: usize, derived: &Derived) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.test(&RowEnv { rows, row, schema: &self.schema, derived }))
    }

    fn write(&self, out: &mut Vec<u8>, rows: &Rows, row: usize, lsn: u64) {
        out.extend_from_slice(format!("{{\"{}\":{lsn}", self.lsn_name).as_bytes());
        if rows.is_delete(row) {
            out.extend_from_slice(b",\"_delete\":true");
        }
        for (FieldIndex(index), name) in &self.fields {
            let Some(field) = self.schema.fields.get(usize::from(*index)) else { continue };
            let value = match rows.cell(usize::from(*index), field.kind, row) {
                Cell::Absent => continue,
                cell => value_of(cell),
            };
            out.push(b',');
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            write_json(out, &value);
        }
        out.push(b'}');
    }
}

fn program(text: &str, schema: &EventSchema) -> Result<Program, ApiError> {
    let resolve = |name: &str| {
        let index = schema.field(name)?;
        let kind = schema.fields.get(usize::from(index.0)).map(|field| field.kind);
        Some(Resolved { column: Column::Field(index), kind })
    };
    let compiled = Expression::parse(text).and_then(|expression| expression.compile(&resolve));
    compiled.map(|compiled| compiled.program).map_err(|error| ApiError::new(Code::InvalidExpression, error.to_string()).at("where"))
}

fn value_of(cell: Cell<'_>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    match cell {
        Cell::Absent | Cell::Null => Value::Null,
        Cell::Bool(truth) => Value::Bool(truth),
        Cell::I64(number) => Value::I64(number),
        Cell::F64(number) => Value::F64(number),
        Cell::Datetime(ms) => Value::Datetime(ms),
        Cell::Str(bytes) => Value::Str(text(bytes)),
        Cell::Bytes(bytes) => Value::Bytes(bytes.into()),
        Cell::Json(bytes) => Value::Json(text(bytes)),
    }
}

/// Chosen rows of one frame on their way to the subscriber.
pub(super) struct Cut {
    batches: Vec<Rows>,
    /// Batch, row, LSN.
    chosen: Vec<(usize, usize, u64)>,
    /// Rows of one part.
    of_part: usize,
    /// Rows that were told.
    told: usize,
    lsns: (u64, u64),
}

impl Cut {
    /// The next part, and whether it is the last.
    pub(super) fn next_part(&mut self, views: &Views) -> (String, bool) {
        let (count, parts) = (self.chosen.len(), self.chosen.len().div_ceil(self.of_part));
        let chosen = &self.chosen[self.told..count.min(self.told + self.of_part)];
        assert!(!chosen.is_empty(), "a part has rows");
        let mut head = format!("{{\"lsn\":[{},{}],\"n\":{}", self.lsns.0, self.lsns.1, chosen.len());
        if parts > 1 {
            let _written = write!(head, ",\"part\":[{},{parts}]", self.told / self.of_part + 1);
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
        self.told += chosen.len();
        let Ok(text) = String::from_utf8(out) else { unreachable!("names and values are written as UTF-8") };
        (text, self.told == count)
    }
}
