//! Records that nobody can use, in any number and of any size: they are rejected, the good ones behind them are applied, and no other source waits for
//! them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::kafka::console_produce;
use streamgauge_testing::{Admin, Setup, Sidecar, broker, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const WITHIN: Duration = Duration::from_secs(120);
/// What a process may hold while it reads a flood: its clients' 128 MiB, the queue's 64 MiB, the reject log twice, and what it is made of.
const MEMORY_BYTES_MAX: u64 = 400 << 20;

/// Two events with a source and a table each; `spare` has a field more that some records bring.
fn config(bootstrap: &str, flooded: &str, healthy: &str) -> String {
    format!("config_version = 1\n{}{}", part(bootstrap, "flooded", flooded), part(bootstrap, "healthy", healthy))
}

fn part(bootstrap: &str, name: &str, topic: &str) -> String {
    format!(
        "[events.{name}]\nfields = {{ walker = \"str\", note = \"str?\" }}\n[sources.{name}]\nevent = \"{name}\"\nformat = \"json\"\n\
         [sources.{name}.kafka]\nbrokers = [\"{bootstrap}\"]\ntopic = \"{topic}\"\nstart = \"earliest\"\n\
         [tables.{name}_walkers]\nfrom = \"{name}\"\nkey = [\"walker\"]\n[tables.{name}_walkers.features]\nn = {{ op = \"count\" }}\n"
    )
}

fn walked(sidecar: &Sidecar, table: &str) -> u64 {
    sidecar.get(table, "w").unwrap().map_or(0, |row| row["n"].as_u64().unwrap())
}

fn wait_walked(sidecar: &Sidecar, table: &str, steps: u64) {
    wait_for(&format!("{steps} steps in {table}"), WITHIN, || match walked(sidecar, table) {
        n if n == steps => Ok(()),
        n => Err(format!("{n} steps; {}", sidecar.admin_get("/sources")?.text)),
    })
    .unwrap();
}

fn metric(sidecar: &Sidecar, series: &str) -> u64 {
    let text = sidecar.admin_get("/metrics").unwrap().text;
    let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Writes a flood with good records behind it into one partition, and looks at what becomes of both, and of a source beside it.
fn survives(records: usize, bytes: usize) {
    let (bootstrap, flooded, healthy) = (broker().bootstrap.as_str(), unique("flooded"), unique("healthy"));
    for topic in [&flooded, &healthy] {
        Admin::of(bootstrap).create(topic, 1).unwrap();
    }
    let good = "{\"walker\":\"w\"}\n".repeat(100);
    console_produce(bootstrap, &flooded, &format!("{}{good}", format!("{}\n", "x".repeat(bytes)).repeat(records))).unwrap();
    console_produce(bootstrap, &healthy, &good).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, &flooded, &healthy)).unwrap();
    let sidecar = setup.start().unwrap();
    // The source beside it goes on before, while and after.
    wait_walked(&sidecar, "healthy_walkers", 100);
    console_produce(bootstrap, &healthy, &good).unwrap();
    wait_walked(&sidecar, "healthy_walkers", 200);
    wait_walked(&sidecar, "flooded_walkers", 100);
    let bad = metric(&sidecar, "streamgauge_bad_records_total{code=\"decode_malformed\",source=\"flooded\"}");
    assert_eq!(bad, records as u64);
    let ends = [(0, (records + 100) as i64)].into();
    sidecar.wait_positions(&flooded, &ends, WITHIN).unwrap();
    let told = sidecar.status().unwrap();
    let is_flood = |incident: &serde_json::Value| incident["kind"] == "BadRecords" && incident["cause"] == "decode_malformed";
    let floods = told["incidents"].as_array().unwrap().iter().filter(|incident| is_flood(incident)).count();
    assert_eq!(floods, 1, "{}", told["incidents"]);
    assert!(sidecar.admin_get("/ready").unwrap().text.contains("BadRecords"), "a warning names it");
    assert!(sidecar.log().contains("could not become rows"), "a line of the log tells it");
    let peak = sidecar.peak_memory_bytes().unwrap();
    assert!(peak < MEMORY_BYTES_MAX, "{} MiB", peak >> 20);
    // Each is counted once, whatever a crash interrupts.
    sidecar.kill9();
    let sidecar = setup.start().unwrap();
    wait_walked(&sidecar, "flooded_walkers", 100);
    wait_walked(&sidecar, "healthy_walkers", 200);
}

#[test]
fn three_hundred_thousand_small_bad_records() {
    survives(300_000, 250);
}

#[test]
fn nine_hundred_large_bad_records() {
    survives(900, 70_000);
}

