//! The engine's side of a Kafka ingest thread: decodes records on that thread into packets, and hands packets to the seat.

use super::codec::{reject_bytes, rows_bytes, shortened};
use super::engine::POSITIONS_BYTES_MAX;
use super::facts::Facts;
use super::floods::{Now, Tally, Told};
use super::incidents::{IncidentText, Subject};
use super::partition_clock;
use super::seat::Seat;
use super::work::{InletId, Packet, ReadAgain};
use crate::decode::{BadRow, DecodeError, Decoded, Decoder, SourceFormat};
use crate::row::{EventId, ROW_BYTES_MAX, Rows, RowsBuilder, Strictness};
use crate::state::{Content, RowsContent, WaitingOffsets};
use crate::wal::FRAME_BODY_BYTES_MAX;
use base64::Engine as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use streamgauge_api::control::Reject;
use streamgauge_api::decision::GoOn;
use streamgauge_api::inlet::{FetchedSchema, Inlet, Offered, RawRecord, ReadBefore, Stop};
use streamgauge_api::metrics::{Metrics, SourceSeries};
use streamgauge_api::source::{Incident, IncidentKind, PartitionGauge, SourceBoard};
use streamgauge_api::{ApiError, Clock, Code, PartitionKey, Position, SchemaId, Slot};

/// Rows and rejects of one packet.
const ROWS_PER_PACKET: usize = 1024;
/// A packet of this size takes no further record, so that it is larger by one record at most.
const BYTES_PER_PACKET: usize = 4 << 20;
/// Bytes of a rejected record's key that are kept, and of its value.
pub(super) const REJECT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 1 << 10;
/// Bytes of a schema with all that it refers to; each may be escaped in its frame.
const SCHEMA_BYTES_MAX: usize = 10 << 20;
/// How long a decision about a partition waits for what was read of its source before.
const APPLIED_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of all schemas that the state keeps: each may be escaped in the one section of a snapshot that they share with
/// positions and rejects.
const SCHEMAS_BYTES_MAX: usize = 12 << 20;
/// Bytes of a text in an incident that are kept: brokers and registries may say anything.
const INCIDENT_TEXT_BYTES_MAX: usize = 8 << 10;

// A full packet, one more record at its largest (a row, or a reject with its bytes as base64 and every
// byte of its reason escaped), and the positions of all partitions that can be known, fit into a frame.
const _: () =
    assert!(BYTES_PER_PACKET + ROW_BYTES_MAX + (4 * REJECT_BYTES_MAX + 6 * REASON_BYTES_MAX) + POSITIONS_BYTES_MAX < FRAME_BODY_BYTES_MAX);

/// What happens to a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadRecord {
    /// Into the reject log; the position moves on.
    Keep,
    /// Counted; the position moves on.
    Skip,
    /// The partition stops.
    Stop,
}

/// One `[sources.x]` section as the engine needs it.
#[derive(Debug, Clone)]
pub struct SourceSetup {
    /// Its name.
    pub name: String,
    /// The event that it feeds.
    pub event: String,
    /// How its records become rows.
    pub format: SourceFormat,
    /// What happens to bad ones.
    pub on_bad_record: OnBadRecord,
    /// URLs of its registry; schemas in the state that came from one of them need no fetching.
    pub registry_urls: Vec<String>,
}

/// A source's decoder and the rows it is writing.
struct Feed {
    setup: SourceSetup,
    decoder: Decoder,
    builder: RowsBuilder,
    /// Whether a writer schema of it was ever usable, as the state knows it; where records name none there is nothing to know.
    readable: bool,
    event: EventId,
    schema_version: u32,
    /// Of the registry that the builder's keys are from.
    registry_version: u64,
    series: SourceSeries,
    /// Records of the packet being built.
    tally: Tally,
}

/// An attached partition.
struct Attached {
    feed: usize,
    topic: String,
    partition: i32,
    position: Position,
    /// Index into the positions of the packet being built.
    in_packet: Option<u32>,
    /// Records in the packet being built.
    records: u64,
    /// What the state had of the partition beyond its position, while that is read again.
    again: Option<WaitingOffsets>,
    /// From where it was read again since the last packet.
    again_from: Option<i64>,
    /// Records since then that waited and are there still.
    found: u64,
}

