//! The ingest loop with a control thread that the test plays: answers come in the order that the test wants.

use super::{Engine, FakeInlet, LIMIT, Producer};
use crate::MockKafka;
use crate::config::{KafkaSource, Topics};
use crate::control::{Answer, Discovered, Job, Located, LocatedAll};
use crate::examine::Verdict;
use crate::ext::{Client, ClientError, Inbox, TopicDescription, code};
use crate::ingest::{Ingest, Parts};
use crate::settings;
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::counters::SourceCounters;
use streamgauge_api::decision::{BeginAt, Decision, DecisionRequest, Place};
use streamgauge_api::source::{Incident, IncidentKind, SourceBoard};
use streamgauge_api::{PartitionKey, Position, StoredPosition, SystemClock, TopicId};

const NOW: TopicId = TopicId([1; 16]);

/// One source of topic `t` with two partitions; its position of partition 0 is of a time when brokers told no ids.
struct Play {
    mock: MockKafka,
    engine: Arc<Mutex<Engine>>,
    board: Arc<SourceBoard>,
    counters: Arc<SourceCounters>,
    jobs: Receiver<Job>,
    answers: Sender<Answer>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Play {
    fn begin(position: Position, open: Option<Incident>) -> Self {
        let mock = MockKafka::start(&[("t", 2)]).unwrap();
        let source = KafkaSource::new("s", "E", vec![mock.bootstrap().to_owned()], Topics::Named(vec!["t".into()]));
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
        let (engine, board): (Arc<Mutex<Engine>>, Arc<SourceBoard>) = Default::default();
        engine.lock().state.insert(key.clone(), position);
        engine.lock().open.extend(open.map(|open| (key.clone(), open)));
        let reader = settings::reader(&source, "test", settings::Budget::share(64 << 20, 1, 1));
        let (asking, jobs) = unbounded();
        let (answers, heard) = unbounded();
        let (stop, counters): (Arc<AtomicBool>, Arc<SourceCounters>) = Default::default();
        let parts = Parts {
            source,
            stored: vec![StoredPosition { key, position }],
            forgotten: std::collections::BTreeSet::new(),
            rivals: false,
            inlet: Box::new(FakeInlet { engine: engine.clone(), board: board.clone(), stopping: Arc::default() }),
            client: Client::new(&reader, Arc::new(Inbox::default())).unwrap(),
            reader,
            jobs: asking,
            answers: heard,
            registry: None,
            board: board.clone(),
            clock: Arc::new(SystemClock),
            counters: counters.clone(),
            stop_reading: stop.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::spawn(move || Ingest::new(parts).run());
        Self { mock, engine, board, counters, jobs, answers, stop, thread }
    }

    /// The next job of this kind; others are left unanswered.
    fn job<T>(&self, what: &str, wanted: impl Fn(Job) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            let job = self.jobs.recv_deadline(deadline).unwrap_or_else(|gone| panic!("{what}: {gone}"));
            if let Some(found) = wanted(job) {
                return found;
            }
        }
    }

    /// The round of the next questions about this partition, with their number for it.
    fn examine(&self, partition: i32) -> (u64, usize) {
        self.job("questions before an assign", |job| match job {
            Job::Examine(round, asked) => asked.iter().find(|asked| asked.partition == partition).map(|asked| (round, asked.track)),
            _ => None,
        })
    }

    fn answer(&self, answer: Answer) {
        self.answers.send(answer).unwrap();
    }

    fn discovered(&self) -> Answer {
        let partitions = vec![(0, Some(1)), (1, Some(1))];
        let topic = TopicDescription { name: "t".into(), id: NOW, partitions, error: None };
        Answer::Discovered(Ok(Discovered { cluster: "c".into(), topics: vec![topic], missing: Vec::new() }))
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.answers);
        self.thread.join().expect("the loop ends in order");
    }
}

fn regressed() -> Incident {
    Incident {
        kind: IncidentKind::Regressed,
        resume_offset: Some(0),
        ..crate::incidents::source_stalled(crate::incidents::Cause::Unknown, "", 0)
    }
}

/// Attached by both, which ended the process.
#[test]
fn a_partition_that_a_discovery_and_a_decision_find_is_attached_once() {
    let play = Play::begin(Position::start(50), Some(regressed()));
    play.job("a discovery", |job| matches!(job, Job::Discover).then_some(()));
    let (reply, replies) = std::sync::mpsc::sync_channel(1);
    let (place, decision) = (Place::parse("s/t/0").unwrap(), Decision::Begin(BeginAt::Earliest));
    play.board.decide(DecisionRequest { place, decision, dry_run: false, deadline: Instant::now() + LIMIT, reply });
    let round = play.job("the decision", |job| if let Job::Locate(round, ..) = job { Some(round) } else { None });
    play.answer(play.discovered());
    let starts = play.job("starts", |job| if let Job::Resolve(starts) = job { Some(starts) } else { None });
    assert_eq!(starts.iter().map(|(_, number, _)| *number).collect::<Vec<_>>(), [1]);
    let at = |number| (("t".to_owned(), number), Some(Located { topic_id: NOW, low: 0, end: 9, start: 0 }));
    let partitions = [("t".to_owned(), vec![0, 1])].into();
    play.answer(Answer::Located(round, Ok(LocatedAll { cluster: "c".into(), places: [at(0), at(1)].into(), partitions })));
    let done = replies.recv_timeout(LIMIT).unwrap().unwrap();
    assert_eq!(done.iter().map(|effect| effect.id.as_str()).collect::<Vec<_>>(), ["s/t/0", "s/t/1"]);
    play.examine(1);
    play.answer(Answer::Resolved(vec![("t".to_owned(), 1, Ok(0))]));
    play.job("it goes on", |job| matches!(job, Job::Discover | Job::Ends(_) | Job::Ids(..)).then_some(()));
    assert_eq!(play.board.partitions().len(), 2);
    assert_eq!(play.engine.lock().attached.len(), 2);
    play.end();
}

