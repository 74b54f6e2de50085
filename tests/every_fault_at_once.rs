//! Everything that may go wrong goes wrong in one run, and every table says exactly what it must.
//!
//! A steady stream with bad records, clocks that are fast and slow, late rows, a busy card and deletes feeds
//! twenty tables under a memory limit that is reached, with a snapshot every 3 s; meanwhile bad records come in
//! floods, the disk is full, the broker is bounced and the process is killed. Pushes go on beside it. At the
//! end: values equal the oracle (`tests/python/mixture.py`), each bad record is listed once and with the right
//! code, acknowledged pushes are counted, nothing waits, and each fault was told where an operator looks.
//!
//! The long form repeats the same acts in a random order for ten minutes. `STREAMGAUGE_SEED` repeats a run.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_testing::mixture::{Ends, Place};
use streamgauge_testing::{Admin, Dice, Frame, LocalKafka, Mixture, Outcome, Raw, Setup, Sidecar, long, unique, wait_for};

const WITHIN: Duration = Duration::from_secs(90);
const PUSH: u16 = 0x0010;

/// Records per second of the stream.
const RATE: u64 = 500;

/// What all tables may hold: more than the stream needs, and reached by a few waves of cards.
const MEMORY_MIB: u64 = 64;

/// Cards of one wave.
const WAVE: u64 = 12_000;

/// More waves than the limit has room for.
const WAVES_MAX: usize = 30;

/// Rejects of one flood: with those of the stream fewer than the 10,000 that are kept between two looks.
const FLOOD: u64 = 2_000;

/// Idle process, Kafka's buffers and the limit with what may come on top of it.
const RSS_MAX_MIB: u64 = 120 + 64 + MEMORY_MIB * 5 / 4;

/// Topics: the stream; floods and bursts; deletes.
struct Topics {
    stream: String,
    bursts: String,
    erasures: String,
}

fn config(bootstrap: &str, topics: &Topics) -> String {
    let mut text = format!(
        "config_version = 1\n[limits]\nmemory = \"{MEMORY_MIB}MiB\"\non_memory_limit = \"pause\"\nkafka_memory = \"64MiB\"\n\
         [durability.snapshot]\nevery = \"3s\"\n[durability.wal]\nsegment = \"4MiB\"\n\
         [events.Step]\nfields = {{ walker = \"str\" }}\n\
         [tables.walkers]\nfrom = \"Step\"\nkey = [\"walker\"]\n[tables.walkers.features]\nn = {{ op = \"count\" }}\n\
         [events.Txn]\ntime = \"record\"\ntombstone = \"delete_key\"\n\
         fields = {{ card = \"str\", merchant = \"str\", country = \"str?\", amount = \"f64\", items = \"i64\" }}\n"
    );
    for (name, topic) in [("stream", &topics.stream), ("bursts", &topics.bursts), ("erasures", &topics.erasures)] {
        write!(
            text,
            "[sources.{name}]\nevent = \"Txn\"\nformat = \"json\"\nfields = {{ card = \"key\" }}\n\
             [sources.{name}.kafka]\nbrokers = [\"{bootstrap}\"]\ntopic = \"{topic}\"\nstart = \"earliest\"\n"
        )
        .unwrap();
    }
    let keys = [
        ("card", "[\"card\"]"),
        ("merchant", "[\"merchant\"]"),
        ("country", "[\"country\"]"),
        ("merchant_country", "[\"merchant\", \"country\"]"),
        ("all", "[]"),
    ];
    for (by, key) in keys {
        for (which, filter) in [("any", ""), ("large", "amount > 500"), ("many", "items >= 5"), ("german", "country == 'de'")] {
            write!(text, "[tables.{by}_{which}]\nfrom = \"Txn\"\nkey = {key}\n").unwrap();
            if !filter.is_empty() {
                writeln!(text, "where = \"{filter}\"").unwrap();
            }
            write!(text, "[tables.{by}_{which}.features]\n{}", features()).unwrap();
        }
    }
    text
}