impl Attached {
    /// A partition that goes on at this position; `again` is what the state had beyond it.
    fn new(feed: usize, key: &PartitionKey, position: Position, again: Option<WaitingOffsets>) -> Self {
        let again_from = again.as_ref().map(|_| position.offset);
        let (topic, partition) = (key.topic.clone(), key.partition);
        Self { feed, topic, partition, position, in_packet: None, records: 0, again, again_from, found: 0 }
    }

    /// What a record means that stands in front of where reading had come to before: nothing, when it is done.
    fn again(&mut self, record: &RawRecord<'_>) -> Again {
        if let Some(again) = self.again.take_if(|again| record.offset >= again.reached().offset) {
            self.position = again.reached();
        }
        if record.offset < self.position.offset {
            return Again::Done;
        }
        let Some(again) = &self.again else { return Again::Further };
        let reached = again.reached();
        // Epochs ascend with offsets: records in front of one are of its epoch or of an earlier one.
        if reached.epoch >= 0 && record.epoch > reached.epoch {
            return Again::Rewritten { reached };
        }
        if again.waits(record.offset) { Again::Waits } else { Again::Done }
    }

    /// Moves behind a record, or to where reading had come to before.
    fn pass(&mut self, position: Position) {
        if position.offset <= self.position.offset {
            return;
        }
        self.position = position;
        if let Some(again) = self.again.take_if(|again| position.offset >= again.reached().after) {
            let reached = again.reached();
            if position.offset <= reached.offset {
                // From here on as if it had never been read again, the partition's clock included.
                self.position = reached;
            }
        }
    }
}

/// What is to be done with a record.
enum Again {
    /// It was never read.
    Further,
    /// It was read, and waits for room.
    Waits,
    /// It is in the tables, or was rejected.
    Done,
    /// It is another record than the one that was read.
    Rewritten { reached: Position },
}

/// See the module's head.
pub struct EngineInlet {
    seat: Arc<Seat>,
    board: Arc<SourceBoard>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    setups: Vec<SourceSetup>,
    feeds: Vec<Feed>,
    feed_by_source: HashMap<String, usize>,
    slots: Vec<Option<Attached>>,
    in_packet: Vec<u32>,
    rejects: Vec<Reject>,
    /// Bytes of the rejects in a frame.
    reject_bytes: usize,
    rows: usize,
    oldest_ms: i64,
    blocked: Option<Packet>,
    id: InletId,
}

impl EngineInlet {
    /// An inlet for one ingest thread, which may attach partitions of any of these sources.
    pub fn new(seat: Arc<Seat>, board: Arc<SourceBoard>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, setups: Vec<SourceSetup>) -> Self {
        Self {
            id: seat.add_inlet(),
            seat,
            board,
            clock,
            metrics,
            setups,
            feeds: Vec::new(),
            feed_by_source: HashMap::new(),
            slots: Vec::new(),
            in_packet: Vec::new(),
            rejects: Vec::new(),
            reject_bytes: 0,
            rows: 0,
            oldest_ms: -1,
            blocked: None,
        }
    }

    fn feed(&mut self, source: &str) -> Result<usize, ApiError> {
        if let Some(&index) = self.feed_by_source.get(source) {
            return Ok(index);
        }
        let setup = self
            .setups
            .iter()
            .find(|setup| setup.name == source)
            .cloned()
            .ok_or_else(|| ApiError::new(Code::UnknownReference, format!("no source \"{source}\" is configured")))?;
        let registry = self.seat.facts.registry();
        let event = registry.event(&setup.event).ok_or_else(|| {
            ApiError::new(Code::EventNotFound, format!("source \"{source}\" feeds \"{}\", which is not declared", setup.event))
        })?;
        let mut decoder = Decoder::new(Arc::clone(&event.schema), &setup.format)?;
        let (known, readable) = self.seat.look(|engine| (engine.state().schemas().to_vec(), engine.state().is_readable(source)));
        for schema in known.iter().filter(|schema| setup.registry_urls.iter().any(|url| same_registry(url, &schema.registry))) {
            decoder.knows_schema(schema.id, schema);
        }
        let feed = Feed {
            builder: builder_of(&decoder, &registry, event.schema.id),
            event: event.schema.id,
            schema_version: event.schema.version,
            registry_version: registry.version,
            series: self.metrics.source_series(source),
            readable: readable || !decoder.needs_schemas(),
            decoder,
            setup,
            tally: Tally::default(),
        };
        self.feeds.push(feed);
        self.feed_by_source.insert(source.to_owned(), self.feeds.len() - 1);
        Ok(self.feeds.len() - 1)
    }

