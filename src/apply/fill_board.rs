//! What runs show of themselves, and how they hear that fills changed.
//!
//! The state says which tables are being filled; how far that is only the run knows, and it says so here. Whoever
//! changes fills on the seat rings here, and so does whoever stops the server, so that the history thread sleeps
//! while nothing is to be done. Nothing here is part of the state, and nobody holds the lock for longer than a copy.

use parking_lot::{Condvar, Mutex};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far one partition is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartProgress {
    /// `topic/partition`.
    pub place: String,
    /// First offset that was read,
    pub from: i64,
    /// the next one,
    pub next: i64,
    /// and where this run ends as far as is known.
    pub until: i64,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FillProgress {
    /// `queued`, `reading`, `waiting`, `paused`, `fencing`, `sealing`.
    pub state: &'static str,
    /// Why it waits, in words.
    pub cause: String,
    /// Rows folded.
    pub rows: u64,
    /// Records that were no rows, by code.
    pub bad: BTreeMap<&'static str, u64>,
    /// How far the records that were read had come in time, ms.
    pub at_ms: Option<i64>,
    /// Records per second.
    pub rate: u64,
    /// Bytes that the shadow holds.
    pub bytes: u64,
    /// Where that is worth a word: history that is shorter than was asked for.
    pub warnings: Vec<String>,
    /// By partition.
    pub parts: Vec<PartProgress>,
}

impl FillProgress {
    /// Records behind it, and in all, by offsets: holes count as read.
    pub fn done_of(&self) -> (u64, u64) {
        let sum = |each: &dyn Fn(&PartProgress) -> i64| self.parts.iter().map(|part| each(part).max(0).unsigned_abs()).sum();
        (sum(&|part| part.next - part.from), sum(&|part| part.until.max(part.next) - part.from))
    }

    /// Seconds until the records are read, at its rate.
    pub fn eta_s(&self) -> Option<u64> {
        let (done, of) = self.done_of();
        (of - done).checked_div(self.rate)
    }

    /// As it is shown.
    pub fn to_json(&self) -> Json {
        let (done, of) = self.done_of();
        json!({
            "state": self.state, "cause": self.cause, "records": done, "of": of, "rows": self.rows, "bad": self.bad,
            "rate": self.rate, "eta_s": self.eta_s(), "at_ms": self.at_ms, "bytes": self.bytes, "warnings": self.warnings,
            "partitions": self.parts.iter().map(|part| json!({
                "partition": part.place, "from": part.from, "next": part.next, "until": part.until,
            })).collect::<Vec<_>>(),
        })
    }
}

#[derive(Debug, Default)]
struct Shown {
    /// How often fills changed.
    changes: u64,
    runs: BTreeMap<u64, FillProgress>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct FillBoard {
    shown: Mutex<Shown>,
    rung: Condvar,
}

impl FillBoard {
    /// Fills changed, or the server stops.
    pub fn ring(&self) {
        self.shown.lock().changes += 1;
        self.rung.notify_all();
    }

    /// Waits until fills changed since `seen`, at most for `limit`; how often they did.
    pub fn wait(&self, seen: u64, limit: Duration) -> u64 {
        let mut shown = self.shown.lock();
        if shown.changes == seen {
            let _timed_out = self.rung.wait_for(&mut shown, limit);
        }
        shown.changes
    }

    /// How often fills changed.
    pub fn changes(&self) -> u64 {
        self.shown.lock().changes
    }

    /// Shows how far a fill is.
    pub fn show(&self, fill: u64, progress: FillProgress) {
        self.shown.lock().runs.insert(fill, progress);
    }

    /// Changes what is shown of a fill.
    pub fn update(&self, fill: u64, change: impl FnOnce(&mut FillProgress)) {
        change(self.shown.lock().runs.entry(fill).or_default());
    }

    /// A fill ended.
    pub fn forget(&self, fill: u64) {
        self.shown.lock().runs.remove(&fill);
    }

    /// What is shown of a fill.
    pub fn of(&self, fill: u64) -> Option<FillProgress> {
        self.shown.lock().runs.get(&fill).cloned()
    }
}