fn features() -> String {
    let mut text = "n = { op = \"count\" }\ntotal = { op = \"sum\", field = \"amount\" }\nlow = { op = \"min\", field = \"amount\" }\n\
                    high = { op = \"max\", field = \"amount\" }\nlast = { op = \"last\", field = \"items\" }\n\
                    big = { op = \"count\", where = \"amount > 750\" }\n"
        .to_owned();
    for window in ["1m", "1h", "24h"] {
        write!(
            text,
            "n_{window} = {{ op = \"count\", window = \"{window}\" }}\n\
             total_{window} = {{ op = \"sum\", field = \"amount\", window = \"{window}\" }}\n\
             high_{window} = {{ op = \"max\", field = \"amount\", window = \"{window}\" }}\n\
             big_{window} = {{ op = \"count\", where = \"amount > 750\", window = \"{window}\" }}\n"
        )
        .unwrap();
    }
    text
}

/// Pushes one row after the other for as long as the run lasts, and counts what became of them.
struct Pusher {
    address: Arc<Mutex<String>>,
    ended: Arc<AtomicBool>,
    full: Arc<AtomicU64>,
    thread: JoinHandle<Pushed>,
}

#[derive(Debug, Default)]
struct Pushed {
    acknowledged: u64,
    /// The answer was lost with the process: once or not at all.
    unanswered: u64,
    refused: BTreeMap<String, u64>,
}