    fn attached(&mut self, slot: Slot) -> Option<&mut Attached> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Index of the slot among the positions of the packet being built.
    fn packet_index(in_packet: &mut Vec<u32>, attached: &mut Attached, slot: Slot) -> u32 {
        *attached.in_packet.get_or_insert_with(|| {
            in_packet.push(slot.0);
            match u32::try_from(in_packet.len() - 1) {
                Ok(index) => index,
                Err(_) => unreachable!("slots are counted in 32 bits, and each stands in a packet once"),
            }
        })
    }

    /// Whether the packet being built takes no further record: what it holds is counted as its frame will have it.
    fn is_packet_full(&self) -> bool {
        let rows: usize = self.feeds.iter().map(|feed| feed.builder.size_bytes()).sum();
        self.rows + self.rejects.len() >= ROWS_PER_PACKET
            || rows + self.reject_bytes >= BYTES_PER_PACKET
            || self.feeds.iter().any(|feed| feed.builder.is_full())
    }

    /// Brings what was read of a partition to the apply thread; others of the source may wait. Returns the partition's feed.
    fn hand_over(&mut self, slot: Slot) -> Result<usize, ApiError> {
        let Some(Some(attached)) = self.slots.get(slot.0 as usize) else {
            return Err(ApiError::new(Code::InternalError, format!("slot {} is not attached", slot.0)));
        };
        let feed = attached.feed;
        let is_here = attached.in_packet.is_some() || self.blocked.as_ref().is_some_and(|packet| packet.names(slot));
        if (is_here && !self.send()) || !self.seat.wait_packets_taken(self.id, slot, APPLIED_WITHIN) {
            let reason = "records of the partition that were read before are not applied yet";
            let hint = "decide again when they are: `streamgauge status` says what they wait for";
            return Err(ApiError::new(Code::Overloaded, reason).hint(hint));
        }
        Ok(feed)
    }

    /// Ends the packet being built and queues it; false when the queue is full (it is kept and offered again).
    fn send(&mut self) -> bool {
        if let Some(packet) = self.blocked.take()
            && let Err(packet) = self.seat.offer_packet(packet)
        {
            self.blocked = Some(*packet);
            return false;
        }
        if self.in_packet.is_empty() {
            return true;
        }
        let mut positions = Vec::with_capacity(self.in_packet.len());
        let mut records = Vec::with_capacity(self.in_packet.len());
        let mut again = Vec::new();
        for slot in self.in_packet.drain(..) {
            let Some(Some(attached)) = self.slots.get_mut(slot as usize) else {
                unreachable!("slot {slot} is in the packet, so it is attached");
            };
            assert!(attached.position.after <= attached.position.offset, "slot {slot} has applied what it has not read");
            assert_eq!(attached.in_packet.map(|index| index as usize), Some(positions.len()), "runs name positions by their place");
            positions.push((Slot(slot), attached.position));
            if let Some(from) = attached.again_from {
                let found = std::mem::take(&mut attached.found);
                again.push(ReadAgain { slot: Slot(slot), from, to: attached.position.offset, found });
                attached.again_from = attached.again.is_some().then_some(attached.position.offset);
            }
            records.push((slot, std::mem::take(&mut attached.records)));
            attached.in_packet = None;
        }
        for feed in self.feeds.iter_mut().filter(|feed| !feed.readable && !feed.builder.is_empty()) {
            feed.was_read(&self.seat);
        }
        let filled = self.feeds.iter_mut().filter(|feed| !feed.builder.is_empty());
        let batches: Vec<Rows> = filled.map(|feed| feed.builder.finish()).collect();
        assert_eq!(batches.iter().map(Rows::len).sum::<usize>(), self.rows, "every row that was counted is in a batch");
        assert_eq!(positions.len(), records.len(), "every position comes with its count of records");
        debug_assert!(
            batches.iter().flat_map(Rows::runs).all(|run| (run.position as usize) < positions.len()),
            "runs name positions that are there"
        );
        let content = RowsContent { positions, batches, rejects: std::mem::take(&mut self.rejects), ..RowsContent::default() };
        self.tell_tallies();
        let bytes = rows_bytes(&content);
        assert!(bytes <= FRAME_BODY_BYTES_MAX, "a packet of {bytes} bytes fits into no frame");
        let packet = Packet { inlet: self.id, content, records, again, oldest_ms: self.oldest_ms, bytes };
        self.reject_bytes = 0;
        self.rows = 0;
        self.oldest_ms = -1;
        match self.seat.offer_packet(packet) {
            Ok(()) => true,
            Err(packet) => {
                self.blocked = Some(*packet);
                false
            }
        }
    }

