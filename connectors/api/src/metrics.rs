//! Every series: name, unit, help, labels. The doorway to the `prometheus` crate.
//!
//! [`Metrics`] is made once at start-up from the table in `metrics/table.rs` and shared by `Arc`. Hot threads ask for their handles once
//! ([`Metrics::table_series`], [`Metrics::route_series`], ...) and then pay one relaxed add per count; histograms are recorded per batch. Levels that somebody
//! else already keeps (keys of a table, lag of a partition) are not counted here: the scrape thread sets them as a whole right before [`Metrics::text`]. A
//! scrape shares no lock with a handle.
//!
//! Tables, events, sources and partitions are the only open labels: each kind has at most [`OPEN_LABELS_MAX`] values, everything beyond is counted as `other`.
//! Not here: rates, percentiles and any history; they are the monitoring system's.

mod durations;
mod exposition;
mod families;
mod process;
mod seat;
mod series;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::PartitionStatus;
use crate::error::Code;
use crate::source::IncidentKind;

use families::Families;

pub use durations::Durations;
pub use prometheus::{Gauge, IntCounter};
pub use seat::{SeatEvent, SeatSeries};
pub use series::{EventSeries, RouteSeries, SourceSeries, TableLevel, TableSeries};
pub use table::{MetricKind, MetricSpec, Origin};

/// Values of one kind of open label (tables, events, sources, partitions) before everything else is `other`.
pub const OPEN_LABELS_MAX: usize = 512;

/// The label value of everything beyond [`OPEN_LABELS_MAX`].
pub const OTHER: &str = "other";

/// Phases of `streamgauge_state`, as in `Readiness::phase`.
pub const PHASES: &[&str] = &["starting", "recovering", "catching_up", "ready", "draining", "failed"];

/// Uses of `streamgauge_memory_bytes`: tables with what a running snapshot holds of them (what limits.memory bounds), decoded rows in queues, records held
/// by Kafka clients, and the bounded reject log.
pub const MEMORY_KINDS: &[&str] = &["tables", "queues", "kafka", "rejects"];
/// Kinds of `streamgauge_rejects`: in the bounded reject log, and out of it.
pub const REJECT_KINDS: &[&str] = &["kept", "gone"];

/// Listeners of `streamgauge_connections`.
pub const LISTENERS: &[&str] = &["http", "tcp", "admin"];

/// Durability levels of `streamgauge_push_ack_seconds`.
pub const DURABILITIES: &[&str] = &["written", "synced", "memory"];

/// Routes of `streamgauge_get_seconds`.
pub const GET_ROUTES: &[&str] = &["http_get", "http_batch_get", "tcp_get", "tcp_batch_get"];

/// Codes that a Kafka record or a pushed row is refused with: their series exist from the start.
const BAD_CODES: &[Code] = &[
    Code::DecodeFraming,
    Code::DecodeTypeMismatch,
    Code::DecodeMalformed,
    Code::DecodeTrailingBytes,
    Code::DecodeMissingField,
    Code::DecodeOutOfRange,
    Code::TombstoneUnexpected,
    Code::TimeOutOfRange,
    Code::TimeUnit,
    Code::KeyTooLong,
    Code::RowTooLarge,
    Code::SchemaMissing,
    Code::SchemaUnusable,
];

/// Why rows of a source may have to wait.
const WAIT_CODES: &[Code] = &[Code::StorageFull, Code::TableMemoryExceeded, Code::WalUnavailable];

/// Codes of `streamgauge_http_rejected_total`.
const REFUSED_CODES: &[Code] = &[
    Code::HttpProtocolError,
    Code::HeadersTooLarge,
    Code::PayloadTooLarge,
    Code::RequestTimeout,
    Code::Overloaded,
    Code::FrameError,
    Code::FrameTooLarge,
];

