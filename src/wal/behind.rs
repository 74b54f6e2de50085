//! What lies behind a bad place of a segment: are there sound frames, and what do they say was synced?
//!
//! The answer tells a torn tail from damage, so it has to be exact; and it is looked for in bytes that nobody
//! vouches for, in which anybody may have written what looks like the heads of frames (texts of rows are in
//! there). A frame may begin at every word, and each head claims up to 64 MiB behind it, so that checking one
//! after the other costs their product. So all of them are checked in one pass, with one running checksum: with
//!
//! ```text
//!   P(x)  the checksum of all bytes up to x        shift(c, n)  c with n zeroes behind its bytes
//! ```
//! the bytes from `a` to `e` have the checksum `P(e) ^ shift(P(a), e - a)`, since a CRC is linear. A head is
//! remembered until the pass comes to where its frame would end, and judged there. Each byte is taken in once,
//! and the head's own once more; what is remembered is at most as large as the bytes that it stands in.
//!
//! What begins inside of a sound frame is its content and counts for nothing. Only a refused or torn log is
//! looked at like this; zeroes, most of a preallocated file, cost a look each. Called by the reader.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use super::frame::{FRAME_HEADER_WORDS, FRAME_MAGIC, Header, halves};
use super::segment::{FOOTER_MAGIC, FOOTER_WORDS, Footer};
use crate::storage::{Checksum, IoError, Storage, WordStream};

/// Bytes of a head before the checksum of its frame, and behind it.
const BEFORE_CRC: usize = 48;
const BEHIND_CRC: usize = 52;

/// What lies behind a bad place.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// LSN and time of the first sound frame.
    pub(super) first: Option<(u64, i64)>,
    /// The highest LSN that sound frames and footers say was synced.
    pub(super) durable_lsn: u64,
    /// Behind the last word that is not zero.
    pub(super) last_byte: u64,
    /// Bytes that checksums were taken of.
    pub(super) summed_bytes: u64,
}

/// What a frame or footer must be to count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Where checksums of this log begin.
    pub(super) salt: u32,
    /// Frames from this LSN on.
    pub(super) next_lsn: u64,
}

/// A head whose frame has not been seen to its end. Ordered by its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    end: u64,
    start: u64,
    /// The checksum up to behind the head's own, with the frame's up to there: `P(a + 52) ^ C(a .. a + 48)`.
    mixed: u32,
    crc: u32,
    first_lsn: u64,
    now_us: i64,
    durable_lsn: u64,
}

/// A sound frame, or a footer.
#[derive(Debug, Clone, Copy)]
struct Sound {
    start: u64,
    end: u64,
    frame: Option<(u64, i64)>,
    durable_lsn: u64,
}

/// The pass over one file.
struct Pass {
    wanted: Wanted,
    file_bytes: u64,
    behind: Behind,
    /// The running checksum, from wherever the oldest pending head began.
    sum: Checksum,
    pending: BinaryHeap<Reverse<Pending>>,
    /// In order, none inside of another.
    sound: Vec<Sound>,
}

impl Behind {
    /// Looks behind a place of a file: from the word after it on, or from the head when there is none.
    ///
    /// # Errors
    /// When reading fails.
    pub(super) fn look<S: Storage>(storage: &S, path: &Path, offset: u64, wanted: Wanted) -> Result<Self, IoError> {
        let mut stream = WordStream::new(storage.open_read(path)?, Vec::new())?;
        let behind = Self { last_byte: offset, ..Self::default() };
        let (sum, pending, sound) = (Checksum::new(), BinaryHeap::new(), Vec::new());
        let mut pass = Pass { wanted, file_bytes: stream.file_bytes(), behind, sum, pending, sound };
        while stream.offset() < offset && stream.fill(1)? {
            // More than a window has, whatever it is.
            let words = usize::try_from((offset - stream.offset()).div_ceil(8)).unwrap_or(usize::MAX);
            stream.consume(stream.window().len().min(words));
        }
        // What begins at the place itself is known to be bad.
        if offset > 0 && stream.fill(1)? {
            pass.take(stream.window(), 1, stream.offset());
            stream.consume(1);
        }
        while stream.fill(1)? {
            let at = stream.offset();
            let words = match pass.plain(stream.window(), at) {
                0 => {
                    pass.begin(&mut stream, at)?;
                    1
                }
                words => words,
            };
            pass.take(stream.window(), words, at);
            stream.consume(words);
            pass.end_at(at + words as u64 * 8);
        }
        assert!(pass.pending.iter().all(|Reverse(pending)| pending.end > stream.offset()), "a frame is judged where it ends");
        pass.settle();
        Ok(pass.behind)
    }

