//! A log that loses its end: an unclean election makes a replica the leader that never had the newest records, and others take their offsets.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;
use streamgauge_testing::payments::{CARDS, FEATURES, Topics, config};
use streamgauge_testing::{Admin, LocalCluster, LocalKafka, Production, Setup, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn records_that_an_unclean_election_took_back_stop_their_partition_typed() {
    let mut cluster = LocalCluster::start(2).unwrap();
    let (bootstrap, topic) = (cluster.bootstrap(), unique("cut"));
    Admin::of(&bootstrap).create_on(&topic, 1, &[LocalCluster::id(0), LocalCluster::id(1)]).unwrap();
    let part = |first, records| Production { topic: topic.clone(), first, records, partitions: 1, keys: 20, ..Production::default() };
    let shared = part(0, 100).run(&bootstrap, WITHIN).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(&bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &shared.ends, WITHIN).unwrap();

    // The second replica leaves the in-sync set; then only the first has the next records, and we have applied them.
    cluster.kill9(1);
    std::thread::sleep(Duration::from_secs(6));
    let lone = part(100, 50).run(&cluster.address(0), WITHIN).unwrap();
    sidecar.wait_positions(&topic, &lone.ends, WITHIN).unwrap();
    cluster.kill9(0);
    cluster.go(1).unwrap();
    wait_for("the second replica to lead", WITHIN, || match Admin::of(&cluster.address(1)).ends(&topic)?.get(&0) {
        Some(100) => Ok(()),
        other => Err(format!("the log ends at {other:?}")),
    })
    .unwrap();
    part(200, 80).run(&cluster.address(1), WITHIN).unwrap();

    // Our position lies inside the new log, where only the leader epoch of our last record tells.
    let stopped = sidecar.wait_incident(&topic, "Truncated", WITHIN).unwrap();
    assert_eq!(stopped.position, 150);
    let told = sidecar.status().unwrap()["incidents"].to_string();
    assert!(told.contains("offsets 100 to 149"), "{told}");
    let counted = |table: &std::collections::BTreeMap<_, _>| -> u64 {
        let count = |key: &String| sidecar.get(CARDS, key).unwrap().map_or(0, |row| row["n"].as_u64().unwrap());
        table.keys().map(count).sum()
    };
    let mut keys = shared.oracle;
    keys.add_counts(&lone.oracle, &FEATURES[..1]);
    assert_eq!(counted(&keys.table), 150);
}

/// A broker loses the end of its log while nobody reads, and has grown beyond our position when we come back.
#[test]
fn a_log_that_was_cut_and_refilled_while_nobody_read_stops_its_partition_typed() {
    let mut kafka = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (kafka.bootstrap().to_owned(), unique("refilled"));
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    let part = |first, records| Production { topic: topic.clone(), first, records, partitions: 1, keys: 20, ..Production::default() };
    part(0, 600).run(&bootstrap, WITHIN).unwrap();
    let folder = kafka.partition_folder(&topic, 0);
    let log = folder.join("00000000000000000000.log");
    kafka.stop().unwrap();
    let kept = std::fs::metadata(&log).unwrap().len();
    kafka.go().unwrap();
    let all = part(600, 400).run(&bootstrap, WITHIN).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(&bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &all.ends, WITHIN).unwrap();
    sidecar.kill9();

    cut(&mut kafka, &topic, kept);
    assert_eq!(Admin::of(&bootstrap).ends(&topic).unwrap().get(&0), Some(&600), "the broker lost 400 records");
    part(1_000, 1_400).run(&bootstrap, WITHIN).unwrap();

    let sidecar = setup.start_bound().unwrap();
    let stopped = sidecar.wait_incident(&topic, "Truncated", WITHIN).unwrap();
    assert_eq!(stopped.position, 1_000);
    let told = sidecar.status().unwrap()["incidents"].to_string();
    assert!(told.contains("offsets 600 to 999"), "{told}");
    // Again after another restart, and once the operator says so the new records count.
    let answer = sidecar.admin_post("/incidents/payments/accept-gap").unwrap();
    assert_eq!(answer.body["partitions"][0]["to_offset"].as_i64(), Some(600), "{}", answer.text);
    wait_for("every record that is in the log", WITHIN, || match sidecar.consumed(&topic)? {
        2_000 => Ok(()),
        at => Err(format!("{at}")),
    })
    .unwrap();
}

/// Keeps the first bytes of a partition's log, as a broker that lost the rest at a crash, and starts the broker.
fn cut(kafka: &mut LocalKafka, topic: &str, kept: u64) {
    let folder = kafka.partition_folder(topic, 0);
    kafka.kill9();
    std::fs::OpenOptions::new().write(true).open(folder.join("00000000000000000000.log")).unwrap().set_len(kept).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".index", ".timeindex", ".snapshot"].iter().any(|end| name.ends_with(end)) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    kafka.go().unwrap();
}