/// All series of one process.
pub struct Metrics {
    families: Families,
    open: Mutex<BTreeMap<OpenLabel, BTreeSet<Vec<String>>>>,
    /// Held while levels are replaced and while the text is written, so that no scrape sees half of a replacement.
    levels: Mutex<()>,
    /// `streamgauge_wal_bytes_total`.
    pub wal_bytes: IntCounter,
    /// `streamgauge_wal_torn_tail_total`.
    pub wal_torn_tail: IntCounter,
    /// `streamgauge_wal_fsync_errors_total`.
    pub wal_fsync_errors: IntCounter,
    /// `streamgauge_snapshots_total{result="written"}`.
    pub snapshots_written: IntCounter,
    /// `streamgauge_snapshots_total{result="failed"}`.
    pub snapshots_failed: IntCounter,
    /// `streamgauge_memory_limit_bytes`.
    pub memory_limit_bytes: Gauge,
    /// `streamgauge_lsn{kind="written"}`.
    pub lsn_written: Gauge,
    /// `streamgauge_lsn{kind="durable"}`.
    pub lsn_durable: Gauge,
    /// `streamgauge_lsn{kind="snapshot"}`.
    pub lsn_snapshot: Gauge,
    /// `streamgauge_lsn{kind="archived"}`.
    pub lsn_archived: Gauge,
    /// `streamgauge_archive_rows_total`.
    pub archive_rows: IntCounter,
    /// `streamgauge_archive_bytes_total`.
    pub archive_bytes: IntCounter,
    /// `streamgauge_archive_commits_total`.
    pub archive_commits: IntCounter,
    /// `streamgauge_archive_failures_total`.
    pub archive_failures: IntCounter,
    /// `streamgauge_archive_files`.
    pub archive_files: Gauge,
    /// `streamgauge_wal_segments`.
    pub wal_segments: Gauge,
    /// `streamgauge_disk_free_bytes`.
    pub disk_free_bytes: Gauge,
    /// `streamgauge_snapshot_age_seconds`.
    pub snapshot_age_seconds: Gauge,
    /// `streamgauge_snapshot_size_bytes`.
    pub snapshot_size_bytes: Gauge,
    /// `streamgauge_replay_progress_ratio`.
    pub replay_progress_ratio: Gauge,
    /// `streamgauge_apply_queue_rows`.
    pub apply_queue_rows: Gauge,
    /// `streamgauge_registry_version`.
    pub registry_version: Gauge,
    /// `streamgauge_registry_nodes`.
    pub registry_nodes: Gauge,
    /// `beava_snapshot_last_duration_seconds`.
    pub snapshot_last_seconds: Gauge,
    /// `beava_snapshot_last_fsync_seconds`.
    pub snapshot_last_fsync_seconds: Gauge,
    /// `streamgauge_apply_batch_seconds`.
    pub apply_batch: Arc<Durations>,
    /// `streamgauge_seat_event_seconds` and `streamgauge_seat_turn_seconds`.
    pub seat: SeatSeries,
    /// `streamgauge_wal_fsync_seconds`.
    pub wal_fsync: Arc<Durations>,
    /// `streamgauge_snapshot_seconds`.
    pub snapshot: Arc<Durations>,
    /// `streamgauge_recovery_seconds`.
    pub recovery: Arc<Durations>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OpenLabel {
    Table,
    Event,
    Source,
    Partition,
}

impl Metrics {
    /// All families, each series whose labels are known at 0. `version` and `commit` stand in `streamgauge_build_info`.
    ///
    /// # Panics
    /// When the table of families contradicts itself, which its tests exclude.
    pub fn new(version: &str, commit: &str) -> Self {
        let families = Families::build();
        let counter = |name: &str, labels: &[&str]| families.counter(name, labels);
        let gauge = |name: &str, labels: &[&str]| families.gauge(name, labels);
        let duration = |name: &str| families.duration(name, &[]);
        gauge("streamgauge_build_info", &[version, commit]).set(1.0);
        gauge("beava_runtime_kind", &["mio"]).set(1.0);
        for phase in PHASES {
            gauge("streamgauge_state", &[phase]);
        }
        for kind in MEMORY_KINDS {
            gauge("streamgauge_memory_bytes", &[kind]);
        }
        for kind in REJECT_KINDS {
            gauge("streamgauge_rejects", &[kind]);
        }
        for listener in LISTENERS {
            gauge("streamgauge_connections", &[listener]);
        }
        for kind in IncidentKind::ALL {
            counter("streamgauge_incidents_total", &[kind.as_str()]);
            gauge("streamgauge_incidents_open", &[kind.as_str()]);
        }
        for level in DURABILITIES {
            families.duration("streamgauge_push_ack_seconds", &[level]);
        }
        for route in GET_ROUTES {
            families.duration("streamgauge_get_seconds", &[route]);
        }
        for code in REFUSED_CODES {
            counter("streamgauge_http_rejected_total", &[code.as_str()]);
        }
        Self {
            wal_bytes: counter("streamgauge_wal_bytes_total", &[]),
            wal_torn_tail: counter("streamgauge_wal_torn_tail_total", &[]),
            wal_fsync_errors: counter("streamgauge_wal_fsync_errors_total", &[]),
            snapshots_written: counter("streamgauge_snapshots_total", &["written"]),
            snapshots_failed: counter("streamgauge_snapshots_total", &["failed"]),
            memory_limit_bytes: gauge("streamgauge_memory_limit_bytes", &[]),
            lsn_written: gauge("streamgauge_lsn", &["written"]),
            lsn_durable: gauge("streamgauge_lsn", &["durable"]),
            lsn_snapshot: gauge("streamgauge_lsn", &["snapshot"]),
            lsn_archived: gauge("streamgauge_lsn", &["archived"]),
            archive_rows: counter("streamgauge_archive_rows_total", &[]),
            archive_bytes: counter("streamgauge_archive_bytes_total", &[]),
            archive_commits: counter("streamgauge_archive_commits_total", &[]),
            archive_failures: counter("streamgauge_archive_failures_total", &[]),
            archive_files: gauge("streamgauge_archive_files", &[]),
            wal_segments: gauge("streamgauge_wal_segments", &[]),
            disk_free_bytes: gauge("streamgauge_disk_free_bytes", &[]),
            snapshot_age_seconds: gauge("streamgauge_snapshot_age_seconds", &[]),
            snapshot_size_bytes: gauge("streamgauge_snapshot_size_bytes", &[]),
            replay_progress_ratio: gauge("streamgauge_replay_progress_ratio", &[]),
            apply_queue_rows: gauge("streamgauge_apply_queue_rows", &[]),
            registry_version: gauge("streamgauge_registry_version", &[]),
            registry_nodes: gauge("streamgauge_registry_nodes", &[]),
            snapshot_last_seconds: gauge("beava_snapshot_last_duration_seconds", &[]),
            snapshot_last_fsync_seconds: gauge("beava_snapshot_last_fsync_seconds", &[]),
            apply_batch: duration("streamgauge_apply_batch_seconds"),
            seat: SeatSeries::new(&families),
            wal_fsync: duration("streamgauge_wal_fsync_seconds"),
            snapshot: duration("streamgauge_snapshot_seconds"),
            recovery: duration("streamgauge_recovery_seconds"),
            open: Mutex::default(),
            levels: Mutex::default(),
            families,
        }
    }

