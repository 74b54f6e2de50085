//! One file of the log: a header, frames, and a footer once it is sealed.
//!
//! ```text
//! header, 128 bytes                                        footer, 56 bytes
//!   0  "SGWALSEG"           8  u32 format                    0  u32 magic "SGFT"      4  u32 frames
//!  12  u32 checksum kind   16  16 bytes log id               8  u64 first_lsn        16  u64 last_lsn
//!  32  u64 writer epoch    40  u64 segment number           24  u64 durable_lsn      32  u64 offset of the footer
//!  48  u64 first_lsn       56  u64 hash seed                40  u32 crc of the last frame
//!  64  i64 created_us      72  u32 crc of the frame before  44  u32 zero
//!  76  u32 key id          80  u64 bytes of the head        48  u32 crc              52  u32 zero
//! 124  u32 crc             88  zeroes
//!
//! head, behind the header, where it has one
//!   0  u32 magic "SGHD"      4  u32 crc                      8  u64 bytes of the text
//!  16  the text, zeroes to a multiple of 8; frames follow
//! ```
//! The head says what was declared where the segment begins, in words that are opaque here, so that a reader can begin with any segment.
//! It has no LSN. Its checksum goes on from the log id and takes everything behind itself.
//!
//! Magic, format and the crc's place never change, so that an older program can say "newer format" instead of "damaged". Header checksums are plain,
//! the footer's goes on from the log id like a frame's. A footer whose durable LSN equals its last LSN was written after the sync of all its frames
//! had returned. A sealed file ends with its footer; before that, preallocated zeroes follow the last frame.

use std::path::{Path, PathBuf};

use super::frame::{Fault, halves};
use crate::storage::{Checksum, ChecksumKind};

/// Format of segments written by this build.
pub const FORMAT: u32 = 2;

pub(super) const SEGMENT_HEADER_BYTES: usize = 128;
pub(super) const SEGMENT_HEADER_WORDS: usize = SEGMENT_HEADER_BYTES / 8;
pub(super) const FOOTER_BYTES: usize = 56;
pub(super) const FOOTER_WORDS: usize = FOOTER_BYTES / 8;
pub(super) const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"SGFT");
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"SGWALSEG");
const SUFFIX: &str = ".seg";
const HEAD_MAGIC: u32 = u32::from_le_bytes(*b"SGHD");
/// Bytes of a head in front of its text.
const HEAD_PREFIX_BYTES: usize = 16;
/// Longest text of a head: all definitions and partitions that there can be fit in.
pub const HEAD_TEXT_BYTES_MAX: usize = 256 << 20;

/// What makes a log this log; equal in all of its segments and snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// Random, chosen when the log was created.
    pub log_id: u128,
    /// Seed of every hash that outlives the process.
    pub hash_seed: u64,
}

impl LogIdentity {
    /// Where the checksums of this log's frames begin.
    pub(super) fn salt(&self) -> u32 {
        Checksum::of(&self.log_id.to_le_bytes())
    }
}

/// A segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: LogIdentity,
    pub(super) writer_epoch: u64,
    pub(super) number: u64,
    pub(super) first_lsn: u64,
    pub(super) created_us: i64,
    pub(super) prev_crc: u32,
    /// Bytes of the head behind it; frames begin there.
    pub(super) head_bytes: u64,
}

/// Epochs, numbers and LSNs of headers stay below this: more than can ever be written.
const COUNTED_MAX: u64 = 1 << 60;

