//! A full disk: nothing is acknowledged that is not in the log, reads go on, Kafka waits, and everything goes on by itself when there is room again.
//!
//! The disk is filled by lowering the running process's file size limit below every file: each write then fails as on a full disk, and space comes back in an instant.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::time::Duration;
use streamgauge_testing::payments::{CARDS, SUMS, Topics, config};
use streamgauge_testing::{Admin, Production, Setup, Sidecar, broker, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(60);
const STEPS: &str = "[events.Step]\nfields = { walker = \"str\" }\n[tables.walkers]\nfrom = \"Step\"\nkey = [\"walker\"]\n\
                     [tables.walkers.features]\nn = { op = \"count\" }\n";

fn push(sidecar: &Sidecar) -> u16 {
    sidecar.data_post("/push/Step", &json!({ "walker": "w" })).unwrap().status
}

fn walked(sidecar: &Sidecar) -> u64 {
    sidecar.get("walkers", "w").unwrap().unwrap()["n"].as_u64().unwrap()
}

fn ready(sidecar: &Sidecar) -> (u16, String) {
    let answer = sidecar.admin_get("/ready").unwrap();
    (answer.status, answer.text)
}

#[test]
fn a_full_disk_stops_writes_with_a_typed_error_and_everything_goes_on_when_there_is_room() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("disk-full"));
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let part = |first| Production { topic: topic.clone(), first, records: 5_000, partitions: 2, keys: 300, ..Production::default() };
    let before = part(0).run(bootstrap, WITHIN).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &(config(bootstrap, Topics::One(&topic), None) + STEPS)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &before.ends, WITHIN).unwrap();
    for round in 1..=3 {
        assert_eq!(push(&sidecar), 200);
        sidecar.limit_files(Some(1)).unwrap();
        let refused = sidecar.data_post("/push/Step", &json!({ "walker": "w" })).unwrap();
        assert_eq!((refused.status, refused.code()), (507, "storage_full"), "round {round}");
        assert_eq!(walked(&sidecar), round);
        let (status, text) = ready(&sidecar);
        assert!(status == 503 && text.contains("disk_full"), "{status} {text}");
        // A snapshot cannot be written either: that is told, and harms nothing.
        assert_eq!(sidecar.admin_post("/snapshots").unwrap().code(), "storage_full");
        sidecar.limit_files(None).unwrap();
        // Nobody pushes: it finds the room itself.
        wait_for("readiness", WITHIN, || match ready(&sidecar) {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        })
        .unwrap();
    }
    sidecar.limit_files(Some(1)).unwrap();
    let meanwhile = part(5_000).run(bootstrap, WITHIN).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sidecar.consumed(&topic).unwrap(), before.ends.values().sum::<i64>());
    sidecar.limit_files(None).unwrap();
    sidecar.wait_positions(&topic, &meanwhile.ends, WITHIN).unwrap();
    sidecar.kill9();

    let sidecar = setup.start().unwrap();
    assert_eq!(walked(&sidecar), 3);
    let mut oracle = before.oracle;
    oracle.add_counts(&meanwhile.oracle, SUMS);
    oracle.compare(&sidecar, CARDS, SUMS).unwrap();
}
