//! The engine as operators see it: probes, status, key listings, rejects, metrics, fingerprints, snapshots on demand.
//!
//! Called on threads of the admin runtime; each call takes the seat for as long as it looks, which is micro- to milliseconds.

use super::catch_up::CatchUp;
use super::engine::Engine;
use super::facts::{Facts, Phase};
use super::incidents::Subject;
use super::inlet::SourceSetup;
use super::log::KeptNames;
use super::port::SeatSlot;
use super::rates::Rates;
use super::retry::Retries;
use super::scrape::Scraped;
use super::seat::Seat;
use super::snapshots::crowded;
use crate::read::{UnknownFeature, find_table, key_to_json};
use crate::state::{Fill, FillStep, State, Table};
use crate::storage::Disk;
use crate::wal::{CURSOR_BYTES_MAX, CursorStatus, Hold, RING_BYTES_MAX, WalHandle};
use base64::Engine as _;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::control::{Action, Control, KeysPage, LogPage, PartitionStatus, Readiness, Reject, Retried, RetryRequest};
use streamgauge_api::decision::{Decision, DecisionRequest, Effect, Place};
use streamgauge_api::metrics::Metrics;
use streamgauge_api::port::{Freshness, Read, Row};
use streamgauge_api::source::{Incident, IncidentKind, PartitionGauge, SourceBoard, SourceNote};
use streamgauge_api::subscribe::{SubscribeRequest, SubscriberQueue};
use streamgauge_api::{ApiError, Clock, Code, PartitionKey};

/// Without a heartbeat for this long the apply thread is stuck.
const ALIVE_US: i64 = 30_000_000;
/// Keys of one page.
const KEYS_MAX: usize = 10_000;
/// A decision that the brokers have to be asked for may take this long.
const DECISION_WAIT: Duration = Duration::from_secs(15);
/// One that was begun in time may take this long to end: it waits for rows that were read before.
const DECISION_END: Duration = Duration::from_secs(10);
/// A demanded snapshot may take this long.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(110);

/// What `/status` and `/limits` say besides the engine's own words.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Version of this program.
    pub version: String,
    /// Acknowledgement level of pushes.
    pub durability: String,
    /// Memory limit of tables.
    pub memory_max_bytes: u64,
    /// Data folder; empty at level `memory`.
    pub data_dir: PathBuf,
    /// Readiness waits for sources to be at most this far behind.
    pub max_staleness_ms: Option<i64>,
    /// Further bounds by name.
    pub limits: Vec<(&'static str, Json)>,
}

/// See the module's head.
pub struct EngineControl {
    seat: SeatSlot,
    pub(super) facts: Arc<Facts>,
    pub(super) board: Arc<SourceBoard>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) wal: Arc<std::sync::OnceLock<WalHandle<Disk>>>,
    pub(super) settings: Settings,
    started: Instant,
    /// The same by the wall clock, microseconds: what this process counts, it counts since then.
    started_us: i64,
    rates: Mutex<Rates>,
    pub(super) scraped: Mutex<Scraped>,
    /// What readers of the log know where they are.
    pub(super) names: KeptNames,
    /// Who begins subscriptions: they stand on the log, and not on this.
    subscriptions: std::sync::OnceLock<Subscribe>,
    /// Who tells of the archive, and archives when asked.
    archive: std::sync::OnceLock<ArchiveDoor>,
    /// How records of sources are read, for rejects that are decoded again.
    setups: std::sync::OnceLock<Vec<SourceSetup>>,
    retries: Retries,
}

/// Tells how the archive stands; behind a run when that is asked for.
pub type ArchiveDoor = Box<dyn Fn(bool) -> Result<Json, ApiError> + Send + Sync>;

/// Begins a subscription, whose messages come into that queue; what a client is told first.
pub type Subscribe = Box<dyn Fn(&SubscribeRequest, Arc<SubscriberQueue>) -> Result<Json, ApiError> + Send + Sync>;

