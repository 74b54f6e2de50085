//! Packets of Kafka rows on the engine: written and applied, or held while the log or the memory limit does
//! not take them.
//!
//! Invariants: an inlet's packets take effect in their order, so one that waits holds the later ones of its
//! inlet, and those alone: other inlets go on where they can. A packet that waits is tried again every
//! [`RETRY_US`]; that is counted, and shown as an incident of its source for as long as it lasts. What
//! can never be written is not tried again: its records are left out, each run of offsets with a reject
//! that says so.

use super::engine::Engine;
use super::incidents::{IncidentText, Subject};
use super::turn::{Frame, Refused, Then};
use super::work::{InletId, Packet};
use crate::state::RowsContent;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Code};

/// How often a packet that waits is tried again.
const RETRY_US: i64 = 500_000;
/// How often a wait that lasts is logged.
const TELL_EVERY_US: i64 = 60_000_000;

/// Rejects that stay, without their bytes, of a packet that is left out.
const REJECTS_LEFT_MAX: usize = 1024;

/// A packet that waits.
pub(super) struct Held {
    packet: Packet,
    source: Arc<str>,
    /// Why it was not taken when it was last tried.
    error: ApiError,
    since_us: i64,
    next_us: i64,
    told_us: i64,
    tries: u64,
}

impl Engine {
    /// Whether packets of this inlet may be taken off the queue now.
    pub(crate) fn takes_packets_of(&self, inlet: InletId) -> bool {
        !self.is_mid_turn() && self.writer.is_some() && self.failure().is_none() && self.held.iter().all(|held| held.packet.inlet != inlet)
    }

    /// Applies Kafka rows; what the log or the memory limit does not take now is held.
    pub(crate) fn take_packet(&mut self, packet: Packet) {
        if let Err(refused) = self.try_packet(packet) {
            let (packet, error) = *refused;
            let (source, passed_us) = (self.source_of(&packet), self.passed_us());
            let mut held = Held { packet, source, error, since_us: passed_us, next_us: passed_us, told_us: passed_us, tries: 0 };
            self.hold(&mut held, passed_us);
            self.held.push(held);
        }
    }

    /// Tries packets that wait again, when it is time.
    pub(super) fn retry_held(&mut self, passed_us: i64) {
        for mut held in std::mem::take(&mut self.held) {
            // A packet that was taken may be applied in part: nothing else is written until it is.
            if held.next_us > passed_us || self.is_mid_turn() {
                self.held.push(held);
                continue;
            }
            match self.try_packet(held.packet) {
                Ok(()) => {
                    let waited_s = (passed_us - held.since_us) / 1_000_000;
                    tracing::info!(kind = "source.goes_on", source = %held.source, tries = held.tries, waited_s, "rows that waited are written");
                    self.facts.incidents.close(IncidentKind::WriteStall, &Subject::source(&held.source));
                }
                Err(refused) => {
                    (held.packet, held.error) = *refused;
                    self.hold(&mut held, passed_us);
                    self.held.push(held);
                }
            }
        }
    }

    /// Counts and shows that a packet waits.
    fn hold(&mut self, held: &mut Held, passed_us: i64) {
        assert!(passed_us >= held.since_us, "time only passes");
        assert!(self.held.iter().all(|other| other.packet.inlet != held.packet.inlet), "an inlet has one packet that waits");
        held.tries += 1;
        held.next_us = passed_us.saturating_add(RETRY_US);
        let Held { source, error, since_us, tries, packet, .. } = &*held;
        self.metrics.source_retries(source, error.code).inc();
        let waited_s = (passed_us - since_us) / 1_000_000;
        let text = || IncidentText {
            cause: error.code.as_str().to_owned(),
            lost: "nothing: the rows wait, and their partitions with them".to_owned(),
            holds: "everything applied so far is read; other sources go on where the same cause does not hold them".to_owned(),
            evidence: format!("{} rows, tried {tries} times in {waited_s} s: {error}", packet.content.rows()),
            actions: vec![error.code.advice().to_owned()],
        };
        self.facts.incidents.open(IncidentKind::WriteStall, &Subject::source(source), self.clock.now_us(), text);
        if passed_us.saturating_sub(held.told_us) >= TELL_EVERY_US {
            held.told_us = passed_us;
            let (source, error, tries) = (&held.source, &held.error, held.tries);
            tracing::warn!(kind = "source.waits", %source, tries, waited_s, %error, "rows of a source wait still");
        }
    }

    /// Writes a packet and begins to apply it.
    fn try_packet(&mut self, packet: Packet) -> Result<(), Refused<Packet>> {
        let Packet { inlet, mut content, records, oldest_ms, bytes } = packet;
        let now_us = self.clock.now_us();
        let lacking = self.lacking(&content);
        if lacking.iter().any(|lacking| self.options.pause_on_memory || !lacking.known.is_empty()) {
            let error = self.exceeded();
            return Err(Box::new((Packet { inlet, content, records, oldest_ms, bytes }, error)));
        }
        if !lacking.is_empty() {
            self.refuse_rows(&mut content, &lacking, now_us);
        }
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
                let packet = Packet { inlet, content, records, oldest_ms, bytes };
                if error.code == Code::FrameTooLarge { self.leave_out(packet, &error) } else { Err(Box::new((packet, error))) }
            }
        }
    }

    /// A packet whose frame can never be written: its positions go on, its records become rejects that say so.
    fn leave_out(&mut self, packet: Packet, error: &ApiError) -> Result<(), Refused<Packet>> {
        debug_assert!(false, "an inlet bounds its packets: {error}");
        tracing::error!(kind = "source.left_out", rows = packet.content.rows(), %error, "records were left out: their frame is larger than any frame may be");
        let now_us = self.clock.now_us();
        let RowsContent { positions, batches, mut rejects } = packet.content;
        rejects.truncate(REJECTS_LEFT_MAX);
        rejects.iter_mut().for_each(|reject| (reject.key, reject.value) = (None, None));
        for batch in &batches {
            rejects.extend(self.reject_all(batch, &positions, error, now_us));
        }
        let content = RowsContent { positions, batches: Vec::new(), rejects };
        assert!(super::codec::rows_bytes(&content) <= crate::wal::FRAME_BODY_BYTES_MAX, "a packet without its rows is small");
        self.try_packet(Packet { content, ..packet })
    }

    fn source_of(&mut self, packet: &Packet) -> Arc<str> {
        let slot = packet.content.positions.first().map(|(slot, _)| slot.0);
        let gauge = slot.and_then(|slot| self.freshness.gauge(&self.board, slot));
        gauge.map_or_else(|| Arc::from(""), |gauge| Arc::from(gauge.source.as_str()))
    }

    /// Shows where sources stand when their rows are applied.
    pub(super) fn show(&mut self, content: &RowsContent, records: Vec<(u32, u64)>, oldest_ms: i64) {
        assert_eq!(records.len(), content.positions.len(), "records are counted for each partition that moves");
        for (slot, position) in &content.positions {
            if let Some(gauge) = self.freshness.gauge(&self.board, slot.0) {
                gauge.applied_to(position.offset, position.reached_ms());
            }
        }
        for (slot, count) in records {
            if let Some(gauge) = self.freshness.gauge(&self.board, slot) {
                gauge.applied_records.fetch_add(count, Ordering::Relaxed);
            }
        }
        if oldest_ms >= 0 {
            self.freshness.visible(&self.metrics, &self.board, content, self.clock.now_us(), oldest_ms);
        }
    }
}
