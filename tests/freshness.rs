//! What reads promise about freshness while brokers come and go: never fresher than it is, and no alarm about a topic where nothing happens.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::time::{Duration, Instant};
use streamgauge_testing::{Admin, LocalKafka, Setup, Sidecar, kafka, unique, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_streamgauge");
const WITHIN: Duration = Duration::from_secs(60);
/// The end of a quiet partition is heard of twice a second; a busy machine gets more.
const CONFIRMED_WITHIN_MS: i64 = 3_000;

fn config(bootstrap: &str, topic: &str) -> String {
    format!(
        r#"config_version = 1
[ready]
max_staleness = "30s"
[events.Step]
time = {{ field = "ts" }}
fields = {{ walker = "str", ts = "datetime" }}
[sources.steps]
event = "Step"
[sources.steps.kafka]
brokers = ["{bootstrap}"]
topic = "{topic}"
start = "earliest"
[tables.walkers]
from = "Step"
key = ["walker"]
[tables.walkers.features]
n = {{ op = "count" }}
"#
    )
}

fn lag_ms(sidecar: &Sidecar) -> Result<i64, String> {
    let answer = sidecar.data_get("/tables/walkers/ada")?;
    let lag = answer.headers.get("x-streamgauge-lag-ms").and_then(|lag| lag.parse().ok());
    lag.ok_or_else(|| format!("no lag in {} {}", answer.status, answer.text))
}

fn connects(sidecar: &Sidecar) -> u64 {
    let text = sidecar.admin_get("/metrics").unwrap().text;
    let line = text.lines().find(|line| line.starts_with("streamgauge_kafka_connects_total{")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Before, the lag of a quiet topic became the age of its last record two seconds after the broker was last heard of: a broker that restarts at night failed
/// every read that named a `max_staleness`. And while the only broker was away, a source tried it 8,000 times a second.
#[test]
fn a_quiet_topic_ages_from_the_brokers_last_word_and_a_broker_that_is_away_is_tried_now_and_then() {
    let mut broker = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (broker.bootstrap().to_owned(), unique("quiet"));
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    // A record whose own time is long ago; Kafka's is now.
    kafka::console_produce(&bootstrap, &topic, "{\"walker\": \"ada\", \"ts\": 1700000000000}\n").unwrap();
    let setup = Setup::new(BINARY, &config(&bootstrap, &topic)).unwrap();
    let sidecar = setup.start().unwrap();
    let calm = |what: &str| {
        wait_for(what, WITHIN, || match lag_ms(&sidecar)? {
            lag if lag <= CONFIRMED_WITHIN_MS => Ok(()),
            lag => Err(format!("{lag} ms")),
        })
        .unwrap();
    };
    calm("the end of the topic");
    // The topic rests until its record is much older than what is waited for below.
    let rests_until = Instant::now() + Duration::from_secs(8);
    wait_for("a rest", WITHIN, || if Instant::now() > rests_until { Ok(()) } else { Err(String::new()) }).unwrap();
    calm("a quiet topic");

    let tried = connects(&sidecar);
    broker.kill9();
    let killed = Instant::now();
    let ms = |since: Instant| i64::try_from(since.elapsed().as_millis()).unwrap();
    wait_for("the lag to grow", WITHIN, || {
        let before = ms(killed);
        let lag = lag_ms(&sidecar)?;
        assert!(lag <= ms(killed) + CONFIRMED_WITHIN_MS, "{lag} ms, {} ms after the broker went", ms(killed));
        assert!(lag >= before - 50, "{lag} ms, at least {before} ms after the broker was heard of");
        if lag > 6_000 { Ok(()) } else { Err(format!("{lag} ms")) }
    })
    .unwrap();
    let read = |most: u64| sidecar.data_get(&format!("/tables/walkers/ada?max_staleness={most}ms")).unwrap();
    assert_eq!(read(60_000).body, json!({ "n": 1 }));
    assert_eq!((read(2_000).status, read(2_000).code().to_owned()), (503, "stale".to_owned()));

    // Three broker threads, twice a second each at the most; two counts of a second each.
    let tried = connects(&sidecar) - tried;
    let most = 3 * (killed.elapsed().as_millis() as u64 / 500 + 2);
    assert!((1..=most).contains(&tried), "{tried} attempts within {:?}", killed.elapsed());

    wait_for("readiness to end", WITHIN, || match sidecar.data_get("/ready")? {
        ready if ready.body["reasons"] == json!(["stale"]) => Ok(()),
        ready => Err(ready.text),
    })
    .unwrap();
    assert!(lag_ms(&sidecar).unwrap() >= 30_000);
    broker.go().unwrap();
    calm("the broker to be back");
    sidecar.wait_ready(WITHIN).unwrap();
}

#[test]
fn nobody_promises_freshness_before_a_broker_was_heard_of() {
    let setup = Setup::new(BINARY, &config("127.0.0.1:1", "never")).unwrap();
    let sidecar = setup.start_bound().unwrap();
    wait_for("recovery", WITHIN, || match sidecar.data_get("/ready")? {
        ready if ready.body["reasons"] == json!(["stale"]) => Ok(()),
        ready => Err(ready.text),
    })
    .unwrap();
    let pushed = sidecar.data_post("/push/Step", &json!({ "walker": "ada", "ts": 1_700_000_000_000_u64 })).unwrap();
    assert_eq!(pushed.status, 200, "{}", pushed.text);
    assert_eq!(sidecar.get("walkers", "ada").unwrap(), Some(json!({ "n": 1 })));
    let refused = sidecar.data_get("/tables/walkers/ada?max_staleness=1h").unwrap();
    assert_eq!((refused.status, refused.code()), (503, "stale"), "{}", refused.text);
    told(&sidecar, "broker_unreachable");
}

/// The source is named with this cause in `/status` and in `/ready`.
fn told(sidecar: &Sidecar, cause: &str) {
    wait_for("the incident", WITHIN, || {
        let status = sidecar.admin_get("/status")?.body;
        let open =
            status["incidents"].as_array().into_iter().flatten().any(|open| open["subject"] == "source steps" && open["cause"] == cause);
        let ready = sidecar.data_get("/ready")?.body;
        let warned = ready["warnings"].as_array().is_some_and(|all| all.contains(&json!("Stalled: source steps")));
        if open && warned { Ok(()) } else { Err(format!("{status} {ready}")) }
    })
    .unwrap();
}

/// Before, a read that named a `max_staleness` was answered for a topic that does not exist, and only one line of the log told of it.
#[test]
fn a_topic_that_does_not_exist_is_an_incident_and_promises_nothing() {
    let broker = LocalKafka::start().unwrap();
    let named = config(broker.bootstrap(), &unique("nosuch"));
    let matching = named.replace("topic = \"", "topic_regex = \"^");
    for text in [named, matching] {
        let setup = Setup::new(BINARY, &text).unwrap();
        let sidecar = setup.start_bound().unwrap();
        told(&sidecar, "topic_missing");
        let pushed = sidecar.data_post("/push/Step", &json!({ "walker": "ada", "ts": 1_700_000_000_000_u64 })).unwrap();
        assert_eq!(pushed.status, 200, "{}", pushed.text);
        let refused = sidecar.data_get("/tables/walkers/ada?max_staleness=1h").unwrap();
        assert_eq!((refused.status, refused.code()), (503, "stale"), "{}", refused.text);
    }
}

/// Before, a record of now counted as an end that was reached: `/ready` was 200 from the first look on, with half of the topic unread behind a bad record.
#[test]
fn a_partition_that_a_bad_record_stops_has_not_caught_up_however_young_its_records_are() {
    let broker = LocalKafka::start().unwrap();
    let (bootstrap, topic) = (broker.bootstrap().to_owned(), unique("half"));
    Admin::of(&bootstrap).create(&topic, 1).unwrap();
    let good = "{\"walker\": \"ada\", \"ts\": 1700000000000}\n".repeat(10);
    kafka::console_produce(&bootstrap, &topic, &format!("{good}no row\n{good}")).unwrap();
    let text = config(&bootstrap, &topic)
        .replace("max_staleness = \"30s\"", "wait_for_catch_up = true")
        .replace("[events.Step]", "[events.Step]\non_bad_record = \"stop\"");
    let setup = Setup::new(BINARY, &text).unwrap();
    let sidecar = setup.start_bound().unwrap();
    wait_for("the partition to stop", WITHIN, || {
        let ready = sidecar.data_get("/ready")?;
        assert_eq!(ready.status, 503, "{}", ready.text);
        if ready.body["reasons"] == json!(["source_stopped"]) { Ok(()) } else { Err(ready.text) }
    })
    .unwrap();
    let ready = sidecar.admin_get("/ready?verbose").unwrap();
    assert_eq!((ready.status, ready.body["status"].as_str(), ready.code()), (503, Some("not_ready"), "source_stopped"), "{}", ready.text);
    assert!(
        ready.body["warnings"][0].as_str().is_some_and(|warning| warning.starts_with("Stalled: source steps partition")),
        "{}",
        ready.text
    );
    assert_eq!(sidecar.get("walkers", "ada").unwrap(), Some(json!({ "n": 10 })));
}
