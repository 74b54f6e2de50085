//! The door for operators: what `admin`, the command line and the console may ask and tell. Calls may block for some milliseconds; never call them
//! on the apply thread or a data-plane I/O thread.

use crate::decision::{Decision, Effect, Place};
use crate::error::ApiError;
use crate::port::{Freshness, Read, Row};
use crate::schema_id::SchemaId;
use crate::subscribe::{SubscribeRequest, SubscriberQueue};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// Answer of the readiness probes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether requests are served.
    pub ready: bool,
    /// `starting`, `recovering`, `catching_up`, `ready`, `draining` or `failed`.
    pub phase: String,
    /// Codes of everything that stands against it: `recovering`, `catching_up`, `draining`, `wal_poisoned`, `disk_full`,
    /// `stale`, `memory_limit`, `source_stopped`.
    pub reasons: Vec<String>,
    /// Open incidents, each as its kind and whom it is about, e.g. `MemoryLimit: table cards`.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Progress of recovery or catch-up, 0 to 1.
    pub progress: f64,
    /// Seconds left, when known.
    pub eta_s: Option<f64>,
}

impl Readiness {
    /// `ready` is said of what is ready and of nothing else: where the phase itself is no reason, it is
    /// `not_ready`.
    pub fn word(&self) -> &str {
        let waits_in_vain = self.phase == "catching_up" && !self.reasons.iter().any(|reason| reason == "catching_up");
        match self.ready {
            true => "ready",
            false if self.phase == "ready" || waits_in_vain => "not_ready",
            false => &self.phase,
        }
    }

    /// The body of `/ready` on either plane. Ready and without anything to say it is just that.
    pub fn body(&self, verbose: bool) -> Json {
        if self.ready && !verbose && self.warnings.is_empty() {
            return json!({"status": "ready"});
        }
        if self.ready && !verbose {
            return json!({"status": "ready", "warnings": self.warnings});
        }
        json!({
            "status": self.word(), "phase": self.phase, "ready": self.ready, "reasons": self.reasons, "warnings": self.warnings,
            "progress": self.progress, "eta_s": self.eta_s,
        })
    }
}

/// One partition in `/sources` and `lag`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Name of the source.
    pub source: String,
    /// Event that it feeds.
    pub event: String,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// `reading`, `at_end`, `waiting` or `stopped`.
    pub state: String,
    /// Next offset wanted.
    pub position: i64,
    /// Log end, `None` while unknown.
    pub end: Option<i64>,
    /// Last stable offset, `None` while unknown.
    pub stable_end: Option<i64>,
    /// Log start, `None` while unknown.
    pub log_start: Option<i64>,
    /// Records behind.
    pub lag_records: Option<i64>,
    /// Seconds behind.
    pub lag_seconds: Option<f64>,
    /// Arrival rate, records/s.
    pub in_per_second: f64,
    /// Apply rate, records/s.
    pub applied_per_second: f64,
    /// Seconds until the end is reached at these rates; `None` at the end or when it runs away.
    pub eta_s: Option<f64>,
    /// The open incident, if any.
    pub incident: Option<crate::source::Incident>,
}

/// Something that left the definitions and has memory still.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retiring {
    /// The table that it left, or that is gone whole.
    pub table: String,
    /// Features that left; none when the table is gone whole.
    pub features: Vec<String>,
    /// How much of it is done,
    pub done: u64,
    /// of how many
    pub of: u64,
    /// `rows` that stand in the layout of features that left, or `chunks` of what went whole, parts of its index included.
    pub unit: String,
    /// When it left the definitions, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// Everything that left the definitions and has memory still: `retiring` in `/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retirement {
    /// In the order in which their memory comes back.
    pub parts: Vec<Retiring>,
    /// What goes first: `snapshot` while one is written, `evacuation` while sparse chunks are emptied to make room.
    pub waits_for: Option<String>,
    /// Registrations that wait for its end.
    pub registrations_waiting: u64,
}

/// A page of a table's keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeysPage {
    /// Table.
    pub table: String,
    /// Keys as JSON: a scalar, or an array for composite keys.
    pub keys: Vec<Json>,
    /// Give this as `after` for the next page; `None` at the end.
    pub next: Option<String>,
    /// Keys in the table.
    pub total: u64,
}

