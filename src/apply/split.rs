//! Which rows of a packet go on at the memory limit, which wait, and which are refused.
//!
//! A row goes if there is room for it in every table that it feeds, and if no row in front of it that waits has one of
//! its keys: rows and deletes of one key keep their order. Rows that wait are left out of the reckoning of the others, so
//! what is decided holds: it is reckoned again without them until nothing more is lacking, and where that takes too
//! long, all behind the first of them wait.
//!
//! Called by whoever holds the seat, before anything is written. Costs two looks at each row or more, and happens near
//! the limit only: packets that surely fit, with no row waiting in front of them, are not looked at.

use super::engine::Engine;
use crate::pipeline::TableDef;
use crate::row::Rows;
use crate::state::{Lacking, Numbers, TouchedKeys};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Reckonings until all behind the first row that waits do.
const ROUNDS_MAX: usize = 6;

/// Rows that copies of keys are fed with, at most, to see what a packet needs: some tens of milliseconds.
const PACKET_FEEDS: usize = 1 << 16;

/// What becomes of the rows of some batches.
#[derive(Debug)]
pub(super) struct Split {
    /// Rows that do not go, by batch,
    left_out: Vec<Vec<bool>>,
    /// and those of them that never will.
    refused: Vec<Vec<bool>>,
    keys: Vec<TouchedKeys>,
    /// Rows that were refused, by table.
    tables: BTreeMap<u32, (Arc<TableDef>, usize)>,
    /// Only the first rows were looked at: the others are worth a try at once.
    pub(super) is_first_part: bool,
}

impl Split {
    fn of(batches: &[Rows], keys: Vec<TouchedKeys>) -> Self {
        let flags: Vec<Vec<bool>> = batches.iter().map(|batch| vec![false; batch.len()]).collect();
        assert_eq!(keys.len(), batches.len(), "keys are known of every batch");
        Self { left_out: flags.clone(), refused: flags, keys, tables: BTreeMap::new(), is_first_part: false }
    }

    /// Whether a row is written now.
    pub(super) fn goes(&self, batch: usize, row: usize) -> bool {
        !self.left_out[batch][row]
    }

    /// Whether a row is left out for good.
    pub(super) fn is_refused(&self, batch: usize, row: usize) -> bool {
        self.refused[batch][row]
    }

    /// Whether a row waits.
    pub(super) fn waits(&self, batch: usize, row: usize) -> bool {
        self.left_out[batch][row] && !self.refused[batch][row]
    }

    /// Whether anything but going becomes of any row.
    fn leaves_out(&self) -> bool {
        self.left_out.iter().flatten().any(|left| *left)
    }

    /// Whether any row goes or is refused: whether there is anything to write.
    pub(super) fn moves(&self) -> bool {
        self.left_out.iter().zip(&self.refused).any(|(left, refused)| left.iter().zip(refused).any(|(left, refused)| !left || *refused))
    }

    /// Keys of the rows that wait.
    pub(super) fn waiting_keys(&self) -> impl Iterator<Item = u64> + '_ {
        let rows = self.left_out.iter().enumerate().flat_map(|(batch, left)| (0..left.len()).map(move |row| (batch, row)));
        rows.filter(|(batch, row)| self.waits(*batch, *row)).flat_map(|(batch, row)| self.keys[batch].of(row).iter().copied())
    }

    /// Rows that lack room wait; those of new keys are refused where `refuses_new`.
    fn take(&mut self, lacking: &[Lacking], refuses_new: bool) {
        for Lacking { table, batch, known, new, .. } in lacking {
            for &row in new.iter().chain(known) {
                self.left_out[*batch][row as usize] = true;
            }
            if refuses_new && !new.is_empty() {
                new.iter().for_each(|row| self.refused[*batch][*row as usize] = true);
                self.tables.entry(table.id).or_insert_with(|| (Arc::clone(table), 0)).1 += new.len();
            }
        }
    }

    /// Rows behind one that waits, of one of its keys, wait too.
    fn follow(&mut self, front: &HashSet<u64>) {
        let mut held: HashSet<u64> = HashSet::new();
        for batch in 0..self.left_out.len() {
            for row in 0..self.left_out[batch].len() {
                let keys = self.keys[batch].of(row);
                if self.refused[batch][row] {
                    continue;
                }
                self.left_out[batch][row] |= keys.iter().any(|key| front.contains(key) || held.contains(key));
                if self.left_out[batch][row] {
                    held.extend(keys);
                }
            }
        }
    }

    /// Nothing is decided.
    fn reset(&mut self) {
        for flags in self.left_out.iter_mut().chain(&mut self.refused) {
            flags.fill(false);
        }
        self.tables.clear();
    }

    /// All rows but the first ones wait.
    fn leave_from(&mut self, first: usize) {
        self.left_out.iter_mut().flatten().skip(first).for_each(|left| *left = true);
    }

    /// Everything behind the first row that is left out waits, unless it is refused.
    fn cut(&mut self) {
        let mut behind = false;
        for left in self.left_out.iter_mut().flatten() {
            behind |= *left;
            *left = behind;
        }
    }
}

impl Engine {
    /// Decides what becomes of rows when the rows with these keys wait in front of them; none when all of them go.
    pub(super) fn split(&mut self, batches: &[Rows], front: &HashSet<u64>) -> Option<Split> {
        let surely = self.fit_surely(&Numbers::of(batches)) || self.fit_by_key(batches);
        if surely && front.is_empty() {
            return None;
        }
        let keys = batches.iter().map(|batch| self.state.touched_keys(batch)).collect();
        let mut split = Split::of(batches, keys);
        if surely {
            split.follow(front);
        } else {
            self.reckon(batches, front, &mut split);
        }
        if split.is_first_part && !split.moves() {
            self.keeps_out(&[]);
        }
        for (table, rows) in split.tables.values() {
            self.count_refused(table, *rows);
        }
        split.leaves_out().then_some(split)
    }

    /// Decides by what the rows need. Where the worst was assumed of some, so that nothing would go, the first half of the
    /// rows is looked at alone, and so on: the rest waits for the next try, which comes at once.
    fn reckon(&mut self, batches: &[Rows], front: &HashSet<u64>, split: &mut Split) {
        let mut first = batches.iter().map(Rows::len).sum::<usize>();
        split.follow(front);
        while self.leave_lacking(batches, front, split) {
            split.is_first_part = true;
            if split.moves() || first <= 1 {
                return;
            }
            first /= 2;
            split.reset();
            split.leave_from(first);
            split.follow(front);
        }
    }

    /// Leaves rows out until nothing is lacking; true when some of that was a guess. On a guess no row is refused for good.
    fn leave_lacking(&mut self, batches: &[Rows], front: &HashSet<u64>, split: &mut Split) -> bool {
        let mut guessed = false;
        for _ in 0..ROUNDS_MAX {
            let lacking = self.lacking(batches, &split.left_out, PACKET_FEEDS);
            if lacking.is_empty() {
                return guessed;
            }
            guessed |= lacking.iter().any(|lacking| lacking.is_guess);
            split.take(&lacking, !self.options.pause_on_memory && !guessed);
            split.follow(front);
        }
        split.cut();
        guessed
    }
}
