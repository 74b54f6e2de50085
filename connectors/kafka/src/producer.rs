//! A producer for the demo's generator, benches and tests. Sources never write; nothing of the engine uses this.
//!
//! One thread owns it. Sending queues; a full queue is waited for, bounded. Records that could not be delivered are counted and told by [`Producer::flush`].

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a full queue is waited for.
const QUEUE_LIMIT: Duration = Duration::from_secs(30);
/// Delivery reports are served once per this many records.
const POLL_EVERY: u64 = 128;

/// Why a record was not taken or not delivered.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// The client refused it.
    #[error("producer: {0}")]
    Client(#[from] KafkaError),
    /// This many records were not delivered.
    #[error("{0} records were not delivered")]
    Undelivered(u64),
}

#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    sent: u64,
}

impl Producer {
    /// A producer for these brokers; `settings` are librdkafka's and come last.
    ///
    /// # Errors
    /// A setting that the client refuses.
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Self, ProducerError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("linger.ms", "5").set("message.timeout.ms", "30000");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        Ok(Self { inner: config.create_with_context(Deliveries::default())?, sent: 0 })
    }

    /// Queues a record. `partition: None` chooses by key; `value: None` is a tombstone; `timestamp_ms: None` is now.
    ///
    /// # Errors
    /// The client refuses the record, or its queue stays full for 30 s.
    pub fn send(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: Option<i64>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), ProducerError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        record.timestamp = timestamp_ms;
        if !headers.is_empty() {
            let all = headers
                .iter()
                .fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| all.insert(Header { key, value: *value }));
            record.headers = Some(all);
        }
        let deadline = Instant::now() + QUEUE_LIMIT;
        loop {
            match self.inner.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) if Instant::now() < deadline => {
                    record = again;
                    self.inner.poll(Duration::from_millis(10));
                }
                Err((error, _record)) => return Err(error.into()),
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.inner.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// Serves delivery reports; to be called now and then by a slow sender.
    pub fn poll(&self) {
        self.inner.poll(Duration::ZERO);
    }

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// It was not, in this time or at all.
    pub fn flush(&mut self, limit: Duration) -> Result<(), ProducerError> {
        self.inner.flush(limit)?;
        match self.inner.context().failed.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(ProducerError::Undelivered(failed)),
        }
    }
}
