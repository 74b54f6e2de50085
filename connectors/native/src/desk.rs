//! What a protocol's parser may do: put requests to the engine, or answer them itself, always in order.
//!
//! Lent by the I/O thread to a connection's parser for one pass. Parsers see no socket, the engine sees no connection.

use crate::config::{BULK_SHARE, NativeConfig, UNSENT_BYTES_HIGH};
use crate::deadlines::ConnectionId;
use crate::protocol::Lane;
use crate::server::Readiness;
use crate::shape::Shape;
use crate::slots::Slots;
use crate::tally::Tally;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use streamgauge_api::port::{Port, Request, Tag};

/// What all connections of one I/O thread share.
pub(crate) struct Shared {
    /// Which requests the thread serves.
    pub(crate) lane: Lane,
    /// Bounds and deadlines.
    pub(crate) config: Arc<NativeConfig>,
    /// Answers `GET /ready`.
    pub(crate) readiness: Readiness,
    /// The registry version that the engine told last, for push errors that never reach it.
    pub(crate) registry_version: Cell<u64>,
    /// What the thread counts and times.
    pub(crate) tally: RefCell<Tally>,
}

/// The parser's counter.
pub(crate) struct Desk<'a> {
    pub(crate) port: &'a mut dyn Port,
    pub(crate) slots: &'a mut Slots,
    /// Encoded replies.
    pub(crate) out: &'a mut Vec<u8>,
    /// How many bytes of `out` are sent.
    pub(crate) sent: usize,
    pub(crate) shared: &'a Shared,
    pub(crate) id: ConnectionId,
    /// Unanswered requests at which reading stops.
    pub(crate) unanswered_max: u32,
}

impl Desk<'_> {
    /// Whether no further request may be taken: too many unanswered, too much unsent, or the engine's queue is full.
    pub(crate) fn blocked(&self) -> bool {
        is_full(self.slots, self.out.len() - self.sent, self.unanswered_max) || !self.port.has_room()
    }

    /// A tag for the next request, which is answered in `shape`.
    pub(crate) fn tag(&mut self, shape: Shape) -> Tag {
        self.tag_at(shape, 1)
    }

    /// Puts a request to the engine. A fence fills the connection until it is answered, so that nothing
    /// behind it is parsed before; a read of many rows takes a share, since its reply may be large.
    pub(crate) fn call(&mut self, shape: Shape, request: Request) {
        let fence = self.port.is_fence(&request);
        let cost = match &request {
            _ if fence => self.unanswered_max,
            Request::BatchGet(_) | Request::GetMany { .. } => self.unanswered_max / BULK_SHARE,
            _ => 1,
        };
        let tag = self.tag_at(shape, cost);
        if fence && request.is_read() {
            self.slots.mark_long_read();
        }
        self.port.call(tag, request);
    }

    /// Answers without the engine, in order.
    pub(crate) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.slots.answer(self.out, write);
    }

    fn tag_at(&mut self, shape: Shape, cost: u32) -> Tag {
        let sequence = self.slots.take(shape, cost, self.shared.tally.borrow().round_us());
        join_tag(self.id, sequence)
    }
}

/// Whether a connection has to wait for its own replies before it takes another request.
pub(crate) fn is_full(slots: &Slots, unsent_bytes: usize, unanswered_max: u32) -> bool {
    slots.cost() >= unanswered_max || unsent_bytes > UNSENT_BYTES_HIGH
}

/// `[u16 place][u32 tenant][u16 sequence]`.
fn join_tag(id: ConnectionId, sequence: u16) -> Tag {
    Tag(u64::from(id.place) << 48 | u64::from(id.tenant) << 16 | u64::from(sequence))
}

/// What the engine calls this connection.
pub(crate) fn connection_number(id: ConnectionId) -> u64 {
    join_tag(id, 0).connection()
}

/// The connection and the sequence number in a tag.
pub(crate) fn split_tag(tag: Tag) -> (ConnectionId, u16) {
    let Tag(bits) = tag;
    (ConnectionId { place: (bits >> 48) as u16, tenant: (bits >> 16) as u32 }, bits as u16)
}

/// An engine for unit tests.
#[cfg(test)]
pub(crate) mod fake {
    use super::{Arc, Cell, Lane, NativeConfig, Port, RefCell, Request, Shared, Tag, Tally};
    use streamgauge_api::metrics::Metrics;
    use streamgauge_api::port::{Encoding, PushRow, Reply, Wait};

