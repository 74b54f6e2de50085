//! A Kafka source's door: one record in, one row, one delete or nothing out.
//!
//! Order of a record: tombstone policy, framing, body, then the columns that come from outside of the body (key, headers, timestamp, topic, partition, offset), row
//! time, commit. A record that fails anywhere leaves the builder as it was. One decoder belongs to one source and one ingest thread, hence to one registry: a schema
//! id of its records means one schema. Not here: fetching schemas, positions, rejects.

mod csv;
mod debezium;
#[cfg(test)]
mod debezium_tests;
#[cfg(test)]
mod format_tests;
mod key;
mod plans;
#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod tests;

use crate::decode::error::{BadRow, DecodeError};
use crate::decode::json::{JsonDecoder, JsonRules};
use crate::decode::msgpack::MsgpackDecoder;
use crate::decode::path;
use crate::decode::projection::{Projection, Taking};
use crate::row::{CellError, EventSchema, FieldIndex, FieldType, Reading, RowClock, RowsBuilder};
use csv::CsvDecoder;
pub use csv::CsvLines;
pub use debezium::DebeziumMode;
use debezium::{Became, DebeziumAvro, DebeziumJson};
use key::KeyDecoder;
use plans::Plans;
use std::sync::Arc;
use streamgauge_api::inlet::{FetchedSchema, Headers};
use streamgauge_api::{ApiError, Code, RawRecord, SchemaId};

/// The header that names a value's schema, where serializers put it there instead of before the body.
const SCHEMA_HEADER: &str = "__value_schema_id";

/// The plan of bodies without framing stands under this id, which registries do not give out.
const UNFRAMED: SchemaId = SchemaId::Number(0);

/// What a record's value is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object.
    Json,
    /// An Avro record.
    Avro,
    /// A Protobuf message.
    Protobuf,
    /// A MessagePack map.
    Msgpack,
    /// One line of values between delimiters.
    Csv,
    /// The bytes as they are.
    Raw,
    /// Debezium's change events in JSON.
    Debezium,
    /// Debezium's change events in Avro.
    DebeziumAvro,
}

impl Format {
    /// Whether a body is read by its writer's schema.
    pub fn has_schema(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf | Self::DebeziumAvro)
    }

    /// Whether records are changes of rows.
    pub fn is_debezium(self) -> bool {
        matches!(self, Self::Debezium | Self::DebeziumAvro)
    }
}

/// What stands in front of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    None,
    /// `00`, then the schema id as 4 bytes, big-endian (Confluent, and Apicurio in its default mode).
    Confluent,
    /// `00`, then the schema id as 8 bytes, big-endian (older Apicurio serializers).
    Apicurio8,
}

/// What a record without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstone {
    /// Nothing; the position moves on.
    Ignore,
    /// A bad record.
    Reject,
    /// The record's key is to be forgotten.
    DeleteKey,
    /// A row whose body fields are null.
    Row,
}

/// What a record's key is written in, where a field comes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// The bytes as they are when the field is bytes, else as [`KeyFormat::Text`].
    Raw,
    /// Text, which numbers are read from.
    Text,
    /// A big-endian integer of 4 or 8 bytes, as Java's serializers write them.
    Integer,
    /// Avro with its schema id before it or in a header; the source's registry has the schema.
    Avro,
    /// JSON, with or without a schema id before it.
    Json,
}

/// Where an event field comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldSource {
    /// A path of the record's body, and other names of it that are taken as well.
    Path {
        /// `customer.id`, `items[].price`, `attrs."user.id"`.
        path: Box<str>,
        /// Former or other paths of the same value; a record gives the first that has one.
        aliases: Vec<Box<str>>,
    },
    /// The last header of this name.
    Header(Box<str>),
    /// The record's key.
    Key,
    /// A path into the record's key, which is Avro or JSON.
    KeyPath(Box<str>),
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The record's offset.
    Offset,
    /// The record's Kafka timestamp; null when it has none.
    Timestamp,
}

impl std::fmt::Display for FieldSource {
    /// As a config writes it; the paths of a list joined by `or`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path { path, aliases } => {
                write!(out, "{path}")?;
                aliases.iter().try_for_each(|alias| write!(out, " or {alias}"))
            }
            Self::Header(name) => write!(out, "header:{name}"),
            Self::Key => write!(out, "key"),
            Self::KeyPath(path) => write!(out, "key:{path}"),
            Self::Topic => write!(out, "topic"),
            Self::Partition => write!(out, "partition"),
            Self::Offset => write!(out, "offset"),
            Self::Timestamp => write!(out, "timestamp"),
        }
    }
}

