//! Writing a snapshot, and keeping the right number of them.
//!
//! Sections go through one buffer into a `.tmp` file; the hash of the whole file is taken on the way. A writer that is dropped before it is finished
//! removes its file, so a full disk gets its space back at once.

use std::path::Path;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3Default;

use super::choice::Candidate;
use super::error::SnapshotError;
use super::format::{
    Footer, KIND_BYTES, KIND_WORDS, SECTION_BYTES_MAX, SectionHeader, SnapshotFacts, SnapshotInfo, UNFINISHED, encode_header,
    is_unfinished, parse_header, snapshot_path,
};
use super::reader::SnapshotReader;
use crate::storage::{Checksum, IoError, Storage, StorageFile};
use crate::wal::LogIdentity;

const BUFFER_BYTES: usize = 1 << 20;

/// A snapshot being written.
#[derive(Debug)]
pub struct SnapshotWriter<S: Storage> {
    storage: S,
    file: S::File,
    target: std::path::PathBuf,
    facts: SnapshotFacts,
    buffer: Vec<u8>,
    offset: u64,
    sections: u64,
    hash: Hash,
    finished: bool,
}

/// xxh3 has no `Debug`.
struct Hash(Xxh3Default);

impl std::fmt::Debug for Hash {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:032x}", self.0.digest128())
    }
}

impl<S: Storage> SnapshotWriter<S> {
    /// Begins a snapshot in `folder`; what an earlier attempt left is removed.
    ///
    /// # Errors
    /// What the file layer says; [`IoError::full`] is worth another try after the emergency reserve is released.
    pub fn begin(storage: S, folder: &Path, facts: SnapshotFacts) -> Result<Self, SnapshotError> {
        storage.create_folder(folder)?;
        remove_unfinished(&storage, folder)?;
        let target = snapshot_path(folder, facts.lsn);
        let file = storage.create(&target.with_extension(UNFINISHED))?;
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut writer =
            Self { storage, file, target, facts, buffer, offset: 0, sections: 0, hash: Hash(Xxh3Default::new()), finished: false };
        let header = encode_header(&facts);
        assert!(parse_header(&header).is_ok_and(|read| read == facts), "a header reads back as it was written");
        writer.put(bytemuck::cast_slice(&header))?;
        Ok(writer)
    }

    /// Adds a section of words.
    ///
    /// # Errors
    /// [`SnapshotError::SectionTooLarge`], and what the file layer says.
    pub fn section(&mut self, id: u32, index: u32, words: &[u64]) -> Result<(), SnapshotError> {
        self.add(id, index, KIND_WORDS, bytemuck::cast_slice(words))
    }

    /// Adds a section of bytes.
    ///
    /// # Errors
    /// As [`SnapshotWriter::section`].
    pub fn bytes(&mut self, id: u32, index: u32, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.add(id, index, KIND_BYTES, bytes)
    }

