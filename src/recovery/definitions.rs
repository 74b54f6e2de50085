//! The definitions that a data folder ends with, without its tables: what `check` compares a config with.
//!
//! The head of the newest snapshot says what was declared and counted then; the log behind it is read to its
//! end and applied to a state that has no tables, so that rows cost their reading only. It is the same
//! mutation path as live: definitions, resets and counts of rows, minus what they do to tables. Nothing on
//! disk changes and no lock is taken; a server may be writing meanwhile, and its last frames may be missed.

use super::RecoveryError;
use super::beginning::SnapshotRefused;
use super::skip::content_of;
use crate::apply::codec::ContentError;
use crate::pipeline::Registry;
use crate::row::EventId;
use crate::snapshot::{Candidate, Choice, SnapshotReader};
use crate::state::{Content, ImageReader, State};
use crate::storage::Storage;
use crate::wal::{WalReader, WalSurvey};
use std::path::Path;
use std::sync::Arc;
use streamgauge_api::StoredPosition;

/// What is declared.
#[derive(Debug)]
pub struct Definitions {
    /// The definitions in force.
    pub registry: Arc<Registry>,
    /// Events of which no row was ever applied.
    pub unfed: Vec<EventId>,
    /// How far each partition was read.
    pub positions: Vec<StoredPosition>,
}

/// Reads the definitions of a data folder's `wal` and `snapshots`; none when there is no log.
///
/// # Errors
/// As [`recover`](super::recover).
pub fn definitions<S: Storage>(storage: &S, wal: &Path, snapshots: &Path) -> Result<Option<Definitions>, RecoveryError> {
    let mut candidates = Candidate::list(storage, snapshots)?;
    let log_id = candidates.iter().find_map(|candidate| candidate.info.as_ref().ok()).map(|info| info.facts.log.log_id);
    let survey = WalSurvey::look(storage, wal, log_id)?;
    let Some(log) = survey.log() else { return Ok(None) };
    // A snapshot whose head is no state is passed over as recovery does; the rest of it is not read.
    let (choice, mut state) = loop {
        let choice = Choice::of(&candidates, survey.first_lsn())?;
        let Some(candidate) = choice.snapshot.and_then(|index| candidates.get_mut(index)) else {
            break (choice, State::new(log.hash_seed).bare());
        };
        match head(storage, &candidate.path) {
            Ok(state) => break (choice, state),
            Err(refused) => candidate.info = Err(refused.of_file(&candidate.path)),
        }
    };
    let skipped = survey.skipped().to_vec();
    let mut reader = WalReader::open(storage.clone(), survey, choice.from_lsn, choice.durable_lsn)?;
    while let Some(frame) = reader.next()? {
        let content = match content_of(&frame, &skipped)? {
            Content::Definition { registry, .. } => Content::Definition { registry, effects: Vec::new() },
            content => {
                let refused = |reason| ContentError { lsn: frame.first_lsn, kind: frame.kind.0, reason };
                state.accepts(&content, frame.first_lsn, frame.now_us).map_err(refused)?;
                content
            }
        };
        state.apply(&content, frame.first_lsn, frame.now_us);
        assert_eq!(state.lsn(), frame.last_lsn(), "a frame takes the LSNs that its header says");
        assert!(state.tables().next().is_none(), "a definition without effects makes no table");
    }
    let positions = state.partitions().to_vec();
    Ok(Some(Definitions { registry: Arc::clone(state.registry()), unfed: state.unfed(), positions }))
}

/// A snapshot's state without its tables: the first sections describe it.
fn head<S: Storage>(storage: &S, path: &Path) -> Result<State, SnapshotRefused> {
    let mut reader = SnapshotReader::open(storage, path).map_err(SnapshotRefused::File)?;
    let described = *reader.facts();
    let mut image = ImageReader::default();
    while let Some(section) = reader.next().map_err(SnapshotRefused::File)? {
        if !ImageReader::is_description(&section) {
            break;
        }
        image.take(&section).map_err(SnapshotRefused::Image)?;
    }
    image.without_tables().finish(described.log.hash_seed, described.lsn).map_err(SnapshotRefused::Image)
}