impl FieldSource {
    /// A path without aliases.
    pub fn path(path: &str) -> Self {
        Self::Path { path: path.into(), aliases: Vec::new() }
    }
}

/// How a source's records become rows.
#[derive(Debug, Clone)]
pub struct SourceFormat {
    /// Format of the body.
    pub format: Format,
    /// Framing of the body.
    pub framing: Framing,
    /// Where fields come from, by name: a field's number depends on what the event was before. A field that
    /// is not named here comes from the body's member of its own name.
    pub fields: Vec<(Box<str>, FieldSource)>,
    /// How the values of fields are read, by name, where more is said than their place.
    pub readings: Vec<(Box<str>, Reading)>,
    /// What a record without a value means.
    pub tombstone: Tombstone,
    /// Format of the key.
    pub key_format: KeyFormat,
    /// The writer schema of Avro or Protobuf bodies without framing.
    pub schema: Option<FetchedSchema>,
    /// The message of Protobuf bodies without framing; none where the schema has one only.
    pub message: Option<Box<str>>,
    /// How lines of CSV are read.
    pub csv: CsvLines,
    /// What a change event of Debezium is.
    pub mode: DebeziumMode,
}

/// What a record became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// A row.
    Row,
    /// A row that asks to forget its key.
    Delete,
    /// Nothing.
    Ignored,
}

/// A field that comes from outside of the body.
#[derive(Debug)]
struct Outside {
    field: FieldIndex,
    kind: FieldType,
    from: FieldSource,
}

/// The body decoder of a source.
#[derive(Debug)]
enum Body {
    Json(Box<JsonDecoder>),
    /// Avro and Protobuf.
    BySchema(Box<Plans>),
    Debezium(Box<DebeziumJson>),
    Msgpack(Box<MsgpackDecoder>),
    Csv(Box<CsvDecoder>),
    Raw(Vec<FieldIndex>),
}

/// Decodes the records of one source.
#[derive(Debug)]
pub struct Decoder {
    schema: Arc<EventSchema>,
    projection: Arc<Projection>,
    framing: Framing,
    tombstone: Tombstone,
    key_format: KeyFormat,
    body: Body,
    body_fields: Vec<FieldIndex>,
    key: Option<KeyDecoder>,
    /// Schema ids that values asked for and that did not come yet.
    asked: Vec<SchemaId>,
    outside: Vec<Outside>,
    /// Whether records are changes of rows, so that the body is read for what became of the row.
    changes: bool,
    readings: Vec<(FieldIndex, Reading)>,
}

