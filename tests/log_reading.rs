//! The log of a running server is read from any LSN on, while it is written, over kills and restarts: no gap, nothing twice, and only what
//! is durable; who keeps it is named.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value as Json, json};
use std::time::Duration;
use streamgauge_testing::{Setup, Sidecar, process, wait_for};

const WITHIN: Duration = Duration::from_secs(60);
const CONFIG: &str = r#"config_version = 1
[durability]
push = "synced"
snapshot = { every = "1s" }
[durability.wal]
segment = "1MiB"
[events.Step]
fields = { walker = "str", note = "str" }
[tables.walkers]
from = "Step"
key = ["walker"]
[tables.walkers.features]
n = { op = "count" }
"#;

/// One who reads: where it is, and how many rows it saw.
struct Follower {
    next_lsn: u64,
    rows: u64,
    log_id: Option<String>,
}

impl Follower {
    /// Reads up to what is durable; every frame goes on where the one before ended.
    fn catch_up(&mut self, sidecar: &Sidecar) {
        loop {
            let answer = sidecar.admin_get(&format!("/wal?limit=50&from={}", self.next_lsn)).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text);
            let page = answer.body;
            let log_id = page["log_id"].as_str().unwrap().to_owned();
            assert_eq!(*self.log_id.get_or_insert_with(|| log_id.clone()), log_id);
            let frames = page["frames"].as_array().unwrap();
            for frame in frames {
                assert_eq!(frame["first_lsn"].as_u64(), Some(self.next_lsn), "{frame}");
                self.next_lsn = frame["last_lsn"].as_u64().unwrap() + 1;
                for rows in frame["rows"].as_array().unwrap() {
                    assert_eq!(rows["event"], "Step");
                    self.rows += rows["rows"].as_u64().unwrap();
                }
            }
            assert_eq!(page["next_lsn"].as_u64(), Some(self.next_lsn));
            assert!(self.next_lsn <= page["durable_lsn"].as_u64().unwrap() + 1, "{page}");
            if frames.is_empty() {
                return;
            }
        }
    }
}

fn push(sidecar: &Sidecar, pushes: u64) {
    let rows: Vec<Json> = (0..50).map(|_| json!({ "walker": "w", "note": "x".repeat(200) })).collect();
    for _ in 0..pushes {
        let answer = sidecar.data_post("/push-batch/Step", &json!(rows)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[test]
fn the_log_is_followed_over_kills_and_releases_without_a_gap() {
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), CONFIG).unwrap();
    let mut follower = Follower { next_lsn: 1, rows: 0, log_id: None };
    let mut pushed = 0;
    for round in 0..4 {
        let sidecar = setup.start().unwrap();
        for _ in 0..10 {
            push(&sidecar, 20);
            pushed += 20 * 50;
            follower.catch_up(&sidecar);
            assert_eq!(follower.rows, pushed, "what was acknowledged as synced is there, once");
        }
        if round == 1 {
            let mut command = setup.command("wal");
            let shown = process::run("wal tail", command.args(["tail", "--json", "--admin", &sidecar.admin]), WITHIN).unwrap();
            let last = shown.lines().last().map(|line| serde_json::from_str::<Json>(line).unwrap()).unwrap();
            assert_eq!(last["last_lsn"].as_u64(), Some(follower.next_lsn - 1));
        }
        sidecar.kill9();
    }
    // Snapshots let the beginning go, and who asks for it is told where the log begins.
    let sidecar = setup.start().unwrap();
    let earliest = wait_for("released segments", WITHIN, || {
        push(&sidecar, 1);
        let status = sidecar.status().unwrap();
        let kept = &status["wal"]["kept_for"][0];
        assert_eq!((kept["reader"].as_str(), kept["gives_way"].as_bool()), (Some("snapshot"), Some(false)), "{status}");
        assert!(kept["bytes"].as_u64().unwrap() <= status["wal"]["sealed_bytes"].as_u64().unwrap());
        match status["wal"]["earliest_lsn"].as_u64().unwrap() {
            1 => Err(format!("nothing is released: {}", status["wal"])),
            earliest => Ok(earliest),
        }
    })
    .unwrap();
    let gone = sidecar.admin_get("/wal?from=1").unwrap();
    assert_eq!((gone.status, gone.code()), (410, "position_expired"));
    assert!(gone.body["earliest_lsn"].as_u64().unwrap() >= earliest, "{}", gone.text);
    let ahead = sidecar.admin_get("/wal?from=9000000000").unwrap();
    assert_eq!((ahead.status, ahead.code()), (409, "position_ahead"));
    // One who waits is answered by the frame that comes.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sidecar.admin_get("/wal?wait_ms=10000").unwrap());
        wait_for("a reader of the log", WITHIN, || {
            let kept = sidecar.status().unwrap()["wal"]["kept_for"].to_string();
            if kept.contains("\"admin\"") { Ok(()) } else { Err(kept) }
        })
        .unwrap();
        push(&sidecar, 1);
        let page = waiting.join().unwrap().body;
        assert!(!page["frames"].as_array().unwrap().is_empty(), "{page}");
    });
}