/// The end of the log that others have written on since was taken for the place of the cut: their records were in no table.
#[test]
fn a_log_that_was_cut_and_has_not_come_as_far_again_goes_on_at_the_cut() {
    let mut kafka = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (kafka.bootstrap().to_owned(), unique("shorter"));
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    let part = |first, records| Production { topic: topic.clone(), first, records, partitions: 1, keys: 20, ..Production::default() };
    part(0, 600).run(&bootstrap, WITHIN).unwrap();
    kafka.stop().unwrap();
    let kept = std::fs::metadata(kafka.partition_folder(&topic, 0).join("00000000000000000000.log")).unwrap().len();
    kafka.go().unwrap();
    let all = part(600, 400).run(&bootstrap, WITHIN).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(&bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &all.ends, WITHIN).unwrap();
    sidecar.kill9();
    cut(&mut kafka, &topic, kept);
    part(1_000, 300).run(&bootstrap, WITHIN).unwrap();
    assert_eq!(Admin::of(&bootstrap).ends(&topic).unwrap().get(&0), Some(&900), "others have the offsets 600 to 899 now");

    let sidecar = setup.start_bound().unwrap();
    sidecar.wait_incident(&topic, "Truncated", WITHIN).unwrap();
    let told = sidecar.status().unwrap()["incidents"].to_string();
    assert!(told.contains("offsets 600 to 999"), "{told}");
    let answer = sidecar.admin_post("/incidents/payments/accept-gap").unwrap();
    assert_eq!(answer.body["partitions"][0]["to_offset"].as_i64(), Some(600), "{}", answer.text);
    wait_for("every record that is in the log", WITHIN, || match sidecar.consumed(&topic)? {
        900 => Ok(()),
        at => Err(format!("{at}")),
    })
    .unwrap();
}

/// A client that has read a topic ignores its namesake, whose leader epochs are smaller: until a restart nothing was read.
#[test]
fn a_topic_that_is_made_anew_after_its_broker_restarted_is_read_on_in_the_same_process() {
    let mut kafka = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (kafka.bootstrap().to_owned(), unique("namesake"));
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    let part = |first, records| Production { topic: topic.clone(), first, records, partitions: 1, keys: 20, ..Production::default() };
    part(0, 100).run(&bootstrap, WITHIN).unwrap();
    for _ in 0..2 {
        kafka.stop().unwrap();
        kafka.go().unwrap();
    }
    let old = part(100, 10).run(&bootstrap, WITHIN).unwrap();
    let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(&bootstrap, Topics::One(&topic), None)).unwrap();
    let sidecar = setup.start().unwrap();
    sidecar.wait_positions(&topic, &old.ends, WITHIN).unwrap();
    Admin::of(&bootstrap).delete(&topic).unwrap();
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    let new = part(200, 50).run(&bootstrap, WITHIN).unwrap();
    sidecar.wait_incident(&topic, "Recreated", WITHIN).unwrap();
    let answer = sidecar.admin_post("/incidents/payments/begin?at=earliest").unwrap();
    assert_eq!(answer.body["partitions"][0]["to_offset"].as_i64(), Some(0), "{}", answer.text);
    sidecar.wait_positions(&topic, &new.ends, WITHIN).unwrap();
    let more = part(250, 50).run(&bootstrap, WITHIN).unwrap();
    sidecar.wait_positions(&topic, &more.ends, WITHIN).unwrap();

    // The same when it was given up before.
    Admin::of(&bootstrap).delete(&topic).unwrap();
    wait_for("the partition to stand", WITHIN, || match sidecar.admin_post("/incidents/payments%2F0/forget")? {
        done if done.body["partitions"][0]["to_offset"].is_null() && done.body["partitions"][0]["lost"].is_string() => Ok(()),
        refused => Err(refused.text),
    })
    .unwrap();
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    let last = part(300, 20).run(&bootstrap, WITHIN).unwrap();
    sidecar.wait_positions(&topic, &last.ends, WITHIN).unwrap();
}