impl Decoder {
    /// A decoder of one source's records into rows of one event version.
    ///
    /// # Errors
    /// `invalid_config_value` when a record path does not parse or a field cannot hold what it is to come from; `schema_unusable` when the unframed Avro schema cannot
    /// serve the event; `missing_config_key` when there is none.
    pub fn new(schema: Arc<EventSchema>, format: &SourceFormat) -> Result<Self, ApiError> {
        let mut outside = Vec::new();
        let mut takings = Vec::new();
        let mut of_key = Vec::new();
        let key_is_value = matches!(format.key_format, KeyFormat::Avro | KeyFormat::Json);
        // A connector that wraps values in `schema` and `payload` wraps keys too.
        let is_wrapped = format.format == Format::Debezium && format.key_format == KeyFormat::Json;
        let wrapped = |source: &FieldSource| match source {
            FieldSource::KeyPath(path) if is_wrapped => vec![format!("payload.{path}").into_boxed_str()],
            _ => Vec::new(),
        };
        let wrapped: Vec<(Box<str>, Vec<Box<str>>)> = format.fields.iter().map(|(name, source)| (name.clone(), wrapped(source))).collect();
        let own_names = schema.fields.iter().map(|field| FieldSource::path(&path::of_member(&field.name))).collect::<Vec<_>>();
        for (index, (declared, own_name)) in schema.fields.iter().zip(&own_names).enumerate() {
            let Ok(field) = u16::try_from(index).map(FieldIndex) else { break };
            let source = format.fields.iter().find(|(named, _)| *named == declared.name).map_or(own_name, |(_, source)| source);
            match source {
                FieldSource::Path { path, aliases } => takings.push(Taking { field, path, aliases }),
                FieldSource::Key if key_is_value => of_key.push(Taking { field, path: Projection::WHOLE, aliases: &[] }),
                FieldSource::KeyPath(path) if key_is_value => {
                    let aliases = wrapped.iter().find(|(named, _)| *named == declared.name).map_or(&[][..], |(_, aliases)| aliases);
                    of_key.push(Taking { field, path, aliases });
                }
                from => {
                    let is_read = format.readings.iter().any(|(named, _)| *named == declared.name);
                    check_outside(from, declared.kind, is_read).map_err(|error| error.at(&*declared.name))?;
                    outside.push(Outside { field, kind: declared.kind, from: from.clone() });
                }
            }
        }
        if let Some(taking) =
            takings.iter().find(|taking| taking.path == Projection::WHOLE || taking.aliases.iter().any(|path| path.is_empty()))
        {
            let name = schema.fields.get(usize::from(taking.field.0)).map(|field| field.name.to_string()).unwrap_or_default();
            return Err(ApiError::new(Code::InvalidConfigValue, "a record path is empty").at(name));
        }
        let readings = readings(&schema, format)?;
        let read: Vec<FieldIndex> = readings.iter().map(|(field, _)| *field).collect();
        let key = KeyDecoder::new(of_key, &read, format.key_format, format.framing)?;
        let body_fields = takings.iter().map(|taking| taking.field).collect();
        let projection = Arc::new(Projection::of_paths(takings)?.with_readings(read));
        let mut decoder = Self {
            body: match format.format {
                Format::Json => Body::Json(Box::new(JsonDecoder::new(Arc::clone(&projection), JsonRules::RECORD))),
                Format::Avro | Format::Protobuf => Body::BySchema(Box::new(Plans::new(format.format, format.message.clone()))),
                Format::Debezium => Body::Debezium(Box::new(DebeziumJson::new(format.mode, &projection)?)),
                Format::DebeziumAvro => Body::BySchema(Box::new(Plans::of_changes(DebeziumAvro::new(format.mode, &projection)?))),
                Format::Msgpack => Body::Msgpack(Box::new(MsgpackDecoder::new(Arc::clone(&projection), JsonRules::RECORD))),
                Format::Csv => Body::Csv(Box::new(CsvDecoder::new(&format.csv, &schema, &projection)?)),
                Format::Raw => Body::Raw(raw_fields(&schema, &projection)?),
            },
            schema,
            projection,
            framing: format.framing,
            tombstone: format.tombstone,
            key_format: format.key_format,
            body_fields,
            key,
            asked: Vec::new(),
            outside,
            changes: format.format.is_debezium(),
            readings,
        };
        if format.format.has_schema() && format.framing == Framing::None {
            let Some(unframed) = &format.schema else {
                return Err(ApiError::new(Code::MissingConfigKey, "framing = \"none\" needs schema = \"file\" for Avro and Protobuf"));
            };
            decoder.add_schema(UNFRAMED, unframed)?;
        }
        Ok(decoder)
    }

    /// The position index of rows that no partition brings: they move no position.
    pub const NO_POSITION: u32 = u32::MAX;

    /// How the builder of its rows has to read fields.
    pub fn readings(&self) -> &[(FieldIndex, Reading)] {
        &self.readings
    }

    /// The event that rows are decoded for.
    pub fn schema(&self) -> &Arc<EventSchema> {
        &self.schema
    }

    /// Fields whose paths the schema of unframed bodies does not have, with these.
    pub fn led_nowhere(&self) -> Vec<(String, String)> {
        self.led_nowhere_by(UNFRAMED)
    }

    /// The same of a schema that was added.
    pub fn led_nowhere_by(&self, id: SchemaId) -> Vec<(String, String)> {
        let Body::BySchema(plans) = &self.body else { return Vec::new() };
        let paths =
            |field: FieldIndex| self.projection.takings.iter().find(|(taken, _)| *taken == field).map(|(_, paths)| paths.join(" or "));
        let named = |field: &FieldIndex| Some((self.schema.fields.get(usize::from(field.0))?.name.to_string(), paths(*field)?));
        plans.led_nowhere(id).iter().filter_map(named).collect()
    }

