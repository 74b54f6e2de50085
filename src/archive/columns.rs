//! What of a row stands in which column.
//!
//! ```text
//! envelope   event_id stream_type stream_id seq event_type event_version occurred_at ingested_at
//!            data metadata command_id correlation_id causation_id tenant_id       names as declared
//! place      lsn txn_lsn topic partition offset
//! exactness  _delete _ahead_us _absent
//! fields     each declared field by its name and type
//! ```
//! Nothing of a row is lost: a value that is not of its field's type stands in `data`, as JSON under
//! the field's name; a field that the row did not name at all is listed in `_absent`, so that it is
//! told from one that was null; a row that deletes its key says so. A field whose name an envelope
//! column or a folder has stands as `field_NAME`.

use super::ids::Origin;
use crate::eventstore::Store;
use crate::operators::value_of;
use crate::row::{Cell, EventSchema, FieldType, Rows};
use streamgauge_api::value::{write_json, write_str};
use streamgauge_parquet::{Cells, Column, ColumnType, FileError, Packing, Value};

/// Columns that say where a row stands.
const PLACE: [&str; 5] = ["lsn", "txn_lsn", "topic", "partition", "offset"];
/// Columns without which a row would not be the same again.
const EXACT: [&str; 3] = ["_delete", "_ahead_us", "_absent"];
/// Names that folders have.
const FOLDERS: [&str; 3] = ["dt", "stream_type", "tenant_id"];

/// A partition that rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct From {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) origin: Origin,
}

/// A row and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) batch: u32,
    pub(super) row: u32,
    pub(super) lsn: u64,
    pub(super) txn_lsn: u64,
    pub(super) ingested_us: i64,
    /// Which partition; none for a push.
    pub(super) from: Option<u32>,
    pub(super) offset: i64,
}

/// Columns of the files of one event at one version.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) columns: Vec<Column>,
}

impl Columns {
    /// Those of an event whose rows have so many fields.
    pub(super) fn of(store: &Store, schema: &EventSchema, fields: usize) -> Self {
        assert!(fields <= schema.fields.len(), "an event has no fewer fields than its rows");
        let mut columns = Vec::new();
        let mut add = |standard: &str, name: &str, kind, nullable, packing| {
            let always = matches!(standard, "lsn" | "txn_lsn" | "offset");
            let statistics = !store.statistics.is_empty() && (always || store.statistics.iter().any(|column| column == standard));
            let bloom = store.bloom.iter().any(|column| column == standard).then_some(store.bloom_fpp);
            columns.push(Column { name: name.to_owned(), kind, nullable, packing, statistics, bloom });
        };
        let text = if store.dictionary { Packing::Dictionary } else { Packing::Plain };
        for (standard, name) in crate::eventstore::Envelope::NAMES.into_iter().zip(&store.envelope.names) {
            let (kind, nullable, packing) = match standard {
                "event_id" => (ColumnType::Uuid, false, Packing::Plain),
                "seq" => (ColumnType::I64, false, Packing::Delta),
                "event_version" => (ColumnType::I32, false, text),
                "occurred_at" | "ingested_at" => (ColumnType::TimeUs, false, Packing::Delta),
                "stream_type" | "event_type" => (ColumnType::Text, false, text),
                _ => (ColumnType::Text, true, text),
            };
            add(standard, name, kind, nullable, packing);
        }
        add("lsn", "lsn", ColumnType::I64, false, Packing::Delta);
        add("txn_lsn", "txn_lsn", ColumnType::I64, false, Packing::Delta);
        add("topic", "topic", ColumnType::Text, true, text);
        add("partition", "partition", ColumnType::I32, true, if store.dictionary { Packing::Dictionary } else { Packing::Delta });
        add("offset", "offset", ColumnType::I64, true, Packing::Delta);
        add("_delete", "_delete", ColumnType::Bool, false, Packing::Plain);
        add("_ahead_us", "_ahead_us", ColumnType::I64, true, Packing::Delta);
        add("_absent", "_absent", ColumnType::Text, true, text);
        let names = field_names(store, schema, fields);
        for (field, name) in schema.fields[..fields].iter().zip(names) {
            let (kind, packing) = match field.kind {
                FieldType::Str | FieldType::Json => (ColumnType::Text, text),
                FieldType::Bytes => (ColumnType::Bytes, text),
                FieldType::F64 => (ColumnType::F64, text),
                FieldType::I64 => (ColumnType::I64, text),
                FieldType::Bool => (ColumnType::Bool, Packing::Plain),
                FieldType::Datetime => (ColumnType::TimeMs, text),
            };
            // By the column's own name: a field may have statistics, too.
            add(&name.clone(), &name, kind, true, packing);
        }
        Self { columns }
    }

    /// Builders for all columns.
    pub(super) fn cells(&self) -> Vec<Cells> {
        self.columns.iter().map(|column| Cells::new(column.kind)).collect()
    }
}

/// Names of the columns of fields.
pub(super) fn field_names(store: &Store, schema: &EventSchema, fields: usize) -> Vec<String> {
    let mut taken: Vec<&str> = store.envelope.names.iter().map(String::as_str).collect();
    taken.extend(PLACE.iter().chain(&EXACT).chain(&FOLDERS));
    let declared: Vec<&str> = schema.fields.iter().map(|field| &*field.name).collect();
    let mut names: Vec<String> = Vec::with_capacity(fields);
    for field in &schema.fields[..fields] {
        let mut name = field.name.to_string();
        while taken.contains(&name.as_str()) || (name != *field.name && declared.contains(&name.as_str())) {
            name = format!("field_{name}");
        }
        names.push(name);
    }
    names
}

