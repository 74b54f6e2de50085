//! One frame: a 56-byte header and a body of whole words.
//!
//! ```text
//!  0  u32 magic          4  u32 body_len       8  u8 kind  u8 flags  u16 format   12  u32 row_count
//! 16  u64 first_lsn     24  u64 durable_lsn   32  i64 now_us                     40  u32 positions_len
//! 44  u32 prev_crc      48  u32 crc           52  u32 zero                       56  positions, zeroes to 8, body words
//! ```
//! `body_len` counts everything behind the header and is a multiple of 8; `positions_len` is without its padding. `crc` is taken over the 16 bytes of the
//! log id, the header without the crc itself, and the body: bytes of another log, or frame-like bytes inside of a row, never pass for a frame.
//! `prev_crc` repeats the crc of the frame before. A frame takes max(1, row_count) LSNs.

use crate::storage::Checksum;

/// Longest positions plus body of one frame; a reader allocates no more than this for one.
pub const FRAME_BODY_BYTES_MAX: usize = 64 << 20;

pub(super) const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"SGFR");
/// Layout of frames and of what they carry.
pub(super) const FRAME_FORMAT: u16 = 2;
pub(super) const FRAME_HEADER_BYTES: usize = 56;
pub(super) const FRAME_HEADER_WORDS: usize = FRAME_HEADER_BYTES / 8;

/// What a frame is. An open set: a number without a name is refused when a log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameKind(pub u8);

impl FrameKind {
    /// Source positions and packed row batches.
    pub const ROWS: Self = Self(1);
    /// A registration.
    pub const DEFINITION: Self = Self(2);
    /// A writer schema.
    pub const SCHEMA: Self = Self(3);
    /// An incident opened or decided.
    pub const INCIDENT: Self = Self(4);
    /// Nothing but the durable LSN, from an idle log.
    pub const MARK: Self = Self(5);
    /// First LSNs of frames that replay leaves out; stands only at the head of a segment.
    pub const SKIP: Self = Self(6);
    /// A clean stop.
    pub const CLOSE: Self = Self(7);
    /// Everything is forgotten.
    pub const RESET: Self = Self(8);
    /// A partition that sources may name by its slot from here on.
    pub const PARTITION: Self = Self(9);
    /// The time of frames was set, or is held while the wall clock is not believed.
    pub const CLOCK: Self = Self(10);
    /// What has expired in a stretch of a table's rows is given back.
    pub const SWEEP: Self = Self(11);
    /// A source has had a usable writer schema.
    pub const READABLE: Self = Self(12);

    /// A partition goes on elsewhere, or is forgotten, by an operator's decision.
    pub const MOVED: Self = Self(13);
    /// What becomes of tables that are being filled from history.
    pub const FILL: Self = Self(14);

    /// The kind in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ROWS => "frame of rows",
            Self::DEFINITION => "definition",
            Self::SCHEMA => "writer schema",
            Self::INCIDENT => "incident",
            Self::MARK => "mark",
            Self::SKIP => "skip",
            Self::CLOSE => "close",
            Self::RESET => "reset",
            Self::PARTITION => "partition",
            Self::CLOCK => "clock frame",
            Self::SWEEP => "sweep",
            Self::READABLE => "readable source",
            Self::MOVED => "decision about a partition",
            Self::FILL => "step of a backfill",
            _ => "frame of unknown kind",
        }
    }

    /// Whether this build knows the kind.
    pub fn known(self) -> bool {
        (Self::ROWS.0..=Self::FILL.0).contains(&self.0)
    }
}

/// A frame to write. The parts of the body are written one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct FrameParts<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// Bits whose meaning belongs to the kind.
    pub flags: u8,
    /// Rows in the body; the frame takes max(1, rows) LSNs.
    pub row_count: u32,
    /// The time given to apply, microseconds since the Unix epoch.
    pub now_us: i64,
    /// Source positions.
    pub positions: &'a [u8],
    /// Body words, in parts.
    pub body: &'a [&'a [u64]],
}

impl FrameParts<'_> {
    /// Bytes behind the header.
    pub(super) fn body_bytes(&self) -> usize {
        self.positions.len().next_multiple_of(8) + self.body.iter().map(|part| part.len() * 8).sum::<usize>()
    }

    /// LSNs the frame takes.
    pub(super) fn lsns(&self) -> u64 {
        u64::from(self.row_count).max(1)
    }
}

/// A frame read in place; it borrows the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// Bits whose meaning belongs to the kind.
    pub flags: u8,
    /// LSN of the first row.
    pub first_lsn: u64,
    /// Rows in the body.
    pub row_count: u32,
    /// The time given to apply, microseconds since the Unix epoch.
    pub now_us: i64,
    /// Highest LSN known to be synced when the frame was built.
    pub durable_lsn: u64,
    /// Source positions.
    pub positions: &'a [u8],
    /// Body words.
    pub body: &'a [u64],
}

impl Frame<'_> {
    /// LSN of the last row.
    pub fn last_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(u64::from(self.row_count).max(1) - 1)
    }
}

/// What a writer adds to the parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) first_lsn: u64,
    pub(super) durable_lsn: u64,
    pub(super) prev_crc: u32,
    /// Checksum of the log id, from which every frame's checksum goes on.
    pub(super) salt: u32,
}

