//! What has left the definitions gives its memory back bit by bit: rows of slabs that features left, chunks of slabs and
//! tables that are gone whole.
//!
//! A registration that takes features or tables away changes what is declared, read and fed at once, and touches no row:
//! it costs the same with one key and with a hundred million. What is left to do is done here in steps, between turns.
//! Nothing of it is logged, and a replay may be anywhere in it: answers, what rows become, and fingerprints do not depend on
//! it (`older.rs`). Invariants: no step does much more than it was told to; with a limit of memory, none leads beyond it; a
//! state is written as a snapshot when all of it is done.
//!
//! Called by apply (`apply/shedding.rs`). Cost: each row is read once with its lists and rings, as for a fingerprint, and
//! what has another layout then is written once.

use super::chunk::Chunk;
use super::index::IndexParts;
use super::older::Passed;
use super::state::State;
use super::table::Table;
use std::sync::Arc;
use streamgauge_api::control::Retiring;

/// Work of one step, in words: some tens of microseconds. One row may be more than that by itself.
const WORDS_PER_STEP: usize = 1 << 14;
/// What dropping a chunk counts, in words.
const CHUNK_WORK: usize = 256;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// There is more to do.
    More,
    /// The next row takes memory before it gives some back, and there is none.
    NoRoom,
    /// All is given back.
    Over,
}

/// What is gone, and since when.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    /// The table, or the one that features left.
    pub(super) table: Arc<str>,
    /// Features that left; none when the table is gone.
    pub(super) features: Vec<Arc<str>>,
    /// The time of the frame that took it away, microseconds.
    pub(super) since_us: i64,
}

impl Gone {
    fn retiring(&self, unit: &str, done: usize, of: usize) -> Retiring {
        debug_assert!(done <= of, "{done} {unit} of {of}");
        Retiring {
            table: self.table.to_string(),
            features: self.features.iter().map(ToString::to_string).collect(),
            done: done as u64,
            of: of as u64,
            unit: unit.to_owned(),
            since_ms: self.since_us.div_euclid(1000),
        }
    }
}

/// Chunks of what is gone whole; the last goes first.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    parts: Vec<Part>,
}

/// Chunks of one table, or of one slab.
#[derive(Debug)]
struct Part {
    gone: Gone,
    /// Where its keys stood; goes first.
    index: Option<IndexParts>,
    lists: Vec<Vec<Option<Chunk>>>,
    /// Places of chunks and parts of the index that are left, and that there were.
    left: usize,
    of: usize,
}

impl Leaving {
    /// Takes what something consists of that is gone.
    pub(super) fn add(&mut self, gone: Gone, index: Option<IndexParts>, lists: impl Iterator<Item = Vec<Option<Chunk>>>) {
        let lists: Vec<_> = lists.filter(|list| !list.is_empty()).collect();
        let of = lists.iter().map(Vec::len).sum::<usize>() + index.as_ref().map_or(0, IndexParts::len);
        if of > 0 {
            self.parts.push(Part { gone, index, lists, left: of, of });
        }
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Drops the next chunk, or part of an index; false when there is none.
    fn drop_next(&mut self) -> bool {
        while let Some(part) = self.parts.last_mut() {
            if part.index.as_mut().is_some_and(IndexParts::drop_next) {
                part.left -= 1;
                return true;
            }
            part.index = None;
            let Some(list) = part.lists.last_mut() else {
                assert_eq!(part.left, 0, "chunks of {:?} were counted when they came", part.gone);
                self.parts.pop();
                continue;
            };
            match list.pop() {
                Some(chunk) => {
                    part.left -= 1;
                    chunk.as_ref().inspect(|chunk| chunk.leave());
                    return true;
                }
                None => drop(part.lists.pop()),
            }
        }
        false
    }

    fn retiring(&self) -> impl Iterator<Item = Retiring> + '_ {
        self.parts.iter().rev().map(|part| part.gone.retiring("chunks", part.of - part.left, part.of))
    }
}

impl State {
    /// Whether something that is gone has memory to give back.
    pub fn is_shedding(&self) -> bool {
        self.shedding
    }

    pub(super) fn look_for_shedding(&self) -> bool {
        !self.leaving.is_empty() || self.tables.values().any(Table::is_shedding)
    }

    /// Whether rows of a table stand in the layout of a larger plan.
    pub fn sheds_rows_of(&self, table: u32) -> bool {
        self.tables.get(&table).is_some_and(Table::is_shedding)
    }

    /// What is gone and has memory still, and how much of it is done.
    pub fn retiring(&self) -> Vec<Retiring> {
        let slabs = self.tables.values().flat_map(|table| &table.slabs);
        let older = slabs.filter_map(|slab| slab.older.as_ref()).map(|older| {
            let rows = older.rows();
            older.gone().retiring("rows", rows.start as usize, rows.end as usize)
        });
        self.leaving.retiring().chain(older).collect()
    }

    /// Rows that stand in the layout of a larger plan.
    #[cfg(test)]
    pub(crate) fn shedding_rows(&self) -> usize {
        let slabs = self.tables.values().flat_map(|table| &table.slabs);
        slabs.filter_map(|slab| slab.older.as_ref()).map(|older| older.rows().len()).sum()
    }

    /// Bytes of chunks of what is gone whole.
    #[cfg(test)]
    pub(super) fn leaving_bytes(&self) -> usize {
        let index = self.leaving.parts.iter().filter_map(|part| part.index.as_ref()).map(IndexParts::bytes);
        self.leaving.parts.iter().flat_map(|part| &part.lists).flatten().flatten().map(Chunk::bytes).sum::<usize>() + index.sum::<usize>()
    }

    /// Whether a snapshot can be written of it.
    pub fn is_writable(&self) -> bool {
        !self.tables.values().any(Table::is_shedding)
    }

    /// Goes on with giving back, `rows` rows or chunks further at most, within the limit of memory or, `beyond` it, with
    /// what one step takes.
    pub fn shed(&mut self, rows: u32, beyond: bool) -> Shed {
        assert!(!self.is_mid_frame(), "room that was promised to an open frame stays as it is");
        let (mut left, mut words) = (rows, WORDS_PER_STEP);
        while left > 0 && words > 0 && self.leaving.drop_next() {
            (left, words) = (left - 1, words.saturating_sub(CHUNK_WORK));
        }
        for table in self.tables.values_mut().filter(|table| table.is_shedding()) {
            while left > 0 && words > 0 {
                match table.shed(beyond) {
                    Passed::Row(work) => (left, words) = (left - 1, words.saturating_sub(work)),
                    Passed::NoRoom => return Shed::NoRoom,
                    Passed::Over => break,
                }
            }
        }
        self.shedding = self.look_for_shedding();
        if self.shedding { Shed::More } else { Shed::Over }
    }
}

impl Table {
    fn is_shedding(&self) -> bool {
        self.slabs.iter().any(super::slab::Slab::is_shedding)
    }

    /// Brings the next row of a slab over that features have left.
    fn shed(&mut self, beyond: bool) -> Passed {
        let within = (!beyond).then_some(&self.account);
        for slab in self.slabs.iter_mut().filter(|slab| slab.is_shedding()) {
            match slab.shed(within) {
                Passed::Over => {}
                passed => return passed,
            }
        }
        Passed::Over
    }
}