    /// Whether records name schemas that [`Decoder::decode`] may ask for.
    pub fn needs_schemas(&self) -> bool {
        let of_values =
            matches!(self.body, Body::BySchema(_)) && self.framing != Framing::None && (self.changes || !self.body_fields.is_empty());
        of_values || self.key.as_ref().is_some_and(|key| matches!(key.body, Body::BySchema(_)))
    }

    /// The schema id that a record's value names, for its reject; none where values name none.
    pub fn schema_id_of(&self, record: &RawRecord<'_>) -> Option<SchemaId> {
        if !matches!(self.body, Body::BySchema(_)) || self.framing == Framing::None {
            return None;
        }
        match schema_id(record.headers, SCHEMA_HEADER) {
            Ok(Some((named, _))) => Some(named),
            _ => unframe(self.framing, record.value?, "value").ok().map(|(id, _)| id),
        }
    }

    /// Takes the schema that [`DecodeError::NeedSchema`] asked for. When it cannot serve the event, records with it answer so from now on.
    ///
    /// # Errors
    /// `schema_unusable`, naming the field.
    pub fn add_schema(&mut self, id: SchemaId, schema: &FetchedSchema) -> Result<(), ApiError> {
        match self.asked(id) {
            Some((plans, event, projection)) => plans.add(id, schema, event, projection),
            None => Ok(()),
        }
    }

    /// Takes a schema that nothing asked for yet: records of it need none to be fetched. Whether it serves is told when a record names it.
    pub fn knows_schema(&mut self, id: SchemaId, schema: &FetchedSchema) {
        if let Body::BySchema(plans) = &mut self.body {
            let _told_later = plans.add(id, schema, &self.schema, &self.projection).is_ok();
        }
        if let Some(KeyDecoder { body: Body::BySchema(plans), projection, .. }) = &mut self.key {
            let _told_later = plans.add(id, schema, &self.schema, projection).is_ok();
        }
    }

    /// The plans that a schema id was asked for: those of keys, or of values. None when keys have it already, and values did not ask:
    /// several partitions wait for one id.
    fn asked(&mut self, id: SchemaId) -> Option<(&mut Plans, &EventSchema, &Projection)> {
        if let Some(key) = &mut self.key
            && (key.asked_for(id) || key.has(id) && !self.asked.contains(&id))
            && let Body::BySchema(plans) = &mut key.body
        {
            return Some((&mut **plans, &*self.schema, &*key.projection));
        }
        self.asked.retain(|known| *known != id);
        match &mut self.body {
            Body::BySchema(plans) => Some((&mut **plans, &*self.schema, &*self.projection)),
            Body::Json(_) | Body::Debezium(_) | Body::Msgpack(_) | Body::Csv(_) | Body::Raw(_) => None,
        }
    }

    /// A schema that was given by nobody cannot serve the event either: records with it answer so from now on.
    pub fn schema_unusable(&mut self, id: SchemaId, error: ApiError) {
        if let Some((plans, ..)) = self.asked(id) {
            plans.unusable(id, error);
        }
    }

    /// The registry says for good that this id does not exist: records with it are bad from now on, until [`Decoder::add_schema`] brings it after all.
    pub fn schema_missing(&mut self, id: SchemaId, detail: &str) {
        if let Some((plans, ..)) = self.asked(id) {
            plans.missing(id, detail);
        }
    }

    /// Decodes one record into at most one row of `into`, which must be a builder for records of the same event. `position_index` is the index of the record's
    /// partition among the positions of the frame being built; `clock` is what its time is judged by.
    ///
    /// # Errors
    /// The record is bad, or its schema is unknown or unusable; the builder is as before.
    #[inline]
    pub fn decode(
        &mut self,
        record: &RawRecord<'_>,
        topic: &str,
        partition: i32,
        clock: RowClock,
        into: &mut RowsBuilder,
        position_index: u32,
    ) -> Result<Decoded, DecodeError> {
        let delete = match (record.value, self.tombstone) {
            (Some(_), _) | (None, Tombstone::Row) => false,
            (None, Tombstone::DeleteKey) => true,
            (None, Tombstone::Ignore) => return Ok(Decoded::Ignored),
            (None, Tombstone::Reject) => {
                return Err(BadRow::new(
                    Code::TombstoneUnexpected,
                    "",
                    format!("the record has no value, which {} does not expect", self.schema.name),
                )
                .into());
            }
        };
        into.begin();
        let done = self.row(record, topic, partition, clock, into, position_index, delete);
        match done {
            Ok(decoded) => Ok(decoded),
            Err(error) => {
                into.rollback();
                Err(self.with_place(error))
            }
        }
    }

