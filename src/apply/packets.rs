//! Packets of Kafka rows on the engine: written and applied, whole or in part.
//!
//! Invariants: rows of one key of an inlet take effect in their order; a packet's positions, its rejects, those of its
//! rows that there is room for, and the word on which of its records wait, are one frame. What is not taken now is kept
//! in [`waiting`](super::waiting). What can never be written is not tried again: its records are left out, each run of
//! offsets with a reject that says so.

use super::engine::Engine;
use super::look::Whom;
use super::split::Split;
use super::turn::{Frame, Refused, Then};
use super::waiting::{Part, Stall, offsets_of, runs_of};
use super::work::{InletId, Packet, ReadAgain};
use crate::state::{RowsContent, WaitingRun};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::{ApiError, Code, PartitionKey, Slot};

/// Rejects that stay, without their bytes, of a packet that is left out.
const REJECTS_LEFT_MAX: usize = 1024;

impl Engine {
    /// Whether packets of this inlet may be taken off the queue now.
    pub(crate) fn takes_packets_of(&self, inlet: InletId) -> bool {
        let free = |stall: &Stall| stall.inlet != inlet || stall.takes_packets();
        !self.is_mid_turn() && self.writer.is_some() && self.failure().is_none() && self.stalls.iter().all(free)
    }

    /// Applies Kafka rows; what the log or the memory limit does not take now waits.
    pub(crate) fn take_packet(&mut self, packet: Packet) {
        let at = self.stalls.iter().position(|stall| stall.inlet == packet.inlet);
        let stall = at.map(|at| self.stalls.remove(at));
        self.decide(Whom::Packet { packet, stall });
    }

    /// Writes a packet, or the part of it that goes. `stall` is what waits of its inlet.
    pub(super) fn finish_packet(&mut self, mut stall: Option<Stall>, packet: Packet, split: Option<&Split>) {
        if let Err(refused) = self.try_packet(&mut stall, packet, split) {
            let (packet, error) = *refused;
            self.stalled(&mut stall, &packet, &error).hold(packet, error);
        }
        self.keep(stall);
    }

