//! Which snapshot to start from, and how much of the log may go. Pure decisions over facts that were read before.
//!
//! | found | verdict |
//! |---|---|
//! | newest snapshot sound, WAL reaches back to it | start from it |
//! | newest damaged, an older one sound, WAL reaches back to that | start from the older one, warn; the result is the same |
//! | newest damaged, WAL does not reach back to a sound one | refuse |
//! | newest not readable (I/O, a newer format), whatever else there is | refuse, and leave it as it is |
//! | newest sound, no WAL | refuse |
//! | all damaged or missing, WAL begins at the first LSN | replay all of it |
//! | all damaged or missing, WAL does not begin at the first LSN | refuse |
//! | no snapshot and no WAL | a new, empty log |

use std::path::{Path, PathBuf};

use super::error::{ChoiceError, SnapshotError};
use super::format::{SnapshotInfo, snapshot_lsn};
use super::reader::SnapshotReader;
use crate::storage::{IoError, Storage};
use crate::wal::FIRST_LSN;

/// A snapshot file and what reading it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// LSN by its name, which is known even when the bytes are damaged.
    pub lsn: u64,
    /// What is in it.
    pub info: Result<SnapshotInfo, SnapshotError>,
}

impl Candidate {
    /// All snapshots of a folder, newest first, each with its header read and nothing else: `sections`, `key_count` and `fingerprint` are 0.
    /// Enough for [`Choice::of`] when the reader's verdict on the whole file is taken on the way and, if it fails, the choice is repeated without it.
    ///
    /// # Errors
    /// When the folder cannot be listed. A file that cannot be read is a candidate that says why.
    pub fn list<S: Storage>(storage: &S, folder: &Path) -> Result<Vec<Self>, IoError> {
        let mut candidates = Vec::new();
        for entry in storage.list(folder)? {
            let Some(lsn) = snapshot_lsn(&entry.name) else { continue };
            let path = folder.join(&entry.name);
            let info = SnapshotReader::open(storage, &path).and_then(|reader| {
                let facts = *reader.facts();
                if facts.lsn != lsn {
                    return Err(SnapshotError::Damaged { file: path.clone(), offset_bytes: 32, what: "name and LSN differ" });
                }
                Ok(SnapshotInfo { facts, sections: 0, key_count: 0, fingerprint: 0, bytes: entry.len })
            });
            candidates.push(Self { path, lsn, info });
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.lsn));
        Ok(candidates)
    }
}

/// Where recovery begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Index of the snapshot among the candidates; none to begin empty.
    pub snapshot: Option<usize>,
    /// First LSN to replay.
    pub from_lsn: u64,
    /// Highest LSN that snapshots prove to have been synced, for [`crate::wal::WalReader::open`].
    pub durable_lsn: u64,
    /// How many newer snapshots were passed over because they are damaged; each is worth a warning and a count.
    pub damaged: usize,
}

impl Choice {
    /// Chooses among candidates, newest first. `wal_first_lsn` is none when there is no log.
    ///
    /// # Errors
    /// [`ChoiceError`]; never an older state in silence, never an empty one.
    pub fn of(candidates: &[Candidate], wal_first_lsn: Option<u64>) -> Result<Self, ChoiceError> {
        assert!(candidates.is_sorted_by(|one, other| one.lsn > other.lsn), "candidates come newest first, each LSN once");
        let lsns = |until: usize| candidates.iter().take(until).map(|candidate| candidate.lsn).collect::<Vec<_>>();
        let durable_lsn = candidates.first().map_or(0, |newest| newest.lsn);
        for (index, candidate) in candidates.iter().enumerate() {
            let info = match &candidate.info {
                Ok(info) => info,
                Err(error) if error.damaged() => continue,
                Err(error) => return Err(ChoiceError::Unreadable { error: error.clone() }),
            };
            let lsn = info.facts.lsn;
            assert_eq!(lsn, candidate.lsn, "a candidate's name and LSN are compared when it is listed");
            if wal_first_lsn.is_none_or(|first| first > lsn.saturating_add(1)) {
                return Err(ChoiceError::NotReached { lsn, wal_first_lsn, damaged: lsns(index) });
            }
            assert!(lsn <= durable_lsn, "the newest snapshot comes first");
            return Ok(Self { snapshot: Some(index), from_lsn: lsn.saturating_add(1), durable_lsn, damaged: index });
        }
        let all = candidates.len();
        let whole_log = wal_first_lsn == Some(FIRST_LSN) || (wal_first_lsn.is_none() && all == 0);
        if !whole_log {
            return Err(ChoiceError::NoneSound { wal_first_lsn, damaged: lsns(all) });
        }
        Ok(Self { snapshot: None, from_lsn: FIRST_LSN, durable_lsn, damaged: all })
    }
}

/// The LSN up to which the log may be released: the oldest snapshot kept, and not past what is archived when there is an archive. With fewer than two
/// sound snapshots nothing may go.
pub fn releasable_lsn(kept_lsns: &[u64], archived_lsn: Option<u64>) -> u64 {
    if kept_lsns.len() < 2 {
        return 0;
    }
    assert!(kept_lsns.is_sorted_by(|one, other| one > other), "snapshots come newest first, each LSN once");
    let oldest = kept_lsns[kept_lsns.len() - 1];
    archived_lsn.map_or(oldest, |archived| archived.min(oldest))
}
