//! Every series of the table moves when what it counts happens. A server lives through all of it on a real broker: pushes and reads over both protocols,
//! nonsense, bad and late records, a full table, a disk without room, a broker that is away, kill -9 with a torn log.
//!
//! A family that is added to the table and not provoked here fails the test; so does one that is documented and never fed.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;
use streamgauge_api::metrics::{MetricKind, Metrics};
use streamgauge_testing::{Admin, Frame, Raw, Setup, Sidecar, broker, kafka, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const WITHIN: Duration = Duration::from_secs(60);

/// What no server can be brought to from outside: a disk whose fsync fails (`a_log_that_failed_is_counted`), and a log that is compacted
/// between two lives, when the cleaner of a broker comes to it (`records_that_were_compacted_away_while_they_waited_are_counted`); both
/// in `src/apply/tests`.
const ELSEWHERE: &[&str] = &["streamgauge_wal_fsync_errors_total", "streamgauge_source_compacted_total"];

/// What only a process shows that found the log of one that was killed.
const SECOND_LIFE: &[&str] = &["streamgauge_wal_torn_tail_total"];

/// Series of closed labels that must each move, not only their family.
const EACH: &[&str] = &[
    "streamgauge_push_ack_seconds{durability=\"written\"}",
    "streamgauge_push_ack_seconds{durability=\"synced\"}",
    "streamgauge_get_seconds{route=\"http_get\"}",
    "streamgauge_get_seconds{route=\"http_batch_get\"}",
    "streamgauge_get_seconds{route=\"tcp_get\"}",
    "streamgauge_get_seconds{route=\"tcp_batch_get\"}",
    "streamgauge_connections{listener=\"http\"}",
    "streamgauge_connections{listener=\"tcp\"}",
    "streamgauge_connections{listener=\"admin\"}",
    "streamgauge_snapshots_total{result=\"written\"}",
    "streamgauge_snapshots_total{result=\"failed\"}",
    "streamgauge_lsn{kind=\"written\"}",
    "streamgauge_lsn{kind=\"durable\"}",
    "streamgauge_lsn{kind=\"snapshot\"}",
    "streamgauge_lsn{kind=\"archived\"}",
    "streamgauge_memory_bytes{kind=\"tables\"}",
    "streamgauge_memory_bytes{kind=\"queues\"}",
    "streamgauge_memory_bytes{kind=\"rejects\"}",
    "streamgauge_http_rejected_total{reason=\"http_protocol_error\"}",
    "streamgauge_http_rejected_total{reason=\"headers_too_large\"}",
    "streamgauge_http_rejected_total{reason=\"payload_too_large\"}",
    "streamgauge_http_rejected_total{reason=\"frame_error\"}",
    "streamgauge_http_rejected_total{reason=\"frame_too_large\"}",
];

fn config(bootstrap: &str, topic: &str, archive: &Path) -> String {
    format!(
        r#"config_version = 1
[limits]
memory = "16MiB"
[events.Step]
time = {{ field = "ts" }}
fields = {{ walker = "str?", ts = "datetime" }}
[events.Other]
fields = {{ walker = "str" }}
[sources.steps]
event = "Step"
[sources.steps.kafka]
brokers = ["{bootstrap}"]
topic = "{topic}"
start = "earliest"
[sources.away]
event = "Other"
[sources.away.kafka]
brokers = ["127.0.0.1:1"]
topic = "never"
[tables.walkers]
from = "Step"
key = ["walker"]
[tables.walkers.features]
n = {{ op = "count", window = "1m" }}
[eventstore]
"durable.type" = "parquet"
"durable.path" = "{}"
"#,
        archive.display()
    )
}

/// Series that were seen to be other than zero, without the suffixes of histograms.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn scrape(&mut self, sidecar: &Sidecar) {
        let text = sidecar.admin_get("/metrics").unwrap().text;
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        for (series, _) in samples.filter(|(_, value)| value.parse::<f64>().unwrap() != 0.0) {
            let (name, labels) = series.split_once('{').map_or((series, String::new()), |(name, labels)| (name, format!("{{{labels}")));
            let family = Metrics::table()
                .iter()
                .find(|spec| spec.name == name || (spec.kind == MetricKind::Histogram && name.strip_prefix(spec.name) == Some("_count")));
            if let Some(family) = family {
                self.0.insert(format!("{}{labels}", family.name));
            }
        }
    }

    fn has(&self, series: &str) -> bool {
        self.0.contains(series)
    }

    /// Whether every other family of the table has moved.
    fn lacks_nothing_but(&self, may: &[&str]) -> Result<(), String> {
        let moved: BTreeSet<&str> = self.0.iter().filter_map(|series| series.split('{').next()).collect();
        let families = Metrics::table().iter().map(|spec| spec.name);
        let still: Vec<&str> = families.filter(|name| !moved.contains(name) && !may.contains(name) && !ELSEWHERE.contains(name)).collect();
        if still.is_empty() { Ok(()) } else { Err(format!("these families never moved: {still:?}")) }
    }
}

