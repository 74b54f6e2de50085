//! Subscribers that are behind: each has a reader of its own in the log, and joins the live ones where it meets them.
//!
//! ```text
//! ready --slice of SLICE--> ready | parked (its queue is full) | live (its next LSN is the live ones' or above) | ended
//! parked --the client took messages, or went--> ready
//! ```
//! [`THREADS_MAX`] threads serve them all in turn, and are there only while somebody is behind. What a client does not
//! take is not read: its reader stays where it is, until the log is given back behind it (`position_expired`).

use super::member::Member;
use super::rows::{Projection, parts};
use super::selection::{Chosen, Selection};
use super::{Hub, READER, STEP, decode_rows};
use crate::apply::names::Names;
use crate::row::Rows;
use crate::storage::Storage;
use crate::wal::{FrameKind, TailReader};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::subscribe::Message;
use streamgauge_api::{ApiError, Code};

/// Threads that read for those who are behind.
const THREADS_MAX: usize = 2;
/// How long one is served before the next.
const SLICE: Duration = Duration::from_millis(5);
/// How long a thread stays without anything to do.
const IDLE: Duration = Duration::from_secs(1);

/// Chosen rows of one frame on their way to the subscriber.
#[derive(Debug)]
struct Cut {
    batches: Vec<Rows>,
    chosen: Vec<Chosen>,
    /// Where parts end.
    ends: Vec<usize>,
    /// The next part.
    part: usize,
    lsns: (u64, u64),
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Behind<S: Storage> {
    member: Member,
    reader: TailReader<S>,
    names: Names,
    selection: Selection,
    projection: Projection,
    cut: Option<Cut>,
    /// Everything up to here was looked at.
    passed_lsn: u64,
    /// It was, at least one frame of it: what comes next begins a frame.
    looked: bool,
}

/// What comes after a slice.
enum Then<S: Storage> {
    Again(Behind<S>),
    Park(Behind<S>),
    Done,
}

#[derive(Debug)]
struct Known<S: Storage> {
    ready: VecDeque<Behind<S>>,
    parked: BTreeMap<u64, Behind<S>>,
    threads: usize,
    idle: usize,
}

/// All that are behind, and their threads.
#[derive(Debug)]
pub(super) struct Pool<S: Storage> {
    known: Mutex<Known<S>>,
    changed: Condvar,
}

impl<S: Storage> Default for Pool<S> {
    fn default() -> Self {
        let known = Known { ready: VecDeque::new(), parked: BTreeMap::new(), threads: 0, idle: 0 };
        Self { known: Mutex::new(known), changed: Condvar::new() }
    }
}

impl<S: Storage> Pool<S> {
    /// A subscriber's client took messages, or went.
    pub(super) fn unpark(&self, id: u64) {
        let mut known = self.known.lock();
        if let Some(behind) = known.parked.remove(&id) {
            known.ready.push_back(behind);
            self.changed.notify_one();
        }
    }
}

impl<S: Storage> Behind<S> {
    pub(super) fn new(member: Member, reader: TailReader<S>, names: Names) -> Self {
        let selection = Selection::of(&member.request, names.registry());
        let projection = Projection::of(member.request.fields.as_ref(), member.request.encoding, &selection);
        let passed_lsn = reader.next_lsn() - 1;
        Self { member, reader, names, selection, projection, cut: None, passed_lsn, looked: false }
    }

    /// What is looked at where it begins.
    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Reads on until its time is over.
    fn slice(mut self, hub: &Arc<Hub<S>>) -> Then<S>
    where
        S: 'static,
    {
        let until = Instant::now() + SLICE;
        loop {
            match self.step(hub, until) {
                Ok(Step::On) => {}
                Ok(Step::Over) => return Then::Again(self),
                Ok(Step::NoRoom) => return Then::Park(self),
                Ok(Step::Gone) => return Then::Done,
                Ok(Step::Meets) => match hub.meet(self) {
                    Some(behind) => self = behind,
                    None => return Then::Done,
                },
                Err(error) => {
                    self.member.end(error);
                    return Then::Done;
                }
            }
        }
    }

    fn step(&mut self, hub: &Hub<S>, until: Instant) -> Result<Step, ApiError> {
        let now = Instant::now();
        if !self.member.position(self.passed_lsn, now) {
            return Ok(Step::Gone);
        }
        if hub.facts.is_stopping() {
            return Err(ApiError::new(Code::ServerStopping, "the server is stopping"));
        }
        if let Some(cut) = &mut self.cut {
            if !self.member.queue.want_room() {
                return Ok(Step::NoRoom);
            }
            let from = cut.part.checked_sub(1).map_or(0, |before| cut.ends[before]);
            let body = self.projection.write(&cut.batches, &cut.chosen[from..cut.ends[cut.part]], cut.lsns, (cut.part, cut.ends.len()));
            cut.part += 1;
            let lsn = (cut.part == cut.ends.len()).then_some(cut.lsns.1);
            if lsn.is_some() {
                (self.cut, self.passed_lsn) = (None, cut.lsns.1);
            }
            self.member.put(Message::Rows { lsn, body: body.into() }, lsn, now);
            return Ok(Step::On);
        }
        if now >= until {
            return Ok(Step::Over);
        }
        if !self.member.queue.want_room() {
            return Ok(Step::NoRoom);
        }
        // The first LSN wanted may stand within a frame that the live ones have still to see.
        if self.looked && hub.is_met_at(self.passed_lsn + 1) {
            return Ok(Step::Meets);
        }
        self.look(hub, now)
    }

