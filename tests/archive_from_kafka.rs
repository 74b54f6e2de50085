//! Records of Kafka and pushes side by side flow into the archive while the server is killed again and again: every record is
//! there once, with its offset, whatever died when; and the log is given back behind it.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use streamgauge::archive::verify;
use streamgauge::storage::Disk;
use streamgauge_parquet::{FileReader, ReadAt, Value};
use streamgauge_testing::kafka::console_produce;
use streamgauge_testing::{Admin, Setup, Sidecar, broker, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

fn config(bootstrap: &str, topic: &str, archive: &Path) -> String {
    format!(
        r#"config_version = 1
[durability]
snapshot = {{ every = "1s" }}
[durability.wal]
segment = "1MiB"
[archive]
memory = "8MiB"
[events.Step]
fields = {{ walker = "str", number = "i64" }}
[sources.steps]
event = "Step"
kafka = {{ brokers = ["{bootstrap}"], topic = "{topic}" }}
[tables.walkers]
from = "Step"
key = ["walker"]
[tables.walkers.features]
n = {{ op = "count" }}
[eventstore]
"durable.type" = "parquet"
"durable.path" = "{}"
compaction.min_segment_mb = 1
"#,
        archive.display()
    )
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let from = usize::try_from(offset).unwrap().min(self.0.len());
        let got = bytes.len().min(self.0.len() - from);
        bytes[..got].copy_from_slice(&self.0[from..from + got]);
        Ok(got)
    }
}

/// Numbers by offset of records, and those of pushes.
fn archived(root: &Path, steps: &str) -> (BTreeMap<i64, i64>, Vec<i64>) {
    let (mut records, mut pushes) = (BTreeMap::new(), Vec::new());
    let report = verify(&Disk, root, &root.join("_manifests")).unwrap().unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    for path in report.live.files.keys() {
        let file = Arc::new(Bytes(std::fs::read(root.join(path)).unwrap()));
        let mut reader = FileReader::open(file, Some(&["offset", "topic", "number"])).unwrap();
        loop {
            let rows = reader.advance().unwrap();
            if rows == 0 {
                break;
            }
            let [topic, offset, number] = ["topic", "offset", "number"].map(|name| reader.column(name).unwrap());
            for row in 0..rows {
                let Value::Int(number) = reader.cell(number, row) else { panic!("a row without a number") };
                match (reader.cell(topic, row), reader.cell(offset, row)) {
                    (Value::Text(topic), Value::Int(offset)) if topic == steps => {
                        assert_eq!(records.insert(offset, number), None, "offset {offset} twice")
                    }
                    (Value::Null, Value::Null) => pushes.push(number),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    pushes.sort_unstable();
    (records, pushes)
}

fn push(sidecar: &Sidecar, numbers: std::ops::Range<i64>) {
    let rows: Vec<Json> = numbers.map(|number| json!({"walker": "w", "number": number})).collect();
    let answer = sidecar.data_post("/push-batch/Step", &json!(rows)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn records_and_pushes_are_archived_once_over_kills() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("steps"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(bootstrap, &topic, &archive)).unwrap();
    let mut sidecar = setup.start().unwrap();
    let (mut produced, mut pushed) = (0_i64, 0_i64);
    for round in 0..6 {
        let lines: String = (produced..produced + 4_000)
            .map(|number| format!("{}\n", json!({"walker": format!("w{}", number % 9), "number": number})))
            .collect();
        console_produce(bootstrap, &topic, &lines).unwrap();
        produced += 4_000;
        push(&sidecar, pushed..pushed + 500);
        pushed += 500;
        sidecar.wait_positions(&topic, &BTreeMap::from([(0, produced)]), WITHIN).unwrap();
        if round % 2 == 0 {
            let answer = sidecar.admin_post("/eventstore/now").unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        sidecar.kill9();
        sidecar = setup.start().unwrap();
    }
    let answer = sidecar.admin_post("/eventstore/now").unwrap();
    assert_eq!((answer.status, &answer.body["archive"]["lag_lsn"]), (200, &json!(0)), "{}", answer.text);
    let (records, pushes) = archived(&archive, &topic);
    // One partition: offsets are the numbers.
    assert_eq!(records, (0..produced).map(|number| (number, number)).collect());
    assert_eq!(pushes, (0..pushed).collect::<Vec<_>>());
    // The log goes behind snapshots and archive: what is archived is not kept for it.
    wait_for("released segments", WITHIN, || {
        push(&sidecar, 0..500);
        let answer = sidecar.admin_post("/eventstore/now").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = sidecar.admin_get("/wal?limit=1").unwrap().body;
        if page["earliest_lsn"].as_u64().is_some_and(|lsn| lsn > 1) { Ok(()) } else { Err(page.to_string()) }
    })
    .unwrap();
}
