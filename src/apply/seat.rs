//! The apply seat: whoever holds it is the apply thread.
//!
//! There is one engine and one thread at a time that runs it. The apply thread proper sits there whenever there is work; while it is parked, an I/O thread that
//! just parsed requests may take the seat and run them itself, which saves two cross-core wake-ups per request (about 50 us each) and changes nothing else: order is
//! still decided once, by the seat, and `State::apply` has one caller at a time. Nobody ever waits for the seat on a request path: a thread that finds it taken leaves its
//! work in the inbox, and the holder looks there again before it gets up.

use super::engine::Engine;
use super::facts::Facts;
use super::panic::EndOnUnwind;
use super::work::{News, Packet, PortWork};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Decoded rows that may wait between ingest threads and apply.
pub(crate) const QUEUE_ROWS_MAX: usize = 65_536;
/// Bytes of decoded rows that may wait.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Pushed rows and requests of ports that may wait.
pub(crate) const PORT_REQUESTS_MAX: usize = 131_072;

/// Work that waits for the seat.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) packets: VecDeque<Packet>,
    pub(crate) ports: VecDeque<PortWork>,
    pub(crate) news: VecDeque<News>,
    packet_rows: usize,
    packet_bytes: usize,
}

/// The seat while a thread holds it. Who unwinds while holding it ends the process: the engine may be
/// changed by half, and this lock knows no poison.
struct Held<'a> {
    // Dropped first, so that a panic ends the process before the seat is free.
    _end: EndOnUnwind,
    engine: MutexGuard<'a, Engine>,
}

impl<'a> Held<'a> {
    fn new(engine: MutexGuard<'a, Engine>) -> Self {
        Self { _end: EndOnUnwind::new(), engine }
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
    waiting: AtomicBool,
    port_requests: AtomicUsize,
    wake: Condvar,
    parked: Mutex<bool>,
    stopping: AtomicBool,
    /// Numbers that anybody may look at.
    pub facts: Arc<Facts>,
}

impl Seat {
    /// A seat for an engine that has recovered.
    pub fn new(engine: Engine, facts: Arc<Facts>) -> Arc<Self> {
        Arc::new(Self {
            engine: Mutex::new(engine),
            inbox: Mutex::default(),
            room: Condvar::new(),
            waiting: AtomicBool::new(false),
            port_requests: AtomicUsize::new(0),
            wake: Condvar::new(),
            parked: Mutex::new(false),
            stopping: AtomicBool::new(false),
            facts,
        })
    }

    /// The apply thread: works while there is work, else sleeps until the next deadline.
    pub fn run(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            let sleep = {
                let mut engine = self.hold();
                self.serve(&mut engine);
                engine.tick()
            };
            if self.has_work() {
                continue;
            }
            let mut parked = self.parked.lock();
            *parked = true;
            if !self.has_work() && !self.stopping.load(Ordering::Acquire) {
                self.wake.wait_for(&mut parked, sleep);
            }
            *parked = false;
        }
    }

    fn hold(&self) -> Held<'_> {
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

    /// Serves the inbox until it is empty; requests first, then one packet, so that a read waits for at most one packet.
    fn serve(&self, engine: &mut Engine) {
        loop {
            let (news, ports, packet) = {
                let mut inbox = self.inbox.lock();
                let news = std::mem::take(&mut inbox.news);
                let ports = std::mem::take(&mut inbox.ports);
                let packet = if engine.takes_packets() { inbox.packets.pop_front() } else { None };
                if let Some(packet) = &packet {
                    inbox.packet_rows -= packet.weight();
                    inbox.packet_bytes -= packet.bytes;
                    self.facts.queued_rows.store(inbox.packet_rows as u64, Ordering::Relaxed);
                    self.room.notify_all();
                }
                let more = !inbox.packets.is_empty() && engine.takes_packets();
                self.waiting.store(more, Ordering::Release);
                if news.is_empty() && ports.is_empty() && packet.is_none() {
                    return;
                }
                (news, ports, packet)
            };
            for news in news {
                engine.hear(news);
            }
            for work in ports {
                self.port_requests.fetch_sub(work.requests, Ordering::Relaxed);
                engine.serve_port(work);
            }
            if let Some(packet) = packet {
                engine.take_packet(packet);
            }
        }
    }

