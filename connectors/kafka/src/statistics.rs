//! librdkafka's statistics document: the log ends of the partitions that are being read, once a second and for free.
//!
//! Pure parsing; called on the ingest thread. An end counts as known only while the partition's broker is connected and has answered lately: the document
//! repeats the last number for ever when a broker is gone.

use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;

/// What one document says.
#[derive(Debug, Default, PartialEq)]
pub struct Statistics {
    /// One entry per partition being read.
    pub partitions: Vec<Ends>,
    /// Bytes queued in the client, over all partitions.
    pub queue_bytes: u64,
    /// Brokers that are connected.
    pub brokers_up: usize,
}

/// The ends of one log; -1 where unknown.
#[derive(Debug, PartialEq)]
pub struct Ends {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Log start.
    pub start: i64,
    /// Last stable offset.
    pub stable: i64,
    /// Log end, read uncommitted.
    pub end: i64,
    /// The next offset that the client asks its broker for; it moves on over what is never delivered, aborted records too.
    pub next: i64,
    /// How long ago the broker last answered; `None`: it is not connected, the numbers may be old. A broker answers the requests of a connection in their
    /// order, and a fetch is always under way: its last answer is at most one fetch older than the numbers.
    pub age: Option<Duration>,
}

#[derive(Deserialize)]
struct Document {
    /// When it was written, microseconds of the monotonic clock.
    #[serde(default)]
    ts: i64,
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    rxidle: i64,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    #[serde(default)]
    broker: i64,
    #[serde(default)]
    fetch_state: String,
    #[serde(default)]
    fetchq_size: u64,
    #[serde(default)]
    next_offset: i64,
    lo_offset: i64,
    hi_offset: i64,
    ls_offset: i64,
}

/// Reads a document at this moment of the monotonic clock; one that does not parse says nothing. It may have waited behind many records.
pub fn parse(json: &str, monotonic_us: i64) -> Statistics {
    let Ok(document) = serde_json::from_str::<Document>(json) else { return Statistics::default() };
    let waited_us = (monotonic_us - document.ts).max(0);
    let up: HashMap<i64, Duration> = document
        .brokers
        .values()
        .filter(|broker| broker.nodeid >= 0 && broker.state == "UP")
        .map(|broker| (broker.nodeid, Duration::from_micros((broker.rxidle.max(0) + waited_us).unsigned_abs())))
        .collect();
    let mut statistics = Statistics { brokers_up: up.len(), ..Statistics::default() };
    for (name, topic) in document.topics {
        for partition in topic.partitions.into_values().filter(|partition| partition.partition >= 0) {
            // The size of each partition is that of the shared queue: never the sum.
            statistics.queue_bytes = statistics.queue_bytes.max(partition.fetchq_size);
            let age = up.get(&partition.broker).copied().filter(|_age| partition.fetch_state == "active");
            statistics.partitions.push(Ends {
                topic: name.clone(),
                partition: partition.partition,
                start: partition.lo_offset.max(-1),
                stable: partition.ls_offset.max(-1),
                end: partition.hi_offset.max(-1),
                next: partition.next_offset.max(-1),
                age,
            });
        }
    }
    statistics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_known_only_while_its_broker_answers() {
        let json = r#"{"ts":70000,"brokers":{"a":{"nodeid":1,"state":"UP","rxidle":2000},"b":{"nodeid":2,"state":"CONNECT","rxidle":9}},
            "topics":{"t":{"partitions":{
              "0":{"partition":0,"broker":1,"fetch_state":"active","fetchq_size":70,"next_offset":40,"lo_offset":0,"hi_offset":49,"ls_offset":36},
              "1":{"partition":1,"broker":2,"fetch_state":"active","fetchq_size":70,"lo_offset":-1001,"hi_offset":9,"ls_offset":9},
              "-1":{"partition":-1,"broker":-1,"lo_offset":-1001,"hi_offset":-1001,"ls_offset":-1001}}}}}"#;
        let mut statistics = parse(json, 73_000);
        statistics.partitions.sort_by_key(|ends| ends.partition);
        let age = Some(Duration::from_millis(2 + 3));
        let ends = |partition, start, stable, end, next, age| Ends { topic: "t".into(), partition, start, stable, end, next, age };
        assert_eq!(statistics.partitions, [ends(0, 0, 36, 49, 40, age), ends(1, -1, 9, 9, 0, None)]);
        assert_eq!((statistics.queue_bytes, statistics.brokers_up), (70, 1));
    }

    #[test]
    fn nonsense_says_nothing() {
        assert_eq!(parse("{", 0), Statistics::default());
    }
}
