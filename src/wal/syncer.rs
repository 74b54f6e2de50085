//! The syncer thread: `fdatasync` at once when somebody waits, else each second or 16 MiB; it also prepares the next segment.
//!
//! The thread sleeps without a timer while nothing is unsynced, so an idle log costs no wake-ups. What to do next is decided by one pure function.
//! The callback runs on this thread and must not block: it hands the news to the apply thread.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::WalError;
use super::shared::{PrepareError, Shared, SharedFiles, WalHandle};
use crate::storage::Storage;

/// How often a segment is tried again while the disk is full.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// News from the syncer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncEvent {
    /// A sync of the log's files is done, after this long.
    Synced(Duration),
    /// Everything up to this LSN is durable.
    Durable(u64),
    /// A write or sync failed for good; no more news will come.
    Failed(WalError),
}

/// The running syncer. Dropping it stops the thread; it does not sync ([`super::WalWriter::close`] does).
#[derive(Debug)]
pub struct WalSyncer<S: Storage> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread sees when it looks.
#[derive(Debug, Clone, Copy, Default)]
struct View {
    stop: bool,
    poisoned: bool,
    /// The failure has been told.
    told: bool,
    /// The durable LSN moved without being announced.
    news: bool,
    /// Somebody waits for an LSN that is written and not synced.
    awaited: bool,
    /// Bytes or time make a sync due, or a cut that nothing may be written behind before.
    due: bool,
    /// A segment is to be prepared, and it is time to try.
    prepare: bool,
    /// That has waited for a sync already: however many wait for the next sync, it comes first.
    overdue: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Stop,
    TellFailure,
    Announce,
    Sync { delayed: bool },
    Prepare,
    Sleep,
}

fn decide(view: View) -> Move {
    match view {
        View { stop: true, .. } => Move::Stop,
        View { poisoned: true, told: false, .. } => Move::TellFailure,
        View { poisoned: true, .. } => Move::Sleep,
        View { news: true, .. } => Move::Announce,
        View { prepare: true, overdue: true, .. } => Move::Prepare,
        View { awaited: true, .. } => Move::Sync { delayed: true },
        View { due: true, .. } => Move::Sync { delayed: false },
        View { prepare: true, .. } => Move::Prepare,
        _ => Move::Sleep,
    }
}

impl<S: Storage> WalSyncer<S> {
    /// Starts the thread. `tell` hears of every advance of the durable LSN, in order, and of the failure that ends it.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(handle: &WalHandle<S>, tell: impl Fn(SyncEvent) + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::clone(&handle.0);
        let worker = Worker {
            shared: Arc::clone(&shared),
            tell,
            announced: shared.durable_lsn(),
            told: false,
            due_at: None,
            retry_at: None,
            synced_since_prepared: false,
        };
        let thread = std::thread::Builder::new().name("wal-syncer".into()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Stops the thread and waits for it.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        self.shared.signals.lock().stop = true;
        self.shared.nudge();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the WAL syncer panicked");
        }
    }
}

impl<S: Storage> Drop for WalSyncer<S> {
    fn drop(&mut self) {
        self.halt();
    }
}

struct Worker<S: Storage, T> {
    shared: Arc<Shared<S>>,
    tell: T,
    announced: u64,
    told: bool,
    /// When the oldest unsynced byte is due.
    due_at: Option<Instant>,
    /// When a full disk is tried again.
    retry_at: Option<Instant>,
    synced_since_prepared: bool,
}

impl<S: Storage, T: Fn(SyncEvent)> Worker<S, T> {
    fn run(mut self) {
        loop {
            match self.next_move() {
                Move::Stop => return self.last_words(),
                Move::TellFailure => self.tell_failure(),
                Move::Announce => self.announce(),
                Move::Sync { delayed } => self.sync(delayed),
                Move::Prepare => self.prepare(),
                Move::Sleep => {}
            }
        }
    }

    /// Looks, and sleeps once when there is nothing to do. Looking happens under the lock that every signal takes, so none is missed.
    fn next_move(&mut self) -> Move {
        let shared = Arc::clone(&self.shared);
        let mut signals = shared.signals.lock();
        let now = Instant::now();
        let unsynced = shared.unsynced_bytes();
        self.due_at = (unsynced > 0).then(|| self.due_at.unwrap_or(now + shared.options.sync_interval));
        let durable = shared.durable_lsn();
        // Until the old log's end has its room a sync would change nothing; preparing is what tries that again.
        let unsettled = shared.files.as_ref().is_some_and(SharedFiles::unsettled);
        let wants_segment = shared.files.as_ref().is_some_and(SharedFiles::prepare_wanted);
        let chosen = decide(View {
            stop: signals.stop,
            poisoned: shared.poison().is_some(),
            told: self.told,
            news: durable > self.announced,
            awaited: signals.wanted_lsn > durable && shared.written_lsn() > durable && !unsettled,
            due: unsynced >= shared.options.sync_bytes
                || self.due_at.is_some_and(|due| due <= now)
                || shared.files.as_ref().is_some_and(SharedFiles::cut_waits),
            prepare: wants_segment && self.retry_at.is_none_or(|retry| retry <= now),
            overdue: self.synced_since_prepared,
        });
        if chosen == Move::Sleep {
            let timer =
                if shared.poison().is_some() { None } else { earliest(self.due_at, wants_segment.then_some(self.retry_at).flatten()) };
            match timer {
                Some(until) => drop(shared.wake.wait_until(&mut signals, until)),
                None => shared.wake.wait(&mut signals),
            }
        }
        chosen
    }

    fn sync(&mut self, delayed: bool) {
        let delay = self.shared.options.group_commit;
        if delayed && !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.due_at = None;
        self.synced_since_prepared = true;
        let begun = Instant::now();
        match self.shared.sync_now() {
            Ok(_) if self.shared.files.is_some() => (self.tell)(SyncEvent::Synced(begun.elapsed())),
            Ok(_) => {}
            Err(error) => tracing::error!(kind = "wal.sync_failed", %error, "the WAL takes nothing any more"),
        }
    }

    fn announce(&mut self) {
        let durable = self.shared.durable_lsn();
        assert!(durable > self.announced, "durable {durable} is no news after {}", self.announced);
        self.announced = durable;
        (self.tell)(SyncEvent::Durable(self.announced));
    }

    fn tell_failure(&mut self) {
        assert!(!self.told, "a failure is told once");
        self.told = true;
        if let Err(error) = self.shared.check_poison() {
            (self.tell)(SyncEvent::Failed(error));
        }
    }

    fn prepare(&mut self) {
        self.synced_since_prepared = false;
        self.retry_at = match self.shared.prepare() {
            Ok(true) => None,
            Ok(false) => Some(Instant::now() + FULL_RETRY),
            // It is told by the move that looks for it.
            Err(PrepareError::Log(_)) => None,
            Err(PrepareError::Io(error)) => {
                tracing::warn!(kind = "wal.prepare_failed", %error, "the next WAL segment could not be prepared");
                Some(Instant::now() + FULL_RETRY)
            }
        };
    }

    /// What became durable while the thread was being stopped is still told.
    fn last_words(&mut self) {
        if self.shared.durable_lsn() > self.announced {
            self.announce();
        }
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