    /// Writes down what it is given; answers nothing.
    #[derive(Default)]
    pub(crate) struct Notes(pub(crate) Vec<String>);

    impl Port for Notes {
        fn push(&mut self, tag: Tag, encoding: Encoding, row: PushRow<'_>, wait: Wait) {
            self.push_batch(tag, encoding, &[row], wait);
        }
        fn push_batch(&mut self, tag: Tag, encoding: Encoding, rows: &[PushRow<'_>], wait: Wait) {
            self.0.push(format!("{tag:?} {encoding:?} {rows:?} {wait:?}"));
        }
        fn call(&mut self, tag: Tag, request: Request) {
            self.0.push(format!("{tag:?} {request:?}"));
        }
        fn gone(&mut self, connection: u64) {
            self.0.push(format!("gone {connection}"));
        }
        fn turn(&mut self, _: &mut Vec<(Tag, Reply)>) {}
        fn has_room(&self) -> bool {
            true
        }
        fn on_ready(&mut self, _: Arc<dyn Fn() + Send + Sync>) {}
        fn recovered(&self) -> bool {
            true
        }
    }

    /// What connections share, under `config`.
    pub(crate) fn shared(config: NativeConfig) -> Shared {
        let readiness = Arc::new(|| (true, "{}".to_owned()));
        let tally = RefCell::new(Tally::new(Arc::new(Metrics::new("0", "0")), "written"));
        Shared { lane: Lane::Light, config: Arc::new(config), readiness, registry_version: Cell::new(0), tally }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of `wire` that reach the engine before anything is answered, and after the first one was.
    fn reached(wire: &[u8], unanswered_max: u32) -> [usize; 2] {
        let (shared, id) =
            (fake::shared(NativeConfig { test_mode: true, ..NativeConfig::default() }), ConnectionId { place: 0, tenant: 0 });
        let (mut port, mut slots, mut out) = (fake::Notes::default(), Slots::default(), Vec::new());
        let mut http = crate::http::Http::default();
        let mut consumed = 0;
        [0, 1].map(|pass| {
            if pass == 1 {
                slots.fill(0, &mut out, |_, bytes| bytes.push(b'.'));
            }
            let mut desk = Desk { port: &mut port, slots: &mut slots, out: &mut out, sent: 0, shared: &shared, id, unanswered_max };
            consumed += http.parse(&wire[consumed..], &mut desk).consumed;
            port.0.len()
        })
    }

    #[test]
    fn nothing_behind_a_fence_is_parsed_until_it_is_answered() {
        let post = |path: &str, body: &str| {
            let length = body.len();
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let entries = |count: usize| vec![r#"{"table":"t","key":"k"}"#; count].join(",");
        let many = |count| post("/batch_get", &format!(r#"{{"requests":[{}]}}"#, entries(count)));
        let push = post("/push/E", "{}");
        for (first, behind) in [
            (post("/register", "{}"), false),
            (post("/reset", "{}"), false),
            (many(17), false),
            (many(16), true),
            (post("/get", r#"{"table":"t","key":"k","min_lsn":7}"#), false),
            (post("/get", r#"{"table":"t","key":"k","min_lsn":7,"wait_ms":0}"#), true),
            (post("/get", r#"{"table":"t","key":"k"}"#), true),
            (push.clone(), true),
            (post("/ping", ""), true),
        ] {
            let wire = format!("{push}{first}{push}{push}");
            // The push in front is answered first: what is open then is the fence itself.
            let [before, after] = reached(wire.as_bytes(), 64);
            assert_eq!((before, after), if behind { (4, 4) } else { (2, 2) }, "{first:.60}");
            let [before, after] = reached(format!("{first}{push}{push}").as_bytes(), 64);
            assert_eq!((before, after), if behind { (3, 3) } else { (1, 3) }, "{first:.60}");
        }
    }

    #[test]
    fn tags_split_into_what_they_were_joined_from() {
        for (place, tenant, sequence) in [(0, 0, 0), (u16::MAX, u32::MAX, u16::MAX), (1, 2, 3), (u16::MAX, 0, 1)] {
            let id = ConnectionId { place, tenant };
            assert_eq!(split_tag(join_tag(id, sequence)), (id, sequence));
        }
    }
}