    /// Every family, for the documentation and the dashboard.
    pub fn table() -> &'static [MetricSpec] {
        table::TABLE
    }

    /// Handles of one table, all at 0 when it is new.
    pub fn table_series(&self, table: &str) -> TableSeries {
        let labels = self.open_labels(OpenLabel::Table, &[table]);
        let table = labels.first().copied().unwrap_or(OTHER);
        let stage = |stage: &str| self.families.counter("streamgauge_rows_total", &[table, stage]);
        TableSeries {
            received: stage("received"),
            decoded: stage("decoded"),
            bad: stage("bad"),
            filtered: stage("filtered"),
            null_key: stage("null_key"),
            late: stage("late"),
            applied: stage("applied"),
            deleted: stage("deleted"),
            undeleted: stage("undeleted"),
            memory_refused: self.families.counter("streamgauge_memory_refused_rows_total", &[table]),
        }
    }

    /// Rows that one window of a table did not take: the late ones, and those too far ahead.
    pub fn window_series(&self, table: &str, window_ms: i64, resolution: usize) -> (IntCounter, IntCounter) {
        let labels = self.open_labels(OpenLabel::Table, &[table]);
        let table = labels.first().copied().unwrap_or(OTHER);
        let (window_ms, resolution) = (window_ms.to_string(), resolution.to_string());
        let labels = |reason| [table, &window_ms, &resolution, reason];
        let missed = |reason| self.families.counter("streamgauge_window_missed_rows_total", &labels(reason));
        (missed("late"), missed("ahead"))
    }