    /// Says how many records of each source are bad. A source that stops at one has an incident of its own.
    fn tell_tallies(&mut self) {
        let now = Now { wall_us: self.clock.now_us(), passed_us: self.clock.boot_us() };
        let Facts { floods, incidents, .. } = &*self.seat.facts;
        for feed in self.feeds.iter_mut().filter(|feed| feed.tally.records > 0) {
            let Tally { records, bad, first, last } = std::mem::take(&mut feed.tally);
            if feed.setup.on_bad_record == OnBadRecord::Stop {
                continue;
            }
            let place = |slot: u32, offset: i64, code: Code| match self.slots.get(slot as usize) {
                Some(Some(attached)) => format!("{}/{} offset {offset}: {code}", attached.topic, attached.partition),
                _ => unreachable!("records are of partitions that are attached"),
            };
            let first =
                first.map(|(slot, offset, code, reason)| format!("{}: {}", place(slot, offset, code), shortened(reason, REASON_BYTES_MAX)));
            let last = last.map(|(slot, offset, code)| place(slot, offset, code));
            let keeps = feed.setup.on_bad_record == OnBadRecord::Keep;
            let told = Told { records, bad, first: first.unwrap_or_default(), last: last.unwrap_or_default(), keeps };
            floods.add(incidents, &feed.setup.name, told, now);
        }
    }

