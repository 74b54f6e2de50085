//! What is known about the schema ids of one source: a plan, or why there is none.
//!
//! Sorted by id; records of one writer follow each other, so the last one is tried first. Ids that a registry does not have
//! are remembered up to a bound: garbage records can name any.

use super::Format;
use super::debezium::{Became, ChangePlans, DebeziumAvro};
use crate::decode::avro::{AvroPlan, AvroScratch};
use crate::decode::error::{BadRow, DecodeError};
use crate::decode::projection::Projection;
use crate::decode::protobuf::{MessagePlan, MessagePlans, ProtobufScratch, Unread};
use crate::row::{EventSchema, FieldIndex, RowsBuilder};
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code, SchemaId};

/// Schema ids that garbage records name are remembered up to here.
pub(super) const MISSING_MAX: usize = 4_096;

/// What is known about a schema id.
#[derive(Debug)]
enum Known {
    Avro(Box<AvroPlan>),
    /// Change events in Avro.
    Changes(Box<ChangePlans>),
    /// One message, which the config names.
    Message(Box<MessagePlan>),
    /// A registry's schema: records say which of its messages they are.
    Messages(Box<MessagePlans>),
    Unusable(Box<ApiError>),
    Missing(String),
}

/// Plans by schema id.
#[derive(Debug)]
pub(super) struct Plans {
    format: Format,
    message: Option<Box<str>>,
    changes: Option<Box<DebeziumAvro>>,
    known: Vec<(SchemaId, Known)>,
    last: usize,
    avro: AvroScratch,
    protobuf: ProtobufScratch,
}

impl Plans {
    /// Plans of Avro or Protobuf bodies; `message` is that of bodies without framing.
    pub(super) fn new(format: Format, message: Option<Box<str>>) -> Self {
        assert!(format.has_schema(), "other formats have no plans");
        Self {
            format,
            message,
            changes: None,
            known: Vec::new(),
            last: 0,
            avro: AvroScratch::default(),
            protobuf: ProtobufScratch::default(),
        }
    }

    /// Plans of change events in Avro.
    pub(super) fn of_changes(changes: DebeziumAvro) -> Self {
        Self { changes: Some(Box::new(changes)), ..Self::new(Format::DebeziumAvro, None) }
    }

    /// Whether something is known of this id.
    pub(super) fn has(&self, id: SchemaId) -> bool {
        self.known.binary_search_by_key(&id, |&(known, _)| known).is_ok()
    }

    /// The fields whose paths a schema does not have; of a registry's Protobuf schema those of its first message that serves.
    pub(super) fn led_nowhere(&self, id: SchemaId) -> Vec<FieldIndex> {
        let Ok(at) = self.known.binary_search_by_key(&id, |&(known, _)| known) else { return Vec::new() };
        match &self.known[at].1 {
            Known::Avro(plan) => plan.led_nowhere().to_vec(),
            Known::Message(plan) => plan.led_nowhere().to_vec(),
            Known::Messages(plans) => plans.led_nowhere().to_vec(),
            // Each image of a change has paths of its own.
            Known::Changes(_) | Known::Unusable(_) | Known::Missing(_) => Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Decodes a body of this schema. `indexes` stood behind the id in a header.
    #[inline]
    pub(super) fn decode(
        &mut self,
        id: SchemaId,
        indexes: Option<&[u8]>,
        body: &[u8],
        projection: &Projection,
        into: &mut RowsBuilder,
    ) -> Result<Became, DecodeError> {
        if self.format != Format::Protobuf && indexes.is_some_and(|indexes| !indexes.is_empty()) {
            return Err(BadRow::new(Code::DecodeFraming, "", "the header has bytes behind the schema id".to_owned()).into());
        }
        if self.known.get(self.last).is_none_or(|&(known, _)| known != id) {
            match self.known.binary_search_by_key(&id, |&(known, _)| known) {
                Ok(at) => self.last = at,
                Err(_) => return Err(DecodeError::NeedSchema(id)),
            }
        }
        let Some((_, known)) = self.known.get_mut(self.last) else { unreachable!("the place was just found") };
        match known {
            Known::Avro(plan) => Ok(plan.fields(body, &mut self.avro, into).map(|()| Became::Row)?),
            Known::Changes(plans) => {
                let Some(changes) = &mut self.changes else { unreachable!("only change events have such plans") };
                Ok(changes.fields(plans, body, &mut self.avro, into)?)
            }
            Known::Message(plan) => Ok(plan.fields(body, &mut self.protobuf, into).map(|()| Became::Row)?),
            Known::Messages(plans) => {
                // A header without indexes means the first message.
                let indexes = indexes.map(|indexes| if indexes.is_empty() { &[0][..] } else { indexes });
                plans.fields(indexes, body, &mut self.protobuf, into, projection).map(|()| Became::Row).map_err(|unread| match unread {
                    Unread::Bad(bad) => DecodeError::Bad(bad),
                    Unread::Unusable(error) => DecodeError::SchemaUnusable(error),
                })
            }
            Known::Unusable(error) => Err(DecodeError::SchemaUnusable(error.clone())),
            Known::Missing(detail) => {
                Err(BadRow::new(Code::SchemaMissing, "", format!("the registry does not know schema id {id}: {detail}")).into())
            }
        }
    }

    /// Compiles the plan of a schema, or remembers that there can be none.
    pub(super) fn add(
        &mut self,
        id: SchemaId,
        schema: &FetchedSchema,
        event: &EventSchema,
        projection: &Projection,
    ) -> Result<(), ApiError> {
        let known = match self.format {
            Format::Protobuf if id == super::UNFRAMED => {
                MessagePlan::of(schema, self.message.as_deref(), event, projection).map(|plan| Known::Message(Box::new(plan)))
            }
            Format::Protobuf => MessagePlans::compile(schema, event, projection).map(|plans| Known::Messages(Box::new(plans))),
            _ => match &self.changes {
                Some(changes) => changes.compile(schema, event).map(|plans| Known::Changes(Box::new(plans))),
                None => AvroPlan::compile(schema, event, projection).map(|plan| Known::Avro(Box::new(plan))),
            },
        };
        match known {
            Ok(known) => {
                self.set(id, known);
                Ok(())
            }
            Err(error) => {
                self.unusable(id, error.clone());
                Err(error)
            }
        }
    }

    /// Records with this id answer so from now on.
    pub(super) fn unusable(&mut self, id: SchemaId, error: ApiError) {
        self.set(id, Known::Unusable(Box::new(error)));
    }

    /// The registry says for good that this id does not exist.
    pub(super) fn missing(&mut self, id: SchemaId, detail: &str) {
        self.set(id, Known::Missing(detail.to_owned()));
    }

    fn set(&mut self, id: SchemaId, known: Known) {
        match self.known.binary_search_by_key(&id, |&(known, _)| known) {
            Ok(index) => self.known[index].1 = known,
            Err(index) => {
                if matches!(known, Known::Missing(_)) && self.known.len() >= MISSING_MAX {
                    // Forgotten ids are asked for again: slow, but bounded and still right.
                    self.known.retain(|(_, known)| !matches!(known, Known::Missing(_)));
                    return self.set(id, known);
                }
                self.known.insert(index, (id, known));
            }
        }
    }
}
