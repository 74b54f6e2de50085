//! Subscriptions to events: rows in the transaction that brought them, from any LSN of the log on.
//!
//! ```text
//! log --TailReader (ring or file, durable frames only)--> behind: a reader each --> live: one reader for all
//!                                                            rows -> messages -> the client's queue
//! ```
//! All of it is off the seat: apply neither waits for subscribers nor knows of them. A frame of the log is a transaction:
//! a push, a batch, or a slice of a Kafka poll, and pushes that came together. Events keep nothing: what a subscriber
//! sees was folded into tables once and is in the log, nowhere else.
//!
//! [`live`] deals frames out to whoever has read all there is; [`behind`] reads for those who have not, until they have.
//! The two meet by one comparison of LSNs. [`selection`] says which rows, [`rows`] how they are told, [`member`] is a
//! subscriber. Queues and messages are the contract's (`streamgauge_api::subscribe`), sockets the connectors'.

mod behind;
mod live;
mod member;
mod rows;
mod selection;
#[cfg(test)]
mod tests;

use crate::apply::names::Names;
use crate::apply::{Facts, codec, names_at};
use crate::row::Rows;
use crate::state::Content;
use crate::storage::Storage;
use crate::wal::{Frame, TailError, TailReader, WalError, WalHandle};
use behind::{Behind, Pool};
use live::Live;
use member::{Member, Place};
use parking_lot::Mutex;
use rows::Projection;
use selection::Selection;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use streamgauge_api::subscribe::{From, Message, SUBSCRIPTIONS_MAX, SubscribeRequest, SubscriberQueue, Waiting};
use streamgauge_api::{ApiError, Code};

/// Whose cursor it is in `/status`.
const READER: &str = "subscriber";
/// How long a live subscriber waits for a sync before it begins.
const SYNCED_WITHIN: Duration = Duration::from_secs(5);
/// How long a wait lasts until a stop of the server is seen.
const STEP: Duration = Duration::from_millis(250);

/// All subscriptions of a server.
#[derive(Debug, Clone)]
pub struct Subscriptions<S: Storage>(Arc<Hub<S>>);

#[derive(Debug)]
struct Hub<S: Storage> {
    wal: WalHandle<S>,
    facts: Arc<Facts>,
    /// First LSNs of frames that are left out, ascending.
    skipped: Arc<[u64]>,
    places: Arc<AtomicUsize>,
    waiting: Waiting,
    next_id: AtomicU64,
    live: Mutex<Live>,
    behind: Pool<S>,
}

impl<S: Storage + 'static> Subscriptions<S> {
    /// None yet. Frames at `skipped` LSNs were left out of the tables by an operator, and are of this too.
    pub fn new(wal: WalHandle<S>, facts: Arc<Facts>, skipped: Arc<[u64]>) -> Self {
        assert!(skipped.is_sorted(), "LSNs of skipped frames ascend");
        Self(Arc::new(Hub {
            wal,
            facts,
            skipped,
            places: Arc::default(),
            waiting: Waiting::default(),
            next_id: AtomicU64::new(0),
            live: Mutex::default(),
            behind: Pool::default(),
        }))
    }

    /// Begins one, whose messages come into `queue` until that is closed; says what a client is told first: which log,
    /// what of it is there, where the subscription begins.
    ///
    /// # Errors
    /// `subscribe_all_excludes_events`, `event_not_found`, `invalid_expression`, `log_changed`, `position_expired`, `position_ahead`,
    /// `too_many_subscribers`, `overloaded` when the log is not synced in time, `not_available` at level `memory`.
    pub fn begin(&self, request: &SubscribeRequest, queue: Arc<SubscriberQueue>) -> Result<Json, ApiError> {
        let Self(hub) = self;
        let Some(log_id) = hub.wal.log_id() else { return Err(TailError::NoLog.into()) };
        let log_id = format!("{log_id:032x}");
        if let Some(known) = request.log_id.as_ref().filter(|known| **known != log_id) {
            let reason = format!("the server writes log {log_id}, and the LSN is of log {known}");
            return Err(ApiError::new(Code::LogChanged, reason));
        }
        // Names as they are now: what is asked for has to be there.
        Selection::check(request, &hub.facts.registry())?;
        let too_many = || ApiError::new(Code::TooManySubscribers, format!("{SUBSCRIPTIONS_MAX} subscriptions are open"));
        let place = Place::take(&hub.places, SUBSCRIPTIONS_MAX).ok_or_else(too_many)?;
        let (id, weak) = (hub.next_id.fetch_add(1, Ordering::Relaxed), Arc::downgrade(hub));
        let room = Box::new(move || {
            if let Some(hub) = weak.upgrade() {
                hub.behind.unpark(id);
            }
        });
        queue.open(&hub.waiting, room);
        let (request, now) = (Arc::new(request.clone()), Instant::now());
        let mut member = Member { id, queue, request: Arc::clone(&request), from_lsn: 1, told_lsn: 0, told: now, _place: place };
        let from_lsn = match request.from {
            From::Live => hub.live_from()?,
            From::Earliest => hub.wal.earliest_lsn(),
            From::Lsn(lsn) => lsn,
            From::Time(us) => hub.first_at(us)?,
        };
        member.start(from_lsn);
        if request.from == From::Live {
            member = match hub.join(member, from_lsn, now) {
                Ok((from_lsn, versions)) => return Ok(hub.hello(&log_id, from_lsn, &versions)),
                Err(member) => member,
            };
        }
        let reader = hub.wal.tail(READER, from_lsn)?;
        let names = names_at(&hub.wal, from_lsn)?;
        if request.from == From::Live {
            member.say_start(now);
        }
        let behind = Behind::new(member, reader, names);
        let hello = hub.hello(&log_id, from_lsn, &behind.selection().versions());
        hub.read_for(behind);
        Ok(hello)
    }
}

