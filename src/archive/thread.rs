//! The archiver's thread: when to run, what to do when it cannot, what it says of itself.
//!
//! It looks once a second whether a run is due: by the size of what is sealed and not archived, by
//! the schedule, or because somebody asked. A run that fails opens the archive anew, a second later
//! at first and a minute later at last, and the incident `ArchiveBlocked` says so until one succeeds.
//! An archive that another writer took is left alone for good.

use super::error::ArchiveError;
use super::manifest::{Live, RowCounts};
use super::writer::{Archive, Ran};
use crate::apply::{Facts, IncidentText, Subject};
use crate::eventstore::Store;
use crate::storage::{FolderLock, Storage};
use crate::wal::{WalError, WalHandle};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use streamgauge_api::metrics::Metrics;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Clock, Code};

/// How often it is looked whether a run is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pauses after failures.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// What the thread is given.
pub struct ArchiverOptions<S: Storage> {
    /// Files.
    pub storage: S,
    /// What is declared.
    pub store: Store,
    /// The log.
    pub wal: WalHandle<S>,
    /// First LSNs of frames that an operator left out, ascending.
    pub skipped: Arc<[u64]>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Incidents.
    pub facts: Arc<Facts>,
    /// Series.
    pub metrics: Arc<Metrics>,
    /// It was open here before: a folder that cannot be used now is tried again.
    pub resumes: bool,
    /// The folder's lock, held as long as the thread lives.
    pub lock: Option<FolderLock>,
}

/// What is asked of the thread, and what it has said.
#[derive(Debug, Default)]
struct Board {
    stop: bool,
    /// Runs that were asked for, and those of them that are done.
    wanted: u64,
    done: u64,
    archived_lsn: u64,
    first_lsn: u64,
    version: u64,
    files: u64,
    bytes: u64,
    rows: RowCounts,
    gaps: Vec<[u64; 2]>,
    failure: Option<ApiError>,
    fenced: bool,
    last_run_us: Option<i64>,
}

impl Board {
    fn follow(&mut self, live: &Live) {
        assert!(self.archived_lsn <= live.archived_lsn, "what is archived stays so: {} to {}", self.archived_lsn, live.archived_lsn);
        self.archived_lsn = live.archived_lsn;
        self.first_lsn = live.first_lsn;
        self.version = live.version;
        self.files = live.files.len() as u64;
        self.bytes = live.files.values().map(|file| file.bytes).sum();
        self.rows = live.rows;
        self.gaps.clone_from(&live.gaps);
    }
}

#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
}

/// A running archiver.
pub struct Archiver {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    durable_lsn: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Waits until everything that is written is durable.
    synced: Box<dyn Fn(Duration) -> Result<bool, WalError> + Send + Sync>,
}

impl Archiver {
    /// Opens the archive and starts the thread. On a disk without room it is opened later.
    ///
    /// # Errors
    /// Why the archive cannot be opened.
    pub fn start<S: Storage>(options: ArchiverOptions<S>) -> Result<Self, ApiError> {
        let shared = Arc::new(Shared::default());
        let wal = options.wal.clone();
        let ArchiverOptions { storage, store, skipped, clock, .. } = &options;
        let archive = Archive::new(storage.clone(), store.clone(), wal.clone(), Arc::clone(skipped), Arc::clone(clock));
        let archive = archive.map_err(|error| ApiError::from(&error))?;
        let mut worker = Worker { archive, options, shared: Arc::clone(&shared), pause: RETRY_FIRST, due_us: None, looked_us: 0 };
        match worker.open() {
            Ok(()) => {}
            Err(ArchiveError::Io(error)) if error.full() => worker.failed(&ArchiveError::Io(error)),
            Err(error) if error.passes() && worker.options.resumes => worker.failed(&error),
            Err(error) => return Err((&error).into()),
        }
        let thread = std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| ApiError::new(Code::IoFailed, format!("cannot start a thread: {error}")))?;
        let log = wal.clone();
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            durable_lsn: Box::new(move || wal.durable_lsn()),
            synced: Box::new(move |timeout| log.wait_durable(log.status().written_lsn, timeout)),
        })
    }

    /// How the archive stands.
    pub fn status(&self) -> Json {
        let durable_lsn = (self.durable_lsn)();
        let board = self.shared.board.lock();
        let state = match (&board.failure, board.fenced) {
            (_, true) => "fenced",
            (Some(_), _) => "blocked",
            (None, _) => "ok",
        };
        json!({
            "state": state,
            "first_lsn": board.first_lsn,
            "archived_lsn": board.archived_lsn,
            "durable_lsn": durable_lsn,
            "lag_lsn": durable_lsn.saturating_sub(board.archived_lsn),
            "manifest_version": board.version,
            "files": board.files,
            "bytes": board.bytes,
            "rows": board.rows,
            "gaps": board.gaps,
            "last_run_ms": board.last_run_us.map(|us| us / 1_000),
            "failure": board.failure.as_ref().map(ApiError::to_json),
        })
    }

    /// Archives what is written by now, and waits for the end of it.
    ///
    /// # Errors
    /// Why the archive or the log cannot go on; `overloaded` when it takes longer than `timeout`.
    pub fn run_now(&self, timeout: Duration) -> Result<Json, ApiError> {
        let deadline = Instant::now() + timeout;
        let failed = |_: WalError| ApiError::new(Code::WalUnavailable, "the write-ahead log failed");
        if !(self.synced)(timeout).map_err(failed)? {
            return Err(ApiError::new(Code::Overloaded, format!("the log was not synced within {} s", timeout.as_secs())));
        }
        {
            let mut board = self.shared.board.lock();
            board.wanted += 1;
            let mine = board.wanted;
            self.shared.changed.notify_all();
            while board.done < mine {
                if board.stop {
                    return Err(ApiError::new(Code::Draining, "the server is stopping"));
                }
                if self.shared.changed.wait_until(&mut board, deadline).timed_out() {
                    return Err(ApiError::new(Code::Overloaded, format!("the run was not done within {} s", timeout.as_secs())));
                }
            }
            if let Some(failure) = &board.failure {
                return Err(failure.clone());
            }
        }
        Ok(self.status())
    }

    /// Ends the thread behind the file it is writing; what is not committed is written again after the next start.
    pub fn stop(&self) {
        self.shared.board.lock().stop = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a thread panicked");
        }
    }
}