    /// A refusal of a field that does not come from the member of its own name says where it comes from.
    #[cold]
    fn with_place(&self, error: DecodeError) -> DecodeError {
        let DecodeError::Bad(mut bad) = error else { return error };
        let field = self.schema.fields.iter().position(|field| *field.name == *bad.path);
        let Some(field) = field.and_then(|index| u16::try_from(index).ok()).map(FieldIndex) else { return DecodeError::Bad(bad) };
        let outside = self.outside.iter().find(|outside| outside.field == field).map(|outside| outside.from.to_string());
        let paths = self.projection.takings.iter().find(|(taken, _)| *taken == field).map(|(_, paths)| paths.join(" or "));
        let of_key = self.key.as_ref().and_then(|key| key.place(field));
        match outside.or(of_key).or(paths) {
            Some(place) if place != path::of_member(&bad.path) => bad.reason = format!("{} (from {place})", bad.reason),
            _ => {}
        }
        DecodeError::Bad(bad)
    }

    #[expect(clippy::too_many_arguments, reason = "what a record is, where it goes and what was decided about it; one caller")]
    #[inline]
    fn row(
        &mut self,
        record: &RawRecord<'_>,
        topic: &str,
        partition: i32,
        clock: RowClock,
        into: &mut RowsBuilder,
        position_index: u32,
        mut delete: bool,
    ) -> Result<Decoded, DecodeError> {
        match record.value {
            // Nothing is taken of the body, so nothing is asked of it: events that come from keys and headers alone.
            Some(_) if self.body_fields.is_empty() && !self.changes => {}
            Some(value) => match self.body(value, record.headers, into)? {
                Became::Row => {}
                Became::Delete => delete = true,
                Became::Nothing => {
                    into.rollback();
                    return Ok(Decoded::Ignored);
                }
            },
            None if delete => self.check_delete(record)?,
            None => self.body_fields.iter().for_each(|&field| into.null(field)),
        }
        if let Some(key) = &mut self.key {
            key.fields(record, into)?;
        }
        for outside in &self.outside {
            set_outside(outside, record, topic, partition, self.key_format, into).map_err(|error| BadRow::cell(error, &self.schema))?;
        }
        let time = match into.row_time(clock, record.timestamp_ms) {
            Ok(time) => time,
            // A delete has no body that its time could come from.
            Err(error) if delete && error.code == Code::DecodeMissingField => match record.timestamp_ms {
                ..0 => clock.now_us.into(),
                millis => millis.saturating_mul(1000).min(clock.now_us).into(),
            },
            Err(error) => return Err(BadRow::cell(error, &self.schema).into()),
        };
        let place = (position_index != Self::NO_POSITION).then_some((position_index, record.offset));
        into.commit(time, place, delete).map_err(|error| BadRow::cell(error, &self.schema))?;
        Ok(if delete { Decoded::Delete } else { Decoded::Row })
    }

    #[inline]
    fn body(&mut self, value: &[u8], headers: Option<&dyn Headers>, into: &mut RowsBuilder) -> Result<Became, DecodeError> {
        match &mut self.body {
            Body::Json(json) => json.fields(unframed(self.framing, value, headers)?, into)?,
            Body::Debezium(changes) => return Ok(changes.fields(unframed(self.framing, value, headers)?, into)?),
            // A bare body may begin as a frame does, so what a header says wins over what a body looks like.
            Body::BySchema(plans) => {
                let named = if self.framing == Framing::None { None } else { schema_id(headers, SCHEMA_HEADER)? };
                let (id, indexes, body) = match named {
                    Some((id, indexes)) => (id, Some(indexes), value),
                    None => unframe(self.framing, value, "value").map(|(id, body)| (id, None, body))?,
                };
                let decoded = plans.decode(id, indexes, body, &self.projection, into);
                if decoded == Err(DecodeError::NeedSchema(id)) && !self.asked.contains(&id) {
                    self.asked.push(id);
                }
                return decoded;
            }
            Body::Msgpack(msgpack) => msgpack.fields(unframed(self.framing, value, headers)?, into)?,
            Body::Csv(csv) => csv.fields(value, into)?,
            Body::Raw(fields) => {
                for &field in &*fields {
                    let kind = self.schema.fields[usize::from(field.0)].kind;
                    set_bytes(field, kind, value, into).map_err(|error| BadRow::cell(error, &self.schema))?;
                }
            }
        }
        Ok(Became::Row)
    }

