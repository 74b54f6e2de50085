//! `sample` and `check --sample`: the newest records of a topic, decoded as a start would decode them, and what became of
//! each. Nothing is kept and no server is needed.
//!
//! With a config the topic's sources say how its records are read. Without one there is no event to read them for: then a
//! record is shown as what it looks like, JSON or Avro by schema id as the JSON of all that it holds.

use super::plan::{self, client_rules};
use super::run::{environment, refuse, variables};
use crate::cli::{Console, Exit, Failure, SampleArgs};
use crate::config::{Config, Flags, Outside, SourceSetup, TopicsSetup};
use crate::decode::{
    CsvLines, DebeziumMode, DecodeError, Decoded, Decoder, FieldSource, Format, Framing, KeyFormat, SourceFormat, Tombstone,
};
use crate::operators::value_of;
use crate::row::{EventId, EventSchema, Field, FieldType, RowClock, RowsBuilder, Strictness, TimeSource};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::value::write_json;
use streamgauge_api::{ApiError, Clock as _, Code, RawRecord, SystemClock};
use streamgauge_kafka::{self as kafka, KafkaSource};

/// A sample that is not whole by then is given up.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 200;
/// Schemas that one record may ask for, of its key and its value.
const SCHEMAS_MAX: usize = 2;
/// The share of bad records, in percent, from which a sample is a finding of `check`.
const FINDING_PERCENT: usize = 10;

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
enum Became {
    Row(Json),
    /// Asks to forget the key of these fields.
    Delete(Json),
    Nothing,
    Bad(Code, String),
}

/// Decodes records one by one.
struct Reader {
    decoder: Decoder,
    builder: RowsBuilder,
    schemas: kafka::Schemas,
    now_us: i64,
}

impl Reader {
    fn new(event: &Arc<EventSchema>, format: &SourceFormat, source: &KafkaSource) -> Result<Self, ApiError> {
        let decoder = Decoder::new(Arc::clone(event), format)?;
        let builder = RowsBuilder::new(Arc::clone(event), Strictness::Record).with_readings(decoder.readings().to_vec());
        Ok(Self { decoder, builder, schemas: kafka::Schemas::new(source)?, now_us: SystemClock.now_us() })
    }

    /// # Errors
    /// The registry does not answer.
    fn read(&mut self, record: &RawRecord<'_>, topic: &str, partition: i32) -> Result<Became, ApiError> {
        let clock = RowClock::at(self.now_us);
        for _ in 0..=SCHEMAS_MAX {
            let decoded = self.decoder.decode(record, topic, partition, clock, &mut self.builder, 0);
            match decoded {
                Ok(Decoded::Ignored) => return Ok(Became::Nothing),
                Ok(decoded) => {
                    let row = self.row();
                    return Ok(if decoded == Decoded::Delete { Became::Delete(row) } else { Became::Row(row) });
                }
                Err(DecodeError::Bad(bad)) => return Ok(Became::Bad(bad.code, bad.reason)),
                Err(DecodeError::SchemaUnusable(error)) => return Ok(Became::Bad(error.code, error.reason)),
                Err(DecodeError::NeedSchema(id)) => match self.schemas.get(id) {
                    // One that cannot serve the event says so of the record that has it.
                    Ok(schema) => _ = self.decoder.add_schema(id, &schema),
                    Err(Ok(why)) => self.decoder.schema_missing(id, &why),
                    Err(Err(error)) => return Err(error),
                },
            }
        }
        unreachable!("a key and a value have one schema each, which are known or missing by now")
    }

    /// The row that the builder has, as the JSON of its fields.
    fn row(&mut self) -> Json {
        let rows = self.builder.finish();
        let schema = Arc::clone(self.decoder.schema());
        let fields = schema.fields.iter().enumerate().map(|(index, field)| {
            let mut text = Vec::new();
            write_json(&mut text, &value_of(rows.cell(index, field.kind, 0)));
            (field.name.to_string(), serde_json::from_slice(&text).unwrap_or(Json::Null))
        });
        Json::Object(fields.collect())
    }
}

/// Records of a topic that has no event: each is shown whole.
struct Guess {
    json: Reader,
    avro: Reader,
}

impl Guess {
    fn new(source: &KafkaSource) -> Result<Self, ApiError> {
        let value = Field { name: "value".into(), kind: FieldType::Json, optional: true };
        let event = Arc::new(EventSchema {
            id: EventId(0),
            version: 1,
            name: "record".into(),
            fields: vec![value],
            time: TimeSource::Arrival,
            max_future_us: 0,
            cold_after_us: None,
            dedupe: None,
        });
        // Only a key is taken whole, so the value is read as one.
        let of = |key_format| {
            let format = SourceFormat {
                format: Format::Raw,
                framing: Framing::None,
                fields: vec![("value".into(), FieldSource::Key)],
                readings: Vec::new(),
                tombstone: Tombstone::Row,
                key_format,
                schema: None,
                message: None,
                csv: CsvLines::default(),
                mode: DebeziumMode::default(),
            };
            Reader::new(&event, &format, source)
        };
        Ok(Self { json: of(KeyFormat::Json)?, avro: of(KeyFormat::Avro)? })
    }

