//! A frame that ends every start: after the third the start stops with its own exit code and names the frame, and the operator gets past it.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::path::Path;
use std::process::{ExitStatus, Output};
use streamgauge::apply::codec::{Encoded, encode, kind_of};
use streamgauge::pipeline::{Registry, TableEffect};
use streamgauge::state::Content;
use streamgauge::storage::{Checksum, Disk};
use streamgauge::wal::{FrameParts, LogIdentity, Start, WalOptions, WalWriter};
use streamgauge_testing::Setup;

const STEPS: &str = "[events.Step]\nfields = { walker = \"str\" }\n[tables.walkers]\nfrom = \"Step\"\nkey = [\"walker\"]\n\
                     [tables.walkers.features]\nn = { op = \"count\" }\n";

/// A start that ends by itself, and what it said.
fn run(setup: &Setup) -> (ExitStatus, String) {
    let mut command = setup.command("run");
    command.args(["--http-addr", "127.0.0.1:0", "--tcp-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "-c"]).arg(setup.config());
    let Output { status, stderr, .. } = command.arg("--data-dir").arg(setup.data()).output().unwrap();
    (status, String::from_utf8(stderr).unwrap())
}

fn wal_skip(setup: &Setup, lsn: u64) -> Output {
    setup.command("wal").args(["skip", &lsn.to_string(), "--json", "--data-dir"]).arg(setup.data()).output().unwrap()
}

/// A log whose one frame is a definition that creates a table nobody declared.
fn crafted_definition(data: &Path) {
    let log = LogIdentity { log_id: 1, hash_seed: 2 };
    let (mut writer, _) = WalWriter::start(Disk, &data.join("wal"), Start::Fresh { log }, WalOptions::default(), 1).unwrap();
    let content = Content::Definition { registry: Registry::default().into(), effects: vec![TableEffect::Create { table: 7 }] };
    let mut encoded = Encoded::default();
    encode(&content, &mut encoded);
    let body = [&encoded.head[..], &encoded.tail[..]];
    writer.append([FrameParts { kind: kind_of(&content), flags: 0, row_count: 0, now_us: 5, positions: &[], body: &body }]).unwrap();
    writer.close(6).unwrap();
}

#[test]
fn a_crafted_frame_is_refused_every_time_and_a_definition_that_ends_starts_cannot_be_skipped() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), STEPS).unwrap();
    crafted_definition(&setup.data());
    // Nobody dies of it, however often it is tried.
    for _ in 0..4 {
        let (status, said) = run(&setup);
        assert_eq!(status.code(), Some(65), "{said}");
        for part in ["wal_damaged", "LSN 1", "table 7"] {
            assert!(said.contains(part), "{part:?} is missing in\n{said}");
        }
    }
    died_three_times(&setup.data(), 1);
    for _ in 0..2 {
        let (status, said) = run(&setup);
        assert_eq!(status.code(), Some(70), "{said}");
        for part in ["crash_loop", "LSN 1 to 1", "definition", "cannot be skipped", "put a copy of the data folder"] {
            assert!(said.contains(part), "{part:?} is missing in\n{said}");
        }
    }
    let refused = wal_skip(&setup, 1);
    let said: Json = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(!refused.status.success() && said["error"]["reason"].as_str().unwrap().contains("definition"), "{said}");
}

/// The file by which starts count, as three of them would leave it that died in this frame (`docs/FORMAT.md`).
fn died_three_times(data: &Path, lsn: u64) {
    let program = u64::from(Checksum::of(env!("CARGO_PKG_VERSION").as_bytes()));
    let mut bytes: Vec<u8> = Vec::new();
    for word in [u64::from_le_bytes(*b"SGREPLAY"), program, 0, 0, lsn, 1, 3] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let sum = u64::from(Checksum::of(&bytes));
    bytes.extend_from_slice(&sum.to_le_bytes());
    std::fs::write(data.join("replaying"), bytes).unwrap();
}

#[test]
fn rows_that_end_every_start_are_left_out_by_the_operator_for_good_and_told() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), STEPS).unwrap();
    let sidecar = setup.start().unwrap();
    let push = |walker: &str| sidecar.data_post("/push/Step", &json!({ "walker": walker })).unwrap().body;
    push("before");
    let lsn = push("poison")["ack_lsn"].as_u64().unwrap();
    push("behind");
    sidecar.kill9();
    died_three_times(&setup.data(), lsn);
    let (status, said) = run(&setup);
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("Step") && said.contains(&format!("streamgauge wal skip {lsn}")), "{said}");

    let ask = setup.command("wal").args(["skip", &lsn.to_string(), "--dry-run", "--data-dir"]).arg(setup.data()).output().unwrap();
    let said = String::from_utf8(ask.stdout).unwrap();
    assert!(ask.status.success() && said.contains(&format!("LSN {lsn} to {lsn} would be left out of every replay: 1 rows")), "{said}");
    assert!(said.contains("  Step: 1 rows, missing in walkers"), "{said}");
    assert_eq!(run(&setup).0.code(), Some(70), "nothing was changed");
    let output = wal_skip(&setup, lsn);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["first_lsn"], &told["rows"], &told["dry_run"]), (&json!(lsn), &json!(1), &json!(false)));
    assert_eq!(told["events"], json!([{ "event": "Step", "rows": 1, "tables": ["walkers"] }]));
    for _ in 0..2 {
        let sidecar = setup.start().unwrap();
        let seen = |walker: &str| sidecar.get("walkers", walker).unwrap().map(|row| row["n"].clone());
        assert_eq!((seen("before"), seen("poison"), seen("behind")), (Some(json!(1)), None, Some(json!(1))));
        let status = sidecar.status().unwrap();
        let told = status["incidents"].as_array().unwrap().iter().find(|incident| incident["kind"] == "FrameSkipped").cloned();
        assert!(told.is_some_and(|incident| incident["lost"].as_str().unwrap().starts_with("1 rows")), "{status}");
        // In the log, and then in a snapshot.
        assert_eq!(sidecar.admin_post("/snapshots").unwrap().status, 200);
        sidecar.kill9();
    }
}

#[test]
fn a_running_server_and_a_folder_without_a_log_are_left_alone() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), STEPS).unwrap();
    let nothing = wal_skip(&setup, 1);
    assert!(!nothing.status.success() && !setup.data().exists(), "{}", String::from_utf8_lossy(&nothing.stderr));
    let _sidecar = setup.start().unwrap();
    let running = wal_skip(&setup, 1);
    assert_eq!(running.status.code(), Some(75), "{}", String::from_utf8_lossy(&running.stderr));
}
