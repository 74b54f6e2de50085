//! What a scrape shows. Lines are compared whole: the text is the interface.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::source::Incident;
use std::time::{Duration, Instant};

fn metrics() -> Metrics {
    Metrics::new("0.1.0", "abc")
}

#[track_caller]
fn check(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|have| have == *line), "missing {line:?} in\n{text}");
    }
}

fn partition(source: &str, partition: i32, lag: Option<i64>, state: &str) -> PartitionStatus {
    PartitionStatus {
        source: source.into(),
        event: "Payment".into(),
        topic: "payments".into(),
        partition,
        state: state.into(),
        position: 5,
        end: lag.map(|lag| lag + 5),
        stable_end: None,
        log_start: None,
        lag_records: lag,
        lag_seconds: lag.map(|_| 1.5),
        in_per_second: 0.0,
        applied_per_second: 0.0,
        eta_s: None,
        incident: None,
    }
}

#[test]
fn every_family_of_known_labels_exists_from_the_start() {
    let text = metrics().text();
    let open = ["event", "source", "table", "route"];
    for spec in Metrics::table() {
        let known = spec.labels.iter().all(|label| !open.contains(label)) || spec.name == "streamgauge_get_seconds";
        let shown = text.contains(&format!("# TYPE {} {}\n", spec.name, spec.kind.as_str()));
        assert_eq!(known, shown, "{}", spec.name);
    }
    check(
        &text,
        &[
            "streamgauge_build_info{commit=\"abc\",version=\"0.1.0\"} 1",
            "beava_runtime_kind{runtime=\"mio\"} 1",
            "beava_entity_count_resident 0",
            "streamgauge_wal_bytes_total 0",
            "streamgauge_lsn{kind=\"durable\"} 0",
            "streamgauge_incidents_total{kind=\"SourceGap\"} 0",
            "streamgauge_wal_fsync_seconds_count 0",
        ],
    );
}

#[test]
fn every_family_can_have_a_series() {
    let metrics = metrics();
    metrics.table_series("t");
    metrics.event_series("E");
    metrics.source_series("s");
    metrics.kafka_records("s", "topic", 0);
    metrics.route_series("/ping");
    metrics.window_series("t", 60_000, 64);
    metrics.source_retries("s", Code::StorageFull);
    metrics.set_tables(&[TableLevel { table: "t".into(), keys: 1, bytes: 2 }]);
    metrics.set_partitions(&[partition("s", 0, Some(1), "reading")], &[]);
    let text = metrics.text();
    for spec in Metrics::table() {
        assert!(text.contains(&format!("# HELP {} {}\n", spec.name, spec.help)), "{}", spec.name);
    }
}

#[test]
fn a_tables_funnel_is_counted_by_stage_and_late_rows_follow_it() {
    let metrics = metrics();
    let series = metrics.table_series("card_stats");
    series.received.inc_by(10);
    series.late.inc_by(2);
    metrics.table_series("card_stats").late.inc();
    check(
        &metrics.text(),
        &[
            "streamgauge_rows_total{stage=\"received\",table=\"card_stats\"} 10",
            "streamgauge_rows_total{stage=\"applied\",table=\"card_stats\"} 0",
            "streamgauge_rows_total{stage=\"late\",table=\"card_stats\"} 3",
            "streamgauge_late_rows_total{table=\"card_stats\"} 3",
            "streamgauge_memory_refused_rows_total{table=\"card_stats\"} 0",
        ],
    );
}

#[test]
fn aliases_show_the_value_of_their_original() {
    let metrics = metrics();
    metrics.registry_version.set(7.0);
    metrics.registry_nodes.set(3.0);
    metrics.snapshot_size_bytes.set(4096.0);
    metrics.set_tables(&[TableLevel { table: "a".into(), keys: 10, bytes: 100 }, TableLevel { table: "b".into(), keys: 5, bytes: 50 }]);
    check(
        &metrics.text(),
        &["beava_registry_version 7", "beava_node_count 3", "beava_snapshot_last_bytes 4096", "beava_entity_count_resident 15"],
    );
}

#[test]
fn open_labels_beyond_the_cap_are_other_and_their_levels_are_summed() {
    let metrics = metrics();
    let tables: Vec<TableLevel> = (0..OPEN_LABELS_MAX + 3).map(|n| TableLevel { table: format!("t{n:04}"), keys: 2, bytes: 10 }).collect();
    for level in &tables {
        metrics.table_series(&level.table).received.inc();
    }
    metrics.set_tables(&tables);
    let text = metrics.text();
    check(
        &text,
        &[
            "streamgauge_rows_total{stage=\"received\",table=\"other\"} 3",
            "streamgauge_table_keys{table=\"other\"} 6",
            "streamgauge_table_keys{table=\"t0511\"} 2",
            "beava_entity_count_resident 1030",
        ],
    );
    assert!(!text.contains("t0512"));
}

