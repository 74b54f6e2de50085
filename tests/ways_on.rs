//! A log that moved, and the operator's way on from the command line: shown first, done once, told ever after.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value as Json;
use std::time::Duration;
use streamgauge_testing::payments::{CARDS, Topics, config};
use streamgauge_testing::{Admin, Production, Setup, Sidecar, broker, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const DELIVERED_WITHIN: Duration = Duration::from_secs(240);
const WITHIN: Duration = Duration::from_secs(90);

fn records(topic: &str, first: u64, records: u64, partitions: u32) -> Production {
    Production { topic: topic.to_owned(), first, records, partitions, keys: 300, ..Production::default() }
}

/// `streamgauge incident ...` against a running server: exit code and document.
fn incident(setup: &Setup, sidecar: &Sidecar, arguments: &[&str]) -> (i32, Json) {
    let mut command = setup.command("incident");
    let output = command.args(arguments).args(["--json", "--admin", &sidecar.admin]).output().unwrap();
    let text = if output.status.success() || output.status.code() == Some(1) { &output.stdout } else { &output.stderr };
    let document = serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
    (output.status.code().unwrap(), document)
}

fn rows_counted(sidecar: &Sidecar, table: &str) -> u64 {
    let keys = sidecar.admin_get(&format!("/tables/{table}/keys?limit=1000")).unwrap().body;
    let keys = keys["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
    keys.map(|key| sidecar.get(table, &key).unwrap().unwrap()["n"].as_u64().unwrap()).sum()
}

fn wait_counted(sidecar: &Sidecar, rows: u64) {
    wait_for(&format!("{rows} rows"), WITHIN, || match rows_counted(sidecar, CARDS) {
        counted if counted == rows => Ok(()),
        counted => Err(format!("{counted}; {}", sidecar.admin_get("/sources")?.text)),
    })
    .unwrap();
}

fn gap_header(sidecar: &Sidecar, table: &str) -> Option<String> {
    let key = sidecar.admin_get(&format!("/tables/{table}/keys?limit=1")).unwrap().body["keys"][0].as_str().unwrap().to_owned();
    sidecar.data_get(&format!("/tables/{table}/{key}")).unwrap().headers.get("x-streamgauge-gap-since").cloned()
}

#[test]
fn a_gap_is_accepted_and_reads_of_tables_that_lack_its_rows_say_since_when() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("gap"));
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let first = records(&topic, 0, 4_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let before = config(bootstrap, Topics::One(&topic), None);
    let setup = Setup::new(BINARY, &before).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &first.ends, WITHIN).unwrap();
    assert_eq!(incident(&setup, &sidecar, &[]).0, 0, "nothing is open");
    sidecar.kill9();
    let second = records(&topic, 4_000, 4_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (from, to) = (first.ends[&0], first.ends[&0] + 500);
    Admin::of(bootstrap).trim(&topic, 0, to).unwrap();

    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "SourceGap", WITHIN).unwrap();
    let (code, open) = incident(&setup, &sidecar, &["payments/0"]);
    assert_eq!((code, open["incidents"][0]["kind"].as_str()), (1, Some("SourceGap")), "{open}");
    let action = open["incidents"][0]["actions"].to_string();
    assert!(action.contains(&format!("streamgauge incident payments/{topic}/0 accept-gap --dry-run")), "{action}");
    // Without a broker's word nothing is decided, and nothing that does not apply.
    assert_eq!(incident(&setup, &sidecar, &["payments/1", "accept-gap"]).0, 1);
    let (code, refused) = incident(&setup, &sidecar, &["payments/0", "forget"]);
    assert!(code != 0 && refused.to_string().contains("decision_refused"), "{refused}");

    let (code, shown) = incident(&setup, &sidecar, &["payments/0", "accept-gap", "--dry-run"]);
    let effect = &shown["partitions"][0];
    assert_eq!((code, effect["from_offset"].as_i64(), effect["to_offset"].as_i64()), (0, Some(from), Some(to)), "{shown}");
    assert_eq!(effect["lost"], format!("offsets {from} to {} (500 offsets)", to - 1));
    sidecar.wait_incident(&topic, "SourceGap", WITHIN).unwrap();
    let (code, done) = incident(&setup, &sidecar, &["payments/0", "accept-gap"]);
    assert_eq!((code, &done["partitions"]), (0, &shown["partitions"]), "what was shown is done");
    sidecar.wait_positions(&topic, &second.ends, WITHIN).unwrap();
    wait_counted(&sidecar, 8_000 - 500);
    assert_eq!(incident(&setup, &sidecar, &[]).0, 0);
    let since = gap_header(&sidecar, CARDS);
    assert!(since.is_some(), "the table lacks rows and says so");

    // The decision is in the log, and a table that comes later lacks nothing by it.
    sidecar.kill9();
    let later = format!("{before}\n[tables.later]\nfrom = \"Payment\"\nkey = [\"card\"]\nfeatures = {{ n = {{ op = \"count\" }} }}\n");
    setup.write_config(&later).unwrap();
    let sidecar = setup.start().unwrap();
    let third = records(&topic, 8_000, 1_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&topic, &third.ends, WITHIN).unwrap();
    wait_counted(&sidecar, 9_000 - 500);
    assert_eq!(gap_header(&sidecar, CARDS), since);
    assert_eq!(gap_header(&sidecar, "later"), None);
    let (_, report) = incident(&setup, &sidecar, &[]);
    assert_eq!(report["gaps"][0]["lost"], effect["lost"], "{report}");
}