impl EngineControl {
    /// Control over an engine that may still be recovering.
    pub fn new(
        seat: SeatSlot,
        facts: Arc<Facts>,
        board: Arc<SourceBoard>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        wal: Arc<std::sync::OnceLock<WalHandle<Disk>>>,
        settings: Settings,
    ) -> Self {
        let started_us = clock.now_us();
        Self {
            seat,
            facts,
            board,
            clock,
            metrics,
            wal,
            settings,
            started: Instant::now(),
            started_us,
            rates: Mutex::default(),
            scraped: Mutex::default(),
            names: KeptNames::default(),
            subscriptions: std::sync::OnceLock::new(),
            archive: std::sync::OnceLock::new(),
            setups: std::sync::OnceLock::new(),
            retries: Retries::default(),
        }
    }

    fn seat(&self) -> Result<&Arc<Seat>, ApiError> {
        self.seat.get().ok_or_else(|| ApiError::new(Code::Recovering, "state is being rebuilt from snapshot and WAL"))
    }

    fn with<T>(&self, run: impl FnOnce(&mut Engine) -> T) -> Result<T, ApiError> {
        Ok(self.seat()?.with(run))
    }

    /// Looks at the engine where it stands, without waiting for the end of a frame.
    pub(super) fn look<T>(&self, run: impl FnOnce(&mut Engine) -> T) -> Result<T, ApiError> {
        Ok(self.seat()?.look(run))
    }

    /// Partitions with incidents of their own.
    pub(super) fn statuses(&self) -> Vec<PartitionStatus> {
        let now_us = self.clock.now_us();
        self.rates.lock().statuses(&self.board.partitions(), now_us)
    }

    pub(super) fn replay_progress(&self) -> f64 {
        let total = self.facts.replay_total.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        if total == 0 { 0.0 } else { self.facts.replay_done.load(Ordering::Relaxed) as f64 / total as f64 }
    }

    /// Records still to read, as far as the ends are known.
    fn behind(&self) -> i64 {
        self.board.partitions().iter().filter_map(|gauge| gauge.lag_records()).sum()
    }

    /// Whether every source is known to be at most this far behind.
    fn is_fresh(&self, most_ms: i64) -> bool {
        let now_us = self.clock.now_us();
        let within = |gauge: &Arc<PartitionGauge>| gauge.lag_ms(now_us).is_some_and(|lag| lag <= most_ms);
        self.board.awaited().is_empty() && self.board.partitions().iter().all(within)
    }

    /// Open incidents of partitions, then those of tables, sources and the server, each with its subject.
    fn open_incidents(&self) -> Vec<Json> {
        let object = |subject: String, incident: &Incident| {
            let mut object = json!(incident);
            object["subject"] = subject.into();
            object
        };
        let of_partition = |gauge: &Arc<PartitionGauge>| {
            let mut object = object(partition_subject(gauge), &gauge.incident()?);
            object["id"] = format!("{}/{}/{}", gauge.source, gauge.key.topic, gauge.key.partition).into();
            object["source"] = gauge.source.clone().into();
            object["event"] = gauge.key.event.clone().into();
            object["topic"] = gauge.key.topic.clone().into();
            object["partition"] = gauge.key.partition.into();
            Some(object)
        };
        let mut incidents: Vec<Json> = self.board.partitions().iter().filter_map(of_partition).collect();
        incidents.extend(self.facts.incidents.list().iter().map(|(subject, incident)| object(subject.to_string(), incident)));
        incidents
    }

    /// Sources that say they wait, where no incident of theirs says it.
    fn waiting_sources(&self, incidents: &[(Subject, Incident)]) -> Vec<String> {
        let told = |source: &str| {
            incidents.iter().any(|(subject, _)| matches!(subject, Subject::Source(name) if name == source))
                || self.board.partitions().iter().any(|gauge| gauge.source == source && gauge.incident().is_some())
        };
        let waiting =
            |note: &SourceNote| matches!(note.state.as_str(), "waiting" | "stopped") && !note.detail.is_empty() && !told(&note.source);
        let notes = self.board.notes().into_iter().filter(waiting);
        notes.map(|note| format!("{}: source {}: {}", note.state, note.source, note.detail)).collect()
    }

    fn bottleneck(&self) -> &'static str {
        // Rows that wait are in no queue.
        if self.facts.kept_out.load(Ordering::Relaxed) {
            return "memory";
        }
        if self.facts.disk_full.load(Ordering::Relaxed) {
            return "disk";
        }
        match (self.behind(), self.facts.queued_rows.load(Ordering::Relaxed)) {
            (..=1000, _) => "none",
            (_, 16_384..) => "apply",
            _ => "fetch_or_decode",
        }
    }
}