/// Appends a whole frame to `staging` and gives its checksum. The caller has checked the bounds.
pub(super) fn encode(staging: &mut Vec<u8>, parts: &FrameParts<'_>, link: Link) -> u32 {
    let start = staging.len();
    let body_bytes = parts.body_bytes();
    assert!(body_bytes <= FRAME_BODY_BYTES_MAX, "a frame of {body_bytes} bytes is refused before it is encoded");
    let (Ok(body_len), Ok(positions_len)) = (u32::try_from(body_bytes), u32::try_from(parts.positions.len())) else {
        unreachable!("a frame's body is bounded far below 32 bits");
    };
    assert!(link.durable_lsn < link.first_lsn, "frame {} claims that it is durable itself", link.first_lsn);
    staging.reserve(FRAME_HEADER_BYTES + body_len as usize);
    let mut header = [0_u8; FRAME_HEADER_BYTES];
    {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&FRAME_MAGIC.to_le_bytes());
        put(&body_len.to_le_bytes());
        put(&[parts.kind.0, parts.flags]);
        put(&FRAME_FORMAT.to_le_bytes());
        put(&parts.row_count.to_le_bytes());
        put(&link.first_lsn.to_le_bytes());
        put(&link.durable_lsn.to_le_bytes());
        put(&parts.now_us.to_le_bytes());
        put(&positions_len.to_le_bytes());
        put(&link.prev_crc.to_le_bytes());
    }
    staging.extend_from_slice(&header);
    staging.extend_from_slice(parts.positions);
    staging.resize(staging.len().next_multiple_of(8), 0);
    for part in parts.body {
        staging.extend_from_slice(bytemuck::cast_slice(part));
    }
    assert_eq!(staging.len() - start, FRAME_HEADER_BYTES + body_bytes, "a frame is as long as its header says");
    let crc = checksum(link.salt, &staging[start..]);
    staging[start + 48..start + 52].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The checksum of a frame's bytes, which leaves the crc field itself out.
fn checksum(salt: u32, frame: &[u8]) -> u32 {
    assert!(frame.len() >= FRAME_HEADER_BYTES, "a frame has a header, and {} bytes", frame.len());
    Checksum::resume(salt).with(&frame[..48]).with(&frame[52..]).finish()
}

/// A header as it stands in the file, not yet believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) body_words: usize,
    pub(super) kind: FrameKind,
    pub(super) flags: u8,
    pub(super) format: u16,
    pub(super) row_count: u32,
    pub(super) first_lsn: u64,
    pub(super) durable_lsn: u64,
    pub(super) now_us: i64,
    pub(super) positions_len: usize,
    pub(super) prev_crc: u32,
    pub(super) crc: u32,
}

/// Why words are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No frame begins here.
    Magic,
    /// The file ends inside of the frame.
    Short,
    /// A length is beyond its bound.
    Length,
    /// The checksum does not fit.
    Checksum,
}

#[expect(clippy::cast_possible_truncation, reason = "a header word is two 32-bit halves by definition")]
pub(super) fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

impl Header {
    /// Reads a header and checks its lengths against their bounds, nothing else.
    pub(super) fn parse(words: &[u64]) -> Result<Self, Fault> {
        let &[lengths, kinds, first_lsn, durable_lsn, now, chain, check, ..] = words else { return Err(Fault::Short) };
        let (magic, body_len) = halves(lengths);
        if magic != FRAME_MAGIC {
            return Err(Fault::Magic);
        }
        let (shape, row_count) = halves(kinds);
        let [kind, flags, format_low, format_high] = shape.to_le_bytes();
        let (positions_len, prev_crc) = halves(chain);
        let (crc, zero) = halves(check);
        let (body_len, positions_len) = (body_len as usize, positions_len as usize);
        if body_len > FRAME_BODY_BYTES_MAX || !body_len.is_multiple_of(8) || positions_len > body_len || zero != 0 {
            return Err(Fault::Length);
        }
        Ok(Self {
            body_words: body_len / 8,
            kind: FrameKind(kind),
            flags,
            format: u16::from_le_bytes([format_low, format_high]),
            row_count,
            first_lsn,
            durable_lsn,
            now_us: now.cast_signed(),
            positions_len,
            prev_crc,
            crc,
        })
    }

    /// Words of the whole frame.
    pub(super) fn words(&self) -> usize {
        FRAME_HEADER_WORDS + self.body_words
    }

    /// Whether the checksum fits the frame's words, exactly [`Header::words`] of them.
    pub(super) fn sound(&self, salt: u32, frame: &[u64]) -> bool {
        checksum(salt, bytemuck::cast_slice(frame)) == self.crc && self.numbers_fit()
    }

    /// Whether its LSNs can be those of a frame.
    pub(super) fn numbers_fit(&self) -> bool {
        self.durable_lsn < self.first_lsn && self.last_lsn().is_some()
    }

    /// LSN of the last row; none when it does not fit.
    pub(super) fn last_lsn(&self) -> Option<u64> {
        self.first_lsn.checked_add(u64::from(self.row_count).max(1) - 1)
    }

    /// The frame, from its words.
    pub(super) fn frame<'a>(&self, words: &'a [u64]) -> Frame<'a> {
        assert!(words.len() >= self.words(), "a frame is taken from all of its words");
        let body = &words[FRAME_HEADER_WORDS..self.words()];
        let position_words = self.positions_len.div_ceil(8);
        assert!(position_words <= body.len(), "positions are a part of the body");
        let positions = &bytemuck::cast_slice::<u64, u8>(body)[..self.positions_len];
        Frame {
            kind: self.kind,
            flags: self.flags,
            first_lsn: self.first_lsn,
            row_count: self.row_count,
            now_us: self.now_us,
            durable_lsn: self.durable_lsn,
            positions,
            body: &body[position_words..],
        }
    }
}