    fn read(&mut self, record: &RawRecord<'_>, topic: &str, partition: i32) -> Result<Option<Json>, ApiError> {
        let as_key = RawRecord { key: record.value, value: None, headers: None, ..*record };
        let became = match record.value {
            Some([0, _, _, _, _, ..]) => self.avro.read(&as_key, topic, partition)?,
            Some([b'{' | b'[', ..]) => self.json.read(&as_key, topic, partition)?,
            _ => return Ok(None),
        };
        Ok(match became {
            Became::Row(mut row) => row.get_mut("value").map(Json::take),
            _ => None,
        })
    }
}

/// One sampled record beside what became of it.
fn told(record: &RawRecord<'_>, topic: &str, partition: i32, became: Option<&Became>, whole: Option<&Json>, json: bool) -> Vec<String> {
    let at = jiff::Timestamp::from_millisecond(record.timestamp_ms).map_or_else(|_| "no time".to_owned(), |at| format!("{at:.3}"));
    let (word, what) = match became {
        None => ("looks", Json::Null),
        Some(Became::Row(row)) => ("row", row.clone()),
        Some(Became::Delete(row)) => ("delete", row.clone()),
        Some(Became::Nothing) => ("nothing", Json::Null),
        Some(Became::Bad(code, reason)) => ("bad", json!({"code": code.as_str(), "reason": reason})),
    };
    if json {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut line = json!({"topic": topic, "partition": partition, "offset": record.offset, "timestamp_ms": record.timestamp_ms,
            "key": text(record.key), "value": text(record.value), "became": word, word: what});
        if became.is_none() {
            line["looks"] = whole.cloned().unwrap_or_default();
        }
        return vec![line.to_string()];
    }
    let part = |name: &str, bytes: Option<&[u8]>| match bytes {
        None => format!("  {name:<8} none"),
        Some(bytes) => {
            let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
            let shown = std::str::from_utf8(cut).map_or_else(|_| cut.escape_ascii().to_string(), |text| text.escape_debug().to_string());
            let more = if cut.len() < bytes.len() { format!(".. ({} bytes)", bytes.len()) } else { String::new() };
            format!("  {name:<8} {shown}{more}")
        }
    };
    let mut lines =
        vec![format!("{topic}/{partition} offset {}  {at}", record.offset), part("key", record.key), part("value", record.value)];
    match (became, whole) {
        (None, Some(whole)) => lines.push(format!("  decoded  {whole}")),
        (None, None) | (Some(Became::Nothing), _) => {
            lines.push(format!("  {word:<8} {}", if became.is_some() { "no row comes of it" } else { "neither JSON nor Avro" }))
        }
        (Some(Became::Bad(code, reason)), _) => lines.push(format!("  bad      {code}: {reason}")),
        (Some(_), _) => lines.push(format!("  {word:<8} {what}")),
    }
    lines
}

/// How many records became what.
#[derive(Debug, Default)]
struct Tally {
    records: usize,
    rows: usize,
    deletes: usize,
    nothing: usize,
    /// By code: how many, and the first.
    bad: BTreeMap<&'static str, (usize, String)>,
}

impl Tally {
    fn add(&mut self, record: &RawRecord<'_>, topic: &str, partition: i32, became: &Became) {
        self.records += 1;
        match became {
            Became::Row(_) => self.rows += 1,
            Became::Delete(_) => self.deletes += 1,
            Became::Nothing => self.nothing += 1,
            Became::Bad(code, reason) => {
                let first = || format!("{topic}/{partition} offset {}: {reason}", record.offset);
                self.bad.entry(code.as_str()).or_insert_with(|| (0, first())).0 += 1;
            }
        }
    }

    fn bad(&self) -> usize {
        self.bad.values().map(|(count, _)| count).sum()
    }

    fn sentence(&self) -> String {
        let parts = [(self.rows, "rows"), (self.deletes, "deletes"), (self.nothing, "nothing"), (self.bad(), "bad")];
        let parts: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let codes = self.bad.iter().map(|(code, (count, first))| format!("; {code} {count}, first {first}"));
        match self.records {
            0 => "no records".to_owned(),
            records => format!("of {records} records {}{}", parts.join(", "), codes.collect::<String>()),
        }
    }
}

