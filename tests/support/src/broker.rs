//! `broker()`: a Kafka broker, found or started, once per test binary. Topics are named uniquely, so tests share it.
//!
//! Order: `SG_TEST_KAFKA` names one; else a container, where the feature `docker-tests` is on and Docker answers; else Apache Kafka from Maven Central on free
//! ports. Where none can be had the test **fails** and says why each was not. A mock is asked for by name elsewhere and is never a fallback.

use crate::kafka::{LocalKafka, wait_until_ready};
use crate::{Outcome, fetch, process};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest administrative act.
const ACT_WITHIN: Duration = Duration::from_secs(120);

/// Where a broker came from.
#[derive(Debug)]
pub enum Kind {
    /// `SG_TEST_KAFKA`.
    External,
    /// A container of ours.
    #[cfg(feature = "docker-tests")]
    Container(Box<crate::container::Container>),
    /// A process of ours.
    Local(LocalKafka),
}

/// A broker that answers.
#[derive(Debug)]
pub struct Broker {
    /// Address for clients.
    pub bootstrap: String,
    /// Where it came from; holds what keeps it alive.
    pub kind: Kind,
}

impl Broker {
    /// Pid of the broker, when it is a process of ours.
    pub fn pid(&self) -> Option<u32> {
        match &self.kind {
            Kind::Local(kafka) => kafka.pid(),
            _ => None,
        }
    }
}

/// The broker of this test binary.
///
/// # Panics
/// When there is none to be had: a missing part fails the test.
pub fn broker() -> &'static Broker {
    static CELL: OnceLock<Outcome<Broker>> = OnceLock::new();
    match CELL.get_or_init(choose) {
        Ok(broker) => broker,
        Err(reason) => panic!("no Kafka broker:\n{reason}"),
    }
}

fn choose() -> Outcome<Broker> {
    if let Ok(bootstrap) = std::env::var("SG_TEST_KAFKA") {
        // A named broker that does not answer is a mistake to be told, not a reason to take another.
        wait_until_ready(&bootstrap, || None).map_err(|reason| format!("SG_TEST_KAFKA={bootstrap}: {reason}"))?;
        return Ok(Broker { bootstrap, kind: Kind::External });
    }
    let container = in_container();
    let reason = match container {
        Ok(broker) => return Ok(broker),
        Err(reason) => reason,
    };
    LocalKafka::start()
        .map(|kafka| Broker { bootstrap: kafka.bootstrap().to_owned(), kind: Kind::Local(kafka) })
        .map_err(|local| format!("1. SG_TEST_KAFKA is not set\n2. container: {reason}\n3. local Apache Kafka: {local}"))
}

#[cfg(feature = "docker-tests")]
fn in_container() -> Outcome<Broker> {
    let container = crate::container::kafka()?;
    let bootstrap = container.address.clone();
    wait_until_ready(&bootstrap, || None)?;
    Ok(Broker { bootstrap, kind: Kind::Container(Box::new(container)) })
}

#[cfg(not(feature = "docker-tests"))]
fn in_container() -> Outcome<Broker> {
    Err("the feature docker-tests is off".to_owned())
}

/// A name that no other test uses, in this run or an earlier one against the same broker.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{prefix}-{:x}-{:x}-{:x}", since.as_nanos(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Administrative acts on a cluster, by a client that is not ours.
#[derive(Debug, Clone)]
pub struct Admin {
    bootstrap: String,
}