    /// Takes one record.
    #[expect(clippy::result_large_err, reason = "a stop is rare and goes straight into the answer")]
    fn take(&mut self, record: &RawRecord<'_>, behind: &[RawRecord<'_>], now_us: i64) -> Result<(), Stop> {
        let slot = record.slot;
        let Some(Some(attached)) = self.slots.get_mut(slot.0 as usize) else {
            let error = ApiError::new(Code::InternalError, format!("slot {} is not attached", slot.0));
            return Err(Stop::Stalled { slot, cause: "unknown", error });
        };
        let Some(feed) = self.feeds.get_mut(attached.feed) else {
            let error = ApiError::new(Code::InternalError, "the partition has no source");
            return Err(Stop::Stalled { slot, cause: "unknown", error });
        };
        let next = record.offset + 1;
        let again = attached.again(record);
        let (clock_ms, clock) = partition_clock::advance(attached.position, record, behind, now_us);
        let position = Position { offset: next, after: next, epoch: record.epoch, record_time_ms: record.timestamp_ms, clock_ms };
        match again {
            Again::Further | Again::Waits => {}
            Again::Done => {
                // Nothing to say of it, unless what waited in front of it is gone from the log.
                attached.pass(position);
                if attached.again.is_none() && attached.again_from.is_some() {
                    Self::packet_index(&mut self.in_packet, attached, slot);
                }
                return Ok(());
            }
            Again::Rewritten { reached } => {
                let evidence = format!(
                    "the record at offset {} is of leader epoch {}, the one at {} was of epoch {} when it was read",
                    record.offset,
                    record.epoch,
                    reached.after - 1,
                    reached.epoch
                );
                return Err(Stop::Truncated { slot, from: reached.after, to: record.offset, evidence });
            }
        }
        let index = Self::packet_index(&mut self.in_packet, attached, slot);
        let decoded = feed.decoder.decode(record, &attached.topic, attached.partition, clock, &mut feed.builder, index);
        feed.tally.records += 1;
        match decoded {
            Ok(Decoded::Row | Decoded::Delete) => {
                self.rows += 1;
                if record.timestamp_ms >= 0 && (self.oldest_ms < 0 || record.timestamp_ms < self.oldest_ms) {
                    self.oldest_ms = record.timestamp_ms;
                }
            }
            Ok(Decoded::Ignored) => {}
            Err(unfit) => {
                let bad = match unfit {
                    DecodeError::Bad(bad) => bad,
                    DecodeError::SchemaUnusable(error) if feed.has_read() => (*error).into(),
                    DecodeError::SchemaUnusable(error) => return Err(Stop::Stalled { slot, cause: "schema", error: *error }),
                    DecodeError::NeedSchema(id) => return Err(Stop::NeedSchema { slot, id }),
                };
                feed.series.bad(bad.code).inc();
                self.seat.facts.count_bad(&feed.setup.event);
                feed.tally.take_bad(slot.0, record.offset, bad.code, &bad.reason);
                match feed.setup.on_bad_record {
                    OnBadRecord::Keep => {
                        let reject = reject(feed, attached, record, &bad, now_us);
                        self.reject_bytes += reject_bytes(&reject);
                        self.rejects.push(reject);
                    }
                    OnBadRecord::Skip => {}
                    OnBadRecord::Stop => {
                        let place = format!("{}/{} offset {}", attached.topic, attached.partition, record.offset);
                        let reason = format!("{place}: {}; {}", bad.reason, shown(record));
                        let error = ApiError { reason, ..ApiError::from(*bad) };
                        return Err(Stop::Stalled { slot, cause: "bad_record", error });
                    }
                }
            }
        }
        attached.found += u64::from(matches!(again, Again::Waits));
        attached.pass(position);
        attached.records += 1;
        Ok(())
    }

    /// Follows a changed declaration of the event (a field was added while running) or of its tables' keys.
    fn follow_registry(&mut self) {
        let version = self.seat.facts.registry_version.load(Ordering::Acquire);
        for feed in self.feeds.iter_mut().filter(|feed| feed.registry_version != version && feed.builder.is_empty()) {
            let registry = self.seat.facts.registry();
            let Some(event) = registry.event_by_id(feed.event) else { continue };
            if event.schema.version != feed.schema_version {
                // The decoder keeps its plans; declarations from a config file change at restarts only, so this is rare and may fetch schemas again.
                let Ok(decoder) = Decoder::new(Arc::clone(&event.schema), &feed.setup.format) else { continue };
                feed.decoder = decoder;
                feed.schema_version = event.schema.version;
            }
            feed.builder = builder_of(&feed.decoder, &registry, feed.event);
            feed.registry_version = registry.version;
        }
    }

    /// Writes a change of a slot's incident to the log. What the state has is compared, never the gauge: the source shows an incident there before it tells us.
    fn incident(&mut self, slot: Slot, incident: Option<Incident>) {
        let kind = incident.as_ref().map(|opened| opened.kind);
        let incident = incident.map(|opened| Incident {
            lost: shortened(opened.lost, INCIDENT_TEXT_BYTES_MAX),
            holds: shortened(opened.holds, INCIDENT_TEXT_BYTES_MAX),
            evidence: shortened(opened.evidence, INCIDENT_TEXT_BYTES_MAX),
            ..opened
        });
        let written = self.seat.with(|engine| match engine.state().has_incident(slot, incident.as_ref()) {
            true => Ok(false),
            false => engine.commit(&Content::Incident { slot, incident }).map(|_| true),
        });
        match (written, kind) {
            (Ok(true), Some(kind)) => self.metrics.incidents(kind).inc(),
            (Ok(_), _) => {}
            (Err(error), _) => tracing::warn!(%error, "an incident could not be written to the WAL; it is shown all the same"),
        }
    }
}