/// One entry of the reject log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// LSN of the frame that decided it.
    pub lsn: u64,
    /// When, microseconds since the epoch.
    pub at_us: i64,
    /// Event.
    pub event: String,
    /// Source, empty for pushes.
    pub source: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Stable code of the reason.
    pub code: String,
    /// The reason with names and numbers.
    pub reason: String,
    /// What the record names its writer schema by, when known.
    pub schema_id: Option<SchemaId>,
    /// Kafka timestamp, ms; -1 when none.
    pub timestamp_ms: i64,
    /// Key bytes, base64 (at most 64 KiB kept).
    pub key: Option<String>,
    /// Value bytes, base64 (at most 64 KiB kept).
    pub value: Option<String>,
    /// Full length of the value in bytes.
    pub value_len: u64,
}

/// Which entry of the reject log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectId {
    /// LSN of the frame that decided it.
    pub lsn: u64,
    /// Event.
    pub event: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl RejectId {
    /// Of this entry.
    pub fn of(reject: &Reject) -> Self {
        let Reject { lsn, event, topic, partition, offset, .. } = reject;
        Self { lsn: *lsn, event: event.clone(), topic: topic.clone(), partition: *partition, offset: *offset }
    }

    /// Whether it is this entry's.
    pub fn is_of(&self, reject: &Reject) -> bool {
        (self.lsn, self.partition, self.offset) == (reject.lsn, reject.partition, reject.offset)
            && self.topic == reject.topic
            && self.event == reject.event
    }
}

/// Which rejects are to be decoded again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetryRequest {
    /// Of this code alone.
    pub code: Option<String>,
    /// Of this source alone.
    pub source: Option<String>,
    /// Of this event alone.
    pub event: Option<String>,
    /// Of the frame at this LSN alone.
    pub lsn: Option<u64>,
    /// Only says what would come of it.
    pub dry_run: bool,
}

impl RetryRequest {
    /// Whether it names this entry. What was pushed was answered to who pushed it.
    pub fn names(&self, reject: &Reject) -> bool {
        let fits = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted == has);
        !reject.source.is_empty()
            && fits(&self.code, &reject.code)
            && fits(&self.source, &reject.source)
            && fits(&self.event, &reject.event)
            && self.lsn.is_none_or(|lsn| lsn == reject.lsn)
    }
}

/// What came of decoding rejects again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// How many were named.
    pub chosen: u64,
    /// Rows that were applied, or would be; their rejects are gone from the log.
    pub rows: u64,
    /// Records that mean nothing now; their rejects are gone too.
    pub nothing: u64,
    /// Those that stay, by reason: the code that they are refused with now, or why they cannot be done again.
    pub stays: std::collections::BTreeMap<String, u64>,
}

/// Rows of one event in a frame of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRows {
    /// The event; `event 7` when its definition is gone.
    pub event: String,
    /// How many; `None` when they cannot be read.
    pub rows: Option<u64>,
}

/// How far a frame of the log brings one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Event.
    pub event: String,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The next offset behind it.
    pub next_offset: i64,
}

/// One frame of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFrame {
    /// LSN of its first row.
    pub first_lsn: u64,
    /// LSN of its last row.
    pub last_lsn: u64,
    /// What it is, in words.
    pub kind: String,
    /// The time that apply was given, microseconds since the epoch.
    pub at_us: i64,
    /// Bytes in the log.
    pub bytes: u64,
    /// Its rows, by event.
    pub rows: Vec<LogRows>,
    /// Partitions that it brings forward.
    pub positions: Vec<LogPosition>,
}

/// Frames of the log, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// Which log: LSNs of another one mean something else.
    pub log_id: String,
    /// The first LSN that can be read.
    pub earliest_lsn: u64,
    /// The last.
    pub durable_lsn: u64,
    /// The frames; the first holds the LSN that was asked for.
    pub frames: Vec<LogFrame>,
    /// Where the next page begins.
    pub next_lsn: u64,
}

/// What an operator may tell the engine to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take a snapshot now.
    Snapshot,
    /// The wall clock is right: the time of frames is set to it.
    AcceptClock,
    /// A table that is being filled from history is held.
    PauseBackfill(u64),
    /// It goes on.
    ResumeBackfill(u64),
    /// It is given up: the table begins empty now.
    CancelBackfill(u64),
    /// Archive everything that is durable.
    Archive,
}

