//! The engine's side of one data-plane I/O thread: decodes pushes on that thread, then runs the round on the seat or leaves it there.

use super::facts::Facts;
use super::seat::{PORT_REQUESTS_MAX, Seat};
use super::work::{Ack, Round, Step, weight_of};
use crate::decode::PushDecoder;
use crate::row::{ROW_BYTES_MAX, RowsBuilder, Strictness};
use crate::state::RowsContent;
use crate::wal::FRAME_BODY_BYTES_MAX;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use streamgauge_api::metrics::{EventSeries, Metrics};
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::{ApiError, Clock, Code, Port, Reply, Tag};

/// Rows of one frame are bounded, so that no frame holds the seat for long.
const ROWS_PER_FRAME_MAX: usize = 1024;
/// A shared frame of this size takes no further push, so that it is larger by one row at most.
const BYTES_PER_FRAME: usize = 4 << 20;
/// Rows of one batch request.
const ROWS_PER_REQUEST_MAX: usize = 65_536;
/// Bytes that the rows of one batch request take in their frame, up to its last row.
const BYTES_PER_REQUEST_MAX: usize = 32 << 20;

// A frame that takes no further row, and one row at its largest, fit into the log.
const _: () = assert!(BYTES_PER_FRAME < BYTES_PER_REQUEST_MAX && BYTES_PER_REQUEST_MAX + ROW_BYTES_MAX < FRAME_BODY_BYTES_MAX);

/// Replies on their way to an I/O thread.
#[derive(Default)]
pub struct Outbox {
    replies: Mutex<Vec<(Tag, Reply)>>,
    /// What takes long to free: that is done by the I/O thread, not on the seat.
    waste: Mutex<Vec<Box<dyn Send>>>,
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// The I/O thread itself runs the seat now: it will look by itself.
    inside: AtomicBool,
}

impl Outbox {
    /// Adds a reply without waking anybody; [`Outbox::ready`] follows.
    pub(crate) fn add(&self, tag: Tag, reply: Reply) {
        self.replies.lock().push((tag, reply));
    }

    /// Leaves something to the I/O thread to free.
    pub(crate) fn discard(&self, waste: Box<dyn Send>) {
        self.waste.lock().push(waste);
    }

    /// Wakes the I/O thread, unless it is the one that runs this.
    pub(crate) fn ready(&self) {
        if self.inside.load(Ordering::Acquire) {
            return;
        }
        if let Some(wake) = self.wake.lock().as_ref() {
            wake();
        }
    }

    /// Who is woken by replies.
    pub(crate) fn wake_by(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.wake.lock() = Some(wake);
    }

    /// The replies that are there.
    pub(crate) fn take(&self) -> Vec<(Tag, Reply)> {
        std::mem::take(&mut *self.replies.lock())
    }

    /// Adds a reply and wakes the I/O thread.
    pub(crate) fn send(&self, tag: Tag, reply: Reply) {
        self.add(tag, reply);
        self.ready();
    }
}

/// Where a port finds the seat: none until recovery has finished.
pub type SeatSlot = Arc<std::sync::OnceLock<Arc<Seat>>>;

/// See the module's head.
pub struct EnginePort {
    seat: SeatSlot,
    facts: Arc<Facts>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    refuse_control: bool,
    outbox: Arc<Outbox>,
    version: u64,
    events: HashMap<Box<str>, PushEvent>,
    open: Vec<Box<str>>,
    acks: Vec<Ack>,
    rows: u32,
    steps: Vec<Step>,
    /// What the steps count in the queue.
    pending: usize,
    now_us: i64,
}

struct PushEvent {
    decoder: PushDecoder,
    builder: RowsBuilder,
    series: EventSeries,
}

impl EnginePort {
    /// A port; it answers `recovering` until the seat is there.
    pub fn new(seat: SeatSlot, facts: Arc<Facts>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>, refuse_control: bool) -> Self {
        Self {
            seat,
            facts,
            clock,
            metrics,
            refuse_control,
            outbox: Arc::default(),
            version: u64::MAX,
            events: HashMap::new(),
            open: Vec::new(),
            acks: Vec::new(),
            rows: 0,
            steps: Vec::new(),
            pending: 0,
            now_us: 0,
        }
    }

    fn refuse(&self, tag: Tag, error: ApiError) {
        self.outbox.add(tag, Reply::Refused(Box::new(error), self.facts.registry_version.load(Ordering::Acquire)));
    }

