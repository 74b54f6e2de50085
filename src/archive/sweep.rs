//! Files that no manifest lists: what a process left behind that died before its commit.
//!
//! Only files that look like ours are touched: unfinished ones, and those whose name has our log and
//! a number. Whatever else somebody put below the root stays.

use super::error::ArchiveError;
use super::file::UNFINISHED;
use super::manifest::Live;
use crate::eventstore::Store;
use crate::storage::{IoError, Storage};
use std::path::{Path, PathBuf};

/// Deepest folder that is looked into: one for each partition column, and those of the pattern.
const DEPTH_MAX: usize = 16;

/// Removes orphans and says how many there were. Nobody else writes here meanwhile.
pub(super) fn orphans<S: Storage>(storage: &S, store: &Store, live: &Live) -> Result<u64, ArchiveError> {
    let mut swept = 0;
    for path in find(storage, &store.path, &store.manifests, live)? {
        storage.remove(&path)?;
        swept += 1;
    }
    for entry in storage.list(&store.manifests)?.iter().filter(|entry| entry.name.ends_with(UNFINISHED)) {
        storage.remove(&store.manifests.join(&entry.name))?;
        swept += 1;
    }
    Ok(swept)
}

/// Files of ours that no manifest lists.
pub(super) fn find<S: Storage>(storage: &S, root: &Path, manifests: &Path, live: &Live) -> Result<Vec<PathBuf>, IoError> {
    let writer = live.log_id.get(..8).unwrap_or(&live.log_id);
    let mut found = Vec::new();
    walk(storage, root, manifests, DEPTH_MAX, &mut found)?;
    found.retain(|path| {
        let Ok(relative) = path.strip_prefix(root) else { unreachable!("it was found below the root") };
        let relative = relative.to_string_lossy();
        !live.files.contains_key(&*relative) && is_ours(&relative, writer)
    });
    Ok(found)
}

fn is_ours(relative: &str, writer: &str) -> bool {
    let name = relative.rsplit('/').next().unwrap_or_default();
    let Some(stem) = name.strip_suffix(UNFINISHED).unwrap_or(name).strip_suffix(".parquet") else { return false };
    let digits = stem.bytes().filter(u8::is_ascii_digit).count();
    relative.contains(writer) && digits >= 20
}

fn walk<S: Storage>(storage: &S, folder: &Path, leave: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), IoError> {
    found.extend(storage.list(folder)?.into_iter().map(|entry| folder.join(entry.name)));
    if depth > 0 {
        for name in storage.folders(folder)? {
            let inner = folder.join(name);
            if inner != leave {
                walk(storage, &inner, leave, depth - 1, found)?;
            }
        }
    }
    Ok(())
}