struct Worker<S: Storage> {
    options: ArchiverOptions<S>,
    shared: Arc<Shared>,
    archive: Archive<S>,
    pause: Duration,
    /// When the schedule wants the next run.
    due_us: Option<i64>,
    looked_us: i64,
}

impl<S: Storage> Worker<S> {
    fn open(&mut self) -> Result<(), ArchiveError> {
        let live = self.archive.open()?;
        tell(&self.shared, &self.options.metrics, live, &Ran::default());
        Ok(())
    }

    fn work(mut self) {
        loop {
            let wanted = {
                let mut board = self.shared.board.lock();
                if !board.stop && board.wanted == board.done {
                    let pause = if self.archive.is_open() { LOOK_EVERY } else { self.pause };
                    let _timed_out = self.shared.changed.wait_for(&mut board, pause);
                }
                if board.stop {
                    return;
                }
                (board.wanted > board.done).then_some(board.wanted)
            };
            let sized = self.is_large();
            let due = self.is_due();
            if wanted.is_some() || !self.archive.is_open() || (self.options.store.archives && (sized || due)) {
                self.run(wanted.is_some() || sized);
            }
            if let Some(wanted) = wanted {
                self.shared.board.lock().done = wanted;
                self.shared.changed.notify_all();
            }
        }
    }

    /// Whether so much is sealed and not archived that a run is due.
    fn is_large(&self) -> bool {
        let Some(least) = self.options.store.run_at_bytes else { return false };
        let cursors = self.options.wal.cursors();
        cursors.iter().filter(|cursor| cursor.name == super::writer::READER).any(|cursor| cursor.bytes >= least)
    }

    /// Whether the schedule wants a run now. A clock that was set back begins anew.
    fn is_due(&mut self) -> bool {
        let Some(schedule) = &self.options.store.schedule else { return false };
        let now_us = self.options.clock.now_us();
        let next = |_| schedule.next_us(now_us);
        let due_us = self.due_us.filter(|_| self.looked_us <= now_us);
        self.looked_us = now_us;
        match due_us {
            Some(due_us) if due_us <= now_us => {
                self.due_us = next(());
                true
            }
            Some(_) => false,
            None => {
                self.due_us = next(());
                false
            }
        }
    }

    fn run(&mut self, always: bool) {
        if self.shared.board.lock().fenced {
            return;
        }
        let opened = if self.archive.is_open() { Ok(()) } else { self.open() };
        let shared = Arc::clone(&self.shared);
        let metrics = Arc::clone(&self.options.metrics);
        match opened.and_then(|()| self.archive.run(always, |live, one| tell(&shared, &metrics, live, one))) {
            Ok(ran) => {
                if ran.commits > 0 {
                    self.release();
                }
                self.succeeded();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Gives back what the log kept for the archive alone.
    fn release(&self) {
        match self.options.wal.release() {
            Ok(released) if released.segments > 0 => {
                tracing::info!(kind = "wal.released", segments = released.segments, bytes = released.bytes, "WAL segments released");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(kind = "wal.not_released", %error, "segments that nobody needs could not be removed"),
        }
    }

    fn succeeded(&mut self) {
        self.pause = RETRY_FIRST;
        self.options.facts.incidents.close(IncidentKind::ArchiveBlocked, &Subject::Server);
        let mut board = self.shared.board.lock();
        board.failure = None;
        board.last_run_us = Some(self.options.clock.now_us());
    }

    fn failed(&mut self, error: &ArchiveError) {
        let told = ApiError::from(error);
        let root = self.options.store.path.display().to_string();
        let now_us = self.options.clock.now_us();
        self.options.metrics.archive_failures.inc();
        tracing::warn!(kind = "archive.failed", %error, root, "the archive cannot go on; the log keeps what is not archived");
        let again = error.passes();
        self.options.facts.incidents.open(IncidentKind::ArchiveBlocked, &Subject::Server, now_us, || IncidentText {
            cause: told.code.as_str().to_owned(),
            lost: "nothing".to_owned(),
            holds: "tables, pushes and sources go on; the log keeps what is not archived".to_owned(),
            evidence: format!("{root}: {error}"),
            actions: if again {
                vec!["make the archive's folder writable, or free space there; it is tried again".to_owned()]
            } else {
                vec!["look at the folder and at who else writes there; then restart".to_owned()]
            },
        });
        let mut board = self.shared.board.lock();
        board.fenced |= matches!(error, ArchiveError::Fenced { .. });
        board.failure = Some(told);
        drop(board);
        self.pause = if again { (self.pause * 2).min(RETRY_LAST) } else { RETRY_LAST };
    }
}

/// Publishes how far the archive is, and what one commit brought.
fn tell(shared: &Shared, metrics: &Metrics, live: &Live, one: &Ran) {
    shared.board.lock().follow(live);
    metrics.archive_rows.inc_by(one.rows);
    metrics.archive_bytes.inc_by(one.bytes);
    metrics.archive_commits.inc_by(one.commits);
    metrics.lsn_archived.set(gauge(live.archived_lsn));
    metrics.archive_files.set(gauge(live.files.len() as u64));
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
fn gauge(number: u64) -> f64 {
    number as f64
}
