//! Manifests: what the archive is, version by version. Only files that the newest one lists count.
//!
//! ```text
//! _manifests/00000000000000000418.json        what version 418 adds and removes
//! _manifests/00000000000000000384.full.json   everything as of 384: a start reads the newest of these and what follows
//! ```
//! A version is written aside, synced, and then given its name, which only one of several writers
//! gets; who comes second finds that it is fenced. `lsn_range` makes a commit its own transaction
//! number: a version whose range does not begin behind what is archived is refused, so nothing is
//! archived twice and nothing is left out. For each range holds
//! `archived + control + excluded + erased = last - first + 1`.

use super::error::ArchiveError;
use crate::storage::{IoError, Storage, StorageFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

/// Layout of manifests.
const FORMAT: u32 = 1;
/// Every so many versions everything is written down whole.
const FULL_EVERY: u64 = 64;
/// So many of those are kept; older ones go.
const FULL_KEPT: usize = 2;
/// Longest declaration that is read.
const TEXT_BYTES_MAX: u64 = 2 << 20;
/// Longest manifest that is read.
const BYTES_MAX: u64 = 1 << 30;

/// What a version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// A process begins to write here.
    Open,
    /// Rows of the log are in files.
    Archive,
    /// LSNs that the log had given back before they were archived.
    Gap,
    /// Files are joined into one.
    Compact,
    /// Files have passed their time.
    Expire,
}

/// Rows of a range by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// In files.
    pub archived: u64,
    /// LSNs of frames without rows.
    pub control: u64,
    /// Left out: by an operator's decision, or gone before they were archived.
    pub excluded: u64,
    /// Erased.
    pub erased: u64,
}

impl RowCounts {
    /// All of them.
    pub fn sum(self) -> u64 {
        // What stands in a file may be any number.
        [self.control, self.excluded, self.erased].iter().fold(self.archived, |sum, part| sum.saturating_add(*part))
    }

    fn add(&mut self, more: Self) {
        self.archived = self.archived.saturating_add(more.archived);
        self.control = self.control.saturating_add(more.control);
        self.excluded = self.excluded.saturating_add(more.excluded);
        self.erased = self.erased.saturating_add(more.erased);
    }
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Below the root.
    pub path: String,
    /// The event by name.
    pub event: String,
    /// Its number.
    pub event_id: u32,
    /// Version of its declaration.
    pub schema: u32,
    /// How often it was joined.
    pub level: u32,
    /// First and last LSN.
    pub lsn: [u64; 2],
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Least and greatest row time, microseconds.
    pub occurred_us: [i64; 2],
    /// Least and greatest arrival, microseconds.
    pub ingested_us: [i64; 2],
}

/// How far a partition of a source is archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Cluster id.
    pub cluster: String,
    /// Topic id.
    pub topic_id: String,
    /// The next offset.
    pub next: i64,
    /// Leader epoch of what was read last.
    pub leader_epoch: i32,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout.
    pub format: u32,
    /// Number.
    pub version: u64,
    /// The log, in hex.
    pub log_id: String,
    /// Which process, counted.
    pub writer_epoch: u64,
    /// When, microseconds.
    pub at_us: i64,
    /// What it does.
    pub op: Op,
    /// Of the first version: the first LSN that the archive is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lsn: Option<u64>,
    /// LSNs that it settles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn_range: Option<[u64; 2]>,
    /// What became of them.
    #[serde(default)]
    pub rows: RowCounts,
    /// Files that are there from here on.
    #[serde(default)]
    pub add: Vec<FileEntry>,
    /// Files that are not.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Partitions that went on.
    #[serde(default)]
    pub positions: BTreeMap<String, Reached>,
}

/// The archive as of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Layout.
    pub format: u32,
    /// The newest version; 0 before the first.
    pub version: u64,
    /// The log, in hex.
    pub log_id: String,
    /// Who wrote last.
    pub writer_epoch: u64,
    /// The first LSN that it was to have.
    pub first_lsn: u64,
    /// Everything up to here is settled.
    pub archived_lsn: u64,
    /// What became of all LSNs.
    pub rows: RowCounts,
    /// Rows of files that passed their time.
    pub expired_rows: u64,
    /// LSNs that were gone before they were archived.
    pub gaps: Vec<[u64; 2]>,
    /// Files by path.
    pub files: BTreeMap<String, FileEntry>,
    /// Partitions.
    pub positions: BTreeMap<String, Reached>,
}