impl Pusher {
    fn start(sidecar: &Sidecar) -> Self {
        let address = Arc::new(Mutex::new(sidecar.tcp.clone()));
        let (ended, full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (known, over, told) = (Arc::clone(&address), Arc::clone(&ended), Arc::clone(&full));
        let thread = std::thread::spawn(move || {
            let mut pushed = Pushed::default();
            let frame = Frame::json(PUSH, &json!({ "event": "Step", "body": { "walker": "w" } }).to_string()).bytes();
            while !over.load(Ordering::Relaxed) {
                let at = known.lock().unwrap().clone();
                let Ok(mut raw) = Raw::connect(&at) else {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                while !over.load(Ordering::Relaxed) && raw.send(&frame).is_ok() {
                    match raw.frame() {
                        Ok(answer) if answer.op == PUSH => pushed.acknowledged += 1,
                        Ok(answer) => {
                            told.fetch_add(u64::from(answer.code() == "storage_full"), Ordering::Relaxed);
                            *pushed.refused.entry(answer.code()).or_default() += 1;
                        }
                        Err(_) => {
                            pushed.unanswered += 1;
                            break;
                        }
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            pushed
        });
        Self { address, ended, full, thread }
    }

    fn moved(&self, sidecar: &Sidecar) {
        self.address.lock().unwrap().clone_from(&sidecar.tcp);
    }

    fn finish(self) -> Pushed {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

struct Run {
    topics: Topics,
    kafka: LocalKafka,
    setup: Setup,
    // None only while it is being started again.
    sidecar: Option<Sidecar>,
    mixture: Mixture,
    pusher: Pusher,
    dice: Dice,
    /// Every reject that was ever listed: its code, and the LSN of the frame that decided it.
    rejects: BTreeMap<Place, (String, u64)>,
    cursor: Option<String>,
    waves: u64,
    rss_mib: u64,
    since: Instant,
}

impl Run {
    fn start() -> Self {
        let mut dice = Dice::thrown();
        let kafka = LocalKafka::start().unwrap();
        let topics = Topics { stream: unique("stream"), bursts: unique("bursts"), erasures: unique("erasures") };
        let sized = [(topics.stream.as_str(), 4), (topics.bursts.as_str(), 2), (topics.erasures.as_str(), 1)];
        for (topic, partitions) in sized {
            Admin::of(kafka.bootstrap()).create_timeless(topic, partitions).unwrap();
        }
        let mixture = Mixture::start(kafka.bootstrap(), &sized, RATE, dice.bits() >> 1).unwrap();
        let setup = Setup::new(env!("CARGO_BIN_EXE_streamgauge"), &config(kafka.bootstrap(), &topics)).unwrap();
        let sidecar = setup.start().unwrap();
        let (pusher, rejects) = (Pusher::start(&sidecar), BTreeMap::new());
        let (cursor, since) = (None, Instant::now());
        Self { topics, kafka, setup, sidecar: Some(sidecar), mixture, pusher, dice, rejects, cursor, waves: 0, rss_mib: 0, since }
    }

    fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().unwrap()
    }

    fn say(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.since.elapsed().as_secs_f64());
    }

    fn wait(&self, what: &str, attempt: impl FnMut() -> Outcome<()>) {
        self.say(what);
        if let Err(reason) = wait_for(what, WITHIN, attempt) {
            let status = self.sidecar().status().map(|status| status.to_string()).unwrap_or_default();
            let sources = self.sidecar().admin_get("/sources").map(|answer| answer.text).unwrap_or_default();
            panic!("{reason}\nstatus {status:.4000}\nsources {sources:.4000}\nlog {}", self.sidecar().log());
        }
    }

    /// Waits until the stream has moved on by so many records.
    fn stream(&mut self, records: i64) {
        let from = self.sidecar().consumed(&self.topics.stream).unwrap();
        self.wait(&format!("{records} records of the stream"), || match self.sidecar().consumed(&self.topics.stream)? {
            at if at >= from + records => Ok(()),
            at => Err(format!("{at} consumed, from {from} on")),
        });
        self.look();
    }

    /// Reads the rejects that came since the last look, and the resident memory.
    fn look(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.sidecar().pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        self.rss_mib = self.rss_mib.max(line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024);
        loop {
            let after = self.cursor.as_ref().map(|cursor| format!("&after={cursor}")).unwrap_or_default();
            let page = self.sidecar().admin_get(&format!("/rejects?limit=200{after}")).unwrap();
            let rows = page.body["rejects"].as_array().unwrap_or_else(|| panic!("{}", page.text));
            for row in rows {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                let place = (text("topic"), row["partition"].as_i64().unwrap(), row["offset"].as_i64().unwrap());
                let found = (text("code"), row["lsn"].as_u64().unwrap());
                let known = self.rejects.insert(place.clone(), found.clone());
                assert!(known.is_none_or(|known| known == found), "{place:?} was rejected twice");
            }
            match (page.body["next"].as_str(), rows.last()) {
                (Some(next), _) => self.cursor = Some(next.to_owned()),
                // The next look begins behind the last frame of this one.
                (None, Some(last)) => {
                    self.cursor = Some(last["lsn"].to_string());
                    return;
                }
                (None, None) => return,
            }
        }
    }

    fn kill9(&mut self) {
        self.look();
        self.say("kill -9");
        self.sidecar.take().unwrap().kill9();
        let sidecar = self.setup.start_bound().unwrap();
        self.pusher.moved(&sidecar);
        self.sidecar = Some(sidecar);
        self.wait("a start after kill -9", || match self.sidecar().status()?["phase"].as_str() {
            Some("ready" | "catching_up") => Ok(()),
            phase => Err(format!("{phase:?}")),
        });
    }

    /// Bad records in a row, and good ones behind them.
    fn flood(&mut self) {
        self.mixture.flood(&self.topics.bursts, FLOOD).unwrap();
        self.look();
    }

    fn reached(&self, topic: &str, ends: &Ends) {
        self.wait(&format!("the end of {topic}"), || {
            let at = self.sidecar().positions(topic)?;
            let behind = ends[topic].iter().any(|(partition, end)| at.get(partition).is_none_or(|at| at < end));
            if behind { Err(format!("wanted {:?}, stand at {at:?}", ends[topic])) } else { Ok(()) }
        });
    }

    /// Whether `/ready` gives this reason.
    fn gives(&self, reason: &str) -> Outcome<bool> {
        let answer = self.sidecar().admin_get("/ready")?;
        Ok(answer.body["reasons"].as_array().is_some_and(|reasons| reasons.contains(&json!(reason))))
    }

    /// `/ready` gives this reason, or no longer does.
    fn ready_says(&self, reason: &str, wanted: bool) {
        let what = if wanted { "is said" } else { "is over" };
        self.wait(&format!("{reason} {what}"), || {
            let answer = self.sidecar().admin_get("/ready")?;
            let said = answer.body["reasons"].as_array().is_some_and(|reasons| reasons.contains(&json!(reason)));
            if said == wanted { Ok(()) } else { Err(answer.text) }
        });
    }

    /// The disk is full for a while: told, nothing acknowledged, and over by itself.
    fn full_disk(&mut self) {
        self.say("the disk is full");
        let refused = self.pusher.full.load(Ordering::Relaxed);
        self.sidecar().limit_files(Some(1)).unwrap();
        self.ready_says("disk_full", true);
        self.wait("a push that is refused", || match self.pusher.full.load(Ordering::Relaxed) {
            now if now > refused => Ok(()),
            now => Err(format!("{now} refused")),
        });
        std::thread::sleep(Duration::from_secs(1));
        self.sidecar().limit_files(None).unwrap();
        self.ready_says("disk_full", false);
        self.stream(100);
    }

    /// The broker goes and comes back: partitions say that they cannot go on, and then that they can.
    fn bounced_broker(&mut self) {
        self.say("the broker stops");
        self.kafka.stop().unwrap();
        self.stalled(true);
        self.kafka.go().unwrap();
        self.stream(100);
        self.stalled(false);
    }

    /// Every partition of the stream says that it cannot go on, or none does.
    fn stalled(&self, wanted: bool) {
        self.wait(if wanted { "partitions that say that nobody answers" } else { "partitions without an incident" }, || {
            let partitions = self.sidecar().partitions()?;
            let mut stream = partitions.iter().filter(|partition| partition.topic == self.topics.stream);
            let as_wanted = stream.all(|partition| (partition.incident.as_deref() == Some("Stalled")) == wanted);
            if as_wanted { Ok(()) } else { Err(format!("{partitions:?}")) }
        });
    }

    fn at_memory_limit(&self) -> Outcome<bool> {
        let status = self.sidecar().status()?;
        Ok(status["incidents"].as_array().is_some_and(|open| open.iter().any(|incident| incident["kind"] == "MemoryLimit")))
    }

    /// Memory is filled to the limit; sources wait, tell it, and go on once keys are gone. In the middle of it a kill.
    fn full_memory(&mut self, killed: bool) {
        // What was full a moment ago is said for a while.
        self.wait("room, and nobody who says otherwise", || match self.at_memory_limit()? {
            false => Ok(()),
            true => Err("full still".to_owned()),
        });
        self.ready_says("memory_limit", false);
        let bursts = self.topics.bursts.clone();
        let mut waves = Vec::new();
        loop {
            assert!(waves.len() < WAVES_MAX, "{} waves of {WAVE} cards do not reach the limit", waves.len());
            self.waves += 1;
            let wave = format!("wave{}", self.waves);
            self.mixture.fill(&bursts, &wave, WAVE).unwrap();
            let ends = self.mixture.ends().unwrap();
            waves.push(wave);
            let mut full = false;
            self.wait("a wave that is in, or the limit", || {
                // Room may come again at once: then it is not said, and the wave goes in.
                full = self.at_memory_limit()? && self.gives("memory_limit")?;
                let at = self.sidecar().positions(&bursts)?;
                let behind = ends[&bursts].iter().any(|(partition, end)| at.get(partition).is_none_or(|at| at < end));
                if full || !behind { Ok(()) } else { Err(format!("wanted {:?}, stand at {at:?}", ends[&bursts])) }
            });
            if full {
                break;
            }
        }
        self.say(&format!("{} waves: {}", waves.len(), self.sidecar().status().unwrap()["memory"]));
        if killed {
            self.kill9();
            // A start packs what it reads anew: it stands at the limit again, or has room for all that waited.
            let ends = self.mixture.ends().unwrap();
            self.wait("the limit again, or a wave that is in", || {
                let at = self.sidecar().positions(&bursts)?;
                let behind = ends[&bursts].iter().any(|(partition, end)| at.get(partition).is_none_or(|at| at < end));
                if self.at_memory_limit()? || !behind { Ok(()) } else { Err(format!("wanted {:?}, stand at {at:?}", ends[&bursts])) }
            });
        }
        // All but the last wave are in, so that it does not matter which of two topics is read first.
        let last = waves.pop().unwrap();
        for wave in waves {
            self.mixture.erase(&self.topics.erasures, &wave, WAVE).unwrap();
        }
        let ends = self.mixture.ends().unwrap();
        self.reached(&self.topics.erasures, &ends);
        self.reached(&bursts, &ends);
        self.mixture.erase(&self.topics.erasures, &last, WAVE).unwrap();
        let ends = self.mixture.ends().unwrap();
        self.reached(&self.topics.erasures, &ends);
        self.stream(100);
    }

    /// What must hold when it is over.
    fn finish(mut self) {
        let (ends, written) = self.mixture.enough().unwrap();
        for topic in ends.keys() {
            self.reached(topic, &ends);
        }
        self.look();
        self.wait("nothing that waits", || {
            let (ready, partitions) = (self.sidecar().admin_get("/ready")?, self.sidecar().partitions()?);
            let open = partitions.iter().any(|partition| partition.incident.is_some());
            if ready.status == 200 && !open { Ok(()) } else { Err(format!("{} {partitions:?}", ready.text)) }
        });
        let pushed = self.pusher.finish();
        let answers = self.mixture.answers().unwrap();
        let compared = answers.compare(self.sidecar.as_ref().unwrap()).unwrap();
        let sidecar = self.sidecar.take().unwrap();
        let status = sidecar.status().unwrap();
        let tables = status["tables"].as_array().unwrap();
        for name in answers.tables() {
            let table = tables.iter().find(|table| table["table"] == name).unwrap();
            assert_eq!(table["keys"].as_u64(), Some(answers.keys(name) as u64), "keys of {name}");
        }

        let listed: BTreeMap<Place, String> = self.rejects.into_iter().map(|(place, (code, _))| (place, code)).collect();
        let wrong: Vec<_> = answers.bad.iter().filter(|(place, code)| listed.get(*place) != Some(code)).take(10).collect();
        let said: Vec<_> = wrong.iter().map(|(place, _)| listed.get(*place)).collect();
        assert!(wrong.is_empty(), "bad records that were not told, or not as they should: {wrong:?}, but {said:?}");
        assert_eq!(listed.len(), answers.bad.len(), "more was rejected than was bad");

        let walked = sidecar.get("walkers", "w").unwrap().unwrap()["n"].as_u64().unwrap();
        let most = pushed.acknowledged + pushed.unanswered;
        assert!((pushed.acknowledged..=most).contains(&walked), "{walked} pushes are counted: {pushed:?}");
        let strange: Vec<_> = pushed.refused.keys().filter(|code| !["storage_full", "recovering"].contains(&code.as_str())).collect();
        assert!(strange.is_empty(), "pushes were refused with {strange:?}");
        assert!(self.rss_mib <= RSS_MAX_MIB, "{} MiB resident", self.rss_mib);

        // What is on disk is what was answered.
        let fingerprint = sidecar.admin_get("/fingerprint").unwrap().body;
        sidecar.kill9();
        let sidecar = self.setup.start().unwrap();
        assert_eq!(sidecar.admin_get("/fingerprint").unwrap().body["fingerprint"], fingerprint["fingerprint"]);
        let seconds = self.since.elapsed().as_secs();
        eprintln!("{seconds} s, {written}, {compared} values, {pushed:?}, at most {} MiB resident", self.rss_mib);
    }
}

#[test]
fn tables_equal_the_oracle_nothing_is_stuck_and_nothing_is_silent() {
    let mut run = Run::start();
    run.stream(500);
    run.flood();
    run.kill9();
    run.full_memory(true);
    run.full_disk();
    run.bounced_broker();
    run.kill9();
    run.full_disk();
    run.stream(500);
    if long() {
        let (minutes, mut kills) = (Duration::from_secs(600), 3);
        while run.since.elapsed() < minutes || kills < 10 {
            match run.dice.between(0, 8) {
                0 => run.full_disk(),
                1 => run.bounced_broker(),
                2 => run.full_memory(kills % 2 == 0),
                3 => run.flood(),
                4 => {
                    run.kill9();
                    kills += 1;
                }
                _ => {
                    let records = run.dice.between(100, 10_000);
                    run.stream(i64::try_from(records).unwrap());
                }
            }
        }
    }
    run.finish();
}
