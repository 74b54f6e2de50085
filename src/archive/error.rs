//! Why the archive cannot be opened, or cannot go on.

use crate::storage::IoError;
use crate::wal::TailError;
use std::path::PathBuf;
use streamgauge_api::{ApiError, Code};

/// See the module's head.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed; it is tried again.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] TailError),
    /// What stands in the log's head cannot be read.
    #[error("{0}")]
    Names(ApiError),
    /// A frame of the log cannot be read.
    #[error("the frame at LSN {lsn} cannot be archived: {reason}")]
    Frame {
        /// Its first LSN.
        lsn: u64,
        /// What is wrong.
        reason: String,
    },
    /// Rows do not become a file.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A manifest is not as it was written.
    #[error("{}: {reason}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another writer has committed since.
    #[error("{} was committed by another writer: this one stops", .path.display())]
    Fenced {
        /// What stands in its place.
        path: PathBuf,
    },
    /// The declaration differs where it may not.
    #[error("{0}")]
    Fixed(ApiError),
    /// The archive belongs to another log.
    #[error("the archive is of log {found}, and this data folder has log {own}")]
    ForeignLog {
        /// Whose it is.
        found: String,
        /// Ours.
        own: String,
    },
    /// The archive has what the log never wrote: the data folder is an older copy.
    #[error("the archive has LSN {archived_lsn}, and the log ends at {durable_lsn}: the data folder is an older copy")]
    AheadOfLog {
        /// The archive's last.
        archived_lsn: u64,
        /// The log's last.
        durable_lsn: u64,
    },
}

impl ArchiveError {
    /// Whether trying again may help.
    pub fn passes(&self) -> bool {
        match self {
            Self::Io(_) | Self::Log(TailError::Io(_)) | Self::File { .. } => true,
            Self::Log(_) | Self::Names(_) | Self::Frame { .. } | Self::Manifest { .. } => false,
            Self::Fenced { .. } | Self::Fixed(_) | Self::ForeignLog { .. } | Self::AheadOfLog { .. } => false,
        }
    }
}

impl From<&ArchiveError> for ApiError {
    fn from(error: &ArchiveError) -> Self {
        let told = |code| ApiError::new(code, error.to_string());
        match error {
            ArchiveError::Io(cause) => cause.into(),
            ArchiveError::Log(cause) => cause.clone().into(),
            ArchiveError::Names(cause) => cause.clone(),
            ArchiveError::Frame { .. } => told(Code::WalDamaged),
            ArchiveError::File { path, .. } => told(Code::IoFailed).at(path.display().to_string()),
            ArchiveError::Manifest { path, .. } => told(Code::ArchiveDamaged).at(path.display().to_string()),
            ArchiveError::Fenced { .. } => told(Code::ArchiveFenced),
            ArchiveError::Fixed(cause) => cause.clone(),
            ArchiveError::ForeignLog { .. } => told(Code::ArchiveForeignLog),
            ArchiveError::AheadOfLog { .. } => told(Code::ArchiveAheadOfLog),
        }
    }
}
