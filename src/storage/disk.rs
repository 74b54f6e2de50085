//! The real disk: plain `pwrite64`, `pread64`, `fdatasync`, `fallocate` and friends, one system call per call.
//!
//! Reads, writes and syncs go through libc (std), so faults injected by strace or LD_PRELOAD apply to them. An interrupted call is repeated; nothing
//! else is. A clone names the same file system and holds nothing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with, statvfs};
use rustix::io::Errno;

use super::{Entry, IoError, Operation, Space, Storage, StorageFile};

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// An open file of the real disk.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn sync_folder_of(path: &Path) -> Result<(), IoError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let handle = File::open(folder).map_err(|error| IoError::new(Operation::Open, folder, error))?;
    uninterrupted(|| handle.sync_all()).map_err(|error| IoError::new(Operation::Sync, folder, error))
}

impl Disk {
    fn open_with(path: &Path, options: &OpenOptions, operation: Operation) -> Result<DiskFile, IoError> {
        let file = options.open(path).map_err(|error| IoError::new(operation, path, error))?;
        Ok(DiskFile { file, path: path.to_owned() })
    }
}

impl Storage for Disk {
    type File = DiskFile;

    fn create_folder(&self, folder: &Path) -> Result<(), IoError> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
                Err(IoError::new(Operation::Create, folder, error))
            }
            _ => sync_folder_of(folder),
        }
    }

    fn create(&self, path: &Path) -> Result<DiskFile, IoError> {
        let file = Self::open_with(path, OpenOptions::new().read(true).write(true).create_new(true), Operation::Create)?;
        sync_folder_of(path)?;
        Ok(file)
    }

    fn open(&self, path: &Path) -> Result<DiskFile, IoError> {
        Self::open_with(path, OpenOptions::new().read(true).write(true), Operation::Open)
    }

    fn open_read(&self, path: &Path) -> Result<DiskFile, IoError> {
        Self::open_with(path, OpenOptions::new().read(true), Operation::Open)
    }

    fn list(&self, folder: &Path) -> Result<Vec<Entry>, IoError> {
        let failed = |error| IoError::new(Operation::List, folder, error);
        let found = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => found.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for entry in found {
            let entry = entry.map_err(failed)?;
            let facts = match entry.metadata() {
                // Unlinked between the listing and the question.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                facts => facts.map_err(failed)?,
            };
            if facts.is_file() {
                entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), len: facts.len() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn folders(&self, folder: &Path) -> Result<Vec<String>, IoError> {
        let failed = |error| IoError::new(Operation::List, folder, error);
        let found = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            found => found.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in found {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        let failed = |error| IoError::new(Operation::Rename, from, error);
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // File systems without such a rename have links, which never replace either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(from, to).map_err(failed)?;
                fs::remove_file(from).map_err(failed)?;
            }
            renamed => renamed.map_err(io::Error::from).map_err(failed)?,
        }
        sync_folder_of(to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        fs::rename(from, to).map_err(|error| IoError::new(Operation::Rename, from, error))?;
        sync_folder_of(to)
    }

    fn remove(&self, path: &Path) -> Result<(), IoError> {
        fs::remove_file(path).map_err(|error| IoError::new(Operation::Remove, path, error))?;
        sync_folder_of(path)
    }

    fn overwrite_unsynced(&self, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        Self::open_with(path, OpenOptions::new().write(true).create(true).truncate(true), Operation::Create)?.write_all_at(bytes, 0)
    }

    fn space(&self, folder: &Path) -> Result<Space, IoError> {
        let facts = statvfs(folder).map_err(|error| IoError::new(Operation::Inspect, folder, error))?;
        Ok(Space { free_bytes: facts.f_bavail.saturating_mul(facts.f_frsize), total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize) })
    }
}

impl StorageFile for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, IoError> {
        let written =
            uninterrupted(|| self.file.write_at(bytes, offset)).map_err(|error| IoError::new(Operation::Write, &self.path, error))?;
        if written == 0 && !bytes.is_empty() {
            return Err(IoError::new(Operation::Write, &self.path, io::Error::from(io::ErrorKind::WriteZero)));
        }
        Ok(written)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, IoError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let got = uninterrupted(|| self.file.read_at(rest, offset + filled as u64))
                .map_err(|error| IoError::new(Operation::Read, &self.path, error))?;
            if got == 0 {
                break;
            }
            filled += got;
        }
        Ok(filled)
    }

    fn sync(&self) -> Result<(), IoError> {
        uninterrupted(|| self.file.sync_data()).map_err(|error| IoError::new(Operation::Sync, &self.path, error))
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        uninterrupted(|| self.file.set_len(len)).map_err(|error| IoError::new(Operation::Resize, &self.path, error))
    }

    fn preallocate(&self, len: u64) -> Result<(), IoError> {
        let reserved = uninterrupted(|| fallocate(&self.file, FallocateFlags::empty(), 0, len).map_err(io::Error::from));
        match reserved {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => self.set_len(len),
            Err(error) => Err(IoError::new(Operation::Resize, &self.path, error)),
        }
    }

    fn size_bytes(&self) -> Result<u64, IoError> {
        Ok(self.file.metadata().map_err(|error| IoError::new(Operation::Inspect, &self.path, error))?.len())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn bytes_written_are_read_back_and_a_file_is_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        Disk.create_folder(path.parent().unwrap()).unwrap();
        let file = Disk.create(&path).unwrap();
        file.preallocate(8192).unwrap();
        file.write_all_at(b"hello", 4094).unwrap();
        file.sync().unwrap();
        let mut back = [1_u8; 8];
        assert_eq!(file.read_at(&mut back, 4092).unwrap(), 8);
        assert_eq!(&back, b"\0\0hello\0");
        assert_eq!(Disk.create(&path).unwrap_err().kind, io::ErrorKind::AlreadyExists);
        let renamed = folder.path().join("a/b/other");
        Disk.rename(&path, &renamed).unwrap();
        assert_eq!(Disk.list(renamed.parent().unwrap()).unwrap(), [Entry { name: "other".into(), len: 8192 }]);
        let third = Disk.create(&path).unwrap();
        assert_eq!(Disk.rename_new(third.path(), &renamed).unwrap_err().kind, io::ErrorKind::AlreadyExists);
        Disk.rename_new(third.path(), &folder.path().join("a/b/third")).unwrap();
        assert_eq!(Disk.list(renamed.parent().unwrap()).unwrap().len(), 2);
        Disk.remove(&folder.path().join("a/b/third")).unwrap();
        assert_eq!(Disk.folders(&folder.path().join("a")).unwrap(), ["b"]);
        Disk.remove(&renamed).unwrap();
        assert!(Disk.open(&renamed).unwrap_err().missing());
        assert_eq!(Disk.list(&folder.path().join("nowhere")).unwrap(), []);
        assert!(Disk.space(folder.path()).unwrap().total_bytes > 0);
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors_and_never_when_syncing() {
        let check = |operation, errno: Errno, full| {
            let error = IoError::new(operation, Path::new("x"), io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!(error.full(), full, "{error}");
        };
        check(Operation::Write, Errno::NOSPC, true);
        check(Operation::Write, Errno::DQUOT, true);
        check(Operation::Write, Errno::FBIG, true);
        check(Operation::Resize, Errno::NOSPC, true);
        check(Operation::Write, Errno::IO, false);
        check(Operation::Sync, Errno::NOSPC, false);
    }
}
