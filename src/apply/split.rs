//! Which rows of a packet go on at the memory limit, which wait, and which are refused.
//!
//! A row goes if there is room for it in every table that it feeds, and if no row in front of it that waits has one of
//! its keys: rows and deletes of one key keep their order. Rows that wait are left out of the reckoning of the others, so
//! what is decided holds: it is reckoned again without them until nothing more is lacking, and where that takes too
//! long, all behind the first of them wait.
//!
//! What lacks room is found in [`look`](super::look); here is what follows from it. Called by whoever holds the seat, before
//! anything is written.

use crate::pipeline::TableDef;
use crate::row::Rows;
use crate::state::{Lacking, TouchedKeys};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What becomes of the rows of some batches.
#[derive(Debug)]
pub(super) struct Split {
    /// Rows that do not go, by batch,
    pub(super) left_out: Vec<Vec<bool>>,
    /// and those of them that never will.
    refused: Vec<Vec<bool>>,
    keys: Vec<TouchedKeys>,
    /// Rows that were refused, by table.
    tables: BTreeMap<u32, (Arc<TableDef>, usize)>,
    /// Only the first rows were looked at: the others are worth a try at once.
    pub(super) is_first_part: bool,
}

impl Split {
    pub(super) fn of(batches: &[Rows], keys: Vec<TouchedKeys>) -> Self {
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

    /// Rows that are left out for good, by table.
    pub(super) fn refused_by_table(&self) -> impl Iterator<Item = (&TableDef, usize)> {
        self.tables.values().map(|(table, rows)| (&**table, *rows))
    }

    /// Whether anything but going becomes of any row.
    pub(super) fn leaves_out(&self) -> bool {
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
    pub(super) fn take(&mut self, lacking: &[Lacking], refuses_new: bool) {
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
    pub(super) fn follow(&mut self, front: &HashSet<u64>) {
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
    pub(super) fn reset(&mut self) {
        for flags in self.left_out.iter_mut().chain(&mut self.refused) {
            flags.fill(false);
        }
        self.tables.clear();
    }

    /// All rows but the first ones wait.
    pub(super) fn leave_from(&mut self, first: usize) {
        self.left_out.iter_mut().flatten().skip(first).for_each(|left| *left = true);
    }

    /// Everything behind the first row that is left out waits, unless it is refused.
    pub(super) fn cut(&mut self) {
        let mut behind = false;
        for left in self.left_out.iter_mut().flatten() {
            behind |= *left;
            *left = behind;
        }
    }
}