/// The engine as operators see it.
pub trait Control: Send + Sync {
    /// Whether the apply thread stepped, or was idle by its own heartbeat, within 30 s.
    fn alive(&self) -> bool;
    /// Readiness.
    fn readiness(&self) -> Readiness;
    /// Everything `/status` shows: versions, LSNs, durability, memory, what left the definitions and has memory still
    /// ([`Retirement`]), tables with their funnels, incidents, bottleneck.
    fn status(&self) -> Json;
    /// Events, tables and sources as declared, with `node_count` and `version`.
    fn registry(&self) -> Json;
    /// All partitions.
    fn sources(&self) -> Vec<PartitionStatus>;
    /// Notes of whole sources.
    fn source_notes(&self) -> Vec<crate::source::SourceNote>;
    /// Keys of a table in a stable order.
    ///
    /// # Errors
    /// `unknown_table`, `invalid_request` for an `after` that no page gave out.
    fn keys(&self, table: &str, after: Option<&str>, limit: usize) -> Result<KeysPage, ApiError>;
    /// One read.
    ///
    /// # Errors
    /// As `GET /tables/{table}/{key}`.
    fn get(&self, read: &Read) -> Result<(Row, Freshness), ApiError>;
    /// Rejected records after this LSN, oldest first.
    fn rejects(&self, after_lsn: u64, limit: usize) -> Vec<Reject>;

    /// Durable frames of the log from the one that holds `from_lsn` on, at most `limit`; from the next one to come when
    /// none is given. Waits for that long when there is none yet.
    ///
    /// # Errors
    /// `position_expired`, `position_ahead`, `recovering`; `not_available` at level `memory`.
    fn log(&self, from_lsn: Option<u64>, limit: usize, wait: std::time::Duration) -> Result<LogPage, ApiError>;

    /// Begins a subscription to events, whose messages come into `queue` until that is closed. Says what a client is told
    /// first: which log, what of it is there, where the subscription begins.
    ///
    /// # Errors
    /// `subscribe_all_excludes_events`, `event_not_found`, `invalid_expression`, `log_changed`, `position_expired`,
    /// `position_ahead`, `recovering`; `not_available` at level `memory`.
    fn subscribe(&self, request: &SubscribeRequest, queue: Arc<SubscriberQueue>) -> Result<Json, ApiError>;

    /// The event store: whether one is declared, each key with its value, origin and effect, and how far the archive is.
    ///
    /// # Errors
    /// None of its own.
    fn eventstore(&self) -> Result<Json, ApiError>;

    /// Rejects that fell out of the bounded log.
    fn rejects_gone(&self) -> u64;

    /// Decodes rejects again and applies those that are rows now, each once.
    ///
    /// # Errors
    /// `recovering`, `draining`, `memory_limit`, `storage_full`, or a source that reads as nothing.
    fn retry_rejects(&self, request: &RetryRequest) -> Result<Retried, ApiError>;
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// Named bounds with their values and use.
    fn limits(&self) -> Json;
    /// 128-bit state fingerprint with its LSN, computed on a frozen clone.
    ///
    /// # Errors
    /// `recovering`.
    fn fingerprint(&self) -> Result<(u64, String), ApiError>;
    /// Open incidents, each with its `id` where it is a partition's, and what tables lack by decision.
    fn incidents(&self) -> Json;
    /// Tables that are being filled from history, and how far they are.
    fn backfills(&self) -> Json;
    /// Shows what a decision about stopped partitions would do, or does it.
    ///
    /// # Errors
    /// `unknown_reference`, `decision_refused`, `broker_unreachable`, `overloaded`, `request_timeout`, and what the log refuses with.
    fn decide(&self, place: Place, decision: Decision, dry_run: bool) -> Result<Vec<Effect>, ApiError>;
    /// Does it.
    ///
    /// # Errors
    /// The action's own.
    fn act(&self, action: Action) -> Result<Json, ApiError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before, a server at its memory limit answered 503 with `"ready": false` and `"status": "ready"`.
    #[test]
    fn only_what_is_ready_says_so() {
        for (phase, reasons, word) in [
            ("ready", &[][..], "ready"),
            ("ready", &["memory_limit"][..], "not_ready"),
            ("ready", &["stale"], "not_ready"),
            ("catching_up", &["catching_up"], "catching_up"),
            ("catching_up", &["catching_up", "source_stopped"], "catching_up"),
            ("catching_up", &["source_stopped"], "not_ready"),
            ("recovering", &["recovering"], "recovering"),
            ("failed", &["wal_poisoned"], "failed"),
        ] {
            let reasons: Vec<String> = reasons.iter().map(|reason| (*reason).to_owned()).collect();
            let ready = reasons.is_empty();
            let readiness = Readiness { ready, phase: phase.to_owned(), reasons, warnings: vec![], progress: 1.0, eta_s: None };
            for verbose in [false, true] {
                assert_eq!(readiness.body(verbose)["status"], word, "{phase}");
            }
        }
    }
}
