//! Making and changing topics, for tests and the demo. Sources never do.
//!
//! Blocking calls, each bounded in time; one thread owns it.

use crate::ext::{Client, ClientError, Inbox, Isolation, OffsetSpec};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use streamgauge_api::TopicId;

/// Time for one call.
const LIMIT: Duration = Duration::from_secs(15);

/// Log start and end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// Partition.
    pub partition: i32,
    /// Log start.
    pub start: i64,
    /// Last stable offset.
    pub stable: i64,
    /// Log end, read uncommitted.
    pub end: i64,
}

/// An admin client.
pub struct Admin {
    inner: AdminClient<DefaultClientContext>,
    client: Client,
}

impl Admin {
    /// A client for these brokers.
    ///
    /// # Errors
    /// The client's text.
    pub fn new(bootstrap: &str) -> Result<Self, ClientError> {
        let inner = ClientConfig::new().set("bootstrap.servers", bootstrap).create().map_err(failed)?;
        let settings = [("bootstrap.servers", bootstrap), ("group.id", "streamgauge-admin")];
        let settings: Vec<_> = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Self { inner, client: Client::new(&settings, Arc::new(Inbox::default()))? })
    }

    /// Creates a topic with one replica; `config` holds topic settings.
    ///
    /// # Errors
    /// The broker's text.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<(), ClientError> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        one(block_on(self.inner.create_topics([&topic], &options())))
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The broker's text.
    pub fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        one(block_on(self.inner.delete_topics(&[name], &options())))
    }

    /// Raises the partition count to `count`.
    ///
    /// # Errors
    /// The broker's text.
    pub fn create_partitions(&self, name: &str, count: usize) -> Result<(), ClientError> {
        one(block_on(self.inner.create_partitions([&NewPartitions::new(name, count)], &options())))
    }

    /// Moves the log start of a partition to `before`.
    ///
    /// # Errors
    /// The broker's text.
    pub fn delete_records(&self, name: &str, partition: i32, before: i64) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(before)).map_err(failed)?;
        let done = block_on(self.inner.delete_records(&list, &options())).map_err(failed)?;
        done.elements().iter().try_for_each(|element| element.error()).map_err(failed)
    }

    /// The ends of a topic's logs, by partition.
    ///
    /// # Errors
    /// The topic is missing, or no broker answered.
    pub fn log_ends(&self, name: &str) -> Result<Vec<LogEnds>, ClientError> {
        let topics = self.client.topics(LIMIT)?;
        let missing = || ClientError { code: crate::ext::code::UNKNOWN_TOPIC_OR_PART, text: format!("no topic {name}") };
        let topic = topics.into_iter().find(|topic| topic.name == name).ok_or_else(missing)?;
        let ask = |spec, isolation| -> Result<Vec<i64>, ClientError> {
            let asked: Vec<_> = topic.partitions.iter().map(|(partition, _)| (name, *partition, spec)).collect();
            let mut answers = self.client.offsets(&asked, isolation, LIMIT)?;
            answers.sort_by_key(|answer| answer.partition);
            answers.into_iter().map(|answer| answer.result.map(|(offset, _)| offset)).collect()
        };
        let starts = ask(OffsetSpec::Earliest, Isolation::ReadUncommitted)?;
        let stables = ask(OffsetSpec::Latest, Isolation::ReadCommitted)?;
        let ends = ask(OffsetSpec::Latest, Isolation::ReadUncommitted)?;
        let mut partitions: Vec<i32> = topic.partitions.iter().map(|(partition, _)| *partition).collect();
        partitions.sort_unstable();
        let rows = partitions.into_iter().zip(starts).zip(stables).zip(ends);
        Ok(rows.map(|(((partition, start), stable), end)| LogEnds { partition, start, stable, end }).collect())
    }

    /// A topic's id.
    ///
    /// # Errors
    /// The topic is missing, or the brokers give no ids.
    pub fn topic_id(&self, name: &str) -> Result<TopicId, ClientError> {
        let topic = self.client.describe(&[name], LIMIT)?.into_iter().next();
        let topic = topic.ok_or_else(|| ClientError { code: crate::ext::code::FAIL, text: "no answer".to_owned() })?;
        topic.error.map_or(Ok(topic.id), Err)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

fn failed(error: impl std::fmt::Display) -> ClientError {
    ClientError { code: crate::ext::code::FAIL, text: error.to_string() }
}

/// The result of a call about one topic.
fn one(results: rdkafka::error::KafkaResult<Vec<rdkafka::admin::TopicResult>>) -> Result<(), ClientError> {
    match results.map_err(failed)?.into_iter().next() {
        Some(Err((name, code))) => Err(failed(format!("{name}: {code}"))),
        _ => Ok(()),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread. The calls above bound their own time.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park_timeout(Duration::from_millis(100)),
        }
    }
}
