//! Rows of a frame as a subscriber is told them: which fields, in which encoding.
//!
//! ```text
//! {"lsn":[first,last],"n":2,"rows":{"payments":{"schema":3,"rows":[{"lsn":7,"card":"4711","amount":3.5},..]}}}
//! ```
//! A field that a row did not name is left out, as in the push that brought it. An event with a field `lsn` of its own has
//! the row's LSN under `_lsn`; a row that deletes its key says `"_delete":true`. A frame whose rows take more than
//! [`PART_BYTES`] is told in parts (`"part":[1,3]`), of which only the last one ends the transaction. MessagePack says
//! the same, with bytes as `bin`.

use super::selection::{Chosen, Selection};
use crate::operators::value_of;
use crate::row::{Cell, EventSchema, Rows};
use std::sync::Arc;
use streamgauge_api::Value;
use streamgauge_api::msgpack::{write_array_head, write_int, write_map_head, write_msgpack, write_msgpack_str};
use streamgauge_api::port::Encoding;
use streamgauge_api::value::{write_json, write_str};

/// About how many bytes of rows one message has.
pub(super) const PART_BYTES: usize = 1 << 20;
/// A row as JSON takes about so many times the bytes of its words.
const JSON_TIMES: usize = 2;

/// A field that is told.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    index: usize,
    name: Box<str>,
}

/// An event as it is told.
#[derive(Debug, Clone, PartialEq)]
struct View {
    schema: Arc<EventSchema>,
    fields: Vec<Told>,
    /// Name of the row's LSN.
    lsn_name: String,
    /// Name under which a row says that it deletes its key.
    delete_name: String,
}

/// See the module's head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Projection {
    fields: Option<Vec<String>>,
    encoding: Encoding,
    views: Vec<View>,
}

impl Projection {
    /// That of a subscription, over what it looks at.
    pub(super) fn of(fields: Option<&Vec<String>>, encoding: Encoding, selection: &Selection) -> Self {
        let mut projection = Self { fields: fields.cloned(), encoding, views: Vec::new() };
        projection.follow(selection);
        projection
    }

    /// Takes other versions of events over.
    pub(super) fn follow(&mut self, selection: &Selection) {
        self.views = selection.schemas().map(|schema| View::of(schema, self.fields.as_deref())).collect();
    }

    /// One part of a frame's rows, `(0, 1)` being the only one.
    pub(super) fn write(&self, batches: &[Rows], chosen: &[Chosen], lsns: (u64, u64), part: (usize, usize)) -> Vec<u8> {
        assert!(!chosen.is_empty() && part.0 < part.1, "a part has rows, and is one of all");
        let mut out = Vec::with_capacity(128 + chosen.len() * 64);
        // In the order of the events' ids, whatever the order of batches in the frame.
        let mut views: Vec<(&View, Vec<Chosen>)> = Vec::new();
        for row in chosen {
            let event = batches[row.batch].event();
            match views.iter_mut().find(|(view, _)| view.schema.id == event) {
                Some((_, rows)) => rows.push(*row),
                None => {
                    let Some(view) = self.views.iter().find(|view| view.schema.id == event) else {
                        unreachable!("rows are chosen of events that are looked at")
                    };
                    views.push((view, vec![*row]));
                }
            }
        }
        views.sort_by_key(|(view, _)| view.schema.id);
        match self.encoding {
            Encoding::Json => write_json_part(&mut out, batches, &views, chosen.len(), lsns, part),
            Encoding::MsgPack => write_msgpack_part(&mut out, batches, &views, chosen.len(), lsns, part),
        }
        out
    }
}

/// Where parts of these rows end. What a row takes is estimated by its batch, so that small rows beside large ones do not
/// make large parts.
pub(super) fn parts(batches: &[Rows], chosen: &[Chosen]) -> Vec<usize> {
    let bytes_of = |rows: &Rows| rows.words().len() * 8 * JSON_TIMES / rows.len().max(1);
    let sizes: Vec<usize> = batches.iter().map(bytes_of).collect();
    let (mut ends, mut bytes) = (Vec::new(), 0);
    for (at, row) in chosen.iter().enumerate() {
        bytes += sizes[row.batch];
        if bytes >= PART_BYTES || at + 1 == chosen.len() {
            ends.push(at + 1);
            bytes = 0;
        }
    }
    ends
}

