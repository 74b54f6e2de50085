//! Where a start begins: the newest snapshot that is a state, and the log that goes on behind it.
//!
//! A snapshot is chosen by its head, read whole, and believed when its last byte is: a damaged one, or one
//! whose content is no state, is passed over and the choice is made again without it. Whether a snapshot is
//! passed over decides which frames are replayed, so everybody who asks that asks here: a start, and `wal skip`,
//! which has to reach the frames that a start dies in. Nothing is changed on disk.

use super::RecoveryError;
use crate::apply::Facts;
use crate::snapshot::{Candidate, Choice, SnapshotError, SnapshotFacts, SnapshotReader};
use crate::state::{ImageError, ImageReader, State};
use crate::storage::Storage;
use crate::wal::WalSurvey;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// See the module's head.
pub(super) struct Beginning {
    pub(super) choice: Choice,
    pub(super) survey: WalSurvey,
    /// None to begin empty.
    pub(super) snapshot: Option<Loaded>,
    /// LSNs of the damaged snapshots that were passed over.
    pub(super) damaged: Vec<u64>,
}

/// A snapshot that was read.
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) facts: SnapshotFacts,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

impl Beginning {
    /// Finds it.
    ///
    /// # Errors
    /// As [`recover`](super::recover).
    pub(super) fn find<S: Storage>(storage: &S, wal: &Path, snapshots: &Path, facts: &Facts) -> Result<Self, RecoveryError> {
        let mut candidates = Candidate::list(storage, snapshots)?;
        // Why a snapshot with sound bytes was passed over: worth more than that there is none.
        let mut no_state = None;
        loop {
            let log_id = candidates.iter().find_map(|candidate| candidate.info.as_ref().ok()).map(|info| info.facts.log.log_id);
            let survey = WalSurvey::look(storage, wal, log_id)?;
            let choice =
                Choice::of(&candidates, survey.first_lsn()).map_err(|error| no_state.take().map_or(error.into(), RecoveryError::Image))?;
            let passed = choice.snapshot.unwrap_or(candidates.len());
            assert_eq!(passed, choice.damaged, "what comes before the choice is damaged");
            let damaged: Vec<u64> = candidates.iter().take(passed).map(|candidate| candidate.lsn).collect();
            let Some(index) = choice.snapshot else { return Ok(Self { choice, survey, snapshot: None, damaged }) };
            let Some(candidate) = candidates.get_mut(index) else { unreachable!("the choice is one of the candidates") };
            match read_snapshot(storage, &candidate.path, facts) {
                Ok(loaded) => {
                    assert_eq!(loaded.state.lsn(), loaded.facts.lsn, "the state of a snapshot stands at the snapshot's LSN");
                    if survey.log() != Some(loaded.facts.log) || candidate.lsn != loaded.facts.lsn {
                        return Err(RecoveryError::Image(ImageError::Wrong(
                            "its header names another log, or another LSN than its name".into(),
                        )));
                    }
                    return Ok(Self { choice, survey, snapshot: Some(loaded), damaged });
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
}

/// Why a snapshot cannot be started from.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotRefused {
    #[error(transparent)]
    File(SnapshotError),
    #[error(transparent)]
    Image(ImageError),
}

impl SnapshotRefused {
    /// What that makes of the file: content that is no state is damage as much as wrong bytes are, and content of another
    /// format says as little about the file as a newer file format does.
    pub(super) fn of_file(&self, file: &Path) -> SnapshotError {
        let file = file.to_owned();
        match self {
            Self::File(error) => error.clone(),
            Self::Image(ImageError::Wrong(_)) => SnapshotError::Damaged { file, offset_bytes: 0, what: "its content is not a state" },
            Self::Image(ImageError::Layout(what)) => SnapshotError::OtherLayout { file, what: what.clone() },
            Self::Image(ImageError::Format { found, known }) => SnapshotError::FormatTooNew { file, found: *found, known: *known },
        }
    }
}

fn read_snapshot<S: Storage>(storage: &S, path: &Path, facts: &Facts) -> Result<Loaded, SnapshotRefused> {
    let begun = Instant::now();
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
    Ok(Loaded { state, facts: described, bytes, took: begun.elapsed() })
}
