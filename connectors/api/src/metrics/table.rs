//! The table of metric families: name, kind, help and labels in one place.
//!
//! `Metrics` builds every family from here, `docs/METRICS.md` and the dashboard are generated from here, and nothing else declares a series. A family that
//! is not its own is *derived*: summed from another one while the text is written, so that an alias can never disagree with its original.

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of durations by upper bound; the name ends in `_seconds`.
    Histogram,
}

impl MetricKind {
    /// The word behind `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Where the values of a family come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Handles that are counted or set.
    Own,
    /// The sum, by this family's own labels, over the series of `family` that carry the label pair `only` (all of them when it is `None`).
    Derived {
        /// The family that is summed.
        family: &'static str,
        /// The label pair that a series must carry.
        only: Option<(&'static str, &'static str)>,
    },
    /// Read from `/proc/self` while the text is written.
    Process,
}

/// One metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSpec {
    /// Full name, base unit and `_total` included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// One sentence: meaning and unit.
    pub help: &'static str,
    /// Label names, in the order in which handles are asked for.
    pub labels: &'static [&'static str],
    /// Where values come from.
    pub origin: Origin,
}

const fn own(name: &'static str, kind: MetricKind, labels: &'static [&'static str], help: &'static str) -> MetricSpec {
    MetricSpec { name, kind, help, labels, origin: Origin::Own }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricSpec {
    own(name, MetricKind::Counter, labels, help)
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricSpec {
    own(name, MetricKind::Gauge, labels, help)
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricSpec {
    own(name, MetricKind::Histogram, labels, help)
}

const fn process(name: &'static str, kind: MetricKind, help: &'static str) -> MetricSpec {
    MetricSpec { name, kind, help, labels: &[], origin: Origin::Process }
}

const fn alias(name: &'static str, kind: MetricKind, family: &'static str, help: &'static str) -> MetricSpec {
    MetricSpec { name, kind, help, labels: &[], origin: Origin::Derived { family, only: None } }
}

/// Every family, in the order in which the documentation shows them.
pub const TABLE: &[MetricSpec] = &[
    counter(
        "streamgauge_push_rows_total",
        &["event", "result"],
        "Rows pushed over HTTP and TCP, by event and by result: accepted or refused.",
    ),
    counter(
        "streamgauge_kafka_records_total",
        &["source", "topic", "partition"],
        "Records taken from Kafka, rejects and filtered ones included.",
    ),
    counter("streamgauge_kafka_connects_total", &["source"], "Connections to brokers that were opened or tried."),
    counter(
        "streamgauge_kafka_errors_total",
        &["source"],
        "Errors that the Kafka client told: broken connections, refused logins, failed fetches.",
    ),
    counter("streamgauge_applied_rows_total", &["event"], "Rows that went through apply, replayed ones excluded."),
    counter("streamgauge_bad_records_total", &["source", "code"], "Records that could not become a row, by the code of the reason."),
    counter(
        "streamgauge_rows_total",
        &["table", "stage"],
        "The funnel of a table: rows received, decoded, bad, filtered by where, null_key, late, applied, deleted (keys that tombstones forgot) and undeleted (tombstones that forgot none: the key is not there, or the record's key does not tell it).",
    ),
    MetricSpec {
        name: "streamgauge_late_rows_total",
        kind: MetricKind::Counter,
        help: "Rows that were too old, or too far ahead of their key, for at least one window of the table.",
        labels: &["table"],
        origin: Origin::Derived { family: "streamgauge_rows_total", only: Some(("stage", "late")) },
    },
    counter(
        "streamgauge_source_retries_total",
        &["source", "code"],
        "Times that rows of a source were not taken by the log or the memory limit and wait for another try, by the code of the reason.",
    ),
    counter(
        "streamgauge_source_compacted_total",
        &["source"],
        "Records that waited for room and were compacted away before a restart read them again: no table has them.",
    ),
    counter(
        "streamgauge_window_missed_rows_total",
        &["table", "window_ms", "resolution", "reason"],
        "Rows that a window did not take, by its length and resolution and by reason: late or ahead.",
    ),
    counter("streamgauge_memory_refused_rows_total", &["table"], "Rows refused because a new key would exceed limits.memory."),
    counter(
        "streamgauge_http_requests_total",
        &["route", "status"],
        "Answered HTTP requests of all listeners, by route template and status.",
    ),
    counter(
        "streamgauge_http_rejected_total",
        &["reason"],
        "Requests refused before they had a route, and connections refused before they had a request, by code; framed TCP included.",
    ),
    counter("streamgauge_wal_bytes_total", &[], "Bytes of frames written to the write-ahead log."),
    counter("streamgauge_wal_torn_tail_total", &[], "Torn tails that recovery found and dropped."),
    counter("streamgauge_wal_fsync_errors_total", &[], "Failed fsyncs of the write-ahead log; the first one is final."),
    counter("streamgauge_snapshots_total", &["result"], "Snapshots, by result: written or failed."),
    counter("streamgauge_archive_rows_total", &[], "Rows that were archived."),
    counter("streamgauge_archive_bytes_total", &[], "Bytes of files that were added to the archive."),
    counter("streamgauge_archive_commits_total", &[], "Manifests that archived a range of the log."),
    counter("streamgauge_archive_failures_total", &[], "Runs of the archiver that failed; they are tried again."),
    counter("streamgauge_incidents_total", &["kind"], "Incidents opened, by kind."),
    gauge("streamgauge_build_info", &["version", "commit"], "Always 1; the labels say which build this is."),
    gauge("streamgauge_state", &["phase"], "1 for the phase the server is in, 0 for the others."),
    gauge(
        "streamgauge_kafka_lag_records",
        &["source", "topic", "partition"],
        "Records between the applied position and the known end of the partition.",
    ),
    gauge(
        "streamgauge_kafka_lag_seconds",
        &["source", "topic", "partition"],
        "How stale the partition is at most: since its end was last known to be reached, or since the time of the last applied record.",
    ),
    gauge(
        "streamgauge_kafka_paused",
        &["source", "topic", "partition"],
        "1 while the partition is not being read: back-pressure, waiting or an incident.",
    ),
    gauge("streamgauge_incidents_open", &["kind"], "Open incidents, by kind."),
    gauge("streamgauge_table_keys", &["table"], "Keys in the table."),
    gauge("streamgauge_table_bytes", &["table"], "Bytes of the table: index, rows and arena."),
    gauge(
        "streamgauge_memory_bytes",
        &["kind"],
        "Accounted memory, by use: tables (with what a running snapshot holds; limits.memory bounds it), queues, kafka (records in the clients), rejects.",
    ),
    gauge("streamgauge_rejects", &["kind"], "Rejected records: kept in the bounded reject log, or gone out of it since the state began."),
    gauge("streamgauge_memory_limit_bytes", &[], "limits.memory."),
    gauge("streamgauge_lsn", &["kind"], "Log sequence numbers: written, durable, snapshot, and archived (0 without an event store)."),
    gauge("streamgauge_archive_files", &[], "Files of the archive."),
    gauge("streamgauge_wal_segments", &[], "Segments of the write-ahead log on disk."),
    gauge("streamgauge_disk_free_bytes", &[], "Free bytes of the file system that holds the data folder."),
    gauge("streamgauge_snapshot_age_seconds", &[], "Age of the newest verified snapshot; 0 while there is none."),
    gauge("streamgauge_snapshot_size_bytes", &[], "Size of the newest verified snapshot."),
    gauge("streamgauge_replay_progress_ratio", &[], "Progress of recovery, 0 to 1; 1 once recovered."),
    gauge("streamgauge_connections", &["listener"], "Open connections, by listener."),
    gauge("streamgauge_apply_queue_rows", &[], "Decoded rows that wait for the apply thread."),
    gauge("streamgauge_registry_version", &[], "Version of the registry: grows with every registration that changed something."),
    gauge("streamgauge_registry_nodes", &[], "Events and derivations registered."),
    histogram("streamgauge_push_ack_seconds", &["durability"], "From a push being parsed to its acknowledgement, by durability level."),
    histogram("streamgauge_get_seconds", &["route"], "From a read being parsed to its answer, by route."),
    histogram("streamgauge_apply_batch_seconds", &[], "One turn of the apply thread over one batch, write-ahead included."),
    histogram(
        "streamgauge_seat_event_seconds",
        &["kind"],
        "One event on the apply seat, during which nobody else has it: news, tick, requests, rows, slice, waiting, reads, evacuation, shedding, sweep, visit (an I/O thread) or operator.",
    ),
    histogram(
        "streamgauge_seat_turn_seconds",
        &["kind"],
        "How long a turn on the apply seat came after it could have: tick (housekeeping, since the one before, while there was work) or operator (a thread that waited for the seat).",
    ),
    histogram("streamgauge_wal_fsync_seconds", &[], "One fsync of the write-ahead log."),
    histogram("streamgauge_event_to_visible_seconds", &["source"], "From a record's own time to its row being readable."),
    histogram("streamgauge_snapshot_seconds", &[], "One snapshot, from the clone to the verified file."),
    histogram("streamgauge_recovery_seconds", &[], "Recovery at start: snapshot and WAL tail."),
    alias("beava_registry_version", MetricKind::Gauge, "streamgauge_registry_version", "Alias of streamgauge_registry_version."),
    alias("beava_node_count", MetricKind::Gauge, "streamgauge_registry_nodes", "Alias of streamgauge_registry_nodes."),
    gauge("beava_runtime_kind", &["runtime"], "Always 1; the runtime of the data plane."),
    alias("beava_entity_count_resident", MetricKind::Gauge, "streamgauge_table_keys", "Sum of streamgauge_table_keys."),
    gauge("beava_snapshot_last_duration_seconds", &[], "Duration of the last snapshot."),
    alias("beava_snapshot_last_bytes", MetricKind::Gauge, "streamgauge_snapshot_size_bytes", "Alias of streamgauge_snapshot_size_bytes."),
    gauge("beava_snapshot_last_fsync_seconds", &[], "Duration of the fsync of the last snapshot."),
    process("process_cpu_seconds_total", MetricKind::Counter, "User and system CPU time of the process."),
    process("process_open_fds", MetricKind::Gauge, "Open file descriptors."),
    process("process_max_fds", MetricKind::Gauge, "Soft limit of open file descriptors."),
    process("process_virtual_memory_bytes", MetricKind::Gauge, "Virtual memory size."),
    process("process_resident_memory_bytes", MetricKind::Gauge, "Resident memory size."),
    process("process_start_time_seconds", MetricKind::Gauge, "Start of the process, seconds since the Unix epoch."),
    process("process_threads", MetricKind::Gauge, "Threads of the process."),
];

/// The spec of this name.
pub fn spec(name: &str) -> Option<&'static MetricSpec> {
    TABLE.iter().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_are_unique_and_end_as_prometheus_wants() {
        let mut seen = std::collections::BTreeSet::new();
        for spec in TABLE {
            assert!(seen.insert(spec.name), "{} stands twice", spec.name);
            assert!(spec.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{}", spec.name);
            assert!(["streamgauge_", "beava_", "process_"].iter().any(|prefix| spec.name.starts_with(prefix)), "{}", spec.name);
            assert_eq!(spec.kind == MetricKind::Counter, spec.name.ends_with("_total"), "{}", spec.name);
            assert!(spec.kind != MetricKind::Histogram || spec.name.ends_with("_seconds"), "{}", spec.name);
            assert!(spec.help.ends_with('.'), "{}", spec.name);
        }
    }

    #[test]
    fn a_derived_family_names_an_own_family_of_its_kind() {
        for derived in TABLE {
            let Origin::Derived { family, only } = derived.origin else { continue };
            let origin = spec(family).unwrap();
            assert_eq!((origin.origin, origin.kind), (Origin::Own, derived.kind), "{}", derived.name);
            assert!(only.is_none_or(|(label, _)| origin.labels.contains(&label)), "{}", derived.name);
            assert!(derived.labels.iter().all(|label| origin.labels.contains(label)), "{}", derived.name);
        }
    }

    #[test]
    fn names_of_existing_dashboards_are_there_as_far_as_they_mean_something() {
        assert_eq!(TABLE.iter().filter(|spec| spec.name.starts_with("beava_")).count(), 7);
    }
}