fn now_ms() -> u64 {
    u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn step(walker: &str, age_ms: u64) -> serde_json::Value {
    json!({ "walker": walker, "ts": now_ms() - age_ms })
}

fn lines(rows: impl IntoIterator<Item = serde_json::Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// Pushes and reads over both protocols, and what neither takes.
fn live(sidecar: &Sidecar) {
    for (path, body) in [
        ("/push/Step", step("ada", 0)),
        ("/push-sync/Step", step("ada", 0)),
        ("/push-batch/Step", json!([step("ada", 0), step("bob", 0), step("bob", 3_600_000)])),
        ("/batch_get", json!({ "requests": [{ "table": "walkers", "key": "ada" }] })),
    ] {
        let answer = sidecar.data_post(path, &body).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    assert_eq!(sidecar.data_post("/push/Step", &json!({ "walker": 7 })).unwrap().status, 400);
    assert_eq!(sidecar.data_post("/push/Step", &json!({ "walker": null, "ts": now_ms() })).unwrap().status, 200);
    assert!(sidecar.get("walkers", "ada").unwrap().is_some());
    assert_eq!(sidecar.data_get("/nowhere").unwrap().status, 404);

    let mut tcp = Raw::connect(&sidecar.tcp).unwrap();
    for (op, text) in [
        (0x0010, json!({ "event": "Step", "body": step("cleo", 0) })),
        (0x0020, json!({ "table": "walkers", "key": "cleo" })),
        (0x0024, json!({ "requests": [{ "table": "walkers", "key": "cleo" }] })),
    ] {
        tcp.send(&Frame::json(op, &text.to_string()).bytes()).unwrap();
        let reply = tcp.frame().unwrap();
        assert_ne!(reply.op, 0xFFFF, "{op:#06x}: {}", reply.code());
    }
    for wire in [
        "GET /health HTTP/1.1\nHost: x\r\n\r\n".to_owned(),
        format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(9_000)),
        "POST /push/Step HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".to_owned(),
    ] {
        let mut http = Raw::connect(&sidecar.http).unwrap();
        http.send(wire.as_bytes()).unwrap();
        assert!(http.answer().unwrap().status >= 400);
    }
    for length in [1u32, u32::MAX] {
        let mut tcp = Raw::connect(&sidecar.tcp).unwrap();
        tcp.send(&length.to_be_bytes()).unwrap();
        assert_eq!(tcp.frame().unwrap().op, 0xFFFF);
    }
}

/// Fills the tables up to the limit with pushes of new keys.
fn fill(sidecar: &Sidecar) {
    let mut tcp = Raw::connect(&sidecar.tcp).unwrap();
    let refused = (0..5_000).any(|burst| {
        let names = (0..500).map(|number| format!("walker {burst} {number}"));
        let bytes: Vec<u8> =
            names.flat_map(|name| Frame::json(0x0010, &json!({ "event": "Step", "body": step(&name, 0) }).to_string()).bytes()).collect();
        tcp.send(&bytes).unwrap();
        (0..500).fold(false, |refused, _| tcp.frame().unwrap().op != 0x0010 || refused)
    });
    assert!(refused, "the limit was never reached");
}

/// Writes nonsense behind the last byte of the newest segment that holds anything.
fn tear(setup: &Setup) {
    let folder = setup.data().join("wal");
    let mut segments: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|ending| ending == "seg"));
    segments.sort();
    for segment in segments.iter().rev() {
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // A segment that was prepared and never begun has a header and no frame.
        if end <= 4096 {
            continue;
        }
        file.seek(SeekFrom::Start(end.next_multiple_of(8) as u64)).unwrap();
        file.write_all(&[0xA5; 64]).unwrap();
        return;
    }
    panic!("no segment holds a frame");
}

#[test]
fn every_series_moves_when_what_it_counts_happens() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("every-series"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let archive = tempfile::tempdir().unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, &topic, archive.path())).unwrap();
    let sidecar = setup.start().unwrap();
    let mut seen = Seen::default();
    seen.scrape(&sidecar);

    let _open = (Raw::connect(&sidecar.http).unwrap(), Raw::connect(&sidecar.tcp).unwrap());
    live(&sidecar);
    kafka::console_produce(bootstrap, &topic, &(lines([step("dan", 0), step("dan", 0)]) + "no json\n")).unwrap();
    let ends = Admin::of(bootstrap).ends(&topic).unwrap();
    sidecar.wait_positions(&topic, &ends, WITHIN).unwrap();
    assert_eq!(sidecar.admin_post("/snapshots").unwrap().status, 200);
    seen.scrape(&sidecar);

    sidecar.limit_files(Some(4096)).unwrap();
    assert_ne!(sidecar.admin_post("/snapshots").unwrap().status, 200);
    assert_ne!(sidecar.admin_post("/eventstore/now").unwrap().status, 200);
    sidecar.limit_files(None).unwrap();
    assert_eq!(sidecar.admin_post("/eventstore/now").unwrap().status, 200);
    seen.scrape(&sidecar);

    // The table is full: what Kafka brings of new keys waits, what comes behind it fills the queue, and then the partition is let go.
    fill(&sidecar);
    kafka::console_produce(bootstrap, &topic, &lines((0..80_000).map(|number| step(&format!("late comer {number}"), 0)))).unwrap();
    wait_for("everything that the first process can show", WITHIN, || {
        seen.scrape(&sidecar);
        seen.lacks_nothing_but(SECOND_LIFE)
    })
    .unwrap();

    sidecar.kill9();
    tear(&setup);
    let sidecar = setup.start_bound().unwrap();
    wait_for("what only a second process can show", WITHIN, || {
        seen.scrape(&sidecar);
        seen.lacks_nothing_but(&[])
    })
    .unwrap();
    let still: Vec<&&str> = EACH.iter().filter(|series| !seen.has(series)).collect();
    assert!(still.is_empty(), "these series never moved: {still:?} of {:?}", seen.0);
}