impl Feed {
    /// Whether a writer schema of it was ever usable: rows at hand say so before the state does.
    fn has_read(&self) -> bool {
        self.readable || !self.builder.is_empty()
    }

    /// A writer schema of it was usable. Remembered in the log, so that restarts judge the others alike.
    fn was_read(&mut self, seat: &Seat) {
        let content = Content::Readable { source: self.setup.name.as_str().into() };
        match seat.with(|engine| if engine.state().is_readable(&self.setup.name) { Ok(0) } else { engine.commit(&content) }) {
            Ok(_) => self.readable = true,
            // Nothing is lost: the next packet says it again.
            Err(error) => tracing::debug!(%error, source = %self.setup.name, "that a schema was usable could not be written to the WAL"),
        }
    }
}

/// A partition as it is shown when it is attached, or goes on, here.
fn gauge_at(source: &str, key: &PartitionKey, position: Position) -> PartitionGauge {
    let gauge = PartitionGauge::new(source, key.clone(), position.offset);
    gauge.applied_time_ms.store(position.reached_ms(), Ordering::Relaxed);
    gauge
}

/// What an incident says of a partition that stands since the start: what waits was in memory when it opened, and is in
/// the log alone now.
fn with_waiting(open: Incident, again: Option<&WaitingOffsets>) -> Incident {
    let stands = open.kind.stops() && open.kind != IncidentKind::Stalled;
    let waiting = again.map_or(0, |again| again.runs().iter().map(|(from, to)| to - from).sum::<i64>());
    if !stands || waiting == 0 {
        return open;
    }
    let lost = format!("{}; {waiting} records wait for room, and are read again when it goes on, as far as the log has them", open.lost);
    Incident { lost, ..open }
}

fn bytes_of(schema: &FetchedSchema) -> usize {
    schema.text.len() + schema.references.iter().map(|reference| reference.name.len() + reference.text.len()).sum::<usize>()
}

pub(super) fn same_registry(url: &str, stored: &str) -> bool {
    url.trim_end_matches('/') == stored.trim_end_matches('/')
}

/// A builder of what this decoder decodes.
fn builder_of(decoder: &Decoder, registry: &crate::pipeline::Registry, event: EventId) -> RowsBuilder {
    RowsBuilder::new(Arc::clone(decoder.schema()), Strictness::Record)
        .with_keys(registry.text_keys(event))
        .with_readings(decoder.readings().to_vec())
}

/// Bytes of a record that are shown where it stops its partition.
const SHOWN_BYTES_MAX: usize = 64;

/// The beginning of a record's value and key, readable bytes as they are.
fn shown(record: &RawRecord<'_>) -> String {
    let part = |what: &str, bytes: Option<&[u8]>| match bytes {
        None => format!("it has no {what}"),
        Some(bytes) => {
            let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
            // A character that the cut went through is no reason to show the others as bytes.
            let text = std::str::from_utf8(cut).or_else(|error| match error.error_len() {
                None => std::str::from_utf8(&cut[..error.valid_up_to()]),
                Some(_) => Err(error),
            });
            let shown = text.map_or_else(|_| cut.escape_ascii().to_string(), |text| text.escape_debug().to_string());
            let more = if cut.len() < bytes.len() { ".." } else { "" };
            format!("{what} of {} bytes: {shown}{more}", bytes.len())
        }
    };
    format!("{}; {}", part("value", record.value), part("key", record.key))
}

#[cold]
fn reject(feed: &Feed, attached: &Attached, record: &RawRecord<'_>, bad: &BadRow, now_us: i64) -> Reject {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(&bytes[..bytes.len().min(REJECT_BYTES_MAX)]);
    Reject {
        lsn: 0,
        at_us: now_us,
        event: feed.setup.event.clone(),
        source: feed.setup.name.clone(),
        topic: attached.topic.clone(),
        partition: attached.partition,
        offset: record.offset,
        code: bad.code.as_str().to_owned(),
        reason: shortened(bad.reason.clone(), REASON_BYTES_MAX),
        schema_id: feed.decoder.schema_id_of(record),
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(encode),
        value: record.value.map(encode),
        value_len: record.value.map_or(0, |value| value.len() as u64),
    }
}

