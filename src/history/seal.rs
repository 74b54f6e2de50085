//! What came of a run, as a file, and back: a snapshot of the shadow at one LSN, in a folder of its own.
//!
//! `DATA/history/{lowest fill of the run}/{lsn}.snap`, in the format of snapshots. It is written, synced and read back
//! before the frame that names it; so whoever replays that frame finds it, reads it, follows the log from behind its LSN
//! to that frame as the run did, and has the tables that came in. Files that no flip names which a snapshot may still
//! have in front of it are removed.

use crate::apply::codec::decode;
use crate::snapshot::{SnapshotError, SnapshotFacts, SnapshotInfo, SnapshotReader, SnapshotWriter, snapshot_path};
use crate::state::{Content, Fills, Frozen, ImageError, ImageReader, Seal, State, Unwritten};
use crate::storage::{IoError, Storage};
use crate::wal::{Frame, FrameKind, LogIdentity};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Why a sealed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is not there, or not whole.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// It is no state.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It is another one.
    #[error("{} is not the file that the log names: {what}", .file.display())]
    Other {
        /// The file.
        file: PathBuf,
        /// What differs.
        what: String,
    },
}

/// Where files of history are, beside the folder of snapshots.
pub(crate) fn folder_beside(snapshots: &Path) -> PathBuf {
    snapshots.with_file_name("history")
}

/// A seal's file.
pub(crate) fn path_of(folder: &Path, seal: &Seal) -> PathBuf {
    snapshot_path(&folder.join(seal.folder.to_string()), seal.through_lsn)
}

/// Begins the file of a shadow that stands at this LSN.
pub(super) fn begin<S: Storage>(storage: &S, folder: &Path, fill: u64, facts: SnapshotFacts) -> Result<SnapshotWriter<S>, SnapshotError> {
    storage.create_folder(folder)?;
    SnapshotWriter::begin(storage.clone(), &folder.join(fill.to_string()), facts)
}

/// Writes a frozen shadow. `durable_lsn` covers it.
pub(super) fn write<S: Storage>(mut writer: SnapshotWriter<S>, frozen: &Frozen, durable_lsn: u64) -> Result<SnapshotInfo, Unwritten> {
    frozen.write_image(&mut writer)?;
    let fingerprint = frozen.fingerprint()?;
    Ok(writer.finish(frozen.key_count(), fingerprint, durable_lsn)?.0)
}

/// What the log says of a file.
pub(super) fn seal_of(fill: u64, info: &SnapshotInfo) -> Seal {
    Seal { folder: fill, through_lsn: info.facts.lsn, bytes: info.bytes, fingerprint: format!("{:032x}", info.fingerprint) }
}

/// Reads a sealed file back into a shadow of `state`.
///
/// # Errors
/// [`SealError`]; nothing has changed.
pub(crate) fn read<S: Storage>(storage: &S, folder: &Path, seal: &Seal, log: LogIdentity, state: &State) -> Result<State, SealError> {
    let file = path_of(folder, seal);
    let mut reader = SnapshotReader::open(storage, &file)?;
    let facts = *reader.facts();
    let other = |what: String| SealError::Other { file: file.clone(), what };
    if facts.log != log || facts.lsn != seal.through_lsn {
        return Err(other(format!("it is of another log, or stands at {}", facts.lsn)));
    }
    let mut image = ImageReader::default().charged_to(state);
    while let Some(section) = reader.next()? {
        image.take(&section)?;
    }
    let Some(info) = reader.info() else { unreachable!("a snapshot that was read to its end has its footer") };
    if info.bytes != seal.bytes || format!("{:032x}", info.fingerprint) != seal.fingerprint {
        return Err(other(format!("it has {} bytes and fingerprint {:032x}", info.bytes, info.fingerprint)));
    }
    Ok(image.finish(log.hash_seed, facts.lsn)?)
}

/// Brings a shadow behind a frame of the log. `skipped` says that an operator left it out.
///
/// # Errors
/// When a sound frame has no meaning.
pub(crate) fn follow(shadow: &mut State, frame: &Frame<'_>, skipped: bool) -> Result<(), crate::apply::codec::ContentError> {
    let content = match frame.kind {
        FrameKind::ROWS | FrameKind::CLOCK if !skipped => Some(decode(frame)?),
        _ => None,
    };
    if let Some(Content::Rows(rows)) = &content {
        let positions = usize::MAX;
        let told = |reason| crate::apply::codec::ContentError { lsn: frame.first_lsn, kind: frame.kind.0, reason };
        rows.batches.iter().try_for_each(|batch| batch.verify(positions)).map_err(told)?;
    }
    shadow.follow_log(content.as_ref(), (frame.first_lsn, frame.last_lsn()), frame.now_us);
    Ok(())
}

/// Removes files that nobody can need: neither a fill that is open nor a flip behind `oldest_lsn`, the oldest snapshot.
///
/// # Errors
/// What the file layer says.
pub(crate) fn sweep<S: Storage>(storage: &S, folder: &Path, fills: &Fills, oldest_lsn: u64) -> Result<usize, IoError> {
    let wanted: BTreeSet<PathBuf> =
        fills.flips.iter().filter(|flip| flip.lsn > oldest_lsn).map(|flip| path_of(folder, &flip.seal)).collect();
    let mut removed = 0;
    for number in 1..=fills.begun() {
        let place = folder.join(number.to_string());
        for entry in storage.list(&place)? {
            let file = place.join(&entry.name);
            if !wanted.contains(&file) {
                storage.remove(&file)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}
