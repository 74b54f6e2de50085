//! Rounds of ports' requests on the engine: served in their order, within a time, and between the slices
//! of a turn as far as they only read.
//!
//! Invariants: requests of one connection take effect in the order in which it gave them. Steps that have
//! to wait for the end of a turn stand in the backlog, in order; their connections are *busy*, and what
//! comes over a busy connection goes behind them. A connection that is not busy may read between slices.
//! Nobody serves for longer than a slice at a time; an I/O thread does not begin what is heavy, it leaves
//! that to the apply thread.

use super::codec::rows_bytes;
use super::engine::{Answer, Engine};
use super::limit::refuse_all;
use super::look::Whom;
use super::port::Outbox;
use super::turn::{Frame, SLICE, Then};
use super::work::{Ack, Connection, LOOK_COST, Round, Step, Unsynced};
use crate::state::{Numbers, RowsContent};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use streamgauge_api::port::{Request, Wait};
use streamgauge_api::{Code, Reply, Tag};

/// Bytes of frames that are written together: a turn beyond it ends with the frame that crosses it.
const TURN_BYTES_MAX: usize = 8 << 20;
/// The time of a round on the seat: it begins with the first step, and is looked at after each that may have
/// been long.
struct Pace {
    /// None for a round of one step, which ends with it.
    begun: Option<Instant>,
    unlooked: usize,
}

impl Pace {
    fn of(round: &Round) -> Self {
        Self { begun: (round.len() > 1).then(Instant::now), unlooked: 0 }
    }

    /// Whether the slice is over, after a step of this cost.
    fn is_over(&mut self, look_cost: usize) -> bool {
        self.unlooked += look_cost;
        if self.unlooked < LOOK_COST {
            return false;
        }
        self.unlooked = 0;
        self.begun.is_some_and(|begun| begun.elapsed() >= SLICE)
    }
}

/// Who runs the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The apply thread, or somebody who waits for the seat anyway.
    Apply,
    /// An I/O thread with sockets to go back to.
    Visitor,
}

impl Engine {
    /// Serves a round, or what of it may be served now. What is left is to be served before anything that
    /// came behind it.
    pub(crate) fn serve(&mut self, round: Round, holder: Holder) -> Option<Round> {
        if self.is_mid_turn() { self.serve_reads(round) } else { self.serve_all(round, holder) }
    }

    /// The steps that waited for the end of a turn, first come first.
    pub(crate) fn take_backlog(&mut self) -> Option<Round> {
        if self.is_mid_turn() {
            return None;
        }
        let round = self.backlog.pop_front()?;
        assert!(round.weight() <= self.backlogged, "a round that leaves the backlog was counted when it came");
        self.backlogged -= round.weight();
        Some(round)
    }

    /// Puts back what is left of a round of the backlog.
    pub(crate) fn put_back(&mut self, round: Round) {
        self.backlogged += round.weight();
        self.backlog.push_front(round);
    }

    fn serve_all(&mut self, mut round: Round, holder: Holder) -> Option<Round> {
        assert!(self.busy.is_empty(), "connections are busy in the middle of a turn only");
        let outbox = Arc::clone(&round.outbox);
        let mut pace = Pace::of(&round);
        while round.peek().is_some_and(|step| holder == Holder::Apply || !step.is_heavy()) {
            let Some(step) = round.next() else { unreachable!("a step that was seen is there") };
            let look_cost = step.look_cost();
            match step {
                Step::Call { tag, request, .. } => self.call(&outbox, tag, request),
                Step::Gone(number) => self.forget(Connection::numbered(&outbox, number)),
                Step::Rows { content, acks } if !self.has_events(&content, &acks, &outbox) => {}
                Step::Rows { content, acks } => {
                    let numbers = Numbers::of(&content.batches);
                    if self.fit_surely(&numbers) {
                        let frames = self.collect(&mut round, (content, acks), numbers, holder);
                        if !self.push(&outbox, frames) {
                            break;
                        }
                    } else if let Some(later) = self.decide(Whom::Pushes { outbox: Arc::clone(&outbox), content, acks }) {
                        round.put_first(later);
                        break;
                    }
                    if self.is_mid_turn() {
                        break;
                    }
                }
            }
            if pace.is_over(look_cost) {
                break;
            }
        }
        outbox.ready();
        round.rest()
    }

    /// Frames that follow each other are written together, while there is room for as many rows whatever they are. Near the
    /// memory limit a frame has a turn of its own: it is looked at as the tables stand.
    fn collect(&mut self, round: &mut Round, first: (RowsContent, Vec<Ack>), mut numbers: Numbers, holder: Holder) -> VecDeque<Frame> {
        let outbox = Arc::clone(&round.outbox);
        let mut collected = rows_bytes(&first.0);
        let mut frames = VecDeque::with_capacity(1);
        let frame = |(content, acks)| Frame::new(content, Then::Answer { outbox: Arc::clone(&outbox), acks });
        frames.push_back(frame(first));
        while collected < TURN_BYTES_MAX {
            let Some(step @ Step::Rows { content, .. }) = round.peek() else { break };
            if holder != Holder::Apply && step.is_heavy() {
                break;
            }
            numbers.add(&content.batches);
            if !self.fit_surely(&numbers) {
                break;
            }
            let Some(Step::Rows { content, acks }) = round.next() else { unreachable!("a step that was seen is there") };
            if self.has_events(&content, &acks, &outbox) {
                collected += rows_bytes(&content);
                frames.push_back(frame((content, acks)));
            }
        }
        frames
    }

