//! The emergency reserve: a file of reserved space that is given back when the disk is full, so that a snapshot and a WAL release can still be written.
//!
//! Pushes never live on the reserve: whoever meets a full disk on the way to *freeing* space (the snapshot thread) releases it, and it is recreated
//! once there is room for it twice, so that it does not itself fill the disk again.

use std::path::{Path, PathBuf};

use super::{IoError, Storage, StorageFile};

/// Size of the reserve.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// The reserve of one data folder.
#[derive(Debug, Clone)]
pub struct Reserve<S> {
    storage: S,
    path: PathBuf,
    bytes: u64,
}

impl<S: Storage> Reserve<S> {
    /// The reserve of `folder`; nothing is created yet.
    pub fn new(storage: S, folder: &Path, bytes: u64) -> Self {
        Self { storage, path: folder.join("reserve"), bytes }
    }

    /// Whether the space is held.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn held(&self) -> Result<bool, IoError> {
        match self.storage.open_read(&self.path) {
            Ok(file) => Ok(file.size_bytes()? >= self.bytes),
            Err(error) if error.missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the space back. True when there was some.
    ///
    /// # Errors
    /// When the file cannot be unlinked.
    pub fn release(&self) -> Result<bool, IoError> {
        match self.storage.remove(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the space again when the disk has room for it twice. True when the reserve is held afterwards.
    ///
    /// # Errors
    /// When the file cannot be created; a disk without room is no error.
    pub fn restore(&self) -> Result<bool, IoError> {
        if self.held()? {
            return Ok(true);
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        if self.storage.space(folder)?.free_bytes < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        self.take_back()
    }

    /// Takes space again that was lent just now, by whoever lent it and keeps others from it. True when the reserve
    /// is held afterwards.
    ///
    /// # Errors
    /// When the file cannot be created; a disk without room is no error.
    pub fn take_back(&self) -> Result<bool, IoError> {
        let file = match self.storage.create(&self.path) {
            Err(error) if error.kind == std::io::ErrorKind::AlreadyExists => self.storage.open(&self.path)?,
            other => other?,
        };
        match file.preallocate(self.bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.full() => {
                drop(file);
                self.release()?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
