//! Avro bodies -> rows by a plan compiled once per writer schema.
//!
//! [`schema`] reads the text, as leniently as a reader can; apache-avro is the oracle of the tests. [`compile`] turns (writer schema, what the event takes) into a flat list of [`ops`] that run over the
//! bytes straight into the row. What is not taken is walked and checked all the same, except blocks whose writer gave their length. A body must be used up to its last byte.
//!
//! ```text
//! record {id: string, n: long, extra: array<long>, amount: ["null", double]}, event takes id and amount
//!   StrHeap(id) · SkipLong · SkipShape(array) · Union[5, 7] · Null(amount) · Jump 8 · (7) DoubleWord(amount) · Return
//! ```

mod bytes;
#[cfg(test)]
mod choices;
mod compile;
mod ops;
mod schema;
mod shape;
mod strict;
#[cfg(test)]
mod tests;

use super::error::BadRow;
use super::projection::{Lists, Projection};
use crate::row::{EventSchema, FieldIndex, RowsBuilder};
use bytes::Bytes;
pub use ops::AvroScratch;
use ops::{Plan, Run};
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::{ApiError, Code};
pub use strict::departure;

/// How bodies of one writer schema become rows of one event version.
#[derive(Debug, Clone)]
pub struct AvroPlan {
    plan: Plan,
}

impl AvroPlan {
    /// Compiles the plan of a schema as a registry holds it.
    ///
    /// # Errors
    /// `schema_unusable`: it is no Avro schema, lacks a required field, or has a type that can never fit; `path` names the field.
    pub fn compile(schema: &FetchedSchema, event: &EventSchema, projection: &Projection) -> Result<Self, ApiError> {
        let unusable = |reason: String| ApiError::new(Code::SchemaUnusable, reason);
        if !schema.kind.is_empty() && !schema.kind.eq_ignore_ascii_case("AVRO") {
            return Err(unusable(format!("{schema} is {}, the source reads Avro", schema.kind)));
        }
        let (shapes, root) =
            schema::parse(&schema.text, &schema.references).map_err(|error| unusable(format!("{schema} is no Avro schema: {error}")))?;
        let plan = compile::compile(shapes, root, event, projection).map_err(|error| {
            let reason = format!("{schema}: {}", error.reason);
            ApiError { reason, ..error }
        })?;
        Ok(Self { plan })
    }

    /// The fields whose paths the writer schema does not have.
    pub(crate) fn led_nowhere(&self) -> &[FieldIndex] {
        &self.plan.led_nowhere
    }

    /// Sets the fields of the row that was begun in `into` from one body. On an error the caller rolls the row back.
    ///
    /// # Errors
    /// The body is not of the writer schema, has bytes left, or a value does not fit its field.
    #[inline]
    pub fn fields(&self, body: &[u8], scratch: &mut AvroScratch, into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        scratch.prepare(&self.plan);
        let mut from = Bytes::new(body);
        Run { plan: &self.plan, into, scratch }.ops(0, &mut from, 1)?;
        let left = from.left();
        if left > 0 {
            return Err(BadRow::new(
                Code::DecodeTrailingBytes,
                "",
                format!("{left} of {} bytes are left behind the Avro record", body.len()),
            ));
        }
        Ok(())
    }
}

impl AvroScratch {
    fn prepare(&mut self, plan: &Plan) {
        if self.marks.len() < plan.marks {
            self.marks.resize(plan.marks, 0);
        }
        if self.lists.len() < plan.list_slots {
            self.lists = Lists::new(plan.list_slots);
        }
    }
}