    fn check_delete(&self, record: &RawRecord<'_>) -> Result<(), Box<BadRow>> {
        if self.key.is_none() && !self.outside.iter().any(|outside| outside.from == FieldSource::Key) {
            let reason =
                format!("a record without a value cannot delete a key of {}: no field comes from the record's key", self.schema.name);
            return Err(BadRow::new(Code::TombstoneUnexpected, "", reason));
        }
        if record.key.is_none() {
            return Err(BadRow::new(Code::TombstoneUnexpected, "", "the record has neither value nor key"));
        }
        Ok(())
    }
}

/// Schema id and body of a framed value or key.
#[inline]
fn unframe<'a>(framing: Framing, value: &'a [u8], what: &str) -> Result<(SchemaId, &'a [u8]), Box<BadRow>> {
    match framing {
        Framing::None => Ok((UNFRAMED, value)),
        Framing::Confluent => match value {
            [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]).into(), body)),
            _ => Err(not_framed(value, 4, what)),
        },
        Framing::Apicurio8 => match value {
            [0, 0, 0, 0, 0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]).into(), body)),
            _ => Err(not_framed(value, 8, what)),
        },
    }
}

#[cold]
fn not_framed(value: &[u8], width: usize, what: &str) -> Box<BadRow> {
    let reason = match value.first() {
        None => format!("the {what} is empty"),
        Some(0) if value.len() <= width => format!("the {what} has {} bytes, less than a frame of {}", value.len(), width + 1),
        Some(0) => "the schema id has more than 32 bits".to_owned(),
        Some(first) => format!("the {what} begins with {first:#04x}, not with 0x00 and a schema id of {width} bytes"),
    };
    BadRow::new(Code::DecodeFraming, "", reason)
}

/// The body behind a frame that is skipped. Neither JSON nor a MessagePack map begins with a zero byte, so a frame is
/// told from a bare body, and headers, which cost more, are asked last.
#[inline]
fn unframed<'a>(framing: Framing, value: &'a [u8], headers: Option<&dyn Headers>) -> Result<&'a [u8], Box<BadRow>> {
    match unframe(framing, value, "value") {
        Ok((_, body)) => Ok(body),
        Err(unframed) => schema_id(headers, SCHEMA_HEADER)?.map(|_| value).ok_or(unframed),
    }
}

/// The schema that a header names, when there is the header: a zero byte and the number, as before a body, or a one and a
/// GUID; and what stands behind it, which of Protobuf is the way to the message.
fn schema_id<'a>(headers: Option<&'a dyn Headers>, name: &str) -> Result<Option<(SchemaId, &'a [u8])>, Box<BadRow>> {
    match headers.and_then(|headers| headers.last(name)) {
        None => Ok(None),
        Some(Some([0, a, b, c, d, rest @ ..])) => Ok(Some((u32::from_be_bytes([*a, *b, *c, *d]).into(), rest))),
        Some(value) => match value.and_then(|value| value.strip_prefix(&[1])).and_then(<[u8]>::split_first_chunk::<16>) {
            Some((guid, rest)) => Ok(Some((SchemaId::Guid(*guid), rest))),
            None => {
                let reason = format!("header {name} of {} bytes is no schema id", value.map_or(0, <[u8]>::len));
                Err(BadRow::new(Code::DecodeFraming, "", reason))
            }
        },
    }
}

/// The fields that take the bytes of a value that has no format.
fn raw_fields(schema: &EventSchema, projection: &Projection) -> Result<Vec<FieldIndex>, ApiError> {
    for (field, paths) in &projection.takings {
        if !matches!(&paths[..], [only] if **only == *"value") {
            let name = &schema.fields[usize::from(field.0)].name;
            let reason =
                format!("format = \"raw\" has the whole value as `value` and nothing else; {name} comes from {}", paths.join(" or "));
            return Err(ApiError::new(Code::InvalidConfigValue, reason)
                .at(&**name)
                .hint(format!("write fields = {{ {name} = \"value\" }}")));
        }
    }
    Ok(projection.takings.iter().map(|(field, _)| *field).collect())
}