/// A partition as the subject of its incident.
fn partition_subject(gauge: &PartitionGauge) -> String {
    format!("source {} partition {}/{}", gauge.source, gauge.key.topic, gauge.key.partition)
}

/// `counting_us` is when this process began to count: the funnel and the windows' misses are of rows that came since, or since the table is there.
fn table_json(table: &Table, bad: u64, refused: u64, counting_us: i64) -> Json {
    let funnel = table.funnel;
    let gone = funnel.filtered + funnel.null_key + funnel.deleted + funnel.undeleted;
    debug_assert!(funnel.applied + gone <= funnel.received, "a row goes one way: {funnel:?}");
    let (since_lsn, since_us) = table.since();
    let ms = |us: i64| us.saturating_add(999).div_euclid(1000);
    let coverage = table.coverage();
    let whole = coverage.iter().filter_map(|(_, us)| *us).max();
    let later: BTreeMap<&str, i64> = coverage.iter().filter_map(|(name, us)| Some((*name, ms((*us)?)))).collect();
    json!({
        "table": table.def().name,
        "event": table.def().event_name,
        "keys": table.len(),
        "bytes": table.bytes(),
        "went_cold": funnel.cold,
        "repeated": funnel.repeated,
        "features": table.def().features.len(),
        "since_lsn": since_lsn,
        "since_ms": since_us / 1000,
        "complete_since_ms": whole.map(ms),
        "complete_since_ms_by_feature": later,
        "newest_ms": table.newest_us().map(|us| us / 1000),
        "counting_since_ms": counting_us.max(since_us) / 1000,
        "windows": table.missed().iter().map(|((window_us, resolution), missed)| json!({
            "window_ms": window_us / 1000, "resolution": resolution, "late": missed.late, "ahead_refused": missed.ahead,
        })).collect::<Vec<_>>(),
        "funnel": {
            "received": funnel.received + bad,
            "decoded": funnel.received,
            "bad": bad,
            "filtered": funnel.filtered,
            "null_key": funnel.null_key,
            "late": funnel.late,
            "applied": funnel.applied,
            "deleted": funnel.deleted,
            "undeleted": funnel.undeleted,
            "memory_refused": refused,
        },
    })
}

/// Who keeps the log from where on, and how many bytes of it.
fn cursor_json(cursor: &CursorStatus) -> Json {
    json!({
        "reader": cursor.name, "needs_lsn": cursor.needs_lsn, "bytes": cursor.bytes,
        "gives_way": cursor.hold == Hold::GivesWay,
    })
}

/// Open fills with what they are of.
fn fills_of(state: &State) -> Vec<(u64, Json)> {
    let name = |table: u32| state.registry().table_by_id(table).map(|def| def.name.to_string()).unwrap_or_default();
    let shown = |(id, fill): (&u64, &Fill)| {
        let (lsn, us) = fill.since;
        let known = json!({
            "id": id, "table": name(fill.table), "from": fill.history.to_string(), "since_lsn": lsn, "since_ms": us / 1000, "paused": fill.paused,
        });
        (*id, known)
    };
    state.fills().open.iter().map(shown).collect()
}

impl EngineControl {
    /// A fill with how far it is.
    fn fill_json(&self, (id, mut fill): (u64, Json)) -> Json {
        let shown = self.facts.fills.of(id).unwrap_or_default().to_json();
        if let (Some(fill), Json::Object(shown)) = (fill.as_object_mut(), shown) {
            fill.extend(shown);
            if fill["paused"] == true {
                fill["state"] = "paused".into();
            } else if fill["state"] == "" {
                fill["state"] = "queued".into();
            }
        }
        fill
    }

    /// Carries out what an operator says of a fill.
    fn step_fill(&self, fill: u64, step: FillStep) -> Result<Json, ApiError> {
        let lsn = self.with(|engine| engine.step_fill(step))??;
        let open = self.look(|engine| fills_of(engine.state()))?;
        let left = open.into_iter().find(|(id, _)| *id == fill).map(|fill| self.fill_json(fill));
        Ok(json!({ "lsn": lsn, "backfill": left }))
    }
}

