//! The bytes of a snapshot.
//!
//! ```text
//! header, 128 bytes                                 section: header of 32 bytes, data, zeroes to 8
//!   0  "SGSNAPSH"         8  u32 format               0  u32 magic "SGSE"     4  u32 section id
//!  12  u32 checksum kind 16  16 bytes log id          8  u32 index           12  u32 kind: 1 words, 2 bytes
//!  32  u64 lsn           40  u64 hash seed           16  u64 bytes           24  u32 crc of the padded data
//!  48  i64 wall_us       56  u32 flags = 0           28  u32 crc of bytes 0 to 28
//!  60  u32 key id        64  zeroes                 footer, 64 bytes
//! 124  u32 crc of bytes 0 to 124                      0  u32 magic "SGSF"     4  u32 zero
//!                                                     8  u64 sections        16  u64 key count
//!                                                    24  u128 fingerprint    40  u128 XXH3-128 of all bytes before the footer
//!                                                    56  u32 zero            60  u32 crc of bytes 0 to 60
//! ```
//! All numbers little-endian. Nothing follows the footer.

use std::path::{Path, PathBuf};

use crate::storage::{Checksum, ChecksumKind};
use crate::wal::LogIdentity;

/// Format of snapshots written by this build.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Longest section; a reader allocates no more than this for one.
pub const SECTION_BYTES_MAX: usize = 64 << 20;

pub(super) const HEADER_WORDS: usize = 16;
pub(super) const SECTION_HEADER_WORDS: usize = 4;
pub(super) const FOOTER_WORDS: usize = 8;
pub(super) const SECTION_MAGIC: u32 = u32::from_le_bytes(*b"SGSE");
pub(super) const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"SGSF");
pub(super) const KIND_WORDS: u32 = 1;
pub(super) const KIND_BYTES: u32 = 2;
const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"SGSNAPSH");
const SUFFIX: &str = ".snap";
/// Extension of a snapshot that is being written.
pub(super) const UNFINISHED: &str = "tmp";

/// What a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The log whose state this is.
    pub log: LogIdentity,
    /// The last LSN in the state.
    pub lsn: u64,
    /// When it was taken, microseconds since the Unix epoch.
    pub wall_us: i64,
}

/// A whole snapshot, verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What it is of.
    pub facts: SnapshotFacts,
    /// Sections in it.
    pub sections: u64,
    /// Keys in the state.
    pub key_count: u64,
    /// Fingerprint of the state.
    pub fingerprint: u128,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why words are not a header of ours.
pub(super) enum HeaderFault {
    Damaged,
    Format(u32),
    Checksum(u32),
    Key(u32),
    Flags(u32),
}

#[expect(clippy::cast_possible_truncation, reason = "a word is two 32-bit halves by definition")]
pub(super) fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[expect(clippy::cast_possible_truncation, reason = "a 128-bit number is two words by definition")]
fn words_of(number: u128) -> (u64, u64) {
    (number as u64, (number >> 64) as u64)
}

