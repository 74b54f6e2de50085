//! Fault tests on the in-process mock cluster, with a fake of the engine's inlet.
//!
//! The mock has topic ids but answers no DescribeTopics, so [`Ids`] describes topics for it: the second implementation of the cluster seam. What the mock cannot do
//! (transactions, compaction, partition growth, deletion) is tested on a real broker elsewhere.
#![allow(clippy::unwrap_used, reason = "tests")]

mod deciding;
mod incidents;
mod reading;
mod registry;
mod scripted;
mod telling;

use crate::cluster::{Brokers, Cluster};
use crate::config::{KafkaSource, Topics};
use crate::ext::{Assignment, Batch, Client, ClientError, GroupCommit, Inbox, Isolation, OffsetAnswer, OffsetSpec, TopicDescription};
use crate::start::{KafkaHandle, Options, start_with};
use crate::{MockKafka, Producer, settings};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use streamgauge_api::decision::{Decision, DecisionRequest, Effect, GoOn, Place};
use streamgauge_api::inlet::{FetchedSchema, ReadBefore};
use streamgauge_api::source::{Incident, PartitionGauge, SourceBoard};
use streamgauge_api::{
    ApiError, Clock, Inlet, Offered, PartitionKey, Position, RawRecord, SchemaId, Slot, Stop, StoredPosition, SystemClock, TopicId,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A record as the fake engine keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    topic: String,
    partition: i32,
    offset: i64,
    value: Option<String>,
    header: Option<String>,
}

/// What the fake engine knows; outlives restarts of the Kafka side.
#[derive(Default)]
struct Engine {
    /// In order of attachment in this run.
    attached: Vec<PartitionKey>,
    state: BTreeMap<PartitionKey, Position>,
    seen: Vec<Seen>,
    ends: Vec<(Slot, i64)>,
    incidents: Vec<(Slot, Option<Incident>)>,
    /// Those that are open, as a state has them.
    open: BTreeMap<PartitionKey, Incident>,
    /// What operators decided.
    decided: Vec<GoOn>,
    /// Of the whole source.
    source_incident: Option<Incident>,
    /// Records taken before the inlet is full; `None` is no limit.
    room: Option<usize>,
    /// What was read before and waits for room.
    before: BTreeMap<PartitionKey, ReadBefore>,
    schemas: HashMap<SchemaId, Result<FetchedSchema, String>>,
    /// Values that begin with a zero byte are framed by Confluent.
    framed: bool,
}

impl Engine {
    /// Its only partition stands at `offset`, was read to `reached`, and these offsets wait.
    fn waits(&mut self, offset: i64, reached: i64, waits: Vec<(i64, i64)>) {
        let at = |offset: i64| Position { after: offset, record_time_ms: 0, ..Position::start(offset) };
        let key = self.state.keys().next().cloned().unwrap();
        self.state.insert(key.clone(), at(offset));
        self.before.insert(key, ReadBefore { reached: at(reached), waits });
    }
}

/// The engine's side of one ingest thread.
struct FakeInlet {
    engine: Arc<Mutex<Engine>>,
    board: Arc<SourceBoard>,
    stopping: Arc<AtomicBool>,
}

impl Inlet for FakeInlet {
    fn attach(&mut self, source: &str, key: &PartitionKey, start: Position) -> Result<(Slot, Position), ApiError> {
        let mut engine = self.engine.lock();
        let position = *engine.state.entry(key.clone()).or_insert(start);
        let known = engine.attached.iter().position(|known| known == key).unwrap_or(engine.attached.len());
        if known == engine.attached.len() {
            engine.attached.push(key.clone());
        }
        let slot = u32::try_from(known).unwrap();
        let gauge = PartitionGauge::new(source, key.clone(), position.offset);
        *gauge.incident.write().unwrap() = engine.open.get(key).cloned();
        self.board.put(slot, Arc::new(gauge));
        Ok((Slot(slot), position))
    }

