//! Recovery: newest sound snapshot, then the WAL behind it through `State::apply`, frame by frame, exactly as live.
//!
//! Runs on the start-up thread before any source or port may change anything; ports are bound already and answer `recovering`. Nothing on disk changes here. A log or
//! snapshot that cannot be trusted is refused with what is damaged and what can be done; never an older or an empty state in silence.

mod attempts;
mod beginning;
mod crash_loop;
mod definitions;
mod skip;

pub use attempts::Attempts;
pub use crash_loop::{CrashLoop, moment};
pub use definitions::{Definitions, definitions};
pub use skip::{EventRows, LeftOut, Passed, SkipError, skip, would_skip};

use beginning::{Beginning, Loaded};
use skip::content_of;

use crate::apply::Facts;
use crate::apply::codec::ContentError;
use crate::apply::names::Names;
use crate::apply::panic::applying;
use crate::history::seal;
use crate::snapshot::{Choice, ChoiceError};
use crate::state::{Content, FillStep, ImageError, Seal, State, Table};
use crate::storage::{IoError, Storage, random_bytes};
use crate::wal::{FrameKind, LogIdentity, Start, WalOpenError, WalReader, WalSurvey};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::{ApiError, Code};

/// A recovered state and where the log goes on.
#[derive(Debug)]
pub struct Recovered {
    /// The state.
    pub state: State,
    /// Where the writer begins.
    pub start: Start,
    /// The log.
    pub log: LogIdentity,
    /// What was done.
    pub report: Report,
    /// LSNs of damaged snapshots that were passed over: to be put aside once the state stands.
    pub damaged_snapshots: Vec<u64>,
}

/// What recovery did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// LSN of the snapshot it began from, 0 = none.
    pub snapshot_lsn: u64,
    /// When that snapshot was taken, microseconds; 0 = none.
    pub snapshot_us: i64,
    /// Its size.
    pub snapshot_bytes: u64,
    /// Keys read from it.
    pub keys: u64,
    /// Frames replayed.
    pub frames: u64,
    /// Rows replayed.
    pub rows: u64,
    /// Rows that were left out, as an operator decided.
    pub skipped_rows: u64,
    /// Damaged snapshots that were passed over.
    pub damaged_snapshots: usize,
    /// Time for the snapshot.
    pub snapshot_took: Duration,
    /// Time for the replay.
    pub replay_took: Duration,
}

