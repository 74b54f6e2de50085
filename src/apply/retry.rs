//! Rejects decoded again: records that a schema or a config could not read when they came, and that it can read now.
//!
//! Their rows are pushed as a client's are, so that the memory limit, repetitions and a full disk are the same matter, and
//! each frame names the rejects that its rows came from: the state drops those as it applies the frame. So a reject is
//! applied once, whatever ends the process when, and a replay does the same. One retry runs at a time, and nothing else
//! takes a reject out of the log than age; where a frame is refused, the rejects behind it stay.
//!
//! What cannot be done again as it was stays too: a value of which the log kept the beginning alone, a source that reads
//! headers, which the log does not keep, and a delete, since rows of its key may have come behind it. A row has the time
//! that its record gives it, and is judged by the present clock.

use super::inlet::{REJECT_BYTES_MAX, SourceSetup, same_registry};
use super::port::Outbox;
use super::seat::Seat;
use super::work::{Ack, Round, Step};
use crate::decode::{DecodeError, Decoded, Decoder, FieldSource};
use crate::row::{RowClock, Rows, RowsBuilder, Strictness};
use crate::state::RowsContent;
use base64::Engine as _;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::control::{Reject, RejectId, Retried, RetryRequest};
use streamgauge_api::port::Wait;
use streamgauge_api::{ApiError, Clock, Code, RawRecord, Reply, Slot, Tag};

/// Rejects whose rows share a frame.
const REJECTS_PER_FRAME_MAX: usize = 1_024;
/// Bytes of rows after which a frame takes no further reject.
const BYTES_PER_FRAME: usize = 4 << 20;
/// A frame that is not answered by then is told as such; what becomes of it shows in the reject log.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// One at a time.
#[derive(Debug, Default)]
pub(super) struct Retries(Mutex<()>);

/// A source's records as they are read now.
struct Reading {
    decoder: Decoder,
    builder: RowsBuilder,
    /// Rows are tried here first.
    trial: RowsBuilder,
    /// Why none of its rejects can be read as its records are.
    unfit: Option<&'static str>,
}

impl Reading {
    fn new(setup: &SourceSetup, seat: &Seat) -> Result<Self, ApiError> {
        let registry = seat.facts.registry();
        let event = registry.known_event(&setup.event)?;
        let mut decoder = Decoder::new(Arc::clone(&event.schema), &setup.format)?;
        let known = seat.look(|engine| engine.state().schemas().to_vec());
        for schema in known.iter().filter(|schema| setup.registry_urls.iter().any(|url| same_registry(url, &schema.registry))) {
            decoder.knows_schema(schema.id, schema);
        }
        let builder = || {
            RowsBuilder::new(Arc::clone(decoder.schema()), Strictness::Record)
                .with_keys(registry.text_keys(event.schema.id))
                .with_readings(decoder.readings().to_vec())
        };
        let (builder, trial) = (builder(), builder());
        let of_header = setup.format.fields.iter().any(|(_, from)| matches!(from, FieldSource::Header(_)));
        Ok(Self { builder, trial, decoder, unfit: of_header.then_some("headers_not_kept") })
    }

    /// Decodes a reject; a row of it stands in the builder.
    fn take(&mut self, reject: &Reject, now_us: i64) -> Taken {
        let decode = |text: &Option<String>| text.as_ref().map(|text| base64::engine::general_purpose::STANDARD.decode(text)).transpose();
        let (Ok(key), Ok(value)) = (decode(&reject.key), decode(&reject.value)) else { return Taken::Stays("not_kept_whole".to_owned()) };
        let cut = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|bytes| bytes.len() >= REJECT_BYTES_MAX);
        if cut(&key) || value.as_ref().is_some_and(|value| value.len() as u64 != reject.value_len) {
            return Taken::Stays("not_kept_whole".to_owned());
        }
        if let Some(unfit) = self.unfit {
            return Taken::Stays(unfit.to_owned());
        }
        let record = RawRecord {
            slot: Slot(0),
            offset: reject.offset,
            epoch: -1,
            timestamp_ms: reject.timestamp_ms,
            key: key.as_deref(),
            value: value.as_deref(),
            headers: None,
        };
        let clock = RowClock::at(now_us);
        let tried = self.decoder.decode(&record, &reject.topic, reject.partition, clock, &mut self.trial, Decoder::NO_POSITION);
        match tried {
            Ok(Decoded::Row) => {
                drop(self.trial.finish());
                let again = self.decoder.decode(&record, &reject.topic, reject.partition, clock, &mut self.builder, Decoder::NO_POSITION);
                assert_eq!(again, Ok(Decoded::Row), "a record is decoded alike twice");
                Taken::Row
            }
            Ok(Decoded::Delete) => {
                drop(self.trial.finish());
                Taken::Stays("delete".to_owned())
            }
            Ok(Decoded::Ignored) => Taken::Nothing,
            Err(DecodeError::Bad(bad)) => Taken::Stays(bad.code.as_str().to_owned()),
            Err(DecodeError::SchemaUnusable(error)) => Taken::Stays(error.code.as_str().to_owned()),
            // Nothing is fetched here; a record that comes with the schema brings it.
            Err(DecodeError::NeedSchema(_)) => Taken::Stays(Code::SchemaMissing.as_str().to_owned()),
        }
    }
}

enum Taken {
    Row,
    /// Its record means nothing now.
    Nothing,
    /// Why it stays where it is.
    Stays(String),
}

