//! What is known about running sources: shared between the connector that reads, the apply thread that applies, and the doors that show.

use crate::position::PartitionKey;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// Why something stands still or answers less than it should, as `/status`, `/sources`, `lag` and
/// the read headers name it. A partition's incident is part of the state; one of a table, a source
/// or the server lives as long as its cause is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What kind of incident this is.
    pub kind: IncidentKind,
    /// For `Stalled`: `lso`, `no_leader`, `topic_missing`, `auth`, `registry`, `schema`, `bad_record` or `unknown`; else empty.
    pub cause: String,
    /// When it was opened, microseconds since the Unix epoch.
    pub opened_us: i64,
    /// What is lost, in words with numbers; "nothing" when nothing is.
    pub lost: String,
    /// What still holds.
    pub holds: String,
    /// What was seen: ids, offsets, epochs, the client's text.
    pub evidence: String,
    /// What to type next.
    pub actions: Vec<String>,
}

macro_rules! incident_kinds {
    ($($(#[doc = $means:literal])* $kind:ident,)*) => {
        /// The types of incidents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum IncidentKind { $($(#[doc = $means])* $kind,)* }

        impl IncidentKind {
            /// Every kind.
            pub const ALL: &'static [IncidentKind] = &[$(Self::$kind,)*];

            /// The name in metrics, headers and files.
            pub fn as_str(self) -> &'static str { match self { $(Self::$kind => stringify!($kind),)* } }
        }
    };
}

incident_kinds! {
    /// A partition: retention overtook our position.
    SourceGap,
    /// A partition: the log ends before our position.
    Regressed,
    /// A partition: another topic of the same name.
    Recreated,
    /// A partition: records we applied are no longer in the log.
    Truncated,
    /// A partition: cannot go on now; nothing is lost yet.
    Stalled,
    /// A topic: more partitions than before; informs only.
    PartitionsGrew,
    /// A table or the server: `limits.memory` keeps rows out.
    MemoryLimit,
    /// A table: rows were refused because they are too far ahead of their key's edge.
    RowsAhead,
    /// The server: the wall clock jumped, and the time of frames is held until that is decided.
    ClockJump,
    /// A source or the server: what was taken cannot be written or applied, and is tried again and again.
    WriteStall,
    /// The server: a frame of the log was skipped by an operator; its rows are not in the tables.
    FrameSkipped,
}

impl IncidentKind {
    /// The reason that an open incident of this kind gives in `/ready`, which is 503 then. `None`:
    /// it only warns there, since reads answer as well as they did.
    pub fn not_ready(self) -> Option<&'static str> {
        match self {
            Self::MemoryLimit => Some("memory_limit"),
            _ => None,
        }
    }
}

/// Live numbers of one attached partition. The connector writes what Kafka says, the apply thread what it applied; everybody reads.
#[derive(Debug)]
pub struct PartitionGauge {
    /// Name of the `[sources.x]` section.
    pub source: String,
    /// Which partition.
    pub key: PartitionKey,
    /// Next offset wanted, as applied (apply thread).
    pub applied_offset: AtomicI64,
    /// Kafka timestamp (ms) of the last applied record, -1 when none (apply thread).
    pub applied_time_ms: AtomicI64,
    /// Records applied since start, rejects included (apply thread).
    pub applied_records: AtomicU64,
    /// Log end, read uncommitted; -1 unknown (connector).
    pub end_offset: AtomicI64,
    /// Last stable offset; -1 unknown (connector).
    pub stable_offset: AtomicI64,
    /// Log start; -1 unknown (connector).
    pub start_offset: AtomicI64,
    /// When `end_offset` was learnt, microseconds since the Unix epoch; 0 never (connector).
    pub end_known_us: AtomicI64,
    /// Records taken from Kafka since start (connector).
    pub read_records: AtomicU64,
    /// Whether it is being read: false while unassigned for back-pressure or an incident (connector).
    pub reading: AtomicBool,
    /// The open incident, if any.
    pub incident: RwLock<Option<Incident>>,
}

impl PartitionGauge {
    /// A gauge that stands at `offset` and knows nothing of the log yet.
    pub fn new(source: &str, key: PartitionKey, offset: i64) -> Self {
        Self {
            source: source.to_owned(),
            key,
            applied_offset: AtomicI64::new(offset),
            applied_time_ms: AtomicI64::new(-1),
            applied_records: AtomicU64::new(0),
            end_offset: AtomicI64::new(-1),
            stable_offset: AtomicI64::new(-1),
            start_offset: AtomicI64::new(-1),
            end_known_us: AtomicI64::new(0),
            read_records: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            incident: RwLock::new(None),
        }
    }

    /// Records between the applied position and the known readable end; `None` while the end is unknown.
    pub fn lag_records(&self) -> Option<i64> {
        let end = self.end_offset.load(Ordering::Relaxed);
        (end >= 0).then(|| (end - self.applied_offset.load(Ordering::Relaxed)).max(0))
    }

    /// How far behind in time, ms: 0 at the known end, else `now` minus the last applied record's time; `None` while nothing is known.
    pub fn lag_ms(&self, now_us: i64) -> Option<i64> {
        match self.lag_records() {
            Some(0) => Some(0),
            _ => {
                let time = self.applied_time_ms.load(Ordering::Relaxed);
                (time >= 0).then(|| (now_us / 1000 - time).max(0))
            }
        }
    }

    /// A copy of the open incident.
    pub fn incident(&self) -> Option<Incident> {
        self.incident.read().map(|open| open.clone()).unwrap_or(None)
    }
}

/// All attached partitions by slot, and the sources' own words on what they wait for.
#[derive(Debug, Default)]
pub struct SourceBoard {
    partitions: RwLock<Vec<Option<Arc<PartitionGauge>>>>,
    notes: RwLock<Vec<SourceNote>>,
}

/// A statement about a whole source: a broker that does not answer, a regex that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNote {
    /// Name of the `[sources.x]` section.
    pub source: String,
    /// `connecting`, `reading`, `waiting` or `stopped`.
    pub state: String,
    /// What it waits for, in one sentence; empty when it waits for nothing.
    pub detail: String,
}

impl SourceBoard {
    /// Puts a partition at its slot.
    pub fn put(&self, slot: u32, gauge: Arc<PartitionGauge>) {
        let Ok(mut partitions) = self.partitions.write() else { return };
        let index = slot as usize;
        if partitions.len() <= index {
            partitions.resize_with(index + 1, || None);
        }
        partitions[index] = Some(gauge);
    }

    /// All attached partitions in the order of their slots.
    pub fn partitions(&self) -> Vec<Arc<PartitionGauge>> {
        self.partitions.read().map(|all| all.iter().flatten().cloned().collect()).unwrap_or_default()
    }

    /// One partition by slot.
    pub fn get(&self, slot: u32) -> Option<Arc<PartitionGauge>> {
        self.partitions.read().ok()?.get(slot as usize)?.clone()
    }

    /// Replaces the note of a source.
    pub fn note(&self, note: SourceNote) {
        let Ok(mut notes) = self.notes.write() else { return };
        match notes.iter_mut().find(|known| known.source == note.source) {
            Some(known) => *known = note,
            None => notes.push(note),
        }
    }

    /// The notes of all sources.
    pub fn notes(&self) -> Vec<SourceNote> {
        self.notes.read().map(|all| all.clone()).unwrap_or_default()
    }
}