impl Live {
    /// An archive without a version.
    pub fn empty(log_id: String, first_lsn: u64) -> Self {
        assert!(first_lsn > 0, "LSNs count from 1");
        Self {
            format: FORMAT,
            version: 0,
            log_id,
            writer_epoch: 0,
            first_lsn,
            archived_lsn: first_lsn - 1,
            rows: RowCounts::default(),
            expired_rows: 0,
            gaps: Vec::new(),
            files: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// The version behind this one.
    pub fn next(&self, epoch: u64, at_us: i64, op: Op) -> Manifest {
        Manifest {
            format: FORMAT,
            version: self.version + 1,
            log_id: self.log_id.clone(),
            writer_epoch: epoch,
            at_us,
            op,
            first_lsn: (self.version == 0).then_some(self.first_lsn),
            lsn_range: None,
            rows: RowCounts::default(),
            add: Vec::new(),
            remove: Vec::new(),
            positions: BTreeMap::new(),
        }
    }

    /// Takes a version over.
    ///
    /// # Errors
    /// Why it does not follow.
    pub fn take(&mut self, manifest: &Manifest) -> Result<(), String> {
        self.fits(manifest)?;
        if let Some([_, last]) = manifest.lsn_range {
            self.archived_lsn = last;
            self.rows.add(manifest.rows);
        }
        if let (Op::Gap, Some(range)) = (manifest.op, manifest.lsn_range) {
            self.gaps.push(range);
        }
        for path in &manifest.remove {
            let Some(gone) = self.files.remove(path) else { unreachable!("it was looked for") };
            if manifest.op == Op::Expire {
                self.expired_rows = self.expired_rows.saturating_add(gone.rows);
            }
        }
        self.files.extend(manifest.add.iter().map(|file| (file.path.clone(), file.clone())));
        self.positions.extend(manifest.positions.iter().map(|(key, reached)| (key.clone(), reached.clone())));
        self.version = manifest.version;
        self.writer_epoch = manifest.writer_epoch;
        Ok(())
    }

    /// Whether a version follows this one.
    fn fits(&self, manifest: &Manifest) -> Result<(), String> {
        let wrong = |reason: String| Err(format!("version {} {reason}", manifest.version));
        if manifest.format != FORMAT {
            return wrong(format!("is of format {}", manifest.format));
        }
        if Some(manifest.version) != self.version.checked_add(1) {
            return wrong(format!("stands behind version {}", self.version));
        }
        if manifest.log_id != self.log_id {
            return wrong(format!("is of log {}, not {}", manifest.log_id, self.log_id));
        }
        if manifest.writer_epoch < self.writer_epoch {
            return wrong(format!("is of epoch {}, behind {}", manifest.writer_epoch, self.writer_epoch));
        }
        match manifest.lsn_range {
            Some([first, last]) if Some(first) != self.archived_lsn.checked_add(1) || last < first || last == u64::MAX => {
                return wrong(format!("settles LSN {first} to {last} behind {}", self.archived_lsn));
            }
            Some([first, last]) if manifest.rows.sum() != last - first + 1 => {
                return wrong(format!("has {} rows for LSN {first} to {last}", manifest.rows.sum()));
            }
            None if matches!(manifest.op, Op::Archive | Op::Gap) => return wrong("settles nothing".into()),
            _ => {}
        }
        let mut paths = BTreeSet::new();
        for file in &manifest.add {
            let replaced = manifest.remove.contains(&file.path);
            if !paths.insert(&file.path) || (self.files.contains_key(&file.path) && !replaced) {
                return wrong(format!("adds {} twice", file.path));
            }
        }
        let mut gone = BTreeSet::new();
        if let Some(path) = manifest.remove.iter().find(|path| !self.files.contains_key(*path) || !gone.insert(*path)) {
            return wrong(format!("removes {path}, which is not there"));
        }
        let added = rows_of(manifest.add.iter());
        let removed = rows_of(manifest.remove.iter().filter_map(|path| self.files.get(path)));
        match manifest.op {
            Op::Archive if added != manifest.rows.archived => wrong(format!("adds {added} rows and counts {}", manifest.rows.archived)),
            Op::Compact if added != removed => wrong(format!("makes {added} rows of {removed}")),
            Op::Open | Op::Gap | Op::Expire if added > 0 => wrong("adds files".into()),
            _ => Ok(()),
        }
    }

    /// What of it cannot be: the row equation over everything.
    pub fn fault(&self) -> Option<String> {
        let behind = self.archived_lsn.checked_add(1).filter(|_| self.first_lsn > 0);
        let Some(settled) = behind.and_then(|behind| behind.checked_sub(self.first_lsn)) else {
            return Some(format!("LSN {} to {}", self.first_lsn, self.archived_lsn));
        };
        if self.rows.sum() != settled {
            return Some(format!("{} rows for {settled} LSNs from {} on", self.rows.sum(), self.first_lsn));
        }
        let rows = rows_of(self.files.values());
        (rows.saturating_add(self.expired_rows) != self.rows.archived)
            .then(|| format!("{rows} rows in files and {} expired, of {}", self.expired_rows, self.rows.archived))
    }
}

fn rows_of<'f>(files: impl Iterator<Item = &'f FileEntry>) -> u64 {
    files.fold(0, |sum, file| sum.saturating_add(file.rows))
}

fn delta_name(version: u64) -> String {
    format!("{version:020}.json")
}

fn full_name(version: u64) -> String {
    format!("{version:020}.full.json")
}

/// The number in a name with this ending.
fn number(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Whether a version was ever committed into this folder.
pub(super) fn any_version<S: Storage>(storage: &S, folder: &Path) -> Result<bool, IoError> {
    Ok(storage.list(folder)?.iter().any(|entry| number(&entry.name, ".json").is_some()))
}

/// Versions of which everything is written down whole, ascending.
fn fulls(names: &[String]) -> Vec<u64> {
    let mut fulls: Vec<u64> = names.iter().filter_map(|name| number(name, ".full.json")).collect();
    fulls.sort_unstable();
    fulls
}

/// Reads the newest state; none where no version was ever committed.
///
/// # Errors
/// A manifest that is missing between others, cannot be read or does not follow.
pub fn load<S: Storage>(storage: &S, folder: &Path) -> Result<Option<Live>, ArchiveError> {
    let names: Vec<String> = storage.list(folder)?.into_iter().map(|entry| entry.name).collect();
    let mut versions: Vec<u64> = names.iter().filter_map(|name| number(name, ".json")).collect();
    versions.sort_unstable();
    let Some(&newest) = versions.last() else { return Ok(None) };
    let fulls = fulls(&names).into_iter().filter(|version| *version <= newest);
    // A help: where one cannot be read, an older one and the versions behind it say the same.
    let mut live: Option<Live> = None;
    for version in fulls.rev() {
        let path = folder.join(full_name(version));
        let fault = match read::<S, Live>(storage, &path) {
            Ok(found) if found.version != version => format!("it is of version {}", found.version),
            Ok(found) => match found.fault() {
                None => {
                    live = Some(found);
                    break;
                }
                Some(fault) => fault,
            },
            Err(ArchiveError::Manifest { reason, .. }) => reason,
            Err(error) => return Err(error),
        };
        tracing::warn!(kind = "archive.full", path = %path.display(), fault, "a whole list of the archive's files cannot be used");
    }
    let from = live.as_ref().map_or(1, |live| live.version.saturating_add(1));
    for version in from..=newest {
        let path = folder.join(delta_name(version));
        let manifest: Manifest = read(storage, &path)?;
        let wrong = |reason| ArchiveError::Manifest { path: path.clone(), reason };
        let live = match (&mut live, manifest.first_lsn) {
            (Some(live), _) => live,
            (none, Some(first_lsn)) if version == 1 && first_lsn > 0 => none.insert(Live::empty(manifest.log_id.clone(), first_lsn)),
            _ => return Err(wrong("no version says where the archive begins".into())),
        };
        live.take(&manifest).map_err(wrong)?;
    }
    let Some(live) = live else { unreachable!("a version was read") };
    let wrong = |reason| ArchiveError::Manifest { path: folder.join(delta_name(live.version)), reason };
    match live.fault() {
        Some(fault) => Err(wrong(fault)),
        None => Ok(Some(live)),
    }
}

fn read<S: Storage, T: for<'de> Deserialize<'de>>(storage: &S, path: &Path) -> Result<T, ArchiveError> {
    let wrong = |reason: String| ArchiveError::Manifest { path: path.to_owned(), reason };
    let file = match storage.open_read(path) {
        Err(error) if error.missing() => return Err(wrong("it is missing".into())),
        opened => opened?,
    };
    let size = file.size_bytes()?;
    if size > BYTES_MAX {
        return Err(wrong(format!("it has {size} bytes")));
    }
    let Ok(length) = usize::try_from(size) else { unreachable!("it was bounded") };
    let mut bytes = vec![0; length];
    let got = file.read_at(&mut bytes, 0)?;
    serde_json::from_slice(&bytes[..got]).map_err(|error| wrong(error.to_string()))
}

/// A text beside the manifests; none where there is none.
pub(super) fn read_text<S: Storage>(storage: &S, path: &Path) -> Result<Option<String>, ArchiveError> {
    let file = match storage.open_read(path) {
        Err(error) if error.missing() => return Ok(None),
        opened => opened?,
    };
    let length = usize::try_from(file.size_bytes()?.min(TEXT_BYTES_MAX)).unwrap_or(0);
    let mut bytes = vec![0; length];
    let got = file.read_at(&mut bytes, 0)?;
    Ok(Some(String::from_utf8_lossy(&bytes[..got]).into_owned()))
}

/// Replaces a text beside the manifests.
pub(super) fn write_text<S: Storage>(storage: &S, path: &Path, text: &str) -> Result<(), ArchiveError> {
    let aside = path.with_extension("tmp");
    write_aside(storage, &aside, text.as_bytes())?;
    Ok(storage.rename(&aside, path)?)
}

/// Makes a version the newest and takes it over.
///
/// # Errors
/// [`ArchiveError::Fenced`] when somebody else has made one of that number.
pub fn commit<S: Storage>(storage: &S, folder: &Path, live: &mut Live, manifest: &Manifest) -> Result<(), ArchiveError> {
    if let Err(reason) = live.fits(manifest) {
        unreachable!("we commit what follows: {reason}");
    }
    let path = folder.join(delta_name(manifest.version));
    publish(storage, &path, manifest)?;
    if let Err(reason) = live.take(manifest) {
        unreachable!("it was looked at: {reason}");
    }
    if live.version.is_multiple_of(FULL_EVERY) {
        // A help for starts; without it they read more versions.
        match publish(storage, &folder.join(full_name(live.version)), live) {
            Err(ArchiveError::Fenced { .. }) => {}
            Ok(()) => {
                if let Err(error) = drop_old_fulls(storage, folder) {
                    tracing::warn!(kind = "archive.full", %error, "an older list of the archive's files stays");
                }
            }
            Err(error) => tracing::warn!(kind = "archive.full", %error, "the whole list of the archive's files could not be written"),
        }
    }
    Ok(())
}

fn drop_old_fulls<S: Storage>(storage: &S, folder: &Path) -> Result<(), ArchiveError> {
    let names: Vec<String> = storage.list(folder)?.into_iter().map(|entry| entry.name).collect();
    for version in fulls(&names).into_iter().rev().skip(FULL_KEPT) {
        storage.remove(&folder.join(full_name(version)))?;
    }
    Ok(())
}

fn publish<S: Storage>(storage: &S, path: &Path, content: &impl Serialize) -> Result<(), ArchiveError> {
    let Ok(json) = serde_json::to_vec(content) else { unreachable!("our own plain data always serialises") };
    if json.len() as u64 > BYTES_MAX {
        return Err(ArchiveError::Manifest { path: path.to_owned(), reason: format!("it would have {} bytes", json.len()) });
    }
    let aside = path.with_extension("tmp");
    write_aside(storage, &aside, &json)?;
    match storage.rename_new(&aside, path) {
        Err(IoError { kind: ErrorKind::AlreadyExists, .. }) => Err(ArchiveError::Fenced { path: path.to_owned() }),
        renamed => Ok(renamed?),
    }
}

/// A file with these bytes, on the disk, in place of what an earlier try left.
fn write_aside<S: Storage>(storage: &S, aside: &Path, bytes: &[u8]) -> Result<(), IoError> {
    match storage.remove(aside) {
        Err(error) if error.missing() => {}
        removed => removed?,
    }
    let file = storage.create(aside)?;
    file.write_all_at(bytes, 0)?;
    file.sync()
}
