//! Recovery: newest sound snapshot, then the WAL behind it through `State::apply`, frame by frame, exactly as live.
//!
//! Runs on the start-up thread before any source or port may change anything; ports are bound already and answer `recovering`. Nothing on disk changes here. A log or
//! snapshot that cannot be trusted is refused with what is damaged and what can be done; never an older or an empty state in silence.

mod attempts;
mod crash_loop;
mod definitions;
mod skip;

pub use attempts::Attempts;
pub use crash_loop::CrashLoop;
pub use definitions::{Definitions, definitions};
pub use skip::{LeftOut, SkipError, skip};

use skip::content_of;

use crate::apply::Facts;
use crate::apply::codec::ContentError;
use crate::apply::panic::applying;
use crate::snapshot::{Candidate, Choice, ChoiceError, SnapshotError, SnapshotFacts, SnapshotReader};
use crate::state::{Content, ImageError, ImageReader, State};
use crate::storage::{IoError, Storage, random_bytes};
use crate::wal::{FrameKind, LogIdentity, Start, WalOpenError, WalReader, WalSurvey};
use std::path::Path;
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
            Self::Content(_) | Self::Image(_) => true,
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
    let mut candidates = Candidate::list(storage, snapshots)?;
    let mut report = Report::default();
    // Why a snapshot with sound bytes was passed over: worth more than that there is none.
    let mut no_state = None;
    loop {
        let log_id = candidates.iter().find_map(|candidate| candidate.info.as_ref().ok()).map(|info| info.facts.log.log_id);
        let survey = WalSurvey::look(storage, wal, log_id)?;
        let choice =
            Choice::of(&candidates, survey.first_lsn()).map_err(|error| no_state.take().map_or(error.into(), RecoveryError::Image))?;
        let Some(index) = choice.snapshot else {
            let log = match survey.log() {
                Some(log) => log,
                None => {
                    let log = LogIdentity { log_id: u128::from_le_bytes(random_bytes()?), hash_seed: u64::from_le_bytes(random_bytes()?) };
                    let state = State::new(log.hash_seed);
                    let start = Start::Fresh { log };
                    return Ok(Recovered { state, start, log, report, damaged_snapshots: Vec::new() });
                }
            };
            let replay = Replay { storage, choice: &choice, facts, attempts, apply };
            // None of those that are there is sound.
            let damaged: Vec<u64> = candidates.iter().map(|candidate| candidate.lsn).collect();
            report.damaged_snapshots = damaged.len();
            return replay.run(State::new(log.hash_seed), survey, report, damaged);
        };
        let damaged: Vec<u64> = candidates.iter().take(index).map(|candidate| candidate.lsn).collect();
        report.damaged_snapshots = damaged.len();
        let Some(candidate) = candidates.get_mut(index) else { unreachable!("the choice is one of the candidates") };
        let begun = Instant::now();
        match read_snapshot(storage, &candidate.path, facts) {
            Ok((state, facts_of, bytes)) => {
                report.snapshot_lsn = facts_of.lsn;
                report.snapshot_us = facts_of.wall_us;
                report.snapshot_bytes = bytes;
                report.keys = state.key_count();
                report.snapshot_took = begun.elapsed();
                assert_eq!(state.lsn(), facts_of.lsn, "the state of a snapshot stands at the snapshot's LSN");
                if survey.log() != Some(facts_of.log) || candidate.lsn != facts_of.lsn {
                    return Err(RecoveryError::Image(ImageError::Wrong(
                        "its header names another log, or another LSN than its name".into(),
                    )));
                }
                let replay = Replay { storage, choice: &choice, facts, attempts, apply };
                return replay.run(state, survey, report, damaged);
            }
            // The choice is made again: it passes a damaged one over and refuses one that cannot be read for another reason.
            Err(refused) => {
                tracing::warn!(kind = "recovery.snapshot_unreadable", file = %candidate.path.display(), error = %refused, "a snapshot cannot be read");
                candidate.info = Err(refused.of_file(&candidate.path));
                if let SnapshotRefused::Image(error @ ImageError::Wrong(_)) = refused {
                    no_state.get_or_insert(error);
                }
            }
        }
    }
}

/// Why a snapshot cannot be started from.
#[derive(Debug, thiserror::Error)]
enum SnapshotRefused {
    #[error(transparent)]
    File(SnapshotError),
    #[error(transparent)]
    Image(ImageError),
}

impl SnapshotRefused {
    /// What that makes of the file: content that is no state is damage as much as wrong bytes are, and content of another
    /// format says as little about the file as a newer file format does.
    fn of_file(&self, file: &Path) -> SnapshotError {
        let file = file.to_owned();
        match self {
            Self::File(error) => error.clone(),
            Self::Image(ImageError::Wrong(_)) => SnapshotError::Damaged { file, offset_bytes: 0, what: "its content is not a state" },
            Self::Image(ImageError::Format { found, known }) => SnapshotError::FormatTooNew { file, found: *found, known: *known },
        }
    }
}

fn read_snapshot<S: Storage>(storage: &S, path: &Path, facts: &Facts) -> Result<(State, SnapshotFacts, u64), SnapshotRefused> {
    let mut reader = SnapshotReader::open(storage, path).map_err(SnapshotRefused::File)?;
    let described = *reader.facts();
    let mut image = ImageReader::default();
    let (_, total) = reader.progress();
    facts.replay_total.store(total, Ordering::Relaxed);
    let mut sections = 0u32;
    while let Some(section) = reader.next().map_err(SnapshotRefused::File)? {
        image.take(&section).map_err(SnapshotRefused::Image)?;
        sections = sections.wrapping_add(1);
        if sections.is_multiple_of(64) {
            facts.replay_done.store(reader.progress().0, Ordering::Relaxed);
        }
    }
    let Some(info) = reader.info() else { unreachable!("a reader that says there are no more sections has read the footer") };
    let bytes = info.bytes;
    let state = image.finish(described.log.hash_seed, described.lsn).map_err(SnapshotRefused::Image)?;
    Ok((state, described, bytes))
}

/// What is done with each frame.
type Apply = fn(&mut State, &Content, u64, i64);

/// The log behind a snapshot, into its state.
struct Replay<'a, S: Storage> {
    storage: &'a S,
    choice: &'a Choice,
    facts: &'a Facts,
    attempts: &'a mut Attempts<S::File>,
    apply: Apply,
}

impl<S: Storage> Replay<'_, S> {
    fn run(self, mut state: State, survey: WalSurvey, mut report: Report, damaged_snapshots: Vec<u64>) -> Result<Recovered, RecoveryError> {
        let Self { storage, choice, facts, attempts, apply } = self;
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
        let Some(tail) = reader.tail() else { unreachable!("a reader that gives no more frames has found the end of the log") };
        assert_eq!(state.lsn(), tail.last_lsn, "the state stands at the last good row of the log");
        assert!(tail.durable_lsn <= tail.last_lsn, "what was synced is there: anything else was refused as damage");
        Ok(Recovered { state, log: tail.log, start: Start::After(Box::new(tail)), report, damaged_snapshots })
    }
}

#[cfg(test)]
mod tests;