    /// Handles of one event, all at 0 when it is new.
    pub fn event_series(&self, event: &str) -> EventSeries {
        let labels = self.open_labels(OpenLabel::Event, &[event]);
        let event = labels.first().copied().unwrap_or(OTHER);
        EventSeries {
            push_accepted: self.families.counter("streamgauge_push_rows_total", &[event, "accepted"]),
            push_refused: self.families.counter("streamgauge_push_rows_total", &[event, "refused"]),
            applied: self.families.counter("streamgauge_applied_rows_total", &[event]),
        }
    }

    /// Handles of one source, all at 0 when it is new.
    ///
    /// # Panics
    /// Never: the family exists since [`Metrics::new`].
    pub fn source_series(&self, source: &str) -> SourceSeries {
        let labels = self.open_labels(OpenLabel::Source, &[source]);
        let source = labels.first().copied().unwrap_or(OTHER);
        for code in BAD_CODES {
            self.families.counter("streamgauge_bad_records_total", &[source, code.as_str()]);
        }
        self.families.counter("streamgauge_source_compacted_total", &[source]);
        for code in WAIT_CODES {
            self.families.counter("streamgauge_source_retries_total", &[source, code.as_str()]);
        }
        let counts =
            ["streamgauge_kafka_connects_total", "streamgauge_kafka_errors_total"].map(|name| self.families.counter(name, &[source]));
        let visible = self.families.duration("streamgauge_event_to_visible_seconds", &[source]);
        SourceSeries::new(source, self.families.counter_family("streamgauge_bad_records_total"), visible, counts)
    }

    /// `streamgauge_source_retries_total` of one source and reason.
    pub fn source_retries(&self, source: &str, reason: Code) -> IntCounter {
        let labels = self.open_labels(OpenLabel::Source, &[source]);
        let source = labels.first().copied().unwrap_or(OTHER);
        self.families.counter("streamgauge_source_retries_total", &[source, reason.as_str()])
    }

    /// `streamgauge_source_compacted_total` of one source.
    pub fn source_compacted(&self, source: &str) -> IntCounter {
        let labels = self.open_labels(OpenLabel::Source, &[source]);
        self.families.counter("streamgauge_source_compacted_total", &[labels.first().copied().unwrap_or(OTHER)])
    }

    /// `streamgauge_kafka_records_total` of one partition.
    pub fn kafka_records(&self, source: &str, topic: &str, partition: i32) -> IntCounter {
        let number = partition.to_string();
        self.families.counter("streamgauge_kafka_records_total", &self.open_labels(OpenLabel::Partition, &[source, topic, &number]))
    }

    /// Requests of one route template (`/push/{event}`), every status at 0 when it is new.
    pub fn route_series(&self, route: &'static str) -> RouteSeries {
        let status = |status: &str| self.families.counter("streamgauge_http_requests_total", &[route, status]);
        RouteSeries::new(status)
    }

    /// `streamgauge_http_rejected_total` of one code.
    pub fn http_rejected(&self, reason: Code) -> IntCounter {
        self.families.counter("streamgauge_http_rejected_total", &[reason.as_str()])
    }

    /// `streamgauge_incidents_total` of one kind.
    pub fn incidents(&self, kind: IncidentKind) -> IntCounter {
        self.families.counter("streamgauge_incidents_total", &[kind.as_str()])
    }

    /// `streamgauge_connections` of one of [`LISTENERS`].
    pub fn connections(&self, listener: &'static str) -> Gauge {
        self.families.gauge("streamgauge_connections", &[listener])
    }

    /// `streamgauge_memory_bytes` of one of [`MEMORY_KINDS`].
    pub fn memory_bytes(&self, kind: &'static str) -> Gauge {
        self.families.gauge("streamgauge_memory_bytes", &[kind])
    }

    /// `streamgauge_rejects` of one of [`REJECT_KINDS`].
    pub fn rejects(&self, kind: &'static str) -> Gauge {
        self.families.gauge("streamgauge_rejects", &[kind])
    }

    /// `streamgauge_push_ack_seconds` of one of [`DURABILITIES`].
    pub fn push_ack(&self, durability: &'static str) -> Arc<Durations> {
        self.families.duration("streamgauge_push_ack_seconds", &[durability])
    }

    /// `streamgauge_get_seconds` of one of [`GET_ROUTES`].
    pub fn get(&self, route: &'static str) -> Arc<Durations> {
        self.families.duration("streamgauge_get_seconds", &[route])
    }

