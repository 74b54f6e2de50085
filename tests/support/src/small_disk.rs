//! A small disk that can be filled to its last byte: a tmpfs of our own, for those who may mount.
//!
//! It is unmounted when it is dropped, and by a watchdog when the test process is gone, however that ended.

use crate::Outcome;
use crate::process::Watchdog;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system of a few megabytes.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _unmounter: Watchdog,
}

impl SmallDisk {
    /// Mounts one of `bytes` at a folder, which is created.
    ///
    /// # Errors
    /// This process may not mount.
    pub fn at(path: PathBuf, bytes: u64) -> Outcome<Self> {
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        let unmounter = Watchdog::new("umount -l -- \"$1\"", &path.to_string_lossy())?;
        let options = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { path, _unmounter: unmounter }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("cannot run mount: {error}")),
        }
    }

    /// Takes every byte that is left and returns the file that holds them.
    ///
    /// # Errors
    /// What the system says, other than that the disk is full.
    pub fn fill(&self) -> Outcome<PathBuf> {
        let filler = self.path.join("filler");
        let mut file = std::fs::File::create(&filler).map_err(|error| error.to_string())?;
        for size in [1 << 16, 1 << 12, 1] {
            loop {
                match file.write_all(&vec![7; size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Ok(filler)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.path).output().ok();
    }
}
