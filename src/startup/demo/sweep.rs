//! The demo's folder: made under the system's temporary folder, named by process, removed at the end; those of demos that were killed go at the next start.

use std::path::{Path, PathBuf};

const PREFIX: &str = "streamgauge-demo-";

/// A folder that is removed when dropped.
pub(super) struct DemoFolder(PathBuf);

impl DemoFolder {
    /// Makes this process's folder.
    pub(super) fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where the server keeps its data.
    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes folders of demos whose process is gone.
pub(super) fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "the demo's folder could not be removed");
    }
}
