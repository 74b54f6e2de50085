//! `wal skip`: an operator's decision that a frame of rows is left out of the replay, recorded in the log.
//!
//! For a stopped server whose start dies in that frame. The frame stays in its place and keeps its LSNs; a segment of its own begins with
//! a skip frame that names it. Every later replay collects skip frames before it begins (`WalSurvey`), so it leaves the same rows out and
//! reaches the same state. Only rows can be left out: what other frames say, later frames build on. What would be
//! left out can be asked before, with nothing changed.

use super::RecoveryError;
use super::beginning::Beginning;
use crate::apply::Facts;
use crate::apply::codec::{ContentError, decode, decode_skipped, events_of, row_counts_of};
use crate::apply::names::Names;
use crate::pipeline::Registry;
use crate::row::EventId;
use crate::state::{Content, State};
use crate::storage::{Reserve, Storage};
use crate::wal::{Frame, FrameKind, FrameParts, Start, WalError, WalOptions, WalReader, WalTail, WalWriter};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use streamgauge_api::{ApiError, Code, PartitionKey, Position, Slot, StoredPosition};

/// What is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    /// First and last LSN of the frame.
    pub lsns: (u64, u64),
    /// Rows in it.
    pub rows: u32,
    /// When it was written, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Its rows by event.
    pub events: Vec<EventRows>,
    /// How far it brings sources, which go on from there.
    pub positions: Vec<Passed>,
    /// LSN of the decision; none when it was only asked what would be left out.
    pub decided_lsn: Option<u64>,
}

/// Rows of one event that no table will ever see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRows {
    /// The event; `event 7` when its definition is gone.
    pub event: String,
    /// How many; none when the frame's rows cannot be read.
    pub rows: Option<u64>,
    /// The tables that they would have fed, by the definitions of the frame's time.
    pub tables: Vec<String>,
}

/// Records of one partition that are passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Where.
    pub key: PartitionKey,
    /// The next offset before,
    pub from: i64,
    /// and behind it.
    pub to: i64,
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
/// A disk without room for the decision gets the reserve back: the start that follows is what makes room again.
///
/// # Errors
/// [`SkipError`].
pub fn skip<S: Storage>(storage: &S, wal: &Path, snapshots: &Path, reserve: &Reserve<S>, lsn: u64) -> Result<LeftOut, SkipError> {
    match decide(storage, wal, snapshots, lsn) {
        Err(SkipError::Log(WalError::StorageFull { .. })) if reserve.release().map_err(RecoveryError::from)? => {
            decide(storage, wal, snapshots, lsn)
        }
        decided => decided,
    }
}

fn decide<S: Storage>(storage: &S, wal: &Path, snapshots: &Path, lsn: u64) -> Result<LeftOut, SkipError> {
    let Looked { mut left_out, tail, now_us } = look(storage, wal, snapshots, lsn)?;
    // The smallest segment: it holds this decision and nothing else.
    let options = WalOptions { segment_bytes: 0, ..WalOptions::default() };
    let started = WalWriter::start(storage.clone(), wal, Start::After(Box::new(tail)), options, now_us);
    let (mut writer, handle) = started.map_err(RecoveryError::from)?;
    let body = [left_out.lsns.0];
    let parts = FrameParts { kind: FrameKind::SKIP, flags: 0, row_count: 0, now_us, positions: &[], body: &[&body] };
    let decided_lsn = writer.append([parts])?;
    handle.sync_now()?;
    assert!(handle.durable_lsn() >= decided_lsn, "a decision is told when it is on the disk");
    assert!(decided_lsn > left_out.lsns.1, "a decision comes behind what it decides of");
    writer.close(now_us)?;
    left_out.decided_lsn = Some(decided_lsn);
    Ok(left_out)
}

/// What [`skip`] would leave out. Nothing is changed.
///
/// # Errors
/// As [`skip`], which would be refused as well.
pub fn would_skip<S: Storage>(storage: &S, wal: &Path, snapshots: &Path, lsn: u64) -> Result<LeftOut, SkipError> {
    Ok(look(storage, wal, snapshots, lsn)?.left_out)
}

/// The frame, and the log behind it.
struct Looked {
    left_out: LeftOut,
    tail: WalTail,
    /// The time of the last frame.
    now_us: i64,
}