#[test]
fn a_recreated_topic_is_begun_its_lost_partitions_are_forgotten_and_a_restart_knows_both() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("anew"));
    Admin::of(bootstrap).create(&topic, 3).unwrap();
    let old = records(&topic, 0, 3_000, 3).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &old.ends, WITHIN).unwrap();
    Admin::of(bootstrap).delete(&topic).unwrap();
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let new = records(&topic, 3_000, 5_000, 1).run(bootstrap, DELIVERED_WITHIN).unwrap();
    for partition in 0..3 {
        wait_for("all partitions to stop", WITHIN, || match sidecar.partitions()?.iter().find(|p| p.partition == partition) {
            Some(stopped) if stopped.incident.as_deref() == Some("Recreated") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    }
    let (code, refused) = incident(&setup, &sidecar, &["payments", "begin", "--at", "earliest"]);
    assert!(code != 0 && refused.to_string().contains("does not exist"), "two of the partitions are gone: {refused}");
    for partition in ["payments/1", "payments/2"] {
        let (code, done) = incident(&setup, &sidecar, &[partition, "forget"]);
        assert_eq!((code, done["partitions"][0]["to_offset"].as_i64()), (0, None), "{done}");
    }
    let (code, done) = incident(&setup, &sidecar, &["payments", "begin", "--at", "earliest"]);
    assert_eq!((code, done["partitions"].as_array().map(Vec::len)), (0, Some(1)), "{done}");
    sidecar.wait_positions(&topic, &new.ends, WITHIN).unwrap();
    wait_counted(&sidecar, 8_000);

    sidecar.kill9();
    let more = records(&topic, 8_000, 1_000, 1).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &more.ends, WITHIN).unwrap();
    wait_counted(&sidecar, 9_000);
    assert_eq!(sidecar.partitions().unwrap().len(), 1, "forgotten partitions are not shown");
    // A partition number that comes back is one that was never seen.
    Admin::of(bootstrap).grow(&topic, 2).unwrap();
    let grown = records(&topic, 9_000, 1_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&topic, &grown.ends, WITHIN).unwrap();
    wait_counted(&sidecar, 10_000);
}

/// Rows that wait for memory are read again after a restart. What retention took of them meanwhile was missing without a word,
/// rows behind them that were applied counted as lost, and no decision was allowed for as long as anything waited.
#[test]
fn what_waited_and_is_gone_from_its_topic_is_a_gap_of_the_right_size_and_has_a_way_on() {
    const RECORDS: u64 = 200_000;
    const PACKET_RECORDS: i64 = 1_024;
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("waited"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let all = Production { keys: 150_000, ..records(&topic, 0, RECORDS, 1) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    let roomy = config(bootstrap, Topics::One(&topic), None);
    let limited = roomy.replacen("config_version = 1\n", "config_version = 1\n[limits]\nmemory = \"16MiB\"\n", 1);
    let setup = Setup::new(BINARY, &limited).unwrap();
    let sidecar = setup.start().unwrap();
    // Rows that this process has applied, and where the partition stands, when neither moves any more.
    let stands = |sidecar: &Sidecar| {
        let applied = sidecar.status()?["tables"][0]["funnel"]["applied"].as_u64().ok_or("no funnel")?;
        Ok::<_, String>((applied, sidecar.consumed(&topic)?))
    };
    let tries = |sidecar: &Sidecar| -> Result<u64, String> {
        let text = sidecar.admin_get("/metrics")?.text;
        let line = text.lines().find(|line| line.starts_with("streamgauge_source_retries_total{code=\"table_memory_exceeded\""));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).ok_or_else(|| "no retries".to_owned())
    };
    let mut last = ((0, 0), 0);
    wait_for("rows that wait, and three tries that move nothing", WITHIN, || {
        let (now, tried) = (stands(&sidecar)?, tries(&sidecar)?);
        match last {
            (known, since) if known == now && now.0 > 0 && tried >= since + 3 && since > 0 => Ok(()),
            (known, _) if known == now => Err(format!("{now:?}, {tried} tries")),
            _ => {
                last = (now, tried);
                Err(format!("{now:?}"))
            }
        }
    })
    .unwrap();
    let (first, position) = last.0;
    sidecar.kill9();
    // The position stands in front of the packet with the first row that waits, which may be any of it.
    let low = position + PACKET_RECORDS + 300;
    Admin::of(bootstrap).trim(&topic, 0, low).unwrap();

    setup.write_config(&roomy).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "SourceGap", WITHIN).unwrap();
    let (_, open) = incident(&setup, &sidecar, &["payments/0"]);
    let lost = open["incidents"][0]["lost"].as_str().unwrap().to_owned();
    let waited: u64 = lost.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{lost}"));
    assert_eq!(lost, format!("{waited} records in front of offset {low} that waited for room"));
    assert!((1..=low - position).contains(&waited.cast_signed()), "{lost}");
    let (code, done) = incident(&setup, &sidecar, &["payments/0", "accept-gap"]);
    assert_eq!((code, done["partitions"][0]["lost"].as_str()), (0, Some(&*format!("{waited} records that waited for room"))), "{done}");
    sidecar.wait_positions(&topic, &all.ends, WITHIN).unwrap();
    wait_for("every record that is in the topic", WITHIN, || match stands(&sidecar)?.0 {
        second if first + second == RECORDS - waited => Ok(()),
        second => Err(format!("{first} and {second} of {RECORDS} without {waited}")),
    })
    .unwrap();
    assert!(gap_header(&sidecar, CARDS).is_some(), "the table lacks rows and says so");
}
