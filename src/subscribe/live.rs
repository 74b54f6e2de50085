//! Live subscribers: each durable frame is decoded once, looked at once per distinct filter, written once per distinct
//! choice of fields and encoding, and shared by all who want it.
//!
//! ```text
//! frame -> names -> group (events, filter): rows chosen -> outlet (fields, encoding): messages -> members' queues
//! ```
//! One thread, which lives as long as there is a live subscriber. It waits for nobody: a member whose queue is full is
//! ended or reads on for itself ([`super::behind`]). Whoever joins does so under the lock that a frame is dealt out
//! under, so what it is shown begins between two frames.

use super::member::Member;
use super::rows::{PART_BYTES, Projection, parts};
use super::selection::Selection;
use super::{Hub, STEP, decode_rows};
use crate::apply::codec::events_of;
use crate::apply::names::Names;
use crate::row::Rows;
use crate::storage::Storage;
use crate::wal::{Frame, FrameKind, TailReader};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamgauge_api::subscribe::{Message, Offer, OnSlow, QUEUE_BYTES_MAX};
use streamgauge_api::{ApiError, Code};

/// How often members are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Parts of a transaction that are written at once; a larger one each member reads for itself, part by part.
const PARTS_MAX: usize = QUEUE_BYTES_MAX / PART_BYTES / 2;
const _: () = assert!(PARTS_MAX > 0);

/// Those who see the same fields of the same rows.
#[derive(Debug)]
struct Outlet {
    projection: Projection,
    members: Vec<Member>,
}

/// Those who see the same rows.
#[derive(Debug)]
struct Group {
    selection: Selection,
    outlets: Vec<Outlet>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Whether the thread is there.
    pub(super) running: bool,
    /// The first LSN that was not dealt out.
    pub(super) next_lsn: u64,
    pub(super) names: Names,
    groups: Vec<Group>,
    /// Those who have read further in the log: they come in when the frames that they know are dealt out.
    ahead: Vec<(Member, Selection, Projection)>,
}

impl Live {
    /// A member comes in, between two frames: at once, or when those that it has read are dealt out.
    pub(super) fn join(&mut self, member: Member, selection: Selection, projection: Projection) {
        assert!(self.running && member.from_lsn >= self.next_lsn, "what was dealt out is read from the log");
        if member.from_lsn > self.next_lsn {
            return self.ahead.push((member, selection, projection));
        }
        let at = match self.groups.iter().position(|group| group.selection == selection) {
            Some(at) => at,
            None => {
                self.groups.push(Group { selection, outlets: Vec::new() });
                self.groups.len() - 1
            }
        };
        let outlets = &mut self.groups[at].outlets;
        match outlets.iter_mut().find(|outlet| outlet.projection == projection) {
            Some(outlet) => outlet.members.push(member),
            None => outlets.push(Outlet { projection, members: vec![member] }),
        }
    }

    /// A frame is dealt out.
    fn pass(&mut self, last_lsn: u64) {
        self.next_lsn = last_lsn + 1;
        let (met, ahead) = std::mem::take(&mut self.ahead).into_iter().partition(|(member, ..)| member.from_lsn <= self.next_lsn);
        self.ahead = ahead;
        let met: Vec<(Member, Selection, Projection)> = met;
        for (member, selection, projection) in met {
            self.join(member, selection, projection);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let members = self.groups.iter().flat_map(|group| &group.outlets).map(|outlet| outlet.members.len());
        members.sum::<usize>() + self.ahead.len()
    }

    fn wants(&self, frame: &Frame<'_>) -> bool {
        let events = events_of(frame);
        self.groups.iter().any(|group| events.iter().any(|event| group.selection.wants(*event)))
    }

    /// Deals rows out; those that have to read on for themselves come back.
    fn rows(&mut self, batches: &[Rows], lsns: (u64, u64), now: Instant, slow: &dyn Fn() -> ApiError) -> Vec<Member> {
        let mut left = Vec::new();
        for group in &mut self.groups {
            let chosen = group.selection.choose(batches, lsns.0, lsns.0);
            if chosen.is_empty() {
                continue;
            }
            let ends = parts(batches, &chosen);
            for outlet in &mut group.outlets {
                if ends.len() > PARTS_MAX {
                    left.append(&mut outlet.members);
                    continue;
                }
                let write = |part: usize| {
                    let from = part.checked_sub(1).map_or(0, |before| ends[before]);
                    let body = outlet.projection.write(batches, &chosen[from..ends[part]], lsns, (part, ends.len()));
                    Message::Rows { lsn: (part + 1 == ends.len()).then_some(lsns.1), body: body.into() }
                };
                let messages: Vec<Message> = (0..ends.len()).map(write).collect();
                // Parts are estimates, and a row is never cut: what would not fit into an empty queue is nobody's slowness.
                if messages.iter().map(Message::bytes).sum::<usize>() > QUEUE_BYTES_MAX / 2 {
                    left.append(&mut outlet.members);
                } else {
                    outlet.deal(&messages, lsns, now, slow, &mut left);
                }
            }
        }
        left
    }

    /// Takes other declarations over; those that have to read on for themselves come back.
    fn follow(&mut self, now: Instant, slow: &dyn Fn() -> ApiError) -> Vec<Member> {
        let mut left = Vec::new();
        let registry = Arc::clone(self.names.registry());
        self.groups.retain_mut(|group| match group.selection.follow(&registry) {
            Err(error) => {
                let members = group.outlets.drain(..).flat_map(|outlet| outlet.members);
                members.for_each(|member| member.end(error.clone()));
                false
            }
            Ok(false) => true,
            Ok(true) => {
                let message = [Message::Schema(Arc::new(serde_json::json!({"events": group.selection.versions()})))];
                for outlet in &mut group.outlets {
                    outlet.projection.follow(&group.selection);
                    outlet.deal_all(&message, None, now, slow, &mut left);
                }
                true
            }
        });
        left
    }

    /// Says how far was looked to those who heard nothing for a while, and lets go who has gone.
    fn sweep(&mut self, now: Instant) {
        let passed_lsn = self.next_lsn - 1;
        for group in &mut self.groups {
            for outlet in &mut group.outlets {
                outlet.members.retain_mut(|member| member.position(passed_lsn, now));
            }
            group.outlets.retain(|outlet| !outlet.members.is_empty());
        }
        self.ahead.retain(|(member, ..)| !member.queue.is_gone());
        self.groups.retain(|group| !group.outlets.is_empty());
    }

    /// Ends them all.
    fn end(&mut self, error: &ApiError) {
        let outlets = self.groups.drain(..).flat_map(|group| group.outlets);
        outlets.flat_map(|outlet| outlet.members).for_each(|member| member.end(error.clone()));
        self.ahead.drain(..).for_each(|(member, ..)| member.end(error.clone()));
        self.running = false;
    }
}

impl Outlet {
    fn deal(&mut self, messages: &[Message], lsns: (u64, u64), now: Instant, slow: &dyn Fn() -> ApiError, left: &mut Vec<Member>) {
        assert!(self.members.iter().all(|member| member.from_lsn <= lsns.0), "members come in between two frames");
        self.deal_all(messages, Some(lsns.1), now, slow, left);
    }

