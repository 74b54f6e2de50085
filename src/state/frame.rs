//! Frames into the state: [`State::apply`] whole, or a frame of rows in slices.
//!
//! A frame of many rows would keep readers waiting, so the engine may have it applied a few rows at a
//! time and answer reads in between. Invariants: the state is the same, bit for bit, however a frame
//! is cut, because keys and objects are made in the order of rows, whatever groups these are applied
//! in; between two slices every table holds the same prefix of the frame's rows, and [`State::lsn`] is the LSN of the
//! last of them; positions and rejects come with the last slice, so that a position never runs ahead
//! of its rows; nothing else may be applied, frozen or fingerprinted while a frame is open.
//!
//! **No step is long because of what keys hold.** A row for which a key's list becomes rings, or for which
//! all that a key has goes back, is thousands of words of work, and a frame may be full of them. Where
//! that comes, rows are applied a few at a time, and count as many in the step. Groups are so small from
//! the beginning that they are no long step if all their rows are such: that shows only where tables
//! with hundreds of features are fed, since a smaller group overlaps fewer misses.
//!
//! Called by whoever holds the seat, and by recovery. How long a slice takes is the caller's to
//! measure: there is no clock here.

use super::content::{Content, RowsContent};
use super::state::State;
use super::table::{GROUP, Table};
use crate::row::Rows;

/// Work of one group, in words, if all of its rows are the heaviest that its tables have: some twenty milliseconds.
pub(super) const GROUP_WORDS_MAX: usize = 1 << 23;
/// The same while rows are found to be heavy: a fraction of a millisecond, but for one row.
pub(super) const HEAVY_WORDS_MAX: usize = 1 << 16;
/// For how many rows groups stay small.
const HEAVY_ROWS: usize = 4096;
/// What counts as a row, in words.
pub(super) const WORDS_PER_ROW: usize = 256;

/// A frame of rows that is applied in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenFrame {
    first_lsn: u64,
    /// Rows of the frame, in all batches.
    rows: usize,
    /// Rows applied.
    done: usize,
    /// The batch that goes on, and its first row that is not applied.
    batch: usize,
    row: usize,
}

impl State {
    /// Applies one frame to its end. `first_lsn` follows the last applied LSN; `now_us` is the time
    /// written in the frame.
    pub fn apply(&mut self, content: &Content, first_lsn: u64, now_us: i64) {
        match content {
            Content::Rows(rows) => {
                self.begin(rows, first_lsn, now_us);
                while !self.advance(rows, &mut { usize::MAX }) {}
            }
            other => {
                self.follow(first_lsn, now_us);
                self.apply_other(other, first_lsn, now_us);
                self.lsn = first_lsn + other.lsns() - 1;
            }
        }
    }

    /// Begins a frame of rows; [`State::advance`] applies them. `first_lsn` and `now_us` as in
    /// [`State::apply`].
    pub fn begin(&mut self, content: &RowsContent, first_lsn: u64, now_us: i64) {
        self.follow(first_lsn, now_us);
        for (slot, _) in &content.positions {
            let known = self.partitions.len();
            assert!((slot.0 as usize) < known, "frame {first_lsn} moves slot {} of {known}", slot.0);
        }
        self.repeated.clear();
        self.open = Some(OpenFrame { first_lsn, rows: content.rows(), done: 0, batch: 0, row: 0 });
    }

    /// Applies the next rows of the frame that [`State::begin`] began with this content, for so much effort: one for a
    /// row, and more where its key holds much that it changes. At least one group; true when that was the frame's end.
    pub fn advance(&mut self, content: &RowsContent, effort: &mut usize) -> bool {
        let Some(mut open) = self.open else { unreachable!("a slice of a frame that nobody began") };
        assert_eq!(open.rows, content.rows(), "frame {} goes on with the content it began with", open.first_lsn);
        let before = open.done;
        while let Some(batch) = content.batches.get(open.batch) {
            if *effort == 0 && open.done > before {
                break;
            }
            let to = open.row.saturating_add(self.group_rows(batch)).min(batch.len());
            self.apply_batch(batch, open.row..to, open.first_lsn + (open.done - open.row) as u64);
            let (rows, work) = (to - open.row, self.take_work(batch));
            self.heavy_rows = if work > HEAVY_WORDS_MAX { HEAVY_ROWS } else { self.heavy_rows.saturating_sub(rows) };
            *effort = effort.saturating_sub(rows + work / WORDS_PER_ROW);
            open.done += rows;
            (open.batch, open.row) = if to == batch.len() { (open.batch + 1, 0) } else { (open.batch, to) };
        }
        assert!(open.done <= open.rows, "no row is applied twice");
        let ended = open.batch == content.batches.len();
        if ended {
            assert_eq!(open.done, open.rows, "a frame's end is behind its last row");
            self.end(content, open.first_lsn);
            self.lsn = open.first_lsn + (open.rows as u64).max(1) - 1;
        } else {
            self.lsn = open.first_lsn + open.done as u64 - 1;
        }
        self.open = (!ended).then_some(open);
        ended
    }

    /// Rows of a batch that are applied at a time.
    fn group_rows(&self, batch: &Rows) -> usize {
        let most = if self.heavy_rows > 0 { HEAVY_WORDS_MAX } else { GROUP_WORDS_MAX };
        let row: usize = self.fed_by(batch).map(Table::row_work_max).sum();
        most.checked_div(row).map_or(GROUP, |rows| rows.clamp(1, GROUP))
    }

    /// Work of rows of a batch that hung on what their keys held, in words, since the last call.
    pub(super) fn take_work(&mut self, batch: &Rows) -> usize {
        let mut work = 0;
        for id in self.by_event.get(&batch.event()).into_iter().flatten() {
            work += self.tables.get_mut(id).map_or(0, Table::take_work);
        }
        work
    }

    /// Whether a frame is applied in part.
    pub fn is_mid_frame(&self) -> bool {
        self.open.is_some()
    }

    /// Takes a frame's place in the log.
    fn follow(&mut self, first_lsn: u64, now_us: i64) {
        assert!(self.open.is_none(), "frame {first_lsn} comes while {:?} is open", self.open);
        assert_eq!(first_lsn, self.lsn + 1, "frame {first_lsn} does not follow {}", self.lsn);
        self.frame_us = self.frame_us.max(now_us);
    }

    /// What a frame of rows says besides its rows.
    fn end(&mut self, content: &RowsContent, first_lsn: u64) {
        for retried in &content.retried {
            self.drop_reject(retried);
        }
        for reject in &content.rejects {
            self.keep_reject(reject, first_lsn);
        }
        self.move_partitions(&content.positions, &content.waiting);
    }
}