/// Why 128 bytes are not a header of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged,
    Format(u32),
    Checksum(u32),
    Key(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let log_id = self.log.log_id.to_le_bytes();
        let (low, high) = log_id.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        let words: [u64; SEGMENT_HEADER_WORDS] = [
            SEGMENT_MAGIC,
            u64::from(FORMAT) | (ChecksumKind::Crc32Ieee as u64) << 32,
            word(low),
            word(high),
            self.writer_epoch,
            self.number,
            self.first_lsn,
            self.log.hash_seed,
            self.created_us.cast_unsigned(),
            u64::from(self.prev_crc),
            self.head_bytes,
            0,
            0,
            0,
            0,
            0,
        ];
        let mut bytes = [0_u8; SEGMENT_HEADER_BYTES];
        bytes.copy_from_slice(bytemuck::cast_slice(&words));
        let crc = Checksum::of(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(words: &[u64]) -> Result<Self, HeaderFault> {
        let Some(&[magic, kinds, low, high, writer_epoch, number, first_lsn, hash_seed, created, chain, head_bytes, ..]) =
            words.get(..SEGMENT_HEADER_WORDS)
        else {
            return Err(HeaderFault::Damaged);
        };
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let crc = halves(words[SEGMENT_HEADER_WORDS - 1]).1;
        if magic != SEGMENT_MAGIC || Checksum::of(&bytes[..124]) != crc {
            return Err(HeaderFault::Damaged);
        }
        let (format, checksum) = halves(kinds);
        let (prev_crc, key) = halves(chain);
        if format != FORMAT {
            return Err(HeaderFault::Format(format));
        }
        if ChecksumKind::from_number(checksum).is_none() {
            return Err(HeaderFault::Checksum(checksum));
        }
        if key != 0 {
            return Err(HeaderFault::Key(key));
        }
        // Whoever goes on behind it counts further: numbers that leave no room for that are nobody's.
        if [writer_epoch, number, first_lsn].iter().any(|counted| !(1..COUNTED_MAX).contains(counted)) {
            return Err(HeaderFault::Damaged);
        }
        if head_bytes > (HEAD_PREFIX_BYTES + HEAD_TEXT_BYTES_MAX) as u64 || !head_bytes.is_multiple_of(8) {
            return Err(HeaderFault::Damaged);
        }
        let log = LogIdentity { log_id: u128::from(low) | u128::from(high) << 64, hash_seed };
        Ok(Self { log, writer_epoch, number, first_lsn, created_us: created.cast_signed(), prev_crc, head_bytes })
    }
}

impl SegmentHeader {
    /// Where frames begin.
    pub(super) fn frames_at(&self) -> u64 {
        SEGMENT_HEADER_BYTES as u64 + self.head_bytes
    }
}

/// The bytes of a head that says this; none of nothing.
pub(super) fn encode_head(salt: u32, text: &[u8]) -> Vec<u8> {
    assert!(text.len() <= HEAD_TEXT_BYTES_MAX, "a head of {} bytes: whoever makes it bounds it", text.len());
    if text.is_empty() {
        return Vec::new();
    }
    let mut bytes = Vec::with_capacity(HEAD_PREFIX_BYTES + text.len().next_multiple_of(8));
    bytes.extend_from_slice(&HEAD_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let crc = Checksum::resume(salt).with(&bytes[8..]).finish();
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a head says; none when it is not sound. `words` are all that the header counts for it, at least one.
pub(super) fn parse_head(salt: u32, words: &[u64]) -> Option<&[u8]> {
    let (magic, crc) = halves(*words.first()?);
    let bytes: &[u8] = bytemuck::cast_slice(words);
    let length = usize::try_from(*words.get(1)?).ok()?;
    let is_sound = magic == HEAD_MAGIC && Checksum::resume(salt).with(&bytes[8..]).finish() == crc;
    bytes[HEAD_PREFIX_BYTES..].get(..length).filter(|_| is_sound)
}

/// The end of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) frames: u32,
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    pub(super) durable_lsn: u64,
    pub(super) offset: u64,
    pub(super) last_crc: u32,
}

impl Footer {
    /// Whether all frames before it had been synced when it was written.
    pub(super) fn proves_sync(&self) -> bool {
        self.durable_lsn == self.last_lsn
    }

    pub(super) fn encode(&self, salt: u32) -> [u8; FOOTER_BYTES] {
        let mut words: [u64; FOOTER_WORDS] = [
            u64::from(FOOTER_MAGIC) | u64::from(self.frames) << 32,
            self.first_lsn,
            self.last_lsn,
            self.durable_lsn,
            self.offset,
            u64::from(self.last_crc),
            0,
        ];
        let crc = footer_checksum(salt, &words);
        if let Some(last) = words.last_mut() {
            *last = u64::from(crc);
        }
        let mut bytes = [0_u8; FOOTER_BYTES];
        bytes.copy_from_slice(bytemuck::cast_slice(&words));
        bytes
    }

    pub(super) fn parse(salt: u32, words: &[u64]) -> Result<Self, Fault> {
        let Some(&[head, first_lsn, last_lsn, durable_lsn, offset, chain, check]) = words.get(..FOOTER_WORDS) else {
            return Err(Fault::Short);
        };
        let (magic, frames) = halves(head);
        if magic != FOOTER_MAGIC {
            return Err(Fault::Magic);
        }
        if u64::from(footer_checksum(salt, words)) != check || halves(chain).1 != 0 {
            return Err(Fault::Checksum);
        }
        Ok(Self { frames, first_lsn, last_lsn, durable_lsn, offset, last_crc: halves(chain).0 })
    }
}

fn footer_checksum(salt: u32, words: &[u64]) -> u32 {
    assert!(words.len() >= FOOTER_WORDS, "a footer has {FOOTER_WORDS} words, not {}", words.len());
    Checksum::resume(salt).with(bytemuck::cast_slice(&words[..FOOTER_WORDS - 1])).finish()
}

/// Path of the segment with this number.
pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}{SUFFIX}"))
}

