//! When snapshots are begun, and what becomes of one for which memory has no room.
//!
//! A snapshot is begun between two turns, one at a time, every `durability.snapshot.every`. It shares chunks with the
//! tables, and gives way when they need its room (`Frozen`); that is told as an incident, and the WAL keeps everything. It
//! is tried again less and less often while it does not fit, and as usual once tables have given memory back.

use super::engine::Engine;
use super::incidents::{IncidentText, Subject};
use super::snapshotter::Outcome;
use crate::state::{Frozen, NoRoom};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Code};

/// A snapshot that does not fit is tried at least this often, unless snapshots are rarer anyway.
const CROWDED_MAX_US: i64 = 300_000_000;

/// See the module's head.
pub(super) struct Snapshots {
    /// Where frozen states go; none when there is no such thread, or no longer.
    sender: Option<Sender<Arc<Frozen>>>,
    running: bool,
    begun_us: i64,
    /// Snapshots in a row that did not fit,
    crowded: u32,
    /// and what tables could take beyond what they held when the last of them was given up.
    room: usize,
}

impl Snapshots {
    pub(super) fn new(sender: Option<Sender<Arc<Frozen>>>, passed_us: i64) -> Self {
        Self { sender, running: false, begun_us: passed_us, crowded: 0, room: 0 }
    }

    /// How long ago the last one was begun.
    pub(super) fn since_us(&self, passed_us: i64) -> i64 {
        passed_us.saturating_sub(self.begun_us)
    }

    /// Time between the beginnings of two, while tables may take `room` bytes of `limit`.
    fn pause_us(&self, every_us: i64, room: usize, limit: usize) -> i64 {
        let is_crowded = self.crowded > 0 && room < self.room.saturating_mul(2).saturating_add(limit / 64);
        if is_crowded { every_us.saturating_mul(1 << self.crowded.min(16)).min(every_us.max(CROWDED_MAX_US)) } else { every_us }
    }
}

impl Engine {
    /// Begins a snapshot when it is time for one.
    pub(super) fn snapshot_when_due(&mut self, passed_us: i64) {
        // What a sweep under way gives back need not be written, nor copied.
        if self.snapshot_is_due(passed_us) && !self.can_sweep() {
            let _told = self.snapshot();
        }
    }

    /// Whether it is time for a snapshot, and one can be begun.
    pub(super) fn snapshot_is_due(&self, passed_us: i64) -> bool {
        let every_us = i64::try_from(self.options.snapshot_every.as_micros()).unwrap_or(i64::MAX);
        let since_us = self.snapshots.since_us(passed_us);
        let cannot_be = self.snapshots.running || self.snapshots.sender.is_none() || !self.state.is_writable();
        if every_us == 0 || since_us < every_us || cannot_be {
            return false;
        }
        let (limit, room) = self.memory_room();
        since_us >= self.snapshots.pause_us(every_us, room, limit) && self.state.lsn() > self.facts.snapshot_lsn.load(Ordering::Relaxed)
    }

    /// Freezes the state for the snapshot thread; false when one is running, there is no such thread, or rows have to be
    /// brought over first into the layout that is declared.
    ///
    /// # Errors
    /// `table_memory_exceeded` when memory has no room for it.
    pub(crate) fn snapshot(&mut self) -> Result<bool, ApiError> {
        let Some(sender) = self.snapshots.sender.clone().filter(|_| !self.snapshots.running) else { return Ok(false) };
        assert!(!self.is_mid_turn(), "a snapshot is of whole frames");
        if !self.state.is_writable() {
            return Ok(false);
        }
        self.snapshots.begun_us = self.passed_us();
        self.sweeps_next();
        match self.state.freeze() {
            Ok(frozen) => {
                self.snapshots.running = sender.try_send(frozen).is_ok();
                Ok(self.snapshots.running)
            }
            Err(no_room) => {
                let error = crowded(&no_room);
                super::snapshotter::tell_failed(&self.facts, &self.metrics, self.state.lsn(), &error);
                self.crowded(&no_room);
                Err(error)
            }
        }
    }

    /// The state for the last snapshot; none, which is told, where there can be none.
    pub fn freeze_last(&self) -> Option<Arc<Frozen>> {
        if !self.state.is_writable() {
            tracing::warn!(kind = "snapshot.failed", "there is no last snapshot while features leave a table; the WAL keeps everything");
            return None;
        }
        let told = |error: &NoRoom| {
            tracing::warn!(kind = "snapshot.failed", %error, "there is no last snapshot; the WAL keeps everything");
        };
        self.state.freeze().inspect_err(told).ok()
    }

    /// No further snapshots are asked for: the snapshot thread ends after the one it is writing.
    pub fn end_snapshots(&mut self) {
        self.snapshots.sender = None;
    }

    /// Hears what became of the snapshot that was begun.
    pub(super) fn snapshot_done(&mut self, outcome: Outcome) {
        self.snapshots.running = false;
        match outcome {
            Outcome::Taken => {
                self.snapshots.crowded = 0;
                self.facts.incidents.close(IncidentKind::SnapshotAbandoned, &Subject::Server);
            }
            Outcome::NoRoom(no_room) => self.crowded(&no_room),
            Outcome::Failed => {}
        }
    }

    fn crowded(&mut self, no_room: &NoRoom) {
        self.snapshots.crowded = self.snapshots.crowded.saturating_add(1);
        self.snapshots.room = no_room.limit_bytes.saturating_sub(no_room.tables_bytes);
        let tries = self.snapshots.crowded;
        let text = || IncidentText {
            lost: "nothing: the WAL keeps every frame since the last snapshot, and a restart reads them again".to_owned(),
            holds: "rows are applied and keys are read as ever; what a snapshot shared was given back to the tables".to_owned(),
            evidence: format!("{tries} in a row: {no_room}"),
            actions: vec!["raise limits.memory, or remove tables and features that nobody reads; watch the size of the WAL".to_owned()],
            ..IncidentText::default()
        };
        self.facts.incidents.open(IncidentKind::SnapshotAbandoned, &Subject::Server, self.clock.now_us(), text);
    }
}

/// What who asked for a snapshot is told.
pub(super) fn crowded(no_room: &NoRoom) -> ApiError {
    ApiError::new(Code::TableMemoryExceeded, no_room.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_tried_less_and_less_often_until_there_is_room() {
        const SECOND: i64 = 1_000_000;
        let mut snapshots = Snapshots::new(None, 0);
        let pause = |snapshots: &Snapshots, every, room| snapshots.pause_us(every * SECOND, room, 6400) / SECOND;
        assert_eq!(pause(&snapshots, 1, 0), 1);
        snapshots.room = 50;
        for (crowded, every, expected) in [(1, 1, 2), (2, 1, 4), (8, 1, 256), (9, 1, 300), (40, 1, 300), (1, 400, 400), (3, 200, 300)] {
            snapshots.crowded = crowded;
            assert_eq!(pause(&snapshots, every, 199), expected, "{crowded} in a row, every {every} s");
            assert_eq!(pause(&snapshots, every, 200), every);
        }
    }
}
