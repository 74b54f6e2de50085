//! What can be wrong with a snapshot, and with all of them together.

use std::path::PathBuf;

use streamgauge_api::{ApiError, Code};

use crate::storage::IoError;

/// Why a snapshot was not written or is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Bytes that are not what was written.
    #[error("snapshot {} is damaged at byte {offset_bytes}: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where.
        offset_bytes: u64,
        /// Which part.
        what: &'static str,
    },
    /// A newer program wrote this.
    #[error("snapshot {} is of format {found}; this program reads up to {known}", .file.display())]
    FormatTooNew {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// Another polynomial, or encryption.
    #[error("snapshot {} uses {what} {number}, which this program does not know", .file.display())]
    UnknownCoding {
        /// The file.
        file: PathBuf,
        /// `checksum kind` or `key id`.
        what: &'static str,
        /// Its number.
        number: u32,
    },
    /// A section beyond its bound; split it over several indexes.
    #[error("a section of {bytes} bytes is larger than {limit}")]
    SectionTooLarge {
        /// Bytes given.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

impl From<SnapshotError> for ApiError {
    fn from(error: SnapshotError) -> Self {
        let reason = error.to_string();
        match error {
            SnapshotError::Io(error) => error.into(),
            SnapshotError::Damaged { .. } => ApiError::new(Code::SnapshotDamaged, reason),
            SnapshotError::FormatTooNew { .. } | SnapshotError::UnknownCoding { .. } => ApiError::new(Code::FormatTooNew, reason),
            SnapshotError::SectionTooLarge { .. } => ApiError::new(Code::InternalError, reason),
        }
    }
}

/// Why no snapshot can be started from. Nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The newest sound snapshot is older than the log: rows between are nowhere.
    #[error("snapshot {lsn} is the newest sound one, but the WAL begins at LSN {}", .wal_first_lsn.map_or("none (there is no WAL)".to_owned(), |lsn| lsn.to_string()))]
    NotReached {
        /// LSN of the newest sound snapshot.
        lsn: u64,
        /// First LSN of the log.
        wal_first_lsn: Option<u64>,
        /// LSNs of the damaged ones.
        damaged: Vec<u64>,
    },
    /// No sound snapshot, and the log does not begin at the first LSN.
    #[error("no snapshot is sound ({} damaged) and the WAL does not begin at the first LSN", .damaged.len())]
    NoneSound {
        /// First LSN of the log.
        wal_first_lsn: Option<u64>,
        /// LSNs of the damaged ones.
        damaged: Vec<u64>,
    },
}

impl From<ChoiceError> for ApiError {
    fn from(error: ChoiceError) -> Self {
        let advice = "options: 1) put a copy of a sound snapshot back; 2) move the data folder away and start with an empty one: every source is read \
                      again from its `start`, pushed events are not";
        ApiError::new(Code::SnapshotDamaged, error.to_string()).hint(advice)
    }
}
