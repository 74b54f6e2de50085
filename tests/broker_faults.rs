//! Faults outside of us: a broker that dies, a registry that is silent, a topic that grows, appears, or is replaced by another of its name. The first four go on
//! alone and lose nothing; the fifth stops, typed, with the tables still readable.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, SUMS, Topics, config};
use streamgauge_testing::{Admin, LocalKafka, LocalRegistry, Production, Setup, Sidecar, broker, registry, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const DELIVERED_WITHIN: Duration = Duration::from_secs(240);
const APPLIED_WITHIN: Duration = Duration::from_secs(90);

fn start(bootstrap: &str, topics: Topics<'_>, registry: Option<&str>) -> (Setup, Sidecar) {
    let setup = Setup::new(BINARY, &config(bootstrap, topics, registry)).unwrap();
    let sidecar = setup.start().unwrap();
    (setup, sidecar)
}

fn json_records(topic: &str, records: u64, partitions: u32) -> Production {
    Production { topic: topic.to_owned(), records, partitions, keys: 300, ..Production::default() }
}

#[test]
fn a_broker_killed_and_a_broker_stopped_lose_nothing() {
    let mut kafka = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (kafka.bootstrap().to_owned(), unique("bounced"));
    Admin::of(&bootstrap).create(&topic, 6).unwrap();
    let production = Production { rate: Some(3_000), ..json_records(&topic, 60_000, 6) };
    let mut producer = production.start(&bootstrap).unwrap();
    let (_setup, sidecar) = start(&bootstrap, Topics::One(&topic), None);
    let consumed = |target: i64| {
        wait_for(&format!("record {target}"), APPLIED_WITHIN, || {
            let at = sidecar.consumed(&topic)?;
            if at >= target { Ok(()) } else { Err(format!("{at} consumed")) }
        })
        .unwrap();
    };
    consumed(6_000);
    kafka.kill9();
    kafka.go().unwrap();
    consumed(20_000);
    kafka.stop().unwrap();
    kafka.go().unwrap();
    let delivered = producer.finish(DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn a_silent_registry_stops_the_partition_and_nothing_is_rejected() {
    let registry = LocalRegistry::start().unwrap();
    let (bootstrap, topic, url) = (broker().bootstrap.as_str(), unique("unschooled"), registry.url());
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let production = Production { registry: Some(url.clone()), ..json_records(&topic, 5_000, 2) };
    let delivered = production.run(bootstrap, DELIVERED_WITHIN).unwrap();
    registry.freeze().unwrap();
    let (_setup, sidecar) = start(bootstrap, Topics::One(&topic), Some(&url));
    let stalled = sidecar.wait_incident(&topic, "Stalled", APPLIED_WITHIN).unwrap();
    assert_eq!(stalled.cause, "registry");
    registry.thaw().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    wait_for("the incident to close", APPLIED_WITHIN, || match sidecar.partitions()?.iter().find(|p| p.incident.is_some()) {
        None => Ok(()),
        Some(open) => Err(format!("{open:?}")),
    })
    .unwrap();
}

#[test]
fn a_partition_added_while_running_is_read_from_its_first_record() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("growing"));
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let earlier = json_records(&topic, 20_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (_setup, sidecar) = start(bootstrap, Topics::One(&topic), None);
    sidecar.wait_positions(&topic, &earlier.ends, APPLIED_WITHIN).unwrap();
    Admin::of(bootstrap).grow(&topic, 5).unwrap();
    let later = Production { first: 20_000, ..json_records(&topic, 20_000, 5) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&topic, &later.ends, APPLIED_WITHIN).unwrap();
    let mut oracle = earlier.oracle;
    oracle.add_counts(&later.oracle, SUMS);
    oracle.compare(&sidecar, CARDS, SUMS).unwrap();
}

#[test]
fn a_topic_created_later_that_the_regex_matches_is_read_from_its_first_record() {
    let (bootstrap, prefix) = (broker().bootstrap.as_str(), unique("family"));
    let (elder, younger, stranger) = (format!("{prefix}-elder"), format!("{prefix}-younger"), format!("{prefix}-other"));
    Admin::of(bootstrap).create(&elder, 2).unwrap();
    Admin::of(bootstrap).create(&stranger, 1).unwrap();
    let first = json_records(&elder, 5_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    json_records(&stranger, 100, 1).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (_setup, sidecar) = start(bootstrap, Topics::Regex(&format!("^{prefix}-(elder|younger)$")), None);
    sidecar.wait_positions(&elder, &first.ends, APPLIED_WITHIN).unwrap();
    Admin::of(bootstrap).create(&younger, 3).unwrap();
    let second = Production { first: 5_000, ..json_records(&younger, 5_000, 3) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_positions(&younger, &second.ends, APPLIED_WITHIN).unwrap();
    let mut oracle = first.oracle;
    oracle.add_counts(&second.oracle, SUMS);
    oracle.compare(&sidecar, CARDS, SUMS).unwrap();
    assert!(sidecar.positions(&stranger).unwrap().is_empty());
}

#[test]
fn a_topic_recreated_while_running_stops_typed_and_the_table_stays_readable() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("replaced"));
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    let original = json_records(&topic, 1_000, 1).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (setup, sidecar) = start(bootstrap, Topics::One(&topic), None);
    sidecar.wait_positions(&topic, &original.ends, APPLIED_WITHIN).unwrap();
    Admin::of(bootstrap).delete(&topic).unwrap();
    Admin::of(bootstrap).create(&topic, 1).unwrap();
    // More records than before: our position lies inside the new log, where nothing but the topic's id tells.
    let impostor = Production { first: 1_000, ..json_records(&topic, 3_000, 1) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    sidecar.wait_incident(&topic, "Recreated", APPLIED_WITHIN).unwrap();
    original.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    let key = original.oracle.table.keys().next().unwrap();
    let answer = sidecar.data_get(&format!("/tables/{CARDS}/{key}")).unwrap();
    assert_eq!(answer.headers.get("x-streamgauge-incident").map(String::as_str), Some("Recreated"));

    let metrics = sidecar.admin_get("/metrics").unwrap().text;
    assert!(metrics.contains("streamgauge_incidents_total{kind=\"Recreated\"} 1\n"), "{metrics}");

    // The incident is in the log: a restart knows it with no broker to ask.
    sidecar.kill9();
    let nobody = "127.0.0.1:1";
    setup.write_config(&config(nobody, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "Recreated", APPLIED_WITHIN).unwrap();

    // A restart that can ask says the same.
    sidecar.kill9();
    setup.write_config(&config(bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_incident(&topic, "Recreated", APPLIED_WITHIN).unwrap();
    assert!(sidecar.consumed(&topic).unwrap() < impostor.ends[&0]);
    original.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn records_that_retention_took_stop_their_partition_typed_and_the_others_go_on() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("trimmed"));
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let first = json_records(&topic, 4_000, 2).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let (setup, sidecar) = start(bootstrap, Topics::One(&topic), None);
    sidecar.wait_positions(&topic, &first.ends, APPLIED_WITHIN).unwrap();
    sidecar.kill9();
    let second = Production { first: 4_000, ..json_records(&topic, 4_000, 2) }.run(bootstrap, DELIVERED_WITHIN).unwrap();
    Admin::of(bootstrap).trim(&topic, 0, first.ends[&0] + 500).unwrap();

    let sidecar = setup.start().unwrap();
    let stopped = sidecar.wait_incident(&topic, "SourceGap", APPLIED_WITHIN).unwrap();
    assert_eq!((stopped.partition, stopped.position), (0, first.ends[&0]));
    let lost = sidecar.status().unwrap()["incidents"].to_string();
    assert!(lost.contains(&format!("offsets {} to {}", first.ends[&0], first.ends[&0] + 499)), "{lost}");
    let other = [(1, second.ends[&1])].into_iter().collect();
    sidecar.wait_positions(&topic, &other, APPLIED_WITHIN).unwrap();
    // Nothing behind the gap was taken: all of the first part and the other partition's half of the second.
    let counted: u64 = first.oracle.table.keys().map(|key| sidecar.get(CARDS, key).unwrap().unwrap()["n"].as_u64().unwrap()).sum();
    assert_eq!(counted, 4_000 + 2_000);
}

#[test]
fn a_source_that_starts_at_a_time_takes_what_came_then() {
    let (bootstrap, topic) = (broker().bootstrap.as_str(), unique("at-a-time"));
    Admin::of(bootstrap).create(&topic, 3).unwrap();
    let base_ms = 1_790_000_000_000u64;
    let part = |first| Production { first, base_ms: Some(base_ms), ..json_records(&topic, 5_000, 3) };
    part(0).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let wanted = part(1_000_000).run(bootstrap, DELIVERED_WITHIN).unwrap();
    let from = format!("start = {}", base_ms + 500_000);
    let setup = Setup::new(BINARY, &config(bootstrap, Topics::One(&topic), None).replace("start = \"earliest\"", &from)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &wanted.ends, APPLIED_WITHIN).unwrap();
    wanted.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}

#[test]
fn a_secured_cluster_is_read_with_tls_password_and_permission_and_says_what_is_missing() {
    let kafka = LocalKafka::start_secured().unwrap();
    let (open, topic) = (kafka.bootstrap(), unique("vault"));
    Admin::of(open).create(&topic, 2).unwrap();
    let delivered = json_records(&topic, 3_000, 2).run(open, DELIVERED_WITHIN).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    let access = format!(
        "start = \"earliest\"\ntls = {{ ca = {:?} }}\nsasl = {{ mechanism = \"PLAIN\", user = \"{}\", password = {{ file = {password:?} }} }}\n",
        kafka.ca(),
        streamgauge_testing::USER,
    );
    let text = config(kafka.secured().unwrap(), Topics::One(&topic), None).replace("start = \"earliest\"\n", &access);
    let setup = Setup::new(BINARY, &text).unwrap();
    let told = |sidecar: &Sidecar, words: &[&str]| {
        wait_for(&format!("{words:?} in /sources"), APPLIED_WITHIN, || {
            let sources = sidecar.admin_get("/sources")?.text;
            if words.iter().all(|word| sources.to_lowercase().contains(word)) { Ok(()) } else { Err(sources) }
        })
        .unwrap();
    };

    // A wrong password: the source waits and says why; the server is up all the same.
    let sidecar = setup.start().unwrap();
    told(&sidecar, &["waiting", "authentication"]);
    assert_eq!(sidecar.data_get(&format!("/tables/{CARDS}/x")).unwrap().code(), "key_not_found");
    sidecar.kill9();

    // The right one, but no permission: it waits, and goes on alone once it is given.
    std::fs::write(&password, format!("{}\n", streamgauge_testing::PASSWORD)).unwrap();
    let sidecar = setup.start().unwrap();
    told(&sidecar, &["waiting", "author", &topic]);
    Admin::of(open).allow(&topic, streamgauge_testing::USER).unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
    assert!(!sidecar.log().contains(streamgauge_testing::PASSWORD));
}

#[test]
fn a_registry_behind_tls_wants_its_ca_and_a_certificate_of_ours() {
    use std::io::BufRead;
    let (bootstrap, topic, upstream) = (broker().bootstrap.as_str(), unique("sealed"), registry().url.as_str());
    Admin::of(bootstrap).create(&topic, 2).unwrap();
    let production = Production { registry: Some(upstream.to_owned()), ..json_records(&topic, 3_000, 2) };
    let delivered = production.run(bootstrap, DELIVERED_WITHIN).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = streamgauge_testing::fetch::python("tls_proxy.py").unwrap();
    command.arg(upstream).arg(folder.path()).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut proxy = streamgauge_testing::process::Guarded::spawn("tls_proxy.py", &mut command).unwrap();
    let mut line = String::new();
    std::io::BufReader::new(proxy.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.split('"').nth(3).unwrap();
    let at = |name: &str| folder.path().join(name);
    let plain = config(bootstrap, Topics::One(&topic), Some(url));
    let setup = Setup::new(BINARY, &format!("{plain}tls = {{ ca = {:?} }}\n", at("ca.pem"))).unwrap();

    // Without a certificate of our own the registry does not answer: the partition waits and says so.
    let sidecar = setup.start().unwrap();
    assert_eq!(sidecar.wait_incident(&topic, "Stalled", APPLIED_WITHIN).unwrap().cause, "registry");
    sidecar.kill9();
    let tls = format!("tls = {{ ca = {:?}, cert = {:?}, key = {{ file = {:?} }} }}\n", at("ca.pem"), at("client.crt"), at("client.key"));
    setup.write_config(&(plain + &tls)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &delivered.ends, APPLIED_WITHIN).unwrap();
    delivered.oracle.compare(&sidecar, CARDS, FEATURES).unwrap();
}