    /// The same of several files, one after the other: lost bytes add up.
    pub(super) fn then(&mut self, later: &Self) {
        self.first = self.first.or(later.first);
        self.durable_lsn = self.durable_lsn.max(later.durable_lsn);
        self.last_byte += later.last_byte;
        self.summed_bytes += later.summed_bytes;
    }
}

impl Pass {
    /// Words in which nothing begins and no pending frame ends.
    fn plain(&self, window: &[u64], at: u64) -> usize {
        let until = self.pending.peek().map_or(u64::MAX, |Reverse(next)| next.end - at) / 8;
        assert!(until > 0, "a frame that ends at byte {at} is judged before");
        // More than a window has, whatever it is.
        let until = usize::try_from(until).unwrap_or(usize::MAX);
        let begins = |word: &&u64| ![FRAME_MAGIC, FOOTER_MAGIC].contains(&halves(**word).0);
        window.iter().take(until).take_while(begins).count()
    }

    /// Takes words into the running checksum while there is somebody who wants it.
    fn take(&mut self, window: &[u64], words: usize, at: u64) {
        let words = &window[..words];
        if let Some(last) = words.iter().rposition(|word| *word != 0) {
            self.behind.last_byte = self.behind.last_byte.max(at + (last as u64 + 1) * 8);
        }
        if !self.pending.is_empty() {
            self.sum = std::mem::take(&mut self.sum).with(bytemuck::cast_slice(words));
            self.behind.summed_bytes += words.len() as u64 * 8;
        }
    }

    /// A word that may begin a frame or a footer.
    fn begin<S: crate::storage::StorageFile>(&mut self, stream: &mut WordStream<S>, at: u64) -> Result<(), IoError> {
        let magic = stream.window().first().map_or(0, |word| halves(*word).0);
        if magic == FOOTER_MAGIC && stream.fill(FOOTER_WORDS)? {
            if let Ok(footer) = Footer::parse(self.wanted.salt, stream.window()) {
                let end = at + FOOTER_WORDS as u64 * 8;
                self.keep(Sound { start: at, end, frame: None, durable_lsn: footer.durable_lsn });
            }
            self.behind.summed_bytes += FOOTER_WORDS as u64 * 8;
        }
        if magic != FRAME_MAGIC || !stream.fill(FRAME_HEADER_WORDS)? {
            return Ok(());
        }
        let Ok(header) = Header::parse(stream.window()) else { return Ok(()) };
        let end = at + header.words() as u64 * 8;
        if header.first_lsn < self.wanted.next_lsn || !header.numbers_fit() || end > self.file_bytes.next_multiple_of(8) {
            return Ok(());
        }
        let head: &[u8] = bytemuck::cast_slice(&stream.window()[..FRAME_HEADER_WORDS]);
        let before = self.sum.clone().with(&head[..BEHIND_CRC]).finish();
        let own = Checksum::resume(self.wanted.salt).with(&head[..BEFORE_CRC]).finish();
        self.behind.summed_bytes += (BEFORE_CRC + BEHIND_CRC) as u64;
        self.pending.push(Reverse(Pending {
            end,
            start: at,
            mixed: before ^ own,
            crc: header.crc,
            first_lsn: header.first_lsn,
            now_us: header.now_us,
            durable_lsn: header.durable_lsn,
        }));
        Ok(())
    }

