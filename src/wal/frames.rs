//! The ring of frames: the newest turns of the log in memory, shared by everybody who reads there.
//!
//! ```text
//! log    | ... on the disk only ... | turn | turn | turn |  <- the writer adds behind its `pwrite`
//!                                   ^ first_lsn            at most RING_BYTES_MAX, oldest out first
//! ```
//! A turn's bytes are copied once, when somebody reads, and then handed out by reference count: a
//! frame is shared by the ring and by all who have it, whatever they do with it and for how long.
//! Without readers the writer asks one number a turn and copies nothing. The ring holds what is
//! written; readers stop at what is durable ([`super::TailReader`]). What fell out stands in the
//! segments, so nobody waits for a slow reader and none is waited for.
//!
//! The turns in it follow each other without a gap; one that was not offered (nobody read then), or
//! that is larger than the ring, empties it.

use super::frame::{FRAME_HEADER_WORDS, Fault, Frame, Header};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of turns in memory.
pub const RING_BYTES_MAX: usize = 16 << 20;

/// One frame, shared: as many as want may keep it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedFrame {
    words: Arc<Vec<u64>>,
    start: usize,
    header: Header,
}

impl SharedFrame {
    /// The frame that begins at this word. The bytes are the writer's own, or were checked.
    pub(super) fn at(words: &Arc<Vec<u64>>, start: usize) -> Result<Self, Fault> {
        let Some(from) = words.get(start..) else { return Err(Fault::Short) };
        let header = Header::parse(from)?;
        if header.words() > from.len() || !header.numbers_fit() {
            return Err(Fault::Short);
        }
        Ok(Self { words: Arc::clone(words), start, header })
    }

    /// The frame, in place.
    pub fn frame(&self) -> Frame<'_> {
        self.header.frame(&self.words[self.start..])
    }

    /// LSN of its first row.
    pub fn first_lsn(&self) -> u64 {
        self.header.first_lsn
    }

    /// LSN of its last row.
    pub fn last_lsn(&self) -> u64 {
        let Some(last) = self.header.last_lsn() else { unreachable!("numbers were looked at") };
        last
    }

    /// Bytes that it takes in the log.
    pub fn bytes(&self) -> usize {
        self.header.words() * 8
    }

    /// Behind its last word.
    pub(super) fn end(&self) -> usize {
        self.start + self.header.words()
    }
}

/// The frames of one turn.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    pub(super) words: Arc<Vec<u64>>,
}

impl Turn {
    fn bytes(&self) -> usize {
        self.words.len() * 8
    }
}

#[derive(Debug, Default)]
struct Turns {
    turns: VecDeque<Turn>,
    bytes: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct FrameRing {
    readers: AtomicUsize,
    /// LSN of the oldest frame in it; the largest number when it is empty.
    first_lsn: AtomicU64,
    turns: Mutex<Turns>,
}

impl Default for FrameRing {
    fn default() -> Self {
        Self { readers: AtomicUsize::new(0), first_lsn: AtomicU64::new(u64::MAX), turns: Mutex::default() }
    }
}

impl FrameRing {
    /// Somebody reads from here on.
    pub(super) fn enter(&self) {
        self.readers.fetch_add(1, Ordering::AcqRel);
    }

    /// Somebody reads no more. With the last reader its memory goes.
    pub(super) fn leave(&self) {
        let before = self.readers.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "whoever leaves has entered");
        if before == 1 {
            self.clear(&mut self.turns.lock());
        }
    }

    /// Whether turns are wanted.
    pub(super) fn is_read(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.turns.lock().bytes
    }

    /// Takes a turn that was written. `bytes` are whole frames, one behind the other.
    pub(super) fn push(&self, first_lsn: u64, last_lsn: u64, bytes: &[u8]) {
        assert!(first_lsn <= last_lsn && bytes.len().is_multiple_of(8), "a turn is whole frames: {first_lsn} to {last_lsn}");
        let turn = (bytes.len() <= RING_BYTES_MAX).then(|| {
            let mut words = vec![0_u64; bytes.len() / 8];
            bytemuck::cast_slice_mut(&mut words).copy_from_slice(bytes);
            Turn { first_lsn, last_lsn, words: Arc::new(words) }
        });
        let mut ring = self.turns.lock();
        // Asked under the lock, which the last reader takes to empty it.
        if !self.is_read() {
            return;
        }
        if turn.is_none() || ring.turns.back().is_some_and(|last| last.last_lsn + 1 != first_lsn) {
            self.clear(&mut ring);
        }
        let Some(turn) = turn else { return };
        ring.bytes += turn.bytes();
        ring.turns.push_back(turn);
        while ring.bytes > RING_BYTES_MAX {
            let Some(oldest) = ring.turns.pop_front() else { unreachable!("bytes belong to turns") };
            ring.bytes -= oldest.bytes();
        }
        let Some(oldest) = ring.turns.front() else { unreachable!("the newest turn is no larger than the ring") };
        self.first_lsn.store(oldest.first_lsn, Ordering::Release);
    }

    /// The turn that holds `lsn`; none when it fell out, or was never in.
    pub(super) fn turn_of(&self, lsn: u64) -> Option<Turn> {
        if lsn < self.first_lsn.load(Ordering::Acquire) {
            return None;
        }
        let ring = self.turns.lock();
        let at = ring.turns.partition_point(|turn| turn.last_lsn < lsn);
        ring.turns.get(at).filter(|turn| turn.first_lsn <= lsn).cloned()
    }

    fn clear(&self, ring: &mut Turns) {
        self.first_lsn.store(u64::MAX, Ordering::Release);
        *ring = Turns::default();
    }
}

/// The shortest frame.
const _: () = assert!(FRAME_HEADER_WORDS * 8 < RING_BYTES_MAX);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_has_no_gap_and_goes_with_its_last_reader() {
        let ring = FrameRing::default();
        ring.enter();
        ring.enter();
        let third = vec![0_u8; RING_BYTES_MAX / 24 * 8];
        for lsn in 1..=4 {
            ring.push(lsn * 10, lsn * 10 + 9, &third);
        }
        assert!(ring.bytes() <= RING_BYTES_MAX);
        assert!(ring.turn_of(19).is_none(), "the oldest fell out");
        assert_eq!(ring.turn_of(35).unwrap().first_lsn, 30);
        assert!(ring.turn_of(50).is_none(), "not written yet");
        // A turn that was not offered, and one that is too large, leave no hole behind.
        ring.push(60, 60, &[0; 8]);
        assert!(ring.turn_of(49).is_none());
        assert_eq!(ring.turn_of(60).unwrap().last_lsn, 60);
        ring.push(61, 61, &vec![0; RING_BYTES_MAX + 8]);
        assert_eq!((ring.bytes(), ring.turn_of(60).is_none()), (0, true));
        ring.push(62, 62, &[0; 8]);
        ring.leave();
        assert!(ring.is_read() && ring.bytes() == 8);
        ring.leave();
        assert!(!ring.is_read() && ring.bytes() == 0);
    }
}