#[test]
fn levels_of_a_dropped_table_disappear() {
    let metrics = metrics();
    metrics.set_tables(&[TableLevel { table: "vanished".into(), keys: 1, bytes: 1 }]);
    metrics.set_tables(&[]);
    assert!(!metrics.text().contains("vanished"));
}

#[test]
fn partitions_show_lag_and_incidents() {
    let metrics = metrics();
    let mut stopped = partition("clicks", 0, None, "stopped");
    stopped.incident = Some(Incident {
        kind: IncidentKind::SourceGap,
        cause: String::new(),
        opened_us: 0,
        lost: "2 299 records".into(),
        holds: String::new(),
        evidence: String::new(),
        actions: Vec::new(),
        resume_offset: None,
    });
    metrics.set_partitions(&[partition("payments", 1, Some(54), "reading"), stopped], &[IncidentKind::MemoryLimit]);
    let text = metrics.text();
    check(
        &text,
        &[
            "streamgauge_kafka_lag_records{partition=\"1\",source=\"payments\",topic=\"payments\"} 54",
            "streamgauge_kafka_lag_seconds{partition=\"1\",source=\"payments\",topic=\"payments\"} 1.5",
            "streamgauge_kafka_paused{partition=\"1\",source=\"payments\",topic=\"payments\"} 0",
            "streamgauge_kafka_paused{partition=\"0\",source=\"clicks\",topic=\"payments\"} 1",
            "streamgauge_incidents_open{kind=\"SourceGap\"} 1",
            "streamgauge_incidents_open{kind=\"MemoryLimit\"} 1",
            "streamgauge_incidents_open{kind=\"Stalled\"} 0",
        ],
    );
    assert!(!text.contains("streamgauge_kafka_lag_records{partition=\"0\",source=\"clicks\""));
}

#[test]
fn a_status_that_no_route_has_is_other() {
    let metrics = metrics();
    let route = metrics.route_series("/push/{event}");
    route.status(200).inc();
    route.status(507).inc();
    route.status(299).inc();
    check(
        &metrics.text(),
        &[
            "streamgauge_http_requests_total{route=\"/push/{event}\",status=\"200\"} 1",
            "streamgauge_http_requests_total{route=\"/push/{event}\",status=\"404\"} 0",
            "streamgauge_http_requests_total{route=\"/push/{event}\",status=\"507\"} 1",
            "streamgauge_http_requests_total{route=\"/push/{event}\",status=\"other\"} 1",
        ],
    );
}

#[test]
fn one_phase_is_set_at_a_time() {
    let metrics = metrics();
    metrics.set_phase("recovering");
    metrics.set_phase("ready");
    check(&metrics.text(), &["streamgauge_state{phase=\"recovering\"} 0", "streamgauge_state{phase=\"ready\"} 1"]);
}

#[test]
fn label_values_are_escaped() {
    let metrics = metrics();
    metrics.event_series("a\"b\\c\nd").applied.inc();
    check(&metrics.text(), &["streamgauge_applied_rows_total{event=\"a\\\"b\\\\c\\nd\"} 1"]);
}

#[test]
fn durations_and_bad_records_reach_the_text() {
    let metrics = metrics();
    let source = metrics.source_series("payments");
    source.visible.record_many(Duration::from_millis(2), 100);
    source.bad(Code::DecodeMalformed).inc();
    source.bad(Code::InvalidEvent).inc();
    metrics.push_ack("written").record(Duration::from_micros(30));
    check(
        &metrics.text(),
        &[
            "streamgauge_event_to_visible_seconds_bucket{source=\"payments\",le=\"0.001\"} 0",
            "streamgauge_event_to_visible_seconds_bucket{source=\"payments\",le=\"0.002\"} 100",
            "streamgauge_event_to_visible_seconds_bucket{source=\"payments\",le=\"+Inf\"} 100",
            "streamgauge_event_to_visible_seconds_count{source=\"payments\"} 100",
            "streamgauge_bad_records_total{code=\"decode_malformed\",source=\"payments\"} 1",
            "streamgauge_bad_records_total{code=\"invalid_event\",source=\"payments\"} 1",
            "streamgauge_bad_records_total{code=\"key_too_long\",source=\"payments\"} 0",
            "streamgauge_push_ack_seconds_count{durability=\"written\"} 1",
        ],
    );
}

#[test]
fn a_scrape_of_two_hundred_tables_is_quick() {
    let metrics = metrics();
    let tables: Vec<TableLevel> = (0..200).map(|n| TableLevel { table: format!("t{n}"), keys: n, bytes: n }).collect();
    for level in &tables {
        metrics.table_series(&level.table);
    }
    let partitions: Vec<PartitionStatus> = (0..100).map(|n| partition("payments", n, Some(1), "reading")).collect();
    let started = Instant::now();
    metrics.set_tables(&tables);
    metrics.set_partitions(&partitions, &[]);
    let text = metrics.text();
    // 20 ms is the promise of a release build; an unoptimised one on a busy machine gets room.
    assert!(started.elapsed() < Duration::from_millis(500), "{:?} for {} bytes", started.elapsed(), text.len());
}
