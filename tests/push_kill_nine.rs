//! `kill -9` during pipelined TCP pushes at the level `written`: every acknowledged event is there once, and what was not acknowledged is there once or not at all,
//! as a prefix of what was sent.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use streamgauge_testing::{Dice, Frame, Raw, Setup, Sidecar, long};

const CONFIG: &str = r#"config_version = 1
[durability]
push = "written"
[events.Step]
fields = { walker = "str", number = "i64" }
[tables.walkers]
from = "Step"
key = ["walker"]
[tables.walkers.features]
n       = { op = "count" }
numbers = { op = "sum", field = "number" }
highest = { op = "max", field = "number" }
"#;

const PUSH: u16 = 0x0010;
const CONNECTIONS: usize = 3;
const IN_FLIGHT_MAX: u64 = 512;

/// What one connection saw until the server died under it.
#[derive(Debug, Default)]
struct Ledger {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    dead: AtomicBool,
}

/// Pushes numbers 0, 1, 2, ... of one walker with many in flight until the connection breaks.
fn walk(address: &str, walker: &str, ledger: &Ledger) {
    let mut writer = Raw::connect(address).unwrap();
    let mut reader = writer.split().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(reply) = reader.frame() {
                assert_eq!(reply.op, PUSH, "{}", String::from_utf8_lossy(&reply.payload));
                ledger.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            ledger.dead.store(true, Ordering::SeqCst);
        });
        while !ledger.dead.load(Ordering::SeqCst) {
            let number = ledger.sent.load(Ordering::SeqCst);
            if number - ledger.acknowledged.load(Ordering::SeqCst) >= IN_FLIGHT_MAX {
                std::thread::yield_now();
                continue;
            }
            // Counted before it is sent: a frame that leaves half written may or may not be counted by the server.
            ledger.sent.fetch_add(1, Ordering::SeqCst);
            let body = json!({ "event": "Step", "body": { "walker": walker, "number": number } });
            if writer.send(&Frame::json(PUSH, &body.to_string()).bytes()).is_err() {
                break;
            }
        }
    });
}

fn check(sidecar: &Sidecar, walker: &str, sent: u64, acknowledged: u64) {
    let row = sidecar.get("walkers", walker).unwrap().unwrap_or_else(|| json!({ "n": 0 }));
    let n = row["n"].as_u64().unwrap();
    assert!((acknowledged..=sent).contains(&n), "{walker}: {acknowledged} acknowledged, {n} counted, {sent} sent");
    if n > 0 {
        // Count, sum and highest of 0..n together leave no room for a hole or a double.
        assert_eq!(row["highest"].as_f64(), Some((n - 1) as f64), "{walker}: {row}");
        assert_eq!(row["numbers"].as_f64(), Some((n * (n - 1) / 2) as f64), "{walker}: {row}");
    }
}

#[test]
fn ten_kills_lose_no_acknowledged_event_and_double_none() {
    let kills = if long() { 200 } else { 10 };
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), CONFIG).unwrap();
    let mut dice = Dice::thrown();
    let mut sidecar = setup.start().unwrap();
    let mut outcomes = Vec::new();
    for kill in 0..kills {
        let walkers: Vec<(String, Ledger)> = (0..CONNECTIONS).map(|c| (format!("w{kill}-{c}"), Ledger::default())).collect();
        let enough = dice.between(200, 20_000);
        let address = sidecar.tcp.clone();
        std::thread::scope(|scope| {
            for (walker, ledger) in &walkers {
                scope.spawn(|| walk(&address, walker, ledger));
            }
            // The moment is a count of acknowledgements, so that every kill lands among pushes whatever the machine's speed.
            streamgauge_testing::wait_for("acknowledgements", Duration::from_secs(60), || {
                let acknowledged: u64 = walkers.iter().map(|(_, ledger)| ledger.acknowledged.load(Ordering::SeqCst)).sum();
                if acknowledged >= enough { Ok(()) } else { Err(format!("{acknowledged} of {enough}")) }
            })
            .unwrap();
            sidecar.kill9();
        });
        sidecar = setup.start().unwrap();
        outcomes.extend(walkers.into_iter().map(|(walker, ledger)| (walker, ledger.sent.into_inner(), ledger.acknowledged.into_inner())));
        // Earlier rounds too: a later recovery must not disturb what an earlier one restored.
        for (walker, sent, acknowledged) in &outcomes {
            check(&sidecar, walker, *sent, *acknowledged);
        }
    }
    assert!(outcomes.iter().any(|(_, sent, acknowledged)| sent > acknowledged), "no kill landed among pushes in flight");
}