impl Inlet for EngineInlet {
    fn attach(&mut self, source: &str, key: &PartitionKey, start: Position) -> Result<(Slot, Position), ApiError> {
        let feed = self.feed(source)?;
        let (slot, position, incident, again) = self.seat.with(|engine| {
            let (slot, position) = engine.attach(key, start)?;
            let open = engine.state().incidents().find(|(known, _)| *known == slot).map(|(_, incident)| incident.clone());
            Ok::<_, ApiError>((slot, position, open, engine.state().waiting_of(slot).cloned()))
        })?;
        if let Some(other) = self.board.get(slot.0).filter(|known| known.source != source) {
            let reason =
                format!("source \"{source}\" and source \"{}\" both feed {} from {}/{}", other.source, key.event, key.topic, key.partition);
            return Err(ApiError::new(Code::SourceConflict, reason));
        }
        let incident = incident.map(|open| with_waiting(open, again.as_ref()));
        let gauge = gauge_at(source, key, position);
        if let Ok(mut open) = gauge.incident.write() {
            *open = incident;
        }
        self.board.put(slot.0, Arc::new(gauge));
        if self.slots.len() <= slot.0 as usize {
            self.slots.resize_with(slot.0 as usize + 1, || None);
        }
        self.slots[slot.0 as usize] = Some(Attached::new(feed, key, position, again));
        Ok((slot, position))
    }

