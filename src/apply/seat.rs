//! The apply seat: whoever holds it is the apply thread.
//!
//! There is one engine and one thread at a time that runs it. The apply thread proper sits there while
//! there is work; while it is parked, an I/O thread that just parsed requests may take the seat and run
//! them itself, which saves two cross-core wake-ups per request (about 50 us each) and changes nothing
//! else: order is decided once, by the seat, and `State::apply` has one caller at a time.
//!
//! Nobody waits for the seat on a request path: a thread that finds it taken leaves its work in the inbox,
//! and the holder looks there again before it gets up. An I/O thread stays for one slice of time at
//! most, applies no Kafka rows and begins nothing heavy; what it leaves is the apply thread's.
//!
//! **Everybody gets a turn.** The apply thread does one [`Event`] at a time, and none keeps it for much
//! longer than a slice (half a millisecond). Requests, rows, rows that wait, reads, what gives memory back and sweeps take turns,
//! news come first, housekeeping comes every [`TURNS_PER_TICK`] events and as soon as [`TICK_AFTER_US`] have
//! passed, what of it waits for the end of a turn before the next turn, and between two events the seat goes to
//! whoever waits for it.

use super::engine::Engine;
use super::facts::Facts;
use super::panic::EndOnUnwind;
use super::rounds::Holder;
use super::turn::SLICE;
use super::work::{InletId, News, Packet, Round};
use crate::wal::WalError;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use streamgauge_api::Slot;
use streamgauge_api::metrics::{SeatEvent, SeatSeries};

/// Rows and rejects that may wait between ingest threads and apply; each inlet has an equal share.
pub(crate) const QUEUE_ROWS_MAX: usize = 65_536;
/// Bytes of them that may wait.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Pushed rows and requests of ports that may wait.
pub(crate) const PORT_REQUESTS_MAX: usize = 131_072;
/// Housekeeping comes at the latest after this many events, also when there is always work.
pub(super) const TURNS_PER_TICK: u32 = 32;
/// It comes after fewer when these took longer: 10 ms of work, 0.1 % of which a tick takes at most.
pub(super) const TICK_AFTER_US: i64 = 10_000;

/// What can happen on the seat.
enum Event {
    /// Another thread has something to tell.
    News(News),
    /// Deadlines and housekeeping are due though there is work.
    Tick,
    /// A port brought requests.
    Round(Round),
    /// Requests that waited for the end of a turn.
    Backlog(Round),
    /// Rows that are written are to be applied.
    Slice,
    /// An ingest thread brought rows.
    Packet(Packet),
    /// Rows that wait for room are tried again.
    Waiting,
    /// A read of many entries goes on, or reads that waited are answered.
    Read,
    /// Sparse chunks are emptied.
    Evacuate,
    /// What left the definitions gives its memory back.
    Shed,
    /// What has expired is looked for and given back.
    Sweep,
}

impl Event {
    fn kind(&self) -> SeatEvent {
        match self {
            Self::News(_) => SeatEvent::News,
            Self::Tick => SeatEvent::Tick,
            Self::Round(_) | Self::Backlog(_) => SeatEvent::Requests,
            Self::Slice => SeatEvent::Slice,
            Self::Packet(_) => SeatEvent::Rows,
            Self::Waiting => SeatEvent::Waiting,
            Self::Read => SeatEvent::Reads,
            Self::Evacuate => SeatEvent::Evacuation,
            Self::Shed => SeatEvent::Shedding,
            Self::Sweep => SeatEvent::Sweep,
        }
    }
}

/// Kinds of work that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requests,
    Rows,
    Waiting,
    Reads,
    Evacuation,
    Shedding,
    Sweeps,
}

impl Kind {
    const COUNT: usize = Self::Sweeps as usize + 1;

    fn next(self) -> Self {
        match self {
            Self::Requests => Self::Rows,
            Self::Rows => Self::Waiting,
            Self::Waiting => Self::Reads,
            Self::Reads => Self::Evacuation,
            Self::Evacuation => Self::Shedding,
            Self::Shedding => Self::Sweeps,
            Self::Sweeps => Self::Requests,
        }
    }
}

/// What an inlet has in the queue.
#[derive(Debug, Clone, Copy, Default)]
struct Queued {
    rows: usize,
    bytes: usize,
}

