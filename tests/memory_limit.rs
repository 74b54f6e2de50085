//! The memory limit holds before a row is applied: tables never hold more, keys that are there go on, and what is kept out waits or is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, Topics, config};
use streamgauge_testing::{Admin, Frame, Production, Raw, Setup, Sidecar, broker, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const WITHIN: Duration = Duration::from_secs(120);
const LIMIT: u64 = 16 << 20;
const PUSH: u16 = 0x0010;

fn limited(config: &str, what: &str) -> String {
    config.replacen("config_version = 1\n", &format!("config_version = 1\n[limits]\nmemory = \"16MiB\"\non_memory_limit = \"{what}\"\n"), 1)
}

fn held_bytes(sidecar: &Sidecar) -> u64 {
    sidecar.status().unwrap()["memory"]["bytes"].as_u64().unwrap()
}

fn metric(sidecar: &Sidecar, series: &str) -> u64 {
    let text = sidecar.admin_get("/metrics").unwrap().text;
    let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn frame(walker: &str) -> Vec<u8> {
    Frame::json(PUSH, &json!({ "event": "Step", "body": { "walker": walker } }).to_string()).bytes()
}

/// Pushes new walkers one at a time until one is refused: how many were taken. A burst may be refused as a whole though a part of it would fit; one row is the least there is.
fn push_until_refused(address: &str) -> usize {
    let mut raw = Raw::connect(address).unwrap();
    (0..1_000_000)
        .find(|number| {
            raw.send(&frame(&format!("filler-{number}"))).unwrap();
            raw.frame().unwrap().op != PUSH
        })
        .unwrap()
}

/// Pushes one event per walker in one pipelined burst; which were taken.
fn push_all(address: &str, walkers: &[String]) -> Vec<bool> {
    let mut writer = Raw::connect(address).unwrap();
    let mut reader = writer.split().unwrap();
    std::thread::scope(|scope| {
        let replies = scope.spawn(move || {
            (0..walkers.len())
                .map(|_| {
                    let reply = reader.frame().unwrap();
                    if reply.op != PUSH {
                        assert_eq!(reply.code(), "table_memory_exceeded");
                    }
                    reply.op == PUSH
                })
                .collect()
        });
        for part in walkers.chunks(500) {
            let frames: Vec<u8> = part.iter().flat_map(|walker| frame(walker)).collect();
            writer.send(&frames).unwrap();
        }
        replies.join().unwrap()
    })
}

#[test]
fn pushes_of_new_keys_are_refused_one_by_one_and_known_keys_go_on() {
    let config = "config_version = 1\n[events.Step]\nfields = { walker = \"str\" }\n[tables.walkers]\nfrom = \"Step\"\nkey = [\"walker\"]\n\
                  [tables.walkers.features]\nn = { op = \"count\" }\n";
    let setup = Setup::new(BINARY, &limited(config, "refuse_new")).unwrap();
    let sidecar = setup.start().unwrap();
    let newcomers: Vec<String> = (0..500_000).map(|number| format!("walker-{number}")).collect();
    let taken = push_all(&sidecar.tcp, &newcomers);
    let known: Vec<String> = newcomers.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(walker, _)| walker.clone()).collect();
    assert!(known.len() > 100_000 && known.len() < newcomers.len(), "{} of {} were taken", known.len(), newcomers.len());
    wait_for("the status", WITHIN, || match held_bytes(&sidecar) {
        bytes if (LIMIT * 9 / 10..=LIMIT).contains(&bytes) => Ok(()),
        bytes => Err(format!("{bytes} bytes of {LIMIT}")),
    })
    .unwrap();

    let fillers = push_until_refused(&sidecar.tcp);

    // Known and new keys in turns, many to a frame: each has its own answer.
    let mixed: Vec<String> =
        (0..2_000).map(|number| if number % 2 == 0 { known[number].clone() } else { format!("stranger-{number}") }).collect();
    let taken_now = push_all(&sidecar.tcp, &mixed);
    assert!(taken_now.iter().enumerate().all(|(number, taken)| *taken == (number % 2 == 0)), "{:?}", &taken_now[..20]);
    let refused = taken.iter().chain(&taken_now).filter(|taken| !**taken).count() + 1;
    assert_eq!(metric(&sidecar, "streamgauge_memory_refused_rows_total{table=\"walkers\"}"), refused as u64);

    // The table says so wherever somebody may look.
    let ready = sidecar.data_get("/ready").unwrap();
    assert_eq!((ready.status, &ready.body["reasons"]), (503, &json!(["memory_limit"])), "{}", ready.text);
    assert_eq!(ready.body["warnings"], json!(["MemoryLimit: table walkers"]));
    let incident = sidecar.status().unwrap()["incidents"][0].clone();
    assert_eq!((&incident["kind"], &incident["subject"]), (&json!("MemoryLimit"), &json!("table walkers")), "{incident}");
    let read = sidecar.data_get(&format!("/tables/walkers/{}", mixed[0])).unwrap();
    assert_eq!(read.headers.get("x-streamgauge-incident").map(String::as_str), Some("MemoryLimit"));
    assert_eq!(metric(&sidecar, "streamgauge_incidents_open{kind=\"MemoryLimit\"}"), 1);
    assert_eq!(metric(&sidecar, "streamgauge_incidents_total{kind=\"MemoryLimit\"}"), 1);
    assert_eq!(sidecar.log().matches("an incident opened").count(), 1);

    // Recovery meets no limit: what was let in is there again, and nothing else.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    assert_eq!(sidecar.get("walkers", &mixed[0]).unwrap(), Some(json!({ "n": 2 })));
    assert_eq!(sidecar.get("walkers", &mixed[1]).unwrap(), None);
    let tables = sidecar.status().unwrap();
    assert_eq!(tables["tables"][0]["keys"].as_u64(), Some((known.len() + fillers) as u64));
}

fn many_cards(topic: &str) -> Production {
    Production { topic: topic.to_owned(), records: 200_000, partitions: 4, keys: 150_000, ..Production::default() }
}

#[test]
fn a_kafka_source_pauses_at_the_limit_and_loses_nothing() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("full-pause"));
    Admin::of(bootstrap).create(&topic, 4).unwrap();
    let delivered = many_cards(&topic).run(bootstrap, WITHIN).unwrap();
    let roomy = config(bootstrap, Topics::One(&topic), None);
    let setup = Setup::new(BINARY, &limited(&roomy, "pause")).unwrap();
    let sidecar = setup.start().unwrap();
    wait_for("the limit", WITHIN, || {
        let status = sidecar.status()?;
        if status["bottleneck"] == "memory" { Ok(()) } else { Err(status["memory"].to_string()) }
    })
    .unwrap();
    let consumed = sidecar.consumed(&topic).unwrap();
    assert!(held_bytes(&sidecar) <= LIMIT && consumed > 1_000, "{} bytes, {consumed} consumed", held_bytes(&sidecar));
    assert_eq!(metric(&sidecar, &format!("streamgauge_memory_refused_rows_total{{table=\"{CARDS}\"}}")), 0);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sidecar.consumed(&topic).unwrap(), consumed);

    // With more memory it goes on where it stood.
    sidecar.kill9();
    setup.write_config(&roomy).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn a_kafka_source_that_refuses_new_keys_counts_and_tells_them() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("full-refuse"));
    Admin::of(bootstrap).create(&topic, 4).unwrap();
    let delivered = many_cards(&topic).run(bootstrap, WITHIN).unwrap();
    // One row for all cards says how many records were let in.
    let all = "[tables.all]\nfrom = \"Payment\"\nkey = []\n[tables.all.features]\nn = { op = \"count\" }\n";
    let setup = Setup::new(BINARY, &limited(&(config(bootstrap, Topics::One(&topic), None) + all), "refuse_new")).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, WITHIN).unwrap();
    let refused = metric(&sidecar, &format!("streamgauge_memory_refused_rows_total{{table=\"{CARDS}\"}}"));
    let applied = sidecar.data_get("/tables/all").unwrap().body["n"].as_u64().unwrap();
    assert!(held_bytes(&sidecar) <= LIMIT && refused > 1_000, "{} bytes, {refused} refused", held_bytes(&sidecar));
    assert_eq!(applied + refused, 200_000);

    let listed = setup.command("rejects").args(["list", "--json", "--admin", &format!("http://{}", sidecar.admin)]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("table_memory_exceeded") && text.contains(&topic), "{text} {}", String::from_utf8_lossy(&listed.stderr));
}
