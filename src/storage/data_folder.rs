//! The data folder: one process at a time, and only files of ours.
//!
//! ```text
//! DATA/lock           flock held while the process lives; holds its pid as text
//! DATA/reserve        emergency reserve
//! DATA/wal/           segments
//! DATA/snapshots/     snapshots
//! DATA/panic.json     what the last process that panicked left behind
//! ```
//! The lock is the kernel's: it goes away with the process however that ends, so there are no stale locks. Opened once by start-up, before anything
//! else is read. Nothing of a foreign folder is changed, not even by a lock file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use streamgauge_api::{ApiError, Code};

use super::{Disk, IoError, Operation, Storage, StorageFile};

const FOREIGN_MAGICS: [&[u8; 8]; 2] = [b"BEAVAWAL", b"BEAVASNP"];
const FOREIGN_SUFFIX: &str = ".bvs";

/// Why a data folder cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataFolderError {
    /// Another process holds the lock.
    #[error("{} is in use by {}", .folder.display(), .pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Who holds it, as far as the lock file tells.
        pid: Option<u32>,
    },
    /// The folder holds files of Beava.
    #[error("{} is a file of Beava; it was neither read nor changed", .file.display())]
    Foreign {
        /// The first such file.
        file: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl From<DataFolderError> for ApiError {
    fn from(error: DataFolderError) -> Self {
        let reason = error.to_string();
        match error {
            DataFolderError::Locked { folder, pid } => {
                let refusal = ApiError::new(Code::DataDirLocked, reason).at(folder.display().to_string());
                match pid {
                    Some(pid) => refusal.with("pid", pid.into()),
                    None => refusal,
                }
            }
            DataFolderError::Foreign { file } => ApiError::new(Code::DataDirForeign, reason).at(file.display().to_string()),
            DataFolderError::Io(error) => error.into(),
        }
    }
}

/// A locked data folder on the real disk. Dropping it gives the lock back.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates what is missing, refuses foreign files, takes the lock and writes our pid into it.
    ///
    /// # Errors
    /// [`DataFolderError`]; a refused folder is unchanged.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        refuse_foreign_files(&Disk, path)?;
        Disk.create_folder(path)?;
        let lock = lock(path)?;
        let folder = Self { path: path.to_owned(), _lock: lock };
        Disk.create_folder(&folder.wal())?;
        Disk.create_folder(&folder.snapshots())?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where WAL segments are.
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Where snapshots are.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
}

/// A folder that one process at a time has. Dropping it gives it back.
#[derive(Debug)]
pub struct FolderLock {
    _lock: File,
}

impl FolderLock {
    /// Takes a folder, which is created where it is missing.
    ///
    /// # Errors
    /// [`DataFolderError::Locked`], and what the operating system says.
    pub fn take(folder: &Path) -> Result<Self, DataFolderError> {
        Disk.create_folder(folder)?;
        Ok(Self { _lock: lock(folder)? })
    }
}

fn lock(folder: &Path) -> Result<File, DataFolderError> {
    let path = folder.join("lock");
    let failed = |error| IoError::new(Operation::Lock, &path, error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The pid is a courtesy: a lock file that cannot be read still refuses.
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DataFolderError::Locked { folder: folder.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error).into()),
    }
    let pid = format!("{}\n", std::process::id());
    let told = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(pid.as_bytes())).and_then(|()| file.set_len(pid.len() as u64));
    match told.map_err(failed) {
        // The lock is the kernel's; a disk without room for a few digits does not prevent a start.
        Err(error) if error.full() => tracing::debug!(%error, "the lock file does not tell our pid"),
        other => other?,
    }
    Ok(file)
}

fn refuse_foreign_files<S: Storage>(storage: &S, folder: &Path) -> Result<(), DataFolderError> {
    for place in [folder.to_owned(), folder.join("wal"), folder.join("snapshots")] {
        for entry in storage.list(&place)? {
            let file = place.join(&entry.name);
            if entry.name.ends_with(FOREIGN_SUFFIX) {
                return Err(DataFolderError::Foreign { file });
            }
            let mut magic = [0_u8; 8];
            storage.open_read(&file)?.read_at(&mut magic, 0)?;
            if FOREIGN_MAGICS.contains(&&magic) {
                return Err(DataFolderError::Foreign { file });
            }
        }
    }
    Ok(())
}

/// Bytes nobody can guess, for the log id and the hash seed of a new log.
///
/// # Errors
/// When the kernel's source cannot be read.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], IoError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0_u8; N];
    let mut file = File::open(path).map_err(|error| IoError::new(Operation::Open, path, error))?;
    file.read_exact(&mut bytes).map_err(|error| IoError::new(Operation::Read, path, error))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_refused_with_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        let refusal = ApiError::from(DataFolder::open(folder.path()).unwrap_err());
        assert_eq!(refusal.code, Code::DataDirLocked);
        assert_eq!(refusal.more.get("pid"), Some(&std::process::id().into()));
        drop(first);
        DataFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn files_of_beava_are_refused_and_left_alone() {
        for (name, bytes) in [("x.bvs", b"anything".as_slice()), ("wal/0001", b"BEAVAWAL\x01"), ("snapshots/state", b"BEAVASNP\x02\x03")] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, bytes).unwrap();
            let error = DataFolder::open(folder.path()).unwrap_err();
            assert_eq!(error, DataFolderError::Foreign { file: file.clone() });
            assert_eq!(ApiError::from(error).code, Code::DataDirForeign);
            assert_eq!(std::fs::read(&file).unwrap(), bytes);
            assert!(!folder.path().join("lock").exists());
        }
    }

    #[test]
    fn the_reserve_is_taken_released_and_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = crate::storage::Reserve::new(Disk, folder.path(), 1 << 20);
        assert!(!reserve.held().unwrap());
        assert!(reserve.restore().unwrap());
        assert!(reserve.held().unwrap());
        assert!(reserve.release().unwrap());
        assert!(!reserve.release().unwrap());
        assert!(reserve.restore().unwrap());
    }
}