/// Work that waits for the seat.
struct Inbox {
    news: VecDeque<News>,
    rounds: VecDeque<Round>,
    packets: VecDeque<Packet>,
    /// By inlet.
    queued: Vec<Queued>,
    /// Whose turn it is.
    turn: Kind,
    /// Events since housekeeping was done, and when that was, or when there was work again: by the engine's clock,
    /// and as it is measured.
    unticked: u32,
    ticked_us: i64,
    ticked: Instant,
}

impl Inbox {
    /// Whether an inlet may add to what it has: a share of the queue, and a packet always when it has none.
    fn has_room(&self, inlet: InletId, share: usize) -> bool {
        let Some(queued) = self.queued.get(inlet.0) else { unreachable!("inlets are made by the seat") };
        let inlets = self.queued.len();
        queued.rows == 0 || (queued.rows < QUEUE_ROWS_MAX / share / inlets && queued.bytes < QUEUE_BYTES_MAX / share / inlets)
    }

    /// The first packet whose inlet is not held.
    fn next_packet(&mut self, engine: &Engine) -> Option<Packet> {
        let at = self.packets.iter().position(|packet| engine.takes_packets_of(packet.inlet))?;
        let packet = self.packets.remove(at)?;
        let Some(queued) = self.queued.get_mut(packet.inlet.0) else { unreachable!("inlets are made by the seat") };
        assert!(queued.rows >= packet.weight() && queued.bytes >= packet.bytes, "a packet that leaves was counted when it came");
        queued.rows -= packet.weight();
        queued.bytes -= packet.bytes;
        Some(packet)
    }

    /// Shows what is queued to whoever asks.
    fn show(&self, facts: &Facts) {
        let (rows, bytes) = self.queued.iter().fold((0, 0), |(rows, bytes), queued| (rows + queued.rows, bytes + queued.bytes));
        facts.queued_rows.store(rows as u64, Ordering::Relaxed);
        facts.queued_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Whether housekeeping comes before what else there is.
    fn tick_is_due(&self, passed_us: i64) -> bool {
        self.unticked >= TURNS_PER_TICK || (self.unticked > 0 && passed_us.saturating_sub(self.ticked_us) >= TICK_AFTER_US)
    }

    /// There was housekeeping, or there is work again.
    fn begin_events(&mut self, passed_us: i64) -> Duration {
        (self.unticked, self.ticked_us) = (0, passed_us);
        std::mem::replace(&mut self.ticked, Instant::now()).elapsed()
    }

    /// Whether the apply thread would find something to do.
    fn has_work(&self, engine: &Engine) -> bool {
        !self.news.is_empty()
            || !self.rounds.is_empty()
            || engine.has_unfinished()
            || self.packets.iter().any(|packet| engine.takes_packets_of(packet.inlet))
    }
}

/// The seat while a thread holds it. Who unwinds while holding it ends the process: the engine may be
/// changed by half, and this lock knows no poison.
pub(super) struct Held<'a> {
    // Dropped first, so that a panic ends the process before the seat is free.
    _end: EndOnUnwind,
    engine: MutexGuard<'a, Engine>,
}

impl<'a> Held<'a> {
    fn new(engine: MutexGuard<'a, Engine>) -> Self {
        Self { _end: EndOnUnwind::new(), engine }
    }

    /// Lets one who waits for the seat have it now.
    pub(super) fn make_way(&mut self) {
        MutexGuard::bump(&mut self.engine);
    }
}

impl Deref for Held<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

/// The seat with its inbox.
pub struct Seat {
    engine: Mutex<Engine>,
    inbox: Mutex<Inbox>,
    room: Condvar,
    /// There is something for the apply thread.
    waiting: AtomicBool,
    /// Requests in the inbox, and in the engine: in its backlog, and waiting for an LSN.
    requests: AtomicUsize,
    in_work: AtomicUsize,
    wake: Condvar,
    parked: Mutex<bool>,
    stopping: AtomicBool,
    series: SeatSeries,
    /// Numbers that anybody may look at.
    pub facts: Arc<Facts>,
}

