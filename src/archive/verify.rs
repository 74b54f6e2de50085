//! Whether an archive is what its manifests say: every file whole, every LSN once.
//!
//! Reads everything and changes nothing; a server may write meanwhile, since what a manifest lists
//! is never altered. Memory is one bit for each LSN and a batch of rows.

use super::error::ArchiveError;
use super::file::{digest, open};
use super::manifest::{self, FileEntry, Live};
use super::sweep;
use crate::storage::Storage;
use std::path::Path;
use streamgauge_parquet::{FileReader, Value};

/// LSNs that are looked at: a bit each, so 8 GiB.
const LSNS_MAX: u64 = 1 << 36;

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The archive as its newest manifest has it.
    pub live: Live,
    /// Rows that were read.
    pub rows: u64,
    /// One line for each thing that is not as it should be.
    pub findings: Vec<String>,
    /// Files of ours that no manifest lists.
    pub orphans: u64,
}

/// Looks at the archive below a root; none where there is none.
///
/// # Errors
/// Manifests that cannot be read or do not follow each other; the folder.
pub fn verify<S: Storage>(storage: &S, root: &Path, manifests: &Path) -> Result<Option<Report>, ArchiveError> {
    let Some(live) = manifest::load(storage, manifests)? else { return Ok(None) };
    let settled = live.archived_lsn + 1 - live.first_lsn;
    if settled > LSNS_MAX {
        return Err(ArchiveError::Manifest {
            path: manifests.to_owned(),
            reason: format!("{settled} LSNs, of which at most {LSNS_MAX} are looked at"),
        });
    }
    let mut seen = vec![0_u64; usize::try_from(settled.div_ceil(64)).unwrap_or(0)];
    let (mut rows, mut findings) = (0, Vec::new());
    for entry in live.files.values() {
        match one(storage, root, entry, live.first_lsn, &mut seen) {
            Ok(read) => rows += read,
            Err(reason) => findings.push(format!("{}: {reason}", entry.path)),
        }
    }
    let orphans = sweep::find(storage, root, manifests, &live)?.len() as u64;
    Ok(Some(Report { live, rows, findings, orphans }))
}

fn one<S: Storage>(storage: &S, root: &Path, entry: &FileEntry, first_lsn: u64, seen: &mut [u64]) -> Result<u64, String> {
    let path = root.join(&entry.path);
    let (bytes, sha256) = digest(storage, &path).map_err(|error| error.to_string())?;
    if (bytes, &sha256) != (entry.bytes, &entry.sha256) {
        return Err(format!("{bytes} bytes with SHA-256 {sha256}, where {} with {} were written", entry.bytes, entry.sha256));
    }
    let file = open(storage, &path).map_err(|error| error.to_string())?;
    let mut reader = FileReader::open(file, Some(&["lsn"])).map_err(|error| error.to_string())?;
    let mut rows = 0;
    loop {
        let count = reader.advance().map_err(|error| error.to_string())?;
        if count == 0 {
            break;
        }
        rows += count as u64;
        for row in 0..count {
            let Value::Int(lsn) = reader.cell(0, row) else { return Err("a row without an LSN".to_owned()) };
            let lsn = u64::try_from(lsn).unwrap_or(0);
            if !(entry.lsn[0]..=entry.lsn[1]).contains(&lsn) {
                return Err(format!("LSN {lsn}, where {} to {} were written", entry.lsn[0], entry.lsn[1]));
            }
            let place = lsn.wrapping_sub(first_lsn);
            let word = usize::try_from(place / 64).ok().and_then(|word| seen.get_mut(word));
            let Some(word) = word else { return Err(format!("LSN {lsn} is beyond what is archived")) };
            if *word >> (place % 64) & 1 == 1 {
                return Err(format!("LSN {lsn} is there twice"));
            }
            *word |= 1 << (place % 64);
        }
    }
    if rows == entry.rows { Ok(rows) } else { Err(format!("{rows} rows, where {} were written", entry.rows)) }
}