fn number_of(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

/// Puts the checksum of everything before it into the upper half of the last word.
fn seal(words: &mut [u64]) {
    let crc = checksum_before_last_half(words);
    if let Some(last) = words.last_mut() {
        *last |= u64::from(crc) << 32;
    }
}

fn checksum_before_last_half(words: &[u64]) -> u32 {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    assert!(bytes.len() >= 8, "the checksum stands in the last word");
    Checksum::of(&bytes[..bytes.len() - 4])
}

fn sealed(words: &[u64]) -> bool {
    words.last().is_some_and(|last| halves(*last).1 == checksum_before_last_half(words))
}

pub(super) fn encode_header(facts: &SnapshotFacts) -> [u64; HEADER_WORDS] {
    let (low, high) = words_of(facts.log.log_id);
    let mut words = [0; HEADER_WORDS];
    let fields = [
        HEADER_MAGIC,
        u64::from(SNAPSHOT_FORMAT) | (ChecksumKind::Crc32Ieee as u64) << 32,
        low,
        high,
        facts.lsn,
        facts.log.hash_seed,
        facts.wall_us.cast_unsigned(),
    ];
    for (word, field) in words.iter_mut().zip(fields) {
        *word = field;
    }
    seal(&mut words);
    words
}

pub(super) fn parse_header(words: &[u64]) -> Result<SnapshotFacts, HeaderFault> {
    let Some(words) = words.get(..HEADER_WORDS) else { return Err(HeaderFault::Damaged) };
    let &[magic, kinds, low, high, lsn, hash_seed, wall, flags, ..] = words else { return Err(HeaderFault::Damaged) };
    if magic != HEADER_MAGIC || !sealed(words) {
        return Err(HeaderFault::Damaged);
    }
    let (format, checksum) = halves(kinds);
    let (flags, key) = halves(flags);
    if format != SNAPSHOT_FORMAT {
        return Err(HeaderFault::Format(format));
    }
    if ChecksumKind::from_number(checksum).is_none() {
        return Err(HeaderFault::Checksum(checksum));
    }
    if key != 0 {
        return Err(HeaderFault::Key(key));
    }
    if flags != 0 {
        return Err(HeaderFault::Flags(flags));
    }
    let log = LogIdentity { log_id: number_of(low, high), hash_seed };
    Ok(SnapshotFacts { log, lsn, wall_us: wall.cast_signed() })
}

/// The head of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SectionHeader {
    pub(super) id: u32,
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) bytes: usize,
    pub(super) crc: u32,
}

impl SectionHeader {
    pub(super) fn encode(&self) -> [u64; SECTION_HEADER_WORDS] {
        let mut words = [
            u64::from(SECTION_MAGIC) | u64::from(self.id) << 32,
            u64::from(self.index) | u64::from(self.kind) << 32,
            self.bytes as u64,
            u64::from(self.crc),
        ];
        seal(&mut words);
        words
    }

    pub(super) fn parse(words: &[u64]) -> Option<Self> {
        let words = words.get(..SECTION_HEADER_WORDS)?;
        let &[head, place, bytes, crcs] = words else { return None };
        let ((magic, id), (index, kind)) = (halves(head), halves(place));
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= SECTION_BYTES_MAX)?;
        let whole = kind == KIND_BYTES || (kind == KIND_WORDS && bytes.is_multiple_of(8));
        (magic == SECTION_MAGIC && whole && sealed(words)).then_some(Self { id, index, kind, bytes, crc: halves(crcs).0 })
    }

    /// Words of the data, padding included.
    pub(super) fn data_words(&self) -> usize {
        self.bytes.div_ceil(8)
    }
}

/// The end of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) sections: u64,
    pub(super) key_count: u64,
    pub(super) fingerprint: u128,
    pub(super) hash: u128,
}

impl Footer {
    pub(super) fn encode(&self) -> [u64; FOOTER_WORDS] {
        let (print_low, print_high) = words_of(self.fingerprint);
        let (hash_low, hash_high) = words_of(self.hash);
        let mut words = [u64::from(FOOTER_MAGIC), self.sections, self.key_count, print_low, print_high, hash_low, hash_high, 0];
        seal(&mut words);
        words
    }

    pub(super) fn parse(words: &[u64]) -> Option<Self> {
        let words = words.get(..FOOTER_WORDS)?;
        let &[head, sections, key_count, print_low, print_high, hash_low, hash_high, _] = words else { return None };
        (head == u64::from(FOOTER_MAGIC) && sealed(words)).then_some(Self {
            sections,
            key_count,
            fingerprint: number_of(print_low, print_high),
            hash: number_of(hash_low, hash_high),
        })
    }
}

/// Path of the snapshot at this LSN.
/// A snapshot's file.
pub(crate) fn snapshot_path(folder: &Path, lsn: u64) -> PathBuf {
    folder.join(format!("{lsn:020}{SUFFIX}"))
}

/// The LSN in a snapshot's file name; none when it is not one.
pub(super) fn snapshot_lsn(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Whether a file name is that of a snapshot that was never finished: ours to remove.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED)
        .and_then(|name| name.strip_suffix('.'))
        .is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}