    /// Sets `streamgauge_state`: 1 for this one of [`PHASES`], 0 for the others.
    pub fn set_phase(&self, phase: &str) {
        let _levels = lock(&self.levels);
        for known in PHASES {
            self.families.gauge("streamgauge_state", &[known]).set(f64::from(u8::from(*known == phase)));
        }
    }

    /// Replaces the levels of all tables; tables that are not named disappear, tables beyond the cap are summed as `other`.
    pub fn set_tables(&self, tables: &[TableLevel]) {
        let mut sums: BTreeMap<Vec<String>, (u64, u64)> = BTreeMap::new();
        for level in tables {
            let sum = sums.entry(owned(&self.open_labels(OpenLabel::Table, &[&level.table]))).or_default();
            *sum = (sum.0 + level.keys, sum.1 + level.bytes);
        }
        self.replace("streamgauge_table_keys", sums.iter().map(|(labels, sum)| (labels, approximate(sum.0))));
        self.replace("streamgauge_table_bytes", sums.iter().map(|(labels, sum)| (labels, approximate(sum.1))));
    }

    /// Replaces the levels of all partitions: lag, whether they stand still, and the open incidents by kind: theirs, and `others` that belong to no
    /// partition. An unknown lag has no series.
    pub fn set_partitions(&self, partitions: &[PartitionStatus], others: &[IncidentKind]) {
        let mut records: BTreeMap<Vec<String>, f64> = BTreeMap::new();
        let mut seconds: BTreeMap<Vec<String>, f64> = BTreeMap::new();
        let mut paused: BTreeMap<Vec<String>, f64> = BTreeMap::new();
        let label = |kind: IncidentKind| vec![kind.as_str().to_owned()];
        let mut incidents: BTreeMap<Vec<String>, f64> = IncidentKind::ALL.iter().map(|kind| (label(*kind), 0.0)).collect();
        for status in partitions {
            let number = status.partition.to_string();
            let labels = owned(&self.open_labels(OpenLabel::Partition, &[&status.source, &status.topic, &number]));
            if let Some(lag) = status.lag_records {
                *records.entry(labels.clone()).or_default() += approximate(lag.unsigned_abs());
            }
            if let Some(lag) = status.lag_seconds {
                let worst = seconds.entry(labels.clone()).or_default();
                *worst = worst.max(lag);
            }
            let stands = !matches!(status.state.as_str(), "reading" | "at_end");
            *paused.entry(labels).or_default() += f64::from(u8::from(stands));
        }
        let of_partitions = partitions.iter().filter_map(|status| status.incident.as_ref()).map(|incident| incident.kind);
        for kind in of_partitions.chain(others.iter().copied()) {
            *incidents.entry(label(kind)).or_default() += 1.0;
        }
        for (family, levels) in [
            ("streamgauge_kafka_lag_records", records),
            ("streamgauge_kafka_lag_seconds", seconds),
            ("streamgauge_kafka_paused", paused),
            ("streamgauge_incidents_open", incidents),
        ] {
            self.replace(family, levels.iter().map(|(labels, level)| (labels, *level)));
        }
    }

    /// All families in the Prometheus text format 0.0.4, sorted by name. Reads `/proc/self`.
    pub fn text(&self) -> String {
        let gathered = {
            let _levels = lock(&self.levels);
            self.families.gather()
        };
        exposition::text(gathered)
    }

    fn replace<'a>(&self, name: &str, levels: impl Iterator<Item = (&'a Vec<String>, f64)>) {
        let _levels = lock(&self.levels);
        self.families.replace(name, levels);
    }

    /// The labels themselves while their kind has room, else `other` in each place.
    fn open_labels<'a>(&self, kind: OpenLabel, values: &[&'a str]) -> Vec<&'a str> {
        let mut open = lock(&self.open);
        let known = open.entry(kind).or_default();
        let wanted = owned(values);
        if known.contains(&wanted) {
            return values.to_vec();
        }
        if known.len() >= OPEN_LABELS_MAX {
            return values.iter().map(|_| OTHER).collect();
        }
        known.insert(wanted);
        values.to_vec()
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are doubles")]
fn approximate(value: u64) -> f64 {
    value as f64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
