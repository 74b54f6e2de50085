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
    /// The program that wrote this lays a state out otherwise than this one.
    #[error("snapshot {} was written by a program that lays the state out otherwise: {what}", .file.display())]
    OtherLayout {
        /// The file.
        file: PathBuf,
        /// Of which table and feature, and how it differs.
        what: String,
    },
    /// Another polynomial, or encryption.
    #[error("snapshot {} uses {what} {number}, which this program does not know", .file.display())]
    UnknownCoding {
        /// The file.
        file: PathBuf,
        /// `checksum kind`, `key id` or `flags`.
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

impl SnapshotError {
    /// Whether the bytes are wrong. Everything else (no answer from the disk, a newer format) says nothing about them: such a file may
    /// be sound, so it is neither passed over nor put aside.
    pub fn damaged(&self) -> bool {
        matches!(self, SnapshotError::Damaged { .. })
    }
}

impl From<SnapshotError> for ApiError {
    fn from(error: SnapshotError) -> Self {
        let reason = error.to_string();
        match error {
            SnapshotError::Io(error) => error.into(),
            SnapshotError::Damaged { .. } => ApiError::new(Code::SnapshotDamaged, reason),
            SnapshotError::FormatTooNew { .. } | SnapshotError::UnknownCoding { .. } | SnapshotError::OtherLayout { .. } => {
                ApiError::new(Code::FormatTooNew, reason)
            }
            SnapshotError::SectionTooLarge { .. } => ApiError::new(Code::InternalError, reason),
        }
    }
}

/// Why no snapshot can be started from. Nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// A snapshot newer than every sound one cannot be read, and not because its bytes are wrong: starting from an older one would
    /// put it aside, and it may hold what nothing else holds.
    #[error("{error}; it is newer than every snapshot that can be read, so nothing older is started from. It was left as it is")]
    Unreadable {
        /// Why it cannot be read.
        error: SnapshotError,
    },
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

impl ChoiceError {
    /// Whether data is wrong or missing, as opposed to a file that could not be read.
    pub fn data_is_wrong(&self) -> bool {
        !matches!(self, ChoiceError::Unreadable { error: SnapshotError::Io(_) })
    }

    fn code(&self) -> Code {
        match self {
            ChoiceError::Unreadable { error: SnapshotError::Io(error) } => ApiError::from(error).code,
            ChoiceError::Unreadable { .. } => Code::FormatTooNew,
            // Nothing is wrong with the snapshot: the log behind it is not there.
            ChoiceError::NotReached { damaged, .. } if damaged.is_empty() => Code::WalDamaged,
            ChoiceError::NotReached { .. } | ChoiceError::NoneSound { .. } => Code::SnapshotDamaged,
        }
    }

    fn ways_out(&self) -> &'static str {
        match self {
            ChoiceError::Unreadable { error: SnapshotError::Io(_) } => {
                "options: 1) look at the disk and its kernel messages, and start again; 2) if the file is lost, move it out of the folder \
                 by hand: the start then uses the snapshot before it, if the WAL reaches back to that"
            }
            ChoiceError::Unreadable { .. } => {
                "options: 1) run the program that wrote it, or a newer one; 2) move it out of the folder by hand: the start then uses the \
                 snapshot before it, if the WAL reaches back to that"
            }
            ChoiceError::NotReached { damaged, .. } if damaged.is_empty() => {
                "options: 1) put the `wal` folder that belongs to the snapshots back; 2) move the data folder away and start with an \
                 empty one: every source is read again from its `start`, pushed events are not"
            }
            ChoiceError::NotReached { .. } | ChoiceError::NoneSound { .. } => {
                "options: 1) put a copy of a sound snapshot back; 2) move the data folder away and start with an empty one: every source \
                 is read again from its `start`, pushed events are not"
            }
        }
    }
}

impl From<ChoiceError> for ApiError {
    fn from(error: ChoiceError) -> Self {
        ApiError::new(error.code(), error.to_string()).hint(error.ways_out())
    }
}
