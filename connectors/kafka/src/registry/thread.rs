//! The registry thread: cache, single flight, back-off, grace.
//!
//! An id that the registry does not have is asked for over a grace time, because registries replicate
//! late. Records of garbage come in floods, each with an id of its own: the grace of a flood runs once,
//! from its first missing id. An id whose record was made later than that still gets the whole grace
//! from when the record was made, so a flood shortens nothing for a schema that is really new.
//!
//! One thread per configured registry, shared by all sources that name it. It ends when the last [`Registry`] handle is dropped; a request under way is bounded
//! in time. The caches grow with the number of distinct ids only.

use super::fetch;
use super::http::{Http, RegistryError};
use crate::config::RegistryConfig;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::SchemaId;
use streamgauge_api::inlet::FetchedSchema;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause while an id is missing, and how long "missing" is remembered.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Longest pause while the registry is down: partitions wait for it.
const BACKOFF_DOWN_MAX: Duration = Duration::from_secs(10);
/// Ids remembered as missing, at most; garbage records can name any.
const MISSING_IDS_MAX: usize = 10_000;
/// Wake-up when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What became of a wanted id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Here it is.
    Ready(Arc<FetchedSchema>),
    /// The registry has said over the whole grace time that it does not exist.
    Missing(String),
    /// Not yet: this went wrong, it will be tried again, another reply follows.
    Down(String),
}

/// An answer for one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The id.
    pub id: SchemaId,
    /// What became of it.
    pub outcome: Outcome,
}

struct Want {
    id: SchemaId,
    age: Option<Duration>,
    reply: Sender<Reply>,
}

/// Requests to the registry by result.
#[derive(Debug, Default)]
struct Requests {
    ready: AtomicU64,
    missing: AtomicU64,
    down: AtomicU64,
}

/// Handle to a registry thread.
#[derive(Clone)]
pub struct Registry {
    wants: Sender<Want>,
    requests: Arc<Requests>,
}

impl Registry {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(config: &RegistryConfig) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (wants, inbox) = unbounded();
        let requests = Arc::new(Requests::default());
        let mut desk = Desk {
            config: config.clone(),
            http: None,
            ready: HashMap::new(),
            pending: HashMap::new(),
            missing: HashMap::new(),
            flood: None,
            requests: requests.clone(),
        };
        let thread = std::thread::Builder::new().name("kafka-registry".into()).spawn(move || desk.run(&inbox))?;
        Ok((Self { wants, requests }, thread))
    }

    /// Wants a schema for a record of this age, where that is known; replies come over `reply`, the last one with
    /// [`Outcome::Ready`] or [`Outcome::Missing`].
    pub fn want(&self, id: SchemaId, age: Option<Duration>, reply: &Sender<Reply>) {
        // The thread lives as long as any handle; a failed send can only mean that the process is going down.
        let _gone = self.wants.send(Want { id, age, reply: reply.clone() }).is_err();
    }

    /// Requests so far, by result.
    pub fn requests(&self) -> [(&'static str, u64); 3] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("ready", count(&self.requests.ready)), ("missing", count(&self.requests.missing)), ("down", count(&self.requests.down))]
    }
}

struct Pending {
    waiting: Vec<Sender<Reply>>,
    due: Instant,
    pause: Duration,
    /// When its record was made, as far as that is known; the oldest of several.
    made: Option<Instant>,
    missing_since: Option<Instant>,
}

/// Missing ids that follow each other within the grace time.
#[derive(Debug, Clone, Copy)]
struct Flood {
    since: Instant,
    last: Instant,
}

impl Flood {
    /// When the grace of an id began whose own first "missing" was heard at `own`.
    fn grace_began(self, own: Instant, made: Option<Instant>) -> Instant {
        let of_flood = made.map_or(self.since, |made| self.since.max(made));
        own.min(of_flood)
    }
}

struct Desk {
    config: RegistryConfig,
    /// Built on first use, so that a certificate that appears later is found.
    http: Option<Http>,
    ready: HashMap<SchemaId, Arc<FetchedSchema>>,
    pending: HashMap<SchemaId, Pending>,
    missing: HashMap<SchemaId, (Instant, String)>,
    flood: Option<Flood>,
    requests: Arc<Requests>,
}

