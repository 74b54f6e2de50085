//! Starting and stopping: per source one ingest thread with its reader and one control thread; per configured registry one thread.
//!
//! Called by the engine's start-up, the only place that knows both sides. Nothing is shared between sources but registries, the memory budget and the board.

use crate::cluster::{Brokers, Cluster};
use crate::config::{KafkaSource, RegistryConfig};
use crate::control;
use crate::ext::{self, Client, ClientError, Inbox};
use crate::ingest::{Ingest, Parts};
use crate::registry::Registry;
use crate::settings::{self, Budget};
use crossbeam_channel::unbounded;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::counters::SourceCounters;
use streamgauge_api::source::SourceBoard;
use streamgauge_api::{ApiError, Clock, Code, Inlet, StoredPosition};

/// What all sources share.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of this instance, for client and group ids.
    pub instance: String,
    /// Bytes that Kafka clients of the process may use, the inlets' queues included: 80 % are the clients'.
    pub memory_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { instance: "default".to_owned(), memory_bytes: settings::MEMORY_BYTES_DEFAULT }
    }
}

/// Running sources.
pub struct KafkaHandle {
    stop_reading: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    sources: Vec<Running>,
    registries: Vec<(Registry, JoinHandle<()>)>,
}

struct Running {
    name: String,
    counters: Arc<SourceCounters>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts all sources. `stored` is every position that recovery found; `inlet` makes the engine's side of one ingest thread.
///
/// # Errors
/// `invalid_config_value` with librdkafka's text for a setting that it refuses; `internal_error` when a thread cannot be started. Brokers that do not answer are
/// no error: the source says so on the board and goes on when they do.
pub fn start(
    sources: Vec<KafkaSource>,
    stored: &[StoredPosition],
    options: &Options,
    inlet: &mut dyn FnMut(&KafkaSource) -> Box<dyn Inlet>,
    board: &Arc<SourceBoard>,
    clock: &Arc<dyn Clock>,
) -> Result<KafkaHandle, ApiError> {
    start_with(sources, stored, options, inlet, board, clock, &mut |source, options| {
        let brokers = Brokers::new(&settings::control(source, &options.instance), source.topic_ids)?;
        Ok(Box::new(brokers))
    })
}

/// The same with another [`Cluster`] per source: the seam for topic ids where brokers have none.
#[expect(clippy::type_complexity, reason = "a factory is a type of its own nowhere else")]
pub(crate) fn start_with(
    sources: Vec<KafkaSource>,
    stored: &[StoredPosition],
    options: &Options,
    inlet: &mut dyn FnMut(&KafkaSource) -> Box<dyn Inlet>,
    board: &Arc<SourceBoard>,
    clock: &Arc<dyn Clock>,
    cluster: &mut dyn FnMut(&KafkaSource, &Options) -> Result<Box<dyn Cluster>, ClientError>,
) -> Result<KafkaHandle, ApiError> {
    tracing::info!(client = %ext::client_version(), sources = sources.len(), "kafka");
    let mut handle = KafkaHandle { stop_reading: Arc::default(), stop: Arc::default(), sources: Vec::new(), registries: Vec::new() };
    let mut registries: BTreeMap<RegistryConfig, Registry> = BTreeMap::new();
    let clients = sources.len();
    for (index, source) in sources.iter().enumerate() {
        let refused = |error: ClientError| {
            ApiError::new(Code::InvalidConfigValue, format!("kafka client of source {}: {}", source.name, error.text))
                .at(format!("sources.{}.kafka", source.name))
        };
        let no_thread = |error: std::io::Error| ApiError::new(Code::InternalError, format!("cannot start a thread: {error}"));
        let registry = match &source.registry {
            None => None,
            Some(config) => match registries.get(config) {
                Some(running) => Some(running.clone()),
                None => {
                    let (registry, thread) = Registry::start(config).map_err(no_thread)?;
                    registries.insert(config.clone(), registry.clone());
                    handle.registries.push((registry.clone(), thread));
                    Some(registry)
                }
            },
        };
        let budget = Budget::share(options.memory_bytes, clients, source.brokers.len());
        let reader = settings::reader(source, &options.instance, budget);
        let client = Client::new(&reader, Arc::new(Inbox::default())).map_err(refused)?;
        let cluster = cluster(source, options).map_err(refused)?;
        let (job_sender, jobs) = unbounded();
        let (answer_sender, answers) = unbounded();
        let topics = source.topics.clone();
        let control = std::thread::Builder::new()
            .name(format!("kafka-ask-{}", source.name))
            .spawn(move || control::run(cluster, &topics, &jobs, &answer_sender))
            .map_err(no_thread)?;
        let counters = Arc::new(SourceCounters::default());
        board.awaits(&source.name, &source.event);
        board.put_counters(&source.name, &counters);
        let of_event = || stored.iter().filter(|stored| stored.key.event == source.event);
        let parts = Parts {
            source: source.clone(),
            stored: of_event().filter(|stored| !stored.is_forgotten()).cloned().collect(),
            forgotten: of_event()
                .filter(|stored| stored.is_forgotten() && source.topics.selects(&stored.key.topic))
                .map(|stored| (stored.key.cluster.clone(), stored.key.topic.clone()))
                .collect(),
            rivals: sources
                .iter()
                .enumerate()
                .any(|(other, rival)| other != index && rival.event == source.event && rival.brokers != source.brokers),
            inlet: inlet(source),
            client,
            reader,
            jobs: job_sender,
            answers,
            registry,
            board: board.clone(),
            clock: clock.clone(),
            counters: counters.clone(),
            stop_reading: handle.stop_reading.clone(),
            stop: handle.stop.clone(),
        };
        let ingest = std::thread::Builder::new()
            .name(format!("kafka-{}", source.name))
            .spawn(move || Ingest::new(parts).run())
            .map_err(no_thread)?;
        handle.sources.push(Running { name: source.name.clone(), counters, threads: vec![ingest, control] });
    }
    Ok(handle)
}

impl KafkaHandle {
    /// Stops taking records, at once and without waiting. The engine then makes what it has durable and calls [`KafkaHandle::stop`].
    pub fn stop_reading(&self) {
        self.stop_reading.store(true, Ordering::Release);
    }