const ROW: (&str, &str) = ("{\"walker\":\"w\",\"note\":\"", "\"}");
const UNDECLARED: (&str, &str) = ("{\"walker\":\"w\",\"other\":\"", "\"}");

#[test]
fn a_record_larger_than_any_frame_is_a_bad_record_unless_little_of_it_is_kept() {
    let bootstrap = broker().bootstrap.as_str();
    for codec in ["gzip", "lz4", "zstd"] {
        let (flooded, healthy) = (unique("giant"), unique("healthy"));
        for topic in [&flooded, &healthy] {
            Admin::of(bootstrap).create(topic, 1).unwrap();
        }
        for (head, tail) in [ROW, UNDECLARED] {
            Admin::of(bootstrap).giant(&flooded, codec, 70_000_000, head, tail).unwrap();
        }
        console_produce(bootstrap, &flooded, "{\"walker\":\"w\"}\n").unwrap();
        let setup = Setup::new(BINARY, &config(bootstrap, &flooded, &healthy)).unwrap();
        let sidecar = setup.start().unwrap();
        wait_walked(&sidecar, "flooded_walkers", 2);
        let bad = metric(&sidecar, "streamgauge_bad_records_total{code=\"row_too_large\",source=\"flooded\"}");
        assert_eq!(bad, 1, "{codec}");
    }
}

/// Sources share the Kafka memory; none of them may come to less than a legal record needs.
#[test]
fn a_record_that_the_broker_takes_is_read_however_small_its_sources_share_of_the_kafka_memory() {
    let bootstrap = broker().bootstrap.as_str();
    let (admin, sources) = (Admin::of(bootstrap), 8);
    let topics: Vec<String> = (0..sources).map(|_| unique("share")).collect();
    topics.iter().for_each(|topic| admin.create_with(topic, 1, "max.message.bytes=8388608").unwrap());
    admin.giant(&topics[0], "none", 7_500_000, UNDECLARED.0, UNDECLARED.1).unwrap();
    admin.batch(&topics[1], "zstd", 900_000, UNDECLARED.0, UNDECLARED.1, 60).unwrap();
    admin.giant(&topics[2], "none", 7_500_000, ROW.0, ROW.1).unwrap();
    console_produce(bootstrap, &topics[0], "{\"walker\":\"w\"}\n").unwrap();
    let parts = topics.iter().enumerate().map(|(at, topic)| part(bootstrap, &format!("s{at}"), topic)).collect::<String>();
    let config = format!("config_version = 1\n[limits]\nkafka_memory = \"16MiB\"\n{parts}");
    let sidecar = Setup::new(BINARY, &config).unwrap().start().unwrap();
    for (table, steps) in [("s0_walkers", 2), ("s1_walkers", 60), ("s2_walkers", 1)] {
        wait_walked(&sidecar, table, steps);
    }
}

#[test]
fn a_batch_that_the_client_cannot_unpack_stops_its_partition_and_says_so() {
    let (bootstrap, flooded, healthy) = (broker().bootstrap.as_str(), unique("giant"), unique("healthy"));
    for topic in [&flooded, &healthy] {
        Admin::of(bootstrap).create(topic, 1).unwrap();
    }
    let good = "{\"walker\":\"w\"}\n";
    console_produce(bootstrap, &flooded, good).unwrap();
    Admin::of(bootstrap).giant(&flooded, "zstd", 140_000_000, UNDECLARED.0, UNDECLARED.1).unwrap();
    console_produce(bootstrap, &flooded, good).unwrap();
    console_produce(bootstrap, &healthy, good).unwrap();
    let roomy = config(bootstrap, &flooded, &healthy).replacen(
        "start = \"earliest\"\n",
        "start = \"earliest\"\nclient = { \"receive.message.max.bytes\" = \"200000000\" }\n",
        1,
    );
    let setup = Setup::new(BINARY, &config(bootstrap, &flooded, &healthy)).unwrap();
    let sidecar = setup.start().unwrap();
    wait_walked(&sidecar, "healthy_walkers", 1);
    sidecar.wait_incident(&flooded, "Stalled", WITHIN).unwrap();
    let said = sidecar.admin_get("/sources").unwrap().text;
    assert!(said.contains("receive.message.max.bytes"), "{said}");
    assert_eq!(walked(&sidecar, "flooded_walkers"), 1);
    sidecar.kill9();
    // With the room that it asks for nothing is missing.
    setup.write_config(&roomy).unwrap();
    let sidecar = setup.start().unwrap();
    wait_walked(&sidecar, "flooded_walkers", 3);
}