    fn offer(&mut self, records: &[RawRecord<'_>]) -> Offered {
        let now_us = self.clock.now_us();
        if self.rows == 0 {
            self.follow_registry();
        }
        for (taken, record) in records.iter().enumerate() {
            if (self.blocked.is_some() || self.is_packet_full()) && !self.send() {
                return Offered { taken, stop: Some(Stop::Full) };
            }
            if let Err(stop) = self.take(record, &records[taken + 1..], now_us) {
                return Offered { taken, stop: Some(stop) };
            }
        }
        Offered { taken: records.len(), stop: None }
    }

    fn end_of_partition(&mut self, slot: Slot, offset: i64) -> bool {
        let Some(Some(attached)) = self.slots.get_mut(slot.0 as usize) else { return true };
        if attached.again.as_ref().is_some_and(|again| offset < again.reached().offset) {
            return false;
        }
        if let Some(again) = attached.again.take_if(|again| offset >= again.reached().offset) {
            attached.position = again.reached();
            Self::packet_index(&mut self.in_packet, attached, slot);
        }
        if offset > attached.position.offset {
            attached.pass(Position { offset, ..attached.position });
            Self::packet_index(&mut self.in_packet, attached, slot);
        }
        true
    }

    fn read_before(&self, slot: Slot) -> Option<ReadBefore> {
        // Asked for each partition before it is assigned: no seat is needed, since what was not read again stands as it stood.
        let again = self.slots.get(slot.0 as usize)?.as_ref()?.again.as_ref()?;
        Some(ReadBefore { reached: again.reached(), waits: again.runs().to_vec() })
    }

    fn flush(&mut self) -> bool {
        self.send()
    }

    fn wait_room(&mut self, limit: Duration) -> bool {
        self.seat.wait_packet_room(self.id, limit)
    }

    fn schema(&mut self, slot: Slot, schema: &FetchedSchema) -> Result<(), ApiError> {
        let Some(feed) = self.attached(slot).map(|attached| attached.feed) else {
            return Err(ApiError::new(Code::InternalError, format!("slot {} is not attached", slot.0)));
        };
        let bytes = bytes_of(schema);
        if bytes > SCHEMA_BYTES_MAX {
            let reason = format!("schema id {} takes {bytes} bytes with its references, at most {SCHEMA_BYTES_MAX}", schema.id);
            let error = ApiError::new(Code::SchemaUnusable, reason);
            let Some(feed) = self.feeds.get_mut(feed) else { unreachable!("an attached slot has its feed") };
            feed.decoder.schema_unusable(schema.id, error.clone());
            return if feed.has_read() { Ok(()) } else { Err(error) };
        }
        let content = Content::Schema(schema.clone());
        let kept = self.seat.with(|engine| {
            let known =
                engine.state().schemas().iter().any(|known| known.id == schema.id && same_registry(&known.registry, &schema.registry));
            let held: usize = engine.state().schemas().iter().map(bytes_of).sum();
            match known {
                true => Ok(true),
                // Read as well as any other, and fetched again by the next start.
                false if held + bytes > SCHEMAS_BYTES_MAX => Ok(false),
                false => engine.commit(&content).map(|_| true),
            }
        })?;
        if !kept {
            tracing::warn!(
                id = %schema.id,
                bytes,
                "the state holds {SCHEMAS_BYTES_MAX} bytes of schemas: this one is not kept, and a restart needs the registry for it"
            );
        }
        let Some(feed) = self.feeds.get_mut(feed) else { unreachable!("an attached slot has its feed") };
        match feed.decoder.add_schema(schema.id, schema) {
            Ok(()) if feed.readable => Ok(()),
            Ok(()) => {
                feed.was_read(&self.seat);
                Ok(())
            }
            // Its records are bad ones, and `on_bad_record` says what becomes of them.
            Err(_) if feed.has_read() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn schema_missing(&mut self, slot: Slot, id: SchemaId, detail: &str) {
        let Some(feed) = self.attached(slot).map(|attached| attached.feed) else { return };
        if let Some(feed) = self.feeds.get_mut(feed) {
            feed.decoder.schema_missing(id, detail);
        }
    }

    fn incident_opened(&mut self, slot: Slot, incident: &Incident) {
        self.incident(slot, Some(incident.clone()));
    }

    fn incident_closed(&mut self, slot: Slot) {
        self.incident(slot, None);
    }

    fn may_go_on(&mut self, slot: Slot, decided: &GoOn) -> Result<(), ApiError> {
        self.hand_over(slot)?;
        self.seat.with(|engine| engine.moved(self.id, slot, decided).map(drop))
    }

    fn go_on(&mut self, slot: Slot, decided: &GoOn) -> Result<(), ApiError> {
        let feed = self.hand_over(slot)?;
        let id = self.id;
        let (position, again) = self.seat.with(|engine| {
            engine.move_partition(id, slot, decided)?;
            let state = engine.state();
            Ok::<_, ApiError>((state.partitions()[slot.0 as usize].position, state.waiting_of(slot).cloned()))
        })?;
        let shown = self.board.take(slot.0);
        self.slots[slot.0 as usize] = None;
        if decided.position.is_none() {
            return Ok(());
        }
        self.slots[slot.0 as usize] = Some(Attached::new(feed, &decided.key, position, again));
        if let Some(shown) = shown {
            let gauge = gauge_at(&shown.source, &decided.key, position);
            // What is counted since the start goes on.
            gauge.read_records.store(shown.read_records.load(Ordering::Relaxed), Ordering::Relaxed);
            gauge.applied_records.store(shown.applied_records.load(Ordering::Relaxed), Ordering::Relaxed);
            self.board.put(slot.0, Arc::new(gauge));
        }
        Ok(())
    }

    fn source_incident(&mut self, source: &str, incident: Option<Incident>) {
        let (incidents, subject) = (&self.seat.facts.incidents, Subject::source(source));
        let Some(incident) = incident else {
            incidents.close(IncidentKind::Stalled, &subject);
            return;
        };
        assert_eq!(incident.kind, IncidentKind::Stalled, "a whole source waits; only partitions know more");
        let Incident { kind, cause, opened_us, lost, holds, evidence, actions, resume_offset: _ } = incident;
        incidents.open(kind, &subject, opened_us, || IncidentText {
            cause,
            lost,
            holds,
            evidence: shortened(evidence, INCIDENT_TEXT_BYTES_MAX),
            actions,
        });
    }

    fn durable_positions(&self) -> Vec<(Slot, Position)> {
        self.seat.look(|engine| engine.durable_positions())
    }

    fn stopping(&self) -> bool {
        self.seat.is_stopping()
    }
}