impl Seat {
    /// A seat for an engine that has recovered.
    pub fn new(engine: Engine, facts: Arc<Facts>) -> Arc<Self> {
        let inbox = Inbox {
            news: VecDeque::new(),
            rounds: VecDeque::new(),
            packets: VecDeque::new(),
            queued: Vec::new(),
            turn: Kind::Requests,
            unticked: 0,
            ticked_us: engine.passed_us(),
            ticked: Instant::now(),
        };
        let series = engine.metrics.seat.clone();
        Arc::new(Self {
            engine: Mutex::new(engine),
            inbox: Mutex::new(inbox),
            room: Condvar::new(),
            waiting: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            in_work: AtomicUsize::new(0),
            wake: Condvar::new(),
            parked: Mutex::new(false),
            stopping: AtomicBool::new(false),
            series,
            facts,
        })
    }

    /// The apply thread: works while there is work, else sleeps until the next deadline.
    pub fn run(&self) {
        while !self.is_stopping() {
            let mut held = self.hold();
            self.inbox.lock().begin_events(held.passed_us());
            self.work(&mut held);
            let begun = Instant::now();
            let sleep = held.tick();
            self.series.event(SeatEvent::Tick, begun.elapsed());
            // What waits may be due again.
            self.look_again(&self.inbox.lock(), &held);
            self.leave(held);
            let mut parked = self.parked.lock();
            *parked = true;
            if !self.has_work() && !self.is_stopping() {
                self.wake.wait_for(&mut parked, sleep);
            }
            *parked = false;
        }
    }

    /// Does what there is, one event at a time.
    fn work(&self, held: &mut Held<'_>) {
        while self.step(held) {
            held.make_way();
        }
    }

    /// Does the next event; false when there is none.
    pub(super) fn step(&self, engine: &mut Engine) -> bool {
        let begun = Instant::now();
        let Some(event) = self.next(engine) else { return false };
        let kind = event.kind();
        match event {
            Event::News(news) => engine.hear(news),
            Event::Tick => {
                let _while_there_is_work = engine.tick();
                // A tick that took long is followed by work all the same.
                self.inbox.lock().begin_events(engine.passed_us());
            }
            Event::Round(round) => self.serve(engine, round, Holder::Apply),
            Event::Backlog(round) => {
                if let Some(rest) = engine.serve(round, Holder::Apply) {
                    engine.put_back(rest);
                }
            }
            Event::Slice => engine.go_on(),
            Event::Packet(packet) => engine.take_packet(packet),
            Event::Waiting => engine.retry_waiting(),
            Event::Read => engine.read_on_turn(),
            Event::Evacuate => engine.evacuate(),
            Event::Shed => engine.shed(),
            Event::Sweep => engine.sweep_on(),
        }
        self.in_work.store(engine.requests_in_work(), Ordering::Relaxed);
        self.series.event(kind, begun.elapsed());
        true
    }

    /// Decides what happens next.
    fn next(&self, engine: &mut Engine) -> Option<Event> {
        let mut inbox = self.inbox.lock();
        let event = match inbox.news.pop_front() {
            Some(news) => Some(Event::News(news)),
            // What was due in the middle of a turn comes before the next one begins.
            None if inbox.tick_is_due(engine.passed_us()) || engine.owes_tick() => {
                self.series.tick_turn.record(inbox.begin_events(engine.passed_us()));
                Some(Event::Tick)
            }
            None => {
                let first = inbox.turn;
                let mut kinds = std::iter::successors(Some(first), |kind| Some(kind.next())).take(Kind::COUNT);
                let found = kinds.find_map(|kind| Some((kind, self.next_of(kind, &mut inbox, engine)?)));
                found.map(|(kind, event)| {
                    inbox.turn = kind.next();
                    inbox.unticked += 1;
                    event
                })
            }
        };
        assert!(inbox.unticked <= TURNS_PER_TICK, "housekeeping comes after {TURNS_PER_TICK} events");
        self.look_again(&inbox, engine);
        event
    }

    /// Says whether there is something for the apply thread.
    fn look_again(&self, inbox: &Inbox, engine: &Engine) {
        self.waiting.store(inbox.has_work(engine), Ordering::Release);
    }

    fn next_of(&self, kind: Kind, inbox: &mut Inbox, engine: &mut Engine) -> Option<Event> {
        match kind {
            Kind::Requests => match engine.take_backlog() {
                Some(round) => Some(Event::Backlog(round)),
                None => self.next_round(inbox).map(Event::Round),
            },
            Kind::Rows if engine.is_mid_turn() => Some(Event::Slice),
            Kind::Rows => {
                let packet = inbox.next_packet(engine)?;
                inbox.show(&self.facts);
                self.room.notify_all();
                Some(Event::Packet(packet))
            }
            Kind::Waiting => engine.has_waiting_due().then_some(Event::Waiting),
            Kind::Reads => engine.has_reads().then_some(Event::Read),
            Kind::Evacuation => engine.evacuates().then_some(Event::Evacuate),
            Kind::Shedding => engine.sheds().then_some(Event::Shed),
            Kind::Sweeps => engine.can_sweep().then_some(Event::Sweep),
        }
    }

