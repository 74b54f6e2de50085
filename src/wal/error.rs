//! What can go wrong when a log is written and when it is opened; the edge turns each into a stable code.

use std::path::PathBuf;

use streamgauge_api::{ApiError, Code};

use super::damage::{Damage, ways_out};
use crate::storage::IoError;

/// Why frames were not appended, or not synced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// No room on the disk. Nothing of the turn is in the log; the same frames may be appended again once there is space.
    #[error("the disk has no room for {bytes} bytes of WAL: {cause}")]
    StorageFull {
        /// Bytes of the turn.
        bytes: usize,
        /// What the operating system said.
        cause: IoError,
    },
    /// A write or sync failed before; the log takes nothing any more. The process has to stop.
    #[error("the WAL is closed after a failed write or sync: {cause}")]
    Poisoned {
        /// The first failure.
        cause: IoError,
    },
    /// The disk does not keep up with syncs: the next segment is not there yet, and this one cannot be made longer. Nothing of the turn is
    /// in the log; the same frames may be appended again once the sync that hangs has returned.
    #[error("the disk does not keep up: the next WAL segment waits for a sync that has not returned ({unsynced_bytes} bytes unsynced)")]
    SyncBehind {
        /// Bytes written since the last sync.
        unsynced_bytes: u64,
    },
    /// A frame beyond its bound. Nothing of the turn is in the log.
    #[error("a frame of {bytes} bytes is larger than {limit}")]
    FrameTooLarge {
        /// Bytes of positions and body.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

impl From<&WalError> for ApiError {
    fn from(error: &WalError) -> Self {
        let code = match error {
            WalError::StorageFull { .. } => Code::StorageFull,
            WalError::SyncBehind { .. } => Code::Overloaded,
            WalError::Poisoned { .. } => Code::WalUnavailable,
            WalError::FrameTooLarge { .. } => Code::FrameTooLarge,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<WalError> for ApiError {
    fn from(error: WalError) -> Self {
        Self::from(&error)
    }
}

/// Why a log is not opened. Nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalOpenError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Bytes that a crash cannot explain.
    #[error("{} is damaged at byte {} (LSN {}): {}", .0.file.display(), .0.offset_bytes, .0.first_lsn, .0.kind.as_str())]
    Damaged(Box<Damage>),
    /// A sound frame that does not follow the one before it.
    #[error("{} at byte {offset_bytes}: the frame at LSN {lsn} does not follow the frame before it", .file.display())]
    ChainBroken {
        /// The segment.
        file: PathBuf,
        /// Where the frame begins.
        offset_bytes: u64,
        /// LSN of the frame.
        lsn: u64,
    },
    /// A sound frame with the wrong LSN.
    #[error("{} at byte {offset_bytes}: found LSN {found} where {wanted} must be", .file.display())]
    LsnGap {
        /// The segment.
        file: PathBuf,
        /// Where the frame begins.
        offset_bytes: u64,
        /// The LSN after the last good row.
        wanted: u64,
        /// The frame's LSN.
        found: u64,
    },
    /// A segment is not there.
    #[error("a segment is missing in {}: LSN {wanted} is wanted, {}", .folder.display(), .found.map_or("there is no log".to_owned(), |found| format!("the log goes on at {found}")))]
    SegmentMissing {
        /// The WAL folder.
        folder: PathBuf,
        /// First LSN that is wanted.
        wanted: u64,
        /// First LSN that is there behind the hole.
        found: Option<u64>,
    },
    /// A segment of another log.
    #[error("{} belongs to log {found:032x}, this is log {wanted:032x}", .file.display())]
    OtherLog {
        /// The segment.
        file: PathBuf,
        /// Log id of this log.
        wanted: u128,
        /// Log id of the segment.
        found: u128,
    },
    /// A frame kind that this build does not know.
    #[error("{} at byte {offset_bytes}: LSN {lsn} is a frame of unknown kind {kind}", .file.display())]
    UnknownKind {
        /// The segment.
        file: PathBuf,
        /// Where the frame begins.
        offset_bytes: u64,
        /// LSN of the frame.
        lsn: u64,
        /// Its kind.
        kind: u8,
    },
    /// A newer program wrote this.
    #[error("{} is of format {found}; this program reads up to {known}", .file.display())]
    FormatTooNew {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// Another polynomial, or encryption.
    #[error("{} uses {what} {number}, which this program does not know", .file.display())]
    UnknownCoding {
        /// The segment.
        file: PathBuf,
        /// `checksum kind` or `key id`.
        what: &'static str,
        /// Its number.
        number: u32,
    },
}

impl WalOpenError {
    /// One word for machines, finer than the code.
    pub fn kind(&self) -> &'static str {
        match self {
            WalOpenError::Io(_) => "io",
            WalOpenError::Damaged(damage) => damage.kind.as_str(),
            WalOpenError::ChainBroken { .. } => "chain_broken",
            WalOpenError::LsnGap { .. } => "lsn_gap",
            WalOpenError::SegmentMissing { .. } => "segment_missing",
            WalOpenError::OtherLog { .. } => "other_log",
            WalOpenError::UnknownKind { .. } => "unknown_kind",
            WalOpenError::FormatTooNew { .. } => "format_too_new",
            WalOpenError::UnknownCoding { .. } => "unknown_coding",
        }
    }

    /// Whether to refuse with exit code 65 (the data is wrong) rather than 74 (the disk did not answer).
    pub fn data_is_wrong(&self) -> bool {
        !matches!(self, WalOpenError::Io(_))
    }

    /// The lines under the headline: where, what is lost, and the ways out.
    pub fn report(&self) -> String {
        match self {
            WalOpenError::Damaged(damage) => damage.report(),
            WalOpenError::ChainBroken { .. }
            | WalOpenError::UnknownKind { .. }
            | WalOpenError::LsnGap { .. }
            | WalOpenError::SegmentMissing { .. } => format!("  cause    {self}\n{}", ways_out()),
            WalOpenError::OtherLog { .. } => {
                format!("  cause    {self}\n  options  move the file back to the log it belongs to, or give the right --data-dir\n")
            }
            WalOpenError::FormatTooNew { .. } | WalOpenError::UnknownCoding { .. } => {
                format!("  cause    {self}\n  options  run the program that wrote it, or a newer one\n")
            }
            WalOpenError::Io(error) => format!("  cause    {error}\n"),
        }
    }
}

impl From<&WalOpenError> for ApiError {
    fn from(error: &WalOpenError) -> Self {
        let code = match error {
            WalOpenError::Io(error) => return error.into(),
            WalOpenError::FormatTooNew { .. } | WalOpenError::UnknownCoding { .. } => Code::FormatTooNew,
            _ => Code::WalDamaged,
        };
        ApiError::new(code, error.to_string()).hint(error.report()).with("kind", error.kind().into())
    }
}

impl From<WalOpenError> for ApiError {
    fn from(error: WalOpenError) -> Self {
        Self::from(&error)
    }
}
