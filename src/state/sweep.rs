//! A sweep: keys of a table of which something has wholly expired give it back (`expiry.rs`), and cold ones go (`cold.rs`).
//!
//! Looking and doing are two things. The engine looks from row to row, round and round all tables, a bounded number at a
//! time, and writes a frame only for keys that it found. Invariants: what a frame does is decided by its keys, its time
//! and the state alone, so that replay does the same; a key that is not there, or has something left, is passed over, so
//! that a frame is harmless wherever it is applied. A frame names keys, not rows, because row numbers are a process's own:
//! the emptying of sparse chunks moves keys to others. When to sweep is decided in `src/apply/sweep.rs`.

use super::state::State;
use super::table::Table;
use crate::row::Key;

/// Work of one frame, in words that are given back: some 0.2 ms. One key may be more than that by itself.
const WORDS_MAX: usize = 1 << 16;
/// Bytes of keys in one frame; the last one may pass it.
const KEY_BYTES_MAX: usize = 1 << 15;
/// What finding a key again costs, in words that are given back meanwhile.
const KEY_WORDS: usize = 64;

/// Keys of a table that give back what has wholly expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Number of the table.
    pub table: u32,
    /// Canonical bytes of keys.
    pub keys: Vec<Key>,
}

/// Where a look goes on; the first row of all at first. Rows may move meanwhile: what a round misses the next one finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    table: u32,
    row: u32,
}

/// Keys that were found, all of one table, and how much it is to give back what they have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The keys.
    pub sweep: Sweep,
    words: usize,
    key_bytes: usize,
}

impl Found {
    /// Whether it is as much as one frame should be.
    pub fn is_full(&self) -> bool {
        self.words >= WORDS_MAX || self.key_bytes >= KEY_BYTES_MAX
    }

    fn add(&mut self, key: Key, words: usize) {
        self.words += words + KEY_WORDS;
        self.key_bytes += key.len();
        self.sweep.keys.push(key);
    }
}

impl State {
    /// Rows of tables that have something that can expire.
    pub fn windowed_rows(&self) -> usize {
        self.tables.values().filter(|table| table.can_expire()).map(|table| table.keys.rows() as usize).sum()
    }

    /// Looks for keys of which something has wholly expired by this time, at up to `rows` rows of one table behind a
    /// place. Gives how many were looked at and the next place; nothing is looked at where that is of another table than
    /// what was found before.
    pub fn look_for_expired(&self, at: Place, rows: u32, now_us: i64, found: &mut Found) -> (u32, Place) {
        let mut tables = self.tables.range(at.table..);
        let Some((&id, table)) = tables.find(|(_, table)| table.can_expire()) else { return (0, Place::default()) };
        let from = if id == at.table { at.row } else { 0 };
        if !found.sweep.keys.is_empty() && found.sweep.table != id {
            return (0, Place { table: id, row: from });
        }
        found.sweep.table = id;
        let end = table.keys.rows();
        let to = from.saturating_add(rows).min(end).max(from);
        let cold_us = self.cold_until_us(table, now_us);
        let mut row = from;
        while row < to && !found.is_full() {
            let words: Option<usize> = if table.key_goes_cold(row, cold_us) {
                Some(table.slabs.iter().map(|slab| slab.weight(row)).sum())
            } else {
                table.slabs.iter().filter_map(|slab| slab.expired_weight(row, now_us)).reduce(|all, one| all + one)
            };
            if let Some(words) = words {
                let Some(key) = table.key_bytes(row) else { unreachable!("a row without a key has nothing") };
                found.add(key, words);
            }
            row += 1;
        }
        (row - from, if row >= end { Place { table: id.saturating_add(1), row: 0 } } else { Place { table: id, row } })
    }

    /// Has the keys of a sweep give back what has wholly expired.
    pub(super) fn sweep(&mut self, sweep: &Sweep, now_us: i64) {
        // A state may be read without its tables, for its definitions.
        let Some(table) = self.tables.get(&sweep.table) else { return };
        let cold_us = self.cold_until_us(table, now_us);
        let Some(table) = self.tables.get_mut(&sweep.table) else { unreachable!("it was there") };
        for key in &sweep.keys {
            if let Some(row) = table.find(key).filter(|&row| !table.forget_cold(row, cold_us)) {
                table.slabs.iter_mut().for_each(|slab| slab.give_back(row, now_us));
            }
        }
    }
}

impl Table {
    fn can_expire(&self) -> bool {
        self.goes_cold() || self.slabs.iter().any(|slab| slab.plan.is_windowed())
    }
}
