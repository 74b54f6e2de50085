//! A turn: frames of rows that were written with one `pwrite` and are applied in slices.
//!
//! ```text
//! frames collected -> written (all or none) -> slice, reads, slice, reads ... -> each frame's replies -> turn over
//! ```
//! Near the memory limit rows are looked at first, in slices as well ([`look`](super::look)): the turn is open then with
//! nothing written.
//!
//! Invariants: while a turn is open its frames are in the log and not all of them in the state, so
//! nothing else is written, frozen or declared; between two slices only reads run, and they see a prefix
//! of the rows with its LSN; a frame's pushes are answered and its positions shown when its last row is
//! applied; when the turn is over, what was written is what is applied.
//!
//! A slice ends by time, measured here so that the state needs no clock: [`SLICE`] after its first step,
//! or after [`ROWS_PER_SLICE_MAX`] rows, whichever comes first. A turn of few rows is over after one step;
//! it reads the clock twice, for the histogram of turns.

use super::codec::encode_rows;
use super::engine::{Engine, staged, tell_head};
use super::look::Looking;
use super::panic::applying;
use super::port::Outbox;
use super::work::{Ack, Connection, InletId};
use crate::row::Rows;
use crate::state::RowsContent;
use crate::wal::FrameKind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use streamgauge_api::{ApiError, Code};

/// A slice ends this long after its first step: with that step about half a millisecond.
pub(super) const SLICE: Duration = Duration::from_micros(400);
/// Rows of one slice.
pub(super) const ROWS_PER_SLICE_MAX: usize = 4096;
/// Rows between two looks at the clock, where they go to one table; fewer where they go to several.
const ROWS_PER_STEP: usize = 64;

/// Pieces between two looks at the clock, where they are short,
const PIECES_PER_LOOK_MAX: usize = 8;
/// and the part of a slice that they take then together, at most.
const LOOKS_PER_SLICE: u32 = 16;

/// A slice of pieces that may be short or long: one key with two features, or with a hundred in a thousand buckets each.
/// The clock is looked at after each, and after eight of them once they are found to be short.
pub(super) struct Slice {
    begun: Instant,
    seen: Duration,
    every: usize,
    left: usize,
}

impl Slice {
    pub(super) fn since(begun: Instant) -> Self {
        Self { begun, seen: Duration::ZERO, every: 1, left: 1 }
    }

    /// Whether it is over, after one more piece.
    #[inline]
    pub(super) fn is_over(&mut self) -> bool {
        self.left -= 1;
        self.left == 0 && self.is_over_at(self.begun.elapsed())
    }

    fn is_over_at(&mut self, elapsed: Duration) -> bool {
        let is_short = elapsed.saturating_sub(self.seen) < SLICE / LOOKS_PER_SLICE;
        self.every = if is_short { (self.every * 2).min(PIECES_PER_LOOK_MAX) } else { 1 };
        (self.seen, self.left) = (elapsed, self.every);
        elapsed >= SLICE
    }
}

/// What was not written, and why.
pub(super) type Refused<T> = Box<(T, ApiError)>;

/// Frames that were written together, the one being applied first.
#[derive(Default)]
pub(super) struct Turn {
    frames: VecDeque<Frame>,
    /// What is looked at before it is written.
    pub(super) look: Option<Box<Looking>>,
    now_us: i64,
    /// When it began to be written.
    begun: Option<Instant>,
}

/// One frame of a turn.
pub(super) struct Frame {
    pub(super) content: RowsContent,
    /// LSN of its first row, once it is written.
    pub(super) first_lsn: u64,
    pub(super) then: Then,
}

/// What happens when a frame is applied to its end.
pub(super) enum Then {
    /// Pushes are answered.
    Answer { outbox: Arc<Outbox>, acks: Vec<Ack> },
    /// A source's progress is shown.
    Show { inlet: InletId, records: Vec<(u32, u64)>, oldest_ms: i64, bytes: usize },
}

impl Frame {
    /// A frame that is not written yet.
    pub(super) fn new(content: RowsContent, then: Then) -> Self {
        Self { content, first_lsn: 0, then }
    }

    fn last_lsn(&self) -> u64 {
        self.first_lsn + (self.content.rows() as u64).max(1) - 1
    }
}

impl Turn {
    /// Connections whose pushes are in it and not answered.
    pub(super) fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        let looked_at = self.look.iter().filter_map(|look| look.pushes());
        let looked_at = looked_at.flat_map(|(outbox, tags)| tags.map(move |tag| Connection::of(outbox, tag)));
        let written = self.frames.iter().flat_map(|frame| {
            let (outbox, acks) = match &frame.then {
                Then::Answer { outbox, acks } => (Some(outbox), &acks[..]),
                Then::Show { .. } => (None, &[][..]),
            };
            outbox.into_iter().flat_map(move |outbox| acks.iter().map(move |ack| Connection::of(outbox, ack.tag)))
        });
        written.chain(looked_at)
    }
}

impl Engine {
    /// Whether frames are looked at, or written and not applied to their end.
    pub(crate) fn is_mid_turn(&self) -> bool {
        assert!(self.turn.look.is_none() || self.turn.frames.is_empty(), "what is looked at is not written");
        !self.turn.frames.is_empty() || self.turn.look.is_some()
    }