/// Rows on their way into columns.
pub(super) struct RowWriter<'a> {
    schema: &'a EventSchema,
    fields: usize,
    froms: &'a [From],
    pushes: Origin,
    /// The names of absent fields as JSON.
    absent: String,
    data: Vec<u8>,
    json: Vec<u8>,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(schema: &'a EventSchema, fields: usize, froms: &'a [From], pushes: Origin) -> Self {
        Self { schema, fields, froms, pushes, absent: String::new(), data: Vec::new(), json: Vec::new() }
    }

    /// Adds a row to the cells.
    pub(super) fn push(&mut self, rows: &Rows, place: &Place, cells: &mut [Cells]) -> Result<(), FileError> {
        let row = place.row as usize;
        let from = place.from.and_then(|from| self.froms.get(from as usize));
        let (occurred_us, stream) = (rows.time_us(row), Value::Text(&self.schema.name));
        let lsn = number(place.lsn);
        let (fixed, fields) = cells.split_at_mut(14 + PLACE.len() + EXACT.len());
        self.absent.clear();
        self.data.clear();
        for (index, column) in fields.iter_mut().enumerate().take(self.fields) {
            let kind = self.schema.fields[index].kind;
            let cell = rows.cell(index, kind, row);
            if kind == FieldType::Json && cell.is_value() && !matches!(cell, Cell::Json(_)) {
                // A number or a text is JSON, too.
                self.json.clear();
                write_json(&mut self.json, &value_of(cell));
                column.push(Value::Text(text(&self.json)?))?;
                continue;
            }
            column.push(self.field(cell, index, kind)?)?;
        }
        if !self.absent.is_empty() {
            self.absent.push(']');
        }
        if !self.data.is_empty() {
            self.data.push(b'}');
        }
        let data = text(&self.data)?;
        let id = self.event_id(place, from, occurred_us);
        let ahead = rows.ahead_us(row);
        let values = [
            Value::Bytes(&id),
            stream,
            Value::Null,
            // An event that names no stream is one stream, in the order of the log.
            Value::Int(lsn),
            stream,
            Value::Int(rows.schema_version().into()),
            Value::Int(occurred_us),
            Value::Int(place.ingested_us),
            if data.is_empty() { Value::Null } else { Value::Text(data) },
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Int(lsn),
            Value::Int(number(place.txn_lsn)),
            from.map_or(Value::Null, |from| Value::Text(&from.topic)),
            from.map_or(Value::Null, |from| Value::Int(from.partition.into())),
            from.map_or(Value::Null, |_| Value::Int(place.offset)),
            Value::Bool(rows.is_delete(row)),
            if ahead == 0 { Value::Null } else { Value::Int(ahead) },
            if self.absent.is_empty() { Value::Null } else { Value::Text(&self.absent) },
        ];
        debug_assert_eq!(values.len(), fixed.len(), "a value for each column that all events have");
        for (column, value) in fixed.iter_mut().zip(values) {
            column.push(value)?;
        }
        Ok(())
    }

    /// A record's time is its row's, unless that is when it arrived, which is another one each time.
    fn event_id(&self, place: &Place, from: Option<&From>, occurred_us: i64) -> [u8; 16] {
        match from {
            Some(_) if self.schema.time == crate::row::TimeSource::Arrival => self.id_of(place, from, 0),
            Some(_) => self.id_of(place, from, occurred_us.div_euclid(1_000)),
            None => self.id_of(place, from, place.ingested_us.div_euclid(1_000)),
        }
    }

    fn id_of(&self, place: &Place, from: Option<&From>, time_ms: i64) -> [u8; 16] {
        match from {
            Some(from) => from.origin.event_id(place.offset.cast_unsigned(), time_ms),
            None => self.pushes.event_id(place.lsn, time_ms),
        }
    }

    fn field<'c>(&mut self, cell: Cell<'c>, index: usize, kind: FieldType) -> Result<Value<'c>, FileError> {
        Ok(match (kind, cell) {
            (_, Cell::Null) => Value::Null,
            (_, Cell::Absent) => {
                self.absent.push(if self.absent.is_empty() { '[' } else { ',' });
                let mut name = Vec::new();
                write_str(&mut name, &self.schema.fields[index].name);
                self.absent.push_str(text(&name)?);
                Value::Null
            }
            (FieldType::Str, Cell::Str(bytes)) | (FieldType::Json, Cell::Json(bytes)) => Value::Text(text(bytes)?),
            (FieldType::Bytes, Cell::Bytes(bytes)) => Value::Bytes(bytes),
            (FieldType::F64, Cell::F64(number)) => Value::F64(number),
            (FieldType::I64, Cell::I64(number)) | (FieldType::Datetime, Cell::Datetime(number)) => Value::Int(number),
            (FieldType::Bool, Cell::Bool(truth)) => Value::Bool(truth),
            (_, other) => {
                self.data.push(if self.data.is_empty() { b'{' } else { b',' });
                write_str(&mut self.data, &self.schema.fields[index].name);
                self.data.push(b':');
                write_json(&mut self.data, &value_of(other));
                Value::Null
            }
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, FileError> {
    std::str::from_utf8(bytes).map_err(|error| FileError::Format(format!("a text that is none: {error}")))
}

fn number(lsn: u64) -> i64 {
    let Ok(lsn) = i64::try_from(lsn) else { unreachable!("a log of 2^63 rows takes millions of years") };
    lsn
}