    /// What waits of a packet's inlet, or a place for it.
    fn stalled<'a>(&mut self, stall: &'a mut Option<Stall>, packet: &Packet, error: &ApiError) -> &'a mut Stall {
        let (source, passed_us, freed) = (self.source_of(packet), self.passed_us(), self.freed);
        stall.get_or_insert_with(|| Stall::new(packet.inlet, source, error.clone(), passed_us, freed))
    }

    /// Writes a packet, or the part of it that can be, and begins to apply it. `stall` is what waits of its inlet.
    fn try_packet(&mut self, stall: &mut Option<Stall>, packet: Packet, split: Option<&Split>) -> Result<(), Refused<Packet>> {
        assert!(stall.as_ref().is_none_or(Stall::takes_packets), "a packet that is held is in front of this one");
        let waits = packet.content.positions.iter().any(|(slot, _)| self.state.waiting_of(*slot).is_some());
        if split.is_some() || waits {
            return self.write_part(stall, packet, split);
        }
        let Packet { inlet, content, records, again, oldest_ms, bytes } = packet;
        let frame = Frame::new(content, Then::Show { inlet, records, oldest_ms, bytes });
        match self.write_turn(VecDeque::from([frame])) {
            Ok(()) => {
                self.slice();
                Ok(())
            }
            Err(refused) => {
                let (mut frames, error) = *refused;
                let Some(Frame { content, then: Then::Show { inlet, records, oldest_ms, bytes }, .. }) = frames.pop_front() else {
                    unreachable!("a turn that is refused gives its frames back")
                };
                self.refused_packet(stall, Packet { inlet, content, records, again, oldest_ms, bytes }, error)
            }
        }
    }

    /// Writes the rows of a packet that go, with the word on which wait.
    fn write_part(&mut self, stall: &mut Option<Stall>, packet: Packet, split: Option<&Split>) -> Result<(), Refused<Packet>> {
        let part = split.and_then(|split| Part::of(self, &packet, split));
        let bytes_max = self.waiting_room();
        if part.as_ref().zip(stall.as_ref()).is_some_and(|(part, stall)| !stall.has_room(part, bytes_max)) {
            let error = self.exceeded();
            return Err(Box::new((packet, error)));
        }
        let Packet { inlet, content, records, again, oldest_ms, bytes } = &packet;
        let offsets =
            offsets_of(&content.batches, content.positions.len(), |batch, row| split.is_some_and(|split| split.waits(batch, row)));
        let mut waiting = Vec::new();
        let mut gone = Vec::new();
        let mut positions = Vec::with_capacity(content.positions.len());
        for (at, ((slot, position), offsets)) in content.positions.iter().zip(&offsets).enumerate() {
            let Some(reached) = self.state.reached(*slot) else { unreachable!("slots are given out by the state") };
            let known = self.state.waiting_of(*slot);
            for ReadAgain { from, to, found, .. } in again.iter().filter(|again| again.slot == *slot).copied() {
                let waited = || known.into_iter().flat_map(move |known| known.within(from, to));
                waited().for_each(|(from, to)| waiting.extend(without(at, from, to, offsets)));
                let count = waited().map(|(from, to)| (to - from).unsigned_abs()).sum::<u64>();
                assert!(found <= count, "{found} records of {count} that waited were found again");
                if found < count {
                    gone.push((*slot, from, to, count - found));
                }
            }
            let fresh = offsets.iter().copied().filter(|offset| !known.is_some_and(|known| known.waits(*offset)));
            waiting.extend(runs_of(at, true, fresh));
            // While a partition is read again its position stands behind what was read before.
            positions.push((*slot, if known.is_some() && reached.offset > position.offset { reached } else { *position }));
        }
        let counts = records.iter().zip(&offsets);
        let records = counts.map(|((slot, count), waits)| {
            assert!(waits.len() as u64 <= *count, "no more records wait than there are");
            (*slot, count - waits.len() as u64)
        });
        let records: Vec<(u32, u64)> = records.collect();
        let went = records.iter().map(|(_, count)| count).sum();
        let (batches, refused) = self.going(&content.batches, &positions, split);
        assert!(content.retried.is_empty(), "what is decoded again is pushed, and comes in no packet of a source");
        let rejects = content.rejects.iter().cloned().chain(refused).collect();
        let written = RowsContent { positions, waiting, batches, rejects, retried: Vec::new() };
        self.assert_fits(&written);
        let frame = Frame::new(written, Then::Show { inlet: *inlet, records, oldest_ms: *oldest_ms, bytes: *bytes });
        if let Err(refused) = self.write_turn(VecDeque::from([frame])) {
            return self.refused_packet(stall, packet, refused.1);
        }
        self.count_left_out(split);
        gone.into_iter().for_each(|(slot, from, to, records)| self.tell_gone(slot, from, to, records));
        if let Some((part, split)) = part.zip(split) {
            let error = self.exceeded();
            let stall = self.stalled(stall, &packet, &error);
            stall.push(part, split);
            stall.due |= split.is_first_part;
        }
        if let Some(stall) = stall {
            stall.passed_by(went);
        }
        self.slice();
        Ok(())
    }

    /// Records that waited for room are no more in the log between what is there: nobody has them.
    fn tell_gone(&mut self, slot: Slot, from: i64, to: i64, records: u64) {
        let Some(gauge) = self.freshness.gauge(&self.board, slot.0).map(Arc::clone) else { return };
        let PartitionKey { topic, partition, .. } = &gauge.key;
        self.metrics.source_compacted(&gauge.source).inc_by(records);
        tracing::warn!(
            kind = "source.compacted", source = %gauge.source, %topic, partition, from, to, records,
            "records that waited for room were compacted away: no table has them, newer records of their keys stand later"
        );
    }

    fn refused_packet(&mut self, stall: &mut Option<Stall>, packet: Packet, error: ApiError) -> Result<(), Refused<Packet>> {
        if error.code == Code::FrameTooLarge { self.leave_out(stall, packet, &error) } else { Err(Box::new((packet, error))) }
    }

    /// A packet whose frame can never be written: its positions go on, its records become rejects that say so.
    fn leave_out(&mut self, stall: &mut Option<Stall>, packet: Packet, error: &ApiError) -> Result<(), Refused<Packet>> {
        debug_assert!(false, "an inlet bounds its packets: {error}");
        tracing::error!(kind = "source.left_out", rows = packet.content.rows(), %error, "records were left out: their frame is larger than any frame may be");
        let now_us = self.clock.now_us();
        let RowsContent { positions, batches, mut rejects, .. } = packet.content;
        rejects.truncate(REJECTS_LEFT_MAX);
        rejects.iter_mut().for_each(|reject| (reject.key, reject.value) = (None, None));
        for batch in &batches {
            rejects.extend(self.reject_all(batch, &positions, error, now_us));
        }
        let content = RowsContent { positions, rejects, ..RowsContent::default() };
        assert!(super::codec::rows_bytes(&content) <= crate::wal::FRAME_BODY_BYTES_MAX, "a packet without its rows is small");
        self.try_packet(stall, Packet { content, ..packet }, None)
    }

    fn source_of(&mut self, packet: &Packet) -> Arc<str> {
        let slot = packet.content.positions.first().map(|(slot, _)| slot.0);
        let gauge = slot.and_then(|slot| self.freshness.gauge(&self.board, slot));
        gauge.map_or_else(|| Arc::from(""), |gauge| Arc::from(gauge.source.as_str()))
    }

    /// Shows where sources stand when their rows are applied: in front of all that waits.
    pub(super) fn show(&mut self, content: &RowsContent, records: Vec<(u32, u64)>, oldest_ms: i64) {
        assert_eq!(records.len(), content.positions.len(), "records are counted for each partition that moves");
        for (slot, _) in &content.positions {
            let Some(stored) = self.state.partitions().get(slot.0 as usize) else { unreachable!("the frame that moved it is applied") };
            if let Some(gauge) = self.freshness.gauge(&self.board, slot.0) {
                gauge.applied_to(stored.position.offset, stored.position.reached_ms());
            }
        }
        for (slot, count) in records {
            if let Some(gauge) = self.freshness.gauge(&self.board, slot) {
                gauge.applied_records.fetch_add(count, Ordering::Relaxed);
            }
        }
        if oldest_ms >= 0 && content.rows() > 0 {
            self.freshness.visible(&self.metrics, &self.board, content, self.clock.now_us(), oldest_ms);
        }
    }
}

/// `from..to`, which waited, is done but for the records at these offsets.
fn without(position: usize, from: i64, to: i64, waiting: &[i64]) -> Vec<WaitingRun> {
    let Ok(position) = u32::try_from(position) else { unreachable!("positions are counted in 32 bits") };
    let inside = waiting[waiting.partition_point(|offset| *offset < from)..].iter().copied().take_while(|offset| *offset < to);
    let mut runs = Vec::new();
    let mut next = from;
    for offset in inside.chain([to]) {
        if next < offset {
            runs.push(WaitingRun { position, waits: false, from: next, to: offset });
        }
        next = offset + 1;
    }
    runs
}
