//! Where a data folder archives, as the data folder itself knows: an archive that was there and is gone is not begun
//! anew. A volume that is not mounted leaves an empty folder, and what would be archived into it would be missing in the
//! real one.

use super::manifest::{any_version, read_text, write_text};
use crate::eventstore::Store;
use crate::storage::Storage;
use std::path::Path;
use streamgauge_api::{ApiError, Code};

/// Whether this data folder has archived into that folder before. `marker` is the file that says so.
///
/// # Errors
/// `archive_damaged` when it has, and nothing is there.
pub fn resumes<S: Storage>(storage: &S, marker: &Path, store: &Store) -> Result<bool, ApiError> {
    let before = read_text(storage, marker).map_err(|error| ApiError::from(&error))?;
    if before.is_none_or(|root| root != store.path.display().to_string()) {
        return Ok(false);
    }
    // A folder that cannot be looked into now is there.
    if any_version(storage, &store.manifests).unwrap_or_else(|error| !error.missing()) {
        return Ok(true);
    }
    let reason = format!("{}: the archive that was here is gone", store.manifests.display());
    let hint = format!("mount its volume; to begin a new archive there, remove {}", marker.display());
    Err(ApiError::new(Code::ArchiveDamaged, reason).hint(hint))
}

/// Notes that this data folder archives into `root`.
pub fn note_place<S: Storage>(storage: &S, marker: &Path, root: &str) {
    if let Err(error) = write_text(storage, marker, root) {
        tracing::warn!(kind = "archive.marker", %error, path = %marker.display(), "where the archive is could not be noted");
    }
}