    /// Runs a port's work now when the seat is free, else leaves it to the holder. True when it ran here.
    pub(crate) fn offer_port(&self, work: PortWork) -> bool {
        if let Some(mut engine) = self.try_hold() {
            // An earlier round of this port may still wait in the inbox: order on a connection is the order of its requests.
            if self.has_work() {
                self.serve(&mut engine);
            }
            engine.serve_port(work);
            self.leave(engine);
            return true;
        }
        self.port_requests.fetch_add(work.requests, Ordering::Relaxed);
        self.inbox.lock().ports.push_back(work);
        self.waiting.store(true, Ordering::Release);
        self.attend();
        false
    }

    /// Somebody must look at the inbox: take the seat if it became free, else its holder will look.
    fn attend(&self) {
        if let Some(mut engine) = self.try_hold() {
            self.serve(&mut engine);
            self.leave(engine);
        } else {
            self.unpark();
        }
    }

    /// Gets up, and looks once more at what came in meanwhile.
    fn leave(&self, engine: Held<'_>) {
        drop(engine);
        if self.has_work() {
            self.unpark();
        }
    }

    /// Whether ports may bring more.
    pub(crate) fn has_port_room(&self) -> bool {
        self.port_requests.load(Ordering::Relaxed) < PORT_REQUESTS_MAX
    }

    /// Queues rows from an ingest thread; gives them back when the queue is full.
    pub(crate) fn offer_packet(&self, packet: Packet) -> Result<(), Packet> {
        {
            let mut inbox = self.inbox.lock();
            if inbox.packet_rows >= QUEUE_ROWS_MAX || inbox.packet_bytes >= QUEUE_BYTES_MAX || self.stopping.load(Ordering::Acquire) {
                return Err(packet);
            }
            inbox.packet_rows += packet.weight();
            inbox.packet_bytes += packet.bytes;
            self.facts.queued_rows.store(inbox.packet_rows as u64, Ordering::Relaxed);
            inbox.packets.push_back(packet);
            self.waiting.store(true, Ordering::Release);
        }
        self.unpark();
        Ok(())
    }

    /// Waits for room in the packet queue (half of it, so that a stopped source does not flutter).
    pub(crate) fn wait_packet_room(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut inbox = self.inbox.lock();
        while inbox.packet_rows >= QUEUE_ROWS_MAX / 2 || inbox.packet_bytes >= QUEUE_BYTES_MAX / 2 {
            if self.stopping.load(Ordering::Acquire) || self.room.wait_until(&mut inbox, until).timed_out() {
                return inbox.packet_rows < QUEUE_ROWS_MAX && inbox.packet_bytes < QUEUE_BYTES_MAX;
            }
        }
        true
    }

    /// Leaves news to the holder of the seat without waiting for it.
    pub fn post(&self, news: News) {
        self.inbox.lock().news.push_back(news);
        self.waiting.store(true, Ordering::Release);
        self.unpark();
    }

    /// Runs something on the engine and waits for it. For operators and rare changes only, never for requests.
    pub fn with<T>(&self, run: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.hold();
        let value = run(&mut engine);
        self.leave(engine);
        value
    }

    /// Packets that ingest threads queued before this call are applied when it returns.
    pub(crate) fn drain_packets(&self) {
        let mut engine = self.hold();
        self.serve(&mut engine);
        self.leave(engine);
    }

    /// Stops the apply thread after what is queued; nothing is taken any more.
    pub fn stop(&self) {
        self.drain_packets();
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
