//! What one I/O thread counts and times: requests by route and status, refusals, connections, and how long reads and pushes took.
//!
//! Nothing is timed request by request. A request remembers the round in which it was parsed, as microseconds since the thread began; replies are
//! noted in runs of the same route, status and round, and a run is one call to its series at the end of the round, with one clock read for all of
//! them. So a pipeline of 512 pushes that are answered in the round that read them costs one comparison each, and two clock reads together.
//!
//! Owned by one I/O thread; its connections reach it through what they share.

use crate::shape::Kind;
use crate::worker::Speech;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::Code;
use streamgauge_api::metrics::{Durations, Gauge, Metrics, RouteSeries};
use streamgauge_api::port::Reply;

/// Route templates; a request that leads nowhere is `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Template {
    Push,
    PushBatch,
    Get,
    Feature,
    Table,
    BatchGet,
    Member,
    Register,
    Ping,
    Reset,
    Health,
    Ready,
    Unknown,
}

impl Template {
    const ALL: [(Template, &'static str); 13] = [
        (Template::Push, "/push"),
        (Template::PushBatch, "/push-batch"),
        (Template::Get, "/get"),
        (Template::Feature, "/get/{feature}/{key}"),
        (Template::Table, "/tables/{table}/{key}"),
        (Template::BatchGet, "/batch_get"),
        (Template::Member, "/member"),
        (Template::Register, "/register"),
        (Template::Ping, "/ping"),
        (Template::Reset, "/reset"),
        (Template::Health, "/health"),
        (Template::Ready, "/ready"),
        (Template::Unknown, "unknown"),
    ];

    /// Where an answer of this form is given.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Push => Self::Push,
            Kind::PushBatch => Self::PushBatch,
            Kind::Get => Self::Get,
            Kind::Feature => Self::Feature,
            Kind::KeyedGet => Self::Table,
            Kind::Batch | Kind::Many => Self::BatchGet,
            Kind::Member => Self::Member,
            Kind::Register => Self::Register,
            Kind::Ping | Kind::FramedPing => Self::Ping,
            Kind::Reset => Self::Reset,
        }
    }
}

/// What a reply is timed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Timer {
    HttpGet,
    HttpBatchGet,
    TcpGet,
    TcpBatchGet,
    /// A push, at the level that is configured.
    Acked,
    /// A push that waited for its sync.
    Synced,
}

/// Replies that are counted and timed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alike {
    /// None on framed TCP, which has no routes.
    answered: Option<(Template, u16)>,
    timer: Option<Timer>,
    parsed_us: u32,
}

/// See the module's head.
pub(crate) struct Tally {
    metrics: Arc<Metrics>,
    /// By [`Template`].
    routes: Vec<RouteSeries>,
    /// By [`Timer`].
    timers: [Arc<Durations>; 6],
    begun: Instant,
    round_us: u32,
    runs: Vec<(Alike, u64)>,
}

impl Tally {
    /// The series of one thread. `durability` is the level at which pushes are acknowledged that ask for none.
    pub(crate) fn new(metrics: Arc<Metrics>, durability: &'static str) -> Self {
        let routes = Template::ALL.iter().map(|(_, path)| metrics.route_series(path)).collect();
        let [http_get, http_batch_get, tcp_get, tcp_batch_get] =
            ["http_get", "http_batch_get", "tcp_get", "tcp_batch_get"].map(|route| metrics.get(route));
        let timers = [http_get, http_batch_get, tcp_get, tcp_batch_get, metrics.push_ack(durability), metrics.push_ack("synced")];
        Self { metrics, routes, timers, begun: Instant::now(), round_us: 0, runs: Vec::new() }
    }