/// Why the state cannot be rebuilt. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The log is refused.
    #[error(transparent)]
    Wal(#[from] WalOpenError),
    /// No snapshot can be used.
    #[error(transparent)]
    Snapshots(#[from] ChoiceError),
    /// A sound frame has no meaning to this program.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A verified snapshot is no state.
    #[error("{0}")]
    Image(ImageError),
    /// The file of a table that was filled from history cannot be used.
    #[error("{0}; no snapshot that is kept is past it")]
    Seal(Box<seal::SealError>),
    /// A frame that ended start after start.
    #[error("{0}")]
    CrashLoop(Box<CrashLoop>),
}

impl RecoveryError {
    /// Whether data is wrong, as opposed to files that could not be read.
    pub fn data_is_wrong(&self) -> bool {
        match self {
            Self::Io(_) => false,
            Self::Wal(error) => error.data_is_wrong(),
            Self::Snapshots(error) => error.data_is_wrong(),
            Self::Content(_) | Self::Image(_) | Self::Seal(_) => true,
            Self::CrashLoop(_) => false,
        }
    }

    /// The whole report for people: what is damaged, what holds, the ways out.
    pub fn report(&self) -> String {
        match self {
            Self::Wal(error) => error.report(),
            Self::CrashLoop(frame) => frame.report(),
            other => other.to_string(),
        }
    }
}

impl From<RecoveryError> for ApiError {
    fn from(error: RecoveryError) -> Self {
        match &error {
            RecoveryError::Io(cause) => cause.into(),
            // The log's report is the reason itself: it has lines of its own.
            RecoveryError::Wal(cause) => Self { reason: error.report(), hint: None, ..Self::from(cause) },
            RecoveryError::Snapshots(cause) => cause.clone().into(),
            RecoveryError::CrashLoop(_) => Self::new(Code::CrashLoop, error.report()),
            RecoveryError::Content(cause) => {
                let refusal = Self::new(Code::WalDamaged, error.report());
                match FrameKind(cause.kind) {
                    FrameKind::ROWS => {
                        refusal.hint(format!("`streamgauge wal skip {}` leaves the rows of this frame out, for good", cause.lsn))
                    }
                    _ => refusal,
                }
            }
            RecoveryError::Seal(_) => Self::new(Code::SealDamaged, error.report()),
            RecoveryError::Image(_) => Self::new(Code::SnapshotDamaged, error.report()),
        }
    }
}

/// Rebuilds the state from a data folder's `wal` and `snapshots`.
///
/// # Errors
/// [`RecoveryError`]; nothing was changed on disk.
pub fn recover<S: Storage>(
    storage: &S,
    wal: &Path,
    snapshots: &Path,
    facts: &Facts,
    attempts: &mut Attempts<S::File>,
) -> Result<Recovered, RecoveryError> {
    let recovered = rebuilt(storage, wal, snapshots, facts, attempts, State::apply);
    match &recovered {
        Ok(_) => attempts.done(),
        Err(_) => attempts.refused(),
    }
    recovered
}

/// See [`recover`]; `apply` is [`State::apply`], or what a test puts in its place.
fn rebuilt<S: Storage>(
    storage: &S,
    wal: &Path,
    snapshots: &Path,
    facts: &Facts,
    attempts: &mut Attempts<S::File>,
    apply: Apply,
) -> Result<Recovered, RecoveryError> {
    let Beginning { choice, survey, snapshot, damaged } = Beginning::find(storage, wal, snapshots, facts)?;
    let mut report = Report { damaged_snapshots: damaged.len(), ..Report::default() };
    let Some(log) = survey.log() else {
        assert!(snapshot.is_none() && damaged.is_empty(), "a snapshot without its log is refused");
        let log = LogIdentity { log_id: u128::from_le_bytes(random_bytes()?), hash_seed: u64::from_le_bytes(random_bytes()?) };
        let state = State::new(log.hash_seed);
        return Ok(Recovered { state, start: Start::Fresh { log }, log, report, damaged_snapshots: damaged });
    };
    let state = match snapshot {
        None => State::new(log.hash_seed),
        Some(Loaded { state, facts, bytes, took }) => {
            report.snapshot_lsn = facts.lsn;
            report.snapshot_us = facts.wall_us;
            report.snapshot_bytes = bytes;
            report.keys = state.key_count();
            report.snapshot_took = took;
            state
        }
    };
    assert_eq!(state.lsn() + 1, choice.from_lsn, "the log is replayed from where the state stands");
    let files = Files { wal, history: seal::folder_beside(snapshots), log };
    Replay { storage, files, choice: &choice, facts, attempts, apply }.run(state, survey, report, damaged)
}

/// What is done with each frame.
type Apply = fn(&mut State, &Content, u64, i64);

/// Where a replay finds what frames name.
struct Files<'a> {
    wal: &'a Path,
    history: PathBuf,
    log: LogIdentity,
}