impl<S: Storage + 'static> Hub<S> {
    fn hello(&self, log_id: &str, from_lsn: u64, versions: &Json) -> Json {
        json!({
            "log_id": log_id, "earliest_lsn": self.wal.earliest_lsn(), "durable_lsn": self.wal.durable_lsn(), "from": from_lsn,
            "events": versions
        })
    }

    /// A live subscriber joins those that there are, unless there are none, or they have not come to where it begins.
    fn join(&self, mut member: Member, from_lsn: u64, now: Instant) -> Result<(u64, Json), Member> {
        let mut live = self.live.lock();
        if !live.running || live.next_lsn < from_lsn {
            return Err(member);
        }
        let from_lsn = live.next_lsn;
        member.start(from_lsn);
        member.say_start(now);
        let selection = Selection::of(&member.request, live.names.registry());
        let projection = Projection::of(member.request.fields.as_ref(), member.request.encoding, &selection);
        let versions = selection.versions();
        live.join(member, selection, projection);
        Ok((from_lsn, versions))
    }

    /// Begins the thread of live subscribers where this reader stands.
    fn begin_live(self: &Arc<Self>, live: &mut Live, reader: TailReader<S>, names: Names) -> Result<(), ApiError> {
        assert!(!live.running && live.len() == 0, "there is one thread of live subscribers");
        let (hub, next_lsn) = (Arc::clone(self), reader.next_lsn());
        let begun = std::thread::Builder::new().name("subscriptions".into()).spawn(move || hub.deal_out(reader));
        begun.map_err(|error| ApiError::new(Code::Overloaded, format!("no thread for subscribers: {error}")))?;
        (live.running, live.next_lsn, live.names) = (true, next_lsn, names);
        Ok(())
    }

    /// Where live begins: behind all that is applied. What was acknowledged before is not live, and nothing is told that
    /// a crash may take back, so that the log is synced up to there first.
    fn live_from(&self) -> Result<u64, ApiError> {
        let applied_lsn = self.facts.applied_lsn.load(Ordering::Acquire);
        let failed = |_: WalError| ApiError::new(Code::WalUnavailable, "the write-ahead log failed");
        if !self.wal.wait_durable(applied_lsn, SYNCED_WITHIN).map_err(failed)? {
            let reason = format!("the log was not synced up to LSN {applied_lsn} within {} s", SYNCED_WITHIN.as_secs());
            return Err(ApiError::new(Code::Overloaded, reason));
        }
        Ok(self.wal.durable_lsn().max(applied_lsn) + 1)
    }

    /// The first LSN of a frame that was written at or after this time. Segments are gone through from the newest back,
    /// one frame each, and frames of the one that holds it.
    fn first_at(&self, us: i64) -> Result<u64, ApiError> {
        let earliest_lsn = self.wal.earliest_lsn();
        let mut lsn = self.wal.head_before(self.wal.durable_lsn().max(earliest_lsn))?.first_lsn.max(earliest_lsn);
        while lsn > earliest_lsn {
            let first = self.wal.tail(READER, lsn)?.next()?;
            if first.is_some_and(|shared| shared.frame().now_us < us) {
                break;
            }
            lsn = self.wal.head_before(lsn - 1)?.first_lsn.max(earliest_lsn);
        }
        let mut reader = self.wal.tail(READER, lsn)?;
        while let Some(shared) = reader.next()? {
            let frame = shared.frame();
            if frame.now_us >= us {
                return Ok(frame.first_lsn);
            }
            if self.facts.is_stopping() {
                return Err(ApiError::new(Code::ServerStopping, "the server is stopping"));
            }
        }
        Ok(reader.next_lsn())
    }

    fn is_skipped(&self, frame: &Frame<'_>) -> bool {
        self.skipped.binary_search(&frame.first_lsn).is_ok()
    }
}

/// The batches of a frame of rows.
fn decode_rows(frame: &Frame<'_>) -> Result<Vec<Rows>, ApiError> {
    let lost = |error: &dyn std::fmt::Display| ApiError::new(Code::WalDamaged, format!("the frame at LSN {}: {error}", frame.first_lsn));
    match codec::decode(frame).map_err(|error| lost(&error))? {
        Content::Rows(content) => Ok(content.batches),
        _ => unreachable!("a frame of rows holds rows"),
    }
}

impl Member {
    /// Where it begins.
    fn start(&mut self, from_lsn: u64) {
        (self.from_lsn, self.told_lsn) = (from_lsn, from_lsn.saturating_sub(1));
    }

    /// Should nothing come, a live subscriber that comes back goes on here.
    fn say_start(&mut self, now: Instant) {
        if self.told_lsn > 0 {
            self.put(Message::Position(self.told_lsn), None, now);
        }
    }
}