    /// Why nothing can be taken now.
    fn closed(&self) -> Option<ApiError> {
        use super::facts::Phase;
        match self.facts.phase() {
            Phase::Starting | Phase::Recovering => Some(ApiError::new(Code::Recovering, "state is being rebuilt from snapshot and WAL")),
            Phase::Draining => Some(ApiError::new(Code::Draining, "the server is stopping")),
            Phase::Failed => Some(ApiError::new(Code::WalUnavailable, "the write-ahead log failed; the process is stopping")),
            Phase::CatchingUp | Phase::Ready => None,
        }
    }

    /// Takes another registry over: decoders are made again, after the rows that the old ones wrote are closed.
    fn follow_registry(&mut self) {
        let version = self.facts.registry_version.load(Ordering::Acquire);
        if version != self.version {
            self.close_frame();
            self.events.clear();
            self.version = version;
        }
    }

    fn event(&mut self, name: &str) -> Result<&mut PushEvent, ApiError> {
        if !self.events.contains_key(name) {
            let registry = self.facts.registry();
            let event = registry.known_event(name)?;
            let decoder = PushDecoder::new(&event.schema, self.refuse_control);
            let builder = RowsBuilder::new(Arc::clone(&event.schema), Strictness::Push).with_keys(registry.text_keys(event.schema.id));
            self.events.insert(name.into(), PushEvent { decoder, builder, series: self.metrics.event_series(name) });
        }
        match self.events.get_mut(name) {
            Some(event) => Ok(event),
            None => Err(ApiError::new(Code::EventNotFound, format!("no event \"{name}\" is registered"))),
        }
    }

    fn take(&mut self, encoding: Encoding, row: &PushRow<'_>) -> Result<(), ApiError> {
        let now_us = self.now_us;
        let event = self.event(row.event)?;
        let taken = match encoding {
            Encoding::Json => event.decoder.push_json(row.body, &mut event.builder, now_us),
            Encoding::MsgPack => event.decoder.push_msgpack(row.body, &mut event.builder, now_us),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(bad) => {
                event.series.push_refused.inc();
                Err(bad.into())
            }
        }
    }

    /// Bytes of the frame that single pushes share.
    fn open_bytes(&self) -> usize {
        let event = self.open.last().and_then(|name| self.events.get(name));
        event.map_or(0, |event| event.builder.size_bytes())
    }

    /// Ends the frame that single pushes share.
    fn close_frame(&mut self) {
        if self.acks.is_empty() {
            return;
        }
        let batches = self
            .open
            .drain(..)
            .filter_map(|name| self.events.get_mut(&name).filter(|event| !event.builder.is_empty()).map(|event| event.builder.finish()))
            .collect();
        let content = RowsContent { batches, ..RowsContent::default() };
        let acks = std::mem::take(&mut self.acks);
        assert_eq!(content.rows(), acks.len(), "each push of a shared frame is one row of it");
        self.add(Step::Rows { content, acks });
        self.rows = 0;
    }

    fn add(&mut self, step: Step) {
        self.pending += step.weight();
        self.steps.push(step);
    }

    fn run(&mut self) {
        self.close_frame();
        if self.steps.is_empty() {
            return;
        }
        let Some(seat) = self.seat.get() else { return };
        self.pending = 0;
        let round = Round::new(Arc::clone(&self.outbox), std::mem::take(&mut self.steps).into());
        // Replies that come while this is set are picked up below, without waking this thread for them.
        self.outbox.inside.store(true, Ordering::Release);
        seat.offer_round(round);
        self.outbox.inside.store(false, Ordering::Release);
    }
}

impl Port for EnginePort {
    fn push(&mut self, tag: Tag, encoding: Encoding, row: PushRow<'_>, wait: Wait) {
        if let Some(error) = self.closed() {
            return self.refuse(tag, error);
        }
        self.follow_registry();
        if self.acks.is_empty() {
            self.now_us = self.clock.now_us();
        }
        // Rows of one frame are of one event, so that their order is the order of their LSNs.
        let other_event = self.open.last().is_some_and(|name| **name != *row.event);
        if other_event || self.rows as usize >= ROWS_PER_FRAME_MAX || self.open_bytes() >= BYTES_PER_FRAME {
            self.close_frame();
        }
        match self.take(encoding, &row) {
            Ok(()) => {
                if self.open.is_empty() {
                    self.open.push(row.event.into());
                }
                self.acks.push(Ack { tag, first_row: self.rows, count: 1, wait });
                self.rows += 1;
            }
            Err(error) => self.refuse(tag, error),
        }
    }