impl EngineControl {
    /// Says who tells of the archive, once.
    pub fn open_archive(&self, door: ArchiveDoor) {
        let fresh = self.archive.set(door).is_ok();
        assert!(fresh, "the archive is opened once");
    }

    /// Says how records of sources are read, once.
    pub fn know_sources(&self, setups: Vec<SourceSetup>) {
        let fresh = self.setups.set(setups).is_ok();
        assert!(fresh, "sources are told once");
    }

    /// Says who begins subscriptions, once.
    pub fn open_subscriptions(&self, begin: Subscribe) {
        let fresh = self.subscriptions.set(begin).is_ok();
        assert!(fresh, "subscriptions are opened once");
    }
}

impl Control for EngineControl {
    fn alive(&self) -> bool {
        let beat = self.facts.heartbeat_us.load(Ordering::Relaxed);
        beat == 0 || self.clock.boot_us() - beat < ALIVE_US
    }

    fn readiness(&self) -> Readiness {
        let phase = self.facts.phase();
        let mut reasons = Vec::new();
        match phase {
            Phase::Starting | Phase::Recovering => reasons.push("recovering".to_owned()),
            Phase::CatchingUp => reasons.extend(CatchUp::of(&self.board, &self.facts.incidents).reasons()),
            Phase::Draining => reasons.push("draining".to_owned()),
            Phase::Failed => reasons.push("wal_poisoned".to_owned()),
            Phase::Ready => {}
        }
        if self.facts.disk_full.load(Ordering::Relaxed) || self.facts.undeclared.load(Ordering::Relaxed) {
            reasons.push("disk_full".to_owned());
        }
        if self.settings.max_staleness_ms.is_some_and(|most| !self.is_fresh(most)) {
            reasons.push("stale".to_owned());
        }
        let incidents = self.facts.incidents.list();
        // An incident that lingers when its cause is away warns, no more.
        reasons.extend(self.facts.incidents.present().into_iter().filter_map(IncidentKind::not_ready).map(str::to_owned));
        reasons.dedup();
        let about = |subject: &dyn std::fmt::Display, incident: &Incident| format!("{}: {subject}", incident.kind.as_str());
        let mut warnings: Vec<String> = incidents.iter().map(|(subject, incident)| about(subject, incident)).collect();
        let of_partition = |gauge: &Arc<PartitionGauge>| Some(about(&partition_subject(gauge), &gauge.incident()?));
        warnings.extend(self.board.partitions().iter().filter_map(of_partition));
        warnings.extend(self.waiting_sources(&incidents));
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let progress = match phase {
            Phase::Starting | Phase::Recovering => self.replay_progress(),
            Phase::CatchingUp => self.rates.lock().catch_up_progress(self.behind()),
            _ => 1.0,
        };
        let eta_s = (progress > 0.01 && progress < 1.0).then(|| elapsed_s * (1.0 - progress) / progress);
        Readiness { ready: reasons.is_empty(), phase: phase.as_str().to_owned(), reasons, warnings, progress, eta_s }
    }

