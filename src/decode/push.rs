//! The push ports' door: one body in, one row out, with the rules of pushes.
//!
//! Every declared field comes from the member of its own name, nothing else may stand in the body. Called on native I/O threads, one decoder per event and thread.

use super::error::BadRow;
use super::json::{JsonDecoder, JsonRules};
use super::msgpack::MsgpackDecoder;
use super::projection::Projection;
use crate::row::{EventSchema, RowClock, RowsBuilder};
use std::sync::Arc;

/// Decodes pushes of one event.
#[derive(Debug)]
pub struct PushDecoder {
    json: JsonDecoder,
    msgpack: MsgpackDecoder,
}

impl PushDecoder {
    /// A decoder for the event. `refuse_control` is the policy `push.control_characters = "refuse"`.
    pub fn new(schema: &EventSchema, refuse_control: bool) -> Self {
        let projection = Arc::new(Projection::of_names(schema));
        let rules = JsonRules { refuse_control, ..JsonRules::PUSH };
        Self { json: JsonDecoder::new(Arc::clone(&projection), rules), msgpack: MsgpackDecoder::new(projection, rules) }
    }

    /// Takes a JSON body as one row of `into`, which must be a builder for pushes of the same event.
    ///
    /// # Errors
    /// The body is no JSON object of the event's fields, or its time is out of range; the builder is as before.
    pub fn push_json(&mut self, body: &[u8], into: &mut RowsBuilder, now_us: i64) -> Result<(), Box<BadRow>> {
        into.begin();
        let fields = self.json.fields(body, into);
        finish(fields, into, now_us)
    }

    /// Takes a MessagePack body as one row of `into`, which must be a builder for pushes of the same event.
    ///
    /// # Errors
    /// The body is no map of the event's fields, or its time is out of range; the builder is as before.
    pub fn push_msgpack(&mut self, body: &[u8], into: &mut RowsBuilder, now_us: i64) -> Result<(), Box<BadRow>> {
        into.begin();
        let fields = self.msgpack.fields(body, into);
        finish(fields, into, now_us)
    }
}

fn finish(fields: Result<(), Box<BadRow>>, into: &mut RowsBuilder, now_us: i64) -> Result<(), Box<BadRow>> {
    let committed = fields.and_then(|()| {
        let time = into.row_time(RowClock::at(now_us), -1).map_err(|error| BadRow::cell(error, into.schema()))?;
        into.commit(time, None, false).map_err(|error| BadRow::cell(error, into.schema()))
    });
    if committed.is_err() {
        into.rollback();
    }
    committed
}