impl Admin {
    /// For the cluster at this address.
    pub fn of(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned() }
    }

    /// Creates a topic and waits for the leaders of its partitions.
    ///
    /// # Errors
    /// What the client said.
    pub fn create(&self, topic: &str, partitions: u32) -> Outcome<()> {
        self.act(&["create", topic, &partitions.to_string()]).map(|_| ())
    }

    /// Creates a topic that keeps whatever time its records carry: far ahead of the broker's, and long past.
    ///
    /// # Errors
    /// What the client said.
    pub fn create_timeless(&self, topic: &str, partitions: u32) -> Outcome<()> {
        let kept = ["--config", "message.timestamp.after.max.ms=9223372036854775807", "--config", "retention.ms=-1"];
        self.act(&[&["create", topic, &partitions.to_string()], &kept[..]].concat()).map(|_| ())
    }

    /// Creates a topic whose partitions all have these replicas, the first one preferred.
    ///
    /// # Errors
    /// What the client said.
    pub fn create_on(&self, topic: &str, partitions: u32, nodes: &[usize]) -> Outcome<()> {
        let nodes = nodes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        self.act(&["create", topic, &partitions.to_string(), "--replicas", &nodes]).map(|_| ())
    }

    /// Grows a topic to this many partitions.
    ///
    /// # Errors
    /// What the client said.
    pub fn grow(&self, topic: &str, partitions: u32) -> Outcome<()> {
        self.act(&["grow", topic, &partitions.to_string()]).map(|_| ())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// What the client said.
    pub fn delete(&self, topic: &str) -> Outcome<()> {
        self.act(&["delete", topic]).map(|_| ())
    }

    /// Deletes a partition's records before an offset, as retention would.
    ///
    /// # Errors
    /// What the client said.
    pub fn trim(&self, topic: &str, partition: i32, offset: i64) -> Outcome<()> {
        self.act(&["trim", topic, &partition.to_string(), &offset.to_string()]).map(|_| ())
    }

    /// Lets a user read a topic.
    ///
    /// # Errors
    /// What the client said.
    pub fn allow(&self, topic: &str, user: &str) -> Outcome<()> {
        self.act(&["allow", topic, user]).map(|_| ())
    }

    /// Writes one record into partition 0 that is small on the wire and large when it is decompressed: `head`, so many letters, `tail`.
    ///
    /// # Errors
    /// What the client said.
    pub fn giant(&self, topic: &str, codec: &str, letters: usize, head: &str, tail: &str) -> Outcome<()> {
        self.act(&["giant", topic, codec, &letters.to_string(), head, tail]).map(|_| ())
    }

    /// Writes so many records of [`Admin::giant`] in one batch.
    ///
    /// # Errors
    /// What the client said.
    pub fn batch(&self, topic: &str, codec: &str, letters: usize, head: &str, tail: &str, count: usize) -> Outcome<()> {
        self.act(&["batch", topic, codec, &letters.to_string(), head, tail, &count.to_string()]).map(|_| ())
    }

    /// Creates a topic whose batches may be of this size.
    ///
    /// # Errors
    /// What the client said.
    pub fn create_with(&self, topic: &str, partitions: i32, setting: &str) -> Outcome<()> {
        self.act(&["create", topic, &partitions.to_string(), "--config", setting]).map(|_| ())
    }

    /// Writes records into partition 0 as they are: an array of objects with `key`, `value` (hexadecimal or null) and `headers` (pairs).
    ///
    /// # Errors
    /// What the client said.
    pub fn raw(&self, topic: &str, records: &Json) -> Outcome<()> {
        self.act(&["raw", topic, &records.to_string()]).map(|_| ())
    }

    /// Log end of each partition, read uncommitted: transaction markers and open transactions count.
    ///
    /// # Errors
    /// What the client said.
    pub fn ends(&self, topic: &str) -> Outcome<BTreeMap<i32, i64>> {
        let answer = self.act(&["ends", topic])?;
        let members = answer.as_object().ok_or_else(|| format!("ends of {topic}: not an object: {answer}"))?;
        Ok(members.iter().filter_map(|(partition, end)| Some((partition.parse().ok()?, end.as_i64()?))).collect())
    }

    fn act(&self, arguments: &[&str]) -> Outcome<Json> {
        let mut command = fetch::python("kafka_admin.py")?;
        command.arg(&self.bootstrap).args(arguments);
        let text = process::run("kafka_admin.py", &mut command, ACT_WITHIN)?;
        serde_json::from_str(&text).map_err(|error| format!("kafka_admin.py said {text:?}: {error}"))
    }
}
