//! One I/O thread: sockets ready, requests read, one turn of the engine, replies sent, and again.
//!
//! ```text
//! poll -> newcomers -> receive from every ready connection -> port.turn() once -> encode replies -> one send per connection -> deadlines
//! ```
//! Everything of a round is batched: all frames of all ready sockets go into one turn, all replies of a connection into one write. Without work the
//! thread sleeps in poll until a socket, the engine's wake or the next deadline. It never waits for the engine and the engine never for it.
//!
//! Cost of a push with an engine that does nothing, CPU of this thread with 4 busy connections on 2 shared cores: 0.21 us framed MessagePack (62 bytes),
//! 0.28 us framed JSON (78), each 512 in flight; 1.0 us HTTP (168), 64 in flight. A quarter of these is the kernel's.

use crate::census::{Census, Place};
use crate::config::NativeConfig;
use crate::connection::{Connection, Protocol};
use crate::deadlines::{ConnectionId, Deadlines};
use crate::desk::{Shared, connection_number, split_tag};
use crate::framed::{self, Framed};
use crate::http::{self, Http};
use crate::protocol::Lane;
use crate::shape::HttpReply;
use crate::tally::Tally;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use streamgauge_api::port::{Port, Reply, Tag};
use streamgauge_api::{ApiError, Code, Cors};

const WAKE: Token = Token(0);
const DOORS: usize = 1;
const CONNECTIONS: usize = 3;

/// The thread's read buffer; one read of a busy connection fills most of it.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Readiness events taken from the poller at once.
const EVENTS_PER_POLL: usize = 1024;

/// Connections accepted in one round.
const ACCEPTS_PER_ROUND: usize = 256;

/// Pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How soon a full engine queue is looked at again when nothing wakes the thread before.
const ENGINE_PAUSE: Duration = Duration::from_millis(1);

/// What a listener's connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Http,
    Framed,
}

impl std::fmt::Display for Speech {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Speech::Http => "http",
            Speech::Framed => "tcp",
        })
    }
}

/// A listener.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) speech: Speech,
}

/// A connection on its way to its thread.
enum Newcomer {
    /// Accepted.
    Fresh { stream: TcpStream, speech: Speech, place: Place },
    /// Its next request is of the thread's lane.
    Moved(Box<Connection>),
}

/// How others reach an I/O thread.
pub(crate) struct Mailbox {
    newcomers: Mutex<Vec<Newcomer>>,
    stop_by: Mutex<Option<Instant>>,
    stopping: AtomicBool,
    waker: Waker,
}

impl Mailbox {
    /// A mailbox that wakes `poll`.
    pub(crate) fn new(poll: &Poll) -> io::Result<Arc<Self>> {
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok(Arc::new(Self { newcomers: Mutex::default(), stop_by: Mutex::default(), stopping: AtomicBool::new(false), waker }))
    }