    /// Writes pushes and applies them; false when the turn goes on.
    pub(super) fn push(&mut self, outbox: &Arc<Outbox>, frames: VecDeque<Frame>) -> bool {
        if frames.is_empty() {
            return true;
        }
        match self.write_turn(frames) {
            Ok(()) => self.slice(),
            Err(refused) => {
                let (frames, error) = *refused;
                debug_assert_ne!(error.code, Code::FrameTooLarge, "a port bounds its frames: {error}");
                let version = self.state.registry().version;
                for Frame { content, then, .. } in &frames {
                    self.count_pushes(content, false);
                    if let Then::Answer { acks, .. } = then {
                        refuse_all(outbox, acks, &error, version);
                    }
                }
                true
            }
        }
    }

    /// Answers the pushes of a frame that is applied, now or when the sync that covers them is done.
    pub(super) fn acknowledge(&mut self, outbox: &Arc<Outbox>, acks: &[Ack], first_lsn: u64) {
        let registry_version = self.state.registry().version;
        // A turn of several slices may have been synced by now, and nobody would tell that again.
        let durable = self.handle.durable_lsn();
        let mut wanted = 0;
        for ack in acks {
            let first = first_lsn + u64::from(ack.first_row);
            let last = first + u64::from(ack.count.max(1)) - 1;
            assert!(first_lsn <= first && last <= self.state.lsn(), "push {first} to {last} is answered when it is applied");
            let synced = ack.wait == Wait::Synced || self.options.push_synced;
            let durable_lsn = (synced && durable >= last).then_some(durable);
            let repeated = self.state.repeated(first..=last);
            let replayed: Vec<(u32, u64)> = repeated.map(|(lsn, once)| (u32::try_from(lsn - first).unwrap_or(u32::MAX), once)).collect();
            let reply = match replayed[..] {
                // A row that came before is answered as it was then.
                [(0, once)] if ack.count == 1 => {
                    Reply::Pushed { ack_lsn: once, first_lsn: once, count: 1, replayed: vec![0], durable_lsn, registry_version }
                }
                _ => {
                    let replayed = replayed.into_iter().map(|(index, _)| index).collect();
                    Reply::Pushed { ack_lsn: last, first_lsn: first, count: ack.count, replayed, durable_lsn, registry_version }
                }
            };
            if synced && durable < last {
                wanted = last;
                self.unsynced.push_back(Unsynced { lsn: last, outbox: Arc::clone(outbox), tag: ack.tag, reply });
            } else {
                outbox.add(ack.tag, reply);
            }
        }
        if wanted > 0 {
            self.handle.request_sync(wanted);
        }
    }

    /// Serves what only reads and has nothing of its own connection in front of it; the rest joins the backlog.
    fn serve_reads(&mut self, mut round: Round) -> Option<Round> {
        if self.busy.is_empty() {
            self.busy.extend(self.turn.connections());
            self.busy.extend(self.backlog.iter().flat_map(Round::connections));
        }
        let outbox = Arc::clone(&round.outbox);
        let mut later = VecDeque::new();
        let mut pace = Pace::of(&round);
        while let Some(step) = round.next() {
            let look_cost = step.look_cost();
            match step {
                Step::Call { tag, request, .. } if request.is_read() && !self.busy.contains(&Connection::of(&outbox, tag)) => {
                    self.call(&outbox, tag, request);
                }
                Step::Gone(number) if !self.busy.contains(&Connection::numbered(&outbox, number)) => {
                    self.forget(Connection::numbered(&outbox, number));
                }
                step => {
                    self.busy.extend(step.tags().map(|tag| Connection::of(&outbox, tag)));
                    later.push_back(step);
                }
            }
            if pace.is_over(look_cost) {
                break;
            }
        }
        if !later.is_empty() {
            let later = Round::new(Arc::clone(&outbox), later);
            self.backlogged += later.weight();
            self.backlog.push_back(later);
        }
        outbox.ready();
        round.rest()
    }

    /// A connection is closed: nobody hears what is read for it.
    fn forget(&mut self, connection: Connection) {
        self.long_reads.drop_of(connection);
        self.waits.drop_of(connection);
    }

    fn call(&mut self, outbox: &Arc<Outbox>, tag: Tag, request: Request) {
        let request = match request {
            Request::Get(read) => match self.wait(outbox, tag, read) {
                Some(read) => Request::Get(read),
                None => return,
            },
            request => request,
        };
        match request {
            Request::BatchGet(reads) => self.begin_rows(outbox, tag, reads),
            Request::GetMany { features, keys } => self.begin_matrix(outbox, tag, features, keys),
            Request::Register(payload) => match self.register(&payload) {
                Some(answer) => self.reply(outbox, tag, answer),
                None => self.park(outbox, tag, payload),
            },
            request => {
                let answer = self.answer(request);
                self.reply(outbox, tag, answer);
            }
        }
    }

    fn reply(&mut self, outbox: &Arc<Outbox>, tag: Tag, answer: Answer) {
        match answer {
            Answer::Now(reply) => outbox.add(tag, reply),
            Answer::WhenSynced(lsn, reply) => {
                self.unsynced.push_back(Unsynced { lsn, outbox: Arc::clone(outbox), tag, reply });
                self.handle.request_sync(lsn);
            }
        }
    }
}
