//! A failed file operation, with the path and the operating system's word, cloneable so that a poisoned WAL can repeat its cause.

use std::io;
use std::path::{Path, PathBuf};

use streamgauge_api::{ApiError, Code};

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Creating a file or folder.
    Create,
    /// Opening a file.
    Open,
    /// Listing a folder.
    List,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Syncing a file or folder.
    Sync,
    /// Renaming a file.
    Rename,
    /// Unlinking a file.
    Remove,
    /// Reserving space or setting a length.
    Resize,
    /// Locking a file.
    Lock,
    /// Asking for length or free space.
    Inspect,
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Open => "open",
            Operation::List => "list",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Sync => "sync",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::Resize => "resize",
            Operation::Lock => "lock",
            Operation::Inspect => "inspect",
        }
    }
}

/// A failed file operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} {}: {message}", .operation.verb(), .path.display())]
pub struct IoError {
    /// What was tried.
    pub operation: Operation,
    /// On which file or folder.
    pub path: PathBuf,
    /// Kind as std sorts it.
    pub kind: io::ErrorKind,
    /// The operating system's number, when there is one.
    pub errno: Option<i32>,
    /// The operating system's words.
    pub message: String,
}

impl IoError {
    /// Wraps what the operating system said.
    pub fn new(operation: Operation, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { operation, path: path.to_owned(), kind: error.kind(), errno: error.raw_os_error(), message: error.to_string() }
    }

    /// Whether there was no room: the disk, a quota or a file size limit. The only error after which the same operation may be tried again later,
    /// and never when it came from a sync.
    pub fn full(&self) -> bool {
        let no_room = matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
        no_room && self.operation != Operation::Sync
    }

    /// Whether the file is not there.
    pub fn missing(&self) -> bool {
        self.kind == io::ErrorKind::NotFound
    }
}

impl From<&IoError> for ApiError {
    fn from(error: &IoError) -> Self {
        let code = if error.full() { Code::StorageFull } else { Code::IoFailed };
        ApiError::new(code, error.to_string()).at(error.path.display().to_string())
    }
}

impl From<IoError> for ApiError {
    fn from(error: IoError) -> Self {
        Self::from(&error)
    }
}
