//! One connection: its socket, what was read and not parsed, its unanswered requests, what is encoded and not sent, its deadlines.
//!
//! Invariants: bytes are parsed once, in order; at most `unanswered_max` requests are open; nothing is read while too much is unsent; a
//! connection that ends answers what it took, then closes its sending side and reads on for a moment, so that the last answer is not lost
//! to a reset. Owned by one I/O thread, which calls `receive`, `deliver`, `send` and `expire`; it decides nothing about other connections.

use crate::census::Place;
use crate::config::{BODY_BYTES_PER_SECOND_MIN, NativeConfig, UNSENT_BYTES_HIGH};
use crate::deadlines::ConnectionId;
use crate::desk::{Desk, Shared, is_full};
use crate::framed::{self, Framed};
use crate::http::{self, Http};
use crate::protocol::{Phase, Progress, Stop};
use crate::slots::Slots;
use crate::tally::OpenConnection;
use crate::worker::Speech;
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};
use streamgauge_api::port::{Port, Reply};
use streamgauge_api::{ApiError, Code};

/// Bytes read from one connection before others have their turn.
const READ_BUDGET_BYTES: usize = 1024 * 1024;

/// Unparsed bytes up to this size are copied in front of the next read; more stay where they are and grow.
const CARRY_BYTES_MAX: usize = 16 * 1024;

/// How long a connection that was closed with an answer is read on.
const LINGER: Duration = Duration::from_secs(2);

/// How often the rate of a body is looked at.
const RATE_INTERVAL: Duration = Duration::from_secs(5);

/// Buffers beyond this size are given back when they are empty.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What the connection speaks.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http(Http),
    /// Framed TCP.
    Framed(Framed),
}

/// Where the connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// Takes no further request; answers what it took.
    Ending,
    /// Answered; reads on until the peer closes or the instant passes.
    Lingering(Instant),
    Dead,
}