    /// Judges the frames that would end here.
    fn end_at(&mut self, at: u64) {
        while let Some(&Reverse(pending)) = self.pending.peek() {
            assert!(pending.end >= at, "the pass stops where a frame ends");
            if pending.end > at {
                return;
            }
            self.pending.pop();
            let rest = at - pending.start - BEHIND_CRC as u64;
            let crc = self.sum.clone().finish() ^ Checksum::shift(pending.mixed, rest);
            if crc == pending.crc {
                let Pending { end, start, first_lsn, now_us, durable_lsn, .. } = pending;
                self.keep(Sound { start, end, frame: Some((first_lsn, now_us)), durable_lsn });
            }
        }
        // Nobody waits for the end of anything: what was found is final, and the checksum may begin anew.
        self.settle();
        self.sum = Checksum::new();
    }

    /// A sound one, unless it is the content of another; what is content of it goes.
    fn keep(&mut self, sound: Sound) {
        while self.sound.last().is_some_and(|last| last.start > sound.start) {
            self.sound.pop();
        }
        if self.sound.last().is_none_or(|last| last.end <= sound.start) {
            self.sound.push(sound);
        }
        debug_assert!(self.sound.is_sorted_by(|one, other| one.end <= other.start), "none is inside of another");
    }

    fn settle(&mut self) {
        for sound in self.sound.drain(..) {
            self.behind.first = self.behind.first.or(sound.frame);
            self.behind.durable_lsn = self.behind.durable_lsn.max(sound.durable_lsn);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::frame::{FrameKind, FrameParts, Link, encode};
    use super::*;
    use crate::storage::SimulatedDisk;
    use proptest::prelude::*;

    const SALT: u32 = 0x1234_5678;
    const WANTED: Wanted = Wanted { salt: SALT, next_lsn: 100 };

    fn look(bytes: &[u8], offset: u64) -> Behind {
        let disk = SimulatedDisk::new();
        disk.place(Path::new("a"), bytes.to_vec());
        Behind::look(&disk, Path::new("a"), offset, WANTED).unwrap()
    }

    /// The same, word by word, each head checked by itself.
    fn one_by_one(bytes: &[u8], offset: u64) -> Behind {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(8), 0);
        let words: Vec<u64> = padded.chunks(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect();
        let mut behind = Behind { last_byte: offset, ..Behind::default() };
        let mut at = usize::try_from(offset).unwrap() / 8 + usize::from(offset > 0);
        while at < words.len() {
            let rest = &words[at..];
            let mut taken = 1;
            match halves(rest[0]).0 {
                FRAME_MAGIC => {
                    if let Ok(header) = Header::parse(rest)
                        && let Some(frame) = rest.get(..header.words())
                        && header.first_lsn >= WANTED.next_lsn
                        && header.sound(SALT, frame)
                    {
                        behind.first.get_or_insert((header.first_lsn, header.now_us));
                        behind.durable_lsn = behind.durable_lsn.max(header.durable_lsn);
                        taken = header.words();
                    }
                }
                FOOTER_MAGIC => {
                    if let Some(Ok(footer)) = rest.get(..FOOTER_WORDS).map(|words| Footer::parse(SALT, words)) {
                        behind.durable_lsn = behind.durable_lsn.max(footer.durable_lsn);
                        taken = FOOTER_WORDS;
                    }
                }
                _ => {}
            }
            at += taken;
        }
        let from = usize::try_from(offset).unwrap() / 8;
        let last = words.iter().skip(from).rposition(|word| *word != 0);
        behind.last_byte = last.map_or(offset, |last| (from + last + 1) as u64 * 8);
        behind
    }

    fn frame(first_lsn: u64, rows: u32, salt: u32, body: &[u64]) -> Vec<u8> {
        let parts = FrameParts {
            kind: FrameKind::ROWS,
            flags: 0,
            row_count: rows,
            now_us: first_lsn.cast_signed(),
            positions: b"po",
            body: &[body],
        };
        let mut bytes = Vec::new();
        encode(&mut bytes, &parts, Link { first_lsn, durable_lsn: first_lsn / 2, prev_crc: 3, salt });
        bytes
    }

    fn footer(durable_lsn: u64, salt: u32) -> Vec<u8> {
        let footer = Footer { first_lsn: 1, last_lsn: durable_lsn + 1, durable_lsn, offset: 8, last_crc: 1, frames: 1 };
        bytemuck::cast_slice(&footer.encode(salt)).to_vec()
    }

    fn words_of(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect()
    }

    /// A piece of what may stand behind a bad place.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            (90..200_u64, 0..5_u32, prop::bool::weighted(0.8), 0..9_usize).prop_map(|(lsn, rows, ours, words)| frame(
                lsn,
                rows,
                if ours { SALT } else { 9 },
                &vec![7; words]
            )),
            (0..300_u64, any::<bool>()).prop_map(|(durable, ours)| footer(durable, if ours { SALT } else { 9 })),
            // The head of a frame that claims some of what follows.
            (0..60_usize).prop_map(|words| {
                let mut head = frame(150, 1, SALT, &vec![0; words]);
                head.truncate(56);
                head
            }),
            prop::collection::vec(any::<u64>(), 0..6).prop_map(|words| bytemuck::cast_slice(&words).to_vec()),
            (0..9_usize).prop_map(|words| vec![0; words * 8]),
            Just(FRAME_MAGIC.to_le_bytes().repeat(2)),
        ];
        // Frames whose content looks like frames.
        leaf.prop_recursive(2, 12, 4, |inner| {
            (prop::collection::vec(inner, 1..4), 100..200_u64).prop_map(|(parts, lsn)| frame(lsn, 1, SALT, &words_of(&parts.concat())))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn one_pass_finds_what_a_look_at_every_word_finds(
            pieces in prop::collection::vec(piece(), 0..12),
            cut in 0..80_usize,
            offset in 0..12_u64,
            flip in prop::option::of(0..4000_usize),
        ) {
            let mut bytes = pieces.concat();
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Some(bit) = flip && let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            let offset = (offset * 8).min(bytes.len() as u64 / 8 * 8);
            let (found, wanted) = (look(&bytes, offset), one_by_one(&bytes, offset));
            prop_assert_eq!((found.first, found.durable_lsn, found.last_byte), (wanted.first, wanted.durable_lsn, wanted.last_byte));
        }
    }

    /// Texts of rows may look like the heads of frames, by accident or not: each claimed the whole rest once.
    #[test]
    fn heads_that_claim_what_follows_cost_their_own_bytes_and_not_what_they_claim() {
        let summed = |heads: usize| {
            let bytes: Vec<u8> = (0..heads)
                .flat_map(|number| {
                    let body = vec![0; (heads - 1 - number) * 7];
                    let mut head = frame(1_000 + number as u64, 1, SALT, &body);
                    head.truncate(56);
                    // The last one would be sound.
                    head[48] ^= 1;
                    head
                })
                .collect();
            let found = look(&bytes, 0);
            assert_eq!((found.first, found.last_byte), (None, bytes.len() as u64));
            (found.summed_bytes, bytes.len() as u64)
        };
        for heads in [1, 10, 1_000, 4_000] {
            let (summed, bytes) = summed(heads);
            assert!(summed <= 3 * bytes, "{heads} heads: checksums of {summed} bytes in a file of {bytes}");
        }
    }

    #[test]
    fn zeroes_and_texts_without_heads_are_not_summed() {
        assert_eq!(look(&vec![0; 1 << 20], 0).summed_bytes, 0);
        assert_eq!(look(&vec![7; 1 << 20], 64).summed_bytes, 0);
    }
}