impl Files<'_> {
    /// The tables of a sealed file as they were when the frame at `lsn` brought them in: the log between is followed.
    fn tables<S: Storage>(&self, storage: &S, seal: &Seal, lsn: u64, durable_lsn: u64, state: &State) -> Result<Vec<Table>, RecoveryError> {
        let read = seal::read(storage, &self.history, seal, self.log, state);
        let mut shadow = read.map_err(|error| RecoveryError::Seal(Box::new(error)))?;
        let survey = WalSurvey::look(storage, self.wal, Some(self.log.log_id))?;
        let skipped = survey.skipped().to_vec();
        let mut reader = WalReader::open(storage.clone(), survey, seal.through_lsn + 1, durable_lsn)?;
        while shadow.lsn() + 1 < lsn {
            let Some(frame) = reader.next()? else { unreachable!("the log has the frame at {lsn}, and every one in front of it") };
            assert!(frame.last_lsn() < lsn, "frames in front of {lsn} end in front of it");
            seal::follow(&mut shadow, &frame, skipped.contains(&frame.first_lsn))?;
        }
        Ok(shadow.take_tables())
    }
}

/// The log behind a snapshot, into its state.
struct Replay<'a, S: Storage> {
    storage: &'a S,
    files: Files<'a>,
    choice: &'a Choice,
    facts: &'a Facts,
    attempts: &'a mut Attempts<S::File>,
    apply: Apply,
}

impl<S: Storage> Replay<'_, S> {
    fn run(self, mut state: State, survey: WalSurvey, mut report: Report, damaged_snapshots: Vec<u64>) -> Result<Recovered, RecoveryError> {
        let Self { storage, files, choice, facts, attempts, apply } = self;
        let begun = Instant::now();
        let skipped = survey.skipped().to_vec();
        let mut reader = WalReader::open(storage.clone(), survey, choice.from_lsn, choice.durable_lsn)?;
        let (_, total) = reader.progress();
        facts.replay_done.store(0, Ordering::Relaxed);
        facts.replay_total.store(total, Ordering::Relaxed);
        while let Some(frame) = reader.next()? {
            let left_out = skipped.contains(&frame.first_lsn);
            if !left_out && let Some(deaths) = attempts.before(frame.first_lsn) {
                return Err(RecoveryError::CrashLoop(Box::new(CrashLoop::of(&frame, &state, deaths))));
            }
            let content = content_of(&frame, &skipped)?;
            let refused = |reason| ContentError { lsn: frame.first_lsn, kind: frame.kind.0, reason };
            if let Content::Fill(FillStep::Flip(flip)) = &content
                && flip.seal.through_lsn < frame.first_lsn
            {
                let tables = files.tables(storage, &flip.seal, frame.first_lsn, choice.durable_lsn, &state)?;
                state.hand_in(tables);
            }
            state.accepts(&content, frame.first_lsn, frame.now_us).map_err(refused)?;
            let (first_lsn, now_us, rows) = (frame.first_lsn, frame.now_us, u64::from(frame.row_count));
            applying(first_lsn, frame.last_lsn(), || apply(&mut state, &content, first_lsn, now_us));
            assert_eq!(state.lsn(), frame.last_lsn(), "a frame takes the LSNs that its header says");
            report.frames += 1;
            report.rows += if left_out { 0 } else { rows };
            report.skipped_rows += if left_out { rows } else { 0 };
            if report.frames.is_multiple_of(256) {
                facts.replay_done.store(reader.progress().0, Ordering::Relaxed);
                facts.replayed_rows.store(report.rows, Ordering::Relaxed);
            }
        }
        facts.replay_done.store(total, Ordering::Relaxed);
        facts.replayed_rows.store(report.rows, Ordering::Relaxed);
        report.replay_took = begun.elapsed();
        let Some(mut tail) = reader.tail() else { unreachable!("a reader that gives no more frames has found the end of the log") };
        tail.head = Names::head(state.registry(), state.partitions());
        assert_eq!(state.lsn(), tail.last_lsn, "the state stands at the last good row of the log");
        assert!(tail.durable_lsn <= tail.last_lsn, "what was synced is there: anything else was refused as damage");
        Ok(Recovered { state, log: tail.log, start: Start::After(Box::new(tail)), report, damaged_snapshots })
    }
}

#[cfg(test)]
mod tests;
