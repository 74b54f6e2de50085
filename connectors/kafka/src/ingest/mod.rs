//! The ingest loop of one source: one thread, one reader client, one inlet.
//!
//! Invariants: a record's offset is behind us only once the inlet took it; nothing is paused, a partition that must wait is unassigned and assigned again
//! at our own (offset, epoch) pair, after the questions of [`crate::examine`]; an incident stops its partition only; every wait is bounded.
//!
//! `mod` holds the loop, [`client`] makes the reader anew, [`decide`] carries out what operators decided, [`read`] drains and offers, [`tell`] says how the source stands, [`verdict`] carries out what the control thread found, [`watch`] looks after liveness, ids, statistics
//! and commits. Decoding happens inside the inlet, on this thread. Deliberately absent: blocking calls to brokers or registry (the control and registry
//! threads make them), and any action on a log that has moved.

mod client;
mod decide;
pub(crate) mod read;
mod tell;
mod verdict;
mod watch;

use crate::config::KafkaSource;
use crate::control::{Answer, Discovered, Job, StartAt};
use crate::examine::Question;
use crate::ext::{Batch, Client, ClientError};
use crate::incidents::Cause;
use crate::placement::{Known, Placement, place};
use crate::registry::{Registry, Reply};
use crate::track::{Phase, Track};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use streamgauge_api::counters::SourceCounters;
use streamgauge_api::inlet::ReadBefore;
use streamgauge_api::source::{Incident, IncidentKind, SourceBoard};
use streamgauge_api::{ApiError, Clock, Inlet, PartitionKey, Position, Slot, StoredPosition};

/// How often the cluster's topics are looked at.
const DISCOVER_EVERY: Duration = Duration::from_secs(10);
/// The same while nothing was found yet, or a named topic is missing.
const DISCOVER_SOON: Duration = Duration::from_secs(1);
/// Without a word of a broker for this long the source says so.
const AWAY_AFTER: Duration = Duration::from_secs(4);
/// How long the reader may take to connect before the loop begins; it goes on connecting meanwhile.
const GREET_LIMIT: Duration = Duration::from_secs(2);
/// How long a drain, or the inlet, is waited for at a time.
const STEP: Duration = Duration::from_millis(50);

/// What the loop is made of; filled by `start`.
pub struct Parts {
    /// The source.
    pub source: KafkaSource,
    /// All positions of the state.
    pub stored: Vec<StoredPosition>,
    /// Topics, with their clusters, of which an operator gave partitions up.
    pub forgotten: BTreeSet<(String, String)>,
    /// Whether another source with other brokers feeds the same event.
    pub rivals: bool,
    /// The engine's door.
    pub inlet: Box<dyn Inlet>,
    /// The reader.
    pub client: Client,
    /// Its settings.
    pub reader: Vec<(String, String)>,
    /// The control thread.
    pub jobs: Sender<Job>,
    /// Its answers.
    pub answers: Receiver<Answer>,
    /// The registry thread, when the source has a registry.
    pub registry: Option<Registry>,
    /// Where partitions are shown.
    pub board: Arc<SourceBoard>,
    /// Wall clock, for stamps that people read.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub counters: Arc<SourceCounters>,
    /// Set: read no more.
    pub stop_reading: Arc<AtomicBool>,
    /// Set: commit and end.
    pub stop: Arc<AtomicBool>,
}

/// The loop's state.
pub struct Ingest {
    source: KafkaSource,
    stored: Vec<StoredPosition>,
    forgotten: BTreeSet<(String, String)>,
    rivals: bool,
    inlet: Box<dyn Inlet>,
    client: Client,
    reader: client::Reader,
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    registry: Option<Registry>,
    replies: (Sender<Reply>, Receiver<Reply>),
    board: Arc<SourceBoard>,
    clock: Arc<dyn Clock>,
    counters: Arc<SourceCounters>,
    stop_reading: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,