    fn push_batch(&mut self, tag: Tag, encoding: Encoding, rows: &[PushRow<'_>], wait: Wait) {
        if let Some(error) = self.closed() {
            return self.refuse(tag, error);
        }
        self.follow_registry();
        self.close_frame();
        if rows.is_empty() {
            return self.refuse(tag, ApiError::new(Code::InvalidRequest, "the batch has no rows"));
        }
        if rows.len() > ROWS_PER_REQUEST_MAX {
            return self.refuse(tag, ApiError::new(Code::BatchTooLarge, format!("{} rows, at most {ROWS_PER_REQUEST_MAX}", rows.len())));
        }
        self.now_us = self.clock.now_us();
        let mut batches = Vec::new();
        let mut errors: Vec<(usize, ApiError)> = Vec::new();
        let (mut from, mut bytes) = (0, 0);
        // Runs of one event become one batch each, in order; the first bad row refuses them all.
        for run in rows.chunk_by(|one, other| one.event == other.event) {
            for (index, row) in run.iter().enumerate() {
                if let Err(error) = self.take(encoding, row)
                    && errors.len() < 16
                {
                    errors.push((from + index, error));
                }
                let filled = self.events.get(run[0].event).map_or(0, |event| event.builder.size_bytes());
                if bytes + filled > BYTES_PER_REQUEST_MAX {
                    // What was decoded of it is thrown away with the builder.
                    self.events.remove(run[0].event);
                    let reason = format!("{} rows take more than {BYTES_PER_REQUEST_MAX} bytes", rows.len());
                    return self.refuse(tag, ApiError::new(Code::BatchTooLarge, reason));
                }
            }
            if let Some(event) = self.events.get_mut(run[0].event)
                && !event.builder.is_empty()
            {
                let batch = event.builder.finish();
                bytes += batch.words().len() * 8;
                batches.push(batch);
            }
            from += run.len();
        }
        if let Some((index, first)) = errors.first().cloned() {
            let list: Vec<serde_json::Value> = errors
                .iter()
                .map(|(index, error)| serde_json::json!({"index": index, "code": error.code.as_str(), "path": error.path, "reason": error.reason}))
                .collect();
            return self.refuse(tag, first.with("index", index.into()).with("errors", list.into()));
        }
        let Ok(count) = u32::try_from(rows.len()) else { unreachable!("a batch has at most {ROWS_PER_REQUEST_MAX} rows") };
        let content = RowsContent { batches, ..RowsContent::default() };
        assert_eq!(content.rows(), rows.len(), "a batch is taken whole");
        self.add(Step::Rows { content, acks: vec![Ack { tag, first_row: 0, count, wait }] });
    }

    fn call(&mut self, tag: Tag, request: Request) {
        if let Some(error) = self.closed() {
            return self.refuse(tag, error);
        }
        self.close_frame();
        let weight = match &request {
            Request::BatchGet(_) | Request::GetMany { .. } => {
                let registry = self.facts.registry();
                weight_of(&request, |table| registry.table(table).map_or(0, |def| def.features.len()))
            }
            _ => 1,
        };
        self.add(Step::Call { tag, request, weight });
    }

    fn is_fence(&self, request: &Request) -> bool {
        match request {
            // An LSN that is applied now is applied when the read is served.
            Request::Get(read) => {
                let applied = self.facts.applied_lsn.load(Ordering::Acquire);
                request.is_fence() && read.options.min_lsn.is_some_and(|wanted| wanted > applied)
            }
            request => request.is_fence(),
        }
    }

    fn gone(&mut self, connection: u64) {
        if self.seat.get().is_some() {
            self.close_frame();
            self.add(Step::Gone(connection));
        }
    }

    fn turn(&mut self, replies: &mut Vec<(Tag, Reply)>) {
        self.run();
        replies.append(&mut self.outbox.replies.lock());
        let waste = std::mem::take(&mut *self.outbox.waste.lock());
        drop(waste);
    }

    fn has_room(&self) -> bool {
        self.pending < PORT_REQUESTS_MAX && self.seat.get().is_none_or(|seat| seat.has_port_room())
    }

    fn on_ready(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.outbox.wake_by(wake);
    }

    fn recovered(&self) -> bool {
        self.facts.recovered()
    }
}