    fn add(&mut self, id: u32, index: u32, kind: u32, data: &[u8]) -> Result<(), SnapshotError> {
        if data.len() > SECTION_BYTES_MAX {
            return Err(SnapshotError::SectionTooLarge { bytes: data.len(), limit: SECTION_BYTES_MAX });
        }
        let padding = [0_u8; 8];
        let padding = &padding[..data.len().next_multiple_of(8) - data.len()];
        let crc = Checksum::new().with(data).with(padding).finish();
        let header = SectionHeader { id, index, kind, bytes: data.len(), crc };
        let encoded = header.encode();
        assert_eq!(SectionHeader::parse(&encoded), Some(header), "a section's header reads back as it was written");
        self.put(bytemuck::cast_slice(&encoded))?;
        self.put(data)?;
        self.put(padding)?;
        let end = self.offset + self.buffer.len() as u64;
        assert!(end.is_multiple_of(8), "section {id} ends at byte {end}, which is no whole word");
        self.sections += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        self.hash.0.update(bytes);
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() > BUFFER_BYTES {
            assert!(self.buffer.is_empty(), "what was put before is written before");
            self.file.write_all_at(bytes, self.offset)?;
            self.offset += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
            assert!(self.buffer.len() <= BUFFER_BYTES, "the buffer is bounded");
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IoError> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Footer, sync, read back and verify every checksum and the hash, then the name. Only after this may WAL be released. Returns also how long the sync took.
    /// `durable_lsn` is the highest LSN of the WAL that is known to be synced: it covers the snapshot, or there must be no snapshot,
    /// since an opening log takes a snapshot's LSN as proof of what was synced.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when what is read back is not what was written; and what the file layer says. There is no snapshot then.
    pub fn finish(mut self, key_count: u64, fingerprint: u128, durable_lsn: u64) -> Result<(SnapshotInfo, Duration), SnapshotError> {
        assert!(self.facts.lsn <= durable_lsn, "a snapshot at {} would be named while the WAL is durable to {durable_lsn}", self.facts.lsn);
        let footer = Footer { sections: self.sections, key_count, fingerprint, hash: self.hash.0.digest128() };
        let encoded = footer.encode();
        assert_eq!(Footer::parse(&encoded), Some(footer), "a footer reads back as it was written");
        self.put(bytemuck::cast_slice(&encoded))?;
        self.flush()?;
        assert_eq!(self.file.size_bytes()?, self.offset, "what was put into the file is all that is in it");
        let begun = Instant::now();
        self.file.sync()?;
        let sync_took = begun.elapsed();
        let info = SnapshotReader::verify(&self.storage, self.file.path())?;
        let expected = SnapshotInfo { facts: self.facts, sections: self.sections, key_count, fingerprint, bytes: self.offset };
        if info != expected {
            return Err(SnapshotError::Damaged { file: self.target.clone(), offset_bytes: 0, what: "reading back gave something else" });
        }
        self.storage.rename(self.file.path(), &self.target)?;
        self.finished = true;
        Ok((info, sync_took))
    }
}

impl<S: Storage> Drop for SnapshotWriter<S> {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.storage.remove(self.file.path())
            && !error.missing()
        {
            tracing::warn!(kind = "snapshot.leftover", %error, "an unfinished snapshot could not be removed");
        }
    }
}

/// Removes what a process that died left of a snapshot it was writing, and returns how many files that were. They may be what fills the disk.
///
/// # Errors
/// What the file layer says; what was removed until then is gone.
pub fn remove_unfinished<S: Storage>(storage: &S, folder: &Path) -> Result<usize, IoError> {
    let mut removed = 0;
    for entry in storage.list(folder)? {
        if is_unfinished(&entry.name) {
            storage.remove(&folder.join(&entry.name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes all but the newest `keep` snapshots of this log (at least two are kept), oldest first, and returns the LSNs of those that
/// stay, newest first. A file whose header cannot be read, or is of a newer format or of another log, is neither counted nor removed.
///
/// # Errors
/// What the file layer says; what was removed until then is gone.
pub fn retain<S: Storage>(storage: &S, folder: &Path, keep: usize, log: &LogIdentity) -> Result<Vec<u64>, IoError> {
    let mut lsns = Vec::new();
    for candidate in Candidate::list(storage, folder)? {
        match &candidate.info {
            Ok(info) if info.facts.log == *log => lsns.push(candidate.lsn),
            Ok(_) => tracing::debug!(file = %candidate.path.display(), "a snapshot of another log is left as it is"),
            Err(error) => tracing::debug!(%error, "a snapshot that cannot be read is left as it is"),
        }
    }
    assert!(lsns.is_sorted_by(|one, other| one > other), "candidates come newest first");
    let kept = keep.max(2);
    for lsn in lsns.iter().skip(kept).rev() {
        storage.remove(&snapshot_path(folder, *lsn))?;
    }
    lsns.truncate(kept);
    assert!(lsns.len() <= kept, "the newest {kept} stay, and no more");
    Ok(lsns)
}

/// Takes a damaged snapshot out of the count by renaming it to `.damaged`; its bytes stay for a look. Call it once the state has been recovered
/// without it, so that [`retain`] does not keep it in a sound one's place.
///
/// # Errors
/// What the file layer says.
pub fn quarantine<S: Storage>(storage: &S, folder: &Path, lsn: u64) -> Result<(), IoError> {
    let path = snapshot_path(folder, lsn);
    storage.rename(&path, &path.with_extension("snap.damaged"))
}
