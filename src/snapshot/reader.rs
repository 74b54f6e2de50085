//! Reading a snapshot front to back, every checksum on the way, the hash of the whole at the end.
//!
//! A section borrows the read buffer until the next call; memory is bounded by one read plus one section. State that was built from sections counts only
//! after [`SnapshotReader::next`] has said "none": before that a later part may still turn out damaged.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use super::error::SnapshotError;
use super::format::{
    FOOTER_MAGIC, FOOTER_WORDS, Footer, HEADER_WORDS, HeaderFault, KIND_WORDS, SECTION_HEADER_WORDS, SNAPSHOT_FORMAT, SectionHeader,
    SnapshotFacts, SnapshotInfo, halves, parse_header,
};
use crate::storage::{Checksum, Storage, WordStream};

/// One section, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// What it is; the numbers belong to the writer of the state.
    pub id: u32,
    /// Which one of its id.
    pub index: u32,
    /// Its data as words; for a section of bytes padded with zeroes.
    pub words: &'a [u64],
    /// Its data as bytes, without padding.
    pub bytes: &'a [u8],
    /// Whether it was written as words.
    pub is_words: bool,
}

/// A snapshot being read.
pub struct SnapshotReader<S: Storage> {
    path: PathBuf,
    stream: WordStream<S::File>,
    facts: SnapshotFacts,
    hash: Xxh3Default,
    sections: u64,
    given_words: usize,
    info: Option<SnapshotInfo>,
}

impl<S: Storage> SnapshotReader<S> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(storage: &S, path: &Path) -> Result<Self, SnapshotError> {
        let mut stream = WordStream::new(storage.open_read(path)?, Vec::new())?;
        let file = || path.to_owned();
        stream.fill(HEADER_WORDS)?;
        let facts = match parse_header(stream.window()) {
            Ok(facts) => facts,
            Err(HeaderFault::Damaged) => return Err(SnapshotError::Damaged { file: file(), offset_bytes: 0, what: "header" }),
            Err(HeaderFault::Format(found)) => {
                return Err(SnapshotError::FormatTooNew { file: file(), found, known: SNAPSHOT_FORMAT });
            }
            Err(HeaderFault::Checksum(number)) => {
                return Err(SnapshotError::UnknownCoding { file: file(), what: "checksum kind", number });
            }
            Err(HeaderFault::Key(number)) => return Err(SnapshotError::UnknownCoding { file: file(), what: "key id", number }),
            Err(HeaderFault::Flags(number)) => return Err(SnapshotError::UnknownCoding { file: file(), what: "flags", number }),
        };
        let hash = Xxh3Default::new();
        Ok(Self { path: file(), stream, facts, hash, sections: 0, given_words: HEADER_WORDS, info: None })
    }

    /// Reads a whole file and throws it away.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn verify(storage: &S, path: &Path) -> Result<SnapshotInfo, SnapshotError> {
        let mut reader = Self::open(storage, path)?;
        while reader.next()?.is_some() {}
        reader.info().ok_or(SnapshotError::Damaged { file: path.to_owned(), offset_bytes: 0, what: "footer" })
    }

    /// What the snapshot is of.
    pub fn facts(&self) -> &SnapshotFacts {
        &self.facts
    }

    /// The whole snapshot's facts, once [`SnapshotReader::next`] has said that there are no more sections.
    pub fn info(&self) -> Option<SnapshotInfo> {
        self.info
    }

    /// Bytes read and bytes to read in all, for progress.
    pub fn progress(&self) -> (u64, u64) {
        (self.stream.offset(), self.stream.file_bytes())
    }

    /// The next section; none when the file has been read and its hash fits.
    ///
    /// # Errors
    /// [`SnapshotError`]: what was read before must not be used.
    #[expect(clippy::should_implement_trait, reason = "the section borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Section<'_>>, SnapshotError> {
        self.drop_given();
        if self.info.is_some() {
            return Ok(None);
        }
        if !self.stream.fill(SECTION_HEADER_WORDS)? {
            return Err(self.damaged("end"));
        }
        if self.stream.window().first().is_some_and(|word| halves(*word).0 == FOOTER_MAGIC) {
            self.info = Some(self.footer()?);
            return Ok(None);
        }
        let Some(header) = SectionHeader::parse(self.stream.window()) else { return Err(self.damaged("section header")) };
        let words = SECTION_HEADER_WORDS + header.data_words();
        if !self.stream.fill(words)? {
            return Err(self.damaged("section is cut"));
        }
        assert!(self.stream.window().len() >= words, "a window that was filled has what was asked for");
        let data = &self.stream.window()[SECTION_HEADER_WORDS..words];
        if Checksum::of(bytemuck::cast_slice(data)) != header.crc {
            return Err(self.damaged("section"));
        }
        self.given_words = words;
        self.sections += 1;
        let words = &self.stream.window()[SECTION_HEADER_WORDS..words];
        assert!(header.bytes <= words.len() * 8, "a section's bytes are in its words");
        let bytes = &bytemuck::cast_slice::<u64, u8>(words)[..header.bytes];
        Ok(Some(Section { id: header.id, index: header.index, words, bytes, is_words: header.kind == KIND_WORDS }))
    }

    fn drop_given(&mut self) {
        let words = std::mem::take(&mut self.given_words);
        assert!(self.stream.window().len() >= words, "what was given out is still in the window");
        self.hash.update(bytemuck::cast_slice(&self.stream.window()[..words]));
        self.stream.consume(words);
    }

    fn footer(&mut self) -> Result<SnapshotInfo, SnapshotError> {
        let offset = self.stream.offset();
        let bytes = offset + (FOOTER_WORDS * 8) as u64;
        if !self.stream.fill(FOOTER_WORDS)? || self.stream.file_bytes() != bytes {
            return Err(self.damaged("footer"));
        }
        let Some(footer) = Footer::parse(self.stream.window()) else { return Err(self.damaged("footer")) };
        if footer.hash != self.hash.digest128() || footer.sections != self.sections {
            return Err(self.damaged("hash of the whole file"));
        }
        Ok(SnapshotInfo {
            facts: self.facts,
            sections: footer.sections,
            key_count: footer.key_count,
            fingerprint: footer.fingerprint,
            bytes,
        })
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged { file: self.path.clone(), offset_bytes: self.stream.offset(), what }
    }
}

impl<S: Storage> std::fmt::Debug for SnapshotReader<S> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SnapshotReader").field("path", &self.path).field("facts", &self.facts).finish_non_exhaustive()
    }
}