/// Finds the frame among those that a start replays. The tables of the snapshot are not kept: what frames
/// before it say of definitions and positions is applied to a state without any.
fn look<S: Storage>(storage: &S, wal: &Path, snapshots: &Path, lsn: u64) -> Result<Looked, SkipError> {
    let Beginning { choice, survey, snapshot, .. } = Beginning::find(storage, wal, snapshots, &Facts::default())?;
    if lsn < choice.from_lsn {
        return Err(SkipError::InSnapshot { lsn, snapshot_lsn: choice.from_lsn - 1 });
    }
    let skipped = survey.skipped().to_vec();
    let mut known = Known::of(snapshot.map(|loaded| loaded.state));
    let mut reader = WalReader::open(storage.clone(), survey, choice.from_lsn, choice.durable_lsn).map_err(RecoveryError::from)?;
    let (mut found, mut now_us) = (None, 0);
    while let Some(frame) = reader.next().map_err(RecoveryError::from)? {
        now_us = frame.now_us;
        if (frame.first_lsn..=frame.last_lsn()).contains(&lsn) {
            found = Some(looked_at(&frame, lsn, &skipped, &known)?);
        }
        known.pass(&frame);
    }
    let Some(mut tail) = reader.tail() else { unreachable!("a reader that gives no more frames has found the end of the log") };
    tail.head = Names::head(&known.registry, &known.partitions);
    assert!(tail.last_lsn + 1 >= choice.from_lsn, "an end before what a snapshot has is refused as damage");
    match found {
        Some(left_out) => Ok(Looked { left_out, tail, now_us }),
        None => Err(SkipError::NotThere { lsn, from_lsn: choice.from_lsn, last_lsn: tail.last_lsn }),
    }
}

/// What is known where the log has been read to: enough to name what a frame is about.
struct Known {
    registry: Arc<Registry>,
    partitions: Vec<StoredPosition>,
}

impl Known {
    fn of(state: Option<State>) -> Self {
        match state {
            Some(state) => Self { registry: Arc::clone(state.registry()), partitions: state.partitions().to_vec() },
            None => Self { registry: Arc::default(), partitions: Vec::new() },
        }
    }

    /// Takes what a frame says of names and positions. One that cannot be read, or contradicts what is there, is a
    /// start's to refuse; here it only leaves a name unknown.
    fn pass(&mut self, frame: &Frame<'_>) {
        // The rows themselves are not looked at.
        let content = if frame.kind == FrameKind::ROWS { decode_skipped(frame) } else { decode(frame) };
        match content {
            Ok(Content::Skipped { positions, .. }) => {
                for (slot, position) in positions {
                    if let Some(stored) = self.partitions.get_mut(slot.0 as usize) {
                        stored.position = position;
                    }
                }
            }
            Ok(Content::Moved { slot, stored, .. }) => {
                if let Some(place) = self.partitions.get_mut(slot.0 as usize) {
                    *place = stored;
                }
            }
            Ok(Content::Partition(partition)) => self.partitions.push(partition),
            Ok(Content::Definition { registry, .. }) => self.registry = registry,
            Ok(Content::Reset) => self.registry = Arc::new(self.registry.reset()),
            _ => {}
        }
    }

    fn rows_of(&self, event: EventId, rows: Option<u64>) -> EventRows {
        let name = self.registry.event_by_id(event).map_or_else(|| format!("event {}", event.0), |event| event.schema.name.to_string());
        let fed = self.registry.tables.values().filter(|table| table.event == event);
        EventRows { event: name, rows, tables: fed.map(|table| table.name.to_string()).collect() }
    }
}

fn looked_at(frame: &Frame<'_>, lsn: u64, skipped: &[u64], known: &Known) -> Result<LeftOut, SkipError> {
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
    let passed = |(slot, position): &(Slot, Position)| {
        let stored = known.partitions.get(slot.0 as usize)?;
        Some(Passed { key: stored.key.clone(), from: stored.position.offset, to: position.offset })
    };
    // Rows that cannot be read may be why it is left out.
    let mut rows: BTreeMap<EventId, Option<u64>> = events_of(frame).into_iter().map(|event| (event, None)).collect();
    rows.extend(row_counts_of(frame).unwrap_or_default().into_iter().map(|(event, count)| (event, Some(count))));
    assert!((frame.first_lsn..=frame.last_lsn()).contains(&lsn), "LSN {lsn} is in the frame that it names");
    Ok(LeftOut {
        lsns: (frame.first_lsn, frame.last_lsn()),
        rows: frame.row_count,
        at_us: frame.now_us,
        events: rows.into_iter().map(|(event, rows)| known.rows_of(event, rows)).collect(),
        positions: positions.iter().filter_map(passed).collect(),
        decided_lsn: None,
    })
}

/// The content of a frame, as a replay applies it.
pub(super) fn content_of(frame: &Frame<'_>, skipped: &[u64]) -> Result<Content, ContentError> {
    if skipped.contains(&frame.first_lsn) { decode_skipped(frame) } else { decode(frame) }
}