    fn next_round(&self, inbox: &mut Inbox) -> Option<Round> {
        let round = inbox.rounds.pop_front()?;
        let queued = self.requests.fetch_sub(round.weight(), Ordering::Relaxed);
        assert!(round.weight() <= queued, "a round that leaves was counted when it came");
        Some(round)
    }

    /// Serves a round; what is left of it stays in front of everything that came later.
    fn serve(&self, engine: &mut Engine, round: Round, holder: Holder) {
        if let Some(rest) = engine.serve(round, holder) {
            self.give_back(rest);
        }
    }

    fn give_back(&self, rest: Round) {
        self.requests.fetch_add(rest.weight(), Ordering::Relaxed);
        self.inbox.lock().rounds.push_front(rest);
        self.waiting.store(true, Ordering::Release);
    }

    pub(super) fn hold(&self) -> Held<'_> {
        Held::new(self.engine.lock())
    }

    fn try_hold(&self) -> Option<Held<'_>> {
        self.engine.try_lock().map(Held::new)
    }

    fn has_work(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    fn unpark(&self) {
        if *self.parked.lock() {
            self.wake.notify_one();
        }
    }

    /// Runs a port's round now when the seat is free, else leaves it to the holder.
    pub(crate) fn offer_round(&self, round: Round) {
        if let Some(mut held) = self.try_hold() {
            if self.has_work() || held.has_unfinished() {
                // Earlier rounds of this port may wait: the order of a connection is the order of its requests.
                self.queue_round(round);
                self.visit(&mut held);
            } else {
                let begun = Instant::now();
                self.serve(&mut held, round, Holder::Visitor);
                self.series.event(SeatEvent::Visit, begun.elapsed());
            }
            self.leave(held);
            return;
        }
        self.queue_round(round);
        // The holder may have looked at the inbox before, and gone since.
        match self.try_hold() {
            Some(mut held) => {
                self.visit(&mut held);
                self.leave(held);
            }
            None => self.unpark(),
        }
    }

    fn queue_round(&self, round: Round) {
        self.requests.fetch_add(round.weight(), Ordering::Relaxed);
        self.inbox.lock().rounds.push_back(round);
        self.waiting.store(true, Ordering::Release);
    }

    /// What an I/O thread does of the waiting work: news and requests, for the time of a slice.
    fn visit(&self, engine: &mut Engine) {
        let begun = Instant::now();
        while begun.elapsed() < SLICE {
            let mut inbox = self.inbox.lock();
            if let Some(news) = inbox.news.pop_front() {
                drop(inbox);
                engine.hear(news);
                continue;
            }
            // What waits in the backlog came before the rounds of the inbox, and housekeeping that is
            // due before the next turn.
            let blocked = !engine.is_mid_turn() && (engine.has_backlog() || engine.owes_tick());
            let Some(round) = (if blocked { None } else { self.next_round(&mut inbox) }) else { break };
            drop(inbox);
            if let Some(rest) = engine.serve(round, Holder::Visitor) {
                self.give_back(rest);
                break;
            }
        }
        self.look_again(&self.inbox.lock(), engine);
        self.series.event(SeatEvent::Visit, begun.elapsed());
    }

    /// Gets up, and sees to it that somebody looks at what is left.
    fn leave(&self, mut held: Held<'_>) {
        let (unfinished, deadline_moved) = (held.has_unfinished(), held.take_deadline_moved());
        self.in_work.store(held.requests_in_work(), Ordering::Relaxed);
        if unfinished {
            self.waiting.store(true, Ordering::Release);
        }
        drop(held);
        if deadline_moved || self.has_work() {
            self.unpark();
        }
    }

    /// Whether ports may bring more.
    pub(crate) fn has_port_room(&self) -> bool {
        self.requests.load(Ordering::Relaxed) + self.in_work.load(Ordering::Relaxed) < PORT_REQUESTS_MAX
    }

    /// A number for an ingest thread. Each has an equal share of the queue.
    pub(crate) fn add_inlet(&self) -> InletId {
        let mut inbox = self.inbox.lock();
        inbox.queued.push(Queued::default());
        InletId(inbox.queued.len() - 1)
    }

    /// Queues rows from an ingest thread; gives them back when its share of the queue is full.
    pub(crate) fn offer_packet(&self, packet: Packet) -> Result<(), Box<Packet>> {
        {
            let mut inbox = self.inbox.lock();
            if !inbox.has_room(packet.inlet, 1) || self.is_stopping() {
                return Err(Box::new(packet));
            }
            let Some(queued) = inbox.queued.get_mut(packet.inlet.0) else { unreachable!("inlets are made by the seat") };
            queued.rows += packet.weight();
            queued.bytes += packet.bytes;
            inbox.packets.push_back(packet);
            inbox.show(&self.facts);
            self.waiting.store(true, Ordering::Release);
        }
        self.unpark();
        Ok(())
    }

    /// Waits for room in an inlet's share of the queue (half of it, so that a stopped source does not flutter).
    pub(crate) fn wait_packet_room(&self, inlet: InletId, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inbox = self.inbox.lock();
        while !inbox.has_room(inlet, 2) {
            if self.is_stopping() || self.room.wait_until(&mut inbox, until).timed_out() {
                return inbox.has_room(inlet, 1);
            }
        }
        true
    }

    /// Waits until nothing of an inlet is queued: its packets are applied, or wait for room at the engine. False when that
    /// took longer than `limit`.
    pub(crate) fn wait_packets_taken(&self, inlet: InletId, slot: Slot, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inbox = self.inbox.lock();
        while inbox.packets.iter().any(|packet| packet.inlet == inlet && packet.names(slot)) {
            if self.is_stopping() || self.room.wait_until(&mut inbox, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// Leaves news to the holder of the seat without waiting for it.
    pub fn post(&self, news: News) {
        {
            let mut inbox = self.inbox.lock();
            inbox.news.push_back(news);
            self.waiting.store(true, Ordering::Release);
        }
        self.unpark();
    }

    /// Runs something on the engine between two frames and waits for it: what changes it, freezes it, or has to see
    /// whole frames. For operators and rare changes only, never for requests.
    pub fn with<T>(&self, run: impl FnOnce(&mut Engine) -> T) -> T {
        let mut held = self.wait_to_hold();
        // The rows that are written come first; readers have their turns meanwhile.
        while held.is_mid_turn() {
            held.go_on();
            self.visit(&mut held);
            held.make_way();
        }
        self.operate(held, run)
    }

    /// Looks at the engine and waits for it no longer than for a slice: it may stand in the middle of a frame, where
    /// every table shows the same prefix of its rows. For operators' reads.
    pub fn look<T>(&self, run: impl FnOnce(&mut Engine) -> T) -> T {
        self.operate(self.wait_to_hold(), run)
    }

    /// The seat for who is no port, and how long that took.
    fn wait_to_hold(&self) -> Held<'_> {
        let begun = Instant::now();
        let held = self.hold();
        self.series.operator_turn.record(begun.elapsed());
        held
    }

    fn operate<T>(&self, mut held: Held<'_>, run: impl FnOnce(&mut Engine) -> T) -> T {
        let begun = Instant::now();
        let value = run(&mut held);
        self.series.event(SeatEvent::Operator, begun.elapsed());
        self.leave(held);
        value
    }

    /// Makes what is applied durable, so that sources can commit their last positions; waits at most for `limit`, and
    /// not on the seat.
    pub fn settle(&self, limit: Duration) {
        let (handle, lsn) = self.with(Engine::remember_all);
        let outcome: Result<bool, WalError> = handle.wait_durable(lsn, limit);
        self.with(|engine| match outcome {
            Ok(_) => engine.synced(handle.durable_lsn()),
            Err(error) => engine.failed(error),
        });
    }

    /// Stops the apply thread after what is queued; nothing is taken any more.
    pub fn stop(&self) {
        let mut held = self.hold();
        self.work(&mut held);
        self.leave(held);
        self.stopping.store(true, Ordering::Release);
        self.room.notify_all();
        let _parked = self.parked.lock();
        self.wake.notify_all();
    }

    /// Whether [`Seat::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
