//! Sweeps: while the memory limit keeps rows out, what has wholly expired is looked for and given back. Where tables have keys that
//! go cold, the same is done now and then, and those keys go.
//!
//! Time alone makes room then: rows that wait move no key's edge, but windows pass over what is in them. Each second
//! a round of at most [`ROWS_PER_ROUND`] rows is gone through, all tables one after the other and round again, in slices
//! between which everybody else has a turn. A slice looks, which changes nothing, and writes one small frame for what it
//! found ([`Content::Sweep`]); where nothing has expired nothing is written. The rows that wait are tried again behind it.
//!
//! A round waits while a frozen state is being written: what is given back then is held by the frozen state still, and
//! would only be copied. A snapshot that is due waits for the round's end in turn, and comes before the next round.

use super::engine::Engine;
use super::turn::SLICE;
use crate::state::{Content, Found, Place, Sweep};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How often a round begins.
const SWEEP_EVERY_US: i64 = 1_000_000;
/// The same while there is room, where keys go cold.
const COLD_EVERY_US: i64 = 10_000_000;
/// Rows that one round looks at: a hundredth of a second or two.
const ROWS_PER_ROUND: u32 = 1 << 17;
/// Rows between two looks at the clock.
const ROWS_PER_STEP: u32 = 64;

/// Where sweeping stands.
#[derive(Debug, Default)]
pub(super) struct Sweeping {
    /// What is looked at next.
    at: Place,
    /// Rows that the round has left.
    left: u32,
    /// When the next round begins,
    next_us: i64,
    /// and when if it is for cold keys alone.
    cold_next_us: i64,
    /// A round was gone through since a snapshot was begun: one that is due comes first.
    gives_way: bool,
    /// Keys that gave something back in this round, and what tables gave back with it.
    keys: usize,
    bytes: usize,
}

impl Engine {
    /// Begins a round when one is due.
    pub(super) fn begin_sweep(&mut self, passed_us: i64) {
        let lacks_room = self.facts.memory_full.load(Ordering::Relaxed) || self.waits_for_room();
        let is_due = match lacks_room {
            true => passed_us >= self.sweeping.next_us,
            false => self.state.goes_cold() && passed_us >= self.sweeping.cold_next_us,
        };
        if !is_due || self.sweeping.left > 0 {
            return;
        }
        // Rounds may take longer than the time between two: a snapshot would wait for the end of each, and never come.
        if self.sweeping.gives_way && self.snapshot_is_due(passed_us) {
            return;
        }
        self.sweeping.next_us = passed_us.saturating_add(SWEEP_EVERY_US);
        self.sweeping.cold_next_us = passed_us.saturating_add(COLD_EVERY_US);
        self.sweeping.left = self.windowed_rows();
    }

    /// Rows that a round can look at.
    fn windowed_rows(&self) -> u32 {
        u32::try_from(self.state.windowed_rows()).unwrap_or(u32::MAX).min(ROWS_PER_ROUND)
    }

    /// Whether a round is under way and can go on now.
    pub(crate) fn can_sweep(&self) -> bool {
        self.sweeping.left > 0
            && !self.is_mid_turn()
            && self.writer.is_some()
            && self.failure().is_none()
            && !self.state.is_shared()
            && !self.facts.disk_full.load(Ordering::Relaxed)
    }

    /// Goes on with a round for the time of a slice.
    pub(crate) fn sweep_on(&mut self) {
        assert!(self.can_sweep(), "a round goes on between two turns, while the log takes frames");
        let (now_us, begun) = (self.clock.now_us(), Instant::now());
        let mut found = Found::default();
        while self.sweeping.left > 0 && !found.is_full() && begun.elapsed() < SLICE / 2 {
            let rows = self.sweeping.left.min(ROWS_PER_STEP);
            let (looked, next) = self.state.look_for_expired(self.sweeping.at, rows, now_us, &mut found);
            assert!(looked <= rows, "no more is looked at than was asked for");
            self.sweeping.left -= looked;
            let is_of_another_table = looked == 0 && next == self.sweeping.at;
            self.sweeping.at = next;
            if next == Place::default() {
                // Round again, unless the tables went away meanwhile.
                self.sweeping.left = self.sweeping.left.min(self.windowed_rows());
            }
            if is_of_another_table {
                break;
            }
        }
        if !found.sweep.keys.is_empty() {
            self.give_back(found.sweep);
        }
        self.sweeping.gives_way |= self.sweeping.left == 0;
        if self.sweeping.left == 0 && self.sweeping.keys > 0 {
            let (keys, bytes) = (std::mem::take(&mut self.sweeping.keys), std::mem::take(&mut self.sweeping.bytes));
            tracing::info!(kind = "memory.given_back", keys, bytes, "what had wholly expired was given back");
        }
    }

    /// A snapshot was begun: the next round comes before the next snapshot.
    pub(super) fn sweeps_next(&mut self) {
        self.sweeping.gives_way = false;
    }

    /// Writes a frame with keys that give back what has expired, and applies it.
    fn give_back(&mut self, sweep: Sweep) {
        let (before, keys) = (self.state.live_bytes(), sweep.keys.len());
        // A log that does not take it has said so; what has expired is found again.
        if self.commit(&Content::Sweep(sweep)).is_ok() {
            self.sweeping.keys += keys;
            self.sweeping.bytes += before.saturating_sub(self.state.live_bytes());
            self.gave_back();
        }
    }
}