/// The readings of an event's fields by number.
fn readings(schema: &EventSchema, format: &SourceFormat) -> Result<Vec<(FieldIndex, Reading)>, ApiError> {
    let mut readings = Vec::with_capacity(format.readings.len());
    for (name, reading) in &format.readings {
        let Some(field) = schema.field(name) else { continue };
        let declared = &schema.fields[usize::from(field.0)];
        if let Some(unfit) = reading.unfit(declared.kind, declared.optional) {
            return Err(ApiError::new(Code::InvalidConfigValue, unfit).at(&**name));
        }
        readings.push((field, reading.clone()));
    }
    if format.format == Format::Csv {
        csv::read_as_text(schema, format, &mut readings);
    }
    Ok(readings)
}

fn check_outside(from: &FieldSource, kind: FieldType, is_read: bool) -> Result<(), ApiError> {
    use FieldType::{Datetime, F64, I64, Json, Str};
    if let FieldSource::KeyPath(path) = from {
        let reason = format!("a path into the key needs key_format = \"avro\" or \"json\" (key:{path})");
        return Err(ApiError::new(Code::InvalidConfigValue, reason));
    }
    let (fits, what) = match from {
        FieldSource::Path { .. } | FieldSource::Header(_) | FieldSource::Key | FieldSource::KeyPath(_) => (true, ""),
        FieldSource::Topic => (matches!(kind, Str | Json), "topic"),
        FieldSource::Partition => (matches!(kind, I64 | F64 | Json), "partition"),
        FieldSource::Offset => (matches!(kind, I64 | F64 | Json), "offset"),
        FieldSource::Timestamp => (matches!(kind, I64 | F64 | Json | Datetime), "timestamp"),
    };
    if fits || is_read {
        Ok(())
    } else {
        Err(ApiError::new(Code::InvalidConfigValue, format!("a field of type {} cannot hold the {what}", kind.as_str())))
    }
}

#[inline]
fn set_outside(
    outside: &Outside,
    record: &RawRecord<'_>,
    topic: &str,
    partition: i32,
    key_format: KeyFormat,
    into: &mut RowsBuilder,
) -> Result<(), CellError> {
    let field = outside.field;
    match &outside.from {
        FieldSource::Key => match record.key {
            None => into.null(field),
            Some(key) => return key::set_whole(outside, key, key_format, into),
        },
        FieldSource::Header(name) => match record.headers.and_then(|headers| headers.last(name)).flatten() {
            Some(value) => return set_bytes(field, outside.kind, value, into),
            None => into.null(field),
        },
        FieldSource::Topic => return into.str(field, topic),
        FieldSource::Partition => return into.int(field, i64::from(partition)),
        FieldSource::Offset => return into.int(field, record.offset),
        FieldSource::Timestamp if record.timestamp_ms >= 0 => {
            return into.instant(field, record.timestamp_ms, record.timestamp_ms.saturating_mul(1000));
        }
        FieldSource::Timestamp => into.null(field),
        FieldSource::Path { .. } | FieldSource::KeyPath(_) => {}
    }
    Ok(())
}

/// A key's or header's bytes: as they are for bytes, else as text, which numbers and booleans are read from.
fn set_bytes(field: FieldIndex, kind: FieldType, bytes: &[u8], into: &mut RowsBuilder) -> Result<(), CellError> {
    if matches!(kind, FieldType::Bytes | FieldType::Str) && !into.has_reading(field) {
        return into.bytes(field, bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(mismatch(field, format!("a key or header that is no UTF-8 text cannot be read as {}", kind.as_str())));
    };
    // Its reading says what the text may be.
    if into.has_reading(field) {
        return into.str(field, text);
    }
    if matches!(kind, FieldType::I64 | FieldType::Datetime)
        && let Ok(number) = text.parse::<i64>()
    {
        return into.int(field, number);
    }
    if kind == FieldType::F64
        && let Ok(number) = text.parse::<f64>()
    {
        return into.float(field, number);
    }
    if kind == FieldType::Bool
        && let Ok(truth) = text.parse::<bool>()
    {
        return into.bool(field, truth);
    }
    into.str(field, text)
}

fn mismatch(field: FieldIndex, reason: String) -> CellError {
    CellError { field, code: Code::DecodeTypeMismatch, reason }
}