    tracks: Vec<Track>,
    /// Topic, partition number -> index into `tracks`.
    places: HashMap<String, HashMap<i32, usize>>,
    /// Partitions whose start is being resolved.
    beginning: Vec<Beginning>,
    batch: Option<Batch>,
    /// First message of the batch that is not dealt with.
    cursor: usize,
    /// Number of the current batch.
    drain: u64,
    /// Since when the inlet is full.
    full_since: Option<Instant>,
    /// Everything is unassigned because the inlet was full for too long.
    pressed: bool,
    round: u64,
    timers: watch::Timers,
    looked_before: bool,
    /// Id of the cluster that answered last.
    cluster: Option<String>,
    /// When a drain last found the client's queue empty.
    empty_at: Instant,
    note: (String, String),
    found: tell::Found,
    /// Whether the source has an incident of its own.
    in_trouble: bool,
    /// Since when no broker answers a discovery.
    unanswered: Option<Instant>,
    /// When records last came, or waited for room.
    busy_at: Instant,
    connection_error: Option<(Instant, ClientError)>,
    /// Operators' decisions that wait for the brokers' answers.
    asked: Vec<decide::Asked>,
}

/// A partition whose start is being resolved.
#[derive(Debug, Clone)]
struct Beginning {
    key: PartitionKey,
    at: StartAt,
    grew_from: usize,
}

