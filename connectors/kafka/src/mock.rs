//! librdkafka's mock cluster in this process: a broker for `demo` and for tests, without Docker, Java or a file left behind.
//!
//! It lies about some things: it has no topic ids (sources on it declare `topic_ids: false`), keeps at most 5 MiB or 100,000 batches per partition,
//! shows aborted records, and answers offsets-for-times with the log end. It lives on a thread of its own, because its handle may not move between threads;
//! dropping [`MockKafka`] ends both.

use crossbeam_channel::{Sender, bounded};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::thread::JoinHandle;
use std::time::Duration;
use streamgauge_api::{ApiError, Code};

const BROKERS: i32 = 1;
const START_LIMIT: Duration = Duration::from_secs(10);

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// A running mock cluster; stops when dropped.
pub struct MockKafka {
    bootstrap: String,
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl MockKafka {
    /// Starts a broker on a loopback port with these topics and partition counts.
    ///
    /// # Errors
    /// `internal_error` with the client's text.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, ApiError> {
        let topics: Vec<(String, i32)> = topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        let failed = |what: String| ApiError::new(Code::InternalError, format!("cannot start the in-process broker: {what}"));
        let (started, answer) = bounded(1);
        let (commands, orders) = bounded::<Command>(16);
        let thread = std::thread::Builder::new()
            .name("mock-kafka".into())
            .spawn(move || {
                let cluster = match Cluster::new(BROKERS) {
                    Ok(cluster) => cluster,
                    Err(error) => return drop(started.send(Err(error.to_string()))),
                };
                for (name, partitions) in &topics {
                    if let Err(error) = cluster.create_topic(name, *partitions, 1) {
                        return drop(started.send(Err(format!("topic {name}: {error}"))));
                    }
                }
                let _starter_left = started.send(Ok(cluster.bootstrap_servers())).is_err();
                // Ends when the handle is dropped.
                for order in orders {
                    order(&cluster);
                }
            })
            .map_err(|error| failed(error.to_string()))?;
        match answer.recv_timeout(START_LIMIT) {
            Ok(Ok(bootstrap)) => Ok(Self { bootstrap, commands: Some(commands), thread: Some(thread) }),
            Ok(Err(text)) => Err(failed(text)),
            Err(_silent) => Err(failed(format!("it did not answer within {START_LIMIT:?}"))),
        }
    }

    /// Its address, for `brokers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Adds a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let name = name.to_owned();
        self.order(move |cluster| {
            if let Err(error) = cluster.create_topic(&name, partitions, 1) {
                tracing::warn!("mock topic {name}: {error}");
            }
        });
    }

    /// Has a partition's leader elected anew: what is written from here on has the next leader epoch.
    pub fn elect(&self, topic: &str, partition: i32) {
        let name = topic.to_owned();
        self.order(move |cluster| {
            if let Err(error) = cluster.partition_leader(&name, partition, Some(BROKERS)) {
                tracing::warn!("mock leader of {name}/{partition}: {error}");
            }
        });
    }

    /// Takes the broker down or brings it up again. No other broker takes over.
    pub fn set_up(&self, up: bool) {
        self.order(move |cluster| {
            let result = if up { cluster.broker_up(BROKERS) } else { cluster.broker_down(BROKERS) };
            if let Err(error) = result {
                tracing::warn!("mock broker up={up}: {error}");
            }
        });
    }

    /// Runs an order on the cluster's thread and waits until it is done.
    fn order(&self, order: impl FnOnce(&Cluster) + Send + 'static) {
        let (done, wait) = bounded(1);
        let command: Command = Box::new(move |cluster| {
            order(cluster);
            let _nobody_waits = done.send(()).is_err();
        });
        if self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok()) {
            let _late = wait.recv_timeout(START_LIMIT).is_err();
        }
    }
}

impl Drop for MockKafka {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err();
        }
    }
}