/// It was assigned to a client whose answers nobody heard.
#[test]
fn a_probe_waits_while_everything_is_unassigned() {
    let play = Play::begin(Position { epoch: 3, after: 50, ..Position::start(50) }, None);
    play.job("a discovery", |job| matches!(job, Job::Discover).then_some(()));
    play.answer(play.discovered());
    let (round, track) = play.examine(0);
    play.answer(Answer::Resolved(vec![("t".to_owned(), 1, Ok(0))]));
    let (other, its) = play.examine(1);
    play.engine.lock().room = Some(0);
    let mut producer = Producer::new(play.mock.bootstrap(), &[]).unwrap();
    producer.send("t", Some(1), None, Some(b"1"), None, &[]).unwrap();
    producer.flush(LIMIT).unwrap();
    play.answer(Answer::Examined(other, vec![(its, Verdict::Assign { offset: 0, epoch: -1, low: 0, end: 1 })]));
    let deadline = Instant::now() + LIMIT;
    while play.counters.back_pressures.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < deadline, "the inlet is full");
        std::thread::sleep(Duration::from_millis(5));
    }
    play.answer(Answer::Examined(round, vec![(track, Verdict::Regressed { low: 0, end: 20, to: 20, epoch: 4 })]));
    // Heard while there is no room: what is held is asked about for ends.
    play.job("it is held", |job| match job {
        Job::Ends(places) => places.contains(&("t".to_owned(), 0)).then_some(()),
        _ => None,
    });
    play.engine.lock().room = None;
    play.examine(0);
    play.end();
}

/// Also when it is asked about again, by questions that name no cluster.
#[test]
fn a_topic_that_another_cluster_lacks_is_told_with_that_cluster() {
    let play = Play::begin(Position::start(50), None);
    play.job("a discovery", |job| matches!(job, Job::Discover).then_some(()));
    let missing = vec![("t".to_owned(), ClientError { code: code::UNKNOWN_TOPIC_OR_PART, text: "no such topic".to_owned() })];
    play.answer(Answer::Discovered(Ok(Discovered { cluster: "d".into(), topics: Vec::new(), missing })));
    for text in ["no such topic", "gone"] {
        let (round, track) = play.examine(0);
        let incident = play.board.partitions()[0].incident().unwrap();
        let told = "cluster id was \"c\", is \"d\"; ";
        assert!(incident.evidence.contains(told) && incident.evidence.contains(text), "{incident:?}");
        assert_eq!(incident.actions, ["`brokers` names another cluster: correct it and restart; reading goes on where it stood"]);
        play.answer(Answer::Examined(round, vec![(track, Verdict::TopicMissing("gone".to_owned()))]));
    }
    play.end();
}

/// What the client was refused while the log's start moved was taken for brokers that know no epochs: reading went on at the
/// log's end, and what others had written since the cut was in no table.
#[test]
fn a_probe_that_the_logs_start_overtook_is_made_again() {
    let play = Play::begin(Position { epoch: 3, after: 500, ..Position::start(500) }, None);
    let mut producer = Producer::new(play.mock.bootstrap(), &[]).unwrap();
    // The mock keeps 5 MiB per partition.
    let value = vec![b'x'; 100_000];
    for _ in 0..80 {
        producer.send("t", Some(0), None, Some(&value), None, &[]).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    play.job("a discovery", |job| matches!(job, Job::Discover).then_some(()));
    play.answer(play.discovered());
    let (round, track) = play.examine(0);
    // By now the log begins behind this.
    play.answer(Answer::Examined(round, vec![(track, Verdict::Regressed { low: 0, end: 80, to: 80, epoch: 4 })]));
    let (round, track) = play.examine(0);
    play.answer(Answer::Examined(round, vec![(track, Verdict::Regressed { low: 79, end: 80, to: 80, epoch: 4 })]));
    // What the client found there is what the next questions are asked with.
    let (round, track) = play.examine(0);
    play.answer(Answer::Examined(round, vec![(track, Verdict::Regressed { low: 79, end: 80, to: 80, epoch: 4 })]));
    let deadline = Instant::now() + LIMIT;
    while play.board.partitions()[0].incident().is_none() {
        assert!(Instant::now() < deadline, "the log ends in front of what was read");
        std::thread::sleep(Duration::from_millis(5));
    }
    play.end();
}

/// Aborted records are never delivered and move no position: a long stretch of them was given up again and again.
#[test]
fn a_partition_whose_client_fetches_on_is_read() {
    let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: NOW, partition: 0 };
    let begun = Instant::now();
    let mut track = crate::track::Track::new(key, streamgauge_api::Slot(0), None, Position::start(7), begun);
    let later = |seconds| begun + Duration::from_secs(seconds);
    // The first number may be of an assignment before.
    track.fetches(-1, later(1));
    track.fetches(7, later(2));
    track.fetches(7, later(3));
    assert_eq!(track.moved, begun);
    track.fetches(900, later(15));
    assert_eq!((track.moved, track.end_known, track.position.offset), (later(15), Some(later(15)), 7));
}