impl Ingest {
    /// Ties the parts together.
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            source: parts.source,
            stored: parts.stored,
            forgotten: parts.forgotten,
            rivals: parts.rivals,
            inlet: parts.inlet,
            client: parts.client,
            reader: client::Reader::new(parts.reader),
            jobs: parts.jobs,
            answers: parts.answers,
            registry: parts.registry,
            replies: unbounded(),
            board: parts.board,
            clock: parts.clock,
            counters: parts.counters,
            stop_reading: parts.stop_reading,
            stop: parts.stop,
            tracks: Vec::new(),
            places: HashMap::new(),
            beginning: Vec::new(),
            batch: Some(Batch::new()),
            cursor: 0,
            drain: 0,
            full_since: None,
            pressed: false,
            round: 0,
            timers: watch::Timers::new(now),
            looked_before: false,
            cluster: None,
            empty_at: now,
            note: Default::default(),
            found: tell::Found::default(),
            in_trouble: false,
            unanswered: Some(now),
            busy_at: now,
            connection_error: None,
            asked: Vec::new(),
        }
    }

    /// Runs until stopped, then commits a last time.
    pub fn run(mut self) {
        self.say("connecting", "asking the brokers for the cluster and its topics");
        self.attach_stored();
        self.keep_time();
        if let Err(error) = self.client.greet(GREET_LIMIT) {
            tracing::debug!(source = %self.source.name, "not connected yet: {error}");
        }
        while !self.ending() {
            self.hear_control();
            self.hear_registry();
            self.hear_operator();
            self.keep_time();
            self.read();
        }
        self.finish();
    }

    fn ending(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.stop_reading.load(Ordering::Acquire) || self.inlet.stopping()
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    /// Shows partitions that the state knows before the cluster answers, so that their staleness is visible while it does not. Not where a second cluster
    /// or a second id makes it unclear whose position it is.
    fn attach_stored(&mut self) {
        if self.rivals {
            return;
        }
        let ours: Vec<StoredPosition> = self
            .stored
            .iter()
            .filter(|stored| stored.key.event == self.source.event && self.source.topics.selects(&stored.key.topic))
            .cloned()
            .collect();
        for stored in &ours {
            let same_place = |other: &&StoredPosition| other.key.topic == stored.key.topic && other.key.partition == stored.key.partition;
            if ours.iter().filter(same_place).count() == 1 {
                self.attach(&stored.key, stored.position);
            }
        }
    }

    /// Makes a partition known to the engine and to this loop.
    fn attach(&mut self, key: &PartitionKey, start: Position) -> Option<usize> {
        self.try_attach(key, start).map_err(|error| self.refused(key, &error)).ok()
    }

    fn try_attach(&mut self, key: &PartitionKey, start: Position) -> Result<usize, ApiError> {
        let (slot, position) = self.inlet.attach(&self.source.name, key, start)?;
        let gauge = self.board.get(slot.0);
        let mut track = Track::new(key.clone(), slot, gauge, position, Instant::now());
        // An incident that nobody has answered outlives a restart.
        let open = track.gauge.as_ref().and_then(|gauge| gauge.incident());
        if let Some(incident) = open {
            track.incident = Some((incident.kind, Cause::parse(&incident.cause)));
            track.inherited = true;
            if incident.kind.stops() && incident.kind != IncidentKind::Stalled {
                track.phase = Phase::Stopped;
            }
        }
        // A forgotten partition that comes back has its slot again, and one slot has one track.
        let index = self.track_of(slot).unwrap_or(self.tracks.len());
        match self.tracks.get_mut(index) {
            Some(known) => {
                assert_eq!(known.phase, Phase::Forgotten, "slot {} of {key:?} is attached twice", slot.0);
                *known = track;
            }
            None => self.tracks.push(track),
        }
        self.places.entry(key.topic.clone()).or_default().insert(key.partition, index);
        Ok(index)
    }

    fn refused(&mut self, key: &PartitionKey, error: &ApiError) {
        tracing::error!(source = %self.source.name, topic = %key.topic, partition = key.partition, code = %error.code, "cannot read partition: {error}");
        self.found.refused = Some(format!("{}/{}: {error}", key.topic, key.partition));
    }

    /// Hears the control thread.
    fn hear_control(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Discovered(found) => self.discovered(found),
                Answer::Resolved(resolved) => self.resolved(resolved),
                Answer::Examined(round, verdicts) => self.examined(round, verdicts),
                Answer::Ids(round, topics) => self.ids_checked(round, topics),
                Answer::Ends(ends) => self.ends_known(&ends),
                Answer::Located(round, found) => self.located(round, found),
                Answer::Committed(result) => self.committed(&result),
                Answer::Troubles(errors) => self.connection_errors(errors),
            }
        }
    }

    fn discovered(&mut self, found: Result<Discovered, ClientError>) {
        let now = Instant::now();
        self.timers.discovering = false;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.timers.discover = now + DISCOVER_SOON;
                self.unanswered.get_or_insert(now);
                tracing::debug!(source = %self.source.name, "no answer to a discovery: {error}");
                return;
            }
        };
        self.unanswered = None;
        self.found.refused = None;
        let complete = found.missing.is_empty() && !found.topics.is_empty();
        self.timers.discover = now + if complete { DISCOVER_EVERY } else { DISCOVER_SOON * 5 };
        let attached: Vec<PartitionKey> = self
            .tracks
            .iter()
            .filter(|track| track.phase != Phase::Forgotten)
            .map(|track| track.key.clone())
            .chain(self.beginning.iter().map(|begin| begin.key.clone()))
            .collect();
        let known = Known {
            event: &self.source.event,
            topics: &self.source.topics,
            start: self.source.start,
            stored: &self.stored,
            forgotten: &self.forgotten,
            rivals: self.rivals,
            attached: &attached,
            looked_before: self.looked_before,
        };
        let placements = place(&known, &found);
        self.looked_before = true;
        self.cluster = Some(found.cluster.clone());
        let mut ask = Vec::new();
        for placement in placements {
            match placement {
                Placement::Resume(stored) => ask.extend(self.attach(&stored.key, stored.position)),
                Placement::Recreated { stored, now } => {
                    if let Some(index) = self.attach(&stored.key, stored.position) {
                        let elsewhere = stored.key.cluster != found.cluster;
                        self.recreated(index, now, &seen_at_start(&stored.key.cluster, &found.cluster), elsewhere);
                    }
                }
                Placement::Begin { key, at, grew_from } => self.beginning.push(Beginning { key, at, grew_from }),
            }
        }
        self.own_again(&found);
        self.meet(&found, &mut ask);
        self.ask(&ask);
        self.resolve_starts();
        self.found(&found);
        self.tell();
    }

    /// An earlier process met another topic under a partition's name, and its own has it again: `brokers` named another
    /// cluster meanwhile. Nothing of that was read, so reading goes on where it stood.
    fn own_again(&mut self, found: &Discovered) {
        for index in 0..self.tracks.len() {
            let track = &self.tracks[index];
            let is_recreated = track.incident.is_some_and(|(kind, _)| kind == IncidentKind::Recreated);
            if !(track.inherited && is_recreated && track.resumes_at().is_some() && found.is_own(&track.key)) {
                continue;
            }
            assert_eq!(track.phase, Phase::Stopped, "another topic stops a partition");
            self.close(index);
            self.tracks[index].phase = Phase::Unseen;
        }
    }

    /// Partitions meet the topic that has their name now: those of the state when they are first seen, and all when another
    /// cluster answers.
    fn meet(&mut self, found: &Discovered, ask: &mut Vec<usize>) {
        for index in 0..self.tracks.len() {
            let track = &self.tracks[index];
            let elsewhere = track.key.cluster != found.cluster;
            if track.stopped() || ask.contains(&index) || (track.phase != Phase::Unseen && !elsewhere) {
                continue;
            }
            let name = &track.key.topic;
            if let Some(topic) = found.topics.iter().find(|topic| topic.name == *name) {
                let another = track.key.topic_id.is_known() && topic.id.is_known() && track.key.topic_id != topic.id;
                if another || elsewhere {
                    let evidence = seen_at_start(&track.key.cluster, &found.cluster);
                    self.recreated(index, topic.id, &evidence, elsewhere);
                } else {
                    ask.push(index);
                }
            } else if let Some((_, error)) = found.missing.iter().find(|(missing, _)| missing == name) {
                let text = error.to_string();
                self.wait(index, Cause::TopicMissing, &text);
            } else {
                // A pattern finds no topic that is gone: this one is asked about by its name.
                ask.push(index);
            }
        }
    }

    fn resolve_starts(&mut self) {
        if self.beginning.is_empty() || self.timers.resolving {
            return;
        }
        let starts = self.beginning.iter().map(|begin| (begin.key.topic.clone(), begin.key.partition, begin.at)).collect();
        self.timers.resolving = true;
        self.send(Job::Resolve(starts));
    }

    fn resolved(&mut self, resolved: Vec<crate::control::Resolved>) {
        self.timers.resolving = false;
        self.timers.resolve = Instant::now() + DISCOVER_SOON;
        let mut ask = Vec::new();
        for (topic, partition, offset) in resolved {
            let Some(at) = self.beginning.iter().position(|begin| begin.key.topic == topic && begin.key.partition == partition) else {
                continue;
            };
            match offset {
                Ok(offset) => {
                    let begin = self.beginning.swap_remove(at);
                    if self.index_of(&topic, partition).is_some() {
                        continue;
                    }
                    ask.extend(self.begin(&begin, offset.max(0)));
                }
                // A partition made a moment ago has no leader yet: asked again.
                Err(error) => tracing::debug!(source = %self.source.name, topic, partition, "no start yet: {error}"),
            }
        }
        self.ask(&ask);
        self.tell();
    }

    fn begin(&mut self, begin: &Beginning, offset: i64) -> Option<usize> {
        let (topic, partition) = (&begin.key.topic, begin.key.partition);
        if begin.at == StartAt::LogStart && offset > 0 {
            tracing::warn!(source = %self.source.name, topic, partition, offset, "new partition starts at its log start: offsets before it are deleted already");
        } else {
            tracing::info!(source = %self.source.name, topic, partition, offset, start = ?begin.at, "new partition");
        }
        let index = self.attach(&begin.key, Position::start(offset))?;
        if begin.grew_from > 0 {
            let count = self.places.get(topic).map_or(0, HashMap::len).max(begin.grew_from + 1);
            let incident = crate::incidents::partitions_grew(&self.tracks[index], begin.grew_from, count, self.now_us());
            self.open(index, incident, Cause::Unknown);
        }
        Some(index)
    }

    /// Asks the questions before an assign. Whatever was assigned is unassigned first.
    fn ask(&mut self, indexes: &[usize]) {
        let asked: Vec<usize> = indexes.iter().copied().filter(|index| !self.tracks[*index].stopped()).collect();
        if asked.is_empty() {
            return;
        }
        self.unassign(&asked);
        self.round += 1;
        let (round, asked_us) = (self.round, self.now_us());
        let questions = asked
            .into_iter()
            .map(|index| {
                let before = self.read_before(index);
                let track = &mut self.tracks[index];
                track.phase = Phase::Asking { round };
                track.asked_us = asked_us;
                Question::new(index, &track.key, track.position, before.as_ref())
            })
            .collect();
        self.send(Job::Examine(round, questions));
    }

    /// What was read of a partition before, beyond where it is read again now; none where all of it is done or in memory.
    fn read_before(&self, index: usize) -> Option<ReadBefore> {
        let track = &self.tracks[index];
        let before = self.inlet.read_before(track.slot)?;
        (before.reached.offset > track.position.offset).then_some(before)
    }

    /// How far a partition was read, with the pair of its last record.
    fn read_to(&self, index: usize) -> Position {
        self.read_before(index).map_or(self.tracks[index].position, |before| before.reached)
    }

    fn send(&self, job: Job) {
        // The control thread ends only after this one.
        let _gone = self.jobs.send(job).is_err();
    }

    /// Takes partitions from the client; their queued records are discarded and come again.
    fn unassign(&mut self, indexes: &[usize]) {
        let held: Vec<usize> = indexes.iter().copied().filter(|index| self.tracks[*index].assigned).collect();
        if held.is_empty() {
            return;
        }
        let places: Vec<(&str, i32)> =
            held.iter().map(|index| (self.tracks[*index].key.topic.as_str(), self.tracks[*index].key.partition)).collect();
        if let Err(error) = self.client.unassign(&places) {
            tracing::warn!(source = %self.source.name, "unassign: {error}");
        }
        for index in held {
            let track = &mut self.tracks[index];
            track.assigned = false;
            track.next = track.position.offset;
            if let Some(gauge) = &track.gauge {
                gauge.reading.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Opens an incident, or refreshes the one that is open.
    fn open(&mut self, index: usize, incident: Incident, cause: Cause) {
        let track = &mut self.tracks[index];
        let fresh = track.incident != Some((incident.kind, cause));
        track.inherited &= !fresh;
        track.incident = Some((incident.kind, cause));
        if fresh {
            tracing::warn!(
                source = %self.source.name, topic = %track.key.topic, partition = track.key.partition, kind = incident.kind.as_str(), cause = %incident.cause,
                "incident: {}; lost: {}", incident.evidence, incident.lost
            );
        }
        let slot = track.slot;
        if let Some(gauge) = &track.gauge
            && let Ok(mut shown) = gauge.incident.write()
        {
            let opened_us = shown.as_ref().filter(|_open| !fresh).map_or(incident.opened_us, |open| open.opened_us);
            *shown = Some(Incident { opened_us, ..incident.clone() });
        }
        if fresh {
            self.inlet.incident_opened(slot, &incident);
        }
    }

    /// Closes whatever is open.
    fn close(&mut self, index: usize) {
        let track = &mut self.tracks[index];
        let Some((kind, cause)) = track.incident.take() else { return };
        track.inherited = false;
        tracing::info!(
            source = %self.source.name, topic = %track.key.topic, partition = track.key.partition, kind = kind.as_str(), cause = cause.as_str(), "incident closed"
        );
        if let Some(gauge) = &track.gauge
            && let Ok(mut shown) = gauge.incident.write()
        {
            *shown = None;
        }
        let slot = track.slot;
        self.inlet.incident_closed(slot);
    }

    fn track_of(&self, slot: Slot) -> Option<usize> {
        self.tracks.iter().position(|track| track.slot == slot)
    }

    fn index_of(&self, topic: &str, partition: i32) -> Option<usize> {
        self.places.get(topic)?.get(&partition).copied()
    }

    /// Hands over what was collected, commits what is durable, gives the client back.
    fn finish(mut self) {
        self.inlet.flush();
        let all: Vec<usize> = (0..self.tracks.len()).collect();
        self.unassign(&all);
        // The engine makes the last rows durable between the two flags.
        let limit = Instant::now() + watch::LAST_COMMIT_WAIT;
        while !self.stop.load(Ordering::Acquire) && Instant::now() < limit {
            std::thread::sleep(STEP / 5);
        }
        self.commit_last();
        self.say("stopped", "");
    }
}

/// How another topic was recognised when it was first seen.
fn seen_at_start(cluster: &str, now: &str) -> String {
    match cluster == now {
        true => "seen at start".to_owned(),
        false => format!("cluster id was {cluster:?}, is {now:?}"),
    }
}
