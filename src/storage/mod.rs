//! The file layer: the only place of the engine that touches files.
//!
//! [`Storage`] is a seam with two implementations: [`Disk`] (plain `pwrite`, `fdatasync`, `fallocate`, so that faults injected from outside the process
//! apply) and [`SimulatedDisk`] (durable bytes plus pending writes, crashes by seed). WAL and snapshot are generic over it.
//!
//! Invariants kept here so that nobody can forget them: every create, rename and unlink is followed by a sync of its folder before the call returns;
//! a file is created exclusively, never truncated by opening ([`Storage::overwrite_unsynced`] is the one exception to both, for last words).
//! What is *not* here: retries. A failed sync is final for its file, and only the caller
//! knows what that means ([`IoError::full`] is the one error a caller may live with).
//!
//! Called by the apply thread (WAL appends), the WAL syncer, the snapshot thread and start-up. All calls block.

mod checksum;
mod data_folder;
mod disk;
mod error;
mod reserve;
mod simulated;
mod stream;

use std::path::Path;

pub use checksum::{Checksum, ChecksumKind};
pub use data_folder::{DataFolder, DataFolderError, FolderLock, random_bytes};
pub use disk::{Disk, DiskFile};
pub use error::{IoError, Operation};
pub use reserve::{RESERVE_BYTES, Reserve};
pub use simulated::{Faults, SimulatedDisk, SimulatedFile};
pub use stream::{WordStream, read_head};

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// File name without its folder.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
}

/// Space of the file system that holds a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Files by path. Cheap to clone; a clone names the same disk.
pub trait Storage: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: StorageFile;

    /// Creates a folder with its parents; one that exists is fine.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_folder(&self, folder: &Path) -> Result<(), IoError>;

    /// Creates a file for reading and writing and syncs its folder.
    ///
    /// # Errors
    /// When the file exists, and what the operating system says.
    fn create(&self, path: &Path) -> Result<Self::File, IoError>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path) -> Result<Self::File, IoError>;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// What the operating system says.
    fn open_read(&self, path: &Path) -> Result<Self::File, IoError>;

    /// The files of a folder, sorted by name; folders inside are left out. A folder that does not exist has no files.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, folder: &Path) -> Result<Vec<Entry>, IoError>;

    /// The folders inside of a folder, sorted by name. A folder that does not exist has none.
    ///
    /// # Errors
    /// What the operating system says.
    fn folders(&self, folder: &Path) -> Result<Vec<String>, IoError>;

    /// Renames within one folder to a name that nothing has, and syncs the folder. Of several who
    /// try the same name one succeeds.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::AlreadyExists`], and what the operating system says.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Renames within one folder, over an existing file if there is one, and syncs the folder.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError>;

    /// Unlinks a file and syncs its folder.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> Result<(), IoError>;

    /// Makes `bytes` the content of a file, new or not, and syncs nothing: for last words, which must not
    /// hang on a sync.
    ///
    /// # Errors
    /// What the operating system says; a part may be written then.
    fn overwrite_unsynced(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError>;

    /// Space of the file system that holds `folder`.
    ///
    /// # Errors
    /// What the operating system says.
    fn space(&self, folder: &Path) -> Result<Space, IoError>;
}

/// An open file. Writes and reads name their place, so threads may share it.
pub trait StorageFile: std::fmt::Debug + Send + Sync + 'static {
    /// One `pwrite`: may write fewer bytes than given, never none without an error (for a non-empty slice).
    ///
    /// # Errors
    /// What the operating system says; [`IoError::full`] tells a full disk.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, IoError>;

    /// Fills `bytes` from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, IoError>;

    /// `fdatasync`: bytes and length are durable when it returns.
    ///
    /// # Errors
    /// Final for this file: the bytes that were pending may be lost although later calls succeed.
    fn sync(&self) -> Result<(), IoError>;

    /// Cuts or extends with zeroes.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, len: u64) -> Result<(), IoError>;

    /// Makes the file `len` bytes long with space reserved; new bytes read as zeroes. Where the file system cannot reserve, only the length is set.
    ///
    /// # Errors
    /// What the operating system says; [`IoError::full`] when the space is not there.
    fn preallocate(&self, len: u64) -> Result<(), IoError>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn size_bytes(&self) -> Result<u64, IoError>;

    /// Where the file was opened, for messages.
    fn path(&self) -> &Path;

    /// Writes all of `bytes`, in as many calls as it takes. For files that nobody reads before they are complete.
    ///
    /// # Errors
    /// As [`StorageFile::write_at`]; a part may have been written.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), IoError> {
        while !bytes.is_empty() {
            let written = self.write_at(bytes, offset)?;
            bytes = bytes.get(written..).unwrap_or_default();
            offset += written as u64;
        }
        Ok(())
    }
}