    fn deal_all(&mut self, messages: &[Message], lsn: Option<u64>, now: Instant, slow: &dyn Fn() -> ApiError, left: &mut Vec<Member>) {
        let mut at = 0;
        while let Some(member) = self.members.get_mut(at) {
            match member.offer(messages, lsn, now) {
                Offer::Taken => at += 1,
                Offer::Gone => drop(self.members.swap_remove(at)),
                Offer::Full => {
                    let member = self.members.swap_remove(at);
                    match member.request.on_slow {
                        OnSlow::Close => member.end(slow()),
                        OnSlow::CatchUp => left.push(member),
                    }
                }
            }
        }
    }
}

impl<S: Storage + 'static> Hub<S> {
    /// The thread of live subscribers, from where `reader` stands.
    pub(super) fn deal_out(self: &Arc<Self>, mut reader: TailReader<S>) {
        let mut swept = Instant::now();
        loop {
            match self.deal_next(&mut reader, &mut swept) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "live subscriptions end");
                    return self.live.lock().end(&error);
                }
            }
        }
    }

    /// The next frame, or a wait for it; false when nobody is there any more.
    fn deal_next(self: &Arc<Self>, reader: &mut TailReader<S>, swept: &mut Instant) -> Result<bool, ApiError> {
        if self.facts.is_stopping() {
            return Err(ApiError::new(Code::ServerStopping, "the server is stopping"));
        }
        let next = reader.next()?;
        let now = Instant::now();
        if now.saturating_duration_since(*swept) >= SWEEP_EVERY {
            *swept = now;
            let mut live = self.live.lock();
            live.sweep(now);
            if live.groups.is_empty() && live.ahead.is_empty() {
                live.running = false;
                return Ok(false);
            }
        }
        let Some(shared) = next else {
            reader.wait(STEP).map_err(|_| ApiError::new(Code::WalUnavailable, "the write-ahead log failed"))?;
            return Ok(true);
        };
        let frame = shared.frame();
        let lsns = (frame.first_lsn, frame.last_lsn());
        // Whoever comes in does so before this frame or behind it.
        let mut live = self.live.lock();
        assert!(lsns.1 >= live.next_lsn, "frames come in the order of their LSNs");
        let (mut left, mut names) = (Vec::new(), None);
        if frame.kind != FrameKind::ROWS {
            let names = names.insert(live.names.clone());
            live.names.pass(&frame);
            if !Arc::ptr_eq(names.registry(), live.names.registry()) {
                left = live.follow(now, &|| self.slow());
            }
        } else if !self.is_skipped(&frame) && live.wants(&frame) {
            let batches = decode_rows(&frame)?;
            left = live.rows(&batches, lsns, now, &|| self.slow());
        }
        live.pass(lsns.1);
        if left.is_empty() {
            return Ok(true);
        }
        // Those of in front of the frame, which frames of rows leave as they are.
        let names = names.unwrap_or_else(|| live.names.clone());
        drop(live);
        left.into_iter().for_each(|member| self.fall_behind(member, lsns.0, &names));
        Ok(true)
    }

    fn slow(&self) -> ApiError {
        let reason = "the client took its messages more slowly than they came";
        ApiError::new(Code::SlowConsumer, reason).with("earliest_lsn", self.wal.earliest_lsn().into())
    }
}