    /// Looks at the next frame.
    fn look(&mut self, hub: &Hub<S>, now: Instant) -> Result<Step, ApiError> {
        let Some(shared) = self.reader.next()? else { return Ok(Step::Meets) };
        self.looked = true;
        let frame = shared.frame();
        assert!(frame.last_lsn() > self.passed_lsn, "frames come in the order of their LSNs");
        let lsns = (frame.first_lsn, frame.last_lsn());
        if frame.kind != FrameKind::ROWS {
            let before = Arc::clone(self.names.registry());
            self.names.pass(&frame);
            if !Arc::ptr_eq(&before, self.names.registry()) && self.selection.follow(self.names.registry())? {
                self.projection.follow(&self.selection);
                let schema = serde_json::json!({"events": self.selection.versions()});
                self.member.put(Message::Schema(Arc::new(schema)), None, now);
            }
        } else if hub.is_skipped(&frame) {
            tracing::debug!(lsn = lsns.0, "a frame that an operator left out is left out here");
        } else {
            let batches = decode_rows(&frame)?;
            let chosen = self.selection.choose(&batches, lsns.0, self.member.from_lsn);
            if !chosen.is_empty() {
                let ends = parts(&batches, &chosen);
                self.cut = Some(Cut { batches, chosen, ends, part: 0, lsns });
                return Ok(Step::On);
            }
        }
        self.passed_lsn = lsns.1;
        Ok(Step::On)
    }
}

/// What one step came to.
enum Step {
    On,
    /// Others have their turn.
    Over,
    NoRoom,
    Gone,
    /// Nothing is left to read that the live ones have not read.
    Meets,
}

impl<S: Storage + 'static> Hub<S> {
    /// A live member reads on for itself, from the frame at this LSN.
    pub(super) fn fall_behind(self: &Arc<Self>, mut member: Member, lsn: u64, names: &Names) {
        match self.wal.tail(READER, lsn) {
            Ok(reader) => {
                member.from_lsn = member.from_lsn.max(lsn);
                self.read_for(Behind::new(member, reader, names.clone()));
            }
            Err(error) => member.end(error.into()),
        }
    }

    /// Reads for one from here on, on the threads for that.
    pub(super) fn read_for(self: &Arc<Self>, behind: Behind<S>) {
        let mut known = self.behind.known.lock();
        known.ready.push_back(behind);
        if known.threads < THREADS_MAX && known.ready.len() > known.idle {
            let hub = Arc::clone(self);
            let begun = std::thread::Builder::new().name("catch-up".into()).spawn(move || hub.serve_behind());
            match begun {
                Ok(_) => known.threads += 1,
                Err(error) if known.threads == 0 => {
                    tracing::warn!(%error, "no thread for subscribers that are behind");
                    let error = ApiError::new(Code::Overloaded, format!("no thread for a subscriber: {error}"));
                    let all: Vec<Behind<S>> = known.ready.drain(..).collect();
                    drop(known);
                    return all.into_iter().for_each(|behind| behind.member.end(error.clone()));
                }
                Err(_) => {}
            }
        }
        self.behind.changed.notify_one();
    }

    /// Whether there are live subscribers, and what they will be dealt next stands at this LSN or below.
    fn is_met_at(&self, next_lsn: u64) -> bool {
        let live = self.live.lock();
        live.running && next_lsn >= live.next_lsn
    }

    /// One that has read all there is joins the live ones, or begins them. It comes back when they are ahead.
    fn meet(self: &Arc<Self>, behind: Behind<S>) -> Option<Behind<S>> {
        assert!(behind.cut.is_none(), "a subscriber joins between two frames");
        let next_lsn = behind.passed_lsn + 1;
        let mut live = self.live.lock();
        if live.running && next_lsn < live.next_lsn {
            return Some(behind);
        }
        let Behind { mut member, reader, names, selection, projection, .. } = behind;
        member.from_lsn = member.from_lsn.max(next_lsn);
        if !live.running
            && let Err(error) = self.begin_live(&mut live, reader, names)
        {
            drop(live);
            member.end(error);
            return None;
        }
        live.join(member, selection, projection);
        None
    }

    fn serve_behind(self: Arc<Self>) {
        while let Some(behind) = self.next_behind() {
            match behind.slice(&self) {
                Then::Done => {}
                Then::Again(behind) => self.behind.known.lock().ready.push_back(behind),
                Then::Park(behind) => {
                    let (id, queue) = (behind.member.id, Arc::clone(&behind.member.queue));
                    let before = self.behind.known.lock().parked.insert(id, behind);
                    assert!(before.is_none(), "numbers of subscribers are used once");
                    // Asked where whoever makes room finds it.
                    if queue.want_room() {
                        self.behind.unpark(id);
                    }
                }
            }
        }
    }

    /// The next one to serve; none when the thread may go.
    fn next_behind(&self) -> Option<Behind<S>> {
        let (mut known, since) = (self.behind.known.lock(), Instant::now());
        loop {
            if let Some(behind) = known.ready.pop_front() {
                return Some(behind);
            }
            if self.facts.is_stopping() {
                let parked = std::mem::take(&mut known.parked);
                known.ready.extend(parked.into_values());
                if !known.ready.is_empty() {
                    continue;
                }
            }
            if known.parked.is_empty() && since.elapsed() >= IDLE || self.facts.is_stopping() {
                known.threads -= 1;
                return None;
            }
            known.idle += 1;
            let waited = self.behind.changed.wait_for(&mut known, STEP);
            known.idle -= 1;
            if waited.timed_out() {
                // Room that all share comes back without a word.
                let roomy: Vec<u64> =
                    known.parked.iter().filter(|(_, behind)| behind.member.queue.want_room()).map(|(id, _)| *id).collect();
                let roomy: Vec<Behind<S>> = roomy.iter().filter_map(|id| known.parked.remove(id)).collect();
                known.ready.extend(roomy);
            }
        }
    }
}