/// What goes into one frame.
#[derive(Default)]
struct Frame {
    batches: Vec<Rows>,
    retried: Vec<RejectId>,
    bytes: usize,
}

impl Retries {
    /// Decodes the rejects again that the request names, and applies those that are rows now.
    ///
    /// # Errors
    /// A source is not configured, the log or the memory has no room; what was applied before stays applied.
    pub(super) fn run(
        &self,
        request: &RetryRequest,
        setups: &[SourceSetup],
        seat: &Arc<Seat>,
        clock: &dyn Clock,
    ) -> Result<Retried, ApiError> {
        let _one = self.0.lock();
        if !request.dry_run {
            nothing_fills(seat)?;
        }
        let chosen = |engine: &mut super::Engine| {
            let named = engine.state().rejects().filter(|reject| request.names(reject));
            named.cloned().partition(|reject| !engine.state().was_read_by_fill(reject))
        };
        let (chosen, filled): (Vec<Reject>, Vec<Reject>) = seat.look(chosen);
        let mut outcome = Retried { chosen: (chosen.len() + filled.len()) as u64, ..Retried::default() };
        if !filled.is_empty() {
            outcome.stays.insert("read_by_backfill".to_owned(), filled.len() as u64);
        }
        let mut readings: BTreeMap<&str, Reading> = BTreeMap::new();
        let mut frame = Frame::default();
        let (mut rows, mut of) = (0, None::<&str>);
        for reject in &chosen {
            let Some(setup) = setups.iter().find(|setup| setup.name == reject.source && setup.event == reject.event) else {
                *outcome.stays.entry("no_such_source".to_owned()).or_default() += 1;
                continue;
            };
            // Rows of one event become one batch as long as they follow each other.
            if let Some(before) = of.filter(|before| *before != setup.name) {
                close(readings.get_mut(before), &mut frame);
            }
            of = Some(&setup.name);
            if !readings.contains_key(setup.name.as_str()) {
                readings.insert(&setup.name, Reading::new(setup, seat)?);
            }
            let Some(reading) = readings.get_mut(setup.name.as_str()) else { unreachable!("it was just put there") };
            match reading.take(reject, clock.now_us()) {
                Taken::Row => rows += 1,
                Taken::Nothing => outcome.nothing += 1,
                Taken::Stays(why) => {
                    *outcome.stays.entry(why).or_default() += 1;
                    continue;
                }
            }
            frame.retried.push(RejectId::of(reject));
            if frame.retried.len() >= REJECTS_PER_FRAME_MAX || frame.bytes + reading.builder.size_bytes() >= BYTES_PER_FRAME {
                close(Some(reading), &mut frame);
                send(std::mem::take(&mut frame), request.dry_run, seat, &outcome)?;
                outcome.rows += std::mem::take(&mut rows);
            }
        }
        close(of.and_then(|name| readings.get_mut(name)), &mut frame);
        send(frame, request.dry_run, seat, &outcome)?;
        outcome.rows += rows;
        Ok(outcome)
    }
}

fn close(reading: Option<&mut Reading>, frame: &mut Frame) {
    if let Some(reading) = reading.filter(|reading| !reading.builder.is_empty()) {
        let rows = reading.builder.finish();
        frame.bytes += rows.words().len() * 8;
        frame.batches.push(rows);
    }
}

/// Refuses while a table is being filled.
fn nothing_fills(seat: &Arc<Seat>) -> Result<(), ApiError> {
    if seat.look(|engine| engine.state().fills().open.is_empty()) {
        return Ok(());
    }
    let reason = "a table is being filled from history, which reads such records too: they would count twice";
    Err(ApiError::new(Code::TableFilling, reason).hint("try again when it is filled"))
}

/// Pushes a frame and waits for its answer.
fn send(frame: Frame, dry_run: bool, seat: &Arc<Seat>, before: &Retried) -> Result<(), ApiError> {
    if frame.retried.is_empty() || dry_run {
        return Ok(());
    }
    nothing_fills(seat)?;
    let content = RowsContent { batches: frame.batches, retried: frame.retried, ..RowsContent::default() };
    let Ok(count) = u32::try_from(content.rows()) else { unreachable!("a frame has at most {REJECTS_PER_FRAME_MAX} rows of rejects") };
    assert!(content.rows() <= content.retried.len(), "a reject becomes one row at most");
    let tag = Tag(0);
    let answered = Arc::new((Mutex::new(false), Condvar::new()));
    let outbox = Arc::new(Outbox::default());
    let wakes = Arc::clone(&answered);
    outbox.wake_by(Arc::new(move || {
        *wakes.0.lock() = true;
        wakes.1.notify_all();
    }));
    let acks = vec![Ack { tag, first_row: 0, count, wait: Wait::Default }];
    seat.offer_round(Round::new(Arc::clone(&outbox), std::iter::once(Step::Rows { content, acks }).collect()));
    let deadline = std::time::Instant::now() + ANSWER_WITHIN;
    let done = |error: ApiError| error.with("rows", before.rows.into());
    loop {
        if let Some((_, reply)) = outbox.take().pop() {
            return match reply {
                Reply::Pushed { .. } => Ok(()),
                Reply::Refused(error, _) => Err(done(*error)),
                other => unreachable!("a push is answered with an LSN or a refusal, not with {other:?}"),
            };
        }
        let mut woken = answered.0.lock();
        if !*woken && answered.1.wait_until(&mut woken, deadline).timed_out() {
            return Err(done(ApiError::new(Code::Overloaded, "the rows of rejects are written, and nothing says that they are applied")));
        }
        *woken = false;
    }
}