    /// A round begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.round_us = self.since_begun(now);
    }

    /// Wraps after 71 minutes; nothing is answered that late.
    fn since_begun(&self, now: Instant) -> u32 {
        now.duration_since(self.begun).as_micros() as u32
    }

    /// The round in which a request is being parsed.
    pub(crate) fn round_us(&self) -> u32 {
        self.round_us
    }

    /// A reply of the engine was encoded for a request that was parsed in this round.
    pub(crate) fn replied(&mut self, speech: Speech, kind: Kind, status: u16, reply: &Reply, parsed_us: u32) {
        let answered = (speech == Speech::Http).then(|| (Template::of(kind), status));
        let timer = match (kind, speech, reply) {
            (Kind::Push | Kind::PushBatch, _, Reply::Pushed { durable_lsn: Some(_), .. }) => Some(Timer::Synced),
            (Kind::Push | Kind::PushBatch, _, Reply::Pushed { .. }) => Some(Timer::Acked),
            (Kind::Get | Kind::Feature | Kind::KeyedGet, Speech::Http, _) => Some(Timer::HttpGet),
            (Kind::Get | Kind::Feature | Kind::KeyedGet, Speech::Framed, _) => Some(Timer::TcpGet),
            (Kind::Batch | Kind::Many, Speech::Http, _) => Some(Timer::HttpBatchGet),
            (Kind::Batch | Kind::Many, Speech::Framed, _) => Some(Timer::TcpBatchGet),
            _ => None,
        };
        let alike = Alike { answered, timer, parsed_us };
        match self.runs.last_mut() {
            Some((known, count)) if *known == alike => *count += 1,
            _ => self.runs.push((alike, 1)),
        }
    }

    /// The round's replies are encoded.
    pub(crate) fn end(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        let now_us = self.since_begun(Instant::now());
        for (alike, count) in self.runs.drain(..) {
            if let Some((template, status)) = alike.answered
                && let Some(route) = self.routes.get(template as usize)
            {
                route.status(status).inc_by(count);
            }
            if let Some(timer) = alike.timer {
                let took = Duration::from_micros(u64::from(now_us.wrapping_sub(alike.parsed_us)));
                self.timers[timer as usize].record_many(took, count);
            }
        }
    }

    /// An HTTP request was answered without the engine.
    pub(crate) fn answered(&self, template: Template, status: u16) {
        if let Some(route) = self.routes.get(template as usize) {
            route.status(status).inc();
        }
    }

    /// A request was refused before it had a route, or a connection before it had a request.
    pub(crate) fn refused(&self, code: Code) {
        self.metrics.http_rejected(code).inc();
    }

    /// A connection is open for as long as this lives.
    pub(crate) fn open(&self, speech: Speech) -> OpenConnection {
        let gauge = self.metrics.connections(match speech {
            Speech::Http => "http",
            Speech::Framed => "tcp",
        });
        gauge.inc();
        OpenConnection(gauge)
    }
}

/// See [`Tally::open`].
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_stand_at_their_numbers() {
        for (index, (template, _)) in Template::ALL.iter().enumerate() {
            assert_eq!(*template as usize, index);
        }
    }

    #[test]
    fn replies_alike_are_one_run_and_each_is_counted_and_timed() {
        let metrics = Arc::new(Metrics::new("0", "0"));
        let mut tally = Tally::new(Arc::clone(&metrics), "written");
        let pushed =
            |durable_lsn| Reply::Pushed { ack_lsn: 1, first_lsn: 1, count: 1, replayed: Vec::new(), durable_lsn, registry_version: 1 };
        tally.begin(Instant::now());
        let parsed_us = tally.round_us();
        for _ in 0..512 {
            tally.replied(Speech::Http, Kind::Push, 200, &pushed(None), parsed_us);
        }
        assert_eq!(tally.runs.len(), 1);
        tally.replied(Speech::Framed, Kind::Push, 200, &pushed(Some(1)), parsed_us.wrapping_sub(2_000_000));
        tally.replied(Speech::Framed, Kind::Many, 200, &Reply::Many(Vec::new()), parsed_us);
        tally.end();
        tally.end();
        assert_eq!(metrics.route_series("/push").status(200).get(), 512);
        let counts = [metrics.push_ack("written").count(), metrics.push_ack("synced").count(), metrics.get("tcp_batch_get").count()];
        assert_eq!(counts, [512, 1, 1]);
        assert!(metrics.text().contains("streamgauge_push_ack_seconds_bucket{durability=\"synced\",le=\"1\"} 0"), "it took two seconds");
    }

    #[test]
    fn a_connection_counts_while_it_lives() {
        let metrics = Arc::new(Metrics::new("0", "0"));
        let tally = Tally::new(Arc::clone(&metrics), "written");
        let connection = tally.open(Speech::Framed);
        assert!((metrics.connections("tcp").get() - 1.0).abs() < f64::EPSILON);
        drop(connection);
        assert!(metrics.connections("tcp").get().abs() < f64::EPSILON);
    }
}