fn write_json_part(
    out: &mut Vec<u8>,
    batches: &[Rows],
    views: &[(&View, Vec<Chosen>)],
    count: usize,
    lsns: (u64, u64),
    part: (usize, usize),
) {
    out.extend_from_slice(format!("{{\"lsn\":[{},{}],\"n\":{count}", lsns.0, lsns.1).as_bytes());
    if part.1 > 1 {
        out.extend_from_slice(format!(",\"part\":[{},{}]", part.0 + 1, part.1).as_bytes());
    }
    out.extend_from_slice(b",\"rows\":{");
    for (place, (view, rows)) in views.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_str(out, &view.schema.name);
        out.extend_from_slice(format!(":{{\"schema\":{},\"rows\":[", view.schema.version).as_bytes());
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            view.write_json(out, &batches[row.batch], row.row, row.lsn);
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"}}");
}

fn write_msgpack_part(
    out: &mut Vec<u8>,
    batches: &[Rows],
    views: &[(&View, Vec<Chosen>)],
    count: usize,
    lsns: (u64, u64),
    part: (usize, usize),
) {
    let number = |out: &mut Vec<u8>, number: u64| write_int(out, i64::try_from(number).unwrap_or(i64::MAX));
    write_map_head(out, if part.1 > 1 { 4 } else { 3 });
    write_msgpack_str(out, "lsn");
    write_array_head(out, 2);
    number(out, lsns.0);
    number(out, lsns.1);
    write_msgpack_str(out, "n");
    number(out, count as u64);
    if part.1 > 1 {
        write_msgpack_str(out, "part");
        write_array_head(out, 2);
        number(out, part.0 as u64 + 1);
        number(out, part.1 as u64);
    }
    write_msgpack_str(out, "rows");
    write_map_head(out, views.len());
    for (view, rows) in views {
        write_msgpack_str(out, &view.schema.name);
        write_map_head(out, 2);
        write_msgpack_str(out, "schema");
        write_int(out, i64::from(view.schema.version));
        write_msgpack_str(out, "rows");
        write_array_head(out, rows.len());
        for row in rows {
            view.write_msgpack(out, &batches[row.batch], row.row, row.lsn);
        }
    }
}

impl View {
    fn of(schema: &Arc<EventSchema>, wanted: Option<&[String]>) -> Self {
        let is_wanted = |name: &str| wanted.is_none_or(|fields| fields.iter().any(|field| field == name));
        let named = schema.fields.iter().enumerate().filter(|(_, field)| is_wanted(&field.name));
        let fields = named.map(|(index, field)| Told { index, name: field.name.to_string().into() }).collect();
        let (lsn_name, delete_name) = (free_name(schema, "lsn"), free_name(schema, "_delete"));
        Self { schema: Arc::clone(schema), fields, lsn_name, delete_name }
    }

    /// The fields that a row named, and their values.
    fn values<'a>(&'a self, rows: &'a Rows, row: usize) -> impl Iterator<Item = (&'a str, Value)> {
        self.fields.iter().filter_map(move |told| {
            let field = self.schema.fields.get(told.index)?;
            match rows.cell(told.index, field.kind, row) {
                Cell::Absent => None,
                cell => Some((&*told.name, value_of(cell))),
            }
        })
    }

    fn write_json(&self, out: &mut Vec<u8>, rows: &Rows, row: usize, lsn: u64) {
        out.extend_from_slice(format!("{{\"{}\":{lsn}", self.lsn_name).as_bytes());
        if rows.is_delete(row) {
            out.extend_from_slice(format!(",\"{}\":true", self.delete_name).as_bytes());
        }
        for (name, value) in self.values(rows, row) {
            out.push(b',');
            write_str(out, name);
            out.push(b':');
            match value {
                // As the producer wrote it, which may have been over several lines; within texts JSON escapes line ends.
                Value::Json(text) => write_json(out, &Value::Json(text.replace(['\n', '\r'], " ").into())),
                value => write_json(out, &value),
            }
        }
        out.push(b'}');
    }

    fn write_msgpack(&self, out: &mut Vec<u8>, rows: &Rows, row: usize, lsn: u64) {
        let values: Vec<(&str, Value)> = self.values(rows, row).collect();
        let deletes = rows.is_delete(row);
        write_map_head(out, values.len() + 1 + usize::from(deletes));
        write_msgpack_str(out, &self.lsn_name);
        write_int(out, i64::try_from(lsn).unwrap_or(i64::MAX));
        if deletes {
            write_msgpack_str(out, &self.delete_name);
            write_msgpack(out, &Value::Bool(true));
        }
        for (name, value) in values {
            write_msgpack_str(out, name);
            write_msgpack(out, &value);
        }
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
