//! A full disk: nothing is acknowledged that is not in the log, reads go on, Kafka waits, and everything goes on by itself when there is room again.
//!
//! The disk is filled by lowering the running process's file size limit below every file: each write then fails as on a full disk, and space
//! comes back in an instant. A start on a full disk is tried with that limit from the first instruction on, and, where the test may mount, on
//! a small disk that is really full.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::time::Duration;
use streamgauge_testing::payments::{CARDS, SUMS, Topics, config};
use streamgauge_testing::{Admin, Production, Setup, Sidecar, SmallDisk, broker, unique, wait_for};

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

const SMALL_SEGMENTS: &str = "[durability.wal]\nsegment = \"1MiB\"\n";

/// Waits until the state is there and the disk is said to be full.
fn served_without_room(sidecar: &Sidecar) {
    wait_for("a start on a full disk", WITHIN, || match ready(sidecar) {
        (503, text) if text.contains("disk_full") && !text.contains("recovering") => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    })
    .unwrap();
}

fn refused(sidecar: &Sidecar) {
    let answer = sidecar.data_post("/push/Step", &json!({ "walker": "w" })).unwrap();
    assert_eq!((answer.status, answer.code()), (507, "storage_full"));
}

/// Pushes after a kill -9 and a start without room: reads answer, pushes are refused; then there is room, and all that was acknowledged is counted.
fn goes_on_when_there_is_room(setup: &Setup, full: &Setup, make_room: &dyn Fn(&Sidecar)) {
    let sidecar = full.start_bound().unwrap();
    served_without_room(&sidecar);
    assert_eq!(walked(&sidecar), 500);
    refused(&sidecar);
    assert_eq!(walked(&sidecar), 500);
    make_room(&sidecar);
    sidecar.wait_ready(WITHIN).unwrap();
    assert_eq!(push(&sidecar), 200);
    sidecar.kill9();
    assert_eq!(walked(&setup.start().unwrap()), 501);
}

fn pushed_and_killed(setup: &Setup) {
    let sidecar = setup.start().unwrap();
    for _ in 0..500 {
        assert_eq!(push(&sidecar), 200);
    }
    sidecar.kill9();
}

/// What is to hold of a data folder, and of a start on it that finds no room until it is made.
type Scenario = fn(&Setup, &Setup, &dyn Fn(&Sidecar));

/// The same process with a file size limit of zero from its first instruction on: no byte of any file, not even its log.
fn may_not_write_a_byte(scenario: Scenario) {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &(STEPS.to_owned() + SMALL_SEGMENTS)).unwrap();
    pushed_and_killed(&setup);
    let limited = setup.through("limited", "#!/bin/sh\nulimit -S -f 0\nexec \"$BINARY\" \"$@\"\n").unwrap();
    scenario(&setup, &limited, &|sidecar| sidecar.limit_files(None).unwrap());
}

fn without_a_free_byte(scenario: Scenario) {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &(STEPS.to_owned() + SMALL_SEGMENTS)).unwrap();
    let disk = match SmallDisk::at(setup.data(), 8 << 20) {
        Ok(disk) => disk,
        // Who may not mount has the file size limit above, which is stricter still.
        Err(reason) => return eprintln!("no small disk: {reason}"),
    };
    pushed_and_killed(&setup);
    let filler = disk.fill().unwrap();
    scenario(&setup, &setup, &|_| std::fs::remove_file(&filler).unwrap());
}

#[test]
fn a_start_after_kill_nine_that_may_not_write_a_byte_serves_reads_and_goes_on_when_it_may() {
    may_not_write_a_byte(goes_on_when_there_is_room);
}

#[test]
fn a_start_after_kill_nine_on_a_disk_without_a_free_byte_serves_reads_and_goes_on_when_there_is_room() {
    without_a_free_byte(goes_on_when_there_is_room);
}

const MORE: &str = "half = { op = \"count\", window = \"30m\" }\n";

/// As the file was, with a feature more, on a disk without room: what is there is served, and what the file changes comes
/// with the room.
fn a_changed_config_waits_for_room(setup: &Setup, full: &Setup, make_room: &dyn Fn(&Sidecar)) {
    setup.write_config(&(STEPS.to_owned() + MORE + SMALL_SEGMENTS)).unwrap();
    let sidecar = full.start_bound().unwrap();
    served_without_room(&sidecar);
    let row = sidecar.get("walkers", "w").unwrap().unwrap();
    assert_eq!((row["n"].as_u64(), row.get("half")), (Some(500), None));
    refused(&sidecar);
    wait_for("the incident to say it", WITHIN, || {
        let status = sidecar.status()?;
        let told = status["incidents"].to_string();
        if told.contains("not in force") { Ok(()) } else { Err(told) }
    })
    .unwrap();
    make_room(&sidecar);
    sidecar.wait_ready(WITHIN).unwrap();
    assert_eq!(push(&sidecar), 200);
    let row = sidecar.get("walkers", "w").unwrap().unwrap();
    assert_eq!((row["n"].as_u64(), row["half"].as_u64()), (Some(501), Some(1)));
    assert!(sidecar.terminate(WITHIN).unwrap().success());
    assert_eq!(walked(&setup.start().unwrap()), 501);
}

#[test]
fn a_changed_config_prevents_no_start_that_may_not_write_a_byte() {
    may_not_write_a_byte(a_changed_config_waits_for_room);
}

#[test]
fn a_changed_config_prevents_no_start_on_a_disk_without_a_free_byte() {
    without_a_free_byte(a_changed_config_waits_for_room);
}

#[test]
fn a_new_data_folder_without_room_for_a_log_is_refused_with_the_bytes_it_needs() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &(STEPS.to_owned() + SMALL_SEGMENTS)).unwrap();
    let limited = setup.through("limited", "#!/bin/sh\nulimit -S -f 0\nexec \"$BINARY\" \"$@\"\n").unwrap();
    let mut command = limited.command("run");
    command.arg("-c").arg(setup.config()).arg("--data-dir").arg(setup.data());
    let output = command.args(["--http-addr", "127.0.0.1:0", "--tcp-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{told}");
    for word in ["storage_full", "needs 1048576 bytes", "the disk has"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    // Nothing of the try stands in the way of the next one.
    assert_eq!(push(&setup.start().unwrap()), 200);
}