    /// Wakes the thread.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "an I/O thread cannot be woken");
        }
    }

    /// Asks the thread to answer what it took and to end, at the latest at `by`.
    pub(crate) fn stop(&self, by: Option<Instant>) {
        if by.is_some() {
            *self.stop_by.lock().unwrap_or_else(PoisonError::into_inner) = by;
        }
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    fn send(&self, newcomer: Newcomer) {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner).push(newcomer);
        self.wake();
    }

    fn stop_by(&self) -> Option<Instant> {
        *self.stop_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's state.
pub(crate) struct Worker {
    poll: Poll,
    port: Box<dyn Port>,
    shared: Shared,
    census: Arc<Census>,
    /// All threads' mailboxes, this one's at `index`: those for light requests, then the one for bulk.
    mailboxes: Vec<Arc<Mailbox>>,
    index: usize,
    doors: Vec<Door>,
    /// The thread that gets the next accepted connection.
    next_thread: usize,
    accept_at: Option<Instant>,
    connections: Vec<Option<Box<Connection>>>,
    /// How many connections each place had.
    tenants: Vec<u32>,
    free: Vec<u16>,
    deadlines: Deadlines,
    /// Places to receive from in this round.
    serving: Vec<u16>,
    /// Places that wait for room in the engine's queue.
    starved: Vec<u16>,
    /// Places to send to in this round.
    touched: Vec<u16>,
    replies: Vec<(Tag, Reply)>,
    read_buffer: Vec<u8>,
    body_buffer: Vec<u8>,
    /// The port is to hear of connections that are gone.
    tells_gone: bool,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(
        poll: Poll,
        mut port: Box<dyn Port>,
        shared: Shared,
        census: Arc<Census>,
        mailboxes: Vec<Arc<Mailbox>>,
        index: usize,
    ) -> Self {
        if let Some(mailbox) = mailboxes.get(index).cloned() {
            port.on_ready(Arc::new(move || mailbox.wake()));
        }
        Self {
            poll,
            port,
            shared,
            census,
            mailboxes,
            index,
            doors: Vec::new(),
            next_thread: 0,
            accept_at: None,
            connections: Vec::new(),
            tenants: Vec::new(),
            free: Vec::new(),
            deadlines: Deadlines::default(),
            serving: Vec::new(),
            starved: Vec::new(),
            touched: Vec::new(),
            replies: Vec::new(),
            read_buffer: vec![0; READ_BUFFER_BYTES],
            body_buffer: Vec::new(),
            tells_gone: false,
            stopping: false,
        }
    }

    /// Takes the listeners; one thread has them.
    pub(crate) fn open_doors(&mut self, doors: Vec<Door>) -> io::Result<()> {
        self.doors = doors;
        for (index, door) in self.doors.iter_mut().enumerate() {
            self.poll.registry().register(&mut door.listener, Token(DOORS + index), Interest::READABLE)?;
        }
        // Clients may have come before the poller was told.
        self.accept_at = Some(Instant::now());
        Ok(())
    }

    /// Runs until it is asked to stop and everything is answered.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    tracing::error!(%error, "the poller failed; this I/O thread ends");
                    return;
                }
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKE => {}
                    Token(token) if token < CONNECTIONS => self.accept_at = Some(now),
                    Token(token) => self.notice(token - CONNECTIONS, event),
                }
            }
            self.shared.tally.get_mut().begin(now);
            self.take_newcomers(now);
            self.serve(now);
            self.expire(now);
            if self.has_stopped(now) {
                return;
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.serving.is_empty() || !self.touched.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let engine = (!self.starved.is_empty()).then(|| now + ENGINE_PAUSE);
        let stop = if self.stopping { self.mailbox_stop_by() } else { None };
        [engine, self.accept_at, self.deadlines.next(), stop].into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
    }

    fn mailbox_stop_by(&self) -> Option<Instant> {
        self.mailboxes.get(self.index).and_then(|mailbox| mailbox.stop_by())
    }

    fn notice(&mut self, place: usize, event: &mio::event::Event) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        connection.notice(event.is_readable(), event.is_read_closed() || event.is_error());
        if event.is_write_closed() || event.is_error() {
            connection.hung_up();
        }
        if !connection.listed && connection.wants_service() {
            connection.listed = true;
            self.serving.push(place as u16);
        }
        if (event.is_writable() || connection.is_dead()) && !connection.touched {
            connection.touched = true;
            self.touched.push(place as u16);
        }
    }

    fn take_newcomers(&mut self, now: Instant) {
        let mailbox = self.mailboxes.get(self.index).cloned();
        if let Some(mailbox) = mailbox {
            if !self.stopping && mailbox.stopping.load(Ordering::Acquire) {
                self.begin_stop();
            }
            let newcomers = std::mem::take(&mut *mailbox.newcomers.lock().unwrap_or_else(PoisonError::into_inner));
            if self.shared.lane == Lane::Bulk && !newcomers.is_empty() {
                self.send_home();
            }
            newcomers.into_iter().for_each(|newcomer| self.settle_in(newcomer, now));
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.accept(now);
        }
    }

    fn accept(&mut self, now: Instant) {
        let doors = std::mem::take(&mut self.doors);
        let mut left = ACCEPTS_PER_ROUND;
        for door in &doors {
            loop {
                if left == 0 {
                    self.accept_at = Some(now);
                    break;
                }
                left -= 1;
                match door.listener.accept() {
                    Ok((stream, peer)) => self.admit(stream, peer, door.speech, now),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections");
                        self.accept_at = Some(now + ACCEPT_PAUSE);
                        break;
                    }
                }
            }
        }
        self.doors = doors;
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, speech: Speech, now: Instant) {
        let Some(place) = self.census.admit(peer.ip()) else {
            tracing::warn!(%peer, "too many connections; one is refused");
            self.shared.tally.get_mut().refused(Code::Overloaded);
            turn_away(stream, speech);
            return;
        };
        // Replies are small and complete; waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY is not set");
        }
        let newcomer = Newcomer::Fresh { stream, speech, place };
        let thread = self.next_thread;
        // Nobody begins with the bulk thread.
        self.next_thread = (thread + 1) % (self.mailboxes.len() - 1).max(1);
        match self.mailboxes.get(thread) {
            Some(mailbox) if thread != self.index => mailbox.send(newcomer),
            _ => self.settle_in(newcomer, now),
        }
    }

    fn settle_in(&mut self, newcomer: Newcomer, now: Instant) {
        if self.stopping && matches!(newcomer, Newcomer::Fresh { .. }) {
            return;
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let Ok(place) = u16::try_from(self.connections.len()) else {
                    if let Newcomer::Fresh { stream, speech, .. } = newcomer {
                        turn_away(stream, speech);
                    }
                    return;
                };
                self.connections.push(None);
                self.tenants.push(0);
                place
            }
        };
        let index = usize::from(place);
        let id = ConnectionId { place, tenant: self.tenants.get(index).copied().unwrap_or_default() };
        let mut connection = match newcomer {
            Newcomer::Fresh { stream, speech, place } => {
                let protocol = match speech {
                    Speech::Http => Protocol::Http(Http::default()),
                    Speech::Framed => Protocol::Framed(Framed::default()),
                };
                let open = self.shared.tally.get_mut().open(speech);
                let mut fresh = Box::new(Connection::new(id, stream, place, open, protocol, now));
                fresh.home = self.index;
                fresh
            }
            Newcomer::Moved(mut connection) => {
                connection.moved(id);
                if self.stopping {
                    connection.end();
                }
                connection
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut connection.stream, Token(CONNECTIONS + index), interest) {
            tracing::warn!(%error, "a connection cannot be watched");
            self.free.push(place);
            return;
        }
        connection.touched = true;
        connection.listed = connection.wants_service();
        if connection.listed {
            self.serving.push(place);
        }
        if let Some(home) = self.connections.get_mut(index) {
            *home = Some(connection);
            self.touched.push(place);
        }
    }

    /// Bulk of others comes: who has nothing here is not to wait for it with whatever comes next.
    fn send_home(&mut self) {
        for place in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get(place) else { continue };
            if !connection.is_at_rest() {
                continue;
            }
            if let Some(mut connection) = self.connections[place].take() {
                connection.go_home();
                self.move_on(connection);
            }
            self.vacate(place as u16);
        }
    }

    /// Where a connection would go.
    fn other_lane(&self, place: u16) -> Option<&Arc<Mailbox>> {
        let connection = self.connections.get(usize::from(place))?.as_ref()?;
        self.mailboxes.get(match self.shared.lane {
            Lane::Light => self.mailboxes.len() - 1,
            Lane::Bulk => connection.home,
        })
    }

    /// Gives a connection to the thread of its next request.
    fn move_on(&mut self, mut connection: Box<Connection>) {
        if let Err(error) = self.poll.registry().deregister(&mut connection.stream) {
            tracing::warn!(%error, "a connection cannot be moved, and is closed");
            return;
        }
        let thread = match self.shared.lane {
            Lane::Light => self.mailboxes.len() - 1,
            Lane::Bulk => connection.home,
        };
        assert_ne!(thread, self.index, "a connection moves to the other lane");
        if let Some(mailbox) = self.mailboxes.get(thread) {
            mailbox.send(Newcomer::Moved(connection));
        }
    }

    fn serve(&mut self, now: Instant) {
        if !self.starved.is_empty() && self.port.has_room() {
            self.serving.append(&mut self.starved);
        }
        for place in self.serving.drain(..) {
            let Some(Some(connection)) = self.connections.get_mut(usize::from(place)) else { continue };
            connection.listed = false;
            connection.receive(&mut self.read_buffer, &mut *self.port, &self.shared, now);
            if !connection.touched {
                connection.touched = true;
                self.touched.push(place);
            }
        }
        self.port.turn(&mut self.replies);
        self.deliver();
        let touched = std::mem::take(&mut self.touched);
        for place in &touched {
            self.send(*place, now);
        }
        // The list keeps its memory, and what sending has added.
        let added = std::mem::replace(&mut self.touched, touched);
        self.touched.clear();
        self.touched.extend(added);
        if std::mem::take(&mut self.tells_gone) {
            // Nobody may wake this thread for a while.
            self.port.turn(&mut self.replies);
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        let mut replies = std::mem::take(&mut self.replies);
        for (tag, reply) in replies.drain(..) {
            if let Some(version) = crate::reply::registry_version(&reply) {
                self.shared.registry_version.set(version);
            }
            let (id, sequence) = split_tag(tag);
            let Some(Some(connection)) = self.connections.get_mut(usize::from(id.place)) else { continue };
            if connection.id != id {
                continue;
            }
            connection.deliver(sequence, &reply, &mut self.body_buffer, &self.shared);
            if !connection.touched {
                connection.touched = true;
                self.touched.push(id.place);
            }
        }
        self.replies = replies;
        self.shared.tally.get_mut().end();
    }

    /// Sends, then decides what becomes of the connection.
    fn send(&mut self, place: u16, now: Instant) {
        let goes_home = self.shared.lane == Lane::Bulk && self.connections.len() - self.free.len() > 1;
        let Some(home) = self.connections.get_mut(usize::from(place)) else { return };
        let Some(connection) = home else { return };
        connection.touched = false;
        connection.send(now);
        if connection.is_dead() || self.stopping && connection.is_quiet() {
            if connection.is_owed() {
                self.port.gone(connection_number(connection.id));
                self.tells_gone = true;
            }
            *home = None;
            self.vacate(place);
            return;
        }
        if goes_home && connection.is_at_rest() {
            connection.go_home();
        }
        if connection.may_move() && self.other_lane(place).is_some_and(|lane| lane.stopping.load(Ordering::Acquire)) {
            // Nobody there would take it.
            if let Some(Some(connection)) = self.connections.get_mut(usize::from(place)) {
                connection.end();
            }
            self.enter_deadline(place);
            return;
        }
        let Some(home) = self.connections.get_mut(usize::from(place)) else { return };
        let Some(connection) = home else { return };
        if connection.may_move() {
            if let Some(connection) = home.take() {
                self.move_on(connection);
            }
            self.vacate(place);
            return;
        }
        if !connection.listed && connection.wants_service() {
            connection.listed = true;
            if connection.waits_for_engine() && !self.port.has_room() {
                self.starved.push(place);
            } else {
                self.serving.push(place);
            }
        }
        self.enter_deadline(place);
    }

    fn enter_deadline(&mut self, place: u16) {
        let Some(Some(connection)) = self.connections.get_mut(usize::from(place)) else { return };
        if let Some(at) = connection.deadline(&self.shared.config)
            && connection.entered_at.is_none_or(|entered| at < entered)
        {
            connection.entered_at = Some(at);
            self.deadlines.enter(at, connection.id);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(id) = self.deadlines.take_due(now) {
            let Some(Some(connection)) = self.connections.get_mut(usize::from(id.place)) else { continue };
            if connection.id != id {
                continue;
            }
            connection.entered_at = None;
            if connection.deadline(&self.shared.config).is_some_and(|at| at <= now) {
                connection.expire(&mut *self.port, &self.shared, now);
                // The next round sends what it said and drops it when it is dead.
                if !connection.touched {
                    connection.touched = true;
                    self.touched.push(id.place);
                }
            }
            self.enter_deadline(id.place);
        }
    }

    /// Gives a place to the next tenant; replies to the one before are told apart by the tenant number.
    fn vacate(&mut self, place: u16) {
        if let Some(tenant) = self.tenants.get_mut(usize::from(place)) {
            *tenant = tenant.wrapping_add(1);
        }
        self.free.push(place);
    }

    fn begin_stop(&mut self) {
        self.stopping = true;
        self.doors.clear();
        self.accept_at = None;
        for (place, connection) in self.connections.iter_mut().enumerate() {
            let Some(connection) = connection else { continue };
            connection.end();
            if !connection.touched {
                connection.touched = true;
                self.touched.push(place as u16);
            }
        }
    }

    fn has_stopped(&self, now: Instant) -> bool {
        let gone = || self.connections.iter().all(Option::is_none);
        self.stopping && (self.mailbox_stop_by().is_some_and(|by| by <= now) || gone())
    }
}

/// Tells a connection beyond the caps that it is one, as far as one write goes.
fn turn_away(mut stream: TcpStream, speech: Speech) {
    let error = ApiError::new(Code::Overloaded, "too many connections");
    let mut out = Vec::new();
    match speech {
        Speech::Http => {
            let http = HttpReply { close: true, ..HttpReply::default() };
            http::write::error(&mut out, &error, http, &Cors::default(), None);
        }
        Speech::Framed => framed::write::error(&mut out, &error, None),
    }
    // The peer may be gone already; nobody is left to tell.
    let _told = stream.write(&out).is_ok();
}

/// Keeps the configuration next to what the thread's requests may do with it.
pub(crate) fn shared(lane: Lane, config: Arc<NativeConfig>, readiness: crate::server::Readiness, tally: Tally) -> Shared {
    Shared { lane, config, readiness, registry_version: std::cell::Cell::new(0), tally: RefCell::new(tally) }
}
