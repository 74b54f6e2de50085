//! Which rows a subscription sees: its events as they are declared at a place in the log, and its filter over them.
//!
//! A filter is compiled once per version of an event and evaluated once per row for all who have it.

use crate::pipeline::{Column, Derived, Expression, ExpressionError, Program, Registry, Resolved, RowEnv};
use crate::row::{EventId, EventSchema, Rows};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use streamgauge_api::subscribe::SubscribeRequest;
use streamgauge_api::{ApiError, Code, did_you_mean, nearest};

/// An event as it is looked at.
#[derive(Debug, Clone, PartialEq)]
struct Looked {
    schema: Arc<EventSchema>,
    filter: Option<Program>,
}

/// A row of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) batch: usize,
    pub(super) row: usize,
    pub(super) lsn: u64,
}

/// See the module's head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selection {
    events: Vec<String>,
    filter: Option<String>,
    looked: Vec<Looked>,
    /// Events that were looked at: one that cannot be any more ends the subscription.
    seen: BTreeSet<String>,
}

impl Selection {
    /// Whether what is asked for can be answered by these declarations.
    ///
    /// # Errors
    /// What is not there, or not an expression.
    pub(super) fn check(request: &SubscribeRequest, registry: &Registry) -> Result<(), ApiError> {
        if request.events.iter().any(|name| name == "*") {
            let reason = "a subscription names its events: there is none to all of them";
            return Err(ApiError::new(Code::SubscribeAllExcludesEvents, reason));
        }
        let mut unknown: Vec<&String> = request.fields.iter().flatten().collect();
        for name in &request.events {
            let event = registry.known_event(name)?;
            Looked::of(&event.schema, request.filter.as_deref())?;
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
        let filter = request.filter.as_deref();
        let events = request.events.iter().filter_map(|name| registry.event(name));
        let looked: Vec<Looked> = events.filter_map(|event| Looked::of(&event.schema, filter).ok()).collect();
        let seen = looked.iter().map(|looked| looked.schema.name.to_string()).collect();
        Self { events: request.events.clone(), filter: request.filter.clone(), looked, seen }
    }

    /// Takes other declarations over; whether that changes what is looked at.
    ///
    /// # Errors
    /// `subscription_invalidated` when the filter means nothing any more.
    pub(super) fn follow(&mut self, registry: &Registry) -> Result<bool, ApiError> {
        let (before, invalid) = (self.versions(), |reason| ApiError::new(Code::SubscriptionInvalidated, reason));
        self.looked.clear();
        for name in &self.events {
            let was_seen = self.seen.contains(name);
            match registry.event(name).map(|event| Looked::of(&event.schema, self.filter.as_deref())) {
                Some(Ok(looked)) => {
                    self.seen.insert(name.clone());
                    self.looked.push(looked);
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
        Ok(self.versions() != before)
    }

    /// Versions by event.
    pub(super) fn versions(&self) -> Json {
        let version = |looked: &Looked| (looked.schema.name.to_string(), json!({"schema": looked.schema.version}));
        self.looked.iter().map(version).collect::<serde_json::Map<_, _>>().into()
    }

    /// The events that are looked at.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &Arc<EventSchema>> {
        self.looked.iter().map(|looked| &looked.schema)
    }

    /// Whether rows of this event are looked at.
    pub(super) fn wants(&self, event: EventId) -> bool {
        self.looked.iter().any(|looked| looked.schema.id == event)
    }

    /// The rows of a frame that are seen, from an LSN on.
    pub(super) fn choose(&self, batches: &[Rows], first_lsn: u64, from_lsn: u64) -> Vec<Chosen> {
        let (mut chosen, mut lsn, derived) = (Vec::new(), first_lsn, Derived::default());
        for (batch, rows) in batches.iter().enumerate() {
            let Some(looked) = self.looked.iter().find(|looked| looked.schema.id == rows.event()) else {
                lsn += rows.len() as u64;
                continue;
            };
            for row in 0..rows.len() {
                if lsn >= from_lsn && looked.sees(rows, row, &derived) {
                    chosen.push(Chosen { batch, row, lsn });
                }
                lsn += 1;
            }
        }
        chosen
    }
}

impl Looked {
    fn of(schema: &Arc<EventSchema>, filter: Option<&str>) -> Result<Self, ApiError> {
        let filter = filter.map(|text| program(text, schema)).transpose()?;
        Ok(Self { schema: Arc::clone(schema), filter })
    }

    fn sees(&self, rows: &Rows, row: usize, derived: &Derived) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.test(&RowEnv { rows, row, schema: &self.schema, derived }))
    }
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
