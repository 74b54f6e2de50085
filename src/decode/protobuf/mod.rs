//! Protobuf bodies -> rows: a plan per message of a schema, run over the wire format.
//!
//! ```text
//! schema (text, descriptor) --schema--> arena --compile + what the event takes--> plan
//! body --run: match tags, remember places, read at the end--> cells
//! ```
//!
//! Paths have the names of the `.proto` file. A field without presence that was not written has its default (0, "", the
//! first symbol), one with presence (`optional`, messages, oneofs) is null; a repeated field is an array, a map an
//! object. Unknown fields are passed, groups refused. prost-reflect and protox are asked when a schema comes, never per
//! record. Called on connector threads; fetching schemas and frames before bodies are not known here.

mod compile;
mod merge;
mod render;
mod run;
mod schema;
#[cfg(test)]
mod tests;
mod wire;

use super::error::BadRow;
use super::projection::Projection;
use crate::row::{EventSchema, FieldIndex, RowsBuilder};
use compile::Plan;
pub use run::ProtobufScratch;
use run::Run;
use schema::{Linked, Shapes};
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code};

/// Messages of one schema that are tried for whether the schema serves.
const TRIED_MAX: usize = 64;
/// Plans of one schema that are kept, and lists of indexes that lead to none.
const PLANS_MAX: usize = 256;
/// Longest way to a message inside of messages.
const INDEXES_MAX: usize = 32;

/// How bodies of one message become rows of one event version.
#[derive(Debug, Clone)]
pub struct MessagePlan {
    plan: Plan,
}

impl MessagePlan {
    /// The fields whose paths the message does not have.
    pub(crate) fn led_nowhere(&self) -> &[FieldIndex] {
        &self.plan.nulls
    }

    fn compile(message: &prost_reflect::MessageDescriptor, event: &EventSchema, projection: &Projection) -> Result<Self, ApiError> {
        let shapes = Shapes::of(message).map_err(|reason| ApiError::new(Code::SchemaUnusable, reason))?;
        Ok(Self { plan: compile::compile(shapes, event, projection)? })
    }

    /// The plan of a named message of a schema; of its only one when no name is given.
    ///
    /// # Errors
    /// `schema_unusable`: it is no Protobuf schema, lacks the message or a required field, or has a type that can never fit.
    pub fn of(schema: &FetchedSchema, name: Option<&str>, event: &EventSchema, projection: &Projection) -> Result<Self, ApiError> {
        let linked = link(schema)?;
        let message = linked.message(name).map_err(|reason| ApiError::new(Code::SchemaUnusable, reason))?;
        Self::compile(&message, event, projection)
    }

    /// Sets the fields of the row that was begun in `into` from one body. On an error the caller rolls the row back.
    ///
    /// # Errors
    /// The body is no message of the schema, or a value does not fit its field.
    #[inline]
    pub fn fields(&self, body: &[u8], scratch: &mut ProtobufScratch, into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        scratch.prepare(&self.plan);
        let done = Run { plan: &self.plan, into, scratch }.record(body);
        if done.is_err() && scratch.merge { self.merged(body, scratch, into) } else { done }
    }

    /// A body in which a message stands twice, as one in which it stands once.
    #[cold]
    fn merged(&self, body: &[u8], scratch: &mut ProtobufScratch, into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        let merged = merge::merged(&self.plan.shapes, body)?;
        into.rollback();
        into.begin();
        scratch.prepare(&self.plan);
        Run { plan: &self.plan, into, scratch }.record(&merged)
    }
}

fn link(schema: &FetchedSchema) -> Result<Linked, ApiError> {
    let unusable = |reason: String| ApiError::new(Code::SchemaUnusable, reason);
    if !schema.kind.eq_ignore_ascii_case("PROTOBUF") {
        let kind = if schema.kind.is_empty() { "AVRO" } else { &schema.kind };
        return Err(unusable(format!("{schema} is {kind}, the source reads Protobuf")));
    }
    Linked::parse(schema).map_err(|error| unusable(format!("{schema} is no Protobuf schema: {error}")))
}

/// What a list of message indexes leads to.
#[derive(Debug)]
enum Led {
    To(Box<MessagePlan>),
    Unusable(Box<ApiError>),
    Nowhere,
}