    /// Commits durable positions a last time, closes the clients, joins the threads. False when some did not end in time; they are left behind.
    pub fn stop(mut self, timeout: Duration) -> bool {
        self.signal();
        let deadline = Instant::now() + timeout;
        let mut threads: Vec<JoinHandle<()>> = self.sources.drain(..).flat_map(|source| source.threads).collect();
        for (registry, thread) in self.registries.drain(..) {
            drop(registry);
            threads.push(thread);
        }
        let mut all = true;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            all &= thread.is_finished() && thread.join().is_ok();
        }
        all
    }

    /// Counters by source, for metrics.
    pub fn counters(&self) -> Vec<(String, Arc<SourceCounters>)> {
        self.sources.iter().map(|source| (source.name.clone(), source.counters.clone())).collect()
    }

    /// Requests to registries so far, by result (`ready`, `missing`, `down`).
    pub fn registry_requests(&self) -> [(&'static str, u64); 3] {
        let mut sum = [("ready", 0), ("missing", 0), ("down", 0)];
        for (registry, _) in &self.registries {
            for (total, part) in sum.iter_mut().zip(registry.requests()) {
                total.1 += part.1;
            }
        }
        sum
    }

    /// Whether every ingest thread is alive.
    pub fn alive(&self) -> bool {
        self.sources.iter().all(|source| source.threads.iter().all(|thread| !thread.is_finished()))
    }

    fn signal(&self) {
        self.stop_reading.store(true, Ordering::Release);
        self.stop.store(true, Ordering::Release);
    }
}

impl Drop for KafkaHandle {
    fn drop(&mut self) {
        self.signal();
    }
}