impl Desk {
    fn run(&mut self, inbox: &Receiver<Want>) {
        loop {
            let due = self.pending.values().map(|pending| pending.due).min();
            let wait = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            match inbox.recv_timeout(wait) {
                Ok(want) => {
                    self.take(want);
                    while let Ok(want) = inbox.try_recv() {
                        self.take(want);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.try_one();
        }
    }

    fn take(&mut self, want: Want) {
        let now = Instant::now();
        let send = |outcome| {
            let _gone = want.reply.send(Reply { id: want.id, outcome }).is_err();
        };
        if let Some(schema) = self.ready.get(&want.id) {
            return send(Outcome::Ready(schema.clone()));
        }
        if let Some((until, text)) = self.missing.get(&want.id)
            && *until > now
        {
            return send(Outcome::Missing(text.clone()));
        }
        let made = want.age.and_then(|age| now.checked_sub(age));
        let fresh = || Pending { waiting: Vec::new(), due: now, pause: BACKOFF_FIRST, made, missing_since: None };
        let pending = self.pending.entry(want.id).or_insert_with(fresh);
        // Nothing known of one record's age is no reason to wait longer for the id of all.
        pending.made = pending.made.zip(made).map(|(known, made)| known.min(made));
        if !pending.waiting.iter().any(|known| known.same_channel(&want.reply)) {
            pending.waiting.push(want.reply);
        }
    }

    /// Tries the id that is due longest.
    fn try_one(&mut self) {
        let now = Instant::now();
        let Some((id, _)) = self.pending.iter().filter(|(_, pending)| pending.due <= now).min_by_key(|(_, pending)| pending.due) else {
            return;
        };
        let id = *id;
        let result = self.fetch(id);
        let grace = self.config.schema_missing_grace;
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let (outcome, counter) = match result {
            Ok(schema) => {
                let schema = Arc::new(schema);
                // It was late: so may others be.
                self.flood = self.flood.filter(|_| pending.missing_since.is_none());
                self.ready.insert(id, schema.clone());
                (Outcome::Ready(schema), &self.requests.ready)
            }
            Err(RegistryError::Missing(text)) => {
                let own = *pending.missing_since.get_or_insert(now);
                let going_on = self.flood.filter(|flood| now.duration_since(flood.last) <= grace);
                let flood = Flood { last: now, ..going_on.unwrap_or(Flood { since: own, last: now }) };
                self.flood = Some(flood);
                let since = flood.grace_began(own, pending.made);
                pending.missing_since = Some(since);
                let outcome = match now.duration_since(since) >= grace {
                    true => Outcome::Missing(text),
                    false => Outcome::Down(format!("{text}; asked again for {grace:?} before its records count as bad")),
                };
                (outcome, &self.requests.missing)
            }
            Err(RegistryError::Down(text)) => {
                pending.missing_since = None;
                self.flood = None;
                (Outcome::Down(text), &self.requests.down)
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        for waiting in &pending.waiting {
            let _gone = waiting.send(Reply { id, outcome: outcome.clone() }).is_err();
        }
        match outcome {
            Outcome::Down(_) => {
                pending.due = Instant::now() + pending.pause;
                // Within the grace of a missing id the end of the grace is not slept over.
                if let Some(since) = pending.missing_since {
                    pending.due = pending.due.min((since + grace).max(Instant::now() + BACKOFF_FIRST / 10));
                }
                let longest = if pending.missing_since.is_some() { BACKOFF_MAX } else { BACKOFF_DOWN_MAX };
                pending.pause = (pending.pause * 2).min(longest);
            }
            Outcome::Missing(text) => {
                self.pending.remove(&id);
                if self.missing.len() >= MISSING_IDS_MAX {
                    self.missing.clear();
                }
                self.missing.insert(id, (Instant::now() + BACKOFF_MAX, text));
            }
            Outcome::Ready(_) => {
                self.pending.remove(&id);
                self.missing.remove(&id);
            }
        }
    }

    fn fetch(&mut self, id: SchemaId) -> Result<FetchedSchema, RegistryError> {
        let http = match self.http.take() {
            Some(http) => http,
            None => Http::new(&self.config)?,
        };
        fetch::schema(self.http.insert(http), id)
    }
}
