//! `wal skip`: an operator's decision that a frame of rows is left out of the replay, recorded in the log.
//!
//! For a stopped server whose start dies in that frame. The frame stays in its place and keeps its LSNs; a segment of its own begins with
//! a skip frame that names it. Every later replay collects skip frames before it begins (`WalSurvey`), so it leaves the same rows out and
//! reaches the same state. Only rows can be left out: what other frames say, later frames build on.

use super::RecoveryError;
use crate::apply::codec::{ContentError, decode_skipped, events_of};
use crate::row::EventId;
use crate::snapshot::{Candidate, Choice};
use crate::state::Content;
use crate::storage::Storage;
use crate::wal::{Frame, FrameKind, FrameParts, Start, WalError, WalOptions, WalReader, WalSurvey, WalWriter};
use std::path::Path;
use streamgauge_api::{ApiError, Code, Position, Slot};

/// What was left out.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    /// First and last LSN of the frame.
    pub lsns: (u64, u64),
    /// Rows in it.
    pub rows: u32,
    /// When it was written, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Numbers of the events of its rows.
    pub events: Vec<EventId>,
    /// Where it brings sources, by slot: they go on from there.
    pub positions: Vec<(Slot, Position)>,
    /// LSN of the decision.
    pub decided_lsn: u64,
}

/// Why nothing was left out. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SkipError {
    /// The log or the snapshots cannot be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The decision could not be written.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The LSN is in the snapshot: its rows are applied, and no start replays them.
    #[error("LSN {lsn} is in the snapshot at {snapshot_lsn}: it is applied, and no start replays it")]
    InSnapshot {
        /// The LSN asked for.
        lsn: u64,
        /// LSN of the snapshot that a start begins from.
        snapshot_lsn: u64,
    },
    /// The log ends before.
    #[error("LSN {lsn} is not in the log, which goes from {from_lsn} to {last_lsn}")]
    NotThere {
        /// The LSN asked for.
        lsn: u64,
        /// First LSN that a start replays.
        from_lsn: u64,
        /// Last LSN.
        last_lsn: u64,
    },
    /// Another kind of frame.
    #[error("LSN {lsn} is a {kind}, which cannot be left out: what follows builds on it")]
    NotRows {
        /// The LSN asked for.
        lsn: u64,
        /// Its kind in words.
        kind: &'static str,
    },
    /// That was decided before.
    #[error("LSN {lsn} is left out already")]
    Already {
        /// The LSN asked for.
        lsn: u64,
    },
}

impl From<SkipError> for ApiError {
    fn from(error: SkipError) -> Self {
        let refused = |hint: &str| ApiError::new(Code::InvalidRequest, error.to_string()).hint(hint);
        match &error {
            SkipError::InSnapshot { .. } => refused("a start that dies names the frame that it dies in; give an LSN of that one"),
            SkipError::NotThere { .. } => refused("a start that dies names the frame that it dies in"),
            SkipError::NotRows { .. } => refused(
                "1) run a program that can apply it; 2) put a copy of the data folder from before it back, what Kafka has had since then is \
                 read again; 3) move the data folder away and start with an empty one",
            ),
            SkipError::Already { .. } => refused("nothing to do"),
            SkipError::Log(cause) => cause.into(),
            SkipError::Recovery(_) => match error {
                SkipError::Recovery(cause) => cause.into(),
                _ => unreachable!("matched just now"),
            },
        }
    }
}

/// Leaves the frame that holds `lsn` out of every replay from here on. The caller holds the lock of the data folder.
///
/// # Errors
/// [`SkipError`].
pub fn skip<S: Storage>(storage: &S, wal: &Path, snapshots: &Path, lsn: u64) -> Result<LeftOut, SkipError> {
    let candidates = Candidate::newest_first(storage, snapshots).map_err(RecoveryError::from)?;
    let log_id = candidates.iter().find_map(|candidate| candidate.info.as_ref().ok()).map(|info| info.facts.log.log_id);
    let survey = WalSurvey::look(storage, wal, log_id).map_err(RecoveryError::from)?;
    let choice = Choice::of(&candidates, survey.first_lsn()).map_err(RecoveryError::from)?;
    if lsn < choice.from_lsn {
        return Err(SkipError::InSnapshot { lsn, snapshot_lsn: choice.from_lsn - 1 });
    }
    let skipped = survey.skipped().to_vec();
    let mut reader = WalReader::open(storage.clone(), survey, choice.from_lsn, choice.durable_lsn).map_err(RecoveryError::from)?;
    let (mut found, mut now_us) = (None, 0);
    while let Some(frame) = reader.next().map_err(RecoveryError::from)? {
        now_us = frame.now_us;
        if (frame.first_lsn..=frame.last_lsn()).contains(&lsn) {
            found = Some(looked_at(&frame, lsn, &skipped)?);
        }
    }
    let Some(tail) = reader.tail() else { unreachable!("a reader that gives no more frames has found the end of the log") };
    let Some(mut left_out) = found else {
        return Err(SkipError::NotThere { lsn, from_lsn: choice.from_lsn, last_lsn: tail.last_lsn });
    };
    // The smallest segment: it holds this decision and nothing else.
    let options = WalOptions { segment_bytes: 0, ..WalOptions::default() };
    let started = WalWriter::start(storage.clone(), wal, Start::After(Box::new(tail)), options, now_us);
    let (mut writer, handle) = started.map_err(RecoveryError::from)?;
    let body = [left_out.lsns.0];
    let parts = FrameParts { kind: FrameKind::SKIP, flags: 0, row_count: 0, now_us, positions: &[], body: &[&body] };
    left_out.decided_lsn = writer.append([parts])?;
    handle.sync_now()?;
    assert!(handle.durable_lsn() >= left_out.decided_lsn, "a decision is told when it is on the disk");
    writer.close(now_us)?;
    Ok(left_out)
}

fn looked_at(frame: &Frame<'_>, lsn: u64, skipped: &[u64]) -> Result<LeftOut, SkipError> {
    if skipped.contains(&frame.first_lsn) {
        return Err(SkipError::Already { lsn });
    }
    if frame.kind != FrameKind::ROWS {
        return Err(SkipError::NotRows { lsn, kind: frame.kind.name() });
    }
    let positions = match decode_skipped(frame).map_err(RecoveryError::from)? {
        Content::Skipped { positions, .. } => positions,
        _ => unreachable!("a frame that is left out reads as one"),
    };
    Ok(LeftOut {
        lsns: (frame.first_lsn, frame.last_lsn()),
        rows: frame.row_count,
        at_us: frame.now_us,
        events: events_of(frame),
        positions,
        decided_lsn: 0,
    })
}

/// The content of a frame, as a replay applies it.
pub(super) fn content_of(frame: &Frame<'_>, skipped: &[u64]) -> Result<Content, ContentError> {
    if skipped.contains(&frame.first_lsn) { decode_skipped(frame) } else { crate::apply::codec::decode(frame) }
}