    fn status(&self) -> Json {
        let wal = self.wal.get().map(WalHandle::status);
        let snapshot_us = self.facts.snapshot_us.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "an age for people")]
        let age_s = (snapshot_us > 0).then(|| (self.clock.now_us() - snapshot_us) as f64 / 1e6);
        let bad = self.facts.bad_rows();
        let (tables, retiring, kept, (gone, retried)) = self
            .look(|engine| {
                let state = engine.state();
                let one = |table: &Table| {
                    let bad = bad.get(&*table.def().event_name).copied().unwrap_or(0);
                    let refused = self.metrics.table_series(&table.def().name).memory_refused.get();
                    table_json(table, bad, refused, self.started_us)
                };
                (
                    state.tables().map(one).collect::<Vec<_>>(),
                    engine.retirement(),
                    state.rejects().count(),
                    (state.rejects_gone(), state.rejects_retried()),
                )
            })
            .unwrap_or_default();
        json!({
            "name": "streamgauge",
            "version": self.settings.version,
            "phase": self.facts.phase().as_str(),
            "uptime_s": self.started.elapsed().as_secs(),
            "counting_since_ms": self.started_us / 1000,
            "durability": self.settings.durability,
            "bottleneck": self.bottleneck(),
            "registry_version": self.facts.registry_version.load(Ordering::Relaxed),
            "lsn": {
                "written": wal.map(|wal| wal.written_lsn),
                "applied": self.facts.applied_lsn.load(Ordering::Relaxed),
                "durable": wal.map(|wal| wal.durable_lsn),
                "snapshot": self.facts.snapshot_lsn.load(Ordering::Relaxed),
            },
            "wal": wal.map(|wal| json!({
                "segments": wal.segments, "sealed_bytes": wal.sealed_bytes, "unsynced_bytes": wal.unsynced_bytes, "syncs": wal.syncs, "written_bytes": wal.written_bytes, "counting_since_ms": self.started_us / 1000,
                "full": wal.full, "poisoned": wal.poisoned,
                "earliest_lsn": self.wal.get().map(WalHandle::earliest_lsn),
                "kept_for": self.wal.get().map(|wal| wal.cursors().iter().map(cursor_json).collect::<Vec<_>>()),
            })),
            "memory": {
                "bytes": self.facts.table_bytes.load(Ordering::Relaxed),
                "limit_bytes": self.settings.memory_max_bytes,
                "full": self.facts.memory_full.load(Ordering::Relaxed),
            },
            "retiring": retiring,
            "snapshot": {"age_s": age_s, "size_bytes": self.facts.snapshot_bytes.load(Ordering::Relaxed)},
            "replay": {
                "rows": self.facts.replayed_rows.load(Ordering::Relaxed),
                "bytes": self.facts.replay_done.load(Ordering::Relaxed),
                "progress": self.replay_progress(),
            },
            "rejects": {"kept": kept, "gone": gone, "retried": retried},
            "backfills": self.backfills(),
            "queue_rows": self.facts.queued_rows.load(Ordering::Relaxed),
            "tables": tables,
            "incidents": self.open_incidents(),
        })
    }

    fn incidents(&self) -> Json {
        let gaps = self.look(|engine| engine.state().gaps().to_vec()).unwrap_or_default();
        json!({"incidents": self.open_incidents(), "gaps": gaps})
    }

    fn decide(&self, place: Place, decision: Decision, dry_run: bool) -> Result<Vec<Effect>, ApiError> {
        if !self.board.notes().iter().any(|note| note.source == place.source) {
            let known: Vec<String> = self.board.notes().into_iter().map(|note| note.source).collect();
            let reason = format!(
                "no source \"{}\" runs; running: {}",
                place.source,
                if known.is_empty() { "none".into() } else { known.join(", ") }
            );
            return Err(ApiError::new(Code::UnknownReference, reason));
        }
        let (reply, replies) = std::sync::mpsc::sync_channel(1);
        let deadline = Instant::now() + DECISION_WAIT;
        let name = place.source.clone();
        self.board.decide(DecisionRequest { place, decision, dry_run, deadline, reply });
        match replies.recv_timeout(DECISION_WAIT + DECISION_END) {
            Ok(result) => result,
            Err(_) => Err(ApiError::new(
                Code::RequestTimeout,
                format!("source \"{name}\" did not carry the decision out within {} s, and will not", DECISION_WAIT.as_secs()),
            )
            .hint("look at /sources for what it waits for")),
        }
    }

    fn registry(&self) -> Json {
        let registry = self.facts.registry();
        let sources: Vec<String> = self.board.notes().into_iter().map(|note| note.source).collect();
        json!({
            "node_count": registry.node_count(),
            "version": registry.version,
            "events": registry.events.values().map(|event| &event.node).collect::<Vec<_>>(),
            "derivations": registry.derivations.values().map(|derivation| &derivation.node).collect::<Vec<_>>(),
            "tables": registry.tables.values().map(|table| &table.node).collect::<Vec<_>>(),
            "sources": sources,
        })
    }

    fn sources(&self) -> Vec<PartitionStatus> {
        let mut statuses = self.statuses();
        let of_slot = |engine: &Engine| {
            let known = engine.state().partitions();
            engine.state().skipped().map(|(slot, lacks)| (known[slot.0 as usize].key.clone(), lacks.clone())).collect::<Vec<_>>()
        };
        let skipped = self.look(|engine| of_slot(engine)).unwrap_or_default();
        for status in statuses.iter_mut().filter(|status| status.incident.is_none()) {
            // A partition whose rows wait to be written stands still, whatever its own incidents are.
            let source = Subject::source(&status.source);
            status.incident = self.facts.incidents.get(IncidentKind::WriteStall, &source);
            if self.facts.incidents.is_present(IncidentKind::WriteStall, &source) {
                "waiting".clone_into(&mut status.state);
            }
            if status.incident.is_none() {
                let lacks = |(key, _): &&(PartitionKey, Incident)| {
                    (&key.event, &key.topic, key.partition) == (&status.event, &status.topic, status.partition)
                };
                status.incident = skipped.iter().rev().find(lacks).map(|(_, incident)| incident.clone());
            }
        }
        statuses
    }

    fn source_notes(&self) -> Vec<SourceNote> {
        self.board.notes()
    }

    fn keys(&self, table: &str, after: Option<&str>, limit: usize) -> Result<KeysPage, ApiError> {
        let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let from = match after {
            None => 0,
            Some(text) => {
                let bytes = url_safe.decode(text).ok().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
                let bytes = bytes.ok_or_else(|| ApiError::new(Code::InvalidRequest, "`after` is no value that a page gave out"))?;
                u64::from_le_bytes(bytes)
            }
        };
        let limit = limit.clamp(1, KEYS_MAX);
        self.look(|engine| {
            let table = find_table(engine.state(), table)?;
            #[expect(clippy::cast_possible_truncation, reason = "a row number, and how often keys had moved")]
            let (from, moves) = (from as u32, (from >> 32) as u32);
            if after.is_some() && moves != table.moves() {
                return Err(ApiError::new(Code::InvalidRequest, "keys have moved since that page; begin with the first one again"));
            }
            let (numbers, next) = table.keys_from(from, limit);
            let columns = &table.def().keys;
            let keys = numbers.iter().filter_map(|number| table.key_bytes(*number)).map(|key| key_to_json(columns, &key)).collect();
            Ok(KeysPage {
                table: table.def().name.to_string(),
                keys,
                next: next.map(|number| url_safe.encode((u64::from(table.moves()) << 32 | u64::from(number)).to_le_bytes())),
                total: table.len() as u64,
            })
        })?
    }

    fn get(&self, read: &Read) -> Result<(Row, Freshness), ApiError> {
        self.look(|engine| engine.get(read, UnknownFeature::AsNotFound))?
    }

    fn rejects(&self, after_lsn: u64, limit: usize) -> Vec<Reject> {
        self.look(|engine| {
            let mut page: Vec<Reject> = Vec::new();
            for reject in engine.state().rejects().filter(|reject| reject.lsn > after_lsn) {
                // All rejects of one frame stay together.
                if page.len() >= limit && page.last().is_some_and(|last| last.lsn != reject.lsn) {
                    break;
                }
                page.push(reject.clone());
            }
            page
        })
        .unwrap_or_default()
    }

    fn log(&self, from_lsn: Option<u64>, limit: usize, wait: Duration) -> Result<LogPage, ApiError> {
        self.log_page(from_lsn, limit, wait)
    }

    fn subscribe(&self, request: &SubscribeRequest, queue: Arc<SubscriberQueue>) -> Result<Json, ApiError> {
        match self.subscriptions.get() {
            Some(begin) => begin(request, queue),
            None => Err(ApiError::new(Code::Recovering, "state is being rebuilt from snapshot and WAL")),
        }
    }

    fn eventstore(&self) -> Result<Json, ApiError> {
        self.archive.get().map_or_else(|| Ok(json!({"declared": false})), |door| door(false))
    }

    fn rejects_gone(&self) -> u64 {
        self.look(|engine| engine.state().rejects_gone()).unwrap_or_default()
    }

    fn retry_rejects(&self, request: &RetryRequest) -> Result<Retried, ApiError> {
        match self.facts.phase() {
            Phase::CatchingUp | Phase::Ready => {}
            Phase::Starting | Phase::Recovering => {
                return Err(ApiError::new(Code::Recovering, "state is being rebuilt from snapshot and WAL"));
            }
            Phase::Draining => return Err(ApiError::new(Code::Draining, "the server is stopping")),
            Phase::Failed => return Err(ApiError::new(Code::WalUnavailable, "the write-ahead log failed; the process is stopping")),
        }
        let setups = self.setups.get().map(Vec::as_slice).unwrap_or_default();
        self.retries.run(request, setups, self.seat()?, &*self.clock)
    }

    fn metrics(&self) -> String {
        self.scrape()
    }

    fn limits(&self) -> Json {
        let mut limits = serde_json::Map::new();
        let used = self.facts.table_bytes.load(Ordering::Relaxed);
        limits.insert("limits.memory".into(), json!({"value": self.settings.memory_max_bytes, "used": used}));
        limits.insert(
            "apply.queue_rows".into(),
            json!({"value": super::seat::QUEUE_ROWS_MAX, "used": self.facts.queued_rows.load(Ordering::Relaxed)}),
        );
        limits.insert("apply.queue_bytes".into(), json!({"value": super::seat::QUEUE_BYTES_MAX}));
        limits.insert("apply.port_requests".into(), json!({"value": super::seat::PORT_REQUESTS_MAX}));
        let ring_bytes = self.wal.get().map_or(0, WalHandle::ring_bytes);
        limits.insert("wal.ring_bytes".into(), json!({"value": RING_BYTES_MAX, "used": ring_bytes}));
        limits.insert("wal.kept_for_readers_bytes".into(), json!({"value": CURSOR_BYTES_MAX}));
        limits.insert("key.bytes".into(), json!({"value": crate::row::KEY_BYTES_MAX}));
        for (name, value) in &self.settings.limits {
            limits.insert((*name).to_owned(), value.clone());
        }
        Json::Object(limits)
    }

    fn backfills(&self) -> Json {
        let open = self.look(|engine| fills_of(engine.state())).unwrap_or_default();
        Json::Array(open.into_iter().map(|fill| self.fill_json(fill)).collect())
    }

    fn fingerprint(&self) -> Result<(u64, String), ApiError> {
        let frozen = self.with(|engine| engine.state().freeze())?.map_err(|no_room| crowded(&no_room))?;
        let fingerprint = frozen.fingerprint().map_err(|no_room| crowded(&no_room))?;
        Ok((frozen.lsn(), format!("{fingerprint:032x}")))
    }

    fn act(&self, action: Action) -> Result<Json, ApiError> {
        match action {
            Action::AcceptClock => self.with(Engine::accept_clock)?,
            Action::PauseBackfill(fill) => self.step_fill(fill, FillStep::Pause { fill, paused: true }),
            Action::ResumeBackfill(fill) => self.step_fill(fill, FillStep::Pause { fill, paused: false }),
            Action::CancelBackfill(fill) => self.step_fill(fill, FillStep::Live { fill }),
            Action::Archive => match self.archive.get() {
                Some(door) => door(true),
                None => Err(ApiError::new(Code::NotAvailable, "no event store is declared")),
            },
            Action::Snapshot => {
                let before = self.facts.snapshot_us.load(Ordering::Acquire);
                let until = Instant::now() + SNAPSHOT_WAIT;
                let mut asked = false;
                let mut failed = 0;
                loop {
                    if !asked {
                        failed = self.facts.snapshots_failed.load(Ordering::Acquire);
                        asked = self.with(Engine::snapshot)??;
                    }
                    if asked
                        && failed != self.facts.snapshots_failed.load(Ordering::Acquire)
                        && let Some(error) = self.facts.snapshot_failure()
                    {
                        return Err(error);
                    }
                    let taken = self.facts.snapshot_us.load(Ordering::Acquire);
                    if asked && taken != before {
                        let lsn = self.facts.snapshot_lsn.load(Ordering::Acquire);
                        return Ok(json!({"lsn": lsn, "size_bytes": self.facts.snapshot_bytes.load(Ordering::Acquire)}));
                    }
                    if self.settings.data_dir.as_os_str().is_empty() {
                        return Err(ApiError::new(Code::NotAvailable, "the level is memory: there are no snapshots"));
                    }
                    if Instant::now() > until {
                        return Err(ApiError::new(Code::RequestTimeout, "the snapshot is not finished; look at /status"));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}