    fn offer(&mut self, records: &[RawRecord<'_>]) -> Offered {
        let mut engine = self.engine.lock();
        for (taken, record) in records.iter().enumerate() {
            if engine.room == Some(0) {
                return Offered { taken, stop: Some(Stop::Full) };
            }
            let key = engine.attached[record.slot.0 as usize].clone();
            if let (true, Some([0, a, b, c, d, ..])) = (engine.framed, record.value) {
                let id = SchemaId::Number(u32::from_be_bytes([*a, *b, *c, *d]));
                if !engine.schemas.contains_key(&id) {
                    return Offered { taken, stop: Some(Stop::NeedSchema { slot: record.slot, id }) };
                }
            }
            let expected = engine.state[&key].offset;
            assert!(record.offset >= expected, "{key:?}: offset {} after {expected}", record.offset);
            let position = Position {
                offset: record.offset + 1,
                after: record.offset + 1,
                epoch: record.epoch,
                record_time_ms: record.timestamp_ms,
                clock_ms: -1,
            };
            engine.state.insert(key.clone(), position);
            engine.room = engine.room.map(|room| room - 1);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            engine.seen.push(Seen {
                topic: key.topic,
                partition: key.partition,
                offset: record.offset,
                value: record.value.map(text),
                header: record.headers.and_then(|headers| headers.last("h")).flatten().map(text),
            });
        }
        Offered { taken: records.len(), stop: None }
    }

    fn end_of_partition(&mut self, slot: Slot, offset: i64) -> bool {
        let mut engine = self.engine.lock();
        let key = engine.attached[slot.0 as usize].clone();
        if engine.before.get(&key).is_some_and(|before| offset < before.reached.offset) {
            return false;
        }
        engine.ends.push((slot, offset));
        let position = engine.state.get_mut(&key).unwrap();
        position.offset = position.offset.max(offset);
        true
    }

    fn read_before(&self, slot: Slot) -> Option<ReadBefore> {
        let engine = self.engine.lock();
        engine.before.get(&engine.attached[slot.0 as usize]).cloned()
    }

    fn flush(&mut self) -> bool {
        self.engine.lock().room != Some(0)
    }

    fn wait_room(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.engine.lock().room == Some(0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.engine.lock().room != Some(0)
    }

    fn schema(&mut self, _slot: Slot, schema: &FetchedSchema) -> Result<(), ApiError> {
        self.engine.lock().schemas.insert(schema.id, Ok(schema.clone()));
        Ok(())
    }

    fn schema_missing(&mut self, _slot: Slot, id: SchemaId, detail: &str) {
        self.engine.lock().schemas.insert(id, Err(detail.to_owned()));
    }

    fn incident_opened(&mut self, slot: Slot, incident: &Incident) {
        let mut engine = self.engine.lock();
        engine.incidents.push((slot, Some(incident.clone())));
        let key = engine.attached[slot.0 as usize].clone();
        engine.open.insert(key, incident.clone());
    }

    fn incident_closed(&mut self, slot: Slot) {
        let mut engine = self.engine.lock();
        engine.incidents.push((slot, None));
        let key = engine.attached[slot.0 as usize].clone();
        engine.open.remove(&key);
    }

    fn may_go_on(&mut self, _slot: Slot, _decided: &GoOn) -> Result<(), ApiError> {
        match self.engine.lock().room {
            Some(0) => Err(ApiError::new(streamgauge_api::Code::Overloaded, "rows that were read before wait for room")),
            _ => Ok(()),
        }
    }

    fn go_on(&mut self, slot: Slot, decided: &GoOn) -> Result<(), ApiError> {
        let mut engine = self.engine.lock();
        let known = engine.attached[slot.0 as usize].clone();
        engine.state.remove(&known);
        engine.open.remove(&known);
        engine.decided.push(decided.clone());
        self.board.take(slot.0);
        if let Some(position) = decided.position {
            engine.state.insert(decided.key.clone(), position);
            engine.attached[slot.0 as usize] = decided.key.clone();
            self.board.put(slot.0, Arc::new(PartitionGauge::new("s", decided.key.clone(), position.offset)));
        }
        Ok(())
    }

    fn source_incident(&mut self, source: &str, incident: Option<Incident>) {
        assert_eq!(source, "s");
        self.engine.lock().source_incident = incident;
    }

    fn durable_positions(&self) -> Vec<(Slot, Position)> {
        let engine = self.engine.lock();
        let slots = engine.attached.iter().zip(0u32..);
        slots.filter_map(|(key, slot)| Some((Slot(slot), *engine.state.get(key)?))).collect()
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// Brokers that do not tell topic ids, with the ids that the test tells.
struct Ids {
    brokers: Brokers,
    ids: Arc<Mutex<HashMap<String, TopicId>>>,
    world: Arc<Mutex<World>>,
}

/// What else the test tells.
struct World {
    /// The cluster's id.
    cluster: String,
    /// Topics that are not there.
    gone: Vec<String>,
    /// The partitions that each topic has at most.
    partitions: usize,
}

impl Default for World {
    fn default() -> Self {
        Self { cluster: "cluster".to_owned(), gone: Vec::new(), partitions: usize::MAX }
    }
}

impl Cluster for Ids {
    fn id(&mut self, _limit: Duration) -> Result<String, ClientError> {
        Ok(self.world.lock().cluster.clone())
    }

    fn topics(&mut self, limit: Duration) -> Result<Vec<String>, ClientError> {
        let mut topics = self.brokers.topics(limit)?;
        topics.retain(|name| !self.world.lock().gone.contains(name));
        Ok(topics)
    }

    fn describe(&mut self, names: &[&str], limit: Duration) -> Result<Vec<TopicDescription>, ClientError> {
        let mut topics = self.brokers.describe(names, limit)?;
        let ids = self.ids.lock();
        for topic in &mut topics {
            topic.id = ids.get(&topic.name).copied().unwrap_or_default();
            topic.partitions.truncate(self.world.lock().partitions);
            if self.world.lock().gone.contains(&topic.name) {
                topic.partitions.clear();
                topic.error = Some(ClientError { code: crate::ext::code::UNKNOWN_TOPIC_OR_PART, text: "gone".to_owned() });
            }
        }
        Ok(topics)
    }

    fn offsets(
        &mut self,
        asked: &[(&str, i32, OffsetSpec)],
        isolation: Isolation,
        limit: Duration,
    ) -> Result<Vec<OffsetAnswer>, ClientError> {
        self.brokers.offsets(asked, isolation, limit)
    }

    fn commit(&mut self, commits: &[GroupCommit], limit: Duration) -> Result<(), ClientError> {
        self.brokers.commit(commits, limit)
    }

    fn errors(&mut self) -> Vec<ClientError> {
        self.brokers.errors()
    }
}

/// A mock cluster, a fake engine, and at most one running Kafka side.
struct House {
    mock: MockKafka,
    engine: Arc<Mutex<Engine>>,
    board: Arc<SourceBoard>,
    ids: Arc<Mutex<HashMap<String, TopicId>>>,
    world: Arc<Mutex<World>>,
    source: KafkaSource,
    running: Option<KafkaHandle>,
}

impl House {
    fn new(topics: &[(&str, i32)]) -> Self {
        let mock = MockKafka::start(topics).unwrap();
        let names = topics.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut source = KafkaSource::new("s", "E", vec![mock.bootstrap().to_owned()], Topics::Named(names));
        source.topic_ids = false;
        Self { mock, engine: Arc::default(), board: Arc::default(), ids: Arc::default(), world: Arc::default(), source, running: None }
    }

    fn start(&mut self) {
        let stored: Vec<StoredPosition> =
            self.engine.lock().state.iter().map(|(key, position)| StoredPosition { key: key.clone(), position: *position }).collect();
        self.engine.lock().attached.clear();
        self.board = Arc::default();
        let (engine, board, ids, world) = (self.engine.clone(), self.board.clone(), self.ids.clone(), self.world.clone());
        let mut inlet = |_source: &KafkaSource| -> Box<dyn Inlet> {
            Box::new(FakeInlet { engine: engine.clone(), board: board.clone(), stopping: Arc::default() })
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut cluster = |source: &KafkaSource, options: &Options| -> Result<Box<dyn Cluster>, ClientError> {
            let brokers = Brokers::new(&settings::control(source, &options.instance), false)?;
            Ok(Box::new(Ids { brokers, ids: ids.clone(), world: world.clone() }))
        };
        let options = Options { instance: "test".into(), ..Options::default() };
        let handle = start_with(vec![self.source.clone()], &stored, &options, &mut inlet, &self.board, &clock, &mut cluster);
        self.running = Some(handle.unwrap());
    }

    fn stop(&mut self) {
        assert!(self.running.take().unwrap().stop(Duration::from_secs(20)), "threads did not end");
    }

    /// Sends values `first..end` to one partition.
    fn produce(&self, topic: &str, partition: i32, values: std::ops::Range<i64>) {
        let mut producer = Producer::new(self.mock.bootstrap(), &[]).unwrap();
        for value in values {
            producer
                .send(topic, Some(partition), None, Some(value.to_string().as_bytes()), Some(1000 + value), &[("h", Some(b"x"))])
                .unwrap();
        }
        producer.flush(LIMIT).unwrap();
    }

    /// Waits for a condition on the engine.
    fn until(&self, what: &str, condition: impl Fn(&Engine) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !condition(&self.engine.lock()) {
            if Instant::now() > deadline {
                let engine = self.engine.lock();
                panic!(
                    "{what}: {} seen, {:?}, incidents {:?}, notes {:?}",
                    engine.seen.len(),
                    engine.state,
                    engine.incidents,
                    self.board.notes()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A house whose only partition stands at an offset that its log no longer has.
    fn overtaken() -> Self {
        Self::overtaken_with(|_engine| {})
    }

    /// The same, with something done to the engine before it starts again.
    fn overtaken_with(change: impl FnOnce(&mut Engine)) -> Self {
        let mut house = Self::new(&[("t", 1)]);
        house.produce("t", 0, 0..10);
        house.start();
        house.until("all", |engine| engine.seen.len() == 10);
        house.stop();
        // The mock keeps 5 MiB per partition.
        let mut producer = Producer::new(house.mock.bootstrap(), &[]).unwrap();
        let value = vec![b'x'; 100_000];
        for _ in 0..80 {
            producer.send("t", Some(0), None, Some(&value), None, &[]).unwrap();
        }
        producer.flush(LIMIT).unwrap();
        change(&mut house.engine.lock());
        house.start();
        house.until("the incident", |_engine| house.open_incident().is_some());
        house
    }

    /// Asks for a decision as an operator does.
    fn decide(&self, place: &str, decision: Decision, dry_run: bool) -> Result<Vec<Effect>, ApiError> {
        let (reply, replies) = std::sync::mpsc::sync_channel(1);
        let deadline = Instant::now() + LIMIT;
        self.board.decide(DecisionRequest { place: Place::parse(place).unwrap(), decision, dry_run, deadline, reply });
        replies.recv_timeout(LIMIT).unwrap()
    }

    /// Learns a topic's id as a client learns it, from the log line that the fence reads.
    fn learn_id(&self, topic: &str) -> TopicId {
        let budget = settings::Budget::share(64 << 20, 1, 1);
        let client = Client::new(&settings::reader(&self.source, "probe", budget), Arc::new(Inbox::default())).unwrap();
        client.assign(&[Assignment { topic, partition: 0, offset: 0, epoch: -1 }]).unwrap();
        let deadline = Instant::now() + LIMIT;
        loop {
            client.drain(&mut Batch::new(), Duration::from_millis(20));
            if let Some(change) = client.inbox().take_changes().into_iter().find(|change| change.topic == topic) {
                self.ids.lock().insert(topic.to_owned(), change.to);
                return change.to;
            }
            assert!(Instant::now() < deadline, "no id");
        }
    }

    fn offsets(&self, topic: &str, partition: i32) -> Vec<i64> {
        let engine = self.engine.lock();
        engine.seen.iter().filter(|seen| seen.topic == topic && seen.partition == partition).map(|seen| seen.offset).collect()
    }

    fn open_incident(&self) -> Option<Incident> {
        self.board.partitions().iter().find_map(|gauge| gauge.incident())
    }
}