/// What a start would make of the newest records of each source: a line for each, and problems where many are bad.
pub(super) fn of_config(config: &Config, count: usize) -> Result<(Vec<String>, Vec<ApiError>), ApiError> {
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for (setup, decoding) in config.kafka.iter().zip(&config.sources) {
        let source = plan::source(setup)?;
        let mut tally = Tally::default();
        match tallied(config, decoding, &source, count, &mut tally) {
            Ok(()) => {}
            Err(error) => {
                problems.push(error);
                continue;
            }
        }
        let line = format!("sample of source {}: {}", decoding.name, tally.sentence());
        if tally.bad() * 100 > tally.records * FINDING_PERCENT {
            let code = tally.bad.iter().max_by_key(|(_, (count, _))| *count).and_then(|(code, _)| Code::parse(code));
            problems.push(ApiError::new(code.unwrap_or(Code::DecodeMalformed), line).at(format!("sources.{}", decoding.name)));
        } else {
            lines.push(line);
        }
    }
    Ok((lines, problems))
}

fn tallied(config: &Config, decoding: &SourceSetup, source: &KafkaSource, count: usize, tally: &mut Tally) -> Result<(), ApiError> {
    let Some(event) = config.registry().event(&decoding.event) else { unreachable!("a checked source feeds an event that is declared") };
    let mut reader = Reader::new(&event.schema, &decoding.format(), source)?;
    kafka::sample(source, count, LIMIT, &mut |record, topic, partition| {
        let became = reader.read(record, topic, partition)?;
        tally.add(record, topic, partition, &became);
        Ok(())
    })?;
    Ok(())
}

/// `sample`: the newest records of a topic or a source, each beside what becomes of it.
///
/// # Errors
/// No broker or registry answers, there is no such topic, or the output cannot be written.
pub fn sample(args: &SampleArgs, console: &mut Console<'_>) -> Result<Exit, Failure> {
    if let Some(brokers) = &args.brokers {
        return guessed(args, brokers, console);
    }
    let outside = Outside { env: &environment, names: &variables, client: client_rules() };
    let config = match Config::load(Some(&args.config), &Flags::default(), &outside) {
        Ok(config) => config,
        Err(problems) => {
            refuse(&problems, console)?;
            return Ok(Exit::Finding);
        }
    };
    let reads = |topics: &TopicsSetup| topics.has(&args.topic);
    let found = config.kafka.iter().zip(&config.sources).find(|(setup, _)| setup.name == args.topic || reads(&setup.topics));
    let Some((setup, decoding)) = found else {
        let names: Vec<&str> = config.kafka.iter().map(|setup| setup.name.as_str()).collect();
        let reason =
            format!("no source of {} reads topic {} or has that name; there are {}", args.config.display(), args.topic, names.join(", "));
        let error = ApiError::new(Code::UnknownReference, reason).hint("--brokers HOST:PORT shows a topic without a config");
        return Err(error.into());
    };
    let mut setup = setup.clone();
    if reads(&setup.topics) {
        setup.topics = TopicsSetup::Named(vec![args.topic.clone()]);
    }
    let source = plan::source(&setup)?;
    let Some(event) = config.registry().event(&decoding.event) else { unreachable!("a checked source feeds an event that is declared") };
    let mut reader = Reader::new(&event.schema, &decoding.format(), &source)?;
    let (mut tally, mut lines) = (Tally::default(), Vec::new());
    kafka::sample(&source, args.limit as usize, LIMIT, &mut |record, topic, partition| {
        let became = reader.read(record, topic, partition)?;
        tally.add(record, topic, partition, &became);
        lines.extend(told(record, topic, partition, Some(&became), None, args.json));
        Ok(())
    })?;
    lines.iter().try_for_each(|line| console.line(line))?;
    console.talk(&format!("source {}, event {}: {}", decoding.name, decoding.event, tally.sentence()))?;
    Ok(if tally.bad() > 0 { Exit::Finding } else { Exit::Ok })
}

fn guessed(args: &SampleArgs, brokers: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let brokers = brokers.split(',').map(str::to_owned).collect();
    let mut source = KafkaSource::new("sample", "record", brokers, kafka::Topics::Named(vec![args.topic.clone()]));
    source.registry = args.registry.as_ref().map(|url| kafka::RegistryConfig {
        urls: vec![url.clone()],
        auth: None,
        ca: None,
        cert: None,
        key: None,
        schema_missing_grace: Duration::ZERO,
    });
    let mut guess = Guess::new(&source)?;
    let mut lines = Vec::new();
    let taken = kafka::sample(&source, args.limit as usize, LIMIT, &mut |record, topic, partition| {
        let whole = guess.read(record, topic, partition)?;
        lines.extend(told(record, topic, partition, None, whole.as_ref(), args.json));
        Ok(())
    })?;
    lines.iter().try_for_each(|line| console.line(line))?;
    console.talk(&format!("{taken} records of topic {}; with a config (-c) what becomes of each is shown", args.topic))?;
    Ok(Exit::Ok)
}