    /// Writes frames as one turn. Nothing is applied yet: [`Engine::slice`] does that.
    ///
    /// # Errors
    /// Gives the frames back; nothing has changed then.
    pub(super) fn write_turn(&mut self, mut frames: VecDeque<Frame>) -> Result<(), Refused<VecDeque<Frame>>> {
        assert!(!self.is_mid_turn(), "a turn begins when the one before it is over");
        let (now_us, begun) = (self.clock.now_us(), Instant::now());
        let Some(writer) = self.writer.as_mut() else {
            return Err(Box::new((frames, ApiError::new(Code::Draining, "the server is stopping"))));
        };
        assert_eq!(writer.next_lsn(), self.state.lsn() + 1, "what was written before is applied");
        let mut refused = None;
        for frame in &mut frames {
            encode_rows(&frame.content, &mut self.encoded);
            match staged(writer, &self.encoded, FrameKind::ROWS, &frame.content.batches, now_us) {
                Ok(first_lsn) => frame.first_lsn = first_lsn,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        tell_head(writer, &self.state, &mut self.head_is_stale);
        if let Some(error) = refused.or_else(|| writer.write().err()) {
            return Err(Box::new((frames, self.refused(error))));
        }
        self.wrote();
        self.turn = Turn { frames, look: None, now_us, begun: Some(begun) };
        Ok(())
    }

    /// Goes on with a turn, and wakes the port whose pushes it answers.
    pub(crate) fn go_on(&mut self) {
        if self.turn.look.is_some() {
            if let Some(later) = self.look_on() {
                self.put_back(later);
            }
            return;
        }
        let outbox = self.turn.frames.iter().find_map(|frame| match &frame.then {
            Then::Answer { outbox, .. } => Some(Arc::clone(outbox)),
            Then::Show { .. } => None,
        });
        let before = self.turn.frames.len();
        self.slice();
        if let Some(outbox) = outbox.filter(|_| self.turn.frames.len() < before) {
            outbox.ready();
        }
    }

    /// Applies the turn's next rows for the time of a slice; true when the turn is over.
    pub(super) fn slice(&mut self) -> bool {
        let mut begun: Option<Instant> = None;
        let mut left = ROWS_PER_SLICE_MAX;
        while let Some(frame) = self.turn.frames.front() {
            if left == 0 || begun.is_some_and(|begun| begun.elapsed() >= SLICE) {
                break;
            }
            let (first, last, now_us) = (frame.first_lsn, frame.last_lsn(), self.turn.now_us);
            let tables = frame.content.batches.iter().map(|batch| self.state.tables_fed_by(batch)).max().unwrap_or(0);
            let given = (ROWS_PER_STEP / tables.max(1)).min(left).max(1);
            let mut effort = given;
            let ended = applying(first, last, || {
                if !self.state.is_mid_frame() {
                    self.state.begin(&frame.content, first, now_us);
                }
                self.state.advance(&frame.content, &mut effort)
            });
            left = left.saturating_sub(given - effort);
            if ended && let Some(frame) = self.turn.frames.pop_front() {
                assert_eq!(self.state.lsn(), frame.last_lsn(), "a frame that is applied reaches its last LSN");
                self.applied(frame);
            }
            if self.is_mid_turn() && begun.is_none() {
                begun = Some(Instant::now());
            }
        }
        self.facts.applied_lsn.store(self.state.lsn(), Ordering::Release);
        if self.has_due_waits() {
            self.answer_waits(begun.unwrap_or_else(Instant::now));
        }
        if self.is_mid_turn() {
            return false;
        }
        let next = self.writer.as_ref().map(crate::wal::WalWriter::next_lsn);
        assert_eq!(next, Some(self.state.lsn() + 1), "what a turn wrote is applied, and nothing else");
        self.busy.clear();
        if self.refuses {
            self.off_limit(self.clock.now_us(), self.passed_us());
        }
        if let Some(begun) = self.turn.begun.take() {
            self.metrics.apply_batch.record(begun.elapsed());
        }
        true
    }

    fn applied(&mut self, frame: Frame) {
        let Frame { content, first_lsn, then } = frame;
        for batch in &content.batches {
            self.event_series(batch.event()).applied.inc_by(batch.len() as u64);
        }
        if content.batches.iter().any(Rows::has_deletes) {
            self.gave_back();
        }
        match then {
            Then::Answer { outbox, acks } => {
                self.count_pushes(&content, true);
                self.acknowledge(&outbox, &acks, first_lsn);
            }
            Then::Show { records, oldest_ms, .. } => self.show(&content, records, oldest_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock was looked at after each eight entries, whatever they cost.
    #[test]
    fn a_slice_goes_on_for_few_pieces_beyond_its_time_however_long_they_are() {
        for (piece_us, beyond_us) in [(1, 8), (20, 8 * 20), (100, 100), (5_000, 5_000)] {
            let mut slice = Slice::since(Instant::now());
            let (mut now, piece) = (Duration::ZERO, Duration::from_micros(piece_us));
            let mut pieces = 0;
            loop {
                (now, pieces) = (now + piece, pieces + 1);
                slice.left -= 1;
                if slice.left == 0 && slice.is_over_at(now) {
                    break;
                }
            }
            assert!(now < SLICE + Duration::from_micros(beyond_us) + piece, "{pieces} pieces of {piece_us} us");
        }
    }
}