/// The plans of one schema of a registry: records say which of its messages they are.
pub struct MessagePlans {
    linked: Linked,
    /// Indexes as they are written, each with what they lead to.
    known: Vec<(Vec<u8>, Led)>,
    /// Of the first message that serves the event, fields whose paths it does not have.
    led_nowhere: Vec<FieldIndex>,
}

impl std::fmt::Debug for MessagePlans {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MessagePlans").field("known", &self.known).finish_non_exhaustive()
    }
}

/// Why a record gives no row.
pub(super) enum Unread {
    Bad(Box<BadRow>),
    Unusable(Box<ApiError>),
}

impl From<Box<BadRow>> for Unread {
    fn from(bad: Box<BadRow>) -> Self {
        Self::Bad(bad)
    }
}

impl MessagePlans {
    /// Links a schema. At least one of its messages has to serve the event.
    ///
    /// # Errors
    /// As [`MessagePlan::of`], for the first message.
    pub fn compile(schema: &FetchedSchema, event: &EventSchema, projection: &Projection) -> Result<Self, ApiError> {
        let linked = link(schema)?;
        let mut messages = linked.top();
        let mut first = None;
        let mut next = 0;
        while let Some(message) = messages.get(next).cloned().filter(|_| next < TRIED_MAX) {
            match MessagePlan::compile(&message, event, projection) {
                Ok(plan) => return Ok(Self { linked, known: Vec::new(), led_nowhere: plan.plan.nulls }),
                Err(error) => first = first.or(Some(error)),
            }
            messages.extend(message.child_messages());
            next += 1;
        }
        let error = first.unwrap_or_else(|| ApiError::new(Code::SchemaUnusable, "it has no message"));
        let reason = format!("{schema}: {}", error.reason);
        Err(ApiError { reason, ..error })
    }

    pub(super) fn led_nowhere(&self) -> &[FieldIndex] {
        &self.led_nowhere
    }

    /// Decodes a body. `indexes` say which message it is, when a header has them; else they stand before it.
    pub(super) fn fields(
        &mut self,
        indexes: Option<&[u8]>,
        body: &[u8],
        scratch: &mut ProtobufScratch,
        into: &mut RowsBuilder,
        projection: &Projection,
    ) -> Result<(), Unread> {
        let mut from = wire::Wire::new(indexes.unwrap_or(body));
        let path = read_indexes(&mut from)?;
        let (written, body) = match indexes {
            Some(indexes) if from.at_end() => (indexes, body),
            Some(_) => return Err(framing("message indexes that are too long")),
            None => body.split_at(from.pos),
        };
        let at = match self.known.iter().position(|(known, _)| known == written) {
            Some(at) => at,
            None => {
                let led = match self.linked.by_indexes(&path) {
                    None => Led::Nowhere,
                    Some(message) => match MessagePlan::compile(&message, into.schema(), projection) {
                        Ok(plan) => Led::To(Box::new(plan)),
                        Err(error) => Led::Unusable(Box::new(error)),
                    },
                };
                if self.known.len() >= PLANS_MAX {
                    self.known.clear();
                }
                self.known.push((written.to_vec(), led));
                self.known.len() - 1
            }
        };
        match &self.known[at].1 {
            Led::To(plan) => Ok(plan.fields(body, scratch, into)?),
            Led::Unusable(error) => Err(Unread::Unusable(error.clone())),
            Led::Nowhere => Err(framing(&format!("the schema has no message at {path:?}"))),
        }
    }
}

fn framing(reason: &str) -> Unread {
    Unread::Bad(BadRow::new(Code::DecodeFraming, "", reason.to_owned()))
}

/// The way to a message: a count, then that many indexes, zigzag; a count of 0 is the first message.
fn read_indexes(from: &mut wire::Wire<'_>) -> Result<Vec<i64>, Unread> {
    let zigzag = |number: u64| (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
    let mut next = || from.varint().map(zigzag).map_err(|bad| framing(&format!("the message indexes: {}", bad.reason)));
    let count = next()?;
    match usize::try_from(count) {
        Ok(0) => Ok(vec![0]),
        Ok(count) if count <= INDEXES_MAX => (0..count).map(|_| next()).collect(),
        _ => Err(framing(&format!("{count} message indexes, at most {INDEXES_MAX} are read"))),
    }
}