/// The request that is arriving, as the deadlines see it.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    phase: Phase,
    request: u64,
    since: Instant,
    rate_at: Instant,
    received_at_rate: u64,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) stream: TcpStream,
    _place: Place,
    _open: OpenConnection,
    protocol: Protocol,
    input: Vec<u8>,
    slots: Slots,
    out: Vec<u8>,
    sent: usize,
    life: Life,
    /// The socket may have bytes.
    readable: bool,
    /// The peer closed its sending side.
    half_closed: bool,
    /// Parsing stopped for want of room, not of bytes.
    held: bool,
    /// The next request is the other lane's.
    moves: bool,
    /// The thread of light requests that it came to first.
    pub(crate) home: usize,
    received: u64,
    last_active: Instant,
    /// Since when the peer takes none of the bytes that wait for it.
    stalled_since: Option<Instant>,
    arrival: Arrival,
    /// The earliest entry of this connection in the thread's deadlines.
    pub(crate) entered_at: Option<Instant>,
    /// Already in the thread's list of connections to serve.
    pub(crate) listed: bool,
    /// Already in the thread's list of connections to send to.
    pub(crate) touched: bool,
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, stream: TcpStream, place: Place, open: OpenConnection, protocol: Protocol, now: Instant) -> Self {
        let arrival = Arrival { phase: Phase::Idle, request: 0, since: now, rate_at: now + RATE_INTERVAL, received_at_rate: 0 };
        Self {
            id,
            stream,
            _place: place,
            _open: open,
            protocol,
            input: Vec::new(),
            slots: Slots::default(),
            out: Vec::new(),
            sent: 0,
            life: Life::Open,
            readable: false,
            half_closed: false,
            held: false,
            moves: false,
            home: 0,
            received: 0,
            last_active: now,
            stalled_since: None,
            arrival,
            entered_at: None,
            listed: false,
            touched: false,
        }
    }

    /// Takes in what the poller said about the socket. A peer that closes its sending side while a long read
    /// is in work has gone: it gave up waiting. One that closed it together with the request waits for the
    /// answer.
    pub(crate) fn notice(&mut self, readable: bool, read_closed: bool) {
        self.readable |= readable || read_closed;
        if read_closed && !self.half_closed && self.slots.has_long_read() {
            self.life = Life::Dead;
        }
        self.half_closed |= read_closed;
    }

    /// Neither side of the socket is open any more.
    pub(crate) fn hung_up(&mut self) {
        if self.slots.has_long_read() {
            self.life = Life::Dead;
        }
    }

    /// Whether requests are not answered.
    pub(crate) fn is_owed(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Whether `receive` would do something.
    pub(crate) fn wants_service(&self) -> bool {
        match self.life {
            Life::Open => (self.readable || self.held) && !self.moves && !self.is_full(),
            Life::Ending | Life::Lingering(_) => self.readable,
            Life::Dead => false,
        }
    }

    /// Whether parsing waits for the engine's queue rather than for this connection's own replies.
    pub(crate) fn waits_for_engine(&self) -> bool {
        self.life == Life::Open && self.held && !self.is_full()
    }

    /// Whether the connection can be dropped.
    pub(crate) fn is_dead(&self) -> bool {
        self.life == Life::Dead
    }

    /// Whether nothing is open on it: no request, no reply, no part of a request.
    pub(crate) fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.unsent() == 0 && self.arrival.phase == Phase::Idle
    }

    /// Whether it goes to the other lane now: everything that it asked is answered and sent.
    pub(crate) fn may_move(&self) -> bool {
        self.moves && self.life == Life::Open && self.slots.is_empty() && self.unsent() == 0
    }

    /// On the bulk thread: whether nothing of it is there, so that whatever comes next may as well come to its own thread.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.life == Life::Open && self.input.is_empty() && !self.held && self.is_quiet()
    }

    /// It goes back to its own thread.
    pub(crate) fn go_home(&mut self) {
        assert!(self.is_at_rest(), "a connection goes home between two requests");
        self.moves = true;
    }

    /// It is another thread's from here on: what is there of the next request is parsed again, and the socket is read.
    pub(crate) fn moved(&mut self, id: ConnectionId) {
        assert!(self.may_move(), "a connection moves between two requests");
        (self.id, self.moves, self.held, self.readable) = (id, false, true, true);
        (self.entered_at, self.listed, self.touched) = (None, false, false);
    }

    /// Takes no further request.
    pub(crate) fn end(&mut self) {
        if self.life == Life::Open {
            self.life = Life::Ending;
            self.held = false;
        }
    }

    /// Reads and parses what is there, within the budget. `scratch` is the thread's read buffer.
    pub(crate) fn receive(&mut self, scratch: &mut [u8], port: &mut dyn Port, shared: &Shared, now: Instant) {
        if self.held && self.life == Life::Open {
            let input = std::mem::take(&mut self.input);
            let consumed = self.parse(&input, port, shared);
            self.keep(input, consumed);
        }
        let mut budget = READ_BUDGET_BYTES;
        while self.readable && budget > 0 {
            if self.life != Life::Open {
                self.discard(scratch, &mut budget);
                continue;
            }
            if self.held || self.moves || self.is_full() {
                break;
            }
            let carried = if self.input.len() <= CARRY_BYTES_MAX { self.input.len() } else { 0 };
            let (front, space) = scratch.split_at_mut(carried);
            front.copy_from_slice(self.input.get(..carried).unwrap_or_default());
            let count = self.read(space);
            if count == 0 {
                break;
            }
            budget = budget.saturating_sub(count);
            self.last_active = now;
            let filled = scratch.get(..carried + count).unwrap_or_default();
            if carried == self.input.len() {
                self.input.clear();
                let consumed = self.parse(filled, port, shared);
                self.input.extend_from_slice(filled.get(consumed..).unwrap_or_default());
            } else {
                let mut input = std::mem::take(&mut self.input);
                input.extend_from_slice(filled);
                let consumed = self.parse(&input, port, shared);
                self.keep(input, consumed);
            }
        }
        self.mark_arrival(now);
    }

    /// Encodes a reply into its place.
    pub(crate) fn deliver(&mut self, sequence: u16, reply: &Reply, scratch: &mut Vec<u8>, shared: &Shared) {
        if self.life == Life::Dead {
            return;
        }
        let (speech, filled) = match self.protocol {
            Protocol::Http(_) => {
                let write = |shape, out: &mut Vec<u8>| http::write::reply(out, scratch, shape, reply, &shared.config.cors);
                (Speech::Http, self.slots.fill(sequence, &mut self.out, write))
            }
            Protocol::Framed(_) => {
                let frame_max = shared.config.frame_max;
                let write = |shape, out: &mut Vec<u8>| {
                    framed::write::reply(out, scratch, shape, reply, frame_max);
                    0
                };
                (Speech::Framed, self.slots.fill(sequence, &mut self.out, write))
            }
        };
        if let Some((shape, parsed_us, status)) = filled {
            shared.tally.borrow_mut().replied(speech, shape.kind, status, reply, parsed_us);
        }
    }

    /// Sends what is encoded, and ends a connection that has nothing left to say.
    pub(crate) fn send(&mut self, now: Instant) {
        while self.unsent() > 0 && self.life != Life::Dead {
            match self.stream.write(self.out.get(self.sent..).unwrap_or_default()) {
                Ok(0) => self.life = Life::Dead,
                Ok(count) => {
                    self.sent += count;
                    self.stalled_since = None;
                    self.last_active = now;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.life = Life::Dead,
            }
        }
        if self.unsent() == 0 {
            self.out.clear();
            self.sent = 0;
            if self.out.capacity() > KEPT_BYTES_MAX {
                self.out = Vec::new();
            }
            self.advance_life(now);
            return;
        }
        self.stalled_since.get_or_insert(now);
        if self.sent > UNSENT_BYTES_HIGH {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// When the connection has to be looked at, if at all.
    pub(crate) fn deadline(&self, config: &NativeConfig) -> Option<Instant> {
        match self.life {
            Life::Dead => None,
            Life::Lingering(until) => Some(until),
            _ if self.unsent() > 0 => self.stalled_since.map(|since| since + config.write_timeout),
            Life::Ending => None,
            Life::Open if self.held || self.moves || self.is_full() => None,
            Life::Open => match self.arrival.phase {
                Phase::Idle if !self.slots.is_empty() => None,
                Phase::Idle => Some(self.last_active + self.idle_timeout(config)),
                Phase::Head => Some(self.arrival.since + config.head_timeout),
                Phase::Body => Some(self.arrival.rate_at.min(self.arrival.since + config.body_timeout)),
            },
        }
    }

    /// Acts on a deadline that has passed.
    pub(crate) fn expire(&mut self, port: &mut dyn Port, shared: &Shared, now: Instant) {
        let config = &shared.config;
        if self.unsent() > 0 || self.life != Life::Open || self.arrival.phase == Phase::Idle {
            tracing::debug!(place = self.id.place, unsent = self.unsent(), "a connection passed its deadline and is closed");
            self.life = Life::Dead;
            return;
        }
        let in_time = self.arrival.phase == Phase::Body && now < self.arrival.since + config.body_timeout;
        let least = RATE_INTERVAL.as_secs() * BODY_BYTES_PER_SECOND_MIN as u64;
        if in_time && self.received - self.arrival.received_at_rate >= least {
            self.arrival.rate_at = now + RATE_INTERVAL;
            self.arrival.received_at_rate = self.received;
            return;
        }
        let what = if self.arrival.phase == Phase::Head { "head" } else { "body" };
        let error = ApiError::new(Code::RequestTimeout, format!("the request's {what} did not arrive in time"));
        self.with_desk(port, shared, |protocol, desk| match protocol {
            Protocol::Http(http) => http.refuse(&error, desk),
            Protocol::Framed(framed) => framed.refuse(&error, desk),
        });
        self.life = Life::Ending;
    }

    fn parse(&mut self, bytes: &[u8], port: &mut dyn Port, shared: &Shared) -> usize {
        let progress: Progress = self.with_desk(port, shared, |protocol, desk| match protocol {
            Protocol::Http(http) => http.parse(bytes, desk),
            Protocol::Framed(framed) => framed.parse(bytes, desk),
        });
        (self.held, self.moves) = (progress.stop == Stop::Blocked, progress.stop == Stop::Moves);
        if progress.stop == Stop::Ended {
            self.end();
            // What follows the last request is not read as one.
            return bytes.len();
        }
        progress.consumed
    }

    fn with_desk<T>(&mut self, port: &mut dyn Port, shared: &Shared, run: impl FnOnce(&mut Protocol, &mut Desk<'_>) -> T) -> T {
        let unanswered_max = self.unanswered_max();
        let mut desk = Desk { port, slots: &mut self.slots, out: &mut self.out, sent: self.sent, shared, id: self.id, unanswered_max };
        run(&mut self.protocol, &mut desk)
    }

    /// Puts back what parsing left of an own buffer.
    fn keep(&mut self, mut input: Vec<u8>, consumed: usize) {
        if consumed == input.len() {
            input.clear();
            if input.capacity() > KEPT_BYTES_MAX {
                input = Vec::new();
            }
        } else {
            input.drain(..consumed);
        }
        self.input = input;
    }

    /// One read; 0 when nothing came. A read that does not fill the space has emptied the socket: the poller tells of whatever comes later,
    /// except of an end that it has told of already, which is read until it shows.
    fn read(&mut self, space: &mut [u8]) -> usize {
        loop {
            match self.stream.read(space) {
                Ok(0) => {
                    self.readable = false;
                    // Complete requests are answered still.
                    if matches!(self.life, Life::Lingering(_)) || self.is_answered() {
                        self.life = Life::Dead;
                    }
                    self.end();
                    return 0;
                }
                Ok(count) => {
                    self.readable = count == space.len() || self.half_closed;
                    self.received += count as u64;
                    return count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return 0;
                }
                Err(_) => {
                    self.life = Life::Dead;
                    self.readable = false;
                    return 0;
                }
            }
        }
    }

    /// Reads what the peer still sends after its last request, so that closing does not reset the connection.
    fn discard(&mut self, scratch: &mut [u8], budget: &mut usize) {
        let count = self.read(scratch);
        *budget = budget.saturating_sub(count);
    }

    fn advance_life(&mut self, now: Instant) {
        if self.life == Life::Ending && self.slots.is_empty() {
            let closed = self.stream.shutdown(Shutdown::Write).is_err();
            self.life = if closed { Life::Dead } else { Life::Lingering(now + LINGER) };
            self.readable = true;
        }
    }

    /// Notes which request is arriving, and since when.
    fn mark_arrival(&mut self, now: Instant) {
        let (phase, request) = match &self.protocol {
            Protocol::Http(http) => (http.phase(self.input.len()), http.requests()),
            Protocol::Framed(framed) => (framed.phase(self.input.len()), framed.requests()),
        };
        if (phase, request) != (self.arrival.phase, self.arrival.request) || self.held || self.moves {
            let rate_at = now + RATE_INTERVAL;
            self.arrival = Arrival { phase, request, since: now, rate_at, received_at_rate: self.received };
        }
    }

    fn idle_timeout(&self, config: &NativeConfig) -> Duration {
        match self.protocol {
            Protocol::Http(_) => config.idle_timeout,
            Protocol::Framed(_) => config.tcp_idle_timeout,
        }
    }

    fn unanswered_max(&self) -> u32 {
        match self.protocol {
            Protocol::Http(_) => crate::config::HTTP_UNANSWERED_MAX,
            Protocol::Framed(_) => crate::config::FRAMES_UNANSWERED_MAX,
        }
    }

    fn is_full(&self) -> bool {
        is_full(&self.slots, self.unsent(), self.unanswered_max())
    }

    fn is_answered(&self) -> bool {
        self.slots.is_empty() && self.unsent() == 0
    }

    fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::census::Census;
    use crate::desk::fake::{Notes, shared};
    use crate::protocol::Lane;

    const HEAD: &[u8] = b"POST /push/E HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";

    /// A connection and its client's end, with a clock that is moved by hand.
    struct Rig {
        connection: Connection,
        client: std::net::TcpStream,
        port: Notes,
        shared: Shared,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let place = Census::new(1, 1).admit(peer.ip()).unwrap();
            let now = Instant::now();
            let id = ConnectionId { place: 0, tenant: 0 };
            let shared = shared(NativeConfig::default());
            let open = shared.tally.borrow().open(Speech::Http);
            let connection = Connection::new(id, TcpStream::from_std(stream), place, open, Protocol::Http(Http::default()), now);
            Self { connection, client, port: Notes::default(), shared, now }
        }

        /// Lets the client send, until the connection has all of it.
        fn arrive(&mut self, bytes: &[u8]) {
            let whole = self.connection.received + bytes.len() as u64;
            let mut scratch = vec![0; 64 * 1024];
            self.client.write_all(bytes).unwrap();
            while self.connection.received < whole {
                self.connection.notice(true, false);
                self.connection.receive(&mut scratch, &mut self.port, &self.shared, self.now);
                if self.connection.may_move() {
                    self.shared.lane = Lane::Bulk;
                    self.connection.moved(self.connection.id);
                }
            }
        }

        /// Moves the clock; gives whether the connection is still open.
        fn pass(&mut self, seconds: u64) -> bool {
            self.now += Duration::from_secs(seconds);
            while self.connection.deadline(&self.shared.config).is_some_and(|at| at <= self.now) && self.connection.life == Life::Open {
                self.connection.expire(&mut self.port, &self.shared, self.now);
            }
            self.connection.life == Life::Open
        }
    }

    #[test]
    fn a_head_has_five_seconds_from_its_first_byte() {
        let mut rig = Rig::new();
        assert!(rig.pass(50), "a quiet connection is kept");
        rig.arrive(b"GET /");
        assert!(rig.pass(4));
        rig.arrive(b"health HTTP/1.1\r\n");
        assert!(!rig.pass(1), "more bytes do not make it younger");
        rig.connection.send(rig.now);
        let mut reply = [0; 12];
        rig.client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"HTTP/1.1 408");
    }

    #[test]
    fn a_body_has_to_keep_its_rate_and_to_end() {
        let mut trickle = Rig::new();
        trickle.arrive(HEAD);
        trickle.arrive(&[b'x'; 100]);
        assert!(trickle.pass(4) && !trickle.pass(1), "100 bytes in 5 s");
        let mut steady = Rig::new();
        steady.arrive(HEAD);
        for second in 0..29 {
            steady.arrive(&[b'x'; 2_000]);
            assert!(steady.pass(1), "second {second}");
        }
        assert!(!steady.pass(1), "30 s are the end of any body");
    }

    #[test]
    fn a_peer_that_closes_while_a_long_read_is_in_work_has_gone() {
        let body = format!(r#"{{"requests":[{}]}}"#, vec![r#"{"table":"t","key":"k"}"#; 17].join(","));
        let length = body.len();
        let read =
            format!("POST /batch_get HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut rig = Rig::new();
        rig.arrive(read.as_bytes());
        assert_eq!(rig.port.0.len(), 1, "the read is in work");
        rig.connection.notice(true, true);
        assert!(rig.connection.is_dead() && rig.connection.is_owed());
        // Together with the request it means that no other one follows.
        let mut rig = Rig::new();
        rig.connection.notice(false, true);
        rig.arrive(read.as_bytes());
        rig.connection.notice(true, true);
        assert!(rig.connection.life == Life::Open, "it waits for the answer");
        rig.connection.hung_up();
        assert!(rig.connection.is_dead());
        // What is no long read is answered, whoever hears it.
        let mut rig = Rig::new();
        rig.arrive(b"POST /push/E HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
        rig.connection.notice(true, true);
        assert!(!rig.connection.is_dead() && rig.connection.is_owed());
    }

    #[test]
    fn a_quiet_connection_is_closed_without_a_word() {
        let mut rig = Rig::new();
        rig.arrive(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        rig.connection.send(rig.now);
        assert!(rig.pass(59) && !rig.pass(1) && rig.connection.is_dead());
    }

    #[test]
    fn a_stalled_peer_is_closed_ten_seconds_after_it_took_the_last_byte() {
        let mut rig = Rig::new();
        rig.connection.out = vec![b'x'; 64 * 1024 * 1024];
        rig.connection.send(rig.now);
        // The kernel may take more for a while; each byte it takes is progress and starts the wait again.
        loop {
            let before = rig.connection.unsent();
            assert!(before > 0 && rig.pass(9));
            rig.connection.send(rig.now);
            if rig.connection.unsent() == before {
                break;
            }
        }
        assert!(!rig.pass(1), "trying again is not progress");
        assert!(rig.connection.is_dead());
    }
}