/// The number in a segment's file name; none when it is not one.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() >= 12 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn words_of(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn headers_and_footers_are_read_back() {
        let log = LogIdentity { log_id: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10, hash_seed: 77 };
        let header =
            SegmentHeader { log, writer_epoch: 3, number: 42, first_lsn: 918_220, created_us: -5, prev_crc: 0xDEAD_BEEF, head_bytes: 24 };
        let bytes = header.encode();
        let words = words_of(&bytes);
        assert_eq!(SegmentHeader::parse(&words).unwrap(), header);
        assert_eq!(&bytes[16..32], &log.log_id.to_le_bytes());
        for text in [&b"x"[..], b"eight by", b"what was declared"] {
            let mut head = words_of(&encode_head(log.salt(), text));
            assert_eq!(parse_head(log.salt(), &head), Some(text));
            assert_eq!(parse_head(log.salt() ^ 1, &head), None);
            for bit in 0..head.len() * 64 {
                head[bit / 64] ^= 1 << (bit % 64);
                assert_eq!(parse_head(log.salt(), &head), None, "bit {bit}");
                head[bit / 64] ^= 1 << (bit % 64);
            }
            assert_eq!(parse_head(log.salt(), &head[..head.len() - 1]), None);
        }
        assert!(encode_head(log.salt(), b"").is_empty());
        let footer = Footer { frames: 5, first_lsn: 1, last_lsn: 9, durable_lsn: 9, offset: 4096, last_crc: 7 };
        let words = words_of(&footer.encode(log.salt()));
        assert_eq!(Footer::parse(log.salt(), &words).unwrap(), footer);
        assert_eq!(Footer::parse(log.salt() ^ 1, &words), Err(Fault::Checksum));
    }

    #[test]
    fn only_segment_names_have_numbers() {
        for (name, expected) in [
            ("000000000042.seg", Some(42)),
            ("1000000000000.seg", Some(1_000_000_000_000)),
            ("42.seg", None),
            ("next.tmp", None),
            ("00000000004x.seg", None),
        ] {
            assert_eq!(segment_number(name), expected, "{name}");
        }
    }
}
